//! The bytes of a log file (`docs/format/wal.md`): encode and check, no I/O.
//!
//! ```text
//! file    magic 8 | version u32 | flags u32 | file id u64 | number u64 | start u64 | durable u64 | 0 x 12 | crc u32
//! record  len u32 | payload crc u32 | durable u64 | kind u8 | 0 x 3 | header crc u32 | payload | 0 up to a multiple of 8
//! ```

use crate::error::WalError;
use byteorder::{ByteOrder, LittleEndian};
use esker_format::checksum::{Crc, crc32c};
use esker_format::{FileId, FileNo};
use std::fmt;
use std::ops::Add;
use std::sync::Arc;

const MAGIC: [u8; 8] = *b"ESKERLOG";
const VERSION: u32 = 1;

/// Length of what a file's header begins with, and what is written of it last.
pub(crate) const FILE_MAGIC_BYTES: usize = MAGIC.len();

/// Length of a file's header.
pub const FILE_HEADER_BYTES: usize = 64;
/// Length of a record's header.
pub const RECORD_HEADER_BYTES: usize = 24;

/// A position on the line that the logs of a series share: where a file starts plus an offset in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Lsn(pub u64);

impl Lsn {
    /// The beginning of the line.
    pub const ZERO: Self = Self(0);
    /// The last position at which a file may start, so that no offset in it overflows: 2^62.
    pub const START_MAX: Self = Self(1 << 62);
}

impl Add<u64> for Lsn {
    type Output = Self;

    fn add(self, bytes: u64) -> Self {
        Self(self.0 + bytes)
    }
}

impl fmt::Display for Lsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// What a log file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogHeader {
    /// Random, so that the records of one file never pass for another's.
    pub file_id: FileId,
    /// The number in the file's name.
    pub number: FileNo,
    /// The position of the file's first byte.
    pub start: Lsn,
    /// Everything below was on stable storage when the file was made.
    pub durable: Lsn,
}

impl LogHeader {
    /// Checks what a checksum can't.
    pub(crate) fn check(&self, name: &Arc<str>) -> Result<(), WalError> {
        let invalid = |what, found: Lsn| Err(WalError::Invalid { name: name.clone(), what, offset: 0, found: found.0 });
        if self.start > Lsn::START_MAX {
            return invalid("start", self.start);
        }
        if self.durable > self.start {
            return invalid("durable position", self.durable);
        }
        Ok(())
    }

    pub(crate) fn encode(&self) -> [u8; FILE_HEADER_BYTES] {
        let mut bytes = [0; FILE_HEADER_BYTES];
        bytes[..8].copy_from_slice(&MAGIC);
        LittleEndian::write_u32(&mut bytes[8..], VERSION);
        LittleEndian::write_u64(&mut bytes[16..], self.file_id.0);
        LittleEndian::write_u64(&mut bytes[24..], self.number.0);
        LittleEndian::write_u64(&mut bytes[32..], self.start.0);
        LittleEndian::write_u64(&mut bytes[40..], self.durable.0);
        let crc = crc32c(&bytes[..60]);
        LittleEndian::write_u32(&mut bytes[60..], crc);
        bytes
    }

    /// Reads a header whose checksum has passed, see [`file_crcs`].
    pub(crate) fn decode(bytes: &[u8; FILE_HEADER_BYTES], name: &Arc<str>) -> Result<Self, WalError> {
        let unsupported = |what, found| Err(WalError::Unsupported { name: name.clone(), what, offset: 0, found });
        if bytes[..8] != MAGIC {
            let found = LittleEndian::read_u64(bytes);
            return Err(WalError::Invalid { name: name.clone(), what: "magic", offset: 0, found });
        }
        match LittleEndian::read_u32(&bytes[8..]) {
            VERSION => {}
            other => return unsupported("format version", u64::from(other)),
        }
        match LittleEndian::read_u32(&bytes[12..]) {
            0 => {}
            other => return unsupported("flags", u64::from(other)),
        }
        if bytes[48..60] != [0; 12] {
            return unsupported("reserved field", LittleEndian::read_u64(&bytes[48..]));
        }
        let header = Self {
            file_id: FileId(LittleEndian::read_u64(&bytes[16..])),
            number: FileNo(LittleEndian::read_u64(&bytes[24..])),
            start: Lsn(LittleEndian::read_u64(&bytes[32..])),
            durable: Lsn(LittleEndian::read_u64(&bytes[40..])),
        };
        header.check(name)?;
        Ok(header)
    }
}

