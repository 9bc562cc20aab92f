//! What once went wrong, one story each.

use esker::vfs::{Fault, FaultVfs, MemVfs, Operation, Rule, SystemClock, Vfs};
use esker::{Background, Engine, ErrorKind, Event, KeyspaceOptions, LeveledOptions, Options, WriteBatch, WriteOptions};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak, mpsc};
use std::time::{Duration, Instant};

fn small() -> Options {
    Options { memtable_bytes: Some(32 << 10), memory_budget_bytes: 4 << 20, ..Options::default() }
}

fn open(vfs: &Arc<dyn Vfs>, options: Options, background: Background) -> Engine {
    Engine::builder("data").options(options).vfs(Arc::clone(vfs)).background(background).open().unwrap()
}

fn faulty() -> (Arc<MemVfs>, Arc<FaultVfs>, Arc<dyn Vfs>) {
    let memory = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    (memory, Arc::clone(&faults), faults as Arc<dyn Vfs>)
}

/// The same without maps: the log is written by `write(2)`, which can fail.
fn faulty_by_write() -> (Arc<MemVfs>, Arc<FaultVfs>, Arc<dyn Vfs>) {
    let memory = MemVfs::new().with_maps(false).with_clock(Arc::new(SystemClock::new()));
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    (memory, Arc::clone(&faults), faults as Arc<dyn Vfs>)
}

/// The result of `work`, which must come to an end.
fn within<T: Send + 'static>(limit: Duration, work: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(work()));
    receiver.recv_timeout(limit).expect("it should have ended, and hangs")
}

const LONG: Duration = Duration::from_secs(30);

fn wals(vfs: &dyn Vfs) -> Vec<String> {
    let mut logs = vfs.list(Path::new("data")).unwrap();
    logs.retain(|name| name.ends_with(".wal"));
    logs
}

/// A log's file is made ahead without the commit lock. If a writer needed a new log meanwhile, it made its own, with a higher number, and the process might die before
/// the first file, all zeros, was removed again. Recovery took that file for the end of the line and set the newer log aside, with all that was acknowledged in it.
#[test]
fn a_log_made_ahead_and_overtaken_hides_nothing_behind_it() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = Options { flush_on_close: false, ..small() };
    let engine = open(&vfs, options.clone(), Background::Manual);
    let ahead = wals(&*vfs);
    // Files of one number line: the log that is being written, then a gap where the overtaken one goes, then the next.
    engine.keyspace("other", KeyspaceOptions::default()).unwrap().put("pins the oldest log", "1").unwrap();
    for i in 0..600u32 {
        engine.put(format!("key{i:06}"), [7; 100]).unwrap();
        engine.step().unwrap();
    }
    let logs = wals(&*vfs);
    assert!(logs.len() >= 2, "{logs:?}");
    assert_eq!(logs[0], ahead[0], "the oldest is still needed");
    let number = |name: &str| name.trim_end_matches(".wal").parse::<u64>().unwrap();
    let between = (number(&logs[0]) + 1..number(&logs[1])).next().expect("tables took numbers between the logs");
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(esker::vfs::CrashPolicy::All));
    let mut overtaken = image.create_new(&PathBuf::from(format!("data/{between:06}.wal"))).unwrap();
    overtaken.preallocate(4096).unwrap();
    drop(overtaken);

    let again = open(&image, options, Background::Manual);
    for i in 0..600u32 {
        assert!(again.contains_key(format!("key{i:06}")).unwrap(), "key{i:06}");
    }
}

/// That the oldest log was missing was only noticed if no log was there at all; beside one made ahead, its records were silently gone.
#[test]
fn the_oldest_log_is_missed_beside_one_that_was_never_begun() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let engine = open(&vfs, small(), Background::Manual);
    engine.put_with("k", "v", &WriteOptions::sync()).unwrap();
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(esker::vfs::CrashPolicy::All));
    let log = wals(&*image).pop().unwrap();
    image.remove_file(&Path::new("data").join(log)).unwrap();
    image.create_new(Path::new("data/000900.wal")).unwrap().preallocate(4096).unwrap();
    let refused = Engine::builder("data").options(small()).vfs(image).open().unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Corruption, "{refused}");
}

