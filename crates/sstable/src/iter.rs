//! [`TableIter`]: a cursor over all versions in a table.

use crate::block::{Entry, HEADER_BYTES, Layout};
use crate::error::TableError;
use crate::table::{Block, Fill, Table};
use esker_format::{InternalKey, Slice, Trailer};
use esker_iterator::InternalIterator;
use esker_vfs::Map;
use std::fmt;
use std::sync::Arc;

/// Keys' rests up to this length are copied in whole words, without a call.
const SHORT_BYTES: usize = 32;
const WORD_BYTES: usize = 8;

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
        }
    }

    /// The entry's value as a [`Slice`]: copied if short, else pinning the block or the map.
    ///
    /// # Panics
    /// If the iterator is not valid.
    pub fn value_slice(&self) -> Slice {
        assert!(self.valid, "the iterator is not valid");
        let block = self.block.as_ref().expect("a valid iterator is in a block");
        self.table.slice(block, self.entry.value.clone())
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
    }

    /// Enters block `number`: how many entries it has.
    fn enter(&mut self, number: usize) -> Result<usize, TableError> {
        let block = self.table.block(number, self.fill)?;
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
        self.layout = Some(layout);
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
        let layout = self.layout.as_ref()?;
        let payload = payload(&self.map, self.block.as_ref()?);
        let entry = layout.entry(payload, i)?;
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

    fn last(&mut self) -> Result<(), TableError> {
        let blocks = self.table.block_count()?;
        self.last_of(blocks - 1)
    }

    /// Enters the block where `target` belongs: the number of the first entry at or behind it, and how many there are, which is the former
    /// if the entry is the next block's first. `None` if the target is behind all blocks.
    fn search(&mut self, target: InternalKey<'_>) -> Result<Option<(usize, usize)>, TableError> {
        let number = self.table.find_block(target)?;
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

    fn seek_in_table(&mut self, target: InternalKey<'_>) -> Result<(), TableError> {
        match self.search(target)? {
            None => Ok(()),
            Some((i, count)) if i < count => self.stand(i),
            Some(_) => self.first_of(self.number + 1),
        }
    }

    fn seek_for_prev_in_table(&mut self, target: InternalKey<'_>) -> Result<(), TableError> {
        let Some((i, count)) = self.search(target)? else { return self.last() };
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
        self.reset();
        let result = self.seek_in_table(target);
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
        let within = self.layout.as_ref().is_some_and(|layout| i < layout.count);
        if within && self.try_stand(i).is_some() {
            return Ok(());
        }
        let result = if within { self.fall() } else { self.first_of(self.number + 1) };
        self.keep_error(result)
    }

    #[inline]
    fn prev(&mut self) -> Result<(), TableError> {
        if !self.valid {
            return self.nowhere();
        }
        if self.i > 0 && self.try_stand(self.i - 1).is_some() {
            return Ok(());
        }
        let result = if self.i > 0 { self.fall() } else { self.before(0) };
        self.keep_error(result)
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
}

/// A block's payload: as [`Table::payload`], by a shorter way.
#[inline(always)]
fn payload<'a>(map: &'a Option<Map>, block: &'a Block) -> &'a [u8] {
    match (block, map) {
        (Block::Mapped(range), Some(map)) => map.get(range.clone()).unwrap_or(&[]),
        (Block::Cached(block), _) => (**block).as_ref(),
        (Block::Mapped(_), None) => unreachable!("mapped blocks come from a map"),
    }
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
