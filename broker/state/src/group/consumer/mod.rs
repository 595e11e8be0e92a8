//! Consumer groups (KIP-848): the coordinator assigns, and each member follows at the pace of its own heartbeats.
//!
//! In: heartbeats and the topics of the cluster. Out: records, and for each heartbeat the member's epoch and what it may
//! consume. There is no moment at which a group stands still, no leader among the members and no parked answer.
//!
//! # Three numbers
//! - The *group epoch* grows with every change that may matter to the assignment: members, subscriptions, partitions.
//! - The *assignment epoch* is the group epoch that the target assignment was computed for.
//! - A *member epoch* is the assignment epoch that a member has reached. It comes along with every heartbeat and every
//!   commit, so a member that was thought dead cannot disturb those that live.
//!
//! # How an operation changes a group
//! Each record is applied to the group ([`ConsumerGroup::apply`]) as soon as it is decided, so the next step of the same
//! operation sees it, and is handed to the driver, whose replay applies it once more. Applying is idempotent; an error is
//! only ever returned before the first change.
//!
//! # Where we go further than Apache Kafka
//! - A heartbeat that comes twice is harmless, whatever it says, and a late request to join frees nothing: see [`heartbeat`].
//! - A regular expression is resolved within the heartbeat that brings it, so a member needs no second one.
//! - A member of the classic protocol that the group has given up, and that still claims partitions of a generation, is told
//!   UNKNOWN_MEMBER_ID when it joins. Kafka takes it in as a new one, which consumes on until its SyncGroup is answered.

use ottla_protocol::{ErrorCode, Uuid};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

mod alarms;
mod assignor;
mod classic;
mod describe;
pub(in crate::group) mod embedded;
mod group;
mod heartbeat;
mod leave;
mod member;
mod migrate;
mod offsets;
mod reconcile;
mod regex;
mod subscribe;
mod target;

#[cfg(test)]
pub(super) mod tests;

pub use assignor::ServerAssignor;
pub use describe::{DescribedGroup, DescribedMember, DescribedPartitions};
pub use group::{ConsumerGroup, GroupState};
pub use heartbeat::{HeartbeatReply, HeartbeatRequest};
pub(crate) use leave::Leave;
pub use member::{JOIN_EPOCH, LEAVE_EPOCH, Member, MemberState, STATIC_LEAVE_EPOCH};
pub(crate) use migrate::ClassicMigrant;
pub use migrate::MigrationPolicy;
pub use subscribe::Context;

/// Partitions by topic id. No topic stands with an empty set.
pub type Partitions = BTreeMap<Uuid, BTreeSet<i32>>;

/// Partitions by topic id, each with the epoch at which it was given to its member. No topic stands with an empty map.
pub type EpochPartitions = BTreeMap<Uuid, BTreeMap<i32, i32>>;

/// The partitions without their epochs.
pub(crate) fn partition_set(partitions: &EpochPartitions) -> Partitions {
    partitions
        .iter()
        .map(|(topic, partitions)| (*topic, partitions.keys().copied().collect()))
        .collect()
}

/// What a coordinator was configured to do with consumer groups. Names and defaults are Kafka's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerConfig {
    /// `group.consumer.heartbeat.interval.ms`.
    pub heartbeat_interval_ms: i32,
    /// `group.consumer.session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `group.consumer.max.size`.
    pub max_size: usize,
    /// `group.consumer.assignors`: those that may be asked for; the first is the default. Never empty.
    pub assignors: Vec<ServerAssignor>,
    /// `group.consumer.migration.policy`.
    pub migration_policy: MigrationPolicy,
    /// `group.consumer.assignment.interval.ms`: the least time between two target assignments of a group.
    pub assignment_interval_ms: i64,
    /// `group.consumer.regex.refresh.interval.ms`: how long a resolved expression is believed.
    pub regex_refresh_interval_ms: i64,
}

impl Default for ConsumerConfig {
    fn default() -> Self {
        ConsumerConfig {
            heartbeat_interval_ms: 5_000,
            session_timeout_ms: 45_000,
            max_size: i32::MAX as usize,
            assignors: ServerAssignor::ALL.to_vec(),
            migration_policy: MigrationPolicy::Bidirectional,
            assignment_interval_ms: 1_000,
            regex_refresh_interval_ms: 600_000,
        }
    }
}

/// Why a request was refused: the code for programs and a sentence for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupError {
    /// The error code of the response.
    pub code: ErrorCode,
    /// What was wrong.
    pub message: String,
}

impl GroupError {
    pub(crate) fn new(code: ErrorCode, message: impl Into<String>) -> GroupError {
        GroupError {
            code,
            message: message.into(),
        }
    }
}

impl fmt::Display for GroupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.code.name(), self.message)
    }
}

impl std::error::Error for GroupError {}
