//! What `server.properties` says of consumer groups.

use super::{ConfigError, Values, invalid};
use ottla_broker_state::group::GroupConfig;
use ottla_protocol::records::Compression;

/// The keys of groups and of the topic that they are kept in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupKeys {
    /// `offsets.topic.num.partitions`. Default 50.
    pub topic_partitions: i32,
    /// `offsets.topic.replication.factor`. Default 1.
    pub topic_replication_factor: i16,
    /// `offsets.topic.segment.bytes`. Default 100 MiB.
    pub topic_segment_bytes: i32,
    /// `offsets.topic.compression.codec`. Default none.
    pub topic_compression: Compression,
    /// `offsets.commit.timeout.ms`: how long an answer waits for its records to be committed. Default 5 seconds.
    pub commit_timeout_ms: u64,
    /// `offsets.load.buffer.size`. Default 5 MiB.
    pub load_buffer_bytes: usize,
    /// What the coordinator's decisions follow.
    pub rules: GroupConfig,
}

pub(super) fn read(values: &Values<'_>) -> Result<GroupKeys, ConfigError> {
    let minutes: i64 = values.number("offsets.retention.minutes")?;
    let codec: i64 = values.number("offsets.topic.compression.codec")?;
    let rules = GroupConfig {
        min_session_timeout_ms: values.number("group.min.session.timeout.ms")?,
        max_session_timeout_ms: values.number("group.max.session.timeout.ms")?,
        initial_rebalance_delay_ms: values.number("group.initial.rebalance.delay.ms")?,
        max_size: values.number("group.max.size")?,
        offset_metadata_max_bytes: values.number("offset.metadata.max.bytes")?,
        offsets_retention_ms: minutes.saturating_mul(60_000),
        offsets_retention_check_interval_ms: values.number("offsets.retention.check.interval.ms")?,
        ..GroupConfig::default()
    };
    if rules.min_session_timeout_ms > rules.max_session_timeout_ms {
        return Err(invalid(format!(
            "group.min.session.timeout.ms is {}, which is more than group.max.session.timeout.ms, {}; no member could join",
            rules.min_session_timeout_ms, rules.max_session_timeout_ms
        )));
    }
    Ok(GroupKeys {
        topic_partitions: values.number("offsets.topic.num.partitions")?,
        topic_replication_factor: values.number("offsets.topic.replication.factor")?,
        topic_segment_bytes: values.number("offsets.topic.segment.bytes")?,
        topic_compression: match codec {
            1 => Compression::Gzip,
            2 => Compression::Snappy,
            3 => Compression::Lz4,
            4 => Compression::Zstd,
            _ => Compression::None,
        },
        commit_timeout_ms: values.number("offsets.commit.timeout.ms")?,
        load_buffer_bytes: values.number("offsets.load.buffer.size")?,
        rules,
    })
}
