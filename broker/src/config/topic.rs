//! The table of topic configurations, their server defaults, and what is in force for one topic.
//!
//! In: the broker's configuration and the overrides of a topic. Out: a [`TopicConfig`] that is obeyed, or the entries
//! that DescribeConfigs and CreateTopics answer, each with its source and synonyms. It refuses a configuration that
//! would have no effect here, so that nobody relies on it.

use super::value::{self, Kind, Rule, Value};
use super::{BrokerConfig, ConfigError, keys};
use crate::log::LogConfig;
use ottla_protocol::records::{Compression, TimestampType};
use std::collections::BTreeMap;

/// One configuration of a topic.
#[derive(Debug, Clone, Copy)]
pub struct TopicKey {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The values it takes.
    pub rule: Rule,
    /// Where its default comes from.
    pub origin: Origin,
    /// Why only the default is accepted, if so.
    pub fixed: Option<&'static str>,
    /// What it means, with its unit.
    pub doc: &'static str,
}

/// Where the default of a topic's configuration comes from.
#[derive(Debug, Clone, Copy)]
pub enum Origin {
    /// Keys of the broker; the first that is given decides, else the first that has a default.
    Broker(&'static [(&'static str, Unit)]),
    /// The broker has no key for it.
    Own(&'static str),
}

/// What a number of the broker's key counts; that of the topic counts milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// The same as the topic's.
    Same,
    /// Minutes.
    Minutes,
    /// Hours.
    Hours,
}

impl Unit {
    fn convert(self, text: &str) -> String {
        let factor = match self {
            Unit::Same => return text.to_owned(),
            Unit::Minutes => 60_000,
            Unit::Hours => 3_600_000,
        };
        // The table has checked the number. A negative one means "never", whatever its unit.
        match text.trim().parse::<i64>() {
            Ok(number) if number < 0 => "-1".to_owned(),
            Ok(number) => number.saturating_mul(factor).to_string(),
            Err(_) => text.to_owned(),
        }
    }
}

/// Where a value in force comes from; the numbers are those of DescribeConfigs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(i8)]
pub enum Source {
    /// The topic's own configuration.
    Topic = 1,
    /// The broker's `server.properties`.
    StaticBroker = 4,
    /// The table's default.
    Default = 5,
}

/// A value that applies, or would apply if those before it were absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Synonym {
    /// The key, of the topic or of the broker.
    pub name: &'static str,
    /// Its value, in its own unit.
    pub value: String,
    /// Where it stands.
    pub source: Source,
}

/// One configuration of a topic or a broker, as it is described.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: &'static str,
    /// Its value in force; `None` is Kafka's null.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: Source,
    /// It cannot be changed while the broker runs, or not at all.
    pub read_only: bool,
    /// A password or the like: the value is kept back.
    pub sensitive: bool,
    /// All values that apply, the one in force first.
    pub synonyms: Vec<Synonym>,
    /// The type, as DescribeConfigs numbers it.
    pub kind: Kind,
    /// What it means.
    pub doc: &'static str,
}

const NO_TIERED_STORAGE: &str = "tiered storage is not available";
const ONE_NODE: &str = "there is one broker, so nothing is replicated or elected";

macro_rules! topic_keys {
    ($( $name:literal $kind:ident, $rule:expr, [$($synonym:literal $unit:ident),+]; $doc:literal )*) => {
        &[$( TopicKey {
            name: $name,
            kind: Kind::$kind,
            rule: $rule,
            origin: Origin::Broker(&[$(($synonym, Unit::$unit)),+]),
            fixed: None,
            doc: $doc,
        } ),*]
    };
}

macro_rules! fixed_keys {
    ($( $name:literal $kind:ident, $rule:expr, $origin:expr, $reason:expr; $doc:literal )*) => {
        &[$( TopicKey {
            name: $name,
            kind: Kind::$kind,
            rule: $rule,
            origin: $origin,
            fixed: Some($reason),
            doc: $doc,
        } ),*]
    };
}

