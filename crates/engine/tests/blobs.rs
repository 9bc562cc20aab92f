//! Large values in blob files: read from where they lie, collected when they are garbage, and nothing lost on the way.

use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{Background, Engine, ErrorKind, KeyspaceOptions, LeveledOptions, Options, ReadMode};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const DIR: &str = "/data";

fn options() -> Options {
    Options { memtable_bytes: Some(256 << 10), blob_bytes_min: 1 << 10, ..Options::default() }
}

fn open(vfs: &Arc<MemVfs>, options: Options) -> Engine {
    builder(vfs, options).open().unwrap()
}

fn builder(vfs: &Arc<MemVfs>, options: Options) -> esker::Builder {
    let vfs = Arc::clone(vfs) as Arc<dyn Vfs>;
    Engine::builder(DIR).vfs(vfs).options(options).background(Background::Manual)
}

/// A value that no other key and round has.
fn value(i: usize, round: usize) -> Vec<u8> {
    let mut value = vec![round as u8; 4000 + i % 100];
    value[..8].copy_from_slice(&(i as u64).to_le_bytes());
    value
}

fn key(i: usize) -> String {
    format!("key{i:05}")
}

fn settle(engine: &Engine) {
    while engine.step().unwrap() {}
}

fn blob_files(vfs: &MemVfs) -> Vec<PathBuf> {
    let names = vfs.list(Path::new(DIR)).unwrap();
    names.iter().filter(|name| name.ends_with(".blob")).map(|name| Path::new(DIR).join(name)).collect()
}

#[test]
fn every_way_of_reading_finds_them() {
    for read_mode in [ReadMode::Map, ReadMode::Pread, ReadMode::GuardedMap] {
        let vfs = MemVfs::new();
        let engine = open(&vfs, Options { read_mode, ..options() });
        for i in 0..50 {
            engine.put(key(i), value(i, 0)).unwrap();
            engine.put(format!("short{i:05}"), "inline").unwrap();
        }
        engine.flush().unwrap();
        assert_eq!(blob_files(&vfs).len(), 1);
        let read = engine.get(key(7)).unwrap().unwrap();
        assert_eq!(read, value(7, 0));
        assert!(read.is_pinned());
        assert_eq!(engine.get("short00007").unwrap().unwrap(), b"inline");
        assert!(engine.contains_key(key(3)).unwrap());
        let many = engine.multi_get([key(1), "nothing".into(), key(2)]).unwrap();
        assert_eq!(many[0].as_deref(), Some(&value(1, 0)[..]));
        assert!(many[1].is_none() && many[2].as_deref() == Some(&value(2, 0)[..]));

        let (front, back): (Vec<_>, Vec<_>) = (
            engine.prefix("key").map(Result::unwrap).collect(),
            engine.prefix("key").rev().map(Result::unwrap).collect(),
        );
        assert_eq!(front.len(), 50);
        assert!(front.iter().eq(back.iter().rev()));
        assert!(front.iter().enumerate().all(|(i, (k, v))| *k == *key(i).as_bytes() && *v == value(i, 0)));

        let mut cursor = engine.cursor();
        cursor.seek_for_prev(key(49)).unwrap();
        for i in (0..50).rev() {
            assert_eq!(cursor.key(), key(i).as_bytes());
            assert_eq!(cursor.value().unwrap(), value(i, 0));
            assert_eq!(cursor.value().unwrap(), value(i, 0), "the second time as the first");
            cursor.prev().unwrap();
        }
        // What was read outlives the engine.
        engine.close().unwrap();
        drop((engine, cursor));
        assert_eq!(read, value(7, 0));
        assert_eq!(front[9].1, value(9, 0));
    }
}

