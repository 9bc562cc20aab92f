//! Bit rot, truncation, missing and swapped files: an error or the right answer, never a panic, and never a wrong answer.

#[path = "damage/medium.rs"]
mod medium;
#[path = "model/options.rs"]
#[expect(dead_code, reason = "the sets that were picked are for other suites")]
mod options;

use esker::vfs::{CrashPolicy, ManualClock, MemVfs, Vfs, read_file};
use esker::{Background, Engine, ErrorKind, KeyspaceOptions, LeveledOptions, Options, RecoveryMode, WriteOptions};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const DIR: &str = "/data";
type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

/// Tables are left as they are flushed.
fn calm() -> Options {
    let compaction = LeveledOptions { l0_trigger: 8, l0_slowdown: 10, l0_stop: 12, ..options::tiny().compaction };
    Options { compaction, memtable_bytes: Some(1 << 20), ..options::tiny() }
}

fn builder(vfs: &Arc<MemVfs>, options: Options) -> esker::Builder {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder(DIR).vfs(vfs).options(options).background(Background::Manual)
}

/// An engine that was switched off: two keyspaces, three tables, a log.
struct Small {
    vfs: Arc<MemVfs>,
    /// What it held after each write that is in the log alone; the first is what the tables hold.
    states: Vec<Contents>,
    other: Contents,
}

fn small() -> Small {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, calm()).open().unwrap();
    let keyspace = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    let mut now = Contents::new();
    let mut other = Contents::new();
    for (table, letter) in ["a", "b"].into_iter().enumerate() {
        for i in 0..12 {
            let (key, value) = (format!("{letter}{i:02}"), vec![table as u8; 30]);
            engine.put(&key, &value).unwrap();
            now.insert(key.into_bytes(), value);
        }
        engine.delete("a03").unwrap();
        now.remove(&b"a03"[..]);
        if table == 1 {
            engine.delete_range("a05", "a08").unwrap();
            now.retain(|key, _| key[..] < b"a05"[..] || key[..] >= b"a08"[..]);
        }
        keyspace.put(letter, letter).unwrap();
        other.insert(letter.into(), letter.into());
        engine.flush().unwrap();
    }
    let mut states = vec![now.clone()];
    for i in 0..6u8 {
        if i == 4 {
            engine.delete_range([b'c', 1], [b'c', 3]).unwrap();
            now.retain(|key, _| key[..] < [b'c', 1][..] || key[..] >= [b'c', 3][..]);
            states.push(now.clone());
            continue;
        }
        let (key, value) = (vec![b'c', i], vec![i; 20]);
        // The fourth says that the third and those before it were synced.
        let options = if i == 2 { WriteOptions::sync() } else { WriteOptions::default() };
        engine.put_with(&key, &value, &options).unwrap();
        now.insert(key, value);
        states.push(now.clone());
    }
    Small { vfs: Arc::new(vfs.crash_now(CrashPolicy::All)), states, other }
}

/// The same, but closed twice, so that all of it is in tables and no log is left.
fn closed() -> Small {
    let Small { vfs, mut states, other } = small();
    for again in [false, true] {
        let engine = builder(&vfs, calm()).open().unwrap();
        if again {
            engine.put("a00", "again").unwrap();
            states.iter_mut().for_each(|state| drop(state.insert(b"a00".to_vec(), b"again".to_vec())));
        }
        engine.close().unwrap();
    }
    Small { vfs: Arc::new(vfs.crash_now(CrashPolicy::All)), states, other }
}

/// How many of the writes in the log are vouched for by later ones.
const VOUCHED: usize = 3;

fn files(vfs: &MemVfs) -> Vec<PathBuf> {
    vfs.list(Path::new(DIR)).unwrap().iter().map(|name| Path::new(DIR).join(name)).collect()
}

fn file(vfs: &MemVfs, part: &str) -> PathBuf {
    files(vfs).into_iter().find(|path| path.to_str().unwrap().contains(part)).unwrap()
}

