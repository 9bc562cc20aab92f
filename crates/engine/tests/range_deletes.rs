//! Range deletes: against deleting key by key, what they cost, and what becomes of them on disk.

#[path = "model/options.rs"]
#[expect(dead_code, reason = "the sets that were picked are for other suites")]
mod options;

use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{
    Background, Engine, ErrorKind, Keyspace, KeyspaceOptions, LeveledOptions, Options, ReadMode, Snapshot, WriteBatch,
    WriteOptions,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/data";

fn open(vfs: &Arc<MemVfs>, options: &Options) -> Engine {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder(DIR).vfs(vfs).options(options.clone()).background(Background::Manual).open().unwrap()
}

fn settle(engine: &Engine) {
    while engine.step().unwrap() {}
}

fn key(i: usize) -> String {
    format!("key{i:06}")
}

/// Numbers that look like chance, the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

type Pairs = Vec<(Vec<u8>, Vec<u8>)>;

fn forward(iter: esker::Iter) -> Pairs {
    iter.map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect()
}

/// All ways of reading all of it.
fn check(expected: &BTreeMap<String, String>, engine: &Engine, snapshot: Option<&Snapshot>) {
    let expected: Pairs = expected.iter().map(|(key, value)| (key.clone().into(), value.clone().into())).collect();
    let (iter, back) = match snapshot {
        Some(snapshot) => (snapshot.iter(), snapshot.iter()),
        None => (engine.iter(), engine.iter()),
    };
    assert_eq!(forward(iter), expected);
    let mut reversed: Pairs = back.rev().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
    reversed.reverse();
    assert_eq!(reversed, expected);
    let keys: Vec<String> = (0..300).map(key).collect();
    let many = match snapshot {
        Some(snapshot) => snapshot.multi_get(&keys),
        None => engine.multi_get(&keys),
    };
    for (key, found) in keys.iter().zip(many.unwrap()) {
        let value = expected.binary_search_by(|(k, _)| k[..].cmp(key.as_bytes())).ok().map(|i| &expected[i].1[..]);
        assert_eq!(found.as_deref(), value, "{key}");
        let (got, contains) = match snapshot {
            Some(snapshot) => (snapshot.get(key).unwrap(), snapshot.contains_key(key).unwrap()),
            None => (engine.get(key).unwrap(), engine.contains_key(key).unwrap()),
        };
        assert_eq!((got.as_deref(), contains), (value, value.is_some()), "{key}");
    }
}

/// With snapshots, tiny tables over all levels, filters on and off, reopening and crashes. That it is just as if each key had been deleted is known from a map.
#[test]
fn as_if_each_key_had_been_deleted() {
    for (seed, options) in options::by_hand().into_iter().enumerate() {
        let vfs = MemVfs::new();
        let mut engine = open(&vfs, &options);
        let mut numbers = Numbers(seed as u64);
        let mut now = BTreeMap::new();
        let mut snapshots: Vec<(Snapshot, BTreeMap<String, String>)> = Vec::new();
        for round in 0..1500 {
            let (a, b) = (numbers.below(300), numbers.below(300));
            let write = |batch: &WriteBatch| {
                while let Err(error) = engine.write(batch) {
                    assert!(error.kind() == ErrorKind::Stalled && engine.step().unwrap(), "{error}");
                }
            };
            let mut batch = WriteBatch::new();
            match numbers.below(20) {
                0 => {
                    let (from, to) = (key(a.min(b)), key(a.max(b) + 1));
                    batch.delete_range(&from, &to);
                    now.retain(|key: &String, _| *key < from || *key >= to);
                    let again = format!("again {round}");
                    batch.put(key(a), &again);
                    now.insert(key(a), again);
                    write(&batch);
                }
                1 => {
                    let (from, to) = (key(a), key(a + numbers.below(6) + 1));
                    batch.delete_range(&from, &to);
                    now.retain(|key: &String, _| *key < from || *key >= to);
                    write(&batch);
                }
                2 if round % 7 == 0 => engine.flush().unwrap(),
                3 if round % 11 == 0 => engine.compact_range(key(a.min(b))..key(a.max(b))).unwrap(),
                4 => {
                    engine.step().unwrap();
                }
                5 if snapshots.len() < 3 => snapshots.push((engine.snapshot(), now.clone())),
                6 if !snapshots.is_empty() => drop(snapshots.remove(a % snapshots.len())),
                _ => {
                    let value = format!("{round} {}", "v".repeat(b % 60));
                    batch.put(key(a), &value);
                    now.insert(key(a), value);
                    write(&batch);
                }
            }
            if round % 150 == 149 {
                check(&now, &engine, None);
                snapshots.iter().for_each(|(snapshot, then)| check(then, &engine, Some(snapshot)));
            }
            if round % 500 == 499 {
                snapshots.clear();
                engine.close().unwrap();
                engine = open(&vfs, &options);
                check(&now, &engine, None);
            }
        }
        assert!(engine.verify().unwrap().is_ok());
        engine.compact_range(..).unwrap();
        check(&now, &engine, None);
        let levels = &engine.metrics().keyspaces[0].levels;
        assert_eq!(levels.iter().map(|level| level.range_tombstones).sum::<u64>(), 0, "no reader needs any");
        drop(engine);
        let engine = open(&Arc::new(vfs.crash_now(CrashPolicy::All)), &options);
        check(&now, &engine, None);
    }
}

#[test]
fn a_range_that_ends_before_it_begins_is_refused_and_nothing_is_written() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, &Options::default());
    engine.put("k", "v").unwrap();
    let before = engine.metrics().last_seq;
    let too_long = vec![b'z'; 65_536];
    let invalid = |result: esker::Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    };
    for (begin, end) in
        [(&b"b"[..], &b"a"[..]), (b"a", b"a"), (b"", b""), (b"a", b""), (b"a", &too_long), (&too_long, b"zzz")]
    {
        invalid(engine.delete_range(begin, end));
        invalid(engine.delete_range_with(begin, end, &WriteOptions::sync()));
        let mut batch = WriteBatch::new();
        batch.put("other", "v").delete_range(begin, end).put("more", "v");
        invalid(engine.write(&batch));
        batch.clear();
        batch.put("k", "v");
        assert_eq!(batch.len(), 1);
    }
    assert_eq!(engine.metrics().last_seq, before);
    assert_eq!(engine.iter().count(), 1);

    let other = open(&MemVfs::new(), &Options::default());
    let keyspace = other.keyspace("there", KeyspaceOptions::default()).unwrap();
    let mut batch = WriteBatch::new();
    batch.delete_range_in(&keyspace, "a", "z");
    invalid(engine.write(&batch));

    let dropped = engine.keyspace("dropped", KeyspaceOptions::default()).unwrap();
    engine.drop_keyspace("dropped").unwrap();
    assert_eq!(dropped.clear().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(dropped.delete_range("a", "b").unwrap_err().kind(), ErrorKind::NotFound);
    engine.close().unwrap();
    assert_eq!(engine.clear().unwrap_err().kind(), ErrorKind::Closed);
    let reader = Engine::builder(DIR).vfs(Arc::clone(&vfs) as Arc<dyn Vfs>).read_only(true).open().unwrap();
    assert_eq!(reader.delete_range("a", "z").unwrap_err().kind(), ErrorKind::ReadOnly);
}

