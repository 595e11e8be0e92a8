//! The configuration of a broker: `server.properties`, in Kafka's spelling.
//!
//! In: the text of a file, or pairs. Out: a [`BrokerConfig`] whose fields are checked, and the warnings to print.
//! Every key is a row of [`keys`]; an unknown one is an error that names the nearest known one. Topic configurations
//! and their server defaults are in [`topic`], what secures listeners in [`security`].
//!
//! Passwords and private keys appear in no error, no `Debug` output and no description.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};

pub mod groups;
pub mod jaas;
pub mod keys;
pub mod listeners;
pub mod properties;
pub mod security;
pub mod topic;
pub mod value;

use crate::log::CleanerConfig;
use keys::{KEYS, Treatment};
use listeners::Listener;
use security::{ListenerSecurity, SecurityProtocol};
use topic::{Entry, Source, Synonym};
use value::{Kind, Value};

/// The codecs of `compression.type`.
pub(crate) const COMPRESSION_TYPES: &[&str] = &["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"];
/// The values of `message.timestamp.type`.
pub(crate) const TIMESTAMP_TYPES: &[&str] = &["CreateTime", "LogAppendTime"];

/// Everything a broker is told before it starts. [`Default`] is the configuration of an empty file.
///
/// Durations are milliseconds, sizes bytes.
#[derive(Debug, Clone)]
pub struct BrokerConfig {
    /// `node.id`. Default 1.
    pub node_id: i32,
    /// `listeners` without those of controllers. Default `PLAINTEXT://:9092`.
    pub listeners: Vec<Listener>,
    /// `advertised.listeners` without those of controllers; the listeners that are absent advertise what they bind.
    pub advertised_listeners: Vec<Listener>,
    /// How each of `listeners` is secured, by its name.
    pub listener_security: BTreeMap<String, ListenerSecurity>,
    /// `inter.broker.listener.name` or `security.inter.broker.protocol`: the listener whose address other brokers use. Default: the first of `listeners`.
    pub inter_broker_listener_name: String,
    /// `broker.rack`.
    pub rack: Option<String>,
    /// `log.dirs` or `log.dir`: the data directory. Default `/tmp/kafka-logs`.
    pub log_dir: PathBuf,

    /// `socket.send.buffer.bytes`; `None` leaves the operating system's. Default 100 KiB.
    pub socket_send_buffer_bytes: Option<usize>,
    /// `socket.receive.buffer.bytes`; `None` leaves the operating system's. Default 100 KiB.
    pub socket_receive_buffer_bytes: Option<usize>,
    /// `socket.request.max.bytes`: the largest frame. Default 100 MiB.
    pub socket_request_max_bytes: usize,
    /// `socket.listen.backlog.size`. Default 50.
    pub socket_listen_backlog_size: u32,
    /// `max.connections`. Default unbounded.
    pub max_connections: usize,
    /// `max.connections.per.ip`. Default unbounded.
    pub max_connections_per_ip: usize,
    /// `connections.max.idle.ms`; `None` closes no idle connection. Default 10 minutes.
    pub connections_max_idle_ms: Option<u64>,
    /// `connection.failed.authentication.delay.ms`. Default 100.
    pub connection_failed_authentication_delay_ms: u64,
    /// `fetch.max.bytes`. Default 55 MiB.
    pub fetch_max_bytes: usize,
    /// `max.incremental.fetch.session.cache.slots`. Default 1000.
    pub fetch_session_cache_slots: usize,
    /// `max.request.partition.size.limit`. Default 2000.
    pub max_request_partition_size_limit: usize,

    /// `num.partitions`. Default 1.
    pub num_partitions: i32,
    /// `default.replication.factor`. Default 1.
    pub default_replication_factor: i16,
    /// `auto.create.topics.enable`. Default true.
    pub auto_create_topics_enable: bool,
    /// `delete.topic.enable`. Default true.
    pub delete_topic_enable: bool,

