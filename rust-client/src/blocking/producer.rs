//! The producer without `async`.
//!
//! In: records from any thread. Out: tickets to wait for. A record that finds room is appended on the caller's thread
//! at once, as the asynchronous producer does it; only a caller that has to wait goes through the runtime.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use super::{block_on, may_wait, setters, wait};
use crate::config::{DeliverySemantics, Properties};
use crate::error::{Persisted, Result};
use crate::producer::{Closed, Flushed, PartitionerError, ProducerMetrics, ProducerObserver, TrySendError, Unplaced};
use crate::record::{Record, RecordMetadata, TopicPartition};

/// Sends records. Cheap to clone; all clones are one producer. As [`crate::Producer`], without `async`.
///
/// Dropping the last clone sends what it holds and waits for it, at most `delivery.timeout.ms`: a program usually ends
/// then, and with it the threads that send. It does not wait while the thread panics or inside of an async task.
#[derive(Debug, Clone)]
pub struct Producer {
    owner: Arc<Owner>,
}

#[derive(Debug)]
struct Owner {
    inner: crate::Producer,
}

impl Drop for Owner {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            // An error says that this thread must not wait. The records are sent in the background then.
            let _ = block_on(self.inner.flush());
        }
    }
}

impl Producer {
    /// A producer to be configured.
    pub fn builder() -> ProducerBuilder {
        crate::Producer::builder().into()
    }

    /// As [`crate::Producer::from_properties`].
    ///
    /// # Errors
    /// As [`crate::Producer::from_properties`].
    pub fn from_properties(properties: impl Into<Properties>) -> Result<ProducerBuilder> {
        crate::Producer::from_properties(properties).map(Into::into)
    }

    /// Queues `record` and returns a ticket for its fate. Waits at most `max.block.ms` for metadata of a new topic or for
    /// room in `buffer.memory`, else not at all. Promises and dangers as [`crate::Producer::send`].
    ///
    /// # Errors
    /// As [`crate::Producer::send`]; [`crate::ErrorKind::Runtime`] if it would have to wait in an async task.
    pub fn send(&self, record: Record<'_>) -> Result<Delivery> {
        let inner = &self.owner.inner;
        // An observer of records must see each once, so there is no first try for it.
        let record = match inner.is_intercepted() {
            true => record,
            false => match inner.try_send(record) {
                Ok(delivery) => return Ok(delivery.into()),
                Err(TrySendError::QueueFull(record) | TrySendError::UnknownTopic(record)) => record,
                Err(TrySendError::Failed(error)) => return Err(error),
            },
        };
        block_on(inner.send(record))?.map(Into::into)
    }

    /// As [`crate::Producer::try_send`]: never waits.
    ///
    /// # Errors
    /// As [`crate::Producer::try_send`].
    pub fn try_send<'a>(&self, record: Record<'a>) -> Result<Delivery, TrySendError<'a>> {
        self.owner.inner.try_send(record).map(Into::into)
    }

    /// As [`crate::Producer::topic`].
    ///
    /// # Errors
    /// As [`crate::Producer::topic`].
    pub fn topic(&self, name: &str) -> Result<Topic> {
        let inner = block_on(self.owner.inner.topic(name))??;
        Ok(Topic {
            producer: self.clone(),
            inner,
        })
    }

    /// As [`crate::Producer::flush`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Runtime`] inside of an async task.
    pub fn flush(&self) -> Result<Flushed> {
        block_on(self.owner.inner.flush())
    }

    /// As [`crate::Producer::flush_timeout`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Runtime`] inside of an async task.
    pub fn flush_timeout(&self, timeout: Duration) -> Result<Flushed> {
        block_on(self.owner.inner.flush_timeout(timeout))
    }

    /// As [`crate::Producer::close`].
    ///
    /// # Errors
    /// [`crate::ErrorKind::Runtime`] inside of an async task.
    pub fn close(&self, timeout: Duration) -> Result<Closed> {
        block_on(self.owner.inner.close(timeout))?
    }

    /// As [`crate::Producer::metrics`].
    pub fn metrics(&self) -> ProducerMetrics {
        self.owner.inner.metrics()
    }
}

/// A topic to send to, from [`Producer::topic`].
#[derive(Debug, Clone)]
pub struct Topic {
    inner: crate::Topic,
    producer: Producer,
}

impl Topic {
    /// The topic's name.
    pub fn name(&self) -> &str {
        self.inner.name()
    }

    /// Partitions known so far.
    pub fn partition_count(&self) -> usize {
        self.inner.partition_count()
    }

