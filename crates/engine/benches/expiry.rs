//! What a time to live costs, beside the same without: `cargo bench -p esker --bench expiry`.
//!
//! | set | the values |
//! |---|---|
//! | `plain` | do not expire, nor does anything in the keyspace |
//! | `expiring` | expire in a year |
//! | `beside` | do not expire, others in the keyspace do |
//!
//! Puts of a hundred bytes into memory; gets from tables; a walk over a hundred entries, either way.

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use esker::{Background, Engine, Options, WriteBatch, WriteOptions};
use std::hint::black_box;
use std::time::Duration;
use tempfile::TempDir;

const ENTRIES: u64 = 200_000;
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);

fn key(i: u64) -> [u8; 8] {
    i.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn options_of(set: &str) -> WriteOptions {
    WriteOptions { ttl: (set == "expiring").then_some(YEAR), ..WriteOptions::default() }
}

fn filled(set: &str) -> (TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { memtable_bytes: Some(256 << 20), memory_budget_bytes: 1 << 30, ..Options::default() };
    let engine = Engine::builder(dir.path()).options(options).background(Background::Manual).open().unwrap();
    let mut batch = WriteBatch::new();
    for i in 0..ENTRIES {
        batch.put(key(i), [b'v'; 100]);
        if batch.len() == 1000 {
            engine.write_with(&batch, &options_of(set)).unwrap();
            batch.clear();
        }
    }
    if set == "beside" {
        engine.put_with("beside", "", &options_of("expiring")).unwrap();
    }
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    (dir, engine)
}

fn benches(c: &mut Criterion) {
    for set in ["plain", "expiring", "beside"] {
        let (_dir, engine) = filled(set);
        let options = options_of(set);
        let mut i = 0;
        let mut next = move || {
            i = (i + 7_919) % ENTRIES;
            i
        };
        c.bench_function(&format!("expiry/get/{set}"), |b| {
            b.iter_batched(|| key(next()), |key| black_box(engine.get(key).unwrap().unwrap()), BatchSize::SmallInput);
        });
        for forward in [true, false] {
            let way = if forward { "next" } else { "prev" };
            c.bench_function(&format!("expiry/100-{way}/{set}"), |b| {
                b.iter(|| {
                    let mut iter = engine.iter();
                    let mut step = || if forward { iter.next() } else { iter.next_back() };
                    for _ in 0..100 {
                        black_box(step().unwrap().unwrap());
                    }
                });
            });
        }
        c.bench_function(&format!("expiry/put/{set}"), |b| {
            b.iter_batched(
                || key(next()),
                |key| engine.put_with(key, [b'w'; 100], &options).unwrap(),
                BatchSize::SmallInput,
            );
        });
    }
}

criterion_group!(expiry, benches);
criterion_main!(expiry);
