//! One thread's share of the store: what it does there, beside a model of what must be found.

use crate::bank::Transfer;
use crate::store::{BUDGET, Kind, LARGE_TOGETHER, SECTIONS, SHORT, SUMS, Store, assert_is, assert_whole, key, value};
use crate::walks::There;
use esker::{
    Change, ChangeOptions, ChangesHold, IngestOptions, Iter, Result, Snapshot, SstOptions, SstWriter, WriteBatch,
    WriteOptions,
};
use esker_testkit::random::Random;
use std::collections::VecDeque;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How long what expires lives.
const TTL: Duration = Duration::from_millis(500);
/// How late it may be seen to have expired: the engine's clock may stand a little behind this process's.
const TTL_SLACK: Duration = Duration::from_secs(2);
/// How early: the engine counts whole milliseconds of two clocks, of which the wall's may be set forward bit by bit.
const TTL_GRAIN: Duration = Duration::from_millis(5);
/// Snapshots and iterators that are held at once.
const HELD: usize = 3;

/// A view that is held for a while, and what it shows.
struct Held {
    kind: Kind,
    first: u32,
    versions: Vec<u32>,
    snapshot: Option<Snapshot>,
    /// Over the same keys; a part of it was read when it was made.
    iter: Iter,
    read: usize,
}

/// What was put with a time to live.
#[derive(Clone, Copy)]
struct Expiring {
    version: u32,
    /// Just before it was put, and just after.
    put: (Instant, Instant),
}

pub(crate) struct Section {
    id: u8,
    random: Random,
    /// Of the newest version of each key; 0: not there.
    small: Vec<u32>,
    large: Vec<u32>,
    sums: Vec<i64>,
    short: Vec<Option<Expiring>>,
    /// The newest there is of any key.
    version: u32,
    held: VecDeque<Held>,
    feed: Option<(ChangesHold, u64)>,
    tables: PathBuf,
}

impl Section {
    pub(crate) fn new(id: u8, tables: PathBuf) -> Self {
        Self {
            id,
            random: Random::new(0),
            small: vec![0; Kind::Small.keys() as usize],
            large: vec![0; Kind::Large.keys() as usize],
            sums: vec![0; SUMS as usize],
            short: vec![None; SHORT as usize],
            version: 0,
            held: VecDeque::new(),
            feed: None,
            tables,
        }
    }

    /// Does `steps` things that follow from `seed`.
    pub(crate) fn run(&mut self, store: &Store, seed: u64, steps: u64) {
        self.random = Random::new(seed.wrapping_mul(u64::from(SECTIONS)) ^ u64::from(self.id));
        for _ in 0..steps {
            self.step(store).unwrap_or_else(|error| panic!("seed {seed}, section {}: {error}", self.id));
        }
    }

    fn step(&mut self, store: &Store) -> Result<()> {
        match self.random.below(100) {
            0..25 => self.write_small(store),
            25..40 => self.write_large(store),
            40..43 => self.delete_range(store),
            43..49 => self.merge(store),
            49..53 => self.put_expiring(store),
            53..66 => self.get(store),
            66..71 => self.multi_get(store),
            71..76 => self.scan(store),
            76..77 => self.scan_far(store),
            77..81 => self.hold(store),
            81..84 => self.release(store),
            84..92 => self.transfer(store),
            92..94 => self.follow(store),
            94..96 => self.compact(store),
            96..97 => store.engine.flush(),
            97..98 => self.ingest(store),
            98..99 => self.load(store),
            _ => self.ends(store),
        }
    }

    fn versions(&self, kind: Kind) -> &[u32] {
        match kind {
            Kind::Small => &self.small,
            Kind::Large => &self.large,
        }
    }

    fn versions_mut(&mut self, kind: Kind) -> &mut [u32] {
        match kind {
            Kind::Small => &mut self.small,
            Kind::Large => &mut self.large,
        }
    }

    fn any_kind(&mut self) -> Kind {
        if self.random.one_in(3) { Kind::Large } else { Kind::Small }
    }

