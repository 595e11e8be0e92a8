//! What is processed and not yet committed.
//!
//! In: offsets that the application has processed, and offsets that were committed. Out: what is due. Every offset is
//! noted under an assignment of its partition, and is worth nothing under another one: whoever had the partition in
//! between may be further. It sends nothing and reads no clock.

use std::collections::BTreeMap;

use crate::{Time, TopicPartition};

/// An offset as it is committed: the next record to read, and what else is kept with it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct OffsetAndMetadata {
    /// The offset of the next record to read.
    pub offset: i64,
    /// The leader epoch of the last record before it; `None` if not known. It lets the next reader notice that the log
    /// was truncated meanwhile (KIP-320).
    pub leader_epoch: Option<i32>,
    /// Any words of the application; brokers take up to `offset.metadata.max.bytes`, 4096 by default.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// The offset `offset` without leader epoch and words.
    pub fn new(offset: i64) -> Self {
        OffsetAndMetadata {
            offset,
            ..OffsetAndMetadata::default()
        }
    }

    /// The same with words of the application.
    #[must_use]
    pub fn metadata(mut self, words: impl Into<String>) -> Self {
        self.metadata = words.into();
        self
    }

    /// The same with the leader epoch of the last record before the offset.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = Some(epoch).filter(|epoch| *epoch >= 0);
        self
    }
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> Self {
        OffsetAndMetadata::new(offset)
    }
}

/// An offset to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chosen {
    /// The offset, and what is kept with it.
    pub offset: OffsetAndMetadata,
    /// The assignment under which it was processed; `None` for an offset that the application named itself, for a
    /// partition that it assigned itself.
    pub assignment: Option<u64>,
}

/// Offsets to be committed together.
pub type Choice = BTreeMap<TopicPartition, Chosen>;

#[derive(Debug)]
struct Entry {
    assignment: u64,
    processed: Option<OffsetAndMetadata>,
    committed: Option<i64>,
}

/// The processed and the committed offset of each partition, and the clock of automatic commits.
#[derive(Debug)]
pub struct CommitState {
    entries: BTreeMap<TopicPartition, Entry>,
    /// `auto.commit.interval.ms`; `None` for no automatic commits.
    interval_ms: Option<u64>,
    next_auto: Time,
}

impl CommitState {
    /// Nothing processed. `interval_ms` is the time between automatic commits, or `None` for none.
    pub fn new(interval_ms: Option<u64>) -> Self {
        CommitState {
            entries: BTreeMap::new(),
            interval_ms,
            next_auto: Time::ZERO,
        }
    }

    /// The entry of this assignment; what was noted under another one is dropped.
    fn entry(&mut self, partition: &TopicPartition, assignment: u64) -> &mut Entry {
        let fresh = || Entry {
            assignment,
            processed: None,
            committed: None,
        };
        let entry = self.entries.entry(partition.clone()).or_insert_with(fresh);
        if entry.assignment != assignment {
            *entry = fresh();
        }
        entry
    }

    /// All records before `offset` are processed.
    pub fn note(&mut self, partition: &TopicPartition, assignment: u64, offset: OffsetAndMetadata, now: Time) {
        self.entry(partition, assignment).processed = Some(offset);
        if let Some(interval) = self.interval_ms
            && self.next_auto == Time::ZERO
        {
            self.next_auto = now.plus_ms(interval);
        }
    }

    /// The application moved elsewhere: what was processed before is not to be committed any more, unless it is already.
    pub fn handle_moved(&mut self, partition: &TopicPartition) {
        if let Some(entry) = self.entries.get_mut(partition) {
            entry.processed = None;
        }
    }

    /// The application commits by itself, further than what it has said to be processed: an automatic commit that follows
    /// must not take that back. Where the commit fails, the next one tries again.
    pub fn handle_committing(&mut self, partition: &TopicPartition, chosen: &Chosen) {
        let Some(entry) = self.entries.get_mut(partition) else {
            return;
        };
        if chosen.assignment == Some(entry.assignment)
            && let Some(processed) = &mut entry.processed
            && processed.offset < chosen.offset.offset
        {
            *processed = chosen.offset.clone();
        }
    }

    /// `offset` is committed, by us or by whoever had the partition before.
    pub fn handle_committed(&mut self, partition: &TopicPartition, assignment: u64, offset: i64) {
        let entry = self.entry(partition, assignment);
        entry.committed = Some(offset);
        if entry
            .processed
            .as_ref()
            .is_some_and(|processed| processed.offset == offset)
        {
            entry.processed = None;
        }
    }

    /// The partition is not ours any more.
    pub fn forget(&mut self, partition: &TopicPartition) {
        self.entries.remove(partition);
    }

