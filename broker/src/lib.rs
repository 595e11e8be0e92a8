//! A thin reference broker of the Kafka protocol, as a library and a process.

pub mod config;
