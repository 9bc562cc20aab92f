//! The tree form: an append-only B+-tree for walks and searches, and a hash index for single keys, over one arena of records.
//!
//! ```text
//!   root ──> inner ──> leaf  [heads][records][links]           index: hash ──> newest record of a key
//!                        |                                                         |
//!   records  ... trailer | previous | lengths | user key | value ...  <────────────┘
//!                             └──> the next older version
//! ```
//! One thread inserts, any number read; no reader waits, takes a lock or counts anything, unless something is loose. What a reader can see never changes but
//! in three ways: a slot is appended, a link is swung to a new slot, a child is swung to a new node.
//!
//! - An entry goes into the next free slot of its leaf and into the leaf's list, whose links are a byte each. A slot is published by the
//!   leaf's length, then by the links of its neighbours, then by the index.
//! - A full leaf is divided into two new ones. They are built in private; then the key between them is added to the parent, then the left
//!   one takes the child's place. The old leaf stays as it was for readers who are in it; it is marked dead, so that a walk that
//!   stands in it goes on in those that took its place.
//! - A key behind the end of a full leaf gets a new leaf and copies nothing.
//! - A key without the prefix that a node's keys share has the node copied with a shorter one.
//! - Many entries that nobody looks for yet may be inserted loose: into arena and index, and into leaves all at once, later (`loose`).
//!
//! Invariants
//! - A leaf but the first holds the record of its `lo`: so going back from any other leaf finds something.
//! - Inner nodes in which a search has begun lead to all that was inserted before it began, even after others took their
//!   place: they lead to leaves that were alive then or later.
//! - Whoever searches, or seeks to walk, has what is loose tied first. Only gets by the index need not.
//! - While `indexed` is set, the index names the newest version of every key, and each version names the next older one.

mod bytes;
pub(crate) mod index;
mod insert;
mod loose;
pub(crate) mod node;
mod node_model;
pub(crate) mod records;
mod share;
mod supply;
#[cfg(test)]
mod tests;

use crate::list::List;
use crate::pool::Pool;
use crate::record::Record;
use crate::sync;
use bytes::same;
use esker_format::{InternalKey, KeyHash, SeqNo, Trailer};
use index::{Index, Tag};
use insert::Writer;
use node::{Inner, Leaf};
use records::{NONE, Name, Records};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Versions of a key that a look-up goes back one by one; for older ones it searches the tree.
const VERSIONS_BACK_MAX: usize = 3;

/// How many entries ahead a walk asks for records.
const AHEAD: usize = 4;

/// See the module's page. `N` slots a node.
pub(crate) struct Tree<const N: usize> {
    /// Level above the leaves, and the node's number.
    root: AtomicU64,
    /// Whether the index answers for every key.
    indexed: AtomicBool,
    /// Whether there are entries that are in no leaf.
    is_loose: AtomicBool,
    leaves: List<Leaf<N>>,
    inners: List<Inner<N>>,
    records: Records,
    index: Index,
    bytes: AtomicUsize,
    writer: Mutex<Writer<N>>,
}

/// Where a walk stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    /// `NONE` for nowhere.
    record: Name,
    leaf: u32,
    slot: u8,
    /// A slot some steps further in the direction of the walk, whose record was asked for. A hint.
    ahead: u8,
    way: Way,
}

/// The direction of a walk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Backward,
}

impl Place {
    pub(crate) const NOWHERE: Self = Self { record: NONE, leaf: 0, slot: 0, ahead: 0, way: Way::Forward };

    #[inline]
    pub(crate) fn is_somewhere(self) -> bool {
        self.record != NONE
    }
}

impl<const N: usize> Tree<N> {
    pub(crate) fn new(pool: Option<Arc<Pool<N>>>) -> Self {
        let mut writer = Writer::new(pool);
        let leaves = List::new();
        let first = writer.new_leaf(&leaves, |leaf| *leaf = Leaf::new());
        debug_assert_eq!(first, 0);
        Self {
            root: AtomicU64::new(0),
            indexed: AtomicBool::new(true),
            is_loose: AtomicBool::new(false),
            leaves,
            inners: List::new(),
            records: Records::new(),
            index: Index::new(),
            bytes: AtomicUsize::new(writer.bytes()),
            writer: Mutex::new(writer),
        }
    }

