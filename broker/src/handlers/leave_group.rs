//! LeaveGroup (key 13), versions 0 to 5.
//!
//! - Before version 3 one member leaves and is answered at the top; from then on many may (KIP-345), each with a code of
//!   its own. A member without an id is found by its `group.instance.id`.
//! - A group that does not exist has no members: UNKNOWN_MEMBER_ID for each.

use super::groups::when_committed;
use super::{Context, Reply, ReplyTo};
use ottla_broker_state::group::LeftMember;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::leave_group_response::MemberResponse;
use ottla_protocol::messages::{LeaveGroupRequest, LeaveGroupResponse};
use ottla_protocol::{ApiKey, ErrorCode};

/// From this version on several members may leave at once.
const FIRST_VERSION_WITH_MANY: i16 = 3;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, mut request: LeaveGroupRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::LeaveGroup, header);
    if to.version < FIRST_VERSION_WITH_MANY {
        request.members = vec![MemberIdentity {
            member_id: request.member_id,
            ..MemberIdentity::default()
        }];
    }
    for member in request.members.iter().filter(|member| member.reason.is_some()) {
        tracing::debug!(
            group = request.group_id,
            member = member.member_id,
            reason = member.reason,
            "leaves"
        );
    }
    let respond = move |left: Result<Vec<LeftMember>, ErrorCode>| respond(to, left);
    let coordinator = &context.broker.coordinator;
    match coordinator.operate(request.group_id, |shard, moment| shard.leave(&request, moment)) {
        Ok((left, commit)) => when_committed(commit, move |done| respond(done.and(left))),
        Err(code) => respond(Err(code)),
    }
}

fn respond(to: ReplyTo, left: Result<Vec<LeftMember>, ErrorCode>) -> Reply {
    let (code, members) = match left {
        Ok(members) => (ErrorCode::None, members),
        Err(code) => (code, Vec::new()),
    };
    if to.version < FIRST_VERSION_WITH_MANY {
        let code = members.first().map_or(code, |member| member.error);
        return to.with(&LeaveGroupResponse {
            error_code: code.code(),
            ..LeaveGroupResponse::default()
        });
    }
    to.with(&LeaveGroupResponse {
        error_code: code.code(),
        members: members.iter().map(member_response).collect(),
        ..LeaveGroupResponse::default()
    })
}

fn member_response(member: &LeftMember) -> MemberResponse<'_> {
    MemberResponse {
        member_id: &member.member_id,
        group_instance_id: member.instance_id.as_deref(),
        error_code: member.error.code(),
    }
}
