//! How long to wait before the next attempt (KIP-580).
//!
//! In: the number of attempts that failed in a row. Out: a wait in milliseconds.
//! The wait doubles with every failure, up to a maximum, and is spread by ±20 % so that a thousand clients of one
//! broker that died do not come back in the same millisecond. The randomness comes from a seed given by the driver:
//! the same seed gives the same waits.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// Kafka's jitter: each wait is multiplied by a number between 0.8 and 1.2.
const JITTER: f64 = 0.2;

/// Beyond this the doubled wait exceeds every configurable maximum; it keeps the shift from overflowing.
const MAX_DOUBLINGS: u32 = 40;

/// Exponential waits with jitter: `min(uniform(0.8..1.2) * initial * 2^attempts, max)`.
#[derive(Debug)]
pub struct Backoff {
    initial_ms: u64,
    max_ms: u64,
    random: StdRng,
}

impl Backoff {
    /// Waits that start at `initial_ms` and never exceed `max_ms`.
    ///
    /// If `max_ms` is below `initial_ms`, every wait is `max_ms`, as in the Java client.
    pub fn new(initial_ms: u64, max_ms: u64, seed: u64) -> Self {
        Backoff {
            initial_ms: initial_ms.min(max_ms),
            max_ms,
            random: StdRng::seed_from_u64(seed),
        }
    }

    /// The wait after `failures` failures in a row: 0 for none, about the initial wait for the first.
    pub fn next_ms(&mut self, failures: u32) -> u64 {
        if failures == 0 {
            return 0;
        }
        // A flat backoff (initial = max) is a wish for a fixed wait: no jitter, as in the Java client.
        if self.initial_ms == self.max_ms {
            return self.initial_ms;
        }
        let doublings = (failures - 1).min(MAX_DOUBLINGS);
        let wait = (self.initial_ms as f64) * (1u64 << doublings) as f64;
        let spread: f64 = self.random.random_range(1.0 - JITTER..1.0 + JITTER);
        ((wait * spread) as u64).min(self.max_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn waits_double_within_the_jitter_until_the_maximum() {
        let mut backoff = Backoff::new(100, 1000, 7);
        assert_eq!(backoff.next_ms(0), 0);
        for (failures, middle) in [(1, 100), (2, 200), (3, 400)] {
            let wait = backoff.next_ms(failures);
            assert!(
                wait >= middle * 8 / 10 && wait <= middle * 12 / 10,
                "{failures} failures: {wait} ms"
            );
        }
        assert_eq!(backoff.next_ms(6), 1000);
        assert_eq!(backoff.next_ms(u32::MAX), 1000);
    }

    #[test]
    fn one_seed_gives_one_story() {
        let mut one = Backoff::new(50, 1000, 42);
        let mut same = Backoff::new(50, 1000, 42);
        for failures in 1..10 {
            assert_eq!(one.next_ms(failures), same.next_ms(failures));
        }
    }

    #[test]
    fn a_maximum_below_the_initial_wait_wins() {
        assert_eq!(Backoff::new(500, 100, 1).next_ms(1), 100);
    }

    proptest! {
        #[test]
        fn no_wait_exceeds_its_maximum(initial in 0u64..1 << 40, max in 0u64..1 << 40, failures: u32, seed: u64) {
            prop_assert!(Backoff::new(initial, max, seed).next_ms(failures) <= max);
        }
    }
}
