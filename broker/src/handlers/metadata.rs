//! Metadata (key 3), versions 0 to 13.
//!
//! - Brokers: those that are not fenced, with the address of the listener the client came in by.
//! - Topics: all of them (no list; in version 0 an empty list), none (an empty list), or those named, each once, in the
//!   order asked for. From version 12 on a topic may be asked for by id.
//! - An unknown topic is created if `auto.create.topics.enable` is set and the client allows it (always before
//!   version 4). The answer then shows the topic, with its leaders: nobody has to ask again.
//! - Errors of a topic: UNKNOWN_TOPIC_OR_PARTITION, UNKNOWN_TOPIC_ID, INVALID_TOPIC_EXCEPTION, INVALID_REQUEST (an id in
//!   version 10 or 11, or neither name nor id), and what its creation answers. Of a partition: LEADER_NOT_AVAILABLE, and
//!   LISTENER_NOT_FOUND if its leader does not have the client's listener.
//!
//! Not supported: authorized operations (the answer is -2147483648, "not known"); internal topics are not created.

use super::{Context, Reply};
use crate::config::BrokerConfig;
use crate::controller::Controller;
use ottla_broker_state::controller::topics::NewTopic;
use ottla_broker_state::controller::{ApiError, BrokerImage, ClusterImage, PartitionImage, TopicImage, names};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::{MetadataRequest, MetadataResponse};
use std::collections::{BTreeMap, HashSet};

/// Topic ids are understood from this version on; versions 10 and 11 carry the field, but nobody serves it.
const FIRST_VERSION_WITH_IDS: i16 = 12;
/// LISTENER_NOT_FOUND is understood from this version on.
const FIRST_VERSION_WITH_LISTENER_NOT_FOUND: i16 = 6;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: MetadataRequest<'_>) -> Reply {
    let broker = &*context.broker;
    let refused = create_missing(&broker.controller, &broker.config, &request).await;
    let image = broker.image();
    let asker = Asker {
        version: header.api_version,
        listener: &context.listener,
    };
    context.reply(header, &respond(&image, &asker, broker.node_id, &request, &refused))
}

/// Who asks: decides which addresses and which errors are answered.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asker<'a> {
    /// The version of the request.
    pub version: i16,
    /// The listener the client came in by.
    pub listener: &'a str,
}

/// Creates the topics that are missing, if that is allowed. Gives the reasons for those that it could not create.
async fn create_missing<'a>(
    controller: &Controller,
    config: &BrokerConfig,
    request: &MetadataRequest<'a>,
) -> BTreeMap<&'a str, ErrorCode> {
    if !config.auto_create_topics_enable || !request.allow_auto_topic_creation {
        return BTreeMap::new();
    }
    let image = controller.image();
    let mut seen = HashSet::new();
    let wishes: Vec<NewTopic<'a>> = named(request)
        .filter(|name| image.topic(name).is_none() && names::check(name).is_ok() && !names::is_internal(name))
        .filter(|name| seen.insert(*name))
        .map(|name| NewTopic {
            name,
            partitions: -1,
            replication_factor: -1,
            ..NewTopic::default()
        })
        .collect();
    if wishes.is_empty() {
        return BTreeMap::new();
    }
    let results = controller.create_topics(&wishes, false, 0).await;
    let refused = |(wish, result): (&NewTopic<'a>, Result<_, ApiError>)| match result {
        Ok(_) => {
            tracing::info!(topic = wish.name, "created, since a client asked for it");
            None
        }
        // Somebody else was faster.
        Err(error) if error.code == ErrorCode::TopicAlreadyExists => None,
        Err(error) => {
            tracing::info!(topic = wish.name, %error, "not created");
            Some((wish.name, error.code))
        }
    };
    wishes.iter().zip(results).filter_map(refused).collect()
}

/// The topics that a request names, as far as names decide.
fn named<'a>(request: &MetadataRequest<'a>) -> impl Iterator<Item = &'a str> {
    let topics = request.topics.iter().flatten();
    topics
        .filter(|topic| topic.topic_id.is_zero())
        .filter_map(|topic| topic.name)
}

