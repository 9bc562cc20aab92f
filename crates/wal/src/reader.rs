//! Reading a log: the whole records, then where and why they end. The reader reports and never decides.
//!
//! ```text
//! | header | record | record | record |  torn  |?| header passes, payload torn | zeros ...
//!                                     ^ position    ^ vouches for what lay below its `durable`
//! ```
//! Behind the last whole record the reader looks on, at each multiple of 8, for record headers that pass: time linear in the file's length,
//! memory one buffer. In a recycled file the log ends in zeros too, and behind them lies what the file held before, which never passes. A header that says more was durable than was read tells damage from a torn tail; see [`LogEnd`].

use crate::error::WalError;
use crate::frame::{self, FILE_HEADER_BYTES, LogHeader, Lsn, RECORD_HEADER_BYTES, RecordHead, RecordKind};
use crate::window::Window;
use esker_vfs::ReadableFile;
use std::fmt;
use std::sync::Arc;

/// A kind is one byte, and three zeros behind it; which of them are known does not matter to who vouches.
const KIND_MAX: u32 = 255;

/// Reads one log file, once, from front to back.
///
/// Whatever the file holds, reading ends, does not panic, and allocates no more than the file is long (and a constant).
#[derive(Debug)]
pub struct Reader {
    window: Window,
    header: LogHeader,
    /// Where the next record starts.
    offset: u64,
    vouched: Lsn,
    end: Option<LogEnd>,
}

/// A whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record<'a> {
    /// What it is for; [`RecordKind::Marker`]s are to be skipped.
    pub kind: RecordKind,
    /// Where it starts.
    pub position: Lsn,
    /// Where the next one starts.
    pub end: Lsn,
    /// How far the line was durable when it was appended.
    pub durable: Lsn,
    /// What was appended.
    pub payload: &'a [u8],
}

/// Where and why reading ended.
///
/// If `vouched > position`, bytes that were once on stable storage are gone: the log is damaged. Else this file says nothing against its
/// ending here, but a later one of the series may: see [`vouched`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogEnd {
    /// The end of the last whole record.
    pub position: Lsn,
    /// Why there is none behind it.
    pub cause: EndCause,
    /// The largest durable position that a header in this file claims, be it read or found behind the break.
    pub vouched: Lsn,
    /// Whether something of this log lies behind `position`: a record that is not whole, or a header that passes. Other bytes are of the file's
    /// former life, or none that was ever promised.
    pub leftover: bool,
    /// How many headers of records pass behind the bytes that are not whole. A crash leaves such, where the file system wrote them before what comes first; so may damage to what was never synced.
    pub behind: u64,
}

impl fmt::Display for LogEnd {
    /// Why it ends, and what lies behind.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.cause.fmt(f)?;
        match self.behind {
            0 => Ok(()),
            1 => f.write_str("; behind it lies a record of this log"),
            behind => write!(f, "; behind it lie {behind} records of this log"),
        }
    }
}

/// Why there is no further whole record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndCause {
    /// The file ends here.
    EndOfFile,
    /// Zeros: allocated, never written.
    Zeros,
    /// A checksum does not pass.
    Torn {
        /// The checksum stored.
        expected: u32,
        /// That of the bytes found.
        found: u32,
        /// Where in the file the checksummed header or payload starts.
        offset: u64,
    },
    /// The file ends within a header or record.
    ShortRecord {
        /// Where in the file it starts.
        offset: u64,
        /// How many bytes it needs.
        need: u64,
        /// How many the file has.
        have: u64,
    },
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EndOfFile => write!(f, "end of file"),
            Self::Zeros => write!(f, "zeros"),
            Self::Torn { expected, found, offset } => {
                write!(f, "at {offset}: checksum {found:#010x}, expected {expected:#010x}")
            }
            Self::ShortRecord { offset, need, have } => {
                write!(f, "at {offset}: {need} bytes needed, the file has {have}")
            }
        }
    }
}

/// Why the record at hand is not whole, and from where on to look for further headers.
struct Break {
    cause: EndCause,
    look_from: u64,
}

