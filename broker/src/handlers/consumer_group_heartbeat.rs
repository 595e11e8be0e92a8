//! ConsumerGroupHeartbeat (key 68), versions 0 and 1.
//!
//! - Joining, staying and leaving by the consumer protocol (KIP-848). The first member makes the group; it makes a
//!   consumer group of a classic one if `group.consumer.migration.policy` lets it (GROUP_ID_NOT_FOUND otherwise).
//! - Answered when what it changed is committed to `__consumer_offsets`.
//! - In version 0 a member that joins without an id is given one; from version 1 on it draws its own.
//! - UNKNOWN_MEMBER_ID and FENCED_MEMBER_EPOCH say that the member must join again with epoch 0. A request that comes
//!   twice is answered twice and fences nobody.
//! - INVALID_REQUEST, UNSUPPORTED_ASSIGNOR, INVALID_REGULAR_EXPRESSION, UNRELEASED_INSTANCE_ID, FENCED_INSTANCE_ID and
//!   GROUP_MAX_SIZE_REACHED come with a sentence.

use super::groups::{client, host, when_committed};
use super::{Context, Reply, ReplyTo};
use ottla_broker_state::group::consumer::{GroupError, HeartbeatReply, HeartbeatRequest, Partitions};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::consumer_group_heartbeat_response::{Assignment, TopicPartitions};
use ottla_protocol::messages::{ConsumerGroupHeartbeatRequest, ConsumerGroupHeartbeatResponse};
use ottla_protocol::{ApiKey, ErrorCode};
use std::sync::Arc;

/// Carries out one request.
pub async fn handle(
    context: &Context,
    header: &RequestHeader<'_>,
    request: ConsumerGroupHeartbeatRequest<'_>,
) -> Reply {
    let to = ReplyTo::new(ApiKey::ConsumerGroupHeartbeat, header);
    let coordinator = &context.broker.coordinator;
    let host = host(context);
    let client = client(header, &host);
    let group = request.group_id;
    let mut beat = owned(&request);
    if let Err(error) = beat.check(group, to.version, &coordinator.rules().consumer) {
        return refuse(to, &error);
    }
    if beat.member_id.is_empty() {
        beat.member_id = client.fresh_id.to_string().into();
    }
    let done = coordinator.operate(group, |shard, moment| {
        shard.consumer_heartbeat(group, &beat, client, moment)
    });
    match done {
        Ok((result, commit)) => when_committed(commit, move |done| match (done, result) {
            (Ok(()), Ok(reply)) => respond(to, reply),
            (Ok(()), Err(error)) => refuse(to, &error),
            (Err(code), _) => fail(to, code),
        }),
        Err(code) => fail(to, code),
    }
}

fn owned(request: &ConsumerGroupHeartbeatRequest<'_>) -> HeartbeatRequest {
    let partitions = |topics: &Vec<_>| {
        let mut owned = Partitions::new();
        for topic in topics {
            let topic: &ottla_protocol::messages::consumer_group_heartbeat_request::TopicPartitions = topic;
            if !topic.partitions.is_empty() {
                owned.entry(topic.topic_id).or_default().extend(&topic.partitions);
            }
        }
        owned
    };
    let names = |names: &Vec<&str>| names.iter().map(|name| Arc::from(*name)).collect();
    HeartbeatRequest {
        member_id: request.member_id.into(),
        member_epoch: request.member_epoch,
        instance_id: request.instance_id.map(Arc::from),
        rack_id: request.rack_id.map(Arc::from),
        rebalance_timeout_ms: request.rebalance_timeout_ms,
        topics: request.subscribed_topic_names.as_ref().map(names),
        regex: request.subscribed_topic_regex.map(Arc::from),
        assignor: request.server_assignor.map(Arc::from),
        owned: request.topic_partitions.as_ref().map(partitions),
    }
}

fn respond(to: ReplyTo, reply: HeartbeatReply) -> Reply {
    let topics = |assignment: Partitions| Assignment {
        topic_partitions: assignment
            .into_iter()
            .map(|(topic_id, partitions)| TopicPartitions {
                topic_id,
                partitions: partitions.into_iter().collect(),
            })
            .collect(),
    };
    to.with(&ConsumerGroupHeartbeatResponse {
        member_id: Some(&reply.member_id),
        member_epoch: reply.member_epoch,
        heartbeat_interval_ms: reply.heartbeat_interval_ms,
        assignment: reply.assignment.map(topics),
        ..ConsumerGroupHeartbeatResponse::default()
    })
}

fn refuse(to: ReplyTo, error: &GroupError) -> Reply {
    to.with(&ConsumerGroupHeartbeatResponse {
        error_code: error.code.code(),
        error_message: Some(&error.message),
        ..ConsumerGroupHeartbeatResponse::default()
    })
}

fn fail(to: ReplyTo, code: ErrorCode) -> Reply {
    to.with(&ConsumerGroupHeartbeatResponse {
        error_code: code.code(),
        ..ConsumerGroupHeartbeatResponse::default()
    })
}
