//! A producer of Ottla's on one side, a broker process on the other, a wire that breaks by rule between them, and
//! librdkafka to read what became of it.
//!
//! Takes rounds: what to break, and how many records to send meanwhile. Gives the judgement over all rounds of a topic.
//! Every record goes to partition 0 and has its number, in six digits, as value, so that all requests of a round are alike
//! to the byte.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ottla::{Delivery, Producer, Record};
use tokio::runtime::Runtime;

use crate::history::{Told, Verdict, judge};
use crate::peer::broker_process::{BrokerProcess, Kind};
use crate::peer::librdkafka::Librdkafka;
use crate::peer::ours::{runtime, settle};
use crate::peer::{Client, Failure};
use crate::proxy::Proxy;

/// Two records of ours fit into a batch of this size, and no third.
const BATCH_SIZE: &str = "90";
const PATIENCE: Duration = Duration::from_secs(60);

/// Broker, proxy, reader.
pub struct Stage {
    /// The wire.
    pub proxy: Proxy,
    /// The broker behind it.
    pub broker: BrokerProcess,
    reader: Librdkafka,
    runtime: Runtime,
}

impl Stage {
    /// Starts all three.
    ///
    /// # Errors
    /// When one of them does not start.
    pub fn start(kind: Kind, name: &str) -> Result<Stage, Failure> {
        let proxy = Proxy::bind()?;
        let broker = BrokerProcess::start_behind(&proxy, kind, name, &[])?;
        Ok(Stage {
            proxy,
            broker,
            reader: Librdkafka::start()?,
            runtime: runtime()?,
        })
    }

    /// Creates `topic` with one partition, and a producer that writes two records a batch to it. `properties` over:
    /// quick retries, acks=all, idempotence as it is by default.
    ///
    /// # Errors
    /// When the broker or the configuration refuses.
    pub fn writer(&self, topic: &str, properties: &[(&str, &str)]) -> Result<Writer<'_>, Failure> {
        self.reader.create_topic(&self.broker.bootstrap(), topic, 1)?;
        let mut building = Producer::builder().bootstrap_servers(self.proxy.bootstrap());
        let own = [
            ("batch.size", BATCH_SIZE),
            // Batches leave when they are full or flushed; no timer has a say in how many there are.
            ("linger.ms", "10000"),
            ("retry.backoff.ms", "1"),
            ("retry.backoff.max.ms", "20"),
            ("reconnect.backoff.ms", "1"),
            ("reconnect.backoff.max.ms", "20"),
        ];
        for (key, value) in own.iter().chain(properties) {
            building = building.set(key, *value);
        }
        let producer = self
            .runtime
            .block_on(building.build())
            .map_err(|error| error.to_string())?;
        Ok(Writer {
            stage: self,
            topic: topic.to_owned(),
            producer,
            told: Told::default(),
            sent: 0,
            timestamp: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.as_millis() as i64),
        })
    }
}

/// A producer and what it was told.
pub struct Writer<'s> {
    stage: &'s Stage,
    topic: String,
    producer: Producer,
    told: Told,
    sent: u64,
    /// That of all records: times of their own would make some of them a byte longer than others. It is a recent one, as
    /// brokers delete old records.
    timestamp: i64,
}

impl Writer<'_> {
    /// Sends `records` records and says nothing yet of their fate.
    ///
    /// # Errors
    /// When one is not even accepted.
    pub fn send(&mut self, records: u64) -> Result<Vec<(u64, Delivery)>, Failure> {
        self.stage.runtime.block_on(async {
            let mut outstanding = vec![];
            for number in self.sent..self.sent + records {
                let value = format!("{number:06}");
                let record = Record::to(&self.topic).partition(0).value(&value);
                let delivery = self.producer.send(record.timestamp(self.timestamp)).await;
                outstanding.push((number, delivery.map_err(|error| error.to_string())?));
            }
            self.sent += records;
            Ok(outstanding)
        })
    }

    /// Waits without lingering until each of `outstanding` has its fate, at most a minute, and notes it.
    ///
    /// # Errors
    /// When one has none by then, or two.
    pub fn settle(&mut self, outstanding: Vec<(u64, Delivery)>) -> Result<(), Failure> {
        self.stage.runtime.block_on(async {
            let flushing = tokio::time::timeout(PATIENCE, self.producer.flush());
            flushing.await.map_err(|_| "flush does not return")?;
            for (number, delivery) in outstanding {
                let again = delivery.clone();
                let fate = tokio::time::timeout(PATIENCE, delivery).await;
                let fate = fate.map_err(|_| format!("record {number} has no fate"))?;
                let offset = |fate: &ottla::Result<ottla::RecordMetadata>| fate.as_ref().ok().map(|known| known.offset);
                if again.try_result().map(|fate| offset(&fate)) != Some(offset(&fate)) {
                    return Err(format!("record {number} has two fates"));
                }
                settle(number, fate, &mut self.told);
            }
            Ok(())
        })
    }

    /// Whether the fate of record `number` is known, and is an error.
    pub fn has_failed(&self, number: u64) -> bool {
        self.told.failed.contains(&number) || self.told.refused.contains(&number)
    }

    /// [`Writer::send`] and [`Writer::settle`].
    ///
    /// # Errors
    /// Theirs.
    pub fn round(&mut self, records: u64) -> Result<(), Failure> {
        let outstanding = self.send(records)?;
        self.settle(outstanding)
    }

    /// Closes the producer, waits until no connection can carry a late copy any more, and has librdkafka read the log.
    ///
    /// # Errors
    /// When the producer counted otherwise than its tickets said, or the log cannot be read.
    pub fn end(self) -> Result<Verdict, Failure> {
        let Writer {
            stage,
            topic,
            producer,
            told,
            sent,
            ..
        } = self;
        let closing = stage.runtime.block_on(producer.close(PATIENCE));
        let closed = closing.map_err(|error| error.to_string())?;
        let counted = [closed.delivered, closed.failed, closed.unknown];
        let said = [told.acked.len(), told.refused.len(), told.failed.len()].map(|count| count as u64);
        if counted != said || said.iter().sum::<u64>() != sent {
            return Err(format!("{closed:?}, but the tickets of {sent} records said {said:?}"));
        }
        drop(producer);
        stage.proxy.release();
        let all_ended = |counts: &crate::proxy::Counts| counts.ended == counts.connections;
        stage.proxy.wait("the end of all connections", all_ended)?;
        let bootstrap = stage.broker.bootstrap();
        let log = read_numbers(&stage.reader, &bootstrap, &topic, 1)?;
        Ok(judge(&told, &log))
    }
}

/// Offsets and numbers of all records of a topic, by partition.
///
/// # Errors
/// When the log cannot be read, or a value is not a number.
pub fn read_numbers(
    reader: &Librdkafka,
    bootstrap: &str,
    topic: &str,
    partitions: i32,
) -> Result<Vec<Vec<(i64, u64)>>, Failure> {
    let read = |partition| {
        let end = reader.end_offset(bootstrap, topic, partition)?;
        let records = reader.consume(bootstrap, topic, partition, end as usize)?;
        let number = |value: Option<Vec<u8>>| {
            let text = String::from_utf8(value.unwrap_or_default()).map_err(|error| error.to_string())?;
            text.parse().map_err(|error| format!("{text:?}: {error}"))
        };
        records
            .into_iter()
            .map(|record| Ok((record.offset, number(record.content.value)?)))
            .collect()
    };
    (0..partitions).map(read).collect()
}
