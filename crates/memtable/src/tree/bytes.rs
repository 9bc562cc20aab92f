//! Comparing keys a word at a time.

/// The eight bytes of `key` from `at` on as a number, zeros where it is shorter: where two keys agree before `at` and these
/// numbers differ, the keys differ the same way.
#[inline]
pub(super) fn head(key: &[u8], at: usize) -> u64 {
    let rest = key.get(at..).unwrap_or_default();
    if let Some(word) = rest.first_chunk() {
        return u64::from_be_bytes(*word);
    }
    if rest.is_empty() {
        return 0;
    }
    let missing = 8 * (8 - rest.len()) as u32;
    match key.last_chunk() {
        // The last eight bytes of the key, without those that lie before `at`.
        Some(word) => u64::from_be_bytes(*word) << missing,
        None => rest.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)) << missing,
    }
}

/// Whether two strings are the same: the last word overlaps the one before it, so that there is no loop over single bytes.
#[inline]
pub(super) fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let (Some(a_last), Some(b_last)) = (a.last_chunk::<8>(), b.last_chunk::<8>()) else { return a == b };
    let (a_words, _) = a.as_chunks::<8>();
    let (b_words, _) = b.as_chunks::<8>();
    let word = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
    word(a_last) == word(b_last) && a_words.iter().zip(b_words).all(|(a, b)| word(a) == word(b))
}

/// Whether `key` begins with the first `len` bytes of `prefix`, without a call for it.
#[inline]
pub(super) fn begins_with<const N: usize>(key: &[u8], prefix: &[u8; N], len: usize) -> bool {
    const { assert!(N >= 8) };
    if len >= 8 {
        return key.get(..len).is_some_and(|front| same(front, &prefix[..len]));
    }
    // Of fewer bytes than a word the rest of it is shifted out, all of it in two steps where there are none.
    key.len() >= len && (head(key, 0) ^ head(prefix, 0)) >> 1 >> (63 - 8 * len as u32) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_begins_with() {
        let prefix: [u8; 32] = std::array::from_fn(|i| i as u8 + 1);
        for len in 0..=prefix.len() {
            for key_len in 0..40 {
                let key: Vec<u8> = (0..key_len).map(|i| i + 1).collect();
                let expected = |key: &[u8]| key.starts_with(&prefix[..len]);
                assert_eq!(begins_with(&key, &prefix, len), expected(&key), "{len} bytes of {key_len}");
                for at in 0..key.len() {
                    let mut other = key.clone();
                    other[at] ^= 0x80;
                    assert_eq!(
                        begins_with(&other, &prefix, len),
                        expected(&other),
                        "{len} of {key_len}, changed at {at}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_the_same_and_what_is_not() {
        for len in 0..40 {
            let a: Vec<u8> = (0..len).collect();
            assert!(same(&a, &a.clone()));
            for at in 0..a.len() {
                let mut b = a.clone();
                b[at] ^= 0x80;
                assert!(!same(&a, &b));
            }
            assert!(!same(&a, &[&a[..], b"x"].concat()));
        }
    }

    #[test]
    fn heads_are_the_eight_bytes_from_anywhere() {
        let key: Vec<u8> = (1..=20).collect();
        for len in 0..key.len() {
            for at in 0..len + 3 {
                let expected = (at..at + 8).fold(0, |word, i| word << 8 | if i < len { i as u64 + 1 } else { 0 });
                assert_eq!(head(&key[..len], at), expected, "{len} bytes from {at}");
            }
        }
    }
}
