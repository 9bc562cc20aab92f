//! [`TableIter`]: a cursor over all versions in a table.

use crate::block::is_other;
use crate::error::TableError;
use crate::fetch::prefetch;
use crate::in_block::InBlock;
use crate::read_ahead::ReadAhead;
use crate::table::{Block, Fill, Table};
use esker_format::{InternalKey, Slice, Trailer};
use esker_iterator::{InternalIterator, Lend, Lent, Plain, Stepped, Way};
use esker_vfs::{CACHE_LINE_BYTES, Map};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// Lines at a block's start, where all but its values lie, that are sent for ahead of their use.
const HEAD_LINES: usize = 8;
/// Lines at a block's end that are sent for ahead of a walk backward.
const TAIL_LINES: usize = 64;
/// Lines of values that are sent for where a seek has landed.
const VALUE_LINES: usize = 6;
/// A seek that lands so near a block's end sends for the next one: few ask for one entry only.
const SHORT_WALK_ENTRIES: usize = 12;
/// Blocks entered one behind the other after which a walk is long, and leaves the cache to others: it would push out what they use,
/// and filling memory that is not warm yet costs more than the walk.
const LONG_WALK_BLOCKS: u32 = 64;

/// A cursor over all versions in a [`Table`], by the contract of [`InternalIterator`]. Owns what it needs.
///
/// Allocates nothing from entry to entry, except to hold the longest key so far.
pub struct TableIter {
    table: Arc<Table>,
    fill: Fill,
    valid: bool,
    error: Option<Box<TableError>>,
    /// The number of the block that the cursor is in.
    number: usize,
    at: InBlock,
    /// Between [`InternalIterator::prepare_seek`] and the seek: the block to seek in.
    prepared: Option<usize>,
    /// Blocks that were entered by steps since the last seek.
    walked: u32,
    ahead: ReadAhead,
}

impl TableIter {
    pub(crate) fn new(table: Arc<Table>, fill: Fill) -> Self {
        Self {
            at: InBlock::new(table.map().cloned()),
            table,
            fill,
            valid: false,
            error: None,
            number: 0,
            prepared: None,
            walked: 0,
            ahead: ReadAhead::new(fill),
        }
    }

    /// Keeps an error, so that it sticks.
    #[inline(always)]
    fn keep_error(&mut self, result: Result<(), TableError>) -> Result<(), TableError> {
        match result {
            Ok(()) => Ok(()),
            Err(error) => self.fail(error),
        }
    }

    #[cold]
    fn fail(&mut self, error: TableError) -> Result<(), TableError> {
        self.valid = false;
        self.error = Some(Box::new(error.clone()));
        Err(error)
    }

    /// The sticking error, or a panic: the answer to a move from nowhere.
    #[cold]
    fn nowhere(&self) -> Result<(), TableError> {
        match &self.error {
            Some(error) => Err(TableError::clone(error)),
            None => panic!("the iterator is not valid"),
        }
    }

    /// Forgets position and error.
    fn reset(&mut self) {
        self.valid = false;
        self.error = None;
        self.prepared = None;
        self.walked = 0;
        self.ahead = ReadAhead::new(self.fill);
    }

    /// Sends for the lines of block `number` that are read first, if they come from a map as they are.
    fn prefetch_head(&self, number: usize) {
        if let Some((map, range)) = self.mapped_block(number) {
            let lines = (range.len() / CACHE_LINE_BYTES).min(HEAD_LINES);
            (0..lines).for_each(|line| prefetch(map, range.start + line * CACHE_LINE_BYTES));
        }
    }

    /// Sends for the last values of block `number`, likewise: who comes from behind reads them first.
    fn prefetch_tail(&self, number: usize) {
        if let Some((map, range)) = self.mapped_block(number) {
            let lines = (range.len() / CACHE_LINE_BYTES).min(TAIL_LINES);
            (1..=lines).for_each(|line| prefetch(map, range.end - line * CACHE_LINE_BYTES));
        }
    }

