//! The readers of the demonstration: a group of two, of which one leaves in the middle.
//!
//! In: a cluster, and how many points are to come. Out: what came, by track, in the order in which it was read. Each member has a
//! partition before anything is written. The second one leaves after its first hundred records: what it has read is committed, and
//! the first one goes on behind it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ottla::{Admin, Closer, Consumer, ConsumerRecords, Rebalance, RebalanceListener, TopicPartition};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::{PARTITIONS, TOPIC, Track, millis};
use crate::output::say;
use crate::summary::{counted, grouped};
use crate::{Failure, Outcome};

const GROUP: &str = "maps";
const NAMES: [&str; 2] = ["a", "b"];
/// The number of the member that leaves.
const LEAVER: usize = 1;
/// What it reads before.
const BEFORE_LEAVING: usize = 100;
/// How long the next thing may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long a member may take to leave.
const LEAVING: Duration = Duration::from_secs(10);

/// What a member tells; the number is its place in [`NAMES`].
enum Told {
    Assigned(usize, Vec<TopicPartition>),
    GivenUp(usize, Vec<TopicPartition>),
    Read(usize, ConsumerRecords),
    /// It is gone, with its offsets committed; or it failed.
    Left(Result<(), Failure>),
}

/// Passes a member's rebalances on.
struct Listener(usize, mpsc::UnboundedSender<Told>);

impl RebalanceListener for Listener {
    fn on_partitions_assigned(&self, rebalance: &Rebalance<'_>) {
        // Nobody listens any more once all is read.
        let _ = self.1.send(Told::Assigned(self.0, rebalance.partitions().to_vec()));
    }

    fn on_partitions_revoked(&self, rebalance: &Rebalance<'_>) {
        let _ = self.1.send(Told::GivenUp(self.0, rebalance.partitions().to_vec()));
    }
}

/// The group, and what it has read.
pub struct Group {
    told: mpsc::UnboundedReceiver<Told>,
    closers: Vec<Closer>,
    tasks: Vec<JoinHandle<()>>,
    held: [BTreeSet<TopicPartition>; 2],
    tracks: BTreeMap<String, Track>,
    read: [u64; 2],
    /// What the leaver had when it began to leave, and when that was; not any more once the other has it.
    taken_over: Option<(BTreeSet<TopicPartition>, Instant)>,
}

impl Group {
    /// Two members, each with a partition.
    pub async fn join(bootstrap: &str) -> Result<Group, Failure> {
        let started = Instant::now();
        let (telling, told) = mpsc::unbounded_channel();
        let mut group = Group {
            told,
            closers: Vec::new(),
            tasks: Vec::new(),
            held: Default::default(),
            tracks: BTreeMap::new(),
            read: [0, 0],
            taken_over: None,
        };
        for number in 0..NAMES.len() {
            let consumer = member(bootstrap, number, telling.clone()).await?;
            group.closers.push(consumer.closer());
            group.tasks.push(tokio::spawn(read(consumer, number, telling.clone())));
        }
        while group.held.iter().any(|held| held.len() != 1) {
            let told = group.next("the two members did not share the partitions").await?;
            group.take_in(told)?;
        }
        let shares: Vec<String> = NAMES
            .iter()
            .zip(&group.held)
            .map(|(name, held)| format!("{name} has {}", listed(held)))
            .collect();
        say!(
            "group       {GROUP}: {}, after {:.0} ms",
            shares.join(", "),
            millis(started)
        );
        Ok(group)
    }

    /// Reads until `expected` points are there and both members have left.
    pub async fn consume(mut self, expected: usize) -> Result<BTreeMap<String, Track>, Failure> {
        let started = Instant::now();
        while self.count() < expected as u64 {
            let told = self
                .next(&format!("of {expected} points some did not come back"))
                .await?;
            self.take_in(told)?;
        }
        let elapsed = millis(started);
        // What comes after all that was sent would be doubled; it is heard before the members are gone.
        self.closers.iter().for_each(Closer::close);
        for task in std::mem::take(&mut self.tasks) {
            task.await?;
        }
        while let Ok(told) = self.told.try_recv() {
            self.take_in(told)?;
        }
        let shares = NAMES
            .iter()
            .zip(self.read)
            .map(|(name, read)| format!("{} by {name}", grouped(read)));
        say!(
            "consumed    {} in {elapsed:.0} ms: {}",
            counted(self.count(), "point"),
            shares.collect::<Vec<_>>().join(", ")
        );
        Ok(self.tracks)
    }

