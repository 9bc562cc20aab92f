//! Nodes: keys in the order they came, the first of them sorted; a leaf links its entries, an inner node has children between them.
//!
//! ```text
//!   Keys   | len, sorted, prefix | heads: u64 x N | records: u32 x N |
//!          '-------- together with what the node adds: one cache line
//!          slots 0 .. sorted      in key order, when the node was made (or appended in that order)
//!          slots sorted .. len    as they came
//! ```
//! A head is the eight bytes of a user key behind the prefix that all keys of the node share. A search halves the sorted
//! slots, then looks through the others, and needs a record only where heads are the same.
//!
//! A slot is written once, before the `len` that covers it, and never changes. What is not atomic here is set before the node is
//! published.

use super::bytes::{begins_with, head};
use super::records::{NONE, Name, Records};
use crate::prefetch::prefetch;
use esker_format::{InternalKey, common_prefix};
use std::cmp::Ordering;
// From beside this module, since its model puts others in their place.
use super::sync::{AtomicBool, AtomicU8, AtomicU32, AtomicU64};
use std::array::from_fn;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

/// Bytes of the prefix that lie in the node; the rest is read from a record that has it.
const INLINE_BYTES: usize = 32;

/// An entry on its way into a node.
#[derive(Debug, Clone, Copy)]
pub(super) struct Entry {
    pub(super) record: Name,
    /// As long as the prefix was the one it was taken behind.
    pub(super) head: u64,
}

/// Where a user key lies in relation to the prefix of a node.
#[derive(Clone, Copy)]
pub(super) enum Side {
    Before,
    /// It has the prefix; this is its head behind it.
    Within(u64),
    Behind,
}

/// The part that leaves and inner nodes share.
#[repr(C)]
pub(super) struct Keys<const N: usize> {
    len: AtomicU32,
    /// How many of the first slots are in key order. Stored after the `len` that covers them.
    sorted: AtomicU32,
    prefix_bytes: u32,
    /// A record whose user key has the prefix.
    witness: Name,
    prefix: [u8; INLINE_BYTES],
    heads: [AtomicU64; N],
    records: [AtomicU32; N],
}

impl<const N: usize> Keys<N> {
    fn new() -> Self {
        Self {
            len: AtomicU32::new(0),
            sorted: AtomicU32::new(0),
            prefix_bytes: 0,
            witness: NONE,
            prefix: [0; INLINE_BYTES],
            heads: from_fn(|_| AtomicU64::new(0)),
            records: from_fn(|_| AtomicU32::new(NONE)),
        }
    }

    /// Begins anew with `entries`, in key order. Their heads are right if their prefix had `prefix_bytes` too.
    fn fill(&mut self, entries: &[Entry], prefix_bytes: usize, heads_are_right: bool, records: &Records) {
        self.len = AtomicU32::new(entries.len() as u32);
        self.sorted = AtomicU32::new(entries.len() as u32);
        self.prefix_bytes = prefix_bytes as u32;
        self.witness = entries.first().map_or(NONE, |entry| entry.record);
        if prefix_bytes > 0 {
            let inline = prefix_bytes.min(INLINE_BYTES);
            self.prefix[..inline].copy_from_slice(&records.get(self.witness).user_key()[..inline]);
        }
        for (i, entry) in entries.iter().enumerate() {
            let right =
                if heads_are_right { entry.head } else { head(records.get(entry.record).user_key(), prefix_bytes) };
            self.heads[i] = AtomicU64::new(right);
            self.records[i] = AtomicU32::new(entry.record);
        }
    }

    /// How many slots are written.
    #[inline]
    pub(super) fn len(&self) -> usize {
        // Acquire, for the Release in `publish`: the slots come before the length that covers them.
        (self.len.load(Acquire) as usize).min(N)
    }

    /// How many of them are sorted. To be asked before `len`, which then covers them.
    #[inline]
    pub(super) fn sorted(&self) -> usize {
        // Acquire, for the Release in `Leaf::add`.
        (self.sorted.load(Acquire) as usize).min(N)
    }

    pub(super) fn prefix_bytes(&self) -> usize {
        self.prefix_bytes as usize
    }

    pub(super) fn witness(&self) -> Name {
        self.witness
    }

