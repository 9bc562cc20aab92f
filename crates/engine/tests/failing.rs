//! Disks that are full and syncs that fail: reads go on, nothing acknowledged is lost, and writing resumes.

#[path = "failing/rules.rs"]
mod rules;
#[path = "failing/run.rs"]
mod run;
#[path = "failing/store.rs"]
mod store;
#[path = "failing/worlds.rs"]
mod worlds;
#[path = "failing/writes.rs"]
mod writes;

use esker::vfs::{CrashPolicy, Fault, FaultVfs, ManualClock, MemVfs, Operation, Rule, SystemClock, Vfs};
use esker::{Background, Engine, ErrorKind, KeyspaceOptions, LogBackend, Options, WriteBatch, WriteOptions};
use esker_testkit::stress;
use rules::Tally;
use run::Run;
use std::sync::Arc;
use std::time::{Duration, Instant};

fn small() -> Options {
    Options { memtable_bytes: Some(32 << 10), memory_budget_bytes: 4 << 20, ..Options::default() }
}

fn open(vfs: &Arc<dyn Vfs>, background: Background) -> Engine {
    Engine::builder("data").options(small()).vfs(Arc::clone(vfs)).background(background).open().unwrap()
}

fn key(i: u32) -> String {
    format!("key{i:06}")
}

fn check_all(engine: &Engine, acknowledged: u32) {
    for i in 0..acknowledged {
        assert_eq!(engine.get(key(i)).unwrap().as_deref(), Some(&[i as u8; 100][..]), "{}", key(i));
    }
}

#[test]
fn a_failed_sync_stops_writing_until_resume_and_loses_nothing() {
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = open(&vfs, Background::Manual);
    engine.put_with("synced", "1", &WriteOptions::sync()).unwrap();
    engine.put("kernel", "1").unwrap();

    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
    let error = engine.put_with("unknown", "1", &WriteOptions::sync()).unwrap_err();
    assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Io, true), "{error}");

    // The next sync would succeed, and would prove nothing: it must not be tried.
    let syncs = faults.count(Operation::Sync);
    let refused = engine.put_with("later", "1", &WriteOptions::sync()).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::ReadOnly, "{refused}");
    assert_eq!(engine.sync().unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(engine.put("later", "1").unwrap_err().kind(), ErrorKind::ReadOnly);
    assert_eq!(faults.count(Operation::Sync), syncs, "no sync after a failed one");
    assert_eq!(engine.get("synced").unwrap().unwrap(), b"1");
    assert_eq!(engine.get("unknown").unwrap().unwrap(), b"1", "it stays visible in this process");
    assert!(engine.metrics().writing_stopped.is_some());

    engine.resume().unwrap();
    engine.put_with("after", "1", &WriteOptions::sync()).unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    drop(engine);
    let again = open(&image, Background::Manual);
    for key in ["synced", "kernel", "unknown", "after"] {
        assert_eq!(again.get(key).unwrap().as_deref(), Some(&b"1"[..]), "{key}");
    }
    assert_eq!(again.get("later").unwrap(), None, "refused writes are not there");
}

#[test]
fn a_failed_manifest_sync_stops_writing_until_resume() {
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = open(&vfs, Background::Manual);
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    for i in 0..100 {
        engine.put(key(i), [i as u8; 100]).unwrap();
    }
    users.put("a", "1").unwrap();
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*MANIFEST*").times(1));
    engine.flush().unwrap_err();
    assert_eq!(engine.put("x", "y").unwrap_err().kind(), ErrorKind::ReadOnly);
    check_all(&engine, 100);
    engine.resume().unwrap();
    engine.put("x", "y").unwrap();
    engine.flush().unwrap();
    check_all(&engine, 100);
    drop((engine, users));
    let engine = open(&vfs, Background::Manual);
    check_all(&engine, 100);
    assert_eq!(engine.get("x").unwrap().unwrap(), b"y");
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    assert_eq!(users.get("a").unwrap().unwrap(), b"1");
}

