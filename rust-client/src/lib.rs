//! A client for Apache Kafka and compatible brokers: producer, consumer, admin.

mod client;
pub mod config;
mod error;
mod net;
mod record;

pub use error::{Error, ErrorKind, Persisted, Result};
pub use ottla_protocol::ErrorCode;
pub use record::{Header, Headers, Record, RecordMetadata, TimestampType, TopicPartition};
