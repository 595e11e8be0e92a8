//! What a producer counts, and what it shows of it.
//!
//! In: a few relaxed additions for each batch and request. Out: [`ProducerMetrics`], a copy that can be read at any time
//! from any thread. Rates are the reader's: the difference of two copies by the time between them.
//!
//! Tables by topic and by broker have a bound; what is beyond it is in the totals only.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use super::histogram::{Histogram, Recorder};

/// Topics and brokers that are shown one by one.
const MOST_SHOWN: usize = 1000;

/// Adds to a counter.
#[inline]
pub(in crate::producer) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Ordering::Relaxed);
}

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

/// The counters of a producer.
#[derive(Debug, Default)]
pub(super) struct Meters {
    pub delivered: AtomicU64,
    pub failed: AtomicU64,
    pub unknown: AtomicU64,
    pub records_sent: AtomicU64,
    pub records_retried: AtomicU64,
    pub batches: AtomicU64,
    pub batches_retried: AtomicU64,
    pub batches_split: AtomicU64,
    pub bytes: AtomicU64,
    pub requests: AtomicU64,
    pub requests_failed: AtomicU64,
    pub throttle_ms: AtomicU64,
    pub buffer_waits: AtomicU64,
    pub buffer_exhausted: AtomicU64,
    pub buffer_wait_us: AtomicU64,
    pub records_per_batch: Recorder,
    pub batch_bytes: Recorder,
    /// In ten-thousandths.
    pub compression_ratio: Recorder,
    /// In milliseconds.
    pub queue_time: Recorder,
    /// In microseconds.
    pub request_latency: Recorder,
    pub attempts: Recorder,
    brokers: Mutex<BTreeMap<i32, Arc<BrokerMeters>>>,
}

/// The counters of one topic.
#[derive(Debug, Default)]
pub(in crate::producer) struct TopicMeters {
    pub delivered: AtomicU64,
    pub failed: AtomicU64,
    pub unknown: AtomicU64,
    pub retried: AtomicU64,
    pub batches: AtomicU64,
    pub bytes: AtomicU64,
}

/// The counters of one broker.
#[derive(Debug, Default)]
pub(in crate::producer) struct BrokerMeters {
    pub in_flight: AtomicUsize,
    pub requests: AtomicU64,
    pub requests_failed: AtomicU64,
    pub batches: AtomicU64,
    pub bytes: AtomicU64,
    pub latency_us: AtomicU64,
    pub throttle_ms: AtomicU64,
}

impl Meters {
    /// The counters of a broker; those beyond the bound share one that is not shown.
    pub fn broker(&self, node_id: i32) -> Arc<BrokerMeters> {
        let mut brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner);
        if brokers.len() >= MOST_SHOWN && !brokers.contains_key(&node_id) {
            return brokers.entry(i32::MIN).or_default().clone();
        }
        brokers.entry(node_id).or_default().clone()
    }

    /// A copy without what the meters do not know: the buffer, the topics, the name of the client.
    pub fn show(&self) -> ProducerMetrics {
        let brokers = self.brokers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let brokers: Vec<BrokerMetrics> = brokers
            .iter()
            .map(|(node_id, meters)| BrokerMetrics::of(*node_id, meters))
            .collect();
        ProducerMetrics {
            records_delivered: read(&self.delivered),
            records_failed: read(&self.failed),
            records_unknown: read(&self.unknown),
            records_sent: read(&self.records_sent),
            records_retried: read(&self.records_retried),
            batches_sent: read(&self.batches),
            batches_retried: read(&self.batches_retried),
            batches_split: read(&self.batches_split),
            bytes_sent: read(&self.bytes),
            requests_sent: read(&self.requests),
            requests_failed: read(&self.requests_failed),
            requests_in_flight: brokers.iter().map(|broker| broker.requests_in_flight).sum(),
            throttle_time: Duration::from_millis(read(&self.throttle_ms)),
            buffer_waits: read(&self.buffer_waits),
            buffer_exhausted: read(&self.buffer_exhausted),
            buffer_wait_time: Duration::from_micros(read(&self.buffer_wait_us)),
            records_per_batch: self.records_per_batch.read(1.0),
            batch_bytes: self.batch_bytes.read(1.0),
            compression_ratio: self.compression_ratio.read(1e-4),
            queue_time_ms: self.queue_time.read(1.0),
            request_latency_ms: self.request_latency.read(1e-3),
            attempts: self.attempts.read(1.0),
            brokers: brokers.into_iter().filter(|broker| broker.node_id >= 0).collect(),
            ..ProducerMetrics::default()
        }
    }
}

