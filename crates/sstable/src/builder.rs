//! [`Builder`]: writes a table, front to back.

use crate::block::BlockBuilder;
use crate::error::{Fault, TableError};
use crate::filter;
use crate::footer::{Footer, Handle};
use crate::frame::{BlockKind, Codec, Compressor, Place, TRAILER_BYTES, seal};
use crate::hash::KeyHash;
use crate::index::IndexBuilder;
use crate::properties::Properties;
use crate::ranges;
use esker_format::{
    ExpiryCount, FileId, InternalKey, KEY_BYTES_MAX, SeqNo, Trailer, VALUE_BYTES_MAX, ValueKind, common_prefix,
    expiry::decode_expiry,
};
use esker_iterator::{Fragments, RangeTombstones};
use esker_vfs::{PIECE_BYTES, WritableFile, whole_pieces};
use std::cmp::Ordering;
use std::fmt;
use std::sync::Arc;

/// Where filter and index start, so that no probe touches two cache lines.
const ALIGNMENT: u64 = 64;
/// Blocks of many entries have offsets of 32 bits.
const BLOCK_SIZE_BYTES_MAX: usize = 16 << 20;
const FILTER_BITS_PER_KEY_MAX: u32 = 64;

/// How a table is built.
#[derive(Debug, Clone)]
pub struct BuilderOptions {
    /// The file's id: random, and known to whoever opens the table.
    pub file_id: FileId,
    /// Data blocks are cut before they get longer than this, in bytes, uncompressed. At most 16 MiB; more counts as that. Default: 4,096.
    pub block_size_bytes: usize,
    /// How data blocks are compressed. Default: not.
    pub codec: Codec,
    /// Filter bits per user key; 0: no filter. At most 64; more counts as that. Default: 12, with which one miss in 180 is not seen
    /// by the filter.
    pub filter_bits_per_key: u32,
    /// When, in milliseconds since 1970-01-01 UTC. Default: 0.
    pub created_unix_ms: u64,
    /// How much is gathered before it is handed to the file, in bytes. Default: [`PIECE_BYTES`], with which a map of the table can have the largest pages.
    pub piece_bytes: usize,
}

impl Default for BuilderOptions {
    fn default() -> Self {
        Self {
            file_id: FileId(0),
            block_size_bytes: 4096,
            codec: Codec::None,
            filter_bits_per_key: 12,
            created_unix_ms: 0,
            piece_bytes: PIECE_BYTES,
        }
    }
}

/// What [`Builder::finish`] has written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Built {
    /// The file's length, in bytes.
    pub file_bytes: u64,
    /// The table's properties.
    pub properties: Properties,
}

/// Writes a table of entries that come in internal-key order.
///
/// Holds one block, a write buffer, and, until the end, 8 bytes for each user key, as many for each entry that expires, and the fences of the index. After an error of the file the
/// table is lost: every further call gives the same error.
pub struct Builder {
    file: Box<dyn WritableFile>,
    name: Arc<str>,
    options: BuilderOptions,
    compressor: Compressor,
    block: BlockBuilder,
    payload: Vec<u8>,
    index: IndexBuilder,
    hashes: Vec<u64>,
    /// Written to the file when long enough; begins at `flushed_bytes` in the file.
    buffer: Vec<u8>,
    flushed_bytes: u64,
    /// The last user key of the blocks that have ended; that of the block at hand is in there.
    ended_user_key: Vec<u8>,
    last_trailer: Trailer,
    properties: Properties,
    expiries: ExpiryCount,
    /// The layers of range tombstones, the newest first.
    ranges: Vec<Arc<Fragments>>,
    failed: Option<TableError>,
}

