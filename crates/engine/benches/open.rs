//! Opening an engine, in warm caches.
//!
//! | name | |
//! |---|---|
//! | `closed` | a million entries in tables, after a close in order |
//! | `killed/batches`, `killed/puts` | 40 MB of log and nothing in tables, as `kill -9` leaves it; in batches of 100, or one by one; random keys |
//! | `killed/ascending` | the same, in batches, in key order |
//!
//! `cargo bench -p esker --bench open`

use criterion::{Criterion, criterion_group, criterion_main};
use esker::{Engine, Options, WriteBatch};
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

/// With its key of 16 bytes: what the workload `openkill` of `esker-bench` writes.
const VALUE_BYTES: usize = 100;
const LOGGED: u64 = 361_577;
const CLOSED: u64 = 1 << 20;

fn options() -> Options {
    // No memtable fills up.
    Options {
        memory_budget_bytes: 2 << 30,
        memtable_bytes: Some(320 << 20),
        flush_on_close: false,
        ..Options::default()
    }
}

fn open(dir: &Path) -> Engine {
    Engine::builder(dir).options(options()).open().unwrap()
}

fn key(i: u64) -> [u8; 16] {
    format!("{i:016}").into_bytes().try_into().expect("16 digits")
}

fn value(i: u64) -> [u8; VALUE_BYTES] {
    let mut value = [b'v'; VALUE_BYTES];
    value[..8].copy_from_slice(&i.to_le_bytes());
    value
}

/// An odd factor goes through all numbers below a power of two.
fn shuffled(i: u64) -> u64 {
    i.wrapping_mul(0x9e37_79b1) & (CLOSED - 1)
}

fn fill(engine: &Engine, count: u64, batch_entries: u64, order: fn(u64) -> u64) {
    for first in (0..count).step_by(batch_entries as usize) {
        let mut batch = WriteBatch::new();
        for i in first..count.min(first + batch_entries) {
            batch.put(key(order(i)), value(i));
        }
        engine.write(&batch).unwrap();
    }
}

/// Copies what an open changes, links what it only reads.
fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let (path, name) = (entry.as_ref().unwrap().path(), entry.unwrap().file_name());
        if path.extension().is_some() {
            fs::hard_link(path, to.join(name)).unwrap();
        } else {
            fs::copy(path, to.join(name)).unwrap();
        }
    }
}

fn killed(c: &mut Criterion, name: &str, batch_entries: u64, order: fn(u64) -> u64) {
    let scratch = tempfile::tempdir().unwrap();
    let (left, again) = (scratch.path().join("left"), scratch.path().join("again"));
    let engine = open(&left);
    fill(&engine, LOGGED, batch_entries, order);
    c.bench_function(name, |b| {
        b.iter_custom(|count| {
            let mut sum = Duration::ZERO;
            for _ in 0..count {
                copy(&left, &again);
                let start = Instant::now();
                let engine = open(&again);
                sum += start.elapsed();
                assert_eq!(engine.metrics().keyspaces[0].active_entries as u64, LOGGED);
                engine.close().unwrap();
                fs::remove_dir_all(&again).unwrap();
            }
            sum
        })
    });
}

fn all(c: &mut Criterion) {
    killed(c, "killed/batches", 100, shuffled);
    killed(c, "killed/puts", 1, shuffled);
    killed(c, "killed/ascending", 100, |i| i);

    let scratch = tempfile::tempdir().unwrap();
    let engine = open(scratch.path());
    fill(&engine, CLOSED, 1000, shuffled);
    engine.flush().unwrap();
    engine.close().unwrap();
    c.bench_function("closed", |b| {
        b.iter_custom(|count| {
            let mut sum = Duration::ZERO;
            for _ in 0..count {
                let start = Instant::now();
                let engine = open(scratch.path());
                assert!(engine.get(key(7)).unwrap().is_some());
                sum += start.elapsed();
                engine.close().unwrap();
            }
            sum
        })
    });
}

criterion_group!(name = benches; config = Criterion::default().sample_size(10); targets = all);
criterion_main!(benches);
