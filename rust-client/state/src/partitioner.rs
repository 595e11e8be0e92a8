//! The partitioners: which partition a record goes to.
//!
//! Takes a key, or only the number of bytes already given to the current partition. Gives a partition number.
//! It knows neither records nor leaders: the caller says which partitions are available and brings the random number.
//!
//! Keys are hashed as Kafka's Java producer does, so that every client puts the same key into the same partition;
//! [`Partitioner`] names the other rules that are in use, librdkafka's and Sarama's. What each of them answers is
//! published in `tests/vectors/partitioners.txt`.
//!
//! Records without a key stay with one partition for about `batch.size` bytes and then move on (KIP-480, KIP-794):
//! full batches, and over time the same number of bytes for every partition, however slow its leader is.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU64, Ordering};

/// A rule by which a producer chooses the partition of a record that names none (key `partitioner`).
///
/// The names are librdkafka's, but for `default` and `round_robin`, which are Java's rules. Every rule that hashes gives
/// the same partition for the same key in every client that has it, as long as the number of partitions stays.
///
/// | name | key | empty key | no key | who else |
/// |---|---|---|---|---|
/// | `default` | murmur2 | murmur2 | sticky | Java |
/// | `round_robin` | in turn | in turn | in turn | Java's `RoundRobinPartitioner` |
/// | `random` | random | random | random | librdkafka |
/// | `consistent` | CRC-32 | one partition | one partition | librdkafka |
/// | `consistent_random` | CRC-32 | sticky | sticky | librdkafka's default |
/// | `murmur2` | murmur2 | murmur2 | as the empty key | librdkafka |
/// | `murmur2_random` | murmur2 | murmur2 | sticky | librdkafka |
/// | `fnv1a` | FNV-1a | FNV-1a | as the empty key | librdkafka, Sarama for keys |
/// | `fnv1a_random` | FNV-1a | FNV-1a | sticky | librdkafka, Sarama for keys |
///
/// `sticky`: all such records go to one partition for about `batch.size` bytes, then to another (KIP-480, KIP-794).
/// librdkafka changes by time instead, every `sticky.partitioning.linger.ms`, and under `random` keeps records without a
/// key together in the same way; here `random` means each record for itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Partitioner {
    /// `default`: murmur2 of the key; without a key sticky. `partitioner.ignore.keys` makes it sticky for all.
    #[default]
    Default,
    /// `round_robin`: one record after the other to the next available partition, whatever its key.
    RoundRobin,
    /// `random`: each record to any available partition, whatever its key.
    Random,
    /// `consistent`: CRC-32 of the key. Records with an empty key and those without one all go to one partition.
    Consistent,
    /// `consistent_random`: CRC-32 of the key; with an empty key or without one sticky.
    ConsistentRandom,
    /// `murmur2`: as Java places keys. Records without a key all go where the empty key goes.
    Murmur2,
    /// `murmur2_random`: as Java places keys; without a key sticky.
    Murmur2Random,
    /// `fnv1a`: FNV-1a of the key. Records without a key all go where the empty key goes.
    Fnv1a,
    /// `fnv1a_random`: FNV-1a of the key; without a key sticky.
    Fnv1aRandom,
}

impl Partitioner {
    /// All of them.
    pub const ALL: [Partitioner; 9] = [
        Partitioner::Default,
        Partitioner::RoundRobin,
        Partitioner::Random,
        Partitioner::Consistent,
        Partitioner::ConsistentRandom,
        Partitioner::Murmur2,
        Partitioner::Murmur2Random,
        Partitioner::Fnv1a,
        Partitioner::Fnv1aRandom,
    ];

