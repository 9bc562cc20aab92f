//! The beginning of a byte string as one number: where two of them differ, no other byte need be looked at.

/// The first eight bytes as a number that sorts as they do; zeros where there are fewer.
#[inline(always)]
pub fn head_of(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(word) => u64::from_be_bytes(*word),
        None => short_head(bytes),
    }
}

/// Of fewer than eight bytes, by overlapping loads.
#[inline]
fn short_head(bytes: &[u8]) -> u64 {
    let n = bytes.len();
    if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
        let (first, last) = (u64::from(u32::from_be_bytes(*first)), u64::from(u32::from_be_bytes(*last)));
        return first << 32 | last << (64 - 8 * n);
    }
    match bytes {
        [] => 0,
        _ => [0, n / 2, n - 1].into_iter().fold(0, |head, i| head | u64::from(bytes[i]) << (56 - 8 * i)),
    }
}

/// How many bytes two strings begin with in common.
#[inline]
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (mut rest_a, mut rest_b) = (a, b);
    while let (Some((word_a, next_a)), Some((word_b, next_b))) =
        (rest_a.split_first_chunk(), rest_b.split_first_chunk())
    {
        let differs = u64::from_le_bytes(*word_a) ^ u64::from_le_bytes(*word_b);
        if differs != 0 {
            return a.len() - rest_a.len() + (differs.trailing_zeros() / 8) as usize;
        }
        (rest_a, rest_b) = (next_a, next_b);
    }
    a.len() - rest_a.len() + rest_a.iter().zip(rest_b).take_while(|(a, b)| a == b).count()
}

/// `a == b`, without a call for short ones.
#[inline(always)]
pub fn is_same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    match (a.first_chunk::<8>(), a.last_chunk::<8>(), b.first_chunk::<8>(), b.last_chunk::<8>()) {
        (Some(a0), Some(a1), Some(b0), Some(b1)) => a0 == b0 && a1 == b1 && (a.len() <= 16 || a == b),
        _ => head_of(a) == head_of(b),
    }
}

/// `bytes` behind `prefix`, if they begin with it; without a call for short ones.
#[inline(always)]
pub fn strip_prefix<'a>(bytes: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (front, rest) = bytes.split_at_checked(prefix.len())?;
    is_same(front, prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn heads_sort_as_the_bytes_do() {
        let keys: [&[u8]; 8] = [b"", b"\0", b"a", b"a\0b", b"ab", b"abcdefg", b"abcdefgh", b"b"];
        assert!(keys.is_sorted() && keys.map(head_of).is_sorted());
        assert_eq!(
            [head_of(b""), head_of(b"a\0b"), head_of(b"abcdefghi")],
            [0, 0x6100_6200_0000_0000, head_of(b"abcdefgh")]
        );
    }

    #[test]
    fn what_strings_of_every_length_have_in_common() {
        let a: Vec<u8> = (0..40).collect();
        for len in 0..=a.len() {
            assert_eq!((common_prefix(&a[..len], &a), common_prefix(&a, &a[..len])), (len, len));
            for at in 0..len {
                let mut b = a[..len].to_vec();
                b[at] ^= 0x80;
                assert_eq!((common_prefix(&a[..len], &b), common_prefix(&b, &a)), (at, at), "of {len}");
            }
        }
    }

    #[test]
    fn prefixes_of_every_length() {
        let key: Vec<u8> = (0..40).collect();
        for len in 0..=40 {
            assert_eq!(strip_prefix(&key, &key[..len]), Some(&key[len..]));
            for i in 0..len {
                let mut prefix = key[..len].to_vec();
                prefix[i] ^= 0x80;
                assert_eq!(strip_prefix(&key, &prefix), None, "byte {i} of {len}");
            }
        }
        assert_eq!(strip_prefix(b"ab", b"abc"), None);
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
