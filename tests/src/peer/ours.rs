//! Ottla's client and its in-process broker, behind the same trait as everyone else.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use ottla::{Consumer, Persisted, Producer, ProducerBuilder, Record, RecordMetadata, TopicPartition};
use ottla_broker::Cluster;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;

use super::{Client, Content, Failure, Incoming, Outgoing, Receipt};
use crate::history::Told;
use crate::place;

const PATIENCE: Duration = Duration::from_secs(30);

/// A runtime for the blocking harness: two threads, like the machines this runs on.
///
/// # Errors
/// When it cannot be made.
pub fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .map_err(|e| e.to_string())
}

/// Ottla's client.
pub struct OurClient(Arc<Runtime>);

impl OurClient {
    /// Makes its runtime.
    ///
    /// # Errors
    /// When that fails.
    pub fn start() -> Result<OurClient, Failure> {
        Ok(OurClient(Arc::new(runtime()?)))
    }
}

impl Client for OurClient {
    fn produce(
        &self,
        bootstrap: &str,
        topic: &str,
        codec: &str,
        records: &[Outgoing],
    ) -> Result<Option<Vec<Receipt>>, Failure> {
        self.0.block_on(produce(bootstrap, topic, codec, records)).map(Some)
    }

    fn consume(&self, bootstrap: &str, topic: &str, partition: i32, count: usize) -> Result<Vec<Incoming>, Failure> {
        self.0.block_on(async {
            let reading = consume(bootstrap, topic, partition, count);
            tokio::time::timeout(PATIENCE, reading)
                .await
                .map_err(|_| format!("fewer than {count} records came"))?
        })
    }
}

async fn produce(bootstrap: &str, topic: &str, codec: &str, records: &[Outgoing]) -> Result<Vec<Receipt>, Failure> {
    let text = |error: ottla::Error| error.to_string();
    let producer = Producer::builder()
        .bootstrap_servers(bootstrap)
        .set("compression.type", codec)
        .set("acks", "all")
        .build()
        .await
        .map_err(text)?;
    let mut deliveries = vec![];
    for outgoing in records {
        deliveries.push(producer.send(record(topic, outgoing)).await.map_err(text)?);
    }
    let mut receipts = vec![];
    for delivery in deliveries {
        let metadata = delivery.await.map_err(text)?;
        let offset = metadata.offset.ok_or("a delivery without offset")?;
        receipts.push(Receipt {
            partition: metadata.partition,
            offset,
            timestamp: Some(metadata.timestamp),
        });
    }
    producer.close(PATIENCE).await.map_err(text)?;
    Ok(receipts)
}

fn record<'a>(topic: &'a str, outgoing: &'a Outgoing) -> Record<'a> {
    let mut record = Record::to(topic);
    if let Some(key) = &outgoing.content.key {
        record = record.key(key);
    }
    if let Some(value) = &outgoing.content.value {
        record = record.value(value);
    }
    if let Some(timestamp) = outgoing.timestamp {
        record = record.timestamp(timestamp);
    }
    for (key, value) in &outgoing.content.headers {
        record = match value {
            Some(value) => record.header(key, value),
            None => record.null_header(key),
        };
    }
    record
}

async fn consume(bootstrap: &str, topic: &str, partition: i32, count: usize) -> Result<Vec<Incoming>, Failure> {
    let text = |error: ottla::Error| error.to_string();
    let partition = TopicPartition::new(topic, partition);
    let mut consumer = Consumer::builder()
        .bootstrap_servers(bootstrap)
        .build()
        .await
        .map_err(text)?;
    consumer.assign(std::slice::from_ref(&partition)).map_err(text)?;
    consumer.seek_to_beginning(&partition).map_err(text)?;
    let mut seen = vec![];
    while seen.len() < count {
        let Some(records) = consumer.poll().await.map_err(text)? else {
            break;
        };
        for record in &records {
            let mut headers = vec![];
            for header in record.headers() {
                let header = header.map_err(|error| error.to_string())?;
                headers.push((header.key.to_owned(), header.value.map(<[u8]>::to_vec)));
            }
            let content = Content {
                key: record.key().map(<[u8]>::to_vec),
                value: record.value().map(<[u8]>::to_vec),
                headers,
            };
            seen.push(Incoming {
                offset: record.offset(),
                timestamp: record.timestamp(),
                content,
            });
        }
    }
    consumer.close(Duration::from_secs(10)).await;
    Ok(seen)
}

/// How [`OurWriter`] writes if it is not told otherwise.
const WRITER: [(&str, &str); 6] = [
    ("enable.idempotence", "true"),
    ("acks", "all"),
    ("linger.ms", "1"),
    ("retry.backoff.ms", "50"),
    ("reconnect.backoff.ms", "10"),
    ("reconnect.backoff.max.ms", "100"),
];

/// Fates known so far.
#[derive(Default)]
struct Progress {
    acked: AtomicU64,
    given_up: AtomicU64,
}

impl Progress {
    fn tell(&self, told: &Told) {
        self.acked.store(told.acked.len() as u64, Ordering::Relaxed);
        let given_up = told.failed.len() + told.refused.len();
        self.given_up.store(given_up as u64, Ordering::Relaxed);
    }
}

/// Writes numbered records in the background through whatever happens to the broker, idempotent with acks=all.
pub struct OurWriter {
    runtime: Runtime,
    stop: Arc<AtomicBool>,
    progress: Arc<Progress>,
    writing: Option<JoinHandle<Result<Told, Failure>>>,
}

impl OurWriter {
    /// Makes its runtime.
    ///
    /// # Errors
    /// When that fails.
    pub fn new() -> Result<OurWriter, Failure> {
        Ok(OurWriter {
            runtime: runtime()?,
            stop: Arc::default(),
            progress: Arc::default(),
            writing: None,
        })
    }

