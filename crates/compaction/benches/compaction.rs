//! What an entry costs on its way through a compaction: `cargo bench -p esker-compaction`.
//!
//! Entries of 16 B keys and 100 B values. `step` is the judging alone, over a source in memory; `flush` writes tables; `run` merges four
//! tables of level 0 with what they overlap, on a file system in memory.

#[path = "../tests/folder/mod.rs"]
mod folder;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker_compaction::{CompactionIter, JobConfig, Plan, PlanKind, run};
use esker_format::{KeyspaceId, SeqNo};
use esker_iterator::VecIterator;
use esker_manifest::Level;
use esker_sstable::Codec;
use esker_vfs::MemVfs;
use folder::{Entries, Folder, config, put};
use std::hint::black_box;

const KEYS: u64 = 100_000;

/// `versions` of each of `keys` keys.
fn entries(keys: u64, versions: u64) -> Entries {
    let entry = |i: u64| put(&format!("user:{:011}", i % keys), i + 1, &[i as u8; 100]);
    (0..keys * versions).map(entry).collect()
}

fn step(c: &mut Criterion) {
    let mut group = c.benchmark_group("step");
    group.throughput(Throughput::Elements(KEYS));
    let snapshots: Vec<SeqNo> = (1..10).map(|i| SeqNo(i * KEYS / 10)).collect();
    for (name, versions, snapshots) in
        [("unique", 1, &[][..]), ("four_versions", 4, &[]), ("nine_snapshots", 4, &snapshots)]
    {
        let source = VecIterator::new(entries(KEYS / versions, versions));
        group.bench_function(name, |b| {
            let mut source = source.clone();
            b.iter(|| {
                let mut iter = CompactionIter::new(&mut source, snapshots, SeqNo(KEYS), |_| true);
                assert!(iter.seek_to_first().is_ok());
                while iter.valid() {
                    black_box((iter.key(), iter.value()));
                    assert!(iter.next().is_ok());
                }
                black_box(iter.counts())
            });
        });
    }
}

fn flush(c: &mut Criterion) {
    let mut group = c.benchmark_group("flush");
    group.throughput(Throughput::Elements(KEYS)).sample_size(10);
    let source = entries(KEYS, 1);
    for (name, codec) in [("none", Codec::None), ("lz4", Codec::Lz4)] {
        group.bench_function(name, |b| {
            let fresh = || (Folder::new(MemVfs::new()), source.clone());
            let config = JobConfig { codec, horizon: SeqNo(KEYS), ..config() };
            b.iter_batched(
                fresh,
                |(folder, entries)| folder.flush(entries, &config),
                criterion::BatchSize::PerIteration,
            );
        });
    }
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    let vfs = MemVfs::new();
    let folder = Folder::new(vfs.clone());
    let deal = |part: u64, parts: u64, seq: u64| {
        let keys = (0..KEYS).filter(|i| i % parts == part);
        folder.table(keys.map(|i| put(&format!("user:{i:011}"), seq + i, &[i as u8; 100])).collect())
    };
    let level_0: Vec<_> = (0..4).map(|part| deal(part, 8, 2 * KEYS)).collect();
    let plan = Plan {
        keyspace: KeyspaceId::DEFAULT,
        inputs: vec![(Level::ZERO, level_0), (Level::BOTTOM, vec![deal(0, 1, 1)])],
        output_level: Level::BOTTOM,
        kind: PlanKind::Merge,
        grandparents: Vec::new(),
        deeper: Vec::new(),
    };
    group.throughput(Throughput::Elements(KEYS * 3 / 2)).sample_size(10);
    for (name, codec) in [("none", Codec::None), ("lz4", Codec::Lz4)] {
        let config = JobConfig { codec, horizon: SeqNo(4 * KEYS), table_bytes: 4 << 20, ..config() };
        group.bench_function(name, |b| {
            b.iter(|| {
                let outcome = run(&plan, &folder, &config).unwrap();
                for table in &outcome.outputs {
                    folder.vfs.remove_file(&Folder::path(table.number)).unwrap();
                }
                vfs.forget_operations();
                outcome.entries_out
            });
        });
    }
}

criterion_group!(benches, step, flush, merge);
criterion_main!(benches);
