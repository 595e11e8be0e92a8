//! The records of a consumer group (KIP-848), owned and typed.
//!
//! In and out as [`GroupRecord`](super::GroupRecord); it names the group, this is what its record says.

use super::{EncodedRecord, encoded};
use bytes::Bytes;
use ottla_protocol::internal::groups::{Key, Value};
use ottla_protocol::internal::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupCurrentMemberAssignmentValue, ConsumerGroupMemberMetadataKey,
    ConsumerGroupMemberMetadataValue, ConsumerGroupMetadataKey, ConsumerGroupMetadataValue,
    ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey, ConsumerGroupRegularExpressionValue,
    ConsumerGroupTargetAssignmentMemberKey, ConsumerGroupTargetAssignmentMemberValue,
    ConsumerGroupTargetAssignmentMetadataKey, ConsumerGroupTargetAssignmentMetadataValue,
    consumer_group_current_member_assignment_value, consumer_group_member_metadata_value,
    consumer_group_target_assignment_member_value,
};
use ottla_protocol::{EncodeError, Uuid};
use std::sync::Arc;

/// The version of the values.
const VERSION: i16 = 0;

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

    pub(super) fn encode(&self, group_id: &str) -> Result<EncodedRecord, EncodeError> {
        let version = VERSION;
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

    pub(super) fn of(key: &Key<'_>, value: Option<&Value<'_>>) -> Option<(Arc<str>, ConsumerPart)> {
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