/// Whether the file was not begun: of its magic, which is taken away first and written last, something is missing.
pub(crate) fn is_not_begun(bytes: &[u8; FILE_HEADER_BYTES]) -> bool {
    let magic = &bytes[..MAGIC.len()];
    magic.contains(&0) && magic.iter().zip(MAGIC).all(|(found, wanted)| [0, wanted].contains(found))
}

/// The checksum that a file header holds, and the one that it should.
pub(crate) fn file_crcs(bytes: &[u8; FILE_HEADER_BYTES]) -> (u32, u32) {
    (LittleEndian::read_u32(&bytes[60..]), crc32c(&bytes[..60]))
}

/// What a record is for. The numbers are on disk and never change meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum RecordKind {
    /// The payload is the user's.
    Data = 1,
    /// Written for its `durable` position alone; users skip it.
    Marker = 2,
}

/// A record's header, its checksum passed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHead {
    pub(crate) len: u32,
    pub(crate) payload_crc: u32,
    pub(crate) durable: Lsn,
    /// Kind in the lowest byte, and three bytes that must be zero.
    kind: u32,
}

impl RecordHead {
    pub(crate) fn new(kind: RecordKind, len: u32, payload_crc: u32, durable: Lsn) -> Self {
        Self { len, payload_crc, durable, kind: kind as u32 }
    }

    pub(crate) fn encode(&self, file_id: FileId, position: Lsn) -> [u8; RECORD_HEADER_BYTES] {
        let mut bytes = [0; RECORD_HEADER_BYTES];
        LittleEndian::write_u32(&mut bytes, self.len);
        LittleEndian::write_u32(&mut bytes[4..], self.payload_crc);
        LittleEndian::write_u64(&mut bytes[8..], self.durable.0);
        LittleEndian::write_u32(&mut bytes[16..], self.kind);
        let (_, crc) = Self::crcs(&bytes, file_id, position);
        LittleEndian::write_u32(&mut bytes[20..], crc);
        bytes
    }

    /// Reads a header whose checksum has passed, see [`RecordHead::crcs`].
    pub(crate) fn decode(bytes: &[u8; RECORD_HEADER_BYTES]) -> Self {
        Self {
            len: LittleEndian::read_u32(bytes),
            payload_crc: LittleEndian::read_u32(&bytes[4..]),
            durable: Lsn(LittleEndian::read_u64(&bytes[8..])),
            kind: LittleEndian::read_u32(&bytes[16..]),
        }
    }

    /// The checksum that a record header holds, and the one that it should.
    pub(crate) fn crcs(bytes: &[u8; RECORD_HEADER_BYTES], file_id: FileId, position: Lsn) -> (u32, u32) {
        /// In one piece, that begins where a word does: a call costs more than the bytes, and bytes one by one more than words.
        #[repr(align(8))]
        struct Checked([u8; 36]);
        let mut checked = Checked([0; 36]);
        LittleEndian::write_u64(&mut checked.0, file_id.0);
        LittleEndian::write_u64(&mut checked.0[8..], position.0);
        checked.0[16..].copy_from_slice(&bytes[..20]);
        (LittleEndian::read_u32(&bytes[20..]), crc32c(&checked.0))
    }

    /// The kind, or the bytes that are none.
    pub(crate) fn kind(&self) -> Result<RecordKind, u32> {
        match self.kind {
            1 => Ok(RecordKind::Data),
            2 => Ok(RecordKind::Marker),
            other => Err(other),
        }
    }

    /// Bytes of the whole record.
    pub(crate) fn record_bytes(&self) -> u64 {
        record_bytes(self.len)
    }
}

/// Bytes of a record with a payload of `len` bytes, padding included.
pub(crate) fn record_bytes(len: u32) -> u64 {
    RECORD_HEADER_BYTES as u64 + u64::from(len).next_multiple_of(8)
}

/// What the checksum of a payload begins with: file id u64 | position u64 | kind u8 | len u32.
const PLACE_BYTES: usize = 21;

