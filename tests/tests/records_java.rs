//! Kafka's Java classes read the batches that Ottla writes, and the reverse: all codecs, all edge cases.
//!
//! `UPDATE=1` also writes the samples of `protocol/testdata/records` anew.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

#[path = "../../protocol/tests/describe/mod.rs"]
mod describe;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use describe::{describe, samples, to_hex};
use ottla_protocol::records::{
    Compression, Compressor, EndTransactionMarker, Header, RecordBatch, RecordBatchBuilder, SealedBatch, batch,
};

const NOW: i64 = 1_700_000_000_000;

/// The samples that are kept as golden data: small ones of every kind.
const GOLDEN: [&str; 17] = [
    "mixed-create-none",
    "mixed-create-gzip",
    "mixed-create-snappy",
    "mixed-create-lz4",
    "mixed-create-zstd",
    "mixed-append-none",
    "mixed-append-lz4",
    "transactional-none",
    "transactional-zstd",
    "cleaned-none",
    "cleaned-gzip",
    "emptied",
    "commit",
    "abort",
    "leader-change",
    "sequence-wraps",
    "no-timestamp",
];

#[test]
fn ottla_reads_what_kafka_writes() {
    let written = java("write", "");
    let samples = samples(&written);
    assert!(samples.len() >= 5 * 6 + 7);
    for sample in &samples {
        // Not assert_eq: some descriptions take a megabyte.
        let ours = describe(&sample.bytes);
        let difference = ours
            .lines()
            .zip(sample.description.lines())
            .find(|(ours, kafka)| ours != kafka);
        assert_eq!(difference, None, "{}", sample.name);
        assert_eq!(ours.len(), sample.description.len(), "{}", sample.name);
    }
    if std::env::var_os("UPDATE").is_some() {
        let mut golden = String::new();
        for sample in samples.iter().filter(|sample| GOLDEN.contains(&sample.name.as_str())) {
            let hex = to_hex(&sample.bytes);
            golden.push_str(&format!("name {}\nhex {hex}\n{}end\n", sample.name, sample.description));
        }
        std::fs::write(repository().join("protocol/testdata/records/kafka-4.4.0.txt"), golden).unwrap();
    }
}

#[test]
fn kafka_reads_what_ottla_writes() {
    let mut runs = vec![];
    for compression in Compression::ALL {
        for level in levels(compression) {
            runs.push(mixed().seal(compression, level).unwrap().to_vec());
            runs.push(repetitive(2500).seal(compression, level).unwrap().to_vec());
        }
        runs.push(incompressible().seal(compression, None).unwrap().to_vec());
        runs.push(stamped(compression).to_vec());
        runs.push(log_append_time(compression));
        runs.push(with_gaps().seal(compression, None).unwrap().to_vec());
        runs.push(recompressed(compression));
        for size in [0, 1, 63, 64, 32_700, 65_535 - 12, 65_536, 131_072] {
            runs.push(of_one_value(size).seal(compression, None).unwrap().to_vec());
        }
    }
    for committed in [true, false] {
        let marker = EndTransactionMarker {
            committed,
            coordinator_epoch: 17,
        };
        runs.push(marker.batch(i64::MAX, i16::MAX, NOW).unwrap().to_vec());
    }
    let several: Vec<u8> = runs.iter().take(12).flatten().copied().collect();
    runs.push(several);
    runs.extend((0..60).map(|seed| random(seed).to_vec()));

    let input: String = runs.iter().map(|run| to_hex(run) + "\n").collect();
    let output = java("read", &input);
    let mut answers = output.split("end\n");
    for (number, run) in runs.iter().enumerate() {
        let kafka = answers.next().unwrap();
        let ours = describe(run);
        assert!(
            !kafka.contains("error"),
            "run {number}: {}",
            kafka.lines().last().unwrap_or_default()
        );
        let difference = ours.lines().zip(kafka.lines()).find(|(ours, kafka)| ours != kafka);
        assert_eq!(difference, None, "run {number}");
        assert_eq!(ours.len(), kafka.len(), "run {number}");
    }
    assert_eq!(answers.next(), Some(""));
}

fn levels(compression: Compression) -> Vec<Option<i32>> {
    let levels: &[i32] = match compression {
        Compression::None | Compression::Snappy => &[],
        Compression::Gzip => &[-1, 1, 9],
        Compression::Lz4 => &[1, 17],
        Compression::Zstd => &[-131_072, -5, 1, 19],
    };
    levels.iter().copied().map(Some).chain([None]).collect()
}

