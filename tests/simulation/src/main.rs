//! `make sim SEED=n`: tells the story of one seed.

use std::process::ExitCode;

fn main() -> ExitCode {
    let seed = std::env::var("SEED").ok().and_then(|text| text.parse().ok());
    let Some(seed) = seed else {
        eprintln!("SEED must be a number: SEED=7 make sim");
        return ExitCode::FAILURE;
    };
    ottla_simulation::run(seed, true, &mut ottla_simulation::Coverage::default());
    println!("seed {seed}: no promise broken");
    ExitCode::SUCCESS
}
