//! Produce, Fetch and ListOffsets over the wire, as clients of all ages speak them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use bytes::Bytes;
use ottla_broker::Cluster;
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::*;
use ottla_protocol::records::{Compression, RecordBatch, RecordBatches};
use ottla_protocol::{ApiKey, ErrorCode, Uuid};
use std::time::Duration;
use support::*;
use tokio::time::{Instant, timeout};

async fn broker() -> (Cluster, Client) {
    let cluster = Cluster::start().await.unwrap();
    let client = Client::connect(&cluster).await;
    (cluster, client)
}

fn offsets(records: &[u8]) -> Vec<(i64, i64)> {
    RecordBatches::new(records)
        .map(|batch| batch.unwrap())
        .map(|batch| (batch.base_offset(), batch.last_offset()))
        .collect()
}

#[tokio::test]
async fn what_is_produced_is_fetched_in_every_version() {
    let (cluster, mut client) = broker().await;
    let id = create_topic(&mut client, "t", 1, &[]).await;
    let sent = batch(&[b"one", b"two"]);
    let mut end = 0;
    for version in versions(ApiKey::Produce) {
        let request = produce_request("t", id, 0, -1, sent.to_vec().into());
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        let part = &response.responses[0].partition_responses[0];
        assert_eq!((part.error_code, part.base_offset), (0, end), "version {version}");
        assert_eq!(part.log_append_time_ms, -1);
        end += 2;
    }
    for version in versions(ApiKey::Fetch) {
        let got = fetch_with(&mut client, version, &fetch_request("t", id, 0, 0)).await;
        assert_eq!(
            (got.error, got.high_watermark),
            (ErrorCode::None, end),
            "version {version}"
        );
        let (first, _) = RecordBatch::parse(&got.records).unwrap();
        first.verify_crc().unwrap();
        assert_eq!(first.records_raw(), &sent.body()[..]);
        assert_eq!(offsets(&got.records).last(), Some(&(end - 2, end - 1)));
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn trap_1_produce_is_announced_from_version_0_and_refused_below_3() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    let answer = client.call(0, &ApiVersionsRequest::default()).await;
    let row = answer
        .decode()
        .api_keys
        .iter()
        .find(|row| row.api_key == 0)
        .cloned()
        .unwrap();
    assert_eq!((row.min_version, row.max_version), (0, 13));
    for version in 0..=2 {
        // acks 1, timeout, one topic "t", one partition 0, no records
        let body = [&[
            0, 1, 0, 0, 0, 9, 0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0,
        ][..]]
        .concat();
        client.send_frame(0, version, 77, &body).await;
        let frame = client.frame().await.unwrap();
        assert_eq!(&frame[..4], &77_i32.to_be_bytes());
        let expected = [0, 0, 0, 1, 0, 1, b't', 0, 0, 0, 1, 0, 0, 0, 0, 0, 35];
        assert_eq!(&frame[4..4 + expected.len()], &expected, "version {version}");
    }
}

#[tokio::test]
async fn trap_2_an_unknown_apiversions_version_gets_version_0_with_the_list() {
    let (_cluster, mut client) = broker().await;
    client.send_frame(18, 99, 5, &[]).await;
    let answer = client.receive::<ApiVersionsRequest<'_>>(0).await;
    assert_eq!(answer.correlation_id(), 5);
    let response = answer.decode();
    assert_eq!(response.error_code, ErrorCode::UnsupportedVersion.code());
    assert_eq!(response.api_keys.len(), ottla_broker::served_apis().len());
    // The connection is still good.
    let answer = client.call(4, &named_api_versions()).await;
    assert_eq!(answer.decode().error_code, 0);
}

fn named_api_versions() -> ApiVersionsRequest<'static> {
    ApiVersionsRequest {
        client_software_name: "test",
        client_software_version: "1.0",
        ..Default::default()
    }
}