/// A keyspace that could not be made, or dropped, for want of a sync was there, or gone, after reopening, and nothing had said that it might be.
#[test]
fn a_keyspace_whose_edit_was_not_synced_may_be_there() {
    for fault in [Fault::EIO, Fault::DONE] {
        let memory = MemVfs::new();
        let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
        let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
        let engine = open(&vfs, Background::Manual);
        engine.keyspace("old", KeyspaceOptions::default()).unwrap();
        for is_new in [true, false] {
            faults.add(Rule::new(Operation::Sync, fault).path("*MANIFEST*").times(1));
            let error = match is_new {
                true => engine.keyspace("new", KeyspaceOptions::default()).map(drop).unwrap_err(),
                false => engine.drop_keyspace("old").unwrap_err(),
            };
            faults.clear();
            assert!(error.outcome_unknown(), "{fault:?}, new {is_new}: {error}");
            let found = open(&(Arc::new(memory.crash_now(CrashPolicy::All)) as Arc<dyn Vfs>), Background::Manual);
            let is_there = found.keyspaces().iter().any(|name| name == if is_new { "new" } else { "old" });
            assert_eq!(is_there, is_new, "{fault:?}: as the kernel has it");
            engine.resume().unwrap();
            assert_eq!(engine.keyspaces(), ["default", "old"]);
        }
    }
}

#[test]
fn a_resume_that_fails_can_be_repeated() {
    let faults = FaultVfs::new(MemVfs::new());
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = open(&vfs, Background::Manual);
    for i in 0..50 {
        engine.put(key(i), [i as u8; 100]).unwrap();
    }
    faults.add(Rule::new(Operation::Sync, Fault::EIO));
    engine.sync().unwrap_err();
    for _ in 0..3 {
        engine.resume().unwrap_err();
        check_all(&engine, 50);
    }
    faults.clear();
    engine.resume().unwrap();
    engine.put("x", "y").unwrap();
    drop(engine);
    let engine = open(&vfs, Background::Manual);
    check_all(&engine, 50);
    assert_eq!(engine.get("x").unwrap().unwrap(), b"y");
}

/// What was under way when `resume` was called and then failed was told to a write behind it, which was not done, though nothing was wrong any more: a flush (found by the metamorphic runner), the
/// next log that was made ahead, and whatever it was if writing had not stopped.
#[test]
fn what_fails_while_it_is_resumed_is_not_told_behind_it() {
    let cases =
        [(Operation::Sync, "*.sst*", true), (Operation::Sync, "*.sst*", false), (Operation::CreateLog, "*.wal*", true)];
    for (operation, files, stops) in cases {
        let memory = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
        let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
        let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
        let engine = open(&vfs, Background::Threads);
        let slow = faults.add(Rule::new(operation, Fault::Delay(Duration::from_millis(300))).path(files));
        faults.add(Rule::new(operation, Fault::EIO).path(files));
        let is_in_the_midst = || faults.rules().iter().any(|(id, _, struck)| *id == slow && *struck > 0);
        let mut acknowledged = 0;
        while !is_in_the_midst() {
            // It is told if it has failed already.
            acknowledged += u32::from(engine.put(key(acknowledged), [acknowledged as u8; 100]).is_ok());
            // Not so fast that memory is full before anybody has begun.
            std::thread::sleep(Duration::from_micros(100));
        }
        if stops {
            faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal"));
            assert!(engine.put_with("unknown", "1", &WriteOptions::sync()).is_err());
        }
        // Who is held up knows already that it is to fail, and does so when its time has come.
        faults.clear();
        engine.resume().unwrap();
        engine.put("after", "1").unwrap();
        std::thread::sleep(Duration::from_millis(400));
        engine.put("later", "1").unwrap();
        check_all(&engine, acknowledged);
    }
}

