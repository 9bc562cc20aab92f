//! Merge operands: what they amount to however they are read and wherever they lie, and that nothing of them is lost when their operator fails or is not there.

#[path = "model/options.rs"]
#[allow(dead_code, reason = "each test program uses a part")]
mod options;

use esker::operators::Append;
use esker::vfs::{MemVfs, Vfs};
use esker::{
    Background, Builder, Engine, ErrorKind, FilterDecision, KeyspaceOptions, MergeOperator, Operands, OperatorError,
    Options, WriteBatch, WriteOptions,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const DIR: &str = "/data";

fn with(operator: &str) -> KeyspaceOptions {
    KeyspaceOptions { merge_operator: Some(operator.into()), ..Default::default() }
}

fn builder(vfs: &Arc<MemVfs>, options: Options) -> Builder {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder(DIR).vfs(vfs).options(options).background(Background::Manual)
}

fn open(operator: &str) -> Engine {
    builder(&MemVfs::new(), options::tiny()).default_keyspace(with(operator)).open().unwrap()
}

fn entries(engine: &Engine) -> u64 {
    engine.metrics().keyspaces[0].levels.iter().map(|level| level.entries).sum()
}

fn work(engine: &Engine) {
    while engine.step().unwrap() {}
}

/// All that an engine shows, the same by every way of reading.
fn all(engine: &Engine) -> BTreeMap<Vec<u8>, Vec<u8>> {
    let pairs: Vec<(Vec<u8>, Vec<u8>)> =
        engine.iter().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
    let back: Vec<_> = engine.iter().rev().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
    assert!(pairs.iter().eq(back.iter().rev()));
    let keys: Vec<_> = pairs.iter().map(|(key, _)| key).collect();
    assert!(engine.iter().keys().map(|key| key.unwrap().to_vec()).eq(keys.iter().map(|key| key.to_vec())));
    let values = engine.multi_get(&keys).unwrap();
    for ((key, value), together) in pairs.iter().zip(values) {
        assert_eq!(engine.get(key).unwrap().unwrap(), **value, "{}", key.escape_ascii());
        assert_eq!(together.unwrap(), **value, "{}", key.escape_ascii());
        assert!(engine.contains_key(key).unwrap());
    }
    let pair = |found: Option<(esker::Slice, esker::Slice)>| found.map(|(k, v)| (k.to_vec(), v.to_vec()));
    assert_eq!(pair(engine.first().unwrap()).as_ref(), pairs.first());
    assert_eq!(pair(engine.last().unwrap()).as_ref(), pairs.last());
    assert_eq!(engine.is_empty().unwrap(), pairs.is_empty());
    let mut cursor = engine.cursor();
    for (key, value) in &pairs {
        cursor.seek_for_prev(key).unwrap();
        assert_eq!((cursor.key(), cursor.value().unwrap()), (&key[..], &value[..]));
        assert_eq!(cursor.value().unwrap(), &value[..], "asked for again");
    }
    pairs.into_iter().collect()
}

/// Appends, and puts nothing together without the value below.
struct NeedsBase;

impl MergeOperator for NeedsBase {
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        Append::new().merge(key, base, operands)
    }
}

/// Appends, and fails whenever something puts operands together that is not a read, which sets the flag.
struct OnlyForReads(&'static AtomicBool);

impl MergeOperator for OnlyForReads {
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        if self.0.load(Ordering::Relaxed) { Append::new().merge(key, base, operands) } else { Err("not now".into()) }
    }
}

