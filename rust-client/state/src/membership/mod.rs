//! A consumer's place in a group: when it joins, what it lets go and takes over, when it is lost.
//!
//! In: the subscription, metadata, answers of the coordinator or their absence, signs of life of the application, and
//! the time. Out: [`Action`]s. It sends nothing, calls nobody back and holds no positions; who executes an action is not
//! asked to decide anything.
//!
//! There are two protocols with one set of verbs: [`classic`], in which the members elect a leader who divides the
//! partitions, and [`consumer`] (KIP-848), in which the coordinator does.
//!
//! # What a driver must keep to
//!
//! - Call `next_action` until it gives `None` after every `handle_*`, and execute in order.
//! - Every [`Action::Send`] gets exactly one `handle_response` or `handle_failure` of its kind, whatever has happened in
//!   between; the machine knows by itself which answers come too late. There is at most one request of a kind under
//!   way.
//! - [`Action::Revoke`] is answered with `handle_revoked`, [`Action::Assign`] with `handle_assigned`, unless
//!   [`Action::Lost`] comes first.
//! - `handle_timeout` at `wake_at`.

mod action;
pub mod classic;
mod clock;
pub mod consumer;
mod message;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::assignor::{Assignor, TopicImage};
use crate::{Time, TopicPartition};

pub use action::{
    Action, CoordinatorTrouble, Generation, GroupError, LostReason, MemberStateView, Phase, RebalanceReason,
    RequestFailure,
};
pub use classic::ClassicMembership;
pub use consumer::ConsumerMembership;
pub use message::{
    ConsumerGroupHeartbeat, ConsumerGroupHeartbeatAnswer, GroupRequest, GroupResponse, Heartbeat, JoinGroup,
    JoinGroupAnswer, JoinedMember, LeaveGroup, RequestKind, SyncGroup, SyncGroupAnswer,
};

/// `session.timeout.ms` unless set (KIP-735): 45 seconds.
pub const DEFAULT_SESSION_TIMEOUT_MS: u64 = 45_000;
/// `heartbeat.interval.ms` unless set: 3 seconds.
pub const DEFAULT_HEARTBEAT_INTERVAL_MS: u64 = 3_000;
/// `max.poll.interval.ms` unless set: 5 minutes.
pub const DEFAULT_MAX_POLL_INTERVAL_MS: u64 = 300_000;
/// `retry.backoff.ms` unless set: 100 milliseconds.
pub const DEFAULT_RETRY_BACKOFF_MS: u64 = 100;
/// `retry.backoff.max.ms` unless set: 1 second.
pub const DEFAULT_RETRY_BACKOFF_MAX_MS: u64 = 1_000;

/// What a member needs to know in either protocol.
#[derive(Debug, Clone)]
pub struct GroupConfig {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// `group.instance.id`: makes it a static member (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack: Option<Arc<str>>,
    /// `session.timeout.ms`. In the `consumer` protocol the coordinator has its own; this one is then how long the
    /// member believes in its partitions while the coordinator does not answer.
    pub session_timeout_ms: u64,
    /// `heartbeat.interval.ms`. In the `consumer` protocol only until the coordinator has named one.
    pub heartbeat_interval_ms: u64,
    /// `max.poll.interval.ms`: the longest silence of the application, and the time it has to let go of partitions.
    pub max_poll_interval_ms: u64,
    /// `retry.backoff.ms`.
    pub retry_backoff_ms: u64,
    /// `retry.backoff.max.ms`.
    pub retry_backoff_max_ms: u64,
    /// Seed of the jitter between attempts.
    pub seed: u64,
}

impl GroupConfig {
    /// A dynamic member of `group_id` with Kafka's defaults.
    pub fn new(group_id: impl Into<Arc<str>>) -> GroupConfig {
        GroupConfig {
            group_id: group_id.into(),
            group_instance_id: None,
            rack: None,
            session_timeout_ms: DEFAULT_SESSION_TIMEOUT_MS,
            heartbeat_interval_ms: DEFAULT_HEARTBEAT_INTERVAL_MS,
            max_poll_interval_ms: DEFAULT_MAX_POLL_INTERVAL_MS,
            retry_backoff_ms: DEFAULT_RETRY_BACKOFF_MS,
            retry_backoff_max_ms: DEFAULT_RETRY_BACKOFF_MAX_MS,
            seed: 0,
        }
    }
}

/// What the application wants to read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subscription {
    /// These topics. No topic at all is a subscription too: the member joins and gets nothing.
    Topics(BTreeSet<Arc<str>>),
    /// All topics whose name matches, as the coordinator judges (RE2 syntax; `consumer` protocol, KIP-848).
    Pattern(Arc<str>),
}

impl Subscription {
    /// A subscription to topics by name.
    pub fn to<T: Into<Arc<str>>>(topics: impl IntoIterator<Item = T>) -> Subscription {
        Subscription::Topics(topics.into_iter().map(Into::into).collect())
    }
}

/// Whether a member that closes leaves the group (KIP-1092).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum LeaveMode {
    /// Dynamic members leave. Static ones stay in the classic protocol until their session ends; in the `consumer`
    /// protocol they say that they will be back.
    #[default]
    Default,
    /// It leaves, even if static.
    Leave,
    /// It stays until its session ends.
    Remain,
}

