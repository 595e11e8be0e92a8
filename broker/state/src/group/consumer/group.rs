//! What a consumer group is: members, target assignment, who holds what, and the three epochs.
//!
//! In: records, in the order of the log ([`ConsumerGroup::apply`]). Everything that lasts changes here and nowhere else.
//! What does not last (alarms, what members said they own) stands apart in the same struct and is lost with it.

use super::alarms::{AlarmKind, Alarms};
use super::member::{Member, MemberState};
use super::{ConsumerConfig, EpochPartitions, Partitions};
use crate::Time;
use crate::group::record::{
    ConsumerGroupValue, ConsumerMemberValue, ConsumerPart, CurrentAssignmentValue, TopicPartitions,
};
use ottla_protocol::Uuid;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// What a group costs apart from what is in it.
const GROUP_WEIGHT: usize = 1_024;
/// And an owner of a partition.
const OWNER_WEIGHT: usize = 64;

/// What a group is doing, by Kafka's names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GroupState {
    /// It has no members.
    Empty,
    /// Something has changed since the target assignment was computed.
    Assigning,
    /// Not every member has reached the target.
    Reconciling,
    /// Everybody has what he should have.
    Stable,
}

impl GroupState {
    /// As ListGroups and ConsumerGroupDescribe name it.
    pub fn name(self) -> &'static str {
        match self {
            GroupState::Empty => "Empty",
            GroupState::Assigning => "Assigning",
            GroupState::Reconciling => "Reconciling",
            GroupState::Stable => "Stable",
        }
    }
}

/// What a regular expression was found to mean.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct ResolvedRegex {
    pub(crate) topics: BTreeSet<Arc<str>>,
    /// The version of the topics it was held against.
    pub(crate) version: i64,
    /// When, in milliseconds since 1970.
    pub(crate) resolved_at: i64,
}

/// A consumer group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerGroup {
    pub(super) epoch: i32,
    /// Of the metadata of all subscribed topics: when it is another, the assignment is out of date.
    pub(super) metadata_hash: i64,
    pub(super) assignment_epoch: i32,
    /// When the target assignment was computed, in milliseconds since 1970; 0 if never.
    pub(super) assignment_timestamp: i64,
    pub(super) members: BTreeMap<Arc<str>, Member>,
    pub(super) targets: BTreeMap<Arc<str>, Partitions>,
    /// Member id by static instance id.
    pub(super) static_members: BTreeMap<Arc<str>, Arc<str>>,
    pub(super) regexes: BTreeMap<Arc<str>, ResolvedRegex>,
    /// Who holds a partition, assigned or pending revocation.
    pub(super) owners: HashMap<(Uuid, i32), Arc<str>>,
    /// The log holds a record that early versions of Kafka 4 wrote; its tombstone is due.
    pub(super) has_partition_metadata_record: bool,

    pub(super) alarms: Alarms,
    /// What each member last said it owns.
    pub(super) reported: BTreeMap<Arc<str>, Partitions>,
    /// The version of the topics that `metadata_hash` was last held against.
    pub(super) topics_checked: Option<i64>,
    /// The version of the topics that the expressions were last held against, and when, in milliseconds since 1970.
    pub(super) regexes_checked: Option<(i64, i64)>,

    /// Of members, targets and expressions.
    pub(super) weight: usize,
    pub(super) reported_weight: usize,
}

impl ConsumerGroup {
    /// The group epoch. 0 before the first member.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// The group epoch that the target assignment was computed for.
    pub fn assignment_epoch(&self) -> i32 {
        self.assignment_epoch
    }

    /// The members by id.
    pub fn members(&self) -> impl ExactSizeIterator<Item = &Member> {
        self.members.values()
    }

    /// The member with this id.
    pub fn member(&self, id: &str) -> Option<&Member> {
        self.members.get(id)
    }

    /// What the member with this id should have in the end.
    pub fn target(&self, member_id: &str) -> Partitions {
        self.targets.get(member_id).cloned().unwrap_or_default()
    }

    /// The member that holds this static instance id.
    pub fn static_member(&self, instance_id: &str) -> Option<&Member> {
        self.members.get(self.static_members.get(instance_id)?)
    }

    /// True if it has no members.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// What the group is doing.
    pub fn state(&self) -> GroupState {
        if self.members.is_empty() {
            GroupState::Empty
        } else if self.epoch > self.assignment_epoch {
            GroupState::Assigning
        } else if self.members.values().all(|m| m.is_reconciled_to(self.assignment_epoch)) {
            GroupState::Stable
        } else {
            GroupState::Reconciling
        }
    }

    /// Every topic somebody subscribes to, by name or by an expression that is resolved.
    pub fn subscribed_topics(&self) -> BTreeSet<Arc<str>> {
        let mut names: BTreeSet<Arc<str>> = BTreeSet::new();
        for member in self.members.values() {
            names.extend(member.topics.iter().cloned());
        }
        for resolved in self.regexes.values() {
            names.extend(resolved.topics.iter().cloned());
        }
        names
    }