#[test]
fn order_in_a_batch_and_over_keyspaces() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, &Options::default());
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    let before = engine.snapshot();
    let mut batch = WriteBatch::new();
    batch.put("a", "1").put("b", "1").delete_range("a", "c").put("b", "2").put_in(&other, "a", "kept");
    batch.delete_range_in(&other, "b", "z").put("c", "end");
    engine.write(&batch).unwrap();
    for _ in 0..3 {
        assert_eq!(engine.get("a").unwrap(), None);
        assert_eq!(engine.get("b").unwrap().unwrap(), b"2");
        assert_eq!(engine.get("c").unwrap().unwrap(), b"end", "an end is not deleted");
        assert_eq!(other.get("a").unwrap().unwrap(), b"kept");
        assert_eq!(before.iter().count(), 0);
        engine.flush().unwrap();
        engine.compact_range(..).unwrap();
    }
}

/// The only key that has no key behind it, and the one that has none before, are cleared too; what is put later stays. In memory, in tables, after a crash, and where nothing but
/// the tombstone was in memory.
#[test]
fn clear_takes_all_there_is_and_stays() {
    let greatest = vec![0xff; 65_535];
    let fill = |keyspace: &Keyspace| {
        keyspace.put("", "least").unwrap();
        keyspace.put("m", "middle").unwrap();
        keyspace.put(&greatest, "greatest").unwrap();
    };
    for flushed in [false, true] {
        let vfs = MemVfs::new();
        let engine = open(&vfs, &options::tiny());
        let keyspace = engine.keyspace("some", KeyspaceOptions::default()).unwrap();
        fill(&keyspace);
        fill(&engine.keyspace("others", KeyspaceOptions::default()).unwrap());
        if flushed {
            engine.flush().unwrap();
        }
        let before = engine.snapshot();
        keyspace.clear().unwrap();
        keyspace.put("n", "new").unwrap();
        engine.sync().unwrap();
        let check = |engine: &Engine| {
            let keyspace = engine.keyspace("some", KeyspaceOptions::default()).unwrap();
            assert_eq!(forward(keyspace.iter()), [(b"n".to_vec(), b"new".to_vec())]);
            assert_eq!(keyspace.get(&greatest).unwrap(), None);
            assert_eq!(keyspace.get("").unwrap(), None);
            assert_eq!(engine.keyspace("others", KeyspaceOptions::default()).unwrap().iter().count(), 3);
        };
        check(&engine);
        check(&open(&Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly)), &options::tiny()));
        engine.flush().unwrap();
        assert_eq!(before.of(&keyspace).iter().count(), 3);
        check(&engine);
        check(&open(&Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly)), &options::tiny()));
        keyspace.compact_range(..).unwrap();
        assert_eq!(before.of(&keyspace).iter().count(), 3);
        check(&engine);
        drop(before);
        keyspace.compact_range(..).unwrap();
        check(&engine);
        assert!(engine.verify().unwrap().is_ok());
        // Over and over, on next to nothing.
        for _ in 0..3 {
            keyspace.clear().unwrap();
            engine.flush().unwrap();
            assert_eq!(keyspace.iter().count(), 0);
        }
        engine.clear().unwrap();
        engine.close().unwrap();
        let engine = open(&vfs, &options::tiny());
        assert_eq!(engine.keyspace("some", KeyspaceOptions::default()).unwrap().iter().count(), 0);
        assert_eq!(engine.keyspace("others", KeyspaceOptions::default()).unwrap().iter().count(), 3);
    }
}

