//! Replicas that follow by the feed of changes: what expires and what does not, and ingests into a keyspace with a merge operator.

use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{
    Background, Change, Engine, ErrorKind, IngestOptions, Keyspace, KeyspaceOptions, Operation, Options, SstOptions,
    SstWriter, WriteBatch, WriteOptions,
};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn open(vfs: &Arc<MemVfs>) -> Engine {
    let options = Options { memtable_bytes: Some(16 << 10), wal_retain_bytes: Some(u64::MAX), ..Options::default() };
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder("/data").vfs(vfs).options(options).background(Background::Manual).open().unwrap()
}

fn with_ttl() -> KeyspaceOptions {
    KeyspaceOptions { ttl: Some(HOUR), ..KeyspaceOptions::default() }
}

/// What was put, by what each operation says of time.
fn told(engine: &Engine) -> Vec<String> {
    let mut told = Vec::new();
    for change in engine.changes_since(0).unwrap() {
        let Change::Batch(batch) = change.unwrap() else { panic!("nothing was ingested") };
        told.extend(batch.operations().map(|operation| match operation {
            Operation::Put { key, .. } => format!("{} put", key.escape_ascii()),
            Operation::PutForever { key, .. } => format!("{} forever", key.escape_ascii()),
            Operation::PutExpiring { key, .. } => format!("{} expiring", key.escape_ascii()),
            other => panic!("{other:?}"),
        }));
    }
    told
}

/// A value put for ever, in a keyspace with a time to live, was told as a plain put; a replica with the same time to live had it expire.
#[test]
fn what_is_put_for_ever_is_told_apart_where_a_plain_put_expires() {
    let vfs = MemVfs::new();
    let engine = open(&vfs);
    let sessions = engine.keyspace("sessions", with_ttl()).unwrap();
    let dropped = engine.keyspace("dropped", with_ttl()).unwrap();
    let mut batch = WriteBatch::new();
    batch.put_in(&sessions, "a", "").put_forever_in(&sessions, "b", "").put_expiring_in(
        &sessions,
        "c",
        "",
        Duration::MAX,
    );
    batch.put("d", "").put_expiring("e", "", HOUR).put_forever("f", "").put_forever_in(&dropped, "g", "");
    engine.write(&batch).unwrap();
    sessions.put_with("h", "", &WriteOptions { ttl: Some(Duration::MAX), ..Default::default() }).unwrap();
    let all = ["a expiring", "b forever", "c forever", "d put", "e expiring", "f put", "g forever", "h forever"];
    assert_eq!(told(&engine), all);
    for (key, expires) in [("a", true), ("b", false), ("c", false), ("h", false)] {
        assert_eq!(sessions.get_with_expiry(key).unwrap().unwrap().1.is_some(), expires, "{key}");
    }
    engine.drop_keyspace("dropped").unwrap();
    assert_eq!(told(&engine), all, "dropped, it is still known");
    engine.sync().unwrap();
    drop((sessions, dropped, engine));
    let image = Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly));
    let mut all = all.map(str::to_owned);
    all[6] = "g put".into();
    assert_eq!(told(&open(&image)), all, "what was dropped before it was opened has no time to live that is known");
}

/// For a follower that puts for ever what is told so, whatever it puts to.
#[test]
fn putting_for_ever_is_fine_where_nothing_expires() {
    let engine = open(&MemVfs::new());
    let options = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..Default::default() };
    let log = engine.keyspace("log", options).unwrap();
    let mut batch = WriteBatch::new();
    batch.put_forever_in(&log, "k", "a").merge_in(&log, "k", "b").put_forever("k", "c");
    engine.write(&batch).unwrap();
    assert_eq!((log.get("k").unwrap().unwrap(), engine.get("k").unwrap().unwrap()), (b"ab".into(), b"c".into()));
    // A write with a time to live is none for it, though one of its operations says otherwise.
    let mut batch = WriteBatch::new();
    batch.put_forever_in(&log, "k", "d");
    let to_live = WriteOptions { ttl: Some(HOUR), ..Default::default() };
    engine.write_with(&batch, &to_live).unwrap();
    batch.put_in(&log, "l", "d");
    assert_eq!(engine.write_with(&batch, &to_live).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!((log.get("k").unwrap().unwrap(), log.get("l").unwrap()), (b"d".into(), None));
}

/// In memory, in tables and in blob files, either way, and of snapshots.
#[test]
fn a_walk_tells_when_what_it_comes_by_expires() {
    let vfs = MemVfs::new();
    let engine = open(&vfs);
    let mut batch = WriteBatch::new();
    for i in 0..40u32 {
        let (key, value) = (format!("{i:02}"), vec![7; if i % 3 == 0 { 5_000 } else { 5 }]);
        match i % 4 {
            0 => batch.put(key, value),
            1 => batch.put_forever(key, value),
            _ => batch.put_expiring(key, value, HOUR + Duration::from_secs(i.into())),
        };
    }
    engine.write(&batch).unwrap();
    let snapshot = engine.snapshot();
    for _ in 0..2 {
        let mut cursors = [engine.cursor(), snapshot.cursor()];
        for cursor in &mut cursors {
            let mut there = Vec::new();
            cursor.seek_to_first().unwrap();
            while cursor.valid() {
                there.push((cursor.key().to_vec(), cursor.expiry()));
                assert_eq!(engine.get_with_expiry(cursor.key()).unwrap().unwrap().1, cursor.expiry());
                cursor.next().unwrap();
            }
            assert_eq!(there.len(), 40);
            assert_eq!(there.iter().filter(|(_, expiry)| expiry.is_some()).count(), 20);
            cursor.seek_to_last().unwrap();
            while cursor.valid() {
                assert_eq!(there.pop().unwrap(), (cursor.key().to_vec(), cursor.expiry()));
                cursor.prev().unwrap();
            }
        }
        engine.flush().unwrap();
    }
}

