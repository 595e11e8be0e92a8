//! Partitioners by name and by function: a producer against a broker in the same process.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what the test did not expect must stop it

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use ottla::{ErrorKind, Partitioner, Producer, ProducerBuilder, ProducerObserver, Record, TrySendError};
use ottla_broker::Cluster;

const PARTITIONS: i32 = 5;
const TOPIC: &str = "orders";

async fn cluster() -> Cluster {
    let partitions = PARTITIONS.to_string();
    let builder = Cluster::builder().property("num.partitions", &partitions);
    builder.start().await.unwrap()
}

fn builder(cluster: &Cluster, pairs: &[(&str, &str)]) -> ProducerBuilder {
    let builder = Producer::builder().bootstrap_servers(cluster.bootstrap_servers());
    pairs
        .iter()
        .fold(builder, |builder, (key, value)| builder.set(key, value))
}

/// Sends a record and gives the partition that it was written to.
async fn place(producer: &Producer, record: Record<'_>) -> i32 {
    producer.send(record).await.unwrap().await.unwrap().partition
}

/// The bytes of so many records by partition, each of 100 bytes.
async fn spread(producer: &Producer, records: usize, record: impl Fn(usize) -> Record<'static>) -> Vec<usize> {
    let mut deliveries = vec![];
    for number in 0..records {
        deliveries.push(producer.send(record(number)).await.unwrap());
    }
    producer.flush().await;
    let mut counts = vec![0; PARTITIONS as usize];
    for delivery in deliveries {
        counts[delivery.await.unwrap().partition as usize] += 1;
    }
    counts
}

#[tokio::test]
async fn a_rule_that_hashes_places_records_where_it_says() {
    let cluster = cluster().await;
    for rule in Partitioner::ALL {
        let producer = builder(&cluster, &[("linger.ms", "0")])
            .set("partitioner", rule)
            .build()
            .await
            .unwrap();
        for key in [None, Some(&b""[..]), Some(b"truck-7"), Some(b"21"), Some(&[0xff; 40])] {
            let Some(expected) = rule.partition_for_key(key, PARTITIONS) else {
                continue;
            };
            let record = Record::to(TOPIC).value("v");
            let record = match key {
                Some(key) => record.key(key),
                None => record,
            };
            assert_eq!(place(&producer, record).await, expected, "{rule} {key:?}");
            let other = (expected + 1) % PARTITIONS;
            let record = Record::to(TOPIC).key("truck-7").partition(other);
            assert_eq!(
                place(&producer, record).await,
                other,
                "{rule}: a partition by number comes first"
            );
        }
    }
}

#[tokio::test]
async fn round_robin_leaves_no_partition_out_whatever_the_keys_and_batches() {
    let cluster = cluster().await;
    // A batch for each record, and the smallest memory: every record begins a batch, and many have to wait and try again.
    for (batch_size, memory) in [("0", "1000"), ("16384", "33554432")] {
        let pairs = [
            (
                "partitioner.class",
                "org.apache.kafka.clients.producer.RoundRobinPartitioner",
            ),
            ("batch.size", batch_size),
            ("buffer.memory", memory),
            ("linger.ms", "0"),
        ];
        let producer = builder(&cluster, &pairs).build().await.unwrap();
        let counts = spread(&producer, 500, |_| Record::to(TOPIC).key("the same").value(&[0; 100])).await;
        assert_eq!(counts, [100; 5], "batch.size {batch_size}");
    }
}

#[tokio::test]
async fn a_record_given_back_keeps_its_turn() {
    let cluster = cluster().await;
    let pairs = [
        ("partitioner", "round_robin"),
        ("batch.size", "0"),
        ("buffer.memory", "1000"),
        ("linger.ms", "0"),
    ];
    keeps_its_turn(builder(&cluster, &pairs)).await;
    keeps_its_turn(builder(&cluster, &pairs).observer(Arc::new(Onlooker))).await;
}

