//! An error is returned by the call that meets it, ends the walk, and comes again until a seek; it never looks like the end.

use esker_format::{InternalKey, SeqNo};
use esker_iterator::{Bounds, ConcatIterator, InternalIterator, MergingIterator, Run, VisibleIterator};
use esker_testkit::iterator_suite::{Entry, FailingIterator, Failure, entries};
use std::cell::Cell;

const TEXT: &str = "a#2,PUT a#1,PUT b#9,PUT b#3,PUT c#2,DEL c#1,PUT d#5,PUT e#5,PUT f#5,PUT";
const NEVER: usize = usize::MAX;

/// The same walk over any iterator: up, with turns, and down. Returns what it saw, or the error it met first.
fn walk<I: InternalIterator<Error = Failure>>(iter: &mut I) -> Result<Vec<String>, Failure> {
    let mut seen = Vec::new();
    iter.seek_to_first()?;
    while iter.valid() {
        seen.push(format!("{:?}", iter.key()));
        iter.next()?;
    }
    iter.seek_to_last()?;
    while iter.valid() {
        seen.push(format!("{:?}", iter.key()));
        iter.prev()?;
    }
    iter.seek(InternalKey::seek(b"c", SeqNo(9)))?;
    for _ in 0..2 {
        iter.prev()?;
        seen.push(format!("{:?}", iter.key()));
        iter.next()?;
        iter.next()?;
    }
    iter.seek_for_prev(InternalKey::seek(b"d", SeqNo(9)))?;
    iter.next()?;
    Ok(seen)
}

/// Lets every move of the sources fail in turn, until the walk gets through.
fn every_failure_sticks<I: InternalIterator<Error = Failure>>(make: impl Fn(usize) -> I) {
    let sound = walk(&mut make(NEVER)).unwrap();
    for moves in 0.. {
        let mut iter = make(moves);
        match walk(&mut iter) {
            Ok(seen) => {
                assert!(moves > 10, "the failures were not met");
                assert_eq!(seen, sound);
                return;
            }
            Err(Failure) => {
                for _ in 0..2 {
                    assert!(!iter.valid());
                    assert_eq!(iter.next(), Err(Failure));
                    assert_eq!(iter.prev(), Err(Failure));
                }
                assert_eq!(walk(&mut iter).as_ref(), Ok(&sound), "a seek makes it good again");
            }
        }
    }
}

fn halves() -> (Vec<Entry>, Vec<Entry>) {
    let all = entries(TEXT);
    (all.iter().step_by(2).cloned().collect(), all.iter().skip(1).step_by(2).cloned().collect())
}

#[test]
fn of_a_source_in_a_merge() {
    let (even, odd) = halves();
    let source = |entries: &Vec<Entry>, moves| FailingIterator::new(entries.clone(), moves);
    every_failure_sticks(|n| MergingIterator::new(vec![source(&even, n), source(&odd, NEVER)]));
    every_failure_sticks(|n| MergingIterator::new(vec![source(&even, NEVER), source(&odd, n)]));
    every_failure_sticks(|n| MergingIterator::new(vec![source(&entries(TEXT), n)]));
}

/// Tables of three entries; the `n`th opening fails, or the `n`th move within a table.
struct Tables {
    tables: Vec<Vec<Entry>>,
    opens_left: Cell<usize>,
    moves: Cell<usize>,
}

impl Run for Tables {
    type Iter = FailingIterator;

    fn len(&self) -> usize {
        self.tables.len()
    }

    fn smallest(&self, i: usize) -> InternalKey<'_> {
        self.tables[i][0].0.as_ref()
    }

    fn largest(&self, i: usize) -> InternalKey<'_> {
        self.tables[i][2].0.as_ref()
    }

    fn open(&self, i: usize) -> Result<FailingIterator, Failure> {
        let left = self.opens_left.get();
        self.opens_left.set(left.wrapping_sub(1));
        if left == 0 {
            Err(Failure)
        } else {
            Ok(FailingIterator::new(self.tables[i].clone(), self.moves.replace(NEVER)))
        }
    }
}

#[test]
fn of_a_table_in_a_run() {
    let tables = || entries(TEXT).chunks(3).map(<[_]>::to_vec).collect();
    let run = |opens, moves| Tables { tables: tables(), opens_left: Cell::new(opens), moves: Cell::new(moves) };
    for opens in 0..6 {
        let mut iter = ConcatIterator::new(run(opens, NEVER));
        assert_eq!(walk(&mut iter), Err(Failure), "at most one table is open, so the walk opens many");
        assert_eq!((iter.valid(), iter.next(), iter.prev()), (false, Err(Failure), Err(Failure)));
        assert!(walk(&mut iter).is_ok());
    }
    for moves in 0..4 {
        let mut iter = ConcatIterator::new(run(NEVER, moves));
        assert_eq!(walk(&mut iter), Err(Failure));
        assert_eq!((iter.valid(), iter.next(), iter.prev()), (false, Err(Failure), Err(Failure)));
        assert!(walk(&mut iter).is_ok());
    }
}

#[test]
fn under_a_view() {
    for moves in 0..60 {
        let walk = |view: &mut VisibleIterator<FailingIterator>| -> Result<Vec<Vec<u8>>, Failure> {
            let mut seen = Vec::new();
            view.seek_to_first()?;
            while view.valid() {
                seen.push(view.key().to_vec());
                view.next()?;
            }
            view.seek_for_prev(b"zz")?;
            while view.valid() {
                seen.push(view.key().to_vec());
                view.prev()?;
            }
            view.seek(b"d")?;
            view.prev()?;
            view.next()?;
            view.next()?;
            Ok(seen)
        };
        let mut view = VisibleIterator::new(FailingIterator::new(entries(TEXT), moves), SeqNo(5), Bounds::default());
        match walk(&mut view) {
            Ok(_) => {
                assert!(moves > 20);
                return;
            }
            Err(Failure) => {
                assert_eq!((view.valid(), view.next(), view.prev()), (false, Err(Failure), Err(Failure)));
                let sound = walk(&mut view).unwrap();
                assert_eq!(sound, [b"a", b"b", b"d", b"e", b"f", b"f", b"e", b"d", b"b", b"a"]);
            }
        }
    }
    panic!("sixty moves were not enough");
}
