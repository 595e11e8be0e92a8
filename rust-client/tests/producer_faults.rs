//! The producer against a broker that answers with every error code that Kafka has, before and after it wrote.
//!
//! Judged by the log: what was delivered is there once, where the ticket says; what failed with `No` is not there; what
//! failed with `Possibly` is there at most once; the order is that of sending. `--nocapture` prints what became of
//! the records, code by code.

#![allow(clippy::unwrap_used, clippy::expect_used)] // what the test did not expect must stop it

use std::collections::BTreeMap;
use std::time::Duration;

use ottla::{Admin, Consumer, ErrorCode, NewTopic, Persisted, Producer, Record, TopicPartition};
use ottla_broker::Cluster;
use ottla_broker::faults::Rule;
use ottla_protocol::ApiKey;

const PATIENCE: Duration = Duration::from_secs(30);
const PARTITIONS: i32 = 3;
/// Records for each topic: about eight batches a partition.
const RECORDS: u64 = 72;
/// An error code that Kafka does not have.
const NO_CODE: i16 = 9_999;

/// How a producer is configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Idempotent,
    /// acks=all and retries, no idempotence.
    Plain,
    /// acks=all, no idempotence, no retries.
    Once,
    /// acks=0.
    Unacknowledged,
}

const MODES: [Mode; 4] = [Mode::Idempotent, Mode::Plain, Mode::Once, Mode::Unacknowledged];

impl Mode {
    fn settings(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Mode::Idempotent => &[],
            Mode::Plain => &[("enable.idempotence", "false"), ("acks", "all")],
            Mode::Once => &[("enable.idempotence", "false"), ("acks", "all"), ("retries", "0")],
            Mode::Unacknowledged => &[("enable.idempotence", "false"), ("acks", "0")],
        }
    }
}

/// When the error is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    Before,
    After,
}

/// Codes that a broker gives only before it appends. After an append they are a lie, and no client can see through it.
fn is_only_before(code: ErrorCode) -> bool {
    use ErrorCode::*;
    matches!(
        code,
        CorruptMessage
            | UnknownTopicId
            | InconsistentTopicId
            | MessageTooLarge
            | RecordListTooLarge
            | InvalidTopicException
            | LeaderNotAvailable
            | NotEnoughReplicas
            | InvalidRequiredAcks
            | TopicAuthorizationFailed
            | ClusterAuthorizationFailed
            | TransactionalIdAuthorizationFailed
            | InvalidTimestamp
            | UnsupportedVersion
            | UnsupportedForMessageFormat
            | UnsupportedCompressionType
            | InvalidRequest
            | InvalidRecord
            | PolicyViolation
            | OutOfOrderSequenceNumber
            | UnknownProducerId
            | InvalidProducerEpoch
            | InvalidProducerIdMapping
            | ProducerFenced
            | InvalidTxnState
            | ThrottlingQuotaExceeded
    )
}

/// Whether a broker can mean it.
fn is_honest(code: i16, moment: Moment) -> bool {
    let Some(code) = ErrorCode::from_code(code) else {
        return true;
    };
    match (code, moment) {
        // Success, and "I have that already", are said about what is in the log.
        (ErrorCode::None | ErrorCode::DuplicateSequenceNumber, moment) => moment == Moment::After,
        (code, Moment::After) => !is_only_before(code),
        (_, Moment::Before) => true,
    }
}

/// What became of the records of one topic.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    delivered: u64,
    no: u64,
    possibly: u64,
    /// Delivered, and not in the log.
    lost: u64,
    /// In the log more often than once.
    duplicated: u64,
    /// Behind a record that was sent later.
    misordered: u64,
    /// Failed with `No`, and in the log all the same; or failed with `Yes`.
    lied: u64,
    /// Delivered at another offset than the ticket says.
    misplaced: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, more: Counts) {
        self.delivered += more.delivered;
        self.no += more.no;
        self.possibly += more.possibly;
        self.lost += more.lost;
        self.duplicated += more.duplicated;
        self.misordered += more.misordered;
        self.lied += more.lied;
        self.misplaced += more.misplaced;
    }
}

/// Offsets of a number in its partition, and how many records stand behind a later one.
struct Log {
    offsets: BTreeMap<(i32, u64), Vec<i64>>,
    misordered: u64,
}

