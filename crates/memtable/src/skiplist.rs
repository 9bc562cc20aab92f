//! The skip list form.
//!
//! ```text
//!   SkipMap   {head, record} -> index            found by search
//!                    |            |
//!                    v            v
//!   record    trailer | user key | value         slots[index]   {record, prev, next}
//! ```
//! `crossbeam_skiplist::SkipMap` finds entries; a list threaded through the slots walks them, both ways, at one load a step. Both
//! lead to the same record, one allocation that never moves. The first 16 bytes of a key lie in the map's nodes, so most
//! comparisons of a search need nothing else.
//!
//! An insert publishes the entry in the map first, then links it. Between the two its own links are `PENDING`, and a reader
//! who stands on it searches the map instead. A reader elsewhere passes it by: it was not inserted yet.
//!
//! Invariants
//! - No key is inserted twice. (Replacing one in a `SkipMap` opens a moment in which a concurrent search finds neither.)
//! - The links of entries whose insert has returned are in key order.
//! - One thread inserts at a time: the lock in [`SkipList`] holds that, and costs little where the caller holds it too.

use crate::record::Record;
use crate::slots::Slots;
use crossbeam_skiplist::SkipMap;
use esker_format::InternalKey;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Mutex, OnceLock};

/// Where an entry stands. Indices are given in the order of insertion.
pub(crate) type Index = u32;

/// No entry.
pub(crate) const NONE: Index = u32::MAX;

/// A link that is not set yet.
const PENDING: Index = u32::MAX - 1;

#[derive(Default)]
struct Slot {
    record: OnceLock<Record>,
    prev: AtomicU32,
    next: AtomicU32,
}

/// Entries in internal-key order.
pub(crate) struct SkipList {
    map: SkipMap<Key, Index>,
    slots: Slots<Slot>,
    /// The ends of the list through the slots.
    first: AtomicU32,
    last: AtomicU32,
    allocated_bytes: AtomicUsize,
    /// How many slots are taken; locked by the one who inserts.
    taken: Mutex<usize>,
}

impl SkipList {
    pub(crate) fn new() -> Self {
        Self {
            map: SkipMap::new(),
            slots: Slots::new(),
            first: AtomicU32::new(NONE),
            last: AtomicU32::new(NONE),
            allocated_bytes: AtomicUsize::new(0),
            taken: Mutex::new(0),
        }
    }

