//! Producer states: what a partition remembers of each producer id (KIP-98, KIP-360).
//!
//! In: the header of a batch about to be appended, or read back from the log. Out: append it, it is a repeat, or it
//! must be refused. Also the content of `.snapshot` files. No file, no clock: wall time comes in.
//!
//! For each producer id the last five batches of its current epoch are kept: a repeat of one of them is answered
//! with the offset of the first copy. A snapshot keeps only the last one, as in Kafka.

use std::collections::HashMap;
use std::collections::VecDeque;

use ottla_protocol::records::crc32c;

/// How many batches of a producer are remembered, hence how many requests it may have in flight.
pub const RETAINED_BATCHES: usize = 5;

/// The sequence of a producer that has written only transaction markers.
const NO_SEQUENCE: i32 = -1;
const NO_OFFSET: i64 = -1;
const SNAPSHOT_VERSION: i16 = 1;
const SNAPSHOT_HEADER_BYTES: usize = 10;
const SNAPSHOT_ENTRY_BYTES: usize = 46;

/// The part of a data batch's header that decides its fate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerBatch {
    /// Producer id, never negative here.
    pub producer_id: i64,
    /// Producer epoch.
    pub producer_epoch: i16,
    /// Sequence of the first record.
    pub base_sequence: i32,
    /// Offset the first record has, or will have when appended.
    pub base_offset: i64,
    /// Last offset minus base offset.
    pub last_offset_delta: i32,
    /// Largest timestamp in the batch, milliseconds since 1970.
    pub max_timestamp: i64,
    /// Whether the batch belongs to a transaction.
    pub transactional: bool,
}

impl ProducerBatch {
    /// Sequence of the last record; after `i32::MAX` comes 0.
    pub fn last_sequence(&self) -> i32 {
        if self.base_sequence < 0 {
            return NO_SEQUENCE;
        }
        wrap(i64::from(self.base_sequence) + i64::from(self.last_offset_delta))
    }

    fn last_offset(&self) -> i64 {
        self.base_offset.saturating_add(i64::from(self.last_offset_delta))
    }
}

/// What to do with a batch that may be appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is the next one: append it.
    Append,
    /// It was appended before: answer with these and append nothing.
    Duplicate {
        /// Offset of the first record of the first copy.
        first_offset: i64,
        /// Offset of its last record.
        last_offset: i64,
        /// Its largest timestamp.
        timestamp: i64,
    },
}

/// Why a batch is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProducerError {
    /// INVALID_PRODUCER_EPOCH: a newer incarnation of the producer has written.
    #[error("producer {producer_id} has epoch {epoch}, but epoch {current} has already written")]
    InvalidProducerEpoch {
        /// The producer id.
        producer_id: i64,
        /// The epoch of the refused batch.
        epoch: i16,
        /// The newest epoch seen.
        current: i16,
    },
    /// OUT_OF_ORDER_SEQUENCE_NUMBER: a batch before this one is missing, or came already and is forgotten.
    #[error("producer {producer_id} sent sequence {sequence}, but {last} was its last (-1: none in this epoch)")]
    OutOfOrderSequence {
        /// The producer id.
        producer_id: i64,
        /// First sequence of the refused batch.
        sequence: i32,
        /// Last sequence appended in the epoch.
        last: i32,
    },
    /// INVALID_TXN_STATE: a plain batch while the producer has a transaction open here.
    #[error("producer {producer_id} has a transaction open since offset {first_offset}; the batch is not part of one")]
    InvalidTxnState {
        /// The producer id.
        producer_id: i64,
        /// First offset of its open transaction.
        first_offset: i64,
    },
}

/// What a producer wrote last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LastRecord {
    /// Its epoch.
    pub epoch: i16,
    /// The last offset of its last data batch in that epoch; `None` if it has written only markers.
    pub data_offset: Option<i64>,
}