/// A member of a group, by either protocol.
#[derive(Debug)]
pub enum Membership {
    /// The members divide the partitions.
    Classic(Box<ClassicMembership>),
    /// The coordinator divides the partitions (KIP-848).
    Consumer(Box<ConsumerMembership>),
}

macro_rules! either {
    ($self:ident, $machine:ident => $call:expr) => {
        match $self {
            Membership::Classic($machine) => $call,
            Membership::Consumer($machine) => $call,
        }
    };
}

impl Membership {
    /// A member by the classic protocol, not subscribed yet. The assignors are in order of preference.
    ///
    /// # Errors
    /// When there is no assignor, or when they have no rebalance protocol in common.
    pub fn classic(config: GroupConfig, assignors: Vec<Arc<dyn Assignor>>) -> Result<Membership, GroupError> {
        let machine = ClassicMembership::new(config, assignors)?;
        Ok(Membership::Classic(Box::new(machine)))
    }

    /// A member by the `consumer` protocol, not subscribed yet. `member_id` is its id for life, a random UUID in Kafka's
    /// notation; `remote_assignor` is `group.remote.assignor`.
    pub fn consumer(
        config: GroupConfig,
        member_id: impl Into<Arc<str>>,
        remote_assignor: Option<Arc<str>>,
    ) -> Membership {
        Membership::Consumer(Box::new(ConsumerMembership::new(config, member_id, remote_assignor)))
    }

    /// The application subscribes, or changes its subscription. Begins membership, ends a failure, and counts as a sign
    /// of life.
    pub fn handle_subscribed(&mut self, subscription: Subscription, now: Time) {
        either!(self, machine => machine.handle_subscribed(subscription, now));
    }

    /// The application takes back its subscription: lets go of everything and leaves the group.
    pub fn handle_unsubscribed(&mut self, now: Time) {
        either!(self, machine => machine.handle_unsubscribed(now));
    }

    /// The consumer closes: lets go of everything and leaves the group or not. [`Phase::Left`] is the end.
    pub fn handle_leave(&mut self, mode: LeaveMode, now: Time) {
        either!(self, machine => machine.handle_leave(mode, now));
    }

    /// The application asks for a rebalance (`enforceRebalance`).
    pub fn handle_enforced(&mut self, reason: Arc<str>, now: Time) {
        either!(self, machine => machine.handle_enforced(reason, now));
    }

    /// All that is known of topics, after every change and after every [`Action::RefreshMetadata`].
    pub fn handle_metadata(&mut self, topics: Arc<TopicImage>, now: Time) {
        either!(self, machine => machine.handle_metadata(topics, now));
    }

    /// The coordinator answered.
    pub fn handle_response(&mut self, response: GroupResponse, now: Time) {
        either!(self, machine => machine.handle_response(response, now));
    }

    /// A request got no answer.
    pub fn handle_failure(&mut self, request: RequestKind, failure: RequestFailure, now: Time) {
        either!(self, machine => machine.handle_failure(request, &failure, now));
    }

    /// The partitions of the last [`Action::Revoke`] are let go.
    pub fn handle_revoked(&mut self, now: Time) {
        either!(self, machine => machine.handle_revoked(now));
    }

    /// The assignment of the [`Action::Assign`] of this number is taken over. Of an earlier one than the last it changes
    /// nothing.
    pub fn handle_assigned(&mut self, number: u64, now: Time) {
        either!(self, machine => machine.handle_assigned(number, now));
    }

    /// A sign of life: `max.poll.interval.ms` starts anew.
    pub fn handle_poll(&mut self, now: Time) {
        either!(self, machine => machine.handle_poll(now));
    }

    /// The application will be busy: no poll is expected before `until`.
    pub fn handle_extended(&mut self, until: Time, now: Time) {
        either!(self, machine => machine.handle_extended(until, now));
    }

    /// A commit of offsets sent under `stamp` was answered with this error code.
    ///
    /// Only codes that say something about the membership do anything, and only if `stamp` is still current.
    pub fn handle_fenced_commit(&mut self, code: i16, stamp: &Generation, now: Time) {
        either!(self, machine => machine.handle_fenced_commit(code, stamp, now));
    }

    /// The time of [`wake_at`](Membership::wake_at) has come. Calling it too often is harmless.
    pub fn handle_timeout(&mut self, now: Time) {
        either!(self, machine => machine.handle_timeout(now));
    }

    /// What to do next.
    pub fn next_action(&mut self, now: Time) -> Option<Action> {
        either!(self, machine => machine.next_action(now))
    }

    /// When to call `handle_timeout`; `None` means that only an input can change anything.
    pub fn wake_at(&self) -> Option<Time> {
        either!(self, machine => machine.wake_at())
    }

    /// What the member does now, which is cheaper to ask than [`Membership::state`].
    pub fn phase(&self) -> Phase {
        either!(self, machine => machine.phase())
    }

    /// How the member stands.
    pub fn state(&self) -> MemberStateView {
        either!(self, machine => machine.state())
    }

    /// The partitions that the member has, as far as it has taken them over and not let go; in order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        either!(self, machine => machine.assignment())
    }

    /// What commits are stamped with now; `None` while it is no member.
    pub fn generation(&self) -> Option<Generation> {
        either!(self, machine => machine.generation())
    }

    /// The topics whose metadata must be kept fresh: those subscribed to and, while it leads a classic group, those of
    /// all members. In order.
    pub fn wanted_topics(&self) -> Vec<Arc<str>> {
        either!(self, machine => machine.wanted_topics())
    }
}
