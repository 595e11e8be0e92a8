//! When what is due in a shard.
//!
//! In: a [`TimerKey`] and a time; setting a key again moves it. Out: the earliest time, and the keys that are due, in
//! order of their times.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::Time;

/// What is due.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TimerKey {
    /// The group it is about.
    pub group: Arc<str>,
    /// And what of it.
    pub kind: TimerKind,
}

/// The kinds of alarms of a group. Each exists once for each group, or for each of its members.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TimerKind {
    /// A classic group has waited long enough for members to join.
    Join,
    /// A classic group has waited long enough for members to sync.
    Sync,
    /// A member of a classic group was silent for its session timeout.
    Session(Arc<str>),
    /// The first of the alarms that a consumer group keeps itself.
    Consumer,
}

/// The alarms of a shard.
#[derive(Debug, Clone, Default)]
pub struct Timers {
    by_time: BTreeMap<(Time, u64), TimerKey>,
    by_key: HashMap<TimerKey, (Time, u64)>,
    /// Keeps alarms of the same time in the order in which they were set.
    number: u64,
}

impl Timers {
    /// Sets an alarm, or moves it.
    pub fn set(&mut self, key: TimerKey, at: Time) {
        self.cancel(&key);
        self.number += 1;
        self.by_time.insert((at, self.number), key.clone());
        self.by_key.insert(key, (at, self.number));
    }

    /// Takes an alarm away, if it is set.
    pub fn cancel(&mut self, key: &TimerKey) {
        if let Some(place) = self.by_key.remove(key) {
            self.by_time.remove(&place);
        }
    }

    /// Whether an alarm is set.
    pub fn is_set(&self, key: &TimerKey) -> bool {
        self.by_key.contains_key(key)
    }

    /// When the first is due.
    pub fn wake_at(&self) -> Option<Time> {
        self.by_time.first_key_value().map(|((at, _), _)| *at)
    }

    /// Takes out the first that is due at `now`.
    pub fn next_due(&mut self, now: Time) -> Option<TimerKey> {
        let first = self.by_time.first_entry()?;
        if first.key().0 > now {
            return None;
        }
        let key = first.remove();
        self.by_key.remove(&key);
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(group: &str, kind: TimerKind) -> TimerKey {
        TimerKey {
            group: group.into(),
            kind,
        }
    }

    #[test]
    fn alarms_come_in_order_of_their_times_and_of_being_set() {
        let mut timers = Timers::default();
        timers.set(key("a", TimerKind::Join), Time(20));
        timers.set(key("b", TimerKind::Join), Time(10));
        timers.set(key("a", TimerKind::Sync), Time(10));
        assert_eq!(timers.wake_at(), Some(Time(10)));
        assert_eq!(timers.next_due(Time(9)), None);
        assert_eq!(timers.next_due(Time(30)), Some(key("b", TimerKind::Join)));
        assert_eq!(timers.next_due(Time(30)), Some(key("a", TimerKind::Sync)));
        assert_eq!(timers.next_due(Time(30)), Some(key("a", TimerKind::Join)));
        assert_eq!(timers.next_due(Time(30)), None);
        assert_eq!(timers.wake_at(), None);
    }

    #[test]
    fn an_alarm_set_again_moves_and_one_cancelled_is_gone() {
        let mut timers = Timers::default();
        let session = key("a", TimerKind::Session("m".into()));
        timers.set(session.clone(), Time(10));
        timers.set(session.clone(), Time(50));
        assert_eq!(timers.next_due(Time(49)), None);
        timers.cancel(&session);
        assert!(!timers.is_set(&session));
        assert_eq!(timers.next_due(Time(99)), None);
    }
}
