//! librdkafka, by way of confluent-kafka: `tests/peers/librdkafka.py` in a Python process of its own.
//!
//! As a client it is a [`Program`] like the others; it also makes topics, tells the end of a partition and writes in the
//! background for the tests that kill a broker.

use serde_json::{Value, json};

use super::program::{Program, number, python};
use super::{Client, Failure, Incoming, Outgoing, Receipt};
use crate::secured::Access;

/// The Python process.
#[derive(Clone)]
pub struct Librdkafka(Program);

impl Librdkafka {
    /// Starts it.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start() -> Result<Librdkafka, Failure> {
        Program::start("librdkafka", &mut python("librdkafka.py")).map(Librdkafka)
    }

    /// The same process; its clients come in by `access`.
    #[must_use]
    pub fn secured(&self, access: &Access) -> Librdkafka {
        Librdkafka(self.0.with_config(access.librdkafka()))
    }

    /// Asks for the metadata by `access`: whether it was let in, and what librdkafka said meanwhile.
    ///
    /// # Errors
    /// The script's.
    pub fn knock(&self, bootstrap: &str, access: &Access) -> Result<(bool, String), Failure> {
        let answer = self
            .0
            .ask(&json!({"do": "knock", "bootstrap": bootstrap, "config": access.librdkafka()}))?;
        Ok((answer["in"] == json!(true), answer["errors"].to_string()))
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

    /// The program, for what all programs can do.
    pub fn program(&self) -> &Program {
        &self.0
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
        self.0.produce(bootstrap, topic, codec, records)
    }

    fn consume(&self, bootstrap: &str, topic: &str, partition: i32, count: usize) -> Result<Vec<Incoming>, Failure> {
        self.0.consume(bootstrap, topic, partition, count)
    }
}
