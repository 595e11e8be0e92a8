//! The reading side of a log: by offset, by timestamp.
//!
//! In: an offset or a time. Out: whole batches, or an offset. The tail answers under the lock; for the disk a view is
//! taken under the lock and read without it. A reader that was overtaken by a truncation or a deletion reads again.

use std::sync::Arc;

use bytes::Bytes;
use ottla_broker_state::leader_epochs::LeaderEpochs;

use super::error::ReadError;
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

/// A view with what is needed to judge what it shows.
struct Seen {
    view: SegmentView,
    epochs: Arc<LeaderEpochs>,
    generation: u64,
    log_start_offset: i64,
    log_end_offset: i64,
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
        let mut last_failure = None;
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
                Err(failure) => last_failure = Some(self.retry(failure, &seen)?),
            }
        }
        Err(last_failure.unwrap_or_else(|| self.out_of_range(from)))
    }

    /// Whether [`read`](Log::read) at `from` would be answered without the disk.
    pub fn reads_from_memory(&self, from: i64) -> bool {
        let inner = self.lock();
        from >= inner.log_end_offset || inner.tail.read(from, 0, i64::MAX, false).is_some()
    }

    /// The first record with a timestamp of at least `timestamp`, as ListOffsets answers it. May block on the disk.
    pub fn offset_for_timestamp(&self, timestamp: i64) -> Result<Option<TimestampOffset>, ReadError> {
        let limit = self.config().decompressed_bytes_max();
        self.search(
            &mut |inner, number| {
                let from = inner.log_start_offset;
                let Some(segment) = inner.segments.get_mut(number) else {
                    return Ok(None);
                };
                if segment.newest_ms(self.disk())? < timestamp {
                    return Ok(Some(None));
                }
                let floor = segment.time_floor(self.disk(), timestamp)?;
                Ok(Some(Some((floor, from))))
            },
            &|batch, from| record_at_or_after(batch, timestamp, from, limit),
        )
    }

    /// The record with the largest timestamp, the earliest of several (KIP-734). May block on the disk.
    pub fn max_timestamp_offset(&self) -> Result<Option<TimestampOffset>, ReadError> {
        let limit = self.config().decompressed_bytes_max();
        let mut largest: Option<(usize, MaxTimestamp)> = None;
        {
            let mut inner = self.open_inner()?;
            for (number, segment) in inner.segments.iter_mut().enumerate() {
                if let Some(max) = segment.max_timestamp(self.disk())?
                    && largest.is_none_or(|(_, before)| max.timestamp > before.timestamp)
                {
                    largest = Some((number, max));
                }
            }
        }
        let Some((wanted, max)) = largest else { return Ok(None) };
        self.search(
            &mut |inner, number| match number.cmp(&wanted) {
                std::cmp::Ordering::Less => Ok(Some(None)),
                std::cmp::Ordering::Equal => Ok(Some(Some((Some(max), inner.log_start_offset)))),
                std::cmp::Ordering::Greater => Ok(None),
            },
            &|batch, from| record_with_timestamp(batch, max.timestamp, from, limit),
        )
    }

    /// Goes over the segments. `begin` says of each: none left, skip it, or where to begin and the least offset.
    #[allow(clippy::type_complexity)]
    fn search(
        &self,
        begin: &mut dyn FnMut(&mut Inner, usize) -> Result<Option<Option<(Option<MaxTimestamp>, i64)>>, ReadError>,
        look: &dyn Fn(&ottla_protocol::records::RecordBatch<'_>, i64) -> Option<(i64, i64)>,
    ) -> Result<Option<TimestampOffset>, ReadError> {
        let (mut number, mut attempts) = (0, 0);
        loop {
            let mut inner = self.open_inner()?;
            if number >= inner.segments.len() {
                return Ok(None);
            }
            let (floor, from) = match begin(&mut inner, number)? {
                None => return Ok(None),
                Some(None) => {
                    number += 1;
                    continue;
                }
                Some(Some(start)) => start,
            };
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
                    let failure = self.retry(failure, &seen)?;
                    if attempts >= ATTEMPTS {
                        return Err(failure);
                    }
                }
            }
        }
    }

    fn out_of_range(&self, offset: i64) -> ReadError {
        let inner = self.lock();
        let (log_start_offset, log_end_offset) = (inner.log_start_offset, inner.log_end_offset);
        ReadError::OffsetOutOfRange {
            offset,
            log_start_offset,
            log_end_offset,
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
            log_start_offset,
            log_end_offset,
        })
    }

    /// Decides whether a failed read is worth another attempt: yes if the log has changed, or if a garbled index was
    /// all that was wrong. Gives the error to answer with if that does not help.
    fn retry(&self, failure: Failure, seen: &Seen) -> Result<ReadError, ReadError> {
        let mut inner = self.open_inner()?;
        match failure {
            _ if inner.generation != seen.generation => {}
            Failure::Read(ReadError::Storage(error)) => return Err(ReadError::Storage(self.data_dir.fail(error))),
            Failure::Read(error) => return Err(error),
            Failure::IndexGarbled => {
                let (config, epochs) = (inner.config.clone(), inner.epochs.clone());
                let end_offset = seen.view.end_offset.max(inner.log_end_offset.min(seen.view.end_offset));
                let base_offset = seen.view.base_offset;
                let wanted = inner
                    .segments
                    .iter_mut()
                    .find(|segment| segment.base_offset() == base_offset);
                if let Some(segment) = wanted {
                    let rebuilt = rebuild_indexes(self.disk(), segment, &config, &epochs, end_offset);
                    self.data_dir.note(rebuilt)?;
                    inner.generation += 1;
                }
            }
        }
        let (log_start_offset, log_end_offset) = (seen.log_start_offset, seen.log_end_offset);
        Ok(ReadError::OffsetOutOfRange {
            offset: seen.view.base_offset,
            log_start_offset,
            log_end_offset,
        })
    }
}
