//! What a member says to its coordinator, on the wire.
//!
//! In: a [`GroupRequest`] of the machine. Out: the coordinator's [`GroupResponse`], or why there is none. Requests that a
//! coordinator parks until the whole group has joined go their own way ([`Lane::Join`]), so that they delay no heartbeat
//! and no commit. It sends once and decides nothing.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_client_state::membership::{
    ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, GroupRequest, GroupResponse, Heartbeat, JoinGroup,
    JoinGroupAnswer, JoinedMember, LeaveGroup, RequestFailure, SyncGroup, SyncGroupAnswer,
};
use ottla_protocol::Uuid;
use ottla_protocol::messages::consumer_group_heartbeat_request::TopicPartitions;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    ConsumerGroupHeartbeatRequest, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, SyncGroupRequest,
};

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::net::Lane;

/// The newest versions that are used: those of Kafka 4.4.
const JOIN_CAP: i16 = 9;
const SYNC_CAP: i16 = 5;
const HEARTBEAT_CAP: i16 = 4;
const LEAVE_CAP: i16 = 5;
const CONSUMER_HEARTBEAT_CAP: i16 = 1;

/// From these versions on a member may be static (KIP-345).
const STATIC_JOIN: i16 = 5;
const STATIC_SYNC: i16 = 3;
const STATIC_HEARTBEAT: i16 = 3;
const STATIC_LEAVE: i16 = 3;

/// JoinGroup and LeaveGroup say why from these versions on (KIP-800).
const JOIN_REASON: i16 = 8;
const LEAVE_REASON: i16 = 5;

/// SyncGroup names the assignor from this version on.
const SYNC_PROTOCOL: i16 = 5;

/// The coordinator evaluates patterns from this version of ConsumerGroupHeartbeat on.
const PATTERNS: i16 = 1;

/// What members of a classic group are to the coordinator.
const PROTOCOL_TYPE: &str = "consumer";

/// Sends a request and waits for its answer.
///
/// # Errors
/// What the machine makes of it, and the error to be told.
pub(super) async fn send(client: &Client, request: GroupRequest) -> Result<GroupResponse, (RequestFailure, Error)> {
    let group = group_of(&request).clone();
    if let Err(error) = client.find_coordinator(&group).await {
        let failure = match error.kind() {
            ErrorKind::Authentication | ErrorKind::Config => RequestFailure::Refused(error.to_string().into()),
            _ => RequestFailure::NoCoordinator(error.raw_code()),
        };
        return Err((failure, error));
    }
    let timeout = client.config().request_timeout;
    let patience = request
        .patience_ms()
        .map_or(timeout, Duration::from_millis)
        .max(timeout);
    let answered = match &request {
        GroupRequest::JoinGroup(join) => join_group(client, join, patience).await,
        GroupRequest::SyncGroup(sync) => sync_group(client, sync, patience).await,
        GroupRequest::Heartbeat(heartbeat) => send_heartbeat(client, heartbeat, patience).await,
        GroupRequest::LeaveGroup(leave) => leave_group(client, leave, patience).await,
        GroupRequest::ConsumerGroupHeartbeat(heartbeat) => consumer_heartbeat(client, heartbeat, patience).await,
    };
    answered.map_err(|error| (failure_of(&error), error))
}

fn group_of(request: &GroupRequest) -> &Arc<str> {
    match request {
        GroupRequest::JoinGroup(request) => &request.group_id,
        GroupRequest::SyncGroup(request) => &request.group_id,
        GroupRequest::Heartbeat(request) => &request.group_id,
        GroupRequest::LeaveGroup(request) => &request.group_id,
        GroupRequest::ConsumerGroupHeartbeat(request) => &request.group_id,
    }
}

fn failure_of(error: &Error) -> RequestFailure {
    match error.kind() {
        ErrorKind::Timeout => RequestFailure::TimedOut,
        ErrorKind::Unsupported => RequestFailure::UnsupportedVersion,
        ErrorKind::Authentication | ErrorKind::Config | ErrorKind::TooLarge => {
            RequestFailure::Refused(error.to_string().into())
        }
        // An answer that cannot be read says as little as none.
        _ => RequestFailure::Disconnected,
    }
}

/// The versions that will do: a static member needs those that know it.
fn versions(is_static: bool, from: i16, cap: i16) -> std::ops::RangeInclusive<i16> {
    if is_static { from..=cap } else { 0..=cap }
}

async fn join_group(client: &Client, join: &JoinGroup, patience: Duration) -> Result<GroupResponse> {
    let build = |version: i16| JoinGroupRequest {
        group_id: &join.group_id,
        session_timeout_ms: join.session_timeout_ms,
        rebalance_timeout_ms: if version >= 1 { join.rebalance_timeout_ms } else { -1 },
        member_id: &join.member_id,
        group_instance_id: join.group_instance_id.as_deref(),
        protocol_type: PROTOCOL_TYPE,
        protocols: join
            .protocols
            .iter()
            .map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata })
            .collect(),
        reason: Some(&*join.reason).filter(|_| version >= JOIN_REASON),
    };
    let versions = versions(join.group_instance_id.is_some(), STATIC_JOIN, JOIN_CAP);
    let asked = client.request_coordinator(&join.group_id, Lane::Join, versions, patience, build);
    let frame = asked.await?;
    let answer = frame.decode()?;
    let members = answer.members.iter().map(|member| JoinedMember {
        member_id: member.member_id.into(),
        group_instance_id: member.group_instance_id.map(Into::into),
        metadata: Bytes::copy_from_slice(member.metadata),
    });
    Ok(GroupResponse::JoinGroup(JoinGroupAnswer {
        error_code: answer.error_code,
        generation_id: answer.generation_id,
        protocol_name: answer.protocol_name.filter(|name| !name.is_empty()).map(Into::into),
        leader: answer.leader.into(),
        skip_assignment: answer.skip_assignment,
        member_id: answer.member_id.into(),
        members: members.collect(),
    }))
}

