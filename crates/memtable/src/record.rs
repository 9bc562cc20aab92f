//! One entry as bytes.
//!
//! ```text
//! +-------------+----------------------+------------------+----------+-------+
//! | trailer u64 | user key length u16  | value length u32 | user key | value |      little endian, not aligned
//! +-------------+----------------------+------------------+----------+-------+
//! ```

use esker_format::{InternalKey, KEY_BYTES_MAX, Trailer, VALUE_BYTES_MAX};

/// Bytes before the user key.
pub(crate) const HEADER_BYTES: usize = 14;

/// What is written before the user key and the value.
///
/// # Panics
/// If either is longer than it may be.
pub(crate) fn header(key: InternalKey<'_>, value: &[u8]) -> [u8; HEADER_BYTES] {
    let (key_bytes, value_bytes) = (key.user_key.len(), value.len());
    assert!(
        key_bytes <= KEY_BYTES_MAX && value_bytes <= VALUE_BYTES_MAX,
        "an entry of {key_bytes} + {value_bytes} bytes"
    );
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(&key.trailer.to_bits().to_le_bytes());
    header[8..10].copy_from_slice(&(key_bytes as u16).to_le_bytes());
    header[10..].copy_from_slice(&(value_bytes as u32).to_le_bytes());
    header
}

/// An entry, at the front of bytes that may go on behind it.
#[derive(Clone, Copy)]
pub(crate) struct Record<'a>(pub(crate) &'a [u8]);

impl<'a> Record<'a> {
    #[inline]
    fn value_at(self) -> usize {
        HEADER_BYTES + usize::from(u16::from_le_bytes([self.0[8], self.0[9]]))
    }

    #[inline]
    pub(crate) fn key(self) -> InternalKey<'a> {
        let trailer = u64::from_le_bytes(self.0[..8].try_into().expect("eight bytes"));
        InternalKey { user_key: &self.0[HEADER_BYTES..self.value_at()], trailer: Trailer::from_bits(trailer) }
    }

    #[inline]
    pub(crate) fn value(self) -> &'a [u8] {
        let len = u32::from_le_bytes(self.0[10..HEADER_BYTES].try_into().expect("four bytes"));
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
            let bytes = [&header(key, &value)[..], &user_key, &value, b"more"].concat();
            assert_eq!((Record(&bytes).key(), Record(&bytes).value()), (key, &value[..]));
        }
    }
}
