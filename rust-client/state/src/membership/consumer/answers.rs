//! What the coordinator's answers, or their absence, mean to a member by the `consumer` protocol.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_protocol::ErrorCode;

use super::{ConsumerMembership, HEARTBEAT, JOIN_EPOCH, Numbered, Sent, State};
use crate::Time;
use crate::membership::clock::Arrival;
use crate::membership::message::{ConsumerGroupHeartbeatAnswer, GroupResponse, RequestKind};
use crate::membership::{Action, Generation, GroupError, LostReason, RebalanceReason, RequestFailure};

impl ConsumerMembership {
    /// See [`Membership::handle_response`](crate::membership::Membership::handle_response).
    pub fn handle_response(&mut self, response: GroupResponse, now: Time) {
        let GroupResponse::ConsumerGroupHeartbeat(answer) = response else {
            return;
        };
        let arrival = self.under_way.arrived(HEARTBEAT);
        match (arrival, self.sent.take()) {
            (Arrival::Unasked, _) | (_, None) => {}
            (_, Some(Sent::Leave)) => self.end_leaving(now),
            (Arrival::Stale, Some(Sent::Alive(_))) => {}
            (Arrival::Awaited, Some(Sent::Alive(said))) => {
                if ErrorCode::from_code(answer.error_code) == Some(ErrorCode::None) && answer.member_epoch > JOIN_EPOCH
                {
                    self.pattern_said = said.is_pattern();
                    // A heartbeat of a dead connection that is carried out late may have turned the subscription back to what
                    // it was. That raises the group's epoch, and the member's with it, so when it has moved the subscription
                    // is said once more, unless this very heartbeat has said it.
                    let moved = self.epoch != answer.member_epoch;
                    if moved && self.strays && self.subscription.is_some() && !said.subscribes(self.said.as_ref()) {
                        self.repeats += 1;
                    }
                    self.said = Some(said);
                    self.heard(answer, now);
                } else {
                    self.said = None;
                    self.handle_error(&answer, now);
                }
            }
        }
        self.handle_timeout(now);
    }

    /// See [`Membership::handle_failure`](crate::membership::Membership::handle_failure).
    pub fn handle_failure(&mut self, request: RequestKind, failure: &RequestFailure, now: Time) {
        if request != HEARTBEAT {
            return;
        }
        let arrival = self.under_way.arrived(HEARTBEAT);
        let was_sent = matches!(failure, RequestFailure::Disconnected | RequestFailure::TimedOut);
        self.strays |= was_sent && arrival != Arrival::Unasked;
        match (arrival, self.sent.take()) {
            (Arrival::Unasked, _) | (_, None) => {}
            // It is said once: the session ends all the same.
            (_, Some(Sent::Leave)) => self.end_leaving(now),
            (Arrival::Stale, Some(Sent::Alive(said))) => self.stray_pattern |= said.is_pattern(),
            (Arrival::Awaited, Some(Sent::Alive(said))) => {
                self.stray_pattern |= said.is_pattern();
                self.said = None;
                self.missed(failure, now);
            }
        }
        self.handle_timeout(now);
    }

    /// See [`Membership::handle_fenced_commit`](crate::membership::Membership::handle_fenced_commit). The next heartbeat is
    /// sent at once, and its answer says how things stand.
    pub fn handle_fenced_commit(&mut self, code: i16, stamp: &Generation, now: Time) {
        let tells = matches!(
            ErrorCode::from_code(code),
            Some(
                ErrorCode::StaleMemberEpoch
                    | ErrorCode::FencedMemberEpoch
                    | ErrorCode::UnknownMemberId
                    | ErrorCode::IllegalGeneration
            )
        );
        if tells && self.generation().as_ref() == Some(stamp) {
            self.next_at = now;
        }
    }

