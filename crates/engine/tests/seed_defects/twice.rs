//! Defects 19 to 25: done twice, or without bound.

use super::*;
use esker::vfs::{Fault, FaultVfs, Operation, Rule};
use esker::{ErrorKind, Event, KeyspaceOptions};
use std::sync::Mutex;

/// What was flushed: of each table the keyspace and how many entries.
type Flushed = Arc<Mutex<Vec<(String, u64)>>>;

fn open_and_hear<V: Vfs>(vfs: &Arc<V>, background: Background) -> (Engine, Flushed) {
    let flushed = Flushed::default();
    let listener = {
        let flushed = Arc::clone(&flushed);
        move |event: &Event| {
            if let Event::Flushed { keyspace, entries, .. } = event {
                flushed.lock().unwrap().push((keyspace.clone(), *entries));
            }
        }
    };
    let vfs = Arc::clone(vfs);
    let builder = Engine::builder(DIR).options(small()).vfs(vfs).background(background).listener(listener);
    (builder.open().unwrap(), flushed)
}

#[test]
fn d19_each_memtable_is_flushed_once() {
    // Two threads each flushed every memtable.
    let memory = MemVfs::new().with_clock(Arc::new(SystemClock::new()));
    let (engine, flushed) = open_and_hear(&memory, Background::Threads);
    for round in 0..20 {
        for i in 0..400 {
            engine.put(format!("{round:03}{i:05}"), [b'v'; 100]).unwrap();
        }
        let flushes: Vec<_> = (0..3)
            .map(|_| {
                let engine = engine.clone();
                std::thread::spawn(move || engine.flush().unwrap())
            })
            .collect();
        flushes.into_iter().for_each(|flush| flush.join().unwrap());
    }
    let entries: u64 = flushed.lock().unwrap().iter().map(|(_, entries)| entries).sum();
    assert_eq!(entries, 20 * 400, "every entry went into one table of L0, once");
}

#[test]
fn d20_without_cause_nothing_is_flushed() {
    // A signal left over had the active memtable flushed while it was written to, and again, and again.
    let memory = MemVfs::new();
    let (engine, flushed) = open_and_hear(&memory, Background::Manual);
    seal_one(&engine, "k");
    work(&engine);
    assert_eq!(flushed.lock().unwrap().len(), 1);
    for i in 1..=50 {
        engine.put(format!("active{i:02}"), "1").unwrap();
        let _ = engine.step().unwrap();
        // One key was in it when the other memtable was sealed.
        assert_eq!(engine.metrics().keyspaces[0].active_entries, i + 1);
    }
    assert_eq!(flushed.lock().unwrap().len(), 1, "the active memtable is left alone until it is full or old");
    engine.flush().unwrap();
    engine.flush().unwrap();
    assert_eq!(flushed.lock().unwrap().len(), 2, "and where nothing is, nothing is written");
}

#[test]
fn d21_after_an_error_only_the_rest_is_flushed() {
    // An error in the middle of a flush of several memtables had those flushed again that were done.
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let (engine, flushed) = open_and_hear(&faults, Background::Manual);
    for (name, keys) in [("a", 3), ("b", 5), ("c", 7)] {
        let keyspace = engine.keyspace(name, KeyspaceOptions::default()).unwrap();
        for i in 0..keys {
            keyspace.put(format!("{i}"), "1").unwrap();
        }
    }
    faults.add(Rule::new(Operation::CreateNew, Fault::EIO).path("*.sst.tmp").nth(2));
    assert_eq!(engine.flush().unwrap_err().kind(), ErrorKind::Io);
    assert_eq!(*flushed.lock().unwrap(), [("a".into(), 3)]);
    engine.flush().unwrap();
    assert_eq!(*flushed.lock().unwrap(), [("a".into(), 3), ("b".into(), 5), ("c".into(), 7)]);
    assert_eq!(names(&memory, ".sst").len(), 3);
}

#[test]
fn d22_flushed_memtables_leave_the_memory() {
    // Memtables stayed in memory after their flush.
    let memory = MemVfs::new();
    let engine = try_open(&memory, Options { memory_budget_bytes: 64 << 20, ..Options::default() }).unwrap();
    for round in 0..3 {
        for i in 0..2000 {
            engine.put(format!("{round}{i:05}"), [b'v'; 1000]).unwrap();
        }
        assert!(engine.metrics().memtable_bytes > 2 << 20);
        engine.flush().unwrap();
        assert!(engine.metrics().memtable_bytes < 1 << 10, "{} bytes", engine.metrics().memtable_bytes);
    }
    assert_eq!(engine.iter().count(), 6000);
}