static SETTABLE: &[TopicKey] = topic_keys! {
    "cleanup.policy" List, Rule::SomeOf(&["delete", "compact"]), ["log.cleanup.policy" Same];
        "What becomes of old segments: delete removes them, compact keeps the last record of each key; both may be given."
    "compression.type" String, Rule::OneOf(super::COMPRESSION_TYPES), ["compression.type" Same];
        "The codec that batches are kept in; producer keeps them as they came."
    "compression.gzip.level" Int, Rule::BetweenOr(1, 9, -1), ["compression.gzip.level" Same];
        "The level of gzip, where compression.type asks for it."
    "compression.lz4.level" Int, Rule::Between(1, 17), ["compression.lz4.level" Same];
        "The level of LZ4, where compression.type asks for it."
    "compression.zstd.level" Int, Rule::Between(-131_072, 22), ["compression.zstd.level" Same];
        "The level of Zstandard, where compression.type asks for it."
    "delete.retention.ms" Long, Rule::AtLeast(0), ["log.cleaner.delete.retention.ms" Same];
        "Milliseconds that compaction keeps a tombstone after it first met it."
    "file.delete.delay.ms" Long, Rule::AtLeast(0), ["log.segment.delete.delay.ms" Same];
        "Milliseconds between the renaming of a deleted file and its removal."
    "flush.messages" Long, Rule::AtLeast(1), ["log.flush.interval.messages" Same];
        "Records after which the log is flushed to the disk before the answer leaves."
    "flush.ms" Long, Rule::AtLeast(0), ["log.flush.interval.ms" Same, "log.flush.scheduler.interval.ms" Same];
        "The age in milliseconds at which records are flushed to the disk."
    "index.interval.bytes" Int, Rule::AtLeast(0), ["log.index.interval.bytes" Same];
        "Bytes of records between two entries of an index."
    "max.compaction.lag.ms" Long, Rule::AtLeast(1), ["log.cleaner.max.compaction.lag.ms" Same];
        "Milliseconds after which a record makes its log due for compaction, however clean it is."
    "max.message.bytes" Int, Rule::AtLeast(0), ["message.max.bytes" Same];
        "The largest record batch the topic accepts."
    "message.timestamp.after.max.ms" Long, Rule::AtLeast(0), ["log.message.timestamp.after.max.ms" Same];
        "How far in the future a record's time may lie, in milliseconds."
    "message.timestamp.before.max.ms" Long, Rule::AtLeast(0), ["log.message.timestamp.before.max.ms" Same];
        "How far in the past a record's time may lie, in milliseconds."
    "message.timestamp.type" String, Rule::OneOf(super::TIMESTAMP_TYPES), ["log.message.timestamp.type" Same];
        "Whether a record keeps its producer's time or gets that of its append."
    "min.cleanable.dirty.ratio" Double, Rule::Fraction, ["log.cleaner.min.cleanable.ratio" Same];
        "Compaction begins when more than this part of the log is dirty."
    "min.compaction.lag.ms" Long, Rule::AtLeast(0), ["log.cleaner.min.compaction.lag.ms" Same];
        "Milliseconds that a record is kept from compaction."
    "min.insync.replicas" Int, Rule::AtLeast(1), ["min.insync.replicas" Same];
        "In-sync replicas that acks=all needs."
    "retention.bytes" Long, Rule::AtLeast(-1), ["log.retention.bytes" Same];
        "Bytes of a partition that are kept; -1 for all."
    "retention.ms" Long, Rule::AtLeast(-1), ["log.retention.ms" Same, "log.retention.minutes" Minutes, "log.retention.hours" Hours];
        "Milliseconds that records are kept; -1 for ever."
    "segment.bytes" Int, Rule::AtLeast(1_048_576), ["log.segment.bytes" Same];
        "The size at which a new segment is begun."
    "segment.index.bytes" Int, Rule::AtLeast(4), ["log.index.size.max.bytes" Same];
        "The size of an index at which a new segment is begun."
    "segment.jitter.ms" Long, Rule::AtLeast(0), ["log.roll.jitter.ms" Same, "log.roll.jitter.hours" Hours];
        "Up to this many milliseconds are taken off segment.ms, at random."
    "segment.ms" Long, Rule::AtLeast(1), ["log.roll.ms" Same, "log.roll.hours" Hours];
        "The age in milliseconds at which a new segment is begun."
};