/// How far there is anything but zeros.
fn used_bytes(vfs: &MemVfs, path: &Path) -> usize {
    let bytes = read_file(vfs, path, 1 << 30).unwrap();
    bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1)
}

impl Small {
    fn copy(&self) -> Arc<MemVfs> {
        Arc::new(self.vfs.crash_now(CrashPolicy::All))
    }

    /// Reads everything in every way. Errors are fine, wrong answers are not. Returns how many of the log's writes are there, if that can be told.
    fn read(&self, engine: &Engine) -> Option<usize> {
        let other = engine.keyspace("other", KeyspaceOptions::default());
        if let Ok(other) = other {
            check(&self.other, other.iter().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec()))));
        }
        // What is in memory tells which prefix it is, even if tables can't be read.
        let newest = self.states.last().unwrap();
        let in_log = |i: u8| engine.get([b'c', i]).ok().map(|found| found.is_some());
        let found: Option<Vec<bool>> = (0..6).map(in_log).collect();
        let found = found?;
        let is_found = |state: &Contents| (0..6).all(|i| state.contains_key(&[b'c', i][..]) == found[usize::from(i)]);
        let prefix = self.states.iter().position(is_found);
        let prefix = prefix.unwrap_or_else(|| panic!("no prefix: {found:?}"));
        let expected = &self.states[prefix];
        for key in newest.keys().map(|key| &key[..]).chain([&b"a03"[..], b"a05", b"a07"]) {
            if let Ok(value) = engine.get(key) {
                assert_eq!(value.as_deref(), expected.get(key).map(|value| &value[..]), "{}", key.escape_ascii());
            }
        }
        check(expected, engine.iter().map(|item| item.map(|(k, v)| (k.to_vec(), v.to_vec()))));
        Some(prefix)
    }

    /// Opens what `damage` leaves, to read and sometimes to write, and returns how many writes of the log are there, if it opens.
    fn try_open(&self, vfs: &Arc<MemVfs>, write: bool) -> Option<usize> {
        let prefix = builder(vfs, calm()).read_only(true).open().ok().and_then(|engine| self.read(&engine));
        if write {
            let opened = builder(vfs, calm()).open().ok();
            let written = opened.and_then(|engine| {
                let found = self.read(&engine);
                let _ = engine.verify().unwrap();
                let _ = engine.compact_range(..);
                self.read(&engine);
                found
            });
            assert!(written.is_none() || written == prefix, "a writer finds {written:?}, a reader {prefix:?}");
        }
        prefix
    }
}

/// The items are the contents, or their beginning and then an error.
fn check(expected: &Contents, found: impl Iterator<Item = esker::Result<(Vec<u8>, Vec<u8>)>>) {
    let mut expected = expected.iter();
    for item in found {
        let Ok((key, value)) = item else { return };
        assert_eq!(expected.next(), Some((&key, &value)));
    }
    assert_eq!(expected.next(), None, "the scan ends early");
}

/// The end of the last record that some later record vouches for, in bytes of the file.
fn vouched_bytes(vfs: &MemVfs, log: &Path) -> usize {
    let mut reader = esker_wal::Reader::open(vfs.open_read(log).unwrap(), "log").unwrap();
    while reader.next().unwrap().is_some() {}
    (reader.end().unwrap().vouched.0 - reader.header().start.0) as usize
}

#[test]
fn undamaged_it_opens() {
    let small = small();
    assert_eq!(small.try_open(&small.copy(), true), Some(6));
}

