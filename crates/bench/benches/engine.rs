//! What one call of the engine costs, from memtable and from tables: `cargo bench -p esker-bench`.
//!
//! Reads are of 200,000 random keys, all in the memtable, then all in tables.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{Engine, Options, WriteBatch};
use esker_bench::data::{self, Order, Random};
use std::hint::black_box;
use tempfile::TempDir;

const KEYS: u64 = 200_000;
const VALUE_BYTES: usize = 100;

/// An engine with all keys: in the memtable, or in tables if it is flushed.
fn loaded(flushed: bool) -> (TempDir, Engine) {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).options(options()).open().unwrap();
    let order = Order::new(KEYS, 1);
    let mut value = [0; VALUE_BYTES];
    let mut batch = WriteBatch::new();
    for place in 0..KEYS {
        let index = order.at(place);
        data::fill_value(index, &mut value);
        batch.put(data::key(index), value);
        if batch.len() == 1000 {
            engine.write(&batch).unwrap();
            batch.clear();
        }
    }
    if flushed {
        engine.compact_range(..).unwrap();
    }
    (dir, engine)
}

fn options() -> Options {
    Options { memory_budget_bytes: 512 << 20, memtable_bytes: Some(64 << 20), ..Options::default() }
}

fn writes(c: &mut Criterion) {
    let mut group = c.benchmark_group("put");
    group.throughput(Throughput::Elements(1));
    for (name, random) in [("sequential", false), ("random", true)] {
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::builder(dir.path()).options(options()).open().unwrap();
        let order = Order::new(1 << 30, 1);
        let (mut place, mut value) = (0, [0; VALUE_BYTES]);
        group.bench_function(name, |b| {
            b.iter(|| {
                let index = if random { order.at(place) } else { place };
                data::fill_value(index, &mut value);
                engine.put(data::key(index), value).unwrap();
                place += 1;
            });
        });
    }
    group.finish();
}

fn reads(c: &mut Criterion) {
    for (place, flushed) in [("memtable", false), ("tables", true)] {
        let (_dir, engine) = loaded(flushed);
        let mut random = Random::new(KEYS, 1);
        let mut group = c.benchmark_group(place);
        group.throughput(Throughput::Elements(1));
        group.bench_function("get hit", |b| {
            b.iter(|| assert!(engine.get(data::key(random.draw())).unwrap().is_some()));
        });
        group.bench_function("get miss", |b| {
            b.iter(|| assert!(engine.get(data::missing_key(random.draw())).unwrap().is_none()));
        });
        group.bench_function("seek + 10", |b| {
            b.iter(|| {
                let mut cursor = engine.cursor();
                cursor.seek(data::key(random.draw())).unwrap();
                for _ in 0..10 {
                    if !cursor.valid() {
                        break;
                    }
                    black_box((cursor.key(), cursor.value().unwrap()));
                    cursor.next().unwrap();
                }
            });
        });
        let mut cursor = engine.cursor();
        group.bench_function("scan step", |b| {
            b.iter(|| {
                if !cursor.valid() {
                    cursor.seek_to_first().unwrap();
                }
                black_box((cursor.key(), cursor.value().unwrap()));
                cursor.next().unwrap();
            });
        });
        group.finish();
    }
}

criterion_group!(benches, writes, reads);
criterion_main!(benches);
