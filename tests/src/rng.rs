//! Seeded numbers for random tests.
//!
//! A random test prints its seed; `OTTLA_SEED` repeats it. SplitMix64: enough for choosing, and the same everywhere.

use std::time::{SystemTime, UNIX_EPOCH};

/// A seeded source of numbers.
pub struct Rng(u64);

impl Rng {
    /// The source that `seed` names.
    pub fn new(seed: u64) -> Rng {
        Rng(seed)
    }

    /// A source from `OTTLA_SEED`, or a new one; its seed is printed under `what`.
    pub fn announced(what: &str) -> Rng {
        let clock = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(1, |since| since.as_nanos() as u64 % 1_000_000_007);
        let seed = std::env::var("OTTLA_SEED")
            .ok()
            .and_then(|text| text.parse().ok())
            .unwrap_or(clock);
        println!("{what}: OTTLA_SEED={seed}");
        Rng(seed)
    }

    /// Any number.
    pub fn next_u64(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// A number below `bound` (0 when `bound` is 0).
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next_u64() % bound }
    }

    /// An index into something of `len` elements.
    pub fn index(&mut self, len: usize) -> usize {
        self.below(len as u64) as usize
    }

    /// `len` bytes.
    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next_u64() as u8).collect()
    }
}
