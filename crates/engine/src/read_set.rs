//! [`ReadSet`]: what a transaction has read, kept so that it can be asked whether a key is part of it.
//!
//! ```text
//! keyspace 0    |a|   [c ------- f]     |k|     (m ----- end        keys, and ranges of which every key was looked at
//! ```
//! Reads are appended as they come, and put in order when somebody asks, or when all transactions together take more memory than they may: then what was read twice or in pieces becomes
//! one, and where that is not enough neighbours are joined, the gap between them included, until half is left; but a transaction that has read little keeps it. So no key that was read is ever forgotten; some that were not are
//! remembered.
//!
//! Scans that are under way are kept apart, each with how far it came, and count from their beginning: one that is never ended is not lost.

use crate::core::{Core, KeyspaceCore};
use crate::transaction::Own;
use esker_format::KeyspaceId;
use esker_iterator::Bounds;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a transaction may remember whatever others do, in bytes, or a 64th of what all may if that is less.
const OWN_BYTES_MIN: usize = 4 << 10;

/// A place between keys: right before one, or (`true`) right behind it; or behind all. Right behind `k` is right before `k` and a zero byte, and is always written so: then of two places that
/// differ the lesser comes before the other, and there is a key in between.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Edge<K> {
    At(K, bool),
    End,
}

impl<'a> Edge<&'a [u8]> {
    /// Before all keys.
    pub(crate) const START: Self = Self::At(&[], false);

    pub(crate) fn before(key: &'a [u8]) -> Self {
        match key {
            [key @ .., 0] => Self::behind(key),
            key => Self::At(key, false),
        }
    }

    pub(crate) fn behind(key: &'a [u8]) -> Self {
        Self::At(key, true)
    }

    /// Where bounds begin and end.
    pub(crate) fn of_bounds(bounds: &'a Bounds) -> (Self, Self) {
        let lower = match &bounds.lower {
            Bound::Included(key) => Self::before(key),
            Bound::Excluded(key) => Self::behind(key),
            Bound::Unbounded => Self::START,
        };
        let upper = match &bounds.upper {
            Bound::Included(key) => Self::behind(key),
            Bound::Excluded(key) => Self::before(key),
            Bound::Unbounded => Edge::End,
        };
        (lower, upper)
    }

    fn to_owned(self) -> OwnedEdge {
        match self {
            Self::At(key, behind) => Edge::At(key.into(), behind),
            Self::End => Edge::End,
        }
    }
}

impl<K: AsRef<[u8]>> Edge<K> {
    fn borrow(&self) -> Edge<&[u8]> {
        match self {
            Self::At(key, behind) => Edge::At(key.as_ref(), *behind),
            Self::End => Edge::End,
        }
    }

    fn key(&self) -> &[u8] {
        match self {
            Self::At(key, _) => key.as_ref(),
            Self::End => &[],
        }
    }
}

type OwnedEdge = Edge<Box<[u8]>>;

/// One key, or all keys between two edges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Interval {
    Key(Box<[u8]>),
    Range(OwnedEdge, OwnedEdge),
}

impl Interval {
    const ALL_BYTES: usize = size_of::<Self>();

    fn all() -> Self {
        Self::Range(Edge::START.to_owned(), Edge::End)
    }

    fn lower(&self) -> Edge<&[u8]> {
        match self {
            Self::Key(key) => Edge::before(key),
            Self::Range(lower, _) => lower.borrow(),
        }
    }

    fn upper(&self) -> Edge<&[u8]> {
        match self {
            Self::Key(key) => Edge::behind(key),
            Self::Range(_, upper) => upper.borrow(),
        }
    }

    /// A key at or before all of its keys.
    pub(crate) fn lower_key(&self) -> &[u8] {
        match self {
            Self::Key(key) => key,
            Self::Range(lower, _) => lower.key(),
        }
    }

    pub(crate) fn contains(&self, key: &[u8]) -> bool {
        self.lower() <= Edge::before(key) && !self.ends_before(key)
    }

    /// Whether all of its keys are behind `key`.
    pub(crate) fn begins_behind(&self, key: &[u8]) -> bool {
        self.lower() > Edge::before(key)
    }

    /// Whether all of its keys are before `key`.
    pub(crate) fn ends_before(&self, key: &[u8]) -> bool {
        self.upper() <= Edge::before(key)
    }

    /// Whether any of it may lie in the range from `begin` on, up to `end`; an empty end is none.
    pub(crate) fn meets(&self, begin: &[u8], end: &[u8]) -> bool {
        !self.ends_before(begin) && (end.is_empty() || self.lower() < Edge::before(end))
    }

