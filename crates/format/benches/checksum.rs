//! What a checksum and a hash cost: `cargo bench -p esker-format`.
//!
//! `crc32c` of what gets one: a log record's header (20 B), a small record (132 B), a block (4 KiB), and a record in three parts, as a log sums it
//! up. `key hash` of what is looked up. All of it is in the processor's cache.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use esker_format::KeyHash;
use esker_format::checksum::{Crc, crc32c};
use std::hint::black_box;

fn bytes(count: usize) -> Vec<u8> {
    (0..count as u64).map(|i| (i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8).collect()
}

fn checksum(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for count in [20, 132, 4096] {
        let bytes = bytes(count);
        group.throughput(Throughput::Bytes(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(format!("{count} B")), &bytes, |b, bytes| {
            b.iter(|| crc32c(black_box(bytes)));
        });
    }
    let record = bytes(132);
    group.throughput(Throughput::Bytes(132));
    group.bench_function("132 B in three parts", |b| {
        b.iter(|| {
            let record = black_box(&record);
            Crc::new().bytes(&record[..12]).u64(7).bytes(&record[20..]).finish()
        });
    });
    group.finish();
}

fn hash(c: &mut Criterion) {
    let mut group = c.benchmark_group("key hash");
    for count in [8, 16, 32, 256] {
        let key = bytes(count);
        group.throughput(Throughput::Bytes(count as u64));
        group.bench_with_input(BenchmarkId::from_parameter(format!("{count} B")), &key, |b, key| {
            b.iter(|| KeyHash::of(black_box(key)));
        });
    }
    group.finish();
}

criterion_group!(benches, checksum, hash);
criterion_main!(benches);
