//! Drives a membership as the client's coordinator task does: executes what it decides, feeds what comes of it.
//!
//! It decides nothing. What it must keep to is said at the head of `ottla_client_state::membership`.

use std::sync::Arc;

use ottla_client_state::assignor::{GroupTopic, TopicImage};
use ottla_client_state::membership::{
    Action, GroupError, GroupResponse, LostReason, Phase, RequestFailure, RequestKind,
};
use ottla_client_state::{Time, TopicPartition};

use crate::coverage::reason_name;
use crate::process::{Held, Process, ProcessId, Revocation, phase_name};
use crate::records::topic_id;
use crate::wire::Request;
use crate::world::{Event, World, tell};

/// How long the brokers take to tell of topics.
const METADATA_MS: u64 = 10;

impl World {
    /// Lets something happen to a membership, and executes what follows.
    pub fn feed(&mut self, who: ProcessId, what: &'static str, code: i16, happens: impl FnOnce(&mut Process, Time)) {
        let now = Time(self.now);
        let Some(mut process) = self.take(who) else { return };
        let before = process.phase();
        happens(&mut process, now);
        self.turn(who, &mut process);
        let after = process.phase();
        self.coverage.member(phase_name(before), what, code, phase_name(after));
        if before != after {
            tell!(
                self,
                "{}: {} -> {}",
                process.name,
                phase_name(before),
                phase_name(after)
            );
        }
        self.put(who, process);
    }

    /// Executes what there is to execute.
    pub fn turn(&mut self, who: ProcessId, process: &mut Process) {
        self.obey(who, process);
        self.look_up_committed(who, process);
        self.commit_what_is_due(who, process);
        // Committing may have let partitions go.
        self.obey(who, process);
        let wake_at = process.membership.wake_at().map(|at| at.0);
        if process.alarm != wake_at {
            process.alarm = wake_at;
            if let Some(at) = wake_at {
                self.schedule(at.max(self.now), Event::Wake(who, at));
            }
        }
    }

    /// Executes the actions that the membership has.
    pub fn obey(&mut self, who: ProcessId, process: &mut Process) {
        while let Some(action) = process.membership.next_action(Time(self.now)) {
            self.execute(who, process, action);
        }
    }

    fn execute(&mut self, who: ProcessId, process: &mut Process, action: Action) {
        match action {
            Action::Send(request) => {
                self.coverage.action("Send", request.kind().name());
                self.send(who, process, Request::Group(request));
            }
            Action::FindCoordinator => {
                self.coverage.action("FindCoordinator", "");
                process.coordinator = None;
            }
            Action::RefreshMetadata { .. } => {
                self.coverage.action("RefreshMetadata", "");
                self.schedule(self.now + METADATA_MS, Event::Metadata(who));
            }
            Action::Revoke { partitions, reason } => {
                tell!(self, "{}: revoke {}, {reason}", process.name, listed(&partitions));
                self.coverage.action("Revoke", reason_name(&reason));
                self.revoke(process, partitions);
            }
            Action::Assign {
                number,
                added,
                all,
                generation,
            } => {
                tell!(
                    self,
                    "{}: assign {} (new: {}), {generation}",
                    process.name,
                    listed(&all),
                    listed(&added)
                );
                self.coverage.action(
                    "Assign",
                    if added.is_empty() {
                        "nothing new"
                    } else {
                        "new partitions"
                    },
                );
                process.assigned_in = Some(generation.epoch);
                self.ownership_changed = true;
                self.assign(process, number, added, &all);
            }
            Action::Lost { partitions, reason } => {
                tell!(self, "{}: lost {}, {reason}", process.name, listed(&partitions));
                self.coverage.action("Lost", lost_name(reason));
                self.lose(process, &partitions);
            }
            Action::Rebalance { reason } => {
                tell!(self, "{}: rebalance, {reason}", process.name);
                self.coverage.action("Rebalance", reason_name(&reason));
            }
            Action::Fail(error) => self.fail(process, &error),
        }
    }

    fn revoke(&mut self, process: &mut Process, partitions: Vec<TopicPartition>) {
        assert!(process.revocation.is_none(), "{} revokes twice at a time", process.name);
        for partition in &partitions {
            let held = process.held.get_mut(partition);
            held.unwrap_or_else(|| panic!("{} is to revoke {partition}, which it was never given", process.name))
                .leaving = true;
        }
        let handed = process
            .handed
            .iter()
            .any(|handed| partitions.contains(&handed.partition));
        let waits = process.closing.is_none() && (handed || self.plan.told);
        process.revocation = Some(match waits {
            true => Revocation::AwaitsApplication(partitions),
            false => Revocation::Ready(partitions),
        });
    }

    fn assign(&mut self, process: &mut Process, number: u64, added: Vec<TopicPartition>, all: &[TopicPartition]) {
        assert!(
            process.revocation.is_none(),
            "{} is given partitions while it revokes",
            process.name
        );
        for partition in added {
            assert!(
                self.topics.by_partition.contains_key(&partition),
                "{} was given {partition}, which does not exist",
                process.name
            );
            process.assignments += 1;
            let held = Held {
                assignment: process.assignments,
                position: None,
                touched: false,
                leaving: false,
            };
            let before = process.held.insert(partition.clone(), held);
            assert!(before.is_none(), "{} was given {partition} twice", process.name);
        }
        let held: Vec<_> = process.held.keys().cloned().collect();
        assert_eq!(held, all, "{} holds something else than it was assigned", process.name);
        process.look_after = 0;
        match self.plan.told && process.closing.is_none() {
            true => process.untold = Some(number),
            false => process.membership.handle_assigned(number, Time(self.now)),
        }
    }

