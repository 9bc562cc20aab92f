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

fn digits(number: u64) -> Key {
    let mut key = [0; KEY_BYTES];
    let (high, low) = (number / 100_000_000 % 100_000_000, number % 100_000_000);
    key[..8].copy_from_slice(&eight_digits(high).to_le_bytes());
    key[8..].copy_from_slice(&eight_digits(low).to_le_bytes());
    key
}

/// Eight decimal digits, the first in the lowest byte. Two lanes of four digits, then four of two, then eight of one: no loop and no table, since a
/// key is made for each call that is measured.
fn eight_digits(number: u64) -> u64 {
    let fours = (number / 10_000) | ((number % 10_000) << 32);
    let hundreds = ((fours * 10_486) >> 20) & 0x7f_0000_007f;
    let twos = hundreds | (fours - 100 * hundreds) << 16;
    let tens = ((twos * 103) >> 10) & 0x000f_000f_000f_000f;
    (tens | (twos - 10 * tens) << 8) + 0x3030_3030_3030_3030
}

/// The entry whose key this is.
#[inline]
pub fn index(key: &[u8]) -> Option<u64> {
    let (high, low) = key.split_first_chunk::<8>()?;
    let number = number_of(*high)? * 100_000_000 + number_of(low.try_into().ok()?)?;
    number.is_multiple_of(2).then_some(number / 2)
}

/// The reverse of [`eight_digits`]; `None` if there is anything but digits.
fn number_of(digits: [u8; 8]) -> Option<u64> {
    let bytes = u64::from_le_bytes(digits);
    let high_halves = 0xf0f0_f0f0_f0f0_f0f0;
    let all_digits = bytes & high_halves == 0x3030_3030_3030_3030
        && bytes.wrapping_add(0x0606_0606_0606_0606) & high_halves == 0x3030_3030_3030_3030;
    let ones = bytes & 0x0f0f_0f0f_0f0f_0f0f;
    let twos = (ones * 10 + (ones >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (twos * 100 + (twos >> 16)) & 0x0000_ffff_0000_ffff;
    all_digits.then_some((fours & 0xffff) * 10_000 + (fours >> 32))
}

/// One step of SplitMix64: a bijection that leaves no pattern.
pub fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// The pseudo-random words of a value. Cheap, as one is needed for every eight bytes that are put or checked: a multiplication each.
#[derive(Clone, Copy)]
struct Words {
    seed: u64,
}

impl Words {
    #[inline]
    fn of(index: u64) -> Self {
        Self { seed: mix(index) }
    }

    #[inline]
    fn at(self, word: usize) -> [u8; 8] {
        let x = self.seed.wrapping_add((word as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        (x ^ (x >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93).to_le_bytes()
    }
}

/// Writes the value of entry `index` over `value`.
#[inline]
pub fn fill_value(index: u64, value: &mut [u8]) {
    let words = Words::of(index);
    let (first, second) = value.split_at_mut(value.len().div_ceil(2));
    let (whole, rest) = first.as_chunks_mut::<8>();
    for (word, bytes) in whole.iter_mut().enumerate() {
        *bytes = words.at(word);
    }
    rest.copy_from_slice(&words.at(whole.len())[..rest.len()]);
    second.copy_from_slice(&first[..second.len()]);
}

/// Compares values with what they must be.
#[derive(Debug, Clone, Copy)]
pub struct Checker {
    value_bytes: usize,
}

impl Checker {
    /// Checks values of `value_bytes`, at least 16.
    pub fn new(value_bytes: usize) -> Self {
        Self { value_bytes }
    }

    /// Every byte of the value of entry `index`.
    ///
    /// # Errors
    /// The value is another.
    #[inline]
    pub fn check(&self, index: u64, value: &[u8]) -> Result<()> {
        let words = Words::of(index);
        let (first, second) = value.split_at(value.len().div_ceil(2));
        let (whole, rest) = first.as_chunks::<8>();
        let first_fits = whole.iter().enumerate().all(|(word, bytes)| *bytes == words.at(word))
            && *rest == words.at(whole.len())[..rest.len()];
        let fits = value.len() == self.value_bytes && first_fits && *second == first[..second.len()];
        if fits { Ok(()) } else { Err(wrong(index, value)) }
    }

    /// The key's length and last digit, the value's length and first eight bytes: what a walk can afford of an entry that costs it tens of nanoseconds.
    ///
    /// # Errors
    /// The entry is another.
    #[inline]
    pub fn check_in_passing(&self, index: u64, key: &[u8], value: &[u8]) -> Result<()> {
        let key_fits = key.len() == KEY_BYTES && key[KEY_BYTES - 1] == b'0' + (2 * index % 10) as u8;
        let value_fits = value.len() == self.value_bytes && value[..8] == Words::of(index).at(0);
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

    /// How many numbers there are.
    #[expect(clippy::len_without_is_empty, reason = "it has no use for that")]
    pub fn len(&self) -> u64 {
        self.num
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
        self.below(self.num)
    }

    /// A number below `bound`.
    #[inline]
    pub fn below(&mut self, bound: u64) -> u64 {
        // The upper half of the product: spread over 0..bound without a division.
        ((u128::from(self.bits()) * u128::from(bound)) >> 64) as u64
    }

    /// 64 random bits.
    #[inline]
    pub fn bits(&mut self) -> u64 {
        self.state = self.state.wrapping_add(1);
        mix(self.state)
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
        assert_eq!(&key(617_283_945_061_728), b"1234567890123456");
        for wrong in [&b"42"[..], b"00000000000000x2", b"000000000000004:", b"/000000000000042", b"00000000000000042"] {
            assert_eq!(index(wrong), None, "{}", wrong.escape_ascii());
        }
    }

    #[test]
    fn a_value_is_its_own_and_any_changed_byte_is_found() {
        for bytes in [16, 17, 100, 1000] {
            let (mut value, mut other) = (vec![0; bytes], vec![0; bytes]);
            fill_value(7, &mut value);
            fill_value(8, &mut other);
            assert_eq!(value[bytes.div_ceil(2)..], value[..bytes / 2], "the second half repeats the first");
            let checker = Checker::new(bytes);
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
