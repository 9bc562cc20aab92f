//! The index of a table: fences between its data blocks, and where the blocks are. Used in place; nothing is decoded.
//!
//! ```text
//! +-------+-----------------+-------------+-----------------------+-----------------------+--------+--------+
//! | n u32 | prefix len u32  | heads n*u64 | block offs (n+1)*u64  | fence offs (n+1)*u32  | prefix | fences |
//! +-------+-----------------+-------------+-----------------------+-----------------------+--------+--------+
//! ```
//! Fence i is an internal key at or behind the last key of block i and before the first one of block i+1. A search compares the heads,
//! which lie together, and a whole fence only where heads are equal.

use crate::error::Fault;
use crate::fetch::{prefetch, prefetch_range};
use crate::frame::TRAILER_BYTES;
use esker_format::{InternalKey, Trailer, common_prefix, head_of, strip_prefix};
use std::ops::Range;

const HEADER_BYTES: usize = 8;
/// So few are compared one by one.
const WORDS_OF_A_LINE: usize = 8;
/// Bit 63 of a block's offset.
const COMPRESSED: u64 = 1 << 63;
/// Bit 31 of a fence's offset.
const HAS_TRAILER: u32 = 1 << 31;
const TRAILER_U64_BYTES: usize = 8;

/// An offset that can't be, in an index that passed its checks: it changed since.
pub(crate) const ASTRAY: Fault = Fault::Damaged("offsets beyond the index's end");

/// Where a data block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BlockPlace {
    /// Stored bytes and trailer, in the file.
    pub(crate) range: Range<usize>,
    pub(crate) compressed: bool,
}

/// Where the columns of an index are in its payload.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Index {
    count: usize,
    offsets_at: usize,
    fence_offsets_at: usize,
    prefix_at: usize,
    fences_at: usize,
}

impl Index {
    /// Reads the header and checks every offset: `blocks` data blocks fill the first `data_bytes` of the file.
    pub(crate) fn validate(payload: &[u8], blocks: u64, data_bytes: u64) -> Result<Self, Fault> {
        let Some([n0, n1, n2, n3, p0, p1, p2, p3]) = payload.first_chunk().copied() else {
            return Err(Fault::Damaged("shorter than a header"));
        };
        let count = u32::from_le_bytes([n0, n1, n2, n3]) as usize;
        let prefix_len = u32::from_le_bytes([p0, p1, p2, p3]) as usize;
        if count as u64 != blocks {
            return Err(Fault::Damaged("another number of blocks than the properties say"));
        }
        let offsets_at = HEADER_BYTES + 8 * count;
        let fence_offsets_at = offsets_at + 8 * (count + 1);
        let prefix_at = fence_offsets_at + 4 * (count + 1);
        let index = Self { count, offsets_at, fence_offsets_at, prefix_at, fences_at: prefix_at + prefix_len };
        if index.fences_at > payload.len() {
            return Err(ASTRAY);
        }
        let mut at = 0;
        for i in 0..count {
            let place = index.block(payload, i).ok_or(ASTRAY)?;
            if place.range.start != at || place.range.len() < TRAILER_BYTES {
                return Err(Fault::Damaged("block offsets that do not ascend"));
            }
            at = place.range.end;
        }
        let last = index.offsets(payload).get(count).copied().map(u64::from_le_bytes);
        if at as u64 != data_bytes || last != Some(data_bytes) {
            return Err(Fault::Damaged("blocks that do not end where the properties say"));
        }
        let mut at = index.fences_at;
        for i in 0..count {
            let (range, has_trailer) = index.fence_range(payload, i).ok_or(ASTRAY)?;
            if range.start != at || range.end < at || (has_trailer && range.len() < TRAILER_U64_BYTES) {
                return Err(Fault::Damaged("fence offsets that descend"));
            }
            at = range.end;
        }
        if at == payload.len() { Ok(index) } else { Err(Fault::Damaged("fences that do not fill the index")) }
    }

    /// Number of blocks; none in a table of range tombstones alone.
    #[inline]
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Where block `i` is.
    #[inline]
    pub(crate) fn block(&self, payload: &[u8], i: usize) -> Option<BlockPlace> {
        let offsets = self.offsets(payload);
        let [start, end] = [*offsets.get(i)?, *offsets.get(i + 1)?].map(u64::from_le_bytes);
        let compressed = start & COMPRESSED != 0;
        let (start, end) = ((start & !COMPRESSED) as usize, (end & !COMPRESSED) as usize);
        (start <= end).then_some(BlockPlace { range: start..end, compressed })
    }

