//! Calls that can't be right get an error that says why, and lose nothing.

use esker::vfs::{MemVfs, Vfs};
use esker::{
    Background, Engine, Error, ErrorKind, KEY_BYTES_MAX, KeyspaceOptions, LeveledOptions, Options, WriteBatch,
    WriteOptions,
};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

fn memory() -> Arc<dyn Vfs> {
    MemVfs::new()
}

fn open(vfs: &Arc<dyn Vfs>) -> Engine {
    Engine::builder("data").vfs(Arc::clone(vfs)).background(Background::Manual).open().unwrap()
}

/// Asserts that it failed, with this kind, and that the message names what was wrong.
#[track_caller]
fn refused<T: std::fmt::Debug>(result: Result<T, Error>, kind: ErrorKind, named: &str) {
    let error = result.unwrap_err();
    assert_eq!(error.kind(), kind, "{error}");
    assert!(error.to_string().contains(named), "{named:?} is not in: {error}");
}

/// Every file in a directory, with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = std::fs::read_dir(dir).unwrap().map(Result::unwrap);
    entries.map(|entry| (entry.file_name().into_string().unwrap(), std::fs::read(entry.path()).unwrap())).collect()
}

/// Copies a directory as it is: of an open engine, what its process would leave if it died now.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    files(from).into_iter().for_each(|(name, bytes)| std::fs::write(to.join(name), bytes).unwrap());
}

#[test]
fn keys_beyond_the_limit() {
    let vfs = memory();
    let engine = open(&vfs);
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    engine.put("k", "1").unwrap();
    users.put("k", "1").unwrap();
    let seq = engine.metrics().last_seq;
    let long = vec![b'x'; KEY_BYTES_MAX + 1];
    refused(engine.put(&long, "1"), ErrorKind::InvalidArgument, "65536");
    refused(engine.put_with(&long, "1", &WriteOptions::sync()), ErrorKind::InvalidArgument, "65535");
    refused(engine.delete(&long), ErrorKind::InvalidArgument, "65536");
    refused(users.put(&long, "1"), ErrorKind::InvalidArgument, "65536");
    let mut batch = WriteBatch::new();
    batch.put("k", "2").put_in(&users, &long, "2").delete_in(&users, "k");
    refused(engine.write(&batch), ErrorKind::InvalidArgument, "65536");
    refused(engine.write(&batch), ErrorKind::InvalidArgument, "65536");
    assert_eq!(engine.metrics().last_seq, seq, "nothing was logged");
    assert_eq!(engine.get("k").unwrap().unwrap(), b"1");
    assert_eq!(users.get("k").unwrap().unwrap(), b"1");
    // A refused put spoils nothing for the next on the same thread, nor a batch that was cleared.
    engine.put("k", "3").unwrap();
    batch.clear();
    batch.put("k", "4");
    engine.write(&batch).unwrap();
    assert_eq!(engine.iter().count() + users.iter().count(), 2);

    // To ask for such a key is no mistake: it is not there.
    assert_eq!(engine.get(&long).unwrap(), None);
    assert_eq!(engine.range(&long..).count(), 0);
    let mut cursor = engine.cursor();
    cursor.seek_for_prev(&long).unwrap();
    assert_eq!(cursor.key(), b"k");
}

