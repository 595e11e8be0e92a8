//! The producer: records in, tickets out.
//!
//! In: [`Record`]s from any number of tasks. Out: a [`Delivery`] for each. It keeps the public promises; the rooms
//! behind it do the work:
//!
//! | room | does |
//! |---|---|
//! | `at_once` | sends without waiting |
//! | `accumulator` | appends a record to the open batch of its partition |
//! | `placing` | the partition of a record, where it is not simply murmur2 of the key |
//! | `buffer_pool` | `buffer.memory` as one hard budget |
//! | `sender` | one task for each leader: takes batches, keeps requests under way |
//! | `produce` | a request out of batches, outcomes out of an answer |
//! | `identity` | the producer id of an idempotent producer |
//! | `claim` | what a sender wants to hear of a record: a ticket, a report |
//! | `delivery` | the tickets |
//! | `awaited` | the records of a batch that are told by reports |
//! | `reports` | the fates of many records, told together |
//! | `watch` | metrics, observers, tracing |
//! | `flush` | waits for tickets and counts their fates |
//!
//! What may be sent, what is retried and what a failure means is decided in `ottla-client-state`.

mod accumulator;
mod at_once;
mod awaited;
mod buffer_pool;
mod claim;
mod delivery;
mod flush;
mod identity;
mod placing;
mod produce;
mod reports;
mod send;
mod sender;
mod shared;
#[cfg(test)]
mod tests;
mod watch;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use ottla_client_state::sequence::Reason;

pub use at_once::{NotQueued, TrySendError};
pub use delivery::Delivery;
pub use flush::Flushed;
pub use placing::{PartitionerError, Unplaced};
pub use reports::{BatchReport, Gathered, IntoReports, Report, Reported, Reports, Stretch, Tags};
pub use watch::{
    Acknowledgement, BrokerMetrics, Histogram, OutgoingRecord, ProducerEvent, ProducerMetrics, ProducerObserver,
    TopicMetrics,
};

use accumulator::TopicQueues;
use at_once::{try_claim, try_send};
use claim::{Ticket, Told};
use placing::{Custom, Placing};
use send::Sending;
use shared::Shared;
use watch::Observers;

use crate::client::Client;
use crate::config::{ClientKind, DeliverySemantics, ProducerConfig, Properties, Settings, common_setters};
use crate::error::Result;
#[cfg(doc)]
use crate::error::{Error, ErrorKind};
use crate::record::Record;

/// Sends records. Cheap to clone; all clones are one producer.
///
/// When the last clone is dropped without [`close`](Producer::close), the records it holds are still sent in the
/// background for as long as the runtime lives, and then everything ends.
#[derive(Clone)]
pub struct Producer {
    owner: Arc<Owner>,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let client_id = &self.shared().client.config().client_id;
        f.debug_struct("Producer")
            .field("client_id", client_id)
            .finish_non_exhaustive()
    }
}

/// Ends the producer when the last handle is gone.
struct Owner {
    shared: Arc<Shared>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let shared = self.shared.clone();
        shared.refuse_records();
        self.shared.runtime().spawn(async move {
            shared.begin_flush().finished().await;
            shared.end();
        });
    }
}

impl Producer {
    /// A producer to be configured.
    pub fn builder() -> ProducerBuilder {
        ProducerBuilder {
            settings: Settings::new(ClientKind::Producer),
            custom: None,
            observers: Observers::default(),
        }
    }

    /// A producer to be configured, with the keys of a properties file (a path) or of pairs.
    ///
    /// # Errors
    /// The file cannot be read or understood. A mistake in a key or value is reported by [`ProducerBuilder::build`].
    pub fn from_properties(properties: impl Into<Properties>) -> Result<ProducerBuilder> {
        Ok(ProducerBuilder {
            settings: Settings::from_properties(ClientKind::Producer, properties)?,
            custom: None,
            observers: Observers::default(),
        })
    }

    async fn with_config(config: ProducerConfig, custom: Option<Custom>, mut observers: Observers) -> Result<Producer> {
        let client = Client::connect(config.client.clone()).await?;
        observers.settle();
        let placing = Placing::new(&config, custom);
        let shared = Shared::new(client, config, placing, observers, tokio::runtime::Handle::current());
        Ok(Producer {
            owner: Arc::new(Owner { shared }),
        })
    }

