//! The records of `__consumer_offsets`, owned and typed.
//!
//! In: keys and values as they lie in the log. Out: a [`GroupRecord`], and back to bytes, in the versions that Apache
//! Kafka 4.4 writes. A record of a kind that this broker does not know (share groups, streams groups, a later Kafka) is
//! `None`, which a replay skips, as Kafka does; bytes of a known kind that do not decode are an error.

use bytes::Bytes;
use ottla_protocol::internal::groups::{Key, Value};
use ottla_protocol::internal::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey, ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue, GroupMetadataKey,
    GroupMetadataValue, LegacyOffsetCommitKey, OffsetCommitKey, OffsetCommitValue,
    consumer_group_current_member_assignment_value, consumer_group_member_metadata_value,
    consumer_group_target_assignment_member_value, group_metadata_value,
};
use ottla_protocol::{DecodeError, EncodeError, Uuid};
use std::sync::Arc;

/// The version of an offset's value without and with a time of its own to expire.
const OFFSET_VERSION: i16 = 4;
const OFFSET_VERSION_WITH_EXPIRY: i16 = 1;
/// The version of a classic group's value.
const GROUP_VERSION: i16 = 3;
/// The version of the values of a consumer group (KIP-848).
const CONSUMER_VERSION: i16 = 0;
/// The kinds of keys that are known, which is what [`GroupRecord::decode`] reads.
const KNOWN_KINDS: [i16; 10] = [
    LegacyOffsetCommitKey::API_KEY,
    OffsetCommitKey::API_KEY,
    GroupMetadataKey::API_KEY,
    ConsumerGroupMetadataKey::API_KEY,
    ConsumerGroupPartitionMetadataKey::API_KEY,
    ConsumerGroupMemberMetadataKey::API_KEY,
    ConsumerGroupTargetAssignmentMetadataKey::API_KEY,
    ConsumerGroupTargetAssignmentMemberKey::API_KEY,
    ConsumerGroupCurrentMemberAssignmentKey::API_KEY,
    ConsumerGroupRegularExpressionKey::API_KEY,
];

/// One record of `__consumer_offsets`. Where a value is `None`, the record is a tombstone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRecord {
    /// An offset that a group has committed.
    Offset {
        /// The group.
        group: Arc<str>,
        /// The topic's name.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// What was committed.
        value: Option<CommittedOffset>,
    },
    /// A classic group.
    Classic {
        /// The group.
        group: Arc<str>,
        /// Its members and what they were assigned.
        value: Option<ClassicValue>,
    },
    /// A part of a consumer group (KIP-848).
    Consumer {
        /// The group.
        group: Arc<str>,
        /// Which part.
        part: ConsumerPart,
    },
}

/// What a group has committed for a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The next offset to be read.
    pub offset: i64,
    /// The leader epoch of the record before it; -1 if the client did not say.
    pub leader_epoch: i32,
    /// Words of the client's own.
    pub metadata: Arc<str>,
    /// When it was committed, milliseconds since 1970.
    pub commit_timestamp: i64,
    /// When it expires, for a client that has set its own retention (OffsetCommit 2 to 4).
    pub expire_timestamp: Option<i64>,
    /// The topic's id; [`Uuid::ZERO`] if the client named the topic only.
    pub topic_id: Uuid,
}

/// A classic group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicValue {
    /// `consumer`, `connect` or what else the members call it; empty if the group never had a member.
    pub protocol_type: Arc<str>,
    /// The generation.
    pub generation: i32,
    /// The protocol that the members have agreed upon: with consumers, the assignor's name.
    pub protocol: Option<Arc<str>>,
    /// The member that assigns.
    pub leader: Option<Arc<str>>,
    /// When the group came into its state, milliseconds since 1970; -1 if that is not known.
    pub state_timestamp: i64,
    /// The members.
    pub members: Vec<ClassicMemberValue>,
}

/// A member of a classic group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMemberValue {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's `client.id`.
    pub client_id: Arc<str>,
    /// The client's address.
    pub client_host: Arc<str>,
    /// How long a rebalance waits for it, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// What it said of itself under the protocol agreed upon.
    pub subscription: Bytes,
    /// What the leader gave it.
    pub assignment: Bytes,
}

