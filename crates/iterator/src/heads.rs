//! The keys of a merge's children as numbers.
//!
//! ```text
//!   user:00001729        prefix "user:0000", which all of them share
//!   user:00001730
//!   user:00002001        heads "1729", "1730", "2001": the eight bytes that follow, big endian, zeros where the key ends
//!   (at its end)         the largest head there is
//! ```
//! Where two heads differ, they order the keys, and neither key is touched. Going backward heads are complemented, so that the
//! smaller head leads either way. The prefix is what the keys have in common at the time: it is cut when a key comes that lacks
//! it, and sought anew when heads tie often, so that eight bytes tell keys apart however much they share.

/// Ties before the prefix is sought anew.
const TIES: u32 = 64;

/// One head for each child.
#[derive(Debug)]
pub(crate) struct Heads {
    prefix: Vec<u8>,
    heads: Vec<u64>,
    /// All ones going backward, else zero.
    flip: u64,
    ties: u32,
}

impl Heads {
    /// Of no children yet: [`Heads::set_all`] makes room for them.
    pub(crate) fn new() -> Self {
        Self { prefix: Vec::new(), heads: Vec::new(), flip: 0, ties: 0 }
    }

    /// Takes the keys of all children; `None` is one at its end.
    pub(crate) fn set_all<'a>(&mut self, backward: bool, keys: impl Iterator<Item = Option<&'a [u8]>> + Clone) {
        let mut live = keys.clone().flatten();
        let first = live.next().unwrap_or_default();
        let shared =
            live.fold(first.len(), |len, key| first[..len].iter().zip(key).take_while(|(a, b)| a == b).count());
        self.prefix.clear();
        self.prefix.extend_from_slice(&first[..shared]);
        self.flip = if backward { u64::MAX } else { 0 };
        self.ties = 0;
        self.heads.clear();
        let flip = self.flip;
        self.heads.extend(keys.map(|key| key.map_or(u64::MAX, |key| word(&key[shared..]) ^ flip)));
    }

    /// Takes the new key of one child. Returns false if all must be taken anew.
    #[inline]
    pub(crate) fn set(&mut self, child: usize, key: Option<&[u8]>) -> bool {
        let Some(key) = key else {
            self.heads[child] = u64::MAX;
            return true;
        };
        match strip_prefix(key, &self.prefix) {
            Some(rest) if self.ties < TIES => {
                self.heads[child] = word(rest) ^ self.flip;
                true
            }
            _ => false,
        }
    }

    /// Whether child `a` leads child `b`; `None` if their heads are the same.
    #[inline]
    pub(crate) fn leads(&self, a: usize, b: usize) -> Option<bool> {
        let (a, b) = (self.heads[a], self.heads[b]);
        (a != b).then_some(a < b)
    }

    /// Counts a tie that had to be decided by the keys.
    pub(crate) fn tie(&mut self) {
        self.ties += 1;
    }
}

/// The rest of `key` behind `prefix`; short prefixes are compared without a call.
#[inline]
fn strip_prefix<'a>(key: &'a [u8], prefix: &[u8]) -> Option<&'a [u8]> {
    let (front, rest) = key.split_at_checked(prefix.len())?;
    let is_same = match (front.first_chunk::<8>(), front.last_chunk::<8>(), prefix.first_chunk(), prefix.last_chunk()) {
        (Some(a0), Some(a1), Some(b0), Some(b1)) => a0 == b0 && a1 == b1 && (front.len() <= 16 || front == prefix),
        _ => front.iter().zip(prefix).all(|(a, b)| a == b),
    };
    is_same.then_some(rest)
}

/// The first eight bytes as a number that sorts as they do.
#[inline]
fn word(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => bytes.iter().rev().fold(0, |word, byte| word >> 8 | u64::from(*byte) << 56),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_words_differ_they_order_the_bytes() {
        let keys: [&[u8]; 8] = [b"", b"\0", b"a", b"a\0b", b"ab", b"abcdefg", b"abcdefgh", b"b"];
        assert!(keys.is_sorted() && keys.map(word).is_sorted());
        assert_eq!([word(b""), word(b"a\0b"), word(b"abcdefghi")], [0, 0x6100_6200_0000_0000, word(b"abcdefgh")]);
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
    fn a_key_without_the_prefix_and_too_many_ties_ask_for_all_keys() {
        let mut heads = Heads::new();
        heads.set_all(false, [Some(&b"user:1"[..]), None, Some(b"user:2")].into_iter());
        assert_eq!(heads.leads(0, 2), Some(true));
        assert_eq!(heads.leads(1, 2), Some(false), "one at its end comes last");
        assert!(heads.set(0, Some(b"user:2")));
        assert_eq!(heads.leads(0, 2), None);
        assert!(!heads.set(0, Some(b"usez")));

        heads.set_all(true, [Some(&b"a"[..]), None, Some(b"b")].into_iter());
        assert_eq!((heads.leads(0, 2), heads.leads(1, 0)), (Some(false), Some(false)));
        assert!(heads.set(0, Some(b"b")));
        (0..TIES).for_each(|_| heads.tie());
        assert!(!heads.set(0, Some(b"b")));
    }
}
