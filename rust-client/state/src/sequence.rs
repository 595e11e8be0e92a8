//! Sequences and verdicts: what an attempt's outcome means for its batch, and which number the next batch gets.
//!
//! Takes: what happened to an attempt. Gives: a [`Verdict`] on the batch, and stamps (producer id, epoch, base
//! sequence) for batches that leave. It does not hold batches, does not send and has no timers.
//!
//! # Certainty
//! A batch starts as [`Persisted::No`]. An attempt whose answer is missing or leaves doubt makes it
//! [`Persisted::Possibly`], and nothing but an acknowledgement ends that doubt: `No` is said only when every attempt
//! was refused before it could reach the log, or never left.
//!
//! # Gaps (KIP-360)
//! The broker takes a batch only if its sequence follows the last one it holds. When a batch that has a sequence fails
//! for good, the numbers after it have a gap before them, and only a new epoch, which starts again at 0, gets past it:
//!
//! - [`Gap::Certain`]: the batch is not in the log, nor is any after it; those before it may be. As soon as nothing is in
//!   flight and everything before the gap is resolved, the epoch is raised.
//! - [`Gap::Possible`]: it may be in the log. If a later batch is waiting for its retry, that retry is the question: taken
//!   means there was no gap. If none is waiting, the epoch is raised.
//! - [`Gap::StateLost`]: the broker no longer knows this producer. Batches that may have been written cannot be
//!   recognised as duplicates any more; they fail with that doubt instead of being written a second time.
//!
//! With a new epoch the batches that wait for a retry get new sequences, except those of which a copy may still be
//! under way, in a request that was lost with its connection: should the broker come to that copy before it sees the
//! new epoch, the batch would be in the log twice. They fail as `Possibly`.
//!
//! The epoch is raised by this partition for itself. The broker keeps producer epochs per partition and accepts a
//! higher one from an idempotent producer without a word from any coordinator, so other partitions go on undisturbed.
//! A copy of an old request that a dead connection still carries is then refused by its old epoch.

use std::fmt;
use std::sync::Arc;

use ottla_protocol::ErrorCode;

/// How certain it is that records are in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Persisted {
    /// Certainly not written: no attempt left, or every attempt was refused.
    No,
    /// At least one attempt may have been written. Sending the records again may duplicate them.
    Possibly,
    /// Certainly written.
    Yes,
}

/// The producer id and epoch that the cluster gave to this producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProducerIdentity {
    /// Producer id, not negative.
    pub id: i64,
    /// Producer epoch, not negative.
    pub epoch: i16,
}

/// What is written into the header of a batch before it leaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Who sends.
    pub identity: ProducerIdentity,
    /// The sequence of the first record.
    pub base_sequence: i32,
}

/// The sequence that lies `count` records after `sequence`: after 2^31 - 1 follows 0.
pub fn sequence_after(sequence: i32, count: u32) -> i32 {
    let sum = (i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX);
    sum as i32
}

/// Whether `sequence` is `other` or lies behind it, on the circle of 2^31 sequences.
fn is_at_or_after(sequence: i32, other: i32) -> bool {
    sequence.wrapping_sub(other) & i32::MAX < (1 << 30)
}

/// How one attempt to write a batch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The broker answered for this partition.
    Answered(Answer),
    /// Written to the socket in full, and no answer was asked for (`acks=0`).
    Unacknowledged,
    /// Not one byte of the request left: no connection, or no version in common.
    NotSent(Arc<str>),
    /// The request left, at least in part, and no answer will come.
    Lost(Arc<str>),
    /// The attempt is useless and so is every other one: authentication failed, the request cannot be encoded.
    Refused(Arc<str>),
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Outcome::Answered(answer) => f.write_str(&reason_text(answer)),
            Outcome::Unacknowledged => f.write_str("written, and no answer was asked for"),
            Outcome::NotSent(text) | Outcome::Lost(text) | Outcome::Refused(text) => f.write_str(text),
        }
    }
}

/// What a Produce response says about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Error code as on the wire; 0 is success.
    pub code: i16,
    /// Offset of the first record, or -1.
    pub base_offset: i64,
    /// Milliseconds since 1970 if the topic uses log append time, else -1.
    pub log_append_time: i64,
    /// The broker's own words, if it sent any.
    pub message: Option<Arc<str>>,
    /// Records that caused the refusal: place in the batch, and the broker's words.
    pub record_errors: Vec<(u32, Option<Arc<str>>)>,
}

