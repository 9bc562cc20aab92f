//! The in-memory table of an LSM tree: many versions of each key, in internal-key order.
//!
//! One thread writes, any number read at the same time, none waits for another, unless entries were inserted loose. Nothing is ever
//! removed or changed: a deletion is an entry, and a table is dropped whole once it has been flushed and its last reader is gone.
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
mod list;
mod list_model;
// Beside the module, which is compiled a second time by its model.
#[cfg(test)]
#[path = "list/tests.rs"]
mod list_tests;
mod pool;
mod prefetch;
mod ranges;
mod record;
mod room;
mod skiplist;
mod slots;
mod sync;
mod tree;

pub use iter::MemTableIter;
pub use pool::ArenaPool;

use esker_format::{InternalKey, KeyHash, SeqNo, Trailer, ValueKind};
use esker_iterator::{RangeTombstone, RangeTombstoneBuf, RangeTombstones};
use ranges::Ranges;
use skiplist::SkipList;
use std::fmt;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use tree::Tree;

/// Slots of a node of the tree.
const SLOTS: usize = 128;

/// What a table is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Form {
    /// An append-only B+-tree with a hash index: the fast one.
    #[default]
    Tree,
    /// A skip list: the plain one, against which the other is tested.
    SkipList,
}

/// A form, made.
#[expect(clippy::large_enum_variant, reason = "it is boxed, once for a table, and the larger one is the rarer")]
enum Body {
    Tree(Tree<SLOTS>),
    List(SkipList),
}

/// A table in memory. See the crate's page for who may do what at the same time.
pub struct MemTable {
    /// Made by the first insert, so that the many empty tables of idle keyspaces weigh next to nothing.
    body: OnceLock<Box<Body>>,
    form: Form,
    pool: Option<ArenaPool>,
    counters: Counters,
    /// Made by the first range tombstone.
    ranges: OnceLock<Box<Ranges>>,
}

/// What is counted of the entries.
///
/// Written by the one who inserts, under the form's lock. A reader that was handed the table, or a sequence number, after an
/// insert sees its count by that hand-over; `Relaxed` asks for nothing more.
struct Counters {
    len: AtomicUsize,
    deletions: AtomicUsize,
    smallest_seq: AtomicU64,
    largest_seq: AtomicU64,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            len: AtomicUsize::new(0),
            deletions: AtomicUsize::new(0),
            smallest_seq: AtomicU64::new(u64::MAX),
            largest_seq: AtomicU64::new(0),
        }
    }
}

impl Counters {
    /// Counts an entry. One thread at a time: these are stores, which cost less than additions that others could cross.
    #[inline]
    fn add(&self, trailer: Trailer) {
        let seq = trailer.seq().0;
        if seq < self.smallest_seq.load(Relaxed) {
            self.smallest_seq.store(seq, Relaxed);
        }
        if seq > self.largest_seq.load(Relaxed) {
            self.largest_seq.store(seq, Relaxed);
        }
        if trailer.kind() == ValueKind::Delete {
            self.deletions.store(self.deletions.load(Relaxed) + 1, Relaxed);
        }
        self.len.store(self.len.load(Relaxed) + 1, Relaxed);
    }
}

impl MemTable {
    /// An empty table. It owns nothing on the heap before the first insert.
    pub fn new() -> Self {
        Self::with_form(Form::default())
    }

    /// An empty table of a form.
    pub fn with_form(form: Form) -> Self {
        Self { body: OnceLock::new(), form, pool: None, counters: Counters::default(), ranges: OnceLock::new() }
    }

    /// An empty table that draws memory from `pool`, and leaves it what it held when it is dropped.
    pub fn with_pool(pool: ArenaPool) -> Self {
        Self { pool: Some(pool), ..Self::new() }
    }

    fn body(&self) -> Option<&Body> {
        self.body.get().map(|body| &**body)
    }

    #[cold]
    fn make_body(&self) -> Box<Body> {
        Box::new(match self.form {
            Form::Tree => Body::Tree(Tree::new(self.pool.as_ref().map(|pool| Arc::clone(&pool.0)))),
            Form::SkipList => Body::List(SkipList::default()),
        })
    }

