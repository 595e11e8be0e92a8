//! Records of one partition in several hands: which offsets may be committed.
//!
//! In: records as they are handed over, and word that one is done, in any order. Out: for each partition the offset before
//! which all is done. A record that takes long holds its partition's offset, never the work of the others. It commits
//! nothing.

use std::collections::{BTreeMap, VecDeque};

use ottla_client_state::TopicPartition;
use ottla_client_state::commit::OffsetAndMetadata;

use super::records::ConsumerRecords;

/// Keeps account of records that are processed out of order, by several tasks, so that commits leave no gap: an offset is
/// given out for committing only when every record before it is done.
///
/// Meant for consumers with `enable.auto.offset.store=false`. Give it every batch that a poll hands over
/// ([`begin`](ProcessedOffsets::begin)), tell it of every record that is done ([`done`](ProcessedOffsets::done)), and hand
/// what it gives ([`take_committable`](ProcessedOffsets::take_committable)) to
/// [`Consumer::store_offsets`](super::Consumer::store_offsets). To keep records of a key in order, send them all to the
/// task that [`worker_of`](ProcessedOffsets::worker_of) names.
///
/// ```
/// # use ottla::{ProcessedOffsets, TopicPartition};
/// let worker = ProcessedOffsets::worker_of(Some(b"truck-7"), 8);
/// assert_eq!(worker, ProcessedOffsets::worker_of(Some(b"truck-7"), 8), "a key stays with its worker");
/// ```
///
/// # Promises
/// - What it gives out never goes back, and never passes a record that is not done.
/// - It holds a few bytes for each record from the first one that is not done on: [`pending`](ProcessedOffsets::pending)
///   says how many, to stop polling at a limit of one's own.
#[derive(Debug, Default)]
pub struct ProcessedOffsets {
    partitions: BTreeMap<TopicPartition, Account>,
    pending: usize,
}

/// The records of one partition from the first one on that is not done.
#[derive(Debug, Default)]
struct Account {
    /// In the order of their offsets.
    open: VecDeque<Open>,
    assignment: u64,
    /// All before this is done, and it has not been given out.
    committable: Option<OffsetAndMetadata>,
}

#[derive(Debug)]
struct Open {
    offset: i64,
    /// Where the next record begins.
    next_offset: i64,
    leader_epoch: i32,
    done: bool,
}

impl ProcessedOffsets {
    /// Nothing in anybody's hands.
    pub fn new() -> Self {
        ProcessedOffsets::default()
    }

    /// Takes in what a poll has handed over. Call it before the records go to anybody.
    ///
    /// Records that were in somebody's hands before their partition was given up and came back do not count any more.
    pub fn begin(&mut self, records: &ConsumerRecords) {
        for chunk in &records.chunks {
            let account = self.partitions.entry(chunk.partition.clone()).or_default();
            if account.assignment != chunk.assignment {
                self.pending -= account.open.len();
                *account = Account {
                    assignment: chunk.assignment,
                    ..Account::default()
                };
            }
            let before = account.open.len();
            for record in chunk.iter().filter_map(Result::ok) {
                // A seek backwards begins anew.
                if account.open.back().is_some_and(|last| last.offset >= record.offset) {
                    self.pending -= before.min(account.open.len());
                    account.open.clear();
                }
                if let Some(last) = account.open.back_mut() {
                    last.next_offset = record.offset;
                }
                account.open.push_back(Open {
                    offset: record.offset,
                    next_offset: record.offset + 1,
                    leader_epoch: chunk.leader_epoch,
                    done: false,
                });
                self.pending += 1;
            }
            if let Some(last) = account.open.back_mut() {
                last.next_offset = chunk.next_offset;
            }
        }
    }

    /// The record at `offset` is done. What is not waited for (done before, given up, never begun) is passed over; that is
    /// told by `false`.
    pub fn done(&mut self, partition: &TopicPartition, offset: i64) -> bool {
        let Some(account) = self.partitions.get_mut(partition) else {
            return false;
        };
        let Ok(place) = account.open.binary_search_by_key(&offset, |open| open.offset) else {
            return false;
        };
        let waited = account
            .open
            .get_mut(place)
            .is_some_and(|open| !std::mem::replace(&mut open.done, true));
        while let Some(first) = account.open.front().filter(|first| first.done) {
            account.committable = Some(OffsetAndMetadata::new(first.next_offset).leader_epoch(first.leader_epoch));
            account.open.pop_front();
            self.pending -= 1;
        }
        waited
    }

    /// What may be committed and was not given out yet: for each partition the offset before which all is done.
    pub fn take_committable(&mut self) -> BTreeMap<TopicPartition, OffsetAndMetadata> {
        self.partitions
            .iter_mut()
            .filter_map(|(partition, account)| Some((partition.clone(), account.committable.take()?)))
            .collect()
    }

