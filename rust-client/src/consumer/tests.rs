//! The consumer against a broker that follows a script.

mod fetch_sessions;
mod groups;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_protocol::messages::fetch_response::{
    AbortedTransaction, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode, Records};

use super::*;
use crate::tests::{Asked, Batch, FakeBroker, Reply, TOPIC_ID, metadata, transactions};

const PATIENCE: Duration = Duration::from_secs(20);

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// What a partition of the scripted broker answers to a fetch.
#[derive(Default, Clone)]
struct Data {
    error: i16,
    records: Vec<u8>,
    log_start: i64,
    high_watermark: i64,
    aborted: Vec<(i64, i64)>,
    /// Of the whole answer.
    throttle_ms: i32,
}

/// Answers a fetch: for every partition asked for, what `data` gives for its index and offset.
fn fetch_answer(asked: &Asked<'_>, data: impl Fn(i32, i64) -> Data) -> Reply {
    let request: FetchRequest<'_> = asked.request();
    let mut answers: BTreeMap<i32, Data> = BTreeMap::new();
    for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
        answers.insert(partition.partition, data(partition.partition, partition.fetch_offset));
    }
    let partitions = answers.iter().map(|(index, data)| PartitionData {
        partition_index: *index,
        error_code: data.error,
        high_watermark: data.high_watermark,
        log_start_offset: data.log_start,
        aborted_transactions: Some(
            data.aborted
                .iter()
                .map(|(producer_id, first_offset)| AbortedTransaction {
                    producer_id: *producer_id,
                    first_offset: *first_offset,
                })
                .collect(),
        ),
        records: Records::Slice(&data.records),
        ..Default::default()
    });
    let topic = FetchableTopicResponse {
        topic: if asked.version < 13 { "orders" } else { "" },
        topic_id: if asked.version < 13 {
            Default::default()
        } else {
            TOPIC_ID
        },
        partitions: partitions.collect(),
    };
    asked.answer(&FetchResponse {
        throttle_time_ms: answers.values().map(|data| data.throttle_ms).max().unwrap_or(0),
        responses: vec![topic],
        ..Default::default()
    })
}

/// A broker whose fetches are answered by `data`.
async fn broker(data: impl Fn(i32, i64) -> Data + Send + Sync + 'static) -> FakeBroker {
    FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Fetch => fetch_answer(asked, &data),
        _ => asked.usual(),
    })
    .await
}

/// The batches from `offset` on of a log of ten records in batches of `per_batch`.
fn log_from(offset: i64, per_batch: i64) -> Data {
    let first = offset - offset % per_batch;
    let batches = (first..10).step_by(usize::try_from(per_batch).unwrap());
    let records = batches
        .flat_map(|base| Batch::new(base, per_batch.min(10 - base)).bytes())
        .collect();
    Data {
        records,
        high_watermark: 10,
        ..Data::default()
    }
}

async fn consumer(broker: &FakeBroker, pairs: &[(&str, &str)]) -> Consumer {
    let mut builder = Consumer::builder()
        .bootstrap_servers(broker.address())
        .auto_offset_reset("earliest")
        .set("retry.backoff.ms", 10)
        .set("reconnect.backoff.ms", 10)
        .assign([tp(0)]);
    for (key, value) in pairs {
        builder = builder.set(key, value);
    }
    builder.build().await.unwrap()
}

async fn poll(consumer: &mut Consumer) -> Result<Vec<i64>> {
    let polled = tokio::time::timeout(PATIENCE, consumer.poll())
        .await
        .expect("records or an error in time");
    Ok(polled?
        .expect("an open consumer")
        .iter()
        .map(|record| record.offset())
        .collect())
}

#[tokio::test]
async fn polls_hand_over_what_is_there_and_move_the_position() {
    let broker = broker(|_, offset| log_from(offset, 4)).await;
    let mut consumer = consumer(&broker, &[("max.poll.records", "3")]).await;
    let mut all = Vec::new();
    for position in [3, 6, 9, 10] {
        all.extend(poll(&mut consumer).await.unwrap());
        assert_eq!(consumer.position(&tp(0)).await.unwrap(), position);
    }
    assert_eq!(all, (0..10).collect::<Vec<_>>());
    assert_eq!(consumer.lag(&tp(0)), Some(0));
    consumer.close(Duration::from_secs(10)).await;
}

