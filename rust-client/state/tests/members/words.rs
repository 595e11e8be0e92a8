//! How actions and requests read in a transcript, and how words become inputs.

use std::sync::Arc;

use bytes::Bytes;
use ottla_client_state::TopicPartition;
use ottla_client_state::assignor::{Assignment, GroupMember, codec};
use ottla_client_state::membership::{Action, GroupRequest, JoinGroup, JoinedMember};
use ottla_protocol::{ErrorCode, Uuid};

pub fn say_action(action: &Action) -> String {
    match action {
        Action::Send(request) => say_request(request),
        Action::FindCoordinator => "find the coordinator".into(),
        Action::RefreshMetadata { topics, ids } => {
            let ids: Vec<u8> = ids.iter().map(|id| id.0[15]).collect();
            format!("refresh metadata of {topics:?}, ids {ids:?}")
        }
        Action::Revoke { partitions, reason } => format!("REVOKE {}: {reason}", list(partitions)),
        Action::Assign {
            added, all, generation, ..
        } => {
            format!("ASSIGN added {}, all {}, {generation}", list(added), list(all))
        }
        Action::Lost { partitions, reason } => format!("LOST {}: {reason}", list(partitions)),
        Action::Rebalance { reason } => format!("(rebalance: {reason})"),
        Action::Fail(error) => {
            let again = if error.is_final() {
                "final"
            } else {
                "until the next poll"
            };
            format!("FAIL, {again}: {error}")
        }
    }
}

pub fn list(partitions: &[TopicPartition]) -> String {
    let words: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    format!("[{}]", words.join(" "))
}

fn by_id(partitions: &[(Uuid, Vec<i32>)]) -> String {
    let words = partitions
        .iter()
        .map(|(id, numbers)| format!("id{}:{numbers:?}", id.0[15]));
    format!("[{}]", words.collect::<Vec<_>>().join(" "))
}

fn say_join(join: &JoinGroup) -> String {
    let offers = join.protocols.iter().map(|(name, bytes)| {
        let offer = codec::decode_subscription("".into(), None, bytes).unwrap();
        let topics: Vec<&str> = offer.topics.iter().map(|topic| &**topic).collect();
        let mut words = format!("{name} for {}", topics.join(","));
        if !offer.owned.is_empty() {
            words += &format!(" owning {}", list(&offer.owned));
        }
        if let Some(generation) = offer.generation {
            words += &format!(" since generation {generation}");
        }
        if let Some(data) = &offer.user_data {
            words += &format!(" with {} bytes", data.len());
        }
        words
    });
    let offers: Vec<String> = offers.collect();
    let instance = join
        .group_instance_id
        .as_ref()
        .map_or(String::new(), |id| format!(" instance {id}"));
    let member = &join.member_id;
    format!(
        "JoinGroup member {member:?}{instance}: {}; \"{}\"",
        offers.join(", "),
        join.reason
    )
}

fn say_request(request: &GroupRequest) -> String {
    match request {
        GroupRequest::JoinGroup(join) => say_join(join),
        GroupRequest::SyncGroup(sync) => {
            let gives = sync.assignments.iter().map(|(member, bytes)| {
                let assignment = codec::decode_assignment(bytes).unwrap();
                format!(" {member}={}", list(&assignment.partitions))
            });
            let (generation, gives) = (sync.generation_id, gives.collect::<String>());
            format!("SyncGroup generation {generation} member {:?}{gives}", sync.member_id)
        }
        GroupRequest::Heartbeat(beat) => {
            format!(
                "Heartbeat generation {} member {:?}",
                beat.generation_id, beat.member_id
            )
        }
        GroupRequest::LeaveGroup(leave) => format!("LeaveGroup member {:?}; \"{}\"", leave.member_id, leave.reason),
        GroupRequest::ConsumerGroupHeartbeat(beat) => {
            let mut words = format!(
                "ConsumerGroupHeartbeat member {:?} epoch {}",
                beat.member_id, beat.member_epoch
            );
            if let Some(instance) = &beat.instance_id {
                words += &format!(" instance {instance}");
            }
            if let Some(rack) = &beat.rack_id {
                words += &format!(" rack {rack}");
            }
            if let Some(ms) = beat.rebalance_timeout_ms {
                words += &format!(" rebalance-timeout {ms}");
            }
            if let Some(topics) = &beat.subscribed_topic_names {
                words += &format!(" topics {topics:?}");
            }
            if let Some(pattern) = &beat.subscribed_topic_regex {
                words += &format!(" pattern {pattern:?}");
            }
            if let Some(assignor) = &beat.server_assignor {
                words += &format!(" assignor {assignor}");
            }
            if let Some(owned) = &beat.topic_partitions {
                words += &format!(" owning {}", by_id(owned));
            }
            words
        }
    }
}

pub fn code(name: &str) -> i16 {
    if name == "ok" {
        return 0;
    }
    let found = ErrorCode::ALL.iter().find(|code| code.name() == name);
    found.unwrap_or_else(|| panic!("{name} is no error's name")).code()
}

pub fn partition(word: &str) -> TopicPartition {
    let (topic, number) = word.rsplit_once('-').unwrap_or_else(|| panic!("{word}: topic-number"));
    TopicPartition::new(topic, number.parse().unwrap())
}

/// `orders-0,orders-1`
pub fn partitions(words: &str) -> Vec<TopicPartition> {
    words
        .split(',')
        .filter(|word| !word.is_empty())
        .map(partition)
        .collect()
}

pub fn assignment(words: &[&str]) -> Bytes {
    let assignment = Assignment {
        partitions: words.iter().map(|word| partition(word)).collect(),
        user_data: None,
    };
    codec::encode_assignment(&assignment, codec::ASSIGNMENT_VERSION).unwrap()
}

/// `b:orders,users:orders-0,orders-1@4`, or `b:!` for one whose subscription is no subscription.
pub fn joined(words: &str) -> JoinedMember {
    let mut parts = words.split(':');
    let member_id: Arc<str> = parts.next().unwrap().into();
    let topics = parts.next().unwrap_or_default();
    let (owned, generation) = parts.next().map_or(("", None), |owned| {
        owned
            .split_once('@')
            .map_or((owned, None), |(owned, at)| (owned, Some(at.parse().unwrap())))
    });
    let member = GroupMember {
        topics: topics
            .split(',')
            .filter(|topic| !topic.is_empty())
            .map(Arc::from)
            .collect(),
        owned: partitions(owned),
        generation,
        ..GroupMember::default()
    };
    let metadata = codec::encode_subscription(&member, codec::SUBSCRIPTION_VERSION).unwrap();
    JoinedMember {
        member_id,
        group_instance_id: None,
        metadata: if topics == "!" {
            Bytes::from_static(b"\x00")
        } else {
            metadata
        },
    }
}