impl Answer {
    /// Success at `base_offset`, the topic using create time.
    pub fn written(base_offset: i64) -> Answer {
        Answer {
            code: 0,
            base_offset,
            log_append_time: -1,
            message: None,
            record_errors: Vec::new(),
        }
    }

    /// An error without further words.
    pub fn error(code: ErrorCode) -> Answer {
        Answer {
            code: code.code(),
            base_offset: -1,
            ..Answer::written(-1)
        }
    }
}

/// Why a batch failed for good.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// The broker refused it.
    Broker {
        /// Error code as on the wire.
        code: i16,
        /// The broker's own words, if it sent any.
        message: Option<Arc<str>>,
    },
    /// `delivery.timeout.ms` is over.
    DeliveryTimeout,
    /// `retries` are used up; the text says how the last attempt ended.
    RetriesExhausted(Arc<str>),
    /// The client gave up by itself.
    Refused(Arc<str>),
    /// The producer was closed before the batch was acknowledged.
    Closed,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Broker { code, message } => {
                match ErrorCode::from_code(*code) {
                    Some(known) => f.write_str(known.name())?,
                    None => write!(f, "error code {code}")?,
                }
                message.as_ref().map_or(Ok(()), |message| write!(f, " ({message})"))
            }
            Reason::DeliveryTimeout => f.write_str("delivery.timeout.ms expired"),
            Reason::RetriesExhausted(last) => write!(f, "retries are used up; the last attempt: {last}"),
            Reason::Refused(text) => f.write_str(text),
            Reason::Closed => f.write_str("the producer was closed"),
        }
    }
}

/// What to do with a batch after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Written: complete the tickets.
    Done {
        /// Offset of the first record; -1 if the broker does not know it any more (or was not asked).
        base_offset: i64,
        /// Milliseconds since 1970, or -1 with create time.
        log_append_time: i64,
    },
    /// Put it back into its place.
    Retry {
        /// The leader is probably another broker: ask for metadata.
        refresh: bool,
    },
    /// Too large as a whole: cut it in two and send the parts.
    Split,
    /// Complete the tickets with an error.
    Fail {
        /// Why.
        reason: Reason,
        /// Whether asking for metadata may help those who come after it.
        refresh: bool,
    },
}

/// What an outcome asks of the sequences beyond the batch itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recovery {
    /// Nothing.
    None,
    /// The broker expects another sequence, and this batch and what follows it are not in its log: raise the epoch.
    Renumber,
    /// The broker has lost this producer's state: raise the epoch, but do not send again what may be written.
    StateLost,
    /// As `StateLost`, and the producer id itself is of no use any more.
    NewIdentity,
}

/// What [`judge`] must know about the batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Attempted {
    /// The batch carries a sequence.
    pub idempotent: bool,
    /// No earlier batch of the partition that carries a sequence is unresolved.
    pub first: bool,
    /// A later batch of the same epoch was acknowledged. The broker takes no sequence before its turn, so this batch is
    /// in the log, whatever its own attempts were answered.
    pub overtaken: bool,
    /// Records in the batch.
    pub records: u32,
    /// Attempts so far, this one included.
    pub attempts: u32,
    /// `retries`: attempts beyond the first that are allowed.
    pub retries: u32,
    /// Certainty before this attempt.
    pub persisted: Persisted,
}

/// A verdict with its consequences.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What to do with the batch.
    pub verdict: Verdict,
    /// Certainty after this attempt; never more certain of "no" than before it.
    pub persisted: Persisted,
    /// What to do with the sequences.
    pub recovery: Recovery,
}

/// Judges the outcome of one attempt.
pub fn judge(batch: &Attempted, outcome: &Outcome) -> Judgement {
    match outcome {
        Outcome::Answered(answer) => judge_answer(batch, answer),
        Outcome::Unacknowledged => Judgement {
            verdict: Verdict::Done {
                base_offset: -1,
                log_append_time: -1,
            },
            persisted: Persisted::Possibly,
            recovery: Recovery::None,
        },
        Outcome::NotSent(text) => retry_or_fail(batch, batch.persisted, true, text),
        Outcome::Lost(text) => retry_or_fail(batch, Persisted::Possibly, true, text),
        Outcome::Refused(text) => Judgement {
            verdict: Verdict::Fail {
                reason: Reason::Refused(text.clone()),
                refresh: false,
            },
            persisted: batch.persisted,
            recovery: Recovery::None,
        },
    }
}

