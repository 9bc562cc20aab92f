//! LEB128: seven bits a byte, lowest first, the high bit set on all bytes but the last.
//!
//! ```text
//! 300 = 0b10_0101100  ->  AC 02
//! ```
//! Encodings are canonical: the decoder refuses a needless trailing zero byte, so one number has one form.

/// Longest encoding of a `u64`, in bytes.
pub const VARINT_BYTES_MAX: usize = 10;

/// Appends `value` to `out`.
#[inline]
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The number of bytes [`put`] appends for `value`.
#[inline]
pub fn len(value: u64) -> usize {
    let bits = 64 - (value | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Reads one number off the front of `bytes`: the number and how many bytes it took.
///
/// `None` if `bytes` ends within the number, the number exceeds 64 bits, or its form is not canonical.
#[inline]
pub fn get(bytes: &[u8]) -> Option<(u64, usize)> {
    if let Some(&first) = bytes.first()
        && first < 0x80
    {
        return Some((u64::from(first), 1));
    }
    let mut value = 0u64;
    for (i, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        let low = u64::from(byte & 0x7f);
        if i == VARINT_BYTES_MAX - 1 && low > 1 {
            return None;
        }
        value |= low << (7 * i);
        if byte < 0x80 {
            let canonical = byte != 0 || i == 0;
            return canonical.then_some((value, i + 1));
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn round_trips(value: u64, tail: Vec<u8>) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            prop_assert_eq!(bytes.len(), len(value));
            let n = bytes.len();
            bytes.extend_from_slice(&tail);
            prop_assert_eq!(get(&bytes), Some((value, n)));
            for cut in 0..n {
                prop_assert_eq!(get(&bytes[..cut]), None);
            }
        }

        #[test]
        fn any_accepted_form_is_the_canonical_one(bytes: Vec<u8>) {
            if let Some((value, n)) = get(&bytes) {
                let mut again = Vec::new();
                put(&mut again, value);
                prop_assert_eq!(&again[..], &bytes[..n]);
            }
        }
    }

    #[test]
    fn refuses_what_does_not_fit() {
        assert_eq!(get(&[0xff; 11]), None, "never ends");
        assert_eq!(get(&[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x02]), None, "65 bits");
        assert_eq!(get(&[0x80, 0x00]), None, "a long form of zero");
        assert_eq!(get(&[]), None);
    }
}
