//! The consumer without `async`.
//!
//! In: calls of one thread. Out: records. Fetching goes on in the background, on the shared runtime; `poll` waits only
//! when nothing has arrived yet.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_client_state::assignor::Assignor;
use ottla_client_state::membership::LeaveMode;

use super::{block_on, setters};
use crate::config::Properties;
use crate::consumer::{
    Closer, ConsumerClosed, ConsumerEvent, ConsumerGroupMetadata, ConsumerHealth, ConsumerRecords, HandedOffset,
    ListedOffset, OffsetAndMetadata, PartitionProgress, RebalanceListener,
};
use crate::error::Result;
use crate::record::TopicPartition;

/// Reads records of partitions, alone or as a member of a group. As [`crate::Consumer`], without `async`. A thread that waits
/// in [`poll`](Consumer::poll) is set free by a [`Closer`].
#[derive(Debug)]
pub struct Consumer {
    inner: crate::Consumer,
}

/// Methods that wait, by the name of the asynchronous one.
macro_rules! waiting {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*) => {
        $(
            #[doc = concat!("As [`Consumer::", stringify!($name), "`](crate::Consumer::", stringify!($name), ").")]
            ///
            /// # Errors
            /// As there; [`ErrorKind::Runtime`](crate::ErrorKind::Runtime) inside of an async task.
            pub fn $name(&self, $($argument: $kind),*) -> Result<$output> {
                block_on(self.inner.$name($($argument),*))?
            }
        )*
    };
}

/// Methods that do not wait.
macro_rules! ready {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*) => {
        $(
            #[doc = concat!("As [`Consumer::", stringify!($name), "`](crate::Consumer::", stringify!($name), ").")]
            pub fn $name(&self, $($argument: $kind),*) -> $output {
                self.inner.$name($($argument),*)
            }
        )*
    };
}

impl Consumer {
    /// Collects a configuration.
    pub fn builder() -> ConsumerBuilder {
        crate::Consumer::builder().into()
    }

    /// As [`crate::Consumer::from_properties`].
    ///
    /// # Errors
    /// As [`crate::Consumer::from_properties`].
    pub fn from_properties(properties: impl Into<Properties>) -> Result<ConsumerBuilder> {
        crate::Consumer::from_properties(properties).map(Into::into)
    }

    /// The next records, at least one. Waits for them; `None` after the consumer was closed. As
    /// [`crate::Consumer::poll`].
    ///
    /// # Errors
    /// As there; [`ErrorKind::Runtime`](crate::ErrorKind::Runtime) inside of an async task.
    pub fn poll(&mut self) -> Result<Option<ConsumerRecords>> {
        block_on(self.inner.poll())?
    }

