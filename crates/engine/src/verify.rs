//! [`VerifyReport`]: every table and every blob file read whole.

use crate::core::Core;
use crate::error::{Error, Result};
use crate::listener::Event;
use crate::read::LevelView;
use esker_blob::BlobRef;
use esker_format::{FileNo, InternalKeyBuf, SeqNo, Trailer, ValueKind, expiry::decode_expiry};
use esker_iterator::InternalIterator;
use esker_manifest::{BlobUse, TableMeta};
use esker_sstable::Table;
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

/// What [`crate::Engine::verify`] found.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Tables read.
    pub tables: u64,
    /// Blocks in them.
    pub blocks: u64,
    /// Entries in them.
    pub entries: u64,
    /// Blob files read.
    pub blob_files: u64,
    /// Values in them, those that nobody needs any more included.
    pub blob_records: u64,
    /// Size of tables and blob files, in bytes.
    pub bytes: u64,
    /// What is damaged, by table or blob file; empty if all is well.
    pub damaged: BTreeMap<FileNo, Error>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_ok(&self) -> bool {
        self.damaged.is_empty()
    }
}

impl Core {
    /// See [`crate::Engine::verify`]. Damage found is kept away from compaction.
    pub(crate) fn verify(&self) -> Result<VerifyReport> {
        self.check_open()?;
        let mut report = VerifyReport::default();
        // One state of each keyspace, whose tables can't go while it is held.
        let states: Vec<_> = self.keyspaces().iter().map(|keyspace| keyspace.read.load_full()).collect();
        for open in states.iter().flat_map(|state| state.view.tables()) {
            self.check_open()?;
            report.tables += 1;
            let verified = open.table().and_then(|table| {
                let found = table.verify()?;
                agrees(&open.meta, table)?;
                Ok(found)
            });
            match verified {
                Ok(found) => {
                    report.blocks += found.blocks;
                    report.entries += found.entries;
                    report.bytes += open.meta.file_bytes;
                }
                Err(error) => self.found_damaged(&mut report, open.meta.number, error),
            }
        }
        for open in states.iter().flat_map(|state| &state.view.blobs) {
            self.check_open()?;
            report.blob_files += 1;
            match open.file().and_then(|file| Ok(file.verify()?)) {
                Ok(()) => {
                    report.blob_records += open.meta.records;
                    report.bytes += open.meta.file_bytes;
                }
                Err(error) => self.found_damaged(&mut report, open.meta.number, error),
            }
        }
        // Last, since whether a reference leads to a whole value is a matter of both.
        for state in &states {
            for open in state.view.tables() {
                self.check_open()?;
                if let Ok(table) = open.table()
                    && !report.damaged.contains_key(&open.meta.number)
                    && let Err(error) = refers_rightly(&open.meta, table, &state.view, &report)
                {
                    self.found_damaged(&mut report, open.meta.number, error);
                }
            }
        }
        Ok(report)
    }

    /// Takes a table or blob file in which damage was found out of use.
    pub(crate) fn quarantine(&self, file: FileNo, error: &Error) {
        let is_news = self.tables.quarantine(file);
        self.state.lock().busy.exclude(file);
        if is_news {
            self.tell(Event::Quarantined { table: file, error: error.clone() });
        }
    }

    fn found_damaged(&self, report: &mut VerifyReport, file: FileNo, error: Error) {
        self.quarantine(file, &error);
        report.damaged.insert(file, error);
    }
}

/// Whether the table refers to what the manifest says, and each reference leads to a value, but for those into files that are damaged themselves.
fn refers_rightly(meta: &TableMeta, table: &Arc<Table>, view: &LevelView, report: &VerifyReport) -> Result<()> {
    let mut found: BTreeMap<FileNo, (u64, u64)> = BTreeMap::new();
    let mut iter = table.iter_once();
    iter.seek_to_first()?;
    while iter.valid() {
        let kind = iter.key().trailer.kind();
        let stored = if kind.expires() { decode_expiry(iter.value())?.1 } else { iter.value() };
        if matches!(kind, ValueKind::Blob | ValueKind::ExpiringBlob) {
            let reference = BlobRef::decode(stored)?;
            let (records, bytes) = found.entry(reference.file).or_default();
            *records += 1;
            *bytes += reference.record_bytes();
            if !report.damaged.contains_key(&reference.file) {
                view.blob_value(stored)?;
            }
        }
        iter.next()?;
    }
    let found = found.into_iter().map(|(file, (records, bytes))| BlobUse { file, records, bytes });
    if found.eq(meta.blobs.iter().copied()) {
        return Ok(());
    }
    Err(Error::corruption(format!(
        "table {}: it refers to other records of blob files than the manifest says",
        table.name()
    )))
}

/// Whether the manifest says of a table what the table says of itself.
fn agrees(meta: &TableMeta, table: &Table) -> Result<()> {
    match differences(meta, table).first() {
        None => Ok(()),
        Some(difference) => Err(Error::corruption(format!("table {}: {difference}", table.name()))),
    }
}

/// What the manifest says of a table otherwise than the table itself.
pub(crate) fn differences(meta: &TableMeta, table: &Table) -> Vec<String> {
    let properties = table.properties();
    // What was built outside says 0, all of it.
    let told = |seq: SeqNo| if meta.table_seq.is_some() { SeqNo::ZERO } else { seq };
    let key = |bound: &InternalKeyBuf| {
        let trailer = Trailer::new(told(bound.trailer.seq()), bound.trailer.kind());
        InternalKeyBuf { user_key: bound.user_key.clone(), trailer }
    };
    let mut differences = Vec::new();
    let mut compare = |what: &str, found: &dyn Debug, expected: &dyn Debug| {
        let (found, expected) = (format!("{found:?}"), format!("{expected:?}"));
        if found != expected {
            differences.push(format!("{what} {found}, the manifest says {expected}"));
        }
    };
    compare("smallest key", &properties.smallest, &key(&meta.smallest));
    compare("largest key", &properties.largest, &key(&meta.largest));
    compare("smallest sequence number", &properties.smallest_seq.0, &told(meta.smallest_seq).0);
    compare("largest sequence number", &properties.largest_seq.0, &told(meta.largest_seq).0);
    compare("number of entries", &properties.entries, &meta.entries);
    compare("number of tombstones", &properties.deletions, &meta.deletions);
    compare("expiry times", &properties.expiries, &meta.expiries);
    let found = table.range_tombstones().map(|ranges| (ranges.len() as u64, ranges.hull()));
    let expected = meta.ranges.as_ref().map(|told| (told.count, Some((&*told.begin, &*told.end))));
    compare("range tombstones", &found, &expected);
    differences
}
