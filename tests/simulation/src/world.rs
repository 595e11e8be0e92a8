//! The room: programs that consume, their coordinator, the wire between them, and the one clock.
//!
//! Takes a seed. Everything that happens is an [`Event`] with a time; [`World::step`] takes the next. Nothing waits for
//! anything real, so years of rebalances take seconds, and the same seed always tells the same story.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_broker_state::group::GroupConfig;
use ottla_broker_state::group::consumer::ConsumerConfig;
use ottla_client_state::Time;
use ottla_client_state::assignor::{self, Assignor};
use ottla_client_state::commit::CommitState;
use ottla_client_state::membership::{self, Membership, RequestFailure, RequestKind, Subscription};
use ottla_protocol::ErrorCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::coordinator::{Coordinator, moment};
use crate::coverage::Coverage;
use crate::network::Call;
use crate::plan::{CONSUMER, Plan};
use crate::process::{Process, ProcessId};
use crate::records::Topics;
use crate::wire::{Answer, CallId, GROUP};

/// More events in one millisecond than any group has.
const MOST_IN_A_MOMENT: u32 = 100_000;

/// Something that happens at its time.
#[derive(Debug, Clone)]
pub enum Event {
    /// A request reaches the coordinator.
    Arrives(CallId),
    /// An answer reaches the program.
    Answered(CallId, Box<Answer>),
    /// The program learns that there will be no answer.
    Failed(CallId, RequestFailure),
    /// A membership's alarm.
    Wake(ProcessId, u64),
    /// An application polls.
    Poll(ProcessId),
    /// An application commits what it has processed of a batch so far.
    CommitByName(ProcessId),
    /// A driver looks again for what is to be done.
    Again(ProcessId),
    /// A commit is tried again.
    CommitAgain(ProcessId),
    /// What is known of topics reaches a program.
    Metadata(ProcessId),
    /// A stopped program goes on.
    Continues(ProcessId),
    /// A program gives up to close in good order.
    CloseIsOver(ProcessId),
    /// A program's connections break.
    Breaks(ProcessId),
    /// The coordinator's alarm.
    CoordinatorWakes(u64),
    /// The records of the coordinator are committed.
    Replicated,
    /// Another broker takes over and reads the log.
    CoordinatorLoads,
    /// It has read the log.
    CoordinatorIsLoaded,
    /// It goes on after a stall.
    CoordinatorGoesOn,
    /// A program subscribes again.
    Subscribes(ProcessId),
    /// Something goes wrong.
    Fault,
}

impl Event {
    /// The program to which it happens.
    fn of(&self, calls: &BTreeMap<CallId, Call>) -> Option<ProcessId> {
        match self {
            Event::Answered(call, _) | Event::Failed(call, _) => calls.get(call).map(|call| call.who),
            Event::Wake(who, _)
            | Event::Poll(who)
            | Event::CommitByName(who)
            | Event::Again(who)
            | Event::CommitAgain(who)
            | Event::Metadata(who)
            | Event::Subscribes(who)
            | Event::CloseIsOver(who) => Some(*who),
            _ => None,
        }
    }
}

/// See the head of this file.
pub struct World {
    pub plan: Plan,
    pub random: StdRng,
    pub now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    numbered: u64,
    /// Events since time went on.
    in_this_moment: u32,
    processes: Vec<Option<Box<Process>>>,
    pub calls: BTreeMap<CallId, Call>,
    pub coordinator: Coordinator,
    coordinator_alarm: Option<u64>,
    pub coordinator_stalls_until: u64,
    /// What came while it stalled, in order.
    pub coordinator_inbox: Vec<CallId>,
    replicates_at: u64,
    pub topics: Topics,
    pub coverage: Coverage,
    /// Faults happen; false once the room heals.
    pub faults: bool,
    pub faults_left: u32,
    /// How far an upgrade of assignors is.
    pub strategy: usize,
    /// Somebody has got something since owners were looked at.
    pub ownership_changed: bool,
    pub contested: bool,
    /// The generations in which a SyncGroup of a cooperative member came too late, once the last event is under way.
    pub late_syncs: Option<BTreeSet<i32>>,
    pub tells: bool,
}

/// Tells a line of the story, if anybody listens.
macro_rules! tell {
    ($world:expr, $($words:tt)*) => {
        if $world.tells {
            println!("{:>9} ms  {}", $world.now, format_args!($($words)*));
        }
    };
}
pub(crate) use tell;