    /// The first block whose fence is at or behind `target`; `count` if `target` is behind all fences.
    #[inline]
    pub(crate) fn find(&self, payload: &[u8], target: InternalKey<'_>) -> Option<usize> {
        let prefix = self.prefix(payload)?;
        let Some(rest) = strip_prefix(target.user_key, prefix) else {
            return Some(if target.user_key < prefix { 0 } else { self.count });
        };
        let head = head_of(rest);
        let heads = words(payload.get(HEADER_BYTES..self.offsets_at).unwrap_or(&[]));
        let first = self.first_at_or_behind(payload, heads, head);
        match heads.get(first) {
            Some(fence) if u64::from_le_bytes(*fence) == head => {
                self.find_among_equal(payload, heads, first, rest, target.trailer)
            }
            _ => Some(first),
        }
    }

    /// How many of `heads` are below `head`: `partition_point`, which is the oracle of the tests, with fewer waits. Both heads that the next step may look at
    /// are fetched beside the one that this step waits for, and the offsets of the blocks that are left beside the last ones.
    #[inline]
    fn first_at_or_behind(&self, payload: &[u8], heads: &[[u8; 8]], head: u64) -> usize {
        let (mut low, mut left) = (0, heads.len());
        while left > WORDS_OF_A_LINE {
            let half = left / 2;
            prefetch_head(payload, low + half / 2);
            prefetch_head(payload, low + half + half / 2);
            let is_before = u64::from_le_bytes(heads[low + half]) < head;
            low = std::hint::select_unpredictable(is_before, low + half, low);
            left -= half;
        }
        prefetch_range(payload, self.offsets_at + 8 * low, 8 * (left + 1));
        low + heads[low..low + left].iter().filter(|fence| u64::from_le_bytes(**fence) < head).count()
    }

    fn find_among_equal(
        &self,
        payload: &[u8],
        heads: &[[u8; 8]],
        first: usize,
        rest: &[u8],
        trailer: Trailer,
    ) -> Option<usize> {
        let behind = first + heads[first..].partition_point(|head| *head == heads[first]);
        let (mut low, mut high) = (first, behind);
        while low < high {
            let middle = low + (high - low) / 2;
            let (fence, fence_trailer) = self.fence(payload, middle)?;
            let is_before = fence.cmp(rest).then_with(|| trailer.cmp(&fence_trailer)).is_lt();
            if is_before {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        Some(low)
    }

    /// The common prefix of all fences' user keys.
    #[inline]
    pub(crate) fn prefix<'a>(&self, payload: &'a [u8]) -> Option<&'a [u8]> {
        payload.get(self.prefix_at..self.fences_at)
    }

    /// Fence `i`: user key behind the prefix, and trailer.
    pub(crate) fn fence<'a>(&self, payload: &'a [u8], i: usize) -> Option<(&'a [u8], Trailer)> {
        let (range, has_trailer) = self.fence_range(payload, i)?;
        let fence = payload.get(range)?;
        if !has_trailer {
            return Some((fence, Trailer::MIN));
        }
        let (user_key, trailer) = fence.split_last_chunk::<TRAILER_U64_BYTES>()?;
        Some((user_key, Trailer::from_bits(u64::from_le_bytes(*trailer))))
    }

    /// The head of fence `i`, as stored.
    pub(crate) fn head(&self, payload: &[u8], i: usize) -> Option<u64> {
        words(payload.get(HEADER_BYTES..self.offsets_at)?).get(i).copied().map(u64::from_le_bytes)
    }

    #[inline]
    fn offsets<'a>(&self, payload: &'a [u8]) -> &'a [[u8; 8]] {
        words(payload.get(self.offsets_at..self.fence_offsets_at).unwrap_or(&[]))
    }

    fn fence_range(&self, payload: &[u8], i: usize) -> Option<(Range<usize>, bool)> {
        let offsets = payload.get(self.fence_offsets_at..self.prefix_at)?.as_chunks::<4>().0;
        let [start, end] = [*offsets.get(i)?, *offsets.get(i + 1)?].map(u32::from_le_bytes);
        let at = |offset: u32| self.fences_at + (offset & !HAS_TRAILER) as usize;
        Some((at(start)..at(end), start & HAS_TRAILER != 0))
    }
}

