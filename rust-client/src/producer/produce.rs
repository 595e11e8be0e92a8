//! One Produce request: batches become bytes, answers become outcomes.
//!
//! In: batches that leave, answers that came. Out: a request on a connection, outcomes for the queues of the
//! partitions. It judges nothing: what an error means for a batch is the queue's business.
//!
//! Topics are named by their id where broker and metadata know it (version 13), by their name otherwise.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use ottla_client_state::backoff::Backoff;
use ottla_client_state::batch::{BatchId, Body};
use ottla_client_state::metadata::{ClusterSnapshot, Leader, Node};
use ottla_client_state::partition_queue::{Drained, Settled};
use ottla_client_state::sequence::{Answer as StateAnswer, Outcome, Reason};
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use ottla_protocol::messages::{ProduceRequest, ProduceResponse};
use ottla_protocol::records::{NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, RecordError, SealedBatch};
use ottla_protocol::wire::{Records, Uuid};

use super::accumulator::Partition;
use super::delivery::Cell;
use super::sender::Answer;
use super::shared::Shared;
use super::watch::Judged;
use crate::error::{Error, ErrorKind, Persisted, Result};
use crate::net::connection::Connection;
use crate::net::request::ResponseFrame;

/// The first version that names topics by id.
const TOPIC_IDS_FROM: i16 = 13;

/// A batch as it was sent.
#[derive(Debug)]
pub(super) struct Sent {
    pub partition: Arc<Partition>,
    pub id: BatchId,
    pub sealed: SealedBatch,
    pub attempts: u32,
    /// The broker that it is sent to.
    pub node_id: i32,
    /// From its first record to now.
    pub queued: Duration,
    /// The topic's id when it was sent; zero if unknown.
    topic_id: Uuid,
}

/// Seals and stamps a batch, outside of any lock: compression and checksum are the costly part of sending. Settles it
/// at once if it cannot be sealed.
pub(super) fn seal(
    shared: &Shared,
    snapshot: &ClusterSnapshot,
    node_id: i32,
    partition: Arc<Partition>,
    drained: Drained<Arc<Cell>>,
) -> Option<Sent> {
    let Drained {
        id,
        body,
        stamp,
        attempts,
        tickets,
        size,
        created,
    } = drained;
    let queued = Duration::from_millis(shared.client.now().0.saturating_sub(created.0));
    let fresh = matches!(body, Body::Records(_));
    let sealed = match body {
        Body::Sealed(sealed) => Ok(sealed),
        Body::Records(builder) => builder.seal_with(shared.compression, shared.config.compression_level, |buffer| {
            shared.pool.freeze(buffer, tickets.room)
        }),
    };
    let mut sealed = match sealed {
        Ok(sealed) => sealed,
        Err(error) => {
            shared.pool.give_back(Vec::new(), tickets.room);
            refuse(shared, &partition, id, error);
            return None;
        }
    };
    if fresh {
        shared.watch.sealed(sealed.record_count(), size, sealed.len(), queued);
    }
    if let Some(stamp) = stamp {
        shared.watch.stamped(&partition.id, &partition.seen, stamp);
    }
    match stamp {
        Some(stamp) => sealed.stamp(stamp.identity.id, stamp.identity.epoch, stamp.base_sequence, false),
        None => sealed.stamp(NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE, false),
    }
    let topic_id = snapshot.topic(&partition.id.topic).map_or(Uuid::ZERO, |topic| topic.id);
    Some(Sent {
        partition,
        id,
        sealed,
        attempts,
        node_id,
        queued,
        topic_id,
    })
}

fn refuse(shared: &Shared, partition: &Partition, id: BatchId, error: RecordError) {
    let error = Error::new(ErrorKind::Argument, format!("the batch cannot be sealed: {error}")).with_source(error);
    let mut wakers = Vec::new();
    let mut slot = partition.lock();
    slot.queue.refuse(id, Reason::Refused(error.message().into()));
    slot.refusal = Some(error);
    shared.complete(partition, &mut slot, &mut wakers);
    drop(slot);
    wakers.into_iter().for_each(std::task::Waker::wake);
}