async fn sync_group(client: &Client, sync: &SyncGroup, patience: Duration) -> Result<GroupResponse> {
    let build = |version: i16| SyncGroupRequest {
        group_id: &sync.group_id,
        generation_id: sync.generation_id,
        member_id: &sync.member_id,
        group_instance_id: sync.group_instance_id.as_deref(),
        protocol_type: Some(PROTOCOL_TYPE).filter(|_| version >= SYNC_PROTOCOL),
        protocol_name: Some(&*sync.protocol_name).filter(|_| version >= SYNC_PROTOCOL),
        assignments: sync
            .assignments
            .iter()
            .map(|(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
            .collect(),
    };
    let versions = versions(sync.group_instance_id.is_some(), STATIC_SYNC, SYNC_CAP);
    let asked = client.request_coordinator(&sync.group_id, Lane::Join, versions, patience, build);
    let frame = asked.await?;
    let answer = frame.decode()?;
    Ok(GroupResponse::SyncGroup(SyncGroupAnswer {
        error_code: answer.error_code,
        protocol_name: answer.protocol_name.map(Into::into),
        assignment: Bytes::copy_from_slice(answer.assignment),
    }))
}

async fn send_heartbeat(client: &Client, heartbeat: &Heartbeat, patience: Duration) -> Result<GroupResponse> {
    let build = |_| HeartbeatRequest {
        group_id: &heartbeat.group_id,
        generation_id: heartbeat.generation_id,
        member_id: &heartbeat.member_id,
        group_instance_id: heartbeat.group_instance_id.as_deref(),
    };
    let versions = versions(heartbeat.group_instance_id.is_some(), STATIC_HEARTBEAT, HEARTBEAT_CAP);
    let asked = client.request_coordinator(&heartbeat.group_id, Lane::Group, versions, patience, build);
    Ok(GroupResponse::Heartbeat(asked.await?.decode()?.error_code))
}

async fn leave_group(client: &Client, leave: &LeaveGroup, patience: Duration) -> Result<GroupResponse> {
    let build = |version: i16| {
        let one = version < STATIC_LEAVE;
        let member = MemberIdentity {
            member_id: &leave.member_id,
            group_instance_id: leave.group_instance_id.as_deref(),
            reason: Some(&*leave.reason).filter(|_| version >= LEAVE_REASON),
        };
        LeaveGroupRequest {
            group_id: &leave.group_id,
            member_id: if one { &leave.member_id } else { "" },
            members: if one { Vec::new() } else { vec![member] },
        }
    };
    let versions = versions(leave.group_instance_id.is_some(), STATIC_LEAVE, LEAVE_CAP);
    let asked = client.request_coordinator(&leave.group_id, Lane::Group, versions, patience, build);
    let frame = asked.await?;
    let answer = frame.decode()?;
    let member = answer.members.first().map_or(0, |member| member.error_code);
    let code = if answer.error_code == 0 {
        member
    } else {
        answer.error_code
    };
    Ok(GroupResponse::LeaveGroup(code))
}

async fn consumer_heartbeat(
    client: &Client,
    heartbeat: &ConsumerGroupHeartbeat,
    patience: Duration,
) -> Result<GroupResponse> {
    let owned = |owned: &Vec<(Uuid, Vec<i32>)>| -> Vec<TopicPartitions> {
        let topic = |(topic_id, partitions): &(Uuid, Vec<i32>)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.clone(),
        };
        owned.iter().map(topic).collect()
    };
    let pattern = heartbeat.subscribed_topic_regex.as_deref();
    let build = |version: i16| ConsumerGroupHeartbeatRequest {
        group_id: &heartbeat.group_id,
        member_id: &heartbeat.member_id,
        member_epoch: heartbeat.member_epoch,
        instance_id: heartbeat.instance_id.as_deref(),
        rack_id: heartbeat.rack_id.as_deref(),
        rebalance_timeout_ms: heartbeat.rebalance_timeout_ms.unwrap_or(-1),
        subscribed_topic_names: heartbeat
            .subscribed_topic_names
            .as_ref()
            .map(|names| names.iter().map(|name| &**name).collect()),
        subscribed_topic_regex: pattern.filter(|_| version >= PATTERNS),
        server_assignor: heartbeat.server_assignor.as_deref(),
        topic_partitions: heartbeat.topic_partitions.as_ref().map(owned),
    };
    let versions = versions(
        pattern.is_some_and(|pattern| !pattern.is_empty()),
        PATTERNS,
        CONSUMER_HEARTBEAT_CAP,
    );
    let asked = client.request_coordinator(&heartbeat.group_id, Lane::Group, versions, patience, build);
    let frame = asked.await?;
    let answer = frame.decode()?;
    let assignment = answer.assignment.as_ref().map(|assignment| {
        let topics = assignment.topic_partitions.iter();
        topics.map(|topic| (topic.topic_id, topic.partitions.clone())).collect()
    });
    Ok(GroupResponse::ConsumerGroupHeartbeat(ConsumerGroupHeartbeatAnswer {
        error_code: answer.error_code,
        error_message: answer.error_message.map(Into::into),
        member_id: answer.member_id.map(Into::into),
        member_epoch: answer.member_epoch,
        heartbeat_interval_ms: answer.heartbeat_interval_ms,
        assignment,
    }))
}
