//! Reading: one batch's records, one after the other, as views of its bytes.
//!
//! Takes the records of one batch without compression. Gives [`Record`]s whose key, value and headers borrow from
//! those bytes; headers are parsed when asked for. Refuses lengths that the bytes do not back, a record count that
//! the bytes do not match, and offset deltas beyond the batch's last.

use super::batch::{RecordBatch, TimestampType};
use super::walk::Outline;
use super::{RecordError, RecordFlaw};

/// A header of a record: they are an ordered list, and a key may occur more than once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The key. Kafka has no header without one.
    pub key: &'a str,
    /// The value; null is not the same as empty.
    pub value: Option<&'a [u8]>,
}

/// One record, borrowed from the bytes of its batch.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// Its offset in the partition (in a batch not yet appended: its place in the batch).
    pub offset: i64,
    /// Milliseconds since 1970, or -1. The batch's time if the broker's clock stamped it.
    pub timestamp: i64,
    /// Distance from the batch's base offset.
    pub offset_delta: i32,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    header_count: u32,
    /// The headers' bytes and no more.
    headers: &'a [u8],
    /// Position in the batch, for error texts.
    index: u32,
}

impl<'a> Record<'a> {
    /// The key, if there is one.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value; `None` is a tombstone on a compacted topic.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// How many headers the record says it has.
    #[inline]
    pub fn header_count(&self) -> usize {
        self.header_count as usize
    }

    /// The headers in order, parsed one by one. The first flaw is the last item.
    pub fn headers(&self) -> Headers<'a> {
        Headers {
            raw: self.raw_headers(),
        }
    }

    /// As [`headers`](Self::headers) for keys that may not be UTF-8.
    pub fn raw_headers(&self) -> RawHeaders<'a> {
        RawHeaders {
            left: self.header_count,
            rest: self.headers,
            index: self.index,
        }
    }

    /// Position in the batch, from 0.
    pub fn index(&self) -> u32 {
        self.index
    }

    /// The record without its bytes.
    #[inline]
    pub fn outline(&self) -> Outline {
        Outline {
            index: self.index,
            offset: self.offset,
            offset_delta: self.offset_delta,
            timestamp: self.timestamp,
            has_key: self.key.is_some(),
        }
    }
}

/// The records of one batch. After an error, nothing more comes.
///
/// When the last record has been taken, bytes that are still left give one [`RecordError::TrailingBytes`].
#[derive(Debug, Clone)]
pub struct RecordIter<'a> {
    rest: &'a [u8],
    /// Records yet to come, by the header's count.
    left: u32,
    index: u32,
    origin: RecordOrigin,
}

/// What the offsets and timestamps of a batch's records are counted from. With it, records can be read on later,
/// without the header of their batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordOrigin {
    base_offset: i64,
    last_offset_delta: i32,
    base_timestamp: i64,
    log_append_time: Option<i64>,
    record_count: u32,
}

impl RecordOrigin {
    pub(super) fn new(batch: &RecordBatch<'_>) -> Self {
        let by_broker = batch.timestamp_type() == TimestampType::LogAppendTime;
        RecordOrigin {
            base_offset: batch.base_offset(),
            last_offset_delta: batch.last_offset_delta(),
            base_timestamp: batch.base_timestamp(),
            log_append_time: by_broker.then(|| batch.max_timestamp()),
            record_count: batch.record_count(),
        }
    }

    pub(super) fn record_count(&self) -> u32 {
        self.record_count
    }

    /// The timestamp of a record that is `delta` from the batch's.
    #[inline]
    pub(super) fn timestamp(&self, delta: i64) -> i64 {
        self.log_append_time.unwrap_or(self.base_timestamp.wrapping_add(delta))
    }

    /// The offset of a record, if `delta` lies in the batch.
    #[inline]
    pub(super) fn offset(&self, delta: i32) -> Option<i64> {
        // `parse` has checked that the last offset exists.
        let inside = (0..=self.last_offset_delta).contains(&delta);
        inside.then(|| self.base_offset.wrapping_add(i64::from(delta)))
    }

