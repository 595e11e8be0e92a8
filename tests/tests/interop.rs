//! One table: producer x consumer x broker x codec. Keys, values, headers, timestamps and offsets arrive identical.
//!
//! Ottla, Java and librdkafka are crossed on both brokers. The clients of other languages write to and read from our broker
//! with every codec; one codec on Apache Kafka shows whose fault a failure is. What a client cannot do is in [`CANNOT`].
//!
//! Each (broker, codec, producer) writes one topic of two partitions; each consumer then reads both partitions, and all
//! consumers must have seen the same. The codec is read off the batches on the broker's disk: a producer that quietly
//! fell back to no compression fails.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, OnceLock};

use ottla_tests::peer::broker_process::{BrokerProcess, Kind};
use ottla_tests::peer::java::JavaTools;
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::ours::{OurBroker, OurClient};
use ottla_tests::peer::program::Program;
use ottla_tests::peer::{Client, Content, Header, Incoming, Outgoing, Receipt};
use ottla_tests::rng::Rng;

const PARTITIONS: i32 = 2;

/// `table!` makes one test of each combination: `apache::zstd::from_ottla::to_java`.
macro_rules! table {
    (brokers $brokers:tt codecs $codecs:tt producers $producers:tt consumers $consumers:tt) => {
        table!(@brokers $brokers $codecs $producers $consumers);
    };
    (@brokers [$($broker:ident)*] $codecs:tt $producers:tt $consumers:tt) => {
        $(mod $broker { table!(@codecs $broker $codecs $producers $consumers); })*
    };
    (@codecs $broker:ident [$($codec:ident)*] $producers:tt $consumers:tt) => {
        $(mod $codec { table!(@producers $broker $codec $producers $consumers); })*
    };
    (@producers $broker:ident $codec:ident [$($producer:ident)*] $consumers:tt) => {
        $(mod $producer { table!(@consumers $broker $codec $producer $consumers); })*
    };
    (@consumers $broker:ident $codec:ident $producer:ident [$($consumer:ident)*]) => {
        $(
            #[test]
            fn $consumer() {
                $crate::cell(stringify!($broker), stringify!($codec), stringify!($producer), stringify!($consumer));
            }
        )*
    };
}

table! {
    brokers   [ottla apache]
    codecs    [none gzip snappy lz4 zstd]
    producers [from_ottla from_java from_librdkafka]
    consumers [to_ottla to_java to_librdkafka]
}

/// What the clients of other languages write.
mod writing {
    table! {
        brokers   [ottla]
        codecs    [none gzip snappy lz4 zstd]
        producers [from_aiokafka from_kafkajs from_platformatic from_franz_go]
        consumers [to_ottla to_librdkafka]
    }
}

/// What they read.
mod reading {
    table! {
        brokers   [ottla]
        codecs    [none gzip snappy lz4 zstd]
        producers [from_ottla]
        consumers [to_aiokafka to_platformatic to_franz_go]
    }
}

/// With a producer id and sequences, which the broker checks.
mod idempotent {
    table! {
        brokers   [ottla apache]
        codecs    [gzip]
        producers [from_idempotent_aiokafka from_idempotent_kafkajs from_idempotent_platformatic from_idempotent_franz_go]
        consumers [to_ottla]
    }
}

/// The yardstick: a peer that fails here as well fails by itself.
mod yardstick {
    table! {
        brokers   [apache]
        codecs    [zstd]
        producers [from_aiokafka from_kafkajs from_platformatic from_franz_go from_ottla]
        consumers [to_aiokafka to_platformatic to_franz_go]
    }
}

