//! Sends the recorded GPS tracks to the topic `gpsraw`, each track in order, and says where each track went.
//!
//! `cargo run -p ottla-examples --bin produce -- localhost:9092`

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use ottla::{Admin, ErrorCode, NewTopic, Producer, Record};

const TRACKS: &str = include_str!("../../../data/gpsraw.jsonl");

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let bootstrap = std::env::args().nth(1).unwrap_or_else(|| "localhost:9092".into());

    let admin = Admin::builder().bootstrap_servers(&bootstrap).build().await?;
    for (_, answer) in admin.create_topics(&[NewTopic::new("gpsraw").partitions(2)]).await? {
        match answer {
            Err(error) if error.code() != Some(ErrorCode::TopicAlreadyExists) => return Err(error.into()),
            _ => {}
        }
    }

    // Idempotent and acks=all, as the Java client by default: a retry writes nothing twice.
    let producer = Producer::builder()
        .bootstrap_servers(&bootstrap)
        .linger(Duration::from_millis(5))
        .build()
        .await?;
    let mut deliveries = Vec::new();
    for line in TRACKS.lines() {
        let track = track_of(line).ok_or("a line without a track")?;
        // The same key always goes to the same partition, so a track keeps its order.
        let record = Record::to("gpsraw").key(track.as_bytes()).value(line.as_bytes());
        deliveries.push((track, producer.send(record).await?));
    }

    let mut last = BTreeMap::new();
    for (track, delivery) in deliveries {
        last.insert(track, delivery.await?);
    }
    for (track, metadata) in last {
        println!(
            "{track}: partition {}, last offset {}",
            metadata.partition,
            metadata.offset.unwrap_or(-1)
        );
    }
    let closed = producer.close(Duration::from_secs(10)).await?;
    println!(
        "{} delivered, {} failed, {} unknown",
        closed.delivered, closed.failed, closed.unknown
    );
    Ok(())
}

/// The text between `"track":"` and the next quotation mark.
fn track_of(line: &str) -> Option<&str> {
    line.split_once("\"track\":\"")?.1.split('"').next()
}
