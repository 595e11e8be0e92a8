//! The wire: how long requests and answers take, what is lost, what arrives over a connection that is dead.
//!
//! A program has two connections to its coordinator, one for JoinGroup, which waits long, and one for everything else.
//! Requests of one connection keep their order. When a connection breaks, what was under way is lost, or carried out later
//! by a broker that does not know yet (`Plan::strays`); nobody gets the answer.

use std::sync::Arc;

use ottla_client_state::membership::{RequestFailure, RequestKind};
use ottla_protocol::{ErrorCode, Uuid};
use rand::RngExt;

use crate::coordinator::{Standing, moment};
use crate::process::{Process, ProcessId};
use crate::wire::{Answer, CallId, Request, Sender};
use crate::world::{Event, World, kind_of, tell};

/// How often, where requests stray, connections break just after a request has left.
const BREAKS_WITH_A_REQUEST: f64 = 0.004;

/// A request under way.
#[derive(Debug)]
pub struct Call {
    pub who: ProcessId,
    pub sender: Arc<str>,
    pub name: &'static str,
    pub kind: Option<RequestKind>,
    request: Option<Request>,
    /// The connection it went out on; `u32::MAX` once that is dead.
    connection: u32,
    /// The broker it went to.
    place: u32,
    /// The program waits for an answer.
    pub open: bool,
    /// It has reached the coordinator.
    arrived: bool,
    stray: bool,
    /// A broker that is busy comes to it then at the earliest.
    not_before: u64,
}

impl World {
    fn latency(&mut self) -> u64 {
        match self.random.random_range(0..100) {
            0..2 if self.faults => self.random.random_range(100..3_000),
            _ => self.random.random_range(1..20),
        }
    }

    /// Sends a request to the coordinator, looking it up if it is not known.
    pub fn send(&mut self, who: ProcessId, process: &mut Process, request: Request) -> CallId {
        let id = self.numbered_call();
        let patience_ms = match &request {
            Request::Group(request) => request.patience_ms().unwrap_or(0),
            _ => 0,
        };
        let mut call = Call {
            who,
            sender: process.name.as_str().into(),
            name: request.name(),
            kind: kind_of(&request),
            request: Some(request),
            connection: process.connection,
            place: process.coordinator.unwrap_or(u32::MAX),
            open: true,
            arrived: false,
            stray: false,
            not_before: 0,
        };
        let mut at = self.now + self.latency();
        if process.coordinator.is_none() {
            // FindCoordinator, at any broker.
            at += self.latency();
            if self.coordinator.standing == Standing::Down {
                let code = [None, Some(ErrorCode::CoordinatorNotAvailable.code())][self.random.random_range(0..2)];
                self.schedule(at, Event::Failed(id, RequestFailure::NoCoordinator(code)));
                self.calls.insert(id, call);
                return id;
            }
            process.coordinator = Some(self.coordinator.place);
            call.place = self.coordinator.place;
        }
        let patience = patience_ms.max(self.plan.request_timeout_ms);
        self.schedule(self.now + patience, Event::Failed(id, RequestFailure::TimedOut));
        if process.cut_until > self.now {
            if self.random.random_bool(0.5) {
                self.schedule(at, Event::Failed(id, RequestFailure::Disconnected));
            }
        } else {
            let lane = usize::from(call.name == "JoinGroup");
            at = at.max(process.arrivals[lane]);
            process.arrivals[lane] = at;
            self.schedule(at, Event::Arrives(id));
            if self.faults && self.plan.strays && self.random.random_bool(BREAKS_WITH_A_REQUEST) {
                self.schedule(self.now + 1, Event::Breaks(who));
            }
        }
        self.calls.insert(id, call);
        id
    }

    fn numbered_call(&mut self) -> CallId {
        self.coverage.requests += 1;
        self.coverage.requests
    }

