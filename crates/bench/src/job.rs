//! One measurement, in a process of its own: load and settle, measure, settle and verify.

use crate::args::{Settings, StoreName};
use crate::data::{self, Checker, Order, Random};
use crate::meter::{Latency, Measured, Meter, Progress, measure};
use crate::process;
use crate::store::{self, Entry, Store};
use crate::workload::{BATCH_ENTRIES, SEEK_ENTRIES, Workload};
use crate::{Error, Result};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// Entries of a batch while loading.
const LOAD_BATCH_ENTRIES: u64 = 1000;
/// Orders in which keys are loaded, and written by a workload.
const LOAD_ORDER: u64 = 1;
const WRITE_ORDER: u64 = 2;

/// What a child process is told.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Job {
    /// What to measure.
    pub workload: Workload,
    /// On which store.
    pub store: StoreName,
    /// Which time this is, from 0.
    pub repetition: u32,
    /// How.
    pub settings: Settings,
    /// An empty directory.
    pub dir: PathBuf,
}

/// What a child process found.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// What was measured.
    pub workload: Workload,
    /// On which store.
    pub store: StoreName,
    /// Which time this was, from 0.
    pub repetition: u32,
    /// Operations: entries for fills and walks, calls otherwise.
    pub operations: u64,
    /// How long they took together.
    pub seconds: f64,
    /// One by the other.
    pub ops_per_second: f64,
    /// Absent for walks.
    pub latency: Option<Latency>,
    /// Keys and values that the workload wrote, in bytes.
    pub user_bytes: u64,
    /// Bytes written from its start until background work had settled: the larger of what the store and what the system counted.
    pub written_bytes: Option<u64>,
    /// Written bytes by user bytes; absent for workloads that only read.
    pub write_amplification: Option<f64>,
    /// Keys and values there at the end, in bytes.
    pub live_bytes: u64,
    /// Space that the directory took when background work had settled.
    pub disk_bytes: u64,
    /// One by the other; absent if nothing is left.
    pub space_amplification: Option<f64>,
    /// Peak of the resident memory during the measurement, mapped files included.
    pub peak_memory_bytes: Option<u64>,
    /// Resident memory without files at its end.
    pub heap_bytes: Option<u64>,
    /// Processor time of all threads during the measurement.
    pub cpu_seconds: Option<f64>,
    /// How long background work went on after it.
    pub settle_seconds: f64,
}

/// Runs a job given as JSON, and prints the sample as one line of JSON.
///
/// # Errors
/// The store's; a value or a count that is not what it must be.
pub fn run_child(job: &str) -> Result<()> {
    let sample = run(&serde_json::from_str(job)?)?;
    println!("{}", serde_json::to_string(&sample)?);
    Ok(())
}

/// Runs a job in this process.
///
/// # Errors
/// As [`run_child`].
pub fn run(job: &Job) -> Result<Sample> {
    match job.store {
        StoreName::Esker => run_on::<store::Esker>(job),
        #[cfg(feature = "rivals")]
        StoreName::Fjall => run_on::<store::Fjall>(job),
        #[cfg(not(feature = "rivals"))]
        StoreName::Fjall => Err(NOT_BUILT_IN.into()),
    }
}

/// What to do about a store that is not there.
#[cfg(not(feature = "rivals"))]
const NOT_BUILT_IN: &str = "fjall is not built in; use `cargo xtask bench --fjall ..`, or the feature `rivals`";

/// Says no before anything is measured.
///
/// # Errors
/// The store is not built in.
pub fn check_built_in(store: StoreName) -> Result<()> {
    match store {
        #[cfg(not(feature = "rivals"))]
        StoreName::Fjall => Err(NOT_BUILT_IN.into()),
        _ => Ok(()),
    }
}

fn run_on<S: Store>(job: &Job) -> Result<Sample> {
    let Job { workload, settings, .. } = job;
    let store = S::open(&job.dir, settings)?;
    if workload.needs_load() {
        let label = format!("{workload} on {}: loading", job.store);
        Progress::shown(&label, settings.num, |progress| load(&store, settings, progress))?;
        if settings.flush_after_load {
            store.flush()?;
        }
        store::settle(&store)?;
    }
    process::reset_peak_memory();
    let before = Usage::now(&store);
    let label = format!("{workload} on {}", job.store);
    let total = workload.operations(settings.num, settings.threads);
    let measured = Progress::shown(&label, total, |progress| measured(&store, *workload, settings, progress))?;
    let (peak_memory_bytes, heap_bytes) = (process::peak_memory_bytes(), process::heap_bytes());
    let cpu_seconds = process::cpu_seconds().zip(before.cpu_seconds).map(|(now, before)| now - before);

    let settling = Instant::now();
    store::settle(&store)?;
    let settle_seconds = settling.elapsed().as_secs_f64();
    let written_bytes = Usage::now(&store).written_since(&before);
    let disk_bytes = process::disk_bytes(&job.dir)?;
    verify(&store, settings, workload.keys_after(settings.num))?;
    store.close()?;

    let entry_bytes = (data::KEY_BYTES + settings.value_bytes) as u64;
    let user_bytes = match workload {
        Workload::DeleteRandom => measured.operations * data::KEY_BYTES as u64,
        workload if workload.writes() => measured.operations * entry_bytes,
        _ => 0,
    };
    let live_bytes = workload.keys_after(settings.num) * entry_bytes;
    let over = |bytes: u64, user: u64| (user > 0).then(|| bytes as f64 / user as f64);
    Ok(Sample {
        workload: *workload,
        store: job.store,
        repetition: job.repetition,
        operations: measured.operations,
        seconds: measured.time.as_secs_f64(),
        ops_per_second: measured.operations as f64 / measured.time.as_secs_f64().max(1e-9),
        latency: measured.latency,
        user_bytes,
        written_bytes,
        write_amplification: written_bytes.and_then(|written| over(written, user_bytes)),
        live_bytes,
        disk_bytes,
        space_amplification: over(disk_bytes, live_bytes),
        peak_memory_bytes,
        heap_bytes,
        cpu_seconds,
        settle_seconds,
    })
}