async fn producer(cluster: &Cluster, pairs: &[(&str, &str)]) -> Producer {
    let mut builder = Producer::builder()
        .bootstrap_servers(cluster.bootstrap_servers())
        .set("linger.ms", "0")
        .set("batch.size", "150")
        .set("retry.backoff.ms", "1")
        .set("retry.backoff.max.ms", "5");
    for (key, value) in pairs {
        builder = builder.set(key, value);
    }
    builder.build().await.unwrap()
}

async fn admin(cluster: &Cluster) -> Admin {
    let builder = Admin::builder().bootstrap_servers(cluster.bootstrap_servers());
    builder.build().await.unwrap()
}

async fn consumer(cluster: &Cluster) -> Consumer {
    let builder = Consumer::builder().bootstrap_servers(cluster.bootstrap_servers());
    // The next topic's fetches must not wait behind one for news of the last topic.
    let builder = builder
        .set("auto.offset.reset", "earliest")
        .set("fetch.max.wait.ms", "1");
    builder.build().await.unwrap()
}

async fn create(admin: &Admin, topics: &[String]) {
    let topics: Vec<_> = topics
        .iter()
        .map(|topic| NewTopic::new(topic).partitions(PARTITIONS))
        .collect();
    let created = admin.create_topics(&topics).await.unwrap();
    assert!(created.values().all(Result::is_ok), "{created:?}");
}

async fn delete(admin: &Admin, topics: &[String]) {
    let deleted = admin.delete_topics(topics).await.unwrap();
    assert!(deleted.values().all(Result::is_ok), "{deleted:?}");
}

/// Waits until nothing more comes: three times in a row the topic ends at the same offsets.
async fn settled(consumer: &Consumer, topic: &str) {
    let partitions: Vec<_> = (0..PARTITIONS).map(|index| TopicPartition::new(topic, index)).collect();
    let (mut last, mut same) = (None, 0);
    while same < 3 {
        let ends = Some(consumer.end_offsets(&partitions).await.unwrap());
        same = if ends == last { same + 1 } else { 0 };
        last = ends;
    }
}

/// Everything in a topic.
async fn read(consumer: &mut Consumer, topic: &str) -> Log {
    let partitions: Vec<_> = (0..PARTITIONS).map(|index| TopicPartition::new(topic, index)).collect();
    let ends = consumer.end_offsets(&partitions).await.unwrap();
    let wanted: i64 = ends.values().sum();
    consumer.assign(&partitions).unwrap();
    let mut log = Log {
        offsets: BTreeMap::new(),
        misordered: 0,
    };
    let mut highest = BTreeMap::new();
    let mut count = 0;
    while count < wanted {
        let batch = tokio::time::timeout(PATIENCE, consumer.poll())
            .await
            .expect("records in time");
        for record in &batch.unwrap().unwrap() {
            count += 1;
            let number: u64 = std::str::from_utf8(record.value().unwrap()).unwrap().parse().unwrap();
            let highest = highest.entry(record.partition()).or_insert(number);
            log.misordered += u64::from(number < *highest);
            *highest = number.max(*highest);
            let offsets = log.offsets.entry((record.partition(), number)).or_default();
            offsets.push(record.offset());
        }
    }
    consumer.assign(&[]).unwrap();
    log
}

/// Sends the records, waits for every ticket, and compares with the log.
async fn send_and_judge(producer: &Producer, consumer: &mut Consumer, topic: &str) -> Counts {
    let mut tickets = Vec::new();
    for number in 0..RECORDS {
        let partition = (number % PARTITIONS as u64) as i32;
        let (value, key) = (number.to_string(), [b'k'; 20]);
        let record = Record::to(topic).partition(partition).key(&key).value(&value);
        tickets.push((partition, number, producer.send(record).await.unwrap()));
    }
    let mut fates = Vec::new();
    for (partition, number, ticket) in tickets {
        let fate = tokio::time::timeout(PATIENCE, ticket)
            .await
            .expect("every ticket completes");
        fates.push((partition, number, fate));
    }
    // What is not acknowledged may still be on its way.
    settled(consumer, topic).await;
    let log = read(consumer, topic).await;
    let mut counts = Counts {
        misordered: log.misordered,
        ..Counts::default()
    };
    for (partition, number, fate) in fates {
        let offsets = log.offsets.get(&(partition, number)).map_or(&[][..], Vec::as_slice);
        counts.duplicated += (offsets.len() as u64).saturating_sub(1);
        match fate {
            Ok(metadata) => {
                counts.delivered += 1;
                counts.lost += u64::from(offsets.is_empty());
                let told = metadata.offset;
                counts.misplaced += u64::from(told.is_some_and(|told| !offsets.is_empty() && !offsets.contains(&told)));
            }
            Err(error) => match error.persisted() {
                Persisted::No => {
                    counts.no += 1;
                    counts.lied += u64::from(!offsets.is_empty());
                }
                Persisted::Possibly => counts.possibly += 1,
                // Who knows that a record is in the log has no reason to fail it.
                Persisted::Yes => counts.lied += 1,
            },
        }
    }
    counts
}

