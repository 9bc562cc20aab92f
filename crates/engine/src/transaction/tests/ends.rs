//! `first`, `last` and `is_empty` in a transaction: what was deleted is passed once or twice and not in each one; beside a walk that passes all of it, in what is seen, what counts as read, and what is a conflict.

use super::super::Transaction;
use crate::edges::Extreme;
use crate::read_set::Interval;
use crate::reads::Reads;
use crate::{Background, Engine, ErrorKind, KeyspaceOptions, Options, Slice};
use esker_vfs::MemVfs;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};

fn engine() -> Engine {
    let options = Options { memtable_bytes: Some(16 << 10), ..Options::default() };
    let appends = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..KeyspaceOptions::default() };
    let builder = Engine::builder("data").vfs(MemVfs::new()).options(options).default_keyspace(appends);
    builder.background(Background::Manual).open().unwrap()
}

fn at(n: u64) -> [u8; 8] {
    n.to_be_bytes()
}

/// The same by the plain walk.
fn walked(tx: &Transaction, end: Extreme) -> Option<(Slice, Slice)> {
    let mut iter = tx.iter();
    let found = match end {
        Extreme::First => iter.next(),
        Extreme::Last => iter.next_back(),
    };
    found.transpose().unwrap()
}

fn found(tx: &Transaction, end: Extreme) -> Option<(Slice, Slice)> {
    match end {
        Extreme::First => tx.first().unwrap(),
        Extreme::Last => tx.last().unwrap(),
    }
}

/// How many keys are passed that are deleted: on the way to what the snapshot has, and from there.
fn passed(tx: &Transaction, end: Extreme) -> u64 {
    let reads = Reads { keyspace: tx.snapshot.default_keyspace(), at: Some(tx.snapshot.taken()) };
    let below = reads.walk_to(end).unwrap().map_or(0, |walk| walk.passed());
    below + tx.reads().unwrap().walk_to(end).unwrap().passed()
}

fn intervals(tx: &Transaction) -> Vec<Interval> {
    let mut tracked = tx.reads.as_ref().unwrap().lock();
    let set = tracked.as_mut().unwrap();
    set.settle();
    set.parts().flat_map(|(_, intervals)| intervals.to_vec()).collect()
}

/// A queue that is worked off by transactions: each looked for its head from the beginning, over all that had ever been taken out.
#[test]
fn what_was_deleted_is_passed_once_or_twice_and_not_in_each_transaction() {
    const ITEMS: u64 = 800;
    for end in [Extreme::First, Extreme::Last] {
        let engine = engine();
        let place = |i: u64| at(if end == Extreme::First { i } else { ITEMS - i });
        let other_end = place(ITEMS);
        (0..ITEMS).for_each(|i| engine.put(place(i), "item").unwrap());
        let mut all = 0;
        for i in 0..ITEMS {
            let mut tx = engine.transaction();
            // It has written something itself, or deleted a range, before it looks.
            match i % 4 {
                0 => tx.put(other_end, "own").unwrap(),
                1 => tx.delete(place(i - 1)).unwrap(),
                2 => tx.delete_range(at(u64::MAX - 1), at(u64::MAX)).unwrap(),
                _ => {}
            }
            assert_eq!(found(&tx, end).unwrap().0, place(i));
            // From the other end it would have read what is written there.
            assert!(end == Extreme::Last || !tx.is_empty().unwrap());
            all += passed(&tx, end);
            tx.delete(place(i)).unwrap();
            // So that the commit looks through what it has come over.
            engine.put(other_end, "other").unwrap();
            tx.commit().unwrap();
        }
        assert!(all <= 6 * ITEMS, "{all} passed");
    }
}

/// What comes into the part that was not walked over is a conflict, as is what comes behind it up to what was found. A deletion of nothing there is none.
#[test]
fn what_comes_into_the_part_that_is_known_to_be_empty_is_a_conflict() {
    for end in [Extreme::First, Extreme::Last] {
        for (written, is_put, is_flushed) in [10, 50, 90]
            .into_iter()
            .flat_map(|key| [(key, true, true), (key, true, false), (key, false, true), (key, false, false)])
        {
            let engine = engine();
            (0..100).for_each(|i| engine.put(at(i), "").unwrap());
            (0..100).filter(|i| *i != 50).for_each(|i| engine.delete(at(i)).unwrap());
            (0..2).for_each(|_| assert_eq!(found(&engine.transaction(), end).unwrap().0, at(50)));
            let mut tx = engine.transaction();
            assert_eq!(found(&tx, end).unwrap().0, at(50));
            assert_eq!(passed(&tx, end), 0);
            tx.put(at(200), "").unwrap();
            match is_put {
                true => engine.put(at(written), "").unwrap(),
                false => engine.delete(at(written)).unwrap(),
            }
            if is_flushed {
                engine.flush().unwrap();
            }
            let is_read = if end == Extreme::First { written <= 50 } else { written >= 50 };
            let expected = match is_read && (is_put || written == 50) {
                true => Err(ErrorKind::Conflict),
                false => Ok(()),
            };
            let result = tx.commit().map_err(|error| error.kind());
            assert_eq!(result, expected, "{end:?}, {written}, put: {is_put}, flushed: {is_flushed}");
        }
    }
}

