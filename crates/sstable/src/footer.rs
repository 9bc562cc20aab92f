//! The last 128 bytes of a table: where everything is.

use crate::error::TableError;
use crate::frame::{BlockKind, TRAILER_BYTES};
use esker_format::checksum::crc32c;
use esker_format::{DecodeError, Decoder, FileId};
use std::ops::Range;
use std::sync::Arc;

/// Length of the footer.
pub(crate) const FOOTER_BYTES: usize = 128;
const MAGIC: [u8; 8] = *b"ESKERSST";
const VERSION: u32 = 1;
const CHECKSUM_AT: usize = 116;
/// Flags that a reader must understand; this version knows none.
const FLAGS_TO_UNDERSTAND: u32 = 0xffff;

/// Where a block's stored bytes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Handle {
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

impl Handle {
    fn is_none(self) -> bool {
        self == Self::default()
    }

    /// Stored bytes and trailer. Only for handles that [`Footer::decode`] has checked.
    pub(crate) fn range(self) -> Range<usize> {
        self.offset as usize..self.offset as usize + self.len as usize + TRAILER_BYTES
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) properties: Handle,
    pub(crate) index: Handle,
    pub(crate) filter: Option<Handle>,
    pub(crate) ranges: Option<Handle>,
    pub(crate) file_id: FileId,
    pub(crate) file_bytes: u64,
}

