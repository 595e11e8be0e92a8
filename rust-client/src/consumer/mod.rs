//! Reading records.
//!
//! A [`Consumer`] reads the partitions that it was assigned. Fetchers in the background keep a bounded buffer filled;
//! [`Consumer::poll`] takes from it. Positions move when records are handed over and never otherwise, so dropping a
//! poll loses nothing. It does not serialize, and it does not commit: consumer groups are not here yet.

mod absorb;
mod decode;
mod fetch_buffer;
mod fetcher;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod offsets;
mod records;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ottla_client_state::TopicPartition;
use ottla_client_state::backoff::Backoff;
use ottla_client_state::subscription::{SubscriptionState, Target};
use ottla_protocol::records::{Decompressor, RecordError};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::client::Client;
use crate::config::{ClientKind, ConsumerConfig, Properties, Settings, common_setters};
use crate::error::{Error, ErrorKind, Result};
use decode::{DecodeOptions, OpenFetch, Step};
use fetcher::{Shared, State};

pub use offsets::ListedOffset;
pub(crate) use offsets::{EARLIEST, LATEST, Queries, list_offsets_until};
pub use records::{ConsumerRecord, ConsumerRecords, Iter, OwnedHeader, OwnedRecord, RecordRun};

/// Collects the configuration of a [`Consumer`].
#[derive(Debug, Clone)]
pub struct ConsumerBuilder {
    settings: Settings,
    partitions: Vec<TopicPartition>,
}

impl ConsumerBuilder {
    common_setters!();

    /// The partitions to read from the start; see [`Consumer::assign`].
    #[must_use]
    pub fn assign(mut self, partitions: impl IntoIterator<Item = impl Into<TopicPartition>>) -> Self {
        self.partitions = partitions.into_iter().map(Into::into).collect();
        self
    }

    /// Where to start without a position: `earliest`, `latest`, `none`, `by_duration:PT1H` (`auto.offset.reset`).
    #[must_use]
    pub fn auto_offset_reset(self, policy: impl ToString) -> Self {
        self.set("auto.offset.reset", policy)
    }

    /// The most records that one poll hands over (`max.poll.records`, default 500).
    #[must_use]
    pub fn max_poll_records(self, records: usize) -> Self {
        self.set("max.poll.records", records)
    }

    /// Hands over only records of committed transactions, or all (`isolation.level`).
    #[must_use]
    pub fn read_committed(self, yes: bool) -> Self {
        self.set(
            "isolation.level",
            if yes { "read_committed" } else { "read_uncommitted" },
        )
    }

    /// Looks for mistakes in keys and values, without connecting.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for the first one.
    pub fn validate(&self) -> Result<()> {
        self.settings.clone().consumer().map(drop)
    }

    /// Checks the configuration, connects, and starts to fetch what was assigned.
    ///
    /// # Errors
    /// [`ErrorKind::Config`], or no bootstrap server answered (each is tried once).
    pub async fn build(self) -> Result<Consumer> {
        let config = self.settings.consumer()?;
        let consumer = Consumer::connect(config).await?;
        if !self.partitions.is_empty() {
            consumer.assign(&self.partitions)?;
        }
        Ok(consumer)
    }
}

/// Reads records of the partitions that it was assigned.
///
/// # Promises
/// - The records of a partition come in the order of their offsets, each once, as long as nobody seeks.
/// - A position moves only when records are handed over; dropping a poll loses none.
/// - No more than `fetch.buffer.memory` bytes wait for poll, but for a single batch larger than its fetch.
/// - When a position has to be reset (`auto.offset.reset`), the log says so.
/// - When a leader lost records that were read already (KIP-320; brokers since 2.7 tell), the partition goes on where its
///   log and what was read part, and the log says so; without a policy that is [`ErrorKind::LogTruncated`].
///
/// # Dangers
/// - Without a consumer group nobody remembers the positions: keep [`ConsumerRecords::next_offsets`] and
///   [`Consumer::seek`] there after a restart.
#[derive(Debug)]
pub struct Consumer {
    shared: Arc<Shared>,
    /// Whoever hands records over holds this; so two at once never mix the order.
    reader: Mutex<Reader>,
    options: DecodeOptions,
    arrived: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
}

/// What handing over needs.
#[derive(Debug)]
struct Reader {
    /// The fetch that is being given out.
    open: Option<OpenFetch>,
    decompressor: Decompressor,
}

