//! [`Metrics`]: figures of a running engine.

use crate::core::{Core, KeyspaceCore};
use esker_format::KeyspaceId;
use esker_manifest::Level;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    // Relaxed: figures for people; they order nothing.
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// What is counted as it happens.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    pub(crate) writes: Counter,
    pub(crate) conflicts: Counter,
    pub(crate) background_errors: Counter,
    /// Syncs of logs that were given up; those of the one being written come on top.
    pub(crate) log_syncs: Counter,
    pub(crate) stalls: Counter,
    pub(crate) stall_us: Counter,
    pub(crate) flushes: Counter,
    pub(crate) compactions: Counter,
    pub(crate) compactions_for_reads: Counter,
    pub(crate) expired: Counter,
    pub(crate) filtered: Counter,
    pub(crate) filter_failures: Counter,
    pub(crate) flush_bytes: Counter,
    pub(crate) ingested_tables: Counter,
    pub(crate) ingested_bytes: Counter,
    pub(crate) compaction_read_bytes: Counter,
    pub(crate) compaction_written_bytes: Counter,
    pub(crate) merge_failures: Counter,
    /// Bytes of logs that are complete; the one being written comes on top.
    pub(crate) log_bytes: Counter,
    /// `Version::written_bytes` at open.
    pub(crate) written_bytes_before: Counter,
}

impl Counters {
    /// Bytes written to logs and tables since the engine was created, but for the log being written.
    pub(crate) fn written_bytes(&self) -> u64 {
        self.written_bytes_before.get()
            + self.log_bytes.get()
            + self.flush_bytes.get()
            + self.ingested_bytes.get()
            + self.compaction_written_bytes.get()
    }
}

/// Figures of an engine at one moment. Counts are since open where nothing else is said.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Metrics {
    /// The keyspaces, by id.
    pub keyspaces: Vec<KeyspaceMetrics>,
    /// The newest sequence number readers see.
    pub last_seq: u64,
    /// Batches committed.
    pub writes: u64,
    /// Transactions and tries of conditional writes that lost against another write.
    pub conflicts: u64,
    /// What open transactions remember of their reads, in bytes; see [`crate::Options::transaction_tracking_bytes`].
    pub transaction_tracking_bytes: usize,
    /// Reads that failed: look-ups, and the seeks, steps and values of iterators and cursors.
    pub read_errors: u64,
    /// Failures of background work.
    pub background_errors: u64,
    /// The cause why writing has stopped, if it has.
    pub writing_stopped: Option<String>,
    /// Writes that had to wait or were refused as `Stalled`.
    pub stalls: u64,
    /// How long writes waited, in all.
    pub stall_time: Duration,
    /// Heap held by memtables, those that only old iterators hold included, in bytes.
    pub memtable_bytes: usize,
    /// The part of `memtable_bytes` that is flushed already and that only iterators and cursors hold.
    pub pinned_memtable_bytes: usize,
    /// Heap that flushed memtables left to the next ones, in bytes: it counts towards their limit, gives way to them, and goes when nothing is written.
    pub memtable_pool_bytes: usize,
    /// Size of the tables and blob files that are replaced already and that only iterators, cursors and handles of dropped keyspaces hold, in bytes. Their space comes back with them.
    pub pinned_table_bytes: u64,
    /// Heap held by the block cache, in bytes.
    pub block_cache_bytes: u64,
    /// Block look-ups that the cache answered.
    pub block_cache_hits: u64,
    /// Block look-ups that it did not.
    pub block_cache_misses: u64,
    /// Heap held by open tables and blob files for their metadata, in bytes.
    pub table_heap_bytes: usize,
    /// Bytes of tables and blob files that are mapped; not heap.
    pub mapped_bytes: u64,
    /// Pages of the tables and blob files open now that could not be read and were made errors: see [`crate::ReadMode::GuardedMap`]. Anything but 0 is the device's, or another program's, doing.
    pub unreadable_pages: u64,
    /// Logs that may still be needed.
    pub logs: usize,
    /// Their size, in bytes, without what is allocated ahead.
    pub log_bytes: u64,
    /// Logs that only the feed of changes still needs: see [`crate::Engine::changes_since`].
    pub retained_logs: usize,
    /// Their size, in bytes.
    pub retained_log_bytes: u64,
    /// Syncs of the log, those that failed included; not those of files that are made ready for it.
    pub log_syncs: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes they wrote.
    pub flush_bytes: u64,
    /// Tables that were ingested, or written by a bulk load.
    pub ingested_tables: u64,
    /// Their size, in bytes.
    pub ingested_bytes: u64,
    /// Compactions.
    pub compactions: u64,
    /// Those of them that reads have asked for; see [`crate::LeveledOptions::compact_for_reads`].
    pub compactions_for_reads: u64,
    /// Bytes they read.
    pub compaction_read_bytes: u64,
    /// Bytes they wrote.
    pub compaction_written_bytes: u64,
    /// Stacks of merge operands, each of one key, that flush and compaction have kept as they were because the operator failed.
    pub merge_failures: u64,
    /// Entries that had expired when flush or compaction came by: left out, or made tombstones of.
    pub expired_entries: u64,
    /// Entries that compaction filters have removed or replaced.
    pub filtered_entries: u64,
    /// Compactions that failed because a filter did. The keyspace is then compacted without it for a while.
    pub filter_failures: u64,
    /// Bytes written to logs and tables since the engine was created.
    pub written_bytes: u64,
    /// Snapshots held.
    pub snapshots: usize,
    /// How long the oldest snapshot has been held.
    pub oldest_snapshot_age: Option<Duration>,
    /// Tables and blob files in quarantine, by number.
    pub quarantined_tables: Vec<u64>,
    /// What opening did not replay: each a log, and why part of it was left out. After `kill -9` or power loss a torn end is ordinary, and nothing in it was promised; else
    /// it may be worth a look before the next open for writing, which sets it aside.
    pub left_out_of_recovery: Vec<String>,
}

