//! The process that is disturbed: it writes, and tells of everything before and after.

use crate::store::{opened, options, value};
use esker::{
    Background, Durability, Engine, Event, Keyspace, LeveledOptions, LogBackend, Options, WriteBatch, WriteOptions,
};
use esker_testkit::random::Random;
use std::path::Path;

pub(crate) const CHILD: &str = "ESKER_STRACE_TEST_CHILD";
/// Before what it tells: the harness writes to the same place.
pub(crate) const MARK: &str = "@ ";

/// What it does.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Script {
    seed: u64,
    backend: LogBackend,
    pub(crate) writes: u64,
}

impl Script {
    /// By turns with either kind of log.
    pub(crate) fn new(seed: u64) -> Self {
        let backend = [LogBackend::Mapped, LogBackend::Write][seed as usize % 2];
        Self { seed, backend, writes: 40 }
    }

    pub(crate) fn spec(&self, dir: &Path) -> String {
        format!("{} {}", self.seed, dir.display())
    }
}

pub(crate) fn level(i: u64) -> Durability {
    match i % 8 {
        0 => Durability::Sync,
        1 => Durability::Memory,
        _ => Durability::Os,
    }
}

/// Says what came of a call.
fn tell<T>(what: &str, result: esker::Result<T>) -> Option<T> {
    match result {
        Ok(value) => {
            println!("{MARK}did {what}");
            Some(value)
        }
        Err(error) => {
            println!("{MARK}failed {what}: {:?} {error}", error.kind());
            None
        }
    }
}

fn write(engine: &Engine, other: &Keyspace, i: u64) -> bool {
    let mut batch = WriteBatch::new();
    batch.put(i.to_be_bytes(), value(i)).put_in(other, i.to_be_bytes(), value(i));
    println!("{MARK}begin {i}");
    let options = WriteOptions { durability: level(i), ..WriteOptions::default() };
    tell(&format!("write {i}"), engine.write_with(&batch, &options)).is_some()
}

/// Runs the script that `spec` names, all in this thread, whatever fails.
pub(crate) fn child(spec: &str) {
    let (seed, dir) = spec.split_once(' ').expect("a seed and a directory");
    let script = Script::new(seed.parse().expect("a number"));
    let mut random = Random::new(script.seed);
    let compaction = LeveledOptions { l0_trigger: 2, table_bytes: 4 << 10, ..LeveledOptions::default() };
    let options = Options {
        log_backend: script.backend,
        memtable_bytes: Some(8 << 10),
        blob_bytes_min: 256,
        compaction,
        ..options()
    };
    let open = || {
        let builder = Engine::builder(dir).options(options.clone()).background(Background::Manual);
        let told = |event: &Event| {
            if let Event::BackgroundError(error) | Event::WritingStopped(error) | Event::Quarantined { error, .. } =
                event
            {
                println!("{MARK}event {error}");
            }
        };
        tell("open", opened(builder.listener(told)))
    };
    let Some(mut store) = open() else { return };
    for i in 0..script.writes {
        let (engine, other) = &store;
        if !write(engine, other, i) && random.one_in(2) {
            tell("resume", engine.resume());
        }
        match random.below(20) {
            0 => drop(tell("flush", engine.flush())),
            1 => drop(tell("compact", engine.compact_range(..))),
            2 => drop(tell("sync", engine.sync())),
            3 => drop(tell("verify", engine.verify())),
            4 => {
                tell("close", engine.close());
                drop(store);
                match open() {
                    Some(opened) => store = opened,
                    None => return,
                }
            }
            5..12 => drop(tell("step", engine.step())),
            _ => {}
        }
    }
    tell("close", store.0.close());
}
