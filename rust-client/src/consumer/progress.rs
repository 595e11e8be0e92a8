//! How far each partition is, and why it does not move.
//!
//! In: the state of consumer and group. Out: [`PartitionProgress`] and [`ConsumerHealth`], as data. A watch looks every
//! few seconds, and warns once of a partition that has records and has not moved for `stalled.partition.timeout.ms`.
//! It changes nothing.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_client_state::membership::{MemberStateView, Phase};
use ottla_client_state::metadata::ClusterSnapshot;
use ottla_client_state::subscription::Standing;
use ottla_client_state::{Time, TopicPartition};

use super::fetcher::{Shared, State};
use super::group::Group;
use super::rebalance::ConsumerEvent;
use super::{Consumer, group};
use crate::error::{Error, ErrorKind};
use crate::net::Lane;

/// The longest time between two looks of the watch.
const MAX_LOOK_MS: u64 = 5_000;
/// The shortest.
const MIN_LOOK_MS: u64 = 50;

/// How far a partition is.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct PartitionProgress {
    /// The partition.
    pub partition: TopicPartition,
    /// The offset of the next record that is handed over; `None` while it is looked up.
    pub position: Option<i64>,
    /// The committed offset, as far as this consumer knows; `None` for none, or without a group.
    pub committed: Option<i64>,
    /// How many records are ahead of the position, as of the last fetch.
    pub lag: Option<i64>,
    /// What it is doing, or why it is doing nothing.
    pub state: PartitionState,
    /// For how long it has been doing that, to some seconds.
    pub since: Duration,
}

/// What a partition is doing, or waits for.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum PartitionState {
    /// The application paused it.
    Paused,
    /// It is being given up in a rebalance, and waits for the application to poll or to acknowledge it.
    RevokedAwaitsApplication,
    /// It is being given up in a rebalance, and waits for its offset to be committed.
    RevokedAwaitsCommit,
    /// There is no position and `auto.offset.reset` is `none`: the application must seek.
    NoPosition,
    /// The committed offset is being fetched from the coordinator.
    AwaitsCommittedOffset,
    /// The first or last offset is being looked up.
    AwaitsOffset,
    /// It has no leader at the moment, or its topic is not known.
    AwaitsLeader,
    /// Records are here and wait for the next poll.
    Buffered,
    /// The last attempts to fetch it failed; another follows. With the error, if it was told.
    Failing(Option<Error>),
    /// The broker does not let this client read it. With what it said.
    Unauthorized(Error),
    /// The broker has asked to be left alone for a while: this client has used up its quota.
    Throttled,
    /// `fetch.buffer.memory` is used up by other partitions.
    OverBudget,
    /// It has been read to its end.
    AtEnd,
    /// A fetch is on its way.
    Fetching,
    /// A fetch is about to be sent.
    AboutToFetch,
}

impl PartitionState {
    fn text(&self) -> String {
        match self {
            PartitionState::Paused => "it is paused".into(),
            PartitionState::RevokedAwaitsApplication => {
                "it is being given up, and the application does not poll or acknowledge".into()
            }
            PartitionState::RevokedAwaitsCommit => "it is being given up, and its offset is being committed".into(),
            PartitionState::NoPosition => "it has no position and auto.offset.reset is none: seek".into(),
            PartitionState::AwaitsCommittedOffset => {
                "its committed offset cannot be fetched from the coordinator".into()
            }
            PartitionState::AwaitsOffset => "its offset cannot be looked up".into(),
            PartitionState::AwaitsLeader => "it has no leader".into(),
            PartitionState::Buffered => "records are here, and the application does not poll".into(),
            PartitionState::Failing(Some(error)) => format!("fetches fail: {error}"),
            PartitionState::Failing(None) => "fetches fail".into(),
            PartitionState::Unauthorized(error) => format!("reading it is not allowed: {error}"),
            PartitionState::Throttled => "the broker throttles this client by a quota".into(),
            PartitionState::OverBudget => "fetch.buffer.memory is used up".into(),
            PartitionState::AtEnd => "it is at its end".into(),
            PartitionState::Fetching => "a fetch is on its way".into(),
            PartitionState::AboutToFetch => "a fetch is about to be sent".into(),
        }
    }