#[test]
fn every_byte_of_a_log_flipped() {
    let small = small();
    let log = file(&small.vfs, ".wal");
    let vouched = vouched_bytes(&small.vfs, &log);
    for at in 0..used_bytes(&small.vfs, &log) + 40 {
        let vfs = small.copy();
        vfs.edit(&log, |bytes| bytes[at] ^= 1 << (at % 8)).unwrap();
        let found = small.try_open(&vfs, at % 5 == 0);
        if at < vouched {
            assert!(
                found.is_none_or(|found| found == 6),
                "byte {at}: {found:?} of 6 writes, of which {VOUCHED} were synced"
            );
        } else {
            assert!(found.is_some_and(|found| found >= VOUCHED), "byte {at}: {found:?} of 6 writes");
        }
        // What was lost is lost, but salvage opens.
        let salvage = Options { recovery: RecoveryMode::Salvage, ..calm() };
        let engine = builder(&small.copy(), salvage).open().unwrap();
        assert!(small.read(&engine).is_some());
    }
}

#[test]
fn every_length_of_a_log() {
    let small = small();
    let log = file(&small.vfs, ".wal");
    for len in 0..used_bytes(&small.vfs, &log) + 8 {
        let vfs = small.copy();
        vfs.edit(&log, |bytes| bytes.truncate(len)).unwrap();
        // Who cuts off a log cuts off what vouches for it: an error, or a prefix.
        small.try_open(&vfs, len % 5 == 0);
    }
}

/// Flips every byte of one file, and cuts it to every length: an error, or everything.
fn error_or_everything(small: &Small, part: &str) {
    let path = file(&small.vfs, part);
    for at in 0..used_bytes(&small.vfs, &path) + 16 {
        for flip in [true, false] {
            let vfs = small.copy();
            vfs.edit(&path, |bytes| match flip {
                true if at < bytes.len() => bytes[at] ^= 1 << (at % 8),
                true => bytes.push(1),
                false => bytes.truncate(at),
            })
            .unwrap();
            let found = small.try_open(&vfs, at % 5 == 0);
            assert!(
                found.is_none_or(|found| found == 6),
                "{path:?}, byte {at}, flipped: {flip}: {found:?} of 6 writes"
            );
        }
    }
}

#[test]
fn every_byte_and_length_of_a_table() {
    error_or_everything(&small(), ".sst");
}

#[test]
fn every_byte_and_length_of_the_manifest() {
    error_or_everything(&small(), "MANIFEST");
}

/// Cut at the end of an edit, the manifest said that nothing was ever written, or nothing since the first of two closes: the engine opened so and swept the tables
/// away. A table or log that came later tells that the end is missing.
#[test]
fn every_byte_and_length_of_a_manifest_that_was_closed() {
    error_or_everything(&closed(), "MANIFEST");
}

#[test]
fn every_byte_and_length_of_current_and_options() {
    error_or_everything(&small(), "CURRENT");
    error_or_everything(&small(), "OPTIONS");
}

#[test]
fn every_file_missing_or_swapped_or_another_ones() {
    let small = small();
    // The lock file holds nothing.
    let all: Vec<_> = files(&small.vfs).into_iter().filter(|path| !path.ends_with("LOCK")).collect();
    for path in &all {
        let vfs = small.copy();
        vfs.remove_file(path).unwrap();
        let found = small.try_open(&vfs, true);
        let spared = ["OPTIONS", ".sst"].iter().any(|part| path.to_str().unwrap().contains(part));
        assert_eq!(found.is_some(), spared, "{path:?} missing: {found:?}");
        assert!(found.is_none_or(|found| found == 6));
        for other in all.iter().filter(|other| *other > path) {
            let vfs = small.copy();
            let spare = Path::new(DIR).join("spare");
            for (from, to) in [(path, &spare), (other, path), (&spare, other)] {
                vfs.rename(from, to).unwrap();
            }
            let found = small.try_open(&vfs, true);
            assert!(found.is_none_or(|found| found == 6), "{path:?} and {other:?} swapped: {found:?} of 6 writes");
        }
    }
}

