//! Keys, values, orders and places: all from fixed numbers, all made before anything is counted.

use crate::Result;
use tempfile::TempDir;

/// Entries of most parts.
pub(crate) const ENTRIES: u64 = 20_000;
pub(crate) const VALUE_BYTES: usize = 100;

pub(crate) type Key = [u8; 16];
pub(crate) type Value = [u8; VALUE_BYTES];

/// The key of entry `i`: 16 decimal digits of an even number.
pub(crate) fn key(i: u64) -> Key {
    digits(2 * i)
}

/// A key right behind that of entry `i` that is never written.
pub(crate) fn missing_key(i: u64) -> Key {
    digits(2 * i + 1)
}

fn digits(number: u64) -> Key {
    format!("{number:016}").into_bytes().try_into().expect("16 digits")
}

/// The value of entry `i`: half random, half compressible. Its first byte is random, and so tells entries apart.
pub(crate) fn value(i: u64) -> Value {
    let mut value = [b'v'; VALUE_BYTES];
    let mut noise = i + 1;
    for byte in &mut value[..VALUE_BYTES / 2] {
        noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        *byte = (noise >> 56) as u8;
    }
    value
}

/// The numbers `0..ENTRIES`, each once, jumping about; another `seed` jumps otherwise.
pub(crate) fn shuffled(seed: u64) -> Vec<u64> {
    // A full period over a power of two, without what is too large.
    let all = ENTRIES.next_power_of_two();
    let step = |i: u64| (i * (0x9e37_79b1 + 8 * seed) + 12_345 + seed) % all;
    (0..all).map(step).filter(|i| *i < ENTRIES).collect()
}

/// A number that belongs to entry `i` and tells nothing of its neighbours'. (The finalizer of MurmurHash3.)
pub(crate) fn mixed(i: u64) -> u64 {
    let mut mixed = i + 1;
    for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
        mixed = (mixed ^ mixed >> 33).wrapping_mul(factor);
    }
    mixed ^ mixed >> 33
}

/// What a look at entries adds up to: every part compares it with what it must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Seen {
    pub(crate) entries: u64,
    /// The first bytes of their values.
    sum: u64,
}

impl Seen {
    /// What these entries, as they were written, add up to.
    pub(crate) fn of(entries: impl IntoIterator<Item = u64>) -> Self {
        let mut seen = Self::default();
        entries.into_iter().for_each(|i| seen.look(&value(i)));
        seen
    }

    #[inline]
    pub(crate) fn look(&mut self, value: &[u8]) {
        self.entries += 1;
        self.sum += u64::from(value[0]);
    }

    /// How many entries they were.
    ///
    /// # Errors
    /// They are not those that were to be seen.
    pub(crate) fn expect(self, expected: Self) -> Result<u64> {
        if self == expected { Ok(self.entries) } else { Err(format!("{self:?}, expected {expected:?}").into()) }
    }
}

/// A directory in memory where there is one, so that logs are mapped whatever the file system of temporary files is. It is removed when this is dropped.
pub(crate) fn scratch() -> Result<TempDir> {
    let mut builder = tempfile::Builder::new();
    builder.prefix("esker-gate-");
    Ok(builder.tempdir_in("/dev/shm").or_else(|_| builder.tempdir())?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_have_every_entry_once_and_differ() {
        for seed in 0..4 {
            let mut order = shuffled(seed);
            assert!(!order.is_sorted());
            order.sort_unstable();
            assert!(order.into_iter().eq(0..ENTRIES));
        }
        assert_ne!(shuffled(0), shuffled(1));
    }

    #[test]
    fn what_was_seen_tells_one_entry_from_another() {
        assert_eq!(Seen::of(0..9).expect(Seen::of((0..9).rev())).unwrap(), 9);
        assert!(Seen::of(0..9).expect(Seen::of(1..10)).is_err());
        assert!(key(3) < missing_key(3) && missing_key(3) < key(4));
    }
}
