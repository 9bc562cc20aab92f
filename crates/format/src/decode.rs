//! A bounds-checked reader over bytes that nobody vouches for.
//!
//! Every length is compared with what is there before it is used, so hostile input can neither panic nor make the caller
//! allocate more than the input is long.

use crate::varint;
use byteorder::{ByteOrder, LittleEndian};
use thiserror::Error;

/// Why bytes could not be decoded. Offsets count from the start of the decoded bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DecodeError {
    /// The bytes end within a field.
    #[error("{what} at byte {offset} needs {need} bytes, {have} are left")]
    Truncated {
        /// The field.
        what: &'static str,
        /// Where it starts.
        offset: usize,
        /// How long it says it is.
        need: u64,
        /// How much is there.
        have: usize,
    },
    /// A field has a value that the format does not allow.
    #[error("{what} at byte {offset} is not valid: {found}")]
    Invalid {
        /// The field.
        what: &'static str,
        /// Where it starts.
        offset: usize,
        /// What it holds.
        found: u64,
    },
    /// A version, kind or option that this build does not know; a newer one may.
    #[error("{what} at byte {offset} is not known to this version: {found}")]
    Unsupported {
        /// The field.
        what: &'static str,
        /// Where it starts.
        offset: usize,
        /// What it holds.
        found: u64,
    },
}

impl DecodeError {
    /// Whether a newer build may be able to read these bytes.
    pub fn is_unsupported(&self) -> bool {
        matches!(self, Self::Unsupported { .. })
    }
}

/// Reads fields off the front of a byte string, lowest byte first.
///
/// Each method takes the name of the field, for the error.
///
/// ```
/// let mut decoder = esker_format::Decoder::new(&[7, 0, 3, b'a', b'b', b'c']);
/// assert_eq!(decoder.u16("count")?, 7);
/// assert_eq!(decoder.prefixed("name")?, b"abc");
/// assert!(decoder.u8("flag").is_err());
/// # Ok::<(), esker_format::DecodeError>(())
/// ```
#[derive(Debug, Clone)]
pub struct Decoder<'a> {
    bytes: &'a [u8],
    offset: usize,
}

impl<'a> Decoder<'a> {
    /// Starts at the front of `bytes`.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, offset: 0 }
    }

    /// How many bytes have been read.
    pub fn offset(&self) -> usize {
        self.offset
    }

    /// The bytes not yet read.
    pub fn rest(&self) -> &'a [u8] {
        &self.bytes[self.offset..]
    }

    /// Whether all bytes have been read.
    pub fn is_empty(&self) -> bool {
        self.offset == self.bytes.len()
    }

    /// The next `len` bytes.
    #[inline]
    pub fn bytes(&mut self, what: &'static str, len: u64) -> Result<&'a [u8], DecodeError> {
        let rest = self.rest();
        if len > rest.len() as u64 {
            return Err(DecodeError::Truncated { what, offset: self.offset, need: len, have: rest.len() });
        }
        self.offset += len as usize;
        Ok(&rest[..len as usize])
    }

    /// One byte.
    #[inline]
    pub fn u8(&mut self, what: &'static str) -> Result<u8, DecodeError> {
        Ok(self.bytes(what, 1)?[0])
    }

    /// Two bytes, little endian.
    #[inline]
    pub fn u16(&mut self, what: &'static str) -> Result<u16, DecodeError> {
        Ok(LittleEndian::read_u16(self.bytes(what, 2)?))
    }

    /// Four bytes, little endian.
    #[inline]
    pub fn u32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        Ok(LittleEndian::read_u32(self.bytes(what, 4)?))
    }

    /// Eight bytes, little endian.
    #[inline]
    pub fn u64(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        Ok(LittleEndian::read_u64(self.bytes(what, 8)?))
    }

    /// A varint.
    #[inline]
    pub fn varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        if let Some(&first) = self.bytes.get(self.offset)
            && first < 0x80
        {
            self.offset += 1;
            return Ok(u64::from(first));
        }
        self.long_varint(what)
    }

    #[inline(never)]
    fn long_varint(&mut self, what: &'static str) -> Result<u64, DecodeError> {
        let rest = self.rest();
        let Some((value, n)) = varint::get(rest) else {
            return Err(if rest.len() < varint::VARINT_BYTES_MAX && rest.iter().all(|b| *b >= 0x80) {
                DecodeError::Truncated { what, offset: self.offset, need: rest.len() as u64 + 1, have: rest.len() }
            } else {
                self.invalid(what, u64::from(rest[0]))
            });
        };
        self.offset += n;
        Ok(value)
    }

    /// A varint that must fit in 32 bits.
    #[inline]
    pub fn varint32(&mut self, what: &'static str) -> Result<u32, DecodeError> {
        let offset = self.offset;
        let value = self.varint(what)?;
        u32::try_from(value).map_err(|_| DecodeError::Invalid { what, offset, found: value })
    }

    /// A varint length and as many bytes.
    #[inline]
    pub fn prefixed(&mut self, what: &'static str) -> Result<&'a [u8], DecodeError> {
        let len = self.varint(what)?;
        self.bytes(what, len)
    }

    /// An [`DecodeError::Invalid`] at the present offset.
    pub fn invalid(&self, what: &'static str, found: u64) -> DecodeError {
        DecodeError::Invalid { what, offset: self.offset, found }
    }

    /// An [`DecodeError::Unsupported`] at the present offset.
    pub fn unsupported(&self, what: &'static str, found: u64) -> DecodeError {
        DecodeError::Unsupported { what, offset: self.offset, found }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_length_beyond_the_input_is_refused_before_use() {
        let bytes = [0xff, 0xff, 0xff, 0xff, 0x0f, b'x'];
        let error = Decoder::new(&bytes).prefixed("key").unwrap_err();
        assert_eq!(error, DecodeError::Truncated { what: "key", offset: 5, need: 0xffff_ffff, have: 1 });
    }

    #[test]
    fn an_unfinished_varint_is_truncated_and_an_endless_one_invalid() {
        assert!(matches!(Decoder::new(&[]).varint("n"), Err(DecodeError::Truncated { .. })));
        assert!(matches!(Decoder::new(&[0x80; 3]).varint("n"), Err(DecodeError::Truncated { .. })));
        assert!(matches!(Decoder::new(&[0x80; 12]).varint("n"), Err(DecodeError::Invalid { .. })));
        assert!(matches!(Decoder::new(&[0x80, 0]).varint("n"), Err(DecodeError::Invalid { .. })));
    }
}
