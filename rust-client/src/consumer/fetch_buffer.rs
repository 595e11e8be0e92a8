//! Where fetched bytes wait for poll, within one budget.
//!
//! Bytes are reserved before a fetch goes out, so the budget holds whatever the brokers send; only a single batch
//! that is larger than its fetch asked for may exceed it. What belongs to paused partitions gives way when it is in
//! the way of the others.

use std::collections::VecDeque;

use super::decode::CompletedFetch;

/// The fetches that wait, and the budget for them (`fetch.buffer.memory`).
#[derive(Debug)]
pub(super) struct FetchBuffer {
    fetches: VecDeque<CompletedFetch>,
    limit: usize,
    /// Bytes that wait, or are being given out.
    held: usize,
    /// Bytes that fetches on the wire may bring.
    reserved: usize,
}

impl FetchBuffer {
    pub fn new(limit: usize) -> Self {
        FetchBuffer {
            fetches: VecDeque::new(),
            limit,
            held: 0,
            reserved: 0,
        }
    }

    /// Reserves room for a fetch of up to `wanted` bytes, or of fewer but at least `least`. `None` if there is no such
    /// room now. When nothing is held or reserved there always is: somebody must be able to move.
    pub fn reserve(&mut self, wanted: usize, least: usize) -> Option<usize> {
        let free = self.limit.saturating_sub(self.held + self.reserved);
        let granted = wanted.min(free);
        let empty = self.held + self.reserved == 0;
        if granted < least.min(wanted) && !empty {
            return None;
        }
        let granted = granted.max(1);
        self.reserved += granted;
        Some(granted)
    }

    /// A fetch is over: its reservation ends.
    pub fn release_reservation(&mut self, granted: usize) {
        self.reserved = self.reserved.saturating_sub(granted);
    }

    /// Takes in what a fetch brought.
    pub fn push(&mut self, fetch: CompletedFetch) {
        self.held += fetch.batches.len();
        self.fetches.push_back(fetch);
    }

    /// Takes out the first fetch that `wanted` accepts. Its bytes stay held until [`FetchBuffer::release`].
    pub fn take(&mut self, mut wanted: impl FnMut(&CompletedFetch) -> bool) -> Option<CompletedFetch> {
        let at = self.fetches.iter().position(&mut wanted)?;
        self.fetches.remove(at)
    }

    /// Drops the fetches that `stale` accepts and says which partitions and fences they had.
    pub fn discard(&mut self, mut stale: impl FnMut(&CompletedFetch) -> bool) -> Vec<CompletedFetch> {
        let mut gone = Vec::new();
        for fetch in std::mem::take(&mut self.fetches) {
            if stale(&fetch) {
                gone.push(fetch)
            } else {
                self.fetches.push_back(fetch)
            }
        }
        self.release(gone.iter().map(|fetch| fetch.batches.len()).sum());
        gone
    }

    /// `bytes` that were taken out have been handed over or dropped.
    pub fn release(&mut self, bytes: usize) {
        self.held = self.held.saturating_sub(bytes);
    }

    /// Whether a fetch of `least` bytes has no room now.
    pub fn is_full(&self, least: usize) -> bool {
        let used = self.held + self.reserved;
        used > 0 && self.limit.saturating_sub(used) < least
    }

    /// Bytes held and reserved.
    pub fn used(&self) -> usize {
        self.held + self.reserved
    }
}