    /// True if somebody subscribes to the topic called `name`.
    pub fn is_subscribed_to(&self, name: &str) -> bool {
        self.members.values().any(|member| member.topics.contains(name))
            || self.regexes.values().any(|resolved| resolved.topics.contains(name))
    }

    /// When [`Self::handle_timeout`] has something to do next.
    pub fn wake_at(&self) -> Option<Time> {
        self.alarms.wake_at()
    }

    /// Sets the alarms anew after the group was read from the log: nobody is thought dead for the time in which nobody
    /// could be heard.
    pub fn loaded(&mut self, config: &ConsumerConfig, now: Time) {
        self.alarms = Alarms::default();
        for member in self.members.values() {
            self.alarms
                .set(&member.id, AlarmKind::Session, now + session_timeout(member, config));
            if member.state == MemberState::UnrevokedPartitions && member.classic.is_none() {
                let kind = AlarmKind::Revocation { epoch: member.epoch };
                self.alarms
                    .set(&member.id, kind, now + milliseconds(member.rebalance_timeout_ms));
            }
        }
    }

    /// The bytes that the group takes, roughly.
    pub fn weight(&self) -> usize {
        GROUP_WEIGHT + self.weight + self.reported_weight + self.owners.len() * OWNER_WEIGHT
    }

    /// What that weighs which a record is about.
    fn weight_of(&self, part: &ConsumerPart) -> usize {
        match part {
            ConsumerPart::Member { member_id, .. } | ConsumerPart::CurrentAssignment { member_id, .. } => {
                self.members.get(member_id).map_or(0, Member::weight)
            }
            ConsumerPart::TargetMember { member_id, .. } => self.targets.get(member_id).map_or(0, partitions_weight),
            ConsumerPart::RegularExpression { regex, .. } => self.regexes.get(regex).map_or(0, |resolved| {
                let names = resolved.topics.iter().map(|name| 32 + name.len());
                64 + regex.len() + names.sum::<usize>()
            }),
            ConsumerPart::Group(_) | ConsumerPart::PartitionMetadata { .. } | ConsumerPart::TargetEpoch(_) => 0,
        }
    }

    /// Notes what a member said it owns.
    pub(super) fn set_reported(&mut self, id: &Arc<str>, owned: &Partitions) {
        self.forget_reported(id);
        self.reported_weight += partitions_weight(owned);
        self.reported.insert(id.clone(), owned.clone());
    }

    pub(super) fn forget_reported(&mut self, id: &str) {
        if let Some(owned) = self.reported.remove(id) {
            self.reported_weight -= partitions_weight(&owned);
        }
    }

    /// Applies one record. Applying it again changes nothing.
    ///
    /// False if this record ends the group: nothing is left of it.
    pub fn apply(&mut self, part: &ConsumerPart) -> bool {
        let before = self.weight_of(part);
        let lives = self.apply_part(part);
        self.weight = (self.weight + self.weight_of(part)).saturating_sub(before);
        lives
    }

    fn apply_part(&mut self, part: &ConsumerPart) -> bool {
        match part {
            ConsumerPart::Group(Some(ConsumerGroupValue { epoch, metadata_hash })) => {
                self.epoch = *epoch;
                self.metadata_hash = *metadata_hash;
            }
            ConsumerPart::Group(None) => return false,
            ConsumerPart::PartitionMetadata { tombstone } => self.has_partition_metadata_record = !tombstone,
            ConsumerPart::Member { member_id, value } => self.apply_member(member_id, value.as_ref()),
            ConsumerPart::TargetEpoch(value) => {
                self.assignment_epoch = value.map_or(-1, |value| value.assignment_epoch);
                self.assignment_timestamp = value.map_or(0, |value| value.assignment_timestamp);
            }
            ConsumerPart::TargetMember { member_id, value } => match value {
                Some(topics) => {
                    self.targets.insert(member_id.clone(), from_topics(topics));
                }
                None => {
                    self.targets.remove(member_id);
                }
            },
            ConsumerPart::CurrentAssignment { member_id, value } => self.apply_assignment(member_id, value.as_ref()),
            ConsumerPart::RegularExpression { regex, value } => match value {
                Some(value) => {
                    let resolved = ResolvedRegex {
                        topics: value.topics.iter().cloned().collect(),
                        version: value.version,
                        resolved_at: value.timestamp,
                    };
                    self.regexes.insert(regex.clone(), resolved);
                }
                None => {
                    self.regexes.remove(regex);
                }
            },
        }
        true
    }

    fn apply_member(&mut self, id: &Arc<str>, value: Option<&ConsumerMemberValue>) {
        let Some(value) = value else {
            if let Some(member) = self.members.remove(id) {
                self.release(&member);
                self.forget_instance(&member);
            }
            self.alarms.cancel_all(id);
            self.forget_reported(id);
            return;
        };
        let mut member = self.members.remove(id).unwrap_or_else(|| Member::new(id.clone()));
        self.forget_instance(&member);
        member.set_metadata(value);
        if let Some(instance) = &member.instance_id {
            self.static_members.insert(instance.clone(), id.clone());
        }
        self.members.insert(id.clone(), member);
    }