    /// The membership is gone: what was not committed will be read again by somebody.
    pub fn lose(&mut self, process: &mut Process, partitions: &[TopicPartition]) {
        for partition in partitions {
            process.offsets.forget(partition);
            let held = process.held.remove(partition);
            let held = held.unwrap_or_else(|| panic!("{} lost {partition}, which it did not have", process.name));
            self.excuse(partition, &held);
        }
        process.revocation = None;
        process.untold = None;
    }

    /// Records before the position may be processed again if they are not committed.
    pub fn excuse(&mut self, partition: &TopicPartition, held: &Held) {
        if let Some(position) = held.position {
            self.topics.excuse(partition, position);
        }
    }

    fn fail(&mut self, process: &mut Process, error: &GroupError) {
        tell!(self, "{}: {error}", process.name);
        self.coverage.action("Fail", fail_name(error));
        let expected = matches!(error, GroupError::FencedInstanceId { .. } | GroupError::Refused { .. });
        assert!(expected, "{}: {error}", process.name);
        process.failed |= error.is_final();
    }

    /// Partitions that were revoked and committed are let go. `tried`: if something is not committed, it could not be.
    pub fn let_go(&mut self, process: &mut Process, partitions: &[TopicPartition], tried: bool) {
        for partition in partitions {
            let committed = process.offsets.committed(partition);
            let open = !process.uncommitted(|one| one == partition).is_empty();
            process.offsets.forget(partition);
            if let Some(held) = process.held.remove(partition)
                && (open || committed < held.position)
                && committed != held.position
            {
                assert!(
                    tried || !open,
                    "{} lets go of {partition} and has not tried to commit it",
                    process.name
                );
                self.coverage.fault("let go without a commit");
                self.excuse(partition, &held);
            }
        }
        tell!(self, "{}: has let go of {}", process.name, listed(partitions));
        process.revocation = None;
        process.membership.handle_revoked(Time(self.now));
    }

    /// An answer of the coordinator to a request of the membership.
    pub fn answered(&mut self, who: ProcessId, response: GroupResponse, code: i16) {
        self.feed(who, response.kind().name(), code, |process, now| {
            process.membership.handle_response(response, now);
        });
    }

    /// A request of the membership that got no answer.
    pub fn unanswered(&mut self, who: ProcessId, kind: RequestKind, failure: RequestFailure) {
        let what = match &failure {
            RequestFailure::Disconnected => "disconnected",
            RequestFailure::TimedOut => "timed out",
            RequestFailure::NoCoordinator(_) => "no coordinator",
            _ => "refused",
        };
        self.feed(who, what, 0, |process, now| {
            process.membership.handle_failure(kind, failure, now)
        });
    }

    /// What there is to know of topics comes to a member.
    pub fn tell_topics(&mut self, who: ProcessId) {
        let mut image = TopicImage::new();
        for (name, count) in &self.topics.counts {
            let topic = GroupTopic {
                id: topic_id(name),
                ..GroupTopic::of(*count)
            };
            image.insert(Arc::clone(name), topic);
        }
        self.feed(who, "metadata", 0, |process, now| {
            process.membership.handle_metadata(Arc::new(image), now);
        });
    }

    /// The member's alarm.
    pub fn wake(&mut self, who: ProcessId, at: u64) {
        let current = self.process(who).is_some_and(|process| process.alarm == Some(at));
        if current {
            self.feed(who, "timeout", 0, |process, now| {
                process.alarm = None;
                process.membership.handle_timeout(now);
            });
        }
    }

    /// A program that is done with its group, or failed, ends.
    pub fn end_if_done(&mut self, who: ProcessId) {
        let Some(process) = self.process(who) else { return };
        let left = process.phase() == Phase::Left && process.revocation.is_none();
        let late = process.closing.is_some_and(|deadline| deadline <= self.now);
        if left || late || process.failed {
            let why = if left { "has left" } else { "ends without leaving" };
            tell!(self, "{}: {why}", process.name);
            self.bury(who);
        }
    }
}

/// Partitions as text.
pub fn listed(partitions: &[TopicPartition]) -> String {
    let names: Vec<String> = partitions.iter().map(ToString::to_string).collect();
    if names.is_empty() {
        "nothing".into()
    } else {
        names.join(" ")
    }
}

fn lost_name(reason: LostReason) -> &'static str {
    match reason {
        LostReason::Fenced { code } => crate::coverage::code_name(code),
        LostReason::SessionExpired => "session expired",
        LostReason::PollIntervalExceeded => "max.poll.interval.ms exceeded",
        _ => "failed",
    }
}

fn fail_name(error: &GroupError) -> &'static str {
    match error {
        GroupError::FencedInstanceId { .. } => "FENCED_INSTANCE_ID",
        GroupError::Refused { code, .. } => crate::coverage::code_name(*code),
        _ => "other",
    }
}
