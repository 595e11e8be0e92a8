//! The watch: what a producer shows of itself while it works.
//!
//! In: one line from each place where something happens to a batch or a request. Out: counters and histograms
//! (`metrics`), calls of the application's observers (`observer`, `intercept`), `tracing` events. It changes nothing and
//! decides nothing. Nothing here is done for each record, unless an observer asks for that.
//!
//! `tracing`, all with the target `ottla::producer`: a span `produce` at debug level for each request, from its dispatch
//! to its answer; events at debug level for retries, failures, throttling, leaders and epochs; at trace level for each
//! batch that is sent or acknowledged. Fields have Kafka's words: `topic`, `partition`, `broker_id`, `producer_id`, ...
//! Keys, values and headers are never among them.

mod histogram;
mod intercept;
mod metrics;
mod observer;
mod prometheus;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use ottla_client_state::batch::Written;
use ottla_client_state::sequence::{ProducerIdentity, Stamp};
use tokio::time::Instant;

pub use histogram::Histogram;
pub use intercept::OutgoingRecord;
pub use metrics::{BrokerMetrics, ProducerMetrics, TopicMetrics};
pub(crate) use observer::Observers;
pub use observer::{Acknowledgement, ProducerEvent, ProducerObserver};

pub(super) use intercept::{send, try_send};
pub(super) use metrics::{BrokerMeters, TopicMeters};

use metrics::{Meters, add};

use super::delivery::{Cell, Delivery};
use super::produce::Sent;
use super::shared::Shared;
use crate::error::{Error, Persisted};
use crate::record::TopicPartition;

const TARGET: &str = "ottla::producer";

/// What everybody who does something tells.
#[derive(Debug)]
pub(super) struct Watch {
    meters: Meters,
    observers: Observers,
}

/// What was last seen of a partition, and the counters of its topic.
#[derive(Debug)]
pub(super) struct Seen {
    topic: Arc<TopicMeters>,
    /// -1: none yet.
    leader: AtomicI32,
    producer_id: AtomicI64,
    epoch: AtomicI32,
}