    /// A record for this topic.
    pub fn record(&self) -> Record<'_> {
        self.inner.record()
    }

    /// As [`Producer::send`], to this topic, whatever topic the record names.
    ///
    /// # Errors
    /// As [`Producer::send`].
    pub fn send(&self, record: Record<'_>) -> Result<Delivery> {
        let record = match self.producer.owner.inner.is_intercepted() {
            true => record,
            false => match self.inner.try_send(record) {
                Ok(delivery) => return Ok(delivery.into()),
                Err(TrySendError::QueueFull(record) | TrySendError::UnknownTopic(record)) => record,
                Err(TrySendError::Failed(error)) => return Err(error),
            },
        };
        block_on(self.inner.send(record))?.map(Into::into)
    }

    /// As [`Producer::try_send`], to this topic.
    ///
    /// # Errors
    /// As [`Producer::try_send`].
    pub fn try_send<'a>(&self, record: Record<'a>) -> Result<Delivery, TrySendError<'a>> {
        self.inner.try_send(record).map(Into::into)
    }
}

/// The fate of one record, to wait for or not. As [`crate::Delivery`].
#[derive(Debug, Clone)]
pub struct Delivery {
    inner: crate::Delivery,
}

impl Delivery {
    /// Waits for the result, at most `delivery.timeout.ms`.
    ///
    /// # Errors
    /// Why the record failed; [`crate::ErrorKind::Runtime`] if it would have to wait in an async task, which says
    /// nothing about the record.
    pub fn wait(&self) -> Result<RecordMetadata> {
        self.wait_at_most(None).unwrap_or_else(|| {
            // Without a limit nothing ends the wait but the result.
            self.inner
                .try_result()
                .unwrap_or_else(|| Err(crate::Error::closed("producer")))
        })
    }

    /// Waits for the result, at most `timeout`. `None` if it is not known by then; ask again at will.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<RecordMetadata>> {
        self.wait_at_most(Some(timeout))
    }

    fn wait_at_most(&self, limit: Option<Duration>) -> Option<Result<RecordMetadata>> {
        if let Some(result) = self.inner.try_result() {
            return Some(result);
        }
        if let Err(error) = may_wait() {
            return Some(Err(error.with_persisted(Persisted::Possibly)));
        }
        let mut inner = self.inner.clone();
        wait(|context| Pin::new(&mut inner).poll(context), limit)
    }

    /// Where the record is going to.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.inner.topic_partition()
    }

    /// Whether the result is known. Costs one atomic read.
    pub fn is_complete(&self) -> bool {
        self.inner.is_complete()
    }

    /// The result, if it is known already.
    pub fn try_result(&self) -> Option<Result<RecordMetadata>> {
        self.inner.try_result()
    }
}

impl From<crate::Delivery> for Delivery {
    fn from(inner: crate::Delivery) -> Self {
        Delivery { inner }
    }
}

impl From<Delivery> for crate::Delivery {
    /// To be awaited.
    fn from(delivery: Delivery) -> Self {
        delivery.inner
    }
}

/// Configures a [`Producer`]. Whatever the asynchronous builder can do can be done there and converted by `into()`.
#[derive(Debug, Clone)]
pub struct ProducerBuilder {
    inner: crate::ProducerBuilder,
}

impl ProducerBuilder {
    setters! {
        ProducerBuilder::bootstrap_servers(servers: impl ToString);
        ProducerBuilder::client_id(id: impl ToString);
        ProducerBuilder::request_timeout(timeout: Duration);
        ProducerBuilder::linger(linger: Duration);
        ProducerBuilder::batch_size(bytes: usize);
        ProducerBuilder::buffer_memory(bytes: usize);
        ProducerBuilder::delivery_timeout(timeout: Duration);
        ProducerBuilder::delivery_semantics(semantics: DeliverySemantics);
        ProducerBuilder::observer(observer: Arc<dyn ProducerObserver>);
    }

    /// As [`crate::ProducerBuilder::partitioner`].
    #[must_use]
    pub fn partitioner<F>(self, choose: F) -> Self
    where
        F: Fn(&Unplaced<'_>) -> Result<Option<i32>, PartitionerError> + Send + Sync + 'static,
    {
        self.inner.partitioner(choose).into()
    }

    /// Sets any key by Kafka's name. A mistake in key or value is reported by `build`.
    #[must_use]
    pub fn set(self, key: &str, value: impl ToString) -> Self {
        self.inner.set(key, value).into()
    }

    /// Connects to the cluster.
    ///
    /// # Errors
    /// As [`crate::ProducerBuilder::build`]; [`crate::ErrorKind::Runtime`] inside of an async task.
    pub fn build(self) -> Result<Producer> {
        let inner = block_on(self.inner.build())??;
        Ok(Producer {
            owner: Arc::new(Owner { inner }),
        })
    }
}

impl From<crate::ProducerBuilder> for ProducerBuilder {
    fn from(inner: crate::ProducerBuilder) -> Self {
        ProducerBuilder { inner }
    }
}
