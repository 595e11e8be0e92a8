//! Reads the topic `gpsraw` and keeps the positions itself, beside its result: `manual BOOTSTRAP FILE`.
//!
//! Both are in one file that is replaced as a whole, so no point is counted twice or left out, whenever this program ends.
//! A database does the same with one transaction. Run it again: it goes on there.

use std::collections::BTreeMap;
use std::error::Error;
use std::time::Duration;

use ottla::{Consumer, TopicPartition};

/// For each partition the next offset, and the points counted so far.
type Counted = BTreeMap<i32, (i64, u64)>;

/// `None` if there is no file, or it is none of ours.
fn load(file: &str) -> Option<Counted> {
    let text = std::fs::read_to_string(file).ok()?;
    let read = |line: &str| {
        let mut words = line.split(' ');
        let partition = words.next()?.parse().ok()?;
        Some((partition, (words.next()?.parse().ok()?, words.next()?.parse().ok()?)))
    };
    text.lines().map(read).collect()
}

fn save(file: &str, counted: &Counted) -> std::io::Result<()> {
    let line = |(partition, (next, points)): (&i32, &(i64, u64))| format!("{partition} {next} {points}\n");
    std::fs::write(format!("{file}.new"), counted.iter().map(line).collect::<String>())?;
    std::fs::rename(format!("{file}.new"), file)
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [bootstrap, file] = &arguments[..] else {
        return Err("usage: manual BOOTSTRAP FILE".into());
    };
    let mut counted = load(file).unwrap_or_default();
    let before: u64 = counted.values().map(|(_, points)| points).sum();
    let builder = Consumer::builder().bootstrap_servers(bootstrap);
    let mut consumer = builder.auto_offset_reset("earliest").build().await?;
    consumer.assign(&consumer.partitions_for("gpsraw").await?)?;
    for (partition, (next, _)) in &counted {
        consumer.seek(&TopicPartition::new("gpsraw", *partition), *next)?;
    }
    // Silence for two seconds ends this program; a service would simply go on polling.
    while let Some(records) = consumer.poll_timeout(Duration::from_secs(2)).await? {
        if records.is_empty() {
            break;
        }
        for record in &records {
            let (next, points) = counted.entry(record.partition()).or_default();
            (*next, *points) = (record.offset() + 1, *points + 1);
        }
        save(file, &counted)?;
    }
    let all: u64 = counted.values().map(|(_, points)| points).sum();
    println!("{} points more, {all} in all", all - before);
    Ok(())
}
