//! The rows of the data model: what a store must have loaded, what is done while the clock runs, what must be there afterwards.
//!
//! | rows | values | checked by |
//! |---|---|---|
//! | counters (`mergerandom`, `readmerged`, `transact`) | 8 bytes, loaded with the entry's number | the sum of what was added |
//! | `compareandswap` | as of other workloads, but that the first 8 bytes count | the sum, and the rest of each |
//! | ranges that hold nothing (`seekover` and its like) | as of other workloads | each entry that is read |
//! | all others | as of other workloads | each value, and how many are left |
//!
//! A row that names what is there, and is not seen, has it [checked](check_layers) before and after: operands, what has expired, what was deleted.

mod counters;
mod hole;

use crate::args::Settings;
use crate::data::{self, Checker, Key, Order, Random};
use crate::meter::{Meter, Pace, measure};
use crate::store::{Layers, Store};
use crate::work::{self, LOAD_ORDER, WRITE_ORDER, each, expect_count, lost};
use crate::workload::{EXPIRED_EVERY, GET_KEYS, RANGE_KEYS, TABLE_ENTRIES, Workload};
use crate::{Error, Result};
pub use counters::value_bytes;
use std::ops::Range;
use std::time::{Duration, Instant};

/// Longer than any measurement.
const DAY: Duration = Duration::from_secs(86_400);
/// A snapshot that is to see what expires is taken this much before it does: clocks are read in several places.
const MARGIN: Duration = Duration::from_millis(50);
/// Of how many entries it is looked up when they expire.
const SAMPLES: u64 = 1000;

/// Loads what a workload finds there.
///
/// # Errors
/// The store's.
pub fn load(store: &impl Store, workload: Workload, settings: &Settings) -> Result<()> {
    match workload {
        workload if workload.counts() => counters::load(store, workload, settings),
        workload if workload.is_over_a_hole() => hole::load(store, settings),
        Workload::ReadExpired => {
            work::load(store, workload, settings)?;
            expire_some(store, settings)
        }
        Workload::Follow => {
            store.keep_changes()?;
            work::load(store, workload, settings)
        }
        workload => work::load(store, workload, settings),
    }
}

/// Makes what lies outside the store; nothing for most.
///
/// # Errors
/// The store's.
pub fn prepare(store: &impl Store, workload: Workload, settings: &Settings) -> Result<()> {
    if workload == Workload::Ingest {
        for table in 0..tables(settings.num) {
            store.build_table(table, &mut work::filler(entries_of(table, settings.num), settings))?;
        }
    }
    Ok(())
}

fn tables(num: u64) -> u64 {
    num.div_ceil(TABLE_ENTRIES)
}

fn entries_of(table: u64, num: u64) -> Range<u64> {
    table * TABLE_ENTRIES..((table + 1) * TABLE_ENTRIES).min(num)
}

/// Keys that are there when a workload has done `operations`.
pub fn keys_left(workload: Workload, num: u64, operations: u64) -> u64 {
    match workload {
        Workload::FillExpiring | Workload::Ingest => operations,
        Workload::DeleteRanges => num.saturating_sub(operations * RANGE_KEYS),
        Workload::ReadExpired => num - num.div_ceil(EXPIRED_EVERY),
        workload if workload.is_over_a_hole() => hole::ENTRIES_AROUND,
        _ => num,
    }
}

/// Whether an entry of `readexpired` has expired.
fn expires(index: u64) -> bool {
    index.is_multiple_of(EXPIRED_EVERY)
}

/// Puts every third entry anew, to expire when all of them are written, and waits for it. A snapshot that still sees them keeps them from being compacted away.
fn expire_some(store: &impl Store, settings: &Settings) -> Result<()> {
    // All that lies in memory then expires.
    store.flush()?;
    let mut time = Duration::from_secs(1) + Duration::from_micros(3 * settings.num);
    let deadline = loop {
        let deadline = Instant::now() + time;
        if put_until(store, settings, deadline)? {
            break deadline;
        }
        // The machine is slower than that.
        time *= 2;
    };
    store.hold_snapshot()?;
    if deadline < Instant::now() {
        return Err("values expired before a snapshot was taken of them".into());
    }
    if settings.flush_after_load {
        store.flush()?;
    }
    std::thread::sleep(deadline.saturating_duration_since(Instant::now()) + Duration::from_millis(10));
    Ok(())
}

