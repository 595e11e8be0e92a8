//! kill -9 of members between fetching, processing and committing, and of the coordinator in the middle of commits; and
//! members that were taken for dead and come back.
//!
//! Nothing is skipped, what was acknowledged is committed, and the dead overwrite nothing.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ottla::{Consumer, TopicPartition};
use ottla_tests::groups::history::What;
use ottla_tests::groups::room::{LONG_SESSION, Room, SESSION, TOPIC, Way, committed};
use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::ours::runtime;
use ottla_tests::rng::Rng;

const MEMBER: &str = env!("CARGO_BIN_EXE_member");
const PARTITIONS: i32 = 8;

/// One at a time: what is judged is a group, not the machine.
static TURN: Mutex<()> = Mutex::new(());

/// The first in `make test`, the second in `make long`.
fn times(short: usize, long: usize) -> usize {
    if std::env::var_os("OTTLA_LONG").is_some() {
        long
    } else {
        short
    }
}

#[test]
fn members_killed_at_random_moments_skip_nothing_and_static_ones_come_back_to_their_partitions() {
    kill_members(Way::CooperativeSticky, "group-kill-static", true, times(14, 500));
}

#[test]
fn members_of_the_consumer_protocol_killed_at_random_moments_skip_nothing() {
    kill_members(Way::Consumer, "group-kill-consumer", false, times(5, 60));
}

fn kill_members(way: Way, name: &str, is_static: bool, kills: usize) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut rng = Rng::announced(name);
    let mut room = Room::start(Kind::Ottla, way, SESSION, name, MEMBER, PARTITIONS).unwrap();
    room.write();
    let start = |room: &Room, place: usize, life: usize| {
        let mut more = vec![
            "member.work.ms=40".to_owned(),
            format!("member.seed={}", place * 1000 + life),
        ];
        if is_static {
            more.push(format!("group.instance.id=place{place}"));
        }
        let more: Vec<&str> = more.iter().map(String::as_str).collect();
        room.join(&format!("place{place}x{life}x"), &more).unwrap()
    };
    let mut members: Vec<_> = (0..2).map(|place| (place, 0, Some(start(&room, place, 0)))).collect();
    for kill in 1..=kills {
        let at = rng.index(2);
        let (place, life, member) = &mut members[at];
        let prefix = format!("place{place}x{life}x");
        room.book
            .wait(&format!("{prefix} reads"), |book| {
                book.has(&prefix, |what| matches!(what, What::Read(..)))
            })
            .unwrap();
        // Random moments are the point here.
        std::thread::sleep(Duration::from_millis(rng.below(150)));
        member.take().unwrap().kill();
        *life = kill;
        *member = Some(start(&room, *place, kill));
    }
    let ends = room.drain().unwrap();
    for (_, _, member) in members {
        member.unwrap().leave().unwrap();
    }
    assert_eq!(room.committed().unwrap(), ends);
    let verdict = room.judge(name, &ends);
    assert!(verdict.is_clean() && verdict.killed == kills, "{verdict}");
}

#[test]
fn a_classic_group_goes_on_without_a_rebalance_when_its_coordinator_is_killed() {
    kill_broker(Way::CooperativeSticky, "group-kill-broker-classic", times(4, 50));
}

#[test]
fn a_group_of_the_consumer_protocol_goes_on_without_a_rebalance_when_its_coordinator_is_killed() {
    kill_broker(Way::Consumer, "group-kill-broker-consumer", times(4, 50));
}

fn kill_broker(way: Way, name: &str, kills: usize) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut rng = Rng::announced(name);
    let mut room = Room::start(Kind::Ottla, way, LONG_SESSION, name, MEMBER, PARTITIONS).unwrap();
    room.write();
    let members = room.join("member", &["member.count=3", "member.work.ms=20"]).unwrap();
    room.await_shared(3).unwrap();
    let shared = room.book.owned();
    for _ in 0..kills {
        room.writer.wait_for(200).unwrap();
        std::thread::sleep(Duration::from_millis(rng.below(500)));
        room.broker.kill();
        room.broker.restart().unwrap();
    }
    let ends = room.drain().unwrap();
    assert_eq!(room.book.owned(), shared, "every member has what it had");
    members.leave().unwrap();
    assert_eq!(room.committed().unwrap(), ends);
    let verdict = room.judge(name, &ends);
    assert!(verdict.is_clean() && verdict.bereft == 0, "{verdict}");
    assert!(!room.broker.log().contains("panicked"), "{}", room.broker.log());
}

/// How far a group's commits are.
#[derive(Default)]
struct Commits {
    tried: AtomicI64,
    acknowledged: AtomicI64,
}

