//! `first`, `last` and `is_empty` in transactions, raced by all that writes and rewrites: what each has seen is held against the feed of changes.
//!
//! ```text
//! feed    put 9   delete 4   T: looks          put 2   T: commits
//!                            ^ 5 is the first          ^ must not: 2 was written since, before 5
//! ```
//! - Nothing that a transaction has seen was written between its snapshot and its commit: from the end to the key that it found nothing was put, and the key was not deleted. Below what it wrote itself it has not seen anything.
//! - Where nothing expires and no filter is at work, the feed also tells what was there when it committed: the look found that.

use crate::edges::Extreme;
use crate::{Change, Engine, ErrorKind, FilterDecision, Keyspace, KeyspaceOptions, LeveledOptions, Operation, Options};
use crate::{Transaction, WriteOptions};
use esker_format::KeyspaceId;
use esker_vfs::{Clock, ManualClock, MemVfs};
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const KEYS: u64 = 64;

fn below(n: u64, random: &mut u64) -> u64 {
    *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    (*random >> 33) % n
}

fn at(key: u64) -> [u8; 8] {
    key.to_be_bytes()
}

fn key_of(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(bytes.try_into().unwrap())
}

#[derive(Debug)]
struct Look {
    since: u64,
    end: Extreme,
    found: Option<u64>,
    by_edges: bool,
}

impl Look {
    fn new(tx: &Transaction, end: Extreme, compares: bool) -> Self {
        let found = if end == Extreme::First { tx.first() } else { tx.last() }.unwrap();
        if compares {
            let walked = if end == Extreme::First { tx.iter().next() } else { tx.iter().next_back() };
            assert_eq!(found, walked.transpose().unwrap(), "{end:?}");
            assert_eq!(tx.is_empty().unwrap(), found.is_none());
        }
        let (found, at) = (found.map(|(key, _)| key_of(&key)), tx.snapshot.taken().at);
        let reach = tx.snapshot.handle().core.edges.reach(KeyspaceId::DEFAULT, at);
        Self { since: at.seq.0, end, found, by_edges: reach != Default::default() }
    }
}

struct Race {
    engine: Engine,
    /// Where a transaction puts the number of its looks, for the feed to tell when it was committed.
    aside: Keyspace,
    clock: Arc<ManualClock>,
    filters: Arc<AtomicBool>,
    /// Whether keys go without a deletion. Else there are merges: a keyspace has not both.
    may_vanish: bool,
    /// Of each transaction, before its own writes and over them.
    looks: Mutex<BTreeMap<u64, [Look; 2]>>,
}

impl Race {
    fn new(may_vanish: bool) -> Self {
        let (clock, filters) = (Arc::new(ManualClock::new()), Arc::new(AtomicBool::new(false)));
        let is_on = Arc::clone(&filters);
        let filter = move |_: u8, _: &[u8], value: &[u8]| match value.first() {
            Some(b'g') if is_on.load(Ordering::Relaxed) => FilterDecision::Remove,
            Some(b'o') if is_on.load(Ordering::Relaxed) => FilterDecision::Replace(b"new".to_vec()),
            _ => FilterDecision::Keep,
        };
        // Small, so that flushes and compactions are always under way.
        let compaction = LeveledOptions { table_bytes: 4 << 10, level_base_bytes: 16 << 10, ..Default::default() };
        let (memtable_bytes, wal_retain_bytes) = (Some(8 << 10), Some(u64::MAX));
        let options = Options { memtable_bytes, wal_retain_bytes, compaction, ..Options::default() };
        let merge_operator = (!may_vanish).then(|| "esker.append".into());
        let compaction_filter = may_vanish.then(|| "filter".into());
        let keyspace = KeyspaceOptions { merge_operator, compaction_filter, ..KeyspaceOptions::default() };
        let vfs = MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let builder = Engine::builder("data").vfs(vfs).options(options).compaction_filter("filter", filter);
        let engine = builder.default_keyspace(keyspace).open().unwrap();
        let aside = engine.keyspace("aside", KeyspaceOptions::default()).unwrap();
        Self { engine, aside, clock, filters, may_vanish, looks: Mutex::default() }
    }

    fn step(&self, random: &mut u64) {
        let (engine, key) = (&self.engine, below(KEYS, random));
        let value = ["plain", "gone", "old"][below(3, random) as usize];
        let expiring = WriteOptions { ttl: Some(Duration::from_millis(1 + below(40, random))), ..Default::default() };
        match below(120, random) {
            0..6 => engine.put(at(key), value).unwrap(),
            6..12 if self.may_vanish => engine.put_with(at(key), value, &expiring).unwrap(),
            6..12 => engine.merge(at(key), "+").unwrap(),
            12..42 => engine.delete(at(key)).unwrap(),
            42..48 => engine.delete_range(at(key), at(key + 1 + below(12, random))).unwrap(),
            48 => engine.bulk_load([(at(key), "loaded")]).map(drop).unwrap(),
            49 if below(3, random) == 0 => engine.flush().unwrap(),
            50 if below(6, random) == 0 => engine.compact_range(..).unwrap(),
            51 => self.filters.store(below(2, random) == 0, Ordering::Relaxed),
            52..58 => self.clock.advance(Duration::from_millis(below(6, random))),
            58..64 => engine.first().and(engine.last()).map(drop).unwrap(), // which finds edges
            _ => self.transact(value, random),
        }
    }

