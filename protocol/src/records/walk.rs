//! Reading a batch of any size without keeping it: records are looked at while they are decompressed, step by step.
//!
//! Takes a batch and a limit. Gives an [`Outline`] of each record in order: what must be known of a record before it is
//! appended, or to find it by time. Refuses what reading in one piece ([`super::RecordIter`]) refuses.
//!
//! Memory does not follow what comes out. It is one step of the codec: 64 KiB for gzip, a block for lz4 (4 MiB at most)
//! and snappy (22 times what came in for it), a window of at most half the limit for zstd.

use super::batch::RecordBatch;
use super::compression::Decompressor;
use super::iter::{RecordOrigin, RecordsSummary};
use super::{RecordError, RecordFlaw};

/// What a record is, without its bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outline {
    /// Position in the batch, from 0.
    pub index: u32,
    /// Its offset in the partition.
    pub offset: i64,
    /// Distance from the batch's base offset.
    pub offset_delta: i32,
    /// Milliseconds since 1970, or -1.
    pub timestamp: i64,
    /// Whether it has a key.
    pub has_key: bool,
}

impl RecordBatch<'_> {
    /// Looks at every record in order, headers included, and keeps none. At most `max_bytes` may come out; says how
    /// many did.
    ///
    /// Slower than reading in one piece, so it is for batches that are too large for that.
    ///
    /// # Errors
    /// Any flaw of a record, what the codec reports, [`RecordError::DecompressedTooLarge`], and the first error of
    /// `visit`, which ends the walk.
    pub fn walk_in_steps(
        &self,
        max_bytes: usize,
        visit: &mut dyn FnMut(Outline) -> Result<(), RecordError>,
    ) -> Result<usize, RecordError> {
        let mut walk = Walk::new(self.origin(), visit);
        let mut produced = 0_usize;
        Decompressor::decompress_in_steps(self.compression()?, self.records_raw(), max_bytes, &mut |step| {
            produced += step.len();
            if produced > max_bytes {
                return Err(RecordError::DecompressedTooLarge { limit: max_bytes });
            }
            walk.feed(step)
        })?;
        walk.finish()?;
        Ok(produced)
    }

    /// What [`super::RecordIter::summarize`] says, by [`walk_in_steps`](Self::walk_in_steps).
    ///
    /// # Errors
    /// As both.
    pub fn summarize_in_steps(&self, max_bytes: usize) -> Result<RecordsSummary, RecordError> {
        let mut summary = RecordsSummary::EMPTY;
        let bytes = self.walk_in_steps(max_bytes, &mut |outline| summary.note(outline))?;
        Ok(RecordsSummary { bytes, ..summary })
    }
}

/// What comes next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Length,
    Attributes,
    TimestampDelta,
    OffsetDelta,
    KeyLength,
    ValueLength,
    HeaderCount,
    HeaderKeyLength,
    HeaderValueLength,
}

/// A reader of records that is given their bytes in pieces.
struct Walk<'v> {
    origin: RecordOrigin,
    visit: &'v mut dyn FnMut(Outline) -> Result<(), RecordError>,
    state: State,
    index: u32,
    /// Bytes of the current record that are still to come.
    left: usize,
    /// Bytes of the current field that nobody looks at.
    skip: usize,
    varint: u64,
    varint_bytes: u32,
    headers_left: u32,
    outline: Outline,
}

impl<'v> Walk<'v> {
    fn new(origin: RecordOrigin, visit: &'v mut dyn FnMut(Outline) -> Result<(), RecordError>) -> Self {
        Walk {
            origin,
            visit,
            state: State::Length,
            index: 0,
            left: 0,
            skip: 0,
            varint: 0,
            varint_bytes: 0,
            headers_left: 0,
            outline: Outline {
                index: 0,
                offset: 0,
                offset_delta: 0,
                timestamp: 0,
                has_key: false,
            },
        }
    }

    fn feed(&mut self, step: &[u8]) -> Result<(), RecordError> {
        let mut rest = step;
        while let Some((byte, after)) = rest.split_first() {
            if self.skip > 0 {
                let skipped = self.skip.min(rest.len());
                self.skip -= skipped;
                self.left -= skipped;
                rest = rest.get(skipped..).unwrap_or_default();
                if self.skip == 0 {
                    self.next_part()?;
                }
                continue;
            }
            if self.state == State::Length && self.index == self.origin.record_count() {
                return Err(RecordError::TrailingBytes { left: rest.len() });
            }
            rest = after;
            self.byte(*byte)?;
        }
        Ok(())
    }