    /// `log.retention.check.interval.ms`. Default 5 minutes.
    pub log_retention_check_interval_ms: u64,
    /// What compaction may use (`log.cleaner.*`); `None` where `log.cleaner.enable` is false.
    pub log_cleaner: Option<CleanerConfig>,
    /// `log.cleaner.backoff.ms`. Default 15 seconds.
    pub log_cleaner_backoff_ms: u64,
    /// `log.flush.scheduler.interval.ms`. Default 1 second.
    pub log_flush_scheduler_interval_ms: u64,
    /// `log.flush.offset.checkpoint.interval.ms`. Default 1 minute.
    pub log_flush_offset_checkpoint_interval_ms: u64,
    /// `replica.high.watermark.checkpoint.interval.ms`. Default 5 seconds.
    pub replica_high_watermark_checkpoint_interval_ms: u64,
    /// `producer.id.expiration.ms`. Default 1 day.
    pub producer_id_expiration_ms: i64,
    /// `metadata.log.segment.bytes`. Default 1 GiB.
    pub metadata_log_segment_bytes: u32,
    /// `metadata.log.segment.ms`. Default 7 days.
    pub metadata_log_segment_ms: i64,

    /// Consumer groups and where they are kept.
    pub groups: groups::GroupKeys,

    given: BTreeMap<String, String>,
    warnings: Vec<String>,
}

/// Why a configuration was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The line of the file, from 1, if there was one.
    pub line: Option<usize>,
    /// What is wrong, with the key and what would be right.
    pub problem: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(formatter, "line {line}: ")?;
        }
        formatter.write_str(&self.problem)
    }
}

impl std::error::Error for ConfigError {}

impl From<properties::PropertiesError> for ConfigError {
    fn from(error: properties::PropertiesError) -> ConfigError {
        ConfigError {
            line: Some(error.line),
            problem: error.problem.to_owned(),
        }
    }
}

impl Default for BrokerConfig {
    /// The configuration of an empty file.
    // A test builds it, so the table cannot make it fail unnoticed.
    #[allow(clippy::expect_used)]
    fn default() -> BrokerConfig {
        BrokerConfig::from_properties("").expect("the defaults of the table are valid")
    }
}

impl BrokerConfig {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read, or see [`BrokerConfig::from_properties`].
    pub fn from_file(path: &Path) -> Result<BrokerConfig, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| invalid(format!("{} cannot be read: {error}", path.display())))?;
        BrokerConfig::from_properties(&text)
    }

    /// Reads the text of a `.properties` file.
    ///
    /// # Errors
    /// The first key that is unknown, refused or has a wrong value, with its line.
    pub fn from_properties(text: &str) -> Result<BrokerConfig, ConfigError> {
        BrokerConfig::from_properties_with(text, &[])
    }

    /// Reads the text of a `.properties` file, with `overrides` in place of what it says of their keys. Of two
    /// overrides of one key the last counts.
    ///
    /// # Errors
    /// As [`BrokerConfig::from_properties`]; what is wrong with an override has no line.
    pub fn from_properties_with(text: &str, overrides: &[(String, String)]) -> Result<BrokerConfig, ConfigError> {
        let last: BTreeMap<&String, &String> = overrides.iter().map(|(key, value)| (key, value)).collect();
        let properties = properties::parse(text)?;
        let kept = properties
            .into_iter()
            .filter(|property| !last.contains_key(&property.key))
            .map(|property| (property.key, property.value, Some(property.line)));
        let given = last.iter().map(|(key, value)| ((*key).clone(), (*value).clone(), None));
        BrokerConfig::build(kept.chain(given))
    }

    /// Takes keys and values as they are, without lines or escapes.
    ///
    /// # Errors
    /// The first key that is unknown, refused or has a wrong value.
    pub fn from_pairs<K, V>(pairs: impl IntoIterator<Item = (K, V)>) -> Result<BrokerConfig, ConfigError>
    where
        K: Into<String>,
        V: Into<String>,
    {
        BrokerConfig::build(pairs.into_iter().map(|(key, value)| (key.into(), value.into(), None)))
    }

    /// What to print before the start: keys without effect and old names, one sentence for each cause.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The keys that were given, with their values as written; those of passwords are hidden.
    pub fn given(&self) -> &BTreeMap<String, String> {
        &self.given
    }

    /// The addresses to tell clients; see [`listeners::advertise`].
    pub fn advertise(&self, bound: &[u16], machine: &str) -> Vec<Listener> {
        listeners::advertise(&self.listeners, &self.advertised_listeners, bound, machine)
    }

    fn build(pairs: impl Iterator<Item = (String, String, Option<usize>)>) -> Result<BrokerConfig, ConfigError> {
        let mut given: BTreeMap<String, String> = BTreeMap::new();
        let mut notes = Notes::default();
        for (key, value, line) in pairs {
            let value = value.trim().to_owned();
            accept(&key, &value, &mut notes).map_err(|problem| ConfigError { line, problem })?;
            if given.get(&key).is_some_and(|other| *other != value) {
                return Err(ConfigError {
                    line,
                    problem: format!("{key} is given twice with different values"),
                });
            }
            given.insert(key, value);
        }
        let values = Values { given: &given };
        let mut config = read(&values)?;
        apply_listeners(&mut config, &values, &mut notes)?;
        check_roles(&config, &values)?;
        config.warnings = notes.into_warnings();
        security::hide(&mut given);
        config.given = given;
        // The defaults of topics come from here: a combination no topic could have is refused now, not at the first
        // topic.
        topic::TopicConfig::defaults(&config)?;
        Ok(config)
    }
}

