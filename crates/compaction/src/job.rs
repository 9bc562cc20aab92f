//! Carries out a plan: reads the inputs, writes the outputs, installs nothing.

use crate::error::{Cause, CompactionError};
use crate::expiry::Gone;
use crate::iter::{CompactionIter, Counts};
use crate::output::{JobConfig, Outcome, Tables, write_tables};
use crate::plan::{Plan, PlanKind};
use crate::ranges::{Ranges, Stripes};
use esker_format::{FileNo, InternalKey};
use esker_iterator::{
    ConcatIterator, InternalIterator, MergingIterator, RangeTombstone, RangeTombstones, Run, is_before_end,
};
use esker_manifest::{Level, TableMeta};
use esker_sstable::{Codec, TableIter};
use std::sync::Arc;

/// Carries out `plan` and returns what to install: see [`Plan::edit`]. Takes no lock and changes no version.
///
/// Snapshots and horizon of `config` must have been taken after the plan was picked or at the same time. A move returns its inputs as
/// its outputs, and reads and writes nothing; whether a [`PlanKind::Recode`] was one is told by [`Outcome::moved`].
///
/// # Errors
/// A damaged input is named ([`CompactionError::damaged_input`]). The tables made so far are named in [`CompactionError::created`]; they are not
/// removed. The inputs are untouched.
///
/// # Durability
/// The files of the outputs are synced; the directory that holds them is the caller's to sync, before the edit is committed.
pub fn run(plan: &Plan, tables: &dyn Tables, config: &JobConfig<'_>) -> Result<Outcome, CompactionError> {
    let moves = match plan.kind {
        PlanKind::Move => true,
        PlanKind::Recode => is_stored_in(config.codec, plan, tables)?,
        PlanKind::Merge => false,
    };
    if moves {
        return Ok(Outcome::of(plan.tables().map(|(_, table)| TableMeta::clone(table)).collect(), true));
    }
    let mut config = *config;
    if plan.output_level == Level::ZERO {
        config.table_bytes = u64::MAX;
    }
    let mut deeper = Deeper::new(plan);
    let stripes = Stripes::new(config.snapshots, config.horizon);
    let ranges = ranges_of(plan, tables)?;
    let ranges = ranges.iter().flat_map(|ranges| ranges.iter());
    let ranges = Ranges::new(ranges, &stripes, |range| deeper.may_hold_any(range));
    // What is hidden as a whole is not even opened.
    let needed = |table: &&Arc<TableMeta>| ranges.is_empty() || !ranges.hide_all_of(table, &stripes);
    // Nor what has expired as a whole, if it hides nothing: neither below, nor in another input.
    let gone = Gone::new(config.snapshots, config.horizon, config.times);
    if plan.is_bottom() && plan.tables().all(|(_, table)| gone.has_all_of(table, &stripes)) {
        let expired = plan.tables().fold(0, |sum: u64, (_, table)| sum.saturating_add(table.entries));
        return Ok(Outcome { counts: Counts { expired, ..Counts::default() }, ..Outcome::of(Vec::new(), false) });
    }
    let of_level = |(level, inputs): &(Level, Vec<_>)| (*level, inputs.iter().filter(needed).cloned().collect());
    let inputs: Vec<(Level, Vec<Arc<TableMeta>>)> = plan.inputs.iter().map(of_level).collect();
    let read = || inputs.iter().flat_map(|(_, inputs)| inputs);
    let iter =
        CompactionIter::new(merged(&inputs, tables)?, config.snapshots, config.horizon, |key| deeper.may_hold(key))
            .as_of(config.snapshots, config.horizon, config.times);
    let mut outcome = write_tables(iter.with_ranges(ranges), &plan.grandparents, tables, &config)?;

    let expected = read().map(|table| table.entries).sum();
    let found = outcome.counts.entries_in;
    if found != expected {
        let tables = outcome.outputs.iter().map(|table| table.number);
        let created = tables.chain(outcome.blobs.iter().map(|blob| blob.number)).collect();
        return Err(CompactionError::new(Cause::EntryCount { expected, found }).with_created(created));
    }
    outcome.read_bytes += read().fold(0, |sum: u64, table| sum.saturating_add(table.file_bytes));
    Ok(outcome)
}

