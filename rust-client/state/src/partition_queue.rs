//! The queue of one partition: its batches in the order of sending, from the first append to the last ticket.
//!
//! Takes records, and the outcomes of attempts. Gives batches that may leave now, and completions in the order in
//! which the records were appended. It does not choose partitions, does not know which broker leads (it is told when
//! a batch leaves), and sends nothing.
//!
//! A batch keeps its place from `append` to completion. "In flight", "waiting for its retry" and "resolved" are states
//! of a batch, not places, so that a retry cannot be put back out of order and tickets cannot overtake each other:
//!
//! ```text
//!   resolved | in flight | in flight | waiting (retry) | waiting (full) | open
//!   ^ completed from here               ^ drained from here               ^ appended here
//! ```
//!
//! A batch whose delivery timeout expires while a request carries it is completed, and only its stamp stays behind
//! until that request is answered or lost ([`Ghost`]): until then it counts as in flight, and its sequence is not
//! forgotten. The bytes belong to the request and are freed with it.

use std::collections::VecDeque;
use std::sync::Arc;

use ottla_protocol::Uuid;
use ottla_protocol::records::{Header, RecordBatchBuilder, RecordError, SealedBatch};

use crate::Time;
use crate::batch::{BatchId, Body, Completion, ProducerBatch, State, Written, cut};
use crate::sequence::{
    Answer, Attempted, Gap, Judgement, Outcome, PartitionSequences, Persisted, ProducerIdentity, Reason, Stamp,
    Verdict, judge, sequence_after,
};

/// What a queue must know of the producer's configuration.
#[derive(Debug, Clone, Copy)]
pub struct QueueConfig {
    /// `batch.size` in bytes: a batch that holds records takes no further one beyond this.
    pub batch_size: usize,
    /// `linger.ms`: how long an open batch waits for company.
    pub linger_ms: u64,
    /// `delivery.timeout.ms`, from the first append of a batch.
    pub delivery_timeout_ms: u64,
    /// `retries`: attempts beyond the first.
    pub retries: u32,
    /// `enable.idempotence`.
    pub idempotent: bool,
    /// `max.in.flight.requests.per.connection`; a broker remembers the last five batches of an idempotent producer.
    pub max_in_flight: usize,
    /// Level for sealing the parts of a batch that had to be cut.
    pub compression_level: Option<i32>,
    /// Batches leave as they are built, so their checksums are worked out on the way.
    pub checksum_early: bool,
}

/// Who leads the partition at the moment, and which log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderAt {
    /// The broker.
    pub node_id: i32,
    /// The leader epoch, or -1 if unknown.
    pub epoch: i32,
    /// The topic's id. Another one is another log: the topic was deleted and created again. Zero if unknown.
    pub topic_id: Uuid,
}

/// A record that was appended.
#[derive(Debug)]
pub struct Appended<'a, T> {
    /// The tickets of its batch.
    pub tickets: &'a T,
    /// Its place among them.
    pub index: u32,
    /// Bytes that it added to the batch.
    pub bytes: usize,
    /// Something changed that whoever sends must look at: a batch became full, or the first one was begun.
    pub wake: bool,
}

/// A batch that leaves.
#[derive(Debug)]
pub struct Drained<T> {
    /// The tickets of its records.
    pub tickets: T,
    /// To be given back to [`PartitionQueue::settle`].
    pub id: BatchId,
    /// The records. They travel with the request and come back with [`PartitionQueue::settle`].
    pub body: Body,
    /// To be written into the header; `None` without idempotence.
    pub stamp: Option<Stamp>,
    /// Attempts, this one included.
    pub attempts: u32,
    /// Bytes, header included; before compression if it is not sealed yet.
    pub size: usize,
    /// When its first record was appended.
    pub created: Time,
}

/// The answer to "may a batch leave?".
#[derive(Debug)]
pub enum Next<T> {
    /// This one. It is in flight from now on.
    Batch(Drained<T>),
    /// The next one does not fit into the room that is left.
    NoRoom,
    /// Not before this moment (linger or backoff).
    Wait(Time),
    /// Not before something in flight is settled, or the producer has an identity.
    Blocked,
    /// There is nothing to send.
    Empty,
}

