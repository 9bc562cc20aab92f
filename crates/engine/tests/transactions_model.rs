//! Transactions against a model that knows of every key when it was written and which transaction has read it: what each sees, and whether it commits, must be what the model says,
//! while flush and compaction go on. Exactly so, but that keys which were not there may count as written to when a range around them is deleted; and where memory for reads is short a
//! conflict may be reported that is none, and never the other way.
//!
//! One of the keyspaces appends what is merged into it. Who merges has read nothing, until the value is asked for.

use esker::vfs::MemVfs;
use esker::{
    Background, Engine, ErrorKind, Keyspace, KeyspaceOptions, LeveledOptions, Options, ReadOptions, Savepoint,
    Transaction, TransactionCursor, WriteBatch,
};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

type Key = Vec<u8>;
type Space = usize;
type Bounds = (Bound<Key>, Bound<Key>);
/// A place between keys: before one, or (`true`) behind it; `None` is behind all.
type Edge = Option<(Key, bool)>;

/// What is written to a key.
#[derive(Debug, Clone)]
enum Own {
    Is(Option<Vec<u8>>),
    /// This is appended to whatever is there.
    Append(Vec<u8>),
}

impl Own {
    fn over(&self, below: Option<&Vec<u8>>) -> Option<Vec<u8>> {
        match self {
            Self::Is(value) => value.clone(),
            Self::Append(operand) => Some([below.map_or(&[][..], |value| value), operand].concat()),
        }
    }
}

/// What is written together: by key, and which of them only because a range around them is deleted.
#[derive(Debug, Clone, Default)]
struct Writes {
    keys: BTreeMap<(Space, Key), Own>,
    by_range: BTreeSet<(Space, Key)>,
}

impl Writes {
    fn set(&mut self, space: Space, key: Key, value: Option<Vec<u8>>) {
        self.by_range.remove(&(space, key.clone()));
        self.keys.insert((space, key), Own::Is(value));
    }

    fn append(&mut self, space: Space, key: Key, operand: &[u8]) {
        let place = (space, key);
        self.by_range.remove(&place);
        match self.keys.entry(place).or_insert(Own::Append(Vec::new())) {
            Own::Is(value) => value.get_or_insert_default().extend_from_slice(operand),
            Own::Append(before) => before.extend_from_slice(operand),
        }
    }

    fn delete_range(&mut self, space: Space, begin: &Key, end: Option<&Key>) {
        for key in places().into_iter().filter(|key| key >= begin && end.is_none_or(|end| key < end)) {
            self.by_range.insert((space, key.clone()));
            self.keys.insert((space, key), Own::Is(None));
        }
    }
}

/// What was written to a key, by which commit.
type Versions = Vec<(usize, Option<Vec<u8>>)>;

const SPACES: usize = 2;
/// The one that merges.
const MERGED: Space = 1;
const SLOTS: usize = 3;
const L0_STOP: usize = 6;

fn universe() -> Vec<Key> {
    let odd = [&b""[..], b"\0", b"a", b"a\0", b"a\0\0", b"aa", b"b", b"b\xff", b"c", b"\xff", b"\xff\xff"];
    odd.iter().map(|key| key.to_vec()).chain((0..8u8).map(|n| format!("k{n}").into_bytes())).collect()
}

/// The keys, and for each gap behind one a key in it that is never there.
fn places() -> BTreeSet<Key> {
    universe().into_iter().flat_map(|key| [[&key[..], b"\0"].concat(), key]).collect()
}

#[derive(Debug, Clone)]
enum Step {
    First,
    Last,
    Next,
    Prev,
    Seek(Key),
    SeekForPrev(Key),
}

#[derive(Debug, Clone)]
enum Plain {
    Put,
    /// In the one that merges; elsewhere a put.
    Merge,
    Delete,
    DeleteTo(Key),
}

