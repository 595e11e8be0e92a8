//! A child process that answers one line of JSON for each line of JSON.

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Mutex;

use serde_json::Value;

use super::Failure;

/// The process. Requests of several threads take turns.
pub struct Lines {
    name: &'static str,
    pipes: Mutex<Pipes>,
}

struct Pipes {
    child: Child,
    requests: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Lines {
    /// Starts `command`. Its standard error goes to the test's.
    ///
    /// # Errors
    /// When the process does not start.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Lines, Failure> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| format!("{name} does not start: {error}"))?;
        let (Some(requests), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            return Err(format!("{name} has no pipes"));
        };
        Ok(Lines {
            name,
            pipes: Mutex::new(Pipes {
                child,
                requests,
                answers: BufReader::new(answers),
            }),
        })
    }

    /// Sends one request and waits for its answer.
    ///
    /// # Errors
    /// When the process is gone, or answers `{"error": ...}`.
    pub fn ask(&self, request: &Value) -> Result<Value, Failure> {
        let mut pipes = self
            .pipes
            .lock()
            .map_err(|_| format!("{}: an earlier request panicked", self.name))?;
        let lost = |error: std::io::Error| format!("{} is gone: {error}", self.name);
        writeln!(pipes.requests, "{request}").map_err(lost)?;
        pipes.requests.flush().map_err(lost)?;
        let mut line = String::new();
        pipes.answers.read_line(&mut line).map_err(lost)?;
        let answer: Value =
            serde_json::from_str(&line).map_err(|error| format!("{} answered {line:?}: {error}", self.name))?;
        match answer.get("error").and_then(Value::as_str) {
            Some(error) => Err(format!("{}: {error}", self.name)),
            None => Ok(answer),
        }
    }
}

impl Drop for Pipes {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Bytes as lower-case hexadecimal digits: the form in which they travel inside JSON.
pub fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The reverse of [`to_hex`].
///
/// # Errors
/// When `text` is not hexadecimal.
pub fn from_hex(text: &str) -> Result<Vec<u8>, Failure> {
    let digits = text.as_bytes();
    if !text.is_ascii() || !digits.len().is_multiple_of(2) {
        return Err("not hexadecimal".to_owned());
    }
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).map_err(|error| format!("not hexadecimal: {error}")))
        .collect()
}
