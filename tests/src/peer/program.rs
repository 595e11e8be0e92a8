//! A client in another language: a program of `tests/peers` that answers one line of JSON for each line of JSON.
//!
//! | program | client |
//! |---|---|
//! | `librdkafka.py` | librdkafka, by way of confluent-kafka; [`super::librdkafka`] knows its further requests |
//! | `aiokafka.py` | aiokafka |
//! | `kafkajs.js` | kafkajs |
//! | `platformatic.js` | @platformatic/kafka |
//! | `franz-go/main.go` | franz-go |
//!
//! All of them take these requests (kafkajs cannot consume without a group); bytes are hexadecimal, null is null:
//!
//! ```text
//! {"do": "produce", "bootstrap", "topic", "codec", "idempotent", "records": [...]} -> {"receipts": [...] or null}
//! {"do": "consume", "bootstrap", "topic", "partition", "count"}                    -> {"records": [...]}
//! {"do": "group", "bootstrap", "group", "topic", "count"}                          -> {"places": [[partition, offset], ...]}
//! ```
//!
//! The last is read as a member of a group, which then commits everything and leaves.
//!
//! A record has `key`, `value`, `headers` as pairs and `timestamp`; one that was read has `offset` as well. A receipt has
//! `partition`, `offset` and, where the client tells it, `timestamp`.

use std::process::Command;
use std::sync::Arc;

use serde_json::{Value, json};

use super::lines::{Lines, from_hex, to_hex};
use super::{Client, Content, Failure, Incoming, Outgoing, Receipt};
use crate::place;

/// The process.
#[derive(Clone)]
pub struct Program {
    name: &'static str,
    lines: Arc<Lines>,
    idempotent: bool,
    /// Further properties of its clients, in their own keys.
    config: Value,
}

impl Program {
    /// Starts `command`, which is called `name` in failures.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(name: &'static str, command: &mut Command) -> Result<Program, Failure> {
        let lines = Arc::new(Lines::start(name, command)?);
        Ok(Program {
            name,
            lines,
            idempotent: false,
            config: json!({}),
        })
    }

    /// aiokafka, in Python.
    ///
    /// # Errors
    /// When it does not start.
    pub fn aiokafka() -> Result<Program, Failure> {
        Program::start("aiokafka", &mut python("aiokafka.py"))
    }

    /// kafkajs, in Node.
    ///
    /// # Errors
    /// When it does not start.
    pub fn kafkajs() -> Result<Program, Failure> {
        Program::start("kafkajs", &mut node("kafkajs.js"))
    }

    /// @platformatic/kafka, in Node.
    ///
    /// # Errors
    /// When it does not start.
    pub fn platformatic() -> Result<Program, Failure> {
        Program::start("platformatic", &mut node("platformatic.js"))
    }

    /// franz-go.
    ///
    /// # Errors
    /// When it does not start.
    pub fn franz_go() -> Result<Program, Failure> {
        Program::start("franz-go", &mut Command::new(place::peer("franz-go").join("franz-go")))
    }

    /// The same process; what is produced through this handle is idempotent.
    #[must_use]
    pub fn idempotent(&self) -> Program {
        Program {
            idempotent: true,
            ..self.clone()
        }
    }

    /// The same process; its clients get further properties through this handle, in their own keys.
    #[must_use]
    pub fn with_config(&self, config: Value) -> Program {
        Program { config, ..self.clone() }
    }

    /// Reads `count` records as a member of `group`, commits, and leaves: (partition, offset) of each, in order.
    ///
    /// # Errors
    /// When fewer come within half a minute, or the commit fails.
    pub fn read_in_group(
        &self,
        bootstrap: &str,
        group: &str,
        topic: &str,
        count: usize,
    ) -> Result<Vec<(i32, i64)>, Failure> {
        let answer = self.ask(&json!({
            "do": "group", "bootstrap": bootstrap, "group": group, "topic": topic, "count": count, "config": self.config,
        }))?;
        let place = |place: &Value| {
            let (partition, offset) = (place[0].as_i64()?, place[1].as_i64()?);
            Some((partition as i32, offset))
        };
        let places = self.list(&answer, "places")?;
        let mut places: Vec<_> = places.iter().filter_map(place).collect();
        places.sort_unstable();
        Ok(places)
    }

    /// Any request of the program.
    ///
    /// # Errors
    /// The program's.
    pub fn ask(&self, request: &Value) -> Result<Value, Failure> {
        self.lines.ask(request)
    }

    /// The list `name` of an answer.
    fn list<'a>(&self, answer: &'a Value, name: &str) -> Result<&'a Vec<Value>, Failure> {
        let list = answer.get(name).and_then(Value::as_array);
        list.ok_or_else(|| format!("{} answered no {name}", self.name))
    }
}

