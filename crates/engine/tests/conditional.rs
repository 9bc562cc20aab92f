//! Conditional writes: atomic under concurrency, through flush and compaction, and without starving.

use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, Rule, Vfs};
use esker::{
    Background, Durability, Engine, ErrorKind, KEY_BYTES_MAX, KeyspaceOptions, Options, ReadMode, WriteBatch,
    WriteOptions,
};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

fn small() -> Options {
    Options { memtable_bytes: Some(16 << 10), ..Options::default() }
}

fn engine() -> Engine {
    Engine::builder("data").vfs(MemVfs::new()).options(small()).open().unwrap()
}

fn number(value: Option<&[u8]>) -> u64 {
    value.map_or(0, |bytes| u64::from_be_bytes(bytes.try_into().unwrap()))
}

#[test]
fn counters_lose_no_count() {
    const THREADS: u64 = 4;
    const EACH: u64 = 3_000;
    let engine = engine();
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (engine, other) = (&engine, &other);
            scope.spawn(move || {
                for i in 0..EACH {
                    let add = |value: Option<&[u8]>| Some((number(value) + 1).to_be_bytes());
                    engine.fetch_update("all", add).unwrap();
                    other.fetch_update(thread.to_be_bytes(), add).unwrap();
                    // What comes and goes beside it is none of its business.
                    engine.put([b"beside", &i.to_be_bytes()[6..]].concat(), [0; 40]).unwrap();
                    if i % 1_000 == 0 {
                        engine.flush().unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(number(engine.get("all").unwrap().as_deref()), THREADS * EACH);
    for thread in 0..THREADS {
        assert_eq!(number(other.get(thread.to_be_bytes()).unwrap().as_deref()), EACH);
    }
}

#[test]
fn of_many_who_insert_one_does() {
    let engine = engine();
    let inserted = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..4u8 {
            let (engine, inserted) = (&engine, &inserted);
            scope.spawn(move || {
                for key in 0..1_000u32 {
                    if engine.insert_if_absent(key.to_be_bytes(), [thread]).unwrap() {
                        inserted.fetch_add(1, Ordering::SeqCst);
                        assert_eq!(engine.get(key.to_be_bytes()).unwrap().unwrap(), [thread]);
                    }
                }
            });
        }
    });
    assert_eq!(inserted.load(Ordering::SeqCst), 1_000);
}

/// A lock made of one key: whoever swaps it in is alone.
#[test]
fn a_key_can_be_a_lock() {
    let engine = engine();
    let inside = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..3u8 {
            let (engine, inside) = (&engine, &inside);
            scope.spawn(move || {
                for _ in 0..200 {
                    while !engine.compare_and_swap("lock", None, Some(&[thread])).unwrap() {
                        std::thread::yield_now();
                    }
                    assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0);
                    std::thread::yield_now();
                    inside.fetch_sub(1, Ordering::SeqCst);
                    assert!(engine.compare_and_swap("lock", Some(&[thread]), None).unwrap(), "nobody else let it go");
                }
            });
        }
    });
    assert_eq!(engine.get("lock").unwrap(), None);
}

/// Who is slow loses to a fast one every time, until the others have to wait for him.
#[test]
fn the_slow_one_comes_to_his_turn() {
    let engine = engine();
    let (stop, puts) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::SeqCst) {
                engine.put("k", 1u64.to_be_bytes()).unwrap();
                puts.fetch_add(1, Ordering::SeqCst);
            }
        });
        let mut calls = 0;
        let slowly = |value: Option<&[u8]>| {
            calls += 1;
            // At first so slow that the fast one is surely faster, however busy the machine is; when the others wait for him, that would be for ever.
            let seen = puts.load(Ordering::SeqCst);
            while calls < 3 && puts.load(Ordering::SeqCst) < seen + 2 {
                std::thread::yield_now();
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
            Some((number(value) + 1).to_be_bytes())
        };
        let before = engine.fetch_update("k", slowly).unwrap();
        stop.store(true, Ordering::SeqCst);
        assert!(number(before.as_deref()) <= 1);
        assert!((2..20).contains(&calls), "{calls} calls");
    });
    assert!(engine.metrics().conflicts > 0);
}

