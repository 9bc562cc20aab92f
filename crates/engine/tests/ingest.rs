//! Tables that were built outside, and bulk loads: what is seen of them and when, where they lie, what is refused, and what failures leave.

#[path = "ingest/writer.rs"]
mod writer;

use esker::vfs::{CrashPolicy, Fault, FaultVfs, MemVfs, Operation, OsVfs, Rule, Vfs};
use esker::{
    Background, Engine, ErrorKind, IngestOptions, Keyspace, KeyspaceOptions, LeveledOptions, Options, SstOptions,
    SstWriter, WriteOptions,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// As Linux numbers it.
const EOPNOTSUPP: i32 = 95;

const COPY: IngestOptions = IngestOptions { move_files: false };
const MOVE: IngestOptions = IngestOptions { move_files: true };

fn memory() -> (Arc<MemVfs>, Arc<dyn Vfs>) {
    let memory = MemVfs::new();
    memory.create_dir_all("/out".as_ref()).unwrap();
    (Arc::clone(&memory), memory)
}

fn open(vfs: &Arc<dyn Vfs>) -> Engine {
    Engine::builder("/data").vfs(Arc::clone(vfs)).background(Background::Manual).open().unwrap()
}

/// A table of these, where a value of `-` is none.
fn table(vfs: &Arc<dyn Vfs>, name: &str, entries: &[(&str, &str)]) -> PathBuf {
    let path = Path::new("/out").join(name);
    let mut table = SstWriter::create_on(Arc::clone(vfs), &path, &SstOptions::default()).unwrap();
    for (key, value) in entries {
        match *value {
            "-" => table.delete(key).unwrap(),
            value => table.put(key, value).unwrap(),
        }
    }
    table.finish().unwrap();
    path
}

fn all(keyspace: &Keyspace) -> String {
    shown(keyspace.iter())
}

fn shown(iter: esker::Iter) -> String {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let entries = iter.map(|item| item.map(|(key, value)| format!("{}={}", text(&key), text(&value))).unwrap());
    entries.collect::<Vec<_>>().join(" ")
}

fn default(engine: &Engine) -> Keyspace {
    engine.keyspace("default", KeyspaceOptions::default()).unwrap()
}

fn tables_in(vfs: &dyn Vfs) -> usize {
    let names = vfs.list("/data".as_ref()).unwrap();
    names.iter().filter(|name| name.ends_with(".sst") || name.ends_with(".tmp")).count()
}

#[test]
fn it_is_newer_than_all_before_and_older_than_all_behind() {
    let (memory, vfs) = memory();
    let engine = open(&vfs);
    let data = default(&engine);
    for key in ["a", "b", "c", "d"] {
        engine.put(key, "old").unwrap();
    }
    engine.flush().unwrap();
    engine.put("b", "in memory").unwrap();
    let before = engine.snapshot();
    let iter = engine.iter();
    let path = table(&vfs, "t.sst", &[("b", "new"), ("c", "-"), ("e", "new")]);
    let ingested = engine.ingest([&path], &COPY).unwrap();
    assert_eq!((ingested.entries(), ingested.tables[0].deletions), (3, 1));
    assert_eq!(ingested.seq, engine.metrics().last_seq);
    assert_eq!(all(&data), "a=old b=new d=old e=new");
    assert_eq!(shown(before.iter()), "a=old b=in memory c=old d=old", "a snapshot taken before");
    assert_eq!(shown(iter), "a=old b=in memory c=old d=old", "an iterator made before");
    assert_eq!(before.get("c").unwrap().unwrap(), b"old");
    assert_eq!(before.multi_get(["b", "e"]).unwrap()[1], None);
    assert_eq!(engine.get("c").unwrap(), None);
    let behind = engine.snapshot();
    engine.put("b", "newest").unwrap();
    engine.delete("e").unwrap();
    engine.put("c", "newest").unwrap();
    assert_eq!(all(&data), "a=old b=newest c=newest d=old");
    assert_eq!(shown(behind.iter()), "a=old b=new d=old e=new");
    engine.flush().unwrap();
    assert_eq!(all(&data), "a=old b=newest c=newest d=old");
    assert!(engine.verify().unwrap().is_ok());
    engine.compact_range(..).unwrap();
    assert_eq!(all(&data), "a=old b=newest c=newest d=old");
    assert_eq!(shown(before.iter()), "a=old b=in memory c=old d=old", "compaction knows how old it is");
    assert_eq!(shown(behind.iter()), "a=old b=new d=old e=new");
    drop((before, behind, data));
    engine.close().unwrap();
    drop(engine);

    let engine = open(&vfs);
    assert_eq!(all(&default(&engine)), "a=old b=newest c=newest d=old");
    assert!(engine.verify().unwrap().is_ok());
    assert!(memory.metadata(&path).is_ok(), "a copy was taken");
}

#[test]
fn before_it_is_compacted_it_stays_as_it_was_built_through_reopen_checkpoint_and_verify() {
    let (memory, vfs) = memory();
    let engine = open(&vfs);
    engine.put("m", "old").unwrap();
    let path = table(&vfs, "t.sst", &[("m", "new"), ("n", "new")]);
    let bytes = esker_bytes(&*vfs, &path);
    let number = engine.ingest([&path], &MOVE).unwrap().tables[0].number;
    assert!(memory.metadata(&path).is_err(), "it was moved");
    let own = PathBuf::from(format!("/data/{number:06}.sst"));
    assert_eq!(esker_bytes(&*vfs, &own), bytes);
    engine.checkpoint("/copy").unwrap();
    engine.close().unwrap();
    drop(engine);
    for dir in ["/data", "/copy"] {
        for read_only in [true, false] {
            let builder = Engine::builder(dir).vfs(Arc::clone(&vfs)).background(Background::Manual);
            let engine = builder.read_only(read_only).open().unwrap();
            assert_eq!(all(&default(&engine)), "m=new n=new");
            assert!(engine.verify().unwrap().is_ok());
        }
    }
}

fn esker_bytes(vfs: &dyn Vfs, path: &Path) -> Vec<u8> {
    let file = vfs.open_read(path).unwrap();
    let mut bytes = vec![0; file.len_bytes().unwrap() as usize];
    file.read_exact_at(&mut bytes, 0).unwrap();
    bytes
}

#[test]
fn it_goes_as_low_as_what_is_older_allows() {
    let (_, vfs) = memory();
    let engine = open(&vfs);
    let level = |name: &str, entries: &[(&str, &str)]| {
        let path = table(&vfs, name, entries);
        engine.ingest([path], &COPY).unwrap().tables[0].level
    };
    assert_eq!(level("1", &[("a", "1"), ("f", "1")]), 6, "nothing there");
    assert_eq!(level("2", &[("g", "2"), ("h", "2")]), 6, "nothing overlaps");
    assert_eq!(level("3", &[("b", "3")]), 5, "over what is older");
    assert_eq!(level("4", &[("b", "4"), ("h", "4")]), 4);
    engine.put("k", "in memory").unwrap();
    assert_eq!(level("5", &[("x", "5")]), 6);
    assert_eq!(engine.metrics().flushes, 0, "what is in memory does not overlap");
    assert_eq!(level("6", &[("j", "6"), ("l", "6")]), 0, "what was in memory overlaps, and lies in level 0 now");
    assert_eq!(engine.metrics().flushes, 1);
    assert_eq!(all(&default(&engine)), "a=1 b=4 f=1 g=2 h=4 j=6 k=in memory l=6 x=5");
}

/// A memtable that holds keys from before the ingest, of elsewhere, goes on to take keys in its range: its table then reaches over the sequence number of the ingested one from both sides, which level 0 forbids.
#[test]
fn what_is_written_before_and_behind_it_can_be_flushed_together() {
    let (_, vfs) = memory();
    let engine = open(&vfs);
    engine.put("m", "old").unwrap();
    engine.flush().unwrap();
    for round in 0..4 {
        engine.put("a", format!("{round}")).unwrap();
        let path = table(&vfs, &format!("{round}"), &[("m", "ingested"), ("n", "-")]);
        engine.ingest([path], &COPY).unwrap();
        engine.put("m", format!("behind {round}")).unwrap();
        engine.flush().unwrap();
        assert_eq!(all(&default(&engine)), format!("a={round} m=behind {round}"));
    }
    engine.close().unwrap();
    drop(engine);
    assert_eq!(all(&default(&open(&vfs))), "a=3 m=behind 3");
}

#[test]
fn a_range_deleted_in_memory_or_in_tables_does_not_hide_it() {
    for flush in [false, true] {
        let (_, vfs) = memory();
        let engine = open(&vfs);
        engine.put("b", "old").unwrap();
        engine.delete_range("a", "z").unwrap();
        if flush {
            engine.flush().unwrap();
        }
        let path = table(&vfs, "t", &[("c", "new")]);
        engine.ingest([path], &COPY).unwrap();
        assert_eq!(all(&default(&engine)), "c=new");
        engine.compact_range(..).unwrap();
        assert_eq!(all(&default(&engine)), "c=new");
        engine.clear().unwrap();
        assert!(engine.is_empty().unwrap());
        engine.flush().unwrap();
        assert!(engine.is_empty().unwrap(), "and a later one hides it");
    }
}

#[test]
fn several_files_are_one_instant() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: Some(64 << 10), ..Options::default() };
    let engine = Engine::builder(dir.path().join("data")).options(options).open().unwrap();
    let stop = AtomicBool::new(false);
    let spaces = ["a", "h", "q", "x"];
    std::thread::scope(|scope| {
        for reader in 0..2 {
            let (engine, stop) = (&engine, &stop);
            scope.spawn(move || {
                let mut newest = 0u32;
                while !stop.load(Ordering::SeqCst) {
                    let found: Vec<_> = match reader {
                        0 => engine.multi_get(spaces).unwrap(),
                        _ => {
                            let snapshot = engine.snapshot();
                            spaces.iter().map(|key| snapshot.get(key).unwrap()).collect()
                        }
                    };
                    assert!(found.iter().all(|value| value == &found[0]), "{found:?}");
                    let round = found[0].as_ref().map_or(0, |value| u32::from_be_bytes(value[..].try_into().unwrap()));
                    assert!(round >= newest, "it goes back from {newest} to {round}");
                    newest = round;
                }
            });
        }
        // Beside them one writes to keys in between, so that memory overlaps most of the time.
        let (engine, stop) = (&engine, &stop);
        scope.spawn(move || {
            let mut i = 0u32;
            while !stop.load(Ordering::SeqCst) {
                engine.put(format!("m{}", i % 50), i.to_be_bytes()).unwrap();
                i += 1;
            }
        });
        for round in 1..40u32 {
            let paths: Vec<PathBuf> = (0..2)
                .map(|half| {
                    let path = dir.path().join(format!("{round}-{half}.sst"));
                    let mut table = SstWriter::create(&path, &SstOptions::default()).unwrap();
                    spaces[2 * half..][..2].iter().for_each(|key| table.put(key, round.to_be_bytes()).unwrap());
                    table.finish().unwrap();
                    path
                })
                .collect();
            engine.ingest(paths.iter().rev(), &MOVE).unwrap();
            assert_eq!(engine.get("x").unwrap().unwrap(), round.to_be_bytes(), "seen by who has ingested it");
        }
        stop.store(true, Ordering::SeqCst);
    });
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn transactions_that_have_read_there_conflict() {
    let (_, vfs) = memory();
    let engine = open(&vfs);
    engine.put("b", "old").unwrap();
    engine.put("y", "old").unwrap();
    let conflicts = |name: &str, read: &dyn Fn(&esker::Transaction)| {
        let mut tx = engine.transaction();
        read(&tx);
        tx.put("z", "written").unwrap();
        let path = table(&vfs, name, &[("b", "new"), ("d", "-")]);
        engine.ingest([path], &COPY).unwrap();
        match tx.commit() {
            Ok(()) => false,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
                true
            }
        }
    };
    assert!(conflicts("1", &|tx| drop(tx.get("b").unwrap())), "a key it puts");
    assert!(conflicts("2", &|tx| drop(tx.get("d").unwrap())), "a key it deletes, that is not there");
    assert!(conflicts("3", &|tx| assert!(tx.range("a".."c").count() <= 1)), "a range");
    assert!(!conflicts("4", &|tx| drop(tx.get("y").unwrap())), "a key beyond it");
    assert!(!conflicts("5", &|tx| drop(tx.get("c").unwrap())), "a key that it does not hold");
    assert!(!conflicts("6", &|tx| assert_eq!(tx.range("x"..).count(), 2)), "a range beyond it");
    assert!(engine.compare_and_swap("b", Some(b"new"), Some(b"swapped")).unwrap());
}