/// A small generator, the same for the same seed.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// Few keys, many operands each, over puts, deletions and range deletes, with snapshots between them, while tables of a few entries are flushed, merged and reopened.
fn differs_nowhere(operator: &str, set: Options, seed: u64, is_reading: &'static AtomicBool) {
    let vfs = MemVfs::new();
    let builder = || {
        let builder = builder(&vfs, set.clone()).merge_operator("needs-base", NeedsBase);
        builder.merge_operator("only-for-reads", OnlyForReads(is_reading))
    };
    let mut engine = builder().default_keyspace(with(operator)).open().unwrap();
    let mut random = Random(seed | 1);
    let mut map = Map::new();
    let mut held: Vec<(esker::Snapshot, Map)> = Vec::new();
    let key = |n: u64| format!("k{n}").into_bytes();
    for step in 0..700u32 {
        let k = key(random.below(9));
        let written = match random.below(30) {
            0..16 => {
                let operand = format!("{step};").repeat(1 + random.below(4) as usize).into_bytes();
                let mut batch = WriteBatch::new();
                batch.merge(&k, &operand);
                map.entry(k.clone()).or_default().extend_from_slice(&operand);
                if random.below(3) == 0 {
                    batch.merge(&k, "+");
                    map.get_mut(&k).unwrap().push(b'+');
                }
                Some(batch)
            }
            16..18 => {
                let mut batch = WriteBatch::new();
                let value = vec![b'x'; random.below(60) as usize];
                batch.put(&k, &value);
                map.insert(k, value);
                Some(batch)
            }
            18 => {
                let mut batch = WriteBatch::new();
                batch.delete(&k);
                map.remove(&k);
                Some(batch)
            }
            19 => {
                let mut batch = WriteBatch::new();
                let end = key(random.below(9));
                if k < end {
                    batch.delete_range(&k, &end);
                    map.retain(|key, _| *key < k || *key >= end);
                }
                Some(batch)
            }
            20 if held.len() < 3 => {
                held.push((engine.snapshot(), map.clone()));
                None
            }
            20 | 21 if !held.is_empty() => {
                held.remove(random.below(held.len() as u64) as usize);
                None
            }
            22 | 23 => {
                is_reading.store(false, Ordering::Relaxed);
                engine.flush().unwrap();
                None
            }
            24 if random.below(4) == 0 => {
                is_reading.store(false, Ordering::Relaxed);
                engine.compact_range(..).unwrap();
                None
            }
            25 if random.below(6) == 0 => {
                held.clear();
                if random.below(2) == 0 {
                    engine.close().unwrap();
                }
                drop(engine);
                engine = builder().open().unwrap();
                None
            }
            _ => {
                is_reading.store(false, Ordering::Relaxed);
                engine.step().unwrap();
                None
            }
        };
        if let Some(batch) = written {
            is_reading.store(false, Ordering::Relaxed);
            while let Err(error) = engine.write(&batch) {
                assert!(error.kind() == ErrorKind::Stalled && engine.step().unwrap(), "{error}");
            }
        }
        is_reading.store(true, Ordering::Relaxed);
        if step % 3 == 0 {
            assert_eq!(all(&engine), map, "step {step}, seed {seed}");
        }
        for (snapshot, map) in held.iter().filter(|_| step % 7 == 0) {
            let seen: Map =
                snapshot.iter().rev().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
            assert_eq!(seen, *map, "step {step}, seed {seed}");
            for (key, value) in map {
                assert_eq!(snapshot.get(key).unwrap().unwrap(), **value);
            }
        }
    }
    held.clear();
    engine.compact_range(..).unwrap();
    assert_eq!(all(&engine), map);
    assert_eq!(engine.metrics().keyspaces[0].sealed_memtables, 0);
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn operands_amount_to_what_they_would_one_by_one() {
    for (seed, set) in (1..).zip(options::by_hand()) {
        static IS_READING: AtomicBool = AtomicBool::new(true);
        for (nth, operator) in ["esker.append", "needs-base", "only-for-reads"].into_iter().enumerate() {
            differs_nowhere(operator, set.clone(), seed + 100 * nth as u64, &IS_READING);
        }
    }
}

/// The sum of a counter, from bytes.
fn number(value: Option<esker::Slice>) -> i64 {
    value.map_or(0, |value| i64::from_le_bytes(value[..].try_into().unwrap()))
}

#[test]
fn counters_of_many_threads_count_all() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).default_keyspace(with("esker.counter")).open().unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4i64 {
            let engine = &engine;
            scope.spawn(move || {
                for i in 0..500i64 {
                    engine.merge("n", (i * thread).to_le_bytes()).unwrap();
                    if i % 100 == 0 {
                        engine.flush().unwrap();
                    }
                }
            });
        }
    });
    let expected = (0..500).sum::<i64>() * (1 + 2 + 3);
    assert_eq!(number(engine.get("n").unwrap()), expected);
    engine.compact_range(..).unwrap();
    assert_eq!(number(engine.get("n").unwrap()), expected);
    drop(engine);
    assert_eq!(number(Engine::open(dir.path()).unwrap().get("n").unwrap()), expected);
}

