//! Memtables with their memory counted, for as long as anyone, an old iterator too, holds them.

use esker_format::{SeqNo, Trailer};
use esker_memtable::{MemTable, MemTableIter};
use esker_vfs::Vfs;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// The sum over all memtables that are alive, in bytes.
#[derive(Debug, Default)]
pub(crate) struct MemoryUse(AtomicUsize);

impl MemoryUse {
    // Relaxed throughout: a figure to compare with a limit; it publishes nothing.
    pub(crate) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
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
            table: Arc::new(MemTable::new()),
            clock: Arc::clone(vfs),
            filled: OnceLock::new(),
            counted: AtomicUsize::new(0),
            batch_end: AtomicU64::new(0),
            sum: Arc::clone(sum),
        })
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
            self.sum.0.fetch_add(now.wrapping_sub(before), Ordering::Relaxed);
        }
    }

    pub(crate) fn get(&self, user_key: &[u8], seq: SeqNo) -> Option<(Trailer, &[u8])> {
        self.table.get(user_key, seq)
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
        self.sum.0.fetch_sub(*self.counted.get_mut(), Ordering::Relaxed);
    }
}
