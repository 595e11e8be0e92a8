//! What the schedules reached: without it a promise that holds says nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use ottla_protocol::ErrorCode;

use crate::plan::{MODES, Mode};
use crate::world::{Transition, World};

/// What must have happened in every thousand schedules.
const EXPECTED: [&str; 20] = [
    "done",
    "failed, not written",
    "failed, possibly written",
    "sent again",
    "next epoch",
    "new producer id",
    "blocked",
    "no room in the request",
    "refused by the client",
    "connection lost",
    "stray written",
    "stray refused",
    "leader moved",
    "leader learnt with requests in flight",
    "largest batch changed",
    "topic missing from the metadata",
    "topic created again",
    "producers forgotten",
    "waiting batches given up",
    "everything given up",
];

const GAPS: [&str; 4] = ["no gap", "gap possible", "gap certain", "state lost"];
const FATES: [&str; 5] = ["done", "retry", "failed", "cut in two", "too late"];

/// Counts over many schedules.
#[derive(Default)]
pub struct Coverage {
    schedules: BTreeMap<Mode, u64>,
    records: u64,
    seen: BTreeMap<&'static str, u64>,
    transitions: BTreeMap<Transition, u64>,
}

impl Coverage {
    pub fn add(&mut self, world: &World) {
        *self.schedules.entry(world.plan.mode).or_default() += 1;
        self.records += world.partitions.iter().map(|one| one.appended).sum::<u64>();
        add_all(&mut self.seen, &world.seen);
        add_all(&mut self.transitions, &world.transitions);
    }

    pub fn merge(&mut self, other: Coverage) {
        add_all(&mut self.schedules, &other.schedules);
        self.records += other.records;
        add_all(&mut self.seen, &other.seen);
        add_all(&mut self.transitions, &other.transitions);
    }

    /// Fails if the schedules missed something that they are there for.
    pub fn refuse_blind_spots(&self, schedules: u64) {
        let seen = EXPECTED.iter().filter(|what| !self.seen.contains_key(*what));
        assert_eq!(seen.count(), 0, "reached: {:?}", self.seen);
        for mode in MODES {
            assert!(self.schedules.contains_key(&mode), "no schedule for {}", mode.name());
        }
        let outcomes: BTreeSet<&str> = self.transitions.keys().map(|row| row.1).collect();
        for outcome in ["unacknowledged", "not sent", "lost", "refused", "unknown code"] {
            assert!(outcomes.contains(outcome), "nothing was {outcome}");
        }
        // The rarest things need more schedules than a quick run has.
        if schedules < 20_000 {
            return;
        }
        for code in ErrorCode::ALL {
            assert!(outcomes.contains(code.name()), "{} was never answered", code.name());
        }
        for gap in GAPS {
            for fate in FATES {
                let reached = self.transitions.keys().any(|row| row.2 == gap && row.3 == fate);
                assert!(reached, "with {gap} nothing was {fate}");
            }
        }
    }

    /// The counts as a page.
    pub fn summary(&self, first: u64, schedules: u64) -> String {
        let last = first + schedules - 1;
        let mut page = format!(
            "{schedules} schedules, seeds {first} to {last}, {} records, {} attempts settled, no promise broken\n\n",
            self.records,
            self.transitions.values().sum::<u64>()
        );
        page += "| mode | schedules |\n|---|---|\n";
        for (mode, count) in &self.schedules {
            let _ = writeln!(page, "| {} | {count} |", mode.name());
        }
        page += "\n| what happened | times |\n|---|---|\n";
        for what in EXPECTED {
            let _ = writeln!(page, "| {what} | {} |", self.seen.get(what).unwrap_or(&0));
        }
        page += "\nWhat became of a batch, by what lay before the next sequence:\n\n| |";
        FATES.iter().for_each(|fate| page += &format!(" {fate} |"));
        page += "\n|---|---|---|---|---|---|\n";
        for gap in GAPS {
            let _ = write!(page, "| {gap} |");
            for fate in FATES {
                let rows = self.transitions.iter().filter(|(row, _)| row.2 == gap && row.3 == fate);
                let _ = write!(page, " {} |", rows.map(|(_, count)| count).sum::<u64>());
            }
            page.push('\n');
        }
        page += "\nWhat became of a batch, by the outcome of its attempt:\n\n| |";
        FATES.iter().for_each(|fate| page += &format!(" {fate} |"));
        page += "\n|---|---|---|---|---|---|\n";
        let outcomes: BTreeSet<&str> = self.transitions.keys().map(|row| row.1).collect();
        for outcome in outcomes {
            let _ = write!(page, "| {outcome} |");
            for fate in FATES {
                let rows = self
                    .transitions
                    .iter()
                    .filter(|(row, _)| row.1 == outcome && row.3 == fate);
                let _ = write!(page, " {} |", rows.map(|(_, count)| count).sum::<u64>());
            }
            page.push('\n');
        }
        page
    }
}

fn add_all<K: Ord + Copy>(to: &mut BTreeMap<K, u64>, from: &BTreeMap<K, u64>) {
    for (what, count) in from {
        *to.entry(*what).or_default() += count;
    }
}
