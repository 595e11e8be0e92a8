//! Faults on request: an error or a throttle time has its place in every version of every API.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use ottla_broker::faults::Rule;
use ottla_protocol::messages::create_topics_request::CreatableTopic;
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, Message, Request, Uuid, frame};
use std::time::Duration;
use support::*;

/// A cluster with the topic `t` of three partitions, and a connection to it.
async fn start() -> (Cluster, Client, Uuid) {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 3, &[]).await;
    (cluster, client, id)
}

/// The version nearest to `version` that the API has, as a frame.
fn encode<'a, M: Message<'a> + Request>(version: i16, body: &M) -> (ApiKey, Vec<u8>) {
    let version = version.clamp(M::MIN_VERSION, M::API_KEY.max_version());
    let frame = frame::encode_request(version, 1, Some("test"), body).unwrap();
    (M::API_KEY, frame.into_vec())
}

/// A request to each API: what it names exists, or does not but could.
fn requests(id: Uuid, version: i16) -> Vec<(ApiKey, Vec<u8>)> {
    [
        records(id, version),
        topics(version),
        lookups(version),
        members(version),
        consumer_members(version),
        offsets(id, version),
    ]
    .concat()
}

fn records(id: Uuid, version: i16) -> Vec<(ApiKey, Vec<u8>)> {
    let id = if version >= 13 { id } else { Uuid::ZERO };
    let list_offsets = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![list_offsets_request::ListOffsetsTopic {
            name: "t",
            partitions: vec![list_offsets_request::ListOffsetsPartition {
                timestamp: -1,
                ..Default::default()
            }],
        }],
        ..Default::default()
    };
    let epochs = OffsetForLeaderEpochRequest {
        replica_id: -1,
        topics: vec![offset_for_leader_epoch_request::OffsetForLeaderTopic {
            topic: "t",
            partitions: vec![offset_for_leader_epoch_request::OffsetForLeaderPartition::default()],
        }],
    };
    let fetch_all_day = FetchRequest {
        max_wait_ms: 1_000_000_000,
        ..fetch_request("t", id, 0, 0)
    };
    vec![
        encode(
            version,
            &produce_request("t", id, 0, -1, batch(&[b"a"]).to_vec().into()),
        ),
        encode(version, &fetch_all_day),
        encode(version, &list_offsets),
        encode(version, &epochs),
        encode(version, &InitProducerIdRequest::default()),
    ]
}

/// What changes topics.
fn topics(version: i16) -> Vec<(ApiKey, Vec<u8>)> {
    let create = CreateTopicsRequest {
        topics: vec![CreatableTopic {
            name: "new",
            num_partitions: 1,
            replication_factor: 1,
            ..Default::default()
        }],
        timeout_ms: 60_000,
        validate_only: false,
    };
    let (mut topic_names, mut topics) = (vec!["t"], vec![]);
    if version >= 6 {
        topic_names.clear();
        topics.push(delete_topics_request::DeleteTopicState {
            name: Some("t"),
            ..Default::default()
        });
    }
    let delete = DeleteTopicsRequest {
        topic_names,
        topics,
        timeout_ms: 60_000,
    };
    let partitions = CreatePartitionsRequest {
        topics: vec![create_partitions_request::CreatePartitionsTopic {
            name: "t",
            count: 9,
            assignments: None,
        }],
        timeout_ms: 60_000,
        validate_only: false,
    };
    let alter = IncrementalAlterConfigsRequest {
        resources: vec![incremental_alter_configs_request::AlterConfigsResource {
            resource_type: 2,
            resource_name: "t",
            configs: vec![incremental_alter_configs_request::AlterableConfig {
                name: "retention.ms",
                config_operation: 0,
                value: Some("777"),
            }],
        }],
        validate_only: false,
    };
    vec![
        encode(version, &create),
        encode(version, &delete),
        encode(version, &partitions),
        encode(version, &alter),
    ]
}

