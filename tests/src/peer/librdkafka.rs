//! librdkafka, by way of confluent-kafka: `tests/peers/librdkafka.py` in a Python process of its own.

use std::process::Command;

use serde_json::{Value, json};

use super::lines::{Lines, from_hex, to_hex};
use super::{Client, Content, Failure, Incoming, Outgoing, Receipt};
use crate::place;

/// The Python process.
pub struct Librdkafka(Lines);

impl Librdkafka {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Librdkafka, Failure> {
        let python = place::peer("py").join("bin/python");
        let script = place::repository().join("tests/peers/librdkafka.py");
        Ok(Librdkafka(Lines::start(
            "librdkafka",
            Command::new(python).arg(script),
        )?))
    }

    /// Creates a topic with replication factor 1. A topic that exists is an error.
    ///
    /// # Errors
    /// The broker's.
    pub fn create_topic(&self, bootstrap: &str, topic: &str, partitions: i32) -> Result<(), Failure> {
        let request = json!({"do": "create", "bootstrap": bootstrap, "topic": topic, "partitions": partitions});
        self.0.ask(&request).map(drop)
    }

    /// The high watermark of a partition.
    ///
    /// # Errors
    /// When the broker does not tell.
    pub fn end_offset(&self, bootstrap: &str, topic: &str, partition: i32) -> Result<i64, Failure> {
        let request = json!({"do": "end_offset", "bootstrap": bootstrap, "topic": topic, "partition": partition});
        number(&self.0.ask(&request)?, "offset")
    }

    /// Any other request of `librdkafka.py`.
    ///
    /// # Errors
    /// The script's.
    pub fn ask(&self, request: &Value) -> Result<Value, Failure> {
        self.0.ask(request)
    }
}

impl Client for Librdkafka {
    fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        codec: &str,
        records: &[Outgoing],
    ) -> Result<Option<Vec<Receipt>>, Failure> {
        let records: Vec<Value> = records
            .iter()
            .map(|record| {
                let content = &record.content;
                let headers: Vec<Value> = content
                    .headers
                    .iter()
                    .map(|(key, value)| json!([key, nullable(value)]))
                    .collect();
                json!({"key": nullable(&content.key), "value": nullable(&content.value), "headers": headers,
                       "timestamp": record.timestamp})
            })
            .collect();
        let answer = self.0.ask(&json!({
            "do": "produce", "bootstrap": bootstrap, "topic": topic, "codec": codec, "records": records,
        }))?;
        array(&answer, "receipts")?
            .iter()
            .map(receipt)
            .collect::<Result<_, _>>()
            .map(Some)
    }

    fn consume(&self, bootstrap: &str, topic: &str, partition: i32, count: usize) -> Result<Vec<Incoming>, Failure> {
        let answer = self.0.ask(&json!({
            "do": "consume", "bootstrap": bootstrap, "topic": topic, "partition": partition, "count": count,
        }))?;
        array(&answer, "records")?.iter().map(incoming).collect()
    }
}

fn nullable(bytes: &Option<Vec<u8>>) -> Value {
    bytes.as_ref().map_or(Value::Null, |bytes| Value::String(to_hex(bytes)))
}

fn array<'a>(value: &'a Value, name: &str) -> Result<&'a Vec<Value>, Failure> {
    value
        .get(name)
        .and_then(Value::as_array)
        .ok_or_else(|| format!("librdkafka.py answered no {name}"))
}

fn bytes(value: Option<&Value>) -> Result<Option<Vec<u8>>, Failure> {
    value.and_then(Value::as_str).map(from_hex).transpose()
}

fn number(value: &Value, name: &str) -> Result<i64, Failure> {
    value
        .get(name)
        .and_then(Value::as_i64)
        .ok_or_else(|| format!("librdkafka.py answered no {name}"))
}

fn receipt(value: &Value) -> Result<Receipt, Failure> {
    Ok(Receipt {
        partition: number(value, "partition")? as i32,
        offset: number(value, "offset")?,
        timestamp: value.get("timestamp").and_then(Value::as_i64),
    })
}

fn incoming(value: &Value) -> Result<Incoming, Failure> {
    let headers = array(value, "headers")?
        .iter()
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
