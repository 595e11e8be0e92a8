//! Reading records.
//!
//! A [`Consumer`] reads the partitions that it assigned to itself, or that its group assigned to it. Fetchers in the
//! background keep a bounded buffer filled; [`Consumer::poll`] takes from it. Positions move when records are handed over
//! and never otherwise, so dropping a poll loses nothing. Offsets are committed when the records before them are
//! processed. It does not serialize.
//!
//! | room | knows |
//! |---|---|
//! | `fetcher`, `absorb`, `fetch_buffer` | how records get here, within one budget |
//! | `decode`, `records`, `handover` | how bytes become records in the application's hands |
//! | `offsets`, `lookups` | where partitions begin and end |
//! | `group`, `coordinator`, `member` | the place in a group: what is shared, who drives it, what goes over the wire |
//! | `rebalance`, `subscribing`, `pattern` | what an application says to its group, and hears of it |
//! | `stored`, `commits`, `committed` | what is processed, when it is committed, how it goes over the wire |
//! | `progress`, `closing` | why nothing moves; how it ends |
//! | `processed` | records of one partition in several hands |

mod absorb;
mod builder;
mod closing;
mod commits;
mod committed;
mod coordinator;
mod decode;
mod fetch_buffer;
mod fetch_line;
mod fetcher;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod group;
mod handover;
mod lookups;
mod member;
mod offsets;
mod pattern;
mod processed;
mod progress;
mod rebalance;
mod records;
mod subscribing;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use ottla_client_state::TopicPartition;
use ottla_client_state::backoff::Backoff;
use ottla_client_state::subscription::{SubscriptionState, Target};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Client;
use crate::config::{ConsumerConfig, Properties};
use crate::error::{Error, ErrorKind, Result};
use decode::DecodeOptions;
use fetcher::{Shared, State};
use group::{Group, Interest};
use handover::Reader;

pub use builder::ConsumerBuilder;
pub use closing::ConsumerClosed;
pub use commits::Committing;
pub(crate) use committed::{Committer, commit, fetch_all_committed, moves_coordinator};
pub use offsets::ListedOffset;
pub(crate) use offsets::{EARLIEST, LATEST, Queries, list_offsets_until};
pub use ottla_client_state::commit::OffsetAndMetadata;
pub use processed::ProcessedOffsets;
pub use progress::{ConsumerHealth, GroupHealth, PartitionProgress, PartitionState};
pub use rebalance::{ConsumerEvent, Rebalance, RebalanceListener};
pub use records::{ConsumerRecord, ConsumerRecords, HandedOffset, Iter, OwnedHeader, OwnedRecord, RecordRun};
pub use subscribing::ConsumerGroupMetadata;

/// Reads records: of partitions that it assigns to itself, or as a member of a group, which shares the partitions of topics
/// among its members and remembers how far each one is.
///
/// # Promises
/// - The records of a partition come in the order of their offsets, each once, as long as nobody seeks.
/// - A position moves only when records are handed over; dropping a poll loses none.
/// - No more than `fetch.buffer.memory` bytes wait for poll, but for a single batch larger than its fetch.
/// - When a position has to be reset (`auto.offset.reset`), the log says so.
/// - When a leader lost records that were read already (KIP-320; brokers since 2.7 tell), the partition goes on where its
///   log and what was read part, and the log says so; without a policy that is [`ErrorKind::LogTruncated`].
/// - An offset is committed only when the records before it are processed: at least once, unless the application commits
///   earlier. A poll says that what earlier polls handed over is processed.
/// - Partitions that the group gives to others are committed first, and nothing of them is handed over any more.
/// - Who was taken for dead overwrites nothing: its late commits are refused and told ([`ErrorKind::Fenced`]), and that the
///   membership was lost is an error of one poll.
/// - [`Consumer::close`] returns by its deadline, whatever the network does.
///
/// # Dangers
/// - Without a poll for `max.poll.interval.ms` the partitions go to others; see [`Consumer::extend_poll`].
/// - Without a consumer group nobody remembers the positions: keep [`ConsumerRecords::next_offsets`] and
///   [`Consumer::seek`] there after a restart.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    /// Whoever hands records over holds this; so two at once never mix the order.
    reader: Mutex<Reader>,
    arrived: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
}

impl Consumer {
    /// Collects a configuration.
    pub fn builder() -> ConsumerBuilder {
        ConsumerBuilder::new()
    }

    /// A builder with the keys of a properties file or of pairs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: an unreadable file, an unknown key, a value that does not fit.
    pub fn from_properties(properties: impl Into<Properties>) -> Result<ConsumerBuilder> {
        ConsumerBuilder::from_properties(properties)
    }

