//! Back-pressure: when the background falls behind, writers slow down, then stop; memory and L0 stay within their limits.
//!
//! The heap is counted by this binary's own allocator.

#[path = "pressure/heap.rs"]
mod heap;

use esker::vfs::{Fault, FaultVfs, MemVfs, Operation, OsVfs, Rule, Vfs};
use esker::{Background, Engine, ErrorKind, LeveledOptions, Options, WriteOptions};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const BUDGET: usize = 8 << 20;

fn options() -> Options {
    Options {
        memory_budget_bytes: BUDGET,
        memtable_bytes: Some(256 << 10),
        compaction: LeveledOptions { l0_trigger: 2, l0_slowdown: 4, l0_stop: 8, ..LeveledOptions::default() },
        ..Options::default()
    }
}

/// Tests of this file count one heap, so they run one at a time.
static ONE_AT_A_TIME: std::sync::Mutex<()> = std::sync::Mutex::new(());

#[test]
fn with_compaction_held_back_writers_slow_then_stop() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    // Compaction reads tables block by block, by calls that take long, so that it can't keep up; flush reads back what it wrote by few.
    let dir = tempfile::tempdir().unwrap();
    let faults = FaultVfs::new(Arc::new(OsVfs));
    let options = Options { read_mode: esker::ReadMode::Pread, ..options() };
    let engine = Engine::builder(dir.path()).options(options).vfs(Arc::clone(&faults) as Arc<dyn Vfs>).open().unwrap();
    let held = faults.add(Rule::new(Operation::Read, Fault::Delay(Duration::from_millis(30))).path("*.sst"));
    let before = heap::forget_peak();

    let stop = Arc::new(AtomicBool::new(false));
    let written = Arc::new(AtomicU64::new(0));
    let writers: Vec<_> = (0..4u64)
        .map(|writer| {
            let (engine, stop, written) = (engine.clone(), Arc::clone(&stop), Arc::clone(&written));
            std::thread::spawn(move || {
                let mut x = writer + 1;
                while !stop.load(Ordering::Relaxed) {
                    x = x.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                    engine.put(x.to_be_bytes(), [x as u8; 400]).unwrap();
                    written.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut l0_most = 0;
    let begin = Instant::now();
    let stalled = loop {
        std::thread::sleep(Duration::from_millis(10));
        let metrics = engine.metrics();
        l0_most = l0_most.max(metrics.keyspaces[0].levels[0].tables);
        assert!(metrics.memtable_bytes <= BUDGET, "{} bytes of memtables", metrics.memtable_bytes);
        if begin.elapsed() > Duration::from_secs(4) {
            break metrics;
        }
    };
    assert!(l0_most <= 8 + 4, "{l0_most} tables in L0; one more for each writer that was past the check");
    assert!(l0_most >= 4, "compaction was held back, yet there were only {l0_most} tables in L0");
    assert!(stalled.stalls > 0 && stalled.stall_time > Duration::from_millis(100), "{stalled:?}");
    let heap = heap::peak() - before;
    println!("{} writes, L0 {l0_most}, heap {heap}, stalled {:?}", written.load(Ordering::Relaxed), stalled.stall_time);
    assert!(heap <= BUDGET + BUDGET / 4, "{heap} bytes of heap, beyond the budget and what jobs in flight take");

    let begin = Instant::now();
    loop {
        let refused = engine.put_with("k", vec![0; 4096], &WriteOptions { no_stall: true, ..Default::default() });
        if let Err(error) = refused {
            assert_eq!(error.kind(), ErrorKind::Stalled);
            break;
        }
        assert!(begin.elapsed() < Duration::from_secs(10), "no write was ever refused");
    }
    faults.remove(held);
    stop.store(true, Ordering::Relaxed);
    for writer in writers {
        writer.join().unwrap();
    }
    engine.compact_range(..).unwrap();
    assert_eq!(engine.metrics().keyspaces[0].levels[0].tables, 0);
}

#[test]
fn with_flush_held_back_writers_stop_within_the_memory_budget() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let memory = MemVfs::new().with_clock(Arc::new(esker::vfs::SystemClock::new()));
    let faults = FaultVfs::new(memory);
    let engine = Engine::builder("data").options(options()).vfs(Arc::clone(&faults) as Arc<dyn Vfs>).open().unwrap();
    faults.add(Rule::new(Operation::CreateNew, Fault::Delay(Duration::from_millis(200))).path("*.sst.tmp"));
    let mut most = 0;
    let begin = Instant::now();
    let mut i = 0u64;
    while begin.elapsed() < Duration::from_secs(2) || engine.metrics().stalls == 0 {
        assert!(begin.elapsed() < Duration::from_secs(60), "flush was held back, and writers did not wait");
        engine.put(i.to_be_bytes(), [7; 400]).unwrap();
        i += 1;
        if i.is_multiple_of(64) {
            most = most.max(engine.metrics().memtable_bytes);
        }
    }
    assert!(most <= BUDGET, "{most} bytes of memtables");
}

#[test]
fn nobody_waits_for_memory_that_only_readers_pin() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let engine = Engine::builder("data").options(options()).vfs(MemVfs::new()).open().unwrap();
    let mut pinned = Vec::new();
    for i in 0..60_000u64 {
        engine.put(i.to_be_bytes(), [7; 400]).unwrap();
        if i % 1000 == 0 {
            let mut cursor = engine.cursor();
            cursor.seek_to_first().unwrap();
            pinned.push(cursor);
        }
    }
    assert_eq!(engine.iter().count(), 60_000);
    drop(pinned);
}

#[test]
fn by_hand_a_write_that_would_wait_is_refused() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(|e| e.into_inner());
    let engine =
        Engine::builder("data").options(options()).vfs(MemVfs::new()).background(Background::Manual).open().unwrap();
    let mut i = 0u64;
    let error = loop {
        match engine.put(i.to_be_bytes(), [7; 400]) {
            Ok(()) => i += 1,
            Err(error) => break error,
        }
        assert!(i < 100_000);
    };
    assert_eq!(error.kind(), ErrorKind::Stalled);
    while engine.step().unwrap() {}
    engine.put(i.to_be_bytes(), [7; 400]).unwrap();
    assert_eq!(engine.iter().count() as u64, i + 1);
}
