//! Consumer and admin client against a broker inside the test.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test that cannot go on fails")]

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use ottla::{
    Admin, ConfigChange, ConfigResource, Consumer, ConsumerBuilder, ErrorCode, ErrorKind, NewTopic, OffsetSpec,
    Producer, Record, TopicPartition,
};
use ottla_broker::Cluster;

const PATIENCE: Duration = Duration::from_secs(60);

fn tp(topic: &str, partition: i32) -> TopicPartition {
    TopicPartition::new(topic, partition)
}

async fn admin(cluster: &Cluster) -> Admin {
    Admin::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .build()
        .await
        .unwrap()
}

async fn create(cluster: &Cluster, topic: &str, partitions: i32) {
    let answers = admin(cluster)
        .await
        .create_topics(&[NewTopic::new(topic).partitions(partitions)])
        .await
        .unwrap();
    assert!(answers[topic].is_ok(), "{answers:?}");
}

/// Writes records `from..to` of partition 0: value = number, timestamp = 1000 + number.
async fn write(cluster: &Cluster, topic: &str, from: i64, to: i64, pairs: &[(&str, &str)]) {
    let mut builder = Producer::builder().bootstrap_servers(cluster.bootstrap_servers());
    for (key, value) in pairs {
        builder = builder.set(key, value);
    }
    let producer = builder.build().await.unwrap();
    let mut deliveries = Vec::new();
    for number in from..to {
        let value = number.to_string();
        let record = Record::to(topic)
            .partition(0)
            .timestamp(1000 + number)
            .key(b"key")
            .value(&value);
        deliveries.push(producer.send(record.header("h", b"1")).await.unwrap());
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    producer.close(PATIENCE).await.unwrap();
}

fn reader(cluster: &Cluster) -> ConsumerBuilder {
    Consumer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .auto_offset_reset("earliest")
}

/// Polls until `count` records have come; gives their numbers.
async fn numbers(consumer: &mut Consumer, count: usize) -> Vec<i64> {
    let mut numbers = Vec::new();
    while numbers.len() < count {
        let polled = tokio::time::timeout(PATIENCE, consumer.poll())
            .await
            .expect("records in time");
        for record in &polled.unwrap().unwrap() {
            let number: i64 = std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap();
            assert_eq!((record.timestamp(), record.key()), (1000 + number, Some(&b"key"[..])));
            let headers: Vec<_> = record.headers().map(Result::unwrap).collect();
            assert_eq!((headers[0].key, headers[0].value), ("h", Some(&b"1"[..])));
            numbers.push(number);
        }
    }
    numbers
}

#[tokio::test]
async fn every_codec_arrives_as_it_was_sent() {
    let cluster = Cluster::start().await.unwrap();
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        create(&cluster, codec, 1).await;
        write(&cluster, codec, 0, 500, &[("compression.type", codec)]).await;
        let mut consumer = reader(&cluster).assign([(codec, 0)]).build().await.unwrap();
        assert_eq!(
            numbers(&mut consumer, 500).await,
            (0..500).collect::<Vec<_>>(),
            "{codec}"
        );
    }
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn reading_starts_at_the_beginning_the_end_an_offset_or_a_time() {
    let cluster = Cluster::start().await.unwrap();
    create(&cluster, "orders", 2).await;
    write(&cluster, "orders", 0, 100, &[]).await;
    let orders = tp("orders", 0);
    let mut consumer = reader(&cluster).assign([orders.clone()]).build().await.unwrap();
    assert_eq!(numbers(&mut consumer, 100).await.len(), 100);

    consumer.seek(&orders, 40).unwrap();
    assert_eq!(numbers(&mut consumer, 1).await[0], 40);
    consumer.seek_to_timestamp(&orders, 1070).unwrap();
    assert_eq!(consumer.position(&orders).await.unwrap(), 70);
    assert_eq!(numbers(&mut consumer, 30).await, (70..100).collect::<Vec<_>>());
    consumer.seek_to_timestamp(&orders, 1_000_000).unwrap();
    assert_eq!(
        consumer.position(&orders).await.unwrap(),
        100,
        "no record is that young"
    );
    consumer.seek_to_beginning(&orders).unwrap();
    assert_eq!(numbers(&mut consumer, 1).await[0], 0);
    consumer.seek_to_end(&orders).unwrap();
    assert_eq!(consumer.position(&orders).await.unwrap(), 100);
    write(&cluster, "orders", 100, 110, &[]).await;
    assert_eq!(numbers(&mut consumer, 10).await, (100..110).collect::<Vec<_>>());

    let mut latest = reader(&cluster)
        .auto_offset_reset("latest")
        .assign([orders.clone()])
        .build()
        .await
        .unwrap();
    assert_eq!(latest.position(&orders).await.unwrap(), 110);
    write(&cluster, "orders", 110, 111, &[]).await;
    assert_eq!(numbers(&mut latest, 1).await, [110]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn offsets_are_looked_up_by_time_and_by_end() {
    let cluster = Cluster::start().await.unwrap();
    create(&cluster, "orders", 2).await;
    write(&cluster, "orders", 0, 10, &[]).await;
    let consumer = reader(&cluster).build().await.unwrap();
    let both = [tp("orders", 0), tp("orders", 1)];
    let ends = consumer.end_offsets(&both).await.unwrap();
    assert_eq!(ends, BTreeMap::from([(both[0].clone(), 10), (both[1].clone(), 0)]));
    assert!(
        consumer
            .beginning_offsets(&both)
            .await
            .unwrap()
            .values()
            .all(|offset| *offset == 0)
    );
    let times = [(both[0].clone(), 1004), (both[1].clone(), 0)];
    let found = consumer.offsets_for_times(&times).await.unwrap();
    assert_eq!(
        (found[&both[0]].offset, found[&both[0]].timestamp),
        (Some(4), Some(1004))
    );
    assert_eq!(found[&both[1]].offset, None);
    let specs = [(both[0].clone(), OffsetSpec::MaxTimestamp)];
    let youngest = admin(&cluster).await.list_offsets(&specs).await.unwrap();
    assert_eq!(
        (youngest[&both[0]].offset, youngest[&both[0]].timestamp),
        (Some(9), Some(1009))
    );
    assert_eq!(consumer.partitions_for("orders").await.unwrap(), both);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn small_limits_change_nothing_but_the_number_of_fetches() {
    let cluster = Cluster::start().await.unwrap();
    create(&cluster, "orders", 1).await;
    write(
        &cluster,
        "orders",
        0,
        2000,
        &[("batch.size", "500"), ("compression.type", "lz4")],
    )
    .await;
    let mut consumer = reader(&cluster)
        .assign([("orders", 0)])
        .max_poll_records(7)
        .set("max.partition.fetch.bytes", 1)
        .set("fetch.max.bytes", 600)
        .set("fetch.buffer.memory", 2000)
        .build()
        .await
        .unwrap();
    assert_eq!(numbers(&mut consumer, 2000).await, (0..2000).collect::<Vec<_>>());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_topic_deleted_and_created_anew_is_read_from_its_beginning() {
    let cluster = Cluster::start().await.unwrap();
    create(&cluster, "orders", 1).await;
    write(&cluster, "orders", 0, 50, &[]).await;
    let no_creation = ("allow.auto.create.topics", "false");
    let mut consumer = reader(&cluster)
        .assign([("orders", 0)])
        .set(no_creation.0, no_creation.1)
        .build()
        .await
        .unwrap();
    assert_eq!(numbers(&mut consumer, 50).await.len(), 50);
    let admin = admin(&cluster).await;
    assert!(admin.delete_topics(&["orders"]).await.unwrap()["orders"].is_ok());
    create(&cluster, "orders", 1).await;
    write(&cluster, "orders", 200, 260, &[]).await;
    // That the topic was away for a moment may be told first; nothing of the new one may be missing.
    let mut got = Vec::new();
    while got.len() < 60 {
        match tokio::time::timeout(PATIENCE, consumer.poll())
            .await
            .expect("something in time")
        {
            Ok(records) => got.extend(records.unwrap().iter().map(|record| record.timestamp() - 1000)),
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}"),
        }
    }
    assert_eq!(got, (200..260).collect::<Vec<_>>());
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn a_consumer_goes_on_when_its_broker_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder().data_dir(dir.path()).start().await.unwrap();
    let port = cluster.bootstrap_servers().rsplit(':').next().unwrap().parse().unwrap();
    create(&cluster, "orders", 1).await;
    write(&cluster, "orders", 0, 10, &[]).await;
    let mut consumer = reader(&cluster).assign([("orders", 0)]).build().await.unwrap();
    assert_eq!(numbers(&mut consumer, 10).await.len(), 10);
    cluster.stop().await.unwrap();
    let cluster = start_again(dir.path(), port).await;
    write(&cluster, "orders", 10, 20, &[]).await;
    assert_eq!(numbers(&mut consumer, 10).await, (10..20).collect::<Vec<_>>());
    cluster.stop().await.unwrap();
}

/// A broker on the data and the port that it had.
async fn start_again(dir: &Path, port: u16) -> Cluster {
    let started = async {
        // A connection to somewhere else may have been given the port while nobody listened there.
        loop {
            match Cluster::builder().data_dir(dir).port(port).start().await {
                Ok(cluster) => return cluster,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(PATIENCE, started)
        .await
        .expect("the port is free again")
}

/// A leader comes back with less of the log than it has told.
async fn truncated(policy: &str) -> (tempfile::TempDir, Cluster, Consumer) {
    let dir = tempfile::tempdir().unwrap();
    let cluster = Cluster::builder().data_dir(dir.path()).start().await.unwrap();
    create(&cluster, "t", 1).await;
    write(&cluster, "t", 0, 10, &[]).await;
    let log = dir.path().join("t-0/00000000000000000000.log");
    let kept = std::fs::metadata(&log).unwrap().len();
    write(&cluster, "t", 10, 20, &[]).await;
    let builder = reader(&cluster).auto_offset_reset(policy).assign([("t", 0)]);
    let mut consumer = builder.build().await.unwrap();
    consumer.seek(&tp("t", 0), 0).unwrap();
    assert_eq!(numbers(&mut consumer, 20).await, (0..20).collect::<Vec<_>>());
    let port = cluster.bootstrap_servers().rsplit(':').next().unwrap().parse().unwrap();
    cluster.stop().await.unwrap();
    std::fs::OpenOptions::new()
        .write(true)
        .open(&log)
        .unwrap()
        .set_len(kept)
        .unwrap();
    let cluster = start_again(dir.path(), port).await;
    (dir, cluster, consumer)
}

#[tokio::test]
async fn after_a_truncation_reading_goes_on_where_the_log_parts_from_what_was_read() {
    let (_dir, cluster, mut consumer) = truncated("latest").await;
    write(&cluster, "t", 100, 130, &[]).await;
    assert_eq!(
        numbers(&mut consumer, 30).await,
        (100..130).collect::<Vec<_>>(),
        "the log is longer than what was read, and still none of its new records is skipped"
    );
}

#[tokio::test]
async fn without_a_policy_a_truncation_is_an_error_that_says_where() {
    let (_dir, _cluster, mut consumer) = truncated("none").await;
    let error = loop {
        match tokio::time::timeout(PATIENCE, consumer.poll()).await.unwrap() {
            Err(error) if error.kind() == ErrorKind::LogTruncated => break error,
            Err(error) => assert!(error.retriable(), "{error}"),
            Ok(records) => assert!(records.unwrap().is_empty()),
        }
    };
    assert!(error.to_string().contains("parts from it at offset 10"), "{error}");
    assert_eq!((error.offset(), error.partition()), (Some(20), Some(&tp("t", 0))));
    consumer.seek(&tp("t", 0), 5).unwrap();
    assert_eq!(numbers(&mut consumer, 5).await, (5..10).collect::<Vec<_>>());
}

#[tokio::test]
async fn admin_calls_answer_for_each_topic() {
    let cluster = Cluster::start().await.unwrap();
    let admin = admin(&cluster).await;
    let wanted = [
        NewTopic::new("orders").partitions(2).config("retention.ms", "1000"),
        NewTopic::new("not allowed"),
    ];
    let created = admin.create_topics(&wanted).await.unwrap();
    assert_eq!(created["orders"].as_ref().unwrap().partitions, Some(2));
    assert_eq!(created["not allowed"].as_ref().unwrap_err().kind(), ErrorKind::Argument);
    let again = admin.create_topics(&wanted[..1]).await.unwrap();
    assert_eq!(
        again["orders"].as_ref().unwrap_err().code(),
        Some(ErrorCode::TopicAlreadyExists)
    );
    let more = admin
        .create_partitions(&[("orders", 3), ("invoices", 2)])
        .await
        .unwrap();
    assert!(more["orders"].is_ok() && more["invoices"].is_err());

    let described = admin.describe_topics(&["orders", "oders"]).await.unwrap();
    assert_eq!(described["orders"].as_ref().unwrap().partitions.len(), 3);
    let unknown = described["oders"].as_ref().unwrap_err();
    assert!(unknown.to_string().contains("did you mean \"orders\""), "{unknown}");
    let names: HashSet<_> = admin
        .list_topics()
        .await
        .unwrap()
        .into_iter()
        .map(|topic| topic.name)
        .collect();
    assert!(names.contains("orders"));

    let orders = ConfigResource::Topic("orders".to_owned());
    let change = ConfigChange::Set("retention.ms".to_owned(), "2000".to_owned());
    let altered = admin
        .incremental_alter_configs(&[(orders.clone(), vec![change])])
        .await
        .unwrap();
    assert!(altered[&orders].is_ok());
    let configs = admin.describe_configs(std::slice::from_ref(&orders)).await.unwrap();
    let retention = configs[&orders]
        .as_ref()
        .unwrap()
        .iter()
        .find(|entry| entry.name == "retention.ms");
    assert_eq!(retention.and_then(|entry| entry.value.as_deref()), Some("2000"));

    assert_eq!(admin.describe_cluster().await.unwrap().brokers.len(), 1);
    let deleted = admin.delete_topics(&["orders", "invoices"]).await.unwrap();
    assert!(deleted["orders"].is_ok());
    assert_eq!(
        deleted["invoices"].as_ref().unwrap_err().kind(),
        ErrorKind::UnknownTopic
    );
    cluster.stop().await.unwrap();
}
