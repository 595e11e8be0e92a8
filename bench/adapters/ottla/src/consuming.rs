//! Consuming: as many records as were asked for, of assigned partitions or as a member of a group, which commits what it read.

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use ottla::{ConsumerBuilder, ConsumerRecords, Rebalance, RebalanceListener, TopicPartition, blocking};

use crate::{Outcome, arg, cpu_seconds, num, print};

/// A consumer of all partitions from their beginning.
pub fn assigned() -> ConsumerBuilder {
    let (topic, partitions) = (arg("topic", "t"), arg("partitions", "1").parse().unwrap_or(1));
    settings().assign((0..partitions).map(|partition| TopicPartition::new(topic.as_str(), partition)))
}

fn settings() -> ConsumerBuilder {
    ottla::Consumer::builder()
        .bootstrap_servers(arg("bootstrap", "127.0.0.1:9092"))
        .auto_offset_reset("earliest")
}

pub async fn consume() -> Outcome {
    let mut reading = Reading::begin()?;
    let mut consumer = reading.builder().build().await?;
    while reading.wants_more() {
        let Some(records) = consumer.poll().await? else { break };
        reading.take_in(&records);
    }
    reading.all_read();
    if reading.in_group {
        consumer.commit().await?;
    }
    reading.tell()?;
    consumer.close(Duration::from_secs(10)).await;
    Ok(())
}

pub fn consume_blocking() -> Outcome {
    let mut reading = Reading::begin()?;
    let mut consumer = blocking::ConsumerBuilder::from(reading.builder()).build()?;
    while reading.wants_more() {
        let Some(records) = consumer.poll()? else { break };
        reading.take_in(&records);
    }
    reading.all_read();
    if reading.in_group {
        consumer.commit()?;
    }
    reading.tell()?;
    consumer.close(Duration::from_secs(10))?;
    Ok(())
}

/// When the group first assigned partitions.
#[derive(Clone, Default)]
struct Joined(Arc<OnceLock<Instant>>);

impl RebalanceListener for Joined {
    fn on_partitions_assigned(&self, rebalance: &Rebalance<'_>) {
        if !rebalance.partitions().is_empty() {
            self.0.get_or_init(Instant::now);
        }
    }
}

/// A run, and what it has read so far.
struct Reading {
    in_group: bool,
    wanted: usize,
    got: usize,
    bytes: usize,
    cpu: f64,
    start: Instant,
    joined: Joined,
    first: Option<Instant>,
    last: Option<Instant>,
}

impl Reading {
    fn begin() -> Result<Reading, std::num::ParseIntError> {
        Ok(Reading {
            in_group: arg("assign", "0") != "1",
            wanted: num("messages", "1000000")?,
            got: 0,
            bytes: 0,
            cpu: cpu_seconds(),
            start: Instant::now(),
            joined: Joined::default(),
            first: None,
            last: None,
        })
    }

    fn builder(&self) -> ConsumerBuilder {
        if !self.in_group {
            return assigned();
        }
        let topic = arg("topic", "t");
        settings()
            .group_id(arg("group", &topic))
            .topics([topic])
            .rebalance_listener(self.joined.clone())
    }

    fn wants_more(&self) -> bool {
        self.got < self.wanted
    }

    fn take_in(&mut self, records: &ConsumerRecords) {
        self.first.get_or_insert_with(Instant::now);
        for record in records {
            self.got += 1;
            self.bytes += record.value().map_or(0, <[u8]>::len);
        }
    }

    fn all_read(&mut self) {
        self.last = Some(Instant::now());
    }

    fn tell(&self) -> Outcome {
        let (cpu, now) = (cpu_seconds() - self.cpu, Instant::now());
        let (Some(first), Some(last)) = (self.first, self.last) else {
            return Err("nothing came".into());
        };
        let since_start = |at: Instant| (at - self.start).as_secs_f64();
        let (messages, bytes, seconds, join) = (self.got, self.bytes, (last - first).as_secs_f64(), since_start(first));
        let mut fields = format!(
            "\"messages\":{messages},\"bytes\":{bytes},\"seconds\":{seconds:.6},\"join_s\":{join:.6},\"cpu_s\":{cpu:.6}"
        );
        if let Some(assigned) = self.joined.0.get() {
            let commit = (now - last).as_secs_f64();
            fields += &format!(",\"assigned_s\":{:.6},\"commit_s\":{commit:.6}", since_start(*assigned));
        }
        print(&fields);
        Ok(())
    }
}
