//! Producing: as many records as were asked for, each with its report, read as soon as it is there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use bytes::Bytes;
use ottla::{Delivery, ProducerBuilder, Record, blocking};

use crate::{Outcome, arg, cpu_seconds, num, print};

pub fn builder() -> ProducerBuilder {
    let mut builder = ottla::Producer::builder()
        .bootstrap_servers(arg("bootstrap", "127.0.0.1:9092"))
        .set("acks", arg("acks", "all"))
        .set("linger.ms", arg("linger", "5"))
        .set("compression.type", arg("compression", "none"))
        .set("enable.idempotence", arg("idempotence", "0") == "1");
    for (name, key) in [
        ("batch-size", "batch.size"),
        ("in-flight", "max.in.flight.requests.per.connection"),
        ("buffer-memory", "buffer.memory"),
    ] {
        let value = arg(name, "");
        if !value.is_empty() {
            builder = builder.set(key, value);
        }
    }
    builder
}

pub async fn produce() -> Outcome {
    let load = Load::of_arguments()?;
    let producer = builder().build().await?;
    let topic = producer.topic(&arg("topic", "t")).await?;
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let mut reports = Reports::default();
    let mut outstanding: VecDeque<Delivery> = VecDeque::new();
    for at in 0..load.messages {
        outstanding.push_back(topic.send(load.record(topic.record(), at)).await?);
        while outstanding.front().is_some_and(Delivery::is_complete) {
            if let Some(delivery) = outstanding.pop_front() {
                reports.count(delivery.await.is_ok());
            }
        }
    }
    for delivery in outstanding {
        reports.count(delivery.await.is_ok());
    }
    load.tell(&reports, start.elapsed(), cpu_seconds() - cpu);
    producer.close(Duration::from_secs(10)).await?;
    Ok(())
}

pub fn produce_blocking() -> Outcome {
    let load = Load::of_arguments()?;
    let producer = blocking::ProducerBuilder::from(builder()).build()?;
    let topic = producer.topic(&arg("topic", "t"))?;
    let (cpu, start) = (cpu_seconds(), Instant::now());
    let mut reports = Reports::default();
    let mut outstanding: VecDeque<blocking::Delivery> = VecDeque::new();
    for at in 0..load.messages {
        outstanding.push_back(topic.send(load.record(topic.record(), at))?);
        while outstanding.front().is_some_and(blocking::Delivery::is_complete) {
            if let Some(delivery) = outstanding.pop_front() {
                reports.count(delivery.wait().is_ok());
            }
        }
    }
    for delivery in outstanding {
        reports.count(delivery.wait().is_ok());
    }
    load.tell(&reports, start.elapsed(), cpu_seconds() - cpu);
    producer.close(Duration::from_secs(10))?;
    Ok(())
}

/// What is sent.
struct Load {
    messages: usize,
    size: usize,
    values: Vec<Bytes>,
    keys: Vec<String>,
    owned: bool,
}

impl Load {
    fn of_arguments() -> Result<Load, Box<dyn std::error::Error + Send + Sync>> {
        let (messages, size) = (num("messages", "1000000")?, num("size", "100")?);
        let pool = Bytes::from(std::fs::read(arg("payload", ""))?);
        let keys = if arg("keys", "0") == "1" { 1000 } else { 0 };
        Ok(Load {
            messages,
            size,
            values: (0..pool.len() / size).map(|at| pool.slice(at * size..(at + 1) * size)).collect(),
            keys: (0..keys).map(|at| format!("key-{at:03}")).collect(),
            owned: arg("owned", "0") == "1",
        })
    }

    /// Record number `at`; the key as the adapters in C, Go and Java choose it.
    fn record<'a>(&'a self, empty: Record<'a>, at: usize) -> Record<'a> {
        let value = &self.values[at % self.values.len()];
        let record = if self.owned { empty.value_owned(value.clone()) } else { empty.value(value) };
        match self.keys.len() {
            0 => record,
            count => record.key(&self.keys[at * 7919 % count]),
        }
    }

    fn tell(&self, reports: &Reports, elapsed: Duration, cpu: f64) {
        let (acked, failed, seconds) = (reports.acked, reports.failed, elapsed.as_secs_f64());
        let bytes = acked * self.size;
        print(&format!(
            "\"messages\":{acked},\"failed\":{failed},\"bytes\":{bytes},\"seconds\":{seconds:.6},\"cpu_s\":{cpu:.6}"
        ));
    }
}

#[derive(Default)]
struct Reports {
    acked: usize,
    failed: usize,
}

impl Reports {
    fn count(&mut self, ok: bool) {
        *(if ok { &mut self.acked } else { &mut self.failed }) += 1;
    }
}