    /// Whether the broker's clock stamped the records, or the producer's.
    pub fn timestamp_type(&self) -> TimestampType {
        match self.log_append_time {
            Some(_) => TimestampType::LogAppendTime,
            None => TimestampType::CreateTime,
        }
    }

    /// Iterates over `records`, which begin with record number `first` of the batch: what
    /// [`RecordIter::remaining_bytes`] gave after `first` records.
    #[inline]
    pub fn iter_from<'r>(&self, records: &'r [u8], first: u32) -> RecordIter<'r> {
        RecordIter {
            rest: records,
            left: self.record_count.saturating_sub(first),
            index: first,
            origin: *self,
        }
    }
}

impl<'a> RecordIter<'a> {
    pub(super) fn new(batch: &RecordBatch<'_>, records: &'a [u8]) -> Self {
        RecordOrigin::new(batch).iter_from(records, 0)
    }

    /// The bytes not yet read.
    pub fn remaining_bytes(&self) -> &'a [u8] {
        self.rest
    }

    /// Reads all records and says what a broker must know before it appends them.
    ///
    /// Headers are parsed as well, so nothing of the batch remains unchecked.
    ///
    /// # Errors
    /// Any flaw of a record, and [`RecordError::InvalidOffsetDelta`] unless the deltas are 0, 1, 2 and so on.
    pub fn summarize(self) -> Result<RecordsSummary, RecordError> {
        let mut summary = RecordsSummary {
            bytes: self.rest.len(),
            ..RecordsSummary::EMPTY
        };
        for record in self {
            let record = record?;
            for header in record.raw_headers() {
                header?;
            }
            summary.note(record.outline())?;
        }
        Ok(summary)
    }

    #[inline(always)]
    fn read_record(&mut self) -> Result<Record<'a>, RecordError> {
        let index = self.index;
        let flaw = |flaw| RecordError::InvalidRecord { index, flaw };
        let mut batch = Fields { rest: self.rest };
        let mut fields = Fields {
            rest: batch.sized().map_err(flaw)?,
        };
        let (offset_delta, timestamp_delta) = fields.deltas().map_err(flaw)?;
        let key = fields.optional().map_err(flaw)?;
        let value = fields.optional().map_err(flaw)?;
        let header_count = fields.count().map_err(flaw)?;
        // A header takes two bytes at least. Without headers the record ends here.
        if header_count as usize > fields.rest.len() / 2 {
            return Err(flaw(RecordFlaw::Short));
        }
        if header_count == 0 && !fields.rest.is_empty() {
            return Err(flaw(RecordFlaw::LengthMismatch));
        }
        let offset = self.origin.offset(offset_delta);
        let offset = offset.ok_or(RecordError::InvalidOffsetDelta { index, offset_delta })?;
        self.rest = batch.rest;
        Ok(Record {
            offset,
            timestamp: self.origin.timestamp(timestamp_delta),
            offset_delta,
            key,
            value,
            header_count,
            headers: fields.rest,
            index,
        })
    }
}

impl<'a> Iterator for RecordIter<'a> {
    type Item = Result<Record<'a>, RecordError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.rest.is_empty() {
                return None;
            }
            let left = std::mem::take(&mut self.rest).len();
            return Some(Err(RecordError::TrailingBytes { left }));
        }
        let record = self.read_record();
        if record.is_ok() {
            self.left -= 1;
            self.index += 1;
        } else {
            self.left = 0;
            self.rest = &[];
        }
        Some(record)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        // A record takes seven bytes at least, whatever the header claims.
        (0, Some((self.left as usize).min(self.rest.len() / 7).saturating_add(1)))
    }
}

impl std::iter::FusedIterator for RecordIter<'_> {}