    /// Begins: record `n` has the value `n` and goes to partition `n` modulo `partitions`. Idempotent, acks=all.
    pub fn begin(&mut self, bootstrap: &str, topic: &str, partitions: i32) {
        self.begin_with(bootstrap, topic, partitions, &[]);
    }

    /// Like [`OurWriter::begin`], with `properties` over its own.
    pub fn begin_with(&mut self, bootstrap: &str, topic: &str, partitions: i32, properties: &[(&str, &str)]) {
        let mut building = Producer::builder().bootstrap_servers(bootstrap);
        for (key, value) in WRITER.iter().chain(properties) {
            building = building.set(key, *value);
        }
        self.stop.store(false, Ordering::Relaxed);
        self.progress = Arc::default();
        let progress = (Arc::clone(&self.stop), Arc::clone(&self.progress));
        let writing = write_until(building, topic.to_owned(), partitions, progress);
        self.writing = Some(self.runtime.spawn(writing));
    }

    /// Records acknowledged so far.
    pub fn acked(&self) -> u64 {
        self.progress.acked.load(Ordering::Relaxed)
    }

    /// Records that failed so far.
    pub fn given_up(&self) -> u64 {
        self.progress.given_up.load(Ordering::Relaxed)
    }

    /// Waits until `more` further records are acknowledged, at most a minute.
    ///
    /// # Errors
    /// When they are not.
    pub fn wait_for(&self, more: u64) -> Result<(), Failure> {
        let aim = self.acked() + more;
        self.wait(&format!("{aim} records acknowledged"), || self.acked() >= aim)
    }

    /// Waits until a further record is given up, at most a minute.
    ///
    /// # Errors
    /// When none is.
    pub fn wait_for_given_up(&self) -> Result<(), Failure> {
        let before = self.given_up();
        self.wait("a record given up", || self.given_up() > before)
    }

    fn wait(&self, what: &str, happened: impl Fn() -> bool) -> Result<(), Failure> {
        let start = Instant::now();
        while !happened() {
            if start.elapsed() > 2 * PATIENCE {
                let (acked, given_up) = (self.acked(), self.given_up());
                return Err(format!(
                    "{what}: does not happen; {acked} acknowledged, {given_up} given up"
                ));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Stops, waits until the fate of every record is known, and tells it.
    ///
    /// # Errors
    /// When it could not even begin.
    pub fn end(&mut self) -> Result<Told, Failure> {
        self.stop.store(true, Ordering::Relaxed);
        let writing = self.writing.take().ok_or("it does not write")?;
        self.runtime.block_on(writing).map_err(|error| error.to_string())?
    }
}

async fn write_until(
    building: ProducerBuilder,
    topic: String,
    partitions: i32,
    (stop, progress): (Arc<AtomicBool>, Arc<Progress>),
) -> Result<Told, Failure> {
    let text = |error: ottla::Error| error.to_string();
    let producer = building.build().await.map_err(text)?;
    let (mut told, mut outstanding, mut number) = (Told::default(), VecDeque::new(), 0_u64);
    while !stop.load(Ordering::Relaxed) {
        for _ in 0..20 {
            let partition = (number % partitions as u64) as i32;
            let value = number.to_string();
            match producer
                .send(Record::to(&topic).partition(partition).value(&value))
                .await
            {
                Ok(delivery) => outstanding.push_back((number, delivery)),
                Err(error) => settle(number, Err(error), &mut told),
            }
            number += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
        while outstanding.front().is_some_and(|(_, delivery)| delivery.is_complete()) {
            if let Some((number, delivery)) = outstanding.pop_front() {
                settle(number, delivery.await, &mut told);
            }
        }
        progress.tell(&told);
    }
    for (number, delivery) in outstanding {
        settle(number, delivery.await, &mut told);
    }
    let closed = producer.close(PATIENCE).await.map_err(text)?;
    let (delivered, unknown) = (told.acked.len() as u64, told.failed.len() as u64);
    if (closed.delivered, closed.unknown) != (delivered, unknown) {
        return Err(format!("{closed:?}, but the tickets say {delivered} and {unknown}"));
    }
    Ok(told)
}

/// Notes what a ticket said.
pub fn settle(number: u64, outcome: ottla::Result<RecordMetadata>, told: &mut Told) {
    match outcome {
        Ok(metadata) => told
            .acked
            .push((metadata.partition, metadata.offset.unwrap_or(-1), number)),
        Err(error) if error.persisted() == Persisted::No => told.refused.push(number),
        Err(error) => {
            // The first of them say what the others would.
            if told.failed.len() < 5 {
                println!("record {number} failed: {error}");
            }
            told.failed.push(number);
        }
    }
}

/// Ottla's broker inside this process. Its data directory is kept for `DumpLogSegments`.
pub struct OurBroker {
    cluster: Cluster,
    data: PathBuf,
    // The broker's tasks live in it.
    _runtime: Runtime,
}

impl OurBroker {
    /// Starts it on a free port.
    ///
    /// # Errors
    /// When it does not start.
    pub fn start(name: &str) -> Result<OurBroker, Failure> {
        let (runtime, data) = (runtime()?, place::data_dir(name));
        let starting = Cluster::builder().data_dir(&data).start();
        let cluster = runtime.block_on(starting).map_err(|error| error.to_string())?;
        Ok(OurBroker {
            cluster,
            data,
            _runtime: runtime,
        })
    }

    /// `HOST:PORT`.
    pub fn bootstrap(&self) -> String {
        self.cluster.bootstrap_servers()
    }

    /// Where it keeps its partitions.
    pub fn data_dir(&self) -> PathBuf {
        self.data.clone()
    }
}