    async fn connect(config: ConsumerConfig, group: Option<Group>) -> Result<Consumer> {
        let client = Client::connect(config.client.clone()).await?;
        let retry = &config.client;
        let backoff = Backoff::new(retry.retry_backoff_ms, retry.retry_backoff_max_ms, rand::random());
        let mut subscription = SubscriptionState::new(config.auto_offset_reset, backoff);
        if group.is_some() {
            subscription = subscription.from_committed();
        }
        let options = DecodeOptions {
            check_crcs: config.check_crcs,
            max_decompressed_bytes: config.decompressed_batch_max_bytes,
        };
        let shared = Shared::new(client, config, subscription, group);
        tokio::spawn(fetcher::direct(shared.clone()));
        tokio::spawn(progress::watch(shared.clone()));
        closing::start_group(&shared);
        let (arrived, closed) = (shared.arrived.subscribe(), shared.closed.subscribe());
        Ok(Consumer {
            shared,
            reader: Mutex::new(Reader::new(options)),
            arrived,
            closed,
        })
    }

    /// Reads exactly these partitions from now on. Those assigned before keep their positions; new ones start by
    /// `auto.offset.reset` unless a seek says otherwise.
    ///
    /// With a `group.id` new ones start where the group has committed, and commits work, but the group has no say in who
    /// reads what: see [`Consumer::subscribe`] for that. Does not wait. That a topic or partition does not exist is told by
    /// a later [`Consumer::poll`].
    ///
    /// # Errors
    /// A negative partition, the consumer is subscribed to topics, or is closed.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.check_open()?;
        if let Some(bad) = partitions
            .iter()
            .find(|partition| partition.partition < 0 || partition.topic.is_empty())
        {
            return Err(Error::new(ErrorKind::Argument, format!("{bad} is not a partition")));
        }
        if let Some(group) = &self.shared.group {
            let mut state = group.lock();
            if state.is_member() {
                let text = "the consumer is subscribed, so its group assigns partitions; unsubscribe first";
                return Err(Error::new(ErrorKind::Argument, text));
            }
            state.interest = match partitions {
                [] => Interest::None,
                _ => Interest::Manual,
            };
        }
        self.shared.lock().subscription.assign(partitions);
        self.shared
            .client
            .set_topics(partitions.iter().map(|partition| &*partition.topic));
        self.shared.stir();
        // A partition without a place is told of by the next poll.
        self.shared.arrived();
        Ok(())
    }

    /// The partitions that are assigned, in order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.shared.lock().subscription.assigned().cloned().collect()
    }

    /// Goes on at `offset`. What was fetched from elsewhere is dropped.
    ///
    /// # Errors
    /// The partition is not assigned, or the offset is negative.
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<()> {
        self.check_open()?;
        seek(&self.shared, partition, offset)
    }

    /// Goes on at the first record that is still there.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn seek_to_beginning(&self, partition: &TopicPartition) -> Result<()> {
        self.seek_to(partition, Target::Earliest)
    }

    /// Goes on after the last record.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn seek_to_end(&self, partition: &TopicPartition) -> Result<()> {
        self.seek_to(partition, Target::Latest)
    }

    /// Goes on at the first record whose timestamp is at least `timestamp_ms` (since 1970); at the end if there is
    /// none.
    ///
    /// # Errors
    /// The partition is not assigned, or the timestamp is negative.
    pub fn seek_to_timestamp(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<()> {
        if timestamp_ms < 0 {
            let text = format!("{partition}: cannot seek to the timestamp {timestamp_ms}");
            return Err(Error::new(ErrorKind::Argument, text));
        }
        self.seek_to(partition, Target::Timestamp(timestamp_ms))
    }

    fn seek_to(&self, partition: &TopicPartition, target: Target) -> Result<()> {
        self.check_open()?;
        leave_place(&self.shared, partition);
        change(&self.shared, partition, |state| {
            state.subscription.seek_to(partition, target)
        })
    }

    /// The offset of the next record that [`Consumer::poll`] will hand over.
    ///
    /// Waits while it is being looked up, up to `default.api.timeout.ms`. Cancel-safe.
    ///
    /// # Errors
    /// The partition is not assigned, has neither position nor policy to find one, or the time ran out.
    pub async fn position(&self, partition: &TopicPartition) -> Result<i64> {
        let deadline = Instant::now() + self.shared.config.default_api_timeout;
        let mut arrived = self.shared.arrived.subscribe();
        loop {
            arrived.mark_unchanged();
            if let Some(position) = self.known_position(partition)? {
                return Ok(position);
            }
            self.check_open()?;
            if tokio::time::timeout_at(deadline, arrived.changed()).await.is_err() {
                let last = self.shared.client.metadata_error();
                let what = format!("the position of {partition} could not be looked up in time");
                return Err(Error::timeout(what, last.as_ref()));
            }
        }
    }

    fn known_position(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        let state = self.shared.lock();
        if !state.subscription.is_assigned(partition) {
            return Err(not_assigned(partition));
        }
        let position = state.subscription.position(partition);
        if position.is_none() && state.subscription.without_position().any(|known| known == partition) {
            return Err(no_position(partition));
        }
        Ok(position)
    }

    /// How many records of `partition` are ahead of the position, as of the last fetch.
    pub fn lag(&self, partition: &TopicPartition) -> Option<i64> {
        let state = self.shared.lock();
        let high_watermark = state.subscription.high_watermark(partition)?;
        Some(
            high_watermark
                .saturating_sub(state.subscription.position(partition)?)
                .max(0),
        )
    }

    /// Stops fetching and handing over these partitions; they keep their positions.
    ///
    /// # Errors
    /// A partition is not assigned.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, true)
    }

    /// Goes on with paused partitions.
    ///
    /// # Errors
    /// A partition is not assigned.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.set_paused(partitions, false)
    }

    fn set_paused(&self, partitions: &[TopicPartition], paused: bool) -> Result<()> {
        self.check_open()?;
        for partition in partitions {
            change(&self.shared, partition, |state| {
                state.subscription.set_paused(partition, paused)
            })?;
        }
        Ok(())
    }

    /// The paused partitions, in order.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.shared.lock().subscription.paused().cloned().collect()
    }

    /// The next records, at least one. Waits for them; `None` after the consumer was closed.
    ///
    /// In a group it says as well that all records of earlier polls are processed (unless
    /// `enable.auto.offset.store=false`), and is a sign of life for `max.poll.interval.ms`, as long as it waits too. The
    /// rebalance listener is called in here. With [`rebalance_events`](ConsumerBuilder::rebalance_events) it gives no
    /// records, without waiting, while there is an event to take ([`Consumer::try_event`]).
    ///
    /// Cancel-safe: dropping it loses no record, in the middle of a rebalance too.
    ///
    /// # Errors
    /// What befell a partition, once: a topic that does not exist, a batch that cannot be read, an offset outside the
    /// log without a policy. The other partitions go on with the next poll, and so does this one if its trouble
    /// passes; [`Error::partition`] and [`Error::offset`] say where it stands. And what befell the membership, once: that
    /// it was lost ([`ErrorKind::Fenced`]), or cannot be had.
    pub async fn poll(&mut self) -> Result<Option<ConsumerRecords>> {
        loop {
            self.arrived.mark_unchanged();
            let Some(records) = self.try_poll(None)? else {
                return Ok(None);
            };
            if !records.is_empty() || self.has_events() {
                return Ok(Some(records));
            }
            tokio::select! {
                _ = self.arrived.changed() => {}
                _ = self.closed.changed() => {}
                () = next_sign_of_life(&self.shared) => {}
            }
        }
    }

    /// As [`Consumer::poll`], but gives no records when none came within `timeout`.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub async fn poll_timeout(&mut self, timeout: Duration) -> Result<Option<ConsumerRecords>> {
        match tokio::time::timeout(timeout, self.poll()).await {
            Ok(outcome) => outcome,
            Err(_) => Ok(Some(ConsumerRecords::default())),
        }
    }

    /// The records that are here already, without waiting: at most `most`, or `max.poll.records` if that is `None`.
    /// Gives no records when there are none yet ([`Consumer::arrivals`] tells when to look again), and `None` after the
    /// consumer was closed.
    ///
    /// For event loops of one's own. Several threads may call it; each record is handed to one of them. In a group it says
    /// what [`Consumer::poll`] says, also of records that another thread has: several threads need
    /// `enable.auto.offset.store=false`.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub fn try_poll(&self, most: Option<usize>) -> Result<Option<ConsumerRecords>> {
        if let Some(group) = &self.shared.group {
            group::handle_poll(&self.shared, group);
        }
        if *self.shared.closed.borrow() {
            return Ok(None);
        }
        if self.has_events() {
            return Ok(Some(ConsumerRecords::default()));
        }
        let most = most.map_or(self.shared.config.max_poll_records, |most| most.max(1));
        self.take(most).map(Some)
    }

    fn has_events(&self) -> bool {
        let group = self.shared.group.as_ref().filter(|group| group.by_events);
        group.is_some_and(|group| !group.lock().events.is_empty())
    }

    /// Something to wait with until [`Consumer::try_poll`] may have something to give.
    pub fn arrivals(&self) -> Arrivals {
        let mut arrivals = Arrivals {
            arrived: self.shared.arrived.subscribe(),
            closed: self.shared.closed.subscribe(),
            shared: Arc::downgrade(&self.shared),
        };
        // What is there already counts as new: nobody has looked yet.
        arrivals.arrived.mark_changed();
        arrivals
    }

    /// Something that closes this consumer from elsewhere, while it polls.
    pub fn closer(&self) -> Closer {
        Closer {
            closed: self.shared.closed.clone(),
        }
    }

    /// Bytes that wait for poll or are reserved for fetches on their way.
    pub fn buffered_bytes(&self) -> usize {
        self.shared.lock().buffer.used()
    }

    fn check_open(&self) -> Result<()> {
        if *self.shared.closed.borrow() {
            Err(Error::closed("consumer"))
        } else {
            Ok(())
        }
    }
}

