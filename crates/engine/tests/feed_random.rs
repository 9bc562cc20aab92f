//! The feed of changes beside a list of all that was committed: from whichever number it is asked, it tells just what came behind, or says from where on it can. So do those who only read, copies, followers that go on
//! while logs come and go, and whatever a crash has left; what is held stays.

use esker::vfs::{Clock, CrashPolicy, ManualClock, MemVfs, Vfs};
use esker::{
    Background, Change, ChangeOptions, Changes, ChangesHold, Durability, Engine, ErrorKind, KeyspaceOptions,
    LogBackend, Operation, Options, WriteBatch, WriteOptions,
};
use esker_testkit::stress;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

/// First and last number, and the count that it wrote under "n"; none for an ingest.
type Entry = (u64, u64, Option<u64>);

struct Run {
    vfs: Arc<MemVfs>,
    clock: Arc<ManualClock>,
    options: Options,
    random: Random,
    line: Vec<Entry>,
    /// Last numbers of what was committed and then lost.
    lost: BTreeSet<u64>,
    /// Up to which index of the line no crash can undo it.
    durable: usize,
    /// What the last batch wrote under "n".
    count: u64,
    told: u64,
    gaps: u64,
    copies: u64,
}

fn entry(change: &Change) -> Entry {
    match change {
        Change::Batch(batch) => {
            let counts = batch.operations().filter_map(|operation| match operation {
                Operation::Put { key: b"n", value, .. } => Some(u64::from_be_bytes(value.try_into().unwrap())),
                _ => None,
            });
            let counts: Vec<u64> = counts.collect();
            assert_eq!(counts.len(), 1);
            assert_eq!(batch.operations().count() as u64, batch.last_seq() - batch.first_seq() + 1);
            (batch.first_seq(), batch.last_seq(), Some(counts[0]))
        }
        Change::Ingest(ingest) => (ingest.seq, ingest.seq, None),
        other => panic!("{other:?}"),
    }
}

impl Run {
    fn open(&self, dir: &str, read_only: bool) -> Engine {
        let vfs = Arc::clone(&self.vfs) as Arc<dyn Vfs>;
        let builder = Engine::builder(dir).vfs(vfs).options(self.options.clone()).read_only(read_only);
        builder.background(Background::Manual).open().unwrap()
    }

    fn behind(&self, since: u64) -> Vec<Entry> {
        self.line.iter().copied().filter(|(_, last, _)| *last > since).collect()
    }