#[test]
fn no_acknowledged_commit_is_lost_when_the_coordinator_is_killed() {
    const GROUPS: usize = 4;
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let name = "group-kill-commits";
    let mut rng = Rng::announced(name);
    let properties = ["offsets.topic.num.partitions=2", "group.initial.rebalance.delay.ms=0"];
    let mut broker = BrokerProcess::start(Kind::Ottla, name, &properties).unwrap();
    let bootstrap = broker.bootstrap();
    Librdkafka::start()
        .unwrap()
        .create_topic(&bootstrap, TOPIC, PARTITIONS)
        .unwrap();
    let runtime = runtime().unwrap();
    let groups: Vec<Arc<Commits>> = (0..GROUPS).map(|_| Arc::default()).collect();
    for (number, commits) in groups.iter().enumerate() {
        runtime.spawn(commit_for_ever(
            bootstrap.clone(),
            format!("group{number}"),
            commits.clone(),
        ));
    }
    for kill in 0..times(8, 100) {
        let before: Vec<i64> = groups
            .iter()
            .map(|known| known.acknowledged.load(Ordering::SeqCst))
            .collect();
        wait_for_more(&groups, &before);
        std::thread::sleep(Duration::from_millis(rng.below(300)));
        broker.kill();
        // No answer comes from the dead: what is acknowledged now is what was.
        let known: Vec<i64> = groups
            .iter()
            .map(|known| known.acknowledged.load(Ordering::SeqCst))
            .collect();
        broker.restart().unwrap();
        for (number, acknowledged) in known.iter().enumerate() {
            let offsets = committed(&bootstrap, &format!("group{number}")).unwrap();
            let tried = groups[number].tried.load(Ordering::SeqCst);
            assert_eq!(
                offsets.len(),
                PARTITIONS as usize,
                "kill {kill}, group{number}: {offsets:?}"
            );
            assert!(
                offsets.values().all(|offset| (*acknowledged..=tried).contains(offset)),
                "kill {kill}, group{number}: {acknowledged} was acknowledged, {tried} tried, {offsets:?} is committed"
            );
        }
    }
    let total: i64 = groups
        .iter()
        .map(|known| known.acknowledged.load(Ordering::SeqCst))
        .sum();
    println!("{name}: {total} commits acknowledged, none lost");
}

fn wait_for_more(groups: &[Arc<Commits>], before: &[i64]) {
    let start = Instant::now();
    let more = |(known, before): (&Arc<Commits>, &i64)| known.acknowledged.load(Ordering::SeqCst) > *before;
    while !groups.iter().zip(before).all(more) {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "no commit is acknowledged any more"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Commits 1, 2, 3, ... of all partitions.
async fn commit_for_ever(bootstrap: String, group: String, commits: Arc<Commits>) {
    let partitions: Vec<TopicPartition> = (0..PARTITIONS)
        .map(|number| TopicPartition::new(TOPIC, number))
        .collect();
    let builder = Consumer::builder()
        .bootstrap_servers(bootstrap)
        .group_id(group)
        .enable_auto_commit(false)
        .set("reconnect.backoff.max.ms", "200");
    let consumer = builder.build().await.unwrap();
    consumer.assign(&partitions).unwrap();
    for offset in 1.. {
        commits.tried.store(offset, Ordering::SeqCst);
        let all = partitions.iter().map(|partition| (partition.clone(), offset));
        match consumer.commit_offsets(all).await {
            Ok(()) => commits.acknowledged.store(offset, Ordering::SeqCst),
            Err(error) => println!("commit {offset}: {error}"),
        }
    }
}

#[test]
fn a_member_that_stood_still_overwrites_nothing_on_ottla_in_a_classic_group() {
    zombie(Kind::Ottla, Way::Range, "zombie-ottla-classic");
}

#[test]
fn a_member_that_stood_still_overwrites_nothing_on_ottla_in_a_group_of_the_consumer_protocol() {
    zombie(Kind::Ottla, Way::Consumer, "zombie-ottla-consumer");
}

#[test]
fn a_member_that_stood_still_overwrites_nothing_on_apache_kafka() {
    zombie(Kind::Apache, Way::Consumer, "zombie-apache-consumer");
}

fn zombie(kind: Kind, way: Way, name: &str) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let mut room = Room::start(kind, way, SESSION, name, MEMBER, PARTITIONS).unwrap();
    room.write();
    let zombie = room.join("zombie", &["member.work.ms=100"]).unwrap();
    room.await_shared(1).unwrap();
    room.writer.wait_for(500).unwrap();
    zombie.stop_for(SESSION + Duration::from_secs(3)).unwrap();
    let heir = room.join("heir", &[]).unwrap();
    let is_lost = |what: &What| matches!(what, What::Lost(partitions) if !partitions.is_empty());
    room.book
        .wait("the zombie hears of it", |book| book.has("zombie", is_lost))
        .unwrap();
    // It is a member again, and all share.
    room.await_shared(2).unwrap();
    let ends = room.drain().unwrap();
    zombie.leave().unwrap();
    heir.leave().unwrap();
    assert_eq!(room.committed().unwrap(), ends);
    let verdict = room.judge(name, &ends);
    assert!(verdict.is_clean() && verdict.errors > 0, "{verdict}");
}