/// An edge that was found when more had expired tells nothing to who still sees it.
#[test]
fn what_has_expired_since_is_not_beyond_the_edge_for_who_sees_it() {
    let clock = std::sync::Arc::new(esker_vfs::ManualClock::new());
    let vfs = MemVfs::new().with_clock(std::sync::Arc::clone(&clock) as std::sync::Arc<dyn esker_vfs::Clock>);
    let engine = Engine::builder("data").vfs(vfs).background(Background::Manual).open().unwrap();
    let second = std::time::Duration::from_secs(1);
    let for_a_second = crate::WriteOptions { ttl: Some(second), ..Default::default() };
    (0..50).for_each(|i| engine.put_with(at(i), "", &for_a_second).unwrap());
    engine.put(at(50), "").unwrap();
    let mut tx = engine.transaction();
    clock.advance(second);
    (0..3).for_each(|_| assert_eq!(engine.first().unwrap().unwrap().0, at(50)));
    assert_eq!(tx.first().unwrap().unwrap().0, at(0));
    tx.put(at(200), "").unwrap();
    engine.delete(at(0)).unwrap();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
}

/// Each puts a key where it is nearer to the end than all others, or takes the one that is nearest, while others do too. In the order of their commits it must have been so: nothing that came in between was missed.
#[test]
fn who_looks_at_the_end_while_others_do_finds_it_as_it_is_when_he_commits() {
    for end in [Extreme::First, Extreme::Last] {
        let options =
            Options { memtable_bytes: Some(16 << 10), wal_retain_bytes: Some(u64::MAX), ..Options::default() };
        let engine = Engine::builder("data").vfs(MemVfs::new()).options(options).open().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..3 {
                let engine = &engine;
                scope.spawn(move || {
                    let mut random: u64 = thread;
                    for _ in 0..2_000 {
                        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                        let key = at((random >> 33) % 1_000);
                        let mut tx = engine.transaction();
                        let nearest = found(&tx, end).map(|(key, _)| key);
                        match nearest {
                            Some(nearest) if random >> 32 & 1 == 0 => tx.delete(nearest).unwrap(),
                            Some(nearest) if !end.is_nearer(&key, &nearest) => continue,
                            _ => tx.put(key, "").unwrap(),
                        }
                        let result = tx.commit();
                        assert!(result.is_ok() || result.is_err_and(|error| error.kind() == ErrorKind::Conflict));
                    }
                });
            }
        });
        let mut keys = BTreeSet::new();
        let mut taken = 0;
        for change in engine.changes_since(0).unwrap() {
            let crate::Change::Batch(batch) = change.unwrap() else { panic!("nothing was ingested") };
            for operation in batch.operations() {
                let nearest: Option<&Vec<u8>> = if end == Extreme::First { keys.first() } else { keys.last() };
                match operation {
                    crate::Operation::Put { key, .. } => {
                        assert!(nearest.is_none_or(|nearest| end.is_nearer(key, nearest)), "{key:?}, {nearest:?}");
                        keys.insert(key.to_vec());
                    }
                    crate::Operation::Delete { key, .. } => {
                        assert_eq!(nearest.map(|nearest| &nearest[..]), Some(key));
                        keys.remove(key);
                        taken += 1;
                    }
                    other => panic!("{other:?}"),
                }
            }
        }
        assert!(taken > 300 && engine.metrics().conflicts > 0, "{taken} taken: that is hardly a test");
    }
}

#[derive(Debug, Clone)]
enum Change {
    Put(u64),
    Merge(u64),
    Delete(u64),
    DeleteRange(u64, u64),
}

#[derive(Debug, Clone)]
enum Op {
    /// By somebody else.
    Other(Change),
    Load(u64),
    Flush,
    /// Commits the last one, and begins.
    Next,
    Own(Change),
    Look(Extreme),
    LookWhetherEmpty,
}

const KEYS: u64 = 24;

fn change() -> impl Strategy<Value = Change> {
    let key = || 0..KEYS;
    prop_oneof![
        3 => key().prop_map(Change::Put),
        1 => key().prop_map(Change::Merge),
        8 => key().prop_map(Change::Delete),
        1 => (key(), key()).prop_map(|(a, b)| Change::DeleteRange(a.min(b), a.max(b) + 1)),
    ]
}