/// (client, what it cannot do, why): the gaps of the table. The README shows the same list.
const CANNOT: &[(&str, &str, &str)] = &[
    (
        "Java",
        "write bytes that are no text, or timestamps",
        "its console producer reads text",
    ),
    (
        "aiokafka",
        "write a record without key and value",
        "it asks for one of them",
    ),
    (
        "aiokafka",
        "tell each record's timestamp",
        "it reports that of a batch's first record for all",
    ),
    (
        "kafkajs",
        "read a partition by itself",
        "its consumer always joins a group",
    ),
    (
        "kafkajs",
        "write null header values",
        "it measures each value and fails on null",
    ),
    (
        "kafkajs",
        "write repeated header keys apart from each other",
        "headers are an object, a repeated key a list in it",
    ),
    (
        "kafkajs, @platformatic/kafka",
        "tell each record's offset",
        "they report the first offset of a batch",
    ),
];

#[test]
fn what_a_client_cannot_do_is_in_the_readme() {
    let readme = std::fs::read_to_string(ottla_tests::place::repository().join("README.md")).unwrap();
    for (client, what, why) in CANNOT {
        println!("{client} cannot {what}: {why}");
        assert!(
            readme.contains(&format!("| {client} | {what} | {why} |")),
            "README.md does not say that {client} cannot {what}: {why}"
        );
    }
}

/// One combination.
fn cell(broker: &'static str, codec: &'static str, producer: &'static str, consumer: &'static str) {
    let written = written(broker, codec, producer);
    let seen = read_all(consumer, broker, &written);
    check_contents(&written, &seen);
    check_receipts(&written, &seen);
    // The first consumer to come sets what the others must see too, timestamps included.
    let first = written.seen.get_or_init(|| seen.clone());
    assert_eq!(&seen, first, "two consumers of {} saw different records", written.topic);
}

/// A topic that one producer wrote.
struct Written {
    topic: String,
    records: Vec<Outgoing>,
    receipts: Option<Vec<Receipt>>,
    /// How many records each partition holds, from the broker's disk.
    counts: Vec<usize>,
    /// Milliseconds since the epoch when writing began and ended.
    between: (i64, i64),
    seen: OnceLock<Vec<Vec<Incoming>>>,
}

