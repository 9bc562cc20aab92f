//! [`Table`]: reads a table. Opening reads footer and properties; index, filter and blocks are checked when they are first used.
//!
//! Invariants
//! - No byte of a block is used before its checksum was found right: once after open if it is read from the map in place, at every
//!   load if it goes into the cache. A block that failed is checked again each time: no failure is remembered as success.
//! - With [`Verify::Always`], and with [`ReadMode::Pread`], bytes come from private copies; none from a map.

use crate::block::{Layout, diagnose};
use crate::cache::{BlockCache, BlockKey, CachedBlock};
use crate::error::TableError;
use crate::filter;
use crate::footer::{FOOTER_BYTES, Footer};
use crate::frame::{BlockKind, Codec, Place, TRAILER_BYTES, decompress};
use crate::hash::KeyHash;
use crate::index::{ASTRAY, BlockPlace, Index};
use crate::iter::TableIter;
use crate::properties::Properties;
use crate::source::{Bytes, Region};
use esker_format::{FileId, InternalKey, SeqNo, Slice, Trailer};
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
}

/// What the caller knows about the file that it opens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expect {
    /// The file's length, in bytes.
    pub file_bytes: u64,
    /// The file's id.
    pub file_id: FileId,
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
    name: Arc<str>,
    /// Unique in this process: the table's blocks go by it in the cache.
    number: u64,
    bytes: Bytes,
    footer: Footer,
    properties: Properties,
    cache: Arc<BlockCache>,
    index: OnceLock<(Index, Region)>,
    filter: OnceLock<Region>,
    /// One bit for each block: whether it was checked. Only for a map.
    checked: Box<[AtomicU64]>,
}

/// A data block whose checksum was found right.
#[derive(Debug, Clone)]
pub(crate) enum Block {
    /// The payload, in the map.
    Mapped(Range<usize>),
    /// A copy.
    Cached(Arc<CachedBlock>),
}

/// Whether a block that had to be loaded is kept in the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fill {
    Cache,
    Nothing,
}

