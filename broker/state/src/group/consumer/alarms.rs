//! The alarms of a group's members: at most one of each kind for each member.
//!
//! Setting one takes the place of the one before. Nothing here rings: the group asks what is due.

use crate::Time;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What happens when an alarm is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum AlarmKind {
    /// The member was silent for its session timeout.
    Session,
    /// The member did not give partitions up within its rebalance timeout, counted in this epoch.
    Revocation {
        /// The epoch it was to leave.
        epoch: i32,
    },
    /// A member of the classic protocol was told to join again and did not.
    Join,
    /// A member of the classic protocol has joined and did not ask for its assignment.
    Sync,
}

impl AlarmKind {
    /// Alarms of one slot replace each other.
    fn slot(self) -> u8 {
        match self {
            AlarmKind::Session => 0,
            AlarmKind::Revocation { .. } => 1,
            AlarmKind::Join => 2,
            AlarmKind::Sync => 3,
        }
    }
}

/// Every alarm of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Alarms {
    by_time: BTreeSet<(Time, Arc<str>, AlarmKind)>,
    by_member: BTreeMap<(Arc<str>, u8), (Time, AlarmKind)>,
}

impl Alarms {
    /// Sets the alarm of this kind, in place of the one before.
    pub(crate) fn set(&mut self, member: &Arc<str>, kind: AlarmKind, at: Time) {
        self.cancel(member, kind);
        self.by_member.insert((member.clone(), kind.slot()), (at, kind));
        self.by_time.insert((at, member.clone(), kind));
    }

    /// Sets the alarm of this kind if there is none.
    pub(crate) fn set_if_absent(&mut self, member: &Arc<str>, kind: AlarmKind, at: Time) {
        if !self.by_member.contains_key(&(member.clone(), kind.slot())) {
            self.set(member, kind, at);
        }
    }

    /// Forgets the alarm of this kind.
    pub(crate) fn cancel(&mut self, member: &Arc<str>, kind: AlarmKind) {
        if let Some((at, kind)) = self.by_member.remove(&(member.clone(), kind.slot())) {
            self.by_time.remove(&(at, member.clone(), kind));
        }
    }

    /// Forgets every alarm of a member.
    pub(crate) fn cancel_all(&mut self, member: &Arc<str>) {
        for kind in [
            AlarmKind::Session,
            AlarmKind::Revocation { epoch: 0 },
            AlarmKind::Join,
            AlarmKind::Sync,
        ] {
            self.cancel(member, kind);
        }
    }

    /// The earliest alarm.
    pub(crate) fn wake_at(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _, _)| *at)
    }

    /// Takes the earliest alarm that is due.
    pub(crate) fn take_due(&mut self, now: Time) -> Option<(Arc<str>, AlarmKind)> {
        let (at, member, kind) = self.by_time.first()?.clone();
        if at > now {
            return None;
        }
        self.cancel(&member, kind);
        Some((member, kind))
    }
}