#[tokio::test]
async fn a_dropped_poll_loses_nothing() {
    let broker = broker(|_, offset| log_from(offset, 1)).await;
    let mut consumer = consumer(&broker, &[("max.poll.records", "1")]).await;
    let mut all = Vec::new();
    while all.len() < 10 {
        // Dropped at once, at whatever stage it is.
        if let Ok(polled) = tokio::time::timeout(Duration::from_micros(50), consumer.poll()).await {
            all.extend(polled.unwrap().unwrap().iter().map(|record| record.offset()));
        }
    }
    assert_eq!(all, (0..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn seeks_count_at_once_and_older_data_is_dropped() {
    let broker = broker(|_, offset| log_from(offset, 5)).await;
    let mut consumer = consumer(&broker, &[("max.poll.records", "2")]).await;
    assert_eq!(poll(&mut consumer).await.unwrap(), [0, 1]);
    consumer.seek(&tp(0), 7).unwrap();
    assert_eq!(consumer.position(&tp(0)).await.unwrap(), 7);
    assert_eq!(poll(&mut consumer).await.unwrap(), [7, 8]);
    consumer.seek_to_beginning(&tp(0)).unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0, 1]);
    assert!(consumer.seek(&tp(1), 0).is_err() && consumer.seek(&tp(0), -1).is_err());
}

#[tokio::test]
async fn a_paused_partition_does_not_hold_up_the_others() {
    let broker = broker(|_, offset| log_from(offset, 1)).await;
    // Room for about one record: what is paused must make way.
    let mut consumer = consumer(&broker, &[("fetch.buffer.memory", "100"), ("max.poll.records", "1")]).await;
    consumer.assign(&[tp(0), tp(1)]).unwrap();
    consumer.pause(&[tp(0)]).unwrap();
    let mut got = Vec::new();
    while got.len() < 10 {
        let records = tokio::time::timeout(PATIENCE, consumer.poll())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(records.partitions(), [tp(1)]);
        got.extend(records.iter().map(|record| record.offset()));
    }
    assert_eq!(got, (0..10).collect::<Vec<_>>());
    consumer.resume(&[tp(0)]).unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
}

#[tokio::test]
async fn a_corrupt_batch_is_an_error_of_its_partition_and_the_position_stays() {
    let broker = broker(|partition, offset| {
        let mut data = log_from(offset, 5);
        if partition == 0 && offset < 5 {
            data.records[70] ^= 1;
        }
        data
    })
    .await;
    let mut consumer = consumer(&broker, &[]).await;
    let error = poll(&mut consumer).await.unwrap_err();
    assert_eq!(
        (error.kind(), error.partition(), error.offset()),
        (ErrorKind::Corrupt, Some(&tp(0)), Some(0))
    );
    assert_eq!(consumer.position(&tp(0)).await.unwrap(), 0);
    assert!(poll(&mut consumer).await.is_err(), "and again");
    consumer.seek(&tp(0), 5).unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [5, 6, 7, 8, 9]);
}

#[tokio::test]
async fn a_position_outside_the_log_follows_the_policy() {
    let script = |_, offset| match offset {
        0..4 => Data {
            error: ErrorCode::OffsetOutOfRange.code(),
            log_start: 4,
            ..Data::default()
        },
        _ => log_from(offset, 1),
    };
    let broker_ = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Fetch => fetch_answer(asked, script),
        ApiKey::ListOffsets if asked.before > 0 => {
            let partitions = vec![list_offsets_response::ListOffsetsPartitionResponse {
                offset: 4,
                ..Default::default()
            }];
            let topic = list_offsets_response::ListOffsetsTopicResponse {
                name: "orders",
                partitions,
            };
            asked.answer(&ListOffsetsResponse {
                topics: vec![topic],
                ..Default::default()
            })
        }
        _ => asked.usual(),
    })
    .await;
    let mut reset = consumer(&broker_, &[]).await;
    assert_eq!(poll(&mut reset).await.unwrap()[0], 4);
    let mut strict = consumer(&broker_, &[("auto.offset.reset", "none")]).await;
    let unplaced = poll(&mut strict).await.unwrap_err();
    assert_eq!(unplaced.kind(), ErrorKind::Offset, "{unplaced}");
    strict.seek(&tp(0), 2).unwrap();
    let outside = poll(&mut strict).await.unwrap_err();
    assert_eq!(
        (outside.code(), outside.offset()),
        (Some(ErrorCode::OffsetOutOfRange), Some(2)),
        "{outside}"
    );
    strict.seek(&tp(0), 4).unwrap();
    assert_eq!(poll(&mut strict).await.unwrap()[0], 4);
}