impl Footer {
    pub(crate) fn encode(&self) -> [u8; FOOTER_BYTES] {
        let mut out = [0; FOOTER_BYTES];
        let optional = [self.filter, self.ranges].map(Option::unwrap_or_default);
        for (i, handle) in [self.properties, self.index].into_iter().chain(optional).enumerate() {
            out[16 * i..][..8].copy_from_slice(&handle.offset.to_le_bytes());
            out[16 * i + 8..][..8].copy_from_slice(&handle.len.to_le_bytes());
        }
        out[88..96].copy_from_slice(&self.file_id.0.to_le_bytes());
        out[96..104].copy_from_slice(&self.file_bytes.to_le_bytes());
        out[108..112].copy_from_slice(&VERSION.to_le_bytes());
        let checksum = crc32c(&out[..CHECKSUM_AT]);
        out[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
        out[120..].copy_from_slice(&MAGIC);
        out
    }

    /// Reads and checks the footer of a file of `file_bytes`. All ranges that come out lie within the file, in order and apart.
    pub(crate) fn decode(bytes: &[u8; FOOTER_BYTES], file_bytes: u64, table: &Arc<str>) -> Result<Self, TableError> {
        let offset = file_bytes - FOOTER_BYTES as u64;
        let (table, part) = (|| Arc::clone(table), BlockKind::Footer);
        let damaged = |what| TableError::Damaged { table: table(), part, offset, what };
        let unsupported = |what, found| TableError::Unsupported { table: table(), part, offset, what, found };
        let field = |source: DecodeError| TableError::Field { table: table(), part, offset, source };
        if bytes[120..] != MAGIC {
            return Err(damaged("no magic: not a table, or cut short"));
        }
        let found = crc32c(&bytes[..CHECKSUM_AT]);
        let expected = Decoder::new(&bytes[CHECKSUM_AT..]).u32("checksum").map_err(field)?;
        if found != expected {
            return Err(TableError::Checksum { table: table(), part, offset, expected, found });
        }
        let mut decoder = Decoder::new(bytes);
        let mut handles = [Handle::default(); 5];
        for handle in &mut handles {
            *handle = Handle {
                offset: decoder.u64("block offset").map_err(field)?,
                len: decoder.u64("block length").map_err(field)?,
            };
        }
        let table_seq = decoder.u64("table-wide sequence number").map_err(field)?;
        let file_id = FileId(decoder.u64("file id").map_err(field)?);
        let len_in_footer = decoder.u64("file length").map_err(field)?;
        let flags = decoder.u32("flags").map_err(field)?;
        let version = decoder.u32("version").map_err(field)?;
        if version != VERSION {
            return Err(unsupported("format version", u64::from(version)));
        }
        if flags & FLAGS_TO_UNDERSTAND != 0 || table_seq != 0 {
            return Err(unsupported("flags", u64::from(flags)));
        }
        let [properties, index, filter, ranges, blobs] = handles;
        if !blobs.is_none() {
            return Err(unsupported("blob reference block at", blobs.offset));
        }
        if len_in_footer != file_bytes {
            let what = "file length";
            return Err(TableError::Mismatch {
                table: table(),
                part,
                offset,
                what,
                expected: len_in_footer,
                found: file_bytes,
            });
        }
        let [filter, ranges] = [filter, ranges].map(|handle| (!handle.is_none()).then_some(handle));
        let mut at = 0;
        for handle in filter.into_iter().chain([index]).chain(ranges).chain([properties]) {
            let end = handle.offset.checked_add(handle.len).and_then(|end| end.checked_add(TRAILER_BYTES as u64));
            match end {
                Some(end) if handle.offset >= at && end <= offset => at = end,
                _ => return Err(damaged("blocks that overlap or leave the file")),
            }
        }
        Ok(Self { properties, index, filter, ranges, file_id, file_bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn footer() -> Footer {
        Footer {
            properties: Handle { offset: 300, len: 95 },
            ranges: None,
            index: Handle { offset: 200, len: 90 },
            filter: Some(Handle { offset: 100, len: 32 }),
            file_id: FileId(0x0123_4567_89ab_cdef),
            file_bytes: 528,
        }
    }

    fn decode(bytes: &[u8; FOOTER_BYTES]) -> Result<Footer, TableError> {
        Footer::decode(bytes, 528, &"t".into())
    }

    /// Changes a field and signs again.
    fn changed(at: usize, byte: u8) -> [u8; FOOTER_BYTES] {
        let mut bytes = footer().encode();
        bytes[at] = byte;
        let checksum = crc32c(&bytes[..CHECKSUM_AT]);
        bytes[CHECKSUM_AT..][..4].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    #[test]
    fn round_trips_and_no_bit_may_flip() {
        let bytes = footer().encode();
        assert_eq!(decode(&bytes).unwrap(), footer());
        let without_filter = Footer { filter: None, ..footer() };
        assert_eq!(decode(&without_filter.encode()).unwrap(), without_filter);
        let with_ranges = Footer {
            index: Handle { offset: 200, len: 30 },
            ranges: Some(Handle { offset: 235, len: 60 }),
            ..footer()
        };
        assert_eq!(decode(&with_ranges.encode()).unwrap(), with_ranges);
        let too_early = Footer { ranges: Some(Handle { offset: 234, len: 60 }), ..with_ranges };
        assert!(decode(&too_early.encode()).unwrap_err().is_corruption());
        for bit in 0..8 * FOOTER_BYTES {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).unwrap_err().is_corruption(), "bit {bit}");
        }
    }

    #[test]
    fn what_is_to_come_is_refused_by_name() {
        for (at, what) in [(64, "blob"), (80, "flags"), (104, "flags"), (108, "version")] {
            let error = decode(&changed(at, 2)).unwrap_err();
            assert!(error.is_unsupported() && error.to_string().contains(what), "{error}");
        }
        assert_eq!(decode(&changed(106, 1)).unwrap(), footer(), "a flag that may be ignored");
    }

    #[test]
    fn handles_beyond_the_file_or_over_one_another_are_refused() {
        // The highest byte of offset and length of each; a length that reaches into the next; a swap.
        for (at, byte) in [
            (7, 0xff),
            (15, 0xff),
            (23, 0xff),
            (31, 0xff),
            (39, 0x7f),
            (47, 0x7f),
            (40, 99),
            (48, 1),
            (55, 0x80),
            (56, 1),
            (24, 99),
            (8, 101),
            (16, 30),
        ] {
            let error = decode(&changed(at, byte)).unwrap_err();
            assert!(error.is_corruption(), "byte {at}: {error}");
        }
    }
}
