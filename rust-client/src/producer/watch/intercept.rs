//! Records on their way past observers that want each of them.
//!
//! In: a record and the observers. Out: the record with their changes, sent as any other, and later one acknowledgement
//! for each. Changes own their bytes, because the record only borrows; they live until the record was appended. All of
//! this is beside the hot path: a producer without such observers never comes here.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::records::Header;

use super::super::accumulator::TopicQueues;
use super::super::at_once::{NotQueued, try_append};
use super::super::claim::Claim;
use super::super::delivery::Delivery;
use super::super::send::Sending;
use super::super::shared::Shared;

use super::observer::{Acknowledgement, Observers};
use crate::error::{Error, Result};
use crate::record::{Record, Value};

/// A record that is about to be sent, as an observer sees it and may change it.
///
/// The topic cannot be changed.
#[derive(Debug)]
pub struct OutgoingRecord<'a> {
    record: &'a Record<'a>,
    changes: Changes,
}

/// What differs from the record that was given to `send`.
#[derive(Debug, Clone, Default)]
pub(super) struct Changes {
    partition: Option<Option<i32>>,
    timestamp: Option<Option<i64>>,
    key: Option<Option<Bytes>>,
    value: Option<Option<Bytes>>,
    headers: Option<Vec<(String, Option<Bytes>)>>,
}

impl<'a> OutgoingRecord<'a> {
    fn new(record: &'a Record<'a>) -> Self {
        OutgoingRecord {
            record,
            changes: Changes::default(),
        }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        self.record.topic
    }

    /// The partition, if one was asked for.
    pub fn partition(&self) -> Option<i32> {
        self.changes.partition.unwrap_or(self.record.partition)
    }

    /// The timestamp in milliseconds since 1970, if one was given.
    pub fn timestamp(&self) -> Option<i64> {
        self.changes.timestamp.unwrap_or(self.record.timestamp)
    }

    /// The key.
    pub fn key(&self) -> Option<&[u8]> {
        match &self.changes.key {
            Some(key) => key.as_deref(),
            None => self.record.key,
        }
    }

    /// The value.
    pub fn value(&self) -> Option<&[u8]> {
        match &self.changes.value {
            Some(value) => value.as_deref(),
            None => self.record.get_value(),
        }
    }

    /// The headers, in order.
    pub fn headers(&self) -> Vec<Header<'_>> {
        match &self.changes.headers {
            None => self.record.headers.clone(),
            Some(headers) => headers
                .iter()
                .map(|(key, value)| Header {
                    key,
                    value: value.as_deref(),
                })
                .collect(),
        }
    }

    /// Asks for a partition, or leaves it to the partitioner.
    pub fn set_partition(&mut self, partition: Option<i32>) {
        self.changes.partition = Some(partition);
    }

    /// Sets the timestamp in milliseconds since 1970; `None` is the time of sending.
    pub fn set_timestamp(&mut self, ms: Option<i64>) {
        self.changes.timestamp = Some(ms);
    }

    /// Sets the key, which usually means another partition.
    pub fn set_key(&mut self, key: Option<impl Into<Bytes>>) {
        self.changes.key = Some(key.map(Into::into));
    }

    /// Sets the value.
    pub fn set_value(&mut self, value: Option<impl Into<Bytes>>) {
        self.changes.value = Some(value.map(Into::into));
    }

    /// Adds a header behind the others.
    pub fn add_header(&mut self, key: impl Into<String>, value: Option<impl Into<Bytes>>) {
        let header = (key.into(), value.map(Into::into));
        self.own_headers().push(header);
    }

    /// Takes every header of this key away.
    pub fn remove_headers(&mut self, key: &str) {
        self.own_headers().retain(|(own, _)| own != key);
    }

    fn own_headers(&mut self) -> &mut Vec<(String, Option<Bytes>)> {
        let record = self.record;
        self.changes.headers.get_or_insert_with(|| {
            let own = |header: &Header<'_>| (header.key.to_owned(), header.value.map(Bytes::copy_from_slice));
            record.headers.iter().map(own).collect()
        })
    }

    pub(super) fn changes(&self) -> Changes {
        self.changes.clone()
    }

    pub(super) fn take_back(&mut self, before: Changes) {
        self.changes = before;
    }

    /// The record as it goes on.
    fn changed(&self) -> Record<'_> {
        Record {
            topic: self.record.topic,
            partition: self.partition(),
            timestamp: self.timestamp(),
            key: self.key(),
            value: match &self.changes.value {
                Some(value) => value.clone().map(Value::Owned),
                None => self.record.value.clone(),
            },
            headers: self.headers(),
        }
    }
}

/// Sends a record past the observers.
pub(in crate::producer) async fn send<C: Claim>(
    shared: &Arc<Shared>,
    topic: Option<&Arc<TopicQueues>>,
    record: Record<'_>,
    claim: C,
) -> Result<C::Of> {
    let mut outgoing = OutgoingRecord::new(&record);
    shared.watch.observers().on_send(&mut outgoing);
    Sending::past_observers(shared, topic, outgoing.changed(), claim)
        .await
        .inspect_err(|error| refused(shared, topic.map_or(record.topic, |topic| &topic.name), error))
}

/// As [`send`], without waiting.
pub(in crate::producer) fn try_send<C: Claim>(
    shared: &Arc<Shared>,
    topic: Option<&Arc<TopicQueues>>,
    record: &mut Record<'_>,
    claim: C,
) -> Result<C::Of, NotQueued> {
    let mut outgoing = OutgoingRecord::new(record);
    shared.watch.observers().on_send(&mut outgoing);
    let mut changed = outgoing.changed();
    let given = changed.partition;
    let sent = try_append(shared, topic, &mut changed, claim);
    match &sent {
        Ok(_) => {}
        Err(NotQueued::Failed(error)) => refused(shared, topic.map_or(record.topic, |topic| &topic.name), error),
        // The caller keeps what it has, and the observers see it again. Only a partition that the record was given in its
        // turn stays with it.
        Err(NotQueued::QueueFull) => {
            let placed = changed.partition.filter(|_| given.is_none());
            record.partition = placed.or(record.partition);
        }
        Err(NotQueued::UnknownTopic) => {}
    }
    sent
}

/// Tells the fate of a record that is known.
pub(super) fn acknowledge(observers: &Observers, delivery: &Delivery) {
    let partition = delivery.topic_partition();
    if let Some(result) = delivery.try_result() {
        observers.acknowledge(&Acknowledgement {
            topic: &partition.topic,
            partition: Some(partition.partition),
            result: result.as_ref(),
        });
    }
}

fn refused(shared: &Shared, topic: &str, error: &Error) {
    shared.watch.observers().acknowledge(&Acknowledgement {
        topic,
        partition: None,
        result: Err(error),
    });
}
