//! [`Own`]: what a transaction has written in one keyspace.
//!
//! ```text
//! ranges deleted    [c ------- m)          [p ------
//! entries        a=1      f=2      n gone     q=3  r+4     on top of them
//! ```
//! Deleting a range takes the entries in it away, so whatever entry lies in one was written later, and holds. To a batch they go in that order, first the ranges and then the entries; and to
//! a walk the ranges are the tombstones of a source newer than all others ([`Covering`]), so it passes what they hide as it passes what anybody has deleted.
//!
//! What is merged into a key is kept with what lies below, as far as the transaction has written that itself (`operands`).
//!
//! Invariant: ranges lie apart from one another, with a gap between them.

use super::operands::{Base, OwnOperands};
use crate::read_set::Edge;
use esker_format::{SeqNo, Slice};
use esker_iterator::{Covering, Stretch, is_before_end};
use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

/// Shared with the iterators and cursors made of it, which keep what they saw: who writes on while one is alive copies it first.
pub(crate) type Own = Arc<OwnWrites>;

/// What was written to a key.
#[derive(Debug, Clone)]
pub(crate) enum OwnWrite {
    Put(Slice),
    Deleted,
    /// Shared with walks that stand on it.
    Merged(Arc<OwnOperands>),
}

impl OwnWrite {
    fn of(value: Option<Slice>) -> Self {
        value.map_or(Self::Deleted, Self::Put)
    }

    /// Whether the key is there.
    pub(super) fn is_there(&self) -> bool {
        !matches!(self, Self::Deleted)
    }
}

/// A key, and what was written to it.
pub(super) type OwnEntry = (Slice, OwnWrite);
/// Where a deleted range begins, and the first key behind it; an empty one is no end.
pub(super) type OwnRange = (Slice, Slice);

/// The writes of a transaction in one keyspace.
#[derive(Debug, Clone, Default)]
pub(crate) struct OwnWrites {
    entries: BTreeMap<Slice, OwnWrite>,
    /// By begin.
    ranges: BTreeMap<Slice, Slice>,
}

/// What deleting a range took away, to be put back.
#[derive(Debug)]
pub(crate) struct Replaced {
    /// Where the range begins that took its place.
    begin: Slice,
    ranges: Vec<OwnRange>,
    entries: Vec<OwnEntry>,
}

