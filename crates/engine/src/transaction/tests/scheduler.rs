//! Threads that run transactions, and plain and conditional writes beside them, on lists; the history that they leave is checked. With a bug built in, anomalies must be found.

use super::clearing::{CLEARED, Look, marker, resolve};
use super::history::{Committed, Id, Key, Read, anomaly};
use crate::{
    Engine, Error, ErrorKind, Keyspace, KeyspaceOptions, LeveledOptions, Options, Result, Slice, Snapshot, Transaction,
    WriteBatch,
};
use esker_testkit::stress;
use esker_vfs::MemVfs;
use parking_lot::Mutex;
use std::ops::Range;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Appended to again and again: these, and as many in another keyspace, from [`OTHER`] on.
const KEYS: u32 = 6;
const OTHER: u32 = 500;
/// Appended to by merges, without a look: keys of the other keyspace.
const MERGED: Range<u32> = 800..804;
/// Written once each, by plain batches; behind the others in key order.
const ONCE: Range<u32> = 1_000..100_000;
const THREADS: u64 = 4;
const ROUND: usize = 1_500;
const ROUNDS: u64 = 80;

/// What is wrong with the engine, or nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Bug {
    None,
    /// Nothing that is read is remembered.
    NoTracking,
    /// Of scans nothing is.
    NoRanges,
    /// Of keys alone nothing is.
    NoKeys,
    /// Who looks sees what whoever looked before should have seen.
    Stale,
}

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn bytes_of(key: Key) -> [u8; 4] {
    key.to_be_bytes()
}

fn list(value: Option<&[u8]>) -> Vec<Id> {
    let (ids, rest) = value.unwrap_or(&[]).as_chunks::<4>();
    assert!(rest.is_empty());
    ids.iter().map(|id| Id::from_le_bytes(*id)).collect()
}

fn value(list: &[Id]) -> Vec<u8> {
    list.iter().flat_map(|id| id.to_le_bytes()).collect()
}

/// Where the keys are.
struct Spaces {
    default: Keyspace,
    other: Keyspace,
}

impl Spaces {
    fn of(&self, key: Key) -> &Keyspace {
        if (OTHER..ONCE.start).contains(&key) { &self.other } else { &self.default }
    }
}

fn any_cleared(random: &mut Random) -> Key {
    CLEARED.start + random.below(CLEARED.len() as u64) as Key
}

fn any_key(random: &mut Random) -> Key {
    let key = random.below(u64::from(KEYS)) as Key;
    if random.below(2) == 0 { key } else { OTHER + key }
}

fn any_merged(random: &mut Random) -> Key {
    MERGED.start + random.below(MERGED.len() as u64) as Key
}

fn any_or_merged(random: &mut Random) -> Key {
    if random.below(4) == 0 { any_merged(random) } else { any_key(random) }
}

/// What all threads of a round share.
struct Round<'a> {
    engine: &'a Engine,
    spaces: &'a Spaces,
    bug: Bug,
    next_id: AtomicU32,
    next_once: AtomicU32,
    /// Read where something begins and where it ends.
    clock: AtomicU64,
    committed: AtomicUsize,
    conflicts: AtomicUsize,
    /// The snapshot of whoever looked last, for [`Bug::Stale`].
    last_look: Mutex<Option<Snapshot>>,
}

