//! Kafka's own `kafka-topics` (4.3.1) against our broker, and against Apache Kafka to know that the questions are right.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::java::JavaTools;
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::{Client, Content, Outgoing};

#[test]
fn kafka_topics_creates_describes_alters_lists_and_deletes_on_apache_kafka() {
    life_of_topics(Kind::Apache);
}

#[test]
fn kafka_topics_creates_describes_alters_lists_and_deletes_on_ottla() {
    life_of_topics(Kind::Ottla);
}

fn life_of_topics(kind: Kind) {
    let mut broker = BrokerProcess::start(kind, "tools-topics", &[]).unwrap();
    let tools = JavaTools::start().unwrap();
    let bootstrap = broker.bootstrap();
    let topics = |args: &[&str]| tools.topics(&bootstrap, args);

    let create = [
        "--create",
        "--topic",
        "gpsraw",
        "--partitions",
        "2",
        "--replication-factor",
        "1",
    ];
    let configs = [
        "--config",
        "retention.ms=3600000",
        "--config",
        "max.message.bytes=200000",
    ];
    let said = topics(&[&create[..], &configs[..]].concat()).unwrap();
    assert!(said.contains("Created topic gpsraw."), "{said}");
    topics(&["--create", "--topic", "broker-defaults"]).unwrap();
    let list = topics(&["--list", "--exclude-internal"]).unwrap();
    let mut names: Vec<&str> = list.lines().collect();
    names.sort_unstable();
    assert_eq!(names, ["broker-defaults", "gpsraw"]);

    let described = topics(&["--describe", "--topic", "gpsraw"]).unwrap();
    check_description(&described, 2);
    assert!(
        described.contains("retention.ms=3600000") && described.contains("max.message.bytes=200000"),
        "{described}"
    );

    topics(&["--alter", "--topic", "gpsraw", "--partitions", "5"]).unwrap();
    check_description(&topics(&["--describe", "--topic", "gpsraw"]).unwrap(), 5);
    write_and_read_the_last_partition(&bootstrap);

    check_refusals(&topics);
    topics(&["--delete", "--topic", "gpsraw"]).unwrap();
    assert_eq!(
        topics(&["--list", "--exclude-internal"]).unwrap().trim(),
        "broker-defaults"
    );
    // A topic of the same name is a new one: it starts empty.
    topics(&create).unwrap();
    check_description(&topics(&["--describe", "--topic", "gpsraw"]).unwrap(), 2);
    assert_eq!(
        Librdkafka::start()
            .unwrap()
            .end_offset(&bootstrap, "gpsraw", 0)
            .unwrap(),
        0
    );
    broker.stop().unwrap();
}

/// The tool names the exception that an error code stands for; texts are each broker's own.
fn check_refusals(topics: &dyn Fn(&[&str]) -> Result<String, String>) {
    let create = |name: &str, more: &[&str]| topics(&[&["--create", "--topic", name], more].concat());
    refused(create("gpsraw", &[]), "TopicExistsException");
    refused(create("a/b", &[]), "InvalidTopicException");
    refused(
        create("three", &["--replication-factor", "3"]),
        "InvalidReplicationFactorException",
    );
    refused(create("odd", &["--config", "no.such.key=1"]), "no.such.key");
    refused(
        topics(&["--alter", "--topic", "gpsraw", "--partitions", "3"]),
        "InvalidPartitionsException",
    );
    refused(topics(&["--describe", "--topic", "absent"]), "does not exist");
}

fn check_description(described: &str, partitions: usize) {
    let fields = [
        "Topic: gpsraw",
        "TopicId: ",
        "ReplicationFactor: 1",
        &format!("PartitionCount: {partitions}"),
    ];
    for field in fields {
        assert!(described.contains(field), "{field} is missing: {described}");
    }
    let lines = described
        .lines()
        .filter(|line| line.contains("Partition: ") && line.contains("Leader: 1"));
    let replicated = lines.filter(|line| line.contains("Replicas: 1") && line.contains("Isr: 1"));
    assert_eq!(replicated.count(), partitions, "{described}");
}

fn refused(outcome: Result<String, String>, because: &str) {
    match outcome {
        Err(said) => assert!(
            said.contains(because),
            "refused, but not because of {because:?}: {said}"
        ),
        Ok(said) => panic!("not refused ({because}): {said}"),
    }
}

fn write_and_read_the_last_partition(bootstrap: &str) {
    let client = Librdkafka::start().unwrap();
    let content = |at: u32| Content {
        key: Some(at.to_string().into_bytes()),
        value: Some(b"point".to_vec()),
        headers: vec![],
    };
    let records: Vec<Outgoing> = (0..100)
        .map(|at| Outgoing {
            content: content(at),
            timestamp: None,
        })
        .collect();
    let receipts = client.produce(bootstrap, "gpsraw", "none", &records).unwrap().unwrap();
    let last = receipts.iter().filter(|receipt| receipt.partition == 4).count();
    assert!(last > 0, "no key of 100 went to the new partition");
    assert_eq!(client.consume(bootstrap, "gpsraw", 4, last).unwrap().len(), last);
}
