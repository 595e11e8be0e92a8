//! The command behind `make protocol`: jars in, Rust files out.
//!
//! `ottla-protocol-generate [--out protocol/src] [JAR or DIRECTORY]...`
//!
//! Directories stand for the `kafka-*.jar` files in them; the default is `.peers/kafka-4.4.0`, where `make peers` puts
//! the jars of the release that the committed messages come from.

use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "usage: ottla-protocol-generate [--out FOLDER] [JAR or DIRECTORY]...";

fn main() -> ExitCode {
    let mut out = PathBuf::from("protocol/src");
    let mut sources = Vec::new();
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        match (argument.to_str(), argument == "--out") {
            (_, true) => match arguments.next() {
                Some(folder) => out = PathBuf::from(folder),
                None => return fail(USAGE),
            },
            (Some(option), _) if option.starts_with('-') => return fail(USAGE),
            _ => sources.push(PathBuf::from(argument)),
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
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(text: &str) -> ExitCode {
    eprintln!("{text}");
    ExitCode::FAILURE
}
