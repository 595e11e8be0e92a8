//! What a producer promises, checked on the logs when a schedule has ended.

use std::collections::{BTreeMap, BTreeSet};

use ottla_client_state::sequence::Persisted;

use crate::plan::Mode;
use crate::world::{Partition, World};

/// Checks every promise of the mode.
pub fn check(world: &World) {
    for partition in &world.partitions {
        acknowledged_records_are_in_the_log(partition, world.plan.mode);
        records_said_not_to_be_written_are_not(partition);
        match world.plan.mode {
            Mode::Idempotent | Mode::IdempotentOneAtATime => {
                no_record_is_there_twice(partition);
                order_is_kept(partition);
            }
            Mode::AtLeastOnceOneAtATime => last_copies_keep_the_order(partition),
            Mode::AtMostOnce => no_record_is_there_twice(partition),
            Mode::AtLeastOnce | Mode::LeaderOnly => {}
        }
    }
}

fn acknowledged_records_are_in_the_log(partition: &Partition, mode: Mode) {
    let present: BTreeSet<u64> = partition.broker.logs().flatten().copied().collect();
    for (value, result) in (0..).zip(&partition.results) {
        match result {
            Ok(offset) if *offset >= 0 && mode.is_replicated() => {
                let mut logs = partition.broker.logs();
                let there = logs.any(|log| log.get(*offset as usize) == Some(&value));
                assert!(
                    there,
                    "record {value} was acknowledged at offset {offset} and is not there"
                );
            }
            Ok(_) if mode == Mode::AtMostOnce => {}
            Ok(_) => {
                let lost_with_its_leader = mode == Mode::LeaderOnly && partition.broker.truncated.contains(&value);
                assert!(
                    present.contains(&value) || lost_with_its_leader,
                    "record {value} was acknowledged and is lost"
                );
            }
            Err(_) => {}
        }
    }
}

fn records_said_not_to_be_written_are_not(partition: &Partition) {
    let ever: BTreeSet<u64> = partition.broker.logs().flatten().copied().collect();
    for (value, result) in (0..).zip(&partition.results) {
        if *result == Err(Persisted::No) {
            let there = ever.contains(&value) || partition.broker.truncated.contains(&value);
            assert!(!there, "record {value} was said not to be in the log");
        }
    }
}

fn no_record_is_there_twice(partition: &Partition) {
    for log in partition.broker.logs() {
        let mut seen = BTreeSet::new();
        for value in log {
            assert!(seen.insert(value), "record {value} is there twice: {log:?}");
        }
    }
}

/// All records stand in the order of sending. Where the cluster gave a new producer id, a stray copy that the old id
/// still covers may come late; its record was given up as possibly written, and the others are in order.
fn order_is_kept(partition: &Partition) {
    let only_acknowledged = partition.broker.producers.len() > 1;
    for log in partition.broker.logs() {
        let counts = |value: &&u64| !only_acknowledged || partition.results[**value as usize].is_ok();
        let values: Vec<&u64> = log.iter().filter(counts).collect();
        let in_order = values.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(in_order, "out of order: {log:?}");
    }
}

/// Without idempotence a record may be there several times, but with one request at a time its last copy stands before
/// those of all later ones.
fn last_copies_keep_the_order(partition: &Partition) {
    for log in partition.broker.logs() {
        let last: BTreeMap<u64, usize> = log.iter().enumerate().map(|(offset, value)| (*value, offset)).collect();
        let offsets: Vec<usize> = last.into_values().collect();
        let in_order = offsets.windows(2).all(|pair| pair[0] < pair[1]);
        assert!(in_order, "out of order: {log:?}");
    }
}
