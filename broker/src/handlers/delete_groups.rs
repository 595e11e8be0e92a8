//! DeleteGroups (key 42), versions 0 to 3.
//!
//! - Each group by itself, with its offsets: GROUP_ID_NOT_FOUND, NON_EMPTY_GROUP while it has members, NOT_COORDINATOR,
//!   COORDINATOR_LOAD_IN_PROGRESS. A name that occurs twice is answered twice, the second time as what is left.

use super::groups::Several;
use super::{Context, Reply, ReplyTo};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::delete_groups_response::DeletableGroupResult;
use ottla_protocol::messages::{DeleteGroupsRequest, DeleteGroupsResponse};
use ottla_protocol::{ApiKey, ErrorCode};

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: DeleteGroupsRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::DeleteGroups, header);
    let coordinator = &context.broker.coordinator;
    let mut results = Several::with_capacity(request.groups_names.len());
    for id in &request.groups_names {
        let (code, commit) = match coordinator.operate(id, |shard, _| shard.delete_group(id)) {
            Ok((Ok(()), commit)) => {
                tracing::info!(group = id, "deleted the group");
                (ErrorCode::None, Some(commit))
            }
            Ok((Err(code), _)) | Err(code) => (code, None),
        };
        results.push(((*id).to_owned(), code), commit);
    }
    results.when_committed(
        |(_, result): &mut (String, ErrorCode), code| *result = code,
        move |results| respond(to, results),
    )
}

fn respond(to: ReplyTo, results: &[(String, ErrorCode)]) -> Reply {
    to.with(&DeleteGroupsResponse {
        results: results
            .iter()
            .map(|(group_id, code)| DeletableGroupResult {
                group_id,
                error_code: code.code(),
                ..DeletableGroupResult::default()
            })
            .collect(),
        ..DeleteGroupsResponse::default()
    })
}
