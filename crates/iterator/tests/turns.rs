//! What several sources lend in turns, walked as a cursor walks it: by the short way first.

use esker_format::{InternalKey, InternalKeyBuf, SeqNo, Trailer, ValueKind};
use esker_iterator::{
    Bounds, InternalIterator, Lend, LentVec, MergingIterator, Plain, Stepped, VecIterator, VisibleIterator, Way,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::rc::Rc;

/// Lends at most so many entries at once, none with 0; and counts the steps that it is asked for one by one.
struct Block {
    inner: VecIterator,
    most: usize,
    asked: Rc<Cell<usize>>,
}

impl InternalIterator for Block {
    type Error = Infallible;

    fn valid(&self) -> bool {
        self.inner.valid()
    }

    fn seek_to_first(&mut self) -> Result<(), Infallible> {
        self.inner.seek_to_first()
    }

    fn seek_to_last(&mut self) -> Result<(), Infallible> {
        self.inner.seek_to_last()
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.inner.seek(target)
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.inner.seek_for_prev(target)
    }

    fn next(&mut self) -> Result<(), Infallible> {
        self.asked.set(self.asked.get() + 1);
        self.inner.next()
    }

    fn prev(&mut self) -> Result<(), Infallible> {
        self.asked.set(self.asked.get() + 1);
        self.inner.prev()
    }

    fn key(&self) -> InternalKey<'_> {
        self.inner.key()
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }

    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        self.inner.steps_before(way, user_key)
    }

    fn next_is_other_key(&mut self) -> bool {
        self.inner.next_is_other_key()
    }

    fn prev_is_other_key(&mut self) -> bool {
        self.inner.prev_is_other_key()
    }

    fn try_next_key(&mut self) -> Option<Trailer> {
        self.asked.set(self.asked.get() + 1);
        self.inner.try_next_key()
    }

    fn try_prev(&mut self) -> Option<Stepped> {
        self.asked.set(self.asked.get() + 1);
        self.inner.try_prev()
    }
}

impl Lend for Block {
    type Lent = LentVec;

    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut LentVec) -> usize {
        let steps = plain.steps.min(self.most);
        if steps == 0 { 0 } else { self.inner.lend(way, &Plain { steps, ..*plain }, lent) }
    }

    fn take_back(&mut self, lent: &mut LentVec) -> bool {
        self.inner.take_back(lent)
    }
}

type View = VisibleIterator<MergingIterator<Block>>;

/// Of digits four times each, so that what neighbours have in common changes at each carry; a third of them longer than heads are.
fn key(i: u16) -> Vec<u8> {
    let end = if i.is_multiple_of(3) { "-with-a-long-end" } else { "" };
    let digits = format!("{i:04}").bytes().flat_map(|digit| [digit; 4]).collect::<Vec<_>>();
    [&digits, end.as_bytes()].concat()
}

/// Sources with a version of each of these keys each, numbered in this order: `(source, key, whether it is deleted)`.
fn sources(
    writes: &[(usize, u16, bool)],
    most: &[usize],
    asked: &Rc<Cell<usize>>,
) -> (MergingIterator<Block>, Vec<(u16, SeqNo, bool)>) {
    let mut sources: Vec<BTreeMap<InternalKeyBuf, Vec<u8>>> = vec![BTreeMap::new(); most.len()];
    let mut all = Vec::new();
    for ((source, i, is_deleted), seq) in writes.iter().copied().zip(1..) {
        let kind = if is_deleted { ValueKind::Delete } else { ValueKind::Put };
        sources[source % most.len()].insert(InternalKey::new(&key(i), SeqNo(seq), kind).to_buf(), value(seq));
        all.push((i, SeqNo(seq), is_deleted));
    }
    let block = |(entries, most): (BTreeMap<_, _>, &usize)| Block {
        inner: VecIterator::new(entries.into_iter().collect()),
        most: *most,
        asked: Rc::clone(asked),
    };
    (MergingIterator::new(sources.into_iter().zip(most).map(block).collect()), all)
}

fn value(seq: u64) -> Vec<u8> {
    seq.to_string().into_bytes()
}

/// As `Cursor` does.
fn step(view: &mut View, is_forward: bool) {
    let Ok(()) = match is_forward {
        true if view.next_lent() => Ok(()),
        true => view.next(),
        false if view.prev_lent() => Ok(()),
        false => view.prev(),
    };
}

