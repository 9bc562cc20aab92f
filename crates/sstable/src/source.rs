//! Where a table's bytes come from: a map, or reads into memory.

use crate::error::TableError;
use crate::footer::{FOOTER_BYTES, Footer};
use crate::frame::{BlockKind, Place, TRAILER_BYTES};
use crate::properties::Properties;
use crate::ranges;
use esker_iterator::RangeTombstones;
use esker_vfs::{Map, ReadableFile};
use std::io;
use std::ops::Range;
use std::sync::Arc;

/// How an open table gets at its bytes.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// The same map twice: to read from, and, in an `Arc` of its own, for slices to hold.
    Map(Map, Arc<Map>),
    File(Arc<dyn ReadableFile>),
}

/// Bytes in the map, or a copy of them.
pub(crate) enum Region {
    Map(Map),
    Heap(Box<[u8]>),
}

impl Region {
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Map(map) => map,
            Self::Heap(bytes) => bytes,
        }
    }

    /// The first `len` bytes, to be kept as long as the table is open: one step from whoever asks, whether they are mapped or not.
    pub(crate) fn keep(self, len: usize) -> Map {
        let map = match self {
            Self::Map(map) => map,
            Self::Heap(bytes) => Map::from_bytes(bytes),
        };
        map.part(0..len).unwrap_or_else(|| Map::from_bytes([]))
    }
}

impl Bytes {
    pub(crate) fn read_footer(&self, name: &Arc<str>, file_bytes: u64) -> Result<Footer, TableError> {
        let region = self.read(name, file_bytes as usize - FOOTER_BYTES..file_bytes as usize)?;
        match region.bytes().first_chunk() {
            Some(footer) => Footer::decode(footer, file_bytes, name),
            None => Err(TableError::from_io(name, "read", io::ErrorKind::UnexpectedEof.into())),
        }
    }

    pub(crate) fn read_properties(&self, name: &Arc<str>, footer: &Footer) -> Result<Properties, TableError> {
        let (file_id, offset) = (footer.file_id, footer.properties.offset);
        let place = Place { table: name, file_id, kind: BlockKind::Properties, offset };
        let block = self.read(name, footer.properties.range())?;
        let field = |source| TableError::Field { table: Arc::clone(name), part: place.kind, offset, source };
        let properties = Properties::decode(place.check_uncompressed(block.bytes())?).map_err(field)?;
        let behind_data = footer.filter.unwrap_or(footer.index).offset;
        // A block takes some bytes, which bounds the number of bits to keep about blocks.
        if properties.file_id != file_id
            || (properties.range_tombstones > 0) != footer.ranges.is_some()
            || properties.entries == 0 && properties.range_tombstones == 0
            || (properties.entries > 0) != (properties.blocks > 0)
            || properties.data_bytes > behind_data
            || properties.blocks > properties.data_bytes / TRAILER_BYTES as u64
        {
            return Err(place.damaged("properties that do not fit the footer"));
        }
        Ok(properties)
    }

    /// The range tombstones, if there are any: as many as the properties say, within the bounds.
    pub(crate) fn read_ranges(
        &self,
        name: &Arc<str>,
        footer: &Footer,
        properties: &Properties,
    ) -> Result<Option<Arc<RangeTombstones>>, TableError> {
        let Some(handle) = footer.ranges else { return Ok(None) };
        let (file_id, offset) = (footer.file_id, handle.offset);
        let place = Place { table: name, file_id, kind: BlockKind::RangeTombstones, offset };
        let block = self.read(name, handle.range())?;
        let field = |source| TableError::Field { table: Arc::clone(name), part: place.kind, offset, source };
        let ranges = ranges::decode(place.check_uncompressed(block.bytes())?).map_err(field)?;
        let mut with_all = properties.clone();
        with_all.range_tombstones = 0;
        with_all.entries = with_all.entries.max(1);
        with_all.count_ranges(&ranges);
        with_all.entries = properties.entries;
        // A bound or a count that they change was told without them.
        if with_all != *properties {
            return Err(place.damaged("range tombstones that are not those of the properties"));
        }
        Ok(Some(Arc::new(ranges)))
    }

    /// The bytes in `range`, which comes from a checked footer or index; from a map that has rotted since, no bytes.
    pub(crate) fn read(&self, name: &Arc<str>, range: Range<usize>) -> Result<Region, TableError> {
        match self {
            Self::Map(map, _) => Ok(Region::Map(map.part(range).unwrap_or_else(|| Map::from_bytes([])))),
            Self::File(file) => {
                let mut bytes = vec![0; range.len()];
                file.read_exact_at(&mut bytes, range.start as u64)
                    .map_err(|error| TableError::from_io(name, "read", error))?;
                Ok(Region::Heap(bytes.into()))
            }
        }
    }
}
