//! Walks against a sorted map, while the engine goes on: what a cursor or an iterator shows is the instant it was made at, whatever is written, flushed and
//! compacted between two of its steps, and whichever way these go.
//!
//! A run that fails is shrunk; `PROPTEST_CASES` says how many runs, 256 if it is not set.

use esker::vfs::{MemVfs, Vfs};
use esker::{
    Background, Codec, Cursor, Engine, Iter, LEVELS, LeveledOptions, Options, ReadMode, ReadOptions, Slice, WriteBatch,
};
use proptest::collection::vec;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

#[derive(Debug, Clone)]
enum Op {
    Put(Vec<u8>, usize),
    Delete(Vec<u8>),
    /// So many puts of one key, one after the other.
    Overwrite(Vec<u8>, usize),
    Flush,
    Work(usize),
    Compact,
    /// A cursor, of a snapshot or not, within bounds; it takes the place of another.
    Cursor(usize, bool, Bound<Vec<u8>>, Bound<Vec<u8>>),
    Iter(usize, Bound<Vec<u8>>, Bound<Vec<u8>>),
    Walk(usize, Vec<Step>),
    Take(usize, Vec<bool>),
}

#[derive(Debug, Clone)]
enum Step {
    First,
    Last,
    Next(usize),
    Prev(usize),
    Seek(Vec<u8>),
    SeekForPrev(Vec<u8>),
    Refresh,
}

/// Few keys, so that they have many versions; some share all of a head, some are longer than a word.
fn any_key() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        4 => "[ab]{0,3}".prop_map(String::into_bytes),
        3 => "shared:prefix:[a-d]{1,2}".prop_map(String::into_bytes),
        1 => vec(prop_oneof![Just(0u8), Just(0xff), Just(b'a')], 0..3),
    ]
}

fn any_len() -> impl Strategy<Value = usize> {
    // In the table, and in blob files; copied, and pinned.
    prop_oneof![4 => 0..40usize, 2 => 60..70usize, 1 => 250..300usize, 1 => 1000..1100usize]
}

fn any_bound() -> impl Strategy<Value = Bound<Vec<u8>>> {
    prop_oneof![
        1 => any_key().prop_map(Bound::Included),
        1 => any_key().prop_map(Bound::Excluded),
        2 => Just(Bound::Unbounded),
    ]
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => Just(Step::First),
        1 => Just(Step::Last),
        5 => (1..4usize).prop_map(Step::Next),
        5 => (1..4usize).prop_map(Step::Prev),
        2 => any_key().prop_map(Step::Seek),
        2 => any_key().prop_map(Step::SeekForPrev),
        1 => Just(Step::Refresh),
    ]
}

fn any_op() -> impl Strategy<Value = Op> {
    prop_oneof![
        10 => (any_key(), any_len()).prop_map(|(key, len)| Op::Put(key, len)),
        4 => any_key().prop_map(Op::Delete),
        2 => (any_key(), 2..80usize).prop_map(|(key, count)| Op::Overwrite(key, count)),
        2 => Just(Op::Flush),
        3 => (1..4usize).prop_map(Op::Work),
        1 => Just(Op::Compact),
        3 => (0..WALKERS, any::<bool>(), any_bound(), any_bound()).prop_map(|(n, of, l, u)| Op::Cursor(n, of, l, u)),
        3 => (0..WALKERS, any_bound(), any_bound()).prop_map(|(n, l, u)| Op::Iter(n, l, u)),
        12 => (0..WALKERS, vec(any_step(), 1..6)).prop_map(|(n, steps)| Op::Walk(n, steps)),
        6 => (0..WALKERS, vec(any::<bool>(), 1..6)).prop_map(|(n, front)| Op::Take(n, front)),
    ]
}

const WALKERS: usize = 3;

struct Walker {
    cursor: Cursor,
    bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    of_snapshot: bool,
    shown: Vec<(Vec<u8>, Vec<u8>)>,
    at: Option<usize>,
}

struct Taker {
    iter: Iter,
    left: std::vec::IntoIter<(Vec<u8>, Vec<u8>)>,
}

struct Run {
    engine: Engine,
    model: Map,
    count: usize,
    walkers: [Option<Walker>; WALKERS],
    takers: [Option<Taker>; WALKERS],
}

