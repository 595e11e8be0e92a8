//! The bytes that members of a classic group send each other through the coordinator: subscriptions and assignments.
//!
//! In: bytes of any program. Out: a [`GroupMember`] or an [`Assignment`]. A subscription is put right rather than refused:
//! negative partitions and second mentions are dropped, a generation below zero is none, a version above ours is read
//! as ours (the formats only ever grow at their end). What cannot be read at all is an error, and it is for the leader
//! to decide what becomes of that member.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::Message;
use ottla_protocol::messages::consumer_protocol_assignment as assignment;
use ottla_protocol::messages::consumer_protocol_subscription as subscription;
use ottla_protocol::messages::{ConsumerProtocolAssignment, ConsumerProtocolSubscription};
use ottla_protocol::wire::{AtField, DecodeError, EncodeError, Place, Reader, Writer};

use super::{Assignment, GroupMember};
use crate::TopicPartition;

/// The version that subscriptions are written in: with owned partitions, generation and rack.
pub const SUBSCRIPTION_VERSION: i16 = ConsumerProtocolSubscription::MAX_VERSION;
/// The version that assignments are written in.
pub const ASSIGNMENT_VERSION: i16 = ConsumerProtocolAssignment::MAX_VERSION;

/// Writes a member's subscription in `version`; what the version lacks is left out. The member's ids are no part of it.
///
/// # Errors
/// When a name is longer than the format allows.
pub fn encode_subscription(member: &GroupMember, version: i16) -> Result<Bytes, EncodeError> {
    let owned = by_topic(&member.owned);
    let message = ConsumerProtocolSubscription {
        topics: member.topics.iter().map(|topic| &**topic).collect(),
        user_data: member.user_data.as_deref(),
        owned_partitions: owned
            .into_iter()
            .map(|(topic, partitions)| subscription::TopicPartition { topic, partitions })
            .collect(),
        generation_id: member.generation.unwrap_or(-1),
        rack_id: member.rack.as_deref(),
    };
    write(&message, version)
}

/// Reads the subscription of the member with these ids.
///
/// # Errors
/// Says what was malformed, and where.
pub fn decode_subscription(
    member_id: Arc<str>,
    group_instance_id: Option<Arc<str>>,
    bytes: &[u8],
) -> Result<GroupMember, DecodeError> {
    let message: ConsumerProtocolSubscription<'_> = read(bytes)?;
    let topics: BTreeSet<Arc<str>> = message.topics.into_iter().map(Arc::from).collect();
    let owned = message.owned_partitions.iter();
    Ok(GroupMember {
        member_id,
        group_instance_id,
        topics: topics.into_iter().collect(),
        user_data: message.user_data.map(Bytes::copy_from_slice),
        owned: sound(owned.map(|owned| (owned.topic, &*owned.partitions))),
        generation: Some(message.generation_id).filter(|generation| *generation >= 0),
        rack: message.rack_id.filter(|rack| !rack.is_empty()).map(Arc::from),
    })
}

/// Writes an assignment in `version`.
///
/// # Errors
/// When a name is longer than the format allows.
pub fn encode_assignment(assignment: &Assignment, version: i16) -> Result<Bytes, EncodeError> {
    let message = ConsumerProtocolAssignment {
        assigned_partitions: by_topic(&assignment.partitions)
            .into_iter()
            .map(|(topic, partitions)| assignment::TopicPartition { topic, partitions })
            .collect(),
        user_data: assignment.user_data.as_deref(),
    };
    write(&message, version)
}

/// Reads an assignment. No bytes at all are no partitions: so does a coordinator answer whose leader forgot a member.
///
/// # Errors
/// Says what was malformed, and where.
pub fn decode_assignment(bytes: &[u8]) -> Result<Assignment, DecodeError> {
    if bytes.is_empty() {
        return Ok(Assignment::default());
    }
    let message: ConsumerProtocolAssignment<'_> = read(bytes)?;
    let partitions = message.assigned_partitions.iter();
    Ok(Assignment {
        partitions: sound(partitions.map(|assigned| (assigned.topic, &*assigned.partitions))),
        user_data: message.user_data.map(Bytes::copy_from_slice),
    })
}

