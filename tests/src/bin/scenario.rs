//! `scenario FILE...`: the runner of `tests/scenarios` in Rust. What it takes and gives is in `tests/scenarios/README.md`.

use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

use ottla_tests::peer::Failure;
use ottla_tests::peer::ours::runtime;
use ottla_tests::scenario::storyteller::{Place, Storyteller};

fn main() -> ExitCode {
    match runtime().and_then(|runtime| runtime.block_on(tell())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

async fn tell() -> Result<(), Failure> {
    let mut storyteller = Storyteller::new(Place::from_env()?).await?;
    for file in std::env::args().skip(1) {
        let text = std::fs::read_to_string(&file).map_err(|error| format!("{file}: {error}"))?;
        let stem = Path::new(&file).file_stem().unwrap_or_default().to_string_lossy();
        let tell = |told: &str| {
            let mut out = std::io::stdout().lock();
            // A driver that is gone needs no transcript.
            let _ = out.write_all(told.as_bytes()).and_then(|()| out.flush());
        };
        storyteller.tell(&stem, &text, tell).await?;
    }
    Ok(())
}