/// A part of a consumer group: the kinds of records that KIP-848 has brought.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsumerPart {
    /// The group itself: its epoch. Its tombstone ends the group.
    Group(Option<ConsumerGroupValue>),
    /// The partitions of the subscribed topics, which early versions of Kafka 4 stored. Only its tombstone is of use.
    PartitionMetadata {
        /// True for a tombstone.
        tombstone: bool,
    },
    /// What a member said of itself.
    Member {
        /// The member.
        member_id: Arc<str>,
        /// Its subscription.
        value: Option<ConsumerMemberValue>,
    },
    /// The epoch of the target assignment.
    TargetEpoch(Option<TargetEpochValue>),
    /// What a member is to have in the end.
    TargetMember {
        /// The member.
        member_id: Arc<str>,
        /// Partitions by topic id.
        value: Option<Vec<TopicPartitions>>,
    },
    /// What a member has now.
    CurrentAssignment {
        /// The member.
        member_id: Arc<str>,
        /// Its epochs, state and partitions.
        value: Option<CurrentAssignmentValue>,
    },
    /// What a regular expression stands for.
    RegularExpression {
        /// The expression.
        regex: Arc<str>,
        /// The topics that matched.
        value: Option<RegularExpressionValue>,
    },
}

/// A consumer group as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConsumerGroupValue {
    /// The group epoch.
    pub epoch: i32,
    /// A hash of the subscribed topics' metadata.
    pub metadata_hash: i64,
}

/// The epoch of a target assignment as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetEpochValue {
    /// The group epoch for which it was computed.
    pub assignment_epoch: i32,
    /// When, in milliseconds since 1970; 0 if that is not known.
    pub assignment_timestamp: i64,
}

/// Partitions of one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicPartitions {
    /// The topic.
    pub topic_id: Uuid,
    /// The partitions.
    pub partitions: Vec<i32>,
    /// The epoch at which each was assigned, in the order of `partitions`; `None` where that is not stored.
    pub assignment_epochs: Option<Vec<i32>>,
}

/// A member of a consumer group as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerMemberValue {
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// The client's `client.id`.
    pub client_id: Arc<str>,
    /// The client's address.
    pub client_host: Arc<str>,
    /// Topics by name.
    pub subscribed_topic_names: Vec<Arc<str>>,
    /// Topics by expression.
    pub subscribed_topic_regex: Option<Arc<str>>,
    /// How long it may take to give partitions back, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// The assignor that it wants.
    pub server_assignor: Option<Arc<str>>,
    /// Of a member that still speaks the classic protocol.
    pub classic: Option<ClassicMemberMetadata>,
}

/// What is kept of a classic member of a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicMemberMetadata {
    /// How long it may be silent, in milliseconds.
    pub session_timeout_ms: i32,
    /// Name and metadata of its protocols.
    pub protocols: Vec<(Arc<str>, Bytes)>,
}

/// What a member has now, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CurrentAssignmentValue {
    /// The epoch that the member has reached.
    pub member_epoch: i32,
    /// The one before.
    pub previous_member_epoch: i32,
    /// Kafka's number of the member's state.
    pub state: i8,
    /// The partitions that are its own.
    pub assigned: Vec<TopicPartitions>,
    /// Those that it must give back first.
    pub pending_revocation: Vec<TopicPartitions>,
}

/// What a regular expression stood for, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RegularExpressionValue {
    /// The topics that matched.
    pub topics: Vec<Arc<str>>,
    /// The version of the metadata that was searched.
    pub version: i64,
    /// When, in milliseconds since 1970.
    pub timestamp: i64,
}

/// The key and the value of a record; no value makes a tombstone.
pub type EncodedRecord = (Vec<u8>, Option<Vec<u8>>);

impl GroupRecord {
    /// The group that the record is about.
    pub fn group(&self) -> &Arc<str> {
        match self {
            GroupRecord::Offset { group, .. }
            | GroupRecord::Classic { group, .. }
            | GroupRecord::Consumer { group, .. } => group,
        }
    }

