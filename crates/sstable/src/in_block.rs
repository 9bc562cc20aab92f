//! [`InBlock`]: an entry of a block, and the way to its neighbours in it.

use crate::block::{Entry, HEADER_BYTES, Layout};
use crate::table::Block;
use esker_format::{InternalKey, Trailer};
use esker_iterator::Lent;
use esker_vfs::Map;
use std::ops::Range;

/// Keys' rests up to this length are copied in whole words, without a call.
const SHORT_BYTES: usize = 32;
const WORD_BYTES: usize = 8;

/// The block that a cursor is in, and where in it.
///
/// Allocates nothing from entry to entry, except to hold the longest key so far.
#[derive(Debug)]
pub struct InBlock {
    /// Of the whole table, if it is mapped.
    map: Option<Map>,
    block: Option<Block>,
    layout: Option<Layout>,
    i: usize,
    /// The user key: the block's prefix, then the entry's rest; longer than `key_len`, to leave room for whole words.
    key: Vec<u8>,
    key_len: usize,
    prefix_len: usize,
    trailer: Trailer,
    entry: Entry,
}

impl InBlock {
    /// Nowhere yet.
    pub(crate) fn new(map: Option<Map>) -> Self {
        Self {
            map,
            block: None,
            layout: None,
            i: 0,
            key: Vec::new(),
            key_len: 0,
            prefix_len: 0,
            trailer: Trailer::MIN,
            entry: Entry::default(),
        }
    }

    pub(crate) fn map(&self) -> Option<&Map> {
        self.map.as_ref()
    }

    pub(crate) fn block(&self) -> Option<&Block> {
        self.block.as_ref()
    }

    /// The number of the entry.
    #[inline(always)]
    pub(crate) fn i(&self) -> usize {
        self.i
    }

    /// How many entries the block has.
    #[inline(always)]
    pub(crate) fn count(&self) -> usize {
        self.layout.as_ref().map_or(0, |layout| layout.count)
    }

    /// Where the value is in the payload.
    #[inline]
    pub(crate) fn value_range(&self) -> Range<usize> {
        self.entry.value.clone()
    }

    /// The block's layout and its payload.
    #[inline(always)]
    pub(crate) fn parts(&self) -> Option<(&Layout, &[u8])> {
        Some((self.layout.as_ref()?, payload(&self.map, self.block.as_ref()?)))
    }

    #[inline(always)]
    pub(crate) fn internal_key(&self) -> InternalKey<'_> {
        InternalKey { user_key: self.key(), trailer: self.trailer }
    }

    /// Enters a block, whose entries have `lift` added to their trailers. Gives it back if its header can't be read.
    pub(crate) fn enter(&mut self, block: Block, lift: u64) -> Result<(), Block> {
        let payload = payload(&self.map, &block);
        let Some((layout, prefix)) = Layout::parse(payload).and_then(|layout| Some((layout, layout.prefix(payload)?)))
        else {
            return Err(block);
        };
        self.prefix_len = prefix.len();
        if self.key.len() < prefix.len() + SHORT_BYTES {
            self.key.resize(prefix.len() + SHORT_BYTES, 0);
        }
        match (self.key.first_chunk_mut::<SHORT_BYTES>(), payload[HEADER_BYTES..].first_chunk::<SHORT_BYTES>()) {
            (Some(key), Some(start)) if prefix.len() <= SHORT_BYTES => *key = *start,
            _ => self.key[..prefix.len()].copy_from_slice(prefix),
        }
        self.layout = Some(layout.lifted(lift));
        self.block = Some(block);
        Ok(())
    }

    #[inline(always)]
    pub(crate) fn try_stand(&mut self, i: usize) -> Option<()> {
        self.try_stand_with(i, |_, _, _, _| true)
    }

    /// Stands on entry `i`, if there is one, and `stands` says so of the layout, the payload, the present entry, and the new one.
    #[inline(always)]
    pub(crate) fn try_stand_with(
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
        Some(())
    }
}

impl Default for InBlock {
    fn default() -> Self {
        Self::new(None)
    }
}

impl Lent for InBlock {
    #[inline(always)]
    fn next(&mut self) -> bool {
        self.try_stand(self.i + 1).is_some()
    }

    #[inline(always)]
    fn prev(&mut self) -> bool {
        self.i > 0 && self.try_stand(self.i - 1).is_some()
    }

    #[inline(always)]
    fn key(&self) -> &[u8] {
        &self.key[..self.key_len]
    }

    #[inline(always)]
    fn trailer(&self) -> Trailer {
        self.trailer
    }

    #[inline(always)]
    fn value(&self) -> &[u8] {
        let block = self.block.as_ref().expect("an entry is in a block");
        &payload(&self.map, block)[self.entry.value.clone()]
    }
}

/// A block's payload: as [`crate::Table`] has it, by a shorter way.
#[inline(always)]
fn payload<'a>(map: &'a Option<Map>, block: &'a Block) -> &'a [u8] {
    match (block, map) {
        // One that was entered lies in the map; branching is cheaper than choosing.
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