/// Figures of one keyspace.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct KeyspaceMetrics {
    /// Its name.
    pub name: String,
    /// Its number.
    pub id: u32,
    /// The name of its merge operator, if it has one.
    pub merge_operator: Option<String>,
    /// The levels, from L0 on.
    pub levels: Vec<LevelMetrics>,
    /// Entries in the active memtable.
    pub active_entries: usize,
    /// Range tombstones in the active memtable.
    pub active_range_tombstones: usize,
    /// Memtables that wait to be flushed.
    pub sealed_memtables: usize,
    /// Bytes that compaction owes.
    pub compaction_debt_bytes: u64,
    /// Blob files.
    pub blob_files: usize,
    /// Their size, in bytes.
    pub blob_bytes: u64,
    /// What no table refers to any more in them, in bytes; see [`crate::LeveledOptions::blob_garbage_percent_max`].
    pub blob_garbage_bytes: u64,
    /// How long what is put lives where a write does not say: see [`crate::KeyspaceOptions::ttl`].
    pub ttl: Option<Duration>,
    /// The name of its compaction filter.
    pub compaction_filter: Option<String>,
    /// Whether that is registered.
    pub compaction_filter_found: bool,
}

/// Figures of one level.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LevelMetrics {
    /// Its number.
    pub level: u8,
    /// Tables in it.
    pub tables: usize,
    /// Their size, in bytes.
    pub bytes: u64,
    /// Entries in them, deletions and older versions included.
    pub entries: u64,
    /// Deletions among them.
    pub deletions: u64,
    /// Range tombstones, in the pieces into which they were cut.
    pub range_tombstones: u64,
    /// Entries with an expiry time.
    pub expiring: u64,
    /// Keys and values before compression, in bytes, where known: 0 for tables that can't be read.
    pub raw_bytes: u64,
}

impl KeyspaceMetrics {
    /// Size of all tables, in bytes.
    pub fn table_bytes(&self) -> u64 {
        self.levels.iter().map(|level| level.bytes).sum()
    }

    /// Size of all tables over that of the lowest level that has any: how much space the versions and deletions above it may waste. `None` without tables.
    pub fn space_amplification(&self) -> Option<f64> {
        let bottom = self.levels.iter().rev().find(|level| level.bytes > 0)?;
        Some(self.table_bytes() as f64 / bottom.bytes as f64)
    }
}