#[derive(Debug, Clone)]
enum Op {
    Begin(usize),
    Get(usize, Space, Key),
    Contains(usize, Space, Key),
    MultiGet(usize, Space, Vec<Key>),
    Put(usize, Space, Key, usize),
    /// In the keyspace that merges; and so many times.
    Merge(usize, Key, usize),
    Delete(usize, Space, Key),
    DeleteRange(usize, Space, Key, Key),
    Clear(usize, Space),
    /// From the front (`true`) or the back, one item each; then the iterator is dropped.
    Scan(usize, Space, Bounds, Vec<bool>),
    /// The same over keys alone.
    ScanKeys(usize, Space, Bounds, Vec<bool>),
    Walk(usize, Space, Bounds, Vec<Step>),
    Savepoint(usize),
    RollbackTo(usize, usize),
    Commit(usize),
    Drop(usize),
    Plain(Vec<(Space, Key, Plain)>),
    ClearPlain(Space),
    InsertIfAbsent(Space, Key),
    CompareAndSwap(Space, Key, bool, bool),
    FetchUpdate(Space, Key, bool),
    Flush,
    Compact(Space),
    Work,
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let key = || select(universe());
    let slot = || 0..SLOTS;
    let space = || 0..SPACES;
    let bound =
        move || prop_oneof![Just(Bound::Unbounded), key().prop_map(Bound::Included), key().prop_map(Bound::Excluded)];
    let bounds = move || (bound(), bound());
    let step = move || {
        prop_oneof![
            1 => Just(Step::First),
            1 => Just(Step::Last),
            4 => Just(Step::Next),
            4 => Just(Step::Prev),
            1 => key().prop_map(Step::Seek),
            1 => key().prop_map(Step::SeekForPrev),
        ]
    };
    let plain = move || prop_oneof![4 => Just(Plain::Put), 3 => Just(Plain::Merge), 3 => Just(Plain::Delete), 2 => key().prop_map(Plain::DeleteTo)];
    let op = prop_oneof![
        6 => slot().prop_map(Op::Begin),
        6 => (slot(), space(), key()).prop_map(|(t, s, k)| Op::Get(t, s, k)),
        1 => (slot(), space(), key()).prop_map(|(t, s, k)| Op::Contains(t, s, k)),
        1 => (slot(), space(), vec(key(), 0..4)).prop_map(|(t, s, k)| Op::MultiGet(t, s, k)),
        8 => (slot(), space(), key(), 0..90usize).prop_map(|(t, s, k, len)| Op::Put(t, s, k, len)),
        6 => (slot(), key(), 1..4usize).prop_map(|(t, k, times)| Op::Merge(t, k, times)),
        3 => (slot(), space(), key()).prop_map(|(t, s, k)| Op::Delete(t, s, k)),
        4 => (slot(), space(), key(), key()).prop_map(|(t, s, a, b)| Op::DeleteRange(t, s, a, b)),
        1 => (slot(), space()).prop_map(|(t, s)| Op::Clear(t, s)),
        6 => (slot(), space(), bounds(), vec(any::<bool>(), 0..12)).prop_map(|(t, s, b, p)| Op::Scan(t, s, b, p)),
        2 => (slot(), space(), bounds(), vec(any::<bool>(), 0..12)).prop_map(|(t, s, b, p)| Op::ScanKeys(t, s, b, p)),
        6 => (slot(), space(), bounds(), vec(step(), 1..12)).prop_map(|(t, s, b, p)| Op::Walk(t, s, b, p)),
        2 => slot().prop_map(Op::Savepoint),
        2 => (slot(), 0..3usize).prop_map(|(t, n)| Op::RollbackTo(t, n)),
        8 => slot().prop_map(Op::Commit),
        1 => slot().prop_map(Op::Drop),
        6 => vec((space(), key(), plain()), 1..4).prop_map(Op::Plain),
        1 => space().prop_map(Op::ClearPlain),
        1 => (space(), key()).prop_map(|(s, k)| Op::InsertIfAbsent(s, k)),
        1 => (space(), key(), any::<bool>(), any::<bool>()).prop_map(|(s, k, a, b)| Op::CompareAndSwap(s, k, a, b)),
        1 => (space(), key(), any::<bool>()).prop_map(|(s, k, a)| Op::FetchUpdate(s, k, a)),
        2 => Just(Op::Flush),
        1 => space().prop_map(Op::Compact),
        3 => Just(Op::Work),
    ];
    vec(op, 10..120)
}

