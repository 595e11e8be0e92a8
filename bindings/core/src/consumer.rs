//! Receiving without waiting; what belongs to a group is in `group`.
//!
//! In: partitions, positions, and calls of [`Consumer::try_poll`]. Out: batches, and one wake-up when there may be more. A
//! skin that blocks waits with [`Consumer::arrived`]; one with an event loop arms the waker ([`Consumer::arm`]). The client
//! fetches ahead by itself, within its own bound; nothing is taken out of it before somebody asks, so a position never
//! runs ahead of what was handed over.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use ottla::{Arrivals, TopicPartition};
use tokio::sync::{Mutex, Notify, watch};

use crate::Pairs;
use crate::batch::Batch;
use crate::error::Error;
use crate::group::{self, Event};
use crate::producer::number;
use crate::runtime::{Owned, spawn};

const WHAT: &str = "consumer";

/// Kafka's default of `max.poll.records`.
const MAX_POLL_RECORDS: usize = 500;

/// What [`Consumer::try_poll`] found.
#[derive(Debug)]
pub enum Polled {
    /// Records, at least one.
    Records(Arc<Batch>),
    /// Something that the application is to be told now, before it gets more records. After [`Event::Revoked`] the skin
    /// calls [`Consumer::acknowledge`] as soon as the application has been told.
    Event(Event),
    /// Nothing yet.
    Nothing,
    /// The consumer was closed.
    Closed,
}

/// What the client gave.
#[derive(Debug)]
pub(crate) enum Taken {
    Records(Arc<Batch>),
    Nothing,
    Closed,
}

impl Taken {
    pub fn of(records: Option<ottla::ConsumerRecords>) -> Self {
        match records {
            Some(records) if records.is_empty() => Taken::Nothing,
            Some(records) => Taken::Records(Arc::new(Batch::new(&records))),
            None => Taken::Closed,
        }
    }
}

/// A consumer of partitions, its own or those of its group. Calls never wait, unless they return a future. May be used from several threads.
pub struct Consumer {
    inner: Owned<Arc<Inner>>,
}

pub(crate) struct Inner {
    client: OnceLock<Result<ottla::Consumer, Error>>,
    connected: watch::Sender<bool>,
    closed: watch::Sender<bool>,
    /// Only one can wait for arrivals at a time; whoever is second waits for the first.
    arrivals: Mutex<Option<Arrivals>>,
    /// A poll may have left something: the arrival of it may have woken only the one who polled.
    left: Notify,
    max_poll_records: usize,
    armed: watch::Sender<bool>,
    waker: Waker,
    /// What only members of a group have; `None` without `group.id`.
    pub(crate) group: Option<group::Group>,
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Consumer")
    }
}

impl Inner {
    pub(crate) fn client(&self) -> Result<&ottla::Consumer, Error> {
        if *self.closed.borrow() {
            return Err(Error::closed(WHAT));
        }
        match self.client.get() {
            Some(client) => client.as_ref().map_err(Error::clone),
            None => Err(Error::new(
                crate::Kind::Argument,
                "this consumer is still connecting: wait for it first",
            )),
        }
    }

    /// The client, closed or not, if it has connected.
    pub(crate) fn connected_client(&self) -> Option<&ottla::Consumer> {
        self.client.get()?.as_ref().ok()
    }

    fn set_armed(&self, armed: bool) {
        self.armed
            .send_if_modified(|known| std::mem::replace(known, armed) != armed);
    }

    /// Something may be there that no arrival tells of.
    pub(crate) fn stir(&self) {
        self.left.notify_one();
    }

    pub(crate) async fn connected(&self) -> Result<&ottla::Consumer, Error> {
        let mut connected = self.connected.subscribe();
        let mut closed = self.closed.subscribe();
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => Err(Error::closed(WHAT)),
            _ = connected.wait_for(|connected| *connected) => self.client(),
        }
    }

    pub(crate) fn close(&self) {
        self.closed.send_replace(true);
        if let Some(client) = self.connected_client() {
            client.closer().close();
        }
    }

    /// Waits until a poll may find something: records, an error, or that the consumer is closed.
    async fn arrived(&self) {
        let mut closed = self.closed.subscribe();
        let arrived = async {
            let Ok(client) = self.connected().await else { return };
            let mut arrivals = self.arrivals.lock().await;
            arrivals.get_or_insert_with(|| client.arrivals()).next().await;
        };
        tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => {}
            () = self.left.notified() => {}
            () = arrived => {}
        }
    }
}

