//! The feed of changes: it is what was written, in order, over rotation, flush, reopen and crash; a gap is an error; logs are kept as long as they were asked for.

#[path = "changes/left_out.rs"]
mod left_out;

use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation as FileOperation, Rule, Vfs};
use esker::{
    Background, Change, ChangeOptions, Engine, ErrorKind, IngestOptions, KeyspaceOptions, LogBackend, Operation,
    Options, SstOptions, SstWriter, WriteBatch, WriteOptions,
};
use esker_wal::{GroupSync, Reader, RecordKind, Reserve, Writer};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Memtables and logs so small that a few writes fill them.
fn small() -> Options {
    Options { memtable_bytes: Some(16 << 10), memory_budget_bytes: 4 << 20, ..Options::default() }
}

fn retaining() -> Options {
    Options { wal_retain_bytes: Some(u64::MAX), ..small() }
}

fn open(vfs: &Arc<dyn Vfs>, options: &Options) -> Engine {
    let builder = Engine::builder("/data").vfs(Arc::clone(vfs)).options(options.clone());
    builder.background(Background::Manual).open().unwrap()
}

/// A change as text.
fn shown(change: &Change) -> String {
    let text = |bytes: &[u8]| bytes.escape_ascii().to_string();
    match change {
        Change::Batch(batch) => {
            let operations = batch.operations().map(|operation| {
                let name = |keyspace: esker::ChangedKeyspace<'_>| match keyspace.name {
                    Some("default") => String::new(),
                    Some(name) => format!("{name}:"),
                    None => format!("{}:", keyspace.id),
                };
                match operation {
                    Operation::Put { keyspace, key, value } => {
                        format!("{}{}={}", name(keyspace), text(key), text(&value[..value.len().min(8)]))
                    }
                    Operation::Delete { keyspace, key } => format!("{}-{}", name(keyspace), text(key)),
                    Operation::DeleteRange { keyspace, begin, end } => {
                        format!("{}-{}..{}", name(keyspace), text(begin), end.map_or("".into(), text))
                    }
                    other => panic!("{other:?}"),
                }
            });
            let operations: Vec<String> = operations.collect();
            format!("{}[{}]", batch.first_seq(), operations.join(" "))
        }
        Change::Ingest(ingest) => format!(
            "{}<{} tables, {} entries, {}..{}>",
            ingest.seq,
            ingest.tables,
            ingest.entries,
            text(&ingest.smallest),
            text(&ingest.largest)
        ),
        other => panic!("{other:?}"),
    }
}

fn since(engine: &Engine, seq: u64) -> Vec<String> {
    engine.changes_since(seq).unwrap().map(|change| shown(&change.unwrap())).collect()
}

/// The number from which on changes can be told.
fn gap(engine: &Engine, seq: u64) -> u64 {
    let error = engine.changes_since(seq).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Gap, "{error}");
    let from = error.changes_from().unwrap();
    assert!(error.to_string().contains(&from.to_string()), "{error}");
    from
}

#[test]
fn it_tells_each_operation_as_it_was_committed() {
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let engine = open(&vfs, &small());
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    assert!(since(&engine, 0).is_empty());
    engine.put("a", "1").unwrap();
    let mut batch = WriteBatch::new();
    batch.put_in(&users, "ada", "x").delete("a").delete_range("b", "d").put("", "");
    engine.write(&batch).unwrap();
    users.clear().unwrap();
    let mut tx = engine.transaction();
    tx.put("t", "1").unwrap();
    tx.put("u", "2").unwrap();
    tx.commit().unwrap();
    let all = ["1[a=1]", "2[users:ada=x -a -b..d =]", "6[users:-..]", "7[t=1 u=2]"];
    assert_eq!(since(&engine, 0), all);
    for (seq, left) in [(1, 1), (5, 2), (6, 3), (8, 4)] {
        assert_eq!(since(&engine, seq), all[left..], "since {seq}");
    }
    assert_eq!(since(&engine, 3), all[1..], "within a batch: all of it");
    assert_eq!(gap(&engine, 9), 8, "ahead of the engine");
    engine.drop_keyspace("users").unwrap();
    assert_eq!(since(&engine, 5), all[2..], "dropped, it still has a name");
    engine.put("v", "1").unwrap();
    drop(users);
    let image: Arc<dyn Vfs> = Arc::new(vfs_crash(&vfs));
    let reopened = open(&image, &small());
    assert_eq!(since(&reopened, 5), ["6[1:-..]", "7[t=1 u=2]", "9[v=1]"], "what was dropped before has none");
}