    /// Key and value as Apache Kafka 4.4 writes them.
    ///
    /// # Errors
    /// A name is longer than 32,767 bytes.
    pub fn encode(&self) -> Result<EncodedRecord, EncodeError> {
        match self {
            GroupRecord::Offset {
                group,
                topic,
                partition,
                value,
            } => {
                let key = OffsetCommitKey {
                    group,
                    topic,
                    partition: *partition,
                };
                let version = match value {
                    Some(value) if value.expire_timestamp.is_some() => OFFSET_VERSION_WITH_EXPIRY,
                    _ => OFFSET_VERSION,
                };
                encoded(key, value.as_ref().map(offset_value), version)
            }
            GroupRecord::Classic { group, value } => encoded(
                GroupMetadataKey { group },
                value.as_ref().map(classic_value),
                GROUP_VERSION,
            ),
            GroupRecord::Consumer { group, part } => part.encode(group),
        }
    }

    /// Reads a record; `None` if its kind is unknown.
    ///
    /// # Errors
    /// The key or the value of a known kind does not decode.
    pub fn decode(key: &[u8], value: Option<&[u8]>) -> Result<Option<GroupRecord>, DecodeError> {
        let kind = key.first_chunk::<2>().map(|bytes| i16::from_be_bytes(*bytes));
        if kind.is_some_and(|kind| !KNOWN_KINDS.contains(&kind)) {
            return Ok(None);
        }
        let key = Key::decode(key)?;
        let value = match value {
            Some(bytes) => Some(Value::decode(key.api_key(), bytes)?.0),
            None => None,
        };
        Ok(typed(&key, value.as_ref()))
    }
}

fn encoded<'a>(
    key: impl Into<Key<'a>>,
    value: Option<impl Into<Value<'a>>>,
    version: i16,
) -> Result<EncodedRecord, EncodeError> {
    let value = value.map(|value| value.into().encode(version)).transpose()?;
    Ok((key.into().encode()?, value))
}

fn typed(key: &Key<'_>, value: Option<&Value<'_>>) -> Option<GroupRecord> {
    Some(match key {
        Key::OffsetCommit(OffsetCommitKey {
            group,
            topic,
            partition,
        })
        | Key::LegacyOffsetCommit(LegacyOffsetCommitKey {
            group,
            topic,
            partition,
        }) => GroupRecord::Offset {
            group: (*group).into(),
            topic: (*topic).into(),
            partition: *partition,
            value: value.and_then(CommittedOffset::of),
        },
        Key::GroupMetadata(key) => GroupRecord::Classic {
            group: key.group.into(),
            value: value.and_then(ClassicValue::of),
        },
        _ => {
            let (group, part) = ConsumerPart::of(key, value)?;
            GroupRecord::Consumer { group, part }
        }
    })
}

fn offset_value(value: &CommittedOffset) -> OffsetCommitValue<'_> {
    let plain = value.expire_timestamp.is_none();
    OffsetCommitValue {
        offset: value.offset,
        // Version 1 knows neither of them.
        leader_epoch: if plain { value.leader_epoch } else { -1 },
        metadata: &value.metadata,
        commit_timestamp: value.commit_timestamp,
        expire_timestamp: value.expire_timestamp.unwrap_or(-1),
        topic_id: if plain { value.topic_id } else { Uuid::ZERO },
    }
}

fn classic_value(value: &ClassicValue) -> GroupMetadataValue<'_> {
    GroupMetadataValue {
        protocol_type: &value.protocol_type,
        generation: value.generation,
        protocol: value.protocol.as_deref(),
        leader: value.leader.as_deref(),
        current_state_timestamp: value.state_timestamp,
        members: value.members.iter().map(classic_member).collect(),
    }
}

fn classic_member(member: &ClassicMemberValue) -> group_metadata_value::MemberMetadata<'_> {
    group_metadata_value::MemberMetadata {
        member_id: &member.member_id,
        group_instance_id: member.instance_id.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        rebalance_timeout: member.rebalance_timeout_ms,
        session_timeout: member.session_timeout_ms,
        subscription: &member.subscription,
        assignment: &member.assignment,
    }
}

impl CommittedOffset {
    fn of(value: &Value<'_>) -> Option<CommittedOffset> {
        let (offset, leader_epoch, metadata, commit_timestamp, expire_timestamp, topic_id) = match value {
            Value::OffsetCommit(value) => (
                value.offset,
                value.leader_epoch,
                value.metadata,
                value.commit_timestamp,
                value.expire_timestamp,
                value.topic_id,
            ),
            Value::LegacyOffsetCommit(value) => {
                (value.offset, -1, value.metadata, value.commit_timestamp, -1, Uuid::ZERO)
            }
            _ => return None,
        };
        Some(CommittedOffset {
            offset,
            leader_epoch,
            metadata: metadata.into(),
            commit_timestamp,
            expire_timestamp: (expire_timestamp >= 0).then_some(expire_timestamp),
            topic_id,
        })
    }
}

