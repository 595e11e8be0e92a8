//! What an application does with its consumer: polls, processes, polls again; closes, or is killed.
//!
//! A poll says that what the last one handed over is processed, and takes more. Between two polls time passes: usually a
//! little, at times more than `max.poll.interval.ms` allows.

use ottla_client_state::Time;
use ottla_client_state::commit::Chosen;
use ottla_client_state::membership::LeaveMode;
use rand::RngExt;

use crate::process::{Handed, Process, ProcessId, Revocation};
use crate::world::{Event, World, tell};

/// The most records of one partition that a poll hands over.
const MAX_RECORDS: i64 = 7;
/// The most by which processing exceeds `max.poll.interval.ms`.
pub const LONGEST_BEYOND_MS: u64 = 5_000;
/// How long a program tries to close in good order.
const CLOSE_MS: u64 = 10_000;

impl World {
    /// The application polls.
    pub fn poll(&mut self, who: ProcessId) {
        self.feed_poll(who);
        let Some(process) = self.process(who) else { return };
        if process.closing.is_some() {
            return;
        }
        let think_ms = process.think_ms;
        let overlong = self.faults && self.random.random_bool(0.002);
        let pause = match overlong {
            true => {
                self.coverage.fault("processing beyond max.poll.interval.ms");
                self.plan.max_poll_ms + self.random.random_range(0..LONGEST_BEYOND_MS)
            }
            false => self.random.random_range(think_ms / 2..=think_ms),
        };
        if self.plan.commits_by_name && self.random.random_bool(0.3) {
            let after = self.random.random_range(0..pause.max(1));
            self.schedule(self.now + after, Event::CommitByName(who));
        }
        self.schedule(self.now + pause, Event::Poll(who));
    }

    /// The application has processed a part of what it was handed of a partition, and commits that.
    pub fn commit_by_name(&mut self, who: ProcessId) {
        let Some(mut process) = self.take(who) else { return };
        if let Some(mut handed) = process.handed.pop() {
            let rest = handed.to;
            handed.to = self.random.random_range(handed.from..=rest);
            let (partition, assignment, to) = (handed.partition.clone(), handed.assignment, handed.to);
            self.process_handed(who, &mut process, &handed, |process, _| {
                let chosen = Chosen {
                    offset: to.into(),
                    assignment: Some(assignment),
                };
                process.offsets.handle_committing(&partition, &chosen);
                process.named.push_back((partition, (assignment, to)));
            });
            self.coverage.fault("committed by name");
            (handed.from, handed.to) = (to, rest);
            process.handed.push(handed);
        }
        self.turn(who, &mut process);
        self.put(who, process);
    }

    fn feed_poll(&mut self, who: ProcessId) {
        let Some(mut process) = self.take(who) else { return };
        self.finish_processing(who, &mut process);
        self.put(who, process);
        self.feed(who, "poll", 0, |process, now| {
            process.membership.handle_poll(now);
            if let Some(number) = process.untold.take() {
                process.membership.handle_assigned(number, now);
            }
            if let Some(Revocation::AwaitsApplication(partitions)) = process
                .revocation
                .take_if(|revocation| matches!(revocation, Revocation::AwaitsApplication(_)))
            {
                process.revocation = Some(Revocation::Ready(partitions));
            }
        });
        let Some(mut process) = self.take(who) else { return };
        if process.closing.is_none() {
            self.hand_over(&mut process);
        }
        self.put(who, process);
    }

    /// What was handed over is processed, and may be committed where the partition is still the process's own.
    fn finish_processing(&mut self, who: ProcessId, process: &mut Process) {
        for handed in std::mem::take(&mut process.handed) {
            self.process_handed(who, process, &handed, |process, now| {
                let to = handed.to.into();
                process.offsets.note(&handed.partition, handed.assignment, to, now);
            });
        }
    }

    /// Records are processed; `keep` has them committed if the partition is still the process's own.
    fn process_handed(
        &mut self,
        who: ProcessId,
        process: &mut Process,
        handed: &Handed,
        keep: impl FnOnce(&mut Process, Time),
    ) {
        let elsewhere = self.held_elsewhere(who, &handed.partition) || self.is_zombie(process);
        self.topics
            .process(&handed.partition, handed.from, handed.to, elsewhere);
        if process.has(&handed.partition, handed.assignment) {
            keep(process, Time(self.now));
        } else {
            // Somebody else may have read on from what was committed.
            self.topics.excuse(&handed.partition, handed.to);
        }
    }

    fn hand_over(&mut self, process: &mut Process) {
        let untold = process.untold.is_some();
        for (partition, held) in process.held.iter_mut().filter(|(_, held)| !held.leaving && !untold) {
            let Some(from) = held.position else { continue };
            let available = self.topics.end(partition) - from;
            if available > 0 {
                let to = from + available.min(self.random.random_range(1..=MAX_RECORDS));
                held.position = Some(to);
                self.ownership_changed |= !held.touched;
                held.touched = true;
                process.handed.push(Handed {
                    partition: partition.clone(),
                    assignment: held.assignment,
                    from,
                    to,
                });
            }
        }
    }

    /// The application closes its consumer in good order: what it was handed is processed.
    pub fn close(&mut self, who: ProcessId, mode: LeaveMode) {
        let Some(mut process) = self.take(who) else { return };
        tell!(self, "{}: closes ({mode:?})", process.name);
        self.finish_processing(who, &mut process);
        let deadline = self.now + CLOSE_MS;
        process.closing = Some(deadline);
        process.untold = None;
        if let Some(Revocation::AwaitsApplication(partitions)) = process
            .revocation
            .take_if(|revocation| matches!(revocation, Revocation::AwaitsApplication(_)))
        {
            process.revocation = Some(Revocation::Ready(partitions));
        }
        self.put(who, process);
        self.schedule(deadline, Event::CloseIsOver(who));
        self.feed(who, "close", 0, |process, now: Time| {
            process.membership.handle_leave(mode, now)
        });
    }

    /// The program is gone from one moment to the next.
    pub fn bury(&mut self, who: ProcessId) {
        let Some(process) = self.take(who) else { return };
        for (partition, held) in &process.held {
            self.excuse(partition, held);
        }
        for handed in &process.handed {
            self.topics.excuse(&handed.partition, handed.to);
        }
        self.break_connections(who, process.connection, false);
        self.ownership_changed = true;
    }
}
