//! Members of a group join, leave, die (kill -9) and stand still (SIGSTOP) at random while 64 partitions are written to.
//!
//! No record is skipped, no partition has two owners, no committed offset goes back, and what is read twice is what a dead
//! member had not committed. How long partitions are without owner is printed, not asserted.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::sync::Mutex;
use std::time::{Duration, Instant};

use ottla_tests::groups::room::{Room, SESSION, Way};
use ottla_tests::peer::broker_process::Kind;
use ottla_tests::rng::Rng;

const PARTITIONS: i32 = 64;

/// One at a time: what is judged is a group, not the machine.
static TURN: Mutex<()> = Mutex::new(());

#[test]
fn a_group_of_the_classic_protocol_survives_churn_on_ottla_with_range() {
    churn(Kind::Ottla, Way::Range, "churn-ottla-range", 8);
}

#[test]
fn a_group_of_the_classic_protocol_survives_churn_on_ottla_with_cooperative_sticky() {
    churn(Kind::Ottla, Way::CooperativeSticky, "churn-ottla-cooperative", 16);
}

#[test]
fn a_group_of_the_consumer_protocol_survives_churn_on_ottla() {
    churn(Kind::Ottla, Way::Consumer, "churn-ottla-consumer", 16);
}

#[test]
fn a_group_of_the_classic_protocol_survives_churn_on_apache_kafka() {
    churn(Kind::Apache, Way::CooperativeSticky, "churn-apache-cooperative", 8);
}

#[test]
fn a_group_of_the_consumer_protocol_survives_churn_on_apache_kafka() {
    churn(Kind::Apache, Way::Consumer, "churn-apache-consumer", 8);
}

/// Twelve members for `seconds` in `make test`, fifty for ten minutes in `make long`: as many come and go there, each lives
/// longer.
fn churn(kind: Kind, way: Way, name: &str, seconds: u64) {
    let _turn = TURN.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    let (seconds, crowd, life) = if std::env::var_os("OTTLA_LONG").is_some() {
        (600, "member.count=46", "member.life.ms=35000")
    } else {
        (seconds, "member.count=8", "member.life.ms=6000")
    };
    let mut rng = Rng::announced(name);
    let mut room = Room::start(kind, way, SESSION, name, env!("CARGO_BIN_EXE_member"), PARTITIONS).unwrap();
    room.write();
    let seed = format!("member.seed={}", rng.below(1 << 40));
    let crowd = [crowd, life, "member.work.ms=30", &seed];
    let crowd = room.join("crowd", &crowd).unwrap();
    let mut steady = vec![];
    let mut born = 0;
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(seconds) {
        while steady.len() < 4 {
            let seed = format!("member.seed={}", rng.below(1 << 40));
            steady.push(
                room.join(&format!("steady{born}"), &["member.work.ms=30", &seed])
                    .unwrap(),
            );
            born += 1;
        }
        // Random moments are the point here.
        std::thread::sleep(Duration::from_millis(500 + rng.below(2500)));
        let chosen = steady.swap_remove(rng.index(steady.len()));
        match rng.below(3) {
            0 => chosen.kill(),
            1 => chosen.leave().unwrap(),
            // Longer than a session, and longer than max.poll.interval.ms. It comes back as a zombie.
            _ => {
                chosen
                    .stop_for(SESSION + Duration::from_millis(rng.below(3000)))
                    .unwrap();
                steady.push(chosen);
            }
        }
    }
    let ends = room.drain().unwrap();
    for member in steady {
        member.leave().unwrap();
    }
    crowd.leave().unwrap();
    let verdict = room.judge(name, &ends);
    assert!(verdict.is_clean(), "{verdict}");
    assert!(!room.broker.log().contains("panicked"), "{}", room.broker.log());
}
