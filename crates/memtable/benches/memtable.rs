//! Insert, look-up and walks at a million entries of 16 + 100 bytes: `cargo bench -p esker-memtable`.
//!
//! `random` keys differ in their first bytes; `prefixed` ones (`user:0000123456`) share most of theirs.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker_format::{InternalKey, SeqNo, ValueKind};
use esker_iterator::InternalIterator;
use esker_memtable::MemTable;
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

fn filled(keys: Keys, entries: u64) -> Arc<MemTable> {
    let table = Arc::new(MemTable::new());
    (0..entries).for_each(|i| table.insert(put(&keys(i), i + 1), &[7; 100]));
    table
}

fn memtable(c: &mut Criterion) {
    for (name, keys) in KEYS {
        let mut group = c.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Elements(ENTRIES));
        // The batch's output is dropped outside the measured time.
        group.bench_function("insert a million", |b| {
            b.iter_batched(|| (), |()| filled(keys, ENTRIES), BatchSize::PerIteration);
        });

        let table = filled(keys, ENTRIES);
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
