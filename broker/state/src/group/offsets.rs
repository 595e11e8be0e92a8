//! Offsets: what groups have committed.
//!
//! In: commits, look-ups, deletions, the wall's time. Out: records and answers. Everything here changes by replay.

use ottla_protocol::messages::OffsetCommitRequest;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestPartition;
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::record::{CommittedOffset, GroupRecord};

/// The offsets of one topic, by partition.
pub type TopicOffsets = BTreeMap<i32, CommittedOffset>;

/// What an offset costs apart from its words.
const WEIGHT: usize = 192;
/// What a topic of a group costs apart from its offsets.
const TOPIC_WEIGHT: usize = 256;
/// What the records of one commit may take.
pub(super) const COMMIT_BYTES_MAX: usize = 8 << 20;
/// What a record of an offset takes apart from names and words.
const RECORD_BYTES: usize = 80;

/// The committed offsets of a shard.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Offsets {
    by_group: HashMap<Arc<str>, BTreeMap<Arc<str>, TopicOffsets>>,
    weight: usize,
}

/// What a commit may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct CommitLimits {
    /// `offset.metadata.max.bytes`, in characters as Java counts them.
    pub metadata_max: usize,
    /// No offsets but those of partitions that the group has committed before.
    pub crowded: bool,
}

/// What OffsetFetch asks for one group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OffsetFetch<'a> {
    /// The group.
    pub group: &'a str,
    /// The member that asks, if it says so (version 9).
    pub member_id: Option<&'a str>,
    /// Its epoch; -1 if it does not say.
    pub member_epoch: i32,
}

impl Offsets {
    /// Takes in an offset, or its tombstone.
    pub(super) fn replay(
        &mut self,
        group: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
        value: Option<CommittedOffset>,
    ) {
        match value {
            Some(value) => self.insert(group, topic, partition, value),
            None => self.remove(group, topic, partition),
        }
    }

    fn insert(&mut self, group: &Arc<str>, topic: &Arc<str>, partition: i32, value: CommittedOffset) {
        let topics = self.by_group.entry(Arc::clone(group)).or_default();
        if !topics.contains_key(topic) {
            self.weight += TOPIC_WEIGHT + topic.len();
            topics.insert(Arc::clone(topic), TopicOffsets::new());
        }
        let Some(offsets) = topics.get_mut(topic) else { return };
        self.weight += WEIGHT + value.metadata.len();
        if let Some(earlier) = offsets.insert(partition, value) {
            self.weight -= WEIGHT + earlier.metadata.len();
        }
    }

    fn remove(&mut self, group: &Arc<str>, topic: &Arc<str>, partition: i32) {
        let Some(topics) = self.by_group.get_mut(group) else {
            return;
        };
        let Some(offsets) = topics.get_mut(topic) else { return };
        if let Some(earlier) = offsets.remove(&partition) {
            self.weight -= WEIGHT + earlier.metadata.len();
        }
        if offsets.is_empty() {
            topics.remove(topic);
            self.weight -= TOPIC_WEIGHT + topic.len();
        }
        if topics.is_empty() {
            self.by_group.remove(group);
        }
    }

    /// Bytes that they take in memory, roughly.
    pub(super) fn weight(&self) -> usize {
        self.weight
    }

    /// Whether the group has any.
    pub(super) fn has(&self, group: &str) -> bool {
        self.by_group.contains_key(group)
    }

    /// The groups that have any.
    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<str>> {
        self.by_group.keys()
    }

    /// All offsets of a group, by topic.
    pub(super) fn of_group(&self, group: &str) -> Option<&BTreeMap<Arc<str>, TopicOffsets>> {
        self.by_group.get(group)
    }

    /// Where a group is in a partition.
    pub(super) fn get(&self, group: &str, topic: &str, partition: i32) -> Option<&CommittedOffset> {
        self.by_group.get(group)?.get(topic)?.get(&partition)
    }

