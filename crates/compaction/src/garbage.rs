//! Which blob files are to be collected, and which tables stand in their way.
//!
//! What is wasted in the blob files of a keyspace is counted in two parts:
//! - *garbage*: records to which no table refers. Known exactly, from the version.
//! - *shadowed*: what versions in tables above the last sorted run may hide, each of them one below. Of those that are references it is taken to be as much as they refer to themselves; of short
//!   values and deletions, what an entry of the last run refers to on average; of range tombstones, the part of the last run that lies between the first and the last of their table.
//!
//! Together they are kept within a share of all blob bytes. Garbage goes by *collecting* the files that have the most of it for their size: compactions that meet a
//! reference into one move the value, and if none comes by, the tables that still refer to it are rewritten. What is shadowed becomes garbage by bringing
//! references down, which moves no value and so costs next to nothing.

use crate::options::LeveledOptions;
use crate::plan::Busy;
use crate::span::{Span, overlapping};
use esker_format::FileNo;
use esker_manifest::{BlobState, KeyspaceVersion, Level, RangeUse, TableMeta};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
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
            waste.shadowed_bytes = Shadows::of(version).of_tables(above_last_run(version).map(|(_, table)| table));
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
    let is_last = last_run(version);
    version.tables().filter(move |(level, table)| !is_last(*level, table))
}

/// Whether a table belongs to the last sorted run.
fn last_run(version: &KeyspaceVersion) -> impl Fn(Level, &TableMeta) -> bool {
    let last = version.levels.iter().rposition(|level| !level.is_empty()).unwrap_or(0);
    let oldest = version.levels[0].last().filter(|_| last == 0).map(|table| table.number);
    move |level, table| level.index() == last && (last > 0 || Some(table.number) == oldest)
}

/// How much versions above the last sorted run may hide of what it refers to.
pub(crate) struct Shadows<'v> {
    /// What the last run refers to, and its entries.
    below_bytes: u64,
    below_entries: u64,
    /// Its tables.
    below: &'v [Arc<TableMeta>],
}

impl<'v> Shadows<'v> {
    pub(crate) fn of(version: &'v KeyspaceVersion) -> Self {
        let last = version.levels.iter().rfind(|level| !level.is_empty()).map_or(&[][..], |level| level);
        // Of level 0 it is the oldest table.
        let below =
            if version.levels[1..].iter().all(Vec::is_empty) { &last[last.len().saturating_sub(1)..] } else { last };
        let mut shadows = Self { below_bytes: 0, below_entries: 0, below };
        for table in below {
            shadows.below_bytes = shadows.below_bytes.saturating_add(blob_bytes(table));
            shadows.below_entries = shadows.below_entries.saturating_add(table.entries);
        }
        shadows
    }

    /// What the range tombstones of a table may hide, in bytes.
    fn of_ranges(&self, table: &TableMeta) -> u64 {
        let Some(RangeUse { begin, end, .. }) = &table.ranges else { return 0 };
        let met = overlapping(self.below, Span { lo: begin, hi: end });
        met.iter().fold(0, |sum, below| sum.saturating_add(Span::of(below).part_in(begin, end, blob_bytes(below))))
    }

    /// What those of a table may hide that are no references, in bytes: its other entries, and its range tombstones.
    pub(crate) fn of_others(&self, table: &TableMeta) -> u64 {
        let references = table.blobs.iter().fold(0, |sum: u64, used| sum.saturating_add(used.records));
        let others = table.entries.saturating_sub(references).min(self.below_entries);
        let hidden = u128::from(others) * u128::from(self.below_bytes) / u128::from(self.below_entries.max(1));
        (hidden as u64).saturating_add(self.of_ranges(table)).min(self.below_bytes)
    }

    /// What all of a table may hide, in bytes.
    pub(crate) fn of_table(&self, table: &TableMeta) -> u64 {
        blob_bytes(table).saturating_add(self.of_others(table))
    }

    /// What these tables may hide together, in bytes.
    fn of_tables<'t>(&self, tables: impl Iterator<Item = &'t Arc<TableMeta>>) -> u64 {
        let (references, others) = tables.fold((0u64, 0u64), |(references, others), table| {
            (references.saturating_add(blob_bytes(table)), others.saturating_add(self.of_others(table)))
        });
        references.saturating_add(others.min(self.below_bytes))
    }
}

/// What the entries of a table refer to, in bytes.
pub(crate) fn blob_bytes(table: &TableMeta) -> u64 {
    table.blobs.iter().fold(0, |sum, used| sum.saturating_add(used.bytes))
}

/// The files to collect now: none if garbage is within its bound; else those with the most garbage for their size, until it will be.
pub(crate) fn collectable(version: &KeyspaceVersion, busy: &Busy, options: &LeveledOptions) -> BTreeSet<FileNo> {
    let stuck = stuck(version, busy);
    let skipped = |number| busy.uses(number) || stuck.contains(&number);
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

/// The files to which damaged tables alone refer: nothing more can be moved out of them, and collecting them would keep others from being collected.
fn stuck(version: &KeyspaceVersion, busy: &Busy) -> BTreeSet<FileNo> {
    let mut held: BTreeMap<FileNo, u64> = BTreeMap::new();
    for used in version.tables().filter(|(_, table)| busy.excludes(table.number)).flat_map(|(_, table)| &table.blobs) {
        let bytes = held.entry(used.file).or_default();
        *bytes = bytes.saturating_add(used.bytes);
    }
    held.retain(|file, bytes| version.blobs.get(file).is_some_and(|blob| blob.live_bytes <= *bytes));
    held.into_keys().collect()
}

/// How much of these files a table refers to, in bytes.
pub(crate) fn refers(table: &TableMeta, files: &BTreeSet<FileNo>) -> u64 {
    let used = table.blobs.iter().filter(|used| files.contains(&used.file));
    used.fold(0, |sum, used| sum.saturating_add(used.bytes))
}