fn respond<'a>(
    image: &'a ClusterImage,
    asker: &Asker<'_>,
    controller_id: i32,
    request: &MetadataRequest<'a>,
    refused: &BTreeMap<&str, ErrorCode>,
) -> MetadataResponse<'a> {
    let asked = request
        .topics
        .as_deref()
        .filter(|topics| asker.version > 0 || !topics.is_empty());
    let topics = match asked {
        None => image.topics().map(|topic| describe(image, asker, topic)).collect(),
        Some(asked) => {
            let mut seen = HashSet::new();
            let first_time = |topic: &&MetadataRequestTopic<'a>| seen.insert((topic.topic_id, topic.name));
            asked
                .iter()
                .filter(first_time)
                .map(|topic| look_up(image, asker, topic, refused))
                .collect()
        }
    };
    let broker = |broker: &'a std::sync::Arc<BrokerImage>| {
        let listener = broker.listener(asker.listener).filter(|_| !broker.fenced)?;
        Some(MetadataResponseBroker {
            node_id: broker.id,
            host: &listener.host,
            port: i32::from(listener.port),
            rack: broker.rack.as_deref(),
        })
    };
    MetadataResponse {
        brokers: image.brokers().filter_map(broker).collect(),
        cluster_id: Some(image.cluster_id()),
        controller_id,
        topics,
        ..MetadataResponse::default()
    }
}

fn look_up<'a>(
    image: &'a ClusterImage,
    asker: &Asker<'_>,
    asked: &MetadataRequestTopic<'a>,
    refused: &BTreeMap<&str, ErrorCode>,
) -> MetadataResponseTopic<'a> {
    let error = |code: ErrorCode| MetadataResponseTopic {
        error_code: code.code(),
        // Only where ids are served may the name be absent.
        name: if asker.version < FIRST_VERSION_WITH_IDS {
            Some(asked.name.unwrap_or_default())
        } else {
            asked.name
        },
        topic_id: asked.topic_id,
        is_internal: asked.name.is_some_and(names::is_internal),
        ..MetadataResponseTopic::default()
    };
    if !asked.topic_id.is_zero() {
        if asker.version < FIRST_VERSION_WITH_IDS {
            return error(ErrorCode::InvalidRequest);
        }
        let known = image.topic_by_id(asked.topic_id);
        return known.map_or_else(
            || error(ErrorCode::UnknownTopicId),
            |topic| describe(image, asker, topic),
        );
    }
    let Some(name) = asked.name else {
        return error(ErrorCode::InvalidRequest);
    };
    if let Some(topic) = image.topic(name) {
        return describe(image, asker, topic);
    }
    match names::check(name) {
        Err(invalid) => error(invalid.code),
        Ok(()) => error(refused.get(name).copied().unwrap_or(ErrorCode::UnknownTopicOrPartition)),
    }
}

fn describe<'a>(image: &ClusterImage, asker: &Asker<'_>, topic: &'a TopicImage) -> MetadataResponseTopic<'a> {
    let partition = |(index, partition): (i32, &PartitionImage)| MetadataResponsePartition {
        error_code: leader_error(image, asker, partition).code(),
        partition_index: index,
        leader_id: reachable_leader(image, asker, partition).unwrap_or(-1),
        leader_epoch: partition.leader_epoch,
        replica_nodes: partition.replicas.clone(),
        isr_nodes: partition.isr.clone(),
        offline_replicas: offline_replicas(image, asker, partition),
    };
    MetadataResponseTopic {
        name: Some(&topic.name),
        topic_id: topic.id,
        is_internal: names::is_internal(&topic.name),
        partitions: (0..).zip(&topic.partitions).map(partition).collect(),
        ..MetadataResponseTopic::default()
    }
}