    fn check(&mut self, engine: &Engine, what: &str) {
        let newest = engine.metrics().last_seq;
        let mut asked: BTreeSet<u64> =
            self.line.iter().flat_map(|(first, last, _)| [first - 1, *first, *last, last + 1]).collect();
        asked.extend([0, 1, newest, newest + 1, u64::MAX]);
        asked.extend(&self.lost);
        asked.extend(self.lost.iter().map(|n| n + 1));
        let asked: Vec<u64> = asked.into_iter().filter(|_| self.random.below(8) == 0).chain([0, newest]).collect();
        for since in asked {
            let options = ChangeOptions { durable: self.random.below(40) == 0 };
            if options.durable && !what.contains("read") {
                self.durable = self.line.len();
            }
            match engine.changes_since_with(since, &options) {
                Ok(changes) => {
                    assert!(!self.lost.contains(&since), "{what}: {since} was lost");
                    self.assert_told(engine, since, changes, what);
                    self.told += 1;
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Gap, "{what}: since {since}: {error}");
                    let from = error.changes_from().unwrap();
                    assert!(from > since || since > newest, "{what}: since {since} from {from}: {error}");
                    let again = engine.changes_since_with(from, &options);
                    let again =
                        again.unwrap_or_else(|e| panic!("{what}: since {since} of {newest}, from {from} it can: {e}"));
                    self.assert_told(engine, from, again, what);
                    self.gaps += 1;
                }
            }
        }
    }

    /// All of it, or up to a gap behind which the rest is told.
    fn assert_told(&self, engine: &Engine, since: u64, changes: Changes, what: &str) {
        let mut told = Vec::new();
        let mut at = since;
        for change in changes {
            match change {
                Ok(change) => {
                    told.push(entry(&change));
                    at = change.seq();
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Gap, "{what}: since {since}, at {at}: {error}");
                    let from = error.changes_from().unwrap();
                    assert!(from > at);
                    let expected: Vec<Entry> =
                        self.behind(since).into_iter().filter(|(_, last, _)| *last <= at).collect();
                    assert_eq!(told, expected, "{what}: since {since}, up to the gap at {at}");
                    // Of logs let go of, the first may be kept to be used again, and the next, in which nothing was written, be gone.
                    let lets_go =
                        self.options.wal_retain_bytes != Some(u64::MAX) || self.options.wal_retain_age.is_some();
                    assert!(
                        lets_go || self.behind(at).iter().any(|(first, ..)| *first <= from),
                        "{what}: a gap at {at} for nothing: {error}"
                    );
                    return self.assert_told(
                        engine,
                        from,
                        engine.changes_since_with(from, &ChangeOptions { durable: false }).unwrap(),
                        what,
                    );
                }
            }
        }
        assert_eq!(told, self.behind(since), "{what}: since {since}");
    }

    fn run(&mut self, lives: usize) {
        let mut cut = false;
        for life in 0..lives {
            let engine = self.open("/data", false);
            self.check(&engine, "opened");
            if life == 0 {
                engine
                    .keyspace(
                        "sums",
                        KeyspaceOptions { merge_operator: Some("esker.append".into()), ..Default::default() },
                    )
                    .unwrap();
                engine
                    .keyspace("short", KeyspaceOptions { ttl: Some(Duration::from_secs(50)), ..Default::default() })
                    .unwrap();
            }
            let sums = engine.keyspace("sums", KeyspaceOptions::default()).unwrap();
            let short = engine.keyspace("short", KeyspaceOptions::default()).unwrap();
            let mut followers: Vec<(Changes, u64)> = Vec::new();
            let mut holds: Vec<(ChangesHold, u64)> = Vec::new();
            let ops = 5 + self.random.below(80);
            for _ in 0..ops {
                match self.random.below(30) {
                    0 => {
                        engine.flush().unwrap();
                        self.durable = self.line.len();
                    }
                    1 | 2 => while engine.step().unwrap() {},
                    3 => drop(engine.step().unwrap()),
                    4 => {
                        let n = self.random.below(100);
                        let seq =
                            engine.bulk_load([(format!("b{n:03}"), "x"), (format!("b{n:03}c"), "y")]).unwrap().seq;
                        self.line.push((seq, seq, None));
                        self.durable = self.line.len();
                    }
                    5 => self.clock.advance(Duration::from_secs(self.random.below(40))),
                    6 => {
                        let at = self.random.below(self.line.len() as u64 + 1) as usize;
                        let since = at.checked_sub(1).map_or(0, |at| self.line[at].1);
                        if let Ok(hold) = engine.hold_changes(since) {
                            holds.push((hold, since));
                        }
                    }
                    7 if !holds.is_empty() => {
                        let at = self.random.below(holds.len() as u64) as usize;
                        if self.random.below(2) == 0 {
                            holds.swap_remove(at);
                        } else {
                            let to = self.random.below(engine.metrics().last_seq + 1);
                            if to > holds[at].1 {
                                holds[at].0.release_up_to(to);
                                holds[at].1 = to;
                            }
                        }
                    }
                    8 => {
                        let at = self.random.below(self.line.len() as u64 + 1) as usize;
                        let since = at.checked_sub(1).map_or(0, |at| self.line[at].1);
                        if let Ok(changes) = engine.changes_since_with(since, &ChangeOptions { durable: false }) {
                            followers.push((changes, since));
                        }
                    }
                    9..12 if !followers.is_empty() => {
                        let at = self.random.below(followers.len() as u64) as usize;
                        let steps = self.random.below(12);
                        let (changes, seen) = &mut followers[at];
                        for _ in 0..steps {
                            let expected = self.line.iter().find(|(_, last, _)| last > seen).copied();
                            let found = changes.next().map(|change| entry(&change.unwrap()));
                            if let Some(found) = found {
                                assert_eq!(Some(found), expected, "a follower at {seen}");
                                *seen = found.1;
                            } else {
                                // At the end of what there was; asked again it has all.
                                let found = changes.next().map(|change| entry(&change.unwrap()));
                                assert_eq!(found, expected, "a follower that asks again at {seen}");
                                if let Some(found) = found {
                                    *seen = found.1;
                                }
                            }
                        }
                        if self.random.below(6) == 0 {
                            followers.swap_remove(at);
                        }
                    }
                    12 => {
                        if holds.is_empty() {
                            continue;
                        }
                        let at = self.random.below(holds.len() as u64) as usize;
                        let since = holds[at].1;
                        let told = engine.changes_since_with(since, &ChangeOptions { durable: false });
                        match told {
                            Ok(told) => {
                                self.assert_told(&engine, since, told, "held");
                            }
                            // One that was moved on to where nothing ends.
                            Err(error) => assert!(
                                !self.line.iter().any(|(_, last, _)| *last == since) && since > 0,
                                "held since {since}: {error}"
                            ),
                        }
                    }
                    13 if self.random.below(3) == 0 => self.check(&engine, "while open"),
                    14 if self.random.below(3) == 0 => {
                        self.copies += 1;
                        let to = format!("/copy{}", self.copies);
                        let count = self.count;
                        engine.checkpoint(&to).unwrap();
                        self.durable = self.line.len();
                        if count.is_multiple_of(2) {
                            let copy = self.open(&to, true);
                            self.check(&copy, "a copy, read only");
                            copy.close().unwrap();
                        }
                        let copy = self.open(&to, false);
                        let durable = self.durable;
                        self.check(&copy, "a copy");
                        self.durable = durable;
                        copy.close().unwrap();
                    }
                    15 => {
                        self.count += 1;
                        self.line.push(self.big(&engine));
                    }
                    _ => {
                        self.count += 1;
                        let mut batch = WriteBatch::new();
                        let key = format!("k{}", self.random.below(50));
                        batch.put("n", self.count.to_be_bytes());
                        for _ in 0..self.random.below(4) {
                            match self.random.below(6) {
                                0 => batch.delete(&key),
                                1 => batch.delete_range(&key, "l"),
                                2 => batch.merge_in(&sums, &key, "m"),
                                3 => batch.put_in(&short, &key, "s"),
                                4 => batch.put_forever_in(&short, &key, "s"),
                                _ => batch.put(&key, vec![7; self.random.below(900) as usize]),
                            };
                        }
                        let durability = match self.random.below(6) {
                            0 => Durability::Sync,
                            1 => Durability::Memory,
                            _ => Durability::Os,
                        };
                        let mut result = engine.write_with(&batch, &WriteOptions { durability, ..Default::default() });
                        while result.is_err() {
                            assert!(engine.step().unwrap());
                            result = engine.write_with(&batch, &WriteOptions { durability, ..Default::default() });
                        }
                        let last = engine.metrics().last_seq;
                        self.line.push((last + 1 - batch.len() as u64, last, Some(self.count)));
                        if durability == Durability::Sync {
                            self.durable = self.line.len();
                        }
                    }
                }
                if !cut && self.options.wal_retain_bytes == Some(u64::MAX) && self.options.wal_retain_age.is_none() {
                    engine
                        .changes_since_with(0, &ChangeOptions { durable: false })
                        .unwrap_or_else(|e| panic!("all is kept: {e}"));
                }
            }
            if self.random.below(2) == 0 {
                self.check(&engine, "at the end");
            }
            drop((holds, followers, sums, short));
            match self.random.below(4) {
                0 | 1 => {
                    engine.close().unwrap();
                    drop(engine);
                    self.durable = self.line.len();
                    if self.random.below(2) == 0 {
                        let reader = self.open("/data", true);
                        self.check(&reader, "read only");
                        reader.close().unwrap();
                    }
                }
                kind => {
                    let policy = if kind == 2 { CrashPolicy::SyncedOnly } else { CrashPolicy::All };
                    let image = Arc::new(self.vfs.crash_now(policy));
                    drop(engine);
                    self.vfs = image;
                    // Which of the last survived shows by the count.
                    let reader = self.open("/data", true);
                    let n = reader.get("n").unwrap().map_or(0, |n| u64::from_be_bytes(n[..].try_into().unwrap()));
                    let last = self.line.iter().rposition(|(.., count)| count.is_some_and(|count| count == n));
                    let kept = last.map_or(0, |last| last + 1).max(self.durable);
                    for (_, last, _) in self.line.drain(kept..) {
                        self.lost.insert(last);
                    }
                    self.check(&reader, "crashed, read only");
                    reader.close().unwrap();
                    drop(reader);
                    self.vfs = Arc::new(self.vfs.crash_now(CrashPolicy::All));
                    cut = true;
                    self.durable = self.line.len();
                }
            }
        }
    }

    fn big(&self, engine: &Engine) -> Entry {
        let mut batch = WriteBatch::new();
        batch.put("n", self.count.to_be_bytes()).put("big", vec![3; 40_000]);
        let options = WriteOptions::default();
        let mut result = engine.write_with(&batch, &options);
        while result.is_err() {
            assert!(engine.step().unwrap());
            result = engine.write_with(&batch, &options);
        }
        let last = engine.metrics().last_seq;
        (last - 1, last, Some(self.count))
    }
}

