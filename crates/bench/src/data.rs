//! Keys, values and orders, all computed from a number, so that nothing need be kept to check what is read.
//!
//! ```text
//! key of entry 21      "0000000000000042"      16 decimal digits of 2 * 21
//! a key never written  "0000000000000043"      odd numbers lie between the keys there are
//! value of entry 21    [pseudo-random half][the same bytes again]     compresses to a little over half
//! ```

use crate::Result;

/// Size of all keys.
pub const KEY_BYTES: usize = 16;

/// A key as written.
pub type Key = [u8; KEY_BYTES];

/// The key of entry `index`, below 10^15.
pub fn key(index: u64) -> Key {
    digits(2 * index)
}

/// A key right behind entry `index` that no workload writes.
pub fn missing_key(index: u64) -> Key {
    digits(2 * index + 1)
}

fn digits(mut number: u64) -> Key {
    let mut key = [b'0'; KEY_BYTES];
    for byte in key.iter_mut().rev() {
        *byte += (number % 10) as u8;
        number /= 10;
    }
    key
}

/// The entry whose key this is.
pub fn index(key: &[u8]) -> Option<u64> {
    if key.len() != KEY_BYTES {
        return None;
    }
    let digit = |byte: &u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let number = key.iter().try_fold(0, |sum, byte| Some(sum * 10 + digit(byte)?))?;
    (number % 2 == 0).then_some(number / 2)
}

/// One step of SplitMix64: a bijection that leaves no pattern.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// Writes the value of entry `index` over `value`.
pub fn fill_value(index: u64, value: &mut [u8]) {
    let half = value.len().div_ceil(2);
    let (first, second) = value.split_at_mut(half);
    for (word, bytes) in first.chunks_mut(8).enumerate() {
        let random = mix(mix(index).wrapping_add(word as u64)).to_le_bytes();
        bytes.copy_from_slice(&random[..bytes.len()]);
    }
    second.copy_from_slice(&first[..second.len()]);
}

/// Compares values with what they must be. Keeps a buffer; one for each thread.
#[derive(Debug)]
pub struct Checker {
    expected: Vec<u8>,
}

impl Checker {
    /// Checks values of `value_bytes`, at least 16.
    pub fn new(value_bytes: usize) -> Self {
        Self { expected: vec![0; value_bytes] }
    }

    /// Every byte of the value of entry `index`.
    ///
    /// # Errors
    /// The value is another.
    #[inline]
    pub fn check(&mut self, index: u64, value: &[u8]) -> Result<()> {
        fill_value(index, &mut self.expected);
        if value == self.expected { Ok(()) } else { Err(wrong(index, value)) }
    }

    /// The key's length and last digit, the value's length and first eight bytes: what a walk can afford of an entry that costs it tens of nanoseconds.
    ///
    /// # Errors
    /// The entry is another.
    #[inline]
    pub fn check_in_passing(&self, index: u64, key: &[u8], value: &[u8]) -> Result<()> {
        let key_fits = key.len() == KEY_BYTES && key[KEY_BYTES - 1] == b'0' + (2 * index % 10) as u8;
        let value_fits = value.len() == self.expected.len() && value[..8] == mix(mix(index)).to_le_bytes();
        if key_fits && value_fits { Ok(()) } else { Err(wrong(index, value)) }
    }
}

#[cold]
fn wrong(index: u64, value: &[u8]) -> crate::Error {
    let begin = value[..value.len().min(16)].escape_ascii();
    format!("entry {index} reads wrong: {} bytes, \"{begin}\"..", value.len()).into()
}

/// A permutation of `0..num` that is computed, not stored: mixing rounds on as many bits as `num` needs, repeated until the result is below `num`.
#[derive(Debug, Clone, Copy)]
pub struct Order {
    num: u64,
    bits: u32,
    seed: u64,
}

impl Order {
    /// The permutation number `seed` of `0..num`.
    pub fn new(num: u64, seed: u64) -> Self {
        Self { num, bits: 64 - num.saturating_sub(1).leading_zeros(), seed: mix(seed) }
    }

