//! The small text files: checkpoints of offsets, `leader-epoch-checkpoint`, `partition.metadata`, `meta.properties`
//! and `.kafka_cleanshutdown`, all as Kafka writes them.
//!
//! In: values, or the bytes of a file. Out: the bytes of a file, or values. A file that does not parse is `None`, and
//! the caller rebuilds what it held. Nothing here touches the disk but `read`, which tells "absent" from "failed".

use std::collections::BTreeMap;
use std::fmt::Write;
use std::io;
use std::path::Path;

use ottla_broker_state::leader_epochs::{EpochEntry, LeaderEpochs};
use ottla_protocol::Uuid;

use super::disk::Disk;
use super::error::{Attempt, StorageError};

/// Up to which offset each partition is known to be fsynced.
pub const RECOVERY_POINT: &str = "recovery-point-offset-checkpoint";
/// Where each partition's log starts.
pub const LOG_START_OFFSET: &str = "log-start-offset-checkpoint";
/// Each partition's high watermark.
pub const HIGH_WATERMARK: &str = "replication-offset-checkpoint";
/// Up to which offset each partition is compacted.
pub const CLEANER_OFFSET: &str = "cleaner-offset-checkpoint";
/// In a partition's directory: where each leader epoch starts.
pub const LEADER_EPOCHS: &str = "leader-epoch-checkpoint";
/// In a partition's directory: the topic's id.
pub const PARTITION_METADATA: &str = "partition.metadata";
/// Whose data directory this is.
pub const META_PROPERTIES: &str = "meta.properties";
/// There if, and only if, the last stop was clean.
pub const CLEAN_SHUTDOWN: &str = ".kafka_cleanshutdown";

const VERSION: &str = "0";

/// A topic's name and a partition's number.
pub type TopicPartition = (String, i32);

/// Reads a file that may be absent.
pub(super) fn read(disk: &dyn Disk, path: &Path) -> Result<Option<Vec<u8>>, StorageError> {
    match disk.read(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some).attempt("read", path),
    }
}

/// The lines of a checkpoint file, if version and count are right.
fn lines(bytes: &[u8]) -> Option<Vec<&str>> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    if lines.next()? != VERSION {
        return None;
    }
    let count: usize = lines.next()?.parse().ok()?;
    let entries: Vec<&str> = lines.collect();
    (entries.len() == count).then_some(entries)
}

/// The content of a checkpoint of offsets.
pub(super) fn encode_offsets(offsets: &BTreeMap<TopicPartition, i64>) -> String {
    let mut out = format!("{VERSION}\n{}\n", offsets.len());
    for ((topic, partition), offset) in offsets {
        // Writing to a string cannot fail.
        let _ = writeln!(out, "{topic} {partition} {offset}");
    }
    out
}

/// Reads a checkpoint of offsets.
pub(super) fn decode_offsets(bytes: &[u8]) -> Option<BTreeMap<TopicPartition, i64>> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let key = (words.next()?.to_owned(), words.next()?.parse().ok()?);
        let offset = words.next()?.parse().ok().filter(|offset| *offset >= 0)?;
        words.next().is_none().then_some((key, offset))
    };
    lines(bytes)?.into_iter().map(entry).collect()
}

/// The content of `leader-epoch-checkpoint`.
pub(super) fn encode_epochs(epochs: &LeaderEpochs) -> String {
    let mut out = format!("{VERSION}\n{}\n", epochs.entries().len());
    for entry in epochs.entries() {
        let _ = writeln!(out, "{} {}", entry.epoch, entry.start_offset);
    }
    out
}

/// Reads `leader-epoch-checkpoint`. Entries that do not grow make it unreadable.
pub(super) fn decode_epochs(bytes: &[u8]) -> Option<LeaderEpochs> {
    let entry = |line: &str| {
        let (epoch, start_offset) = line.split_once(' ')?;
        Some(EpochEntry {
            epoch: epoch.parse().ok()?,
            start_offset: start_offset.parse().ok()?,
        })
    };
    let entries: Vec<EpochEntry> = lines(bytes)?.into_iter().map(entry).collect::<Option<_>>()?;
    let count = entries.len();
    let epochs = LeaderEpochs::from_entries(entries);
    (epochs.entries().len() == count).then_some(epochs)
}

/// The content of `partition.metadata`.
pub(super) fn encode_topic_id(topic_id: Uuid) -> String {
    format!("version: {VERSION}\ntopic_id: {topic_id}")
}

/// Reads `partition.metadata`.
pub(super) fn decode_topic_id(bytes: &[u8]) -> Option<Uuid> {
    let mut lines = std::str::from_utf8(bytes).ok()?.lines();
    let mut value = |name: &str| lines.next()?.strip_prefix(name)?.strip_prefix(": ");
    if value("version")? != VERSION {
        return None;
    }
    value("topic_id")?.trim_end().parse().ok()
}

/// Whose data directory it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MetaProperties {
    /// `cluster.id`.
    pub cluster_id: String,
    /// `node.id`.
    pub node_id: i32,
    /// `directory.id` (KIP-858); files written before it existed have none.
    pub directory_id: Option<Uuid>,
}

