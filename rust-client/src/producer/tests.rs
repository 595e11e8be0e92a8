//! The producer against a broker that follows a script.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_protocol::messages::metadata_response::MetadataResponseTopic;
use ottla_protocol::messages::produce_response::{
    LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use ottla_protocol::messages::*;
use ottla_protocol::records::{Decompressor, RecordBatch};
use ottla_protocol::{ApiKey, ErrorCode, Uuid};

use super::*;
use crate::error::{Error, ErrorKind, Persisted};
use crate::tests::{Asked, FakeBroker, Reply, TOPIC_ID, metadata};

mod known_bugs;
mod observed;
mod promises;
mod reported;
mod security;

const INVOICES_ID: Uuid = Uuid([8; 16]);

/// A batch that the broker was asked to write.
#[derive(Debug, Clone)]
struct Written {
    topic: String,
    partition: i32,
    producer_epoch: i16,
    base_sequence: i32,
    values: Vec<String>,
}

/// What a broker with a log answers: it takes every batch, unless the script says otherwise.
#[derive(Debug, Default)]
struct Log {
    written: Mutex<Vec<Written>>,
    ends: Mutex<BTreeMap<(String, i32), i64>>,
}

impl Log {
    /// Answers a Produce request. `script` is asked for each batch: an error code, or 0 to take it.
    fn produce(&self, asked: &Asked<'_>, script: impl Fn(&Written) -> i16) -> Reply {
        self.produce_with(asked, |written| PartitionProduceResponse {
            error_code: script(written),
            ..Default::default()
        })
    }

    fn produce_with<'r>(&self, asked: &Asked<'_>, script: impl Fn(&Written) -> PartitionProduceResponse<'r>) -> Reply {
        self.produce_from(asked, Vec::new(), script)
    }

    /// Answers a Produce request with a code and an offset for each batch, without keeping anything.
    fn produce_with_offsets(&self, asked: &Asked<'_>, script: impl Fn(&Written) -> (ErrorCode, i64)) -> Reply {
        let request: ProduceRequest<'_> = asked.request();
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let answers = topic.partition_data.iter().map(|data| {
                let (code, base_offset) = script(&read_batch("orders", data.index, &data.records.to_bytes()));
                PartitionProduceResponse {
                    index: data.index,
                    error_code: code.code(),
                    base_offset,
                    ..Default::default()
                }
            });
            responses.push(TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses: answers.collect(),
            });
        }
        asked.answer(&ProduceResponse {
            responses,
            ..Default::default()
        })
    }

    fn produce_from<'r>(
        &self,
        asked: &Asked<'_>,
        node_endpoints: Vec<NodeEndpoint<'r>>,
        script: impl Fn(&Written) -> PartitionProduceResponse<'r>,
    ) -> Reply {
        let request: ProduceRequest<'_> = asked.request();
        let mut responses = Vec::new();
        for topic in &request.topic_data {
            let name = if topic.topic_id == INVOICES_ID {
                "invoices"
            } else {
                "orders"
            };
            let mut partition_responses = Vec::new();
            for data in &topic.partition_data {
                let bytes = data.records.to_bytes();
                let written = read_batch(name, data.index, &bytes);
                let mut response = PartitionProduceResponse {
                    index: data.index,
                    ..script(&written)
                };
                if response.error_code == 0 {
                    let mut ends = self.ends.lock().unwrap();
                    let end = ends.entry((name.to_owned(), data.index)).or_default();
                    response.base_offset = *end;
                    *end += written.values.len() as i64;
                    self.written.lock().unwrap().push(written);
                }
                partition_responses.push(response);
            }
            responses.push(TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses,
            });
        }
        asked.answer(&ProduceResponse {
            responses,
            node_endpoints,
            ..Default::default()
        })
    }

    fn written(&self) -> Vec<Written> {
        self.written.lock().unwrap().clone()
    }
}

fn read_batch(topic: &str, partition: i32, bytes: &[u8]) -> Written {
    let (batch, rest) = RecordBatch::parse(bytes).unwrap();
    assert!(rest.is_empty(), "one batch a partition");
    batch.verify_crc().unwrap();
    let mut scratch = Decompressor::new();
    let records = batch.records(&mut scratch, 1 << 24).unwrap();
    let values = records.map(|record| String::from_utf8(record.unwrap().value().unwrap().to_vec()).unwrap());
    Written {
        topic: topic.to_owned(),
        partition,
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        values: values.collect(),
    }
}