#[tokio::test]
async fn features_that_are_not_done_are_not_announced() {
    let (_cluster, mut client) = broker().await;
    for version in 3..=5 {
        let answer = client.call(version, &named_api_versions()).await;
        let response = answer.decode();
        let finalized: Vec<_> = response.finalized_features.iter().map(|feature| feature.name).collect();
        assert_eq!(finalized, ["metadata.version", "group.version"], "version {version}");
        assert!(response.finalized_features_epoch >= 0);
    }
}

#[tokio::test]
async fn a_client_of_another_cluster_is_told_to_bootstrap_again() {
    let (_cluster, mut client) = broker().await;
    let stranger = ApiVersionsRequest {
        cluster_id: Some("elsewhere"),
        node_id: 1,
        ..named_api_versions()
    };
    let answer = client.call(5, &stranger).await;
    assert_eq!(answer.decode().error_code, ErrorCode::RebootstrapRequired.code());
    let answer = client.call(5, &named_api_versions()).await;
    assert_eq!(answer.decode().error_code, 0);
}

#[tokio::test]
async fn trap_3_a_fetch_into_a_batch_returns_the_whole_batch() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", 0, &batch(&[b"a", b"b", b"c"])).await;
    produce(&mut client, "t", 0, &batch(&[b"d"])).await;
    let got = fetch(&mut client, "t", 0, 1).await;
    assert_eq!(offsets(&got.records), [(0, 2), (3, 3)]);
}

#[tokio::test]
async fn trap_4_a_fetch_answers_within_max_wait_when_nothing_arrives() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    let request = FetchRequest {
        max_wait_ms: 50,
        ..fetch_request("t", Uuid::ZERO, 0, 0)
    };
    let started = Instant::now();
    let got = fetch_with(&mut client, 12, &request).await;
    assert!(started.elapsed() >= Duration::from_millis(50));
    assert_eq!((got.error, got.records.len()), (ErrorCode::None, 0));
}

#[tokio::test]
async fn trap_5_no_records_are_empty_bytes_and_not_null() {
    let (_cluster, mut client) = broker().await;
    let id = create_topic(&mut client, "t", 1, &[]).await;
    for version in versions(ApiKey::Fetch) {
        // `fetched` asserts that the field is not null: at the end of the log, beyond it, and for an unknown partition.
        let got = fetch_with(&mut client, version, &fetch_request("t", id, 0, 0)).await;
        assert_eq!((got.error, got.records.len()), (ErrorCode::None, 0));
        let got = fetch_with(&mut client, version, &fetch_request("t", id, 0, 5)).await;
        assert_eq!((got.error, got.high_watermark), (ErrorCode::OffsetOutOfRange, -1));
        let got = fetch_with(&mut client, version, &fetch_request("t", id, 7, 0)).await;
        assert_eq!(got.error, ErrorCode::UnknownTopicOrPartition);
    }
}

