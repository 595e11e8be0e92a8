//! Groups whose topics change under them, on our broker and on Apache Kafka: partitions are added, a topic is deleted and
//! another takes its name; and static members that come back.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::time::Duration;

use ottla::{Admin, Consumer, ConsumerBuilder, ConsumerEvent, NewTopic, Producer, Record, TopicPartition};
use ottla_tests::groups::room::{LONG_SESSION, Way, broker_properties};
use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::ours::runtime;

const TOPIC: &str = "maps";
const PATIENCE: Duration = Duration::from_secs(30);

struct Room {
    broker: BrokerProcess,
    admin: Admin,
    producer: Producer,
}

impl Room {
    async fn start(kind: Kind, name: &str) -> Room {
        // A client that asks for the deleted topic would create it.
        let properties = broker_properties(LONG_SESSION);
        let own = properties.iter().map(String::as_str);
        let properties: Vec<&str> = own.chain(["auto.create.topics.enable=false"]).collect();
        let broker = BrokerProcess::start(kind, name, &properties).unwrap();
        let bootstrap = broker.bootstrap();
        Room {
            admin: Admin::builder().bootstrap_servers(&bootstrap).build().await.unwrap(),
            producer: Producer::builder().bootstrap_servers(&bootstrap).build().await.unwrap(),
            broker,
        }
    }

    async fn create(&self, partitions: i32) {
        let topic = NewTopic::new(TOPIC).partitions(partitions).replication_factor(1);
        let created = self.admin.create_topics(&[topic]).await.unwrap();
        assert!(created.into_values().all(|answer| answer.is_ok()));
    }

    async fn write(&self, partition: i32, count: usize) {
        for number in 0..count {
            let value = number.to_string();
            let record = Record::to(TOPIC).partition(partition).value(&value);
            self.producer.send(record).await.unwrap().await.unwrap();
        }
    }

    fn member(&self, way: Way) -> ConsumerBuilder {
        let mut builder = Consumer::builder()
            .bootstrap_servers(self.broker.bootstrap())
            .group_id("readers")
            .auto_offset_reset("earliest")
            .rebalance_events(true)
            .set("metadata.max.age.ms", 300)
            .set("auto.commit.interval.ms", 3_600_000)
            .topics([TOPIC]);
        for (key, value) in way.config(LONG_SESSION) {
            builder = builder.set(key, value);
        }
        builder
    }

    async fn committed(&self) -> Vec<(i32, i64)> {
        let known = self.admin.list_consumer_group_offsets("readers", false).await.unwrap();
        let place = |(partition, committed): (TopicPartition, ottla::OffsetAndMetadata)| {
            (partition.partition, committed.offset)
        };
        known.into_iter().map(place).collect()
    }
}

/// Polls until `so`; notes records as (partition, offset) and events. Errors of polls are what changing topics cause.
async fn poll_until(
    consumer: &mut Consumer,
    read: &mut Vec<(i32, i64)>,
    events: &mut Vec<ConsumerEvent>,
    so: impl Fn(&Consumer, &[(i32, i64)]) -> bool,
) {
    let polling = async {
        while !so(consumer, read) {
            match consumer.poll_timeout(Duration::from_millis(50)).await {
                Ok(records) => read.extend(
                    records
                        .unwrap()
                        .iter()
                        .map(|record| (record.partition(), record.offset())),
                ),
                Err(error) => println!("poll: {error}"),
            }
            while let Some(event) = consumer.try_event() {
                if let ConsumerEvent::Revoked(_) = event {
                    consumer.acknowledge_revocation().unwrap();
                }
                events.push(event);
            }
        }
    };
    let done = tokio::time::timeout(PATIENCE, polling).await;
    let progress = consumer.progress();
    assert!(
        done.is_ok(),
        "does not come; read {read:?}, events {events:?}, progress {progress:?}"
    );
}

fn block_on(test: impl Future<Output = ()>) {
    runtime().unwrap().block_on(test);
}

#[test]
fn what_was_processed_of_a_deleted_topic_is_not_committed_for_the_one_that_took_its_name_on_ottla() {
    block_on(take_its_name(
        Kind::Ottla,
        Way::CooperativeSticky,
        "topics-name-ottla-classic",
    ));
    block_on(take_its_name(Kind::Ottla, Way::Consumer, "topics-name-ottla-consumer"));
}

#[test]
fn what_was_processed_of_a_deleted_topic_is_not_committed_for_the_one_that_took_its_name_on_apache_kafka() {
    block_on(take_its_name(
        Kind::Apache,
        Way::CooperativeSticky,
        "topics-name-apache",
    ));
}

