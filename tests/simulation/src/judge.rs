//! What must be true at every moment, and what must come true once the faults are over.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_broker_state::group::Group;
use ottla_broker_state::group::classic::ClassicState;
use ottla_broker_state::group::consumer::GroupState;
use ottla_client_state::TopicPartition;
use ottla_client_state::membership::LeaveMode;
use rand::RngExt;

use crate::application::LONGEST_BEYOND_MS;
use crate::coordinator::Standing;
use crate::plan::Kind;
use crate::process::{Held, Process, ProcessId};
use crate::world::{World, tell};

/// What latencies, polls and retries may add to a bound.
const SLACK_MS: u64 = 3_000;

impl World {
    /// No partition belongs to two members at a time, as long as the coordinator takes both for members.
    pub fn check_ownership(&mut self) {
        if !std::mem::take(&mut self.ownership_changed) && !self.contested {
            return;
        }
        let mut owners: BTreeMap<&TopicPartition, Vec<ProcessId>> = BTreeMap::new();
        for (who, process) in self.running() {
            // A member by the consumer protocol does not say that it has a partition before its application knows of it. If
            // the coordinator gives it to another meanwhile, the member learns of that before it hands anything over.
            let counts = |held: &Held| held.touched || !process.is_consumer();
            for (partition, _) in process.held.iter().filter(|(_, held)| counts(held)) {
                owners.entry(partition).or_default().push(who);
            }
        }
        owners.retain(|_, owners| owners.len() > 1);
        for (partition, owners) in &owners {
            let valid: Vec<&Process> = owners
                .iter()
                .filter_map(|who| self.process(*who))
                .filter(|process| self.is_believed(process))
                .collect();
            if let [a, b, ..] = valid[..] {
                panic!(
                    "{partition} belongs to {} and to {}, and the coordinator takes both for members",
                    a.name, b.name
                );
            }
            // A static member that starts anew takes over what it had in the same generation, and fences its former self.
            let mut seen = BTreeSet::new();
            for process in owners.iter().filter_map(|who| self.process(*who)) {
                let generation = process.assigned_in;
                let same = process.instance.clone().unwrap_or_else(|| process.name.as_str().into());
                seen.insert((generation, same));
            }
            let twice = seen
                .iter()
                .zip(seen.iter().skip(1))
                .any(|(a, b)| a.0 == b.0 && a.0.is_some());
            assert!(
                !(twice && self.plan.kind.is_classic()),
                "{partition} was given to two members in one generation: {seen:?}"
            );
        }
        let contested = !owners.is_empty();
        if contested && !self.contested {
            self.coverage.fault("a partition is believed to be owned by two");
        }
        self.contested = contested;
    }

    /// Whether the coordinator takes this process for a member.
    fn is_believed(&self, process: &Process) -> bool {
        let Some(generation) = process.membership.generation() else {
            return false;
        };
        match self.coordinator.group() {
            Some(Group::Classic(group)) => {
                let is_member = group.members().any(|member| member.id == generation.member_id);
                // A dynamic member is a member because it has joined the present generation itself, unless a request to join
                // that it has given up is carried out in its name. A static one stays whether it joins or not.
                let by_itself = process.instance.is_none() && !self.plan.strays;
                is_member && (by_itself || group.generation() == generation.epoch)
            }
            Some(Group::Consumer(group)) => group.member(&generation.member_id).is_some_and(|member| {
                let by_itself = process.instance.is_none() && !self.plan.strays && self.plan.kind == Kind::Consumer;
                by_itself || member.epoch == generation.epoch
            }),
            None => false,
        }
    }

    /// A process that believes to be a member, and that the coordinator has given up.
    pub fn is_zombie(&self, process: &Process) -> bool {
        let current = match (process.membership.generation(), self.coordinator.group()) {
            (Some(generation), Some(Group::Classic(group))) => {
                group.generation() == generation.epoch
                    && group.members().any(|member| member.id == generation.member_id)
            }
            (Some(generation), Some(Group::Consumer(group))) => group
                .member(&generation.member_id)
                .is_some_and(|member| member.epoch == generation.epoch),
            _ => false,
        };
        !current
    }

    /// Whether another process believes to have this partition.
    pub fn held_elsewhere(&self, who: ProcessId, partition: &TopicPartition) -> bool {
        self.running()
            .any(|(other, process)| other != who && process.held.contains_key(partition))
    }

