//! CreatePartitions (key 37), versions 0 to 3.
//!
//! - Each topic is decided by itself and answered by itself. New partitions get as many replicas as the others have, on
//!   brokers of our choice or on those given.
//! - Errors of a topic: INVALID_REQUEST (it occurs twice in the request), UNKNOWN_TOPIC_OR_PARTITION, INVALID_PARTITIONS
//!   (not more than there are), INVALID_REPLICA_ASSIGNMENT, POLICY_VIOLATION (more than 10,000 in one request).
//! - INVALID_PARTITIONS for `__consumer_offsets` as well: a group is found by the number of its partitions, and with another
//!   one every group would lose its offsets. Kafka leaves that to its tools.
//! - `validate_only` decides and writes nothing. After `timeout_ms` (if above 0) the answer is REQUEST_TIMED_OUT.

use super::{Context, Reply};
use crate::coordinator::OFFSETS_TOPIC;
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
    let (wishes, refused) = wishes(&request);
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
    context.reply(header, &respond(&wishes, &results, &refused))
}

/// A topic about which nobody else is asked.
struct Refused<'a> {
    topic: &'a str,
    code: ErrorCode,
    why: &'static str,
}

/// The wishes that are to be decided, and those that are not.
fn wishes<'a>(request: &CreatePartitionsRequest<'a>) -> (Vec<MorePartitions<'a>>, Vec<Refused<'a>>) {
    let mut by_name: BTreeMap<&'a str, Vec<&CreatePartitionsTopic<'a>>> = BTreeMap::new();
    for topic in &request.topics {
        by_name.entry(topic.name).or_default().push(topic);
    }
    let mut wishes = Vec::with_capacity(by_name.len());
    let mut refused = Vec::new();
    for (name, topics) in by_name {
        let mut refuse = |code, why| refused.push(Refused { topic: name, code, why });
        let [topic] = topics.as_slice() else {
            refuse(ErrorCode::InvalidRequest, "the topic occurs twice in the request");
            continue;
        };
        if name == OFFSETS_TOPIC {
            refuse(
                ErrorCode::InvalidPartitions,
                "the number of partitions of __consumer_offsets cannot be changed: groups are found by it",
            );
            continue;
        }
        let assignments = topic.assignments.as_ref();
        wishes.push(MorePartitions {
            topic: name,
            count: topic.count,
            assignments: assignments.map(|list| list.iter().map(|entry| entry.broker_ids.clone()).collect()),
        });
    }
    (wishes, refused)
}

fn respond<'a>(
    wishes: &[MorePartitions<'a>],
    results: &'a [Result<(), ApiError>],
    refused: &[Refused<'a>],
) -> CreatePartitionsResponse<'a> {
    let decided = wishes
        .iter()
        .zip(results)
        .map(|(wish, result)| CreatePartitionsTopicResult {
            name: wish.topic,
            error_code: result.as_ref().err().map_or(ErrorCode::None, |error| error.code).code(),
            error_message: result.as_ref().err().map(|error| &*error.message),
        });
    let refused = refused.iter().map(|refused| CreatePartitionsTopicResult {
        name: refused.topic,
        error_code: refused.code.code(),
        error_message: Some(refused.why),
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
                topic(OFFSETS_TOPIC, 60, None),
            ],
            ..CreatePartitionsRequest::default()
        };
        let (wishes, refused) = wishes(&request);
        let results = broker.controller.create_partitions(&wishes, false, 1000).await;
        let response = respond(&wishes, &results, &refused);
        let codes: BTreeMap<_, _> = response
            .results
            .iter()
            .map(|result| (result.name, ErrorCode::from_code(result.error_code).unwrap()))
            .collect();
        assert_eq!(
            codes,
            BTreeMap::from([
                (OFFSETS_TOPIC, ErrorCode::InvalidPartitions),
                ("a", ErrorCode::None),
                ("b", ErrorCode::InvalidPartitions),
                ("c", ErrorCode::InvalidRequest),
                ("x", ErrorCode::UnknownTopicOrPartition),
            ])
        );
        assert_eq!(broker.controller.image().topic("a").unwrap().partitions.len(), 2);
    }
}