    /// Adds a version. `value` is empty for a deletion. When this returns, every search and walk that begins afterwards finds it.
    ///
    /// A key of kind [`ValueKind::RangeDelete`] is a range tombstone: it begins there, and `value` is where it ends, or empty. It is no entry: searches and walks pass it by, and
    /// [`newest_covering`](Self::newest_covering) and [`range_tombstones`](Self::range_tombstones) tell of it.
    ///
    /// Meant for one writer at a time; others wait.
    ///
    /// # Panics
    /// If a range tombstone is not newer than those before it.
    ///
    /// If this very version (user key, sequence number and kind) is there already, or the user key is longer than
    /// [`KEY_BYTES_MAX`](esker_format::KEY_BYTES_MAX).
    pub fn insert(&self, key: InternalKey<'_>, value: &[u8]) {
        self.insert_hashed(key, KeyHash::of(key.user_key), value);
    }

    /// As [`insert`](Self::insert), for a caller who has the hash of the user key. A wrong one makes [`get`](Self::get) wrong.
    ///
    /// # Panics
    /// As [`insert`](Self::insert).
    #[inline]
    pub fn insert_hashed(&self, key: InternalKey<'_>, hash: KeyHash, value: &[u8]) {
        if is_range_tombstone(key.trailer) {
            return self.insert_range(key, value);
        }
        match &**self.body.get_or_init(|| self.make_body()) {
            Body::Tree(tree) => tree.insert(key, hash, value, &self.counters),
            Body::List(list) => list.insert(key, value, &self.counters),
        }
    }

    #[cold]
    fn insert_range(&self, key: InternalKey<'_>, end: &[u8]) {
        let ranges = self.ranges.get_or_init(|| Box::new(Ranges::new()));
        ranges.insert(RangeTombstone { begin: key.user_key, end, seq: key.trailer.seq() });
    }

