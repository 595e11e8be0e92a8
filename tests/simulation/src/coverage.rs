//! What the schedules reached: without it a promise that holds says nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use ottla_client_state::membership::{LostReason, RebalanceReason};
use ottla_protocol::ErrorCode;

use crate::plan::{KINDS, Kind};

/// What must have happened in some thousands of schedules.
const EXPECTED: [&str; 23] = [
    "killed",
    "restarted in good order",
    "restarted by kill",
    "replaced while it runs",
    "upgrade of assignors goes on",
    "stopped",
    "cut off",
    "connections reset",
    "closed",
    "started",
    "coordinator crashed",
    "coordinator stalled",
    "topic got partitions",
    "subscription changed",
    "unsubscribed",
    "rebalance enforced",
    "records produced",
    "committed by name",
    "processing beyond max.poll.interval.ms",
    "a request carried out for a dead connection",
    "let go without a commit",
    "a partition is believed to be owned by two",
    "an offset turned back by a dead connection",
];

/// Counts over many schedules.
#[derive(Debug, Default)]
pub struct Coverage {
    schedules: BTreeMap<Kind, u64>,
    pub(crate) requests: u64,
    processed: u64,
    repeated: u64,
    virtual_ms: u64,
    faults: BTreeMap<&'static str, u64>,
    /// Phase, what happened, code, phase after.
    members: BTreeMap<(&'static str, &'static str, i16, &'static str), u64>,
    actions: BTreeMap<(&'static str, &'static str), u64>,
    /// State, request, state after.
    coordinator: BTreeMap<(&'static str, &'static str, &'static str), u64>,
    answers: BTreeMap<(&'static str, i16), u64>,
    longest_rest_ms: u64,
}

impl Coverage {
    pub(crate) fn member(&mut self, before: &'static str, what: &'static str, code: i16, after: &'static str) {
        *self.members.entry((before, what, code, after)).or_default() += 1;
    }

    pub(crate) fn action(&mut self, action: &'static str, detail: &'static str) {
        *self.actions.entry((action, detail)).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    pub(crate) fn coordinator(&mut self, before: &'static str, request: &'static str, after: &'static str) {
        *self.coordinator.entry((before, request, after)).or_default() += 1;
    }

    pub(crate) fn answer(&mut self, request: &'static str, code: i16) {
        *self.answers.entry((request, code)).or_default() += 1;
    }

    pub(crate) fn rest(&mut self, took_ms: u64) {
        self.longest_rest_ms = self.longest_rest_ms.max(took_ms);
    }

    pub(crate) fn schedule(&mut self, kind: Kind, processed: u64, repeated: u64, virtual_ms: u64) {
        *self.schedules.entry(kind).or_default() += 1;
        self.processed += processed;
        self.repeated += repeated;
        self.virtual_ms += virtual_ms;
    }

    /// Adds what other schedules reached.
    pub fn merge(&mut self, other: Coverage) {
        add_all(&mut self.schedules, other.schedules);
        add_all(&mut self.faults, other.faults);
        add_all(&mut self.members, other.members);
        add_all(&mut self.actions, other.actions);
        add_all(&mut self.coordinator, other.coordinator);
        add_all(&mut self.answers, other.answers);
        self.requests += other.requests;
        self.processed += other.processed;
        self.repeated += other.repeated;
        self.virtual_ms += other.virtual_ms;
        self.longest_rest_ms = self.longest_rest_ms.max(other.longest_rest_ms);
    }

    /// What the schedules missed although they are there for it.
    pub fn blind_spots(&self) -> Vec<String> {
        let faults = EXPECTED.iter().filter(|what| !self.faults.contains_key(*what));
        let kinds = KINDS.iter().filter(|kind| !self.schedules.contains_key(kind));
        faults
            .map(ToString::to_string)
            .chain(kinds.map(|kind| kind.name().to_string()))
            .collect()
    }

    /// The counts as a page.
    pub fn summary(&self, first: u64, schedules: u64) -> String {
        let mut page = format!(
            "{schedules} schedules, seeds {first} to {}, {} hours of the room's time, {} requests, {} records processed, {} of \
             them again, no promise broken\n\n",
            first + schedules - 1,
            self.virtual_ms / 3_600_000,
            self.requests,
            self.processed,
            self.repeated
        );
        page += "| group | schedules |\n|---|---|\n";
        for (kind, count) in &self.schedules {
            let _ = writeln!(page, "| {} | {count} |", kind.name());
        }
        page += "\n| what happened | times |\n|---|---|\n";
        for (what, count) in &self.faults {
            let _ = writeln!(page, "| {what} | {count} |");
        }
        page += "\nWhat memberships decided:\n\n| action | | times |\n|---|---|---|\n";
        for ((action, detail), count) in &self.actions {
            let _ = writeln!(page, "| {action} | {detail} | {count} |");
        }
        page += "\nHow memberships moved:\n\n| in | on | answered | to | times |\n|---|---|---|---|---|\n";
        for ((before, what, code, after), count) in &self.members {
            let code = if what.starts_with(char::is_uppercase) {
                code_name(*code)
            } else {
                ""
            };
            let _ = writeln!(page, "| {before} | {what} | {code} | {after} | {count} |");
        }
        page += "\nHow the coordinator's group moved:\n\n| in | on | to | times |\n|---|---|---|---|\n";
        for ((before, request, after), count) in &self.coordinator {
            let _ = writeln!(page, "| {before} | {request} | {after} | {count} |");
        }
        page += "\nWhat was answered:\n\n| request | answer | times |\n|---|---|---|\n";
        for ((request, code), count) in &self.answers {
            let _ = writeln!(page, "| {request} | {} | {count} |", code_name(*code));
        }
        page
    }
}

fn add_all<K: Ord>(to: &mut BTreeMap<K, u64>, from: BTreeMap<K, u64>) {
    for (what, count) in from {
        *to.entry(what).or_default() += count;
    }
}

/// An error code by name.
pub(crate) fn code_name(code: i16) -> &'static str {
    ErrorCode::from_code(code).map_or("an unknown error", |code| code.name())
}

/// Why a rebalance begins, in a word.
pub(crate) fn reason_name(reason: &RebalanceReason) -> &'static str {
    match reason {
        RebalanceReason::Joining => "joining",
        RebalanceReason::SubscriptionChanged => "subscription changed",
        RebalanceReason::MetadataChanged => "metadata changed",
        RebalanceReason::GroupRebalancing => "group rebalances",
        RebalanceReason::PartitionsGivenUp => "partitions given up",
        RebalanceReason::NewAssignment => "new assignment",
        RebalanceReason::Rejoining(LostReason::Fenced { .. }) => "rejoining after being fenced",
        RebalanceReason::Rejoining(LostReason::SessionExpired) => "rejoining after the session",
        RebalanceReason::Rejoining(_) => "rejoining",
        RebalanceReason::Retry { .. } => "retry",
        RebalanceReason::Enforced(_) => "enforced",
        RebalanceReason::Unsubscribed => "unsubscribed",
        RebalanceReason::Closing => "closing",
        _ => "other",
    }
}
