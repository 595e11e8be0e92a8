//! The way of one record into its batch: at once in the common case, after waiting otherwise.
//!
//! The future of `send` is small and appends the record in its first poll. Only when there is no room or no metadata
//! does it make a second, boxed future that waits.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_client_state::backoff::Backoff;
use tokio::time::Instant;

use super::accumulator::{Stop, TopicQueues};
use super::claim::Claim;
use super::shared::Shared;
use super::watch;
use crate::error::{Error, ErrorKind, Result};
use crate::record::Record;

/// The future of [`Producer::send`](super::Producer::send).
pub(super) struct Sending<'a, C: Claim> {
    shared: &'a Arc<Shared>,
    topic: Option<&'a Arc<TopicQueues>>,
    record: Option<Record<'a>>,
    claim: C,
    /// No observer wants this record, or all of them have had it.
    observed: bool,
    yielded: bool,
    waiting: Option<Waiting<'a, C::Of>>,
}

type Waiting<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

impl<'a, C: Claim + 'a> Sending<'a, C> {
    pub fn new(shared: &'a Arc<Shared>, topic: Option<&'a Arc<TopicQueues>>, record: Record<'a>, claim: C) -> Self {
        Sending {
            shared,
            topic,
            record: Some(record),
            claim,
            observed: !shared.watch.observers().want_records(),
            yielded: false,
            waiting: None,
        }
    }

    /// A record that the observers have had.
    pub fn past_observers(
        shared: &'a Arc<Shared>,
        topic: Option<&'a Arc<TopicQueues>>,
        record: Record<'a>,
        claim: C,
    ) -> Self {
        Sending {
            observed: true,
            ..Sending::new(shared, topic, record, claim)
        }
    }

    #[inline]
    fn append(&mut self) -> Option<Result<C::Of, Stop>> {
        let (shared, claim, yielded) = (self.shared, self.claim, self.yielded);
        let record = self.record.as_mut()?;
        match self.topic {
            Some(topic) => Some(topic.append(shared, record, claim, &mut None, yielded)),
            None => {
                let name = record.topic;
                let append = |topic: &Arc<TopicQueues>| topic.append(shared, record, claim, &mut None, yielded);
                shared.topics.with(name, append)
            }
        }
    }
}

impl<'a, C: Claim + 'a> Future for Sending<'a, C> {
    type Output = Result<C::Of>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let this = self.get_mut();
        if let Some(record) = this.record.take_if(|_| !this.observed) {
            this.waiting = Some(Box::pin(watch::send(this.shared, this.topic, record, this.claim)));
        }
        if this.record.is_some() {
            match this.append() {
                Some(Ok(claimed)) => {
                    this.record = None;
                    return Poll::Ready(Ok(claimed));
                }
                Some(Err(Stop::Refused(error))) => {
                    this.record = None;
                    return Poll::Ready(Err(error));
                }
                Some(Err(Stop::Yield)) => {
                    // A loop that only sends would otherwise keep its thread from the task that empties the queue.
                    this.yielded = true;
                    context.waker().wake_by_ref();
                    return Poll::Pending;
                }
                None | Some(Err(Stop::NeedsRoom { .. } | Stop::UnknownPartition(_))) => {}
            }
        }
        if let Some(record) = this.record.take() {
            let topic = this.topic.cloned();
            this.waiting = Some(Box::pin(wait_and_append(this.shared, topic, record, this.claim)));
        }
        match &mut this.waiting {
            Some(waiting) => waiting.as_mut().poll(context),
            None => Poll::Ready(Err(Error::closed("producer"))), // polled after it was done
        }
    }
}

/// Waits for metadata and for room, at most `max.block.ms`.
async fn wait_and_append<C: Claim>(
    shared: &Arc<Shared>,
    queues: Option<Arc<TopicQueues>>,
    mut record: Record<'_>,
    claim: C,
) -> Result<C::Of> {
    let deadline = Instant::now() + shared.config.max_block;
    let queues = match queues {
        Some(queues) => queues,
        None => topic(shared, record.topic, deadline).await?,
    };
    let mut buffer = None;
    let appended = loop {
        match queues.append(shared, &mut record, claim, &mut buffer, true) {
            Ok(claimed) => break Ok(claimed),
            Err(Stop::Refused(error)) => break Err(error),
            Err(Stop::Yield) => tokio::task::yield_now().await,
            Err(Stop::UnknownPartition(partition)) => wait_for_partition(shared, &queues, partition, deadline).await?,
            Err(Stop::NeedsRoom { room }) => {
                give_back(shared, &mut buffer);
                let wait = shared.watch.waits_for_room(shared, room);
                // Open batches hold room: those who send must not let them linger now.
                let take = shared.pool.take(room, || shared.wake_senders());
                let taken = tokio::time::timeout_at(deadline, take).await;
                shared.watch.waited_for_room(&wait, taken.is_err());
                match taken {
                    Ok(Some(vec)) => buffer = Some((vec, room)),
                    Ok(None) => break Err(Error::closed("producer")),
                    Err(_) => break Err(no_room(shared, room)),
                }
            }
        }
    };
    give_back(shared, &mut buffer);
    appended
}