#[test]
fn what_would_change_nothing_is_not_written() {
    let engine = engine();
    engine.put("k", "v").unwrap();
    let seq = engine.metrics().last_seq;
    assert!(!engine.insert_if_absent("k", "w").unwrap());
    assert!(!engine.compare_and_swap("k", Some(b"w"), None).unwrap());
    assert!(!engine.compare_and_swap("k", None, Some(b"w")).unwrap());
    assert!(engine.compare_and_swap("absent", None, None).unwrap());
    assert_eq!(engine.fetch_update("absent", |_| None::<&[u8]>).unwrap(), None);
    assert_eq!(engine.metrics().last_seq, seq);
    assert_eq!(engine.fetch_update("k", |_| None::<&[u8]>).unwrap().unwrap(), b"v");
    assert_eq!(engine.get("k").unwrap(), None);
    assert!(engine.insert_if_absent("", "").unwrap(), "the empty key and the empty value are ordinary");
    assert!(engine.compare_and_swap("", Some(b""), Some(b"v")).unwrap());
}

#[test]
fn durable_as_asked() {
    let memory = MemVfs::new();
    let open = |vfs: Arc<dyn Vfs>| Engine::builder("data").vfs(vfs).background(Background::Manual).open().unwrap();
    let engine = open(Arc::clone(&memory) as _);
    let sync = WriteOptions::sync();
    assert!(engine.insert_if_absent_with("a", "1", &sync).unwrap());
    assert!(engine.compare_and_swap_with("a", Some(b"1"), Some(b"2"), &sync).unwrap());
    assert!(engine.fetch_update_with("b", |_| Some("3"), &sync).unwrap().is_none());
    let crashed = open(Arc::new(memory.crash_now(CrashPolicy::SyncedOnly)));
    assert_eq!(crashed.get("a").unwrap().unwrap(), b"2");
    assert_eq!(crashed.get("b").unwrap().unwrap(), b"3");
}

/// Calls that write nothing, where `k` is there.
const IDLE: [fn(&Engine, &WriteOptions) -> esker::Result<bool>; 5] = [
    |engine, options| engine.insert_if_absent_with("k", "w", options).map(|done| !done),
    |engine, options| engine.compare_and_swap_with("k", Some(b"w"), None, options).map(|done| !done),
    |engine, options| engine.compare_and_swap_with("absent", None, None, options),
    |engine, options| engine.fetch_update_with("absent", |_| None::<&[u8]>, options).map(|found| found.is_none()),
    |engine, options| engine.write_with(WriteBatch::new(), options).map(|()| true),
];

fn with(durability: Durability) -> WriteOptions {
    WriteOptions { durability, ..WriteOptions::default() }
}

/// Who was told at `Sync` that a key was taken acted upon it, and a power loss undid what it had been taken by.
#[test]
fn at_sync_what_is_found_and_left_is_on_stable_storage() {
    use Durability::{EngineDefault, Os, Sync};
    for (nth, idle) in IDLE.iter().enumerate() {
        for (default, named, lasts) in
            [(Os, EngineDefault, false), (Os, Sync, true), (Sync, EngineDefault, true), (Sync, Os, false)]
        {
            let memory = MemVfs::new();
            let options = Options { durability: default, ..small() };
            let open = |vfs: Arc<dyn Vfs>| {
                let builder = Engine::builder("data").vfs(vfs).options(options.clone());
                builder.background(Background::Manual).open().unwrap()
            };
            let engine = open(Arc::clone(&memory) as _);
            engine.put_with("k", "v", &with(Os)).unwrap();
            let syncs = engine.metrics().log_syncs;
            assert!(idle(&engine, &with(named)).unwrap());
            assert_eq!(engine.metrics().log_syncs, syncs + u64::from(lasts), "call {nth}, {default:?}, {named:?}");
            let crashed = open(Arc::new(memory.crash_now(CrashPolicy::SyncedOnly)));
            assert_eq!(crashed.contains_key("k").unwrap(), lasts, "call {nth}, {default:?}, {named:?}");
            assert!(idle(&engine, &with(named)).unwrap());
            assert_eq!(engine.metrics().log_syncs, syncs + u64::from(lasts), "there is nothing new");
        }
    }
}

