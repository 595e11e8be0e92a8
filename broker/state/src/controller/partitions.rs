//! New partitions: of a new topic, or added to one that exists (CreatePartitions).

use super::placement;
use super::{ApiError, ClusterImage, PARTITIONS_PER_REQUEST_MAX, TopicImage};
use ottla_protocol::internal::PartitionRecord;
use ottla_protocol::internal::metadata::MetadataRecord;
use ottla_protocol::{ErrorCode, Uuid};
use rand::Rng;
use std::collections::BTreeSet;

/// Partitions to add to a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MorePartitions<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// How many partitions it shall have in all.
    pub count: i32,
    /// The replicas of each new partition; `None` leaves them to the broker.
    pub assignments: Option<Vec<Vec<i32>>>,
}

/// Decides one wish for more partitions.
///
/// # Errors
/// - UNKNOWN_TOPIC_OR_PARTITION: there is no such topic.
/// - INVALID_PARTITIONS: the count is not above the present one.
/// - INVALID_REPLICA_ASSIGNMENT: the given assignments are too few, too many or cannot be.
/// - INVALID_REPLICATION_FACTOR: there are not enough brokers.
/// - POLICY_VIOLATION: more than [`PARTITIONS_PER_REQUEST_MAX`] at once.
pub fn create_partitions(
    image: &ClusterImage,
    wish: &MorePartitions<'_>,
    random: &mut dyn Rng,
) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
    let Some(topic) = image.topic(wish.topic) else {
        let message = format!("there is no topic \"{}\"", wish.topic);
        return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message));
    };
    let present = topic.partitions.len();
    let added = usize::try_from(wish.count).unwrap_or(0).saturating_sub(present);
    if added == 0 {
        let message = format!(
            "topic \"{}\" has {present} partitions already; {} are not more",
            topic.name, wish.count
        );
        return Err(ApiError::new(ErrorCode::InvalidPartitions, message));
    }
    check_count(added)?;
    let placed = match &wish.assignments {
        Some(assignments) => check_assignments(image, topic, assignments, added)?,
        None => placement::place(&placement::candidates(image), added, replication_factor(topic), random)?,
    };
    let record = |(replicas, index): (Vec<i32>, usize)| partition_record(image, topic.id, index, replicas);
    placed.into_iter().zip(present..).map(record).collect()
}

/// Refuses more partitions than one request may create.
///
/// # Errors
/// POLICY_VIOLATION.
pub fn check_count(partitions: usize) -> Result<(), ApiError> {
    if partitions <= PARTITIONS_PER_REQUEST_MAX {
        return Ok(());
    }
    let message =
        format!("{partitions} partitions are more than the {PARTITIONS_PER_REQUEST_MAX} one request may create");
    Err(ApiError::new(ErrorCode::PolicyViolation, message))
}

/// How many replicas each partition of `topic` has.
pub fn replication_factor(topic: &TopicImage) -> usize {
    topic.partitions.first().map_or(1, |partition| partition.replicas.len())
}

fn check_assignments(
    image: &ClusterImage,
    topic: &TopicImage,
    assignments: &[Vec<i32>],
    added: usize,
) -> Result<Vec<Vec<i32>>, ApiError> {
    if assignments.len() != added {
        let message = format!(
            "{added} partitions are to be added, but {} assignments are given",
            assignments.len()
        );
        return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    }
    for replicas in assignments {
        check_assignment(image, replicas, Some(replication_factor(topic)))?;
    }
    Ok(assignments.to_vec())
}

/// Refuses replicas that are not different registered brokers, or not `replication_factor` of them.
///
/// # Errors
/// INVALID_REPLICA_ASSIGNMENT.
pub fn check_assignment(
    image: &ClusterImage,
    replicas: &[i32],
    replication_factor: Option<usize>,
) -> Result<(), ApiError> {
    let refuse = |message| Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    if replicas.is_empty() {
        return refuse("an assignment has no replicas".to_owned());
    }
    if let Some(expected) = replication_factor.filter(|expected| *expected != replicas.len()) {
        return refuse(format!(
            "an assignment has {} replicas, but the others have {expected}",
            replicas.len()
        ));
    }
    let mut seen = BTreeSet::new();
    for &id in replicas {
        if !seen.insert(id) {
            return refuse(format!("an assignment names broker {id} twice"));
        }
        if image.broker(id).is_none() {
            return refuse(format!("an assignment names broker {id}, which is not registered"));
        }
    }
    Ok(())
}

