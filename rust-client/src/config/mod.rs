//! Configuration by Kafka's own keys.
//!
//! In: keys and values as text, from typed setters, pairs or a properties file. Out: a checked [`ProducerConfig`],
//! [`ConsumerConfig`] or [`AdminConfig`]. There is one table of keys ([`KEYS`]): names, ranges, defaults (the Java
//! client's) and texts come from there and nowhere else.
//!
//! It refuses what it does not understand: an unknown key is an error that names the nearest known one, and so is a
//! key whose effect this client does not have. A typing mistake must not become a silent default.

mod absent;
mod group;
mod jaas;
mod keys;
mod partitioners;
mod pem;
mod properties;
mod secret;
mod security;
mod semantics;
mod values;

use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) use group::assignor_names;
pub use group::{GroupConfig, GroupProtocol};
pub use keys::KEYS;
pub use properties::Properties;
pub use secret::Secret;
pub(crate) use security::ServerChecks;
pub use security::{SaslConfig, SecurityConfig, SecurityProtocol, TlsConfig};
pub use semantics::DeliverySemantics;
pub use values::Address;

use zeroize::Zeroizing;

use crate::error::{Error, ErrorKind, Result, nearest};
use ottla_client_state::partitioner::Partitioner;
use ottla_client_state::subscription::ResetPolicy;

/// One row of the table of keys.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Kafka's name of the key.
    pub name: &'static str,
    /// Which clients have it.
    pub users: Users,
    /// What its value may be.
    pub kind: Kind,
    /// Its default; empty for none.
    pub default: &'static str,
    /// What it does.
    pub doc: &'static str,
}

/// Which clients have a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Users {
    /// The producer has it.
    pub producer: bool,
    /// The consumer has it.
    pub consumer: bool,
    /// The admin client has it.
    pub admin: bool,
}

/// What the value of a key may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A whole number from `min` to `max`.
    Number {
        /// The smallest allowed.
        min: i64,
        /// The largest allowed.
        max: i64,
        /// What is counted; empty for a plain number.
        unit: &'static str,
    },
    /// Any text.
    Text,
    /// Any text that no log, error or `Debug` output may show.
    Secret,
    /// One of these words, in any case of letters.
    Choice(&'static [&'static str]),
    /// Addresses as `host:port`, separated by commas.
    Servers,
    /// A value of `security.protocol`.
    Security,
    /// A value of `auto.offset.reset`.
    OffsetReset,
    /// A value of `partitioner.class`.
    PartitionerClass,
    /// A value of `partition.assignment.strategy`.
    Assignors,
}

/// The client that is being configured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClientKind {
    /// A producer.
    Producer,
    /// A consumer.
    Consumer,
    /// An admin client.
    Admin,
}

impl ClientKind {
    fn name(self) -> &'static str {
        match self {
            ClientKind::Producer => "producer",
            ClientKind::Consumer => "consumer",
            ClientKind::Admin => "admin client",
        }
    }

    fn has(self, key: &Key) -> bool {
        match self {
            ClientKind::Producer => key.users.producer,
            ClientKind::Consumer => key.users.consumer,
            ClientKind::Admin => key.users.admin,
        }
    }
}

/// Keys and values on their way to a configuration: what a builder collects.
///
/// The first mistake is kept and reported by the builder's `build`, so that setters can be chained.
#[derive(Debug, Clone)]
pub struct Settings {
    kind: ClientKind,
    values: BTreeMap<&'static str, String>,
    secrets: BTreeMap<&'static str, Secret>,
    semantics: Option<DeliverySemantics>,
    mistake: Option<Error>,
}

impl Settings {
    /// No key set yet.
    pub fn new(kind: ClientKind) -> Self {
        Settings {
            kind,
            values: BTreeMap::new(),
            secrets: BTreeMap::new(),
            semantics: None,
            mistake: None,
        }
    }

    /// Takes every pair of `properties`.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key, or a value that does not fit.
    pub fn from_properties(kind: ClientKind, properties: impl Into<Properties>) -> Result<Self> {
        let mut settings = Settings::new(kind);
        for (key, value) in properties.into().into_pairs()? {
            settings.set(&key, value);
        }
        match settings.mistake.take() {
            None => Ok(settings),
            Some(mistake) => Err(mistake),
        }
    }

