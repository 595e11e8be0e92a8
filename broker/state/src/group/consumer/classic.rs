//! Members of the classic protocol in a consumer group, while it is on its way from one protocol to the other.
//!
//! To such a member the group looks like a classic one in which somebody else is always the leader: JoinGroup takes it
//! one step towards its target, SyncGroup tells it what it has, and a heartbeat tells it to join again when there is
//! something new. Its generation is its member epoch. No answer waits for others.

use super::GroupError;
use super::alarms::AlarmKind;
use super::embedded::{self, Subscription};
use super::group::{ConsumerGroup, milliseconds, session_timeout};
use super::heartbeat::unknown_member;
use super::member::{Member, MemberState};
use super::subscribe::{Context, Operation};
use crate::group::record::{ClassicMemberMetadata, ConsumerPart};
use crate::group::{CONSUMER_PROTOCOL_TYPE, Client, JoinReply, LeftMember, SyncReply};
use bytes::Bytes;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::{HeartbeatRequest, JoinGroupRequest, SyncGroupRequest};
use std::collections::BTreeSet;
use std::sync::Arc;

/// From this version on a dynamic member must come back with the id that it was given (KIP-394).
const FIRST_VERSION_WITH_KNOWN_ID: i16 = 4;
/// What the protocols of one member may say together.
const METADATA_BYTES_MAX: usize = 1 << 20;

impl ConsumerGroup {
    /// JoinGroup of a classic member. `new_id` is the id of a member that has none yet.
    ///
    /// # Errors
    /// What the member is to be told. The group is then as it was.
    pub(crate) fn join_classic(
        &mut self,
        request: &JoinGroupRequest<'_>,
        version: i16,
        client: Client<'_>,
        new_id: Arc<str>,
        context: Context<'_>,
    ) -> Result<(Vec<ConsumerPart>, JoinReply), (ErrorCode, Arc<str>)> {
        let has_no_id = request.member_id.is_empty();
        let id: Arc<str> = if has_no_id { new_id } else { request.member_id.into() };
        let refuse = |code| (code, Arc::from(request.member_id));
        self.check_room(&id, context).map_err(|error| refuse(error.code))?;
        let protocols = protocols_of(request);
        if !self.supports(request.protocol_type, &protocols) {
            return Err(refuse(ErrorCode::InconsistentGroupProtocol));
        }
        if protocols
            .iter()
            .map(|(name, bytes)| name.len() + bytes.len())
            .sum::<usize>()
            > METADATA_BYTES_MAX
        {
            return Err(refuse(ErrorCode::InvalidRequest));
        }
        if has_no_id && request.group_instance_id.is_none() && version >= FIRST_VERSION_WITH_KNOWN_ID {
            return Err((ErrorCode::MemberIdRequired, id));
        }
        let first = protocols.first().map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        let subscription = embedded::read_subscription(&first, context.topics);
        let subscription = subscription.map_err(|_| refuse(ErrorCode::InvalidRequest))?;
        // Somebody that the group has given up, and that does not know it. Apache Kafka takes it in as a new member; until its
        // SyncGroup is answered it would still consume what may be somebody else's by now. As in a classic group it is told at
        // once. Who forgets its generation and still names what it owned is let in, or it would never find its way back.
        let is_unknown = request.group_instance_id.is_none() && !self.members.contains_key(&id);
        if !has_no_id && is_unknown && subscription.claims {
            return Err(refuse(ErrorCode::UnknownMemberId));
        }
        let (old, replaces) = self
            .classic_member_of(request.group_instance_id, &id, has_no_id)
            .map_err(|error| refuse(error.code))?;
        let updated = updated(&old, request, version, client, protocols, &subscription);

        let mut operation = Operation::new(self, context);
        if let Some(previous) = replaces {
            operation.replace(&previous, &old);
        }
        operation.step(&old, &updated, Some(&subscription.owned), false);
        let records = operation.records;

        let now = context.moment.now;
        let session = session_timeout(&updated, context.config);
        self.forget_reported(&id);
        self.alarms.cancel(&id, AlarmKind::Join);
        self.alarms.cancel(&id, AlarmKind::Revocation { epoch: 0 });
        self.alarms.set(&id, AlarmKind::Session, now + session);
        self.alarms
            .set(&id, AlarmKind::Sync, now + milliseconds(updated.rebalance_timeout_ms));
        let reply = JoinReply {
            error: ErrorCode::None,
            generation: self.members.get(&id).map_or(-1, |member| member.epoch),
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol: protocol_name(&updated).cloned(),
            leader: "".into(),
            skip_assignment: false,
            member_id: id,
            members: Vec::new(),
        };
        Ok((records, reply))
    }

