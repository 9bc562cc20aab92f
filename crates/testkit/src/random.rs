//! Random numbers for drivers of tests: one seed, one run.

/// A generator (SplitMix64); all of a run comes from its seed.
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// That of `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number, any of them.
    pub fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// One of `0..n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.number() % n
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}
