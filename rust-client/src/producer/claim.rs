//! Claims: what whoever sends a record wants to hear of it.
//!
//! In: a record's place in its batch, under the lock of its partition. Out: a ticket, or an entry among those of the batch
//! that are told by reports. Because batches complete under the same lock, a record has its claim before anything can have
//! become of it, and every claim is settled by the batch's completion alone.

use std::sync::Arc;

use super::awaited::Awaited;
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

/// The claims on records of the batch that is open in a partition, or was the last one to be. They are kept here, under the
/// lock of the partition alone, and go to their batch when another begins or when it completes: a record costs no lock of its
/// batch.
#[derive(Debug, Default)]
pub(super) struct Claims {
    cell: Option<Arc<Cell>>,
    awaited: Vec<Awaited>,
}

impl Claims {
    /// Has a record's fate told to `reports` under `tag`, or without a tag only if it fails. The records of a batch come in the
    /// order of their places, and before anything can have become of them.
    #[inline]
    pub fn add(&mut self, cell: &Arc<Cell>, reports: &Arc<Reports>, index: u32, tag: Option<u64>, timestamp: i64) {
        if self.cell.as_ref().is_none_or(|known| !Arc::ptr_eq(known, cell)) {
            self.turn_to(cell);
        }
        let only_failures = tag.is_none();
        let known = self
            .awaited
            .iter_mut()
            .find(|known| known.is_for(reports, only_failures));
        match known {
            Some(known) => known.add(index, tag, timestamp),
            None => self.begin(reports, index, tag, timestamp),
        }
    }

    #[cold]
    fn begin(&mut self, reports: &Arc<Reports>, index: u32, tag: Option<u64>, timestamp: i64) {
        let mut awaited = Awaited::new(reports, tag.is_none());
        awaited.add(index, tag, timestamp);
        self.awaited.push(awaited);
    }

    #[cold]
    fn turn_to(&mut self, cell: &Arc<Cell>) {
        if let Some(before) = self.cell.replace(cell.clone()) {
            before.take_over(std::mem::take(&mut self.awaited));
        }
    }

    /// Gives this batch its claims, if they are here. Called before it completes.
    pub fn hand_over(&mut self, cell: &Arc<Cell>) {
        if let Some(known) = self.cell.take_if(|known| Arc::ptr_eq(known, cell)) {
            known.take_over(std::mem::take(&mut self.awaited));
        }
    }

    /// Whether nothing is claimed.
    #[cfg(test)]
    pub fn are_empty(&self) -> bool {
        self.cell.is_none() && self.awaited.is_empty()
    }
}
