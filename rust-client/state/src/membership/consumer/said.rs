//! What a heartbeat of the `consumer` protocol says: everything, or what has changed since the coordinator last answered.

use std::collections::{BTreeMap, BTreeSet};

use ottla_protocol::Uuid;

use super::{ConsumerMembership, JOIN_EPOCH, Numbered, State};
use crate::membership::Subscription;
use crate::membership::message::ConsumerGroupHeartbeat;

/// What of a member can change and is said when it does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    subscription: Subscription,
    /// How often the member had said its subscription once more.
    repeats: u64,
    owned: BTreeSet<Numbered>,
    /// How many targets the member had followed: a report after each, also of what has not changed.
    followed: u64,
}

impl Said {
    pub(super) fn is_pattern(&self) -> bool {
        matches!(self.subscription, Subscription::Pattern(_))
    }

    /// Whether the subscription is said when the coordinator has heard this `before`.
    pub(super) fn subscribes(&self, before: Option<&Said>) -> bool {
        before.is_none_or(|before| before.subscription != self.subscription || before.repeats != self.repeats)
    }
}

impl ConsumerMembership {
    /// What the coordinator should know now.
    pub(super) fn to_say(&self) -> Said {
        // Who lets go in order to leave has no subscription any more, and need not say so: it will be gone.
        let last = || self.said.as_ref().map(|said| said.subscription.clone());
        let subscription = self.subscription.clone().or_else(last);
        // Who says everything must not leave out what the application is taking over: it would count as let go.
        let owned = match &self.state {
            State::TakingOver { all } if self.said.is_none() => all,
            _ => &self.owned,
        };
        Said {
            subscription: subscription.unwrap_or(Subscription::Topics(BTreeSet::new())),
            repeats: self.repeats,
            owned: owned.keys().copied().collect(),
            followed: self.followed,
        }
    }

    pub(super) fn empty_heartbeat(&self, member_epoch: i32) -> ConsumerGroupHeartbeat {
        ConsumerGroupHeartbeat {
            group_id: self.config.group_id.clone(),
            member_id: self.member_id.clone(),
            member_epoch,
            instance_id: self.config.group_instance_id.clone(),
            rack_id: None,
            rebalance_timeout_ms: None,
            subscribed_topic_names: None,
            subscribed_topic_regex: None,
            server_assignor: None,
            topic_partitions: None,
        }
    }

    pub(super) fn heartbeat(&self, to_say: &Said) -> ConsumerGroupHeartbeat {
        let mut heartbeat = self.empty_heartbeat(self.epoch);
        let said = self.said.as_ref().filter(|_| self.epoch > JOIN_EPOCH);
        if said.is_none() {
            let timeout = i32::try_from(self.config.max_poll_interval_ms).unwrap_or(i32::MAX);
            heartbeat.rebalance_timeout_ms = Some(timeout);
            heartbeat.rack_id = self.config.rack.clone();
            heartbeat.server_assignor = self.remote_assignor.clone();
        }
        if to_say.subscribes(said) {
            let (names, pattern) = match &to_say.subscription {
                Subscription::Topics(topics) => {
                    let withdrawn = (self.pattern_said || self.stray_pattern).then(|| "".into());
                    (topics.iter().cloned().collect(), withdrawn)
                }
                Subscription::Pattern(pattern) => (Vec::new(), Some(pattern.clone())),
            };
            heartbeat.subscribed_topic_names = Some(names);
            heartbeat.subscribed_topic_regex = pattern;
        }
        if said.is_none_or(|said| said.owned != to_say.owned || said.followed != to_say.followed) {
            heartbeat.topic_partitions = Some(by_topic(&to_say.owned));
        }
        heartbeat
    }
}

fn by_topic(partitions: &BTreeSet<Numbered>) -> Vec<(Uuid, Vec<i32>)> {
    let mut topics: BTreeMap<Uuid, Vec<i32>> = BTreeMap::new();
    for (id, number) in partitions {
        topics.entry(*id).or_default().push(*number);
    }
    topics.into_iter().collect()
}
