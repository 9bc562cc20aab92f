//! The view at one sequence number against a map, and the words of the contract.

use esker_format::{InternalKey, SeqNo, Trailer, ValueKind};
use esker_iterator::{
    Bounds, InternalIterator, Lend, LentVec, MergingIterator, Plain, Stepped, VecIterator, VisibleIterator, Way,
};
use esker_testkit::iterator_suite::{Entry, any_entries, any_user_key, entries, visible_at};
use proptest::collection::vec;
use proptest::prelude::*;
use std::convert::Infallible;
use std::ops::Bound;

/// A source that knows of its entries' neighbours at some places only, as tables do not at some ends of their blocks.
struct Knowing {
    inner: VecIterator,
    /// One bit for a step: whether it knows.
    places: u64,
}

impl Knowing {
    fn knows(&mut self) -> bool {
        self.places = self.places.rotate_left(1);
        self.places & 1 != 0
    }
}

impl InternalIterator for Knowing {
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
        self.inner.next()
    }

    fn prev(&mut self) -> Result<(), Infallible> {
        self.inner.prev()
    }

    fn key(&self) -> InternalKey<'_> {
        self.inner.key()
    }

    fn value(&self) -> &[u8] {
        self.inner.value()
    }

    fn next_is_other_key(&mut self) -> bool {
        self.knows() && self.inner.next_is_other_key()
    }

    fn prev_is_other_key(&mut self) -> bool {
        self.knows() && self.inner.prev_is_other_key()
    }

    fn try_next_key(&mut self) -> Option<Trailer> {
        if self.knows() { self.inner.try_next_key() } else { None }
    }

    fn try_prev(&mut self) -> Option<Stepped> {
        if self.knows() { self.inner.try_prev() } else { None }
    }

    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        if self.knows() { self.inner.steps_before(way, user_key) } else { 0 }
    }
}

impl Lend for Knowing {
    type Lent = LentVec;

    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut LentVec) -> usize {
        if self.knows() { self.inner.lend(way, plain, lent) } else { 0 }
    }

    fn take_back(&mut self, lent: &mut LentVec) -> bool {
        self.inner.take_back(lent)
    }
}

