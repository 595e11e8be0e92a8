//! A member by the classic protocol: JoinGroup, SyncGroup, Heartbeat, LeaveGroup.
//!
//! In: what [`Membership`](super::Membership) takes. Out: [`Action`]s. What the coordinator's answers mean stands in
//! `answers.rs`, what the leader of a group does in `leader.rs`, what is sent when in `requests.rs`.
//!
//! With an eager protocol the member lets go of all partitions before it joins again, so while it joins it has nothing to
//! lose. With a cooperative one (KIP-429) it keeps them, learns from its new assignment which ones move, lets go of
//! those, and joins once more so that others can have them.

mod answers;
mod leader;
mod requests;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::clock::{Attempts, PollClock, UnderWay};
use super::message::RequestKind;
use super::{
    Action, Generation, GroupConfig, GroupError, LeaveMode, LostReason, MemberStateView, Phase, RebalanceReason,
    Subscription,
};
use crate::assignor::{Assignor, GroupMember, RebalanceProtocol, TopicImage};
use crate::{Time, TopicPartition};
use leader::{Division, Leading};

/// "No generation" on the wire.
const NO_GENERATION: i32 = -1;

#[derive(Debug)]
enum State {
    /// Not subscribed; no member.
    Unsubscribed,
    /// Has let go of what must be let go, and joins as soon as the backoff is over.
    Unjoined,
    /// The application lets go of these. Heartbeats continue, nothing else: the coordinator may give them away as soon as
    /// we ask for anything.
    Revoking {
        partitions: Vec<TopicPartition>,
        then: Then,
    },
    /// JoinGroup is on the wire. The coordinator keeps the member alive by itself.
    Joining,
    /// Leads this generation, which it is to divide or to watch, but does not know all topics yet. Heartbeats continue.
    Assigning { members: Vec<GroupMember>, deadline: Time },
    /// SyncGroup waits to be sent (with these assignments) or is on the wire. Heartbeats continue.
    Syncing {
        unsent: Option<Vec<(Arc<str>, bytes::Bytes)>>,
    },
    /// The application takes over the assignment. Heartbeats continue; a new rebalance waits.
    TakingOver,
    /// A member with an assignment.
    Stable,
    /// Has left because the application was silent for too long. Joins with its next sign of life.
    PollExpired,
    /// Told the application of an error.
    Failed { is_final: bool },
    /// LeaveGroup waits to be sent or is on the wire.
    Leaving { closing: bool },
    /// The end.
    Left,
}

/// What follows when partitions have been let go.
#[derive(Debug)]
enum Then {
    Join,
    TakeOver(BTreeSet<TopicPartition>),
    Leave { mode: LeaveMode, closing: bool },
}

#[derive(Debug)]
struct Heartbeats {
    next_at: Time,
    /// The generation that the heartbeat on the wire was sent in.
    sent_in: Option<Generation>,
    last_contact: Option<Time>,
    /// The end of a JoinGroup may still count as a contact.
    grace: bool,
}

/// A member by the classic protocol.
#[derive(Debug)]
pub struct ClassicMembership {
    config: GroupConfig,
    assignors: Vec<Arc<dyn Assignor>>,
    protocol: RebalanceProtocol,
    state: State,
    since: Time,
    actions: VecDeque<Action>,
    polls: PollClock,
    attempts: Attempts,
    under_way: UnderWay,
    heartbeats: Heartbeats,
    topics: Arc<TopicImage>,
    subscription: Option<BTreeSet<Arc<str>>>,
    member_id: Arc<str>,
    generation: i32,
    owned: BTreeSet<TopicPartition>,
    /// How often it has been given an assignment.
    assigned: u64,
    /// The last assignment and its generation: what a sticky leader is told, even if it has been let go since.
    previous: Vec<TopicPartition>,
    assigned_in: i32,
    assignor: Option<Arc<dyn Assignor>>,
    leading: Option<Leading>,
    division: Option<Division>,
    join_reason: RebalanceReason,
    /// A rebalance that is wanted as soon as the one under way is done.
    rejoin: Option<RebalanceReason>,
    /// Memberships to be given back: member id and reason.
    leaves: VecDeque<(Arc<str>, RebalanceReason)>,
}

