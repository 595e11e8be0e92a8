//! Building: records in, one sealed batch out.
//!
//! Takes records one by one and writes each exactly once, straight into a buffer that the caller lends and gets back
//! as the body of the batch. Gives a [`SealedBatch`]: a header of 61 bytes of its own and a body that nobody changes
//! any more. Refuses what the format cannot say: a batch beyond 2^31 - 1 bytes, negative timestamps.
//!
//! The buffer holds records only; the header is made when the batch is sealed and stays beside the body. So a retry
//! with another producer id rewrites 61 bytes while the body may be in a socket's queue, and the body is the whole
//! buffer: no slice, no offset.

use bytes::Bytes;

use super::checksum::RunningChecksum;
use super::compression::{Compression, Compressor, with_compressor};
use super::iter::Header;
use super::sealed::SealedBatch;
use super::{
    BATCH_HEADER_LEN, BATCH_LENGTH_END, MAGIC, NO_PARTITION_LEADER_EPOCH, NO_PRODUCER_EPOCH, NO_PRODUCER_ID,
    NO_SEQUENCE, NO_TIMESTAMP, RecordError, at, set_field,
};

/// The most that a record's lengths, deltas and counts can take, its headers' lengths not included: five varints of
/// five bytes, one of ten, and the attributes.
const MAX_RECORD_OVERHEAD: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;

/// How far the buffer is filled with zeros at a time. Safe code cannot write into bytes that were never written, and a
/// batch of one record should not pay for a whole buffer.
const ZEROED_AT_ONCE: usize = 4 << 10;

/// Collects records of one batch.
///
/// The base timestamp is the first record's; later records may be older. Offsets begin at 0 and grow by one.
#[derive(Debug)]
pub struct RecordBatchBuilder {
    /// The records written so far, uncompressed, and behind them bytes of no meaning.
    buffer: Vec<u8>,
    /// Where the records end in `buffer`.
    end: usize,
    /// Records written so far.
    count: u32,
    /// Offset delta of the next record; equal to `count` unless a caller left gaps.
    next_offset_delta: u32,
    base_timestamp: i64,
    max_timestamp: i64,
    checksum: RunningChecksum,
}

impl RecordBatchBuilder {
    /// Starts a batch in `buffer`, whose content is of no meaning and whose capacity is used.
    ///
    /// A buffer from a pool is best left as it came back: what was written once need not be zeroed again.
    pub fn new(buffer: Vec<u8>) -> Self {
        RecordBatchBuilder {
            buffer,
            end: 0,
            count: 0,
            next_offset_delta: 0,
            base_timestamp: NO_TIMESTAMP,
            max_timestamp: NO_TIMESTAMP,
            checksum: RunningChecksum::off(),
        }
    }

    /// Works out the CRC of the records while they are still in the processor's cache, a stretch at a time. For
    /// batches that will not be compressed; it pays for those larger than the cache.
    #[must_use]
    pub fn checksum_early(mut self) -> Self {
        self.checksum = RunningChecksum::on();
        self
    }