/// Returns when somebody who waits should say that he is there.
async fn next_sign_of_life(shared: &Shared) {
    match &shared.group {
        Some(group) => {
            let interval = Duration::from_millis(group.config.max_poll_interval_ms);
            tokio::time::sleep((interval / 3).max(Duration::from_millis(1))).await;
        }
        None => std::future::pending().await,
    }
}

/// Goes on at `offset`.
fn seek(shared: &Shared, partition: &TopicPartition, offset: i64) -> Result<()> {
    if offset < 0 {
        let text = format!("{partition}: cannot seek to offset {offset}");
        return Err(Error::new(ErrorKind::Argument, text));
    }
    leave_place(shared, partition);
    change(shared, partition, |state| state.subscription.seek(partition, offset))
}

/// The application goes elsewhere: what it had in hand here is not processed, nor to be committed after the move.
fn leave_place(shared: &Shared, partition: &TopicPartition) {
    if let Some(group) = &shared.group {
        let mut state = group.lock();
        state.stored.handle_moved(partition);
        shared.lock().handed.remove(partition);
    }
}

fn change(shared: &Shared, partition: &TopicPartition, change: impl FnOnce(&mut State) -> bool) -> Result<()> {
    let mut state = shared.lock();
    if !change(&mut state) {
        return Err(not_assigned(partition));
    }
    state.told_unplaced.remove(partition);
    drop(state);
    shared.stir();
    // What waited in the buffer may be wanted now.
    shared.arrived();
    Ok(())
}