#[test]
fn folding_leaves_one_entry_of_a_key() {
    let engine = open("esker.counter");
    let one = 1i64.to_le_bytes();
    for round in 0..4 {
        for _ in 0..100 {
            engine.merge("a", one).unwrap();
            engine.merge("b", one).unwrap();
        }
        engine.flush().unwrap();
        assert_eq!(entries(&engine), 2 * (round + 1), "a flush folds what it writes");
    }
    let before = engine.snapshot();
    engine.merge("a", one).unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!(entries(&engine), 3, "a snapshot keeps what it sees apart");
    assert_eq!((number(before.get("a").unwrap()), number(engine.get("a").unwrap())), (400, 401));
    drop(before);
    engine.delete("c").unwrap();
    engine.merge("c", one).unwrap();
    engine.merge("a", one).unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!(entries(&engine), 3, "a, b, c");
    assert_eq!(number(engine.get("a").unwrap()), 402);
    assert_eq!(engine.metrics().merge_failures, 0);
}

#[test]
fn long_chains_cost_their_length() {
    const COUNT: usize = 100_000;
    let vfs = MemVfs::new();
    let set = Options { flush_on_close: false, ..Options::default() };
    let engine = builder(&vfs, set).default_keyspace(with("esker.append")).open().unwrap();
    engine.put("a", "1").unwrap();
    engine.put("z", "9").unwrap();
    let mut batch = WriteBatch::new();
    for _ in 0..COUNT {
        batch.merge("k", "x");
    }
    engine.write(&batch).unwrap();
    let check = |engine: &Engine| {
        let all = all(engine);
        assert_eq!(all.values().map(Vec::len).collect::<Vec<_>>(), [1, COUNT, 1]);
    };
    check(&engine);
    drop(engine);
    let engine = builder(&vfs, Options::default()).open().unwrap();
    check(&engine);
    engine.flush().unwrap();
    check(&engine);
    assert_eq!(entries(&engine), 3);
}

#[test]
fn an_operator_that_fails_fails_reads_of_the_key_and_loses_nothing() {
    static FINE: AtomicBool = AtomicBool::new(true);
    let vfs = MemVfs::new();
    let builder = || builder(&vfs, options::tiny()).merge_operator("moody", OnlyForReads(&FINE));
    let engine = builder().default_keyspace(with("moody")).open().unwrap();
    engine.put("a", "1").unwrap();
    engine.put("k", "base").unwrap();
    engine.merge("k", "1").unwrap();
    engine.flush().unwrap();
    engine.merge("k", "2").unwrap();
    engine.put("z", "9").unwrap();
    FINE.store(false, Ordering::Relaxed);
    engine.compact_range(..).unwrap();
    work(&engine);
    assert_eq!(engine.metrics().merge_failures, 1, "{:?}", engine.metrics());

    let error = engine.get("k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other, "{error}");
    assert!(error.to_string().contains("moody, key k") && error.to_string().contains("not now"), "{error}");
    assert!(engine.contains_key("k").unwrap(), "that takes no operator");
    assert_eq!(engine.multi_get(["a", "k"]).unwrap_err().kind(), ErrorKind::Other);
    assert_eq!(engine.iter().keys().count(), 3);
    let items: Vec<_> = engine.iter().collect();
    assert!(items[0].is_ok() && items[1].is_err() && items.len() == 2, "an iterator ends at the error");
    let mut cursor = engine.cursor();
    cursor.seek("b").unwrap();
    assert_eq!((cursor.key(), cursor.value().unwrap_err().kind()), (&b"k"[..], ErrorKind::Other));
    cursor.next().unwrap();
    assert_eq!((cursor.key(), cursor.value().unwrap()), (&b"z"[..], &b"9"[..]), "a cursor goes on");
    assert_eq!(engine.fetch_update("k", |_| Some("")).unwrap_err().kind(), ErrorKind::Other);
    engine.close().unwrap();
    drop(engine);

    FINE.store(true, Ordering::Relaxed);
    let engine = builder().open().unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"base12");
    engine.merge("k", "3").unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!((entries(&engine), engine.get("k").unwrap().unwrap()), (3, b"base123"[..].into()));
}