impl Builder {
    /// Starts a table in an empty file. `name` is for messages.
    ///
    /// # Errors
    /// This build does not have the codec.
    pub fn new(file: Box<dyn WritableFile>, name: &str, mut options: BuilderOptions) -> Result<Self, TableError> {
        let name: Arc<str> = name.into();
        options.block_size_bytes = options.block_size_bytes.min(BLOCK_SIZE_BYTES_MAX);
        options.filter_bits_per_key = options.filter_bits_per_key.min(FILTER_BITS_PER_KEY_MAX);
        let Some(compressor) = Compressor::new(options.codec) else {
            let place = Place { table: &name, file_id: options.file_id, kind: BlockKind::Data, offset: 0 };
            return Err(place.fault(Fault::Unsupported { what: "codec", found: options.codec as u64 }));
        };
        let properties = Properties {
            file_id: options.file_id,
            codec: options.codec,
            block_size_bytes: options.block_size_bytes as u64,
            filter_bits_per_key: options.filter_bits_per_key,
            smallest_seq: SeqNo::MAX,
            created_unix_ms: options.created_unix_ms,
            ..Properties::unset()
        };
        Ok(Self {
            file,
            name,
            options,
            compressor,
            block: BlockBuilder::default(),
            payload: Vec::new(),
            index: IndexBuilder::default(),
            hashes: Vec::new(),
            buffer: Vec::new(),
            flushed_bytes: 0,
            ended_user_key: Vec::new(),
            last_trailer: Trailer::MAX,
            properties,
            expiries: ExpiryCount::default(),
            ranges: Vec::new(),
            failed: None,
        })
    }

    /// Adds an entry, which must sort behind all those added before.
    ///
    /// # Errors
    /// `OutOfOrder` or `TooLong`: the entry was not added, and the builder can go on. Else the file failed.
    #[inline]
    pub fn add(&mut self, key: InternalKey<'_>, value: &[u8]) -> Result<(), TableError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let kind = self.check(key, value)?;
        let expiry = if kind.expires() { Some(self.expiry_of(value)?) } else { None };
        // One look at both keys says how they sort, whether they are the same, and what the block's prefix may be.
        let shared = common_prefix(self.last_user_key(), key.user_key);
        let is_new_user_key = self.check_order(key, shared)?;
        let payload_bytes_max = self.options.block_size_bytes.saturating_sub(TRAILER_BYTES);
        if self.block.count() > 0 && !self.block.has_room(key, value.len(), shared, payload_bytes_max) {
            self.end_block(Some(key))?;
        }
        let hash = KeyHash::of(key.user_key);
        self.block.add(key, hash, value, shared);
        let properties = &mut self.properties;
        if properties.entries == 0 {
            properties.smallest = key.to_buf();
        }
        properties.entries += 1;
        properties.deletions += u64::from(kind == ValueKind::Delete);
        properties.raw_key_bytes += key.user_key.len() as u64;
        properties.raw_value_bytes += value.len() as u64;
        properties.smallest_seq = properties.smallest_seq.min(key.trailer.seq());
        properties.largest_seq = properties.largest_seq.max(key.trailer.seq());
        if let Some(expiry) = expiry {
            self.expiries.add(expiry);
        }
        if is_new_user_key {
            properties.user_keys += 1;
            if self.options.filter_bits_per_key > 0 {
                self.hashes.push(hash.to_bits());
            }
        }
        self.last_trailer = key.trailer;
        Ok(())
    }

    /// Adds a layer of range tombstones: those between which no reader can be. All of it is older than the layers added before. At any time before the end; entries have no part in the
    /// order.
    ///
    /// # Errors
    /// `BadLayer`: it was not added, and the builder can go on.
    pub fn add_range_tombstones(&mut self, layer: impl Into<Arc<Fragments>>) -> Result<(), TableError> {
        if let Some(error) = &self.failed {
            return Err(error.clone());
        }
        let layer = layer.into();
        if let Some(what) = ranges::check_layer(&layer, &self.ranges) {
            return Err(TableError::BadLayer { table: Arc::clone(&self.name), what });
        }
        self.ranges.push(layer);
        Ok(())
    }

    /// Bytes of the file, were it finished now. Compression of the block at hand is not foreseen.
    pub fn estimated_bytes(&self) -> u64 {
        let filter = self.hashes.len() as u64 * u64::from(self.options.filter_bits_per_key) / 8;
        self.offset() + (self.block.payload_bytes() + self.index.payload_bytes()) as u64 + filter + 512
    }