fn judge_answer(batch: &Attempted, answer: &Answer) -> Judgement {
    let Some(error) = ErrorCode::from_code(answer.code) else {
        return fail(answer, Persisted::Possibly, false);
    };
    let persisted = batch.persisted.max(doubt_after(error));
    match error {
        ErrorCode::None => done(answer),
        // The broker holds a later sequence of ours: this batch was written and its offset is forgotten.
        ErrorCode::DuplicateSequenceNumber if batch.idempotent => done(answer),
        _ if batch.overtaken && !error.retriable() => done(&Answer::written(-1)),
        ErrorCode::OutOfOrderSequenceNumber if batch.idempotent => recover(batch, answer, Recovery::Renumber),
        ErrorCode::UnknownProducerId if batch.idempotent => recover(batch, answer, Recovery::StateLost),
        ErrorCode::InvalidProducerEpoch | ErrorCode::InvalidProducerIdMapping | ErrorCode::ProducerFenced
            if batch.idempotent =>
        {
            recover(batch, answer, Recovery::NewIdentity)
        }
        ErrorCode::MessageTooLarge if batch.records > 1 && batch.persisted == Persisted::No => Judgement {
            verdict: Verdict::Split,
            persisted,
            recovery: Recovery::None,
        },
        _ if error.retriable() => {
            let text = reason_text(answer);
            retry_or_fail_answer(batch, answer, persisted, error.refreshes_metadata(), &text)
        }
        _ => fail(answer, persisted, error.refreshes_metadata()),
    }
}

/// Errors after which the records may be in the log although the broker refused to acknowledge them.
///
/// A leader that steps down while it waits for its followers answers NOT_LEADER_OR_FOLLOWER for a batch that it has
/// appended (KAFKA-13574), and a failing disk may have taken any part of it. The list therefore names the errors that
/// a broker gives before it appends; everything else leaves a doubt.
fn doubt_after(error: ErrorCode) -> Persisted {
    match error {
        ErrorCode::CorruptMessage
        | ErrorCode::UnknownTopicId
        | ErrorCode::InconsistentTopicId
        | ErrorCode::MessageTooLarge
        | ErrorCode::RecordListTooLarge
        | ErrorCode::InvalidTopicException
        | ErrorCode::LeaderNotAvailable
        | ErrorCode::NotEnoughReplicas
        | ErrorCode::InvalidRequiredAcks
        | ErrorCode::TopicAuthorizationFailed
        | ErrorCode::ClusterAuthorizationFailed
        | ErrorCode::TransactionalIdAuthorizationFailed
        | ErrorCode::InvalidTimestamp
        | ErrorCode::UnsupportedVersion
        | ErrorCode::UnsupportedForMessageFormat
        | ErrorCode::UnsupportedCompressionType
        | ErrorCode::InvalidRequest
        | ErrorCode::InvalidRecord
        | ErrorCode::PolicyViolation
        | ErrorCode::OutOfOrderSequenceNumber
        | ErrorCode::UnknownProducerId
        | ErrorCode::InvalidProducerEpoch
        | ErrorCode::InvalidProducerIdMapping
        | ErrorCode::ProducerFenced
        | ErrorCode::InvalidTxnState
        | ErrorCode::ThrottlingQuotaExceeded => Persisted::No,
        _ => Persisted::Possibly,
    }
}

fn done(answer: &Answer) -> Judgement {
    Judgement {
        verdict: Verdict::Done {
            base_offset: answer.base_offset,
            log_append_time: answer.log_append_time,
        },
        persisted: Persisted::Yes,
        recovery: Recovery::None,
    }
}

fn fail(answer: &Answer, persisted: Persisted, refresh: bool) -> Judgement {
    let reason = Reason::Broker {
        code: answer.code,
        message: answer.message.clone(),
    };
    Judgement {
        verdict: Verdict::Fail { reason, refresh },
        persisted,
        recovery: Recovery::None,
    }
}

/// The broker's view of our sequences differs from ours.
fn recover(batch: &Attempted, answer: &Answer, recovery: Recovery) -> Judgement {
    // Of course it does not follow while an earlier batch is under way. That one's own fate says what is missing.
    let recovery = if batch.first { recovery } else { Recovery::None };
    // If it may have been written before the broker forgot us, a second copy would not be recognised as one.
    let unsafe_again = !matches!(recovery, Recovery::None | Recovery::Renumber) && batch.persisted != Persisted::No;
    if unsafe_again || batch.attempts > batch.retries {
        return Judgement {
            recovery,
            ..fail(answer, batch.persisted, false)
        };
    }
    Judgement {
        verdict: Verdict::Retry { refresh: false },
        persisted: batch.persisted,
        recovery,
    }
}

