//! Joining: who is in the next generation.

use bytes::Bytes;
use ottla_protocol::messages::JoinGroupRequest;
use ottla_protocol::{ErrorCode, Uuid};
use std::sync::Arc;

use super::super::shard::Turn;
use super::super::{Client, GroupReply, JoinReply, Outcome, SyncReply};
use super::member::{self, Member};
use super::metadata;
use super::{
    ClassicGroup, ClassicState, METADATA_BYTES_MAX, NEW_MEMBER_JOIN_TIMEOUT_MS, PENDING_MEMBERS_MAX, join_key,
    session_key, session_ms, sync_key,
};

/// From this version on a dynamic member must come back with the id that it was given (KIP-394).
const FIRST_VERSION_WITH_KNOWN_ID: i16 = 4;
/// From this version on a leader can be told that it need not assign (KIP-814).
const FIRST_VERSION_WITH_SKIP: i16 = 9;

/// How many characters of a name go into the id of its member.
const ID_PREFIX_MAX: usize = 1_024;

/// A request to join, as far as it matters.
struct Joining<'a> {
    request: &'a JoinGroupRequest<'a>,
    version: i16,
    client: Client<'a>,
    protocols: Vec<(Arc<str>, Bytes)>,
}

impl Joining<'_> {
    fn rebalance_timeout_ms(&self) -> i32 {
        if self.version == 0 {
            self.request.session_timeout_ms
        } else {
            self.request.rebalance_timeout_ms.max(0)
        }
    }

    fn metadata_bytes(&self) -> usize {
        self.protocols
            .iter()
            .map(|(name, metadata)| name.len() + metadata.len())
            .sum()
    }

    /// A new id: the instance's or the client's, and what nobody else has.
    fn new_member_id(&self) -> Arc<str> {
        let name = self.request.group_instance_id.unwrap_or(self.client.id);
        // A name that is as long as a string may be would make an id that no record can hold.
        let name: String = name.chars().take(ID_PREFIX_MAX).collect();
        format!("{name}-{}", hyphenated(self.client.fresh_id)).into()
    }
}

/// The usual spelling of a UUID, which is what member ids end in.
fn hyphenated(id: Uuid) -> String {
    let bits = id.as_u128();
    let group = |shift: u32, mask: u128| (bits >> shift) & mask;
    format!(
        "{:08x}-{:04x}-{:04x}-{:04x}-{:012x}",
        group(96, 0xffff_ffff),
        group(80, 0xffff),
        group(64, 0xffff),
        group(48, 0xffff),
        group(0, 0xffff_ffff_ffff)
    )
}

impl ClassicGroup {
    /// A member joins, comes again, or is told why it may not.
    pub(in super::super) fn join(
        &mut self,
        request: &JoinGroupRequest<'_>,
        version: i16,
        client: Client<'_>,
        turn: &mut Turn<'_>,
    ) -> Outcome<JoinReply> {
        let joining = Joining {
            request,
            version,
            client,
            protocols: member::protocols(&request.protocols),
        };
        let id = request.member_id;
        if !self.has_room(id, turn) {
            self.remove(id, ErrorCode::GroupMaxSizeReached, turn);
            self.forget_pending(id, turn);
            refused(ErrorCode::GroupMaxSizeReached, "")
        } else if !self.supports(request.protocol_type, &joining.protocols) {
            refused(ErrorCode::InconsistentGroupProtocol, id)
        } else if joining.metadata_bytes() > METADATA_BYTES_MAX {
            refused(ErrorCode::InvalidRequest, id)
        } else if id.is_empty() {
            self.join_as_new(&joining, turn)
        } else {
            self.join_again(&joining, turn)
        }
    }

    /// Whether the group takes this member in (KIP-389).
    fn has_room(&self, id: &str, turn: &Turn<'_>) -> bool {
        let most = turn.config.max_size;
        match self.state {
            ClassicState::Empty => true,
            ClassicState::PreparingRebalance => {
                let waits = self
                    .members
                    .get(id)
                    .is_some_and(|member| member.awaiting_join.is_some());
                waits || self.awaiting_join < most
            }
            ClassicState::CompletingRebalance | ClassicState::Stable => {
                self.members.contains_key(id) || self.members.len() < most
            }
        }
    }

    pub(super) fn forget_pending(&mut self, id: &str, turn: &mut Turn<'_>) -> bool {
        let Some(id) = self.pending_join.take(id) else {
            return false;
        };
        turn.timers.cancel(&session_key(&self.id, &id));
        true
    }

