//! Exclusive transactions: no conflict, nobody writes beside them, and nobody waits for ever.

use esker::vfs::{MemVfs, Vfs};
use esker::{Background, Engine, ErrorKind, KeyspaceOptions, Options, Result, WriteBatch, WriteOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

fn engine() -> Engine {
    Engine::builder("data").vfs(MemVfs::new()).open().unwrap()
}

const NO_STALL: WriteOptions = WriteOptions { durability: esker::Durability::EngineDefault, no_stall: true, ttl: None };

#[test]
fn others_wait_until_it_ends() {
    let engine = engine();
    engine.put("k", "0").unwrap();
    for commit in [true, false] {
        let written = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let mut tx = engine.exclusive();
            let (engine, written) = (&engine, &written);
            let writer = scope.spawn(move || {
                engine.put("k", "other").unwrap();
                written.store(true, Ordering::SeqCst);
            });
            let conditional = scope.spawn(move || engine.fetch_update("n", |_| Some("1")).unwrap());
            let reader = scope.spawn(move || engine.get("k").unwrap());
            assert!(reader.join().unwrap().is_some(), "who reads waits for nobody");
            std::thread::sleep(Duration::from_millis(30));
            assert!(!written.load(Ordering::SeqCst));
            assert_ne!(tx.get("k").unwrap().unwrap(), b"mine");
            tx.put("k", "mine").unwrap();
            assert_eq!(tx.get("k").unwrap().unwrap(), b"mine");
            if commit {
                tx.commit().unwrap()
            } else {
                tx.rollback()
            }
            writer.join().unwrap();
            conditional.join().unwrap();
        });
        assert_eq!(engine.get("k").unwrap().unwrap(), b"other", "it came behind");
    }
}

#[test]
fn whoever_must_not_wait_is_told() {
    let engine = engine();
    let mut tx = engine.exclusive();
    tx.put("k", "mine").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let stalled = |result: Result<()>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Stalled);
            stalled(engine.put_with("k", "v", &NO_STALL));
            stalled(engine.delete_with("k", &NO_STALL));
            stalled(engine.insert_if_absent_with("k", "v", &NO_STALL).map(drop));
            let mut beside = engine.transaction();
            beside.put("k", "v").unwrap();
            stalled(beside.commit_with(&NO_STALL));
            // Reading, and what writes nothing, waits for nobody.
            engine.transaction().commit().unwrap();
            assert!(!engine.compare_and_swap_with("k", Some(b"v"), None, &NO_STALL).unwrap());
            engine.sync().unwrap();
            engine.flush().unwrap();
        });
    });
    tx.commit_with(&NO_STALL).unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"mine");
}

#[test]
fn a_write_beside_it_from_its_own_thread_is_refused() {
    let engine = engine();
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    let mut tx = engine.exclusive();
    let refused = |result: Result<()>| {
        let error = result.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    };
    refused(engine.put("k", "v"));
    refused(users.delete("k"));
    refused(engine.put_with("k", "v", &NO_STALL));
    let mut batch = WriteBatch::new();
    batch.put("k", "v");
    refused(engine.write(&batch));
    refused(engine.insert_if_absent("k", "v").map(drop));
    refused(engine.fetch_update("k", |_| Some("v")).map(drop));
    refused(engine.transact(|tx| tx.put("k", "v")));
    let mut second = engine.exclusive();
    refused(second.put("k", "v"));
    refused(second.get("k").map(drop));
    refused(second.iter().next().unwrap().map(drop));
    refused(second.commit());
    // The first is none the worse.
    tx.put_in(&users, "k", "v").unwrap();
    let made = engine.keyspace("made meanwhile", KeyspaceOptions::default()).unwrap();
    tx.put_in(&made, "k", "v").unwrap();
    tx.commit().unwrap();
    assert_eq!(made.get("k").unwrap().unwrap(), b"v");
    engine.put("k", "v").unwrap();
}

