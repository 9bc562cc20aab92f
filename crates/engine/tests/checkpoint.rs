//! A checkpoint taken under load opens alone, is whole, and survives the original's removal.

use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, OsVfs, Rule, Vfs};
use esker::{Background, Engine, ErrorKind, KeyspaceOptions, Options, WriteBatch};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Barrier};
use std::time::Duration;

const EOPNOTSUPP: i32 = 95;

#[test]
fn under_load_it_is_one_instant_over_all_keyspaces() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    let options = Options { memtable_bytes: Some(64 << 10), ..Options::default() };
    let engine = Engine::builder(&original).options(options).open().unwrap();
    let left = engine.keyspace("left", KeyspaceOptions::default()).unwrap();
    let right = engine.keyspace("right", KeyspaceOptions::default()).unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writer = {
        let (engine, left, right) = (engine.clone(), left.clone(), right.clone());
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        std::thread::spawn(move || {
            let mut i = 0u64;
            while !stop.load(Ordering::SeqCst) {
                let mut batch = WriteBatch::new();
                batch.put_in(&left, i.to_be_bytes(), [1; 60]).put_in(&right, i.to_be_bytes(), [2; 200]);
                engine.write(&batch).unwrap();
                i += 1;
                acknowledged.store(i, Ordering::SeqCst);
            }
        })
    };
    let mut copies = Vec::new();
    for n in 0..5 {
        std::thread::sleep(std::time::Duration::from_millis(100));
        let before = acknowledged.load(Ordering::SeqCst);
        let copy = dir.path().join(format!("copy-{n}"));
        engine.checkpoint(&copy).unwrap();
        copies.push((copy, before, acknowledged.load(Ordering::SeqCst) + 1));
    }
    stop.store(true, Ordering::SeqCst);
    writer.join().unwrap();
    drop((left, right, engine));
    std::fs::remove_dir_all(&original).unwrap();

    for (copy, before, after) in copies {
        // For reading only first: a checkpoint is as readable as any engine.
        let reader = Engine::builder(&copy).read_only(true).open().unwrap();
        assert!(reader.verify().unwrap().is_ok());
        reader.close().unwrap();
        let engine = Engine::open(&copy).unwrap();
        let keys = |name: &str| -> Vec<u64> {
            let keyspace = engine.keyspace(name, KeyspaceOptions::default()).unwrap();
            keyspace.iter().keys().map(|key| u64::from_be_bytes((*key.unwrap()).try_into().unwrap())).collect()
        };
        let (left, right) = (keys("left"), keys("right"));
        assert_eq!(left, right, "a batch is there whole or not at all");
        assert_eq!(left, (0..left.len() as u64).collect::<Vec<_>>(), "a prefix");
        let len = left.len() as u64;
        assert!(before <= len && len <= after, "{before} <= {len} <= {after}");
        engine.put("still", "writes").unwrap();
    }
}

#[test]
fn it_goes_only_where_nothing_is() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path().join("db")).unwrap();
    engine.put("k", "v").unwrap();
    let full = dir.path().join("full");
    std::fs::create_dir(&full).unwrap();
    std::fs::write(full.join("notes.txt"), "mine").unwrap();
    assert_eq!(engine.checkpoint(&full).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(std::fs::read(full.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(engine.checkpoint(full.join("notes.txt")).unwrap_err().kind(), ErrorKind::InvalidArgument);
    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    engine.checkpoint(&empty).unwrap();
    assert_eq!(Engine::open(&empty).unwrap().get("k").unwrap().unwrap(), b"v");
}

/// The directory stayed where the flush before failed, and one that was there before went.
#[test]
fn whatever_fails_it_leaves_things_as_they_were() {
    for was_there in [false, true] {
        for n in 1.. {
            let memory = MemVfs::new();
            if was_there {
                memory.create_dir_all("/copy".as_ref()).unwrap();
            }
            let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
            let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
            let open =
                |dir: &str| Engine::builder(dir).vfs(Arc::clone(&vfs)).background(Background::Manual).open().unwrap();
            let engine = open("/data");
            engine.put("a", "1").unwrap();
            engine.flush().unwrap();
            engine.put("b", "1").unwrap();
            engine.delete_range("a", "b").unwrap();
            let rule = faults.add(Rule::any(Fault::EIO).nth(n).times(1));
            let result = engine.checkpoint("/copy");
            let was_met = faults.rules().iter().any(|(id, _, hits)| *id == rule && *hits > 0);
            faults.clear();
            match &result {
                Ok(()) => assert_eq!(open("/copy").iter().keys().map(Result::unwrap).collect::<Vec<_>>(), ["b"]),
                Err(error) => {
                    let found = memory.list("/copy".as_ref()).ok();
                    assert_eq!(found, was_there.then(Vec::new), "operation {n}: {error}");
                }
            }
            if !was_met {
                assert!(result.is_ok() && n > 10, "{n} operations: {result:?}");
                break;
            }
        }
    }
}

/// Two checkpoints into one directory: both found it empty, one filled it and returned `Ok`, and the other failed and removed all that lay there, the finished copy with it.
#[test]
fn of_two_into_one_directory_one_is_whole_and_the_other_says_why_not() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path().join("db")).unwrap();
    for round in 0..20u32 {
        for i in 0..50u32 {
            engine.put(i.to_be_bytes(), round.to_be_bytes()).unwrap();
        }
        let to = dir.path().join(format!("to-{round}"));
        let barrier = Barrier::new(2);
        let copy = || {
            barrier.wait();
            engine.checkpoint(&to)
        };
        let results =
            std::thread::scope(|scope| [scope.spawn(copy), scope.spawn(copy)].map(|copy| copy.join().unwrap()));
        let refused: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
        let [refused] = refused[..] else { panic!("round {round}: {results:?}") };
        assert!(matches!(refused.kind(), ErrorKind::Locked | ErrorKind::InvalidArgument), "round {round}: {refused}");
        let reader =
            Engine::builder(&to).read_only(true).open().unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(reader.get(49u32.to_be_bytes()).unwrap().unwrap(), round.to_be_bytes(), "round {round}");
        reader.close().unwrap();
        std::fs::remove_dir_all(&to).unwrap();
    }
}