    /// Bytes it takes, itself included.
    pub(crate) fn memory_bytes(&self) -> usize {
        // Relaxed: a figure; it publishes nothing.
        size_of::<Self>() + self.bytes.load(Relaxed)
    }

    /// Asks for where the index has the key with this hash.
    #[inline]
    pub(crate) fn prefetch(&self, hash: KeyHash) {
        self.index.prefetch(Tag::of(hash));
    }

    /// The newest version of `user_key`, whose hash is `hash`, at or below `seq`.
    #[inline]
    pub(crate) fn get(&self, user_key: &[u8], hash: KeyHash, seq: SeqNo) -> Option<Record<'_>> {
        let sought = Trailer::seek(seq);
        // Acquire, for the Release in `insert`, though whoever must see it cleared has it from whom he has the table.
        if self.indexed.load(Acquire) {
            let is = |name| same(self.records.get(name).user_key(), user_key);
            let mut name = self.index.find(Tag::of(hash), is);
            for _ in 0..=VERSIONS_BACK_MAX {
                if name == NONE {
                    return None;
                }
                let record = self.records.get(name);
                if record.trailer() <= sought {
                    return Some(record);
                }
                name = record.previous();
            }
        }
        self.tie_loose();
        let place = self.forward(InternalKey { user_key, trailer: sought }, true);
        let record = place.is_somewhere().then(|| self.records.get(place.record))?;
        same(record.user_key(), user_key).then_some(record)
    }

    /// The record of the entry it stands on.
    #[inline]
    pub(crate) fn record(&self, place: Place) -> Record<'_> {
        assert!(place.is_somewhere(), "an iterator that stands nowhere");
        self.records.get(place.record)
    }

    /// Whether the entries at both places are versions of one key.
    #[inline]
    pub(crate) fn is_same_key(&self, a: Place, b: Place) -> bool {
        same(self.record(a).user_key(), self.record(b).user_key())
    }

    /// The leaf where `target` belongs, or (unless `including`) the last one that begins before it.
    #[inline]
    fn leaf_of(&self, target: InternalKey<'_>, including: bool) -> u32 {
        // Acquire, for the Release where the root is stored.
        let (mut level, mut number) = root_of(self.root.load(Acquire));
        while level > 0 {
            number = self.inners.get(number as usize).descend(target, including, &self.records);
            level -= 1;
        }
        number
    }

    #[inline]
    fn leaf(&self, number: u32) -> &Leaf<N> {
        self.leaves.get(number as usize)
    }

    /// The place of `slot`, from where the walk goes `way`.
    #[inline]
    fn place(&self, number: u32, leaf: &Leaf<N>, slot: usize, way: Way) -> Place {
        let mut ahead = slot;
        for _ in 0..AHEAD {
            let Some(further) = step(leaf, ahead, way) else { break };
            ahead = further;
            self.records.prefetch(leaf.keys.record(ahead));
        }
        Place { record: leaf.keys.record(slot), leaf: number, slot: slot as u8, ahead: ahead as u8, way }
    }

    /// The place of the slot beside `place`.
    #[inline]
    fn place_beside(&self, place: Place, leaf: &Leaf<N>, slot: usize, way: Way) -> Place {
        if place.way != way {
            return self.place(place.leaf, leaf, slot, way);
        }
        let mut ahead = place.ahead;
        if let Some(further) = step(leaf, usize::from(ahead), way) {
            ahead = further as u8;
            self.records.prefetch(leaf.keys.record(further));
        }
        Place { record: leaf.keys.record(slot), slot: slot as u8, ahead, ..place }
    }

    /// The first entry.
    pub(crate) fn first(&self) -> Place {
        self.forward(InternalKey::before_all(b""), true)
    }

    /// The last entry.
    pub(crate) fn last(&self) -> Place {
        // Acquire: as in `leaf_of`.
        let (mut level, mut number) = root_of(self.root.load(Acquire));
        while level > 0 {
            number = self.inners.get(number as usize).descend_to_last(&self.records);
            level -= 1;
        }
        let leaf = self.leaf(number);
        leaf.last().map_or(Place::NOWHERE, |slot| self.place(number, leaf, slot, Way::Backward))
    }

    /// The first entry at (`including`) or behind `target`.
    pub(crate) fn forward(&self, target: InternalKey<'_>, including: bool) -> Place {
        let (mut target, mut including) = (target, including);
        loop {
            let number = self.leaf_of(target, true);
            let leaf = self.leaf(number);
            if let Some(slot) = self.first_behind(leaf, target, including) {
                return self.place(number, leaf, slot, Way::Forward);
            }
            // Acquire, for the Release in `extend`: the leaf that begins there is in the tree.
            let hi = leaf.hi.load(Acquire);
            if hi == NONE {
                return Place::NOWHERE;
            }
            // Where the leaf was extended while we looked, it may end before the target, which is then sought anew.
            let hi = self.records.get(hi).key();
            if hi > target {
                (target, including) = (hi, true);
            }
        }
    }

    /// The slot of the leaf's first entry at (`including`) or behind `target`.
    #[inline]
    fn first_behind(&self, leaf: &Leaf<N>, target: InternalKey<'_>, including: bool) -> Option<usize> {
        let (before, len) = leaf.keys.floor(target, !including, &self.records);
        let mut at = before.map_or_else(|| leaf.first(), |before| leaf.next(before));
        // What has come in between since may lie on either side of the target.
        while let Some(slot) = at.filter(|slot| *slot >= len) {
            let order = self.records.get(leaf.keys.record(slot)).key().cmp(&target);
            if order.is_gt() || including && order.is_eq() {
                break;
            }
            at = leaf.next(slot);
        }
        at
    }

    /// The last entry at (`including`) or before `target`.
    pub(crate) fn backward(&self, target: InternalKey<'_>, including: bool) -> Place {
        let number = self.leaf_of(target, including);
        let leaf = self.leaf(number);
        // A leaf that begins at or before the target has that beginning in it: only the first one may have nothing.
        let (slot, _) = leaf.keys.floor(target, including, &self.records);
        debug_assert!(slot.is_some() || leaf.lo == NONE, "a leaf without its first entry");
        slot.map_or(Place::NOWHERE, |slot| self.place(number, leaf, slot, Way::Backward))
    }

    /// The entry behind the one at `place`.
    #[inline]
    pub(crate) fn next(&self, place: Place) -> Place {
        assert!(place.is_somewhere(), "an iterator that stands nowhere");
        let leaf = self.leaf(place.leaf);
        let next = leaf.next(usize::from(place.slot));
        // Asked after the link was loaded: while the leaf lived, its links led to all that was inserted.
        if leaf.is_dead() {
            return self.forward(self.records.get(place.record).key(), false);
        }
        match next {
            Some(slot) => self.place_beside(place, leaf, slot, Way::Forward),
            // Acquire: as in `forward`.
            None => match leaf.hi.load(Acquire) {
                NONE => Place::NOWHERE,
                hi => self.forward(self.records.get(hi).key(), true),
            },
        }
    }

    /// The entry before the one at `place`.
    #[inline]
    pub(crate) fn prev(&self, place: Place) -> Place {
        assert!(place.is_somewhere(), "an iterator that stands nowhere");
        let leaf = self.leaf(place.leaf);
        let prev = leaf.prev(usize::from(place.slot));
        if leaf.is_dead() {
            return self.backward(self.records.get(place.record).key(), false);
        }
        match prev {
            Some(slot) => self.place_beside(place, leaf, slot, Way::Backward),
            None if leaf.lo == NONE => Place::NOWHERE,
            None => self.backward(self.records.get(leaf.lo).key(), false),
        }
    }
}

impl<const N: usize> Drop for Tree<N> {
    fn drop(&mut self) {
        let writer = self.writer.get_mut().unwrap_or_else(|poisoned| poisoned.into_inner());
        let (records, leaves, index) = (&mut self.records, &mut self.leaves, &mut self.index);
        writer.give_back(|| records.drain(), || leaves.drain(), || index.drain());
    }
}

/// Level and number of a root.
#[inline]
fn root_of(root: u64) -> (u32, u32) {
    ((root >> 32) as u32, root as u32)
}

/// The slot beside `slot`.
#[inline]
fn step<const N: usize>(leaf: &Leaf<N>, slot: usize, way: Way) -> Option<usize> {
    match way {
        Way::Forward => leaf.next(slot),
        Way::Backward => leaf.prev(slot),
    }
}