    fn join_as_new(&mut self, joining: &Joining<'_>, turn: &mut Turn<'_>) -> Outcome<JoinReply> {
        let new_id = joining.new_member_id();
        let instance_id = joining.request.group_instance_id;
        if let Some(old_id) = instance_id.and_then(|id| self.static_members.get(id)).cloned() {
            return self.replace_static(joining, &old_id, new_id, turn);
        }
        if turn.moment.crowded {
            return refused(ErrorCode::CoordinatorNotAvailable, "");
        }
        if instance_id.is_some() || joining.version < FIRST_VERSION_WITH_KNOWN_ID {
            return self.add(joining, new_id, turn);
        }
        if self.pending_join.len() >= PENDING_MEMBERS_MAX {
            return refused(ErrorCode::CoordinatorNotAvailable, "");
        }
        self.pending_join.insert(Arc::clone(&new_id));
        let silent_ms = u64::try_from(joining.request.session_timeout_ms).unwrap_or(0);
        turn.await_session(&self.id, &new_id, silent_ms);
        Outcome::Now(JoinReply::error(ErrorCode::MemberIdRequired, new_id))
    }

    fn join_again(&mut self, joining: &Joining<'_>, turn: &mut Turn<'_>) -> Outcome<JoinReply> {
        let id = joining.request.member_id;
        if self.pending_join.contains(id) {
            if turn.moment.crowded {
                return refused(ErrorCode::CoordinatorNotAvailable, id);
            }
            if let Some(instance_id) = joining.request.group_instance_id
                && self.static_members.contains_key(instance_id)
            {
                return refused(ErrorCode::FencedInstanceId, id);
            }
            return self.add(joining, id.into(), turn);
        }
        let member = match self.check_member(id, joining.request.group_instance_id) {
            Ok(member) => member,
            Err(error) => return refused(error, id),
        };
        let (id, says_the_same, missed) = (Arc::clone(&member.id), member.says(&joining.protocols), member.missed);
        if missed && self.is_of_consumers() && joining.protocols.iter().any(|(_, said)| metadata::owns_any(said)) {
            // Somebody else may have what it still takes for its own: it has to let go of that before it is a member again.
            return refused(ErrorCode::UnknownMemberId, &id);
        }
        if let Some(member) = self.members.get_mut(&id) {
            member.missed = false;
        }
        let nothing_new = match self.state {
            ClassicState::PreparingRebalance => false,
            ClassicState::CompletingRebalance => says_the_same,
            // A leader that joins again wants to assign again.
            ClassicState::Stable => says_the_same && !self.is_leader(&id),
            ClassicState::Empty => return refused(ErrorCode::UnknownMemberId, &id),
        };
        if nothing_new {
            // It missed its answer: here it is again.
            let with_members = self.state == ClassicState::CompletingRebalance && self.is_leader(&id);
            return Outcome::Now(self.joined(&id, with_members));
        }
        self.update(joining, &id);
        let ticket = turn.ticket();
        self.await_join(&id, ticket, turn);
        self.rebalance_or_complete(turn);
        Outcome::Parked(ticket)
    }

    fn joined(&self, id: &Arc<str>, with_members: bool) -> JoinReply {
        JoinReply {
            error: ErrorCode::None,
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone().unwrap_or_else(|| "".into()),
            skip_assignment: false,
            member_id: Arc::clone(id),
            members: if with_members {
                self.joined_members()
            } else {
                Vec::new()
            },
        }
    }

    fn add(&mut self, joining: &Joining<'_>, id: Arc<str>, turn: &mut Turn<'_>) -> Outcome<JoinReply> {
        if self.members.is_empty() {
            self.protocol_type = Some(joining.request.protocol_type.into());
        }
        if self.state == ClassicState::PreparingRebalance && self.is_initial {
            self.new_member_added = true;
        }
        let ticket = turn.ticket();
        turn.await_session(&self.id, &id, NEW_MEMBER_JOIN_TIMEOUT_MS);
        self.insert(Member {
            id,
            instance_id: joining.request.group_instance_id.map(Arc::from),
            client_id: joining.client.id.into(),
            client_host: joining.client.host.into(),
            rebalance_timeout_ms: joining.rebalance_timeout_ms(),
            session_timeout_ms: joining.request.session_timeout_ms,
            protocols: joining.protocols.clone(),
            assignment: Bytes::new(),
            awaiting_join: Some(ticket),
            awaiting_sync: None,
            is_new: true,
            missed: false,
        });
        self.rebalance_or_complete(turn);
        Outcome::Parked(ticket)
    }

