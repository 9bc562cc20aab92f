//! A whole life of an engine, in memory and small: opened, written, flushed, compacted, read in every way, crashed, opened again; and among threads.

use esker::vfs::{CrashPolicy, MemVfs, Vfs};
use esker::{Background, Engine, LogBackend, Options, ReadMode, WriteBatch, WriteOptions};
use std::collections::BTreeMap;
use std::sync::Arc;

type Contents = BTreeMap<Vec<u8>, Vec<u8>>;

fn options(read_mode: ReadMode, log_backend: LogBackend) -> Options {
    Options {
        memory_budget_bytes: 1 << 20,
        memtable_bytes: Some(64 << 10),
        block_size_bytes: 256,
        blob_bytes_min: 100,
        read_mode,
        log_backend,
        ..Options::default()
    }
}

fn open(vfs: &Arc<MemVfs>, options: &Options, background: Background) -> Engine {
    let builder = Engine::builder("/data").options(options.clone()).vfs(Arc::clone(vfs) as Arc<dyn Vfs>);
    builder.background(background).open().unwrap()
}

fn key(i: u8) -> Vec<u8> {
    format!("key{i:02}").into_bytes()
}

/// Holds all ways of reading against what should be there.
fn check(engine: &Engine, expected: &Contents) {
    let of_item = |item: esker::Result<(esker::Slice, esker::Slice)>| {
        let (key, value) = item.unwrap();
        (key.to_vec(), value.to_vec())
    };
    assert!(engine.iter().map(of_item).eq(expected.clone()));
    assert!(engine.iter().rev().map(of_item).eq(expected.clone().into_iter().rev()));
    let keys: Vec<_> = (0..12).map(key).collect();
    let values = engine.multi_get(&keys).unwrap();
    for (key, value) in keys.iter().zip(values) {
        assert_eq!(value.as_deref(), expected.get(key).map(|value| &**value));
        assert_eq!(engine.get(key).unwrap(), value);
    }
}

fn live(read_mode: ReadMode, log_backend: LogBackend) {
    let (mut vfs, options) = (MemVfs::new(), options(read_mode, log_backend));
    let mut engine = open(&vfs, &options, Background::Manual);
    let mut expected = Contents::new();
    // Twice, so that compaction has something to put together.
    for round in 0..2 {
        for i in 0..10 {
            // Some in the table, some in blob files.
            let value = vec![i + round; if i % 3 == 0 { 300 } else { 10 }];
            engine.put(key(i), &value).unwrap();
            expected.insert(key(i), value);
        }
        engine.delete(key(3 + round)).unwrap();
        expected.remove(&key(3 + round));
        check(&engine, &expected);
        engine.flush().unwrap();
        check(&engine, &expected);
    }
    let (snapshot, before) = (engine.snapshot(), expected.clone());
    engine.delete_range(key(7), key(9)).unwrap();
    expected.retain(|other, _| *other < key(7) || *other >= key(9));
    engine.compact_range(..).unwrap();
    check(&engine, &expected);
    assert_eq!(snapshot.iter().count(), before.len());
    drop(snapshot);
    engine.compact_range(..).unwrap();
    while engine.step().unwrap() {}

    let mut batch = WriteBatch::new();
    batch.put(key(10), "ten").put(key(11), "eleven");
    engine.write_with(&batch, &WriteOptions::sync()).unwrap();
    expected.extend([(key(10), b"ten".to_vec()), (key(11), b"eleven".to_vec())]);
    vfs = Arc::new(vfs.crash_now(CrashPolicy::SyncedOnly));
    engine = open(&vfs, &options, Background::Manual);
    check(&engine, &expected);
    assert!(engine.verify().unwrap().is_ok());
    engine.close().unwrap();
    check(&open(&vfs, &options, Background::Manual), &expected);
}

#[test]
fn a_life_in_maps() {
    live(ReadMode::Map, LogBackend::Mapped);
}

#[test]
fn a_life_of_plain_reads_and_writes() {
    live(ReadMode::Pread, LogBackend::Write);
}

/// Writers, a reader and the engine's own threads at once: what was written last by each is there, and each walk is of one instant.
#[test]
fn a_life_among_threads() {
    let (vfs, options) = (MemVfs::new(), options(ReadMode::Map, LogBackend::Mapped));
    let engine = open(&vfs, &options, Background::default());
    let rounds = if cfg!(miri) { 4 } else { 200 };
    std::thread::scope(|scope| {
        for writer in 0..2_u8 {
            let engine = &engine;
            scope.spawn(move || {
                for round in 0..rounds {
                    let mut batch = WriteBatch::new();
                    let value = [writer, round, 0, 0].repeat(1 + 50 * usize::from(round % 2));
                    batch.put(key(writer), &value).put(key(writer + 2), &value);
                    engine.write(&batch).unwrap();
                    if round % 4 == 3 {
                        engine.flush().unwrap();
                    }
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..rounds {
                let values: Contents = engine
                    .iter()
                    .map(|item| item.map(|(key, value)| (key.to_vec(), value.to_vec())))
                    .collect::<Result<_, _>>()
                    .unwrap();
                for writer in 0..2 {
                    assert_eq!(values.get(&key(writer)), values.get(&key(writer + 2)), "half of a batch is seen");
                }
            }
        });
    });
    engine.compact_range(..).unwrap();
    for writer in 0..2_u8 {
        assert_eq!(engine.get(key(writer)).unwrap().unwrap()[..2], [writer, rounds - 1]);
    }
    engine.close().unwrap();
}
