//! The keys of a merge's children as numbers.
//!
//! ```text
//!   user:00001729        prefix "user:0": they share "user:0000"
//!   user:00001730
//!   user:00002001        heads "0001729", "0001730", "0002001": the eight bytes that follow, big endian, zeros where the key ends
//! ```
//! Where two heads differ, they order the keys, and neither key is touched. Going backward heads are complemented, so that the
//! smaller head leads either way. The prefix is what the keys have in common at the time, less a few bytes: those that change on the way then do so in the heads. It is
//! sought anew when a key comes that lacks it, and, with all that they share, when heads tie often, so that eight bytes tell keys apart however much they share.

use esker_format::{common_prefix, head_of, strip_prefix};

/// Ties before the prefix is sought anew.
const TIES: u32 = 64;
/// How much of what the keys share is left to the heads: keys that are numbers lose a digit at each step to the left ten times as seldom.
const SLACK_BYTES: usize = 3;

/// How keys become heads.
#[derive(Debug)]
pub(crate) struct Heads {
    prefix: Vec<u8>,
    /// All ones going backward, else zero.
    flip: u64,
    ties: u32,
}

impl Heads {
    pub(crate) fn new() -> Self {
        Self { prefix: Vec::new(), flip: 0, ties: 0 }
    }

    /// Takes what these keys share for the prefix.
    pub(crate) fn share<'a>(&mut self, backward: bool, mut keys: impl Iterator<Item = &'a [u8]>) {
        let first = keys.next().unwrap_or_default();
        let shared = keys.fold(first.len(), |len, key| common_prefix(&first[..len], key));
        let slack = if self.ties < TIES { SLACK_BYTES } else { 0 };
        self.prefix.clear();
        self.prefix.extend_from_slice(&first[..shared.saturating_sub(slack)]);
        self.flip = if backward { u64::MAX } else { 0 };
        self.ties = 0;
    }

    /// The head of a key. `None` if the prefix has to be sought anew.
    #[inline(always)]
    pub(crate) fn head(&self, key: &[u8]) -> Option<u64> {
        let rest = strip_prefix(key, &self.prefix)?;
        (self.ties < TIES).then(|| head_of(rest) ^ self.flip)
    }

    /// Counts a tie that had to be decided by the keys.
    pub(crate) fn tie(&mut self) {
        self.ties += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_without_the_prefix_and_too_many_ties_ask_for_all_keys() {
        let mut heads = Heads::new();
        heads.share(false, [&b"user:1"[..], b"user:2"].into_iter());
        assert!(heads.head(b"user:1") < heads.head(b"user:2"));
        assert!(heads.head(b"user:") < heads.head(b"user:1"));
        assert_eq!(heads.head(b"us"), Some(0));
        assert_eq!(heads.head(b"ut"), None);

        heads.share(true, [&b"a"[..], b"b"].into_iter());
        assert!(heads.head(b"b") < heads.head(b"a"), "the smaller head leads either way");
        (0..TIES).for_each(|_| heads.tie());
        assert_eq!(heads.head(b"b"), None);
        heads.share(false, [&b"user:1"[..], b"user:2"].into_iter());
        assert_eq!((heads.head(b"user:"), heads.head(b"usez")), (Some(0), None), "all that they share");
        heads.share(true, [].into_iter());
        assert_eq!(heads.head(b""), Some(u64::MAX));
    }
}