impl OwnWrites {
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty() && self.ranges.is_empty()
    }

    /// Whether any range was deleted.
    pub(super) fn has_ranges(&self) -> bool {
        !self.ranges.is_empty()
    }

    /// What was written to a key, if anything.
    pub(crate) fn get(&self, key: &[u8]) -> Option<&OwnWrite> {
        match self.entries.get(key) {
            Some(write) => Some(write),
            None => self.is_in_range(key).then_some(&OwnWrite::Deleted),
        }
    }

    fn is_in_range(&self, key: &[u8]) -> bool {
        !self.ranges.is_empty() && self.stretch(key, SeqNo::ZERO).seq.is_some()
    }

    /// The entries between two bounds, the first of which must not lie behind the second.
    pub(super) fn entries(
        &self,
        bounds: (Bound<&[u8]>, Bound<&[u8]>),
    ) -> impl DoubleEndedIterator<Item = (&Slice, &OwnWrite)> {
        self.entries.range::<[u8], _>(bounds)
    }

    /// The deleted ranges, ascending.
    pub(super) fn ranges(&self) -> impl Iterator<Item = (&Slice, &Slice)> {
        self.ranges.iter()
    }

    /// Sets a key, or deletes it; what was written there before.
    pub(crate) fn set(&mut self, key: Slice, value: Option<Slice>) -> Option<OwnWrite> {
        self.entries.insert(key, OwnWrite::of(value))
    }

    /// Takes an entry back to what was written there before.
    pub(super) fn set_back(&mut self, key: Slice, before: Option<OwnWrite>) {
        match before {
            Some(write) => self.entries.insert(key, write),
            None => self.entries.remove(&key),
        };
    }

    /// Merges into a key.
    pub(crate) fn merge(&mut self, key: Slice, operand: &[u8]) {
        let base = match self.entries.get_mut(&key) {
            Some(OwnWrite::Merged(operands)) => return Arc::make_mut(operands).push(operand),
            Some(OwnWrite::Put(value)) => Base::Put(std::mem::take(value)),
            Some(OwnWrite::Deleted) => Base::Deleted,
            None => match self.is_in_range(&key) {
                // A range that is deleted later takes the entry away with it, so that either stays true.
                true => Base::RangeDeleted,
                false => Base::Snapshot,
            },
        };
        self.entries.insert(key, OwnWrite::Merged(Arc::new(OwnOperands::new(base, operand))));
    }

    /// Takes the newest operand of a key back.
    pub(super) fn unmerge(&mut self, key: Slice) {
        let Some(OwnWrite::Merged(operands)) = self.entries.get_mut(&key) else { return };
        let operands = Arc::make_mut(operands);
        if operands.pop() {
            let before = match operands.base() {
                Base::Put(value) => Some(OwnWrite::Put(value.clone())),
                Base::Deleted => Some(OwnWrite::Deleted),
                Base::Snapshot | Base::RangeDeleted => None,
            };
            self.set_back(key, before);
        }
    }

    /// Deletes the keys from `begin` on, up to `end`, of which an empty one is none. Costs as much as there is written in it.
    pub(crate) fn delete_range(&mut self, begin: &[u8], end: &[u8]) -> Replaced {
        let (mut from, mut to) = (Slice::from(begin), Slice::from(end));
        let mut ranges = Vec::new();
        // Those that overlap or touch it: perhaps one that begins before it, and those that begin in it or at its end.
        let before = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Excluded(begin))).next_back();
        let before = before.filter(|(_, before)| before.is_empty() || before[..] >= *begin).map(|(key, _)| key.clone());
        let behind = if end.is_empty() { Bound::Unbounded } else { Bound::Included(end) };
        let in_it = self.ranges.range::<[u8], _>((Bound::Included(begin), behind)).map(|(key, _)| key.clone());
        for key in before.into_iter().chain(in_it).collect::<Vec<_>>() {
            let Some(range) = self.ranges.remove_entry(&key) else { continue };
            from = from.min(range.0.clone());
            if !to.is_empty() && (range.1.is_empty() || range.1 > to) {
                to = range.1.clone();
            }
            ranges.push(range);
        }
        let behind = if end.is_empty() { Bound::Unbounded } else { Bound::Excluded(end) };
        let hidden = self.entries.range::<[u8], _>((Bound::Included(begin), behind)).map(|(key, _)| key.clone());
        let hidden = hidden.collect::<Vec<_>>();
        let entries = hidden.iter().filter_map(|key| self.entries.remove_entry(key)).collect();
        self.ranges.insert(from.clone(), to);
        Replaced { begin: from, ranges, entries }
    }

    /// Takes back a deleted range.
    pub(super) fn put_back(&mut self, replaced: Replaced) {
        self.ranges.remove(&replaced.begin);
        self.ranges.extend(replaced.ranges);
        self.entries.extend(replaced.entries);
    }

    /// All that was written at or behind a key, as pairs of edges, in the order in which they begin; the first may begin before it. They may overlap.
    pub(crate) fn written_from<'a>(
        &'a self,
        key: &'a [u8],
    ) -> impl Iterator<Item = (Edge<&'a [u8]>, Edge<&'a [u8]>)> + 'a {
        let end = |end: &'a Slice| if end.is_empty() { Edge::End } else { Edge::before(end) };
        let first = self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(key))).next_back();
        let behind = self.ranges.range::<[u8], _>((Bound::Excluded(key), Bound::Unbounded));
        let ranges = first.into_iter().chain(behind).map(move |(from, to)| (Edge::before(from), end(to)));
        let entries = self.entries((Bound::Included(key), Bound::Unbounded));
        let entries = entries.map(|(key, _)| (Edge::before(key), Edge::behind(key)));
        let (mut ranges, mut entries) = (ranges.peekable(), entries.peekable());
        std::iter::from_fn(move || match (ranges.peek(), entries.peek()) {
            (Some(range), Some(entry)) if range.0 <= entry.0 => ranges.next(),
            (Some(_), None) => ranges.next(),
            _ => entries.next(),
        })
    }
}

