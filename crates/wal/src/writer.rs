//! Writing a log: frames records and hands them to a segment.

use crate::ahead::Ahead;
use crate::error::{WalError, is_no_space};
use crate::frame::{self, FILE_HEADER_BYTES, LogHeader, Lsn, RecordHead, RecordKind, ShortPayload};
use crate::group::{GroupSync, Log};
use crate::segment::{Backend, FileSegment, MappedSegment, RESERVE_BYTES, Reserve, Segment};
use esker_format::FileNo;
use esker_vfs::Vfs;
use std::io::{self, ErrorKind};
use std::path::Path;
use std::sync::Arc;

/// How long a mapped log is at first: room for the headers and for what is kept in reserve.
const MAPPED_BYTES_MIN: u64 = RESERVE_BYTES + (16 << 10);

/// A log file that exists, with its first extent, but does not yet have a place in a series: made ahead, so that a change of logs need
/// not wait for the file system.
#[derive(Debug)]
pub struct Prepared {
    segment: Segment,
    name: Arc<str>,
}

impl Prepared {
    /// Makes the file, allocates its first extent, and syncs the directory.
    ///
    /// # Errors
    /// [`WalError::Io`]; a file that was made is removed again if that can be.
    pub fn create(vfs: &dyn Vfs, path: &Path, backend: Backend) -> Result<Self, WalError> {
        let name = file_name(path);
        let failed = |operation, error| WalError::from_io(&name, operation, 0, error);
        let mapped = match backend {
            Backend::Mapped => match vfs.create_log(path, MAPPED_BYTES_MIN) {
                Err(error) if error.kind() == ErrorKind::Unsupported => None,
                log => Some(log.map_err(|error| failed("create", error))?),
            },
            Backend::Write => None,
        };
        let mut segment = match mapped {
            Some(log) => Segment::Mapped(MappedSegment::new(log)),
            None => Segment::File(FileSegment::new(vfs.create_new(path).map_err(|error| failed("create", error))?)),
        };
        let made = segment
            .make_room(FILE_HEADER_BYTES as u64, Reserve::Keep)
            .map_err(|error| failed("allocate", error))
            .and_then(|()| vfs.sync_dir(directory(path)).map_err(|error| failed("sync the directory", error)));
        if let Err(error) = made {
            drop(segment);
            // What is left if this fails is a log without a header.
            let _ = vfs.remove_file(path);
            return Err(error);
        }
        Ok(Self { segment, name })
    }

    /// Gives the file of a mapped log that nobody needs any more, `from`, a second life as `path`, and syncs the directory. What it holds is
    /// written over as the new log grows; its space is neither given back nor asked for again.
    ///
    /// # Errors
    /// [`WalError::Io`]; the file may then have either name.
    pub fn reuse(vfs: &dyn Vfs, from: &Path, path: &Path) -> Result<Self, WalError> {
        let name = file_name(path);
        let failed = |operation, error| WalError::from_io(&name, operation, 0, error);
        vfs.rename(from, path).map_err(|error| failed("rename", error))?;
        vfs.sync_dir(directory(path)).map_err(|error| failed("sync the directory", error))?;
        let log = vfs.open_log(path).map_err(|error| failed("open", error))?;
        let mut segment = Segment::Mapped(MappedSegment::new(log));
        segment.make_room(FILE_HEADER_BYTES as u64, Reserve::Keep).map_err(|error| failed("allocate", error))?;
        Ok(Self { segment, name })
    }

    /// Whether it is written through mapped memory.
    pub fn is_mapped(&self) -> bool {
        self.segment.pushes_itself()
    }

    /// Room to make up to `len_bytes` before the log begins; none if its backend makes its own.
    pub fn ahead(&self, len_bytes: u64) -> Option<Ahead> {
        let (room, _) = self.segment.room()?;
        let to = len_bytes.max(room.len_bytes());
        Some(Ahead::new(room, 0, to))
    }

    /// Puts on stable storage what was written ahead, so that the first sync of the log need not.
    ///
    /// # Errors
    /// [`WalError::Io`]; the file must not be used then.
    pub fn sync(&self) -> Result<(), WalError> {
        self.segment.syncer().sync().map_err(|error| WalError::from_io(&self.name, "sync", 0, error))
    }