    /// SyncGroup of a classic member.
    pub(crate) fn sync_classic(&mut self, request: &SyncGroupRequest<'_>, context: Context<'_>) -> SyncReply {
        match self.check_sync(request) {
            Ok(member) => self.synced(&member, context),
            Err(code) => {
                if code == ErrorCode::RebalanceInProgress {
                    self.await_join(request.member_id, context);
                }
                SyncReply::error(code)
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest<'_>) -> Result<Member, ErrorCode> {
        let member = self.classic_member(request.member_id, request.group_instance_id)?;
        if member.epoch != request.generation_id {
            return Err(ErrorCode::IllegalGeneration);
        }
        let other = |said: Option<&str>, own: &str| said.is_some_and(|said| said != own);
        if other(request.protocol_type, CONSUMER_PROTOCOL_TYPE)
            || protocol_name(member).is_some_and(|name| other(request.protocol_name, name))
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        // One that has to give partitions up has joined already: it is to be told which it keeps.
        if self.epoch > member.epoch && member.state != MemberState::UnrevokedPartitions {
            return Err(ErrorCode::RebalanceInProgress);
        }
        Ok(member.clone())
    }

    fn synced(&mut self, member: &Member, context: Context<'_>) -> SyncReply {
        let subscription = member.classic.iter().flat_map(|classic| &classic.protocols).next();
        let subscription = subscription.map(|(_, bytes)| bytes.clone()).unwrap_or_default();
        let Ok(assignment) = embedded::write_assignment(&member.assigned, &subscription, context.topics) else {
            return SyncReply::error(ErrorCode::UnknownServerError);
        };
        self.alarms.cancel(&member.id, AlarmKind::Sync);
        let at = context.moment.now + session_timeout(member, context.config);
        self.alarms.set(&member.id, AlarmKind::Session, at);
        SyncReply {
            error: ErrorCode::None,
            protocol_type: Some(CONSUMER_PROTOCOL_TYPE.into()),
            protocol: protocol_name(member).cloned(),
            assignment,
        }
    }

    /// Heartbeat of a classic member.
    pub(crate) fn heartbeat_classic(&mut self, request: &HeartbeatRequest<'_>, context: Context<'_>) -> ErrorCode {
        let member = match self.classic_member(request.member_id, request.group_instance_id) {
            Ok(member) => member,
            Err(code) => return code,
        };
        if member.epoch != request.generation_id {
            return ErrorCode::IllegalGeneration;
        }
        let at = context.moment.now + session_timeout(member, context.config);
        let has_news = member.epoch < self.epoch
            || member.state == MemberState::UnrevokedPartitions
            || (member.state == MemberState::UnreleasedPartitions && !self.waits_for_others(member));
        let id = member.id.clone();
        self.alarms.set(&id, AlarmKind::Session, at);
        if has_news {
            self.await_join(&id, context);
            return ErrorCode::RebalanceInProgress;
        }
        ErrorCode::None
    }

    /// LeaveGroup: whom to take out, and what each is told.
    pub(crate) fn leave_classic(&self, members: &[MemberIdentity<'_>]) -> (BTreeSet<Arc<str>>, Vec<LeftMember>) {
        let mut gone = BTreeSet::new();
        let told = members
            .iter()
            .map(|identity| {
                let found = self.leaving(identity);
                let error = found.as_ref().err().copied().unwrap_or(ErrorCode::None);
                gone.extend(found.ok());
                LeftMember {
                    member_id: identity.member_id.into(),
                    instance_id: identity.group_instance_id.map(Arc::from),
                    error,
                }
            })
            .collect();
        (gone, told)
    }

    /// An administrator names a static member by its instance alone, and may remove any; a member may leave by itself if
    /// it speaks this protocol.
    fn leaving(&self, identity: &MemberIdentity<'_>) -> Result<Arc<str>, ErrorCode> {
        if identity.member_id.is_empty() {
            let instance = identity.group_instance_id.unwrap_or_default();
            let member = self.static_member(instance).ok_or(ErrorCode::UnknownMemberId)?;
            return Ok(member.id.clone());
        }
        Ok(self
            .classic_member(identity.member_id, identity.group_instance_id)?
            .id
            .clone())
    }

    fn classic_member(&self, id: &str, instance: Option<&str>) -> Result<&Member, ErrorCode> {
        let member = match instance {
            None => self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?,
            Some(instance) => {
                let holder = self.static_member(instance).ok_or(ErrorCode::UnknownMemberId)?;
                if *holder.id != *id {
                    return Err(ErrorCode::FencedInstanceId);
                }
                holder
            }
        };
        if member.classic.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        Ok(member)
    }

    /// The member that joins, as it is now, and the static member that it takes the place of.
    fn classic_member_of(
        &self,
        instance: Option<&str>,
        id: &Arc<str>,
        has_no_id: bool,
    ) -> Result<(Member, Option<Arc<str>>), GroupError> {
        let known = || self.members.get(id).cloned().unwrap_or(Member::new(id.clone()));
        let Some(instance) = instance else {
            return Ok((known(), None));
        };
        match self.static_member(instance) {
            None if has_no_id => Ok((known(), None)),
            None => Err(unknown_member(id)),
            Some(holder) if has_no_id => Ok((holder.reborn(id), Some(holder.id.clone()))),
            Some(holder) if holder.id == *id => Ok((holder.clone(), None)),
            Some(holder) => Err(super::heartbeat::fenced_instance(id, instance, &holder.id)),
        }
    }

    /// True if the classic members there are have a protocol in common with these.
    fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        let knows = |member: &Member, name: &str| {
            let classic = member.classic.as_ref();
            classic.is_none_or(|classic| classic.protocols.iter().any(|(known, _)| **known == *name))
        };
        protocol_type == CONSUMER_PROTOCOL_TYPE
            && protocols
                .iter()
                .any(|(name, _)| self.members.values().all(|member| knows(member, name)))
    }

    /// True if something of the member's target is still somebody else's.
    fn waits_for_others(&self, member: &Member) -> bool {
        let target = self.targets.get(&member.id);
        target.into_iter().flatten().any(|(topic, partitions)| {
            let assigned = member.assigned.get(topic);
            partitions.iter().any(|partition| {
                let has = assigned.is_some_and(|assigned| assigned.contains_key(partition));
                !has && self.owners.contains_key(&(*topic, *partition))
            })
        })
    }

    /// The member was told to join again, and has as long as a rebalance may take.
    fn await_join(&mut self, id: &str, context: Context<'_>) {
        if let Some(member) = self.members.get(id) {
            let at = context.moment.now + milliseconds(member.rebalance_timeout_ms);
            self.alarms.set_if_absent(&member.id, AlarmKind::Join, at);
        }
    }
}

/// The protocols of a request; of two with the same name the first.
fn protocols_of(request: &JoinGroupRequest<'_>) -> Vec<(Arc<str>, Bytes)> {
    let mut protocols: Vec<(Arc<str>, Bytes)> = Vec::with_capacity(request.protocols.len());
    for protocol in &request.protocols {
        if !protocols.iter().any(|(name, _)| **name == *protocol.name) {
            protocols.push((protocol.name.into(), Bytes::copy_from_slice(protocol.metadata)));
        }
    }
    protocols
}

/// What the member's protocol is called in answers: the one it likes best.
fn protocol_name(member: &Member) -> Option<&Arc<str>> {
    member.classic.as_ref()?.protocols.first().map(|(name, _)| name)
}

fn updated(
    old: &Member,
    request: &JoinGroupRequest<'_>,
    version: i16,
    client: Client<'_>,
    protocols: Vec<(Arc<str>, Bytes)>,
    subscription: &Subscription,
) -> Member {
    let rebalance_timeout_ms = if version == 0 {
        request.session_timeout_ms
    } else {
        request.rebalance_timeout_ms.max(0)
    };
    Member {
        instance_id: request.group_instance_id.map(Arc::from).or(old.instance_id.clone()),
        rack_id: subscription.rack_id.clone().or(old.rack_id.clone()),
        rebalance_timeout_ms,
        client_id: client.id.into(),
        client_host: client.host.into(),
        topics: subscription.topics.iter().cloned().collect(),
        regex: None,
        classic: Some(ClassicMemberMetadata {
            session_timeout_ms: request.session_timeout_ms,
            protocols,
        }),
        ..old.clone()
    }
}
