//! Reads a topic as a member of a group: `group BOOTSTRAP GROUP TOPIC`.
//!
//! Start it twice: both share the partitions. Stop one: the other goes on where it was. Ctrl-C closes it: what is
//! processed is committed, the group is left.

use std::time::Duration;

use ottla::{Consumer, Rebalance, RebalanceListener};

/// Tells what comes and goes.
struct Told;

impl RebalanceListener for Told {
    fn on_partitions_assigned(&self, rebalance: &Rebalance<'_>) {
        eprintln!("assigned: {:?}", rebalance.partitions());
    }

    fn on_partitions_revoked(&self, rebalance: &Rebalance<'_>) {
        eprintln!("given up: {:?}", rebalance.partitions());
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, group, topic] = &arguments[..] else {
        return Err("usage: group BOOTSTRAP GROUP TOPIC".into());
    };
    let mut consumer = Consumer::builder()
        .bootstrap_servers(bootstrap)
        .group_id(group)
        .topics([topic.as_str()])
        .auto_offset_reset("earliest")
        .rebalance_listener(Told)
        .build()
        .await?;
    let closer = consumer.closer();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            closer.close();
        }
    });
    // A poll says that what the one before gave is processed, so that it may be committed.
    while let Some(records) = consumer.poll().await? {
        for record in &records {
            let value = String::from_utf8_lossy(record.value().unwrap_or_default());
            println!("{} offset {}: {value}", record.topic_partition(), record.offset());
        }
    }
    let closed = consumer.close(Duration::from_secs(10)).await;
    eprintln!("committed on closing: {:?}", closed.committed);
    Ok(())
}