    /// Two states that are the same to somebody who waits.
    fn same(&self, other: &PartitionState) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

/// How a consumer is, as data.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ConsumerHealth {
    /// The group part; `None` without `group.id`.
    pub group: Option<GroupHealth>,
    /// All assigned partitions, in order.
    pub partitions: Vec<PartitionProgress>,
    /// Bytes that wait for poll or are reserved for fetches on their way.
    pub buffered_bytes: usize,
    /// Why the last question for metadata failed; `None` after an answer.
    pub metadata_error: Option<Error>,
}

/// How a consumer stands in its group.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct GroupHealth {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// What the member is doing.
    pub phase: Phase,
    /// For how long.
    pub since: Duration,
    /// Its member id; empty before it has one.
    pub member_id: Arc<str>,
    /// The generation (classic) or member epoch (consumer); `None` while it is no member.
    pub generation: Option<i32>,
    /// The broker id of the coordinator, if it is known.
    pub coordinator: Option<i32>,
    /// What is wrong with the coordinator, in words; `None` for nothing.
    pub trouble: Option<String>,
    /// How long ago the coordinator last answered.
    pub last_contact: Option<Duration>,
    /// How long the application may stay silent until it loses its partitions; `None` while there are none to lose.
    pub time_to_poll: Option<Duration>,
}

/// When each partition last changed its state and its position.
#[derive(Debug, Default)]
pub(super) struct Watch {
    seen: HashMap<TopicPartition, Seen>,
}

#[derive(Debug)]
struct Seen {
    state: PartitionState,
    since: Time,
    position: Option<i64>,
    moved: Time,
    told: bool,
}

impl Consumer {
    /// How far each assigned partition is, and why it does not move if it does not.
    pub fn progress(&self) -> Vec<PartitionProgress> {
        progress(&self.shared)
    }

    /// How this consumer is: its place in the group, its partitions, its memory.
    pub fn health(&self) -> ConsumerHealth {
        let partitions = progress(&self.shared);
        ConsumerHealth {
            group: self
                .shared
                .group
                .as_ref()
                .map(|group| group_health(&self.shared, group)),
            partitions,
            buffered_bytes: self.buffered_bytes(),
            metadata_error: self.shared.client.metadata_error(),
        }
    }
}

fn group_health(shared: &Shared, group: &Group) -> GroupHealth {
    let view: MemberStateView = group.lock().membership.state();
    let now = shared.client.now();
    let ago = |time: Time| Duration::from_millis(now.ms_since(time));
    GroupHealth {
        group_id: group.id.clone(),
        phase: view.phase,
        since: ago(view.since),
        generation: view.generation.map(|generation| generation.epoch),
        member_id: view.member_id,
        coordinator: shared.client.known_coordinator(&group.id),
        trouble: view.trouble.map(|trouble| {
            let code = trouble.code.and_then(ottla_protocol::ErrorCode::from_code);
            let how = code.map_or("got no answer", |code| code.name());
            let (request, failures) = (trouble.request.name(), trouble.failures);
            format!(
                "{request}: {how}, {failures} times, for {} ms",
                now.ms_since(trouble.since)
            )
        }),
        last_contact: view.last_contact.map(ago),
        time_to_poll: view
            .poll_deadline
            .filter(|deadline| *deadline < Time::MAX)
            .map(|deadline| Duration::from_millis(deadline.ms_since(now))),
    }
}