/// By (broker, codec, producer).
type Topics = HashMap<(&'static str, &'static str, &'static str), Arc<OnceLock<Arc<Written>>>>;

/// The topic of this combination, written when first asked for.
fn written(broker: &'static str, codec: &'static str, producer: &'static str) -> Arc<Written> {
    static TOPICS: LazyLock<Mutex<Topics>> = LazyLock::new(Mutex::default);
    let cell = TOPICS
        .lock()
        .unwrap()
        .entry((broker, codec, producer))
        .or_default()
        .clone();
    cell.get_or_init(|| Arc::new(write(broker, codec, producer))).clone()
}

fn write(broker: &str, codec: &str, producer: &str) -> Written {
    let topic = format!("{codec}-{producer}");
    let bootstrap = bootstrap(broker);
    LIBRDKAFKA.create_topic(&bootstrap, &topic, PARTITIONS).unwrap();
    let records = records(producer);
    let begin = coarse_now_ms();
    let receipts = client(producer).produce(&bootstrap, &topic, codec, &records).unwrap();
    let between = (begin, now_ms());
    let batches: Vec<Vec<Batch>> = (0..PARTITIONS)
        .map(|p| batches(&broker_data(broker), &topic, p))
        .collect();
    let codecs: Vec<&str> = batches.iter().flatten().map(|batch| batch.codec).collect();
    assert!(
        codecs.contains(&codec),
        "{producer} was told {codec}, the log of {topic} on {broker} has {codecs:?}"
    );
    for batch in batches.iter().flatten() {
        assert_eq!(
            batch.producer_id >= 0,
            idempotent(producer),
            "{producer}: the producer id in the log of {topic} on {broker}"
        );
    }
    let counts = batches
        .iter()
        .map(|batches| batches.iter().map(|batch| batch.records).sum())
        .collect();
    Written {
        topic,
        records,
        receipts,
        counts,
        between,
        seen: OnceLock::new(),
    }
}

fn read_all(consumer: &str, broker: &str, written: &Written) -> Vec<Vec<Incoming>> {
    let bootstrap = bootstrap(broker);
    let read = |(partition, count): (usize, &usize)| {
        client(consumer)
            .consume(&bootstrap, &written.topic, partition as i32, *count)
            .unwrap()
    };
    written.counts.iter().enumerate().map(read).collect()
}

/// Every record arrived once, in send order within its partition, at consecutive offsets; equal keys met in one partition.
fn check_contents(written: &Written, seen: &[Vec<Incoming>]) {
    let index: HashMap<&Content, usize> = written
        .records
        .iter()
        .enumerate()
        .map(|(at, record)| (&record.content, at))
        .collect();
    assert_eq!(
        index.len(),
        written.records.len(),
        "the records must differ, or mixing them up would not be noticed"
    );
    let mut arrived = vec![0; written.records.len()];
    let mut homes = HashMap::new();
    for (partition, records) in seen.iter().enumerate() {
        let mut last = None;
        for (at, record) in records.iter().enumerate() {
            assert_eq!(record.offset, at as i64, "{}-{partition}", written.topic);
            let Some(sent) = index.get(&record.content) else {
                panic!(
                    "{}-{partition}@{at} was never sent: {:?}",
                    written.topic, record.content
                );
            };
            assert!(last < Some(*sent), "{}-{partition}@{at} is out of order", written.topic);
            last = Some(*sent);
            arrived[*sent] += 1;
            check_timestamp(written, *sent, record.timestamp);
            if let Some(key) = &record.content.key {
                assert_eq!(
                    *homes.entry(key.clone()).or_insert(partition),
                    partition,
                    "one key in two partitions"
                );
                assert_eq!(
                    java_partition(key),
                    partition as i32,
                    "key {key:?} is not where Java's partitioner puts it"
                );
            }
        }
    }
    assert!(
        arrived.iter().all(|times| *times == 1),
        "{}: arrivals of each record: {arrived:?}",
        written.topic
    );
}

fn check_timestamp(written: &Written, sent: usize, timestamp: i64) {
    match written.records[sent].timestamp {
        Some(wanted) => assert_eq!(timestamp, wanted, "{}: timestamp of record {sent}", written.topic),
        None => assert!(
            written.between.0 <= timestamp && timestamp <= written.between.1,
            "{}: record {sent} was written within {:?}, its timestamp is {timestamp}",
            written.topic,
            written.between
        ),
    }
}

/// What the producer was told is where the records are.
fn check_receipts(written: &Written, seen: &[Vec<Incoming>]) {
    for (sent, receipt) in written.receipts.iter().flatten().enumerate() {
        let record = &seen[receipt.partition as usize][receipt.offset as usize];
        assert_eq!(
            record.content, written.records[sent].content,
            "{}: receipt of record {sent}",
            written.topic
        );
        if let Some(timestamp) = receipt.timestamp {
            assert_eq!(
                record.timestamp, timestamp,
                "{}: timestamp in the receipt of record {sent}",
                written.topic
            );
        }
    }
}

/// Whether this producer numbers its batches. Ottla and Java do by default.
fn idempotent(producer: &str) -> bool {
    producer.contains("idempotent") || matches!(producer, "from_ottla" | "from_java")
}

/// The records of the table, less what the producer cannot say ([`CANNOT`]). The console producer gets no binary ones.
fn records(producer: &str) -> Vec<Outgoing> {
    let mut contents = text_contents();
    let console = producer == "from_java";
    if !console {
        contents.extend(binary_contents());
    }
    match producer.rsplit('_').next() {
        Some("kafkajs") => contents.retain(|content| kafkajs_can_write(&content.headers)),
        Some("aiokafka") => contents.retain(|content| content.key.is_some() || content.value.is_some()),
        _ => {}
    }
    let base = now_ms() - 86_400_000;
    let timestamp = |at: usize| match at % 4 {
        _ if console => None,
        0 => None,
        // Neither ascending nor distinct.
        1 => Some(base + 1_000 - at as i64),
        2 => Some(base),
        _ => Some(base + at as i64 * 60_000),
    };
    contents
        .into_iter()
        .enumerate()
        .map(|(at, content)| Outgoing {
            timestamp: timestamp(at),
            content,
        })
        .collect()
}

/// No null, and equal keys beside each other.
fn kafkajs_can_write(headers: &[Header]) -> bool {
    let mut keys: Vec<&String> = headers.iter().map(|(key, _)| key).collect();
    keys.dedup();
    let groups = keys.len();
    keys.sort();
    keys.dedup();
    groups == keys.len() && headers.iter().all(|(_, value)| value.is_some())
}

fn content(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[(&str, Option<&[u8]>)]) -> Content {
    Content {
        key: key.map(<[u8]>::to_vec),
        value: value.map(<[u8]>::to_vec),
        headers: headers
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.map(<[u8]>::to_vec)))
            .collect(),
    }
}

