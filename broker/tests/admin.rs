//! The APIs of metadata over the wire: each in every version it is served in.
#![allow(clippy::unwrap_used)]

mod support;

use ottla_broker::Cluster;
use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_protocol::messages::delete_topics_request::DeleteTopicState;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_topic_partitions_request::TopicRequest;
use ottla_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::*;
use ottla_protocol::{ErrorCode, Uuid};
use support::Client;

fn new_topic(name: &str) -> CreatableTopic<'_> {
    let config = CreatableTopicConfig {
        name: "retention.ms",
        value: Some("3600000"),
    };
    CreatableTopic {
        name,
        num_partitions: 2,
        replication_factor: 1,
        configs: vec![config],
        ..CreatableTopic::default()
    }
}

async fn create(client: &mut Client, version: i16, name: &str) {
    let request = CreateTopicsRequest {
        topics: vec![new_topic(name), new_topic("no good")],
        ..CreateTopicsRequest::default()
    };
    let answer = client.call(version, &request).await;
    let response = answer.decode();
    let codes: Vec<i16> = response.topics.iter().map(|topic| topic.error_code).collect();
    assert_eq!(codes, [0, ErrorCode::InvalidTopicException.code()], "version {version}");
    assert_eq!(response.topics[0].error_message, None, "version {version}");
    assert_eq!(!response.topics[0].topic_id.is_zero(), version >= 7);
    assert_eq!(response.topics[0].num_partitions == 2, version >= 5);
}

async fn metadata(client: &mut Client, version: i16, name: &str) -> (ErrorCode, Uuid, usize) {
    let topic = MetadataRequestTopic {
        name: Some(name),
        ..MetadataRequestTopic::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![topic]),
        allow_auto_topic_creation: version < 4,
        ..MetadataRequest::default()
    };
    let answer = client.call(version, &request).await;
    let response = answer.decode();
    assert_eq!(response.brokers[0].port != 0, !response.brokers[0].host.is_empty());
    assert_eq!(response.cluster_id.is_some(), version >= 2);
    let topic = &response.topics[0];
    (
        ErrorCode::from_code(topic.error_code).unwrap(),
        topic.topic_id,
        topic.partitions.len(),
    )
}