/// What members of groups send, and what asks about groups.
fn members(version: i16) -> Vec<(ApiKey, Vec<u8>)> {
    let join = JoinGroupRequest {
        group_id: "g",
        protocol_type: "consumer",
        ..Default::default()
    };
    let sync = SyncGroupRequest {
        group_id: "g",
        ..Default::default()
    };
    let heartbeat = HeartbeatRequest {
        group_id: "g",
        ..Default::default()
    };
    let member = leave_group_request::MemberIdentity {
        member_id: "m",
        ..Default::default()
    };
    let leave = LeaveGroupRequest {
        group_id: "g",
        member_id: if version < 3 { "m" } else { "" },
        members: if version < 3 { vec![] } else { vec![member] },
    };
    let describe = DescribeGroupsRequest {
        groups: vec!["g"],
        ..Default::default()
    };
    let delete = DeleteGroupsRequest {
        groups_names: vec!["g"],
    };
    vec![
        encode(version, &join),
        encode(version, &sync),
        encode(version, &heartbeat),
        encode(version, &leave),
        encode(version, &describe),
        encode(version, &ListGroupsRequest::default()),
        encode(version, &delete),
    ]
}

/// What concerns the members of groups by the consumer protocol.
fn consumer_members(version: i16) -> Vec<(ApiKey, Vec<u8>)> {
    let heartbeat = ConsumerGroupHeartbeatRequest {
        group_id: "c",
        member_id: "m",
        rebalance_timeout_ms: 1000,
        subscribed_topic_names: Some(vec!["t"]),
        topic_partitions: Some(vec![]),
        ..Default::default()
    };
    let describe = ConsumerGroupDescribeRequest {
        group_ids: vec!["c"],
        ..Default::default()
    };
    vec![encode(version, &heartbeat), encode(version, &describe)]
}