#[test]
fn d23_old_logs_are_removed() {
    // No log was ever removed, and each open added one.
    let mut memory = MemVfs::new();
    for round in 0..8 {
        let engine = open(&memory);
        // What a crash left stays in its logs until it is flushed.
        engine.flush().unwrap();
        work(&engine);
        assert!(names(&memory, ".wal").len() <= 1, "after opening: {:?}", names(&memory, ".wal"));
        for _ in 0..4 {
            seal_one(&engine, "k");
        }
        assert!(names(&memory, ".wal").len() >= 4, "it takes several logs");
        work(&engine);
        // The one being written, and the next, made ahead.
        assert!(names(&memory, ".wal").len() <= 2, "after a flush: {:?}", names(&memory, ".wal"));
        seal_one(&engine, "k");
        match round % 3 {
            0 => engine.close().unwrap(),
            1 => drop(engine),
            _ => memory = killed(&memory),
        }
    }
    open(&memory).close().unwrap();
    assert_eq!(names(&memory, ".wal"), [""; 0]);
}

#[test]
fn d24_writers_wait_for_room() {
    // The limit on memtables was not enforced: writers never waited, and memory grew.
    const BUDGET: usize = 1 << 20;
    let options = Options { memtable_bytes: Some(64 << 10), memory_budget_bytes: BUDGET, ..Options::default() };
    let put = |engine: &Engine, i: u32| engine.put(i.to_be_bytes(), [b'v'; 1000]);

    // By hand there is nobody to wait for, so the write is refused.
    let engine = try_open(&MemVfs::new(), options.clone()).unwrap();
    let refused = (0..10_000).find_map(|i| put(&engine, i).err().map(|error| (i, error)));
    let (taken, error) = refused.expect("a limit");
    assert_eq!(error.kind(), ErrorKind::Stalled);
    assert!(engine.metrics().memtable_bytes <= BUDGET && engine.metrics().stalls > 0);
    work(&engine);
    put(&engine, taken).unwrap();
    assert_eq!(engine.iter().count(), taken as usize + 1);

    // With threads, of which the gate holds the one that flushes, it waits.
    let gate = Gate::new();
    let memory = MemVfs::new().with_clock(Arc::clone(&gate) as Arc<dyn Clock>);
    let faults = FaultVfs::new(memory);
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = Engine::builder(DIR).options(options).vfs(vfs).open().unwrap();
    faults.add(Rule::new(Operation::CreateNew, Fault::Delay(Duration::from_secs(1))).path("*.sst.tmp"));
    gate.shut();
    let written = Arc::new(AtomicUsize::new(0));
    let writer = {
        let (engine, written) = (engine.clone(), Arc::clone(&written));
        std::thread::spawn(move || {
            for i in 0..3000 {
                put(&engine, i).unwrap();
                written.fetch_add(1, Ordering::SeqCst);
            }
        })
    };
    until("the writer waits", || {
        let before = written.load(Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(50));
        before > 0 && before == written.load(Ordering::SeqCst)
    });
    assert!(written.load(Ordering::SeqCst) < 3000, "it went on without room");
    assert!(engine.metrics().memtable_bytes <= BUDGET);
    gate.open();
    writer.join().unwrap();
    assert!(engine.metrics().stalls > 0);
    assert_eq!(engine.iter().count(), 3000);
}

#[test]
fn d25_left_over_files_are_swept() {
    // Temporary files of interrupted flushes lay there for ever.
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let engine = open(&faults);
    engine.put("k", "1").unwrap();
    faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.sst.tmp").times(1));
    faults.add(Rule::new(Operation::RemoveFile, Fault::EIO).times(2));
    engine.flush().unwrap_err();
    assert_eq!(names(&memory, ".sst.tmp").len(), 1, "it is there to be swept");
    let memory = killed(&memory);
    for stray in ["CURRENT.tmp", "000777.sst", "000778.sst.tmp"] {
        memory.create_new(&Path::new(DIR).join(stray)).unwrap();
    }
    for ours_not in ["notes.tmp", "data.sst", "777.wal"] {
        memory.create_new(&Path::new(DIR).join(ours_not)).unwrap();
    }
    let engine = open(&memory);
    let left = names(&memory, "");
    for stray in [".sst.tmp", "CURRENT.tmp", "000777.sst"] {
        assert!(!left.iter().any(|name| name.ends_with(stray)), "{stray} in {left:?}");
    }
    for ours_not in ["notes.tmp", "data.sst", "777.wal"] {
        assert!(left.iter().any(|name| name == ours_not), "{ours_not} in {left:?}");
    }
    assert_eq!(scan(&engine), ["k=1"]);
}