/// A transaction as the model has it.
struct Shadow {
    begun: usize,
    writes: Writes,
    read: BTreeSet<(Space, Key)>,
    savepoints: Vec<(Savepoint, Writes)>,
}

struct Run {
    engine: Engine,
    spaces: Vec<Keyspace>,
    exact: bool,
    /// By key, the commits that wrote it, and what.
    versions: BTreeMap<(Space, Key), Versions>,
    /// Of keys that were not there, the last commit that deleted a range around them.
    around: BTreeMap<(Space, Key), usize>,
    commits: usize,
    open: [Option<(Transaction, Shadow)>; SLOTS],
    ops: usize,
}

fn at(versions: &[(usize, Option<Vec<u8>>)], commit: usize) -> Option<&Vec<u8>> {
    versions.iter().rev().find(|(n, _)| *n <= commit)?.1.as_ref()
}

fn contains(bounds: &Bounds, key: &[u8]) -> bool {
    std::ops::RangeBounds::<[u8]>::contains(
        &(bounds.0.as_ref().map(|k| &k[..]), bounds.1.as_ref().map(|k| &k[..])),
        key,
    )
}

/// Whether `key` lies between the edges.
fn between(from: &Edge, key: &Key, to: &Edge) -> bool {
    let place = Some((key.clone(), false));
    let before = |a: &Edge, b: &Edge| match (a, b) {
        (None, _) => false,
        (Some(_), None) => true,
        (Some(a), Some(b)) => a < b,
    };
    !before(&place, from) && before(&place, to)
}

impl Shadow {
    fn entries(&self, run: &Run, space: Space, bounds: &Bounds) -> Vec<(Key, Vec<u8>)> {
        let keys = universe().into_iter().collect::<BTreeSet<_>>().into_iter().filter(|key| contains(bounds, key));
        keys.filter_map(|key| Some((key.clone(), self.value(run, space, &key)?))).collect()
    }

    fn value(&self, run: &Run, space: Space, key: &Key) -> Option<Vec<u8>> {
        let place = (space, key.clone());
        let below = at(run.versions.get(&place).map_or(&[][..], |v| v), self.begun);
        self.writes.keys.get(&place).map_or_else(|| below.cloned(), |own| own.over(below))
    }

    /// It looked whether the key is there, or came over it.
    fn reads(&mut self, space: Space, key: &Key) {
        if !self.writes.keys.contains_key(&(space, key.clone())) {
            self.read.insert((space, key.clone()));
        }
    }

    /// It asked for the key's value.
    fn reads_value(&mut self, space: Space, key: &Key) {
        let place = (space, key.clone());
        if !matches!(self.writes.keys.get(&place), Some(Own::Is(_))) {
            self.read.insert(place);
        }
    }

    fn reads_between(&mut self, space: Space, bounds: &Bounds, from: &Edge, to: &Edge) {
        for key in places() {
            if contains(bounds, &key) && between(from, &key, to) {
                self.reads(space, &key);
            }
        }
    }

    /// Whether it must meet a conflict, and whether it may.
    fn conflicts(&self, run: &Run) -> (bool, bool) {
        let newest = |place: &(Space, Key)| run.versions.get(place).and_then(|v| v.last()).map_or(0, |(n, _)| *n);
        let around = |place: &(Space, Key)| run.around.get(place).copied().unwrap_or(0);
        let any = |commit: &dyn Fn(&(Space, Key)) -> usize| self.read.iter().any(|place| commit(place) > self.begun);
        let must = !self.writes.keys.is_empty() && any(&newest);
        (must, must || !self.writes.keys.is_empty() && any(&around))
    }
}

fn open(tracking: Option<usize>) -> Engine {
    let compaction = LeveledOptions {
        l0_trigger: 2,
        l0_slowdown: 4,
        l0_stop: L0_STOP,
        level_base_bytes: 2 << 10,
        level_ratio: 2,
        table_bytes: 512,
        ..LeveledOptions::default()
    };
    let options = Options { block_size_bytes: 64, blob_bytes_min: 64, compaction, ..Options::default() };
    let options = match tracking {
        Some(bytes) => Options { transaction_tracking_bytes: bytes, ..options },
        None => options,
    };
    Engine::builder("/db").vfs(MemVfs::new()).options(options).background(Background::Manual).open().unwrap()
}