#[tokio::test]
async fn a_fenced_leader_epoch_is_answered_with_new_metadata() {
    let broker = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Fetch if asked.before < 2 => fetch_answer(asked, |_, _| Data {
            error: ErrorCode::FencedLeaderEpoch.code(),
            ..Data::default()
        }),
        ApiKey::Fetch => fetch_answer(asked, |_, offset| log_from(offset, 5)),
        ApiKey::Metadata => {
            let mut response = metadata(asked.port);
            response.topics[0].partitions[0].leader_epoch = 3 + i32::try_from(asked.before).unwrap();
            asked.answer(&response)
        }
        _ => asked.usual(),
    })
    .await;
    let mut consumer = consumer(&broker, &[]).await;
    assert_eq!(poll(&mut consumer).await.unwrap()[0], 0);
    assert!(broker.count(ApiKey::Metadata) > 2);
}

#[tokio::test]
async fn a_leader_that_moved_is_followed_without_asking_again() {
    let second = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::Fetch => fetch_answer(asked, |_, offset| log_from(offset, 10)),
        ApiKey::Metadata => Reply::Close(Vec::new()),
        _ => asked.usual(),
    })
    .await;
    let second_port = second.port;
    let first = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata => {
            let mut response = metadata(asked.port);
            let mut other = response.brokers[0].clone();
            (other.node_id, other.port) = (2, second_port.into());
            response.brokers.push(other);
            // What this broker believes is old, and stays so.
            asked.answer(&response)
        }
        ApiKey::Fetch => {
            let current_leader = LeaderIdAndEpoch {
                leader_id: 2,
                leader_epoch: 4,
            };
            let partition = PartitionData {
                error_code: ErrorCode::NotLeaderOrFollower.code(),
                current_leader,
                ..Default::default()
            };
            let topic = FetchableTopicResponse {
                topic: "",
                topic_id: TOPIC_ID,
                partitions: vec![partition],
            };
            let node_endpoints = vec![NodeEndpoint {
                node_id: 2,
                host: "127.0.0.1",
                port: second_port.into(),
                rack: None,
            }];
            asked.answer(&FetchResponse {
                responses: vec![topic],
                node_endpoints,
                ..Default::default()
            })
        }
        _ => asked.usual(),
    })
    .await;
    let mut consumer = consumer(&first, &[]).await;
    assert_eq!(poll(&mut consumer).await.unwrap().len(), 10);
    assert_eq!(first.count(ApiKey::Fetch), 1);
}

#[tokio::test]
async fn a_topic_created_anew_starts_over() {
    let recreated = Arc::new(Mutex::new(false));
    let (fetches, topics) = (recreated.clone(), recreated.clone());
    let broker = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Fetch if *fetches.lock().unwrap() => {
            let request: FetchRequest<'_> = asked.request();
            match request.topics[0].topic_id == TOPIC_ID {
                true => fetch_answer(asked, |_, _| Data {
                    error: ErrorCode::UnknownTopicId.code(),
                    ..Data::default()
                }),
                false => {
                    let mut data = log_from(request.topics[0].partitions[0].fetch_offset, 10);
                    data.high_watermark = 10;
                    let records = Records::Slice(&data.records);
                    let partition = PartitionData {
                        records,
                        high_watermark: 10,
                        ..Default::default()
                    };
                    let topic_id = request.topics[0].topic_id;
                    let topic = FetchableTopicResponse {
                        topic: "",
                        topic_id,
                        partitions: vec![partition],
                    };
                    asked.answer(&FetchResponse {
                        responses: vec![topic],
                        ..Default::default()
                    })
                }
            }
        }
        ApiKey::Fetch => fetch_answer(asked, |_, offset| log_from(offset, 10)),
        ApiKey::Metadata => {
            let mut response = metadata(asked.port);
            if *topics.lock().unwrap() {
                response.topics[0].topic_id.0[0] = 99;
            }
            asked.answer(&response)
        }
        _ => asked.usual(),
    })
    .await;
    let mut consumer = consumer(&broker, &[]).await;
    assert_eq!(poll(&mut consumer).await.unwrap().len(), 10);
    *recreated.lock().unwrap() = true;
    assert_eq!(
        poll(&mut consumer).await.unwrap()[0],
        0,
        "the old position means nothing in the new topic"
    );
}

