//! [`Table`]: reads a table. Opening reads footer and properties, and range tombstones where there are any; index, filter and blocks are checked when they are first used.
//!
//! Invariants
//! - No byte of a block is used before its checksum was found right: once after open if it is read from the map in place, at every
//!   load if it goes into the cache. A block that failed is checked again each time: no failure is remembered as success.
//! - Range tombstones are decoded into memory at open.
//! - With [`Verify::Always`], and with any [`ReadMode`] but [`ReadMode::Map`], what is used are private copies, checked after they were made; nothing is used in a map.

use crate::block::{Layout, diagnose};
use crate::cache::{BlockCache, BlockKey, CachedBlock};
use crate::error::TableError;
use crate::fetch::prefetch_range;
use crate::filter;
use crate::footer::{FOOTER_BYTES, Footer};
use crate::frame::{BlockKind, Codec, Place, TRAILER_BYTES, decompress};
use crate::hash::KeyHash;
use crate::index::{ASTRAY, BlockPlace, Index};
use crate::iter::TableIter;
use crate::properties::Properties;
use crate::source::{Bytes, Region};
use esker_format::{FileId, InternalKey, SeqNo, Slice, Trailer};
use esker_iterator::RangeTombstones;
use esker_vfs::{Map, ReadableFile};
use std::fmt;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

/// When a block's checksum is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum Verify {
    /// At first use after open. What the kernel reads again later is not checked again.
    #[default]
    FirstUse,
    /// Whenever it is loaded into the cache; blocks are only ever read from private copies there.
    Always,
}

/// How a table's bytes are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub enum ReadMode {
    /// Through a map of the file; as [`ReadMode::Pread`] where there are no maps.
    #[default]
    Map,
    /// Into memory: index and filter as long as the table is open, blocks in the cache.
    Pread,
    /// Into memory as [`ReadMode::Pread`], but copied out of a map, without a system call; where there are no such maps, as that. What the device can't give, or another program has cut off,
    /// is an error here too, and not `SIGBUS`: see [`ReadableFile::map_guarded`].
    GuardedMap,
}

/// What the caller knows about the file that it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// The file's length, in bytes.
    pub file_bytes: u64,
    /// The file's id.
    pub file_id: FileId,
    /// The table-wide sequence number: that of every entry. The file, built outside an engine, says 0.
    pub seq: Option<SeqNo>,
}

/// How a table is opened.
#[derive(Debug, Clone)]
pub struct TableOptions {
    /// When blocks are checked.
    pub verify: Verify,
    /// How bytes are read.
    pub read_mode: ReadMode,
    /// Where blocks go that are not read from a map in place.
    pub cache: Arc<BlockCache>,
    /// If given, a file of another length or id is refused.
    pub expect: Option<Expect>,
}

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

/// A data block whose checksum was found right.
#[derive(Debug, Clone)]
pub(crate) enum Block {
    /// The payload, in the map.
    Mapped(Range<usize>),
    /// A copy.
    Cached(Arc<CachedBlock>),
}

/// What is fetched of a block before anything in it is known: header, prefix and fingerprints of a block of the usual size.
const BLOCK_START_BYTES: usize = 128;

/// How much is read at once where a whole table is checked, at the least.
const CHECKED_BYTES: usize = 256 << 10;

/// Whether a block that had to be loaded is kept in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Cache,
    Nothing,
    /// Nothing, and what lies in a map is checked anew though it was before.
    Anew,
}

