//! A load in ascending order is written twice, to the log and to a table, and is stored in the codec of the bottom.

use esker::vfs::MemVfs;
use esker::{Background, Codec, Engine, LeveledOptions, Options};
use std::path::Path;

const TABLES: u64 = 12;
const ENTRIES: u64 = 500;

fn engine(options: Options) -> Engine {
    let builder = Engine::builder(Path::new("/db")).options(options).vfs(MemVfs::new());
    builder.background(Background::Manual).open().unwrap()
}

fn options() -> Options {
    let compaction = LeveledOptions { l0_trigger: 2, ..LeveledOptions::default() };
    Options { compaction, ..Options::default() }
}

/// Flushes a table of the numbers from `from` on, and lets compaction do all it wants to.
fn table(engine: &Engine, from: u64) {
    for i in from..from + ENTRIES {
        engine.put(format!("key{i:09}").as_bytes(), [b'v'; 100]).unwrap();
    }
    engine.flush().unwrap();
    while engine.step().unwrap() {}
}

#[test]
fn what_is_loaded_in_order_is_moved_and_compressed() {
    let engine = engine(options());
    table(&engine, 0);
    let first_bytes = engine.metrics().flush_bytes;
    for i in 1..TABLES {
        table(&engine, i * ENTRIES);
    }
    let metrics = engine.metrics();
    assert_eq!(metrics.flushes, TABLES);
    assert!(metrics.compactions >= TABLES - 2, "{} compactions", metrics.compactions);
    // The first one can't know that others will come in order, and is stored anew on its way down.
    assert_eq!(metrics.compaction_read_bytes, first_bytes);
    assert!(metrics.compaction_written_bytes < first_bytes / 2);
    assert!(metrics.flush_bytes < first_bytes * TABLES / 2, "the values are of one letter");
    for i in [0, ENTRIES, TABLES * ENTRIES - 1] {
        assert_eq!(engine.get(format!("key{i:09}").as_bytes()).unwrap().as_deref(), Some(&[b'v'; 100][..]));
    }
}

#[test]
fn what_will_be_merged_is_not_compressed_first() {
    let engine = engine(options());
    table(&engine, 0);
    let first_bytes = engine.metrics().flush_bytes;
    table(&engine, ENTRIES / 2);
    assert!(engine.metrics().flush_bytes > first_bytes * 3 / 2);
}

#[test]
fn where_one_codec_is_for_all_levels_everything_moves() {
    for codec in [Codec::None, Codec::Lz4] {
        let mut options = options();
        options.compression.fill(codec);
        let engine = engine(options);
        for i in 0..TABLES {
            table(&engine, i * ENTRIES);
        }
        assert_eq!(engine.metrics().compaction_written_bytes, 0);
        assert!(engine.metrics().compactions > 0);
    }
}
