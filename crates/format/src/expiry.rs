//! Times from which on versions count as tombstones (`docs/format/keys.md`), and what is known of those of a table.
//!
//! ```text
//! +-------------------+-----------------------------------------+
//! | expiry time (u64) | value (EXP), or reference (EXPBLOB)     |   in milliseconds since 1970, little endian
//! +-------------------+-----------------------------------------+
//! ```
//! A version is there before its time, and is gone at it and after.

use crate::decode::{DecodeError, Decoder};
use crate::varint;

/// The length of an expiry time, in bytes.
pub const EXPIRY_BYTES: usize = 8;

/// Takes what is stored for a version that expires apart: the time at which it does, and what stands behind; `None` if it is too short.
///
/// ```
/// assert_eq!(esker_format::split_expiry(b"\x05\0\0\0\0\0\0\0value"), Some((5, &b"value"[..])));
/// assert_eq!(esker_format::split_expiry(b"value"), None);
/// ```
#[inline]
pub fn split_expiry(stored: &[u8]) -> Option<(u64, &[u8])> {
    let (time, rest) = stored.split_first_chunk::<EXPIRY_BYTES>()?;
    Some((u64::from_le_bytes(*time), rest))
}

/// As [`split_expiry`], of bytes from disk.
///
/// # Errors
/// They are too short.
pub fn decode_expiry(stored: &[u8]) -> Result<(u64, &[u8]), DecodeError> {
    split_expiry(stored).ok_or(DecodeError::Truncated {
        what: "expiry time",
        offset: 0,
        need: EXPIRY_BYTES as u64,
        have: stored.len(),
    })
}

/// When the entries of a table expire: enough to know when it is worth a compaction, and when nothing in it is left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Expiries {
    /// How many entries have an expiry time, at least 1.
    pub entries: u64,
    /// The least of these times, in milliseconds since 1970.
    pub earliest_ms: u64,
    /// The greatest.
    pub latest_ms: u64,
    /// When more than half of all entries of the table are expired or tombstones; `None`: never.
    pub half_ms: Option<u64>,
}

impl Expiries {
    /// Appends the form in which tables and manifests have it.
    pub fn encode_into(&self, out: &mut Vec<u8>) {
        for number in [self.entries, self.earliest_ms, self.latest_ms, self.half_ms.unwrap_or(0)] {
            varint::put(out, number);
        }
    }

    /// Reads that form.
    ///
    /// # Errors
    /// The bytes are none.
    pub fn decode(decoder: &mut Decoder<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            entries: decoder.varint("entries that expire")?,
            earliest_ms: decoder.varint("earliest expiry time")?,
            latest_ms: decoder.varint("latest expiry time")?,
            half_ms: Some(decoder.varint("time at which half is expired")?).filter(|half| *half > 0),
        })
    }

    /// Whether the times can be those of so many entries of which so many are tombstones.
    pub fn is_sound(&self, entries: u64, deletions: u64) -> bool {
        let times = self.earliest_ms..=self.latest_ms;
        self.entries > 0
            && self.entries <= entries.saturating_sub(deletions)
            && !times.is_empty()
            && self.half_ms.is_none_or(|half| times.contains(&half))
    }
}

/// Gathers [`Expiries`] from entries, in any order. Takes 8 bytes for each that expires.
#[derive(Debug, Clone, Default)]
pub struct ExpiryCount {
    times: Vec<u64>,
}

impl ExpiryCount {
    /// Counts an entry that expires at a time.
    pub fn add(&mut self, unix_ms: u64) {
        self.times.push(unix_ms);
    }

    /// What they come to, in a table of so many entries in all, of which so many are tombstones; `None` if none expires.
    pub fn finish(mut self, entries: u64, deletions: u64) -> Option<Expiries> {
        let (earliest_ms, latest_ms) = (*self.times.iter().min()?, *self.times.iter().max()?);
        let count = self.times.len() as u64;
        // So many have to be gone until more than half are.
        let needed = (entries / 2 + 1).saturating_sub(deletions).max(1);
        let half_ms = (needed <= count).then(|| *self.times.select_nth_unstable(needed as usize - 1).1);
        Some(Expiries { entries: count, earliest_ms, latest_ms, half_ms: half_ms.filter(|half| *half > 0) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Beside a plain count at each time.
        #[test]
        fn half_is_when_more_than_half_are_gone(times in prop::collection::vec(1u64..50, 1..30), others in 0u64..30, deletions in 0u64..30) {
            let entries = times.len() as u64 + others + deletions;
            let mut count = ExpiryCount::default();
            times.iter().for_each(|time| count.add(*time));
            let found = count.finish(entries, deletions).unwrap();
            let gone = |at: u64| deletions + times.iter().filter(|time| **time <= at).count() as u64;
            let half = times.iter().copied().filter(|at| gone(*at) > entries / 2).min();
            prop_assert_eq!(found.half_ms, half);
            prop_assert_eq!((found.earliest_ms, found.latest_ms), (*times.iter().min().unwrap(), *times.iter().max().unwrap()));
            prop_assert!(found.is_sound(entries, deletions));
            let mut bytes = Vec::new();
            found.encode_into(&mut bytes);
            prop_assert_eq!(Expiries::decode(&mut Decoder::new(&bytes)), Ok(found));
        }
    }

    #[test]
    fn unsound_times_are_told() {
        let good = Expiries { entries: 2, earliest_ms: 3, latest_ms: 9, half_ms: Some(5) };
        assert!(good.is_sound(2, 0) && good.is_sound(5, 3));
        assert!(!good.is_sound(1, 0) && !good.is_sound(4, 3) && !good.is_sound(1, 2));
        assert!(!Expiries { entries: 0, ..good }.is_sound(2, 0));
        assert!(!Expiries { latest_ms: 2, ..good }.is_sound(2, 0));
        assert!(!Expiries { half_ms: Some(10), ..good }.is_sound(2, 0));
        assert!(ExpiryCount::default().finish(3, 0).is_none());
    }
}
