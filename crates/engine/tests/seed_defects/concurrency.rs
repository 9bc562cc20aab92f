//! Defects 26 to 39: concurrency and lifecycle.

use super::*;
use esker::vfs::{Fault, FaultVfs, ManualClock, Operation, Rule, TraceVfs};
use esker::{ErrorKind, ReadMode, WriteOptions};
use std::sync::atomic::AtomicU64;

/// A file system in memory whose delays last until the gate opens, with faults.
fn gated() -> (Arc<Gate>, Arc<MemVfs>, Arc<FaultVfs>) {
    let gate = Gate::new();
    let memory = MemVfs::new().with_clock(Arc::clone(&gate) as Arc<dyn Clock>);
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    (gate, memory, faults)
}

/// A delay that lasts while the gate is shut.
fn hold(operation: Operation, path: &str) -> Rule {
    Rule::new(operation, Fault::Delay(Duration::from_secs(1))).path(path)
}

#[test]
fn d26_readers_never_miss_a_memtable() {
    // The list of sealed memtables was read under one lock and written under another: a memtable could be in neither place.
    let memory = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
    let options = Options { memtable_bytes: Some(8 << 10), ..small() };
    let vfs: Arc<dyn Vfs> = memory;
    let engine = Engine::builder(DIR).options(options).vfs(vfs).open().unwrap();
    let written = Arc::new(AtomicU64::new(0));
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2u64)
        .map(|reader| {
            let (engine, written, done) = (engine.clone(), Arc::clone(&written), Arc::clone(&done));
            std::thread::spawn(move || {
                let mut dice = reader;
                while !done.load(Ordering::SeqCst) {
                    let there = written.load(Ordering::SeqCst);
                    if there == 0 {
                        continue;
                    }
                    dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                    // What was written last is what moves from place to place.
                    let back = (dice >> 33) % there.min(300);
                    let key = there - 1 - back;
                    assert!(engine.contains_key(key.to_be_bytes()).unwrap(), "{key} of {there}");
                    if back == 0 {
                        let from = there.saturating_sub(200);
                        let seen = engine.range(from.to_be_bytes()..there.to_be_bytes()).count() as u64;
                        assert_eq!(seen, there - from);
                    }
                }
            })
        })
        .collect();
    let begin = Instant::now();
    let mut i = 0u64;
    // Until there was something to miss, however slow the machine is.
    while begin.elapsed() < Duration::from_millis(700) || engine.metrics().flushes <= 5 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", engine.metrics());
        engine.put(i.to_be_bytes(), [b'v'; 100]).unwrap();
        i += 1;
        written.store(i, Ordering::SeqCst);
    }
    done.store(true, Ordering::SeqCst);
    readers.into_iter().for_each(|reader| reader.join().unwrap());
}

#[test]
fn d27_writes_go_through_a_change_of_logs() {
    // The log was changed without the lock: a write just then failed with "closed".
    let memory = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
    let trace = TraceVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let engine = open_with_threads(&trace);
    let writers: Vec<_> = (0..4u32)
        .map(|writer| {
            let engine = engine.clone();
            std::thread::spawn(move || {
                for i in 0..2000u32 {
                    let sync = WriteOptions::sync();
                    let options = if i % 50 == 0 { sync } else { WriteOptions::default() };
                    engine.put_with(format!("{writer}{i:06}"), [b'v'; 100], &options).unwrap();
                }
            })
        })
        .collect();
    writers.into_iter().for_each(|writer| writer.join().unwrap());
    let made = [Operation::CreateLog, Operation::OpenLog].map(|operation| trace.find(operation, "*.wal").len());
    assert!(made.iter().sum::<usize>() > 10, "the log changed often");
    assert_eq!(engine.iter().count(), 8000);
    let left = killed(&memory);
    drop(engine);
    assert_eq!(open(&left).iter().count(), 8000);
}

#[test]
fn d28_without_a_new_log_the_old_one_goes_on() {
    // The old log was closed before the new one was made; if that failed, the engine never wrote again.
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let engine = open(&faults);
    let logs = names(&memory, ".wal");
    let fault = faults.add(Rule::new(Operation::CreateLog, Fault::EIO).path("*.wal"));
    let mut written: usize = (0..4).map(|memtable| seal_one(&engine, &format!("a{memtable}"))).sum();
    assert!(faults.rules()[0].2 >= 3, "new logs were asked for in vain");
    assert_eq!((names(&memory, ".wal"), engine.metrics().background_errors >= 3), (logs, true));
    assert_eq!(scan(&open(&killed(&memory))).len(), written);

    faults.remove(fault);
    written += (0..2).map(|memtable| seal_one(&engine, &format!("b{memtable}"))).sum::<usize>();
    assert!(names(&memory, ".wal").len() >= 3, "the log changes again");
    work(&engine);
    assert_eq!(scan(&engine).len(), written);
    drop(engine);
    assert_eq!(scan(&open(&memory)).len(), written);
}

