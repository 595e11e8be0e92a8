//! What the tests of groups share: a broker that does not wait for members that do not come, and the group `maps`, which
//! reads `gpsraw`.

use super::support::BrokerProcess;

/// A broker with an empty topic `gpsraw`.
pub fn broker(partitions: &str) -> BrokerProcess {
    let broker = BrokerProcess::start(&[
        "--override",
        "group.initial.rebalance.delay.ms=0",
        "--override",
        "offsets.topic.num.partitions=3",
    ]);
    broker.succeeds(&["topics", "--create", "--topic", "gpsraw", "--partitions", partitions]);
    broker
}

/// Reads `most` records of `gpsraw` as a member of `maps`.
pub fn consume(broker: &BrokerProcess, most: &str) -> String {
    broker.succeeds(&[
        "consume",
        "--group",
        "maps",
        "--topic",
        "gpsraw",
        "--from-beginning",
        "--max-messages",
        most,
    ])
}
