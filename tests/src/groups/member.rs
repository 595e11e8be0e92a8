//! Ottla's member of a group, which writes down what happens to it ([`super::history`]).
//!
//! In: a name, a topic, pairs of configuration. Out: lines. Several lives may run in one process, one after another and side
//! by side; each has a name of its own. What a record is "processed" by is that its line is written: whoever is killed has
//! processed what its lines say.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ottla::{Consumer, ConsumerEvent, ConsumerRecords, TopicPartition};
use tokio::sync::watch;

use crate::rng::Rng;

/// How a process of members behaves. Pairs that begin with `member.` are for it, all others for the consumers.
#[derive(Clone, Debug)]
pub struct Plan {
    /// What the names of its lives begin with.
    pub name: String,
    /// The topic to subscribe to.
    pub topic: String,
    /// Keys of Kafka's configuration.
    pub config: Vec<(String, String)>,
    /// `member.count`: members side by side. Default 1.
    pub count: u64,
    /// `member.life.ms`: how long one lives at most; 0, the default, is until the end of standard input.
    pub life_ms: u64,
    /// `member.work.ms`: how long the records of a poll take at most, before and after they are processed. Default 0.
    pub work_ms: u64,
    /// `member.seed`.
    pub seed: u64,
}

impl Plan {
    /// `NAME TOPIC KEY=VALUE...`
    ///
    /// # Errors
    /// What is wrong with the arguments.
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Plan, String> {
        let (Some(name), Some(topic)) = (arguments.next(), arguments.next()) else {
            return Err("usage: member NAME TOPIC KEY=VALUE...".to_owned());
        };
        let mut plan = Plan {
            name,
            topic,
            config: vec![],
            count: 1,
            life_ms: 0,
            work_ms: 0,
            seed: 1,
        };
        for pair in arguments {
            let (key, value) = pair.split_once('=').ok_or_else(|| format!("{pair} is not KEY=VALUE"))?;
            let number = || value.parse().map_err(|_| format!("{pair}: not a number"));
            match key {
                "member.count" => plan.count = number()?,
                "member.life.ms" => plan.life_ms = number()?,
                "member.work.ms" => plan.work_ms = number()?,
                "member.seed" => plan.seed = number()?,
                _ => plan.config.push((key.to_owned(), value.to_owned())),
            }
        }
        Ok(plan)
    }
}

/// Runs all lives of the plan until `stop` says true.
pub async fn run(plan: Plan, stop: watch::Receiver<bool>) {
    let places: Vec<_> = (0..plan.count)
        .map(|place| tokio::spawn(lives(plan.clone(), place, stop.clone())))
        .collect();
    for place in places {
        let _ = place.await;
    }
}

async fn lives(plan: Plan, place: u64, mut stop: watch::Receiver<bool>) {
    let mut rng = Rng::new(plan.seed.wrapping_mul(1000) + place);
    for number in 0.. {
        let name = format!("{}.{place}.{number}", plan.name);
        let life = match plan.life_ms {
            0 => None,
            most => Some(Duration::from_millis(most / 4 + rng.below(most * 3 / 4))),
        };
        if let Err(error) = live(&plan, &name, life, &mut rng, stop.clone()).await {
            say(&name, &format!("error {error}"));
        }
        // A while without it, so that joining and leaving take turns; also after an error.
        let pause = tokio::time::sleep(Duration::from_millis(100 + rng.below(400)));
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            () = pause => {}
        }
    }
}

async fn live(
    plan: &Plan,
    name: &str,
    life: Option<Duration>,
    rng: &mut Rng,
    mut stop: watch::Receiver<bool>,
) -> ottla::Result<()> {
    let mut builder = Consumer::builder()
        .client_id(name)
        .rebalance_events(true)
        .topics([&*plan.topic]);
    for (key, value) in &plan.config {
        builder = builder.set(key, value);
    }
    let mut consumer = builder.build().await?;
    let end = async {
        match life {
            Some(life) => tokio::time::sleep(life).await,
            None => std::future::pending().await,
        }
    };
    tokio::pin!(end);
    loop {
        // The poll that loses is dropped: it must lose nothing by that.
        let polled = tokio::select! {
            _ = stop.wait_for(|stop| *stop) => break,
            () = &mut end => break,
            polled = consumer.poll() => polled,
        };
        match polled {
            Ok(None) => break,
            Ok(Some(records)) => process(plan, name, &consumer, &records, rng).await,
            Err(error) => say(name, &format!("error {error}")),
        }
        take_events(name, &consumer);
    }
    // All that was handed over is processed; and with that known, it leaves.
    if let Err(error) = consumer.commit().await {
        say(name, &format!("refused {error}"));
    }
    take_events(name, &consumer);
    say(name, "leaving");
    let closed = consumer.close(Duration::from_secs(10)).await;
    let done = closed.finished && closed.error.is_none();
    say(name, &format!("left {done}"));
    Ok(())
}

async fn process(plan: &Plan, name: &str, consumer: &Consumer, records: &ConsumerRecords, rng: &mut Rng) {
    if records.is_empty() {
        return;
    }
    work(plan, rng).await;
    for run in records.runs() {
        let offsets: Vec<i64> = run.iter().map(|record| record.offset()).collect();
        if let (Some(first), Some(last)) = (offsets.first(), offsets.last()) {
            let partition = run.topic_partition().partition;
            say(name, &format!("read {partition} {first} {}", last + 1));
        }
    }
    work(plan, rng).await;
    if rng.below(4) == 0 {
        let begun = now();
        match consumer.commit_records(records).await {
            Ok(()) => {
                for (partition, offset) in records.next_offsets() {
                    say(name, &format!("committed {begun} {} {offset}", partition.partition));
                }
            }
            Err(error) => say(name, &format!("refused {error}")),
        }
    }
}

async fn work(plan: &Plan, rng: &mut Rng) {
    if plan.work_ms > 0 {
        tokio::time::sleep(Duration::from_millis(rng.below(plan.work_ms))).await;
    }
}

fn take_events(name: &str, consumer: &Consumer) {
    while let Some(event) = consumer.try_event() {
        match event {
            ConsumerEvent::Assigned(partitions) => say(name, &format!("assigned {}", list(&partitions))),
            ConsumerEvent::Lost(partitions, _) => say(name, &format!("lost {}", list(&partitions))),
            ConsumerEvent::CommitFailed(error) => say(name, &format!("refused {error}")),
            ConsumerEvent::Revoked(partitions) => {
                say(name, &format!("revoked {}", list(&partitions)));
                if let Err(error) = consumer.acknowledge_revocation() {
                    say(name, &format!("error {error}"));
                }
            }
            _ => {}
        }
    }
}

fn list(partitions: &[TopicPartition]) -> String {
    match partitions {
        [] => "-".to_owned(),
        _ => {
            let numbers: Vec<String> = partitions.iter().map(|known| known.partition.to_string()).collect();
            numbers.join(",")
        }
    }
}

/// Microseconds since 1970: members of several processes have no other clock in common.
pub fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| since.as_micros() as u64)
}

fn say(name: &str, words: &str) {
    let line = format!("{} {name} {}\n", now(), words.replace('\n', " "));
    // A driver that is gone needs no history.
    let _ = std::io::stdout().lock().write_all(line.as_bytes());
}
