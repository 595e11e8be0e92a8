//! FindCoordinator (key 10), versions 0 to 6.
//!
//! - There are no coordinators yet, so each key is answered by itself with an error and, from version 1 on, a sentence.
//! - Groups (type 0): COORDINATOR_NOT_AVAILABLE. Transactions (type 1): TRANSACTIONAL_ID_AUTHORIZATION_FAILED, which
//!   clients take as final; see `init_producer_id`. Other types: INVALID_REQUEST.
//!
//! Not supported: consumer groups, transactions, share groups.

use super::{Context, Reply};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::{FindCoordinatorRequest, FindCoordinatorResponse};

/// Many keys in one request, from this version on.
const FIRST_VERSION_WITH_MANY: i16 = 4;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: FindCoordinatorRequest<'_>) -> Reply {
    context.reply(header, &respond(header.api_version, &request))
}

fn respond<'a>(version: i16, request: &FindCoordinatorRequest<'a>) -> FindCoordinatorResponse<'a> {
    let (code, message) = match request.key_type {
        0 => (
            ErrorCode::CoordinatorNotAvailable,
            "this broker has no consumer groups yet; assign partitions to the consumer by hand",
        ),
        1 => (
            ErrorCode::TransactionalIdAuthorizationFailed,
            "this broker has no transactions yet",
        ),
        _ => (
            ErrorCode::InvalidRequest,
            "this broker knows the coordinator types 0 (group) and 1 (transaction)",
        ),
    };
    if version < FIRST_VERSION_WITH_MANY {
        return FindCoordinatorResponse {
            error_code: code.code(),
            error_message: Some(message),
            node_id: -1,
            port: -1,
            ..FindCoordinatorResponse::default()
        };
    }
    let coordinator = |key: &&'a str| Coordinator {
        key,
        node_id: -1,
        host: "",
        port: -1,
        error_code: code.code(),
        error_message: Some(message),
    };
    FindCoordinatorResponse {
        coordinators: request.coordinator_keys.iter().map(coordinator).collect(),
        ..FindCoordinatorResponse::default()
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
        for version in 0..FIRST_VERSION_WITH_MANY {
            let request = FindCoordinatorRequest {
                key: "g",
                ..FindCoordinatorRequest::default()
            };
            let response = respond(version, &request);
            assert_eq!(response.error_code, ErrorCode::CoordinatorNotAvailable.code());
            assert!(encodes(&response, version), "version {version}");
        }
        for version in FIRST_VERSION_WITH_MANY..=6 {
            let request = FindCoordinatorRequest {
                coordinator_keys: vec!["g", "h"],
                ..FindCoordinatorRequest::default()
            };
            let response = respond(version, &request);
            let keys: Vec<_> = response
                .coordinators
                .iter()
                .map(|coordinator| coordinator.key)
                .collect();
            assert_eq!(keys, ["g", "h"]);
            assert!(
                response
                    .coordinators
                    .iter()
                    .all(|coordinator| coordinator.error_message.is_some())
            );
            assert!(encodes(&response, version), "version {version}");
        }
    }

    #[test]
    fn transactions_are_refused_for_good_and_other_types_are_no_request() {
        let code = |key_type| {
            respond(
                3,
                &FindCoordinatorRequest {
                    key: "k",
                    key_type,
                    ..FindCoordinatorRequest::default()
                },
            )
            .error_code
        };
        assert_eq!(code(1), ErrorCode::TransactionalIdAuthorizationFailed.code());
        assert_eq!(code(2), ErrorCode::InvalidRequest.code());
    }
}