impl Round<'_> {
    fn begin(&self) -> (Transaction, Committed) {
        let mut tx = self.engine.transaction();
        if self.bug == Bug::NoTracking {
            tx.reads = None;
        }
        // Relaxed: numbers.
        (tx, Committed { id: self.next_id.fetch_add(1, Ordering::Relaxed), ..Committed::default() })
    }

    /// Whether it was committed.
    fn commit(&self, tx: Transaction) -> bool {
        if let Some(tracked) = &tx.reads
            && let Some(reads) = &mut *tracked.lock()
        {
            match self.bug {
                Bug::NoRanges => reads.forget(false),
                Bug::NoKeys => reads.forget(true),
                _ => {}
            }
        }
        match tx.commit() {
            Ok(()) => true,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                self.conflicts.fetch_add(1, Ordering::Relaxed);
                false
            }
        }
    }

    /// Reads some keys, one by one or by a scan of part of them, and appends to some.
    fn transact(&self, random: &mut Random) -> Option<Committed> {
        let (mut tx, mut done) = self.begin();
        let scans = random.below(3) == 0;
        if scans {
            let (from, len) = (any_or_merged(random), 1 + random.below(4) as Key);
            scan(self.spaces, &tx, &mut done, from..from + len, random.below(2) == 0).unwrap();
        }
        if random.below(6) == 0 {
            self.scan_once(&tx, &mut done, random).unwrap();
        }
        for _ in 0..random.below(3) {
            get(self.spaces, &tx, &mut done, any_or_merged(random)).unwrap();
        }
        if random.below(4) == 0 {
            self.with_cleared(&mut tx, &mut done, random).unwrap();
        }
        let appends = if random.below(5) == 0 { 0 } else { 1 + random.below(2) };
        for _ in 0..appends {
            let key = any_or_merged(random);
            if !done.appends.contains(&key) {
                if random.below(4) == 0 {
                    let savepoint = tx.savepoint();
                    match MERGED.contains(&key) {
                        true => tx.merge_in(&self.spaces.other, bytes_of(key), b"dirt").unwrap(),
                        false => tx.put_in(self.spaces.of(key), bytes_of(key), b"dirt").unwrap(),
                    }
                    tx.rollback_to(savepoint).unwrap();
                }
                append(self.spaces, &mut tx, &mut done, key).unwrap();
            }
        }
        if random.below(8) == 0 {
            // What it has merged into itself may be among them.
            get(self.spaces, &tx, &mut done, any_merged(random)).unwrap();
        }
        if random.below(16) == 0 {
            tx.rollback();
            return None;
        }
        self.commit(tx).then_some(done)
    }

    /// Looks at keys that are deleted with ranges, and may append to one; or deletes a range of them without a look, and may put one of them anew.
    fn with_cleared(&self, tx: &mut Transaction, done: &mut Committed, random: &mut Random) -> Result<()> {
        let (from, to) = (any_cleared(random), any_cleared(random));
        let keys = from.min(to)..from.max(to) + 1;
        match random.below(4) {
            0 => clear(self.spaces, tx, done, keys, random.below(2) == 0),
            1 => scan(self.spaces, tx, done, keys, random.below(2) == 0),
            2 => get(self.spaces, tx, done, from).map(drop),
            _ => append(self.spaces, tx, done, from),
        }
    }

    /// Looks at the end of those that are written once: what is not there yet counts as seen empty.
    fn scan_once(&self, tx: &Transaction, done: &mut Committed, random: &mut Random) -> Result<()> {
        let newest = self.next_once.load(Ordering::Relaxed);
        let from = newest.saturating_sub(random.below(6) as u32).max(ONCE.start);
        scan(self.spaces, tx, done, from..newest + 4, random.below(2) == 0)
    }

    /// Two keys that nobody wrote before, by a plain batch.
    fn write_once(&self) -> Committed {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let key = self.next_once.fetch_add(2, Ordering::Relaxed);
        let mut batch = WriteBatch::new();
        batch.put(bytes_of(key), value(&[id])).put(bytes_of(key + 1), value(&[id]));
        self.engine.write(&batch).unwrap();
        Committed { id, appends: vec![key, key + 1], ..Committed::default() }
    }

    /// Two keys, by a plain batch that does not look at them.
    fn merge(&self, random: &mut Random) -> Committed {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let first = any_merged(random);
        let second = if first + 1 == MERGED.end { MERGED.start } else { first + 1 };
        let mut batch = WriteBatch::new();
        for key in [first, second] {
            batch.merge_in(&self.spaces.other, bytes_of(key), value(&[id]));
        }
        self.engine.write(&batch).unwrap();
        Committed { id, appends: vec![first, second], ..Committed::default() }
    }

    fn fetch_update(&self, random: &mut Random) -> Committed {
        let key = any_key(random);
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let with = |found: Option<&[u8]>| Some(value(&[list(found), vec![id]].concat()));
        let before = self.spaces.of(key).fetch_update(bytes_of(key), with).unwrap();
        let reads = [(key, Read::of(&list(before.as_deref())))].into();
        Committed { id, reads, appends: vec![key], ..Committed::default() }
    }

    /// Reads a snapshot, outside any transaction.
    fn look(&self) -> Committed {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let mut snapshot = self.engine.snapshot();
        if self.bug == Bug::Stale {
            let last = self.last_look.lock().replace(snapshot.clone());
            snapshot = last.unwrap_or(snapshot);
        }
        let read = |key| {
            let found = snapshot.of(self.spaces.of(key)).get(bytes_of(key)).unwrap();
            (key, Read::of(&list(found.as_deref())))
        };
        let reads = (0..KEYS).chain(OTHER..OTHER + KEYS).chain(MERGED).map(read).collect();
        let list_of = |key| list(snapshot.of(&self.spaces.other).get(bytes_of(key)).unwrap().as_deref());
        let looks = CLEARED.map(|key| (key, Look { clears: list_of(marker(key)), list: list_of(key) })).collect();
        Committed { id, reads, looks, ..Committed::default() }
    }

    /// Reads one key, with no snapshot at all.
    fn get(&self, random: &mut Random) -> Committed {
        let id = self.next_id.fetch_add(1, Ordering::Relaxed);
        let key = any_or_merged(random);
        let found = self.spaces.of(key).get(bytes_of(key)).unwrap();
        Committed { id, reads: [(key, Read::of(&list(found.as_deref())))].into(), ..Committed::default() }
    }

    /// The same transaction, but that nobody writes beside it.
    fn exclusive(&self, random: &mut Random) -> Committed {
        let mut tx = self.engine.exclusive();
        let mut done = Committed { id: self.next_id.fetch_add(1, Ordering::Relaxed), ..Committed::default() };
        scan(self.spaces, &tx, &mut done, 0..KEYS, true).unwrap();
        append(self.spaces, &mut tx, &mut done, any_or_merged(random)).unwrap();
        self.with_cleared(&mut tx, &mut done, random).unwrap();
        tx.commit().unwrap();
        done
    }

    fn run(&self, seed: u64) -> Vec<Committed> {
        let mut random = Random(seed);
        let mut history = Vec::new();
        while self.committed.load(Ordering::Relaxed) < ROUND {
            // Acquire and Release: who comes later by this clock has seen what the other did before it read it.
            let began = self.clock.fetch_add(1, Ordering::AcqRel);
            let done = match random.below(40) {
                0 => Some(self.look()),
                1..4 => Some(self.write_once()),
                4 | 5 => Some(self.fetch_update(&mut random)),
                6 => Some(self.exclusive(&mut random)),
                8 => Some(self.merge(&mut random)),
                9 => Some(self.get(&mut random)),
                7 if random.below(20) == 0 => {
                    self.engine.flush().unwrap();
                    None
                }
                _ => self.transact(&mut random),
            };
            if let Some(done) = done {
                self.committed.fetch_add(1, Ordering::Relaxed);
                history.push(Committed { began, ended: self.clock.fetch_add(1, Ordering::AcqRel), ..done });
            }
        }
        history
    }
}

