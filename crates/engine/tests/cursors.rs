//! Cursors that live long, over many runs: tables of level 0 that lie over one another, deeper ones, memtables. Each is walked to and fro, in steps, leaps and turns, while writes, flushes
//! and compactions go on, beside a list of what it is to show.
//!
//! `model.rs` holds all that an engine does against a map of versions, a moment for each; here it is the shortcuts of walks (`esker_iterator::Lend`) that are to make no difference, so cursors grow old over them.

#[path = "model/options.rs"]
#[allow(dead_code, reason = "the model uses more of them")]
mod options;

use esker::operators::Append;
use esker::vfs::{Clock, ManualClock, MemVfs, Vfs};
use esker::{Background, Cursor, Engine, KeyspaceOptions, LeveledOptions, Options, ReadOptions, WriteOptions};
use esker_testkit::{random::Random, stress};
use std::collections::BTreeMap;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;
use std::time::Duration;

/// Cursors at a time.
const WALKERS_MAX: usize = 6;

/// What is there: each key's value, and until when.
type Contents = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

/// How the nth key looks, so that keys share much or little, and end within one another.
fn key(style: u64, n: usize) -> Vec<u8> {
    let digits = format!("{n:04}");
    match style {
        0 => digits.into_bytes(),
        1 => {
            let wide = digits.bytes().flat_map(|digit| [digit; 4]);
            let end: &[u8] = if n.is_multiple_of(3) { b"-with-a-long-end-of-more-than-32-bytes" } else { b"" };
            wide.chain(end.iter().copied()).collect()
        }
        _ => [&b"p"[..], &[0; 12][..n % 13], digits.as_bytes(), &[0; 3][..n % 4]].concat(),
    }
}

struct World {
    random: Random,
    engine: Engine,
    contents: Contents,
    clock: Arc<ManualClock>,
    unix_ms: u64,
    style: u64,
    keys: usize,
    deletes: bool,
    expires: bool,
    merges: bool,
}

