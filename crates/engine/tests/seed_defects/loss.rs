//! Defects 1 to 12: loss and resurrection.

use super::*;
use esker::vfs::{Fault, FaultVfs, ManualClock, Operation, Rule, TraceVfs};
use esker::{Durability, ErrorKind, Event, WriteOptions};
use std::process::Command;
use std::sync::Mutex;

#[test]
fn d01_the_log_is_replayed() {
    // The log was written and never read: what had not been flushed was gone, after a clean close too.
    let memory = MemVfs::new();
    let engine = open(&memory);
    engine.put("kept", "1").unwrap();
    engine.put("deleted", "1").unwrap();
    engine.delete("deleted").unwrap();
    assert_eq!(names(&memory, ".sst"), [""; 0], "only the log has it");
    assert_eq!(scan(&open(&killed(&memory))), ["kept=1"]);
    drop(engine);

    let unflushed = Options { flush_on_close: false, ..small() };
    let engine = try_open(&memory, unflushed).unwrap();
    engine.put("later", "2").unwrap();
    engine.close().unwrap();
    assert!(!names(&memory, ".wal").is_empty());
    assert_eq!(scan(&open(&memory)), ["kept=1", "later=2"]);
}

#[test]
fn d02_close_flushes() {
    // Close left the memtable where it was; as the log was not replayed, that lost it.
    let memory = MemVfs::new();
    let engine = open(&memory);
    engine.put("k", "1").unwrap();
    engine.close().unwrap();
    assert_eq!(names(&memory, ".sst").len(), 1, "it is in a table");
    assert_eq!(names(&memory, ".wal"), [""; 0], "so no log is needed");
    assert_eq!(scan(&open(&power_cut(&memory))), ["k=1"], "and the table is on stable storage");
}

#[test]
fn d03_a_flush_keeps_tombstones() {
    // Flush left tombstones out, and the value in the older table came back.
    let memory = MemVfs::new();
    let engine = open(&memory);
    engine.put("k", "old").unwrap();
    engine.flush().unwrap();
    engine.delete("k").unwrap();
    engine.flush().unwrap();
    assert_eq!(l0(&engine).deletions, 1);
    assert_eq!((get(&engine, "k"), scan(&engine).len()), (None, 0));
    drop(engine);
    let engine = open(&memory);
    assert_eq!((get(&engine, "k"), scan(&engine).len()), (None, 0));
    engine.compact_range(..).unwrap();
    assert_eq!((get(&engine, "k"), scan(&engine).len()), (None, 0), "nor does compaction bring it back");
}

#[test]
fn d04_a_put_and_a_delete_in_one_memtable_are_flushed_as_the_delete() {
    // Flush skipped the tombstone as such and went on to write the version below it.
    let memory = MemVfs::new();
    let engine = open(&memory);
    engine.put("below", "0").unwrap();
    engine.flush().unwrap();
    for key in ["below", "alone"] {
        engine.put(key, "1").unwrap();
        engine.delete(key).unwrap();
    }
    engine.flush().unwrap();
    assert_eq!((get(&engine, "below"), get(&engine, "alone"), scan(&engine).len()), (None, None, 0));
    drop(engine);
    assert_eq!(scan(&open(&memory)).len(), 0);
}

#[test]
fn d05_a_memtable_of_tombstones_alone_is_flushed() {
    // A memtable of deletions counted as flushed though nothing had been written.
    let memory = MemVfs::new();
    let engine = open(&memory);
    for key in ["a", "b", "c"] {
        engine.put(key, "1").unwrap();
    }
    engine.flush().unwrap();
    for key in ["a", "c"] {
        engine.delete(key).unwrap();
    }
    engine.flush().unwrap();
    assert_eq!((l0(&engine).tables, l0(&engine).deletions), (2, 2));
    assert_eq!(engine.metrics().keyspaces[0].active_entries, 0);
    assert_eq!(scan(&engine), ["b=1"]);
    drop(engine);
    assert_eq!(scan(&open(&memory)), ["b=1"]);
}

#[test]
fn d06_a_key_overwritten_in_one_memtable_is_flushed() {
    // A second version of a key made the flush fail, or came out twice at a block's boundary.
    let memory = MemVfs::new();
    let engine = try_open(&memory, Options { block_size_bytes: 64, ..small() }).unwrap();
    let mut snapshots = Vec::new();
    for i in 0..200 {
        engine.put("again", format!("{i:040}")).unwrap();
        engine.put(format!("once{i:03}"), "1").unwrap();
        if i % 10 == 0 {
            snapshots.push((i, engine.snapshot()));
        }
    }
    engine.flush().unwrap();
    assert_eq!(l0(&engine).entries, 200 + 21, "the newest version, and those that snapshots see");
    assert_eq!(get(&engine, "again"), Some(format!("{:040}", 199)));
    assert_eq!(scan(&engine).len(), 201, "each key once");
    for (i, snapshot) in &snapshots {
        assert_eq!(text(&snapshot.get("again").unwrap().unwrap()), format!("{i:040}"));
        assert_eq!(snapshot.iter().count(), i + 2);
    }
    assert!(engine.verify().unwrap().is_ok());
    drop(snapshots);
    drop(engine);
    assert_eq!(scan(&open(&memory)).len(), 201);
}

