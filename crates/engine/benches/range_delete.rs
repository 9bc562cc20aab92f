//! Seeks and walks over a range that holds nothing, with 1,000 keys before and behind it: `cargo bench -p esker --bench range_delete`.
//!
//! | set | what was in the range |
//! |---|---|
//! | `empty` | never anything |
//! | `memory` | a million entries, in the bottom level; they were deleted with one range, whose tombstone is in the memtable |
//! | `level-0` | as `memory`, and the tombstone was flushed |
//! | `levels` | as `level-0`, and the tombstone went down, to a level over that of the entries |
//! | `unflushed` | a million entries, in a memtable that waits to be flushed; the tombstone is in the next one |
//!
//! A snapshot from before the delete keeps entries and tombstone from being compacted away, and each set is looked up in the metrics before and after. The goal: each within twice of `empty`, forwards and
//! backwards. `ESKER_RANGE_ENTRIES=50000` for fewer entries, to see that it works.

use criterion::{Criterion, criterion_group, criterion_main};
use esker::{Background, Engine, LeveledOptions, Options, Snapshot, WriteBatch};
use std::hint::black_box;
use tempfile::TempDir;

const AROUND: u64 = 1_000;
/// Entries that a walk reads on either side.
const READ: u64 = 10;

/// Entries in the range.
fn entries() -> u64 {
    std::env::var("ESKER_RANGE_ENTRIES").map_or(1_000_000, |entries| entries.parse().expect("a number"))
}

/// Keys below `AROUND` lie before the range, those from `AROUND + entries()` on behind it.
fn key(i: u64) -> [u8; 16] {
    let mut key = *b"0000000000000000";
    let mut rest = i;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn put(engine: &Engine, entries: impl Iterator<Item = u64>) {
    let mut batch = WriteBatch::new();
    for i in entries {
        batch.put(key(i), [b'v'; 100]);
        if batch.len() == 1000 {
            engine.write(&batch).unwrap();
            batch.clear();
        }
    }
    engine.write(&batch).unwrap();
}

fn filled(set: &str, entries: u64) -> (TempDir, Engine, Snapshot) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options { memtable_bytes: Some(512 << 20), memory_budget_bytes: 2 << 30, ..Options::default() };
    if set == "levels" {
        // The entries fill more than one level, and a single table of level 0 goes down.
        options.compaction = LeveledOptions { level_base_bytes: 64 << 10, l0_trigger: 1, ..LeveledOptions::default() };
    }
    let engine = Engine::builder(dir.path()).options(options).background(Background::Manual).open().unwrap();
    let (behind, end) = (AROUND + entries, 2 * AROUND + entries);
    put(&engine, (0..AROUND).chain(behind..end));
    if set != "empty" && set != "unflushed" {
        put(&engine, AROUND..behind);
    }
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    if set == "unflushed" {
        put(&engine, AROUND..behind);
    }
    let snapshot = engine.snapshot();
    match set {
        "empty" => put(&engine, 0..1),
        _ => engine.delete_range(key(AROUND), key(behind)).unwrap(),
    }
    if set == "level-0" || set == "levels" {
        engine.flush().unwrap();
    }
    if set == "levels" {
        while engine.step().unwrap() {}
    }
    check(set, entries, &engine);
    (dir, engine, snapshot)
}

/// Entries and tombstone are where the set says.
fn check(set: &str, entries: u64, engine: &Engine) {
    let metrics = engine.metrics();
    let keyspace = &metrics.keyspaces[0];
    let memory = (keyspace.active_range_tombstones, keyspace.sealed_memtables);
    let with_tombstones: Vec<_> = keyspace.levels.iter().filter(|level| level.range_tombstones > 0).collect();
    let with_entries: Vec<_> = keyspace.levels.iter().filter(|level| level.entries > 0).collect();
    let [lowest] = &with_entries[..] else { panic!("{set}: one level holds all entries: {keyspace:?}") };
    let in_tables = if set == "empty" || set == "unflushed" { 0 } else { entries };
    assert_eq!(lowest.entries, 2 * AROUND + in_tables, "{set}: {keyspace:?}");
    match (set, &with_tombstones[..]) {
        ("empty", []) => assert_eq!(memory, (0, 0)),
        ("memory", []) => assert_eq!(memory, (1, 0)),
        ("unflushed", []) => assert_eq!(memory, (1, 1)),
        ("level-0", [over]) => assert_eq!((memory, over.level), ((0, 0), 0)),
        ("levels", [over]) => assert!(memory == (0, 0) && over.level > 0 && over.level < lowest.level, "{keyspace:?}"),
        _ => panic!("{set}: {keyspace:?}"),
    }
}

fn sets(c: &mut Criterion) {
    let entries = entries();
    let behind = AROUND + entries;
    for set in ["empty", "memory", "level-0", "levels", "unflushed"] {
        let (_dir, engine, _snapshot) = filled(set, entries);
        let middle = |i: u64| key(AROUND + i % entries);
        let mut group = c.benchmark_group(set);
        let mut cursor = engine.cursor();
        let mut i = 0;
        group.bench_function("seek", |b| {
            b.iter(|| {
                i += 7919;
                cursor.seek(middle(i)).unwrap();
                assert_eq!(black_box(cursor.key()), key(behind));
            })
        });
        group.bench_function("seek-for-prev", |b| {
            b.iter(|| {
                i += 7919;
                cursor.seek_for_prev(middle(i)).unwrap();
                assert_eq!(black_box(cursor.key()), key(AROUND - 1));
            })
        });
        let across = || engine.range(key(AROUND - READ)..key(behind + READ)).keys();
        group.bench_function("walk", |b| b.iter(|| assert_eq!(across().count(), 2 * READ as usize)));
        group.bench_function("walk-backward", |b| b.iter(|| assert_eq!(across().rev().count(), 2 * READ as usize)));
        drop(cursor);
        group.finish();
        check(set, entries, &engine);
        engine.close().unwrap();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = sets
}
criterion_main!(benches);