    /// Whether an observer wants each record.
    pub(crate) fn is_intercepted(&self) -> bool {
        self.shared().watch.observers().want_records()
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.owner.shared
    }

    /// Queues `record` and returns a ticket for its fate.
    ///
    /// Returns as soon as the record is buffered, as a rule without waiting. Waits at most `max.block.ms` for metadata
    /// of a new topic or for room in `buffer.memory`. The record's bytes are copied into the batch.
    ///
    /// # Promises
    /// - Tickets of one partition complete in the order of the `send` calls.
    /// - Every ticket completes: with metadata, or with an error, at the latest after `delivery.timeout.ms`.
    /// - With `enable.idempotence` (the default) a retry inside this producer writes the record once.
    ///
    /// Cancel-safe: a dropped future has not queued the record.
    ///
    /// # Dangers
    /// - Dropping the ticket does not cancel the record. Nothing does.
    /// - After an error, look at [`Error::persisted`]: `Possibly` means that sending again may duplicate.
    ///
    /// # Errors
    /// [`ErrorKind::UnknownTopic`] or [`ErrorKind::Timeout`] after `max.block.ms`, and [`ErrorKind::Argument`] for a
    /// partition that the topic does not get within that time; at once [`ErrorKind::TooLarge`] for a record beyond
    /// `max.request.size`, [`ErrorKind::Argument`] for a partitioner that failed, [`ErrorKind::Closed`] after `close`.
    pub fn send<'a>(&'a self, record: Record<'a>) -> impl Future<Output = Result<Delivery>> + Send + 'a {
        Sending::new(self.shared(), None, record, Ticket)
    }

    /// As [`send`](Producer::send), but never waits.
    ///
    /// A record that is given back keeps its turn: where `partitioner=round_robin` or the application's own partitioner has
    /// chosen a partition for it, it goes there when it is tried again.
    ///
    /// # Errors
    /// [`TrySendError::QueueFull`] gives the record back when there is no room, [`TrySendError::UnknownTopic`] when
    /// the topic's metadata is not here yet (it is asked for); everything else is [`TrySendError::Failed`].
    pub fn try_send<'a>(&self, record: Record<'a>) -> Result<Delivery, TrySendError<'a>> {
        try_send(self.shared(), None, record)
    }

    /// As [`send`](Producer::send), without a ticket: the record's fate is told to `reports` under `tag`, or, without a tag, only
    /// if it fails (as [`Report::UNTAGGED`]). Tags that grow by one in the order of sending are told together.
    ///
    /// Nothing of the record is told to `reports` if this gives an error.
    ///
    /// # Errors
    /// As [`send`](Producer::send).
    pub fn send_reported<'a>(
        &'a self,
        record: Record<'a>,
        reports: &'a Arc<Reports>,
        tag: Option<u64>,
    ) -> impl Future<Output = Result<()>> + Send + 'a {
        Sending::new(self.shared(), None, record, Told { reports, tag })
    }

    /// As [`send_reported`](Producer::send_reported), but never waits. The record is only looked at, and stays its owner's: to
    /// try again, pass the same one, which then keeps its turn as in [`try_send`](Producer::try_send).
    ///
    /// # Errors
    /// As [`try_send`](Producer::try_send).
    #[inline]
    pub fn try_send_reported(
        &self,
        record: &mut Record<'_>,
        reports: &Arc<Reports>,
        tag: Option<u64>,
    ) -> Result<(), NotQueued> {
        try_claim(self.shared(), None, record, Told { reports, tag })
    }

    /// Waits until `buffer.memory` has room for one more batch, at most `max.block.ms`; for callers whose
    /// [`try_send`](Producer::try_send) gave a record back. Somebody else may be faster: try again. Cancel-safe.
    ///
    /// # Errors
    /// [`ErrorKind::Timeout`] after `max.block.ms`; [`ErrorKind::Closed`] after `close`.
    pub async fn room(&self) -> Result<()> {
        send::room(self.shared()).await
    }

    /// A handle on a topic, which saves the look-up by name for each record. Waits for the topic's metadata.
    ///
    /// # Errors
    /// As [`send`](Producer::send).
    pub async fn topic(&self, name: &str) -> Result<Topic> {
        let shared = self.shared();
        let deadline = tokio::time::Instant::now() + shared.config.max_block;
        let queues = send::topic(shared, name, deadline).await?;
        Ok(Topic {
            producer: self.clone(),
            queues,
        })
    }

    /// Sends everything queued so far without lingering, waits until each record of it is delivered or has failed, and
    /// counts both.
    ///
    /// Returns at the latest after `delivery.timeout.ms`. Which record failed and why is said by the tickets. Records
    /// sent by others meanwhile are neither waited for nor counted. Cancel-safe: what was queued goes all the same.
    pub async fn flush(&self) -> Flushed {
        let flushing = self.shared().begin_flush();
        flushing.finished().await;
        flushing.tally()
    }

    /// As [`flush`](Producer::flush), but returns at the latest after `timeout`. What is not settled by then is counted
    /// as [`Flushed::pending`] and goes on.
    pub async fn flush_timeout(&self, timeout: Duration) -> Flushed {
        let flushing = self.shared().begin_flush();
        // Whether the time was enough is said by the counts.
        let _ = tokio::time::timeout(timeout, flushing.finished()).await;
        flushing.tally()
    }

    /// Takes no more records, sends what is queued, and ends the producer, at the latest after `timeout`.
    ///
    /// What is not acknowledged by then fails with [`ErrorKind::Closed`]; those tickets say whether their records may
    /// be in the log. Always returns, and every ticket is complete then. A second call finds nothing left to do.
    ///
    /// # Errors
    /// None so far; what was not delivered is counted in [`Closed`].
    pub async fn close(&self, timeout: Duration) -> Result<Closed> {
        let shared = self.shared();
        shared.refuse_records();
        let flushing = shared.begin_flush();
        let in_time = tokio::time::timeout(timeout, flushing.finished()).await.is_ok();
        if !in_time {
            tracing::warn!("the producer was closed before all records were acknowledged");
            shared.abort(&Reason::Closed);
        }
        shared.end();
        let metrics = shared.watch.show(shared);
        Ok(Closed {
            delivered: metrics.records_delivered,
            failed: metrics.records_failed,
            unknown: metrics.records_unknown,
        })
    }

    /// Totals and distributions since the producer was built, and what it holds now. Costs a few microseconds; may be
    /// called at any time, also after `close`.
    pub fn metrics(&self) -> ProducerMetrics {
        self.shared().watch.show(self.shared())
    }
}

