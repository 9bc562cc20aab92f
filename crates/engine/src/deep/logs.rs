//! Logs: every record and operation, and whether an engine would open with them.

use super::{CANT_OPEN, Check, MEDIUM, NEWER};
use crate::error::ErrorKind;
use crate::recovery;
use crate::{Background, Engine, Options};
use esker_format::{DecodeError, FileKind, FileNo, SeqNo, batch};
use esker_manifest::Version;
use esker_sstable::{ReadMode, Verify};
use esker_wal::{EndCause, Lsn, Reader, RecordKind, WalError};
use std::sync::Arc;

impl Check<'_> {
    /// The logs in the directory from number `oldest` on.
    fn logs_from(&self, oldest: FileNo) -> Vec<FileNo> {
        let number = |kind: &FileKind| if let FileKind::Wal(number) = kind { Some(*number) } else { None };
        self.kinds.iter().filter_map(number).filter(|number| *number >= oldest).collect()
    }

    /// Every record of every log that is still part of the engine: needed, or kept for the feed of changes.
    pub(super) fn logs(&mut self, version: Option<&Version>) {
        let oldest = version.map_or(FileNo(0), |version| version.changes_log.min(version.oldest_log));
        for number in self.logs_from(oldest) {
            self.log(number, version);
        }
    }

    fn log(&mut self, number: FileNo, version: Option<&Version>) {
        let is_kept = version.is_some_and(|version| number < version.oldest_log);
        let (lost, salvage) = match is_kept {
            true => (
                "the feed of changes can't tell of it; all that this log held is in tables",
                "restore this file from a copy, if somebody is to follow the feed from so far back; else nothing",
            ),
            false => (
                "writes that were on stable storage are gone: the directory does not open",
                "restore this file from a copy, go on without what is lost (RecoveryMode::Salvage), or have repair make a new directory of what is left",
            ),
        };
        let kind = FileKind::Wal(number);
        let name = kind.name();
        let len = self.len(kind).unwrap_or(0);
        let unread = "what it holds is not known";
        let opened = match self.vfs.open_read(&self.path(kind)) {
            Ok(file) => Reader::open(file, &name),
            Err(error) => return self.failed(&name, None, CANT_OPEN, &error, unread, MEDIUM),
        };
        let mut reader = match opened {
            Ok(reader) => reader,
            // Of one that is kept for the feed it is known: a sector is written whole or not at all.
            Err(error @ WalError::NoHeader { cause: EndCause::Torn { .. }, .. }) if is_kept => {
                self.damage(&name, Some(0), &error, lost, salvage);
                return self.read(len);
            }
            // Whether it should have been begun, opening tells.
            Err(error @ WalError::NoHeader { .. }) => {
                let meaning =
                    "a log that was made ahead and never begun looks so, or one whose header never reached the disk";
                self.note(&name, Some(0), error.to_string(), meaning, "nothing, if the directory opens");
                return self.read(len);
            }
            Err(error) => {
                let advice = if error.is_unsupported() { NEWER } else { salvage };
                self.failed(&name, Some(0), "", &error, unread, advice);
                return self.read(len);
            }
        };
        if reader.header().number != number {
            // The file of a former log that is to be used again.
            return self.read(len);
        }
        self.report.logs += 1;
        self.report.bytes += len;
        let (mut last, mut records) = (SeqNo::ZERO, 0);
        let start = reader.header().start;
        let in_file = |position: Lsn| Some(position.0 - start.0);
        let failed = loop {
            match reader.next() {
                Ok(Some(record)) if record.kind == RecordKind::Data => {
                    records += 1;
                    if let Err((what, is_newer)) = check_batch(record.payload, &mut last, version) {
                        let place = in_file(record.position);
                        let advice = if is_newer { NEWER } else { salvage };
                        self.damage(&name, place, what, "a write is not as it was made", advice);
                    }
                }
                Ok(Some(_)) => records += 1,
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        self.report.log_records += records;
        if let Some(error) = failed {
            let advice = if error.is_unsupported() { NEWER } else { salvage };
            self.failed(&name, None, "", &error, "what lies behind can't be read", advice);
        } else if let Some(end) = reader.end().copied().filter(|end| end.leftover) {
            if end.vouched > end.position {
                let what = format!("a record is not whole, and was on stable storage: {end}");
                self.damage(&name, in_file(end.position), what, lost, salvage);
            } else {
                let what = format!("its end is not whole: {end}");
                let meaning = "as a kill or a power cut leaves it; nothing that was promised to last is missing";
                self.note(&name, in_file(end.position), what, meaning, "nothing");
            }
        }
        self.read(len);
    }

    /// Whether an engine would open, and what it would leave out.
    pub(super) fn opens(&mut self, has_manifest: bool) -> bool {
        if !has_manifest {
            return false;
        }
        // Not by way of a map: of what the device can't give this is to tell, and not to end the process.
        let (read_mode, verify) = (ReadMode::Pread, Verify::Always);
        let options = Options { create_if_missing: false, read_mode, verify, ..Options::default() };
        let engine = Engine::builder(self.dir).vfs(Arc::clone(self.vfs)).options(options).read_only(true);
        match engine.background(Background::Manual).open() {
            Ok(engine) => {
                for left_out in engine.metrics().left_out_of_recovery {
                    let (file, why) = left_out.split_once(": ").unwrap_or(("logs", &left_out));
                    let meaning = "what was never on stable storage is left out, as after a kill or a power cut";
                    let what = format!("not all of it is replayed: {why}");
                    self.note(
                        file,
                        None,
                        what,
                        meaning,
                        "nothing; what is left out is set aside when it is next opened for writing",
                    );
                }
                true
            }
            Err(error) => {
                let advice = match error.kind() {
                    ErrorKind::Unsupported => NEWER,
                    ErrorKind::Io => "mend what the message names, and look again",
                    _ => "restore the directory from a copy, or have repair make a new one of what is left",
                };
                self.failed("the directory", None, "", &error, "it does not open", advice);
                false
            }
        }
    }
}

/// What is wrong with a record's batch, if anything is, and whether a newer version may find it right.
fn check_batch(payload: &[u8], last: &mut SeqNo, version: Option<&Version>) -> Result<(), (String, bool)> {
    let told = |error: DecodeError| (error.to_string(), error.is_unsupported());
    let (first, ops) = batch::decode(payload).map_err(told)?;
    let count = u64::from(ops.count_left());
    let before = std::mem::replace(last, SeqNo((first.0 + count).saturating_sub(1)));
    if first <= before {
        return Err((format!("sequence number {first} behind {before}"), false));
    }
    for (op, seq) in ops.zip(first.0..) {
        let op = op.map_err(told)?;
        if let Some(why) = version.and_then(|version| recovery::unheard_of(version, op.keyspace, SeqNo(seq))) {
            return Err((why, false));
        }
    }
    Ok(())
}
