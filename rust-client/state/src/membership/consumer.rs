//! A member by the `consumer` protocol (KIP-848): one request, ConsumerGroupHeartbeat, says and asks everything.
//!
//! In: what [`Membership`](super::Membership) takes. Out: [`Action`]s. What goes into a heartbeat stands in `said.rs`, what
//! the answers mean in `answers.rs`, how the member comes to have what it is to have in `reconcile.rs`.
//!
//! The coordinator names the partitions that the member is to have. The member lets go of what is not among them, says so
//! by what it owns, and takes over the rest. Each heartbeat says what has changed since the last one that was answered; when
//! an answer is missing nobody knows what the coordinator has heard, so the next one says everything, and repeating it is
//! harmless (KAFKA-19222, KAFKA-19233, KAFKA-19235).

mod answers;
mod reconcile;
mod said;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_protocol::Uuid;

use super::clock::{Attempts, PollClock, UnderWay};
use super::message::{ConsumerGroupHeartbeat, GroupRequest, RequestKind};
use super::{
    Action, Generation, GroupConfig, GroupError, LeaveMode, LostReason, MemberStateView, Phase, RebalanceReason,
    Subscription,
};
use crate::assignor::TopicImage;
use crate::{Time, TopicPartition};
use said::Said;

/// The only request of this protocol.
const HEARTBEAT: RequestKind = RequestKind::ConsumerGroupHeartbeat;
/// The epoch of who joins.
const JOIN_EPOCH: i32 = 0;
/// The epoch of who leaves.
const LEAVE_EPOCH: i32 = -1;
/// The epoch of a static member that will be back.
const STATIC_LEAVE_EPOCH: i32 = -2;
/// How long to wait before asking again for the names of topics that nobody could name. A topic that was created a moment
/// ago need not be known to every broker yet.
const METADATA_RETRY_MS: u64 = 1_000;

/// A partition as the coordinator names it.
type Numbered = (Uuid, i32);

#[derive(Debug)]
enum State {
    /// Not subscribed; no member.
    Unsubscribed,
    /// The coordinator has not let it in yet.
    Joining,
    /// A member. What it has may still differ from what it is to have, where names of topics are missing.
    Stable,
    /// The application lets go of these; until it has, they are owned and the heartbeats say so.
    Revoking { partitions: Vec<Numbered>, then: Then },
    /// The application takes over; what is added is not owned yet.
    TakingOver { all: BTreeMap<Numbered, Arc<str>> },
    /// Has left because the application was silent for too long. Joins with its next sign of life.
    PollExpired,
    /// Told the application of an error.
    Failed { is_final: bool },
    /// The last heartbeat waits to be sent or is on the wire.
    Leaving { closing: bool },
    /// The end.
    Left,
}

/// What follows when partitions have been let go.
#[derive(Debug, Clone, Copy)]
enum Then {
    Reconcile,
    Leave { mode: LeaveMode, closing: bool },
}

/// A heartbeat on the wire.
#[derive(Debug)]
enum Sent {
    Alive(Said),
    Leave,
}

/// A member by the `consumer` protocol. Its verbs are those of [`Membership`](super::Membership).
#[derive(Debug)]
pub struct ConsumerMembership {
    config: GroupConfig,
    remote_assignor: Option<Arc<str>>,
    state: State,
    since: Time,
    actions: VecDeque<Action>,
    polls: PollClock,
    attempts: Attempts,
    under_way: UnderWay,
    sent: Option<Sent>,
    /// What the coordinator has heard; `None` when that is not known.
    said: Option<Said>,
    /// A heartbeat got no answer: the coordinator may still come to it, after later ones that came over another connection.
    strays: bool,
    /// So did one with a pattern.
    stray_pattern: bool,
    /// How often the subscription was said once more, because it may have been turned back.
    repeats: u64,
    /// The coordinator may have a pattern of ours, which must be taken back when names are subscribed to.
    pattern_said: bool,
    interval_ms: u64,
    next_at: Time,
    last_contact: Option<Time>,
    topics: Arc<TopicImage>,
    subscription: Option<Subscription>,
    member_id: Arc<str>,
    epoch: i32,
    owned: BTreeMap<Numbered, Arc<str>>,
    /// How often it has been given an assignment.
    assigned: u64,
    /// What the member is to have; `None` before it was told.
    target: Option<BTreeSet<Numbered>>,
    /// The application has not been told of the target yet.
    unannounced: bool,
    /// The coordinator has named another target than before, and was not told since then what the member owns.
    unreported: bool,
    /// How often the member has come to have what it is to have; see `reconcile.rs`.
    followed: u64,
    /// The coordinator was told, or may have been told, what the member owns, and has not answered: it may have given the
    /// rest of the target to somebody else.
    awaits_word: bool,
    ask_again_at: Option<Time>,
    /// The epoch to leave with.
    leave: Option<i32>,
}

