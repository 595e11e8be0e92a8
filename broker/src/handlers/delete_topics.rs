//! DeleteTopics (key 20), versions 1 to 6.
//!
//! - Topics are named, or from version 6 on given by id. Each is decided by itself; all that go become one record batch.
//!   When the answer comes they are gone from the metadata; their files follow after `file.delete.delay.ms`.
//! - Errors of a topic: UNKNOWN_TOPIC_OR_PARTITION (by name), UNKNOWN_TOPIC_ID (by id), INVALID_REQUEST (both or neither
//!   of name and id, or the same topic twice).
//! - With `delete.topic.enable=false` every topic is answered with TOPIC_DELETION_DISABLED (INVALID_REQUEST before
//!   version 3, which does not know that code).

use super::{Context, Reply};
use ottla_broker_state::controller::{ApiError, ClusterImage};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::delete_topics_response::DeletableTopicResult;
use ottla_protocol::messages::{DeleteTopicsRequest, DeleteTopicsResponse};
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::HashMap;

/// TOPIC_DELETION_DISABLED is understood from this version on.
const FIRST_VERSION_WITH_DISABLED: i16 = 3;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: DeleteTopicsRequest<'_>) -> Reply {
    let broker = &*context.broker;
    let image = broker.image();
    let mut wanted = if broker.config.delete_topic_enable {
        resolve(&image, &request)
    } else {
        refuse_all(&request, header.api_version)
    };
    let ids: Vec<Uuid> = wanted
        .iter()
        .filter(|topic| topic.result.is_ok())
        .map(|topic| topic.id)
        .collect();
    let results = broker.controller.delete_topics(&ids, request.timeout_ms).await;
    let resolved = wanted.iter_mut().filter(|topic| topic.result.is_ok());
    for (topic, result) in resolved.zip(results) {
        tracing::info!(topic = topic.name.as_deref(), id = %topic.id, deleted = result.is_ok(), "delete");
        topic.result = result;
    }
    context.reply(header, &respond(&wanted))
}

/// One topic that shall go.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    name: Option<String>,
    id: Uuid,
    result: Result<(), ApiError>,
}

/// What the request names, as pairs of name and id.
fn asked<'a>(request: &DeleteTopicsRequest<'a>) -> Vec<(Option<&'a str>, Uuid)> {
    let by_name = request.topic_names.iter().map(|name| (Some(*name), Uuid::ZERO));
    by_name
        .chain(request.topics.iter().map(|topic| (topic.name, topic.topic_id)))
        .collect()
}

fn refuse_all(request: &DeleteTopicsRequest<'_>, version: i16) -> Vec<Wanted> {
    let code = if version < FIRST_VERSION_WITH_DISABLED {
        ErrorCode::InvalidRequest
    } else {
        ErrorCode::TopicDeletionDisabled
    };
    let error = ApiError::new(code, "delete.topic.enable is false");
    let refuse = |(name, id): (Option<&str>, Uuid)| Wanted {
        name: name.map(str::to_owned),
        id,
        result: Err(error.clone()),
    };
    asked(request).into_iter().map(refuse).collect()
}

fn resolve(image: &ClusterImage, request: &DeleteTopicsRequest<'_>) -> Vec<Wanted> {
    let mut wanted: Vec<Wanted> = asked(request)
        .into_iter()
        .map(|(name, id)| resolve_one(image, name, id))
        .collect();
    let mut counts: HashMap<Uuid, usize> = HashMap::new();
    for topic in wanted.iter().filter(|topic| topic.result.is_ok()) {
        *counts.entry(topic.id).or_default() += 1;
    }
    for topic in wanted
        .iter_mut()
        .filter(|topic| counts.get(&topic.id).is_some_and(|count| *count > 1))
    {
        let message = format!(
            "topic {} occurs twice in the request",
            topic.name.as_deref().unwrap_or_default()
        );
        topic.result = Err(ApiError::new(ErrorCode::InvalidRequest, message));
    }
    wanted
}

