//! Defects 13 to 18: the wrong version is returned.

use super::*;
use esker::vfs::{Fault, FaultVfs, Operation, Rule};
use esker::{Slice, WriteBatch};
use esker_format::{FileKind, FileNo};
use esker_manifest::{Level, TableMeta, VersionSet};
use std::collections::BTreeSet;

/// The tables of L0 as the manifest has them, newest first.
fn l0_tables<V: Vfs>(vfs: &Arc<V>) -> Vec<Arc<TableMeta>> {
    let recovered = VersionSet::read(&**vfs, Path::new(DIR)).unwrap();
    recovered.version.keyspace_named("default").unwrap().level(Level(0)).to_vec()
}

#[test]
fn d13_sequence_numbers_go_on() {
    // They began at 1 after each open and each change of logs, so an older version could outrank a newer one.
    let mut memory = MemVfs::new();
    let mut last = 0;
    for round in 0..6 {
        let engine = open(&memory);
        for part in 0..3 {
            let value = format!("{round}.{part}");
            engine.put("k", &value).unwrap();
            let seq = engine.snapshot().seq();
            assert!(seq > last, "{seq} was given out before: {last}");
            assert_eq!(get(&engine, "k"), Some(value.clone()));
            seal_one(&engine, "filler");
            assert_eq!(get(&engine, "k"), Some(value.clone()), "after a change of logs");
            last = engine.snapshot().seq();
            if part == 1 {
                engine.flush().unwrap();
            }
        }
        assert_eq!(get(&engine, "k"), Some(format!("{round}.2")));
        if round % 2 == 0 {
            memory = killed(&memory);
        }
    }
    assert_eq!(get(&open(&memory), "k").as_deref(), Some("5.2"));
}

#[test]
fn d14_file_numbers_go_on() {
    // They began at 1 after each open, so new tables sorted below old ones, or took their names.
    let numbers = |memory: &Arc<MemVfs>| -> BTreeSet<FileNo> {
        let kinds = names(memory, "").into_iter().filter_map(|name| FileKind::parse(&name));
        kinds
            .filter(|kind| matches!(kind, FileKind::Table(_) | FileKind::Wal(_)))
            .filter_map(FileKind::number)
            .collect()
    };
    let mut memory = MemVfs::new();
    let mut seen = BTreeSet::new();
    for round in 0..8 {
        let before = seen.last().copied().unwrap_or(FileNo(0));
        let engine = open(&memory);
        for part in 0..2 {
            engine.put("k", format!("{round}.{part}")).unwrap();
            seal_one(&engine, "filler");
            engine.flush().unwrap();
            let new: BTreeSet<_> = numbers(&memory).difference(&seen).copied().collect();
            assert!(new.iter().all(|number| *number > before), "{new:?} after {before}");
            let tables = l0_tables(&memory);
            assert!(tables.is_sorted_by(|a, b| a.number > b.number), "the newest has the highest number");
        }
        seen.append(&mut numbers(&memory));
        assert_eq!(get(&engine, "k"), Some(format!("{round}.1")));
        if round % 2 == 0 {
            memory = killed(&memory);
        }
    }
}

#[test]
fn d15_age_is_not_told_from_names() {
    // Tables were ordered by the text of their names: 1000000 comes before 999999, and a level before the next.
    let memory = MemVfs::new();
    drop(open(&memory));
    // A log put aside: numbers go on above whatever is there.
    memory.create_new(&FileKind::WalAside(FileNo(999_996)).path(Path::new(DIR))).unwrap();
    let engine = open(&memory);
    for value in 0..8 {
        engine.put("k", value.to_string()).unwrap();
        engine.flush().unwrap();
        assert_eq!(get(&engine, "k"), Some(value.to_string()));
    }
    let tables = names(&memory, ".sst");
    assert!(tables.iter().any(|name| name.len() == 10) && tables.iter().any(|name| name.len() == 11), "{tables:?}");
    assert_eq!(scan(&engine), ["k=7"]);
    drop(engine);
    let engine = open(&memory);
    assert_eq!(scan(&engine), ["k=7"]);
    engine.compact_range(..).unwrap();
    engine.put("k", "8").unwrap();
    engine.flush().unwrap();
    assert_eq!(scan(&engine), ["k=8"], "a table of L0 is newer than one below it");
}

