//! The group as a reader of the log finds it.

use super::*;
use crate::group::record::{CurrentAssignmentValue, TopicPartitions};

#[test]
fn a_group_read_from_the_log_goes_on_where_it_was() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.join("b", &["maps"]);
    world.stay("a", 1);

    world.group = ConsumerGroup::default();
    for part in &world.log {
        world.group.apply(part);
    }
    world.now += 1_000_000;
    world.group.loaded(&world.config, Time(world.now));
    assert_eq!(
        world.group.wake_at(),
        Some(Time(world.now + 5_000)),
        "a still has to give up"
    );
    assert!(world.pass(4_999).is_empty(), "nobody could be heard while it was read");
    let keeps = world.of("maps", &[0, 1]);
    assert_eq!(world.own("a", 1, &keeps).member_epoch, 2);
    assert_eq!(world.stay("b", 2).assignment, Some(world.of("maps", &[2, 3])));
}

#[test]
fn tombstones_leave_nothing() {
    let mut world = World::new(&[("maps", 4)]);
    world.join("a", &["maps"]);
    let regex = HeartbeatRequest {
        regex: Some("m.*".into()),
        ..join("b", &[])
    };
    world.heartbeat(&regex);
    let tombstones = world.group.tombstones();
    let (last, others) = tombstones.split_last().unwrap();
    for part in others {
        assert!(world.group.apply(part));
    }
    assert!(world.group.is_empty());
    assert!(world.group.owners.is_empty() && world.group.regexes.is_empty() && world.group.targets.is_empty());
    assert!(!world.group.apply(last), "the group's own tombstone ends it");
}

#[test]
fn a_compacted_log_may_name_the_new_owner_before_the_old_one_is_gone() {
    let topic = Uuid([1; 16]);
    let current = |id: &str, partitions: &[i32]| ConsumerPart::CurrentAssignment {
        member_id: id.into(),
        value: Some(CurrentAssignmentValue {
            member_epoch: 5,
            previous_member_epoch: 4,
            state: 0,
            assigned: vec![TopicPartitions {
                topic_id: topic,
                partitions: partitions.to_vec(),
                assignment_epochs: None,
            }],
            pending_revocation: Vec::new(),
        }),
    };
    let mut group = ConsumerGroup::default();
    for part in [current("a", &[0, 1]), current("b", &[1]), current("a", &[0])] {
        group.apply(&part);
    }
    assert_eq!(group.owners.get(&(topic, 1)), Some(&Arc::from("b")));
    assert_eq!(group.owners.get(&(topic, 0)), Some(&Arc::from("a")));
    assert_eq!(
        group.member("a").unwrap().assigned[&topic][&0],
        5,
        "without an epoch the member's own stands in"
    );
}

#[test]
fn the_record_of_partition_metadata_is_buried_with_the_next_epoch() {
    let mut world = World::new(&[("maps", 4)]);
    world.join("a", &["maps"]);
    let old = ConsumerPart::PartitionMetadata { tombstone: false };
    world.group.apply(&old);
    world.replayed.apply(&old);
    world.join("b", &["maps"]);
    let tombstone = ConsumerPart::PartitionMetadata { tombstone: true };
    assert_eq!(world.log.iter().filter(|part| **part == tombstone).count(), 1);
    world.join("c", &["maps"]);
    assert_eq!(world.log.iter().filter(|part| **part == tombstone).count(), 1);
}
