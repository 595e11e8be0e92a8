//! Views of batches that came from elsewhere, and the patches a broker makes in place.
//!
//! Takes bytes: a Fetch response, a Produce request, a segment of a log. Gives [`RecordBatch`], a borrowed view whose
//! header is known to be whole and plausible, and [`RecordBatches`] for a run of them. Refuses message formats 0
//! and 1 by name and every length that the bytes do not back. It does not check the CRC unless asked, and it does
//! not look at records: that is the iterator's business.

use super::compression::{Compression, Compressor, Decompressor};
use super::iter::{RecordIter, RecordOrigin};
use super::{BATCH_HEADER_LEN, BATCH_LENGTH_END, MAGIC, NO_SEQUENCE, RecordError, at, bit, crc32c, field, set_field};

/// Whose clock a batch's timestamps come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// Each record carries what its producer said.
    CreateTime,
    /// The broker's clock at the append; every record of the batch has the batch's max timestamp.
    LogAppendTime,
}

/// One batch, borrowed. All accessors are reads of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordBatch<'a> {
    /// Header and records; never shorter than the header, exactly as long as the batch length says.
    raw: &'a [u8],
}

impl<'a> RecordBatch<'a> {
    /// Takes the first batch off `bytes` and returns it with what follows.
    ///
    /// # Errors
    /// [`RecordError::Truncated`] if the bytes end before the batch does, [`RecordError::UnsupportedMagic`],
    /// [`RecordError::InvalidBatchLength`], [`RecordError::InvalidRecordCount`], [`RecordError::InvalidOffsets`],
    /// [`RecordError::UnknownCompression`].
    pub fn parse(bytes: &'a [u8]) -> Result<(RecordBatch<'a>, &'a [u8]), RecordError> {
        let left = bytes.len();
        // Formats 0 and 1 have their magic at the same place, so a reader can name them before it knows more.
        if left <= at::MAGIC {
            return Err(RecordError::Truncated {
                needed: BATCH_HEADER_LEN,
                left,
            });
        }
        let magic = i8::from_be_bytes(field(bytes, at::MAGIC));
        if magic != MAGIC {
            return Err(RecordError::UnsupportedMagic { magic });
        }
        let length = i32::from_be_bytes(field(bytes, at::BATCH_LENGTH));
        let needed = match usize::try_from(length) {
            Ok(length) if length >= BATCH_HEADER_LEN - BATCH_LENGTH_END => length.saturating_add(BATCH_LENGTH_END),
            _ => return Err(RecordError::InvalidBatchLength { length }),
        };
        let Some((raw, rest)) = bytes.split_at_checked(needed) else {
            return Err(RecordError::Truncated { needed, left });
        };
        let batch = RecordBatch { raw };
        batch.check_header()?;
        Ok((batch, rest))
    }

    fn check_header(&self) -> Result<(), RecordError> {
        let count = i32::from_be_bytes(field(self.raw, at::RECORD_COUNT));
        let last_offset_delta = self.last_offset_delta();
        if count < 0 || i64::from(count) > i64::from(last_offset_delta) + 1 {
            return Err(RecordError::InvalidRecordCount { count });
        }
        let base_offset = self.base_offset();
        // One more than the last offset must exist as well: it is the next to read.
        if last_offset_delta < 0 || base_offset.checked_add(i64::from(last_offset_delta) + 1).is_none() {
            return Err(RecordError::InvalidOffsets {
                base_offset,
                last_offset_delta,
            });
        }
        self.compression().map(|_| ())
    }

    /// The offset of the first record that the batch ever had.
    pub fn base_offset(&self) -> i64 {
        i64::from_be_bytes(field(self.raw, at::BASE_OFFSET))
    }

