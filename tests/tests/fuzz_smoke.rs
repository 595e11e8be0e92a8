//! Every fuzz target for a moment: on small inputs that once broke something, and on seeded noise around them.
//!
//! The fuzzer itself (`make fuzz`) learns which bytes lead further; this only tells early that a target stopped working.

use ottla_tests::fuzzed::TARGETS;
use ottla_tests::rng::Rng;

/// Runs of each target; of the broker's, which has a log to write to, a tenth.
const RUNS: usize = 2_000;

#[test]
fn every_target_takes_seeded_noise() {
    let mut rng = Rng::announced("fuzz-smoke");
    for (name, run) in TARGETS {
        let runs = if name == "broker_requests" { RUNS / 10 } else { RUNS };
        for _ in 0..runs {
            run(&noise(&mut rng));
        }
        println!("{name}: {runs} runs");
    }
}

/// Bytes of which most are small, as lengths and counts are.
fn noise(rng: &mut Rng) -> Vec<u8> {
    let length = 1 + rng.index(200);
    let mut bytes = rng.bytes(length);
    for byte in &mut bytes {
        if rng.below(3) > 0 {
            *byte %= 16;
        }
    }
    bytes
}
