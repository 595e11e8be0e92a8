//! `group.protocol=consumer` (KIP-848) by librdkafka, Kafka's own consumer and `kafka-consumer-groups` (4.3.1): against our
//! broker, and against Apache Kafka to know that the questions are right.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::java::JavaTools;
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::{Client, Content, Outgoing};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// Heartbeats come often, so that a test need not wait for them.
const PROPERTIES: [&str; 5] = [
    "group.consumer.min.heartbeat.interval.ms=200",
    "group.consumer.heartbeat.interval.ms=200",
    "group.consumer.assignment.interval.ms=0",
    "group.initial.rebalance.delay.ms=0",
    "offsets.topic.replication.factor=1",
];
const PATIENCE: Duration = Duration::from_secs(60);
const RECORDS: usize = 40;

#[test]
fn members_of_librdkafka_share_a_topic_on_apache_kafka() {
    librdkafka_shares(Kind::Apache);
}

#[test]
fn members_of_librdkafka_share_a_topic_on_ottla() {
    librdkafka_shares(Kind::Ottla);
}

#[test]
fn javas_consumer_reads_commits_and_goes_on_on_apache_kafka() {
    java_reads(Kind::Apache);
}

#[test]
fn javas_consumer_reads_commits_and_goes_on_on_ottla() {
    java_reads(Kind::Ottla);
}

fn start(kind: Kind, name: &str) -> (BrokerProcess, Librdkafka) {
    let broker = BrokerProcess::start(kind, name, &PROPERTIES).unwrap();
    let librdkafka = Librdkafka::start().unwrap();
    librdkafka.create_topic(&broker.bootstrap(), "maps", 4).unwrap();
    write(&librdkafka, &broker.bootstrap());
    (broker, librdkafka)
}

fn write(librdkafka: &Librdkafka, bootstrap: &str) {
    let records: Vec<Outgoing> = (0..RECORDS)
        .map(|number| Outgoing {
            timestamp: None,
            content: Content {
                key: Some(format!("{number}").into_bytes()),
                value: Some(format!("{number}").into_bytes()),
                headers: Vec::new(),
            },
        })
        .collect();
    librdkafka.produce(bootstrap, "maps", "none", &records).unwrap();
}

/// Asks until the answer is right.
fn eventually(librdkafka: &Librdkafka, what: &str, right: impl Fn(&Value) -> bool) -> Value {
    let until = Instant::now() + PATIENCE;
    loop {
        let now = librdkafka.ask(&json!({"do": "members"})).unwrap();
        if right(&now) {
            return now;
        }
        assert!(Instant::now() < until, "{what}: {now}");
        std::thread::yield_now();
    }
}

fn partitions(answer: &Value, member: usize) -> Vec<i64> {
    let list = answer["assigned"][member].as_array().unwrap();
    list.iter().filter_map(Value::as_i64).collect()
}

fn librdkafka_shares(kind: Kind) {
    let (broker, librdkafka) = start(kind, "groups-consumer-librdkafka");
    let bootstrap = broker.bootstrap();
    let join = |config: Value| {
        let request = json!({"do": "join", "bootstrap": bootstrap, "group": "g", "topic": "maps", "config": config});
        librdkafka.ask(&request).unwrap();
    };
    join(json!({"group.protocol": "consumer"}));
    let all = [0, 1, 2, 3];
    eventually(&librdkafka, "the first has everything", |now| partitions(now, 0) == all);
    join(json!({"group.protocol": "consumer"}));
    let shared = eventually(&librdkafka, "both have half", |now| {
        let mut both = [partitions(now, 0), partitions(now, 1)].concat();
        both.sort_unstable();
        both == all && partitions(now, 0).len() == 2 && now["seen"] == json!(RECORDS)
    });
    assert_eq!(partitions(&shared, 0).len(), 2);

    let tools = JavaTools::start().unwrap();
    let said = describe(&tools, &bootstrap, &["--state"]);
    assert!(said.contains("Stable") && said.contains("uniform"), "{said}");
    let said = describe(&tools, &bootstrap, &["--members", "--verbose"]);
    assert_eq!(
        said.matches("maps:").count() / 2,
        2,
        "two members with a current and a target assignment: {said}"
    );

    // A member of the classic protocol comes in, and is given its share.
    join(json!({"group.protocol": "classic", "partition.assignment.strategy": "cooperative-sticky"}));
    eventually(&librdkafka, "the classic member has its share", |now| {
        let lengths = [0, 1, 2].map(|member| partitions(now, member).len());
        lengths.iter().sum::<usize>() == 4 && lengths.iter().all(|length| *length >= 1)
    });
    for member in [0, 1] {
        librdkafka.ask(&json!({"do": "leave", "member": member})).unwrap();
    }
    // It is alone, and the group is a classic one.
    eventually(&librdkafka, "the classic member has everything", |now| {
        partitions(now, 2) == all
    });
    let said = describe(&tools, &bootstrap, &["--state"]);
    assert!(said.contains("Stable") && said.contains("cooperative-sticky"), "{said}");
    librdkafka.ask(&json!({"do": "leave", "member": 2})).unwrap();
}

fn describe(tools: &JavaTools, bootstrap: &str, more: &[&str]) -> String {
    let args = [&["--bootstrap-server", bootstrap, "--describe", "--group", "g"], more].concat();
    let main = "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand";
    tools.run(main, &args, b"").unwrap().success().unwrap()
}

fn java_reads(kind: Kind) {
    let (broker, librdkafka) = start(kind, "groups-consumer-java");
    let bootstrap = broker.bootstrap();
    let tools = JavaTools::start().unwrap();
    let read = |count: usize| {
        let count = count.to_string();
        let args = [
            "--bootstrap-server",
            &bootstrap,
            "--topic",
            "maps",
            "--group",
            "g",
            "--from-beginning",
            "--max-messages",
            &count,
            "--timeout-ms",
            "30000",
            "--consumer-property",
            "group.protocol=consumer",
        ];
        let main = "org.apache.kafka.tools.consumer.ConsoleConsumer";
        let said = tools.run(main, &args, b"").unwrap().success().unwrap();
        let mut numbers: Vec<usize> = said.lines().filter_map(|line| line.parse().ok()).collect();
        numbers.sort_unstable();
        numbers
    };
    assert_eq!(read(RECORDS), (0..RECORDS).collect::<Vec<_>>());
    let said = describe(&tools, &bootstrap, &["--offsets"]);
    // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG
    let rows: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    let rows: Vec<_> = rows.iter().filter(|row| row.get(1) == Some(&"maps")).collect();
    let caught_up = |row: &&&Vec<&str>| row[3] == row[4] && row[5] == "0";
    assert_eq!(rows.iter().filter(caught_up).count(), 4, "{said}");
    // It left, and what comes after is all that the next one reads.
    write(&librdkafka, &bootstrap);
    assert_eq!(read(RECORDS), (0..RECORDS).collect::<Vec<_>>());
}
