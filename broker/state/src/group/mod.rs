//! The mind of the group coordinator: groups and their offsets, one [`GroupShard`] for each partition of
//! `__consumer_offsets`.
//!
//! In: requests, already decoded, and the [`Moment`] at which they are judged. Out: an [`Effect`](crate::Effect), the
//! records that make the decision last and the answer that may leave when they are committed.
//!
//! # How a driver uses a shard
//! 1. It replays the partition's records with [`GroupShard::replay`], then says [`GroupShard::loaded`].
//! 2. For each operation it appends the effect's records as one batch, replays them, and only then looks at
//!    [`GroupShard::next_reply`] and starts the next operation.
//! 3. At [`GroupShard::wake_at`] it calls [`GroupShard::handle_timeout`] until that says `None`, with the same care.
//! 4. If an append fails, or the partition gets another leader, it throws the shard away and loads a new one.
//!
//! An answer that must wait for other members is [`Outcome::Parked`]; it comes out of [`GroupShard::next_reply`] under
//! its [`Ticket`], in the course of the operation that has made it possible, and like that operation's own answer it
//! waits for the records to be committed.
//!
//! # What lasts and what does not
//! Offsets change by replay alone. A consumer group applies each record as it decides it, and its replay changes nothing
//! more; what it heard of members, and when, is not written. A classic group takes its steps in memory, because
//! most of them (who has joined, who was heard of) are never written; when a generation is complete it writes one record
//! that a later load starts from.
//!
//! # Against peers that mean harm
//! Everything that a group holds has a weight in bytes ([`GroupShard::weight`]). While the driver says that there is too
//! much of it ([`Moment::crowded`]), nothing new is taken in: COORDINATOR_NOT_AVAILABLE, which clients try again. A group
//! that has no member, no offset and no generation is forgotten without a record.

use bytes::Bytes;
use ottla_protocol::{ErrorCode, Uuid};
use std::sync::Arc;

use crate::Time;

pub mod classic;
pub mod consumer;
mod describe;
mod offsets;
pub mod record;
mod shard;
mod timers;
pub mod topics;

pub use describe::{ClassicDescription, ListedGroup, MemberDescription};
pub use offsets::{OffsetFetch, TopicOffsets};
pub use record::GroupRecord;
pub use shard::{Group, GroupShard};
pub use timers::{TimerKey, TimerKind, Timers};

/// The protocol type of consumers, as they name it themselves.
pub const CONSUMER_PROTOCOL_TYPE: &str = "consumer";

/// The partition of `__consumer_offsets` that keeps `group`, of `count`: Java's hash of the name, as in Kafka. `None` if
/// there are none.
pub fn partition_of(group: &str, count: usize) -> Option<i32> {
    let count = i32::try_from(count).ok().filter(|count| *count > 0)?;
    let hash = group
        .encode_utf16()
        .fold(0_i32, |hash, unit| hash.wrapping_mul(31).wrapping_add(i32::from(unit)));
    // Java's own absolute value of the lowest number is negative; Kafka takes 0 for it.
    Some(hash.checked_abs().unwrap_or(0) % count)
}

/// What a coordinator was configured to do. Names and defaults are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.min.session.timeout.ms`.
    pub min_session_timeout_ms: i32,
    /// `group.max.session.timeout.ms`.
    pub max_session_timeout_ms: i32,
    /// `group.initial.rebalance.delay.ms`: how long an empty group waits for more members after the first.
    pub initial_rebalance_delay_ms: i32,
    /// `group.max.size`: the most members of a classic group.
    pub max_size: usize,
    /// `offset.metadata.max.bytes`.
    pub offset_metadata_max_bytes: usize,
    /// `offsets.retention.minutes`, in milliseconds.
    pub offsets_retention_ms: i64,
    /// `offsets.retention.check.interval.ms`.
    pub offsets_retention_check_interval_ms: u64,
    /// The keys that begin with `group.consumer.`.
    pub consumer: consumer::ConsumerConfig,
}

