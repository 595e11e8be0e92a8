//! Groups of the consumer protocol (KIP-848) over the wire: heartbeats and descriptions in every version, what is
//! announced, and what is left of a group when the broker starts anew.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use ottla_protocol::messages::*;
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::BTreeSet;
use support::{Client, PATIENCE, create_topic};

type Owned<'a> = Option<Vec<consumer_group_heartbeat_request::TopicPartitions>>;

struct Beat {
    error: ErrorCode,
    message: Option<String>,
    member_id: String,
    epoch: i32,
    interval_ms: i32,
    assignment: Option<BTreeSet<i32>>,
}

/// A cluster with the topic `t` of four partitions, and a connection to it that has found the coordinator.
async fn room() -> (Cluster, Client, Uuid) {
    let builder = Cluster::builder().property("group.consumer.assignment.interval.ms", "0");
    let cluster = builder.start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 4, &[]).await;
    ready(&mut client).await;
    (cluster, client, id)
}

async fn ready(client: &mut Client) {
    let request = FindCoordinatorRequest {
        coordinator_keys: vec!["g"],
        ..Default::default()
    };
    let found = client.call(6, &request).await;
    assert_eq!(found.decode().coordinators[0].error_code, 0);
    let wait = async {
        while beat(client, 1, &stay("nobody", 1)).await.error == ErrorCode::CoordinatorLoadInProgress {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the group is loaded");
}

fn join(member_id: &str) -> ConsumerGroupHeartbeatRequest<'_> {
    ConsumerGroupHeartbeatRequest {
        rebalance_timeout_ms: 60_000,
        subscribed_topic_names: Some(vec!["t"]),
        topic_partitions: Some(Vec::new()),
        ..stay(member_id, 0)
    }
}

fn stay(member_id: &str, epoch: i32) -> ConsumerGroupHeartbeatRequest<'_> {
    ConsumerGroupHeartbeatRequest {
        group_id: "g",
        member_id,
        member_epoch: epoch,
        instance_id: None,
        rack_id: None,
        rebalance_timeout_ms: -1,
        subscribed_topic_names: None,
        subscribed_topic_regex: None,
        server_assignor: None,
        topic_partitions: None,
    }
}

fn owned(id: Uuid, partitions: &BTreeSet<i32>) -> Owned<'static> {
    Some(vec![consumer_group_heartbeat_request::TopicPartitions {
        topic_id: id,
        partitions: partitions.iter().copied().collect(),
    }])
}

async fn beat(client: &mut Client, version: i16, request: &ConsumerGroupHeartbeatRequest<'_>) -> Beat {
    let answer = client.call(version, request).await;
    let response = answer.decode();
    let partitions = |topic: &consumer_group_heartbeat_response::TopicPartitions| topic.partitions.clone();
    Beat {
        error: ErrorCode::from_code(response.error_code).unwrap(),
        message: response.error_message.map(str::to_owned),
        member_id: response.member_id.unwrap_or_default().to_owned(),
        epoch: response.member_epoch,
        interval_ms: response.heartbeat_interval_ms,
        assignment: response
            .assignment
            .map(|assignment| assignment.topic_partitions.iter().flat_map(partitions).collect()),
    }
}

#[tokio::test]
async fn a_group_is_shared_between_its_members() {
    let (_cluster, mut client, id) = room().await;
    let a = beat(&mut client, 1, &join("a")).await;
    assert_eq!((a.error, a.epoch, a.interval_ms), (ErrorCode::None, 1, 5_000));
    assert_eq!(a.assignment, Some((0..4).collect()));
    let b = beat(&mut client, 1, &join("b")).await;
    assert_eq!((b.epoch, b.assignment), (2, Some(BTreeSet::new())));
    let keeps = beat(&mut client, 1, &stay("a", 1)).await.assignment.unwrap();
    let reports = ConsumerGroupHeartbeatRequest {
        topic_partitions: owned(id, &keeps),
        ..stay("a", 1)
    };
    assert_eq!(beat(&mut client, 1, &reports).await.epoch, 2);
    let gained = beat(&mut client, 1, &stay("b", 2)).await.assignment.unwrap();
    assert_eq!((keeps.len(), gained.len()), (2, 2));
    assert!(keeps.is_disjoint(&gained));
    // The same bytes again harm nobody.
    assert_eq!(beat(&mut client, 1, &reports).await.error, ErrorCode::None);

    for version in [0, 1] {
        let request = ConsumerGroupDescribeRequest {
            group_ids: vec!["g", "x"],
            include_authorized_operations: false,
        };
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        let group = &response.groups[0];
        assert_eq!(
            (group.error_code, group.group_state, group.assignor_name),
            (0, "Stable", "uniform")
        );
        assert_eq!(
            (group.group_epoch, group.assignment_epoch, group.members.len()),
            (2, 2, 2)
        );
        let member = &group.members[0];
        assert_eq!(
            (member.member_id, member.member_epoch, member.subscribed_topic_names[0]),
            ("a", 2, "t")
        );
        assert_eq!(member.assignment, member.target_assignment);
        assert_eq!(member.assignment.topic_partitions[0].topic_name, "t");
        assert_eq!(member.member_type, if version == 0 { -1 } else { 1 });
        assert_eq!(response.groups[1].error_code, ErrorCode::GroupIdNotFound.code());
    }

    assert_eq!(beat(&mut client, 1, &stay("a", -1)).await.error, ErrorCode::None);
    let all = beat(&mut client, 1, &stay("b", 2)).await;
    assert_eq!((all.epoch, all.assignment.map(|all| all.len())), (3, Some(4)));
}

#[tokio::test]
async fn a_member_of_version_0_is_given_an_id_and_one_of_version_1_has_its_own() {
    let (_cluster, mut client, _) = room().await;
    let given = beat(&mut client, 0, &join("")).await;
    assert_eq!(given.error, ErrorCode::None);
    assert_eq!(given.member_id.len(), 22);
    let refused = beat(&mut client, 1, &join("")).await;
    assert_eq!(refused.error, ErrorCode::InvalidRequest);
    assert_eq!(refused.message.as_deref(), Some("MemberId can't be empty."));
}

#[tokio::test]
async fn expressions_are_refused_with_a_sentence_and_find_topics() {
    let (_cluster, mut client, _) = room().await;
    let with = |regex| ConsumerGroupHeartbeatRequest {
        subscribed_topic_names: None,
        subscribed_topic_regex: Some(regex),
        ..join("a")
    };
    let refused = beat(&mut client, 1, &with("t(")).await;
    assert_eq!(refused.error, ErrorCode::InvalidRegularExpression);
    assert!(
        refused
            .message
            .unwrap()
            .contains("`t(` is not a valid regular expression")
    );
    let found = beat(&mut client, 1, &with("[s-u]")).await;
    assert_eq!(found.assignment.map(|all| all.len()), Some(4));
}

#[tokio::test]
async fn the_feature_of_groups_is_finalized() {
    let (_cluster, mut client, _) = room().await;
    let request = ApiVersionsRequest {
        client_software_name: "a",
        client_software_version: "1",
        ..Default::default()
    };
    let answer = client.call(4, &request).await;
    let response = answer.decode();
    let levels: Vec<_> = response
        .finalized_features
        .iter()
        .filter(|feature| feature.name == "group.version")
        .map(|feature| feature.max_version_level)
        .collect();
    assert_eq!(levels, [1]);
}
