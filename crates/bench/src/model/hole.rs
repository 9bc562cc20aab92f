//! Reads over a range that holds nothing, with entries before and behind it.
//!
//! ```text
//! entries  0 .. 1,000      1,000 .. 1,000 + num          .. 2,000 + num
//!          there           never there, or deleted       there
//!                      <- walk over ---------------------->
//!                                 seek into -> 10 entries
//! ```
//!
//! What is in memory and what in tables is as the [`State`] says, and stays so: a snapshot that is older than the delete keeps what it deleted, and the tombstone over it, from being compacted away.
//! What waits in memory to be flushed is not: see [`State::Unflushed`]. Whether it is so is [checked](check) before and after, of a store that [tells](crate::store::DataModel::layers).
//! Each state has something in a memtable and something in tables, but for the two that are unflushed, which have all in memory.

use crate::args::Settings;
use crate::data::{self, Checker, Random};
use crate::meter::Meter;
use crate::state::State;
use crate::store::{Layer, Layers, Store};
use crate::work::{each, expect_count, put_batches};
use crate::workload::{LOAD_BATCH_ENTRIES, Workload};
use crate::{Error, Result};
use std::ops::Range;

/// Entries before the range, and behind it.
const AROUND: u64 = 1000;
/// Both.
pub(super) const ENTRIES_AROUND: u64 = 2 * AROUND;
/// Entries that a seek reads, and a walk on either side.
const READ: u64 = 10;

pub(super) fn load(store: &impl Store, settings: &Settings) -> Result<()> {
    let put = |entries: Range<u64>| {
        super::unmeasured(|meter| {
            put_batches(store, settings, |place| place, entries.clone(), LOAD_BATCH_ENTRIES, meter)
        })
    };
    let hole = AROUND..AROUND + settings.num;
    put(0..AROUND)?;
    put(hole.end..hole.end + AROUND)?;
    let in_memory = matches!(settings.state, State::EmptyUnflushed | State::Unflushed);
    if !matches!(settings.state, State::Empty | State::EmptyUnflushed) {
        put(hole.clone())?;
    }
    if !in_memory {
        // Where they lie by and by, whatever the size of the memtables.
        store.flush()?;
        store.compact()?;
    }
    store.hold_snapshot()?;
    match settings.state {
        State::EmptyUnflushed => Ok(()),
        State::Unflushed | State::Deleted => store.delete_range(&data::key(hole.start), &data::key(hole.end)),
        State::Flushed => {
            store.delete_range(&data::key(hole.start), &data::key(hole.end))?;
            store.flush()?;
            put(0..1)
        }
        _ => put(0..1),
    }
}

/// Whether keys and tombstone lie as the state says.
///
/// # Errors
/// They do not.
pub(super) fn check(settings: &Settings, layers: &Layers) -> Result<()> {
    let all = settings.num + ENTRIES_AROUND;
    let entries = |entries: u64| Layer { entries, ..Layer::default() };
    let tombstone = Layer { range_tombstones: 1, ..Layer::default() };
    let [level_0, below @ ..] = &layers.levels[..] else { return Err("there is no level 0".into()) };
    let below = Layers::sum(below);
    let (memory, sealed) = (layers.memory, layers.sealed_memtables);
    let holds = match settings.state {
        State::EmptyUnflushed => {
            (memory, sealed, *level_0, below) == (entries(ENTRIES_AROUND), 0, entries(0), entries(0))
        }
        // So few keys that their memtable is not sealed for the tombstone share it with that.
        State::Unflushed => {
            let together = Layer { entries: all, ..tombstone };
            [(tombstone, 1), (together, 0)].contains(&(memory, sealed)) && (*level_0, below) == (entries(0), entries(0))
        }
        State::Deleted => (memory, sealed, *level_0, below) == (tombstone, 0, entries(0), entries(all)),
        State::Flushed => (memory, sealed, *level_0, below) == (entries(1), 0, tombstone, entries(all)),
        _ => (memory, sealed, *level_0, below) == (entries(1), 0, entries(0), entries(ENTRIES_AROUND)),
    };
    let state = settings.state.name().unwrap_or("plain");
    if holds { Ok(()) } else { Err(format!("the range is not {state}: {layers:?}").into()) }
}

pub(super) fn read(
    store: &impl Store,
    workload: Workload,
    settings: &Settings,
    random: &mut Random,
    places: Range<u64>,
    meter: &mut Meter,
) -> Result<()> {
    let checker = Checker::new(settings.value_bytes);
    // The first entry behind the range.
    let behind = AROUND + settings.num;
    each(places, meter, |_, meter| {
        let within = AROUND + random.draw();
        meter.call(1, || match workload {
            Workload::SeekOver => forward(store, &checker, within, behind..behind + READ),
            Workload::WalkOver => {
                let expected = (AROUND - READ..AROUND).chain(behind..behind + READ);
                forward(store, &checker, AROUND - READ, expected)
            }
            Workload::SeekOverReverse => backward(store, &checker, within, (AROUND - READ..AROUND).rev()),
            _ => {
                let expected = (AROUND - READ..AROUND).chain(behind..behind + READ).rev();
                backward(store, &checker, behind + READ - 1, expected)
            }
        })
    })
}

fn forward(
    store: &impl Store,
    checker: &Checker,
    from: u64,
    expected: impl Iterator<Item = u64> + Clone,
) -> Result<()> {
    let mut expected = Expected::new(checker, expected);
    store.scan_from(&data::key(from), expected.count, |key, value| expected.check(key, value))?;
    expected.end()
}

fn backward(
    store: &impl Store,
    checker: &Checker,
    from: u64,
    expected: impl Iterator<Item = u64> + Clone,
) -> Result<()> {
    let mut expected = Expected::new(checker, expected);
    store.scan_back_from(&data::key(from), expected.count, |key, value| expected.check(key, value))?;
    expected.end()
}

/// Entries that are to come.
struct Expected<'a, I> {
    checker: &'a Checker,
    entries: I,
    count: u64,
    found: u64,
}

impl<'a, I: Iterator<Item = u64> + Clone> Expected<'a, I> {
    fn new(checker: &'a Checker, entries: I) -> Self {
        Self { checker, count: entries.clone().count() as u64, entries, found: 0 }
    }

    fn check(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let index = self.entries.next().ok_or_else(|| Error::from("more entries are there than were written"))?;
        self.found += 1;
        self.checker.check_in_passing(index, key, value)
    }

    fn end(self) -> Result<()> {
        expect_count(self.found, self.count)
    }
}