impl Run {
    fn new(tracking: Option<usize>) -> Self {
        let engine = open(tracking);
        let names = ["default", "other"];
        let merge_operator = |name: &str| (name == names[MERGED]).then(|| "esker.append".to_owned());
        let options = |name| KeyspaceOptions { merge_operator: merge_operator(name), ..Default::default() };
        let spaces = names.map(|name| engine.keyspace(name, options(name)).unwrap()).to_vec();
        let exact = tracking.is_none();
        let (versions, around) = (BTreeMap::new(), BTreeMap::new());
        Self { engine, spaces, exact, versions, around, commits: 0, open: [const { None }; SLOTS], ops: 0 }
    }

    fn commit(&mut self, writes: Writes) {
        self.commits += 1;
        for (place, own) in writes.keys {
            let versions = self.versions.entry(place.clone()).or_default();
            if writes.by_range.contains(&place) && at(versions, self.commits).is_none() {
                self.around.insert(place, self.commits);
            } else {
                let value = own.over(at(versions, self.commits));
                versions.push((self.commits, value));
            }
        }
    }

    fn commit_one(&mut self, space: Space, key: Key, value: Option<Vec<u8>>) {
        let mut writes = Writes::default();
        writes.set(space, key, value);
        self.commit(writes);
    }

    fn now(&self, space: Space, key: &Key) -> Option<Vec<u8>> {
        at(self.versions.get(&(space, key.clone())).map_or(&[][..], |v| v), self.commits).cloned()
    }

    fn value(&self, len: usize) -> Vec<u8> {
        format!("{};", self.ops).bytes().cycle().take(len.max(6)).collect()
    }

    /// Runs `f` on an open transaction and its shadow.
    fn with(&mut self, slot: usize, f: impl FnOnce(&Self, &mut Transaction, &mut Shadow)) {
        if let Some((mut tx, mut shadow)) = self.open[slot].take() {
            f(self, &mut tx, &mut shadow);
            self.open[slot] = Some((tx, shadow));
        }
    }

    /// Compacts until no write is stopped: nobody else does.
    fn make_room(&self) {
        while self.engine.metrics().keyspaces.iter().any(|keyspace| keyspace.levels[0].tables >= L0_STOP - 1) {
            assert!(self.engine.step().unwrap(), "full, and there is nothing to do");
        }
    }