impl ClassicValue {
    fn of(value: &Value<'_>) -> Option<ClassicValue> {
        let Value::GroupMetadata(value) = value else {
            return None;
        };
        let member = |member: &group_metadata_value::MemberMetadata<'_>| ClassicMemberValue {
            member_id: member.member_id.into(),
            instance_id: member.group_instance_id.map(Arc::from),
            client_id: member.client_id.into(),
            client_host: member.client_host.into(),
            // Version 0 has none: the session's is what Kafka takes.
            rebalance_timeout_ms: if member.rebalance_timeout < 0 {
                member.session_timeout
            } else {
                member.rebalance_timeout
            },
            session_timeout_ms: member.session_timeout,
            subscription: Bytes::copy_from_slice(member.subscription),
            assignment: Bytes::copy_from_slice(member.assignment),
        };
        Some(ClassicValue {
            protocol_type: value.protocol_type.into(),
            generation: value.generation,
            protocol: value.protocol.map(Arc::from),
            leader: value.leader.map(Arc::from),
            state_timestamp: value.current_state_timestamp,
            members: value.members.iter().map(member).collect(),
        })
    }
}

impl ConsumerPart {
    /// True for a record without a value.
    pub fn is_tombstone(&self) -> bool {
        match self {
            ConsumerPart::Group(value) => value.is_none(),
            ConsumerPart::PartitionMetadata { tombstone } => *tombstone,
            ConsumerPart::Member { value, .. } => value.is_none(),
            ConsumerPart::TargetEpoch(value) => value.is_none(),
            ConsumerPart::TargetMember { value, .. } => value.is_none(),
            ConsumerPart::CurrentAssignment { value, .. } => value.is_none(),
            ConsumerPart::RegularExpression { value, .. } => value.is_none(),
        }
    }

    fn encode(&self, group_id: &str) -> Result<EncodedRecord, EncodeError> {
        let version = CONSUMER_VERSION;
        match self {
            ConsumerPart::Group(value) => {
                let value = value.map(|value| ConsumerGroupMetadataValue {
                    epoch: value.epoch,
                    metadata_hash: value.metadata_hash,
                });
                encoded(ConsumerGroupMetadataKey { group_id }, value, version)
            }
            // Nobody writes the value any more.
            ConsumerPart::PartitionMetadata { .. } => encoded(
                ConsumerGroupPartitionMetadataKey { group_id },
                None::<Value<'_>>,
                version,
            ),
            ConsumerPart::Member { member_id, value } => {
                let key = ConsumerGroupMemberMetadataKey { group_id, member_id };
                encoded(key, value.as_ref().map(member_value), version)
            }
            ConsumerPart::TargetEpoch(value) => {
                let value = value.map(|value| ConsumerGroupTargetAssignmentMetadataValue {
                    assignment_epoch: value.assignment_epoch,
                    assignment_timestamp: value.assignment_timestamp,
                });
                encoded(ConsumerGroupTargetAssignmentMetadataKey { group_id }, value, version)
            }
            ConsumerPart::TargetMember { member_id, value } => {
                let key = ConsumerGroupTargetAssignmentMemberKey { group_id, member_id };
                let partitions =
                    |topic: &TopicPartitions| consumer_group_target_assignment_member_value::TopicPartition {
                        topic_id: topic.topic_id,
                        partitions: topic.partitions.clone(),
                    };
                let value = value.as_ref().map(|topics| ConsumerGroupTargetAssignmentMemberValue {
                    topic_partitions: topics.iter().map(partitions).collect(),
                });
                encoded(key, value, version)
            }
            ConsumerPart::CurrentAssignment { member_id, value } => {
                let key = ConsumerGroupCurrentMemberAssignmentKey { group_id, member_id };
                encoded(key, value.as_ref().map(current_value), version)
            }
            ConsumerPart::RegularExpression { regex, value } => {
                let key = ConsumerGroupRegularExpressionKey {
                    group_id,
                    regular_expression: regex,
                };
                let value = value.as_ref().map(|value| ConsumerGroupRegularExpressionValue {
                    topics: value.topics.iter().map(|topic| &**topic).collect(),
                    version: value.version,
                    timestamp: value.timestamp,
                });
                encoded(key, value, version)
            }
        }
    }