impl Table {
    /// Opens a table: reads footer and properties, and range tombstones if there are any. `name` is for messages.
    ///
    /// # Errors
    /// The file is not as expected, not a whole table, or of a kind that this version does not know.
    pub fn open(file: Arc<dyn ReadableFile>, name: &str, options: TableOptions) -> Result<Arc<Self>, TableError> {
        static NUMBERS: AtomicU64 = AtomicU64::new(0);
        let name: Arc<str> = name.into();
        let file_bytes = file.len_bytes().map_err(|error| TableError::from_io(&name, "length", error))?;
        let mismatch = |what, expected, found| TableError::Mismatch {
            table: Arc::clone(&name),
            part: BlockKind::Footer,
            offset: file_bytes.saturating_sub(FOOTER_BYTES as u64),
            what,
            expected,
            found,
        };
        if let Some(expect) = options.expect
            && expect.file_bytes != file_bytes
        {
            return Err(mismatch("file length", expect.file_bytes, file_bytes));
        }
        if file_bytes < FOOTER_BYTES as u64 {
            return Err(mismatch("file shorter than a footer:", FOOTER_BYTES as u64, file_bytes));
        }
        let bytes = match (options.read_mode, options.verify) {
            (ReadMode::Map, Verify::FirstUse) => match file.map() {
                Ok(map) if map.len() as u64 != file_bytes => {
                    return Err(mismatch("mapped length", file_bytes, map.len() as u64));
                }
                Ok(map) => Bytes::Map(map.clone(), Arc::new(map)),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Bytes::File(file),
                Err(error) => return Err(TableError::from_io(&name, "map", error)),
            },
            (ReadMode::GuardedMap, _) => match file.map_guarded() {
                Ok(map) => match map.len_bytes() {
                    Ok(len) if len != file_bytes => return Err(mismatch("mapped length", file_bytes, len)),
                    Ok(_) => Bytes::File(map),
                    Err(error) => return Err(TableError::from_io(&name, "length", error)),
                },
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Bytes::File(file),
                Err(error) => return Err(TableError::from_io(&name, "map", error)),
            },
            (ReadMode::Map | ReadMode::Pread, _) => Bytes::File(file),
        };
        let footer = bytes.read_footer(&name, file_bytes)?;
        if let Some(expect) = options.expect
            && expect.file_id != footer.file_id
        {
            return Err(mismatch("file id", expect.file_id.0, footer.file_id.0));
        }
        let properties = bytes.read_properties(&name, &footer)?;
        let lift = match options.expect.and_then(|expect| expect.seq) {
            None => 0,
            // Any other number would be lifted too, beyond what numbers there are.
            Some(_) if properties.largest_seq != SeqNo::ZERO => {
                return Err(mismatch("sequence number of a table built outside:", 0, properties.largest_seq.0));
            }
            Some(_) if footer.ranges.is_some() => {
                return Err(mismatch("range tombstones of a table built outside, at", 0, properties.range_tombstones));
            }
            Some(seq) => Trailer::seek(seq).to_bits() & !0xff,
        };
        let ranges = bytes.read_ranges(&name, &footer, &properties)?;
        let words = if matches!(bytes, Bytes::Map(..)) { properties.blocks.div_ceil(64) } else { 0 };
        let filter = OnceLock::new();
        if footer.filter.is_none() {
            filter.get_or_init(|| Map::from_bytes([]));
        }
        let hot = Hot {
            filter,
            checked: (0..words).map(|_| AtomicU64::new(0)).collect(),
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            lift,
            cache: options.cache,
            index: OnceLock::new(),
            bytes,
        };
        Ok(Arc::new(Self { hot, name, footer, properties, ranges }))
    }

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

    /// The map, if there is one: what mapped blocks lie in.
    pub(crate) fn map(&self) -> Option<&Map> {
        match &self.hot.bytes {
            Bytes::Map(map, _) => Some(map),
            Bytes::File(_) => None,
        }
    }

    /// Has the system begin to read part of the file, if it is mapped: see [`Map::read_ahead`] and [`ReadableFile::read_ahead`].
    pub(crate) fn read_ahead(&self, range: Range<usize>) {
        match &self.hot.bytes {
            Bytes::Map(map, _) => map.read_ahead(range),
            Bytes::File(file) => file.read_ahead(range.start as u64..range.end as u64),
        }
    }

    /// A block's payload.
    #[inline]
    pub(crate) fn payload<'a>(&'a self, block: &'a Block) -> &'a [u8] {
        match (block, &self.hot.bytes) {
            (Block::Mapped(range), Bytes::Map(map, _)) => map.get(range.clone()).unwrap_or(&[]),
            (Block::Cached(block), _) => (**block).as_ref(),
            (Block::Mapped(..), Bytes::File(_)) => unreachable!("mapped blocks come from a map"),
        }
    }

    /// Bytes of a block's payload, copied if short, else pinned.
    #[inline]
    pub(crate) fn slice(&self, block: &Block, range: Range<usize>) -> Slice {
        match (block, &self.hot.bytes) {
            (Block::Mapped(payload), Bytes::Map(_, pin)) => {
                Slice::pinned(pin, payload.start + range.start..payload.start + range.end)
            }
            (Block::Cached(block), _) => Slice::pinned(block, range),
            (Block::Mapped(..), Bytes::File(_)) => unreachable!("mapped blocks come from a map"),
        }
    }

    /// What is added to the trailers of all entries.
    #[inline]
    pub(crate) fn lift(&self) -> u64 {
        self.hot.lift
    }

    /// Number of data blocks.
    pub(crate) fn block_count(&self) -> Result<usize, TableError> {
        Ok(self.index()?.0.count())
    }