    /// The offset of the last record that the batch ever had, even if compaction has removed that record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset() + i64::from(self.last_offset_delta())
    }

    /// The first offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Distance of the last offset from the base offset. Larger than the record count less one after compaction.
    pub fn last_offset_delta(&self) -> i32 {
        i32::from_be_bytes(field(self.raw, at::LAST_OFFSET_DELTA))
    }

    /// The length field: bytes after base offset and length, which is [`size`](Self::size) less 12.
    pub fn batch_length(&self) -> i32 {
        i32::from_be_bytes(field(self.raw, at::BATCH_LENGTH))
    }

    /// Bytes of the whole batch.
    pub fn size(&self) -> usize {
        self.raw.len()
    }

    /// The epoch of the leader that appended the batch, -1 before that.
    pub fn partition_leader_epoch(&self) -> i32 {
        i32::from_be_bytes(field(self.raw, at::PARTITION_LEADER_EPOCH))
    }

    /// The message format, which is 2.
    pub fn magic(&self) -> i8 {
        i8::from_be_bytes(field(self.raw, at::MAGIC))
    }

    /// The attribute bits as they are.
    pub fn attributes(&self) -> i16 {
        i16::from_be_bytes(field(self.raw, at::ATTRIBUTES))
    }

    /// The codec of the records.
    ///
    /// # Errors
    /// [`RecordError::UnknownCompression`]; never after [`parse`](Self::parse), which has looked already.
    pub fn compression(&self) -> Result<Compression, RecordError> {
        let code = (self.attributes() & bit::COMPRESSION) as u8;
        Compression::from_code(code).ok_or(RecordError::UnknownCompression { code })
    }

    /// Whose clock the timestamps come from.
    pub fn timestamp_type(&self) -> TimestampType {
        if self.has(bit::LOG_APPEND_TIME) {
            TimestampType::LogAppendTime
        } else {
            TimestampType::CreateTime
        }
    }

    /// Whether the batch belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.has(bit::TRANSACTIONAL)
    }

    /// Whether the batch holds control records, which no application sees.
    pub fn is_control(&self) -> bool {
        self.has(bit::CONTROL)
    }

    /// The time in milliseconds after which compaction may drop this batch's tombstones or markers, once set.
    pub fn delete_horizon(&self) -> Option<i64> {
        self.has(bit::DELETE_HORIZON).then(|| self.base_timestamp())
    }

    /// What the records' timestamp deltas count from. It is the first record's timestamp unless compaction has put a
    /// delete horizon there.
    pub fn base_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(self.raw, at::BASE_TIMESTAMP))
    }

    /// The latest timestamp of the batch, or the broker's time under [`TimestampType::LogAppendTime`].
    pub fn max_timestamp(&self) -> i64 {
        i64::from_be_bytes(field(self.raw, at::MAX_TIMESTAMP))
    }

    /// The producer id, or -1.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(field(self.raw, at::PRODUCER_ID))
    }

    /// The producer epoch, or -1.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(field(self.raw, at::PRODUCER_EPOCH))
    }

    /// The first record's sequence, or -1.
    pub fn base_sequence(&self) -> i32 {
        i32::from_be_bytes(field(self.raw, at::BASE_SEQUENCE))
    }

    /// The last record's sequence, or -1. After 2147483647 comes 0.
    pub fn last_sequence(&self) -> i32 {
        match self.base_sequence() {
            NO_SEQUENCE => NO_SEQUENCE,
            base => base.wrapping_add(self.last_offset_delta()) & i32::MAX,
        }
    }

    /// Records in the batch; 0 for a batch that compaction emptied and kept for its producer's sequence.
    pub fn record_count(&self) -> u32 {
        u32::from_be_bytes(field(self.raw, at::RECORD_COUNT))
    }

    /// The CRC-32C that the header states.
    pub fn crc(&self) -> u32 {
        u32::from_be_bytes(field(self.raw, at::CRC))
    }

    /// Computes the CRC-32C and compares.
    ///
    /// # Errors
    /// [`RecordError::CrcMismatch`].
    pub fn verify_crc(&self) -> Result<(), RecordError> {
        let (stored, computed) = (self.crc(), crc_of(self.raw));
        if stored == computed {
            Ok(())
        } else {
            Err(RecordError::CrcMismatch { stored, computed })
        }
    }

    /// The whole batch as it came.
    pub fn raw(&self) -> &'a [u8] {
        self.raw
    }

    /// The records as they came, compressed if the batch is.
    pub fn records_raw(&self) -> &'a [u8] {
        self.raw.get(BATCH_HEADER_LEN..).unwrap_or_default()
    }

    /// Iterates over the records: in place if they are not compressed, else in `scratch`, which holds the
    /// decompressed bytes until its next use.
    ///
    /// `max_bytes` bounds the decompressed size. Records that are not compressed are already there and not bounded.
    ///
    /// # Errors
    /// What the codec reports, and [`RecordError::DecompressedTooLarge`].
    pub fn records<'s>(&self, scratch: &'s mut Decompressor, max_bytes: usize) -> Result<RecordIter<'s>, RecordError>
    where
        'a: 's,
    {
        Ok(self.iter_over(self.records_bytes(scratch, max_bytes)?))
    }

    /// The records' bytes without compression; as for [`records`](Self::records).
    ///
    /// # Errors
    /// As [`records`](Self::records).
    pub fn records_bytes<'s>(&self, scratch: &'s mut Decompressor, max_bytes: usize) -> Result<&'s [u8], RecordError>
    where
        'a: 's,
    {
        match self.compression()? {
            Compression::None => Ok(self.records_raw()),
            compression => scratch.decompress(compression, self.records_raw(), max_bytes),
        }
    }

    /// Iterates over `records`, which must be this batch's records without compression (from
    /// [`records_bytes`](Self::records_bytes) or [`Decompressor::decompress_into`]).
    pub fn iter_over<'r>(&self, records: &'r [u8]) -> RecordIter<'r> {
        RecordIter::new(self, records)
    }

    /// What is needed to read the records later, without this header.
    pub fn origin(&self) -> RecordOrigin {
        RecordOrigin::new(self)
    }

    /// The same batch under another codec. `records` must be this batch's records without compression.
    ///
    /// Records are carried over byte for byte; header fields stay, but codec, length and CRC.
    ///
    /// # Errors
    /// What the codec reports, and [`RecordError::BatchTooLarge`].
    pub fn recompress(&self, records: &[u8], compressor: &mut Compressor) -> Result<Vec<u8>, RecordError> {
        let mut batch = Vec::with_capacity(BATCH_HEADER_LEN + records.len());
        batch.extend_from_slice(self.raw.get(..BATCH_HEADER_LEN).unwrap_or_default());
        compressor.compress_into(records, &mut batch)?;
        let length = i32::try_from(batch.len() - BATCH_LENGTH_END);
        let length = length.map_err(|_| RecordError::BatchTooLarge { size: batch.len() })?;
        let attributes = (self.attributes() & !bit::COMPRESSION) | i16::from(compressor.compression().code());
        set_field(&mut batch, at::BATCH_LENGTH, length.to_be_bytes());
        set_field(&mut batch, at::ATTRIBUTES, attributes.to_be_bytes());
        patch_crc(&mut batch);
        Ok(batch)
    }

    fn has(&self, flag: i16) -> bool {
        self.attributes() & flag != 0
    }
}