fn vfs_crash(vfs: &Arc<dyn Vfs>) -> MemVfs {
    let copy = MemVfs::new();
    copy.create_dir_all("/data".as_ref()).unwrap();
    for name in vfs.list("/data".as_ref()).unwrap() {
        let path = std::path::Path::new("/data").join(name);
        let file = vfs.open_read(&path).unwrap();
        let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let mut to = copy.create_new(&path).unwrap();
        to.append(&bytes).unwrap();
        to.sync().unwrap();
    }
    copy.sync_dir("/data".as_ref()).unwrap();
    Arc::into_inner(copy).unwrap()
}

#[test]
fn asked_again_it_goes_on_over_rotation_and_flush() {
    for log_backend in [LogBackend::Mapped, LogBackend::Write] {
        let vfs: Arc<dyn Vfs> = MemVfs::new();
        let engine = open(&vfs, &Options { log_backend, ..small() });
        let mut changes = engine.changes_since(0).unwrap();
        assert!(changes.next().is_none());
        let mut expected = 0u64;
        for round in 0..200u64 {
            for i in 0..round % 7 {
                let options = WriteOptions { durability: esker::Durability::Memory, no_stall: false, ttl: None };
                engine.put_with(format!("{i}"), [round as u8; 300], &options).unwrap();
            }
            if round % 50 == 3 {
                engine.flush().unwrap();
            }
            while engine.step().unwrap() {}
            for change in &mut changes {
                expected += 1;
                assert_eq!(change.unwrap().seq(), expected);
            }
            assert_eq!(expected, engine.metrics().last_seq, "round {round}");
        }
        assert!(engine.metrics().flushes > 5);
        // What has been told needs no logs any more.
        assert!(engine.metrics().retained_logs <= 1, "{}", engine.metrics().retained_logs);
        engine.close().unwrap();
        assert_eq!(changes.next().unwrap().unwrap_err().kind(), ErrorKind::Closed);
        assert!(changes.next().is_none(), "a loop over it ends");
        assert_eq!(changes.next().unwrap().unwrap_err().kind(), ErrorKind::Closed, "it sticks");
    }
}

#[test]
fn without_retention_what_was_flushed_is_a_gap() {
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let engine = open(&vfs, &small());
    for i in 0..200 {
        engine.put(format!("{i}"), [1; 300]).unwrap();
        while engine.step().unwrap() {}
    }
    engine.flush().unwrap();
    let from = gap(&engine, 0);
    assert!(from > 0 && from <= 200);
    assert_eq!(since(&engine, from).len(), 200 - from as usize);
    assert_eq!(gap(&engine, from - 1), from);
    assert!(since(&engine, 200).is_empty());
    assert_eq!(engine.hold_changes(0).unwrap_err().kind(), ErrorKind::Gap);
    engine.close().unwrap();
    drop(engine);
    let engine = open(&vfs, &small());
    assert_eq!(gap(&engine, 199), 200, "a close in order leaves no logs");
    assert!(since(&engine, 200).is_empty());
    engine.put("on", "1").unwrap();
    assert_eq!(since(&engine, 200), ["201[on=1]"]);
    assert_eq!(gap(&engine, 150), 200);
}

/// The first log of a life that keeps none could not be removed, those behind it were. The next life, which keeps its own, took it for a part of the feed, and called what had come since it was opened a gap
/// (found by the metamorphic runner).
#[test]
fn a_log_that_a_life_before_has_left_is_no_gap() {
    for then_a_batch in [false, true] {
        let faults = FaultVfs::new(MemVfs::new());
        let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
        let engine = open(&vfs, &small());
        faults.add(Rule::new(FileOperation::RemoveFile, Fault::EIO).path("*/000002.wal"));
        for i in 0..200 {
            engine.put(format!("{i}"), [1; 300]).unwrap();
        }
        engine.close().unwrap();
        drop(engine);
        assert!(faults.metadata("/data/000002.wal".as_ref()).is_ok() && faults.clear()[0].2 > 0);
        let engine = open(&vfs, &retaining());
        engine.bulk_load([("loaded", "1")]).unwrap();
        let mut expected = vec!["201<1 tables, 1 entries, loaded..loaded>"];
        if then_a_batch {
            engine.put("put", "1").unwrap();
            expected.push("202[put=1]");
        }
        assert_eq!(since(&engine, 200), expected);
        assert_eq!(gap(&engine, 100), 200, "and what is missing is one");
        assert_eq!(since(&engine, 200), expected);
    }
}