    fn of(key: &Key<'_>, value: Option<&Value<'_>>) -> Option<(Arc<str>, ConsumerPart)> {
        Some(match (key, value) {
            (Key::ConsumerGroupMetadata(key), value) => (
                key.group_id.into(),
                ConsumerPart::Group(match value {
                    Some(Value::ConsumerGroupMetadata(value)) => Some(ConsumerGroupValue {
                        epoch: value.epoch,
                        metadata_hash: value.metadata_hash,
                    }),
                    _ => None,
                }),
            ),
            (Key::ConsumerGroupPartitionMetadata(key), value) => (
                key.group_id.into(),
                ConsumerPart::PartitionMetadata {
                    tombstone: value.is_none(),
                },
            ),
            (Key::ConsumerGroupMemberMetadata(key), value) => (
                key.group_id.into(),
                ConsumerPart::Member {
                    member_id: key.member_id.into(),
                    value: value.and_then(ConsumerMemberValue::of),
                },
            ),
            (Key::ConsumerGroupTargetAssignmentMetadata(key), value) => (
                key.group_id.into(),
                ConsumerPart::TargetEpoch(match value {
                    Some(Value::ConsumerGroupTargetAssignmentMetadata(value)) => Some(TargetEpochValue {
                        assignment_epoch: value.assignment_epoch,
                        assignment_timestamp: value.assignment_timestamp,
                    }),
                    _ => None,
                }),
            ),
            (Key::ConsumerGroupTargetAssignmentMember(key), value) => (
                key.group_id.into(),
                ConsumerPart::TargetMember {
                    member_id: key.member_id.into(),
                    value: value.and_then(target_of),
                },
            ),
            (Key::ConsumerGroupCurrentMemberAssignment(key), value) => (
                key.group_id.into(),
                ConsumerPart::CurrentAssignment {
                    member_id: key.member_id.into(),
                    value: value.and_then(CurrentAssignmentValue::of),
                },
            ),
            (Key::ConsumerGroupRegularExpression(key), value) => (
                key.group_id.into(),
                ConsumerPart::RegularExpression {
                    regex: key.regular_expression.into(),
                    value: value.and_then(RegularExpressionValue::of),
                },
            ),
            _ => return None,
        })
    }
}

fn member_value(member: &ConsumerMemberValue) -> ConsumerGroupMemberMetadataValue<'_> {
    ConsumerGroupMemberMetadataValue {
        instance_id: member.instance_id.as_deref(),
        rack_id: member.rack_id.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        subscribed_topic_names: member.subscribed_topic_names.iter().map(|name| &**name).collect(),
        subscribed_topic_regex: member.subscribed_topic_regex.as_deref(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        server_assignor: member.server_assignor.as_deref(),
        classic_member_metadata: member.classic.as_ref().map(classic_metadata),
    }
}

fn classic_metadata(
    classic: &ClassicMemberMetadata,
) -> consumer_group_member_metadata_value::ClassicMemberMetadata<'_> {
    consumer_group_member_metadata_value::ClassicMemberMetadata {
        session_timeout_ms: classic.session_timeout_ms,
        supported_protocols: classic
            .protocols
            .iter()
            .map(|(name, metadata)| consumer_group_member_metadata_value::ClassicProtocol { name, metadata })
            .collect(),
    }
}

fn current_value(value: &CurrentAssignmentValue) -> ConsumerGroupCurrentMemberAssignmentValue {
    let list = |topics: &[TopicPartitions]| {
        let one = |topic: &TopicPartitions| consumer_group_current_member_assignment_value::TopicPartitions {
            topic_id: topic.topic_id,
            partitions: topic.partitions.clone(),
            assignment_epochs: topic.assignment_epochs.clone(),
        };
        topics.iter().map(one).collect()
    };
    ConsumerGroupCurrentMemberAssignmentValue {
        member_epoch: value.member_epoch,
        previous_member_epoch: value.previous_member_epoch,
        state: value.state,
        assigned_partitions: list(&value.assigned),
        partitions_pending_revocation: list(&value.pending_revocation),
    }
}