    /// Slot `slot`, which is below a length that was loaded.
    #[inline]
    pub(super) fn entry(&self, slot: usize) -> Entry {
        Entry { record: self.record(slot), head: self.head(slot) }
    }

    // Relaxed: `len`, or the link to the slot, was loaded with Acquire.
    #[inline]
    pub(super) fn record(&self, slot: usize) -> Name {
        self.records[slot].load(Relaxed)
    }

    #[inline]
    fn head(&self, slot: usize) -> u64 {
        self.heads[slot].load(Relaxed)
    }

    /// Writes the slot behind the last. Not to be seen before [`publish`](Self::publish).
    #[inline]
    fn write(&self, slot: usize, entry: Entry) {
        self.heads[slot].store(entry.head, Relaxed);
        self.records[slot].store(entry.record, Relaxed);
    }

    #[inline]
    fn publish(&self, len: usize) {
        // Release, for the Acquire in `len`.
        self.len.store(len as u32, Release);
    }

    /// Where `user_key` lies.
    #[inline]
    pub(super) fn side(&self, user_key: &[u8], records: &Records) -> Side {
        let bytes = self.prefix_bytes();
        if bytes <= INLINE_BYTES && begins_with(user_key, &self.prefix, bytes) {
            return Side::Within(head(user_key, bytes));
        }
        let prefix = &records.get(self.witness).user_key()[..bytes];
        match user_key[..bytes.min(user_key.len())].cmp(prefix) {
            Ordering::Less => Side::Before,
            Ordering::Equal => Side::Within(head(user_key, bytes)),
            Ordering::Greater => Side::Behind,
        }
    }

    /// The slot of the last key at (`including`) or before `target`, and the length at which that was so.
    #[inline]
    pub(super) fn floor(&self, target: InternalKey<'_>, including: bool, records: &Records) -> (Option<usize>, usize) {
        let sorted = self.sorted();
        let len = self.len();
        let below = |slot: usize| {
            let order = records.get(self.record(slot)).key().cmp(&target);
            order.is_lt() || including && order.is_eq()
        };
        let slot = match self.side(target.user_key, records) {
            Side::Before => None,
            Side::Within(head) => self.floor_within(sorted, len, head, below, records),
            Side::Behind => self.floor_within(sorted, len, u64::MAX, |_| true, records),
        };
        (slot, len)
    }

    /// As [`floor`](Self::floor), including, for the one who inserts: also the key's head, if it has the prefix.
    #[inline]
    pub(super) fn floor_to_insert(&self, key: InternalKey<'_>, records: &Records) -> (Option<usize>, Option<u64>) {
        let (sorted, len) = (self.sorted(), self.len());
        let below = |slot: usize| records.get(self.record(slot)).key() <= key;
        match self.side(key.user_key, records) {
            Side::Before => (None, None),
            Side::Within(head) => (self.floor_within(sorted, len, head, below, records), Some(head)),
            Side::Behind => (self.floor_within(sorted, len, u64::MAX, |_| true, records), None),
        }
    }

    /// The slot of the last key whose head is less than `head`, or the same and `below` says so of the slot.
    #[inline]
    fn floor_within(
        &self,
        sorted: usize,
        len: usize,
        head: u64,
        below: impl Fn(usize) -> bool,
        records: &Records,
    ) -> Option<usize> {
        let mut end = partition_point(&self.heads[..sorted], |h| h <= head);
        if end > 0 && self.head(end - 1) == head {
            // Sorted slots with this very head: by their records.
            let (mut from, mut to) = (partition_point(&self.heads[..end], |h| h < head), end);
            while from < to {
                let middle = from.midpoint(to);
                if below(middle) { from = middle + 1 } else { to = middle }
            }
            end = from;
        }
        let mut best = end.checked_sub(1);
        let mut best_head = best.map_or(0, |slot| self.head(slot));
        let mut from = sorted;
        while let Some(i) = next_within(&self.heads[..len], from, best_head, head) {
            from = i + 1;
            let h = self.head(i);
            if h == head && !below(i) {
                continue;
            }
            if let Some(best) = best
                && h == best_head
                && records.get(self.record(i)).key() < records.get(self.record(best)).key()
            {
                continue;
            }
            (best, best_head) = (Some(i), h);
        }
        best
    }