    /// As [`insert_hashed`](Self::insert_hashed) of many versions, none of them a range tombstone, for a caller who has a great many and nobody who looks for them yet: they are put in order all at
    /// once, by [`tie`](Self::tie) or by the first search or seek that needs it (others that do wait), which costs less than one by one. A walk that has begun before sees
    /// them when that is done.
    ///
    /// # Panics
    /// As [`insert`](Self::insert); but where a version is there already perhaps only when they are put in order.
    pub fn insert_loose<'a>(&self, entries: impl Iterator<Item = (InternalKey<'a>, KeyHash, &'a [u8])> + Clone) {
        debug_assert!(
            entries.clone().all(|(key, ..)| !is_range_tombstone(key.trailer)),
            "range tombstones are no entries"
        );
        match &**self.body.get_or_init(|| self.make_body()) {
            Body::Tree(tree) => tree.insert_loose(entries, &self.counters),
            Body::List(list) => entries.for_each(|(key, _, value)| list.insert(key, value, &self.counters)),
        }
    }

    /// Puts in order what was [inserted loose](Self::insert_loose).
    ///
    /// # Panics
    /// If a version was inserted twice.
    pub fn tie(&self) {
        if let Some(Body::Tree(tree)) = self.body() {
            tree.tie();
        }
    }

    /// Asks for what an insert or a look-up of a key with this hash will touch first: a hint, for those who know some keys ahead.
    #[inline]
    pub fn prefetch(&self, hash: KeyHash) {
        if let Some(Body::Tree(tree)) = self.body() {
            tree.prefetch(hash);
        }
    }

    /// The newest version of `user_key` at or below `seq`, with its value.
    #[inline]
    pub fn get(&self, user_key: &[u8], seq: SeqNo) -> Option<(Trailer, &[u8])> {
        self.get_hashed(user_key, KeyHash::of(user_key), seq)
    }

    /// As [`get`](Self::get), for a caller who has the hash of the user key.
    #[inline]
    pub fn get_hashed(&self, user_key: &[u8], hash: KeyHash, seq: SeqNo) -> Option<(Trailer, &[u8])> {
        let record = match self.body()? {
            Body::Tree(tree) => tree.get(user_key, hash, seq)?,
            Body::List(list) => list.get(InternalKey::seek(user_key, seq)).filter(|r| r.user_key() == user_key)?,
        };
        Some((record.trailer(), record.value()))
    }

    /// Whether a range was deleted. A table without one pays no more for those than this.
    #[inline]
    pub fn has_range_tombstones(&self) -> bool {
        self.ranges.get().is_some()
    }

    /// The sequence number of the newest range tombstone that covers `user_key`, as of `seq`.
    pub fn newest_covering(&self, user_key: &[u8], seq: SeqNo) -> Option<SeqNo> {
        self.ranges.get()?.newest_covering(user_key, seq)
    }

    /// The range tombstones that are seen at `seq`; `None` if there are none at all.
    pub fn range_tombstones(&self, seq: SeqNo) -> Option<RangeTombstones> {
        self.ranges.get().map(|ranges| ranges.as_of(seq))
    }

    /// All range tombstones, as they were inserted, the oldest first.
    pub fn range_tombstones_given(&self) -> Vec<RangeTombstoneBuf> {
        self.ranges.get().map_or_else(Vec::new, |ranges| ranges.given())
    }

    /// Bytes of memory it takes, the table itself included. What lies in its pool is not among them.
    pub fn memory_bytes(&self) -> usize {
        let body = match self.body() {
            None => 0,
            // The rest of the box is as large as the larger form.
            Some(Body::Tree(tree)) => tree.memory_bytes() + size_of::<Body>() - size_of::<Tree<SLOTS>>(),
            Some(Body::List(list)) => list.memory_bytes() + size_of::<Body>() - size_of::<SkipList>(),
        };
        size_of::<Self>() + body + self.ranges.get().map_or(0, |ranges| ranges.memory_bytes())
    }

    /// About which share of the versions, from 0 to 1, lies before `target`: by what the nodes on the way to it have on either side. Two of them tell about how many lie between two keys.
    ///
    /// ```
    /// use esker_format::{InternalKey, SeqNo, ValueKind};
    /// let table = esker_memtable::MemTable::new();
    /// for i in 0..100u8 {
    ///     table.insert(InternalKey::new(&[i], SeqNo(u64::from(i)), ValueKind::Put), b"");
    /// }
    /// let share = table.share_before(InternalKey::before_all(&[25]));
    /// assert!((share - 0.25).abs() < 0.1, "{share}");
    /// ```
    pub fn share_before(&self, target: InternalKey<'_>) -> f64 {
        match self.body() {
            None => 0.0,
            Some(Body::Tree(tree)) => tree.share_before(target),
            Some(Body::List(list)) => list.share_before(target),
        }
    }

    /// How many versions there are, deletions included; range tombstones are none.
    pub fn len(&self) -> usize {
        self.counters.len.load(Relaxed)
    }

    /// Whether there are any.
    pub fn has_entries(&self) -> bool {
        self.counters.len.load(Relaxed) != 0
    }

    /// Whether there are none, nor range tombstones.
    pub fn is_empty(&self) -> bool {
        !self.has_entries() && !self.has_range_tombstones()
    }

    /// How many range tombstones there are.
    pub fn range_deletions(&self) -> usize {
        self.ranges.get().map_or(0, |ranges| ranges.len())
    }

    /// How many versions are deletions.
    pub fn deletions(&self) -> usize {
        self.counters.deletions.load(Relaxed)
    }

    /// The smallest and the largest sequence number in it, of range tombstones too; `None` if it is empty.
    pub fn seq_range(&self) -> Option<(SeqNo, SeqNo)> {
        let counters = &self.counters;
        let range = (SeqNo(counters.smallest_seq.load(Relaxed)), SeqNo(counters.largest_seq.load(Relaxed)));
        let count = self.len();
        let entries = (count > 0).then_some(range);
        let ranges = self.ranges.get().and_then(|ranges| ranges.seq_range());
        entries.into_iter().chain(ranges).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
    }

    /// An iterator, which keeps the table alive.
    pub fn iter(self: &Arc<Self>) -> MemTableIter {
        MemTableIter::new(Arc::clone(self))
    }
}

#[inline]
fn is_range_tombstone(trailer: Trailer) -> bool {
    trailer.to_bits() as u8 == ValueKind::RangeDelete as u8
}

impl Default for MemTable {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for MemTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemTable")
            .field("form", &self.form)
            .field("len", &self.len())
            .field("range_deletions", &self.range_deletions())
            .field("seq_range", &self.seq_range())
            .field("memory_bytes", &self.memory_bytes())
            .finish_non_exhaustive()
    }
}
