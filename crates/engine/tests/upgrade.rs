//! Directories written by each format version so far open with this one and hold what was put in; a version to come is refused.
//!
//! `testdata/format-1` was made by `ESKER_MAKE_FORMAT=testdata/format-1 cargo test -p esker --test upgrade`, and is never made again:
//! a change of the format gets a directory of its own. `format-1` is from before blob files, `format-1-blob` has some, one of them with garbage;
//! `format-1-merge` has merge operands too, in tables and in the log; in `format-1-ranges` ranges were deleted, in tables and in the log.
//! `format-1-expiry` has a keyspace with a time to live, of a thousand years, entries that expire then in table, blob file and log, and one that did at once.
//! `format-1-ingest` has a table that was ingested and that the feed of changes still tells of.

#[path = "model/options.rs"]
mod options;
#[path = "upgrade/random.rs"]
mod random;

use esker::{Background, Engine, ErrorKind, KeyspaceOptions, LeveledOptions, Options, WriteOptions};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../testdata")
}

/// The directories of all versions so far, in order.
fn formats() -> Vec<PathBuf> {
    let paths = fs::read_dir(testdata()).unwrap().map(|entry| entry.unwrap().path());
    let mut formats: Vec<PathBuf> =
        paths.filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("format-")).collect();
    formats.sort();
    assert!(formats.len() > 2, "no directory of any format version was found");
    formats
}

fn options() -> Options {
    Options {
        flush_on_close: false,
        compaction: LeveledOptions { table_bytes: 4 << 10, ..LeveledOptions::default() },
        ..Options::default()
    }
}

/// What every such directory holds: `default` with tables in two levels, `users`, a dropped keyspace, since there are blob files `large`, and what its name says. (In `format-1`, `users` is in the log alone.) One that is made today has all.
fn fill(dir: &Path) {
    let engine = Engine::builder(dir).options(options()).background(Background::Manual).open().unwrap();
    for i in 0..400u32 {
        engine.put(format!("key{i:04}"), format!("old{i}")).unwrap();
    }
    engine.compact_range(..).unwrap();
    for i in (0..400).step_by(3) {
        engine.delete(format!("key{i:04}")).unwrap();
    }
    engine.flush().unwrap();
    engine.put("key0001", "from the log").unwrap();
    engine.put("", "empty key").unwrap();
    let users =
        engine.keyspace("users", KeyspaceOptions { block_size_bytes: Some(512), ..Default::default() }).unwrap();
    users.put([0xff, 0x00], "binary").unwrap();
    let gone = engine.keyspace("gone", KeyspaceOptions::default()).unwrap();
    gone.put("k", "v").unwrap();
    engine.drop_keyspace("gone").unwrap();
    let large = KeyspaceOptions { blob_bytes_min: Some(256), ..Default::default() };
    let large = engine.keyspace("large", large).unwrap();
    for round in 0..2u8 {
        for i in 0..8u8 {
            if round == 0 || i == 3 {
                large.put([i], large_value(i, round)).unwrap();
            }
        }
        engine.flush().unwrap();
        large.compact_range(..).unwrap();
    }
    let append = KeyspaceOptions { merge_operator: Some("esker.append".into()), ..Default::default() };
    let merged = engine.keyspace("merged", append).unwrap();
    merged.put("k", "a").unwrap();
    engine.flush().unwrap();
    for operand in ["b", "c", "d", "e"] {
        merged.merge("k", operand).unwrap();
        merged.merge("alone", operand).unwrap();
        // Of the last the log knows.
        if operand < "e" {
            engine.flush().unwrap();
        }
    }
    let ranges = engine.keyspace("ranges", KeyspaceOptions::default()).unwrap();
    (0..60u8).for_each(|i| ranges.put([i], [i]).unwrap());
    ranges.compact_range(..).unwrap();
    ranges.delete_range([10], [20]).unwrap();
    ranges.put([15], "put after it").unwrap();
    ranges.delete_range([12], [14]).unwrap();
    engine.flush().unwrap();
    assert!(engine.metrics().keyspaces.iter().any(|keyspace| keyspace.levels[0].range_tombstones > 0));
    // These are in the log alone.
    ranges.delete_range([30], [40]).unwrap();
    engine
        .transact(|tx| {
            tx.delete_range_in(&ranges, [50], [60])?;
            tx.put_in(&ranges, [55], "put after it")
        })
        .unwrap();
    let cleared = engine.keyspace("cleared", KeyspaceOptions::default()).unwrap();
    cleared.put("k", "v").unwrap();
    engine.flush().unwrap();
    cleared.clear().unwrap();
    let years = Duration::from_secs(1_000 * 365 * 24 * 3_600);
    let sessions = KeyspaceOptions { blob_bytes_min: Some(256), ttl: Some(years), ..Default::default() };
    let sessions = engine.keyspace("sessions", sessions).unwrap();
    sessions.put("gone", "beneath").unwrap();
    sessions.put("short", "value").unwrap();
    sessions.put("large", large_value(1, 1)).unwrap();
    engine.flush().unwrap();
    let at_once = WriteOptions { ttl: Some(Duration::from_millis(1)), ..Default::default() };
    sessions.put_with("gone", "value", &at_once).unwrap();
    engine.flush().unwrap();
    sessions.put("in the log", "value").unwrap();
    let outside = engine.keyspace("outside", KeyspaceOptions::default()).unwrap();
    outside.put("b", "old").unwrap();
    outside.bulk_load([("a", "loaded"), ("b", "loaded"), ("d", "loaded")]).unwrap();
    outside.put("d", "newer").unwrap();
    engine.close().unwrap();
}

