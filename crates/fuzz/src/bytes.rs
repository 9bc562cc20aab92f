//! [`Bytes`]: a file of given bytes, which it hands out without copying them.

use esker_vfs::{Map, ReadableFile};
use std::io;
use std::sync::Arc;

#[derive(Debug)]
pub(crate) struct Bytes(Map);

impl Bytes {
    pub(crate) fn new(bytes: Vec<u8>) -> Arc<Self> {
        Arc::new(Self(Map::from_bytes(bytes)))
    }
}

impl ReadableFile for Bytes {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.0.len() as u64)
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let there = self.0.get(offset as usize..).and_then(|rest| rest.get(..buffer.len()));
        buffer.copy_from_slice(there.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        Ok(self.0.clone())
    }
}
