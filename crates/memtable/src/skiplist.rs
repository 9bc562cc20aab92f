//! The skip list form.
//!
//! ```text
//!   SkipMap  {head, index, chunk, offset}         slots[index]  {chunk, offset, prev, next}
//!                             |                                       |
//!                             v                                       v
//!   chunks   ...  header | user key | value   ...                the same record
//! ```
//! `crossbeam_skiplist::SkipMap` finds entries; a list threaded through the slots walks them, both ways, at one load a step. Both
//! lead to the same record, which lies in an [arena](crate::arena) and never moves. The first 16 bytes of a user key lie in the
//! map's nodes, so that most comparisons of a search need nothing else.
//!
//! An insert publishes the entry in the map first, then links it. Between the two its own links are `PENDING`, and a reader
//! who stands on it searches the map instead. A reader elsewhere passes it by: it was not inserted yet.
//!
//! Invariants
//! - No key is inserted twice. (Replacing one in a `SkipMap` opens a moment in which a concurrent search finds neither.)
//! - The links of entries whose insert has returned are in key order.
//! - One thread inserts at a time: the lock on [`Writer`] sees to that, and costs little where the caller does too.

use crate::Counters;
use crate::arena::{Chunk, Right};
use crate::record::{self, Record};
use crate::slots::Slots;
use crossbeam_skiplist::SkipMap;
use esker_format::InternalKey;
use std::borrow::Borrow;
use std::cmp::Ordering;
use std::ops::Bound;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{Arc, Mutex, OnceLock};

/// Where an entry stands. Indices are given in the order of insertion.
pub(crate) type Index = u32;

/// No entry.
pub(crate) const NONE: Index = u32::MAX;

/// A link that is not set yet.
const PENDING: Index = u32::MAX - 1;

/// The first chunk, unless its record is longer; each is twice as large as the one before, up to the largest.
const FIRST_CHUNK_BYTES: usize = 1 << 10;
const LARGEST_CHUNK_BYTES: usize = 1 << 20;

/// Where a record lies and what is beside it. `chunk` and `offset` are set before the index is given out.
#[derive(Default)]
struct Slot {
    chunk: AtomicU32,
    offset: AtomicU32,
    prev: AtomicU32,
    next: AtomicU32,
}

/// Entries in internal-key order.
pub(crate) struct SkipList {
    map: SkipMap<Key, ()>,
    slots: Slots<Slot, 64>,
    chunks: Slots<OnceLock<Arc<Chunk>>, 8>,
    /// The ends of the list through the slots.
    first: AtomicU32,
    last: AtomicU32,
    /// On the heap.
    allocated_bytes: AtomicUsize,
    writer: Mutex<Writer>,
}

/// What only the one who inserts needs.
struct Writer {
    slots: usize,
    chunks: usize,
    /// The chunk that takes what fits, and its number.
    open: Option<(Arc<Chunk>, Right, u32)>,
    next_chunk_bytes: usize,
}

impl Default for SkipList {
    fn default() -> Self {
        Self {
            map: SkipMap::new(),
            slots: Slots::new(),
            chunks: Slots::new(),
            first: AtomicU32::new(NONE),
            last: AtomicU32::new(NONE),
            allocated_bytes: AtomicUsize::new(0),
            writer: Mutex::new(Writer { slots: 0, chunks: 0, open: None, next_chunk_bytes: FIRST_CHUNK_BYTES }),
        }
    }
}

impl SkipList {
    /// Bytes it takes, itself included.
    pub(crate) fn memory_bytes(&self) -> usize {
        size_of::<Self>() + self.allocated_bytes.load(Relaxed)
    }

    /// Adds an entry.
    ///
    /// # Panics
    /// If the key is there already, if key or value are longer than they may be, or at some 2.1 billion entries.
    pub(crate) fn insert(&self, key: InternalKey<'_>, value: &[u8], counters: &Counters) {
        let mut writer = self.writer.lock().expect("no insert has panicked");
        let (chunk, number, offset) = self.store(&mut writer, key, value);
        let (slot, slot_bytes) = self.slots.get_or_make(writer.slots);
        let index = writer.slots as Index;
        writer.slots += 1;
        slot.chunk.store(number, Relaxed);
        slot.offset.store(offset, Relaxed);
        slot.prev.store(PENDING, Relaxed);
        slot.next.store(PENDING, Relaxed);
        self.allocated_bytes.fetch_add(slot_bytes + NODE_BYTES, Relaxed);

        let entry = self.map.get_or_insert(Key { head: head(key.user_key), index, number, offset, chunk }, ());
        assert!(entry.key().index == index, "{key:?} is there already");

        // From here on readers may stand on the entry. Its neighbour in the map is linked, as every entry but this one is.
        let next = entry.next().map_or(NONE, |next| next.key().index);
        let to_next = if next == NONE { &self.last } else { &self.slot(next).prev };
        let prev = to_next.load(Relaxed);
        let to_prev = if prev == NONE { &self.first } else { &self.slot(prev).next };
        // Release, for the Acquire in `next`, `prev`, `first` and `last`: who comes to an entry by a link sees its slot.
        slot.prev.store(prev, Release);
        slot.next.store(next, Release);
        to_prev.store(index, Release);
        to_next.store(index, Release);
        counters.add(key.trailer);
    }