impl Consumer {
    /// Checks the configuration and begins to connect. `waker` is woken after [`arm`](Consumer::arm).
    ///
    /// # Errors
    /// A mistake in the configuration, or no threads.
    pub fn start(pairs: Pairs, assign: Vec<TopicPartition>, waker: Waker) -> Result<Consumer, Error> {
        let max_poll_records = number(&pairs, "max.poll.records").map_or(MAX_POLL_RECORDS, |most| most as usize);
        let (pairs, group) = group::Group::of(pairs);
        let builder = ottla::Consumer::from_properties(pairs)?
            .assign(assign)
            .rebalance_events(group.is_some());
        builder.validate()?;
        let inner = Arc::new(Inner {
            client: OnceLock::new(),
            connected: watch::channel(false).0,
            closed: watch::channel(false).0,
            arrivals: Mutex::new(None),
            left: Notify::new(),
            max_poll_records,
            armed: watch::channel(false).0,
            waker,
            group,
        });
        let connecting = inner.clone();
        spawn(async move {
            let mut closed = connecting.closed.subscribe();
            let client = tokio::select! {
                biased;
                _ = closed.wait_for(|closed| *closed) => return,
                client = builder.build() => client.map_err(Error::from),
            };
            // Nobody else sets it.
            let _ = connecting.client.set(client);
            if *closed.borrow()
                && let Some(Ok(client)) = connecting.client.get()
            {
                // Closed in the last moment: by somebody who did not see this client.
                client.closer().close();
            }
            connecting.connected.send_replace(true);
        })?;
        spawn(ring(inner.clone()))?;
        Ok(Consumer {
            inner: Owned::new(WHAT, inner),
        })
    }

    /// Waits until the consumer has connected.
    ///
    /// # Errors
    /// No bootstrap server answered, the broker did not accept us, or the consumer was closed meanwhile.
    pub fn connected(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move { inner?.connected().await.map(|_| ()) }
    }

    /// What is here, without waiting: at most `most` records, or `max.poll.records`. In a group it says that all records of
    /// earlier calls are processed, unless `enable.auto.offset.store=false`.
    ///
    /// # Errors
    /// What befell a partition or the membership, once; the next call goes on. And why the consumer could not connect.
    pub fn try_poll(&self, most: Option<usize>) -> Result<Polled, Error> {
        self.try_poll_in_steps(most, || {})
    }

    /// The same; `between` is called after each step, where others may do something.
    pub(crate) fn try_poll_in_steps(&self, most: Option<usize>, mut between: impl FnMut()) -> Result<Polled, Error> {
        let inner = self.inner.get()?;
        if *inner.closed.borrow() {
            return Ok(Polled::Closed);
        }
        let client = match inner.client.get() {
            Some(client) => client.as_ref().map_err(Error::clone)?,
            None => return Ok(Polled::Nothing),
        };
        if let Some(group) = &inner.group {
            group.all_processed(client);
            if let Some(event) = group.next_event(client) {
                inner.left.notify_one();
                return Ok(Polled::Event(event));
            }
        }
        between();
        let polled = match &inner.group {
            Some(group) => group.poll(client, most),
            None => client.try_poll(most).map(Taken::of),
        };
        between();
        // One that came in between: polls give no records while it waits.
        if let (Some(group), Ok(Taken::Nothing)) = (&inner.group, &polled)
            && let Some(event) = group.next_event(client)
        {
            inner.left.notify_one();
            return Ok(Polled::Event(event));
        }
        let more = match &polled {
            Ok(Taken::Records(records)) => records.len() >= most.unwrap_or(inner.max_poll_records).max(1),
            Ok(_) => false,
            Err(_) => true,
        };
        if more {
            inner.left.notify_one();
        }
        Ok(match polled? {
            Taken::Records(batch) => Polled::Records(batch),
            Taken::Nothing => Polled::Nothing,
            Taken::Closed => Polled::Closed,
        })
    }

    /// Has the waker woken once, as soon as [`try_poll`](Consumer::try_poll) may find something. Poll again before arming
    /// again. It may be woken for nothing. As long as it is armed somebody waits: in a group that is a sign of life.
    ///
    /// # Errors
    /// The consumer came through a fork.
    pub fn arm(&self) -> Result<(), Error> {
        self.inner.get()?.set_armed(true);
        Ok(())
    }

    /// Nobody waits any more: a skin whose time is over calls it. The waker may be woken all the same.
    ///
    /// # Errors
    /// The consumer came through a fork.
    pub fn disarm(&self) -> Result<(), Error> {
        self.inner.get()?.set_armed(false);
        Ok(())
    }

