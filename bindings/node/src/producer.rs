//! Sending: one call for each slab, reports in runs.
//!
//! In: slabs ([`crate::slab`]). Out: how many records of it were taken, and whether the rest has to wait for room; later
//! reports as seven numbers a run, and what became of records that nobody waits for. Not one call is made for a single record.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use napi::bindgen_prelude::{Float64Array, Result};
use napi_derive::napi;
use ottla_bindings_core::{Error, Kind, Producer as Core, Receipt, Sent};
use serde_json::{Value, json};

use crate::border::{Post, Wake, call, pairs, refused, told, waking};
use crate::slab::{Slab, TAGGED};

/// Numbers of one report: first tag, count, number of the topic (-1: its name is in the error), partition, offset of the
/// first (-1: not told), timestamp, number of the error in `take_errors` (-1: delivered).
const REPORT: usize = 7;

/// The slab was not taken whole: wait for room, and send the rest.
const STOPPED: i32 = 1;
/// Records were refused: see `take_reports`.
const REFUSED: i32 = 2;
/// The two above are the low bits of an answer, the count the rest.
const SHIFT: u32 = 2;

/// A producer.
#[napi]
pub struct Producer {
    core: Core,
    post: Post,
    topics: Mutex<Topics>,
    /// Records that could not even be queued.
    refused: Mutex<Vec<Refused>>,
    errors: Mutex<Vec<String>>,
}

#[derive(Default)]
struct Topics {
    names: Vec<String>,
    numbers: HashMap<String, usize>,
}

struct Refused {
    /// `None`: nobody waits for it.
    tag: Option<u64>,
    topic: usize,
    partition: i32,
    error: Error,
}

#[napi]
impl Producer {
    /// Checks the options and begins to connect.
    #[napi(constructor)]
    pub fn new(options: Vec<Vec<String>>, wake: Wake) -> Result<Self> {
        let waker = waking(wake);
        let post = Post::new(waker.clone());
        let core = call(|| Core::start(pairs(options)?, waker))?;
        Ok(Producer {
            core,
            post,
            topics: Mutex::default(),
            refused: Mutex::default(),
            errors: Mutex::default(),
        })
    }

    /// The number of a topic, for slabs.
    #[napi]
    pub fn topic(&self, name: String) -> i32 {
        let mut topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = topics.numbers.get(&name) {
            return *number as i32;
        }
        let number = topics.names.len();
        topics.names.push(name.clone());
        topics.numbers.insert(name, number);
        number as i32
    }

    /// Sends the records of a slab from number `from` on. The first record with a receipt in the slab has the tag `tag`, the
    /// next ones those that follow. Answers how many were taken, times 4, plus 1 if the rest has to wait for room, plus 2 if
    /// records were refused.
    #[napi]
    pub fn send(&self, bytes: &[u8], words: &[i32], from: u32, tag: f64) -> Result<i32> {
        call(|| self.send_slab(Slab::new(bytes, words), from, tag as u64))
    }

    /// Reports that have gathered, [`REPORT`] numbers each.
    #[napi]
    pub fn take_reports(&self) -> Result<Option<Float64Array>> {
        let reports = call(|| self.core.take_reports())?;
        let refused = std::mem::take(&mut *self.refused.lock().unwrap_or_else(PoisonError::into_inner));
        if reports.is_empty() && refused.is_empty() {
            return Ok(None);
        }
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
        let mut numbers = Vec::with_capacity((reports.most() + refused.len()) * REPORT);
        let mut failed = |error: &Error| {
            errors.push(told(error).to_string());
            (errors.len() - 1) as f64
        };
        for refused in &refused {
            let tag = refused.tag.map_or(-1.0, |tag| tag as f64);
            let (topic, partition) = (refused.topic as f64, f64::from(refused.partition));
            numbers.extend([tag, 1.0, topic, partition, -1.0, -1.0, failed(&refused.error)]);
        }
        for report in reports {
            let topic = topics.numbers.get(report.partition.topic.as_ref());
            let topic = topic.map_or(-1.0, |number| *number as f64);
            let (offset, timestamp, error) = match &report.result {
                Ok(written) => (written.base_offset.unwrap_or(-1), written.timestamp, -1.0),
                Err(error) => (-1, -1, failed(&error.clone().into())),
            };
            let (first, count) = (report.first as f64, f64::from(report.count));
            let partition = f64::from(report.partition.partition);
            numbers.extend([first, count, topic, partition, offset as f64, timestamp as f64, error]);
        }
        Ok(Some(Float64Array::new(numbers)))
    }