/// What a pass over all records of a batch has found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordsSummary {
    /// Records read; equals the batch's record count.
    pub count: u32,
    /// Bytes of the records without compression.
    pub bytes: usize,
    /// The earliest timestamp (`i64::MAX` without records).
    pub min_timestamp: i64,
    /// The latest timestamp (`i64::MIN` without records).
    pub max_timestamp: i64,
    /// Offset delta of the first record that has the latest timestamp.
    pub max_timestamp_delta: i32,
    /// Position of the first record without a key, which a compacted topic must refuse.
    pub first_without_key: Option<u32>,
}

impl RecordsSummary {
    /// Of no records.
    pub const EMPTY: RecordsSummary = RecordsSummary {
        count: 0,
        bytes: 0,
        min_timestamp: i64::MAX,
        max_timestamp: i64::MIN,
        max_timestamp_delta: 0,
        first_without_key: None,
    };

    /// Takes in the next record.
    #[inline]
    pub(super) fn note(&mut self, record: Outline) -> Result<(), RecordError> {
        let (index, offset_delta) = (record.index, record.offset_delta);
        if i64::from(offset_delta) != i64::from(index) {
            return Err(RecordError::InvalidOffsetDelta { index, offset_delta });
        }
        if !record.has_key && self.first_without_key.is_none() {
            self.first_without_key = Some(index);
        }
        if record.timestamp > self.max_timestamp {
            self.max_timestamp = record.timestamp;
            self.max_timestamp_delta = offset_delta;
        }
        self.min_timestamp = self.min_timestamp.min(record.timestamp);
        self.count += 1;
        Ok(())
    }
}

/// A record's headers, parsed one by one.
#[derive(Debug, Clone)]
pub struct Headers<'a> {
    raw: RawHeaders<'a>,
}

impl<'a> From<RawHeaders<'a>> for Headers<'a> {
    fn from(raw: RawHeaders<'a>) -> Self {
        Headers { raw }
    }
}

impl<'a> Iterator for Headers<'a> {
    type Item = Result<Header<'a>, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        let (key, value) = match self.raw.next()? {
            Ok(header) => header,
            Err(error) => return Some(Err(error)),
        };
        let Ok(key) = std::str::from_utf8(key) else {
            return Some(Err(self.raw.fail(RecordFlaw::HeaderKeyNotUtf8)));
        };
        Some(Ok(Header { key, value }))
    }
}

impl std::iter::FusedIterator for Headers<'_> {}

/// A record's headers as pairs of bytes, parsed one by one.
#[derive(Debug, Clone)]
pub struct RawHeaders<'a> {
    left: u32,
    rest: &'a [u8],
    index: u32,
}

impl<'a> RawHeaders<'a> {
    /// How many are yet to come, and their bytes: what [`RawHeaders::resume`] takes.
    pub fn remaining(&self) -> (u32, &'a [u8]) {
        (self.left, self.rest)
    }

    /// Reads on where another iterator over the same headers stood.
    pub fn resume(left: u32, rest: &'a [u8]) -> Self {
        RawHeaders { left, rest, index: 0 }
    }

    fn fail(&mut self, flaw: RecordFlaw) -> RecordError {
        self.left = 0;
        self.rest = &[];
        RecordError::InvalidRecord {
            index: self.index,
            flaw,
        }
    }
}

impl<'a> Iterator for RawHeaders<'a> {
    type Item = Result<(&'a [u8], Option<&'a [u8]>), RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            return None;
        }
        let mut fields = Fields { rest: self.rest };
        let header = fields.sized().and_then(|key| Ok((key, fields.optional()?)));
        self.left -= 1;
        self.rest = fields.rest;
        match header {
            Ok(_) if self.left == 0 && !self.rest.is_empty() => Some(Err(self.fail(RecordFlaw::LengthMismatch))),
            Ok(header) => Some(Ok(header)),
            Err(flaw) => Some(Err(self.fail(flaw))),
        }
    }
}

impl std::iter::FusedIterator for RawHeaders<'_> {}

