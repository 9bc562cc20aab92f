//! Inserting: what only the one writer does.

use super::Tree;
use super::bytes::same;
use super::index::{IndexWriter, Page, Spot, Tag};
use super::loose::Loose;
use super::node::{ChildAt, Entry, Inner, Leaf, Side, prefix_to_take};
use super::records::{NONE, Name, RecordsWriter};
use super::root_of;
use super::supply::Supply;
use crate::Counters;
use crate::arena::Chunk;
use crate::list::List;
use crate::pool::Pool;
use crate::room::Room;
use esker_format::{InternalKey, KeyHash, common_prefix};
use std::sync::Arc;
use std::sync::atomic::{Ordering::Relaxed, Ordering::Release};

/// The writer's part of a tree.
pub(super) struct Writer<const N: usize> {
    supply: Supply<N>,
    records: RecordsWriter,
    index: IndexWriter,
    /// From the root down: inner nodes, and which child was taken.
    pub(super) path: Vec<(u32, ChildAt)>,
    /// The last leaf, if the last insert went to its end: so may the next.
    pub(super) end: Option<u32>,
    pub(super) loose: Loose,
}

/// Where a key goes in the index.
#[derive(Clone, Copy)]
pub(super) struct PlaceInIndex {
    tag: Tag,
    spot: Spot,
    /// The newest version so far.
    previous: Name,
    indexed: bool,
}

impl<const N: usize> Writer<N> {
    pub(super) fn new(pool: Option<Arc<Pool<N>>>) -> Self {
        let supply = Supply::new(pool);
        Self {
            supply,
            records: RecordsWriter::new(),
            index: IndexWriter::default(),
            path: Vec::new(),
            end: None,
            loose: Loose::default(),
        }
    }

    #[inline]
    pub(super) fn bytes(&self) -> usize {
        self.supply.bytes() + self.loose.bytes()
    }

    pub(super) fn new_leaf(&mut self, leaves: &List<Leaf<N>>, fill: impl FnOnce(&mut Leaf<N>)) -> u32 {
        let mut leaf = self.supply.leaf();
        fill(&mut leaf);
        self.supply.push(leaves, leaf) as u32
    }

    pub(super) fn give_back(
        &self,
        chunks: impl FnOnce() -> Vec<Room<Chunk>>,
        leaves: impl FnOnce() -> Vec<Room<Leaf<N>>>,
        pages: impl FnOnce() -> Vec<Room<Page>>,
    ) {
        self.supply.give_back(chunks, leaves, pages);
    }
}

impl<const N: usize> Tree<N> {
    /// Adds an entry. `hash` is that of the user key.
    ///
    /// # Panics
    /// If the key is there already, if key or value are longer than they may be, or when there are no more names for records.
    pub(crate) fn insert(&self, key: InternalKey<'_>, hash: KeyHash, value: &[u8], counters: &Counters) {
        let mut writer = self.writer.lock().expect("no insert has panicked");
        let writer = &mut *writer;
        let tag = Tag::of(hash);
        // Relaxed: only this thread stores it.
        if self.indexed.load(Relaxed) {
            self.index.prefetch(tag);
        }
        let end = self.end_to_insert(writer, key);
        let place = match end {
            Some((number, ..)) => number,
            None => {
                let number = self.descend_to_insert(writer, key);
                self.leaves.get(number as usize).keys.prefetch();
                number
            }
        };
        self.leaves.get(place as usize).prefetch_to_add();

        let in_index = self.place_in_index(key, tag);
        let record = self.store(writer, key, value, in_index);
        match end {
            Some((number, last, head)) => self.leaves.get(number as usize).add(Entry { record, head }, Some(last)),
            None => self.link(writer, place, key, record),
        }
        self.fill_index(writer, in_index, record);
        counters.add(key.trailer);
        // Relaxed: see `memory_bytes`.
        self.bytes.store(writer.bytes(), Relaxed);
    }

    /// Where the index has the key, or will have it.
    #[inline(always)]
    pub(super) fn place_in_index(&self, key: InternalKey<'_>, tag: Tag) -> PlaceInIndex {
        let mut indexed = self.indexed.load(Relaxed);
        let spot = self.index.spot(tag, |name| same(self.records.get(name).user_key(), key.user_key));
        let mut previous = spot.name;
        if indexed && previous != NONE {
            let newest = self.records.get(previous).trailer();
            assert!(newest != key.trailer, "{key:?} is there already");
            if newest > key.trailer {
                // Not in the order of sequence numbers: from now on the tree alone tells versions apart.
                indexed = false;
                // Release, for the Acquire in `get`.
                self.indexed.store(false, Release);
            }
        }
        if !indexed {
            previous = NONE;
        }
        PlaceInIndex { tag, spot, previous, indexed }
    }

