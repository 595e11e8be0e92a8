//! SyncGroup (key 14), versions 0 to 5.
//!
//! - Answered when the leader has brought the assignment and it is committed to `__consumer_offsets`.
//! - From version 5 on the request must name protocol type and protocol (INCONSISTENT_GROUP_PROTOCOL).
//! - Then: the group's id, the coordinator, the member (UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID), the generation
//!   (ILLEGAL_GENERATION), the protocol; REBALANCE_IN_PROGRESS when the others are joining again.

use super::groups::when_kept;
use super::{Context, Reply, ReplyTo};
use ottla_broker_state::group::{GroupReply, SyncReply};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::{SyncGroupRequest, SyncGroupResponse};
use ottla_protocol::{ApiKey, ErrorCode};

/// From this version on the protocol must be named.
const FIRST_VERSION_WITH_PROTOCOL: i16 = 5;

/// Carries out one request. The answer may have to wait for the leader.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: SyncGroupRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::SyncGroup, header);
    let respond = move |synced: Result<SyncReply, ErrorCode>| {
        let reply = synced.unwrap_or_else(SyncReply::error);
        to.with(&SyncGroupResponse {
            error_code: reply.error.code(),
            protocol_type: reply.protocol_type.as_deref(),
            protocol_name: reply.protocol.as_deref(),
            assignment: &reply.assignment,
            ..SyncGroupResponse::default()
        })
    };
    let names_nothing = request.protocol_type.is_none() || request.protocol_name.is_none();
    if to.version >= FIRST_VERSION_WITH_PROTOCOL && names_nothing {
        return respond(Err(ErrorCode::InconsistentGroupProtocol));
    }
    let coordinator = &context.broker.coordinator;
    let promised = coordinator.await_outcome(request.group_id, |shard, moment| shard.sync(&request, moment));
    let pick = |reply| match reply {
        GroupReply::Sync(reply) => Some(reply),
        GroupReply::Join(_) => None,
    };
    match promised {
        Ok(promise) => when_kept(promise, pick, respond),
        Err(code) => respond(Err(code)),
    }
}
