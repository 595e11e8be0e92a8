//! Server-side assignors: who should consume which partition.
//!
//! In: for each member what it subscribes to and what it was meant to have so far, and the partition counts of the
//! topics. Out: what each member should have from now on, the target assignment. An assignor sees no member epochs and
//! does not know what members hold at the moment: how to get from here to there without a partition having two owners
//! is the business of [`super::reconcile`].
//!
//! Both assignors are functions of their input alone, and iterate in sorted order: the same group always gets the same
//! answer.

use super::Partitions;
use ottla_protocol::Uuid;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

mod range;
mod uniform;

#[cfg(test)]
mod tests;

/// A server-side assignor (`group.consumer.assignors`, and `ServerAssignor` of ConsumerGroupHeartbeat).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerAssignor {
    /// As many partitions for each member as possible alike, moving as few as possible.
    Uniform,
    /// Contiguous ranges of every topic, so topics with equal counts are consumed side by side.
    Range,
}

impl ServerAssignor {
    /// Every assignor there is, the default first.
    pub const ALL: [ServerAssignor; 2] = [ServerAssignor::Uniform, ServerAssignor::Range];

    /// The name clients and configurations use.
    pub fn name(self) -> &'static str {
        match self {
            ServerAssignor::Uniform => "uniform",
            ServerAssignor::Range => "range",
        }
    }

    /// The assignor with this name.
    pub fn by_name(name: &str) -> Option<ServerAssignor> {
        ServerAssignor::ALL.into_iter().find(|assignor| assignor.name() == name)
    }

    /// The target of every member in `members`. A member that gets nothing has an empty entry.
    ///
    /// Every partition of every topic somebody subscribes to is given to exactly one of its subscribers. Topics without
    /// an entry in `partition_counts` do not exist and are passed over.
    pub(crate) fn assign(
        self,
        members: &BTreeMap<Arc<str>, MemberSpec>,
        partition_counts: &BTreeMap<Uuid, i32>,
    ) -> BTreeMap<Arc<str>, Partitions> {
        match self {
            ServerAssignor::Uniform => uniform::assign(members, partition_counts),
            ServerAssignor::Range => range::assign(members, partition_counts),
        }
    }
}

/// What an assignor knows about a member.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct MemberSpec {
    /// Its static instance id.
    pub(crate) instance_id: Option<Arc<str>>,
    /// The topics it subscribes to.
    pub(crate) topics: BTreeSet<Uuid>,
    /// What the last target assignment gave it.
    pub(crate) assigned: Partitions,
}