impl Seen {
    pub fn new(topic: Arc<TopicMeters>) -> Self {
        Seen {
            topic,
            leader: AtomicI32::new(-1),
            producer_id: AtomicI64::new(-1),
            epoch: AtomicI32::new(-1),
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(super) struct Flight {
    since: Instant,
    batches: usize,
    span: tracing::Span,
}

impl Watch {
    pub fn new(observers: Observers) -> Self {
        Watch {
            meters: Meters::default(),
            observers,
        }
    }

    pub fn observers(&self) -> &Observers {
        &self.observers
    }

    /// The counters of a broker, for its sender.
    pub fn broker(&self, node_id: i32) -> Arc<BrokerMeters> {
        self.meters.broker(node_id)
    }

    #[inline]
    fn tell<'e>(&self, event: impl FnOnce() -> ProducerEvent<'e>) {
        if !self.observers.is_empty() {
            self.observers.tell(&event());
        }
    }

    /// A partition has work, and this broker leads it.
    pub fn led(&self, partition: &TopicPartition, seen: &Seen, leader: i32) {
        let from = seen.leader.swap(leader, Ordering::Relaxed);
        if from < 0 || from == leader {
            return;
        }
        tracing::debug!(target: TARGET, %partition, from, to = leader, "the leader has changed");
        self.tell(|| ProducerEvent::LeaderChanged {
            partition,
            from,
            to: leader,
        });
    }

    /// A batch was sealed for the first time. `loose` is its size before that.
    pub fn sealed(&self, records: u32, loose: usize, sealed: usize, queued: Duration) {
        self.meters.records_per_batch.record(records.into());
        self.meters.batch_bytes.record(sealed as u64);
        let ratio = (sealed as u64).saturating_mul(10_000) / (loose as u64).max(1);
        self.meters.compression_ratio.record(ratio);
        self.meters.queue_time.record(queued.as_millis() as u64);
    }

    /// A batch leaves with this stamp.
    pub fn stamped(&self, partition: &TopicPartition, seen: &Seen, stamp: Stamp) {
        let ProducerIdentity { id, epoch } = stamp.identity;
        let id_before = seen.producer_id.swap(id, Ordering::Relaxed);
        let epoch_before = seen.epoch.swap(epoch.into(), Ordering::Relaxed);
        if epoch_before < 0 || (id_before == id && epoch_before >= epoch.into()) {
            return;
        }
        tracing::debug!(target: TARGET, %partition, producer_id = id, epoch, "a new producer epoch begins");
        self.tell(|| ProducerEvent::EpochRaised {
            partition,
            producer_id: id,
            epoch,
        });
    }

    /// A request was handed to its connection.
    pub fn request_sent(&self, broker: &BrokerMeters, acks: i16, sent: &[Sent]) -> Flight {
        let bytes: usize = sent.iter().map(|one| one.sealed.len()).sum();
        let records: u64 = sent.iter().map(|one| u64::from(one.sealed.record_count())).sum();
        let batches = sent.len() as u64;
        let node_id = sent.first().map_or(-1, |one| one.node_id);
        add(&self.meters.requests, 1);
        add(&broker.requests, 1);
        add(&self.meters.batches, batches);
        add(&self.meters.bytes, bytes as u64);
        add(&self.meters.records_sent, records);
        add(&broker.batches, batches);
        add(&broker.bytes, bytes as u64);
        broker.in_flight.fetch_add(1, Ordering::Relaxed);
        let span = tracing::debug_span!(
            target: TARGET, "produce", broker_id = node_id, acks, batches, records, bytes,
            latency_us = tracing::field::Empty, error = tracing::field::Empty,
        );
        for one in sent {
            add(&one.partition.seen.topic.batches, 1);
            add(&one.partition.seen.topic.bytes, one.sealed.len() as u64);
            self.batch_sent(&span, one);
        }
        Flight {
            since: Instant::now(),
            batches: sent.len(),
            span,
        }
    }

    fn batch_sent(&self, span: &tracing::Span, one: &Sent) {
        let (records, bytes) = (one.sealed.record_count(), one.sealed.len());
        tracing::trace!(
            target: TARGET, parent: span, topic = &*one.partition.id.topic, partition = one.partition.id.partition,
            records, bytes, attempt = one.attempts, "a batch is sent"
        );
        self.tell(|| ProducerEvent::BatchSent {
            partition: &one.partition.id,
            broker_id: one.node_id,
            records,
            bytes,
            attempt: one.attempts,
            queued: one.queued,
        });
    }

    /// A request was answered, or no answer will come.
    pub fn request_done(&self, broker: &BrokerMeters, node_id: i32, flight: &Flight, error: Option<&Error>) {
        broker.in_flight.fetch_sub(1, Ordering::Relaxed);
        let latency = flight.since.elapsed();
        let micros = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        flight.span.record("latency_us", micros);
        match error {
            None => {
                self.meters.request_latency.record(micros);
                add(&broker.latency_us, micros);
            }
            Some(error) => {
                flight.span.record("error", tracing::field::display(error));
                add(&self.meters.requests_failed, 1);
                add(&broker.requests_failed, 1);
            }
        }
        self.tell(|| ProducerEvent::RequestCompleted {
            broker_id: node_id,
            batches: flight.batches,
            latency,
            error,
        });
    }

    /// Requests that a sender leaves behind when it ends.
    pub fn forget_requests(&self, broker: &BrokerMeters, count: usize) {
        broker.in_flight.fetch_sub(count, Ordering::Relaxed);
    }

    /// A broker asked to be left alone.
    pub fn throttled(&self, broker_id: i32, ms: i32) {
        let ms = u64::try_from(ms).unwrap_or(0);
        add(&self.meters.throttle_ms, ms);
        add(&self.meters.broker(broker_id).throttle_ms, ms);
        tracing::debug!(target: TARGET, broker_id, throttle_time_ms = ms, "the broker throttles this producer");
        self.tell(|| ProducerEvent::Throttled {
            broker_id,
            time: Duration::from_millis(ms),
        });
    }

    /// An attempt failed and will be repeated. Called outside of locks.
    pub fn batch_retried(&self, one: &Judged<'_>, reason: &str, backoff_ms: u64) {
        add(&self.meters.records_retried, one.records.into());
        add(&self.meters.batches_retried, 1);
        add(&one.seen.topic.retried, one.records.into());
        tracing::debug!(
            target: TARGET, topic = &*one.partition.topic, partition = one.partition.partition, broker_id = one.node_id,
            attempt = one.attempts, backoff_ms, reason, "a batch will be sent again"
        );
        self.tell(|| ProducerEvent::BatchRetried {
            partition: one.partition,
            broker_id: one.node_id,
            records: one.records,
            attempt: one.attempts,
            reason,
            backoff: Duration::from_millis(backoff_ms),
        });
    }

    /// A batch was found too large and cut.
    pub fn batch_split(&self, one: &Judged<'_>) {
        add(&self.meters.batches_split, 1);
        tracing::debug!(
            target: TARGET, topic = &*one.partition.topic, partition = one.partition.partition, records = one.records,
            "a batch was too large and is cut in two"
        );
    }

    /// A batch will not be sent again.
    pub fn batch_settled(&self, attempts: u32) {
        self.meters.attempts.record(attempts.into());
    }

    /// The fate of records is known. Called under their partition's lock.
    pub fn completed(&self, partition: &TopicPartition, seen: &Seen, records: u32, result: Result<&Written, &Error>) {
        let count = u64::from(records);
        let (topic, index) = (&*partition.topic, partition.partition);
        let (all, own) = match result {
            Ok(written) => {
                tracing::trace!(
                    target: TARGET, topic, partition = index, records, offset = written.base_offset, "delivered"
                );
                (&self.meters.delivered, &seen.topic.delivered)
            }
            Err(error) => {
                tracing::debug!(target: TARGET, topic, partition = index, records, %error, "not delivered");
                match error.persisted() {
                    Persisted::No => (&self.meters.failed, &seen.topic.failed),
                    _ => (&self.meters.unknown, &seen.topic.unknown),
                }
            }
        };
        add(all, count);
        add(own, count);
    }

    /// Who else is to be woken when these records are complete: the observers. They come first.
    pub fn witness(&self, cell: &Arc<Cell>, first: u32, records: u32) -> Option<Waker> {
        let observers = &self.observers;
        (!observers.is_empty()).then(|| {
            Waker::from(Arc::new(Witness {
                observers: observers.clone(),
                cell: cell.clone(),
                first,
                records,
            }))
        })
    }

    /// A caller of `send` begins to wait for room.
    pub fn waits_for_room(&self, shared: &Shared, needed: usize) -> WaitForRoom {
        add(&self.meters.buffer_waits, 1);
        let available = shared.pool.available();
        tracing::trace!(target: TARGET, needed, available, "a caller waits for room in buffer.memory");
        self.tell(|| ProducerEvent::WaitingForRoom { needed, available });
        WaitForRoom { since: Instant::now() }
    }

    /// The caller waits no longer; with room or without.
    pub fn waited_for_room(&self, wait: &WaitForRoom, in_vain: bool) {
        let micros = u64::try_from(wait.since.elapsed().as_micros()).unwrap_or(u64::MAX);
        add(&self.meters.buffer_wait_us, micros);
        add(&self.meters.buffer_exhausted, u64::from(in_vain));
    }

    /// The cluster gave a producer id.
    pub fn identified(&self, identity: ProducerIdentity) {
        let ProducerIdentity { id, epoch } = identity;
        tracing::debug!(target: TARGET, producer_id = id, epoch, "the cluster gave a producer id");
        self.tell(|| ProducerEvent::ProducerIdObtained { producer_id: id, epoch });
    }

    /// Everything counted so far.
    pub fn show(&self, shared: &Shared) -> ProducerMetrics {
        let topics = shared.topics.all();
        let topics = metrics::topics(topics.iter().map(|topic| (&*topic.name, &*topic.meters)));
        ProducerMetrics {
            client_id: shared.client.config().client_id.clone(),
            buffer_total_bytes: shared.pool.total(),
            buffer_available_bytes: shared.pool.available(),
            buffer_waiting_callers: shared.pool.waiting(),
            topics,
            ..self.meters.show()
        }
    }
}

/// When a caller began to wait.
#[derive(Debug)]
pub(super) struct WaitForRoom {
    since: Instant,
}

/// A batch whose attempt was judged.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub partition: &'a TopicPartition,
    pub seen: &'a Seen,
    pub node_id: i32,
    pub records: u32,
    pub attempts: u32,
}

/// Tells the observers about complete records. It is woken with those who wait for them, and so outside of all locks.
struct Witness {
    observers: Observers,
    cell: Arc<Cell>,
    first: u32,
    records: u32,
}

impl Wake for Witness {
    fn wake(self: Arc<Self>) {
        let end = self.first.saturating_add(self.records);
        for delivery in Cell::take_watched(&self.cell, end) {
            intercept::acknowledge(&self.observers, &delivery);
        }
        let Some(result) = Delivery::new(self.cell.clone(), self.first, -1).try_result() else {
            return;
        };
        self.observers.tell(&ProducerEvent::BatchCompleted {
            partition: self.cell.partition(),
            records: self.records,
            result: result.as_ref().map(|written| written.offset),
        });
    }
}