    /// The number of the first block that may hold an entry at or behind `target`; the number of blocks if none does.
    #[inline]
    pub(crate) fn find_block(&self, target: InternalKey<'_>) -> Result<usize, TableError> {
        let (index, payload) = self.index()?;
        index.find(payload, target).ok_or_else(|| self.astray())
    }

    /// Data block `number`, checked.
    #[inline]
    pub(crate) fn block(&self, number: usize, fill: Fill) -> Result<Block, TableError> {
        let (index, payload) = self.index()?;
        let at = index.block(payload, number).ok_or_else(|| self.astray())?;
        match &self.hot.bytes {
            Bytes::Map(map, _) if !at.compressed => {
                if fill == Fill::Anew {
                    self.check_anew(map, number, at.range.clone())?;
                }
                self.mapped_block(map, number, at.range)
            }
            _ => self.cached_block(number, &at, fill),
        }
    }

    #[inline]
    fn mapped_block(&self, map: &Map, number: usize, range: Range<usize>) -> Result<Block, TableError> {
        let bit = 1 << (number % 64);
        let bits = self.hot.checked.get(number / 64).ok_or_else(|| self.astray())?;
        // Relaxed: the bit publishes no other memory; the map's bytes were there before it.
        if bits.load(Ordering::Relaxed) & bit == 0 {
            self.check_mapped_block(map, range.clone())?;
            bits.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(Block::Mapped(range.start..range.end.saturating_sub(TRAILER_BYTES)))
    }

    /// Checks a block that was checked before; another will be anyway. Of bytes that had this checksum then, the layout is known to be right.
    #[cold]
    fn check_anew(&self, map: &Map, number: usize, range: Range<usize>) -> Result<(), TableError> {
        let bits = self.hot.checked.get(number / 64).ok_or_else(|| self.astray())?;
        if bits.load(Ordering::Relaxed) & 1 << (number % 64) != 0 {
            let place = self.place(BlockKind::Data, range.start as u64);
            place.check_uncompressed(map.get(range).unwrap_or(&[]))?;
        }
        Ok(())
    }

    #[cold]
    fn check_mapped_block(&self, map: &Map, range: Range<usize>) -> Result<(), TableError> {
        let place = self.place(BlockKind::Data, range.start as u64);
        let payload = place.check_uncompressed(map.get(range).unwrap_or(&[]))?;
        Layout::validate(payload).map_err(|fault| place.fault(fault))?;
        Ok(())
    }

    /// Checks data blocks as they are stored, from `number` on, as many as are worth one call; where they end.
    pub(crate) fn check_blocks(&self, mut number: usize) -> Result<usize, TableError> {
        let (index, payload) = self.index()?;
        let block = |number| index.block(payload, number).ok_or_else(|| self.astray());
        let first = block(number)?;
        if let (Bytes::Map(map, _), false) = (&self.hot.bytes, first.compressed) {
            return self.mapped_block(map, number, first.range).map(|_| number + 1);
        }
        let start = first.range.start;
        let mut places = vec![first.range];
        while number + places.len() < index.count()
            && places[places.len() - 1].end.saturating_sub(start) < CHECKED_BYTES
        {
            places.push(block(number + places.len())?.range);
        }
        let region = self.hot.bytes.read(&self.name, start..places[places.len() - 1].end)?;
        for at in places {
            let place = self.place(BlockKind::Data, at.start as u64);
            let stored = region.bytes().get(at.start.wrapping_sub(start)..at.end.wrapping_sub(start));
            place.check(stored.ok_or_else(|| self.astray())?)?;
            number += 1;
        }
        Ok(number)
    }

    fn cached_block(&self, number: usize, at: &BlockPlace, fill: Fill) -> Result<Block, TableError> {
        let key = BlockKey { table: self.hot.number, block: number as u32 };
        if let Some(block) = self.hot.cache.get(key) {
            return Ok(Block::Cached(block));
        }
        let block = self.load_block(at)?;
        if fill == Fill::Cache {
            self.hot.cache.insert(key, &block);
        }
        Ok(Block::Cached(block))
    }

    /// Reads, checks and decompresses a data block.
    pub(crate) fn load_block(&self, at: &BlockPlace) -> Result<Arc<CachedBlock>, TableError> {
        let place = self.place(BlockKind::Data, at.range.start as u64);
        let region = self.hot.bytes.read(&self.name, at.range.clone())?;
        let (stored, codec) = place.check(region.bytes())?;
        if (codec != Codec::None) != at.compressed {
            return Err(place.damaged("compressed or not, against what the index says"));
        }
        let stored_len = stored.len();
        let (bytes, len) = match region {
            _ if at.compressed => {
                let payload = decompress(stored, codec).map_err(|fault| place.fault(fault))?;
                let len = payload.len();
                (payload.into_boxed_slice(), len)
            }
            Region::Map(_) => (stored.into(), stored_len),
            Region::Heap(bytes) => (bytes, stored_len),
        };
        Layout::validate(&bytes[..len]).map_err(|fault| place.fault(fault))?;
        Ok(Arc::new(CachedBlock::new(bytes, len)))
    }

    /// The error about data block `number`, which was checked and makes no sense now.
    #[cold]
    pub(crate) fn damaged(&self, number: usize, block: &Block) -> TableError {
        let place = self.index().map(|(index, payload)| index.block(payload, number).map_or(0, |at| at.range.start));
        match place {
            Ok(offset) => self.place(BlockKind::Data, offset as u64).fault(diagnose(self.payload(block))),
            Err(error) => error,
        }
    }

    /// The error about an index that was checked and makes no sense now.
    #[cold]
    pub(crate) fn astray(&self) -> TableError {
        self.place(BlockKind::Index, self.footer.index.offset).fault(ASTRAY)
    }

    /// The index, checked, and its payload.
    #[inline]
    pub(crate) fn index(&self) -> Result<(&Index, &[u8]), TableError> {
        let (index, bytes) = match self.hot.index.get() {
            Some(loaded) => loaded,
            None => self.load_index()?,
        };
        Ok((index, bytes))
    }

    #[cold]
    fn load_index(&self) -> Result<&(Index, Map), TableError> {
        let loaded = self.read_index()?;
        Ok(self.hot.index.get_or_init(|| loaded))
    }

    pub(crate) fn read_index(&self) -> Result<(Index, Map), TableError> {
        let place = self.place(BlockKind::Index, self.footer.index.offset);
        let region = self.read_region(&place, self.footer.index.range())?;
        let index = Index::validate(&region, self.properties.blocks, self.properties.data_bytes)
            .map_err(|fault| place.fault(fault))?;
        Ok((index, region))
    }

    #[cold]
    fn load_filter(&self) -> Result<&Map, TableError> {
        let filter = self.read_filter()?.expect("set at open if there is none");
        Ok(self.hot.filter.get_or_init(|| filter))
    }

    pub(crate) fn read_filter(&self) -> Result<Option<Map>, TableError> {
        let Some(handle) = self.footer.filter else { return Ok(None) };
        let place = self.place(BlockKind::Filter, handle.offset);
        let region = self.read_region(&place, handle.range())?;
        if region.is_empty() || region.len() % filter::FILTER_BLOCK_BYTES != 0 {
            return Err(place.damaged("not whole filter blocks"));
        }
        Ok(Some(region))
    }

    /// The payload of a block that is not compressed, checked.
    fn read_region(&self, place: &Place<'_>, range: Range<usize>) -> Result<Map, TableError> {
        self.read_ahead(range.clone());
        let region = self.hot.bytes.read(&self.name, range)?;
        let len = place.check_uncompressed(region.bytes())?.len();
        Ok(region.keep(len))
    }

    pub(crate) fn place(&self, kind: BlockKind, offset: u64) -> Place<'_> {
        Place { table: &self.name, file_id: self.footer.file_id, kind, offset }
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Reads footer and properties again, and looks for anything between the blocks.
    pub(crate) fn verify_outside_blocks(&self) -> Result<(), TableError> {
        let footer = self.hot.bytes.read_footer(&self.name, self.file_bytes())?;
        let properties = self.hot.bytes.read_properties(&self.name, &footer)?;
        let place = self.place(BlockKind::Footer, self.file_bytes() - FOOTER_BYTES as u64);
        let ranges = self.hot.bytes.read_ranges(&self.name, &footer, &properties)?;
        if footer != self.footer || properties != self.properties || ranges != self.ranges {
            return Err(place.damaged("not what it was when the table was opened"));
        }
        let mut at = self.properties.data_bytes as usize;
        for handle in footer.filter.into_iter().chain([footer.index]).chain(footer.ranges).chain([footer.properties]) {
            let gap = self.hot.bytes.read(&self.name, at..handle.range().start)?;
            if gap.bytes().iter().any(|byte| *byte != 0) {
                return Err(place.damaged("something between the blocks"));
            }
            at = handle.range().end;
        }
        if at != self.file_bytes() as usize - FOOTER_BYTES {
            return Err(place.damaged("something in front of the footer"));
        }
        Ok(())
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