static FIXED: &[TopicKey] = fixed_keys! {
    "preallocate" Boolean, Rule::Any, broker(&[("log.preallocate", Unit::Same)]), "files grow as they are written";
        "Whether a segment's file gets its full size at once."
    "unclean.leader.election.enable" Boolean, Rule::Any, broker(&[("unclean.leader.election.enable", Unit::Same)]), ONE_NODE;
        "Whether a replica that is not in sync may become leader."
    "leader.replication.throttled.replicas" List, Rule::Any, Origin::Own(""), ONE_NODE;
        "Replicas whose leaders send more slowly."
    "follower.replication.throttled.replicas" List, Rule::Any, Origin::Own(""), ONE_NODE;
        "Replicas whose followers fetch more slowly."
    "remote.storage.enable" Boolean, Rule::Any, Origin::Own("false"), NO_TIERED_STORAGE;
        "Whether old segments move to another storage."
    "remote.log.copy.disable" Boolean, Rule::Any, Origin::Own("false"), NO_TIERED_STORAGE;
        "Whether moving old segments pauses."
    "remote.log.delete.on.disable" Boolean, Rule::Any, Origin::Own("false"), NO_TIERED_STORAGE;
        "Whether moved segments are removed when moving ends."
    "local.retention.ms" Long, Rule::AtLeast(-2), broker(&[("log.local.retention.ms", Unit::Same)]), NO_TIERED_STORAGE;
        "Milliseconds that records are kept on this disk."
    "local.retention.bytes" Long, Rule::AtLeast(-2), broker(&[("log.local.retention.bytes", Unit::Same)]), NO_TIERED_STORAGE;
        "Bytes of a partition that are kept on this disk."
};

const fn broker(synonyms: &'static [(&'static str, Unit)]) -> Origin {
    Origin::Broker(synonyms)
}

/// All rows, those that can be set first.
pub fn keys() -> impl Iterator<Item = &'static TopicKey> {
    SETTABLE.iter().chain(FIXED)
}

/// The row of `name`.
///
/// # Errors
/// A sentence for INVALID_CONFIG, with the nearest name there is.
pub fn find(name: &str) -> Result<&'static TopicKey, String> {
    keys().find(|key| key.name == name).ok_or_else(|| {
        let near = value::nearest(name, keys().map(|key| key.name));
        let hint = near.map(|near| format!("; did you mean {near}?")).unwrap_or_default();
        format!("{name} is not a configuration of topics{hint}")
    })
}

/// Holds one override against the table.
///
/// # Errors
/// A sentence for INVALID_CONFIG: the key is unknown, the value is wrong, or it would have no effect here.
pub fn check(name: &str, text: &str) -> Result<(), String> {
    let key = find(name)?;
    let parsed = value::parse(key.kind, key.rule, text).map_err(|problem| format!("{name} {problem}"))?;
    let Some(reason) = key.fixed else { return Ok(()) };
    let default = value::parse(key.kind, key.rule, key.table_default());
    if default.as_ref() == Ok(&parsed) {
        return Ok(());
    }
    Err(format!(
        "{name} must be \"{}\", not \"{text}\": {reason}",
        key.table_default()
    ))
}

impl TopicKey {
    /// The default where neither the topic nor the broker says anything, in the broker's unit.
    fn table_default(&self) -> &'static str {
        match self.origin {
            Origin::Own(default) => default,
            Origin::Broker(synonyms) => synonyms
                .iter()
                .find_map(|(name, _)| keys::find(name)?.default)
                .unwrap_or_default(),
        }
    }

    fn parsed_default(&'static self) -> Option<(&'static str, Value)> {
        let unit = match self.origin {
            Origin::Broker(synonyms) => synonyms
                .iter()
                .find(|(name, _)| keys::find(name).is_some_and(|key| key.default.is_some())),
            Origin::Own(_) => None,
        };
        let text = unit.map_or(Unit::Same, |(_, unit)| *unit).convert(self.table_default());
        Some((self.name, value::parse(self.kind, self.rule, &text).ok()?))
    }

    /// What is in force for a topic with `overrides` on a broker with `config`.
    pub fn entry(&self, config: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Entry {
        let mut synonyms = Vec::new();
        let mut value = None;
        if let Some(text) = overrides.get(self.name) {
            value = Some(text.clone());
            synonyms.push(Synonym {
                name: self.name,
                value: text.clone(),
                source: Source::Topic,
            });
        }
        let broker_keys = if let Origin::Broker(broker_keys) = self.origin {
            broker_keys
        } else {
            &[]
        };
        for &(name, unit) in broker_keys {
            let Some(text) = config.given().get(name).filter(|text| !text.is_empty()) else {
                continue;
            };
            value.get_or_insert_with(|| unit.convert(text));
            synonyms.push(Synonym {
                name,
                value: text.clone(),
                source: Source::StaticBroker,
            });
        }
        for &(name, unit) in broker_keys {
            let Some(text) = keys::find(name).and_then(|key| key.default) else {
                continue;
            };
            value.get_or_insert_with(|| unit.convert(text));
            synonyms.push(Synonym {
                name,
                value: text.to_owned(),
                source: Source::Default,
            });
        }
        Entry {
            name: self.name,
            value: Some(value.unwrap_or_else(|| self.table_default().to_owned())),
            source: synonyms.first().map_or(Source::Default, |synonym| synonym.source),
            read_only: self.fixed.is_some(),
            sensitive: false,
            synonyms,
            kind: self.kind,
            doc: self.doc,
        }
    }
}

