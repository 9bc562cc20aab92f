//! What stands around the values: header, footer, and the head of a record.
//!
//! ```text
//! +--------------+------------+-------+-------+
//! | checksum u32 | length u32 | value | zeros |    the checksum covers file id, offset, length, value; zeros up to a multiple of 8
//! +--------------+------------+-------+-------+
//! ```

use crate::error::{BlobError, Part};
use esker_format::checksum::{Crc, crc32c};
use esker_format::{FileId, FileNo};
use std::sync::Arc;

/// Length of the header, in bytes.
pub const HEADER_BYTES: usize = 40;
/// Length of the footer, in bytes.
pub const FOOTER_BYTES: usize = 40;
/// What stands before a value, in bytes.
pub(crate) const RECORD_HEAD_BYTES: usize = 8;
/// Records start at multiples of this, in bytes.
pub(crate) const RECORD_ALIGNMENT: u64 = 8;
/// So much of a record is asked for from memory before its checksum is worked out; of a longer one the processor foresees the rest. In bytes.
pub(crate) const PREFETCH_BYTES_MAX: usize = 16 << 10;

const HEADER_MAGIC: [u8; 8] = *b"ESKERBLB";
const FOOTER_MAGIC: [u8; 8] = *b"ESKERBLE";
const VERSION: u32 = 1;

/// Length of the record of a value, in bytes.
#[inline]
pub(crate) fn record_bytes(value_bytes: u32) -> u64 {
    (RECORD_HEAD_BYTES as u64 + u64::from(value_bytes)).next_multiple_of(RECORD_ALIGNMENT)
}

/// The head of the record at `offset`.
#[inline]
pub(crate) fn record_head(file_id: FileId, offset: u64, value: &[u8]) -> [u8; RECORD_HEAD_BYTES] {
    let length = (value.len() as u32).to_le_bytes();
    let checksum = record_checksum(file_id, offset, length, value).to_le_bytes();
    let [c0, c1, c2, c3] = checksum;
    let [l0, l1, l2, l3] = length;
    [c0, c1, c2, c3, l0, l1, l2, l3]
}

#[inline]
fn record_checksum(file_id: FileId, offset: u64, length: [u8; 4], value: &[u8]) -> u32 {
    Crc::new().u64(file_id.0).u64(offset).bytes(&length).bytes(value).finish()
}

/// A record's head, taken apart: checksum, and value length.
#[inline]
pub(crate) fn parse_head(head: &[u8; RECORD_HEAD_BYTES]) -> (u32, u32) {
    let [c0, c1, c2, c3, l0, l1, l2, l3] = *head;
    (u32::from_le_bytes([c0, c1, c2, c3]), u32::from_le_bytes([l0, l1, l2, l3]))
}

/// Which record is meant, for checks and errors.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    pub(crate) file: &'a Arc<str>,
    pub(crate) part: Part,
    pub(crate) offset: u64,
}

impl Place<'_> {
    #[cold]
    pub(crate) fn damaged(&self, what: &'static str) -> BlobError {
        BlobError::Damaged { file: Arc::clone(self.file), part: self.part, offset: self.offset, what }
    }

    #[cold]
    pub(crate) fn mismatch(&self, what: &'static str, expected: u64, found: u64) -> BlobError {
        let Self { part, offset, .. } = *self;
        BlobError::Mismatch { file: Arc::clone(self.file), part, offset, what, expected, found }
    }

    pub(crate) fn expect(&self, what: &'static str, expected: u64, found: u64) -> Result<(), BlobError> {
        if expected == found { Ok(()) } else { Err(self.mismatch(what, expected, found)) }
    }

    fn unsupported(&self, what: &'static str, found: u64) -> BlobError {
        BlobError::Unsupported { file: Arc::clone(self.file), what, found }
    }

    fn check(&self, expected: u32, found: u32) -> Result<(), BlobError> {
        if expected == found {
            return Ok(());
        }
        let Self { part, offset, .. } = *self;
        Err(BlobError::Checksum { file: Arc::clone(self.file), part, offset, expected, found })
    }

    /// Checks a whole record but for the zeros behind its value.
    pub(crate) fn check_record(
        &self,
        file_id: FileId,
        head: &[u8; RECORD_HEAD_BYTES],
        value: &[u8],
    ) -> Result<(), BlobError> {
        let (expected, length) = parse_head(head);
        self.expect("value length", value.len() as u64, u64::from(length))?;
        self.check(expected, record_checksum(file_id, self.offset, length.to_le_bytes(), value))
    }
}

/// The first bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) file_id: FileId,
    pub(crate) number: FileNo,
}

impl Header {
    pub(crate) fn encode(self) -> [u8; HEADER_BYTES] {
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&HEADER_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.file_id.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.number.0.to_le_bytes());
        seal(bytes)
    }

    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES], file: &Arc<str>) -> Result<Self, BlobError> {
        let place = Place { file, part: Part::Header, offset: 0 };
        let words = checked(bytes, &HEADER_MAGIC, 0, &place)?;
        let version = words[1] as u32;
        if version != VERSION {
            return Err(place.unsupported("blob format version", u64::from(version)));
        }
        if words[1] >> 32 != 0 {
            return Err(place.unsupported("flags", words[1] >> 32));
        }
        Ok(Self { file_id: FileId(words[2]), number: FileNo(words[3]) })
    }
}

/// The last bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) records: u64,
    pub(crate) record_bytes: u64,
    pub(crate) file_id: FileId,
}

impl Footer {
    pub(crate) fn encode(self) -> [u8; FOOTER_BYTES] {
        let mut bytes = [0; FOOTER_BYTES];
        bytes[..8].copy_from_slice(&self.records.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.record_bytes.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.file_id.0.to_le_bytes());
        bytes[24..32].copy_from_slice(&FOOTER_MAGIC);
        seal(bytes)
    }

    pub(crate) fn decode(bytes: &[u8; FOOTER_BYTES], file: &Arc<str>, offset: u64) -> Result<Self, BlobError> {
        let place = Place { file, part: Part::Footer, offset };
        let words = checked(bytes, &FOOTER_MAGIC, 3, &place)?;
        let footer = Self { records: words[0], record_bytes: words[1], file_id: FileId(words[2]) };
        place.expect("bytes before the footer,", footer.record_bytes.saturating_add(HEADER_BYTES as u64), offset)?;
        if footer.records == 0 || footer.records > footer.record_bytes / RECORD_ALIGNMENT {
            return Err(place.damaged("more records than fit, or none"));
        }
        Ok(footer)
    }
}

/// Puts the checksum behind the rest.
fn seal(mut bytes: [u8; 40]) -> [u8; 40] {
    let checksum = crc32c(&bytes[..36]);
    bytes[36..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// The first four words of a header or footer, whose word `magic_at` is the magic; checked.
fn checked(bytes: &[u8; 40], magic: &[u8; 8], magic_at: usize, place: &Place<'_>) -> Result<[u64; 4], BlobError> {
    let word = |i: usize| {
        let mut word = [0; 8];
        word.copy_from_slice(&bytes[8 * i..8 * i + 8]);
        u64::from_le_bytes(word)
    };
    let words = [word(0), word(1), word(2), word(3)];
    if words[magic_at].to_le_bytes() != *magic {
        return Err(place.damaged("not that of a blob file"));
    }
    place.check((word(4) >> 32) as u32, crc32c(&bytes[..36]))?;
    if word(4) as u32 != 0 {
        return Err(place.damaged("something where zeros belong"));
    }
    Ok(words)
}