#[test]
fn bad_files_are_refused_and_nothing_changes() {
    let (_, vfs) = memory();
    let engine = open(&vfs);
    engine.put("k", "kept").unwrap();
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    let good = table(&vfs, "good", &[("a", "1"), ("c", "1")]);
    let bytes = esker_bytes(&*vfs, &good);
    let write = |name: &str, bytes: &[u8]| {
        let path = Path::new("/out").join(name);
        let mut file = vfs.create_new(&path).unwrap();
        file.append(bytes).unwrap();
        file.sync().unwrap();
        path
    };
    let seq = engine.metrics().last_seq;
    let refused = |paths: &[&Path]| {
        let error = engine.ingest(paths, &MOVE).unwrap_err();
        assert!(paths.iter().all(|path| !vfs.metadata(path).is_ok_and(|found| found.is_dir) || path.ends_with("out")));
        assert_eq!(tables_in(&*vfs), 0, "{error}");
        assert_eq!(engine.metrics().last_seq, seq);
        error.kind()
    };
    assert_eq!(refused(&["/out/none".as_ref()]), ErrorKind::Io);
    assert_eq!(refused(&["/out".as_ref()]), ErrorKind::InvalidArgument);
    assert_eq!(refused(&[&write("empty", b"")]), ErrorKind::Corruption);
    assert_eq!(refused(&[&write("text", &b"no table at all".repeat(40))]), ErrorKind::Corruption);
    // Every length, and a flipped bit in every byte.
    for len in 1..bytes.len() {
        let path = write(&format!("cut {len}"), &bytes[..len]);
        assert_eq!(refused(&[&path]), ErrorKind::Corruption, "cut to {len}");
    }
    for at in 0..bytes.len() {
        let mut bad = bytes.clone();
        bad[at] ^= 1 << (at % 8);
        let path = write(&format!("flipped {at}"), &bad);
        // Between the blocks there are some bytes that nothing depends on, but nothing else may lie there.
        assert_eq!(refused(&[&path]), ErrorKind::Corruption, "flipped at {at}");
    }
    assert_eq!(refused(&[&write("other", &other_comparator(&bytes))]), ErrorKind::Unsupported);
    let overlapping = table(&vfs, "overlapping", &[("b", "2")]);
    assert_eq!(refused(&[&good, &overlapping]), ErrorKind::InvalidArgument);
    assert_eq!(refused(&[&good, &good]), ErrorKind::InvalidArgument);
    assert!(vfs.metadata(&good).is_ok() && vfs.metadata(&overlapping).is_ok(), "what was to be moved is where it was");

    // The table of an engine.
    let other = Engine::builder("/other").vfs(Arc::clone(&vfs)).background(Background::Manual).open().unwrap();
    other.put("k", "v").unwrap();
    other.flush().unwrap();
    let names = vfs.list("/other".as_ref()).unwrap();
    let own = Path::new("/other").join(names.iter().find(|name| name.ends_with(".sst")).unwrap());
    assert_eq!(refused(&[&own]), ErrorKind::InvalidArgument);

    engine.ingest([&good], &COPY).unwrap();
    assert_eq!(engine.ingest([&good], &COPY).unwrap_err().kind(), ErrorKind::InvalidArgument, "it is in there already");
    assert_eq!(users.ingest([&good], &COPY).unwrap_err().kind(), ErrorKind::InvalidArgument);
    assert_eq!(all(&default(&engine)), "a=1 c=1 k=kept");
    let none: [&Path; 0] = [];
    assert!(engine.ingest(none, &COPY).unwrap().tables.is_empty());
}