    /// Writes the record; returns the chunk, its number, and where in it the record begins.
    fn store(&self, writer: &mut Writer, key: InternalKey<'_>, value: &[u8]) -> (Arc<Chunk>, u32, u32) {
        let header = record::header(key, value, 0);
        let parts = [&header, key.user_key, value];
        if let Some((open, right, number)) = &mut writer.open
            && let Some(offset) = open.append(right, parts)
        {
            return (Arc::clone(open), *number, offset as u32);
        }
        let bytes: usize = parts.iter().map(|part| part.len()).sum();
        // A large record gets a chunk of its own, and the open one stays open: so no chunk is closed with much of it free.
        let is_large = bytes > LARGEST_CHUNK_BYTES / 4;
        let capacity = if is_large { bytes } else { writer.next_chunk_bytes.max(4 * bytes) };
        let (new, mut right) = Chunk::with_capacity(capacity);
        let offset = new.append(&mut right, parts).expect("a new chunk has room");
        let chunk = Arc::new(new);
        let number = writer.chunks as u32;
        let (place, list_bytes) = self.chunks.get_or_make(writer.chunks);
        assert!(place.set(Arc::clone(&chunk)).is_ok(), "a chunk's number is given out once");
        writer.chunks += 1;
        self.allocated_bytes.fetch_add(capacity + CHUNK_OVERHEAD_BYTES + list_bytes, Relaxed);
        if !is_large {
            writer.next_chunk_bytes = LARGEST_CHUNK_BYTES.min(2 * capacity);
            writer.open = Some((Arc::clone(&chunk), right, number));
        }
        (chunk, number, offset as u32)
    }

    #[inline]
    fn slot(&self, index: Index) -> &Slot {
        self.slots.get(index as usize).expect("a slot is made before its index is given out")
    }