impl ClassicMembership {
    /// A member that is not subscribed yet.
    ///
    /// # Errors
    /// When there is no assignor, or when they have no rebalance protocol in common.
    pub fn new(config: GroupConfig, assignors: Vec<Arc<dyn Assignor>>) -> Result<Self, GroupError> {
        Ok(ClassicMembership {
            protocol: common_protocol(&assignors)?,
            assignors,
            state: State::Unsubscribed,
            since: Time::ZERO,
            actions: VecDeque::new(),
            polls: PollClock::new(config.max_poll_interval_ms),
            attempts: Attempts::new(&config),
            under_way: UnderWay::default(),
            heartbeats: Heartbeats {
                next_at: Time::ZERO,
                sent_in: None,
                last_contact: None,
                grace: false,
            },
            topics: Arc::new(TopicImage::new()),
            subscription: None,
            member_id: "".into(),
            generation: NO_GENERATION,
            owned: BTreeSet::new(),
            assigned: 0,
            previous: Vec::new(),
            assigned_in: NO_GENERATION,
            assignor: None,
            leading: None,
            division: None,
            join_reason: RebalanceReason::Joining,
            rejoin: None,
            leaves: VecDeque::new(),
            config,
        })
    }

    /// How the group rebalances: eagerly unless all assignors can do it cooperatively, as in the Java client.
    pub fn protocol(&self) -> RebalanceProtocol {
        self.protocol
    }

    /// See [`Membership::handle_subscribed`](super::Membership::handle_subscribed). A pattern is refused: it must have
    /// been resolved.
    pub fn handle_subscribed(&mut self, subscription: Subscription, now: Time) {
        let Subscription::Topics(topics) = subscription else {
            self.fail(GroupError::PatternNotResolved, now);
            return;
        };
        if self.is_closing() {
            return;
        }
        self.polls.polled(now);
        let changed = self.subscription.as_ref() != Some(&topics);
        self.subscription = Some(topics);
        match self.state {
            State::Unsubscribed | State::Failed { .. } | State::PollExpired => {
                self.begin_rejoin(RebalanceReason::Joining, now);
            }
            _ if changed => self.want_rejoin(RebalanceReason::SubscriptionChanged, now),
            _ => {}
        }
    }

    /// See [`Membership::handle_unsubscribed`](super::Membership::handle_unsubscribed).
    pub fn handle_unsubscribed(&mut self, now: Time) {
        if !self.is_closing() && self.subscription.take().is_some() {
            self.let_go_and_leave(LeaveMode::Default, false, now);
        }
    }

    /// See [`Membership::handle_leave`](super::Membership::handle_leave).
    pub fn handle_leave(&mut self, mode: LeaveMode, now: Time) {
        if !self.is_closing() {
            self.subscription = None;
            self.let_go_and_leave(mode, true, now);
        }
    }

    /// See [`Membership::handle_enforced`](super::Membership::handle_enforced).
    pub fn handle_enforced(&mut self, reason: Arc<str>, now: Time) {
        self.want_rejoin(RebalanceReason::Enforced(reason), now);
    }

    /// See [`Membership::handle_revoked`](super::Membership::handle_revoked).
    pub fn handle_revoked(&mut self, now: Time) {
        if !matches!(self.state, State::Revoking { .. }) {
            return;
        }
        let State::Revoking { partitions, then } = std::mem::replace(&mut self.state, State::Unjoined) else {
            return;
        };
        for partition in &partitions {
            self.owned.remove(partition);
        }
        match then {
            // More may have to go by now: the subscription can have changed meanwhile.
            Then::Join => self.prepare_join(now),
            Then::TakeOver(all) => {
                self.take_over(all, now);
                self.rejoin.get_or_insert(RebalanceReason::PartitionsGivenUp);
            }
            Then::Leave { mode, closing } => self.let_go_and_leave(mode, closing, now),
        }
    }

    /// See [`Membership::handle_assigned`](super::Membership::handle_assigned).
    pub fn handle_assigned(&mut self, number: u64, now: Time) {
        if matches!(self.state, State::TakingOver) && number == self.assigned {
            self.enter(State::Stable, now);
            if let Some(reason) = self.rejoin.take() {
                self.begin_rejoin(reason, now);
            } else {
                self.compare_metadata(now);
            }
        }
    }

    /// See [`Membership::handle_poll`](super::Membership::handle_poll).
    pub fn handle_poll(&mut self, now: Time) {
        // What has run out before this poll has run out, even if nobody has looked since.
        self.handle_timeout(now);
        self.polls.polled(now);
        match self.state {
            State::PollExpired => {
                self.begin_rejoin(RebalanceReason::Rejoining(LostReason::PollIntervalExceeded), now);
            }
            State::Failed { is_final: false } => self.begin_rejoin(RebalanceReason::Rejoining(LostReason::Failed), now),
            _ => {}
        }
    }

