//! Where a writer puts its bytes: the face between framing and file.
//!
//! | segment | a record | hand-over to the operating system | a file's second life |
//! |---|---|---|---|
//! | [`FileSegment`] | is gathered in a buffer | by `write(2)`, at a push or when the buffer is full | never |
//! | [`MappedSegment`] | is copied into place | the copy itself | as another log, over the bytes of the first |
//!
//! [`FileSegment`] works on every file system, and is the oracle of the other. The writer does not know the difference, but for when a
//! record counts as pushed.

use crate::error::is_no_space;
use crate::frame::{FILE_MAGIC_BYTES, RECORD_HEADER_BYTES, ShortPayload};
use esker_vfs::{FileSync, LogMap, LogRoom, WritableFile};
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

/// How many parts of a payload are stored in one call.
const PARTS_MAX: usize = 4;

/// The zeros that end a log in a file which holds other bytes behind it: as many as a record's header has.
const END_MARK_BYTES: usize = RECORD_HEADER_BYTES;
/// End mark, and the padding before it.
const ZEROS: [u8; END_MARK_BYTES + 7] = [0; END_MARK_BYTES + 7];

/// Whether a record may use the space that is kept for when the file system is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reserve {
    /// Leave [`RESERVE_BYTES`] for others.
    Keep,
    /// Use it: for what frees space.
    Use,
}

impl Reserve {
    fn kept_bytes(self) -> u64 {
        match self {
            Self::Keep => RESERVE_BYTES,
            Self::Use => 0,
        }
    }
}

/// How a log's bytes get to the operating system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Backend {
    /// By storing into mapped memory: an append makes no system call. Where the file system can't do that safely, as [`Backend::Write`].
    #[default]
    Mapped,
    /// By `write(2)`, through a buffer.
    Write,
}

/// The bytes of one log, appended in order.
#[derive(Debug)]
pub(crate) enum Segment {
    File(FileSegment),
    Mapped(MappedSegment),
}

impl Segment {
    /// Makes sure that `bytes` more can be put.
    ///
    /// # Errors
    /// When the file system is full, nothing has changed.
    #[inline]
    pub(crate) fn make_room(&mut self, bytes: u64, reserve: Reserve) -> io::Result<()> {
        match self {
            Self::File(segment) => segment.make_room(bytes, reserve),
            Self::Mapped(segment) => segment.make_room(bytes, reserve),
        }
    }

    /// Puts a file's header: the first bytes of all.
    pub(crate) fn put_header(&mut self, header: &[u8]) -> io::Result<()> {
        match self {
            Self::File(segment) => segment.put(header),
            Self::Mapped(segment) => {
                segment.put_file_header(header);
                Ok(())
            }
        }
    }

    /// Adds a record: its header, its payload in parts, and zeros. What is put may stay in this process until pushed.
    #[inline]
    pub(crate) fn put_record(&mut self, head: &[u8], parts: &[&[u8]], padding: usize) -> io::Result<()> {
        match self {
            Self::File(segment) => {
                segment.put(head)?;
                for part in parts {
                    segment.put(part)?;
                }
                segment.put(&ZEROS[..padding])
            }
            Self::Mapped(segment) => {
                segment.put(head, parts, padding);
                Ok(())
            }
        }
    }

    /// As [`Segment::put_record`].
    #[inline]
    pub(crate) fn put_short_record(&mut self, head: &[u8], payload: &ShortPayload, padding: usize) -> io::Result<()> {
        match self {
            Self::File(segment) => {
                segment.put(head)?;
                segment.put(payload.with_zeros(padding))
            }
            Self::Mapped(segment) => {
                segment.put_short(head, payload, padding);
                Ok(())
            }
        }
    }

    /// Whether what is put is with the operating system at once.
    #[inline]
    pub(crate) fn pushes_itself(&self) -> bool {
        matches!(self, Self::Mapped(_))
    }

    /// Hands everything put to the operating system.
    #[inline]
    pub(crate) fn push(&mut self) -> io::Result<()> {
        match self {
            Self::File(segment) => segment.push(),
            Self::Mapped(_) => Ok(()),
        }
    }

    /// Gives back what is allocated ahead. Everything put has been pushed.
    pub(crate) fn trim(&mut self) -> io::Result<()> {
        match self {
            Self::File(segment) => segment.trim(),
            Self::Mapped(segment) => segment.trim(),
        }
    }

    /// Gives back room that a pause in writing leaves unused; what is kept in reserve stays.
    pub(crate) fn give_back(&mut self) -> io::Result<()> {
        match self {
            // It is never far ahead.
            Self::File(_) => Ok(()),
            Self::Mapped(segment) => segment.give_back(),
        }
    }

    /// Puts on stable storage what was pushed; usable beside `put_record`.
    pub(crate) fn syncer(&self) -> Arc<dyn FileSync> {
        match self {
            Self::File(segment) => segment.file.syncer(),
            Self::Mapped(segment) => segment.log.syncer(),
        }
    }

    /// Whether others should look whether there is room to make.
    #[inline]
    pub(crate) fn asks_for_room(&mut self) -> bool {
        match self {
            Self::File(_) => false,
            Self::Mapped(segment) => segment.position > segment.ask_at && segment.ask(),
        }
    }

