//! Leader epochs: which leader wrote which range of a partition's log.
//!
//! In: "epoch E starts at offset O", truncations of either end. Out: the end offset of an epoch (KIP-101, KIP-279),
//! the epoch of an offset. It knows nothing of files; whoever changes it writes `leader-epoch-checkpoint` when a
//! call answers that something changed.
//!
//! Entries grow strictly in both epoch and start offset: an entry that would break this removes those it contradicts.

/// One leader epoch and the offset of the first record written in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEntry {
    /// The leader epoch; never negative.
    pub epoch: i32,
    /// First offset of the epoch; never negative.
    pub start_offset: i64,
}

/// Where an epoch ends, as OffsetForLeaderEpoch answers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEndOffset {
    /// The largest known epoch not above the requested one (or the requested one when all known are above it).
    pub epoch: i32,
    /// First offset that does not belong to it.
    pub end_offset: i64,
}

/// The leader epochs of one partition, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeaderEpochs {
    entries: Vec<EpochEntry>,
}

impl LeaderEpochs {
    /// Builds the history from checkpoint entries. Entries that contradict later ones are dropped, as in [`assign`].
    ///
    /// [`assign`]: LeaderEpochs::assign
    pub fn from_entries(entries: impl IntoIterator<Item = EpochEntry>) -> LeaderEpochs {
        let mut epochs = LeaderEpochs::default();
        for entry in entries {
            epochs.assign(entry.epoch, entry.start_offset);
        }
        epochs
    }

    /// All entries, oldest first.
    pub fn entries(&self) -> &[EpochEntry] {
        &self.entries
    }

    /// Records that `epoch` starts at `start_offset`. True when the history changed and must be written.
    ///
    /// A repeat of the latest epoch at the same or a later offset changes nothing. Negative values are ignored:
    /// batches written before leader epochs existed carry -1.
    pub fn assign(&mut self, epoch: i32, start_offset: i64) -> bool {
        if epoch < 0 || start_offset < 0 {
            return false;
        }
        if self
            .entries
            .last()
            .is_some_and(|last| last.epoch == epoch && last.start_offset <= start_offset)
        {
            return false;
        }
        while self
            .entries
            .last()
            .is_some_and(|last| last.epoch >= epoch || last.start_offset >= start_offset)
        {
            self.entries.pop();
        }
        self.entries.push(EpochEntry { epoch, start_offset });
        true
    }

