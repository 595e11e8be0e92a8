//! Brokers stand still (SIGSTOP) for longer than `request.timeout.ms`, and the leaders of three nodes of Apache Kafka move:
//! by Kafka's own tools, because their node is killed (kill -9), or because it stands still.
//!
//! Meanwhile a producer writes to three partitions, idempotent with acks=all. Nothing that was acknowledged may be lost,
//! nothing may be there twice or out of order, and nothing that was said to be certainly not written may be found.
//! The same faults with acks=1 must lose something: that is what the zeros are worth.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use ottla_protocol::ApiKey;
use ottla_tests::cluster::ApacheCluster;
use ottla_tests::delivery::read_numbers;
use ottla_tests::history::{Verdict, judge};
use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::ours::OurWriter;
use ottla_tests::proxy::{Action, Rule, Side};
use ottla_tests::rng::Rng;

const PARTITIONS: i32 = 3;
const NODES: [i32; 3] = [1, 2, 3];
/// For a fault that must happen.
const PATIENCE: Duration = Duration::from_secs(60);
const REQUEST_TIMEOUT_MS: u64 = 1000;
const PATIENT: [(&str, &str); 1] = [("request.timeout.ms", "1000")];
/// Records fail: how certainly they are said not to be written is judged.
const IMPATIENT: [(&str, &str); 2] = [("request.timeout.ms", "1000"), ("delivery.timeout.ms", "1500")];

fn times(usual: u64, long: u64) -> u64 {
    if std::env::var_os("OTTLA_LONG").is_some() {
        long
    } else {
        usual
    }
}

/// Longer than `request.timeout.ms`. A process stands still for a time; there is no condition to wait for.
fn stand_still(rng: &mut Rng) {
    let time = REQUEST_TIMEOUT_MS * 6 / 5 + rng.below(2 * REQUEST_TIMEOUT_MS);
    std::thread::sleep(Duration::from_millis(time));
}

#[test]
fn nothing_is_lost_or_doubled_when_ottla_stands_still() {
    one_node_stands_still(Kind::Ottla, "paused-ottla");
}

#[test]
fn nothing_is_lost_or_doubled_when_apache_kafka_stands_still() {
    one_node_stands_still(Kind::Apache, "paused-apache");
}

fn one_node_stands_still(kind: Kind, name: &str) {
    let mut rng = Rng::announced(name);
    let broker = BrokerProcess::start(kind, name, &[]).unwrap();
    let (bootstrap, reader) = (broker.bootstrap(), Librdkafka::start().unwrap());
    for (topic, properties) in [("patient", &PATIENT[..]), ("impatient", &IMPATIENT)] {
        reader.create_topic(&bootstrap, topic, PARTITIONS).unwrap();
        let mut writer = OurWriter::new().unwrap();
        writer.begin_with(&bootstrap, topic, PARTITIONS, properties);
        let pauses = times(2, 8);
        for _ in 0..pauses {
            writer.wait_for(100).unwrap();
            broker.pause().unwrap();
            if topic == "impatient" {
                writer.wait_for_given_up().unwrap();
            } else {
                stand_still(&mut rng);
            }
            broker.resume().unwrap();
        }
        writer.wait_for(100).unwrap();
        let told = writer.end().unwrap();
        let verdict = judge(&told, &read_numbers(&reader, &bootstrap, topic, PARTITIONS).unwrap());
        println!("| {kind:?}, one node: paused, {topic} | {pauses} |{}", verdict.row());
        assert!(verdict.is_clean(), "{topic}: {verdict:?}");
        assert_eq!(
            verdict.failed + verdict.refused > 0,
            topic == "impatient",
            "{verdict:?}"
        );
    }
}

/// One cluster for all tests below; they take turns.
fn cluster() -> MutexGuard<'static, ApacheCluster> {
    static CLUSTER: OnceLock<Mutex<ApacheCluster>> = OnceLock::new();
    let cluster = CLUSTER.get_or_init(|| Mutex::new(ApacheCluster::start(&[]).unwrap()));
    // A test that failed leaves nodes as they were.
    let mut cluster = cluster.lock().unwrap_or_else(PoisonError::into_inner);
    cluster.heal().unwrap();
    cluster
}

/// Writes to a new topic, does `fault` so many times, and judges. Every fault finds all replicas in sync, and must let the
/// writing go on.
fn through(
    cluster: &mut ApacheCluster,
    topic: &str,
    count: u64,
    properties: &[(&str, &str)],
    fault: &mut dyn FnMut(&mut ApacheCluster, &str, &OurWriter),
) -> Verdict {
    cluster.create_topic(topic, PARTITIONS, &[]).unwrap();
    let (bootstrap, reader) = (cluster.bootstrap(), Librdkafka::start().unwrap());
    let mut writer = OurWriter::new().unwrap();
    writer.begin_with(&bootstrap, topic, PARTITIONS, properties);
    for _ in 0..count {
        writer.wait_for(100).unwrap();
        fault(cluster, topic, &writer);
        for partition in 0..PARTITIONS {
            cluster.await_in_sync(topic, partition).unwrap();
        }
    }
    writer.wait_for(100).unwrap();
    let told = writer.end().unwrap();
    judge(&told, &read_numbers(&reader, &bootstrap, topic, PARTITIONS).unwrap())
}

