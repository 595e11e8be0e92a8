//! Reconciliation: the next step of one member from what it has to what it should have.
//!
//! In: the member, its target and the target's epoch, what the member says it owns, and who holds what at the moment.
//! Out: the member one step further, or as it was if it has to wait. Nothing else changes: each member walks at the pace
//! of its own heartbeats, and nobody waits for a whole group to stop.
//!
//! A partition has never two owners because of two rules:
//! - a member keeps what it was asked to give up ([`Member::pending_revocation`]) until it reports a set of owned
//!   partitions without it;
//! - a partition is given only when nobody has it, neither assigned nor pending revocation.

use super::member::{Member, MemberState};
use super::{EpochPartitions, Partitions};
use ottla_protocol::Uuid;
use std::collections::{BTreeMap, BTreeSet};

/// Everything the next step of a member depends on.
pub(crate) struct Reconciliation<'a> {
    /// The epoch of the target assignment.
    pub(crate) target_epoch: i32,
    /// What the member should have.
    pub(crate) target: &'a Partitions,
    /// The topics the member subscribes to now. It is given no others, even while its target is older than that.
    pub(crate) subscribed: &'a BTreeSet<Uuid>,
    /// True if the subscription is another than before: what does not belong to it any more is taken away at once.
    pub(crate) subscription_changed: bool,
    /// What the member says it owns; `None` if it did not say, because nothing changed.
    pub(crate) owned: Option<&'a Partitions>,
    /// True if nobody has this partition, or only this member has it (pending revocation).
    pub(crate) is_free: &'a dyn Fn(Uuid, i32) -> bool,
}

/// A member in a state that this broker does not know holds partitions; it has to join again without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct MustRejoin;

impl Reconciliation<'_> {
    /// The member one step further, or unchanged.
    ///
    /// # Errors
    /// [`MustRejoin`] if its state is unknown and it may own partitions.
    pub(crate) fn step(&self, member: &Member) -> Result<Member, MustRejoin> {
        match member.state {
            MemberState::Stable if member.epoch != self.target_epoch => Ok(self.towards_target(member, member.epoch)),
            MemberState::Stable => Ok(self.keep_to_subscription(member)),
            MemberState::UnrevokedPartitions if self.owns_any_of(&member.pending_revocation) => {
                Ok(self.keep_to_subscription(member))
            }
            MemberState::UnrevokedPartitions | MemberState::UnreleasedPartitions => {
                Ok(self.towards_target(member, member.epoch))
            }
            MemberState::Unknown if self.owned.is_some_and(BTreeMap::is_empty) => {
                Ok(self.towards_target(member, self.target_epoch))
            }
            MemberState::Unknown => Err(MustRejoin),
        }
    }

    fn towards_target(&self, member: &Member, epoch: i32) -> Member {
        let nothing = BTreeSet::new();
        let mut assigned = EpochPartitions::new();
        let mut to_revoke = EpochPartitions::new();
        for (topic, partitions) in &member.assigned {
            let target = self.target.get(topic).filter(|_| self.subscribed.contains(topic));
            let target = target.unwrap_or(&nothing);
            for (partition, since) in partitions {
                let set = if target.contains(partition) {
                    &mut assigned
                } else {
                    &mut to_revoke
                };
                set.entry(*topic).or_default().insert(*partition, *since);
            }
        }
        let mut to_assign: Vec<(Uuid, i32)> = Vec::new();
        let mut waits_for_others = false;
        for (topic, partitions) in self.target.iter().filter(|(topic, _)| self.subscribed.contains(topic)) {
            let has = assigned.get(topic);
            for partition in partitions {
                if has.is_some_and(|has| has.contains_key(partition)) {
                    continue;
                }
                let its_own = member
                    .pending_revocation
                    .get(topic)
                    .is_some_and(|pending| pending.contains_key(partition));
                if its_own || (self.is_free)(*topic, *partition) {
                    to_assign.push((*topic, *partition));
                } else {
                    waits_for_others = true;
                }
            }
        }

        let mut next = member.clone();
        if !to_revoke.is_empty() && self.owns_any_of(&to_revoke) {
            next.state = MemberState::UnrevokedPartitions;
            next.advance_to(epoch);
            next.assigned = assigned;
            next.pending_revocation = to_revoke;
            return next;
        }
        for (topic, partition) in to_assign {
            assigned.entry(topic).or_default().insert(partition, self.target_epoch);
        }
        next.state = if waits_for_others {
            MemberState::UnreleasedPartitions
        } else {
            MemberState::Stable
        };
        next.advance_to(self.target_epoch);
        next.assigned = assigned;
        next.pending_revocation = EpochPartitions::new();
        next
    }

    /// Takes away what the member does not subscribe to any more, without waiting for a new target.
    fn keep_to_subscription(&self, member: &Member) -> Member {
        let mut next = member.clone();
        if !self.subscription_changed {
            return next;
        }
        next.assigned.retain(|topic, _| self.subscribed.contains(topic));
        if next.assigned.len() == member.assigned.len() {
            return next;
        }
        for (topic, partitions) in &member.assigned {
            if !self.subscribed.contains(topic) {
                let pending = next.pending_revocation.entry(*topic).or_default();
                pending.extend(partitions);
            }
        }
        if self.owns_any_of(&next.pending_revocation) {
            next.state = MemberState::UnrevokedPartitions;
        } else {
            // Given up already. Being in the state of waiting for revocation is impossible here: then something of the
            // older pending set would still be owned.
            next.pending_revocation = member.pending_revocation.clone();
        }
        next.advance_to(member.epoch);
        next
    }

    /// A member that does not say what it owns may own everything.
    fn owns_any_of(&self, partitions: &EpochPartitions) -> bool {
        let Some(owned) = self.owned else { return true };
        owned.iter().any(|(topic, owned)| {
            let mine = partitions.get(topic);
            mine.is_some_and(|mine| owned.iter().any(|partition| mine.contains_key(partition)))
        })
    }
}
