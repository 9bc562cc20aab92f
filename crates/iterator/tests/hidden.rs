//! Range tombstones and merge operands under a view: against a map from which keys were removed one by one, and to whose values operands were applied at once; and how many entries a scan looks at.

use esker_format::{InternalKey, SeqNo, Trailer, ValueKind};
use esker_iterator::{
    Bounds, Covers, Fragments, InternalIterator, Lend, LentVec, MergingIterator, Plain, RangeTombstone,
    RangeTombstones, Stepped, VecIterator, VisibleIterator, Way, operators::Append,
};
use esker_testkit::iterator_suite::{Entry, any_user_key};
use proptest::collection::vec;
use proptest::prelude::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::ops::Bound;
use std::rc::Rc;
use std::sync::Arc;

/// What is done to a key, or from a key on up to another.
#[derive(Debug, Clone)]
enum Op {
    Put(Vec<u8>),
    Merge(Vec<u8>),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => any_user_key().prop_map(Op::Put),
        3 => any_user_key().prop_map(Op::Merge),
        1 => any_user_key().prop_map(Op::Delete),
        2 => (any_user_key(), any_user_key()).prop_map(|(begin, end)| Op::DeleteRange(begin, end)),
    ]
}

#[derive(Debug, Clone)]
enum Move {
    First,
    Last,
    Next,
    Prev,
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
}

fn any_move() -> impl Strategy<Value = Move> {
    prop_oneof![
        1 => Just(Move::First),
        1 => Just(Move::Last),
        9 => Just(Move::Next),
        9 => Just(Move::Prev),
        2 => any_user_key().prop_map(Move::Seek),
        2 => any_user_key().prop_map(Move::SeekForPrev),
    ]
}

fn any_bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        1 => any_user_key().prop_map(Bound::Included),
        1 => any_user_key().prop_map(Bound::Excluded),
        2 => Just(Bound::Unbounded),
    ]
}

/// A source that counts the entries it is moved to by steps, and the seeks.
#[derive(Debug)]
struct Counted {
    inner: VecIterator,
    steps: Rc<Cell<usize>>,
    seeks: Rc<Cell<usize>>,
}

impl Counted {
    fn step(&self) {
        self.steps.set(self.steps.get() + 1);
    }

    fn sought(&self) {
        self.seeks.set(self.seeks.get() + 1);
    }
}

/// What it lends is walked over without being asked, nor counted.
impl Lend for Counted {
    type Lent = LentVec;

    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut LentVec) -> usize {
        self.inner.lend(way, plain, lent)
    }

    fn take_back(&mut self, lent: &mut LentVec) -> bool {
        self.inner.take_back(lent)
    }
}

impl InternalIterator for Counted {
    type Error = Infallible;

    fn valid(&self) -> bool {
        self.inner.valid()
    }

    fn seek_to_first(&mut self) -> Result<(), Infallible> {
        self.sought();
        self.inner.seek_to_first()
    }

    fn seek_to_last(&mut self) -> Result<(), Infallible> {
        self.sought();
        self.inner.seek_to_last()
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.sought();
        self.inner.seek(target)
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), Infallible> {
        self.sought();
        self.inner.seek_for_prev(target)
    }

    fn next(&mut self) -> Result<(), Infallible> {
        self.step();
        self.inner.next()
    }

    fn prev(&mut self) -> Result<(), Infallible> {
        self.step();
        self.inner.prev()
    }

    fn key(&self) -> InternalKey<'_> {
        self.inner.key()
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }

    fn next_is_other_key(&mut self) -> bool {
        self.inner.next_is_other_key()
    }

    fn prev_is_other_key(&mut self) -> bool {
        self.inner.prev_is_other_key()
    }

    fn try_next_key(&mut self) -> Option<Trailer> {
        self.step();
        self.inner.try_next_key()
    }

    fn try_prev(&mut self) -> Option<Stepped> {
        self.step();
        self.inner.try_prev()
    }

    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        self.inner.steps_before(way, user_key)
    }
}

type View = VisibleIterator<MergingIterator<Counted>>;