/// An engine that resumed by itself forgot what else had failed, and no write was told of it.
#[test]
fn what_failed_before_it_resumes_by_itself_is_told_behind_it() {
    let faults = FaultVfs::new(MemVfs::new().with_clock(Arc::new(SystemClock::new())));
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = open(&vfs, Background::Manual);
    (0..400).for_each(|i| engine.put(key(i), [i as u8; 100]).unwrap());
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.sst*"));
    engine.step().unwrap();
    assert_eq!(engine.metrics().background_errors, 1);
    faults.clear();
    // Then the disk is full for a moment, and who meets it is no write.
    faults.add(Rule::new(Operation::Sync, Fault::ENOSPC).path("*.sst*"));
    while engine.metrics().background_errors < 2 {
        engine.step().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    faults.clear();
    faults.add(Rule::new(Operation::Sync, Fault::ENOSPC).path("*MANIFEST*"));
    engine.keyspace("new", KeyspaceOptions::default()).unwrap_err();
    assert!(engine.metrics().writing_stopped.is_some());
    faults.clear();
    while engine.metrics().writing_stopped.is_some() {
        engine.step().unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    let told = engine.put("told", "1").unwrap_err();
    assert!(told.kind() == ErrorKind::Io && told.to_string().contains("sync"), "{told}");
    engine.put("told", "1").unwrap();
    check_all(&engine, 400);
}

#[test]
fn a_full_disk_loses_nothing_takes_deletes_and_resumes_by_itself() {
    let clock = Arc::new(ManualClock::new());
    let memory = MemVfs::new().with_space(6 << 20).with_clock(Arc::clone(&clock) as _);
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, Background::Threads);
    let doomed = engine.keyspace("doomed", KeyspaceOptions::default()).unwrap();
    doomed.put("k", vec![1; 1000]).unwrap();

    let mut acknowledged = 0;
    let error = loop {
        match engine.put(key(acknowledged), [acknowledged as u8; 100]) {
            Ok(()) => acknowledged += 1,
            // What failed in the background is shown once, by whichever write comes next.
            Err(error) => break error,
        }
        assert!(acknowledged < 200_000, "the disk never filled");
    };
    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
    check_all(&engine, acknowledged);

    for i in 0..10 {
        engine.delete(key(acknowledged + i)).unwrap_or_else(|error| panic!("a delete while full: {error}"));
    }
    engine.drop_keyspace("doomed").unwrap();
    check_all(&engine, acknowledged);

    memory.set_space(Some(64 << 20));
    let begin = Instant::now();
    while let Err(error) = engine.put("writing", "again") {
        assert!(begin.elapsed() < Duration::from_secs(5), "writing did not resume: {error}: {:?}", engine.metrics());
        std::thread::sleep(Duration::from_millis(10));
        // What failed in the background is tried again when its time has come by this clock.
        clock.advance(Duration::from_millis(10));
    }
    engine.flush().unwrap();
    check_all(&engine, acknowledged);
    engine.close().unwrap();
    let engine = open(&vfs, Background::Threads);
    check_all(&engine, acknowledged);
    assert_eq!(engine.get("writing").unwrap().unwrap(), b"again");
}

#[test]
fn a_full_disk_in_the_middle_of_anything_loses_nothing() {
    // Every operation in turn is the one that finds the disk full, once.
    for n in 0..120 {
        let faults = FaultVfs::new(MemVfs::new());
        let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
        let engine = open(&vfs, Background::Manual);
        let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
        faults.add(Rule::any(Fault::ENOSPC).nth(n));
        let mut acknowledged = Vec::new();
        for i in 0..1200u32 {
            let mut batch = WriteBatch::new();
            batch.put(key(i), [i as u8; 100]).put_in(&other, key(i), [i as u8; 50]);
            if engine.write(&batch).is_ok() {
                acknowledged.push(i);
            }
            let _ = engine.step();
        }
        faults.clear();
        let _ = engine.resume();
        let check = |engine: &Engine| {
            let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
            for i in &acknowledged {
                assert_eq!(engine.get(key(*i)).unwrap().as_deref(), Some(&[*i as u8; 100][..]), "fault {n}, {i}");
                assert_eq!(other.get(key(*i)).unwrap().as_deref(), Some(&[*i as u8; 50][..]), "fault {n}, {i}");
            }
        };
        assert!(acknowledged.len() > 1000, "fault {n}: only {} of 1200 were taken", acknowledged.len());
        check(&engine);
        engine.put("still", "writes").unwrap();
        drop((other, engine));
        check(&open(&vfs, Background::Manual));
    }
}

/// What rests on terms meets a failed sync as a plain write does: it is not tried again, nobody waits for it, and what it wrote counts as written.
#[test]
fn a_failed_sync_under_transactions_and_conditional_writes() {
    type Write = fn(&Engine, &WriteOptions) -> esker::Result<()>;
    let writes: [(&str, Write); 5] = [
        ("transact", |engine, options| {
            engine.transact_with(options, |tx| {
                tx.get("k")?;
                tx.delete_range("a", "c")?;
                tx.put("k", "1")
            })
        }),
        ("exclusive", |engine, options| {
            let mut tx = engine.exclusive();
            tx.put("k", "1")?;
            tx.commit_with(options)
        }),
        ("insert", |engine, options| engine.insert_if_absent_with("k", "1", options).map(drop)),
        ("swap", |engine, options| engine.compare_and_swap_with("k", None, Some(b"1"), options).map(drop)),
        ("update", |engine, options| engine.fetch_update_with("k", |_| Some("1"), options).map(drop)),
    ];
    for (what, write) in writes {
        let memory = MemVfs::new();
        let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
        let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
        let engine = open(&vfs, Background::Manual);
        engine.put_with("b", "1", &WriteOptions::sync()).unwrap();
        let mut reader = engine.transaction();
        assert_eq!(reader.get("k").unwrap(), None);
        reader.put("read", "1").unwrap();
        let mut other = engine.transaction();
        other.put("blind", "1").unwrap();

        faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
        let error = write(&engine, &WriteOptions::sync()).unwrap_err();
        assert_eq!((error.kind(), error.outcome_unknown()), (ErrorKind::Io, true), "{what}: {error}");
        assert_eq!(engine.get("k").unwrap().unwrap(), b"1", "{what}: it stays visible");
        // Each is told, and none waits for a turn that nobody ends.
        assert_eq!(other.commit().unwrap_err().kind(), ErrorKind::ReadOnly, "{what}");
        assert_eq!(engine.exclusive().commit().map_err(|error| error.kind()), Ok(()), "{what}: it has written nothing");
        assert_eq!(engine.fetch_update("k", |_| Some("2")).unwrap_err().kind(), ErrorKind::ReadOnly, "{what}");
        assert!(!engine.insert_if_absent("k", "2").unwrap(), "{what}: it reads, and would change nothing");

        engine.resume().unwrap();
        assert_eq!(reader.commit().unwrap_err().kind(), ErrorKind::Conflict, "{what}: what it has read was written to");
        engine.transact(|tx| tx.put("after", "1")).unwrap();
        engine.sync().unwrap();
        let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
        drop(engine);
        let again = open(&image, Background::Manual);
        assert_eq!(again.get("k").unwrap().unwrap(), b"1", "{what}");
        assert_eq!(again.get("b").unwrap().is_none(), what == "transact");
        assert!(again.contains_key("after").unwrap() && !again.contains_key("blind").unwrap());
    }
}

/// A bit that is wrong in a new file, as it is read back, must be found while what the file was made of is still there: the log and the memtable of a flush, the inputs of a compaction.
#[test]
fn a_file_that_was_written_wrong_replaces_nothing() {
    let mut found = 0;
    for (seed, files) in (0..24).zip(["*.sst", "*.blob"].into_iter().cycle()) {
        let faults = FaultVfs::with_seed(MemVfs::new() as Arc<dyn Vfs>, seed);
        let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
        let engine = open(&vfs, Background::Manual);
        let value = |i: u32| vec![i as u8; if i.is_multiple_of(10) { 5000 } else { 100 }];
        let check = |engine: &Engine| {
            (0..40).for_each(|i| assert_eq!(engine.get(key(i)).unwrap().unwrap(), value(i), "seed {seed}"));
        };
        for half in [0..20, 20..40] {
            for i in half {
                engine.put(key(i), value(i)).unwrap();
            }
            let rule = faults.add(Rule::new(Operation::Map, Fault::FlipBit).path(files).times(1));
            let flushed = engine.flush();
            faults.remove(rule);
            if let Err(error) = flushed {
                assert_eq!(error.kind(), ErrorKind::Corruption, "seed {seed}: {error}");
                found += 1;
                engine.resume().unwrap();
                engine.flush().unwrap();
            }
        }
        check(&engine);
        let rule = faults.add(Rule::new(Operation::Map, Fault::FlipBit).path("*.sst").times(1));
        let compacted = engine.compact_range(..);
        faults.remove(rule);
        if let Err(error) = compacted {
            assert_eq!(error.kind(), ErrorKind::Corruption, "seed {seed}: {error}");
            found += 1;
            engine.resume().unwrap();
            engine.compact_range(..).unwrap();
        }
        check(&engine);
        engine.verify().unwrap();
        engine.close().unwrap();
        check(&open(&vfs, Background::Manual));
    }
    // A bit may fall between the blocks.
    assert!(found > 60, "{found} of 72");
}

/// An engine that could not look whether a sync had failed before it took that for none. What it found in the logs was then left to them, though the device had never got it, and what was
/// synced behind it in a new log was lost with it in a power cut.
#[test]
fn whether_a_sync_has_failed_before_is_never_guessed() {
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let builder = || Engine::builder("data").options(small()).vfs(Arc::clone(&vfs)).background(Background::Manual);
    let engine = builder().open().unwrap();
    engine.put("a", "1").unwrap();
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
    engine.sync().unwrap_err();
    drop(engine);

    faults.add(Rule::new(Operation::Metadata, Fault::EIO).path("*.tmp").times(1));
    let engine = builder().open().or_else(|_| builder().open()).unwrap();
    assert_eq!(engine.get("a").unwrap().unwrap(), b"1");
    engine.put_with("b", "2", &WriteOptions::sync()).unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    let again = open(&image, Background::Manual);
    assert_eq!(again.get("b").unwrap().as_deref(), Some(&b"2"[..]));
}

/// Where the sync of the manifest failed as an engine was closed, the next one believed the edit that it was shown, and removed the log that this says is not needed. The device had never got it, and behind a
/// power cut nothing could be opened.
#[test]
fn a_close_whose_manifest_was_not_synced_is_none_in_order() {
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = open(&vfs, Background::Manual);
    engine.put_with("a", "1", &WriteOptions::sync()).unwrap();
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*MANIFEST*").times(1));
    engine.close().unwrap_err();
    drop(engine);

    let engine = open(&vfs, Background::Manual);
    // Whatever syncs the directory has the removal of files outlast the cut.
    vfs.sync_dir("data".as_ref()).unwrap();
    assert_eq!(engine.get("a").unwrap().unwrap(), b"1");
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    assert_eq!(open(&image, Background::Manual).get("a").unwrap().unwrap(), b"1");
}

/// The note of a failed sync was not made where a process had no descriptor left, and the next open then trusted what it was shown: it removed the log that a close had not got rid of on the device (found in
/// review), or wrote on behind a hole. Now the note is a second name of a file that is there; and where that can't be had either, an engine that rests removes no logs.
#[test]
fn a_failed_sync_is_remembered_without_a_descriptor() {
    for (close, fault, has_link) in [
        (true, Fault::EMFILE, true),
        (true, Fault::ENOSPC, false),
        (true, Fault::EIO, false),
        (false, Fault::EMFILE, true),
        (false, Fault::ENOSPC, true),
    ] {
        let memory = MemVfs::new();
        let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
        let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
        let engine = open(&vfs, Background::Manual);
        let synced = if close { WriteOptions::sync() } else { WriteOptions::default() };
        engine.put_with("a", "1", &synced).unwrap();
        faults.add(Rule::new(Operation::CreateNew, fault).path("*.wal.tmp").times(1));
        if !has_link {
            faults.add(Rule::new(Operation::HardLink, fault).path("*.wal.tmp").times(1));
        }
        let of = if close { "*MANIFEST*" } else { "*.wal" };
        faults.add(Rule::new(Operation::Sync, Fault::EIO).path(of).times(1));
        if close { engine.close() } else { engine.sync() }.unwrap_err();
        drop(engine);

        let engine = open(&vfs, Background::Manual);
        assert_eq!(engine.get("a").unwrap().unwrap(), b"1");
        if !close {
            engine.put_with("b", "2", &WriteOptions::sync()).unwrap();
        }
        // Whatever syncs the directory has the removal of files outlast the cut.
        vfs.sync_dir("data".as_ref()).unwrap();
        let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
        let again = open(&image, Background::Manual);
        assert_eq!(again.get("a").unwrap().unwrap(), b"1", "{fault:?}");
        assert_eq!(again.get("b").unwrap().is_some(), !close, "{fault:?}");
        // Logs that stayed go with the first write.
        engine.put("c", "3").unwrap();
        while engine.step().unwrap() {}
        let logs = vfs.list("data".as_ref()).unwrap().into_iter().filter(|name| name.ends_with(".wal")).count();
        assert!(logs <= 2, "{logs} logs");
    }
}

/// What the feed had kept for too long an engine that rests removed all the same: of a close that had failed in its last sync, what a power cut leaves needed that log.
#[test]
fn who_rests_removes_no_log_that_the_feed_has_kept_too_long() {
    let clock = Arc::new(ManualClock::new());
    let memory = MemVfs::new().with_clock(Arc::clone(&clock) as _);
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let open = |vfs: Arc<dyn Vfs>| {
        let options = Options { wal_retain_age: Some(Duration::from_secs(60)), ..small() };
        Engine::builder("data").options(options).vfs(vfs).background(Background::Manual).open().unwrap()
    };
    let vfs = || Arc::clone(&faults) as Arc<dyn Vfs>;
    let logs = || vfs().list("data".as_ref()).unwrap().into_iter().filter(|name| name.ends_with(".wal")).count();
    let engine = open(vfs());
    engine.put_with("a", "1", &WriteOptions::sync()).unwrap();
    faults.add(Rule::any(Fault::ENOSPC).path("*.wal.tmp"));
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*MANIFEST*").times(1));
    engine.close().unwrap_err();
    drop(engine);
    faults.clear();

    let engine = open(vfs());
    engine.changes_since(0).unwrap();
    clock.advance(Duration::from_secs(61));
    while engine.step().unwrap() {}
    assert_eq!(engine.changes_since(0).unwrap_err().kind(), ErrorKind::Gap, "the feed lets go of it");
    vfs().sync_dir("data".as_ref()).unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    assert_eq!(open(image).get("a").unwrap().unwrap(), b"1");

    let before = logs();
    engine.put("b", "2").unwrap();
    while engine.step().unwrap() {}
    assert!(logs() <= before, "it goes with the first write");
}

/// On a disk that was nearly full each open that was refused left the manifest that it had begun, a MiB for a few hundred bytes; so who was told to make room had less of it.
#[test]
fn an_open_that_is_refused_for_want_of_space_takes_none() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, Background::Manual);
    (0..400).for_each(|i| engine.put(key(i), [i as u8; 100]).unwrap());
    engine.flush().unwrap();
    engine.put("last", "1").unwrap();
    // As a kill leaves it.
    let store = memory.crash_now(CrashPolicy::All);
    let mut refused = 0;
    for kib in (0..2048).step_by(32) {
        let full = Arc::new(store.crash_now(CrashPolicy::All));
        let vfs: Arc<dyn Vfs> = Arc::clone(&full) as _;
        full.set_space(Some(full.used_bytes() + (kib << 10)));
        let before = vfs.free_space("data".as_ref()).unwrap();
        let options = Options { memtable_bytes: Some(2 << 20), memory_budget_bytes: 16 << 20, ..small() };
        let opened =
            Engine::builder("data").options(options).vfs(Arc::clone(&vfs)).background(Background::Manual).open();
        if let Err(error) = opened {
            assert_eq!(error.kind(), ErrorKind::NoSpace, "{kib} KiB: {error}");
            let after = vfs.free_space("data".as_ref()).unwrap();
            assert!(after + (32 << 10) >= before, "{kib} KiB: {after} bytes free, and {before} before");
            refused += 1;
        }
    }
    assert!(refused > 2, "{refused}");
}