/// And that it is can't be said where the sync fails. A transaction that has only read does not ask, unless it is told to.
#[test]
fn at_sync_what_is_found_and_may_be_lost_is_not_told() {
    for idle in IDLE {
        let faults = FaultVfs::new(MemVfs::new() as Arc<dyn Vfs>);
        let options = Options { durability: Durability::Sync, ..small() };
        let builder = Engine::builder("data").vfs(Arc::clone(&faults) as Arc<dyn Vfs>).options(options);
        let engine = builder.background(Background::Manual).open().unwrap();
        engine.put_with("k", "v", &with(Durability::Os)).unwrap();
        faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
        let error = idle(&engine, &WriteOptions::default()).unwrap_err();
        assert!(error.kind() == ErrorKind::Io && error.outcome_unknown(), "{error}");
        assert_eq!(idle(&engine, &WriteOptions::default()).unwrap_err().kind(), ErrorKind::ReadOnly);
        let tx = engine.transaction();
        assert_eq!(tx.get("k").unwrap().unwrap(), b"v");
        tx.commit().unwrap();
        assert_eq!(engine.transaction().commit_with(&WriteOptions::sync()).unwrap_err().kind(), ErrorKind::ReadOnly);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let memory = MemVfs::new();
    let engine = Engine::builder("data").vfs(Arc::clone(&memory) as Arc<dyn Vfs>).open().unwrap();
    let dropped = engine.keyspace("dropped", KeyspaceOptions::default()).unwrap();
    engine.drop_keyspace("dropped").unwrap();
    assert_eq!(dropped.insert_if_absent("k", "v").unwrap_err().kind(), ErrorKind::NotFound);
    let long = vec![0; KEY_BYTES_MAX + 1];
    assert_eq!(engine.insert_if_absent(&long, "v").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(engine.fetch_update(&long, |_| Some("v")).unwrap_err().kind(), ErrorKind::InvalidArgument);
    // The key is put back by who calls, and a panic of the closure harms nobody.
    let panics = std::panic::AssertUnwindSafe(|| engine.fetch_update("k", |_| -> Option<&[u8]> { panic!("as asked") }));
    assert!(std::panic::catch_unwind(panics).is_err());
    engine.put("k", "v").unwrap();
    assert_eq!(engine.metrics().snapshots, 0);
    engine.close().unwrap();
    assert_eq!(engine.insert_if_absent("k", "v").unwrap_err().kind(), ErrorKind::Closed);
    let reader = Engine::builder("data").vfs(memory).read_only(true).open().unwrap();
    assert_eq!(reader.insert_if_absent("k", "v").unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(reader.compare_and_swap("k", None, None).unwrap_err().kind(), ErrorKind::ReadOnly);
}

/// A conflict that can't be ruled out because a table can't be read is the table's error: never a commit, and never a conflict.
#[test]
fn a_table_that_cannot_be_read_rules_nothing_out() {
    let faults = FaultVfs::new(MemVfs::new());
    let options = Options { read_mode: ReadMode::Pread, block_cache_bytes: Some(0), filter_bits_per_key: 0, ..small() };
    let builder = Engine::builder("data").vfs(Arc::clone(&faults) as Arc<dyn Vfs>).options(options);
    let engine = builder.background(Background::Manual).open().unwrap();
    engine.put("k1", "v").unwrap();
    let mut tx = engine.transaction();
    assert_eq!(tx.get("k2").unwrap(), None);
    tx.put("k", "v").unwrap();
    engine.put("k3", "v").unwrap();
    engine.flush().unwrap();
    let rule = faults.add(Rule::new(Operation::Read, Fault::EIO).path("*.sst"));
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(engine.insert_if_absent("k2", "v").unwrap_err().kind(), ErrorKind::Io);
    faults.remove(rule);
    assert!(engine.insert_if_absent("k2", "v").unwrap());
    assert_eq!(engine.get("k").unwrap(), None);
    assert_eq!(engine.metrics().snapshots, 0);
}

/// Who has lost eight times has the others wait. That it comes to its end is so without, too, where nobody is fast enough: nothing failed when it never had its turn.
#[test]
fn the_ninth_time_nobody_comes_in_between() {
    let engine = engine();
    engine.put("k", "0").unwrap();
    let (mut asked, mut other) = (0, None);
    engine
        .fetch_update("k", |_| {
            asked += 1;
            if asked <= 8 {
                engine.put("k", "by others").unwrap();
            } else if other.is_none() {
                let engine = engine.clone();
                other = Some(std::thread::spawn(move || engine.put("k", "later").unwrap()));
                std::thread::sleep(std::time::Duration::from_millis(100));
            }
            Some("mine")
        })
        .unwrap();
    assert_eq!(asked, 9);
    other.unwrap().join().unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"later");
}
