//! [`SparseFile`]: a file of any length whose bytes are mostly alike, in little memory. For offsets beyond 32 bits.

use esker_vfs::{FileSync, Map, ReadableFile, WritableFile};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const PAGE_BYTES: usize = 64 << 10;

#[derive(Debug)]
enum Page {
    /// All of its bytes are this one.
    All(u8),
    Own(Box<[u8]>),
}

#[derive(Debug, Default)]
struct Bytes {
    pages: Vec<Page>,
    /// What is behind the last whole page.
    rest: Vec<u8>,
}

impl Bytes {
    fn len(&self) -> u64 {
        (self.pages.len() * PAGE_BYTES + self.rest.len()) as u64
    }

    fn push_whole(&mut self, page: &[u8]) {
        let is_even = page[1..] == page[..PAGE_BYTES - 1];
        self.pages.push(if is_even { Page::All(page[0]) } else { Page::Own(page.into()) });
    }
}

/// A file to append to and to read, by handles that are clones. It keeps pages of which all bytes are the same as one byte.
///
/// ```
/// use esker_testkit::sparse::SparseFile;
/// use esker_vfs::{ReadableFile, WritableFile};
///
/// let file = SparseFile::default();
/// let mut end = file.clone();
/// (0..80).for_each(|_| end.append(&[7; 1 << 20]).unwrap());
/// end.append(b"the end").unwrap();
/// let mut read = [0; 8];
/// file.read_exact_at(&mut read, (80 << 20) - 1)?;
/// assert_eq!(&read, b"\x07the end");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug, Default, Clone)]
pub struct SparseFile(Arc<Mutex<Bytes>>);

impl SparseFile {
    fn lock(&self) -> MutexGuard<'_, Bytes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WritableFile for SparseFile {
    fn append(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        let mut file = self.lock();
        while file.rest.len() + bytes.len() >= PAGE_BYTES {
            let (head, tail) = bytes.split_at(PAGE_BYTES - file.rest.len());
            let mut rest = std::mem::take(&mut file.rest);
            if rest.is_empty() {
                file.push_whole(head);
            } else {
                rest.extend_from_slice(head);
                file.push_whole(&rest);
            }
            bytes = tail;
        }
        file.rest.extend_from_slice(bytes);
        Ok(())
    }

    fn position(&self) -> u64 {
        self.lock().len()
    }

    fn preallocate(&mut self, _len_bytes: u64) -> io::Result<()> {
        Ok(())
    }

    fn trim(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(self.clone())
    }
}

impl FileSync for SparseFile {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

impl ReadableFile for SparseFile {
    fn len_bytes(&self) -> io::Result<u64> {
        Ok(self.lock().len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let file = self.lock();
        if offset.checked_add(buffer.len() as u64).is_none_or(|end| end > file.len()) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (mut number, mut start) = ((offset / PAGE_BYTES as u64) as usize, offset as usize % PAGE_BYTES);
        let mut left = buffer;
        while !left.is_empty() {
            let len = left.len().min(PAGE_BYTES - start);
            let (part, behind) = left.split_at_mut(len);
            match file.pages.get(number) {
                Some(Page::All(byte)) => part.fill(*byte),
                Some(Page::Own(page)) => part.copy_from_slice(&page[start..start + len]),
                None => part.copy_from_slice(&file.rest[start..start + len]),
            }
            (left, number, start) = (behind, number + 1, 0);
        }
        Ok(())
    }

    fn map(&self) -> io::Result<Map> {
        Err(io::ErrorKind::Unsupported.into())
    }
}