#[test]
fn directories_that_are_none() {
    let dir = tempfile::tempdir().unwrap();
    let only_existing = || Options { create_if_missing: false, ..Options::default() };
    let missing = dir.path().join("missing");
    refused(Engine::builder(&missing).options(only_existing()).open(), ErrorKind::NotFound, "missing");
    refused(Engine::builder(&missing).read_only(true).open(), ErrorKind::NotFound, "missing");
    assert!(!missing.exists(), "nothing is made");
    refused(Engine::stored_options(&missing), ErrorKind::NotFound, "missing");

    let empty = dir.path().join("empty");
    std::fs::create_dir(&empty).unwrap();
    refused(Engine::builder(&empty).options(only_existing()).open(), ErrorKind::NotFound, "empty");
    refused(Engine::builder(&empty).read_only(true).open(), ErrorKind::NotFound, "empty");
    assert_eq!(files(&empty).len(), 0, "not even a lock");

    let file = dir.path().join("file");
    std::fs::write(&file, "mine").unwrap();
    refused(Engine::open(&file), ErrorKind::InvalidArgument, "is a file");
    refused(Engine::builder(&file).read_only(true).open(), ErrorKind::InvalidArgument, "is a file");
    Engine::open(file.join("below")).unwrap_err();
    assert_eq!(std::fs::read(&file).unwrap(), b"mine");

    // Someone else's files are no engine, and no reason not to make one.
    std::fs::write(empty.join("notes.txt"), "mine").unwrap();
    Engine::open(&empty).unwrap().put("k", "1").unwrap();
    assert_eq!(std::fs::read(empty.join("notes.txt")).unwrap(), b"mine");
    // An engine whose CURRENT is gone is never taken for an empty directory.
    std::fs::remove_file(empty.join("CURRENT")).unwrap();
    let before = files(&empty);
    for read_only in [false, true] {
        refused(Engine::builder(&empty).read_only(read_only).open(), ErrorKind::Corruption, "CURRENT");
        assert_eq!(files(&empty), before);
    }
}

#[test]
fn options_that_cannot_work() {
    let vfs = memory();
    let knobs = |change: fn(&mut LeveledOptions)| {
        let mut compaction = LeveledOptions::default();
        change(&mut compaction);
        Options { compaction, ..Options::default() }
    };
    let default = Options::default;
    let wrong = [
        ("memory_budget_bytes", Options { memory_budget_bytes: 0, ..default() }),
        ("memtable_bytes", Options { memtable_bytes: Some(0), ..default() }),
        ("block_size_bytes", Options { block_size_bytes: 0, ..default() }),
        ("block_size_bytes", Options { block_size_bytes: usize::MAX, ..default() }),
        ("filter_bits_per_key", Options { filter_bits_per_key: 1000, ..default() }),
        ("background_threads", Options { background_threads: 0, ..default() }),
        ("l0_trigger", knobs(|knobs| knobs.l0_trigger = 0)),
        ("l0_stop", knobs(|knobs| knobs.l0_stop = knobs.l0_slowdown)),
        ("level_ratio", knobs(|knobs| knobs.level_ratio = 1)),
        ("debt_slowdown_bytes", knobs(|knobs| knobs.debt_stop_bytes = 0)),
        ("table_bytes", knobs(|knobs| knobs.table_bytes = 0)),
    ];
    for (named, options) in wrong {
        let opened = Engine::builder("data").options(options).vfs(Arc::clone(&vfs)).open();
        refused(opened, ErrorKind::InvalidArgument, named);
        assert!(vfs.metadata(Path::new("data")).is_err(), "{named}: nothing is made");
    }
    let engine = open(&vfs);
    let wrong = [
        ("memtable_bytes", KeyspaceOptions { memtable_bytes: Some(0), ..Default::default() }),
        ("block_size_bytes", KeyspaceOptions { block_size_bytes: Some(1), ..Default::default() }),
        ("filter_bits_per_key", KeyspaceOptions { filter_bits_per_key: Some(65), ..Default::default() }),
    ];
    for (named, options) in wrong {
        refused(engine.keyspace("users", options.clone()), ErrorKind::InvalidArgument, named);
        refused(engine.keyspace("default", options), ErrorKind::InvalidArgument, named);
    }
    assert_eq!(engine.keyspaces(), ["default"]);
}

#[test]
fn names_of_keyspaces() {
    let vfs = memory();
    let engine = open(&vfs);
    refused(engine.keyspace("", KeyspaceOptions::default()), ErrorKind::InvalidArgument, "name");
    refused(engine.keyspace("n".repeat(256), KeyspaceOptions::default()), ErrorKind::InvalidArgument, "256");
    refused(engine.keyspace("ü".repeat(128), KeyspaceOptions::default()), ErrorKind::InvalidArgument, "256");
    refused(engine.drop_keyspace("users"), ErrorKind::NotFound, "users");
    refused(engine.drop_keyspace(""), ErrorKind::NotFound, "keyspace");
    refused(engine.drop_keyspace("default"), ErrorKind::InvalidArgument, "default");
    assert_eq!(engine.keyspaces(), ["default"]);
    // A name is only a name.
    let odd = ["../../etc", "a b\n\0", "default ", &"n".repeat(255)];
    for name in odd {
        engine.keyspace(name, KeyspaceOptions::default()).unwrap().put("k", name).unwrap();
    }
    drop(engine);
    let engine = open(&vfs);
    for name in odd {
        let keyspace = engine.keyspace(name, KeyspaceOptions::default()).unwrap();
        assert_eq!(keyspace.get("k").unwrap().unwrap(), name.as_bytes());
    }
    assert_eq!(engine.keyspaces().len(), 5);
}