impl Consumer {
    /// Collects a configuration.
    pub fn builder() -> ConsumerBuilder {
        ConsumerBuilder {
            settings: Settings::new(ClientKind::Consumer),
            partitions: Vec::new(),
        }
    }

    /// A builder with the keys of a properties file or of pairs.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: an unreadable file, an unknown key, a value that does not fit.
    pub fn from_properties(properties: impl Into<Properties>) -> Result<ConsumerBuilder> {
        let settings = Settings::from_properties(ClientKind::Consumer, properties)?;
        Ok(ConsumerBuilder {
            settings,
            partitions: Vec::new(),
        })
    }

    async fn connect(config: ConsumerConfig) -> Result<Consumer> {
        let client = Client::connect(config.client.clone()).await?;
        let retry = &config.client;
        let backoff = Backoff::new(retry.retry_backoff_ms, retry.retry_backoff_max_ms, rand::random());
        let subscription = SubscriptionState::new(config.auto_offset_reset, backoff);
        let options = DecodeOptions {
            check_crcs: config.check_crcs,
            max_decompressed_bytes: config.decompressed_batch_max_bytes,
        };
        let shared = Shared::new(client, config, subscription);
        tokio::spawn(fetcher::direct(shared.clone()));
        let (arrived, closed) = (shared.arrived.subscribe(), shared.closed.subscribe());
        Ok(Consumer {
            shared,
            reader: Mutex::new(Reader {
                open: None,
                decompressor: Decompressor::new(),
            }),
            options,
            arrived,
            closed,
        })
    }

    /// Reads exactly these partitions from now on. Those assigned before keep their positions; new ones start by
    /// `auto.offset.reset` unless a seek says otherwise.
    ///
    /// Does not wait. That a topic or partition does not exist is told by a later [`Consumer::poll`].
    ///
    /// # Errors
    /// A negative partition, or the consumer is closed.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<()> {
        self.check_open()?;
        if let Some(bad) = partitions
            .iter()
            .find(|partition| partition.partition < 0 || partition.topic.is_empty())
        {
            return Err(Error::new(ErrorKind::Argument, format!("{bad} is not a partition")));
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
        if offset < 0 {
            return Err(Error::new(
                ErrorKind::Argument,
                format!("{partition}: cannot seek to offset {offset}"),
            ));
        }
        self.move_partition(partition, |state| state.subscription.seek(partition, offset))
    }

