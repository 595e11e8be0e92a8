//! The producer while the broker's answers about everything but records go wrong, and connections break.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what the test did not expect must stop it

use std::time::{Duration, Instant};

use ottla::{Admin, Consumer, Delivery, ErrorCode, ErrorKind, NewTopic, Persisted, Producer, Record, TopicPartition};
use ottla_broker::Cluster;
use ottla_broker::faults::Rule;
use ottla_protocol::ApiKey;

const PATIENCE: Duration = Duration::from_secs(30);

async fn start(partitions: i32) -> (Cluster, Admin) {
    let cluster = Cluster::start().await.unwrap();
    let builder = Admin::builder().bootstrap_servers(cluster.bootstrap_servers());
    let admin = builder.build().await.unwrap();
    create(&admin, partitions).await;
    (cluster, admin)
}

async fn create(admin: &Admin, partitions: i32) {
    let created = admin
        .create_topics(&[NewTopic::new("t").partitions(partitions)])
        .await
        .unwrap();
    assert!(created.values().all(Result::is_ok), "{created:?}");
}

async fn producer(cluster: &Cluster, pairs: &[(&str, &str)]) -> Producer {
    let mut builder = Producer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .set("client.id", "producer")
        .set("linger.ms", "0")
        .set("batch.size", "150")
        .set("retry.backoff.ms", "1")
        .set("retry.backoff.max.ms", "5")
        .set("reconnect.backoff.ms", "1")
        .set("reconnect.backoff.max.ms", "5");
    for (key, value) in pairs {
        builder = builder.set(key, value);
    }
    builder.build().await.unwrap()
}

async fn send(producer: &Producer, numbers: std::ops::Range<u64>) -> Vec<Delivery> {
    let mut tickets = Vec::new();
    for number in numbers {
        let (value, key) = (number.to_string(), [b'k'; 20]);
        let record = Record::to("t").partition(0).key(&key).value(&value);
        tickets.push(producer.send(record).await.unwrap());
    }
    tickets
}

async fn outcome(ticket: Delivery) -> ottla::Result<ottla::RecordMetadata> {
    tokio::time::timeout(PATIENCE, ticket)
        .await
        .expect("every ticket completes")
}

/// All are delivered, and stand in the log in the order of sending, each once.
async fn expect_delivered(cluster: &Cluster, tickets: Vec<Delivery>, all: std::ops::Range<u64>) {
    for ticket in tickets {
        outcome(ticket).await.unwrap();
    }
    assert_eq!(read(cluster).await, all.collect::<Vec<_>>());
}