#[test]
fn keyspaces_of_another_engine() {
    let (left, right) = (open(&memory()), open(&memory()));
    let make = |engine: &Engine| engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    let (ours, theirs) = (make(&left), make(&right));
    assert_eq!(ours.id(), theirs.id(), "their numbers are no help");
    ours.put("k", "ours").unwrap();
    theirs.put("k", "theirs").unwrap();

    let mut both = WriteBatch::new();
    both.put("k", "1").put_in(&ours, "k", "1").put_in(&theirs, "k", "1");
    refused(left.write(&both), ErrorKind::InvalidArgument, "two engines");
    refused(right.write(&both), ErrorKind::InvalidArgument, "two engines");
    let mut for_left = WriteBatch::new();
    for_left.put("k", "1").delete_in(&ours, "k");
    refused(right.write(&for_left), ErrorKind::InvalidArgument, "another engine");
    assert_eq!((left.get("k").unwrap(), right.get("k").unwrap()), (None, None));
    assert_eq!(ours.get("k").unwrap().unwrap(), b"ours");
    assert_eq!(theirs.get("k").unwrap().unwrap(), b"theirs");

    let snapshot = left.snapshot();
    refused(snapshot.of(&theirs).get("k"), ErrorKind::InvalidArgument, "another engine");
    refused(snapshot.of(&theirs).multi_get(["k"]), ErrorKind::InvalidArgument, "another engine");
    refused(snapshot.of(&theirs).contains_key("k"), ErrorKind::InvalidArgument, "another engine");
    let items: Vec<_> = snapshot.of(&theirs).iter().collect();
    assert_eq!(items.len(), 1, "the error, once, and not an empty scan");
    assert_eq!(items[0].as_ref().unwrap_err().kind(), ErrorKind::InvalidArgument);
    let mut cursor = snapshot.of(&theirs).cursor();
    refused(cursor.seek_to_first(), ErrorKind::InvalidArgument, "another engine");
    assert_eq!(snapshot.of(&ours).get("k").unwrap().unwrap(), b"ours");
}

#[test]
fn a_dropped_keyspace() {
    let engine = open(&memory());
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    users.put("k", "1").unwrap();
    let mut batch = WriteBatch::new();
    batch.put("k", "1").put_in(&users, "k", "2");
    engine.drop_keyspace("users").unwrap();
    refused(engine.write(&batch), ErrorKind::NotFound, "dropped");
    assert_eq!(engine.get("k").unwrap(), None, "nothing of the batch is written");
    refused(users.put("k", "1"), ErrorKind::NotFound, "users");
    refused(users.delete("k"), ErrorKind::NotFound, "users");
    refused(users.get("k"), ErrorKind::NotFound, "users");
    refused(users.compact_range(..), ErrorKind::NotFound, "users");
    refused(users.iter().next().unwrap(), ErrorKind::NotFound, "users");
    refused(users.cursor().seek("k"), ErrorKind::NotFound, "users");
    engine.put("still", "writes").unwrap();
}

#[test]
fn ranges_that_hold_nothing() {
    let engine = open(&memory());
    for key in ["a", "b", "c"] {
        engine.put(key, "1").unwrap();
    }
    assert_eq!(engine.range("c".."a").count(), 0);
    assert_eq!(engine.range("c".."a").rev().count(), 0);
    assert_eq!(engine.range("b".."b").count(), 0);
    assert_eq!(engine.range("c"..="b").count(), 0);
    engine.compact_range("c".."a").unwrap();
    assert_eq!(engine.iter().count(), 3);
}

