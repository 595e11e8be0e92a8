//! What a producer shows while it works: observers and metrics.

use super::*;

/// Writes down everything that it is told.
#[derive(Default)]
struct Witness {
    lines: Mutex<Vec<String>>,
    records: bool,
    panics: bool,
}

impl Witness {
    fn new() -> Arc<Witness> {
        Arc::default()
    }

    fn of_records(panics: bool) -> Arc<Witness> {
        Arc::new(Witness {
            records: true,
            panics,
            ..Witness::default()
        })
    }

    fn write(&self, line: String) {
        self.lines.lock().unwrap().push(line);
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    fn count(&self, start: &str) -> usize {
        self.lines().iter().filter(|line| line.starts_with(start)).count()
    }
}

impl ProducerObserver for Witness {
    fn wants_records(&self) -> bool {
        self.records
    }

    fn on_send(&self, record: &mut OutgoingRecord<'_>) {
        let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
        record.set_value(Some(format!("{value}, seen")));
        record.set_partition(Some(1));
        self.write(format!("send {value}"));
        assert!(!self.panics, "an observer may fail");
    }

    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        self.write(match acknowledgement.result {
            Ok(metadata) => format!("written at {:?} {:?}", metadata.partition, metadata.offset),
            Err(error) => format!("failed {:?} {:?}", acknowledgement.partition, error.kind()),
        });
        assert!(!self.panics, "an observer may fail");
    }

    fn on_event(&self, event: &ProducerEvent<'_>) {
        self.write(match event {
            ProducerEvent::BatchSent {
                partition,
                broker_id,
                records,
                attempt,
                ..
            } => format!("sent {partition} to {broker_id}: {records}, attempt {attempt}"),
            ProducerEvent::BatchRetried {
                partition,
                attempt,
                reason,
                ..
            } => format!("retried {partition}: attempt {attempt}, {reason}"),
            ProducerEvent::BatchCompleted {
                partition,
                records,
                result,
                ..
            } => format!("completed {partition}: {records} {:?}", result.map_err(Error::kind)),
            ProducerEvent::RequestCompleted {
                broker_id,
                batches,
                error,
                ..
            } => format!("request {broker_id}: {batches} {:?}", error.map(Error::kind)),
            ProducerEvent::Throttled { broker_id, time, .. } => format!("throttled {broker_id} {time:?}"),
            ProducerEvent::LeaderChanged {
                partition, from, to, ..
            } => format!("leader {partition}: {from} {to}"),
            ProducerEvent::WaitingForRoom { needed, .. } => format!("waiting {needed}"),
            ProducerEvent::ProducerIdObtained { producer_id, epoch, .. } => format!("id {producer_id} {epoch}"),
            ProducerEvent::EpochRaised {
                partition,
                producer_id,
                epoch,
                ..
            } => format!("epoch {partition}: {producer_id} {epoch}"),
        });
        assert!(!self.panics, "an observer may fail");
    }
}

async fn observed(broker: &FakeBroker, witness: &Arc<Witness>, pairs: &[(&str, &str)]) -> Producer {
    let mut builder = Producer::builder()
        .bootstrap_servers(broker.address())
        .observer(witness.clone())
        .set("retry.backoff.ms", "1");
    for (key, value) in pairs {
        builder = builder.set(key, value);
    }
    builder.build().await.unwrap()
}

#[tokio::test]
async fn an_observer_is_told_the_story_of_a_batch_in_order() {
    let log = Arc::new(Log::default());
    let asked = AtomicUsize::new(0);
    let broker = broker(&log, move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => ErrorCode::NotEnoughReplicas.code(),
        _ => 0,
    })
    .await;
    let witness = Witness::new();
    let producer = observed(&broker, &witness, &[]).await;
    for value in ["1", "2", "3"] {
        drop(producer.send(order(0).value(value)).await.unwrap());
    }
    producer.flush().await;
    assert_eq!(
        witness.lines(),
        [
            "id 7 0",
            "sent orders-0 to 1: 3, attempt 1",
            "request 1: 1 None",
            "retried orders-0: attempt 1, NOT_ENOUGH_REPLICAS",
            "sent orders-0 to 1: 3, attempt 2",
            "request 1: 1 None",
            "completed orders-0: 3 Ok(Some(0))",
        ]
    );
}