/// Sees every record and changes none.
struct Onlooker;

impl ProducerObserver for Onlooker {
    fn wants_records(&self) -> bool {
        true
    }
}

async fn keeps_its_turn(builder: ProducerBuilder) {
    let producer = builder.build().await.unwrap();
    producer.topic(TOPIC).await.unwrap();
    let (mut deliveries, mut refused) = (vec![], 0);
    for _ in 0..100 {
        let mut record = Record::to(TOPIC).value(&[0; 100]);
        loop {
            match producer.try_send(record) {
                Ok(delivery) => break deliveries.push(delivery),
                Err(TrySendError::QueueFull(back)) => record = back,
                Err(error) => panic!("{error}"),
            }
            refused += 1;
            tokio::task::yield_now().await;
        }
    }
    assert!(refused > 0, "there was always room");
    for (number, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().partition, number as i32 % PARTITIONS);
    }
}

#[tokio::test]
async fn random_is_for_each_record_and_the_sticky_rules_keep_records_together() {
    let cluster = cluster().await;
    // Records that wait for each other in one batch: 5 batches of 100 records each are all that a sticky rule needs.
    let pairs = [
        ("batch.size", "12000"),
        ("linger.ms", "100000"),
        ("delivery.timeout.ms", "200000"),
    ];
    let changes = async |rule: Partitioner, key: Option<&'static str>| {
        let producer = builder(&cluster, &pairs)
            .set("partitioner", rule)
            .build()
            .await
            .unwrap();
        let mut deliveries = vec![];
        for _ in 0..400 {
            let record = Record::to(TOPIC).value(&[0; 100]);
            let record = key.map_or(record.clone(), |key| record.key(key));
            deliveries.push(producer.send(record).await.unwrap());
        }
        producer.flush().await;
        let mut partitions = vec![];
        for delivery in deliveries {
            partitions.push(delivery.await.unwrap().partition);
        }
        partitions.windows(2).filter(|pair| pair[0] != pair[1]).count()
    };
    // 399 chances of 4 in 5.
    assert!(changes(Partitioner::Random, None).await > 200);
    assert!(changes(Partitioner::Random, Some("the same")).await > 200);
    for rule in [
        Partitioner::Default,
        Partitioner::Murmur2Random,
        Partitioner::Fnv1aRandom,
        Partitioner::ConsistentRandom,
    ] {
        assert!(changes(rule, None).await < 10, "{rule}");
    }
    assert!(changes(Partitioner::ConsistentRandom, Some("")).await < 10);
}

#[tokio::test]
async fn without_keys_bytes_spread_evenly() {
    let cluster = cluster().await;
    let pairs = [
        ("batch.size", "1000"),
        ("partitioner.adaptive.partitioning.enable", "false"),
    ];
    let producer = builder(&cluster, &pairs).build().await.unwrap();
    let counts = spread(&producer, 20_000, |number| {
        Record::to(TOPIC).value(&[0; 100][..20 + number % 80])
    })
    .await;
    // More than 1,000 turns of some 14 records: 4,000 each, within six standard deviations.
    for count in &counts {
        assert!((2_700..5_300).contains(count), "{counts:?}");
    }
}

#[tokio::test]
async fn records_with_a_key_that_open_every_batch_do_not_hold_the_others() {
    let cluster = cluster().await;
    let pairs = [
        ("batch.size", "1000"),
        ("linger.ms", "100000"),
        ("delivery.timeout.ms", "200000"),
        ("partitioner.adaptive.partitioning.enable", "false"),
    ];
    let producer = builder(&cluster, &pairs).build().await.unwrap();
    // One large record with a key and one small one without fill a batch: the next one to need a new batch is always the
    // one with the key.
    let counts = spread(&producer, 2_000, |number| match number % 2 {
        0 => Record::to(TOPIC).key("truck-7").value(&[0; 600]),
        _ => Record::to(TOPIC).value(&[0; 200]),
    });
    let keyed = Partitioner::Default
        .partition_for_key(Some(b"truck-7"), PARTITIONS)
        .unwrap();
    for (partition, count) in counts.await.into_iter().enumerate() {
        let without_key = count - if partition == keyed as usize { 1_000 } else { 0 };
        assert!(without_key > 50, "{without_key} of 1,000 in {partition}");
    }
}

