//! A client for Apache Kafka and compatible brokers: producer, consumer, admin.
//!
//! ```
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use ottla::{Admin, Consumer, NewTopic, Producer, Record};
//!
//! let cluster = ottla_broker::Cluster::start().await?;          // or any Kafka cluster
//! let servers = cluster.bootstrap_servers();
//!
//! let admin = Admin::builder().bootstrap_servers(&servers).build().await?;
//! admin.create_topics(&[NewTopic::new("gpsraw").partitions(2)]).await?;
//!
//! let producer = Producer::builder().bootstrap_servers(&servers).linger(Duration::from_millis(1)).build().await?;
//! let delivery = producer.send(Record::to("gpsraw").key(b"truck-7").value("48.1,11.6")).await?;
//! let written = delivery.await?;
//! assert_eq!(written.offset, Some(0));
//!
//! let mut consumer = Consumer::builder()
//!     .bootstrap_servers(&servers)
//!     .auto_offset_reset("earliest")
//!     .assign([("gpsraw", 0), ("gpsraw", 1)])
//!     .build()
//!     .await?;
//! let records = consumer.poll().await?.expect("the consumer is open");
//! for record in &records {
//!     assert_eq!((record.key(), record.value()), (Some(&b"truck-7"[..]), Some(&b"48.1,11.6"[..])));
//!     assert_eq!(record.partition(), written.partition);
//! }
//! # Ok(())
//! # }
//! # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
//! ```
//!
//! # What is promised
//!
//! | promise | by |
//! |---|---|
//! | every record that `send` accepted gets one answer, within `delivery.timeout.ms` | [`Producer::send`] |
//! | a failed send says whether the record may be in the log | [`Error::persisted`] |
//! | with `enable.idempotence` (the default) retries neither duplicate nor reorder | [`Producer`] |
//! | a position moves only when records are handed over; a dropped poll loses none | [`Consumer::poll`] |
//! | an offset is committed only when the records before it are processed | [`Consumer::poll`], [`Consumer::store_offsets`] |
//! | who was taken for dead overwrites no offset, and is told | [`Consumer::commit`], [`Consumer::poll`] |
//! | closing returns by its deadline | [`Producer::close`], [`Consumer::close`] |
//! | waiting bytes are bounded: `buffer.memory`, `fetch.buffer.memory` | [`Producer`], [`Consumer`] |
//! | a batch that fails its checksum or cannot be read is never handed over in part | [`Consumer::poll`] |
//! | futures are `Send` and cancel-safe | everywhere |
//! | a key that is not understood is an error, never ignored | [`config`] |
//! | a password or private key is in no event, error or `Debug` output | [`config::Secret`] |
//!
//! # Delivery semantics by name
//!
//! [`ProducerBuilder::delivery_semantics`] sets the keys that keep a promise; a key that contradicts it is an error.
//!
//! | name | lost | written twice | out of order | keys |
//! |---|---|---|---|---|
//! | [`AtMostOnce`](DeliverySemantics::AtMostOnce) | possible, unnoticed with `acks=0` | never | never | `acks=0` unless set, `retries=0`, `enable.idempotence=false` |
//! | [`AtLeastOnce`](DeliverySemantics::AtLeastOnce) | never without an error | possible on a retry | possible on a retry | `acks=all`, `retries` above 0, `enable.idempotence=false` |
//! | [`ExactlyOnce`](DeliverySemantics::ExactlyOnce), the default | never without an error | never | never | `acks=all`, `retries` above 0, `enable.idempotence=true`, at most 5 requests in flight |
//!
//! All of it per partition, and for the retries inside one producer: who sends a record again by himself after
//! [`Persisted::Possibly`] may write it twice.
//!
//! # Seeing what happens
//!
//! [`Producer::metrics`] gives counters and distributions at any time, also as Prometheus text. A [`ProducerObserver`] is told
//! of batches, retries, requests, leaders, and if it wishes of each record. `tracing` has a span for each produce
//! request and events for what befalls batches, with the target `ottla::producer`.
//!
//! Programs without an async runtime use [`blocking`], which has the same names.
//!
//! # Secured clusters
//!
//! `security.protocol` says how connections are protected: by TLS (`ssl.*`, all in PEM), by SASL with PLAIN, SCRAM-SHA-256 or
//! SCRAM-SHA-512 (`sasl.*`), by both or neither; see [`config::KEYS`]. The client never does less than it was told to. Who is
//! refused gets [`ErrorKind::Authentication`], which no retry follows: from `build`, from the records of a producer that is
//! refused later, from the next poll of a consumer.
//!
//! # Consumer groups
//!
//! With a `group.id` a [`Consumer`] subscribes to topics and shares their partitions with the other members of its group, by the
//! classic protocol or by that of KIP-848 (`group.protocol`). A poll says that what earlier polls handed over is processed, and
//! nothing else is ever committed by itself. [`RebalanceListener`] or [`ConsumerEvent`]s tell when partitions come and go;
//! [`Consumer::progress`] and [`Consumer::health`] tell why nothing moves; [`Admin`] looks at groups from outside.
//!
//! What is not here yet: transactions. Their keys are refused with that reason.
//!
//! # Rooms
//!
//! `blocking` (the clients without `async`), `config` (the table of keys), `client` (what all three share), `net` (the only folder with sockets), `producer`,
//! `consumer`, `admin`. What to do, as opposed to doing it, is decided in `ottla-client-state`, without I/O and clock.
//!
//! All clients run on the tokio runtime in which they are built; those of [`blocking`] on one of their own.

