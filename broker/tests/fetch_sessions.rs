//! Fetch sessions (KIP-227) and leader epochs (KIP-320) over the wire.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
use ottla_protocol::messages::offset_for_leader_epoch_request::{OffsetForLeaderPartition, OffsetForLeaderTopic};
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode, Uuid};
use support::*;

/// Id and epoch of a session; partitions with the offsets wanted; partitions forgotten.
struct Ask<'a> {
    session: (i32, i32),
    wanted: &'a [(i32, i64)],
    forgotten: &'a [i32],
}

fn ask<'a>(session: (i32, i32), wanted: &'a [(i32, i64)], forgotten: &'a [i32]) -> Ask<'a> {
    Ask {
        session,
        wanted,
        forgotten,
    }
}

fn request<'a>(topic: &'a str, id: Uuid, ask: &Ask<'_>) -> FetchRequest<'a> {
    let partition = |(partition, fetch_offset): &(i32, i64)| FetchPartition {
        partition: *partition,
        fetch_offset: *fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    let topics = FetchTopic {
        topic,
        topic_id: id,
        partitions: ask.wanted.iter().map(partition).collect(),
    };
    let forgotten = ForgottenTopic {
        topic,
        topic_id: id,
        partitions: ask.forgotten.to_vec(),
    };
    FetchRequest {
        session_id: ask.session.0,
        session_epoch: ask.session.1,
        topics: if ask.wanted.is_empty() { vec![] } else { vec![topics] },
        forgotten_topics_data: if ask.forgotten.is_empty() {
            vec![]
        } else {
            vec![forgotten]
        },
        max_bytes: 1 << 20,
        min_bytes: 0,
        max_wait_ms: 0,
        ..Default::default()
    }
}

/// Error, session id, and for each partition answered its high watermark and bytes of records.
type Told = (ErrorCode, i32, Vec<(i32, i64, usize)>);

async fn fetch_in(client: &mut Client, version: i16, id: Uuid, ask: Ask<'_>) -> Told {
    let id = if version >= 13 { id } else { Uuid::ZERO };
    let answer = client.call(version, &request("t", id, &ask)).await;
    let response = answer.decode();
    let partitions = response.responses.iter().flat_map(|topic| &topic.partitions);
    let told = partitions.map(|part| (part.partition_index, part.high_watermark, part.records.len()));
    let code = ErrorCode::from_code(response.error_code).unwrap();
    (code, response.session_id, told.collect())
}

#[tokio::test]
async fn within_a_session_only_news_are_answered_in_every_version() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 3, &[]).await;
    let (mut end, mut other) = (0, 0);
    for version in versions(ApiKey::Fetch).filter(|version| *version >= 7) {
        let all = [(0, end), (1, other), (2, 0)];
        let (code, session, told) = fetch_in(&mut client, version, id, ask((0, 0), &all, &[])).await;
        assert_eq!((code, told.len()), (ErrorCode::None, 3), "version {version}");
        assert!(session > 0, "version {version}");
        let told = fetch_in(&mut client, version, id, ask((session, 1), &[], &[])).await;
        assert_eq!(told, (ErrorCode::None, session, vec![]), "nothing has changed");

        let (_, offset) = produce(&mut client, "t", 0, &batch(&[b"one"])).await;
        assert_eq!(offset, end);
        let (_, _, told) = fetch_in(&mut client, version, id, ask((session, 2), &[], &[])).await;
        assert_eq!(told.len(), 1, "version {version}");
        assert!(told[0].0 == 0 && told[0].1 == end + 1 && told[0].2 > 0, "{told:?}");
        end += 1;
        let (_, _, told) = fetch_in(&mut client, version, id, ask((session, 3), &[(0, end)], &[1])).await;
        assert_eq!(told, [], "the client knows the high watermark");

        produce(&mut client, "t", 1, &batch(&[b"one"])).await;
        other += 1;
        let (_, _, told) = fetch_in(&mut client, version, id, ask((session, 4), &[], &[])).await;
        assert_eq!(told, [], "forgotten");
        let (code, ..) = fetch_in(&mut client, version, id, ask((session, 4), &[], &[])).await;
        assert_eq!(code, ErrorCode::InvalidFetchSessionEpoch);
        let (code, session_id, told) = fetch_in(&mut client, version, id, ask((session, -1), &[(0, end)], &[])).await;
        assert_eq!(
            (code, session_id, told.len()),
            (ErrorCode::None, 0, 1),
            "the session ends"
        );
        let (code, ..) = fetch_in(&mut client, version, id, ask((session, 5), &[], &[])).await;
        assert_eq!(code, ErrorCode::FetchSessionIdNotFound);
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_session_begun_with_names_does_not_go_on_with_ids() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 1, &[]).await;
    let (_, session, _) = fetch_in(&mut client, 12, id, ask((0, 0), &[(0, 0)], &[])).await;
    let (code, ..) = fetch_in(&mut client, 13, id, ask((session, 1), &[(0, 0)], &[])).await;
    assert_eq!(code, ErrorCode::FetchSessionTopicIdError);
}

#[tokio::test]
async fn a_deleted_topic_is_an_error_of_its_partition_each_time() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 1, &[]).await;
    let (_, session, _) = fetch_in(&mut client, 13, id, ask((0, 0), &[(0, 0)], &[])).await;
    let delete = DeleteTopicsRequest {
        topic_names: vec!["t"],
        timeout_ms: 5000,
        ..Default::default()
    };
    client.call(5, &delete).await;
    for epoch in 1..3 {
        let answer = client
            .call(13, &request("t", id, &ask((session, epoch), &[], &[])))
            .await;
        let response = answer.decode();
        let code = response.responses[0].partitions[0].error_code;
        assert_eq!(code, ErrorCode::UnknownTopicId.code());
    }
}

#[tokio::test]
async fn without_slots_every_fetch_is_answered_in_full() {
    let builder = Cluster::builder().property("max.incremental.fetch.session.cache.slots", "0");
    let cluster = builder.start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 2, &[]).await;
    for _ in 0..2 {
        let (code, session, told) = fetch_in(&mut client, 13, id, ask((0, 0), &[(0, 0), (1, 0)], &[])).await;
        assert_eq!((code, session, told.len()), (ErrorCode::None, 0, 2));
    }
}

#[tokio::test]
async fn the_end_of_a_leader_epoch_is_told_in_every_version() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", 0, &batch(&[b"one", b"two"])).await;
    for version in versions(ApiKey::OffsetForLeaderEpoch) {
        for (partition, mine, asked, expected) in [
            (0, -1, 0, (ErrorCode::None, 0, 2)),
            (0, 0, 0, (ErrorCode::None, 0, 2)),
            (0, -1, 7, (ErrorCode::None, -1, -1)),
            (0, 9, 0, (ErrorCode::UnknownLeaderEpoch, -1, -1)),
            (5, -1, 0, (ErrorCode::UnknownTopicOrPartition, -1, -1)),
        ] {
            let request = OffsetForLeaderEpochRequest {
                replica_id: -1,
                topics: vec![OffsetForLeaderTopic {
                    topic: "t",
                    partitions: vec![OffsetForLeaderPartition {
                        partition,
                        current_leader_epoch: mine,
                        leader_epoch: asked,
                    }],
                }],
            };
            let answer = client.call(version, &request).await;
            let response = answer.decode();
            let part = &response.topics[0].partitions[0];
            let told = (
                ErrorCode::from_code(part.error_code).unwrap(),
                part.leader_epoch,
                part.end_offset,
            );
            assert_eq!(told, expected, "version {version}, {partition} {mine} {asked}");
        }
    }
}
