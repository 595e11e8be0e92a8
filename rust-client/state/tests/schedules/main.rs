//! The queue and the sequences against a model of brokers, under random schedules in virtual time.
//!
//! Up to three partitions, two brokers that lead them in turn, one connection to each. Requests of one connection keep their
//! order; everything else is up to the seed: requests and answers are lost, a dead connection's requests are carried out
//! later or never, leaders move and take only what was acknowledged with them, topics vanish from the metadata or are
//! created anew, brokers forget producers, answers are errors of every kind before or after the append, the client gives
//! up, time jumps over timeouts. The promises are checked on the logs of the model and on every ticket:
//!
//! - every ticket completes exactly once, in the order of appending, and at the latest at its batch's deadline;
//! - an acknowledged record is where it was acknowledged (acks=all), a record that failed with `No` is nowhere;
//! - with idempotence the log holds no record twice and all records in the order of appending;
//! - with one request at a time the order is kept without idempotence as well; acks=0 writes nothing twice;
//! - once the faults end, everything is settled and a new record gets through.
//!
//! `SCHEDULES=100000 SEED=7 cargo test -p ottla-client-state --release --test schedules` runs more of them, on `THREADS`
//! threads. `SCHEDULES=1 SEED=7 STORY=1 ... -- --nocapture` tells what happens in one. `SUMMARY=file` writes what was reached.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // a broken model must stop the test

mod broker;
mod coverage;
mod plan;
mod promises;
mod world;

use coverage::Coverage;
use world::World;

const STEPS: u32 = 400;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

fn run(seed: u64, tells: bool, coverage: &mut Coverage) {
    let mut world = World::new(seed, tells);
    for _ in 0..STEPS {
        world.step();
    }
    world.heal();
    promises::check(&world);
    coverage.add(&world);
}

/// Every `stride`th schedule from `first` on.
fn run_some(seeds: std::ops::Range<u64>, stride: usize, tells: bool) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in seeds.step_by(stride) {
        let kept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, tells, &mut coverage)));
        assert!(kept.is_ok(), "seed {seed} breaks a promise");
    }
    coverage
}

#[test]
fn no_schedule_breaks_a_promise() {
    let (first, schedules) = (number("SEED", 1), number("SCHEDULES", 2_000));
    let threads = number("THREADS", 2).max(1);
    let tells = std::env::var_os("STORY").is_some();
    let coverage = std::thread::scope(|scope| {
        let run = |thread| scope.spawn(move || run_some(first + thread..first + schedules, threads as usize, tells));
        let running: Vec<_> = (0..threads).map(run).collect();
        let mut all = Coverage::default();
        for thread in running {
            all.merge(thread.join().expect("no schedule breaks a promise"));
        }
        all
    });
    let summary = coverage.summary(first, schedules);
    println!("{summary}");
    if let Some(path) = std::env::var_os("SUMMARY") {
        std::fs::write(path, summary).unwrap();
    }
    if schedules >= 1_000 {
        coverage.refuse_blind_spots(schedules);
    }
}