    #[inline]
    fn record_at(&self, chunk: u32, offset: u32) -> Record<'_> {
        let chunk =
            self.chunks.get(chunk as usize).and_then(OnceLock::get).expect("a chunk is made before it is named");
        Record(chunk.since(offset as usize))
    }

    /// The entry at `index`, which a search, a link or an end gave.
    #[inline]
    pub(crate) fn record(&self, index: Index) -> Record<'_> {
        let slot = self.slot(index);
        self.record_at(slot.chunk.load(Relaxed), slot.offset.load(Relaxed))
    }

    /// The first entry, or `NONE`.
    pub(crate) fn first(&self) -> Index {
        self.first.load(Acquire)
    }

    /// The last entry, or `NONE`.
    pub(crate) fn last(&self) -> Index {
        self.last.load(Acquire)
    }

    /// The first entry at or behind `target`.
    pub(crate) fn get(&self, target: InternalKey<'_>) -> Option<Record<'_>> {
        let entry = self.map.lower_bound(Bound::Included(&Target::new(target) as &dyn Probe))?;
        Some(self.record_at(entry.key().number, entry.key().offset))
    }

    /// The index of the first entry at or behind `target`, or `NONE`.
    pub(crate) fn at_or_behind(&self, target: InternalKey<'_>) -> Index {
        self.first_from(Bound::Included(target))
    }

    /// The index of the last entry at or before `target`, or `NONE`.
    pub(crate) fn at_or_before(&self, target: InternalKey<'_>) -> Index {
        self.last_to(Bound::Included(target))
    }

    /// The share of the entries, from 0 to 1, that lie before `target`, by counting.
    pub(crate) fn share_before(&self, target: InternalKey<'_>) -> f64 {
        let (mut before, mut all, mut at) = (0u32, 0u32, self.first());
        while at != NONE {
            before += u32::from(self.record(at).key() < target);
            all += 1;
            at = self.next(at);
        }
        f64::from(before) / f64::from(all.max(1))
    }

    /// The index of the entry behind `index`, or `NONE`.
    #[inline]
    pub(crate) fn next(&self, index: Index) -> Index {
        match self.slot(index).next.load(Acquire) {
            PENDING => self.first_from(Bound::Excluded(self.record(index).key())),
            next => next,
        }
    }

    /// The index of the entry before `index`, or `NONE`.
    #[inline]
    pub(crate) fn prev(&self, index: Index) -> Index {
        match self.slot(index).prev.load(Acquire) {
            PENDING => self.last_to(Bound::Excluded(self.record(index).key())),
            prev => prev,
        }
    }

    fn first_from(&self, bound: Bound<InternalKey<'_>>) -> Index {
        let bound = bound.map(Target::new);
        self.map.lower_bound(bound.as_ref().map(|target| target as &dyn Probe)).map_or(NONE, |entry| entry.key().index)
    }

    fn last_to(&self, bound: Bound<InternalKey<'_>>) -> Index {
        let bound = bound.map(Target::new);
        self.map.upper_bound(bound.as_ref().map(|target| target as &dyn Probe)).map_or(NONE, |entry| entry.key().index)
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
    index: Index,
    number: u32,
    offset: u32,
    chunk: Arc<Chunk>,
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

/// What an allocation of a chunk takes, besides its bytes.
const CHUNK_OVERHEAD_BYTES: usize = size_of::<Chunk>() + 2 * size_of::<usize>();

/// Bytes of a node of the map: key, counter, and a tower of two links on average.
const NODE_BYTES: usize = size_of::<Key>() + size_of::<usize>() + 2 * size_of::<usize>();

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
        Record(self.chunk.since(self.offset as usize)).key()
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

#[cfg(test)]
mod tests {
    use super::*;
    use esker_format::{SeqNo, ValueKind};

    fn insert(list: &SkipList, key: &str, seq: u64) {
        let key = InternalKey::new(key.as_bytes(), SeqNo(seq), ValueKind::Put);
        list.insert(key, key.user_key, &Counters::default());
    }

    /// What a reader meets who finds an entry in the map before it is linked.
    #[test]
    fn steps_from_an_entry_that_is_not_linked_yet_search_the_map() {
        let list = SkipList::default();
        for (key, seq) in [("b", 1), ("a", 2), ("d", 3), ("b", 4), ("c", 5)] {
            insert(&list, key, seq);
        }
        for index in 0..5 {
            let linked = (list.next(index), list.prev(index));
            list.slot(index).next.store(PENDING, Relaxed);
            list.slot(index).prev.store(PENDING, Relaxed);
            assert_eq!((list.next(index), list.prev(index)), linked, "entry {index}");
        }
    }

    #[test]
    #[should_panic = "a#1,PUT is there already"]
    fn a_key_is_not_inserted_twice() {
        let list = SkipList::default();
        insert(&list, "a", 1);
        insert(&list, "a", 1);
    }

    #[test]
    fn where_heads_differ_the_keys_differ_the_same_way() {
        let keys: Vec<Vec<u8>> =
            ["", "\0", "\0\0", "a", "a\0", "b", "bbbbbbb", "bbbbbbbb", "bbbbbbbb\0", "bbbbbbbbbbbbbbbbb"]
                .map(|key| key.as_bytes().to_vec())
                .into_iter()
                .chain([vec![0xff; 15], vec![0xff; 16], vec![0xff; 17]])
                .collect();
        assert!(keys.is_sorted());
        assert!(keys.iter().map(|key| head(key)).is_sorted());
    }

    /// A long value must not push out a chunk that is nearly empty, nor be split.
    #[test]
    fn a_large_record_gets_a_chunk_of_its_own() {
        let list = SkipList::default();
        insert(&list, "a", 1);
        let large = vec![7; 3 << 20];
        list.insert(InternalKey::new(b"b", SeqNo(2), ValueKind::Put), &large, &Counters::default());
        insert(&list, "c", 3);
        let chunk = |index| list.slot(index).chunk.load(Relaxed);
        assert_eq!([chunk(0), chunk(1), chunk(2)], [0, 1, 0]);
        assert_eq!(list.record(1).value(), large);
    }

    /// Each would leave half a chunk unused, if it were put into one and closed it.
    #[test]
    fn records_of_half_a_chunk_waste_nothing() {
        let list = SkipList::default();
        let counters = Counters::default();
        let insert = |seq: u64, value: &[u8]| {
            list.insert(InternalKey::new(b"k", SeqNo(seq), ValueKind::Put), value, &counters);
        };
        (1..=1000).for_each(|seq| insert(seq, &[7; 5000]));
        let before = list.memory_bytes();
        (1001..=1020).for_each(|seq| insert(seq, &[7; LARGEST_CHUNK_BYTES / 2]));
        assert!(list.memory_bytes() - before < 21 * LARGEST_CHUNK_BYTES / 2);
    }

    /// A first chunk too small for any record once gave each of them a chunk of its own.
    #[test]
    fn records_share_chunks_whatever_their_length() {
        for value_bytes in [0, 300, 5000, 100_000] {
            let list = SkipList::default();
            (1..=200).for_each(|seq| {
                let key = InternalKey::new(b"k", SeqNo(seq), ValueKind::Put);
                list.insert(key, &vec![7; value_bytes], &Counters::default());
            });
            let chunks = list.writer.lock().unwrap().chunks;
            assert!(chunks <= 10 + 200 * value_bytes / LARGEST_CHUNK_BYTES * 5 / 4, "{value_bytes}: {chunks} chunks");
        }
    }
}