/// Everything that is in force for a topic with `overrides`, by name.
pub fn describe(config: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Vec<Entry> {
    let mut entries: Vec<Entry> = keys().map(|key| key.entry(config, overrides)).collect();
    entries.sort_by_key(|entry| entry.name);
    entries
}

/// The values in force for one topic, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct TopicConfig {
    values: BTreeMap<&'static str, Value>,
}

impl TopicConfig {
    /// What a topic without overrides gets.
    ///
    /// # Errors
    /// The broker's own values cannot be those of a topic.
    pub fn defaults(config: &BrokerConfig) -> Result<TopicConfig, ConfigError> {
        let none = BTreeMap::new();
        TopicConfig::new(config, &none).map_err(|problem| ConfigError { line: None, problem })
    }

    /// What a topic with `overrides` gets.
    ///
    /// # Errors
    /// A sentence for INVALID_CONFIG that names the configuration.
    pub fn new(config: &BrokerConfig, overrides: &BTreeMap<String, String>) -> Result<TopicConfig, String> {
        for (name, text) in overrides {
            check(name, text)?;
        }
        let parse = |key: &TopicKey| {
            let entry = key.entry(config, overrides);
            let blame = entry.synonyms.first().map_or(key.name, |synonym| synonym.name);
            let parsed = value::parse(key.kind, key.rule, entry.value.as_deref().unwrap_or_default());
            parsed
                .map(|value| (key.name, value))
                .map_err(|problem| format!("{blame}: {} {problem}", key.name))
        };
        Ok(TopicConfig {
            values: keys().map(parse).collect::<Result<_, _>>()?,
        })
    }

    /// As [`TopicConfig::new`], but an override that does not pass is left out with a line in the log: a topic that was
    /// created under other rules must not stop the broker.
    pub fn lenient(config: &BrokerConfig, overrides: &BTreeMap<String, String>, topic: &str) -> TopicConfig {
        let mut kept = overrides.clone();
        kept.retain(|name, text| {
            check(name, text)
                .inspect_err(|problem| tracing::warn!(topic, problem, "configuration left out"))
                .is_ok()
        });
        // The broker's own values were checked when its configuration was read.
        TopicConfig::new(config, &kept).unwrap_or_else(|problem| {
            tracing::error!(topic, problem, "configuration replaced by Kafka's defaults");
            TopicConfig {
                values: keys().filter_map(TopicKey::parsed_default).collect(),
            }
        })
    }

    /// `min.insync.replicas`: in-sync replicas that acks=all needs.
    pub fn min_insync_replicas(&self) -> i32 {
        i32::try_from(self.number("min.insync.replicas")).unwrap_or(1)
    }

