//! Eight bytes at a time, without leaving the slice.

use esker_format::head_of;

/// Eight bytes from `at` on, little endian, as far as there are any; zeros behind.
#[inline(always)]
pub(crate) fn load_le(bytes: &[u8], at: usize) -> u64 {
    // One comparison for each load, with what loads from the same bytes share.
    if bytes.len() >= 8
        && at <= bytes.len() - 8
        && let Some(word) = bytes[at..].first_chunk()
    {
        return u64::from_le_bytes(*word);
    }
    load_at_end(bytes, at)
}

/// As [`load_le`], big endian: sorts as the bytes do.
#[inline(always)]
pub(crate) fn load_be(bytes: &[u8], at: usize) -> u64 {
    load_le(bytes, at).swap_bytes()
}

#[cold]
#[inline(never)]
fn load_at_end(bytes: &[u8], at: usize) -> u64 {
    let mut word = [0; 8];
    let tail = bytes.get(at..).unwrap_or(&[]);
    let n = tail.len().min(8);
    word[..n].copy_from_slice(&tail[..n]);
    u64::from_le_bytes(word)
}

/// `a == b`, without a call for short ones.
#[inline(always)]
pub(crate) fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), a.last_chunk::<8>(), b.first_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a0), Some(a1), Some(b0), Some(b1)) => a0 == b0 && a1 == b1 && (a.len() <= 16 || a == b),
        _ => head_of(a) == head_of(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loads_stop_at_the_end() {
        let bytes: Vec<u8> = (1..=12).collect();
        assert_eq!(load_le(&bytes, 4), u64::from_le_bytes([5, 6, 7, 8, 9, 10, 11, 12]));
        assert_eq!(load_be(&bytes, 10), u64::from_be_bytes([11, 12, 0, 0, 0, 0, 0, 0]));
        assert_eq!((load_le(&bytes, 12), load_le(&bytes, usize::MAX)), (0, 0));
    }

    #[test]
    fn heads_and_equality_of_every_length() {
        let bytes: Vec<u8> = (1..=40).collect();
        for n in 0..=40 {
            let mut padded = [0; 8];
            padded[..n.min(8)].copy_from_slice(&bytes[..n.min(8)]);
            assert_eq!(head_of(&bytes[..n]), u64::from_be_bytes(padded), "{n} bytes");
            let copy = bytes.clone();
            assert!(is_same(&bytes[..n], &copy[..n]));
            for i in 0..n {
                let mut other = bytes[..n].to_vec();
                other[i] ^= 0x80;
                assert!(!is_same(&bytes[..n], &other), "byte {i} of {n}");
            }
            assert!(n == 0 || !is_same(&bytes[..n], &bytes[..n - 1]));
        }
        assert!(!is_same(b"a", b"a\0"));
    }
}