    /// What keeps the group from being at rest; `None` if it is.
    fn unrest(&self, to_the_end: bool) -> Option<String> {
        let Some(group) = self.coordinator.group() else {
            // The last of the members may have been fenced by one that is dead, before anything was written.
            let nobody = self.coordinator.standing == Standing::Up && self.running().next().is_none();
            return (!nobody).then(|| format!("the coordinator is {}", self.coordinator.state_name()));
        };
        let mut members = BTreeSet::new();
        let mut wanted: BTreeSet<&Arc<str>> = BTreeSet::new();
        let mut owners: BTreeMap<&TopicPartition, u32> = BTreeMap::new();
        for (_, process) in self.running() {
            if !process.is_settled() || process.closing.is_some() {
                return Some(format!("{} is {:?}", process.name, process.phase()));
            }
            members.insert(process.membership.state().member_id);
            wanted.extend(&process.topics);
            for (partition, held) in &process.held {
                *owners.entry(partition).or_default() += 1;
                let end = self.topics.end(partition);
                // Nobody commits again what a request of a dead connection has turned back, until there are more records.
                let committed =
                    self.coordinator.offset(partition) == Some(end) || self.coordinator.left_behind.contains(partition);
                if to_the_end && (held.position != Some(end) || !committed) {
                    let committed = self.coordinator.offset(partition);
                    let position = held.position;
                    return Some(format!(
                        "{partition} ends at {end}, is read to {position:?}, committed to {committed:?}"
                    ));
                }
            }
        }
        for partition in self
            .topics
            .by_partition
            .keys()
            .filter(|one| wanted.contains(&one.topic))
        {
            let count = owners.get(partition).copied().unwrap_or(0);
            if count != 1 {
                return Some(format!("{partition} is owned by {count}"));
            }
        }
        match group {
            Group::Classic(group) => {
                let known: BTreeSet<Arc<str>> = group.members().map(|member| Arc::clone(&member.id)).collect();
                if group.state() != ClassicState::Stable && !members.is_empty() {
                    return Some(format!("the group is {}", group.state().name()));
                }
                if known != members {
                    return Some(format!(
                        "the members are {known:?} to the coordinator, and {members:?} in truth"
                    ));
                }
            }
            Group::Consumer(group) => {
                let known: BTreeSet<Arc<str>> = group.members().map(|member| Arc::clone(&member.id)).collect();
                if group.state() != GroupState::Stable && !members.is_empty() {
                    return Some(format!("the group is {}", group.state().name()));
                }
                if known != members {
                    return Some(format!(
                        "the members are {known:?} to the coordinator, and {members:?} in truth"
                    ));
                }
            }
        }
        let parked = self.coordinator.parked();
        (parked > 0).then(|| format!("{parked} requests were never answered"))
    }

    /// Goes on until the group is at rest. Stops the schedule if it is not within `bound_ms`.
    fn await_rest(&mut self, to_the_end: bool, bound_ms: u64, after: &str) {
        let begin = self.now;
        while let Some(unrest) = self.unrest(to_the_end) {
            let bound_ms = bound_ms + self.late_syncs_ms();
            let until = begin + bound_ms;
            assert!(
                self.now < until && self.step_towards(until),
                "{bound_ms} ms after {after} the group is not at rest: {unrest}"
            );
        }
        let took_ms = self.now - begin;
        tell!(self, "the group is at rest, {took_ms} ms after {after}");
        self.coverage.rest(took_ms);
    }

    /// What members add to a bound whose SyncGroup came too late. Who learns from its assignment that others are to have what
    /// it owns lets go of that and joins again at once, and to whoever asks for its own assignment after that the coordinator
    /// says that the group rebalances. Such a member has not let go of anything yet; it does after the next generation, which
    /// the others learn of with their next heartbeats. In each of these generations somebody lets go, so they come to an end.
    fn late_syncs_ms(&self) -> u64 {
        let late = self.late_syncs.as_ref().map_or(0, BTreeSet::len) as u64;
        late * self.plan.heartbeat_ms
    }

    /// Notes that a SyncGroup of this process came too late, if that is one of those that may take longer.
    pub fn note_late_sync(&mut self, who: ProcessId) {
        if !matches!(self.plan.kind, Kind::Cooperative | Kind::Upgrade) {
            return;
        }
        let generation = self.process(who).and_then(|process| process.membership.generation());
        if let (Some(late), Some(generation)) = (&mut self.late_syncs, generation) {
            late.insert(generation.epoch);
        }
    }

    /// Some steps; false if nothing at all happens any more.
    fn step_towards(&mut self, until: u64) -> bool {
        for _ in 0..8 {
            if !self.step(until) {
                return self.unrest(true).is_none();
            }
        }
        true
    }

    /// Lets the faults end, and sees that everything comes right: first all that has gone wrong, then one more event whose
    /// consequences are known.
    pub fn finish(&mut self) {
        self.heal();
        // Whoever processes too long when the faults end comes back.
        let processed = self.now + self.plan.max_poll_ms + LONGEST_BEYOND_MS;
        while self.step(processed) {}
        let plan = &self.plan;
        let bound_ms = 3 * plan.max_poll_ms + 2 * plan.session_ms + 40_000;
        self.await_rest(true, bound_ms, "the last fault");
        assert_eq!(self.coordinator.standing, Standing::Up);
        self.one_more_event();
        self.coordinator.check_replay(crate::coordinator::moment(self.now));
    }

    fn one_more_event(&mut self) {
        self.late_syncs = Some(BTreeSet::new());
        let two_beats_ms = 2 * self.plan.heartbeat_ms + SLACK_MS;
        let session_ms = self.plan.session_ms;
        let others = self.running().count() > 1;
        match (self.random.random_range(0..3), self.somebody()) {
            (0, Some(who)) if others => {
                let is_static = self.process(who).is_some_and(|process| process.instance.is_some());
                self.close(who, LeaveMode::Default);
                self.end_if_done(who);
                // A static member that closes says nothing, and is missed after its session only.
                let bound_ms = if is_static {
                    session_ms + two_beats_ms
                } else {
                    two_beats_ms
                };
                self.await_rest(false, bound_ms, "a member has left");
            }
            (1, Some(who)) if others => {
                self.kill(who);
                self.await_rest(false, session_ms + two_beats_ms, "a member was killed");
            }
            _ => {
                self.start(None);
                self.await_rest(false, two_beats_ms, "a member has joined");
            }
        }
    }
}