    fn any(&mut self, keys: u32) -> u32 {
        self.random.below(u64::from(keys)) as u32
    }

    fn next_version(&mut self) -> u32 {
        self.version += 1;
        self.version
    }

    /// Puts or deletes some keys of a kind in one batch.
    fn write(&mut self, store: &Store, kind: Kind, keys: u64) -> Result<()> {
        let keyspace = store.of_kind(kind);
        let mut batch = WriteBatch::new();
        for _ in 0..keys {
            let i = self.any(kind.keys());
            let version = if self.random.one_in(10) { 0 } else { self.next_version() };
            match version {
                0 => batch.delete_in(&keyspace, key(self.id, i)),
                _ => batch.put_in(&keyspace, key(self.id, i), value(kind, self.id, i, version)),
            };
            self.versions_mut(kind)[i as usize] = version;
        }
        let options = if self.random.one_in(50) { WriteOptions::sync() } else { WriteOptions::default() };
        store.engine.write_with(&batch, &options)
    }

    fn write_small(&mut self, store: &Store) -> Result<()> {
        let keys = 1 + self.random.below(40);
        self.write(store, Kind::Small, keys)
    }

    fn write_large(&mut self, store: &Store) -> Result<()> {
        let keys = 1 + self.random.below(LARGE_TOGETHER);
        self.write(store, Kind::Large, keys)
    }

    fn delete_range(&mut self, store: &Store) -> Result<()> {
        let kind = self.any_kind();
        let begin = self.any(kind.keys());
        let end = (begin + 1 + self.any(kind.keys() / 100)).min(kind.keys());
        self.versions_mut(kind)[begin as usize..end as usize].fill(0);
        let (begin, end) = (key(self.id, begin), [&[self.id][..], &end.to_be_bytes()].concat());
        store.of_kind(kind).delete_range(begin, end)
    }

    fn merge(&mut self, store: &Store) -> Result<()> {
        for _ in 0..10 {
            let (i, operand) = (self.any(SUMS), self.random.below(1000) as i64 - 500);
            store.sums.merge(key(self.id, i), operand.to_le_bytes())?;
            self.sums[i as usize] += operand;
        }
        Ok(())
    }

    fn put_expiring(&mut self, store: &Store) -> Result<()> {
        let (i, version, before) = (self.any(SHORT), self.next_version(), Instant::now());
        let options = WriteOptions { ttl: Some(TTL), ..WriteOptions::default() };
        store.short.put_with(key(self.id, i), value(Kind::Small, self.id, i, version), &options)?;
        self.short[i as usize] = Some(Expiring { version, put: (before, Instant::now()) });
        Ok(())
    }

    fn get(&mut self, store: &Store) -> Result<()> {
        let kind = self.any_kind();
        let i = self.any(kind.keys());
        let found = store.of_kind(kind).get(key(self.id, i))?;
        assert_is(kind, (self.id, i), found.as_deref(), self.versions(kind)[i as usize]);
        let i = self.any(SUMS);
        self.check_sum(store, i)?;
        let i = self.any(SHORT);
        self.check_short(store, i)
    }

    fn check_sum(&self, store: &Store, i: u32) -> Result<()> {
        let found = store.sums.get(key(self.id, i))?;
        let sum = found.map_or(0, |bytes| i64::from_le_bytes(bytes[..].try_into().unwrap()));
        assert_eq!(sum, self.sums[i as usize], "sum {i} of section {}", self.id);
        Ok(())
    }

    fn check_short(&self, store: &Store, i: u32) -> Result<()> {
        let before = Instant::now();
        let found = store.short.get(key(self.id, i))?;
        match (found, self.short[i as usize]) {
            (Some(found), Some(Expiring { version, put: (_, after) })) => {
                assert_is(Kind::Small, (self.id, i), Some(&found), version);
                assert!(before < after + TTL + TTL_SLACK, "key {i} of section {} should have expired", self.id);
            }
            (Some(_), None) => panic!("key {i} of section {} was never put", self.id),
            (None, Some(Expiring { put: (begun, _), .. })) => {
                assert!(Instant::now() + TTL_GRAIN >= begun + TTL, "key {i} of section {} expired early", self.id);
            }
            (None, None) => {}
        }
        Ok(())
    }