    fn apply_assignment(&mut self, id: &Arc<str>, value: Option<&CurrentAssignmentValue>) {
        let Some(value) = value else {
            if let Some(mut member) = self.members.remove(id) {
                self.release(&member);
                member.epoch = super::LEAVE_EPOCH;
                member.previous_epoch = super::LEAVE_EPOCH;
                member.state = MemberState::Stable;
                member.assigned.clear();
                member.pending_revocation.clear();
                self.members.insert(id.clone(), member);
            }
            return;
        };
        let mut member = self.members.remove(id).unwrap_or_else(|| Member::new(id.clone()));
        self.release(&member);
        member.epoch = value.member_epoch;
        member.previous_epoch = value.previous_member_epoch;
        member.state = MemberState::from_i8(value.state);
        member.assigned = epochs_from_topics(&value.assigned, value.member_epoch);
        member.pending_revocation = epochs_from_topics(&value.pending_revocation, value.member_epoch);
        for (topic, partitions) in member.assigned.iter().chain(&member.pending_revocation) {
            for partition in partitions.keys() {
                self.owners.insert((*topic, *partition), id.clone());
            }
        }
        self.members.insert(id.clone(), member);
    }

    /// What the member holds is free, unless it has another owner by now: a compacted log may tell of a new owner before
    /// it tells that the old one is gone.
    fn release(&mut self, member: &Member) {
        for (topic, partitions) in member.assigned.iter().chain(&member.pending_revocation) {
            for partition in partitions.keys() {
                if self.owners.get(&(*topic, *partition)) == Some(&member.id) {
                    self.owners.remove(&(*topic, *partition));
                }
            }
        }
    }

    fn forget_instance(&mut self, member: &Member) {
        if let Some(instance) = &member.instance_id
            && self.static_members.get(instance) == Some(&member.id)
        {
            self.static_members.remove(instance);
        }
    }

    /// Every tombstone that takes the group out of the log, in the order that a replay bears.
    pub fn tombstones(&self) -> Vec<ConsumerPart> {
        let ids = || self.members.keys().cloned();
        let mut parts: Vec<ConsumerPart> = Vec::with_capacity(self.members.len() * 3 + 3);
        parts.extend(ids().map(|member_id| ConsumerPart::CurrentAssignment { member_id, value: None }));
        parts.extend(ids().map(|member_id| ConsumerPart::TargetMember { member_id, value: None }));
        parts.push(ConsumerPart::TargetEpoch(None));
        parts.extend(ids().map(|member_id| ConsumerPart::Member { member_id, value: None }));
        parts.extend(self.regexes.keys().map(|regex| ConsumerPart::RegularExpression {
            regex: regex.clone(),
            value: None,
        }));
        if self.has_partition_metadata_record {
            parts.push(ConsumerPart::PartitionMetadata { tombstone: true });
        }
        parts.push(ConsumerPart::Group(None));
        parts
    }
}

fn partitions_weight(partitions: &Partitions) -> usize {
    64 + partitions.values().map(|set| 48 + set.len() * 12).sum::<usize>()
}

/// A timeout out of a configuration or a request; a negative one counts as none at all.
pub(super) fn milliseconds(timeout_ms: i32) -> u64 {
    u64::try_from(timeout_ms).unwrap_or(0)
}

/// How long this member may be silent, in milliseconds.
pub(super) fn session_timeout(member: &Member, config: &ConsumerConfig) -> u64 {
    let classic = member.classic.as_ref().map(|classic| classic.session_timeout_ms);
    milliseconds(classic.unwrap_or(config.session_timeout_ms))
}

/// Partitions as a record has them.
pub(super) fn to_topics(partitions: &Partitions) -> Vec<TopicPartitions> {
    partitions
        .iter()
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.iter().copied().collect(),
            assignment_epochs: None,
        })
        .collect()
}

fn from_topics(topics: &[TopicPartitions]) -> Partitions {
    topics
        .iter()
        .filter(|topic| !topic.partitions.is_empty())
        .map(|topic| (topic.topic_id, topic.partitions.iter().copied().collect()))
        .collect()
}

/// Partitions and their epochs as a record has them.
pub(super) fn epochs_to_topics(partitions: &EpochPartitions) -> Vec<TopicPartitions> {
    partitions
        .iter()
        .map(|(topic_id, partitions)| TopicPartitions {
            topic_id: *topic_id,
            partitions: partitions.keys().copied().collect(),
            assignment_epochs: Some(partitions.values().copied().collect()),
        })
        .collect()
}

/// Records of Kafka before 4.3 have no epochs for each partition: the member's own is the best there is.
fn epochs_from_topics(topics: &[TopicPartitions], member_epoch: i32) -> EpochPartitions {
    topics
        .iter()
        .filter(|topic| !topic.partitions.is_empty())
        .map(|topic| {
            let epochs = topic.assignment_epochs.as_deref().unwrap_or_default();
            let partitions = topic.partitions.iter().enumerate();
            let with_epochs = partitions.map(|(i, p)| (*p, epochs.get(i).copied().unwrap_or(member_epoch)));
            (topic.topic_id, with_epochs.collect())
        })
        .collect()
}
