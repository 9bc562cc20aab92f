//! [`TableIter`]: a cursor over all versions in a table.

use crate::block::{Entry, Layout};
use crate::error::{Fault, TableError};
use crate::table::{Block, Fill, Table};
use esker_format::{InternalKey, Slice, Trailer};
use esker_iterator::InternalIterator;
use esker_vfs::Map;
use std::fmt;
use std::sync::Arc;

/// Copies of up to this many bytes are done in one move.
const WORD: usize = 8;

/// A cursor over all versions in a [`Table`], by the contract of [`InternalIterator`]. Owns what it needs.
///
/// Allocates nothing from entry to entry, except to hold the longest key so far.
pub struct TableIter {
    table: Arc<Table>,
    map: Option<Map>,
    fill: Fill,
    /// The block that the cursor is in, and its number, as long as `state` is `At`.
    block: Option<Block>,
    number: usize,
    i: usize,
    state: State,
    /// The user key: the block's prefix, then the entry's rest; longer than `key_len` to leave room for whole words.
    key: Vec<u8>,
    key_len: usize,
    prefix_len: usize,
    trailer: Trailer,
    entry: Entry,
}

enum State {
    At,
    Exhausted,
    Failed(TableError),
}

impl TableIter {
    pub(crate) fn new(table: Arc<Table>, fill: Fill) -> Self {
        Self {
            map: table.map().cloned(),
            table,
            fill,
            block: None,
            number: 0,
            i: 0,
            state: State::Exhausted,
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
        self.table.slice(self.placed(), self.entry.value.clone())
    }

    /// The block that the cursor is in.
    #[inline]
    fn placed(&self) -> &Block {
        match (&self.state, &self.block) {
            (State::At, Some(block)) => block,
            _ => panic!("the iterator is not valid"),
        }
    }

    /// Places the cursor as `place` says; its error sticks.
    #[inline]
    fn place(&mut self, place: impl FnOnce(&mut Self) -> Result<State, TableError>) -> Result<(), TableError> {
        match place(self) {
            Ok(state) => {
                self.state = state;
                Ok(())
            }
            Err(error) => {
                self.state = State::Failed(error.clone());
                Err(error)
            }
        }
    }

    /// The sticking error, or a panic: the answer to a move from nowhere.
    #[cold]
    fn nowhere(&self) -> Result<(), TableError> {
        match &self.state {
            State::Failed(error) => Err(error.clone()),
            _ => panic!("the iterator is not valid"),
        }
    }

    /// Enters block `number`: its layout.
    fn enter(&mut self, number: usize) -> Result<Layout, TableError> {
        let block = self.table.block(number, self.fill)?;
        let layout = *block.layout();
        let payload = payload(&self.map, &block);
        let prefix = layout.prefix(payload).map_err(|fault| self.table.block_fault(number, fault))?;
        self.prefix_len = prefix.len();
        if self.key.len() < prefix.len() {
            self.key.resize(prefix.len(), 0);
        }
        self.key[..prefix.len()].copy_from_slice(prefix);
        self.number = number;
        self.block = Some(block);
        Ok(layout)
    }

    /// Stands on entry `i` of the present block.
    #[inline]
    fn stand(&mut self, i: usize) -> Result<State, TableError> {
        let Some(block) = &self.block else { return Ok(State::Exhausted) };
        match read(payload(&self.map, block), block.layout(), i, &mut self.key, self.prefix_len) {
            Ok((entry, trailer)) => {
                self.i = i;
                self.key_len = self.prefix_len + entry.rest.len();
                self.entry = entry;
                self.trailer = trailer;
                Ok(State::At)
            }
            Err(fault) => Err(self.table.block_fault(self.number, fault)),
        }
    }

    fn first_of(&mut self, number: usize) -> Result<State, TableError> {
        if number >= self.table.block_count()? {
            return Ok(State::Exhausted);
        }
        self.enter(number)?;
        self.stand(0)
    }

    fn last_of(&mut self, number: usize) -> Result<State, TableError> {
        let count = self.enter(number)?.count;
        self.stand(count - 1)
    }

    /// Enters the block where `target` belongs: the number of the first entry at or behind it, maybe behind the block's last. `None` if the target
    /// is behind all blocks.
    fn search(&mut self, target: InternalKey<'_>) -> Result<Option<(usize, usize)>, TableError> {
        let number = self.table.find_block(target)?;
        if number >= self.table.block_count()? {
            return Ok(None);
        }
        let layout = self.enter(number)?;
        let Some(block) = &self.block else { return Ok(None) };
        let i = layout.lower_bound(payload(&self.map, block), target);
        Ok(Some((i.map_err(|fault| self.table.block_fault(number, fault))?, layout.count)))
    }
}

impl InternalIterator for TableIter {
    type Error = TableError;

