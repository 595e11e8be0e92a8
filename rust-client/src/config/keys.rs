//! The table of keys: name, whom it concerns, what it may be, its default, what it does.
//!
//! Names and defaults are the Java client's; the two keys that Kafka does not have say so. A key that does nothing has
//! no row. Keys of Kafka that have no row are answered from [`ABSENT`](super::absent::ABSENT) with the reason.

use ottla_client_state::partitioner::Partitioner;

use super::{Key, Kind, Users};

const P: Users = Users {
    producer: true,
    consumer: false,
    admin: false,
};
const C: Users = Users {
    producer: false,
    consumer: true,
    admin: false,
};
const A: Users = Users {
    producer: false,
    consumer: false,
    admin: true,
};
const PC: Users = Users {
    producer: true,
    consumer: true,
    admin: false,
};
const CA: Users = Users {
    producer: false,
    consumer: true,
    admin: true,
};
const ALL: Users = Users {
    producer: true,
    consumer: true,
    admin: true,
};

const INT: i64 = i32::MAX as i64;
const LONG: i64 = i64::MAX;

const fn key(name: &'static str, users: Users, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        users,
        kind,
        default,
        doc,
    }
}

/// Milliseconds from 0 to `max`.
const fn ms(max: i64) -> Kind {
    Kind::Number {
        min: 0,
        max,
        unit: "milliseconds",
    }
}

const fn bytes(min: i64, max: i64) -> Kind {
    Kind::Number {
        min,
        max,
        unit: "bytes",
    }
}

const fn count(min: i64, max: i64) -> Kind {
    Kind::Number { min, max, unit: "" }
}

/// The values of `partitioner`.
const PARTITIONERS: [&str; Partitioner::ALL.len()] = {
    let mut names = [""; Partitioner::ALL.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = Partitioner::ALL[at].name();
        at += 1;
    }
    names
};