/// Writes a request for `sent` into the connection's queue.
///
/// # Errors
/// Nothing was sent: the connection has died, or the broker speaks no version that we do.
pub(super) fn dispatch(shared: &Shared, connection: &Connection, sent: &[Sent]) -> Result<Answer> {
    let named = sent.iter().any(|one| one.topic_id == Uuid::ZERO);
    let cap = if named { TOPIC_IDS_FROM - 1 } else { i16::MAX };
    let version = connection.version_of::<ProduceRequest>(cap)?;
    let timeout = shared.client.config().request_timeout;
    let request = ProduceRequest {
        transactional_id: None,
        acks: shared.config.acks.code(),
        timeout_ms: i32::try_from(timeout.as_millis()).unwrap_or(i32::MAX),
        topic_data: by_topic(sent),
    };
    if request.acks == 0 {
        return connection.send_unanswered(version, &request, timeout).map(Answer::None);
    }
    connection
        .send(version, &request, timeout)
        .map(|pending| Answer::Due(pending.cast()))
}

fn by_topic(sent: &[Sent]) -> Vec<TopicProduceData<'_>> {
    let mut topics: Vec<TopicProduceData<'_>> = Vec::new();
    for one in sent {
        let [header, body]: [Bytes; 2] = one.sealed.pieces();
        let data = PartitionProduceData {
            index: one.partition.id.partition,
            records: Records::Chain(vec![header, body]),
        };
        let name = &*one.partition.id.topic;
        match topics.iter_mut().find(|topic| topic.name == name) {
            Some(topic) => topic.partition_data.push(data),
            None => {
                topics.push(TopicProduceData {
                    name,
                    topic_id: one.topic_id,
                    partition_data: vec![data],
                });
            }
        }
    }
    topics
}

/// Takes in an answer. True if the broker asks to be left alone for a while.
pub(super) fn settle_answer(
    shared: &Shared,
    sent: Vec<Sent>,
    frame: &ResponseFrame<ProduceRequest<'static>>,
    backoff: &mut Backoff,
) -> bool {
    let response = match frame.decode() {
        Ok(response) => response,
        Err(error) => {
            settle_error(shared, sent, &error.with_persisted(Persisted::Possibly), backoff);
            return false;
        }
    };
    let by_id = frame.version() >= TOPIC_IDS_FROM;
    if response.throttle_time_ms > 0
        && let Some(one) = sent.first()
    {
        shared.watch.throttled(one.node_id, response.throttle_time_ms);
    }
    let mut open: Vec<Option<Sent>> = sent.into_iter().map(Some).collect();
    let mut next = 0;
    let mut refresh = false;
    for topic in &response.responses {
        for answer in &topic.partition_responses {
            // Answers usually come in the order of the request; then there is nothing to search for.
            let place = (next..open.len()).chain(0..next).find(|place| {
                open.get(*place)
                    .and_then(Option::as_ref)
                    .is_some_and(|one| is_about(one, topic, answer.index, by_id))
            });
            let Some(one) = place.and_then(|place| open.get_mut(place)?.take()) else {
                continue; // nothing that was asked
            };
            next = place.unwrap_or(0) + 1;
            learn_leader(shared, &response, &one, answer, frame.broker());
            let outcome = Outcome::Answered(state_answer(answer));
            refresh |= settle_one(shared, one, outcome, Teller::Answer(frame), backoff);
        }
    }
    for one in open.into_iter().flatten() {
        let outcome = Outcome::Lost("the broker's answer leaves this partition out".into());
        refresh |= settle_one(shared, one, outcome, Teller::Answer(frame), backoff);
    }
    if refresh {
        shared.client.request_refresh();
    }
    response.throttle_time_ms > 0
}

fn is_about(one: &Sent, topic: &TopicProduceResponse<'_>, index: i32, by_id: bool) -> bool {
    let same_topic = if by_id {
        one.topic_id == topic.topic_id
    } else {
        *one.partition.id.topic == *topic.name
    };
    same_topic && one.partition.id.partition == index
}

fn state_answer(answer: &PartitionProduceResponse<'_>) -> StateAnswer {
    let words = |text: Option<&str>| text.filter(|text| !text.is_empty()).map(Arc::from);
    StateAnswer {
        code: answer.error_code,
        base_offset: answer.base_offset,
        log_append_time: answer.log_append_time_ms,
        message: words(answer.error_message),
        record_errors: answer
            .record_errors
            .iter()
            .map(|one| {
                (
                    u32::try_from(one.batch_index).unwrap_or(u32::MAX),
                    words(one.batch_index_error_message),
                )
            })
            .collect(),
    }
}