#[test]
fn handles_after_close() {
    let vfs = memory();
    let engine = open(&vfs);
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    for i in 0..100 {
        engine.put(format!("{i:03}"), [b'v'; 200]).unwrap();
        if i == 50 {
            engine.flush().unwrap();
        }
    }
    let snapshot = engine.snapshot();
    let (mut iter, mut cursor) = (engine.iter(), engine.cursor());
    let (unused, mut unused_cursor) = (engine.iter(), snapshot.cursor());
    let slice = engine.get("010").unwrap().unwrap();
    iter.next().unwrap().unwrap();
    cursor.seek("002").unwrap();
    engine.close().unwrap();
    engine.close().unwrap();

    refused(engine.get("k"), ErrorKind::Closed, "closed");
    refused(engine.multi_get(["k"]), ErrorKind::Closed, "closed");
    refused(engine.put("k", "1"), ErrorKind::Closed, "closed");
    refused(engine.write(WriteBatch::new()), ErrorKind::Closed, "closed");
    refused(engine.iter().next().unwrap(), ErrorKind::Closed, "closed");
    refused(engine.cursor().seek_to_first(), ErrorKind::Closed, "closed");
    refused(engine.snapshot().get("k"), ErrorKind::Closed, "closed");
    refused(engine.verify(), ErrorKind::Closed, "closed");
    refused(engine.keyspace("users", KeyspaceOptions::default()), ErrorKind::Closed, "closed");
    refused(users.put("k", "1"), ErrorKind::Closed, "closed");
    refused(users.get("k"), ErrorKind::Closed, "closed");
    refused(snapshot.get("k"), ErrorKind::Closed, "closed");
    refused(snapshot.of(&users).iter().next().unwrap(), ErrorKind::Closed, "closed");
    engine.metrics();
    assert_eq!(engine.clone().path(), Path::new("data"));

    drop((engine, users, snapshot));
    assert_eq!(iter.filter(Result::is_ok).count(), 99, "an iterator stays whole");
    assert_eq!(unused.map(Result::unwrap).count(), 100, "also one that had not begun");
    cursor.next().unwrap();
    assert_eq!((cursor.key(), cursor.value().unwrap()), (&b"003"[..], &[b'v'; 200][..]));
    cursor.seek_to_last().unwrap();
    assert_eq!(cursor.key(), b"099");
    refused(cursor.refresh(), ErrorKind::Closed, "closed");
    unused_cursor.seek("042").unwrap();
    assert_eq!(unused_cursor.key(), b"042");
    assert_eq!(*slice, [b'v'; 200]);
    assert_eq!(open(&vfs).iter().count(), 100, "and another may open it");
}

#[test]
fn two_openers_in_one_process() {
    let dir = tempfile::tempdir().unwrap();
    // By hand, so that nothing but the openers could change a file: its own threads would make room in the log behind the write.
    let engine = Engine::builder(dir.path()).background(Background::Manual).open().unwrap();
    engine.put("k", "1").unwrap();
    let before = files(dir.path());
    refused(Engine::open(dir.path()), ErrorKind::Locked, "in this process or another");
    refused(Engine::builder(dir.path()).read_only(true).open(), ErrorKind::Locked, "open for writing");
    assert_eq!(files(dir.path()), before);
    let (snapshot, iter) = (engine.snapshot(), engine.iter());
    drop(engine);
    refused(Engine::open(dir.path()), ErrorKind::Locked, "close it there first");
    drop(snapshot);
    // Nor does an iterator keep it open.
    let again = Engine::open(dir.path()).unwrap();
    assert_eq!(again.iter().count(), iter.count());
}

#[test]
fn two_openers_in_two_processes() {
    const CHILD: &str = "ESKER_MISUSE_CHILD";
    if let Some(dir) = std::env::var_os(CHILD) {
        let engine = Engine::open(dir).unwrap();
        engine.put("child", "1").unwrap();
        println!("\nready");
        std::thread::sleep(std::time::Duration::from_secs(60));
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("db");
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "two_openers_in_two_processes", "--nocapture"])
        .env(CHILD, &path)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap() == "ready"), "the child did not open it");
    let writer = Engine::open(&path);
    let reader = Engine::builder(&path).read_only(true).open();
    // Its death, however sudden, frees the lock, and loses nothing that was acknowledged.
    child.kill().unwrap();
    child.wait().unwrap();
    refused(writer, ErrorKind::Locked, "in this process or another");
    refused(reader, ErrorKind::Locked, "open for writing");
    assert_eq!(Engine::open(&path).unwrap().get("child").unwrap().unwrap(), b"1");
}

