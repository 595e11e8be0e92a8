//! From one protocol to the other while the group goes on working (`group.consumer.migration.policy`).
//!
//! *Upgrade*: the first member of the consumer protocol makes a consumer group of a classic one. Every classic member
//! keeps what the last leader gave it, and is told with its next heartbeat to join again.
//! *Downgrade*: when the last member of the consumer protocol goes and classic ones stay, the group is theirs again. They
//! keep what they have until the rebalance that follows.

use super::alarms::AlarmKind;
use super::group::{ConsumerGroup, session_timeout, to_topics};
use super::member::{Member, MemberState};
use super::subscribe::{Context, Operation};
use super::{ConsumerConfig, GroupError, Partitions, embedded};
use crate::group::CONSUMER_PROTOCOL_TYPE;
use crate::group::record::{
    ClassicMemberMetadata, ClassicMemberValue, ClassicValue, ConsumerGroupValue, ConsumerPart, TargetEpochValue,
};
use crate::group::topics::TopicsImage;
use bytes::Bytes;
use ottla_protocol::{DecodeError, EncodeError, ErrorCode, Uuid};
use std::collections::BTreeSet;
use std::sync::Arc;

/// `group.consumer.migration.policy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MigrationPolicy {
    /// A group with members keeps its protocol.
    Disabled,
    /// A classic group may become a consumer group.
    Upgrade,
    /// A consumer group may become a classic group.
    Downgrade,
    /// Both.
    Bidirectional,
}

impl MigrationPolicy {
    /// The policy of this name; capitals do not matter, as in Kafka.
    pub fn by_name(name: &str) -> Option<MigrationPolicy> {
        Some(match name.to_ascii_lowercase().as_str() {
            "disabled" => MigrationPolicy::Disabled,
            "upgrade" => MigrationPolicy::Upgrade,
            "downgrade" => MigrationPolicy::Downgrade,
            "bidirectional" => MigrationPolicy::Bidirectional,
            _ => return None,
        })
    }

    /// A classic group may become a consumer group.
    pub fn may_upgrade(self) -> bool {
        matches!(self, MigrationPolicy::Upgrade | MigrationPolicy::Bidirectional)
    }

    /// A consumer group may become a classic group.
    pub fn may_downgrade(self) -> bool {
        matches!(self, MigrationPolicy::Downgrade | MigrationPolicy::Bidirectional)
    }
}

/// A member of a classic group that is to become a consumer group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ClassicMigrant {
    pub(crate) id: Arc<str>,
    pub(crate) instance_id: Option<Arc<str>>,
    pub(crate) client_id: Arc<str>,
    pub(crate) client_host: Arc<str>,
    pub(crate) rebalance_timeout_ms: i32,
    pub(crate) session_timeout_ms: i32,
    /// Best first, the one that was chosen among them.
    pub(crate) protocols: Vec<(Arc<str>, Bytes)>,
    /// What it said under the protocol that was chosen.
    pub(crate) subscription: Bytes,
    pub(crate) assignment: Bytes,
}

/// The members that the migrants become, each with what is assigned to it.
fn members_of(
    generation: i32,
    migrants: &[ClassicMigrant],
    context: Context<'_>,
) -> Result<Vec<(Member, Partitions)>, GroupError> {
    let mut members: Vec<(Member, Partitions)> = Vec::with_capacity(migrants.len());
    let mut owned: Vec<Partitions> = Vec::with_capacity(migrants.len());
    let mut taken: BTreeSet<(Uuid, i32)> = BTreeSet::new();
    for migrant in migrants {
        let (member, mut assigned, said) = migrant
            .as_member(generation, context.topics)
            .map_err(|_| refused("the embedded consumer protocol is malformed"))?;
        let (has_user_data, owns) = said;
        if has_user_data {
            return Err(refused(
                "an unsupported custom assignor is in use: its user data would be lost",
            ));
        }
        // Two owners of a partition, as a faulty assignor may have made them, are not carried on.
        for (topic, partitions) in &mut assigned {
            partitions.retain(|partition| taken.insert((*topic, *partition)));
        }
        assigned.retain(|_, partitions| !partitions.is_empty());
        members.push((member, assigned));
        owned.push(owns);
    }
    for ((member, _), owns) in members.iter_mut().zip(owned) {
        member.still_has(owns, &mut taken, generation);
    }
    Ok(members)
}

impl ConsumerGroup {
    /// The consumer group that a classic one becomes, and the records that make it last.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND, as Kafka has it, with the reason why the group cannot be upgraded.
    pub(crate) fn from_classic(
        generation: i32,
        migrants: &[ClassicMigrant],
        context: Context<'_>,
    ) -> Result<(ConsumerGroup, Vec<ConsumerPart>), GroupError> {
        if !context.config.migration_policy.may_upgrade() {
            return Err(refused("online upgrade is disabled"));
        }
        if migrants.len() > context.config.max_size {
            return Err(refused("the group size exceeds the consumer group maximum size"));
        }
        let members = members_of(generation, migrants, context)?;

        let mut group = ConsumerGroup::default();
        let mut operation = Operation::new(&mut group, context);
        for (member, _) in &members {
            operation.write(member.metadata_record());
        }
        // What the leader divided may be out of date: members may have gone and partitions come since. A hash that fits to
        // nothing has the heartbeat that is about to follow divide anew, even one that changes nothing else.
        operation.write(ConsumerPart::Group(Some(ConsumerGroupValue {
            epoch: generation,
            metadata_hash: 0,
        })));
        for (member, assigned) in &members {
            operation.write(ConsumerPart::TargetMember {
                member_id: member.id.clone(),
                value: Some(to_topics(assigned)),
            });
        }
        operation.write(ConsumerPart::TargetEpoch(Some(TargetEpochValue {
            assignment_epoch: generation,
            // That the last assignment is old enough: the member that comes next is what this is about.
            assignment_timestamp: 0,
        })));
        for (mut member, assigned) in members {
            let with_epochs = |partitions: BTreeSet<i32>| partitions.into_iter().map(|p| (p, generation)).collect();
            member.assigned = assigned
                .into_iter()
                .map(|(topic, set)| (topic, with_epochs(set)))
                .collect();
            operation.write(member.assignment_record());
        }
        let records = operation.records;
        for migrant in migrants {
            if let Some(member) = group.members.get(&migrant.id) {
                let at = context.moment.now + session_timeout(member, context.config);
                group.alarms.set(&migrant.id, AlarmKind::Session, at);
            }
        }
        Ok((group, records))
    }