    /// Which number stands at place `i`, which is below `num`.
    ///
    /// # Panics
    /// If it is not, as the search for a place might have no end.
    #[inline]
    pub fn at(&self, i: u64) -> u64 {
        assert!(i < self.num, "place {i} of {}", self.num);
        let mut at = i;
        loop {
            at = self.round(at);
            if at < self.num {
                return at;
            }
        }
    }

    /// A bijection of the numbers of `bits` bits: each step can be undone.
    fn round(&self, mut x: u64) -> u64 {
        let mask = 1_u64.checked_shl(self.bits).map_or(u64::MAX, |bit| bit - 1);
        let shift = (self.bits / 2).max(1);
        for factor in [0xbf58_476d_1ce4_e5b9, 0x94d0_49bb_1331_11eb, 0x9e37_79b9_7f4a_7c15_u64] {
            x = x.wrapping_add(self.seed).wrapping_mul(factor) & mask;
            x ^= x >> shift;
        }
        x
    }
}

/// Random entries, any number of times.
#[derive(Debug)]
pub struct Random {
    state: u64,
    num: u64,
}

impl Random {
    /// The sequence number `seed` over `0..num`.
    pub fn new(num: u64, seed: u64) -> Self {
        Self { state: mix(seed), num }
    }

    /// The next one.
    #[inline]
    pub fn draw(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        // The upper half of the product: spread over 0..num without a division.
        ((u128::from(mix(self.state)) * u128::from(self.num)) >> 64) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_in_the_order_of_their_numbers_and_missing_ones_between_them() {
        for i in [0, 1, 9, 10, 499_999, 10_u64.pow(12)] {
            assert_eq!(index(&key(i)), Some(i));
            assert_eq!(index(&missing_key(i)), None);
            assert!(key(i) < missing_key(i) && missing_key(i) < key(i + 1));
        }
        assert_eq!(&key(21), b"0000000000000042");
        assert_eq!([index(b"42"), index(b"00000000000000x2")], [None, None]);
    }

    #[test]
    fn a_value_is_its_own_and_any_changed_byte_is_found() {
        for bytes in [16, 17, 100, 1000] {
            let (mut value, mut other) = (vec![0; bytes], vec![0; bytes]);
            fill_value(7, &mut value);
            fill_value(8, &mut other);
            assert_eq!(value[bytes.div_ceil(2)..], value[..bytes / 2], "the second half repeats the first");
            let mut checker = Checker::new(bytes);
            checker.check(7, &value).unwrap();
            checker.check_in_passing(7, &key(7), &value).unwrap();
            assert!(checker.check(7, &other).is_err());
            assert!(checker.check_in_passing(7, &key(7), &other).is_err());
            assert!(checker.check_in_passing(8, &key(7), &other).is_err());
            for i in 0..bytes {
                value[i] ^= 1;
                assert!(checker.check(7, &value).is_err(), "byte {i}");
                value[i] ^= 1;
            }
            assert!(checker.check(7, &value[..bytes - 1]).is_err());
            assert!(checker.check_in_passing(7, &key(7), &value[..4]).is_err());
        }
    }

    #[test]
    fn an_order_visits_everything_once_and_seeds_differ() {
        for num in [1, 2, 3, 7, 8, 9, 1000, 1024, 4097] {
            let order = Order::new(num, 1);
            let mut places: Vec<_> = (0..num).map(|i| order.at(i)).collect();
            places.sort_unstable();
            assert!(places.iter().copied().eq(0..num), "{num}");
        }
        let (one, other) = (Order::new(1000, 1), Order::new(1000, 2));
        let equal = (0..1000).filter(|&i| one.at(i) == other.at(i)).count();
        let rising = (1..1000).filter(|&i| one.at(i) > one.at(i - 1)).count();
        assert!(equal < 20 && (400..600).contains(&rising), "{equal} equal, {rising} rising");
    }

    #[test]
    fn draws_cover_the_range() {
        let mut random = Random::new(100, 3);
        let mut seen = [false; 100];
        (0..2000).for_each(|_| seen[random.draw() as usize] = true);
        assert!(seen.iter().all(|&seen| seen));
    }
}
