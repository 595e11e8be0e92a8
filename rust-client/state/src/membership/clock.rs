//! The clocks and counters that a member of either protocol has: polls, attempts, trouble with the coordinator.

use std::collections::BTreeSet;

use super::{CoordinatorTrouble, GroupConfig, RequestKind};
use crate::Time;
use crate::backoff::Backoff;

/// How long the application may be silent.
#[derive(Debug)]
pub(super) struct PollClock {
    interval_ms: u64,
    deadline: Time,
}

impl PollClock {
    pub(super) fn new(interval_ms: u64) -> PollClock {
        PollClock {
            interval_ms,
            deadline: Time::MAX,
        }
    }

    /// A sign of life. An extension granted before does not outlast it: the application is back.
    pub(super) fn polled(&mut self, now: Time) {
        self.deadline = now.plus_ms(self.interval_ms);
    }

    /// No sign of life is expected before `until`.
    pub(super) fn extended(&mut self, until: Time) {
        self.deadline = self.deadline.max(until);
    }

    pub(super) fn deadline(&self) -> Time {
        self.deadline
    }
}

/// Attempts at the coordinator: when the next may be made, what is wrong.
#[derive(Debug)]
pub(super) struct Attempts {
    backoff: Backoff,
    failures: u32,
    not_before: Time,
    trouble: Option<CoordinatorTrouble>,
}

impl Attempts {
    pub(super) fn new(config: &GroupConfig) -> Attempts {
        Attempts {
            backoff: Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms, config.seed),
            failures: 0,
            not_before: Time::ZERO,
            trouble: None,
        }
    }

    pub(super) fn not_before(&self) -> Time {
        self.not_before
    }

    pub(super) fn trouble(&self) -> Option<&CoordinatorTrouble> {
        self.trouble.as_ref()
    }

    /// An attempt failed and the coordinator is to blame: it is not there, or not ready.
    pub(super) fn failed(&mut self, request: RequestKind, code: Option<i16>, now: Time) {
        self.postponed(now);
        let (since, failures) = self.trouble.as_ref().map_or((now, 0), |t| (t.since, t.failures));
        self.trouble = Some(CoordinatorTrouble {
            request,
            code,
            since,
            failures: failures.saturating_add(1),
        });
    }

    /// An attempt came to nothing, and nobody is to blame; the next one waits.
    pub(super) fn postponed(&mut self, now: Time) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.plus_ms(self.backoff.next_ms(self.failures));
    }

    /// As `postponed`, but the first time costs no wait: what is repeated now is another request than before.
    pub(super) fn repeated(&mut self, now: Time) {
        if self.failures == 0 {
            self.failures = 1;
        } else {
            self.postponed(now);
        }
    }

    /// The coordinator answered, and is there.
    pub(super) fn answered(&mut self) {
        self.trouble = None;
    }

    /// What was attempted is done.
    pub(super) fn succeeded(&mut self) {
        self.trouble = None;
        self.failures = 0;
        self.not_before = Time::ZERO;
    }
}

/// Which requests are under way, and the answers of which are not wanted any more.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    sent: BTreeSet<RequestKind>,
    stale: BTreeSet<RequestKind>,
}

/// What an answer is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Arrival {
    /// It was waited for.
    Awaited,
    /// What it answers has been overtaken.
    Stale,
    /// Nothing of that kind was sent.
    Unasked,
}

impl UnderWay {
    pub(super) fn send(&mut self, kind: RequestKind) {
        self.sent.insert(kind);
    }

    pub(super) fn is(&self, kind: RequestKind) -> bool {
        self.sent.contains(&kind)
    }

    /// The answer to what is under way of this kind will be too late.
    pub(super) fn forget(&mut self, kind: RequestKind) {
        if self.sent.contains(&kind) {
            self.stale.insert(kind);
        }
    }

    pub(super) fn arrived(&mut self, kind: RequestKind) -> Arrival {
        if !self.sent.remove(&kind) {
            Arrival::Unasked
        } else if self.stale.remove(&kind) {
            Arrival::Stale
        } else {
            Arrival::Awaited
        }
    }
}
