//! The mind of the controller: what the cluster is, and which records change it.
//!
//! In: requests, already decoded, and the [`ClusterImage`] they are judged against. Out: metadata records
//! (KIP-631) that carry the decision, and one result for each thing asked. The records are appended to the metadata
//! log by the driver and applied to the image when they are committed, in life and in recovery by the same
//! [`ClusterImage::apply`].
//!
//! It keeps no state of its own and draws no random numbers: a topic id or a placement uses the generator it is given.

use ottla_protocol::ErrorCode;
use std::fmt;

pub mod configs;
pub mod image;
pub mod names;
pub mod partitions;
pub mod placement;
pub mod producer_ids;
pub mod registration;
pub mod topics;

pub use image::{BrokerImage, Change, ClusterImage, ConfigResource, ImageError, PartitionImage, TopicImage};

/// The level of the feature `metadata.version` that a new cluster is given: the records are those of Apache Kafka 4.3.
pub const METADATA_VERSION: i16 = 30;

/// A feature of the cluster and the levels of it that this broker can work at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SupportedFeature {
    /// Its name.
    pub name: &'static str,
    /// The lowest level.
    pub min_level: i16,
    /// The highest level, which a new cluster is given.
    pub max_level: i16,
}

/// The features of this broker. Without `group.version` clients of the consumer protocol (KIP-848) do not even try.
pub const FEATURES: [SupportedFeature; 2] = [
    SupportedFeature {
        name: "metadata.version",
        min_level: METADATA_VERSION,
        max_level: METADATA_VERSION,
    },
    SupportedFeature {
        name: "group.version",
        min_level: 0,
        max_level: 1,
    },
];

/// The most partitions that one request may create, as in Apache Kafka: a request becomes one record batch.
pub const PARTITIONS_PER_REQUEST_MAX: usize = 10_000;

/// An answer that is an error: the code for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiError {
    /// The error code of the response.
    pub code: ErrorCode,
    /// What was wrong, naming the thing it is about.
    pub message: String,
}

impl ApiError {
    /// An error with this code and sentence.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> ApiError {
        ApiError {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for ApiError {}

#[cfg(test)]
mod tests;
