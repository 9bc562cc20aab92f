//! [`Table`]: reads a table. Opening reads footer and properties, and range tombstones where there are any ([`open`]); index, filter and blocks are checked when they are first used ([`blocks`]).
//!
//! Invariants
//! - No byte of a block is used before its checksum was found right: once after open if it is read from the map in place, at every
//!   load if it goes into the cache. A block that failed is checked again each time: no failure is remembered as success.
//! - Range tombstones are decoded into memory at open.
//! - With [`Verify::Always`], and with any [`ReadMode`] but [`ReadMode::Map`], what is used are private copies, checked after they were made; nothing is used in a map.

mod blocks;
mod open;

use crate::block::Layout;
use crate::cache::BlockCache;
use crate::error::TableError;
use crate::fetch::prefetch_range;
use crate::filter;
use crate::footer::Footer;
use crate::hash::KeyHash;
use crate::index::Index;
use crate::iter::TableIter;
use crate::properties::Properties;
use crate::source::Bytes;
use esker_format::{InternalKey, SeqNo, Slice, Trailer};
use esker_iterator::RangeTombstones;
use esker_vfs::Map;
use std::fmt;
use std::ops::Range;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};

pub(crate) use blocks::{Block, Fill};
pub use open::{Expect, ReadMode, TableOptions, Verify};

/// An immutable sorted table, open for reading, by any number of threads.
pub struct Table {
    hot: Hot,
    name: Arc<str>,
    footer: Footer,
    properties: Properties,
    ranges: Option<Arc<RangeTombstones>>,
}

/// What a point look-up goes by, in its order, on as few cache lines as hold it.
#[repr(C, align(64))]
struct Hot {
    /// No bytes if there is none.
    filter: OnceLock<Map>,
    /// One bit for each block: whether it was checked. Only for a map.
    checked: Box<[AtomicU64]>,
    /// Unique in this process: the table's blocks go by it in the cache.
    number: u64,
    /// Added to the trailer of every entry: the table-wide sequence number, times 256.
    lift: u64,
    cache: Arc<BlockCache>,
    index: OnceLock<(Index, Map)>,
    bytes: Bytes,
}

/// Where a look-up goes on after the index: a data block, checked.
#[derive(Debug)]
pub struct Spot {
    number: usize,
    block: Block,
}

/// What is fetched of a block before anything in it is known: header, prefix and fingerprints of a block of the usual size.
const BLOCK_START_BYTES: usize = 128;

impl Table {
    /// The table's name, as given at open.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Facts about the table.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// Whether no user key has two versions in it.
    #[inline]
    pub(crate) fn has_one_version_each(&self) -> bool {
        self.properties.user_keys == self.properties.entries
    }

    /// The least and the greatest sequence number of its entries.
    #[inline]
    pub(crate) fn seqs(&self) -> (SeqNo, SeqNo) {
        match self.hot.lift {
            0 => (self.properties.smallest_seq, self.properties.largest_seq),
            lift => (Trailer::from_bits(lift).seq(), Trailer::from_bits(lift).seq()),
        }
    }

    /// The range tombstones, which no look-up or iterator of entries tells of; `None` if there are none.
    #[inline]
    pub fn range_tombstones(&self) -> Option<&Arc<RangeTombstones>> {
        self.ranges.as_ref()
    }