/// Why a snapshot file cannot be used. It is then ignored and the state rebuilt from the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// Not version 1.
    #[error("snapshot version {0} is not known")]
    UnknownVersion(i16),
    /// The length does not fit the count, or is below the header's.
    #[error("snapshot of {0} bytes does not fit its count of entries")]
    WrongLength(usize),
    /// The checksum does not fit the content.
    #[error("snapshot checksum is {stored:#010x}, its content gives {computed:#010x}")]
    WrongChecksum {
        /// The checksum in the file.
        stored: u32,
        /// The checksum of the content.
        computed: u32,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct AppendedBatch {
    last_sequence: i32,
    last_offset: i64,
    offset_delta: i32,
    timestamp: i64,
}

impl AppendedBatch {
    fn first_sequence(&self) -> i32 {
        if self.last_sequence < 0 {
            return NO_SEQUENCE;
        }
        wrap(i64::from(self.last_sequence) - i64::from(self.offset_delta))
    }

    fn first_offset(&self) -> i64 {
        self.last_offset.saturating_sub(i64::from(self.offset_delta))
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct ProducerEntry {
    epoch: i16,
    coordinator_epoch: i32,
    /// The records' own time, which may be any: for the snapshot and for the answer to a repeat.
    last_timestamp: i64,
    /// When this broker last took something of the producer. `None`: it was read back from disk, and nobody has looked
    /// since.
    seen_ms: Option<i64>,
    /// First offset of the open transaction; -1 when none is open.
    transaction_first_offset: i64,
    /// Batches of the current epoch, oldest first; at most [`RETAINED_BATCHES`].
    batches: VecDeque<AppendedBatch>,
}

impl ProducerEntry {
    fn last_sequence(&self) -> i32 {
        self.batches.back().map_or(NO_SEQUENCE, |batch| batch.last_sequence)
    }

    fn enter_epoch(&mut self, epoch: i16) {
        if self.epoch != epoch {
            self.batches.clear();
            self.epoch = epoch;
        }
    }
}

/// What one partition knows of all its producers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ProducerStates {
    producers: HashMap<i64, ProducerEntry>,
}

impl ProducerStates {
    /// Number of producer ids remembered.
    pub fn len(&self) -> usize {
        self.producers.len()
    }

    /// True when no producer id is remembered.
    pub fn is_empty(&self) -> bool {
        self.producers.is_empty()
    }

    /// Judges a data batch from a client. Changes nothing: call [`appended`] once its bytes are in the log.
    ///
    /// A producer id not known here may start at any sequence: its earlier records may have been deleted.
    ///
    /// [`appended`]: ProducerStates::appended
    pub fn check(&self, batch: &ProducerBatch) -> Result<Verdict, ProducerError> {
        let Some(entry) = self.producers.get(&batch.producer_id) else {
            return Ok(Verdict::Append);
        };
        if let Some(first) = find_repeat(entry, batch) {
            return Ok(Verdict::Duplicate {
                first_offset: first.first_offset(),
                last_offset: first.last_offset,
                timestamp: first.timestamp,
            });
        }
        if batch.producer_epoch < entry.epoch {
            return Err(ProducerError::InvalidProducerEpoch {
                producer_id: batch.producer_id,
                epoch: batch.producer_epoch,
                current: entry.epoch,
            });
        }
        // A new epoch starts at 0, and so does one that has written nothing but a marker.
        let last = if batch.producer_epoch == entry.epoch {
            entry.last_sequence()
        } else {
            NO_SEQUENCE
        };
        if batch.base_sequence != wrap(i64::from(last) + 1) {
            return Err(ProducerError::OutOfOrderSequence {
                producer_id: batch.producer_id,
                sequence: batch.base_sequence,
                last,
            });
        }
        if entry.transaction_first_offset != NO_OFFSET && !batch.transactional {
            return Err(ProducerError::InvalidTxnState {
                producer_id: batch.producer_id,
                first_offset: entry.transaction_first_offset,
            });
        }
        Ok(Verdict::Append)
    }

    /// Remembers a data batch that is in the log. Judges nothing. `seen_ms`: the broker's wall time if it was appended or
    /// replicated just now, `None` if it was read back.
    pub fn appended(&mut self, batch: &ProducerBatch, seen_ms: Option<i64>) {
        let entry = self
            .producers
            .entry(batch.producer_id)
            .or_insert_with(|| ProducerEntry {
                epoch: batch.producer_epoch,
                coordinator_epoch: -1,
                last_timestamp: batch.max_timestamp,
                seen_ms,
                transaction_first_offset: NO_OFFSET,
                batches: VecDeque::with_capacity(1),
            });
        entry.seen_ms = seen_ms;
        entry.enter_epoch(batch.producer_epoch);
        if entry.batches.len() == RETAINED_BATCHES {
            entry.batches.pop_front();
        }
        entry.batches.push_back(AppendedBatch {
            last_sequence: batch.last_sequence(),
            last_offset: batch.last_offset(),
            offset_delta: batch.last_offset_delta,
            timestamp: batch.max_timestamp,
        });
        entry.last_timestamp = batch.max_timestamp;
        if batch.transactional && entry.transaction_first_offset == NO_OFFSET {
            entry.transaction_first_offset = batch.base_offset;
        }
    }

    /// Remembers a transaction marker that is in the log: it closes the producer's transaction here. `seen_ms` as in
    /// [`appended`](ProducerStates::appended).
    pub fn marker_appended(
        &mut self,
        producer_id: i64,
        epoch: i16,
        coordinator_epoch: i32,
        timestamp: i64,
        seen_ms: Option<i64>,
    ) {
        let entry = self.producers.entry(producer_id).or_insert_with(|| ProducerEntry {
            epoch,
            coordinator_epoch,
            last_timestamp: timestamp,
            seen_ms,
            transaction_first_offset: NO_OFFSET,
            batches: VecDeque::new(),
        });
        entry.seen_ms = seen_ms;
        entry.enter_epoch(epoch);
        entry.coordinator_epoch = coordinator_epoch;
        entry.last_timestamp = timestamp;
        entry.transaction_first_offset = NO_OFFSET;
    }

    /// What each producer wrote last, by producer id: compaction keeps the batches that carry it.
    pub fn last_records(&self) -> HashMap<i64, LastRecord> {
        let last = |entry: &ProducerEntry| LastRecord {
            epoch: entry.epoch,
            data_offset: entry.batches.back().map(|batch| batch.last_offset),
        };
        self.producers.iter().map(|(id, entry)| (*id, last(entry))).collect()
    }

    /// First offset of the oldest open transaction.
    pub fn first_open_transaction_offset(&self) -> Option<i64> {
        self.producers
            .values()
            .map(|entry| entry.transaction_first_offset)
            .filter(|offset| *offset >= 0)
            .min()
    }

    /// Forgets producers that have written nothing for `expiration_ms` (`producer.id.expiration.ms`), unless they have a
    /// transaction open. `now_ms` is the broker's wall time.
    ///
    /// The time of the records does not matter. It is the application's, may lie years back, and a producer forgotten
    /// between a batch and its retry would write it twice. A producer read back from disk is given its whole time from
    /// the first look on.
    pub fn remove_expired(&mut self, now_ms: i64, expiration_ms: i64) {
        self.producers.retain(|_, entry| {
            let seen_ms = *entry.seen_ms.get_or_insert(now_ms);
            entry.transaction_first_offset != NO_OFFSET || now_ms.saturating_sub(seen_ms) < expiration_ms
        });
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.producers.clear();
    }

    /// The bytes of a `.snapshot` file: version, checksum, count, then 46 bytes for each producer by id.
    pub fn encode_snapshot(&self) -> Vec<u8> {
        let mut ids: Vec<i64> = self.producers.keys().copied().collect();
        ids.sort_unstable();
        let mut out = Vec::with_capacity(SNAPSHOT_HEADER_BYTES + ids.len() * SNAPSHOT_ENTRY_BYTES);
        out.extend_from_slice(&SNAPSHOT_VERSION.to_be_bytes());
        out.extend_from_slice(&[0; 4]);
        out.extend_from_slice(&u32::try_from(ids.len()).unwrap_or(u32::MAX).to_be_bytes());
        for id in ids {
            let Some(entry) = self.producers.get(&id) else { continue };
            let last = entry.batches.back();
            out.extend_from_slice(&id.to_be_bytes());
            out.extend_from_slice(&entry.epoch.to_be_bytes());
            out.extend_from_slice(&last.map_or(NO_SEQUENCE, |batch| batch.last_sequence).to_be_bytes());
            out.extend_from_slice(&last.map_or(NO_OFFSET, |batch| batch.last_offset).to_be_bytes());
            out.extend_from_slice(&last.map_or(0, |batch| batch.offset_delta).to_be_bytes());
            out.extend_from_slice(&entry.last_timestamp.to_be_bytes());
            out.extend_from_slice(&entry.coordinator_epoch.to_be_bytes());
            out.extend_from_slice(&entry.transaction_first_offset.to_be_bytes());
        }
        let checksum = crc32c(out.get(6..).unwrap_or_default());
        if let Some(field) = out.get_mut(2..6) {
            field.copy_from_slice(&checksum.to_be_bytes());
        }
        out
    }

    /// Reads a `.snapshot` file.
    pub fn decode_snapshot(bytes: &[u8]) -> Result<ProducerStates, SnapshotError> {
        let wrong_length = SnapshotError::WrongLength(bytes.len());
        let (header, entries) = bytes.split_first_chunk::<SNAPSHOT_HEADER_BYTES>().ok_or(wrong_length)?;
        let [v0, v1, c0, c1, c2, c3, n0, n1, n2, n3] = *header;
        let version = i16::from_be_bytes([v0, v1]);
        if version != SNAPSHOT_VERSION {
            return Err(SnapshotError::UnknownVersion(version));
        }
        let stored = u32::from_be_bytes([c0, c1, c2, c3]);
        let computed = crc32c(bytes.get(6..).unwrap_or_default());
        if stored != computed {
            return Err(SnapshotError::WrongChecksum { stored, computed });
        }
        let count = u32::from_be_bytes([n0, n1, n2, n3]) as usize;
        if count.checked_mul(SNAPSHOT_ENTRY_BYTES) != Some(entries.len()) {
            return Err(wrong_length);
        }
        let mut producers = HashMap::with_capacity(count);
        let (chunks, _) = entries.as_chunks::<SNAPSHOT_ENTRY_BYTES>();
        for chunk in chunks {
            let (id, entry) = decode_entry(chunk);
            producers.insert(id, entry);
        }
        Ok(ProducerStates { producers })
    }
}

fn find_repeat<'a>(entry: &'a ProducerEntry, batch: &ProducerBatch) -> Option<&'a AppendedBatch> {
    if batch.producer_epoch != entry.epoch {
        return None;
    }
    let (first, last) = (batch.base_sequence, batch.last_sequence());
    entry
        .batches
        .iter()
        .find(|kept| kept.first_sequence() == first && kept.last_sequence == last)
}

