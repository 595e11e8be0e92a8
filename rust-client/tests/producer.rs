//! The producer against a broker in the same process, read back by the consumer.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what the test did not expect must stop it

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::{
    Admin, Closed, Consumer, Delivery, ErrorKind, NewTopic, OwnedRecord, Persisted, Producer, Record, TopicPartition,
    TrySendError,
};
use ottla_broker::Cluster;

const PATIENCE: Duration = Duration::from_secs(30);

async fn cluster() -> Cluster {
    Cluster::builder()
        .property("num.partitions", "3")
        .start()
        .await
        .unwrap()
}

async fn producer(cluster: &Cluster, pairs: &[(&str, &str)]) -> Producer {
    let mut builder = Producer::builder().bootstrap_servers(cluster.bootstrap_servers());
    for (key, value) in pairs {
        builder = builder.set(key, value);
    }
    builder.build().await.unwrap()
}

/// Everything in a topic, by partition.
async fn read(cluster: &Cluster, topic: &str, records: usize) -> BTreeMap<i32, Vec<OwnedRecord>> {
    let builder = Consumer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .set("auto.offset.reset", "earliest");
    let mut consumer = builder.build().await.unwrap();
    let partitions = consumer.partitions_for(topic).await.unwrap();
    consumer.assign(&partitions).unwrap();
    let mut read: BTreeMap<i32, Vec<OwnedRecord>> = BTreeMap::new();
    let mut count = 0;
    let wanted: i64 = consumer.end_offsets(&partitions).await.unwrap().values().sum();
    while count < wanted as usize {
        let batch = tokio::time::timeout(PATIENCE, consumer.poll())
            .await
            .expect("records in time")
            .unwrap()
            .unwrap();
        for record in &batch {
            read.entry(record.partition()).or_default().push(record.to_owned());
            count += 1;
        }
    }
    assert_eq!(count, records, "records in {topic}");
    consumer.close(PATIENCE).await;
    read
}

fn number(record: &OwnedRecord) -> u64 {
    let text = std::str::from_utf8(record.value.as_deref().unwrap()).unwrap();
    text.split(' ').next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_codec_and_every_acks_deliver_what_was_sent() {
    let cluster = cluster().await;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        for acks in ["0", "1", "all"] {
            let topic = format!("{codec}-{acks}");
            let producer = producer(&cluster, &[("compression.type", codec), ("acks", acks)]).await;
            let mut deliveries = Vec::new();
            for i in 0..500u64 {
                let value = format!("{i} {}", "position ".repeat(20));
                let key = format!("truck-{}", i % 7);
                let record = Record::to(&topic)
                    .key(&key)
                    .value(&value)
                    .header("i", "1")
                    .header("i", "2")
                    .timestamp(1000 + i as i64);
                deliveries.push(producer.send(record).await.unwrap());
            }
            for delivery in deliveries {
                let metadata = delivery.await.unwrap();
                assert_eq!(metadata.offset.is_some(), acks != "0");
            }
            // With acks=0 the last bytes may still be on their way to the log.
            let closed = producer.close(PATIENCE).await.unwrap();
            assert_eq!(
                closed,
                Closed {
                    delivered: 500,
                    failed: 0,
                    unknown: 0
                }
            );
            if acks == "0" {
                wait_for(&cluster, &topic, 500).await;
            }
            let by_partition = read(&cluster, &topic, 500).await;
            let mut partition_of_key = BTreeMap::new();
            for (partition, records) in by_partition {
                assert!(
                    records.windows(2).all(|pair| number(&pair[0]) < number(&pair[1])),
                    "{topic}: order of sending"
                );
                for record in records {
                    let i = number(&record);
                    assert_eq!(record.key.as_deref(), Some(format!("truck-{}", i % 7).as_bytes()));
                    assert_eq!(record.timestamp, 1000 + i as i64);
                    let headers: Vec<_> = record
                        .headers
                        .iter()
                        .map(|header| (&*header.key, header.value.as_deref()))
                        .collect();
                    assert_eq!(headers, [("i", Some(&b"1"[..])), ("i", Some(&b"2"[..]))]);
                    assert_eq!(
                        *partition_of_key.entry(i % 7).or_insert(partition),
                        partition,
                        "one key, one partition"
                    );
                }
            }
        }
    }
    cluster.stop().await.unwrap();
}