#[test]
fn an_operator_that_panics_is_one_that_fails() {
    struct Panics;
    impl MergeOperator for Panics {
        fn merge(&self, _: &[u8], _: Option<&[u8]>, _: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
            panic!("a merge's panic, which the test asks for")
        }

        fn check(&self, operand: &[u8]) -> Result<(), OperatorError> {
            assert_ne!(operand, b"bad", "a check's panic, which the test asks for");
            Ok(())
        }
    }
    let vfs = MemVfs::new();
    let engine = builder(&vfs, options::tiny())
        .merge_operator("panics", Panics)
        .default_keyspace(with("panics"))
        .open()
        .unwrap();
    engine.merge("k", "1").unwrap();
    engine.merge("k", "2").unwrap();
    assert_eq!(engine.merge("k", "bad").unwrap_err().kind(), ErrorKind::InvalidArgument);
    let error = engine.get("k").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("a merge's panic"), "{error}");
    engine.compact_range(..).unwrap();
    engine.put("k", "anew").unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"anew", "another value mends it");
    drop(engine);
    // Under the same name, mended.
    let engine = builder(&vfs, options::tiny()).merge_operator("panics", Append::new()).open().unwrap();
    engine.merge("k", "!").unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"anew!");
}

#[test]
fn without_its_operator_a_keyspace_keeps_its_operands() {
    let vfs = MemVfs::new();
    let known = || builder(&vfs, options::tiny()).merge_operator("mine", Append::new());
    let engine = known().default_keyspace(with("mine")).open().unwrap();
    engine.put("a", "1").unwrap();
    engine.put("k", "base").unwrap();
    engine.flush().unwrap();
    engine.merge("k", "1").unwrap();
    engine.flush().unwrap();
    engine.merge("k", "2").unwrap();
    drop(engine);

    let engine = builder(&vfs, options::tiny()).open().unwrap();
    let unsupported = |error: esker::Error| {
        assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
        assert!(error.to_string().contains("mine"), "{error}");
    };
    unsupported(engine.get("k").unwrap_err());
    unsupported(engine.multi_get(["k"]).unwrap_err());
    unsupported(engine.merge("k", "3").unwrap_err());
    unsupported(engine.iter().find_map(Result::err).unwrap());
    assert_eq!(engine.get("a").unwrap().unwrap(), b"1");
    assert!(engine.contains_key("k").unwrap());
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!(entries(&engine), 4, "a, k, and two operands");
    engine.put("other", "2").unwrap();
    engine.close().unwrap();
    drop(engine);

    let engine = known().default_keyspace(with("mine")).open().unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"base12");
    engine.merge("k", "3").unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!((entries(&engine), engine.get("k").unwrap().unwrap()), (3, b"base123"[..].into()), "a, k, other");
}

