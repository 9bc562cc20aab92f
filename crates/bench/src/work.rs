//! What is done to a store while the clock runs: the loops of all workloads but those that open.
//!
//! Keys and values are made from numbers between the calls, which takes a few nanoseconds: `cargo bench -p esker-bench --bench harness` shows how many.

use crate::args::Settings;
use crate::data::{self, Checker, Order, Random};
use crate::meter::{Measured, Meter, Pace, SHORT_CALLS, measure};
use crate::store::{Entry, Store};
use crate::workload::{BATCH_ENTRIES, LOAD_BATCH_ENTRIES, SUSTAINED_ROUNDS, Workload};
use crate::ycsb::{Mix, Zipf, universe};
use crate::{Error, Result, model};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Orders in which keys are loaded, and written by a workload.
pub(crate) const LOAD_ORDER: u64 = 1;
pub(crate) const WRITE_ORDER: u64 = 2;
/// The first of the orders of `sustained`; the number of the round is added.
const SUSTAINED_ORDER: u64 = 16;

/// What a workload did, and what is there since.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Done {
    /// Clocks and counts.
    pub measured: Measured,
    /// Keys that are in the store now.
    pub keys: u64,
    /// How often something was run again because another write came between; `None` of what is never.
    pub conflicts: Option<u64>,
}

/// Puts all keys that `workload` finds there, in random order, in batches.
///
/// # Errors
/// The store's.
pub fn load(store: &impl Store, workload: Workload, settings: &Settings) -> Result<()> {
    let order = Order::new(universe(workload, settings.num), LOAD_ORDER);
    let pace = Pace { threads: 1, timed_every: 1, time_max: Duration::MAX / 4 };
    measure(&pace, |_, meter| {
        put_batches(store, settings, |place| order.at(place), 0..settings.num, LOAD_BATCH_ENTRIES, meter)
    })?;
    Ok(())
}

/// Runs `workload`.
///
/// # Errors
/// The store's; a value or a count that is not what it must be.
///
/// # Panics
/// If the workload is one that opens.
pub fn run(store: &impl Store, workload: Workload, settings: &Settings) -> Result<Done> {
    let Settings { num, threads, .. } = *settings;
    let pace = Pace {
        threads,
        timed_every: if workload.times_each_call() { 1 } else { SHORT_CALLS },
        time_max: settings.seconds.map_or(Duration::from_secs(1 << 30), |seconds| {
            // Ten times the work may take ten times as long.
            Duration::from_secs(seconds.saturating_mul(if workload == Workload::Sustained {
                SUSTAINED_ROUNDS
            } else {
                1
            }))
        }),
    };
    let total = workload.operations(num, threads);
    let (inserted, conflicts) = (AtomicU64::new(0), AtomicU64::new(0));
    let zipf = is_ycsb(workload).then(|| Zipf::new(num));
    let work = |thread: usize, meter: &mut Meter| {
        let places = share(total, thread, threads);
        match &zipf {
            Some(zipf) => {
                let order = Order::new(universe(workload, num), LOAD_ORDER);
                let mix = Mix { store, workload, settings, order, zipf };
                // Relaxed: read when the threads have been joined.
                inserted.fetch_add(mix.run(thread, places.end - places.start, meter)?, Ordering::Relaxed);
                Ok(())
            }
            None if workload.is_of_model() => {
                conflicts.fetch_add(model::run(store, workload, settings, thread, places, meter)?, Ordering::Relaxed);
                Ok(())
            }
            None => one_thread(store, workload, settings, thread, places, meter),
        }
    };
    let measured = if workload == Workload::ReadWhileWriting {
        Writer { store, settings, stop: AtomicBool::new(false) }.beside(|| measure(&pace, work))?
    } else {
        measure(&pace, work)?
    };
    let keys = match workload {
        Workload::DeleteRandom => num - measured.operations,
        workload if workload.is_of_model() => model::keys_left(workload, num, measured.operations),
        workload if !workload.needs_load() => measured.operations,
        _ => num + inserted.into_inner(),
    };
    let conflicts = workload.conflicts().then(|| conflicts.into_inner());
    Ok(Done { measured, keys, conflicts })
}

fn is_ycsb(workload: Workload) -> bool {
    use Workload::{YcsbA, YcsbB, YcsbC, YcsbD, YcsbE, YcsbF};
    matches!(workload, YcsbA | YcsbB | YcsbC | YcsbD | YcsbE | YcsbF)
}