/// Where the sync of a log failed while an engine was opened, no note of it was left. The next open, with a memtable large enough, left to that log what the device had never got, and acknowledged syncs behind it; a
/// power cut took them without a word. With a small one the feed of changes told of it as durable.
#[test]
fn a_sync_that_fails_while_opening_is_remembered() {
    let small = Options { wal_retain_bytes: Some(u64::MAX), memory_budget_bytes: 1 << 20, ..small() };
    let large = Options { memtable_bytes: Some(8 << 20), memory_budget_bytes: 64 << 20, ..small.clone() };
    for then in [&large, &small] {
        let memory = MemVfs::new();
        let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
        let open = |options: &Options, vfs: Arc<dyn Vfs>| {
            let options = Options { log_backend: LogBackend::Write, ..options.clone() };
            Engine::builder("data").options(options).vfs(vfs).background(Background::Manual).open()
        };
        let vfs = || Arc::clone(&faults) as Arc<dyn Vfs>;
        let engine = open(&large, vfs()).unwrap();
        (0..400u32).for_each(|i| engine.put(key(i), [i as u8; 3000]).unwrap());
        // Once writing has stopped, dropping it leaves what a killed process does: all with the kernel, nothing on the device.
        let stops = faults.add(Rule::any(Fault::EIO).path("*.wal"));
        engine.put("x", "x").unwrap_err();
        drop(engine);
        faults.remove(stops);
        faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
        assert_eq!(open(&small, vfs()).unwrap_err().kind(), ErrorKind::Io);

        let engine = open(then, vfs()).unwrap();
        engine.put_with("z", "1", &WriteOptions::sync()).unwrap();
        assert_eq!(engine.changes_since(0).unwrap_err().kind(), ErrorKind::Gap);
        let again = open(then, Arc::new(memory.crash_now(CrashPolicy::SyncedOnly))).unwrap();
        assert_eq!(again.get("z").unwrap().as_deref(), Some(&b"1"[..]));
        assert_eq!(again.get(key(7)).unwrap().unwrap(), [7; 3000]);
    }
}