/// Every key of today's Kafka, with its value in force, for DescribeConfigs.
pub fn describe_broker(config: &BrokerConfig) -> Vec<Entry> {
    let is_described = |key: &&keys::Key| !matches!(key.treatment, Treatment::Renamed(_) | Treatment::Refused(_));
    let entry = |key: &'static keys::Key| {
        let mut synonyms = Vec::new();
        let given = config
            .given
            .get(key.name)
            .filter(|text| !text.is_empty() || key.default.is_some());
        if let Some(text) = given {
            synonyms.push(Synonym {
                name: key.name,
                value: text.clone(),
                source: Source::StaticBroker,
            });
        }
        if let Some(text) = key.default {
            synonyms.push(Synonym {
                name: key.name,
                value: text.to_owned(),
                source: Source::Default,
            });
        }
        let sensitive = key.kind == Kind::Password;
        let in_force = synonyms.first();
        let source = in_force.map_or(Source::Default, |synonym| synonym.source);
        let value = in_force.filter(|_| !sensitive).map(|synonym| synonym.value.clone());
        if sensitive {
            synonyms.clear();
        }
        Entry {
            name: key.name,
            value,
            source,
            read_only: true,
            sensitive,
            kind: key.kind,
            doc: key.doc,
            synonyms,
        }
    };
    KEYS.iter().filter(is_described).map(entry).collect()
}

/// Warnings to be, collected by cause.
#[derive(Default)]
struct Notes {
    tuning: BTreeSet<String>,
    idle: BTreeMap<&'static str, BTreeSet<String>>,
    other: Vec<String>,
}

impl Notes {
    fn into_warnings(self) -> Vec<String> {
        let join = |names: &BTreeSet<String>| names.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
        let mut warnings = self.other;
        if !self.tuning.is_empty() {
            warnings.push(format!(
                "without effect, since they tune what works by itself here: {}",
                join(&self.tuning)
            ));
        }
        warnings.extend(
            self.idle
                .iter()
                .map(|(reason, names)| format!("without effect, since {reason}: {}", join(names))),
        );
        warnings
    }
}

/// Decides what becomes of one key that is given.
fn accept(name: &str, value: &str, notes: &mut Notes) -> Result<(), String> {
    let Some(treatment) = keys::treatment(name) else {
        let names = KEYS.iter().map(|key| key.name);
        let hint = value::nearest(name, names)
            .map(|near| format!("; did you mean {near}?"))
            .unwrap_or_default();
        return Err(format!("{name} is not a key of the broker{hint}"));
    };
    let row = keys::find(name).or_else(|| security::find_scoped(name));
    // Kafka counts an empty value of a key without a default as absent.
    if value.is_empty() && row.is_some_and(|key| key.default.is_none()) {
        return Ok(());
    }
    if let Some(key) = row {
        value::parse(key.kind, key.rule, value).map_err(|problem| format!("{name} {problem}"))?;
    }
    match treatment {
        Treatment::Obeyed | Treatment::Renamed(_) => {}
        Treatment::Tuning => {
            notes.tuning.insert(name.to_owned());
        }
        Treatment::Idle(reason) => {
            notes.idle.entry(reason).or_default().insert(name.to_owned());
        }
        Treatment::Fixed(_) if row.is_some_and(|key| is_default(key, value)) => {}
        Treatment::Fixed(reason) => {
            let default = row.and_then(|key| key.default);
            let only = default.map_or("not be set".to_owned(), |default| format!("be \"{default}\""));
            return Err(format!("{name} must {only}: {reason}"));
        }
        Treatment::Refused(reason) => return Err(format!("{name} is refused: {reason}")),
    }
    Ok(())
}