    /// Writes the record.
    #[inline(always)]
    pub(super) fn store(
        &self,
        writer: &mut Writer<N>,
        key: InternalKey<'_>,
        value: &[u8],
        place: PlaceInIndex,
    ) -> Name {
        self.records.store(&mut writer.records, &mut writer.supply, key, value, place.previous)
    }

    /// Has the index name the record.
    #[inline(always)]
    pub(super) fn fill_index(&self, writer: &mut Writer<N>, place: PlaceInIndex, record: Name) {
        let PlaceInIndex { tag, spot, indexed, .. } = place;
        if indexed && !self.index.fill(&mut writer.index, &mut writer.supply, tag, spot, record) {
            self.indexed.store(false, Release);
        }
    }

    /// Where the key goes, if the last one went to the end of the tree and this one goes behind it, as when keys come in order: the last leaf, its last
    /// slot, and the key's head there. Then nothing need be searched.
    #[inline]
    fn end_to_insert(&self, writer: &Writer<N>, key: InternalKey<'_>) -> Option<(u32, usize, u64)> {
        let number = writer.end?;
        let leaf = self.leaves.get(number as usize);
        let last = leaf.last()?;
        let is_behind = self.records.get(leaf.keys.record(last)).key() < key;
        match leaf.keys.side(key.user_key, &self.records) {
            Side::Within(head) if is_behind && leaf.keys.len() < N => Some((number, last, head)),
            _ => None,
        }
    }

    /// Leaves the path to the leaf where `key` belongs.
    pub(super) fn descend_to_insert(&self, writer: &mut Writer<N>, key: InternalKey<'_>) -> u32 {
        writer.path.clear();
        // Relaxed: only this thread stores it.
        let (level, mut number) = root_of(self.root.load(Relaxed));
        for _ in 0..level {
            let (at, child) = self.inners.get(number as usize).descend_to_insert(key, &self.records);
            writer.path.push((number, at));
            number = child;
        }
        number
    }

    /// Puts the record of `key` into its leaf, or into leaves that take its place.
    pub(super) fn link(&self, writer: &mut Writer<N>, number: u32, key: InternalKey<'_>, record: Name) {
        let leaf = self.leaves.get(number as usize);
        let key_of = |name: Name| self.records.get(name).key();
        let (before, head) = leaf.keys.floor_to_insert(key, &self.records);
        // Relaxed: only this thread stores it.
        let is_end = leaf.hi.load(Relaxed) == NONE && leaf.last() == before;
        writer.end = is_end.then_some(number);
        if let Some(before) = before
            && head.is_none_or(|head| head == leaf.keys.entry(before).head)
        {
            assert!(key_of(leaf.keys.record(before)) != key, "{key:?} is there already");
        }
        let len = leaf.keys.len();
        match head {
            Some(head) if len < N => leaf.add(Entry { record, head }, before),
            _ if len == N && before == Some(N - 1) && leaf.last() == before && !leaf.is_extended() => {
                self.extend(writer, leaf, number, key, record);
            }
            _ => {
                writer.end = None;
                let mut entries = leaf.entries();
                let at = before.map_or(0, |before| {
                    let before = leaf.keys.record(before);
                    1 + entries.iter().position(|entry| entry.record == before).expect("each slot is linked")
                });
                entries.insert(at, Entry { record, head: head.unwrap_or(0) });
                // Relaxed: only this thread stores it.
                let bounds = (leaf.lo, leaf.hi.load(Relaxed));
                let heads_behind = head.map(|_| leaf.keys.prefix_bytes());
                if len < N {
                    let copy = self.new_leaf(writer, bounds, &entries, heads_behind);
                    self.replace(writer, copy, None);
                } else {
                    let (left, right) = entries.split_at(entries.len() / 2);
                    let middle = right[0].record;
                    let left = self.new_leaf(writer, (bounds.0, middle), left, heads_behind);
                    let right = self.new_leaf(writer, (middle, bounds.1), right, heads_behind);
                    self.replace(writer, left, Some((middle, right)));
                }
                leaf.die();
            }
        }
    }

    /// A new leaf behind a full one, for a key behind all that it holds.
    fn extend(&self, writer: &mut Writer<N>, leaf: &Leaf<N>, number: u32, key: InternalKey<'_>, record: Name) {
        let hi = leaf.hi.load(Relaxed);
        let first = leaf.first().expect("the leaf is full");
        let first = self.records.get(leaf.keys.record(first)).user_key();
        // One entry tells nothing of the prefix that the next ones will have; those of the leaf before it do.
        let prefix_bytes = prefix_to_take(self.common_of((record, hi)), first, key.user_key);
        let entry = [Entry { record, head: 0 }];
        let right =
            writer.new_leaf(&self.leaves, |leaf| leaf.fill((record, hi), &entry, prefix_bytes, false, &self.records));
        self.replace(writer, number, Some((record, right)));
        leaf.extend(record);
        writer.end = writer.end.map(|_| right);
    }

