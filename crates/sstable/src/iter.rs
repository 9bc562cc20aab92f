//! [`TableIter`]: a cursor over all versions in a table.

use crate::block::{Entry, HEADER_BYTES, Layout, is_other};
use crate::error::TableError;
use crate::read_ahead::{ReadAhead, Way};
use crate::table::{Block, Fill, Table};
use esker_format::{InternalKey, Slice, Trailer};
use esker_iterator::{InternalIterator, Stepped};
use esker_vfs::{CACHE_LINE_BYTES, Map, prefetch};
use std::fmt;
use std::sync::Arc;

/// Keys' rests up to this length are copied in whole words, without a call.
const SHORT_BYTES: usize = 32;
const WORD_BYTES: usize = 8;
/// Lines at a block's start, where all but its values lie, that are sent for ahead of their use.
const HEAD_LINES: usize = 8;
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
    map: Option<Map>,
    fill: Fill,
    valid: bool,
    error: Option<Box<TableError>>,
    /// The block that the cursor is in, its number, and its layout.
    block: Option<Block>,
    number: usize,
    layout: Option<Layout>,
    i: usize,
    /// The user key: the block's prefix, then the entry's rest; longer than `key_len`, to leave room for whole words.
    key: Vec<u8>,
    key_len: usize,
    prefix_len: usize,
    trailer: Trailer,
    entry: Entry,
    /// Between [`InternalIterator::prepare_seek`] and the seek: the block to seek in.
    prepared: Option<usize>,
    /// Blocks that were entered by steps since the last seek.
    walked: u32,
    ahead: ReadAhead,
}

