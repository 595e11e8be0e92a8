//! What the leader of a classic group does: it divides the partitions, and watches the topics it divided.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;

use super::{ClassicMembership, State};
use crate::assignor::{
    Assignment, Assignor, AssignorError, GroupMember, GroupTopic, RebalanceProtocol, TopicImage, codec, hold_back,
};
use crate::membership::message::{JoinGroupAnswer, JoinedMember};
use crate::membership::{Action, GroupError, RebalanceReason};
use crate::{Time, TopicPartition};

/// How long the leader waits for metadata of topics that it does not know yet. It owes the group an answer, and what it
/// learns later makes it divide again.
const METADATA_WAIT_MS: u64 = 5_000;

/// The topics of all members, and what was known of them when they were divided.
#[derive(Debug)]
pub(super) struct Leading {
    topics: BTreeSet<Arc<str>>,
    divided: BTreeMap<Arc<str>, GroupTopic>,
    /// Whose partitions these are, as the coordinator told it.
    joined: Vec<JoinedMember>,
    /// A static leader came back and everything stays as it is (KIP-814): it has only to watch the topics.
    only_watches: bool,
}

/// How the leader has divided a generation whose assignment it has not seen yet.
///
/// A SyncGroup without an answer may still be on its way. If the coordinator, asked by another JoinGroup, is still in the
/// same generation, whichever SyncGroup comes first counts. So the second one says what the first one said, even if more is
/// known of the topics by now: otherwise the leader would watch over another division than the one that came into effect,
/// and would never miss what that one leaves out.
#[derive(Debug)]
pub(super) struct Division {
    generation: i32,
    joined: Vec<JoinedMember>,
    divided: BTreeMap<Arc<str>, GroupTopic>,
    assignments: Vec<(Arc<str>, Bytes)>,
}

impl ClassicMembership {
    /// See [`Membership::handle_metadata`](crate::membership::Membership::handle_metadata).
    pub fn handle_metadata(&mut self, topics: Arc<TopicImage>, now: Time) {
        self.topics = topics;
        match &self.state {
            State::Assigning { .. } if self.unknown_topics().is_empty() => self.assign(now),
            State::Stable => self.compare_metadata(now),
            _ => {}
        }
    }

    /// See [`Membership::wanted_topics`](crate::membership::Membership::wanted_topics).
    pub fn wanted_topics(&self) -> Vec<Arc<str>> {
        let mut topics = self.subscription.clone().unwrap_or_default();
        topics.extend(self.leading.iter().flat_map(|leading| leading.topics.iter().cloned()));
        topics.into_iter().collect()
    }

    /// The leader joins again when a topic of the group is not what it was when it was divided. Racks count only if it has one
    /// itself, as in the Java client: a broker that restarts takes its rack out of the metadata for a while.
    pub(super) fn compare_metadata(&mut self, now: Time) {
        let Some(leading) = &self.leading else { return };
        let with_racks = self.config.rack.is_some();
        let same = |topic: &Arc<str>| match (leading.divided.get(topic), self.topics.get(topic)) {
            (Some(before), Some(after)) => {
                before.partitions == after.partitions && (!with_racks || before.racks == after.racks)
            }
            (before, after) => before.is_none() && after.is_none(),
        };
        if !leading.topics.iter().all(same) {
            self.want_rejoin(RebalanceReason::MetadataChanged, now);
        }
    }

    pub(super) fn lead(&mut self, answer: JoinGroupAnswer, now: Time) {
        let mut joined = answer.members.clone();
        joined.sort_unstable_by(|a, b| a.member_id.cmp(&b.member_id));
        let members = members_of(answer.members);
        self.leading = Some(Leading {
            topics: members
                .iter()
                .flat_map(|member| member.topics.iter().cloned())
                .collect(),
            divided: BTreeMap::new(),
            joined,
            only_watches: answer.skip_assignment,
        });
        if !answer.skip_assignment
            && let Some(assignments) = self.divided_before()
        {
            self.sync(assignments, now);
            return;
        }
        // Who only watches waits as well: what it takes for the topics that were divided must be all of them.
        let unknown = self.unknown_topics();
        let deadline = now.plus_ms(METADATA_WAIT_MS);
        self.enter(State::Assigning { members, deadline }, now);
        if unknown.is_empty() {
            self.assign(now);
        } else {
            self.actions.push_back(Action::RefreshMetadata {
                topics: unknown,
                ids: Vec::new(),
            });
        }
    }

    fn sync(&mut self, assignments: Vec<(Arc<str>, Bytes)>, now: Time) {
        let unsent = Some(assignments);
        self.enter(State::Syncing { unsent }, now);
    }

