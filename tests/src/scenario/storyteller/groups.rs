//! The commands of consumer groups.
//!
//! In: commands to consumers with a `group.id`. Out: who reads what, what was committed, and what the application heard of
//! rebalances. Records that come while a command waits for something else are kept for the next `poll`.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ottla::{
    Consumer, ConsumerBuilder, Error, LeaveMode, OffsetAndMetadata, OwnedRecord, Rebalance, RebalanceListener,
    TopicPartition,
};
use tokio::time::Instant;

use super::super::script::{Command, escape};
use super::{Client, PATIENCE, Story, text, yes_or_no};
use crate::peer::Failure;

/// How long one of several consumers polls before it is the turn of the next one.
const TURN: Duration = Duration::from_millis(10);

/// A consumer, and what it has of its story.
pub(super) struct Reader {
    pub consumer: Consumer,
    /// Whether it has a `group.id`.
    is_member: bool,
    /// What the next `poll` tells first.
    pub kept: Vec<OwnedRecord>,
    events: Events,
}

/// What a listener heard, in order, of partitions that come and go.
#[derive(Clone, Default)]
struct Events(Arc<Mutex<Vec<Heard>>>);

/// What happened, and to which partitions.
type Heard = (&'static str, Vec<TopicPartition>);

impl Events {
    fn lock(&self) -> MutexGuard<'_, Vec<Heard>> {
        // A push is whole or not there.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hear(&self, what: &'static str, partitions: &[TopicPartition]) {
        if !partitions.is_empty() {
            self.lock().push((what, partitions.to_vec()));
        }
    }
}

impl RebalanceListener for Events {
    fn on_partitions_assigned(&self, rebalance: &Rebalance<'_>) {
        self.hear("assigned", rebalance.partitions());
    }

    fn on_partitions_revoked(&self, rebalance: &Rebalance<'_>) {
        self.hear("revoked", rebalance.partitions());
    }

    fn on_partitions_lost(&self, rebalance: &Rebalance<'_>) {
        self.hear("lost", rebalance.partitions());
    }
}

impl Reader {
    pub async fn build(builder: ConsumerBuilder, is_member: bool) -> Result<Reader, Error> {
        let events = Events::default();
        let builder = match is_member {
            true => builder.rebalance_listener(events.clone()),
            false => builder,
        };
        Ok(Reader {
            consumer: builder.build().await?,
            is_member,
            kept: vec![],
            events,
        })
    }

    /// Polls for a moment.
    async fn turn(&mut self) -> Result<(), Error> {
        match self.consumer.poll_timeout(TURN).await? {
            Some(records) => self.kept.extend(records.iter().map(|record| record.to_owned())),
            None => tokio::time::sleep(TURN).await,
        }
        Ok(())
    }

    /// Ends it; what to print of that. It stays, so that it can be used after it was closed.
    pub async fn close(&self, patience: Duration) -> Option<Result<String, Error>> {
        if !self.is_member {
            self.consumer.closer().close();
            return None;
        }
        let closed = self.consumer.finish(patience, LeaveMode::Default).await;
        let (committed, unprocessed) = (closed.committed.len(), closed.unprocessed.len());
        let finished = yes_or_no(closed.finished);
        let line = format!("closed committed={committed} unprocessed={unprocessed} finished={finished}");
        Some(closed.error.map_or(Ok(line), Err))
    }
}

