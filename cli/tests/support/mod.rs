//! What the tests of the command share: a broker process, and the command run to its end.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a broken assumption ends a test

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Output, Stdio};

/// A broker process on a free port, stopped at the end.
pub struct BrokerProcess {
    pub child: Child,
    pub address: String,
}

impl BrokerProcess {
    pub fn start(arguments: &[&str]) -> BrokerProcess {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
            .arg("broker")
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim()
            .strip_prefix("bootstrap.servers=")
            .expect("the broker says where it is")
            .to_owned();
        BrokerProcess { child, address }
    }

    pub fn ottla(&self, arguments: &[&str]) -> Output {
        self.ottla_with_input(arguments, "")
    }

    pub fn ottla_with_input(&self, arguments: &[&str], input: &str) -> Output {
        let (subcommand, rest) = arguments.split_first().unwrap();
        run(
            &[&[*subcommand, "--bootstrap-server", &self.address], rest].concat(),
            input,
        )
    }

    pub fn succeeds(&self, arguments: &[&str]) -> String {
        succeeded(self.ottla(arguments))
    }
}

impl Drop for BrokerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn run(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_ottla"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that ends early, with an error to be looked at, reads none of it.
    if let Err(error) = child.stdin.take().unwrap().write_all(input.as_bytes()) {
        assert_eq!(error.kind(), std::io::ErrorKind::BrokenPipe);
    }
    child.wait_with_output().unwrap()
}

pub fn succeeded(output: Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

pub fn failed(output: Output) -> String {
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}",
        String::from_utf8_lossy(&output.stdout)
    );
    String::from_utf8(output.stderr).unwrap()
}

/// Sends a signal to a process.
pub fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args([name, &child.id().to_string()]).status();
    assert!(status.unwrap().success());
}
