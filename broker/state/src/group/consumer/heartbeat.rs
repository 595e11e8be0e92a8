//! ConsumerGroupHeartbeat: joining, staying, following the target and leaving, all in one request.
//!
//! # A heartbeat may come twice
//! An answer may get lost, and the client sends the same again; some clients even send the very same bytes. Nobody may
//! lose membership for that:
//! - Epoch 0 of a member that is in the group already is answered with its epoch and its partitions. It says that it owns
//!   nothing, as such a request must, and may be one that was on its way for long: what the member has to give up is free
//!   only when a later heartbeat says so. Kafka takes it at its word, and two members may then have one partition. (A client
//!   that never says again that it owns nothing, because that is nothing new, frees it when its time to give up is over.)
//! - The epoch before the member's own is accepted if what it owns, when it says so, is among what it was given: it
//!   does not know its new epoch yet. Until it does it is not taken any further, so it is never two epochs behind.
//!   (Everything a member could own in its previous epoch is among what it was given: an epoch is only left after
//!   everything else was reported as given up.)
//! - Partitions are part of the answer until the member reports to own exactly those, not only in the answer that
//!   changed them.
//! - A static member that joins under the member id that holds its instance id joins again and is not refused.

use super::alarms::AlarmKind;
use super::group::{ConsumerGroup, session_timeout};
use super::member::{JOIN_EPOCH, LEAVE_EPOCH, Member, STATIC_LEAVE_EPOCH};
use super::subscribe::{Context, Operation};
use super::{ConsumerConfig, GroupError, Partitions, ServerAssignor};
use crate::group::Client;
use crate::group::record::ConsumerPart;
use ottla_protocol::ErrorCode;
use std::collections::BTreeSet;
use std::sync::Arc;

/// From this version on a member draws its own id.
const MEMBER_DRAWS_ITS_ID: i16 = 1;

/// A ConsumerGroupHeartbeat request. `None` says "as before", or "none" when joining.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HeartbeatRequest {
    /// The member; with version 0, empty for one that wants an id.
    pub member_id: Arc<str>,
    /// The epoch the member believes it has; 0 joins, -1 leaves, -2 leaves for a while.
    pub member_epoch: i32,
    /// Its static instance id.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// How long it may take to give partitions up, in milliseconds; -1 for "as before".
    pub rebalance_timeout_ms: i32,
    /// Topics by name.
    pub topics: Option<BTreeSet<Arc<str>>>,
    /// Topics by regular expression. The empty one ends such a subscription.
    pub regex: Option<Arc<str>>,
    /// The assignor it would like.
    pub assignor: Option<Arc<str>>,
    /// What it owns.
    pub owned: Option<Partitions>,
}

/// The answer to a heartbeat that went well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeartbeatReply {
    /// The member's id.
    pub member_id: Arc<str>,
    /// The epoch its next heartbeat must carry.
    pub member_epoch: i32,
    /// When to send it, in milliseconds.
    pub heartbeat_interval_ms: i32,
    /// What it may consume, if that is news.
    pub assignment: Option<Partitions>,
}

impl HeartbeatRequest {
    /// Holds a request against the rules that need no group.
    ///
    /// # Errors
    /// INVALID_REQUEST or UNSUPPORTED_ASSIGNOR, in the words of Apache Kafka.
    pub fn check(&self, group_id: &str, version: i16, config: &ConsumerConfig) -> Result<(), GroupError> {
        let invalid = |message: &str| Err(GroupError::new(ErrorCode::InvalidRequest, message));
        let empty = |text: &Option<Arc<str>>| text.as_deref() == Some("");
        let needs_id = version >= MEMBER_DRAWS_ITS_ID || self.member_epoch != JOIN_EPOCH;
        if needs_id && self.member_id.is_empty() {
            return invalid("MemberId can't be empty.");
        }
        if group_id.is_empty() {
            return invalid("GroupId can't be empty.");
        }
        if empty(&self.instance_id) {
            return invalid("InstanceId can't be empty.");
        }
        if empty(&self.rack_id) {
            return invalid("RackId can't be empty.");
        }
        if self.member_epoch == JOIN_EPOCH {
            if self.rebalance_timeout_ms == -1 {
                return invalid("RebalanceTimeoutMs must be provided in first request.");
            }
            if !self.owned.as_ref().is_some_and(Partitions::is_empty) {
                return invalid("TopicPartitions must be empty when (re-)joining.");
            }
            if self.topics.is_none() && self.regex.is_none() {
                return invalid(
                    "Either SubscribedTopicNames or SubscribedTopicRegex must be non-null when (re-)joining.",
                );
            }
        } else if self.member_epoch == STATIC_LEAVE_EPOCH && self.instance_id.is_none() {
            return invalid("InstanceId can't be null.");
        } else if self.member_epoch < STATIC_LEAVE_EPOCH {
            return invalid("MemberEpoch is invalid.");
        }
        if let Some(name) = &self.assignor {
            let known = |assignor: &ServerAssignor| assignor.name() == &**name;
            if !config.assignors.iter().any(known) {
                let names: Vec<&str> = config.assignors.iter().map(|assignor| assignor.name()).collect();
                let message = format!(
                    "ServerAssignor {name} is not supported. Supported assignors: {}.",
                    names.join(", ")
                );
                return Err(GroupError::new(ErrorCode::UnsupportedAssignor, message));
            }
        }
        Ok(())
    }

