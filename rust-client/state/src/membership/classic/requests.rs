//! What a classic member sends, and when: the requests and their contents.

use std::sync::Arc;

use bytes::Bytes;

use super::{ClassicMembership, State};
use crate::Time;
use crate::assignor::{Assignor, GroupMember, Previous, codec};
use crate::membership::RebalanceReason;
use crate::membership::message::{GroupRequest, Heartbeat, JoinGroup, LeaveGroup, RequestKind, SyncGroup};

/// Reasons that are longer are cut: Kafka's coordinator refuses them beyond 255 characters.
const MAX_REASON: usize = 255;

impl ClassicMembership {
    pub(super) fn next_request(&mut self, now: Time) -> Option<GroupRequest> {
        if !self.under_way.is(RequestKind::LeaveGroup)
            && let Some((member_id, reason)) = self.leaves.pop_front()
        {
            return Some(GroupRequest::LeaveGroup(LeaveGroup {
                group_id: self.config.group_id.clone(),
                member_id,
                group_instance_id: self.config.group_instance_id.clone(),
                reason: told(&reason),
            }));
        }
        let in_time = self.attempts.not_before() <= now;
        if matches!(self.state, State::Unjoined) && in_time && !self.under_way.is(RequestKind::JoinGroup) {
            self.enter(State::Joining, now);
            return Some(GroupRequest::JoinGroup(self.join_group()));
        }
        if let State::Syncing { unsent } = &mut self.state
            && !self.under_way.is(RequestKind::SyncGroup)
            && let Some(assignments) = unsent.take()
        {
            return Some(GroupRequest::SyncGroup(self.sync_group(assignments)));
        }
        let due = self.heartbeats.next_at <= now && in_time && !self.under_way.is(RequestKind::Heartbeat);
        (due && self.sends_heartbeats()).then(|| {
            self.heartbeats.next_at = now.plus_ms(self.config.heartbeat_interval_ms);
            self.heartbeats.sent_in = self.generation();
            GroupRequest::Heartbeat(Heartbeat {
                group_id: self.config.group_id.clone(),
                generation_id: self.generation,
                member_id: self.member_id.clone(),
                group_instance_id: self.config.group_instance_id.clone(),
            })
        })
    }

    fn join_group(&self) -> JoinGroup {
        let millis = |ms: u64| i32::try_from(ms).unwrap_or(i32::MAX);
        JoinGroup {
            group_id: self.config.group_id.clone(),
            session_timeout_ms: millis(self.config.session_timeout_ms),
            rebalance_timeout_ms: millis(self.config.max_poll_interval_ms),
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocols: self
                .assignors
                .iter()
                .filter_map(|assignor| self.offer(&**assignor))
                .collect(),
            reason: told(&self.join_reason),
        }
    }

    /// The member's subscription, as this assignor wants it. A topic name that does not fit into a message cannot exist
    /// either, so an assignor whose offer cannot be written is not offered.
    fn offer(&self, assignor: &dyn Assignor) -> Option<(Arc<str>, Bytes)> {
        let topics: Vec<Arc<str>> = self.subscription.iter().flatten().cloned().collect();
        let previous = Previous {
            partitions: &self.previous,
            generation: self.assigned_in,
        };
        let member = GroupMember {
            user_data: assignor.user_data(&topics, previous),
            topics,
            owned: self.owned.iter().cloned().collect(),
            // What was lost is not claimed, not even by its generation.
            generation: self.generation().map(|_| self.assigned_in),
            rack: self.config.rack.clone(),
            ..GroupMember::default()
        };
        let bytes = codec::encode_subscription(&member, codec::SUBSCRIPTION_VERSION).ok()?;
        Some((assignor.name().into(), bytes))
    }

    fn sync_group(&self, assignments: Vec<(Arc<str>, Bytes)>) -> SyncGroup {
        let assignor = self.assignor.as_ref();
        SyncGroup {
            group_id: self.config.group_id.clone(),
            generation_id: self.generation,
            member_id: self.member_id.clone(),
            group_instance_id: self.config.group_instance_id.clone(),
            protocol_name: assignor.map_or_else(|| "".into(), |assignor| assignor.name().into()),
            assignments,
        }
    }
}

fn told(reason: &RebalanceReason) -> Arc<str> {
    reason.to_string().chars().take(MAX_REASON).collect::<String>().into()
}