#[tokio::test]
async fn an_observer_that_wants_records_changes_them_and_hears_of_each() {
    let log = Arc::new(Log::default());
    let broker = broker(&log, |_| 0).await;
    let witness = Witness::of_records(false);
    let producer = observed(&broker, &witness, &[("max.request.size", "200")]).await;
    let first = producer.send(order(0).value("a")).await.unwrap();
    let topic = producer.topic("orders").await.unwrap();
    let second = topic.send(topic.record().value("b")).await.unwrap();
    let third = producer.try_send(Record::to("orders").value("c")).unwrap();
    let fourth = topic.try_send(topic.record().value("d")).unwrap();
    let large = "x".repeat(300);
    let refused = producer.send(order(0).value(&large)).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::TooLarge);
    for (offset, delivery) in [first, second, third, fourth].into_iter().enumerate() {
        let metadata = delivery.await.unwrap();
        assert_eq!((metadata.partition, metadata.offset), (1, Some(offset as i64)));
    }
    let values: Vec<String> = log.written().into_iter().flat_map(|batch| batch.values).collect();
    assert_eq!(values, ["a, seen", "b, seen", "c, seen", "d, seen"]);
    assert_eq!(witness.count("send "), 5);
    assert_eq!(witness.count("failed None TooLarge"), 1);
    for offset in 0..4 {
        assert_eq!(witness.count(&format!("written at 1 Some({offset})")), 1);
    }
    assert_eq!(witness.count("written"), 4);
}

#[tokio::test]
async fn headers_added_by_an_observer_come_behind_the_records_own() {
    struct Tracer;
    impl ProducerObserver for Tracer {
        fn wants_records(&self) -> bool {
            true
        }
        fn on_send(&self, record: &mut OutgoingRecord<'_>) {
            record.add_header("traceparent", Some(format!("00-{}", record.topic())));
            record.remove_headers("secret");
            let keys: Vec<&str> = record.headers().iter().map(|header| header.key).collect();
            assert_eq!(keys, ["own", "own", "traceparent"]);
            let headers: Vec<u8> = record
                .headers()
                .iter()
                .flat_map(|one| one.value.unwrap().to_vec())
                .collect();
            record.set_value(Some(headers));
        }
    }
    let log = Arc::new(Log::default());
    let broker = broker(&log, |_| 0).await;
    let builder = Producer::builder().bootstrap_servers(broker.address());
    let producer = builder.observer(Arc::new(Tracer)).build().await.unwrap();
    let record = order(0).header("own", "1").header("secret", "2").header("own", "3");
    producer.send(record.value("")).await.unwrap().await.unwrap();
    assert_eq!(log.written()[0].values, ["1300-orders"]);
}

#[tokio::test]
async fn an_observer_that_panics_loses_no_record_and_changes_none() {
    let log = Arc::new(Log::default());
    let asked = AtomicUsize::new(0);
    let broker = broker(&log, move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => ErrorCode::NotEnoughReplicas.code(),
        _ => 0,
    })
    .await;
    let witness = Witness::of_records(true);
    let producer = observed(&broker, &witness, &[]).await;
    let mut deliveries = Vec::new();
    for value in ["1", "2", "3"] {
        deliveries.push(producer.send(order(0).value(value)).await.unwrap());
    }
    for (offset, delivery) in deliveries.into_iter().enumerate() {
        let metadata = delivery.await.unwrap();
        assert_eq!((metadata.partition, metadata.offset), (0, Some(offset as i64)));
    }
    assert_eq!(log.written()[0].values, ["1", "2", "3"]);
    assert_eq!((witness.count("send"), witness.count("written")), (3, 3));
    assert_eq!(witness.count("completed"), 1);
}

#[tokio::test]
async fn an_observer_may_send_from_within_its_call() {
    // It would wait for ever if it were called under a lock of the producer.
    #[derive(Default)]
    struct Echo {
        producer: Mutex<Option<Producer>>,
        sent: Mutex<Vec<Delivery>>,
    }
    impl ProducerObserver for Echo {
        fn on_event(&self, event: &ProducerEvent<'_>) {
            if let ProducerEvent::BatchCompleted { .. } = event
                && let Some(producer) = self.producer.lock().unwrap().take()
            {
                let sent = producer.try_send(order(0).value("echo")).unwrap();
                self.sent.lock().unwrap().push(sent);
            }
        }
    }
    let log = Arc::new(Log::default());
    let broker = broker(&log, |_| 0).await;
    let echo = Arc::new(Echo::default());
    let builder = Producer::builder().bootstrap_servers(broker.address());
    let producer = builder.observer(echo.clone()).build().await.unwrap();
    *echo.producer.lock().unwrap() = Some(producer.clone());
    producer.send(order(0).value("1")).await.unwrap().await.unwrap();
    let echoed = echo.sent.lock().unwrap().pop().expect("told before the ticket was");
    assert_eq!(echoed.await.unwrap().offset, Some(1));
}

