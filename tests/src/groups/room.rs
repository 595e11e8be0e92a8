//! A broker, a topic that is written to, and members of one group that read it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ottla::Admin;

use super::history::{Verdict, judge};
use super::processes::{Book, Members};
use crate::peer::Failure;
use crate::peer::broker_process::{BrokerProcess, Kind};
use crate::peer::librdkafka::Librdkafka;
use crate::peer::ours::{OurWriter, runtime};
use crate::place;

/// The name of the group.
pub const GROUP: &str = "crowd";
/// The name of the topic.
pub const TOPIC: &str = "numbers";

/// What a member hears nothing for until it is taken for dead.
pub const SESSION: Duration = Duration::from_secs(3);

/// Properties of the broker: dead members are noticed within seconds, and heartbeats come often.
pub const BROKER: [&str; 9] = [
    "group.initial.rebalance.delay.ms=0",
    "group.min.session.timeout.ms=1000",
    "group.consumer.min.session.timeout.ms=3000",
    "group.consumer.session.timeout.ms=3000",
    "group.consumer.min.heartbeat.interval.ms=300",
    "group.consumer.heartbeat.interval.ms=300",
    "group.consumer.assignment.interval.ms=0",
    "offsets.topic.num.partitions=1",
    "offsets.topic.replication.factor=1",
];

/// How members of the group find together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The classic protocol: everybody gives up everything.
    Range,
    /// The classic protocol: only what moves is given up.
    CooperativeSticky,
    /// The consumer protocol (KIP-848).
    Consumer,
}

impl Way {
    /// Keys for Ottla and librdkafka, which have the same.
    pub fn config(self) -> Vec<(&'static str, &'static str)> {
        let strategy = match self {
            Way::Range => "range",
            Way::CooperativeSticky => "cooperative-sticky",
            Way::Consumer => return vec![("group.protocol", "consumer")],
        };
        vec![
            ("group.protocol", "classic"),
            ("partition.assignment.strategy", strategy),
            ("session.timeout.ms", "3000"),
            ("heartbeat.interval.ms", "300"),
        ]
    }
}

/// The room.
pub struct Room {
    /// The broker.
    pub broker: BrokerProcess,
    /// What members wrote.
    pub book: Book,
    /// Writes to the topic.
    pub writer: OurWriter,
    way: Way,
    member: PathBuf,
    partitions: i32,
}

impl Room {
    /// Starts a broker with an empty topic. `member` is the program of Ottla's members.
    ///
    /// # Errors
    /// When the broker does not start.
    pub fn start(kind: Kind, way: Way, name: &str, member: &str, partitions: i32) -> Result<Room, Failure> {
        let broker = BrokerProcess::start(kind, name, &BROKER)?;
        Librdkafka::start()?.create_topic(&broker.bootstrap(), TOPIC, partitions)?;
        Ok(Room {
            broker,
            book: Book::default(),
            writer: OurWriter::new()?,
            way,
            member: Path::new(member).to_path_buf(),
            partitions,
        })
    }

    /// Begins to write.
    pub fn write(&mut self) {
        self.writer.begin(&self.broker.bootstrap(), TOPIC, self.partitions);
    }

    /// What every member is configured with, Ottla's and librdkafka's.
    pub fn config(&self) -> Vec<String> {
        let bootstrap = self.broker.bootstrap();
        let own = [
            ("bootstrap.servers", &*bootstrap),
            ("group.id", GROUP),
            ("auto.offset.reset", "earliest"),
            ("auto.commit.interval.ms", "500"),
            ("max.poll.interval.ms", "5000"),
        ];
        let pairs = own.into_iter().chain(self.way.config());
        pairs.map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// A process with one of Ottla's members, or several (`member.count=`).
    ///
    /// # Errors
    /// When it does not start.
    pub fn join(&self, name: &str, more: &[&str]) -> Result<Members, Failure> {
        let mut command = Command::new(&self.member);
        command.args([name, TOPIC]).args(self.config());
        command
            .args(["fetch.max.wait.ms=100", "reconnect.backoff.max.ms=300"])
            .args(more);
        Members::start(name, &mut command, &self.book)
    }

    /// Ends the writing, waits until everything is read, and tells where the partitions end.
    ///
    /// # Errors
    /// When a record was not written, or not all are read within two minutes.
    pub fn drain(&mut self) -> Result<Vec<i64>, Failure> {
        let told = self.writer.end()?;
        if let Some(number) = told.failed.iter().chain(&told.refused).next() {
            return Err(format!("record {number} was not written"));
        }
        let mut ends = vec![0; self.partitions as usize];
        for (partition, ..) in told.acked {
            ends[partition as usize] += 1;
        }
        self.await_read(&ends)?;
        Ok(ends)
    }

    /// Waits until everything before `ends` is read.
    ///
    /// # Errors
    /// When it is not within two minutes.
    pub fn await_read(&self, ends: &[i64]) -> Result<(), Failure> {
        self.book.wait("all is read", |book| book.read(ends.len()) == ends)
    }

    /// Waits until the partitions are shared by `members` members, each partition by one of them.
    ///
    /// # Errors
    /// When they are not within two minutes.
    pub fn await_shared(&self, members: usize) -> Result<(), Failure> {
        let all: Vec<i32> = (0..self.partitions).collect();
        self.book.wait(&format!("{members} share all"), |book| {
            let owned = book.owned();
            let mut partitions: Vec<i32> = owned.values().flatten().copied().collect();
            partitions.sort_unstable();
            owned.len() == members && partitions == all
        })
    }

    /// What the group has committed, a fresh client asking.
    ///
    /// # Errors
    /// When the broker does not tell.
    pub fn committed(&self) -> Result<Vec<i64>, Failure> {
        let by_partition = committed(&self.broker.bootstrap(), GROUP)?;
        let offset = |partition| by_partition.get(&partition).copied().unwrap_or(0);
        Ok((0..self.partitions).map(offset).collect())
    }

    /// The verdict, printed. The history of a group with a fault is left beside the test's data directories.
    pub fn judge(&self, name: &str, ends: &[i64]) -> Verdict {
        let lines = self.book.lines();
        let verdict = judge(&lines, ends);
        println!("{name}: {verdict}");
        if !verdict.is_clean() {
            let path = place::target().join(format!("{name}.history"));
            let text: String = lines.iter().map(|line| format!("{line:?}\n")).collect();
            println!(
                "{name}: {} has the history ({:?})",
                path.display(),
                std::fs::write(&path, text)
            );
        }
        verdict
    }
}

/// What a group has committed of [`TOPIC`], by partition.
///
/// # Errors
/// When the broker does not tell.
pub fn committed(bootstrap: &str, group: &str) -> Result<BTreeMap<i32, i64>, Failure> {
    let asking = async {
        let admin = Admin::builder().bootstrap_servers(bootstrap).build().await?;
        let known = admin.list_consumer_group_offsets(group, false).await?;
        admin.close().await;
        Ok(known)
    };
    let known = runtime()?
        .block_on(asking)
        .map_err(|error: ottla::Error| error.to_string())?;
    let ours = known.into_iter().filter(|(partition, _)| &*partition.topic == TOPIC);
    Ok(ours
        .map(|(partition, committed)| (partition.partition, committed.offset))
        .collect())
}
