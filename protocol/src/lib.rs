//! The Kafka protocol: messages of every version and record batches.

pub mod records;
