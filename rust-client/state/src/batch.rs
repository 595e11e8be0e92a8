//! A batch on its way: records, the tickets of those who wait for them, and what happened so far.
//!
//! It is filled while it is the last of its queue, leaves its queue's hands while it is in flight, and ends with one
//! result for all its records. It does not decide anything: `sequence` judges and `partition_queue` moves.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::records::{Decompressor, Header, RecordBatch, RecordBatchBuilder, RecordError, SealedBatch};

use crate::Time;
use crate::sequence::{Outcome, Persisted, Reason, Stamp};

/// The name of a batch within its queue. Grows with the order of sending and is never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// Attempts whose story is kept; the first ones say most.
const ATTEMPTS_TOLD: usize = 8;

/// The records of a batch that leaves.
#[derive(Debug)]
pub enum Body {
    /// Never sent: must be sealed first, outside any lock.
    Records(RecordBatchBuilder),
    /// Sealed by an earlier attempt.
    Sealed(SealedBatch),
}

impl Body {
    /// Bytes of the batch, header included; before compression if it is not sealed yet.
    pub fn size(&self) -> usize {
        match self {
            Body::Records(builder) => builder.size(),
            Body::Sealed(sealed) => sealed.len(),
        }
    }
}

/// One failed attempt, for the error's story.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it was judged.
    pub at: Time,
    /// The broker that was asked.
    pub node_id: i32,
    /// How it ended.
    pub ended: Arc<str>,
}

/// Where an acknowledged batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Written {
    /// Offset of the first record, or -1 if it is unknown.
    pub base_offset: i64,
    /// Milliseconds since 1970, or -1 with create time.
    pub log_append_time: i64,
}

/// Why a batch was given up, and all that is known about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// Why.
    pub reason: Reason,
    /// Whether its records may be in the log.
    pub persisted: Persisted,
    /// Attempts made.
    pub attempts: u32,
    /// How the attempts ended: the first few, and of the later ones the last.
    pub story: Vec<Attempt>,
    /// Records that caused the refusal: place in the batch, and the broker's words.
    pub record_errors: Vec<(u32, Option<Arc<str>>)>,
}

/// The end of a batch, for its tickets.
#[derive(Debug)]
pub struct Completion<T> {
    /// The tickets given when the batch was opened.
    pub tickets: T,
    /// The first of the tickets that this is about. Not 0 for the later parts of a batch that was cut.
    pub first: u32,
    /// How many of the tickets this is about.
    pub records: u32,
    /// No further part of these tickets will come.
    pub last: bool,
    /// The result, the same for all of them.
    pub result: Result<Written, Box<Failure>>,
    /// The records, if they were never sent: their buffer can be used again.
    pub unsent: Option<RecordBatchBuilder>,
}

/// What a batch is doing.
#[derive(Debug)]
pub(crate) enum State {
    /// Takes records. Only the last batch of a queue is open.
    Open(Body),
    /// Waits to be sent, for the first time or again.
    Waiting(Body),
    /// A request carries it.
    InFlight,
    /// Its fate is known. It stays only until the batches before it have been completed.
    Resolved(Result<Written, Box<Failure>>),
}

/// A batch in its queue.
#[derive(Debug)]
pub(crate) struct ProducerBatch<T> {
    pub id: BatchId,
    pub tickets: T,
    pub first: u32,
    pub records: u32,
    pub last: bool,
    pub state: State,
    /// First append. Linger and delivery timeout count from here.
    pub created: Time,
    pub deadline: Time,
    /// Kept from the first attempt on, so that a broker recognises the second as a duplicate.
    pub stamp: Option<Stamp>,
    pub persisted: Persisted,
    /// A request with this batch was lost together with its connection, so a broker may still come upon a copy.
    pub stray: bool,
    pub attempts: u32,
    pub retry_at: Time,
    /// The leader epoch that the last attempt was sent under.
    pub leader_epoch: i32,
    pub story: Vec<Attempt>,
    /// The records of a batch that failed before it was sent.
    pub unsent: Option<RecordBatchBuilder>,
}

impl<T> ProducerBatch<T> {
    pub(crate) fn new(id: BatchId, builder: RecordBatchBuilder, tickets: T, now: Time, deadline: Time) -> Self {
        ProducerBatch {
            id,
            tickets,
            first: 0,
            records: builder.count(),
            last: true,
            state: State::Open(Body::Records(builder)),
            created: now,
            deadline,
            stamp: None,
            persisted: Persisted::No,
            stray: false,
            attempts: 0,
            retry_at: now,
            leader_epoch: -1,
            story: Vec::new(),
            unsent: None,
        }
    }

