//! Many clients at once, on several threads: nothing is lost, nothing waits for ever.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use ottla_protocol::messages::*;
use ottla_protocol::records::RecordBatches;
use ottla_protocol::{ErrorCode, Uuid};
use std::sync::Arc;
use support::*;

const WRITERS: usize = 4;
const BATCHES: usize = 300;

/// Reads with long polls that only an append can end, until `end` is reached; checks that offsets have no gap.
async fn read_until(cluster: Arc<Cluster>, partition: i32, end: i64) -> Vec<Vec<u8>> {
    let mut client = Client::connect(&cluster).await;
    let (mut offset, mut seen) = (0, Vec::new());
    while offset < end {
        let request = FetchRequest {
            max_wait_ms: 3_600_000,
            ..fetch_request("t", Uuid::ZERO, partition, offset)
        };
        let got = fetch_with(&mut client, 12, &request).await;
        assert_eq!(got.error, ErrorCode::None);
        for batch in RecordBatches::new(&got.records) {
            let batch = batch.unwrap();
            assert_eq!(batch.base_offset(), offset);
            offset = batch.next_offset();
            seen.push(batch.records_raw().to_vec());
        }
        assert!(
            got.high_watermark >= offset,
            "nothing above the high watermark is shown"
        );
    }
    seen
}

async fn write(cluster: Arc<Cluster>, partition: i32, writer: usize) {
    let mut client = Client::connect(&cluster).await;
    let mut last = -1;
    for number in 0..BATCHES {
        let value = format!("{writer} {number}");
        let (error, offset) = produce(&mut client, "t", partition, &batch(&[value.as_bytes()])).await;
        assert_eq!(error, ErrorCode::None);
        assert!(offset > last, "one writer's offsets ascend");
        last = offset;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn parked_readers_see_every_batch_of_all_writers_in_one_order() {
    let cluster = Arc::new(Cluster::start().await.unwrap());
    create_topic(&mut Client::connect(&cluster).await, "t", 2, &[]).await;
    let end = (WRITERS * BATCHES) as i64;
    let readers: Vec<_> = [0, 0, 1, 1]
        .map(|p| tokio::spawn(read_until(Arc::clone(&cluster), p, end)))
        .into();
    let writers = (0..2 * WRITERS).map(|writer| tokio::spawn(write(Arc::clone(&cluster), (writer % 2) as i32, writer)));
    for writer in writers.collect::<Vec<_>>() {
        writer.await.unwrap();
    }
    let mut seen = Vec::new();
    for reader in readers {
        seen.push(reader.await.unwrap());
    }
    assert!(
        seen[0] == seen[1] && seen[2] == seen[3],
        "readers of one partition see the same"
    );
    assert!(seen.iter().all(|seen| seen.len() == WRITERS * BATCHES));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn topics_come_and_go_under_writers_and_readers() {
    let cluster = Arc::new(Cluster::start().await.unwrap());
    let churn = {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            let mut client = Client::connect(&cluster).await;
            for _ in 0..20 {
                create_topic(&mut client, "t", 2, &[]).await;
                produce(&mut client, "t", 0, &batch(&[b"first"])).await;
                let topic_names = vec!["t"];
                let delete = DeleteTopicsRequest {
                    topic_names,
                    timeout_ms: 10_000,
                    ..Default::default()
                };
                assert_eq!(client.call(5, &delete).await.decode().responses[0].error_code, 0);
            }
        })
    };
    let busy = |write: bool| {
        let cluster = Arc::clone(&cluster);
        tokio::spawn(async move {
            let mut client = Client::connect(&cluster).await;
            loop {
                let error = match write {
                    true => produce(&mut client, "t", 1, &batch(&[b"x"])).await.0,
                    false => fetch(&mut client, "t", 1, 0).await.error,
                };
                let expected = [
                    ErrorCode::None,
                    ErrorCode::UnknownTopicOrPartition,
                    ErrorCode::NotLeaderOrFollower,
                ];
                assert!(expected.contains(&error), "{error:?}");
            }
        })
    };
    let busy = [busy(true), busy(true), busy(false), busy(false)];
    churn.await.unwrap();
    for task in busy {
        assert!(
            !task.is_finished(),
            "a writer or reader met an error that it should not"
        );
        task.abort();
    }
}
