//! Syncing: who gets what, and who is still there.

use bytes::Bytes;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{HeartbeatRequest, SyncGroupRequest};
use std::collections::HashMap;
use std::sync::Arc;

use super::super::shard::Turn;
use super::super::{GroupReply, Outcome, SyncReply};
use super::{ClassicGroup, ClassicState, EMPTY_ASSIGNMENT, RECORD_BYTES_MAX, session_ms, sync_key};

impl ClassicGroup {
    /// A member asks for its assignment; the leader brings all of them.
    pub(in super::super) fn sync(&mut self, request: &SyncGroupRequest<'_>, turn: &mut Turn<'_>) -> Outcome<SyncReply> {
        if let Err(error) = self.check_sync(request) {
            return Outcome::Now(SyncReply::error(error));
        }
        let id: Arc<str> = request.member_id.into();
        match self.state {
            ClassicState::Empty => Outcome::Now(SyncReply::error(ErrorCode::UnknownMemberId)),
            ClassicState::PreparingRebalance => Outcome::Now(SyncReply::error(ErrorCode::RebalanceInProgress)),
            ClassicState::Stable => {
                self.has_synced(&id, turn);
                if let Some(member) = self.members.get(&id) {
                    turn.await_session(&self.id, &id, session_ms(member));
                }
                Outcome::Now(self.synced(&id))
            }
            ClassicState::CompletingRebalance => {
                let ticket = turn.ticket();
                let earlier = self
                    .members
                    .get_mut(&id)
                    .and_then(|member| member.awaiting_sync.replace(ticket));
                if let Some(earlier) = earlier {
                    let reply = SyncReply::error(ErrorCode::RebalanceInProgress);
                    turn.reply(earlier, GroupReply::Sync(reply));
                }
                self.has_synced(&id, turn);
                if self.is_leader(&id) {
                    self.distribute(request, turn);
                }
                Outcome::Parked(ticket)
            }
        }
    }

    fn check_sync(&self, request: &SyncGroupRequest<'_>) -> Result<(), ErrorCode> {
        self.check_member(request.member_id, request.group_instance_id)?;
        if request.generation_id != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        let differs = |said: Option<&str>, own: Option<&Arc<str>>| said.is_some() && said != own.map(|own| &**own);
        if differs(request.protocol_type, self.protocol_type.as_ref())
            || differs(request.protocol_name, self.protocol.as_ref())
        {
            return Err(ErrorCode::InconsistentGroupProtocol);
        }
        Ok(())
    }

    fn has_synced(&mut self, id: &str, turn: &mut Turn<'_>) {
        self.pending_sync.remove(id);
        if self.pending_sync.is_empty() {
            turn.timers.cancel(&sync_key(&self.id));
        }
    }

    /// The leader's assignment: everybody who waits is answered, and the generation is written.
    fn distribute(&mut self, request: &SyncGroupRequest<'_>, turn: &mut Turn<'_>) {
        let mut assignments: HashMap<&str, &[u8]> = HashMap::with_capacity(request.assignments.len());
        for given in &request.assignments {
            assignments.insert(given.member_id, given.assignment);
        }
        let nothing: &'static [u8] = if self.is_of_consumers() { EMPTY_ASSIGNMENT } else { &[] };
        let given = |id: &str| assignments.get(id).copied().filter(|bytes| !bytes.is_empty());
        let protocol = self.protocol.as_deref();
        let size = |member: &super::Member| {
            let strings = 3 * member.id.len() + member.client_id.len() + member.client_host.len();
            strings + member.metadata(protocol).len() + given(&member.id).map_or(0, <[u8]>::len) + 64
        };
        if self.members.values().map(size).sum::<usize>() > RECORD_BYTES_MAX {
            // What Kafka says of a group that its log does not take.
            self.settle_syncs(ErrorCode::UnknownServerError, turn);
            self.prepare_rebalance(turn);
            return;
        }
        for member in self.members.values_mut() {
            let before = member.weight();
            member.assignment = match given(&member.id) {
                Some(bytes) => Bytes::copy_from_slice(bytes),
                None => Bytes::from_static(nothing),
            };
            self.weight = (self.weight + member.weight()).saturating_sub(before);
        }
        self.enter(ClassicState::Stable, turn.moment);
        turn.records.push(self.record());
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            let reply = self.synced(&id);
            self.settle_sync(&id, reply, turn);
        }
    }

    fn synced(&self, id: &str) -> SyncReply {
        SyncReply {
            error: ErrorCode::None,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            assignment: self
                .members
                .get(id)
                .map(|member| member.assignment.clone())
                .unwrap_or_default(),
        }
    }

    /// Answers the request to sync that the member has waiting, and listens for it again.
    fn settle_sync(&mut self, id: &Arc<str>, reply: SyncReply, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        if let Some(ticket) = member.awaiting_sync.take() {
            turn.reply(ticket, GroupReply::Sync(reply));
            turn.await_session(&self.id, id, session_ms(member));
        }
    }

    /// There will be no assignment in this generation.
    pub(super) fn settle_syncs(&mut self, error: ErrorCode, turn: &mut Turn<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in ids {
            self.settle_sync(&id, SyncReply::error(error), turn);
        }
    }

    /// The alarm of the sync phase: whoever has not synced is gone.
    pub(super) fn sync_is_over(&mut self, turn: &mut Turn<'_>) {
        if !matches!(self.state, ClassicState::CompletingRebalance | ClassicState::Stable) {
            return;
        }
        let silent = std::mem::take(&mut self.pending_sync);
        if silent.is_empty() {
            return;
        }
        for id in &silent {
            self.remove(id, ErrorCode::UnknownMemberId, turn);
        }
        self.prepare_rebalance(turn);
    }

    /// A member says that it is alive.
    pub(in super::super) fn heartbeat(&mut self, request: &HeartbeatRequest<'_>, turn: &mut Turn<'_>) -> ErrorCode {
        let member = match self.check_member(request.member_id, request.group_instance_id) {
            Ok(member) => member,
            Err(error) => return error,
        };
        if request.generation_id != self.generation {
            return ErrorCode::IllegalGeneration;
        }
        turn.await_session(&self.id, &member.id, session_ms(member));
        if self.state == ClassicState::PreparingRebalance {
            ErrorCode::RebalanceInProgress
        } else {
            ErrorCode::None
        }
    }

    /// Whether this member may commit offsets. One that may was heard of.
    pub(in super::super) fn check_commit(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        turn: &mut Turn<'_>,
    ) -> Result<(), ErrorCode> {
        if generation < 0 && self.is_empty() {
            // Somebody who keeps offsets here without being a member.
            return Ok(());
        }
        if generation < 0 && member_id.is_empty() && instance_id.is_none() {
            return Err(ErrorCode::UnknownMemberId);
        }
        let member = self.check_member(member_id, instance_id)?;
        if generation != self.generation {
            return Err(ErrorCode::IllegalGeneration);
        }
        // Whoever has not heard what this generation gives it commits what it had in another one, which may be somebody else's.
        if self.state == ClassicState::CompletingRebalance || self.pending_sync.contains(member_id) {
            return Err(ErrorCode::RebalanceInProgress);
        }
        turn.await_session(&self.id, &member.id, session_ms(member));
        Ok(())
    }
}
