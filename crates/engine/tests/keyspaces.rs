//! Idle keyspaces pin no log and keep no memory for long.

use esker::{Engine, ErrorKind, KeyspaceOptions, Options};
use std::time::{Duration, Instant};

#[test]
fn an_idle_keyspace_with_one_key_pins_no_log_beyond_the_limit() {
    const WAL_BYTES_MAX: u64 = 1 << 20;
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: Some(128 << 10), wal_bytes_max: WAL_BYTES_MAX, ..Options::default() };
    let engine = Engine::builder(dir.path()).options(options).open().unwrap();
    let idle = engine.keyspace("idle", KeyspaceOptions::default()).unwrap();
    idle.put("only", "key").unwrap();
    for i in 0..80_000u32 {
        engine.put(i.to_be_bytes(), [7; 100]).unwrap();
    }
    let begin = Instant::now();
    while engine.metrics().log_bytes > WAL_BYTES_MAX {
        assert!(begin.elapsed() < Duration::from_secs(10), "{} bytes of log", engine.metrics().log_bytes);
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(idle.get("only").unwrap().unwrap(), b"key");
    let idle_metrics = engine.metrics().keyspaces.into_iter().find(|keyspace| keyspace.name == "idle").unwrap();
    assert_eq!(idle_metrics.active_entries, 0, "it was flushed");
}

#[test]
fn an_old_memtable_is_flushed_by_its_age() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memtable_age_max: Duration::from_millis(100), ..Options::default() };
    let engine = Engine::builder(dir.path()).options(options).open().unwrap();
    engine.put("k", "v").unwrap();
    let begin = Instant::now();
    while engine.metrics().flushes == 0 {
        assert!(begin.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(engine.get("k").unwrap().unwrap(), b"v");
}

/// Values of 100 bytes tell by where they go which options hold.
#[test]
fn options_of_the_default_keyspace_are_stored_when_it_is_made_and_else_hold_until_close() {
    let dir = tempfile::tempdir().unwrap();
    let blobs_after_a_flush = |options: KeyspaceOptions| {
        let engine = Engine::builder(dir.path()).default_keyspace(options).open().unwrap();
        engine.put(format!("k{}", engine.iter().count()), [7; 100]).unwrap();
        engine.flush().unwrap();
        engine.close().unwrap();
        let names = std::fs::read_dir(dir.path()).unwrap().map(|entry| entry.unwrap().path());
        names.filter(|path| path.extension().is_some_and(|extension| extension == "blob")).count()
    };
    let blobs_from = |bytes| KeyspaceOptions { blob_bytes_min: Some(bytes), ..KeyspaceOptions::default() };
    assert_eq!(blobs_after_a_flush(blobs_from(64)), 1);
    assert_eq!(blobs_after_a_flush(KeyspaceOptions::default()), 2, "as stored");
    assert_eq!(blobs_after_a_flush(blobs_from(4096)), 2, "as given for this time");
    assert_eq!(blobs_after_a_flush(KeyspaceOptions::default()), 3, "as stored, again");
}

#[test]
fn options_of_the_default_keyspace_that_can_not_work_are_refused_before_anything_is_made() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("none");
    let options = KeyspaceOptions { blob_bytes_min: Some(1), ..KeyspaceOptions::default() };
    let error = Engine::builder(&path).default_keyspace(options).open().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    assert!(!path.exists());
}