    /// Sets `key` to `value`; the last one wins.
    pub fn set(&mut self, key: &str, value: impl ToString) {
        let value = Zeroizing::new(value.to_string());
        match self.check(key.trim(), value.trim()) {
            // White space around a password is part of it.
            Ok(row) if row.kind == Kind::Secret => {
                self.secrets.insert(row.name, Secret::new(value.as_str()));
            }
            Ok(row) => {
                self.values.insert(row.name, value.trim().to_owned());
            }
            Err(mistake) => {
                self.mistake.get_or_insert(mistake);
            }
        }
    }

    fn check(&self, key: &str, value: &str) -> Result<&'static Key> {
        let row = KEYS
            .iter()
            .find(|row| row.name == key && self.kind.has(row))
            .ok_or_else(|| self.unknown(key))?;
        values::check(row, value)?;
        Ok(row)
    }

    /// Why `key` is not a key of this client, and what was probably meant.
    fn unknown(&self, key: &str) -> Error {
        let who = self.kind.name();
        if KEYS.iter().any(|row| row.name == key) {
            return mistake(format!("{key} is not a key of a {who}"));
        }
        if let Some(refusal) = pem::store_password(key, |location| self.text(location)) {
            return refusal;
        }
        let absent = absent::ABSENT
            .iter()
            .find(|(pattern, _)| match pattern.strip_suffix('*') {
                Some(start) => key.starts_with(start),
                None => *pattern == key,
            });
        if let Some((_, reason)) = absent {
            return mistake(format!("{key} cannot be set: {reason}"));
        }
        let names = KEYS.iter().filter(|row| self.kind.has(row)).map(|row| row.name);
        match nearest(key, names) {
            Some(name) => mistake(format!("{key} is not a key of a {who}; did you mean {name}?")),
            None => mistake(format!("{key} is not a key of a {who}")),
        }
    }

    /// Whether the key was set, as opposed to left at its default.
    fn is_set(&self, key: &str) -> bool {
        self.values.contains_key(key) || self.secrets.contains_key(key)
    }

    /// The value of a secret key, if it was set to something.
    fn secret(&self, key: &str) -> Option<&Secret> {
        self.secrets.get(key).filter(|secret| !secret.is_empty())
    }

    fn text(&self, key: &str) -> &str {
        let default = || {
            KEYS.iter()
                .find(|row| row.name == key && self.kind.has(row))
                .map_or("", |row| row.default)
        };
        self.values.get(key).map_or_else(default, String::as_str)
    }

    fn number(&self, key: &str) -> i64 {
        self.text(key).parse().unwrap_or_default()
    }

    fn size(&self, key: &str) -> usize {
        usize::try_from(self.number(key)).unwrap_or(0)
    }

    fn int(&self, key: &str) -> i32 {
        i32::try_from(self.number(key)).unwrap_or(i32::MAX)
    }

    fn millis(&self, key: &str) -> u64 {
        u64::try_from(self.number(key)).unwrap_or(0)
    }

    fn duration(&self, key: &str) -> Duration {
        Duration::from_millis(self.millis(key))
    }

    fn yes(&self, key: &str) -> bool {
        self.text(key).eq_ignore_ascii_case("true")
    }

    fn choice(&self, key: &str) -> String {
        self.text(key).to_ascii_lowercase()
    }

    /// Checks everything together and gives the configuration of a producer.
    ///
    /// # Errors
    /// The first mistake of a setter, a missing `bootstrap.servers`, or keys that contradict each other.
    pub fn producer(self) -> Result<ProducerConfig> {
        let mut settings = self.checked()?;
        if let Some(semantics) = settings.semantics {
            semantics.apply(&mut settings)?;
        }
        ProducerConfig::new(&settings)
    }

    /// Checks everything together and gives the configuration of a consumer.
    ///
    /// # Errors
    /// As [`Settings::producer`].
    pub fn consumer(self) -> Result<ConsumerConfig> {
        ConsumerConfig::new(&self.checked()?)
    }

    /// Checks everything together and gives the configuration of an admin client.
    ///
    /// # Errors
    /// As [`Settings::producer`].
    pub fn admin(self) -> Result<AdminConfig> {
        let settings = self.checked()?;
        Ok(AdminConfig {
            client: ClientConfig::new(&settings)?,
            default_api_timeout: settings.duration("default.api.timeout.ms"),
            retries: u32::try_from(settings.number("retries")).unwrap_or(u32::MAX),
        })
    }

    fn checked(mut self) -> Result<Self> {
        match self.mistake.take() {
            Some(mistake) => Err(mistake),
            None => Ok(self),
        }
    }
}

