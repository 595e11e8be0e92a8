//! A consumer's group: what its polls, its coordinator task and its commits share.
//!
//! In: signs of life and what was processed (from polls), decisions of the machine (from the coordinator task). Out: steps
//! of a rebalance, each taken where it belongs. A revocation goes through three hands: the task stops the partitions, the
//! application's next poll says that what it has of them is processed, the task commits and lets go.
//!
//! Locks are taken in the order group, then fetcher state; never the other way around.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_client_state::TopicPartition;
use ottla_client_state::commit::{Chosen, CommitState, OffsetAndMetadata};
use ottla_client_state::membership::{Generation, LostReason, Membership, Phase, Subscription};
use ottla_protocol::ErrorCode;
use tokio::sync::watch;
use tokio::time::Instant;

use super::commits::{CommitJob, Purpose};
use super::committed::Committer;
use super::fetcher::{Shared, State};
use super::pattern::TopicPattern;
use super::rebalance::{ConsumerEvent, Rebalance, RebalanceKind, RebalanceListener};
use crate::config::{GroupConfig, GroupProtocol};
use crate::error::{Error, ErrorKind, Result};

/// How many events wait for an application that does not take them; the oldest go first.
const MAX_EVENTS: usize = 1000;

/// The group part of a consumer that has a `group.id`.
pub(super) struct Group {
    pub config: GroupConfig,
    pub id: Arc<str>,
    state: Mutex<GroupState>,
    /// Something changed that the coordinator task or the committer may act on.
    pub stirred: watch::Sender<u64>,
    /// The coordinator task has ended: what there was to be done with the group is done.
    pub over: watch::Sender<bool>,
    /// The committer has ended as well.
    pub finished: watch::Sender<bool>,
    /// Whatever is under way is given up.
    pub stopped: watch::Sender<bool>,
    pub listener: Option<Arc<dyn RebalanceListener>>,
    /// The application takes events, and acknowledges revocations by itself.
    pub by_events: bool,
    /// Held while the listener is called: one call at a time, and none inside of another.
    calling: Mutex<()>,
}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the application reads, and who decides it.
#[derive(Debug)]
pub(super) enum Interest {
    /// Nothing yet.
    None,
    /// Partitions that it assigned itself.
    Manual,
    /// Topics by name.
    Topics(BTreeSet<Arc<str>>),
    /// Topics by a pattern that this client evaluates.
    Pattern(TopicPattern),
    /// Topics by a pattern that the coordinator evaluates.
    RemotePattern(Arc<str>),
}

impl Interest {
    pub fn is_subscription(&self) -> bool {
        !matches!(self, Interest::None | Interest::Manual)
    }
}

/// A step of a rebalance that waits for the application.
#[derive(Debug)]
pub(super) enum Step {
    /// The number of the assignment, and what it adds.
    Assigned(u64, Vec<TopicPartition>),
    Revoked(Vec<TopicPartition>),
    Lost(Vec<TopicPartition>),
}

/// Where a revocation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Revocation {
    /// The application has not yet said that it is done.
    AwaitsApplication(Vec<TopicPartition>),
    /// Done with; these offsets are to be committed before it is let go, beside those that are processed.
    Ready(Vec<TopicPartition>, BTreeMap<TopicPartition, OffsetAndMetadata>),
    /// The commit is on its way.
    Committing(Vec<TopicPartition>),
    /// The commit is over, whatever came of it.
    Committed(Vec<TopicPartition>),
}

/// How the consumer is to close.
#[derive(Debug, Clone, Copy)]
pub(super) struct Closing {
    pub deadline: Instant,
    /// Whether somebody still calls the listener and takes events.
    pub attended: bool,
}

pub(super) struct GroupState {
    pub membership: Membership,
    pub interest: Interest,
    pub stored: CommitState,
    pub jobs: VecDeque<CommitJob>,
    pub steps: VecDeque<Step>,
    pub revocation: Option<Revocation>,
    pub events: VecDeque<ConsumerEvent>,
    pub closing: Option<Closing>,
    /// What the last commits on closing stored, for the report.
    pub committed_on_close: BTreeMap<TopicPartition, i64>,
    pub close_error: Option<Error>,
}