    /// Open or waiting: it can leave.
    pub(crate) fn is_waiting(&self) -> bool {
        matches!(self.state, State::Open(_) | State::Waiting(_))
    }

    pub(crate) fn is_in_flight(&self) -> bool {
        matches!(self.state, State::InFlight)
    }

    pub(crate) fn is_resolved(&self) -> bool {
        matches!(self.state, State::Resolved(_))
    }

    /// Takes no further records.
    pub(crate) fn close(&mut self) {
        if let State::Open(body) = &mut self.state {
            let body = std::mem::replace(body, Body::Records(RecordBatchBuilder::new(Vec::new())));
            self.state = State::Waiting(body);
        }
    }

    /// Hands the records over to a request.
    pub(crate) fn take_body(&mut self) -> Option<Body> {
        match std::mem::replace(&mut self.state, State::InFlight) {
            State::Open(body) | State::Waiting(body) => Some(body),
            other => {
                self.state = other;
                None
            }
        }
    }

    pub(crate) fn size(&self) -> usize {
        match &self.state {
            State::Open(body) | State::Waiting(body) => body.size(),
            State::InFlight | State::Resolved(_) => 0,
        }
    }

    /// Adds a line to the story of failed attempts.
    pub(crate) fn tell(&mut self, at: Time, node_id: i32, outcome: &Outcome) {
        let ended = match outcome {
            Outcome::Answered(_) => outcome.to_string().into(),
            Outcome::NotSent(text) | Outcome::Lost(text) | Outcome::Refused(text) => text.clone(),
            Outcome::Unacknowledged => return,
        };
        if self.story.len() == ATTEMPTS_TOLD {
            self.story.pop();
        }
        self.story.push(Attempt { at, node_id, ended });
    }

    /// Ends the batch with an error; its records are let go.
    pub(crate) fn fail(&mut self, reason: Reason, record_errors: Vec<(u32, Option<Arc<str>>)>) {
        let story = std::mem::take(&mut self.story);
        let failure = Failure {
            reason,
            persisted: self.persisted,
            attempts: self.attempts,
            story,
            record_errors,
        };
        let before = std::mem::replace(&mut self.state, State::Resolved(Err(Box::new(failure))));
        if let State::Open(Body::Records(builder)) | State::Waiting(Body::Records(builder)) = before {
            self.unsent = Some(builder);
        }
    }
}

/// Keeps the room of the batch that was cut reserved until both parts are gone.
struct Part {
    records: Vec<u8>,
    _whole: Bytes,
}

impl AsRef<[u8]> for Part {
    fn as_ref(&self) -> &[u8] {
        &self.records
    }
}

/// Cuts a batch into two of about half its bytes each, in order.
///
/// # Errors
/// What reading back the records says; a batch of one record is [`RecordError::EmptyBatch`] for its second half.
pub(crate) fn cut(whole: &SealedBatch, level: Option<i32>) -> Result<[SealedBatch; 2], RecordError> {
    let bytes = whole.to_vec();
    let (batch, _) = RecordBatch::parse(&bytes)?;
    let compression = batch.compression()?;
    let mut scratch = Decompressor::new();
    // We built it ourselves, so its size needs no other limit than the format's.
    let (mut total, mut records) = (0, 0u32);
    for record in batch.records(&mut scratch, i32::MAX as usize)? {
        let record = record?;
        total += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len) + 1;
        records += 1;
    }
    let mut halves = [RecordBatchBuilder::new(Vec::new()), RecordBatchBuilder::new(Vec::new())];
    let [first, second] = &mut halves;
    let mut done = 0;
    for (place, record) in batch.records(&mut scratch, i32::MAX as usize)?.enumerate() {
        let record = record?;
        // The last record always goes to the second half, so that neither half is empty.
        let half = if done * 2 < total && place as u32 + 1 < records {
            &mut *first
        } else {
            &mut *second
        };
        done += record.key().map_or(0, <[u8]>::len) + record.value().map_or(0, <[u8]>::len) + 1;
        let headers = record.headers().collect::<Result<Vec<Header<'_>>, RecordError>>()?;
        half.append(record.timestamp, record.key(), record.value(), &headers)?;
    }
    let [first, second] = halves;
    let wrap = |records| {
        Bytes::from_owner(Part {
            records,
            _whole: whole.body().clone(),
        })
    };
    Ok([
        first.seal_with(compression, level, wrap)?,
        second.seal_with(compression, level, wrap)?,
    ])
}
