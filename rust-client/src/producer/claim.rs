//! Claims: what whoever sends a record wants to hear of it.
//!
//! In: a record's place in its batch, under the lock of its partition. Out: a ticket, or an entry among those of the batch
//! that are told by reports. Because batches complete under the same lock, a record has its claim before anything can have
//! become of it, and every claim is settled by the batch's completion alone.

use std::sync::Arc;

use super::awaited::Claims;
use super::delivery::{Cell, Delivery};
use super::reports::Reports;

/// What is wanted of a record. Every way of sending is made for each of them.
pub(super) trait Claim: Copy + Send + Sync + Unpin {
    /// What the caller gets.
    type Of: Send;

    /// Makes the claim. Called under the partition's lock, with a batch that is not complete and the claims that the lock
    /// guards.
    fn on(self, claims: &mut Claims, cell: &Arc<Cell>, index: u32, timestamp: i64) -> Self::Of;
}

/// A ticket.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ticket;

impl Claim for Ticket {
    type Of = Delivery;

    #[inline]
    fn on(self, _: &mut Claims, cell: &Arc<Cell>, index: u32, timestamp: i64) -> Delivery {
        Delivery::new(cell.clone(), index, timestamp)
    }
}

/// A report: under this tag, or without one and only if the record fails.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    pub reports: &'a Arc<Reports>,
    pub tag: Option<u64>,
}

impl Claim for Told<'_> {
    type Of = ();

    #[inline]
    fn on(self, claims: &mut Claims, cell: &Arc<Cell>, index: u32, timestamp: i64) {
        claims.add(cell, self.reports, index, self.tag, timestamp);
    }
}
