//! FindCoordinator (key 10), versions 0 to 6.
//!
//! - Groups (type 0): the broker that leads the group's partition of `__consumer_offsets`, at the address of the listener
//!   that the request came through. The topic is created with the first request for a group. COORDINATOR_NOT_AVAILABLE
//!   while it cannot be, or while the partition has no leader; INVALID_GROUP_ID for an empty name.
//! - Transactions (type 1): TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which clients take as final; see `init_producer_id`.
//!   Other types: INVALID_REQUEST.
//! - From version 4 on many keys may be asked for; each has an error of its own.
//!
//! Not supported: transactions, share groups.

use super::{Context, Reply};
use crate::broker::NodeAddress;
use crate::coordinator::Coordinator;
use crate::replica_manager::Leadership;
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::find_coordinator_response;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

/// Many keys in one request, from this version on.
const FIRST_VERSION_WITH_MANY: i16 = 4;

/// Where one key's coordinator is, or why there is none.
type Found = Result<NodeAddress, (ErrorCode, String)>;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: FindCoordinatorRequest<'_>) -> Reply {
    let keys = if header.api_version < FIRST_VERSION_WITH_MANY {
        vec![request.key]
    } else {
        request.coordinator_keys.clone()
    };
    let found = match refuse_type(request.key_type) {
        Some(refusal) => keys.iter().map(|_| Err(refusal.clone())).collect(),
        None => find_groups(context, &keys).await,
    };
    context.reply(header, &respond(header.api_version, &keys, &found))
}

fn refuse_type(key_type: i8) -> Option<(ErrorCode, String)> {
    let (code, message) = match key_type {
        0 => return None,
        1 => (
            ErrorCode::TransactionalIdAuthorizationFailed,
            "this broker has no transactions yet",
        ),
        _ => (
            ErrorCode::InvalidRequest,
            "this broker knows the coordinator types 0 (group) and 1 (transaction)",
        ),
    };
    Some((code, message.to_owned()))
}

async fn find_groups(context: &Context, groups: &[&str]) -> Vec<Found> {
    let broker = &context.broker;
    if let Err(error) = broker.coordinator.ensure_topic(&broker.controller).await {
        tracing::warn!(%error, "__consumer_offsets cannot be created");
        let refusal = (ErrorCode::CoordinatorNotAvailable, error.to_string());
        return groups.iter().map(|_| Err(refusal.clone())).collect();
    }
    let image = broker.image();
    let find = |group: &&str| {
        if group.is_empty() {
            return Err((ErrorCode::InvalidGroupId, "a group needs a name".to_owned()));
        }
        let leader_id = Coordinator::leader_of(&image, group);
        let leader = leader_id.map(|leader_id| Leadership {
            leader_id,
            leader_epoch: -1,
        });
        let node = broker.nodes_of(&context.listener, leader.into_iter()).pop();
        let nobody = || "the group's partition of __consumer_offsets has no leader at this listener".to_owned();
        node.ok_or_else(|| (ErrorCode::CoordinatorNotAvailable, nobody()))
    };
    groups.iter().map(find).collect()
}

fn respond<'a>(version: i16, keys: &[&'a str], found: &'a [Found]) -> FindCoordinatorResponse<'a> {
    let mut coordinators: Vec<_> = keys
        .iter()
        .zip(found)
        .map(|(key, found)| coordinator(key, found))
        .collect();
    if version >= FIRST_VERSION_WITH_MANY {
        return FindCoordinatorResponse {
            coordinators,
            ..FindCoordinatorResponse::default()
        };
    }
    let only = coordinators.pop().unwrap_or_default();
    FindCoordinatorResponse {
        error_code: only.error_code,
        error_message: only.error_message,
        node_id: only.node_id,
        host: only.host,
        port: only.port,
        ..FindCoordinatorResponse::default()
    }
}

fn coordinator<'a>(key: &'a str, found: &'a Found) -> find_coordinator_response::Coordinator<'a> {
    match found {
        Ok(node) => find_coordinator_response::Coordinator {
            key,
            node_id: node.id,
            host: &node.host,
            port: node.port.into(),
            ..Default::default()
        },
        Err((code, message)) => find_coordinator_response::Coordinator {
            key,
            node_id: -1,
            host: "",
            port: -1,
            error_code: code.code(),
            error_message: Some(message),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::{Message, Writer};

    fn encodes(response: &FindCoordinatorResponse<'_>, version: i16) -> bool {
        let mut writer = Writer::new();
        response.encode(&mut writer, version);
        writer.into_vec().is_ok()
    }

    #[test]
    fn every_version_gets_an_answer_it_can_read() {
        let node = NodeAddress {
            id: 1,
            host: "h".to_owned(),
            port: 9092,
            rack: None,
        };
        let found: [Found; 2] = [Ok(node), Err((ErrorCode::InvalidGroupId, "why".to_owned()))];
        for version in 0..FIRST_VERSION_WITH_MANY {
            let response = respond(version, &["g"], &found[..1]);
            assert_eq!((response.node_id, response.host, response.port), (1, "h", 9092));
            let refused = respond(version, &["g"], &found[1..]);
            assert_eq!(
                (refused.error_code, refused.node_id),
                (ErrorCode::InvalidGroupId.code(), -1)
            );
            assert!(
                encodes(&response, version) && encodes(&refused, version),
                "version {version}"
            );
        }
        for version in FIRST_VERSION_WITH_MANY..=6 {
            let response = respond(version, &["g", "h"], &found);
            let answers: Vec<_> = response.coordinators.iter().map(|one| (one.key, one.node_id)).collect();
            assert_eq!(answers, [("g", 1), ("h", -1)]);
            assert_eq!(response.coordinators[1].error_message, Some("why"));
            assert!(encodes(&response, version), "version {version}");
        }
    }

    #[test]
    fn transactions_are_refused_for_good_and_other_types_are_no_request() {
        let code = |key_type| refuse_type(key_type).map(|(code, _)| code);
        assert_eq!(code(0), None);
        assert_eq!(code(1), Some(ErrorCode::TransactionalIdAuthorizationFailed));
        assert_eq!(code(2), Some(ErrorCode::InvalidRequest));
    }
}