    /// Tombstones of those offsets of a group that `which` picks.
    pub(super) fn tombstones(
        &self,
        group: &str,
        which: impl Fn(&str, i32, &CommittedOffset) -> bool,
    ) -> Vec<GroupRecord> {
        let Some((group, topics)) = self.by_group.get_key_value(group) else {
            return Vec::new();
        };
        let mut records = Vec::new();
        for (topic, offsets) in topics {
            for (partition, value) in offsets {
                if which(topic, *partition, value) {
                    records.push(tombstone(group, topic, *partition));
                }
            }
        }
        records
    }

    /// The records of a commit, and how each partition fared, topic by topic in the order of the request. `judge` says of
    /// a topic and partition whether the group has anything against it.
    pub(super) fn commit(
        &self,
        group: &Arc<str>,
        request: &OffsetCommitRequest<'_>,
        wall_ms: i64,
        limits: CommitLimits,
        judge: impl Fn(&str, i32) -> ErrorCode,
    ) -> (Vec<GroupRecord>, Vec<Vec<ErrorCode>>) {
        let expires = (request.retention_time_ms >= 0).then(|| wall_ms.saturating_add(request.retention_time_ms));
        let (mut records, mut results) = (Vec::new(), Vec::with_capacity(request.topics.len()));
        let mut bytes = 0_usize;
        for topic in &request.topics {
            let known = self
                .by_group
                .get(group)
                .and_then(|topics| topics.get_key_value(topic.name));
            let name = known.map_or_else(|| Arc::from(topic.name), |(name, _)| Arc::clone(name));
            let mut codes = Vec::with_capacity(topic.partitions.len());
            for partition in &topic.partitions {
                let words = partition.committed_metadata.unwrap_or_default();
                // Kafka counts as Java does.
                if words.len() > limits.metadata_max && words.encode_utf16().count() > limits.metadata_max {
                    codes.push(ErrorCode::OffsetMetadataTooLarge);
                    continue;
                }
                let verdict = judge(topic.name, partition.partition_index);
                if verdict != ErrorCode::None {
                    codes.push(verdict);
                    continue;
                }
                if limits.crowded && self.get(group, &name, partition.partition_index).is_none() {
                    codes.push(ErrorCode::CoordinatorNotAvailable);
                    continue;
                }
                bytes = bytes.saturating_add(RECORD_BYTES + group.len() + name.len() + words.len());
                if bytes > COMMIT_BYTES_MAX {
                    let too_large = |topic: &[_]| vec![ErrorCode::InvalidCommitOffsetSize; topic.len()];
                    let all = request.topics.iter().map(|topic| too_large(&topic.partitions));
                    return (Vec::new(), all.collect());
                }
                codes.push(ErrorCode::None);
                records.push(GroupRecord::Offset {
                    group: Arc::clone(group),
                    topic: Arc::clone(&name),
                    partition: partition.partition_index,
                    value: Some(committed(partition, topic.topic_id, wall_ms, expires)),
                });
            }
            results.push(codes);
        }
        (records, results)
    }
}

fn committed(
    partition: &OffsetCommitRequestPartition<'_>,
    topic_id: Uuid,
    wall_ms: i64,
    expire_timestamp: Option<i64>,
) -> CommittedOffset {
    CommittedOffset {
        offset: partition.committed_offset,
        leader_epoch: partition.committed_leader_epoch,
        metadata: partition.committed_metadata.unwrap_or_default().into(),
        commit_timestamp: wall_ms,
        expire_timestamp,
        topic_id,
    }
}

pub(super) fn tombstone(group: &Arc<str>, topic: &Arc<str>, partition: i32) -> GroupRecord {
    GroupRecord::Offset {
        group: Arc::clone(group),
        topic: Arc::clone(topic),
        partition,
        value: None,
    }
}

/// Whether an offset is too old: by its own time, or `retention_ms` after `since_ms`.
pub(super) fn is_expired(value: &CommittedOffset, since_ms: i64, wall_ms: i64, retention_ms: i64) -> bool {
    match value.expire_timestamp {
        Some(at) => wall_ms >= at,
        None => wall_ms.saturating_sub(since_ms) >= retention_ms,
    }
}