    /// Goes on at the first record that is still there.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn seek_to_beginning(&self, partition: &TopicPartition) -> Result<()> {
        self.move_partition(partition, |state| {
            state.subscription.seek_to(partition, Target::Earliest)
        })
    }

    /// Goes on after the last record.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn seek_to_end(&self, partition: &TopicPartition) -> Result<()> {
        self.move_partition(partition, |state| state.subscription.seek_to(partition, Target::Latest))
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
        let target = Target::Timestamp(timestamp_ms);
        self.move_partition(partition, |state| state.subscription.seek_to(partition, target))
    }

    fn move_partition(&self, partition: &TopicPartition, change: impl FnOnce(&mut State) -> bool) -> Result<()> {
        self.check_open()?;
        let mut state = self.shared.lock();
        if !change(&mut state) {
            return Err(not_assigned(partition));
        }
        state.told_unplaced.remove(partition);
        drop(state);
        self.shared.stir();
        // What waited in the buffer may be wanted now.
        self.shared.arrived();
        Ok(())
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
        for partition in partitions {
            self.move_partition(partition, |state| state.subscription.set_paused(partition, paused))?;
        }
        Ok(())
    }

    /// The paused partitions, in order.
    pub fn paused(&self) -> Vec<TopicPartition> {
        self.shared.lock().subscription.paused().cloned().collect()
    }

    /// The next records, at least one. Waits for them; `None` after the consumer was closed.
    ///
    /// Cancel-safe: dropping it loses no record.
    ///
    /// # Errors
    /// What befell a partition, once: a topic that does not exist, a batch that cannot be read, an offset outside the
    /// log without a policy. The other partitions go on with the next poll, and so does this one if its trouble
    /// passes; [`Error::partition`] and [`Error::offset`] say where it stands.
    pub async fn poll(&mut self) -> Result<Option<ConsumerRecords>> {
        loop {
            self.arrived.mark_unchanged();
            if *self.closed.borrow_and_update() {
                return Ok(None);
            }
            let records = self.take(self.shared.config.max_poll_records)?;
            if !records.is_empty() {
                return Ok(Some(records));
            }
            tokio::select! {
                _ = self.arrived.changed() => {}
                _ = self.closed.changed() => {}
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
    /// For event loops of one's own. Several threads may call it; each record is handed to one of them.
    ///
    /// # Errors
    /// As [`Consumer::poll`].
    pub fn try_poll(&self, most: Option<usize>) -> Result<Option<ConsumerRecords>> {
        if *self.shared.closed.borrow() {
            return Ok(None);
        }
        let most = most.map_or(self.shared.config.max_poll_records, |most| most.max(1));
        self.take(most).map(Some)
    }

    /// Something to wait with until [`Consumer::try_poll`] may have something to give.
    pub fn arrivals(&self) -> Arrivals {
        let mut arrivals = Arrivals {
            arrived: self.shared.arrived.subscribe(),
            closed: self.shared.closed.subscribe(),
        };
        // What is there already counts as new: nobody has looked yet.
        arrivals.arrived.mark_changed();
        arrivals
    }

    /// Takes what the buffer has, without waiting. All that is taken is returned.
    fn take(&self, most: usize) -> Result<ConsumerRecords> {
        let mut records = ConsumerRecords::default();
        // A panic while decoding leaves at worst a fetch that is gone; it is fetched again.
        let mut reader = self.reader.lock().unwrap_or_else(PoisonError::into_inner);
        let reader = &mut *reader;
        while records.len() < most {
            // Records that were taken already go first; their errors wait for the next poll.
            if records.is_empty() {
                self.next_error()?;
            }
            let Some(mut open) = self.next_open(reader) else { break };
            let step = open.next(most - records.len(), self.options, &mut reader.decompressor);
            if let Some(chunk) = self.settle(reader, open, step) {
                records.push(chunk);
            }
        }
        Ok(records)
    }

    fn next_error(&self) -> Result<()> {
        let mut state = self.shared.lock();
        let State {
            subscription,
            errors,
            told_unplaced,
            ..
        } = &mut *state;
        for partition in subscription.without_position() {
            if told_unplaced.insert(partition.clone()) {
                errors.push_back(no_position(partition));
            }
        }
        errors.pop_front().map_or(Ok(()), Err)
    }

    /// The fetch to read from, if there is one whose records are wanted now.
    fn next_open(&self, reader: &mut Reader) -> Option<OpenFetch> {
        let mut state = self.shared.lock();
        let State {
            subscription, buffer, ..
        } = &mut *state;
        if let Some(open) = reader.open.take() {
            if !subscription.is_current(&open.partition, open.fence) {
                buffer.release(open.bytes_left());
            } else if subscription.is_paused(&open.partition) {
                // Paused in the middle: given back, to be fetched again when it resumes.
                buffer.release(open.bytes_left());
                subscription.handle_dropped(&open.partition, open.fence);
            } else {
                return Some(open);
            }
        }
        buffer.discard(|fetch| !subscription.is_current(&fetch.partition, fetch.fence));
        buffer
            .take(|fetch| !subscription.is_paused(&fetch.partition))
            .map(OpenFetch::new)
    }

    /// Moves the position over what a step gave, and lets go of its bytes. Gives the records if they are still wanted.
    fn settle(
        &self,
        reader: &mut Reader,
        open: OpenFetch,
        step: std::result::Result<Step, RecordError>,
    ) -> Option<records::Chunk> {
        let mut guard = self.shared.lock();
        let State {
            subscription, buffer, ..
        } = &mut *guard;
        let (partition, fence) = (open.partition.clone(), open.fence);
        match step {
            Ok(Step::Records { chunk, released }) => {
                buffer.release(released);
                let current = subscription.advance(&partition, fence, chunk.next_offset, chunk.leader_epoch, released);
                reader.open = Some(open);
                current.then_some(chunk)
            }
            Ok(Step::Skipped {
                next_offset,
                leader_epoch,
                released,
            }) => {
                buffer.release(released);
                subscription.advance(&partition, fence, next_offset, leader_epoch, released);
                reader.open = Some(open);
                None
            }
            Ok(Step::End) => {
                drop(guard);
                // Room in the buffer: the fetchers may go on.
                self.shared.stir();
                None
            }
            Err(flaw) => {
                buffer.release(open.bytes_left());
                let position = subscription.position(&partition).unwrap_or(open.position);
                subscription.handle_dropped(&partition, fence);
                subscription.fail_current(&partition, self.shared.client.now());
                guard.report(unreadable(&partition, position, flaw));
                drop(guard);
                self.shared.stir();
                None
            }
        }
    }

    /// The first offset of each partition that is still there.
    ///
    /// # Errors
    /// A partition that does not exist, or no answer within `default.api.timeout.ms`.
    pub async fn beginning_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        self.bounds(partitions, EARLIEST).await
    }

    /// The offset after the last record of each partition: the high watermark, or with `read_committed` the last
    /// stable offset.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`].
    pub async fn end_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        self.bounds(partitions, LATEST).await
    }

    async fn bounds(&self, partitions: &[TopicPartition], which: i64) -> Result<BTreeMap<TopicPartition, i64>> {
        let queries = partitions.iter().map(|partition| (partition.clone(), which)).collect();
        let found = self.look_up(queries).await?;
        Ok(found
            .into_iter()
            .filter_map(|(partition, listed)| Some((partition, listed.offset?)))
            .collect())
    }

    /// For each partition the first record whose timestamp (milliseconds since 1970) is at least the given one. Its
    /// offset is `None` when there is no such record.
    ///
    /// # Errors
    /// A negative timestamp; otherwise as [`Consumer::beginning_offsets`].
    pub async fn offsets_for_times(
        &self,
        timestamps: &[(TopicPartition, i64)],
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>> {
        if let Some((partition, timestamp)) = timestamps.iter().find(|(_, timestamp)| *timestamp < 0) {
            let text = format!("{partition}: cannot look for the timestamp {timestamp}");
            return Err(Error::new(ErrorKind::Argument, text));
        }
        self.look_up(timestamps.iter().cloned().collect()).await
    }

    async fn look_up(&self, queries: Queries) -> Result<BTreeMap<TopicPartition, ListedOffset>> {
        self.check_open()?;
        let deadline = Instant::now() + self.shared.config.default_api_timeout;
        list_offsets_until(&self.shared.client, self.shared.isolation(), queries, deadline).await
    }

    /// The partitions of a topic.
    ///
    /// # Errors
    /// The topic does not exist, or no answer came within `default.api.timeout.ms`.
    pub async fn partitions_for(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        self.check_open()?;
        let deadline = Instant::now() + self.shared.config.default_api_timeout;
        let snapshot = self.shared.client.topic_metadata(topic, deadline).await?;
        let info = snapshot.topic(topic);
        let partitions = info.iter().flat_map(|info| &info.partitions);
        Ok(partitions
            .map(|partition| TopicPartition::new(topic, partition.partition))
            .collect())
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

    /// Stops fetching and closes the connections. Records that were handed over stay valid.
    pub async fn close(self) {
        self.shared.closed.send_replace(true);
        self.shared.client.close();
    }

    fn check_open(&self) -> Result<()> {
        if *self.shared.closed.borrow() {
            Err(Error::closed("consumer"))
        } else {
            Ok(())
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
        self.shared.client.close();
    }
}

/// Tells when [`Consumer::try_poll`] may have something to give.
#[derive(Debug, Clone)]
pub struct Arrivals {
    arrived: watch::Receiver<u64>,
    closed: watch::Receiver<bool>,
}

impl Arrivals {
    /// Waits until something has arrived since the last call returned (records, an error, a position), or the consumer was
    /// closed. The first call returns at once. Cancel-safe.
    ///
    /// Call it, then poll until nothing comes, then call it again: nothing is missed that way.
    pub async fn next(&mut self) {
        if *self.closed.borrow() {
            return;
        }
        // An error means that the consumer is gone, which is as good as closed.
        tokio::select! {
            _ = self.arrived.changed() => {}
            _ = self.closed.changed() => {}
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

fn no_position(partition: &TopicPartition) -> Error {
    let text = format!("{partition} has no position and auto.offset.reset is none; seek to where to start");
    Error::new(ErrorKind::Offset, text).with_partition(partition, None)
}

fn unreadable(partition: &TopicPartition, position: i64, flaw: RecordError) -> Error {
    let text = format!(
        "{partition}: the batch at offset {position} cannot be read: {flaw}. Seek to a higher offset to go on behind it"
    );
    Error::new(ErrorKind::Corrupt, text)
        .with_partition(partition, Some(position))
        .with_source(flaw)
}
