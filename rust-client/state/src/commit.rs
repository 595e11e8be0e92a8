//! Which offsets are to be committed, and when.
//!
//! In: the assignment, the offsets up to which records are **processed**, the outcome of commits, the time. Out: what to
//! commit ([`Commit`]). It sends nothing, and does not know what was merely fetched or handed over: only what was stored
//! here is ever committed.
//!
//! Each partition has a fence, a number that it gets when it is assigned and that nothing after it has. What is stored, or
//! answered, under another fence belongs to an earlier assignment of the partition and changes nothing: otherwise a slow
//! handler could commit over the partition's next owner, or over itself after it came back.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::{Time, TopicPartition};

/// A position to be committed: the offset of the next record to be read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OffsetAndMetadata {
    /// One more than the offset of the last processed record.
    pub offset: i64,
    /// The leader epoch of the last processed record; -1 if not known.
    pub leader_epoch: i32,
    /// Words of the application that are kept with the offset. Empty by default.
    pub metadata: Arc<str>,
}

impl OffsetAndMetadata {
    /// A position without words, of unknown leader epoch.
    pub fn at(offset: i64) -> OffsetAndMetadata {
        OffsetAndMetadata {
            offset,
            leader_epoch: -1,
            metadata: "".into(),
        }
    }
}

/// The identity of one assignment of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence(u64);

/// Offsets to be sent in one OffsetCommit. What becomes of each goes to [`CommitState::handle_committed`] or
/// [`CommitState::handle_failed`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// Partition, fence and position; never empty, in order.
    pub offsets: Vec<(TopicPartition, Fence, OffsetAndMetadata)>,
}

#[derive(Debug)]
struct Partition {
    fence: Fence,
    /// Up to where records are processed; `None` until the first word of it.
    stored: Option<OffsetAndMetadata>,
    /// What the coordinator is known to have.
    committed: Option<OffsetAndMetadata>,
    /// Commits on the wire, the oldest first. There is more than one when the application commits while a timer does.
    under_way: Vec<OffsetAndMetadata>,
}

impl Partition {
    /// Whether something is stored that neither the coordinator has nor a commit on the wire brings.
    fn is_due(&self) -> bool {
        let newest = self.under_way.last().or(self.committed.as_ref());
        self.stored.is_some() && self.stored.as_ref() != newest
    }

    fn settle(&mut self, position: &OffsetAndMetadata) {
        if let Some(place) = self.under_way.iter().position(|sent| sent == position) {
            self.under_way.remove(place);
        }
    }
}

/// The offsets of one consumer, and the clock of its automatic commits.
#[derive(Debug)]
pub struct CommitState {
    partitions: BTreeMap<TopicPartition, Partition>,
    next_fence: u64,
    /// `auto.commit.interval.ms`; `None` without `enable.auto.commit`.
    interval_ms: Option<u64>,
    next_auto: Time,
}

impl CommitState {
    /// Nothing assigned. `auto_commit_interval_ms` is the time between automatic commits, or `None` for none.
    pub fn new(auto_commit_interval_ms: Option<u64>, now: Time) -> CommitState {
        CommitState {
            partitions: BTreeMap::new(),
            next_fence: 1,
            interval_ms: auto_commit_interval_ms,
            next_auto: now.plus_ms(auto_commit_interval_ms.unwrap_or(0)),
        }
    }