    /// The errors that the reports taken last name by number.
    #[napi]
    pub fn take_errors(&self) -> Vec<String> {
        std::mem::take(&mut *self.errors.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// What became of records without a receipt that failed, as JSON.
    #[napi]
    pub fn take_unclaimed(&self) -> Result<Option<String>> {
        let unclaimed = call(|| self.core.take_unclaimed())?;
        Ok(unclaimed.map(|unclaimed| {
            let (topic, partition) = (unclaimed.partition.topic.as_ref(), unclaimed.partition.partition);
            let error = told(&unclaimed.first);
            json!({ "count": unclaimed.count, "topic": topic, "partition": partition, "error": error }).to_string()
        }))
    }

    /// Answers that have come.
    #[napi]
    pub fn take_mail(&self) -> Vec<String> {
        self.post.take()
    }

    /// Posts when it is connected.
    #[napi]
    pub fn connected(&self, id: u32) -> Result<()> {
        let connected = self.core.connected();
        self.post.answer(id, async { connected.await.map(|()| Value::Null) })
    }

    /// Posts when there is room for more.
    #[napi]
    pub fn room(&self, id: u32) -> Result<()> {
        let (full, ready, unparked) = (self.core.is_full(), self.core.ready(), self.core.unparked());
        self.post.answer(id, async move {
            // A full buffer has room when what waits for it has gone; full lanes have when half of it has.
            match full {
                true => unparked.await,
                false => ready.await,
            }
            .map(|()| Value::Null)
        })
    }

    /// Posts when everything queued so far is delivered or has failed. Negative: no timeout.
    #[napi]
    pub fn flush(&self, id: u32, timeout_ms: f64) -> Result<()> {
        let timeout = (timeout_ms >= 0.0).then(|| duration(timeout_ms));
        let flushed = self.core.flush(timeout);
        self.post.answer(id, async {
            let counts = flushed.await?;
            let (delivered, failed) = (counts.delivered, counts.failed);
            let (unknown, pending) = (counts.unknown, counts.pending);
            Ok::<_, Error>(json!({ "delivered": delivered, "failed": failed, "unknown": unknown, "pending": pending }))
        })
    }

    /// Ends it, and posts the counts.
    #[napi]
    pub fn close(&self, id: u32, timeout_ms: f64) -> Result<()> {
        let closed = self.core.close(duration(timeout_ms));
        self.post.answer(id, async {
            let counts = closed.await?;
            let (delivered, failed, unknown) = (counts.delivered, counts.failed, counts.unknown);
            Ok::<_, Error>(json!({ "delivered": delivered, "failed": failed, "unknown": unknown }))
        })
    }

    /// Records that were settled so far, without allocating anything: for the count at the end of a process.
    #[napi]
    pub fn settled(&self) -> f64 {
        let metrics = self.core.metrics().ok().flatten();
        metrics.map_or(0.0, |metrics| {
            (metrics.records_delivered + metrics.records_failed + metrics.records_unknown) as f64
        })
    }

    /// Metrics as JSON; nothing before it is connected.
    #[napi]
    pub fn metrics(&self) -> Result<Option<String>> {
        let metrics = call(|| self.core.metrics())?;
        Ok(metrics.as_ref().map(|metrics| shown(metrics).to_string()))
    }

    /// Metrics in the text format of Prometheus.
    #[napi]
    pub fn prometheus(&self) -> Result<String> {
        let metrics = call(|| self.core.metrics())?;
        Ok(metrics.map(|metrics| metrics.to_prometheus()).unwrap_or_default())
    }
}

impl Producer {
    fn send_slab(&self, mut slab: Slab<'_>, from: u32, mut tag: u64) -> std::result::Result<i32, Error> {
        let topics = self.topics.lock().unwrap_or_else(PoisonError::into_inner);
        for _ in 0..from {
            let words = slab.next().ok_or_else(|| refused("there are fewer records"))?;
            slab.skip(&words)?;
            tag += u64::from(words[0] as u32 & TAGGED as u32);
        }
        let (mut taken, mut bits) = (0, 0);
        while let Some(words) = slab.next() {
            let number = (words[0] >> 3) as usize;
            let tagged = words[0] & TAGGED != 0;
            let receipt = if tagged { Receipt::Tag(tag) } else { Receipt::None };
            let topic = topics
                .names
                .get(number)
                .ok_or_else(|| refused("no topic of this number"))?;
            let sent = slab
                .record(&words, topic)
                .and_then(|record| self.core.send(record, receipt));
            match sent {
                Ok(Sent::Queued) => {}
                // This one is accepted. Those behind it would each be copied once more if they were sent now.
                Ok(Sent::Parked) if self.core.is_full() => bits |= STOPPED,
                Ok(Sent::Parked) => {}
                Err(error) if error.kind() == Kind::QueueFull => {
                    bits |= STOPPED;
                    break;
                }
                Err(error) => {
                    bits |= REFUSED;
                    let refused = Refused {
                        tag: tagged.then_some(tag),
                        topic: number,
                        partition: words[1],
                        error,
                    };
                    self.refused
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .push(refused);
                }
            }
            taken += 1;
            tag += u64::from(tagged);
            if bits & STOPPED != 0 {
                break;
            }
        }
        Ok((taken << SHIFT) | bits)
    }
}

fn duration(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms / 1000.0).unwrap_or(Duration::MAX)
}

fn histogram(of: &ottla::Histogram) -> Value {
    json!({
        "count": of.count(), "sum": of.sum(), "mean": of.mean(), "max": of.max(),
        "p50": of.quantile(0.5), "p90": of.quantile(0.9), "p99": of.quantile(0.99),
    })
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

fn shown(of: &ottla::ProducerMetrics) -> Value {
    let topics: Vec<_> = of.topics.iter().map(|topic| json!({
        "topic": topic.topic, "recordsDelivered": topic.records_delivered, "recordsFailed": topic.records_failed,
        "recordsUnknown": topic.records_unknown, "recordsRetried": topic.records_retried,
        "batchesSent": topic.batches_sent, "bytesSent": topic.bytes_sent,
    })).collect();
    let brokers: Vec<_> = of.brokers.iter().map(|broker| json!({
        "nodeId": broker.node_id, "requestsSent": broker.requests_sent, "requestsFailed": broker.requests_failed,
        "requestsInFlight": broker.requests_in_flight, "batchesSent": broker.batches_sent,
        "bytesSent": broker.bytes_sent, "requestTimeMs": ms(broker.request_time), "throttleTimeMs": ms(broker.throttle_time),
    })).collect();
    json!({
        "clientId": of.client_id,
        "recordsDelivered": of.records_delivered, "recordsFailed": of.records_failed,
        "recordsUnknown": of.records_unknown, "recordsSent": of.records_sent, "recordsRetried": of.records_retried,
        "batchesSent": of.batches_sent, "batchesRetried": of.batches_retried, "batchesSplit": of.batches_split,
        "bytesSent": of.bytes_sent, "requestsSent": of.requests_sent, "requestsFailed": of.requests_failed,
        "requestsInFlight": of.requests_in_flight, "throttleTimeMs": ms(of.throttle_time),
        "bufferTotalBytes": of.buffer_total_bytes, "bufferAvailableBytes": of.buffer_available_bytes,
        "bufferWaits": of.buffer_waits, "bufferExhausted": of.buffer_exhausted, "bufferWaitTimeMs": ms(of.buffer_wait_time),
        "recordsPerBatch": histogram(&of.records_per_batch), "batchBytes": histogram(&of.batch_bytes),
        "compressionRatio": histogram(&of.compression_ratio), "queueTimeMs": histogram(&of.queue_time_ms),
        "requestLatencyMs": histogram(&of.request_latency_ms), "attempts": histogram(&of.attempts),
        "topics": topics, "brokers": brokers,
    })
}
