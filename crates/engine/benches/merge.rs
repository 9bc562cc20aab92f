//! Counting by merge operands beside reading and writing: what a count costs, and what a read does of what was counted.
//!
//! `cargo bench -p esker --bench merge`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker::{Background, Engine, KeyspaceOptions, LogBackend, Options};
use std::hint::black_box;

const KEYS: u64 = 100_000;

fn open(dir: &tempfile::TempDir, operator: Option<&str>) -> Engine {
    let options = Options { log_backend: LogBackend::Mapped, ..Options::default() };
    let default = KeyspaceOptions { merge_operator: operator.map(Into::into), ..Default::default() };
    Engine::builder(dir.path())
        .options(options)
        .default_keyspace(default)
        .background(Background::Threads)
        .open()
        .unwrap()
}

/// Keys in no order.
fn key(n: u64) -> [u8; 8] {
    (n % KEYS).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()
}

fn number(value: Option<&[u8]>) -> i64 {
    value.map_or(0, |value| i64::from_le_bytes(value.try_into().unwrap()))
}

/// 100,000 counters, each counted again and again, in a store where all of them are in tables.
fn counting(c: &mut Criterion) {
    let mut group = c.benchmark_group("mergecounter");
    group.throughput(Throughput::Elements(1));
    type Count = fn(&Engine, &[u8]);
    let ways: [(&str, Option<&str>, Count); 3] = [
        ("merge", Some("esker.counter"), |engine, key| engine.merge(key, 1i64.to_le_bytes()).unwrap()),
        ("get and put", None, |engine, key| {
            let before = number(engine.get(key).unwrap().as_deref());
            engine.put(key, (before + 1).to_le_bytes()).unwrap();
        }),
        ("fetch_update", None, |engine, key| {
            engine.fetch_update(key, |value| Some((number(value) + 1).to_le_bytes())).unwrap();
        }),
    ];
    for (name, operator, count) in ways {
        let dir = tempfile::tempdir().unwrap();
        let engine = open(&dir, operator);
        (0..KEYS).for_each(|n| count(&engine, &key(n)));
        engine.compact_range(..).unwrap();
        let mut n = 0;
        group.bench_function(name, |b| {
            b.iter_batched(
                || {
                    n += 7919;
                    key(n)
                },
                |key| count(&engine, &key),
                BatchSize::SmallInput,
            );
        });
    }
    group.finish();
}

/// What is read: folded, and with one operand in each of three tables over the value.
fn reading(c: &mut Criterion) {
    let mut group = c.benchmark_group("read counters");
    for (name, operands) in [("folded", 0), ("3 operands in tables", 3)] {
        let dir = tempfile::tempdir().unwrap();
        let options = Options::default();
        let default = KeyspaceOptions { merge_operator: Some("esker.counter".into()), ..Default::default() };
        let engine = Engine::builder(dir.path()).options(options).default_keyspace(default);
        let engine = engine.background(Background::Manual).open().unwrap();
        let count = |engine: &Engine| (0..KEYS).for_each(|n| engine.merge(key(n), 1i64.to_le_bytes()).unwrap());
        count(&engine);
        engine.compact_range(..).unwrap();
        for _ in 0..operands {
            count(&engine);
            engine.flush().unwrap();
        }
        let mut n = 0;
        group.throughput(Throughput::Elements(1));
        group.bench_function(format!("get, {name}"), |b| {
            b.iter(|| {
                n += 7919;
                black_box(engine.get(key(n)).unwrap())
            });
        });
        group.throughput(Throughput::Elements(KEYS));
        group.sample_size(10);
        group.bench_function(format!("walk, {name}"), |b| {
            b.iter(|| engine.iter().map(|item| item.unwrap().1.len()).sum::<usize>())
        });
        group.bench_function(format!("walk back, {name}"), |b| {
            b.iter(|| engine.iter().rev().map(|item| item.unwrap().1.len()).sum::<usize>());
        });
        group.bench_function(format!("keys, {name}"), |b| b.iter(|| engine.iter().keys().count()));
    }
    group.finish();
}

criterion_group!(benches, counting, reading);
criterion_main!(benches);
