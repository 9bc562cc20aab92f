//! What the driver does not meet: failures, damage, what readers hold on to, clocks.

use crate::told::Told;
use esker::vfs::{Fault, FaultVfs, ManualClock, MemVfs, Operation, Rule, Vfs};
use esker::{Background, Engine, ErrorKind, LeveledOptions, Options, ReadMode, WriteOptions};
use std::path::Path;
use std::sync::{Arc, Barrier};
use std::time::Duration;

fn options() -> Options {
    // Nothing is compacted unless it is asked for.
    let compaction = LeveledOptions { l0_trigger: 50, l0_slowdown: 60, l0_stop: 70, ..LeveledOptions::default() };
    Options { memory_budget_bytes: 4 << 20, read_mode: ReadMode::Pread, compaction, ..Options::default() }
}

fn open(vfs: &Arc<impl Vfs + 'static>, options: Options, told: &Told) -> Engine {
    let builder = Engine::builder("/data").vfs(Arc::clone(vfs) as Arc<dyn Vfs>).options(options);
    builder.background(Background::Manual).listener(told.listener()).open().unwrap()
}

/// Reads of iterators and cursors that failed were not counted: a scan over damage left `read_errors` at 0.
#[test]
fn each_read_that_fails_is_counted_once() {
    let faults = FaultVfs::new(MemVfs::new());
    // No cache, so that each read is one.
    let engine = open(&faults, Options { block_cache_bytes: Some(0), ..options() }, &Told::default());
    for i in 0..100u8 {
        engine.put([i], [i; 200]).unwrap();
    }
    engine.put("large", [7; 9000]).unwrap();
    engine.flush().unwrap();
    let counted = |what: &str, read: &dyn Fn() -> bool| {
        let before = engine.metrics().read_errors;
        assert!(read(), "{what} did not fail");
        assert_eq!(engine.metrics().read_errors, before + 1, "{what}");
    };
    let snapshot = engine.snapshot();
    let rule = faults.add(Rule::new(Operation::Read, Fault::EIO).path("*.sst"));
    counted("get", &|| engine.get([5]).is_err());
    counted("contains_key", &|| engine.contains_key([5]).is_err());
    counted("multi_get", &|| engine.multi_get([[5], [6]]).is_err());
    counted("first", &|| engine.first().is_err());
    counted("last", &|| engine.last().is_err());
    counted("is_empty", &|| engine.is_empty().is_err());
    counted("iter", &|| engine.iter().next().unwrap().is_err());
    counted("iter, backward", &|| engine.iter().next_back().unwrap().is_err());
    counted("iter, to its end", &|| engine.iter().filter(Result::is_err).count() == 1);
    counted("keys", &|| engine.iter().keys().next().unwrap().is_err());
    counted("cursor", &|| engine.cursor().seek([5]).is_err());
    counted("cursor, asked again", &|| {
        let mut cursor = engine.cursor();
        // It sticks, and is no second read.
        cursor.seek([5]).is_err() && cursor.next().is_err()
    });
    counted("get of a snapshot", &|| snapshot.get([5]).is_err());
    counted("iter of a snapshot", &|| snapshot.iter().next().unwrap().is_err());
    counted("get of a transaction", &|| engine.transaction().get([5]).is_err());
    counted("iter of a transaction", &|| engine.transaction().iter().next().unwrap().is_err());
    counted("compare_and_swap", &|| engine.compare_and_swap([5], Some(&[5; 200]), Some(&[6])).is_err());
    faults.remove(rule);

    let rule = faults.add(Rule::new(Operation::Read, Fault::EIO).path("*.sst").from_nth(2));
    counted("step of a cursor", &|| {
        let mut cursor = engine.cursor();
        cursor.seek_to_first().unwrap();
        (0..100).any(|_| cursor.next().is_err())
    });
    counted("step of an iterator", &|| engine.iter().any(|item| item.is_err()));
    faults.remove(rule);

    faults.add(Rule::new(Operation::Read, Fault::EIO).path("*.blob"));
    counted("a large value", &|| engine.get("large").is_err());
    counted("a large value of an iterator", &|| engine.prefix("large").next().unwrap().is_err());
    let mut cursor = engine.cursor();
    cursor.seek("large").unwrap();
    counted("a large value of a cursor", &|| cursor.value().is_err());
    faults.clear();
    let before = engine.metrics().read_errors;
    assert!(engine.get([5]).unwrap().is_some() && cursor.value().is_ok() && engine.iter().all(|item| item.is_ok()));
    assert_eq!(engine.metrics().read_errors, before);
}