/// While one memtable was being flushed another was sealed, and then writing stopped: the flushing thread took the one that waited for work to do, found that it must not,
/// and looked again at once, for ever.
#[test]
fn a_stopped_engine_does_not_spin() {
    let (memory, faults, vfs) = faulty();
    let engine = open(&vfs, small(), Background::Threads);
    faults.add(Rule::new(Operation::CreateNew, Fault::Delay(Duration::from_millis(400))).path("*.sst.tmp"));
    for i in 0..1200u32 {
        engine.put(format!("key{i:06}"), [7; 100]).unwrap();
    }
    // Too little space to resume by itself.
    memory.set_space(Some(memory.used_bytes() + (1 << 20)));
    faults.add(Rule::new(Operation::Sync, Fault::ENOSPC).path("*.wal").times(1));
    engine.put_with("k", "v", &WriteOptions::sync()).unwrap_err();
    assert!(engine.metrics().keyspaces[0].sealed_memtables > 0, "one waits");
    std::thread::sleep(Duration::from_millis(1500));
    let before = faults.count(Operation::FreeSpace);
    std::thread::sleep(Duration::from_millis(500));
    let looks = faults.count(Operation::FreeSpace) - before;
    assert!(looks < 100, "it looked for space {looks} times in half a second");
}

/// File numbers are reserved in the manifest, a thousand at a time. If that write failed, writing went on over a manifest that could not be written any more, and `resume`
/// found nothing to mend; it would have needed new numbers anyway.
#[test]
fn a_manifest_that_fails_while_it_reserves_numbers_stops_writing_until_resume() {
    let (_, faults, vfs) = faulty();
    let engine = open(&vfs, small(), Background::Manual);
    engine.put("k", "v").unwrap();
    // Each failed flush uses up a number.
    faults.add(Rule::new(Operation::CreateNew, Fault::EIO).path("*.sst.tmp"));
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*MANIFEST*").times(1));
    for _ in 0..2000 {
        engine.flush().unwrap_err();
    }
    faults.clear();
    assert_eq!(engine.put("later", "1").unwrap_err().kind(), ErrorKind::ReadOnly);
    engine.resume().unwrap();
    engine.put("k2", "v").unwrap();
    engine.flush().unwrap();
    drop(engine);
    let engine = open(&vfs, small(), Background::Manual);
    assert_eq!(engine.get("k").unwrap().unwrap(), b"v");
    assert_eq!(engine.get("k2").unwrap().unwrap(), b"v");
}

/// An engine whose listener holds a handle to it, put there later.
fn listening(
    vfs: Arc<dyn Vfs>,
    background: Background,
    hear: impl Fn(&Engine, &Event) + Send + Sync + 'static,
) -> (Engine, Arc<OnceLock<Engine>>) {
    let handle: Arc<OnceLock<Engine>> = Arc::default();
    let inside = Arc::clone(&handle);
    let listener = move |event: &Event| {
        if let Some(engine) = inside.get() {
            hear(engine, event);
        }
    };
    let builder = Engine::builder("data").options(small()).vfs(vfs).background(background);
    let engine = builder.listener(listener).open().unwrap();
    assert!(handle.set(engine.clone()).is_ok());
    (engine, handle)
}

/// The listener was told that writing had stopped while the commit lock was held, so that asking for metrics, or to resume, hung.
#[test]
fn a_listener_may_call_the_engine_when_writing_stops() {
    within(LONG, || {
        let (_, faults, vfs) = faulty_by_write();
        let (engine, _handle) = listening(vfs, Background::Manual, |engine, event| {
            if let Event::WritingStopped(_) = event {
                assert!(engine.metrics().writing_stopped.is_some());
                engine.resume().unwrap();
            }
        });
        engine.put("a", "1").unwrap();
        faults.add(Rule::new(Operation::Append, Fault::EIO).path("*.wal").times(1));
        engine.put("b", "1").unwrap_err();
        engine.put("c", "1").expect("the listener has resumed");
        engine.close().unwrap();
    });
}

/// The listener was told of a flush in the middle of it. One that flushed or compacted then waited for itself.
#[test]
fn a_listener_may_flush_and_compact() {
    within(LONG, || {
        let (_, _, vfs) = faulty();
        let again = AtomicBool::new(true);
        let (engine, _handle) = listening(vfs, Background::Threads, move |engine, event| {
            if matches!(event, Event::Flushed { .. } | Event::Compacted { .. }) && again.swap(false, Ordering::Relaxed)
            {
                engine.put("from the listener", "1").unwrap();
                engine.flush().unwrap();
                engine.compact_range(..).unwrap();
            }
        });
        engine.put("a", "1").unwrap();
        engine.flush().unwrap();
        while engine.get("from the listener").unwrap().is_none() {
            std::thread::sleep(Duration::from_millis(5));
        }
        engine.close().unwrap();
    });
}