/// The promises of a mode, for an error that a broker can mean.
fn check(mode: Mode, counts: &Counts, case: &str) {
    assert_eq!((counts.lied, counts.misplaced), (0, 0), "{case}: {counts:?}");
    if mode != Mode::Unacknowledged {
        assert_eq!(counts.lost, 0, "{case}: {counts:?}");
    }
    if mode != Mode::Plain {
        assert_eq!(counts.duplicated, 0, "{case}: {counts:?}");
    }
    if mode == Mode::Idempotent {
        assert_eq!(counts.misordered, 0, "{case}: {counts:?}");
    }
}

/// The errors of one case: the third batch of a partition and its first retry, and one batch of another partition.
fn inject(cluster: &Cluster, topic: &str, code: i16, moment: Moment) {
    let error = |rule: Rule| match moment {
        Moment::Before => rule.error_before(code),
        Moment::After => rule.error_after(code),
    };
    let rule = |partition| error(Rule::on(ApiKey::Produce).topic(topic).partition(partition));
    cluster.faults().add(rule(1).skip(2).times(2));
    cluster.faults().add(rule(0).skip(4).times(1));
}

/// What became of the records of each case of a mode, by code and moment.
async fn every_code(mode: Mode) -> BTreeMap<(i16, Moment), Counts> {
    let mut table = BTreeMap::new();
    let cluster = Cluster::start().await.unwrap();
    let (admin, mut consumer) = (admin(&cluster).await, consumer(&cluster).await);
    let codes = ErrorCode::ALL.iter().map(|code| code.code()).chain([NO_CODE]);
    let cases: Vec<_> = codes
        .flat_map(|code| [(code, Moment::Before), (code, Moment::After)])
        .collect();
    // Some topics at a time: changing topics costs an fsync, having them costs open files.
    for cases in cases.chunks(16) {
        let topics: Vec<_> = cases
            .iter()
            .map(|(code, moment)| format!("t{code}-{moment:?}"))
            .collect();
        create(&admin, &topics).await;
        for (&(code, moment), topic) in cases.iter().zip(&topics) {
            let producer = producer(&cluster, mode.settings()).await;
            inject(&cluster, topic, code, moment);
            let counts = send_and_judge(&producer, &mut consumer, topic).await;
            cluster.faults().clear_all();
            producer.close(PATIENCE).await.unwrap();
            if is_honest(code, moment) {
                check(mode, &counts, &format!("{mode:?} {code} {moment:?}"));
            }
            table.insert((code, moment), counts);
        }
        delete(&admin, &topics).await;
    }
    cluster.stop().await.unwrap();
    table
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_error_code_before_and_after_the_append_keeps_the_promises_of_every_mode() {
    let running = MODES.map(|mode| tokio::spawn(every_code(mode)));
    let (mut lines, mut totals) = (BTreeMap::<i16, String>::new(), Vec::new());
    for (mode, table) in MODES.into_iter().zip(running) {
        let mut total = Counts::default();
        for ((code, moment), counts) in table.await.unwrap() {
            let honest = is_honest(code, moment);
            if honest {
                total += counts;
            }
            let Counts {
                delivered,
                no,
                possibly,
                duplicated,
                ..
            } = counts;
            let mark = if honest { "" } else { "*" };
            let line = lines.entry(code).or_default();
            *line += &format!(" | {delivered:2} {no:2} {possibly:2} {duplicated:2}{mark:1}");
        }
        totals.push((mode, total));
    }
    println!("delivered, No, Possibly, duplicated; before and after the append; modes {MODES:?}");
    println!("(* a broker cannot mean it: nothing is promised)");
    for (code, line) in lines {
        let name = ErrorCode::from_code(code).map_or("(unknown to Kafka)", ErrorCode::name);
        println!("{code:4} {name:36}{line}");
    }
    for (mode, total) in totals {
        println!("{mode:?}: {total:?}");
    }
}
