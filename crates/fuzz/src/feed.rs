//! The feed of changes, over a log that is the data.

use crate::sign::u64_at;
use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{Background, Change, Engine, KeyspaceOptions, Options, RecoveryMode};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

const DIR: &str = "/data";

fn options(recovery: RecoveryMode) -> Options {
    Options {
        wal_retain_bytes: Some(1 << 20),
        memory_budget_bytes: 1 << 20,
        flush_on_close: false,
        recovery,
        ..Options::default()
    }
}

fn open(vfs: &Arc<MemVfs>, recovery: RecoveryMode, read_only: bool) -> esker::Result<Engine> {
    let builder = Engine::builder(DIR).options(options(recovery)).vfs(Arc::clone(vfs) as Arc<dyn Vfs>);
    builder.background(Background::Manual).read_only(read_only).open()
}

/// A directory with one log that holds all kinds of operations, and where that is. What was written was not closed in order.
pub(crate) fn real() -> (MemVfs, PathBuf) {
    let vfs = MemVfs::new();
    let engine = open(&vfs, RecoveryMode::PointInTime, false).expect("memory takes it");
    let ttl = KeyspaceOptions { ttl: Some(Duration::from_secs(1000)), ..Default::default() };
    let other = engine.keyspace("other", ttl).expect("a new name");
    let write = || -> esker::Result<()> {
        engine.put("a", "1")?;
        engine.delete("b")?;
        engine.delete_range("c", "d")?;
        other.put("e", "22")?;
        engine.put("f", [b'x'; 70])?;
        engine.sync()
    };
    write().expect("memory takes it");
    let image = vfs.crash_now(CrashPolicy::All);
    let names = image.list(Path::new(DIR)).expect("it is there");
    let log = |name: &String| {
        let path = Path::new(DIR).join(name);
        let is_log = name.ends_with(".wal");
        (is_log && esker::vfs::read_file(&image, &path, 1 << 24).is_ok_and(|bytes| bytes.starts_with(b"ESKERLOG")))
            .then_some(path)
    };
    let path = names.iter().filter_map(log).max().expect("what was written is in a log");
    (image, path)
}

/// Puts the data in the log's place, opens, and reads the feed from all sides.
pub(crate) fn attack(bytes: Vec<u8>) {
    static REAL: OnceLock<(Mutex<MemVfs>, PathBuf)> = OnceLock::new();
    let (vfs, log) = REAL.get_or_init(|| {
        let (vfs, log) = real();
        (Mutex::new(vfs), log)
    });
    let first = u64_at(&bytes, 88).unwrap_or(0);
    for recovery in [RecoveryMode::PointInTime, RecoveryMode::Salvage] {
        let image = Arc::new(vfs.lock().unwrap_or_else(|e| e.into_inner()).crash_now(CrashPolicy::All));
        image.edit(log, |file| *file = bytes.clone()).expect("it is there");
        for read_only in [true, false, false] {
            let Ok(engine) = open(&image, recovery, read_only) else { continue };
            for seq in [0, 1, 3, first, first.wrapping_add(1), u64::MAX] {
                read(&engine, seq);
            }
            let _ = engine.iter().count();
            if !read_only && engine.put("z", "last").is_ok() {
                assert_eq!(engine.get("z").expect("it is in memory").expect("it was just put"), b"last");
                read(&engine, 0);
            }
        }
    }
}

fn read(engine: &Engine, seq: u64) {
    let Ok(changes) = engine.changes_since(seq) else { return };
    let mut last = seq;
    for change in changes {
        let Ok(change) = change else { return };
        assert!(change.seq() > last, "a change told twice, or out of order");
        last = change.seq();
        if let Change::Batch(batch) = change {
            assert!(batch.first_seq() <= batch.last_seq());
            let _ = batch.operations().count();
        }
    }
}