/// Reads block by block, so that the metrics tell how many blocks a scan looked at.
fn counting() -> Options {
    let compaction = LeveledOptions { compact_for_reads: false, ..LeveledOptions::default() };
    Options {
        read_mode: ReadMode::Pread,
        block_cache_bytes: Some(0),
        memtable_bytes: Some(32 << 20),
        compaction,
        ..Options::default()
    }
}

fn blocks(engine: &Engine, what: impl FnOnce()) -> u64 {
    let before = engine.metrics().block_cache_misses;
    what();
    engine.metrics().block_cache_misses - before
}

#[test]
fn a_scan_does_not_visit_what_was_deleted_with_a_range_nor_compaction_read_it() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, &counting());
    for i in 0..30_000 {
        engine.put(key(i), [i as u8; 100]).unwrap();
    }
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    let all = blocks(&engine, || assert_eq!(engine.iter().count(), 30_000));
    engine.delete_range(key(10), key(29_990)).unwrap();
    engine.put(key(15_000), "among them").unwrap();
    let check = |what: &str| {
        let few = blocks(&engine, || {
            assert_eq!(engine.iter().count(), 21);
            assert_eq!(engine.iter().rev().count(), 21);
            let mut cursor = engine.cursor();
            for (sought, next, before) in [(20, 15_000, 9), (20_000, 29_990, 15_000)] {
                cursor.seek(key(sought)).unwrap();
                assert_eq!(cursor.key(), key(next).as_bytes());
                cursor.seek_for_prev(key(sought)).unwrap();
                assert_eq!(cursor.key(), key(before).as_bytes());
                cursor.next().unwrap();
                assert_eq!(cursor.key(), key(next).as_bytes());
                cursor.prev().unwrap();
                assert_eq!(cursor.key(), key(before).as_bytes());
            }
        });
        assert!(few < 60 && all > 500, "{what}: {few} blocks of {all}");
    };
    check("in memory");
    engine.flush().unwrap();
    check("in level 0");
    let written = engine.metrics().compaction_read_bytes;
    let bytes = engine.metrics().keyspaces[0].table_bytes();
    // Nobody asked for it: it frees more than it costs.
    settle(&engine);
    check("compacted");
    let metrics = engine.metrics();
    assert!(
        metrics.keyspaces[0].table_bytes() < bytes / 10,
        "the space came back: {} of {bytes}",
        metrics.keyspaces[0].table_bytes()
    );
    assert!(metrics.keyspaces[0].levels.iter().all(|level| level.range_tombstones == 0));
    // One table was too long to be covered whole.
    assert!(metrics.compaction_read_bytes - written <= bytes, "{} of {bytes}", metrics.compaction_read_bytes - written);
}

