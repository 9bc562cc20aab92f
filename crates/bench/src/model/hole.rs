//! Reads over a range that holds nothing, with entries before and behind it.
//!
//! ```text
//! entries  0 .. 1,000      1,000 .. 1,000 + num          .. 2,000 + num
//!          there           never there, or deleted       there
//!                      <- walk over ---------------------->
//!                                 seek into -> 10 entries
//! ```
//!
//! What is in memory and what in tables is as the [`State`] says, and no load is flushed besides. Each has something in a memtable and something in tables, but for `Unflushed`, which has all in memory.

use crate::args::Settings;
use crate::data::{self, Checker, Random};
use crate::meter::Meter;
use crate::state::State;
use crate::store::Store;
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
    let delete = || store.delete_range(&data::key(hole.start), &data::key(hole.end));
    put(0..AROUND)?;
    put(hole.end..hole.end + AROUND)?;
    match settings.state {
        State::Unflushed => {
            put(hole.clone())?;
            delete()
        }
        State::Deleted => {
            put(hole.clone())?;
            store.flush()?;
            delete()
        }
        State::Flushed => {
            put(hole.clone())?;
            store.flush()?;
            delete()?;
            store.flush()?;
            put(0..1)
        }
        _ => {
            store.flush()?;
            put(0..1)
        }
    }
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