    /// These partitions were given up or lost: what is in somebody's hands of them does not count any more.
    pub fn forget(&mut self, partitions: &[TopicPartition]) {
        for partition in partitions {
            if let Some(account) = self.partitions.remove(partition) {
                self.pending -= account.open.len();
            }
        }
    }

    /// How many records are held: from the first one of each partition on that is not done.
    pub fn pending(&self) -> usize {
        self.pending
    }

    /// How many of them belong to one partition. 0 once all of it is done: the moment to let it go.
    pub fn pending_of(&self, partition: &TopicPartition) -> usize {
        self.partitions.get(partition).map_or(0, |account| account.open.len())
    }

    /// Which of `workers` gets a record with this key: the same one for the same key, the first for records without a key.
    pub fn worker_of(key: Option<&[u8]>, workers: usize) -> usize {
        let workers = i32::try_from(workers).unwrap_or(i32::MAX);
        key.and_then(|key| crate::partition_for_key(key, workers))
            .and_then(|worker| usize::try_from(worker).ok())
            .unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use ottla_protocol::records::RecordBatch;

    use super::super::records::Chunk;
    use super::*;
    use crate::tests::Batch;

    fn tp() -> TopicPartition {
        TopicPartition::new("orders", 0)
    }

    /// What a poll hands over: records `from..to`, the batch ending before `next`.
    fn handed(from: i64, to: i64, next: i64, assignment: u64) -> ConsumerRecords {
        let bytes = Bytes::from(Batch::new(from, to - from).bytes());
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let mut records = ConsumerRecords::default();
        records.push(Chunk {
            partition: tp(),
            assignment,
            origin: batch.origin(),
            leader_epoch: 3,
            records: bytes.slice_ref(batch.records_raw()),
            first: 0,
            count: usize::try_from(to - from).unwrap(),
            next_offset: next,
        });
        records
    }

    fn committable(processed: &mut ProcessedOffsets) -> Option<i64> {
        processed.take_committable().get(&tp()).map(|offset| offset.offset)
    }

    #[test]
    fn an_offset_is_given_out_only_when_all_before_it_is_done() {
        let mut processed = ProcessedOffsets::new();
        processed.begin(&handed(0, 5, 5, 1));
        for offset in [1, 2, 4] {
            assert!(processed.done(&tp(), offset));
        }
        assert_eq!((committable(&mut processed), processed.pending()), (None, 5));
        assert!(processed.done(&tp(), 0));
        assert_eq!((committable(&mut processed), processed.pending()), (Some(3), 2));
        assert_eq!(committable(&mut processed), None, "given out once");
        assert!(processed.done(&tp(), 3));
        assert_eq!((committable(&mut processed), processed.pending_of(&tp())), (Some(5), 0));
    }

    #[test]
    fn what_is_skipped_between_records_is_done_with_the_record_before_it() {
        let mut processed = ProcessedOffsets::new();
        processed.begin(&handed(0, 2, 4, 1));
        processed.begin(&handed(7, 8, 9, 1));
        processed.done(&tp(), 0);
        processed.done(&tp(), 1);
        assert_eq!(committable(&mut processed), Some(7), "nothing lies between");
        processed.done(&tp(), 7);
        assert_eq!(committable(&mut processed), Some(9));
    }

    #[test]
    fn what_was_in_hand_before_a_partition_came_back_does_not_count() {
        let mut processed = ProcessedOffsets::new();
        processed.begin(&handed(0, 5, 5, 1));
        processed.begin(&handed(20, 22, 22, 2));
        assert!(!processed.done(&tp(), 0));
        assert_eq!((committable(&mut processed), processed.pending()), (None, 2));
        processed.forget(&[tp()]);
        assert!(!processed.done(&tp(), 20) && processed.pending() == 0);
    }

    #[test]
    fn a_seek_backwards_begins_anew() {
        let mut processed = ProcessedOffsets::new();
        processed.begin(&handed(5, 8, 8, 1));
        processed.begin(&handed(0, 2, 2, 1));
        assert_eq!(processed.pending(), 2);
        processed.done(&tp(), 0);
        assert_eq!(committable(&mut processed), Some(1));
    }

    #[test]
    fn a_record_is_done_once_and_only_if_it_was_begun() {
        let mut processed = ProcessedOffsets::new();
        processed.begin(&handed(0, 2, 2, 1));
        assert!(processed.done(&tp(), 1) && !processed.done(&tp(), 1) && !processed.done(&tp(), 9));
        assert!(!processed.done(&TopicPartition::new("other", 0), 0));
    }

    #[test]
    fn keys_are_spread_over_all_workers() {
        let workers: std::collections::BTreeSet<usize> = (0..100u32)
            .map(|key| ProcessedOffsets::worker_of(Some(&key.to_be_bytes()), 4))
            .collect();
        assert_eq!(workers.len(), 4);
        assert_eq!(ProcessedOffsets::worker_of(None, 4), 0);
    }
}
