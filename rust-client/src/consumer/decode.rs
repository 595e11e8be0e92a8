//! From the bytes of a fetch to records that may be handed over.
//!
//! In: what a fetch brought for one partition, still encoded. Out: [`Chunk`]s, batch by batch, cut where the poll is
//! full. It verifies checksums, decompresses within a limit, skips control batches, aborted transactions and records
//! before the position, and reads every record once, so that nothing can fail in the application's hands. While it reads it
//! remembers where polls will cut, if they go on as they began.
//!
//! It refuses a batch as a whole: of a batch that cannot be read nothing is handed over, and the position stays.

#[cfg(test)]
mod tests;

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use ottla_client_state::TopicPartition;
use ottla_protocol::records::{
    Compression, ControlRecord, Decompressor, Record, RecordBatch, RecordError, RecordOrigin,
};

use super::records::Chunk;

/// What one fetch brought for one partition.
#[derive(Debug)]
pub(super) struct CompletedFetch {
    pub partition: TopicPartition,
    /// The fence under which it was asked for.
    pub fence: u64,
    /// The first offset that is wanted; earlier records of the first batch are not.
    pub offset: i64,
    /// Whole batches.
    pub batches: Bytes,
    /// Transactions that were aborted: producer id and first offset, in any order. `None` if nobody asked.
    pub aborted: Option<Vec<(i64, i64)>>,
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecodeOptions {
    pub check_crcs: bool,
    pub max_decompressed_bytes: usize,
}

/// A fetch that is being read.
#[derive(Debug)]
pub(super) struct OpenFetch {
    pub partition: TopicPartition,
    pub fence: u64,
    /// The offset after what was given out or skipped so far.
    pub position: i64,
    rest: Bytes,
    batch: Option<OpenBatch>,
    transactions: Option<AbortedTransactions>,
}

/// A batch that was read and is given out piece by piece.
#[derive(Debug)]
struct OpenBatch {
    origin: RecordOrigin,
    leader_epoch: i32,
    /// The records not yet given out.
    records: Bytes,
    first: u32,
    left: usize,
    next_offset: i64,
    /// Where polls of the same size cut what is left.
    cuts: VecDeque<Cut>,
    /// Its size on the wire.
    bytes: usize,
}

/// How many records the coming polls will want.
#[derive(Debug, Clone, Copy)]
pub(super) struct Want {
    /// This one: what it has no record for yet.
    pub now: usize,
    /// Each of those after it, if they go on like this one.
    pub each: usize,
}

/// How many cuts are remembered at most: a batch has up to two thousand million records, and a poll may want one.
const MOST_CUTS: usize = 1024;

/// The end of a piece of a batch.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// Records in the piece.
    count: usize,
    /// Bytes of records behind it.
    bytes_left: usize,
    /// The offset after its last record.
    next_offset: i64,
}

/// What reading a whole batch has found.
struct Checked {
    /// From the first wanted record on.
    records: Bytes,
    /// The number of that record in the batch.
    first: u32,
    count: usize,
    cuts: VecDeque<Cut>,
}

/// One step forward.
#[derive(Debug)]
pub(super) enum Step {
    /// Records to hand over. `released` bytes of the buffer are done with.
    Records { chunk: Chunk, released: usize },
    /// Nothing to hand over, but the position moves: a control batch, an aborted or an empty one.
    Skipped {
        next_offset: i64,
        leader_epoch: i32,
        released: usize,
    },
    /// All was given out.
    End,
}

impl OpenFetch {
    pub fn new(fetch: CompletedFetch) -> Self {
        OpenFetch {
            partition: fetch.partition,
            fence: fetch.fence,
            position: fetch.offset,
            rest: fetch.batches,
            batch: None,
            transactions: fetch.aborted.map(AbortedTransactions::new),
        }
    }

    /// Bytes of the buffer that were not given out.
    pub fn bytes_left(&self) -> usize {
        self.rest.len() + self.batch.as_ref().map_or(0, |batch| batch.bytes)
    }

    /// The next records, at most `want.now`.
    ///
    /// # Errors
    /// The batch at the position cannot be read. The same call gives the same error.
    pub fn next(
        &mut self,
        want: Want,
        options: DecodeOptions,
        decompressor: &mut Decompressor,
    ) -> Result<Step, RecordError> {
        loop {
            if let Some(batch) = self.batch.take() {
                return self.give(batch, want.now);
            }
            if self.rest.is_empty() {
                return Ok(Step::End);
            }
            if let Some(step) = self.open(want, options, decompressor)? {
                return Ok(step);
            }
        }
    }

    /// Reads the next batch; gives a step if there is nothing in it to give out.
    fn open(
        &mut self,
        want: Want,
        options: DecodeOptions,
        decompressor: &mut Decompressor,
    ) -> Result<Option<Step>, RecordError> {
        let (batch, rest) = RecordBatch::parse(&self.rest)?;
        let (size, next_offset) = (batch.size(), batch.next_offset());
        let rest_length = rest.len();
        let leader_epoch = batch.partition_leader_epoch();
        if options.check_crcs {
            batch.verify_crc()?;
        }
        let aborted = match &mut self.transactions {
            Some(transactions) => transactions.aborts(&batch)?,
            None => false,
        };
        let opened = if batch.is_control() || aborted || next_offset <= self.position {
            None
        } else {
            let records = uncompressed(&batch, &self.rest, options, decompressor)?;
            check(batch.origin(), records, self.position, want)?
        };
        let batch = opened.map(|checked| OpenBatch {
            origin: batch.origin(),
            leader_epoch,
            records: checked.records,
            first: checked.first,
            left: checked.count,
            next_offset,
            cuts: checked.cuts,
            bytes: size,
        });
        self.rest = self.rest.slice(self.rest.len() - rest_length..);
        self.position = self.position.max(next_offset);
        if batch.is_none() {
            return Ok(Some(Step::Skipped {
                next_offset: self.position,
                leader_epoch,
                released: size,
            }));
        }
        self.batch = batch;
        Ok(None)
    }

