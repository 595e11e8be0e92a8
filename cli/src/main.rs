//! The `ottla` command. All of it is in the library beside, which packages of other languages carry as well.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ottla_cli::run(std::env::args_os()))
}
