//! The target assignment: what each member should have in the end.
//!
//! It is computed by one of the server-side assignors when the group epoch has run ahead of the assignment epoch, and no
//! more often than `group.consumer.assignment.interval.ms` says: of many members that join at the same time, most then
//! find their partitions in the first assignment that knows all of them.

use super::ConsumerConfig;
use super::assignor::{MemberSpec, ServerAssignor};
use super::group::{ConsumerGroup, to_topics};
use super::subscribe::Operation;
use crate::group::record::{ConsumerPart, TargetEpochValue};
use ottla_protocol::Uuid;
use std::collections::BTreeMap;
use std::sync::Arc;

impl ConsumerGroup {
    /// The assignor that most members ask for; with no wishes, or as many for one as for another, the one that is
    /// configured first.
    pub fn preferred_assignor(&self, config: &ConsumerConfig) -> ServerAssignor {
        let mut votes: BTreeMap<ServerAssignor, usize> = BTreeMap::new();
        for name in self.members.values().filter_map(|member| member.assignor.as_deref()) {
            if let Some(assignor) = ServerAssignor::by_name(name) {
                *votes.entry(assignor).or_default() += 1;
            }
        }
        let mut best = config.assignors.first().copied().unwrap_or(ServerAssignor::Uniform);
        let mut best_votes = votes.get(&best).copied().unwrap_or(0);
        for assignor in &config.assignors {
            let theirs = votes.get(assignor).copied().unwrap_or(0);
            if theirs > best_votes {
                (best, best_votes) = (*assignor, theirs);
            }
        }
        best
    }
}

impl Operation<'_> {
    /// Computes the target assignment anew if it is out of date and the last one is old enough.
    pub(super) fn assign_if_due(&mut self) {
        if self.group.epoch <= self.group.assignment_epoch || !self.may_assign_now() {
            return;
        }
        let mut partition_counts: BTreeMap<Uuid, i32> = BTreeMap::new();
        for name in self.group.subscribed_topics() {
            if let Some(topic) = self.context.topics.by_name(&name) {
                partition_counts.insert(topic.id, i32::try_from(topic.partitions).unwrap_or(i32::MAX));
            }
        }
        let specs: BTreeMap<Arc<str>, MemberSpec> = self
            .group
            .members
            .iter()
            .map(|(id, member)| {
                let spec = MemberSpec {
                    instance_id: member.instance_id.clone(),
                    topics: self.topic_ids(member),
                    assigned: self.group.target(id),
                };
                (id.clone(), spec)
            })
            .collect();
        let assignor = self.group.preferred_assignor(self.context.config);
        for (member_id, target) in assignor.assign(&specs, &partition_counts) {
            if specs.get(&member_id).is_none_or(|spec| spec.assigned != target) {
                self.write(ConsumerPart::TargetMember {
                    member_id,
                    value: Some(to_topics(&target)),
                });
            }
        }
        self.write(ConsumerPart::TargetEpoch(Some(TargetEpochValue {
            assignment_epoch: self.group.epoch,
            assignment_timestamp: self.context.moment.wall_ms,
        })));
    }

    /// A member that is alone waits for nobody.
    fn may_assign_now(&self) -> bool {
        let age = self
            .context
            .moment
            .wall_ms
            .saturating_sub(self.group.assignment_timestamp);
        // A negative age: the wall clock was set back.
        age < 0 || age >= self.context.config.assignment_interval_ms || self.group.members.len() == 1
    }
}