/// Whether all inputs are in this codec.
fn is_stored_in(codec: Codec, plan: &Plan, tables: &dyn Tables) -> Result<bool, CompactionError> {
    for (_, input) in plan.tables() {
        let table = tables.open(input).map_err(CompactionError::input(input.number))?;
        if table.properties().codec != codec {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The range tombstones of the inputs.
fn ranges_of(plan: &Plan, tables: &dyn Tables) -> Result<Vec<Arc<RangeTombstones>>, CompactionError> {
    let mut found = Vec::new();
    for (_, input) in plan.tables().filter(|(_, input)| input.ranges.is_some()) {
        let table = tables.open(input).map_err(CompactionError::input(input.number))?;
        found.extend(table.range_tombstones().map(Arc::clone));
    }
    Ok(found)
}

/// The inputs as one: each table of level 0 for itself, every other level as one series.
fn merged<'a>(
    inputs: &'a [(Level, Vec<Arc<TableMeta>>)],
    tables: &'a dyn Tables,
) -> Result<MergingIterator<Source<'a>>, CompactionError> {
    let mut sources = Vec::new();
    for (level, inputs) in inputs {
        let series = Series { tables, inputs };
        if *level == Level::ZERO {
            for i in 0..inputs.len() {
                sources.push(Source::Table(series.open(i)?));
            }
        } else {
            sources.push(Source::Level(ConcatIterator::new(series)));
        }
    }
    Ok(MergingIterator::new(sources))
}

/// One input; its errors say which.
struct Input {
    number: FileNo,
    iter: TableIter,
}

/// The inputs of one level, opened as they are reached.
struct Series<'a> {
    tables: &'a dyn Tables,
    inputs: &'a [Arc<TableMeta>],
}

enum Source<'a> {
    Table(Input),
    Level(ConcatIterator<Series<'a>>),
}

impl Run for Series<'_> {
    type Iter = Input;

    fn len(&self) -> usize {
        self.inputs.len()
    }

    fn smallest(&self, i: usize) -> InternalKey<'_> {
        self.inputs[i].smallest.as_ref()
    }

    fn largest(&self, i: usize) -> InternalKey<'_> {
        self.inputs[i].largest.as_ref()
    }

    fn open(&self, i: usize) -> Result<Input, CompactionError> {
        let number = self.inputs[i].number;
        let table = self.tables.open(&self.inputs[i]).map_err(CompactionError::input(number))?;
        Ok(Input { number, iter: table.iter_checked() })
    }
}

/// Calls the same method of whichever source it is.
macro_rules! forward {
    ($self:ident, $inner:ident => $call:expr) => {
        match $self {
            Source::Table($inner) => $call,
            Source::Level($inner) => $call,
        }
    };
}

impl InternalIterator for Input {
    type Error = CompactionError;

    #[inline]
    fn valid(&self) -> bool {
        self.iter.valid()
    }

    fn seek_to_first(&mut self) -> Result<(), CompactionError> {
        self.iter.seek_to_first().map_err(CompactionError::input(self.number))
    }

    fn seek_to_last(&mut self) -> Result<(), CompactionError> {
        self.iter.seek_to_last().map_err(CompactionError::input(self.number))
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), CompactionError> {
        self.iter.seek(target).map_err(CompactionError::input(self.number))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), CompactionError> {
        self.iter.seek_for_prev(target).map_err(CompactionError::input(self.number))
    }

    #[inline]
    fn next(&mut self) -> Result<(), CompactionError> {
        self.iter.next().map_err(CompactionError::input(self.number))
    }

    fn prev(&mut self) -> Result<(), CompactionError> {
        self.iter.prev().map_err(CompactionError::input(self.number))
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        self.iter.key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        self.iter.value()
    }
}

impl InternalIterator for Source<'_> {
    type Error = CompactionError;

    #[inline]
    fn valid(&self) -> bool {
        forward!(self, source => source.valid())
    }

    fn seek_to_first(&mut self) -> Result<(), CompactionError> {
        forward!(self, source => source.seek_to_first())
    }

    fn seek_to_last(&mut self) -> Result<(), CompactionError> {
        forward!(self, source => source.seek_to_last())
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), CompactionError> {
        forward!(self, source => source.seek(target))
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), CompactionError> {
        forward!(self, source => source.seek_for_prev(target))
    }

    #[inline]
    fn next(&mut self) -> Result<(), CompactionError> {
        forward!(self, source => source.next())
    }

    fn prev(&mut self) -> Result<(), CompactionError> {
        forward!(self, source => source.prev())
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        forward!(self, source => source.key())
    }

    #[inline]
    fn value(&self) -> &[u8] {
        forward!(self, source => source.value())
    }
}

/// Where older versions may lie, asked with ascending keys.
struct Deeper<'a> {
    /// Of each run the tables not yet passed.
    runs: Vec<&'a [Arc<TableMeta>]>,
}

impl<'a> Deeper<'a> {
    fn new(plan: &'a Plan) -> Self {
        Self { runs: plan.deeper.iter().map(Vec::as_slice).collect() }
    }

    fn may_hold(&mut self, user_key: &[u8]) -> bool {
        self.runs.iter_mut().any(|run| {
            while let Some((first, rest)) = run.split_first()
                && *first.largest.user_key < *user_key
            {
                *run = rest;
            }
            run.first().is_some_and(|first| *first.smallest.user_key <= *user_key)
        })
    }

    /// Whether any key of a range may be there. Asked in any order, before the first key.
    fn may_hold_any(&self, range: RangeTombstone<'_>) -> bool {
        self.runs.iter().any(|run| {
            let behind = run.partition_point(|table| *table.largest.user_key < *range.begin);
            run.get(behind).is_some_and(|table| is_before_end(&table.smallest.user_key, range.end))
        })
    }
}