    fn run(&mut self, op: Op) {
        self.ops += 1;
        self.make_room();
        match op {
            Op::Begin(slot) => {
                let shadow = Shadow {
                    begun: self.commits,
                    writes: Writes::default(),
                    read: BTreeSet::new(),
                    savepoints: Vec::new(),
                };
                self.open[slot] = Some((self.engine.transaction(), shadow));
            }
            Op::Get(slot, space, key) => self.with(slot, |run, tx, shadow| {
                let found = tx.get_in(&run.spaces[space], &key).unwrap();
                assert_eq!(found.map(|v| v.to_vec()), shadow.value(run, space, &key));
                shadow.reads_value(space, &key);
            }),
            Op::Contains(slot, space, key) => self.with(slot, |run, tx, shadow| {
                let found = tx.of(&run.spaces[space]).contains_key(&key).unwrap();
                assert_eq!(found, shadow.value(run, space, &key).is_some());
                shadow.reads(space, &key);
            }),
            Op::MultiGet(slot, space, keys) => self.with(slot, |run, tx, shadow| {
                let found = tx.of(&run.spaces[space]).multi_get(&keys).unwrap();
                for (key, found) in keys.iter().zip(found) {
                    assert_eq!(found.map(|v| v.to_vec()), shadow.value(run, space, key));
                    shadow.reads_value(space, key);
                }
            }),
            Op::Put(slot, space, key, len) => self.with(slot, |run, tx, shadow| {
                let value = run.value(len);
                tx.put_in(&run.spaces[space], &key, &value).unwrap();
                shadow.writes.set(space, key, Some(value));
            }),
            Op::Merge(slot, key, times) => self.with(slot, |run, tx, shadow| {
                assert_eq!(tx.merge("k", "x").unwrap_err().kind(), ErrorKind::InvalidArgument, "no operator there");
                for _ in 0..times {
                    let operand = run.value(8);
                    tx.merge_in(&run.spaces[MERGED], &key, &operand).unwrap();
                    shadow.writes.append(MERGED, key.clone(), &operand);
                }
            }),
            Op::Delete(slot, space, key) => self.with(slot, |run, tx, shadow| {
                tx.delete_in(&run.spaces[space], &key).unwrap();
                shadow.writes.set(space, key, None);
            }),
            Op::DeleteRange(slot, space, a, b) => self.with(slot, |run, tx, shadow| {
                let (begin, end) = if a < b { (a, b) } else { (b, a) };
                let deleted = tx.delete_range_in(&run.spaces[space], &begin, &end);
                if begin == end {
                    assert_eq!(deleted.unwrap_err().kind(), ErrorKind::InvalidArgument);
                } else {
                    deleted.unwrap();
                    shadow.writes.delete_range(space, &begin, Some(&end));
                }
            }),
            Op::Clear(slot, space) => self.with(slot, |run, tx, shadow| {
                tx.clear_in(&run.spaces[space]).unwrap();
                shadow.writes.delete_range(space, &Key::new(), None);
            }),
            Op::Scan(slot, space, bounds, pattern) => {
                self.with(slot, |run, tx, shadow| scan(run, tx, shadow, space, &bounds, &pattern))
            }
            Op::ScanKeys(slot, space, bounds, pattern) => {
                self.with(slot, |run, tx, shadow| scan_keys(run, tx, shadow, space, &bounds, &pattern))
            }
            Op::Walk(slot, space, bounds, steps) => {
                self.with(slot, |run, tx, shadow| walk(run, tx, shadow, space, &bounds, &steps))
            }
            Op::Savepoint(slot) => self.with(slot, |_, tx, shadow| {
                shadow.savepoints.push((tx.savepoint(), shadow.writes.clone()));
            }),
            Op::RollbackTo(slot, n) => self.with(slot, |_, tx, shadow| {
                if n < shadow.savepoints.len() {
                    tx.rollback_to(shadow.savepoints[n].0).unwrap();
                    shadow.writes = shadow.savepoints[n].1.clone();
                    for (gone, _) in shadow.savepoints.drain(n + 1..) {
                        assert_eq!(tx.rollback_to(gone).unwrap_err().kind(), ErrorKind::InvalidArgument);
                    }
                }
            }),
            Op::Commit(slot) => {
                let Some((tx, shadow)) = self.open[slot].take() else { return };
                let (must, may) = shadow.conflicts(self);
                match tx.commit() {
                    Ok(()) => {
                        assert!(!must, "it committed, though what it has read was written to: {:?}", shadow.read);
                        if !shadow.writes.keys.is_empty() {
                            self.commit(shadow.writes);
                        }
                    }
                    Err(error) => {
                        assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                        assert!(may || !self.exact, "{error}; it has read {:?}", shadow.read);
                        assert!(!shadow.writes.keys.is_empty(), "it has written nothing");
                    }
                }
            }
            Op::Drop(slot) => self.open[slot] = None,
            Op::Plain(writes) => {
                let mut batch = WriteBatch::new();
                let mut commit = Writes::default();
                for (space, key, what) in writes {
                    let keyspace = &self.spaces[space];
                    match what {
                        Plain::Put => {
                            let value = self.value(8);
                            batch.put_in(keyspace, &key, &value);
                            commit.set(space, key, Some(value));
                        }
                        Plain::Merge if space == MERGED => {
                            let operand = self.value(8);
                            batch.merge_in(keyspace, &key, &operand);
                            commit.append(space, key, &operand);
                        }
                        Plain::DeleteTo(end) if end != key => {
                            let (begin, end) = if key < end { (key, end) } else { (end, key) };
                            batch.delete_range_in(keyspace, &begin, &end);
                            commit.delete_range(space, &begin, Some(&end));
                        }
                        _ => {
                            batch.delete_in(keyspace, &key);
                            commit.set(space, key, None);
                        }
                    }
                }
                self.engine.write(&batch).unwrap();
                self.commit(commit);
            }
            Op::ClearPlain(space) => {
                self.spaces[space].clear().unwrap();
                let mut commit = Writes::default();
                commit.delete_range(space, &Key::new(), None);
                self.commit(commit);
            }
            Op::InsertIfAbsent(space, key) => {
                let value = self.value(8);
                let absent = self.now(space, &key).is_none();
                assert_eq!(self.spaces[space].insert_if_absent(&key, &value).unwrap(), absent);
                if absent {
                    self.commit_one(space, key, Some(value));
                }
            }
            Op::CompareAndSwap(space, key, right, put) => {
                let now = self.now(space, &key);
                let expected = if right { now.clone() } else { Some(b"else".to_vec()) };
                let new = put.then(|| self.value(8));
                let done = self.spaces[space].compare_and_swap(&key, expected.as_deref(), new.as_deref()).unwrap();
                assert_eq!(done, expected == now);
                if done && (now.is_some() || new.is_some()) {
                    self.commit_one(space, key, new);
                }
            }
            Op::FetchUpdate(space, key, put) => {
                let now = self.now(space, &key);
                let new = put.then(|| self.value(8));
                let found = self.spaces[space].fetch_update(&key, |_| new.clone()).unwrap();
                assert_eq!(found.map(|v| v.to_vec()), now);
                if now.is_some() || new.is_some() {
                    self.commit_one(space, key, new);
                }
            }
            Op::Flush => self.engine.flush().unwrap(),
            Op::Compact(space) => self.spaces[space].compact_range(..).unwrap(),
            Op::Work => {
                self.engine.step().unwrap();
            }
        }
    }
}

