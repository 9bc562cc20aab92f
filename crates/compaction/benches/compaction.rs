//! What an entry costs on its way through a compaction: `cargo bench -p esker-compaction`.
//!
//! Entries of 16 B keys and 100 B values, half of them random. `step` is the judging alone, over a source in memory; `flush` writes tables; `run`
//! merges four tables of level 0 with what they overlap. Inputs lie in a file system in memory; outputs are thrown away as they are
//! appended, so this is the work on entries and blocks alone.

#[path = "../tests/folder/mod.rs"]
mod folder;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker_compaction::{CompactionError, CompactionIter, JobConfig, Plan, PlanKind, Tables, run, write_tables};
use esker_format::{FileId, FileNo, KeyspaceId, SeqNo};
use esker_iterator::VecIterator;
use esker_manifest::{Level, TableMeta};
use esker_sstable::{Codec, Table, TableError};
use esker_vfs::{FileSync, MemVfs, WritableFile};
use folder::{Entries, Folder, config, put};
use std::hint::black_box;
use std::io;
use std::sync::Arc;

const KEYS: u64 = 100_000;

/// Tables are read from a folder and written to nowhere.
struct Nowhere<'a>(&'a Folder);

impl Tables for Nowhere<'_> {
    fn open(&self, table: &TableMeta) -> Result<Arc<Table>, TableError> {
        self.0.open(table)
    }

    fn create(&self) -> Result<(FileNo, Box<dyn WritableFile>, String, FileId), CompactionError> {
        Ok((FileNo(0), Box::new(Discard(0)), "nowhere".into(), FileId(7)))
    }

    fn created_unix_ms(&self) -> u64 {
        0
    }

    fn finished(&self, _: FileNo) -> Result<(), CompactionError> {
        Ok(())
    }
}

#[derive(Debug)]
struct Discard(u64);

impl WritableFile for Discard {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0 += black_box(bytes).len() as u64;
        Ok(())
    }

    fn position(&self) -> u64 {
        self.0
    }

    fn preallocate(&mut self, _: u64) -> io::Result<()> {
        Ok(())
    }

    fn trim(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn syncer(&self) -> Arc<dyn FileSync> {
        Arc::new(Discard(0))
    }
}

impl FileSync for Discard {
    fn sync(&self) -> io::Result<()> {
        Ok(())
    }
}

/// 50 random bytes and 50 that compress.
fn value(i: u64) -> [u8; 100] {
    let mut value = [b'v'; 100];
    let mut x = i.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    for byte in &mut value[..50] {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        *byte = x as u8;
    }
    value
}

/// `versions` of each of `keys` keys.
fn entries(keys: u64, versions: u64) -> Entries {
    let entry = |i: u64| put(&format!("user:{:011}", i % keys), i + 1, &value(i));
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
    let source = VecIterator::new(entries(KEYS, 1));
    for (name, codec, filter_bits_per_key) in
        [("none", Codec::None, 12), ("unfiltered", Codec::None, 0), ("lz4", Codec::Lz4, 12)]
    {
        group.bench_function(name, |b| {
            let folder = Folder::new(MemVfs::new());
            let mut source = source.clone();
            let config = JobConfig { codec, filter_bits_per_key, horizon: SeqNo(KEYS), ..config() };
            b.iter(|| {
                let iter = CompactionIter::new(&mut source, &[], SeqNo(KEYS), |_| true);
                write_tables(iter, &[], &Nowhere(&folder), &config).unwrap().written_bytes
            });
        });
    }
}

fn merge(c: &mut Criterion) {
    let mut group = c.benchmark_group("run");
    let folder = Folder::new(MemVfs::new());
    let deal = |part: u64, parts: u64, seq: u64| {
        let keys = (0..KEYS).filter(|i| i % parts == part);
        folder.table(keys.map(|i| put(&format!("user:{i:011}"), seq + i, &value(i))).collect())
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
            b.iter(|| run(&plan, &Nowhere(&folder), &config).unwrap().entries_out);
        });
    }
}

criterion_group!(benches, step, flush, merge);
criterion_main!(benches);