#[test]
fn whatever_is_asked_it_is_all_or_a_gap() {
    for round in stress::rounds("feed", 3) {
        let seed = round.seed();
        let clock = Arc::new(ManualClock::new());
        let vfs = MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
        let mut random = Random(seed);
        (0..3).for_each(|_| _ = random.below(2));
        let kept = random.below(5);
        let options = Options {
            memtable_bytes: Some(16 << 10),
            memory_budget_bytes: 4 << 20,
            log_backend: if seed % 2 == 0 { LogBackend::Mapped } else { LogBackend::Write },
            wal_retain_bytes: [None, Some(u64::MAX), Some(40 << 10), None, Some(60 << 10)][kept as usize],
            wal_retain_age: [None, None, None, Some(Duration::from_secs(60)), Some(Duration::from_secs(90))]
                [kept as usize],
            flush_on_close: random.below(4) > 0,
            ..Options::default()
        };
        let mut run = Run {
            vfs,
            clock,
            options,
            random,
            line: Vec::new(),
            lost: BTreeSet::new(),
            durable: 0,
            count: 0,
            told: 0,
            gaps: 0,
            copies: 0,
        };
        run.run(6);
        round.tried(run.told);
        println!("{} told, {} gaps, {} lost", run.told, run.gaps, run.lost.len());
    }
}