    fn missed(&mut self, failure: &RequestFailure, now: Time) {
        let request = HEARTBEAT;
        let code = match failure {
            RequestFailure::NoCoordinator(code) => *code,
            _ => None,
        };
        match (failure, code.and_then(ErrorCode::from_code)) {
            (RequestFailure::UnsupportedVersion, _) => self.fail(GroupError::Unsupported { request }, now),
            (RequestFailure::Refused(reason), _) => {
                let reason = reason.clone();
                self.fail(GroupError::Unsendable { request, reason }, now);
            }
            (_, Some(refusal)) if !refusal.retriable() => self.fail(refused(refusal.code(), None), now),
            _ => {
                self.actions.push_back(Action::FindCoordinator);
                self.attempts.failed(request, code, now);
            }
        }
    }

    fn heard(&mut self, answer: ConsumerGroupHeartbeatAnswer, now: Time) {
        if let Some(member_id) = answer.member_id.filter(|id| !id.is_empty()) {
            self.member_id = member_id;
        }
        self.attempts.succeeded();
        self.awaits_word = false;
        self.last_contact = Some(now);
        self.epoch = answer.member_epoch;
        // The coordinator sets the pace. Zero would be a pace that drowns it.
        if let Some(interval) = u64::try_from(answer.heartbeat_interval_ms).ok().filter(|ms| *ms > 0) {
            let sent_at = self.next_at.0.saturating_sub(self.interval_ms);
            self.interval_ms = interval;
            self.next_at = Time(sent_at).plus_ms(interval);
        }
        if matches!(self.state, State::Joining) {
            self.enter(State::Stable, now);
        }
        if let Some(assignment) = answer.assignment {
            let sound = |(id, numbers): (_, Vec<i32>)| {
                let numbers = numbers.into_iter().filter(|number| *number >= 0);
                numbers.map(move |number| (id, number)).collect::<Vec<Numbered>>()
            };
            let target: BTreeSet<Numbered> = assignment.into_iter().flat_map(sound).collect();
            if self.target.as_ref() != Some(&target) {
                self.unannounced = true;
                if self.target.is_some() {
                    let reason = RebalanceReason::NewAssignment;
                    self.actions.push_back(Action::Rebalance { reason });
                }
                self.target = Some(target);
                self.unreported = true;
                self.ask_again_at = None;
            }
        }
        self.reconcile(now);
    }

    fn handle_error(&mut self, answer: &ConsumerGroupHeartbeatAnswer, now: Time) {
        let code = answer.error_code;
        match ErrorCode::from_code(code) {
            Some(ErrorCode::FencedMemberEpoch | ErrorCode::UnknownMemberId | ErrorCode::StaleMemberEpoch) => {
                self.fenced(code, now);
            }
            // The coordinator has lost the group; joining makes it anew.
            Some(ErrorCode::GroupIdNotFound) if self.epoch > JOIN_EPOCH => self.fenced(code, now),
            Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) => {
                self.actions.push_back(Action::FindCoordinator);
                self.attempts.failed(HEARTBEAT, Some(code), now);
            }
            Some(ErrorCode::FencedInstanceId) => {
                let instance_id: Arc<str> = self.config.group_instance_id.clone().unwrap_or_else(|| "".into());
                self.fail(GroupError::FencedInstanceId { instance_id }, now);
            }
            Some(ErrorCode::UnsupportedVersion) => self.fail(GroupError::Unsupported { request: HEARTBEAT }, now),
            // No error, and yet no epoch of a member: nothing to go by.
            Some(ErrorCode::None) => self.attempts.failed(HEARTBEAT, Some(code), now),
            Some(refusal) if refusal.retriable() => self.attempts.failed(HEARTBEAT, Some(code), now),
            _ => self.fail(refused(code, answer.error_message.clone()), now),
        }
    }

    /// The coordinator has given the member up. It joins at once the first time, then with waits.
    fn fenced(&mut self, code: i16, now: Time) {
        self.attempts.answered();
        self.attempts.repeated(now);
        self.lose_and_rejoin(LostReason::Fenced { code }, now);
    }
}

fn refused(code: i16, message: Option<Arc<str>>) -> GroupError {
    GroupError::Refused {
        request: HEARTBEAT,
        code,
        message,
    }
}
