//! Random schedules of the room; see the head of `ottla_simulation` for what they promise.
//!
//! 2,000 of them unless `SCHEDULES` says otherwise: `SCHEDULES=100000 SEED=7 make sim` runs more, `SEED=7 make sim` tells what
//! happens in one. `SUMMARY=file` writes what was reached. `FAILURES=n` goes on until so many schedules have failed, to tell
//! them all.

#![allow(clippy::expect_used)] // a broken room must stop the test

use std::sync::{Mutex, PoisonError};

use ottla_simulation::{Coverage, run};

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

/// Every `stride`th schedule of `seeds`, until `failures` of all have failed; their seeds go into `failed`.
fn run_some(seeds: std::ops::Range<u64>, stride: usize, failures: usize, failed: &Mutex<Vec<u64>>) -> Coverage {
    let mut coverage = Coverage::default();
    for seed in seeds.step_by(stride) {
        let kept = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| run(seed, false, &mut coverage)));
        let mut failed = failed.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.is_err() {
            eprintln!("seed {seed} breaks a promise");
            failed.push(seed);
        }
        if failed.len() >= failures {
            break;
        }
    }
    coverage
}

#[test]
fn no_schedule_breaks_a_promise() {
    let (first, schedules) = (number("SEED", 1), number("SCHEDULES", 2_000));
    let threads = number("THREADS", 2).max(1);
    let (failures, failed) = (number("FAILURES", 1).max(1) as usize, Mutex::new(Vec::new()));
    let coverage = std::thread::scope(|scope| {
        let run = |thread| {
            let seeds = first + thread..first + schedules;
            let failed = &failed;
            scope.spawn(move || run_some(seeds, threads as usize, failures, failed))
        };
        let running: Vec<_> = (0..threads).map(run).collect();
        let mut all = Coverage::default();
        for thread in running {
            all.merge(thread.join().expect("no schedule breaks a promise"));
        }
        all
    });
    let failed = failed.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(failed, Vec::<u64>::new(), "these seeds break a promise");
    let summary = coverage.summary(first, schedules);
    println!("{summary}");
    if let Some(path) = std::env::var_os("SUMMARY") {
        std::fs::write(path, summary).expect("the summary can be written");
    }
    if schedules >= 20_000 {
        assert_eq!(coverage.blind_spots(), Vec::<String>::new(), "never reached");
    }
}
