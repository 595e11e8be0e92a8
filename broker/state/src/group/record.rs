//! The records of `__consumer_offsets`, owned and typed.
//!
//! In: keys and values as they lie in the log. Out: a [`GroupRecord`], and back to bytes, in the versions that Apache
//! Kafka 4.4 writes. A record of a kind that this broker does not know (share groups, streams groups, a later Kafka) is
//! `None`, which a replay skips, as Kafka does; bytes of a known kind that do not decode are an error.

mod consumer;
#[cfg(test)]
mod tests;

use bytes::Bytes;
use ottla_protocol::internal::groups::{Key, Value};
use ottla_protocol::internal::{
    ConsumerGroupCurrentMemberAssignmentKey, ConsumerGroupMemberMetadataKey, ConsumerGroupMetadataKey,
    ConsumerGroupPartitionMetadataKey, ConsumerGroupRegularExpressionKey, ConsumerGroupTargetAssignmentMemberKey,
    ConsumerGroupTargetAssignmentMetadataKey, GroupMetadataKey, GroupMetadataValue, LegacyOffsetCommitKey,
    OffsetCommitKey, OffsetCommitValue, group_metadata_value,
};
use ottla_protocol::{DecodeError, EncodeError, Uuid};
use std::sync::Arc;

pub use consumer::{
    ClassicMemberMetadata, ConsumerGroupValue, ConsumerMemberValue, ConsumerPart, CurrentAssignmentValue,
    RegularExpressionValue, TargetEpochValue, TopicPartitions,
};

/// The version of an offset's value without and with a time of its own to expire.
const OFFSET_VERSION: i16 = 4;
const OFFSET_VERSION_WITH_EXPIRY: i16 = 1;
/// The version of a classic group's value.
const GROUP_VERSION: i16 = 3;
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
    /// The member that assigns; `None` with members if nobody has assigned yet, since the group has only just become a
    /// classic one.
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