    /// The latest epoch, if any batch or leader has set one.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.entries.last().map(|entry| entry.epoch)
    }

    /// The oldest entry still known.
    pub fn earliest(&self) -> Option<EpochEntry> {
        self.entries.first().copied()
    }

    /// The epoch in which `offset` was (or will be) written; `None` below the first entry.
    pub fn epoch_for_offset(&self, offset: i64) -> Option<i32> {
        let after = self.entries.partition_point(|entry| entry.start_offset <= offset);
        after
            .checked_sub(1)
            .and_then(|index| self.entries.get(index))
            .map(|entry| entry.epoch)
    }

    /// Where `epoch` ends in a log that ends at `log_end_offset`.
    ///
    /// `None` when the epoch is negative or newer than anything known. An epoch older than all known ones ends where
    /// the first known one starts: the data between is gone from the log.
    pub fn end_offset_for(&self, epoch: i32, log_end_offset: i64) -> Option<EpochEndOffset> {
        if epoch < 0 {
            return None;
        }
        if self.latest_epoch() == Some(epoch) {
            return Some(EpochEndOffset {
                epoch,
                end_offset: log_end_offset,
            });
        }
        let higher = self.entries.partition_point(|entry| entry.epoch <= epoch);
        let end_offset = self.entries.get(higher)?.start_offset;
        let floor = higher.checked_sub(1).and_then(|index| self.entries.get(index));
        Some(EpochEndOffset {
            epoch: floor.map_or(epoch, |entry| entry.epoch),
            end_offset,
        })
    }

    /// Drops every epoch that starts at or after `end_offset`. True when something changed.
    pub fn truncate_from_end(&mut self, end_offset: i64) -> bool {
        let before = self.entries.len();
        while self.entries.last().is_some_and(|last| last.start_offset >= end_offset) {
            self.entries.pop();
        }
        self.entries.len() != before
    }

    /// Drops what lies wholly below `start_offset`; the epoch that covers it now starts there. True when changed.
    pub fn truncate_from_start(&mut self, start_offset: i64) -> bool {
        let covered = self.entries.partition_point(|entry| entry.start_offset <= start_offset);
        let Some(keep) = covered.checked_sub(1) else {
            return false;
        };
        self.entries.drain(..keep);
        match self.entries.first_mut() {
            Some(first) if first.start_offset != start_offset => first.start_offset = start_offset,
            _ => return keep > 0,
        }
        true
    }

    /// Forgets everything. True when something changed.
    pub fn clear(&mut self) -> bool {
        let changed = !self.entries.is_empty();
        self.entries.clear();
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn epochs(pairs: &[(i32, i64)]) -> LeaderEpochs {
        LeaderEpochs::from_entries(
            pairs
                .iter()
                .map(|&(epoch, start_offset)| EpochEntry { epoch, start_offset }),
        )
    }

    fn pairs(epochs: &LeaderEpochs) -> Vec<(i32, i64)> {
        epochs
            .entries()
            .iter()
            .map(|entry| (entry.epoch, entry.start_offset))
            .collect()
    }

    #[test]
    fn a_repeated_epoch_changes_nothing() {
        let mut epochs = epochs(&[(0, 0), (2, 10)]);
        assert!(!epochs.assign(2, 10));
        assert!(!epochs.assign(2, 15));
        assert!(epochs.assign(3, 15));
        assert_eq!(pairs(&epochs), [(0, 0), (2, 10), (3, 15)]);
    }

    #[test]
    fn a_contradicting_entry_removes_what_it_contradicts() {
        let mut lower_offset = epochs(&[(0, 0), (2, 10), (4, 20)]);
        assert!(lower_offset.assign(5, 10));
        assert_eq!(pairs(&lower_offset), [(0, 0), (5, 10)]);
        let mut lower_epoch = epochs(&[(0, 0), (2, 10), (4, 20)]);
        assert!(lower_epoch.assign(1, 30));
        assert_eq!(pairs(&lower_epoch), [(0, 0), (1, 30)]);
    }

    #[test]
    fn negative_epochs_are_ignored() {
        let mut epochs = LeaderEpochs::default();
        assert!(!epochs.assign(-1, 0));
        assert!(!epochs.assign(0, -1));
        assert_eq!(epochs.latest_epoch(), None);
    }

    #[test]
    fn an_epoch_ends_where_the_next_begins() {
        let epochs = epochs(&[(2, 10), (4, 20), (7, 30)]);
        let end = |epoch| epochs.end_offset_for(epoch, 40).map(|end| (end.epoch, end.end_offset));
        assert_eq!(end(-1), None);
        assert_eq!(end(1), Some((1, 10)), "older than all: ends where the first begins");
        assert_eq!(end(2), Some((2, 20)));
        assert_eq!(end(3), Some((2, 20)), "unknown: the floor answers");
        assert_eq!(end(6), Some((4, 30)));
        assert_eq!(end(7), Some((7, 40)), "the latest ends at the log end");
        assert_eq!(end(8), None);
        assert_eq!(LeaderEpochs::default().end_offset_for(0, 5), None);
    }

    #[test]
    fn an_offset_belongs_to_the_epoch_that_covers_it() {
        let epochs = epochs(&[(2, 10), (4, 20)]);
        assert_eq!(epochs.epoch_for_offset(9), None);
        assert_eq!(epochs.epoch_for_offset(10), Some(2));
        assert_eq!(epochs.epoch_for_offset(19), Some(2));
        assert_eq!(epochs.epoch_for_offset(20), Some(4));
        assert_eq!(epochs.epoch_for_offset(i64::MAX), Some(4));
    }

    #[test]
    fn truncation_keeps_the_covering_epoch() {
        let mut tail = epochs(&[(0, 0), (2, 10), (4, 20)]);
        assert!(!tail.truncate_from_end(21));
        assert!(tail.truncate_from_end(20));
        assert_eq!(pairs(&tail), [(0, 0), (2, 10)]);
        let mut head = epochs(&[(0, 0), (2, 10), (4, 20)]);
        assert!(!head.truncate_from_start(0));
        assert!(head.truncate_from_start(15));
        assert_eq!(pairs(&head), [(2, 15), (4, 20)]);
        assert!(head.truncate_from_start(20));
        assert_eq!(pairs(&head), [(4, 20)]);
        assert!(head.truncate_from_start(50));
        assert_eq!(pairs(&head), [(4, 50)]);
        assert!(head.clear());
        assert!(!head.clear());
    }
}
