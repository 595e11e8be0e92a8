//! Other people's programs, and our own, behind one trait: write these records, read that partition.
//!
//! | file | peer |
//! |---|---|
//! | [`java`] | Kafka's console producer and consumer, `kafka-topics`, `DumpLogSegments`: the tools' own main classes |
//! | [`program`] | aiokafka, kafkajs, @platformatic/kafka, franz-go: programs of `tests/peers` |
//! | [`librdkafka`] | librdkafka, by way of confluent-kafka |
//! | [`ours`] | Ottla's client, and its broker inside this process |
//! | [`broker_process`] | Apache Kafka 4.3.1 or `ottla broker` as a process, which can be killed and started again; on a port of `ports` |
//!
//! Foreign peers are child processes that end when their standard input does, so nothing outlives a test.

pub mod broker_process;
pub mod java;
pub mod librdkafka;
pub mod lines;
pub mod ours;
pub(crate) mod ports;
pub mod program;

/// A header: a key and a value that may be null.
pub type Header = (String, Option<Vec<u8>>);

/// What a record says, whoever writes or reads it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct Content {
    /// The key; `None` is null.
    pub key: Option<Vec<u8>>,
    /// The value; `None` is null (a tombstone).
    pub value: Option<Vec<u8>>,
    /// In order; keys may repeat.
    pub headers: Vec<Header>,
}

/// A record to write.
#[derive(Clone, Debug)]
pub struct Outgoing {
    /// What it says.
    pub content: Content,
    /// Milliseconds since the epoch; `None` leaves it to the producer's clock.
    pub timestamp: Option<i64>,
}

/// What a producer was told about a record it wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Receipt {
    /// The partition that took it.
    pub partition: i32,
    /// Its offset there.
    pub offset: i64,
    /// Its timestamp, where the client reports one.
    pub timestamp: Option<i64>,
}

/// A record as a consumer saw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incoming {
    /// Its offset.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// What it says.
    pub content: Content,
}

/// Why a peer could not do as asked, in its own words.
pub type Failure = String;

/// A client program.
pub trait Client {
    /// Writes `records` to `topic` in order, with acks=all and the given codec (`none`, `gzip`, ...). Records with a key
    /// go where Java's default partitioner sends them. Answers one receipt a record, or none at all if this client has no
    /// way to tell.
    ///
    /// # Errors
    /// When any of them was not acknowledged.
    fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        codec: &str,
        records: &[Outgoing],
    ) -> Result<Option<Vec<Receipt>>, Failure>;

    /// Reads one partition from its beginning until `count` records have come.
    ///
    /// # Errors
    /// When fewer come within half a minute.
    fn consume(&self, bootstrap: &str, topic: &str, partition: i32, count: usize) -> Result<Vec<Incoming>, Failure>;
}