    /// A leaf with two entries or more, whose heads, if they are known, were taken behind `heads_behind` bytes.
    fn new_leaf(
        &self,
        writer: &mut Writer<N>,
        bounds: (Name, Name),
        entries: &[Entry],
        heads_behind: Option<usize>,
    ) -> u32 {
        let user_key = |entry: &Entry| self.records.get(entry.record).user_key();
        let [first, .., last] = entries else { unreachable!("more than one entry") };
        let prefix_bytes = prefix_to_take(self.common_of(bounds), user_key(first), user_key(last));
        let heads_are_right = heads_behind == Some(prefix_bytes);
        writer.new_leaf(&self.leaves, |leaf| leaf.fill(bounds, entries, prefix_bytes, heads_are_right, &self.records))
    }

    /// How many bytes all keys between two bounds have in common.
    fn common_of(&self, bounds: (Name, Name)) -> usize {
        if bounds.0 == NONE || bounds.1 == NONE {
            return 0;
        }
        common_prefix(self.records.get(bounds.0).user_key(), self.records.get(bounds.1).user_key())
    }

    /// Puts `left` in the place of the node at the end of the path, and `right` behind it if there is one, which begins at its key.
    fn replace(&self, writer: &mut Writer<N>, left: u32, right: Option<(Name, u32)>) {
        let (mut left, mut right) = (left, right);
        let mut level = 0;
        while let Some((number, at)) = writer.path.pop() {
            let inner = self.inners.get(number as usize);
            let Some((key, child)) = right else { return inner.replace(at, left) };
            if inner.add(at, left, key, child, &self.records) {
                return;
            }
            (left, right) = self.rebuild(writer, inner, at, left, (key, child));
            level += 1;
        }
        if let Some((key, child)) = right {
            let prefix_bytes = self.common_of_nodes(level, left, child);
            let entry = [(Entry { record: key, head: 0 }, child)];
            left = self.new_inner(writer, left, &entry, prefix_bytes, false);
            level += 1;
        }
        // Release, for the Acquire in `leaf_of` and `last`.
        self.root.store(u64::from(level) << 32 | u64::from(left), Release);
    }

    /// Builds an inner node anew, with one more key: as one node, or as two and the key between them.
    fn rebuild(
        &self,
        writer: &mut Writer<N>,
        inner: &Inner<N>,
        at: ChildAt,
        left: u32,
        (key, child): (Name, u32),
    ) -> (u32, Option<(Name, u32)>) {
        let (mut child0, mut entries) = inner.entries(&self.records);
        let place = inner.order_of(at, &entries);
        match place.checked_sub(1) {
            Some(before) => entries[before].1 = left,
            None => child0 = left,
        }
        let head = match inner.keys().side(self.records.get(key).user_key(), &self.records) {
            Side::Within(head) => Some(head),
            _ => None,
        };
        entries.insert(place, (Entry { record: key, head: head.unwrap_or(0) }, child));
        let heads_behind = head.map(|_| inner.keys().prefix_bytes());
        let mut build = |child0: u32, entries: &[(Entry, u32)]| {
            let user_key = |(entry, _): &(Entry, u32)| self.records.get(entry.record).user_key();
            let prefix_bytes = match entries {
                [first, .., last] => prefix_to_take(0, user_key(first), user_key(last)),
                _ => 0,
            };
            self.new_inner(writer, child0, entries, prefix_bytes, heads_behind == Some(prefix_bytes))
        };
        if entries.len() <= Inner::<N>::SORTED_MAX {
            return (build(child0, &entries), None);
        }
        let (first, rest) = entries.split_at(entries.len() / 2);
        let [(middle, middle_child), last @ ..] = rest else { unreachable!("half of them") };
        let left = build(child0, first);
        let right = build(*middle_child, last);
        (left, Some((middle.record, right)))
    }

    pub(super) fn new_inner(
        &self,
        writer: &mut Writer<N>,
        child0: u32,
        entries: &[(Entry, u32)],
        prefix_bytes: usize,
        heads_are_right: bool,
    ) -> u32 {
        let mut inner = writer.supply.inner();
        inner.fill(child0, entries, prefix_bytes, heads_are_right, &self.records);
        writer.supply.push(&self.inners, inner) as u32
    }

    /// A prefix for the root above two nodes: what theirs have in common.
    fn common_of_nodes(&self, level: u32, left: u32, right: u32) -> usize {
        let prefix = |number: u32| {
            let (witness, bytes) = if level == 0 {
                let keys = &self.leaves.get(number as usize).keys;
                (keys.witness(), keys.prefix_bytes())
            } else {
                let keys = self.inners.get(number as usize).keys();
                (keys.witness(), keys.prefix_bytes())
            };
            if bytes == 0 { &[][..] } else { &self.records.get(witness).user_key()[..bytes] }
        };
        common_prefix(prefix(left), prefix(right))
    }
}