fn lower_edge(bounds: &Bounds) -> Edge {
    match &bounds.0 {
        Bound::Included(key) => Some((key.clone(), false)),
        Bound::Excluded(key) => Some((key.clone(), true)),
        Bound::Unbounded => Some((Vec::new(), false)),
    }
}

fn upper_edge(bounds: &Bounds) -> Edge {
    match &bounds.1 {
        Bound::Included(key) => Some((key.clone(), true)),
        Bound::Excluded(key) => Some((key.clone(), false)),
        Bound::Unbounded => None,
    }
}

/// What a scan has looked at when an end of it has come to `found`.
fn scanned(bounds: &Bounds, found: Option<&Key>, front: bool) -> (Edge, Edge) {
    match found {
        None => (lower_edge(bounds), upper_edge(bounds)),
        Some(key) if front => (lower_edge(bounds), Some((key.clone(), true))),
        Some(key) => (Some((key.clone(), false)), upper_edge(bounds)),
    }
}

fn scan(run: &Run, tx: &Transaction, shadow: &mut Shadow, space: Space, bounds: &Bounds, pattern: &[bool]) {
    let entries = shadow.entries(run, space, bounds);
    let mut expected = entries.iter();
    let mut iter = tx.of(&run.spaces[space]).range(bounds.clone());
    for front in pattern {
        let (found, expected) =
            if *front { (iter.next(), expected.next()) } else { (iter.next_back(), expected.next_back()) };
        let found = found.transpose().unwrap().map(|(key, value)| (key.to_vec(), value.to_vec()));
        assert_eq!(found.as_ref(), expected);
        let key = found.as_ref().map(|(key, _)| key);
        let (from, to) = scanned(bounds, key, *front);
        shadow.reads_between(space, bounds, &from, &to);
        match key {
            Some(key) => shadow.reads_value(space, key),
            None => break,
        }
    }
}

/// As a scan, but that no value is asked for.
fn scan_keys(run: &Run, tx: &Transaction, shadow: &mut Shadow, space: Space, bounds: &Bounds, pattern: &[bool]) {
    let entries = shadow.entries(run, space, bounds);
    let mut expected = entries.iter().map(|(key, _)| key);
    let mut iter = tx.of(&run.spaces[space]).range(bounds.clone()).keys();
    for front in pattern {
        let (found, expected) =
            if *front { (iter.next(), expected.next()) } else { (iter.next_back(), expected.next_back()) };
        let found = found.transpose().unwrap().map(|key| key.to_vec());
        assert_eq!(found.as_ref(), expected);
        let (from, to) = scanned(bounds, found.as_ref(), *front);
        shadow.reads_between(space, bounds, &from, &to);
        if found.is_none() {
            break;
        }
    }
}