    /// Gives out up to `max_records` of an open batch and keeps the rest.
    fn give(&mut self, mut batch: OpenBatch, max_records: usize) -> Result<Step, RecordError> {
        let whole = batch.left <= max_records;
        let count = batch.left.min(max_records);
        let mut chunk = Chunk {
            partition: self.partition.clone(),
            // Told when it is handed over.
            assignment: 0,
            origin: batch.origin,
            leader_epoch: batch.leader_epoch,
            records: batch.records.clone(),
            first: batch.first,
            count,
            next_offset: batch.next_offset,
        };
        if whole {
            return Ok(Step::Records {
                chunk,
                released: batch.bytes,
            });
        }
        let cut = match batch.cuts.pop_front() {
            Some(cut) if cut.count == count => cut,
            _ => {
                batch.cuts.clear();
                cut_after(&batch, count)?
            }
        };
        chunk.next_offset = cut.next_offset;
        batch.records = batch.records.slice(batch.records.len() - cut.bytes_left..);
        batch.first += u32::try_from(count).unwrap_or(u32::MAX);
        batch.left -= count;
        self.batch = Some(batch);
        Ok(Step::Records { chunk, released: 0 })
    }
}

/// Where the first `count` records of what is left end, found by reading them.
fn cut_after(batch: &OpenBatch, count: usize) -> Result<Cut, RecordError> {
    let mut records = batch.origin.iter_from(&batch.records, batch.first);
    let mut next_offset = batch.next_offset;
    for record in records.by_ref().take(count) {
        next_offset = record?.offset.saturating_add(1);
    }
    Ok(Cut {
        count,
        bytes_left: records.remaining_bytes().len(),
        next_offset,
    })
}

/// The records of a batch without compression: a share of the buffer they came in, or a buffer of their own.
fn uncompressed(
    batch: &RecordBatch<'_>,
    buffer: &Bytes,
    options: DecodeOptions,
    decompressor: &mut Decompressor,
) -> Result<Bytes, RecordError> {
    let raw = batch.records_raw();
    match batch.compression()? {
        Compression::None => Ok(buffer.slice_ref(raw)),
        compression => {
            let mut output = Vec::new();
            decompressor.decompress_into(compression, raw, options.max_decompressed_bytes, &mut output)?;
            Ok(Bytes::from(output))
        }
    }
}

/// Reads every record of a batch once. Gives those from `position` on, if there are any.
fn check(origin: RecordOrigin, records: Bytes, position: i64, want: Want) -> Result<Option<Checked>, RecordError> {
    let mut iter = origin.iter_from(&records, 0);
    let (mut first, mut skipped_bytes, mut count) = (0, 0, 0);
    let (mut cuts, mut next_cut, mut piece) = (VecDeque::new(), want.now, want.now);
    let mut last_delta = -1;
    loop {
        let before = iter.remaining_bytes().len();
        let Some(record) = iter.next() else { break };
        let record: Record<'_> = record?;
        // Growing offsets are what lets a position stand for everything before it.
        if record.offset_delta <= last_delta {
            return Err(RecordError::InvalidOffsetDelta {
                index: record.index(),
                offset_delta: record.offset_delta,
            });
        }
        last_delta = record.offset_delta;
        if record.offset < position {
            first = record.index() + 1;
            continue;
        }
        if count == 0 {
            skipped_bytes = records.len() - before;
        }
        count += 1;
        if count == next_cut && cuts.len() < MOST_CUTS {
            cuts.push_back(Cut {
                count: piece,
                bytes_left: iter.remaining_bytes().len(),
                next_offset: record.offset.saturating_add(1),
            });
            piece = want.each;
            next_cut = next_cut.saturating_add(piece);
        }
    }
    Ok((count > 0).then(|| Checked {
        records: records.slice(skipped_bytes..),
        first,
        count,
        cuts,
    }))
}

/// Which transactions of a fetch were aborted (`isolation.level=read_committed`).
///
/// A transaction's records lie from its first offset to the marker that ended it. The broker's list says which were
/// aborted; it may be unsorted and name one twice, so nothing here depends on its order.
#[derive(Debug)]
struct AbortedTransactions {
    /// Those that have not begun yet, the one with the lowest first offset last.
    ahead: Vec<(i64, i64)>,
    /// Producers inside an aborted transaction.
    open: HashSet<i64>,
}

impl AbortedTransactions {
    fn new(mut list: Vec<(i64, i64)>) -> Self {
        list.sort_unstable_by_key(|(_, first_offset)| std::cmp::Reverse(*first_offset));
        AbortedTransactions {
            ahead: list,
            open: HashSet::new(),
        }
    }

    /// Whether `batch` belongs to an aborted transaction. Batches must come in the order of their offsets.
    fn aborts(&mut self, batch: &RecordBatch<'_>) -> Result<bool, RecordError> {
        while let Some((producer_id, _)) = self
            .ahead
            .pop_if(|(_, first_offset)| *first_offset <= batch.last_offset())
        {
            self.open.insert(producer_id);
        }
        if !batch.is_transactional() {
            return Ok(false);
        }
        if batch.is_control() {
            // Whatever the marker says, the producer's transaction ends here: what follows belongs to the next one.
            if let Some(record) = batch.iter_over(batch.records_raw()).next()
                && let ControlRecord::EndTransaction(_) = ControlRecord::read(&record?)?
            {
                self.open.remove(&batch.producer_id());
            }
            return Ok(false);
        }
        Ok(self.open.contains(&batch.producer_id()))
    }
}