    /// What is known to be committed.
    pub fn committed(&self, partition: &TopicPartition) -> Option<i64> {
        self.entries.get(partition)?.committed
    }

    /// What is processed and not committed, of the partitions that `wanted` accepts.
    pub fn uncommitted(&self, wanted: impl Fn(&TopicPartition) -> bool) -> Choice {
        let chosen = self.entries.iter().filter_map(|(partition, entry)| {
            let offset = entry.processed.clone().filter(|_| wanted(partition))?;
            let chosen = Chosen {
                offset,
                assignment: Some(entry.assignment),
            };
            Some((partition.clone(), chosen))
        });
        chosen.collect()
    }

    /// When the next automatic commit is due; `None` if there is nothing to commit.
    pub fn wake_at(&self) -> Option<Time> {
        let something = self.entries.values().any(|entry| entry.processed.is_some());
        (self.interval_ms.is_some() && something).then_some(self.next_auto)
    }

    /// What to commit automatically now, if it is time.
    pub fn next_due(&mut self, now: Time) -> Option<Choice> {
        let interval = self.interval_ms?;
        if self.wake_at().is_none_or(|at| at > now) {
            return None;
        }
        self.next_auto = now.plus_ms(interval.max(1));
        Some(self.uncommitted(|_| true))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    fn offsets(choice: &Choice) -> Vec<i64> {
        choice.values().map(|chosen| chosen.offset.offset).collect()
    }

    #[test]
    fn only_what_is_processed_is_committed_and_only_once() {
        let mut stored = CommitState::new(Some(5000));
        assert_eq!(stored.wake_at(), None);
        stored.note(&tp(), 1, 7.into(), Time(100));
        assert_eq!(stored.wake_at(), Some(Time(5100)));
        assert_eq!(stored.next_due(Time(5099)), None);
        assert_eq!(offsets(&stored.next_due(Time(5100)).unwrap()), [7]);
        stored.handle_committed(&tp(), 1, 7);
        assert_eq!((stored.wake_at(), stored.committed(&tp())), (None, Some(7)));
    }

    #[test]
    fn a_failed_commit_is_due_again_after_the_interval() {
        let mut stored = CommitState::new(Some(1000));
        stored.note(&tp(), 1, 7.into(), Time::ZERO);
        assert!(stored.next_due(Time(1000)).is_some());
        assert_eq!(stored.next_due(Time(1500)), None);
        stored.note(&tp(), 1, 9.into(), Time(1600));
        assert_eq!(offsets(&stored.next_due(Time(2000)).unwrap()), [9]);
    }

    #[test]
    fn an_automatic_commit_takes_back_no_commit_of_the_application() {
        let by_hand = |offset: i64, assignment| Chosen {
            offset: offset.into(),
            assignment: Some(assignment),
        };
        let mut stored = CommitState::new(Some(1000));
        stored.note(&tp(), 1, 7.into(), Time::ZERO);
        stored.handle_committing(&tp(), &by_hand(9, 1));
        // It is under way, and the automatic one comes behind it.
        assert_eq!(offsets(&stored.next_due(Time(1000)).unwrap()), [9]);
        stored.handle_committed(&tp(), 1, 9);
        assert_eq!(stored.wake_at(), None);
        // A step back is the application's own will, and says nothing of what is processed.
        stored.note(&tp(), 1, 12.into(), Time(1000));
        stored.handle_committing(&tp(), &by_hand(3, 1));
        stored.handle_committing(&tp(), &by_hand(20, 2));
        assert_eq!(offsets(&stored.uncommitted(|_| true)), [12]);
    }

    #[test]
    fn an_offset_is_worth_nothing_under_another_assignment() {
        let mut stored = CommitState::new(Some(1000));
        stored.note(&tp(), 1, 7.into(), Time::ZERO);
        stored.handle_committed(&tp(), 2, 20);
        assert!(stored.uncommitted(|_| true).is_empty());
        assert_eq!(stored.committed(&tp()), Some(20));
    }

    #[test]
    fn what_was_processed_before_a_seek_is_not_committed_after_it() {
        let mut stored = CommitState::new(Some(1000));
        stored.note(&tp(), 1, 7.into(), Time::ZERO);
        stored.handle_moved(&tp());
        assert_eq!(stored.wake_at(), None);
    }

    #[test]
    fn without_automatic_commits_nothing_is_due() {
        let mut stored = CommitState::new(None);
        stored.note(&tp(), 1, 7.into(), Time::ZERO);
        assert_eq!((stored.wake_at(), stored.next_due(Time::MAX)), (None, None));
        assert_eq!(offsets(&stored.uncommitted(|_| true)), [7]);
    }
}
