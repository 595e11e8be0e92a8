//! A member of a consumer group: what it asked for, and where it is on the way to its target.
//!
//! Two halves, persisted by two records: what the member said of itself (`ConsumerGroupMemberMetadata`), and its current
//! assignment (`ConsumerGroupCurrentMemberAssignment`). Its target is kept by the group.

use super::group::epochs_to_topics;
use super::{EpochPartitions, Partitions, partition_set};
use crate::group::record::{ClassicMemberMetadata, ConsumerMemberValue, ConsumerPart, CurrentAssignmentValue};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The member epoch that joins.
pub const JOIN_EPOCH: i32 = 0;
/// The member epoch of a heartbeat that leaves.
pub const LEAVE_EPOCH: i32 = -1;
/// The member epoch of a static member that leaves for a while and will be back under its instance id.
pub const STATIC_LEAVE_EPOCH: i32 = -2;

/// Where a member is on the way to its target; the number is the one in the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum MemberState {
    /// It has been given its target of its epoch, all of it.
    #[default]
    Stable,
    /// It was asked to give up partitions and has not reported having done so. It stays in its epoch; nobody gets them.
    UnrevokedPartitions,
    /// It is in the target's epoch, but partitions of its target are still with others.
    UnreleasedPartitions,
    /// Written by a version of Kafka that knows more states. Such a member must start afresh.
    Unknown,
}

impl MemberState {
    /// The number in the record.
    pub fn as_i8(self) -> i8 {
        match self {
            MemberState::Stable => 0,
            MemberState::UnrevokedPartitions => 1,
            MemberState::UnreleasedPartitions => 2,
            MemberState::Unknown => 127,
        }
    }

