//! What `server.properties` says of consumer groups.

use super::{ConfigError, Values, invalid};
use ottla_broker_state::group::GroupConfig;
use ottla_broker_state::group::consumer::{ConsumerConfig, MigrationPolicy, ServerAssignor};
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
        consumer: read_consumer(values)?,
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

/// What concerns groups of the consumer protocol (KIP-848).
fn read_consumer(values: &Values<'_>) -> Result<ConsumerConfig, ConfigError> {
    let policy = values
        .optional_text("group.consumer.migration.policy")?
        .unwrap_or_default();
    let assignors = values.list("group.consumer.assignors")?;
    let config = ConsumerConfig {
        heartbeat_interval_ms: bounded(
            values,
            "group.consumer.heartbeat.interval.ms",
            "group.consumer.min.heartbeat.interval.ms",
            "group.consumer.max.heartbeat.interval.ms",
        )?,
        session_timeout_ms: bounded(
            values,
            "group.consumer.session.timeout.ms",
            "group.consumer.min.session.timeout.ms",
            "group.consumer.max.session.timeout.ms",
        )?,
        max_size: values.number("group.consumer.max.size")?,
        assignors: assignors
            .iter()
            .filter_map(|name| ServerAssignor::by_name(name))
            .collect(),
        migration_policy: MigrationPolicy::by_name(&policy).ok_or_else(|| {
            invalid(format!(
                "group.consumer.migration.policy is {policy}; it may be disabled, upgrade, downgrade or bidirectional"
            ))
        })?,
        assignment_interval_ms: bounded(
            values,
            "group.consumer.assignment.interval.ms",
            "group.consumer.min.assignment.interval.ms",
            "group.consumer.max.assignment.interval.ms",
        )?
        .into(),
        regex_refresh_interval_ms: values.number("group.consumer.regex.refresh.interval.ms")?,
    };
    if config.heartbeat_interval_ms >= config.session_timeout_ms {
        return Err(invalid(format!(
            "group.consumer.heartbeat.interval.ms is {}, which must be less than group.consumer.session.timeout.ms, {}; \
             members would be taken out before they are heard of",
            config.heartbeat_interval_ms, config.session_timeout_ms
        )));
    }
    Ok(config)
}

/// The value of `name`, which must lie between those of two other keys.
fn bounded(values: &Values<'_>, name: &'static str, min: &'static str, max: &'static str) -> Result<i32, ConfigError> {
    let (value, lowest, highest): (i32, i32, i32) = (values.number(name)?, values.number(min)?, values.number(max)?);
    if !(lowest..=highest).contains(&value) {
        return Err(invalid(format!(
            "{name} is {value}; it must be between {min}, {lowest}, and {max}, {highest}"
        )));
    }
    Ok(value)
}