/// The count of syncs began anew when writing was resumed.
#[test]
fn syncs_and_writes_go_on_counting_over_resume() {
    let faults = FaultVfs::new(MemVfs::new());
    let told = Told::default();
    let engine = open(&faults, options(), &told);
    for i in 0..5u8 {
        engine.put_with([i], [i], &WriteOptions::sync()).unwrap();
    }
    let before = engine.metrics();
    assert_eq!((before.log_syncs, before.writes, &before.writing_stopped), (5, 5, &None));
    let rule = faults.add(Rule::new(Operation::Sync, Fault::EIO).path("*.wal"));
    assert_eq!(engine.put_with("k", "v", &WriteOptions::sync()).unwrap_err().kind(), ErrorKind::Io);
    faults.remove(rule);
    assert_eq!(engine.put("k", "v").unwrap_err().kind(), ErrorKind::ReadOnly);
    let stopped = engine.metrics();
    assert!(stopped.writing_stopped.is_some_and(|cause| cause.contains("wal")), "says what failed");
    // The one that failed was tried, and what it was for was committed to memory before.
    assert_eq!((stopped.log_syncs, stopped.writes, told.sums().stopped), (6, 6, 1));
    engine.resume().unwrap();
    let resumed = engine.metrics();
    assert_eq!((resumed.writing_stopped, told.sums().stopped), (None, 0));
    assert_eq!((resumed.log_syncs, resumed.writes), (6, 6), "they went back");
    assert_eq!(resumed.flushes, 1, "what was in memory became a table");
    engine.put_with("k", "v", &WriteOptions::sync()).unwrap();
    assert_eq!((engine.metrics().log_syncs, engine.metrics().writes), (7, 7));
}

#[test]
fn failures_in_the_background_are_told_and_counted() {
    let faults = FaultVfs::new(MemVfs::new());
    let told = Told::default();
    let engine = open(&faults, options(), &told);
    engine.put("k", "v").unwrap();
    faults.add(Rule::new(Operation::CreateNew, Fault::EIO).path("*.sst.tmp").times(2));
    for failures in 1..=2 {
        assert!(engine.flush().is_err());
        let metrics = engine.metrics();
        assert_eq!((metrics.background_errors, told.sums().background_errors), (failures, failures));
        assert_eq!((metrics.flushes, metrics.flush_bytes, metrics.keyspaces[0].sealed_memtables), (0, 0, 1));
    }
    engine.flush().unwrap();
    let metrics = engine.metrics();
    assert_eq!((metrics.flushes, metrics.background_errors, metrics.keyspaces[0].sealed_memtables), (1, 2, 0));
}

/// A directory with one table, and that table's name.
fn with_a_table() -> (Arc<MemVfs>, String) {
    let memory = MemVfs::new();
    let engine = open(&memory, options(), &Told::default());
    engine.put("k", "v").unwrap();
    engine.flush().unwrap();
    engine.close().unwrap();
    drop(engine);
    let name = memory.list(Path::new("/data")).unwrap().into_iter().find(|name| name.ends_with(".sst")).unwrap();
    (memory, name)
}

/// Damage that `verify` or opening came upon was in the figures, but no listener was told of it: only a compaction told.
#[test]
fn each_quarantine_is_told_once_whoever_comes_upon_the_damage() {
    let (memory, name) = with_a_table();
    let number: u64 = name.trim_end_matches(".sst").parse().unwrap();
    let path = Path::new("/data").join(&name);
    memory.edit(&path, |bytes| bytes[0] ^= 1).unwrap();
    let told = Told::default();
    let engine = open(&memory, options(), &told);
    for errors in 1..=3 {
        assert_eq!(engine.get("k").unwrap_err().kind(), ErrorKind::Corruption);
        assert_eq!(engine.metrics().read_errors, errors);
    }
    for _ in 0..2 {
        assert!(!engine.verify().unwrap().is_ok());
        assert_eq!((engine.metrics().quarantined_tables, &told.sums().quarantined), (vec![number], &vec![number]));
    }
    drop(engine);

    memory.remove_file(&path).unwrap();
    let told = Told::default();
    let engine = open(&memory, options(), &told);
    assert_eq!((engine.metrics().quarantined_tables, &told.sums().quarantined), (vec![number], &vec![number]));
    assert!(!engine.verify().unwrap().is_ok());
    assert_eq!(told.sums().quarantined, [number], "it was told of already");
}

/// Two who come upon the same damage at once both told of it: whether it was known was looked up first, and noted then.
#[test]
fn a_quarantine_that_two_come_upon_at_once_is_told_once() {
    let (memory, name) = with_a_table();
    memory.edit(&Path::new("/data").join(&name), |bytes| bytes[0] ^= 1).unwrap();
    for _ in 0..200 {
        let told = Told::default();
        let engine = open(&memory, options(), &told);
        let barrier = Barrier::new(4);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    barrier.wait();
                    assert!(!engine.verify().unwrap().is_ok());
                });
            }
        });
        assert_eq!(told.sums().quarantined.len(), 1);
    }
}