/// A walk over the keys alone would have to fail if it read a value: there is none that is whole.
#[test]
fn a_walk_over_keys_reads_no_value() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, Options { read_mode: ReadMode::Pread, ..options() });
    for i in 0..20 {
        engine.put(key(i), value(i, 0)).unwrap();
    }
    engine.flush().unwrap();
    vfs.edit(&blob_files(&vfs)[0], |bytes| bytes[40..].iter_mut().for_each(|byte| *byte ^= 1)).unwrap();
    assert_eq!(engine.iter().keys().map(Result::unwrap).count(), 20);
    assert_eq!(engine.iter().keys().rev().map(Result::unwrap).count(), 20);
    let mut cursor = engine.cursor();
    cursor.seek_to_first().unwrap();
    for i in 0..20 {
        assert_eq!(cursor.key(), key(i).as_bytes());
        let error = cursor.value().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corruption);
        assert!(error.to_string().contains(".blob"), "{error}");
        cursor.next().unwrap();
    }
    assert!(!cursor.valid());
    assert_eq!(engine.get(key(3)).unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(engine.iter().next().unwrap().unwrap_err().kind(), ErrorKind::Corruption);
    assert_eq!(engine.verify().unwrap().damaged.len(), 1);
}

/// Without further writes: what background work leaves when it has nothing more to do is within the bound.
#[test]
fn what_is_wasted_stays_within_its_bound() {
    for percent in [10, 30, 60] {
        let compaction = LeveledOptions { blob_garbage_percent_max: percent, ..LeveledOptions::default() };
        let options = Options { compaction, ..options() };
        let vfs = MemVfs::new();
        let engine = open(&vfs, options.clone());
        const KEYS: usize = 500;
        let mut last = [0; KEYS];
        let mut random = 1usize;
        for round in 1..=10 {
            for _ in 0..KEYS {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let i = (random >> 33) % KEYS;
                // Background work lags behind as far as it may.
                while let Err(error) = engine.put(key(i), value(i, round)) {
                    assert!(error.kind() == ErrorKind::Stalled && engine.step().unwrap(), "{error}");
                }
                last[i] = round;
                if engine.metrics().keyspaces[0].sealed_memtables > 0 {
                    engine.step().unwrap();
                }
            }
        }
        engine.flush().unwrap();
        settle(&engine);
        let metrics = &engine.metrics().keyspaces[0];
        let live: usize = (0..KEYS).filter(|i| last[*i] > 0).map(|i| value(i, 0).len()).sum();
        let allowed = live as u64 * 100 / u64::from(100 - percent);
        // Files of 80 bytes around the records, records of up to 15 around the values.
        let slack = 80 * metrics.blob_files as u64 + 16 * KEYS as u64 * 2;
        assert!(metrics.blob_bytes <= allowed + slack, "{percent} %: {} of {allowed}", metrics.blob_bytes);
        assert!(metrics.blob_garbage_bytes * 100 <= metrics.blob_bytes * u64::from(percent));
        let on_disk: u64 = blob_files(&vfs).iter().map(|path| vfs.metadata(path).unwrap().len_bytes).sum();
        assert_eq!(on_disk, metrics.blob_bytes, "files that are not needed are gone");
        let check = |engine: &Engine| {
            for (i, round) in last.iter().enumerate() {
                let expected = (*round > 0).then(|| value(i, *round));
                assert_eq!(engine.get(key(i)).unwrap().as_deref(), expected.as_deref(), "{i}");
            }
            assert!(engine.verify().unwrap().is_ok());
        };
        check(&engine);
        engine.close().unwrap();
        check(&open(&vfs, options));
    }
}

/// What is hidden need not be hidden by large values: short ones and deletions hide as much.
#[test]
fn what_short_values_and_deletions_hide_is_given_back() {
    const KEYS: usize = 500;
    for deletes in [0, 4, 2] {
        let vfs = MemVfs::new();
        let engine = open(&vfs, options());
        for i in 0..KEYS {
            engine.put(key(i), value(i, 0)).unwrap();
        }
        engine.compact_range(..).unwrap();
        settle(&engine);
        let full = engine.metrics().keyspaces[0].blob_bytes;
        assert!(full > KEYS as u64 * 4000);
        for i in 0..KEYS {
            match deletes > 0 && i % deletes == 0 {
                true => engine.delete(key(i)).unwrap(),
                false => engine.put(key(i), "short").unwrap(),
            }
        }
        engine.flush().unwrap();
        settle(&engine);
        assert_eq!(engine.metrics().keyspaces[0].blob_bytes, 0, "of {full}");
        assert_eq!(engine.iter().count(), if deletes > 0 { KEYS - KEYS.div_ceil(deletes) } else { KEYS });
        assert!(engine.verify().unwrap().is_ok());
    }
}

