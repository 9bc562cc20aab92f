//! A table of a million entries (16-byte keys, values of 100 bytes that compress to half), and one of a single block.
//!
//! `cargo bench -p esker-sstable`

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker_format::{FileId, InternalKey, SeqNo, ValueKind};
use esker_iterator::InternalIterator;
use esker_sstable::{BlockCache, Builder, BuilderOptions, Codec, KeyHash, ReadMode, Table, TableOptions, Verify};
use esker_vfs::{OsVfs, Vfs};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

const ENTRIES: u64 = 1_000_000;

/// Numbers that jump about, each once: a full-period step over a power of two.
fn shuffled(i: u64) -> u64 {
    (i * 0x9e37_79b1 + 12_345) % (1 << 20)
}

fn key(i: u64) -> [u8; 16] {
    let mut key = *b"0000000000000000";
    let digits = i.to_string();
    key[16 - digits.len()..].copy_from_slice(digits.as_bytes());
    key
}

/// Keys of 16 to 39 bytes, which need offsets.
fn uneven_key(i: u64) -> Vec<u8> {
    [&key(i)[..], &b"/some/longer/tail/of/it"[..(i % 24) as usize]].concat()
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

fn build<K: AsRef<[u8]>>(directory: &Path, name: &str, codec: Codec, entries: u64, key: impl Fn(u64) -> K) -> u64 {
    let path = directory.join(name);
    let _ = std::fs::remove_file(&path);
    let options = BuilderOptions { file_id: FileId(7), codec, ..Default::default() };
    let mut builder = Builder::new(OsVfs.create_new(&path).unwrap(), name, options).unwrap();
    for i in 0..entries {
        // As if written in random order.
        let seq = SeqNo(1 + shuffled(i));
        builder.add(InternalKey::new(key(i).as_ref(), seq, ValueKind::Put), &value(i)).unwrap();
    }
    builder.finish().unwrap().file_bytes
}

fn open(directory: &Path, name: &str, verify: Verify) -> Arc<Table> {
    let options = TableOptions { verify, read_mode: ReadMode::Map, cache: BlockCache::new(256 << 20), expect: None };
    Table::open(OsVfs.open_read(&directory.join(name)).unwrap(), name, options).unwrap()
}

fn reads<K: AsRef<[u8]>>(c: &mut Criterion, name: &str, table: &Arc<Table>, entries: u64, key: impl Fn(u64) -> K) {
    let numbers: Vec<u64> = (0..1 << 20).map(shuffled).filter(|n| *n < entries).collect();
    let keys: Vec<K> = numbers.iter().map(|n| key(*n)).collect();
    let missing: Vec<Vec<u8>> = keys.iter().map(|key| [key.as_ref(), b"!"].concat()).collect();
    table.verify().unwrap();
    let mut group = c.benchmark_group(name);
    let mut i = 0;
    let mut next = |len: usize| {
        i = (i + 1) % len;
        i
    };
    group.bench_function("get_hit", |b| {
        b.iter(|| {
            let key = keys[next(keys.len())].as_ref();
            let (_, value) = table.get(key, KeyHash::of(key), SeqNo::MAX).unwrap().unwrap();
            black_box(value[50])
        })
    });
    // The next key is known only when the last value is there.
    let mut last = 0;
    group.bench_function("get_hit_dependent", |b| {
        b.iter(|| {
            let key = keys[next(keys.len()) + usize::from(last == 1)].as_ref();
            let (_, value) = table.get(key, KeyHash::of(key), SeqNo::MAX).unwrap().unwrap();
            last = value[99];
        })
    });
    group.bench_function("get_miss", |b| {
        b.iter(|| {
            let key = &missing[next(missing.len())];
            black_box(table.get(key, KeyHash::of(key), SeqNo::MAX).unwrap().is_some())
        })
    });
    group.bench_function("get_miss_past_the_filter", |b| {
        b.iter(|| {
            let key = &missing[next(missing.len())];
            black_box(table.get_unfiltered(key, KeyHash::of(key), SeqNo::MAX).unwrap().is_some())
        })
    });
    group.bench_function("filter", |b| {
        b.iter(|| {
            let key = keys[next(keys.len())].as_ref();
            black_box(table.may_contain(KeyHash::of(key)).unwrap())
        })
    });
    let mut iter = table.iter();
    group.bench_function("seek", |b| {
        b.iter(|| {
            iter.seek(InternalKey::seek(keys[next(keys.len())].as_ref(), SeqNo::MAX)).unwrap();
            black_box(iter.value()[50])
        })
    });
    group.bench_function("seek_and_10_next", |b| {
        b.iter(|| {
            iter.seek(InternalKey::seek(keys[next(keys.len())].as_ref(), SeqNo::MAX)).unwrap();
            for _ in 0..10 {
                black_box(iter.value()[50]);
                iter.next().unwrap();
                if !iter.valid() {
                    break;
                }
            }
        })
    });
    let walk = entries.min(200_000);
    group.throughput(Throughput::Elements(walk));
    group.bench_function("scan_forward", |b| {
        b.iter(|| {
            let mut sum = 0;
            iter.seek_to_first().unwrap();
            for _ in 1..walk {
                sum += usize::from(iter.key().user_key[0]) + usize::from(iter.value()[0]);
                iter.next().unwrap();
            }
            black_box(sum)
        })
    });
    group.bench_function("scan_backward", |b| {
        b.iter(|| {
            let mut sum = 0;
            iter.seek_to_last().unwrap();
            for _ in 1..walk {
                sum += usize::from(iter.key().user_key[0]) + usize::from(iter.value()[0]);
                iter.prev().unwrap();
            }
            black_box(sum)
        })
    });
    group.finish();
}

fn tables(c: &mut Criterion) {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let mut group = c.benchmark_group("build");
    group.sample_size(10).throughput(Throughput::Elements(100_000));
    for (name, codec) in [("plain", Codec::None), ("lz4", Codec::Lz4)] {
        group.bench_function(name, |b| {
            b.iter_batched(|| (), |()| build(directory, "built.sst", codec, 100_000, key), BatchSize::PerIteration)
        });
    }
    group.finish();

    for (name, codec) in [("plain", Codec::None), ("lz4", Codec::Lz4)] {
        let bytes = build(directory, name, codec, ENTRIES, key);
        println!("{name}: {:.2} bytes an entry of 116", bytes as f64 / ENTRIES as f64);
        reads(c, name, &open(directory, name, Verify::FirstUse), ENTRIES, key);
    }
    let bytes = build(directory, "uneven", Codec::None, ENTRIES, uneven_key);
    println!("uneven: {:.2} bytes an entry of 127.5", bytes as f64 / ENTRIES as f64);
    reads(c, "uneven", &open(directory, "uneven", Verify::FirstUse), ENTRIES, uneven_key);
    reads(c, "always", &open(directory, "plain", Verify::Always), ENTRIES, key);
    // All of it in the processor's cache: what the search within a block costs.
    build(directory, "block", Codec::None, 30, key);
    reads(c, "block", &open(directory, "block", Verify::FirstUse), 30, key);
    build(directory, "block_uneven", Codec::None, 30, uneven_key);
    reads(c, "block_uneven", &open(directory, "block_uneven", Verify::FirstUse), 30, uneven_key);
}

criterion_group!(benches, tables);
criterion_main!(benches);