    /// What room can be made in by others, and how far it is used; none where only the writer makes any.
    pub(crate) fn room(&self) -> Option<(Arc<dyn LogRoom>, u64)> {
        match self {
            Self::File(_) => None,
            Self::Mapped(segment) => Some((segment.log.room(), segment.position)),
        }
    }
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

    fn make_room(&mut self, bytes: u64, reserve: Reserve) -> io::Result<()> {
        let needed = self.file.position() + self.buffer.len() as u64 + bytes + reserve.kept_bytes();
        if needed <= self.allocated {
            return Ok(());
        }
        self.allocated = in_extents(needed, self.allocated, |len| self.file.preallocate(len))?;
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
}

/// A segment that is written by storing into a mapped file, which may hold the bytes of an earlier log.
///
/// Invariant: behind `position` stand zeros enough to end the log, as far as the file goes.
#[derive(Debug)]
pub(crate) struct MappedSegment {
    log: Box<dyn LogMap>,
    position: u64,
    /// The file's length when last asked; it may have been grown since.
    allocated: u64,
    /// Up to where nothing is asked for.
    ask_at: u64,
}

impl MappedSegment {
    /// Writes to `log` from its beginning.
    pub(crate) fn new(log: Box<dyn LogMap>) -> Self {
        let allocated = log.len_bytes();
        Self { log, position: 0, allocated, ask_at: 0 }
    }

    #[inline]
    fn make_room(&mut self, bytes: u64, reserve: Reserve) -> io::Result<()> {
        let needed = self.position + bytes + END_MARK_BYTES as u64 + reserve.kept_bytes();
        if needed <= self.allocated { Ok(()) } else { self.grow(needed) }
    }

    #[cold]
    fn grow(&mut self, needed: u64) -> io::Result<()> {
        self.allocated = self.log.len_bytes();
        if needed > self.allocated {
            self.allocated = in_extents(needed, self.allocated, |len| self.log.grow(len))?;
        }
        Ok(())
    }

    #[cold]
    fn ask(&mut self) -> bool {
        self.allocated = self.log.len_bytes();
        let half = (self.allocated / 2).saturating_sub(RESERVE_BYTES);
        let asks = self.position > half;
        // Asked in vain, it is asked again before long.
        self.ask_at = if asks { self.position + RESERVE_BYTES } else { half };
        asks
    }

    /// The magic goes first and comes last: until then this is a log that was not begun, whatever the file held.
    fn put_file_header(&mut self, header: &[u8]) {
        let (magic, rest) = header.split_at(FILE_MAGIC_BYTES);
        self.log.store(0, &[&ZEROS[..FILE_MAGIC_BYTES]]);
        self.log.store(FILE_MAGIC_BYTES as u64, &[rest, &ZEROS[..END_MARK_BYTES]]);
        self.log.store(0, &[magic]);
        self.position = header.len() as u64;
    }

    /// The log's end mark moves first, and the head comes last, in the place of the old one: until then the log ends where it did.
    #[inline]
    fn put(&mut self, head: &[u8], parts: &[&[u8]], padding: usize) {
        let mut at = self.position + head.len() as u64;
        let zeros = &ZEROS[..padding + END_MARK_BYTES];
        let mut few: [&[u8]; PARTS_MAX + 1] = [&[]; PARTS_MAX + 1];
        if parts.len() <= PARTS_MAX {
            few[..parts.len()].copy_from_slice(parts);
            few[parts.len()] = zeros;
            self.log.store(at, &few[..=parts.len()]);
            at += parts.iter().map(|part| part.len() as u64).sum::<u64>();
        } else {
            let payload_bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
            self.log.store(at + payload_bytes, &[zeros]);
            self.log.store(at, parts);
            at += payload_bytes;
        }
        self.log.store(self.position, &[head]);
        self.position = at + padding as u64;
    }

    /// As [`Self::put`].
    #[inline]
    fn put_short(&mut self, head: &[u8], payload: &ShortPayload, padding: usize) {
        let body = payload.with_zeros(padding + END_MARK_BYTES);
        let at = self.position + head.len() as u64;
        self.log.store(at, &[body]);
        self.log.store(self.position, &[head]);
        self.position = at + (body.len() - END_MARK_BYTES) as u64;
    }

    fn trim(&mut self) -> io::Result<()> {
        self.log.trim(self.position)?;
        self.allocated = self.position;
        Ok(())
    }

    fn give_back(&mut self) -> io::Result<()> {
        let kept = (self.position + END_MARK_BYTES as u64 + RESERVE_BYTES).next_multiple_of(PAGE_BYTES) + PAGE_BYTES;
        if kept < self.log.len_bytes() {
            self.log.trim(kept)?;
            self.allocated = kept;
            // Who writes on asks for room before long.
            self.ask_at = 0;
        }
        Ok(())
    }
}

/// Grows a file of `len` bytes to hold `needed`, by an extent if there is space for that. Returns the length it then has.
fn in_extents(needed: u64, len: u64, mut grow: impl FnMut(u64) -> io::Result<()>) -> io::Result<u64> {
    let extent = len.clamp(EXTENT_BYTES_MIN, EXTENT_BYTES_MAX);
    let needed = needed.next_multiple_of(PAGE_BYTES);
    let wanted = needed.max(len + extent);
    match grow(wanted) {
        Err(error) if is_no_space(&error) && needed < wanted => grow(needed).map(|()| needed),
        other => other.map(|()| wanted),
    }
}
