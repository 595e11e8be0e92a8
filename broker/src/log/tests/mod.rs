//! Tests of the log room, by subject.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::Uuid;
use ottla_protocol::records::{Compression, RecordBatch, RecordBatchBuilder, RecordBatches};

use super::disk::simulated::SimulatedDisk;
use super::disk::{Disk, RealDisk};
use super::{AppendError, AppendInfo, AppendOrigin, DataDir, Log, LogConfig, LogSlice, LogStart, TailBudget};

mod append;
mod compaction;
mod concurrency;
mod faults;
mod manager;
mod model;
mod producers;
mod recovery;
mod retention;
mod time;
mod validation;

/// Wall time of most tests.
pub const NOW: i64 = 1_700_000_000_000;

/// One log in a directory of its own, on a real or another disk, with or without a tail.
pub struct Bench {
    pub disk: Arc<dyn Disk>,
    pub root: std::path::PathBuf,
    pub config: LogConfig,
    pub tail_bytes: usize,
    _temp: Option<tempfile::TempDir>,
}

impl Bench {
    /// On the machine's disk, without a tail: every read goes to the files.
    pub fn new(config: LogConfig) -> Bench {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_owned();
        Bench {
            disk: Arc::new(RealDisk),
            root,
            config,
            tail_bytes: 0,
            _temp: Some(temp),
        }
    }

    /// On a simulated disk, where nothing waits for hardware.
    pub fn in_memory(config: LogConfig) -> Bench {
        Bench {
            disk: Arc::new(SimulatedDisk::new()),
            root: "/data".into(),
            config,
            tail_bytes: 0,
            _temp: None,
        }
    }

    /// The content of a file.
    pub fn get(&self, path: &Path) -> Vec<u8> {
        self.disk.read(path).unwrap()
    }

    /// Replaces the content of a file.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let file = self.disk.open(path, true).unwrap();
        file.set_len(0).unwrap();
        file.write_at(bytes, 0).unwrap();
    }

    /// Changes one bit of a file.
    pub fn flip(&self, path: &Path, position: usize, bit: u8) {
        let mut bytes = self.get(path);
        bytes[position] ^= 1 << bit;
        self.put(path, &bytes);
    }

    pub fn open(&self) -> Log {
        self.open_with(LogStart::default())
    }

    pub fn open_with(&self, start: LogStart) -> Log {
        let data = DataDir::new(self.disk.clone(), self.root.clone());
        let tail = TailBudget::new(self.tail_bytes);
        let log = Log::open(&data, "t", 0, Uuid::ZERO, self.config.clone(), start, tail, NOW).unwrap();
        log.set_high_watermark(i64::MAX);
        log
    }

    pub fn dir(&self) -> std::path::PathBuf {
        self.root.join("t-0")
    }

    /// Names in the partition's directory, sorted.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = self
            .disk
            .list(&self.dir())
            .unwrap()
            .into_iter()
            .map(|entry| entry.name)
            .collect();
        names.sort();
        names
    }
}

/// Small segments and an index entry for nearly each batch.
pub fn small() -> LogConfig {
    LogConfig {
        segment_bytes: 1000,
        index_interval_bytes: 100,
        ..LogConfig::default()
    }
}

/// A batch as a client sends it, with one record for each timestamp and a value of `size` bytes.
pub fn batch_of(timestamps: &[i64], size: usize, compression: Compression) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for (number, timestamp) in timestamps.iter().enumerate() {
        let value = vec![b'a' + (number % 26) as u8; size];
        builder.append(*timestamp, Some(b"key"), Some(&value), &[]).unwrap();
    }
    let mut sealed = builder.seal(compression, None).unwrap();
    sealed.stamp(-1, -1, -1, false);
    sealed.to_vec()
}

/// A batch of `count` small records of the time [`NOW`].
pub fn batch(count: usize) -> Vec<u8> {
    batch_of(&vec![NOW; count], 20, Compression::None)
}

/// A batch of an idempotent producer.
pub fn batch_from(producer: i64, epoch: i16, sequence: i32, count: usize) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for number in 0..count {
        builder
            .append(NOW + number as i64, Some(b"key"), Some(b"value"), &[])
            .unwrap();
    }
    let mut sealed = builder.seal(Compression::None, None).unwrap();
    sealed.stamp(producer, epoch, sequence, false);
    sealed.to_vec()
}

pub fn append(log: &Log, records: &[u8]) -> Result<AppendInfo, AppendError> {
    let info = log.append_as_leader(records, 0, AppendOrigin::Client, NOW)?;
    log.set_high_watermark(i64::MAX);
    Ok(info)
}

pub fn read(log: &Log, from: i64) -> LogSlice {
    log.read(from, 1 << 20, i64::MAX, true).unwrap()
}

/// Base and last offset of each batch in `slices`, with whole contents verified.
pub fn ranges(slices: &[Bytes]) -> Vec<(i64, i64)> {
    let mut ranges = Vec::new();
    for slice in slices {
        let mut batches = RecordBatches::new(slice);
        for batch in batches.by_ref() {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            ranges.push((batch.base_offset(), batch.last_offset()));
        }
        assert!(!batches.truncated());
    }
    ranges
}

/// Reads the whole log from its start, and checks that its batches follow one another.
pub fn read_all(log: &Log) -> Vec<(i64, i64)> {
    let mut all: Vec<(i64, i64)> = Vec::new();
    let mut from = log.log_start_offset();
    while from < log.log_end_offset() {
        let slice = read(log, from);
        assert!(slice.next_offset > from, "no progress at {from}");
        all.extend(ranges(&slice.batches));
        from = slice.next_offset;
    }
    all
}

pub fn first(bytes: &[u8]) -> RecordBatch<'_> {
    RecordBatch::parse(bytes).unwrap().0
}
