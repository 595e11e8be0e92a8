//! Members of Ottla, of Kafka's own client (4.3.1) and of librdkafka in one group, on our broker and on Apache Kafka.
//!
//! Each partition has one owner at a time, every record is read once by the group, and when the last has left everything is
//! committed.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::process::Command;
use std::sync::Mutex;

use ottla_tests::groups::processes::Members;
use ottla_tests::groups::room::{LONG_SESSION, Room, Way};
use ottla_tests::peer::broker_process::Kind;
use ottla_tests::peer::java::jars;
use ottla_tests::peer::program::python;
use ottla_tests::place;

const PARTITIONS: i32 = 12;
const TOPIC: &str = ottla_tests::groups::room::TOPIC;

/// One at a time: each has a JVM or two.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn members_of_three_clients_share_by_range_on_ottla() {
    share(Kind::Ottla, Way::Range, "mixed-ottla-range");
}

#[test]
fn members_of_three_clients_share_by_cooperative_sticky_on_ottla() {
    share(Kind::Ottla, Way::CooperativeSticky, "mixed-ottla-cooperative");
}

#[test]
fn members_of_three_clients_share_by_the_consumer_protocol_on_ottla() {
    share(Kind::Ottla, Way::Consumer, "mixed-ottla-consumer");
}

#[test]
fn members_of_three_clients_share_by_range_on_apache_kafka() {
    share(Kind::Apache, Way::Range, "mixed-apache-range");
}

#[test]
fn members_of_three_clients_share_by_cooperative_sticky_on_apache_kafka() {
    share(Kind::Apache, Way::CooperativeSticky, "mixed-apache-cooperative");
}

#[test]
fn members_of_three_clients_share_by_the_consumer_protocol_on_apache_kafka() {
    share(Kind::Apache, Way::Consumer, "mixed-apache-consumer");
}

fn librdkafka(room: &Room) -> Members {
    let mut command = python("group_member.py");
    command.args(["librdkafka", TOPIC]).args(room.config());
    Members::start("librdkafka", &mut command, &room.book).unwrap()
}

fn java(room: &Room) -> Members {
    let config = room.config().into_iter().map(|pair| {
        let package = "org.apache.kafka.clients.consumer";
        pair.replace("strategy=range", &format!("strategy={package}.RangeAssignor"))
            .replace(
                "strategy=cooperative-sticky",
                &format!("strategy={package}.CooperativeStickyAssignor"),
            )
    });
    let mut command = Command::new("java");
    let logging = place::repository().join("tests/java/log4j2.properties");
    command
        .args(["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
        .arg(format!("-Dlog4j2.configurationFile={}", logging.display()))
        .args(["-cp", &format!("{}/*", jars().display())])
        .arg(place::repository().join("tests/java/GroupMember.java"))
        .args(["java", TOPIC])
        .args(config);
    Members::start("java", &mut command, &room.book).unwrap()
}

fn share(kind: Kind, way: Way, name: &str) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut room = Room::start(kind, way, LONG_SESSION, name, env!("CARGO_BIN_EXE_member"), PARTITIONS).unwrap();
    room.write();
    let java = java(&room);
    let ottla = room.join("ottla", &["member.count=2"]).unwrap();
    let librdkafka = librdkafka(&room);
    room.await_shared(4).unwrap();
    let owned = room.book.owned();
    assert!(owned.values().all(|partitions| partitions.len() == 3), "{owned:?}");
    room.writer.wait_for(500).unwrap();
    // Who leaves hands its partitions to the others, while records come.
    java.leave().unwrap();
    room.await_shared(3).unwrap();
    room.writer.wait_for(500).unwrap();
    let ends = room.drain().unwrap();
    ottla.leave().unwrap();
    room.await_shared(1).unwrap();
    librdkafka.leave().unwrap();
    assert_eq!(room.committed().unwrap(), ends);
    let verdict = room.judge(name, &ends);
    assert!(verdict.is_clean(), "{verdict}");
    assert_eq!((verdict.read, verdict.repeated), (verdict.records, 0), "{verdict}");
}