/// Puts every third entry, to expire at `deadline`; whether all of them were there well before it.
fn put_until(store: &impl Store, settings: &Settings, deadline: Instant) -> Result<bool> {
    let order = Order::new(settings.num, WRITE_ORDER);
    let mut value = vec![0; settings.value_bytes];
    for index in (0..settings.num).map(|place| order.at(place)).filter(|&index| expires(index)) {
        data::fill_value(index, &mut value);
        let ttl = deadline.saturating_duration_since(Instant::now());
        if ttl < MARGIN {
            return Ok(false);
        }
        store.put_expiring(&data::key(index), &value, ttl)?;
    }
    Ok(Instant::now() + MARGIN < deadline)
}

/// Whether what a row is about to read, or has read, is there: of a store that tells what lies where, at rest.
///
/// # Errors
/// It is not.
pub fn check_layers(store: &impl Store, workload: Workload, settings: &Settings) -> Result<()> {
    let Some(layers) = store.layers() else { return Ok(()) };
    let tables = Layers::sum(&layers.levels);
    match workload {
        workload if workload.is_over_a_hole() => hole::check(settings, &layers),
        Workload::ReadMerged => counters::check(settings, layers.memory.entries + tables.entries),
        Workload::ReadExpired => {
            // In memory there is nothing else.
            let found = layers.memory.entries + tables.expiring;
            let expected = settings.num.div_ceil(EXPIRED_EVERY);
            let holds = found >= expected && layers.sealed_memtables == 0;
            if holds { Ok(()) } else { Err(format!("of {expected} expired entries {found} are left").into()) }
        }
        _ => Ok(()),
    }
}

/// Reads all back that a workload has left, and says how many entries there are.
///
/// # Errors
/// The store's; a value that is not what it must be, counters that were counted wrong, values that expire when they should not.
pub fn verify(store: &impl Store, workload: Workload, settings: &Settings, operations: u64) -> Result<u64> {
    if workload.counts() {
        return counters::verify(store, workload, settings, operations);
    }
    if workload == Workload::FillExpiring {
        verify_expiring(store, settings, operations)?;
    }
    work::verify(store, settings)
}

/// All of them expire, in a day.
fn verify_expiring(store: &impl Store, settings: &Settings, operations: u64) -> Result<()> {
    store.flush()?;
    if let Some(layers) = store.layers() {
        expect_count(Layers::sum(&layers.levels).expiring, operations)?;
    }
    let order = Order::new(settings.num, WRITE_ORDER);
    // Threads have begun at several places, and one may have come no further than the first.
    let first_of_threads =
        (0..settings.threads).map(|thread| work::share(settings.num, thread, settings.threads).start);
    let cut_short = operations < settings.num;
    let places: Vec<u64> = match cut_short {
        true => first_of_threads.filter(|place| *place < settings.num).collect(),
        false => (0..settings.num).step_by(settings.num.div_ceil(SAMPLES) as usize).collect(),
    };
    for index in places.into_iter().map(|place| order.at(place)) {
        let left = store.time_to_live(&data::key(index))?;
        if left.is_none_or(|left| left > DAY || left < DAY / 2) {
            return Err(format!("entry {index} has still to live: {left:?}").into());
        }
    }
    Ok(())
}