fn mixed() -> RecordBatchBuilder {
    let headers = [
        Header {
            key: "a",
            value: Some(b"1"),
        },
        Header { key: "b", value: None },
        Header {
            key: "a",
            value: Some(b"2"),
        },
        Header {
            key: "",
            value: Some(b""),
        },
        Header {
            key: "schlüssel",
            value: Some(&[0, 255, 127, 128]),
        },
    ];
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append(NOW, Some(b"key"), Some(b"value"), &[]).unwrap();
    builder
        .append(NOW - 1, None, Some(b"older, without key"), &headers[..1])
        .unwrap();
    builder
        .append(NOW + 3_000_000_000, Some(b"tombstone"), None, &headers)
        .unwrap();
    builder.append(-1, None, None, &[]).unwrap();
    builder.append(0, Some(b""), Some(b""), &headers[3..]).unwrap();
    builder.append(i64::MAX, Some(&[7; 64]), Some(&[8; 8192]), &[]).unwrap();
    builder
}

fn repetitive(count: u32) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for number in 0..count {
        let value = format!(
            "{{\"truck\":{},\"speed\":{},\"number\":{number}}}",
            number % 17,
            number % 120
        );
        let key = (number % 17).to_be_bytes();
        builder
            .append(NOW + i64::from(number), Some(&key), Some(value.as_bytes()), &[])
            .unwrap();
    }
    builder
}

fn incompressible() -> RecordBatchBuilder {
    let mut random = Random(1);
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for size in [1, 127, 128, 16_383, 16_384, 200_000, 3] {
        builder.append(NOW, None, Some(&random.bytes(size)), &[]).unwrap();
    }
    builder
}

fn of_one_value(size: usize) -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder
        .append(NOW, None, Some(&b"abcdefg".repeat(size / 7 + 1)[..size]), &[])
        .unwrap();
    builder
}

fn with_gaps() -> RecordBatchBuilder {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for offset_delta in [3, 4, 200, 70_000, i32::MAX as u32] {
        builder
            .append_at(offset_delta, NOW, Some(b"kept"), Some(b"by compaction"), &[])
            .unwrap();
    }
    builder
}

fn stamped(compression: Compression) -> SealedBatch {
    let mut sealed = mixed().seal(compression, None).unwrap();
    sealed.stamp(1, 0, 0, false);
    sealed.stamp(4711, 32_767, i32::MAX - 2, true);
    sealed.set_base_offset(1 << 40);
    sealed.set_partition_leader_epoch(3);
    sealed
}

fn log_append_time(compression: Compression) -> Vec<u8> {
    let mut bytes = stamped(compression).to_vec();
    batch::patch_base_offset(&mut bytes, 99);
    batch::patch_leader_epoch(&mut bytes, 7);
    batch::patch_log_append_time(&mut bytes, NOW + 5);
    bytes
}

fn recompressed(compression: Compression) -> Vec<u8> {
    let bytes = stamped(Compression::None).to_vec();
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    batch
        .recompress(batch.records_raw(), &mut Compressor::new(compression, None).unwrap())
        .unwrap()
}

/// A batch whose every choice comes from `seed`.
fn random(seed: u64) -> SealedBatch {
    let mut random = Random(seed + 1);
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for _ in 0..1 + random.below(40) {
        let key = random.optional_bytes(20);
        let value = random.optional_bytes(400);
        let headers: Vec<(String, Option<Vec<u8>>)> = (0..random.below(4))
            .map(|_| (format!("h{}", random.below(3)), random.optional_bytes(9)))
            .collect();
        let headers: Vec<_> = headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect();
        let timestamp = NOW + random.below(1 << 40) as i64 - (1 << 39);
        builder
            .append(timestamp, key.as_deref(), value.as_deref(), &headers)
            .unwrap();
    }
    let compression = Compression::ALL[random.below(5) as usize];
    builder.seal(compression, None).unwrap()
}

/// Marsaglia's xorshift: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.below(256) as u8).collect()
    }

    fn optional_bytes(&mut self, bound: u64) -> Option<Vec<u8>> {
        let len = self.below(bound) as usize;
        (self.below(5) > 0).then(|| self.bytes(len))
    }
}

fn repository() -> PathBuf {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    tests.parent().unwrap().to_path_buf()
}

/// Runs `RecordsPeer` with `input` on its standard input and returns its standard output.
fn java(mode: &str, input: &str) -> String {
    let jars = repository().join(".peers/kafka-4.4.0");
    assert!(
        jars.join("kafka-clients-4.4.0.jar").exists(),
        "Kafka's jars are not installed: run `make peers` first"
    );
    let mut child = Command::new("java")
        .arg("-cp")
        .arg(jars.join("*"))
        .arg(repository().join("tests/java/RecordsPeer.java"))
        .arg(mode)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("java (17 or later) must be on the PATH");
    let mut stdin = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input.as_bytes()));
        child.wait_with_output().unwrap()
    });
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
