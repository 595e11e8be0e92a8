//! Consumer groups over the wire: each API in every version it is served in, and what survives an end of the broker.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::*;
use ottla_protocol::{ErrorCode, Uuid};
use std::time::Duration;
use support::{Client, PATIENCE, batch, create_topic, produce};

const METADATA: &[u8] = &[0, 1, 0, 0, 0, 1, 0, 1, b't', 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0];

/// A cluster with the topic `t` of two partitions, and a connection to it that has found the coordinator.
async fn room() -> (Cluster, Client, Uuid) {
    room_with(&[]).await
}

async fn room_with(properties: &[(&str, &str)]) -> (Cluster, Client, Uuid) {
    let mut builder = Cluster::builder();
    for (key, value) in properties {
        builder = builder.property(*key, *value);
    }
    let cluster = builder.start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 2, &[]).await;
    ready(&mut client, "g").await;
    (cluster, client, id)
}

/// Finds the coordinator of a group, and waits until it is at work.
async fn ready(client: &mut Client, group: &str) {
    let request = FindCoordinatorRequest {
        coordinator_keys: vec![group],
        ..Default::default()
    };
    let found = client.call(6, &request).await;
    assert_eq!(found.decode().coordinators[0].error_code, 0);
    let wait = async {
        while fetch(client, 7, group, &[0]).await.0 == ErrorCode::CoordinatorLoadInProgress {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("the group is loaded");
}

struct Joined {
    error: ErrorCode,
    member_id: String,
    generation: i32,
    leads: bool,
}

async fn join(client: &mut Client, version: i16, member_id: &str) -> Joined {
    let protocol = JoinGroupRequestProtocol {
        name: "range",
        metadata: METADATA,
    };
    let request = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 30_000,
        rebalance_timeout_ms: if version == 0 { -1 } else { 60_000 },
        member_id,
        protocol_type: "consumer",
        protocols: vec![protocol],
        reason: (version >= 8).then_some("a test"),
        ..Default::default()
    };
    let answer = client.call(version, &request).await;
    let response = answer.decode();
    Joined {
        error: ErrorCode::from_code(response.error_code).unwrap(),
        member_id: response.member_id.to_owned(),
        generation: response.generation_id,
        leads: response.leader == response.member_id && response.members.len() == 1,
    }
}

/// The only member of `g`, stable, with `assignment`.
async fn enter(client: &mut Client, version: i16, assignment: &[u8]) -> Joined {
    let mut joined = join(client, version, "").await;
    if version >= 4 {
        assert_eq!(joined.error, ErrorCode::MemberIdRequired, "version {version}");
        joined = join(client, version, &joined.member_id).await;
    }
    assert_eq!(joined.error, ErrorCode::None, "version {version}");
    assert!(joined.leads, "version {version}");
    let sync_version = version.min(5);
    let named = |name| (sync_version >= 5).then_some(name);
    let request = SyncGroupRequest {
        group_id: "g",
        generation_id: joined.generation,
        member_id: &joined.member_id,
        protocol_type: named("consumer"),
        protocol_name: named("range"),
        assignments: vec![SyncGroupRequestAssignment {
            member_id: &joined.member_id,
            assignment,
        }],
        ..Default::default()
    };
    let answer = client.call(sync_version, &request).await;
    let response = answer.decode();
    assert_eq!(response.error_code, 0, "version {sync_version}");
    assert_eq!(response.assignment, assignment);
    joined
}

async fn heartbeat(client: &mut Client, version: i16, member: &Joined) -> ErrorCode {
    let request = HeartbeatRequest {
        group_id: "g",
        generation_id: member.generation,
        member_id: &member.member_id,
        ..Default::default()
    };
    let answer = client.call(version, &request).await;
    ErrorCode::from_code(answer.decode().error_code).unwrap()
}

async fn leave(client: &mut Client, version: i16, member_id: &str) -> ErrorCode {
    let request = if version < 3 {
        LeaveGroupRequest {
            group_id: "g",
            member_id,
            ..Default::default()
        }
    } else {
        LeaveGroupRequest {
            group_id: "g",
            members: vec![MemberIdentity {
                member_id,
                ..Default::default()
            }],
            ..Default::default()
        }
    };
    let answer = client.call(version, &request).await;
    let response = answer.decode();
    let code = response
        .members
        .first()
        .map_or(response.error_code, |member| member.error_code);
    ErrorCode::from_code(code).unwrap()
}

/// Commits for a partition of `t`, as a member or, without one, as nobody.
async fn commit(
    client: &mut Client,
    version: i16,
    (group, topic_id): (&str, Uuid),
    member: Option<&Joined>,
    (partition, offset): (i32, i64),
) -> ErrorCode {
    let request = OffsetCommitRequest {
        group_id: group,
        generation_id_or_member_epoch: member.map_or(-1, |member| member.generation),
        member_id: member.map_or("", |member| &member.member_id),
        topics: vec![OffsetCommitRequestTopic {
            name: if version < 10 { "t" } else { "" },
            topic_id: if version < 10 { Uuid::ZERO } else { topic_id },
            partitions: vec![OffsetCommitRequestPartition {
                partition_index: partition,
                committed_offset: offset,
                committed_leader_epoch: if version >= 6 { 3 } else { -1 },
                committed_metadata: Some("words"),
            }],
        }],
        ..Default::default()
    };
    let answer = client.call(version, &request).await;
    let response = answer.decode();
    assert_eq!(
        response.topics[0].topic_id,
        if version < 10 { Uuid::ZERO } else { topic_id }
    );
    ErrorCode::from_code(response.topics[0].partitions[0].error_code).unwrap()
}

/// The error, and partition, offset, leader epoch and metadata of what was asked for, in versions 1 to 9.
async fn fetch(
    client: &mut Client,
    version: i16,
    group: &str,
    partitions: &[i32],
) -> (ErrorCode, Vec<(i32, i64, i32, String)>) {
    let request = if version < 8 {
        OffsetFetchRequest {
            group_id: group,
            topics: Some(vec![OffsetFetchRequestTopic {
                name: "t",
                partition_indexes: partitions.to_vec(),
            }]),
            ..Default::default()
        }
    } else {
        OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: group,
                member_epoch: -1,
                topics: Some(vec![OffsetFetchRequestTopics {
                    name: "t",
                    partition_indexes: partitions.to_vec(),
                    ..Default::default()
                }]),
                ..Default::default()
            }],
            ..Default::default()
        }
    };
    let answer = client.call(version, &request).await;
    let response = answer.decode();
    let mut found = Vec::new();
    let mut error = response.error_code;
    for part in response.topics.iter().flat_map(|topic| &topic.partitions) {
        error = error.max(part.error_code);
        let metadata = part.metadata.unwrap_or_default().to_owned();
        found.push((
            part.partition_index,
            part.committed_offset,
            part.committed_leader_epoch,
            metadata,
        ));
    }
    for group in &response.groups {
        error = error.max(group.error_code);
        for part in group.topics.iter().flat_map(|topic| &topic.partitions) {
            let metadata = part.metadata.unwrap_or_default().to_owned();
            found.push((
                part.partition_index,
                part.committed_offset,
                part.committed_leader_epoch,
                metadata,
            ));
        }
    }
    (ErrorCode::from_code(error).unwrap(), found)
}