fn place(file_id: FileId, position: Lsn, kind: RecordKind, len: u32) -> [u8; PLACE_BYTES] {
    let mut bytes = [0; PLACE_BYTES];
    LittleEndian::write_u64(&mut bytes, file_id.0);
    LittleEndian::write_u64(&mut bytes[8..], position.0);
    bytes[16] = kind as u8;
    LittleEndian::write_u32(&mut bytes[17..], len);
    bytes
}

/// The checksum of a payload given in parts.
pub(crate) fn payload_crc(file_id: FileId, position: Lsn, kind: RecordKind, len: u32, parts: &[&[u8]]) -> u32 {
    let mut short = ShortPayload::new();
    if short.lay(file_id, position, kind, len, parts) {
        return short.crc();
    }
    let crc = Crc::new().bytes(&place(file_id, position, kind, len));
    parts.iter().fold(crc, |crc, part| crc.bytes(part)).finish()
}

/// Room for a short payload in one piece: each part that is summed or stored alone costs a call, which is more than its bytes do.
///
/// ```text
/// place 21 | payload | 0 ...
/// '--- checksum ----'            from an address on that is a multiple of 8: whole words are summed
///          '--- what is stored ---'
/// ```
#[derive(Debug)]
#[repr(align(8))]
pub(crate) struct ShortPayload {
    bytes: [u8; PLACE_BYTES + Self::BYTES_MAX + Self::ZEROS_MAX],
    end: usize,
}

impl ShortPayload {
    /// The longest.
    const BYTES_MAX: usize = 256;
    /// Zeros that can be had behind it: padding, and a header's worth.
    const ZEROS_MAX: usize = 7 + RECORD_HEADER_BYTES;

    /// Room with nothing in it.
    #[inline]
    pub(crate) fn new() -> Self {
        Self { bytes: [0; PLACE_BYTES + Self::BYTES_MAX + Self::ZEROS_MAX], end: PLACE_BYTES }
    }

    /// Lays out a payload of `len` bytes, given in parts, if it is short; whether it is.
    #[inline]
    pub(crate) fn lay(&mut self, file_id: FileId, position: Lsn, kind: RecordKind, len: u32, parts: &[&[u8]]) -> bool {
        if len as usize > Self::BYTES_MAX {
            return false;
        }
        self.bytes[..PLACE_BYTES].copy_from_slice(&place(file_id, position, kind, len));
        self.end = PLACE_BYTES;
        for part in parts {
            self.bytes[self.end..][..part.len()].copy_from_slice(part);
            self.end += part.len();
        }
        // Behind it may stand the end of what was laid here before.
        self.bytes[self.end..][..Self::ZEROS_MAX].fill(0);
        true
    }

    #[inline]
    pub(crate) fn crc(&self) -> u32 {
        crc32c(&self.bytes[..self.end])
    }

    /// The payload, and so many zeros behind it.
    #[inline]
    pub(crate) fn with_zeros(&self, zeros: usize) -> &[u8] {
        &self.bytes[PLACE_BYTES..self.end + zeros]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In one piece or not: the checksum is that of the format, and what is stored is the payload and zeros.
    #[test]
    fn a_short_payload_is_laid_out_in_one_piece() {
        let (file_id, position, kind) = (FileId(7), Lsn(64), RecordKind::Data);
        let mut short = ShortPayload::new();
        for len in [ShortPayload::BYTES_MAX, 255, 8, 1, 0, ShortPayload::BYTES_MAX + 1] {
            let payload = vec![0xee; len];
            let parts = [&payload[..len / 3], &payload[len / 3..]];
            let crc = Crc::new().bytes(&place(file_id, position, kind, len as u32)).bytes(&payload).finish();
            assert_eq!(payload_crc(file_id, position, kind, len as u32, &parts), crc);
            let is_short = short.lay(file_id, position, kind, len as u32, &parts);
            assert_eq!(is_short, len <= ShortPayload::BYTES_MAX);
            if is_short {
                assert_eq!(short.crc(), crc);
                assert_eq!(
                    short.with_zeros(ShortPayload::ZEROS_MAX),
                    [payload, vec![0; ShortPayload::ZEROS_MAX]].concat()
                );
            }
        }
    }
}