fn progress(shared: &Shared) -> Vec<PartitionProgress> {
    let now = shared.client.now();
    let snapshot = shared.client.metadata();
    let group = shared.group.as_ref().map(|group| group.lock());
    let mut state = shared.lock();
    let assigned: Vec<TopicPartition> = state.subscription.assigned().cloned().collect();
    state
        .watch
        .seen
        .retain(|partition, _| assigned.binary_search(partition).is_ok());
    let awaits_commit = group
        .as_ref()
        .is_some_and(|group| !matches!(group.revocation, Some(group::Revocation::AwaitsApplication(_)) | None));
    let mut all = Vec::with_capacity(assigned.len());
    for partition in assigned {
        let doing = doing(shared, &state, &snapshot, &partition, now, awaits_commit);
        let position = state.subscription.position(&partition);
        let end = state.subscription.high_watermark(&partition);
        let lag = end
            .zip(position)
            .map(|(end, position)| end.saturating_sub(position).max(0));
        let since = state.watch.look(&partition, &doing, position, now);
        all.push(PartitionProgress {
            committed: group.as_ref().and_then(|group| group.stored.committed(&partition)),
            position,
            lag,
            state: doing,
            since: Duration::from_millis(now.ms_since(since)),
            partition,
        });
    }
    all
}

fn doing(
    shared: &Shared,
    state: &State,
    snapshot: &ClusterSnapshot,
    partition: &TopicPartition,
    now: Time,
    awaits_commit: bool,
) -> PartitionState {
    let subscription = &state.subscription;
    if subscription.is_revoked(partition) {
        return match awaits_commit {
            true => PartitionState::RevokedAwaitsCommit,
            false => PartitionState::RevokedAwaitsApplication,
        };
    }
    if subscription.is_paused(partition) {
        return PartitionState::Paused;
    }
    let led = snapshot.leader_of(&partition.topic, partition.partition).is_some();
    let trouble = state.troubles.get(partition);
    let forbidden = trouble.filter(|error| error.kind() == ErrorKind::Authorization);
    match subscription.standing(partition) {
        Some(Standing::NoPosition) => return PartitionState::NoPosition,
        Some(Standing::AwaitsCommitted) => return PartitionState::AwaitsCommittedOffset,
        Some(Standing::AwaitsOffset) if led => return PartitionState::AwaitsOffset,
        _ => {}
    }
    let (position, end) = (subscription.position(partition), subscription.high_watermark(partition));
    let at_end = end.zip(position).is_some_and(|(end, position)| position >= end);
    let throttled = || {
        let source = state.source_of(partition, snapshot, now);
        source.is_some_and(|node| shared.client.is_throttled(node, Lane::Fetch))
    };
    let least = usize::try_from(shared.config.max_partition_fetch_bytes)
        .unwrap_or(0)
        .min(shared.config.fetch_buffer_memory / 4);
    if subscription.buffered_bytes(partition) > 0 {
        PartitionState::Buffered
    } else if let Some(error) = forbidden.filter(|_| !led || subscription.failures(partition) > 0) {
        PartitionState::Unauthorized(error.clone())
    } else if !led {
        PartitionState::AwaitsLeader
    } else if subscription.failures(partition) > 0 {
        PartitionState::Failing(trouble.cloned())
    } else if at_end {
        PartitionState::AtEnd
    } else if subscription.is_in_flight(partition) {
        match throttled() {
            true => PartitionState::Throttled,
            false => PartitionState::Fetching,
        }
    } else if state.buffer.is_full(least) {
        PartitionState::OverBudget
    } else {
        PartitionState::AboutToFetch
    }
}

impl Watch {
    /// Notes what a partition is doing; says since when.
    fn look(&mut self, partition: &TopicPartition, state: &PartitionState, position: Option<i64>, now: Time) -> Time {
        let seen = self.seen.entry(partition.clone()).or_insert_with(|| Seen {
            state: state.clone(),
            since: now,
            position,
            moved: now,
            told: false,
        });
        if !seen.state.same(state) {
            seen.since = now;
        }
        seen.state = state.clone();
        if seen.position != position {
            seen.position = position;
            seen.moved = now;
            seen.told = false;
        }
        seen.since
    }

