//! Observers: the application's own code, told what the producer does.
//!
//! In: events, about batches and requests, and for those who ask for it each record on its way in and out. Out: changes
//! to a record before it is partitioned. An observer is called outside of all locks; it cannot fail, and a panic in it is
//! caught: it loses no record and ends no task, and is logged once.

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::intercept::OutgoingRecord;
use crate::error::Error;
use crate::record::{RecordMetadata, TopicPartition};

/// Is told what a producer does. Every method has a body that does nothing.
///
/// Kafka's `ProducerInterceptor` (KIP-42) with what else there is to see. A producer without an observer pays one branch
/// for a record and one for a batch; one with an observer pays a call for a batch; only with
/// [`wants_records`](ProducerObserver::wants_records) a record costs more.
///
/// Calls come from the tasks that send and from callers of `send`, several at a time. They should return soon: while
/// one runs, the batches of that broker wait. They must not block.
///
/// ```
/// use std::sync::atomic::{AtomicU64, Ordering};
/// use ottla::{ProducerEvent, ProducerObserver};
///
/// #[derive(Default)]
/// struct Retries(AtomicU64);
///
/// impl ProducerObserver for Retries {
///     fn on_event(&self, event: &ProducerEvent<'_>) {
///         if let ProducerEvent::BatchRetried { .. } = event {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
/// # let _ = Retries::default();
/// ```
pub trait ProducerObserver: Send + Sync + 'static {
    /// Whether [`on_send`](ProducerObserver::on_send) and [`on_acknowledgement`](ProducerObserver::on_acknowledgement)
    /// are to be called. Asked once, when the producer is built. Default: no.
    fn wants_records(&self) -> bool {
        false
    }

    /// A record was given to `send`, and has no partition yet. Its key, value, headers, partition and timestamp may be
    /// changed; several observers see each other's changes in the order in which they were added.
    ///
    /// Called once for a `send`, for each call of `try_send`. A record that is then given up by dropping the future of
    /// `send` has no acknowledgement.
    fn on_send(&self, record: &mut OutgoingRecord<'_>) {
        let _ = record;
    }

    /// The fate of a record is known, or `send` failed. Comes before a task that awaits the record is woken.
    fn on_acknowledgement(&self, acknowledgement: &Acknowledgement<'_>) {
        let _ = acknowledgement;
    }

    /// Something happened to a batch, a request, or the producer itself.
    fn on_event(&self, event: &ProducerEvent<'_>) {
        let _ = event;
    }
}

/// What became of one record.
#[derive(Debug)]
#[non_exhaustive]
pub struct Acknowledgement<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The partition; `None` if `send` failed before one was chosen.
    pub partition: Option<i32>,
    /// Where it was written, or why not.
    pub result: Result<&'a RecordMetadata, &'a Error>,
}