/// What had been used up at a moment.
struct Usage {
    written_by_store: Option<u64>,
    written_by_process: Option<u64>,
    cpu_seconds: Option<f64>,
}

impl Usage {
    fn now(store: &impl Store) -> Self {
        Self {
            written_by_store: store.written_bytes(),
            written_by_process: process::written_bytes(),
            cpu_seconds: process::cpu_seconds(),
        }
    }

    /// The store may leave something out (its manifest), and so may the system (what goes into mapped files): the larger count is the nearer.
    fn written_since(&self, before: &Self) -> Option<u64> {
        let since = |now: Option<u64>, before: Option<u64>| now.zip(before).map(|(now, before)| now - before);
        let by_store = since(self.written_by_store, before.written_by_store);
        by_store.max(since(self.written_by_process, before.written_by_process))
    }
}

/// Puts all keys, in random order, in batches.
fn load(store: &impl Store, settings: &Settings, progress: &Progress) -> Result<Measured> {
    let order = Order::new(settings.num, LOAD_ORDER);
    measure(1, progress, |_, meter| put_batches(store, settings, order, 0..settings.num, LOAD_BATCH_ENTRIES, meter))
}

fn put_batches(
    store: &impl Store,
    settings: &Settings,
    order: Order,
    places: Range<u64>,
    batch_entries: u64,
    meter: &mut Meter<'_>,
) -> Result<()> {
    let empty = Entry { key: data::key(0), value: vec![0; settings.value_bytes] };
    let mut entries = vec![empty; batch_entries as usize];
    let mut place = places.start;
    while place < places.end {
        let count = batch_entries.min(places.end - place);
        let batch = &mut entries[..count as usize];
        for (entry, place) in batch.iter_mut().zip(place..) {
            let index = order.at(place);
            entry.key = data::key(index);
            data::fill_value(index, &mut entry.value);
        }
        store.put_batch(batch)?;
        meter.lap(count);
        place += count;
    }
    Ok(())
}

/// The part of `0..total` that a thread does.
fn share(total: u64, thread: usize, threads: usize) -> Range<u64> {
    let bound = |thread: usize| (u128::from(total) * thread as u128 / threads as u128) as u64;
    bound(thread)..bound(thread + 1)
}

fn measured(store: &impl Store, workload: Workload, settings: &Settings, progress: &Progress) -> Result<Measured> {
    let Settings { num, threads, value_bytes, .. } = *settings;
    let order = Order::new(num, WRITE_ORDER);
    let total = workload.operations(num, threads);
    let reader = |thread, meter: &mut Meter<'_>| {
        let operations = share(num, thread, threads);
        let mut random = Random::new(num, thread as u64);
        let mut checker = Checker::new(value_bytes);
        for _ in operations {
            let index = random.draw();
            let found = store.get(&data::key(index), |value| checker.check(index, value))?;
            found.unwrap_or_else(|| Err(lost(index)))?;
            meter.lap(1);
        }
        Ok(())
    };
    match workload {
        Workload::ReadWhileWriting => {
            let writer = Writer { store, settings, stop: AtomicBool::new(false) };
            return writer.beside(|| measure(threads, progress, reader));
        }
        Workload::ReadRandom => return measure(threads, progress, reader),
        _ => {}
    }
    measure(threads, progress, |thread, meter| {
        let places = share(total, thread, threads);
        let mut value = vec![0; value_bytes];
        let mut put = |index: u64, sync: bool| {
            data::fill_value(index, &mut value);
            let key = data::key(index);
            if sync { store.put_sync(&key, &value) } else { store.put(&key, &value) }
        };
        match workload {
            Workload::FillSeq => places.into_iter().try_for_each(|i| put(i, false).map(|()| meter.lap(1))),
            Workload::FillRandom | Workload::Overwrite => {
                places.into_iter().try_for_each(|i| put(order.at(i), false).map(|()| meter.lap(1)))
            }
            Workload::FillSync => places.into_iter().try_for_each(|i| put(order.at(i), true).map(|()| meter.lap(1))),
            Workload::FillBatch => put_batches(store, settings, order, places, BATCH_ENTRIES, meter),
            Workload::DeleteRandom => {
                places.into_iter().try_for_each(|i| store.delete(&data::key(order.at(i))).map(|()| meter.lap(1)))
            }
            Workload::ReadMissing => {
                let mut random = Random::new(num, thread as u64);
                places.into_iter().try_for_each(|_| {
                    let index = random.draw();
                    if store.get(&data::missing_key(index), |_| ())?.is_some() {
                        return Err(format!("a key behind entry {index} reads as there, and was never written").into());
                    }
                    meter.lap(1);
                    Ok(())
                })
            }
            Workload::SeekRandom => {
                let mut random = Random::new(num, thread as u64);
                let checker = Checker::new(value_bytes);
                places.into_iter().try_for_each(|_| seek(store, random.draw(), num, &checker).map(|()| meter.lap(1)))
            }
            Workload::ReadSeq => walk_forward(store, settings, meter),
            Workload::ReadReverse => walk_backward(store, settings, meter),
            Workload::ReadRandom | Workload::ReadWhileWriting => unreachable!("done above"),
        }
    })
}