    fn multi_get(&mut self, store: &Store) -> Result<()> {
        let kind = self.any_kind();
        let asked: Vec<u32> = (0..64).map(|_| self.any(kind.keys())).collect();
        let found = store.of_kind(kind).multi_get(asked.iter().map(|i| key(self.id, *i)))?;
        for (i, found) in asked.into_iter().zip(found) {
            assert_is(kind, (self.id, i), found.as_deref(), self.versions(kind)[i as usize]);
        }
        Ok(())
    }

    /// A stretch of own keys, forward or backward.
    fn scan(&mut self, store: &Store) -> Result<()> {
        let kind = self.any_kind();
        let first = self.any(kind.keys());
        let last = (first + kind.keys() / 20).min(kind.keys());
        let iter = store.of_kind(kind).range(self.stretch(first, last));
        let mut there = self.there(kind, first, &self.versions(kind)[first as usize..last as usize]);
        if self.random.one_in(2) {
            return there.check(iter);
        }
        there.keys.reverse();
        there.check(iter.rev())
    }

    fn stretch(&self, first: u32, last: u32) -> std::ops::Range<Vec<u8>> {
        let bound = |i: u32| [&[self.id][..], &i.to_be_bytes()].concat();
        bound(first)..bound(last)
    }

    /// Of the keys from `first` on, which have `versions`, those that are there.
    fn there(&self, kind: Kind, first: u32, versions: &[u32]) -> There {
        let keys = (first..).zip(versions.iter().copied()).filter(|(_, version)| *version > 0).collect();
        There { kind, section: self.id, keys }
    }

    /// All keys of all sections from somewhere on, while others write.
    fn scan_far(&mut self, store: &Store) -> Result<()> {
        let kind = self.any_kind();
        let from = key(self.random.below(u64::from(SECTIONS)) as u8, 0);
        for item in store.of_kind(kind).range(from..).take(kind.keys() as usize) {
            let (at, found) = item?;
            assert_whole(kind, &at, &found);
        }
        Ok(())
    }

    /// Takes a snapshot and an iterator, to be looked at later. Lets go of all where memory is short: what readers pin counts, and writers do not wait for it.
    fn hold(&mut self, store: &Store) -> Result<()> {
        let held_max = if store.engine.metrics().pinned_memtable_bytes > BUDGET / 4 { 1 } else { HELD };
        while self.held.len() >= held_max {
            self.release(store)?;
        }
        let kind = self.any_kind();
        let first = self.any(kind.keys());
        let last = (first + kind.keys() / 20).min(kind.keys());
        let (snapshot, iter) = (store.engine.snapshot(), store.of_kind(kind).range(self.stretch(first, last)));
        let versions = self.versions(kind)[first as usize..last as usize].to_vec();
        let mut held = Held { kind, first, versions, snapshot: Some(snapshot), iter, read: 0 };
        for item in held.iter.by_ref().take(self.random.below(20) as usize) {
            let (at, found) = item?;
            assert_whole(kind, &at, &found);
            held.read += 1;
        }
        self.held.push_back(held);
        Ok(())
    }

    /// What is held longest still shows what it did.
    fn release(&mut self, store: &Store) -> Result<()> {
        let Some(held) = self.held.pop_front() else { return Ok(()) };
        let Held { kind, first, versions, snapshot, iter, read } = held;
        let mut there = self.there(kind, first, &versions);
        if let Some(snapshot) = snapshot {
            let (keyspace, last) = (store.of_kind(kind), first + versions.len() as u32);
            there.check(snapshot.of(&keyspace).range(self.stretch(first, last)))?;
        }
        there.keys.drain(..read);
        there.check(iter)
    }

    /// Moves money, and writes a key of its own, in a transaction that has read much besides.
    fn transfer(&mut self, store: &Store) -> Result<()> {
        let transfer = Transfer::any(&mut self.random);
        let (i, version) = (self.any(Kind::Small.keys()), self.next_version());
        store.engine.transact(|tx| {
            transfer.make(store, tx)?;
            tx.put(key(self.id, i), value(Kind::Small, self.id, i, version))
        })?;
        self.small[i as usize] = version;
        Ok(())
    }

