//! Heartbeat (key 12), versions 0 to 4.
//!
//! - UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID and ILLEGAL_GENERATION say that the member is not what it believes to be;
//!   REBALANCE_IN_PROGRESS that it must join again. The session is renewed in both of the last two states.
//! - While the group is being loaded the member is told that all is well, as in Kafka: nothing is known against it.

use super::groups::when_committed;
use super::{Context, Reply, ReplyTo};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::{HeartbeatRequest, HeartbeatResponse};
use ottla_protocol::{ApiKey, ErrorCode};

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: HeartbeatRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::Heartbeat, header);
    let respond = move |error: ErrorCode| {
        to.with(&HeartbeatResponse {
            error_code: error.code(),
            ..HeartbeatResponse::default()
        })
    };
    let coordinator = &context.broker.coordinator;
    match coordinator.operate(request.group_id, |shard, moment| shard.heartbeat(&request, moment)) {
        Ok((error, commit)) => when_committed(commit, move |done| respond(done.err().unwrap_or(error))),
        Err(ErrorCode::CoordinatorLoadInProgress) => respond(ErrorCode::None),
        Err(code) => respond(code),
    }
}