    /// Puts the log at the end of the group's series. The header stays in this process until the first push.
    ///
    /// # Errors
    /// [`WalError::OutOfLine`] if the log before it is not sealed or ends behind `header.start`; [`WalError::Invalid`] if `header.start` is
    /// beyond [`Lsn::START_MAX`] or below `header.durable`.
    pub fn begin(mut self, header: LogHeader, group: &Arc<GroupSync>) -> Result<Writer, WalError> {
        self.put_header(&header)?;
        self.join(header, group)
    }

    fn put_header(&mut self, header: &LogHeader) -> Result<(), WalError> {
        header.check(&self.name)?;
        self.segment.put_header(&header.encode()).map_err(|error| WalError::from_io(&self.name, "write", 0, error))
    }

    fn push(&mut self) -> Result<(), WalError> {
        self.segment.push().map_err(|error| WalError::from_io(&self.name, "write", 0, error))
    }

    fn join(self, header: LogHeader, group: &Arc<GroupSync>) -> Result<Writer, WalError> {
        let Self { segment, name } = self;
        let log = group.add(&name, header.start, segment.syncer())?;
        let end = header.start + FILE_HEADER_BYTES as u64;
        Ok(Writer { segment, name, header, group: group.clone(), log, end, failed: None, short: ShortPayload::new() })
    }
}

fn file_name(path: &Path) -> Arc<str> {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into()
}