/// The share of one thread; how often it ran something again because another write came between.
///
/// # Errors
/// The store's; a value or a count that is not what it must be.
///
/// # Panics
/// If the workload is not of those here.
pub fn run(
    store: &impl Store,
    workload: Workload,
    settings: &Settings,
    thread: usize,
    places: Range<u64>,
    meter: &mut Meter,
) -> Result<u64> {
    let Settings { num, value_bytes, threads, .. } = *settings;
    let order = Order::new(num, WRITE_ORDER);
    let mut random = Random::new(num, thread as u64);
    let checker = Checker::new(value_bytes);
    let mut value = vec![0; value_bytes];
    match workload {
        Workload::MergeRandom => counters::merge(store, &mut random, places, meter)?,
        Workload::ReadMerged => counters::read(store, &mut random, places, meter)?,
        Workload::Transact => return counters::transact(store, &mut random, places, meter),
        Workload::CompareAndSwap => return counters::swap(store, settings, &mut random, places, meter),
        Workload::FillExpiring => each(places, meter, |place, meter| {
            let index = order.at(place);
            let key = data::key(index);
            data::fill_value(index, &mut value);
            meter.call(1, || store.put_expiring(&key, &value, DAY))
        })?,
        Workload::ReadExpired => each(places, meter, |_, meter| {
            let index = random.draw();
            let key = data::key(index);
            match (meter.call(1, || store.get(&key, |value| checker.check(index, value)))?, expires(index)) {
                (Some(checked), false) => checked,
                (None, true) => Ok(()),
                (None, false) => Err(lost(index)),
                (Some(_), true) => Err(format!("entry {index} is there, and has expired").into()),
            }
        })?,
        Workload::DeleteRanges => {
            let order = Order::new(workload.operations(num, threads), WRITE_ORDER);
            each(places, meter, |place, meter| {
                let first = order.at(place) * RANGE_KEYS;
                let (begin, end) = (data::key(first), data::key(first + RANGE_KEYS));
                meter.call(1, || store.delete_range(&begin, &end))
            })?
        }
        Workload::MultiGet => multi_get(store, &mut random, &checker, places, meter)?,
        Workload::Ingest => each(work::share(tables(num), thread, threads), meter, |table, meter| {
            let entries = entries_of(table, num);
            meter.call(entries.end - entries.start, || store.ingest_table(table))
        })?,
        Workload::Follow => follow(store, &checker, num, meter)?,
        workload if workload.is_over_a_hole() => hole::read(store, workload, settings, &mut random, places, meter)?,
        other => unreachable!("{other} is done elsewhere"),
    }
    Ok(0)
}

fn multi_get(
    store: &impl Store,
    random: &mut Random,
    checker: &Checker,
    places: Range<u64>,
    meter: &mut Meter,
) -> Result<()> {
    let (mut indexes, mut keys): (Vec<u64>, Vec<Key>) = Default::default();
    let mut left = places.end - places.start;
    while left > 0 && !meter.is_over() {
        let count = left.min(GET_KEYS);
        indexes.clear();
        indexes.extend((0..count).map(|_| random.draw()));
        keys.clear();
        keys.extend(indexes.iter().map(|&index| data::key(index)));
        let mut shown = 0;
        meter.call(count, || {
            store.multi_get(&keys, |nth, value| {
                if nth as u64 != shown {
                    return Err(format!("value {nth} is shown as number {shown}").into());
                }
                shown += 1;
                let index = indexes[nth];
                value.map_or_else(|| Err(lost(index)), |value| checker.check(index, value))
            })
        })?;
        expect_count(shown, count)?;
        left -= count;
    }
    Ok(())
}

/// All that the load wrote, in the order in which it did.
fn follow(store: &impl Store, checker: &Checker, num: u64, meter: &mut Meter) -> Result<()> {
    let order = Order::new(num, LOAD_ORDER);
    let mut told = 0;
    store.follow(|key, value| {
        if told == num {
            return Err(Error::from("more is told than was written"));
        }
        checker.check_in_passing(order.at(told), key, value)?;
        told += 1;
        Ok(())
    })?;
    meter.count(told);
    expect_count(told, num)
}

/// Loads by `put` in batches, not measured.
fn unmeasured(work: impl Fn(&mut Meter) -> Result<()> + Sync) -> Result<()> {
    let pace = Pace { threads: 1, timed_every: 1, time_max: Duration::MAX / 4 };
    measure(&pace, |_, meter| work(meter))?;
    Ok(())
}