/// A Python program of `tests/peers`.
pub fn python(script: &str) -> Command {
    let mut command = Command::new(place::peer("py").join("bin/python"));
    // -P: `import aiokafka` means the package, not the script of that name beside it.
    command
        .arg("-P")
        .arg(place::repository().join("tests/peers").join(script));
    command
}

/// A Node program of `tests/peers`. Its packages are found from where npm put them, not from the script's own folder.
fn node(script: &str) -> Command {
    let mut command = Command::new(place::peer("node").join("bin/node"));
    command
        .arg(place::repository().join("tests/peers").join(script))
        .env("NODE_PATH", place::peer("npm").join("node_modules"));
    command
}

impl Client for Program {
    fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        codec: &str,
        records: &[Outgoing],
    ) -> Result<Option<Vec<Receipt>>, Failure> {
        let answer = self.ask(&json!({
            "do": "produce", "bootstrap": bootstrap, "topic": topic, "codec": codec, "idempotent": self.idempotent,
            "config": self.config,
            "records": records.iter().map(outgoing).collect::<Vec<_>>(),
        }))?;
        if answer.get("receipts").is_some_and(Value::is_null) {
            return Ok(None);
        }
        let receipts = self.list(&answer, "receipts")?;
        receipts.iter().map(receipt).collect::<Result<_, _>>().map(Some)
    }

    fn consume(&self, bootstrap: &str, topic: &str, partition: i32, count: usize) -> Result<Vec<Incoming>, Failure> {
        let answer = self.ask(&json!({
            "do": "consume", "bootstrap": bootstrap, "topic": topic, "partition": partition, "count": count,
            "config": self.config,
        }))?;
        self.list(&answer, "records")?.iter().map(incoming).collect()
    }
}

fn outgoing(record: &Outgoing) -> Value {
    let content = &record.content;
    let header = |(key, value): &(String, Option<Vec<u8>>)| json!([key, nullable(value)]);
    let headers: Vec<Value> = content.headers.iter().map(header).collect();
    json!({"key": nullable(&content.key), "value": nullable(&content.value), "headers": headers, "timestamp": record.timestamp})
}

fn nullable(bytes: &Option<Vec<u8>>) -> Value {
    bytes.as_ref().map_or(Value::Null, |bytes| Value::String(to_hex(bytes)))
}

fn bytes(value: Option<&Value>) -> Result<Option<Vec<u8>>, Failure> {
    value.and_then(Value::as_str).map(from_hex).transpose()
}

/// The number `name` of a record or receipt.
pub(super) fn number(value: &Value, name: &str) -> Result<i64, Failure> {
    let number = value.get(name).and_then(Value::as_i64);
    number.ok_or_else(|| format!("no {name} in {value}"))
}

fn receipt(value: &Value) -> Result<Receipt, Failure> {
    Ok(Receipt {
        partition: number(value, "partition")? as i32,
        offset: number(value, "offset")?,
        timestamp: value.get("timestamp").and_then(Value::as_i64),
    })
}

fn incoming(value: &Value) -> Result<Incoming, Failure> {
    let headers = value.get("headers").and_then(Value::as_array).into_iter().flatten();
    let headers = headers
        .map(|header| Ok((header[0].as_str().unwrap_or_default().to_owned(), bytes(header.get(1))?)))
        .collect::<Result<_, Failure>>()?;
    Ok(Incoming {
        offset: number(value, "offset")?,
        timestamp: number(value, "timestamp")?,
        content: Content {
            key: bytes(value.get("key"))?,
            value: bytes(value.get("value"))?,
            headers,
        },
    })
}