impl Story {
    pub(super) async fn follow_group(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        match command.name {
            "subscribe" => self.subscribe(command),
            "unsubscribe" => {
                let outcome = self.consumer(command)?.unsubscribe().await;
                self.print_if_error(outcome);
                Ok(())
            }
            "subscription" => {
                let topics = self.consumer(command)?.subscription();
                let names = topics.iter().map(|topic| self.inside(topic).to_owned());
                let names: Vec<String> = names.collect();
                self.print(if names.is_empty() {
                    "none".to_owned()
                } else {
                    names.join(",")
                });
                Ok(())
            }
            "share" => self.share(command).await,
            "assignment" => {
                let assigned = self.consumer(command)?.assignment();
                let line = self.listed(&assigned);
                self.print(line);
                Ok(())
            }
            "events" => self.events(command).await,
            "commit" | "store_offsets" => self.commit(command).await,
            "committed" => self.committed(command).await,
            "membership" => self.membership(command),
            "enforce_rebalance" => {
                let reason = text(command.raw("reason").unwrap_or_default())?;
                let outcome = self.consumer(command)?.enforce_rebalance(&reason);
                self.print_if_error(outcome);
                Ok(())
            }
            other => Err(format!("there is no command {other}")),
        }
    }

    fn subscribe(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let outcome = if let Some(pattern) = command.raw("pattern") {
            let pattern = format!("{}{}", self.topics.replace('.', r"\."), text(pattern)?);
            self.consumer(command)?.subscribe_pattern(&pattern)
        } else {
            let names = command.needed("topics")?.split(',').filter(|name| !name.is_empty());
            let topics = names.map(|name| self.topic(name)).collect::<Result<Vec<_>, _>>()?;
            self.consumer(command)?.subscribe(topics)
        };
        self.print_if_error(outcome);
        Ok(())
    }

    /// The readers that a command names, in turn; the names are separated by `,`.
    fn readers(&mut self, names: &str) -> Result<Vec<(String, &mut Reader)>, Failure> {
        let mut found: Vec<(String, &mut Reader)> = vec![];
        for (name, client) in &mut self.clients {
            if let Client::Consumer(reader) = client
                && names.split(',').any(|wanted| wanted == name)
            {
                found.push((name.clone(), reader));
            }
        }
        match found.len() == names.split(',').count() {
            true => Ok(found),
            false => Err(format!("{names:?} are not all consumers")),
        }
    }

    async fn share(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let wanted: BTreeSet<TopicPartition> = self.partitions(command.needed("partitions")?)?.into_iter().collect();
        let mut readers = self.readers(command.client.unwrap_or_default())?;
        let deadline = Instant::now() + PATIENCE;
        let mut trouble = None;
        let shares = loop {
            let shares: Vec<Vec<TopicPartition>> =
                readers.iter().map(|(_, reader)| reader.consumer.assignment()).collect();
            // Once more, so that each has heard of what it got.
            for (_, reader) in &mut readers {
                trouble = trouble.or(reader.turn().await.err());
            }
            if is_shared(&shares, &wanted) || trouble.is_some() || Instant::now() > deadline {
                break shares;
            }
        };
        let names: Vec<String> = readers.into_iter().map(|(name, _)| name).collect();
        if let Some(error) = trouble {
            self.print_error(&error);
        } else if is_shared(&shares, &wanted) {
            let counts = names
                .iter()
                .zip(&shares)
                .map(|(name, share)| format!("{name}={}", share.len()));
            let line = counts.collect::<Vec<_>>().join(" ");
            self.print(line);
        } else {
            let has = names.iter().zip(&shares);
            let lines: Vec<String> = has
                .map(|(name, share)| format!("not shared: {name} has {}", self.listed(share)))
                .collect();
            self.printed.extend(lines);
        }
        Ok(())
    }

    async fn events(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let until: usize = command.number("until")?.unwrap_or(0);
        let mut readers = self.readers(command.client.unwrap_or_default())?;
        let (_, reader) = readers.pop().ok_or("no consumer is named")?;
        let deadline = Instant::now() + PATIENCE;
        let mut end = None;
        while reader.events.lock().len() < until && end.is_none() {
            match reader.turn().await {
                Err(error) => end = Some(Ok(error)),
                Ok(()) if Instant::now() > deadline => end = Some(Err("nothing more")),
                Ok(()) => {}
            }
        }
        let heard = std::mem::take(&mut *reader.events.lock());
        for (what, partitions) in heard {
            let line = format!("{what} {}", self.listed(&partitions));
            self.print(line);
        }
        match end {
            Some(Ok(error)) => self.print_error(&error),
            Some(Err(words)) => self.print(words),
            None => {}
        }
        Ok(())
    }

