//! Point reads of an engine of a million entries (16-byte keys, values of 100 bytes), all in warm tables unless the name says otherwise.
//!
//! | name | |
//! |---|---|
//! | `hit`, `hit_dependent` | random keys; known ahead, or only when the last value is there |
//! | `miss` | keys between those that are there: filters only |
//! | `deep` | three tables of L0 over the level that has the key |
//! | `multi_get_16` | per key, in groups of 16 |
//! | `contains` | without the value |
//! | `two_threads` | per key of one thread while another does the same |
//! | `memtable` | what was written last |
//!
//! `cargo bench -p esker --bench get`

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker::{Codec, Engine, Options, WriteBatch};
use std::hint::black_box;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

const ENTRIES: u64 = 1_000_000;
const GROUP: usize = 16;

type Key = [u8; 16];

fn digits(number: u64) -> Key {
    format!("{number:016}").into_bytes().try_into().expect("16 digits")
}

/// What is written; odd numbers are between.
fn key(i: u64) -> Key {
    digits(2 * i)
}

fn missing(i: u64) -> Key {
    digits(2 * i + 1)
}

fn value(i: u64) -> [u8; 100] {
    let mut value = [b'v'; 100];
    let mut noise = i + 1;
    for byte in &mut value[..50] {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (noise >> 56) as u8;
    }
    value
}

/// Numbers below [`ENTRIES`] that jump about.
fn jumping(count: usize) -> impl Iterator<Item = u64> {
    let mut state = 1u64;
    std::iter::repeat_with(move || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % ENTRIES
    })
    .take(count)
}

fn put_all(engine: &Engine, numbers: impl Iterator<Item = u64>) {
    let numbers: Vec<u64> = numbers.collect();
    for some in numbers.chunks(1000) {
        let mut batch = WriteBatch::new();
        for i in some {
            batch.put(key(*i), value(*i));
        }
        engine.write(&batch).unwrap();
    }
}

/// All entries in tables, in the order of `9e3779b1 * i`, and nothing left to do in the background.
fn load(dir: &Path, codec: Codec) -> Engine {
    let mut options = Options {
        memory_budget_bytes: 512 << 20,
        memtable_bytes: Some(64 << 20),
        block_cache_bytes: Some(256 << 20),
        ..Options::default()
    };
    options.compression.fill(codec);
    let engine = Engine::builder(dir).options(options).open().unwrap();
    put_all(&engine, (0..1 << 20).map(|i| (i * 0x9e37_79b1 + 12_345) % (1 << 20)).filter(|i| *i < ENTRIES));
    engine.flush().unwrap();
    engine.compact_range(..).unwrap();
    engine
}

/// How long `count` calls in each of two threads take, by the slower one.
fn beside(count: u64, get: impl Fn(u64) + Sync) -> Duration {
    let started = AtomicBool::new(false);
    let run = |first: u64| {
        let start = Instant::now();
        (first..first + count).for_each(&get);
        start.elapsed()
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            started.store(true, Ordering::Release);
            run(500_000)
        });
        while !started.load(Ordering::Acquire) {
            std::hint::spin_loop();
        }
        run(0).max(other.join().unwrap())
    })
}

fn gets(c: &mut Criterion, name: &str, engine: &Engine) {
    let keys: Vec<Key> = jumping(1 << 20).map(key).collect();
    let absent: Vec<Key> = jumping(1 << 20).map(missing).collect();
    keys.iter().for_each(|key| assert!(engine.get(key).unwrap().is_some()));
    absent.iter().for_each(|key| assert!(engine.get(key).unwrap().is_none()));
    let mut at = 0;
    let mut next = |step: usize| {
        at = (at + step) & (keys.len() - 1);
        at
    };
    let mut group = c.benchmark_group(name);
    group.bench_function("hit", |b| b.iter(|| black_box(engine.get(keys[next(1)]).unwrap().unwrap()[50])));
    let mut last = 0;
    group.bench_function("hit_dependent", |b| {
        b.iter(|| last = engine.get(keys[next(1 + usize::from(last == 1))]).unwrap().unwrap()[99])
    });
    group.bench_function("miss", |b| b.iter(|| black_box(engine.get(absent[next(1)]).unwrap().is_some())));
    group.bench_function("contains", |b| b.iter(|| black_box(engine.contains_key(keys[next(1)]).unwrap())));
    group.bench_function("two_threads", |b| {
        b.iter_custom(|count| {
            beside(count, |i| {
                black_box(engine.get(keys[i as usize & (keys.len() - 1)]).unwrap().unwrap()[50]);
            })
        })
    });
    group.throughput(Throughput::Elements(GROUP as u64));
    group.bench_function("multi_get_16", |b| {
        b.iter(|| {
            let first = next(GROUP) & !(GROUP - 1);
            let found = engine.multi_get(&keys[first..first + GROUP]).unwrap();
            found.iter().fold(0u8, |sum, value| sum.wrapping_add(value.as_ref().unwrap()[50]))
        })
    });
    group.finish();
}

fn all(c: &mut Criterion) {
    for (name, codec) in [("plain", Codec::None), ("lz4", Codec::Lz4)] {
        let directory = tempfile::tempdir().unwrap();
        let engine = load(directory.path(), codec);
        gets(c, name, &engine);
        if codec == Codec::None {
            // One key in fifty again, three times: tables of L0 that reach over everything.
            for round in 0..3 {
                put_all(&engine, (0..ENTRIES).filter(|i| i % 50 == round));
                engine.flush().unwrap();
            }
            gets(c, "deep", &engine);
            put_all(&engine, jumping(100_000));
            let mut keys = jumping(100_000).map(key).collect::<Vec<_>>().into_iter().cycle();
            c.bench_function("memtable/hit", |b| {
                b.iter(|| black_box(engine.get(keys.next().unwrap()).unwrap().unwrap()[50]))
            });
        }
        engine.close().unwrap();
    }
}

criterion_group!(benches, all);
criterion_main!(benches);
