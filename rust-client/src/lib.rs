//! A client for Apache Kafka and compatible brokers: producer, consumer, admin.

mod admin;
mod client;
pub mod config;
mod consumer;
mod error;
mod net;
mod producer;
mod record;
#[cfg(test)]
mod testing;

pub use admin::{
    Admin, AdminBuilder, Answers, BrokerInfo, ClusterDescription, ConfigChange, ConfigEntry, ConfigResource,
    ConfigSource, CreatedTopic, NewTopic, OffsetSpec, PartitionDescription, TopicDescription, TopicListing,
};
pub use consumer::{
    Closer, Consumer, ConsumerBuilder, ConsumerRecord, ConsumerRecords, Iter, ListedOffset, OwnedHeader, OwnedRecord,
};
pub use error::{Error, ErrorKind, Persisted, Result};
pub use ottla_protocol::{ErrorCode, Uuid};
pub use producer::{Closed, Delivery, Producer, ProducerBuilder, ProducerMetrics, Topic, TrySendError};
pub use record::{Header, Headers, Record, RecordMetadata, TimestampType, TopicPartition};

/// This crate's version, which brokers see in their metrics.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
