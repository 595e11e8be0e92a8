//! Walking over the batches of a `.log` file.
//!
//! In: a file, where to start and what must hold there. Out: the headers of batches, or whole batches that have
//! passed every check, or the place where the bytes stop being batches. It decides nothing about damage: a reader
//! refuses to serve it, recovery cuts it off or steps over it.

use std::io;
use std::sync::Arc;

use ottla_broker_state::leader_epochs::LeaderEpochs;
use ottla_protocol::records::{BATCH_HEADER_LEN, BATCH_LENGTH_END, MAGIC, RecordBatch};

use super::disk::DiskFile;

/// Bytes read at once when only headers are wanted: about the distance between two index entries.
pub(super) const HEADER_WINDOW: usize = 4096;
/// Bytes read at once when whole batches are wanted.
pub(super) const BATCH_WINDOW: usize = 256 * 1024;

/// What a walk needs of a batch's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchHeader {
    /// Offset of the first record.
    pub base_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// Bytes of the whole batch.
    pub size: u32,
    /// Leader epoch.
    pub leader_epoch: i32,
    /// Largest timestamp; -1 for a batch without records, which nobody should find by time.
    pub max_timestamp: i64,
}

impl BatchHeader {
    /// Reads a header; `None` when it cannot be one.
    pub fn parse(bytes: &[u8]) -> Option<BatchHeader> {
        let bytes = bytes.first_chunk::<BATCH_HEADER_LEN>()?;
        let base_offset = i64::from_be_bytes(take(bytes, 0)?);
        let length = i32::from_be_bytes(take(bytes, 8)?);
        let leader_epoch = i32::from_be_bytes(take(bytes, 12)?);
        let [magic] = take(bytes, 16)?;
        let last_offset_delta = i32::from_be_bytes(take(bytes, 23)?);
        let max_timestamp = match i32::from_be_bytes(take(bytes, 57)?) {
            0 => -1,
            _ => i64::from_be_bytes(take(bytes, 35)?),
        };
        let length = u32::try_from(length).ok()?;
        let least = (BATCH_HEADER_LEN - BATCH_LENGTH_END) as u32;
        if magic != MAGIC as u8 || length < least || base_offset < 0 || last_offset_delta < 0 {
            return None;
        }
        let last_offset = base_offset
            .checked_add(i64::from(last_offset_delta))
            .filter(|last| *last < i64::MAX)?;
        let size = length.checked_add(BATCH_LENGTH_END as u32)?;
        Some(BatchHeader {
            base_offset,
            last_offset,
            size,
            leader_epoch,
            max_timestamp,
        })
    }

    /// First offset after the batch.
    pub fn next_offset(&self) -> i64 {
        self.last_offset + 1
    }
}

fn take<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk::<N>().copied()
}

/// A piece of a file kept in memory, moved as needed.
#[derive(Debug)]
pub(super) struct Window {
    file: Arc<dyn DiskFile>,
    /// The end of the file as far as this walk goes.
    end: u64,
    least: usize,
    start: u64,
    bytes: Vec<u8>,
}

impl Window {
    /// Looks at the first `end` bytes of `file`, reading at least `least` bytes at once.
    pub fn new(file: Arc<dyn DiskFile>, end: u64, least: usize) -> Window {
        Window {
            file,
            end,
            least,
            start: 0,
            bytes: Vec::new(),
        }
    }

    /// Where the file ends for this walk.
    pub fn end(&self) -> u64 {
        self.end
    }

    /// `length` bytes at `position`; fewer at the end.
    pub fn at(&mut self, position: u64, length: usize) -> io::Result<&[u8]> {
        let length = length.min(usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX));
        let inside = position
            .checked_sub(self.start)
            .and_then(|skip| usize::try_from(skip).ok());
        let inside = inside.filter(|skip| skip.saturating_add(length) <= self.bytes.len());
        let skip = match inside {
            Some(skip) => skip,
            None => {
                let left = usize::try_from(self.end.saturating_sub(position)).unwrap_or(usize::MAX);
                self.bytes.resize(length.max(self.least).min(left), 0);
                self.start = position;
                let read = self.file.read_at(&mut self.bytes, position)?;
                self.bytes.truncate(read);
                0
            }
        };
        let rest = self.bytes.get(skip..).unwrap_or_default();
        Ok(rest.get(..length).unwrap_or(rest))
    }

    /// The header at `position`, if one is there and its batch ends within the file.
    pub fn header(&mut self, position: u64) -> io::Result<Option<BatchHeader>> {
        let header = BatchHeader::parse(self.at(position, BATCH_HEADER_LEN)?);
        Ok(header.filter(|header| position + u64::from(header.size) <= self.end))
    }

    /// The whole batch at `position`, if one is there and its checksum fits.
    pub fn batch(&mut self, position: u64) -> io::Result<Option<RecordBatch<'_>>> {
        let Some(header) = self.header(position)? else {
            return Ok(None);
        };
        let bytes = self.at(position, header.size as usize)?;
        Ok(RecordBatch::parse(bytes)
            .ok()
            .map(|(batch, _)| batch)
            .filter(|batch| batch.verify_crc().is_ok()))
    }
}

/// Whether a batch may stand between `expected`, the first offset that it can have, and `following`, the base offset
/// of the batch after it (or the end of the segment).
///
/// The checksum does not cover the base offset. In a log without gaps a batch begins at `expected`; only compaction
/// leaves gaps, and even then batches do not overlap. So a changed base offset is noticed in all but one case: when it
/// moves the batch within a gap.
pub(super) fn fits(
    header: &BatchHeader,
    expected: i64,
    following: impl FnOnce() -> io::Result<i64>,
) -> io::Result<bool> {
    if header.base_offset == expected {
        return Ok(true);
    }
    Ok(header.base_offset > expected && header.next_offset() <= following()?)
}

/// Whether a batch was written in the leader epoch that covers its offsets. Below the first known epoch nothing is
/// known but that epochs grow.
pub(super) fn epoch_fits(header: &BatchHeader, epochs: &LeaderEpochs) -> bool {
    match (epochs.epoch_for_offset(header.last_offset), epochs.earliest()) {
        (Some(epoch), _) => header.leader_epoch == epoch,
        (None, Some(earliest)) => (-1..=earliest.epoch).contains(&header.leader_epoch),
        (None, None) => header.leader_epoch == -1,
    }
}

/// Searches from `position` on for the next bytes that are a batch with a fitting checksum and an offset within
/// `offsets`. For stepping over damage, hence slow and careful.
pub(super) fn find_batch(window: &mut Window, from: u64, offsets: std::ops::Range<i64>) -> io::Result<Option<u64>> {
    let mut position = from;
    while position + BATCH_HEADER_LEN as u64 <= window.end() {
        if let Some(header) = window.header(position)?
            && offsets.contains(&header.base_offset)
            && header.next_offset() <= offsets.end
            && window.batch(position)?.is_some()
        {
            return Ok(Some(position));
        }
        position += 1;
    }
    Ok(None)
}
