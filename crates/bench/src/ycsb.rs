//! YCSB's mixes of operations, and the Zipf distribution that they draw keys by.
//!
//! Rank `r` of `n` comes up in proportion to `1 / (r + 1)^0.99`. Which key has which rank is random, but for D, where the newest key has the first. Loaded and new keys
//! lie among each other in key order, as both are places of one random [`Order`].

use crate::Result;
use crate::args::Settings;
use crate::data::{self, Checker, Order, Random};
use crate::meter::Meter;
use crate::store::Store;
use crate::workload::Workload;
use std::ops::Range;

const EXPONENT: f64 = 0.99;
/// Ranks that have a chance of their own; those behind share one with neighbours whose chances differ by less than 1 %.
const SINGLE_RANKS: u64 = 2048;
/// One more entry is inserted for this many operations.
const INSERT_EVERY: u64 = 20;
/// Longest scan of E.
const SCAN_ENTRIES_MAX: u64 = 100;

/// The Zipf distribution over `0..n`, by an alias table over groups of ranks: a draw is one load and a few multiplications, however large `n` is.
#[derive(Debug, Clone)]
pub struct Zipf {
    slots: Vec<Slot>,
}

/// One part of the table, of equal chance: `own` if a draw falls below `own_share`, `other` if not.
#[derive(Debug, Clone)]
struct Slot {
    own_share: f64,
    own: Range<u64>,
    other: Range<u64>,
}

impl Zipf {
    /// The distribution over `0..num`.
    ///
    /// # Panics
    /// If `num` is 0.
    pub fn new(num: u64) -> Self {
        assert!(num > 0, "there is no rank");
        let mut groups = Vec::new();
        let mut start = 0;
        while start < num {
            let length = if start < SINGLE_RANKS { 1 } else { start / 128 };
            let group = start..(start + length).min(num);
            let middle = (group.start + group.end + 1) as f64 / 2.0;
            let weight = (group.end - group.start) as f64 * middle.powf(-EXPONENT);
            groups.push((group, weight));
            start += length;
        }
        Self { slots: alias_table(groups) }
    }

    /// The next rank.
    #[inline]
    pub fn draw(&self, random: &mut Random) -> u64 {
        let bits = random.bits();
        let wide = u128::from(bits) * self.slots.len() as u128;
        let slot = &self.slots[(wide >> 64) as usize];
        // The product's lower half is where within the slot the draw fell.
        let share = (wide as u64) as f64 / 2_f64.powi(64);
        let group = if share < slot.own_share { &slot.own } else { &slot.other };
        let length = group.end - group.start;
        if length == 1 { group.start } else { group.start + random.below(length) }
    }
}

/// Walker's method, as Vose builds it: each slot is filled up to the average weight from one group that has more.
fn alias_table(groups: Vec<(Range<u64>, f64)>) -> Vec<Slot> {
    let average = groups.iter().map(|(_, weight)| weight).sum::<f64>() / groups.len() as f64;
    let (mut less, mut more): (Vec<_>, Vec<_>) = groups.into_iter().partition(|(_, weight)| *weight < average);
    let mut slots = Vec::new();
    while let Some((own, weight)) = less.pop() {
        let Some((other, left)) = more.last_mut() else {
            slots.push(Slot { own_share: 1.0, own: own.clone(), other: own });
            continue;
        };
        slots.push(Slot { own_share: weight / average, own, other: other.clone() });
        *left -= average - weight;
        if *left < average {
            less.extend(more.pop());
        }
    }
    slots.extend(more.into_iter().map(|(own, _)| Slot { own_share: 1.0, own: own.clone(), other: own }));
    slots
}

/// All keys there can be when a workload of `num` keys has ended: what its random order runs over.
pub fn universe(workload: Workload, num: u64) -> u64 {
    // Threads round down each, so the places that they reach may lie a little apart.
    if workload.inserts() { num + num.div_ceil(INSERT_EVERY) + 64 } else { num }
}

/// What one thread of a YCSB workload works with.
pub struct Mix<'a, S> {
    /// The store, loaded with the first `num` places of the order.
    pub store: &'a S,
    /// A to F.
    pub workload: Workload,
    /// Of the run.
    pub settings: &'a Settings,
    /// Over the whole universe.
    pub order: Order,
    /// Over the loaded keys.
    pub zipf: &'a Zipf,
}