/// So many sources, dealt one by one.
fn merged(entries: &[Entry], count: usize, places: u64) -> MergingIterator<Knowing> {
    let deal = |c| VecIterator::new(entries.iter().skip(c).step_by(count).cloned().collect());
    MergingIterator::new((0..count).map(|c| Knowing { inner: deal(c), places }).collect())
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
        any_user_key().prop_map(Bound::Included),
        any_user_key().prop_map(Bound::Excluded),
        Just(Bound::Unbounded),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, failure_persistence: None, ..ProptestConfig::default() })]

    /// One walk at each sequence number. Bounds may cross: then nothing is ever shown.
    #[test]
    fn shows_what_a_map_holds(
        entries in any_entries(0..100),
        (lower, upper) in (any_bound(), any_bound()),
        moves in vec(any_move(), 1..40),
        (sources, places) in (1..5usize, prop_oneof![Just(0), Just(u64::MAX), any::<u64>()]),
        (expiring, now) in (prop_oneof![Just(0), Just(u64::MAX), any::<u64>()], 0..40u64),
    ) {
        let entries = with_expiries(entries, expiring);
        for seq in (0..31).map(SeqNo) {
            let bounds = Bounds::new(lower.as_ref().map(|k| &k[..]), upper.as_ref().map(|k| &k[..]));
            let mut model = visible_at(&entries, seq, now);
            model.retain(|key, _| bounds.contains(key));
            let model: Vec<_> = model.into_iter().collect();
            let mut view = VisibleIterator::new(merged(&entries, sources, places), seq, bounds).at_time(now);
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
                let shown = view.valid().then(|| (view.key().to_vec(), view.value().to_vec()));
                prop_assert_eq!(shown.as_ref(), model.get(at), "after {:?} at {}", step, seq);
                if view.valid() {
                    let versions = entries.iter().map(|(key, _)| key.as_ref()).filter(|key| key.user_key == view.key());
                    let newest = versions.map(|key| key.trailer).filter(|trailer| trailer.seq() <= seq).max();
                    prop_assert_eq!(Some(view.trailer()), newest);
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Keys of which a source has several in a row, as old data under new ones do: one that goes on, and lends, without a look at the others stops in time, and wherever the walk turns.
    #[test]
    fn a_source_that_goes_on_alone_stops_before_the_next(
        runs in vec((0..4usize, 1..25usize), 1..12),
        walks in vec((any::<prop::sample::Index>(), vec((any::<bool>(), 0..40usize), 1..8)), 1..8),
    ) {
        let mut sources = vec![Vec::new(); 4];
        let mut count = 0;
        for (source, len) in runs {
            for i in count..count + len {
                // Now and then with an older version, at which a step is a step.
                for seq in (if i % 7 == 3 { 1..=2 } else { 2..=2 }).rev() {
                    let key = InternalKey::new(&[i as u8 / 16, i as u8], SeqNo(seq), ValueKind::Put).to_buf();
                    sources[source].push((key, vec![i as u8; seq as usize]));
                }
            }
            count += len;
        }
        let merged = MergingIterator::new(sources.into_iter().map(VecIterator::new).collect());
        let mut view = VisibleIterator::new(merged, SeqNo(2), Bounds::default());
        for (from, turns) in walks {
            let mut at = from.index(count);
            let key = [at as u8 / 16, at as u8];
            if at % 2 == 0 { view.seek(&key) } else { view.seek_for_prev(&key) }.unwrap();
            for (is_forward, steps) in turns {
                for _ in 0..steps.min(if is_forward { count - 1 - at } else { at }) {
                    if is_forward { view.next() } else { view.prev() }.unwrap();
                    at = if is_forward { at + 1 } else { at - 1 };
                    prop_assert_eq!((view.key(), view.value()), (&[at as u8 / 16, at as u8][..], &[at as u8; 2][..]));
                }
            }
        }
    }
}

/// Has the values expire whose sequence number is set in `which`, each at some time up to 40.
fn with_expiries(entries: Vec<Entry>, which: u64) -> Vec<Entry> {
    let expire = |(mut key, value): Entry| {
        let seq = key.trailer.seq();
        if key.trailer.kind() == ValueKind::Delete || which >> (seq.0 % 64) & 1 == 0 {
            return (key, value);
        }
        key.trailer = Trailer::new(seq, ValueKind::Expiring);
        (key, [&(seq.0 * 11 % 41).to_le_bytes()[..], &value].concat())
    };
    entries.into_iter().map(expire).collect()
}

/// What has expired hides what is older, as a tombstone does; and goes on to be shown to who reads as of before.
#[test]
fn what_expires_is_there_until_its_time() {
    let text = "a#9,EXP:50=new a#4,PUT:old b#3,EXP:60=b c#5,PUT:c d#6,EXP:40=d";
    let at = |seq, now| view(text, seq).at_time(now);
    let (a, b) = ("a=2\\x00\\x00\\x00\\x00\\x00\\x00\\x00new ", "b=<\\x00\\x00\\x00\\x00\\x00\\x00\\x00b ");
    assert_eq!(forward(&mut at(9, 49)), format!("{a}{b}c=c "));
    assert_eq!(forward(&mut at(9, 50)), format!("{b}c=c "));
    assert_eq!(backward(&mut at(9, 50)), format!("c=c {b}"));
    assert_eq!(forward(&mut at(8, 50)), format!("a=old {b}c=c "));
    assert_eq!(forward(&mut at(9, 60)), "c=c ");
    assert_eq!(backward(&mut at(9, 60)), "c=c ");
}

fn view(text: &str, seq: u64) -> VisibleIterator<VecIterator> {
    VisibleIterator::new(VecIterator::new(entries(text)), SeqNo(seq), Bounds::default())
}

fn forward(view: &mut VisibleIterator<impl Lend>) -> String {
    let mut seen = String::new();
    assert!(view.seek_to_first().is_ok());
    while view.valid() {
        seen += &format!("{}={} ", view.key().escape_ascii(), view.value().escape_ascii());
        assert!(view.next().is_ok());
    }
    seen
}

fn backward(view: &mut VisibleIterator<impl Lend>) -> String {
    let mut seen = String::new();
    assert!(view.seek_to_last().is_ok());
    while view.valid() {
        seen += &format!("{}={} ", view.key().escape_ascii(), view.value().escape_ascii());
        assert!(view.prev().is_ok());
    }
    seen
}

#[test]
fn as_drawn_in_the_module_comment() {
    let text = "a#9,PUT:9 a#4,PUT:4 b#7,DEL b#3,PUT:3 c#8,PUT:8 c#5,PUT:5 c#2,PUT:2";
    assert_eq!(forward(&mut view(text, 7)), "a=4 c=5 ");
    assert_eq!(backward(&mut view(text, 7)), "c=5 a=4 ");
    assert_eq!(forward(&mut view(text, 3)), "b=3 c=2 ");
    assert_eq!(forward(&mut view(text, 1)), "");
}

/// A key overwritten or rewritten thousands of times is left by a seek, wherever among its versions the reader stands.
#[test]
fn a_key_of_many_versions_between_two_others() {
    for (kind, newest) in [("PUT:", true), ("DEL", false)] {
        let versions: String = (2..2000).map(|seq| format!("k#{seq},{kind} ")).collect();
        let text = format!("j#1,PUT {versions} l#1,PUT");
        for seq in [1, 2, 3, 30, 31, 32, 33, 34, 35, 1000, 1960, 1970, 1998, 1999, 5000] {
            let expected = if newest && seq > 1 { "j= k= l= " } else { "j= l= " };
            let mut view = view(&text, seq);
            assert_eq!(forward(&mut view), expected, "at {seq}");
            let reversed: String = expected.split_inclusive(' ').rev().collect();
            assert_eq!(backward(&mut view), reversed, "at {seq}");
            view.seek(b"k").unwrap();
            if newest && seq > 1 {
                assert_eq!(view.trailer().seq(), SeqNo(seq.min(1999)));
                view.prev().unwrap();
                assert_eq!(view.key(), b"j");
                view.next().unwrap();
                assert_eq!(view.trailer().seq(), SeqNo(seq.min(1999)));
                view.seek_for_prev(b"kk").unwrap();
                assert_eq!(view.trailer().seq(), SeqNo(seq.min(1999)));
            }
            view.next().unwrap();
            assert_eq!(view.valid().then(|| view.key()), (newest && seq > 1).then_some(&b"l"[..]));
        }
    }
}

#[test]
fn bounds_that_cross_hold_nothing() {
    let inner = || VecIterator::new(entries("a#1,PUT b#1,PUT c#1,PUT d#1,PUT"));
    let bounds = Bounds::new(Bound::Included(b"d"), Bound::Excluded(b"b"));
    let mut view = VisibleIterator::new(inner(), SeqNo(9), bounds);
    assert_eq!((forward(&mut view), backward(&mut view)), (String::new(), String::new()));
    for key in [&b""[..], b"a", b"b", b"c", b"d", b"e"] {
        view.seek(key).unwrap();
        assert!(!view.valid());
        view.seek_for_prev(key).unwrap();
        assert!(!view.valid());
    }
}

/// Bytes that a source keeps are pinned where they are long, and the copy of short ones is owned, whichever way the walk came.
#[test]
fn values_come_owned_from_either_direction() {
    let long = "y".repeat(5000);
    let text = format!("a#3,PUT:old a#7,PUT:{long} b#1,PUT:x c#9,PUT:{long} c#2,PUT:z");
    for seq in [2, 5, 8, 9] {
        let mut view = view(&text, seq);
        view.seek_to_first().unwrap();
        let mut forward = Vec::new();
        while view.valid() {
            assert_eq!(view.value_slice(), view.value());
            forward.push(view.value_slice());
            view.next().unwrap();
        }
        view.seek_to_last().unwrap();
        for value in forward.iter().rev() {
            assert_eq!((view.value_slice(), view.value()), (value.clone(), &value[..]));
            view.prev().unwrap();
        }
        assert!(!view.valid());
    }
}