impl ConsumerMemberValue {
    fn of(value: &Value<'_>) -> Option<ConsumerMemberValue> {
        let Value::ConsumerGroupMemberMetadata(value) = value else {
            return None;
        };
        let classic =
            |classic: &consumer_group_member_metadata_value::ClassicMemberMetadata<'_>| ClassicMemberMetadata {
                session_timeout_ms: classic.session_timeout_ms,
                protocols: classic
                    .supported_protocols
                    .iter()
                    .map(|protocol| (protocol.name.into(), Bytes::copy_from_slice(protocol.metadata)))
                    .collect(),
            };
        Some(ConsumerMemberValue {
            instance_id: value.instance_id.map(Arc::from),
            rack_id: value.rack_id.map(Arc::from),
            client_id: value.client_id.into(),
            client_host: value.client_host.into(),
            subscribed_topic_names: value
                .subscribed_topic_names
                .iter()
                .map(|name| Arc::from(*name))
                .collect(),
            subscribed_topic_regex: value.subscribed_topic_regex.map(Arc::from),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            server_assignor: value.server_assignor.map(Arc::from),
            classic: value.classic_member_metadata.as_ref().map(classic),
        })
    }
}

fn target_of(value: &Value<'_>) -> Option<Vec<TopicPartitions>> {
    let Value::ConsumerGroupTargetAssignmentMember(value) = value else {
        return None;
    };
    let topic = |topic: &consumer_group_target_assignment_member_value::TopicPartition| TopicPartitions {
        topic_id: topic.topic_id,
        partitions: topic.partitions.clone(),
        assignment_epochs: None,
    };
    Some(value.topic_partitions.iter().map(topic).collect())
}

impl CurrentAssignmentValue {
    fn of(value: &Value<'_>) -> Option<CurrentAssignmentValue> {
        let Value::ConsumerGroupCurrentMemberAssignment(value) = value else {
            return None;
        };
        let list = |topics: &[consumer_group_current_member_assignment_value::TopicPartitions]| {
            let one = |topic: &consumer_group_current_member_assignment_value::TopicPartitions| TopicPartitions {
                topic_id: topic.topic_id,
                partitions: topic.partitions.clone(),
                assignment_epochs: topic.assignment_epochs.clone(),
            };
            topics.iter().map(one).collect()
        };
        Some(CurrentAssignmentValue {
            member_epoch: value.member_epoch,
            previous_member_epoch: value.previous_member_epoch,
            state: value.state,
            assigned: list(&value.assigned_partitions),
            pending_revocation: list(&value.partitions_pending_revocation),
        })
    }
}