impl<S: Store> Mix<'_, S> {
    /// Does `operations` of `thread`; returns how many entries it inserted.
    ///
    /// # Errors
    /// The store's; a value that is not its key's; a key that was put and is not there.
    pub fn run(&self, thread: usize, operations: u64, meter: &mut Meter) -> Result<u64> {
        let Settings { num, threads, value_bytes, .. } = *self.settings;
        let mut random = Random::new(num, thread as u64);
        let checker = Checker::new(value_bytes);
        let mut value = vec![0; value_bytes];
        let mut put = |index: u64, meter: &mut Meter| {
            data::fill_value(index, &mut value);
            let key = data::key(index);
            meter.call(1, || self.store.put(&key, &value))
        };
        let get = |index: u64, operations: u64, meter: &mut Meter| {
            let key = data::key(index);
            let found = meter.call(operations, || self.store.get(&key, |value| checker.check(index, value)))?;
            found.unwrap_or_else(|| Err(format!("entry {index} is not there").into()))
        };
        // Each thread inserts places of its own, so it knows which of them are there.
        let inserted_place = |nth: u64| num + nth * threads as u64 + thread as u64;
        let mut inserted = 0;
        for operation in 0..operations {
            if meter.is_over() {
                break;
            }
            // A share of exactly one in twenty, or a half by chance.
            let is_twentieth = operation % INSERT_EVERY == INSERT_EVERY - 1;
            if self.workload.inserts() && is_twentieth {
                put(self.order.at(inserted_place(inserted)), meter)?;
                inserted += 1;
                continue;
            }
            let rank = self.zipf.draw(&mut random);
            let place = match self.workload {
                Workload::YcsbD if rank < inserted => inserted_place(inserted - 1 - rank),
                Workload::YcsbD => num - 1 - (rank - inserted).min(num - 1),
                _ => rank,
            };
            let index = self.order.at(place);
            match self.workload {
                Workload::YcsbB if is_twentieth => put(index, meter)?,
                Workload::YcsbA if random.bits() & 1 == 0 => put(index, meter)?,
                Workload::YcsbF if random.bits() & 1 == 0 => {
                    get(index, 0, meter)?;
                    put(index, meter)?;
                }
                Workload::YcsbE => {
                    let entries = 1 + random.below(SCAN_ENTRIES_MAX);
                    meter.call(1, || self.scan(index, entries, &checker))?;
                }
                _ => get(index, 1, meter)?,
            }
        }
        Ok(inserted)
    }

    fn scan(&self, index: u64, entries: u64, checker: &Checker) -> Result<()> {
        let (mut found, mut last) = (0, None);
        self.store.scan_from(&data::key(index), entries, |key, value| {
            let at = data::index(key).ok_or_else(|| format!("no such key was written: {}", key.escape_ascii()))?;
            if last >= Some(at) || (found == 0 && at != index) {
                return Err(format!("entry {at} comes behind {last:?} in a scan from {index}").into());
            }
            checker.check_in_passing(at, key, value)?;
            (found, last) = (found + 1, Some(at));
            Ok(())
        })?;
        // Where the end of all keys is near, how many are left is not known.
        if found == entries || index + SCAN_ENTRIES_MAX * 2 > self.order.len() {
            return Ok(());
        }
        Err(format!("a scan from entry {index} found {found} entries of {entries}").into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Draws fall on each rank, or each group of ranks, as often as the sum of the chances says.
    #[test]
    fn ranks_come_up_as_often_as_zipf_says() {
        for num in [1, 2, 100, 5000, 1_000_000] {
            let (zipf, mut random) = (Zipf::new(num), Random::new(num, 7));
            let total: f64 = (1..=num).map(|rank| (rank as f64).powf(-EXPONENT)).sum();
            let draws: u64 = 400_000;
            let bounds =
                [0, 1, 2, 5, 20, 100, 1000, 2048, 3000, 10_000, 100_000, u64::MAX].map(|bound: u64| bound.min(num));
            let mut counts = vec![0_u64; bounds.len()];
            for _ in 0..draws {
                let rank = zipf.draw(&mut random);
                assert!(rank < num);
                counts[bounds.partition_point(|bound| *bound <= rank) - 1] += 1;
            }
            for (bound, count) in bounds.windows(2).zip(&counts) {
                let chance: f64 =
                    (bound[0]..bound[1]).map(|rank| ((rank + 1) as f64).powf(-EXPONENT)).sum::<f64>() / total;
                let (expected, found) = (chance * draws as f64, *count as f64);
                assert!(
                    (expected - found).abs() < 5.0 * expected.sqrt() + 2e-3 * expected + 1.0,
                    "{bound:?} of {num}: {found}, not {expected}"
                );
            }
        }
    }

    #[test]
    fn a_universe_has_room_for_what_is_inserted() {
        for num in [1, 19, 20, 21, 1000] {
            for threads in 1..20 {
                let inserted_most = (num / threads + 1) / INSERT_EVERY;
                let last = num + inserted_most.saturating_sub(1) * threads + threads - 1;
                assert!(inserted_most == 0 || last < universe(Workload::YcsbD, num), "{num} by {threads}");
            }
        }
        assert_eq!(universe(Workload::YcsbA, 100), 100);
    }
}