fn get(spaces: &Spaces, tx: &Transaction, done: &mut Committed, key: Key) -> Result<Vec<Id>> {
    // So that others come in between, however few processors there are.
    std::thread::yield_now();
    let found = list(tx.get_in(spaces.of(key), bytes_of(key))?.as_deref());
    read(spaces, tx, done, key, &found);
    Ok(found)
}

/// Notes down what was read; what it has appended itself is no part of that.
fn read(spaces: &Spaces, tx: &Transaction, done: &mut Committed, key: Key, found: &[Id]) {
    let found = match done.appends.contains(&key) {
        true => found.strip_suffix(&[done.id]).expect("it sees its own append last"),
        false => found,
    };
    if CLEARED.contains(&key) {
        let look = Look { clears: untracked(spaces, &tx.snapshot, marker(key)), list: found.to_vec() };
        assert_eq!(*done.looks.entry(key).or_insert(look.clone()), look, "a second look at {key} is as the first");
        return;
    }
    let read = Read::of(found);
    assert_eq!(*done.reads.entry(key).or_insert(read), read, "a second read of {key} is as the first");
}

/// What a transaction sees, without counting as read.
fn untracked(spaces: &Spaces, snapshot: &Snapshot, key: Key) -> Vec<Id> {
    list(snapshot.of(spaces.of(key)).get(bytes_of(key)).unwrap().as_deref())
}

/// Deletes keys without a look at them, as their markers are to tell; and may put the first anew.
fn clear(spaces: &Spaces, tx: &mut Transaction, done: &mut Committed, keys: Range<Key>, puts: bool) -> Result<()> {
    tx.delete_range_in(&spaces.other, bytes_of(keys.start), bytes_of(keys.end))?;
    if puts {
        tx.put_in(&spaces.other, bytes_of(keys.start), value(&[done.id]))?;
        done.appends.push(keys.start);
    }
    assert_eq!(tx.of(&spaces.other).range(bytes_of(keys.start)..bytes_of(keys.end)).count(), usize::from(puts));
    for key in keys {
        append(spaces, tx, done, marker(key))?;
        done.clears.push(key);
    }
    Ok(())
}