/// What a producer tells its observers about batches, requests and itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum ProducerEvent<'a> {
    /// A batch was handed to a connection, for the first time or again.
    #[non_exhaustive]
    BatchSent {
        /// Where it goes.
        partition: &'a TopicPartition,
        /// The broker that is asked.
        broker_id: i32,
        /// Records in it.
        records: u32,
        /// Its size in bytes, compressed.
        bytes: usize,
        /// 1 for the first time.
        attempt: u32,
        /// Since its first record was appended.
        queued: Duration,
    },
    /// An attempt failed and will be repeated.
    #[non_exhaustive]
    BatchRetried {
        /// Where it goes.
        partition: &'a TopicPartition,
        /// The broker that was asked.
        broker_id: i32,
        /// Records in it.
        records: u32,
        /// The attempt that failed; 1 is the first.
        attempt: u32,
        /// How it failed: the broker's error, or what became of the connection.
        reason: &'a str,
        /// How long it waits before the next attempt, unless the leader changes.
        backoff: Duration,
    },
    /// The fate of the records of a batch is known. A batch that had to be cut completes in parts.
    #[non_exhaustive]
    BatchCompleted {
        /// Where it went.
        partition: &'a TopicPartition,
        /// Records in it.
        records: u32,
        /// The offset of the first (`None` if the broker did not tell), or why they failed.
        result: Result<Option<i64>, &'a Error>,
    },
    /// A Produce request was answered, or is known not to be.
    #[non_exhaustive]
    RequestCompleted {
        /// The broker that was asked.
        broker_id: i32,
        /// Batches in it.
        batches: usize,
        /// From its dispatch to the answer; with `acks=0` to its last byte being written.
        latency: Duration,
        /// Why there is no answer. Errors in an answer are those of its batches.
        error: Option<&'a Error>,
    },
    /// A broker asked to be left alone for a while (KIP-219).
    #[non_exhaustive]
    Throttled {
        /// The broker.
        broker_id: i32,
        /// For how long.
        time: Duration,
    },
    /// Records of a partition go to another broker than before.
    #[non_exhaustive]
    LeaderChanged {
        /// The partition.
        partition: &'a TopicPartition,
        /// The broker that led it before.
        from: i32,
        /// The broker that leads it now.
        to: i32,
    },
    /// A caller of `send` begins to wait for room in `buffer.memory`.
    #[non_exhaustive]
    WaitingForRoom {
        /// Bytes that it needs.
        needed: usize,
        /// Bytes that are free.
        available: usize,
    },
    /// The cluster gave the producer id of an idempotent producer.
    #[non_exhaustive]
    ProducerIdObtained {
        /// The id.
        producer_id: i64,
        /// Its epoch.
        epoch: i16,
    },
    /// A partition goes on under a new epoch, or a new id, because the sequences of the old one have a gap (KIP-360).
    #[non_exhaustive]
    EpochRaised {
        /// The partition.
        partition: &'a TopicPartition,
        /// The id.
        producer_id: i64,
        /// Its epoch from now on.
        epoch: i16,
    },
}

/// The observers of one producer.
#[derive(Clone, Default)]
pub(crate) struct Observers {
    list: Vec<Arc<dyn ProducerObserver>>,
    /// Those among them that want each record.
    of_records: Vec<Arc<dyn ProducerObserver>>,
    panicked: Arc<AtomicBool>,
}

impl fmt::Debug for Observers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Observers({})", self.list.len())
    }
}

impl Observers {
    pub fn add(&mut self, observer: Arc<dyn ProducerObserver>) {
        self.list.push(observer);
    }

    /// Asks who wants records. Called once, by `build`.
    pub fn settle(&mut self) {
        let wants = |observer: &&Arc<dyn ProducerObserver>| {
            let mut wants = false;
            self.guarded(|| wants = observer.wants_records());
            wants
        };
        self.of_records = self.list.iter().filter(wants).cloned().collect();
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    #[inline]
    pub fn want_records(&self) -> bool {
        !self.of_records.is_empty()
    }

    pub fn tell(&self, event: &ProducerEvent<'_>) {
        for observer in &self.list {
            self.guarded(|| observer.on_event(event));
        }
    }

    pub fn acknowledge(&self, acknowledgement: &Acknowledgement<'_>) {
        for observer in &self.of_records {
            self.guarded(|| observer.on_acknowledgement(acknowledgement));
        }
    }

    /// What one observer that panics has changed is taken back.
    pub fn on_send(&self, record: &mut OutgoingRecord<'_>) {
        for observer in &self.of_records {
            let before = record.changes();
            if !self.guarded(|| observer.on_send(record)) {
                record.take_back(before);
            }
        }
    }

    /// Runs the application's code. False if it panicked.
    fn guarded(&self, call: impl FnOnce()) -> bool {
        // What the closure borrows is read only afterwards, or put back as it was.
        let Err(panic) = catch_unwind(AssertUnwindSafe(call)) else {
            return true;
        };
        if !self.panicked.swap(true, Ordering::Relaxed) {
            let words = panic
                .downcast_ref::<&str>()
                .copied()
                .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
                .unwrap_or("no words");
            tracing::error!("a producer's observer panicked ({words}); it is called on, further panics are not logged");
        }
        false
    }
}