mod admin;
pub mod blocking;
mod client;
pub mod config;
mod consumer;
mod error;
mod net;
mod producer;
mod record;
#[cfg(test)]
mod tests;

pub use admin::{
    Admin, AdminBuilder, Answers, BrokerInfo, ClusterDescription, ConfigChange, ConfigEntry, ConfigResource,
    ConfigSource, ConsumerGroupDescription, CreatedTopic, GroupListing, GroupPartitionLag, MemberDescription,
    MemberToRemove, NewTopic, OffsetSpec, PartitionDescription, TopicDescription, TopicListing,
};
pub use config::DeliverySemantics;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use consumer::fuzzing;
pub use consumer::{
    Arrivals, Closer, Committing, Consumer, ConsumerBuilder, ConsumerClosed, ConsumerEvent, ConsumerGroupMetadata,
    ConsumerHealth, ConsumerRecord, ConsumerRecords, GroupHealth, HandedOffset, Iter, ListedOffset, OffsetAndMetadata,
    OwnedHeader, OwnedRecord, PartitionProgress, PartitionState, ProcessedOffsets, Rebalance, RebalanceListener,
    RecordRun,
};
pub use error::{Attempt, Error, ErrorKind, Persisted, Result};
pub use ottla_client_state::assignor::{
    Assignment, Assignor, AssignorError, GroupMember, GroupTopic, Previous, RebalanceProtocol, TopicImage,
};
pub use ottla_client_state::membership::{LeaveMode, Phase};
pub use ottla_client_state::partitioner::{Partitioner, UnknownPartitioner};
pub use ottla_protocol::{ErrorCode, Uuid};
pub use producer::{
    Acknowledgement, BatchReport, BrokerMetrics, Closed, Delivery, Flushed, Gathered, Histogram, IntoReports,
    NotQueued, OutgoingRecord, PartitionerError, Producer, ProducerBuilder, ProducerEvent, ProducerMetrics,
    ProducerObserver, Report, Reported, Reports, Stretch, Tags, Topic, TopicMetrics, TrySendError, Unplaced,
};
pub use record::{Header, Headers, RawHeaders, Record, RecordMetadata, TimestampType, TopicPartition};

/// The partition of a record with this key in a topic with `partitions` partitions, by the default rule: murmur2, as in
/// Java. Gives `None` if there are no partitions. For other rules: [`Partitioner::partition_for_key`].
///
/// ```
/// assert_eq!(ottla::partition_for_key(b"truck-7", 12), Some(3));
/// assert_eq!(ottla::Partitioner::Consistent.partition_for_key(Some(b"truck-7"), 50), Some(15));
/// assert_eq!(ottla::Partitioner::Default.partition_for_key(None, 12), None); // the key does not decide
/// ```
pub fn partition_for_key(key: &[u8], partitions: i32) -> Option<i32> {
    Partitioner::Default.partition_for_key(Some(key), partitions)
}

/// This crate's version, which brokers see in their metrics.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