#[test]
fn a_keyspace_never_gets_another_operator() {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, options::tiny()).open().unwrap();
    let refused = |error: esker::Error, words: &[&str]| {
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(words.iter().all(|word| error.to_string().contains(word)), "{error}");
    };
    let log = engine.keyspace("log", with("esker.append")).unwrap();
    assert_eq!(
        (log.merge_operator(), engine.keyspace("log", with("esker.append")).unwrap().id()),
        (Some("esker.append"), log.id())
    );
    assert_eq!(engine.metrics().keyspaces[1].merge_operator.as_deref(), Some("esker.append"));
    refused(engine.keyspace("log", with("esker.max")).unwrap_err(), &["log", "esker.append", "esker.max"]);
    refused(engine.keyspace("default", with("esker.max")).unwrap_err(), &["default", "no merge operator", "esker.max"]);
    assert_eq!(engine.keyspace("new", with("nobody's")).unwrap_err().kind(), ErrorKind::Unsupported);
    refused(engine.keyspace("new", with("a\nb = c")).unwrap_err(), &["name"]);
    assert_eq!(engine.keyspaces(), ["default", "log"], "nothing was made");
    log.merge("k", "1").unwrap();
    drop((log, engine));

    let error = builder(&vfs, options::tiny()).default_keyspace(with("esker.max")).open().unwrap_err();
    refused(error, &["default", "esker.max"]);
    let engine = builder(&vfs, options::tiny()).open().unwrap();
    refused(engine.keyspace("log", with("esker.max")).unwrap_err(), &["esker.append", "esker.max"]);
    let log = engine.keyspace("log", KeyspaceOptions::default()).unwrap();
    assert_eq!((log.merge_operator(), log.get("k").unwrap().unwrap()), (Some("esker.append"), b"1"[..].into()));
    drop((log, engine));

    let names = ["esker.counter", "esker.mine", "", " a", "a\nb"];
    for name in names {
        let error = builder(&vfs, options::tiny()).merge_operator(name, Append::new()).open().unwrap_err();
        refused(error, &["merge operator"]);
    }
    let twice = builder(&vfs, options::tiny()).merge_operator("a", Append::new()).merge_operator("a", Append::new());
    refused(twice.open().unwrap_err(), &["twice"]);
    // An engine that is not made because of it leaves nothing that would keep another from being made.
    let other = MemVfs::new();
    let unknown = builder(&other, options::tiny()).default_keyspace(with("nobody's")).open();
    assert_eq!(unknown.unwrap_err().kind(), ErrorKind::Unsupported);
    assert_eq!(
        builder(&other, options::tiny())
            .open()
            .unwrap()
            .keyspace("default", Default::default())
            .unwrap()
            .merge_operator(),
        None
    );
}

