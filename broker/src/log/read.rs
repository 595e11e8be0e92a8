//! Reading a segment from the disk: find a batch, take a run of batches, find a timestamp.
//!
//! In: a view of a segment, taken under the log's lock. Out: batches that have passed every check, or where the
//! damage is. No lock is held here. Each batch's checksum, offsets and leader epoch are verified before it is given
//! out: what the disk has changed is never served.

use std::io;

use bytes::Bytes;
use ottla_broker_state::leader_epochs::LeaderEpochs;
use ottla_protocol::records::{BATCH_HEADER_LEN, Outline, RecordBatch, TimestampType};

use super::contents::{self, Contents};
use super::error::{Attempt, ReadError, StorageError};
use super::scan::{BATCH_WINDOW, BatchHeader, HEADER_WINDOW, Window, epoch_fits, find_batch, fits};
use super::segment::SegmentView;

/// How a walk over a segment failed.
#[derive(Debug)]
pub(super) enum Failure {
    /// An index entry does not agree with the batch it points at: the index must be rebuilt.
    IndexGarbled,
    /// What the caller gets.
    Read(ReadError),
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Failure {
        Failure::Read(ReadError::Storage(error))
    }
}

/// Where a batch stands, and the first offset that it could have had.
#[derive(Debug, Clone, Copy)]
struct Place {
    position: u64,
    expected: i64,
    header: BatchHeader,
}

/// A reader of one segment.
pub(super) struct SegmentReader<'a> {
    view: &'a SegmentView,
    epochs: &'a LeaderEpochs,
}

