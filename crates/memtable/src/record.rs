//! One entry as bytes.
//!
//! ```text
//! +-------------+--------------+------------------+---------------------+----------+-------+
//! | trailer u64 | previous u32 | value length u32 | user key length u16 | user key | value |      little endian
//! +-------------+--------------+------------------+---------------------+----------+-------+
//! ```
//! `previous` names the record of the next older version of the same key, 0 if there is none; the skip list leaves it 0.

use esker_format::{InternalKey, KEY_BYTES_MAX, Trailer, VALUE_BYTES_MAX};

/// Bytes before the user key.
pub(crate) const HEADER_BYTES: usize = 18;

/// What is written before the user key and the value.
///
/// # Panics
/// If either is longer than it may be.
pub(crate) fn header(key: InternalKey<'_>, value: &[u8], previous: u32) -> [u8; HEADER_BYTES] {
    let (key_bytes, value_bytes) = (key.user_key.len(), value.len());
    assert!(
        key_bytes <= KEY_BYTES_MAX && value_bytes <= VALUE_BYTES_MAX,
        "an entry of {key_bytes} + {value_bytes} bytes"
    );
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&key.trailer.to_bits().to_le_bytes());
    header[8..12].copy_from_slice(&previous.to_le_bytes());
    header[12..16].copy_from_slice(&(value_bytes as u32).to_le_bytes());
    header[16..].copy_from_slice(&(key_bytes as u16).to_le_bytes());
    header
}

/// An entry, at the front of bytes that may go on behind it.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a>(pub(crate) &'a [u8]);

impl<'a> Record<'a> {
    #[inline]
    fn header(self) -> &'a [u8; HEADER_BYTES] {
        self.0.first_chunk().expect("a record begins with its header")
    }

    #[inline]
    fn value_at(self) -> usize {
        let header = self.header();
        HEADER_BYTES + usize::from(u16::from_le_bytes([header[16], header[17]]))
    }

    #[inline]
    pub(crate) fn trailer(self) -> Trailer {
        Trailer::from_bits(u64::from_le_bytes(*self.header().first_chunk().expect("eight bytes")))
    }

    #[inline]
    pub(crate) fn previous(self) -> u32 {
        let header = self.header();
        u32::from_le_bytes([header[8], header[9], header[10], header[11]])
    }

    #[inline]
    pub(crate) fn user_key(self) -> &'a [u8] {
        &self.0[HEADER_BYTES..self.value_at()]
    }

    #[inline]
    pub(crate) fn key(self) -> InternalKey<'a> {
        InternalKey { user_key: self.user_key(), trailer: self.trailer() }
    }

    #[inline]
    pub(crate) fn value(self) -> &'a [u8] {
        let header = self.header();
        let len = u32::from_le_bytes([header[12], header[13], header[14], header[15]]);
        &self.0[self.value_at()..][..len as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_format::{SeqNo, ValueKind};

    #[test]
    fn gives_back_what_it_was_made_of_whatever_follows() {
        for (key_bytes, value_bytes) in [(0, 0), (0, 9), (3, 0), (16, 100), (KEY_BYTES_MAX, 70_000)] {
            let (user_key, value) = (vec![7; key_bytes], vec![9; value_bytes]);
            let key = InternalKey::new(&user_key, SeqNo(77), ValueKind::Put);
            let bytes = [&header(key, &value, 4711)[..], &user_key, &value, b"more"].concat();
            let record = Record(&bytes);
            assert_eq!((record.key(), record.value(), record.previous()), (key, &value[..], 4711));
        }
    }
}