#[test]
fn what_can_not_be_merged_is_refused_before_it_is_logged() {
    let engine = open("esker.counter");
    let plain = engine.keyspace("plain", KeyspaceOptions::default()).unwrap();
    let one = 1i64.to_le_bytes();
    let seq = engine.metrics().last_seq;
    let refused = |result: esker::Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::InvalidArgument);
    refused(plain.merge("k", one));
    refused(engine.merge("k", "not a number"));
    refused(engine.merge(vec![0; esker::KEY_BYTES_MAX + 1], one));
    let mut batch = WriteBatch::new();
    batch.put("a", "1").merge("k", one).merge_in(&plain, "k", one);
    refused(engine.write(&batch));
    batch.clear();
    batch.put_in(&plain, "a", "1").merge("k", one).merge("k", "?");
    refused(engine.write(&batch));
    assert_eq!((engine.metrics().last_seq, plain.is_empty().unwrap(), engine.is_empty().unwrap()), (seq, true, true));
    batch.clear();
    batch.put_in(&plain, "a", "1").merge("k", one).merge("k", one);
    engine.write(&batch).unwrap();
    assert_eq!(number(engine.get("k").unwrap()), 2);
    // Nor is there a time to live for any.
    let hour = WriteOptions { ttl: Some(std::time::Duration::from_secs(3600)), ..Default::default() };
    let seq = engine.metrics().last_seq;
    refused(engine.merge_with("k", one, &hour));
    refused(engine.write_with(&batch, &hour));
    batch.clear();
    batch.put_in(&plain, "a", "2");
    engine.write_with(&batch, &hour).unwrap();
    assert_eq!((engine.metrics().last_seq, number(engine.get("k").unwrap())), (seq + 1, 2));
    // Of a keyspace that was dropped as ever.
    let gone = engine.keyspace("gone", with("esker.append")).unwrap();
    batch.clear();
    batch.merge_in(&gone, "k", "1");
    engine.drop_keyspace("gone").unwrap();
    assert_eq!(gone.merge("k", "1").unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(engine.write(&batch).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn a_counter_beyond_its_range_is_an_error_until_it_is_back() {
    let engine = open("esker.counter");
    engine.merge("n", i64::MAX.to_le_bytes()).unwrap();
    engine.flush().unwrap();
    engine.merge("n", 5i64.to_le_bytes()).unwrap();
    let error = engine.get("n").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Other);
    assert!(error.to_string().contains("9223372036854775812"), "{error}");
    engine.compact_range(..).unwrap();
    engine.merge("n", (-7i64).to_le_bytes()).unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!(number(engine.get("n").unwrap()), i64::MAX - 2);
    // A put of something else is an error for whoever merges into it, and nothing worse.
    engine.put("m", "text").unwrap();
    assert_eq!(engine.get("m").unwrap().unwrap(), b"text");
    engine.merge("m", 1i64.to_le_bytes()).unwrap();
    assert_eq!(engine.get("m").unwrap_err().kind(), ErrorKind::Other);
    engine.delete("m").unwrap();
    engine.merge("m", 1i64.to_le_bytes()).unwrap();
    assert_eq!(number(engine.get("m").unwrap()), 1);
}

#[test]
fn a_merge_is_a_write_to_those_who_have_read() {
    let engine = open("esker.append");
    engine.merge("k", "1").unwrap();
    let mut tx = engine.transaction();
    assert_eq!(tx.get("k").unwrap().unwrap(), b"1");
    engine.merge("k", "2").unwrap();
    tx.put("other", "x").unwrap();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);
    // Flushed and folded it still is one.
    let mut tx = engine.transaction();
    assert_eq!(tx.range("j".."l").count(), 1);
    engine.merge("k", "3").unwrap();
    engine.merge("k", "4").unwrap();
    engine.compact_range(..).unwrap();
    tx.put("other", "x").unwrap();
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict);

    assert!(!engine.insert_if_absent("k", "x").unwrap());
    assert!(!engine.compare_and_swap("k", Some(b"1"), Some(b"x")).unwrap());
    assert!(engine.compare_and_swap("k", Some(b"1234"), Some(b"x")).unwrap());
    engine.merge("k", "y").unwrap();
    let before = engine.fetch_update("k", |value| Some([value.unwrap(), b"z"].concat())).unwrap();
    assert_eq!((before.unwrap(), engine.get("k").unwrap().unwrap()), (b"xy"[..].into(), b"xyz"[..].into()));
    assert!(engine.compare_and_swap("k", Some(b"xyz"), None).unwrap());
    engine.merge("k", "again").unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"again");
}