#[tokio::test]
async fn a_parked_fetch_is_woken_by_an_append() {
    let (cluster, mut reader) = broker().await;
    let mut writer = Client::connect(&cluster).await;
    create_topic(&mut writer, "t", 2, &[]).await;
    let request = FetchRequest {
        max_wait_ms: 3_600_000,
        ..fetch_request("t", Uuid::ZERO, 0, 0)
    };
    for round in 0..50 {
        let wanted = FetchRequest {
            topics: vec![FetchTopic {
                topic: "t",
                partitions: both(round),
                ..Default::default()
            }],
            ..request.clone()
        };
        reader.send(12, &wanted).await;
        if round % 2 == 0 {
            // Half of the time the fetch is surely parked before the append.
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        produce(&mut writer, "t", 1, &batch(&[b"x"])).await;
        let answer = reader.receive::<FetchRequest<'_>>(12).await;
        let response = answer.decode();
        assert_eq!(
            response.responses[0].partitions[1].records.len(),
            batch(&[b"x"]).len(),
            "round {round}"
        );
    }
}

fn both(offset: i64) -> Vec<FetchPartition> {
    let part = |partition, fetch_offset| FetchPartition {
        partition,
        fetch_offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    vec![part(0, 0), part(1, offset)]
}

#[tokio::test]
async fn a_parked_fetch_waits_for_min_bytes() {
    let (cluster, mut reader) = broker().await;
    let mut writer = Client::connect(&cluster).await;
    create_topic(&mut writer, "t", 1, &[]).await;
    let one = batch(&[b"x"]);
    let min_bytes = i32::try_from(one.len() * 3).unwrap();
    let request = FetchRequest {
        max_wait_ms: 3_600_000,
        min_bytes,
        ..fetch_request("t", Uuid::ZERO, 0, 0)
    };
    reader.send(12, &request).await;
    for _ in 0..2 {
        produce(&mut writer, "t", 0, &one).await;
    }
    assert!(
        timeout(Duration::from_millis(50), reader.stream.readable())
            .await
            .is_err(),
        "two of three are not enough"
    );
    produce(&mut writer, "t", 0, &one).await;
    let got = fetched(&reader.receive(12).await);
    assert_eq!(got.records.len(), one.len() * 3);
}

#[tokio::test]
async fn a_parked_fetch_is_answered_when_its_topic_is_deleted() {
    let (cluster, mut reader) = broker().await;
    let mut admin = Client::connect(&cluster).await;
    create_topic(&mut admin, "t", 1, &[]).await;
    let request = FetchRequest {
        max_wait_ms: 3_600_000,
        ..fetch_request("t", Uuid::ZERO, 0, 0)
    };
    reader.send(12, &request).await;
    let delete = DeleteTopicsRequest {
        topic_names: vec!["t"],
        timeout_ms: 1_000,
        ..Default::default()
    };
    admin.call(5, &delete).await;
    let got = fetched(&reader.receive(12).await);
    assert!(
        matches!(
            got.error,
            ErrorCode::NotLeaderOrFollower | ErrorCode::UnknownTopicOrPartition
        ),
        "{:?}",
        got.error
    );
}

#[tokio::test]
async fn limits_are_obeyed_but_the_first_batch_always_comes() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 2, &[]).await;
    let large = batch(&[&[7; 5_000]]);
    for partition in [0, 0, 1] {
        produce(&mut client, "t", partition, &large).await;
    }
    let part = |partition, partition_max_bytes| FetchPartition {
        partition,
        partition_max_bytes,
        ..Default::default()
    };
    let ask = async |client: &mut Client, max_bytes, parts: Vec<FetchPartition>| {
        let topics = vec![FetchTopic {
            topic: "t",
            partitions: parts,
            ..Default::default()
        }];
        let request = FetchRequest {
            max_bytes,
            min_bytes: 1,
            topics,
            ..Default::default()
        };
        let answer = client.call(12, &request).await;
        let response = answer.decode();
        response.responses[0]
            .partitions
            .iter()
            .map(|part| part.records.len())
            .collect::<Vec<_>>()
    };
    let one = large.len();
    let limit = i32::try_from(one).unwrap();
    assert_eq!(
        ask(&mut client, i32::MAX, vec![part(0, i32::MAX), part(1, i32::MAX)]).await,
        [2 * one, one]
    );
    assert_eq!(
        ask(&mut client, i32::MAX, vec![part(0, limit), part(1, limit)]).await,
        [one, one]
    );
    assert_eq!(ask(&mut client, 1, vec![part(0, 1), part(1, 1)]).await, [one, 0]);
    assert_eq!(
        ask(&mut client, 2 * limit, vec![part(0, limit), part(1, limit)]).await,
        [one, one]
    );
    assert_eq!(
        ask(&mut client, 2 * limit - 1, vec![part(0, limit), part(1, limit)]).await,
        [one, 0]
    );
}

