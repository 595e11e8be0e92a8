//! CreatePartitions (key 37), versions 0 to 3.
//!
//! - Each topic is decided by itself and answered by itself. New partitions get as many replicas as the others have, on
//!   brokers of our choice or on those given.
//! - Errors of a topic: INVALID_REQUEST (it occurs twice in the request), UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS
//!   (not more than there are), INVALID_REPLICA_ASSIGNMENT, POLICY_VIOLATION (more than 10,000 in one request).
//! - `validate_only` decides and writes nothing. After `timeout_ms` (if above 0) the answer is REQUEST_TIMED_OUT.

use super::{Context, Reply};
use ottla_broker_state::controller::ApiError;
use ottla_broker_state::controller::partitions::MorePartitions;
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::create_partitions_response::CreatePartitionsTopicResult;
use ottla_protocol::messages::{CreatePartitionsRequest, CreatePartitionsResponse};
use std::collections::BTreeMap;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: CreatePartitionsRequest<'_>) -> Reply {
    let (wishes, doubles) = wishes(&request);
    let controller = &context.broker.controller;
    let results = controller
        .create_partitions(&wishes, request.validate_only, request.timeout_ms)
        .await;
    for (wish, result) in wishes.iter().zip(&results) {
        tracing::info!(
            topic = wish.topic,
            count = wish.count,
            created = result.is_ok(),
            "create partitions"
        );
    }
    context.reply(header, &respond(&wishes, &results, &doubles))
}

/// The wishes for topics that occur once, and the names of those that occur more often.
fn wishes<'a>(request: &CreatePartitionsRequest<'a>) -> (Vec<MorePartitions<'a>>, Vec<&'a str>) {
    let mut by_name: BTreeMap<&'a str, Vec<&CreatePartitionsTopic<'a>>> = BTreeMap::new();
    for topic in &request.topics {
        by_name.entry(topic.name).or_default().push(topic);
    }
    let mut wishes = Vec::with_capacity(by_name.len());
    let mut doubles = Vec::new();
    for (name, topics) in by_name {
        let [topic] = topics.as_slice() else {
            doubles.push(name);
            continue;
        };
        let assignments = topic.assignments.as_ref();
        wishes.push(MorePartitions {
            topic: name,
            count: topic.count,
            assignments: assignments.map(|list| list.iter().map(|entry| entry.broker_ids.clone()).collect()),
        });
    }
    (wishes, doubles)
}

fn respond<'a>(
    wishes: &[MorePartitions<'a>],
    results: &'a [Result<(), ApiError>],
    doubles: &[&'a str],
) -> CreatePartitionsResponse<'a> {
    let decided = wishes
        .iter()
        .zip(results)
        .map(|(wish, result)| CreatePartitionsTopicResult {
            name: wish.topic,
            error_code: result.as_ref().err().map_or(ErrorCode::None, |error| error.code).code(),
            error_message: result.as_ref().err().map(|error| &*error.message),
        });
    let refused = doubles.iter().map(|name| CreatePartitionsTopicResult {
        name,
        error_code: ErrorCode::InvalidRequest.code(),
        error_message: Some("the topic occurs twice in the request"),
    });
    CreatePartitionsResponse {
        results: decided.chain(refused).collect(),
        ..CreatePartitionsResponse::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::fixtures::{controller, create};
    use ottla_protocol::messages::create_partitions_request::CreatePartitionsAssignment;

    #[tokio::test]
    async fn each_topic_is_answered_by_itself() {
        let broker = controller(&[]).await;
        create(&broker, "a").await;
        create(&broker, "b").await;
        let topic = |name, count, assignments| CreatePartitionsTopic {
            name,
            count,
            assignments,
        };
        let assigned = Some(vec![CreatePartitionsAssignment { broker_ids: vec![1] }]);
        let request = CreatePartitionsRequest {
            topics: vec![
                topic("x", 2, None),
                topic("a", 2, assigned),
                topic("b", 1, None),
                topic("c", 2, None),
                topic("c", 3, None),
            ],
            ..CreatePartitionsRequest::default()
        };
        let (wishes, doubles) = wishes(&request);
        let results = broker.controller.create_partitions(&wishes, false, 1000).await;
        let response = respond(&wishes, &results, &doubles);
        let codes: BTreeMap<_, _> = response
            .results
            .iter()
            .map(|result| (result.name, ErrorCode::from_code(result.error_code).unwrap()))
            .collect();
        assert_eq!(
            codes,
            BTreeMap::from([
                ("a", ErrorCode::None),
                ("b", ErrorCode::InvalidPartitions),
                ("c", ErrorCode::InvalidRequest),
                ("x", ErrorCode::UnknownTopicOrPartition),
            ])
        );
        assert_eq!(broker.controller.image().topic("a").unwrap().partitions.len(), 2);
    }
}