/// Tells when [`Consumer::try_poll`] may have something to give.
#[derive(Debug, Clone)]
pub struct Arrivals {
    arrived: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
    shared: Weak<Shared>,
}

impl Arrivals {
    /// Waits until something has arrived since the last call returned (records, an error, a position), or the consumer was
    /// closed. The first call returns at once. Cancel-safe.
    ///
    /// Call it, then poll until nothing comes, then call it again: nothing is missed that way. While it waits the
    /// application counts as alive (`max.poll.interval.ms`).
    pub async fn next(&mut self) {
        loop {
            if *self.closed.borrow() {
                return;
            }
            let shared = self.shared.upgrade();
            let waits = async {
                match &shared {
                    Some(shared) => next_sign_of_life(shared).await,
                    None => std::future::pending().await,
                }
            };
            // An error means that the consumer is gone, which is as good as closed.
            tokio::select! {
                _ = self.arrived.changed() => return,
                _ = self.closed.changed() => return,
                () = waits => {}
            }
            if let Some((shared, group)) = shared
                .as_ref()
                .and_then(|shared| Some((shared, shared.group.as_ref()?)))
            {
                group::handle_alive(shared, group);
            }
        }
    }
}

/// Closes a [`Consumer`] from elsewhere: its poll then gives `None`.
#[derive(Debug, Clone)]
pub struct Closer {
    closed: watch::Sender<bool>,
}

impl Closer {
    /// Closes the consumer. Returns at once.
    pub fn close(&self) {
        self.closed.send_replace(true);
    }
}

fn not_assigned(partition: &TopicPartition) -> Error {
    Error::new(
        ErrorKind::Argument,
        format!("{partition} is not assigned to this consumer"),
    )
}

fn no_group() -> Error {
    let text = "group.id is missing: offsets are committed, and topics subscribed to, as a member of a group";
    Error::new(ErrorKind::Config, text)
}

fn no_position(partition: &TopicPartition) -> Error {
    let text = format!("{partition} has no position and auto.offset.reset is none; seek to where to start");
    Error::new(ErrorKind::Offset, text).with_partition(partition, None)
}