    /// The words `offset=TOPIC:PARTITION:OFFSET:METADATA`, the last part of which may be missing.
    fn offsets(&self, command: &Command<'_>) -> Result<Vec<(TopicPartition, OffsetAndMetadata)>, Failure> {
        let written = command.words.iter().filter(|(word, _)| *word == "offset");
        written
            .map(|(_, value)| {
                let unreadable = || format!("offset={value}: TOPIC:PARTITION:OFFSET:METADATA is expected");
                let parts: Vec<&str> = value.splitn(4, ':').collect();
                let [topic, partition, offset, ref words @ ..] = parts[..] else {
                    return Err(unreadable());
                };
                let partition = partition.parse().map_err(|_| unreadable())?;
                let offset = OffsetAndMetadata::new(offset.parse().map_err(|_| unreadable())?);
                let words = text(words.first().unwrap_or(&""))?;
                Ok((
                    TopicPartition::new(self.topic(topic)?, partition),
                    offset.metadata(words),
                ))
            })
            .collect()
    }

    async fn commit(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let offsets = self.offsets(command)?;
        let consumer = self.consumer(command)?;
        let outcome = match (command.name, offsets.is_empty()) {
            ("store_offsets", _) => consumer.store_offsets(offsets),
            (_, true) => consumer.commit().await,
            (_, false) => consumer.commit_offsets(offsets).await,
        };
        self.print_if_error(outcome);
        Ok(())
    }

    async fn committed(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let asked = self.partitions(command.needed("partitions")?)?;
        let found = self.consumer(command)?.committed(&asked).await;
        for (partition, offset) in self.print_if_error(found).unwrap_or_default() {
            let place = self.shown(&partition.topic, partition.partition);
            let told = match offset {
                None => "none".to_owned(),
                Some(offset) if offset.metadata.is_empty() => offset.offset.to_string(),
                Some(offset) => format!("{} metadata={}", offset.offset, escape(offset.metadata.as_bytes())),
            };
            self.print(format!("{place} committed={told}"));
        }
        Ok(())
    }

    fn membership(&mut self, command: &Command<'_>) -> Result<(), Failure> {
        let known = self.consumer(command)?.group_metadata();
        if let Some(known) = self.print_if_error(known) {
            let (group, instance) = (self.inside(&known.group_id), known.group_instance_id.as_deref());
            let line = format!(
                "group={group} instance={} member={} generation={}",
                instance.unwrap_or("none"),
                yes_or_no(!known.member_id.is_empty()),
                yes_or_no(known.generation_id >= 0)
            );
            self.print(line);
        }
        Ok(())
    }

    /// Partitions in order, as the scenario calls them.
    fn listed(&self, partitions: &[TopicPartition]) -> String {
        let mut sorted = partitions.to_vec();
        sorted.sort();
        let shown: Vec<String> = sorted.iter().map(|of| self.shown(&of.topic, of.partition)).collect();
        if shown.is_empty() {
            "none".to_owned()
        } else {
            shown.join(",")
        }
    }
}

/// Whether each of these partitions has one reader, and nobody has two more than another.
fn is_shared(shares: &[Vec<TopicPartition>], wanted: &BTreeSet<TopicPartition>) -> bool {
    let counts = shares.iter().map(Vec::len);
    let (least, most) = (counts.clone().min().unwrap_or(0), counts.clone().max().unwrap_or(0));
    let all: BTreeSet<TopicPartition> = shares.iter().flatten().cloned().collect();
    all == *wanted && counts.sum::<usize>() == wanted.len() && most - least <= 1
}