/// The share of one thread.
fn one_thread(
    store: &impl Store,
    workload: Workload,
    settings: &Settings,
    thread: usize,
    places: Range<u64>,
    meter: &mut Meter,
) -> Result<()> {
    let Settings { num, value_bytes, .. } = *settings;
    let order = Order::new(num, WRITE_ORDER);
    let mut random = Random::new(num, thread as u64);
    let checker = Checker::new(value_bytes);
    let mut value = vec![0; value_bytes];
    let mut put = |index: u64, meter: &mut Meter| {
        data::fill_value(index, &mut value);
        let key = data::key(index);
        meter.call(1, || store.put(&key, &value))
    };
    match workload {
        Workload::FillSeq => each(places, meter, put),
        Workload::FillRandom | Workload::Overwrite | Workload::FillSync => {
            each(places, meter, |place, meter| put(order.at(place), meter))
        }
        Workload::Sustained => (0..SUSTAINED_ROUNDS).try_for_each(|round| {
            let order = Order::new(num, SUSTAINED_ORDER + round);
            let first = round * num;
            let part = places.start.max(first)..places.end.min(first + num);
            each(part, meter, |place, meter| put(order.at(place - first), meter))
        }),
        Workload::FillBatch => put_batches(store, settings, |place| order.at(place), places, BATCH_ENTRIES, meter),
        Workload::Load => put_batches(store, settings, |place| order.at(place), places, LOAD_BATCH_ENTRIES, meter),
        Workload::BulkLoad => bulk_load(store, settings, places, meter),
        Workload::DeleteRandom => each(places, meter, |place, meter| {
            let key = data::key(order.at(place));
            meter.call(1, || store.delete(&key))
        }),
        Workload::ReadRandom | Workload::ReadWhileWriting => each(places, meter, |_, meter| {
            let index = random.draw();
            let key = data::key(index);
            let found = meter.call(1, || store.get(&key, |value| checker.check(index, value)))?;
            found.unwrap_or_else(|| Err(lost(index)))
        }),
        Workload::ReadMissing => each(places, meter, |_, meter| {
            let index = random.draw();
            let key = data::missing_key(index);
            if meter.call(1, || store.get(&key, |_| ()))?.is_some() {
                return Err(format!("a key behind entry {index} reads as there, and was never written").into());
            }
            Ok(())
        }),
        Workload::SeekRandom | Workload::Seek100 => each(places, meter, |_, meter| {
            let index = random.draw();
            meter.call(1, || seek(store, index, num, workload.seek_entries(), &checker))
        }),
        Workload::ReadSeq => walk_forward(store, settings, meter),
        Workload::ReadReverse => walk_backward(store, settings, meter),
        other => unreachable!("{other} is done elsewhere"),
    }
}

/// Each place, until the time is up.
#[inline]
pub(crate) fn each(
    places: Range<u64>,
    meter: &mut Meter,
    mut work: impl FnMut(u64, &mut Meter) -> Result<()>,
) -> Result<()> {
    for place in places {
        if meter.is_over() {
            break;
        }
        work(place, meter)?;
    }
    Ok(())
}

/// Puts what `entry_at` says of each place, some at a time.
pub(crate) fn put_batches(
    store: &impl Store,
    settings: &Settings,
    entry_at: impl Fn(u64) -> u64,
    places: Range<u64>,
    batch_entries: u64,
    meter: &mut Meter,
) -> Result<()> {
    let empty = Entry { key: data::key(0), value: vec![0; settings.value_bytes] };
    let mut entries = vec![empty; batch_entries as usize];
    let mut place = places.start;
    while place < places.end && !meter.is_over() {
        let count = batch_entries.min(places.end - place);
        let batch = &mut entries[..count as usize];
        for (entry, place) in batch.iter_mut().zip(place..) {
            let index = entry_at(place);
            entry.key = data::key(index);
            data::fill_value(index, &mut entry.value);
        }
        meter.call(count, || store.put_batch(batch))?;
        place += count;
    }
    Ok(())
}

/// Loads the entries of all places, in one call: no time limit cuts it short.
fn bulk_load(store: &impl Store, settings: &Settings, places: Range<u64>, meter: &mut Meter) -> Result<()> {
    let count = places.end - places.start;
    meter.call(count, || store.bulk_load(&mut filler(places.clone(), settings)))
}

/// Fills in one entry after the other, until there are no more.
pub(crate) fn filler(mut left: Range<u64>, settings: &Settings) -> impl FnMut(&mut Entry) -> bool {
    let value_bytes = settings.value_bytes;
    move |entry| match left.next() {
        Some(index) => {
            entry.key = data::key(index);
            entry.value.resize(value_bytes, 0);
            data::fill_value(index, &mut entry.value);
            true
        }
        None => false,
    }
}

/// The part of `0..total` that a thread does.
pub(crate) fn share(total: u64, thread: usize, threads: usize) -> Range<u64> {
    let bound = |thread: usize| (u128::from(total) * thread as u128 / threads as u128) as u64;
    bound(thread)..bound(thread + 1)
}

pub(crate) fn lost(index: u64) -> Error {
    format!("entry {index} is not there").into()
}

pub(crate) fn expect_count(found: u64, expected: u64) -> Result<()> {
    if found == expected { Ok(()) } else { Err(format!("{found} entries are there, expected {expected}").into()) }
}

fn seek(store: &impl Store, index: u64, num: u64, entries: u64, checker: &Checker) -> Result<()> {
    let mut next = index;
    store.scan_from(&data::key(index), entries, |key, value| {
        checker.check_in_passing(next, key, value)?;
        next += 1;
        Ok(())
    })?;
    expect_count(next - index, entries.min(num - index))
}

fn walk_forward(store: &impl Store, settings: &Settings, meter: &mut Meter) -> Result<()> {
    let checker = Checker::new(settings.value_bytes);
    let mut next = 0;
    store.scan(|key, value| {
        checker.check_in_passing(next, key, value)?;
        next += 1;
        Ok(())
    })?;
    meter.count(next);
    expect_count(next, settings.num)
}

fn walk_backward(store: &impl Store, settings: &Settings, meter: &mut Meter) -> Result<()> {
    let checker = Checker::new(settings.value_bytes);
    let mut left = settings.num;
    store.scan_reverse(|key, value| {
        left = left.checked_sub(1).ok_or("more entries are there than were written")?;
        checker.check_in_passing(left, key, value)
    })?;
    meter.count(settings.num - left);
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
            // Relaxed, as its load below: nothing else is handed over by it.
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
            while due >= 1.0 && !self.stop.load(Ordering::Relaxed) {
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

/// Reads everything back, each value whole, and says how many entries there are.
///
/// # Errors
/// A key or a value that nobody wrote; keys out of order.
pub fn verify(store: &impl Store, settings: &Settings) -> Result<u64> {
    let checker = Checker::new(settings.value_bytes);
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
    Ok(found)
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
