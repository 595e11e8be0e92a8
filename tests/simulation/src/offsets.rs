//! Offsets on their way: committed ones to start from, processed ones to be committed. As the client's committer does it, by
//! what its `CommitState` says is due.
//!
//! One commit at a time. Who commits is asked anew for every attempt, and what is not held under the same assignment any
//! more is not sent. A revocation waits for its commit, but not longer than the group waits for the member.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_client_state::membership::{Generation, RequestFailure};
use ottla_client_state::{Time, TopicPartition};
use ottla_protocol::ErrorCode;

use crate::process::{Committing, Process, ProcessId, Purpose, Revocation, opened};
use crate::wire::{Commit, FetchOffsets, Request};
use crate::world::{Event, World, tell};

const RETRY_MS: u64 = 100;
/// How long a commit is tried that no revocation waits for.
const COMMIT_MS: u64 = 20_000;

impl World {
    /// Asks for the committed offsets of partitions that have no position.
    pub fn look_up_committed(&mut self, who: ProcessId, process: &mut Process) {
        let Some(generation) = process.membership.generation() else {
            return;
        };
        if process.looking.is_some() || process.look_after > self.now {
            return;
        }
        let wanted: BTreeMap<TopicPartition, u64> = process
            .held
            .iter()
            .filter(|(_, held)| held.position.is_none() && !held.leaving)
            .map(|(partition, held)| (partition.clone(), held.assignment))
            .collect();
        if wanted.is_empty() {
            return;
        }
        let request = FetchOffsets {
            stamp: process
                .is_consumer()
                .then_some((generation.member_id, generation.epoch)),
            partitions: wanted.keys().cloned().collect(),
        };
        let call = self.send(who, process, Request::FetchOffsets(request));
        process.looking = Some((call, wanted));
    }

    /// Committed offsets, or why there are none.
    pub fn looked_up(
        &mut self,
        who: ProcessId,
        answer: Result<Vec<(TopicPartition, Option<i64>)>, ErrorCode>,
        process: &mut Process,
    ) {
        let Some((_, wanted)) = process.looking.take() else {
            return;
        };
        match answer {
            Ok(offsets) => {
                for (partition, offset) in offsets {
                    let assignment = wanted.get(&partition).copied().unwrap_or_default();
                    if let Some(held) = process
                        .held
                        .get_mut(&partition)
                        .filter(|held| held.assignment == assignment)
                    {
                        tell!(self, "{}: starts {partition} at {}", process.name, offset.unwrap_or(0));
                        held.position = Some(offset.unwrap_or(0));
                        if let Some(offset) = offset {
                            process.offsets.handle_committed(&partition, assignment, offset);
                        }
                    }
                }
            }
            Err(error) => {
                if matches!(error, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
                    process.coordinator = None;
                }
                self.look_again(who, process);
            }
        }
        self.turn(who, process);
    }

    /// The look for committed offsets got no answer.
    pub fn not_looked_up(&mut self, who: ProcessId, process: &mut Process) {
        process.looking = None;
        process.coordinator = None;
        self.look_again(who, process);
    }

    fn look_again(&mut self, who: ProcessId, process: &mut Process) {
        process.look_after = self.now + RETRY_MS;
        self.schedule(process.look_after, Event::Again(who));
    }

    /// Commits what the application asked for, for a revocation, or what is due by the clock, unless a commit is under way.
    pub fn commit_what_is_due(&mut self, who: ProcessId, process: &mut Process) {
        if process.committing.is_none() {
            self.begin_commit(who, process);
        }
        let Some(committing) = &process.committing else { return };
        if committing.call.is_none() {
            self.attempt(who, process);
        }
    }

    fn begin_commit(&mut self, who: ProcessId, process: &mut Process) {
        if let Some(named) = process.named.pop_front() {
            let open = BTreeMap::from([named]);
            process.committing = Some(Committing::new(open, Purpose::Application, self.now + COMMIT_MS));
            return;
        }
        if let Some(Revocation::Ready(partitions)) = &process.revocation {
            let partitions = partitions.clone();
            let open = process.uncommitted(|partition| partitions.contains(partition));
            process.revocation = Some(Revocation::Committing(partitions.clone()));
            let deadline = self.now + self.plan.max_poll_ms;
            let deadline = process.closing.map_or(deadline, |closing| closing.min(deadline));
            process.committing = Some(Committing::new(open, Purpose::Revocation, deadline));
            return;
        }
        if process.closing.is_some() {
            return;
        }
        if let Some(due) = process.offsets.next_due(Time(self.now)) {
            process.committing = Some(Committing::new(opened(due), Purpose::Auto, self.now + COMMIT_MS));
        } else if let Some(Time(at)) = process.offsets.wake_at()
            && process.auto_alarm != at
        {
            process.auto_alarm = at;
            self.schedule(at, Event::Again(who));
        }
    }