    /// True if the member wants to leave.
    pub fn leaves(&self) -> bool {
        matches!(self.member_epoch, LEAVE_EPOCH | STATIC_LEAVE_EPOCH)
    }

    /// A member says everything when it joins and after something went wrong, and then wants to be told everything.
    fn says_everything(&self) -> bool {
        self.rebalance_timeout_ms != -1 && (self.topics.is_some() || self.regex.is_some()) && self.owned.is_some()
    }
}

impl ConsumerGroup {
    /// A heartbeat that does not leave. `check` of the request has been passed, and its member id is not empty.
    ///
    /// # Errors
    /// GROUP_MAX_SIZE_REACHED, COORDINATOR_NOT_AVAILABLE, UNKNOWN_MEMBER_ID, FENCED_MEMBER_EPOCH,
    /// UNRELEASED_INSTANCE_ID, FENCED_INSTANCE_ID or INVALID_REGULAR_EXPRESSION. The group is then as it was.
    pub fn heartbeat(
        &mut self,
        request: &HeartbeatRequest,
        client: Client<'_>,
        context: Context<'_>,
    ) -> Result<(Vec<ConsumerPart>, HeartbeatReply), GroupError> {
        let joining = request.member_epoch == JOIN_EPOCH;
        self.check_room(&request.member_id, context)?;
        let (old, replaces) = self.member_of(request, joining)?;
        let updated = updated(&old, request, client);

        let mut operation = Operation::new(self, context);
        let owned = request.owned.as_ref().filter(|_| !(joining && old.is_known()));
        operation.check(&updated, owned)?;
        if let Some(previous) = replaces {
            operation.replace(&previous, &old);
        }
        let behind = !joining && request.member_epoch < old.epoch;
        operation.step(&old, &updated, owned, behind);
        let records = operation.records;

        let id = &updated.id;
        if let Some(owned) = &request.owned {
            self.set_reported(id, owned);
        }
        let Some(member) = self.members.get(id) else {
            let message = format!("Member {id} is not a member of the group.");
            return Err(GroupError::new(ErrorCode::UnknownMemberId, message));
        };
        let at = context.moment.now + session_timeout(member, context.config);
        self.alarms.set(id, AlarmKind::Session, at);
        // It has come over from the classic protocol.
        self.alarms.cancel(id, AlarmKind::Join);
        self.alarms.cancel(id, AlarmKind::Sync);

        let assigned = member.assigned_partitions();
        let unaware = self.reported.get(id).is_some_and(|reported| *reported != assigned);
        let is_news =
            joining || behind || unaware || request.says_everything() || assigned != old.assigned_partitions();
        let reply = HeartbeatReply {
            member_id: id.clone(),
            member_epoch: member.epoch,
            heartbeat_interval_ms: context.config.heartbeat_interval_ms,
            assignment: is_news.then_some(assigned),
        };
        Ok((records, reply))
    }

    /// # Errors
    /// GROUP_MAX_SIZE_REACHED, or COORDINATOR_NOT_AVAILABLE while the coordinator holds as much as it may.
    pub(super) fn check_room(&self, member_id: &str, context: Context<'_>) -> Result<(), GroupError> {
        if self.members.contains_key(member_id) {
            return Ok(());
        }
        let max = context.config.max_size;
        if self.members.len() >= max {
            let message = format!("The consumer group has reached its maximum capacity of {max} members.");
            return Err(GroupError::new(ErrorCode::GroupMaxSizeReached, message));
        }
        if context.moment.crowded {
            let message = "The coordinator holds as much as it may.";
            return Err(GroupError::new(ErrorCode::CoordinatorNotAvailable, message));
        }
        Ok(())
    }