fn is_default(key: &keys::Key, value: &str) -> bool {
    let parse = |text| value::parse(key.kind, key.rule, text).ok();
    key.default.is_some_and(|default| parse(default) == parse(value))
}

fn invalid(problem: String) -> ConfigError {
    ConfigError { line: None, problem }
}

/// The values in force: those given, else the defaults of the table.
struct Values<'a> {
    given: &'a BTreeMap<String, String>,
}

impl Values<'_> {
    fn get(&self, name: &'static str) -> Result<Option<Value>, ConfigError> {
        let key = keys::find(name).ok_or_else(|| invalid(format!("{name} has no row in the table")))?;
        let given = self
            .given
            .get(name)
            .map(String::as_str)
            .filter(|text| !text.is_empty() || key.default.is_some());
        let parsed = given
            .or(key.default)
            .map(|text| value::parse(key.kind, key.rule, text))
            .transpose();
        parsed.map_err(|problem| invalid(format!("{name} {problem}")))
    }

    fn optional_number<T: TryFrom<i64>>(&self, name: &'static str) -> Result<Option<T>, ConfigError> {
        let Some(value) = self.get(name)? else { return Ok(None) };
        let number = if let Value::Number(number) = value {
            T::try_from(number).ok()
        } else {
            None
        };
        number
            .map(Some)
            .ok_or_else(|| invalid(format!("{name} is out of range")))
    }

    fn number<T: TryFrom<i64>>(&self, name: &'static str) -> Result<T, ConfigError> {
        self.optional_number(name)?
            .ok_or_else(|| invalid(format!("{name} is missing")))
    }

    fn boolean(&self, name: &'static str) -> Result<bool, ConfigError> {
        Ok(self.get(name)? == Some(Value::Boolean(true)))
    }

    fn double(&self, name: &'static str) -> Result<f64, ConfigError> {
        match self.get(name)? {
            Some(Value::Double(number)) => Ok(number),
            _ => Err(invalid(format!("{name} is missing"))),
        }
    }

    fn optional_text(&self, name: &'static str) -> Result<Option<String>, ConfigError> {
        Ok(self.get(name)?.map(|value| value.text()))
    }

    fn list(&self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        Ok(if let Some(Value::List(members)) = self.get(name)? {
            members
        } else {
            Vec::new()
        })
    }
}

fn read_cleaner(values: &Values<'_>) -> Result<Option<CleanerConfig>, ConfigError> {
    if !values.boolean("log.cleaner.enable")? {
        return Ok(None);
    }
    Ok(Some(CleanerConfig {
        dedupe_buffer_bytes: values.number("log.cleaner.dedupe.buffer.size")?,
        load_factor: values.double("log.cleaner.io.buffer.load.factor")?,
        io_buffer_bytes: values.number("log.cleaner.io.buffer.size")?,
        io_bytes_per_second: values.double("log.cleaner.io.max.bytes.per.second")?,
    }))
}

fn read(values: &Values<'_>) -> Result<BrokerConfig, ConfigError> {
    let buffer = |name| Ok::<_, ConfigError>(usize::try_from(values.number::<i64>(name)?).ok());
    Ok(BrokerConfig {
        node_id: read_node_id(values)?,
        listeners: Vec::new(),
        advertised_listeners: Vec::new(),
        listener_security: BTreeMap::new(),
        inter_broker_listener_name: String::new(),
        rack: values.optional_text("broker.rack")?,
        log_dir: read_log_dir(values)?,
        socket_send_buffer_bytes: buffer("socket.send.buffer.bytes")?,
        socket_receive_buffer_bytes: buffer("socket.receive.buffer.bytes")?,
        socket_request_max_bytes: values.number("socket.request.max.bytes")?,
        socket_listen_backlog_size: values.number("socket.listen.backlog.size")?,
        max_connections: values.number("max.connections")?,
        max_connections_per_ip: values.number("max.connections.per.ip")?,
        connections_max_idle_ms: u64::try_from(values.number::<i64>("connections.max.idle.ms")?).ok(),
        connection_failed_authentication_delay_ms: values.number("connection.failed.authentication.delay.ms")?,
        fetch_max_bytes: values.number("fetch.max.bytes")?,
        fetch_session_cache_slots: values.number("max.incremental.fetch.session.cache.slots")?,
        max_request_partition_size_limit: values.number("max.request.partition.size.limit")?,
        num_partitions: values.number("num.partitions")?,
        default_replication_factor: values.number("default.replication.factor")?,
        auto_create_topics_enable: values.boolean("auto.create.topics.enable")?,
        delete_topic_enable: values.boolean("delete.topic.enable")?,
        log_retention_check_interval_ms: values.number("log.retention.check.interval.ms")?,
        log_cleaner: read_cleaner(values)?,
        log_cleaner_backoff_ms: values.number("log.cleaner.backoff.ms")?,
        log_flush_scheduler_interval_ms: values.number("log.flush.scheduler.interval.ms")?,
        log_flush_offset_checkpoint_interval_ms: values.number("log.flush.offset.checkpoint.interval.ms")?,
        replica_high_watermark_checkpoint_interval_ms: values
            .number("replica.high.watermark.checkpoint.interval.ms")?,
        producer_id_expiration_ms: values.number("producer.id.expiration.ms")?,
        metadata_log_segment_bytes: values.number("metadata.log.segment.bytes")?,
        metadata_log_segment_ms: values.number("metadata.log.segment.ms")?,
        groups: groups::read(values)?,
        given: BTreeMap::new(),
        warnings: Vec::new(),
    })
}

