//! What the coordinator's answers, or their absence, mean to a classic member.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::ErrorCode;

use super::{ClassicMembership, NO_GENERATION, State, Then};
use crate::Time;
use crate::assignor::codec;
use crate::membership::clock::Arrival;
use crate::membership::message::{GroupResponse, JoinGroupAnswer, RequestKind, SyncGroupAnswer};
use crate::membership::{Action, Generation, GroupError, LostReason, RebalanceReason, RequestFailure};

impl ClassicMembership {
    /// See [`Membership::handle_response`](crate::membership::Membership::handle_response).
    pub fn handle_response(&mut self, response: GroupResponse, now: Time) {
        let kind = response.kind();
        match (self.under_way.arrived(kind), response) {
            (Arrival::Unasked, _) | (_, GroupResponse::ConsumerGroupHeartbeat(_)) => {}
            (Arrival::Stale, GroupResponse::JoinGroup(answer)) => self.joined_too_late(answer),
            (Arrival::Stale, _) => {}
            (Arrival::Awaited, GroupResponse::JoinGroup(answer)) => self.handle_join(answer, now),
            (Arrival::Awaited, GroupResponse::SyncGroup(answer)) => self.handle_sync(&answer, now),
            (Arrival::Awaited, GroupResponse::Heartbeat(code)) => self.handle_heartbeat(code, now),
            // Whatever it says, the member is out, or will be when its session ends.
            (Arrival::Awaited, GroupResponse::LeaveGroup(_)) => self.end_leaving(now),
        }
        self.handle_timeout(now);
    }

    /// See [`Membership::handle_failure`](crate::membership::Membership::handle_failure).
    pub fn handle_failure(&mut self, request: RequestKind, failure: &RequestFailure, now: Time) {
        let arrival = self.under_way.arrived(request);
        if arrival == Arrival::Unasked {
            return;
        }
        let code = match failure {
            RequestFailure::NoCoordinator(code) => *code,
            _ => None,
        };
        let for_good = match (failure, code.and_then(ErrorCode::from_code)) {
            (RequestFailure::UnsupportedVersion, _) => Some(GroupError::Unsupported { request }),
            (RequestFailure::Refused(reason), _) => Some(GroupError::Unsendable {
                request,
                reason: reason.clone(),
            }),
            (_, Some(refusal)) if !refusal.retriable() => Some(refused(request, refusal.code())),
            _ => None,
        };
        match for_good {
            _ if request == RequestKind::LeaveGroup => self.end_leaving(now),
            _ if arrival == Arrival::Stale || !self.is_waiting_for(request) => {}
            Some(error) => self.fail(error, now),
            None => {
                if request == RequestKind::JoinGroup && *failure != RequestFailure::TimedOut {
                    self.coordinator_was_there(now);
                }
                self.missed(request, code, now);
            }
        }
        self.handle_timeout(now);
    }

    /// See [`Membership::handle_fenced_commit`](crate::membership::Membership::handle_fenced_commit).
    pub fn handle_fenced_commit(&mut self, code: i16, stamp: &Generation, now: Time) {
        if self.generation().as_ref() != Some(stamp) {
            return;
        }
        match ErrorCode::from_code(code) {
            // The answer may be older than the rebalance that is done by now. A heartbeat says how things stand.
            Some(ErrorCode::RebalanceInProgress) => self.heartbeats.next_at = now,
            // The coordinator is in the next generation already, and the answer to JoinGroup will say so.
            Some(ErrorCode::IllegalGeneration) if matches!(self.state, State::Joining) => {}
            Some(ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId) => self.fenced(code, now),
            Some(ErrorCode::FencedInstanceId) => self.instance_fenced(now),
            _ => {}
        }
    }

    /// Whether the state is still the one in which the request was sent.
    fn is_waiting_for(&self, request: RequestKind) -> bool {
        match request {
            RequestKind::JoinGroup => matches!(self.state, State::Joining),
            RequestKind::SyncGroup => matches!(self.state, State::Syncing { .. }),
            RequestKind::Heartbeat => self.sends_heartbeats() && self.heartbeats.sent_in == self.generation(),
            RequestKind::LeaveGroup | RequestKind::ConsumerGroupHeartbeat => false,
        }
    }

    /// The request got no answer, or one that says that the coordinator is elsewhere.
    fn missed(&mut self, request: RequestKind, code: Option<i16>, now: Time) {
        self.actions.push_back(Action::FindCoordinator);
        self.not_ready(request, code, now);
    }