#[test]
fn retained_logs_outlast_flush_reopen_and_crash() {
    for log_backend in [LogBackend::Mapped, LogBackend::Write] {
        let options = Options { log_backend, ..retaining() };
        let memory = MemVfs::new();
        let mut vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
        let mut memory = memory;
        let mut expected: Vec<String> = Vec::new();
        for life in 0..12 {
            let engine = open(&vfs, &options);
            assert_eq!(since(&engine, 0), expected, "life {life}");
            let mut begin = engine.metrics().last_seq;
            assert!(since(&engine, begin).is_empty());
            for i in 0..60 {
                let (key, value) = (format!("{life}.{i}"), "12345678".repeat(40));
                engine.put(&key, &value).unwrap();
                begin += 1;
                expected.push(format!("{begin}[{key}=12345678]"));
                if i % 20 == 19 {
                    engine.flush().unwrap();
                }
                while i % 3 == 0 && engine.step().unwrap() {}
            }
            assert_eq!(since(&engine, 0), expected);
            // A reader sees the same.
            match life % 4 {
                0 | 2 => {
                    engine.close().unwrap();
                    let builder = Engine::builder("/data").vfs(Arc::clone(&vfs)).read_only(true);
                    let reader = builder.open().unwrap();
                    assert_eq!(since(&reader, 0), expected, "opened for reading");
                }
                1 => {
                    memory = Arc::new(memory.crash_now(CrashPolicy::All));
                    vfs = Arc::clone(&memory) as _;
                }
                _ => {
                    // What was told is on stable storage.
                    memory = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
                    vfs = Arc::clone(&memory) as _;
                }
            }
            drop(engine);
        }
        // No longer asked for, they go.
        let engine = open(&vfs, &small());
        let newest = engine.metrics().last_seq;
        assert!(gap(&engine, 0) > 600, "{newest}");
    }
}

#[test]
fn retention_by_size_and_by_age() {
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let engine = open(&vfs, &Options { wal_retain_bytes: Some(60 << 10), ..small() });
    for i in 0..1000 {
        engine.put(format!("{i}"), [1; 300]).unwrap();
        while engine.step().unwrap() {}
        assert!(engine.metrics().retained_log_bytes <= 60 << 10);
    }
    engine.flush().unwrap();
    let from = gap(&engine, 0);
    assert!((700..900).contains(&from), "{from}");
    assert_eq!(since(&engine, from).len() as u64, 1000 - from);

    let dir = tempfile::tempdir().unwrap();
    let options = Options { wal_retain_age: Some(Duration::from_millis(200)), ..small() };
    let builder = Engine::builder(dir.path()).options(options).background(Background::Manual);
    let engine = builder.open().unwrap();
    for i in 0..100 {
        engine.put(format!("{i}"), [1; 300]).unwrap();
    }
    engine.flush().unwrap();
    assert_eq!(since(&engine, 0).len(), 100);
    std::thread::sleep(Duration::from_millis(300));
    engine.step().unwrap();
    assert_eq!(engine.metrics().retained_logs, 0);
    assert!(gap(&engine, 0) > 0);
}

#[test]
fn a_hold_keeps_what_it_was_asked_for_and_no_more() {
    let vfs: Arc<dyn Vfs> = MemVfs::new();
    let engine = open(&vfs, &small());
    let write = |from: u32, to: u32| {
        for i in from..to {
            engine.put(format!("{i}"), [1; 300]).unwrap();
            while engine.step().unwrap() {}
        }
        engine.flush().unwrap();
        while engine.step().unwrap() {}
    };
    write(0, 100);
    let hold = engine.hold_changes(100).unwrap();
    write(100, 300);
    assert_eq!(since(&engine, 100).len(), 200);
    let held = engine.metrics().retained_logs;
    assert!(held >= 2, "{held}");
    hold.release_up_to(200);
    assert!(engine.metrics().retained_logs < held);
    assert_eq!(since(&engine, 200).len(), 100);
    // An iterator holds what it has not told.
    let mut changes = engine.changes_since(200).unwrap();
    drop(hold);
    write(300, 400);
    assert_eq!(changes.by_ref().map(Result::unwrap).count(), 100, "up to what was there when it was made");
    assert_eq!(changes.by_ref().map(Result::unwrap).count(), 100);
    drop(changes);
    assert_eq!(engine.metrics().retained_logs, 0);
    assert!(gap(&engine, 200) > 200);
}

