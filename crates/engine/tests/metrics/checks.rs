//! Each figure against what it must be by what the driver has done, by events, by the files there are, and by what was done to them.

use super::{Driver, MAPPED_END_BYTES, Memtables, NAMES, keyspace_options, memtables_of};
use crate::files;
use esker::Metrics;
use esker::vfs::{Event, Operation, Vfs};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::Duration;

impl Driver {
    /// Each figure against what it must be.
    pub(super) fn check(&mut self) {
        let metrics = self.engine().metrics();
        self.check_keyspaces(&metrics);
        self.check_counts(&metrics);
        self.check_memory(&metrics);
        self.check_logs(&metrics);
    }

    fn check_keyspaces(&self, metrics: &Metrics) {
        let (on_disk, left) = files::count(&*self.vfs, &self.dir);
        assert_eq!(metrics.keyspaces.len(), NAMES.len());
        let mut mapped = left;
        for (at, (found, name)) in metrics.keyspaces.iter().zip(NAMES).enumerate() {
            let (there, options) = (&on_disk[&found.id], keyspace_options(name));
            assert_eq!((found.name.as_str(), found.id), (name, self.keyspaces[at].id().0));
            assert_eq!(found.levels, there.levels, "{name}");
            assert_eq!(found.table_bytes(), there.levels.iter().map(|level| level.bytes).sum::<u64>());
            assert_eq!(found.blob_files, there.blob_files, "{name}");
            assert_eq!(
                (found.blob_bytes, found.blob_garbage_bytes),
                (there.blob_bytes, there.blob_garbage_bytes),
                "{name}"
            );
            assert_eq!(memtables_of(metrics, at), self.memtables[at], "{name}");
            assert_eq!(found.merge_operator, options.merge_operator);
            assert_eq!((found.ttl, &found.compaction_filter), (options.ttl, &options.compaction_filter));
            assert_eq!(found.compaction_filter_found, options.compaction_filter.is_some());
            assert!(found.levels[0].tables < 2 || found.compaction_debt_bytes > 0, "two tables in L0 are to be merged");
            mapped += found.table_bytes() + found.blob_bytes;
        }
        // What is there and not named any more is held by readers, or waits to be unlinked.
        assert!(metrics.pinned_table_bytes <= left, "{} of {left} pinned", metrics.pinned_table_bytes);
        if self.held.is_empty() && self.iters.is_empty() {
            assert_eq!(metrics.pinned_table_bytes, 0, "nobody holds anything");
        }
        let named = mapped - left;
        assert_eq!(metrics.mapped_bytes, named + metrics.pinned_table_bytes, "all that is open is mapped");
        assert_eq!(metrics.table_heap_bytes > 0, metrics.mapped_bytes > 0);
        assert_eq!(metrics.unreadable_pages, 0, "no map is guarded");
    }

    fn check_counts(&mut self, metrics: &Metrics) {
        let told = self.told.sums().clone();
        assert_eq!(metrics.last_seq, self.last_seq);
        assert_eq!((metrics.writes, metrics.conflicts), (self.writes, self.conflicts));
        assert_eq!((metrics.stalls, metrics.stall_time), (self.stalls, Duration::ZERO), "by hand nobody waits");
        assert_eq!(metrics.transaction_tracking_bytes, 0, "no transaction is open");
        assert_eq!((metrics.read_errors, metrics.background_errors, told.background_errors), (0, 0, 0));
        assert_eq!((&metrics.writing_stopped, &metrics.quarantined_tables), (&None, &vec![]));
        assert_eq!(metrics.left_out_of_recovery, [""; 0]);
        assert_eq!((metrics.flushes, metrics.flush_bytes), (told.flushes, told.flush_bytes));
        assert_eq!((metrics.ingested_tables, metrics.ingested_bytes), (told.ingested_tables, told.ingested_bytes));
        assert_eq!(metrics.compactions, told.compactions);
        assert!(metrics.compactions_for_reads <= metrics.compactions);
        assert_eq!(metrics.compaction_read_bytes, told.compaction_read_bytes);
        assert_eq!(metrics.compaction_written_bytes, told.compaction_written_bytes);
        assert_eq!((metrics.merge_failures, metrics.filter_failures), (0, 0));
        assert_eq!(metrics.filtered_entries, self.removed.load(Ordering::Relaxed));
        assert_eq!(metrics.snapshots, self.held.len());
        let oldest = self.held.first().map(|(_, taken)| self.vfs.clock().now() - *taken);
        match (metrics.oldest_snapshot_age, oldest) {
            (Some(age), Some(oldest)) if self.clock.is_some() => assert_eq!(age, oldest),
            (Some(age), Some(oldest)) => assert!(age <= oldest && age + Duration::from_secs(60) > oldest),
            (age, oldest) => assert_eq!(age.is_some(), oldest.is_some()),
        }
    }