    /// What of a range lies between two edges, if anything does. A key stays what it is.
    pub(crate) fn within(&self, lower: Edge<&[u8]>, upper: Edge<&[u8]>) -> Option<Cow<'_, Self>> {
        let Self::Range(from, to) = self else { return Some(Cow::Borrowed(self)) };
        let (from, to) = (from.borrow(), to.borrow());
        if lower <= from && to <= upper {
            return Some(Cow::Borrowed(self));
        }
        let (from, to) = (from.max(lower), to.min(upper));
        (from < to).then(|| Cow::Owned(Self::Range(from.to_owned(), to.to_owned())))
    }

    fn into_edges(self) -> (OwnedEdge, OwnedEdge) {
        match self {
            Self::Key(key) => (Edge::before(&key).to_owned(), Edge::behind(&key).to_owned()),
            Self::Range(lower, upper) => (lower, upper),
        }
    }

    /// From where this begins to where `other` ends, which begins no earlier.
    fn join(self, other: Self) -> Self {
        let ((lower, this), (_, that)) = (self.into_edges(), other.into_edges());
        Self::Range(lower, this.max(that))
    }

    fn key_bytes(&self) -> usize {
        match self {
            Self::Key(key) => key.len(),
            Self::Range(lower, upper) => lower.key().len() + upper.key().len(),
        }
    }
}

/// What was read of one keyspace.
struct Part {
    keyspace: Arc<KeyspaceCore>,
    intervals: Vec<Interval>,
    key_bytes: usize,
    /// Whether the intervals ascend, with gaps between them.
    sorted: bool,
}

impl Part {
    fn bytes(&self) -> usize {
        self.intervals.capacity() * size_of::<Interval>() + self.key_bytes
    }

    /// Puts the intervals in order, and makes one of those that touch.
    fn sort(&mut self) {
        if self.sorted {
            return;
        }
        let mut intervals = std::mem::take(&mut self.intervals);
        intervals.sort_unstable_by(|a, b| a.lower().cmp(&b.lower()));
        let mut merged: Vec<Interval> = Vec::new();
        for interval in intervals {
            match merged.pop_if(|last| interval.lower() <= last.upper()) {
                // It adds nothing, so a key that was read twice stays a key.
                Some(last) if interval.upper() <= last.upper() => merged.push(last),
                Some(last) => merged.push(last.join(interval)),
                None => merged.push(interval),
            }
        }
        merged.shrink_to_fit();
        self.replace(merged);
        self.sorted = true;
    }

    /// Joins neighbours two by two, with the gaps between them.
    fn join_neighbours(&mut self) {
        let mut joined = Vec::with_capacity(self.intervals.len().div_ceil(2));
        let mut intervals = std::mem::take(&mut self.intervals).into_iter();
        while let Some(first) = intervals.next() {
            joined.push(match intervals.next() {
                Some(second) => first.join(second),
                None => first,
            });
        }
        self.replace(joined);
    }

    fn replace(&mut self, intervals: Vec<Interval>) {
        self.key_bytes = intervals.iter().map(Interval::key_bytes).sum();
        self.intervals = intervals;
    }
}

/// A scan under way: it has looked at every key from one edge to the other.
struct Scan {
    keyspace: Arc<KeyspaceCore>,
    lower: Edge<Vec<u8>>,
    upper: Edge<Vec<u8>>,
    /// What the transaction had written when it began. These keys, and what lies in ranges that it had deleted, it has not read: it saw its own.
    own: Own,
}

/// What a transaction has read. What it takes is counted with that of all others.
pub(crate) struct ReadSet {
    core: Arc<Core>,
    parts: BTreeMap<KeyspaceId, Part>,
    /// By number; those that ended are `None`, and their numbers are used again.
    scans: Vec<Option<Scan>>,
    /// What is counted of it, in bytes.
    counted: usize,
}

impl ReadSet {
    pub(crate) fn new(core: &Arc<Core>) -> Self {
        Self { core: Arc::clone(core), parts: BTreeMap::new(), scans: Vec::new(), counted: 0 }
    }

    /// Adds a key.
    pub(crate) fn add_key(&mut self, keyspace: &Arc<KeyspaceCore>, key: &[u8]) {
        self.add(keyspace, Interval::Key(key.into()));
    }

    fn add_range(&mut self, keyspace: &Arc<KeyspaceCore>, lower: Edge<&[u8]>, upper: Edge<&[u8]>) {
        if lower < upper {
            self.add(keyspace, Interval::Range(lower.to_owned(), upper.to_owned()));
        }
    }

    fn add(&mut self, keyspace: &Arc<KeyspaceCore>, interval: Interval) {
        let part = self.parts.entry(keyspace.id).or_insert_with(|| Part {
            keyspace: Arc::clone(keyspace),
            intervals: Vec::new(),
            key_bytes: 0,
            sorted: true,
        });
        let before = part.bytes();
        part.key_bytes += interval.key_bytes();
        part.intervals.push(interval);
        part.sorted = false;
        let grown = part.bytes() - before;
        self.counted += grown;
        // Relaxed: a figure to compare with a limit; it publishes nothing.
        let all = self.core.tracking_bytes.fetch_add(grown, Ordering::Relaxed) + grown;
        let bytes_max = self.core.options.transaction_tracking_bytes_max();
        if all > bytes_max && self.counted > OWN_BYTES_MIN.min(bytes_max / 64) {
            self.shrink();
        }
    }