fn table(vfs: &Arc<dyn Vfs>, name: &str, keys: &[&str]) -> String {
    vfs.create_dir_all("/out".as_ref()).unwrap();
    let path = format!("/out/{name}");
    let mut table = SstWriter::create_on(Arc::clone(vfs), &path, &SstOptions::default()).unwrap();
    keys.iter().for_each(|key| table.put(key, "ingested").unwrap());
    table.finish().unwrap();
    path
}

#[test]
fn ingests_are_told_of_in_their_place() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = retaining();
    let engine = open(&vfs, &options);
    engine.put("a", "1").unwrap();
    let paths = [table(&vfs, "1", &["m", "n"]), table(&vfs, "2", &["p"])];
    engine.ingest(&paths, &IngestOptions::default()).unwrap();
    engine.put("b", "1").unwrap();
    engine.bulk_load([("c", "1")]).unwrap();
    engine.bulk_load([("d", "1")]).unwrap();
    let all = [
        "1[a=1]",
        "2<2 tables, 3 entries, m..p>",
        "3[b=1]",
        "4<1 tables, 1 entries, c..c>",
        "5<1 tables, 1 entries, d..d>",
    ];
    for seq in 0..=5 {
        assert_eq!(since(&engine, seq), all[seq as usize..], "since {seq}");
    }
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!(since(&engine, 0), all);
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    assert_eq!(since(&open(&image, &options), 0), all, "after a crash");
    engine.close().unwrap();
    drop(engine);
    let engine = open(&vfs, &options);
    assert_eq!(since(&engine, 0), all, "after a close in order");
    engine.put("e", "1").unwrap();
    assert_eq!(since(&engine, 4), [all[4], "6[e=1]"]);
    engine.close().unwrap();
    drop(engine);

    // Without retention nothing is silent either.
    let engine = open(&vfs, &small());
    assert_eq!(gap(&engine, 3), 6);
    engine.bulk_load([("f", "1")]).unwrap();
    assert_eq!(since(&engine, 6), ["7<1 tables, 1 entries, f..f>"]);
    engine.put("g", "1").unwrap();
    engine.close().unwrap();
    drop(engine);
    let engine = open(&vfs, &small());
    assert_eq!(gap(&engine, 6), 8, "a close in order leaves neither logs nor what is told of ingests");
}

#[test]
fn what_was_lost_by_a_crash_after_it_was_told_is_a_gap() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = retaining();
    let engine = open(&vfs, &options);
    engine.put_with("a", "1", &WriteOptions::sync()).unwrap();
    engine.put("b", "1").unwrap();
    engine.put("c", "1").unwrap();
    let not_durable = ChangeOptions { durable: false };
    let told: Vec<_> =
        engine.changes_since_with(0, &not_durable).unwrap().map(|change| change.unwrap().seq()).collect();
    assert_eq!(told, [1, 2, 3]);
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    let reopened = open(&image, &options);
    let newest = reopened.metrics().last_seq;
    assert!(newest > 3, "numbers go on above what was reserved");
    assert_eq!(gap(&reopened, 3), newest, "what it has told is gone");
    reopened.put("d", "1").unwrap();
    assert_eq!(gap(&reopened, 3), newest);
    assert_eq!(gap(&reopened, 2), newest);
    assert_eq!(since(&reopened, 1), [format!("{}[d=1]", newest + 1)], "who has not been told misses nothing");
    assert_eq!(since(&reopened, newest), [format!("{}[d=1]", newest + 1)]);

    let told: Vec<_> = engine.changes_since(0).unwrap().map(|change| change.unwrap().seq()).collect();
    assert_eq!(told, [1, 2, 3]);
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    let reopened = open(&image, &options);
    assert!(since(&reopened, 3).is_empty(), "what was told durably is there");
    assert_eq!(since(&reopened, 0).len(), 3);
}