    /// Whether a partition is to be told of as stalled: once, until it moves again. What is meant to stand, or has
    /// nothing to read, is not stalled.
    fn stalled(&mut self, progress: &PartitionProgress, timeout_ms: u64, now: Time) -> bool {
        let Some(seen) = self.seen.get_mut(&progress.partition) else {
            return false;
        };
        let idle = matches!(progress.state, PartitionState::Paused | PartitionState::AtEnd) || progress.lag == Some(0);
        if idle {
            // The clock runs from when there is something to do.
            seen.moved = now;
            seen.told = false;
            return false;
        }
        let stalled = now.ms_since(seen.moved) >= timeout_ms && !seen.told;
        seen.told |= stalled;
        stalled
    }
}

/// Looks again and again, until the consumer closes.
pub(super) async fn watch(shared: Arc<Shared>) {
    let Some(timeout_ms) = shared.config.stalled_partition_timeout_ms else {
        return;
    };
    let between = Duration::from_millis((timeout_ms / 4).clamp(MIN_LOOK_MS, MAX_LOOK_MS));
    let mut closed = shared.closed.subscribe();
    loop {
        tokio::select! {
            () = tokio::time::sleep(between) => {}
            _ = closed.wait_for(|closed| *closed) => return,
        }
        for progress in progress(&shared) {
            let now = shared.client.now();
            if shared.lock().watch.stalled(&progress, timeout_ms, now) {
                tell(&shared, progress);
            }
        }
    }
}

fn tell(shared: &Shared, progress: PartitionProgress) {
    tracing::warn!(
        partition = %progress.partition,
        position = ?progress.position,
        lag = ?progress.lag,
        reason = progress.state.text(),
        "a partition does not move although it has records"
    );
    if let Some(group) = shared.group.as_ref().filter(|group| group.by_events) {
        group.lock().push_event(ConsumerEvent::Stalled(progress));
        shared.arrived();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn progress(state: PartitionState, lag: Option<i64>) -> PartitionProgress {
        PartitionProgress {
            partition: TopicPartition::new("orders", 0),
            position: Some(5),
            committed: None,
            lag,
            state,
            since: Duration::ZERO,
        }
    }

    #[test]
    fn a_partition_with_records_that_does_not_move_is_told_of_once_until_it_moves() {
        let mut watch = Watch::default();
        let mut look = |state: PartitionState, lag, position, now: u64| {
            let progress = progress(state, lag);
            watch.look(&progress.partition, &progress.state, Some(position), Time(now));
            watch.stalled(&progress, 1000, Time(now))
        };
        assert!(!look(PartitionState::Buffered, Some(3), 5, 0));
        assert!(!look(PartitionState::Buffered, Some(3), 5, 999));
        assert!(look(PartitionState::Buffered, Some(3), 5, 1000));
        assert!(!look(PartitionState::Buffered, Some(3), 5, 5000), "told already");
        assert!(!look(PartitionState::Buffered, Some(2), 6, 6000), "it moved");
        assert!(look(PartitionState::Fetching, Some(2), 6, 7000));
    }

    #[test]
    fn a_partition_that_is_paused_or_read_to_its_end_does_not_stall() {
        let mut watch = Watch::default();
        for (state, lag) in [(PartitionState::Paused, Some(3)), (PartitionState::AtEnd, Some(0))] {
            for now in [0, 10_000] {
                let progress = progress(state.clone(), lag);
                watch.look(&progress.partition, &progress.state, Some(5), Time(now));
                assert!(!watch.stalled(&progress, 1000, Time(now)), "{state:?}");
            }
        }
        let behind = progress(PartitionState::Buffered, Some(3));
        watch.look(&behind.partition, &behind.state, Some(5), Time(10_500));
        assert!(
            !watch.stalled(&behind, 1000, Time(10_500)),
            "the time before does not count"
        );
    }
}
