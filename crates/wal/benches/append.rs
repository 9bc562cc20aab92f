//! What an append and a read cost: framing, checksums, and the system calls of one `write(2)` for each record or for many.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker_format::{FileId, FileNo};
use esker_vfs::{OsVfs, Vfs};
use esker_wal::{GroupSync, LogHeader, Lsn, Reader, RecordKind, Reserve, Writer};
use std::path::Path;
use std::sync::Arc;
use tempfile::TempDir;

const RECORDS: usize = 10_000;

fn create(path: &Path) -> Writer {
    let header = LogHeader { file_id: FileId(1), number: FileNo(1), start: Lsn::ZERO, durable: Lsn::ZERO };
    Writer::create(&OsVfs, path, header, &GroupSync::new(Lsn::ZERO)).unwrap()
}

fn fill(log: &mut Writer, payload: &[u8], push_each: bool) {
    for _ in 0..RECORDS {
        log.append(RecordKind::Data, &[&payload[..12], &payload[12..]], Reserve::Keep).unwrap();
        if push_each {
            log.push().unwrap();
        }
    }
    log.push().unwrap();
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for payload_bytes in [128, 4096] {
        let payload = vec![b'x'; payload_bytes];
        group.throughput(Throughput::Elements(RECORDS as u64));
        for (name, push_each) in [("push each", true), ("buffered", false)] {
            group.bench_function(format!("{name}, {payload_bytes} B"), |b| {
                b.iter_batched(
                    || {
                        let dir = TempDir::new().unwrap();
                        let log = create(&dir.path().join("000001.wal"));
                        (dir, log)
                    },
                    |(dir, mut log)| {
                        fill(&mut log, &payload, push_each);
                        (dir, log)
                    },
                    BatchSize::PerIteration,
                );
            });
        }
    }
    group.finish();
}

fn read(c: &mut Criterion) {
    let mut group = c.benchmark_group("read");
    for payload_bytes in [128, 4096] {
        let dir = TempDir::new().unwrap();
        let path = dir.path().join("000001.wal");
        let mut log = create(&path);
        fill(&mut log, &vec![b'x'; payload_bytes], false);
        let file = OsVfs.open_read(&path).unwrap();
        group.throughput(Throughput::Bytes(log.bytes()));
        group.bench_function(format!("{payload_bytes} B"), |b| {
            b.iter(|| {
                let mut reader = Reader::open(Arc::clone(&file), "000001.wal").unwrap();
                let mut records = 0;
                while reader.next().unwrap().is_some() {
                    records += 1;
                }
                assert_eq!(records, RECORDS);
            });
        });
    }
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
