//! The store that dies, by `kill -9` or with the power, and what it holds.

use esker::{Engine, KeyspaceOptions, Options};
use std::path::Path;

fn options() -> Options {
    // Small, so that it dies somewhere in flush, compaction or a change of logs too.
    Options { memtable_bytes: Some(32 << 10), wal_bytes_max: 256 << 10, ..Options::default() }
}

/// The value of write `i`, which tells it.
pub(crate) fn value(i: u64) -> Vec<u8> {
    let mut value = i.to_be_bytes().to_vec();
    value.resize(8 + (i * 37 % 300) as usize, i as u8);
    value
}

pub(crate) fn open(dir: &Path, read_only: bool) -> (Engine, esker::Keyspace) {
    let engine = Engine::builder(dir).options(options()).read_only(read_only).open().unwrap();
    let other = engine.keyspace("other", KeyspaceOptions::default()).unwrap();
    (engine, other)
}
