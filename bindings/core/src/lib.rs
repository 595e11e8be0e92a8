//! What the bindings of Ottla share: everything between the client and another language that is not of that language.
//!
//! In: strings, numbers and borrowed bytes. Out: the same, in batches. The bindings for Python, Node and C are thin skins
//! over this crate: they turn its values into objects of their language and wait in the manner of their language. It has
//! no API that a Rust program would want; that is `ottla`.
//!
//! | room | does |
//! |---|---|
//! | `runtime` | one runtime for the process, the fork guard, waiting in slices |
//! | `error` | numbers and kinds of errors, the panic boundary |
//! | `mailbox` | what arrives from the runtime's threads, with one wake-up for all of it |
//! | `bell` | the wake-up as a file descriptor |
//! | `producer`, `parked` | sending without waiting; records that wait for metadata or room |
//! | `consumer`, `batch` | receiving without waiting; records by their number |
//! | `group`, `health` | what is processed, events, commits, closing; how a consumer is, as JSON |
//! | `admin`, `admin_groups` | topics; groups |
//! | `log` | the client's log, for the logger of the language |
//! | `cluster` | the embedded broker, for test kits (feature `broker`) |
//!
//! # How a skin works
//!
//! It makes one [`Waker`](std::task::Waker) for each client: a [`Bell`] (a file descriptor for an event loop), or
//! [`waker`] around a function of its own. Calls never wait, except those that say so and return a future; the skin blocks
//! on such a future ([`wait`], with room for Ctrl-C) or spawns it and posts the result into a [`Mailbox`] ([`spawn`]).
//! When the waker is woken, the skin looks at what it has: reports, mail, records. All of it coalesces: a thousand
//! completions are one wake-up.
//!
//! Every entry from the language goes through [`guard`], so that a panic ends as an error.

mod admin;
mod admin_groups;
mod batch;
mod bell;
#[cfg(feature = "broker")]
mod cluster;
mod consumer;
mod error;
mod group;
mod health;
pub mod log;
mod mailbox;
mod parked;
mod producer;
mod runtime;
#[cfg(test)]
mod tests;

pub use admin::Admin;
pub use batch::{Batch, RecordView, Span};
pub use bell::{Bell, ProcessBell};
#[cfg(feature = "broker")]
pub use cluster::Cluster;
pub use consumer::{Consumer, Polled};
pub use error::{Border, Error, Kind, guard, persisted_name};
pub use group::{Closed as ConsumerClosed, Event, Offsets};
pub use mailbox::{Mailbox, waker};
pub use ottla::{
    BatchReport, Closed, Flushed, Gathered, HandedOffset, Header, NewTopic, OffsetAndMetadata, Partitioner, Persisted,
    Record, Report, Reported, Stretch, Tags, TimestampType, TopicPartition,
};
pub use producer::{Producer, Receipt, Sent, Unclaimed};
pub use runtime::{Owned, generation, runtime, spawn, wait};

/// The version of the library.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// A configuration: Kafka's own keys with their values.
pub type Pairs = Vec<(String, String)>;

/// The partition that a built-in partitioner chooses for a key, for the vectors that every language runs; `None` if the
/// key does not decide.
///
/// # Errors
/// There is no partitioner of that name.
pub fn partition_for_key(partitioner: &str, key: Option<&[u8]>, partitions: i32) -> Result<Option<i32>, Error> {
    let partitioner: Partitioner = partitioner
        .parse()
        .map_err(|unknown: ottla::UnknownPartitioner| Error::argument(unknown.to_string()))?;
    Ok(partitioner.partition_for_key(key, partitions))
}
