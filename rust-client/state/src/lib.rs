//! The decisions of the Ottla client: state machines without I/O, clock or randomness of their own.
//!
//! # The grammar of machines
//!
//! A machine decides. It owns no socket, no file, no clock and no source of randomness.
//!
//! - `handle_*(input, now)`: something happened; returns nothing.
//! - `next_*(now)`: what to do next, as data; call it until it returns `None`.
//! - `wake_at()`: when to call `handle_timeout` or `next_*` again; `None` means no alarm.
//!
//! Calling `next_*` too often is harmless: a machine with nothing to do says so. Inputs must come in order of `now`
//! (the driver takes `now` inside the lock, so it never goes back). A machine never calls its caller.
//!
//! # The machines
//!
//! | room | decides |
//! |---|---|
//! | [`metadata`] | what the cluster looks like, which of two answers is newer, when to ask again |
//! | [`subscription`] | what is assigned, from where to fetch next, what is paused, what must be reset |
//! | [`fetch_session`] | what a broker remembers of a consumer's fetches, and so what the next one need not say |
//! | [`partitioner`] | which partition a record goes to |
//! | [`partition_queue`] | what of one partition leaves next, what is retried, which tickets complete |
//! | [`sequence`] | what an attempt's outcome means, which sequence comes next |
//! | [`membership`] | when a consumer joins its group, what it lets go and takes over, when it is lost |
//! | [`commit`] | which offsets are to be committed, and when |
//! | [`assignor`] | which member of a classic group reads which partition |
//! | [`backoff`] | how long to wait before the next attempt |

pub mod assignor;
pub mod backoff;
pub mod batch;
pub mod commit;
pub mod fetch_session;
pub mod membership;
pub mod metadata;
pub mod partition_queue;
pub mod partitioner;
pub mod sequence;
pub mod subscription;

use std::fmt;
use std::sync::Arc;

/// Milliseconds since the client started: monotonic, printable, and constructible in a simulator.
///
/// It says nothing about the date, so a jump of the wall clock moves no timeout.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(pub u64);

impl Time {
    /// The moment the client started.
    pub const ZERO: Time = Time(0);
    /// Later than everything.
    pub const MAX: Time = Time(u64::MAX);

    /// The moment `ms` milliseconds later; stops at [`Time::MAX`].
    #[must_use]
    pub fn plus_ms(self, ms: u64) -> Time {
        Time(self.0.saturating_add(ms))
    }

    /// Milliseconds from `earlier` to `self`; zero when `earlier` is later.
    pub fn ms_since(self, earlier: Time) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ms", self.0)
    }
}

/// One partition of one topic.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index, from 0.
    pub partition: i32,
}

impl TopicPartition {
    /// Partition `partition` of `topic`.
    pub fn new(topic: impl Into<Arc<str>>, partition: i32) -> Self {
        TopicPartition {
            topic: topic.into(),
            partition,
        }
    }
}

impl fmt::Display for TopicPartition {
    /// `orders-3`, as Kafka's own tools write it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)
    }
}

impl<T: Into<Arc<str>>> From<(T, i32)> for TopicPartition {
    fn from((topic, partition): (T, i32)) -> Self {
        TopicPartition::new(topic, partition)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_never_overflows_and_never_goes_negative() {
        assert_eq!(Time::MAX.plus_ms(1), Time::MAX);
        assert_eq!(Time(3).ms_since(Time(5)), 0);
        assert_eq!(Time(5).ms_since(Time(3)), 2);
    }

    #[test]
    fn a_partition_prints_as_kafka_prints_it() {
        assert_eq!(TopicPartition::new("orders", 3).to_string(), "orders-3");
    }
}