/// Everything but Produce, as a healthy cluster with topics `orders` and `invoices` answers it.
fn healthy(asked: &Asked<'_>) -> Reply {
    match asked.api {
        // A cluster gives no producer id twice.
        ApiKey::InitProducerId => asked.answer(&InitProducerIdResponse {
            producer_id: 7 + asked.before as i64,
            producer_epoch: 0,
            ..Default::default()
        }),
        ApiKey::Metadata => {
            let mut answer = metadata(asked.port);
            let orders = answer.topics.first().unwrap().clone();
            answer.topics.push(MetadataResponseTopic {
                name: Some("invoices"),
                topic_id: INVOICES_ID,
                ..orders
            });
            asked.answer(&answer)
        }
        _ => asked.usual(),
    }
}

async fn broker(log: &Arc<Log>, script: impl Fn(&Written) -> i16 + Send + Sync + 'static) -> FakeBroker {
    let log = log.clone();
    FakeBroker::start(move |asked| match asked.api {
        ApiKey::Produce => log.produce(asked, &script),
        _ => healthy(asked),
    })
    .await
}

async fn producer(broker: &FakeBroker, pairs: &[(&str, &str)]) -> Producer {
    let mut builder = Producer::builder()
        .bootstrap_servers(broker.address())
        .set("retry.backoff.ms", "1");
    for (key, value) in pairs {
        builder = builder.set(key, value);
    }
    builder.build().await.unwrap()
}

fn order(partition: i32) -> Record<'static> {
    Record::to("orders").partition(partition)
}

/// Few enough milliseconds to wait for, in a combination that the configuration allows.
const SHORT: [(&str, &str); 3] = [
    ("request.timeout.ms", "1000"),
    ("delivery.timeout.ms", "3000"),
    ("linger.ms", "0"),
];

#[tokio::test]
async fn a_retry_keeps_its_sequence() {
    let log = Arc::new(Log::default());
    let refused = AtomicUsize::new(0);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let sequences = seen.clone();
    let broker = broker(&log, move |batch| {
        sequences.lock().unwrap().push(batch.base_sequence);
        if refused.fetch_add(1, Ordering::Relaxed) < 3 {
            ErrorCode::NotEnoughReplicas.code()
        } else {
            0
        }
    })
    .await;
    let producer = producer(&broker, &[]).await;
    let first = producer.send(order(0).value("1")).await.unwrap();
    assert_eq!(first.await.unwrap().offset, Some(0));
    let second = producer.send(order(0).value("2")).await.unwrap();
    second.await.unwrap();
    assert_eq!(*seen.lock().unwrap(), [0, 0, 0, 0, 1]);
    assert_eq!(producer.metrics().records_retried, 3);
}

#[tokio::test]
async fn every_error_code_ends_in_one_honest_answer() {
    for code in (-1..200)
        .filter_map(ErrorCode::from_code)
        .filter(|code| *code != ErrorCode::None)
    {
        let log = Arc::new(Log::default());
        let first = AtomicUsize::new(0);
        let broker = broker(&log, move |_| {
            if first.fetch_add(1, Ordering::Relaxed) == 0 {
                code.code()
            } else {
                0
            }
        })
        .await;
        let producer = producer(&broker, &[("linger.ms", "0")]).await;
        let result = producer.send(order(0).value("1")).await.unwrap().await;
        let in_log = log.written().len();
        match result {
            Ok(_) if code == ErrorCode::DuplicateSequenceNumber => assert_eq!(in_log, 0, "believed to be there"),
            Ok(_) => assert_eq!(in_log, 1, "{}", code.name()),
            Err(error) => {
                assert_eq!(in_log, 0, "{}", code.name());
                assert_eq!(error.code(), Some(code), "{error}");
                assert!(!code.retriable(), "{} was not tried again", code.name());
            }
        }
        // Whatever happened to the first record, the next one is written.
        producer.send(order(0).value("2")).await.unwrap().await.unwrap();
        let closed = producer.close(Duration::from_secs(10)).await.unwrap();
        assert_eq!(closed.delivered + closed.failed + closed.unknown, 2);
    }
}