    /// The name that the key `partitioner` takes.
    pub const fn name(self) -> &'static str {
        match self {
            Partitioner::Default => "default",
            Partitioner::RoundRobin => "round_robin",
            Partitioner::Random => "random",
            Partitioner::Consistent => "consistent",
            Partitioner::ConsistentRandom => "consistent_random",
            Partitioner::Murmur2 => "murmur2",
            Partitioner::Murmur2Random => "murmur2_random",
            Partitioner::Fnv1a => "fnv1a",
            Partitioner::Fnv1aRandom => "fnv1a_random",
        }
    }

    /// The partition of a key (`None`: no key) among `partitions` partitions, 0 to `partitions - 1`.
    ///
    /// Gives `None` if this rule does not choose by this key, and if there are no partitions.
    pub fn partition_for_key(self, key: Option<&[u8]>, partitions: i32) -> Option<i32> {
        let count = u32::try_from(partitions).ok().filter(|count| *count > 0)?;
        let hash = match self {
            Partitioner::RoundRobin | Partitioner::Random => return None,
            Partitioner::Default | Partitioner::Murmur2Random => positive(murmur2(key?)),
            Partitioner::Murmur2 => positive(murmur2(key.unwrap_or_default())),
            Partitioner::Consistent => crc32(key.unwrap_or_default()),
            Partitioner::ConsistentRandom => crc32(key.filter(|key| !key.is_empty())?),
            Partitioner::Fnv1a => fnv1a(key.unwrap_or_default()).unsigned_abs(),
            Partitioner::Fnv1aRandom => fnv1a(key?).unsigned_abs(),
        };
        i32::try_from(hash % count).ok()
    }
}

impl fmt::Display for Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// No rule has this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no partitioner; there are {names}", names = Partitioner::ALL.map(Partitioner::name).join(", "))]
pub struct UnknownPartitioner(String);

impl FromStr for Partitioner {
    type Err = UnknownPartitioner;

    /// By name, in any case of letters.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Partitioner::ALL
            .into_iter()
            .find(|rule| rule.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownPartitioner(text.to_owned()))
    }
}

/// Kafka's 32-bit MurmurHash2, seed 0x9747b28c, as a signed number like Java's.
pub fn murmur2(data: &[u8]) -> i32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;

    // Java's length is an int; a key of 4 GiB cannot reach this place (it exceeds every record limit).
    let mut hash = SEED ^ data.len() as u32;
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = match word.first_chunk::<4>() {
            Some(bytes) => u32::from_le_bytes(*bytes),
            None => 0,
        };
        k = k.wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        for (place, byte) in rest.iter().enumerate() {
            hash ^= u32::from(*byte) << (8 * place);
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^= hash >> 15;
    hash as i32
}

/// CRC-32 as in zlib and Ethernet (ISO-HDLC): librdkafka's `consistent`.
fn crc32(data: &[u8]) -> u32 {
    crc_fast::crc32_iso_hdlc(data)
}

/// 32-bit FNV-1a as a signed number. Sarama and librdkafka take its absolute value; that of the smallest number is 2^31.
fn fnv1a(data: &[u8]) -> i32 {
    let step = |hash: u32, byte: &u8| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193);
    data.iter().fold(0x811c_9dc5, step) as i32
}

/// The sign bit is cleared, not the number negated: that is what Java's producer does with murmur2, and the two differ.
fn positive(hash: i32) -> u32 {
    (hash & i32::MAX) as u32
}

/// The partition of a key among `partitions` partitions by the default rule, as in Java; 0 if there are none.
pub fn partition_for_key(key: &[u8], partitions: u32) -> u32 {
    positive(murmur2(key)).checked_rem(partitions).unwrap_or(0)
}

/// Chooses one of the available partitions by a random number; any partition if none is available.
///
/// `available` is asked for the numbers 0 to `partitions - 1`. Gives 0 if there are no partitions at all.
pub fn choose(random: u32, partitions: u32, available: impl Fn(u32) -> bool) -> u32 {
    let count = (0..partitions).filter(|partition| available(*partition)).count() as u32;
    match random.checked_rem(count) {
        Some(place) => (0..partitions)
            .filter(|partition| available(*partition))
            .nth(place as usize)
            .unwrap_or(0),
        None => random.checked_rem(partitions).unwrap_or(0),
    }
}