    /// What the log of each partition obeys.
    pub fn log_config(&self, broker: &BrokerConfig) -> LogConfig {
        let bytes = |name| u32::try_from(self.number(name)).unwrap_or(u32::MAX);
        let compression = self.compression();
        let level_key = match compression {
            Some(Compression::Gzip) => Some("compression.gzip.level"),
            Some(Compression::Lz4) => Some("compression.lz4.level"),
            Some(Compression::Zstd) => Some("compression.zstd.level"),
            _ => None,
        };
        let policy = |word: &str| match self.values.get("cleanup.policy") {
            Some(Value::List(members)) => members.iter().any(|member| member == word),
            _ => false,
        };
        LogConfig {
            segment_bytes: bytes("segment.bytes"),
            segment_ms: self.number("segment.ms"),
            segment_jitter_ms: self.number("segment.jitter.ms"),
            index_interval_bytes: bytes("index.interval.bytes"),
            segment_index_bytes: bytes("segment.index.bytes"),
            retention_ms: self.number("retention.ms"),
            retention_bytes: self.number("retention.bytes"),
            max_message_bytes: usize::try_from(self.number("max.message.bytes")).unwrap_or(0),
            message_timestamp_type: match self.text("message.timestamp.type") {
                "LogAppendTime" => TimestampType::LogAppendTime,
                _ => TimestampType::CreateTime,
            },
            message_timestamp_before_max_ms: self.number("message.timestamp.before.max.ms"),
            message_timestamp_after_max_ms: self.number("message.timestamp.after.max.ms"),
            delete: policy("delete"),
            compact: policy("compact"),
            min_cleanable_dirty_ratio: match self.values.get("min.cleanable.dirty.ratio") {
                Some(Value::Double(ratio)) => *ratio,
                _ => LogConfig::default().min_cleanable_dirty_ratio,
            },
            delete_retention_ms: self.number("delete.retention.ms"),
            min_compaction_lag_ms: self.number("min.compaction.lag.ms"),
            max_compaction_lag_ms: self.number("max.compaction.lag.ms"),
            compression,
            // Kafka's -1 for gzip is its codec's own default.
            compression_level: level_key
                .map(|name| self.number(name))
                .filter(|level| *level != -1 || compression != Some(Compression::Gzip))
                .and_then(|level| i32::try_from(level).ok()),
            // Kafka writes "never" as the largest 64-bit number.
            flush_messages: match self.number("flush.messages") {
                i64::MAX => u64::MAX,
                messages => messages.unsigned_abs(),
            },
            flush_ms: self.number("flush.ms"),
            file_delete_delay_ms: self.number("file.delete.delay.ms"),
            producer_id_expiration_ms: broker.producer_id_expiration_ms,
        }
    }