#[test]
fn files_of_another_engine_are_not_taken_for_ours() {
    let small = small();
    // Made in the same way, with the same numbers, but other random ones.
    let foreign = {
        let vfs = MemVfs::new().with_seed(99);
        let engine = builder(&vfs, calm()).open().unwrap();
        engine.keyspace("other", KeyspaceOptions::default()).unwrap();
        for _ in 0..2 {
            engine.put("a00", "foreign").unwrap();
            engine.put("b11", "foreign").unwrap();
            engine.flush().unwrap();
        }
        engine.put("c", "foreign").unwrap();
        Arc::new(vfs.crash_now(CrashPolicy::All))
    };
    let mut compared = 0;
    for path in files(&foreign).iter().filter(|path| path.to_str().unwrap().contains(".sst")) {
        let Ok(bytes) = read_file(&*foreign, path, 1 << 30) else { continue };
        let vfs = small.copy();
        if vfs.edit(path, |ours| *ours = bytes).is_ok() {
            let found = small.try_open(&vfs, true);
            assert!(found.is_none_or(|found| found == 6), "{path:?}: {found:?}");
            compared += 1;
        }
    }
    assert!(compared > 0);
}

/// Three tables side by side, the middle one damaged.
#[test]
fn a_damaged_table_is_kept_and_all_other_keys_are_served() {
    for set in options::by_hand() {
        for missing in [false, true] {
            damaged_table(
                Options { compaction: calm().compaction, memtable_bytes: Some(1 << 20), ..set.clone() },
                missing,
            );
        }
    }
}

fn damaged_table(options: Options, missing: bool) {
    let vfs = MemVfs::new();
    let engine = builder(&vfs, options.clone()).open().unwrap();
    for letter in ["a", "b", "c"] {
        (0..50).for_each(|i| engine.put(format!("{letter}{i:02}"), letter).unwrap());
        engine.flush().unwrap();
    }
    engine.close().unwrap();
    drop(engine);
    let tables: Vec<_> = files(&vfs).into_iter().filter(|path| path.extension().is_some_and(|e| e == "sst")).collect();
    let [_, middle, _] = &tables[..] else { panic!("three tables expected: {tables:?}") };
    match missing {
        true => vfs.remove_file(middle).unwrap(),
        // Within the first block.
        false => vfs.edit(middle, |bytes| bytes[20] ^= 1).unwrap(),
    }
    let bytes = read_file(&*vfs, middle, 1 << 30).ok();

    // Small memtables and an eager picker, so that everything that may be compacted is.
    let mut eager = options;
    eager.compaction = LeveledOptions { l0_trigger: 2, l0_slowdown: 8, l0_stop: 30, ..eager.compaction };
    let engine = builder(&vfs, eager.clone()).open().unwrap();
    let served = |engine: &Engine, value: &[u8]| {
        for letter in ["a", "c"] {
            let value = if value.is_empty() { letter.as_bytes() } else { value };
            for i in 0..50 {
                assert_eq!(engine.get(format!("{letter}{i:02}")).unwrap().unwrap(), value);
            }
            assert_eq!(engine.prefix(letter).filter(|item| item.is_ok()).count(), 50);
        }
    };
    served(&engine, b"");
    assert_eq!(engine.get("b00").unwrap_err().kind(), ErrorKind::Corruption);
    let scanned: Vec<_> = engine.iter().collect();
    assert!(scanned.iter().any(|item| item.is_err()), "a scan never skips what it can't read");
    assert!(scanned.iter().flatten().all(|(key, _)| key.starts_with(b"a")), "nor goes on behind it");
    assert_eq!(engine.verify().unwrap().damaged.len(), 1);

    // Compaction of everything: whatever it answers, it leaves that table alone.
    let _ = engine.compact_range(..);
    for round in 0..6 {
        for letter in ["a", "b", "c"] {
            for i in 0..50 {
                // What failed in the background is shown once, by the next write.
                while let Err(error) = engine.put(format!("{letter}{i:02}"), [round; 30]) {
                    assert_eq!(error.kind(), ErrorKind::Corruption, "{error}");
                }
            }
        }
        engine.flush().unwrap();
        (0..20).take_while(|_| engine.step().unwrap()).for_each(drop);
        served(&engine, &[round; 30]);
        assert_eq!(read_file(&*vfs, middle, 1 << 30).ok(), bytes, "the damaged table stays as it is");
    }
    engine.close().unwrap();
    drop(engine);
    let engine = builder(&vfs, eager).open().unwrap();
    served(&engine, &[5; 30]);
    assert_eq!(read_file(&*vfs, middle, 1 << 30).ok(), bytes, "the damaged table stays as it is");
    assert_eq!(engine.verify().unwrap().damaged.len(), 1);
}