impl MetaProperties {
    /// The content of the file, version 1.
    pub(super) fn encode(&self) -> String {
        let mut out = format!("version=1\ncluster.id={}\nnode.id={}\n", self.cluster_id, self.node_id);
        if let Some(id) = self.directory_id {
            let _ = writeln!(out, "directory.id={id}");
        }
        out
    }

    /// Reads the file. Order, comments and unknown keys do not matter; version 0 called the node `broker.id`.
    pub(super) fn decode(bytes: &[u8]) -> Option<MetaProperties> {
        let text = std::str::from_utf8(bytes).ok()?;
        let pairs = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', '!']));
        let pairs: BTreeMap<&str, &str> = pairs
            .filter_map(|line| line.split_once('='))
            .map(|(key, value)| (key.trim(), value.trim()))
            .collect();
        let node_id = pairs.get("node.id").or_else(|| pairs.get("broker.id"))?.parse().ok()?;
        let directory_id = match pairs.get("directory.id") {
            Some(id) => Some(id.parse().ok()?),
            None => None,
        };
        Some(MetaProperties {
            cluster_id: (*pairs.get("cluster.id")?).to_owned(),
            node_id,
            directory_id,
        })
    }
}

/// The content of the clean shutdown marker: JSON with the epoch under which the broker was registered (KIP-966).
pub(super) fn encode_clean_shutdown(broker_epoch: i64) -> String {
    format!("{{\"version\":0,\"brokerEpoch\":{broker_epoch}}}")
}

/// The broker epoch in the marker; `None` if the marker does not say, which is no reason to distrust the logs.
pub(super) fn decode_clean_shutdown(bytes: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (_, after) = text.split_once("\"brokerEpoch\"")?;
    let value = after.trim_start().strip_prefix(':')?.trim_start();
    let end = value
        .find(|letter: char| !letter.is_ascii_digit() && letter != '-')
        .unwrap_or(value.len());
    value.get(..end)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checkpoints_read_back_and_refuse_what_was_cut() {
        let offsets = BTreeMap::from([(("orders".to_owned(), 0), 42), (("orders".to_owned(), 11), 7)]);
        let text = encode_offsets(&offsets);
        assert_eq!(text, "0\n2\norders 0 42\norders 11 7\n");
        assert_eq!(decode_offsets(text.as_bytes()), Some(offsets));
        for garbled in [
            "",
            "1\n0\n",
            "0\n3\norders 0 42\n",
            "0\n1\norders 0\n",
            "0\n1\norders 0 -4\n",
            "0\n1\na 0 1 2\n",
        ] {
            assert_eq!(decode_offsets(garbled.as_bytes()), None, "{garbled:?}");
        }
    }

    #[test]
    fn leader_epochs_read_back_and_must_grow() {
        let text = "0\n2\n0 0\n3 17\n";
        let epochs = decode_epochs(text.as_bytes()).unwrap();
        assert_eq!(encode_epochs(&epochs), text);
        assert_eq!(decode_epochs(b"0\n2\n3 17\n0 0\n"), None);
        assert_eq!(decode_epochs(b"0\n2\n3 17\n"), None);
        assert_eq!(decode_epochs(&[0xff, 0xfe]), None);
    }

    #[test]
    fn a_topic_id_reads_back() {
        let id: Uuid = "AAAAAAAAAAAAAAAAAAAAAQ".parse().unwrap();
        assert_eq!(encode_topic_id(id), "version: 0\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ");
        assert_eq!(decode_topic_id(encode_topic_id(id).as_bytes()), Some(id));
        assert_eq!(decode_topic_id(b"version: 1\ntopic_id: AAAAAAAAAAAAAAAAAAAAAQ"), None);
    }

    #[test]
    fn meta_properties_are_read_in_both_versions() {
        let text = "#\n#Wed Oct 01 00:00:00 UTC 2025\nnode.id=3\ndirectory.id=AAAAAAAAAAAAAAAAAAAAAQ\nversion=1\ncluster.id=abc\n";
        let read = MetaProperties::decode(text.as_bytes()).unwrap();
        assert_eq!((read.cluster_id.as_str(), read.node_id), ("abc", 3));
        assert!(read.directory_id.is_some());
        assert_eq!(MetaProperties::decode(read.encode().as_bytes()), Some(read));
        let old = MetaProperties::decode(b"version=0\nbroker.id=5\ncluster.id=x\n").unwrap();
        assert_eq!((old.node_id, old.directory_id), (5, None));
        assert_eq!(MetaProperties::decode(b"version=1\nnode.id=5\n"), None);
    }

    #[test]
    fn the_clean_shutdown_marker_carries_the_broker_epoch() {
        assert_eq!(decode_clean_shutdown(encode_clean_shutdown(29).as_bytes()), Some(29));
        assert_eq!(decode_clean_shutdown(b"{\"version\":0,\"brokerEpoch\": -1 }"), Some(-1));
        assert_eq!(decode_clean_shutdown(b""), None);
    }
}