#[tokio::test]
async fn leaders_epochs_throttling_and_waiting_are_told() {
    let (log, moved_log) = (Arc::new(Log::default()), Arc::new(Log::default()));
    let second = broker(&moved_log, |_| 0).await;
    let moved = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (port, is_moved) = (i32::from(second.port), moved.clone());
    let first = FakeBroker::start(move |asked| match asked.api {
        ApiKey::Produce if is_moved.load(Ordering::Relaxed) => {
            log.produce(asked, |_| ErrorCode::NotLeaderOrFollower.code())
        }
        ApiKey::Produce if asked.before == 0 => log.produce(asked, |_| ErrorCode::UnknownProducerId.code()),
        ApiKey::Produce => {
            let request: ProduceRequest<'_> = asked.request();
            let answers = request.topic_data[0]
                .partition_data
                .iter()
                .map(|data| PartitionProduceResponse {
                    index: data.index,
                    ..Default::default()
                });
            asked.answer(&ProduceResponse {
                throttle_time_ms: 3,
                responses: vec![TopicProduceResponse {
                    topic_id: TOPIC_ID,
                    partition_responses: answers.collect(),
                    ..Default::default()
                }],
                ..Default::default()
            })
        }
        ApiKey::Metadata if is_moved.load(Ordering::Relaxed) => {
            let mut answer = metadata(asked.port);
            let mut node = answer.brokers.first().unwrap().clone();
            (node.node_id, node.port) = (2, port);
            answer.brokers.push(node);
            for partition in answer.topics.iter_mut().flat_map(|topic| &mut topic.partitions) {
                (partition.leader_id, partition.leader_epoch) = (2, 4);
            }
            asked.answer(&answer)
        }
        _ => healthy(asked),
    })
    .await;
    let witness = Witness::new();
    let pairs = [("buffer.memory", "16384"), ("linger.ms", "100000")];
    let producer = observed(&first, &witness, &pairs).await;
    drop(producer.send(order(0).value("1")).await.unwrap());
    // The first batch has all the room there is.
    let second_record = producer.send(order(1).value("2")).await.unwrap();
    producer.flush().await;
    second_record.await.unwrap();
    moved.store(true, Ordering::Relaxed);
    drop(producer.send(order(0).value("3")).await.unwrap());
    assert!(producer.flush().await.all_delivered());
    for line in ["epoch orders-0: 7 1", "throttled 1 3ms", "leader orders-0: 1 2"] {
        assert_eq!(witness.count(line).min(1), 1, "{line} in {:#?}", witness.lines());
    }
    assert_eq!(witness.count("waiting 16384"), 1);
    let metrics = producer.metrics();
    assert_eq!((metrics.buffer_waits, metrics.buffer_exhausted), (1, 0));
    assert!(metrics.throttle_time >= Duration::from_millis(3) && metrics.brokers[0].throttle_time > Duration::ZERO);
}

#[tokio::test]
async fn metrics_count_batches_requests_and_attempts() {
    let log = Arc::new(Log::default());
    let asked = AtomicUsize::new(0);
    let broker = broker(&log, move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => ErrorCode::NotEnoughReplicas.code(),
        _ => 0,
    })
    .await;
    let pairs = [
        ("compression.type", "lz4"),
        ("client.id", "gauge"),
        ("linger.ms", "100000"),
    ];
    let producer = producer(&broker, &pairs).await;
    let value = "position ".repeat(50);
    for _ in 0..20 {
        drop(producer.send(order(0).value(&value)).await.unwrap());
    }
    let waiting = producer.metrics();
    assert!(waiting.buffer_available_bytes < waiting.buffer_total_bytes);
    producer.flush().await;
    let metrics = producer.metrics();
    assert_eq!(
        (metrics.records_delivered, metrics.records_sent, metrics.records_retried),
        (20, 40, 20)
    );
    assert_eq!(
        (metrics.batches_sent, metrics.batches_retried, metrics.requests_sent),
        (2, 1, 2)
    );
    assert_eq!((metrics.requests_in_flight, metrics.requests_failed), (0, 0));
    assert_eq!(
        (metrics.records_per_batch.count(), metrics.records_per_batch.max()),
        (1, 20.0)
    );
    assert_eq!((metrics.attempts.count(), metrics.attempts.max()), (1, 2.0));
    assert_eq!(metrics.request_latency_ms.count(), 2);
    assert_eq!(metrics.queue_time_ms.count(), 1);
    let ratio = metrics.compression_ratio.max();
    assert!(ratio > 0.0 && ratio < 0.5, "{ratio}");
    assert_eq!(metrics.batch_bytes.max() * 2.0, metrics.bytes_sent as f64);
    let [topic] = &metrics.topics[..] else {
        panic!("one topic")
    };
    assert_eq!(
        (topic.topic.as_str(), topic.records_delivered, topic.batches_sent),
        ("orders", 20, 2)
    );
    let [one] = &metrics.brokers[..] else {
        panic!("one broker")
    };
    assert_eq!(
        (one.node_id, one.requests_sent, one.bytes_sent),
        (1, 2, metrics.bytes_sent)
    );
    let line = "ottla_producer_topic_records_delivered_total{client_id=\"gauge\",topic=\"orders\"} 20\n";
    assert!(metrics.to_prometheus().contains(line));
}