fn move_a_leader(cluster: &mut ApacheCluster, topic: &str, rng: &mut Rng) {
    let partition = rng.below(PARTITIONS as u64) as i32;
    let leader = cluster.await_leader(topic, partition, &NODES).unwrap();
    let to = NODES[(leader as usize + rng.index(2)) % 3];
    assert_ne!(to, leader);
    cluster.move_leader(topic, partition, to).unwrap();
}

fn kill_a_leader(cluster: &mut ApacheCluster, topic: &str, rng: &mut Rng) {
    let partition = rng.below(PARTITIONS as u64) as i32;
    let leader = cluster.await_leader(topic, partition, &NODES).unwrap();
    cluster.node(leader).kill();
    let others: Vec<i32> = NODES.into_iter().filter(|node| *node != leader).collect();
    cluster.await_leader(topic, partition, &others).unwrap();
    cluster.node(leader).restart().unwrap();
}

fn pause_a_leader(cluster: &mut ApacheCluster, topic: &str, rng: &mut Rng) {
    let partition = rng.below(PARTITIONS as u64) as i32;
    let leader = cluster.await_leader(topic, partition, &NODES).unwrap();
    cluster.node(leader).pause().unwrap();
    let others: Vec<i32> = NODES.into_iter().filter(|node| *node != leader).collect();
    if rng.below(2) == 0 {
        cluster.await_leader(topic, partition, &others).unwrap();
    } else {
        // Perhaps too short for another leader, but not for the requests.
        stand_still(rng);
    }
    cluster.node(leader).resume().unwrap();
}

/// Another leader may be there before anything is given up; but not while all stand still.
fn pause_all_until_given_up(cluster: &mut ApacheCluster, writer: &OurWriter) {
    for node in NODES {
        cluster.node(node).pause().unwrap();
    }
    writer.wait_for_given_up().unwrap();
    for node in NODES {
        cluster.node(node).resume().unwrap();
    }
}

/// The wire to a leader is cut inside a request or an answer, or an answer is lost.
fn break_the_wire(cluster: &mut ApacheCluster, topic: &str, rng: &mut Rng) {
    let partition = rng.below(PARTITIONS as u64) as i32;
    let (side, action) = match rng.below(3) {
        0 => (Side::Request, Action::CutAfter(rng.index(400))),
        1 => (Side::Response, Action::CutAfter(rng.index(80))),
        _ => (Side::Response, Action::Drop),
    };
    let (after, end) = (rng.below(20), Instant::now() + PATIENCE);
    loop {
        assert!(Instant::now() < end, "{side:?}, {action:?} does not happen");
        let leader = cluster.await_leader(topic, partition, &NODES).unwrap();
        let proxy = cluster.proxy(leader);
        let before = proxy.counts().faults();
        proxy.arm(Rule {
            api: ApiKey::Produce,
            side,
            after,
            action,
        });
        // Who has ceased to lead since we asked gets nothing that could be cut; the next look at the cluster tells.
        let leads = || {
            cluster
                .leader(topic, partition, &[leader])
                .is_ok_and(|(node, _)| node == leader)
        };
        while proxy.counts().faults() == before && leads() {
            assert!(Instant::now() < end, "{side:?}, {action:?} does not happen");
            std::thread::sleep(Duration::from_millis(10));
        }
        if proxy.disarm() == 0 {
            return;
        }
    }
}

fn tell_and_expect_clean(what: &str, count: u64, verdict: &Verdict) {
    println!("| Apache, three nodes: {what} | {count} |{}", verdict.row());
    assert!(verdict.is_clean(), "{what}: {verdict:?}");
}

#[test]
fn nothing_is_lost_or_doubled_when_leaders_are_moved_by_kafkas_own_tools() {
    let (mut rng, count) = (Rng::announced("moved"), times(4, 20));
    let mut fault = |cluster: &mut ApacheCluster, topic: &str, _: &OurWriter| move_a_leader(cluster, topic, &mut rng);
    let verdict = through(&mut cluster(), "moved", count, &PATIENT, &mut fault);
    tell_and_expect_clean("leaders moved", count, &verdict);
    assert_eq!(verdict.failed + verdict.refused, 0, "{verdict:?}");
}

#[test]
fn nothing_is_lost_or_doubled_when_leaders_are_killed() {
    let (mut rng, count) = (Rng::announced("killed"), times(2, 6));
    let mut fault = |cluster: &mut ApacheCluster, topic: &str, _: &OurWriter| kill_a_leader(cluster, topic, &mut rng);
    let verdict = through(&mut cluster(), "killed", count, &PATIENT, &mut fault);
    tell_and_expect_clean("leaders killed", count, &verdict);
    assert_eq!(verdict.failed + verdict.refused, 0, "{verdict:?}");
}