/// The numbers in partition 0.
async fn read(cluster: &Cluster) -> Vec<u64> {
    let builder = Consumer::builder().bootstrap_servers(cluster.bootstrap_servers());
    let mut consumer = builder.set("auto.offset.reset", "earliest").build().await.unwrap();
    let partition = [TopicPartition::new("t", 0)];
    let wanted: i64 = consumer.end_offsets(&partition).await.unwrap().values().sum();
    consumer.assign(&partition).unwrap();
    let mut numbers = Vec::new();
    while (numbers.len() as i64) < wanted {
        let batch = tokio::time::timeout(PATIENCE, consumer.poll())
            .await
            .expect("records in time");
        for record in &batch.unwrap().unwrap() {
            numbers.push(std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap());
        }
    }
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_who_we_are_or_may_do_is_shown_as_such_and_at_once() {
    let (cluster, _) = start(1).await;
    for (api, code, kind) in [
        (
            ApiKey::Produce,
            ErrorCode::TopicAuthorizationFailed,
            ErrorKind::Authorization,
        ),
        (
            ApiKey::Produce,
            ErrorCode::ClusterAuthorizationFailed,
            ErrorKind::Authorization,
        ),
        (
            ApiKey::InitProducerId,
            ErrorCode::ClusterAuthorizationFailed,
            ErrorKind::Authorization,
        ),
        (
            ApiKey::InitProducerId,
            ErrorCode::SaslAuthenticationFailed,
            ErrorKind::Authentication,
        ),
    ] {
        let fault = cluster.faults().add(Rule::on(api).error_before(code));
        let producer = producer(&cluster, &[]).await;
        for ticket in send(&producer, 0..1).await {
            let error = outcome(ticket).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (kind, Some(code)), "{api}: {error}");
            assert!(!error.retriable(), "{api}: {error}");
            assert_eq!(error.persisted(), Persisted::No, "{api}: {error}");
        }
        // And it is not for ever: permission was given meanwhile.
        fault.remove();
        producer.close(PATIENCE).await.unwrap();
    }
    cluster.faults().add(
        Rule::on(ApiKey::Metadata)
            .topic("t")
            .error_before(ErrorCode::TopicAuthorizationFailed),
    );
    let producer = producer(&cluster, &[]).await;
    let error = producer.send(Record::to("t").value("v")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    assert_eq!(read_after_clear(&cluster).await, []);
}

async fn read_after_clear(cluster: &Cluster) -> Vec<u64> {
    cluster.faults().clear_all();
    read(cluster).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_id_that_comes_late_delays_records_and_loses_none() {
    let (cluster, _) = start(1).await;
    let faults = cluster.faults();
    let rules = [
        "error_before=COORDINATOR_LOAD_IN_PROGRESS times=3",
        "error_before=COORDINATOR_NOT_AVAILABLE times=1",
        "error_after=NOT_COORDINATOR times=1",
        "close_before times=1",
        "close_after times=1",
        "cut_response=6 times=1",
    ];
    let rules: Vec<_> = rules
        .into_iter()
        .map(|rule| faults.add(format!("api=InitProducerId {rule}").parse().unwrap()))
        .collect();
    let producer = producer(&cluster, &[]).await;
    let tickets = send(&producer, 0..50).await;
    expect_delivered(&cluster, tickets, 0..50).await;
    for fault in rules {
        assert_eq!(
            Some(fault.hits()),
            fault
                .rule()
                .to_string()
                .rsplit_once("times=3")
                .map_or(Some(1), |_| Some(3))
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sequences_go_on_when_metadata_forgets_a_topic_for_a_while() {
    let (cluster, _) = start(1).await;
    let producer = producer(&cluster, &[]).await;
    let mut tickets = send(&producer, 0..20).await;
    // The leader sends us away, and the metadata that we ask for then does not know the topic.
    let away = cluster.faults().add(
        Rule::on(ApiKey::Produce)
            .error_after(ErrorCode::NotLeaderOrFollower)
            .skip(1)
            .times(3),
    );
    let forgotten = cluster.faults().add(
        Rule::on(ApiKey::Metadata)
            .topic("t")
            .error_before(ErrorCode::UnknownTopicOrPartition)
            .times(4),
    );
    tickets.extend(send(&producer, 20..60).await);
    assert!(tokio::time::timeout(PATIENCE, forgotten.fired(1)).await.unwrap());
    tickets.extend(send(&producer, 60..100).await);
    expect_delivered(&cluster, tickets, 0..100).await;
    assert_eq!(away.hits(), 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_cut_at_any_byte_is_written_once() {
    let (cluster, _) = start(1).await;
    let producer = producer(&cluster, &[]).await;
    let mut sent = 0;
    for bytes in 0..64 {
        let fault = cluster
            .faults()
            .add(Rule::on(ApiKey::Produce).cut_response(bytes).times(1));
        let tickets = send(&producer, sent..sent + 12).await;
        for ticket in tickets {
            outcome(ticket).await.unwrap();
        }
        sent += 12;
        assert_eq!(fault.hits(), 1, "cut at {bytes}");
    }
    expect_delivered(&cluster, Vec::new(), 0..sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_breaks_off_anywhere_is_written_once() {
    let (cluster, _) = start(1).await;
    let producer = producer(&cluster, &[]).await;
    let mut sent = 0;
    for rule in [
        "close_before",
        "close_after",
        "cut_request=20",
        "cut_request=100",
        "cut_request=100000",
    ] {
        for skip in 0..4 {
            let rule = format!("api=Produce {rule} skip={skip} times=1");
            let fault = cluster.faults().add(rule.parse().unwrap());
            for ticket in send(&producer, sent..sent + 40).await {
                outcome(ticket).await.unwrap();
            }
            sent += 40;
            assert_eq!(fault.hits(), 1, "{rule}");
        }
    }
    expect_delivered(&cluster, Vec::new(), 0..sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_never_comes_is_asked_for_again_after_the_request_timeout() {
    let (cluster, _) = start(1).await;
    let pairs = [("request.timeout.ms", "1000"), ("delivery.timeout.ms", "60000")];
    let producer = producer(&cluster, &pairs).await;
    let mut sent = 0;
    for rule in ["drop_request", "drop_response", "duplicate_response"] {
        let rule = format!("api=Produce {rule} skip=1 times=2");
        let fault = cluster.faults().add(rule.parse().unwrap());
        let tickets = send(&producer, sent..sent + 30).await;
        sent += 30;
        for ticket in tickets {
            outcome(ticket).await.unwrap();
        }
        assert_eq!(fault.hits(), 2, "{rule}");
    }
    expect_delivered(&cluster, Vec::new(), 0..sent).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_throttled_producer_leaves_the_broker_alone_for_as_long_as_it_was_told() {
    let (cluster, _) = start(1).await;
    let producer = producer(&cluster, &[]).await;
    for ticket in send(&producer, 0..1).await {
        outcome(ticket).await.unwrap();
    }
    let wait = Duration::from_millis(300);
    let throttled = cluster.faults().add(Rule::on(ApiKey::Produce).throttle(wait).times(1));
    let before = Instant::now();
    for ticket in send(&producer, 1..2).await {
        outcome(ticket).await.unwrap();
    }
    assert_eq!(throttled.hits(), 1);
    let tickets = send(&producer, 2..10).await;
    expect_delivered(&cluster, tickets, 0..10).await;
    // Not a performance figure: less would be a broken promise, more is a slow machine.
    assert!(before.elapsed() >= wait, "{:?}", before.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_that_are_queued_when_their_topic_is_deleted_and_created_again_are_not_lost_in_silence() {
    let (cluster, admin) = start(1).await;
    let producer = producer(&cluster, &[]).await;
    for ticket in send(&producer, 0..20).await {
        outcome(ticket).await.unwrap();
    }
    // What is queued now is refused until the topic is another one.
    let rule = Rule::on(ApiKey::Produce).error_before(ErrorCode::NotEnoughReplicas);
    let refused = cluster.faults().add(rule);
    let tickets = send(&producer, 100..160).await;
    assert!(tokio::time::timeout(PATIENCE, refused.fired(3)).await.unwrap());
    admin.delete_topics(&["t"]).await.unwrap();
    create(&admin, 1).await;
    refused.remove();
    let mut delivered = Vec::new();
    for (number, ticket) in (100..160).zip(tickets) {
        match outcome(ticket).await {
            Ok(metadata) => delivered.push((number, metadata.offset.unwrap())),
            Err(error) => assert_eq!(error.persisted(), Persisted::No, "{number}: {error}"),
        }
    }
    let log = read(&cluster).await;
    let expected: Vec<u64> = delivered.iter().map(|(number, _)| *number).collect();
    assert_eq!(log, expected, "in the new log exactly what was acknowledged, in order");
    let tickets = send(&producer, 200..220).await;
    for ticket in tickets {
        outcome(ticket).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn partitions_that_are_added_are_found_while_records_are_under_way() {
    let (cluster, admin) = start(1).await;
    let producer = producer(&cluster, &[("retry.backoff.max.ms", "50")]).await;
    let asked = cluster.faults().add(Rule::on(ApiKey::Metadata).client_id("producer"));
    let slow = Rule::on(ApiKey::Produce).delay_response(Duration::from_millis(5));
    cluster.faults().add(slow);
    let tickets = send(&producer, 0..30).await;
    // It waits for its partition, and asks more than once.
    let early = tokio::spawn({
        let producer = producer.clone();
        async move { producer.send(Record::to("t").partition(2).value("0")).await }
    });
    assert!(
        tokio::time::timeout(PATIENCE, asked.fired(4))
            .await
            .expect("the producer asks again")
    );
    admin.create_partitions(&[("t", 3)]).await.unwrap();
    let ticket = tokio::time::timeout(PATIENCE, early)
        .await
        .expect("the new partition is found");
    assert_eq!(outcome(ticket.unwrap().unwrap()).await.unwrap().partition, 2);
    expect_delivered(&cluster, tickets, 0..30).await;
    let error = {
        let producer = self::producer(&cluster, &[("max.block.ms", "3000")]).await;
        producer
            .send(Record::to("t").partition(3).value("0"))
            .await
            .unwrap_err()
    };
    assert_eq!(error.kind(), ErrorKind::Argument, "{error}");
}
