//! Loose entries: stored and indexed one by one, put into leaves all at once.
//!
//! ```text
//!   as they come   record ─> arena, hash ─> index          entries  [head | record | length][head | record | length] ..
//!   at the end     sort by head, where those are the same by key ─> leaves, three quarters full ─> inner nodes ─> root
//! ```
//! An insert descends to its leaf, looks through its slots, and now and then divides it. Of many entries that nobody looks for in
//! the meantime, as when a log is replayed, each costs a fraction of that: nothing is searched, and every node is made once.
//!
//! - Gets find a loose entry by the index; whoever searches the tree, or seeks in it, has it tied first (`Tree::tie`), so nobody need know that there are any.
//! - All nodes are built in private and published by the root alone. Only an empty tree is built so; into one that has entries the loose
//!   ones go one by one, in order.

use super::Tree;
use super::bytes::head;
use super::index::Tag;
use super::insert::Writer;
use super::node::{Entry, Inner, Leaf};
use super::records::{NONE, Name};
use super::root_of;
use crate::Counters;
use esker_format::{InternalKey, KeyHash, common_prefix};
use std::ops::Range;
use std::sync::atomic::{Ordering::Acquire, Ordering::Relaxed, Ordering::Release};

/// How many entries ahead memory is asked for what storing them will touch: about as many as are stored until it answers.
const AHEAD: usize = 8;

/// An entry that is in no leaf.
#[derive(Debug, Clone, Copy)]
struct LooseEntry {
    /// The eight bytes behind the prefix that all keys had when it came.
    head: u64,
    record: Name,
    key_bytes: u32,
}

/// See the module's page.
#[derive(Default)]
pub(super) struct Loose {
    entries: Vec<LooseEntry>,
    /// What all keys begin with.
    prefix: Vec<u8>,
    /// The heads of entries before this one were taken behind a longer prefix.
    heads_from: usize,
}

impl Loose {
    pub(super) fn bytes(&self) -> usize {
        self.entries.capacity() * size_of::<LooseEntry>() + self.prefix.capacity()
    }

    #[inline]
    fn add(&mut self, record: Name, user_key: &[u8]) {
        if !user_key.starts_with(&self.prefix) || self.entries.is_empty() {
            self.shorten(user_key);
        }
        let head = head(user_key, self.prefix.len());
        self.entries.push(LooseEntry { head, record, key_bytes: user_key.len() as u32 });
    }

    #[cold]
    fn shorten(&mut self, user_key: &[u8]) {
        if self.entries.is_empty() {
            self.prefix = user_key.to_vec();
        } else {
            self.prefix.truncate(common_prefix(&self.prefix, user_key));
        }
        self.heads_from = self.entries.len();
    }
}

impl<const N: usize> Tree<N> {
    /// Entries of a leaf, and children of an inner node: so that those that come later find room.
    const LEAF_ENTRIES: usize = N / 4 * 3;
    const INNER_CHILDREN: usize = (Inner::<N>::SORTED_MAX + 1) / 4 * 3;