/// Transactions read what operands make, below what they have written and deleted themselves.
#[test]
fn transactions_see_what_operands_make() {
    let engine = open("esker.append");
    engine.put("a", "1").unwrap();
    engine.flush().unwrap();
    for key in ["a", "b", "c"] {
        engine.merge(key, "2").unwrap();
        engine.merge(key, "3").unwrap();
    }
    let mut tx = engine.transaction();
    engine.merge("a", "4").unwrap();
    let seen = |tx: &esker::Transaction| -> Vec<(Vec<u8>, Vec<u8>)> {
        let forward: Vec<_> = tx.iter().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
        let back: Vec<_> = tx.iter().rev().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec())).unwrap()).collect();
        assert!(forward.iter().eq(back.iter().rev()));
        for (key, value) in &forward {
            assert_eq!(tx.get(key).unwrap().unwrap(), **value);
        }
        forward
    };
    let pair = |key: &str, value: &str| (key.as_bytes().to_vec(), value.as_bytes().to_vec());
    assert_eq!(seen(&tx), [pair("a", "123"), pair("b", "23"), pair("c", "23")]);
    tx.delete_range("b", "c").unwrap();
    tx.put("c", "own").unwrap();
    assert_eq!(seen(&tx), [pair("a", "123"), pair("c", "own")]);
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Conflict, "a was merged into");
    let mut tx = engine.transaction();
    tx.delete_range("a", "c").unwrap();
    tx.commit().unwrap();
    engine.merge("b", "5").unwrap();
    assert_eq!(all(&engine), BTreeMap::from([pair("b", "5"), pair("c", "23")]));
}

/// The value below the operands lies in a blob file: reads find it, and compaction writes what becomes of it.
#[test]
fn values_in_blob_files_are_merged_into() {
    let vfs = MemVfs::new();
    let set = Options { blob_bytes_min: 64, ..options::tiny() };
    let engine = builder(&vfs, set).default_keyspace(with("esker.append")).open().unwrap();
    let mut expected = vec![b'x'; 500];
    engine.put("k", &expected).unwrap();
    for round in 0..6u8 {
        engine.flush().unwrap();
        assert_eq!(engine.get("k").unwrap().unwrap(), *expected);
        assert!(engine.metrics().keyspaces[0].blob_files > 0);
        engine.merge("k", vec![round; 100]).unwrap();
        expected.extend_from_slice(&[round; 100]);
        assert_eq!(all(&engine)[&b"k"[..]], expected);
        if round % 2 == 0 {
            engine.compact_range(..).unwrap();
            assert_eq!((entries(&engine), &all(&engine)[&b"k"[..]]), (1, &expected));
        }
    }
}

/// A filter is asked about what operands were folded into, the last key of a table included, and not about operands that could not be.
#[test]
fn a_compaction_filter_sees_what_operands_amount_to() {
    let vfs = MemVfs::new();
    let filter = |_level: u8, key: &[u8], value: &[u8]| {
        assert!(key != b"bad", "nobody knows its value");
        match value {
            b"xy" => FilterDecision::Remove,
            b"uv" => FilterDecision::Replace(b"replaced".to_vec()),
            _ => FilterDecision::Keep,
        }
    };
    let engine = builder(&vfs, options::tiny())
        .merge_operator("picky", Picky)
        .compaction_filter("filter", filter)
        .default_keyspace(KeyspaceOptions { compaction_filter: Some("filter".into()), ..with("picky") })
        .open()
        .unwrap();
    for (key, operands) in
        [("a", ["u", "v"]), ("b", ["x", "y"]), ("bad", ["no", "no"]), ("c", ["k", "l"]), ("z", ["x", "y"])]
    {
        // Folded by the compaction, not by the flush.
        engine.put(key, operands[0]).unwrap();
        engine.flush().unwrap();
        engine.merge(key, operands[1]).unwrap();
    }
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!(engine.get("a").unwrap().unwrap(), b"replaced");
    assert_eq!((engine.get("b").unwrap(), engine.get("z").unwrap()), (None, None));
    assert_eq!(engine.get("c").unwrap().unwrap(), b"kl");
    assert_eq!(engine.get("bad").unwrap_err().kind(), ErrorKind::Other);
    assert_eq!(engine.metrics().filter_failures, 0);
}

/// Appends, but to one key.
struct Picky;

impl MergeOperator for Picky {
    fn merge(&self, key: &[u8], base: Option<&[u8]>, operands: Operands<'_>) -> Result<Vec<u8>, OperatorError> {
        if key == b"bad" { Err("not this one".into()) } else { Append::new().merge(key, base, operands) }
    }
}