/// What lies behind a break.
struct Tail {
    vouched: Lsn,
    /// How many headers pass.
    heads: u64,
}

impl Reader {
    /// Reads the file's header. `name` is for errors.
    ///
    /// # Errors
    /// [`WalError::NoHeader`] if the header is not whole; [`WalError::Unsupported`] if it is of a version not known here;
    /// [`WalError::Invalid`] if this is no log; [`WalError::Io`].
    pub fn open(file: Arc<dyn ReadableFile>, name: &str) -> Result<Self, WalError> {
        let mut window = Window::new(file, name)?;
        let bytes = read_header(&mut window)?.map_err(|cause| WalError::NoHeader { name: name.into(), cause })?;
        let header = LogHeader::decode(&bytes, window.name())?;
        Ok(Self { window, header, offset: FILE_HEADER_BYTES as u64, vouched: header.durable, end: None })
    }

    /// What the file says about itself.
    pub fn header(&self) -> &LogHeader {
        &self.header
    }

    /// The next whole record; `None` when there are no more, and then [`Reader::end`] says why.
    ///
    /// # Errors
    /// [`WalError::Io`]: another call tries again. [`WalError::Unsupported`] for a kind of record not known here, and
    /// [`WalError::Invalid`] for one no writer makes: another call fails in the same way.
    #[expect(clippy::should_implement_trait, reason = "a record borrows the reader's buffer")]
    pub fn next(&mut self) -> Result<Option<Record<'_>>, WalError> {
        if self.end.is_some() {
            return Ok(None);
        }
        let offset = self.offset;
        match self.whole_record()? {
            Ok((kind, head)) => {
                let payload = self.window.exactly(offset + RECORD_HEADER_BYTES as u64, head.len as usize)?;
                self.offset += head.record_bytes();
                let start = self.header.start;
                let (position, end) = (start + offset, start + self.offset);
                Ok(Some(Record { kind, position, end, durable: head.durable, payload }))
            }
            Err(Break { cause, look_from }) => {
                let tail = self.scan(look_from)?;
                let vouched = self.vouched.max(tail.vouched);
                let leftover = tail.heads > 0 || matches!(cause, EndCause::Torn { .. } | EndCause::ShortRecord { .. });
                let position = self.header.start + offset;
                self.end = Some(LogEnd { position, cause, vouched, leftover, behind: tail.heads });
                Ok(None)
            }
        }
    }

    /// Goes on at `position`, where a record of this log was found to end before: for who comes back to a log that is still being written. What lies between is not looked at, and not counted
    /// in what is vouched for.
    ///
    /// ```
    /// # use esker_format::{FileId, FileNo};
    /// # use esker_vfs::{MemVfs, Vfs};
    /// # use esker_wal::{GroupSync, LogHeader, Lsn, Reader, RecordKind, Reserve, Writer};
    /// # let (vfs, path) = (MemVfs::new(), std::path::Path::new("000001.wal"));
    /// # let header = LogHeader { file_id: FileId(7), number: FileNo(1), start: Lsn::ZERO, durable: Lsn::ZERO };
    /// # let mut log = Writer::create(&*vfs, path, header, &GroupSync::new(Lsn::ZERO))?;
    /// let seen = log.append(RecordKind::Data, &[b"first"], Reserve::Keep)?;
    /// log.append(RecordKind::Data, &[b"second"], Reserve::Keep)?;
    /// log.push()?;
    /// let mut reader = Reader::open(vfs.open_read(path)?, "000001.wal")?;
    /// reader.skip_to(seen)?;
    /// assert_eq!(reader.next()?.unwrap().payload, b"second");
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// [`WalError::Invalid`] if it does not lie in the file.
    pub fn skip_to(&mut self, position: Lsn) -> Result<(), WalError> {
        let offset = position.0.checked_sub(self.header.start.0);
        match offset.filter(|offset| (FILE_HEADER_BYTES as u64..=self.window.file_len()).contains(offset)) {
            Some(offset) => {
                self.offset = offset;
                self.end = None;
                Ok(())
            }
            None => {
                let (name, found) = (self.window.name().clone(), position.0);
                Err(WalError::Invalid { name, what: "position to go on at", offset: 0, found })
            }
        }
    }

    /// Goes on behind a break, at the first whole record there, and says where that is; `None` if there is none. For whoever makes do with what is left of a damaged log: what lies
    /// between is lost. Called when [`Reader::next`] has returned `None`.
    ///
    /// # Errors
    /// [`WalError::Io`].
    pub fn skip_break(&mut self) -> Result<Option<Lsn>, WalError> {
        let Some(end) = self.end else { return Ok(None) };
        let file_len = self.window.file_len();
        let mut offset = end.position.0 - self.header.start.0 + 8;
        while file_len.saturating_sub(offset) >= RECORD_HEADER_BYTES as u64 {
            let bytes = self.window.at(offset, RECORD_HEADER_BYTES)?;
            let at = match plausible_head(bytes, &self.header, offset) {
                Ok(at) => at,
                Err(searched) => {
                    offset += searched as u64;
                    continue;
                }
            };
            let passes = vouching_head(first_chunk(&bytes[at..]), &self.header, offset + at as u64).is_some();
            offset += at as u64;
            self.offset = offset;
            if passes && matches!(self.whole_record(), Ok(Ok(_)) | Err(WalError::Io { .. })) {
                // An error of the file is told by the next call of `next`.
                self.end = None;
                return Ok(Some(self.header.start + offset));
            }
            offset += 8;
        }
        self.offset = file_len;
        Ok(None)
    }

    /// Where and why reading ended, once [`Reader::next`] has returned `None`.
    pub fn end(&self) -> Option<&LogEnd> {
        self.end.as_ref()
    }

    /// Checks the record at `self.offset`, payload included.
    fn whole_record(&mut self) -> Result<Result<(RecordKind, RecordHead), Break>, WalError> {
        let offset = self.offset;
        let file_len = self.window.file_len();
        let have = file_len - offset;
        if have < RECORD_HEADER_BYTES as u64 {
            let rest = self.window.exactly(offset, have as usize)?;
            let cause = match rest {
                [] => EndCause::EndOfFile,
                rest if is_zero(rest) => EndCause::Zeros,
                _ => EndCause::ShortRecord { offset, need: RECORD_HEADER_BYTES as u64, have },
            };
            return Ok(Err(Break { cause, look_from: file_len }));
        }
        let bytes = first_chunk(self.window.at(offset, RECORD_HEADER_BYTES)?);
        if is_zero(bytes) {
            return Ok(Err(Break { cause: EndCause::Zeros, look_from: offset + 8 }));
        }
        let position = self.header.start + offset;
        let (expected, found) = RecordHead::crcs(bytes, self.header.file_id, position);
        if expected != found {
            let cause = EndCause::Torn { expected, found, offset };
            return Ok(Err(Break { cause, look_from: offset + 8 }));
        }
        let head = RecordHead::decode(bytes);
        let kind = match head.kind() {
            Ok(kind) => kind,
            Err(found) => {
                let (name, found) = (self.window.name().clone(), u64::from(found));
                return Err(WalError::Unsupported { name, what: "record kind", offset, found });
            }
        };
        if head.durable > position {
            let name = self.window.name().clone();
            return Err(WalError::Invalid { name, what: "durable position", offset, found: head.durable.0 });
        }
        self.vouched = self.vouched.max(head.durable);
        let need = head.record_bytes();
        if need > have {
            let cause = EndCause::ShortRecord { offset, need, have };
            return Ok(Err(Break { cause, look_from: file_len }));
        }
        let payload_offset = offset + RECORD_HEADER_BYTES as u64;
        let payload = self.window.exactly(payload_offset, head.len as usize)?;
        let found = frame::payload_crc(self.header.file_id, position, kind, head.len, &[payload]);
        if found != head.payload_crc {
            let cause = EndCause::Torn { expected: head.payload_crc, found, offset: payload_offset };
            return Ok(Err(Break { cause, look_from: offset + need }));
        }
        Ok(Ok((kind, head)))
    }

    /// Looks for record headers that pass, at `from` and each multiple of 8 behind it.
    fn scan(&mut self, from: u64) -> Result<Tail, WalError> {
        let file_len = self.window.file_len();
        let mut tail = Tail { vouched: self.header.durable, heads: 0 };
        let mut offset = from;
        while file_len.saturating_sub(offset) >= RECORD_HEADER_BYTES as u64 {
            let bytes = self.window.at(offset, RECORD_HEADER_BYTES)?;
            match plausible_head(bytes, &self.header, offset) {
                Ok(at) => {
                    offset += at as u64;
                    offset += match vouching_head(first_chunk(&bytes[at..]), &self.header, offset) {
                        Some(head) => {
                            tail.vouched = tail.vouched.max(head.durable);
                            tail.heads += 1;
                            head.record_bytes()
                        }
                        None => 8,
                    };
                }
                Err(searched) => offset += searched as u64,
            }
        }
        Ok(tail)
    }
}