    /// Where block `number` is in the map, if it is there as it is.
    fn mapped_block(&self, number: usize) -> Option<(&Map, Range<usize>)> {
        let (index, payload) = self.table.index().ok()?;
        let place = index.block(payload, number).filter(|place| !place.compressed)?;
        Some((self.table.map()?, place.range))
    }

    /// Sends for the values from that of entry `i` of the present block on.
    fn prefetch_values(&self, i: usize) {
        if let (Some(map), Some(Block::Mapped(range))) = (self.table.map(), self.at.block())
            && let Some((layout, payload)) = self.at.parts()
            && let Some(entry) = layout.entry(payload, i)
        {
            let from = range.start + entry.value.start;
            (0..VALUE_LINES).for_each(|line| prefetch(map, from + line * CACHE_LINE_BYTES));
        }
    }

    /// Enters block `number`: how many entries it has.
    fn enter(&mut self, number: usize) -> Result<usize, TableError> {
        let fill = match self.fill {
            Fill::Cache if self.walked >= LONG_WALK_BLOCKS => Fill::Nothing,
            fill => fill,
        };
        let block = self.table.block(number, fill)?;
        self.number = number;
        match self.at.enter(self.table.map(), block, self.table.lift()) {
            Some(()) => Ok(self.at.count()),
            None => self.fall().map(|()| 0),
        }
    }

    /// Stands on entry `i` of the present block.
    #[inline(always)]
    fn stand(&mut self, i: usize) -> Result<(), TableError> {
        if self.try_stand(i).is_some() { Ok(()) } else { self.fall() }
    }

    #[inline(always)]
    fn try_stand(&mut self, i: usize) -> Option<()> {
        self.at.try_stand(i)?;
        self.valid = true;
        Some(())
    }

    /// The present block was checked, and has no such entry.
    #[cold]
    fn fall(&self) -> Result<(), TableError> {
        let block = self.at.block().expect("a position is in a block");
        Err(self.table.damaged(self.number, block))
    }

    #[inline(never)]
    fn first_of(&mut self, number: usize) -> Result<(), TableError> {
        self.valid = false;
        if number < self.table.block_count()? {
            self.enter(number)?;
            self.stand(0)?;
        }
        Ok(())
    }

    #[inline(never)]
    fn last_of(&mut self, number: usize) -> Result<(), TableError> {
        let count = self.enter(number)?;
        self.stand(count - 1)
    }

    /// Steps into the block behind the present one, and sends for the one after it.
    #[inline(never)]
    fn walk_forward(&mut self) -> Result<(), TableError> {
        self.walked = self.walked.saturating_add(1);
        self.ahead.enter(&self.table, self.number + 1, Way::Forward);
        self.prefetch_head(self.number + 2);
        let result = self.first_of(self.number + 1);
        self.keep_error(result)
    }

    /// Steps into the block before the present one, and sends for the one before it.
    #[inline(never)]
    fn walk_backward(&mut self) -> Result<(), TableError> {
        self.walked = self.walked.saturating_add(1);
        if let Some(number) = self.number.checked_sub(1) {
            self.ahead.enter(&self.table, number, Way::Backward);
        }
        if let Some(number) = self.number.checked_sub(2) {
            self.prefetch_head(number);
            self.prefetch_tail(number);
        }
        let result = self.before(0);
        self.keep_error(result)
    }

    #[cold]
    fn fall_and_keep(&mut self) -> Result<(), TableError> {
        let result = self.fall();
        self.keep_error(result)
    }

    /// Whether the table goes on behind block `number`, below its last, with another user key: the fence between tells.
    #[inline(never)]
    fn key_changes_behind_block(&self, number: usize) -> bool {
        let Ok((index, payload)) = self.table.index() else { return false };
        // Only a fence within the versions of one key has a trailer.
        number + 1 < index.count() && index.fence(payload, number).is_some_and(|(_, trailer)| trailer == Trailer::MIN)
    }

    fn last(&mut self) -> Result<(), TableError> {
        match self.table.block_count()?.checked_sub(1) {
            Some(last) => self.last_of(last),
            None => {
                self.valid = false;
                Ok(())
            }
        }
    }