/// What every client needs to know.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Which client it is.
    pub kind: ClientKind,
    /// `bootstrap.servers`; at least one.
    pub bootstrap_servers: Vec<Address>,
    /// `client.id`, or a generated one.
    pub client_id: String,
    /// `request.timeout.ms`.
    pub request_timeout: Duration,
    /// `retry.backoff.ms`.
    pub retry_backoff_ms: u64,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max_ms: u64,
    /// `reconnect.backoff.ms`.
    pub reconnect_backoff_ms: u64,
    /// `reconnect.backoff.max.ms`.
    pub reconnect_backoff_max_ms: u64,
    /// `socket.connection.setup.timeout.ms`.
    pub connection_setup_timeout_ms: u64,
    /// `socket.connection.setup.timeout.max.ms`.
    pub connection_setup_timeout_max_ms: u64,
    /// `connections.max.idle.ms`; `None` for never.
    pub connections_max_idle: Option<Duration>,
    /// `send.buffer.bytes`; `None` for the operating system's choice.
    pub send_buffer_bytes: Option<usize>,
    /// `receive.buffer.bytes`; `None` for the operating system's choice.
    pub receive_buffer_bytes: Option<usize>,
    /// `receive.message.max.bytes`.
    pub receive_max_bytes: usize,
    /// `metadata.max.age.ms`.
    pub metadata_max_age_ms: u64,
    /// `metadata.max.idle.ms`; only a producer forgets topics.
    pub metadata_max_idle_ms: Option<u64>,
    /// `metadata.recovery.strategy` is `rebootstrap`.
    pub rebootstrap: bool,
    /// `metadata.recovery.rebootstrap.trigger.ms`.
    pub rebootstrap_trigger_ms: u64,
    /// `security.protocol`, `ssl.*` and `sasl.*`.
    pub security: SecurityConfig,
    /// `allow.auto.create.topics`; always true for a producer and never for an admin client.
    pub allow_auto_create_topics: bool,
}

impl ClientConfig {
    fn new(settings: &Settings) -> Result<Self> {
        let bootstrap_servers = values::addresses(settings.text("bootstrap.servers"))?;
        if bootstrap_servers.is_empty() {
            return Err(mistake(
                "bootstrap.servers is missing: say where a broker is, for example localhost:9092",
            ));
        }
        let buffer = |key| usize::try_from(settings.number(key)).ok();
        Ok(ClientConfig {
            kind: settings.kind,
            bootstrap_servers,
            client_id: client_id(settings),
            request_timeout: settings.duration("request.timeout.ms"),
            retry_backoff_ms: settings.millis("retry.backoff.ms"),
            retry_backoff_max_ms: settings.millis("retry.backoff.max.ms"),
            reconnect_backoff_ms: settings.millis("reconnect.backoff.ms"),
            reconnect_backoff_max_ms: settings.millis("reconnect.backoff.max.ms"),
            connection_setup_timeout_ms: settings.millis("socket.connection.setup.timeout.ms"),
            connection_setup_timeout_max_ms: settings.millis("socket.connection.setup.timeout.max.ms"),
            connections_max_idle: u64::try_from(settings.number("connections.max.idle.ms"))
                .ok()
                .map(Duration::from_millis),
            send_buffer_bytes: buffer("send.buffer.bytes"),
            receive_buffer_bytes: buffer("receive.buffer.bytes"),
            receive_max_bytes: settings.size("receive.message.max.bytes"),
            metadata_max_age_ms: settings.millis("metadata.max.age.ms"),
            metadata_max_idle_ms: (settings.kind == ClientKind::Producer)
                .then(|| settings.millis("metadata.max.idle.ms")),
            rebootstrap: settings.choice("metadata.recovery.strategy") == "rebootstrap",
            rebootstrap_trigger_ms: settings.millis("metadata.recovery.rebootstrap.trigger.ms"),
            security: SecurityConfig::new(settings)?,
            allow_auto_create_topics: match settings.kind {
                ClientKind::Producer => true,
                ClientKind::Consumer => settings.yes("allow.auto.create.topics"),
                ClientKind::Admin => false,
            },
        })
    }
}