#[test]
fn d07_flush_errors_are_shown_and_the_flush_is_tried_again() {
    // Errors of the background flush were thrown away, nothing tried again, and writers never heard of it.
    let clock = Arc::new(ManualClock::new());
    let faults = FaultVfs::new(MemVfs::new().with_clock(Arc::clone(&clock) as Arc<dyn Clock>));
    let heard = Arc::new(Mutex::new(Vec::new()));
    let listener = {
        let heard = Arc::clone(&heard);
        move |event: &Event| {
            if let Event::BackgroundError(error) = event {
                heard.lock().unwrap().push(error.kind());
            }
        }
    };
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = Engine::builder(DIR)
        .options(small())
        .vfs(vfs)
        .background(Background::Manual)
        .listener(listener)
        .open()
        .unwrap();
    let written = seal_one(&engine, "k");
    faults.add(Rule::new(Operation::CreateNew, Fault::EIO).path("*.sst.tmp").times(1));
    work(&engine);
    assert_eq!(l0(&engine).tables, 0, "the flush failed");
    assert_eq!(engine.metrics().background_errors, 1);
    assert_eq!(*heard.lock().unwrap(), [ErrorKind::Io]);
    assert_eq!(engine.put("x", "1").unwrap_err().kind(), ErrorKind::Io, "the next write hears of it");
    engine.put("x", "1").unwrap();

    clock.advance(Duration::from_secs(1));
    work(&engine);
    assert_eq!((l0(&engine).tables, engine.metrics().keyspaces[0].sealed_memtables), (1, 0), "tried again");
    assert_eq!(scan(&engine).len(), written + 1);
}

#[test]
fn d08_a_memtable_sealed_during_a_flush_is_kept() {
    // When a flush was done, the whole list of sealed memtables was cleared, with what had been added meanwhile.
    let gate = Gate::new();
    let memory = MemVfs::new().with_clock(Arc::clone(&gate) as Arc<dyn Clock>);
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let engine = open(&faults);
    faults.add(Rule::new(Operation::Sync, Fault::Delay(Duration::from_secs(1))).path("*.sst.tmp").times(1));
    let first = seal_one(&engine, "first");

    gate.shut();
    let flush = std::thread::spawn({
        let engine = engine.clone();
        move || engine.step().unwrap()
    });
    until("the flush writes its table", || gate.waiting() == 1);
    let second = seal_one(&engine, "second");
    let third = seal_one(&engine, "third");
    gate.open();
    assert!(flush.join().unwrap());

    assert_eq!((l0(&engine).tables, engine.metrics().keyspaces[0].sealed_memtables), (1, 2));
    assert_eq!(scan(&engine).len(), first + second + third);
    assert_eq!(scan(&open(&killed(&memory))).len(), first + second + third);
    work(&engine);
    drop(engine);
    assert_eq!(scan(&open(&memory)).len(), first + second + third);
}

#[test]
fn d09_a_table_that_cannot_be_opened_is_not_left_behind() {
    // Such a table lay on disk and in no list, and the retry wrote its contents a second time.
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let engine = open(&faults);
    engine.put("k", "1").unwrap();
    let fault = faults.add(Rule::new(Operation::OpenRead, Fault::EMFILE).path("*.sst"));
    engine.flush().unwrap_err();
    assert_eq!(faults.rules()[0].2, 1, "the table was written, and opening it failed");
    assert_eq!((names(&memory, ".sst"), names(&memory, ".tmp")), (vec![], vec![]));
    assert_eq!(scan(&engine), ["k=1"]);
    faults.remove(fault);
    engine.flush().unwrap();
    assert_eq!((names(&memory, ".sst").len(), l0(&engine).entries), (1, 1));
    assert_eq!(scan(&open(&power_cut(&memory))), ["k=1"]);
}

#[test]
fn d10_directories_are_synced() {
    // No directory was synced after a log, table or manifest was made or renamed: a power cut took the file with all in it.
    let memory = MemVfs::new();
    for round in 0..3 {
        let trace = TraceVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
        let engine = open(&trace);
        for table in 0..6 {
            seal_one(&engine, &format!("{round}{table}"));
            let key = format!("synced{round}{table}");
            engine.put_with(&key, "1", &WriteOptions::sync()).unwrap();
            trace.assert_synced_before("*.wal", trace.count());
            assert_eq!(get(&open(&power_cut(&memory)), &key).as_deref(), Some("1"), "{key}");
            work(&engine);
        }
        engine.compact_range(..).unwrap();
        engine.checkpoint(format!("copy{round}")).unwrap();
        work(&engine);
        check_order(&trace);
        // A log that is not needed becomes another.
        let (removed, renamed) = (Operation::RemoveFile, Operation::Rename);
        for (operation, gone) in [(removed, "data/*.sst"), (renamed, "data/*.wal"), (removed, "data/MANIFEST-*")] {
            let first_of_its_kind = round == 0 && gone == "data/MANIFEST-*";
            assert!(first_of_its_kind || !trace.find(operation, gone).is_empty(), "{gone}");
        }
    }
}