/// Every key this client understands.
pub static KEYS: &[Key] = &[
    // Where and who.
    key(
        "bootstrap.servers",
        ALL,
        Kind::Servers,
        "",
        "Addresses (host:port, separated by commas) to learn the cluster from. One that answers is enough; several \
         keep the client starting while a broker is down.",
    ),
    key(
        "client.id",
        ALL,
        Kind::Text,
        "",
        "A name for this client in the broker's logs, metrics and quotas. Empty: a generated one.",
    ),
    key(
        "client.dns.lookup",
        ALL,
        Kind::Choice(&["use_all_dns_ips"]),
        "use_all_dns_ips",
        "How host names become addresses: all addresses of a name are tried in turn.",
    ),
    key(
        "security.protocol",
        ALL,
        Kind::Security,
        "PLAINTEXT",
        "How connections are protected: PLAINTEXT, SSL (TLS), SASL_PLAINTEXT, or SASL_SSL (both). What it does not use \
         (ssl.* or sasl.*) must not be set.",
    ),
    // TLS. All certificates and keys are PEM; see also README.
    key(
        "ssl.truststore.location",
        ALL,
        Kind::Text,
        "",
        "A PEM file of the certificates that are trusted. Without it and ssl.truststore.certificates: those of the \
         operating system.",
    ),
    key(
        "ssl.truststore.certificates",
        ALL,
        Kind::Text,
        "",
        "The certificates that are trusted, as PEM text.",
    ),
    key(
        "ssl.truststore.type",
        ALL,
        Kind::Text,
        "PEM",
        "The format of the trust store. Only PEM; for JKS and PKCS12 the error says how to convert the file.",
    ),
    key(
        "ssl.keystore.location",
        ALL,
        Kind::Text,
        "",
        "A PEM file with this client's private key and its certificate, and the certificates between that one and the \
         trusted one.",
    ),
    key(
        "ssl.keystore.certificate.chain",
        ALL,
        Kind::Text,
        "",
        "This client's certificate, and those between it and the trusted one, as PEM text.",
    ),
    key(
        "ssl.keystore.key",
        ALL,
        Kind::Secret,
        "",
        "This client's private key as PEM text: PKCS#8 (which may be encrypted), PKCS#1 or SEC1.",
    ),
    key(
        "ssl.keystore.type",
        ALL,
        Kind::Text,
        "PEM",
        "The format of the key store. Only PEM; for JKS and PKCS12 the error says how to convert the file.",
    ),
    key(
        "ssl.key.password",
        ALL,
        Kind::Secret,
        "",
        "The password of an encrypted private key.",
    ),
    key(
        "ssl.endpoint.identification.algorithm",
        ALL,
        Kind::Text,
        "https",
        "Whether the broker's certificate must name the host that was connected to: https, or empty for no check, which \
         is warned of.",
    ),
    key(
        "ssl.enabled.protocols",
        ALL,
        Kind::Text,
        "TLSv1.2,TLSv1.3",
        "The versions of TLS that may be used; the newest that the broker knows is.",
    ),
    key(
        "enable.ssl.certificate.verification",
        ALL,
        Kind::Bool,
        "true",
        "Whether the broker's certificate is checked at all. Only for tests: without it anybody can pass for the broker. \
         (A key of librdkafka.)",
    ),
    key(
        "ssl.ca.location",
        ALL,
        Kind::Text,
        "",
        "librdkafka's name of ssl.truststore.location.",
    ),
    key(
        "ssl.ca.pem",
        ALL,
        Kind::Text,
        "",
        "librdkafka's name of ssl.truststore.certificates.",
    ),
    key(
        "ssl.certificate.location",
        ALL,
        Kind::Text,
        "",
        "A PEM file of this client's certificate and those between it and the trusted one; needs ssl.key.location. (A \
         key of librdkafka.)",
    ),
    key(
        "ssl.certificate.pem",
        ALL,
        Kind::Text,
        "",
        "librdkafka's name of ssl.keystore.certificate.chain.",
    ),
    key(
        "ssl.key.location",
        ALL,
        Kind::Text,
        "",
        "A PEM file of this client's private key; needs ssl.certificate.location. (A key of librdkafka.)",
    ),
    key(
        "ssl.key.pem",
        ALL,
        Kind::Secret,
        "",
        "librdkafka's name of ssl.keystore.key.",
    ),
    // SASL.
    key(
        "sasl.mechanism",
        ALL,
        Kind::Text,
        "",
        "How the client says who it is: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. No other is used, whatever the broker \
         offers. PLAIN shows the password to whoever reads the connection: use it with SASL_SSL.",
    ),
    key(
        "sasl.mechanisms",
        ALL,
        Kind::Text,
        "",
        "librdkafka's name of sasl.mechanism.",
    ),
    key(
        "sasl.username",
        ALL,
        Kind::Text,
        "",
        "The user's name. (A key of librdkafka; the Java client has sasl.jaas.config.)",
    ),
    key(
        "sasl.password",
        ALL,
        Kind::Secret,
        "",
        "The user's password. (A key of librdkafka; the Java client has sasl.jaas.config.)",
    ),
    key(
        "sasl.jaas.config",
        ALL,
        Kind::Secret,
        "",
        "Java's way to give name and password: PlainLoginModule or ScramLoginModule with the options username and \
         password. No class is loaded.",
    ),
    // Connections.
    key(
        "socket.connection.setup.timeout.ms",
        ALL,
        ms(LONG),
        "10000",
        "How long one attempt to connect may take. Doubles with each failure in a row.",
    ),
    key(
        "socket.connection.setup.timeout.max.ms",
        ALL,
        ms(LONG),
        "30000",
        "The longest that one attempt to connect may take after many failures.",
    ),
    key(
        "reconnect.backoff.ms",
        ALL,
        ms(LONG),
        "50",
        "How long to wait after a failed connection before the next attempt. Doubles with each failure in a row.",
    ),
    key(
        "reconnect.backoff.max.ms",
        ALL,
        ms(LONG),
        "1000",
        "The longest wait between two attempts to connect.",
    ),
    key(
        "connections.max.idle.ms",
        PC,
        Kind::Number {
            min: -1,
            max: LONG,
            unit: "milliseconds",
        },
        "540000",
        "A connection that nobody used for so long is closed. Negative: never.",
    ),
    key(
        "connections.max.idle.ms",
        A,
        Kind::Number {
            min: -1,
            max: LONG,
            unit: "milliseconds",
        },
        "300000",
        "A connection that nobody used for so long is closed. Negative: never.",
    ),
    key(
        "send.buffer.bytes",
        ALL,
        bytes(-1, INT),
        "131072",
        "The size of the socket's send buffer. -1: the operating system's own choice.",
    ),
    key(
        "receive.buffer.bytes",
        P,
        bytes(-1, INT),
        "32768",
        "The size of the socket's receive buffer. -1: the operating system's own choice.",
    ),
    key(
        "receive.buffer.bytes",
        CA,
        bytes(-1, INT),
        "-1",
        "The size of the socket's receive buffer. -1: the operating system's own choice, which grows with what arrives. \
         (The Java client's 65536 keeps it so small that records come in little pieces, each with a wake-up of its own: \
         up to twice the CPU for records of 10 KiB.)",
    ),
    key(
        "receive.message.max.bytes",
        ALL,
        bytes(1000, INT),
        "134217728",
        "The largest answer taken from a broker; a larger one closes the connection before memory is given to it. \
         Must leave room for fetch.max.bytes. (A key of librdkafka; the Java client has no such limit.)",
    ),
    // Requests and retries.
    key(
        "request.timeout.ms",
        ALL,
        ms(INT),
        "30000",
        "How long to wait for the answer to one request. Then the connection is closed and the request may be tried \
         again.",
    ),
    key(
        "retry.backoff.ms",
        ALL,
        ms(LONG),
        "100",
        "How long to wait after a failed request before it is tried again. Doubles with each failure in a row.",
    ),
    key(
        "retry.backoff.max.ms",
        ALL,
        ms(LONG),
        "1000",
        "The longest wait between two attempts of one request.",
    ),
    key(
        "retries",
        P,
        count(0, INT),
        "2147483647",
        "How often a batch is sent again; delivery.timeout.ms ends it earlier.",
    ),
    key(
        "retries",
        A,
        count(0, INT),
        "2147483647",
        "How often a call is tried again; default.api.timeout.ms ends it earlier.",
    ),
    key(
        "default.api.timeout.ms",
        CA,
        ms(INT),
        "60000",
        "How long a call may take that has no timeout of its own, all its attempts together.",
    ),
    // Metadata.
    key(
        "metadata.max.age.ms",
        ALL,
        ms(LONG),
        "300000",
        "After so long the picture of the cluster is fetched anew, needed or not.",
    ),
    key(
        "metadata.max.idle.ms",
        P,
        Kind::Number {
            min: 5000,
            max: LONG,
            unit: "milliseconds",
        },
        "300000",
        "After so long without a record the producer forgets a topic's metadata.",
    ),
    key(
        "metadata.recovery.strategy",
        ALL,
        Kind::Choice(&["rebootstrap", "none"]),
        "rebootstrap",
        "What to do when no known broker can be reached: start again from bootstrap.servers (KIP-899), or keep trying \
         the known ones.",
    ),
    key(
        "metadata.recovery.rebootstrap.trigger.ms",
        ALL,
        ms(LONG),
        "300000",
        "If no metadata could be had for so long, start again from bootstrap.servers although connections still open \
         (KIP-1102).",
    ),
    key(
        "allow.auto.create.topics",
        C,
        Kind::Bool,
        "true",
        "Whether asking for a topic that does not exist may create it, if the broker allows that.",
    ),
    // Producer.
    key(
        "acks",
        P,
        Kind::Choice(&["all", "-1", "1", "0"]),
        "all",
        "Who must have a record before it counts as sent: all in-sync replicas, the leader (1), or nobody (0).",
    ),
    key(
        "enable.idempotence",
        P,
        Kind::Bool,
        "true",
        "Whether retries of this producer write each record once and in order (KIP-98, KIP-679). Needs acks=all, \
         retries above 0 and at most 5 requests in flight.",
    ),
    key(
        "linger.ms",
        P,
        ms(LONG),
        "5",
        "How long a batch waits for more records before it goes. A full batch goes at once.",
    ),
    key(
        "batch.size",
        P,
        bytes(0, INT),
        "16384",
        "How large a batch of one partition grows. 0 sends every record alone.",
    ),
    key(
        "buffer.memory",
        P,
        bytes(0, LONG),
        "33554432",
        "How many bytes of records may wait in the producer. A send waits for room up to max.block.ms.",
    ),
    key(
        "compression.type",
        P,
        Kind::Choice(&["none", "gzip", "snappy", "lz4", "zstd"]),
        "none",
        "How batches are compressed.",
    ),
    key(
        "compression.gzip.level",
        P,
        count(-1, 9),
        "-1",
        "The level of gzip, 1 to 9; -1 is its own default.",
    ),
    key(
        "compression.zstd.level",
        P,
        count(-131_072, 22),
        "3",
        "The level of zstd, -131072 (fast) to 22 (small).",
    ),
    key(
        "delivery.timeout.ms",
        P,
        ms(INT),
        "120000",
        "How long after send a record is delivered or has failed for good, retries included. At least linger.ms + \
         request.timeout.ms.",
    ),
    key(
        "max.block.ms",
        P,
        ms(LONG),
        "60000",
        "How long send may wait for a topic's metadata or for room in buffer.memory.",
    ),
    key(
        "max.in.flight.requests.per.connection",
        P,
        count(1, INT),
        "5",
        "How many produce requests may await their answers on one connection.",
    ),
    key(
        "max.request.size",
        P,
        bytes(0, INT),
        "1048576",
        "The largest request, and so the largest record, that is sent.",
    ),
    key(
        "partitioner",
        P,
        Kind::Choice(&PARTITIONERS),
        "default",
        "How the partition of a record is chosen: by murmur2 of the key, records without a key together for batch.size \
         bytes (default, as in Java), in turn (round_robin), at random (random), or by a hash of librdkafka's: consistent \
         (CRC-32), murmur2, fnv1a place records without a key all alike; consistent_random, murmur2_random, fnv1a_random \
         place them as default does. (A key of librdkafka, whose default is consistent_random.)",
    ),
    key(
        "partitioner.class",
        P,
        Kind::PartitionerClass,
        "",
        "Java's way to name a partitioner. No class is loaded: RoundRobinPartitioner is partitioner=round_robin, \
         DefaultPartitioner and null are the default, UniformStickyPartitioner is partitioner.ignore.keys=true.",
    ),
    key(
        "partitioner.ignore.keys",
        P,
        Kind::Bool,
        "false",
        "Whether records with a key are spread like those without. Only with partitioner=default, as in Java.",
    ),
    key(
        "partitioner.adaptive.partitioning.enable",
        P,
        Kind::Bool,
        "true",
        "Whether records without a key go less often to partitions whose broker is slow (KIP-794).",
    ),
    key(
        "partitioner.availability.timeout.ms",
        P,
        ms(LONG),
        "0",
        "A partition whose broker took no batch for so long gets no records without a key (KIP-794). 0: off.",
    ),
    // Consumer.
    key(
        "auto.offset.reset",
        C,
        Kind::OffsetReset,
        "latest",
        "Where to start when there is no position, or when it lies outside the log: earliest, latest, none (an error), \
         or by_duration:<ISO 8601 duration> back from now (KIP-1106).",
    ),
    key(
        "fetch.min.bytes",
        C,
        bytes(0, INT),
        "1",
        "The broker waits until it has so many bytes, up to fetch.max.wait.ms.",
    ),
    key(
        "fetch.max.wait.ms",
        C,
        ms(INT),
        "500",
        "How long the broker may wait for fetch.min.bytes.",
    ),
    key(
        "fetch.max.bytes",
        C,
        bytes(0, INT),
        "52428800",
        "How many bytes one fetch asks for. A single larger batch is returned all the same.",
    ),
    key(
        "max.partition.fetch.bytes",
        C,
        bytes(0, INT),
        "1048576",
        "How many bytes one fetch asks of one partition.",
    ),
    key(
        "max.poll.records",
        C,
        count(1, INT),
        "500",
        "The most records that one poll hands over.",
    ),
    key(
        "fetch.buffer.memory",
        C,
        bytes(1, LONG),
        "67108864",
        "How many fetched bytes may wait for poll. Reserved before each fetch, so it is never exceeded but by a single \
         batch that is larger than its fetch asked for. (A key of this client; it bounds what Java leaves unbounded.)",
    ),
    key(
        "decompressed.batch.max.bytes",
        C,
        bytes(1, INT),
        "134217728",
        "The largest batch after decompression; a larger one is an error of its partition. (A key of this client, \
         against decompression bombs.)",
    ),
    key(
        "check.crcs",
        C,
        Kind::Bool,
        "true",
        "Whether the checksum of every batch is verified.",
    ),
    key(
        "isolation.level",
        C,
        Kind::Choice(&["read_uncommitted", "read_committed"]),
        "read_uncommitted",
        "Whether records of open and aborted transactions are handed over.",
    ),
    key(
        "client.rack",
        C,
        Kind::Text,
        "",
        "The rack of this consumer: brokers may then send it to a replica nearby (KIP-392), and assignors give it partitions \
         with one (KIP-881).",
    ),
    // Consumer groups.
    key(
        "group.id",
        C,
        Kind::Text,
        "",
        "The group that this consumer belongs to: its members share the partitions of what they subscribe to, and committed \
         offsets are kept under its name. Needed by subscribe and commit.",
    ),
    key(
        "group.instance.id",
        C,
        Kind::Text,
        "",
        "A name of this member that outlives it (static membership, KIP-345): it keeps its partitions over a restart \
         within session.timeout.ms. No two members of a group may have the same.",
    ),
    key(
        "group.protocol",
        C,
        Kind::Choice(&["classic", "consumer"]),
        "classic",
        "How the group shares partitions: classic (a member computes the assignment, all stop for it), or consumer (the \
         broker does, and members move one by one; KIP-848, brokers from Kafka 4.0 on).",
    ),
    key(
        "group.remote.assignor",
        C,
        Kind::Text,
        "",
        "With group.protocol=consumer: the assignor that the broker uses, such as uniform or range. Empty: its default.",
    ),
    key(
        "partition.assignment.strategy",
        C,
        Kind::Assignors,
        "range,cooperative-sticky",
        "With group.protocol=classic: assignors in order of preference, of range, roundrobin, sticky, cooperative-sticky; \
         the group uses one that all members know. Java's class names are understood too.",
    ),
    key(
        "session.timeout.ms",
        C,
        ms(INT),
        "45000",
        "With group.protocol=classic: a member that sent no heartbeat for so long is taken for dead, and its partitions go \
         to others.",
    ),
    key(
        "heartbeat.interval.ms",
        C,
        ms(INT),
        "3000",
        "With group.protocol=classic: how often a member says that it is there. Below session.timeout.ms, at best a third \
         of it.",
    ),
    key(
        "max.poll.interval.ms",
        C,
        Kind::Number {
            min: 1,
            max: INT,
            unit: "milliseconds",
        },
        "300000",
        "How long the application may go without a sign of life (a poll, an offset stored, extend_poll). After it the \
         consumer leaves its group, so that another member gets the partitions; the next poll says so and joins again.",
    ),
    key(
        "enable.auto.commit",
        C,
        Kind::Bool,
        "true",
        "Whether offsets of processed records are committed by themselves, every auto.commit.interval.ms, before \
         partitions are given up, and on close. Without group.id: false.",
    ),
    key(
        "auto.commit.interval.ms",
        C,
        ms(INT),
        "5000",
        "How often processed offsets are committed with enable.auto.commit.",
    ),
    key(
        "enable.auto.offset.store",
        C,
        Kind::Bool,
        "true",
        "Whether a poll says that all records of earlier polls are processed. With false only store_offsets says so. (A key \
         of librdkafka, where records count as processed when they are handed over.)",
    ),
    key(
        "exclude.internal.topics",
        C,
        Kind::Bool,
        "true",
        "Whether a pattern leaves out Kafka's own topics. With group.protocol=consumer the broker always does.",
    ),
    key(
        "stalled.partition.timeout.ms",
        C,
        ms(LONG),
        "60000",
        "An assigned partition that has records and has not moved for so long is warned of, with the reason. 0: never. (A \
         key of this client.)",
    ),
];