/// The name given, or `producer-1`, `producer-2`, ... as the Java client counts.
fn client_id(settings: &Settings) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static COUNTERS: [AtomicU32; 3] = [AtomicU32::new(1), AtomicU32::new(1), AtomicU32::new(1)];
    let given = settings.text("client.id");
    if !given.is_empty() {
        return given.to_owned();
    }
    let (name, counter) = match settings.kind {
        ClientKind::Producer => ("producer", &COUNTERS[0]),
        ClientKind::Consumer => ("consumer", &COUNTERS[1]),
        ClientKind::Admin => ("adminclient", &COUNTERS[2]),
    };
    format!("{name}-{}", counter.fetch_add(1, Ordering::Relaxed))
}

/// Who must have a record before it counts as sent (`acks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Acks {
    /// Nobody: the broker does not answer, and nothing is known about the record.
    None,
    /// The leader alone: a record may be lost if the leader fails at once.
    Leader,
    /// All in-sync replicas.
    #[default]
    All,
}

impl Acks {
    /// The number on the wire: 0, 1 or -1.
    pub fn code(self) -> i16 {
        match self {
            Acks::None => 0,
            Acks::Leader => 1,
            Acks::All => -1,
        }
    }
}

/// The configuration of a producer, checked.
#[derive(Debug, Clone)]
pub struct ProducerConfig {
    /// What every client needs.
    pub client: ClientConfig,
    /// `acks`.
    pub acks: Acks,
    /// `enable.idempotence`, after the rules that may switch it off.
    pub enable_idempotence: bool,
    /// `linger.ms`.
    pub linger_ms: u64,
    /// `batch.size` in bytes.
    pub batch_size: usize,
    /// `buffer.memory` in bytes.
    pub buffer_memory: usize,
    /// `compression.type`, one of the table's words.
    pub compression_type: String,
    /// The level for `compression.type`, for the codecs that have one.
    pub compression_level: Option<i32>,
    /// `delivery.timeout.ms`.
    pub delivery_timeout_ms: u64,
    /// `max.block.ms`.
    pub max_block: Duration,
    /// `max.in.flight.requests.per.connection`.
    pub max_in_flight: usize,
    /// `max.request.size` in bytes.
    pub max_request_size: usize,
    /// `retries`.
    pub retries: u32,
    /// `partitioner`, or what `partitioner.class` stands for.
    pub partitioner: Partitioner,
    /// `partitioner.ignore.keys`.
    pub partitioner_ignore_keys: bool,
    /// `partitioner.adaptive.partitioning.enable`.
    pub partitioner_adaptive: bool,
    /// `partitioner.availability.timeout.ms`.
    pub partitioner_availability_timeout_ms: u64,
}

/// With more requests in flight a broker no longer remembers enough batches to recognise a duplicate.
const MAX_IN_FLIGHT_OF_IDEMPOTENCE: usize = 5;