    fn update(&mut self, joining: &Joining<'_>, id: &Arc<str>) {
        let Some(member) = self.members.get_mut(id) else { return };
        let before = member.weight();
        let earlier = std::mem::replace(&mut member.protocols, joining.protocols.clone());
        member.rebalance_timeout_ms = joining.rebalance_timeout_ms();
        member.session_timeout_ms = joining.request.session_timeout_ms;
        self.weight = (self.weight + member.weight()).saturating_sub(before);
        self.count_protocols(&earlier, false);
        self.count_protocols(&joining.protocols, true);
    }

    /// A static member comes back under a new id, which ends the old one (KIP-345).
    fn replace_static(
        &mut self,
        joining: &Joining<'_>,
        old_id: &Arc<str>,
        new_id: Arc<str>,
        turn: &mut Turn<'_>,
    ) -> Outcome<JoinReply> {
        let (was_leader, old_leader) = (self.is_leader(old_id), self.leader.clone());
        let was_pending_sync = self.pending_sync.contains(old_id);
        let Some(old) = self.take(old_id) else {
            return refused(ErrorCode::UnknownMemberId, "");
        };
        turn.timers.cancel(&session_key(&self.id, old_id));
        if let Some(ticket) = old.awaiting_join {
            let reply = JoinReply::error(ErrorCode::FencedInstanceId, Arc::clone(old_id));
            turn.reply(ticket, GroupReply::Join(reply));
        }
        if let Some(ticket) = old.awaiting_sync {
            turn.reply(ticket, GroupReply::Sync(SyncReply::error(ErrorCode::FencedInstanceId)));
        }
        let protocol = self.protocol.as_deref();
        let said = joining.protocols.iter().find(|(name, _)| Some(&**name) == protocol);
        let unnoticed = !self.is_of_consumers()
            || said.is_some_and(|(_, said)| metadata::changes_nothing(&old.metadata(protocol), said, &old.assignment));
        let ticket = turn.ticket();
        self.insert(Member {
            id: Arc::clone(&new_id),
            client_id: joining.client.id.into(),
            client_host: joining.client.host.into(),
            rebalance_timeout_ms: joining.rebalance_timeout_ms(),
            session_timeout_ms: joining.request.session_timeout_ms,
            protocols: joining.protocols.clone(),
            awaiting_join: Some(ticket),
            awaiting_sync: None,
            missed: false,
            ..old
        });
        if was_leader {
            self.leader = Some(Arc::clone(&new_id));
        }
        if was_pending_sync {
            self.pending_sync.insert(Arc::clone(&new_id));
        }
        if let Some(member) = self.members.get(&new_id) {
            turn.await_session(&self.id, &new_id, session_ms(member));
        }
        match self.state {
            ClassicState::Stable if unnoticed && self.select_protocol() == self.protocol => {
                self.answer_replaced(joining.version, &new_id, old_leader, turn);
            }
            ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare_rebalance(turn),
            ClassicState::PreparingRebalance | ClassicState::Empty => self.complete_join_if_all_joined(turn),
        }
        Outcome::Parked(ticket)
    }

    /// Nothing changes for the others: the member keeps its partitions without a rebalance.
    fn answer_replaced(&mut self, version: i16, id: &Arc<str>, old_leader: Option<Arc<str>>, turn: &mut Turn<'_>) {
        self.subscribed_topics = self.compute_subscribed_topics();
        turn.records.push(self.record());
        let reply = if version >= FIRST_VERSION_WITH_SKIP {
            let leads = self.is_leader(id);
            JoinReply {
                skip_assignment: leads,
                ..self.joined(id, leads)
            }
        } else {
            // It cannot be told to skip, so it is told of the leader's old id and does not take itself for one.
            JoinReply {
                leader: old_leader.unwrap_or_else(|| "".into()),
                ..self.joined(id, false)
            }
        };
        self.settle_join(id, reply, turn);
        self.pending_sync.insert(Arc::clone(id));
        if let Some(member) = self.members.get_mut(id) {
            member.is_new = false;
        }
    }

    /// The membership has changed.
    fn rebalance_or_complete(&mut self, turn: &mut Turn<'_>) {
        if self.state == ClassicState::PreparingRebalance {
            self.complete_join_if_all_joined(turn);
        } else {
            self.prepare_rebalance(turn);
        }
    }

