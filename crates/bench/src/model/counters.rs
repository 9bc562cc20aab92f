//! Counters: entry `i` is loaded with the number `i`, so whatever was added since is the difference, and its sum is known.

use crate::args::Settings;
use crate::data::{self, Key, Order, Random};
use crate::meter::Meter;
use crate::store::{Entry, Store};
use crate::work::{LOAD_ORDER, WRITE_ORDER, each, lost};
use crate::workload::{LOAD_BATCH_ENTRIES, OPERANDS, TRANSACTION_KEYS, Workload};
use crate::{Error, Result};
use std::ops::Range;

/// Size of a counter.
pub const COUNTER_BYTES: usize = 8;

const ONE: [u8; 8] = 1_i64.to_le_bytes();

pub(super) fn load(store: &impl Store, workload: Workload, settings: &Settings) -> Result<()> {
    let num = settings.num;
    let order = Order::new(num, LOAD_ORDER);
    let mut batch = Vec::new();
    for place in 0..num {
        let index = order.at(place);
        batch.push(Entry { key: data::key(index), value: index.to_le_bytes().into() });
        if batch.len() as u64 == LOAD_BATCH_ENTRIES || place + 1 == num {
            store.put_batch(&batch)?;
            batch.clear();
        }
    }
    if workload == Workload::ReadMerged {
        for round in 0..OPERANDS {
            // Where loads are flushed, each operand lies in another table than the one before.
            if settings.flush_after_load {
                store.flush()?;
            }
            let order = Order::new(num, WRITE_ORDER + round);
            (0..num).try_for_each(|place| store.merge(&data::key(order.at(place)), ONE))?;
        }
    }
    Ok(())
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

fn added(value: &[u8]) -> Result<u64> {
    let bytes = value.try_into().map_err(|_| format!("a counter of {} bytes", value.len()))?;
    Ok(u64::from_le_bytes(bytes))
}

/// Reads all counters back, and says how many there are.
///
/// # Errors
/// Less or more was added to them than `operations` did.
pub fn verify(store: &impl Store, workload: Workload, settings: &Settings, operations: u64) -> Result<u64> {
    let (mut found, mut sum) = (0, 0);
    store.scan(|key, value| {
        let index = data::index(key).ok_or_else(|| format!("no such key was written: {}", key.escape_ascii()))?;
        if index != found {
            return Err(format!("entry {index} comes where {found} should").into());
        }
        sum += added(value)?.checked_sub(index).ok_or_else(|| format!("entry {index} lost what it was loaded with"))?;
        found += 1;
        Ok(())
    })?;
    let expected = match workload {
        Workload::MergeRandom => operations,
        Workload::ReadMerged => OPERANDS * settings.num,
        Workload::Transact => TRANSACTION_KEYS * operations,
        other => return Err(Error::from(format!("{other} has no counters"))),
    };
    if sum == expected { Ok(found) } else { Err(format!("{sum} were counted, expected {expected}").into()) }
}
