//! What an append and a read cost: framing, checksums, and the system calls of one `write(2)` for each record or for many.

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use esker_format::{FileId, FileNo};
use esker_vfs::{OsVfs, Vfs};
use esker_wal::{Backend, Fill, GroupSync, LogHeader, Lsn, Prepared, Reader, RecordKind, Reserve, Writer};
use std::path::Path;
use std::sync::{Arc, Mutex};
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

/// As in an engine that is under way: in the file of a log that is not needed any more, whose pages are there.
fn create_mapped(path: &Path) -> Writer {
    let prepared = Prepared::create(&OsVfs, path, Backend::Mapped).unwrap();
    prepared.ahead(64 << 20).unwrap().make(Fill::Populated, OsVfs.clock()).unwrap();
    let header = LogHeader { file_id: FileId(1), number: FileNo(1), start: Lsn::ZERO, durable: Lsn::ZERO };
    prepared.begin(header, &GroupSync::new(Lsn::ZERO)).unwrap()
}

/// Every append waits until it is on stable storage; threads share syncs.
fn synced(c: &mut Criterion) {
    const EACH: u64 = 500;
    let mut group = c.benchmark_group("synced");
    group.sample_size(10);
    for backend in [Backend::Mapped, Backend::Write] {
        for threads in [1, 4, 16] {
            group.throughput(Throughput::Elements(EACH * threads));
            let dir = TempDir::new().unwrap();
            let sync = GroupSync::new(Lsn::ZERO);
            let prepared = Prepared::create(&OsVfs, &dir.path().join("000001.wal"), backend).unwrap();
            if let Some(ahead) = prepared.ahead(64 << 20) {
                ahead.make(Fill::Written, OsVfs.clock()).unwrap();
                prepared.sync().unwrap();
            }
            let header = LogHeader { file_id: FileId(1), number: FileNo(1), start: Lsn::ZERO, durable: Lsn::ZERO };
            let log = Mutex::new(prepared.begin(header, &sync).unwrap());
            let one = || {
                let mut log = log.lock().unwrap();
                let end = log.append(RecordKind::Data, &[&[b'x'; 132]], Reserve::Keep).unwrap();
                log.push().unwrap();
                drop(log);
                sync.sync_to(end).unwrap();
            };
            group.bench_function(format!("{backend:?}, {threads} threads"), |b| {
                b.iter(|| {
                    std::thread::scope(|scope| {
                        (0..threads).for_each(|_| drop(scope.spawn(|| (0..EACH).for_each(|_| one()))));
                    });
                });
            });
        }
    }
    group.finish();
}

fn append(c: &mut Criterion) {
    let mut group = c.benchmark_group("append");
    for payload_bytes in [132, 4096] {
        let payload = vec![b'x'; payload_bytes];
        group.throughput(Throughput::Elements(RECORDS as u64));
        let written = create as fn(&Path) -> Writer;
        for (name, push_each, create) in
            [("push each", true, written), ("buffered", false, written), ("mapped", true, create_mapped)]
        {
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

criterion_group!(benches, append, synced, read);
criterion_main!(benches);