    fn finish(&self) -> Result<(), RecordError> {
        if self.state == State::Length && self.varint_bytes == 0 && self.index == self.origin.record_count() {
            return Ok(());
        }
        Err(self.flaw(RecordFlaw::Short))
    }

    fn flaw(&self, flaw: RecordFlaw) -> RecordError {
        RecordError::InvalidRecord {
            index: self.index,
            flaw,
        }
    }

    /// One byte of a field that is looked at.
    fn byte(&mut self, byte: u8) -> Result<(), RecordError> {
        if self.state != State::Length {
            self.left = self.left.checked_sub(1).ok_or(self.flaw(RecordFlaw::Short))?;
        }
        if self.state == State::Attributes {
            self.state = State::TimestampDelta;
            return self.needs_more();
        }
        let most = if self.state == State::TimestampDelta { 10 } else { 5 };
        let last = if most == 10 { 1 } else { 0x0f };
        self.varint |= u64::from(byte & 0x7f) << (7 * self.varint_bytes);
        self.varint_bytes += 1;
        // The last byte may carry only the bits that are left of 32 or 64.
        if self.varint_bytes == most && byte > last {
            return Err(self.flaw(RecordFlaw::VarintTooLong));
        }
        if byte >= 0x80 {
            return self.needs_more();
        }
        let zigzag = std::mem::take(&mut self.varint);
        self.varint_bytes = 0;
        self.field((zigzag >> 1).cast_signed() ^ -((zigzag & 1).cast_signed()))
    }

    /// A field is not yet whole: the record must have bytes for the rest of it.
    fn needs_more(&self) -> Result<(), RecordError> {
        if self.left == 0 && self.state != State::Length {
            return Err(self.flaw(RecordFlaw::Short));
        }
        Ok(())
    }

    /// A whole number.
    fn field(&mut self, value: i64) -> Result<(), RecordError> {
        match self.state {
            State::Length => {
                self.left = usize::try_from(value).map_err(|_| self.flaw(RecordFlaw::NegativeLength))?;
                self.state = State::Attributes;
            }
            State::TimestampDelta => {
                self.outline.timestamp = self.origin.timestamp(value);
                self.state = State::OffsetDelta;
            }
            State::OffsetDelta => {
                self.outline.offset_delta = i32::try_from(value).unwrap_or(-1);
                self.state = State::KeyLength;
            }
            State::KeyLength | State::ValueLength => {
                if self.state == State::KeyLength {
                    self.outline.has_key = value != -1;
                }
                return self.skip_bytes(value, true);
            }
            State::HeaderCount => {
                self.headers_left = u32::try_from(value).map_err(|_| self.flaw(RecordFlaw::NegativeLength))?;
                // A header takes two bytes at least.
                if self.headers_left as usize > self.left / 2 {
                    return Err(self.flaw(RecordFlaw::Short));
                }
                return self.next_header();
            }
            State::HeaderKeyLength => return self.skip_bytes(value, false),
            State::HeaderValueLength => return self.skip_bytes(value, true),
            State::Attributes => {}
        }
        self.needs_more()
    }

    fn skip_bytes(&mut self, length: i64, may_be_null: bool) -> Result<(), RecordError> {
        let length = if may_be_null && length == -1 { 0 } else { length };
        self.skip = usize::try_from(length).map_err(|_| self.flaw(RecordFlaw::NegativeLength))?;
        if self.skip > self.left {
            return Err(self.flaw(RecordFlaw::Short));
        }
        if self.skip == 0 {
            return self.next_part();
        }
        Ok(())
    }

    /// The bytes of a key or a value have passed.
    fn next_part(&mut self) -> Result<(), RecordError> {
        self.state = match self.state {
            State::KeyLength => State::ValueLength,
            State::ValueLength => State::HeaderCount,
            State::HeaderKeyLength => State::HeaderValueLength,
            _ => {
                self.headers_left -= 1;
                return self.next_header();
            }
        };
        self.needs_more()
    }

    fn next_header(&mut self) -> Result<(), RecordError> {
        if self.headers_left > 0 {
            self.state = State::HeaderKeyLength;
            return self.needs_more();
        }
        if self.left > 0 {
            return Err(self.flaw(RecordFlaw::LengthMismatch));
        }
        let (index, offset_delta) = (self.index, self.outline.offset_delta);
        let offset = self.origin.offset(offset_delta);
        let offset = offset.ok_or(RecordError::InvalidOffsetDelta { index, offset_delta })?;
        self.outline.index = index;
        self.outline.offset = offset;
        self.state = State::Length;
        self.index += 1;
        (self.visit)(self.outline)
    }
}