/// Begins to fetch head `i`.
#[inline(always)]
fn prefetch_head(payload: &[u8], i: usize) {
    prefetch(payload, HEADER_BYTES + 8 * i);
}

#[inline]
fn words(bytes: &[u8]) -> &[[u8; 8]] {
    bytes.as_chunks::<8>().0
}

/// Collects fences and blocks while a table is built.
#[derive(Debug, Default)]
pub(crate) struct IndexBuilder {
    blocks: Vec<u64>,
    fences: Vec<u8>,
    ends: Vec<(usize, Option<Trailer>)>,
}

impl IndexBuilder {
    /// Adds the data block at `offset` in the file.
    pub(crate) fn add_block(&mut self, offset: u64, compressed: bool) {
        self.blocks.push(offset | if compressed { COMPRESSED } else { 0 });
    }

    /// Adds the fence behind the last block that was added: `last` is its last key, `next` the first of the block to come.
    pub(crate) fn add_fence(&mut self, last: InternalKey<'_>, next: Option<InternalKey<'_>>) {
        let mut trailer = None;
        match next {
            None => self.fences.extend_from_slice(last.user_key),
            Some(next) if next.user_key != last.user_key => {
                push_separator(&mut self.fences, last.user_key, next.user_key)
            }
            Some(_) => {
                self.fences.extend_from_slice(last.user_key);
                trailer = Some(last.trailer);
            }
        }
        self.ends.push((self.fences.len(), trailer));
    }

    /// Number of blocks.
    pub(crate) fn count(&self) -> usize {
        self.blocks.len()
    }

    /// Bytes that [`IndexBuilder::finish_into`] would append, at most.
    pub(crate) fn payload_bytes(&self) -> usize {
        HEADER_BYTES + 12 + self.ends.len() * (20 + TRAILER_U64_BYTES) + self.fences.len()
    }

    /// Appends the index's payload; the data blocks end at `data_bytes`. `false` if there are more fences than an index can hold.
    #[must_use]
    pub(crate) fn finish_into(&self, data_bytes: u64, out: &mut Vec<u8>) -> bool {
        debug_assert_eq!(self.blocks.len(), self.ends.len());
        let (Ok(count), true) = (u32::try_from(self.blocks.len()), self.payload_bytes() < HAS_TRAILER as usize) else {
            return false;
        };
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        let user_keys = starts.zip(&self.ends).map(|(start, (end, _))| &self.fences[start..*end]);
        // Fences ascend, so what the first and the last share, all share.
        let first_and_last = user_keys.clone().next().zip(user_keys.clone().last());
        let prefix = first_and_last.map_or(0, |(first, last)| common_prefix(first, last));
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&(prefix as u32).to_le_bytes());
        for user_key in user_keys.clone() {
            out.extend_from_slice(&head_of(&user_key[prefix..]).to_le_bytes());
        }
        for offset in self.blocks.iter().chain([&data_bytes]) {
            out.extend_from_slice(&offset.to_le_bytes());
        }
        let mut at = 0;
        for (user_key, (_, trailer)) in user_keys.clone().zip(&self.ends) {
            let flag = if trailer.is_some() { HAS_TRAILER } else { 0 };
            out.extend_from_slice(&(at as u32 | flag).to_le_bytes());
            at += user_key.len() - prefix + if trailer.is_some() { TRAILER_U64_BYTES } else { 0 };
        }
        out.extend_from_slice(&(at as u32).to_le_bytes());
        out.extend_from_slice(&self.fences[..prefix]);
        for (user_key, (_, trailer)) in user_keys.zip(&self.ends) {
            out.extend_from_slice(&user_key[prefix..]);
            if let Some(trailer) = trailer {
                out.extend_from_slice(&trailer.to_bits().to_le_bytes());
            }
        }
        true
    }
}

/// Appends a short user key at or behind `last` and before `next`, where `last` is before `next`.
fn push_separator(out: &mut Vec<u8>, last: &[u8], next: &[u8]) {
    let same = common_prefix(last, next);
    match (last.get(same), next.get(same)) {
        (Some(a), Some(b)) if b - a > 1 => {
            out.extend_from_slice(&last[..same]);
            out.push(a + 1);
        }
        (Some(_), Some(_)) if next.len() > same + 1 => out.extend_from_slice(&next[..=same]),
        _ => out.extend_from_slice(last),
    }
}

#[cfg(test)]
mod tests;