#[test]
fn d29_one_flush_of_a_keyspace_runs_at_a_time() {
    // The timer's flush and the writer's ran at once over the same memtables.
    let (gate, memory, faults) = gated();
    let engine = open(&faults);
    faults.add(hold(Operation::Sync, "*.sst.tmp"));
    engine.put("a", "1").unwrap();
    gate.shut();
    let flush = |engine: &Engine| {
        let engine = engine.clone();
        std::thread::spawn(move || engine.flush().unwrap())
    };
    let mut flushes = vec![flush(&engine)];
    until("a flush writes its table", || gate.waiting() == 1);
    for key in ["b", "c", "d"] {
        engine.put(key, "1").unwrap();
        flushes.push(flush(&engine));
        assert!(!engine.step().unwrap(), "nor does the background begin one");
        std::thread::sleep(Duration::from_millis(10));
        assert_eq!((gate.waiting(), names(&memory, ".sst.tmp").len()), (1, 1), "the others wait");
    }
    gate.open();
    flushes.into_iter().for_each(|flush| flush.join().unwrap());
    assert_eq!(scan(&engine), ["a=1", "b=1", "c=1", "d=1"]);
    assert_eq!(l0(&engine).entries, 4, "each once");
}

#[test]
fn d30_close_waits_for_flushes() {
    // Close did not wait: a flush under way went on in a closed engine, or was lost.
    let (gate, memory, faults) = gated();
    let trace = TraceVfs::new(Arc::clone(&faults) as Arc<dyn Vfs>);
    let engine = open_with_threads(&trace);
    faults.add(hold(Operation::Sync, "*.sst.tmp").times(1));
    gate.shut();
    let mut written = 0;
    while gate.waiting() == 0 && written < 5000 {
        engine.put(format!("{written:05}"), [b'v'; 100]).unwrap();
        written += 1;
    }
    until("the flush writes its table", || gate.waiting() == 1);
    let closed = Arc::new(AtomicBool::new(false));
    let close = std::thread::spawn({
        let (engine, closed) = (engine.clone(), Arc::clone(&closed));
        move || {
            engine.close().unwrap();
            closed.store(true, Ordering::SeqCst);
        }
    });
    std::thread::sleep(Duration::from_millis(50));
    assert!(!closed.load(Ordering::SeqCst), "a flush is under way");
    gate.open();
    close.join().unwrap();
    let done = trace.count();
    assert_eq!(names(&memory, ".tmp"), [""; 0]);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(trace.count(), done, "nothing happens after close");
    assert_eq!(scan(&open(&power_cut(&memory))).len(), written);
}

#[test]
fn d31_nothing_happens_after_close() {
    // A flush after close made a new log.
    let memory = MemVfs::new();
    let trace = TraceVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let engine = open(&trace);
    let keyspace = engine.keyspace("other", Default::default()).unwrap();
    seal_one(&engine, "k");
    engine.flush().unwrap();
    let (mut iter, snapshot) = (engine.iter(), engine.snapshot());
    iter.next().unwrap().unwrap();
    engine.put("z", "1").unwrap();
    engine.close().unwrap();
    let (done, files) = (trace.count(), names(&memory, ""));
    let closed = |result: Result<(), Error>| assert_eq!(result.unwrap_err().kind(), ErrorKind::Closed);
    closed(engine.flush());
    closed(engine.step().map(drop));
    closed(engine.sync());
    closed(engine.put("k", "v"));
    closed(engine.compact_range(..));
    closed(engine.resume());
    closed(engine.checkpoint("copy"));
    closed(keyspace.delete("k"));
    closed(engine.drop_keyspace("other"));
    closed(engine.keyspace("another", Default::default()).map(drop));
    drop((engine, keyspace, snapshot, iter));
    assert_eq!((trace.count(), names(&memory, "")), (done, files));
}

#[test]
fn d32_no_thread_outlives_close() {
    // The background thread noticed close only at its next tick, up to ten seconds later, and held all that was there.
    let memory = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
    for flushes in [false, true] {
        let engine = open_with_threads(&memory);
        for i in 0..1000 {
            engine.put(format!("{i}"), [b'v'; 100]).unwrap();
        }
        if flushes {
            engine.flush().unwrap();
        }
        std::thread::sleep(Duration::from_millis(20));
        let begin = Instant::now();
        engine.close().unwrap();
        drop(engine);
        assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
        assert_eq!(Arc::strong_count(&memory), 1, "a thread has the file system still");
    }
    // Without a close too: the last handle takes the threads along.
    let engine = open_with_threads(&memory);
    engine.put("k", "v").unwrap();
    drop(engine.iter());
    drop(engine);
    assert_eq!(Arc::strong_count(&memory), 1);
}