#[test]
fn writers_beside_readers() {
    let dir = tempfile::tempdir().unwrap();
    Engine::open(dir.path()).unwrap().put("k", "1").unwrap();
    let read = || Engine::builder(dir.path()).read_only(true).open();
    let (one, two) = (read().unwrap(), read().unwrap());
    refused(Engine::open(dir.path()), ErrorKind::Locked, "close it there first");
    assert_eq!(one.get("k").unwrap(), two.get("k").unwrap());
    drop(one);
    refused(Engine::open(dir.path()), ErrorKind::Locked, "close it there first");
    two.close().unwrap();
    Engine::open(dir.path()).unwrap().put("k", "2").unwrap();
}

#[test]
fn writing_through_a_reader() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path()).unwrap();
    engine.keyspace("users", KeyspaceOptions::default()).unwrap().put("k", "1").unwrap();
    drop(engine);
    let before = files(dir.path());
    let reader = Engine::builder(dir.path()).read_only(true).open().unwrap();
    let users = reader.keyspace("users", KeyspaceOptions::default()).unwrap();
    refused(reader.put("k", "1"), ErrorKind::ReadOnly, "for reading only");
    refused(reader.write(WriteBatch::new().put_in(&users, "k", "2")), ErrorKind::ReadOnly, "for reading only");
    refused(users.delete("k"), ErrorKind::ReadOnly, "for reading only");
    refused(reader.keyspace("new", KeyspaceOptions::default()), ErrorKind::NotFound, "new");
    refused(reader.drop_keyspace("users"), ErrorKind::ReadOnly, "for reading only");
    refused(reader.flush(), ErrorKind::ReadOnly, "for reading only");
    refused(reader.sync(), ErrorKind::ReadOnly, "for reading only");
    refused(reader.step(), ErrorKind::ReadOnly, "for reading only");
    refused(reader.compact_range(..), ErrorKind::ReadOnly, "for reading only");
    refused(reader.resume(), ErrorKind::ReadOnly, "for reading only");
    assert_eq!(users.get("k").unwrap().unwrap(), b"1");
    reader.close().unwrap();
    assert_eq!(files(dir.path()), before);
}

#[test]
fn a_reader_changes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let original = dir.path().join("original");
    let options = Options { memtable_bytes: Some(32 << 10), ..Options::default() };
    let engine = Engine::builder(&original).options(options.clone()).background(Background::Manual).open().unwrap();
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    for i in 0..1000 {
        engine.put(format!("{i:05}"), [b'v'; 100]).unwrap();
        users.put(format!("{i:05}"), "1").unwrap();
        if i == 300 {
            engine.flush().unwrap();
        }
    }
    // An end as by `kill -9`, with more logs to replay than a memtable holds, files to sweep, and a torn record.
    let killed = dir.path().join("killed");
    copy(&original, &killed);
    std::fs::write(killed.join("000900.sst"), "nobody names it").unwrap();
    std::fs::write(killed.join("000901.sst.tmp"), "half").unwrap();
    std::fs::write(killed.join("CURRENT.tmp"), "half").unwrap();
    engine.put("torn", [b't'; 1000]).unwrap();
    let torn = dir.path().join("torn");
    copy(&original, &torn);
    let log = files(&torn).into_keys().filter(|name| name.ends_with(".wal")).max().unwrap();
    let mut bytes = std::fs::read(torn.join(&log)).unwrap();
    let record = bytes.windows(20).position(|bytes| *bytes == [b't'; 20]).unwrap();
    bytes.truncate(record + 500);
    std::fs::write(torn.join(&log), bytes).unwrap();
    drop((engine, users));

    for unclean in [&original, &killed, &torn] {
        let before = files(unclean);
        for _ in 0..2 {
            let reader = Engine::builder(unclean).options(options.clone()).read_only(true).open().unwrap();
            let users = reader.keyspace("users", KeyspaceOptions::default()).unwrap();
            let torn = usize::from(unclean == &original);
            assert_eq!((reader.iter().count(), users.iter().count()), (1000 + torn, 1000));
            assert_eq!(reader.iter().rev().count(), 1000 + torn);
            assert_eq!(&reader.get("00999").unwrap().unwrap()[..], [b'v'; 100]);
            assert!(reader.verify().unwrap().is_ok());
            let cursor = &mut reader.cursor();
            cursor.seek("00500").unwrap();
            reader.metrics();
            reader.close().unwrap();
            assert!(files(unclean) == before, "{}: a reader changed something", unclean.display());
        }
        // Who may write finds it as it was, and cleans up.
        let engine = Engine::builder(unclean).background(Background::Manual).open().unwrap();
        assert_eq!(engine.prefix("0").count(), 1000);
        assert!(!files(unclean).keys().any(|name| name.ends_with(".tmp") || name == "000900.sst"));
    }
}