    /// What this very generation was divided into when it was joined before; from now on that is watched over.
    fn divided_before(&mut self) -> Option<Vec<(Arc<str>, Bytes)>> {
        let (leading, division) = (self.leading.as_mut()?, self.division.as_ref()?);
        if division.generation != self.generation || division.joined != leading.joined {
            return None;
        }
        leading.divided = division.divided.clone();
        Some(division.assignments.clone())
    }

    fn unknown_topics(&self) -> Vec<Arc<str>> {
        let topics = self.leading.iter().flat_map(|leading| &leading.topics);
        topics
            .filter(|topic| !self.topics.is_answered(topic))
            .cloned()
            .collect()
    }

    fn divided(&mut self) {
        if let Some(leading) = &mut self.leading {
            let known = |topic: &Arc<str>| Some((topic.clone(), self.topics.get(topic)?.clone()));
            leading.divided = leading.topics.iter().filter_map(known).collect();
        }
    }

    pub(super) fn assign(&mut self, now: Time) {
        let (State::Assigning { members, .. }, Some(assignor)) = (&mut self.state, self.assignor.clone()) else {
            return;
        };
        let members = std::mem::take(members);
        self.divided();
        if self.leading.as_ref().is_some_and(|leading| leading.only_watches) {
            self.sync(Vec::new(), now);
            return;
        }
        let cooperative = self.protocol == RebalanceProtocol::Cooperative;
        match divide(&*assignor, cooperative, &members, &self.topics) {
            Ok(assignments) => {
                self.division = self.leading.as_ref().map(|leading| Division {
                    generation: self.generation,
                    joined: leading.joined.clone(),
                    divided: leading.divided.clone(),
                    assignments: assignments.clone(),
                });
                self.sync(assignments, now);
            }
            Err(AssignorError(reason)) => {
                let name = assignor.name().into();
                self.fail(GroupError::Assignor { name, reason }, now);
            }
        }
    }
}

/// The members that the coordinator tells of, each once. One whose subscription cannot be read takes part with no topics:
/// it gets nothing, and the others can go on.
fn members_of(joined: Vec<JoinedMember>) -> Vec<GroupMember> {
    let mut seen = BTreeSet::new();
    let first = joined
        .into_iter()
        .filter(|member| seen.insert(member.member_id.clone()));
    let decoded = first.map(|member| {
        let JoinedMember {
            member_id,
            group_instance_id,
            metadata,
        } = member;
        codec::decode_subscription(member_id.clone(), group_instance_id.clone(), &metadata).unwrap_or_else(|_| {
            GroupMember {
                member_id,
                group_instance_id,
                ..GroupMember::default()
            }
        })
    });
    decoded.collect()
}

/// An assignment for every member, encoded.
fn divide(
    assignor: &dyn Assignor,
    cooperative: bool,
    members: &[GroupMember],
    topics: &TopicImage,
) -> Result<Vec<(Arc<str>, Bytes)>, AssignorError> {
    let mut divided = assignor.assign(members, topics)?;
    check(&divided)?;
    if cooperative {
        check_ownership(members, &divided)?;
    }
    let encoded = members.iter().map(|member| {
        let assignment = divided.remove(&member.member_id).unwrap_or_default();
        let bytes = codec::encode_assignment(&assignment, codec::ASSIGNMENT_VERSION)
            .map_err(|error| AssignorError(error.to_string().into()))?;
        Ok((member.member_id.clone(), bytes))
    });
    encoded.collect()
}

/// A partition with two owners would be read twice, and each would commit over the other.
fn check(divided: &BTreeMap<Arc<str>, Assignment>) -> Result<(), AssignorError> {
    let mut owners: BTreeMap<&TopicPartition, &Arc<str>> = BTreeMap::new();
    for (member, assignment) in divided {
        for partition in &assignment.partitions {
            if let Some(other) = owners.insert(partition, member) {
                let words = format!("it gives {partition} to {other} and to {member}");
                return Err(AssignorError(words.into()));
            }
        }
    }
    Ok(())
}

/// In a cooperative group nobody gets what another member has not let go of yet.
fn check_ownership(members: &[GroupMember], divided: &BTreeMap<Arc<str>, Assignment>) -> Result<(), AssignorError> {
    let mut held_back = divided.clone();
    hold_back(members, &mut held_back);
    for (member, assignment) in divided {
        let kept = held_back.get(member).map_or(&[][..], |kept| &kept.partitions);
        if let Some(partition) = assignment.partitions.iter().find(|partition| !kept.contains(partition)) {
            let words = format!("it gives {partition} to {member} before its owner has let go of it");
            return Err(AssignorError(words.into()));
        }
    }
    Ok(())
}
