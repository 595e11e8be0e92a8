//! The reading side of a log: by offset, by timestamp.
//!
//! In: an offset or a time. Out: whole batches, or an offset. The tail answers under the lock; for the disk a view is
//! taken under the lock and read without it. A reader that was overtaken by a truncation or a deletion reads again.

use std::sync::Arc;

use bytes::Bytes;
use ottla_broker_state::leader_epochs::LeaderEpochs;
use ottla_protocol::records::RecordBatch;

use super::error::{ReadError, StorageError};
use super::read::{Failure, SegmentReader, record_at_or_after, record_with_timestamp};
use super::recovery::rebuild_indexes;
use super::segment::{MaxTimestamp, SegmentView};
use super::{Inner, Log};

/// How often a reader begins again before it gives up; each time somebody has truncated or rebuilt in between.
const ATTEMPTS: usize = 8;

/// What a read gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogSlice {
    /// Runs of whole batches, in order. The first may begin below the offset asked for.
    pub batches: Vec<Bytes>,
    /// Bytes in all.
    pub size: usize,
    /// The offset to read next; the one asked for when nothing was taken.
    pub next_offset: i64,
    /// Where the log started.
    pub log_start_offset: i64,
    /// Where it ended.
    pub log_end_offset: i64,
}

/// A record found by its timestamp.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TimestampOffset {
    /// The record's timestamp, milliseconds since 1970.
    pub timestamp: i64,
    /// Its offset.
    pub offset: i64,
    /// The leader epoch in which it was written, or -1.
    pub leader_epoch: i32,
}

/// Where a search begins in a segment.
enum Begin {
    /// There is no such segment.
    Stop,
    /// Not here.
    Skip,
    /// At the batch of this entry of the time index, or at the first one.
    At(Option<MaxTimestamp>),
}

/// What is asked of each batch: the least offset that counts goes in, a timestamp and an offset come out.
type Look<'a> = dyn Fn(&RecordBatch<'_>, i64) -> Option<(i64, i64)> + 'a;

/// A view with what is needed to judge what it shows.
struct Seen {
    view: SegmentView,
    epochs: Arc<LeaderEpochs>,
    generation: u64,
}