#[test]
fn resume_is_a_gap() {
    let faults = FaultVfs::new(MemVfs::new());
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = open(&vfs, &retaining());
    engine.put("a", "1").unwrap();
    let mut behind = engine.changes_since(0).unwrap();
    let mut up_to_date = engine.changes_since(1).unwrap();
    assert!(up_to_date.next().is_none());
    faults.add(Rule::new(FileOperation::Sync, Fault::EIO).path("*.wal").times(1));
    engine.put_with("b", "1", &WriteOptions::sync()).unwrap_err();
    assert_eq!(engine.changes_since(0).unwrap_err().kind(), ErrorKind::ReadOnly);
    engine.resume().unwrap();
    engine.put("c", "1").unwrap();
    assert_eq!(gap(&engine, 0), 2);
    assert_eq!(gap(&engine, 1), 2);
    assert_eq!(since(&engine, 2), ["3[c=1]"]);
    assert_eq!(behind.next().unwrap().unwrap().seq(), 1, "what it had seen when it was made");
    assert!(behind.next().is_none());
    assert_eq!(behind.next().unwrap().unwrap_err().kind(), ErrorKind::Gap);
    assert_eq!(up_to_date.next().unwrap().unwrap_err().kind(), ErrorKind::Gap);
    engine.close().unwrap();
    drop(engine);
    let engine = open(&vfs, &retaining());
    assert_eq!(gap(&engine, 1), 2);
    assert_eq!(since(&engine, 2), ["3[c=1]"]);
}

#[test]
fn a_damaged_log_is_damage_and_no_gap() {
    let memory = MemVfs::new();
    let vfs: Arc<dyn Vfs> = Arc::clone(&memory) as _;
    let options = Options { log_backend: LogBackend::Write, ..retaining() };
    let engine = open(&vfs, &options);
    for i in 0..200 {
        engine.put(format!("{i:03}"), [1; 300]).unwrap();
        while engine.step().unwrap() {}
    }
    engine.close().unwrap();
    drop(engine);
    let logs: Vec<String> =
        vfs.list("/data".as_ref()).unwrap().into_iter().filter(|name| name.ends_with(".wal")).collect();
    assert!(logs.len() >= 3, "{logs:?}");
    let damage = |name: &str, at: usize| {
        let copy = vfs_crash(&vfs);
        let path = std::path::Path::new("/data").join(name);
        let file = copy.open_read(&path).unwrap();
        let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        bytes[at] ^= 0x10;
        copy.remove_file(&path).unwrap();
        copy.create_new(&path).unwrap().append(&bytes).unwrap();
        Arc::new(copy) as Arc<dyn Vfs>
    };
    for (name, at) in [(&logs[1], 70), (&logs[1], 3000), (&logs[0], 3000), (&logs[1], 20)] {
        let engine = open(&damage(name, at), &options);
        let told: Vec<_> = engine.changes_since(0).into_iter().flatten().collect();
        let last = match told.last() {
            Some(last) => last.as_ref().map(|change| change.seq()).map_err(esker::Error::kind),
            None => Err(engine.changes_since(0).unwrap_err().kind()),
        };
        assert_eq!(last, Err(ErrorKind::Corruption), "{name}, byte {at}");
        let before = told.iter().filter(|change| change.is_ok()).count();
        assert!(before < 200);
        assert_eq!(engine.get("100").unwrap().unwrap(), [1; 300], "the engine itself needs no such log");
    }
    let copy = vfs_crash(&vfs);
    copy.remove_file(&std::path::Path::new("/data").join(&logs[1])).unwrap();
    let copy: Arc<dyn Vfs> = Arc::new(copy);
    let engine = open(&copy, &options);
    let last = engine.changes_since(0).unwrap().last().unwrap().unwrap_err();
    assert_eq!(last.kind(), ErrorKind::Gap, "{last}");
    assert_eq!(since(&engine, last.changes_from().unwrap()).len() as u64, 200 - last.changes_from().unwrap());
}