    /// See [`Membership::handle_extended`](super::Membership::handle_extended).
    pub fn handle_extended(&mut self, until: Time, now: Time) {
        self.handle_timeout(now);
        self.polls.extended(until);
    }

    /// See [`Membership::handle_timeout`](super::Membership::handle_timeout).
    pub fn handle_timeout(&mut self, now: Time) {
        if self.poll_deadline().is_some_and(|deadline| deadline <= now) {
            self.expire(now);
        }
        if self.session_deadline().is_some_and(|deadline| deadline <= now) {
            // The coordinator may be alive and its connection dead: it must be asked for anew.
            self.actions.push_back(Action::FindCoordinator);
            self.lose_and_rejoin(LostReason::SessionExpired, now);
        }
        if let State::Assigning { deadline, .. } = self.state
            && deadline <= now
        {
            self.assign(now);
        }
    }

    /// See [`Membership::next_action`](super::Membership::next_action).
    pub fn next_action(&mut self, now: Time) -> Option<Action> {
        self.handle_timeout(now);
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let request = self.next_request(now)?;
        self.under_way.send(request.kind());
        Some(Action::Send(request))
    }

    /// See [`Membership::wake_at`](super::Membership::wake_at).
    pub fn wake_at(&self) -> Option<Time> {
        let join = matches!(self.state, State::Unjoined) && !self.under_way.is(RequestKind::JoinGroup);
        let heartbeat = self.sends_heartbeats() && !self.under_way.is(RequestKind::Heartbeat);
        let metadata = match self.state {
            State::Assigning { deadline, .. } => Some(deadline),
            _ => None,
        };
        let times = [
            join.then(|| self.attempts.not_before()),
            heartbeat.then(|| self.heartbeats.next_at.max(self.attempts.not_before())),
            metadata,
            self.poll_deadline(),
            self.session_deadline(),
        ];
        times.into_iter().flatten().min()
    }

