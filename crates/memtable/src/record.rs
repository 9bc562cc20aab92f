//! One entry in one allocation.
//!
//! ```text
//! +-------------+----------------------+----------+-------+
//! | trailer u64 | user key length u16  | user key | value |
//! +-------------+----------------------+----------+-------+
//! ```

use esker_format::{InternalKey, KEY_BYTES_MAX, Trailer};
use std::sync::Arc;

const KEY_AT: usize = 10;

/// What the counters of an `Arc` take.
const COUNTER_BYTES: usize = 2 * size_of::<usize>();

/// A key and its value. Clones share the bytes.
#[derive(Clone)]
pub(crate) struct Record(Arc<[u8]>);

impl Record {
    /// # Panics
    /// If the user key is longer than [`KEY_BYTES_MAX`].
    pub(crate) fn new(key: InternalKey<'_>, value: &[u8]) -> Self {
        let user_key = key.user_key;
        assert!(user_key.len() <= KEY_BYTES_MAX, "a user key of {} bytes", user_key.len());
        let value_at = KEY_AT + user_key.len();
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, value_at + value.len()).collect();
        let filling = Arc::get_mut(&mut bytes).expect("not shared yet");
        filling[..8].copy_from_slice(&key.trailer.to_bits().to_le_bytes());
        filling[8..KEY_AT].copy_from_slice(&(user_key.len() as u16).to_le_bytes());
        filling[KEY_AT..value_at].copy_from_slice(user_key);
        filling[value_at..].copy_from_slice(value);
        Self(bytes)
    }

    #[inline]
    fn value_at(&self) -> usize {
        KEY_AT + usize::from(u16::from_le_bytes([self.0[8], self.0[9]]))
    }

    #[inline]
    pub(crate) fn key(&self) -> InternalKey<'_> {
        let trailer = u64::from_le_bytes(self.0[..8].try_into().expect("eight bytes"));
        InternalKey { user_key: &self.0[KEY_AT..self.value_at()], trailer: Trailer::from_bits(trailer) }
    }

    #[inline]
    pub(crate) fn value(&self) -> &[u8] {
        &self.0[self.value_at()..]
    }

    /// What was allocated for it.
    pub(crate) fn allocated_bytes(&self) -> usize {
        (COUNTER_BYTES + self.0.len()).next_multiple_of(align_of::<usize>())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use esker_format::{SeqNo, ValueKind};

    #[test]
    fn gives_back_what_it_was_made_of() {
        for (key_bytes, value_bytes) in [(0, 0), (0, 9), (3, 0), (16, 100), (KEY_BYTES_MAX, 1 << 20)] {
            let (user_key, value) = (vec![7; key_bytes], vec![9; value_bytes]);
            let key = InternalKey::new(&user_key, SeqNo(77), ValueKind::Put);
            let record = Record::new(key, &value);
            assert_eq!((record.key(), record.value()), (key, &value[..]));
        }
    }
}