/// Writes of several threads: the feed has each once, batches whole, in the order that the engine ends up with.
#[test]
fn beside_writers_nothing_is_missed_nor_torn() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: Some(64 << 10), ..Options::default() };
    let engine = Engine::builder(dir.path()).options(options).open().unwrap();
    let mut changes = engine.changes_since(0).unwrap();
    let done = AtomicBool::new(false);
    let mut replica: BTreeMap<Vec<u8>, Vec<u8>> = BTreeMap::new();
    std::thread::scope(|scope| {
        let writers: Vec<_> = (0..3u8)
            .map(|writer| {
                let engine = &engine;
                scope.spawn(move || {
                    for i in 0..3000u32 {
                        let mut batch = WriteBatch::new();
                        let value = [&[writer][..], &i.to_be_bytes(), &[7; 50]].concat();
                        batch.put(format!("{}", i % 100), &value).put(format!("twin{}", i % 100), &value);
                        if i % 50 == 0 {
                            batch.delete_range("3", "5");
                        }
                        engine.write(&batch).unwrap();
                    }
                })
            })
            .collect();
        let (engine, done) = (&engine, &done);
        scope.spawn(move || {
            writers.into_iter().for_each(|writer| writer.join().unwrap());
            engine.put("end", "").unwrap();
            done.store(true, Ordering::SeqCst);
        });
        let mut last = 0;
        while !replica.contains_key(&b"end"[..]) {
            for change in &mut changes {
                let Change::Batch(batch) = change.unwrap() else { panic!("nothing was ingested") };
                assert_eq!(batch.first_seq(), last + 1);
                last = batch.last_seq();
                apply(&mut replica, &batch);
            }
        }
    });
    let found: BTreeMap<Vec<u8>, Vec<u8>> =
        engine.iter().map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())).unwrap()).collect();
    assert!(replica == found);
    assert!(engine.metrics().flushes > 0);
}

fn apply(replica: &mut BTreeMap<Vec<u8>, Vec<u8>>, batch: &esker::ChangedBatch) {
    for operation in batch.operations() {
        match operation {
            Operation::Put { key, value, .. } => drop(replica.insert(key.to_vec(), value.to_vec())),
            Operation::Delete { key, .. } => drop(replica.remove(key)),
            Operation::DeleteRange { begin, end, .. } => {
                replica.retain(|key, _| &key[..] < begin || end.is_some_and(|end| &key[..] >= end));
            }
            other => panic!("{other:?}"),
        }
    }
}

/// A feed that could not open a log for a moment let go of all that it had not told, and who asked anew behind what had been told was sent on past it.
#[test]
fn a_failure_that_passes_takes_nothing_from_the_feed() {
    let faults = FaultVfs::new(MemVfs::new());
    let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
    let engine = open(&vfs, &small());
    engine.put("a", "1").unwrap();
    let mut feed = engine.changes_since(0).unwrap();
    let mut told = feed.next().unwrap().unwrap().seq();
    for i in 0..400u32 {
        engine.put(i.to_be_bytes(), [i as u8; 200]).unwrap();
        while engine.step().unwrap() {}
    }
    engine.flush().unwrap();
    faults.add(Rule::new(FileOperation::OpenRead, Fault::EMFILE).path("*.wal").times(1));
    let error = loop {
        match feed.next() {
            Some(Ok(change)) => told = change.seq(),
            Some(Err(error)) => break error,
            // The end of what there was; asked again it goes on.
            None => {}
        }
    };
    assert_eq!(error.kind(), ErrorKind::Io);
    let rest = engine.changes_since(told).unwrap().map(Result::unwrap).count() as u64;
    assert_eq!(told + rest, engine.metrics().last_seq);
}

/// The log that `resume` gives up may hold what was refused, and lack what was not. Nothing failed when it stayed part of the feed for the next life of the engine.
#[test]
fn a_log_that_was_given_up_is_a_gap_to_the_next_life_too() {
    let memory = MemVfs::new();
    let faults = FaultVfs::new(Arc::clone(&memory) as Arc<dyn Vfs>);
    let vfs = Arc::clone(&faults) as Arc<dyn Vfs>;
    let engine = open(&vfs, &retaining());
    engine.put("a", "1").unwrap();
    faults.add(Rule::new(FileOperation::Sync, Fault::EIO).path("*.wal").times(1));
    engine.put_with("b", "1", &WriteOptions::sync()).unwrap_err();
    engine.resume().unwrap();
    engine.put("c", "1").unwrap();
    let (from, told) = (gap(&engine, 0), ["3[c=1]"]);
    assert_eq!(since(&engine, from), told);
    // The log is there still.
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::All));
    let engine = open(&image, &retaining());
    assert_eq!((gap(&engine, 0), since(&engine, from)), (from, told.map(String::from).to_vec()));
}
