//! Where a writer puts its bytes: the face between framing and file.
//!
//! [`FileSegment`] hands them to the operating system by appending. A segment in mapped memory would make `put` a copy into place and `push`
//! nothing; the writer does not know the difference.

use crate::error::is_no_space;
use esker_vfs::{FileSync, WritableFile};
use std::fmt::Debug;
use std::io;
use std::sync::Arc;

/// What [`Reserve::Keep`] leaves allocated for those who may use it, in bytes.
pub const RESERVE_BYTES: u64 = 256 << 10;

/// How much is allocated ahead at first; then as much as the file is long, up to the maximum.
const EXTENT_BYTES_MIN: u64 = 1 << 20;
const EXTENT_BYTES_MAX: u64 = 4 << 20;
/// Allocations are multiples of this.
const PAGE_BYTES: u64 = 4 << 10;

/// How much is gathered before it is handed to the operating system unasked.
const BUFFER_BYTES: usize = 64 << 10;

/// Whether a record may use the space that is kept for when the file system is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Leave [`RESERVE_BYTES`] for others.
    Keep,
    /// Use it: for what frees space.
    Use,
}

/// The bytes of one log, appended in order.
pub(crate) trait Segment: Debug + Send + Sync {
    /// Makes sure that `bytes` more can be put.
    ///
    /// # Errors
    /// When the file system is full, nothing has changed.
    fn make_room(&mut self, bytes: u64, reserve: Reserve) -> io::Result<()>;

    /// Adds bytes, which may stay in this process until pushed.
    fn put(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Hands everything put to the operating system.
    fn push(&mut self) -> io::Result<()>;

    /// Gives back what is allocated ahead. Everything put has been pushed.
    fn trim(&mut self) -> io::Result<()>;

    /// Puts on stable storage what was pushed; usable beside `put`.
    fn syncer(&self) -> Arc<dyn FileSync>;
}

/// A segment that is written by appending to a file.
#[derive(Debug)]
pub(crate) struct FileSegment {
    file: Box<dyn WritableFile>,
    buffer: Vec<u8>,
    allocated: u64,
}

impl FileSegment {
    /// Writes to `file`, which is new.
    pub(crate) fn new(file: Box<dyn WritableFile>) -> Self {
        Self { file, buffer: Vec::new(), allocated: 0 }
    }
}

impl Segment for FileSegment {
    fn make_room(&mut self, bytes: u64, reserve: Reserve) -> io::Result<()> {
        let kept = match reserve {
            Reserve::Keep => RESERVE_BYTES,
            Reserve::Use => 0,
        };
        let needed = self.file.position() + self.buffer.len() as u64 + bytes + kept;
        if needed <= self.allocated {
            return Ok(());
        }
        let extent = self.allocated.clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX);
        let needed = needed.next_multiple_of(PAGE_BYTES);
        let wanted = needed.max(self.allocated + extent);
        let allocated = match self.file.preallocate(wanted) {
            Err(error) if is_no_space(&error) && needed < wanted => self.file.preallocate(needed).map(|()| needed),
            other => other.map(|()| wanted),
        };
        self.allocated = allocated?;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.buffer.len() + bytes.len() > BUFFER_BYTES {
            self.push()?;
            if bytes.len() >= BUFFER_BYTES {
                return self.file.append(bytes);
            }
        }
        if self.buffer.capacity() == 0 {
            self.buffer.reserve_exact(BUFFER_BYTES);
        }
        self.buffer.extend_from_slice(bytes);
        Ok(())
    }

    fn push(&mut self) -> io::Result<()> {
        if !self.buffer.is_empty() {
            self.file.append(&self.buffer)?;
            self.buffer.clear();
        }
        Ok(())
    }

    fn trim(&mut self) -> io::Result<()> {
        self.file.trim()?;
        self.allocated = self.file.position();
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        self.file.syncer()
    }
}
