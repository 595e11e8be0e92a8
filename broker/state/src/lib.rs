//! The decisions of the Ottla broker: state machines without I/O, clock or randomness of their own.
//!
//! # The grammar of machines
//! A machine decides. It owns no socket, no file, no clock and no randomness: events and [`Time`] go in, data comes
//! out, and the driver (the `ottla-broker` crate) executes what came out.
//!
//! A request deserves exactly one reply, so a machine of the broker returns its output at once: either a plain value,
//! or an [`Effect`] when the reply must wait until records are committed. Inputs come in order of `now` (the driver
//! takes `now` inside the lock that guards the machine), and a machine never calls its caller.

use std::fmt;
use std::ops::Add;

pub mod controller;
pub mod fetch_sessions;
pub mod group;
pub mod leader_epochs;
pub mod partition;
pub mod producers;

/// Milliseconds since the broker started.
///
/// Monotonic: a jump of the wall clock does not move it. Constructible by hand, so a test or a simulation owns time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Time(pub u64);

impl Time {
    /// Milliseconds from `earlier` to `self`; zero when `earlier` is later.
    pub fn since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<u64> for Time {
    type Output = Time;

    /// `milliseconds` later; stops at the end of time instead of wrapping.
    fn add(self, milliseconds: u64) -> Time {
        Time(self.0.saturating_add(milliseconds))
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// The result of one operation of a machine whose state lives in a log.
///
/// The driver appends `records`, replays them into the machine and lets `reply` leave once they are committed. Life,
/// recovery and tests go through the same replay, so they cannot disagree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Effect<Record, Reply> {
    /// Appended to the log *before* the reply may leave, in this order.
    pub records: Vec<Record>,
    /// Released when `records` are committed; at once if there are none.
    pub reply: Reply,
}

impl<Record, Reply> Effect<Record, Reply> {
    /// An answer that changes nothing.
    pub fn reply(reply: Reply) -> Self {
        Effect {
            records: Vec::new(),
            reply,
        }
    }
}