/// The partitions as topics with their numbers, in order.
pub(super) fn by_topic(partitions: &[TopicPartition]) -> BTreeMap<&str, Vec<i32>> {
    let mut topics: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    topics
}

/// The partitions that can be, each once, in the order given.
pub(super) fn sound<'a>(topics: impl Iterator<Item = (&'a str, &'a [i32])>) -> Vec<TopicPartition> {
    let mut seen = BTreeSet::new();
    let mut partitions = Vec::new();
    for (topic, numbers) in topics {
        let topic: Arc<str> = topic.into();
        for number in numbers.iter().filter(|number| **number >= 0) {
            let partition = TopicPartition::new(topic.clone(), *number);
            if seen.insert(partition.clone()) {
                partitions.push(partition);
            }
        }
    }
    partitions
}

fn write<'a, M: Message<'a>>(message: &M, version: i16) -> Result<Bytes, EncodeError> {
    let mut writer = Writer::new();
    writer.i16(version);
    message.encode(&mut writer, version);
    Ok(writer.into_vec()?.into())
}

fn read<'a, M: Message<'a>>(bytes: &'a [u8]) -> Result<M, DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16().at(Place::new(M::NAME, ""), "version")?;
    M::decode(&mut reader, version.min(M::MAX_VERSION))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member() -> GroupMember {
        GroupMember {
            member_id: "a".into(),
            group_instance_id: None,
            topics: vec!["orders".into(), "users".into()],
            user_data: Some(Bytes::from_static(b"xy")),
            owned: vec![("orders", 0).into(), ("orders", 3).into()],
            generation: Some(7),
            rack: Some("r1".into()),
        }
    }

    #[test]
    fn a_subscription_survives_in_every_version_what_the_version_has() {
        for version in 0..=SUBSCRIPTION_VERSION {
            let bytes = encode_subscription(&member(), version).unwrap();
            let read = decode_subscription("a".into(), None, &bytes).unwrap();
            let mut expected = member();
            if version < 1 {
                expected.owned.clear();
            }
            if version < 2 {
                expected.generation = None;
            }
            if version < 3 {
                expected.rack = None;
            }
            assert_eq!(read, expected, "version {version}");
        }
    }

    #[test]
    fn a_later_version_is_read_as_the_last_known_one() {
        let mut bytes = encode_subscription(&member(), SUBSCRIPTION_VERSION).unwrap().to_vec();
        bytes[1] = 9;
        bytes.extend(b"what version 9 adds");
        assert_eq!(decode_subscription("a".into(), None, &bytes).unwrap(), member());
    }

    #[test]
    fn a_subscription_is_put_right() {
        let message = ConsumerProtocolSubscription {
            topics: vec!["t", "s", "t"],
            owned_partitions: vec![
                subscription::TopicPartition {
                    topic: "t",
                    partitions: vec![1, -1, 1, i32::MIN],
                },
                subscription::TopicPartition {
                    topic: "t",
                    partitions: vec![1, 0],
                },
            ],
            generation_id: -7,
            rack_id: Some(""),
            ..ConsumerProtocolSubscription::default()
        };
        let read = decode_subscription("a".into(), None, &write(&message, 3).unwrap()).unwrap();
        assert_eq!(read.topics, ["s".into(), "t".into()]);
        assert_eq!(read.owned, [("t", 1).into(), ("t", 0).into()]);
        assert_eq!((read.generation, read.rack), (None, None));
    }

    #[test]
    fn an_assignment_survives_in_every_version() {
        let assignment = Assignment {
            partitions: vec![("a", 0).into(), ("a", 1).into(), ("b", 5).into()],
            user_data: Some(Bytes::from_static(b"z")),
        };
        for version in 0..=ASSIGNMENT_VERSION {
            let bytes = encode_assignment(&assignment, version).unwrap();
            assert_eq!(decode_assignment(&bytes).unwrap(), assignment);
        }
        assert_eq!(decode_assignment(&[]).unwrap(), Assignment::default());
    }

    #[test]
    fn bytes_that_are_no_subscription_are_an_error() {
        for bytes in [&b""[..], b"\x00", b"\x00\x01\x7f\xff\xff\xff", b"\xff\xff\x00\x00"] {
            assert!(decode_subscription("a".into(), None, bytes).is_err());
        }
    }
}