    /// Writes one record and returns its offset delta, which is also its place in the batch.
    ///
    /// Nothing is written when an error is returned.
    ///
    /// # Errors
    /// [`RecordError::BatchTooLarge`] beyond 2^31 - 1 bytes, [`RecordError::NegativeTimestamp`].
    #[inline]
    pub fn append(
        &mut self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<u32, RecordError> {
        let shape = self.shape(self.next_offset_delta, timestamp_ms, key, value, headers);
        self.write(&shape, timestamp_ms, key, value, headers)
    }

    /// As [`append`](Self::append), unless the batch would then be larger than `limit` bytes: that gives `None`.
    ///
    /// An empty batch takes a record of any size, as otherwise that record could never leave.
    ///
    /// # Errors
    /// As [`append`](Self::append).
    #[inline]
    pub fn append_within(
        &mut self,
        limit: usize,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<Option<u32>, RecordError> {
        let shape = self.shape(self.next_offset_delta, timestamp_ms, key, value, headers);
        if self.count > 0 && self.size().saturating_add(shape.size) > limit {
            return Ok(None);
        }
        self.write(&shape, timestamp_ms, key, value, headers).map(Some)
    }

    /// As [`append`](Self::append) at a given offset delta: compaction leaves gaps and keeps offsets.
    ///
    /// # Errors
    /// As [`append`](Self::append), and [`RecordError::OffsetDeltaOutOfRange`].
    pub fn append_at(
        &mut self,
        offset_delta: u32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<u32, RecordError> {
        if offset_delta < self.next_offset_delta {
            return Err(RecordError::OffsetDeltaOutOfRange {
                offset_delta,
                least: self.next_offset_delta,
            });
        }
        let shape = self.shape(offset_delta, timestamp_ms, key, value, headers);
        self.write(&shape, timestamp_ms, key, value, headers)
    }

    /// Bytes of the batch so far, header included, before compression.
    #[inline]
    pub fn size(&self) -> usize {
        BATCH_HEADER_LEN + self.end
    }

    /// Bytes that `append` would add now, exactly (saturated at `usize::MAX`).
    pub fn record_size(
        &self,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> usize {
        self.shape(self.next_offset_delta, timestamp_ms, key, value, headers)
            .size
    }

    /// The most bytes that such a record can take in any batch. A batch of this record alone takes
    /// [`BATCH_HEADER_LEN`] more.
    pub fn size_upper_bound(key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]) -> usize {
        let fixed = MAX_RECORD_OVERHEAD + key.map_or(0, <[u8]>::len) + value.map_or(0, <[u8]>::len);
        headers_size(headers).saturating_add(fixed)
    }

    /// Records written so far.
    #[inline]
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Whether no record was written yet.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The first record's timestamp in milliseconds, or [`NO_TIMESTAMP`].
    pub fn base_timestamp(&self) -> i64 {
        self.base_timestamp
    }

    /// The latest timestamp in milliseconds, or [`NO_TIMESTAMP`].
    pub fn max_timestamp(&self) -> i64 {
        self.max_timestamp
    }

    /// The records written so far, uncompressed.
    pub fn records(&self) -> &[u8] {
        self.buffer.get(..self.end).unwrap_or_default()
    }

    /// Gives the buffer back, with whatever was written, without making a batch.
    pub fn into_buffer(mut self) -> Vec<u8> {
        self.buffer.truncate(self.end);
        self.buffer
    }

    /// Ends the batch. `level` as in [`Compressor::new`]; `None` is the codec's default.
    ///
    /// # Errors
    /// As [`seal_using`](Self::seal_using).
    pub fn seal(self, compression: Compression, level: Option<i32>) -> Result<SealedBatch, RecordError> {
        self.seal_with(compression, level, Bytes::from)
    }

    /// As [`seal`](Self::seal); `wrap` turns the buffer into the body, so that a pool can get it back when the last
    /// reference is gone (`Bytes::from_owner`).
    ///
    /// Each thread keeps one compression context for its next call with the same codec and level.
    ///
    /// # Errors
    /// As [`seal_using`](Self::seal_using).
    pub fn seal_with(
        self,
        compression: Compression,
        level: Option<i32>,
        wrap: impl FnOnce(Vec<u8>) -> Bytes,
    ) -> Result<SealedBatch, RecordError> {
        with_compressor(compression, level, |compressor| self.seal_using(compressor, wrap))
    }

    /// As [`seal_with`](Self::seal_with) with a context that the caller keeps.
    ///
    /// The compressed bytes end in the same buffer, which grows only if the data does not compress.
    ///
    /// # Errors
    /// [`RecordError::EmptyBatch`], [`RecordError::BatchTooLarge`] if incompressible data grew beyond the format's
    /// limit, or what the codec reports.
    pub fn seal_using(
        mut self,
        compressor: &mut Compressor,
        wrap: impl FnOnce(Vec<u8>) -> Bytes,
    ) -> Result<SealedBatch, RecordError> {
        if self.count == 0 {
            return Err(RecordError::EmptyBatch);
        }
        self.buffer.truncate(self.end);
        let mut body_crc = None;
        if compressor.compression() != Compression::None {
            compressor.compress_in_place(&mut self.buffer)?;
        } else {
            body_crc = self.checksum.finish(&self.buffer);
        }
        let size = BATCH_HEADER_LEN + self.buffer.len();
        let batch_length = i32::try_from(size - BATCH_LENGTH_END);
        let batch_length = batch_length.map_err(|_| RecordError::BatchTooLarge { size })?;

        let mut header = [0; BATCH_HEADER_LEN];
        set_field(&mut header, at::BATCH_LENGTH, batch_length.to_be_bytes());
        set_field(
            &mut header,
            at::PARTITION_LEADER_EPOCH,
            NO_PARTITION_LEADER_EPOCH.to_be_bytes(),
        );
        set_field(&mut header, at::MAGIC, MAGIC.to_be_bytes());
        set_field(
            &mut header,
            at::ATTRIBUTES,
            i16::from(compressor.compression().code()).to_be_bytes(),
        );
        set_field(
            &mut header,
            at::LAST_OFFSET_DELTA,
            (self.next_offset_delta - 1).to_be_bytes(),
        );
        set_field(&mut header, at::BASE_TIMESTAMP, self.base_timestamp.to_be_bytes());
        set_field(&mut header, at::MAX_TIMESTAMP, self.max_timestamp.to_be_bytes());
        set_field(&mut header, at::PRODUCER_ID, NO_PRODUCER_ID.to_be_bytes());
        set_field(&mut header, at::PRODUCER_EPOCH, NO_PRODUCER_EPOCH.to_be_bytes());
        set_field(&mut header, at::BASE_SEQUENCE, NO_SEQUENCE.to_be_bytes());
        set_field(&mut header, at::RECORD_COUNT, self.count.to_be_bytes());
        Ok(SealedBatch::new(header, wrap(self.buffer), body_crc))
    }

    #[inline(always)] // a shape that travels through memory costs a third of the append
    fn shape(
        &self,
        offset_delta: u32,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Shape {
        // Both lie in -1..=i64::MAX once `write` has looked at them, so the difference cannot overflow there.
        let timestamp_delta = if self.count == 0 {
            0
        } else {
            timestamp_ms.wrapping_sub(self.base_timestamp)
        };
        let timestamp_delta = zigzag64(timestamp_delta);
        let offset_delta_zigzag = zigzag32(offset_delta as i32);
        let fixed = 1 + varint_len64(timestamp_delta) + varint_len32(offset_delta_zigzag);
        let body = fixed + optional_size(key) + optional_size(value);
        let body = if headers.is_empty() {
            body + 1
        } else {
            body.saturating_add(headers_size(headers))
        };
        let size = body.saturating_add(length_len(body));
        Shape {
            timestamp_delta,
            offset_delta,
            offset_delta_zigzag,
            body,
            size,
        }
    }

    #[inline(always)]
    fn write(
        &mut self,
        shape: &Shape,
        timestamp_ms: i64,
        key: Option<&[u8]>,
        value: Option<&[u8]>,
        headers: &[Header<'_>],
    ) -> Result<u32, RecordError> {
        let size = self.size().saturating_add(shape.size);
        if size > i32::MAX as usize {
            return Err(RecordError::BatchTooLarge { size });
        }
        if shape.offset_delta > i32::MAX as u32 {
            return Err(RecordError::OffsetDeltaOutOfRange {
                offset_delta: shape.offset_delta,
                least: self.next_offset_delta,
            });
        }
        if timestamp_ms < NO_TIMESTAMP {
            return Err(RecordError::NegativeTimestamp {
                timestamp: timestamp_ms,
            });
        }
        if self.count == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let end = self.end + shape.size;
        if end > self.buffer.len() {
            self.make_room(end);
        }

        // From here every length is below 2^31, because the whole is.
        let room = self.buffer.get_mut(self.end..).unwrap_or_default();
        let at = put_varint32(room, 0, zigzag32(shape.body as i32));
        let at = put_attributes_and_timestamp(room, at, shape.timestamp_delta);
        let at = put_varint32(room, at, shape.offset_delta_zigzag);
        let at = put_optional(room, at, key);
        let at = put_optional(room, at, value);
        let at = if headers.is_empty() {
            put(room, at, 0, 1)
        } else {
            put_headers(room, at, headers)
        };
        debug_assert_eq!(at, shape.size);

        self.end = end;
        self.count += 1;
        self.next_offset_delta = shape.offset_delta + 1;
        if self.checksum.is_due(end) {
            self.checksum.advance(self.buffer.get(..end).unwrap_or_default());
        }
        Ok(shape.offset_delta)
    }

    #[cold]
    fn make_room(&mut self, end: usize) {
        if end > self.buffer.capacity() {
            self.buffer.reserve(end - self.buffer.len());
        }
        self.buffer
            .resize(end.saturating_add(ZEROED_AT_ONCE).min(self.buffer.capacity()), 0);
    }
}

/// What a record will take, worked out before the first byte is written: the length comes first on the wire.
struct Shape {
    timestamp_delta: u64,
    offset_delta: u32,
    offset_delta_zigzag: u32,
    /// Bytes after the record's own length.
    body: usize,
    /// Bytes in all.
    size: usize,
}

// The `put` functions write a field at `at` of the room behind the records, which is long enough for the record and
// mostly longer, and return where the field ends. They pass the place from hand to hand because a cursor behind a
// reference would live in memory, and each field would wait for it there.

/// Writes the lowest `len` (at most 8) bytes of `packed`, the lowest first.
///
/// Where there is room it stores all eight at once: what is too much, the next field overwrites.
#[inline(always)]
fn put(room: &mut [u8], at: usize, packed: u64, len: usize) -> usize {
    if let Some(chunk) = room.get_mut(at..).and_then(<[u8]>::first_chunk_mut::<8>) {
        *chunk = packed.to_le_bytes();
    } else {
        put_at_the_end(room, at, packed, len);
    }
    at + len
}

#[cold]
#[inline(never)]
fn put_at_the_end(room: &mut [u8], at: usize, packed: u64, len: usize) {
    let rest = room.get_mut(at..).unwrap_or_default();
    for (to, from) in rest.iter_mut().zip(packed.to_le_bytes()).take(len) {
        *to = from;
    }
}

#[inline(always)]
fn put_varint32(room: &mut [u8], at: usize, value: u32) -> usize {
    if value < TWO_BYTES {
        let (packed, len) = pack_two(u64::from(value));
        put(room, at, packed, len)
    } else {
        put_long_varint(room, at, u64::from(value))
    }
}

/// A record's attributes, of which none are defined, and its timestamp delta.
#[inline(always)]
fn put_attributes_and_timestamp(room: &mut [u8], at: usize, delta: u64) -> usize {
    if delta < u64::from(TWO_BYTES) {
        let (packed, len) = pack_two(delta);
        put(room, at, packed << 8, 1 + len)
    } else {
        let at = put(room, at, 0, 1);
        put_long_varint(room, at, delta)
    }
}

#[inline(never)]
fn put_long_varint(room: &mut [u8], mut at: usize, mut value: u64) -> usize {
    while value >> 35 != 0 {
        at = put(room, at, value | 0x80, 1);
        value >>= 7;
    }
    put(room, at, spread(value), varint_len64(value))
}

#[inline(always)]
fn put_optional(room: &mut [u8], at: usize, bytes: Option<&[u8]>) -> usize {
    let Some(bytes) = bytes else {
        return put(room, at, u64::from(zigzag32(-1)), 1);
    };
    let start = put_varint32(room, at, (bytes.len() as u32) << 1);
    let end = start + bytes.len();
    room.get_mut(start..end).unwrap_or_default().copy_from_slice(bytes);
    end
}

#[inline(never)]
fn put_headers(room: &mut [u8], at: usize, headers: &[Header<'_>]) -> usize {
    let mut at = put_varint32(room, at, zigzag32(headers.len() as i32));
    for header in headers {
        at = put_optional(room, at, Some(header.key.as_bytes()));
        at = put_optional(room, at, header.value);
    }
    at
}

/// Values below this take one byte or two, and which of them is decided without a branch: sizes and deltas around a
/// power of two would defeat the branch predictor.
const TWO_BYTES: u32 = 1 << 14;

/// The varint of a value below [`TWO_BYTES`] and its length.
#[inline]
fn pack_two(value: u64) -> (u64, usize) {
    let more = u64::from(value >= 0x80);
    ((value & 0x7f) | more << 7 | (value >> 7) << 8, 1 + more as usize)
}

/// Spreads 35 bits over five bytes, seven in each, with the continuation bit in all but the last.
#[inline]
fn spread(value: u64) -> u64 {
    let sevens = (value & 0x7f)
        | (value & 0x3f80) << 1
        | (value & 0x1f_c000) << 2
        | (value & 0xfe0_0000) << 3
        | (value & 0x7_f000_0000) << 4;
    let continued = (1 << (8 * (varint_len64(value) - 1))) - 1;
    sevens | (0x80_8080_8080 & continued)
}

#[inline]
fn zigzag32(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)) as u32
}

#[inline]
fn zigzag64(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[inline]
fn varint_len32(zigzag: u32) -> usize {
    varint_len64(u64::from(zigzag))
}

#[inline]
fn varint_len64(zigzag: u64) -> usize {
    if zigzag < u64::from(TWO_BYTES) {
        return 1 + usize::from(zigzag >= 0x80);
    }
    // Seven bits a byte: this is ceil(bits / 7) for 1 to 64 bits, without a division.
    let bits = 64 - zigzag.leading_zeros();
    ((bits * 9 + 64) >> 6) as usize
}

/// Bytes of the varint of a length. Lengths beyond 2^31 are refused by the caller's check of the sum.
#[inline]
fn length_len(length: usize) -> usize {
    varint_len32((length as u32) << 1)
}

#[inline]
fn optional_size(bytes: Option<&[u8]>) -> usize {
    bytes.map_or(1, |bytes| length_len(bytes.len()).saturating_add(bytes.len()))
}

fn headers_size(headers: &[Header<'_>]) -> usize {
    let mut size = length_len(headers.len());
    for header in headers {
        size = size.saturating_add(optional_size(Some(header.key.as_bytes())));
        size = size.saturating_add(optional_size(header.value));
    }
    size
}
