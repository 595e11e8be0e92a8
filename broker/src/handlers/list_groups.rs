//! ListGroups (key 16), versions 0 to 5.
//!
//! - The groups that this broker coordinates. COORDINATOR_LOAD_IN_PROGRESS while any of them is being loaded.
//! - Version 4 filters by state, version 5 by type; names in any case. A filter that names nothing known matches nothing.

use super::{Context, Reply, ReplyTo};
use crate::coordinator::Commit;
use ottla_broker_state::group::ListedGroup;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::{ListGroupsRequest, ListGroupsResponse, list_groups_response};
use ottla_protocol::{ApiKey, ErrorCode};

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: ListGroupsRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::ListGroups, header);
    let wanted = |group: &ListedGroup| {
        matches(&request.states_filter, group.state) && matches(&request.types_filter, group.kind)
    };
    let looked = context
        .broker
        .coordinator
        .look_at_all(|shard| shard.list().filter(&wanted).collect::<Vec<_>>());
    let shards = match looked {
        Ok(shards) => shards,
        Err(code) => return respond(to, code, &[]),
    };
    let (groups, commits): (Vec<_>, Vec<_>) = shards.into_iter().unzip();
    let groups = groups.into_iter().flatten().collect::<Vec<_>>();
    if commits.iter().all(Commit::is_done) {
        return respond(to, ErrorCode::None, &groups);
    }
    Reply::Parked(Box::pin(async move {
        for commit in commits {
            if let Err(code) = commit.done().await {
                return respond(to, code, &[]);
            }
        }
        respond(to, ErrorCode::None, &groups)
    }))
}

fn matches(filter: &[&str], name: &str) -> bool {
    filter.is_empty() || filter.iter().any(|wanted| wanted.eq_ignore_ascii_case(name))
}

fn respond(to: ReplyTo, code: ErrorCode, groups: &[ListedGroup]) -> Reply {
    to.with(&ListGroupsResponse {
        error_code: code.code(),
        groups: groups.iter().map(listed).collect(),
        ..ListGroupsResponse::default()
    })
}

fn listed(group: &ListedGroup) -> list_groups_response::ListedGroup<'_> {
    list_groups_response::ListedGroup {
        group_id: &group.group,
        protocol_type: &group.protocol_type,
        group_state: group.state,
        group_type: group.kind,
    }
}
