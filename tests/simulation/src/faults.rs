//! What befalls the room: programs come, go, die, stop and go on; the coordinator dies, stalls, moves; the wire breaks;
//! topics and subscriptions change.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_client_state::membership::{LeaveMode, Phase};
use rand::RngExt;

use crate::coordinator::Standing;
use crate::plan::Kind;
use crate::process::ProcessId;
use crate::world::{Event, World, tell};

const MOST_PROCESSES: usize = 6;
const MOST_PARTITIONS: u32 = 8;

impl World {
    /// One fault, and the time of the next.
    pub fn fault(&mut self) {
        if self.faults_left == 0 {
            return;
        }
        self.faults_left -= 1;
        let next = self.now + self.random.random_range(1..=2 * self.plan.fault_every_ms);
        self.schedule(next, Event::Fault);
        match self.random.random_range(0..100) {
            0..9 => self.kill_somebody(),
            9..17 => self.restart_somebody(),
            17..28 => self.stop_somebody(),
            28..37 => self.cut_somebody_off(),
            37..45 => self.reset_somebody(),
            45..53 => self.close_somebody(),
            53..64 => self.start_somebody(),
            64..74 => self.crash_coordinator(),
            74..79 => self.stall_coordinator(),
            79..84 => self.grow_topic(),
            84..91 => self.change_subscription(),
            91..93 => self.enforce_rebalance(),
            93..96 => self.unsubscribe_somebody(),
            _ => self.produce(),
        }
    }

    /// A program that runs, is not stopped and does not close.
    pub fn somebody(&mut self) -> Option<ProcessId> {
        let now = self.now;
        let candidates: Vec<ProcessId> = self
            .running()
            .filter(|(_, process)| process.frozen_until <= now && process.closing.is_none())
            .map(|(who, _)| who)
            .collect();
        (!candidates.is_empty()).then(|| candidates[self.random.random_range(0..candidates.len())])
    }

    fn kill_somebody(&mut self) {
        let Some(who) = self.somebody() else { return };
        self.kill(who);
        if self.random.random_bool(0.3) {
            self.start_if_room(None);
        }
    }

    pub fn kill(&mut self, who: ProcessId) {
        self.coverage.fault("killed");
        tell!(self, "{who}: is killed");
        self.bury(who);
    }

    /// A program is replaced by a new one, in good order or not. An upgrade of assignors goes one step on when all have taken
    /// the last.
    fn restart_somebody(&mut self) {
        let all_have = self.running().all(|(_, process)| process.strategy == self.strategy);
        if all_have && self.strategy + 1 < self.plan.strategies.len() {
            self.strategy += 1;
            self.coverage.fault("upgrade of assignors goes on");
        }
        let strategy = self.strategy;
        let old = self
            .running()
            .find(|(_, process)| process.strategy < strategy && process.closing.is_none());
        let who = match old.map(|(who, _)| who) {
            Some(who) => who,
            None => match self.somebody() {
                Some(who) => who,
                None => return,
            },
        };
        let instance = self.process(who).and_then(|process| process.instance.clone());
        match self.random.random_range(0..10) {
            0..6 => {
                self.coverage.fault("restarted in good order");
                self.close(who, LeaveMode::Default);
                self.end_if_done(who);
            }
            6..9 => {
                self.coverage.fault("restarted by kill");
                tell!(self, "{who}: is killed");
                self.bury(who);
            }
            // Two with one group.instance.id: the new one takes over, the old one is fenced.
            _ => self.coverage.fault("replaced while it runs"),
        }
        self.start(instance);
    }

    fn stop_somebody(&mut self) {
        let Some(who) = self.somebody() else { return };
        let longest = 2 * self.plan.session_ms + self.plan.max_poll_ms;
        let until = self.now + self.random.random_range(100..longest);
        self.coverage.fault("stopped");
        tell!(self, "{who}: is stopped until {until} ms");
        if let Some(process) = self.process_mut(who) {
            process.frozen_until = until;
        }
        self.schedule(until, Event::Continues(who));
    }

    fn cut_somebody_off(&mut self) {
        let Some(who) = self.somebody() else { return };
        let until = self.now + self.random.random_range(100..2 * self.plan.session_ms);
        self.coverage.fault("cut off");
        tell!(self, "{who}: is cut off until {until} ms");
        if let Some(process) = self.process_mut(who) {
            process.cut_until = until;
        }
        if self.random.random_bool(0.5) {
            self.reset(who);
        }
    }

    fn reset_somebody(&mut self) {
        let Some(who) = self.somebody() else { return };
        self.coverage.fault("connections reset");
        self.reset(who);
    }

    /// The connections of a program break, and it makes new ones.
    pub fn reset(&mut self, who: ProcessId) {
        tell!(self, "{who}: its connections break");
        let Some(process) = self.process_mut(who) else { return };
        let connection = process.connection;
        process.connection += 1;
        process.arrivals = [0; 2];
        process.answers = [0; 2];
        self.break_connections(who, connection, true);
    }

    fn close_somebody(&mut self) {
        let Some(who) = self.somebody() else { return };
        let mode = [
            LeaveMode::Default,
            LeaveMode::Default,
            LeaveMode::Leave,
            LeaveMode::Remain,
        ][self.random.random_range(0..4)];
        self.coverage.fault("closed");
        self.close(who, mode);
        self.end_if_done(who);
    }

    fn start_somebody(&mut self) {
        let number = self.random.random_range(0..4);
        let instance = (self.plan.statics && self.random.random_bool(0.5)).then(|| format!("s{number}").into());
        self.coverage.fault("started");
        self.start_if_room(instance);
    }

