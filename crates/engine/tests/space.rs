//! What a store takes on disk beside its data: logs are made ahead while something is written, and given back when nothing is.

use esker::vfs::{Clock, CrashPolicy, ManualClock, MemVfs, Vfs};
use esker::{Background, Engine, ErrorKind, LogBackend, Options};
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

/// 2.5 MB of data once filled a disk of 64 MiB: a writer that is faster than flush leaves a log behind each memtable, and each kept the MiB that it was made with.
#[test]
fn logs_that_wait_for_a_flush_hold_little_more_than_their_records() {
    for log_backend in [LogBackend::Mapped, LogBackend::Write] {
        let vfs = MemVfs::new();
        let options = Options { memtable_bytes: Some(32 << 10), log_backend, ..Options::default() };
        let builder = Engine::builder(DIR).vfs(vfs.clone()).options(options).background(Background::Manual);
        let engine = builder.open().unwrap();
        (0..2000_u32).for_each(|i| engine.put(i.to_be_bytes(), [i as u8; 1000]).unwrap());
        let logs = logs(&vfs);
        assert!(logs.len() > 40, "{logs:?}");
        // A few keep their room: they are to be the next ones.
        assert!(logs.iter().sum::<u64>() < 8 << 20, "{log_backend:?}: {logs:?}");
        holds(&vfs, 2000);
    }
}

/// The disk has room again right after a flush has failed once more. That was tried again after five seconds, and writers wait for it where memory is full.
#[test]
fn a_disk_that_was_full_for_long_is_written_to_as_soon_as_any() {
    let clock = Arc::new(ManualClock::new());
    let vfs = MemVfs::new().with_clock(clock.clone());
    let engine = open(&vfs);
    let mut written = 0_u32;
    while engine.put(written.to_be_bytes(), [7; 1000]).is_ok() {
        written += 1;
    }
    // Somebody else has it all, and takes what is given back.
    vfs.set_space(Some(0));
    let failures = || engine.metrics().background_errors;
    while clock.now() < Duration::from_secs(60) {
        work(&engine);
        clock.advance(Duration::from_millis(100));
    }
    assert_eq!(engine.put("k", "v").unwrap_err().kind(), ErrorKind::NoSpace);
    let before = failures();
    while failures() == before {
        clock.advance(Duration::from_millis(100));
        work(&engine);
    }
    vfs.set_space(None);
    let begin = clock.now();
    while engine.put("k", "v").is_err() {
        clock.advance(Duration::from_millis(100));
        work(&engine);
    }
    let took = clock.now() - begin;
    assert!(took < Duration::from_secs(4), "{took:?}, and what a flush of all memory takes in earnest comes to it");
}

/// The room that logs were made with stayed with them on a full disk, while a flush lacked less than that.
#[test]
fn what_is_made_ahead_gives_way_to_a_flush_that_lacks_space() {
    let clock = Arc::new(ManualClock::new());
    let vfs = MemVfs::new().with_clock(clock.clone());
    let engine = open(&vfs);
    let sealed = || engine.metrics().keyspaces[0].sealed_memtables;
    let (mut written, mut random) = (0_u32, 7_u64);
    while written < 3000 || sealed() == 0 {
        // Does not compress.
        let value = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (random >> 56) as u8
        });
        engine.put(written.to_be_bytes(), value.take(1000).collect::<Vec<_>>()).unwrap();
        written += 1;
        if written < 3000 && written.is_multiple_of(64) {
            work(&engine);
        }
    }
    vfs.set_space(Some(vfs.used_bytes() + (256 << 10)));
    for _ in 0..10 {
        work(&engine);
        clock.advance(Duration::from_millis(100));
    }
    assert!(engine.metrics().background_errors > 0, "a table of half a MiB had no place");
    assert_eq!(sealed(), 0, "{:?}", logs(&vfs));
    assert_eq!(engine.put("k", "v").unwrap_err().kind(), ErrorKind::NoSpace, "what failed is shown once");
    engine.put(written.to_be_bytes(), [written as u8; 1000]).unwrap();
    holds(&vfs, written + 1);
}