#[tokio::test]
async fn acks_0_is_not_answered_and_a_failure_closes_the_connection() {
    let (cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    let records: Bytes = batch(&[b"a"]).to_vec().into();
    client
        .send(9, &produce_request("t", Uuid::ZERO, 0, 0, records.clone()))
        .await;
    // The next answer belongs to the next request.
    let (error, offset) = produce(&mut client, "t", 0, &batch(&[b"b"])).await;
    assert_eq!((error, offset), (ErrorCode::None, 1));
    let mut doomed = Client::connect(&cluster).await;
    doomed
        .send(9, &produce_request("unknown", Uuid::ZERO, 0, 0, records))
        .await;
    assert!(doomed.is_closed().await);
}

#[tokio::test]
async fn wrong_acks_are_refused_and_nothing_is_written() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    for acks in [2, -2, 100] {
        let request = produce_request("t", Uuid::ZERO, 0, acks, batch(&[b"a"]).to_vec().into());
        let answer = client.call(9, &request).await;
        let part = &answer.decode().responses[0].partition_responses[0];
        assert_eq!(
            ErrorCode::from_code(part.error_code),
            Some(ErrorCode::InvalidRequiredAcks)
        );
    }
    assert_eq!(fetch(&mut client, "t", 0, 0).await.high_watermark, 0);
}

#[tokio::test]
async fn too_few_in_sync_replicas_refuse_acks_all_only() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[("min.insync.replicas", "2")]).await;
    let (error, _) = produce(&mut client, "t", 0, &batch(&[b"a"])).await;
    assert_eq!(error, ErrorCode::NotEnoughReplicas);
    let request = produce_request("t", Uuid::ZERO, 0, 1, batch(&[b"a"]).to_vec().into());
    let answer = client.call(9, &request).await;
    let part = &answer.decode().responses[0].partition_responses[0];
    assert_eq!((part.error_code, part.base_offset), (0, 0));
}

#[tokio::test]
async fn trap_8_a_batch_above_max_message_bytes_is_too_large() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[("max.message.bytes", "1000")]).await;
    let (error, offset) = produce(&mut client, "t", 0, &batch(&[&[1; 2_000]])).await;
    assert_eq!((error, offset), (ErrorCode::MessageTooLarge, -1));
    let (error, _) = produce(&mut client, "t", 0, &batch(&[&[1; 500]])).await;
    assert_eq!(error, ErrorCode::None);
}

#[tokio::test]
async fn trap_8_offsets_are_listed_by_time() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    assert_eq!(
        list_offsets(&mut client, 7, "t", -3).await,
        Ok((-1, -1, -1)),
        "an empty log has no largest timestamp"
    );
    for time in [1_000, 3_000, 2_000] {
        produce(&mut client, "t", 0, &batch_at(time, &[b"a", b"b"])).await;
    }
    for version in versions(ApiKey::ListOffsets) {
        let epoch = if version >= 4 { 0 } else { -1 };
        let mut ask = async |timestamp| list_offsets(&mut client, version, "t", timestamp).await;
        assert_eq!(ask(-2).await, Ok((0, -1, epoch)), "earliest, version {version}");
        assert_eq!(ask(-1).await, Ok((6, -1, epoch)), "latest, version {version}");
        assert_eq!(ask(0).await, Ok((0, 1_000, epoch)));
        assert_eq!(ask(1_001).await, Ok((1, 1_001, epoch)));
        assert_eq!(ask(1_500).await, Ok((2, 3_000, epoch)));
        assert_eq!(ask(3_002).await, Ok((-1, -1, -1)));
        let since = |first, found| {
            if version >= first {
                Ok(found)
            } else {
                Err(ErrorCode::UnsupportedVersion)
            }
        };
        assert_eq!(ask(-3).await, since(7, (3, 3_001, epoch)), "maximum, version {version}");
        assert_eq!(ask(-4).await, since(8, (0, -1, epoch)));
        assert_eq!(ask(-5).await, since(9, (-1, -1, -1)));
        assert_eq!(ask(-6).await, since(11, (-1, -1, -1)));
        assert_eq!(ask(-7).await, Err(ErrorCode::UnsupportedVersion));
    }
}

