//! The partitioners from outside: the published vectors, and how bytes spread over time.
//!
//! The vectors are the answers of other clients; `tests/tests/partitioners.rs` compares the file with them.

#![allow(clippy::unwrap_used)] // a test fails by panicking

use ottla_client_state::partitioner::{Partitioner, StickyPartition, choose, choose_by_load};
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;

const VECTORS: &str = include_str!("vectors/partitioners.txt");
const BATCH_SIZE: usize = 1000;

#[test]
fn every_published_vector_is_met() {
    let mut met = [0; Partitioner::ALL.len()];
    for line in VECTORS.lines().filter(|line| !line.starts_with('#')) {
        let [rule, key, partitions, partition] = line.split(' ').collect::<Vec<_>>().try_into().unwrap();
        let rule: Partitioner = rule.parse().unwrap();
        let key = match key {
            "null" => None,
            "empty" => Some(vec![]),
            hex => Some(bytes_of(hex)),
        };
        let expected = Some(partition)
            .filter(|word| *word != "any")
            .map(|word| word.parse().unwrap());
        let ours = rule.partition_for_key(key.as_deref(), partitions.parse().unwrap());
        assert_eq!(ours, expected, "{line}");
        met[Partitioner::ALL.iter().position(|one| *one == rule).unwrap()] += 1;
    }
    for (rule, met) in Partitioner::ALL.iter().zip(met) {
        let keyed = !matches!(rule, Partitioner::RoundRobin | Partitioner::Random);
        assert!(met >= if keyed { 200 } else { 0 }, "{met} vectors of {rule}");
    }
}

fn bytes_of(hex: &str) -> Vec<u8> {
    let digits = (0..hex.len()).step_by(2);
    digits
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

/// A producer's records without a key, as the client places them: batches that open and close, brokers that take
/// batches away at their own speed.
struct Model {
    sticky: StickyPartition,
    random: StdRng,
    /// Bytes in the open batch, waiting batches, and all bytes ever, by partition.
    partitions: Vec<(usize, u32, u64)>,
    /// How often each partition was chosen.
    turns: Vec<u32>,
    /// The most bytes that a partition was given before the next choice.
    longest: u32,
    adaptive: bool,
}

impl Model {
    fn new(seed: u64, partitions: usize, adaptive: bool) -> Self {
        Model {
            sticky: StickyPartition::new(),
            random: StdRng::seed_from_u64(seed),
            partitions: vec![(0, 0, 0); partitions],
            turns: vec![0; partitions],
            longest: 0,
            adaptive,
        }
    }

    fn choose(&mut self) -> u32 {
        let random: u32 = self.random.random();
        if !self.adaptive {
            return choose(random, self.partitions.len() as u32, |_| true);
        }
        let waiting: Vec<_> = self.partitions.iter().map(|(_, waiting, _)| Some(*waiting)).collect();
        choose_by_load(random, &waiting).unwrap()
    }

    fn append(&mut self, bytes: usize) {
        let mut current = self.sticky.current();
        let begins = |model: &Model, at: u32| {
            let open = model.partitions[at as usize].0;
            open == 0 || open + bytes > BATCH_SIZE
        };
        if current.is_none_or(|at| begins(self, at) && self.sticky.is_due(bytes, BATCH_SIZE)) {
            let next = self.choose();
            self.turns[next as usize] += 1;
            assert!(self.sticky.switch(current, next));
            current = Some(next);
        }
        let at = current.unwrap();
        if begins(self, at) {
            self.partitions[at as usize].0 = 0;
            self.partitions[at as usize].1 += 1;
        }
        let (open, _, all) = &mut self.partitions[at as usize];
        *open += bytes;
        *all += bytes as u64;
        self.sticky.add(at, bytes);
        self.longest = self.longest.max(self.sticky.produced());
    }

    /// The broker of a partition takes up to `count` batches, the open one too.
    fn take(&mut self, partition: usize, count: u32) {
        let (open, waiting, _) = &mut self.partitions[partition];
        *waiting = waiting.saturating_sub(count);
        if *waiting == 0 {
            *open = 0;
        }
    }

    fn bytes(&self) -> Vec<u64> {
        self.partitions.iter().map(|(_, _, all)| *all).collect()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    /// However large the records are and however slow the brokers, without adaption every partition has its turn as
    /// often as the others, and a turn is at most two batches. Equally fast brokers get the same bytes; one whose batches
    /// leave half full may get more, because a turn ends at the border of two batches.
    #[test]
    fn turns_spread_evenly_over_all_partitions(
        seed: u64,
        partitions in 2..9_usize,
        largest in 10..1500_usize,
        slow in 0..4_u32,
    ) {
        let mut model = Model::new(seed, partitions, false);
        let mut sent = 0_usize;
        let mut step = 0;
        while sent < 3_000 * BATCH_SIZE {
            let bytes = model.random.random_range(1..=largest);
            sent += bytes;
            model.append(bytes);
            if step % 7 == 0 {
                (0..partitions).for_each(|at| model.take(at, if at == 0 { slow } else { 3 }));
            }
            step += 1;
        }
        let longest = largest.max(2 * BATCH_SIZE);
        prop_assert!(model.longest as usize <= longest, "a turn of {} bytes", model.longest);
        // Each turn is an independent choice: the fair share within six standard deviations.
        let share = 1.0 / partitions as f64;
        let turns = f64::from(model.turns.iter().sum::<u32>());
        let bound = 6.0 * (turns * share * (1.0 - share)).sqrt();
        for (at, own) in model.turns.iter().enumerate() {
            let off = (f64::from(*own) - turns * share).abs();
            prop_assert!(off < bound, "{at} had {own} turns, fair is {}, bound {bound}", turns * share);
        }
        if slow == 3 {
            let bound = 6.0 * longest as f64 * (turns * share).sqrt();
            for (at, bytes) in model.bytes().into_iter().enumerate() {
                let fair = sent as f64 * share;
                prop_assert!((bytes as f64 - fair).abs() < bound, "{at} got {bytes}, fair is {fair}, bound {bound}");
            }
        }
    }

    /// With adaption a partition whose broker is slower gets less, though not nothing, and equal ones get the same.
    #[test]
    fn partitions_of_slower_brokers_get_less(seed: u64, slowness in 2..8_u32) {
        let mut model = Model::new(seed, 4, true);
        for step in 0..60_000 {
            let bytes = model.random.random_range(1..=200);
            model.append(bytes);
            // About ten records make a batch, and there are four partitions.
            (1..4).for_each(|at| model.take(at, u32::from(step % 20 == 0)));
            model.take(0, u32::from(step % (40 * slowness) == 0));
        }
        let bytes = model.bytes();
        let others: u64 = bytes[1..].iter().sum::<u64>() / 3;
        prop_assert!(bytes[0] > 0 && bytes[0] < others * 3 / 4, "slow {}, others {others}", bytes[0]);
        for at in 1..4 {
            prop_assert!(bytes[at].abs_diff(others) < others / 4, "{bytes:?}");
        }
    }
}