impl Core {
    pub(crate) fn metrics(&self) -> Metrics {
        let counters = &self.counters;
        let (snapshots, since) = self.snapshots.oldest();
        let tables = self.tables.held();
        let memtable_bytes = self.memory.tables_bytes();
        let in_use: usize = self
            .keyspaces()
            .iter()
            .map(|keyspace| keyspace.read.load().memtables().map(|m| m.counted_bytes()).sum::<usize>())
            .sum();
        // Under the lock under which logs change: what was counted for one that is complete must not come on top of itself.
        let (active_log_bytes, written_bytes, log_syncs) = {
            let commit = self.commit.lock();
            let active_log_bytes = commit.writer.as_ref().map_or(0, esker_wal::Writer::bytes);
            let log_syncs = counters.log_syncs.get() + commit.group.syncs();
            (active_log_bytes, counters.written_bytes() + active_log_bytes, log_syncs)
        };
        let (logs, sealed_log_bytes, retained_logs, retained_log_bytes) = {
            let state = self.state.lock();
            let retained = &state.feed.retained;
            let sealed_log_bytes = state.logs.iter().map(|log| log.bytes).sum::<u64>();
            (state.logs.len(), sealed_log_bytes, retained.len(), retained.iter().map(|log| log.bytes).sum::<u64>())
        };
        Metrics {
            keyspaces: self.keyspaces().iter().map(|keyspace| self.keyspace_metrics(keyspace)).collect(),
            last_seq: self.visible().0,
            writes: counters.writes.get(),
            conflicts: counters.conflicts.get(),
            // Relaxed: a figure for people.
            transaction_tracking_bytes: self.tracking_bytes.load(Ordering::Relaxed),
            read_errors: self.tables.read_errors.get(),
            background_errors: counters.background_errors.get(),
            writing_stopped: self.health.cause().map(|cause| cause.to_string()),
            stalls: counters.stalls.get(),
            stall_time: Duration::from_micros(counters.stall_us.get()),
            memtable_bytes,
            pinned_memtable_bytes: memtable_bytes.saturating_sub(in_use),
            memtable_pool_bytes: self.memory.pool_bytes(),
            pinned_table_bytes: tables.retired_bytes,
            block_cache_bytes: self.tables.cache.usage_bytes(),
            block_cache_hits: self.tables.cache.hits(),
            block_cache_misses: self.tables.cache.misses(),
            table_heap_bytes: tables.heap_bytes,
            mapped_bytes: tables.mapped_bytes,
            unreadable_pages: tables.unreadable_pages,
            logs,
            log_bytes: sealed_log_bytes + active_log_bytes,
            retained_logs,
            retained_log_bytes,
            log_syncs,
            flushes: counters.flushes.get(),
            flush_bytes: counters.flush_bytes.get(),
            ingested_tables: counters.ingested_tables.get(),
            ingested_bytes: counters.ingested_bytes.get(),
            compactions: counters.compactions.get(),
            compactions_for_reads: counters.compactions_for_reads.get(),
            expired_entries: counters.expired.get(),
            filtered_entries: counters.filtered.get(),
            filter_failures: counters.filter_failures.get(),
            compaction_read_bytes: counters.compaction_read_bytes.get(),
            compaction_written_bytes: counters.compaction_written_bytes.get(),
            merge_failures: counters.merge_failures.get(),
            // Opened for reading only, the sealed logs are those that were replayed, which no counter has seen.
            written_bytes: written_bytes + if self.read_only { sealed_log_bytes } else { 0 },
            snapshots,
            oldest_snapshot_age: since.map(|since| self.vfs.clock().now().saturating_sub(since)),
            left_out_of_recovery: self.left_out.get().cloned().unwrap_or_default(),
            quarantined_tables: self.tables.quarantined().iter().map(|number| number.0).collect(),
        }
    }

    fn keyspace_metrics(&self, keyspace: &KeyspaceCore) -> KeyspaceMetrics {
        let state = keyspace.read.load();
        let levels = Level::all().zip(&state.view.levels).map(|(level, tables)| LevelMetrics {
            level: level.0,
            tables: tables.len(),
            bytes: tables.iter().map(|open| open.meta.file_bytes).sum(),
            entries: tables.iter().map(|open| open.meta.entries).sum(),
            deletions: tables.iter().map(|open| open.meta.deletions).sum(),
            range_tombstones: tables.iter().filter_map(|open| Some(open.meta.ranges.as_ref()?.count)).sum(),
            expiring: tables.iter().filter_map(|open| Some(open.meta.expiries?.entries)).sum(),
            raw_bytes: tables
                .iter()
                .filter_map(|open| open.table().ok())
                .map(|table| table.properties().raw_key_bytes + table.properties().raw_value_bytes)
                .sum(),
        });
        let KeyspaceId(id) = keyspace.id;
        let compaction_filter = keyspace.options.lock().compaction_filter.clone();
        KeyspaceMetrics {
            name: keyspace.name.to_string(),
            id,
            merge_operator: keyspace.merging.as_ref().map(|merging| merging.name().to_owned()),
            levels: levels.collect(),
            active_entries: state.active.table.len(),
            active_range_tombstones: state.active.table.range_deletions(),
            sealed_memtables: state.sealed.len(),
            compaction_debt_bytes: self.picker.debt_bytes(&state.view.version),
            blob_files: state.view.blobs.len(),
            blob_bytes: state.view.blobs.iter().map(|open| open.meta.file_bytes).sum(),
            blob_garbage_bytes: state.view.version.blobs.values().map(|blob| blob.garbage_bytes()).sum(),
            ttl: keyspace.ttl_ms.map(Duration::from_millis),
            compaction_filter,
            compaction_filter_found: self.filter_of(keyspace).is_some(),
        }
    }
}
