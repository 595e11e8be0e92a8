//! Reads the topic `gpsraw` from its beginning and counts the points of each track, until nothing more comes.
//!
//! `cargo run -p ottla-examples --bin consume -- localhost:9092`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use ottla::{Consumer, TopicPartition};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".into());
    let mut consumer = Consumer::builder().bootstrap_servers(&bootstrap).build().await?;
    let partitions = [TopicPartition::new("gpsraw", 0), TopicPartition::new("gpsraw", 1)];
    consumer.assign(&partitions)?;
    for partition in &partitions {
        consumer.seek_to_beginning(partition)?;
    }

    let mut points: BTreeMap<(i32, String), u64> = BTreeMap::new();
    // Silence for two seconds ends this program; a service would simply go on polling.
    while let Ok(records) = tokio::time::timeout(Duration::from_secs(2), consumer.poll()).await {
        let Some(records) = records? else { break };
        for record in &records {
            // Keys and values are views into the response; what is to be kept is copied here.
            let track = String::from_utf8_lossy(record.key().unwrap_or_default()).into_owned();
            *points.entry((record.partition(), track)).or_default() += 1;
        }
    }
    for ((partition, track), count) in points {
        println!("{track}: {count} points in partition {partition}");
    }
    consumer.close(Duration::from_secs(10)).await;
    Ok(())
}
