//! DescribeCluster (key 60), versions 0 to 2.
//!
//! - The cluster's id, its controller, and the brokers with the address of the listener the client came in by. Fenced
//!   brokers are listed, and marked, only if version 2 asks for them.
//! - Controllers are asked for on the controllers' listener (endpoint type 2): here that is MISMATCHED_ENDPOINT_TYPE, and
//!   any other type UNSUPPORTED_ENDPOINT_TYPE.
//!
//! Not supported: authorized operations (the answer is -2147483648, "not known").

use super::{Context, Reply};
use ottla_broker_state::controller::{BrokerImage, ClusterImage};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::describe_cluster_response::DescribeClusterBroker;
use ottla_protocol::messages::{DescribeClusterRequest, DescribeClusterResponse};
use std::sync::Arc;

const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: DescribeClusterRequest) -> Reply {
    let image = context.broker.image();
    context.reply(
        header,
        &respond(&image, &context.listener, context.broker.node_id, &request),
    )
}

fn respond<'a>(
    image: &'a ClusterImage,
    listener: &str,
    controller_id: i32,
    request: &DescribeClusterRequest,
) -> DescribeClusterResponse<'a> {
    let refuse = |code: ErrorCode, message| DescribeClusterResponse {
        error_code: code.code(),
        error_message: Some(message),
        ..DescribeClusterResponse::default()
    };
    match request.endpoint_type {
        BROKERS => {}
        CONTROLLERS => return refuse(ErrorCode::MismatchedEndpointType, "this listener is one of brokers"),
        _ => {
            return refuse(
                ErrorCode::UnsupportedEndpointType,
                "the endpoint type must be 1 (brokers)",
            );
        }
    }
    let broker = |broker: &'a Arc<BrokerImage>| {
        let listener = broker
            .listener(listener)
            .filter(|_| !broker.fenced || request.include_fenced_brokers)?;
        Some(DescribeClusterBroker {
            broker_id: broker.id,
            host: &listener.host,
            port: i32::from(listener.port),
            rack: broker.rack.as_deref(),
            is_fenced: broker.fenced,
        })
    };
    DescribeClusterResponse {
        endpoint_type: BROKERS,
        cluster_id: image.cluster_id(),
        controller_id,
        brokers: image.brokers().filter_map(broker).collect(),
        ..DescribeClusterResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::fixtures::controller;

    #[tokio::test]
    async fn the_brokers_are_listed_with_the_address_of_the_clients_listener() {
        let broker = controller(&[("broker.rack", "r1")]).await;
        let image = broker.controller.image();
        let response = respond(&image, "PLAINTEXT", 1, &DescribeClusterRequest::default());
        assert_eq!(
            (response.error_code, response.controller_id, response.cluster_id),
            (0, 1, image.cluster_id())
        );
        assert_eq!(response.cluster_authorized_operations, i32::MIN);
        let listed = &response.brokers[0];
        assert_eq!(
            (listed.broker_id, listed.host, listed.port, listed.rack),
            (1, "localhost", 4711, Some("r1"))
        );
        assert!(
            respond(&image, "OTHER", 1, &DescribeClusterRequest::default())
                .brokers
                .is_empty()
        );
    }

    #[tokio::test]
    async fn controllers_are_not_described_here() {
        let broker = controller(&[]).await;
        let image = broker.controller.image();
        for (endpoint_type, expected) in [
            (2, ErrorCode::MismatchedEndpointType),
            (3, ErrorCode::UnsupportedEndpointType),
        ] {
            let request = DescribeClusterRequest {
                endpoint_type,
                ..DescribeClusterRequest::default()
            };
            assert_eq!(respond(&image, "PLAINTEXT", 1, &request).error_code, expected.code());
        }
    }
}