    /// Enters block `number`, in which `target` belongs: the number of the first entry at or behind it, and how many there are, which is the
    /// former if the entry is the next block's first. `None` if the target is behind all blocks.
    fn search(&mut self, number: usize, target: InternalKey<'_>) -> Result<Option<(usize, usize)>, TableError> {
        if number >= self.table.block_count()? {
            return Ok(None);
        }
        let count = self.enter(number)?;
        let Some((layout, payload)) = self.at.parts() else { return Ok(None) };
        match layout.lower_bound(payload, target) {
            Some(i) => Ok(Some((i, count))),
            None => self.fall().map(|()| None),
        }
    }

    /// Block `number` is where `target` belongs.
    fn seek_in_block(&mut self, number: usize, target: InternalKey<'_>) -> Result<(), TableError> {
        match self.search(number, target)? {
            None => Ok(()),
            Some((i, count)) if i < count => {
                self.prefetch_values(i);
                if count - i <= SHORT_WALK_ENTRIES {
                    self.prefetch_head(number + 1);
                }
                self.stand(i)
            }
            Some(_) => self.first_of(self.number + 1),
        }
    }

    fn seek_for_prev_in_table(&mut self, target: InternalKey<'_>) -> Result<(), TableError> {
        let number = self.table.find_block(target)?;
        self.prefetch_head(number);
        let Some((i, count)) = self.search(number, target)? else { return self.last() };
        if i < count {
            self.stand(i)?;
            if self.key() == target {
                return Ok(());
            }
        }
        self.before(i)
    }

    /// Stands on the entry before entry `i` of the present block.
    #[inline(always)]
    fn before(&mut self, i: usize) -> Result<(), TableError> {
        if i > 0 {
            return self.stand(i - 1);
        }
        self.valid = false;
        if self.number > 0 { self.last_of(self.number - 1) } else { Ok(()) }
    }
}

impl InternalIterator for TableIter {
    type Error = TableError;

    #[inline]
    fn valid(&self) -> bool {
        self.valid
    }

    fn seek_to_first(&mut self) -> Result<(), TableError> {
        self.reset();
        let result = self.first_of(0);
        self.keep_error(result)
    }

    fn seek_to_last(&mut self) -> Result<(), TableError> {
        self.reset();
        let result = self.last();
        self.keep_error(result)
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), TableError> {
        self.prepare_seek(target);
        self.seek_prepared(target)
    }

    /// An index that can't be read is left to the second half to report.
    fn prepare_seek(&mut self, target: InternalKey<'_>) {
        self.reset();
        self.prepared = self.table.find_block(target).ok();
        if let Some(number) = self.prepared {
            self.prefetch_head(number);
        }
    }

    fn seek_prepared(&mut self, target: InternalKey<'_>) -> Result<(), TableError> {
        let number = self.prepared.take().map_or_else(|| self.table.find_block(target), Ok);
        self.reset();
        let result = number.and_then(|number| self.seek_in_block(number, target));
        self.keep_error(result)
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), TableError> {
        self.reset();
        let result = self.seek_for_prev_in_table(target);
        self.keep_error(result)
    }

    #[inline]
    fn next(&mut self) -> Result<(), TableError> {
        if !self.valid {
            return self.nowhere();
        }
        let i = self.at.i() + 1;
        if i >= self.at.count() {
            return self.walk_forward();
        }
        if self.try_stand(i).is_some() { Ok(()) } else { self.fall_and_keep() }
    }

    #[inline]
    fn prev(&mut self) -> Result<(), TableError> {
        if !self.valid {
            return self.nowhere();
        }
        if self.at.i() == 0 {
            return self.walk_backward();
        }
        if self.try_stand(self.at.i() - 1).is_some() { Ok(()) } else { self.fall_and_keep() }
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        assert!(self.valid, "the iterator is not valid");
        self.at.internal_key()
    }

    #[inline]
    fn value(&self) -> &[u8] {
        assert!(self.valid, "the iterator is not valid");
        self.at.value()
    }

