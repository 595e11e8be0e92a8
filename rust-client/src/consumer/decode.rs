//! From the bytes of a fetch to records that may be handed over.
//!
//! In: what a fetch brought for one partition, still encoded. Out: [`Chunk`]s, batch by batch, cut where the poll is
//! full. It verifies checksums, decompresses within a limit, skips control batches, aborted transactions and records
//! before the position, and reads every record once, so that nothing can fail in the application's hands.
//!
//! It refuses a batch as a whole: of a batch that cannot be read nothing is handed over, and the position stays.

#[cfg(test)]
mod tests;

use std::collections::HashSet;

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
    /// Its size on the wire.
    bytes: usize,
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

    /// The next records, at most `max_records`.
    ///
    /// # Errors
    /// The batch at the position cannot be read. The same call gives the same error.
    pub fn next(
        &mut self,
        max_records: usize,
        options: DecodeOptions,
        decompressor: &mut Decompressor,
    ) -> Result<Step, RecordError> {
        loop {
            if let Some(batch) = self.batch.take() {
                return self.give(batch, max_records);
            }
            if self.rest.is_empty() {
                return Ok(Step::End);
            }
            if let Some(step) = self.open(options, decompressor)? {
                return Ok(step);
            }
        }
    }

    /// Reads the next batch; gives a step if there is nothing in it to give out.
    fn open(&mut self, options: DecodeOptions, decompressor: &mut Decompressor) -> Result<Option<Step>, RecordError> {
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
            check(batch.origin(), records, self.position)?
        };
        let batch = opened.map(|(records, first, left)| OpenBatch {
            origin: batch.origin(),
            leader_epoch,
            records,
            first,
            left,
            next_offset,
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
        let mut records = batch.origin.iter_from(&batch.records, batch.first);
        for record in records.by_ref().take(count) {
            chunk.next_offset = record?.offset.saturating_add(1);
        }
        let left = records.remaining_bytes().len();
        batch.records = batch.records.slice(batch.records.len() - left..);
        batch.first += u32::try_from(count).unwrap_or(u32::MAX);
        batch.left -= count;
        self.batch = Some(batch);
        Ok(Step::Records { chunk, released: 0 })
    }
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

/// Reads every record of a batch once. Gives the records from `position` on, the index of the first and their number.
fn check(origin: RecordOrigin, records: Bytes, position: i64) -> Result<Option<(Bytes, u32, usize)>, RecordError> {
    let mut iter = origin.iter_from(&records, 0);
    let (mut first, mut skipped_bytes, mut count) = (0, 0, 0);
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
        } else {
            if count == 0 {
                skipped_bytes = records.len() - before;
            }
            count += 1;
        }
    }
    Ok((count > 0).then(|| (records.slice(skipped_bytes..), first, count)))
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
