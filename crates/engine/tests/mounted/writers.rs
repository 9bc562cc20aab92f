//! The process that the power fails: threads that write, each its own keys and in every way, and tell of all before and after.
//!
//! With each write a thread notes how far it has seen the others to be: so what is there afterwards shows whether it is a prefix of one order.

use crate::store::{builder, opened, value};
use esker::{Durability, Engine, Event, Keyspace, LogBackend, Result, Slice, WriteBatch, WriteOptions};
use std::path::Path;

pub(crate) const CHILD: &str = "ESKER_POWER_TEST_CHILD";
pub(crate) const THREADS: usize = 3;
/// Of each thread.
pub(crate) const KEYS: u64 = 64;
/// Before what it tells: the harness writes to the same place.
pub(crate) const MARK: &str = "@ ";

/// The number of each thread's newest write; they begin at 1.
pub(crate) type Newest = [u64; THREADS];

pub(crate) fn is_synced(i: u64) -> bool {
    i.is_multiple_of(8)
}

pub(crate) fn key(thread: usize, i: u64) -> String {
    format!("{thread}/{:03}", i % KEYS)
}

pub(crate) fn newest_key(thread: usize) -> String {
    format!("newest/{thread}")
}

/// What a thread has noted with its newest write: its number, and those of the others that it had seen.
pub(crate) fn noted(bytes: Option<Slice>) -> Newest {
    let Some(bytes) = bytes else { return Newest::default() };
    std::array::from_fn(|thread| u64::from_be_bytes(bytes[thread * 8..][..8].try_into().unwrap()))
}

/// How far the threads are, as someone sees it.
fn seen(get: impl Fn(&str) -> Result<Option<Slice>>) -> Result<Newest> {
    let mut newest = Newest::default();
    for (thread, number) in newest.iter_mut().enumerate() {
        *number = noted(get(&newest_key(thread))?)[thread];
    }
    Ok(newest)
}

struct Writer<'a> {
    engine: &'a Engine,
    other: &'a Keyspace,
    thread: usize,
}

impl Writer<'_> {
    /// What write `i` puts into the engine; the first goes into the other keyspace too.
    fn puts(&self, i: u64, mut seen: Newest) -> [(String, Vec<u8>); 2] {
        seen[self.thread] = i;
        let note = seen.iter().flat_map(|number| number.to_be_bytes()).collect();
        [(key(self.thread, i), value(i)), (newest_key(self.thread), note)]
    }

    fn batch(&self, i: u64, options: &WriteOptions) -> Result<()> {
        let [put, note] = self.puts(i, seen(|key| self.engine.get(key))?);
        let mut batch = WriteBatch::new();
        batch.put(&put.0, &put.1).put_in(self.other, &put.0, &put.1).put(&note.0, &note.1);
        self.engine.write_with(&batch, options)
    }

    fn write(&self, i: u64) -> Result<()> {
        let durability = if is_synced(i) { Durability::Sync } else { Durability::Os };
        let options = WriteOptions { durability, ..WriteOptions::default() };
        match (i / 8 + self.thread as u64) % 4 {
            0 => self.batch(i, &options),
            1 => self.engine.transact_with(&options, |tx| {
                let [put, note] = self.puts(i, seen(|key| tx.get(key))?);
                tx.put(&put.0, &put.1)?;
                tx.put_in(self.other, &put.0, &put.1)?;
                tx.put(&note.0, &note.1)
            }),
            2 => {
                let mut tx = self.engine.exclusive();
                let [put, note] = self.puts(i, seen(|key| tx.get(key))?);
                tx.put(&put.0, &put.1)?;
                tx.put_in(self.other, &put.0, &put.1)?;
                tx.put(&note.0, &note.1)?;
                tx.commit_with(&options)
            }
            _ => {
                self.batch(i, &WriteOptions { durability: Durability::Os, ..options })?;
                if is_synced(i) { self.engine.sync() } else { Ok(()) }
            }
        }
    }

    /// Writes from `first` on until something fails.
    fn run(&self, first: u64) {
        let thread = self.thread;
        for i in first.. {
            println!("{MARK}begin {thread} {i}");
            if let Err(error) = self.write(i) {
                return tell_failure(&error);
            }
            println!("{MARK}end {thread} {i}");
        }
    }
}

fn tell_failure(error: &esker::Error) {
    println!("{MARK}failed {:?} {error}", error.kind());
}

/// Tells the child what to do.
pub(crate) fn spec(dir: &Path, backend: LogBackend, first: &Newest) -> String {
    let first = first.map(|first| first.to_string()).join(" ");
    format!("{} {first} {}", u8::from(backend == LogBackend::Write), dir.display())
}

/// Writes until the power fails. Ends as usual then: an engine whose disk is gone says so, and neither hangs nor panics.
pub(crate) fn child(spec: &str) {
    let mut words = spec.splitn(2 + THREADS, ' ');
    let backend = if words.next() == Some("1") { LogBackend::Write } else { LogBackend::Mapped };
    let first: Newest = std::array::from_fn(|_| words.next().unwrap().parse().unwrap());
    let dir = Path::new(words.next().unwrap());
    let listener = |event: &Event| {
        if let Event::BackgroundError(error) | Event::WritingStopped(error) | Event::Quarantined { error, .. } = event {
            tell_failure(error);
        }
    };
    let (engine, other) = match opened(builder(dir, backend).listener(listener)) {
        Ok(opened) => opened,
        Err(error) => return tell_failure(&error),
    };
    std::thread::scope(|scope| {
        for (thread, first) in first.into_iter().enumerate() {
            let (engine, other) = (&engine, &other);
            scope.spawn(move || Writer { engine, other, thread }.run(first));
        }
    });
}
