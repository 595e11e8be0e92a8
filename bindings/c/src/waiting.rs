//! Blocking calls: on a bell, or on a future, with a deadline, until somebody wakes us.
//!
//! In: something to wait for, and how long. Out: that it is there, `timeout`, or `interrupted`. Signals that interrupt a
//! system call do not end the waiting; a handler that wants to end it calls the wake function of the client.

use std::future::Future;
use std::time::{Duration, Instant};

use ottla_bindings_core::{Bell, Error, Kind, wait};

use crate::handles::Place;

/// How often a call that waits for a future looks whether it was woken.
const SLICE: Duration = Duration::from_millis(50);

/// Until when a call waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deadline {
    /// `None`: for ever.
    at: Option<Instant>,
    ms: i32,
}

impl Deadline {
    /// From a caller's milliseconds; negative ones are for ever.
    pub fn after(ms: i32) -> Deadline {
        let timeout = u64::try_from(ms).ok().map(Duration::from_millis);
        Deadline {
            at: timeout.and_then(|timeout| Instant::now().checked_add(timeout)),
            ms,
        }
    }

    /// What is left; `None` for ever.
    pub fn left(self) -> Option<Duration> {
        self.at.map(|at| at.saturating_duration_since(Instant::now()))
    }

    pub fn is_over(self) -> bool {
        self.left().is_some_and(|left| left.is_zero())
    }

    fn error(self, what: &str) -> Error {
        Error::new(
            Kind::Timeout,
            format!("{what} took longer than the {} ms given to it", self.ms),
        )
    }
}

/// The error of a call that was woken.
pub(crate) fn interrupted() -> Error {
    Error::new(Kind::Interrupted, "the wait was ended from elsewhere")
}

/// Waits until the bell rings, or until the deadline. May return for nothing: an interrupted system call is no end of the
/// waiting, and the caller looks at the clock anyway.
pub(crate) fn on_bell(bell: &Bell, deadline: Deadline) {
    bell.wait(deadline.left());
}

/// Waits for a future, until the deadline or until somebody wakes the client at `place`. `what` is its name in the error.
pub(crate) fn for_future<F: Future, T>(
    future: F,
    deadline: Deadline,
    place: &Place<T>,
    what: &str,
) -> Result<F::Output, Error> {
    let slice = deadline.left().map_or(SLICE, |left| left.min(SLICE));
    wait(future, slice, || {
        if place.was_woken() {
            return Err(interrupted());
        }
        match deadline.is_over() {
            true => Err(deadline.error(what)),
            false => Ok(()),
        }
    })
}