/// Chooses one of the available partitions, the more probably the fewer batches wait in it (KIP-794): a slow broker's
/// partitions get less, and all that are equally loaded get the same.
///
/// `waiting`: the number of waiting batches by partition, `None` for a partition that is not available. Gives `None`
/// if no partition is.
pub fn choose_by_load(random: u32, waiting: &[Option<u32>]) -> Option<u32> {
    let most = waiting.iter().flatten().max()?;
    let weight = |waiting: u32| u64::from(most - waiting) + 1;
    let total: u64 = waiting.iter().flatten().map(|waiting| weight(*waiting)).sum();
    // The upper 32 bits of a product spread evenly, without the bias of a remainder towards small numbers.
    let mut place = (u64::from(random) * total) >> 32;
    for (partition, waiting) in waiting.iter().enumerate() {
        let Some(waiting) = waiting else { continue };
        match place.checked_sub(weight(*waiting)) {
            Some(rest) => place = rest,
            None => return u32::try_from(partition).ok(),
        }
    }
    None
}

/// The partition that records without a key go to at present, and the bytes it was given since it was chosen.
///
/// Reading needs no lock. Everything that changes it is called under the lock of the current partition's queue, so
/// that a record is counted for the partition that holds it.
#[derive(Debug)]
pub struct StickyPartition {
    /// The partition plus one in the upper half (0: none chosen yet), bytes in the lower half.
    word: AtomicU64,
}

impl Default for StickyPartition {
    fn default() -> Self {
        StickyPartition::new()
    }
}

impl StickyPartition {
    /// No partition is chosen yet.
    pub const fn new() -> Self {
        StickyPartition {
            word: AtomicU64::new(0),
        }
    }

    /// The current partition, if one was chosen.
    #[inline]
    pub fn current(&self) -> Option<u32> {
        ((self.word.load(Ordering::Acquire) >> 32) as u32).checked_sub(1)
    }

    /// Bytes given to the current partition since it was chosen.
    #[inline]
    pub fn produced(&self) -> u32 {
        self.word.load(Ordering::Acquire) as u32
    }

    /// Counts `bytes` appended to `partition`; does nothing if it is no longer the current one. Gives the bytes that the
    /// current partition was given so far.
    #[inline]
    pub fn add(&self, partition: u32, bytes: usize) -> usize {
        let word = self.word.load(Ordering::Acquire);
        let mut produced = word as u32;
        if (word >> 32) as u32 == partition.wrapping_add(1) {
            produced = produced.saturating_add(u32::try_from(bytes).unwrap_or(u32::MAX));
            self.word
                .store((word & !0xffff_ffff) | u64::from(produced), Ordering::Release);
        }
        produced as usize
    }

    /// Whether to choose again although the open batch is not full: so much was `produced` that waiting for the border
    /// of two batches is no longer worth it. Records with a key that open every new batch of this partition would
    /// otherwise keep those without one here for ever; Java's producer draws the same line.
    #[inline]
    pub fn is_overdue(produced: usize, batch_size: usize) -> bool {
        produced >= batch_size.saturating_mul(2)
    }

    /// Whether to choose again before the next record, of `next` bytes, opens a new batch here.
    ///
    /// Asked only at the border of two batches. Switching in the middle of a batch would leave fractions behind: with
    /// 12 KiB a linger time and batches of 16 KiB, every second batch would hold 4 KiB (KIP-794).
    pub fn is_due(&self, next: usize, batch_size: usize) -> bool {
        (self.produced() as usize).saturating_add(next) > batch_size
    }