#[tokio::test]
async fn a_lost_request_is_counted_and_leaves_nothing_in_flight() {
    let broker = FakeBroker::start(|asked| match asked.api {
        ApiKey::Produce => Reply::Close(Vec::new()),
        _ => healthy(asked),
    })
    .await;
    let witness = Witness::new();
    let producer = observed(&broker, &witness, &[("retries", "1"), ("enable.idempotence", "false")]).await;
    drop(producer.send(order(0).value("1")).await.unwrap());
    assert_eq!(producer.flush().await.unknown, 1);
    let metrics = producer.metrics();
    assert_eq!((metrics.requests_failed, metrics.requests_in_flight), (2, 0));
    assert_eq!(metrics.topics[0].records_unknown, 1);
    assert_eq!(witness.count("request 1: 1 Some(Disconnected)"), 2);
    assert_eq!(witness.count("completed orders-0: 1 Err("), 1);
}

/// Keeps every span and event that `tracing` is given, as text.
#[derive(Clone, Default)]
struct Trace(Arc<Mutex<Vec<String>>>);

impl Trace {
    fn write(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

struct Fields(String);

impl tracing::field::Visit for Fields {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!(" {}={value:?}", field.name());
    }
}

impl tracing::Subscriber for Trace {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target() == "ottla::producer"
    }

    fn new_span(&self, span: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        let mut fields = Fields(format!("span {} {}", span.metadata().name(), span.metadata().level()));
        span.record(&mut fields);
        self.write(fields.0);
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        let mut fields = Fields("recorded".into());
        values.record(&mut fields);
        self.write(fields.0);
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}

    fn event(&self, event: &tracing::Event<'_>) {
        let mut fields = Fields(format!("event {}", event.metadata().level()));
        event.record(&mut fields);
        self.write(fields.0);
    }

    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

/// Sends a record that is refused once.
async fn send_with_one_retry() {
    let log = Arc::new(Log::default());
    let asked = AtomicUsize::new(0);
    let broker = broker(&log, move |_| match asked.fetch_add(1, Ordering::Relaxed) {
        0 => ErrorCode::NotEnoughReplicas.code(),
        _ => 0,
    })
    .await;
    let producer = producer(&broker, &[]).await;
    let record = order(0)
        .key("secret key")
        .header("secret header", "secret")
        .value("secret value");
    producer.send(record).await.unwrap().await.unwrap();
}

#[tokio::test]
async fn tracing_has_a_span_for_each_request_and_no_record_in_it() {
    let trace = Trace::default();
    let _traced = tracing::subscriber::set_default(trace.clone());
    // `tracing` remembers for the whole process which events somebody listens to. A test on another thread that meets
    // an event first, just now, may have it remembered as unheard; after one round all are known and asked about anew.
    send_with_one_retry().await;
    tracing::callsite::rebuild_interest_cache();
    trace.0.lock().unwrap().clear();
    send_with_one_retry().await;
    let lines = trace.0.lock().unwrap().clone();
    let all = lines.join("\n");
    let count = |start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
    assert_eq!(
        count("span produce DEBUG broker_id=1 acks=-1 batches=1 records=1 bytes="),
        2,
        "{all}"
    );
    assert_eq!(count("recorded latency_us="), 2, "{all}");
    assert_eq!(
        count("event DEBUG message=the cluster gave a producer id producer_id=7 epoch=0"),
        1,
        "{all}"
    );
    let retry = "event DEBUG message=a batch will be sent again topic=\"orders\" partition=0 broker_id=1 attempt=1";
    assert_eq!(count(retry), 1, "{all}");
    assert_eq!(
        count("event TRACE message=delivered topic=\"orders\" partition=0 records=1 offset=0"),
        1,
        "{all}"
    );
    assert!(!all.contains("secret"), "{all}");
}
