//! `ottla perf`: how fast this client and that cluster are together.
//!
//! In: how many records of which size. Out: rates, latencies and this process's processor time, once at the end and, on a
//! terminal, every second. The load is bounded: it ends after the records asked for.

use std::collections::VecDeque;
use std::ops::Range;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use ottla::{Consumer, Delivery, Producer, Topic};

use crate::connection::ConnectionArguments;
use crate::output::say;
use crate::payload::{Payload, PayloadArguments};
use crate::producer_options::ProducerOptions;
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
    Produce(Box<ProduceLoad>),
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
    /// Records at the beginning that the last lines leave out.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup_records: u64,
    #[command(flatten)]
    payload: PayloadArguments,
    /// Records a second; -1 for as many as possible.
    #[arg(long, value_name = "N", default_value_t = -1, allow_hyphen_values = true)]
    throughput: i64,
    /// Settings of the producer by Kafka's keys; may be repeated.
    #[arg(
        long = "command-property",
        visible_alias = "producer-property",
        alias = "producer-props",
        value_name = "KEY=VALUE",
        num_args = 1..
    )]
    producer_properties: Vec<String>,
    /// Print the producer's metrics at the end, in Prometheus's text format.
    #[arg(long)]
    print_metrics: bool,
    #[command(flatten)]
    options: ProducerOptions,
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
        What::Produce(load) => produce(*load).await,
        What::Consume(load) => consume(load).await,
    }
}

/// What a run of the producer has shown so far.
#[derive(Default)]
struct Deliveries {
    delivered: u64,
    bytes: u64,
    failed: u64,
    unknown: u64,
    first_error: Option<String>,
    /// Microseconds from send to answer, of the records that were timed.
    latencies: Vec<u64>,
}

/// A record whose answer is awaited.
struct Outstanding {
    delivery: Delivery,
    size: usize,
    sent: Option<Instant>,
}

impl Deliveries {
    async fn settle(&mut self, record: Outstanding) {
        match record.delivery.await {
            Ok(_) => {
                self.delivered += 1;
                self.bytes += record.size as u64;
                if let Some(sent) = record.sent {
                    self.latencies
                        .push(u64::try_from(sent.elapsed().as_micros()).unwrap_or(u64::MAX));
                }
            }
            Err(error) => self.failure(&error),
        }
    }

    fn failure(&mut self, error: &ottla::Error) {
        match error.persisted() {
            ottla::Persisted::No => self.failed += 1,
            _ => self.unknown += 1,
        }
        self.first_error.get_or_insert_with(|| error.to_string());
    }

    fn report(&mut self, elapsed: Duration) {
        say!(
            "{} written, {}",
            counted(self.delivered, "record"),
            rates(self.delivered, self.bytes, elapsed)
        );
        self.latencies.sort_unstable();
        let at = |share| percentile(&self.latencies, share) as f64 / 1000.0;
        let mean = self.latencies.iter().sum::<u64>() as f64 / self.latencies.len().max(1) as f64 / 1000.0;
        say!(
            "latency {mean:.2} ms avg, {:.2} ms max, {:.2} ms 50th, {:.2} ms 95th, {:.2} ms 99th, {:.2} ms 99.9th",
            at(1.0),
            at(0.5),
            at(0.95),
            at(0.99),
            at(0.999)
        );
    }
}

async fn produce(load: ProduceLoad) -> Outcome {
    let mut pairs = load.connection.pairs(&load.producer_properties)?;
    pairs.extend(load.options.pairs());
    let mut payload = Payload::new(&load.payload)?;
    let producer = Producer::from_properties(pairs)?.build().await?;
    let topic = producer.topic(&load.topic).await?;
    let warmup = load.warmup_records.min(load.num_records);
    if warmup > 0 {
        let (started, range) = (Instant::now(), 0..warmup);
        let mut warm = send_all(&topic, &mut payload, range, load.throughput).await;
        warm.report(started.elapsed());
        say!("these {} were to warm up; steady state:", counted(warmup, "record"));
        finish(&warm)?;
    }
    let (started, processor_before) = (Instant::now(), processor_time());
    let mut deliveries = send_all(&topic, &mut payload, warmup..load.num_records, load.throughput).await;
    deliveries.report(started.elapsed());
    producer.close(Duration::from_secs(10)).await?;
    print_processor_time(processor_before, deliveries.delivered);
    if load.print_metrics {
        say!("{}", producer.metrics().to_prometheus().trim_end());
    }
    finish(&deliveries)
}

fn finish(deliveries: &Deliveries) -> Outcome {
    let Some(error) = &deliveries.first_error else {
        return Ok(());
    };
    let lost = deliveries.failed + deliveries.unknown;
    Err(Failure::new(format!(
        "{} not written ({} of them possibly); the first: {error}",
        counted(lost, "record"),
        grouped(deliveries.unknown)
    )))
}

/// Sends the records of these numbers and waits for every answer.
async fn send_all(topic: &Topic, payload: &mut Payload, numbers: Range<u64>, throughput: i64) -> Deliveries {
    // One record in so many is timed: a clock read for each would be a good part of what is measured.
    const TIMED_ONE_IN: u64 = 64;
    const OUTSTANDING: usize = 1_000_000;
    let started = Instant::now();
    let mut deliveries = Deliveries::default();
    let mut outstanding: VecDeque<Outstanding> = VecDeque::new();
    let mut pace = Pace::new(throughput);
    for (place, number) in (0..).zip(numbers) {
        pace.wait(place, started).await;
        let value = payload.value(number);
        let sent = (place % TIMED_ONE_IN == 0).then(Instant::now);
        match topic.send(topic.record().value(value)).await {
            Ok(delivery) => outstanding.push_back(Outstanding {
                delivery,
                size: value.len(),
                sent,
            }),
            Err(error) => deliveries.failure(&error),
        }
        while outstanding.front().is_some_and(|record| record.delivery.is_complete()) || outstanding.len() > OUTSTANDING
        {
            let Some(record) = outstanding.pop_front() else {
                break;
            };
            deliveries.settle(record).await;
        }
    }
    while let Some(record) = outstanding.pop_front() {
        deliveries.settle(record).await;
    }
    deliveries
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
    consumer.close(Duration::from_secs(10)).await;
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
