//! The broker is killed (kill -9) again and again while an idempotent producer writes with acks=all.
//!
//! Nothing that was acknowledged may be lost, nothing may be there twice, and each partition keeps the order of sending.
//! kill -9 leaves the page cache alone: this proves recovery of the log and of the producers' sequences, not fsync.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use serde_json::{Value, json};

use ottla_tests::history::{Told, judge};
use ottla_tests::peer::Client;
use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::ours::OurWriter;
use ottla_tests::rng::Rng;

const PARTITIONS: i32 = 3;
const TOPIC: &str = "numbers";

/// 10 kills in `make test`, 50 in `make long`.
fn kills() -> usize {
    if std::env::var_os("OTTLA_LONG").is_some() {
        50
    } else {
        10
    }
}

/// Writes numbered records in the background until told to end.
trait Writer {
    fn begin(&mut self, bootstrap: &str);
    fn end(&mut self) -> Told;
}

impl Writer for Librdkafka {
    fn begin(&mut self, bootstrap: &str) {
        let request = json!({"do": "begin", "bootstrap": bootstrap, "topic": TOPIC, "partitions": PARTITIONS});
        self.ask(&request).unwrap();
    }

    fn end(&mut self) -> Told {
        let answer = self.ask(&json!({"do": "end"})).unwrap();
        let number = |value: &Value| value.as_i64().unwrap();
        let acked = answer["acked"].as_array().unwrap();
        let failed = answer["failed"].as_array().unwrap();
        Told {
            acked: acked
                .iter()
                .map(|ack| (number(&ack[0]) as i32, number(&ack[1]), number(&ack[2]) as u64))
                .collect(),
            failed: failed.iter().map(|value| number(value) as u64).collect(),
            refused: vec![],
        }
    }
}

impl Writer for OurWriter {
    fn begin(&mut self, bootstrap: &str) {
        OurWriter::begin(self, bootstrap, TOPIC, PARTITIONS);
    }

    fn end(&mut self) -> Told {
        OurWriter::end(self).unwrap()
    }
}

#[test]
fn ottla_loses_and_duplicates_nothing_when_ottla_is_killed() {
    survive(Kind::Ottla, "kill-ottla", &mut OurWriter::new().unwrap(), kills());
}

#[test]
fn ottla_loses_and_duplicates_nothing_when_apache_kafka_is_killed() {
    survive(Kind::Apache, "kill-apache-ottla", &mut OurWriter::new().unwrap(), 2);
}

#[test]
fn librdkafka_loses_and_duplicates_nothing_when_ottla_is_killed() {
    survive(
        Kind::Ottla,
        "kill-librdkafka",
        &mut Librdkafka::start().unwrap(),
        kills() / 2,
    );
}

/// The same harness on the broker that everyone trusts: it judges the harness.
#[test]
fn librdkafka_loses_and_duplicates_nothing_when_apache_kafka_is_killed() {
    survive(Kind::Apache, "kill-apache", &mut Librdkafka::start().unwrap(), 1);
}

fn survive(kind: Kind, name: &str, writer: &mut dyn Writer, kills: usize) {
    let mut rng = Rng::announced(name);
    let reader = Librdkafka::start().unwrap();
    let mut broker = BrokerProcess::start(kind, name, &["log.segment.bytes=1048576"]).unwrap();
    let bootstrap = broker.bootstrap();
    reader.create_topic(&bootstrap, TOPIC, PARTITIONS).unwrap();
    writer.begin(&bootstrap);
    let mut ends = 0;
    for kill in 0..kills {
        // Random moments are the point here; but each kill must interrupt writing, so first something must have come.
        wait_for_more(&reader, &broker, ends);
        std::thread::sleep(Duration::from_millis(rng.below(700)));
        broker.kill();
        std::thread::sleep(Duration::from_millis(rng.below(150)));
        broker.restart().unwrap();
        ends = end_offsets(&reader, &bootstrap).iter().sum();
        println!("{name}: kill {kill}: {ends} records after recovery");
    }
    wait_for_more(&reader, &broker, ends);
    let told = writer.end();
    let log: Vec<Vec<(i64, u64)>> = end_offsets(&reader, &bootstrap)
        .iter()
        .enumerate()
        .map(|(partition, end)| read(&reader, &bootstrap, partition as i32, *end as usize))
        .collect();
    let verdict = judge(&told, &log);
    println!("{name}: {kills} kills: {verdict:?}");
    assert!(verdict.is_clean(), "{verdict:?}");
    assert!(verdict.acked > 20 * kills, "{verdict:?}: the writer hardly wrote");
    assert!(!broker.log().contains("panicked"), "{}", broker.log());
    if kind == Kind::Ottla {
        broker.stop().unwrap();
    }
}

fn read(reader: &dyn Client, bootstrap: &str, partition: i32, count: usize) -> Vec<(i64, u64)> {
    let records = reader.consume(bootstrap, TOPIC, partition, count).unwrap();
    let number = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap().parse().unwrap();
    records
        .into_iter()
        .map(|record| (record.offset, number(record.content.value)))
        .collect()
}

fn end_offsets(reader: &Librdkafka, bootstrap: &str) -> Vec<i64> {
    (0..PARTITIONS)
        .map(|partition| reader.end_offset(bootstrap, TOPIC, partition).unwrap())
        .collect()
}

fn wait_for_more(reader: &Librdkafka, broker: &BrokerProcess, than: i64) {
    let waiting = std::time::Instant::now();
    while end_offsets(reader, &broker.bootstrap()).iter().sum::<i64>() <= than {
        assert!(
            waiting.elapsed() < Duration::from_secs(60),
            "nothing is written any more: {}",
            broker.log()
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}