    /// True if only classic members stay when these have gone, so that the group may become a classic one, which has at
    /// most `classic_max_size` members (`group.max.size`).
    pub(crate) fn may_become_classic(
        &self,
        leaving: &BTreeSet<Arc<str>>,
        config: &ConsumerConfig,
        classic_max_size: usize,
    ) -> bool {
        let mut staying = self
            .members
            .values()
            .filter(|member| !leaving.contains(&member.id))
            .peekable();
        config.migration_policy.may_downgrade()
            && staying.peek().is_some()
            && self.members.len() - leaving.len().min(self.members.len()) <= classic_max_size
            && staying.all(|member| member.classic.is_some())
            && self.common_protocol(leaving).is_some()
    }

    /// The classic group that it becomes without those who leave, all of whose members are to join again.
    ///
    /// # Errors
    /// A topic's name is longer than a string may be.
    pub(crate) fn to_classic(
        &self,
        leaving: &BTreeSet<Arc<str>>,
        context: Context<'_>,
    ) -> Result<ClassicValue, EncodeError> {
        let protocol = self.common_protocol(leaving);
        let staying: Vec<&Member> = self
            .members
            .values()
            .filter(|member| !leaving.contains(&member.id))
            .collect();
        let mut members = Vec::with_capacity(staying.len());
        for member in &staying {
            let protocols = member.classic.iter().flat_map(|classic| &classic.protocols);
            let mut named = protocols.filter(|(name, _)| Some(name) == protocol.as_ref());
            let subscription = named.next().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
            members.push(ClassicMemberValue {
                member_id: member.id.clone(),
                instance_id: member.instance_id.clone(),
                client_id: member.client_id.clone(),
                client_host: member.client_host.clone(),
                rebalance_timeout_ms: member.rebalance_timeout_ms,
                session_timeout_ms: member.classic.as_ref().map_or(0, |classic| classic.session_timeout_ms),
                assignment: embedded::write_assignment(&member.assigned, &subscription, context.topics)?,
                subscription,
            });
        }
        Ok(ClassicValue {
            protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
            generation: self.epoch,
            protocol,
            // Nobody has divided anything for those who stay: a coordinator that loads this has them join again.
            leader: None,
            state_timestamp: context.moment.wall_ms,
            members,
        })
    }

    /// A protocol that all who stay know: of those the one that the first likes best.
    fn common_protocol(&self, leaving: &BTreeSet<Arc<str>>) -> Option<Arc<str>> {
        let staying = || self.members.values().filter(|member| !leaving.contains(&member.id));
        let names = |member: &Member| -> Vec<Arc<str>> {
            let protocols = member.classic.iter().flat_map(|classic| &classic.protocols);
            protocols.map(|(name, _)| name.clone()).collect()
        };
        let first = names(staying().next()?);
        first
            .into_iter()
            .find(|name| staying().all(|member| names(member).contains(name)))
    }
}

impl ClassicMigrant {
    /// The member it becomes, what it was assigned, whether its assignor has put data of its own in, and what it owned when
    /// it joined.
    fn as_member(
        &self,
        generation: i32,
        topics: &dyn TopicsImage,
    ) -> Result<(Member, Partitions, (bool, Partitions)), DecodeError> {
        let subscription = embedded::read_subscription(&self.subscription, topics)?;
        let assignment = embedded::read_assignment(&self.assignment, topics)?;
        let member = Member {
            instance_id: self.instance_id.clone(),
            rack_id: subscription.rack_id,
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            client_id: self.client_id.clone(),
            client_host: self.client_host.clone(),
            topics: subscription.topics.into_iter().collect(),
            classic: Some(ClassicMemberMetadata {
                session_timeout_ms: self.session_timeout_ms,
                protocols: self.protocols.clone(),
            }),
            epoch: generation,
            previous_epoch: generation,
            state: MemberState::Stable,
            ..Member::new(self.id.clone())
        };
        let said = (assignment.has_user_data, subscription.owned);
        Ok((member, assignment.partitions, said))
    }
}

impl Member {
    /// A cooperative member (KIP-429) has what it owned when it joined until it joins again, even if it was not given it
    /// any more: its application may still be letting go.
    fn still_has(&mut self, owned: Partitions, taken: &mut BTreeSet<(Uuid, i32)>, generation: i32) {
        for (topic, partitions) in owned {
            for partition in partitions
                .into_iter()
                .filter(|partition| taken.insert((topic, *partition)))
            {
                let pending = self.pending_revocation.entry(topic).or_default();
                pending.insert(partition, generation);
                self.state = MemberState::UnrevokedPartitions;
            }
        }
    }
}

fn refused(reason: &str) -> GroupError {
    let message = format!("Cannot upgrade the classic group to a consumer group because {reason}.");
    GroupError::new(ErrorCode::GroupIdNotFound, message)
}
