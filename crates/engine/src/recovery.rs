//! Replaying the logs.
//!
//! Every log's header says at which position it starts, so the logs form one line, and a break in it shows wherever it is:
//!
//! ```text
//! 000007.wal |========|        000009.wal |=====~~~ torn |     000012.wal |=========|
//!                     ^ = start of 9            ^ break at b               set aside
//! ```
//! At a break every header behind it, in this log and in newer ones, is asked how far the line was durable when it was written. If any says "beyond b", or the
//! manifest does, what was promised is gone: [`crate::ErrorKind::Corruption`]. If none does, nothing behind b was ever promised: replay ends at b, whichever log that is
//! in, and what lies behind it is set aside and never replayed.
//!
//! One break is none: when the next log starts exactly where this one's whole records end, an earlier recovery began it there.

use crate::error::{Error, Result};
use crate::options::RecoveryMode;
use esker_format::batch::{self, BatchOp};
use esker_format::{FileKind, FileNo, KeyspaceId, SeqNo};
use esker_manifest::Version;
use esker_vfs::{ReadableFile, Vfs};
use esker_wal::{EndCause, FILE_HEADER_BYTES, LogHeader, Lsn, Reader, RecordKind, WalError};
use std::path::Path;

/// What the manifest says of the logs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Told {
    /// The first log that is still needed.
    pub(crate) oldest: FileNo,
    /// It begins here, or before.
    pub(crate) begun: Lsn,
    /// How far the line is known to have been on stable storage.
    pub(crate) durable: Lsn,
}

impl Told {
    pub(crate) fn new(version: &Version, begun: Lsn) -> Self {
        Self { oldest: version.oldest_log, begun, durable: version.log_durable }
    }
}

/// What came of replaying.
#[derive(Debug)]
pub(crate) struct Replayed {
    /// The last sequence number replayed; zero if there was none.
    pub(crate) last_seq: SeqNo,
    /// Where the line of positions may go on: behind everything seen.
    pub(crate) next_position: Lsn,
    /// How far the line is known to have been on stable storage.
    pub(crate) durable: Lsn,
    /// The logs replayed, oldest first.
    pub(crate) logs: Vec<ReplayedLog>,
    /// Where the line ends, if it does without a break: a log that begins right there continues it.
    pub(crate) unbroken_end: Option<Lsn>,
    /// Logs of which something was not replayed, and why. Those that hold nothing are not among them.
    pub(crate) set_aside: Vec<(FileNo, String)>,
}

/// A log that was replayed, up to its first record that is not whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ReplayedLog {
    pub(crate) number: FileNo,
    pub(crate) start: Lsn,
    /// Behind its last whole record.
    pub(crate) end: Lsn,
    /// The last sequence number in it, or in a log before it.
    pub(crate) last_seq: SeqNo,
}

/// How a log was left.
enum Left {
    /// All of it was replayed; the line goes on at this position.
    Whole(Lsn),
    /// The line breaks here.
    Broken { at: Lsn, leftover: bool, reason: String },
}

/// An operation as it was committed.
pub(crate) struct Numbered<'a> {
    pub(crate) op: BatchOp<'a>,
    pub(crate) seq: SeqNo,
    /// The last number of the batch that it came in.
    pub(crate) batch_end: SeqNo,
}