impl ProducerConfig {
    fn new(settings: &Settings) -> Result<Self> {
        let compression_type = settings.choice("compression.type");
        let (partitioner, partitioner_ignore_keys) = partitioners::chosen(settings)?;
        let mut config = ProducerConfig {
            client: ClientConfig::new(settings)?,
            acks: match settings.choice("acks").as_str() {
                "0" => Acks::None,
                "1" => Acks::Leader,
                _ => Acks::All,
            },
            enable_idempotence: settings.yes("enable.idempotence"),
            linger_ms: settings.millis("linger.ms"),
            batch_size: settings.size("batch.size"),
            buffer_memory: settings.size("buffer.memory"),
            compression_level: match compression_type.as_str() {
                "gzip" => Some(settings.int("compression.gzip.level")).filter(|level| *level > 0),
                "zstd" => Some(settings.int("compression.zstd.level")),
                _ => None,
            },
            compression_type,
            delivery_timeout_ms: settings.millis("delivery.timeout.ms"),
            max_block: settings.duration("max.block.ms"),
            max_in_flight: settings.size("max.in.flight.requests.per.connection"),
            max_request_size: settings.size("max.request.size"),
            retries: u32::try_from(settings.number("retries")).unwrap_or(u32::MAX),
            partitioner,
            partitioner_ignore_keys,
            partitioner_adaptive: settings.yes("partitioner.adaptive.partitioning.enable"),
            partitioner_availability_timeout_ms: settings.millis("partitioner.availability.timeout.ms"),
        };
        config.check_delivery_timeout(settings)?;
        config.check_idempotence(settings)?;
        Ok(config)
    }

    /// A record must have the time to linger once and to be asked for once.
    fn check_delivery_timeout(&mut self, settings: &Settings) -> Result<()> {
        let request = settings.millis("request.timeout.ms");
        let least = self.linger_ms.saturating_add(request).min(i32::MAX as u64);
        if self.delivery_timeout_ms >= least {
            return Ok(());
        }
        if settings.is_set("delivery.timeout.ms") {
            return Err(mistake(format!(
                "delivery.timeout.ms ({}) must be at least linger.ms ({}) + request.timeout.ms ({request})",
                self.delivery_timeout_ms, self.linger_ms
            )));
        }
        self.delivery_timeout_ms = least;
        Ok(())
    }

    /// Idempotence asked for by name must be possible; the default gives way to `acks` and `retries` that contradict it,
    /// and to nothing else, as in the Java client since 4.0.
    fn check_idempotence(&mut self, settings: &Settings) -> Result<()> {
        if !self.enable_idempotence {
            return Ok(());
        }
        if self.max_in_flight > MAX_IN_FLIGHT_OF_IDEMPOTENCE {
            return Err(mistake(format!(
                "max.in.flight.requests.per.connection ({}) must be at most {MAX_IN_FLIGHT_OF_IDEMPOTENCE} for an \
                 idempotent producer; with more, set enable.idempotence=false",
                self.max_in_flight
            )));
        }
        let needed = match (self.acks, self.retries) {
            (Acks::None | Acks::Leader, _) => "acks=all",
            (Acks::All, 0) => "retries above 0",
            (Acks::All, _) => return Ok(()),
        };
        if settings.is_set("enable.idempotence") {
            return Err(mistake(format!("enable.idempotence=true needs {needed}")));
        }
        tracing::info!("idempotence is off: it needs {needed}; retries may duplicate or reorder records");
        self.enable_idempotence = false;
        Ok(())
    }
}

/// Which records of transactions are handed over (`isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IsolationLevel {
    /// All, of open and aborted transactions too.
    #[default]
    ReadUncommitted,
    /// Only those of committed transactions, and those outside of transactions.
    ReadCommitted,
}

impl IsolationLevel {
    /// The number on the wire.
    pub fn code(self) -> i8 {
        match self {
            IsolationLevel::ReadUncommitted => 0,
            IsolationLevel::ReadCommitted => 1,
        }
    }
}

