//! DescribeGroups (key 15), versions 0 to 6.
//!
//! - Each group by itself: NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, INVALID_GROUP_ID for an empty name.
//! - A group that does not exist is "Dead", and from version 6 on GROUP_ID_NOT_FOUND too (KIP-1043).
//! - Metadata and assignments are told while the group is stable.
//!
//! Not supported: authorized operations (the answer is -2147483648, "not known").

use super::groups::{self, Described, OPERATIONS_NOT_KNOWN};
use super::{Context, Reply, ReplyTo};
use ottla_broker_state::group::{ClassicDescription, GroupShard, MemberDescription};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use ottla_protocol::messages::{DescribeGroupsRequest, DescribeGroupsResponse};
use ottla_protocol::{ApiKey, ErrorCode};

/// From this version on a group that does not exist is an error.
const FIRST_VERSION_WITH_NOT_FOUND: i16 = 6;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: DescribeGroupsRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::DescribeGroups, header);
    groups::describe(context, &request.groups, GroupShard::describe_classic, move |groups| {
        respond(to, groups)
    })
}

fn respond(to: ReplyTo, groups: &[Described<ClassicDescription>]) -> Reply {
    to.with(&DescribeGroupsResponse {
        groups: groups.iter().map(|group| described(to.version, group)).collect(),
        ..DescribeGroupsResponse::default()
    })
}

fn described(version: i16, (id, described): &Described<ClassicDescription>) -> DescribedGroup<'_> {
    let nothing = DescribedGroup {
        group_id: id,
        authorized_operations: OPERATIONS_NOT_KNOWN,
        ..DescribedGroup::default()
    };
    match described {
        Ok(Some(group)) => DescribedGroup {
            group_state: group.state,
            protocol_type: &group.protocol_type,
            protocol_data: &group.protocol,
            members: group.members.iter().map(member).collect(),
            ..nothing
        },
        Ok(None) if version >= FIRST_VERSION_WITH_NOT_FOUND => DescribedGroup {
            error_code: ErrorCode::GroupIdNotFound.code(),
            error_message: Some("there is no classic group of this name"),
            group_state: "Dead",
            ..nothing
        },
        Ok(None) => DescribedGroup {
            group_state: "Dead",
            ..nothing
        },
        Err(code) => DescribedGroup {
            error_code: code.code(),
            ..nothing
        },
    }
}

fn member(member: &MemberDescription) -> DescribedGroupMember<'_> {
    DescribedGroupMember {
        member_id: &member.member_id,
        group_instance_id: member.instance_id.as_deref(),
        client_id: &member.client_id,
        client_host: &member.client_host,
        member_metadata: &member.metadata,
        member_assignment: &member.assignment,
    }
}
