//! [`mutated`]: changes of a file as a fuzzer makes them, from a seed.

/// A stream of numbers that depends on its seed alone (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The stream of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    /// A number below `limit`, which is at least 1.
    pub fn below(&mut self, limit: usize) -> usize {
        (self.number() % limit as u64) as usize
    }
}

/// Numbers at which things turn.
const AWKWARD: [u64; 12] =
    [0, 1, 2, 7, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, u64::MAX >> 1, u64::MAX];

/// So long may a changed file be, in bytes.
const BYTES_MAX: usize = 64 << 10;

/// `data` after one to six changes; `other` is where foreign bytes come from.
pub fn mutated(data: &[u8], other: &[u8], random: &mut Random) -> Vec<u8> {
    let mut bytes = data.to_vec();
    for _ in 0..=random.below(6) {
        change(&mut bytes, other, random);
    }
    bytes.truncate(BYTES_MAX);
    bytes
}

fn change(bytes: &mut Vec<u8>, other: &[u8], random: &mut Random) {
    let len = bytes.len();
    let at = random.below(len + 1);
    let count = 1 + random.below(16);
    let end = (at + count).min(len);
    match random.below(10) {
        0 | 1 if at < len => bytes[at] ^= 1 << random.below(8),
        2 if at < len => bytes[at] = random.number() as u8,
        3 | 4 => {
            let value = AWKWARD[random.below(AWKWARD.len())].wrapping_add(random.below(3) as u64).to_le_bytes();
            let width = [1, 2, 4, 8][random.below(4)].min(len - at);
            bytes[at..at + width].copy_from_slice(&value[..width]);
        }
        5 => bytes.truncate(at),
        6 => drop(bytes.drain(at..end)),
        7 => {
            let bit = random.number() as u8;
            drop(bytes.splice(at..at, std::iter::repeat_n(bit, count)));
        }
        8 if len > 0 => {
            let to = random.below(len);
            let count = (end - at).min(len - to);
            bytes.copy_within(at..at + count, to);
        }
        _ if !other.is_empty() => {
            let from = random.below(other.len());
            let to = (from + count * 4).min(other.len());
            drop(bytes.splice(at..end, other[from..to].iter().copied()));
        }
        _ => bytes.push(random.number() as u8),
    }
}