impl<'a> SegmentReader<'a> {
    /// Reads `view`, whose batches were written in `epochs`.
    pub fn new(view: &'a SegmentView, epochs: &'a LeaderEpochs) -> SegmentReader<'a> {
        SegmentReader { view, epochs }
    }

    fn window(&self, least: usize) -> Window {
        Window::new(self.view.file.clone(), self.view.size, least)
    }

    fn failed(&self, error: io::Error) -> Failure {
        Failure::Read(ReadError::Storage(StorageError::new("read", &self.view.path, error)))
    }

    fn corrupt(&self, offset: i64, position: u64) -> Failure {
        Failure::Read(ReadError::Corrupt {
            offset,
            position,
            path: self.view.path.clone(),
        })
    }

    /// The base offset of what follows the batch at `position`.
    fn following(&self, position: u64, header: &BatchHeader) -> io::Result<i64> {
        let next = position + u64::from(header.size);
        // A window of its own, as the caller's is in use; only logs with gaps or damage come here.
        Ok(self
            .window(BATCH_HEADER_LEN)
            .header(next)?
            .map_or(self.view.end_offset, |header| header.base_offset))
    }

    fn is_sound(&self, place: &Place) -> io::Result<bool> {
        let header = &place.header;
        let following = || self.following(place.position, header);
        Ok(epoch_fits(header, self.epochs) && fits(header, place.expected, following)?)
    }

    /// Finds the first batch that ends at `offset` or after it. `None`: the segment ends before it.
    fn locate(&self, window: &mut Window, offset: i64) -> Result<Option<Place>, Failure> {
        let (mut position, mut expected) = (0, self.view.base_offset);
        if let Some(entry) = self.view.floor(offset)? {
            position = u64::from(entry.position);
            let header = window.header(position).map_err(|error| self.failed(error))?;
            let last_offset = self.view.base_offset + i64::from(entry.offset);
            let Some(header) = header.filter(|header| header.last_offset == last_offset) else {
                return Err(Failure::IndexGarbled);
            };
            expected = header.base_offset;
        }
        let mut previous = None;
        while position < self.view.size {
            let header = window.header(position).map_err(|error| self.failed(error))?;
            let place = header.map(|header| Place {
                position,
                expected,
                header,
            });
            let sound = match &place {
                Some(place) => self.is_sound(place).map_err(|error| self.failed(error))?,
                None => false,
            };
            match place.filter(|_| sound) {
                Some(place) if place.header.last_offset >= offset => {
                    if place.header.base_offset > offset {
                        self.check_gap(window, previous, offset)?;
                    }
                    return Ok(Some(place));
                }
                Some(place) => {
                    previous = Some(position);
                    position += u64::from(place.header.size);
                    expected = place.header.next_offset();
                }
                // Step over the damage; what it destroyed is only reported to those who ask for it.
                None => {
                    let rest = expected..self.view.end_offset;
                    let found = find_batch(window, position + 1, rest).map_err(|error| self.failed(error))?;
                    let found = found.ok_or_else(|| self.corrupt(offset, position))?;
                    let header = window.header(found).map_err(|error| self.failed(error))?;
                    let header = header.filter(|header| header.base_offset <= offset);
                    expected = header.ok_or_else(|| self.corrupt(offset, position))?.base_offset;
                    position = found;
                }
            }
        }
        if expected < self.view.end_offset {
            self.check_gap(window, previous, offset)?;
        }
        Ok(None)
    }

    /// `offset` seems to lie after the batch at `previous` and before the next. That batch was stepped over without a
    /// look at its checksum; if its last offset is damaged, it may be the one that held `offset`.
    fn check_gap(&self, window: &mut Window, previous: Option<u64>, offset: i64) -> Result<(), Failure> {
        let Some(position) = previous else { return Ok(()) };
        match window.batch(position).map_err(|error| self.failed(error))? {
            Some(_) => Ok(()),
            None => Err(self.corrupt(offset, position)),
        }
    }

    /// Takes whole batches from the one that holds `offset` on, up to `max_bytes` and below `upper`.
    ///
    /// The first batch is taken whatever its size if `at_least_one`. `None`: the segment ends before `offset`.
    pub fn run(&self, offset: i64, max_bytes: usize, upper: i64, at_least_one: bool) -> Result<Option<Run>, Failure> {
        let mut window = self.window(HEADER_WINDOW);
        let Some(place) = self.locate(&mut window, offset)? else {
            return Ok(None);
        };
        drop(window);
        let first = place.header.size as usize;
        if place.header.last_offset >= upper || (first > max_bytes && !at_least_one) {
            return Ok(Some(Run {
                bytes: Bytes::new(),
                next_offset: offset,
            }));
        }
        let left = usize::try_from(self.view.size - place.position).unwrap_or(usize::MAX);
        let mut bytes = vec![0; max_bytes.max(first).min(left)];
        let read = self
            .view
            .file
            .read_at(&mut bytes, place.position)
            .map_err(|error| self.failed(error))?;
        bytes.truncate(read);
        let (taken, next_offset) = self
            .verified(&bytes, &place, upper)
            .map_err(|error| self.failed(error))?;
        if taken == 0 {
            return Err(self.corrupt(offset, place.position));
        }
        bytes.truncate(taken);
        // A read may ask for far more than there was to take: do not keep the room.
        if bytes.capacity() / 2 > taken {
            bytes.shrink_to_fit();
        }
        Ok(Some(Run {
            bytes: Bytes::from(bytes),
            next_offset,
        }))
    }

    /// Where to cut so that nothing of `offset` or beyond stays, and the offset that comes next there.
    ///
    /// Damage before that place moves the cut down to it: nothing behind damage is worth keeping.
    pub fn cut_point(&self, offset: i64) -> Result<(u32, i64), StorageError> {
        let mut window = self.window(HEADER_WINDOW);
        let (mut position, mut expected) = (0, self.view.base_offset);
        if let Some(entry) = self.view.floor(offset)? {
            let header = window.header(entry.position.into()).attempt("read", &self.view.path)?;
            let last_offset = self.view.base_offset + i64::from(entry.offset);
            // A garbled entry costs a longer walk, no more.
            if let Some(header) = header.filter(|header| header.last_offset == last_offset) {
                (position, expected) = (entry.position.into(), header.base_offset);
            }
        }
        while let Some(header) = window.header(position).attempt("read", &self.view.path)? {
            let place = Place {
                position,
                expected,
                header,
            };
            if header.last_offset >= offset || !self.is_sound(&place).attempt("read", &self.view.path)? {
                break;
            }
            position += u64::from(header.size);
            expected = header.next_offset();
        }
        Ok((u32::try_from(position).unwrap_or(u32::MAX), expected))
    }

    /// How many of `bytes` are sound batches below `upper`, and the offset after them.
    fn verified(&self, bytes: &[u8], place: &Place, upper: i64) -> io::Result<(usize, i64)> {
        let (mut taken, mut expected) = (0, place.expected);
        while let Some(rest) = bytes.get(taken..) {
            let Some(header) = BatchHeader::parse(rest).filter(|header| header.last_offset < upper) else {
                break;
            };
            let position = place.position + taken as u64;
            let Some(raw) = rest.get(..header.size as usize) else {
                break;
            };
            let whole = RecordBatch::parse(raw).is_ok_and(|(batch, _)| batch.verify_crc().is_ok());
            if !whole
                || !self.is_sound(&Place {
                    position,
                    expected,
                    header,
                })?
            {
                break;
            }
            taken += raw.len();
            expected = header.next_offset();
        }
        Ok((taken, expected))
    }

    /// Calls `look` with each sound batch from the one that holds `offset` on, until it answers something.
    pub fn find<T>(
        &self,
        offset: i64,
        mut look: impl FnMut(&RecordBatch<'_>) -> Option<T>,
    ) -> Result<Option<T>, Failure> {
        let mut window = self.window(BATCH_WINDOW);
        let Some(place) = self.locate(&mut window, offset)? else {
            return Ok(None);
        };
        let (mut position, mut expected) = (place.position, place.expected);
        while position < self.view.size {
            let header = window.header(position).map_err(|error| self.failed(error))?;
            let header = header.ok_or_else(|| self.corrupt(expected, position))?;
            let sound = self
                .is_sound(&Place {
                    position,
                    expected,
                    header,
                })
                .map_err(|error| self.failed(error))?;
            let batch = window
                .batch(position)
                .map_err(|error| self.failed(error))?
                .filter(|_| sound);
            if let Some(found) = look(&batch.ok_or_else(|| self.corrupt(expected, position))?) {
                return Ok(Some(found));
            }
            position += u64::from(header.size);
            expected = header.next_offset();
        }
        Ok(None)
    }
}