fn retry_or_fail(batch: &Attempted, persisted: Persisted, refresh: bool, text: &str) -> Judgement {
    let verdict = if batch.attempts <= batch.retries {
        Verdict::Retry { refresh }
    } else {
        Verdict::Fail {
            reason: Reason::RetriesExhausted(Arc::from(text)),
            refresh,
        }
    };
    Judgement {
        verdict,
        persisted,
        recovery: Recovery::None,
    }
}

fn retry_or_fail_answer(
    batch: &Attempted,
    answer: &Answer,
    persisted: Persisted,
    refresh: bool,
    text: &str,
) -> Judgement {
    let judgement = retry_or_fail(batch, persisted, refresh, text);
    match judgement.verdict {
        // The broker's code says more than "retries are used up".
        Verdict::Fail { .. } => fail(answer, persisted, refresh),
        _ => judgement,
    }
}

fn reason_text(answer: &Answer) -> String {
    Reason::Broker {
        code: answer.code,
        message: answer.message.clone(),
    }
    .to_string()
}

/// What lies before the next sequence. See the head of this file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Gap {
    /// Every sequence given out is acknowledged or on its way.
    None,
    /// A failed batch may be in the log or not.
    Possible,
    /// A failed batch is not in the log.
    Certain,
    /// The broker has forgotten what it had.
    StateLost,
}

/// The sequences of one partition.
#[derive(Debug)]
pub struct PartitionSequences {
    /// Who this partition's batches are from; `None` until the first batch leaves.
    identity: Option<ProducerIdentity>,
    /// Given to the next batch that leaves for the first time.
    next: i32,
    gap: Gap,
    /// The first sequence that is missing for certain, or else the first that may be; meaningful while there is a gap.
    gap_start: i32,
    /// The sequence after the last batch that failed; meaningful while there is a gap.
    gap_end: i32,
    /// This id must not be used again: its epochs are used up, or the cluster refused it.
    spent: Option<i64>,
    /// The present leader has acknowledged a batch of ours, and nothing failed since.
    acknowledged: bool,
    /// The sequence after the last one acknowledged in this epoch.
    written_end: Option<i32>,
}

impl Default for PartitionSequences {
    fn default() -> Self {
        PartitionSequences::new()
    }
}

impl PartitionSequences {
    /// No batch was ever stamped.
    pub const fn new() -> Self {
        PartitionSequences {
            identity: None,
            next: 0,
            gap: Gap::None,
            gap_start: 0,
            gap_end: 0,
            spent: None,
            acknowledged: false,
            written_end: None,
        }
    }

    /// What lies before the next sequence.
    pub fn gap(&self) -> Gap {
        self.gap
    }

    /// The identity in use, if a batch was stamped already.
    pub fn identity(&self) -> Option<ProducerIdentity> {
        self.identity
    }

    /// The producer id that must be replaced before this partition can send again, if that is so.
    pub fn spent_id(&self) -> Option<i64> {
        self.spent
    }

    /// Whether a batch with this stamp lies before the gap: its fate does not depend on what is missing, so it is
    /// retried as it is.
    pub fn is_before_gap(&self, stamp: Stamp) -> bool {
        Some(stamp.identity) == self.identity && !is_at_or_after(stamp.base_sequence, self.gap_start)
    }

    /// Whether a further batch may leave while others are in flight.
    ///
    /// One at a time until this leader has acknowledged one: a broker that has just become leader takes any first
    /// sequence, so if it refuses the first of two and takes the second, the log is out of order and both retries fail.
    pub fn may_pipeline(&self) -> bool {
        self.acknowledged
    }

    /// The leader is another one, or an attempt failed: one at a time from here.
    pub fn hold_back(&mut self) {
        self.acknowledged = false;
    }

    /// The topic was deleted and created again. What was acknowledged is not in the new log.
    pub fn handle_other_log(&mut self) {
        self.acknowledged = false;
        self.written_end = None;
    }

    /// Offers the producer's current identity. A partition keeps the one it has while batches stamped with it are
    /// unresolved (`busy`), and prefers its own epochs of the same id.
    pub fn offer(&mut self, offered: Option<ProducerIdentity>, busy: bool) {
        let Some(offered) = offered else { return };
        if self.spent == Some(offered.id) || busy {
            return;
        }
        if self.identity.is_none_or(|own| own.id != offered.id) {
            *self = PartitionSequences {
                identity: Some(offered),
                ..PartitionSequences::new()
            };
        }
    }