/// Its ranges hide all that anybody sees who asks.
impl Covering for OwnWrites {
    fn stretch(&self, user_key: &[u8], at: SeqNo) -> Stretch<'_> {
        let mut behind = self.ranges.range::<[u8], _>((Bound::Excluded(user_key), Bound::Unbounded));
        let end = behind.next().map_or(&[][..], |(begin, _)| begin);
        match self.ranges.range::<[u8], _>((Bound::Unbounded, Bound::Included(user_key))).next_back() {
            None => Stretch { end, ..Stretch::ALL },
            Some((begin, to)) if is_before_end(user_key, to) => Stretch { begin, end: to, seq: Some(at) },
            Some((_, begin)) => Stretch { begin, end, seq: None },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = Vec<u8>> {
        proptest::sample::select(vec![
            b"".to_vec(),
            b"\0".to_vec(),
            b"a".to_vec(),
            b"a\0".to_vec(),
            b"b".to_vec(),
            b"\xff".to_vec(),
        ])
    }

    type Undo = Box<dyn FnOnce(&mut OwnWrites)>;

    fn show(own: &OwnWrites) -> String {
        format!("{:?}", own)
    }

    /// What a key amounts to: what was put or deleted, unless that is the snapshot's, and what was merged into it since.
    #[derive(Debug, Clone, PartialEq)]
    struct Known {
        base: Option<Option<Vec<u8>>>,
        operands: Vec<Vec<u8>>,
    }

    impl Known {
        fn of(base: Option<Vec<u8>>) -> Self {
            Self { base: Some(base), operands: Vec::new() }
        }

        fn found(write: &OwnWrite) -> Self {
            let operands = match write {
                OwnWrite::Put(value) => return Self::of(Some(value.to_vec())),
                OwnWrite::Deleted => return Self::of(None),
                OwnWrite::Merged(operands) => operands,
            };
            let stack = operands.stack();
            let base = (!operands.needs_snapshot()).then(|| stack.base().map(|(_, value)| value.to_vec()));
            Self { base, operands: stack.operands().map(<[u8]>::to_vec).collect() }
        }
    }

    proptest! {
        /// Beside a map that each key is written to one by one; and back again.
        #[test]
        fn it_answers_as_if_each_key_was_deleted(writes in proptest::collection::vec((key(), key(), 0..5), 0..24), undone in 0..24usize) {
            let keys = [&b""[..], b"\0", b"a", b"a\0", b"a\0\0", b"b", b"c", b"\xff", b"\xff\0"];
            let mut own = OwnWrites::default();
            let mut plain: BTreeMap<&[u8], Known> = BTreeMap::new();
            let mut undo: Vec<Undo> = Vec::new();
            let mut shown = vec![show(&own)];
            for (nth, (a, b, what)) in writes.iter().enumerate() {
                let (begin, end) = if a <= b { (a, b) } else { (b, a) };
                if *what == 0 && (begin < end || end.is_empty()) {
                    let replaced = own.delete_range(begin, end);
                    undo.push(Box::new(|own| own.put_back(replaced)));
                    for key in keys.iter().filter(|key| **key >= &begin[..] && is_before_end(key, end)) {
                        plain.insert(key, Known::of(None));
                    }
                } else if *what >= 3 {
                    let (key, operand) = (Slice::from(&a[..]), nth.to_be_bytes());
                    // What a walk stands on stays as it is.
                    let held = own.clone();
                    let before = show(&held);
                    own.merge(key.clone(), &operand);
                    assert_eq!(show(&held), before);
                    undo.push(Box::new(|own| own.unmerge(key)));
                    let known = plain.entry(a).or_insert(Known { base: None, operands: Vec::new() });
                    known.operands.push(operand.to_vec());
                } else {
                    let value = (*what == 1).then_some(nth);
                    let key = Slice::from(&a[..]);
                    let before = own.set(key.clone(), value.map(|value| Slice::from(&value.to_be_bytes())));
                    undo.push(Box::new(|own| own.set_back(key, before)));
                    plain.insert(a, Known::of(value.map(|value| value.to_be_bytes().to_vec())));
                }
                shown.push(show(&own));
                for key in keys {
                    let found = own.get(key).map(Known::found);
                    prop_assert_eq!(found.as_ref(), plain.get(key), "{:?} of {:?}", key, own);
                    let stretch = own.stretch(key, SeqNo(7));
                    prop_assert!(stretch.begin <= key && is_before_end(key, stretch.end));
                    for other in keys.iter().filter(|key| stretch.begin <= **key && is_before_end(key, stretch.end)) {
                        prop_assert_eq!(own.is_in_range(other), stretch.seq.is_some());
                    }
                    let edge = Edge::before(key);
                    let written = keys.iter().any(|from| from <= &key && own.written_from(from).any(|(from, to)| from <= edge && edge < to));
                    prop_assert_eq!(written, plain.contains_key(key), "{:?} of {:?}", key, own);
                    prop_assert!(own.written_from(key).is_sorted_by_key(|(from, _)| from));
                }
                prop_assert!(own.ranges().zip(own.ranges().skip(1)).all(|((_, end), (next, _))| !end.is_empty() && end < next), "{:?}", own);
            }
            for _ in 0..undone.min(undo.len()) {
                undo.pop().unwrap()(&mut own);
                shown.pop();
                prop_assert_eq!(&show(&own), &shown[shown.len() - 1]);
            }
        }
    }
}