/// What lies in the memtable that a range is deleted in is left to a memtable of its own, if it is much: else each scan would go over it entry by entry until it is flushed.
#[test]
fn many_keys_that_are_deleted_with_a_range_before_they_are_flushed() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, &counting());
    for i in 0..2_000 {
        engine.put(key(i), "v").unwrap();
    }
    engine.delete_range(key(5), key(100)).unwrap();
    assert_eq!(engine.metrics().keyspaces[0].sealed_memtables, 0, "few");
    engine.delete_range(key(10), key(1_990)).unwrap();
    assert_eq!(engine.metrics().keyspaces[0].sealed_memtables, 1);
    assert_eq!(engine.iter().count(), 15);
    engine.flush().unwrap();
    assert_eq!(engine.iter().rev().count(), 15);
    assert_eq!(engine.metrics().keyspaces[0].levels[0].entries, 15, "hidden by all, they were not written");
}

/// Replay puts keys and the tombstone over them into one memtable again, however far apart they were written: it is flushed at once, where it was walked over entry by entry for as long as nobody wrote much.
#[test]
fn many_keys_that_are_deleted_with_a_range_before_a_crash() {
    for hidden in [400, 4_000] {
        let vfs = MemVfs::new();
        let engine = open(&vfs, &counting());
        for i in 0..hidden {
            engine.put(key(i), "old").unwrap();
        }
        engine.delete_range(key(0), key(hidden)).unwrap();
        for i in 0..1_000 {
            engine.put(key(i), "new").unwrap();
        }
        let engine = open(&Arc::new(vfs.crash_now(CrashPolicy::All)), &counting());
        assert_eq!(engine.metrics().keyspaces[0].sealed_memtables, usize::from(hidden > 400), "{hidden}");
        settle(&engine);
        let metrics = engine.metrics();
        assert_eq!(
            metrics.keyspaces[0].levels.iter().map(|level| level.entries).sum::<u64>(),
            if hidden > 400 { 1_000 } else { 0 }
        );
        assert_eq!(engine.iter().count(), 1_000);
        assert_eq!(engine.range(key(1_000)..).count(), 0);
    }
}

#[test]
fn a_memtable_of_tombstones_alone_becomes_a_table_that_is_copied_and_verified() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, &Options::default());
    engine.put("a", "1").unwrap();
    engine.put("k", "1").unwrap();
    engine.flush().unwrap();
    let before = engine.snapshot();
    engine.delete_range("b", "z").unwrap();
    engine.flush().unwrap();
    let level = engine.metrics().keyspaces[0].levels[0];
    assert_eq!((level.tables, level.entries, level.range_tombstones), (2, 2, 1));
    assert_eq!(before.iter().count(), 2);
    let check = |engine: &Engine| {
        assert_eq!(forward(engine.iter()), [(b"a".to_vec(), b"1".to_vec())]);
        assert_eq!(engine.multi_get(["a", "k", "z"]).unwrap().iter().flatten().count(), 1);
        assert!(engine.verify().unwrap().is_ok());
    };
    check(&engine);
    engine.checkpoint("/copy").unwrap();
    let copy = Engine::builder("/copy").vfs(Arc::clone(&vfs) as Arc<dyn Vfs>).open().unwrap();
    check(&copy);
    drop(before);
    engine.close().unwrap();
    check(&open(&vfs, &Options::default()));
}

/// A table whose tombstones can't be read hides nothing any more: so its range answers with the error, and what it hid does not come back.
#[test]
fn keys_do_not_come_back_when_the_table_that_hides_them_is_damaged() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, &Options::default());
    for letter in ["a", "k", "x"] {
        engine.put(letter, "1").unwrap();
    }
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    let first: Vec<PathBuf> = tables(&vfs);
    engine.delete_range("c", "m").unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);
    let second = tables(&vfs).into_iter().find(|path| !first.contains(path)).unwrap();
    for at in 0..60 {
        let vfs = Arc::new(vfs.crash_now(CrashPolicy::All));
        vfs.edit(&second, |bytes| bytes[at * 5] ^= 0x10).unwrap();
        let engine = open(&vfs, &Options::default());
        for found in [engine.get("k"), engine.multi_get(["k"]).map(|mut found| found.remove(0))] {
            match found {
                Ok(found) => assert_eq!(found, None, "{at}: it came back"),
                Err(error) => assert_eq!(error.kind(), ErrorKind::Corruption, "{at}: {error}"),
            }
        }
        let keys: Result<Vec<_>, _> = engine.iter().keys().collect();
        assert!(keys.is_err_and(|error| error.kind() == ErrorKind::Corruption) || engine.iter().count() == 2, "{at}");
        assert_eq!(engine.get("x").unwrap().unwrap(), b"1", "other ranges are served");
        assert!(!engine.verify().unwrap().is_ok(), "{at}");
    }
}

fn tables(vfs: &MemVfs) -> Vec<PathBuf> {
    let names = vfs.list(Path::new(DIR)).unwrap();
    names.iter().filter(|name| name.ends_with(".sst")).map(|name| Path::new(DIR).join(name)).collect()
}