impl Table {
    /// Opens a table: reads footer and properties. `name` is for messages.
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
                Ok(map) => Bytes::Map(Arc::new(map)),
                Err(error) if error.kind() == io::ErrorKind::Unsupported => Bytes::File(file),
                Err(error) => return Err(TableError::from_io(&name, "map", error)),
            },
            _ => Bytes::File(file),
        };
        let footer = bytes.read_footer(&name, file_bytes)?;
        if let Some(expect) = options.expect
            && expect.file_id != footer.file_id
        {
            return Err(mismatch("file id", expect.file_id.0, footer.file_id.0));
        }
        let properties = bytes.read_properties(&name, &footer)?;
        let words = if matches!(bytes, Bytes::Map(_)) { properties.blocks.div_ceil(64) } else { 0 };
        Ok(Arc::new(Self {
            number: NUMBERS.fetch_add(1, Ordering::Relaxed),
            bytes,
            footer,
            properties,
            cache: options.cache,
            index: OnceLock::new(),
            filter: OnceLock::new(),
            checked: (0..words).map(|_| AtomicU64::new(0)).collect(),
            name,
        }))
    }

    /// The table's name, as given at open.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Facts about the table.
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The file's length, in bytes.
    pub fn file_bytes(&self) -> u64 {
        self.footer.file_bytes
    }

    /// Bytes of memory that the open table holds, besides blocks in the cache.
    pub fn heap_bytes(&self) -> usize {
        let regions = self.index.get().map(|(_, region)| region).into_iter().chain(self.filter.get());
        let keys = self.properties.smallest.user_key.len() + self.properties.largest.user_key.len();
        size_of::<Self>() + keys + size_of_val(&*self.checked) + regions.map(Region::heap_bytes).sum::<usize>()
    }

    /// Bytes of address space that the open table maps: all of the file, or nothing.
    pub fn mapped_bytes(&self) -> u64 {
        match self.bytes {
            Bytes::Map(_) => self.file_bytes(),
            Bytes::File(_) => 0,
        }
    }

    /// Whether a user key with this hash may be in the table. Without a filter, always.
    ///
    /// # Errors
    /// The filter, at its first use, could not be read or is damaged.
    #[inline]
    pub fn may_contain(&self, hash: KeyHash) -> Result<bool, TableError> {
        if self.footer.filter.is_none() {
            return Ok(true);
        }
        let filter = match self.filter.get() {
            Some(filter) => filter,
            None => self.load_filter()?,
        };
        Ok(filter::may_contain(filter.bytes(), hash))
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
        let target = InternalKey::seek(user_key, seq);
        let number = self.find_block(target)?;
        if number == self.block_count()? {
            return Ok(None);
        }
        let block = self.block(number, Fill::Cache)?;
        let payload = self.payload(&block);
        let read = || {
            let layout = Layout::parse(payload)?;
            let i = layout.find(payload, target, hash.fingerprint())?;
            if i == layout.count {
                return Some(None);
            }
            Some(Some((layout.trailer(payload, i)?, layout.entry(payload, i)?.value)))
        };
        match read() {
            Some(Some((trailer, value))) => Ok(Some((trailer, self.slice(&block, value)))),
            Some(None) => Ok(None),
            None => Err(self.damaged(number, &block)),
        }
    }

    /// A cursor over all versions in the table. Not placed yet.
    pub fn iter(self: &Arc<Self>) -> TableIter {
        TableIter::new(Arc::clone(self), Fill::Cache)
    }

    /// As [`Table::iter`], for walks over much of a table, as compaction's: blocks that it loads are not kept in the cache.
    pub fn iter_once(self: &Arc<Self>) -> TableIter {
        TableIter::new(Arc::clone(self), Fill::Nothing)
    }

    /// The map, if there is one: what mapped blocks lie in.
    pub(crate) fn map(&self) -> Option<&Map> {
        match &self.bytes {
            Bytes::Map(map) => Some(map),
            Bytes::File(_) => None,
        }
    }

    /// A block's payload.
    #[inline]
    pub(crate) fn payload<'a>(&'a self, block: &'a Block) -> &'a [u8] {
        match (block, &self.bytes) {
            (Block::Mapped(range), Bytes::Map(map)) => map.get(range.clone()).unwrap_or(&[]),
            (Block::Cached(block), _) => (**block).as_ref(),
            (Block::Mapped(..), Bytes::File(_)) => unreachable!("mapped blocks come from a map"),
        }
    }

    /// Bytes of a block's payload, copied if short, else pinned.
    #[inline]
    pub(crate) fn slice(&self, block: &Block, range: Range<usize>) -> Slice {
        match (block, &self.bytes) {
            (Block::Mapped(payload), Bytes::Map(map)) => {
                Slice::pinned(map, payload.start + range.start..payload.start + range.end)
            }
            (Block::Cached(block), _) => Slice::pinned(block, range),
            (Block::Mapped(..), Bytes::File(_)) => unreachable!("mapped blocks come from a map"),
        }
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
        match &self.bytes {
            Bytes::Map(map) if !at.compressed => self.mapped_block(map, number, at.range),
            _ => self.cached_block(number, &at, fill),
        }
    }

    #[inline]
    fn mapped_block(&self, map: &Map, number: usize, range: Range<usize>) -> Result<Block, TableError> {
        let bit = 1 << (number % 64);
        let bits = self.checked.get(number / 64).ok_or_else(|| self.astray())?;
        // Relaxed: the bit publishes no other memory; the map's bytes were there before it.
        if bits.load(Ordering::Relaxed) & bit == 0 {
            self.check_mapped_block(map, range.clone())?;
            bits.fetch_or(bit, Ordering::Relaxed);
        }
        Ok(Block::Mapped(range.start..range.end.saturating_sub(TRAILER_BYTES)))
    }

    #[cold]
    fn check_mapped_block(&self, map: &Map, range: Range<usize>) -> Result<(), TableError> {
        let place = self.place(BlockKind::Data, range.start as u64);
        let payload = place.check_uncompressed(map.get(range).unwrap_or(&[]))?;
        Layout::validate(payload).map_err(|fault| place.fault(fault))?;
        Ok(())
    }

    fn cached_block(&self, number: usize, at: &BlockPlace, fill: Fill) -> Result<Block, TableError> {
        let key = BlockKey { table: self.number, block: number as u32 };
        if let Some(block) = self.cache.get(key) {
            return Ok(Block::Cached(block));
        }
        let block = self.load_block(at)?;
        if fill == Fill::Cache {
            self.cache.insert(key, &block);
        }
        Ok(Block::Cached(block))
    }

    /// Reads, checks and decompresses a data block.
    pub(crate) fn load_block(&self, at: &BlockPlace) -> Result<Arc<CachedBlock>, TableError> {
        let place = self.place(BlockKind::Data, at.range.start as u64);
        let region = self.bytes.read(&self.name, at.range.clone())?;
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
            Region::Map(..) => (stored.into(), stored_len),
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
    fn astray(&self) -> TableError {
        self.place(BlockKind::Index, self.footer.index.offset).fault(ASTRAY)
    }

    /// The index, checked, and its payload.
    #[inline]
    pub(crate) fn index(&self) -> Result<(&Index, &[u8]), TableError> {
        let (index, region) = match self.index.get() {
            Some(loaded) => loaded,
            None => self.load_index()?,
        };
        Ok((index, region.bytes()))
    }

    #[cold]
    fn load_index(&self) -> Result<&(Index, Region), TableError> {
        let loaded = self.read_index()?;
        Ok(self.index.get_or_init(|| loaded))
    }

    pub(crate) fn read_index(&self) -> Result<(Index, Region), TableError> {
        let place = self.place(BlockKind::Index, self.footer.index.offset);
        let region = self.read_region(&place, self.footer.index.range())?;
        let index = Index::validate(region.bytes(), self.properties.blocks, self.properties.data_bytes)
            .map_err(|fault| place.fault(fault))?;
        Ok((index, region))
    }

    #[cold]
    fn load_filter(&self) -> Result<&Region, TableError> {
        let region = self.read_filter()?.expect("asked for only if there is a filter");
        Ok(self.filter.get_or_init(|| region))
    }

    pub(crate) fn read_filter(&self) -> Result<Option<Region>, TableError> {
        let Some(handle) = self.footer.filter else { return Ok(None) };
        let place = self.place(BlockKind::Filter, handle.offset);
        let region = self.read_region(&place, handle.range())?;
        if region.bytes().is_empty() || region.bytes().len() % filter::FILTER_BLOCK_BYTES != 0 {
            return Err(place.damaged("not whole filter blocks"));
        }
        Ok(Some(region))
    }

    /// The payload of a block that is not compressed, checked.
    fn read_region(&self, place: &Place<'_>, range: Range<usize>) -> Result<Region, TableError> {
        let region = self.bytes.read(&self.name, range)?;
        let len = place.check_uncompressed(region.bytes())?.len();
        Ok(match region {
            Region::Map(map, range) => Region::Map(map, range.start..range.start + len),
            Region::Heap(bytes) => {
                let mut bytes = bytes.into_vec();
                bytes.truncate(len);
                Region::Heap(bytes.into())
            }
        })
    }

    pub(crate) fn place(&self, kind: BlockKind, offset: u64) -> Place<'_> {
        Place { table: &self.name, file_id: self.footer.file_id, kind, offset }
    }

    pub(crate) fn footer(&self) -> &Footer {
        &self.footer
    }

    /// Reads footer and properties again, and looks for anything between the blocks.
    pub(crate) fn verify_outside_blocks(&self) -> Result<(), TableError> {
        let footer = self.bytes.read_footer(&self.name, self.file_bytes())?;
        let properties = self.bytes.read_properties(&self.name, &footer)?;
        let place = self.place(BlockKind::Footer, self.file_bytes() - FOOTER_BYTES as u64);
        if footer != self.footer || properties != self.properties {
            return Err(place.damaged("not what it was when the table was opened"));
        }
        let mut at = self.properties.data_bytes as usize;
        for handle in footer.filter.into_iter().chain([footer.index, footer.properties]) {
            let gap = self.bytes.read(&self.name, at..handle.range().start)?;
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