/// The record of a new partition: all active replicas are in sync, the first of them leads.
///
/// # Errors
/// INVALID_REPLICA_ASSIGNMENT if no replica is active.
pub fn partition_record(
    image: &ClusterImage,
    topic_id: Uuid,
    index: usize,
    replicas: Vec<i32>,
) -> Result<MetadataRecord<'static>, ApiError> {
    let is_active = |id: &&i32| image.broker(**id).is_some_and(|broker| broker.is_active());
    let isr: Vec<i32> = replicas.iter().filter(is_active).copied().collect();
    let Some(&leader) = isr.first() else {
        let message = format!("all brokers of partition {index} are fenced or about to stop");
        return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
    };
    // A broker with one data directory has no choice, so the choice is written down at once.
    let directory = |id: &i32| match image.broker(*id).map(|broker| broker.log_dirs.as_slice()) {
        Some([directory]) => *directory,
        _ => Uuid::ZERO,
    };
    Ok(MetadataRecord::Partition(PartitionRecord {
        partition_id: i32::try_from(index).unwrap_or(i32::MAX),
        topic_id,
        directories: replicas.iter().map(directory).collect(),
        replicas,
        isr,
        leader,
        leader_epoch: 0,
        partition_epoch: 0,
        ..PartitionRecord::default()
    }))
}

#[cfg(test)]
mod tests {
    use super::super::tests::{apply, cluster, topic};
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn wish(topic: &str, count: i32, assignments: Option<Vec<Vec<i32>>>) -> MorePartitions<'_> {
        MorePartitions {
            topic,
            count,
            assignments,
        }
    }

    fn decide(image: &ClusterImage, wish: &MorePartitions<'_>) -> Result<Vec<MetadataRecord<'static>>, ApiError> {
        create_partitions(image, wish, &mut StdRng::seed_from_u64(1))
    }

    #[test]
    fn new_partitions_follow_the_old_with_as_many_replicas() {
        let mut image = cluster(3);
        topic(&mut image, "t", 2, 2);
        let records = decide(&image, &wish("t", 5, None)).unwrap();
        apply(&mut image, &records);
        let topic = image.topic("t").unwrap();
        assert_eq!(topic.partitions.len(), 5);
        for partition in &topic.partitions {
            assert_eq!(partition.replicas.len(), 2);
            assert_eq!(partition.leader, Some(partition.isr[0]));
            assert_eq!(partition.directories.len(), 2);
        }
    }

    #[test]
    fn a_wish_that_cannot_be_is_refused_with_kafkas_code() {
        let mut image = cluster(2);
        topic(&mut image, "t", 2, 2);
        let code = |wish| decide(&image, &wish).unwrap_err().code;
        assert_eq!(code(wish("u", 3, None)), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(code(wish("t", 2, None)), ErrorCode::InvalidPartitions);
        assert_eq!(code(wish("t", 1, None)), ErrorCode::InvalidPartitions);
        assert_eq!(code(wish("t", -1, None)), ErrorCode::InvalidPartitions);
        assert_eq!(code(wish("t", i32::MAX, None)), ErrorCode::PolicyViolation);
        for assignments in [
            vec![],
            vec![vec![1, 2], vec![2, 1]],
            vec![vec![1]],
            vec![vec![1, 1]],
            vec![vec![1, 9]],
            vec![vec![]],
        ] {
            assert_eq!(
                code(wish("t", 3, Some(assignments))),
                ErrorCode::InvalidReplicaAssignment
            );
        }
        assert!(decide(&image, &wish("t", 3, Some(vec![vec![2, 1]]))).is_ok());
    }
}
