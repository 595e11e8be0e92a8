//! What an answer of the coordinator waits for.
//!
//! In: where the records of an operation end. Out: leave to answer, or why not.

use crate::purgatory::Waiter;
use crate::replica_manager::Partition;
use ottla_broker_state::group::GroupReply;
use ottla_protocol::ErrorCode;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::timeout;

/// The records that must be committed before an answer may leave.
#[derive(Debug, Clone)]
pub struct Commit {
    pub(super) partition: Arc<Partition>,
    /// The leader epoch in which they were written.
    pub(super) epoch: i32,
    /// One past the last of them.
    pub(super) end: i64,
    /// `flush.messages` wants them fsynced first.
    pub(super) flush: bool,
    /// `offsets.commit.timeout.ms`.
    pub(super) timeout: Duration,
}

impl Commit {
    /// True if the answer may leave at once.
    pub fn is_done(&self) -> bool {
        !self.flush && self.partition.high_watermark() >= self.end
    }

    /// Waits until the answer may leave.
    ///
    /// # Errors
    /// NOT_COORDINATOR if the partition has another leader now, or its disk fails; COORDINATOR_NOT_AVAILABLE if the
    /// records are not committed in time. They may be later.
    pub async fn done(self) -> Result<(), ErrorCode> {
        if self.flush {
            let (log, end) = (Arc::clone(self.partition.log()), self.end);
            let flushed = tokio::task::spawn_blocking(move || log.flush_to(end)).await;
            if !matches!(flushed, Ok(Ok(()))) {
                return Err(ErrorCode::NotCoordinator);
            }
        }
        if self.partition.high_watermark() < self.end {
            let waiter = Waiter::new(1);
            let registered = Registered {
                partition: &self.partition,
                waiter: &waiter,
            };
            self.partition.waiting().await_high_watermark(self.end, &waiter);
            // It may have moved between the look and the registration.
            self.partition.waiting().committed(self.partition.high_watermark());
            let _ = timeout(self.timeout, waiter.woken()).await;
            drop(registered);
        }
        if self.partition.check_leader(self.epoch).is_err() {
            return Err(ErrorCode::NotCoordinator);
        }
        if self.partition.high_watermark() < self.end {
            return Err(ErrorCode::CoordinatorNotAvailable);
        }
        Ok(())
    }
}

/// Leaves nothing behind in the partition's list, however the waiting ends.
struct Registered<'a> {
    partition: &'a Partition,
    waiter: &'a Arc<Waiter>,
}

impl Drop for Registered<'_> {
    fn drop(&mut self) {
        self.partition.waiting().forget(self.waiter);
    }
}

/// An answer, and what it still waits for.
#[derive(Debug, Clone)]
pub struct Released<T> {
    /// The answer.
    pub reply: T,
    /// To be waited for before it leaves.
    pub commit: Commit,
}

/// An answer that is there, or will be.
#[derive(Debug)]
pub enum Promise<T> {
    /// It is there.
    Now(Released<T>),
    /// It comes when other members have done their part. If it is dropped instead, the coordinator has moved.
    Later(oneshot::Receiver<Released<GroupReply>>),
}