#[test]
fn d33_a_failed_close_releases_everything() {
    // After a failed close nothing more could be done: it could not be tried again, and files and locks stayed taken.
    for (operation, path) in [
        (Operation::CreateNew, "*.sst.tmp"),
        (Operation::Sync, "*.sst.tmp"),
        (Operation::Sync, "*.wal"),
        (Operation::Sync, "*MANIFEST-*"),
        (Operation::Append, "*MANIFEST-*"),
        (Operation::OpenRead, "*.sst"),
        (Operation::SyncDir, "*"),
    ] {
        let faults = FaultVfs::new(MemVfs::new());
        let engine = open(&faults);
        engine.put("k", "1").unwrap();
        let fault = faults.add(Rule::new(operation, Fault::EIO).path(path));
        let error = engine.close().expect_err(path);
        assert_eq!(error.kind(), ErrorKind::Io, "{operation:?} {path}: {error}");
        assert_eq!(engine.close().unwrap_err().to_string(), error.to_string(), "it is told again");
        assert_eq!(engine.get("k").unwrap_err().kind(), ErrorKind::Closed);
        faults.remove(fault);
        // With the old handle still there.
        let again = open(&faults);
        assert_eq!(scan(&again), ["k=1"], "{operation:?} {path}");
        drop((engine, again));
        assert_eq!(Arc::strong_count(&faults), 1);
    }
}

#[test]
fn d34_a_failed_open_leaves_nothing_open() {
    // What had been opened when an open failed stayed so: the next one found the lock taken.
    let memory = MemVfs::new();
    let engine = open(&memory);
    engine.put("table", "1").unwrap();
    engine.flush().unwrap();
    seal_one(&engine, "filler");
    engine.put("log", "1").unwrap();
    let left = memory.crash_now(CrashPolicy::All);
    let count = engine.iter().count();
    for background in [Background::Manual, Background::Threads] {
        let mut n = 1;
        loop {
            let image = Arc::new(left.crash_now(CrashPolicy::All));
            let faults = FaultVfs::new(Arc::clone(&image) as Arc<dyn Vfs>);
            faults.add(Rule::any(Fault::EIO).nth(n));
            let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
            let result = Engine::builder(DIR).options(small()).vfs(vfs).background(background).open();
            let failed = match result {
                Ok(opened) => {
                    drop(opened);
                    false
                }
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::Io, "operation {n}: {error}");
                    assert_eq!(Arc::strong_count(&faults), 1, "operation {n}");
                    true
                }
            };
            let struck = faults.rules()[0].2 > 0;
            faults.clear();
            let engine = open(&faults);
            assert_eq!(engine.iter().count(), count, "operation {n}");
            engine.put("writes", "again").unwrap();
            if !failed && !struck {
                break;
            }
            n += 1;
        }
        assert!(n > 30, "only {n} operations");
    }
}

#[test]
fn d35_a_directory_belongs_to_one_engine() {
    // Nothing kept two engines from one directory, in which they overwrote one another's files.
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let engine = Engine::open(&path).unwrap();
    engine.put("k", "1").unwrap();
    let alias = dir.path().join("alias");
    std::os::unix::fs::symlink(&path, &alias).unwrap();
    for again in [path.clone(), path.join("."), alias] {
        let error = Engine::open(&again).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Locked, "{error}");
    }
    engine.put("k", "2").unwrap();
    engine.close().unwrap();
    let again = Engine::open(&path).unwrap();
    assert_eq!(scan(&again), ["k=2"]);
}

