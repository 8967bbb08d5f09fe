//! The seeded draws: splitmix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014). One multiplication
//! chain a draw, and any seed is a good one.

use core::cell::Cell;

/// A stream of draws.
pub struct Rng(Cell<u64>);

impl Rng {
    pub const fn new(seed: u64) -> Self {
        Rng(Cell::new(seed))
    }
    pub fn seed(&self, seed: u64) {
        self.0.set(seed);
    }
    pub fn next(&self) -> u64 {
        let s = self.0.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        self.0.set(s);
        let z = (s ^ s >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }
    /// Uniform below `n` (0 if `n` is 0), with the negligible bias of a 64-bit multiplication.
    pub fn below(&self, n: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(n)) >> 64) as u64
    }
}
