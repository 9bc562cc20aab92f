//! Flush: sealed memtables of one keyspace become a table in L0.
//!
//! All sealed memtables of the keyspace are merged into one table, and one flush of a keyspace runs at a time, so tables enter L0 in the order of
//! their sequence numbers. Before the manifest names the table, the log is synced if any other memtable holds older operations, or others of the last batch, or if the log is kept for the feed of changes: else,
//! after power loss, half of a batch over two keyspaces could be in a table and the other half lost with the log.

use crate::blobs::BLOB_FILE_BYTES;
use crate::core::{Core, KeyspaceCore};
use crate::error::{Error, Result};
use crate::install::{Change, Outputs};
use crate::listener::Event;
use crate::memory::CountedTable;
use crate::open::Pending;
use crate::snapshot::SnapshotView;
use esker_compaction::{BlobConfig, CompactionError, CompactionIter, JobConfig, write_tables};
use esker_format::{FileNo, SeqNo};
use esker_iterator::{InternalIterator, MergingIterator, RangeTombstoneBuf};
use esker_manifest::{Level, VersionEdit};
use esker_vfs::PIECE_BYTES;
use std::collections::BTreeSet;
use std::sync::Arc;

struct FlushJob {
    keyspace: Arc<KeyspaceCore>,
    /// Newest first.
    memtables: Vec<Arc<CountedTable>>,
}

impl Core {
    /// Flushes one keyspace, if any waits; whether one was flushed.
    pub(crate) fn step_flush(&self) -> bool {
        if self.health.check().is_err() {
            return false;
        }
        let began = self.begin_background();
        let Some(job) = self.pick_flush() else { return false };
        let result = self.run_flush(&job);
        let keyspace = job.keyspace.id;
        // The memory first: while the flush counts as running, writers wait for it.
        drop(job);
        self.state.lock().flushing.remove(&keyspace);
        self.finish_background(began, |state| &mut state.flush_retry, result)
    }

    /// The keyspace whose sealed memtables are the oldest.
    fn pick_flush(&self) -> Option<FlushJob> {
        let now = self.vfs.clock().now();
        let mut state = self.state.lock();
        if state.paused > 0 || state.flush_retry.not_before > now {
            return None;
        }
        let waiting = state.keyspaces.values().filter(|keyspace| !state.flushing.contains(&keyspace.id));
        let (_, keyspace, memtables) = waiting
            .filter_map(|keyspace| {
                let sealed = keyspace.read.load().sealed.clone();
                let oldest = sealed.last()?.first_seq();
                Some((oldest, Arc::clone(keyspace), sealed))
            })
            .min_by_key(|(oldest, ..)| *oldest)?;
        state.flushing.insert(keyspace.id);
        Some(FlushJob { keyspace, memtables })
    }

    fn run_flush(&self, job: &FlushJob) -> Result<()> {
        let begin = self.vfs.clock().now();
        let outputs = self.write_memtables(&job.keyspace, &job.memtables, &[])?;
        let result = self.commit_flush(job, &outputs);
        if !matches!(result, Ok(true)) {
            self.discard_unless_named(&outputs);
        }
        if result? {
            self.counters.flushes.add(1);
            self.tell(Event::Flushed {
                keyspace: job.keyspace.name.to_string(),
                entries: outputs.tables.iter().map(|table| table.entries).sum(),
                bytes: outputs.file_bytes(),
                took: self.vfs.clock().now().saturating_sub(begin),
            });
        }
        Ok(())
    }

    fn commit_flush(&self, job: &FlushJob, outputs: &Outputs) -> Result<bool> {
        let _open = self.publish_tables(outputs)?;
        let last_seq = last_seq(&job.memtables);
        let mut edit = flush_edit(&job.keyspace, outputs, last_seq);
        let batch_end = job.memtables.iter().map(|memtable| memtable.batch_end()).max().unwrap_or(last_seq);
        if self.others_hold_up_to(batch_end, &job.memtables) || self.keeps_logs() {
            let (group, end) = self.push_log()?;
            self.sync_log(&group, end)?;
            edit.log_durable = Some(end);
        }
        let keyspace = &job.keyspace;
        self.install(Change { keyspace, edit, flushed: &job.memtables })
    }

    /// Removes files that no version names. After a failed commit it is not known whether one does; then they stay.
    pub(crate) fn discard_unless_named(&self, outputs: &Outputs) {
        if self.health.check().is_ok() {
            self.discard_files(outputs.numbers());
        }
    }

    /// Writes memtables (newest first) into one table, and their large values into blob files. What no snapshot can see is left out. `pending` are tables that no version names yet.
    pub(crate) fn write_memtables(
        &self,
        keyspace: &KeyspaceCore,
        memtables: &[Arc<CountedTable>],
        pending: &[Pending],
    ) -> Result<Outputs> {
        let view = self.snapshots.view(self);
        debug_assert!(last_seq(memtables) <= view.horizon);
        let mut iter = MergingIterator::new(memtables.iter().map(|memtable| memtable.iter()).collect());
        let has_ranges = memtables.iter().any(|memtable| memtable.table.has_range_tombstones());
        let level = if !has_ranges && self.will_move(keyspace, &mut iter) { Level::BOTTOM } else { Level::ZERO };
        let ranges = if has_ranges { ranges_to_write(keyspace, memtables, pending, &mut iter) } else { Vec::new() };
        let iter = CompactionIter::new(iter, &view.snapshots, view.horizon, |_: &[u8]| true)
            .as_of(&view.snapshots, view.horizon, view.times())
            .with_range_tombstones(ranges.iter().map(RangeTombstoneBuf::as_ref), |_| true);
        let none = BTreeSet::new();
        let config = self.job_config(keyspace, level, &view, &none, &|| false);
        let config = JobConfig { table_bytes: u64::MAX, ..config };
        let outcome = write_tables(iter, &[], self, &config).map_err(|error| self.failed_job(error))?;
        self.counters.flush_bytes.add(outcome.written_bytes);
        self.counters.merge_failures.add(outcome.counts.not_folded);
        self.counters.expired.add(outcome.counts.expired);
        Ok(Outputs { tables: outcome.outputs, blobs: outcome.blobs })
    }