fn shown(view: &View) -> Option<(Vec<u8>, Vec<u8>)> {
    view.valid().then(|| {
        let value = view.value();
        assert!(view.put_value().is_none_or(|put| put == value));
        assert_eq!(view.value_slice(), *value);
        (view.key().to_vec(), value.to_vec())
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_shows_what_a_map_holds(
        writes in vec((0..6usize, 0..400u16, prop::bool::weighted(0.02)), 1..600),
        most in vec(prop_oneof![1 => Just(0), 2 => 1..4usize, 6 => 8..40usize], 1..6),
        seen in prop_oneof![3 => Just(1.0), 1 => 0.0..1.0f64],
        (lower, upper) in (prop::option::of(0..200u16), prop::option::of(200..400u16)),
        walks in vec((0..400u16, vec((any::<bool>(), 1..90usize), 1..6)), 1..6),
    ) {
        let (merged, all) = sources(&writes, &most, &Rc::default());
        let seq = SeqNo((writes.len() as f64 * seen).ceil() as u64);
        let (lower, upper) = (lower.map(key), upper.map(key));
        let bounds = Bounds::new(
            lower.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Included),
            upper.as_deref().map_or(std::ops::Bound::Unbounded, std::ops::Bound::Excluded),
        );
        let mut model = BTreeMap::new();
        for (i, written, is_deleted) in all.into_iter().filter(|(_, written, _)| *written <= seq) {
            if is_deleted { model.remove(&key(i)); } else { model.insert(key(i), value(written.0)); }
        }
        model.retain(|key, _| bounds.contains(key));
        let model: Vec<_> = model.into_iter().collect();
        let mut view = VisibleIterator::new(merged, seq, bounds);
        for (from, turns) in walks {
            let mut at = model.partition_point(|(other, _)| *other < key(from));
            view.seek(&key(from)).unwrap();
            prop_assert_eq!(shown(&view), model.get(at).cloned());
            for (is_forward, steps) in turns {
                for _ in 0..steps {
                    if at >= model.len() { break; }
                    step(&mut view, is_forward);
                    at = if is_forward { at + 1 } else { at.wrapping_sub(1) };
                    prop_assert_eq!(shown(&view), model.get(at).cloned());
                }
            }
        }
    }
}

/// Where three sources have all keys at random, some of them twice, no source is asked for most of the steps, though the keys' common beginning changes all the time.
#[test]
fn most_steps_ask_nobody() {
    let asked = Rc::default();
    let random = |i: u16| (u32::from(i).wrapping_mul(0x9e37_79b1) >> 13) as usize;
    let first = (0..5_000).map(|i| (random(i), i, false));
    let again = (0..5_000).step_by(5).map(|i| (random(i) + 1, i, false));
    let writes: Vec<_> = first.chain(again).collect();
    let (merged, _) = sources(&writes, &[40; 3], &asked);
    let mut view = VisibleIterator::new(merged, SeqNo::MAX, Bounds::default());
    for (is_forward, begin) in [(true, View::seek_to_first as fn(&mut View) -> _), (false, View::seek_to_last)] {
        let Ok(()) = begin(&mut view);
        asked.set(0);
        let mut count = 0;
        while view.valid() {
            count += 1;
            step(&mut view, is_forward);
        }
        assert_eq!(count, 5_000);
        assert!((1..count / 2).contains(&asked.get()), "{} steps of {count} asked for", asked.get());
    }
}

/// Of numbered keys.
fn puts(keys: impl Iterator<Item = u16>, value: &str) -> VecIterator {
    let put = |i| (InternalKey::new(&key(i), SeqNo(7), ValueKind::Put).to_buf(), value.into());
    VecIterator::new(keys.map(put).collect())
}

fn walked<I: Lend>(view: &mut VisibleIterator<I>, is_forward: bool) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut found = Vec::new();
    assert!(if is_forward { view.seek_to_first() } else { view.seek_to_last() }.is_ok());
    while view.valid() {
        found.push((view.key().to_vec(), view.value().to_vec()));
        assert!(if is_forward { view.next() } else { view.prev() }.is_ok());
    }
    if !is_forward {
        found.reverse();
    }
    found
}

/// A merge that lent to a merge did not say that it stood behind what it had shown, and an entry was lost.
#[test]
fn a_merge_of_merges_lends() {
    let belongs = |i: u16, part| (u32::from(i).wrapping_mul(0x9e37_79b1) >> 13) % 6 == part;
    let source = |part| puts((0..200).filter(move |i| belongs(*i, part)), "");
    let pair = |part| MergingIterator::new(vec![source(part), source(part + 1)]);
    let merged = MergingIterator::new(vec![pair(0), pair(2), pair(4)]);
    let mut view = VisibleIterator::new(merged, SeqNo::MAX, Bounds::default());
    let all: Vec<_> = (0..200).map(|i| (key(i), Vec::new())).collect();
    assert_eq!(walked(&mut view, true), all);
    assert_eq!(walked(&mut view, false), all);
}

/// Should two sources hold the same entry, that of the earlier one is shown, also where it is lent.
#[test]
fn the_earlier_of_two_same_entries_is_shown() {
    let earlier = puts([0, 10, 12, 14, 16, 18, 50, 60, 70, 80].into_iter(), "earlier");
    let later = puts([1, 11, 13, 15, 17, 19, 50, 61, 70, 81].into_iter(), "later");
    let mut view = VisibleIterator::new(MergingIterator::new(vec![earlier, later]), SeqNo::MAX, Bounds::default());
    for is_forward in [true, false] {
        let found = walked(&mut view, is_forward);
        assert_eq!(found.len(), 18);
        let both = found.iter().filter(|(found, _)| [key(50), key(70)].contains(found));
        assert!(both.clone().count() == 2 && both.into_iter().all(|(_, value)| value == b"earlier"), "{found:?}");
    }
}