#[test]
fn d36_nobody_waits_for_anothers_disk() {
    // Readers held the lock while they read from disk, and writers while they synced: one slow operation stopped all.
    let (gate, _memory, faults) = gated();
    let engine = try_open(&faults, Options { read_mode: ReadMode::Pread, ..small() }).unwrap();
    engine.put("table", "1").unwrap();
    engine.flush().unwrap();
    engine.put("memory", "1").unwrap();
    let others_go_on = |what: &str| {
        let engine = engine.clone();
        within(Duration::from_secs(10), move || {
            engine.put("other", "1").unwrap();
            assert_eq!(get(&engine, "other").as_deref(), Some("1"));
            assert_eq!(get(&engine, "memory").as_deref(), Some("1"));
            assert_eq!(engine.range("a".."p").count(), 2);
            engine.snapshot();
            engine.metrics();
        });
        assert_eq!(gate.waiting(), 1, "meanwhile {what}");
    };

    faults.add(hold(Operation::Sync, "*.wal").times(1));
    gate.shut();
    let syncing = {
        let engine = engine.clone();
        std::thread::spawn(move || engine.put_with("synced", "1", &WriteOptions::sync()).unwrap())
    };
    until("a writer syncs", || gate.waiting() == 1);
    others_go_on("one syncs");
    gate.open();
    syncing.join().unwrap();

    engine.flush().unwrap();
    engine.put("memory", "1").unwrap();
    faults.clear();
    faults.add(hold(Operation::Read, "*.sst").times(1));
    gate.shut();
    let reading = {
        let engine = engine.clone();
        std::thread::spawn(move || get(&engine, "synced"))
    };
    until("a reader reads", || gate.waiting() == 1);
    others_go_on("one reads");
    within(Duration::from_secs(10), {
        let engine = engine.clone();
        move || engine.flush().unwrap()
    });
    assert_eq!(gate.waiting(), 1, "nor does a flush wait");
    gate.open();
    assert_eq!(reading.join().unwrap().as_deref(), Some("1"));
}

#[test]
fn d37_iterators_outlive_close() {
    // An iterator held nothing: close, or a compaction, cut the scan short and that looked like its end.
    for read_mode in [ReadMode::Map, ReadMode::Pread] {
        let memory = MemVfs::new();
        let engine = try_open(&memory, Options { read_mode, ..small() }).unwrap();
        for i in 0..300 {
            engine.put(format!("{i:05}"), "old").unwrap();
            if i % 100 == 50 {
                engine.flush().unwrap();
            }
        }
        let mut iter = engine.iter();
        let mut cursor = engine.cursor();
        cursor.seek("00010").unwrap();
        let begun: Vec<_> = iter.by_ref().take(10).map(Result::unwrap).collect();
        for i in 0..300 {
            engine.put(format!("{i:05}"), "new").unwrap();
        }
        engine.compact_range(..).unwrap();
        work(&engine);
        engine.close().unwrap();
        drop(engine);
        let rest: Vec<_> = iter.map(Result::unwrap).collect();
        assert_eq!(begun.len() + rest.len(), 300);
        assert!(begun.iter().chain(&rest).all(|(_, value)| *value == b"old"));
        let mut walked = 10;
        while cursor.valid() {
            assert_eq!((text(cursor.key()), cursor.value().unwrap()), (format!("{walked:05}"), &b"old"[..]));
            walked += 1;
            cursor.next().unwrap();
        }
        assert_eq!(walked, 300);
    }
}

#[test]
fn d38_a_failed_sync_says_that_the_outcome_is_unknown() {
    // The write was reported as failed, yet might be there after a restart; and the next sync passed for a success.
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let engine = open(&faults);
    engine.put_with("before", "1", &WriteOptions::sync()).unwrap();
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
    let error = engine.put_with("unknown", "1", &WriteOptions::sync()).unwrap_err();
    assert!(error.outcome_unknown(), "{error}");
    assert_eq!(scan(&engine), ["before=1", "unknown=1"], "in this process it stays visible");
    for _ in 0..2 {
        let refused = engine.put_with("after", "1", &WriteOptions::sync()).unwrap_err();
        assert_eq!((refused.kind(), refused.outcome_unknown()), (ErrorKind::ReadOnly, false), "{refused}");
        assert_eq!(engine.sync().unwrap_err().kind(), ErrorKind::ReadOnly, "no sync passes for a success");
    }
    assert_eq!(scan(&open(&killed(&memory))), ["before=1", "unknown=1"], "it may be there");
    assert_eq!(scan(&open(&power_cut(&memory))), ["before=1"], "or not");
}

#[test]
fn d39_logs_are_replayed_by_number() {
    // Logs were ordered by the wall clock: set back, it put a newer log before an older one.
    let clock = Arc::new(ManualClock::new());
    let memory = MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>);
    let engine = open(&memory);
    for value in 0..5u64 {
        engine.put("k", value.to_string()).unwrap();
        seal_one(&engine, "filler");
        clock.set_unix_ms(1_600_000_000_000 - value * 86_400_000);
    }
    engine.put("k", "newest").unwrap();
    let left = killed(&memory);
    assert!(names(&left, ".wal").len() >= 5);
    assert_eq!(names(&left, ".sst"), [""; 0]);
    clock.set_unix_ms(0);
    let again = open(&left);
    assert_eq!(get(&again, "k").as_deref(), Some("newest"));
    assert_eq!(again.iter().count(), engine.iter().count());
    again.put("k", "newer still").unwrap();
    assert_eq!(get(&open(&killed(&left)), "k").as_deref(), Some("newer still"));
}