/// One range tombstone hides as much as thousands of deletions. Those of a table that holds other entries too, and under which less than half of any table lies, were counted as nothing: with a third deleted, and
/// then another, two thirds of all blob bytes were kept for good.
#[test]
fn what_ranges_hide_is_given_back() {
    const KEYS: usize = 500;
    let vfs = MemVfs::new();
    let engine = open(&vfs, options());
    for i in 0..KEYS {
        engine.put(key(i), value(i, 0)).unwrap();
    }
    engine.compact_range(..).unwrap();
    settle(&engine);
    let full = engine.metrics().keyspaces[0].blob_bytes;
    let mut deleted = 0;
    for third in [0, 150, 300] {
        engine.delete_range(key(third), key(third + 150)).unwrap();
        engine.put(key(KEYS + third), "beside it").unwrap();
        engine.flush().unwrap();
        settle(&engine);
        deleted += 150;
        let bytes = engine.metrics().keyspaces[0].blob_bytes;
        let live = full * (KEYS - deleted) as u64 / KEYS as u64;
        assert!(live * 10 >= bytes * 7 - full / 100, "{bytes} bytes for {live} of {full}, after {deleted}");
    }
    assert_eq!(engine.iter().count(), KEYS - deleted + 3);
    assert!(engine.verify().unwrap().is_ok());
}

/// Values that are all written once are moved by nobody: log and blob file, and that is it.
#[test]
fn what_is_written_once_is_written_twice() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, options());
    let mut bytes = 0;
    for i in 0..2000 {
        let i = i * 7919 % 2000;
        engine.put(key(i), value(i, 0)).unwrap();
        bytes += value(i, 0).len() as u64;
        settle(&engine);
    }
    engine.flush().unwrap();
    settle(&engine);
    let written = engine.metrics().written_bytes;
    assert!(written < bytes * 22 / 10, "{written} of {bytes}");
}

#[test]
fn a_snapshot_keeps_what_was_overwritten_and_its_end_lets_it_go() {
    let compaction = LeveledOptions { blob_garbage_percent_max: 10, ..LeveledOptions::default() };
    let vfs = MemVfs::new();
    let engine = open(&vfs, Options { compaction, ..options() });
    let fill = |round| {
        for i in 0..100 {
            engine.put(key(i), value(i, round)).unwrap();
        }
        engine.compact_range(..).unwrap();
        settle(&engine);
    };
    fill(1);
    let snapshot = engine.snapshot();
    let iter = engine.iter();
    fill(2);
    fill(3);
    for i in 0..100 {
        assert_eq!(snapshot.get(key(i)).unwrap().unwrap(), value(i, 1));
        assert_eq!(engine.get(key(i)).unwrap().unwrap(), value(i, 3));
    }
    drop(snapshot);
    fill(4);
    // The iterator still reads from a file that no version names any more.
    assert!(iter.enumerate().all(|(i, item)| item.unwrap().1 == value(i, 1)));
    settle(&engine);
    let on_disk: u64 = blob_files(&vfs).iter().map(|path| vfs.metadata(path).unwrap().len_bytes).sum();
    assert!(on_disk < 100 * 4200 * 12 / 10, "{on_disk}");
    assert!(engine.verify().unwrap().is_ok());
}

#[test]
fn deleting_and_dropping_gives_the_space_back() {
    let vfs = MemVfs::new();
    let engine = open(&vfs, options());
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    let inline = KeyspaceOptions { blob_bytes_min: Some(0), ..KeyspaceOptions::default() };
    let inline = engine.keyspace("inline", inline).unwrap();
    for i in 0..50 {
        engine.put(key(i), value(i, 0)).unwrap();
        other.put(key(i), value(i, 1)).unwrap();
        inline.put(key(i), value(i, 2)).unwrap();
    }
    engine.flush().unwrap();
    assert_eq!(blob_files(&vfs).len(), 2, "one for each keyspace but the one that has none");
    assert!(inline.get(key(1)).unwrap().unwrap().len() > 4000);
    let kept = other.iter();
    drop(other);
    engine.drop_keyspace("other").unwrap();
    assert_eq!(kept.map(Result::unwrap).filter(|(_, found)| found[100] == 1).count(), 50, "it is read to its end");
    settle(&engine);
    assert_eq!(blob_files(&vfs).len(), 1);
    for i in 0..50 {
        engine.delete(key(i)).unwrap();
    }
    engine.flush().unwrap();
    settle(&engine);
    assert_eq!(blob_files(&vfs).len(), 0);
}

