//! Keys of Kafka that this client does not have, and what to tell who sets one.

const TLS: &str = "it has no effect here; leave it out";
const SASL: &str = "it belongs to a mechanism that is not available yet; PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512 are";
const ENGINE: &str = "TLS is rustls with its own choice of algorithms; leave it out";
const TRANSACTIONS: &str = "transactions are not available yet";
const BYTES: &str = "keys and values are bytes here: serialize before send and after poll";
const JAVA: &str = "it names a Java class, which this client does not load";
const TELEMETRY: &str = "client telemetry (KIP-714) is not available yet; leave the key out";

/// Keys of Kafka that this client does not have, and what to tell who sets one. A `*` at the end stands for any rest.
pub static ABSENT: &[(&str, &str)] = &[
    ("share.*", "share groups are not available yet"),
    ("transactional.id", TRANSACTIONS),
    ("transaction.timeout.ms", TRANSACTIONS),
    ("transaction.two.phase.commit.enable", TRANSACTIONS),
    ("key.serializer", BYTES),
    ("value.serializer", BYTES),
    ("key.deserializer", BYTES),
    ("value.deserializer", BYTES),
    (
        "sticky.partitioning.linger.ms",
        "records without a key stay together for batch.size bytes, not for a time (KIP-794); leave it out, or for a \
         random partition for each record use partitioner=random",
    ),
    ("partitioner.rack.aware", "it is not available yet"),
    ("interceptor.classes", JAVA),
    ("metric.reporters", JAVA),
    ("security.providers", JAVA),
    ("config.providers*", JAVA),
    ("auto.include.jmx.reporter", "it concerns Java's JMX; leave it out"),
    ("metrics.*", "it concerns Java's metrics; leave it out"),
    ("enable.metrics.push", TELEMETRY),
    ("compression.lz4.level", "LZ4 has one level here; leave the key out"),
    (
        "bootstrap.resolve.timeout.ms",
        "names are resolved whenever a connection is made; leave the key out",
    ),
    (
        "bootstrap.controllers",
        "only brokers can be asked; use bootstrap.servers",
    ),
    (
        "metadata.cluster.check.enable",
        "the check of KIP-1242 is not available yet; leave the key out",
    ),
    ("ssl.protocol", "use ssl.enabled.protocols"),
    ("ssl.provider", ENGINE),
    ("ssl.cipher.suites", ENGINE),
    ("ssl.curves.list", ENGINE),
    ("ssl.sigalgs.list", ENGINE),
    ("ssl.crl.location", "revocation lists are not available yet"),
    ("ssl.engine.factory.class", JAVA),
    ("ssl.*", TLS),
    ("sasl.client.callback.handler.class", JAVA),
    ("sasl.login.class", JAVA),
    ("sasl.login.callback.handler.class", JAVA),
    ("sasl.*", SASL),
    ("schema.registry.*", "schema registries are not part of this client"),
    ("metadata.broker.list", "use bootstrap.servers"),
    ("broker.list", "use bootstrap.servers"),
    (
        "zookeeper.connect",
        "clients have not used ZooKeeper since Kafka 0.9; use bootstrap.servers",
    ),
    ("request.required.acks", "use acks"),
    ("queue.buffering.max.ms", "use linger.ms"),
    ("compression.codec", "use compression.type"),
];
