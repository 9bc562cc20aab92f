//! Whether the manifest can be taken at its word.
//!
//! Where it was cut off between two edits it can be read to its end, and says nothing of all that came later. Other files know better: a table or log that it should name and does not, an operation
//! of a keyspace that it has not made.

use super::tables::options;
use super::{Repair, newer};
use crate::error::Result;
use crate::open::holds_everything;
use crate::recovery;
use esker_format::{FileKind, FileNo, SeqNo, batch};
use esker_manifest::{ManifestError, Salvaged, Version, is_outdated, salvage_edits};
use esker_sstable::Table;
use esker_wal::{Reader, RecordKind};
use std::collections::BTreeSet;
use std::path::Path;

fn is_manifest(path: &Path) -> bool {
    let name = path.file_name().and_then(|name| name.to_str());
    matches!(name.and_then(FileKind::parse), Some(FileKind::Manifest(_)))
}

impl Repair<'_> {
    /// Whether the manifest can be taken at its word: it is whole, and nothing says that its end was cut off.
    pub(super) fn judge_manifest(&mut self) -> Result<()> {
        self.refuse_newer_manifest()?;
        let Some(version) = self.facts.version.clone() else {
            self.report.manifest_error = self.facts.error.as_ref().map(ManifestError::to_string);
            return Ok(());
        };
        let named: BTreeSet<FileNo> = version.tables().map(|(_, _, table)| table.number).collect();
        let there: BTreeSet<FileNo> = self
            .kinds
            .iter()
            .filter_map(|kind| if let FileKind::Table(number) = kind { Some(*number) } else { None })
            .collect();
        let is_missing = named.iter().any(|number| !there.contains(number));
        let oldest = version.oldest_log;
        let lacks_log =
            !holds_everything(&version) && oldest > FileNo(0) && !self.kinds.contains(&FileKind::Wal(oldest));
        let others = there.iter().filter(|number| !named.contains(number));
        let is_newer = |number: &FileNo| holds_everything(&version) && *number >= version.oldest_log;
        let writes = |kind: &FileKind| match kind {
            FileKind::Wal(number) => {
                is_newer(number) && recovery::holds_writes(&**self.vfs, self.from, *number).unwrap_or(true)
                    || self.is_ahead_of(&version, *number)
            }
            _ => false,
        };
        // What an edit there said is not known; as the last one, it looks as if it had never been made.
        let is_unread = self.patient.unreadable().keys().any(|path| is_manifest(path));
        let is_cut = (is_missing || lacks_log) && others.clone().next().is_some()
            || others.clone().any(is_newer)
            || self.kinds.iter().any(writes)
            || self.has_newest(&version, others);
        let is_outdated = match self.facts.manifest {
            Some(number) => is_outdated(&**self.vfs, self.from, number)?,
            None => false,
        };
        self.report.manifest_error = if is_outdated {
            Some("CURRENT names one that was replaced since: there is a newer one".into())
        } else if is_cut {
            Some("its end is missing: there are tables or logs of which it knows nothing".into())
        } else if is_unread {
            Some("a part of it can't be read".into())
        } else {
            self.report.exact = true;
            return Ok(());
        };
        // All that any of them says, what was removed too.
        let edits = salvage_edits(&**self.vfs, self.from)?;
        let is_newest = edits.manifest == self.facts.manifest;
        let (version, log_begun) = (self.facts.version.take().filter(|_| is_newest), self.facts.log_begun);
        self.facts = Salvaged { version, log_begun, ..edits };
        self.refuse_newer_manifest()
    }

    fn refuse_newer_manifest(&self) -> Result<()> {
        match &self.facts.unsupported {
            Some(error) => Err(newer(error)),
            None => Ok(()),
        }
    }

    /// Whether a table that the manifest does not name holds a higher number than all that it names and all logs: a flush, or an ingest, that is there and not known of, and whose log is gone.
    fn has_newest<'n>(&self, version: &Version, others: impl Iterator<Item = &'n FileNo>) -> bool {
        let largest = |number: &FileNo| {
            let kind = FileKind::Table(*number);
            let file = self.vfs.open_read(&kind.path(self.from)).ok()?;
            Some(Table::open(file, &kind.name(), options(None)).ok()?.properties().largest_seq)
        };
        let Some(newest) = others.filter_map(largest).max() else { return false };
        let named = version.tables().map(|(_, _, table)| table.largest_seq).max().unwrap_or_default();
        if newest <= named {
            return false;
        }
        let logs =
            self.kinds.iter().filter_map(|kind| if let FileKind::Wal(number) = kind { Some(*number) } else { None });
        !logs.filter_map(|number| self.last_in_log(number)).any(|last| last >= newest)
    }

    /// The last number in a log, behind breaks too.
    fn last_in_log(&self, number: FileNo) -> Option<SeqNo> {
        let kind = FileKind::Wal(number);
        let mut reader = Reader::open(self.vfs.open_read(&kind.path(self.from)).ok()?, &kind.name()).ok()?;
        let mut last = None;
        loop {
            let Some(record) = reader.next().ok()? else {
                match reader.skip_break().ok()? {
                    Some(_) => continue,
                    None => return last,
                }
            };
            if record.kind == RecordKind::Data
                && let Ok((first, ops)) = batch::decode(record.payload)
            {
                let count = u64::from(ops.count_left());
                last = last.max(Some(SeqNo((first.0 + count).saturating_sub(1))));
            }
        }
    }

    /// Whether a log holds what can't have been written yet when the manifest ended with `version`.
    fn is_ahead_of(&self, version: &Version, number: FileNo) -> bool {
        let kind = FileKind::Wal(number);
        // What can't be read says nothing here; what that means is for who takes from it.
        let Ok(file) = self.vfs.open_read(&kind.path(self.from)) else { return false };
        let Ok(mut reader) = Reader::open(file, &kind.name()) else { return false };
        // Under whatever name it lies.
        let is_newer = holds_everything(version) && reader.header().number >= version.oldest_log;
        loop {
            let Ok(record) = reader.next() else { return false };
            let Some(record) = record else {
                // What is left of a record was written to a log that was in use, which the manifest says of none.
                if is_newer && reader.end().is_some_and(|end| end.leftover) {
                    return true;
                }
                match reader.skip_break() {
                    Ok(Some(_)) => continue,
                    _ => return false,
                }
            };
            let RecordKind::Data = record.kind else { continue };
            let Ok((first, ops)) = batch::decode(record.payload) else { continue };
            let mut ops = ops.flatten().zip(first.0..);
            if is_newer || ops.any(|(op, seq)| recovery::unheard_of(version, op.keyspace, SeqNo(seq)).is_some()) {
                return true;
            }
        }
    }
}
