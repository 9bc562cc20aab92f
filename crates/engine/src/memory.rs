//! Memtables with their memory counted, for as long as anyone, an old iterator too, holds them.

use esker_format::{KeyHash, SeqNo, Trailer};
use esker_memtable::{ArenaPool, MemTable, MemTableIter};
use esker_vfs::Vfs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The sum over all memtables that are alive, in bytes, and the pool that goes from one to the next, which counts as well.
#[derive(Debug)]
pub(crate) struct MemoryUse {
    tables: AtomicUsize,
    pool: ArenaPool,
    /// With the tables, the pool stays below this: it gives way to them long before a writer has to wait.
    shared_max: usize,
}

impl MemoryUse {
    /// For memtables of `table_bytes` each, and `bytes_max` of all together.
    pub(crate) fn new(table_bytes: usize, bytes_max: usize) -> Self {
        let shared_max = bytes_max / 4 * 3;
        Self { tables: AtomicUsize::new(0), pool: ArenaPool::new(table_bytes.min(shared_max)), shared_max }
    }

    /// All of it.
    pub(crate) fn bytes(&self) -> usize {
        self.tables_bytes() + self.pool_bytes()
    }

    /// What the tables hold.
    pub(crate) fn tables_bytes(&self) -> usize {
        // Relaxed throughout: a figure to compare with a limit; it publishes nothing.
        self.tables.load(Ordering::Relaxed)
    }

    /// What lies in the pool.
    pub(crate) fn pool_bytes(&self) -> usize {
        self.pool.bytes()
    }

    /// Has memory ready for what a table that fills up will take yet.
    pub(crate) fn prepare(&self, bytes: usize) {
        self.pool.prepare(bytes.min(self.room_for_pool()));
    }

    /// Lets go of half of the pool: nothing is written.
    pub(crate) fn release_some(&self) {
        self.pool.shrink_to(self.pool.bytes() / 2);
    }

    fn room_for_pool(&self) -> usize {
        self.shared_max.saturating_sub(self.tables_bytes())
    }
}

/// A memtable of one keyspace, active or sealed.
#[derive(Debug)]
pub(crate) struct CountedTable {
    pub(crate) table: Arc<MemTable>,
    clock: Arc<dyn Vfs>,
    /// When the first entry came, by the engine's clock.
    filled: OnceLock<Duration>,
    counted: AtomicUsize,
    batch_end: AtomicU64,
    sum: Arc<MemoryUse>,
}

impl CountedTable {
    pub(crate) fn new(sum: &Arc<MemoryUse>, vfs: &Arc<dyn Vfs>) -> Arc<Self> {
        Arc::new(Self {
            table: Arc::new(MemTable::with_pool(sum.pool.clone())),
            clock: Arc::clone(vfs),
            filled: OnceLock::new(),
            counted: AtomicUsize::new(0),
            batch_end: AtomicU64::new(0),
            sum: Arc::clone(sum),
        })
    }

    /// What of it is in the sum.
    pub(crate) fn counted_bytes(&self) -> usize {
        self.counted.load(Ordering::Relaxed)
    }

    /// How long ago the first entry came.
    pub(crate) fn filled_since(&self, now: Duration) -> Duration {
        self.filled.get().map_or(Duration::ZERO, |filled| now.saturating_sub(*filled))
    }

    /// Brings the sum up to date. Called by the one writer after inserts of a batch that ends with `batch_end`, in whichever keyspace that is.
    pub(crate) fn count(&self, batch_end: SeqNo) {
        // Relaxed: whoever asks has the commit lock, or looks at a table that is sealed.
        self.batch_end.store(batch_end.0, Ordering::Relaxed);
        let now = self.table.memory_bytes();
        self.filled.get_or_init(|| self.clock.clock().now());
        let before = self.counted.load(Ordering::Relaxed);
        // Memory comes in chunks, so most batches change nothing.
        if now != before {
            self.counted.store(now, Ordering::Relaxed);
            self.sum.tables.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
            let room = self.sum.room_for_pool();
            if self.sum.pool.bytes() > room {
                self.sum.pool.shrink_to(room);
            }
        }
    }

    pub(crate) fn get(&self, user_key: &[u8], hash: KeyHash, seq: SeqNo) -> Option<(Trailer, &[u8])> {
        self.table.get_hashed(user_key, hash, seq)
    }

    pub(crate) fn iter(&self) -> MemTableIter {
        self.table.iter()
    }

    pub(crate) fn first_seq(&self) -> Option<SeqNo> {
        self.table.seq_range().map(|(first, _)| first)
    }

    /// The last sequence number of the last batch that wrote here; that operation may be in another keyspace.
    pub(crate) fn batch_end(&self) -> SeqNo {
        SeqNo(self.batch_end.load(Ordering::Relaxed))
    }

    pub(crate) fn last_seq(&self) -> Option<SeqNo> {
        self.table.seq_range().map(|(_, last)| last)
    }
}

impl Drop for CountedTable {
    fn drop(&mut self) {
        self.sum.tables.fetch_sub(*self.counted.get_mut(), Ordering::Relaxed);
    }
}