    /// The member that a heartbeat is about, as it is now, and the id of the static member that it takes the place of.
    fn member_of(&self, request: &HeartbeatRequest, joining: bool) -> Result<(Member, Option<Arc<str>>), GroupError> {
        let id = &request.member_id;
        let Some(instance) = &request.instance_id else {
            let known = self.members.get(id).cloned();
            let member = match known {
                Some(member) => member,
                None if joining => Member::new(id.clone()),
                None => return Err(unknown_member(id)),
            };
            check_epoch(&member, request)?;
            return Ok((member, None));
        };
        match self.static_member(instance) {
            None if joining => Ok((self.members.get(id).cloned().unwrap_or(Member::new(id.clone())), None)),
            None => {
                let message = format!("Instance id {instance} is unknown.");
                Err(GroupError::new(ErrorCode::UnknownMemberId, message))
            }
            Some(holder) if holder.id == *id && !holder.is_away() => {
                check_epoch(holder, request)?;
                Ok((holder.clone(), None))
            }
            Some(holder) if joining => {
                if !holder.is_away() && holder.classic.is_none() {
                    let message = format!(
                        "Static member {id} with instance id {instance} cannot join the group because the instance id \
                         is owned by {} member.",
                        holder.id
                    );
                    return Err(GroupError::new(ErrorCode::UnreleasedInstanceId, message));
                }
                Ok((holder.reborn(id), Some(holder.id.clone())))
            }
            Some(holder) if holder.id == *id => Err(fenced(holder, request.member_epoch)),
            Some(holder) => Err(fenced_instance(id, instance, &holder.id)),
        }
    }
}

impl Operation<'_> {
    /// Puts `member` in the place of the static member `previous`, with its target and its partitions.
    pub(super) fn replace(&mut self, previous: &Arc<str>, member: &Member) {
        let target = self.group.target(previous);
        if *previous != member.id {
            self.remove(previous);
            self.write(member.metadata_record());
            self.write(ConsumerPart::TargetMember {
                member_id: member.id.clone(),
                value: Some(super::group::to_topics(&target)),
            });
        }
        self.write(member.assignment_record());
    }
}

impl Member {
    /// The same static member under another id, at the beginning of its way.
    pub(super) fn reborn(&self, id: &Arc<str>) -> Member {
        Member {
            id: id.clone(),
            epoch: JOIN_EPOCH,
            previous_epoch: JOIN_EPOCH,
            ..self.clone()
        }
    }
}

fn updated(old: &Member, request: &HeartbeatRequest, client: Client<'_>) -> Member {
    let mut member = old.clone();
    let update = |field: &mut Option<Arc<str>>, value: &Option<Arc<str>>| {
        if value.is_some() {
            field.clone_from(value);
        }
    };
    update(&mut member.instance_id, &request.instance_id);
    update(&mut member.rack_id, &request.rack_id);
    update(&mut member.assignor, &request.assignor);
    if request.rebalance_timeout_ms != -1 {
        member.rebalance_timeout_ms = request.rebalance_timeout_ms;
    }
    if let Some(topics) = &request.topics {
        member.topics.clone_from(topics);
    }
    if let Some(regex) = &request.regex {
        member.regex = Some(regex.clone()).filter(|regex| !regex.is_empty());
    }
    if *member.client_id != *client.id {
        member.client_id = client.id.into();
    }
    if *member.client_host != *client.host {
        member.client_host = client.host.into();
    }
    member.classic = None;
    member
}

/// # Errors
/// FENCED_MEMBER_EPOCH unless the epoch is the member's own, or the one before and all it owns was given to it.
fn check_epoch(member: &Member, request: &HeartbeatRequest) -> Result<(), GroupError> {
    let received = request.member_epoch;
    if received == JOIN_EPOCH || received == member.epoch {
        return Ok(());
    }
    let may_have_missed_the_answer = received < member.epoch
        && received == member.previous_epoch
        && request.owned.as_ref().is_none_or(|owned| is_subset(owned, member));
    if may_have_missed_the_answer {
        return Ok(());
    }
    Err(fenced(member, received))
}

fn is_subset(owned: &Partitions, member: &Member) -> bool {
    owned.iter().all(|(topic, partitions)| {
        let assigned = member.assigned.get(topic);
        assigned.is_some_and(|assigned| partitions.iter().all(|partition| assigned.contains_key(partition)))
    })
}

fn fenced(member: &Member, received: i32) -> GroupError {
    let relation = if received > member.epoch { "greater" } else { "smaller" };
    let message = format!(
        "The consumer group member has a {relation} member epoch ({received}) than the one known by the group \
         coordinator ({}). The member must abandon all its partitions and rejoin.",
        member.epoch
    );
    GroupError::new(ErrorCode::FencedMemberEpoch, message)
}

pub(super) fn unknown_member(id: &str) -> GroupError {
    GroupError::new(
        ErrorCode::UnknownMemberId,
        format!("Member {id} is not a member of the group."),
    )
}

pub(super) fn fenced_instance(id: &str, instance: &str, holder: &str) -> GroupError {
    let message = format!("Static member {id} with instance id {instance} was fenced by member {holder}.");
    GroupError::new(ErrorCode::FencedInstanceId, message)
}