/// A listener closed the engine on one of its own threads while its owner did: each waited for the other.
#[test]
fn a_listener_may_close_while_another_closes() {
    within(LONG, || {
        for round in 0..20 {
            let (_, _, vfs) = faulty();
            let (engine, handle) = listening(vfs.clone(), Background::Threads, |engine, event| {
                if let Event::Flushed { .. } = event {
                    let _ = engine.close();
                }
            });
            for i in 0..300 + round * 10 {
                if engine.put(format!("{i}"), [1; 200]).is_err() {
                    break;
                }
            }
            engine.close().unwrap();
            engine.close().unwrap();
            drop((engine, handle));
            open(&vfs, small(), Background::Manual).close().unwrap();
        }
    });
}

/// A listener that panicked took the flushing thread with it, and writers waited for it for ever.
#[test]
fn a_listener_that_panics_does_no_harm() {
    within(LONG, || {
        let (_, _, vfs) = faulty();
        let (engine, _handle) = listening(vfs, Background::Threads, |_, event| {
            if let Event::Flushed { .. } = event {
                panic!("the listener fails, as this test wants it to");
            }
        });
        for i in 0..60_000u32 {
            engine.put(format!("key{i:06}"), [7; 100]).unwrap();
        }
        engine.close().unwrap();
    });
}

/// Threads whose sync had failed, but who came to say so only after another had resumed, stopped the new log, with which all was well.
#[test]
fn a_late_failure_of_an_old_log_does_not_stop_the_new_one() {
    within(LONG, || {
        for _ in 0..30 {
            let (_, faults, vfs) = faulty();
            let engine = open(&vfs, small(), Background::Threads);
            faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
            let writers: Vec<_> = (0..8)
                .map(|i| {
                    let engine = engine.clone();
                    std::thread::spawn(move || engine.put_with(format!("{i}"), "1", &WriteOptions::sync()).is_err())
                })
                .collect();
            while engine.metrics().writing_stopped.is_none() {
                std::thread::yield_now();
            }
            engine.resume().unwrap();
            // Some wrote before it failed, some were told, some came after.
            let _ = writers.into_iter().map(|writer| writer.join().unwrap()).filter(|failed| *failed).count();
            engine.put("after", "1").unwrap();
        }
    });
}

/// A write that must not wait was refused only if others had left a debt; with none before it, it slept for what its own bytes cost.
#[test]
fn a_write_that_must_not_wait_does_not_sleep_for_its_own_bytes() {
    let (_, faults, vfs) = faulty();
    let compaction = LeveledOptions { l0_trigger: 3, l0_slowdown: 3, l0_stop: 4, ..LeveledOptions::default() };
    let engine = open(&vfs, Options { compaction, ..Options::default() }, Background::Threads);
    // The fourth table is the compaction's, which is held back.
    let held = Rule::new(Operation::CreateNew, Fault::Delay(Duration::from_secs(2))).path("*.sst.tmp").from_nth(4);
    faults.add(held);
    for i in 0..3 {
        engine.put("k", format!("{i}")).unwrap();
        engine.flush().unwrap();
    }
    assert_eq!(engine.metrics().keyspaces[0].levels[0].tables, 3);
    let begin = Instant::now();
    let waited = engine.metrics().stall_time;
    engine.put_with("large", vec![1; 8 << 20], &WriteOptions { no_stall: true, ..Default::default() }).unwrap();
    assert_eq!(engine.metrics().stall_time, waited, "took {:?}", begin.elapsed());
}

/// A table that did not read back as it was written took the place of the memtable all the same, and went into quarantine with the only copy.
#[test]
fn a_table_that_does_not_read_back_does_not_replace_its_memtable() {
    let (_, faults, vfs) = faulty();
    let options = Options { read_mode: esker::ReadMode::Pread, ..small() };
    let engine = open(&vfs, options, Background::Manual);
    engine.put("k", "v").unwrap();
    faults.add(Rule::new(Operation::Read, Fault::FlipBit).path("*.sst").times(1));
    assert_eq!(engine.flush().unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(engine.get("k").unwrap().unwrap(), b"v");
    assert!(engine.metrics().quarantined_tables.is_empty());
    engine.flush().unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"v");
}