    fn transact(&self, value: &str, random: &mut u64) {
        let mut tx = self.engine.transaction();
        let any_end = |random: &mut u64| [Extreme::First, Extreme::Last][below(2, random) as usize];
        (below(3, random) == 0).then(std::thread::yield_now);
        // With a plain walk; which counts as read by itself, so not in all of them.
        let compares = below(2, random) == 0;
        let before = Look::new(&tx, any_end(random), compares);
        for _ in 0..below(4, random) {
            let key = below(KEYS, random);
            match below(4, random) {
                0 => tx.put(at(key), value),
                1 if !self.may_vanish => tx.merge(at(key), "-"),
                1 | 2 => tx.delete(at(key)),
                _ => tx.delete_range(at(key), at(key + 1 + below(10, random))),
            }
            .unwrap();
        }
        let looks = [before, Look::new(&tx, any_end(random), compares)];
        (below(3, random) == 0).then(std::thread::yield_now);
        tx.put_in(&self.aside, at(*random), "").unwrap();
        assert!(self.looks.lock().insert(*random, looks).is_none());
        assert!(tx.commit().err().is_none_or(|error| error.kind() == ErrorKind::Conflict));
    }

    /// Replays all from the feed.
    fn check(&self) {
        let (looks, mut keys) = (self.looks.lock(), BTreeSet::new());
        let mut log: Vec<(u64, (u64, bool))> = Vec::new(); // when, which key, and whether it was put
        for change in self.engine.changes_since(0).unwrap().map(Result::unwrap) {
            let (mut writes, mut hidden, mut seen, before) = (Vec::new(), BTreeSet::new(), None, keys.clone());
            match &change {
                Change::Ingest(table) => writes.push((key_of(&table.smallest), true)),
                Change::Batch(batch) => {
                    for operation in batch.operations() {
                        let (key, end) = match operation {
                            Operation::Put { keyspace, key, .. } if keyspace.id == self.aside.id() => {
                                seen = Some(&looks[&key_of(key)]);
                                continue;
                            }
                            Operation::Put { key, .. }
                            | Operation::PutExpiring { key, .. }
                            | Operation::PutForever { key, .. }
                            | Operation::Merge { key, .. }
                            | Operation::Delete { key, .. } => (key, None),
                            Operation::DeleteRange { begin, end, .. } => (begin, end),
                        };
                        let keys = key_of(key)..end.map_or(key_of(key) + 1, key_of);
                        let deletes = matches!(operation, Operation::Delete { .. } | Operation::DeleteRange { .. });
                        writes.extend(keys.clone().map(|key| (key, !deletes)));
                        hidden.extend(keys.filter(|_| !matches!(operation, Operation::Merge { .. })));
                    }
                }
            }
            // A deletion of nothing is none.
            writes.retain(|(key, puts)| (if *puts { keys.insert(*key) } else { keys.remove(key) }) || *puts);
            for (nth, look) in seen.into_iter().flatten().enumerate() {
                let missed = log.iter().rev().take_while(|(seq, ..)| *seq > look.since).find(|(_, (key, puts))| {
                    let is_nearer = look.found.is_none_or(|found| look.end.is_nearer(&at(*key), &at(found)));
                    (look.found == Some(*key) || *puts && is_nearer) && !(nth == 1 && hidden.contains(key))
                });
                assert!(missed.is_none(), "{look:?} has missed {missed:?}; its own: {writes:?}");
                let there = [&before, &keys][nth];
                let nearest = if look.end == Extreme::First { there.first() } else { there.last() };
                assert!(self.may_vanish || look.found.as_ref() == nearest, "{look:?}, by now {nearest:?} is there");
            }
            log.extend(writes.into_iter().map(|write| (change.seq(), write)));
        }
    }
}

#[test]
fn nothing_at_the_ends_is_missed_whoever_writes_and_however() {
    for (seed, may_vanish) in [(1, false), (2, true)] {
        println!("seed {seed}");
        let race = Race::new(may_vanish);
        std::thread::scope(|scope| {
            for thread in 0..4 {
                let (race, mut random) = (&race, seed << 8 | thread);
                scope.spawn(move || (0..350).for_each(|_| race.step(&mut random)));
            }
        });
        race.check();
        let (conflicts, looks) = (race.engine.metrics().conflicts as usize, race.looks.into_inner());
        let (begun, by_edges) = (looks.len(), looks.values().filter(|looks| looks[0].by_edges).count());
        assert!(by_edges > begun / 2 && conflicts < begun / 2, "{by_edges} of {begun} by edges, {conflicts} conflicts");
    }
}