fn directory(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Appends records to one log file.
///
/// One thread appends; any may sync through the [`GroupSync`] beside it. A writer that is dropped without [`Writer::seal`] loses what was
/// not pushed, and leaves its log the last one of the group's series.
///
/// # Durability
/// A record is in this process until [`Writer::push`] (or until the buffer overflows; with [`Backend::Mapped`] not even until [`Writer::append`]
/// returns), then with the operating system, where it survives the
/// death of the process, and on stable storage once [`GroupSync::durable`] has reached its end.
#[derive(Debug)]
pub struct Writer {
    segment: Segment,
    name: Arc<str>,
    header: LogHeader,
    group: Arc<GroupSync>,
    log: Arc<Log>,
    end: Lsn,
    failed: Option<WalError>,
    short: ShortPayload,
}

impl Writer {
    /// Makes the file, allocates its first extent, syncs the directory, and hands the header to the operating system. Written by
    /// [`Backend::Write`].
    ///
    /// # Errors
    /// Those of [`Prepared::create`] and [`Prepared::begin`]; a file that was made is removed again if that can be, and the group is as before.
    pub fn create(vfs: &dyn Vfs, path: &Path, header: LogHeader, group: &Arc<GroupSync>) -> Result<Self, WalError> {
        let mut prepared = Prepared::create(vfs, path, Backend::Write)?;
        let written = prepared.put_header(&header).and_then(|()| prepared.push());
        match written.and_then(|()| prepared.join(header, group)) {
            Ok(writer) => {
                writer.log.set_pushed(writer.end);
                Ok(writer)
            }
            Err(error) => {
                // What is left if this fails is a log without records.
                let _ = vfs.remove_file(path);
                Err(error)
            }
        }
    }

    /// The number in the file's name.
    pub fn number(&self) -> FileNo {
        self.header.number
    }

    /// The position of the file's first byte.
    pub fn start(&self) -> Lsn {
        self.header.start
    }

    /// The position behind the last record, which the next one gets.
    pub fn end(&self) -> Lsn {
        self.end
    }

    /// Length of the log so far: what was appended, without what is allocated ahead.
    pub fn bytes(&self) -> u64 {
        self.end.0 - self.header.start.0
    }

    /// The error after which nothing more can be appended or pushed, if there was one.
    pub fn failed(&self) -> Option<&WalError> {
        self.failed.as_ref()
    }

    /// Appends one record, whose payload is the concatenation of `parts`, and returns its end.
    ///
    /// # Errors
    /// If the file system is full, `is_no_space()`, nothing has changed, and another call may succeed. [`WalError::TooLong`] likewise changes
    /// nothing. After any other error some of the record may have been written, and all later calls return the same error.
    pub fn append(&mut self, kind: RecordKind, parts: &[&[u8]], reserve: Reserve) -> Result<Lsn, WalError> {
        self.check()?;
        let bytes: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let Ok(len) = u32::try_from(bytes) else {
            return Err(WalError::TooLong { name: self.name.clone(), bytes });
        };
        let record_bytes = frame::record_bytes(len);
        if let Err(error) = self.segment.make_room(record_bytes, reserve) {
            return if is_no_space(&error) { Err(self.error("allocate", error)) } else { self.fail("allocate", error) };
        }
        let (file_id, position) = (self.header.file_id, self.end);
        let is_short = self.short.lay(file_id, position, kind, len, parts);
        let crc = if is_short { self.short.crc() } else { frame::payload_crc(file_id, position, kind, len, parts) };
        let head = RecordHead::new(kind, len, crc, self.group.durable().min(position)).encode(file_id, position);
        let padding = record_bytes as usize - head.len() - len as usize;
        let put = if is_short {
            self.segment.put_short_record(&head, &self.short, padding)
        } else {
            self.segment.put_record(&head, parts, padding)
        };
        if let Err(error) = put {
            return self.fail("write", error);
        }
        self.end = position + record_bytes;
        if self.segment.pushes_itself() {
            self.log.set_pushed(self.end);
        }
        Ok(self.end)
    }

    /// Hands everything appended to the operating system: from now on it survives the death of this process.
    ///
    /// # Errors
    /// A write has failed, now or before. All later calls return the same error.
    pub fn push(&mut self) -> Result<(), WalError> {
        self.check()?;
        if let Err(error) = self.segment.push() {
            return self.fail("write", error);
        }
        self.log.set_pushed(self.end);
        Ok(())
    }

    /// Room that should be made before the writer needs it: when half of what there is has been used, as much again, up to `len_bytes_max` in
    /// all. None if there is enough, or the backend makes its own.
    pub fn ahead(&self, len_bytes_max: u64) -> Option<Ahead> {
        let (room, used) = self.segment.room()?;
        let len = room.len_bytes();
        let wanted = (2 * len).min(len_bytes_max);
        (used + RESERVE_BYTES > len / 2 && wanted > len).then(|| Ahead::new(room, len, wanted))
    }

    /// Whether this is a time to look at [`Writer::ahead`]: half of the room has been used since it was last said so. Costs next to nothing.
    #[inline]
    pub fn asks_for_room(&mut self) -> bool {
        self.segment.asks_for_room()
    }

    /// Pushes, and ends the log: the group may now pass its end, and still owes it a sync. Returns the end, where the next log starts.
    ///
    /// # Errors
    /// As [`Writer::push`]; the log then stays the last one of the group's series.
    pub fn seal(mut self) -> Result<Lsn, WalError> {
        self.push()?;
        self.group.seal(&self.log);
        Ok(self.end)
    }

    /// As [`Writer::seal`], and gives back what is allocated ahead: for a log that is not soon to be used again. Where that fails the file stays longer than it need be.
    ///
    /// # Errors
    /// As [`Writer::seal`].
    pub fn seal_trimmed(mut self) -> Result<Lsn, WalError> {
        self.push()?;
        let _ = self.segment.trim();
        self.seal()
    }

    /// Pushes, and gives back what is allocated ahead. For a log that is not appended to any more; one that is allocates anew.
    ///
    /// # Errors
    /// As [`Writer::push`].
    pub fn trim(&mut self) -> Result<(), WalError> {
        self.push()?;
        if let Err(error) = self.segment.trim() {
            return self.fail("trim", error);
        }
        Ok(())
    }

    /// Gives back room that was made ahead, but for the reserve: for a pause in writing. The log goes on as ever, and asks for room anew.
    ///
    /// # Errors
    /// The operating system's. The log is as good as before, with the room it had or less.
    pub fn give_back_room(&mut self) -> Result<(), WalError> {
        self.check()?;
        self.segment.give_back().map_err(|error| self.error("give back room of", error))
    }

    /// Pushes, and returns when everything appended is on stable storage.
    ///
    /// # Errors
    /// Those of [`Writer::push`] and [`GroupSync::sync_to`].
    pub fn sync(&mut self) -> Result<(), WalError> {
        self.push()?;
        self.group.sync_to(self.end)
    }

    fn check(&self) -> Result<(), WalError> {
        self.failed.clone().map_or(Ok(()), Err)
    }

    fn error(&self, operation: &'static str, error: io::Error) -> WalError {
        WalError::from_io(&self.name, operation, self.bytes(), error)
    }

    fn fail<T>(&mut self, operation: &'static str, error: io::Error) -> Result<T, WalError> {
        let error = self.error(operation, error);
        self.failed = Some(error.clone());
        Err(error)
    }
}
