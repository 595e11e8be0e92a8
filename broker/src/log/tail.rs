//! The tail of a log in memory: the batches just appended, for those who follow it live.
//!
//! In: appended batches. Out: the same bytes, shared, not copied. All logs of a broker share one budget; a batch also
//! leaves after a few seconds, so a broker at rest holds nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;

use super::scan::BatchHeader;

/// How many milliseconds an appended batch stays at most. Whoever reads later reads from the disk.
const STAY_MS: i64 = 5_000;

/// The bytes that all tails together may hold.
#[derive(Debug)]
pub struct TailBudget {
    limit: usize,
    used: AtomicUsize,
}

impl TailBudget {
    /// Allows `limit` bytes; 0 turns the cache off.
    pub fn new(limit: usize) -> Arc<TailBudget> {
        Arc::new(TailBudget {
            limit,
            used: AtomicUsize::new(0),
        })
    }

    /// Bytes held now.
    pub fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    fn is_exceeded(&self) -> bool {
        self.used() > self.limit
    }
}

#[derive(Debug)]
struct TailBatch {
    base_offset: i64,
    last_offset: i64,
    bytes: Bytes,
    appended_ms: i64,
}

/// The tail of one log. Its batches follow one another without a gap up to the log's end.
#[derive(Debug)]
pub(super) struct Tail {
    budget: Arc<TailBudget>,
    batches: VecDeque<TailBatch>,
}

impl Tail {
    /// An empty tail.
    pub fn new(budget: Arc<TailBudget>) -> Tail {
        Tail {
            budget,
            batches: VecDeque::new(),
        }
    }

    /// Keeps a batch that was just appended, and lets the oldest go while the budget is exceeded.
    pub fn push(&mut self, header: &BatchHeader, bytes: Bytes, now_ms: i64) {
        self.budget.used.fetch_add(bytes.len(), Ordering::Relaxed);
        let (base_offset, last_offset) = (header.base_offset, header.last_offset);
        self.batches.push_back(TailBatch {
            base_offset,
            last_offset,
            bytes,
            appended_ms: now_ms,
        });
        while self.budget.is_exceeded() && self.pop() {}
    }

    /// Whole batches from the one that holds `offset` on, within `max_bytes` and below `upper`, and the offset after
    /// them. `None` if `offset` lies before the tail: the disk must answer.
    pub fn read(&self, offset: i64, max_bytes: usize, upper: i64, at_least_one: bool) -> Option<(Vec<Bytes>, i64)> {
        if self.batches.front()?.base_offset > offset {
            return None;
        }
        let first = self.batches.partition_point(|batch| batch.last_offset < offset);
        let (mut taken, mut room, mut next_offset) = (Vec::new(), max_bytes, offset);
        for batch in self.batches.range(first..) {
            let forced = at_least_one && taken.is_empty();
            if batch.last_offset >= upper || (batch.bytes.len() > room && !forced) {
                break;
            }
            room = room.saturating_sub(batch.bytes.len());
            taken.push(batch.bytes.clone());
            next_offset = batch.last_offset + 1;
        }
        Some((taken, next_offset))
    }

    /// Lets go of what was appended more than a few seconds before `now_ms`.
    pub fn expire(&mut self, now_ms: i64) {
        while self
            .batches
            .front()
            .is_some_and(|batch| now_ms.saturating_sub(batch.appended_ms) > STAY_MS)
        {
            self.pop();
        }
        if self.batches.is_empty() {
            self.batches = VecDeque::new();
        }
    }

    /// Lets go of everything: the log was truncated or closed.
    pub fn clear(&mut self) {
        while self.pop() {}
    }

    fn pop(&mut self) -> bool {
        let Some(batch) = self.batches.pop_front() else {
            return false;
        };
        self.budget.used.fetch_sub(batch.bytes.len(), Ordering::Relaxed);
        true
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        self.clear();
    }
}