#[tokio::test]
async fn a_broker_that_never_answers_leaves_no_ticket_behind() {
    let broker = FakeBroker::start(|asked| match asked.api {
        ApiKey::Produce => Reply::Silence,
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &SHORT).await;
    let mut deliveries = Vec::new();
    for i in 0..10 {
        deliveries.push(producer.send(order(i % 2).value("1")).await.unwrap());
        tokio::task::yield_now().await;
    }
    producer.flush().await;
    for delivery in deliveries {
        let error = delivery.try_result().expect("flush waited for it").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    }
    let metrics = producer.metrics();
    assert_eq!(metrics.records_failed + metrics.records_unknown, 10);
    assert!(
        metrics.records_unknown >= 2,
        "the first request of each partition may have been written"
    );
    producer.close(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn an_unreachable_leader_is_named_when_the_time_is_up() {
    let broker = FakeBroker::start(|asked| match asked.api {
        ApiKey::Metadata => {
            let mut answer = metadata(asked.port);
            for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                partition.leader_id = 2;
            }
            let mut gone = answer.brokers.first().unwrap().clone();
            (gone.node_id, gone.port) = (2, 1); // nothing listens at port 1
            answer.brokers.push(gone);
            asked.answer(&answer)
        }
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &SHORT).await;
    let error = producer.send(order(0).value("1")).await.unwrap().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Timeout, Persisted::No),
        "{error}"
    );
    assert!(error.to_string().contains("127.0.0.1:1"), "{error}");
}

#[tokio::test]
async fn a_connection_cut_in_the_middle_of_an_answer_writes_nothing_twice() {
    // Sequences tell the broker's log a duplicate; this script plays the log.
    let log = Arc::new(Log::default());
    let taken = log.clone();
    let broker = FakeBroker::start(move |asked| match asked.api {
        ApiKey::Produce => {
            let known = taken.written();
            let reply = taken.produce_with(asked, |batch| {
                let duplicate = known
                    .iter()
                    .any(|one| one.partition == batch.partition && one.base_sequence == batch.base_sequence);
                let error_code = if duplicate {
                    ErrorCode::DuplicateSequenceNumber.code()
                } else {
                    0
                };
                PartitionProduceResponse {
                    error_code,
                    ..Default::default()
                }
            });
            match reply {
                Reply::Bytes(mut bytes) if asked.before % 3 != 2 => {
                    bytes.truncate(asked.before % 11);
                    Reply::Close(bytes)
                }
                other => other,
            }
        }
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &[("linger.ms", "0"), ("reconnect.backoff.ms", "1")]).await;
    for i in 0..12 {
        let value = i.to_string();
        producer.send(order(0).value(&value)).await.unwrap().await.unwrap();
    }
    let values: Vec<String> = log.written().into_iter().flat_map(|batch| batch.values).collect();
    assert_eq!(values, (0..12).map(|i| i.to_string()).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kafka_19012_bytes_of_a_batch_that_ran_out_of_time_reach_no_other_topic() {
    // The broker stops reading while requests are under way, until they run out of time; then others get the room.
    let log = Arc::new(Log::default());
    let taken = log.clone();
    let broker = FakeBroker::start(move |asked| match asked.api {
        ApiKey::Produce => {
            if asked.before % 4 == 1 {
                tokio::task::block_in_place(|| std::thread::sleep(Duration::from_millis(400)));
            }
            taken.produce(asked, |_| 0)
        }
        _ => healthy(asked),
    })
    .await;
    let pairs = [
        ("request.timeout.ms", "200"),
        ("delivery.timeout.ms", "600"),
        ("linger.ms", "0"),
        ("buffer.memory", "400000"),
        ("batch.size", "100000"),
        ("reconnect.backoff.ms", "1"),
    ];
    let producer = producer(&broker, &pairs).await;
    let mut deliveries = Vec::new();
    for i in 0..60 {
        let topic = if i % 2 == 0 { "orders" } else { "invoices" };
        let value = topic.repeat(10_000);
        deliveries.push(
            producer
                .send(Record::to(topic).partition(i % 2).value(&value))
                .await
                .unwrap(),
        );
    }
    producer.flush().await;
    for batch in log.written() {
        for value in batch.values {
            assert!(
                value.starts_with(&batch.topic) && value.len() == batch.topic.len() * 10_000,
                "misrouted bytes"
            );
        }
    }
    assert!(deliveries.iter().all(|delivery| delivery.try_result().is_some()));
    producer.close(Duration::from_secs(1)).await.unwrap();
}

#[tokio::test]
async fn tickets_of_a_partition_complete_in_the_order_of_sending() {
    let log = Arc::new(Log::default());
    let asked = AtomicUsize::new(0);
    let broker = broker(&log, move |_| match asked.fetch_add(1, Ordering::Relaxed) % 3 {
        0 => ErrorCode::NotEnoughReplicas.code(),
        _ => 0,
    })
    .await;
    let producer = producer(&broker, &[("acks", "1"), ("batch.size", "100"), ("linger.ms", "0")]).await;
    let done = Arc::new(Mutex::new(Vec::new()));
    let mut tasks = tokio::task::JoinSet::new();
    for i in 0..200usize {
        let delivery = producer.send(order(0).value("0123456789")).await.unwrap();
        let done = done.clone();
        tasks.spawn(async move {
            delivery.clone().await.unwrap();
            done.lock().unwrap().push((i, delivery));
        });
    }
    while let Some(task) = tasks.join_next().await {
        task.unwrap();
        // Whenever a ticket is complete, all tickets before it are.
        let done = done.lock().unwrap();
        let (last, _) = done.last().unwrap();
        assert!(
            done.iter()
                .filter(|(i, _)| i < last)
                .all(|(_, delivery)| delivery.try_result().is_some())
        );
    }
}

#[tokio::test]
async fn a_new_leader_named_by_the_answer_is_asked_at_once() {
    // KIP-951: the old leader names the new one, whose address the metadata does not have yet.
    let new_log = Arc::new(Log::default());
    let new_leader = broker(&new_log, |_| 0).await;
    let port = i32::from(new_leader.port);
    let old_leader = FakeBroker::start(move |asked| match asked.api {
        ApiKey::Produce => {
            let endpoint = NodeEndpoint {
                node_id: 2,
                host: "127.0.0.1",
                port,
                ..Default::default()
            };
            Log::default().produce_from(asked, vec![endpoint], |_| PartitionProduceResponse {
                error_code: ErrorCode::NotLeaderOrFollower.code(),
                current_leader: LeaderIdAndEpoch {
                    leader_id: 2,
                    leader_epoch: 9,
                },
                ..Default::default()
            })
        }
        // The metadata is of no help.
        ApiKey::Metadata if asked.before > 2 => Reply::Silence,
        _ => healthy(asked),
    })
    .await;
    let producer = producer(
        &old_leader,
        &[("retry.backoff.ms", "60000"), ("retry.backoff.max.ms", "60000")],
    )
    .await;
    let delivery = producer.send(order(0).value("1")).await.unwrap();
    assert_eq!(delivery.await.unwrap().offset, Some(0));
    assert_eq!(new_log.written().len(), 1);
}

#[tokio::test]
async fn a_leader_that_moves_takes_the_queue_with_it_in_order() {
    let (old_log, new_log) = (Arc::new(Log::default()), Arc::new(Log::default()));
    let new_leader = broker(&new_log, |_| 0).await;
    let moved = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (port, taken, is_moved) = (i32::from(new_leader.port), old_log.clone(), moved.clone());
    let old_leader = FakeBroker::start(move |asked| match asked.api {
        ApiKey::Produce => taken.produce(asked, |batch| {
            if batch.values == ["7"] {
                is_moved.store(true, Ordering::Relaxed);
            }
            let moved = is_moved.load(Ordering::Relaxed);
            let error = if moved {
                ErrorCode::NotLeaderOrFollower
            } else {
                ErrorCode::None
            };
            error.code()
        }),
        ApiKey::Metadata if is_moved.load(Ordering::Relaxed) => {
            let mut answer = metadata(asked.port);
            let mut second = answer.brokers.first().unwrap().clone();
            (second.node_id, second.port) = (2, port);
            answer.brokers.push(second);
            for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                (partition.leader_id, partition.leader_epoch) = (2, 4);
            }
            asked.answer(&answer)
        }
        _ => healthy(asked),
    })
    .await;
    let pairs = [("batch.size", "1"), ("linger.ms", "0")];
    let producer = producer(&old_leader, &pairs).await;
    let mut deliveries = Vec::new();
    for i in 0..30 {
        let value = i.to_string();
        deliveries.push(producer.send(order(0).value(&value)).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let values = [old_log.written(), new_log.written()]
        .concat()
        .into_iter()
        .flat_map(|batch| batch.values);
    assert_eq!(
        values.collect::<Vec<_>>(),
        (0..30).map(|i| i.to_string()).collect::<Vec<_>>()
    );
    assert_eq!(old_log.written().len(), 7);
}

#[tokio::test]
async fn a_refused_producer_id_fails_the_records_and_a_later_one_is_used() {
    let log = Arc::new(Log::default());
    let taken = log.clone();
    let broker = FakeBroker::start(move |asked| match asked.api {
        ApiKey::InitProducerId if asked.before == 0 => asked.answer(&InitProducerIdResponse {
            error_code: ErrorCode::ClusterAuthorizationFailed.code(),
            ..Default::default()
        }),
        // The second question is asked only after the failure was told.
        ApiKey::Produce => taken.produce(asked, |_| 0),
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &[("retry.backoff.ms", "50")]).await;
    let mut delivered = None;
    for _ in 0..100 {
        match producer.send(order(0).value("1")).await.unwrap().await {
            Ok(metadata) => {
                delivered = Some(metadata);
                break;
            }
            Err(error) => {
                assert_eq!(
                    (error.kind(), error.persisted()),
                    (ErrorKind::Authorization, Persisted::No),
                    "{error}"
                );
            }
        }
    }
    assert_eq!(delivered.unwrap().offset, Some(0));
}

#[tokio::test]
async fn a_lost_producer_state_raises_the_epoch_and_loses_nothing() {
    let log = Arc::new(Log::default());
    let asked = AtomicUsize::new(0);
    let broker = broker(&log, move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        2 => ErrorCode::UnknownProducerId.code(),
        5 => ErrorCode::OutOfOrderSequenceNumber.code(),
        _ => 0,
    })
    .await;
    let producer = producer(&broker, &[("linger.ms", "0")]).await;
    for i in 0..6 {
        let value = i.to_string();
        producer.send(order(0).value(&value)).await.unwrap().await.unwrap();
    }
    let stamps: Vec<_> = log
        .written()
        .iter()
        .map(|batch| (batch.producer_epoch, batch.base_sequence))
        .collect();
    assert_eq!(stamps, [(0, 0), (0, 1), (1, 0), (1, 1), (2, 0), (2, 1)]);
}

#[tokio::test]
async fn an_answer_that_leaves_a_partition_out_is_no_answer() {
    let log = Arc::new(Log::default());
    let taken = log.clone();
    let broker = FakeBroker::start(move |asked| match asked.api {
        ApiKey::Produce if asked.before == 0 => {
            let nonsense = TopicProduceResponse {
                name: "never heard of",
                topic_id: Uuid([1; 16]),
                partition_responses: vec![PartitionProduceResponse {
                    index: -5,
                    ..Default::default()
                }],
            };
            asked.answer(&ProduceResponse {
                responses: vec![nonsense],
                ..Default::default()
            })
        }
        ApiKey::Produce => taken.produce(asked, |_| 0),
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &[]).await;
    producer.send(order(0).value("1")).await.unwrap().await.unwrap();
    assert_eq!((log.written().len(), producer.metrics().records_retried), (1, 1));
}

#[test]
fn tickets_complete_when_the_runtime_goes_away() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let (delivery, producer, _broker) = runtime.block_on(async {
        let broker = FakeBroker::start(|asked| match asked.api {
            ApiKey::Produce => Reply::Silence,
            _ => healthy(asked),
        })
        .await;
        let producer = producer(&broker, &[]).await;
        (producer.send(order(0).value("1")).await.unwrap(), producer, broker)
    });
    drop(runtime);
    drop(producer);
    let error = delivery.try_result().expect("complete").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
}

#[tokio::test]
async fn topics_are_named_by_id_where_the_broker_knows_ids_and_by_name_otherwise() {
    for (newest, by_id) in [(13, true), (12, false), (9, false), (3, false)] {
        let log = Arc::new(Log::default());
        let taken = log.clone();
        let broker = FakeBroker::start(move |asked| match asked.api {
            ApiKey::ApiVersions => {
                let mut versions = crate::tests::versions();
                for range in versions
                    .api_keys
                    .iter_mut()
                    .filter(|range| range.api_key == ApiKey::Produce.code())
                {
                    range.max_version = newest;
                }
                asked.answer(&versions)
            }
            ApiKey::Produce => {
                let request: ProduceRequest<'_> = asked.request();
                let topic = request.topic_data.first().unwrap();
                assert_eq!(asked.version, newest);
                assert_eq!((topic.topic_id == TOPIC_ID, topic.name == "orders"), (by_id, !by_id));
                taken.produce(asked, |_| 0)
            }
            _ => healthy(asked),
        })
        .await;
        let producer = producer(&broker, &[]).await;
        producer.send(order(1).value("1")).await.unwrap().await.unwrap();
        assert_eq!(log.written().len(), 1);
    }
}
