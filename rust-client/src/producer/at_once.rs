//! Sending without waiting: a record gets into its batch at once, or the caller hears why not.
//!
//! In: a record, and what its sender wants to hear of it. Out: that, or the reason, with the record still its owner's. Who
//! wants to wait goes by `send`.

use std::fmt;
use std::sync::Arc;

use super::Record;
use super::accumulator::{Stop, TopicQueues};
use super::claim::{Claim, Ticket};
use super::delivery::Delivery;
use super::send;
use super::shared::Shared;
use super::watch;
use crate::error::{Error, ErrorKind};

/// Sends a record for a ticket, if it is possible without waiting.
#[inline]
pub(super) fn try_send<'a>(
    shared: &Arc<Shared>,
    topic: Option<&Arc<TopicQueues>>,
    mut record: Record<'a>,
) -> Result<Delivery, TrySendError<'a>> {
    try_claim(shared, topic, &mut record, Ticket).map_err(|refused| match refused {
        NotQueued::QueueFull => TrySendError::QueueFull(record),
        NotQueued::UnknownTopic => TrySendError::UnknownTopic(record),
        NotQueued::Failed(error) => TrySendError::Failed(error),
    })
}

/// Sends a record past the observers if there are any, and if it is possible without waiting.
#[inline]
pub(super) fn try_claim<C: Claim>(
    shared: &Arc<Shared>,
    topic: Option<&Arc<TopicQueues>>,
    record: &mut Record<'_>,
    claim: C,
) -> Result<C::Of, NotQueued> {
    match shared.watch.observers().want_records() {
        false => try_append(shared, topic, record, claim),
        true => watch::try_send(shared, topic, record, claim),
    }
}

/// Appends a record if that is possible without waiting.
#[inline]
pub(super) fn try_append<C: Claim>(
    shared: &Arc<Shared>,
    topic: Option<&Arc<TopicQueues>>,
    record: &mut Record<'_>,
    claim: C,
) -> Result<C::Of, NotQueued> {
    let name = record.topic;
    let mut append = |topic: &Arc<TopicQueues>| topic.append(shared, record, claim, &mut None, true);
    let appended = match topic {
        Some(topic) => Some(append(topic)),
        None => shared.topics.with(name, append),
    };
    match appended {
        Some(Ok(claimed)) => Ok(claimed),
        Some(Err(stop)) => Err(NotQueued::new(stop, topic.map_or(name, |topic| &topic.name))),
        None => append_first(shared, record, claim),
    }
}

/// Appends a record to a topic that no record was sent to before, if its metadata is here.
#[cold]
fn append_first<C: Claim>(shared: &Arc<Shared>, record: &mut Record<'_>, claim: C) -> Result<C::Of, NotQueued> {
    if shared.is_closed() {
        return Err(NotQueued::Failed(Error::closed("producer")));
    }
    // The metadata task brings it; the next try finds it.
    shared.client.touch_topic(record.topic);
    match send::topic_now(shared, record.topic) {
        Some(topic) => topic
            .append(shared, record, claim, &mut None, true)
            .map_err(|stop| NotQueued::new(stop, &topic.name)),
        None => Err(NotQueued::UnknownTopic),
    }
}

/// Why [`Producer::try_send_reported`](crate::Producer::try_send_reported) did not queue a record.
#[derive(Debug)]
#[non_exhaustive]
pub enum NotQueued {
    /// There is no room in `buffer.memory`.
    QueueFull,
    /// The topic's metadata is not here yet. It was asked for.
    UnknownTopic,
    /// The record cannot be sent.
    Failed(Error),
}

impl NotQueued {
    #[cold]
    fn new(stop: Stop, topic: &str) -> Self {
        match stop {
            Stop::NeedsRoom { .. } | Stop::Yield => NotQueued::QueueFull,
            Stop::Refused(error) => NotQueued::Failed(error),
            Stop::UnknownPartition(partition) => NotQueued::Failed(send::no_such_partition(topic, partition)),
        }
    }

    /// As an error about a record for `topic`.
    pub fn into_error(self, topic: &str) -> Error {
        match self {
            NotQueued::QueueFull => TrySendError::QueueFull(Record::to(topic)).into(),
            NotQueued::UnknownTopic => TrySendError::UnknownTopic(Record::to(topic)).into(),
            NotQueued::Failed(error) => error,
        }
    }
}

/// Why [`Producer::try_send`](crate::Producer::try_send) did not queue a record.
#[derive(Debug)]
#[non_exhaustive]
pub enum TrySendError<'a> {
    /// There is no room in `buffer.memory`.
    QueueFull(Record<'a>),
    /// The topic's metadata is not here yet. It was asked for.
    UnknownTopic(Record<'a>),
    /// The record cannot be sent.
    Failed(Error),
}

impl fmt::Display for TrySendError<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            TrySendError::QueueFull(record) => {
                write!(f, "no room in buffer.memory for a record for {:?}", record.topic)
            }
            TrySendError::UnknownTopic(record) => write!(f, "the metadata of topic {:?} is not here yet", record.topic),
            TrySendError::Failed(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for TrySendError<'_> {}

impl From<TrySendError<'_>> for Error {
    fn from(error: TrySendError<'_>) -> Self {
        match error {
            TrySendError::Failed(error) => error,
            TrySendError::QueueFull(_) => Error::new(ErrorKind::QueueFull, error.to_string()),
            TrySendError::UnknownTopic(_) => {
                Error::new(ErrorKind::UnknownTopic, error.to_string()).with_retriable(true)
            }
        }
    }
}