fn op() -> impl Strategy<Value = Op> {
    prop_oneof![
        8 => change().prop_map(Op::Other),
        1 => (0..KEYS).prop_map(Op::Load),
        1 => Just(Op::Flush),
        4 => Just(Op::Next),
        2 => change().prop_map(Op::Own),
        4 => Just(Op::Look(Extreme::First)),
        4 => Just(Op::Look(Extreme::Last)),
        1 => Just(Op::LookWhetherEmpty),
    ]
}

fn write(tx: &mut Transaction, change: &Change) {
    match change {
        Change::Put(key) => tx.put(at(*key), "put"),
        Change::Merge(key) => tx.merge(at(*key), "+"),
        Change::Delete(key) => tx.delete(at(*key)),
        Change::DeleteRange(from, to) => tx.delete_range(at(*from), at(*to)),
    }
    .unwrap();
}

/// What was written since the transaction began: of each key, whether it may and whether it must count.
#[derive(Debug, Default)]
struct Since {
    keys: BTreeMap<u64, bool>,
    has_ranges: bool,
}

impl Since {
    /// Applies a change to the keys that are there.
    fn note(&mut self, change: &Change, keys: &mut BTreeSet<u64>) {
        match *change {
            Change::Put(key) | Change::Merge(key) => {
                keys.insert(key);
                self.keys.insert(key, true);
            }
            Change::Delete(key) => *self.keys.entry(key).or_default() |= keys.remove(&key),
            Change::DeleteRange(from, to) => {
                self.has_ranges = true;
                (from..to).for_each(|key| *self.keys.entry(key).or_default() |= keys.remove(&key));
            }
        }
    }
}

proptest! {
    #[test]
    fn it_is_as_walking_over_all_of_it(ops in proptest::collection::vec(op(), 1..160)) {
        let engine = engine();
        let aside = engine.keyspace("aside", KeyspaceOptions::default()).unwrap();
        let mut keys: BTreeSet<u64> = (0..KEYS).collect();
        (0..KEYS).for_each(|key| engine.put(at(key), "").unwrap());
        let begin = || (engine.transaction(), engine.transaction(), Since::default(), Vec::new());
        // One that goes by edges, and one that walks.
        let (mut tx, mut plain, mut since, mut own) = begin();
        for op in ops {
            match op {
                Op::Other(change) => {
                    match change {
                        Change::Put(key) => engine.put(at(key), "other"),
                        Change::Merge(key) => engine.merge(at(key), "-"),
                        Change::Delete(key) => engine.delete(at(key)),
                        Change::DeleteRange(from, to) => engine.delete_range(at(from), at(to)),
                    }
                    .unwrap();
                    since.note(&change, &mut keys);
                }
                Op::Load(key) => {
                    engine.bulk_load([(at(key), "loaded")]).unwrap();
                    while engine.step().unwrap() {}
                    since.note(&Change::Put(key), &mut keys);
                }
                Op::Flush => {
                    engine.flush().unwrap();
                    while engine.step().unwrap() {}
                }
                Op::Own(change) => {
                    write(&mut tx, &change);
                    write(&mut plain, &change);
                    own.push(change);
                }
                Op::Look(end) => prop_assert_eq!(found(&tx, end), walked(&plain, end)),
                Op::LookWhetherEmpty => {
                    prop_assert_eq!(tx.is_empty().unwrap(), plain.iter().keys().next().transpose().unwrap().is_none());
                }
                Op::Next => {
                    let read = intervals(&tx);
                    prop_assert_eq!(&read, &intervals(&plain));
                    let is_read = |key: u64| read.iter().any(|interval| interval.contains(&at(key)));
                    tx.put_in(&aside, "k", "v").unwrap();
                    let result = tx.commit().map_err(|error| error.kind());
                    match result {
                        Ok(()) => {
                            let missed = since.keys.iter().find(|(key, must)| **must && is_read(**key));
                            prop_assert!(missed.is_none(), "{missed:?} of {since:?} was missed");
                            own.iter().for_each(|change| since.note(change, &mut keys));
                        }
                        Err(ErrorKind::Conflict) => {
                            // Of a range around gaps that were read nothing may have been there.
                            let may = since.has_ranges || since.keys.keys().any(|key| is_read(*key));
                            prop_assert!(may && !read.is_empty(), "{since:?}, read {read:?}");
                        }
                        Err(kind) => prop_assert!(false, "{kind:?}"),
                    }
                    (tx, plain, since, own) = begin();
                }
            }
        }
    }
}