/// Whatever fails while an engine runs, is closed and opened: each failure is told, a read is right or an error, what was acknowledged is there, and outlasts a power cut if it was synced, and
/// when all is well again it writes, and opens.
#[test]
fn whatever_fails_nothing_acknowledged_is_lost() {
    let (mut rounds, mut struck, mut tally) = (0, 0, Tally::default());
    for round in stress::rounds("errno", 24) {
        let of_round = Run::new(round.seed()).go();
        let failed = u64::from(!of_round.is_empty());
        round.tried(failed);
        tally.merge(&of_round);
        (rounds, struck) = (rounds + 1, struck + failed);
    }
    println!("in {struck} of {rounds} runs something failed: {tally:?}");
    assert!(rounds < 24 || struck > rounds / 2, "in {struck} of {rounds} runs something failed");
    assert!(rounds < 24 || tally.kinds() >= 12, "of so few kinds some have failed: {tally:?}");
}

/// A write that is longer than the log's buffer fails as it is appended, and the log may hold its numbers. Nothing failed when they were given out again.
#[test]
fn numbers_of_a_long_write_that_failed_go_to_no_other() {
    let faults = FaultVfs::new(MemVfs::new() as Arc<dyn Vfs>);
    let options = Options { log_backend: LogBackend::Write, ..Options::default() };
    let builder = Engine::builder("data").options(options).vfs(Arc::clone(&faults) as _);
    let engine = builder.background(Background::Manual).open().unwrap();
    engine.put("a", "1").unwrap();
    let before = engine.metrics().last_seq;
    faults.add(Rule::new(Operation::Append, Fault::EIO).path("*.wal").times(1));
    assert!(engine.put("b", vec![7; 3 << 20]).unwrap_err().outcome_unknown());
    engine.resume().unwrap();
    engine.put("c", "1").unwrap();
    assert_eq!(engine.metrics().last_seq, before + 2);
}