impl RegularExpressionValue {
    fn of(value: &Value<'_>) -> Option<RegularExpressionValue> {
        let Value::ConsumerGroupRegularExpression(value) = value else {
            return None;
        };
        Some(RegularExpressionValue {
            topics: value.topics.iter().map(|topic| Arc::from(*topic)).collect(),
            version: value.version,
            timestamp: value.timestamp,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn back(record: &GroupRecord) -> GroupRecord {
        let (key, value) = record.encode().unwrap();
        GroupRecord::decode(&key, value.as_deref()).unwrap().unwrap()
    }

    fn consumer(part: ConsumerPart) -> GroupRecord {
        GroupRecord::Consumer {
            group: "g".into(),
            part,
        }
    }

    fn offset(expire_timestamp: Option<i64>) -> CommittedOffset {
        CommittedOffset {
            offset: 42,
            leader_epoch: if expire_timestamp.is_some() { -1 } else { 7 },
            metadata: "words".into(),
            commit_timestamp: 1_000,
            expire_timestamp,
            topic_id: Uuid::from_u128(if expire_timestamp.is_some() { 0 } else { 9 }),
        }
    }

    fn partitions(epochs: bool) -> Vec<TopicPartitions> {
        vec![TopicPartitions {
            topic_id: Uuid::from_u128(5),
            partitions: vec![0, 3],
            assignment_epochs: epochs.then(|| vec![1, 2]),
        }]
    }

    fn classic() -> ClassicValue {
        ClassicValue {
            protocol_type: "consumer".into(),
            generation: 3,
            protocol: Some("range".into()),
            leader: Some("m".into()),
            state_timestamp: 99,
            members: vec![ClassicMemberValue {
                member_id: "m".into(),
                instance_id: Some("i".into()),
                client_id: "c".into(),
                client_host: "/127.0.0.1".into(),
                rebalance_timeout_ms: 300_000,
                session_timeout_ms: 45_000,
                subscription: Bytes::from_static(b"topics"),
                assignment: Bytes::from_static(b"partitions"),
            }],
        }
    }

    fn of_every_kind() -> Vec<GroupRecord> {
        let member_id: Arc<str> = "m".into();
        let offset_record = |value| GroupRecord::Offset {
            group: "g".into(),
            topic: "t".into(),
            partition: 3,
            value,
        };
        let member = ConsumerMemberValue {
            instance_id: None,
            rack_id: Some("r".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            subscribed_topic_names: vec!["t".into()],
            subscribed_topic_regex: Some("t.*".into()),
            rebalance_timeout_ms: 5,
            server_assignor: Some("uniform".into()),
            classic: Some(ClassicMemberMetadata {
                session_timeout_ms: 6,
                protocols: vec![("range".into(), Bytes::from_static(b"topics"))],
            }),
        };
        vec![
            offset_record(Some(offset(None))),
            offset_record(Some(offset(Some(5_000)))),
            offset_record(None),
            GroupRecord::Classic {
                group: "g".into(),
                value: Some(classic()),
            },
            GroupRecord::Classic {
                group: "g".into(),
                value: None,
            },
            consumer(ConsumerPart::Group(Some(ConsumerGroupValue {
                epoch: 4,
                metadata_hash: 77,
            }))),
            consumer(ConsumerPart::Group(None)),
            consumer(ConsumerPart::PartitionMetadata { tombstone: true }),
            consumer(ConsumerPart::Member {
                member_id: member_id.clone(),
                value: Some(member),
            }),
            consumer(ConsumerPart::TargetEpoch(Some(TargetEpochValue {
                assignment_epoch: 4,
                assignment_timestamp: 88,
            }))),
            consumer(ConsumerPart::TargetMember {
                member_id: member_id.clone(),
                value: Some(partitions(false)),
            }),
            consumer(ConsumerPart::CurrentAssignment {
                member_id,
                value: Some(CurrentAssignmentValue {
                    member_epoch: 4,
                    previous_member_epoch: 3,
                    state: 1,
                    assigned: partitions(true),
                    pending_revocation: partitions(false),
                }),
            }),
            consumer(ConsumerPart::RegularExpression {
                regex: "t.*".into(),
                value: Some(RegularExpressionValue {
                    topics: vec!["t1".into(), "t2".into()],
                    version: 12,
                    timestamp: 13,
                }),
            }),
        ]
    }

    #[test]
    fn every_kind_of_record_comes_back_as_it_was_written() {
        for record in of_every_kind() {
            assert_eq!(back(&record), record);
            assert_eq!(&**record.group(), "g");
        }
    }

    #[test]
    fn an_offset_with_its_own_retention_is_written_in_the_version_that_knows_it() {
        let version = |expires| {
            let record = GroupRecord::Offset {
                group: "g".into(),
                topic: "t".into(),
                partition: 0,
                value: Some(offset(expires)),
            };
            let (_, value) = record.encode().unwrap();
            value.unwrap()[..2].to_vec()
        };
        assert_eq!(version(None), [0, 4]);
        assert_eq!(version(Some(1)), [0, 1]);
    }

    #[test]
    fn unknown_kinds_are_skipped_and_damaged_ones_are_told() {
        for kind in [10_i16, 11, 17, 99, -1] {
            assert_eq!(GroupRecord::decode(&kind.to_be_bytes(), Some(b"?")).unwrap(), None);
        }
        assert!(GroupRecord::decode(&[], None).is_err());
        for record in of_every_kind() {
            let (key, value) = record.encode().unwrap();
            for cut in 2..key.len() {
                assert!(
                    GroupRecord::decode(&key[..cut], value.as_deref()).is_err(),
                    "{record:?}"
                );
            }
            let Some(value) = value else { continue };
            for cut in 0..value.len() {
                // A tagged field may be cut to none; nothing may panic.
                let _ = GroupRecord::decode(&key, Some(&value[..cut]));
            }
            assert!(GroupRecord::decode(&key, Some(&value[..2])).is_err(), "{record:?}");
        }
    }
}
