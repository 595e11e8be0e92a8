//! CreateTopics (key 19), versions 2 to 7.
//!
//! - Each topic is decided by itself: one that is refused does not stop the others. All that are accepted become one
//!   record batch of the metadata log; the answer comes when it is on the disk and the partitions are at work.
//! - Checked in this order: the name occurs once in the request (INVALID_REQUEST), the topic does not exist
//!   (TOPIC_ALREADY_EXISTS), the name (INVALID_TOPIC_EXCEPTION, also for names that differ only in `.` and `_`), the
//!   configuration (INVALID_CONFIG), the assignment (INVALID_REQUEST, INVALID_REPLICA_ASSIGNMENT) or the numbers
//!   (INVALID_REPLICATION_FACTOR, INVALID_PARTITIONS). -1 asks for the broker's default.
//! - More than 10,000 partitions in one request are POLICY_VIOLATION, as in Apache Kafka.
//! - `validate_only` decides and writes nothing. After `timeout_ms` (if above 0) the answer is REQUEST_TIMED_OUT, and the
//!   topics may still come into being.
//! - Versions 5 and up answer the configuration in force, version 7 the topic id.

use super::{Context, Reply};
use crate::config::BrokerConfig;
use crate::config::topic::{self, Entry};
use ottla_broker_state::controller::ApiError;
use ottla_broker_state::controller::topics::{CreatedTopic, NewTopic};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::create_topics_response::{CreatableTopicConfigs, CreatableTopicResult};
use ottla_protocol::messages::{CreateTopicsRequest, CreateTopicsResponse};
use std::collections::{BTreeMap, HashSet};

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: CreateTopicsRequest<'_>) -> Reply {
    let broker = &*context.broker;
    let wishes: Vec<NewTopic<'_>> = request.topics.iter().map(wish).collect();
    let results = broker
        .controller
        .create_topics(&wishes, request.validate_only, request.timeout_ms)
        .await;
    for (wish, result) in wishes.iter().zip(&results).filter(|_| !request.validate_only) {
        match result {
            Ok(created) => {
                tracing::info!(topic = wish.name, id = %created.id, partitions = created.partitions, "created")
            }
            Err(error) => tracing::info!(topic = wish.name, %error, "not created"),
        }
    }
    let configs: Vec<Vec<Entry>> = wishes
        .iter()
        .zip(&results)
        .map(|(wish, result)| configs_of(&broker.config, wish, result))
        .collect();
    context.reply(header, &respond(&wishes, &results, &configs))
}

fn wish<'a>(topic: &CreatableTopic<'a>) -> NewTopic<'a> {
    NewTopic {
        name: topic.name,
        partitions: topic.num_partitions,
        replication_factor: topic.replication_factor,
        assignments: topic
            .assignments
            .iter()
            .map(|entry| (entry.partition_index, entry.broker_ids.clone()))
            .collect(),
        configs: topic.configs.iter().map(|config| (config.name, config.value)).collect(),
    }
}

fn configs_of(config: &BrokerConfig, wish: &NewTopic<'_>, result: &Result<CreatedTopic, ApiError>) -> Vec<Entry> {
    if result.is_err() {
        return Vec::new();
    }
    let given = wish
        .configs
        .iter()
        .filter_map(|(name, value)| Some(((*name).to_owned(), (*value)?.to_owned())));
    topic::describe(config, &given.collect::<BTreeMap<_, _>>())
}

fn respond<'a>(
    wishes: &[NewTopic<'a>],
    results: &'a [Result<CreatedTopic, ApiError>],
    configs: &'a [Vec<Entry>],
) -> CreateTopicsResponse<'a> {
    let mut seen = HashSet::new();
    let decided = wishes.iter().zip(results).zip(configs);
    // A name that occurs twice is answered once.
    let topics =
        decided
            .filter(|((wish, _), _)| seen.insert(wish.name))
            .map(|((wish, result), configs)| match result {
                Ok(created) => CreatableTopicResult {
                    name: wish.name,
                    topic_id: created.id,
                    error_message: None,
                    num_partitions: created.partitions,
                    replication_factor: created.replication_factor,
                    configs: Some(configs.iter().map(config).collect()),
                    ..CreatableTopicResult::default()
                },
                Err(error) => CreatableTopicResult {
                    name: wish.name,
                    error_code: error.code.code(),
                    error_message: Some(&error.message),
                    ..CreatableTopicResult::default()
                },
            });
    CreateTopicsResponse {
        topics: topics.collect(),
        ..CreateTopicsResponse::default()
    }
}

fn config(entry: &Entry) -> CreatableTopicConfigs<'_> {
    CreatableTopicConfigs {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: entry.read_only,
        config_source: entry.source as i8,
        is_sensitive: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::fixtures::controller;
    use ottla_protocol::ErrorCode;
    use ottla_protocol::messages::create_topics_request::CreatableTopicConfig;

    #[tokio::test]
    async fn the_answer_has_id_numbers_and_configuration_of_what_was_created() {
        let broker = controller(&[("num.partitions", "3")]).await;
        let config = CreatableTopicConfig {
            name: "retention.ms",
            value: Some("5"),
        };
        let topic = CreatableTopic {
            name: "t",
            num_partitions: -1,
            replication_factor: -1,
            configs: vec![config],
            ..CreatableTopic::default()
        };
        let twice = CreatableTopic {
            name: "u",
            num_partitions: 1,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let wishes: Vec<_> = [&topic, &twice, &twice].into_iter().map(wish).collect();
        let results = broker.controller.create_topics(&wishes, false, 1000).await;
        let configs: Vec<_> = wishes
            .iter()
            .zip(&results)
            .map(|(wish, result)| configs_of(&broker.config, wish, result))
            .collect();
        let response = respond(&wishes, &results, &configs);
        assert_eq!(response.topics.len(), 2);
        let created = &response.topics[0];
        assert_eq!(
            (created.error_code, created.num_partitions, created.replication_factor),
            (0, 3, 1)
        );
        assert_eq!(
            Some(created.topic_id),
            broker.controller.image().topic("t").map(|topic| topic.id)
        );
        let configs = created.configs.as_ref().unwrap();
        let find = |name| configs.iter().find(|config| config.name == name).unwrap();
        assert_eq!(
            (find("retention.ms").value, find("retention.ms").config_source),
            (Some("5"), 1)
        );
        assert_eq!(
            (find("cleanup.policy").value, find("cleanup.policy").config_source),
            (Some("delete"), 5)
        );
        let refused = &response.topics[1];
        assert_eq!(refused.error_code, ErrorCode::InvalidRequest.code());
        assert!(refused.error_message.unwrap().contains("twice"));
    }
}