/// `written_bytes` was the sum of two figures taken at two moments: of a log that was completed in between it had the bytes twice, and less the next time.
#[test]
fn no_count_goes_back_while_logs_change() {
    let memory = MemVfs::new();
    let small = Options { memory_budget_bytes: 1 << 20, memtable_bytes: Some(4 << 10), ..options() };
    let engine = Engine::builder("/data").vfs(Arc::clone(&memory) as Arc<dyn Vfs>).options(small).open().unwrap();
    std::thread::scope(|scope| {
        let writer = scope.spawn(|| (0..4000u32).for_each(|i| engine.put(i.to_be_bytes(), [7; 300]).unwrap()));
        let mut last = engine.metrics();
        while !writer.is_finished() {
            let now = engine.metrics();
            assert!(now.written_bytes >= last.written_bytes, "{} after {}", now.written_bytes, last.written_bytes);
            assert!(now.log_syncs >= last.log_syncs, "{} after {}", now.log_syncs, last.log_syncs);
            last = now;
        }
    });
    assert!(engine.metrics().flushes > 10, "logs did not change");
}

#[test]
fn what_readers_hold_is_shown_until_they_let_go() {
    let memory = MemVfs::new();
    let engine = open(&memory, options(), &Told::default());
    let fill = |value: u8| {
        for i in 0..100u8 {
            engine.put([i], [value; 300]).unwrap();
        }
    };
    fill(1);
    let written = engine.metrics().memtable_bytes;
    assert!(written >= 100 * 301, "{written} bytes hold 30,100");
    let mut iter = engine.iter();
    iter.next().unwrap().unwrap();
    assert_eq!(engine.metrics().pinned_memtable_bytes, 0, "it is in use");
    engine.flush().unwrap();
    let metrics = engine.metrics();
    assert_eq!((metrics.memtable_bytes, metrics.pinned_memtable_bytes), (written, written));
    drop(iter);
    assert_eq!((engine.metrics().memtable_bytes, engine.metrics().pinned_memtable_bytes), (0, 0));

    let sizes = || {
        let names = memory.list(Path::new("/data")).unwrap().into_iter().filter(|name| name.ends_with(".sst"));
        names.map(|name| memory.metadata(&Path::new("/data").join(name)).unwrap().len_bytes).sum::<u64>()
    };
    fill(2);
    engine.flush().unwrap();
    let before = sizes();
    let iter = engine.iter();
    engine.compact_range(..).unwrap();
    assert_eq!(engine.metrics().pinned_table_bytes, before, "the iterator holds both tables that were merged");
    assert_eq!(sizes(), before + engine.metrics().keyspaces[0].table_bytes());
    drop(iter);
    assert_eq!(engine.metrics().pinned_table_bytes, 0);
    while engine.step().unwrap() {}
    assert_eq!(sizes(), engine.metrics().keyspaces[0].table_bytes());
}

#[test]
fn what_has_expired_is_counted_when_it_goes() {
    let clock = Arc::new(ManualClock::new());
    clock.set_unix_ms(1_000);
    let memory = MemVfs::new().with_clock(Arc::clone(&clock) as _);
    let engine = open(&memory, options(), &Told::default());
    let options = WriteOptions { ttl: Some(Duration::from_secs(1)), ..WriteOptions::default() };
    for i in 0..10u8 {
        engine.put_with([i], [i], &options).unwrap();
        engine.put([100 + i], [i]).unwrap();
    }
    engine.flush().unwrap();
    assert_eq!((engine.metrics().expired_entries, engine.metrics().keyspaces[0].levels[0].expiring), (0, 10));
    clock.advance(Duration::from_secs(2));
    engine.compact_range(..).unwrap();
    let metrics = engine.metrics();
    assert_eq!(metrics.expired_entries, 10);
    assert_eq!(metrics.keyspaces[0].levels.iter().map(|level| level.entries).sum::<u64>(), 10);
}

#[test]
fn the_cache_is_asked_once_for_each_block() {
    let memory = MemVfs::new();
    let engine = open(&memory, options(), &Told::default());
    engine.put("k", [1; 100]).unwrap();
    engine.flush().unwrap();
    let asked = || (engine.metrics().block_cache_misses, engine.metrics().block_cache_hits);
    assert_eq!((asked(), engine.metrics().block_cache_bytes), ((0, 0), 0), "reading back goes past it");
    for hits in 0..3 {
        engine.get("k").unwrap();
        assert_eq!(asked(), (1, hits));
    }
    let bytes = engine.metrics().block_cache_bytes;
    assert!((100..10_000).contains(&bytes), "{bytes} bytes for a block of some hundred");
    engine.get("not there").unwrap();
    assert_eq!(asked(), (1, 2), "a filter answers, or the bounds do");
}