/// What concerns the offsets of groups.
fn offsets(id: Uuid, version: i16) -> Vec<(ApiKey, Vec<u8>)> {
    let (name, topic_id) = if version < 10 { ("t", Uuid::ZERO) } else { ("", id) };
    let commit = OffsetCommitRequest {
        group_id: "g",
        topics: vec![offset_commit_request::OffsetCommitRequestTopic {
            name,
            topic_id,
            partitions: vec![offset_commit_request::OffsetCommitRequestPartition::default()],
        }],
        ..Default::default()
    };
    let single = offset_fetch_request::OffsetFetchRequestTopic {
        name: "t",
        partition_indexes: vec![0],
    };
    let group = offset_fetch_request::OffsetFetchRequestGroup {
        group_id: "g",
        member_epoch: -1,
        topics: Some(vec![offset_fetch_request::OffsetFetchRequestTopics {
            name,
            topic_id,
            partition_indexes: vec![0],
        }]),
        ..Default::default()
    };
    let fetch = OffsetFetchRequest {
        group_id: if version < 8 { "g" } else { "" },
        topics: if version < 8 { Some(vec![single]) } else { Some(vec![]) },
        groups: if version < 8 { vec![] } else { vec![group] },
        ..Default::default()
    };
    let delete = OffsetDeleteRequest {
        group_id: "g",
        topics: vec![offset_delete_request::OffsetDeleteRequestTopic {
            name: "t",
            partitions: vec![offset_delete_request::OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    vec![
        encode(version, &commit),
        encode(version, &fetch),
        encode(version, &delete),
    ]
}

/// What only asks; Metadata creates a topic when it may.
fn lookups(version: i16) -> Vec<(ApiKey, Vec<u8>)> {
    let describe = DescribeConfigsRequest {
        resources: vec![describe_configs_request::DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t",
            configuration_keys: None,
        }],
        ..Default::default()
    };
    let coordinator = FindCoordinatorRequest {
        key: if version < 4 { "g" } else { "" },
        coordinator_keys: if version < 4 { vec![] } else { vec!["g"] },
        ..Default::default()
    };
    let topic_partitions = DescribeTopicPartitionsRequest {
        topics: vec![describe_topic_partitions_request::TopicRequest { name: "t" }],
        response_partition_limit: 10,
        cursor: None,
    };
    let api_versions = ApiVersionsRequest {
        client_software_name: "test",
        client_software_version: "1",
        ..Default::default()
    };
    vec![
        encode(version, &metadata_request("unheard-of")),
        encode(version, &coordinator),
        encode(version, &SaslHandshakeRequest { mechanism: "PLAIN" }),
        encode(version, &SaslAuthenticateRequest { auth_bytes: b"" }),
        encode(version, &api_versions),
        encode(version, &describe),
        encode(version, &DescribeClusterRequest::default()),
        encode(version, &topic_partitions),
    ]
}

/// Sends a whole frame and shows the answer's fields.
async fn ask(client: &mut Client, key: ApiKey, version: i16, request: &[u8]) -> String {
    client.send_raw(request).await;
    let frame = client.frame().await.expect("the broker closed the connection");
    let (_, body_at) = frame::decode_response_header(key, version, &frame).unwrap();
    let name = format!("{}Response", key.name());
    let info = CATALOG.iter().find(|info| info.name == name).unwrap();
    info.debug(&frame[body_at..], version).unwrap()
}

/// A request to every API, in every version; the topic is deleted last.
fn every_version(id: Uuid) -> Vec<(ApiKey, i16, Vec<u8>)> {
    let all = (0..=18).flat_map(|version| {
        let in_range = move |key: ApiKey| versions(key).contains(&version);
        let requests = requests(id, version).into_iter();
        requests
            .filter(move |(key, _)| in_range(*key))
            .map(move |(key, request)| (key, version, request))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(key, ..)| *key == ApiKey::DeleteTopics);
    for api in ottla_broker::served_apis() {
        let sent = all.iter().filter(|(key, ..)| *key == api.key).count();
        assert_eq!(sent, versions(api.key).count(), "{}", api.key.name());
    }
    all
}

#[tokio::test]
async fn an_error_has_its_place_in_every_version_of_every_api_and_nothing_is_carried_out() {
    let (cluster, mut client, id) = start().await;
    let before = state(&cluster).await;
    // A code that Kafka does not have: no answer of the broker's own says it.
    let fault = cluster.faults().add(Rule::any().connection(1).error_before(31_313));
    let all = every_version(id);
    for (key, version, request) in &all {
        let answer = ask(&mut client, *key, *version, request).await;
        assert!(
            answer.contains("error_code: 31313"),
            "{key} version {version}: {answer}"
        );
    }
    assert_eq!(fault.hits(), all.len() as u64);
    assert_eq!(state(&cluster).await, before);
}

/// Everything that a request could have changed.
async fn state(cluster: &Cluster) -> String {
    let mut other = Client::connect(cluster).await;
    let all = other
        .call(
            12,
            &MetadataRequest {
                topics: None,
                ..Default::default()
            },
        )
        .await;
    let topics = format!("{:?}", all.decode().topics);
    let describe = DescribeConfigsRequest {
        resources: vec![describe_configs_request::DescribeConfigsResource {
            resource_type: 2,
            resource_name: "t",
            configuration_keys: Some(vec!["retention.ms"]),
        }],
        ..Default::default()
    };
    let configs = other.call(4, &describe).await;
    let end = fetch(&mut other, "t", 0, 0).await.high_watermark;
    format!("{topics} {:?} {end}", configs.decode().results)
}

#[tokio::test]
async fn an_error_after_has_its_place_in_every_version_of_every_api() {
    let (cluster, mut client, id) = start().await;
    produce(&mut client, "t", 0, &batch(&[b"a"])).await;
    let fault = cluster.faults().add(Rule::any().connection(1).error_after(31_313));
    for (key, version, request) in every_version(id) {
        let answer = ask(&mut client, key, version, &request).await;
        assert!(
            answer.contains("error_code: 31313"),
            "{key} version {version}: {answer}"
        );
    }
    fault.remove();
    let all = client
        .call(
            12,
            &MetadataRequest {
                topics: None,
                ..Default::default()
            },
        )
        .await;
    let response = all.decode();
    let names: Vec<_> = response.topics.iter().filter_map(|topic| topic.name).collect();
    let expected = ["__consumer_offsets", "new", "unheard-of"];
    assert_eq!(names, expected, "all were carried out");
}

#[tokio::test]
async fn the_throttle_time_is_told_in_every_version_that_can() {
    let (cluster, mut client, id) = start().await;
    produce(&mut client, "t", 0, &batch(&[b"a"])).await;
    cluster
        .faults()
        .add(Rule::any().connection(1).throttle(Duration::from_millis(4711)));
    for (key, version, request) in every_version(id) {
        let answer = ask(&mut client, key, version, &request).await;
        let first = match key {
            ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => i16::MAX,
            ApiKey::Metadata => 3,
            ApiKey::FindCoordinator | ApiKey::ApiVersions => 1,
            ApiKey::Heartbeat | ApiKey::LeaveGroup | ApiKey::SyncGroup => 1,
            ApiKey::DescribeGroups | ApiKey::ListGroups => 1,
            ApiKey::ListOffsets | ApiKey::JoinGroup => 2,
            ApiKey::OffsetCommit | ApiKey::OffsetFetch => 3,
            _ => 0,
        };
        let told = answer.contains("throttle_time_ms: 4711");
        assert_eq!(told, version >= first, "{key} version {version}: {answer}");
    }
}