/// A run of batches read at once.
#[derive(Debug)]
pub(super) struct Run {
    /// Whole batches, one after the other; may be empty.
    pub bytes: Bytes,
    /// The offset after them.
    pub next_offset: i64,
}

/// The first record of `batch` with an offset of at least `from` and a timestamp of at least `timestamp`.
///
/// Under LogAppendTime every record has the batch's time, so nothing needs to be decompressed.
pub(super) fn record_at_or_after(
    batch: &RecordBatch<'_>,
    timestamp: i64,
    from: i64,
    decompressed_bytes_max: usize,
) -> Option<(i64, i64)> {
    if batch.record_count() == 0 || batch.max_timestamp() < timestamp || batch.last_offset() < from {
        return None;
    }
    if batch.timestamp_type() == TimestampType::LogAppendTime {
        return Some((batch.max_timestamp(), batch.base_offset().max(from)));
    }
    let wanted = |record: &Outline| record.timestamp >= timestamp && record.offset >= from;
    let find = |contents: &Contents<'_>| contents.outlines(1, &wanted);
    let found = contents::unfold(batch, decompressed_bytes_max, find).ok()?;
    found.first().map(|record| (record.timestamp, record.offset))
}

/// The first record of `batch` with an offset of at least `from` and exactly `timestamp`, if that is the batch's
/// largest.
pub(super) fn record_with_timestamp(
    batch: &RecordBatch<'_>,
    timestamp: i64,
    from: i64,
    decompressed_bytes_max: usize,
) -> Option<(i64, i64)> {
    let largest = batch.max_timestamp() == timestamp;
    largest
        .then(|| record_at_or_after(batch, timestamp, from, decompressed_bytes_max))
        .flatten()
}