impl Default for GroupConfig {
    fn default() -> Self {
        GroupConfig {
            min_session_timeout_ms: 6_000,
            max_session_timeout_ms: 1_800_000,
            initial_rebalance_delay_ms: 3_000,
            max_size: i32::MAX as usize,
            offset_metadata_max_bytes: 4_096,
            offsets_retention_ms: 7 * 24 * 60 * 60_000,
            offsets_retention_check_interval_ms: 600_000,
            consumer: consumer::ConsumerConfig::default(),
        }
    }
}

/// When something happens: by the clock that drives timeouts, and by the wall's, which goes into records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Drives sessions and rebalances.
    pub now: Time,
    /// Milliseconds since 1970; stored with offsets and states.
    pub wall_ms: i64,
    /// The coordinator holds as much as it may: nothing new is taken in.
    pub crowded: bool,
}

/// Who sends a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Client<'a> {
    /// `client.id`.
    pub id: &'a str,
    /// The address, as `kafka-consumer-groups.sh` shows it: `/127.0.0.1`.
    pub host: &'a str,
    /// Drawn by the driver for this request: a member that has no id yet gets one from it.
    pub fresh_id: Uuid,
}

/// Names an answer that is still to come. Never given twice by one shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// An answer, or the promise of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome<Reply> {
    /// It may leave when the effect's records are committed.
    Now(Reply),
    /// It comes out of [`GroupShard::next_reply`].
    Parked(Ticket),
}

/// An answer that was promised.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupReply {
    /// To JoinGroup.
    Join(JoinReply),
    /// To SyncGroup.
    Sync(SyncReply),
}

/// The answer to JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinReply {
    /// What went wrong.
    pub error: ErrorCode,
    /// The generation; -1 with an error.
    pub generation: i32,
    /// The protocol type of the group.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// The member that assigns; empty with an error.
    pub leader: Arc<str>,
    /// The leader need not assign: nothing has changed (KIP-814).
    pub skip_assignment: bool,
    /// The id of the member that is answered.
    pub member_id: Arc<str>,
    /// All members, for the leader; empty for others.
    pub members: Vec<JoinedMember>,
}

impl JoinReply {
    /// An answer that is nothing but an error.
    pub fn error(error: ErrorCode, member_id: impl Into<Arc<str>>) -> JoinReply {
        JoinReply {
            error,
            generation: -1,
            protocol_type: None,
            protocol: None,
            leader: "".into(),
            skip_assignment: false,
            member_id: member_id.into(),
            members: Vec::new(),
        }
    }
}

/// A member, as its leader is told of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// What it said of itself under the chosen protocol.
    pub metadata: Bytes,
}

/// The answer to SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncReply {
    /// What went wrong.
    pub error: ErrorCode,
    /// The protocol type of the group.
    pub protocol_type: Option<Arc<str>>,
    /// The protocol that was chosen.
    pub protocol: Option<Arc<str>>,
    /// What the leader gave to this member.
    pub assignment: Bytes,
}

impl SyncReply {
    /// An answer that is nothing but an error.
    pub fn error(error: ErrorCode) -> SyncReply {
        SyncReply {
            error,
            protocol_type: None,
            protocol: None,
            assignment: Bytes::new(),
        }
    }
}

/// What one member is told that leaves, or is made to leave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMember {
    /// As the request has it.
    pub member_id: Arc<str>,
    /// As the request has it.
    pub instance_id: Option<Arc<str>>,
    /// What went wrong.
    pub error: ErrorCode,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_lies_where_java_would_put_it() {
        // Values of "...".hashCode() in Java.
        assert_eq!(partition_of("", 50), Some(0));
        assert_eq!(partition_of("a", 50), Some(97 % 50));
        assert_eq!(partition_of("hello", 50), Some(99_162_322 % 50));
        // Its hash is -2147483648.
        assert_eq!(partition_of("polygenelubricants", 50), Some(0));
        // Two units of UTF-16: 0xd83d * 31 + 0xde00.
        assert_eq!(partition_of("\u{1f600}", 7), Some((0xd83d * 31 + 0xde00) % 7));
        assert_eq!(partition_of("a", 0), None);
    }
}