/// A cursor, and what it is to show: at `at`, or at nothing if that is beyond.
struct Walker {
    cursor: Cursor,
    /// It is of no snapshot.
    is_newest: bool,
    bounds: (Bound<Vec<u8>>, Bound<Vec<u8>>),
    shown: Vec<(Vec<u8>, Vec<u8>)>,
    at: usize,
    steps: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let mut random = Random::new(seed);
        let (clock, unix_ms) = (Arc::new(ManualClock::new()), 1_000_000);
        clock.set_unix_ms(unix_ms);
        let vfs = MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let sets = options::sets();
        let set = if random.one_in(2) { options::tiny() } else { random.pick(&sets).clone() };
        let options = Options {
            memtable_bytes: Some(1 << 20),
            memory_budget_bytes: 32 << 20,
            wal_bytes_max: 4 << 20,
            block_size_bytes: *random.pick(&[64, 256, 1024, 4096]),
            compaction: LeveledOptions { l0_trigger: 8, l0_slowdown: 20, l0_stop: 30, ..set.compaction.clone() },
            ..set
        };
        let merges = random.one_in(3);
        let merge_operator = merges.then(|| "append".to_owned());
        let engine = Engine::builder("/data")
            .vfs(vfs as Arc<dyn Vfs>)
            .options(options)
            .background(Background::Manual)
            .merge_operator("append", Append::with_separator(","))
            .default_keyspace(KeyspaceOptions { merge_operator, ..Default::default() })
            .open()
            .unwrap();
        Self {
            engine,
            contents: Contents::new(),
            clock,
            unix_ms,
            style: random.below(3),
            keys: *random.pick(&[20, 100, 400]),
            deletes: random.one_in(2),
            expires: random.one_in(2) && !merges,
            merges,
            random,
        }
    }

    fn any_key(&mut self) -> Vec<u8> {
        key(self.style, self.random.index(self.keys))
    }

    fn write(&mut self, value: &str) {
        let (key, other) = (self.any_key(), self.any_key());
        let length = if self.random.one_in(10) { 64 + self.random.index(100) } else { self.random.index(30) };
        let value = format!("{value}:{}", "x".repeat(length)).into_bytes();
        match self.random.below(40) {
            0 | 1 if self.deletes => {
                self.engine.delete(&key).unwrap();
                self.contents.remove(&key);
            }
            2 if self.deletes && key != other => {
                let (from, to) = if key < other { (key, other) } else { (other, key) };
                self.engine.delete_range(&from, &to).unwrap();
                self.contents.retain(|key, _| *key < from || *key >= to);
            }
            3 if self.expires => {
                // Between two moments at which anybody looks.
                let ms = 150 + 300 * self.random.below(7);
                let options = WriteOptions { ttl: Some(Duration::from_millis(ms)), ..Default::default() };
                self.engine.put_with(&key, &value, &options).unwrap();
                self.contents.insert(key, (value, Some(self.unix_ms + ms)));
            }
            4 | 5 if self.merges => {
                self.engine.merge(&key, &value).unwrap();
                let (sum, _) = self.contents.entry(key).and_modify(|(sum, _)| sum.push(b',')).or_default();
                sum.extend_from_slice(&value);
            }
            _ => {
                self.engine.put(&key, &value).unwrap();
                self.contents.insert(key, (value, None));
            }
        }
    }

    fn work(&mut self) {
        if self.random.one_in(2) {
            self.engine.flush().unwrap();
        }
        if self.random.one_in(8) {
            for _ in 0..3 {
                self.engine.step().unwrap();
            }
        }
        if self.random.one_in(14) {
            self.engine.compact_range(..).unwrap();
        }
        if self.expires && self.random.one_in(3) {
            self.unix_ms += 300;
            self.clock.set_unix_ms(self.unix_ms);
        }
    }

    fn walker(&mut self) -> Walker {
        let [lower, upper] = [(); 2].map(|()| match self.random.below(5) {
            0 => Bound::Included(self.any_key()),
            1 => Bound::Excluded(self.any_key()),
            _ => Bound::Unbounded,
        });
        let bounds = (lower, upper);
        let options = ReadOptions { lower: bounds.0.clone(), upper: bounds.1.clone() };
        let is_newest = self.random.one_in(2);
        let cursor = match is_newest {
            true => self.engine.cursor_with(options),
            false => self.engine.snapshot().cursor_with(options),
        };
        Walker { cursor, is_newest, shown: self.shown(&bounds), bounds, at: usize::MAX, steps: 0 }
    }

    fn shown(&self, bounds: &(Bound<Vec<u8>>, Bound<Vec<u8>>)) -> Vec<(Vec<u8>, Vec<u8>)> {
        let is_there = |until: &Option<u64>| until.is_none_or(|until| until > self.unix_ms);
        let there = self.contents.iter().filter(|(key, (_, until))| bounds.contains(*key) && is_there(until));
        there.map(|(key, (value, _))| (key.clone(), value.clone())).collect()
    }

    /// Places the cursor somewhere if it is nowhere, or now and then, and steps one way.
    fn walk(&mut self, walker: &mut Walker) {
        let target = self.any_key();
        let Walker { cursor, shown, at, .. } = walker;
        if *at >= shown.len() || self.random.one_in(8) {
            *at = match self.random.below(4) {
                0 => cursor.seek_to_first().map(|()| 0),
                1 => cursor.seek_to_last().map(|()| shown.len().wrapping_sub(1)),
                2 => cursor.seek(&target).map(|()| shown.partition_point(|(key, _)| *key < target)),
                _ => {
                    let behind = shown.partition_point(|(key, _)| *key <= target);
                    cursor.seek_for_prev(&target).map(|()| behind.wrapping_sub(1))
                }
            }
            .unwrap();
        }
        let forward = self.random.one_in(2);
        let most = *self.random.pick(&[3, 20, 90]);
        for _ in 0..=self.random.below(most) {
            let Some((key, value)) = walker.shown.get(walker.at) else {
                return assert!(!walker.cursor.valid(), "behind the end");
            };
            assert!(walker.cursor.valid(), "before the end, at {}", key.escape_ascii());
            assert_eq!(walker.cursor.key().escape_ascii().to_string(), key.escape_ascii().to_string());
            if !self.random.one_in(3) {
                let found = walker.cursor.value().unwrap();
                assert_eq!(found.escape_ascii().to_string(), value.escape_ascii().to_string());
            }
            if forward { walker.cursor.next() } else { walker.cursor.prev() }.unwrap();
            walker.at = if forward { walker.at + 1 } else { walker.at.wrapping_sub(1) };
            walker.steps += 1;
        }
        assert_eq!(walker.cursor.valid(), walker.at < walker.shown.len());
    }
}

/// How many steps were made.
fn round(seed: u64) -> u64 {
    let mut world = World::new(seed);
    let mut walkers: Vec<Walker> = Vec::new();
    let mut steps = 0;
    for stage in 0..14 {
        let most = *world.random.pick(&[20, 150]);
        for write in 0..world.random.below(most) {
            world.write(&format!("{stage}.{write}"));
        }
        world.work();
        walkers.push(world.walker());
        for walker in &mut walkers {
            for _ in 0..12 {
                if world.random.one_in(40) {
                    walker.cursor.refresh().unwrap();
                    walker.at = usize::MAX;
                    if walker.is_newest {
                        walker.shown = world.shown(&walker.bounds);
                    }
                }
                world.walk(walker);
            }
            steps += std::mem::take(&mut walker.steps);
        }
        if walkers.len() == WALKERS_MAX {
            walkers.swap_remove(world.random.index(WALKERS_MAX));
        }
    }
    steps
}

#[test]
fn whatever_a_cursor_lies_over_it_shows_what_is_there() {
    for each in stress::rounds("cursors", 40) {
        each.tried(round(each.seed()));
    }
}