/// A follower of one keyspace with a merge operator, as the guarantees have it.
struct Follower {
    replica: Engine,
    seen: u64,
    /// Ranges that were read as of a number, behind their ingest: up to there they know of what is told.
    read: Vec<(RangeInclusive<Vec<u8>>, u64)>,
}

impl Follower {
    fn new() -> Self {
        let options = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..Default::default() };
        let builder = Engine::builder("/replica").vfs(MemVfs::new()).default_keyspace(options);
        Self { replica: builder.background(Background::Manual).open().unwrap(), seen: 0, read: Vec::new() }
    }

    fn follow(&mut self, engine: &Engine, log: &Keyspace, changes: usize) {
        for change in engine.changes_since(self.seen).unwrap().take(changes) {
            let change = change.unwrap();
            self.read.retain(|(_, until)| *until >= change.seq());
            let mut batch = WriteBatch::new();
            match &change {
                Change::Batch(changed) => changed.operations().for_each(|operation| self.apply(&mut batch, operation)),
                Change::Ingest(tables) => {
                    let snapshot = engine.snapshot();
                    let range = tables.smallest.clone()..=tables.largest.clone();
                    batch.delete_range(range.start(), behind(range.end()));
                    for item in snapshot.of(log).range(range.clone()) {
                        let (key, value) = item.unwrap();
                        batch.put(&key, &value);
                    }
                    self.read.push((range, snapshot.seq()));
                }
                other => panic!("{other:?}"),
            }
            self.replica.write(&batch).unwrap();
            self.seen = change.seq();
        }
    }

    /// Applies what is not in a range that knows of it.
    fn apply(&self, batch: &mut WriteBatch, operation: Operation<'_>) {
        let is_known = |key: &[u8]| self.read.iter().any(|(range, _)| range.contains(&key.to_vec()));
        match operation {
            Operation::Put { key, .. } | Operation::Merge { key, .. } | Operation::Delete { key, .. }
                if is_known(key) => {}
            Operation::Put { key, value, .. } => {
                batch.put(key, value);
            }
            Operation::Merge { key, operand, .. } => {
                batch.merge(key, operand);
            }
            Operation::Delete { key, .. } => {
                batch.delete(key);
            }
            Operation::DeleteRange { begin, end: Some(end), .. } => {
                let mut pieces = vec![(begin.to_vec(), end.to_vec())];
                for (range, _) in &self.read {
                    let cut = |(begin, end): (Vec<u8>, Vec<u8>)| {
                        let before = (begin.clone(), end.clone().min(range.start().clone()));
                        [before, (begin.max(behind(range.end())), end)]
                    };
                    pieces = pieces.into_iter().flat_map(cut).filter(|(begin, end)| begin < end).collect();
                }
                for (begin, end) in &pieces {
                    batch.delete_range(begin, end);
                }
            }
            other => panic!("{other:?}"),
        }
    }
}

/// The first key behind one.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}

/// Operands that come behind an ingest are told, and are in what is read of its range too: they counted twice.
#[test]
fn an_ingest_among_operands_can_be_followed() {
    let mut ranges_read = 0;
    for seed in 0..30u64 {
        let mut random = seed;
        let mut below = |n: u64| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 33) % n
        };
        let vfs = MemVfs::new();
        let engine = open(&vfs);
        let options = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..Default::default() };
        let log = engine.keyspace("log", options).unwrap();
        let mut follower = Follower::new();
        let key = |n: u64| format!("{n:02}");
        for i in 0..250u64 {
            let value = format!("{i} ");
            if i % 8 == 0 {
                while engine.step().unwrap() {}
            }
            match below(20) {
                0 => {
                    let begin = below(28);
                    log.delete_range(key(begin), key(begin + 1 + below(10))).unwrap();
                }
                1 => log.delete(key(below(30))).unwrap(),
                2 | 3 => log.put(key(below(30)), &value).unwrap(),
                4 => {
                    let begin = below(25);
                    let entries = (begin..begin + 1 + below(5)).map(|n| (key(n), &value));
                    log.bulk_load(entries).unwrap();
                }
                5 if i % 2 == 0 => {
                    vfs.create_dir_all("/out".as_ref()).unwrap();
                    let path = format!("/out/{i}.sst");
                    let vfs = Arc::clone(&vfs) as Arc<dyn Vfs>;
                    let mut table = SstWriter::create_on(vfs, &path, &SstOptions::default()).unwrap();
                    let begin = below(20);
                    table.put(key(begin), &value).unwrap();
                    table.delete(key(begin + 4)).unwrap();
                    table.finish().unwrap();
                    log.ingest([path], &IngestOptions { move_files: true }).unwrap();
                }
                6 | 7 => follower.follow(&engine, &log, below(12) as usize),
                _ => {
                    let mut batch = WriteBatch::new();
                    for _ in 0..=below(3) {
                        batch.merge_in(&log, key(below(30)), &value);
                    }
                    engine.write(&batch).unwrap();
                }
            }
            ranges_read = ranges_read.max(follower.read.len());
        }
        follower.follow(&engine, &log, usize::MAX);
        let all = |iter: esker::Iter| iter.collect::<esker::Result<Vec<_>>>().unwrap();
        assert_eq!(all(follower.replica.iter()), all(log.iter()), "seed {seed}");
    }
    assert!(ranges_read > 1, "no change was told that a range knew of");
}