    /// Asks for the heads.
    #[inline]
    pub(super) fn prefetch(&self) {
        self.heads.iter().step_by(8).for_each(prefetch);
    }
}

/// How many of `heads`, which are sorted, `holds` is true of.
#[inline]
fn partition_point(heads: &[AtomicU64], holds: impl Fn(u64) -> bool) -> usize {
    let (mut from, mut size) = (0, heads.len());
    while size > 0 {
        let half = size / 2;
        // No branch: each half is as likely.
        let upper = holds(heads[from + half].load(Relaxed));
        from = if upper { from + half + 1 } else { from };
        size = if upper { size - half - 1 } else { half };
    }
    from
}

/// The first slot from `from` on whose head is `least` to `greatest`. Of those that came in no order few are: each that is one leaves fewer.
#[inline(always)]
fn next_within(heads: &[AtomicU64], from: usize, least: u64, greatest: u64) -> Option<usize> {
    let span = greatest - least;
    let is_within = |head: &AtomicU64| head.load(Relaxed).wrapping_sub(least) <= span;
    heads.get(from..)?.iter().position(is_within).map(|i| from + i)
}

/// A leaf: the entries from `lo` on, up to `hi`.
#[repr(C, align(64))]
pub(crate) struct Leaf<const N: usize> {
    /// The first key that belongs here, which is in it; `NONE` for the first leaf.
    pub(super) lo: Name,
    /// The first key that does not; `NONE` for the last leaf. Comes down once, to where the leaf was extended.
    pub(super) hi: AtomicU32,
    first: AtomicU8,
    last: AtomicU8,
    /// Others have taken its place: what comes later goes there.
    dead: AtomicBool,
    /// A leaf was made behind it for a key it had no room for.
    extended: AtomicBool,
    pub(super) keys: Keys<N>,
    next: [AtomicU8; N],
    prev: [AtomicU8; N],
}

impl<const N: usize> Leaf<N> {
    /// The link to no slot.
    pub(super) const NIL: u8 = {
        assert!(N > 3 && N < 256);
        N as u8
    };

    pub(crate) fn new() -> Self {
        Self {
            lo: NONE,
            hi: AtomicU32::new(NONE),
            first: AtomicU8::new(Self::NIL),
            last: AtomicU8::new(Self::NIL),
            dead: AtomicBool::new(false),
            extended: AtomicBool::new(false),
            keys: Keys::new(),
            next: from_fn(|_| AtomicU8::new(0)),
            prev: from_fn(|_| AtomicU8::new(0)),
        }
    }

    /// Begins anew.
    pub(super) fn fill(
        &mut self,
        bounds: (Name, Name),
        entries: &[Entry],
        prefix_bytes: usize,
        heads_are_right: bool,
        records: &Records,
    ) {
        self.lo = bounds.0;
        self.hi = AtomicU32::new(bounds.1);
        self.dead = AtomicBool::new(false);
        self.extended = AtomicBool::new(false);
        self.keys.fill(entries, prefix_bytes, heads_are_right, records);
        let len = entries.len();
        let or_nil = |slot: usize| if slot < len { slot as u8 } else { Self::NIL };
        self.first = AtomicU8::new(or_nil(0));
        self.last = AtomicU8::new(or_nil(len.wrapping_sub(1)));
        for slot in 0..len {
            self.next[slot] = AtomicU8::new(or_nil(slot + 1));
            self.prev[slot] = AtomicU8::new(or_nil(slot.wrapping_sub(1)));
        }
    }

    // Acquire in all four, for the Release in `add`: the slot comes before the link to it.
    #[inline]
    pub(super) fn first(&self) -> Option<usize> {
        Self::slot(self.first.load(Acquire))
    }

    #[inline]
    pub(super) fn last(&self) -> Option<usize> {
        Self::slot(self.last.load(Acquire))
    }

    #[inline]
    pub(super) fn next(&self, slot: usize) -> Option<usize> {
        Self::slot(self.next[slot].load(Acquire))
    }

    #[inline]
    pub(super) fn prev(&self, slot: usize) -> Option<usize> {
        Self::slot(self.prev[slot].load(Acquire))
    }

    #[inline]
    fn slot(link: u8) -> Option<usize> {
        (link < Self::NIL).then_some(usize::from(link))
    }