    /// Waits until [`try_poll`](Consumer::try_poll) may find something. The first call returns at once.
    pub fn arrived(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            inner?.arrived().await;
            Ok(())
        }
    }

    /// Reads exactly these partitions from now on.
    ///
    /// # Errors
    /// A negative partition; the consumer is closed or not connected.
    pub fn assign(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        Ok(self.client()?.assign(partitions)?)
    }

    /// Reads all partitions that these topics have now.
    pub fn assign_topics(&self, topics: Vec<String>) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let inner = inner?;
            let client = inner.connected().await?;
            let mut all = Vec::new();
            for topic in &topics {
                all.extend(client.partitions_for(topic).await?);
            }
            Ok(client.assign(&all)?)
        }
    }

    /// The partitions that are assigned, in order.
    ///
    /// # Errors
    /// The consumer is closed or not connected; so for the next ones.
    pub fn assignment(&self) -> Result<Vec<TopicPartition>, Error> {
        Ok(self.client()?.assignment())
    }

    /// Goes on at `offset`.
    ///
    /// # Errors
    /// The partition is not assigned, or the offset is negative.
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<(), Error> {
        let client = self.client()?;
        client.seek(partition, offset)?;
        self.moved(partition);
        Ok(())
    }

    /// Goes on at the first record that is still there.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn seek_to_beginning(&self, partition: &TopicPartition) -> Result<(), Error> {
        let client = self.client()?;
        client.seek_to_beginning(partition)?;
        self.moved(partition);
        Ok(())
    }

    /// Goes on after the last record.
    ///
    /// # Errors
    /// The partition is not assigned.
    pub fn seek_to_end(&self, partition: &TopicPartition) -> Result<(), Error> {
        let client = self.client()?;
        client.seek_to_end(partition)?;
        self.moved(partition);
        Ok(())
    }

    /// Goes on at the first record whose timestamp is at least `timestamp_ms`.
    ///
    /// # Errors
    /// The partition is not assigned, or the timestamp is negative.
    pub fn seek_to_timestamp(&self, partition: &TopicPartition, timestamp_ms: i64) -> Result<(), Error> {
        let client = self.client()?;
        client.seek_to_timestamp(partition, timestamp_ms)?;
        self.moved(partition);
        Ok(())
    }

    /// Stops handing over these partitions.
    ///
    /// # Errors
    /// A partition is not assigned.
    pub fn pause(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        Ok(self.client()?.pause(partitions)?)
    }

    /// Goes on with paused partitions.
    ///
    /// # Errors
    /// A partition is not assigned.
    pub fn resume(&self, partitions: &[TopicPartition]) -> Result<(), Error> {
        Ok(self.client()?.resume(partitions)?)
    }

    /// The paused partitions, in order.
    ///
    /// # Errors
    /// The consumer is closed or not connected.
    pub fn paused(&self) -> Result<Vec<TopicPartition>, Error> {
        Ok(self.client()?.paused())
    }

    /// How many records are ahead of the position, as of the last fetch.
    ///
    /// # Errors
    /// The consumer is closed or not connected.
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<i64>, Error> {
        Ok(self.client()?.lag(partition))
    }

    /// The offset of the next record that is handed over; waits while it is looked up.
    pub fn position(&self, partition: TopicPartition) -> impl Future<Output = Result<i64, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.connected().await?.position(&partition).await?) }
    }

    /// The first offset of each partition that is still there.
    pub fn beginning_offsets(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, i64>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.connected().await?.beginning_offsets(&partitions).await?) }
    }

    /// The offset after the last record of each partition.
    pub fn end_offsets(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, i64>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.connected().await?.end_offsets(&partitions).await?) }
    }

    /// For each partition the first record whose timestamp is at least the given one.
    pub fn offsets_for_times(
        &self,
        timestamps: Vec<(TopicPartition, i64)>,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, ottla::ListedOffset>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.connected().await?.offsets_for_times(&timestamps).await?) }
    }

    /// The partitions of a topic.
    pub fn partitions_for(
        &self,
        topic: String,
    ) -> impl Future<Output = Result<Vec<TopicPartition>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.connected().await?.partitions_for(&topic).await?) }
    }

    /// Ends it: every poll gives [`Polled::Closed`] from now on, everybody who waits is woken. Returns at once; may be
    /// called again, and from any thread. Batches that were handed over stay valid. A member leaves its group in the
    /// background; [`finish`](Consumer::finish) waits for that.
    ///
    /// # Errors
    /// The consumer came through a fork.
    pub fn close(&self) -> Result<(), Error> {
        self.inner.get()?.close();
        Ok(())
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.inner.get().map_or(true, |inner| *inner.closed.borrow())
    }

    /// What is in hand of this partition is not processed.
    fn moved(&self, partition: &TopicPartition) {
        if let Ok(inner) = self.inner.get()
            && let Some(group) = &inner.group
        {
            group.moved(partition);
        }
    }

    pub(crate) fn client(&self) -> Result<&ottla::Consumer, Error> {
        self.inner.get()?.client()
    }

    pub(crate) fn inner(&self) -> Result<&Arc<Inner>, Error> {
        self.inner.get()
    }

    pub(crate) fn shared(&self) -> Result<Arc<Inner>, Error> {
        self.inner.get().cloned()
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        // A fork leaves the parent's consumer alone; `close` is an error there.
        let _ = self.close();
    }
}

/// Wakes the waker whenever it is armed and something has arrived, until the consumer is closed.
async fn ring(inner: Arc<Inner>) {
    let mut closed = inner.closed.subscribe();
    let mut armed = inner.armed.subscribe();
    loop {
        let something = async {
            loop {
                let _ = armed.wait_for(|armed| *armed).await;
                tokio::select! {
                    biased;
                    () = inner.arrived() => return,
                    // What arrives now is found by whoever polls next.
                    _ = armed.wait_for(|armed| !*armed) => {}
                }
            }
        };
        let over = tokio::select! {
            biased;
            _ = closed.wait_for(|closed| *closed) => true,
            () = something => false,
        };
        // Before the wake-up: who is woken may arm again at once.
        inner.set_armed(false);
        inner.waker.wake_by_ref();
        if over {
            return;
        }
    }
}