    fn check_memory(&mut self, metrics: &Metrics) {
        let in_memtables = self.memtables.iter().any(|memtables| *memtables != Memtables::default());
        assert!(metrics.memtable_bytes > 0 || !in_memtables, "{:?}", self.memtables);
        if self.iters.is_empty() && self.held.is_empty() {
            assert_eq!(metrics.pinned_memtable_bytes, 0, "nobody holds any");
        }
        assert!(metrics.pinned_memtable_bytes <= metrics.memtable_bytes);
        assert!(metrics.memtable_bytes + metrics.memtable_pool_bytes <= self.options.memory_budget_bytes);
        assert!(metrics.block_cache_bytes <= self.options.memory_budget_bytes as u64 / 4);
        let asked = metrics.block_cache_hits + metrics.block_cache_misses;
        assert!(asked >= self.cache_asked, "it only grows");
        self.cache_asked = asked;
        assert!(metrics.block_cache_bytes == 0 || metrics.block_cache_misses > 0, "what is in it was not in it once");
    }

    fn check_logs(&self, metrics: &Metrics) {
        let names = self.vfs.list(&self.dir).unwrap();
        let logs: Vec<_> = names.iter().filter(|name| name.ends_with(".wal")).collect();
        let bytes: u64 = logs.iter().map(|name| self.vfs.metadata(&self.dir.join(name)).unwrap().len_bytes).sum();
        let counted = metrics.logs + metrics.retained_logs;
        // Besides, there may be one made ahead, one kept to be used again, and what waits to be unlinked.
        assert!(counted <= logs.len(), "{counted} logs of {logs:?}");
        assert!(metrics.log_bytes + metrics.retained_log_bytes <= bytes, "{metrics:?}: {bytes} in {logs:?}");
        assert!(self.options.wal_retain_bytes.is_some() || metrics.retained_logs == 0);
        let tables = metrics.flush_bytes + metrics.compaction_written_bytes + metrics.ingested_bytes;
        assert!(metrics.written_bytes >= tables + metrics.log_bytes, "{metrics:?}");
    }

    /// What the figures say of files against what was done to them.
    pub(crate) fn check_trace(&self) {
        let metrics = self.engine().metrics();
        let events = self.vfs.events();
        let bytes = |operation: Operation, path: &str| -> u64 {
            self.vfs.find(operation, path).into_iter().map(|at| events[at].len_bytes).sum()
        };
        let tables = bytes(Operation::Append, "*.sst.tmp") + bytes(Operation::Append, "*.blob.tmp");
        assert_eq!(metrics.flush_bytes + metrics.compaction_written_bytes + metrics.ingested_bytes, tables);
        // A file that is made ready for the log is synced too, when nothing is in it yet.
        let written = |path: &Path, before: usize| {
            let stores = |event: &Event| matches!(event.operation, Operation::Append | Operation::Store);
            events[..before].iter().any(|event| event.path == path && stores(event))
        };
        let syncs = self.vfs.find(Operation::Sync, "*.wal").into_iter().filter(|at| written(&events[*at].path, *at));
        assert_eq!(metrics.log_syncs as usize, syncs.count());
        let mut logs = BTreeMap::new();
        for event in &events {
            let end = match event.operation {
                Operation::Append => event.offset + event.len_bytes,
                // Behind what is stored come zeros that end it, which the next record takes the place of.
                Operation::Store => (event.offset + event.len_bytes).saturating_sub(MAPPED_END_BYTES),
                _ => continue,
            };
            if event.path.extension().is_some_and(|extension| extension == "wal") {
                let longest = logs.entry(&event.path).or_insert(0);
                *longest = end.max(*longest);
            }
        }
        let logs: u64 = logs.values().sum();
        assert_eq!(metrics.written_bytes - self.written_before, tables + logs);
    }
}