/// The table, made for another order of keys: the name in its properties changed, and their checksum made right again.
fn other_comparator(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let footer = bytes.len() - 128;
    let number = |bytes: &[u8], at: usize| u64::from_le_bytes(bytes[at..][..8].try_into().unwrap());
    let (offset, len) = (number(&bytes, footer) as usize, number(&bytes, footer + 8) as usize);
    let file_id = number(&bytes, footer + 88);
    let at = bytes.windows(8).rposition(|window| window == b"bytewise").unwrap();
    bytes[at..][..8].copy_from_slice(b"reversed");
    let mut covered = [file_id.to_le_bytes(), (offset as u64).to_le_bytes()].concat();
    covered.extend_from_slice(&bytes[offset..offset + len + 1]);
    let checksum = esker_format::checksum::crc32c(&covered);
    bytes[offset + len + 1..][..4].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

#[test]
fn who_may_not_write_may_not_ingest() {
    let (_, vfs) = memory();
    let engine = open(&vfs);
    let path = table(&vfs, "t", &[("a", "1")]);
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    let refused = |keyspace: &Keyspace| {
        let kind = keyspace.ingest([&path], &COPY).unwrap_err().kind();
        let mut load = match keyspace.bulk_writer() {
            Ok(load) => load,
            Err(error) => {
                assert_eq!(error.kind(), kind);
                return kind;
            }
        };
        let loaded = load.put("a", "1").and_then(|()| load.finish().map(drop));
        assert_eq!(loaded.unwrap_err().kind(), kind);
        kind
    };
    let tx = engine.exclusive();
    assert_eq!(refused(&users), ErrorKind::InvalidArgument, "this thread has the engine for itself");
    drop(tx);
    engine.drop_keyspace("users").unwrap();
    assert_eq!(refused(&users), ErrorKind::NotFound);
    let data = default(&engine);
    engine.close().unwrap();
    assert_eq!(refused(&data), ErrorKind::Closed);
    drop((data, users, engine));
    assert_eq!(tables_in(&*vfs), 0);
    let reader = Engine::builder("/data").vfs(Arc::clone(&vfs)).read_only(true).open().unwrap();
    assert_eq!(refused(&default(&reader)), ErrorKind::ReadOnly);
}

#[test]
fn it_waits_for_an_exclusive_transaction_of_another_thread() {
    let (_, vfs) = memory();
    let engine = open(&vfs);
    let path = table(&vfs, "t", &[("a", "ingested")]);
    let mut tx = engine.exclusive();
    tx.put("a", "written").unwrap();
    std::thread::scope(|scope| {
        let ingest = scope.spawn(|| engine.ingest([&path], &COPY).unwrap());
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(engine.get("a").unwrap(), None);
        tx.commit().unwrap();
        ingest.join().unwrap();
    });
    assert_eq!(engine.get("a").unwrap().unwrap(), b"ingested");
}

#[test]
fn a_full_level_0_stops_it() {
    let (_, vfs) = memory();
    let compaction = LeveledOptions { l0_trigger: 1, l0_slowdown: 1, l0_stop: 2, ..LeveledOptions::default() };
    let options = Options { compaction, ..Options::default() };
    let builder = Engine::builder("/data").vfs(Arc::clone(&vfs)).options(options).background(Background::Manual);
    let engine = builder.open().unwrap();
    for round in 0..2 {
        engine.put("a", format!("{round}")).unwrap();
        engine.flush().unwrap();
    }
    let path = table(&vfs, "t", &[("a", "ingested")]);
    assert_eq!(engine.ingest([&path], &COPY).unwrap_err().kind(), ErrorKind::Stalled);
    while engine.step().unwrap() {}
    engine.ingest([&path], &COPY).unwrap();
    assert_eq!(engine.get("a").unwrap().unwrap(), b"ingested");
}

/// Each operation of the file system fails once: the ingest is there whole or not at all, now and after reopening, and what was there before stays.
#[test]
fn whatever_fails_it_is_whole_or_not_at_all() {
    for bulk in [false, true] {
        for fault in [Fault::EIO, Fault::ENOSPC] {
            for n in 1.. {
                let (memory, inner) = memory();
                let faults = FaultVfs::new(inner);
                let vfs: Arc<dyn Vfs> = Arc::clone(&faults) as _;
                let engine = open(&vfs);
                engine.put_with("a", "old", &WriteOptions::sync()).unwrap();
                engine.put("b", "old").unwrap();
                let paths = [table(&vfs, "1", &[("a", "new")]), table(&vfs, "2", &[("b", "new"), ("c", "new")])];
                let fault_at = Rule::any(fault).nth(n).times(1);
                let rule = faults.add(fault_at);
                let result = match bulk {
                    true => engine.bulk_load([("a", "new"), ("b", "new"), ("c", "new")]),
                    false => engine.ingest(&paths, &MOVE),
                };
                let was_met = !faults.rules().iter().any(|(id, _, hits)| *id == rule && *hits == 0);
                faults.clear();
                let (old, new) = ("a=old b=old", "a=new b=new c=new");
                let found = all(&default(&engine));
                assert_eq!(found, if result.is_ok() { new } else { old }, "operation {n}: {result:?}");
                if result.is_err() && !bulk {
                    assert!(paths.iter().all(|path| memory.metadata(path).is_ok()), "they stay where they were");
                }
                let may_be_new = result.as_ref().is_err_and(|error| error.outcome_unknown());
                let image = Arc::new(memory.crash_now(CrashPolicy::All));
                let image: Arc<dyn Vfs> = image;
                drop(engine);
                let engine = open(&image);
                let again = all(&default(&engine));
                assert!(again == found || may_be_new && again == new, "operation {n}: {found}, then {again}");
                assert!(engine.verify().unwrap().is_ok());
                engine.close().unwrap();
                if !was_met {
                    assert!(result.is_ok() && n > 10, "{n} operations: {result:?}");
                    break;
                }
            }
        }
    }
}

#[test]
fn a_bulk_load_is_there_at_its_end_or_never() {
    let (memory, vfs) = memory();
    let compaction = LeveledOptions { table_bytes: 16 << 10, ..LeveledOptions::default() };
    let options = Options { compaction, ..Options::default() };
    let open = |vfs: &Arc<dyn Vfs>| {
        let builder = Engine::builder("/data").vfs(Arc::clone(vfs)).options(options.clone());
        builder.background(Background::Manual).open().unwrap()
    };
    let engine = open(&vfs);
    let key = |i: u32| format!("key{i:06}");
    engine.put(key(7), "old").unwrap();
    let mut load = engine.bulk_writer().unwrap();
    for i in 0..3000 {
        load.put(key(i), [i as u8; 100]).unwrap();
        if i % 100 == 0 {
            assert_eq!(load.put(key(i), "again").unwrap_err().kind(), ErrorKind::InvalidArgument);
        }
    }
    assert_eq!(engine.iter().count(), 1);
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::All));
    let crashed = open(&image);
    assert_eq!(crashed.iter().count(), 1, "a crash before the end");
    assert_eq!(tables_in(&*image), 0, "and the next open sweeps");
    drop(crashed);
    let loaded = load.finish().unwrap();
    assert!(loaded.tables.len() > 2, "{} tables", loaded.tables.len());
    assert_eq!(loaded.entries(), 3000);
    let writes = engine.metrics().log_bytes;
    assert!(writes < 10_000, "the log has seen nothing of it: {writes}");
    for i in (0..3000).step_by(97).chain([7]) {
        assert_eq!(engine.get(key(i)).unwrap().unwrap(), [i as u8; 100]);
    }
    let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
    assert_eq!(open(&image).iter().count(), 3000, "durable when it returns");

    let before = tables_in(&*vfs);
    let mut dropped = engine.bulk_writer().unwrap();
    (0..1000).for_each(|i| dropped.put(key(i), [9; 100]).unwrap());
    assert!(tables_in(&*vfs) > before);
    drop(dropped);
    assert_eq!(tables_in(&*vfs), before, "dropped, it leaves nothing");
    assert!(engine.bulk_writer().unwrap().finish().unwrap().tables.is_empty());
    engine.bulk_load([("b", "1"), ("a", "1")]).unwrap_err();
    assert_eq!(tables_in(&*vfs), before);

    let mut left = engine.bulk_writer().unwrap();
    (0..1000).for_each(|i| left.put(key(i), [9; 100]).unwrap());
    engine.close().unwrap();
    assert_eq!(left.put(key(2000), "x").unwrap_err().kind(), ErrorKind::Closed);
    drop((left, engine));
    let engine = open(&vfs);
    assert_eq!(engine.get(key(1)).unwrap().unwrap(), [1; 100], "closed before its end");
    assert_eq!(tables_in(&*vfs), before);
    while engine.step().unwrap() {}
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn large_values_stay_in_the_table_until_compaction_moves_them() {
    let (_, vfs) = memory();
    let options = Options { blob_bytes_min: 100, ..Options::default() };
    let builder = Engine::builder("/data").vfs(Arc::clone(&vfs)).options(options).background(Background::Manual);
    let engine = builder.open().unwrap();
    let value = "v".repeat(5000);
    let path = table(&vfs, "t", &[("a", &value)]);
    engine.ingest([path], &COPY).unwrap();
    let blobs = || vfs.list("/data".as_ref()).unwrap().iter().filter(|name| name.ends_with(".blob")).count();
    assert_eq!(blobs(), 0);
    assert_eq!(engine.get("a").unwrap().unwrap(), value.as_bytes());
    engine.put("b", &value).unwrap();
    engine.put("a", "short").unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!(engine.get("a").unwrap().unwrap(), b"short");
    assert_eq!(engine.get("b").unwrap().unwrap(), value.as_bytes());
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn events_and_metrics_tell_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let heard = Arc::new(std::sync::Mutex::new(Vec::new()));
    let ears = Arc::clone(&heard);
    let builder = Engine::builder(dir.path().join("data")).vfs(Arc::new(OsVfs));
    let engine = builder.listener(move |event: &esker::Event| ears.lock().unwrap().push(event.clone())).open().unwrap();
    let path = dir.path().join("t.sst");
    let mut table = SstWriter::create(&path, &SstOptions::default()).unwrap();
    table.put("k", "v").unwrap();
    table.finish().unwrap();
    engine.ingest([path], &COPY).unwrap();
    assert_eq!(engine.metrics().ingested_tables, 1);
    assert!(engine.metrics().ingested_bytes > 0);
    let heard = heard.lock().unwrap();
    assert!(
        heard.iter().any(|event| matches!(event, esker::Event::Ingested { tables: 1, entries: 1, .. })),
        "{heard:?}"
    );
}