    /// Sends what is open, or ends the commit if there is nothing or no time left.
    fn attempt(&mut self, who: ProcessId, process: &mut Process) {
        let Some(mut committing) = process.committing.take() else {
            return;
        };
        committing
            .open
            .retain(|partition, (assignment, _)| process.has(partition, *assignment));
        if committing.open.is_empty() || committing.deadline <= self.now {
            self.end_commit(process, &committing);
            return;
        }
        match process.membership.generation() {
            None => self.retry(who, process, committing),
            Some(generation) => {
                let request = Commit {
                    member_id: Arc::clone(&generation.member_id),
                    epoch: generation.epoch,
                    instance_id: process.instance.clone(),
                    offsets: committing
                        .open
                        .iter()
                        .map(|(partition, (_, offset))| (partition.clone(), *offset))
                        .collect(),
                };
                committing.stamp = Some(generation);
                committing.call = Some(self.send(who, process, Request::Commit(request)));
                process.committing = Some(committing);
            }
        }
    }

    fn retry(&mut self, who: ProcessId, process: &mut Process, mut committing: Committing) {
        committing.failures += 1;
        let again = self.now + RETRY_MS * u64::from(committing.failures.min(5));
        if again >= committing.deadline {
            self.end_commit(process, &committing);
            return;
        }
        committing.call = None;
        process.committing = Some(committing);
        self.schedule(again, Event::CommitAgain(who));
    }

    /// The coordinator answered a commit.
    pub fn committed(&mut self, who: ProcessId, results: &[(TopicPartition, ErrorCode)], process: &mut Process) {
        let Some(mut committing) = process.committing.take() else {
            return;
        };
        committing.call = None;
        let mut trouble = false;
        for (partition, error) in results {
            let Some((assignment, offset)) = committing.open.get(partition).copied() else {
                continue;
            };
            if *error == ErrorCode::None {
                committing.open.remove(partition);
                if process.has(partition, assignment) {
                    process.offsets.handle_committed(partition, assignment, offset);
                }
            } else if self.may_pass(process, *error, committing.stamp.as_ref()) {
                if matches!(error, ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable) {
                    process.coordinator = None;
                }
                trouble = true;
            } else {
                committing.open.remove(partition);
                if let Some(stamp) = &committing.stamp {
                    process
                        .membership
                        .handle_fenced_commit(error.code(), stamp, Time(self.now));
                }
            }
        }
        // A commit that was fenced may have ended the membership.
        self.obey(who, process);
        if trouble {
            self.retry(who, process, committing);
        } else {
            self.end_commit(process, &committing);
        }
        self.turn(who, process);
    }

    fn may_pass(&self, process: &Process, error: ErrorCode, stamp: Option<&Generation>) -> bool {
        match error {
            // The group has gone on and so has the member: what it still holds is committed under the new generation.
            ErrorCode::IllegalGeneration | ErrorCode::StaleMemberEpoch => {
                let current = process.membership.generation();
                current.is_some() && current.as_ref() != stamp
            }
            _ => error.retriable(),
        }
    }

    /// A commit got no answer.
    pub fn not_committed(&mut self, who: ProcessId, _failure: &RequestFailure, process: &mut Process) {
        process.coordinator = None;
        if let Some(committing) = process.committing.take() {
            self.retry(who, process, committing);
        }
        self.turn(who, process);
    }

    fn end_commit(&mut self, process: &mut Process, committing: &Committing) {
        if committing.purpose == Purpose::Revocation
            && let Some(Revocation::Committing(partitions)) = process.revocation.clone()
        {
            let tried = committing.stamp.is_some() || committing.failures > 0 || committing.deadline <= self.now;
            self.let_go(process, &partitions, tried);
        }
    }
}