/// The configuration of a consumer, checked.
#[derive(Debug, Clone)]
pub struct ConsumerConfig {
    /// What every client needs.
    pub client: ClientConfig,
    /// `auto.offset.reset`.
    pub auto_offset_reset: ResetPolicy,
    /// `fetch.min.bytes`.
    pub fetch_min_bytes: i32,
    /// `fetch.max.wait.ms`.
    pub fetch_max_wait_ms: i32,
    /// `fetch.max.bytes`.
    pub fetch_max_bytes: i32,
    /// `max.partition.fetch.bytes`.
    pub max_partition_fetch_bytes: i32,
    /// `max.poll.records`.
    pub max_poll_records: usize,
    /// `fetch.buffer.memory` in bytes.
    pub fetch_buffer_memory: usize,
    /// `decompressed.batch.max.bytes`.
    pub decompressed_batch_max_bytes: usize,
    /// `check.crcs`.
    pub check_crcs: bool,
    /// `isolation.level`.
    pub isolation_level: IsolationLevel,
    /// `client.rack`.
    pub client_rack: String,
    /// `default.api.timeout.ms`.
    pub default_api_timeout: Duration,
    /// The keys of groups; `None` without `group.id`.
    pub group: Option<GroupConfig>,
    /// `stalled.partition.timeout.ms`; `None` for never.
    pub stalled_partition_timeout_ms: Option<u64>,
}

impl ConsumerConfig {
    fn new(settings: &Settings) -> Result<Self> {
        let config = ConsumerConfig {
            client: ClientConfig::new(settings)?,
            auto_offset_reset: values::offset_reset(settings.text("auto.offset.reset"))?,
            fetch_min_bytes: settings.int("fetch.min.bytes"),
            fetch_max_wait_ms: settings.int("fetch.max.wait.ms"),
            fetch_max_bytes: settings.int("fetch.max.bytes"),
            max_partition_fetch_bytes: settings.int("max.partition.fetch.bytes"),
            max_poll_records: settings.size("max.poll.records"),
            fetch_buffer_memory: settings.size("fetch.buffer.memory"),
            decompressed_batch_max_bytes: settings.size("decompressed.batch.max.bytes"),
            check_crcs: settings.yes("check.crcs"),
            isolation_level: match settings.choice("isolation.level").as_str() {
                "read_committed" => IsolationLevel::ReadCommitted,
                _ => IsolationLevel::ReadUncommitted,
            },
            client_rack: settings.text("client.rack").to_owned(),
            default_api_timeout: settings.duration("default.api.timeout.ms"),
            group: GroupConfig::new(settings)?,
            stalled_partition_timeout_ms: Some(settings.millis("stalled.partition.timeout.ms")).filter(|ms| *ms > 0),
        };
        let largest = usize::try_from(config.fetch_max_bytes).unwrap_or(0);
        if config.client.receive_max_bytes < largest {
            return Err(mistake(format!(
                "receive.message.max.bytes ({}) must leave room for fetch.max.bytes ({largest})",
                config.client.receive_max_bytes
            )));
        }
        Ok(config)
    }
}

/// The configuration of an admin client, checked.
#[derive(Debug, Clone)]
pub struct AdminConfig {
    /// What every client needs.
    pub client: ClientConfig,
    /// `default.api.timeout.ms`.
    pub default_api_timeout: Duration,
    /// `retries`.
    pub retries: u32,
}

/// A mistake in the configuration.
fn mistake(text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::Config, text)
}

/// The setters that all three builders share; each sets a key of the table.
macro_rules! common_setters {
    () => {
        /// Where to learn the cluster from: `host:port`, separated by commas (`bootstrap.servers`).
        #[must_use]
        pub fn bootstrap_servers(self, servers: impl ToString) -> Self {
            self.set("bootstrap.servers", servers)
        }

        /// A name for this client in the broker's logs, metrics and quotas (`client.id`).
        #[must_use]
        pub fn client_id(self, id: impl ToString) -> Self {
            self.set("client.id", id)
        }

        /// How long to wait for the answer to one request (`request.timeout.ms`, default 30 s).
        #[must_use]
        pub fn request_timeout(self, timeout: std::time::Duration) -> Self {
            self.set("request.timeout.ms", timeout.as_millis())
        }

        /// Sets any key by Kafka's name. A mistake in key or value is reported by `build`.
        #[must_use]
        pub fn set(mut self, key: &str, value: impl ToString) -> Self {
            self.settings.set(key, value);
            self
        }
    };
}
pub(crate) use common_setters;

#[cfg(test)]
mod tests;