/// What [`PartitionQueue::settle`] did, for counters and metadata.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Settled {
    /// Acknowledged.
    Done,
    /// Will be sent again.
    Retry {
        /// The leader is probably another broker.
        refresh: bool,
    },
    /// Was cut into parts that will be sent.
    Split,
    /// Given up.
    Failed {
        /// The leader is probably another broker.
        refresh: bool,
    },
    /// Its tickets had been completed before.
    TooLate,
}

/// The stamp of a batch that was completed while in flight.
#[derive(Debug)]
struct Ghost {
    id: BatchId,
    stamp: Option<Stamp>,
    records: u32,
}

/// The queue of one partition. `T` stands for the tickets of one batch.
#[derive(Debug)]
pub struct PartitionQueue<T> {
    config: QueueConfig,
    batches: VecDeque<ProducerBatch<T>>,
    ghosts: Vec<Ghost>,
    sequences: PartitionSequences,
    leader: LeaderAt,
    /// Requests that carry a batch of this queue, ghosts included.
    in_flight: usize,
    next_id: u64,
}

impl<T: Clone> PartitionQueue<T> {
    /// An empty queue.
    pub fn new(config: QueueConfig) -> Self {
        PartitionQueue {
            config,
            batches: VecDeque::new(),
            ghosts: Vec::new(),
            sequences: PartitionSequences::new(),
            leader: LeaderAt {
                node_id: -1,
                epoch: -1,
                topic_id: Uuid::ZERO,
            },
            in_flight: 0,
            next_id: 0,
        }
    }