fn walk(run: &Run, tx: &Transaction, shadow: &mut Shadow, space: Space, bounds: &Bounds, steps: &[Step]) {
    let entries = shadow.entries(run, space, bounds);
    let options = ReadOptions { lower: bounds.0.clone(), upper: bounds.1.clone() };
    let mut cursor = tx.of(&run.spaces[space]).cursor_with(options);
    let mut position: Option<usize> = None;
    for (nth, step) in steps.iter().enumerate() {
        // Where the look begins, and whether it goes on forward from there.
        let (from, forward): (Edge, bool) = match step {
            Step::First => (lower_edge(bounds), true),
            Step::Last => (upper_edge(bounds), false),
            Step::Seek(key) => (Some((key.clone(), false)), true),
            Step::SeekForPrev(key) => (Some((key.clone(), true)), false),
            Step::Next | Step::Prev if position.is_none() => {
                if matches!(step, Step::Next) {
                    cursor.next().unwrap()
                } else {
                    cursor.prev().unwrap()
                }
                assert!(!cursor.valid());
                continue;
            }
            Step::Next => (Some((entries[position.unwrap()].0.clone(), true)), true),
            Step::Prev => (Some((entries[position.unwrap()].0.clone(), false)), false),
        };
        let sought = match step {
            Step::First => cursor.seek_to_first().map(|()| Some(0)),
            Step::Last => cursor.seek_to_last().map(|()| entries.len().checked_sub(1)),
            Step::Seek(key) => cursor.seek(key).map(|()| Some(entries.partition_point(|(k, _)| k < key))),
            Step::SeekForPrev(key) => {
                cursor.seek_for_prev(key).map(|()| entries.partition_point(|(k, _)| k <= key).checked_sub(1))
            }
            Step::Next => cursor.next().map(|()| position.map(|i| i + 1)),
            Step::Prev => cursor.prev().map(|()| position.and_then(|i| i.checked_sub(1))),
        };
        position = sought.unwrap().filter(|i| *i < entries.len());
        let asks = nth % 3 < 2;
        let value = |cursor: &TransactionCursor| cursor.value().unwrap().to_vec();
        let found = cursor.valid().then(|| (cursor.key().to_vec(), asks.then(|| value(&cursor))));
        let expected = position.map(|i| (entries[i].0.clone(), asks.then(|| entries[i].1.clone())));
        assert_eq!(found, expected, "after {step:?}");
        if let Some((key, Some(again))) = &found {
            assert_eq!(&value(&cursor), again, "asked for again");
            shadow.reads_value(space, key);
        }
        match (&found, forward) {
            (Some((key, _)), true) => shadow.reads_between(space, bounds, &from, &Some((key.clone(), true))),
            (Some((key, _)), false) => shadow.reads_between(space, bounds, &Some((key.clone(), false)), &from),
            (None, true) => shadow.reads_between(space, bounds, &from, &upper_edge(bounds)),
            (None, false) => shadow.reads_between(space, bounds, &lower_edge(bounds), &from),
        }
    }
}

fn check(tracking: Option<usize>, ops: Vec<Op>) {
    let mut run = Run::new(tracking);
    ops.into_iter().for_each(|op| run.run(op));
    (0..SLOTS).for_each(|slot| run.run(Op::Commit(slot)));
    for space in 0..SPACES {
        for key in universe() {
            let found = run.spaces[space].get(&key).unwrap().map(|v| v.to_vec());
            assert_eq!(found, run.now(space, &key));
        }
    }
    assert_eq!(run.engine.metrics().transaction_tracking_bytes, 0, "what ended is remembered no more");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(1_500) })]

    #[test]
    fn they_see_and_commit_what_the_model_says(ops in ops()) {
        check(None, ops);
    }

    #[test]
    fn short_of_memory_they_miss_no_conflict(ops in ops(), tracking in 0..2_000usize) {
        check(Some(tracking), ops);
    }
}
