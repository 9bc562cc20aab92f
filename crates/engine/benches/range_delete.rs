//! Seeks and scans over a range that holds nothing, with 1,000 keys before and behind it: `cargo bench -p esker --bench range_delete`.
//!
//! | set | what was in the range |
//! |---|---|
//! | `empty` | never anything |
//! | `memory` | a million entries, in a table; they were deleted with one range, whose tombstone is in the memtable |
//! | `level-0` | as `memory`, and the tombstone was flushed |
//! | `unflushed` | a million entries, as good as all of them in memtables, as the tombstone |
//! | `compacted` | as `level-0`, and compaction has met it |
//!
//! The goal: each within twice of `empty`, which has as many sources as `memory`, forwards and backwards.

use criterion::{Criterion, criterion_group, criterion_main};
use esker::{Background, Engine, Options, WriteBatch};
use std::hint::black_box;
use tempfile::TempDir;

const ENTRIES: u64 = 1_000_000;
const AROUND: u64 = 1_000;

/// Keys below `AROUND` lie before the range, those from `AROUND + ENTRIES` on behind it.
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

fn filled(set: &str) -> (TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: Some(512 << 20), memory_budget_bytes: 2 << 30, ..Options::default() };
    let engine = Engine::builder(dir.path()).options(options).background(Background::Manual).open().unwrap();
    let (behind, end) = (AROUND + ENTRIES, 2 * AROUND + ENTRIES);
    put(&engine, (0..AROUND).chain(behind..end));
    if set != "empty" && set != "unflushed" {
        put(&engine, AROUND..behind);
    }
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    match set {
        "empty" => put(&engine, 0..1),
        _ => {
            if set == "unflushed" {
                put(&engine, AROUND..behind);
            }
            engine.delete_range(key(AROUND), key(behind)).unwrap();
        }
    }
    if set == "level-0" || set == "compacted" {
        engine.flush().unwrap();
    }
    if set == "compacted" {
        while engine.step().unwrap() {}
    }
    (dir, engine)
}

fn sets(c: &mut Criterion) {
    for set in ["empty", "memory", "level-0", "unflushed", "compacted"] {
        let (_dir, engine) = filled(set);
        let middle = |i: u64| key(AROUND + i % ENTRIES);
        let mut group = c.benchmark_group(set);
        let mut cursor = engine.cursor();
        let mut i = 0;
        group.bench_function("seek", |b| {
            b.iter(|| {
                i += 7919;
                cursor.seek(middle(i)).unwrap();
                assert_eq!(black_box(cursor.key()), key(AROUND + ENTRIES));
            })
        });
        group.bench_function("seek-for-prev", |b| {
            b.iter(|| {
                i += 7919;
                cursor.seek_for_prev(middle(i)).unwrap();
                assert_eq!(black_box(cursor.key()), key(AROUND - 1));
            })
        });
        group.bench_function("scan", |b| b.iter(|| assert_eq!(engine.iter().keys().count(), 2 * AROUND as usize)));
        group.bench_function("scan-backward", |b| {
            b.iter(|| assert_eq!(engine.iter().keys().rev().count(), 2 * AROUND as usize))
        });
        drop(cursor);
        group.finish();
        engine.close().unwrap();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = sets
}
criterion_main!(benches);
