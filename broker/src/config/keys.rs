//! The table of the broker's configuration keys, in Kafka's spelling.
//!
//! One row a key: type, default, range, treatment, and a sentence on what it does. The defaults are those of Apache
//! Kafka 4.4, but for the rows that say otherwise. A key is obeyed or refused, and a key that has no effect here is
//! accepted with a warning: none is ignored in silence.

use super::value::{Kind, Rule};

/// One key of `server.properties`.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Kafka's name.
    pub name: &'static str,
    /// The type of its value.
    pub kind: Kind,
    /// The value in force when none is given; `None` is Kafka's null.
    pub default: Option<&'static str>,
    /// The values it takes.
    pub rule: Rule,
    /// What the broker does with it.
    pub treatment: Treatment,
    /// What it means, with its unit.
    pub doc: &'static str,
}

/// What becomes of a key that is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It does what its row says.
    Obeyed,
    /// It tunes threads or queues that this broker does not have. Accepted with a warning.
    Tuning,
    /// It concerns something that is not there, for the reason given. Accepted with a warning.
    Idle(&'static str),
    /// Only its default is accepted; any other value is refused with the reason given.
    Fixed(&'static str),
    /// The name of an earlier Kafka. Obeyed with a warning that names today's key.
    Renamed(&'static str),
    /// Refused, for the reason given.
    Refused(&'static str),
}

use Treatment::{Fixed, Idle, Obeyed, Refused, Renamed, Tuning};

const NO_GROUP_TUNING: &str = "the group coordinator has no threads, queues or protocols to choose";
const NO_TRANSACTIONS: &str = "transactions are not available yet";
const NO_SHARE_GROUPS: &str = "share groups are not available";
const NO_TIERED_STORAGE: &str = "tiered storage is not available";
const JAVA_TLS: &str = "it tunes Java's TLS, and this one is rustls";
const NO_OTHER_SASL: &str = "the mechanisms are PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512";
const NO_TOKENS: &str = "delegation tokens are not available";
const NO_AUTHORIZER: &str = "authorization is not available yet; everything would be allowed instead";
const NO_QUOTAS: &str = "quotas are not available yet";
const NO_PLUGINS: &str = "classes cannot be loaded here";
const NO_METRICS: &str = "metrics reporters are not available";
const ONE_NODE: &str = "there is one broker, so nothing is replicated or elected";
const NO_ZOOKEEPER: &str = "there is no ZooKeeper: the metadata are kept in __cluster_metadata-0";
const NO_SNAPSHOTS: &str = "the metadata log is kept whole";

macro_rules! default {
    (null) => {
        None
    };
    ($text:literal) => {
        Some($text)
    };
}

macro_rules! keys {
    ($( $name:literal $kind:ident = $default:tt, $rule:expr, $treatment:expr; $doc:literal )*) => {
        &[$( Key {
            name: $name,
            kind: Kind::$kind,
            default: default!($default),
            rule: $rule,
            treatment: $treatment,
            doc: $doc,
        } ),*]
    };
}

/// Every key by itself; [`PREFIXES`] has those that come in families.
pub static KEYS: &[Key] = keys! {
    // Who and where.
    "node.id" Int = "1", Rule::AtLeast(0), Obeyed;
        "The number of this node in the cluster. Apache Kafka has no default."
    "broker.id" Int = "-1", Rule::AtLeast(-1), Obeyed;
        "The older name of node.id; -1 leaves the choice to node.id. Both may be given if they agree."
    "process.roles" List = "broker,controller", Rule::SomeOf(&["broker", "controller"]), Obeyed;
        "What this process does. A cluster of one node needs both roles. Apache Kafka has no default."
    "listeners" List = "PLAINTEXT://:9092", Rule::NotEmpty, Obeyed;
        "Where clients connect: name://host:port with commas between them. No host means all interfaces; port 0 means any free port."
    "advertised.listeners" List = null, Rule::NotEmpty, Obeyed;
        "The addresses that clients are told to connect to, when they differ from listeners."
    "listener.security.protocol.map" List = "PLAINTEXT:PLAINTEXT,SSL:SSL,SASL_PLAINTEXT:SASL_PLAINTEXT,SASL_SSL:SASL_SSL", Rule::NotEmpty, Obeyed;
        "The security protocol of each listener name: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."
    "inter.broker.listener.name" String = null, Rule::NotEmpty, Idle(ONE_NODE);
        "The listener for traffic between brokers. It must be one of listeners."
    "security.inter.broker.protocol" String = "PLAINTEXT", Rule::OneOf(&["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]), Idle(ONE_NODE);
        "The listener for traffic between brokers, where it is called like its protocol. Not together with inter.broker.listener.name."
    "controller.listener.names" List = "CONTROLLER", Rule::NotEmpty, Obeyed;
        "The listeners of controllers. They are not opened while the quorum has one voter, who talks to nobody. Apache Kafka has no default."
    "controller.quorum.voters" List = null, Rule::NotEmpty, Obeyed;
        "The controllers, as id@host:port. It may name this node and no other."
    "controller.quorum.bootstrap.servers" List = "", Rule::Any, Idle("the quorum has one voter, who talks to nobody");
        "Where the controllers are found."
    "controller.quorum.auto.join.enable" Boolean = "false", Rule::Any, Fixed("the set of voters is fixed");
        "Whether a controller joins the quorum by itself."
    "broker.rack" String = null, Rule::Any, Obeyed;
        "The rack this broker stands in. Replicas are spread over racks, and clients see it in the metadata."

    // Names of earlier Kafkas.
    "host.name" String = null, Rule::NotEmpty, Renamed("listeners");
        "The address to listen on, before Kafka 3."
    "port" Int = null, Rule::Between(0, 65535), Renamed("listeners");
        "The port to listen on, before Kafka 3."
    "advertised.host.name" String = null, Rule::NotEmpty, Renamed("advertised.listeners");
        "The host that clients are told, before Kafka 3."
    "advertised.port" Int = null, Rule::Between(0, 65535), Renamed("advertised.listeners");
        "The port that clients are told, before Kafka 3."

    // Connections and requests.
    "socket.send.buffer.bytes" Int = "102400", Rule::AtLeast(-1), Obeyed;
        "The send buffer asked of the operating system for a connection; -1 leaves it alone."
    "socket.receive.buffer.bytes" Int = "102400", Rule::AtLeast(-1), Obeyed;
        "The receive buffer asked of the operating system for a connection; -1 leaves it alone."
    "socket.request.max.bytes" Int = "104857600", Rule::AtLeast(1), Obeyed;
        "The largest request. A connection that announces a larger one is closed."
    "socket.listen.backlog.size" Int = "50", Rule::AtLeast(1), Obeyed;
        "How many connections the operating system keeps waiting to be accepted."
    "max.connections" Int = "2147483647", Rule::AtLeast(0), Obeyed;
        "The most connections at a time."
    "max.connections.per.ip" Int = "2147483647", Rule::AtLeast(0), Obeyed;
        "The most connections at a time from one address."
    "max.connections.per.ip.overrides" String = "", Rule::Any, Fixed("limits for single addresses are not available");
        "Other limits for single addresses."
    "max.connection.creation.rate" Int = "2147483647", Rule::AtLeast(0), Fixed(NO_QUOTAS);
        "The most new connections in a second."
    "connections.max.idle.ms" Long = "600000", Rule::Any, Obeyed;
        "A connection without a request for this many milliseconds is closed; a negative number closes none."
    "connections.max.reauth.ms" Long = "0", Rule::Any, Obeyed;
        "How many milliseconds an authentication holds: a client that has not authenticated again by then is disconnected at its next request; 0 holds for as long as the connection."
    "connection.failed.authentication.delay.ms" Int = "100", Rule::Between(0, 60_000), Obeyed;
        "How many milliseconds a failed authentication waits for its answer, which slows down guessing."
    "fetch.max.bytes" Int = "57671680", Rule::AtLeast(1024), Obeyed;
        "The most bytes of records in one fetch response, whatever the client allows; a first batch that is larger is sent all the same."
    "max.incremental.fetch.session.cache.slots" Int = "1000", Rule::AtLeast(0), Obeyed;
        "How many fetch sessions are kept; a client without one repeats its partitions with each fetch."
    "max.request.partition.size.limit" Int = "2000", Rule::AtLeast(1), Obeyed;
        "The most partitions in one DescribeTopicPartitions response; the rest follows by cursor."
    "request.timeout.ms" Int = "30000", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a request to another broker may take."
    "queued.max.requests" Int = "500", Rule::AtLeast(1), Tuning;
        "How many requests wait for a thread."
    "queued.max.request.bytes" Long = "-1", Rule::Any, Tuning;
        "How many bytes of requests wait for a thread."
    "num.network.threads" Int = "3", Rule::AtLeast(1), Tuning;
        "Threads that read and write connections."
    "num.io.threads" Int = "8", Rule::AtLeast(1), Tuning;
        "Threads that work on requests."
    "background.threads" Int = "10", Rule::AtLeast(1), Tuning;
        "Threads for timed work."
    "num.recovery.threads.per.data.dir" Int = "2", Rule::AtLeast(1), Tuning;
        "Threads that recover logs at the start."
    "num.replica.alter.log.dirs.threads" Int = null, Rule::AtLeast(1), Tuning;
        "Threads that move replicas between directories."
    "fetch.purgatory.purge.interval.requests" Int = "1000", Rule::Any, Tuning;
        "How often finished fetch requests are cleared away."
    "producer.purgatory.purge.interval.requests" Int = "1000", Rule::Any, Tuning;
        "How often finished produce requests are cleared away."
    "delete.records.purgatory.purge.interval.requests" Int = "1", Rule::Any, Tuning;
        "How often finished DeleteRecords requests are cleared away."
    "server.max.startup.time.ms" Long = "9223372036854775807", Rule::AtLeast(0), Tuning;
        "How long the start may take."

    // TLS. Each may be given for one listener, with listener.name.<name>. before it.
    "ssl.keystore.type" String = "JKS", Rule::OneOf(&["JKS", "PKCS12", "PEM"]), Obeyed;
        "The format of the key store. A listener with TLS needs PEM; the others are refused with the command that converts them."
    "ssl.keystore.location" String = null, Rule::Any, Obeyed;
        "A file with the certificate chain of the listener, its own first, and the private key."
    "ssl.keystore.certificate.chain" Password = null, Rule::Any, Obeyed;
        "The certificate chain itself, instead of a file."
    "ssl.keystore.key" Password = null, Rule::Any, Obeyed;
        "The private key itself, instead of a file: PKCS#8, PKCS#1 or SEC1, not encrypted."
    "ssl.keystore.password" Password = null, Rule::Any, Obeyed;
        "The password of a JKS or PKCS12 key store. A PEM key store has none: with TLS it is refused."
    "ssl.key.password" Password = null, Rule::Any, Obeyed;
        "The password of an encrypted private key, which is not available: with TLS it is refused."
    "ssl.truststore.type" String = "JKS", Rule::OneOf(&["JKS", "PKCS12", "PEM"]), Obeyed;
        "The format of the trust store; as ssl.keystore.type."
    "ssl.truststore.location" String = null, Rule::Any, Obeyed;
        "A file with the certificates of those who sign the certificates of clients."
    "ssl.truststore.certificates" Password = null, Rule::Any, Obeyed;
        "These certificates themselves, instead of a file."
    "ssl.truststore.password" Password = null, Rule::Any, Obeyed;
        "The password of a JKS or PKCS12 trust store. A PEM trust store has none: with TLS it is refused."
    "ssl.client.auth" String = "none", Rule::OneOf(&["none", "requested", "required"]), Obeyed;
        "Whether clients show a certificate. One that is shown must be trusted; required needs a trust store, and so does requested."
    "ssl.enabled.protocols" List = "TLSv1.2,TLSv1.3", Rule::SomeOf(&["TLSv1.2", "TLSv1.3"]), Obeyed;
        "The versions of TLS that are spoken. There are no earlier ones."
    "ssl.cipher.suites" List = "", Rule::Any, Obeyed;
        "The cipher suites that are spoken, by their names in TLS; all that are safe if empty."
    "ssl.protocol" String = "TLSv1.3", Rule::OneOf(&["TLS", "TLSv1.2", "TLSv1.3"]), Idle("ssl.enabled.protocols says it");
        "The version of TLS that Java asks for."
    "ssl.endpoint.identification.algorithm" String = "https", Rule::OneOf(&["", "https"]), Idle(ONE_NODE);
        "How the names of other brokers are checked."
    "ssl.principal.mapping.rules" String = "DEFAULT", Rule::Any, Fixed("the names in certificates are not told apart yet");
        "How the name in a certificate becomes a principal."

    // SASL. Each may be given for one listener as well, and those that say so for one of its mechanisms:
    // listener.name.<name>.scram-sha-256.sasl.jaas.config.
    "sasl.enabled.mechanisms" List = "", Rule::OneOf(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]), Obeyed;
        "How clients authenticate: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512. Apache Kafka's default is GSSAPI, which is not available."
    "sasl.jaas.config" Password = null, Rule::Any, Obeyed;
        "The users: a PlainLoginModule or, for SCRAM, a ScramLoginModule with user_NAME=\"PASSWORD\" for each, for all mechanisms or one. Apache Kafka keeps users of SCRAM in its metadata instead."
    "sasl.server.max.receive.size" Int = "524288", Rule::AtLeast(1), Obeyed;
        "The largest request before authentication, in bytes."
    "sasl.mechanism.inter.broker.protocol" String = "GSSAPI", Rule::Any, Idle(ONE_NODE);
        "How brokers authenticate to each other."
    "sasl.mechanism.controller.protocol" String = "GSSAPI", Rule::Any, Idle(ONE_NODE);
        "How brokers authenticate to controllers."

    // Topics.
    "num.partitions" Int = "1", Rule::AtLeast(1), Obeyed;
        "Partitions of a topic that is created without a number of its own."
    "default.replication.factor" Int = "1", Rule::Between(1, 32767), Obeyed;
        "Replicas of a topic that is created without a number of its own."
    "auto.create.topics.enable" Boolean = "true", Rule::Any, Obeyed;
        "Whether asking for the metadata of an unknown topic creates it, if the client allows that."
    "delete.topic.enable" Boolean = "true", Rule::Any, Obeyed;
        "Whether topics can be deleted."
    "min.insync.replicas" Int = "1", Rule::AtLeast(1), Obeyed;
        "In-sync replicas that acks=all needs."
    "unclean.leader.election.enable" Boolean = "false", Rule::Any, Fixed(ONE_NODE);
        "Whether a replica that is not in sync may become leader."
    "message.max.bytes" Int = "1048588", Rule::AtLeast(0), Obeyed;
        "The largest record batch a topic accepts."
    "compression.type" String = "producer", Rule::OneOf(super::COMPRESSION_TYPES), Obeyed;
        "The codec that batches are kept in; producer keeps them as they came."
    "compression.gzip.level" Int = "-1", Rule::BetweenOr(1, 9, -1), Obeyed;
        "The level of gzip, where compression.type asks for it."
    "compression.lz4.level" Int = "9", Rule::Between(1, 17), Obeyed;
        "The level of LZ4, where compression.type asks for it."
    "compression.zstd.level" Int = "3", Rule::Between(-131_072, 22), Obeyed;
        "The level of Zstandard, where compression.type asks for it."
    "create.topic.policy.class.name" String = null, Rule::Any, Refused(NO_PLUGINS);
        "A class that decides which topics may be created."
    "alter.config.policy.class.name" String = null, Rule::Any, Refused(NO_PLUGINS);
        "A class that decides which configurations may be changed."

    // Logs.
    "log.dirs" List = null, Rule::NotEmpty, Obeyed;
        "The data directory. One only: several are refused."
    "log.dir" List = "/tmp/kafka-logs", Rule::NotEmpty, Obeyed;
        "The data directory, where log.dirs is not given."
    "metadata.log.dir" String = null, Rule::Any, Fixed("the metadata log is kept in log.dirs");
        "The directory of the metadata log."
    "cordoned.log.dirs" List = "", Rule::Any, Fixed("there is one data directory");
        "Data directories that take no new partitions."
    "log.dir.failure.timeout.ms" Long = "30000", Rule::AtLeast(1), Idle("there is one data directory");
        "How long to try to tell the controller of a failed directory."
    "log.segment.bytes" Int = "1073741824", Rule::AtLeast(1_048_576), Obeyed;
        "The size at which a new segment is begun."
    "log.roll.ms" Long = null, Rule::AtLeast(1), Obeyed;
        "The age in milliseconds at which a new segment is begun; before log.roll.hours."
    "log.roll.hours" Int = "168", Rule::AtLeast(1), Obeyed;
        "The age in hours at which a new segment is begun."
    "log.roll.jitter.ms" Long = null, Rule::AtLeast(0), Obeyed;
        "Up to this many milliseconds are taken off the age, at random; before log.roll.jitter.hours."
    "log.roll.jitter.hours" Int = "0", Rule::AtLeast(0), Obeyed;
        "Up to this many hours are taken off the age, at random."
    "log.retention.ms" Long = null, Rule::AtLeast(-1), Obeyed;
        "Milliseconds that records are kept; -1 for ever; before log.retention.minutes."
    "log.retention.minutes" Int = null, Rule::AtLeast(-1), Obeyed;
        "Minutes that records are kept; -1 for ever; before log.retention.hours."
    "log.retention.hours" Int = "168", Rule::AtLeast(-1), Obeyed;
        "Hours that records are kept; -1 for ever."
    "log.retention.bytes" Long = "-1", Rule::AtLeast(-1), Obeyed;
        "Bytes of a partition that are kept; -1 for all."
    "log.retention.check.interval.ms" Long = "300000", Rule::AtLeast(1), Obeyed;
        "How often expired segments are looked for."
    "log.initial.task.delay.ms" Long = "30000", Rule::AtLeast(0), Tuning;
        "How long after the start timed work on logs begins."
    "log.segment.delete.delay.ms" Long = "60000", Rule::AtLeast(0), Obeyed;
        "Milliseconds between the renaming of a deleted file and its removal."
    "log.cleanup.policy" List = "delete", Rule::SomeOf(&["delete", "compact"]), Obeyed;
        "What becomes of old segments: delete removes them, compact keeps the last record of each key."
    "log.cleaner.enable" Boolean = "true", Rule::Any, Obeyed;
        "Whether logs with cleanup.policy=compact are compacted."
    "log.cleaner.threads" Int = "1", Rule::AtLeast(0), Tuning;
        "Threads that compact. There is one, which takes one log after the other."
    "log.cleaner.backoff.ms" Long = "15000", Rule::AtLeast(0), Obeyed;
        "Milliseconds between two looks for logs to compact."
    "log.cleaner.dedupe.buffer.size" Long = "134217728", Rule::AtLeast(1_048_577), Obeyed;
        "Bytes of memory for the keys of a pass, 24 for each; what does not fit is the next pass's."
    "log.cleaner.io.buffer.size" Int = "524288", Rule::AtLeast(0), Obeyed;
        "Bytes that compaction writes at once."
    "log.cleaner.io.buffer.load.factor" Double = "0.9", Rule::Any, Obeyed;
        "How full the memory for keys may be."
    "log.cleaner.io.max.bytes.per.second" Double = "1.7976931348623157E308", Rule::Any, Obeyed;
        "Bytes that compaction reads and writes in a second, together."
    "log.cleaner.min.cleanable.ratio" Double = "0.5", Rule::Fraction, Obeyed;
        "How dirty a log must be to be compacted."
    "log.cleaner.delete.retention.ms" Long = "86400000", Rule::AtLeast(0), Obeyed;
        "How long tombstones are kept."
    "log.cleaner.min.compaction.lag.ms" Long = "0", Rule::AtLeast(0), Obeyed;
        "How long a record is kept from compaction."
    "log.cleaner.max.compaction.lag.ms" Long = "9223372036854775807", Rule::AtLeast(1), Obeyed;
        "How long a record may wait for compaction."
    "log.preallocate" Boolean = "false", Rule::Any, Fixed("files grow as they are written");
        "Whether a segment's file gets its full size at once."
    "log.index.interval.bytes" Int = "4096", Rule::AtLeast(0), Obeyed;
        "Bytes of records between two entries of an index."
    "log.index.size.max.bytes" Int = "10485760", Rule::AtLeast(4), Obeyed;
        "The size of an index at which a new segment is begun."
    "log.message.timestamp.type" String = "CreateTime", Rule::OneOf(super::TIMESTAMP_TYPES), Obeyed;
        "Whether a record keeps its producer's time or gets that of its append."
    "log.message.timestamp.before.max.ms" Long = "9223372036854775807", Rule::AtLeast(0), Obeyed;
        "How far in the past a record's time may lie, in milliseconds."
    "log.message.timestamp.after.max.ms" Long = "3600000", Rule::AtLeast(0), Obeyed;
        "How far in the future a record's time may lie, in milliseconds."
    "log.flush.interval.messages" Long = "9223372036854775807", Rule::AtLeast(1), Obeyed;
        "Records after which a log is flushed to the disk before the answer leaves."
    "log.flush.interval.ms" Long = null, Rule::AtLeast(0), Obeyed;
        "The age at which records are flushed to the disk; where absent, log.flush.scheduler.interval.ms."
    "log.flush.scheduler.interval.ms" Long = "1000", Rule::AtLeast(1), Obeyed;
        "How often logs are looked at for flushing. Apache Kafka's default is never."
    "log.flush.offset.checkpoint.interval.ms" Int = "60000", Rule::AtLeast(0), Obeyed;
        "How often recovery points are written down."
    "log.flush.start.offset.checkpoint.interval.ms" Int = "60000", Rule::AtLeast(0), Idle("log start offsets are written down with the recovery points");
        "How often log start offsets are written down."
    "remote.log.storage.system.enable" Boolean = "false", Rule::Any, Fixed(NO_TIERED_STORAGE);
        "Whether old segments may move to another storage."
    "log.local.retention.ms" Long = "-2", Rule::AtLeast(-2), Fixed(NO_TIERED_STORAGE);
        "Milliseconds that records are kept on this disk."
    "log.local.retention.bytes" Long = "-2", Rule::AtLeast(-2), Fixed(NO_TIERED_STORAGE);
        "Bytes of a partition that are kept on this disk."
    "producer.id.expiration.ms" Int = "86400000", Rule::AtLeast(1), Obeyed;
        "How long an idle producer's sequences are remembered, in milliseconds."
    "producer.id.expiration.check.interval.ms" Int = "600000", Rule::AtLeast(1), Tuning;
        "How often idle producers are looked for."

    // The metadata log and the controller.
    "metadata.log.segment.bytes" Int = "1073741824", Rule::AtLeast(8_388_608), Obeyed;
        "The size at which the metadata log begins a new segment."
    "metadata.log.segment.ms" Long = "604800000", Rule::AtLeast(1), Obeyed;
        "The age at which the metadata log begins a new segment."
    "metadata.log.max.record.bytes.between.snapshots" Long = "20971520", Rule::AtLeast(1), Idle(NO_SNAPSHOTS);
        "Bytes after which a snapshot of the metadata is written."
    "metadata.log.max.snapshot.interval.ms" Long = "3600000", Rule::AtLeast(0), Idle(NO_SNAPSHOTS);
        "Milliseconds after which a snapshot of the metadata is written."
    "metadata.max.retention.bytes" Long = "104857600", Rule::Any, Idle(NO_SNAPSHOTS);
        "Bytes of the metadata log that are kept behind a snapshot."
    "metadata.max.retention.ms" Long = "604800000", Rule::Any, Idle(NO_SNAPSHOTS);
        "Milliseconds that the metadata log is kept behind a snapshot."
    "metadata.max.idle.interval.ms" Int = "500", Rule::AtLeast(0), Idle(ONE_NODE);
        "How often an idle controller writes a record that says nothing."
    "controller.quorum.election.timeout.ms" Int = "1000", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a candidate waits for votes."
    "controller.quorum.election.backoff.max.ms" Int = "1000", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a defeated candidate pauses at most."
    "controller.quorum.fetch.timeout.ms" Int = "2000", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a controller follows a silent leader."
    "controller.quorum.request.timeout.ms" Int = "2000", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a request between controllers may take."
    "controller.quorum.retry.backoff.ms" Int = "20", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a failed request between controllers waits to be repeated."
    "controller.quorum.append.linger.ms" Int = "25", Rule::AtLeast(0), Tuning;
        "How long metadata records wait for company. Here they do not wait."
    "controller.socket.timeout.ms" Int = "30000", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a request to the controller may take."
    "broker.heartbeat.interval.ms" Int = "2000", Rule::AtLeast(1), Idle(ONE_NODE);
        "How often a broker tells the controller that it lives."
    "broker.session.timeout.ms" Int = "9000", Rule::AtLeast(1), Idle(ONE_NODE);
        "How long a broker lives without a heartbeat."
    "initial.broker.registration.timeout.ms" Int = "60000", Rule::AtLeast(1), Idle(ONE_NODE);
        "How long a broker tries to register."
    "controlled.shutdown.enable" Boolean = "true", Rule::Any, Idle(ONE_NODE);
        "Whether leaders move away before a broker stops."
    "auto.leader.rebalance.enable" Boolean = "true", Rule::Any, Idle(ONE_NODE);
        "Whether leadership returns to the preferred replica."
    "leader.imbalance.check.interval.seconds" Long = "300", Rule::AtLeast(1), Idle(ONE_NODE);
        "How often preferred leaders are looked for."
    "leader.imbalance.per.broker.percentage" Int = "10", Rule::AtLeast(0), Idle(ONE_NODE);
        "How many partitions may be led by another than the preferred replica."
    "unclean.leader.election.interval.ms" Long = "300000", Rule::AtLeast(1), Idle(ONE_NODE);
        "How often unclean elections are considered."

    // Replication.
    "replica.lag.time.max.ms" Long = "30000", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a follower may lag before it leaves the in-sync replicas."
    "replica.fetch.max.bytes" Int = "1048576", Rule::AtLeast(0), Idle(ONE_NODE);
        "Bytes a follower asks for of each partition."
    "replica.fetch.min.bytes" Int = "1", Rule::Any, Idle(ONE_NODE);
        "Bytes a follower waits for."
    "replica.fetch.response.max.bytes" Int = "10485760", Rule::AtLeast(0), Idle(ONE_NODE);
        "Bytes a follower asks for of all partitions."
    "replica.fetch.wait.max.ms" Int = "500", Rule::Any, Idle(ONE_NODE);
        "How long a follower waits for records."
    "replica.fetch.backoff.ms" Int = "1000", Rule::AtLeast(0), Idle(ONE_NODE);
        "How long a follower pauses after an error."
    "replica.socket.timeout.ms" Int = "30000", Rule::Any, Idle(ONE_NODE);
        "How long a follower's request may take."
    "replica.socket.receive.buffer.bytes" Int = "65536", Rule::Any, Idle(ONE_NODE);
        "The receive buffer of a follower's connection."
    "replica.high.watermark.checkpoint.interval.ms" Long = "5000", Rule::AtLeast(1), Obeyed;
        "How often high watermarks are written down."
    "replica.selector.class" String = null, Rule::Any, Refused(NO_PLUGINS);
        "A class that chooses the replica a consumer reads from."
    "num.replica.fetchers" Int = "1", Rule::AtLeast(1), Tuning;
        "Threads that fetch from another broker."

    // Groups and transactions.
    "offsets.topic.num.partitions" Int = "50", Rule::AtLeast(1), Obeyed;
        "Partitions of __consumer_offsets."
    "offsets.topic.replication.factor" Short = "1", Rule::AtLeast(1), Obeyed;
        "Replicas of __consumer_offsets. Apache Kafka's default is 3."
    "offsets.topic.segment.bytes" Int = "104857600", Rule::AtLeast(1), Obeyed;
        "The size of a segment of __consumer_offsets."
    "offsets.topic.compression.codec" Int = "0", Rule::Between(0, 4), Obeyed;
        "The codec of __consumer_offsets."
    "offsets.retention.minutes" Int = "10080", Rule::AtLeast(1), Obeyed;
        "How long committed offsets of an empty group are kept."
    "offsets.retention.check.interval.ms" Long = "600000", Rule::AtLeast(1), Obeyed;
        "How often expired offsets are looked for."
    "offsets.commit.timeout.ms" Int = "5000", Rule::AtLeast(1), Obeyed;
        "How long a commit waits for its replicas."
    "offsets.load.buffer.size" Int = "5242880", Rule::AtLeast(1), Obeyed;
        "How much of __consumer_offsets is read at a time."
    "offset.metadata.max.bytes" Int = "4096", Rule::AtLeast(0), Obeyed;
        "The longest text that a commit may carry."
    "group.initial.rebalance.delay.ms" Int = "3000", Rule::AtLeast(0), Obeyed;
        "How long a new group waits for members."
    "group.min.session.timeout.ms" Int = "6000", Rule::AtLeast(0), Obeyed;
        "The shortest session a member may ask for."
    "group.max.session.timeout.ms" Int = "1800000", Rule::AtLeast(0), Obeyed;
        "The longest session a member may ask for."
    "group.max.size" Int = "2147483647", Rule::AtLeast(1), Obeyed;
        "The most members of a group."
    "group.consumer.session.timeout.ms" Int = "45000", Rule::AtLeast(1), Obeyed;
        "How long a member of the consumer protocol may be silent."
    "group.consumer.min.session.timeout.ms" Int = "45000", Rule::AtLeast(1), Obeyed;
        "The shortest that group.consumer.session.timeout.ms may be."
    "group.consumer.max.session.timeout.ms" Int = "60000", Rule::AtLeast(1), Obeyed;
        "The longest that group.consumer.session.timeout.ms may be."
    "group.consumer.heartbeat.interval.ms" Int = "5000", Rule::AtLeast(1), Obeyed;
        "How often a member of the consumer protocol is told to send heartbeats."
    "group.consumer.min.heartbeat.interval.ms" Int = "5000", Rule::AtLeast(1), Obeyed;
        "The shortest that group.consumer.heartbeat.interval.ms may be."
    "group.consumer.max.heartbeat.interval.ms" Int = "15000", Rule::AtLeast(1), Obeyed;
        "The longest that group.consumer.heartbeat.interval.ms may be."
    "group.consumer.assignment.interval.ms" Int = "1000", Rule::AtLeast(0), Obeyed;
        "The least time between two assignments of a group of the consumer protocol."
    "group.consumer.min.assignment.interval.ms" Int = "0", Rule::AtLeast(0), Obeyed;
        "The shortest that group.consumer.assignment.interval.ms may be."
    "group.consumer.max.assignment.interval.ms" Int = "15000", Rule::AtLeast(0), Obeyed;
        "The longest that group.consumer.assignment.interval.ms may be."
    "group.consumer.max.size" Int = "2147483647", Rule::AtLeast(1), Obeyed;
        "The most members of a group of the consumer protocol."
    "group.consumer.assignors" List = "uniform,range", Rule::SomeOf(&["uniform", "range"]), Obeyed;
        "The server-side assignors that may be asked for; the first is the default."
    "group.consumer.assignor.offload.enable" Boolean = "true", Rule::Any, Tuning;
        "Whether assignments are computed on a thread of their own."
    "group.consumer.regex.refresh.interval.ms" Int = "600000", Rule::AtLeast(10000), Obeyed;
        "How long the topics that a regular expression was found to mean are believed."
    "group.consumer.migration.policy" String = "bidirectional", Rule::Any, Obeyed;
        "Which groups with members may change their protocol: disabled, upgrade, downgrade or bidirectional."
    "transaction.state.log.num.partitions" Int = "50", Rule::AtLeast(1), Idle(NO_TRANSACTIONS);
        "Partitions of __transaction_state."
    "transaction.state.log.replication.factor" Short = "1", Rule::AtLeast(1), Idle(NO_TRANSACTIONS);
        "Replicas of __transaction_state. Apache Kafka's default is 3."
    "transaction.state.log.min.isr" Int = "1", Rule::AtLeast(1), Idle(NO_TRANSACTIONS);
        "In-sync replicas that __transaction_state needs. Apache Kafka's default is 2."
    "transaction.state.log.segment.bytes" Int = "104857600", Rule::AtLeast(1), Idle(NO_TRANSACTIONS);
        "The size of a segment of __transaction_state."
    "transaction.state.log.load.buffer.size" Int = "5242880", Rule::AtLeast(1), Idle(NO_TRANSACTIONS);
        "How much of __transaction_state is read at a time."
    "transaction.max.timeout.ms" Int = "900000", Rule::AtLeast(1), Idle(NO_TRANSACTIONS);
        "The longest transaction a producer may ask for."
    "transactional.id.expiration.ms" Int = "604800000", Rule::AtLeast(1), Idle(NO_TRANSACTIONS);
        "How long an idle transactional id is remembered."

    // Refused, each for its reason.
    "authorizer.class.name" String = "", Rule::Any, Refused(NO_AUTHORIZER);
        "The class that decides who may do what."
    "principal.builder.class" String = null, Rule::Any, Refused(NO_PLUGINS);
        "The class that names who is connected."
    "client.quota.callback.class" String = null, Rule::Any, Refused(NO_PLUGINS);
        "The class that sets quotas."
    "metric.reporters" List = "", Rule::Any, Refused(NO_METRICS);
        "Classes that report metrics."
    "kafka.metrics.reporters" List = "", Rule::Any, Refused(NO_METRICS);
        "Classes that report metrics."
    "config.providers" List = "", Rule::Any, Refused("references in values are not expanded");
        "Classes that expand references in values."
    "early.start.listeners" List = null, Rule::Any, Refused(NO_AUTHORIZER);
        "Listeners that open before the authorizer is ready."
    "super.users" String = null, Rule::Any, Refused(NO_AUTHORIZER);
        "Principals that may do everything."
    "allow.everyone.if.no.acl.found" Boolean = "true", Rule::Any, Refused(NO_AUTHORIZER);
        "Whether something without rules is free to all."
};

/// Families of keys that are all treated alike: the beginning of the name, and what becomes of it.
pub static PREFIXES: &[(&str, Treatment)] = &[
    ("zookeeper.", Idle(NO_ZOOKEEPER)),
    ("ssl.engine.", Refused(NO_PLUGINS)),
    ("ssl.", Refused(JAVA_TLS)),
    ("sasl.server.callback.", Refused(NO_PLUGINS)),
    ("sasl.", Refused(NO_OTHER_SASL)),
    ("security.providers", Refused(NO_PLUGINS)),
    (
        "listener.name.",
        Refused("it cannot be set for a single listener or mechanism, or names a mechanism that is not available"),
    ),
    ("delegation.token.", Refused(NO_TOKENS)),
    ("remote.log", Refused(NO_TIERED_STORAGE)),
    ("remote.fetch.", Refused(NO_TIERED_STORAGE)),
    ("remote.list.", Refused(NO_TIERED_STORAGE)),
    ("rsm.config.", Refused(NO_TIERED_STORAGE)),
    ("rlmm.config.", Refused(NO_TIERED_STORAGE)),
    ("quota.window.", Idle(NO_QUOTAS)),
    ("controller.quota.window.", Idle(NO_QUOTAS)),
    ("replication.quota.window.", Idle(NO_QUOTAS)),
    ("alter.log.dirs.replication.quota.window.", Idle(NO_QUOTAS)),
    ("group.coordinator.", Idle(NO_GROUP_TUNING)),
    ("group.share.", Idle(NO_SHARE_GROUPS)),
    ("group.streams.", Idle("streams groups are not available")),
    ("share.coordinator.", Idle(NO_SHARE_GROUPS)),
    ("share.fetch.", Idle(NO_SHARE_GROUPS)),
    ("transaction.", Idle(NO_TRANSACTIONS)),
    ("add.partitions.to.txn.", Idle(NO_TRANSACTIONS)),
    ("metrics.", Idle(NO_METRICS)),
    ("kafka.metrics.", Idle(NO_METRICS)),
    ("telemetry.", Idle("client telemetry is not available")),
    ("controller.performance.", Tuning),
    ("controller.quorum.fetch.", Idle(ONE_NODE)),
];

/// The row of `name`, if it has one of its own.
pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// What becomes of `name`, by its own row or that of its family; `None` if no such key is known.
pub fn treatment(name: &str) -> Option<Treatment> {
    let family = || {
        PREFIXES
            .iter()
            .find(|(prefix, _)| name.starts_with(prefix))
            .map(|(_, treatment)| *treatment)
    };
    let row = find(name).or_else(|| super::security::find_scoped(name));
    row.map(|key| key.treatment).or_else(family)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::value;
    use std::collections::BTreeSet;

    #[test]
    fn every_key_has_a_text_and_a_default_that_its_own_rule_accepts() {
        let mut names = BTreeSet::new();
        for key in KEYS {
            assert!(names.insert(key.name), "{} has two rows", key.name);
            assert!(key.doc.ends_with('.'), "{} has no sentence", key.name);
            if let Some(default) = key.default {
                let parsed = value::parse(key.kind, key.rule, default);
                assert!(parsed.is_ok(), "{}: {}", key.name, parsed.unwrap_err());
            }
        }
    }

    #[test]
    fn a_key_of_a_family_is_treated_as_its_family() {
        assert_eq!(treatment("ssl.keymanager.algorithm"), Some(Refused(JAVA_TLS)));
        assert_eq!(treatment("transaction.max.timeout.ms"), Some(Idle(NO_TRANSACTIONS)));
        assert_eq!(treatment("num.partitions"), Some(Obeyed));
        assert_eq!(treatment("num.partition"), None);
    }
}