    /// Gets down to half of its size, if it can.
    #[cold]
    fn shrink(&mut self) {
        let target = self.counted / 2;
        self.parts.values_mut().for_each(Part::sort);
        while self.bytes() > target && self.parts.values().any(|part| part.intervals.len() > 1) {
            self.parts.values_mut().for_each(Part::join_neighbours);
        }
        for part in self.parts.values_mut().filter(|part| part.bytes() > target.max(Interval::ALL_BYTES)) {
            part.replace(vec![Interval::all()]);
        }
        self.recount();
    }

    fn bytes(&self) -> usize {
        self.parts.values().map(Part::bytes).sum()
    }

    fn recount(&mut self) {
        let now = self.bytes();
        // Relaxed: as above. What is added wraps where there is less than before.
        self.core.tracking_bytes.fetch_add(now.wrapping_sub(self.counted), Ordering::Relaxed);
        self.counted = now;
    }

    /// Begins a scan at an edge; its number.
    pub(crate) fn begin_scan(&mut self, keyspace: &Arc<KeyspaceCore>, at: Edge<&[u8]>, own: &Own) -> usize {
        let edge = match at {
            Edge::At(key, behind) => Edge::At(key.to_vec(), behind),
            Edge::End => Edge::End,
        };
        let scan = Scan { keyspace: Arc::clone(keyspace), lower: edge.clone(), upper: edge, own: Arc::clone(own) };
        match self.scans.iter().position(Option::is_none) {
            Some(free) => {
                self.scans[free] = Some(scan);
                free
            }
            None => {
                self.scans.push(Some(scan));
                self.scans.len() - 1
            }
        }
    }

    /// A scan has come to an edge, in whichever direction.
    pub(crate) fn scan_came_to(&mut self, number: usize, edge: Edge<&[u8]>) {
        let Some(Some(scan)) = self.scans.get_mut(number) else { return };
        let moved = match () {
            () if edge > scan.upper.borrow() => &mut scan.upper,
            () if edge < scan.lower.borrow() => &mut scan.lower,
            () => return,
        };
        match (moved, edge) {
            // Where it was before is written over, so that a step allocates nothing.
            (Edge::At(key, behind), Edge::At(to, is_behind)) => {
                key.clear();
                key.extend_from_slice(to);
                *behind = is_behind;
            }
            (moved, Edge::At(to, behind)) => *moved = Edge::At(to.to_vec(), behind),
            (moved, Edge::End) => *moved = Edge::End,
        }
    }

    /// Ends a scan: what it has looked at is read, but for what the transaction itself had written.
    pub(crate) fn end_scan(&mut self, number: usize) {
        let Some(Scan { keyspace, lower, upper, own }) = self.scans.get_mut(number).and_then(Option::take) else {
            return;
        };
        let mut from = lower.borrow();
        for (begin, end) in own.written_from(lower.key()) {
            if begin >= upper.borrow() {
                break;
            }
            self.add_range(&keyspace, from, begin);
            from = from.max(end);
        }
        self.add_range(&keyspace, from, upper.borrow());
    }

    /// Ends all scans and puts everything in order. To be called before it is asked.
    pub(crate) fn settle(&mut self) {
        (0..self.scans.len()).for_each(|number| self.end_scan(number));
        self.parts.values_mut().for_each(Part::sort);
        self.recount();
    }

    /// What was read, by keyspace, ascending.
    pub(crate) fn parts(&self) -> impl Iterator<Item = (&Arc<KeyspaceCore>, &[Interval])> {
        debug_assert!(self.parts.values().all(|part| part.sorted));
        self.parts.values().map(|part| (&part.keyspace, &part.intervals[..]))
    }

    /// Whether a key counts as read.
    pub(crate) fn covers(&self, keyspace: KeyspaceId, key: &[u8]) -> bool {
        let Some(part) = self.parts.get(&keyspace) else { return false };
        debug_assert!(part.sorted);
        let behind = part.intervals.partition_point(|interval| interval.lower() <= Edge::before(key));
        part.intervals[..behind].last().is_some_and(|interval| interval.contains(key))
    }
}

impl ReadSet {
    /// Whether any key from `begin` on, up to `end`, may count as read; an empty end is none.
    pub(crate) fn meets(&self, keyspace: KeyspaceId, begin: &[u8], end: &[u8]) -> bool {
        let Some(part) = self.parts.get(&keyspace) else { return false };
        debug_assert!(part.sorted);
        // They ascend: the first that does not end before the range either meets it or lies behind it.
        let before = part.intervals.partition_point(|interval| interval.ends_before(begin));
        part.intervals[before..].first().is_some_and(|interval| interval.meets(begin, end))
    }
}

#[cfg(test)]
impl ReadSet {
    /// A bug, for tests that are to find it: forgets the keys, or the ranges, that were read.
    pub(crate) fn forget(&mut self, keys: bool) {
        self.settle();
        self.parts.values_mut().for_each(|part| part.intervals.retain(|i| matches!(i, Interval::Key(_)) != keys));
    }
}

impl Drop for ReadSet {
    fn drop(&mut self) {
        self.core.tracking_bytes.fetch_sub(self.counted, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests;