async fn wait_for(cluster: &Cluster, topic: &str, records: i64) {
    let consumer = Consumer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .build()
        .await
        .unwrap();
    let partitions = consumer.partitions_for(topic).await.unwrap();
    let all = async {
        while consumer.end_offsets(&partitions).await.unwrap().values().sum::<i64>() < records {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, all)
        .await
        .expect("the records reach the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_and_order_of_tickets_are_those_of_the_log() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[("batch.size", "200")]).await;
    let mut deliveries = Vec::new();
    for i in 0..1000 {
        let value = i.to_string();
        deliveries.push(
            producer
                .send(Record::to("gpsraw").partition(1).value(&value))
                .await
                .unwrap(),
        );
    }
    for (i, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.topic_partition(), &TopicPartition::new("gpsraw", 1));
        assert_eq!(delivery.await.unwrap().offset, Some(i as i64));
    }
    let read = read(&cluster, "gpsraw", 1000).await;
    assert!(
        read[&1]
            .iter()
            .enumerate()
            .all(|(i, record)| number(record) == i as u64)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_without_a_key_reach_every_partition_in_whole_batches() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[("batch.size", "1000")]).await;
    for i in 0..3000u32 {
        let value = format!("{i} {}", "x".repeat(80));
        drop(producer.send(Record::to("spread").value(&value)).await.unwrap());
    }
    producer.flush().await;
    let metrics = producer.metrics();
    assert_eq!(metrics.records_delivered, 3000);
    assert!(
        metrics.batches_sent < 500,
        "{} batches for 3000 records of some 95 bytes",
        metrics.batches_sent
    );
    let read = read(&cluster, "spread", 3000).await;
    assert_eq!(read.len(), 3);
    for records in read.values() {
        assert!(
            records.len() > 500,
            "{} of 3000 records in one of three partitions",
            records.len()
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_ticket_does_not_cancel() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[]).await;
    for i in 0..100 {
        let value = i.to_string();
        drop(producer.send(Record::to("dropped").value(&value)).await.unwrap());
    }
    producer.flush().await;
    read(&cluster, "dropped", 100).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_producer_still_sends_what_it_holds() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[("linger.ms", "10000")]).await;
    let delivery = producer.send(Record::to("left-behind").value(b"1")).await.unwrap();
    drop(producer);
    assert!(delivery.await.unwrap().offset.is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_does_not_exist_is_an_error_after_max_block_ms() {
    let cluster = Cluster::builder()
        .property("auto.create.topics.enable", "false")
        .start()
        .await
        .unwrap();
    let producer = producer(&cluster, &[("max.block.ms", "300")]).await;
    let error = producer.send(Record::to("nowhere").value(b"1")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    assert_eq!(error.persisted(), Persisted::No);
    let error = producer.try_send(Record::to("nowhere").value(b"1")).unwrap_err();
    assert!(matches!(error, TrySendError::UnknownTopic(_)), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_that_does_not_exist_is_an_error_and_one_added_later_is_found() {
    let cluster = cluster().await;
    let patient = producer(&cluster, &[]).await;
    assert_eq!(patient.topic("narrow").await.unwrap().partition_count(), 3);
    let hasty = producer(&cluster, &[("max.block.ms", "300")]).await;
    for partition in [3, -1] {
        let record = Record::to("narrow").partition(partition).value(b"1");
        let error = hasty.send(record).await.unwrap_err();
        assert!(
            matches!(error.kind(), ErrorKind::Argument | ErrorKind::UnknownTopic),
            "{error}"
        );
    }
    let admin = Admin::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .build()
        .await
        .unwrap();
    admin.create_partitions(&[("narrow", 4)]).await.unwrap();
    let delivery = patient
        .send(Record::to("narrow").partition(3).value(b"1"))
        .await
        .unwrap();
    assert_eq!(delivery.await.unwrap().partition, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_beyond_max_request_size_is_refused_and_the_buffer_stays_whole() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[("max.request.size", "2000"), ("buffer.memory", "100000")]).await;
    let large = vec![b'x'; 3000];
    let error = producer.send(Record::to("sizes").value(&large)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge, "{error}");
    let delivery = producer.send(Record::to("sizes").value(&large[..1500])).await.unwrap();
    delivery.await.unwrap();
    assert_eq!(producer.metrics().buffer_available_bytes, 100_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_larger_than_a_batch_is_delivered() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[("compression.type", "lz4")]).await;
    let mut deliveries: Vec<Delivery> = Vec::new();
    for i in 0..20u32 {
        let value = format!("{i} {}", "y".repeat(if i % 3 == 0 { 100_000 } else { 10 }));
        deliveries.push(
            producer
                .send(Record::to("large").partition(0).value(&value))
                .await
                .unwrap(),
        );
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let read = read(&cluster, "large", 20).await;
    assert!(
        read[&0]
            .iter()
            .enumerate()
            .all(|(i, record)| number(record) == i as u64)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_too_large_for_its_topic_is_cut_until_it_fits() {
    let cluster = cluster().await;
    let admin = Admin::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .build()
        .await
        .unwrap();
    let topic = NewTopic::new("small").partitions(1).config("max.message.bytes", "1000");
    admin.create_topics(&[topic]).await.unwrap();
    let producer = producer(&cluster, &[("linger.ms", "50")]).await;
    let mut deliveries = Vec::new();
    for i in 0..400u32 {
        let value = format!("{i} {}", "z".repeat(100));
        deliveries.push(producer.send(Record::to("small").value(&value)).await.unwrap());
    }
    let one_too_large = producer.send(Record::to("small").value(&[b'z'; 2000])).await.unwrap();
    for (i, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, Some(i as i64));
    }
    let error = one_too_large.await.unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::TooLarge, Persisted::No),
        "{error}"
    );
    // What comes after the failed batch is not held up by it.
    producer
        .send(Record::to("small").value(b"400"))
        .await
        .unwrap()
        .await
        .unwrap();
    let metrics = producer.metrics();
    assert_eq!(metrics.buffer_available_bytes, metrics.buffer_total_bytes);
    let read = read(&cluster, "small", 401).await;
    assert!(
        read[&0]
            .iter()
            .enumerate()
            .all(|(i, record)| number(record) == i as u64)
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broker_restarts_in_the_middle_lose_duplicate_and_reorder_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let start = async |port| {
        let again = || {
            let builder = Cluster::builder().property("num.partitions", "2");
            builder.data_dir(folder.path()).port(port).start()
        };
        // A connection to somewhere else may have been given the port while nobody listened there.
        let started = async {
            loop {
                match again().await {
                    Ok(cluster) => return cluster,
                    Err(_) => tokio::task::yield_now().await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, started)
            .await
            .expect("the port is free again")
    };
    let mut cluster = start(0).await;
    let servers = cluster.bootstrap_servers();
    let port = servers.rsplit(':').next().unwrap().parse().unwrap();
    let producer = producer(&cluster, &[("batch.size", "1000"), ("linger.ms", "1")]).await;

    let mut sent = 0u64;
    let mut deliveries = Vec::new();
    for round in 0..4 {
        for _ in 0..3000 {
            let value = format!("{sent} {}", "r".repeat(50));
            let record = Record::to("restarts").partition((sent % 2) as i32).value(&value);
            deliveries.push(producer.send(record).await.unwrap());
            sent += 1;
        }
        if round % 2 == 0 {
            cluster.stop().await.unwrap();
        } else {
            cluster.abort();
        }
        cluster = start(port).await;
    }
    for (i, delivery) in deliveries.into_iter().enumerate() {
        let metadata = tokio::time::timeout(PATIENCE, delivery)
            .await
            .expect("an answer in time")
            .unwrap();
        assert_eq!(metadata.partition, (i % 2) as i32);
    }
    let read = read(&cluster, "restarts", sent as usize).await;
    for (partition, records) in read {
        for (i, record) in records.iter().enumerate() {
            assert_eq!(number(record), 2 * i as u64 + partition as u64);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_returns_in_time_when_the_broker_is_gone_and_says_what_is_known() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[]).await;
    producer
        .send(Record::to("closing").value(b"1"))
        .await
        .unwrap()
        .await
        .unwrap();
    cluster.stop().await.unwrap();
    let deliveries = [
        producer.send(Record::to("closing").value(b"2")).await.unwrap(),
        producer.send(Record::to("closing").value(b"3")).await.unwrap(),
    ];
    let closed = producer.close(Duration::from_millis(200)).await.unwrap();
    assert_eq!(closed.delivered, 1);
    assert_eq!(closed.failed + closed.unknown, 2);
    for delivery in deliveries {
        assert_eq!(delivery.await.unwrap_err().kind(), ErrorKind::Closed);
    }
    let error = producer.send(Record::to("closing").value(b"4")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert_eq!(
        producer.close(PATIENCE).await.unwrap(),
        closed,
        "closing again changes nothing"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_makes_send_wait_and_try_send_give_the_record_back() {
    let cluster = cluster().await;
    let pairs = [
        ("buffer.memory", "2000"),
        ("batch.size", "1000"),
        ("linger.ms", "60000"),
    ];
    let waiting = producer(&cluster, &pairs).await;
    waiting.topic("full").await.unwrap();
    let value = [b'x'; 600];
    for partition in 0..2 {
        drop(
            waiting
                .try_send(Record::to("full").partition(partition).value(&value))
                .unwrap(),
        );
    }
    let refused = waiting
        .try_send(Record::to("full").partition(2).value(&value))
        .unwrap_err();
    let TrySendError::QueueFull(record) = refused else {
        panic!("{refused}")
    };
    // The open batches linger for a minute, unless somebody needs their room.
    drop(waiting.send(record).await.unwrap());
    waiting.flush().await;
    assert_eq!(waiting.metrics().records_delivered, 3);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_the_buffer_fills_and_send_fails_after_max_block_ms() {
    let cluster = cluster().await;
    let pairs = [
        ("buffer.memory", "2000"),
        ("batch.size", "1000"),
        ("max.block.ms", "500"),
    ];
    let blocked = producer(&cluster, &pairs).await;
    while blocked.topic("blocked").await.is_err() {} // half a second is little on a busy machine
    cluster.stop().await.unwrap();
    let value = [b'x'; 600];
    let mut refused = None;
    for _ in 0..10 {
        refused = blocked
            .send(Record::to("blocked").partition(0).value(&value))
            .await
            .err();
        if refused.is_some() {
            break;
        }
    }
    let error = refused.expect("without a broker the buffer fills");
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error}");
    assert!(error.to_string().contains("buffer.memory"), "{error}");
}

#[tokio::test]
async fn a_loop_that_only_sends_lets_a_single_thread_deliver() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[("batch.size", "500")]).await;
    let mut deliveries = Vec::new();
    for i in 0..5000u32 {
        let value = i.to_string();
        deliveries.push(producer.send(Record::to("single").value(&value)).await.unwrap());
    }
    assert!(
        producer.metrics().batches_sent > 0,
        "batches left while the loop was running"
    );
    for delivery in deliveries {
        delivery.await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_tasks_share_one_producer_and_one_topic_handle() {
    let cluster = cluster().await;
    let producer = producer(&cluster, &[]).await;
    let topic = producer.topic("shared").await.unwrap();
    assert_eq!((topic.name(), topic.partition_count()), ("shared", 3));
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8u64 {
        let topic = topic.clone();
        tasks.spawn(async move {
            let mut deliveries = Vec::new();
            for i in 0..500u64 {
                let value = format!("{} of task {task}", task * 500 + i);
                deliveries.push(topic.send(topic.record().value(&value)).await.unwrap());
            }
            for delivery in deliveries {
                delivery.await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    let read = read(&cluster, "shared", 4000).await;
    let mut numbers: Vec<u64> = read.values().flatten().map(number).collect();
    numbers.sort_unstable();
    assert!(numbers.iter().enumerate().all(|(i, number)| i as u64 == *number));
}