    fn count(&self) -> u64 {
        self.read.iter().sum()
    }

    async fn next(&mut self, otherwise: &str) -> Result<Told, Failure> {
        let told = tokio::time::timeout(PATIENCE, self.told.recv()).await;
        told.ok().flatten().ok_or_else(|| Failure::new(otherwise))
    }

    fn take_in(&mut self, told: Told) -> Outcome {
        match told {
            Told::Assigned(number, partitions) => {
                if let Some(held) = self.held.get_mut(number) {
                    held.extend(partitions);
                }
                self.notice_take_over();
            }
            Told::GivenUp(number, partitions) => {
                // Before the first record partitions only find their members.
                let leaves = number == LEAVER && self.count() > 0;
                if let Some(held) = self.held.get_mut(number) {
                    if leaves {
                        self.taken_over = Some((held.clone(), Instant::now()));
                    }
                    held.retain(|partition| !partitions.contains(partition));
                }
            }
            Told::Read(number, records) => {
                if let Some(read) = self.read.get_mut(number) {
                    *read += records.len() as u64;
                }
                self.keep(&records);
            }
            Told::Left(left) => left?,
        }
        Ok(())
    }

    fn notice_take_over(&mut self) {
        let [stays, leaves] = &self.held;
        if let Some((partitions, since)) = &self.taken_over
            && leaves.is_empty()
            && partitions.is_subset(stays)
        {
            say!(
                "taken over  b left after {}, a goes on with {} {:.0} ms later",
                counted(self.read[LEAVER], "point"),
                listed(partitions),
                millis(*since)
            );
            self.taken_over = None;
        }
    }

    fn keep(&mut self, records: &ConsumerRecords) {
        let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
        for record in records {
            let track = self.tracks.entry(text(record.key())).or_default();
            track.lines.push(text(record.value()));
            if !track.partitions.contains(&record.partition()) {
                track.partitions.push(record.partition());
            }
        }
    }
}

async fn member(bootstrap: &str, number: usize, telling: mpsc::UnboundedSender<Told>) -> Result<Consumer, Failure> {
    let builder = Consumer::builder()
        .bootstrap_servers(bootstrap)
        .client_id(NAMES.get(number).copied().unwrap_or_default())
        .group_id(GROUP)
        .topics([TOPIC])
        .auto_offset_reset("earliest")
        // A member hears of the others' comings and goings by its heartbeats; a demonstration does not wait 3 seconds for one.
        .set("heartbeat.interval.ms", 50)
        // One by one where they are counted: how many a poll gives depends on how they were written.
        .max_poll_records(if number == LEAVER { 1 } else { 100 })
        .rebalance_listener(Listener(number, telling));
    Ok(builder.build().await?)
}

/// Reads until it is closed; the leaver no more than it reads before it leaves.
async fn read(mut consumer: Consumer, number: usize, telling: mpsc::UnboundedSender<Told>) {
    let mut seen = 0;
    let outcome = loop {
        match consumer.poll().await {
            Ok(None) => break Ok(()),
            Err(error) => break Err(Failure::from(error)),
            Ok(Some(records)) => {
                let stored = consumer.store_records(&records);
                seen += records.len();
                let _ = telling.send(Told::Read(number, records));
                match stored {
                    Ok(()) if number == LEAVER && seen >= BEFORE_LEAVING => break Ok(()),
                    Ok(()) => {}
                    Err(error) => break Err(Failure::from(error)),
                }
            }
        }
    };
    let closed = consumer.close(LEAVING).await;
    let left = outcome.and_then(|()| match closed.error {
        Some(error) => Err(Failure::from(error)),
        None if closed.finished => Ok(()),
        None => Err(Failure::new("a member could not leave the group in time")),
    });
    let _ = telling.send(Told::Left(left));
}

/// The group has committed the end of each partition: it would go on with the next record, and read none again.
pub async fn check_committed(admin: &Admin) -> Outcome {
    let lags = admin.consumer_group_lag(GROUP).await?;
    for (partition, lag) in &lags {
        if lag.lag != Some(0) {
            return Err(Failure::new(format!(
                "group {GROUP} has committed less of {partition} than it has read: {lag:?}"
            )));
        }
    }
    say!("committed   {} of {PARTITIONS} partitions to their ends", lags.len());
    Ok(())
}

fn listed(partitions: &BTreeSet<TopicPartition>) -> String {
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    names.join(" and ")
}