#[tokio::test]
async fn records_that_are_to_blame_are_listed() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[("message.timestamp.before.max.ms", "1000")]).await;
    let request = produce_request("t", Uuid::ZERO, 0, -1, batch_at(7, &[b"a", b"b"]).to_vec().into());
    for (version, blamed) in [(7, &[][..]), (8, &[0, 1]), (9, &[0, 1])] {
        let answer = client.call(version, &request).await;
        let response = answer.decode();
        let part = &response.responses[0].partition_responses[0];
        assert_eq!(ErrorCode::from_code(part.error_code), Some(ErrorCode::InvalidTimestamp));
        assert_eq!(
            part.record_errors
                .iter()
                .map(|error| error.batch_index)
                .collect::<Vec<_>>(),
            blamed
        );
        assert_eq!(part.error_message.is_some(), version >= 8);
    }
}

#[tokio::test]
async fn trap_9_an_unknown_producer_may_begin_at_any_sequence() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    let with = |sequence| {
        let mut sealed = batch(&[b"a"]);
        sealed.stamp(4_711, 0, sequence, false);
        sealed
    };
    assert_eq!(produce(&mut client, "t", 0, &with(41)).await, (ErrorCode::None, 0));
    assert_eq!(produce(&mut client, "t", 0, &with(42)).await, (ErrorCode::None, 1));
    assert_eq!(
        produce(&mut client, "t", 0, &with(41)).await,
        (ErrorCode::None, 0),
        "a repeat gets the first offset"
    );
    let (error, _) = produce(&mut client, "t", 0, &with(44)).await;
    assert_eq!(error, ErrorCode::OutOfOrderSequenceNumber);
    assert_eq!(fetch(&mut client, "t", 0, 0).await.high_watermark, 2);
}

#[tokio::test]
async fn a_transactional_batch_is_refused_with_a_text() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    let mut sealed = batch(&[b"a"]);
    sealed.stamp(1, 0, 0, true);
    let request = produce_request("t", Uuid::ZERO, 0, -1, sealed.to_vec().into());
    let answer = client.call(9, &request).await;
    let response = answer.decode();
    let part = &response.responses[0].partition_responses[0];
    assert_eq!(ErrorCode::from_code(part.error_code), Some(ErrorCode::InvalidTxnState));
    assert!(part.error_message.unwrap().contains("transaction"));
}

#[tokio::test]
async fn damaged_and_misshapen_batches_are_refused() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[]).await;
    let good = batch(&[b"abcdef"]).to_vec();
    let mut flipped = good.clone();
    *flipped.last_mut().unwrap() ^= 1;
    let mut old = good.clone();
    old[16] = 1;
    for (records, code) in [
        (flipped, ErrorCode::CorruptMessage),
        (good[..good.len() - 1].to_vec(), ErrorCode::CorruptMessage),
        ([good.clone(), good.clone()].concat(), ErrorCode::InvalidRecord),
        (old, ErrorCode::UnsupportedForMessageFormat),
        (Vec::new(), ErrorCode::InvalidRecord),
    ] {
        let (error, offset) = produce_bytes(&mut client, 9, "t", 0, records).await;
        assert_eq!((error, offset), (code, -1));
    }
    let zstd = compressed(Compression::Zstd, 1, &[b"z"]).to_vec();
    let (error, _) = produce_bytes(&mut client, 6, "t", 0, zstd.clone()).await;
    assert_eq!(error, ErrorCode::UnsupportedCompressionType);
    let (error, offset) = produce_bytes(&mut client, 7, "t", 0, zstd).await;
    assert_eq!((error, offset), (ErrorCode::None, 0));
}

#[tokio::test]
async fn leader_epochs_of_the_past_and_the_future_are_told_apart() {
    let (_cluster, mut client) = broker().await;
    let id = create_topic(&mut client, "t", 1, &[]).await;
    let ask = async |client: &mut Client, epoch| {
        let mut request = fetch_request("t", id, 0, 0);
        request.topics[0].partitions[0].current_leader_epoch = epoch;
        fetch_with(client, 13, &request).await.error
    };
    assert_eq!(ask(&mut client, -1).await, ErrorCode::None);
    assert_eq!(ask(&mut client, 0).await, ErrorCode::None);
    assert_eq!(ask(&mut client, 9).await, ErrorCode::UnknownLeaderEpoch);
}