#[test]
fn a_reader_of_a_damaged_engine_changes_no_file() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path().join("db")).unwrap();
    engine.put_with("k", "1", &WriteOptions::sync()).unwrap();
    engine.put_with("l", "1", &WriteOptions::sync()).unwrap();
    engine.put_with("m", "1", &WriteOptions::sync()).unwrap();
    let damaged = dir.path().join("damaged");
    copy(engine.path(), &damaged);
    let log = files(&damaged).into_keys().find(|name| name.ends_with(".wal")).unwrap();
    let mut bytes = std::fs::read(damaged.join(&log)).unwrap();
    bytes[70] ^= 1;
    std::fs::write(damaged.join(&log), bytes).unwrap();
    let before = files(&damaged);
    refused(Engine::builder(&damaged).read_only(true).open(), ErrorKind::Corruption, &log);
    assert!(files(&damaged) == before);
    refused(Engine::open(&damaged), ErrorKind::Corruption, "Salvage");
    assert_eq!(files(&damaged)[&log], before[&log], "what is refused is not touched");
}

#[test]
fn a_checkpoint_over_what_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::open(dir.path().join("db")).unwrap();
    engine.put("k", "1").unwrap();
    refused(engine.checkpoint(engine.path()), ErrorKind::InvalidArgument, "db");
    assert_eq!(engine.get("k").unwrap().unwrap(), b"1");
    engine.put("k", "2").unwrap();
    drop(engine);
    assert_eq!(Engine::open(dir.path().join("db")).unwrap().get("k").unwrap().unwrap(), b"2");
}

/// What has the name of the options and is no file, or may not be read, kept the store from opening, though nothing depends on it.
#[test]
fn whatever_lies_in_the_place_of_the_options_the_store_opens() {
    for nth in 0..3 {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(dir.path()).unwrap();
        engine.put("k", "v").unwrap();
        engine.close().unwrap();
        drop(engine);
        let name = |entry: &std::fs::DirEntry| entry.file_name().into_string().unwrap();
        let options = || {
            let entries = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap());
            entries.filter(|entry| name(entry).starts_with("OPTIONS-")).map(|entry| entry.path()).collect::<Vec<_>>()
        };
        let path = options().remove(0);
        std::fs::remove_file(&path).unwrap();
        match nth {
            0 => std::fs::create_dir(&path).unwrap(),
            1 => std::os::unix::fs::symlink(dir.path().join("nowhere"), &path).unwrap(),
            _ => {
                std::fs::write(&path, vec![b'#'; 1 << 20]).unwrap();
            }
        }
        let reader = Engine::builder(dir.path()).read_only(true).open().unwrap();
        assert_eq!(reader.get("k").unwrap().unwrap(), b"v");
        drop(reader);
        for _ in 0..2 {
            let engine = Engine::open(dir.path()).unwrap();
            assert_eq!(engine.get("k").unwrap().unwrap(), b"v");
            engine.put("k", "v").unwrap();
            engine.close().unwrap();
        }
        assert!(
            options().iter().any(|path| std::fs::read_to_string(path).is_ok_and(|text| text.contains("format = ")))
        );
    }
}