/// Replays `logs` (ascending) in order, giving each operation to `apply`.
pub(crate) fn replay(
    vfs: &dyn Vfs,
    dir: &Path,
    logs: &[FileNo],
    told: Told,
    mode: RecoveryMode,
    mut apply: impl FnMut(Numbered<'_>) -> Result<()>,
) -> Result<Replayed> {
    let Told { oldest, begun, durable } = told;
    let mut replayed = Replayed {
        last_seq: SeqNo::ZERO,
        next_position: durable,
        durable,
        logs: Vec::new(),
        unbroken_end: None,
        set_aside: Vec::new(),
    };
    let mut expected: Option<Lsn> = None;
    let mut broken: Option<(Lsn, FileNo, String)> = None;
    // It opens every log, so once is enough.
    let mut names_are_checked = false;
    let mut check_names = || match std::mem::replace(&mut names_are_checked, true) {
        true => Ok(()),
        false => refuse_misnamed(vfs, dir, oldest, mode),
    };
    let mut vouched = durable;

    for &number in logs {
        let name = FileKind::Wal(number).name();
        let path = dir.join(&name);
        let open = || vfs.open_read(&path).map_err(|error| Error::io("open", &path, error));
        if broken.is_some() {
            // Only its word on what was durable counts now. Without a header it has none to give, and nothing to set aside.
            match esker_wal::vouched(open()?, &name) {
                Ok(_) if is_not_begun(&Reader::open(open()?, &name)?, number, oldest) => check_names()?,
                Ok(claimed) => {
                    vouched = vouched.max(claimed);
                    replayed.set_aside.push((number, "it follows a break in an earlier log".into()));
                }
                Err(WalError::NoHeader { .. }) => {}
                Err(error) => return Err(error.into()),
            }
            continue;
        }
        let left = match Reader::open(open()?, &name) {
            Ok(reader) if is_not_begun(&reader, number, oldest) => {
                check_names()?;
                if number != oldest {
                    continue;
                }
                let reason = format!("log {name} holds a former log, number {}", reader.header().number);
                Left::Broken { at: begun, leftover: false, reason }
            }
            Ok(mut reader) => {
                let header = *reader.header();
                check_header(&header, number, &name)?;
                replayed.next_position = replayed.next_position.max(header.start).max(header.durable);
                vouched = vouched.max(header.durable);
                match expected {
                    Some(expected) if header.start != expected => Left::Broken {
                        at: expected,
                        leftover: true,
                        reason: format!("it starts at position {}, the log before it ends at {expected}", header.start),
                    },
                    None if number != oldest && oldest != FileNo(0) => {
                        let reason = missing_log(oldest);
                        // Its name was on stable storage before the manifest asked for it.
                        if mode == RecoveryMode::PointInTime {
                            return Err(Error::corruption(reason));
                        }
                        Left::Broken { at: durable, leftover: true, reason }
                    }
                    _ => {
                        let left = replay_log(&mut reader, &name, &mut replayed, &mut vouched, &mut apply)?;
                        let (Left::Whole(end) | Left::Broken { at: end, .. }) = &left;
                        let last_seq = replayed.last_seq;
                        replayed.logs.push(ReplayedLog { number, start: header.start, end: *end, last_seq });
                        joined_by_next(vfs, dir, logs, number, left)?
                    }
                }
            }
            // Behind a header that does not pass no record can be told from damage.
            Err(error @ WalError::NoHeader { cause: EndCause::Torn { .. }, .. })
                if mode == RecoveryMode::PointInTime && holds_more_than_a_header(&*open()?, &path)? =>
            {
                return Err(Error::corruption(format!(
                    "{error}. Restore the directory from a copy, or open with RecoveryMode::Salvage to go on without this log"
                )));
            }
            // Made ahead and never begun, or its header never reached the disk whole, and then nothing in it was promised. Whether the line goes on behind it
            // shows by where the next log starts.
            Err(WalError::NoHeader { .. }) if number != oldest => continue,
            Err(error @ WalError::NoHeader { .. }) => {
                Left::Broken { at: begun, leftover: false, reason: error.to_string() }
            }
            Err(error) => return Err(error.into()),
        };
        match left {
            Left::Whole(end) => expected = Some(end),
            Left::Broken { at, leftover, reason } => {
                if leftover {
                    replayed.set_aside.push((number, reason.clone()));
                }
                expected = Some(at);
                broken = Some((at, number, reason));
            }
        }
    }

    let end = expected.unwrap_or(durable);
    replayed.unbroken_end = expected.filter(|end| broken.is_none() && vouched <= *end);
    replayed.next_position = replayed.next_position.max(end).max(vouched);
    replayed.durable = vouched;
    let missing = match &broken {
        Some((at, number, reason)) => (vouched > *at).then(|| {
            format!(
                "log {} breaks at position {at} though the log is known to have been on stable storage up to {vouched} ({reason})",
                FileKind::Wal(*number).name()
            )
        }),
        None => (vouched > end).then(|| {
            format!("the logs end at position {end}, but were on stable storage up to {vouched}: a log is missing or cut short")
        }),
    };
    match missing {
        Some(what) if mode == RecoveryMode::PointInTime => Err(Error::corruption(format!(
            "{what}. Restore the directory from a copy, or open with RecoveryMode::Salvage to go on with what lies before the break"
        ))),
        _ => Ok(replayed),
    }
}

/// What to say of a log that the manifest needs and that is not there.
pub(crate) fn missing_log(number: FileNo) -> String {
    format!(
        "log {} is missing. Restore the directory from a copy, or open with RecoveryMode::Salvage to go on without it",
        FileKind::Wal(number).name()
    )
}

/// Whether the file is one that was to become log `number` and still holds what it was before: a log older than any that is needed.
fn is_not_begun(reader: &Reader, number: FileNo, oldest: FileNo) -> bool {
    let holds = reader.header().number;
    holds < number && holds < oldest
}

/// A needed log whose file has another log's name: the number that the file has, and the one that it should have. `oldest` is the first log that is needed.
pub(crate) fn misnamed(vfs: &dyn Vfs, dir: &Path, oldest: FileNo) -> Result<Option<(FileNo, FileNo)>> {
    let names = vfs.list(dir).map_err(|error| Error::io("list", dir, error))?;
    let logs = names.iter().filter_map(|name| match FileKind::parse(name) {
        Some(FileKind::Wal(number)) => Some((number, name)),
        _ => None,
    });
    let told = logs.filter_map(|(number, name)| {
        let reader = Reader::open(vfs.open_read(&dir.join(name)).ok()?, name).ok()?;
        Some((number, reader.header().number))
    });
    Ok(told.filter(|(number, told)| told != number && *told >= oldest).min())
}

/// A needed log's name on the file of a former one is as it should be only where the log was never begun; then it is nowhere.
fn refuse_misnamed(vfs: &dyn Vfs, dir: &Path, oldest: FileNo, mode: RecoveryMode) -> Result<()> {
    if mode != RecoveryMode::PointInTime {
        return Ok(());
    }
    match misnamed(vfs, dir, oldest)? {
        Some((number, told)) => Err(Error::corruption(renamed(&FileKind::Wal(number).name(), told))),
        None => Ok(()),
    }
}

fn renamed(name: &str, told: FileNo) -> String {
    format!("log {name} says that it is number {told}: it was renamed or swapped")
}

/// Whether the log holds a whole record of writes.
pub(crate) fn holds_writes(vfs: &dyn Vfs, dir: &Path, number: FileNo) -> Result<bool> {
    let name = FileKind::Wal(number).name();
    let path = dir.join(&name);
    let file = vfs.open_read(&path).map_err(|error| Error::io("open", &path, error))?;
    let mut reader = match Reader::open(file, &name) {
        Err(WalError::NoHeader { .. }) => return Ok(false),
        reader => reader?,
    };
    // A file that was to be used again is not this log yet.
    if reader.header().number < number {
        return Ok(false);
    }
    while let Some(record) = reader.next()? {
        if record.kind == RecordKind::Data {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Why an operation can't be there if the manifest ends with `version`: keyspaces and numbers are given out there, and synced, before they are used.
pub(crate) fn unheard_of(version: &Version, keyspace: KeyspaceId, seq: SeqNo) -> Option<String> {
    if keyspace >= version.next_keyspace {
        return Some(format!("an operation on keyspace {}, which was never made", keyspace.0));
    }
    let reserved = version.last_seq;
    (seq > reserved).then(|| format!("sequence number {seq}; none above {reserved} was ever reserved"))
}

/// Whether anything was written behind the place of the header.
pub(crate) fn holds_more_than_a_header(file: &dyn ReadableFile, path: &Path) -> Result<bool> {
    holds_bytes(file, path, FILE_HEADER_BYTES as u64)
}

/// Whether there is anything but zeros from `offset` on.
pub(crate) fn holds_bytes(file: &dyn ReadableFile, path: &Path, mut offset: u64) -> Result<bool> {
    let mut read = || -> std::io::Result<bool> {
        let len = file.len_bytes()?;
        let mut buffer = vec![0; 64 << 10];
        while offset < len {
            let bytes = (len - offset).min(buffer.len() as u64) as usize;
            file.read_exact_at(&mut buffer[..bytes], offset)?;
            if buffer[..bytes].iter().any(|byte| *byte != 0) {
                return Ok(true);
            }
            offset += bytes as u64;
        }
        Ok(false)
    };
    read().map_err(|error| Error::io("read", path, error))
}

fn check_header(header: &LogHeader, number: FileNo, name: &str) -> Result<()> {
    if header.number == number {
        return Ok(());
    }
    Err(Error::corruption(renamed(name, header.number)))
}

/// Replays one log up to the first record that is not whole.
fn replay_log(
    reader: &mut Reader,
    name: &str,
    replayed: &mut Replayed,
    vouched: &mut Lsn,
    apply: &mut impl FnMut(Numbered<'_>) -> Result<()>,
) -> Result<Left> {
    while let Some(record) = reader.next()? {
        if record.kind != RecordKind::Data {
            continue;
        }
        // A record whose checksum passes holds what was written, so what does not decode is no torn tail.
        let (first, ops) = batch::decode(record.payload).map_err(|error| bad_record(name, record.position, error))?;
        if first <= replayed.last_seq {
            return Err(Error::corruption(format!(
                "log {name}: the record at position {} starts with sequence number {first}, which is not above {}",
                record.position, replayed.last_seq
            )));
        }
        let mut seq = first;
        let batch_end = SeqNo((first.0 + u64::from(ops.count_left())).saturating_sub(1));
        for op in ops {
            let op = op.map_err(|error| bad_record(name, record.position, error))?;
            apply(Numbered { op, seq, batch_end })?;
            replayed.last_seq = seq;
            seq = SeqNo(seq.0 + 1);
        }
    }
    let end = reader.end().expect("a reader that returns no record is at its end");
    *vouched = (*vouched).max(end.vouched);
    if !end.leftover {
        return Ok(Left::Whole(end.position));
    }
    Ok(Left::Broken { at: end.position, leftover: true, reason: format!("{name}: {end}") })
}

/// What to say of a record that is no batch.
pub(crate) fn bad_record(name: &str, position: Lsn, error: esker_format::DecodeError) -> Error {
    let text = format!("log {name}: record at position {position}: {error}");
    if error.is_unsupported() {
        return Error::new(crate::ErrorKind::Unsupported, text);
    }
    Error::corruption(text)
}

/// A log with a torn end is whole if the next one starts where its whole records end.
fn joined_by_next(vfs: &dyn Vfs, dir: &Path, logs: &[FileNo], number: FileNo, left: Left) -> Result<Left> {
    let Left::Broken { at, .. } = left else { return Ok(left) };
    let Some(next) = logs.iter().find(|next| **next > number) else { return Ok(left) };
    let name = FileKind::Wal(*next).name();
    let path = dir.join(&name);
    let file = vfs.open_read(&path).map_err(|error| Error::io("open", &path, error))?;
    match Reader::open(file, &name) {
        Ok(reader) if reader.header().start == at => Ok(Left::Whole(at)),
        _ => Ok(left),
    }
}