    /// Entries added so far.
    pub fn entries(&self) -> u64 {
        self.properties.entries
    }

    /// Writes what is left and syncs the file.
    ///
    /// # Durability
    /// On return the file's bytes are on stable storage; its name is so when the directory is synced, which is the caller's.
    ///
    /// # Errors
    /// `Empty` if nothing was added, no range tombstones either; else the file failed, and nothing is known about it.
    pub fn finish(mut self) -> Result<Built, TableError> {
        if let Some(error) = self.failed {
            return Err(error);
        }
        if self.properties.entries > 0 {
            self.properties.largest = self.last().to_buf();
            self.end_block(None)?;
        } else if self.ranges.is_empty() {
            return Err(TableError::Empty { table: self.name });
        }
        let expiries = std::mem::take(&mut self.expiries);
        self.properties.expiries = expiries.finish(self.properties.entries, self.properties.deletions);
        let data_bytes = self.offset();
        self.properties.blocks = self.index.count() as u64;
        self.properties.data_bytes = data_bytes;
        let mut filter = None;
        if self.options.filter_bits_per_key > 0 {
            self.align();
            let bytes = filter::build(&self.hashes, self.options.filter_bits_per_key);
            let handle = self.write_block(BlockKind::Filter, &bytes)?;
            self.properties.filter_bytes = handle.range().len() as u64;
            filter = Some(handle);
        }
        self.align();
        let mut bytes = Vec::new();
        if !self.index.finish_into(data_bytes, &mut bytes) {
            let (bytes, bytes_max) = (self.index.payload_bytes() as u64, i32::MAX as u64);
            return Err(TableError::TooLong { table: self.name, what: "index", bytes, bytes_max });
        }
        let index = self.write_block(BlockKind::Index, &bytes)?;
        self.properties.index_bytes = index.range().len() as u64;
        let mut ranges = None;
        if !self.ranges.is_empty() {
            ranges = Some(self.write_block(BlockKind::RangeTombstones, &ranges::encode(&self.ranges))?);
            self.properties.count_ranges(&RangeTombstones::new(std::mem::take(&mut self.ranges)));
        }
        let properties = self.write_block(BlockKind::Properties, &self.properties.encode())?;
        let file_bytes = self.offset() + crate::footer::FOOTER_BYTES as u64;
        let footer = Footer { properties, index, filter, ranges, file_id: self.options.file_id, file_bytes };
        self.buffer.extend_from_slice(&footer.encode());
        self.flush(self.buffer.len())?;
        self.file.sync().map_err(|error| TableError::from_io(&self.name, "sync", error))?;
        Ok(Built { file_bytes, properties: self.properties })
    }

    /// The kind of an entry that may be added.
    #[inline]
    fn check(&self, key: InternalKey<'_>, value: &[u8]) -> Result<ValueKind, TableError> {
        let too_long = |what, bytes: usize, bytes_max: usize| TableError::TooLong {
            table: Arc::clone(&self.name),
            what,
            bytes: bytes as u64,
            bytes_max: bytes_max as u64,
        };
        if key.user_key.len() > KEY_BYTES_MAX {
            return Err(too_long("key", key.user_key.len(), KEY_BYTES_MAX));
        }
        if value.len() > VALUE_BYTES_MAX {
            return Err(too_long("value", value.len(), VALUE_BYTES_MAX));
        }
        let kind = key.trailer.try_kind(0).map_err(|source| TableError::Field {
            table: Arc::clone(&self.name),
            part: BlockKind::Data,
            offset: self.offset(),
            source,
        })?;
        if kind == ValueKind::RangeDelete {
            let what = "an entry that is a range tombstone";
            return Err(TableError::BadLayer { table: Arc::clone(&self.name), what });
        }
        if kind == ValueKind::Delete && !value.is_empty() {
            return Err(too_long("value of a deletion", value.len(), 0));
        }
        Ok(kind)
    }