#[tokio::test]
async fn topics_live_from_creation_to_deletion_in_every_version() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    for version in 2..=7 {
        create(&mut client, version, &format!("t{version}")).await;
    }
    for version in 0..=13 {
        let (code, id, partitions) = metadata(&mut client, version, "t7").await;
        assert_eq!((code, partitions), (ErrorCode::None, 2), "version {version}");
        assert_eq!(!id.is_zero(), version >= 10, "version {version}");
    }
    for version in 0..=3 {
        let topic = CreatePartitionsTopic {
            name: "t7",
            count: 3 + i32::from(version),
            assignments: None,
        };
        let request = CreatePartitionsRequest {
            topics: vec![topic],
            ..CreatePartitionsRequest::default()
        };
        let answer = client.call(version, &request).await;
        let result = &answer.decode().results[0];
        assert_eq!((result.name, result.error_code, result.error_message), ("t7", 0, None));
    }
    let (_, id, partitions) = metadata(&mut client, 13, "t7").await;
    assert_eq!(partitions, 6);
    for version in 1..=5 {
        let name = format!("t{}", version + 1);
        let request = DeleteTopicsRequest {
            topic_names: vec![&name, "unknown"],
            timeout_ms: 60_000,
            ..DeleteTopicsRequest::default()
        };
        let answer = client.call(version, &request).await;
        let codes: Vec<i16> = answer.decode().responses.iter().map(|topic| topic.error_code).collect();
        assert_eq!(
            codes,
            [0, ErrorCode::UnknownTopicOrPartition.code()],
            "version {version}"
        );
    }
    let by_id = DeleteTopicsRequest {
        topics: vec![DeleteTopicState {
            name: None,
            topic_id: id,
        }],
        ..DeleteTopicsRequest::default()
    };
    let answer = client.call(6, &by_id).await;
    let response = answer.decode();
    assert_eq!(
        (response.responses[0].name, response.responses[0].error_code),
        (Some("t7"), 0)
    );
    assert_eq!(
        metadata(&mut client, 13, "t7").await.0,
        ErrorCode::UnknownTopicOrPartition
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn configurations_are_described_and_altered_in_every_version() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create(&mut client, 7, "t").await;
    for version in 0..=1 {
        let value = (1000 + i32::from(version)).to_string();
        let config = AlterableConfig {
            name: "retention.ms",
            config_operation: 0,
            value: Some(&value),
        };
        let resource = AlterConfigsResource {
            resource_type: 2,
            resource_name: "t",
            configs: vec![config],
        };
        let request = IncrementalAlterConfigsRequest {
            resources: vec![resource],
            validate_only: false,
        };
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        assert_eq!(
            (response.responses[0].error_code, response.responses[0].error_message),
            (0, None)
        );
    }
    for version in 1..=4 {
        let resource = |resource_type, resource_name| DescribeConfigsResource {
            resource_type,
            resource_name,
            configuration_keys: None,
        };
        let request = DescribeConfigsRequest {
            resources: vec![resource(2, "t"), resource(4, "1"), resource(2, "u")],
            include_synonyms: true,
            include_documentation: version >= 3,
        };
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        let codes: Vec<i16> = response.results.iter().map(|result| result.error_code).collect();
        assert_eq!(
            codes,
            [0, 0, ErrorCode::UnknownTopicOrPartition.code()],
            "version {version}"
        );
        let retention = response.results[0]
            .configs
            .iter()
            .find(|config| config.name == "retention.ms")
            .unwrap();
        assert_eq!((retention.value, retention.config_source), (Some("1001"), 1));
        assert_eq!(
            retention.documentation.is_some_and(|text| !text.is_empty()),
            version >= 3
        );
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_cluster_is_described_in_every_version() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create(&mut client, 7, "t").await;
    for version in 0..=2 {
        let answer = client.call(version, &DescribeClusterRequest::default()).await;
        let response = answer.decode();
        assert_eq!(
            (response.error_code, response.brokers.len(), response.controller_id),
            (0, 1, 1)
        );
        assert!(
            cluster
                .bootstrap_servers()
                .ends_with(&format!(":{}", response.brokers[0].port))
        );
    }
    let request = DescribeTopicPartitionsRequest {
        topics: vec![TopicRequest { name: "t" }],
        response_partition_limit: 1,
        ..DescribeTopicPartitionsRequest::default()
    };
    let answer = client.call(0, &request).await;
    let response = answer.decode();
    assert_eq!(
        (response.topics[0].partitions.len(), response.topics[0].error_code),
        (1, 0)
    );
    assert_eq!(response.next_cursor.unwrap().partition_index, 1);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_is_not_there_yet_is_refused_in_every_version() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    for version in 1..=6 {
        let request = FindCoordinatorRequest {
            key: if version < 4 { "k" } else { "" },
            key_type: 1,
            coordinator_keys: if version < 4 { vec![] } else { vec!["k"] },
        };
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        let code = response
            .coordinators
            .first()
            .map_or(response.error_code, |found| found.error_code);
        let expected = ErrorCode::TransactionalIdAuthorizationFailed.code();
        assert_eq!(code, expected, "version {version}");
    }
    for version in 0..=5 {
        let request = InitProducerIdRequest {
            transactional_id: Some("t"),
            transaction_timeout_ms: 1000,
            ..InitProducerIdRequest::default()
        };
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        assert_eq!(
            response.error_code,
            ErrorCode::TransactionalIdAuthorizationFailed.code()
        );
        assert_eq!(response.producer_id, -1);
    }
    cluster.stop().await.unwrap();
}