fn text_contents() -> Vec<Content> {
    let repeated = [
        ("trace", Some(&b"1"[..])),
        ("other", Some(b"2")),
        ("trace", Some(b"3")),
        ("trace", Some(b"1")),
    ];
    let mut contents = vec![
        content(Some(b"key"), Some(b"value"), &[]),
        content(None, Some(b"no key"), &[]),
        content(Some(b"tombstone"), None, &[]),
        content(None, None, &[]),
        content(Some(b""), Some(b"empty key"), &[]),
        content(Some(b"empty value"), Some(b""), &[]),
        content(Some(b""), Some(b""), &[]),
        content(None, Some(b""), &[]),
        content(Some(b""), None, &[]),
        content(Some(b"headers"), Some(b"in order, repeated"), &repeated),
        content(
            Some(b"headers"),
            Some(b"the reverse"),
            &repeated.iter().rev().copied().collect::<Vec<_>>(),
        ),
        content(
            Some(b"headers"),
            Some(b"null and empty"),
            &[("null", None), ("empty", Some(b"")), ("null", None)],
        ),
        content(None, None, &[("only", Some(b"headers"))]),
        content(
            Some("ключ-\u{1F511}".as_bytes()),
            Some("вода-\u{1F4A7}".as_bytes()),
            &[("имя", Some("\u{1F30A}".as_bytes()))],
        ),
    ];
    let long = "one hundred bytes that compress well. ".repeat(700);
    contents.push(content(
        Some(b"long"),
        Some(long.as_bytes()),
        &[("long", Some(&long.as_bytes()[..300]))],
    ));
    for at in 0..60 {
        let (key, value) = (
            format!("truck-{}", at % 7),
            format!("{{\"point\": {at}, \"elevation\": {}}}", at * 31 % 100),
        );
        let key = (at % 3 != 0).then_some(key.as_bytes());
        contents.push(content(
            key,
            Some(value.as_bytes()),
            &[("point", Some(at.to_string().as_bytes()))],
        ));
    }
    contents
}

fn binary_contents() -> Vec<Content> {
    let mut rng = Rng::new(3);
    let every_byte: Vec<u8> = (0..=255).collect();
    let mut contents = vec![
        content(Some(&every_byte), Some(&every_byte), &[("bytes", Some(&every_byte))]),
        content(Some(&[0]), Some(&[0, 0]), &[("", Some(b"an empty header key"))]),
        content(Some(&[0xff; 127]), Some(&[0x80; 128]), &[]),
    ];
    for at in 0..20_usize {
        let (key, value) = (rng.bytes(at + 1), rng.bytes(at * 97 + 1));
        contents.push(content(Some(&key), Some(&value), &[("n", Some(&rng.bytes(at)))]));
    }
    contents
}