    /// These are assigned from now on, under a fence each of its own. Those that were assigned already start anew.
    pub fn handle_assigned(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            let fence = Fence(self.next_fence);
            self.next_fence += 1;
            let state = Partition {
                fence,
                stored: None,
                committed: None,
                under_way: Vec::new(),
            };
            self.partitions.insert(partition.clone(), state);
        }
    }

    /// These are not assigned any more, whether let go or lost. Nothing of them is committed from here on.
    pub fn handle_unassigned(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            self.partitions.remove(partition);
        }
    }

    /// The coordinator has this position of the partition, as OffsetFetch told when it was assigned.
    pub fn handle_fetched(&mut self, partition: &TopicPartition, position: OffsetAndMetadata) {
        if let Some(state) = self.partitions.get_mut(partition)
            && state.committed.is_none()
        {
            state.committed = Some(position);
        }
    }

    /// The fence of the partition's present assignment, to go with its records; `None` if it is not assigned.
    pub fn fence(&self, partition: &TopicPartition) -> Option<Fence> {
        self.partitions.get(partition).map(|state| state.fence)
    }

    /// Everything before `position` is processed. Going back is allowed: after a seek the application processes anew.
    ///
    /// False if the partition is not assigned under `fence` any more; then nothing is stored.
    pub fn store(&mut self, partition: &TopicPartition, fence: Fence, position: OffsetAndMetadata) -> bool {
        let found = self.partitions.get_mut(partition).filter(|state| state.fence == fence);
        found.map(|state| state.stored = Some(position)).is_some()
    }

    /// Up to where the partition is processed.
    pub fn stored(&self, partition: &TopicPartition) -> Option<&OffsetAndMetadata> {
        self.partitions.get(partition)?.stored.as_ref()
    }

    /// What the coordinator is known to have of the partition.
    pub fn committed(&self, partition: &TopicPartition) -> Option<&OffsetAndMetadata> {
        self.partitions.get(partition)?.committed.as_ref()
    }

    /// Whether the partition has a commit on the wire.
    pub fn is_committing(&self, partition: &TopicPartition) -> bool {
        self.partitions
            .get(partition)
            .is_some_and(|state| !state.under_way.is_empty())
    }

    /// All that is stored and not committed yet, to be sent now. `None` if there is nothing.
    pub fn take_all(&mut self) -> Option<Commit> {
        self.take(|_| true)
    }

    /// As [`take_all`](CommitState::take_all), for these partitions: the commit before they are let go.
    pub fn take_of(&mut self, partitions: &[TopicPartition]) -> Option<Commit> {
        self.take(|partition| partitions.contains(partition))
    }

    /// The automatic commit, if its time has come and there is something to commit.
    pub fn take_due(&mut self, now: Time) -> Option<Commit> {
        if self.interval_ms.is_none() || now < self.next_auto {
            return None;
        }
        self.restart(now);
        self.take_all()
    }

    /// When [`take_due`](CommitState::take_due) is worth asking. `None` without automatic commits, and while there is
    /// nothing to commit.
    pub fn wake_at(&self) -> Option<Time> {
        self.interval_ms?;
        self.partitions
            .values()
            .any(Partition::is_due)
            .then_some(self.next_auto)
    }

    fn take(&mut self, wanted: impl Fn(&TopicPartition) -> bool) -> Option<Commit> {
        let due = self
            .partitions
            .iter_mut()
            .filter(|(partition, state)| state.is_due() && wanted(partition));
        let offsets = due.filter_map(|(partition, state)| {
            let position = state.stored.clone()?;
            state.under_way.push(position.clone());
            Some((partition.clone(), state.fence, position))
        });
        let offsets: Vec<_> = offsets.collect();
        (!offsets.is_empty()).then_some(Commit { offsets })
    }

    /// The application commits these positions by itself, whatever is stored. Partitions that are not assigned are left out
    /// of the bookkeeping, and not forbidden: a consumer may commit for partitions it does not read.
    pub fn handle_sent(&mut self, offsets: &[(TopicPartition, OffsetAndMetadata)]) -> Vec<Option<Fence>> {
        let fences = offsets.iter().map(|(partition, position)| {
            let state = self.partitions.get_mut(partition)?;
            state.under_way.push(position.clone());
            Some(state.fence)
        });
        fences.collect()
    }

    /// The coordinator has this position now.
    pub fn handle_committed(&mut self, partition: &TopicPartition, fence: Fence, position: OffsetAndMetadata) {
        if let Some(state) = self.of(partition, fence) {
            state.settle(&position);
            state.committed = Some(position);
        }
    }

    /// The coordinator did not take this position, or nobody knows whether it did. It is due again with the next commit,
    /// which an automatic one makes after `retry_ms` already (`retry.backoff.ms`).
    pub fn handle_failed(
        &mut self,
        partition: &TopicPartition,
        fence: Fence,
        position: &OffsetAndMetadata,
        retry_ms: u64,
        now: Time,
    ) {
        let Some(state) = self.of(partition, fence) else { return };
        state.settle(position);
        self.next_auto = self.next_auto.min(now.plus_ms(retry_ms));
    }

    fn of(&mut self, partition: &TopicPartition, fence: Fence) -> Option<&mut Partition> {
        self.partitions.get_mut(partition).filter(|state| state.fence == fence)
    }

    fn restart(&mut self, now: Time) {
        if let Some(interval) = self.interval_ms {
            self.next_auto = now.plus_ms(interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partition(number: i32) -> TopicPartition {
        TopicPartition::new("t", number)
    }

    fn at(offset: i64) -> OffsetAndMetadata {
        OffsetAndMetadata::at(offset)
    }

    fn assigned(interval_ms: Option<u64>) -> (CommitState, Fence) {
        let mut state = CommitState::new(interval_ms, Time(0));
        state.handle_assigned(&[partition(0), partition(1)]);
        let fence = state.fence(&partition(0)).unwrap();
        (state, fence)
    }

    fn offsets(commit: Option<Commit>) -> Vec<(i32, i64)> {
        let offsets = commit.map_or(Vec::new(), |commit| commit.offsets);
        offsets
            .into_iter()
            .map(|(at, _, position)| (at.partition, position.offset))
            .collect()
    }

    #[test]
    fn only_what_was_stored_is_committed_and_only_once() {
        let (mut state, fence) = assigned(None);
        assert_eq!(state.take_all(), None);
        assert!(state.store(&partition(0), fence, at(5)));
        assert_eq!(offsets(state.take_all()), [(0, 5)]);
        assert_eq!(state.take_all(), None, "it is on the wire");
        state.handle_committed(&partition(0), fence, at(5));
        assert_eq!(state.take_all(), None);
        assert_eq!(state.committed(&partition(0)), Some(&at(5)));
        state.store(&partition(0), fence, at(9));
        assert_eq!(offsets(state.take_of(&[partition(1)])), []);
        assert_eq!(offsets(state.take_of(&[partition(0)])), [(0, 9)]);
    }

    #[test]
    fn what_the_coordinator_has_already_is_not_committed_again() {
        let (mut state, fence) = assigned(None);
        state.handle_fetched(&partition(0), at(5));
        state.store(&partition(0), fence, at(5));
        assert_eq!(state.take_all(), None);
    }

    #[test]
    fn an_offset_of_an_earlier_assignment_is_never_committed() {
        let (mut state, old) = assigned(None);
        state.store(&partition(0), old, at(5));
        let late = state.take_all().unwrap();
        state.handle_unassigned(&[partition(0)]);
        assert!(!state.store(&partition(0), old, at(6)));
        state.handle_assigned(&[partition(0)]);
        let new = state.fence(&partition(0)).unwrap();
        assert!(!state.store(&partition(0), old, at(7)));
        assert_eq!(state.take_all(), None);
        // Nor does the answer to the old commit say anything about the new assignment.
        for (at, fence, position) in late.offsets {
            state.handle_committed(&at, fence, position);
        }
        assert_eq!(state.committed(&partition(0)), None);
        assert!(state.store(&partition(0), new, at(8)));
        assert_eq!(offsets(state.take_all()), [(0, 8)]);
    }

    #[test]
    fn a_failed_commit_is_due_again_and_an_automatic_one_soon() {
        let (mut state, fence) = assigned(Some(5000));
        state.store(&partition(0), fence, at(5));
        assert_eq!(state.wake_at(), Some(Time(5000)));
        assert_eq!(offsets(state.take_due(Time(4999))), []);
        assert_eq!(offsets(state.take_due(Time(5000))), [(0, 5)]);
        assert_eq!(state.wake_at(), None);
        state.handle_failed(&partition(0), fence, &at(5), 100, Time(5020));
        assert_eq!(state.wake_at(), Some(Time(5120)));
        assert_eq!(offsets(state.take_due(Time(5120))), [(0, 5)]);
        state.handle_committed(&partition(0), fence, at(5));
        state.store(&partition(0), fence, at(6));
        assert_eq!(state.wake_at(), Some(Time(10_120)));
    }

    #[test]
    fn a_seek_back_is_committed_too() {
        let (mut state, fence) = assigned(None);
        state.store(&partition(0), fence, at(9));
        state.take_all();
        state.store(&partition(0), fence, at(2));
        assert_eq!(offsets(state.take_all()), [(0, 2)], "after what is on the wire");
        state.handle_committed(&partition(0), fence, at(9));
        state.handle_committed(&partition(0), fence, at(2));
        assert_eq!(state.committed(&partition(0)), Some(&at(2)));
        assert_eq!(state.take_all(), None);
    }

    #[test]
    fn what_the_application_commits_itself_is_known() {
        let (mut state, fence) = assigned(Some(5000));
        state.store(&partition(0), fence, at(7));
        let fences = state.handle_sent(&[(partition(0), at(7)), (partition(5), at(1))]);
        assert_eq!(fences, [Some(fence), None]);
        assert!(state.is_committing(&partition(0)));
        assert_eq!(state.take_due(Time(5000)), None);
        state.handle_committed(&partition(0), fence, at(7));
        assert!(!state.is_committing(&partition(0)));
        assert_eq!(state.wake_at(), None);
    }

    #[test]
    fn without_automatic_commits_nothing_is_due_by_itself() {
        let (mut state, fence) = assigned(None);
        state.store(&partition(0), fence, at(7));
        assert_eq!((state.wake_at(), state.take_due(Time::MAX)), (None, None));
    }
}