fn within(model: &Map, (lower, upper): &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Vec<(Vec<u8>, Vec<u8>)> {
    let inside = |key: &Vec<u8>| {
        let above = match lower {
            Bound::Included(lower) => key >= lower,
            Bound::Excluded(lower) => key > lower,
            Bound::Unbounded => true,
        };
        let below = match upper {
            Bound::Included(upper) => key <= upper,
            Bound::Excluded(upper) => key < upper,
            Bound::Unbounded => true,
        };
        above && below
    };
    model.iter().filter(|(key, _)| inside(key)).map(|(key, value)| (key.clone(), value.clone())).collect()
}

impl Run {
    fn put(&mut self, key: &[u8], len: usize) {
        self.count += 1;
        let value: Vec<u8> = self.count.to_le_bytes().into_iter().cycle().take(len).collect();
        while self.engine.put(key, &value).is_err() {
            assert!(self.engine.step().unwrap());
        }
        self.model.insert(key.to_vec(), value);
    }

    fn apply(&mut self, op: &Op) {
        match op {
            Op::Put(key, len) => self.put(key, *len),
            Op::Overwrite(key, count) => (0..*count).for_each(|i| self.put(key, i % 9)),
            Op::Delete(key) => {
                while self.engine.delete(key).is_err() {
                    assert!(self.engine.step().unwrap());
                }
                self.model.remove(key);
            }
            Op::Flush => self.engine.flush().unwrap(),
            Op::Work(steps) => {
                let _ = (0..*steps).find(|_| !self.engine.step().unwrap());
            }
            Op::Compact => self.engine.compact_range(..).unwrap(),
            Op::Cursor(n, of_snapshot, lower, upper) => {
                let options = ReadOptions { lower: lower.clone(), upper: upper.clone() };
                let bounds = (lower.clone(), upper.clone());
                // The snapshot goes at once: what the cursor holds must do.
                let cursor = match of_snapshot {
                    true => self.engine.snapshot().cursor_with(options),
                    false => self.engine.cursor_with(options),
                };
                let shown = within(&self.model, &bounds);
                self.walkers[*n] = Some(Walker { cursor, bounds, of_snapshot: *of_snapshot, shown, at: None });
            }
            Op::Iter(n, lower, upper) => {
                let bounds = (lower.clone(), upper.clone());
                let left = within(&self.model, &bounds).into_iter();
                self.takers[*n] = Some(Taker { iter: self.engine.range(bounds), left });
            }
            Op::Walk(n, steps) => {
                if let Some(walker) = &mut self.walkers[*n] {
                    steps.iter().for_each(|step| walker.walk(step, &self.model));
                }
            }
            Op::Take(n, front) => {
                let Some(taker) = &mut self.takers[*n] else { return };
                let owned = |(key, value): (Slice, Slice)| (key.to_vec(), value.to_vec());
                for front in front {
                    let (found, expected) = match front {
                        true => (taker.iter.next(), taker.left.next()),
                        false => (taker.iter.next_back(), taker.left.next_back()),
                    };
                    assert_eq!(found.map(|found| owned(found.unwrap())), expected);
                }
            }
        }
    }
}

impl Walker {
    fn walk(&mut self, step: &Step, model: &Map) {
        let (cursor, count) = (&mut self.cursor, self.shown.len());
        let many = |times: usize, step: &mut dyn FnMut()| (0..times).for_each(|_| step());
        match step {
            Step::First => {
                cursor.seek_to_first().unwrap();
                self.at = Some(0);
            }
            Step::Last => {
                cursor.seek_to_last().unwrap();
                self.at = count.checked_sub(1);
            }
            Step::Next(times) => {
                many(*times, &mut || cursor.next().unwrap());
                self.at = self.at.map(|at| at + times);
            }
            Step::Prev(times) => {
                many(*times, &mut || cursor.prev().unwrap());
                self.at = self.at.and_then(|at| at.checked_sub(*times));
            }
            Step::Seek(key) => {
                cursor.seek(key).unwrap();
                self.at = Some(self.shown.partition_point(|(found, _)| found < key));
            }
            Step::SeekForPrev(key) => {
                cursor.seek_for_prev(key).unwrap();
                self.at = self.shown.partition_point(|(found, _)| found <= key).checked_sub(1);
            }
            Step::Refresh => {
                cursor.refresh().unwrap();
                self.at = None;
                if !self.of_snapshot {
                    self.shown = within(model, &self.bounds);
                }
            }
        }
        self.at = self.at.filter(|at| *at < self.shown.len());
        let found = self.cursor.valid().then(|| (self.cursor.key(), self.cursor.value().unwrap()));
        let expected = self.at.map(|at| (&self.shown[at].0[..], &self.shown[at].1[..]));
        assert_eq!(found, expected, "after {step:?}");
    }
}

fn sets() -> Vec<Options> {
    let compaction = LeveledOptions {
        l0_trigger: 3,
        l0_slowdown: 6,
        l0_stop: 9,
        level_base_bytes: 1 << 10,
        level_ratio: 2,
        table_bytes: 600,
        grandparent_factor: 2,
        blob_garbage_percent_max: 10,
        ..LeveledOptions::default()
    };
    let tiny = Options {
        memory_budget_bytes: 4 << 20,
        memtable_bytes: Some(8 << 10),
        block_size_bytes: 64,
        wal_bytes_max: 64 << 10,
        compaction,
        ..Options::default()
    };
    vec![
        Options { blob_bytes_min: 0, compression: [Codec::None; LEVELS], ..tiny.clone() },
        Options { blob_bytes_min: 32, compression: [Codec::None; LEVELS], block_size_bytes: 200, ..tiny.clone() },
        Options { blob_bytes_min: 100, read_mode: ReadMode::Pread, compression: [Codec::Lz4; LEVELS], ..tiny.clone() },
        // Level 0 is merged when the walks ask for it.
        Options {
            blob_bytes_min: 0,
            compaction: LeveledOptions { l0_trigger: 20, l0_slowdown: 30, l0_stop: 40, ..tiny.compaction.clone() },
            ..tiny
        },
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 20_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_walk_shows_the_instant_it_began(ops in vec(any_op(), 20..250), set in 0..sets().len()) {
        let vfs = MemVfs::new() as Arc<dyn Vfs>;
        let options = sets().swap_remove(set);
        let engine = Engine::builder("/data").vfs(vfs).options(options).background(Background::Manual).open().unwrap();
        let mut run = Run {
            engine,
            model: Map::new(),
            count: 0,
            walkers: [const { None }; WALKERS],
            takers: [const { None }; WALKERS],
        };
        ops.iter().for_each(|op| run.apply(op));
        // Walks go on when the engine is closed.
        run.engine.close().unwrap();
        for walker in run.walkers.iter_mut().flatten() {
            for step in [Step::Next(2), Step::Prev(3), Step::Last, Step::Prev(2), Step::Next(1), Step::First, Step::Next(1)] {
                walker.walk(&step, &run.model);
            }
        }
        for taker in run.takers.iter_mut().flatten() {
            let found = taker.iter.by_ref().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap());
            assert!(found.eq(taker.left.by_ref()));
        }
    }
}

const KEYS: u8 = 60;
const ROUNDS: usize = 400;

/// Keys of two bytes are written by every round.
fn lasting() -> Vec<[u8; 2]> {
    (0..KEYS).map(|i| [b'k', i]).collect()
}

/// Short, copied, and in blob files, by turns.
fn len_in(round: usize, key: [u8; 2]) -> usize {
    [5, 90, 260, 700][(round + usize::from(key[1])) % 4]
}

/// Whether the key behind this one is deleted by the round.
fn deletes_next(round: usize, key: [u8; 2]) -> bool {
    (round + usize::from(key[1])).is_multiple_of(3)
}

fn value_in(round: usize, key: [u8; 2]) -> Vec<u8> {
    let head = round.to_le_bytes().into_iter().chain(key);
    head.chain(std::iter::repeat_n(round as u8, len_in(round, key))).collect()
}

fn write_round(engine: &Engine, round: usize) {
    let mut batch = WriteBatch::new();
    for key in lasting() {
        batch.put(key, value_in(round, key));
        let next = [key[0], key[1], 0];
        if deletes_next(round, key) {
            batch.delete(next)
        } else {
            batch.put(next, b"")
        };
    }
    engine.write(&batch).unwrap();
}

/// The round that a value is of, which must be the one that was written.
fn round_of(key: &[u8], value: &[u8]) -> usize {
    let round = usize::from_le_bytes(*value.first_chunk().expect("a round"));
    assert!(value == value_in(round, [key[0], key[1]]), "not what round {round} wrote");
    round
}

/// The one round that all is of.
fn round_of_all(pairs: &[(Slice, Slice)]) -> usize {
    let round = round_of(&pairs[0].0, &pairs[0].1);
    let found: Vec<_> = pairs.iter().map(|(key, _)| key.to_vec()).collect();
    let expected: Vec<_> = lasting()
        .into_iter()
        .flat_map(|key| [Some(key.to_vec()), (!deletes_next(round, key)).then(|| vec![key[0], key[1], 0])])
        .flatten()
        .collect();
    assert_eq!(found, expected, "the keys of round {round}");
    assert!(pairs.iter().all(|(key, value)| key.len() == 3 || round_of(key, value) == round), "of several rounds");
    round
}

type Pairs = Vec<(Slice, Slice)>;

fn both_ways(forward: Iter, backward: Iter) -> (Pairs, Pairs) {
    let mut back: Vec<_> = backward.rev().map(Result::unwrap).collect();
    back.reverse();
    (forward.map(Result::unwrap).collect(), back)
}

/// Reads in every way; the round that was seen.
fn read_round(engine: &Engine) -> usize {
    let keys = lasting();
    let round_of_many = |values: Vec<Option<Slice>>| {
        let rounds = keys.iter().zip(values).map(|(key, value)| round_of(key, &value.unwrap()));
        let rounds: BTreeSet<usize> = rounds.collect();
        assert_eq!(rounds.len(), 1, "of several rounds");
        *rounds.first().unwrap()
    };
    let snapshot = engine.snapshot();
    let (forward, backward) = both_ways(snapshot.iter(), snapshot.iter());
    let round = round_of_all(&forward);
    assert!(forward == backward);
    assert_eq!(round_of_many(snapshot.multi_get(&keys).unwrap()), round);
    drop(snapshot);

    let newer = round_of_many(engine.multi_get(&keys).unwrap());
    let (forward, backward) = both_ways(engine.iter(), engine.iter());
    let newer = [newer, round_of_all(&forward), round_of_all(&backward)];
    assert!(round <= newer[0] && newer.is_sorted(), "{round} and then {newer:?}");

    let mut cursor = engine.cursor();
    cursor.seek_to_first().unwrap();
    let round = round_of(cursor.key(), cursor.value().unwrap());
    for i in 0..200 {
        if i % 7 < 4 {
            cursor.next().unwrap()
        } else {
            cursor.prev().unwrap()
        }
        match cursor.valid() {
            true if cursor.key().len() == 2 => assert_eq!(round_of(cursor.key(), cursor.value().unwrap()), round),
            true => assert!(cursor.value().unwrap().is_empty()),
            false => cursor.seek_to_first().unwrap(),
        }
    }
    round
}

/// Tells the readers, whatever becomes of the writer.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn enough_went_on(engine: &Engine) -> bool {
    let metrics = engine.metrics();
    metrics.flushes > 10 && metrics.compactions > 5
}

