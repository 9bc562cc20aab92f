//! Large things: a batch beyond memtable and log, the longest key, values of megabytes.

use esker::{Engine, KEY_BYTES_MAX, Options, WriteBatch};

fn options() -> Options {
    Options { memtable_bytes: Some(64 << 10), memory_budget_bytes: 8 << 20, ..Options::default() }
}

#[test]
fn a_batch_larger_than_memtable_log_and_budget_is_written_read_and_recovered() {
    let dir = tempfile::tempdir().unwrap();
    let engine = Engine::builder(dir.path()).options(options()).open().unwrap();
    let mut batch = WriteBatch::new();
    for i in 0..100_000u32 {
        batch.put(i.to_be_bytes(), [i as u8; 120]);
    }
    assert!(batch.size_bytes() > 12 << 20);
    engine.write(&batch).unwrap();
    let check = |engine: &Engine| {
        let mut cursor = engine.cursor();
        cursor.seek_to_first().unwrap();
        for i in 0..100_000u32 {
            assert_eq!((cursor.key(), cursor.value().unwrap()), (&i.to_be_bytes()[..], &[i as u8; 120][..]));
            cursor.next().unwrap();
        }
        assert!(!cursor.valid());
    };
    check(&engine);
    // As a crash would leave it: the files copied while the engine is open.
    let copy = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(dir.path()).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, copy.path().join(path.file_name().unwrap())).unwrap();
    }
    engine.close().unwrap();
    check(&Engine::builder(dir.path()).options(options()).open().unwrap());
    check(&Engine::builder(copy.path()).options(options()).open().unwrap());
}

#[test]
fn the_longest_key_the_empty_key_and_values_of_megabytes() {
    let dir = tempfile::tempdir().unwrap();
    let longest = vec![0xff; KEY_BYTES_MAX];
    let big: Vec<u8> = (0..5 << 20).map(|i: u32| ((i * 7) >> 3) as u8).collect();
    for round in 0..3 {
        let engine = Engine::builder(dir.path()).options(options()).open().unwrap();
        if round == 0 {
            engine.put(&longest, &big).unwrap();
            engine.put("", "").unwrap();
            engine.put([0xff; 3], &big[..70_000]).unwrap();
        } else {
            engine.compact_range(..).unwrap();
        }
        assert_eq!(engine.get(&longest).unwrap().unwrap(), big);
        assert_eq!(engine.get("").unwrap().unwrap(), b"", "an empty value is a value");
        assert_eq!(engine.get([0xff; 3]).unwrap().unwrap(), big[..70_000]);
        let keys: Vec<_> = engine.iter().rev().keys_only();
        assert_eq!(keys, [&longest[..], &[0xff; 3], b""]);
        engine.close().unwrap();
    }
}

/// Collects the keys of an iterator of either direction.
trait KeysOnly {
    fn keys_only(self) -> Vec<Vec<u8>>;
}

impl<I: Iterator<Item = esker::Result<(esker::Slice, esker::Slice)>>> KeysOnly for I {
    fn keys_only(self) -> Vec<Vec<u8>> {
        self.map(|item| item.unwrap().0.to_vec()).collect()
    }
}
