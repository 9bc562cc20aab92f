//! Every iterator of this crate against the contract.

use esker_format::InternalKey;
use esker_iterator::{ConcatIterator, InternalIterator, MergingIterator, Run, VecIterator};
use esker_testkit::iterator_suite::{self, Entry, Lends};
use std::convert::Infallible;

#[test]
fn vec() {
    iterator_suite::run(|entries| VecIterator::new(entries.to_vec()));
}

#[test]
fn behind_a_pointer() {
    iterator_suite::run(|entries| -> Box<dyn InternalIterator<Error = Infallible>> {
        Box::new(VecIterator::new(entries.to_vec()))
    });
}

/// Deals entries to `count` sources in runs of growing length, so that the lead changes often here and seldom there.
fn merged(entries: &[Entry], count: usize) -> MergingIterator<VecIterator> {
    let mut dealt = vec![Vec::new(); count];
    for (i, entry) in entries.iter().enumerate() {
        let turn = (i as f64).sqrt() as usize;
        dealt[turn * turn % 7 * 5 % count].push(entry.clone());
    }
    MergingIterator::new(dealt.into_iter().map(VecIterator::new).collect())
}

#[test]
fn merging_one() {
    iterator_suite::run(|entries| merged(entries, 1));
}

#[test]
fn merging_two() {
    iterator_suite::run(|entries| merged(entries, 2));
}

#[test]
fn merging_three() {
    iterator_suite::run(|entries| merged(entries, 3));
}

#[test]
fn merging_nine_of_which_some_are_empty() {
    iterator_suite::run(|entries| merged(entries, 9));
}

#[test]
fn lending() {
    iterator_suite::run_lending(Lends::BothWays, |entries| VecIterator::new(entries.to_vec()));
    iterator_suite::run_lending(Lends::BothWays, |entries| merged(entries, 1));
    (2..6).for_each(|count| iterator_suite::run_lending(Lends::OneWay, |entries| merged(entries, count)));
    iterator_suite::run_lending(Lends::BothWays, |entries| ConcatIterator::new(Cut::new(entries, 7)));
}

/// With forty, a child that has moved goes far back.
#[test]
fn merging_entries_dealt_one_by_one() {
    for count in [5, 40] {
        iterator_suite::run(|entries| {
            let deal = |c| entries.iter().skip(c).step_by(count).cloned().collect();
            MergingIterator::new((0..count).map(|c| VecIterator::new(deal(c))).collect())
        });
    }
}

/// Merges nested in merges, as the engine's levels are.
#[test]
fn merging_merges() {
    iterator_suite::run(|entries| {
        let (even, odd): (Vec<_>, Vec<_>) = entries.iter().cloned().enumerate().partition(|(i, _)| i % 2 == 0);
        let half = |half: Vec<(usize, Entry)>| merged(&half.into_iter().map(|(_, e)| e).collect::<Vec<_>>(), 3);
        MergingIterator::new(vec![half(even), half(odd)])
    });
}

/// Entries cut into sources of one length. Each is followed by an empty one, which claims the place of the last entry.
struct Cut(Vec<Vec<Entry>>);

impl Cut {
    fn new(entries: &[Entry], length: usize) -> Self {
        Self(entries.chunks(length).map(<[_]>::to_vec).collect())
    }
}

impl Run for Cut {
    type Iter = VecIterator;

    fn len(&self) -> usize {
        2 * self.0.len()
    }

    fn smallest(&self, i: usize) -> InternalKey<'_> {
        let source = &self.0[i / 2];
        if i.is_multiple_of(2) { source[0].0.as_ref() } else { source[source.len() - 1].0.as_ref() }
    }

    fn largest(&self, i: usize) -> InternalKey<'_> {
        let source = &self.0[i / 2];
        source[source.len() - 1].0.as_ref()
    }

    fn open(&self, i: usize) -> Result<VecIterator, Infallible> {
        Ok(VecIterator::new(if i.is_multiple_of(2) { self.0[i / 2].clone() } else { Vec::new() }))
    }
}

#[test]
fn concatenated() {
    for length in [1, 7, 10_000] {
        iterator_suite::run(|entries| ConcatIterator::new(Cut::new(entries, length)));
    }
}

/// Opening a table may read from disk; a cursor that is sent to and fro within one opens it once.
#[test]
fn a_seek_into_the_open_source_does_not_open_it_anew() {
    struct Counted(Cut, std::cell::Cell<usize>);
    impl Run for Counted {
        type Iter = VecIterator;

        fn len(&self) -> usize {
            self.0.len()
        }

        fn smallest(&self, i: usize) -> InternalKey<'_> {
            self.0.smallest(i)
        }

        fn largest(&self, i: usize) -> InternalKey<'_> {
            self.0.largest(i)
        }

        fn open(&self, i: usize) -> Result<VecIterator, Infallible> {
            self.1.set(self.1.get() + 1);
            self.0.open(i)
        }
    }
    let entries = iterator_suite::entries("a#1,PUT b#1,PUT c#1,PUT d#1,PUT");
    let mut iter = ConcatIterator::new(Counted(Cut::new(&entries, 2), Default::default()));
    for key in [b"a", b"b", b"a"] {
        iter.seek(InternalKey::before_all(key)).unwrap();
        assert_eq!((iter.key().user_key, iter.run().1.get()), (&key[..], 1));
    }
    iter.seek(InternalKey::before_all(b"d")).unwrap();
    assert_eq!(iter.run().1.get(), 2);
}

#[test]
fn merging_concatenated() {
    iterator_suite::run(|entries| {
        let (few, many) = entries.split_at(entries.len() / 3);
        MergingIterator::new(vec![ConcatIterator::new(Cut::new(many, 5)), ConcatIterator::new(Cut::new(few, 2))])
    });
}

/// Nobody promises it, but nothing is lost or swapped when two sources hold one and the same version.
#[test]
fn the_same_version_in_several_sources_comes_once_for_each_in_their_order() {
    let source = |name: &str| {
        let value = |(key, _)| (key, name.as_bytes().to_vec());
        VecIterator::new(iterator_suite::entries("a#2,PUT a#1,PUT b#1,DEL").into_iter().map(value).collect())
    };
    let mut merged = MergingIterator::new(vec![source("x"), source("y"), source("z")]);
    let expected = ["x", "y", "z"].repeat(3);
    let shown = |merged: &MergingIterator<VecIterator>| String::from_utf8(merged.value().to_vec()).unwrap();
    merged.seek_to_first().unwrap();
    for at in 0..9 {
        assert_eq!(shown(&merged), expected[at]);
        if at > 0 {
            merged.prev().unwrap();
            assert_eq!(shown(&merged), expected[at - 1]);
            merged.next().unwrap();
            assert_eq!(shown(&merged), expected[at]);
        }
        merged.next().unwrap();
    }
    merged.seek_to_last().unwrap();
    for at in (0..9).rev() {
        assert_eq!(shown(&merged), expected[at]);
        merged.prev().unwrap();
    }
    assert!(!merged.valid());
}