/// What became of all records of a producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Closed {
    /// Acknowledged (with `acks=0`: written to the socket).
    pub delivered: u64,
    /// Failed, and certainly not in the log.
    pub failed: u64,
    /// Failed, and possibly in the log.
    pub unknown: u64,
}

/// A topic to send to, from [`Producer::topic`].
#[derive(Debug, Clone)]
pub struct Topic {
    producer: Producer,
    queues: Arc<TopicQueues>,
}

impl Topic {
    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.queues.name
    }

    /// Partitions known so far.
    pub fn partition_count(&self) -> usize {
        self.queues.partition_count() as usize
    }

    /// A record for this topic.
    pub fn record(&self) -> Record<'_> {
        Record::to(&self.queues.name)
    }

    /// As [`Producer::send`], to this topic, whatever topic the record names.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn send<'a>(&'a self, record: Record<'a>) -> impl Future<Output = Result<Delivery>> + Send + 'a {
        Sending::new(self.producer.shared(), Some(&self.queues), record, Ticket)
    }

    /// As [`Producer::try_send`], to this topic, whatever topic the record names.
    ///
    /// # Errors
    /// As [`Producer::try_send`]; the topic is never unknown.
    pub fn try_send<'a>(&self, record: Record<'a>) -> Result<Delivery, TrySendError<'a>> {
        try_send(self.producer.shared(), Some(&self.queues), record)
    }
}

/// Configures a [`Producer`]. Every key of Kafka's producer has its name in [`set`](ProducerBuilder::set).
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    settings: Settings,
    custom: Option<Custom>,
    observers: Observers,
}

impl ProducerBuilder {
    common_setters!();

    /// How long a batch waits for more records before it is sent (`linger.ms`, default 5 ms).
    #[must_use]
    pub fn linger(self, linger: Duration) -> Self {
        self.set("linger.ms", linger.as_millis())
    }