/// Values follow the option as they are written anew: by a flush, by a merge, or by being collected.
#[test]
fn turned_off_and_on_again() {
    let vfs = MemVfs::new();
    let off = Options { blob_bytes_min: 0, ..options() };
    let check = |engine: &Engine| {
        assert!((0..50).all(|i| engine.get(key(i)).unwrap().unwrap() == value(i, 0)));
        assert!(engine.verify().unwrap().is_ok());
    };
    let engine = open(&vfs, off.clone());
    (0..50).for_each(|i| engine.put(key(i), value(i, 0)).unwrap());
    engine.flush().unwrap();
    assert_eq!(blob_files(&vfs).len(), 0);
    engine.close().unwrap();

    let engine = open(&vfs, options());
    check(&engine);
    engine.put("a", "overlaps").unwrap();
    engine.put("z", "overlaps").unwrap();
    engine.compact_range(..).unwrap();
    assert_eq!(blob_files(&vfs).len(), 1, "a merge has moved them out");
    check(&engine);
    engine.close().unwrap();

    let compaction = LeveledOptions { blob_garbage_percent_max: 0, ..LeveledOptions::default() };
    let engine = open(&vfs, Options { compaction, ..off });
    engine.put(key(0), value(0, 0)).unwrap();
    engine.compact_range(..).unwrap();
    settle(&engine);
    assert_eq!(blob_files(&vfs).len(), 0, "collected, they went back into tables");
    check(&engine);
}

#[test]
fn a_checkpoint_takes_them_along() {
    let dir = tempfile::tempdir().unwrap();
    let (original, copy) = (dir.path().join("original"), dir.path().join("copy"));
    let engine = Engine::builder(&original).options(options()).open().unwrap();
    (0..100).for_each(|i| engine.put(key(i), value(i, 0)).unwrap());
    engine.checkpoint(&copy).unwrap();
    (0..100).for_each(|i| engine.put(key(i), value(i, 1)).unwrap());
    engine.close().unwrap();
    std::fs::remove_dir_all(&original).unwrap();
    let reader = Engine::builder(&copy).read_only(true).open().unwrap();
    assert!((0..100).all(|i| reader.get(key(i)).unwrap().unwrap() == value(i, 0)));
    let report = reader.verify().unwrap();
    assert!(report.is_ok() && report.blob_files >= 1 && report.blob_records == 100);
}

/// A table, closed; its one blob file holds `KEPT` values.
fn small() -> (Arc<MemVfs>, PathBuf) {
    let vfs = MemVfs::new();
    let engine = open(&vfs, Options { blob_bytes_min: 32, ..options() });
    for i in 0..KEPT {
        engine.put(key(i), vec![i as u8; 40]).unwrap();
    }
    engine.put("short", "inline").unwrap();
    engine.close().unwrap();
    drop(engine);
    let vfs = Arc::new(vfs.crash_now(CrashPolicy::All));
    let file = blob_files(&vfs).pop().unwrap();
    (vfs, file)
}

const KEPT: usize = 4;

/// Opens what is left and reads all: each value is right or an error; whether any was an error.
fn right_or_refused(vfs: &Arc<MemVfs>, what: &str) -> bool {
    let engine = open(vfs, Options { blob_bytes_min: 32, ..options() });
    assert_eq!(engine.get("short").unwrap().unwrap(), b"inline", "{what}");
    let mut refused = 0;
    for i in 0..KEPT {
        match engine.get(key(i)) {
            Ok(found) => assert_eq!(found.unwrap(), [i as u8; 40], "{what}"),
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Corruption | ErrorKind::Unsupported), "{what}: {error}");
                refused += 1;
            }
        }
    }
    // Other keys are written and compacted as ever.
    engine.put("new", [7; 50]).unwrap();
    engine.flush().unwrap();
    settle(&engine);
    assert_eq!(engine.get("new").unwrap().unwrap(), [7; 50]);
    assert!(!engine.verify().unwrap().is_ok(), "{what}: not seen");
    refused > 0
}

