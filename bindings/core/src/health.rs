//! How a consumer is, as JSON: the same names in every language.
//!
//! In: the client's own accounts. Out: JSON values; what is not known is `null`, durations are milliseconds. It decides
//! nothing.

use std::time::Duration;

use ottla::{ConsumerHealth, GroupHealth, PartitionProgress, PartitionState, Phase};
use serde_json::{Value, json};

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn state_name(state: &PartitionState) -> &'static str {
    match state {
        PartitionState::Paused => "paused",
        PartitionState::RevokedAwaitsApplication => "revoked_awaits_application",
        PartitionState::RevokedAwaitsCommit => "revoked_awaits_commit",
        PartitionState::NoPosition => "no_position",
        PartitionState::AwaitsCommittedOffset => "awaits_committed_offset",
        PartitionState::AwaitsOffset => "awaits_offset",
        PartitionState::AwaitsLeader => "awaits_leader",
        PartitionState::Buffered => "buffered",
        PartitionState::Failing(_) => "failing",
        PartitionState::Unauthorized(_) => "unauthorized",
        PartitionState::Throttled => "throttled",
        PartitionState::OverBudget => "over_budget",
        PartitionState::AtEnd => "at_end",
        PartitionState::Fetching => "fetching",
        PartitionState::AboutToFetch => "about_to_fetch",
        _ => "unknown",
    }
}

fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Unsubscribed => "unsubscribed",
        Phase::Joining => "joining",
        Phase::Assigning => "assigning",
        Phase::Syncing => "syncing",
        Phase::Revoking => "revoking",
        Phase::TakingOver => "taking_over",
        Phase::Stable => "stable",
        Phase::PollExpired => "poll_expired",
        Phase::Failed => "failed",
        Phase::Leaving => "leaving",
        Phase::Left => "left",
    }
}

/// One partition.
pub(crate) fn progress_of(progress: &PartitionProgress) -> Value {
    let error = match &progress.state {
        PartitionState::Failing(Some(error)) => Some(error.to_string()),
        _ => None,
    };
    json!({
        "topic": &*progress.partition.topic,
        "partition": progress.partition.partition,
        "position": progress.position,
        "committed": progress.committed,
        "lag": progress.lag,
        "state": state_name(&progress.state),
        "error": error,
        "since_ms": millis(progress.since),
    })
}

/// All partitions.
pub(crate) fn progress(partitions: &[PartitionProgress]) -> Value {
    partitions.iter().map(progress_of).collect()
}

fn group(group: &GroupHealth) -> Value {
    json!({
        "group_id": &*group.group_id,
        "phase": phase_name(group.phase),
        "since_ms": millis(group.since),
        "member_id": &*group.member_id,
        "generation": group.generation,
        "coordinator": group.coordinator,
        "trouble": group.trouble,
        "last_contact_ms": group.last_contact.map(millis),
        "time_to_poll_ms": group.time_to_poll.map(millis),
    })
}

/// The whole consumer.
pub(crate) fn health(health: &ConsumerHealth) -> Value {
    json!({
        "group": health.group.as_ref().map(group),
        "partitions": progress(&health.partitions),
        "buffered_bytes": health.buffered_bytes,
        "metadata_error": health.metadata_error.as_ref().map(ToString::to_string),
    })
}