#[test]
fn it_meets_no_conflict_and_remembers_no_reads() {
    let engine = engine();
    let ended = AtomicBool::new(false);
    let writes = AtomicUsize::new(0);
    std::thread::scope(|scope| {
        for thread in 0..2u8 {
            let (engine, ended, writes) = (&engine, &ended, &writes);
            scope.spawn(move || {
                while !ended.load(Ordering::SeqCst) {
                    engine.put([thread], writes.fetch_add(1, Ordering::SeqCst).to_be_bytes()).unwrap();
                    let _ = engine.transact(|tx| {
                        let own = tx.get([thread])?.unwrap_or_default();
                        tx.put([thread + 10], own)
                    });
                }
            });
        }
        for _ in 0..200 {
            let mut tx = engine.exclusive();
            let before: Vec<_> = tx.iter().map(Result::unwrap).collect();
            std::thread::yield_now();
            assert!(tx.iter().map(Result::unwrap).eq(before.iter().cloned()));
            assert!(engine.iter().map(Result::unwrap).eq(before), "nobody writes beside it");
            tx.put("all", engine.metrics().last_seq.to_be_bytes()).unwrap();
            tx.commit().unwrap();
        }
        ended.store(true, Ordering::SeqCst);
    });
    assert_eq!(engine.metrics().transaction_tracking_bytes, 0);
}

/// Each adds one to what it reads; taken in turn, none is lost.
#[test]
fn several_take_turns() {
    let engine = engine();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..250 {
                    let mut tx = engine.exclusive();
                    let n = tx.get("n").unwrap().map_or(0, |n| u32::from_be_bytes(n[..].try_into().unwrap()));
                    tx.put("n", (n + 1).to_be_bytes()).unwrap();
                    tx.commit().unwrap();
                }
            });
        }
    });
    assert_eq!(engine.get("n").unwrap().unwrap(), 1_000u32.to_be_bytes());
}

#[test]
fn a_panic_ends_it() {
    let engine = engine();
    let panics = std::panic::AssertUnwindSafe(|| {
        let mut tx = engine.exclusive();
        tx.put("k", "never").unwrap();
        panic!("as asked");
    });
    assert!(std::panic::catch_unwind(panics).is_err());
    engine.put("k", "v").unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"v");
}

/// Close waits for no transaction, and whoever waits for one is let go.
#[test]
fn close_lets_everybody_go() {
    let engine = engine();
    let mut tx = engine.exclusive();
    tx.put("k", "v").unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| engine.put("k", "w"));
        let other = scope.spawn(|| engine.exclusive().put("k", "w"));
        std::thread::sleep(Duration::from_millis(30));
        engine.close().unwrap();
        assert_eq!(writer.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert_eq!(other.join().unwrap().unwrap_err().kind(), ErrorKind::Closed);
    });
    assert_eq!(tx.commit().unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(engine.exclusive().commit().unwrap_err().kind(), ErrorKind::Closed);
}

/// It outlives all other handles, and flush and compaction go on beside it.
#[test]
fn room_is_made_beside_it() {
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let options = Options { memtable_bytes: Some(16 << 10), memory_budget_bytes: 1 << 20, ..Options::default() };
    let engine = Engine::builder("data").vfs(Arc::clone(&vfs)).options(options).open().unwrap();
    for i in 0..2_000u32 {
        engine.put(i.to_be_bytes(), [0; 500]).unwrap();
    }
    let mut tx = engine.exclusive();
    drop(engine);
    for i in 0..2_000u32 {
        tx.put(i.to_be_bytes(), [1; 500]).unwrap();
    }
    tx.commit().unwrap();
    let again = Engine::builder("data").vfs(vfs).background(Background::Manual).open().unwrap();
    assert!(again.iter().all(|item| item.unwrap().1 == [1; 500]));
    assert_eq!(again.iter().count(), 2_000);
}