fn append(spaces: &Spaces, tx: &mut Transaction, done: &mut Committed, key: Key) -> Result<()> {
    if MERGED.contains(&key) {
        done.appends.push(key);
        return tx.merge_in(spaces.of(key), bytes_of(key), value(&[done.id]));
    }
    let mut list = get(spaces, tx, done, key)?;
    list.push(done.id);
    done.appends.push(key);
    tx.put_in(spaces.of(key), bytes_of(key), value(&list))
}

/// Keys of a range, from the front or the back; up to the first three that are there, and so perhaps not all.
fn scan(spaces: &Spaces, tx: &Transaction, done: &mut Committed, keys: Range<Key>, forward: bool) -> Result<()> {
    let mut iter = tx.of(spaces.of(keys.start)).range(bytes_of(keys.start)..bytes_of(keys.end));
    let mut left = keys;
    for _ in 0..3 {
        let item: Option<Result<(Slice, Slice)>> = if forward { iter.next() } else { iter.next_back() };
        let Some((key, value)) = item.transpose()? else {
            left.for_each(|key| read(spaces, tx, done, key, &[]));
            return Ok(());
        };
        let key = Key::from_be_bytes(key[..].try_into().map_err(Error::other)?);
        let absent = if forward { left.start..key } else { key + 1..left.end };
        absent.for_each(|key| read(spaces, tx, done, key, &[]));
        read(spaces, tx, done, key, &list(Some(&value)));
        left = if forward { key + 1..left.end } else { left.start..key };
    }
    Ok(())
}

fn engine(tracking_bytes: usize) -> Engine {
    let compaction = LeveledOptions {
        l0_trigger: 2,
        level_base_bytes: 64 << 10,
        level_ratio: 2,
        table_bytes: 16 << 10,
        ..LeveledOptions::default()
    };
    let options = Options {
        memtable_bytes: Some(96 << 10),
        block_size_bytes: 512,
        transaction_tracking_bytes: tracking_bytes,
        compaction,
        ..Options::default()
    };
    Engine::builder("/db").vfs(MemVfs::new()).options(options).open().unwrap()
}

/// Runs a round and says what is wrong with its history.
fn round(engine: &Engine, bug: Bug, seed: u64) -> (Option<String>, usize) {
    let appends = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..KeyspaceOptions::default() };
    let other = engine.keyspace("other", appends).unwrap();
    let spaces = Spaces { default: engine.default.clone(), other };
    for keyspace in [&spaces.default, &spaces.other] {
        keyspace.iter().keys().for_each(|key| keyspace.delete(key.unwrap()).unwrap());
    }
    let round = Round {
        engine,
        spaces: &spaces,
        bug,
        next_id: AtomicU32::new(1),
        next_once: AtomicU32::new(ONCE.start),
        clock: AtomicU64::new(1),
        committed: AtomicUsize::new(0),
        conflicts: AtomicUsize::new(0),
        last_look: Mutex::new(None),
    };
    let mut history = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|i| {
                scope.spawn({
                    let round = &round;
                    move || round.run(seed.wrapping_mul(THREADS).wrapping_add(i))
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let lists = spaces.default.iter().chain(spaces.other.iter()).map(|item| {
        let (key, value) = item.unwrap();
        (Key::from_be_bytes(key[..].try_into().unwrap()), list(Some(&value)))
    });
    let mut lists = lists.collect();
    let found = resolve(&mut history, &mut lists).err().or_else(|| anomaly(&history, &lists));
    (found, round.conflicts.load(Ordering::Relaxed))
}

#[test]
fn histories_are_serializable() {
    let engines = [16 << 20, 2_000].map(|tracking_bytes| (tracking_bytes, engine(tracking_bytes)));
    let (mut rounds, mut conflicts) = (0, 0);
    for of_suite in stress::rounds("history", ROUNDS) {
        let seed = of_suite.seed();
        let (tracking_bytes, engine) = &engines[seed as usize % 2];
        let (anomaly, met) = round(engine, Bug::None, seed);
        assert_eq!(anomaly, None, "seed {seed}, {tracking_bytes} bytes");
        (rounds, conflicts) = (rounds + 1, conflicts + met);
        of_suite.tried(ROUND as u64);
    }
    println!("{} committed in {rounds} rounds, {conflicts} conflicts, 0 anomalies", rounds * ROUND);
    assert!(conflicts > rounds, "they hardly met");
}

#[test]
fn a_bug_is_found() {
    for bug in [Bug::NoTracking, Bug::NoRanges, Bug::NoKeys, Bug::Stale] {
        let engine = engine(16 << 20);
        let found = (0..50).find_map(|seed| round(&engine, bug, seed).0);
        assert!(found.is_some(), "{bug:?} went unnoticed");
    }
}
