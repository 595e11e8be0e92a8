//! What clients need before the first record: names, configurations, producer ids, addresses.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode, Uuid};
use support::*;

#[tokio::test]
async fn trap_6_metadata_creates_a_topic_that_can_be_written_at_once() {
    let cluster = Cluster::builder()
        .property("num.partitions", "3")
        .start()
        .await
        .unwrap();
    let mut client = Client::connect(&cluster).await;
    for version in versions(ApiKey::Metadata) {
        let name = format!("t{version}");
        // The first answer may say LEADER_NOT_AVAILABLE, as Kafka's does; then the topic is on its way.
        let partitions = loop {
            let answer = client.call(version, &metadata_request(&name)).await;
            let response = answer.decode();
            let topic = &response.topics[0];
            match ErrorCode::from_code(topic.error_code).unwrap() {
                ErrorCode::None => break topic.partitions.len(),
                error => assert!(error.retriable(), "{error:?}"),
            }
        };
        assert_eq!(partitions, 3, "version {version}");
        assert_eq!(
            produce(&mut client, &name, 2, &batch(&[b"a"])).await,
            (ErrorCode::None, 0)
        );
    }
}

#[tokio::test]
async fn no_topic_is_created_where_that_is_not_wanted() {
    let strict = Cluster::builder()
        .property("auto.create.topics.enable", "false")
        .start()
        .await
        .unwrap();
    let mut client = Client::connect(&strict).await;
    let answer = client.call(9, &metadata_request("t")).await;
    assert_eq!(
        answer.decode().topics[0].error_code,
        ErrorCode::UnknownTopicOrPartition.code()
    );

    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let request = MetadataRequest {
        allow_auto_topic_creation: false,
        ..metadata_request("t")
    };
    for _ in 0..2 {
        let answer = client.call(9, &request).await;
        assert_eq!(
            answer.decode().topics[0].error_code,
            ErrorCode::UnknownTopicOrPartition.code()
        );
    }
}

#[tokio::test]
async fn trap_7_describe_configs_lists_every_config_with_default_and_source() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create_topic(&mut client, "t", 1, &[("retention.ms", "1000")]).await;
    let topic = DescribeConfigsResource {
        resource_type: 2,
        resource_name: "t",
        configuration_keys: None,
    };
    let request = DescribeConfigsRequest {
        resources: vec![topic],
        include_synonyms: true,
        ..Default::default()
    };
    for version in versions(ApiKey::DescribeConfigs) {
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        let result = &response.results[0];
        assert_eq!(result.error_code, 0);
        let names: Vec<_> = result.configs.iter().map(|config| config.name).collect();
        for name in [
            "cleanup.policy",
            "max.message.bytes",
            "min.insync.replicas",
            "retention.ms",
            "segment.bytes",
        ] {
            assert!(names.contains(&name), "{name} is missing in {names:?}");
        }
        for config in &result.configs {
            // 1 is the topic's own, 5 the default.
            let expected = if config.name == "retention.ms" { 1 } else { 5 };
            assert_eq!(config.config_source, expected, "{}", config.name);
            assert!(config.value.is_some(), "{}", config.name);
        }
        let retention = result
            .configs
            .iter()
            .find(|config| config.name == "retention.ms")
            .unwrap();
        assert_eq!(retention.value, Some("1000"));
        assert!(
            retention.synonyms.iter().any(|synonym| synonym.source == 5),
            "its default is among the synonyms"
        );
    }
}

#[tokio::test]
async fn trap_8_create_partitions_answers_for_each_topic() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    let wish = |name, count| CreatePartitionsTopic {
        name,
        count,
        assignments: None,
    };
    let topics = vec![wish("t", 3), wish("unknown", 3)];
    let request = CreatePartitionsRequest {
        topics,
        timeout_ms: 5_000,
        ..Default::default()
    };
    let answer = client.call(3, &request).await;
    let response = answer.decode();
    let codes: Vec<_> = response
        .results
        .iter()
        .map(|result| (result.name, result.error_code))
        .collect();
    assert_eq!(
        codes,
        [("t", 0), ("unknown", ErrorCode::UnknownTopicOrPartition.code())]
    );
    assert_eq!(
        produce(&mut client, "t", 2, &batch(&[b"a"])).await,
        (ErrorCode::None, 0)
    );
}

#[tokio::test]
async fn trap_10_producer_ids_are_unique_and_version_6_is_not_served() {
    let dir = tempfile::tempdir().unwrap();
    let mut given = Vec::new();
    for clean in [true, false, true] {
        let cluster = Cluster::builder().data_dir(dir.path()).start().await.unwrap();
        let mut client = Client::connect(&cluster).await;
        for version in versions(ApiKey::InitProducerId) {
            let request = InitProducerIdRequest {
                transactional_id: None,
                ..Default::default()
            };
            let answer = client.call(version, &request).await;
            let response = answer.decode();
            assert_eq!((response.error_code, response.producer_epoch), (0, 0));
            given.push(response.producer_id);
        }
        client.send_frame(22, 6, 1, &[0; 40]).await;
        assert!(client.is_closed().await);
        if clean {
            cluster.stop().await.unwrap()
        } else {
            cluster.abort()
        }
    }
    let mut unique = given.clone();
    unique.sort_unstable();
    unique.dedup();
    assert_eq!(unique.len(), given.len(), "{given:?}");
}

#[tokio::test]
async fn trap_11_the_advertised_address_is_the_one_that_listens() {
    let cluster = Cluster::builder().property("listeners", "A://127.0.0.1:0,B://[::1]:0");
    let map = "A:PLAINTEXT,B:PLAINTEXT";
    let cluster = cluster
        .property("listener.security.protocol.map", map)
        .property("inter.broker.listener.name", "A");
    let Ok(cluster) = cluster.start().await else { return }; // a machine without IPv6
    for (_, addr) in cluster.broker().addrs() {
        let mut client = Client::connect_to(&addr.to_string()).await;
        let answer = client.call(9, &MetadataRequest::default()).await;
        let response = answer.decode();
        let told = &response.brokers[0];
        assert_eq!(
            (told.host, told.port),
            (&*addr.ip().to_string(), i32::from(addr.port())),
            "through the same door"
        );
    }
}

#[tokio::test]
async fn a_topic_created_again_is_another_topic() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let first = create_topic(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", 0, &batch(&[b"old"])).await;
    let delete = DeleteTopicsRequest {
        topic_names: vec!["t"],
        timeout_ms: 5_000,
        ..Default::default()
    };
    assert_eq!(client.call(5, &delete).await.decode().responses[0].error_code, 0);
    assert_eq!(
        fetch(&mut client, "t", 0, 0).await.error,
        ErrorCode::UnknownTopicOrPartition
    );
    let second = create_topic(&mut client, "t", 1, &[]).await;
    assert_ne!(first, second);
    let old = fetch_with(&mut client, 13, &fetch_request("", first, 0, 0)).await;
    assert_eq!(old.error, ErrorCode::UnknownTopicId);
    let new = fetch_with(&mut client, 13, &fetch_request("", second, 0, 0)).await;
    assert_eq!((new.error, new.high_watermark), (ErrorCode::None, 0));
    assert_eq!(fetch(&mut client, "t", 0, 0).await.high_watermark, 0);
    assert_ne!(second, Uuid::ZERO);
}