/// A walk that ends before a damaged table, or begins behind one, is none of its business. It reached for the next table of the level all the same, and ended with an error.
#[test]
fn walks_beside_a_damaged_table_are_served() {
    let compaction = LeveledOptions { table_bytes: 4 << 10, compact_for_reads: false, ..LeveledOptions::default() };
    let options = Options { compaction, block_size_bytes: 256, ..Options::default() };
    let vfs = MemVfs::new();
    let engine = builder(&vfs, options.clone()).open().unwrap();
    let key = |i: usize| format!("{i:06}");
    for i in 0..1_000 {
        engine.put(key(i), [i as u8; 40]).unwrap();
    }
    engine.compact_range(..).unwrap();
    engine.close().unwrap();
    let tables: Vec<PathBuf> =
        files(&vfs).into_iter().filter(|path| path.extension().is_some_and(|end| end == "sst")).collect();
    assert!(tables.len() > 4);
    vfs.remove_file(&tables[tables.len() / 2]).unwrap();
    let engine = builder(&vfs, options).open().unwrap();
    let lost: Vec<usize> = (0..1_000).filter(|i| engine.get(key(*i)).is_err()).collect();
    let (first, last) = (lost[0], lost[lost.len() - 1]);
    assert!(first > 100 && last < 900);
    for range in [key(first - 5)..key(first), key(last + 1)..key(last + 6)] {
        let forward: Vec<_> = engine.range(range.clone()).keys().collect::<Result<_, _>>().unwrap();
        let mut backward: Vec<_> = engine.range(range.clone()).keys().rev().collect::<Result<_, _>>().unwrap();
        backward.reverse();
        assert_eq!((forward.len(), &forward), (5, &backward));
    }
    for range in [key(first - 5)..key(first + 1), key(last)..key(last + 6)] {
        assert!(engine.range(range.clone()).any(|item| item.is_err()), "it reaches into it");
        assert!(engine.range(range).rev().any(|item| item.is_err()));
    }
}

/// What was synced last can't be told from a torn end if it is damaged, until the log says that it was: a marker, when it falls idle. Nothing failed without.
#[test]
fn damage_in_what_was_synced_last_is_damage_once_the_log_is_idle() {
    const VALUE: &[u8] = b"synced last";
    let clock = Arc::new(ManualClock::new());
    let vfs = MemVfs::new().with_clock(Arc::clone(&clock) as _);
    let engine = builder(&vfs, calm()).open().unwrap();
    engine.put_with("a", VALUE, &WriteOptions::sync()).unwrap();
    let open = || {
        let image = Arc::new(vfs.crash_now(CrashPolicy::All));
        let log = files(&image).into_iter().find(|path| {
            let bytes = read_file(&*image, path, 1 << 30).unwrap();
            path.extension().is_some_and(|kind| kind == "wal") && bytes.windows(VALUE.len()).any(|part| part == VALUE)
        });
        image
            .edit(&log.unwrap(), |bytes| {
                let at = bytes.windows(VALUE.len()).position(|part| part == VALUE).unwrap();
                bytes[at] ^= 1;
            })
            .unwrap();
        builder(&image, calm()).open().map(|engine| engine.get("a").unwrap())
    };
    assert_eq!(open().unwrap(), None);
    for _ in 0..3 {
        clock.advance(Duration::from_millis(500));
        while engine.step().unwrap() {}
    }
    assert_eq!(open().unwrap_err().kind(), ErrorKind::Corruption);
}