#[tokio::test]
async fn a_broker_that_fails_every_fetch_is_told_once_and_asked_seldom() {
    let broker = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Fetch => asked.answer(&FetchResponse {
            error_code: 35,
            ..Default::default()
        }),
        _ => asked.usual(),
    })
    .await;
    let mut consumer = consumer(&broker, &[("retry.backoff.ms", "100")]).await;
    assert!(poll(&mut consumer).await.is_err());
    let quiet = consumer.poll_timeout(Duration::from_secs(1)).await.unwrap().unwrap();
    assert!(quiet.is_empty());
    assert!(broker.count(ApiKey::Fetch) < 20, "{}", broker.count(ApiKey::Fetch));
}

#[tokio::test]
async fn records_that_lead_nowhere_are_an_error_and_not_a_loop() {
    for data in [
        // Only records before the position, half a batch, garbage.
        Data {
            records: Batch::new(0, 2).bytes(),
            ..Data::default()
        },
        Data {
            records: Batch::new(5, 2).bytes()[..70].to_vec(),
            ..Data::default()
        },
        Data {
            records: vec![2; 100],
            ..Data::default()
        },
    ] {
        let broker = broker(move |_, _| data.clone()).await;
        let mut consumer = consumer(&broker, &[("retry.backoff.ms", "100")]).await;
        consumer.seek(&tp(0), 5).unwrap();
        let error = poll(&mut consumer).await.unwrap_err();
        assert_eq!(
            (error.kind(), error.partition()),
            (ErrorKind::Corrupt, Some(&tp(0))),
            "{error}"
        );
        assert_eq!(consumer.position(&tp(0)).await.unwrap(), 5);
        assert!(broker.count(ApiKey::Fetch) < 20);
    }
}

#[tokio::test]
async fn impossible_offsets_are_not_believed() {
    let broker = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::ListOffsets if asked.before == 0 => {
            let partitions = vec![list_offsets_response::ListOffsetsPartitionResponse {
                offset: -7,
                ..Default::default()
            }];
            let topic = list_offsets_response::ListOffsetsTopicResponse {
                name: "orders",
                partitions,
            };
            asked.answer(&ListOffsetsResponse {
                topics: vec![topic],
                ..Default::default()
            })
        }
        ApiKey::ListOffsets if asked.before == 1 => asked.answer(&ListOffsetsResponse::default()),
        ApiKey::Fetch => fetch_answer(asked, |_, offset| log_from(offset, 10)),
        _ => asked.usual(),
    })
    .await;
    let mut consumer = consumer(&broker, &[]).await;
    assert_eq!(poll(&mut consumer).await.unwrap()[0], 0);
    assert_eq!(broker.count(ApiKey::ListOffsets), 3);
}

#[tokio::test]
async fn read_committed_leaves_out_what_the_broker_lists_as_aborted() {
    let script = |_, offset| match offset {
        0 => Data {
            records: transactions().concat(),
            aborted: vec![(6, 11), (5, 0), (5, 0)],
            high_watermark: 13,
            ..Data::default()
        },
        _ => Data {
            high_watermark: 13,
            ..Data::default()
        },
    };
    let broker = broker(script).await;
    let mut committed = consumer(&broker, &[("isolation.level", "read_committed")]).await;
    assert_eq!(poll(&mut committed).await.unwrap(), [2, 3, 6, 8, 9]);
    let mut all = consumer(&broker, &[]).await;
    assert_eq!(poll(&mut all).await.unwrap(), [0, 1, 2, 3, 4, 6, 8, 9, 11]);
}