impl TableIter {
    pub(crate) fn new(table: Arc<Table>, fill: Fill) -> Self {
        Self {
            map: table.map().cloned(),
            table,
            fill,
            valid: false,
            error: None,
            block: None,
            number: 0,
            layout: None,
            i: 0,
            key: Vec::new(),
            key_len: 0,
            prefix_len: 0,
            trailer: Trailer::MIN,
            entry: Entry::default(),
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
        if let (Some(map), Ok((index, payload))) = (&self.map, self.table.index())
            && let Some(place) = index.block(payload, number)
            && !place.compressed
        {
            let lines = (place.range.len() / CACHE_LINE_BYTES).min(HEAD_LINES);
            (0..lines).for_each(|line| prefetch(map, place.range.start + line * CACHE_LINE_BYTES));
        }
    }

    /// Sends for the values from that of entry `i` of the present block on.
    fn prefetch_values(&self, i: usize) {
        if let (Some(map), Some(Block::Mapped(range)), Some(layout)) = (&self.map, &self.block, &self.layout)
            && let Some(entry) = layout.entry(payload(&self.map, &Block::Mapped(range.clone())), i)
        {
            let from = range.start + entry.value.start;
            (0..VALUE_LINES).for_each(|line| prefetch(map, from + line * CACHE_LINE_BYTES));
        }
    }

    /// Enters block `number`: how many entries it has.
    fn enter(&mut self, number: usize) -> Result<usize, TableError> {
        let fill = if self.walked < LONG_WALK_BLOCKS { self.fill } else { Fill::Nothing };
        let block = self.table.block(number, fill)?;
        let payload = payload(&self.map, &block);
        let Some((layout, prefix)) = Layout::parse(payload).and_then(|layout| Some((layout, layout.prefix(payload)?)))
        else {
            return Err(self.table.damaged(number, &block));
        };
        self.prefix_len = prefix.len();
        if self.key.len() < prefix.len() + SHORT_BYTES {
            self.key.resize(prefix.len() + SHORT_BYTES, 0);
        }
        match (self.key.first_chunk_mut::<SHORT_BYTES>(), payload[HEADER_BYTES..].first_chunk::<SHORT_BYTES>()) {
            (Some(key), Some(start)) if prefix.len() <= SHORT_BYTES => *key = *start,
            _ => self.key[..prefix.len()].copy_from_slice(prefix),
        }
        self.number = number;
        self.layout = Some(layout.lifted(self.table.lift()));
        self.block = Some(block);
        Ok(layout.count)
    }

    /// Stands on entry `i` of the present block.
    #[inline(always)]
    fn stand(&mut self, i: usize) -> Result<(), TableError> {
        if self.try_stand(i).is_some() { Ok(()) } else { self.fall() }
    }

    #[inline(always)]
    fn try_stand(&mut self, i: usize) -> Option<()> {
        self.try_stand_with(i, |_, _, _, _| true)
    }

    /// As [`Self::try_stand`], if `stands` says so of the layout, the payload, the present entry, and the new one.
    #[inline(always)]
    fn try_stand_with(
        &mut self,
        i: usize,
        mut stands: impl FnMut(&Layout, &[u8], &Entry, &Entry) -> bool,
    ) -> Option<()> {
        let layout = self.layout.as_ref()?;
        let payload = payload(&self.map, self.block.as_ref()?);
        let entry = layout.entry(payload, i)?;
        if !stands(layout, payload, &self.entry, &entry) {
            return None;
        }
        self.trailer = layout.trailer(payload, i)?;
        let (from, len) = (entry.rest.start, entry.rest.len());
        self.key_len = self.prefix_len + len;
        let short = self.key.get_mut(self.prefix_len..).and_then(|key| key.first_chunk_mut::<SHORT_BYTES>());
        match (short, payload.get(from..).and_then(|rest| rest.first_chunk::<SHORT_BYTES>())) {
            (Some(key), Some(rest)) if len <= WORD_BYTES => key[..WORD_BYTES].copy_from_slice(&rest[..WORD_BYTES]),
            (Some(key), Some(rest)) if len <= SHORT_BYTES => *key = *rest,
            _ => copy_long(&mut self.key, self.prefix_len, payload.get(entry.rest.clone())?),
        }
        self.entry = entry;
        self.i = i;
        self.valid = true;
        Some(())
    }

    /// The present block was checked, and has no such entry.
    #[cold]
    fn fall(&self) -> Result<(), TableError> {
        let block = self.block.as_ref().expect("a position is in a block");
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
        let (Some(block), Some(layout)) = (&self.block, &self.layout) else { return Ok(None) };
        match layout.lower_bound(payload(&self.map, block), target) {
            Some(i) => Ok(Some((i, count))),
            None => Err(self.table.damaged(number, block)),
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
        let i = self.i + 1;
        if self.layout.as_ref().is_none_or(|layout| i >= layout.count) {
            return self.walk_forward();
        }
        if self.try_stand(i).is_some() { Ok(()) } else { self.fall_and_keep() }
    }

    #[inline]
    fn prev(&mut self) -> Result<(), TableError> {
        if !self.valid {
            return self.nowhere();
        }
        if self.i == 0 {
            return self.walk_backward();
        }
        if self.try_stand(self.i - 1).is_some() { Ok(()) } else { self.fall_and_keep() }
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        assert!(self.valid, "the iterator is not valid");
        InternalKey { user_key: &self.key[..self.key_len], trailer: self.trailer }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        assert!(self.valid, "the iterator is not valid");
        let block = self.block.as_ref().expect("a valid iterator is in a block");
        &payload(&self.map, block)[self.entry.value.clone()]
    }

    /// Copied if short, else pinning the block or the map.
    fn value_slice(&self) -> Slice {
        assert!(self.valid, "the iterator is not valid");
        let block = self.block.as_ref().expect("a valid iterator is in a block");
        self.table.slice(block, self.entry.value.clone())
    }

    #[inline]
    fn next_is_other_key(&mut self) -> bool {
        assert!(self.valid, "the iterator is not valid");
        match (&self.block, &self.layout) {
            (Some(block), Some(layout)) if self.i + 1 < layout.count => {
                layout.key_changes_behind(payload(&self.map, block), self.i)
            }
            _ => self.key_changes_behind_block(self.number),
        }
    }

    #[inline]
    fn prev_is_other_key(&mut self) -> bool {
        assert!(self.valid, "the iterator is not valid");
        match (&self.block, &self.layout, self.i.checked_sub(1)) {
            (Some(block), Some(layout), Some(before)) => layout.key_changes_behind(payload(&self.map, block), before),
            _ => self.number.checked_sub(1).is_some_and(|number| self.key_changes_behind_block(number)),
        }
    }

    #[inline]
    fn try_next_key(&mut self) -> Option<Trailer> {
        assert!(self.valid, "the iterator is not valid");
        let next = self.i + 1;
        if next >= self.layout.as_ref()?.count {
            return None;
        }
        self.try_stand_with(next, |_, payload, this, next| is_other(payload, &this.rest, &next.rest))?;
        Some(self.trailer)
    }

    /// Within the block.
    fn steps_before(&mut self, user_key: &[u8]) -> usize {
        assert!(self.valid, "the iterator is not valid");
        let (Some(block), Some(layout)) = (&self.block, &self.layout) else { return 0 };
        let before = layout.lower_bound(payload(&self.map, block), InternalKey::before_all(user_key));
        before.map_or(0, |before| before.saturating_sub(self.i + 1))
    }

    #[inline]
    fn try_prev(&mut self) -> Option<Stepped> {
        assert!(self.valid, "the iterator is not valid");
        let (before, mut is_newest) = (self.i.checked_sub(1)?, false);
        self.try_stand_with(before, |layout, payload, _, this| {
            // The first one of a block may have newer versions in the block before.
            is_newest = before > 0 && layout.key_differs(payload, before - 1, &this.rest);
            true
        })?;
        Some(Stepped { trailer: self.trailer, is_newest })
    }
}

/// A block's payload: as [`Table::payload`], by a shorter way.
#[inline(always)]
fn payload<'a>(map: &'a Option<Map>, block: &'a Block) -> &'a [u8] {
    match (block, map) {
        // One that the cursor has entered lies in the map; branching is cheaper than choosing.
        (Block::Mapped(range), Some(map)) => map.get(range.clone()).unwrap_or_else(|| nothing()),
        (Block::Cached(block), _) => (**block).as_ref(),
        (Block::Mapped(_), None) => unreachable!("mapped blocks come from a map"),
    }
}

#[cold]
fn nothing() -> &'static [u8] {
    &[]
}

/// Puts a rest of any length behind the prefix.
fn copy_long(key: &mut Vec<u8>, prefix_len: usize, rest: &[u8]) {
    key.truncate(prefix_len);
    key.extend_from_slice(rest);
    key.resize(key.len() + SHORT_BYTES, 0);
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