    /// The coordinator cannot serve the request at the moment.
    fn not_ready(&mut self, request: RequestKind, code: Option<i16>, now: Time) {
        self.attempts.failed(request, code, now);
        let reason = RebalanceReason::Retry { request, code };
        match request {
            RequestKind::JoinGroup => self.enter_unjoined(reason, now),
            RequestKind::SyncGroup => self.begin_rejoin(reason, now),
            RequestKind::Heartbeat => self.heartbeats.next_at = self.attempts.not_before(),
            RequestKind::LeaveGroup | RequestKind::ConsumerGroupHeartbeat => {}
        }
    }

    /// Back to the start of the same rebalance.
    fn enter_unjoined(&mut self, reason: RebalanceReason, now: Time) {
        self.join_reason = reason;
        // The subscription may have changed while the answer was awaited.
        self.rejoin = None;
        self.prepare_join(now);
    }

    fn handle_join(&mut self, answer: JoinGroupAnswer, now: Time) {
        const REQUEST: RequestKind = RequestKind::JoinGroup;
        let code = answer.error_code;
        let reason = RebalanceReason::Retry {
            request: REQUEST,
            code: Some(code),
        };
        self.coordinator_was_there(now);
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => self.joined(answer, now),
            Some(ErrorCode::MemberIdRequired) => {
                self.attempts.answered();
                self.attempts.repeated(now);
                self.member_id = answer.member_id;
                self.enter_unjoined(reason, now);
            }
            Some(ErrorCode::UnknownMemberId) => {
                self.attempts.answered();
                self.attempts.repeated(now);
                self.member_id = "".into();
                // What a cooperative member still has belongs to the member that is gone.
                self.lose(LostReason::Fenced { code });
                self.enter_unjoined(reason, now);
            }
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                self.missed(REQUEST, Some(code), now);
            }
            Some(ErrorCode::RebalanceInProgress) => self.not_ready(REQUEST, Some(code), now),
            Some(ErrorCode::FencedInstanceId) => self.instance_fenced(now),
            Some(ErrorCode::UnsupportedVersion) => self.fail(GroupError::Unsupported { request: REQUEST }, now),
            Some(refusal) if refusal.retriable() => self.not_ready(REQUEST, Some(code), now),
            _ => self.fail(refused(REQUEST, code), now),
        }
    }

    fn joined(&mut self, answer: JoinGroupAnswer, now: Time) {
        let name = answer.protocol_name.clone().unwrap_or_else(|| "".into());
        let assignor = self
            .assignors
            .iter()
            .find(|assignor| *assignor.name() == *name)
            .cloned();
        self.member_id = answer.member_id.clone();
        if assignor.is_none() || answer.generation_id <= NO_GENERATION {
            self.fail(GroupError::UnknownAssignor { name }, now);
            return;
        }
        self.assignor = assignor;
        self.generation = answer.generation_id;
        self.attempts.answered();
        self.contacted(now);
        self.heartbeats.next_at = now.plus_ms(self.config.heartbeat_interval_ms);
        if answer.leader == answer.member_id {
            self.lead(answer, now);
        } else {
            self.leading = None;
            self.enter(
                State::Syncing {
                    unsent: Some(Vec::new()),
                },
                now,
            );
        }
    }

    /// The coordinator has let in a member that has been given up meanwhile, or that is on its way out.
    fn joined_too_late(&mut self, answer: JoinGroupAnswer) {
        if ErrorCode::from_code(answer.error_code) != Some(ErrorCode::None) {
            return;
        }
        let leaving = matches!(
            self.state,
            State::Revoking {
                then: Then::Leave { .. },
                ..
            }
        );
        let is_static = self.config.group_instance_id.is_some();
        if answer.member_id != self.member_id {
            // The group must not wait for it.
            if !is_static {
                self.leaves.push_back((answer.member_id, self.join_reason.clone()));
            }
        } else if leaving && self.generation != NO_GENERATION {
            // Its last heartbeats and commits belong to the generation that has begun.
            self.generation = self.generation.max(answer.generation_id);
        }
    }

    fn handle_sync(&mut self, answer: &SyncGroupAnswer, now: Time) {
        const REQUEST: RequestKind = RequestKind::SyncGroup;
        if !matches!(self.state, State::Syncing { .. }) {
            return;
        }
        let code = answer.error_code;
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => self.synced(answer, now),
            Some(ErrorCode::RebalanceInProgress) => {
                self.attempts.answered();
                self.attempts.repeated(now);
                self.begin_rejoin(RebalanceReason::GroupRebalancing, now);
            }
            Some(ErrorCode::UnknownMemberId | ErrorCode::IllegalGeneration) => {
                self.attempts.answered();
                self.attempts.repeated(now);
                self.fenced(code, now);
            }
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                self.missed(REQUEST, Some(code), now);
            }
            Some(ErrorCode::FencedInstanceId) => self.instance_fenced(now),
            Some(refusal) if refusal.retriable() => self.not_ready(REQUEST, Some(code), now),
            _ => self.fail(refused(REQUEST, code), now),
        }
    }

    fn synced(&mut self, answer: &SyncGroupAnswer, now: Time) {
        if let (Some(agreed), Some(assignor)) = (&answer.protocol_name, &self.assignor)
            && **agreed != *assignor.name()
        {
            let code = ErrorCode::InconsistentGroupProtocol.code();
            self.fail(refused(RequestKind::SyncGroup, code), now);
            return;
        }
        let assignment = match codec::decode_assignment(&answer.assignment) {
            Ok(assignment) => assignment,
            Err(error) => {
                let reason = error.to_string().into();
                self.fail(GroupError::MalformedAssignment { reason }, now);
                return;
            }
        };
        self.attempts.succeeded();
        self.contacted(now);
        self.division = None;
        if let Some(assignor) = &self.assignor {
            assignor.assigned(&assignment, self.generation);
        }
        // What is not subscribed to is not read, whoever assigned it. If the subscription has changed since the member
        // joined, a rebalance follows anyway.
        let all: BTreeSet<_> = assignment
            .partitions
            .into_iter()
            .filter(|partition| self.is_subscribed(&partition.topic))
            .collect();
        let moving: Vec<_> = self.owned.difference(&all).cloned().collect();
        if moving.is_empty() {
            self.take_over(all, now);
        } else {
            self.revoke(moving, self.join_reason.clone(), Then::TakeOver(all), now);
        }
    }

    fn handle_heartbeat(&mut self, code: i16, now: Time) {
        const REQUEST: RequestKind = RequestKind::Heartbeat;
        let sent_in = self.heartbeats.sent_in.take();
        // An answer about an earlier generation says nothing about this one.
        if !self.sends_heartbeats() || sent_in != self.generation() {
            return;
        }
        match ErrorCode::from_code(code) {
            Some(ErrorCode::None) => {
                self.attempts.succeeded();
                self.contacted(now);
            }
            Some(ErrorCode::RebalanceInProgress) => {
                // The coordinator knows the member and waits for it to join.
                self.attempts.succeeded();
                self.contacted(now);
                // Before it has its assignment, SyncGroup is told the same; to note it twice would be a rebalance too many.
                if !matches!(self.state, State::Syncing { .. }) {
                    self.want_rejoin(RebalanceReason::GroupRebalancing, now);
                }
            }
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                self.missed(REQUEST, Some(code), now);
            }
            Some(ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId) => self.fenced(code, now),
            Some(ErrorCode::FencedInstanceId) => self.instance_fenced(now),
            Some(refusal) if refusal.retriable() => self.not_ready(REQUEST, Some(code), now),
            _ => self.fail(refused(REQUEST, code), now),
        }
    }

    fn contacted(&mut self, now: Time) {
        self.heartbeats.last_contact = Some(now);
        self.heartbeats.grace = true;
    }

    /// While JoinGroup was on the wire the coordinator kept the member alive, for minutes perhaps. The session begins anew
    /// when it ends without success, but only once: the next attempts tell nothing.
    fn coordinator_was_there(&mut self, now: Time) {
        if std::mem::take(&mut self.heartbeats.grace) && self.heartbeats.last_contact.is_some() {
            self.heartbeats.last_contact = Some(now);
        }
    }

    /// The coordinator has replaced the generation, or forgotten the member.
    fn fenced(&mut self, code: i16, now: Time) {
        if ErrorCode::from_code(code) == Some(ErrorCode::UnknownMemberId) {
            self.member_id = "".into();
        }
        self.lose_and_rejoin(LostReason::Fenced { code }, now);
    }

    fn instance_fenced(&mut self, now: Time) {
        let instance_id: Arc<str> = self.config.group_instance_id.clone().unwrap_or_else(|| "".into());
        self.fail(GroupError::FencedInstanceId { instance_id }, now);
    }
}

fn refused(request: RequestKind, code: i16) -> GroupError {
    GroupError::Refused {
        request,
        code,
        message: None,
    }
}