fn read_node_id(values: &Values<'_>) -> Result<i32, ConfigError> {
    let old: i32 = values.number("broker.id")?;
    if old < 0 {
        return values.number("node.id");
    }
    if values.given.contains_key("node.id") && values.number::<i32>("node.id")? != old {
        return Err(invalid("broker.id and node.id differ; node.id is enough".to_owned()));
    }
    Ok(old)
}

fn read_log_dir(values: &Values<'_>) -> Result<PathBuf, ConfigError> {
    let mut directories = values.list("log.dirs")?;
    if directories.is_empty() {
        directories = values.list("log.dir")?;
    }
    match directories.as_slice() {
        [directory] => Ok(PathBuf::from(directory)),
        several => Err(invalid(format!(
            "log.dirs names {} directories, but this broker keeps its data in one; put the disks together below it",
            several.len()
        ))),
    }
}

fn apply_listeners(config: &mut BrokerConfig, values: &Values<'_>, notes: &mut Notes) -> Result<(), ConfigError> {
    let say = |key: &'static str| move |problem: String| invalid(format!("{key} {problem}"));
    let mut entries = values.list("listeners")?;
    if let Some(old) = old_address(values, "host.name", "port", "listeners", notes)? {
        entries = vec![old];
    }
    let mut advertised = values.list("advertised.listeners")?;
    let old_names = ("advertised.host.name", "advertised.port");
    if let Some(old) = old_address(values, old_names.0, old_names.1, "advertised.listeners", notes)? {
        advertised = vec![old];
    }
    let upper = |names: Vec<String>| {
        names
            .into_iter()
            .map(|name| name.to_ascii_uppercase())
            .collect::<Vec<_>>()
    };
    let controllers = upper(values.list("controller.listener.names")?);
    let listeners = listeners::parse_list(&entries).map_err(say("listeners"))?;
    let (unopened, listeners): (Vec<_>, Vec<_>) = listeners
        .into_iter()
        .partition(|listener| controllers.contains(&listener.name));
    if let Some(listener) = unopened.first() {
        notes.other.push(format!(
            "{listener} is not opened: the quorum has one voter, who talks to nobody"
        ));
    }
    let Some(first) = listeners.first() else {
        return Err(invalid("listeners has none for clients".to_owned()));
    };
    let map = listeners::parse_protocol_map(&values.list("listener.security.protocol.map")?)
        .map_err(say("listener.security.protocol.map"))?;
    let protocols = protocols_of(&listeners, &map)?;
    let unopened: Vec<String> = unopened.into_iter().map(|listener| listener.name).collect();
    config.listener_security = security::read(&protocols, &unopened, values, notes)?;
    let inter_broker = inter_broker_listener(&listeners, values)?;
    config.inter_broker_listener_name = inter_broker.unwrap_or_else(|| first.name.clone());
    let advertised = listeners::parse_list(&advertised).map_err(say("advertised.listeners"))?;
    config.advertised_listeners = advertised
        .into_iter()
        .filter(|listener| !controllers.contains(&listener.name))
        .collect();
    check_advertised(&listeners, &config.advertised_listeners)?;
    config.listeners = listeners;
    Ok(())
}

