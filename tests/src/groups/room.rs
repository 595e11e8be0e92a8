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

/// What a member hears nothing for until it is taken for dead, where members die.
pub const SESSION: Duration = Duration::from_secs(3);

/// The same where none may: longer than a machine stands still.
pub const LONG_SESSION: Duration = Duration::from_secs(30);

/// Properties of the broker: members are dead after `session`, and heartbeats come often.
pub fn broker_properties(session: Duration) -> Vec<String> {
    let own = [
        "group.initial.rebalance.delay.ms=0",
        "group.min.session.timeout.ms=1000",
        "group.consumer.min.session.timeout.ms=3000",
        "group.consumer.min.heartbeat.interval.ms=300",
        "group.consumer.heartbeat.interval.ms=300",
        "group.consumer.assignment.interval.ms=0",
        "offsets.topic.num.partitions=1",
        "offsets.topic.replication.factor=1",
    ];
    let session = format!("group.consumer.session.timeout.ms={}", session.as_millis());
    own.map(str::to_owned).into_iter().chain([session]).collect()
}

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
    /// Keys for Ottla and librdkafka, which have the same. The consumer protocol has its `session` from the broker.
    pub fn config(self, session: Duration) -> Vec<(&'static str, String)> {
        let strategy = match self {
            Way::Range => "range",
            Way::CooperativeSticky => "cooperative-sticky",
            Way::Consumer => return vec![("group.protocol", "consumer".to_owned())],
        };
        vec![
            ("group.protocol", "classic".to_owned()),
            ("partition.assignment.strategy", strategy.to_owned()),
            ("session.timeout.ms", session.as_millis().to_string()),
            ("heartbeat.interval.ms", "300".to_owned()),
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
    session: Duration,
    member: PathBuf,
    partitions: i32,
}

impl Room {
    /// Starts a broker with an empty topic, and a group whose members are dead after `session`. `member` is the program
    /// of Ottla's members.
    ///
    /// # Errors
    /// When the broker does not start.
    pub fn start(
        kind: Kind,
        way: Way,
        session: Duration,
        name: &str,
        member: &str,
        partitions: i32,
    ) -> Result<Room, Failure> {
        let properties = broker_properties(session);
        let properties: Vec<&str> = properties.iter().map(String::as_str).collect();
        let broker = BrokerProcess::start(kind, name, &properties)?;
        Librdkafka::start()?.create_topic(&broker.bootstrap(), TOPIC, partitions)?;
        Ok(Room {
            broker,
            book: Book::default(),
            writer: OurWriter::new()?,
            way,
            session,
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
        let between_polls = self.session + Duration::from_secs(2);
        let own = [
            ("bootstrap.servers", self.broker.bootstrap()),
            ("group.id", GROUP.to_owned()),
            ("auto.offset.reset", "earliest".to_owned()),
            ("auto.commit.interval.ms", "500".to_owned()),
            ("max.poll.interval.ms", between_polls.as_millis().to_string()),
        ];
        let pairs = own.into_iter().chain(self.way.config(self.session));
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

    /// Waits until the partitions are shared by `members` members, each partition by one of them, and as evenly as
    /// they can be: every assignor here does that, and what is uneven is on its way.
    ///
    /// # Errors
    /// When they are not within two minutes.
    pub fn await_shared(&self, members: usize) -> Result<(), Failure> {
        let all: Vec<i32> = (0..self.partitions).collect();
        self.book.wait(&format!("{members} share all"), |book| {
            let owned = book.owned();
            let mut partitions: Vec<i32> = owned.values().flatten().copied().collect();
            partitions.sort_unstable();
            let counts = owned.values().map(|partitions| partitions.len());
            let (least, most) = (counts.clone().min().unwrap_or(0), counts.max().unwrap_or(0));
            owned.len() == members && partitions == all && most - least <= 1
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