/// What a producer has done since it was built, and what it holds. A copy; see [`Producer::metrics`](crate::Producer::metrics).
///
/// The Java client shows rates and averages over a window under names of its own. They follow from two copies:
///
/// | Java | here |
/// |---|---|
/// | `record-send-total`, `record-send-rate` | `records_sent` |
/// | `record-error-total` | `records_failed + records_unknown` |
/// | `record-retry-total` | `records_retried` |
/// | `records-per-request-avg` | `records_sent` by `requests_sent` |
/// | `batch-size-avg`, `batch-size-max` | `batch_bytes` |
/// | `compression-rate-avg` | `compression_ratio` |
/// | `record-queue-time-avg`, `-max` | `queue_time_ms` |
/// | `request-latency-avg`, `-max` | `request_latency_ms` |
/// | `outgoing-byte-total` | `bytes_sent` (batches only) |
/// | `requests-in-flight` | `requests_in_flight` |
/// | `batch-split-total` | `batches_split` |
/// | `buffer-total-bytes`, `buffer-available-bytes` | the same |
/// | `waiting-threads` | `buffer_waiting_callers` |
/// | `buffer-exhausted-total` | `buffer_exhausted` |
/// | `bufferpool-wait-time-ns-total` | `buffer_wait_time` |
/// | `produce-throttle-time-avg` | `throttle_time` by answers |
#[derive(Debug, Clone, PartialEq, Default)]
#[non_exhaustive]
pub struct ProducerMetrics {
    /// `client.id`.
    pub client_id: String,
    /// Records acknowledged.
    pub records_delivered: u64,
    /// Records that failed and are certainly not in the log.
    pub records_failed: u64,
    /// Records that failed and may be in the log.
    pub records_unknown: u64,
    /// Records in the batches written, retries included.
    pub records_sent: u64,
    /// Records that were sent again; one that was sent three times counts twice.
    pub records_retried: u64,
    /// Batches written, retries included.
    pub batches_sent: u64,
    /// Attempts that failed and were repeated.
    pub batches_retried: u64,
    /// Batches that were cut because a broker found them too large.
    pub batches_split: u64,
    /// Bytes of the batches written, compressed.
    pub bytes_sent: u64,
    /// Produce requests written.
    pub requests_sent: u64,
    /// Those among them that got no answer.
    pub requests_failed: u64,
    /// Requests that wait for their answer now.
    pub requests_in_flight: usize,
    /// How long brokers asked to be left alone, all together.
    pub throttle_time: Duration,
    /// `buffer.memory`.
    pub buffer_total_bytes: usize,
    /// How much of it is free now.
    pub buffer_available_bytes: usize,
    /// Calls of `send` that wait for room now.
    pub buffer_waiting_callers: usize,
    /// Calls of `send` that had to wait for room.
    pub buffer_waits: u64,
    /// Those among them that gave up after `max.block.ms`.
    pub buffer_exhausted: u64,
    /// How long they waited, all together.
    pub buffer_wait_time: Duration,
    /// Records of each batch, when it was closed.
    pub records_per_batch: Histogram,
    /// Bytes of each batch, compressed.
    pub batch_bytes: Histogram,
    /// Compressed size by size of each batch: 1 without compression, smaller is better.
    pub compression_ratio: Histogram,
    /// Milliseconds from a batch's first record to its first request.
    pub queue_time_ms: Histogram,
    /// Milliseconds from a request's dispatch to its answer.
    pub request_latency_ms: Histogram,
    /// Attempts of each batch, counted at its end: 1 is good.
    pub attempts: Histogram,
    /// By topic in the order of their names; the first 1,000.
    pub topics: Vec<TopicMetrics>,
    /// By broker in the order of their ids; at most 1,000.
    pub brokers: Vec<BrokerMetrics>,
}

/// What a producer did with one topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct TopicMetrics {
    /// Its name.
    pub topic: String,
    /// Records acknowledged.
    pub records_delivered: u64,
    /// Records that failed and are certainly not in the log.
    pub records_failed: u64,
    /// Records that failed and may be in the log.
    pub records_unknown: u64,
    /// Records that were sent again.
    pub records_retried: u64,
    /// Batches written, retries included.
    pub batches_sent: u64,
    /// Bytes of these batches, compressed.
    pub bytes_sent: u64,
}

/// What a producer did with one broker.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct BrokerMetrics {
    /// Its node id.
    pub node_id: i32,
    /// Produce requests written.
    pub requests_sent: u64,
    /// Those among them that got no answer.
    pub requests_failed: u64,
    /// Requests that wait for their answer now.
    pub requests_in_flight: usize,
    /// Batches written, retries included.
    pub batches_sent: u64,
    /// Bytes of these batches, compressed.
    pub bytes_sent: u64,
    /// How long its answers took, all together.
    pub request_time: Duration,
    /// How long it asked to be left alone, all together.
    pub throttle_time: Duration,
}

impl BrokerMetrics {
    fn of(node_id: i32, meters: &BrokerMeters) -> Self {
        BrokerMetrics {
            node_id,
            requests_sent: read(&meters.requests),
            requests_failed: read(&meters.requests_failed),
            requests_in_flight: meters.in_flight.load(Ordering::Relaxed),
            batches_sent: read(&meters.batches),
            bytes_sent: read(&meters.bytes),
            request_time: Duration::from_micros(read(&meters.latency_us)),
            throttle_time: Duration::from_millis(read(&meters.throttle_ms)),
        }
    }
}

/// The topics in the order of their names, up to the bound.
pub(super) fn topics<'a>(all: impl Iterator<Item = (&'a str, &'a TopicMeters)>) -> Vec<TopicMetrics> {
    let mut topics: Vec<TopicMetrics> = all
        .map(|(topic, meters)| TopicMetrics {
            topic: topic.to_owned(),
            records_delivered: read(&meters.delivered),
            records_failed: read(&meters.failed),
            records_unknown: read(&meters.unknown),
            records_retried: read(&meters.retried),
            batches_sent: read(&meters.batches),
            bytes_sent: read(&meters.bytes),
        })
        .collect();
    topics.sort_unstable_by(|a, b| a.topic.cmp(&b.topic));
    topics.truncate(MOST_SHOWN);
    topics
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_brokers_and_topics_are_shown_than_the_bound() {
        let meters = Meters::default();
        for node_id in 0..5000 {
            add(&meters.broker(node_id).requests, 1);
        }
        assert_eq!(meters.show().brokers.len(), MOST_SHOWN);
        let names: Vec<String> = (0..5000).map(|i| format!("topic-{i:04}")).collect();
        let one = TopicMeters::default();
        let shown = topics(names.iter().map(|name| (name.as_str(), &one)));
        assert_eq!((shown.len(), shown[999].topic.as_str()), (MOST_SHOWN, "topic-0999"));
    }
}