    /// As [`Consumer::poll`], but gives no records when none came within `timeout`.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub fn poll_timeout(&mut self, timeout: Duration) -> Result<Option<ConsumerRecords>> {
        block_on(self.inner.poll_timeout(timeout))?
    }

    waiting! {
        position(partition: &TopicPartition) -> i64;
        beginning_offsets(partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, i64>;
        end_offsets(partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, i64>;
        offsets_for_times(timestamps: &[(TopicPartition, i64)]) -> BTreeMap<TopicPartition, ListedOffset>;
        partitions_for(topic: &str) -> Vec<TopicPartition>;
        unsubscribe() -> ();
        commit() -> ();
        commit_offsets(offsets: impl IntoIterator<Item = (TopicPartition, impl Into<OffsetAndMetadata>)>) -> ();
        commit_records(records: &ConsumerRecords) -> ();
        commit_handed(handed: impl IntoIterator<Item = HandedOffset>) -> ();
        committed(partitions: &[TopicPartition]) -> BTreeMap<TopicPartition, Option<OffsetAndMetadata>>;
    }

    ready! {
        assign(partitions: &[TopicPartition]) -> Result<()>;
        assignment() -> Vec<TopicPartition>;
        seek(partition: &TopicPartition, offset: i64) -> Result<()>;
        seek_to_beginning(partition: &TopicPartition) -> Result<()>;
        seek_to_end(partition: &TopicPartition) -> Result<()>;
        seek_to_timestamp(partition: &TopicPartition, timestamp_ms: i64) -> Result<()>;
        lag(partition: &TopicPartition) -> Option<i64>;
        pause(partitions: &[TopicPartition]) -> Result<()>;
        resume(partitions: &[TopicPartition]) -> Result<()>;
        paused() -> Vec<TopicPartition>;
        closer() -> Closer;
        buffered_bytes() -> usize;
        subscribe(topics: impl IntoIterator<Item = impl Into<Arc<str>>>) -> Result<()>;
        subscribe_pattern(pattern: &str) -> Result<()>;
        subscription() -> Vec<Arc<str>>;
        store_offsets(offsets: impl IntoIterator<Item = (TopicPartition, impl Into<OffsetAndMetadata>)>) -> Result<()>;
        store_records(records: &ConsumerRecords) -> Result<()>;
        store_handed(handed: impl IntoIterator<Item = HandedOffset>) -> Result<()>;
        group_metadata() -> Result<ConsumerGroupMetadata>;
        enforce_rebalance(reason: &str) -> Result<()>;
        extend_poll(within: Duration) -> Result<()>;
        keep_alive() -> Result<()>;
        try_event() -> Option<ConsumerEvent>;
        acknowledge_revocation() -> Result<()>;
        progress() -> Vec<PartitionProgress>;
        health() -> ConsumerHealth;
    }

    /// Begins to commit as [`Consumer::commit`], and returns at once; [`Committing::wait`] tells what became of it.
    pub fn commit_async(&self) -> Committing {
        Committing {
            inner: self.inner.commit_async(),
        }
    }

    /// Commits what is processed, leaves the group and closes the connections, by `deadline`. As
    /// [`crate::Consumer::close`].
    ///
    /// # Errors
    /// [`ErrorKind::Runtime`](crate::ErrorKind::Runtime) inside of an async task; it is closed in the background then.
    pub fn close(self, deadline: Duration) -> Result<ConsumerClosed> {
        block_on(self.inner.close(deadline))
    }

    /// As [`Consumer::close`], leaving the group or not as `mode` says.
    ///
    /// # Errors
    /// As [`Consumer::close`].
    pub fn close_with(self, deadline: Duration, mode: LeaveMode) -> Result<ConsumerClosed> {
        block_on(self.inner.close_with(deadline, mode))
    }
}

/// A commit on its way. Dropping it does not cancel the commit.
#[derive(Debug)]
#[must_use = "the error of a commit is only told here; drop it explicitly if it does not matter"]
pub struct Committing {
    inner: crate::consumer::Committing,
}

impl Committing {
    /// Waits until it is done.
    ///
    /// # Errors
    /// As [`crate::Consumer::commit`]; [`ErrorKind::Runtime`](crate::ErrorKind::Runtime) inside of an async task.
    pub fn wait(self) -> Result<()> {
        block_on(self.inner)?
    }
}

/// Configures a [`Consumer`]. Whatever the asynchronous builder can do can be done there and converted by `into()`.
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    inner: crate::ConsumerBuilder,
}

impl ConsumerBuilder {
    setters! {
        ConsumerBuilder::bootstrap_servers(servers: impl ToString);
        ConsumerBuilder::client_id(id: impl ToString);
        ConsumerBuilder::request_timeout(timeout: Duration);
        ConsumerBuilder::assign(partitions: impl IntoIterator<Item = impl Into<TopicPartition>>);
        ConsumerBuilder::auto_offset_reset(policy: impl ToString);
        ConsumerBuilder::max_poll_records(records: usize);
        ConsumerBuilder::read_committed(yes: bool);
        ConsumerBuilder::group_id(id: impl ToString);
        ConsumerBuilder::group_instance_id(id: impl ToString);
        ConsumerBuilder::group_protocol(protocol: impl ToString);
        ConsumerBuilder::enable_auto_commit(yes: bool);
        ConsumerBuilder::topics(topics: impl IntoIterator<Item = impl Into<Arc<str>>>);
        ConsumerBuilder::topic_pattern(pattern: impl Into<String>);
        ConsumerBuilder::rebalance_listener(listener: impl RebalanceListener + 'static);
        ConsumerBuilder::rebalance_events(yes: bool);
        ConsumerBuilder::assignor(assignor: impl Assignor + 'static);
    }

    /// Sets any key by Kafka's name. A mistake in key or value is reported by `build`.
    #[must_use]
    pub fn set(self, key: &str, value: impl ToString) -> Self {
        self.inner.set(key, value).into()
    }

    /// As [`crate::ConsumerBuilder::build`].
    ///
    /// # Errors
    /// As there; [`ErrorKind::Runtime`](crate::ErrorKind::Runtime) inside of an async task.
    pub fn build(self) -> Result<Consumer> {
        let inner = block_on(self.inner.build())??;
        Ok(Consumer { inner })
    }
}

impl From<crate::ConsumerBuilder> for ConsumerBuilder {
    fn from(inner: crate::ConsumerBuilder) -> Self {
        ConsumerBuilder { inner }
    }
}