    /// Chooses the first partition, or moves from `from` to `to`; `false` if somebody else was faster.
    pub fn switch(&self, from: Option<u32>, to: u32) -> bool {
        let word = self.word.load(Ordering::Acquire);
        if ((word >> 32) as u32).checked_sub(1) != from {
            return false;
        }
        let next = u64::from(to.wrapping_add(1)) << 32;
        self.word
            .compare_exchange(word, next, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// (key, hash) pairs that Kafka's own tests publish for its Java hash.
    const KNOWN: [(&[u8], i32); 6] = [
        (b"21", -973932308),
        (b"foobar", -790332482),
        (b"a-little-bit-long-string", -985981536),
        (b"a-little-bit-longer-string", -1486304829),
        (b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58897971),
        (b"abc", 479470107),
    ];

    #[test]
    fn murmur2_gives_the_hashes_of_the_java_client() {
        for (key, hash) in KNOWN {
            assert_eq!(murmur2(key), hash, "{}", String::from_utf8_lossy(key));
        }
    }

    #[test]
    fn a_negative_hash_loses_its_sign_bit_and_is_not_negated() {
        // -973932308 & 0x7fffffff = 1173551340; the absolute value would give another partition.
        assert_eq!(partition_for_key(b"21", 7), 1173551340 % 7);
        assert_ne!(partition_for_key(b"21", 7), 973932308 % 7);
        for (key, _) in KNOWN {
            for partitions in 1..50 {
                assert!(partition_for_key(key, partitions) < partitions);
            }
        }
    }

    #[test]
    fn fnv1a_and_crc32_give_the_values_published_for_them() {
        // Of the FNV reference and of zlib; the smallest number has an absolute value only without a sign.
        assert_eq!(fnv1a(b"") as u32, 0x811c_9dc5);
        assert_eq!(fnv1a(b"foobar") as u32, 0xbf9c_f968);
        assert_eq!(fnv1a(b"key-pujaalt"), i32::MIN);
        assert_eq!((crc32(b""), crc32(b"123456789")), (0, 0xcbf4_3926));
    }

    #[test]
    fn every_rule_is_found_by_its_name_and_a_wrong_name_is_told_the_right_ones() {
        for rule in Partitioner::ALL {
            assert_eq!(rule.to_string().to_uppercase().parse(), Ok(rule));
        }
        let error = "sticky".parse::<Partitioner>().unwrap_err().to_string();
        assert!(
            error.contains("\"sticky\"") && error.contains("murmur2_random"),
            "{error}"
        );
    }

    #[test]
    fn without_partitions_nothing_divides_by_zero() {
        for rule in Partitioner::ALL {
            for partitions in [0, -1, i32::MIN] {
                assert_eq!(rule.partition_for_key(Some(b"21"), partitions), None);
            }
        }
        assert_eq!(partition_for_key(b"21", 0), 0);
        assert_eq!(choose(17, 0, |_| true), 0);
    }

    #[test]
    fn only_available_partitions_are_chosen_while_there_are_any() {
        for random in 0..100 {
            assert!([1, 4].contains(&choose(random, 6, |partition| partition == 1 || partition == 4)));
            assert!(choose(random, 6, |_| false) < 6);
        }
    }

    #[test]
    fn loaded_partitions_get_less_and_equal_ones_the_same() {
        let count = |waiting: &[Option<u32>]| {
            let mut chosen = vec![0u32; waiting.len()];
            for step in 0..10_000u32 {
                let partition = choose_by_load(step.wrapping_mul(429_496), waiting).unwrap();
                chosen[partition as usize] += 1;
            }
            chosen
        };
        for chosen in count(&[Some(2), Some(2), Some(2), Some(2)]) {
            assert!((2_450..2_550).contains(&chosen), "{chosen} of 10,000 for one of four");
        }
        // Weights 4, 1 and 3.
        let chosen = count(&[Some(0), Some(3), None, Some(1)]);
        assert!(
            (4_900..5_100).contains(&chosen[0]) && (1_200..1_300).contains(&chosen[1]),
            "{chosen:?}"
        );
        assert_eq!(chosen[2], 0, "not available");
        assert_eq!(choose_by_load(7, &[None, None]), None);
        assert_eq!(choose_by_load(u32::MAX, &[Some(u32::MAX), Some(0)]), Some(1));
    }

    #[test]
    fn a_partition_is_kept_until_its_bytes_fill_a_batch() {
        let sticky = StickyPartition::new();
        assert_eq!(sticky.current(), None);
        assert!(sticky.switch(None, 3));
        sticky.add(3, 900);
        assert!(!sticky.is_due(100, 1000), "1000 bytes are exactly one batch");
        assert!(sticky.is_due(101, 1000));
        sticky.add(2, 500);
        assert_eq!(
            sticky.produced(),
            900,
            "bytes of a partition that is no longer current do not count"
        );
        assert!(!sticky.switch(Some(2), 5), "the second of two who switch at once loses");
        assert!(sticky.switch(Some(3), 0));
        assert_eq!((sticky.current(), sticky.produced()), (Some(0), 0));
        assert_eq!((sticky.add(0, 700), sticky.add(0, 700)), (700, 1400), "the sum so far");
        assert!(!StickyPartition::is_overdue(1999, 1000) && StickyPartition::is_overdue(2000, 1000));
    }
}