impl World {
    pub fn new(seed: u64, tells: bool) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = Plan::of(seed, &mut random);
        let now = 1_000;
        let config = GroupConfig {
            min_session_timeout_ms: 1_000,
            initial_rebalance_delay_ms: plan.initial_delay_ms,
            consumer: ConsumerConfig {
                heartbeat_interval_ms: i32::try_from(plan.heartbeat_ms).unwrap_or(i32::MAX),
                session_timeout_ms: i32::try_from(plan.session_ms).unwrap_or(i32::MAX),
                assignment_interval_ms: plan.assignment_interval_ms,
                ..ConsumerConfig::default()
            },
            ..GroupConfig::default()
        };
        let mut world = World {
            coordinator: Coordinator::new(config, moment(now)),
            random,
            now,
            queue: BTreeMap::new(),
            numbered: 0,
            in_this_moment: 0,
            processes: Vec::new(),
            calls: BTreeMap::new(),
            coordinator_alarm: None,
            coordinator_stalls_until: 0,
            coordinator_inbox: Vec::new(),
            replicates_at: 0,
            topics: Topics::default(),
            coverage: Coverage::default(),
            faults: true,
            faults_left: plan.faults,
            strategy: 0,
            ownership_changed: false,
            contested: false,
            late_syncs: None,
            tells,
            plan,
        };
        tell!(world, "{:?}", world.plan);
        for (number, partitions) in world.plan.topics.clone().into_iter().enumerate() {
            world.topics.create(&topic_name(number), partitions, world.plan.records);
        }
        world.coordinator.see(&world.topics);
        for number in 0..world.plan.members {
            let instance = (world.plan.statics && number % 2 == 0).then(|| format!("s{number}").into());
            world.start(instance);
        }
        let first = world.now + world.plan.fault_every_ms;
        world.schedule(first, Event::Fault);
        world
    }

    /// Has `event` happen at `at`.
    pub fn schedule(&mut self, at: u64, event: Event) {
        self.numbered += 1;
        self.queue.insert((at, self.numbered), event);
    }

    /// The next event. False if nothing is to come before `until`.
    pub fn step(&mut self, until: u64) -> bool {
        let Some(entry) = self.queue.first_entry().filter(|entry| entry.key().0 <= until) else {
            self.now = self.now.max(until);
            return false;
        };
        let ((at, _), event) = entry.remove_entry();
        self.in_this_moment = if at > self.now { 0 } else { self.in_this_moment + 1 };
        assert!(
            self.in_this_moment < MOST_IN_A_MOMENT,
            "the room goes round in circles and time stands still; the last of it is {event:?}"
        );
        self.now = self.now.max(at);
        self.happen(event);
        self.watch_coordinator();
        self.check_ownership();
        true
    }

    fn happen(&mut self, event: Event) {
        if let Some(who) = event.of(&self.calls) {
            let now = self.now;
            let Some(process) = self.process_mut(who) else {
                if let Event::Answered(call, _) | Event::Failed(call, _) = event {
                    self.calls.remove(&call);
                }
                return;
            };
            if process.frozen_until > now {
                process.deferred.push_back(event);
                return;
            }
            self.happen_to(who, event);
            self.end_if_done(who);
            return;
        }
        match event {
            Event::Arrives(call) => self.arrive(call),
            Event::Continues(who) => self.go_on(who),
            Event::CoordinatorWakes(at) => self.wake_coordinator(at),
            Event::Replicated => {
                let answers = self.coordinator.commit();
                self.send_answers(answers);
            }
            Event::CoordinatorLoads => {
                self.coordinator.load();
                let load_ms = self.random.random_range(0..2_000);
                self.schedule(self.now + load_ms, Event::CoordinatorIsLoaded);
            }
            Event::CoordinatorIsLoaded => {
                tell!(self, "coordinator: has loaded its log");
                self.coordinator.loaded(&self.topics, moment(self.now));
                self.ownership_changed = true;
            }
            Event::CoordinatorGoesOn => {
                for call in std::mem::take(&mut self.coordinator_inbox) {
                    self.arrive(call);
                }
            }
            Event::Breaks(who) => self.reset(who),
            Event::Fault => self.fault(),
            _ => {}
        }
    }

    fn happen_to(&mut self, who: ProcessId, event: Event) {
        match event {
            Event::Answered(call, answer) => self.take_answer(who, call, *answer),
            Event::Failed(call, failure) => self.take_failure(who, call, failure),
            Event::Wake(who, at) => self.wake(who, at),
            Event::Poll(who) => self.poll(who),
            Event::CommitByName(who) => self.commit_by_name(who),
            Event::Again(who) => {
                if let Some(mut process) = self.take(who) {
                    self.turn(who, &mut process);
                    self.put(who, process);
                }
            }
            Event::CommitAgain(who) => {
                if let Some(mut process) = self.take(who) {
                    self.commit_what_is_due(who, &mut process);
                    self.turn(who, &mut process);
                    self.put(who, process);
                }
            }
            Event::Metadata(who) => self.tell_topics(who),
            Event::Subscribes(who) => {
                let topics = self.process(who).map(|process| process.topics.clone());
                self.subscribe(who, topics.unwrap_or_default());
            }
            _ => {}
        }
    }

    fn take_answer(&mut self, who: ProcessId, call: CallId, answer: Answer) {
        let Some(known) = self.calls.remove(&call).filter(|known| known.open) else {
            return;
        };
        let code = answer.code();
        tell!(
            self,
            "{}: {} was answered {}",
            self.name(who),
            known.name,
            crate::coverage::code_name(code)
        );
        if known.name == "SyncGroup" && code == ErrorCode::RebalanceInProgress.code() {
            self.note_late_sync(who);
        }
        match answer {
            Answer::Group(response) => self.answered(who, response, code),
            Answer::Commit(results) => self.with(who, |world, process| {
                if process
                    .committing
                    .as_ref()
                    .is_some_and(|committing| committing.call == Some(call))
                {
                    world.committed(who, &results, process);
                }
            }),
            Answer::Offsets(answer) => self.with(who, |world, process| {
                if process.looking.as_ref().is_some_and(|(looking, _)| *looking == call) {
                    world.looked_up(who, answer, process);
                }
            }),
        }
    }

    fn take_failure(&mut self, who: ProcessId, call: CallId, failure: RequestFailure) {
        let Some(known) = self.calls.get_mut(&call).filter(|known| known.open) else {
            return;
        };
        known.open = false;
        let (name, kind) = (known.name, known.kind);
        tell!(self, "{}: {name} got no answer: {failure:?}", self.name(who));
        match (kind, name) {
            (Some(kind), _) => self.unanswered(who, kind, failure),
            (None, "OffsetCommit") => self.with(who, |world, process| {
                if process
                    .committing
                    .as_ref()
                    .is_some_and(|committing| committing.call == Some(call))
                {
                    world.not_committed(who, &failure, process);
                }
            }),
            (None, _) => self.with(who, |world, process| {
                if process.looking.as_ref().is_some_and(|(looking, _)| *looking == call) {
                    world.not_looked_up(who, process);
                }
            }),
        }
    }

    /// Starts a program that consumes. Gives its number.
    pub fn start(&mut self, instance: Option<Arc<str>>) -> ProcessId {
        let who = self.processes.len();
        let name = match &instance {
            Some(instance) => format!("{who}({instance})"),
            None => who.to_string(),
        };
        let config = membership::GroupConfig {
            group_instance_id: instance.clone(),
            session_timeout_ms: self.plan.session_ms,
            heartbeat_interval_ms: self.plan.heartbeat_ms,
            max_poll_interval_ms: self.plan.max_poll_ms,
            seed: self.random.random(),
            ..membership::GroupConfig::new(GROUP)
        };
        let strategy = &self.plan.strategies[self.strategy];
        let membership = match strategy[..] {
            [CONSUMER] => Membership::consumer(config, format!("m{who}"), None),
            _ => Membership::classic(config, assignors(strategy)).expect("the assignors fit together"),
        };
        let all: BTreeSet<Arc<str>> = self.topics.counts.keys().cloned().collect();
        let topics = match self.random.random_bool(0.2) {
            true => all.into_iter().take(1).collect(),
            false => all,
        };
        let think_ms = [40, 200, 600][self.random.random_range(0..3)];
        let process = Process {
            name,
            instance,
            membership,
            topics: topics.clone(),
            strategy: self.strategy,
            held: BTreeMap::new(),
            handed: Vec::new(),
            assignments: 0,
            assigned_in: None,
            revocation: None,
            untold: None,
            committing: None,
            named: VecDeque::new(),
            offsets: CommitState::new(Some(self.plan.auto_commit_ms)),
            auto_alarm: 0,
            looking: None,
            look_after: 0,
            coordinator: None,
            connection: 0,
            arrivals: [0; 2],
            answers: [0; 2],
            cut_until: 0,
            frozen_until: 0,
            deferred: VecDeque::new(),
            alarm: None,
            think_ms,
            closing: None,
            failed: false,
        };
        tell!(self, "{}: starts, subscribes to {topics:?}", process.name);
        self.processes.push(Some(Box::new(process)));
        self.subscribe(who, topics);
        self.tell_topics(who);
        self.schedule(self.now + think_ms, Event::Poll(who));
        who
    }

    pub fn subscribe(&mut self, who: ProcessId, topics: BTreeSet<Arc<str>>) {
        self.feed(who, "subscribe", 0, |process, now: Time| {
            process.topics = topics.clone();
            process.membership.handle_subscribed(Subscription::Topics(topics), now);
        });
    }

    fn wake_coordinator(&mut self, at: u64) {
        if self.coordinator_alarm != Some(at) {
            return;
        }
        self.coordinator_alarm = None;
        if self.coordinator_stalls_until > self.now {
            return;
        }
        let before = self.coordinator.state_name();
        while self.coordinator.handle_timeout(&self.topics, moment(self.now)) {}
        let after = self.coordinator.state_name();
        if before != after {
            self.coverage.coordinator(before, "time", after);
            tell!(
                self,
                "coordinator: time passes, {before} -> {after}, members {}",
                self.coordinator.members()
            );
        }
    }

    /// Sets the coordinator's alarm, has its records committed, and lets answers go.
    fn watch_coordinator(&mut self) {
        let answers = self.coordinator.release();
        self.send_answers(answers);
        if self.coordinator.has_uncommitted() && self.replicates_at <= self.now {
            if self.plan.replication_ms == 0 {
                let answers = self.coordinator.commit();
                self.send_answers(answers);
            } else {
                self.replicates_at = self.now + self.random.random_range(1..=self.plan.replication_ms);
                self.schedule(self.replicates_at, Event::Replicated);
            }
        }
        let wake_at = self
            .coordinator
            .wake_at()
            .map(|at| at.max(self.coordinator_stalls_until));
        if wake_at != self.coordinator_alarm {
            self.coordinator_alarm = wake_at;
            if let Some(at) = wake_at {
                self.schedule(at.max(self.now), Event::CoordinatorWakes(at));
            }
        }
    }

    pub fn process(&self, who: ProcessId) -> Option<&Process> {
        self.processes.get(who)?.as_deref()
    }

    pub fn process_mut(&mut self, who: ProcessId) -> Option<&mut Process> {
        self.processes.get_mut(who)?.as_deref_mut()
    }

    fn name(&self, who: ProcessId) -> String {
        self.process(who)
            .map(|process| process.name.clone())
            .unwrap_or_default()
    }

    /// Takes a process out of the room to work on both; it must be put back.
    pub fn take(&mut self, who: ProcessId) -> Option<Box<Process>> {
        self.processes.get_mut(who)?.take()
    }

    pub fn put(&mut self, who: ProcessId, process: Box<Process>) {
        self.processes[who] = Some(process);
    }

    fn with(&mut self, who: ProcessId, work: impl FnOnce(&mut World, &mut Process)) {
        if let Some(mut process) = self.take(who) {
            work(self, &mut process);
            self.put(who, process);
        }
    }

    /// The programs that run.
    pub fn running(&self) -> impl Iterator<Item = (ProcessId, &Process)> {
        let numbered = self.processes.iter().enumerate();
        numbered.filter_map(|(who, process)| Some((who, process.as_deref()?)))
    }

    fn go_on(&mut self, who: ProcessId) {
        let now = self.now;
        let Some(process) = self.process_mut(who) else { return };
        if process.frozen_until > now {
            return;
        }
        let mut deferred: Vec<Event> = process.deferred.drain(..).collect();
        tell!(self, "{}: goes on", self.name(who));
        // The threads of a program that goes on come to what has piled up in any order.
        for place in (1..deferred.len()).rev() {
            deferred.swap(place, self.random.random_range(0..=place));
        }
        for event in deferred {
            self.schedule(now, event);
        }
    }
}

pub fn topic_name(number: usize) -> Arc<str> {
    ["orders", "users", "visits"][number % 3].into()
}

fn assignors(names: &[&str]) -> Vec<Arc<dyn Assignor>> {
    names.iter().filter_map(|name| assignor::by_name(name)).collect()
}

/// The kind of a membership's request.
pub fn kind_of(request: &crate::wire::Request) -> Option<RequestKind> {
    match request {
        crate::wire::Request::Group(request) => Some(request.kind()),
        _ => None,
    }
}