impl GroupState {
    pub fn push_event(&mut self, event: ConsumerEvent) {
        if self.events.len() >= MAX_EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The topic was created anew: what was processed of this partition is nobody's. What the application itself asked for
    /// is left, to be answered.
    pub fn forget_offsets(&mut self, partition: &TopicPartition) {
        self.stored.forget(partition);
        let own = self
            .jobs
            .iter_mut()
            .filter(|job| !matches!(job.purpose, Purpose::Application(_)));
        for job in own {
            job.offsets.remove(partition);
        }
    }

    /// The application is gone: nothing waits for it any more. What nobody said to be processed is not committed.
    pub fn forsake(&mut self) {
        self.steps.clear();
        if let Some(Revocation::AwaitsApplication(partitions)) = self
            .revocation
            .take_if(|revocation| matches!(revocation, Revocation::AwaitsApplication(_)))
        {
            self.revocation = Some(Revocation::Ready(partitions, BTreeMap::new()));
        }
    }

    /// Whether a group assigns the partitions, so that commits are those of a member.
    pub fn is_member(&self) -> bool {
        self.interest.is_subscription() || !has_left(self)
    }
}

impl Group {
    pub fn new(
        config: GroupConfig,
        membership: Membership,
        listener: Option<Arc<dyn RebalanceListener>>,
        by_events: bool,
    ) -> Group {
        let interval = config.enable_auto_commit.then_some(config.auto_commit_interval_ms);
        Group {
            id: config.id.as_str().into(),
            state: Mutex::new(GroupState {
                membership,
                interest: Interest::None,
                stored: CommitState::new(interval),
                jobs: VecDeque::new(),
                steps: VecDeque::new(),
                revocation: None,
                events: VecDeque::new(),
                closing: None,
                committed_on_close: BTreeMap::new(),
                close_error: None,
            }),
            config,
            stirred: watch::channel(0).0,
            over: watch::channel(false).0,
            finished: watch::channel(false).0,
            stopped: watch::channel(false).0,
            listener,
            by_events,
            calling: Mutex::new(()),
        }
    }