/// The view of operations numbered from 1 on, in sources that end at `cuts`, the oldest first; with its counts of steps and seeks.
fn view(ops: &[Op], cuts: &[usize], seq: u64, bounds: Bounds) -> (View, Rc<Cell<usize>>, Rc<Cell<usize>>) {
    let counts = (Rc::new(Cell::new(0)), Rc::new(Cell::new(0)));
    let numbered: Vec<_> = ops.iter().zip(1..).collect();
    let (mut children, mut covers) = (Vec::new(), Covers::new());
    let mut high = ops.len();
    for low in cuts.iter().rev().chain([&0]) {
        let source = &numbered[*low..high];
        high = *low;
        let mut entries: Vec<Entry> = source
            .iter()
            .filter_map(|(op, seq)| match op {
                Op::Put(key) => {
                    Some((InternalKey::new(key, SeqNo(*seq), ValueKind::Put).to_buf(), seq.to_string().into_bytes()))
                }
                Op::Merge(key) => {
                    Some((InternalKey::new(key, SeqNo(*seq), ValueKind::Merge).to_buf(), seq.to_string().into_bytes()))
                }
                Op::Delete(key) => Some((InternalKey::new(key, SeqNo(*seq), ValueKind::Delete).to_buf(), Vec::new())),
                Op::DeleteRange(..) => None,
            })
            .collect();
        entries.sort();
        let layers = source.iter().filter_map(|(op, seq)| match op {
            Op::DeleteRange(begin, end) => Some(Fragments::cut([RangeTombstone { begin, end, seq: SeqNo(*seq) }])),
            _ => None,
        });
        let tombstones = RangeTombstones::new(layers.map(Arc::new).collect());
        // Sources without entries are left out, as an engine may do.
        if !entries.is_empty() {
            let (steps, seeks) = (Rc::clone(&counts.0), Rc::clone(&counts.1));
            children.push(Counted { inner: VecIterator::new(entries), steps, seeks });
        }
        if !tombstones.is_empty() {
            covers.push(children.len(), Arc::new(tombstones));
        }
    }
    (VisibleIterator::with_tombstones(MergingIterator::new(children), SeqNo(seq), bounds, covers), counts.0, counts.1)
}

/// The value at hand: operands are put behind it, with a comma.
fn value(view: &View) -> Vec<u8> {
    if view.trailer().kind() != ValueKind::Merge {
        assert_eq!(view.value_slice(), view.value());
        return view.value().to_vec();
    }
    let stack = view.stack();
    assert_eq!((view.value(), &view.value_slice()[..]), (stack.newest(), stack.newest()));
    let base = stack.base().map(|(trailer, stored)| {
        assert_eq!(trailer.kind(), ValueKind::Put);
        &stored[..]
    });
    stack.merge(&Append::with_separator(","), view.key(), base).unwrap()
}

