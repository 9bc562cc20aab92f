//! Insert, look-up and walks at a million entries of 16 + 100 bytes: `cargo bench -p esker-memtable`.
//!
//! `random` keys differ in their first bytes; `prefixed` ones (`user:0000123456`) share most of theirs.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::InternalIterator;
use esker_memtable::{ArenaPool, Form, MemTable};
use std::hint::black_box;
use std::sync::Arc;

const ENTRIES: u64 = 1_000_000;
const LOOK_UPS: u64 = 10_000;

/// A permutation of the 64-bit numbers (splitmix64).
fn scramble(i: u64) -> u64 {
    let mut x = i.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ x >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ x >> 31
}

fn sequential(i: u64) -> [u8; 16] {
    (u128::from(i) << 64).to_be_bytes()
}

fn random(i: u64) -> [u8; 16] {
    (u128::from(scramble(i)) << 64 | u128::from(i)).to_be_bytes()
}

fn prefixed(i: u64) -> [u8; 16] {
    let mut key = *b"user:00000000000";
    // Odd, so that multiplying by it permutes the numbers below 2^20.
    let mut rest = i * 0x9e375 % (1 << 20);
    for digit in key[6..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

type Keys = fn(u64) -> [u8; 16];
const KEYS: [(&str, Keys); 2] = [("random", random), ("prefixed", prefixed)];

fn put(key: &[u8], seq: u64) -> InternalKey<'_> {
    InternalKey::new(key, SeqNo(seq), ValueKind::Put)
}

/// An empty table; one of the tree form draws from a pool, as the engine's do.
fn empty(form: Form, pool: &ArenaPool) -> Arc<MemTable> {
    Arc::new(match form {
        Form::Tree => MemTable::with_pool(pool.clone()),
        form => MemTable::with_form(form),
    })
}

fn fill(table: Arc<MemTable>, keys: Keys) -> Arc<MemTable> {
    (0..ENTRIES).for_each(|i| table.insert(put(&keys(i), i + 1), &[7; 100]));
    table
}

fn memtable(c: &mut Criterion) {
    for (form, form_name) in [(Form::Tree, "tree"), (Form::SkipList, "skip list")] {
        for (keys_name, keys) in KEYS {
            of(c, form, &format!("{form_name}, {keys_name}"), keys);
        }
    }
}

fn of(c: &mut Criterion, form: Form, name: &str, keys: Keys) {
    let pool = ArenaPool::new(400 << 20);
    {
        let mut group = c.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Elements(ENTRIES));
        // The batch's output is dropped outside the measured time; so its memory is in the pool when the next one begins.
        group.bench_function("insert a million", |b| {
            b.iter_batched(|| empty(form, &pool), |table| fill(table, keys), BatchSize::PerIteration);
        });
        if std::ptr::fn_addr_eq(keys, KEYS[0].1) {
            group.bench_function("insert a million in order", |b| {
                b.iter_batched(|| empty(form, &pool), |table| fill(table, sequential), BatchSize::PerIteration);
            });
        }

        let table = fill(empty(form, &pool), keys);
        let mut next = 0;
        let mut some = || {
            next = (next + 7919 * LOOK_UPS) % ENTRIES;
            next
        };
        group.throughput(Throughput::Elements(LOOK_UPS));
        group.bench_function("get hit", |b| {
            b.iter(|| {
                let from = some();
                for i in 0..LOOK_UPS {
                    let key = keys(scramble(from + i) % ENTRIES);
                    assert!(black_box(table.get(&key, SeqNo::MAX)).is_some());
                }
            });
        });
        // Which key comes next is known when the one before has been found.
        group.bench_function("get hit, each after the other", |b| {
            b.iter(|| {
                let from = some();
                let mut last = 0;
                for i in 0..LOOK_UPS {
                    let key = keys(scramble(from + i + last) % ENTRIES);
                    let (trailer, value) = table.get(&key, SeqNo::MAX).expect("all are there");
                    last = u64::from(value[0]) + trailer.seq().0 - trailer.seq().0;
                }
                black_box(last)
            });
        });
        group.bench_function("get miss", |b| {
            b.iter(|| {
                let from = some();
                for i in 0..LOOK_UPS {
                    let mut key = keys(scramble(from + i) % ENTRIES);
                    key[15] ^= 0x80;
                    assert!(black_box(table.get(&key, SeqNo::MAX)).is_none());
                }
            });
        });
        group.bench_function("seek + 10", |b| {
            let mut iter = table.iter();
            b.iter(|| {
                let from = some();
                for i in 0..LOOK_UPS {
                    let key = keys(scramble(from + i) % ENTRIES);
                    iter.seek(InternalKey::before_all(&key)).unwrap();
                    for _ in 0..10 {
                        if iter.valid() {
                            black_box(iter.value());
                            iter.next().unwrap();
                        }
                    }
                }
            });
        });
        group.throughput(Throughput::Elements(ENTRIES));
        group.bench_function("scan forward", |b| {
            let mut iter = table.iter();
            b.iter(|| {
                iter.seek_to_first().unwrap();
                while iter.valid() {
                    black_box((iter.key(), iter.value()));
                    iter.next().unwrap();
                }
            });
        });
        group.bench_function("scan backward", |b| {
            let mut iter = table.iter();
            b.iter(|| {
                iter.seek_to_last().unwrap();
                while iter.valid() {
                    black_box((iter.key(), iter.value()));
                    iter.prev().unwrap();
                }
            });
        });
        group.finish();
    }
}

criterion_group!(benches, memtable);
criterion_main!(benches);