#[test]
fn every_byte_flipped_is_an_error_or_does_no_harm() {
    let (vfs, file) = small();
    let len = vfs.metadata(&file).unwrap().len_bytes as usize;
    for at in 0..len {
        let image = Arc::new(vfs.crash_now(CrashPolicy::All));
        image.edit(&file, |bytes| bytes[at] ^= 1 << (at % 8)).unwrap();
        right_or_refused(&image, &format!("byte {at} of {len}"));
    }
}

#[test]
fn a_missing_or_cut_or_swapped_file_is_damage_where_it_is_needed() {
    let (vfs, file) = small();
    let missing = Arc::new(vfs.crash_now(CrashPolicy::All));
    missing.remove_file(&file).unwrap();
    assert!(right_or_refused(&missing, "missing"));
    let cut = Arc::new(vfs.crash_now(CrashPolicy::All));
    cut.edit(&file, |bytes| bytes.truncate(100)).unwrap();
    assert!(right_or_refused(&cut, "cut"));
    // The same bytes but for the random id.
    let (other, other_file) = small();
    assert_eq!(file, other_file);
    let theirs = esker::vfs::read_file(&*other, &file, u64::MAX).unwrap();
    let swapped = Arc::new(vfs.crash_now(CrashPolicy::All));
    let mut changed = false;
    swapped
        .edit(&file, |bytes| {
            changed = *bytes != theirs;
            *bytes = theirs.clone();
        })
        .unwrap();
    if changed {
        assert!(right_or_refused(&swapped, "swapped"));
    }
}

#[test]
fn strays_are_swept_and_only_by_a_writer() {
    let (vfs, file) = small();
    let stray = Path::new(DIR).join("000900.blob");
    let temp = Path::new(DIR).join("000901.blob.tmp");
    for path in [&stray, &temp] {
        vfs.create_new(path).unwrap().append(b"left over").unwrap();
    }
    let reader = builder(&vfs, options()).read_only(true).open().unwrap();
    assert!((0..KEPT).all(|i| reader.get(key(i)).unwrap().unwrap() == [i as u8; 40]));
    drop(reader);
    assert!(vfs.metadata(&stray).is_ok());
    drop(open(&vfs, options()));
    assert_eq!(blob_files(&vfs), [file]);
    assert!(vfs.metadata(&temp).is_err());
}

/// Damage that is met while a file is collected stops nothing: the file is left where it is.
#[test]
fn a_damaged_file_is_not_collected_and_stops_no_compaction() {
    let compaction = LeveledOptions { blob_garbage_percent_max: 10, ..LeveledOptions::default() };
    let vfs = MemVfs::new();
    let engine = open(&vfs, Options { compaction, read_mode: ReadMode::Pread, ..options() });
    for i in 0..50 {
        engine.put(key(i), value(i, 0)).unwrap();
    }
    engine.compact_range(..).unwrap();
    let file = blob_files(&vfs).pop().unwrap();
    // The last record: that of the last key.
    vfs.edit(&file, |bytes| {
        let at = bytes.len() - 100;
        bytes[at] ^= 1;
    })
    .unwrap();
    for i in 0..49 {
        engine.put(key(i), value(i, 1)).unwrap();
    }
    engine.flush().unwrap();
    for _ in 0..5 {
        settle(&engine);
        let _ = engine.compact_range(..);
    }
    assert!((0..49).all(|i| engine.get(key(i)).unwrap().unwrap() == value(i, 1)));
    assert_eq!(engine.get(key(49)).unwrap_err().kind(), ErrorKind::Corruption);
    assert!(vfs.metadata(&file).is_ok(), "it stays, to be looked at");
    assert_eq!(engine.metrics().quarantined_tables.len(), 1);
    engine.compact_range(..).unwrap();
}