fn large_value(i: u8, round: u8) -> Vec<u8> {
    vec![16 * round + i; 300]
}

/// What the directory at `path` holds.
fn check(engine: &Engine, path: &Path) {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let has_blobs = name != "format-1";
    // Those of other formats have what they were made for; one that is made today has all.
    let has = |what: &str| !name.starts_with("format-") || name == format!("format-1-{what}");
    let (has_merges, has_ranges, has_expiry, has_outside) = (has("merge"), has("ranges"), has("expiry"), has("ingest"));
    for i in 0..400u32 {
        let expected = match i {
            1 => Some("from the log".to_owned()),
            _ => (i % 3 != 0).then(|| format!("old{i}")),
        };
        let found = engine.get(format!("key{i:04}")).unwrap();
        assert_eq!(found.as_deref(), expected.as_ref().map(String::as_bytes), "{i}");
    }
    assert_eq!(engine.get("").unwrap().unwrap(), b"empty key");
    assert_eq!(engine.iter().count(), 267);
    let keyspaces = [
        ("cleared", has_ranges),
        ("default", true),
        ("large", has_blobs),
        ("merged", has_merges),
        ("outside", has_outside),
        ("ranges", has_ranges),
        ("sessions", has_expiry),
        ("users", true),
    ];
    let keyspaces: Vec<&str> = keyspaces.iter().filter(|(_, is_there)| *is_there).map(|(name, _)| *name).collect();
    assert_eq!(engine.keyspaces(), keyspaces);
    if has_merges {
        let merged = engine.keyspace("merged", KeyspaceOptions::default()).unwrap();
        assert_eq!(merged.get("k").unwrap().unwrap(), b"abcde");
        assert_eq!(merged.last().unwrap().unwrap().1, b"abcde");
        assert_eq!(merged.get("alone").unwrap().unwrap(), b"bcde");
    }
    if has_ranges {
        let ranges = engine.keyspace("ranges", KeyspaceOptions::default()).unwrap();
        let is_left = |i: &u8| matches!(i, 15 | 55) || !matches!(i, 10..20 | 30..40 | 50..60);
        let left = || (0..60u8).filter(is_left);
        assert!(ranges.iter().keys().map(|key| key.unwrap()[0]).eq(left()));
        assert!(ranges.iter().keys().rev().map(|key| key.unwrap()[0]).eq(left().rev()));
        for i in 0..60 {
            let put_after = [15, 55].contains(&i);
            let expected = is_left(&i).then(|| if put_after { b"put after it".to_vec() } else { vec![i] });
            assert_eq!(ranges.get([i]).unwrap().map(|value| value.to_vec()), expected, "{i}");
        }
        assert!(engine.keyspace("cleared", KeyspaceOptions::default()).unwrap().is_empty().unwrap());
    }
    if has_expiry {
        std::thread::sleep(Duration::from_millis(1));
        let sessions = engine.keyspace("sessions", KeyspaceOptions::default()).unwrap();
        assert!(sessions.ttl().is_some_and(|ttl| ttl.as_secs() == 1_000 * 365 * 24 * 3_600));
        assert_eq!(sessions.get("gone").unwrap(), None);
        assert_eq!(sessions.get("large").unwrap().unwrap(), large_value(1, 1));
        for key in ["short", "in the log"] {
            let (value, expiry) = sessions.get_with_expiry(key).unwrap().unwrap();
            assert!(value == b"value" && expiry.is_some(), "{key}");
        }
        assert_eq!(sessions.iter().count(), 3);
    }
    if has_outside {
        let outside = engine.keyspace("outside", KeyspaceOptions::default()).unwrap();
        let values = outside.multi_get(["a", "b", "c", "d"]).unwrap();
        let values: Vec<_> = values.iter().map(|value| value.as_deref()).collect();
        assert_eq!(values, [Some(&b"loaded"[..]), Some(b"loaded"), None, Some(b"newer")]);
    }
    if has_blobs {
        let large = engine.keyspace("large", KeyspaceOptions::default()).unwrap();
        for i in 0..8 {
            assert_eq!(large.get([i]).unwrap().unwrap(), large_value(i, u8::from(i == 3)));
        }
        assert!(engine.verify().unwrap().blob_files > 0);
    }
    let users = engine.keyspace("users", KeyspaceOptions::default()).unwrap();
    assert_eq!(users.get([0xff, 0x00]).unwrap().unwrap(), b"binary");
    assert!(engine.verify().unwrap().is_ok());
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, to.join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn every_format_so_far_opens() {
    if let Some(dir) = std::env::var_os("ESKER_MAKE_FORMAT") {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(dir);
        assert!(!dir.exists(), "{} is there already, and is never made again", dir.display());
        return fill(&dir);
    }
    for path in formats() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("db");
        copy(&path, &dir);
        check(&Engine::builder(&dir).read_only(true).open().unwrap(), &path);
        let engine = Engine::open(&dir).unwrap();
        check(&engine, &path);
        engine.compact_range(..).unwrap();
        check(&engine, &path);
        drop(engine);
        check(&Engine::open(&dir).unwrap(), &path);
    }
}

#[test]
fn what_is_made_today_is_what_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    fill(dir.path());
    check(&Engine::open(dir.path()).unwrap(), dir.path());
}

#[test]
fn a_log_of_a_version_to_come_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path().join("db");
    copy(&testdata().join("format-1"), &dir);
    let log =
        fs::read_dir(&dir).unwrap().map(|e| e.unwrap().path()).find(|p| p.extension().is_some_and(|e| e == "wal"));
    let log = log.unwrap();
    let mut bytes = fs::read(&log).unwrap();
    // The version, and the header's checksum made right again: see docs/format/wal.md.
    bytes[8] = 99;
    let sum = esker_format::checksum::crc32c(&bytes[..FILE_HEADER_SUMMED]);
    bytes[FILE_HEADER_SUMMED..FILE_HEADER_SUMMED + 4].copy_from_slice(&sum.to_le_bytes());
    fs::write(&log, bytes).unwrap();
    let error = Engine::open(&dir).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
}

/// How many bytes of a log's header its checksum covers.
const FILE_HEADER_SUMMED: usize = 60;