impl ConsumerMembership {
    /// A member that is not subscribed yet. `member_id` is its id for life: a random UUID in Kafka's notation.
    pub fn new(config: GroupConfig, member_id: impl Into<Arc<str>>, remote_assignor: Option<Arc<str>>) -> Self {
        ConsumerMembership {
            remote_assignor,
            state: State::Unsubscribed,
            since: Time::ZERO,
            actions: VecDeque::new(),
            polls: PollClock::new(config.max_poll_interval_ms),
            attempts: Attempts::new(&config),
            under_way: UnderWay::default(),
            sent: None,
            said: None,
            strays: false,
            stray_pattern: false,
            repeats: 0,
            pattern_said: false,
            interval_ms: config.heartbeat_interval_ms,
            next_at: Time::ZERO,
            last_contact: None,
            topics: Arc::new(TopicImage::new()),
            subscription: None,
            member_id: member_id.into(),
            epoch: JOIN_EPOCH,
            owned: BTreeMap::new(),
            assigned: 0,
            target: None,
            unannounced: false,
            unreported: false,
            followed: 0,
            awaits_word: false,
            ask_again_at: None,
            leave: None,
            config,
        }
    }

    /// See [`Membership::handle_subscribed`](super::Membership::handle_subscribed).
    pub fn handle_subscribed(&mut self, subscription: Subscription, now: Time) {
        if self.is_closing() {
            return;
        }
        self.polls.polled(now);
        self.subscription = Some(subscription);
        let idle = matches!(
            self.state,
            State::Unsubscribed | State::Failed { .. } | State::PollExpired
        );
        // A member says it with its next heartbeat, which is due at once.
        if idle {
            self.begin_join(RebalanceReason::Joining, now);
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

    /// Has no effect: it is for the coordinator to say when partitions move.
    pub fn handle_enforced(&mut self, _reason: Arc<str>, _now: Time) {}

    /// See [`Membership::handle_metadata`](super::Membership::handle_metadata).
    pub fn handle_metadata(&mut self, topics: Arc<TopicImage>, now: Time) {
        self.topics = topics;
        if matches!(self.state, State::Stable) && !self.unnamed().is_empty() {
            self.ask_again_at = Some(now.plus_ms(METADATA_RETRY_MS));
            self.reconcile(now);
        } else if self.unnamed().is_empty() {
            self.ask_again_at = None;
            self.reconcile(now);
        }
    }

    /// See [`Membership::handle_revoked`](super::Membership::handle_revoked).
    pub fn handle_revoked(&mut self, now: Time) {
        let State::Revoking { partitions, then } = &self.state else {
            return;
        };
        let then = *then;
        for partition in partitions {
            self.owned.remove(partition);
        }
        self.enter(State::Stable, now);
        match then {
            Then::Reconcile => self.reconcile(now),
            Then::Leave { mode, closing } => self.let_go_and_leave(mode, closing, now),
        }
    }

    /// See [`Membership::handle_assigned`](super::Membership::handle_assigned).
    pub fn handle_assigned(&mut self, number: u64, now: Time) {
        if let State::TakingOver { all } = &mut self.state
            && number == self.assigned
        {
            self.owned = std::mem::take(all);
            self.enter(State::Stable, now);
            self.reconcile(now);
        }
    }

    /// See [`Membership::handle_poll`](super::Membership::handle_poll).
    pub fn handle_poll(&mut self, now: Time) {
        self.handle_timeout(now);
        self.polls.polled(now);
        match self.state {
            State::PollExpired => {
                self.begin_join(RebalanceReason::Rejoining(LostReason::PollIntervalExceeded), now);
            }
            State::Failed { is_final: false } => self.begin_join(RebalanceReason::Rejoining(LostReason::Failed), now),
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
            self.actions.push_back(Action::FindCoordinator);
            self.lose_and_rejoin(LostReason::SessionExpired, now);
        }
        if self.ask_again_at.is_some_and(|at| at <= now) {
            self.ask_again_at = None;
            self.reconcile(now);
        }
    }

    /// See [`Membership::next_action`](super::Membership::next_action).
    pub fn next_action(&mut self, now: Time) -> Option<Action> {
        self.handle_timeout(now);
        if let Some(action) = self.actions.pop_front() {
            return Some(action);
        }
        let heartbeat = self.next_heartbeat(now)?;
        self.under_way.send(HEARTBEAT);
        Some(Action::Send(GroupRequest::ConsumerGroupHeartbeat(heartbeat)))
    }

    /// See [`Membership::wake_at`](super::Membership::wake_at).
    pub fn wake_at(&self) -> Option<Time> {
        let beats = self.is_member() && !self.under_way.is(HEARTBEAT);
        let times = [
            beats.then(|| self.heartbeat_at()),
            self.ask_again_at,
            self.poll_deadline(),
            self.session_deadline(),
        ];
        times.into_iter().flatten().min()
    }

    /// See [`Membership::phase`](super::Membership::phase).
    pub fn phase(&self) -> Phase {
        match &self.state {
            State::Unsubscribed => Phase::Unsubscribed,
            State::Joining => Phase::Joining,
            State::Stable => Phase::Stable,
            State::Revoking { .. } => Phase::Revoking,
            State::TakingOver { .. } => Phase::TakingOver,
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
            is_leader: false,
            assignor: None,
            trouble: self.attempts.trouble().cloned(),
            last_contact: self.last_contact,
            poll_deadline: self.poll_deadline(),
            session_deadline: self.session_deadline(),
        }
    }

    /// See [`Membership::assignment`](super::Membership::assignment).
    pub fn assignment(&self) -> Vec<TopicPartition> {
        in_order(named(&self.owned))
    }

    /// See [`Membership::generation`](super::Membership::generation).
    pub fn generation(&self) -> Option<Generation> {
        (self.epoch > JOIN_EPOCH).then(|| Generation {
            member_id: self.member_id.clone(),
            epoch: self.epoch,
        })
    }

    /// See [`Membership::wanted_topics`](super::Membership::wanted_topics).
    pub fn wanted_topics(&self) -> Vec<Arc<str>> {
        let mut topics = match &self.subscription {
            Some(Subscription::Topics(topics)) => topics.clone(),
            _ => BTreeSet::new(),
        };
        topics.extend(self.owned.values().cloned());
        topics.into_iter().collect()
    }

    fn enter(&mut self, state: State, now: Time) {
        self.state = state;
        self.since = now;
    }

    fn is_closing(&self) -> bool {
        match self.state {
            State::Left | State::Leaving { closing: true } => true,
            State::Revoking {
                then: Then::Leave { closing, .. },
                ..
            } => closing,
            _ => false,
        }
    }

    /// Whether it sends signs of life, to be let in or to stay in.
    fn is_member(&self) -> bool {
        matches!(
            self.state,
            State::Joining | State::Stable | State::Revoking { .. } | State::TakingOver { .. }
        )
    }

    /// How long the member believes in what it has. The coordinator does not tell how long the session lasts, so that is for
    /// the configuration to say.
    fn session_deadline(&self) -> Option<Time> {
        let contact = self
            .last_contact
            .filter(|_| self.is_member() && self.epoch > JOIN_EPOCH)?;
        Some(contact.plus_ms(self.config.session_timeout_ms))
    }

    fn poll_deadline(&self) -> Option<Time> {
        (self.is_member() && !self.is_closing()).then(|| self.polls.deadline())
    }

    fn expire(&mut self, now: Time) {
        let was_leaving = matches!(
            self.state,
            State::Revoking {
                then: Then::Leave { .. },
                ..
            }
        );
        self.say_goodbye(LeaveMode::Default);
        self.lose(LostReason::PollIntervalExceeded);
        let next = if was_leaving {
            State::Leaving { closing: false }
        } else {
            State::PollExpired
        };
        self.enter(next, now);
        self.end_leaving(now);
    }

    /// Forgets the epoch and what was assigned.
    fn lose(&mut self, reason: LostReason) {
        let was_member = self.epoch > JOIN_EPOCH;
        // What is being taken over is the application's already.
        let partitions = match &self.state {
            State::TakingOver { all } => in_order(named(all)),
            _ => in_order(named(&self.owned)),
        };
        self.forget();
        if was_member || reason == LostReason::PollIntervalExceeded {
            self.actions.push_back(Action::Lost { partitions, reason });
        }
    }

    fn forget(&mut self) {
        self.epoch = JOIN_EPOCH;
        self.owned.clear();
        self.target = None;
        self.unannounced = false;
        self.unreported = false;
        self.awaits_word = false;
        self.ask_again_at = None;
        self.said = None;
        self.last_contact = None;
        self.under_way.forget(HEARTBEAT);
    }

    fn lose_and_rejoin(&mut self, reason: LostReason, now: Time) {
        let leaving = match self.state {
            State::Revoking {
                then: Then::Leave { mode, closing },
                ..
            } => Some((mode, closing)),
            _ => None,
        };
        self.lose(reason);
        match leaving {
            Some((mode, closing)) => {
                self.state = State::Joining;
                self.let_go_and_leave(mode, closing, now);
            }
            None => self.begin_join(RebalanceReason::Rejoining(reason), now),
        }
    }

    fn fail(&mut self, error: GroupError, now: Time) {
        let next = match self.state {
            State::Revoking {
                then: Then::Leave { closing, .. },
                ..
            }
            | State::Leaving { closing } => State::Leaving { closing },
            _ => State::Failed {
                is_final: error.is_final(),
            },
        };
        self.lose(LostReason::Failed);
        self.attempts.postponed(now);
        self.actions.push_back(Action::Fail(error));
        self.enter(next, now);
        self.end_leaving(now);
    }

    fn begin_join(&mut self, reason: RebalanceReason, now: Time) {
        self.actions.push_back(Action::Rebalance { reason });
        self.said = None;
        self.enter(State::Joining, now);
    }

    fn let_go_and_leave(&mut self, mode: LeaveMode, closing: bool, now: Time) {
        if let State::Revoking { then, .. } = &mut self.state {
            *then = Then::Leave { mode, closing };
            return;
        }
        if !self.owned.is_empty() || matches!(self.state, State::TakingOver { .. }) {
            // What is being taken over is let go as well: the application knows of it.
            if let State::TakingOver { all } = &mut self.state {
                self.owned = std::mem::take(all);
            }
            let reason = if closing {
                RebalanceReason::Closing
            } else {
                RebalanceReason::Unsubscribed
            };
            let partitions: Vec<Numbered> = self.owned.keys().copied().collect();
            if !partitions.is_empty() {
                self.revoke(partitions, reason, Then::Leave { mode, closing }, now);
                return;
            }
        }
        self.say_goodbye(mode);
        self.forget();
        self.enter(State::Leaving { closing }, now);
        self.end_leaving(now);
    }

    /// Has a last heartbeat sent, if the coordinator knows the member, or may know it.
    fn say_goodbye(&mut self, mode: LeaveMode) {
        let is_static = self.config.group_instance_id.is_some();
        let epoch = match mode {
            LeaveMode::Leave => Some(LEAVE_EPOCH),
            LeaveMode::Default if !is_static => Some(LEAVE_EPOCH),
            _ if is_static => Some(STATIC_LEAVE_EPOCH),
            _ => None,
        };
        let may_be_known = self.epoch > JOIN_EPOCH || self.under_way.is(HEARTBEAT);
        if may_be_known && self.is_member() {
            self.leave = epoch;
        }
    }

    fn end_leaving(&mut self, now: Time) {
        let State::Leaving { closing } = self.state else { return };
        if self.leave.is_some() || matches!(self.sent, Some(Sent::Leave)) {
            return;
        }
        if closing {
            self.enter(State::Left, now);
        } else if self.subscription.is_some() {
            self.begin_join(RebalanceReason::Joining, now);
        } else {
            self.enter(State::Unsubscribed, now);
        }
    }

    /// When the next heartbeat is due: at once if there is something to say.
    fn heartbeat_at(&self) -> Time {
        let has_news = self.said.as_ref() != Some(&self.to_say());
        let wished = if has_news { Time::ZERO } else { self.next_at };
        wished.max(self.attempts.not_before())
    }

    fn next_heartbeat(&mut self, now: Time) -> Option<ConsumerGroupHeartbeat> {
        if self.under_way.is(HEARTBEAT) {
            return None;
        }
        if let Some(epoch) = self.leave.take() {
            self.sent = Some(Sent::Leave);
            return Some(self.empty_heartbeat(epoch));
        }
        if !self.is_member() || self.heartbeat_at() > now {
            return None;
        }
        self.next_at = now.plus_ms(self.interval_ms);
        let to_say = self.to_say();
        let heartbeat = self.heartbeat(&to_say);
        self.awaits_word |= heartbeat.topic_partitions.is_some();
        self.pattern_said |= to_say.is_pattern();
        self.sent = Some(Sent::Alive(to_say));
        Some(heartbeat)
    }
}

fn named(partitions: &BTreeMap<Numbered, Arc<str>>) -> impl Iterator<Item = TopicPartition> {
    partitions
        .iter()
        .map(|(at, topic)| TopicPartition::new(topic.clone(), at.1))
}

fn in_order(partitions: impl Iterator<Item = TopicPartition>) -> Vec<TopicPartition> {
    let mut partitions: Vec<_> = partitions.collect();
    partitions.sort();
    partitions
}