/// An engine that somebody made in the new directory while the old one flushed: the checkpoint then failed and removed its files.
#[test]
fn while_it_flushes_nobody_else_gets_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let faults = FaultVfs::new(Arc::new(OsVfs) as Arc<dyn Vfs>);
    let engine = Engine::builder(dir.path().join("db")).vfs(Arc::clone(&faults) as Arc<dyn Vfs>).open().unwrap();
    engine.put("k", "v").unwrap();
    faults.add(Rule::new(Operation::Sync, Fault::Delay(Duration::from_millis(200))).path("*/db/*.sst"));
    let to = dir.path().join("copy");
    std::thread::scope(|scope| {
        let copy = scope.spawn(|| engine.checkpoint(&to));
        while !to.join("LOCK").exists() && !copy.is_finished() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let refused = Engine::open(&to).map(drop).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Locked, "{refused}");
        assert!(!copy.is_finished());
        copy.join().unwrap().unwrap();
    });
    assert_eq!(Engine::open(&to).unwrap().get("k").unwrap().unwrap(), b"v");
}

/// Where the file system has no locks a copy is taken all the same; one that fails removes nothing, since what lies there may be another's.
#[test]
fn where_there_are_no_locks_it_is_taken_too() {
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let open = |dir: &str| Engine::builder(dir).vfs(Arc::clone(&vfs)).background(Background::Manual).open().unwrap();
    let engine = open("/data");
    engine.put("k", "v").unwrap();
    let none = Fault::Errno(EOPNOTSUPP);
    faults.add(Rule::new(Operation::Lock, none).path("/copy*"));
    engine.checkpoint("/copy").unwrap();
    let kept = memory.list("/copy".as_ref()).unwrap();
    assert!(kept.iter().any(|name| name == "LOCK"), "{kept:?}");
    assert_eq!(engine.checkpoint("/copy").unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(memory.list("/copy".as_ref()).unwrap(), kept);
    faults.add(Rule::new(Operation::CreateNew, Fault::ENOSPC).path("/copy-2/MANIFEST*"));
    engine.checkpoint("/copy-2").unwrap_err();
    assert!(memory.list("/copy-2".as_ref()).unwrap().iter().any(|name| name.ends_with(".sst")));
    faults.clear();
    assert_eq!(open("/copy").get("k").unwrap().unwrap(), b"v");
}

/// No test cut the power behind a checkpoint: nothing failed when the logs that it copies were not synced.
#[test]
fn a_power_cut_behind_it_leaves_it_whole() {
    for wal_retain_bytes in [None, Some(u64::MAX)] {
        let vfs = MemVfs::new();
        let options = Options { wal_retain_bytes, ..Options::default() };
        let open = |vfs: &Arc<MemVfs>, dir: &str| {
            let builder = Engine::builder(dir).options(options.clone()).vfs(Arc::clone(vfs) as Arc<dyn Vfs>);
            builder.background(Background::Manual).open().unwrap()
        };
        let engine = open(&vfs, "/db");
        for i in 0..100u32 {
            engine.put(i.to_be_bytes(), [i as u8; 100]).unwrap();
            if i % 30 == 0 {
                engine.flush().unwrap();
            }
        }
        engine.checkpoint("/copy").unwrap();
        let image = Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly));
        let deep = esker::verify_deep(&(Arc::clone(&image) as Arc<dyn Vfs>), "/copy", &mut |_| {}).unwrap();
        assert!(deep.is_ok(), "{deep:#?}");
        let copy = open(&image, "/copy");
        assert_eq!(copy.iter().count(), 100);
        if wal_retain_bytes.is_some() {
            let told = copy.changes_since(91).unwrap().map(Result::unwrap);
            assert_eq!(told.count(), 9, "the feed of the log that it was taken with goes over into it");
        }
    }
}