    pub fn lock(&self) -> MutexGuard<'_, GroupState> {
        // Every step under this lock leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has the coordinator task and the committer look again.
    pub fn stir(&self) {
        self.stirred.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Whether the application wants to be told of a rebalance step by step.
    fn is_told(&self, group: &GroupState) -> bool {
        match group.closing {
            // Who closes has given the consumer away and takes no events any more.
            Some(closing) => closing.attended && self.listener.is_some(),
            None => self.listener.is_some() || self.by_events,
        }
    }

    /// Who commits, as of now.
    ///
    /// # Errors
    /// The consumer is subscribed but no member at the moment.
    pub fn committer(&self, group: &GroupState) -> Result<(Committer, Option<Generation>)> {
        if !group.is_member() {
            return Ok((Committer::outside(self.id.clone()), None));
        }
        let Some(generation) = group.membership.generation() else {
            let text = format!(
                "group {:?}: this consumer is no member at the moment, so it cannot commit; poll on until it is",
                self.id
            );
            return Err(Error::new(ErrorKind::Fenced, text).with_retriable(true));
        };
        let committer = Committer {
            group_id: self.id.clone(),
            member_id: generation.member_id.clone(),
            generation: generation.epoch,
            instance_id: self.config.instance_id.as_deref().map(Into::into),
            has_epoch: self.config.protocol == GroupProtocol::Consumer,
        };
        Ok((committer, Some(generation)))
    }
}

/// A poll of the application: a sign of life, and word that what earlier polls handed over is processed.
pub(super) fn handle_poll(shared: &Arc<Shared>, group: &Group) {
    let mut state = group.lock();
    let (woken, ()) = be_alive_and(shared, &mut state, |state| store_handed(shared, group, state, |_| true));
    let steps = !state.steps.is_empty();
    drop(state);
    if steps {
        take_steps(shared, group);
    }
    if woken {
        group.stir();
    }
}

/// A sign of life, and what is stored with it. Whether the tasks of the group are to look again: what changes nothing for
/// them wakes nobody.
pub(super) fn be_alive_and<T>(
    shared: &Shared,
    state: &mut GroupState,
    store: impl FnOnce(&mut GroupState) -> T,
) -> (bool, T) {
    let changed = be_alive(shared, state);
    let idle = state.stored.wake_at().is_none();
    let stored = store(state);
    let due = idle && state.stored.wake_at().is_some();
    (changed || due, stored)
}

/// A sign of life without a poll.
pub(super) fn handle_alive(shared: &Shared, group: &Group) {
    if be_alive(shared, &mut group.lock()) {
        group.stir();
    }
}

/// Whether that made a difference.
fn be_alive(shared: &Shared, state: &mut GroupState) -> bool {
    let before = state.membership.phase();
    state.membership.handle_poll(shared.client.now());
    let after = state.membership.phase();
    before != after || matches!(before, Phase::PollExpired | Phase::Failed)
}

/// What was handed over of the partitions that `of` accepts is processed.
fn store_handed(shared: &Shared, group: &Group, state: &mut GroupState, of: impl Fn(&TopicPartition) -> bool) {
    store_handed_of(shared, &mut shared.lock(), group, state, of);
}

/// The same for who holds the lock.
pub(super) fn store_handed_of(
    shared: &Shared,
    fetching: &mut State,
    group: &Group,
    state: &mut GroupState,
    of: impl Fn(&TopicPartition) -> bool,
) {
    let now = shared.client.now();
    for (partition, handed) in std::mem::take(&mut fetching.handed) {
        if !of(&partition) {
            fetching.handed.insert(partition, handed);
        } else if group.config.enable_auto_offset_store {
            state
                .stored
                .note(&partition, handed.assignment, handed.processed(), now);
        }
    }
}

/// Takes the steps of a rebalance that wait for the application, on its thread.
pub(super) fn take_steps(shared: &Arc<Shared>, group: &Group) {
    if group.by_events {
        return;
    }
    let Ok(_turn) = group.calling.try_lock() else {
        return;
    };
    loop {
        let Some(step) = group.lock().steps.pop_front() else {
            return;
        };
        let call = |partitions: &[TopicPartition], kind| {
            let rebalance = Rebalance::new(partitions, shared, kind);
            if let Some(listener) = &group.listener {
                match kind {
                    RebalanceKind::Assigned => listener.on_partitions_assigned(&rebalance),
                    RebalanceKind::Revoked => listener.on_partitions_revoked(&rebalance),
                    RebalanceKind::Lost => listener.on_partitions_lost(&rebalance),
                }
            }
            rebalance.into_commits()
        };
        match step {
            Step::Assigned(number, partitions) => {
                call(&partitions, RebalanceKind::Assigned);
                group.lock().membership.handle_assigned(number, shared.client.now());
            }
            Step::Revoked(partitions) => {
                let commits = call(&partitions, RebalanceKind::Revoked);
                let mut state = group.lock();
                // It may have been lost while the listener was called.
                if state.revocation == Some(Revocation::AwaitsApplication(partitions.clone())) {
                    state.revocation = Some(Revocation::Ready(partitions, commits));
                }
            }
            Step::Lost(partitions) => {
                call(&partitions, RebalanceKind::Lost);
            }
        }
        group.stir();
    }
}

/// The application that takes events says that it has let go.
pub(super) fn acknowledge(shared: &Shared, group: &Group) -> bool {
    let mut state = group.lock();
    let Some(Revocation::AwaitsApplication(partitions)) = state.revocation.clone() else {
        return false;
    };
    store_handed(shared, group, &mut state, |partition| partitions.contains(partition));
    state.revocation = Some(Revocation::Ready(partitions, BTreeMap::new()));
    drop(state);
    group.stir();
    true
}

/// The machine takes partitions back: nothing of them is handed over from now on.
pub(super) fn revoke(shared: &Shared, group: &Group, state: &mut GroupState, partitions: Vec<TopicPartition>) {
    let mut fetching = shared.lock();
    let mut outstanding = false;
    for partition in &partitions {
        fetching.subscription.handle_revoked(partition);
        outstanding |= fetching.handed.get(partition).is_some_and(|handed| handed.records);
    }
    drop(fetching);
    // Who takes events and unsubscribes has let go already, and acknowledges nothing.
    let lets_go = group.by_events && !state.interest.is_subscription();
    let told = group.is_told(state) && !lets_go;
    if told && group.by_events {
        state.push_event(ConsumerEvent::Revoked(partitions.clone()));
    } else if told || (outstanding && state.closing.is_none() && !lets_go) {
        state.steps.push_back(Step::Revoked(partitions.clone()));
    } else {
        // Nobody has anything of them that is not processed, or nobody will ever say so.
        if state.closing.is_none() && !lets_go {
            store_handed(shared, group, state, |partition| partitions.contains(partition));
        }
        state.revocation = Some(Revocation::Ready(partitions, BTreeMap::new()));
        return;
    }
    state.revocation = Some(Revocation::AwaitsApplication(partitions));
    shared.arrived();
}

/// Partitions are let go: they are not assigned any more.
pub(super) fn let_go(shared: &Shared, state: &mut GroupState, partitions: &[TopicPartition]) {
    let mut fetching = shared.lock();
    let left: Vec<TopicPartition> = fetching
        .subscription
        .assigned()
        .filter(|partition| !partitions.contains(partition))
        .cloned()
        .collect();
    fetching.subscription.assign(&left);
    for partition in partitions {
        fetching.handed.remove(partition);
        state.stored.forget(partition);
    }
    drop(fetching);
    shared.stir();
}

/// The machine has an assignment.
pub(super) fn assign(
    shared: &Shared,
    group: &Group,
    state: &mut GroupState,
    number: u64,
    added: Vec<TopicPartition>,
    all: &[TopicPartition],
) {
    tracing::info!(group = %group.id, assigned = all.len(), added = ?Listed(&added), "the group has assigned partitions");
    if group.is_told(state) && !group.by_events {
        state.steps.push_back(Step::Assigned(number, added));
    } else {
        if group.by_events {
            // Polls give nothing before it is taken.
            state.push_event(ConsumerEvent::Assigned(added));
        }
        state.membership.handle_assigned(number, shared.client.now());
    }
    shared.lock().subscription.assign(all);
    shared.stir();
    shared.arrived();
}

/// The membership is gone, and the partitions with it.
pub(super) fn lose(
    shared: &Shared,
    group: &Group,
    state: &mut GroupState,
    partitions: Vec<TopicPartition>,
    reason: LostReason,
) {
    tracing::warn!(group = %group.id, %reason, lost = ?Listed(&partitions), "the membership in the group is lost");
    state.revocation = None;
    let error = lost_error(&group.id, &partitions, reason);
    // What the application was never told to have, it need not be told to have lost.
    let mut untold: BTreeSet<TopicPartition> = BTreeSet::new();
    for step in std::mem::take(&mut state.steps) {
        match step {
            Step::Assigned(_, added) => untold.extend(added),
            Step::Revoked(_) => {}
            lost @ Step::Lost(_) => state.steps.push_back(lost),
        }
    }
    for event in std::mem::take(&mut state.events) {
        match event {
            ConsumerEvent::Assigned(added) => untold.extend(added),
            ConsumerEvent::Revoked(_) => {}
            other => state.events.push_back(other),
        }
    }
    let_go(shared, state, &partitions);
    let told: Vec<TopicPartition> = partitions
        .into_iter()
        .filter(|partition| !untold.contains(partition))
        .collect();
    if group.by_events {
        state.push_event(ConsumerEvent::Lost(told, error.clone()));
    } else if group.is_told(state) {
        state.steps.push_back(Step::Lost(told));
    }
    // Of a failure the cause is told by itself, right behind.
    if reason != LostReason::Failed {
        shared.lock().report(error);
    }
    shared.arrived();
}

fn lost_error(group: &str, partitions: &[TopicPartition], reason: LostReason) -> Error {
    let what_to_do = match reason {
        LostReason::PollIntervalExceeded => {
            "poll more often, take fewer records at a time (max.poll.records), say that processing goes on (extend_poll), or \
             raise max.poll.interval.ms; this poll has joined again"
        }
        LostReason::SessionExpired => "the coordinator could not be reached for too long; the consumer joins again",
        LostReason::Failed => "the next poll says why",
        _ => "the consumer joins again",
    };
    let text = format!(
        "the membership in group {group:?} is lost: {reason}. Its {} partitions belong to other members now, who go on \
         from the committed offsets; {what_to_do}",
        partitions.len()
    );
    let error = Error::new(ErrorKind::Fenced, text).with_retriable(true);
    match reason {
        LostReason::Fenced { code } => match ErrorCode::from_code(code) {
            Some(code) => error.with_code(code),
            None => error,
        },
        _ => error,
    }
}

/// Partitions for the log: all, or the first few.
pub(super) struct Listed<'a>(pub &'a [TopicPartition]);

impl fmt::Debug for Listed<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        for (place, partition) in self.0.iter().take(SHOWN).enumerate() {
            let comma = if place > 0 { ", " } else { "" };
            write!(f, "{comma}{partition}")?;
        }
        match self.0.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, " and {more} more"),
        }
    }
}