async fn take_its_name(kind: Kind, way: Way, name: &str) {
    let room = Room::start(kind, name).await;
    room.create(1).await;
    room.write(0, 30).await;
    let mut consumer = room.member(way).build().await.unwrap();
    let (mut read, mut events) = (vec![], vec![]);
    poll_until(&mut consumer, &mut read, &mut events, |_, read| read.len() == 30).await;
    // A poll says that they are processed. They are not committed yet.
    consumer.poll_timeout(Duration::from_millis(1)).await.unwrap();
    assert_eq!(room.committed().await, []);
    let deleted = room.admin.delete_topics(&[TOPIC]).await.unwrap();
    assert!(deleted.into_values().all(|answer| answer.is_ok()));
    room.create(1).await;
    // Shorter than the other, so that an offset of that one would be beyond its end.
    room.write(0, 1).await;
    poll_until(&mut consumer, &mut read, &mut events, |_, read| read.len() == 31).await;
    assert_eq!(read[30], (0, 0), "{name}");
    // It closes without having said that this one is processed: there is nothing to commit.
    let closed = consumer.close(Duration::from_secs(10)).await;
    assert!(
        closed.finished && closed.committed.is_empty(),
        "{name}: {closed:?}, {events:?}"
    );
    assert_eq!(room.committed().await, [], "{name}");
}

#[test]
fn partitions_that_are_added_are_read_by_the_group_on_ottla() {
    block_on(add_partitions(Kind::Ottla, Way::Range, "topics-added-ottla-classic"));
    block_on(add_partitions(
        Kind::Ottla,
        Way::Consumer,
        "topics-added-ottla-consumer",
    ));
}

#[test]
fn partitions_that_are_added_are_read_by_the_group_on_apache_kafka() {
    block_on(add_partitions(Kind::Apache, Way::Range, "topics-added-apache-classic"));
    block_on(add_partitions(
        Kind::Apache,
        Way::Consumer,
        "topics-added-apache-consumer",
    ));
}

async fn add_partitions(kind: Kind, way: Way, name: &str) {
    let room = Room::start(kind, name).await;
    room.create(1).await;
    room.write(0, 5).await;
    let mut consumer = room.member(way).build().await.unwrap();
    let (mut read, mut events) = (vec![], vec![]);
    poll_until(&mut consumer, &mut read, &mut events, |_, read| read.len() == 5).await;
    let added = room.admin.create_partitions(&[(TOPIC, 3)]).await.unwrap();
    assert!(added.into_values().all(|answer| answer.is_ok()));
    // A producer of its own, which knows all of them.
    let room = Room {
        producer: Producer::builder()
            .bootstrap_servers(room.broker.bootstrap())
            .build()
            .await
            .unwrap(),
        ..room
    };
    for partition in 0..3 {
        room.write(partition, 5).await;
    }
    poll_until(&mut consumer, &mut read, &mut events, |_, read| read.len() >= 20).await;
    let once: BTreeSet<(i32, i64)> = read.iter().copied().collect();
    assert_eq!((once.len(), read.len()), (20, 20), "{name}: {read:?}");
    consumer.commit().await.unwrap();
    consumer.close(Duration::from_secs(10)).await;
    assert_eq!(room.committed().await, [(0, 10), (1, 5), (2, 5)], "{name}");
}

#[test]
fn a_static_member_that_comes_back_in_time_disturbs_nobody_on_ottla() {
    block_on(come_back(Kind::Ottla, Way::Range, "topics-static-ottla-classic"));
    block_on(come_back(Kind::Ottla, Way::Consumer, "topics-static-ottla-consumer"));
}

#[test]
fn a_static_member_that_comes_back_in_time_disturbs_nobody_on_apache_kafka() {
    block_on(come_back(Kind::Apache, Way::Range, "topics-static-apache-classic"));
    block_on(come_back(Kind::Apache, Way::Consumer, "topics-static-apache-consumer"));
}

async fn come_back(kind: Kind, way: Way, name: &str) {
    let room = Room::start(kind, name).await;
    room.create(4).await;
    let member = |id: &str| room.member(way).group_instance_id(id);
    let (mut read, mut events) = (vec![], vec![]);
    let mut stays = member("stays").build().await.unwrap();
    poll_until(&mut stays, &mut read, &mut events, |known, _| {
        known.assignment().len() == 4
    })
    .await;
    let mut goes = member("goes").build().await.unwrap();
    let both = async {
        let (mut read, mut events) = (vec![], vec![]);
        poll_until(&mut goes, &mut read, &mut events, |known, _| {
            known.assignment().len() == 2
        })
        .await;
    };
    let half = |known: &Consumer, _: &[(i32, i64)]| known.assignment().len() == 2;
    tokio::join!(both, poll_until(&mut stays, &mut read, &mut events, half));
    let before = goes.assignment();
    events.clear();
    goes.close(Duration::from_secs(10)).await;
    let mut back = member("goes").build().await.unwrap();
    let (mut its_read, mut its_events) = (vec![], vec![]);
    let same = |known: &Consumer, _: &[(i32, i64)]| known.assignment() == before;
    tokio::join!(
        poll_until(&mut back, &mut its_read, &mut its_events, same),
        // It is alive meanwhile.
        poll_until(&mut stays, &mut read, &mut events, |known, _| known.assignment().len()
            == 2),
    );
    let moved = |event: &&ConsumerEvent| match event {
        ConsumerEvent::Assigned(partitions) | ConsumerEvent::Revoked(partitions) => !partitions.is_empty(),
        ConsumerEvent::Lost(..) => true,
        _ => false,
    };
    assert_eq!(events.iter().filter(moved).count(), 0, "{name}: {events:?}");
    stays.close(Duration::from_secs(10)).await;
    back.close(Duration::from_secs(10)).await;
}