/// Java's default partitioner for records with a key: murmur2, sign bit cleared. Written out here so that the table does
/// not judge our client by our client.
fn java_partition(key: &[u8]) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c_u32 ^ key.len() as u32;
    let mut words = key.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> 24;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let tail = words.remainder();
    if !tail.is_empty() {
        for (at, byte) in tail.iter().enumerate() {
            h ^= u32::from(*byte) << (8 * at);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^= h >> 15;
    (h & 0x7fff_ffff) as i32 % PARTITIONS
}

/// A batch in a log segment, as far as this table wants to know it.
struct Batch {
    codec: &'static str,
    records: usize,
    /// -1 without idempotence.
    producer_id: i64,
}

fn batches(data: &std::path::Path, topic: &str, partition: i32) -> Vec<Batch> {
    let mut segments: Vec<PathBuf> = std::fs::read_dir(data.join(format!("{topic}-{partition}")))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "log"))
        .collect();
    segments.sort();
    let mut batches = vec![];
    for segment in segments {
        let bytes = std::fs::read(segment).unwrap();
        let mut rest = &bytes[..];
        while rest.len() > 61 {
            let number = |at: usize| u32::from_be_bytes(rest[at..at + 4].try_into().unwrap()) as usize;
            let codec = ["none", "gzip", "snappy", "lz4", "zstd"][usize::from(rest[22] & 7)];
            batches.push(Batch {
                codec,
                records: number(57),
                producer_id: i64::from_be_bytes(rest[43..51].try_into().unwrap()),
            });
            rest = &rest[12 + number(8)..];
        }
    }
    batches
}

static JAVA: LazyLock<JavaTools> = LazyLock::new(|| JavaTools::start().unwrap());
static LIBRDKAFKA: LazyLock<Librdkafka> = LazyLock::new(|| Librdkafka::start().unwrap());
static AIOKAFKA: LazyLock<[Program; 2]> = LazyLock::new(|| plain_and_idempotent(Program::aiokafka().unwrap()));
static KAFKAJS: LazyLock<[Program; 2]> = LazyLock::new(|| plain_and_idempotent(Program::kafkajs().unwrap()));
static PLATFORMATIC: LazyLock<[Program; 2]> = LazyLock::new(|| plain_and_idempotent(Program::platformatic().unwrap()));
static FRANZ_GO: LazyLock<[Program; 2]> = LazyLock::new(|| plain_and_idempotent(Program::franz_go().unwrap()));
static OTTLA: LazyLock<OurClient> = LazyLock::new(|| OurClient::start().unwrap());
static APACHE_BROKER: LazyLock<BrokerProcess> = LazyLock::new(|| BrokerProcess::start(Kind::Apache, "", &[]).unwrap());
static OUR_BROKER: LazyLock<OurBroker> = LazyLock::new(|| OurBroker::start("interop").unwrap());

fn plain_and_idempotent(program: Program) -> [Program; 2] {
    let idempotent = program.idempotent();
    [program, idempotent]
}

fn client(name: &str) -> &'static dyn Client {
    let at = usize::from(name.contains("idempotent"));
    match name.rsplit('_').next() {
        Some("java") => &*JAVA,
        Some("librdkafka") => &*LIBRDKAFKA,
        Some("aiokafka") => &AIOKAFKA[at],
        Some("kafkajs") => &KAFKAJS[at],
        Some("platformatic") => &PLATFORMATIC[at],
        Some("go") => &FRANZ_GO[at],
        _ => &*OTTLA,
    }
}

fn bootstrap(broker: &str) -> String {
    if broker == "apache" {
        APACHE_BROKER.bootstrap()
    } else {
        OUR_BROKER.bootstrap()
    }
}

fn broker_data(broker: &str) -> PathBuf {
    if broker == "apache" {
        APACHE_BROKER.data_dir()
    } else {
        OUR_BROKER.data_dir()
    }
}

/// By the clock that Ottla stamps records by: it moves once a tick of the kernel, and is behind the other until then.
fn coarse_now_ms() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    now.tv_sec * 1_000 + now.tv_nsec / 1_000_000
}

fn now_ms() -> i64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_millis() as i64
}
