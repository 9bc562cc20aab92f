//! What the harness itself takes of each operation: its loops on a store that does nothing. `cargo bench -p esker-bench --bench harness`.
//!
//! A get must show the value that is checked, so the store makes it first: about as much again as the check itself.

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use esker_bench::args::{Args, Settings};
use esker_bench::store::{DataModel, Entry, Store};
use esker_bench::workload::Workload;
use esker_bench::{Result, data, work};
use std::hint::black_box;
use std::path::Path;

const KEYS: u64 = 100_000;

/// Takes everything and keeps nothing.
struct Noop {
    value_bytes: usize,
}

impl Noop {
    fn show(&self, range: std::ops::Range<u64>, mut look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let mut value = vec![0; self.value_bytes];
        range.into_iter().try_for_each(|index| {
            data::fill_value(index, &mut value);
            look(&data::key(index), &value)
        })
    }
}

impl DataModel for Noop {}

impl Store for Noop {
    fn open(_: &Path, settings: &Settings) -> Result<Self> {
        Ok(Self { value_bytes: settings.value_bytes })
    }

    fn put(&self, key: &[u8], value: &[u8]) -> Result<()> {
        black_box((key, value));
        Ok(())
    }

    fn put_batch(&self, entries: &[Entry]) -> Result<()> {
        black_box(entries);
        Ok(())
    }

    fn delete(&self, key: &[u8]) -> Result<()> {
        black_box(key);
        Ok(())
    }

    fn get<T>(&self, key: &[u8], look: impl FnOnce(&[u8]) -> T) -> Result<Option<T>> {
        let mut value = [0; 100];
        Ok(data::index(key).map(|index| {
            data::fill_value(index, &mut value);
            look(&value)
        }))
    }

    fn scan_from(&self, key: &[u8], limit: u64, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        let first = data::index(key).unwrap_or(0);
        self.show(first..(first + limit).min(KEYS), look)
    }

    fn scan(&self, look: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        self.show(0..KEYS, look)
    }

    fn scan_reverse(&self, _: impl FnMut(&[u8], &[u8]) -> Result<()>) -> Result<()> {
        Ok(())
    }

    fn flush(&self) -> Result<()> {
        Ok(())
    }

    fn is_busy(&self) -> bool {
        false
    }

    fn close(self) -> Result<()> {
        Ok(())
    }
}

fn harness(c: &mut Criterion) {
    let args = <Args as clap::Parser>::parse_from(["esker-bench", "--num", &KEYS.to_string()]);
    let settings = args.settings();
    let store = Noop { value_bytes: settings.value_bytes };
    let mut group = c.benchmark_group("harness");
    group.throughput(Throughput::Elements(KEYS)).sample_size(20);
    use Workload::{DeleteRandom, FillBatch, FillRandom, FillSeq, ReadMissing, ReadRandom, ReadSeq, YcsbA, YcsbC};
    for workload in [FillSeq, FillRandom, FillBatch, DeleteRandom, ReadRandom, ReadMissing, ReadSeq, YcsbA, YcsbC] {
        group.bench_function(workload.to_string(), |b| b.iter(|| work::run(&store, workload, &settings).unwrap()));
    }
    group.finish();
}

criterion_group!(benches, harness);
criterion_main!(benches);