    /// A request has come to the broker that it was sent to.
    pub fn arrive(&mut self, id: CallId) {
        if let Some(at) = self
            .calls
            .get(&id)
            .map(|call| call.not_before)
            .filter(|at| *at > self.now)
        {
            self.schedule(at, Event::Arrives(id));
            return;
        }
        // What came while it stalled comes first, in the order of the wire.
        if self.coordinator_stalls_until > self.now || !self.coordinator_inbox.is_empty() {
            self.coordinator_inbox.push(id);
            return;
        }
        let Some(call) = self.calls.get_mut(&id) else { return };
        let Some(request) = call.request.take() else { return };
        call.arrived = true;
        let (place, stray) = (call.place, call.stray);
        let sender_name = Arc::clone(&call.sender);
        let standing = self.coordinator.standing;
        if place != self.coordinator.place || standing == Standing::Down {
            // The broker is gone, or lives and leads nothing any more.
            match self.random.random_bool(0.5) {
                true => self.send_answer(id, request.refused(ErrorCode::NotCoordinator)),
                false => self.schedule(self.now + 1, Event::Failed(id, RequestFailure::Disconnected)),
            }
            return;
        }
        if standing == Standing::Loading {
            self.send_answer(id, request.refused(ErrorCode::CoordinatorLoadInProgress));
            return;
        }
        let before = self.coordinator.state_name();
        let config = self.coordinator.config();
        let sender = Sender {
            name: &sender_name,
            config: &config,
            join_version: self.plan.join_version,
            fresh_id: Uuid::from_u128(self.random.random::<u128>() | 1),
        };
        if stray {
            tell!(
                self,
                "coordinator: {} of {sender_name} comes over a dead connection",
                request.name()
            );
            self.coverage.fault("a request carried out for a dead connection");
        }
        self.coordinator
            .handle(id, &request, &sender, stray, &self.topics, moment(self.now));
        for (partition, before) in std::mem::take(&mut self.coordinator.turned_back) {
            self.coverage.fault("an offset turned back by a dead connection");
            self.topics.excuse(&partition, before);
        }
        let after = self.coordinator.state_name();
        self.coverage.coordinator(before, request.name(), after);
        if before != after {
            tell!(
                self,
                "coordinator: {} of {sender_name}, {before} -> {after}, members {}",
                request.name(),
                self.coordinator.members()
            );
        }
    }

    pub fn send_answers(&mut self, answers: Vec<(CallId, Answer)>) {
        for (id, answer) in answers {
            self.send_answer(id, answer);
        }
    }

    fn send_answer(&mut self, id: CallId, answer: Answer) {
        let latency = self.latency();
        let Some(call) = self.calls.get(&id) else { return };
        let name = call.name;
        self.coverage.answer(name, answer.code());
        let (who, connection) = (call.who, call.connection);
        let (now, ordered) = (self.now, self.plan.ordered_answers);
        let Some(process) = self.process_mut(who).filter(|process| process.connection == connection) else {
            return;
        };
        if process.cut_until > now {
            return;
        }
        let mut at = now + latency;
        if ordered {
            let lane = usize::from(name == "JoinGroup");
            at = at.max(process.answers[lane]);
            process.answers[lane] = at;
        }
        self.schedule(at, Event::Answered(id, Box::new(answer)));
    }

    /// The connections of a program break. `learns`: it is there to learn of it.
    pub fn break_connections(&mut self, who: ProcessId, connection: u32, learns: bool) {
        let broken: Vec<CallId> = self
            .calls
            .iter()
            .filter(|(_, call)| call.who == who && call.connection == connection)
            .map(|(id, _)| *id)
            .collect();
        // What a broker has read of a dead connection waits for its turn, while others come over new ones.
        let busy_ms = [0, self.random.random_range(1..3_000)][self.random.random_range(0..2)];
        let not_before = self.now + busy_ms;
        for id in broken {
            let strays = self.plan.strays && self.random.random_bool(0.5);
            let fate = self.now + self.random.random_range(1..10);
            let Some(call) = self.calls.get_mut(&id) else { continue };
            call.connection = u32::MAX;
            if !call.arrived {
                if strays {
                    call.stray = true;
                    call.not_before = not_before;
                } else {
                    call.request = None;
                }
            }
            if learns && call.open {
                self.schedule(fate, Event::Failed(id, RequestFailure::Disconnected));
            }
        }
    }
}