    /// Appends a record to the open batch. `None` if there is none or the record does not fit: then the batch is
    /// closed, and the caller brings a buffer to [`append_new`](Self::append_new).
    ///
    /// # Errors
    /// What the record format cannot say; the queue is unchanged.
    #[inline]
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<Option<Appended<'_, T>>, RecordError> {
        let Some(batch) = self.batches.back_mut() else {
            return Ok(None);
        };
        let State::Open(Body::Records(builder)) = &mut batch.state else {
            return Ok(None);
        };
        let before = builder.size();
        match builder.append_within(self.config.batch_size, timestamp_ms, key, value, headers)? {
            Some(index) => {
                batch.records = index + 1;
                let bytes = builder.size() - before;
                Ok(Some(Appended {
                    tickets: &batch.tickets,
                    index,
                    bytes,
                    wake: false,
                }))
            }
            None => {
                batch.close();
                Ok(None)
            }
        }
    }

    /// Begins a batch in `buffer` with this record. An open batch before it is closed.
    ///
    /// # Errors
    /// What the record format cannot say, and the buffer; the queue is unchanged.
    #[allow(clippy::too_many_arguments)] // a record is four of them, and it must not be copied on the way
    pub fn append_new(
        &mut self,
        buffer: Vec<u8>,
        tickets: T,
        now: Time,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<Appended<'_, T>, (RecordError, Vec<u8>)> {
        let mut builder = RecordBatchBuilder::new(buffer);
        if self.config.checksum_early {
            builder = builder.checksum_early();
        }
        if let Err(error) = builder.append(timestamp_ms, key, value, headers) {
            return Err((error, builder.into_buffer()));
        }
        let bytes = builder.size();
        self.close_open();
        let deadline = now.plus_ms(self.config.delivery_timeout_ms);
        let id = self.take_id();
        // With more than one full batch waiting, the sender was told before.
        let wake = self
            .batches
            .iter()
            .rev()
            .take(3)
            .filter(|batch| batch.is_waiting())
            .count()
            < 2;
        self.batches
            .push_back(ProducerBatch::new(id, builder, tickets, now, deadline));
        match self.batches.back() {
            Some(batch) => Ok(Appended {
                tickets: &batch.tickets,
                index: 0,
                bytes,
                wake,
            }),
            None => Err((RecordError::EmptyBatch, Vec::new())),
        }
    }

    fn take_id(&mut self) -> BatchId {
        self.next_id += 1;
        BatchId(self.next_id)
    }

    /// Ends the open batch, so that it is due at once. For `flush`.
    pub fn close_open(&mut self) {
        if let Some(batch) = self.batches.back_mut() {
            batch.close();
        }
    }

    /// The tickets of every batch that is not completed, in order, with the first ticket and their number. The tickets
    /// of a batch that was cut come once for each part.
    pub fn tickets(&self) -> impl Iterator<Item = (&T, u32, u32)> {
        self.batches
            .iter()
            .map(|batch| (&batch.tickets, batch.first, batch.records))
    }

    /// Whether no batch is left here and no request carries one.
    pub fn is_idle(&self) -> bool {
        self.batches.is_empty() && self.in_flight == 0
    }

    /// Requests that carry a batch of this partition.
    pub fn in_flight(&self) -> usize {
        self.in_flight
    }

    /// Batches that wait to be sent, the open one included.
    pub fn waiting(&self) -> usize {
        self.batches.iter().filter(|batch| batch.is_waiting()).count()
    }

    /// Whether more than `count` batches wait to be sent.
    pub fn waiting_more_than(&self, count: usize) -> bool {
        self.batches
            .iter()
            .rev()
            .nth(count)
            .is_some_and(ProducerBatch::is_waiting)
    }

    /// Batches that no request carries, for the partitioner: about, and cheap.
    pub fn backlog(&self) -> usize {
        self.batches.len().saturating_sub(self.in_flight)
    }

    /// When the batch was begun that has waited longest for its first request, or for its next one.
    pub fn waiting_since(&self) -> Option<Time> {
        self.batches
            .iter()
            .find(|batch| batch.is_waiting())
            .map(|batch| batch.created)
    }

    /// The sequences, for those who look.
    pub fn sequences(&self) -> &PartitionSequences {
        &self.sequences
    }

    /// Only for tests that begin near the end of the sequences.
    #[doc(hidden)]
    pub fn sequences_mut(&mut self) -> &mut PartitionSequences {
        &mut self.sequences
    }

    /// The next batch that may leave for `leader` now. `room`: bytes left in the request, `None` for the first batch of
    /// a request, which may have any size. `hurry`: do not linger.
    pub fn next_batch(
        &mut self,
        leader: LeaderAt,
        identity: Option<ProducerIdentity>,
        room: Option<usize>,
        hurry: bool,
        now: Time,
    ) -> Next<T> {
        if leader != self.leader && !self.follow(leader) {
            return Next::Blocked;
        }
        self.close_gap();
        let Some(place) = self.batches.iter().position(ProducerBatch::is_waiting) else {
            return Next::Empty;
        };
        let Some(batch) = self.batches.get(place) else {
            return Next::Empty;
        };
        if let Some(moment) = self.due_at(batch, hurry).filter(|moment| *moment > now) {
            return Next::Wait(moment);
        }
        if room.is_some_and(|room| batch.size() > room) {
            return Next::NoRoom;
        }
        if self.in_flight >= self.config.max_in_flight || self.is_beyond_memory(place) {
            return Next::Blocked;
        }
        let stamp = match self.config.idempotent {
            true => match self.stamp_for(place, identity) {
                Some(stamp) => Some(stamp),
                None => return Next::Blocked,
            },
            false => None,
        };
        self.launch(place, stamp).map_or(Next::Empty, Next::Batch)
    }

    /// Turns to another leader or another log, if what is in flight allows it.
    fn follow(&mut self, leader: LeaderAt) -> bool {
        let other_log = leader.topic_id != self.leader.topic_id;
        // Two connections keep no order between them; and an empty log takes any first sequence, so what the old log
        // still refuses would be missing before what the new one takes.
        if self.in_flight > 0 && (other_log || leader.node_id != self.leader.node_id) {
            return false;
        }
        if other_log {
            self.sequences.handle_other_log();
        }
        self.leader = leader;
        self.sequences.hold_back();
        true
    }

    /// Whether the broker could have forgotten the oldest unresolved batch by the time it has taken this one. It
    /// recognises a duplicate among the last five batches of a producer only, so no sixth may follow one in doubt,
    /// even if those between were acknowledged long ago.
    fn is_beyond_memory(&self, place: usize) -> bool {
        let resolved = self.batches.iter().take_while(|batch| batch.is_resolved()).count();
        self.config.idempotent && place - resolved.min(place) + self.ghosts.len() >= self.config.max_in_flight
    }

    fn launch(&mut self, place: usize, stamp: Option<Stamp>) -> Option<Drained<T>> {
        let epoch = self.leader.epoch;
        let batch = self.batches.get_mut(place)?;
        let body = batch.take_body()?;
        batch.stamp = stamp;
        batch.attempts += 1;
        batch.leader_epoch = epoch;
        self.in_flight += 1;
        Some(Drained {
            tickets: batch.tickets.clone(),
            id: batch.id,
            size: body.size(),
            body,
            stamp,
            attempts: batch.attempts,
            created: batch.created,
        })
    }

    /// When a batch that waits may leave; `None` is at once.
    fn due_at(&self, batch: &ProducerBatch<T>, hurry: bool) -> Option<Time> {
        match &batch.state {
            State::Open(_) if !hurry => Some(batch.created.plus_ms(self.config.linger_ms)),
            // The backoff is for a leader that could not; a new one is asked at once (KIP-951).
            State::Waiting(_) if batch.attempts > 0 && self.leader.epoch <= batch.leader_epoch => Some(batch.retry_at),
            _ => None,
        }
    }

    fn stamp_for(&mut self, place: usize, identity: Option<ProducerIdentity>) -> Option<Stamp> {
        if self.in_flight > 0 && !self.sequences.may_pipeline() {
            return None;
        }
        let batch = self.batches.get(place)?;
        if let Some(stamp) = batch.stamp {
            let gap = self.sequences.gap();
            let as_it_is = gap <= Gap::Possible || self.sequences.is_before_gap(stamp);
            return as_it_is.then_some(stamp);
        }
        let records = batch.records;
        let busy = self.in_flight > 0
            || self
                .batches
                .iter()
                .any(|batch| batch.stamp.is_some() && !batch.is_resolved());
        self.sequences.offer(identity, busy);
        self.sequences.stamp(records)
    }

    /// Starts the next epoch if there is a gap that nothing else can close. See `sequence`.
    fn close_gap(&mut self) {
        if self.sequences.gap() == Gap::None || self.in_flight > 0 {
            return;
        }
        let first = self
            .batches
            .iter()
            .find(|batch| !batch.is_resolved() && batch.stamp.is_some());
        if let Some(stamp) = first.and_then(|batch| batch.stamp)
            && (self.sequences.is_before_gap(stamp) || self.sequences.gap() == Gap::Possible)
        {
            return;
        }
        let state_lost = self.sequences.gap() == Gap::StateLost;
        for batch in self.batches.iter_mut().filter(|batch| !batch.is_resolved()) {
            // A copy that the broker would not recognise as one must not be sent.
            let unsafe_again = batch.stray || (state_lost && batch.persisted != Persisted::No);
            if batch.stamp.take().is_some() && unsafe_again {
                let message = "an earlier attempt may have been written, and sending it again could write it twice";
                batch.fail(Reason::Refused(message.into()), Vec::new());
            }
        }
        self.sequences.start_next_epoch();
    }

    /// When [`handle_timeout`](Self::handle_timeout) must be called: the first delivery timeout.
    pub fn wake_at(&self) -> Option<Time> {
        self.batches
            .iter()
            .find(|batch| !batch.is_resolved())
            .map(|batch| batch.deadline)
    }

    /// Gives up the batches whose delivery timeout is over.
    pub fn handle_timeout(&mut self, now: Time) {
        for place in 0..self.batches.len() {
            match self.batches.get(place) {
                Some(batch) if batch.deadline <= now => self.give_up(place, &Reason::DeliveryTimeout),
                _ => break,
            }
        }
    }

    /// Gives up everything that is not resolved.
    pub fn abort(&mut self, reason: &Reason) {
        for place in 0..self.batches.len() {
            self.give_up(place, reason);
        }
    }

    /// Gives up everything that no request carries: for an error that leaves no hope for new attempts.
    pub fn abort_waiting(&mut self, reason: &Reason) {
        for place in 0..self.batches.len() {
            if self.batches.get(place).is_some_and(ProducerBatch::is_waiting) {
                self.give_up(place, reason);
            }
        }
    }

    fn give_up(&mut self, place: usize, reason: &Reason) {
        let Some(batch) = self.batches.get_mut(place).filter(|batch| !batch.is_resolved()) else {
            return;
        };
        let (stamp, records) = (batch.stamp, batch.records);
        if batch.is_in_flight() {
            batch.persisted = Persisted::Possibly;
            self.ghosts.push(Ghost {
                id: batch.id,
                stamp,
                records,
            });
        }
        if stamp.is_some_and(|stamp| self.sequences.is_overtaken(stamp)) {
            // Only its offset is unknown.
            batch.state = State::Resolved(Ok(Written {
                base_offset: -1,
                log_append_time: -1,
            }));
            return;
        }
        let persisted = batch.persisted;
        batch.fail(reason.clone(), Vec::new());
        if let Some(stamp) = stamp {
            self.sequences.handle_failed(stamp, records, persisted);
        }
    }

    /// Gives up a batch that could not be sealed, so that it never left.
    pub fn refuse(&mut self, id: BatchId, reason: Reason) {
        let place = self.batches.iter().position(|batch| batch.id == id);
        let Some(batch) = place
            .and_then(|place| self.batches.get_mut(place))
            .filter(|batch| batch.is_in_flight())
        else {
            self.settle_ghost(id, &Outcome::NotSent(Arc::from("")));
            return;
        };
        self.in_flight = self.in_flight.saturating_sub(1);
        let (stamp, records, persisted) = (batch.stamp, batch.records, batch.persisted);
        batch.fail(reason, Vec::new());
        if let Some(stamp) = stamp {
            self.sequences.handle_failed(stamp, records, persisted);
        }
    }

    /// Judges an attempt. `sealed` is the batch as it was sent; `retry_after_ms` the backoff if it must be sent again.
    pub fn settle(
        &mut self,
        id: BatchId,
        outcome: Outcome,
        sealed: SealedBatch,
        retry_after_ms: u64,
        now: Time,
    ) -> Settled {
        let Some(place) = self.batches.iter().position(|batch| batch.id == id) else {
            return self.settle_ghost(id, &outcome);
        };
        if !self.batches.get(place).is_some_and(ProducerBatch::is_in_flight) {
            // Given up, but held back by a batch before it.
            return self.settle_ghost(id, &outcome);
        }
        self.in_flight = self.in_flight.saturating_sub(1);
        let first = self.is_first(place);
        let Some(batch) = self.batches.get_mut(place) else {
            return Settled::TooLate;
        };
        let attempted = Attempted {
            idempotent: batch.stamp.is_some(),
            first,
            overtaken: batch.stamp.is_some_and(|stamp| self.sequences.is_overtaken(stamp)),
            records: batch.records,
            attempts: batch.attempts,
            retries: self.config.retries,
            persisted: batch.persisted,
        };
        let judgement = judge(&attempted, &outcome);
        batch.persisted = judgement.persisted;
        batch.stray |= matches!(outcome, Outcome::Lost(_));
        let (stamp, recovery) = (batch.stamp, judgement.recovery);
        let settled = self.carry_out(place, judgement, outcome, sealed, now.plus_ms(retry_after_ms), now);
        if let Some(stamp) = stamp {
            self.sequences.handle_recovery(recovery, stamp);
        }
        settled
    }

    /// Does to a batch what was judged.
    fn carry_out(
        &mut self,
        place: usize,
        judgement: Judgement,
        outcome: Outcome,
        sealed: SealedBatch,
        retry_at: Time,
        now: Time,
    ) -> Settled {
        let node_id = self.leader.node_id;
        let Some(batch) = self.batches.get_mut(place) else {
            return Settled::TooLate;
        };
        let (stamp, records) = (batch.stamp, batch.records);
        match judgement.verdict {
            Verdict::Done {
                base_offset,
                log_append_time,
            } => {
                batch.state = State::Resolved(Ok(Written {
                    base_offset,
                    log_append_time,
                }));
                if let Some(stamp) = stamp {
                    self.sequences.handle_acknowledged(stamp, records);
                }
                Settled::Done
            }
            Verdict::Retry { refresh } => {
                batch.tell(now, node_id, &outcome);
                batch.retry_at = retry_at;
                batch.state = State::Waiting(Body::Sealed(sealed));
                self.sequences.hold_back();
                Settled::Retry { refresh }
            }
            Verdict::Split => self.split(place, &sealed, &outcome, now),
            Verdict::Fail { reason, refresh } => {
                batch.tell(now, node_id, &outcome);
                let record_errors = match outcome {
                    Outcome::Answered(Answer { record_errors, .. }) => record_errors,
                    _ => Vec::new(),
                };
                batch.fail(reason, record_errors);
                if let Some(stamp) = stamp {
                    self.sequences.handle_failed(stamp, records, judgement.persisted);
                }
                Settled::Failed { refresh }
            }
        }
    }

    /// Whether nothing before this batch is unresolved on the broker's side.
    fn is_first(&self, place: usize) -> bool {
        // What is given up is given up from the front, so a ghost is always before what is left.
        let earlier = self
            .batches
            .iter()
            .take(place)
            .any(|batch| !batch.is_resolved() && batch.stamp.is_some());
        !earlier && self.ghosts.is_empty()
    }

    fn settle_ghost(&mut self, id: BatchId, outcome: &Outcome) -> Settled {
        if let Some(place) = self.ghosts.iter().position(|ghost| ghost.id == id) {
            let ghost = self.ghosts.remove(place);
            self.in_flight = self.in_flight.saturating_sub(1);
            let written = matches!(outcome, Outcome::Answered(answer) if answer.code == 0);
            if let Some(stamp) = ghost.stamp.filter(|_| written) {
                self.sequences.handle_acknowledged(stamp, ghost.records);
            }
        }
        Settled::TooLate
    }

    /// Puts two halves in the place of a batch that is too large as a whole. They share its sequences, so nothing
    /// after them needs another number.
    fn split(&mut self, place: usize, sealed: &SealedBatch, outcome: &Outcome, now: Time) -> Settled {
        let halves = cut(sealed, self.config.compression_level);
        let node_id = self.leader.node_id;
        let second_id = self.take_id();
        self.sequences.hold_back();
        let Some(batch) = self.batches.get_mut(place) else {
            return Settled::TooLate;
        };
        batch.tell(now, node_id, outcome);
        let (first, second) = match halves {
            Ok([first, second]) => (first, second),
            Err(error) => {
                batch.fail(
                    Reason::Refused(format!("the batch is too large and cannot be cut: {error}").into()),
                    Vec::new(),
                );
                if let Some(stamp) = batch.stamp {
                    self.sequences.handle_failed(stamp, batch.records, batch.persisted);
                }
                return Settled::Failed { refresh: false };
            }
        };
        let head = first.record_count();
        let rest = ProducerBatch {
            id: second_id,
            tickets: batch.tickets.clone(),
            first: batch.first + head,
            records: batch.records.saturating_sub(head),
            last: batch.last,
            state: State::Waiting(Body::Sealed(second)),
            created: batch.created,
            deadline: batch.deadline,
            stamp: batch.stamp.map(|stamp| Stamp {
                base_sequence: sequence_after(stamp.base_sequence, head),
                ..stamp
            }),
            persisted: batch.persisted,
            stray: batch.stray,
            attempts: batch.attempts,
            retry_at: now,
            leader_epoch: batch.leader_epoch,
            story: batch.story.clone(),
            unsent: None,
        };
        batch.records = head;
        batch.last = false;
        batch.retry_at = now;
        batch.state = State::Waiting(Body::Sealed(first));
        self.batches.insert(place + 1, rest);
        Settled::Split
    }

    /// The next completion, in the order of appending. To be called after everything that may resolve a batch.
    pub fn next_completion(&mut self) -> Option<Completion<T>> {
        if !self.batches.front()?.is_resolved() {
            return None;
        }
        let batch = self.batches.pop_front()?;
        let State::Resolved(result) = batch.state else {
            return None;
        };
        Some(Completion {
            tickets: batch.tickets,
            first: batch.first,
            records: batch.records,
            last: batch.last,
            result,
            unsent: batch.unsent,
        })
    }

    /// Words for the state of every batch, for transcripts.
    #[doc(hidden)]
    pub fn describe(&self) -> Vec<Arc<str>> {
        let word = |batch: &ProducerBatch<T>| match &batch.state {
            State::Open(_) => "open",
            State::Waiting(_) if batch.attempts > 0 => "retry",
            State::Waiting(_) => "waiting",
            State::InFlight => "in-flight",
            State::Resolved(Ok(_)) => "done",
            State::Resolved(Err(_)) => "failed",
        };
        self.batches
            .iter()
            .map(|batch| match batch.stamp {
                Some(stamp) => format!("{}@{}/{}", word(batch), stamp.identity.epoch, stamp.base_sequence).into(),
                None => Arc::from(word(batch)),
            })
            .collect()
    }
}