    /// Copied if short, else pinning the block or the map.
    fn value_slice(&self) -> Slice {
        assert!(self.valid, "the iterator is not valid");
        self.lent_value_slice(&self.at)
    }

    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        assert!(self.valid, "the iterator is not valid");
        match self.at.parts() {
            Some((layout, payload)) if self.at.i() + 1 < layout.count => {
                layout.key_changes_behind(payload, self.at.i())
            }
            _ => self.key_changes_behind_block(self.number),
        }
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        assert!(self.valid, "the iterator is not valid");
        match (self.at.parts(), self.at.i().checked_sub(1)) {
            (Some((layout, payload)), Some(before)) => layout.key_changes_behind(payload, before),
            _ => self.number.checked_sub(1).is_some_and(|number| self.key_changes_behind_block(number)),
        }
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        assert!(self.valid, "the iterator is not valid");
        let next = self.at.i() + 1;
        if next >= self.at.count() {
            return None;
        }
        self.at.try_stand_with(next, |_, payload, this, next| is_other(payload, &this.rest, &next.rest))?;
        Some(self.at.trailer())
    }

    /// Within the block.
    fn steps_before(&mut self, way: Way, user_key: &[u8]) -> usize {
        assert!(self.valid, "the iterator is not valid");
        let Some((layout, payload)) = self.at.parts() else { return 0 };
        let i = self.at.i();
        let steps = match way {
            Way::Forward => {
                let before = layout.lower_bound(payload, InternalKey::before_all(user_key));
                before.map(|before| before.saturating_sub(i + 1))
            }
            Way::Backward => {
                let behind = layout.lower_bound(payload, InternalKey::behind_all(user_key));
                behind.map(|behind| i.saturating_sub(behind))
            }
        };
        steps.unwrap_or(0)
    }

    #[inline]
    fn try_prev(&mut self) -> Option<Stepped> {
        assert!(self.valid, "the iterator is not valid");
        let (before, mut is_newest) = (self.at.i().checked_sub(1)?, false);
        self.at.try_stand_with(before, |layout, payload, _, this| {
            // The first one of a block may have newer versions in the block before.
            is_newest = before > 0 && layout.key_differs(payload, before - 1, &this.rest);
            true
        })?;
        Some(Stepped { trailer: self.at.trailer(), is_newest })
    }
}

impl Lend for TableIter {
    type Lent = InBlock;

    /// The rest of the block, if the table has one version of each key, all of them are seen, and all in the block are values.
    fn lend(&mut self, way: Way, plain: &Plain<'_>, lent: &mut InBlock) -> usize {
        assert!(self.valid, "the iterator is not valid");
        let Some((layout, _)) = self.at.parts() else { return 0 };
        let (first, last) = self.table.seqs();
        let is_plain = self.table.has_one_version_each()
            && layout.has_values_only()
            && plain.oldest <= first
            && last <= plain.newest;
        let left = if way == Way::Forward { layout.count - 1 - self.at.i() } else { self.at.i() };
        if !is_plain || left == 0 {
            return 0;
        }
        let before = plain.until.map_or(left, |until| self.steps_before(way, until).min(left));
        let steps = before.min(plain.steps);
        if steps > 0 {
            std::mem::swap(&mut self.at, lent);
        }
        steps
    }

    fn take_back(&mut self, lent: &mut InBlock) -> bool {
        std::mem::swap(&mut self.at, lent);
        false
    }

    fn lent_value_slice(&self, lent: &InBlock) -> Slice {
        let block = lent.block().expect("a valid iterator is in a block");
        self.table.slice(block, lent.value_range())
    }
}

impl fmt::Debug for TableIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.name();
        match &self.error {
            Some(error) => write!(f, "TableIter({table}, failed: {error})"),
            None if self.valid => write!(f, "TableIter({table}, at {:?})", self.key()),
            None => write!(f, "TableIter({table}, not placed, or exhausted)"),
        }
    }
}

#[cfg(test)]
mod tests;