    /// The state with this number.
    pub fn from_i8(number: i8) -> MemberState {
        match number {
            0 => MemberState::Stable,
            1 => MemberState::UnrevokedPartitions,
            2 => MemberState::UnreleasedPartitions,
            _ => MemberState::Unknown,
        }
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Member {
    /// Its id. The empty string while there is none.
    pub id: Arc<str>,
    /// Its static instance id.
    pub instance_id: Option<Arc<str>>,
    /// The rack it stands in.
    pub rack_id: Option<Arc<str>>,
    /// How long it may take to give partitions up, in milliseconds.
    pub rebalance_timeout_ms: i32,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// The address it was last heard from.
    pub client_host: Arc<str>,
    /// The topics it subscribes to by name.
    pub topics: BTreeSet<Arc<str>>,
    /// The regular expression it subscribes to, as it was written.
    pub regex: Option<Arc<str>>,
    /// The assignor it would like.
    pub assignor: Option<Arc<str>>,
    /// Present if it speaks the classic protocol (JoinGroup, SyncGroup, Heartbeat): its session timeout and its
    /// protocols, best first. The session timeout of the others comes from the broker's configuration.
    pub classic: Option<ClassicMemberMetadata>,
    /// The epoch its next heartbeat must carry. [`STATIC_LEAVE_EPOCH`] for a static member that is away.
    pub epoch: i32,
    /// The epoch before. A heartbeat may still carry it if the answer with the newer one was lost.
    pub previous_epoch: i32,
    /// Where it is on the way to its target.
    pub state: MemberState,
    /// What it has been given, and the epoch of each gift.
    pub assigned: EpochPartitions,
    /// What it was asked to give up. Still its own until it says otherwise.
    pub pending_revocation: EpochPartitions,
}

impl Member {
    /// A member that has said nothing yet.
    pub(crate) fn new(id: Arc<str>) -> Member {
        Member {
            id,
            rebalance_timeout_ms: -1,
            previous_epoch: -1,
            ..Member::default()
        }
    }

    /// Everything it has been given, without epochs.
    pub fn assigned_partitions(&self) -> Partitions {
        partition_set(&self.assigned)
    }

    /// True if nothing is left to do to reach a target of that epoch.
    pub(crate) fn is_reconciled_to(&self, target_epoch: i32) -> bool {
        self.state == MemberState::Stable && self.epoch == target_epoch
    }

    /// True for a static member that said it would be back.
    pub(crate) fn is_away(&self) -> bool {
        self.epoch == STATIC_LEAVE_EPOCH
    }

    /// True for one that the coordinator has taken in under this id and by this protocol, and whose state it understands.
    pub(crate) fn is_known(&self) -> bool {
        self.epoch != JOIN_EPOCH && self.state != MemberState::Unknown && self.classic.is_none()
    }

    /// Moves to `epoch` and remembers the one before.
    pub(crate) fn advance_to(&mut self, epoch: i32) {
        self.previous_epoch = self.epoch;
        self.epoch = epoch;
    }

    /// Takes over what its record says of it.
    pub(crate) fn set_metadata(&mut self, value: &ConsumerMemberValue) {
        self.instance_id = value.instance_id.clone();
        self.rack_id = value.rack_id.clone();
        self.rebalance_timeout_ms = value.rebalance_timeout_ms;
        self.client_id = value.client_id.clone();
        self.client_host = value.client_host.clone();
        self.topics = value.subscribed_topic_names.iter().cloned().collect();
        self.regex = value.subscribed_topic_regex.clone().filter(|regex| !regex.is_empty());
        self.assignor = value.server_assignor.clone();
        self.classic = value.classic.clone();
    }

    /// The record of what it said of itself.
    pub(crate) fn metadata_record(&self) -> ConsumerPart {
        ConsumerPart::Member {
            member_id: self.id.clone(),
            value: Some(ConsumerMemberValue {
                instance_id: self.instance_id.clone(),
                rack_id: self.rack_id.clone(),
                client_id: self.client_id.clone(),
                client_host: self.client_host.clone(),
                subscribed_topic_names: self.topics.iter().cloned().collect(),
                subscribed_topic_regex: self.regex.clone(),
                rebalance_timeout_ms: self.rebalance_timeout_ms,
                server_assignor: self.assignor.clone(),
                classic: self.classic.clone(),
            }),
        }
    }

    /// The record of its current assignment.
    pub(crate) fn assignment_record(&self) -> ConsumerPart {
        ConsumerPart::CurrentAssignment {
            member_id: self.id.clone(),
            value: Some(CurrentAssignmentValue {
                member_epoch: self.epoch,
                previous_member_epoch: self.previous_epoch,
                state: self.state.as_i8(),
                assigned: epochs_to_topics(&self.assigned),
                pending_revocation: epochs_to_topics(&self.pending_revocation),
            }),
        }
    }

    /// True if both would have the same `ConsumerGroupMemberMetadata` record.
    pub(crate) fn same_metadata(&self, other: &Member) -> bool {
        self.instance_id == other.instance_id
            && self.rack_id == other.rack_id
            && self.rebalance_timeout_ms == other.rebalance_timeout_ms
            && self.client_id == other.client_id
            && self.client_host == other.client_host
            && self.topics == other.topics
            && self.regex == other.regex
            && self.assignor == other.assignor
            && self.classic == other.classic
    }

    /// True if both would have the same `ConsumerGroupCurrentMemberAssignment` record.
    pub(crate) fn same_assignment(&self, other: &Member) -> bool {
        self.epoch == other.epoch
            && self.previous_epoch == other.previous_epoch
            && self.state == other.state
            && self.assigned == other.assigned
            && self.pending_revocation == other.pending_revocation
    }

    /// The bytes it takes, roughly.
    pub(crate) fn weight(&self) -> usize {
        let text = |text: &Option<Arc<str>>| text.as_ref().map_or(0, |text| text.len());
        let partitions = self.assigned.values().chain(self.pending_revocation.values());
        let classic = self.classic.iter().flat_map(|classic| &classic.protocols);
        // With its alarms and its place in the maps.
        1_024
            + 6 * self.id.len()
            + text(&self.instance_id)
            + text(&self.rack_id)
            + text(&self.regex)
            + text(&self.assignor)
            + self.client_id.len()
            + self.client_host.len()
            + self.topics.iter().map(|name| 32 + name.len()).sum::<usize>()
            + partitions.map(|set| 32 + set.len() * 16).sum::<usize>()
            + classic
                .map(|(name, bytes)| 64 + name.len() + bytes.len())
                .sum::<usize>()
    }
}
