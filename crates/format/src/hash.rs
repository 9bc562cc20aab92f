//! [`KeyHash`]: the hash of a user key that filters and blocks of tables store (`docs/format/sstable.md`). It never changes.

const S0: u64 = 0x2d35_8dcc_aa6c_78a5;
const S1: u64 = 0x8bb8_4b93_962e_acc9;
const S2: u64 = 0x4b33_a62e_d433_d4a3;

/// The hash of a user key: computed once for a look-up, used in every memtable and table.
///
/// A multiply-and-fold hash in the manner of wyhash. Not keyed: whoever chooses the keys can make them collide, which costs needless
/// block reads and nothing else.
///
/// ```
/// use esker_format::KeyHash;
/// assert_eq!(KeyHash::of(b"key"), KeyHash::of(&[b'k', b'e', b'y']));
/// assert_ne!(KeyHash::of(b"key"), KeyHash::of(b"kez"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct KeyHash(pub u64);

impl KeyHash {
    /// Hashes a user key.
    #[inline]
    pub fn of(user_key: &[u8]) -> Self {
        let n = user_key.len();
        let mut h = S2;
        let (a, b) = if n > 16 {
            let mut rest = user_key;
            while rest.len() > 16 {
                h = mix(le8(rest, 0) ^ S1, le8(rest, 8) ^ h);
                rest = &rest[16..];
            }
            (le8(user_key, n - 16), le8(user_key, n - 8))
        } else if n >= 8 {
            (le8(user_key, 0), le8(user_key, n - 8))
        } else if n >= 4 {
            (le4(user_key, 0), le4(user_key, n - 4))
        } else if n >= 1 {
            let byte = |i: usize| u64::from(user_key[i]);
            (byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16, 0)
        } else {
            (0, 0)
        };
        Self(mix(mix(a ^ S1, b ^ h) ^ S0, S1 ^ n as u64))
    }

    /// All 64 bits.
    pub fn to_bits(self) -> u64 {
        self.0
    }

    /// The byte that a data block of a table stores for the key.
    #[inline]
    pub fn fingerprint(self) -> u8 {
        (self.0 >> 24) as u8
    }
}

/// The upper half of the product of two numbers, folded onto the lower: each bit of the result depends on most bits of both. What [`KeyHash`] is made of, and good for
/// hashing small numbers in memory.
#[inline]
pub fn mix(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    (product >> 64) as u64 ^ product as u64
}

#[inline]
fn le8(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(*bytes[at..].first_chunk().expect("the length was checked"))
}

#[inline]
fn le4(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32::from_le_bytes(*bytes[at..].first_chunk().expect("the length was checked")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    /// The format page as code, byte by byte.
    fn by_the_page(key: &[u8]) -> u64 {
        let n = key.len();
        let le = |i: usize, count: usize| (0..count).fold(0u64, |sum, j| sum | u64::from(key[i + j]) << (8 * j));
        let mut h = S2;
        let mut i = 0;
        while n > 16 && n - i > 16 {
            h = mix(le(i, 8) ^ S1, le(i + 8, 8) ^ h);
            i += 16;
        }
        let (a, b) = match n {
            0 => (0, 0),
            1..4 => (le(0, 1) + (le(n / 2, 1) << 8) + (le(n - 1, 1) << 16), 0),
            4..8 => (le(0, 4), le(n - 4, 4)),
            _ => (le(n.max(16) - 16, 8), le(n - 8, 8)),
        };
        mix(mix(a ^ S1, b ^ h) ^ S0, S1 ^ n as u64)
    }

    #[test]
    fn does_what_the_format_page_says() {
        let key: Vec<u8> = (0..200).map(|i| (i * 7 + 3) as u8).collect();
        for n in 0..key.len() {
            assert_eq!(KeyHash::of(&key[..n]).0, by_the_page(&key[..n]), "{n} bytes");
        }
    }

    #[test]
    fn every_bit_of_every_input_bit_counts() {
        for n in [1, 3, 4, 7, 8, 15, 16, 17, 32, 33, 100] {
            let key: Vec<u8> = (0..n).map(|i| i as u8).collect();
            let hash = KeyHash::of(&key).0;
            for bit in 0..8 * n {
                let mut other = key.clone();
                other[bit / 8] ^= 1 << (bit % 8);
                let flipped = (KeyHash::of(&other).0 ^ hash).count_ones();
                assert!((8..=56).contains(&flipped), "{n} bytes, bit {bit}: {flipped} bits changed");
            }
        }
    }

    #[test]
    fn bytes_of_numbered_keys_spread_evenly() {
        let hashes: Vec<u64> = (0..100_000u32).map(|i| KeyHash::of(format!("user{i:012}").as_bytes()).0).collect();
        assert_eq!(hashes.iter().collect::<HashSet<_>>().len(), hashes.len());
        for shift in (0..64).step_by(8) {
            let mut counts = [0u32; 256];
            hashes.iter().for_each(|h| counts[(h >> shift) as usize & 255] += 1);
            let (min, max) = (counts.iter().min().unwrap(), counts.iter().max().unwrap());
            assert!(*min > 300 && *max < 490, "byte at bit {shift}: {min} to {max}, expected 391");
        }
    }
}