/// The leader, if the client can reach it.
pub(super) fn reachable_leader(image: &ClusterImage, asker: &Asker<'_>, partition: &PartitionImage) -> Option<i32> {
    partition.leader.filter(|leader| {
        image
            .broker(*leader)
            .is_some_and(|broker| !broker.fenced && broker.listener(asker.listener).is_some())
    })
}

/// Why a partition has no leader for this client; NONE if it has one.
pub(super) fn leader_error(image: &ClusterImage, asker: &Asker<'_>, partition: &PartitionImage) -> ErrorCode {
    if reachable_leader(image, asker, partition).is_some() {
        return ErrorCode::None;
    }
    let alive = partition
        .leader
        .and_then(|leader| image.broker(leader))
        .is_some_and(|broker| !broker.fenced);
    if alive && asker.version >= FIRST_VERSION_WITH_LISTENER_NOT_FOUND {
        ErrorCode::ListenerNotFound
    } else {
        ErrorCode::LeaderNotAvailable
    }
}

/// The replicas on brokers that the client cannot reach.
pub(super) fn offline_replicas(image: &ClusterImage, asker: &Asker<'_>, partition: &PartitionImage) -> Vec<i32> {
    let online = |id: &&i32| {
        image
            .broker(**id)
            .is_some_and(|broker| !broker.fenced && broker.listener(asker.listener).is_some())
    };
    partition.replicas.iter().filter(|id| !online(id)).copied().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::controller::tests::fixtures::{controller, create, image_of};
    use ottla_protocol::Uuid;

    const ASKER: Asker<'static> = Asker {
        version: 13,
        listener: "PLAINTEXT",
    };

    fn request<'a>(names: &[&'a str]) -> MetadataRequest<'a> {
        let topic = |name: &&'a str| MetadataRequestTopic {
            topic_id: Uuid::ZERO,
            name: Some(*name),
        };
        MetadataRequest {
            topics: Some(names.iter().map(topic).collect()),
            ..MetadataRequest::default()
        }
    }

    fn codes(response: &MetadataResponse<'_>) -> Vec<(Option<String>, ErrorCode)> {
        let code = |topic: &MetadataResponseTopic<'_>| {
            (
                topic.name.map(str::to_owned),
                ErrorCode::from_code(topic.error_code).unwrap(),
            )
        };
        response.topics.iter().map(code).collect()
    }

    #[tokio::test]
    async fn an_unknown_topic_is_created_and_answered_at_once_with_its_leader() {
        let broker = controller(&[("num.partitions", "2")]).await;
        let request = request(&["new"]);
        let refused = create_missing(&broker.controller, &broker.config, &request).await;
        let image = broker.controller.image();
        let response = respond(&image, &ASKER, 1, &request, &refused);
        let topic = &response.topics[0];
        assert_eq!(
            (topic.error_code, topic.name, topic.partitions.len()),
            (0, Some("new"), 2)
        );
        assert!(!topic.topic_id.is_zero());
        assert!(
            topic
                .partitions
                .iter()
                .all(|partition| partition.leader_id == 1 && partition.error_code == 0)
        );
        assert_eq!(response.brokers[0].host, "localhost");
        assert_eq!(
            (response.controller_id, response.cluster_authorized_operations),
            (1, i32::MIN)
        );
        assert_eq!(response.cluster_id, Some(image.cluster_id()));
    }

    #[tokio::test]
    async fn nothing_is_created_where_client_or_broker_forbids_it_or_the_name_is_wrong() {
        let broker = controller(&[]).await;
        let forbidden = MetadataRequest {
            allow_auto_topic_creation: false,
            ..request(&["new"])
        };
        create_missing(&broker.controller, &broker.config, &forbidden).await;
        let refused = create_missing(
            &broker.controller,
            &broker.config,
            &request(&["a b", "", "__consumer_offsets"]),
        )
        .await;
        assert!(refused.is_empty());
        assert_eq!(broker.controller.image().topic_count(), 0);

        let broker = controller(&[("auto.create.topics.enable", "false")]).await;
        create_missing(&broker.controller, &broker.config, &request(&["new"])).await;
        assert_eq!(broker.controller.image().topic_count(), 0);
    }

    #[tokio::test]
    async fn a_creation_that_fails_tells_its_reason() {
        let broker = controller(&[("default.replication.factor", "3")]).await;
        let request = request(&["new"]);
        let refused = create_missing(&broker.controller, &broker.config, &request).await;
        let image = broker.controller.image();
        let response = respond(&image, &ASKER, 1, &request, &refused);
        assert_eq!(
            codes(&response),
            [(Some("new".to_owned()), ErrorCode::InvalidReplicationFactor)]
        );
    }

    #[tokio::test]
    async fn topics_are_answered_in_the_order_asked_each_once_each_with_its_error() {
        let broker = controller(&[]).await;
        create(&broker, "t").await;
        let image = broker.controller.image();
        let response = respond(&image, &ASKER, 1, &request(&["u", "t", "a b", "t"]), &BTreeMap::new());
        assert_eq!(
            codes(&response),
            [
                (Some("u".to_owned()), ErrorCode::UnknownTopicOrPartition),
                (Some("t".to_owned()), ErrorCode::None),
                (Some("a b".to_owned()), ErrorCode::InvalidTopicException),
            ]
        );
    }

    #[tokio::test]
    async fn no_list_means_all_topics_and_an_empty_one_none_but_in_version_0() {
        let broker = controller(&[]).await;
        create(&broker, "t").await;
        let image = broker.controller.image();
        let count = |version, topics| {
            let request = MetadataRequest {
                topics,
                ..MetadataRequest::default()
            };
            respond(&image, &Asker { version, ..ASKER }, 1, &request, &BTreeMap::new())
                .topics
                .len()
        };
        assert_eq!(
            (count(1, None), count(1, Some(vec![])), count(0, Some(vec![]))),
            (1, 0, 1)
        );
    }

    #[tokio::test]
    async fn a_topic_is_found_by_its_id_from_version_12_on() {
        let broker = controller(&[]).await;
        let id = create(&broker, "t").await;
        let image = broker.controller.image();
        let ask = |version, topic_id, name| {
            let request = MetadataRequest {
                topics: Some(vec![MetadataRequestTopic { topic_id, name }]),
                ..MetadataRequest::default()
            };
            let response = respond(&image, &Asker { version, ..ASKER }, 1, &request, &BTreeMap::new());
            let name = response.topics[0].name.map(str::to_owned);
            (name, ErrorCode::from_code(response.topics[0].error_code).unwrap())
        };
        assert_eq!(ask(12, id, None), (Some("t".to_owned()), ErrorCode::None));
        assert_eq!(ask(12, Uuid([9; 16]), None), (None, ErrorCode::UnknownTopicId));
        assert_eq!(ask(12, Uuid::ZERO, None), (None, ErrorCode::InvalidRequest));
        assert_eq!(ask(11, id, None), (Some(String::new()), ErrorCode::InvalidRequest));
    }

    #[tokio::test]
    async fn a_leader_without_the_clients_listener_is_not_found() {
        let broker = controller(&[]).await;
        create(&broker, "t").await;
        let image = image_of(&broker);
        let ask = |version, listener| {
            let request = request(&["t"]);
            let response = respond(&image, &Asker { version, listener }, 1, &request, &BTreeMap::new());
            let partition = &response.topics[0].partitions[0];
            let code = ErrorCode::from_code(partition.error_code).unwrap();
            (
                code,
                partition.leader_id,
                partition.offline_replicas.clone(),
                response.brokers.len(),
            )
        };
        assert_eq!(ask(6, "PLAINTEXT"), (ErrorCode::None, 1, vec![], 1));
        assert_eq!(ask(6, "OTHER"), (ErrorCode::ListenerNotFound, -1, vec![1], 0));
        assert_eq!(ask(5, "OTHER"), (ErrorCode::LeaderNotAvailable, -1, vec![1], 0));
    }
}