    /// Adds entries, in the order of their numbers, that are to be [tied](Self::tie). Each comes with the hash of its user key.
    ///
    /// # Panics
    /// As [`insert`](Self::insert); where a key is there already perhaps only when it is tied.
    pub(crate) fn insert_loose<'a>(
        &self,
        entries: impl Iterator<Item = (InternalKey<'a>, KeyHash, &'a [u8])> + Clone,
        counters: &Counters,
    ) {
        let mut writer = self.writer.lock().expect("no insert has panicked");
        let writer = &mut *writer;
        // Release, for the Acquire in `tie_loose`; whoever must see it set has the entries from whom he has the table.
        self.is_loose.store(true, Release);
        let mut ahead = entries.clone();
        let mut ask = || {
            if let Some((_, hash, _)) = ahead.next() {
                self.index.prefetch(Tag::of(hash));
            }
        };
        (0..AHEAD).for_each(|_| ask());
        for (key, hash, value) in entries {
            ask();
            let place = self.place_in_index(key, Tag::of(hash));
            let record = self.store(writer, key, value, place);
            self.fill_index(writer, place, record);
            writer.loose.add(record, key.user_key);
            counters.add(key.trailer);
        }
        // Relaxed: see `memory_bytes`.
        self.bytes.store(writer.bytes(), Relaxed);
    }

    /// Puts all loose entries into leaves.
    ///
    /// # Panics
    /// If a key is there already.
    pub(crate) fn tie(&self) {
        let mut writer = self.writer.lock().expect("no insert has panicked");
        let writer = &mut *writer;
        let loose = std::mem::take(&mut writer.loose);
        if !loose.entries.is_empty() {
            self.tie_all(writer, loose);
        }
        self.bytes.store(writer.bytes(), Relaxed);
        // Release, for the Acquire in `tie_loose`: who sees it cleared sees the nodes.
        self.is_loose.store(false, Release);
    }

    /// To be called by who searches the tree, or seeks in it to walk.
    #[inline]
    pub(crate) fn tie_loose(&self) {
        if self.is_loose.load(Acquire) {
            self.tie();
        }
    }

    fn tie_all(&self, writer: &mut Writer<N>, mut loose: Loose) {
        let prefix_bytes = loose.prefix.len();
        for entry in &mut loose.entries[..loose.heads_from] {
            entry.head = head(self.records.get(entry.record).user_key(), prefix_bytes);
        }
        let key_of = |record: Name| self.records.get(record).key();
        let mut entries = loose.entries;
        entries.sort_unstable_by_key(|entry| entry.head);
        for same in entries.chunk_by_mut(|a, b| a.head == b.head).filter(|same| same.len() > 1) {
            same.sort_unstable_by(|a, b| key_of(a.record).cmp(&key_of(b.record)));
            for pair in same.windows(2) {
                let key = key_of(pair[1].record);
                assert!(key_of(pair[0].record) != key, "{key:?} is there already");
            }
        }
        writer.path.clear();
        writer.end = None;
        // Relaxed: only who holds the writer stores it.
        let (level, number) = root_of(self.root.load(Relaxed));
        if level > 0 || self.leaves.get(number as usize).first().is_some() {
            for entry in entries {
                let key = key_of(entry.record);
                let number = self.descend_to_insert(writer, key);
                self.link(writer, number, key, entry.record);
            }
            return;
        }
        let mut nodes = self.new_leaves(writer, &entries, prefix_bytes);
        drop(entries);
        let mut level = 0u32;
        while nodes.len() > 1 {
            nodes = self.new_inners(writer, &nodes);
            level += 1;
        }
        // Release, for the Acquire in `leaf_of` and `last`.
        self.root.store(u64::from(level) << 32 | u64::from(nodes[0].1), Release);
        self.leaves.get(number as usize).die();
    }

    /// Leaves of all entries, which are sorted: their numbers, each behind its first record.
    fn new_leaves(&self, writer: &mut Writer<N>, entries: &[LooseEntry], prefix_bytes: usize) -> Vec<(Name, u32)> {
        let parts = parts(entries.len(), Self::LEAF_ENTRIES);
        let mut nodes = Vec::with_capacity(parts.len());
        let mut of_leaf = Vec::with_capacity(N);
        for part in parts {
            let bounds = (
                if part.start == 0 { NONE } else { entries[part.start].record },
                entries.get(part.end).map_or(NONE, |entry| entry.record),
            );
            let part = &entries[part];
            let user_key = |entry: &LooseEntry| self.records.get(entry.record).user_key();
            let all =
                part.first().zip(part.last()).map_or(0, |(first, last)| common_prefix(user_key(first), user_key(last)));
            // A longer one only if that tells keys apart much better.
            let bytes = if all >= prefix_bytes + 4 && part.len() > 1 { all } else { prefix_bytes };
            let more = bytes - prefix_bytes;
            of_leaf.clear();
            of_leaf.extend(part.iter().map(|entry| {
                let head = if more == 0 {
                    entry.head
                } else if entry.key_bytes as usize <= prefix_bytes + 8 {
                    // The head has all there is of the key.
                    entry.head.checked_shl(8 * more as u32).unwrap_or(0)
                } else {
                    head(user_key(entry), bytes)
                };
                Entry { record: entry.record, head }
            }));
            let fill = |leaf: &mut Leaf<N>| leaf.fill(bounds, &of_leaf, bytes, true, &self.records);
            nodes.push((part[0].record, writer.new_leaf(&self.leaves, fill)));
        }
        nodes
    }

    /// The inner nodes above `nodes`, of which there are two or more.
    fn new_inners(&self, writer: &mut Writer<N>, nodes: &[(Name, u32)]) -> Vec<(Name, u32)> {
        let user_key = |record: Name| self.records.get(record).user_key();
        let mut above = Vec::new();
        for part in parts(nodes.len(), Self::INNER_CHILDREN) {
            let [(first, child0), rest @ ..] = &nodes[part] else { unreachable!("no part is empty") };
            let entries: Vec<_> =
                rest.iter().map(|(record, child)| (Entry { record: *record, head: 0 }, *child)).collect();
            let [(lowest, _), .., (highest, _)] = &entries[..] else {
                // One key tells nothing of the others that will come here; the first of what lies before it does.
                let bytes =
                    entries.first().map_or(0, |(entry, _)| common_prefix(user_key(*first), user_key(entry.record)));
                above.push((*first, self.new_inner(writer, *child0, &entries, bytes, false)));
                continue;
            };
            let bytes = super::node::prefix_to_take(0, user_key(lowest.record), user_key(highest.record));
            above.push((*first, self.new_inner(writer, *child0, &entries, bytes, false)));
        }
        above
    }
}

/// Divides `count` things into parts of nearly the same size, none of them larger than `part_max`.
fn parts(count: usize, part_max: usize) -> impl ExactSizeIterator<Item = Range<usize>> {
    let parts = count.div_ceil(part_max);
    (0..parts).map(move |part| part * count / parts..(part + 1) * count / parts)
}