/// With the disk full and the memory too, deletions were refused like everything else, though they are what makes room.
#[test]
fn deletions_are_taken_when_disk_and_memory_are_full() {
    within(LONG, || {
        let (_, faults, vfs) = faulty();
        let engine = open(&vfs, small(), Background::Threads);
        faults.add(Rule::new(Operation::CreateNew, Fault::ENOSPC).path("*.sst.tmp"));
        let mut refused = 0;
        for i in 0.. {
            match engine.put(format!("key{i:06}"), [7; 1000]) {
                Ok(()) => refused = 0,
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::NoSpace, "{error}");
                    refused += 1;
                }
            }
            if refused > 3 {
                break;
            }
        }
        for i in 0..100 {
            engine.delete(format!("key{i:06}")).unwrap();
        }
        assert_eq!(engine.put("k", "v").unwrap_err().kind(), ErrorKind::NoSpace);
    });
}

/// A memtable larger than the budget for all of them was never flushed: it was taken for next to nothing.
#[test]
fn a_memtable_larger_than_the_budget_keeps_to_the_budget() {
    let (_, _, vfs) = faulty();
    let options = Options { memtable_bytes: Some(64 << 20), memory_budget_bytes: 4 << 20, ..Options::default() };
    let engine = open(&vfs, options, Background::Threads);
    for i in 0..12_000u32 {
        engine.put(format!("key{i:06}"), [7; 1000]).unwrap();
        let held = engine.metrics().memtable_bytes;
        assert!(held < 5 << 20, "{held} bytes of memtables, even if an arena has just grown");
    }
}

/// Compaction goes around damaged tables, and where there is no way around, L0 filled up and writers waited for ever.
#[test]
fn writers_are_told_when_a_damaged_table_blocks_compaction() {
    let (memory, _, vfs) = faulty();
    let compaction = LeveledOptions { l0_trigger: 2, l0_slowdown: 2, l0_stop: 3, ..LeveledOptions::default() };
    let options = Options { compaction, read_mode: esker::ReadMode::Pread, ..small() };
    let engine = open(&vfs, options, Background::Threads);
    let mut batch = WriteBatch::new();
    batch.put("a", [1; 3000]).put("z", [1; 3000]);
    engine.write(&batch).unwrap();
    engine.flush().unwrap();
    let table = vfs.list(Path::new("data")).unwrap().into_iter().find(|name| name.ends_with(".sst")).unwrap();
    memory.edit(&Path::new("data").join(table), |bytes| bytes[1000] ^= 1).unwrap();
    assert!(!engine.verify().unwrap().is_ok());
    for _ in 0..2 {
        engine.write(&batch).unwrap();
        engine.flush().unwrap();
    }
    let told = within(LONG, move || engine.put("k", "v"));
    assert_eq!(told.unwrap_err().kind(), ErrorKind::Corruption);
}

/// After a write to the log had failed, `resume` gave its sequence numbers to the next batch, though the old log might hold them.
#[test]
fn the_numbers_of_a_failed_write_are_not_given_out_again() {
    let (_, faults, vfs) = faulty_by_write();
    let engine = open(&vfs, small(), Background::Manual);
    engine.put("a", "1").unwrap();
    let before = engine.metrics().last_seq;
    faults.add(Rule::new(Operation::Append, Fault::DONE).path("*.wal").times(1));
    assert!(engine.put("b", "1").unwrap_err().outcome_unknown());
    engine.resume().unwrap();
    engine.put("c", "1").unwrap();
    assert_eq!(engine.metrics().last_seq, before + 2);
}

/// Every attempt to resume left behind the tables it had written before it failed, on a disk that might be full.
#[test]
fn a_resume_that_fails_leaves_no_tables_behind() {
    let (_, faults, vfs) = faulty();
    let engine = open(&vfs, small(), Background::Manual);
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    engine.put("a", "1").unwrap();
    other.put("a", "1").unwrap();
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal").times(1));
    engine.sync().unwrap_err();
    for (operation, what, skipped) in [(Operation::CreateNew, "*.sst.tmp", 1), (Operation::CreateLog, "*.wal", 0)] {
        faults.add(Rule::new(operation, Fault::ENOSPC).path(what).from_nth(skipped + 1));
        engine.resume().unwrap_err();
        faults.clear();
        let left: Vec<_> = vfs.list(Path::new("data")).unwrap();
        assert!(!left.iter().any(|name| name.contains(".sst")), "{left:?}");
    }
    engine.resume().unwrap();
    assert_eq!(other.get("a").unwrap().unwrap(), b"1");
}

