//! Opening a table, and looking once more at what that looked at.

use super::{Hot, Table};
use crate::cache::BlockCache;
use crate::error::TableError;
use crate::footer::FOOTER_BYTES;
use crate::frame::BlockKind;
use crate::source::Bytes;
use esker_format::{FileId, SeqNo, Trailer};
use esker_vfs::{Map, ReadableFile};
use std::io;
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