    #[inline]
    fn valid(&self) -> bool {
        matches!(self.state, State::At)
    }

    fn seek_to_first(&mut self) -> Result<(), TableError> {
        self.place(|this| this.first_of(0))
    }

    fn seek_to_last(&mut self) -> Result<(), TableError> {
        self.place(|this| {
            let last = this.table.block_count()? - 1;
            this.last_of(last)
        })
    }

    fn seek(&mut self, target: InternalKey<'_>) -> Result<(), TableError> {
        self.place(|this| match this.search(target)? {
            None => Ok(State::Exhausted),
            Some((i, count)) if i < count => this.stand(i),
            Some(_) => this.first_of(this.number + 1),
        })
    }

    fn seek_for_prev(&mut self, target: InternalKey<'_>) -> Result<(), TableError> {
        self.place(|this| {
            let Some((i, count)) = this.search(target)? else {
                let last = this.table.block_count()? - 1;
                return this.last_of(last);
            };
            if i < count {
                this.stand(i)?;
                let found = InternalKey { user_key: &this.key[..this.key_len], trailer: this.trailer };
                if found == target {
                    return Ok(State::At);
                }
            }
            match (i, this.number) {
                (0, 0) => Ok(State::Exhausted),
                (0, number) => this.last_of(number - 1),
                (i, _) => this.stand(i - 1),
            }
        })
    }

    #[inline]
    fn next(&mut self) -> Result<(), TableError> {
        let (State::At, Some(block)) = (&self.state, &self.block) else { return self.nowhere() };
        let i = self.i + 1;
        if i < block.layout().count {
            return self.place(|this| this.stand(i));
        }
        self.place(|this| this.first_of(this.number + 1))
    }

    #[inline]
    fn prev(&mut self) -> Result<(), TableError> {
        if !self.valid() {
            return self.nowhere();
        }
        self.place(|this| match (this.i, this.number) {
            (0, 0) => Ok(State::Exhausted),
            (0, number) => this.last_of(number - 1),
            (i, _) => this.stand(i - 1),
        })
    }

    #[inline]
    fn key(&self) -> InternalKey<'_> {
        assert!(self.valid(), "the iterator is not valid");
        InternalKey { user_key: &self.key[..self.key_len], trailer: self.trailer }
    }

    #[inline]
    fn value(&self) -> &[u8] {
        &payload(&self.map, self.placed())[self.entry.value.clone()]
    }
}

/// A block's payload. The same as [`Table::payload`], by a shorter way.
#[inline]
fn payload<'a>(map: &'a Option<Map>, block: &'a Block) -> &'a [u8] {
    match (block, map) {
        (Block::Mapped(range, _), Some(map)) => &map[range.clone()],
        (Block::Mapped(..), None) => unreachable!("mapped blocks come from a map"),
        (Block::Cached(block), _) => (**block).as_ref(),
    }
}

/// Reads entry `i`, and puts its user key's rest behind the prefix in `key`.
#[inline]
fn read(
    payload: &[u8],
    layout: &Layout,
    i: usize,
    key: &mut Vec<u8>,
    prefix_len: usize,
) -> Result<(Entry, Trailer), Fault> {
    let entry = layout.entry(payload, i)?;
    let trailer = layout.trailer(payload, i)?;
    let (from, len) = (entry.rest.start, entry.rest.len());
    if key.len() < prefix_len + len + WORD {
        key.resize(prefix_len + len + WORD, 0);
    }
    match payload.get(from..from + WORD) {
        Some(word) if len <= WORD => key[prefix_len..prefix_len + WORD].copy_from_slice(word),
        _ => key[prefix_len..prefix_len + len].copy_from_slice(&payload[entry.rest.clone()]),
    }
    Ok((entry, trailer))
}

impl fmt::Debug for TableIter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let table = self.table.name();
        match &self.state {
            State::At => write!(f, "TableIter({table}, at {:?})", self.key()),
            State::Exhausted => write!(f, "TableIter({table}, not placed or exhausted)"),
            State::Failed(error) => write!(f, "TableIter({table}, failed: {error})"),
        }
    }
}