    /// The file's length, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.footer.file_bytes
    }

    /// Bytes of memory that the open table holds, besides blocks in the cache.
    pub fn heap_bytes(&self) -> usize {
        let copied = match self.hot.bytes {
            Bytes::Map(..) => 0,
            Bytes::File(_) => {
                self.hot.index.get().map_or(0, |(_, index)| index.len())
                    + self.hot.filter.get().map_or(0, |map| map.len())
            }
        };
        let keys = self.properties.smallest.user_key.len() + self.properties.largest.user_key.len();
        let ranges = self.ranges.as_ref().map_or(0, |ranges| ranges.heap_bytes());
        size_of::<Self>() + keys + size_of_val(&*self.hot.checked) + copied + ranges
    }

    /// Bytes of address space that the open table maps: all of the file, or nothing.
    pub fn mapped_bytes(&self) -> u64 {
        match &self.hot.bytes {
            Bytes::Map(..) => self.file_bytes(),
            Bytes::File(file) => file.mapped().bytes,
        }
    }

    /// Pages of the file that could not be read, and were made errors ([`ReadMode::GuardedMap`]).
    pub fn unreadable_pages(&self) -> u64 {
        match &self.hot.bytes {
            Bytes::Map(..) => 0,
            Bytes::File(file) => file.mapped().unreadable_pages,
        }
    }

    /// Begins to fetch what [`Table::may_contain`] will look at, if the filter is there already.
    #[inline]
    pub fn prefetch_filter(&self, hash: KeyHash) {
        if let Some(filter) = self.hot.filter.get() {
            filter::prefetch_block(filter, hash);
        }
    }

    /// Whether a user key with this hash may be in the table. Without a filter, always.
    ///
    /// # Errors
    /// The filter, at its first use, could not be read or is damaged.
    #[inline]
    pub fn may_contain(&self, hash: KeyHash) -> Result<bool, TableError> {
        let filter = match self.hot.filter.get() {
            Some(filter) => filter,
            None => self.load_filter()?,
        };
        Ok(filter::may_contain(filter, hash))
    }

    /// The newest version of `user_key` at or below `seq` in this table, a tombstone too. `hash` is `KeyHash::of(user_key)`. The
    /// filter is asked first.
    ///
    /// # Errors
    /// Bytes on the way to the answer could not be read, or are damaged.
    #[inline]
    pub fn get(&self, user_key: &[u8], hash: KeyHash, seq: SeqNo) -> Result<Option<(Trailer, Slice)>, TableError> {
        if !self.may_contain(hash)? {
            return Ok(None);
        }
        self.get_unfiltered(user_key, hash, seq)
    }

    /// [`Table::get`] for callers that have asked the filter already.
    ///
    /// # Errors
    /// As [`Table::get`].
    pub fn get_unfiltered(
        &self,
        user_key: &[u8],
        hash: KeyHash,
        seq: SeqNo,
    ) -> Result<Option<(Trailer, Slice)>, TableError> {
        match self.spot(user_key, seq)? {
            Some(spot) => self.get_at(&spot, user_key, hash, seq),
            None => Ok(None),
        }
    }

    /// The first half of [`Table::get_unfiltered`]: searches the index, and begins to fetch the block it leads to. `None`: the table ends before
    /// `user_key`.
    ///
    /// Look-ups of several keys that all do this, then [`Table::aim`], then [`Table::get_at`], wait for memory together and not one by one.
    ///
    /// # Errors
    /// As [`Table::get`].
    #[inline]
    pub fn spot(&self, user_key: &[u8], seq: SeqNo) -> Result<Option<Spot>, TableError> {
        let (index, bytes) = self.index()?;
        let number = index.find(bytes, InternalKey::seek(user_key, seq)).ok_or_else(|| self.astray())?;
        if number == index.count() {
            return Ok(None);
        }
        let at = index.block(bytes, number).ok_or_else(|| self.astray())?;
        let block = match &self.hot.bytes {
            Bytes::Map(map, _) if !at.compressed => {
                prefetch_range(map, at.range.start, BLOCK_START_BYTES);
                self.mapped_block(map, number, at.range)?
            }
            _ => {
                let block = self.cached_block(number, &at, Fill::Cache)?;
                prefetch_range(self.payload(&block), 0, BLOCK_START_BYTES);
                block
            }
        };
        Ok(Some(Spot { number, block }))
    }

    /// Begins to fetch the entry that [`Table::get_at`] will look at, which waits for the block's start.
    #[inline]
    pub fn aim(&self, spot: &Spot, hash: KeyHash) {
        let payload = self.payload(&spot.block);
        if let Some(layout) = Layout::parse(payload) {
            layout.aim(payload, hash.fingerprint());
        }
    }

    /// The second half of [`Table::get_unfiltered`].
    ///
    /// # Errors
    /// As [`Table::get`].
    #[inline]
    pub fn get_at(
        &self,
        spot: &Spot,
        user_key: &[u8],
        hash: KeyHash,
        seq: SeqNo,
    ) -> Result<Option<(Trailer, Slice)>, TableError> {
        let found = self.find_at(spot, user_key, hash, seq)?;
        Ok(found.map(|(trailer, value)| (trailer, self.slice(&spot.block, value))))
    }

    /// As [`Table::get_at`], without the value.
    ///
    /// # Errors
    /// As [`Table::get`].
    #[inline]
    pub fn trailer_at(
        &self,
        spot: &Spot,
        user_key: &[u8],
        hash: KeyHash,
        seq: SeqNo,
    ) -> Result<Option<Trailer>, TableError> {
        Ok(self.find_at(spot, user_key, hash, seq)?.map(|(trailer, _)| trailer))
    }

    #[inline(always)]
    fn find_at(
        &self,
        spot: &Spot,
        user_key: &[u8],
        hash: KeyHash,
        seq: SeqNo,
    ) -> Result<Option<(Trailer, Range<usize>)>, TableError> {
        let payload = self.payload(&spot.block);
        let read = || {
            let layout = Layout::parse(payload)?.lifted(self.hot.lift);
            let i = layout.find(payload, InternalKey::seek(user_key, seq), hash.fingerprint())?;
            if i == layout.count {
                return Some(None);
            }
            Some(Some((layout.trailer(payload, i)?, layout.entry(payload, i)?.value)))
        };
        read().ok_or_else(|| self.damaged(spot.number, &spot.block))
    }

    /// A cursor over all versions in the table. Not placed yet.
    pub fn iter(self: &Arc<Self>) -> TableIter {
        TableIter::new(Arc::clone(self), Fill::Cache)
    }

    /// As [`Table::iter`], for walks over much of a table: blocks that it loads are not kept in the cache.
    pub fn iter_once(self: &Arc<Self>) -> TableIter {
        TableIter::new(Arc::clone(self), Fill::Nothing)
    }

    /// As [`Table::iter_once`], for who makes a new table of this one, as compaction does: each block is checked when it is entered, also one in a map that was checked before. What the
    /// device has lost meanwhile would else get a checksum that passes.
    pub fn iter_checked(self: &Arc<Self>) -> TableIter {
        TableIter::new(Arc::clone(self), Fill::Anew)
    }

    /// What is added to the trailers of all entries.
    #[inline]
    pub(crate) fn lift(&self) -> u64 {
        self.hot.lift
    }
    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }
}

impl fmt::Debug for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Properties { entries, smallest, largest, .. } = &self.properties;
        write!(f, "Table({}: {entries} entries, {smallest:?} to {largest:?})", self.name)
    }
}

#[cfg(test)]
pub(crate) mod tests;
