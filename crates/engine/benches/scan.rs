//! Cursors, seeks and scans over a million entries of 16 + 100 bytes: `cargo bench -p esker --bench scan`.
//!
//! | set | where the entries are |
//! |---|---|
//! | `plain` | all in one level, not compressed: read from the map |
//! | `lz4` | all in one level, LZ4: read from the block cache |
//! | `layers` | as `plain`, a tenth of them overwritten in two tables of L0, and 2,000 again in the memtable |
//!
//! Scans are timed by the entry.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{Background, Codec, Engine, Options, WriteBatch};
use std::hint::black_box;
use tempfile::TempDir;

const ENTRIES: u64 = 1_000_000;

fn key(i: u64) -> [u8; 16] {
    let mut key = *b"0000000000000000";
    let mut rest = i;
    for digit in key.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

/// Half of it compresses.
fn value(i: u64) -> [u8; 100] {
    let mut value = [b'v'; 100];
    let mut noise = i + 1;
    for byte in &mut value[..50] {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (noise >> 56) as u8;
    }
    value
}

/// A permutation of the 64-bit numbers (splitmix64).
fn scramble(i: u64) -> u64 {
    let mut x = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn put(engine: &Engine, entries: impl Iterator<Item = u64>) {
    let mut batch = WriteBatch::new();
    for i in entries {
        batch.put(key(i), value(i));
        if batch.len() == 1000 {
            engine.write(&batch).unwrap();
            batch.clear();
        }
    }
    engine.write(&batch).unwrap();
}

/// An engine whose one level holds all entries. Nothing happens in its background.
fn filled(codec: Codec) -> (TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options { memtable_bytes: Some(512 << 20), memory_budget_bytes: 2 << 30, ..Options::default() };
    options.compression.fill(codec);
    let engine = Engine::builder(dir.path()).options(options).background(Background::Manual).open().unwrap();
    put(&engine, 0..ENTRIES);
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    (dir, engine)
}

fn scans(c: &mut Criterion) {
    for (name, codec, layered) in
        [("plain", Codec::None, false), ("lz4", Codec::Lz4, false), ("layers", Codec::None, true)]
    {
        let (_dir, engine) = filled(codec);
        if layered {
            for part in 0..2 {
                put(&engine, (0..ENTRIES / 20).map(|i| scramble(2 * i + part) % ENTRIES));
                engine.flush().unwrap();
            }
            put(&engine, (0..2000).map(|i| scramble(i) % ENTRIES));
        }
        measure(c, name, &engine);
        engine.close().unwrap();
    }
}

fn measure(c: &mut Criterion, name: &str, engine: &Engine) {
    let mut group = c.benchmark_group(name);
    group
        .sample_size(10)
        .warm_up_time(std::time::Duration::from_millis(500))
        .measurement_time(std::time::Duration::from_secs(1));
    let mut draws = 0;
    let mut draw = || {
        draws += 1;
        key(scramble(draws) % ENTRIES)
    };

    group.bench_function("cursor", |b| b.iter(|| black_box(engine.cursor())));
    for steps in [10, 100] {
        group.bench_function(format!("cursor, seek, {steps} next"), |b| {
            b.iter(|| {
                let mut cursor = engine.cursor();
                cursor.seek(draw()).unwrap();
                for _ in 0..steps {
                    if !cursor.valid() {
                        break;
                    }
                    black_box((cursor.key()[15], cursor.value().unwrap()[0]));
                    cursor.next().unwrap();
                }
            });
        });
    }
    let mut cursor = engine.cursor();
    group.bench_function("seek of a kept cursor", |b| {
        b.iter(|| {
            cursor.seek(draw()).unwrap();
            black_box(cursor.value().unwrap()[0])
        });
    });

    group.throughput(Throughput::Elements(ENTRIES));
    group.bench_function("scan forward", |b| {
        b.iter(|| {
            let mut cursor = engine.cursor();
            cursor.seek_to_first().unwrap();
            let mut seen = 0;
            while cursor.valid() {
                black_box((cursor.key()[15], cursor.value().unwrap()[0]));
                seen += 1;
                cursor.next().unwrap();
            }
            assert_eq!(seen, ENTRIES);
        });
    });
    group.bench_function("scan backward", |b| {
        b.iter(|| {
            let mut cursor = engine.cursor();
            cursor.seek_to_last().unwrap();
            let mut seen = 0;
            while cursor.valid() {
                black_box((cursor.key()[15], cursor.value().unwrap()[0]));
                seen += 1;
                cursor.prev().unwrap();
            }
            assert_eq!(seen, ENTRIES);
        });
    });
    group.bench_function("iter forward", |b| {
        b.iter(|| assert_eq!(count(engine.iter()), ENTRIES));
    });
    group.bench_function("iter backward", |b| {
        b.iter(|| assert_eq!(count(engine.iter().rev()), ENTRIES));
    });
    group.bench_function("keys forward", |b| {
        b.iter(|| assert_eq!(count(engine.iter().keys()), ENTRIES));
    });
    group.finish();
}

fn count<T>(items: impl Iterator<Item = esker::Result<T>>) -> u64 {
    items.fold(0, |count, item| {
        black_box(item.unwrap());
        count + 1
    })
}

criterion_group!(benches, scans);
criterion_main!(benches);