/// Takes a record's fields off the front of its bytes.
pub(super) struct Fields<'a> {
    pub rest: &'a [u8],
}

impl<'a> Fields<'a> {
    /// Attributes (which have no meaning yet), timestamp delta and offset delta.
    #[inline]
    fn deltas(&mut self) -> Result<(i32, i64), RecordFlaw> {
        let (_attributes, rest) = self.rest.split_first().ok_or(RecordFlaw::Short)?;
        self.rest = rest;
        let timestamp_delta = self.varint64()?;
        Ok((self.varint32()?, timestamp_delta))
    }

    /// Bytes behind their length, which may not be null.
    #[inline]
    fn sized(&mut self) -> Result<&'a [u8], RecordFlaw> {
        let length = self.varint32()?;
        let length = usize::try_from(length).map_err(|_| RecordFlaw::NegativeLength)?;
        self.take(length)
    }

    /// Bytes behind their length; -1 is null.
    #[inline]
    fn optional(&mut self) -> Result<Option<&'a [u8]>, RecordFlaw> {
        match self.varint32()? {
            -1 => Ok(None),
            length => {
                let length = usize::try_from(length).map_err(|_| RecordFlaw::NegativeLength)?;
                self.take(length).map(Some)
            }
        }
    }

    #[inline]
    fn count(&mut self) -> Result<u32, RecordFlaw> {
        u32::try_from(self.varint32()?).map_err(|_| RecordFlaw::NegativeLength)
    }

    #[inline]
    fn take(&mut self, length: usize) -> Result<&'a [u8], RecordFlaw> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(RecordFlaw::Short)?;
        self.rest = rest;
        Ok(taken)
    }

    #[inline]
    fn varint32(&mut self) -> Result<i32, RecordFlaw> {
        match *self.rest {
            [low @ ..0x80, ref rest @ ..] => {
                self.rest = rest;
                return Ok(unzigzag32(u32::from(low)));
            }
            [low, high @ ..0x80, ref rest @ ..] => {
                self.rest = rest;
                return Ok(unzigzag32(u32::from(low & 0x7f) | u32::from(high) << 7));
            }
            _ => {}
        }
        let zigzag = self.long_varint(5)?;
        // The fifth byte may carry four bits only.
        u32::try_from(zigzag)
            .map(unzigzag32)
            .map_err(|_| RecordFlaw::VarintTooLong)
    }

    #[inline]
    fn varint64(&mut self) -> Result<i64, RecordFlaw> {
        match *self.rest {
            [low @ ..0x80, ref rest @ ..] => {
                self.rest = rest;
                return Ok(unzigzag64(u64::from(low)));
            }
            [low, high @ ..0x80, ref rest @ ..] => {
                self.rest = rest;
                return Ok(unzigzag64(u64::from(low & 0x7f) | u64::from(high) << 7));
            }
            _ => {}
        }
        self.long_varint(10).map(unzigzag64)
    }

    #[cold]
    fn long_varint(&mut self, max_bytes: usize) -> Result<u64, RecordFlaw> {
        let mut value = 0;
        for (position, &byte) in self.rest.iter().take(max_bytes).enumerate() {
            // The tenth byte of 64 bits may carry one bit only.
            if position == 9 && byte > 1 {
                return Err(RecordFlaw::VarintTooLong);
            }
            value |= u64::from(byte & 0x7f) << (7 * position);
            if byte < 0x80 {
                self.take(position + 1)?;
                return Ok(value);
            }
        }
        Err(if self.rest.len() < max_bytes {
            RecordFlaw::Short
        } else {
            RecordFlaw::VarintTooLong
        })
    }
}

#[inline]
fn unzigzag32(zigzag: u32) -> i32 {
    (zigzag >> 1) as i32 ^ -((zigzag & 1) as i32)
}

#[inline]
fn unzigzag64(zigzag: u64) -> i64 {
    (zigzag >> 1) as i64 ^ -((zigzag & 1) as i64)
}
