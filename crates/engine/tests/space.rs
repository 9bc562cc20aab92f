//! What a store takes on disk beside its data: logs are made ahead while something is written, and given back when nothing is.

use esker::vfs::{CrashPolicy, ManualClock, MemVfs, Vfs};
use esker::{Background, Engine, Options};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const DIR: &str = "/data";
/// What is kept for deletes on a full disk, headers, and a little.
const SPARE_BYTES: u64 = 300 << 10;

fn open(vfs: &Arc<MemVfs>) -> Engine {
    let options = Options { memtable_bytes: Some(1 << 20), memory_budget_bytes: 16 << 20, ..Options::default() };
    Engine::builder(DIR).vfs(vfs.clone()).options(options).background(Background::Manual).open().unwrap()
}

fn work(engine: &Engine) {
    while engine.step().unwrap() {}
}

fn put(engine: &Engine, keys: std::ops::Range<u32>) {
    for i in keys {
        engine.put(i.to_be_bytes(), [i as u8; 1000]).unwrap();
        if i % 64 == 0 {
            work(engine);
        }
    }
}

fn holds(vfs: &Arc<MemVfs>, keys: u32) {
    let killed = Arc::new(vfs.crash_now(CrashPolicy::All));
    let found: Vec<_> = open(&killed).iter().keys().map(|key| key.unwrap().to_vec()).collect();
    assert_eq!(found, (0..keys).map(|i| i.to_be_bytes().to_vec()).collect::<Vec<_>>());
}

/// The lengths of all logs, whatever they are for.
fn logs(vfs: &MemVfs) -> Vec<u64> {
    let names = vfs.list(Path::new(DIR)).unwrap().into_iter().filter(|name| name.ends_with(".wal"));
    names.map(|name| vfs.metadata(&Path::new(DIR).join(name)).unwrap().len_bytes).collect()
}

#[test]
fn a_load_that_ends_with_a_flush_leaves_one_short_log() {
    let vfs = MemVfs::new();
    let engine = open(&vfs);
    for round in 0..3 {
        put(&engine, round * 5000..(round + 1) * 5000);
        assert!(logs(&vfs).iter().sum::<u64>() > 2 * SPARE_BYTES, "made ahead: {:?}", logs(&vfs));
        engine.flush().unwrap();
        work(&engine);
        assert_eq!(logs(&vfs).len(), 1, "{:?}", logs(&vfs));
        assert!(logs(&vfs)[0] <= SPARE_BYTES, "{:?}", logs(&vfs));
        holds(&vfs, (round + 1) * 5000);
    }
}

#[test]
fn a_pause_gives_back_what_was_made_ahead_and_writing_goes_on_behind_it() {
    let clock = Arc::new(ManualClock::new());
    let vfs = MemVfs::new().with_clock(clock.clone());
    let engine = open(&vfs);
    let mut written = 0;
    for _ in 0..4 {
        put(&engine, written..written + 5300);
        written += 5300;
        work(&engine);
        let before = logs(&vfs);
        clock.advance(Duration::from_secs(1));
        work(&engine);
        assert_eq!(logs(&vfs).len(), before.len(), "a moment is no pause");
        clock.advance(Duration::from_secs(5));
        work(&engine);
        work(&engine);
        let metrics = engine.metrics();
        assert!(logs(&vfs).iter().sum::<u64>() <= metrics.log_bytes + SPARE_BYTES, "{:?}, {before:?}", logs(&vfs));
        assert_eq!(logs(&vfs).len(), metrics.logs);
        holds(&vfs, written);
    }
    engine.close().unwrap();
    assert!(logs(&vfs).is_empty(), "after a close in order there is nothing in a log");
}
