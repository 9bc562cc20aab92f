//! Eight bytes at a time, without leaving the slice.

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
    fn of_fewer_than_eight_bytes_there_are_those_that_there_are() {
        for len in 0..8 {
            let bytes: Vec<u8> = (1..=len).collect();
            for at in 0..10 {
                let mut word = [0; 8];
                bytes.iter().skip(at).zip(&mut word).for_each(|(byte, to)| *to = *byte);
                assert_eq!(load_le(&bytes, at), u64::from_le_bytes(word), "{len} bytes from {at} on");
            }
        }
    }
}
