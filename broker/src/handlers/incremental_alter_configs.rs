//! IncrementalAlterConfigs (key 44), versions 0 and 1.
//!
//! - Topics (type 2): set, delete, append and subtract, all of a topic or nothing of it. Each topic is answered by itself;
//!   all changes become one record batch, and the logs obey them when the answer comes.
//! - Errors of a topic: UNKNOWN_TOPIC_OR_PARTITION, INVALID_CONFIG (unknown, out of range, or without effect here),
//!   INVALID_REQUEST (the topic or a configuration occurs twice, a value is missing, the operation is unknown).
//! - `validate_only` decides and writes nothing.
//!
//! Not supported: brokers (type 4) read their configuration at the start, and other types have none: INVALID_REQUEST.

use super::describe_configs::{BROKER, TOPIC};
use super::{Context, Reply};
use ottla_broker_state::controller::ApiError;
use ottla_broker_state::controller::configs::{Alteration, Operation, TopicAlterations};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla_protocol::messages::incremental_alter_configs_response::AlterConfigsResourceResponse;
use ottla_protocol::messages::{IncrementalAlterConfigsRequest, IncrementalAlterConfigsResponse};
use std::collections::HashMap;

/// Carries out one request.
pub async fn handle(
    context: &Context,
    header: &RequestHeader<'_>,
    request: IncrementalAlterConfigsRequest<'_>,
) -> Reply {
    let mut results = prepare(&request);
    let wishes: Vec<TopicAlterations<'_>> = results.iter_mut().filter_map(|result| result.wish.take()).collect();
    let altered = context
        .broker
        .controller
        .alter_topic_configs(&wishes, request.validate_only)
        .await;
    for (wish, result) in wishes.iter().zip(&altered) {
        tracing::info!(topic = wish.topic, altered = result.is_ok(), "alter configuration");
    }
    let mut altered = altered.into_iter();
    for result in results.iter_mut().filter(|result| result.error.is_none()) {
        result.error = altered.next().and_then(Result::err);
    }
    context.reply(header, &respond(&results))
}

/// One resource of a request: either a wish to be carried out, or the reason for refusing it.
struct Prepared<'a> {
    kind: i8,
    name: &'a str,
    wish: Option<TopicAlterations<'a>>,
    error: Option<ApiError>,
}

fn prepare<'a>(request: &IncrementalAlterConfigsRequest<'a>) -> Vec<Prepared<'a>> {
    let mut counts: HashMap<(i8, &str), usize> = HashMap::new();
    for resource in &request.resources {
        *counts
            .entry((resource.resource_type, resource.resource_name))
            .or_default() += 1;
    }
    let prepare = |resource: &AlterConfigsResource<'a>| {
        let (kind, name) = (resource.resource_type, resource.resource_name);
        let wish = match counts.get(&(kind, name)) {
            Some(1) => alterations(resource),
            _ => Err(format!("\"{name}\" occurs twice in the request")),
        };
        let error = wish
            .as_ref()
            .err()
            .map(|problem| ApiError::new(ErrorCode::InvalidRequest, problem.clone()));
        Prepared {
            kind,
            name,
            wish: wish.ok(),
            error,
        }
    };
    request.resources.iter().map(prepare).collect()
}

fn alterations<'a>(resource: &AlterConfigsResource<'a>) -> Result<TopicAlterations<'a>, String> {
    match resource.resource_type {
        TOPIC => {}
        BROKER => return Err("a broker reads its configuration at the start: change server.properties".to_owned()),
        other => return Err(format!("configurations of type {other} are not available")),
    }
    let alteration = |config: &AlterableConfig<'a>| {
        let operation = Operation::from_code(config.config_operation)
            .ok_or_else(|| format!("{} has the unknown operation {}", config.name, config.config_operation))?;
        Ok(Alteration {
            name: config.name,
            operation,
            value: config.value,
        })
    };
    let alterations = resource.configs.iter().map(alteration).collect::<Result<_, String>>()?;
    Ok(TopicAlterations {
        topic: resource.resource_name,
        alterations,
    })
}

fn respond<'a>(results: &'a [Prepared<'a>]) -> IncrementalAlterConfigsResponse<'a> {
    let response = |result: &'a Prepared<'a>| AlterConfigsResourceResponse {
        error_code: result.error.as_ref().map_or(ErrorCode::None, |error| error.code).code(),
        error_message: result.error.as_ref().map(|error| &*error.message),
        resource_type: result.kind,
        resource_name: result.name,
    };
    let responses = results.iter().map(response).collect();
    IncrementalAlterConfigsResponse {
        responses,
        ..IncrementalAlterConfigsResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource<'a>(kind: i8, name: &'a str, operation: i8) -> AlterConfigsResource<'a> {
        let config = AlterableConfig {
            name: "retention.ms",
            config_operation: operation,
            value: Some("1"),
        };
        AlterConfigsResource {
            resource_type: kind,
            resource_name: name,
            configs: vec![config],
        }
    }

    #[test]
    fn what_is_no_topic_or_occurs_twice_is_refused_and_the_rest_is_carried_out() {
        let request = IncrementalAlterConfigsRequest {
            resources: vec![
                resource(TOPIC, "a", 0),
                resource(TOPIC, "b", 0),
                resource(TOPIC, "b", 0),
                resource(BROKER, "1", 0),
                resource(8, "1", 0),
                resource(TOPIC, "c", 9),
            ],
            validate_only: false,
        };
        let prepared = prepare(&request);
        let carried_out: Vec<_> = prepared.iter().map(|result| result.wish.is_some()).collect();
        assert_eq!(carried_out, [true, false, false, false, false, false]);
        let response = respond(&prepared);
        assert!(
            response.responses[1..]
                .iter()
                .all(|result| result.error_code == ErrorCode::InvalidRequest.code())
        );
        assert!(
            response.responses[3]
                .error_message
                .unwrap()
                .contains("server.properties")
        );
        assert_eq!(
            (response.responses[0].error_code, response.responses[0].error_message),
            (0, None)
        );
    }
}