/// The batches of a run of bytes, in order.
///
/// Brokers cut Fetch responses at a size, so the last batch may be incomplete: that ends the run without an error,
/// and [`truncated`](Self::truncated) says so. Anything else that does not parse is one `Err`, and the last item.
#[derive(Debug, Clone)]
pub struct RecordBatches<'a> {
    rest: &'a [u8],
    truncated: bool,
    failed: bool,
}

impl<'a> RecordBatches<'a> {
    /// Begins at the first byte of a batch.
    pub fn new(bytes: &'a [u8]) -> Self {
        RecordBatches {
            rest: bytes,
            truncated: false,
            failed: false,
        }
    }

    /// Whether the run ended inside a batch. Of use after the last item.
    pub fn truncated(&self) -> bool {
        self.truncated
    }

    /// What was not iterated over yet; after the last item, the bytes of the incomplete or malformed batch.
    pub fn remaining(&self) -> &'a [u8] {
        self.rest
    }
}

impl<'a> Iterator for RecordBatches<'a> {
    type Item = Result<RecordBatch<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() || self.truncated || self.failed {
            return None;
        }
        match RecordBatch::parse(self.rest) {
            Ok((batch, rest)) => {
                self.rest = rest;
                Some(Ok(batch))
            }
            Err(RecordError::Truncated { .. }) => {
                self.truncated = true;
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}

impl std::iter::FusedIterator for RecordBatches<'_> {}

/// Sets the base offset of the batch in `batch`. The CRC does not cover it.
pub fn patch_base_offset(batch: &mut [u8], base_offset: i64) {
    set_field(batch, at::BASE_OFFSET, base_offset.to_be_bytes());
}

/// Sets the partition leader epoch of the batch in `batch`. The CRC does not cover it.
pub fn patch_leader_epoch(batch: &mut [u8], leader_epoch: i32) {
    set_field(batch, at::PARTITION_LEADER_EPOCH, leader_epoch.to_be_bytes());
}

/// Marks the batch as stamped by the broker's clock at `timestamp_ms` and computes the CRC anew.
///
/// `batch` is exactly one batch. Its records are not touched: readers take the batch's time for each.
pub fn patch_log_append_time(batch: &mut [u8], timestamp_ms: i64) {
    let attributes = i16::from_be_bytes(field(batch, at::ATTRIBUTES)) | bit::LOG_APPEND_TIME;
    set_field(batch, at::ATTRIBUTES, attributes.to_be_bytes());
    set_field(batch, at::MAX_TIMESTAMP, timestamp_ms.to_be_bytes());
    patch_crc(batch);
}

/// Sets the max timestamp of the batch and computes the CRC anew, for a producer that stated another one than its
/// records have. `batch` is exactly one batch.
pub fn patch_max_timestamp(batch: &mut [u8], timestamp_ms: i64) {
    set_field(batch, at::MAX_TIMESTAMP, timestamp_ms.to_be_bytes());
    patch_crc(batch);
}

pub(super) fn patch_crc(batch: &mut [u8]) {
    let crc = crc_of(batch);
    set_field(batch, at::CRC, crc.to_be_bytes());
}

fn crc_of(batch: &[u8]) -> u32 {
    crc32c(batch.get(at::ATTRIBUTES..).unwrap_or_default())
}