/// The link itself was taken in, and led nowhere when its file was removed.
#[test]
fn a_link_that_is_moved_stands_for_its_file() {
    let dir = tempfile::tempdir().unwrap();
    let (file, link) = (dir.path().join("t.sst"), dir.path().join("link.sst"));
    let mut table = SstWriter::create(&file, &SstOptions::default()).unwrap();
    table.put("k", "v").unwrap();
    table.finish().unwrap();
    std::os::unix::fs::symlink(&file, &link).unwrap();
    let engine = Engine::open(dir.path().join("data")).unwrap();
    engine.ingest([&link], &MOVE).unwrap();
    engine.close().unwrap();
    drop(engine);
    // The user's own file, which the engine was never given by that name.
    std::fs::remove_file(&file).unwrap();
    let engine = Engine::open(dir.path().join("data")).unwrap();
    assert_eq!(engine.get("k").unwrap().unwrap(), b"v");
}

/// A table that was copied here by a program that synced nothing; a power cut behind its ingest. Nothing failed when it was left to the kernel.
#[test]
fn a_moved_table_that_nobody_had_synced_outlasts_a_power_cut() {
    for options in [MOVE, COPY] {
        let (memory, vfs) = memory();
        let built = table(&vfs, "built.sst", &[("a", "1"), ("b", "2")]);
        let copied = Path::new("/out/copied.sst");
        vfs.create_new(copied).unwrap().append(&esker_bytes(&*vfs, &built)).unwrap();
        let engine = open(&vfs);
        default(&engine).ingest([copied], &options).unwrap();
        let image: Arc<dyn Vfs> = Arc::new(memory.crash_now(CrashPolicy::SyncedOnly));
        let engine = open(&image);
        assert_eq!(all(&default(&engine)), "a=1 b=2");
        assert!(engine.verify().unwrap().is_ok());
    }
}