    /// Reads on in the feed of changes, from where it last was.
    fn follow(&mut self, store: &Store) -> Result<()> {
        let (hold, mut seen) = match self.feed.take() {
            Some(feed) => feed,
            None => {
                let seq = store.engine.snapshot().seq();
                (store.engine.hold_changes(seq)?, seq)
            }
        };
        let options = ChangeOptions { durable: self.random.one_in(4) };
        for change in store.engine.changes_since_with(seen, &options)?.take(2000) {
            let change = change?;
            let first = match &change {
                Change::Batch(batch) => batch.first_seq(),
                Change::Ingest(_) => change.seq(),
                other => panic!("{other:?}"),
            };
            assert_eq!(first, seen + 1, "a change left out, or told twice");
            seen = change.seq();
        }
        hold.release_up_to(seen);
        // Now and then from anew, so that what is kept for it does not grow without end.
        self.feed = (!self.random.one_in(8)).then_some((hold, seen));
        Ok(())
    }

    fn compact(&mut self, store: &Store) -> Result<()> {
        let kind = self.any_kind();
        let first = self.any(kind.keys());
        store.of_kind(kind).compact_range(self.stretch(first, (first + kind.keys() / 20).min(kind.keys())))
    }

    /// New versions of a stretch of keys, in order.
    fn stretch_of_new(&mut self) -> Vec<(u32, u32)> {
        let first = self.any(Kind::Small.keys());
        let last = (first + 1 + self.any(500)).min(Kind::Small.keys());
        (first..last).map(|i| (i, self.next_version())).collect()
    }

    /// By a table that was built outside.
    fn ingest(&mut self, store: &Store) -> Result<()> {
        let stretch = self.stretch_of_new();
        let path = self.tables.join(format!("{}-{}.sst", self.id, self.version));
        let mut table = SstWriter::create(&path, &SstOptions::default())?;
        for (i, version) in &stretch {
            table.put(key(self.id, *i), value(Kind::Small, self.id, *i, *version))?;
        }
        table.finish()?;
        let options = IngestOptions { move_files: true };
        store.of_kind(Kind::Small).ingest([path], &options)?;
        self.is_now(stretch);
        Ok(())
    }

    /// Past log and memtable.
    fn load(&mut self, store: &Store) -> Result<()> {
        let (stretch, id) = (self.stretch_of_new(), self.id);
        let items = stretch.iter().map(|(i, version)| (key(id, *i), value(Kind::Small, id, *i, *version)));
        store.of_kind(Kind::Small).bulk_load(items)?;
        self.is_now(stretch);
        Ok(())
    }

    fn is_now(&mut self, stretch: Vec<(u32, u32)>) {
        for (i, version) in stretch {
            self.small[i as usize] = version;
        }
    }

    fn ends(&mut self, store: &Store) -> Result<()> {
        let kind = self.any_kind();
        let keyspace = store.of_kind(kind);
        for end in [keyspace.first()?, keyspace.last()?].into_iter().flatten() {
            assert_whole(kind, &end.0, &end.1);
        }
        keyspace.approximate_len(..)?;
        keyspace.approximate_size(..)?;
        Ok(())
    }

    /// Lets go of what would keep the engine, or ends with it. Iterators stay.
    pub(crate) fn let_go(&mut self) {
        self.feed = None;
        for held in &mut self.held {
            held.snapshot = None;
        }
    }

    /// All of the section is as the model has it.
    pub(crate) fn check_all(&self, store: &Store) -> Result<()> {
        for kind in [Kind::Small, Kind::Large] {
            self.there(kind, 0, self.versions(kind)).check(store.of_kind(kind).prefix([self.id]))?;
        }
        (0..SUMS).try_for_each(|i| self.check_sum(store, i))?;
        (0..SHORT).try_for_each(|i| self.check_short(store, i))
    }
}