#[tokio::test]
async fn what_waits_for_poll_stays_within_its_budget() {
    let broker = broker(|_, offset| {
        let records = Batch::new(offset, 100).bytes();
        Data {
            records,
            high_watermark: 1 << 40,
            ..Data::default()
        }
    })
    .await;
    let one = Batch::new(0, 100).bytes().len();
    let budget = (4 * one).to_string();
    let limits = [
        ("fetch.buffer.memory", budget.as_str()),
        ("max.partition.fetch.bytes", "2000"),
    ];
    let mut consumer = consumer(&broker, &limits).await;
    consumer.assign(&[tp(0), tp(1)]).unwrap();
    for _ in 0..200 {
        poll(&mut consumer).await.unwrap();
        // Every fetch may bring one batch that is larger than it asked for.
        assert!(
            consumer.buffered_bytes() <= 5 * one,
            "{} of {budget}",
            consumer.buffered_bytes()
        );
    }
}

#[tokio::test]
async fn a_partition_and_a_topic_that_do_not_exist_are_told_once() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata => {
            let request: MetadataRequest<'_> = asked.request();
            let mut response = metadata(asked.port);
            if request.topics.iter().flatten().any(|topic| topic.name == Some("oders")) {
                response.topics[0].name = Some("oders");
                response.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
                response.topics[0].partitions.clear();
            }
            asked.answer(&response)
        }
        _ => asked.usual(),
    })
    .await;
    let mut consumer = consumer(&broker, &[]).await;
    consumer.assign(&[TopicPartition::new("oders", 0)]).unwrap();
    let error = poll(&mut consumer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    assert!(error.to_string().contains("did you mean \"orders\""), "{error}");
    let quiet = consumer
        .poll_timeout(Duration::from_millis(300))
        .await
        .unwrap()
        .unwrap();
    assert!(quiet.is_empty());
}

#[tokio::test]
async fn a_closed_consumer_gives_nothing_more() {
    let broker = broker(|_, _| Data::default()).await;
    let mut consumer = consumer(&broker, &[]).await;
    let closer = consumer.closer();
    let closing = tokio::spawn(async move { closer.close() });
    let end = tokio::time::timeout(PATIENCE, consumer.poll()).await.unwrap().unwrap();
    assert!(end.is_none());
    closing.await.unwrap();
    assert!(consumer.poll().await.unwrap().is_none() && consumer.assign(&[tp(0)]).is_err());
}

#[test]
fn futures_can_be_spawned() {
    fn is_send<T: Send>(_: impl Fn(&'static mut Consumer) -> T) {}
    is_send(|consumer| consumer.poll());
    is_send(|consumer| consumer.poll_timeout(PATIENCE));
    is_send(|consumer| consumer.end_offsets(&[]));
    is_send(|consumer| consumer.partitions_for("t"));
}

#[tokio::test]
async fn progress_says_that_a_quota_or_a_right_keeps_a_partition_from_moving() {
    let throttling = broker(|_, _| Data {
        high_watermark: 10,
        throttle_ms: 60_000,
        ..Data::default()
    })
    .await;
    let throttled = consumer(&throttling, &[]).await;
    until_it_is(&throttled, |state| matches!(state, PartitionState::Throttled)).await;

    let refusing = broker(|_, _| Data {
        error: ErrorCode::TopicAuthorizationFailed.code(),
        ..Data::default()
    })
    .await;
    let refused = consumer(&refusing, &[]).await;
    let told = until_it_is(&refused, |state| matches!(state, PartitionState::Unauthorized(_))).await;
    let PartitionState::Unauthorized(error) = told else {
        unreachable!()
    };
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed), "{error}");
}

/// Waits until the first partition is in such a state.
async fn until_it_is(consumer: &Consumer, wanted: impl Fn(&PartitionState) -> bool) -> PartitionState {
    let looked = async {
        loop {
            let state = consumer.progress().remove(0).state;
            if wanted(&state) {
                return state;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looked).await.expect("the state in time")
}