    /// When an entry expires of which this is stored.
    #[inline(never)]
    fn expiry_of(&self, stored: &[u8]) -> Result<u64, TableError> {
        let expiry = decode_expiry(stored).map(|(expiry, _)| expiry);
        expiry.map_err(|source| TableError::Field {
            table: Arc::clone(&self.name),
            part: BlockKind::Data,
            offset: self.offset(),
            source,
        })
    }

    /// Whether the user key of an entry that may come next is another than the last one's, with which it shares its first `shared` bytes.
    #[inline]
    fn check_order(&self, key: InternalKey<'_>, shared: usize) -> Result<bool, TableError> {
        let order = self.last_user_key().get(shared).cmp(&key.user_key.get(shared));
        match order {
            _ if self.properties.entries == 0 => Ok(true),
            Ordering::Less => Ok(true),
            Ordering::Equal if key.trailer < self.last_trailer => Ok(false),
            _ => {
                let (previous, key) = (self.last().to_buf(), key.to_buf());
                Err(TableError::OutOfOrder { table: Arc::clone(&self.name), previous, key })
            }
        }
    }

    /// The user key of the last entry that was added; empty if there is none.
    #[inline]
    pub fn last_user_key(&self) -> &[u8] {
        if self.block.count() > 0 { self.block.last_user_key() } else { &self.ended_user_key }
    }

    fn last(&self) -> InternalKey<'_> {
        InternalKey { user_key: self.last_user_key(), trailer: self.last_trailer }
    }

    /// Where the next byte goes.
    fn offset(&self) -> u64 {
        self.flushed_bytes + self.buffer.len() as u64
    }

    fn end_block(&mut self, next: Option<InternalKey<'_>>) -> Result<(), TableError> {
        let (start, offset) = (self.buffer.len(), self.offset());
        self.ended_user_key.clear();
        self.ended_user_key.extend_from_slice(self.block.last_user_key());
        let mut codec = Codec::None;
        if self.options.codec == Codec::None {
            self.block.finish_into(&mut self.buffer);
        } else {
            self.payload.clear();
            self.block.finish_into(&mut self.payload);
            match self.compressor.compress(&self.payload) {
                Some((stored, used)) => {
                    codec = used;
                    self.buffer.extend_from_slice(stored);
                }
                None => self.buffer.extend_from_slice(&self.payload),
            }
        }
        seal(&mut self.buffer, start, self.options.file_id, offset, BlockKind::Data, codec);
        self.index.add_block(offset, codec != Codec::None);
        let last = InternalKey { user_key: &self.ended_user_key, trailer: self.last_trailer };
        self.index.add_fence(last, next);
        self.flush_whole_pieces()
    }

    fn write_block(&mut self, kind: BlockKind, payload: &[u8]) -> Result<Handle, TableError> {
        let (start, offset) = (self.buffer.len(), self.offset());
        self.buffer.extend_from_slice(payload);
        seal(&mut self.buffer, start, self.options.file_id, offset, kind, Codec::None);
        self.flush_whole_pieces()?;
        Ok(Handle { offset, len: payload.len() as u64 })
    }

    fn align(&mut self) {
        let pad = self.offset().next_multiple_of(ALIGNMENT) - self.offset();
        self.buffer.extend_from_slice(&[0; ALIGNMENT as usize][..pad as usize]);
    }

    #[inline]
    fn flush_whole_pieces(&mut self) -> Result<(), TableError> {
        match whole_pieces(self.flushed_bytes, self.buffer.len(), self.options.piece_bytes) {
            0 => Ok(()),
            bytes => self.flush(bytes),
        }
    }

    /// Hands the first `bytes` of what is gathered to the file, and has the device begin with them.
    fn flush(&mut self, bytes: usize) -> Result<(), TableError> {
        let written = self.file.append(&self.buffer[..bytes]).and_then(|()| self.file.begin_write_out());
        if let Err(error) = written {
            let error = TableError::from_io(&self.name, "write", error);
            self.failed = Some(error.clone());
            return Err(error);
        }
        self.flushed_bytes += bytes as u64;
        self.buffer.drain(..bytes);
        Ok(())
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Builder({}: {} entries, {} bytes)", self.name, self.entries(), self.offset())
    }
}

#[cfg(test)]
mod tests;
