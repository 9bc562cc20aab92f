//! The in-memory table of an LSM tree: many versions of each key, in internal-key order.
//!
//! One thread writes, any number read at the same time, none waits for another. Nothing is ever removed or changed: a
//! deletion is an entry, and a table is dropped whole once it has been flushed and its last reader is gone.
//!
//! ```
//! use esker_format::{InternalKey, SeqNo, ValueKind};
//! use esker_iterator::InternalIterator;
//! use esker_memtable::MemTable;
//! use std::sync::Arc;
//!
//! let table = Arc::new(MemTable::new());
//! table.insert(InternalKey::new(b"k", SeqNo(1), ValueKind::Put), b"old");
//! table.insert(InternalKey::new(b"k", SeqNo(5), ValueKind::Put), b"new");
//!
//! let (version, value) = table.get(b"k", SeqNo(4)).unwrap();
//! assert_eq!((version.seq(), value), (SeqNo(1), &b"old"[..]), "number 5 is not yet to be seen at 4");
//!
//! let mut iter = table.iter();
//! iter.seek_to_first()?;
//! assert_eq!(iter.value(), b"new", "the newest version comes first");
//! # Ok::<(), std::convert::Infallible>(())
//! ```
#![deny(unsafe_code)]

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

mod arena;
mod iter;
mod record;
mod skiplist;
mod slots;

pub use iter::MemTableIter;

use esker_format::{InternalKey, SeqNo, Trailer, ValueKind};
use skiplist::SkipList;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

/// A table in memory. See the crate's page for who may do what at the same time.
pub struct MemTable {
    /// Made by the first insert, so that the many empty tables of idle keyspaces weigh next to nothing.
    form: OnceLock<Box<SkipList>>,
    // Counters, written by the one who inserts. A reader that was handed the table, or a sequence number, after an insert sees
    // its count by that hand-over; `Relaxed` asks for nothing more.
    len: AtomicUsize,
    deletions: AtomicUsize,
    smallest_seq: AtomicU64,
    largest_seq: AtomicU64,
}

impl MemTable {
    /// An empty table. It owns nothing on the heap before the first insert.
    pub fn new() -> Self {
        Self {
            form: OnceLock::new(),
            len: AtomicUsize::new(0),
            deletions: AtomicUsize::new(0),
            smallest_seq: AtomicU64::new(u64::MAX),
            largest_seq: AtomicU64::new(0),
        }
    }

    /// Adds a version. `value` is empty for a deletion. When this returns, every search and walk that begins afterwards finds it.
    ///
    /// Meant for one writer at a time; others wait.
    ///
    /// # Panics
    /// If this very version (user key, sequence number and kind) is there already, or the user key is longer than
    /// [`KEY_BYTES_MAX`](esker_format::KEY_BYTES_MAX).
    pub fn insert(&self, key: InternalKey<'_>, value: &[u8]) {
        self.form.get_or_init(Box::default).insert(key, value);
        let seq = key.trailer.seq().0;
        self.smallest_seq.fetch_min(seq, Relaxed);
        self.largest_seq.fetch_max(seq, Relaxed);
        if key.trailer.kind() == ValueKind::Delete {
            self.deletions.fetch_add(1, Relaxed);
        }
        self.len.fetch_add(1, Relaxed);
    }

    /// The newest version of `user_key` at or below `seq`, with its value.
    pub fn get(&self, user_key: &[u8], seq: SeqNo) -> Option<(Trailer, &[u8])> {
        let record = self.form.get()?.get(InternalKey::seek(user_key, seq))?;
        let key = record.key();
        (key.user_key == user_key).then(|| (key.trailer, record.value()))
    }

    /// Bytes of memory it takes, the table itself included.
    pub fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.form.get().map_or(0, |form| form.memory_bytes())
    }

    /// How many versions there are, deletions included.
    pub fn len(&self) -> usize {
        self.len.load(Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many versions are deletions.
    pub fn deletions(&self) -> usize {
        self.deletions.load(Relaxed)
    }

    /// The smallest and the largest sequence number in it; `None` if it is empty.
    pub fn seq_range(&self) -> Option<(SeqNo, SeqNo)> {
        let range = (SeqNo(self.smallest_seq.load(Relaxed)), SeqNo(self.largest_seq.load(Relaxed)));
        (!self.is_empty()).then_some(range)
    }

    /// An iterator, which keeps the table alive.
    pub fn iter(self: &Arc<Self>) -> MemTableIter {
        MemTableIter::new(Arc::clone(self))
    }
}

impl Default for MemTable {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemTable")
            .field("len", &self.len())
            .field("seq_range", &self.seq_range())
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}