#[tokio::test]
async fn an_own_partitioner_sees_the_record_and_chooses() {
    let cluster = cluster().await;
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let producer = builder(&cluster, &[("partitioner", "murmur2"), ("linger.ms", "0")]).partitioner(move |record| {
        count.fetch_add(1, Ordering::Relaxed);
        assert_eq!((record.topic(), record.partitions()), (TOPIC, PARTITIONS));
        assert_eq!(record.available(), [0, 1, 2, 3, 4]);
        Ok(match (record.key(), record.value()) {
            (Some(b"vip"), _) => Some(3),
            (_, Some(b"any")) => Some((record.random() % 5) as i32),
            _ => None,
        })
    });
    let producer = producer.build().await.unwrap();
    assert_eq!(place(&producer, Record::to(TOPIC).key("vip")).await, 3);
    let rule = |key| Partitioner::Murmur2.partition_for_key(key, PARTITIONS).unwrap();
    assert_eq!(
        place(&producer, Record::to(TOPIC).key("21")).await,
        rule(Some(b"21")),
        "left to the rule"
    );
    assert_eq!(
        place(&producer, Record::to(TOPIC)).await,
        rule(None),
        "left to the rule"
    );
    assert_eq!(asked.load(Ordering::Relaxed), 3);
    assert_eq!(place(&producer, Record::to(TOPIC).key("vip").partition(1)).await, 1);
    assert_eq!(
        asked.load(Ordering::Relaxed),
        3,
        "nobody asks about a record that names its partition"
    );
    let mut seen = BTreeSet::new();
    for _ in 0..100 {
        seen.insert(place(&producer, Record::to(TOPIC).value("any")).await);
    }
    assert_eq!(seen.len(), 5, "{seen:?}");
}

#[tokio::test]
async fn an_own_partitioner_that_fails_costs_one_record() {
    let cluster = cluster().await;
    let producer = builder(&cluster, &[]).partitioner(|record| match record.key() {
        Some(b"error") => Err("no such region".into()),
        Some(b"panic") => panic!("index out of bounds"),
        Some(b"number") => Ok(Some(5)),
        Some(b"negative") => Ok(Some(-1)),
        _ => Ok(Some(0)),
    });
    let producer = producer.build().await.unwrap();
    let words = [
        (
            "error",
            "the partitioner gave no partition of topic \"orders\": no such region",
        ),
        (
            "panic",
            "the partitioner panicked over a record for topic \"orders\": index out of bounds",
        ),
        (
            "number",
            "the partitioner chose partition 5 for topic \"orders\", which has 5 partitions",
        ),
        (
            "negative",
            "the partitioner chose partition -1 for topic \"orders\", which has 5 partitions",
        ),
    ];
    for (key, message) in words {
        let error = producer.send(Record::to(TOPIC).key(key)).await.unwrap_err();
        assert_eq!((error.kind(), error.message()), (ErrorKind::Argument, message));
        assert_eq!(std::error::Error::source(&error).is_some(), key == "error", "{key}");
        let failed = producer.try_send(Record::to(TOPIC).key(key)).unwrap_err();
        assert!(
            matches!(failed, TrySendError::Failed(error) if error.message() == message),
            "{key}"
        );
        assert_eq!(place(&producer, Record::to(TOPIC).key("good")).await, 0, "after {key}");
    }
    let closed = producer.close(Duration::from_secs(30)).await.unwrap();
    assert_eq!((closed.delivered, closed.failed, closed.unknown), (4, 0, 0));
}
