//! A histogram without locks: many tasks record, anybody reads, nobody waits.
//!
//! In: whole numbers (microseconds, bytes, ten-thousandths). Out: a [`Histogram`], which is a copy. Buckets grow with the
//! value: sixteen for each doubling, so a quantile is at most a sixteenth too high. Recording costs two or three
//! uncontended atomic additions and is done once for each batch or request, never for each record.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets for each doubling are `1 << BITS`.
const BITS: u32 = 4;
/// Values of this many bits have buckets of their own; larger ones share the last. As microseconds: 19 hours.
const VALUE_BITS: u32 = 36;
const BUCKETS: usize = ((VALUE_BITS - BITS + 1) << BITS) as usize;

/// Takes values.
#[derive(Debug)]
pub(super) struct Recorder {
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    max: AtomicU64,
}

impl Default for Recorder {
    fn default() -> Self {
        Recorder {
            buckets: (0..BUCKETS).map(|_| AtomicU64::new(0)).collect(),
            sum: AtomicU64::new(0),
            max: AtomicU64::new(0),
        }
    }
}

fn bucket_of(value: u64) -> usize {
    if value < 1 << BITS {
        return value as usize;
    }
    let shift = value.ilog2() - BITS;
    let bucket = ((shift as usize + 1) << BITS) + ((value >> shift) as usize & ((1 << BITS) - 1));
    bucket.min(BUCKETS - 1)
}

/// The largest value of a bucket.
fn top_of(bucket: usize) -> u64 {
    if bucket < 1 << BITS {
        return bucket as u64;
    }
    let shift = (bucket >> BITS) as u32 - 1;
    let within = (bucket & ((1 << BITS) - 1)) as u64;
    (((1 << BITS) + within + 1) << shift) - 1
}

impl Recorder {
    pub fn record(&self, value: u64) {
        if let Some(bucket) = self.buckets.get(bucket_of(value)) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
        if value > self.max.load(Ordering::Relaxed) {
            self.max.fetch_max(value, Ordering::Relaxed);
        }
    }

    /// A copy. `scale` is what one recorded unit means in the unit that is shown.
    pub fn read(&self, scale: f64) -> Histogram {
        let counts: Vec<u64> = self.buckets.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        Histogram {
            count: counts.iter().sum(),
            sum: self.sum.load(Ordering::Relaxed),
            max: self.max.load(Ordering::Relaxed),
            counts,
            scale,
        }
    }
}

/// The distribution of a quantity since the producer was built. Its unit is said where it is given.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u64,
    max: u64,
    scale: f64,
}

impl Histogram {
    /// How many values were recorded.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// All values together.
    pub fn sum(&self) -> f64 {
        self.sum as f64 * self.scale
    }

    /// The mean; 0 if nothing was recorded.
    pub fn mean(&self) -> f64 {
        if self.count == 0 {
            return 0.0;
        }
        self.sum() / self.count as f64
    }

    /// The largest value, exactly; 0 if nothing was recorded.
    pub fn max(&self) -> f64 {
        self.max as f64 * self.scale
    }

    /// The value that a `share` (0 to 1) of all values does not exceed: 0.99 asks for the 99th percentile. At most a
    /// sixteenth too high; 0 if nothing was recorded.
    pub fn quantile(&self, share: f64) -> f64 {
        let rank = ((share.clamp(0.0, 1.0) * self.count as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if *count > 0 && seen >= rank {
                return top_of(bucket).min(self.max) as f64 * self.scale;
            }
        }
        0.0
    }

    /// How many values are at most each of these bounds, for every doubling up to the largest value: `(bound, count)`.
    pub fn cumulative(&self) -> Vec<(f64, u64)> {
        let mut rows = Vec::new();
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            let last_of_doubling = bucket & ((1 << BITS) - 1) == (1 << BITS) - 1;
            // Small numbers (attempts, records) deserve a row each doubling as well.
            let small = bucket < 1 << BITS && (bucket + 1).is_power_of_two();
            if last_of_doubling || small {
                rows.push((top_of(bucket) as f64 * self.scale, seen));
                if seen == self.count {
                    break;
                }
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_the_buckets_follow_each_other() {
        let mut before = 0;
        for bucket in 0..BUCKETS {
            let top = top_of(bucket);
            assert_eq!(bucket_of(top), bucket, "{top}");
            assert!(bucket == 0 || top > before);
            if bucket + 1 < BUCKETS {
                assert_eq!(bucket_of(top + 1), bucket + 1, "{top}");
            }
            before = top;
        }
        assert_eq!(bucket_of(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_at_most_a_sixteenth_too_high() {
        let recorder = Recorder::default();
        for value in 1..=100_000 {
            recorder.record(value);
        }
        let histogram = recorder.read(1.0);
        assert_eq!((histogram.count(), histogram.max()), (100_000, 100_000.0));
        assert_eq!(histogram.mean(), 50_000.5);
        for share in [0.01, 0.5, 0.9, 0.99, 0.999, 1.0] {
            let (exact, told) = (share * 100_000.0, histogram.quantile(share));
            assert!(told >= exact && told <= exact * 17.0 / 16.0 + 1.0, "{share}: {told}");
        }
    }

    #[test]
    fn an_empty_histogram_is_all_zeros() {
        let histogram = Recorder::default().read(1.0);
        assert_eq!(
            (histogram.quantile(0.5), histogram.mean(), histogram.max()),
            (0.0, 0.0, 0.0)
        );
        assert_eq!(Histogram::default().quantile(1.0), 0.0);
    }

    #[test]
    fn cumulative_counts_end_with_all_values() {
        let recorder = Recorder::default();
        for value in [0, 1, 2, 3, 900, 5000] {
            recorder.record(value);
        }
        let rows = recorder.read(1.0).cumulative();
        assert_eq!(rows.first(), Some(&(0.0, 1)));
        assert!(
            rows.windows(2)
                .all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1)
        );
        assert_eq!(
            rows.last().map(|(bound, count)| (*bound >= 5000.0, *count)),
            Some((true, 6))
        );
    }
}
