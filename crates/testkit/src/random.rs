//! Numbers that follow from a seed: SplitMix64, as Steele, Lea and Flood give it.

/// A source of numbers.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// The same numbers for the same seed.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "it never ends")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    ///
    /// # Panics
    /// If that is 0.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// As `below`, of places in memory.
    ///
    /// # Panics
    /// If `end` is 0.
    pub fn index(&mut self, end: usize) -> usize {
        self.below(end as u64) as usize
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// One of these, of which there is at least one.
    ///
    /// # Panics
    /// If there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.index(of.len())]
    }

    /// The number of a share, by how large the shares are.
    ///
    /// # Panics
    /// If all of them are 0.
    pub fn share(&mut self, shares: &[u64]) -> usize {
        let mut at = self.below(shares.iter().sum());
        for (i, share) in shares.iter().enumerate() {
            match at.checked_sub(*share) {
                Some(rest) => at = rest,
                None => return i,
            }
        }
        unreachable!("it is below their sum")
    }
}
