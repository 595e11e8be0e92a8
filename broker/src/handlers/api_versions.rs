//! ApiVersions (key 18), versions 0 to 5.
//!
//! - Lists what `dispatch` serves, nothing else. The response header is version 0 in all versions, so that a client
//!   that asked in a version unknown here can read the answer: UNSUPPORTED_VERSION in the shape of version 0, with the
//!   list (KIP-511).
//! - A client name or version with characters that cannot stand in a metric is INVALID_REQUEST (KIP-511).
//! - Answered before authentication too, but not in the middle of it: ILLEGAL_SASL_STATE, and the end.
//! - Features (version 3): `metadata.version` and `group.version` as the metadata log has them finalized. Nothing is
//!   announced that is not done: no `transaction.version`.
//! - From version 5, a client that names another cluster or another node than this is told REBOOTSTRAP_REQUIRED
//!   (KIP-1242).

use crate::broker::BrokerShared;
use crate::dispatch;
use crate::handlers::{Context, Reply, ReplyTo};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::api_versions_response::{ApiVersion, FinalizedFeatureKey, SupportedFeatureKey};
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: ApiVersionsRequest<'_>) -> Reply {
    let broker = &*context.broker;
    let names_are_sound =
        header.api_version < 3 || (is_sound(request.client_software_name) && is_sound(request.client_software_version));
    let error = if !names_are_sound {
        ErrorCode::InvalidRequest
    } else if is_stranger(broker, &request) {
        ErrorCode::RebootstrapRequired
    } else {
        ErrorCode::None
    };
    if error != ErrorCode::None {
        return context.reply(
            header,
            &ApiVersionsResponse {
                error_code: error.code(),
                ..Default::default()
            },
        );
    }
    let features = broker.finalized_features();
    let supported = features.iter().map(|feature| SupportedFeatureKey {
        name: &feature.name,
        min_version: feature.min_level,
        max_version: feature.max_level,
    });
    let finalized = features.iter().map(|feature| FinalizedFeatureKey {
        name: &feature.name,
        max_version_level: feature.level,
        min_version_level: feature.level,
    });
    context.reply(
        header,
        &ApiVersionsResponse {
            api_keys: api_keys(),
            supported_features: supported.collect(),
            finalized_features: finalized.collect(),
            finalized_features_epoch: broker.image().offset(),
            ..Default::default()
        },
    )
}

/// The answer to a version that is not served.
pub fn unsupported_version(to: ReplyTo) -> Reply {
    let error_code = ErrorCode::UnsupportedVersion.code();
    ReplyTo { version: 0, ..to }.with(&ApiVersionsResponse {
        error_code,
        api_keys: api_keys(),
        ..Default::default()
    })
}

/// The answer to a request in the middle of an authentication.
pub fn illegal_sasl_state() -> ApiVersionsResponse<'static> {
    ApiVersionsResponse {
        error_code: ErrorCode::IllegalSaslState.code(),
        ..Default::default()
    }
}

fn api_keys() -> Vec<ApiVersion> {
    let row = |api: &dispatch::ServedApi| ApiVersion {
        api_key: api.key.code(),
        min_version: api.advertised_min_version,
        max_version: api.max_version,
    };
    dispatch::served_apis().iter().map(row).collect()
}

/// Letters, digits, dots and hyphens, beginning and ending with a letter or digit.
fn is_sound(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let ends = [name.bytes().next(), name.bytes().next_back()];
    name.bytes().all(inner)
        && ends
            .iter()
            .all(|end| end.is_some_and(|byte| byte.is_ascii_alphanumeric()))
}

fn is_stranger(broker: &BrokerShared, request: &ApiVersionsRequest<'_>) -> bool {
    request
        .cluster_id
        .is_some_and(|cluster_id| cluster_id != broker.cluster_id)
        || (request.node_id >= 0 && request.node_id != broker.node_id)
}