    /// Asks all members to join again.
    pub(in super::super) fn prepare_rebalance(&mut self, turn: &mut Turn<'_>) {
        if self.state == ClassicState::CompletingRebalance {
            self.settle_syncs(ErrorCode::RebalanceInProgress, turn);
        }
        self.pending_sync.clear();
        turn.timers.cancel(&sync_key(&self.id));
        self.is_initial = self.state == ClassicState::Empty;
        self.enter(ClassicState::PreparingRebalance, turn.moment);
        if self.is_initial {
            let delay_ms = u64::try_from(turn.config.initial_rebalance_delay_ms).unwrap_or(0);
            self.new_member_added = false;
            self.initial_remaining_ms = self.rebalance_timeout_ms().saturating_sub(delay_ms);
            if delay_ms == 0 {
                self.join_is_over(turn);
            } else {
                turn.timers.set(join_key(&self.id), turn.moment.now + delay_ms);
            }
        } else if self.all_have_joined() {
            self.complete_join(turn);
        } else {
            let at = turn.moment.now + self.rebalance_timeout_ms();
            turn.timers.set(join_key(&self.id), at);
        }
    }

    fn all_have_joined(&self) -> bool {
        self.members.len() == self.awaiting_join && self.pending_join.is_empty()
    }

    /// An initial rebalance waits for its delay in any case.
    pub(super) fn complete_join_if_all_joined(&mut self, turn: &mut Turn<'_>) {
        let waits = self.is_initial && !self.members.is_empty();
        if self.state == ClassicState::PreparingRebalance && !waits && self.all_have_joined() {
            self.complete_join(turn);
        }
    }

    /// The alarm of the join phase.
    pub(super) fn join_is_over(&mut self, turn: &mut Turn<'_>) {
        if self.state != ClassicState::PreparingRebalance {
            return;
        }
        let delay_ms = u64::try_from(turn.config.initial_rebalance_delay_ms).unwrap_or(0);
        if self.is_initial && self.new_member_added && self.initial_remaining_ms > 0 && delay_ms > 0 {
            self.new_member_added = false;
            let wait_ms = delay_ms.min(self.initial_remaining_ms);
            self.initial_remaining_ms -= wait_ms;
            turn.timers.set(join_key(&self.id), turn.moment.now + wait_ms);
            return;
        }
        self.complete_join(turn);
    }

    /// Whoever has joined makes up the next generation.
    fn complete_join(&mut self, turn: &mut Turn<'_>) {
        turn.timers.cancel(&join_key(&self.id));
        let late: Vec<Arc<str>> = self
            .members
            .values()
            .filter(|member| member.awaiting_join.is_none() && member.instance_id.is_none())
            .map(|member| Arc::clone(&member.id))
            .collect();
        for id in &late {
            self.remove(id, ErrorCode::UnknownMemberId, turn);
        }
        if !self.elect_leader() {
            // Only static members, none of whom has come back: they keep their place until their sessions end.
            let at = turn.moment.now + self.rebalance_timeout_ms().max(1);
            turn.timers.set(join_key(&self.id), at);
            return;
        }
        self.is_initial = false;
        let step = 1 + std::mem::take(&mut self.unknown_generations);
        self.generation = self.generation.checked_add(step).unwrap_or(1);
        self.pending_sync.clear();
        if self.members.is_empty() {
            self.protocol = None;
            self.subscribed_topics = self.compute_subscribed_topics();
            self.enter(ClassicState::Empty, turn.moment);
            turn.records.push(self.record());
            return;
        }
        self.protocol = self.select_protocol();
        self.subscribed_topics = self.compute_subscribed_topics();
        self.enter(ClassicState::CompletingRebalance, turn.moment);
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.joined(&id, self.is_leader(&id));
            let waited = self.settle_join(&id, reply, turn);
            if let Some(member) = self.members.get_mut(&id) {
                member.is_new = false;
                member.missed = !waited;
                turn.await_session(&self.id, &id, session_ms(member));
            }
            self.pending_sync.insert(id);
        }
        turn.timers
            .set(sync_key(&self.id), turn.moment.now + self.rebalance_timeout_ms());
    }

    /// A leader that waits for its answer. False if there are members and none of them waits.
    fn elect_leader(&mut self) -> bool {
        let waits = |member: &&Member| member.awaiting_join.is_some();
        let current = self.leader.as_ref().and_then(|leader| self.members.get(leader));
        if self.members.is_empty() {
            self.leader = None;
            return true;
        }
        if current.as_ref().is_some_and(waits) {
            return true;
        }
        match self.members.values().find(waits).map(|member| Arc::clone(&member.id)) {
            Some(id) => {
                self.leader = Some(id);
                true
            }
            None => false,
        }
    }
}

fn refused(error: ErrorCode, id: &str) -> Outcome<JoinReply> {
    Outcome::Now(JoinReply::error(error, id))
}
