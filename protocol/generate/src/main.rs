//! The command behind `make protocol`: jars in, Rust files out.
//!
//! `ottla-protocol-generate [--out protocol/src] [JAR or DIRECTORY]...`
//!
//! Directories stand for the `kafka-*.jar` files in them; the default is `.peers/kafka-4.4.0`, where `make peers` puts
//! the jars of the release that the committed messages come from.

use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let mut out = PathBuf::from("protocol/src");
    let mut sources = Vec::new();
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument != "--out" {
            sources.push(PathBuf::from(argument));
        } else if let Some(folder) = arguments.next() {
            out = PathBuf::from(folder);
        }
    }
    if sources.is_empty() {
        sources.push(PathBuf::from(".peers/kafka-4.4.0"));
    }
    let written = ottla_protocol_generate::generate(&sources)
        .and_then(|files| ottla_protocol_generate::write(&files, &out).map(|()| files.len()));
    match written {
        Ok(count) => {
            println!("{count} files written below {}", out.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