    fn start_if_room(&mut self, instance: Option<Arc<str>>) {
        if self.running().count() < MOST_PROCESSES {
            self.start(instance);
        }
    }

    fn crash_coordinator(&mut self) {
        // A log holds of each member the assignor that was chosen alone, so a group that is loaded refuses who does not know that
        // one until its members have joined again, as in Kafka.
        let upgrading = self.plan.kind == Kind::Upgrade && self.strategy > 0;
        if self.coordinator.standing != Standing::Up || upgrading {
            return;
        }
        self.coverage.fault("coordinator crashed");
        let roll: usize = self.random.random_range(0..usize::MAX);
        self.coordinator.crash(|uncommitted| roll % (uncommitted + 1));
        tell!(self, "coordinator: crashes");
        self.ownership_changed = true;
        let whoever: Vec<ProcessId> = self.running().map(|(who, _)| who).collect();
        for who in whoever {
            self.reset(who);
        }
        let down_ms = self.random.random_range(1..8_000);
        self.schedule(self.now + down_ms, Event::CoordinatorLoads);
    }

    fn stall_coordinator(&mut self) {
        if self.coordinator_stalls_until > self.now {
            return;
        }
        self.coverage.fault("coordinator stalled");
        let stall_ms = self.random.random_range(100..12_000);
        self.coordinator_stalls_until = self.now + stall_ms;
        tell!(self, "coordinator: stalls until {} ms", self.coordinator_stalls_until);
        self.schedule(self.coordinator_stalls_until, Event::CoordinatorGoesOn);
    }

    fn grow_topic(&mut self) {
        let names: Vec<Arc<str>> = self.topics.counts.keys().cloned().collect();
        let topic = names[self.random.random_range(0..names.len())].clone();
        let count = self.topics.counts[&topic];
        // Who takes over from a static leader is not told what that one has divided, so it misses what came in between (KIP-814).
        let missed = self.plan.statics && self.plan.kind != Kind::Consumer;
        if count >= MOST_PARTITIONS || missed {
            return;
        }
        let count = count + self.random.random_range(1..3);
        self.coverage.fault("topic got partitions");
        tell!(self, "topic {topic} has {count} partitions now");
        self.topics.create(&topic, count, self.plan.records);
        self.coordinator.see(&self.topics);
        self.spread_metadata();
    }

    fn spread_metadata(&mut self) {
        let whoever: Vec<ProcessId> = self.running().map(|(who, _)| who).collect();
        for who in whoever {
            let delay_ms = self.random.random_range(0..3_000);
            self.schedule(self.now + delay_ms, Event::Metadata(who));
        }
    }

    fn change_subscription(&mut self) {
        let Some(who) = self.somebody() else { return };
        let mut topics = BTreeSet::new();
        let names: Vec<Arc<str>> = self.topics.counts.keys().cloned().collect();
        for name in names {
            if self.random.random_bool(0.6) {
                topics.insert(name);
            }
        }
        self.coverage.fault("subscription changed");
        tell!(self, "{who}: subscribes to {topics:?}");
        self.subscribe(who, topics);
    }

    fn unsubscribe_somebody(&mut self) {
        let Some(who) = self.somebody() else { return };
        self.coverage.fault("unsubscribed");
        tell!(self, "{who}: unsubscribes");
        self.feed(who, "unsubscribe", 0, |process, now| {
            process.membership.handle_unsubscribed(now)
        });
        let later = self.now + self.random.random_range(1..5_000);
        self.schedule(later, Event::Subscribes(who));
    }

    fn enforce_rebalance(&mut self) {
        let Some(who) = self.somebody() else { return };
        self.coverage.fault("rebalance enforced");
        tell!(self, "{who}: asks for a rebalance");
        self.feed(who, "enforce", 0, |process, now| {
            process.membership.handle_enforced("wish".into(), now)
        });
    }

    fn produce(&mut self) {
        self.coverage.fault("records produced");
        for records in self.topics.by_partition.values_mut() {
            records.append(self.random.random_range(0..20));
        }
    }

    /// Of two programs with one `group.instance.id` somebody stops the older one.
    fn end_doubles(&mut self) {
        let mut latest: BTreeMap<Arc<str>, ProcessId> = BTreeMap::new();
        let named: Vec<(ProcessId, Arc<str>)> = self
            .running()
            .filter_map(|(who, process)| Some((who, process.instance.clone()?)))
            .collect();
        for (who, instance) in named {
            if let Some(older) = latest.insert(instance, who) {
                self.kill(older);
            }
        }
    }

    /// The end of all faults: the wire is whole, everybody goes on, all topics are subscribed to by somebody.
    pub fn heal(&mut self) {
        self.faults = false;
        self.faults_left = 0;
        tell!(self, "the faults are over");
        let now = self.now;
        let whoever: Vec<ProcessId> = self.running().map(|(who, _)| who).collect();
        self.end_doubles();
        for who in whoever {
            let Some(process) = self.process_mut(who) else { continue };
            process.cut_until = process.cut_until.min(now);
            if process.frozen_until > now {
                process.frozen_until = now;
                self.schedule(now, Event::Continues(who));
            }
            if self
                .process(who)
                .is_some_and(|process| process.phase() == Phase::Unsubscribed)
            {
                self.schedule(now, Event::Subscribes(who));
            }
        }
        if self.coordinator_stalls_until > now {
            self.coordinator_stalls_until = now;
            self.schedule(now, Event::CoordinatorGoesOn);
        }
        self.spread_metadata();
        let all: BTreeSet<Arc<str>> = self.topics.counts.keys().cloned().collect();
        let served = self
            .running()
            .any(|(_, process)| process.topics == all && process.closing.is_none());
        if !served {
            let who = self.start(None);
            self.subscribe(who, all);
        }
    }
}