#[tokio::test]
async fn a_restart_begins_a_new_leader_epoch_and_fences_the_old_one() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder().data_dir(dir.path()).start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", 0, &batch(&[b"before"])).await;
    cluster.stop().await.unwrap();
    let cluster = Cluster::builder().data_dir(dir.path()).start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let mut request = fetch_request("t", id, 0, 0);
    request.topics[0].partitions[0].current_leader_epoch = 0;
    let answer = client.call(13, &request).await;
    let response = answer.decode();
    let part = &response.responses[0].partitions[0];
    assert_eq!(
        ErrorCode::from_code(part.error_code),
        Some(ErrorCode::FencedLeaderEpoch)
    );
    assert!(part.current_leader.leader_epoch > 0);
    let got = fetch(&mut client, "t", 0, 0).await;
    assert_eq!((got.error, got.high_watermark), (ErrorCode::None, 1));
}

#[tokio::test]
async fn trap_11_producer_state_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let with = |sequence| {
        let mut sealed = batch(&[b"a"]);
        sealed.stamp(4_711, 0, sequence, false);
        sealed
    };
    for (start, clean) in [(0, true), (1, false), (2, true)] {
        let cluster = Cluster::builder().data_dir(dir.path()).start().await.unwrap();
        let mut client = Client::connect(&cluster).await;
        if start == 0 {
            create_topic(&mut client, "t", 1, &[]).await;
        } else {
            let again = produce(&mut client, "t", 0, &with(start - 1)).await;
            assert_eq!(
                again,
                (ErrorCode::None, i64::from(start) - 1),
                "the repeat of a batch of the last run"
            );
        }
        assert_eq!(
            produce(&mut client, "t", 0, &with(start)).await,
            (ErrorCode::None, i64::from(start))
        );
        match clean {
            true => cluster.stop().await.unwrap(),
            false => cluster.abort(),
        }
    }
}

#[tokio::test]
async fn topics_are_found_by_id_alone_from_version_13() {
    let (_cluster, mut client) = broker().await;
    let id = create_topic(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", 0, &batch(&[b"a"])).await;
    assert_eq!(
        fetch_with(&mut client, 13, &fetch_request("", id, 0, 0))
            .await
            .high_watermark,
        1
    );
    let unknown = Uuid([9; 16]);
    assert_eq!(
        fetch_with(&mut client, 13, &fetch_request("t", unknown, 0, 0))
            .await
            .error,
        ErrorCode::UnknownTopicId
    );
    assert_eq!(
        fetch_with(&mut client, 12, &fetch_request("no", id, 0, 0)).await.error,
        ErrorCode::UnknownTopicOrPartition
    );
    let request = produce_request("t", unknown, 0, -1, batch(&[b"a"]).to_vec().into());
    let answer = client.call(13, &request).await;
    let part = &answer.decode().responses[0].partition_responses[0];
    assert_eq!(ErrorCode::from_code(part.error_code), Some(ErrorCode::UnknownTopicId));
}

#[tokio::test]
async fn log_append_time_is_told_and_stored() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[("message.timestamp.type", "LogAppendTime")]).await;
    let request = produce_request("t", Uuid::ZERO, 0, -1, batch_at(5, &[b"a"]).to_vec().into());
    let answer = client.call(9, &request).await;
    let time = answer.decode().responses[0].partition_responses[0].log_append_time_ms;
    assert!(time > 1_600_000_000_000);
    let got = fetch(&mut client, "t", 0, 0).await;
    let (stored, _) = RecordBatch::parse(&got.records).unwrap();
    stored.verify_crc().unwrap();
    assert_eq!(stored.max_timestamp(), time);
}

#[tokio::test]
async fn flush_messages_1_answers_after_the_disk() {
    let (_cluster, mut client) = broker().await;
    create_topic(&mut client, "t", 1, &[("flush.messages", "1")]).await;
    for offset in 0..3 {
        assert_eq!(
            produce(&mut client, "t", 0, &batch(&[b"a"])).await,
            (ErrorCode::None, offset)
        );
    }
}