    /// Whether others have taken its place.
    #[inline]
    pub(super) fn is_dead(&self) -> bool {
        // Acquire, for the Release in `die`: who sees it finds the ones in its place.
        self.dead.load(Acquire)
    }

    /// To be called when others have taken its place.
    pub(super) fn die(&self) {
        self.dead.store(true, Release);
    }

    pub(super) fn is_extended(&self) -> bool {
        // Relaxed: only who inserts asks, or stores it.
        self.extended.load(Relaxed)
    }

    /// Has the leaf end at `hi`, where another has been put into the tree.
    pub(super) fn extend(&self, hi: Name) {
        self.extended.store(true, Relaxed);
        // Release, for the Acquire in `Tree`: who goes on from `hi` finds that leaf.
        self.hi.store(hi, Release);
    }

    /// Adds an entry behind slot `before`, or at the front. There is room.
    #[inline]
    pub(super) fn add(&self, entry: Entry, before: Option<usize>) {
        // Relaxed where only this thread stores.
        let slot = self.keys.len.load(Relaxed) as usize;
        let to_slot = before.map_or(&self.first, |before| &self.next[before]);
        let behind = to_slot.load(Relaxed);
        let back = Self::slot(behind).map_or(&self.last, |behind| &self.prev[behind]);
        self.keys.write(slot, entry);
        self.next[slot].store(behind, Relaxed);
        self.prev[slot].store(before.map_or(Self::NIL, |before| before as u8), Relaxed);
        self.keys.publish(slot + 1);
        // Release, for the Acquire in `first`, `next`, `last` and `prev`.
        to_slot.store(slot as u8, Release);
        back.store(slot as u8, Release);
        if behind == Self::NIL && self.keys.sorted.load(Relaxed) as usize == slot {
            // Release, for the Acquire in `sorted`: the length comes first.
            self.keys.sorted.store(slot as u32 + 1, Release);
        }
    }

    /// All entries, in order.
    pub(super) fn entries(&self) -> Vec<Entry> {
        let mut entries = Vec::with_capacity(N + 1);
        let mut at = self.first();
        while let Some(slot) = at {
            entries.push(self.keys.entry(slot));
            at = self.next(slot);
        }
        entries
    }

    /// Asks for the lines that a new entry goes to.
    #[inline]
    pub(super) fn prefetch_to_add(&self) {
        let len = self.keys.len.load(Relaxed) as usize;
        if let (Some(record), Some(next), Some(prev)) =
            (self.keys.records.get(len), self.next.get(len), self.prev.get(len))
        {
            prefetch(record);
            prefetch(next);
            prefetch(prev);
        }
    }
}

/// Which child of an inner node: the one before all keys, or the one behind a slot's key.
pub(super) type ChildAt = Option<usize>;

/// An inner node: children, and between any two of them the first key of the later one.
#[repr(C, align(64))]
pub(super) struct Inner<const N: usize> {
    child0: AtomicU32,
    keys: Keys<N>,
    children: [AtomicU32; N],
}

impl<const N: usize> Inner<N> {
    /// Slots that are added to an inner node before it is sorted anew.
    const UNSORTED_MAX: usize = if N < 16 { 1 } else { N / 8 };

    /// More keys than these are divided between two nodes when it is.
    pub(super) const SORTED_MAX: usize = N - Self::UNSORTED_MAX;

    pub(super) fn new() -> Self {
        Self { child0: AtomicU32::new(0), keys: Keys::new(), children: from_fn(|_| AtomicU32::new(0)) }
    }

    /// Begins anew with `child0` and, behind each of `entries`, its child.
    pub(super) fn fill(
        &mut self,
        child0: u32,
        entries: &[(Entry, u32)],
        prefix_bytes: usize,
        heads_are_right: bool,
        records: &Records,
    ) {
        self.child0 = AtomicU32::new(child0);
        let keys: Vec<Entry> = entries.iter().map(|(entry, _)| *entry).collect();
        self.keys.fill(&keys, prefix_bytes, heads_are_right, records);
        for (place, (_, child)) in self.children.iter_mut().zip(entries) {
            *place = AtomicU32::new(*child);
        }
    }

    pub(super) fn keys(&self) -> &Keys<N> {
        &self.keys
    }

    #[inline]
    fn child(&self, at: ChildAt) -> &AtomicU32 {
        at.map_or(&self.child0, |slot| &self.children[slot])
    }

