//! What an application hears of rebalances: a listener that is called inside its polls, or events that it takes.
//!
//! A program has one of the two, or neither. With a listener ([`ConsumerBuilder::rebalance_listener`]) each call happens
//! on the thread that polls, inside of that poll. With events ([`ConsumerBuilder::rebalance_events`]) the program takes
//! them itself ([`Consumer::try_event`]) and says when it has let go ([`Consumer::acknowledge_revocation`]), which leaves
//! it time to wait for its own tasks. Without either nothing needs to be done but to poll.
//!
//! [`Consumer::try_event`]: super::Consumer::try_event
//! [`Consumer::acknowledge_revocation`]: super::Consumer::acknowledge_revocation
//! [`ConsumerBuilder::rebalance_listener`]: super::ConsumerBuilder::rebalance_listener
//! [`ConsumerBuilder::rebalance_events`]: super::ConsumerBuilder::rebalance_events

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use ottla_client_state::TopicPartition;
use ottla_client_state::commit::OffsetAndMetadata;

use super::fetcher::Shared;
use crate::error::{Error, ErrorKind, Result};

/// Is told when partitions come and go. Kafka's `ConsumerRebalanceListener`.
///
/// Called inside [`Consumer::poll`](super::Consumer::poll) and [`Consumer::close`](super::Consumer::close) of the
/// application, never elsewhere, one call at a time, in the order in which things happened. A call holds that poll up, and
/// counts against `max.poll.interval.ms`.
pub trait RebalanceListener: Send + Sync {
    /// These partitions are assigned now, and nothing of them has been handed over yet: the moment to
    /// [`seek`](Rebalance::seek), if positions are kept elsewhere. May be empty.
    fn on_partitions_assigned(&self, rebalance: &Rebalance<'_>) {
        let _ = rebalance;
    }

    /// These partitions are given up: nothing of them is handed over any more, and they go to other members after this
    /// call. What was handed over counts as processed now (unless `enable.auto.offset.store=false`), and is committed
    /// after this call with `enable.auto.commit`; other offsets can be committed by [`Rebalance::commit`]. The moment to
    /// store what belongs to them.
    fn on_partitions_revoked(&self, rebalance: &Rebalance<'_>) {
        let _ = rebalance;
    }

    /// The membership is gone, and these partitions belong to others already: nothing of them can be committed. By
    /// default, as in Java, `on_partitions_revoked` is called.
    fn on_partitions_lost(&self, rebalance: &Rebalance<'_>) {
        self.on_partitions_revoked(rebalance);
    }
}

/// What a listener may do while it is called.
pub struct Rebalance<'a> {
    partitions: &'a [TopicPartition],
    shared: &'a Arc<Shared>,
    kind: RebalanceKind,
    commits: std::sync::Mutex<BTreeMap<TopicPartition, OffsetAndMetadata>>,
}

/// What happened to the partitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RebalanceKind {
    Assigned,
    Revoked,
    Lost,
}

impl fmt::Debug for Rebalance<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rebalance")
            .field("kind", &self.kind)
            .field("partitions", &self.partitions)
            .finish_non_exhaustive()
    }
}

impl<'a> Rebalance<'a> {
    pub(super) fn new(partitions: &'a [TopicPartition], shared: &'a Arc<Shared>, kind: RebalanceKind) -> Self {
        Rebalance {
            partitions,
            shared,
            kind,
            commits: std::sync::Mutex::default(),
        }
    }

    pub(super) fn into_commits(self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        self.commits
            .into_inner()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    /// The partitions that come or go, in order.
    pub fn partitions(&self) -> &'a [TopicPartition] {
        self.partitions
    }

    /// The offset of the next record that would have been handed over, if it is known yet.
    pub fn position(&self, partition: &TopicPartition) -> Option<i64> {
        self.shared.lock().subscription.position(partition)
    }

    /// Goes on at `offset`, instead of at the committed one.
    ///
    /// # Errors
    /// The partition is not assigned, or the offset is negative.
    pub fn seek(&self, partition: &TopicPartition, offset: i64) -> Result<()> {
        super::seek(self.shared, partition, offset)
    }

    /// Has offsets of revoked partitions committed before they go to other members.
    ///
    /// # Errors
    /// The partition is not among those that are being revoked, or the membership is lost.
    pub fn commit(&self, partition: &TopicPartition, offset: impl Into<OffsetAndMetadata>) -> Result<()> {
        if self.kind != RebalanceKind::Revoked || !self.partitions.contains(partition) {
            let text = match self.kind {
                RebalanceKind::Lost => format!("{partition} was lost: it belongs to another member already"),
                _ => format!("{partition} is not being revoked; commit it outside of the listener"),
            };
            return Err(Error::new(ErrorKind::Fenced, text).with_partition(partition, None));
        }
        let mut commits = self.commits.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        commits.insert(partition.clone(), offset.into());
        Ok(())
    }
}

/// What happened to a consumer, for applications that ask for it.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum ConsumerEvent {
    /// A rebalance begins; why, in words.
    Rebalancing(String),
    /// These partitions are assigned now; may be empty.
    Assigned(Vec<TopicPartition>),
    /// These partitions are being given up: nothing of them is handed over any more. They go to other members after
    /// [`Consumer::acknowledge_revocation`](super::Consumer::acknowledge_revocation).
    Revoked(Vec<TopicPartition>),
    /// These partitions belong to others already; may be empty. The error says why; the next poll gives it, too.
    Lost(Vec<TopicPartition>, Error),
    /// Offsets could not be committed automatically.
    CommitFailed(Error),
    /// A partition has records and does not move; why.
    Stalled(super::progress::PartitionProgress),
}
