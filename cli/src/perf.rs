//! `ottla perf`: how fast this client and that cluster are together.
//!
//! In: how many records of which size. Out: rates, latencies and this process's processor time, once at the end and, on a
//! terminal, every second. The load is bounded: it ends after the records asked for.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use ottla::{Consumer, Delivery, Producer};

use crate::connection::ConnectionArguments;
use crate::output::say;
use crate::summary::{counted, grouped, percentile, processor_time, rates};
use crate::{Failure, Outcome};

/// Measure producing or consuming.
#[derive(Args, Debug)]
pub struct PerfArguments {
    #[command(subcommand)]
    what: What,
}

#[derive(Subcommand, Debug)]
enum What {
    /// Write records as fast as they are taken, or at a given rate.
    Produce(ProduceLoad),
    /// Read records from the beginning as fast as they come.
    Consume(ConsumeLoad),
}

#[derive(Args, Debug)]
struct ProduceLoad {
    #[command(flatten)]
    connection: ConnectionArguments,
    /// The topic to write to.
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// How many records.
    #[arg(long, value_name = "N", default_value_t = 1_000_000)]
    num_records: u64,
    /// Bytes of each value.
    #[arg(long, value_name = "BYTES", default_value_t = 100)]
    record_size: usize,
    /// Records a second; -1 for as many as possible.
    #[arg(long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    throughput: i64,
    /// A setting of the producer by Kafka's key; may be repeated.
    #[arg(
        long = "producer-property",
        alias = "producer-props",
        visible_alias = "command-property",
        value_name = "KEY=VALUE"
    )]
    producer_properties: Vec<String>,
}

#[derive(Args, Debug)]
struct ConsumeLoad {
    #[command(flatten)]
    connection: ConnectionArguments,
    /// The topic to read.
    #[arg(long, value_name = "NAME")]
    topic: String,
    /// How many records.
    #[arg(long, visible_alias = "messages", value_name = "N", default_value_t = 1_000_000)]
    num_records: u64,
    /// Give up when nothing has come for this long.
    #[arg(long, value_name = "MILLISECONDS", default_value_t = 10_000)]
    timeout_ms: u64,
    /// A setting of the consumer by Kafka's key; may be repeated.
    #[arg(
        long = "consumer-property",
        visible_alias = "command-property",
        value_name = "KEY=VALUE"
    )]
    consumer_properties: Vec<String>,
}

/// Runs the load asked for.
pub async fn run(arguments: PerfArguments) -> Outcome {
    match arguments.what {
        What::Produce(load) => produce(load).await,
        What::Consume(load) => consume(load).await,
    }
}

/// What a run of the producer has shown so far.
#[derive(Default)]
struct Deliveries {
    delivered: u64,
    failed: u64,
    first_error: Option<String>,
    /// Microseconds from send to answer, of the records that were timed.
    latencies: Vec<u64>,
}

