//! Record batches: the bytes that producers write, brokers store and consumers read.
//!
//! Takes: keys, values, timestamps and headers, or the bytes of one or many batches.
//! Gives: a [`SealedBatch`] ready for the wire, or borrowed views ([`RecordBatch`], [`Record`]) of bytes that came
//! from elsewhere. Refuses: message formats 0 and 1, and every length, count or checksum that its bytes do not back.
//!
//! It knows nothing of topics, requests or retries, and it allocates nothing per record.
//!
//! # The 61-byte header of a batch (format 2), all integers big-endian
//!
//! | at | field | type |
//! |---|---|---|
//! | 0 | base offset | int64 |
//! | 8 | batch length: bytes after this field | int32 |
//! | 12 | partition leader epoch | int32 |
//! | 16 | magic, always 2 | int8 |
//! | 17 | CRC-32C of bytes 21 to the end | uint32 |
//! | 21 | attributes | int16 |
//! | 23 | last offset delta | int32 |
//! | 27 | base timestamp, or the delete horizon | int64 |
//! | 35 | max timestamp | int64 |
//! | 43 | producer id, -1 without | int64 |
//! | 51 | producer epoch, -1 without | int16 |
//! | 53 | base sequence, -1 without | int32 |
//! | 57 | record count | int32 |
//! | 61 | records; if compressed, as one block | |
//!
//! The base offset and the partition leader epoch lie before the range of the CRC. So a broker that appends a batch
//! patches twelve bytes and touches neither checksum nor records.
//!
//! Attributes: bits 0 to 2 compression, bit 3 timestamp type (1: log append time), bit 4 transactional, bit 5
//! control, bit 6 the base timestamp is a delete horizon.

pub mod batch;
pub mod builder;
mod checksum;
pub mod compression;
pub mod control;
mod filter;
pub mod iter;
mod sealed;
pub mod walk;

pub use batch::{RecordBatch, RecordBatches, TimestampType};
pub use builder::RecordBatchBuilder;
pub use checksum::crc32c;
pub use compression::{Compression, Compressor, Decompressor, with_compressor, with_decompressor};
pub use control::{ControlRecord, EndTransactionMarker};
pub use iter::{Header, Headers, RawHeaders, Record, RecordIter, RecordOrigin, RecordsSummary};
pub use sealed::SealedBatch;
pub use walk::Outline;

/// Bytes of a batch before its first record.
pub const BATCH_HEADER_LEN: usize = 61;

/// Bytes before the range that `batch length` counts: base offset and the length itself.
pub const BATCH_LENGTH_END: usize = 12;

/// The only message format that is written and read here.
pub const MAGIC: i8 = 2;

/// Stands for "no producer" in a batch that is neither idempotent nor transactional.
pub const NO_PRODUCER_ID: i64 = -1;
/// The epoch beside [`NO_PRODUCER_ID`].
pub const NO_PRODUCER_EPOCH: i16 = -1;
/// The base sequence beside [`NO_PRODUCER_ID`].
pub const NO_SEQUENCE: i32 = -1;
/// The leader epoch of a batch that no leader has appended yet.
pub const NO_PARTITION_LEADER_EPOCH: i32 = -1;
/// The timestamp of a record that has none. Kafka knows no other negative timestamp.
pub const NO_TIMESTAMP: i64 = -1;

/// Where the fields of the batch header begin.
pub(crate) mod at {
    pub const BASE_OFFSET: usize = 0;
    pub const BATCH_LENGTH: usize = 8;
    pub const PARTITION_LEADER_EPOCH: usize = 12;
    pub const MAGIC: usize = 16;
    pub const CRC: usize = 17;
    pub const ATTRIBUTES: usize = 21;
    pub const LAST_OFFSET_DELTA: usize = 23;
    pub const BASE_TIMESTAMP: usize = 27;
    pub const MAX_TIMESTAMP: usize = 35;
    pub const PRODUCER_ID: usize = 43;
    pub const PRODUCER_EPOCH: usize = 51;
    pub const BASE_SEQUENCE: usize = 53;
    pub const RECORD_COUNT: usize = 57;
}

/// The bits of the `attributes` field.
pub(crate) mod bit {
    pub const COMPRESSION: i16 = 0b111;
    pub const LOG_APPEND_TIME: i16 = 1 << 3;
    pub const TRANSACTIONAL: i16 = 1 << 4;
    pub const CONTROL: i16 = 1 << 5;
    pub const DELETE_HORIZON: i16 = 1 << 6;
}