/// The largest durable position that any valid header in the file claims, whole records or not: for looking at a log after a break in an
/// earlier one.
///
/// # Errors
/// As [`Reader::open`].
pub fn vouched(file: Arc<dyn ReadableFile>, name: &str) -> Result<Lsn, WalError> {
    Reader::open(file, name)?.scan(FILE_HEADER_BYTES as u64).map(|tail| tail.vouched)
}

/// The header's bytes, if its checksum passes.
fn read_header(window: &mut Window) -> Result<Result<[u8; FILE_HEADER_BYTES], EndCause>, WalError> {
    let have = window.file_len().min(FILE_HEADER_BYTES as u64);
    let bytes = window.exactly(0, have as usize)?;
    if have == 0 {
        return Ok(Err(EndCause::EndOfFile));
    }
    if is_zero(bytes) {
        return Ok(Err(EndCause::Zeros));
    }
    if have < FILE_HEADER_BYTES as u64 {
        return Ok(Err(EndCause::ShortRecord { offset: 0, need: FILE_HEADER_BYTES as u64, have }));
    }
    let bytes = first_chunk(bytes);
    if frame::is_not_begun(bytes) {
        return Ok(Err(EndCause::Zeros));
    }
    let (expected, found) = frame::file_crcs(bytes);
    if expected != found {
        return Ok(Err(EndCause::Torn { expected, found, offset: 0 }));
    }
    Ok(Ok(*bytes))
}