    /// Stamps a batch that leaves for the first time, or for the first time in this epoch. `None` while there is no
    /// usable identity or a gap lies before the next sequence.
    pub fn stamp(&mut self, records: u32) -> Option<Stamp> {
        if self.gap != Gap::None {
            return None;
        }
        let stamp = Stamp {
            identity: self.identity?,
            base_sequence: self.next,
        };
        self.next = sequence_after(self.next, records);
        Some(stamp)
    }

    /// Whether a later batch than the one with this stamp was acknowledged in the same epoch.
    pub fn is_overtaken(&self, stamp: Stamp) -> bool {
        let end = self.written_end.filter(|_| Some(stamp.identity) == self.identity);
        end.is_some_and(|end| end != stamp.base_sequence && is_at_or_after(end, stamp.base_sequence))
    }

    /// A batch was acknowledged. It proves that everything stamped before it is in the log as well.
    pub fn handle_acknowledged(&mut self, stamp: Stamp, records: u32) {
        self.acknowledged = true;
        if Some(stamp.identity) != self.identity {
            return;
        }
        let end = sequence_after(stamp.base_sequence, records);
        if self.written_end.is_none_or(|written| is_at_or_after(end, written)) {
            self.written_end = Some(end);
        }
        if self.gap == Gap::Possible && is_at_or_after(end, self.gap_end) {
            self.gap = Gap::None;
        }
    }

    /// A stamped batch failed for good, or ran out of time.
    pub fn handle_failed(&mut self, stamp: Stamp, records: u32, persisted: Persisted) {
        self.acknowledged = false;
        if Some(stamp.identity) != self.identity {
            return;
        }
        let gap = if persisted == Persisted::No {
            Gap::Certain
        } else {
            Gap::Possible
        };
        self.widen_gap(gap, stamp.base_sequence, sequence_after(stamp.base_sequence, records));
    }

    /// An acknowledgement of the last one settles all that is possible; a certain gap anywhere is a gap for what follows.
    fn widen_gap(&mut self, gap: Gap, start: i32, end: i32) {
        let earlier = is_at_or_after(self.gap_start, start);
        // A gap that is only possible before a certain one does not move its start: what lies between may be in the log,
        // and must be asked for as it is.
        let starts_here = match (self.gap, gap) {
            (Gap::None, _) | (Gap::Possible, Gap::Certain | Gap::StateLost) => true,
            (Gap::Certain | Gap::StateLost, Gap::None | Gap::Possible) => false,
            _ => earlier,
        };
        if starts_here {
            self.gap_start = start;
        }
        if self.gap == Gap::None || is_at_or_after(end, self.gap_end) {
            self.gap_end = end;
        }
        self.gap = self.gap.max(gap);
    }

    /// The broker's state differs from ours, as the answer to the batch with this stamp shows.
    pub fn handle_recovery(&mut self, recovery: Recovery, stamp: Stamp) {
        if recovery == Recovery::None || Some(stamp.identity) != self.identity {
            return;
        }
        let gap = match recovery {
            Recovery::None => return,
            Recovery::Renumber => Gap::Certain,
            Recovery::StateLost | Recovery::NewIdentity => Gap::StateLost,
        };
        self.widen_gap(gap, stamp.base_sequence, stamp.base_sequence);
        if recovery == Recovery::NewIdentity {
            self.spent = self.identity.map(|identity| identity.id);
        }
        self.acknowledged = false;
    }

    /// Starts the next epoch at sequence 0. The caller has nothing in flight and takes back the stamps of every batch
    /// that waits for a retry.
    pub fn start_next_epoch(&mut self) {
        self.gap = Gap::None;
        self.written_end = None;
        self.next = 0;
        self.acknowledged = false;
        let Some(identity) = self.identity else { return };
        match identity.epoch.checked_add(1) {
            Some(epoch) if self.spent.is_none() => self.identity = Some(ProducerIdentity { epoch, ..identity }),
            _ => {
                self.spent = Some(identity.id);
                self.identity = None;
            }
        }
    }

    /// Only for tests of what happens at the end of the circle.
    #[doc(hidden)]
    pub fn start_at(&mut self, identity: ProducerIdentity, next: i32) {
        *self = PartitionSequences {
            identity: Some(identity),
            next,
            ..PartitionSequences::new()
        };
    }
}