/// Sequences live on a circle of 2^31.
fn wrap(sequence: i64) -> i32 {
    (sequence.rem_euclid(1 << 31)) as i32
}

fn decode_entry(chunk: &[u8; SNAPSHOT_ENTRY_BYTES]) -> (i64, ProducerEntry) {
    fn take<const N: usize>(rest: &mut &[u8]) -> [u8; N] {
        match rest.split_first_chunk::<N>() {
            Some((head, tail)) => {
                *rest = tail;
                *head
            }
            None => [0; N],
        }
    }
    let rest = &mut chunk.as_slice();
    let id = i64::from_be_bytes(take(rest));
    let epoch = i16::from_be_bytes(take(rest));
    let last_sequence = i32::from_be_bytes(take(rest));
    let last_offset = i64::from_be_bytes(take(rest));
    let offset_delta = i32::from_be_bytes(take(rest));
    let last_timestamp = i64::from_be_bytes(take(rest));
    let coordinator_epoch = i32::from_be_bytes(take(rest));
    let transaction_first_offset = i64::from_be_bytes(take(rest)).max(NO_OFFSET);
    let last = AppendedBatch {
        last_sequence,
        last_offset,
        offset_delta,
        timestamp: last_timestamp,
    };
    let batches = if last_offset >= 0 {
        VecDeque::from([last])
    } else {
        VecDeque::new()
    };
    (
        id,
        ProducerEntry {
            epoch,
            coordinator_epoch,
            last_timestamp,
            seen_ms: None,
            transaction_first_offset,
            batches,
        },
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The broker's time; that of the records is another.
    const NOW: i64 = 1_000_000_000;

    fn batch(epoch: i16, base_sequence: i32, count: i32, base_offset: i64) -> ProducerBatch {
        ProducerBatch {
            producer_id: 7,
            producer_epoch: epoch,
            base_sequence,
            base_offset,
            last_offset_delta: count - 1,
            max_timestamp: 1_000 + base_offset,
            transactional: false,
        }
    }

    fn append(states: &mut ProducerStates, batch: ProducerBatch) {
        assert_eq!(states.check(&batch), Ok(Verdict::Append), "{batch:?}");
        states.appended(&batch, Some(NOW));
    }

    fn out_of_order(sequence: i32, last: i32) -> Result<Verdict, ProducerError> {
        Err(ProducerError::OutOfOrderSequence {
            producer_id: 7,
            sequence,
            last,
        })
    }

    #[test]
    fn an_unknown_producer_may_start_anywhere() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(3, 42, 2, 0));
        append(&mut states, batch(3, 44, 1, 2));
    }

    #[test]
    fn a_gap_and_a_forgotten_repeat_are_out_of_order() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(0, 0, 3, 0));
        assert_eq!(states.check(&batch(0, 4, 1, 3)), out_of_order(4, 2));
        assert_eq!(states.check(&batch(0, 1, 1, 3)), out_of_order(1, 2));
        assert_eq!(
            states.check(&batch(0, 0, 2, 3)),
            out_of_order(0, 2),
            "same start, other length: not a repeat"
        );
        append(&mut states, batch(0, 3, 1, 3));
    }

    #[test]
    fn each_of_the_last_five_batches_is_known_again() {
        let mut states = ProducerStates::default();
        for number in 0..6 {
            append(&mut states, batch(0, number * 2, 2, i64::from(number) * 2 + 100));
        }
        for number in 1..6 {
            let again = batch(0, number * 2, 2, 999);
            let first_offset = i64::from(number) * 2 + 100;
            let expected = Verdict::Duplicate {
                first_offset,
                last_offset: first_offset + 1,
                timestamp: 1_000 + first_offset,
            };
            assert_eq!(states.check(&again), Ok(expected));
        }
        assert_eq!(
            states.check(&batch(0, 0, 2, 999)),
            out_of_order(0, 11),
            "the sixth is forgotten"
        );
    }

    #[test]
    fn an_older_epoch_is_refused_and_a_newer_starts_at_zero() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(5, 0, 1, 0));
        assert_eq!(
            states.check(&batch(4, 0, 1, 1)),
            Err(ProducerError::InvalidProducerEpoch {
                producer_id: 7,
                epoch: 4,
                current: 5
            })
        );
        assert_eq!(states.check(&batch(6, 1, 1, 1)), out_of_order(1, -1));
        append(&mut states, batch(6, 0, 1, 1));
        assert_eq!(
            states.check(&batch(6, 0, 1, 9)),
            Ok(Verdict::Duplicate {
                first_offset: 1,
                last_offset: 1,
                timestamp: 1_001
            })
        );
    }

    #[test]
    fn sequences_wrap_after_the_largest() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(0, i32::MAX - 1, 2, 0));
        append(&mut states, batch(0, 0, 1, 2));
        let mut across = ProducerStates::default();
        let spanning = batch(0, i32::MAX - 1, 4, 0);
        assert_eq!(spanning.last_sequence(), 1);
        append(&mut across, spanning);
        assert!(matches!(
            across.check(&spanning),
            Ok(Verdict::Duplicate {
                first_offset: 0,
                last_offset: 3,
                ..
            })
        ));
        append(&mut across, batch(0, 2, 1, 4));
    }

    #[test]
    fn a_marker_resets_the_sequence_and_closes_the_transaction() {
        let mut states = ProducerStates::default();
        let open = ProducerBatch {
            transactional: true,
            ..batch(1, 0, 2, 10)
        };
        append(&mut states, open);
        assert_eq!(states.first_open_transaction_offset(), Some(10));
        assert_eq!(
            states.check(&batch(1, 2, 1, 12)),
            Err(ProducerError::InvalidTxnState {
                producer_id: 7,
                first_offset: 10
            })
        );
        states.marker_appended(7, 2, 4, 2_000, Some(NOW));
        assert_eq!(states.first_open_transaction_offset(), None);
        assert_eq!(states.check(&batch(2, 5, 1, 13)), out_of_order(5, -1));
        append(&mut states, batch(2, 0, 1, 13));
    }

    #[test]
    fn the_idle_expire_but_not_with_a_transaction_open() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(0, 0, 1, 0));
        append(
            &mut states,
            ProducerBatch {
                producer_id: 8,
                transactional: true,
                ..batch(0, 0, 1, 1)
            },
        );
        states.remove_expired(NOW + 99, 100);
        assert_eq!(states.len(), 2);
        states.remove_expired(NOW + 100, 100);
        assert_eq!(states.len(), 1);
        append(&mut states, batch(0, 77, 1, 2));
    }

    #[test]
    fn a_producer_read_back_has_its_whole_time_from_the_first_look_on() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(0, 0, 1, 0));
        states.marker_appended(9, 4, 6, 777, None);
        let mut read = ProducerStates::decode_snapshot(&states.encode_snapshot()).unwrap();
        for (after, left) in [(0, 2), (99, 2), (100, 0)] {
            read.remove_expired(NOW + after, 100);
            assert_eq!(read.len(), left, "after {after} ms");
        }
    }

    #[test]
    fn old_records_do_not_make_their_producer_forgotten() {
        let mut states = ProducerStates::default();
        let old = ProducerBatch {
            max_timestamp: -1,
            ..batch(0, 0, 1, 0)
        };
        append(&mut states, old);
        states.remove_expired(NOW, 100);
        assert!(matches!(states.check(&old), Ok(Verdict::Duplicate { .. })));
    }

    #[test]
    fn a_snapshot_keeps_the_last_batch_of_each() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(1, 0, 3, 0));
        append(&mut states, batch(1, 3, 2, 3));
        states.marker_appended(9, 4, 6, 777, None);
        let bytes = states.encode_snapshot();
        assert_eq!(bytes.len(), 10 + 2 * 46);
        let read = ProducerStates::decode_snapshot(&bytes).unwrap();
        assert!(matches!(
            read.check(&batch(1, 3, 2, 99)),
            Ok(Verdict::Duplicate {
                first_offset: 3,
                last_offset: 4,
                ..
            })
        ));
        assert_eq!(
            read.check(&batch(1, 0, 3, 99)),
            out_of_order(0, 4),
            "only the last is kept"
        );
        assert_eq!(read.check(&batch(1, 5, 1, 5)), Ok(Verdict::Append));
        assert_eq!(read.encode_snapshot(), bytes);
    }

    #[test]
    fn every_flipped_bit_and_every_cut_of_a_snapshot_is_noticed() {
        let mut states = ProducerStates::default();
        append(&mut states, batch(1, 0, 3, 0));
        let bytes = states.encode_snapshot();
        for bit in 0..bytes.len() * 8 {
            let mut damaged = bytes.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert!(ProducerStates::decode_snapshot(&damaged).is_err(), "bit {bit}");
        }
        for length in 0..bytes.len() {
            assert!(
                ProducerStates::decode_snapshot(&bytes[..length]).is_err(),
                "length {length}"
            );
        }
        assert!(
            ProducerStates::decode_snapshot(&ProducerStates::default().encode_snapshot())
                .unwrap()
                .is_empty()
        );
    }
}