/// Nothing is relied on before it is durable, with its name.
fn check_order(trace: &TraceVfs) {
    // A manifest names tables that are durable, CURRENT such a manifest, and what is replaced goes only then.
    trace.assert_synced_at_each(Operation::Append, "data/MANIFEST-*", "data/*.sst");
    trace.assert_synced_at_each(Operation::Rename, "*CURRENT", "*MANIFEST-*");
    trace.assert_synced_at_each(Operation::Rename, "copy*CURRENT", "copy*.sst");
    trace.assert_synced_at_each(Operation::Rename, "*.wal", "data/MANIFEST-*");
    trace.assert_synced_at_each(Operation::Rename, "*.wal", "data/CURRENT");
    for gone in ["*.sst", "*.wal", "*MANIFEST-*"] {
        trace.assert_synced_at_each(Operation::RemoveFile, gone, "data/MANIFEST-*");
        trace.assert_synced_at_each(Operation::RemoveFile, gone, "data/CURRENT");
    }
    assert!(!trace.find(Operation::CreateLog, "data/*.wal").is_empty());
    for made in ["data/*.sst.tmp", "data/MANIFEST-*", "copy*"] {
        assert!(!trace.find(Operation::CreateNew, made).is_empty(), "{made}");
    }
    // A log's name is durable before anything is in it.
    let events = trace.events();
    for created in trace.find(Operation::CreateLog, "data/*.wal") {
        let log = &events[created].path;
        let behind = &events[created..];
        if let Some(begun) = behind.iter().position(|event| event.operation == Operation::Store && event.path == *log) {
            let synced = behind[..begun].iter().any(|event| event.operation == Operation::SyncDir);
            assert!(synced, "{} is written to before its name is durable", log.display());
        }
    }
}

#[test]
fn d11_acknowledged_writes_are_with_the_kernel() {
    // In the weaker modes what had been acknowledged lay in a buffer of the process: it died with it.
    const CHILD: &str = "ESKER_SEED_DEFECT_11";
    if let Some(dir) = std::env::var_os(CHILD) {
        let engine = Engine::open(dir).unwrap();
        for i in 0..1000 {
            let durability = if i % 2 == 0 { Durability::Memory } else { Durability::Os };
            engine.put_with(format!("{i}"), "1", &WriteOptions { durability, ..Default::default() }).unwrap();
        }
        std::process::abort();
    }
    let dir = tempfile::tempdir().unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "loss::d11_acknowledged_writes_are_with_the_kernel"])
        .env(CHILD, dir.path())
        .output()
        .unwrap();
    assert!(!child.status.success(), "it was to abort: {child:?}");
    let engine = Engine::open(dir.path()).unwrap();
    assert_eq!(scan(&engine).len(), 1000);

    let memory = MemVfs::new();
    let engine = open(&memory);
    for i in 0..20 {
        engine.put(format!("{i:02}"), "1").unwrap();
        assert_eq!(scan(&open(&killed(&memory))).len(), i + 1, "each as soon as it is acknowledged");
    }
}

#[test]
fn d12_a_torn_record_costs_only_itself() {
    // One torn record at the end of a log had all logs set aside, and the engine opened empty and without an error.
    // Appended, so that the last write is the record.
    let memory = MemVfs::new().with_maps(false);
    let engine = open(&memory);
    let written = seal_one(&engine, "k");
    engine.put("last", [b'v'; 1000]).unwrap();
    assert!(names(&memory, ".wal").len() >= 2);
    for keep_bytes in [0, 1, 23, 24, 25, 500, 1000] {
        let torn = Arc::new(memory.crash_now(CrashPolicy::Torn { keep_bytes }));
        let again = open(&torn);
        assert_eq!((get(&again, "last"), scan(&again).len()), (None, written), "{keep_bytes} bytes kept");
    }

    // Damage to what was durable is another matter: that is refused, and nothing is set aside.
    engine.sync().unwrap();
    engine.put_with("behind", "1", &WriteOptions::sync()).unwrap();
    let damaged = power_cut(&memory);
    let log = &names(&damaged, ".wal")[0];
    damaged.edit(&Path::new(DIR).join(log), |bytes| bytes[100] ^= 1).unwrap();
    let before = names(&damaged, "");
    let error = try_open(&damaged, small()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
    assert!(error.to_string().contains(log.as_str()), "{error}");
    assert_eq!(names(&damaged, ".wal"), before.into_iter().filter(|n| n.ends_with(".wal")).collect::<Vec<_>>());
}
