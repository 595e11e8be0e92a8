//! One program that consumes: its membership, what it holds, what it processed and has not committed yet.
//!
//! Data only, with the small steps that need nothing else. What drives the membership is in `driver.rs`, what the
//! application does in `application.rs`, what becomes of offsets in `offsets.rs`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use ottla_client_state::TopicPartition;
use ottla_client_state::commit::{Choice, CommitState};
use ottla_client_state::membership::{Generation, Membership, Phase};

use crate::wire::CallId;
use crate::world::Event;

/// Which program.
pub type ProcessId = usize;

/// A partition that the driver was told to take over.
#[derive(Debug)]
pub struct Held {
    /// Another one each time that the partition comes.
    pub assignment: u64,
    /// The next record to be handed over; unknown until the committed offset is.
    pub position: Option<i64>,
    /// Something of it was handed over.
    pub touched: bool,
    /// Being given up: nothing is handed over any more.
    pub leaving: bool,
}

/// Records that were handed over and are being processed.
#[derive(Debug)]
pub struct Handed {
    pub partition: TopicPartition,
    pub assignment: u64,
    pub from: i64,
    pub to: i64,
}

/// Where a revocation stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Revocation {
    /// The application has not yet said that it is done with what it was handed.
    AwaitsApplication(Vec<TopicPartition>),
    /// It is; what it processed must be committed.
    Ready(Vec<TopicPartition>),
    /// The commit is on its way.
    Committing(Vec<TopicPartition>),
}

/// Why something is committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    Auto,
    Application,
    Revocation,
}

/// Offsets on their way.
#[derive(Debug)]
pub struct Committing {
    /// Assignment and offset of each partition that is not committed yet.
    pub open: BTreeMap<TopicPartition, (u64, i64)>,
    pub purpose: Purpose,
    pub deadline: u64,
    /// Who the coordinator was told that commits.
    pub stamp: Option<Generation>,
    /// The request on the wire; between attempts there is none.
    pub call: Option<CallId>,
    pub failures: u32,
}

impl Committing {
    /// Nothing is sent yet.
    pub fn new(open: BTreeMap<TopicPartition, (u64, i64)>, purpose: Purpose, deadline: u64) -> Committing {
        Committing {
            open,
            purpose,
            deadline,
            stamp: None,
            call: None,
            failures: 0,
        }
    }
}

/// See the head of this file.
pub struct Process {
    pub name: String,
    pub instance: Option<Arc<str>>,
    pub membership: Membership,
    pub topics: BTreeSet<Arc<str>>,
    /// How far it is through an upgrade of assignors.
    pub strategy: usize,
    pub held: BTreeMap<TopicPartition, Held>,
    pub handed: Vec<Handed>,
    pub assignments: u64,
    /// The generation or epoch of the last assignment.
    pub assigned_in: Option<i32>,
    pub revocation: Option<Revocation>,
    /// An assignment that the application is told of with its next poll.
    pub untold: Option<u64>,
    pub committing: Option<Committing>,
    /// What the application commits by itself, in order: assignment and offset.
    pub named: VecDeque<(TopicPartition, (u64, i64))>,
    /// What it has processed and what is committed, as the client keeps it.
    pub offsets: CommitState,
    /// The last time of an automatic commit for which there is an event.
    pub auto_alarm: u64,
    /// The request for committed offsets on the wire, and the assignment of each partition that it asks for.
    pub looking: Option<(CallId, BTreeMap<TopicPartition, u64>)>,
    pub look_after: u64,
    /// The coordinator's place as far as it is known.
    pub coordinator: Option<u32>,
    /// Another one each time that the connections broke.
    pub connection: u32,
    /// When the last request on each lane arrives, and the last answer: their order is kept.
    pub arrivals: [u64; 2],
    pub answers: [u64; 2],
    /// The network is cut until then.
    pub cut_until: u64,
    /// Stopped until then: its time stands still, and what happens to it waits.
    pub frozen_until: u64,
    pub deferred: VecDeque<Event>,
    pub alarm: Option<u64>,
    /// How long it processes what it is handed, usually.
    pub think_ms: u64,
    /// When it gives up to close in good order.
    pub closing: Option<u64>,
    /// An error after which the program ends.
    pub failed: bool,
}

impl Process {
    pub fn phase(&self) -> Phase {
        self.membership.state().phase
    }

    /// Whether it speaks the consumer protocol.
    pub fn is_consumer(&self) -> bool {
        matches!(self.membership, Membership::Consumer(_))
    }

    pub fn is_settled(&self) -> bool {
        self.phase() == Phase::Stable && self.revocation.is_none() && self.untold.is_none()
    }

    /// What is processed and not committed, of partitions that `wanted` accepts.
    pub fn uncommitted(&self, wanted: impl Fn(&TopicPartition) -> bool) -> BTreeMap<TopicPartition, (u64, i64)> {
        opened(self.offsets.uncommitted(wanted))
    }

    /// Whether this assignment of the partition is the present one.
    pub fn has(&self, partition: &TopicPartition, assignment: u64) -> bool {
        self.held
            .get(partition)
            .is_some_and(|held| held.assignment == assignment)
    }
}

/// Offsets to commit, with the assignment under which each was processed.
pub fn opened(choice: Choice) -> BTreeMap<TopicPartition, (u64, i64)> {
    let chosen = choice.into_iter();
    chosen
        .filter_map(|(partition, chosen)| Some((partition, (chosen.assignment?, chosen.offset.offset))))
        .collect()
}

/// A phase by name.
pub const fn phase_name(phase: Phase) -> &'static str {
    match phase {
        Phase::Unsubscribed => "Unsubscribed",
        Phase::Joining => "Joining",
        Phase::Assigning => "Assigning",
        Phase::Syncing => "Syncing",
        Phase::Revoking => "Revoking",
        Phase::TakingOver => "TakingOver",
        Phase::Stable => "Stable",
        Phase::PollExpired => "PollExpired",
        Phase::Failed => "Failed",
        Phase::Leaving => "Leaving",
        Phase::Left => "Left",
    }
}