/// A cursor moved on to the newest state of a keyspace that was no longer there.
#[test]
fn a_cursor_is_not_refreshed_into_a_dropped_keyspace() {
    let (_, _, vfs) = faulty();
    let engine = open(&vfs, small(), Background::Manual);
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    users.put("k", "v").unwrap();
    let mut cursor = users.cursor();
    cursor.seek_to_first().unwrap();
    engine.drop_keyspace("users").unwrap();
    assert_eq!(cursor.refresh().unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(cursor.key(), b"k", "it stays whole");
}

#[test]
fn a_reader_tells_what_recovery_left_out() {
    // A log broken where nothing vouches was cut short in silence for those who only read: no event, no figure, and `logs: 0`.
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).open().unwrap();
    for i in 0..1000u32 {
        engine.put(i.to_be_bytes(), [7; 50]).unwrap();
    }
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    drop(engine);
    let whole = Engine::builder(copy.path()).read_only(true).open().unwrap();
    assert_eq!((whole.iter().count(), whole.metrics().logs), (1000, 1));
    assert!(whole.metrics().log_bytes > 50_000 && whole.metrics().written_bytes > 50_000, "{:?}", whole.metrics());
    assert!(whole.metrics().left_out_of_recovery.is_empty());
    drop(whole);

    let paths = std::fs::read_dir(copy.path()).unwrap().map(|entry| entry.unwrap().path());
    let log = paths.filter(|path| path.extension().is_some_and(|e| e == "wal")).max().unwrap();
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[40_000] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let cut = Engine::builder(copy.path()).read_only(true).open().unwrap();
    assert!(cut.iter().count() < 1000);
    let left_out = cut.metrics().left_out_of_recovery;
    let name = log.file_name().unwrap().to_str().unwrap();
    assert!(left_out.len() == 1 && left_out[0].starts_with(name) && left_out[0].contains("checksum"), "{left_out:?}");
}

/// A listener that wrote waited on the engine's own thread for room that only this thread could make, or for an exclusive transaction that waited for the same, and all writers waited with it, for good.
/// One with a lock of its own was called anew within its write, and waited for itself.
#[test]
fn a_listener_that_writes_waits_for_nothing_that_it_keeps_from_being_done() {
    for is_exclusive in [false, true] {
        let compaction = LeveledOptions { l0_trigger: 2, l0_slowdown: 3, l0_stop: 4, ..LeveledOptions::default() };
        let memtable_bytes = Some(32 << 10);
        let options = Options { memtable_bytes, memory_budget_bytes: 4 << 20, compaction, ..Options::default() };
        let own: Arc<OnceLock<Weak<Engine>>> = Arc::default();
        let refused = Arc::new(Mutex::new(Vec::new()));
        let (slot, counted) = (Arc::clone(&own), Arc::clone(&refused));
        let heard = Mutex::new(0);
        let listener = move |event: &Event| {
            let mut heard = heard.lock().unwrap();
            *heard += 1;
            let name = match event {
                Event::Flushed { .. } => "flushes",
                Event::Compacted { .. } => "compactions",
                _ => return,
            };
            let Some(engine) = slot.get().and_then(Weak::upgrade) else { return };
            if let Err(error) = engine.put(name, "one more") {
                counted.lock().unwrap().push(error);
            }
        };
        let memory = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
        let builder = Engine::builder("data").vfs(memory).options(options).listener(listener);
        let engine = Arc::new(builder.open().unwrap());
        own.set(Arc::downgrade(&engine)).unwrap();
        let (done, all_done) = mpsc::channel();
        for thread in 0..3 {
            let (engine, done) = (Arc::clone(&engine), done.clone());
            std::thread::spawn(move || {
                for n in 0..3_000 {
                    let key = format!("{thread} {n}");
                    if is_exclusive {
                        let mut tx = engine.exclusive();
                        tx.put(key, [7; 1000]).unwrap();
                        tx.commit().unwrap();
                    } else {
                        engine.put(key, [7; 1000]).unwrap();
                    }
                }
                done.send(()).unwrap();
            });
        }
        for _ in 0..3 {
            let ended = all_done.recv_timeout(Duration::from_secs(120));
            ended.unwrap_or_else(|error| panic!("exclusive {is_exclusive}: nobody writes any more: {error}"));
        }
        let refused = refused.lock().unwrap();
        assert!(refused.iter().all(|error| error.kind() == ErrorKind::Stalled), "{refused:?}");
    }
}
