//! Transactions as compaction sees them: which batches were aborted, and which markers nobody needs any more.
//!
//! In: the `.txnindex` files of the segments (only other brokers write them so far), then every batch from the log's
//! start on. Out: whether a batch may go whatever its keys say. A marker may go when none of its transaction's records
//! is left; until then a reader needs it to judge them.

use std::collections::{HashMap, HashSet, VecDeque};

use ottla_protocol::records::{ControlRecord, Decompressor, RecordBatch};

/// Bytes of an entry: version, producer id, first and last offset, last stable offset.
const ENTRY_BYTES: usize = 34;
/// More than any control record takes.
const CONTROL_BYTES_MAX: usize = 1 << 16;

/// An aborted transaction, as an entry of a `.txnindex` names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Aborted {
    producer_id: i64,
    first_offset: i64,
    entry: [u8; ENTRY_BYTES],
}

/// What is known of transactions at one point of the walk.
#[derive(Debug, Default)]
pub(super) struct Transactions {
    /// Aborted ones that the walk has not reached, by first offset.
    ahead: VecDeque<Aborted>,
    /// Aborted ones whose marker is still to come, and whether one of their batches was seen.
    aborted: HashMap<i64, (Aborted, bool)>,
    /// Producers with committed records whose marker is still to come.
    committed: HashSet<i64>,
    /// Entries of the index of the cleaned segment.
    kept: Vec<u8>,
}

impl Transactions {
    /// Before the first batch, with the entries of all indexes. What does not read as an entry is left out.
    pub fn new(index: &[u8]) -> Transactions {
        let field = |entry: &[u8; ENTRY_BYTES], at: usize| {
            let bytes = entry.get(at..).and_then(|rest| rest.first_chunk::<8>());
            bytes.map_or(-1, |bytes| i64::from_be_bytes(*bytes))
        };
        let (entries, _) = index.as_chunks::<ENTRY_BYTES>();
        let aborted = |entry: &[u8; ENTRY_BYTES]| Aborted {
            producer_id: field(entry, 2),
            first_offset: field(entry, 10),
            entry: *entry,
        };
        let mut ahead: Vec<Aborted> = entries.iter().map(aborted).collect();
        ahead.sort_by_key(|aborted| aborted.first_offset);
        Transactions {
            ahead: ahead.into(),
            ..Transactions::default()
        }
    }

    /// Whether the batch may go, as far as transactions are concerned. Call it with every batch, in order.
    pub fn may_discard(&mut self, batch: &RecordBatch<'_>) -> bool {
        while let Some(next) = self
            .ahead
            .front()
            .filter(|next| next.first_offset <= batch.last_offset())
        {
            self.aborted.entry(next.producer_id).or_insert((*next, false));
            self.ahead.pop_front();
        }
        let producer_id = batch.producer_id();
        if batch.is_control() {
            return self.may_discard_marker(batch);
        }
        if !batch.is_transactional() {
            return false;
        }
        match self.aborted.get_mut(&producer_id) {
            Some((_, seen)) => {
                *seen = true;
                true
            }
            None => {
                self.committed.insert(producer_id);
                false
            }
        }
    }

    fn may_discard_marker(&mut self, batch: &RecordBatch<'_>) -> bool {
        let mut scratch = Decompressor::new();
        let Ok(mut records) = batch.records(&mut scratch, CONTROL_BYTES_MAX) else {
            return false;
        };
        let marker = match records.next() {
            // Its record is gone already, and what is left is for the producer's state.
            None => return true,
            Some(record) => record.and_then(|record| ControlRecord::read(&record)),
        };
        let Ok(ControlRecord::EndTransaction(marker)) = marker else {
            return false;
        };
        if marker.committed {
            return !self.committed.remove(&batch.producer_id());
        }
        match self.aborted.remove(&batch.producer_id()) {
            Some((aborted, true)) => {
                self.kept.extend_from_slice(&aborted.entry);
                false
            }
            _ => true,
        }
    }

    /// The index of the segment just cleaned, and begins the next one.
    pub fn take_index(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.kept)
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::records::{Compression, EndTransactionMarker, RecordBatchBuilder, batch};

    use super::*;

    fn data(producer: i64, offset: i64) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        builder.append(0, Some(b"k"), Some(b"v"), &[]).unwrap();
        let mut sealed = builder.seal(Compression::None, None).unwrap();
        sealed.stamp(producer, 0, 0, true);
        let mut bytes = sealed.to_vec();
        batch::patch_base_offset(&mut bytes, offset);
        bytes
    }

    fn marker(producer: i64, offset: i64, committed: bool) -> Vec<u8> {
        let marker = EndTransactionMarker {
            committed,
            coordinator_epoch: 0,
        };
        let mut bytes = marker.batch(producer, 0, 0).unwrap().to_vec();
        batch::patch_base_offset(&mut bytes, offset);
        bytes
    }

    fn entry(producer: i64, first: i64, last: i64) -> Vec<u8> {
        let mut entry = 0_i16.to_be_bytes().to_vec();
        for number in [producer, first, last, last + 1] {
            entry.extend_from_slice(&number.to_be_bytes());
        }
        entry
    }

    fn judge(transactions: &mut Transactions, bytes: &[u8]) -> bool {
        transactions.may_discard(&RecordBatch::parse(bytes).unwrap().0)
    }

    #[test]
    fn aborted_records_may_go_and_their_marker_stays_until_they_have_gone() {
        let mut first = Transactions::new(&entry(1, 0, 2));
        assert!(judge(&mut first, &data(1, 0)));
        assert!(!judge(&mut first, &data(2, 1)));
        assert!(!judge(&mut first, &marker(1, 2, false)));
        assert!(!judge(&mut first, &marker(2, 3, true)));
        assert_eq!(first.take_index(), entry(1, 0, 2));

        let mut second = Transactions::new(&entry(1, 0, 2));
        assert!(!judge(&mut second, &data(2, 1)));
        assert!(judge(&mut second, &marker(1, 2, false)));
        assert!(!judge(&mut second, &marker(2, 3, true)), "its record is still there");
        assert!(second.take_index().is_empty());
    }

    #[test]
    fn the_next_transaction_of_a_producer_that_aborted_is_its_own() {
        let mut transactions = Transactions::new(&entry(1, 0, 1));
        assert!(judge(&mut transactions, &data(1, 0)));
        assert!(!judge(&mut transactions, &marker(1, 1, false)));
        assert!(!judge(&mut transactions, &data(1, 2)));
        assert!(!judge(&mut transactions, &marker(1, 3, true)));
    }
}