/// Waits until there is room for a batch, at most `max.block.ms`, and leaves it to whoever comes next.
pub(super) async fn room(shared: &Arc<Shared>) -> Result<()> {
    let room = shared.pool.room_for(0);
    if shared.is_closed() {
        return Err(Error::closed("producer"));
    }
    if shared.pool.available() >= room {
        return Ok(());
    }
    let deadline = Instant::now() + shared.config.max_block;
    // As for a record that waits: open batches hold room, and must not linger now.
    let take = shared.pool.take(room, || shared.wake_senders());
    match tokio::time::timeout_at(deadline, take).await {
        Ok(Some(buffer)) => {
            shared.pool.give_back(buffer, room);
            Ok(())
        }
        Ok(None) => Err(Error::closed("producer")),
        Err(_) => Err(no_room(shared, room)),
    }
}

fn give_back(shared: &Shared, buffer: &mut Option<(Vec<u8>, usize)>) {
    if let Some((vec, room)) = buffer.take() {
        shared.pool.give_back(vec, room);
    }
}

fn no_room(shared: &Shared, room: usize) -> Error {
    let text = format!(
        "no room for {room} bytes in buffer.memory ({} of {} bytes are free) within max.block.ms ({})",
        shared.pool.available(),
        shared.pool.total(),
        shared.config.max_block.as_millis()
    );
    Error::new(ErrorKind::Timeout, text)
}

/// The queues of a topic whose metadata is here.
pub(super) fn topic_now(shared: &Arc<Shared>, name: &str) -> Option<Arc<TopicQueues>> {
    let snapshot = shared.client.metadata();
    let info = snapshot.topic(name).filter(|topic| topic.partition_count() > 0)?;
    Some(
        shared
            .topics
            .get_or_add(name, info.partition_count(), shared.queue, rand::random()),
    )
}

/// The queues of a topic, after waiting for its metadata until `deadline`.
pub(super) async fn topic(shared: &Arc<Shared>, name: &str, deadline: Instant) -> Result<Arc<TopicQueues>> {
    if shared.is_closed() {
        return Err(Error::closed("producer"));
    }
    let snapshot = shared.client.topic_metadata(name, deadline).await?;
    let count = snapshot.topic(name).map_or(0, |topic| topic.partition_count());
    Ok(shared.topics.get_or_add(name, count, shared.queue, rand::random()))
}

/// Waits until the topic has a partition of this number: it may have been added since we asked.
async fn wait_for_partition(
    shared: &Arc<Shared>,
    queues: &TopicQueues,
    partition: i32,
    deadline: Instant,
) -> Result<()> {
    let wanted = usize::try_from(partition).map_err(|_| no_such_partition(&queues.name, partition))?;
    let mut changed = shared.client.metadata_changed();
    shared.client.touch_topic(&queues.name);
    let client = shared.client.config();
    let mut backoff = Backoff::new(client.retry_backoff_ms, client.retry_backoff_max_ms, rand::random());
    let mut attempt = 0;
    loop {
        attempt += 1;
        // Again and again: the partition may be added at any time, and nobody tells.
        shared.client.request_refresh();
        let snapshot = shared.client.metadata();
        let count = snapshot.topic(&queues.name).map_or(0, |topic| topic.partition_count());
        queues.grow(count, shared.queue);
        if count > wanted {
            return Ok(());
        }
        let again = Instant::now() + Duration::from_millis(backoff.next_ms(attempt));
        let in_time = tokio::time::timeout_at(again.min(deadline), changed.changed()).await;
        if in_time.is_err() && again >= deadline {
            return Err(no_such_partition(&queues.name, partition).with_note(format_args!("it has {count}")));
        }
    }
}

pub(super) fn no_such_partition(topic: &str, partition: i32) -> Error {
    Error::new(
        ErrorKind::Argument,
        format!("topic {topic:?} has no partition {partition}"),
    )
}
