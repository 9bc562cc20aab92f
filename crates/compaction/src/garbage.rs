//! Which blob files are to be collected, and which tables stand in their way.
//!
//! What is wasted in the blob files of a keyspace is counted in two parts:
//! - *garbage*: records to which no table refers. Known exactly, from the version.
//! - *shadowed*: at most what tables above the last sorted run refer to, since each version there hides one below, or will not be there before it is brought down.
//!
//! Together they are kept within a share of all blob bytes. Garbage goes by *collecting* the files that have the most of it for their size: compactions that meet a
//! reference into one move the value, and if none comes by, the tables that still refer to it are rewritten. What is shadowed becomes garbage by bringing
//! references down, which moves no value and so costs next to nothing.

use crate::options::LeveledOptions;
use crate::plan::Busy;
use esker_format::FileNo;
use esker_manifest::{BlobState, KeyspaceVersion, Level, TableMeta};
use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The files that are collected at a time hold at most so much that has to be moved, in bytes; one file may hold more.
const COLLECT_BYTES_MAX: u64 = 256 << 20;

/// What the blob files of a keyspace hold, but for damaged ones.
pub(crate) struct Waste {
    /// All records, in bytes.
    pub(crate) record_bytes: u64,
    /// Those to which no table refers.
    pub(crate) garbage_bytes: u64,
    /// Those that may be hidden by newer versions in the same keyspace.
    pub(crate) shadowed_bytes: u64,
}

impl Waste {
    pub(crate) fn of(version: &KeyspaceVersion) -> Self {
        Self::without(version, |_| false)
    }

    fn without(version: &KeyspaceVersion, skipped: impl Fn(FileNo) -> bool) -> Self {
        let mut waste = Self { record_bytes: 0, garbage_bytes: 0, shadowed_bytes: 0 };
        for blob in version.blobs.values().filter(|blob| !skipped(blob.meta.number)) {
            waste.record_bytes = waste.record_bytes.saturating_add(blob.meta.record_bytes);
            waste.garbage_bytes = waste.garbage_bytes.saturating_add(blob.garbage_bytes());
        }
        if waste.record_bytes > 0 {
            waste.shadowed_bytes =
                above_last_run(version).map(|(_, table)| blob_bytes(table)).fold(0, u64::saturating_add);
        }
        waste
    }

    /// What is beyond the bound, in bytes.
    pub(crate) fn excess_bytes(&self, wasted: u64, options: &LeveledOptions) -> u64 {
        let allowed = u128::from(self.record_bytes) * u128::from(options.blob_garbage_percent_max.min(100)) / 100;
        wasted.saturating_sub(allowed as u64)
    }
}

/// The tables above the last sorted run: those of all levels in use but the last, or, if that is level 0, all but the oldest.
pub(crate) fn above_last_run(version: &KeyspaceVersion) -> impl Iterator<Item = (Level, &Arc<TableMeta>)> {
    let last = version.levels.iter().rposition(|level| !level.is_empty()).unwrap_or(0);
    let oldest = version.levels[0].last().filter(|_| last == 0).map(|table| table.number);
    let end = last.max(1);
    version.tables().filter(move |(level, table)| level.index() < end && Some(table.number) != oldest)
}

/// What the entries of a table refer to, in bytes.
pub(crate) fn blob_bytes(table: &TableMeta) -> u64 {
    table.blobs.iter().fold(0, |sum, used| sum.saturating_add(used.bytes))
}

/// The files to collect now: none if garbage is within its bound; else those with the most garbage for their size, until it will be.
pub(crate) fn collectable(version: &KeyspaceVersion, busy: &Busy, options: &LeveledOptions) -> BTreeSet<FileNo> {
    let skipped = |number| busy.uses(number);
    let mut waste = Waste::without(version, skipped);
    let mut files: Vec<&BlobState> = version.blobs.values().filter(|blob| !skipped(blob.meta.number)).collect();
    files.sort_by_key(|blob| {
        let share = u128::from(blob.garbage_bytes()) * 1_000_000 / u128::from(blob.meta.record_bytes.max(1));
        (Reverse(share), blob.meta.number)
    });
    let (mut found, mut moved) = (BTreeSet::new(), 0u64);
    for blob in files {
        let enough = !found.is_empty() && moved.saturating_add(blob.live_bytes) > COLLECT_BYTES_MAX;
        if enough || waste.excess_bytes(waste.garbage_bytes, options) == 0 || blob.garbage_bytes() == 0 {
            break;
        }
        found.insert(blob.meta.number);
        moved = moved.saturating_add(blob.live_bytes);
        waste.garbage_bytes -= blob.garbage_bytes();
        waste.record_bytes -= blob.garbage_bytes();
    }
    found
}

/// How much of these files a table refers to, in bytes.
pub(crate) fn refers(table: &TableMeta, files: &BTreeSet<FileNo>) -> u64 {
    let used = table.blobs.iter().filter(|used| files.contains(&used.file));
    used.fold(0, |sum, used| sum.saturating_add(used.bytes))
}