impl Log {
    /// Reads whole batches, from the one that holds `from` on, below `upper` (high watermark, last stable offset or
    /// log end offset).
    ///
    /// At most `max_bytes`, except that the first batch is given whatever its size if `at_least_one`. An offset inside
    /// a batch gives the whole batch. Nothing to give is no error. May block on the disk when `from` lies before the
    /// tail; see [`reads_from_memory`](Log::reads_from_memory).
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] below the log's start or beyond its end, [`ReadError::Corrupt`] where the disk
    /// has damaged the batch that holds `from`.
    pub fn read(&self, from: i64, max_bytes: usize, upper: i64, at_least_one: bool) -> Result<LogSlice, ReadError> {
        let mut position = from;
        for _ in 0..ATTEMPTS {
            let mut inner = self.open_inner()?;
            let (log_start_offset, log_end_offset) = (inner.log_start_offset, inner.log_end_offset);
            if from < log_start_offset || from > log_end_offset {
                return Err(ReadError::OffsetOutOfRange {
                    offset: from,
                    log_start_offset,
                    log_end_offset,
                });
            }
            let slice = |batches: Vec<Bytes>, next_offset| LogSlice {
                size: batches.iter().map(Bytes::len).sum(),
                batches,
                next_offset,
                log_start_offset,
                log_end_offset,
            };
            if position >= upper.min(log_end_offset) {
                return Ok(slice(Vec::new(), from));
            }
            if let Some((batches, next_offset)) = inner.tail.read(position, max_bytes, upper, at_least_one) {
                let next_offset = if batches.is_empty() { from } else { next_offset };
                return Ok(slice(batches, next_offset));
            }
            let seen = self.see(&mut inner, position)?;
            drop(inner);
            match SegmentReader::new(&seen.view, &seen.epochs).run(position, max_bytes, upper, at_least_one) {
                Ok(run) if self.lock().generation == seen.generation => match run {
                    Some(run) if run.bytes.is_empty() => return Ok(slice(Vec::new(), from)),
                    Some(run) => return Ok(slice(vec![run.bytes], run.next_offset)),
                    // The rest of the segment was compacted away.
                    None => position = seen.view.end_offset,
                },
                Ok(_) => {}
                Err(failure) => self.retry(failure, &seen)?,
            }
        }
        Err(self.overtaken(from))
    }

    /// Whether [`read`](Log::read) at `from` would be answered without the disk.
    pub fn reads_from_memory(&self, from: i64) -> bool {
        let inner = self.lock();
        from >= inner.log_end_offset || inner.tail.read(from, 0, i64::MAX, false).is_some()
    }

    /// The first record with a timestamp of at least `timestamp`, as ListOffsets answers it. May block on the disk.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        let limit = self.config().decompressed_bytes_max();
        let begin = |inner: &mut Inner, number: usize| {
            self.check_indexes(inner, number)?;
            let Some(segment) = inner.segments.get_mut(number) else {
                return Ok(Begin::Stop);
            };
            if segment.newest_ms(self.disk())? < timestamp {
                return Ok(Begin::Skip);
            }
            Ok(Begin::At(segment.time_floor(self.disk(), timestamp)?))
        };
        self.search(&begin, &|batch, from| record_at_or_after(batch, timestamp, from, limit))
    }

    /// The record with the largest timestamp, the earliest of several (KIP-734). May block on the disk.
    pub fn max_timestamp_offset(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let limit = self.config().decompressed_bytes_max();
        let largest = self.data_dir.note(self.largest_timestamp())?;
        let Some(max) = largest else { return Ok(None) };
        let begin = |inner: &mut Inner, number: usize| {
            let Some(segment) = inner.segments.get_mut(number) else {
                return Ok(Begin::Stop);
            };
            let holds = segment.max_timestamp(self.disk())? == Some(max);
            Ok(if holds { Begin::At(Some(max)) } else { Begin::Skip })
        };
        self.search(&begin, &|batch, from| {
            record_with_timestamp(batch, max.timestamp, from, limit)
        })
    }

    fn largest_timestamp(&self) -> Result<Option<MaxTimestamp>, StorageError> {
        let mut inner = self.open_inner()?;
        let mut largest: Option<MaxTimestamp> = None;
        for number in 0..inner.segments.len() {
            self.check_indexes(&mut inner, number)?;
            let Some(segment) = inner.segments.get_mut(number) else {
                break;
            };
            let max = segment.max_timestamp(self.disk())?;
            largest = match (largest, max) {
                (Some(before), Some(max)) if max.timestamp <= before.timestamp => Some(before),
                (before, max) => max.or(before),
            };
        }
        Ok(largest)
    }

    /// Goes over the segments from the oldest on; `begin` says where to begin in each. `look` gets batch after batch
    /// until it answers.
    fn search(
        &self,
        begin: &dyn Fn(&mut Inner, usize) -> Result<Begin, StorageError>,
        look: &Look<'_>,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let (mut number, mut attempts) = (0, 0);
        loop {
            let mut inner = self.open_inner()?;
            let floor = match self.data_dir.note(begin(&mut inner, number))? {
                Begin::Stop => return Ok(None),
                Begin::Skip => {
                    number += 1;
                    continue;
                }
                Begin::At(floor) => floor,
            };
            let from = inner.log_start_offset;
            let base_offset = inner.segments.get(number).map_or(0, |segment| segment.base_offset());
            let start = floor
                .map_or(base_offset, |floor| floor.offset)
                .max(from)
                .max(base_offset);
            if start >= inner.log_end_offset {
                return Ok(None);
            }
            let seen = self.see_segment(&mut inner, number, start)?;
            drop(inner);
            // An entry of the time index counts only if the batch confirms it.
            let mut unconfirmed = floor.filter(|floor| floor.offset == start);
            let found = SegmentReader::new(&seen.view, &seen.epochs).find(start, |batch| {
                if let Some(floor) = unconfirmed.take()
                    && (batch.last_offset() != floor.offset || batch.max_timestamp() != floor.timestamp)
                {
                    return Some(Err(Failure::IndexGarbled));
                }
                let (timestamp, offset) = look(batch, from)?;
                Some(Ok(TimestampOffset {
                    timestamp,
                    offset,
                    leader_epoch: batch.partition_leader_epoch(),
                }))
            });
            match found {
                Ok(Some(Ok(found))) => return Ok(Some(found)),
                Ok(None) => number += 1,
                Ok(Some(Err(failure))) | Err(failure) => {
                    attempts += 1;
                    self.retry(failure, &seen)?;
                    if attempts >= ATTEMPTS {
                        return Err(self.overtaken(start));
                    }
                }
            }
        }
    }

    /// Makes sure that the indexes of a segment found at the start can be relied on, before they are used first.
    pub(super) fn check_indexes(&self, inner: &mut Inner, number: usize) -> Result<(), StorageError> {
        let Some(segment) = inner.segments.get_mut(number) else {
            return Ok(());
        };
        let sound = segment.indexes_are_sound(self.disk())?;
        if sound {
            Ok(())
        } else {
            self.rebuild_indexes(inner, number)
        }
    }

    fn rebuild_indexes(&self, inner: &mut Inner, number: usize) -> Result<(), StorageError> {
        let next = inner.segments.get(number + 1).map(|next| next.base_offset());
        let end_offset = next.unwrap_or(inner.log_end_offset);
        let (config, epochs) = (inner.config.clone(), inner.epochs.clone());
        match inner.segments.get_mut(number) {
            Some(segment) => rebuild_indexes(self.disk(), segment, &config, &epochs, end_offset),
            None => Ok(()),
        }
    }

    /// The answer to a reader that was overtaken each time: what it saw was never what was there.
    fn overtaken(&self, offset: i64) -> ReadError {
        let path = self.lock().dir.to_path_buf();
        ReadError::Corrupt {
            offset,
            position: 0,
            path,
        }
    }

    fn see(&self, inner: &mut Inner, offset: i64) -> Result<Seen, ReadError> {
        let number = inner
            .segments
            .partition_point(|segment| segment.base_offset() <= offset)
            .max(1)
            - 1;
        self.see_segment(inner, number, offset)
    }

    fn see_segment(&self, inner: &mut Inner, number: usize, offset: i64) -> Result<Seen, ReadError> {
        let end_offset = inner
            .segments
            .get(number + 1)
            .map_or(inner.log_end_offset, |next| next.base_offset());
        let (log_start_offset, log_end_offset) = (inner.log_start_offset, inner.log_end_offset);
        let checked = self.check_indexes(inner, number);
        self.data_dir.note(checked)?;
        let Some(segment) = inner.segments.get_mut(number) else {
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset,
            });
        };
        let view = self.data_dir.note(segment.view(self.disk(), offset, end_offset))?;
        let (epochs, generation) = (inner.epochs.clone(), inner.generation);
        Ok(Seen {
            view,
            epochs,
            generation,
        })
    }

    /// Prepares another attempt after a failed read: the log has changed meanwhile, or a garbled index was all that
    /// was wrong, and it is built again here. Any other failure is the answer.
    fn retry(&self, failure: Failure, seen: &Seen) -> Result<(), ReadError> {
        let mut inner = self.open_inner()?;
        if inner.generation != seen.generation {
            return Ok(());
        }
        match failure {
            Failure::Read(ReadError::Storage(error)) => return Err(ReadError::Storage(self.data_dir.fail(error))),
            Failure::Read(error) => return Err(error),
            Failure::IndexGarbled => {}
        }
        let base_offset = seen.view.base_offset;
        let number = inner
            .segments
            .partition_point(|segment| segment.base_offset() < base_offset);
        let rebuilt = self.rebuild_indexes(&mut inner, number);
        self.data_dir.note(rebuilt)?;
        inner.generation += 1;
        Ok(())
    }
}
