//! The store that dies, by `kill -9`, with the power, or of a call that fails, and what it holds.

use esker::{Builder, Engine, KeyspaceOptions, LogBackend, Options};
use std::path::Path;

pub(crate) fn options() -> Options {
    // Small, so that it dies somewhere in flush, compaction or a change of logs too.
    Options { memtable_bytes: Some(32 << 10), wal_bytes_max: 256 << 10, ..Options::default() }
}

/// The value of write `i`, which tells it.
pub(crate) fn value(i: u64) -> Vec<u8> {
    let mut value = i.to_be_bytes().to_vec();
    value.resize(8 + (i * 37 % 300) as usize, i as u8);
    value
}

pub(crate) fn builder(dir: &Path, log_backend: LogBackend) -> Builder {
    Engine::builder(dir).options(Options { log_backend, ..options() })
}

/// Opens it, and its other keyspace.
pub(crate) fn opened(builder: Builder) -> esker::Result<(Engine, esker::Keyspace)> {
    let engine = builder.open()?;
    let other = engine.keyspace("other", KeyspaceOptions::default())?;
    Ok((engine, other))
}