impl Deliveries {
    async fn settle(&mut self, delivery: Delivery, sent: Option<Instant>) {
        match delivery.await {
            Ok(_) => {
                self.delivered += 1;
                if let Some(sent) = sent {
                    self.latencies
                        .push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
            Err(error) => {
                self.failed += 1;
                self.first_error.get_or_insert_with(|| error.to_string());
            }
        }
    }
}

async fn produce(load: ProduceLoad) -> Outcome {
    // One record in so many is timed: a clock read for each would be a good part of what is measured.
    const TIMED_ONE_IN: u64 = 64;
    const OUTSTANDING: usize = 1_000_000;
    let producer = Producer::from_properties(load.connection.pairs(&load.producer_properties)?)?
        .build()
        .await?;
    let payload = payload(load.record_size);
    let topic = producer.topic(&load.topic).await?;
    let (started, processor_before) = (Instant::now(), processor_time());
    let mut deliveries = Deliveries::default();
    let mut outstanding = VecDeque::new();
    let mut pace = Pace::new(load.throughput);
    for number in 0..load.num_records {
        pace.wait(number, started).await;
        let start = usize::try_from(number).unwrap_or(0) % (payload.len() - load.record_size + 1);
        let value = payload.get(start..start + load.record_size).unwrap_or_default();
        let sent = (number % TIMED_ONE_IN == 0).then(Instant::now);
        match topic.send(topic.record().value(value)).await {
            Ok(delivery) => outstanding.push_back((delivery, sent)),
            Err(error) => {
                deliveries.failed += 1;
                deliveries.first_error.get_or_insert_with(|| error.to_string());
            }
        }
        while outstanding
            .front()
            .is_some_and(|(delivery, _)| delivery.try_result().is_some())
            || outstanding.len() > OUTSTANDING
        {
            let Some((delivery, sent)) = outstanding.pop_front() else {
                break;
            };
            deliveries.settle(delivery, sent).await;
        }
    }
    while let Some((delivery, sent)) = outstanding.pop_front() {
        deliveries.settle(delivery, sent).await;
    }
    let elapsed = started.elapsed();
    producer.close(Duration::from_secs(10)).await?;
    let bytes = deliveries.delivered * load.record_size as u64;
    say!(
        "{} written, {}",
        counted(deliveries.delivered, "record"),
        rates(deliveries.delivered, bytes, elapsed)
    );
    deliveries.latencies.sort_unstable();
    let at = |share| percentile(&deliveries.latencies, share) as f64 / 1000.0;
    say!(
        "latency p50 {:.2} ms, p95 {:.2} ms, p99 {:.2} ms, max {:.2} ms",
        at(0.5),
        at(0.95),
        at(0.99),
        at(1.0)
    );
    print_processor_time(processor_before, deliveries.delivered);
    match deliveries.first_error {
        None => Ok(()),
        Some(error) => Err(Failure::new(format!(
            "{} not written; the first: {error}",
            grouped(deliveries.failed)
        ))),
    }
}

async fn consume(load: ConsumeLoad) -> Outcome {
    let pairs = load.connection.pairs(&load.consumer_properties)?;
    let mut consumer = Consumer::from_properties(pairs)?.build().await?;
    let partitions = consumer.partitions_for(&load.topic).await?;
    consumer.assign(&partitions)?;
    for partition in &partitions {
        consumer.seek_to_beginning(partition)?;
    }
    let (started, processor_before) = (Instant::now(), processor_time());
    let (mut count, mut bytes) = (0_u64, 0_u64);
    while count < load.num_records {
        let limit = Duration::from_millis(load.timeout_ms);
        let Ok(records) = tokio::time::timeout(limit, consumer.poll()).await else {
            let read = counted(count, "record");
            return Err(Failure::new(format!(
                "only {read} within {} ms of silence",
                load.timeout_ms
            )));
        };
        let Some(records) = records? else { break };
        for record in &records {
            count += 1;
            bytes += record.value().map_or(0, <[u8]>::len) as u64;
        }
    }
    let elapsed = started.elapsed();
    consumer.close().await;
    say!("{} read, {}", counted(count, "record"), rates(count, bytes, elapsed));
    print_processor_time(processor_before, count);
    Ok(())
}

fn print_processor_time(before: Option<Duration>, records: u64) {
    if let (Some(before), Some(after)) = (before, processor_time()) {
        let used = after.saturating_sub(before).as_secs_f64();
        say!(
            "processor time {used:.3} s, {:.3} s per million records",
            used * 1e6 / records.max(1) as f64
        );
    }
}

/// Bytes that do not repeat within a batch, so that a codec finds what it would find in noise.
fn payload(record_size: usize) -> Vec<u8> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    (0..record_size + 64 * 1024)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes().first().copied().unwrap_or(0)
        })
        .collect()
}

/// Holds the sender to a rate by waiting in steps, not before each record.
struct Pace {
    per_second: Option<u64>,
}

impl Pace {
    fn new(throughput: i64) -> Pace {
        Pace {
            per_second: u64::try_from(throughput).ok().filter(|rate| *rate > 0),
        }
    }

    async fn wait(&mut self, number: u64, started: Instant) {
        let Some(rate) = self.per_second else { return };
        let due = Duration::from_secs_f64(number as f64 / rate as f64);
        let early = due.saturating_sub(started.elapsed());
        if early > Duration::from_millis(1) {
            tokio::time::sleep(early).await;
        }
    }
}