#[test]
fn nothing_is_lost_or_doubled_when_leaders_stand_still() {
    let (mut rng, count) = (Rng::announced("still"), times(2, 6));
    let mut fault = |cluster: &mut ApacheCluster, topic: &str, _: &OurWriter| pause_a_leader(cluster, topic, &mut rng);
    let mut cluster = cluster();
    let verdict = through(&mut cluster, "still", count, &PATIENT, &mut fault);
    tell_and_expect_clean("leaders paused", count, &verdict);
    assert_eq!(verdict.failed + verdict.refused, 0, "{verdict:?}");
    // The second time records are given up: what is said of them must be true.
    let mut round = 0;
    let mut fault = |cluster: &mut ApacheCluster, topic: &str, writer: &OurWriter| {
        round += 1;
        if round <= count {
            pause_a_leader(cluster, topic, &mut rng);
        } else {
            pause_all_until_given_up(cluster, writer);
        }
    };
    let verdict = through(&mut cluster, "still-impatient", count + 1, &IMPATIENT, &mut fault);
    tell_and_expect_clean("leaders paused, records given up", count, &verdict);
    assert!(verdict.failed + verdict.refused > 0, "{verdict:?}");
}

#[test]
fn nothing_is_lost_or_doubled_when_everything_happens_in_turn() {
    let (mut rng, count) = (Rng::announced("mixed"), times(6, 12));
    let mut cluster = cluster();
    let mut sum = Verdict::default();
    for (round, properties) in [&PATIENT[..], &IMPATIENT]
        .iter()
        .cycle()
        .take(times(1, 2) as usize)
        .enumerate()
    {
        let mut fault = |cluster: &mut ApacheCluster, topic: &str, _: &OurWriter| match rng.below(6) {
            0 => kill_a_leader(cluster, topic, &mut rng),
            1 => pause_a_leader(cluster, topic, &mut rng),
            2 => move_a_leader(cluster, topic, &mut rng),
            _ => break_the_wire(cluster, topic, &mut rng),
        };
        let verdict = through(&mut cluster, &format!("mixed-{round}"), count, properties, &mut fault);
        assert!(verdict.is_clean(), "round {round}: {verdict:?}");
        sum += verdict;
    }
    tell_and_expect_clean("everything in turn", count * times(1, 2), &sum);
}

/// Followers stand still, the leader goes on alone and is killed: who asked for the leader's word only has lost, and who
/// asked for all has not.
#[test]
fn a_killed_leader_takes_along_what_it_alone_had_with_acks_1_and_nothing_with_acks_all() {
    let mut cluster = cluster();
    let leader_only = alone_and_killed(
        &mut cluster,
        "acks-1",
        &[("acks", "1"), ("enable.idempotence", "false"), PATIENT[0]],
    );
    println!(
        "| Apache, three nodes: the leader alone, then killed, acks=1 | 1 |{}",
        leader_only.row()
    );
    assert!(
        leader_only.lost > 0,
        "{leader_only:?}: the harness sees no loss where there is one"
    );
    let all = alone_and_killed(&mut cluster, "acks-all", &PATIENT);
    tell_and_expect_clean("the leader alone, then killed, acks=all", 1, &all);
}

fn alone_and_killed(cluster: &mut ApacheCluster, topic: &str, properties: &[(&str, &str)]) -> Verdict {
    cluster.create_topic(topic, 1, &[]).unwrap();
    let (leader, _) = cluster.leader(topic, 0, &NODES).unwrap();
    let others: Vec<i32> = NODES.into_iter().filter(|node| *node != leader).collect();
    let (bootstrap, reader) = (cluster.bootstrap(), Librdkafka::start().unwrap());
    let mut writer = OurWriter::new().unwrap();
    writer.begin_with(&bootstrap, topic, 1, properties);
    writer.wait_for(100).unwrap();
    for node in &others {
        cluster.node(*node).pause().unwrap();
    }
    let asked = |counts: &ottla_tests::proxy::Counts| counts.frames_of(Side::Request, ApiKey::Produce);
    let before = asked(&cluster.proxy(leader).counts());
    cluster
        .proxy(leader)
        .wait("writing to the leader alone", |counts| asked(counts) > before + 3)
        .unwrap();
    if properties.contains(&("acks", "1")) {
        writer.wait_for(500).unwrap();
    }
    cluster.node(leader).kill();
    for node in &others {
        cluster.node(*node).resume().unwrap();
    }
    cluster.await_leader(topic, 0, &others).unwrap();
    cluster.node(leader).restart().unwrap();
    cluster.await_in_sync(topic, 0).unwrap();
    writer.wait_for(100).unwrap();
    let told = writer.end().unwrap();
    judge(&told, &read_numbers(&reader, &bootstrap, topic, 1).unwrap())
}
