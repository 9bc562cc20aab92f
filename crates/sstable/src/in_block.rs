//! [`InBlock`]: an entry of a block, and the way to its neighbours in it.

use crate::block::{Entry, HEADER_BYTES, Layout};
use crate::table::Block;
use crate::words::load_le;
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
    /// If the table is mapped: the payload, unless the block is a copy.
    window: Option<Map>,
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
    /// Nowhere yet, in a table that has this map, if it is mapped.
    pub(crate) fn new(map: Option<Map>) -> Self {
        Self {
            window: map,
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
        Some((self.layout.as_ref()?, payload(&self.window, &self.block)))
    }

    #[inline(always)]
    pub(crate) fn internal_key(&self) -> InternalKey<'_> {
        InternalKey { user_key: self.key(), trailer: self.trailer }
    }

    /// Enters a block of the table with this map, if it is mapped, whose entries have `lift` added to their trailers. `None` if its header can't be read; then it is in the block, and on no entry.
    pub(crate) fn enter(&mut self, map: Option<&Map>, block: Block, lift: u64) -> Option<()> {
        self.layout = None;
        let block = self.block.insert(block);
        if let (Block::Mapped(range), Some(window), Some(map)) = (block, &mut self.window, map) {
            window.move_to(map, range.clone()).then_some(())?;
        }
        let payload = payload(&self.window, &self.block);
        let layout = Layout::parse(payload)?;
        let prefix = layout.prefix(payload)?;
        self.prefix_len = prefix.len();
        if self.key.len() < prefix.len() + SHORT_BYTES {
            self.key.resize(prefix.len() + SHORT_BYTES, 0);
        }
        match (self.key.first_chunk_mut::<SHORT_BYTES>(), payload[HEADER_BYTES..].first_chunk::<SHORT_BYTES>()) {
            (Some(key), Some(start)) if prefix.len() <= SHORT_BYTES => *key = *start,
            _ => self.key[..prefix.len()].copy_from_slice(prefix),
        }
        self.layout = Some(layout.lifted(lift));
        Some(())
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
        let payload = payload(&self.window, &self.block);
        let entry = layout.entry(payload, i)?;
        if !stands(layout, payload, &self.entry, &entry) {
            return None;
        }
        self.trailer = layout.trailer(payload, i)?;
        let (from, len) = (entry.rest.start, entry.rest.len());
        self.key_len = self.prefix_len + len;
        let room = self.key.get_mut(self.prefix_len..).and_then(|key| key.first_chunk_mut::<SHORT_BYTES>());
        match room {
            Some(room) if len <= WORD_BYTES => {
                room[..WORD_BYTES].copy_from_slice(&load_le(payload, from).to_le_bytes())
            }
            _ => copy_longer(&mut self.key, self.prefix_len, payload, entry.rest.clone())?,
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

/// Steps are calls, so that whoever makes them stays small.
impl Lent for InBlock {
    #[inline(never)]
    fn next(&mut self) -> bool {
        self.try_stand(self.i + 1).is_some()
    }

    #[inline(never)]
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
        &payload(&self.window, &self.block)[self.entry.value.clone()]
    }
}

/// The payload of the block that was entered.
#[inline(always)]
fn payload<'a>(window: &'a Option<Map>, block: &'a Option<Block>) -> &'a [u8] {
    match (block, window) {
        (Some(Block::Cached(copy)), _) => (**copy).as_ref(),
        (_, Some(window)) => window,
        _ => &[],
    }
}

/// Puts the rest of a key, of any length, behind the prefix.
#[inline(never)]
fn copy_longer(key: &mut Vec<u8>, prefix_len: usize, payload: &[u8], rest: Range<usize>) -> Option<()> {
    let room = key.get_mut(prefix_len..).and_then(|key| key.first_chunk_mut::<SHORT_BYTES>());
    match (room, payload.get(rest.start..).and_then(|rest| rest.first_chunk::<SHORT_BYTES>())) {
        (Some(room), Some(start)) if rest.len() <= SHORT_BYTES => *room = *start,
        _ => {
            key.truncate(prefix_len);
            key.extend_from_slice(payload.get(rest)?);
            key.resize(key.len() + SHORT_BYTES, 0);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::block::BlockBuilder;
    use crate::cache::CachedBlock;
    use crate::hash::KeyHash;
    use esker_format::{SeqNo, ValueKind, common_prefix};
    use std::sync::Arc;

    fn block(user_keys: &[&[u8]]) -> Block {
        let mut builder = BlockBuilder::default();
        for user_key in user_keys {
            let shared = common_prefix(builder.last_user_key(), user_key);
            let key = InternalKey::new(user_key, SeqNo(7), ValueKind::Put);
            builder.add(key, KeyHash::of(user_key), user_key, shared);
        }
        let mut payload = Vec::new();
        builder.finish_into(&mut payload);
        let len = payload.len();
        Block::Cached(Arc::new(CachedBlock::new(payload.into(), len)))
    }

    /// Short keys come behind long ones, of which something could be left.
    #[test]
    fn steps_lead_to_every_entry_and_back_to_the_first() {
        let long = [b'c'; 100];
        let mut at = InBlock::new(None);
        for user_keys in
            [&[&b"a"[..], b"bbbbbbbbb", &long, b"d"][..], &[b"key-a", b"key-b"], &[b""], &[&long], &[b"", &long]]
        {
            at.enter(None, block(user_keys), 0).unwrap();
            let mut found: Vec<Vec<u8>> = Vec::new();
            let mut see = |at: &InBlock| {
                assert_eq!((at.key(), at.trailer().seq()), (at.value(), SeqNo(7)));
                found.push(at.key().to_vec());
            };
            at.try_stand(0).unwrap();
            see(&at);
            for i in 1..user_keys.len() {
                assert!(at.next() && at.i() == i);
                see(&at);
            }
            for i in (0..user_keys.len() - 1).rev() {
                assert!(at.prev() && at.i() == i);
                see(&at);
            }
            assert!(!at.prev() && at.i() == 0, "there is none before the first");
            assert_eq!(at.key(), user_keys[0]);
            let back = user_keys.iter().rev().skip(1);
            assert_eq!(found, user_keys.iter().chain(back).map(|key| key.to_vec()).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_memory_held_is_that_of_the_longest_key() {
        let (long, longer) = (vec![b'k'; 20_000], vec![b'k'; 30_000]);
        for user_keys in [&[&b"a"[..], &long][..], &[&long], &[&long, &longer], &[b"a"]] {
            let mut at = InBlock::new(None);
            at.enter(None, block(user_keys), 0).unwrap();
            at.try_stand(0).unwrap();
            (1..user_keys.len()).for_each(|_| assert!(at.next()));
            let longest = user_keys.iter().map(|key| key.len()).max().unwrap();
            assert!(at.key.capacity() <= 2 * (longest + SHORT_BYTES), "{} for {longest}", at.key.capacity());
        }
    }
}