/// The listener that an earlier Kafka's host and port describe, with a warning; `None` if neither is given.
fn old_address(
    values: &Values<'_>,
    host_key: &'static str,
    port_key: &'static str,
    new_key: &'static str,
    notes: &mut Notes,
) -> Result<Option<String>, ConfigError> {
    let host = values.optional_text(host_key)?;
    let port: Option<u16> = values.optional_number(port_key)?;
    if host.is_none() && port.is_none() {
        return Ok(None);
    }
    let old = if host.is_some() { host_key } else { port_key };
    if values.given.contains_key(new_key) {
        return Err(invalid(format!(
            "{old} and {new_key} are both given; {new_key} is enough"
        )));
    }
    // An advertised host without a port leaves the port to the listener.
    let default_port = if new_key == "listeners" { 9092 } else { 0 };
    let host = host.unwrap_or_default();
    if host.is_empty() && new_key != "listeners" {
        return Err(invalid(format!("{port_key} needs {host_key}; write {new_key} instead")));
    }
    let listener = Listener {
        name: "PLAINTEXT".to_owned(),
        host,
        port: port.unwrap_or(default_port),
    };
    notes.other.push(format!(
        "{host_key} and {port_key} are keys of an earlier Kafka; write {new_key}={listener} instead"
    ));
    Ok(Some(listener.to_string()))
}

/// The security protocol of each listener.
fn protocols_of(
    listeners: &[Listener],
    map: &BTreeMap<String, String>,
) -> Result<BTreeMap<String, SecurityProtocol>, ConfigError> {
    let protocol = |listener: &Listener| {
        let name = &listener.name;
        let protocol = map.get(name).and_then(|protocol| SecurityProtocol::from_name(protocol));
        let unknown = || {
            invalid(format!(
                "listeners has {name}, but listener.security.protocol.map does not say its protocol; add {name}:PLAINTEXT, or \
                 {name}:SASL_SSL"
            ))
        };
        protocol.map(|protocol| (name.clone(), protocol)).ok_or_else(unknown)
    };
    listeners.iter().map(protocol).collect()
}

/// The listener that traffic between brokers would use, if one is named.
fn inter_broker_listener(listeners: &[Listener], values: &Values<'_>) -> Result<Option<String>, ConfigError> {
    let protocol = "security.inter.broker.protocol";
    let mut key = "inter.broker.listener.name";
    let mut name = values.optional_text(key)?.map(|name| name.to_ascii_uppercase());
    if values.given.contains_key(protocol) {
        if name.is_some() {
            return Err(invalid(format!("{key} and {protocol} are both given; {key} is enough")));
        }
        key = protocol;
        name = values.optional_text(protocol)?;
    }
    let is_listener = |name: &String| listeners.iter().any(|listener| listener.name == *name);
    match name {
        Some(name) if !is_listener(&name) => Err(invalid(format!("{key} is {name}, which is not one of listeners"))),
        name => Ok(name),
    }
}

fn check_advertised(listeners: &[Listener], advertised: &[Listener]) -> Result<(), ConfigError> {
    for entry in advertised {
        if listeners.iter().all(|listener| listener.name != entry.name) {
            return Err(invalid(format!(
                "advertised.listeners has {}, which is not one of listeners",
                entry.name
            )));
        }
        if entry.is_wildcard() {
            return Err(invalid(format!(
                "advertised.listeners has {entry}, which no client can connect to; name a host of this machine"
            )));
        }
    }
    Ok(())
}

fn check_roles(config: &BrokerConfig, values: &Values<'_>) -> Result<(), ConfigError> {
    let roles = values.list("process.roles")?;
    if ["broker", "controller"]
        .iter()
        .any(|role| !roles.iter().any(|given| given == role))
    {
        return Err(invalid(
            "process.roles must be broker,controller: clusters of several nodes are not available yet".into(),
        ));
    }
    let voters = values.list("controller.quorum.voters")?;
    for voter in &voters {
        let id = voter.split_once('@').and_then(|(id, _)| id.parse::<i32>().ok());
        if id.is_none() {
            return Err(invalid(format!(
                "controller.quorum.voters must be id@host:port, not \"{voter}\""
            )));
        }
        if id != Some(config.node_id) || voters.len() > 1 {
            return Err(invalid(format!(
                "controller.quorum.voters may name node {} alone: clusters of several nodes are not available yet",
                config.node_id
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
