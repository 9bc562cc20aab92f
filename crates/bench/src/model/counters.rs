//! Counters: entry `i` is loaded with the number `i`, so whatever was added since is the difference, and its sum is known.
//!
//! ```text
//! mergerandom, readmerged, transact     [8 bytes: the number]
//! compareandswap                        [8 bytes: the number][as of other workloads, to the size of a value]
//! ```

use crate::args::Settings;
use crate::data::{self, Key, Order, Random};
use crate::meter::Meter;
use crate::store::{Entry, Store};
use crate::work::{LOAD_ORDER, WRITE_ORDER, each, lost};
use crate::workload::{LOAD_BATCH_ENTRIES, OPERANDS, TRANSACTION_KEYS, Workload};
use crate::{Error, Result};
use std::ops::Range;

/// Size of a counter, where that is all there is.
const COUNTER_BYTES: usize = 8;

const ONE: [u8; COUNTER_BYTES] = 1_i64.to_le_bytes();

/// Size of the values of a workload.
pub fn value_bytes(workload: Workload, settings: &Settings) -> usize {
    if workload.counts() && workload != Workload::CompareAndSwap { COUNTER_BYTES } else { settings.value_bytes }
}

/// Makes the value of entry `index` say `number`.
fn fill(index: u64, number: u64, value: &mut [u8]) {
    data::fill_value(index, value);
    value[..COUNTER_BYTES].copy_from_slice(&number.to_le_bytes());
}

pub(super) fn load(store: &impl Store, workload: Workload, settings: &Settings) -> Result<()> {
    let num = settings.num;
    let order = Order::new(num, LOAD_ORDER);
    let mut value = vec![0; value_bytes(workload, settings)];
    let mut batch = Vec::new();
    for place in 0..num {
        let index = order.at(place);
        fill(index, index, &mut value);
        batch.push(Entry { key: data::key(index), value: value.clone() });
        if batch.len() as u64 == LOAD_BATCH_ENTRIES || place + 1 == num {
            store.put_batch(&batch)?;
            batch.clear();
        }
    }
    if workload == Workload::ReadMerged {
        for round in 0..OPERANDS {
            // Operands are never combined across a snapshot: so all of them are there, wherever compaction brings them.
            store.hold_snapshot()?;
            if settings.flush_after_load {
                store.flush()?;
            }
            let order = Order::new(num, WRITE_ORDER + round);
            (0..num).try_for_each(|place| store.merge(&data::key(order.at(place)), ONE))?;
        }
    }
    Ok(())
}

/// Whether each counter has what was put and all operands.
///
/// # Errors
/// It has not.
pub(super) fn check(settings: &Settings, entries: u64) -> Result<()> {
    let expected = (1 + OPERANDS) * settings.num;
    if entries == expected { Ok(()) } else { Err(format!("{entries} values and operands, expected {expected}").into()) }
}

pub(super) fn merge(store: &impl Store, random: &mut Random, places: Range<u64>, meter: &mut Meter) -> Result<()> {
    each(places, meter, |_, meter| {
        let key = data::key(random.draw());
        meter.call(1, || store.merge(&key, ONE))
    })
}

pub(super) fn read(store: &impl Store, random: &mut Random, places: Range<u64>, meter: &mut Meter) -> Result<()> {
    each(places, meter, |_, meter| {
        let index = random.draw();
        let key = data::key(index);
        let number = meter.call(1, || store.get(&key, added))?.unwrap_or_else(|| Err(lost(index)))?;
        if number == index + OPERANDS {
            Ok(())
        } else {
            Err(format!("entry {index} reads as {number}, and was counted {OPERANDS} times").into())
        }
    })
}

/// How many transactions were run again.
pub(super) fn transact(store: &impl Store, random: &mut Random, places: Range<u64>, meter: &mut Meter) -> Result<u64> {
    let mut conflicts = 0;
    each(places, meter, |_, meter| {
        let keys: [Key; TRANSACTION_KEYS as usize] = std::array::from_fn(|_| data::key(random.draw()));
        let mut count = |value: Option<&[u8]>| {
            let number = added(value.ok_or("a counter is not there")?)?;
            Ok((number + 1).to_le_bytes())
        };
        conflicts += meter.call(1, || store.transact(&keys, &mut count))?;
        Ok(())
    })?;
    Ok(conflicts)
}

/// Gets and swaps for one more, again if another comes between; how often that was.
pub(super) fn swap(
    store: &impl Store,
    settings: &Settings,
    random: &mut Random,
    places: Range<u64>,
    meter: &mut Meter,
) -> Result<u64> {
    let mut expected = vec![0; settings.value_bytes];
    let mut new = expected.clone();
    let mut conflicts = 0;
    each(places, meter, |_, meter| {
        let index = random.draw();
        let key = data::key(index);
        fill(index, 0, &mut expected);
        new.copy_from_slice(&expected);
        meter.call(1, || {
            loop {
                let found = store.get(&key, |value| number(value, &expected))?;
                let found = found.unwrap_or_else(|| Err(lost(index)))?;
                expected[..COUNTER_BYTES].copy_from_slice(&found.to_le_bytes());
                new[..COUNTER_BYTES].copy_from_slice(&(found + 1).to_le_bytes());
                if store.compare_and_swap(&key, &expected, &new)? {
                    return Ok(());
                }
                conflicts += 1;
            }
        })
    })?;
    Ok(conflicts)
}

fn added(value: &[u8]) -> Result<u64> {
    number(value, &ONE)
}

/// What a value says, which else is as `like`.
fn number(value: &[u8], like: &[u8]) -> Result<u64> {
    match value.split_first_chunk() {
        Some((bytes, rest)) if *rest == like[COUNTER_BYTES..] => Ok(u64::from_le_bytes(*bytes)),
        _ => Err(format!("a counter reads wrong: {} bytes", value.len()).into()),
    }
}

/// Reads all counters back, and says how many there are.
///
/// # Errors
/// Less or more was added to them than `operations` did.
pub(super) fn verify(store: &impl Store, workload: Workload, settings: &Settings, operations: u64) -> Result<u64> {
    let (mut found, mut sum) = (0, 0);
    let mut like = vec![0; value_bytes(workload, settings)];
    store.scan(|key, value| {
        let index = data::index(key).ok_or_else(|| format!("no such key was written: {}", key.escape_ascii()))?;
        if index != found {
            return Err(format!("entry {index} comes where {found} should").into());
        }
        fill(index, 0, &mut like);
        sum += number(value, &like)?
            .checked_sub(index)
            .ok_or_else(|| format!("entry {index} lost what it was loaded with"))?;
        found += 1;
        Ok(())
    })?;
    let expected = match workload {
        Workload::MergeRandom | Workload::CompareAndSwap => operations,
        Workload::ReadMerged => OPERANDS * settings.num,
        Workload::Transact => TRANSACTION_KEYS * operations,
        other => return Err(Error::from(format!("{other} has no counters"))),
    };
    if sum == expected { Ok(found) } else { Err(format!("{sum} were counted, expected {expected}").into()) }
}