/// What is wrong with a batch, a record or a request to build one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Building: the batch would no longer fit into the 32-bit length of the format.
    #[error("a batch of {size} bytes exceeds the format's limit of 2147483647")]
    BatchTooLarge {
        /// Bytes the batch would have had, header included (saturated).
        size: usize,
    },
    /// Building: a timestamp below zero that is not [`NO_TIMESTAMP`].
    #[error("timestamp {timestamp} is negative")]
    NegativeTimestamp {
        /// The timestamp given, in milliseconds since 1970.
        timestamp: i64,
    },
    /// Building: offset deltas must grow from record to record and fit into 31 bits.
    #[error("offset delta {offset_delta} is not in {least}..=2147483647")]
    OffsetDeltaOutOfRange {
        /// The delta given.
        offset_delta: u32,
        /// The least that may follow the record before.
        least: u32,
    },
    /// Building: a batch must hold at least one record.
    #[error("a batch needs at least one record")]
    EmptyBatch,
    /// The bytes end inside a batch. In a Fetch response and at the end of a log this is normal.
    #[error("the batch needs {needed} bytes but {left} are left")]
    Truncated {
        /// Bytes needed from the start of the batch.
        needed: usize,
        /// Bytes there are.
        left: usize,
    },
    /// Message format 0 or 1 (before Kafka 0.11), or a number never assigned.
    #[error("message format {magic} is not supported, only format 2 is")]
    UnsupportedMagic {
        /// The format's number.
        magic: i8,
    },
    /// The batch length cannot hold the header.
    #[error("batch length {length} is less than the 49 bytes of the header")]
    InvalidBatchLength {
        /// The length field's value.
        length: i32,
    },
    /// Checksum and bytes disagree.
    #[error("CRC-32C is {computed:#010x} but the batch says {stored:#010x}")]
    CrcMismatch {
        /// What the header says.
        stored: u32,
        /// What the bytes give.
        computed: u32,
    },
    /// A negative record count, or one that contradicts the records or the last offset delta.
    #[error("record count {count} does not agree with the batch")]
    InvalidRecordCount {
        /// The count field's value.
        count: i32,
    },
    /// Base offset and last offset delta that give no offset.
    #[error("base offset {base_offset} and last offset delta {last_offset_delta} give no offset")]
    InvalidOffsets {
        /// The base offset field's value.
        base_offset: i64,
        /// The last offset delta field's value.
        last_offset_delta: i32,
    },
    /// A record's offset delta lies outside its batch, or leaves a gap where none may be.
    #[error("offset delta {offset_delta} of record {index} is out of place")]
    InvalidOffsetDelta {
        /// Position of the record in its batch, from 0.
        index: u32,
        /// The delta found.
        offset_delta: i32,
    },
    /// Record number `index` does not parse.
    #[error("record {index}: {flaw}")]
    InvalidRecord {
        /// Position of the record in its batch, from 0.
        index: u32,
        /// What is wrong with it.
        flaw: RecordFlaw,
    },
    /// Bytes follow the last record of a batch.
    #[error("{left} bytes follow the last record of the batch")]
    TrailingBytes {
        /// How many.
        left: usize,
    },
    /// A control batch whose record is no control record of a known shape.
    #[error("the control record is malformed")]
    InvalidControlRecord,
    /// Compression codes 5 to 7 were never assigned.
    #[error("compression code {code} is unknown")]
    UnknownCompression {
        /// The attribute bits' value.
        code: u8,
    },
    /// This build was made without the codec.
    #[error("this build has no {compression} (enable the cargo feature of that name)")]
    CompressionUnavailable {
        /// The codec asked for.
        compression: Compression,
    },
    /// A level outside the codec's range.
    #[error("level {level} is out of range for {compression}")]
    InvalidCompressionLevel {
        /// The codec.
        compression: Compression,
        /// The level asked for.
        level: i32,
    },
    /// The compressed bytes are not what the codec writes.
    #[error("the bytes are not valid {compression}")]
    CorruptCompression {
        /// The codec that the batch names.
        compression: Compression,
    },
    /// The records would take more room than the caller allows.
    #[error("the records take more than {limit} bytes when decompressed")]
    DecompressedTooLarge {
        /// The caller's limit in bytes.
        limit: usize,
    },
    /// The codec failed for a reason that is not in the data (out of memory).
    #[error("{compression} failed to compress")]
    CompressionFailed {
        /// The codec.
        compression: Compression,
    },
}

/// What is wrong with one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordFlaw {
    /// The bytes end inside a field.
    #[error("the bytes end early")]
    Short,
    /// A variable-length integer does not end where its type does.
    #[error("a variable-length integer is too long")]
    VarintTooLong,
    /// A length or count below what the field allows.
    #[error("a length or count is negative")]
    NegativeLength,
    /// The record's parts take less room than its length says.
    #[error("its parts are shorter than its length")]
    LengthMismatch,
    /// A header's key is not UTF-8.
    #[error("a header key is not valid UTF-8")]
    HeaderKeyNotUtf8,
}

/// Reads `N` bytes at `offset` of a header that is known to be long enough.
///
/// A header that is shorter after all reads as zeros, which no caller lets happen: [`RecordBatch::parse`] and
/// [`SealedBatch`] both guarantee 61 bytes.
#[inline]
pub(crate) fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    match bytes.get(offset..).and_then(<[u8]>::first_chunk::<N>) {
        Some(chunk) => *chunk,
        None => [0; N],
    }
}

/// Writes `value` at `offset`; does nothing if the bytes are not there.
#[inline]
pub(crate) fn set_field<const N: usize>(bytes: &mut [u8], offset: usize, value: [u8; N]) {
    if let Some(chunk) = bytes.get_mut(offset..).and_then(<[u8]>::first_chunk_mut::<N>) {
        *chunk = value;
    }
}