    /// The codec that `compression.type` asks for; `None` for `producer`.
    fn compression(&self) -> Option<Compression> {
        match self.text("compression.type") {
            "uncompressed" => Some(Compression::None),
            "gzip" => Some(Compression::Gzip),
            "snappy" => Some(Compression::Snappy),
            "lz4" => Some(Compression::Lz4),
            "zstd" => Some(Compression::Zstd),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> &str {
        if let Some(Value::Text(text)) = self.values.get(name) {
            text
        } else {
            ""
        }
    }

    /// A number that the table has checked; 0 if `name` is not one of its numbers, which a test rules out.
    fn number(&self, name: &str) -> i64 {
        if let Some(Value::Number(number)) = self.values.get(name) {
            *number
        } else {
            0
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn overrides(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|&(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }

    fn entry(config: &BrokerConfig, overrides: &BTreeMap<String, String>, name: &str) -> Entry {
        describe(config, overrides)
            .into_iter()
            .find(|entry| entry.name == name)
            .unwrap()
    }

    #[test]
    fn every_row_has_a_sentence_and_its_keys_of_the_broker_exist() {
        for key in keys() {
            assert!(key.doc.ends_with('.'), "{}", key.name);
            assert!(
                value::parse(key.kind, key.rule, key.table_default()).is_ok() || key.fixed.is_none(),
                "{}",
                key.name
            );
            if let Origin::Broker(synonyms) = key.origin {
                assert!(
                    synonyms.iter().all(|(name, _)| keys::find(name).is_some()),
                    "{}",
                    key.name
                );
            }
        }
    }

    #[test]
    fn the_defaults_are_those_of_kafka() {
        let config = BrokerConfig::default();
        let none = BTreeMap::new();
        for (name, value) in [
            ("cleanup.policy", "delete"),
            ("retention.ms", "604800000"),
            ("segment.ms", "604800000"),
            ("segment.bytes", "1073741824"),
            ("segment.jitter.ms", "0"),
            ("max.message.bytes", "1048588"),
            ("flush.messages", "9223372036854775807"),
            ("message.timestamp.type", "CreateTime"),
            ("compression.type", "producer"),
        ] {
            let entry = entry(&config, &none, name);
            assert_eq!(
                (entry.value.as_deref(), entry.source),
                (Some(value), Source::Default),
                "{name}"
            );
        }
    }

    #[test]
    fn the_broker_key_with_the_finest_unit_wins_and_the_topic_wins_over_all() {
        let config = BrokerConfig::from_pairs([("log.retention.hours", "2"), ("log.retention.minutes", "3")]).unwrap();
        let from_broker = entry(&config, &BTreeMap::new(), "retention.ms");
        assert_eq!(
            (from_broker.value.as_deref(), from_broker.source),
            (Some("180000"), Source::StaticBroker)
        );
        let from_topic = entry(&config, &overrides(&[("retention.ms", "5")]), "retention.ms");
        assert_eq!(
            (from_topic.value.as_deref(), from_topic.source),
            (Some("5"), Source::Topic)
        );
        let synonyms: Vec<_> = from_topic
            .synonyms
            .iter()
            .map(|synonym| (synonym.name, synonym.value.as_str()))
            .collect();
        assert_eq!(
            synonyms,
            [
                ("retention.ms", "5"),
                ("log.retention.minutes", "3"),
                ("log.retention.hours", "2"),
                ("log.retention.hours", "168")
            ]
        );
    }

    #[test]
    fn keeping_for_ever_survives_the_change_of_unit() {
        let config = BrokerConfig::from_pairs([("log.retention.hours", "-1")]).unwrap();
        assert_eq!(
            entry(&config, &BTreeMap::new(), "retention.ms").value.as_deref(),
            Some("-1")
        );
    }

    #[test]
    fn the_policies_are_delete_and_compact_alone_or_together() {
        let config = BrokerConfig::default();
        for (policy, delete, compact) in [
            ("delete", true, false),
            ("compact", false, true),
            ("compact,delete", true, true),
        ] {
            let pairs = overrides(&[("cleanup.policy", policy), ("min.cleanable.dirty.ratio", "0.25")]);
            let log = TopicConfig::new(&config, &pairs).unwrap().log_config(&config);
            assert_eq!((log.delete, log.compact), (delete, compact), "{policy}");
            assert_eq!(log.min_cleanable_dirty_ratio, 0.25);
        }
        assert!(check("cleanup.policy", "shrink").is_err());
        assert!(check("min.cleanable.dirty.ratio", "1.5").is_err());
        assert!(
            check("remote.storage.enable", "true")
                .unwrap_err()
                .contains("tiered storage")
        );
    }

    #[test]
    fn the_log_obeys_what_is_in_force() {
        let config = BrokerConfig::default();
        let log = TopicConfig::defaults(&config).unwrap().log_config(&config);
        assert_eq!(
            log,
            LogConfig {
                flush_ms: 1000,
                ..LogConfig::default()
            }
        );

        let config = BrokerConfig::from_pairs([("message.max.bytes", "2000"), ("log.roll.hours", "1")]).unwrap();
        let pairs = [
            ("segment.bytes", "1048576"),
            ("compression.type", "zstd"),
            ("compression.zstd.level", "5"),
            ("message.timestamp.type", "LogAppendTime"),
            ("retention.ms", "-1"),
        ];
        let topic = TopicConfig::new(&config, &overrides(&pairs)).unwrap();
        let log = topic.log_config(&config);
        assert_eq!(
            (log.max_message_bytes, log.segment_ms, log.segment_bytes),
            (2000, 3_600_000, 1_048_576)
        );
        assert_eq!(
            (log.compression, log.compression_level),
            (Some(Compression::Zstd), Some(5))
        );
        assert_eq!(
            (log.message_timestamp_type, log.retention_ms),
            (TimestampType::LogAppendTime, -1)
        );
        assert_eq!(topic.min_insync_replicas(), 1);
    }

    #[test]
    fn an_unknown_configuration_is_answered_with_the_nearest() {
        let problem = check("retention.m", "1").unwrap_err();
        assert!(problem.contains("did you mean retention.ms?"), "{problem}");
        assert!(check("retention.ms", "-2").is_err());
    }
}