/// Where in `bytes`, which stand at `offset`, the first record header may begin; if nowhere, how many bytes need not be looked at again.
///
/// The cheap test before the checksum, made for each multiple of 8: what is no header has a number there that is no kind, or one that is no
/// durable position of this file. A recycled file is full of what once were headers; their checksums alone tell.
fn plausible_head(bytes: &[u8], header: &LogHeader, offset: u64) -> Result<usize, usize> {
    let (words, _) = bytes.as_chunks::<8>();
    let first = header.start.0 + offset;
    for (n, head) in words.windows(RECORD_HEADER_BYTES / 8).enumerate() {
        let kind = u64::from_le_bytes(head[2]) as u32;
        if kind.wrapping_sub(1) < KIND_MAX {
            let durable = u64::from_le_bytes(head[1]);
            if durable >= header.durable.0 && durable <= first + 8 * n as u64 {
                return Ok(8 * n);
            }
        }
    }
    Err(8 * (words.len() - RECORD_HEADER_BYTES / 8 + 1))
}

/// The record header at `offset`, of whatever kind, if it passes.
fn vouching_head(bytes: &[u8; RECORD_HEADER_BYTES], header: &LogHeader, offset: u64) -> Option<RecordHead> {
    let (expected, found) = RecordHead::crcs(bytes, header.file_id, header.start + offset);
    (expected == found).then(|| RecordHead::decode(bytes))
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// The front of `bytes`, which must be long enough.
fn first_chunk<const N: usize>(bytes: &[u8]) -> &[u8; N] {
    bytes.first_chunk().expect("the caller asked for this many bytes")
}