async fn committed(client: &mut Client, group: &str, partition: i32) -> i64 {
    let (error, found) = fetch(client, 8, group, &[partition]).await;
    assert_eq!(error, ErrorCode::None);
    found[0].1
}

#[tokio::test]
async fn the_coordinator_is_found_in_every_version() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let port = cluster.bootstrap_servers().rsplit(':').next().unwrap().parse().unwrap();
    for version in 0..=6 {
        let request = if version < 4 {
            FindCoordinatorRequest {
                key: "g",
                ..Default::default()
            }
        } else {
            FindCoordinatorRequest {
                coordinator_keys: vec!["g", ""],
                ..Default::default()
            }
        };
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        let (node, at) = match response.coordinators.first() {
            Some(one) => (one.node_id, one.port),
            None => (response.node_id, response.port),
        };
        assert_eq!((node, at), (1, port), "version {version}");
        if let Some(unnamed) = response.coordinators.get(1) {
            assert_eq!(unnamed.error_code, ErrorCode::InvalidGroupId.code());
        }
    }
    let image = cluster.broker().shared().unwrap().image();
    assert_eq!(image.topic("__consumer_offsets").unwrap().partitions.len(), 5);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_member_lives_its_life_in_every_version() {
    let (cluster, mut client, topic_id) = room().await;
    for version in 0..=9 {
        let member = enter(&mut client, version, b"all").await;
        assert_eq!(heartbeat(&mut client, version.min(4), &member).await, ErrorCode::None);
        let commits = (version + 1).clamp(2, 10);
        let offset = 100 + i64::from(version);
        let code = commit(&mut client, commits, ("g", topic_id), Some(&member), (0, offset)).await;
        assert_eq!(code, ErrorCode::None, "OffsetCommit {commits}");
        let fetches = version.max(1);
        let (error, found) = fetch(&mut client, fetches, "g", &[0, 1]).await;
        assert_eq!(error, ErrorCode::None, "OffsetFetch {fetches}");
        let epoch = if fetches >= 5 && commits >= 6 { 3 } else { -1 };
        let expected = [(0, offset, epoch, "words".to_owned()), (1, -1, -1, String::new())];
        assert_eq!(found, expected, "OffsetFetch {fetches}");
        let stale = Joined {
            generation: member.generation - 1,
            member_id: member.member_id.clone(),
            ..member
        };
        let code = commit(&mut client, commits, ("g", topic_id), Some(&stale), (0, 1)).await;
        assert_eq!(code, ErrorCode::IllegalGeneration);
        let leaves = version.min(5);
        assert_eq!(
            leave(&mut client, leaves, &member.member_id).await,
            ErrorCode::None,
            "LeaveGroup {leaves}"
        );
        assert_eq!(
            leave(&mut client, leaves, &member.member_id).await,
            ErrorCode::UnknownMemberId
        );
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn topics_go_by_their_ids_from_version_10_on() {
    let (cluster, mut client, topic_id) = room().await;
    assert_eq!(
        commit(&mut client, 10, ("g", topic_id), None, (1, 7)).await,
        ErrorCode::None
    );
    let nobody = Uuid::from_u128(99);
    assert_eq!(
        commit(&mut client, 10, ("g", nobody), None, (1, 7)).await,
        ErrorCode::UnknownTopicId
    );
    let topic = |topic_id| OffsetFetchRequestTopics {
        topic_id,
        partition_indexes: vec![1],
        ..Default::default()
    };
    for topics in [Some(vec![topic(topic_id), topic(nobody)]), None] {
        let everything = topics.is_none();
        let request = OffsetFetchRequest {
            groups: vec![OffsetFetchRequestGroup {
                group_id: "g",
                member_epoch: -1,
                topics,
                ..Default::default()
            }],
            ..Default::default()
        };
        let answer = client.call(10, &request).await;
        let topics = &answer.decode().groups[0].topics;
        assert_eq!(
            (topics[0].topic_id, topics[0].partitions[0].committed_offset),
            (topic_id, 7)
        );
        assert_eq!(topics.len(), if everything { 1 } else { 2 });
        if let Some(unknown) = topics.get(1) {
            assert_eq!(unknown.topic_id, nobody);
            assert_eq!(unknown.partitions[0].error_code, ErrorCode::UnknownTopicId.code());
        }
    }
    cluster.stop().await.unwrap();
}

/// The group `g` with its member, and a group that is not there.
async fn described_in_every_version(client: &mut Client) {
    for version in 0..=6 {
        let request = DescribeGroupsRequest {
            groups: vec!["g", "nobody"],
            ..Default::default()
        };
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        let group = &response.groups[0];
        assert_eq!(
            (group.group_state, group.protocol_type, group.protocol_data),
            ("Stable", "consumer", "range")
        );
        let shown = &group.members[0];
        assert_eq!((shown.client_id, shown.client_host), ("test", "/127.0.0.1"));
        assert_eq!(
            (shown.member_metadata, shown.member_assignment),
            (METADATA, b"all".as_slice())
        );
        let missing = &response.groups[1];
        assert_eq!(missing.group_state, "Dead");
        let expected = if version >= 6 {
            ErrorCode::GroupIdNotFound
        } else {
            ErrorCode::None
        };
        assert_eq!(missing.error_code, expected.code(), "version {version}");
    }
}

#[tokio::test]
async fn groups_are_listed_described_and_deleted_in_every_version() {
    let (cluster, mut client, topic_id) = room().await;
    let member = enter(&mut client, 9, b"all").await;
    assert_eq!(
        commit(&mut client, 9, ("simple", topic_id), None, (0, 5)).await,
        ErrorCode::None
    );
    for version in 0..=5 {
        let answer = client.call(version, &ListGroupsRequest::default()).await;
        let response = answer.decode();
        let mut groups: Vec<_> = response
            .groups
            .iter()
            .map(|group| (group.group_id, group.protocol_type))
            .collect();
        groups.sort_unstable();
        assert_eq!(groups, [("g", "consumer"), ("simple", "")], "version {version}");
    }
    let filtered = ListGroupsRequest {
        states_filter: vec!["stable"],
        types_filter: vec!["classic"],
    };
    let answer = client.call(5, &filtered).await;
    let response = answer.decode();
    let group = &response.groups[0];
    assert_eq!(
        (response.groups.len(), group.group_state, group.group_type),
        (1, "Stable", "Classic")
    );
    described_in_every_version(&mut client).await;
    for version in 0..=3 {
        let request = DeleteGroupsRequest {
            groups_names: vec!["g", "nobody"],
        };
        let answer = client.call(version, &request).await;
        let codes: Vec<_> = answer.decode().results.iter().map(|result| result.error_code).collect();
        let expected = [ErrorCode::NonEmptyGroup.code(), ErrorCode::GroupIdNotFound.code()];
        assert_eq!(codes, expected, "version {version}");
    }
    leave(&mut client, 5, &member.member_id).await;
    let request = DeleteGroupsRequest {
        groups_names: vec!["g", "simple"],
    };
    let answer = client.call(3, &request).await;
    assert!(answer.decode().results.iter().all(|result| result.error_code == 0));
    let answer = client.call(5, &ListGroupsRequest::default()).await;
    assert!(answer.decode().groups.is_empty());
    assert_eq!(committed(&mut client, "simple", 0).await, -1);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn offsets_are_deleted_unless_a_member_reads_the_topic() {
    let (cluster, mut client, topic_id) = room().await;
    let member = enter(&mut client, 9, b"all").await;
    assert_eq!(
        commit(&mut client, 9, ("g", topic_id), Some(&member), (0, 5)).await,
        ErrorCode::None
    );
    let delete = OffsetDeleteRequest {
        group_id: "g",
        topics: vec![OffsetDeleteRequestTopic {
            name: "t",
            partitions: [0, 9]
                .map(|partition_index| OffsetDeleteRequestPartition { partition_index })
                .to_vec(),
        }],
    };
    let unknown = ErrorCode::UnknownTopicOrPartition.code();
    for (stays, expected) in [
        (true, [ErrorCode::GroupSubscribedToTopic.code(), unknown]),
        (false, [0, unknown]),
    ] {
        if !stays {
            leave(&mut client, 5, &member.member_id).await;
        }
        let answer = client.call(0, &delete).await;
        let response = answer.decode();
        let codes: Vec<_> = response.topics[0]
            .partitions
            .iter()
            .map(|part| part.error_code)
            .collect();
        assert_eq!((response.error_code, codes), (0, expected.to_vec()));
        assert_eq!(committed(&mut client, "g", 0).await, if stays { 5 } else { -1 });
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_kill_and_so_do_the_members() {
    let data = tempfile::tempdir().unwrap();
    let start = || Cluster::builder().data_dir(data.path()).start();
    let cluster = start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let topic_id = create_topic(&mut client, "t", 2, &[]).await;
    ready(&mut client, "g").await;
    let member = enter(&mut client, 9, b"all").await;
    assert_eq!(
        commit(&mut client, 9, ("g", topic_id), Some(&member), (0, 41)).await,
        ErrorCode::None
    );
    assert_eq!(
        commit(&mut client, 9, ("g", topic_id), Some(&member), (0, 42)).await,
        ErrorCode::None
    );
    cluster.abort();

    let cluster = start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    ready(&mut client, "g").await;
    assert_eq!(committed(&mut client, "g", 0).await, 42);
    assert_eq!(heartbeat(&mut client, 4, &member).await, ErrorCode::None);
    assert_eq!(
        commit(&mut client, 9, ("g", topic_id), Some(&member), (0, 43)).await,
        ErrorCode::None
    );
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn offsets_of_a_deleted_topic_are_gone_when_it_is_created_again() {
    let (cluster, mut client, topic_id) = room().await;
    assert_eq!(
        commit(&mut client, 9, ("g", topic_id), None, (0, 5)).await,
        ErrorCode::None
    );
    let delete = DeleteTopicsRequest {
        topic_names: vec!["t"],
        timeout_ms: 10_000,
        ..Default::default()
    };
    assert_eq!(client.call(5, &delete).await.decode().responses[0].error_code, 0);
    let code = commit(&mut client, 9, ("g", topic_id), None, (0, 5)).await;
    assert_eq!(code, ErrorCode::UnknownTopicOrPartition);
    create_topic(&mut client, "t", 2, &[]).await;
    assert_eq!(committed(&mut client, "g", 0).await, -1);
    let answer = client.call(5, &ListGroupsRequest::default()).await;
    assert!(answer.decode().groups.is_empty(), "there is nothing left of the group");
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn nobody_else_writes_to_the_topic_of_the_groups() {
    let (cluster, mut client, _) = room().await;
    let (code, _) = produce(&mut client, "__consumer_offsets", 0, &batch(&[b"forged"])).await;
    assert_eq!(code, ErrorCode::InvalidTopicException);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_member_that_falls_silent_makes_room_without_being_asked() {
    let (cluster, mut client, _) = room_with(&[("group.min.session.timeout.ms", "1")]).await;
    let request = JoinGroupRequest {
        group_id: "g",
        session_timeout_ms: 20,
        rebalance_timeout_ms: 20,
        protocol_type: "consumer",
        protocols: vec![JoinGroupRequestProtocol {
            name: "range",
            metadata: METADATA,
        }],
        ..Default::default()
    };
    assert_eq!(client.call(3, &request).await.decode().error_code, 0);
    let describe = DescribeGroupsRequest {
        groups: vec!["g"],
        ..Default::default()
    };
    let empty = async {
        while client.call(5, &describe).await.decode().groups[0].group_state != "Empty" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, empty)
        .await
        .expect("the member is removed");
    cluster.stop().await.unwrap();
}
