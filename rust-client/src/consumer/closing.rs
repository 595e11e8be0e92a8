//! Closing a consumer, which always returns.
//!
//! In: a deadline. Out: a report of what was committed and what was not. What is processed is committed, partitions are let
//! go, the group is left; whatever is not done by the deadline is given up, and the report says so.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla_client_state::TopicPartition;
use ottla_client_state::membership::LeaveMode;
use tokio::time::Instant;

use super::Consumer;
use super::commits::{CommitJob, Purpose, commit_all};
use super::coordinator::coordinate;
use super::fetcher::Shared;
use super::group::{Closing, Group, take_steps};
use crate::error::Error;

/// How long a consumer that is dropped has, in the background, to commit what is processed and to leave its group.
const DROPPED: Duration = Duration::from_secs(5);

/// What became of a consumer that was closed.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct ConsumerClosed {
    /// The offsets that closing committed.
    pub committed: BTreeMap<TopicPartition, i64>,
    /// Partitions of which records were handed over that nobody said to be processed, with the offset after the last one.
    /// They are read again by whoever comes next. A last [`Consumer::commit`] before closing commits them.
    pub unprocessed: BTreeMap<TopicPartition, i64>,
    /// Whether all was done by the deadline. Otherwise the group waits for this member until its session ends.
    pub finished: bool,
    /// Why processed offsets could not be committed, if they could not.
    pub error: Option<Error>,
}

impl Consumer {
    /// Commits what is processed (with `enable.auto.commit`), lets go of the partitions, leaves the group and closes the
    /// connections. Records that were handed over stay valid.
    ///
    /// The records of the last poll count as processed only if a poll came after it, or [`Consumer::commit`] or
    /// [`Consumer::store_offsets`] said so: a loop that breaks off in the middle of a batch loses nothing.
    ///
    /// # Promises
    /// - It returns by `deadline`, whatever the network does. What was not done then is in the report.
    /// - The rebalance listener is called for the partitions that are let go.
    /// - A static member (`group.instance.id`) stays in its group, and has its partitions again if it comes back within
    ///   `session.timeout.ms`.
    pub async fn close(self, deadline: Duration) -> ConsumerClosed {
        self.close_with(deadline, LeaveMode::Default).await
    }

    /// As [`Consumer::close`], leaving the group or not as `mode` says (KIP-1092).
    pub async fn close_with(self, deadline: Duration, mode: LeaveMode) -> ConsumerClosed {
        self.finish(deadline, mode).await
    }

    /// As [`Consumer::close_with`], for a consumer that several hands share: whoever else polls it is told that it is
    /// closed. A second call has nothing left to commit. Who takes events
    /// ([`rebalance_events`](super::ConsumerBuilder::rebalance_events)) has let go of all partitions by calling this, those
    /// of a revocation that is not acknowledged yet included.
    pub async fn finish(&self, deadline: Duration, mode: LeaveMode) -> ConsumerClosed {
        let shared = &self.shared;
        shared.closed.send_replace(true);
        let Some(group) = &shared.group else {
            shared.client.close();
            return ConsumerClosed {
                finished: true,
                ..ConsumerClosed::default()
            };
        };
        let until = Instant::now() + deadline;
        let handed = shared.lock().handed.clone();
        begin(shared, group, mode, until, true);
        let mut finished = group.finished.subscribe();
        let mut arrived = shared.arrived.subscribe();
        while !*finished.borrow_and_update() {
            arrived.mark_unchanged();
            take_steps(shared, group);
            tokio::select! {
                _ = finished.changed() => {}
                _ = arrived.changed() => {}
                () = tokio::time::sleep_until(until) => break,
            }
        }
        let finished = *group.finished.borrow() && Instant::now() <= until;
        group.stopped.send_replace(true);
        shared.client.close();
        let unprocessed = handed.into_iter().filter(|(_, handed)| handed.records);
        let mut state = group.lock();
        ConsumerClosed {
            committed: std::mem::take(&mut state.committed_on_close),
            unprocessed: unprocessed
                .map(|(partition, handed)| (partition, handed.next_offset))
                .collect(),
            finished,
            error: state.close_error.take(),
        }
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.shared.closed.send_replace(true);
        match &self.shared.group {
            // Its tasks close the client when they are done.
            Some(group) => begin(&self.shared, group, LeaveMode::Default, Instant::now() + DROPPED, false),
            None => self.shared.client.close(),
        }
    }
}

/// Has the group part finish, once.
fn begin(shared: &Shared, group: &Group, mode: LeaveMode, deadline: Instant, attended: bool) {
    let mut state = group.lock();
    if state.closing.is_some() {
        return;
    }
    state.closing = Some(Closing { deadline, attended });
    if group.config.enable_auto_commit {
        let offsets = state.stored.uncommitted(|_| true);
        if !offsets.is_empty() {
            state.jobs.push_back(CommitJob {
                offsets,
                deadline,
                purpose: Purpose::Close,
            });
        }
    }
    if !attended || group.by_events {
        // Nobody comes to take them: who takes events has let go by closing, and acknowledges nothing any more.
        state.forsake();
    }
    state.membership.handle_leave(mode, shared.client.now());
    drop(state);
    group.stir();
}

/// Starts what works for the group in the background.
pub(super) fn start_group(shared: &Arc<Shared>) {
    if shared.group.is_none() {
        return;
    }
    let (driving, committing) = (shared.clone(), shared.clone());
    tokio::spawn(async move {
        let Some(group) = &driving.group else { return };
        let mut stopped = group.stopped.subscribe();
        tokio::select! {
            () = coordinate(driving.clone()) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        group.over.send_replace(true);
    });
    tokio::spawn(async move {
        let Some(group) = &committing.group else { return };
        let mut stopped = group.stopped.subscribe();
        tokio::select! {
            () = commit_all(committing.clone()) => {}
            _ = stopped.wait_for(|stopped| *stopped) => {}
        }
        group.finished.send_replace(true);
        committing.client.close();
    });
}