fn resolve_one(image: &ClusterImage, name: Option<&str>, id: Uuid) -> Wanted {
    let refuse = |code, message: String| Wanted {
        name: name.map(str::to_owned),
        id,
        result: Err(ApiError::new(code, message)),
    };
    let found = match (name, id.is_zero()) {
        (Some(_), false) => {
            return refuse(
                ErrorCode::InvalidRequest,
                "a topic is given by name or by id, not by both".to_owned(),
            );
        }
        (None, true) => return refuse(ErrorCode::InvalidRequest, "a topic has neither name nor id".to_owned()),
        (Some(name), true) => image.topic(name),
        (None, false) => image.topic_by_id(id),
    };
    match (found, name) {
        (Some(topic), _) => Wanted {
            name: Some(topic.name.to_string()),
            id: topic.id,
            result: Ok(()),
        },
        (None, Some(name)) => refuse(
            ErrorCode::UnknownTopicOrPartition,
            format!("there is no topic \"{name}\""),
        ),
        (None, None) => refuse(ErrorCode::UnknownTopicId, format!("there is no topic with the id {id}")),
    }
}

fn respond(wanted: &[Wanted]) -> DeleteTopicsResponse<'_> {
    DeleteTopicsResponse {
        responses: wanted.iter().map(answer).collect(),
        ..DeleteTopicsResponse::default()
    }
}

fn answer(topic: &Wanted) -> DeletableTopicResult<'_> {
    let error = topic.result.as_ref().err();
    DeletableTopicResult {
        name: topic.name.as_deref(),
        topic_id: topic.id,
        error_code: error.map_or(ErrorCode::None, |error| error.code).code(),
        error_message: error.map(|error| &*error.message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::fixtures::{controller, create};
    use ottla_protocol::messages::delete_topics_request::DeleteTopicState;

    fn codes(wanted: &[Wanted]) -> Vec<ErrorCode> {
        wanted
            .iter()
            .map(|topic| topic.result.as_ref().err().map_or(ErrorCode::None, |error| error.code))
            .collect()
    }

    #[tokio::test]
    async fn names_and_ids_are_resolved_and_doubles_are_refused() {
        let broker = controller(&[]).await;
        let (a, b) = (create(&broker, "a").await, create(&broker, "b").await);
        let image = broker.controller.image();
        let by_name = DeleteTopicsRequest {
            topic_names: vec!["a", "x", "b", "b"],
            ..DeleteTopicsRequest::default()
        };
        let wanted = resolve(&image, &by_name);
        let expected = [
            ErrorCode::None,
            ErrorCode::UnknownTopicOrPartition,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
        ];
        assert_eq!(codes(&wanted), expected);
        assert_eq!(wanted[0].id, a);

        let state = |name, topic_id| DeleteTopicState { name, topic_id };
        let topics = vec![
            state(None, b),
            state(Some("a"), a),
            state(None, Uuid::ZERO),
            state(None, Uuid([9; 16])),
            state(Some("a"), Uuid::ZERO),
        ];
        let by_id = DeleteTopicsRequest {
            topics,
            ..DeleteTopicsRequest::default()
        };
        let wanted = resolve(&image, &by_id);
        let expected = [
            ErrorCode::None,
            ErrorCode::InvalidRequest,
            ErrorCode::InvalidRequest,
            ErrorCode::UnknownTopicId,
            ErrorCode::None,
        ];
        assert_eq!(codes(&wanted), expected);
        let response = respond(&wanted);
        assert_eq!(response.responses[0].name, Some("b"));
        assert_eq!(
            (response.responses[3].name, response.responses[3].topic_id),
            (None, Uuid([9; 16]))
        );
    }

    #[test]
    fn deletion_can_be_switched_off() {
        let request = DeleteTopicsRequest {
            topic_names: vec!["a"],
            ..DeleteTopicsRequest::default()
        };
        assert_eq!(codes(&refuse_all(&request, 2)), [ErrorCode::InvalidRequest]);
        assert_eq!(codes(&refuse_all(&request, 3)), [ErrorCode::TopicDeletionDisabled]);
    }
}