    /// The number of the child at `at`.
    pub(super) fn child_number(&self, at: ChildAt) -> u32 {
        // Acquire: as in `descend`.
        self.child(at).load(Acquire)
    }

    /// The child in which `target` belongs, or (unless `including`) all that is right before it.
    ///
    /// A key may come in while we look: then the child we chose may since have been divided, and hold the left half alone. The
    /// key is published before the left half, so whoever gets the left half sees that there is another key, and looks again.
    #[inline]
    pub(super) fn descend(&self, target: InternalKey<'_>, including: bool, records: &Records) -> u32 {
        loop {
            let (at, len) = self.keys.floor(target, including, records);
            // Acquire, for the Release in `replace` and `add`: the child comes before the link to it; so does the key that was
            // added before the left half, which the next load then sees.
            let child = self.child(at).load(Acquire);
            if self.keys.len() == len {
                return child;
            }
        }
    }

    /// The last child.
    pub(super) fn descend_to_last(&self, records: &Records) -> u32 {
        loop {
            let (sorted, len) = (self.keys.sorted(), self.keys.len());
            let at = self.keys.floor_within(sorted, len, u64::MAX, |_| true, records);
            // Acquire: as in `descend`.
            let child = self.child(at).load(Acquire);
            if self.keys.len() == len {
                return child;
            }
        }
    }

    /// As [`descend`](Self::descend), for the one who inserts: also which child it is.
    #[inline]
    pub(super) fn descend_to_insert(&self, target: InternalKey<'_>, records: &Records) -> (ChildAt, u32) {
        let (at, _) = self.keys.floor(target, true, records);
        (at, self.child(at).load(Relaxed))
    }

    /// Puts another node in the place of the child at `at`.
    pub(super) fn replace(&self, at: ChildAt, child: u32) {
        // Release, for the Acquire in `descend`.
        self.child(at).store(child, Release);
    }

    /// Adds a key and the child behind it, and puts `left` in the place of the child at `at`; `false` and nothing done if it
    /// needs to be built anew for that.
    pub(super) fn add(&self, at: ChildAt, left: u32, key: Name, right: u32, records: &Records) -> bool {
        let (len, sorted) = (self.keys.len(), self.keys.sorted());
        if len == N || len - sorted >= Self::UNSORTED_MAX {
            return false;
        }
        let Side::Within(head) = self.keys.side(records.get(key).user_key(), records) else { return false };
        self.keys.write(len, Entry { record: key, head });
        // Relaxed: `publish` comes behind it.
        self.children[len].store(right, Relaxed);
        self.keys.publish(len + 1);
        self.replace(at, left);
        true
    }

    /// The first child, and all keys with the children behind them, in order.
    pub(super) fn entries(&self, records: &Records) -> (u32, Vec<(Entry, u32)>) {
        // Relaxed: only who inserts asks.
        let entry = |slot: usize| (self.keys.entry(slot), self.children[slot].load(Relaxed));
        let mut entries = Vec::with_capacity(N + 1);
        entries.extend((0..self.keys.sorted()).map(entry));
        for added in (self.keys.sorted()..self.keys.len()).map(entry) {
            let is_before = |(other, _): &(Entry, u32)| {
                let by_head = other.head.cmp(&added.0.head);
                by_head.then_with(|| records.get(other.record).key().cmp(&records.get(added.0.record).key())).is_lt()
            };
            entries.insert(entries.partition_point(is_before), added);
        }
        (self.child0.load(Relaxed), entries)
    }

    /// The place of the child at `at` in what [`entries`](Self::entries) gives.
    pub(super) fn order_of(&self, at: ChildAt, entries: &[(Entry, u32)]) -> usize {
        at.map_or(0, |slot| {
            let record = self.keys.record(slot);
            1 + entries.iter().position(|(entry, _)| entry.record == record).expect("each slot is an entry")
        })
    }
}

/// How long a prefix to take for a node whose keys go from `first` to `last`, where all that may come are sure to have `sure`
/// bytes of it. A longer one only if that tells keys apart much better: each key without it has the node copied.
pub(super) fn prefix_to_take(sure: usize, first: &[u8], last: &[u8]) -> usize {
    let all = common_prefix(first, last);
    if all >= sure + 4 { all } else { sure }
}
