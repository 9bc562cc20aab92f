//! How an open table comes at its blocks, its index and its filter: each checked before a byte of it is used.

use super::Table;
use crate::block::{Layout, diagnose};
use crate::cache::{BlockKey, CachedBlock};
use crate::error::TableError;
use crate::filter;
use crate::frame::{BlockKind, Codec, Place, TRAILER_BYTES, decompress};
use crate::index::{ASTRAY, BlockPlace, Index};
use crate::source::{Bytes, Region};
use esker_format::{InternalKey, Slice};
use esker_vfs::Map;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// A data block whose checksum was found right.
#[derive(Debug, Clone)]
pub(crate) enum Block {
    /// The payload, in the map.
    Mapped(Range<usize>),
    /// A copy.
    Cached(Arc<CachedBlock>),
}

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
    pub(super) fn mapped_block(&self, map: &Map, number: usize, range: Range<usize>) -> Result<Block, TableError> {
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

    pub(super) fn cached_block(&self, number: usize, at: &BlockPlace, fill: Fill) -> Result<Block, TableError> {
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
    pub(super) fn load_filter(&self) -> Result<&Map, TableError> {
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
}
