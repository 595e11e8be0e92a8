//! `member NAME TOPIC KEY=VALUE...`: members of a group that write down what happens to them, until their standard input
//! ends. What they write is described in `tests/src/groups/history.rs`.

use std::io::Read as _;
use std::process::ExitCode;

use ottla_tests::groups::member::{Plan, run};
use tokio::sync::watch;

fn main() -> ExitCode {
    let plan = match Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    };
    let (stop, stopped) = watch::channel(false);
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_to_end(&mut vec![]);
        stop.send_replace(true);
    });
    // One thread: many of these share two cores.
    match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime.block_on(run(plan, stopped)),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
