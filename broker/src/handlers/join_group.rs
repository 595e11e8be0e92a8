//! JoinGroup (key 11), versions 0 to 9.
//!
//! - Answered when all members have joined or the rebalance timeout is over; an answer that waits holds back the later
//!   ones of its connection, as in Kafka.
//! - Checked in this order: the group's id (INVALID_GROUP_ID), the session timeout (INVALID_SESSION_TIMEOUT), that this
//!   broker is the coordinator (NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS), room (GROUP_MAX_SIZE_REACHED), the
//!   protocols (INCONSISTENT_GROUP_PROTOCOL), the size of their metadata (INVALID_REQUEST), the member
//!   (UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID).
//! - From version 4 on a dynamic member is given its id first (MEMBER_ID_REQUIRED, KIP-394). From version 5 on members may
//!   be static (KIP-345). From version 9 on a leader that comes back may be told to skip the assignment (KIP-814).
//! - While the coordinator holds as much as it may: COORDINATOR_NOT_AVAILABLE to new members.

use super::groups::{client, host, when_kept};
use super::{Context, Reply, ReplyTo};
use ottla_broker_state::group::{GroupReply, JoinReply, JoinedMember};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::join_group_response::JoinGroupResponseMember;
use ottla_protocol::messages::{JoinGroupRequest, JoinGroupResponse};
use ottla_protocol::{ApiKey, ErrorCode};

/// Before this version the name of the protocol cannot be null.
const FIRST_VERSION_WITH_NULL_PROTOCOL: i16 = 7;

/// Carries out one request. The member has joined when this returns; the answer may have to wait.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: JoinGroupRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::JoinGroup, header);
    let host = host(context);
    let client = client(header, &host);
    let promised = context
        .broker
        .coordinator
        .await_outcome(request.group_id, |shard, moment| {
            shard.join(&request, to.version, client, moment)
        });
    let member_id = request.member_id.to_owned();
    if !request.group_id.is_empty()
        && let Some(reason) = request.reason
    {
        tracing::debug!(group = request.group_id, member = member_id, reason, "joins");
    }
    let respond = move |joined: Result<JoinReply, ErrorCode>| {
        let reply = joined.unwrap_or_else(|code| JoinReply::error(code, member_id));
        to.with(&response(to.version, &reply))
    };
    let pick = |reply| match reply {
        GroupReply::Join(reply) => Some(reply),
        GroupReply::Sync(_) => None,
    };
    match promised {
        Ok(promise) => when_kept(promise, pick, respond),
        Err(code) => respond(Err(code)),
    }
}

fn response(version: i16, reply: &JoinReply) -> JoinGroupResponse<'_> {
    let protocol = reply.protocol.as_deref();
    JoinGroupResponse {
        error_code: reply.error.code(),
        generation_id: reply.generation,
        protocol_type: reply.protocol_type.as_deref(),
        protocol_name: if version < FIRST_VERSION_WITH_NULL_PROTOCOL {
            Some(protocol.unwrap_or_default())
        } else {
            protocol
        },
        leader: &reply.leader,
        skip_assignment: reply.skip_assignment,
        member_id: &reply.member_id,
        members: reply.members.iter().map(joined_member).collect(),
        ..JoinGroupResponse::default()
    }
}

fn joined_member(member: &JoinedMember) -> JoinGroupResponseMember<'_> {
    JoinGroupResponseMember {
        member_id: &member.member_id,
        group_instance_id: member.instance_id.as_deref(),
        metadata: &member.metadata,
    }
}