    /// Whether compaction will move what `entries` are flushed into rather than merge it: a load in ascending order, say, of which nothing overlaps anything.
    /// Then it is stored as the bottom stores, so that no byte of it is written again. The first table of all has nothing to tell by, and is taken for one of a load in no order.
    fn will_move<I: InternalIterator>(&self, keyspace: &KeyspaceCore, entries: &mut MergingIterator<I>) -> bool {
        let read = keyspace.read.load();
        let mut tables = read.view.version.tables().map(|(_, table)| table).peekable();
        // A memtable's iterator does not fail; if one did, the flush itself would say so.
        if tables.peek().is_none() || entries.seek_to_first().is_err() || !entries.valid() {
            return false;
        }
        let smallest = entries.key().user_key.to_vec();
        if entries.seek_to_last().is_err() || !entries.valid() {
            return false;
        }
        let largest = entries.key().user_key;
        tables.all(|table| *table.largest.user_key < *smallest || *largest < *table.smallest.user_key)
    }

    /// Removes what a failed job left behind.
    pub(crate) fn failed_job(&self, error: CompactionError) -> Error {
        self.discard_files(error.created().iter().copied());
        error.into()
    }

    /// How tables of a keyspace are written at a level, while these blob files are collected.
    pub(crate) fn job_config<'a>(
        &'a self,
        keyspace: &'a KeyspaceCore,
        level: Level,
        view: &'a SnapshotView,
        collect: &'a BTreeSet<FileNo>,
        should_stop: &'a dyn Fn() -> bool,
    ) -> JobConfig<'a> {
        let options = &self.options;
        let own = keyspace.options.lock();
        let value_bytes_min = match own.blob_bytes_min.unwrap_or(options.blob_bytes_min) {
            0 => usize::MAX,
            bytes => bytes,
        };
        JobConfig {
            snapshots: &view.snapshots,
            horizon: view.horizon,
            times: view.times(),
            table_bytes: options.compaction.table_bytes,
            grandparent_bytes_max: options
                .compaction
                .table_bytes
                .saturating_mul(u64::from(options.compaction.grandparent_factor)),
            codec: own.compression.unwrap_or(options.compression[level.index()]),
            block_size_bytes: own.block_size_bytes.unwrap_or(options.block_size_bytes),
            filter_bits_per_key: own.filter_bits_per_key.unwrap_or(options.filter_bits_per_key),
            // Several jobs, each with a table and a blob file, take little of the budget.
            piece_bytes: PIECE_BYTES.min(options.memory_budget_bytes / 64),
            blobs: Some(BlobConfig { value_bytes_min, file_bytes: BLOB_FILE_BYTES, collect, files: self }),
            operator: keyspace.merging.as_ref().and_then(|merging| merging.operator().ok()),
            filter: None,
            should_stop,
            on_progress: &|_| {},
        }
    }
}

/// The range tombstones of memtables whose entries are `entries`, each with an end: one that has none ends behind the last key that there is to hide. What is older than the memtables lies in tables: in those of the
/// version, of which jobs meanwhile only make others, or in pending ones.
fn ranges_to_write<I: InternalIterator>(
    keyspace: &KeyspaceCore,
    memtables: &[Arc<CountedTable>],
    pending: &[Pending],
    entries: &mut MergingIterator<I>,
) -> Vec<RangeTombstoneBuf> {
    let read = keyspace.read.load();
    let written = pending.iter().filter(|pending| pending.keyspace.id == keyspace.id);
    let written = written.flat_map(|pending| &pending.outputs.tables);
    let tables = read.view.version.tables().map(|(_, table)| &**table).chain(written);
    let mut last_key = tables.map(|table| &*table.largest.user_key).max();
    // A memtable's iterator does not fail; if one did, the flush itself would say so.
    if entries.seek_to_last().is_ok() && entries.valid() {
        last_key = last_key.max(Some(entries.key().user_key));
    }
    let end: Box<[u8]> = last_key.map_or_else(Box::default, |key| [key, &[0]].concat().into());
    let given = memtables.iter().flat_map(|memtable| memtable.table.range_tombstones_given());
    let with_end =
        given.map(|range| if range.end.is_empty() { RangeTombstoneBuf { end: end.clone(), ..range } } else { range });
    // Where there is no key at all, nothing is hidden.
    with_end.filter(|range| range.begin < range.end).collect()
}

/// The highest sequence number in any of them.
pub(crate) fn last_seq(memtables: &[Arc<CountedTable>]) -> SeqNo {
    memtables.iter().filter_map(|memtable| memtable.last_seq()).max().unwrap_or(SeqNo::ZERO)
}

/// Adds tables to L0 with their blob files, and says up to where the log is no longer needed for this keyspace.
pub(crate) fn flush_edit(keyspace: &KeyspaceCore, outputs: &Outputs, last_seq: SeqNo) -> VersionEdit {
    VersionEdit {
        add_blobs: outputs.blobs.iter().map(|blob| (keyspace.id, blob.clone())).collect(),
        add: outputs.tables.iter().map(|table| (keyspace.id, Level(0), table.clone())).collect(),
        flushed: vec![(keyspace.id, last_seq)],
        ..VersionEdit::default()
    }
}
