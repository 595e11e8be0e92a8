//! What classic consumers say inside of JoinGroup and SyncGroup: their subscriptions and assignments.
//!
//! Both are messages of their own with a version in front. A version newer than ours is read as ours: they only ever
//! grow at the end.

use super::{EpochPartitions, Partitions};
use crate::group::topics::TopicsImage;
use bytes::Bytes;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, consumer_protocol_assignment,
};
use ottla_protocol::wire::{Reader, Writer};
use ottla_protocol::{DecodeError, EncodeError, Message};
use std::sync::Arc;

/// What a classic member subscribes to and owns.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Subscription {
    pub(super) topics: Vec<Arc<str>>,
    /// Of topics that exist.
    pub(super) owned: Partitions,
    /// It owns something of a generation that it names.
    pub(super) claims: bool,
    pub(super) rack_id: Option<Arc<str>>,
}

/// Reads a subscription.
///
/// # Errors
/// The bytes are no subscription.
pub(super) fn read_subscription(bytes: &[u8], topics: &dyn TopicsImage) -> Result<Subscription, DecodeError> {
    let message: ConsumerProtocolSubscription<'_> = read(bytes)?;
    let owned = message
        .owned_partitions
        .iter()
        .map(|owned| (owned.topic, &owned.partitions[..]));
    Ok(Subscription {
        topics: message.topics.iter().map(|name| Arc::from(*name)).collect(),
        owned: by_id(owned, topics),
        claims: message.generation_id >= 0 && owns_any(&message),
        rack_id: message.rack_id.filter(|rack| !rack.is_empty()).map(Arc::from),
    })
}

/// Whether a consumer says that it owns partitions (KIP-429).
pub(in crate::group) fn owns_any(message: &ConsumerProtocolSubscription<'_>) -> bool {
    message
        .owned_partitions
        .iter()
        .any(|owned| !owned.partitions.is_empty())
}

/// What is in the bytes of an assignment.
pub(super) struct Assignment {
    pub(super) partitions: Partitions,
    /// An assignor has put something in that only its kind understands.
    pub(super) has_user_data: bool,
}

/// Reads an assignment. No bytes at all are an assignment without partitions.
///
/// # Errors
/// The bytes are no assignment.
pub(super) fn read_assignment(bytes: &[u8], topics: &dyn TopicsImage) -> Result<Assignment, DecodeError> {
    if bytes.is_empty() {
        return Ok(Assignment {
            partitions: Partitions::new(),
            has_user_data: false,
        });
    }
    let message: ConsumerProtocolAssignment<'_> = read(bytes)?;
    let assigned = message
        .assigned_partitions
        .iter()
        .map(|topic| (topic.topic, &topic.partitions[..]));
    Ok(Assignment {
        partitions: by_id(assigned, topics),
        has_user_data: message.user_data.is_some_and(|data| !data.is_empty()),
    })
}

/// Writes an assignment in the version of the member's own subscription. Topics that do not exist any more are left out.
///
/// # Errors
/// A topic's name is longer than a string may be.
pub(super) fn write_assignment(
    partitions: &EpochPartitions,
    subscription: &[u8],
    topics: &dyn TopicsImage,
) -> Result<Bytes, EncodeError> {
    let named: Vec<(Arc<str>, Vec<i32>)> = partitions
        .iter()
        .filter_map(|(id, partitions)| Some((topics.by_id(*id)?.name, partitions.keys().copied().collect())))
        .collect();
    let message = ConsumerProtocolAssignment {
        assigned_partitions: named
            .iter()
            .map(|(topic, partitions)| consumer_protocol_assignment::TopicPartition {
                topic,
                partitions: partitions.clone(),
            })
            .collect(),
        user_data: None,
    };
    let asked = Reader::new(subscription).i16().unwrap_or(0);
    let version = asked.clamp(0, ConsumerProtocolAssignment::MAX_VERSION);
    let mut writer = Writer::new();
    writer.i16(version);
    message.encode(&mut writer, version);
    Ok(writer.into_vec()?.into())
}

/// Reads a message with its version in front.
///
/// # Errors
/// The bytes are no such message.
pub(in crate::group) fn read<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16()?.clamp(0, M::MAX_VERSION);
    M::decode(&mut reader, version)
}

fn by_id<'a>(named: impl Iterator<Item = (&'a str, &'a [i32])>, topics: &dyn TopicsImage) -> Partitions {
    let mut result = Partitions::new();
    for (name, partitions) in named {
        if let Some(topic) = topics.by_name(name).filter(|_| !partitions.is_empty()) {
            result.entry(topic.id).or_default().extend(partitions);
        }
    }
    result
}