    /// The size in bytes up to which records are gathered in one batch (`batch.size`, default 16,384).
    #[must_use]
    pub fn batch_size(self, bytes: usize) -> Self {
        self.set("batch.size", bytes)
    }

    /// The bytes that unacknowledged records may take (`buffer.memory`, default 32 MiB).
    #[must_use]
    pub fn buffer_memory(self, bytes: usize) -> Self {
        self.set("buffer.memory", bytes)
    }

    /// How long a record may take from `send` to its acknowledgement (`delivery.timeout.ms`, default 2 minutes).
    #[must_use]
    pub fn delivery_timeout(self, timeout: Duration) -> Self {
        self.set("delivery.timeout.ms", timeout.as_millis())
    }

    /// Has an observer told what the producer does; may be called several times. Keep an `Arc` to read what it saw.
    #[must_use]
    pub fn observer(mut self, observer: Arc<dyn ProducerObserver>) -> Self {
        self.observers.add(observer);
        self
    }

    /// What is promised about each record, by name instead of by `acks`, `retries` and `enable.idempotence`. Without it
    /// those keys decide; their defaults are [`DeliverySemantics::ExactlyOnce`]. A key set to something else than the
    /// promise needs is an error of [`build`](ProducerBuilder::build).
    #[must_use]
    pub fn delivery_semantics(mut self, semantics: DeliverySemantics) -> Self {
        self.settings.delivery_semantics(semantics);
        self
    }

    /// Places records by the application's own function (KIP-22, without a class to load). The built-in rules are chosen
    /// by name instead, with the key `partitioner`; see [`Partitioner`](crate::Partitioner).
    ///
    /// `choose` is called by `send` for every record that names no partition, from whichever thread sends, so it should
    /// be quick. It gives a partition, `None` to leave this record to the key `partitioner` (after which it may be asked
    /// again about the same record), or an error. An error, a partition that the topic does not have, and a panic each
    /// fail this one `send` with [`ErrorKind::Argument`]; the producer goes on.
    ///
    /// ```
    /// # async fn run() -> Result<(), Box<dyn std::error::Error>> {
    /// # use ottla::{Admin, ErrorKind, NewTopic, Producer, Record};
    /// # let cluster = ottla_broker::Cluster::start().await?;
    /// # let servers = cluster.bootstrap_servers();
    /// # let admin = Admin::builder().bootstrap_servers(&servers).build().await?;
    /// # admin.create_topics(&[NewTopic::new("calls").partitions(4)]).await?;
    /// // Partition 0 is kept for emergencies; everybody else goes by the key among the other partitions.
    /// let producer = Producer::builder()
    ///     .bootstrap_servers(&servers)
    ///     .partitioner(|record| match record.key() {
    ///         Some(b"112") => Ok(Some(0)),
    ///         Some(key) => Ok(ottla::partition_for_key(key, record.partitions() - 1).map(|partition| partition + 1)),
    ///         None => Err("a call without a number".into()),
    ///     })
    ///     .build()
    ///     .await?;
    /// let call = producer.send(Record::to("calls").key(b"112")).await?.await?;
    /// assert_eq!(call.partition, 0);
    /// let call = producer.send(Record::to("calls").key(b"555-0100")).await?.await?;
    /// assert_ne!(call.partition, 0);
    /// let error = producer.send(Record::to("calls")).await.unwrap_err();
    /// assert_eq!(error.kind(), ErrorKind::Argument);
    /// assert!(error.message().contains("a call without a number"));
    /// # Ok(())
    /// # }
    /// # tokio::runtime::Runtime::new().unwrap().block_on(run()).unwrap();
    /// ```
    #[must_use]
    pub fn partitioner<F>(mut self, choose: F) -> Self
    where
        F: Fn(&Unplaced<'_>) -> Result<Option<i32>, PartitionerError> + Send + Sync + 'static,
    {
        self.custom = Some(Custom::new(choose));
        self
    }

    /// Looks for mistakes in keys and values, without connecting.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the first one.
    pub fn validate(&self) -> Result<()> {
        self.settings.clone().producer().map(drop)
    }

    /// Connects to the cluster.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the first mistake in keys or values, and whatever kept every bootstrap server from
    /// answering.
    pub async fn build(self) -> Result<Producer> {
        Producer::with_config(self.settings.producer()?, self.custom, self.observers).await
    }
}
