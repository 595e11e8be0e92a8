//! Waiting for what was queued, and counting what became of it.
//!
//! In: the tickets of every batch that was not complete when the flush began. Out: how many of their records were
//! delivered, failed, or are in doubt, and how many are still under way if the waiting was cut short. Records that are
//! sent meanwhile are neither waited for nor counted.

use std::sync::Arc;

use super::delivery::Cell;

/// What became of the records that a [`flush`](crate::Producer::flush) waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flushed {
    /// Acknowledged (with `acks=0`: written to the socket).
    pub delivered: u64,
    /// Failed, and certainly not in the log.
    pub failed: u64,
    /// Failed, and possibly in the log.
    pub unknown: u64,
    /// Not settled yet. Always 0 after `flush`; after
    /// [`flush_timeout`](crate::Producer::flush_timeout) what the time was too short for.
    pub pending: u64,
}

impl Flushed {
    /// Whether every record waited for was delivered.
    pub fn all_delivered(&self) -> bool {
        self.failed == 0 && self.unknown == 0 && self.pending == 0
    }
}

/// The records that a flush waits for.
#[derive(Debug, Default)]
pub(super) struct Flushing {
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    cell: Arc<Cell>,
    first: u32,
    records: u32,
}

impl Flushing {
    pub fn wait_for<'a>(&mut self, tickets: impl Iterator<Item = (&'a Arc<Cell>, u32, u32)>) {
        self.parts.extend(tickets.map(|(cell, first, records)| Part {
            cell: cell.clone(),
            first,
            records,
        }));
    }

    /// Waits until all of it is complete. Cancel-safe.
    pub async fn finished(&self) {
        for part in &self.parts {
            part.cell.finished(part.first.saturating_add(part.records)).await;
        }
    }

    /// What has become of it so far.
    pub fn tally(&self) -> Flushed {
        let mut flushed = Flushed::default();
        for part in &self.parts {
            part.cell.tally(part.first, part.records, &mut flushed);
        }
        flushed
    }
}