#[test]
fn d16_tables_come_in_by_age() {
    // Flushes ran at once, and tables came into the list in the order in which they were done.
    let gate = Gate::new();
    let memory = MemVfs::new().with_clock(Arc::clone(&gate) as Arc<dyn Clock>);
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let engine = open(&faults);
    faults.add(Rule::new(Operation::Sync, Fault::Delay(Duration::from_secs(1))).path("*.sst.tmp").times(1));
    let flush = |engine: &Engine| {
        let engine = engine.clone();
        std::thread::spawn(move || engine.flush().unwrap())
    };
    engine.put("k", "older").unwrap();
    gate.shut();
    let slow = flush(&engine);
    until("the first flush writes its table", || gate.waiting() == 1);
    engine.put("k", "newer").unwrap();
    let fast = flush(&engine);
    std::thread::sleep(Duration::from_millis(50));
    assert_eq!(get(&engine, "k").as_deref(), Some("newer"));
    gate.open();
    slow.join().unwrap();
    fast.join().unwrap();

    assert_eq!(scan(&engine), ["k=newer"]);
    let tables = l0_tables(&memory);
    assert_eq!(tables.len(), 2);
    assert!(tables[0].smallest_seq > tables[1].largest_seq && tables[0].number > tables[1].number, "{tables:?}");
    drop(engine);
    assert_eq!(scan(&open(&memory)), ["k=newer"]);
}

#[test]
fn d17_an_empty_value_is_a_value() {
    // put(k, "") read as deleted, vanished in a flush, and came back from the log.
    let memory = MemVfs::new();
    let engine = open(&memory);
    engine.put("empty", "").unwrap();
    engine.put("gone", "").unwrap();
    engine.delete("gone").unwrap();
    let check = |engine: &Engine, when: &str| {
        assert_eq!((get(engine, "empty").as_deref(), get(engine, "gone")), (Some(""), None), "{when}");
        assert_eq!(scan(engine), ["empty="], "{when}");
        assert!(engine.contains_key("empty").unwrap() && !engine.contains_key("gone").unwrap(), "{when}");
    };
    check(&engine, "in the memtable");
    check(&open(&killed(&memory)), "from the log");
    engine.flush().unwrap();
    check(&engine, "in a table");
    engine.put("empty", "full").unwrap();
    engine.put("empty", "").unwrap();
    engine.compact_range(..).unwrap();
    check(&engine, "after compaction");
    drop(engine);
    check(&open(&memory), "reopened");
}

#[test]
fn d18_buffers_belong_to_the_caller() {
    // The caller's buffers were kept and inner ones handed out: to use one again changed what was stored, and its order.
    let memory = MemVfs::new();
    let engine = open(&memory);
    let (mut key, mut value) = (vec![b'a'; 40], vec![b'a'; 400]);
    let mut batch = WriteBatch::new();
    for i in 0..26u8 {
        key.fill(b'a' + i);
        value.fill(b'A' + i);
        if i % 2 == 0 {
            engine.put(&key, &value).unwrap();
        } else {
            batch.clear();
            batch.put(&key, &value);
            engine.write(&batch).unwrap();
        }
        key.fill(b'!');
        value.fill(b'!');
    }
    let check = |pairs: &[(Slice, Slice)]| {
        assert_eq!(pairs.len(), 26);
        for (i, (key, value)) in (0..26u8).zip(pairs) {
            assert_eq!((&**key, &**value), (&[b'a' + i; 40][..], &[b'A' + i; 400][..]));
        }
    };
    let pairs = |engine: &Engine| engine.iter().map(Result::unwrap).collect::<Vec<_>>();
    let from_memory = pairs(&engine);
    engine.flush().unwrap();
    let from_table = pairs(&engine);
    // What was handed out outlives the memtable, the table, its file and the engine.
    for i in 0..26u8 {
        engine.put([b'a' + i; 40], "other").unwrap();
    }
    engine.compact_range(..).unwrap();
    work(&engine);
    engine.close().unwrap();
    drop(engine);
    check(&from_memory);
    check(&from_table);
}