/// Each batch writes every key: so what a reader sees at one instant is of one round, while memtables fill, are sealed, flushed and merged, and blob files are
/// collected under it.
#[test]
fn every_way_of_reading_sees_one_round() {
    for (set, blob_bytes_min) in [(1, 64), (0, 0), (2, 256)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options { blob_bytes_min, memtable_bytes: Some(64 << 10), ..sets().swap_remove(set) };
        let engine = Engine::builder(dir.path()).options(options).open().unwrap();
        write_round(&engine, 0);
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let end = Done(&done);
            for _ in 0..2 {
                scope.spawn(|| {
                    let mut last = 0;
                    while !done.load(Ordering::Relaxed) {
                        let round = read_round(&engine);
                        assert!(round >= last, "time goes on");
                        last = round;
                    }
                });
            }
            // How much a flush takes up at once is up to the machine, so the writer goes on until enough has gone on under the readers.
            let mut rounds = 1;
            while rounds < ROUNDS || !enough_went_on(&engine) {
                assert!(rounds < 100 * ROUNDS, "{:?}", engine.metrics());
                write_round(&engine, rounds);
                rounds += 1;
            }
            drop(end);
            engine.flush().unwrap();
            assert_eq!(read_round(&engine), rounds - 1);
        });
        assert!(engine.verify().unwrap().is_ok());
    }
}
