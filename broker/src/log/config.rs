//! What a log obeys: the values of a topic's configuration that concern its files and its appends.

use ottla_protocol::records::{Compression, TimestampType};

/// Settings of one log. [`Default`] gives Kafka 4.4's defaults; the periodic fsync is not here but the log manager's.
#[derive(Debug, Clone, PartialEq)]
pub struct LogConfig {
    /// `segment.bytes`: a segment is rolled before it would exceed this. Default 1 GiB.
    pub segment_bytes: u32,
    /// `segment.ms`: a segment is rolled when its records span this many milliseconds. Default 7 days.
    pub segment_ms: i64,
    /// `segment.jitter.ms`: up to this many milliseconds are taken off `segment.ms`, differently for each segment.
    /// Default 0.
    pub segment_jitter_ms: i64,
    /// `index.interval.bytes`: one index entry for about this many bytes of records. Default 4096.
    pub index_interval_bytes: u32,
    /// `segment.index.bytes`: a segment is rolled when an index reaches this size. Default 10 MiB.
    pub segment_index_bytes: u32,
    /// `retention.ms`: segments whose newest record is older are deleted; negative: never. Default 7 days.
    pub retention_ms: i64,
    /// `retention.bytes`: the oldest segments are deleted while the rest holds this much; negative: never.
    /// Default -1.
    pub retention_bytes: i64,
    /// `max.message.bytes`: the largest batch accepted from a client. Default 1 MiB + 12.
    pub max_message_bytes: usize,
    /// `message.timestamp.type`. Default CreateTime.
    pub message_timestamp_type: TimestampType,
    /// `message.timestamp.before.max.ms`: how far a timestamp may lie in the past. Default unbounded.
    pub message_timestamp_before_max_ms: i64,
    /// `message.timestamp.after.max.ms`: how far a timestamp may lie in the future. Default 1 hour.
    pub message_timestamp_after_max_ms: i64,
    /// `cleanup.policy` contains `delete`: retention applies. Default true.
    pub delete: bool,
    /// `cleanup.policy` contains `compact`: records must have a key. Default false.
    pub compact: bool,
    /// `min.cleanable.dirty.ratio`: compaction begins when more than this part of the log is dirty. Default 0.5.
    pub min_cleanable_dirty_ratio: f64,
    /// `delete.retention.ms`: how long tombstones and markers stay after compaction first meets them. Default 1 day.
    pub delete_retention_ms: i64,
    /// `min.compaction.lag.ms`: segments with a younger record are not compacted. Default 0.
    pub min_compaction_lag_ms: i64,
    /// `max.compaction.lag.ms`: a record older than this makes its log due for compaction, and a segment is rolled no
    /// later. Default unbounded.
    pub max_compaction_lag_ms: i64,
    /// `compression.type`: `None` stands for `producer`, that is, batches stay as they come. Default `None`.
    pub compression: Option<Compression>,
    /// The level of the codec above (`compression.<codec>.level`); `None` is the codec's own default.
    pub compression_level: Option<i32>,
    /// `flush.messages`: fsync is due after this many records. Default unbounded.
    pub flush_messages: u64,
    /// `flush.ms`: fsync is due when the oldest record not yet flushed is this old. Default unbounded.
    pub flush_ms: i64,
    /// `file.delete.delay.ms`: how long a deleted file stays on disk under a `.deleted` name. Default 1 minute.
    pub file_delete_delay_ms: i64,
    /// `producer.id.expiration.ms` of the broker: how long an idle producer is remembered. Default 1 day.
    pub producer_id_expiration_ms: i64,
}

impl Default for LogConfig {
    fn default() -> LogConfig {
        const DAY_MS: i64 = 24 * 60 * 60 * 1000;
        LogConfig {
            segment_bytes: 1 << 30,
            segment_ms: 7 * DAY_MS,
            segment_jitter_ms: 0,
            index_interval_bytes: 4096,
            segment_index_bytes: 10 << 20,
            retention_ms: 7 * DAY_MS,
            retention_bytes: -1,
            max_message_bytes: (1 << 20) + 12,
            message_timestamp_type: TimestampType::CreateTime,
            message_timestamp_before_max_ms: i64::MAX,
            message_timestamp_after_max_ms: 60 * 60 * 1000,
            delete: true,
            compact: false,
            min_cleanable_dirty_ratio: 0.5,
            delete_retention_ms: DAY_MS,
            min_compaction_lag_ms: 0,
            max_compaction_lag_ms: i64::MAX,
            compression: None,
            compression_level: None,
            flush_messages: u64::MAX,
            flush_ms: i64::MAX,
            file_delete_delay_ms: 60_000,
            producer_id_expiration_ms: DAY_MS,
        }
    }
}

impl LogConfig {
    /// The age at which a segment is rolled: what compaction must reach in time cannot stay in the active segment.
    pub fn roll_ms(&self) -> i64 {
        match self.compact {
            true => self.segment_ms.min(self.max_compaction_lag_ms),
            false => self.segment_ms,
        }
    }

    /// The most bytes that a compressed batch may unfold to while it is checked. Larger ones are refused: 64 MiB, or
    /// eight times `max.message.bytes` where that is more.
    pub fn decompressed_bytes_max(&self) -> usize {
        self.max_message_bytes.saturating_mul(8).max(64 << 20)
    }
}
