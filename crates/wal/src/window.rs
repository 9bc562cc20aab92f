//! [`Window`]: a file seen through one buffer that moves along it.

use crate::error::WalError;
use esker_vfs::ReadableFile;
use std::io;
use std::sync::Arc;

/// How much is read at once.
const CHUNK_BYTES: u64 = 128 << 10;
/// How much the buffer grows at once, so that a file that only claims to be long is found out before much is allocated.
const GROWTH_BYTES_MAX: u64 = 4 << 20;

/// The bytes `start .. start + bytes.len()` of a file of `len` bytes.
#[derive(Debug)]
pub(crate) struct Window {
    file: Arc<dyn ReadableFile>,
    /// For errors.
    name: Arc<str>,
    len: u64,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    pub(crate) fn new(file: Arc<dyn ReadableFile>, name: &str) -> Result<Self, WalError> {
        let name = name.into();
        let len = file.len_bytes().map_err(|error| WalError::from_io(&name, "find the length", 0, error))?;
        Ok(Self { file, name, len, start: 0, bytes: Vec::new() })
    }

    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The file's length when it was opened.
    pub(crate) fn file_len(&self) -> u64 {
        self.len
    }

    /// The bytes from `offset` on: at least `need` of them, which must lie within the file, and more if they are at hand.
    pub(crate) fn at(&mut self, offset: u64, need: usize) -> Result<&[u8], WalError> {
        debug_assert!(offset + need as u64 <= self.len);
        let buffered = self.start..=self.start + self.bytes.len() as u64;
        if !buffered.contains(&offset) || !buffered.contains(&(offset + need as u64)) {
            self.fill(offset, need as u64).map_err(|error| WalError::from_io(&self.name, "read", offset, error))?;
        }
        Ok(&self.bytes[(offset - self.start) as usize..])
    }

    /// Exactly `len` bytes from `offset` on, which must lie within the file.
    pub(crate) fn exactly(&mut self, offset: u64, len: usize) -> Result<&[u8], WalError> {
        Ok(&self.at(offset, len)?[..len])
    }

    fn fill(&mut self, offset: u64, need: u64) -> io::Result<()> {
        let kept = offset.checked_sub(self.start).filter(|skipped| *skipped <= self.bytes.len() as u64);
        match kept {
            Some(skipped) => drop(self.bytes.drain(..skipped as usize)),
            None => self.bytes.clear(),
        }
        self.start = offset;
        let wanted = need.max(CHUNK_BYTES).min(self.len - offset);
        while (self.bytes.len() as u64) < wanted {
            let have = self.bytes.len();
            let more = (wanted - have as u64).min(GROWTH_BYTES_MAX);
            self.bytes.resize(have + more as usize, 0);
            if let Err(error) = self.read_at(offset + have as u64, have) {
                self.bytes.truncate(have);
                return Err(error);
            }
        }
        Ok(())
    }

    /// Fills the buffer from `have` on with what stands at `offset`. A log whose writer gives back room while it is read has zeros there, as it had before.
    fn read_at(&mut self, offset: u64, have: usize) -> io::Result<()> {
        let bytes = &mut self.bytes[have..];
        let Err(error) = self.file.read_exact_at(bytes, offset) else { return Ok(()) };
        let len_now = self.file.len_bytes()?;
        if error.kind() != io::ErrorKind::UnexpectedEof || len_now >= self.len {
            return Err(error);
        }
        let there = (len_now.saturating_sub(offset) as usize).min(bytes.len());
        bytes[there..].fill(0);
        self.file.read_exact_at(&mut bytes[..there], offset)
    }
}