    /// Heap bytes, without the list itself.
    pub(crate) fn allocated_bytes(&self) -> usize {
        self.allocated_bytes.load(Relaxed)
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// If the key is there already, or is longer than a key may be; or at some 4.29 billion entries.
    pub(crate) fn insert(&self, key: InternalKey<'_>, value: &[u8]) {
        let record = Record::new(key, value);
        let mut taken = self.taken.lock().expect("no insert has panicked");
        let (slot, slot_bytes) = self.slots.get_or_make(*taken);
        let index = *taken as Index;
        slot.prev.store(PENDING, Relaxed);
        slot.next.store(PENDING, Relaxed);
        let bytes = slot_bytes + record.allocated_bytes() + NODE_BYTES;
        let key = Key { head: head(key.user_key), record: record.clone() };
        assert!(slot.record.set(record).is_ok(), "a slot is taken once");

        let entry = self.map.get_or_insert(key, index);
        assert!(*entry.value() == index, "{:?} is there already", entry.key().record.key());

        // From here on readers may stand on the entry. Its neighbour in the map is linked, as every entry but this one is.
        let next = entry.next().map_or(NONE, |next| *next.value());
        let to_next = if next == NONE { &self.last } else { &self.slot(next).prev };
        let prev = to_next.load(Relaxed);
        let to_prev = if prev == NONE { &self.first } else { &self.slot(prev).next };
        // Release, for the Acquire in `follow`: who comes to an entry by a link sees the entry.
        slot.prev.store(prev, Release);
        slot.next.store(next, Release);
        to_prev.store(index, Release);
        to_next.store(index, Release);

        *taken += 1;
        self.allocated_bytes.fetch_add(bytes, Relaxed);
    }

    #[inline]
    fn slot(&self, index: Index) -> &Slot {
        self.slots.get(index as usize).expect("an index is given out after its slot is made")
    }

    /// The entry at `index`, which a search, a link or an end gave.
    #[inline]
    pub(crate) fn record(&self, index: Index) -> &Record {
        self.slot(index).record.get().expect("a slot is filled before its index is given out")
    }

    /// The first entry, or `NONE`.
    pub(crate) fn first(&self) -> Index {
        self.first.load(Acquire)
    }

    /// The last entry, or `NONE`.
    pub(crate) fn last(&self) -> Index {
        self.last.load(Acquire)
    }

    /// The first entry at or behind `target`, or `NONE`.
    pub(crate) fn at_or_behind(&self, target: InternalKey<'_>) -> Index {
        self.first_from(Bound::Included(target))
    }

    /// The last entry at or before `target`, or `NONE`.
    pub(crate) fn at_or_before(&self, target: InternalKey<'_>) -> Index {
        self.last_to(Bound::Included(target))
    }

    /// The entry behind `index`, or `NONE`.
    #[inline]
    pub(crate) fn next(&self, index: Index) -> Index {
        match self.slot(index).next.load(Acquire) {
            PENDING => self.first_from(Bound::Excluded(self.record(index).key())),
            next => next,
        }
    }

    /// The entry before `index`, or `NONE`.
    #[inline]
    pub(crate) fn prev(&self, index: Index) -> Index {
        match self.slot(index).prev.load(Acquire) {
            PENDING => self.last_to(Bound::Excluded(self.record(index).key())),
            prev => prev,
        }
    }

    fn first_from(&self, bound: Bound<InternalKey<'_>>) -> Index {
        let bound = bound.map(Target::new);
        self.map.lower_bound(bound.as_ref().map(|target| target as &dyn Probe)).map_or(NONE, |entry| *entry.value())
    }

    fn last_to(&self, bound: Bound<InternalKey<'_>>) -> Index {
        let bound = bound.map(Target::new);
        self.map.upper_bound(bound.as_ref().map(|target| target as &dyn Probe)).map_or(NONE, |entry| *entry.value())
    }
}

/// The first 16 bytes of a user key, zeros where it is shorter: where two of them differ, the keys differ the same way.
type Head = [u64; 2];

#[inline]
fn head(user_key: &[u8]) -> Head {
    let mut bytes = [0; 16];
    let len = user_key.len().min(16);
    bytes[..len].copy_from_slice(&user_key[..len]);
    let word = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
    [word(0), word(8)]
}

/// What lies in a node of the map.
struct Key {
    head: Head,
    record: Record,
}

/// What is sought in the map, borrowed.
struct Target<'a> {
    head: Head,
    key: InternalKey<'a>,
}

impl<'a> Target<'a> {
    #[inline]
    fn new(key: InternalKey<'a>) -> Self {
        Self { head: head(key.user_key), key }
    }
}

/// Bytes of a node of the map: value (padded), key, counter, and a tower of two links on average.
const NODE_BYTES: usize = size_of::<usize>() + size_of::<Key>() + size_of::<usize>() + 2 * size_of::<usize>();

/// The common face of [`Key`] and [`Target`], by which the map's own keys are compared with a borrowed one.
trait Probe {
    fn head(&self) -> Head;
    fn key(&self) -> InternalKey<'_>;
}

impl Probe for Key {
    #[inline]
    fn head(&self) -> Head {
        self.head
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.record.key()
    }
}

impl Probe for Target<'_> {
    #[inline]
    fn head(&self) -> Head {
        self.head
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.key
    }
}

impl<'a> Borrow<dyn Probe + 'a> for Key {
    #[inline]
    fn borrow(&self) -> &(dyn Probe + 'a) {
        self
    }
}

#[inline]
fn compare<A: Probe + ?Sized, B: Probe + ?Sized>(a: &A, b: &B) -> Ordering {
    a.head().cmp(&b.head()).then_with(|| a.key().cmp(&b.key()))
}

impl Ord for dyn Probe + '_ {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other)
    }
}

impl PartialOrd for dyn Probe + '_ {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for dyn Probe + '_ {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for dyn Probe + '_ {}

impl Ord for Key {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        compare(self, other)
    }
}

impl PartialOrd for Key {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Key {}