/// What the machine is told of a subscription.
pub(super) fn subscription_of(interest: &Interest) -> Option<Subscription> {
    match interest {
        Interest::None | Interest::Manual => None,
        Interest::Topics(topics) => Some(Subscription::Topics(topics.clone())),
        Interest::Pattern(pattern) => Some(Subscription::Topics(pattern.matched().clone())),
        Interest::RemotePattern(pattern) => Some(Subscription::Pattern(pattern.clone())),
    }
}

/// An offset that the application names for a partition: it must be assigned, if a group assigns partitions.
pub(super) fn chosen(
    shared: &Shared,
    state: &GroupState,
    partition: &TopicPartition,
    offset: OffsetAndMetadata,
    assignment: Option<u64>,
) -> Result<Chosen> {
    if offset.offset < 0 {
        let text = format!("{partition}: {} is not an offset", offset.offset);
        return Err(Error::new(ErrorKind::Argument, text).with_partition(partition, None));
    }
    let current = shared.lock().subscription.assignment_of(partition);
    if !state.is_member() {
        let assignment = current.filter(|_| assignment.is_none_or(|of| Some(of) == current));
        return Ok(Chosen { offset, assignment });
    }
    match (current, assignment) {
        (Some(current), None) => Ok(Chosen {
            offset,
            assignment: Some(current),
        }),
        (Some(current), Some(of)) if current == of => Ok(Chosen {
            offset,
            assignment: Some(of),
        }),
        _ => Err(gone(partition, offset.offset)),
    }
}

/// An offset of a partition that went to another member.
pub(super) fn gone(partition: &TopicPartition, offset: i64) -> Error {
    let text = format!(
        "offset {offset} of {partition} is not committed: the partition is not assigned to this consumer any more, and \
         whoever has it now may be further; expect its records to be read again"
    );
    Error::new(ErrorKind::Fenced, text).with_partition(partition, Some(offset))
}

/// Whether the machine has nothing more to do.
pub(super) fn has_left(state: &GroupState) -> bool {
    matches!(state.membership.phase(), Phase::Left | Phase::Unsubscribed)
}