    /// See [`Membership::phase`](super::Membership::phase).
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Unsubscribed => Phase::Unsubscribed,
            State::Unjoined | State::Joining => Phase::Joining,
            State::Revoking { .. } => Phase::Revoking,
            State::Assigning { .. } => Phase::Assigning,
            State::Syncing { .. } => Phase::Syncing,
            State::TakingOver => Phase::TakingOver,
            State::Stable => Phase::Stable,
            State::PollExpired => Phase::PollExpired,
            State::Failed { .. } => Phase::Failed,
            State::Leaving { .. } => Phase::Leaving,
            State::Left => Phase::Left,
        }
    }

    /// See [`Membership::state`](super::Membership::state).
    pub fn state(&self) -> MemberStateView {
        MemberStateView {
            phase: self.phase(),
            since: self.since,
            member_id: self.member_id.clone(),
            generation: self.generation(),
            is_leader: self.leading.is_some(),
            assignor: self.assignor.as_ref().map(|assignor| assignor.name().into()),
            trouble: self.attempts.trouble().cloned(),
            last_contact: self.heartbeats.last_contact,
            poll_deadline: self.poll_deadline(),
            session_deadline: self.session_deadline(),
        }
    }

    /// See [`Membership::assignment`](super::Membership::assignment).
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.owned.iter().cloned().collect()
    }

    /// See [`Membership::generation`](super::Membership::generation).
    pub fn generation(&self) -> Option<Generation> {
        (self.generation != NO_GENERATION).then(|| Generation {
            member_id: self.member_id.clone(),
            epoch: self.generation,
        })
    }

    fn enter(&mut self, state: State, now: Time) {
        self.state = state;
        self.since = now;
    }

    fn is_closing(&self) -> bool {
        match &self.state {
            State::Left | State::Leaving { closing: true } => true,
            State::Revoking { then, .. } => matches!(then, Then::Leave { closing: true, .. }),
            _ => false,
        }
    }

    fn is_subscribed(&self, topic: &str) -> bool {
        self.subscription.as_ref().is_some_and(|topics| topics.contains(topic))
    }

    fn sends_heartbeats(&self) -> bool {
        let in_generation = matches!(
            self.state,
            State::Revoking { .. }
                | State::Assigning { .. }
                | State::Syncing { .. }
                | State::TakingOver
                | State::Stable
        );
        in_generation && self.generation != NO_GENERATION
    }

    /// When the coordinator has given the member up. While JoinGroup is on the wire there is no session: the coordinator
    /// waits for the slowest member, and the connection tells whether it is there.
    fn session_deadline(&self) -> Option<Time> {
        let counts = self.sends_heartbeats() || (matches!(self.state, State::Unjoined) && !self.owned.is_empty());
        let contact = self.heartbeats.last_contact.filter(|_| counts)?;
        Some(contact.plus_ms(self.config.session_timeout_ms))
    }

    fn poll_deadline(&self) -> Option<Time> {
        let idle = matches!(
            self.state,
            State::Unsubscribed | State::PollExpired | State::Failed { .. } | State::Leaving { .. } | State::Left
        );
        // Who closes does not poll any more; it has a deadline of its own.
        (!idle && !self.is_closing()).then(|| self.polls.deadline())
    }

    /// The application was silent for too long: others shall have the partitions.
    fn expire(&mut self, now: Time) {
        let was_leaving = matches!(
            self.state,
            State::Revoking {
                then: Then::Leave { .. },
                ..
            }
        );
        self.lose(LostReason::PollIntervalExceeded);
        self.give_back(
            LeaveMode::Default,
            RebalanceReason::Rejoining(LostReason::PollIntervalExceeded),
        );
        let next = if was_leaving {
            State::Leaving { closing: false }
        } else {
            State::PollExpired
        };
        self.enter(next, now);
        self.end_leaving(now);
    }

    /// Forgets the generation and what was assigned in it.
    fn lose(&mut self, reason: LostReason) {
        let was_member = !self.owned.is_empty() || matches!(self.state, State::Stable | State::TakingOver);
        self.generation = NO_GENERATION;
        self.leading = None;
        self.division = None;
        self.rejoin = None;
        self.heartbeats.last_contact = None;
        self.under_way.forget(RequestKind::JoinGroup);
        self.under_way.forget(RequestKind::SyncGroup);
        let partitions: Vec<_> = std::mem::take(&mut self.owned).into_iter().collect();
        // That the application was too slow is worth telling even if it cost nothing.
        if was_member || reason == LostReason::PollIntervalExceeded {
            self.actions.push_back(Action::Lost { partitions, reason });
        }
    }

    fn lose_and_rejoin(&mut self, reason: LostReason, now: Time) {
        let leaving = match &self.state {
            State::Revoking {
                then: Then::Leave { mode, closing },
                ..
            } => Some((*mode, *closing)),
            _ => None,
        };
        self.lose(reason);
        match leaving {
            Some((mode, closing)) => {
                self.state = State::Unjoined;
                self.let_go_and_leave(mode, closing, now);
            }
            None => self.begin_rejoin(RebalanceReason::Rejoining(reason), now),
        }
    }

    fn fail(&mut self, error: GroupError, now: Time) {
        self.lose(LostReason::Failed);
        self.attempts.postponed(now);
        // A member that keeps silent would hold up the others until its session ends.
        let holds_up = matches!(
            error,
            GroupError::Assignor { .. } | GroupError::MalformedAssignment { .. } | GroupError::UnknownAssignor { .. }
        );
        if holds_up {
            self.give_back(LeaveMode::Default, RebalanceReason::Rejoining(LostReason::Failed));
        }
        let next = match &self.state {
            State::Revoking {
                then: Then::Leave { closing, .. },
                ..
            }
            | State::Leaving { closing } => State::Leaving { closing: *closing },
            _ => State::Failed {
                is_final: error.is_final(),
            },
        };
        self.actions.push_back(Action::Fail(error));
        self.enter(next, now);
        self.end_leaving(now);
    }

    /// Joins again now, or as soon as what is under way is done.
    fn want_rejoin(&mut self, reason: RebalanceReason, now: Time) {
        match &self.state {
            State::Stable | State::Unjoined | State::Assigning { .. } => self.begin_rejoin(reason, now),
            State::Joining
            | State::Syncing { .. }
            | State::TakingOver
            | State::Revoking {
                then: Then::TakeOver(_),
                ..
            } => {
                self.rejoin.get_or_insert(reason);
            }
            _ => {}
        }
    }

    fn begin_rejoin(&mut self, reason: RebalanceReason, now: Time) {
        self.rejoin = None;
        self.leading = None;
        self.actions.push_back(Action::Rebalance { reason: reason.clone() });
        self.join_reason = reason;
        self.prepare_join(now);
    }

    fn prepare_join(&mut self, now: Time) {
        let goes = |partition: &&TopicPartition| {
            self.protocol == RebalanceProtocol::Eager || !self.is_subscribed(&partition.topic)
        };
        let partitions: Vec<_> = self.owned.iter().filter(goes).cloned().collect();
        if partitions.is_empty() {
            self.enter(State::Unjoined, now);
        } else {
            self.revoke(partitions, self.join_reason.clone(), Then::Join, now);
        }
    }

    fn revoke(&mut self, partitions: Vec<TopicPartition>, reason: RebalanceReason, then: Then, now: Time) {
        self.actions.push_back(Action::Revoke {
            partitions: partitions.clone(),
            reason,
        });
        self.enter(State::Revoking { partitions, then }, now);
    }

    fn take_over(&mut self, all: BTreeSet<TopicPartition>, now: Time) {
        let added: Vec<_> = all.difference(&self.owned).cloned().collect();
        self.owned = all;
        self.previous = self.owned.iter().cloned().collect();
        self.assigned_in = self.generation;
        let generation = Generation {
            member_id: self.member_id.clone(),
            epoch: self.generation,
        };
        self.assigned += 1;
        self.actions.push_back(Action::Assign {
            number: self.assigned,
            added,
            all: self.previous.clone(),
            generation,
        });
        self.enter(State::TakingOver, now);
    }

    fn let_go_and_leave(&mut self, mode: LeaveMode, closing: bool, now: Time) {
        let reason = if closing {
            RebalanceReason::Closing
        } else {
            RebalanceReason::Unsubscribed
        };
        self.rejoin = None;
        // Whatever they bring, the member is on its way out.
        self.under_way.forget(RequestKind::JoinGroup);
        self.under_way.forget(RequestKind::SyncGroup);
        if let State::Revoking { then, .. } = &mut self.state {
            // The application is letting go already; what it still has follows then.
            *then = Then::Leave { mode, closing };
            return;
        }
        let partitions: Vec<_> = self.owned.iter().cloned().collect();
        if !partitions.is_empty() {
            self.revoke(partitions, reason, Then::Leave { mode, closing }, now);
            return;
        }
        self.give_back(mode, reason);
        self.generation = NO_GENERATION;
        self.leading = None;
        self.division = None;
        self.heartbeats.last_contact = None;
        self.enter(State::Leaving { closing }, now);
        self.end_leaving(now);
    }

    /// Has a LeaveGroup sent, unless the member has no id or is to stay.
    fn give_back(&mut self, mode: LeaveMode, reason: RebalanceReason) {
        let is_static = self.config.group_instance_id.is_some();
        let leaves = match mode {
            LeaveMode::Default => !is_static,
            LeaveMode::Leave => true,
            LeaveMode::Remain => false,
        };
        // A static member has its id from the last time, and would not leave by it.
        let member_id = std::mem::replace(&mut self.member_id, "".into());
        if leaves && !member_id.is_empty() {
            self.leaves.push_back((member_id, reason));
        } else if !leaves {
            self.member_id = member_id;
        }
    }

    /// Nothing is left to be given back: out, or in again if the application has subscribed meanwhile.
    fn end_leaving(&mut self, now: Time) {
        let State::Leaving { closing } = self.state else { return };
        if !self.leaves.is_empty() || self.under_way.is(RequestKind::LeaveGroup) {
            return;
        }
        if closing {
            self.enter(State::Left, now);
        } else if self.subscription.is_some() {
            self.begin_rejoin(RebalanceReason::Joining, now);
        } else {
            self.enter(State::Unsubscribed, now);
        }
    }
}

fn common_protocol(assignors: &[Arc<dyn Assignor>]) -> Result<RebalanceProtocol, GroupError> {
    let all_have = |protocol: &RebalanceProtocol| {
        let has = |assignor: &Arc<dyn Assignor>| assignor.protocols().contains(protocol);
        !assignors.is_empty() && assignors.iter().all(has)
    };
    let protocols = [RebalanceProtocol::Cooperative, RebalanceProtocol::Eager];
    protocols.into_iter().find(all_have).ok_or_else(|| {
        let names: Vec<&str> = assignors.iter().map(|assignor| assignor.name()).collect();
        GroupError::NoCommonProtocol {
            names: names.join(", ").into(),
        }
    })
}