/// The oracle: key and number of the put, and those of operands.
fn model(ops: &[Op], seq: u64, bounds: &Bounds) -> Vec<(Vec<u8>, Vec<u8>)> {
    let mut map = BTreeMap::new();
    for (op, seq) in ops.iter().zip(1..=seq) {
        match op {
            Op::Put(key) => drop(map.insert(key.clone(), seq.to_string().into_bytes())),
            Op::Merge(key) => {
                let value = map.entry(key.clone()).and_modify(|value: &mut Vec<u8>| value.push(b',')).or_default();
                value.extend_from_slice(seq.to_string().as_bytes());
            }
            Op::Delete(key) => drop(map.remove(key)),
            Op::DeleteRange(begin, end) => map.retain(|key, _| key < begin || !end.is_empty() && key >= end),
        }
    }
    map.into_iter().filter(|(key, _)| bounds.contains(key)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn shows_what_is_left_when_keys_are_removed_one_by_one(
        ops in prop_oneof![vec(any_op(), 0..60), vec(prop_oneof![9 => Just(Op::Merge(vec![b'a'])), 1 => any_op()], 0..120)],
        mut cuts in vec(0..60usize, 0..4),
        (lower, upper) in (any_bound(), any_bound()),
        moves in vec(any_move(), 1..40),
    ) {
        cuts.iter_mut().for_each(|cut| *cut = (*cut).min(ops.len()));
        cuts.sort_unstable();
        for seq in [0, ops.len() / 3, ops.len() / 2, ops.len()] {
            let bounds = Bounds::new(lower.as_ref().map(|k| &k[..]), upper.as_ref().map(|k| &k[..]));
            let model = model(&ops, seq as u64, &bounds);
            let (mut view, ..) = view(&ops, &cuts, seq as u64, bounds);
            let mut at = usize::MAX;
            for step in &moves {
                match step {
                    Move::First => { at = 0; view.seek_to_first() }
                    Move::Last => { at = model.len().wrapping_sub(1); view.seek_to_last() }
                    Move::Seek(key) => { at = model.partition_point(|(k, _)| k < key); view.seek(key) }
                    Move::SeekForPrev(key) => {
                        at = model.partition_point(|(k, _)| k <= key).wrapping_sub(1);
                        view.seek_for_prev(key)
                    }
                    Move::Next if at < model.len() => { at += 1; view.next() }
                    Move::Prev if at < model.len() => { at = at.wrapping_sub(1); view.prev() }
                    Move::Next | Move::Prev => Ok(()),
                }.unwrap();
                let shown = view.valid().then(|| (view.key().to_vec(), value(&view)));
                prop_assert_eq!(shown.as_ref(), model.get(at), "after {:?} at {}", step, seq);
            }
        }
    }
}

/// Ten thousand keys that a newer source's tombstone covers, with one key before, one behind and one written anew among them, cost a few seeks, whichever way they are met.
#[test]
fn a_scan_does_not_visit_what_a_newer_source_has_deleted() {
    let key = |i: usize| format!("k{i:05}").into_bytes();
    let mut ops: Vec<Op> = (0..10_000).map(|i| Op::Put(key(i))).collect();
    let cuts = [ops.len()];
    ops.push(Op::DeleteRange(key(1), key(9_999)));
    ops.push(Op::Put(key(5_000)));
    let (mut view, steps, seeks) = view(&ops, &cuts, ops.len() as u64, Bounds::default());
    let expected = [0, 5_000, 9_999].map(key);
    view.seek_to_first().unwrap();
    let mut found = Vec::new();
    while view.valid() {
        found.push(view.key().to_vec());
        view.next().unwrap();
    }
    assert_eq!(found, expected);
    view.seek_to_last().unwrap();
    let mut found = Vec::new();
    while view.valid() {
        found.insert(0, view.key().to_vec());
        view.prev().unwrap();
    }
    assert_eq!(found, expected);
    for (from, to) in [(2_000, 5_000), (7_000, 9_999)] {
        view.seek(&key(from)).unwrap();
        assert_eq!(view.key(), key(to));
        view.prev().unwrap();
        assert_eq!(view.key(), if to == 5_000 { key(0) } else { key(5_000) });
        view.next().unwrap();
        assert_eq!(view.key(), key(to));
    }
    view.seek_for_prev(&key(4_000)).unwrap();
    assert_eq!(view.key(), key(0));
    assert!(steps.get() < 60 && seeks.get() < 60, "{} steps, {} seeks", steps.get(), seeks.get());

    // As of before the deletion all is there.
    let (mut before, ..) = self::view(&ops, &cuts, 10_000, Bounds::default());
    before.seek(&key(2_000)).unwrap();
    assert_eq!(before.key(), key(2_000));
}

/// A hundred thousand operands of one key cost steps in proportion, forward and backward, and are passed by a seek.
#[test]
fn many_operands_cost_their_number() {
    const COUNT: usize = 100_000;
    let mut ops = vec![Op::Put(b"a".to_vec()), Op::Put(b"k".to_vec()), Op::Put(b"z".to_vec())];
    ops.extend((0..COUNT).map(|_| Op::Merge(b"k".to_vec())));
    let cuts = [2, COUNT / 2];
    let (mut view, steps, seeks) = view(&ops, &cuts, ops.len() as u64, Bounds::default());
    view.seek(b"b").unwrap();
    assert_eq!((view.key(), view.stack().len()), (&b"k"[..], COUNT));
    let forward = value(&view);
    assert!(forward.starts_with(b"2,4,5,"));
    view.next().unwrap();
    assert_eq!(view.key(), b"z");
    view.prev().unwrap();
    assert_eq!((view.key(), value(&view)), (&b"k"[..], forward));
    view.prev().unwrap();
    assert_eq!(view.key(), b"a");
    assert!(steps.get() < 3 * COUNT && seeks.get() < 60, "{} steps, {} seeks", steps.get(), seeks.get());
}