fn lost(index: u64) -> Error {
    format!("entry {index} is not there").into()
}

fn expect_count(found: u64, expected: u64) -> Result<()> {
    if found == expected { Ok(()) } else { Err(format!("{found} entries are there, expected {expected}").into()) }
}

fn seek(store: &impl Store, index: u64, num: u64, checker: &Checker) -> Result<()> {
    let mut next = index;
    store.scan_from(&data::key(index), SEEK_ENTRIES, |key, value| {
        checker.check_in_passing(next, key, value)?;
        next += 1;
        Ok(())
    })?;
    expect_count(next - index, SEEK_ENTRIES.min(num - index))
}

fn walk_forward(store: &impl Store, settings: &Settings, meter: &mut Meter<'_>) -> Result<()> {
    let checker = Checker::new(settings.value_bytes);
    let mut next = 0;
    store.scan(|key, value| {
        checker.check_in_passing(next, key, value)?;
        next += 1;
        meter.count(1);
        Ok(())
    })?;
    expect_count(next, settings.num)
}

fn walk_backward(store: &impl Store, settings: &Settings, meter: &mut Meter<'_>) -> Result<()> {
    let checker = Checker::new(settings.value_bytes);
    let mut left = settings.num;
    store.scan_reverse(|key, value| {
        left = left.checked_sub(1).ok_or("more entries are there than were written")?;
        checker.check_in_passing(left, key, value)?;
        meter.count(1);
        Ok(())
    })?;
    expect_count(settings.num - left, settings.num)
}

/// Overwrites at a steady rate beside what is measured.
struct Writer<'a, S> {
    store: &'a S,
    settings: &'a Settings,
    stop: AtomicBool,
}

impl<S: Store> Writer<'_, S> {
    fn beside<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        std::thread::scope(|scope| {
            let writing = scope.spawn(|| self.write());
            let result = work();
            self.stop.store(true, Ordering::Relaxed);
            writing.join().expect("the writer did not panic")?;
            result
        })
    }

    /// Writes what is due, sleeps a millisecond, and so on: a store that falls behind is not asked to catch up.
    fn write(&self) -> Result<()> {
        let mut random = Random::new(self.settings.num, u64::MAX);
        let mut value = vec![0; self.settings.value_bytes];
        let mut last = Instant::now();
        let mut due = 0.0;
        while !self.stop.load(Ordering::Relaxed) {
            let now = Instant::now();
            let rate = self.settings.write_rate as f64;
            due = (due + rate * (now - last).as_secs_f64()).min(rate / 10.0);
            last = now;
            while due >= 1.0 {
                let index = random.draw();
                data::fill_value(index, &mut value);
                self.store.put(&data::key(index), &value)?;
                due -= 1.0;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

/// Reads everything back and counts.
fn verify(store: &impl Store, settings: &Settings, expected: u64) -> Result<()> {
    let mut checker = Checker::new(settings.value_bytes);
    let (mut found, mut last) = (0, None);
    store.scan(|key, value| {
        let index = data::index(key).ok_or_else(|| format!("no such key was written: {}", key.escape_ascii()))?;
        if last >= Some(index) {
            return Err(format!("entry {index} comes behind {last:?}").into());
        }
        checker.check(index, value)?;
        (found, last) = (found + 1, Some(index));
        Ok(())
    })?;
    expect_count(found, expected)
}

/// The directory of a job must be new, since what is found there would be measured with it.
///
/// # Errors
/// It can't be made.
pub fn fresh_dir(parent: Option<&Path>) -> Result<tempfile::TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("esker-bench-");
    Ok(match parent {
        None => builder.tempdir()?,
        Some(parent) => {
            std::fs::create_dir_all(parent).map_err(|error| format!("{}: {error}", parent.display()))?;
            builder.tempdir_in(parent)?
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_all_of_it_and_nothing_twice() {
        for (total, threads) in [(10, 3), (2, 4), (1_000_000, 7)] {
            let shares: Vec<_> = (0..threads).map(|thread| share(total, thread, threads)).collect();
            assert!(shares.iter().cloned().flatten().eq(0..total));
        }
    }
}