/// A broker that is not the leader any more may say who is (KIP-951).
fn learn_leader(
    shared: &Shared,
    response: &ProduceResponse<'_>,
    one: &Sent,
    answer: &PartitionProduceResponse<'_>,
    told_by: &Arc<str>,
) {
    let hint = &answer.current_leader;
    if answer.error_code == 0 || hint.leader_id < 0 || hint.leader_epoch < 0 {
        return;
    }
    let address = response
        .node_endpoints
        .iter()
        .find(|node| node.node_id == hint.leader_id);
    let node = address.and_then(|node| Node::told(node.node_id, node.host, node.port, node.rack));
    let leader = Leader {
        node_id: hint.leader_id,
        epoch: hint.leader_epoch,
    };
    shared.client.update_leader(
        &one.partition.id.topic,
        one.partition.id.partition,
        leader,
        node,
        told_by,
    );
}

/// Everything of a request that was written and is not answered (acks=0).
pub(super) fn settle_unanswered(shared: &Shared, sent: Vec<Sent>, backoff: &mut Backoff) {
    for one in sent {
        settle_one(shared, one, Outcome::Unacknowledged, Teller::Nobody, backoff);
    }
}

/// Everything of a request that failed as a whole.
pub(super) fn settle_error(shared: &Shared, sent: Vec<Sent>, error: &Error, backoff: &mut Backoff) {
    let text: Arc<str> = error.to_string().into();
    let hopeless = matches!(
        error.kind(),
        ErrorKind::Argument | ErrorKind::Unsupported | ErrorKind::Authentication
    );
    for one in sent {
        let outcome = match error.persisted() {
            Persisted::No if hopeless => Outcome::Refused(error.message().into()),
            Persisted::No => Outcome::NotSent(text.clone()),
            _ => Outcome::Lost(text.clone()),
        };
        settle_one(shared, one, outcome, Teller::Error(error), backoff);
    }
    shared.client.request_refresh();
}

/// Where an outcome is known from.
#[derive(Clone, Copy)]
enum Teller<'a> {
    Answer(&'a ResponseFrame<ProduceRequest<'static>>),
    Error(&'a Error),
    Nobody,
}

impl Teller<'_> {
    /// The broker that was asked, and the version of the request.
    fn asked(self) -> Option<(Arc<str>, i16)> {
        match self {
            Teller::Answer(frame) => Some((frame.broker().clone(), frame.version())),
            Teller::Error(error) => error.asked(),
            Teller::Nobody => None,
        }
    }
}

/// Gives one outcome to its queue and completes what it resolves. True if metadata may be out of date.
fn settle_one(shared: &Shared, one: Sent, outcome: Outcome, teller: Teller<'_>, backoff: &mut Backoff) -> bool {
    let Sent {
        partition,
        id,
        sealed,
        attempts,
        node_id,
        ..
    } = one;
    let good = match &outcome {
        Outcome::Answered(answer) => answer.code == 0,
        Outcome::Unacknowledged => true,
        _ => false,
    };
    let wait = if good { 0 } else { backoff.next_ms(attempts) };
    let judged = Judged {
        partition: &partition.id,
        seen: &partition.seen,
        node_id,
        records: sealed.record_count(),
        attempts,
    };
    // The text of an outcome is only made for those who will be told.
    let reason = (!good).then(|| outcome.clone());
    let now = shared.client.now();
    let mut wakers = Vec::new();
    let mut slot = partition.lock();
    if !good {
        slot.asked = teller.asked();
    }
    if let (Teller::Error(error), Outcome::Refused(_)) = (teller, &outcome) {
        slot.refusal = Some(error.clone());
    }
    let settled = slot.queue.settle(id, outcome, sealed, wait, now);
    shared.complete(&partition, &mut slot, &mut wakers);
    drop(slot);
    wakers.into_iter().for_each(std::task::Waker::wake);
    match settled {
        Settled::Retry { refresh } => {
            let reason = reason.map_or_else(String::new, |outcome| outcome.to_string());
            shared.watch.batch_retried(&judged, &reason, wait);
            refresh
        }
        Settled::Failed { refresh } => {
            shared.watch.batch_settled(attempts);
            refresh
        }
        Settled::Done => {
            shared.watch.batch_settled(attempts);
            false
        }
        Settled::Split => {
            shared.watch.batch_split(&judged);
            false
        }
        Settled::TooLate => false,
    }
}
