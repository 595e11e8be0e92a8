//! The end of a log's records: retention, deletion of segments and of the whole log, producer snapshots.
//!
//! Files are not removed at once: they get the suffix `.deleted` and go after `file.delete.delay.ms`, so that nobody
//! loses a file in the middle of a read.

use std::path::PathBuf;
use std::sync::{Arc, PoisonError};

use ottla_broker_state::leader_epochs::LeaderEpochs;

use super::disk::remove_if_exists;
use super::error::{Attempt, ReadError, StorageError};
use super::recovery::SNAPSHOT;
use super::segment::{Segment, file_name};
use super::{Inner, Log, write_epochs};

/// Snapshots kept besides the newest: one for each of the last segments is enough to come back from a truncation.
const SNAPSHOTS_KEPT: usize = 3;

impl Log {
    /// Deletes the segments that `retention.ms`, `retention.bytes` or the log start offset no longer allow. Returns
    /// how many. Nothing at or above the high watermark is deleted. `now_ms` is wall time.
    pub fn retain(&self, now_ms: i64) -> Result<usize, StorageError> {
        // Not between the two halves of a compaction's swap.
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.open_inner()?;
        let result = self.retain_inner(&mut inner, now_ms);
        self.data_dir.note(result)
    }

    fn retain_inner(&self, inner: &mut Inner, now_ms: i64) -> Result<usize, StorageError> {
        let config = inner.config.clone();
        let high_watermark = self.high_watermark().min(inner.log_end_offset);
        let mut size: i64 = inner.segments.iter().map(|segment| i64::from(segment.size())).sum();
        let (count, log_start_offset, log_end_offset) =
            (inner.segments.len(), inner.log_start_offset, inner.log_end_offset);
        let ends: Vec<i64> = inner
            .segments
            .iter()
            .skip(1)
            .map(Segment::base_offset)
            .chain([log_end_offset])
            .collect();
        let mut deletable = 0;
        for (number, end_offset) in ends.into_iter().enumerate() {
            let is_active = number + 1 == count;
            let is_empty = inner.segments.get(number).is_none_or(|segment| segment.size() == 0);
            if end_offset > high_watermark || (is_active && is_empty) {
                break;
            }
            self.check_indexes(inner, number)?;
            let Some(segment) = inner.segments.get_mut(number) else {
                break;
            };
            let started_later = !is_active && log_start_offset >= end_offset;
            let too_large = config.delete
                && config.retention_bytes >= 0
                && size - i64::from(segment.size()) >= config.retention_bytes;
            let too_old = config.delete
                && config.retention_ms >= 0
                && now_ms.saturating_sub(segment.newest_ms(self.disk())?) > config.retention_ms;
            if !(started_later || too_large || too_old) {
                break;
            }
            size -= i64::from(segment.size());
            deletable += 1;
        }
        if deletable == 0 {
            return Ok(0);
        }
        if deletable == count {
            self.roll(inner, log_end_offset, now_ms)?;
        }
        let rest = inner.segments.split_off(deletable);
        let doomed = std::mem::replace(&mut inner.segments, rest);
        let first = inner.segments.first().map_or(log_end_offset, Segment::base_offset);
        tracing::info!(topic = %self.topic, partition = self.partition, deletable, first, "deleted old segments");
        self.advance_start(inner, first)?;
        self.doom(inner, doomed, now_ms)?;
        self.remove_snapshots(inner, |offset| offset < first)?;
        Ok(deletable)
    }

    /// Makes everything below `offset` unreadable (DeleteRecords); whole segments below it go with the next
    /// [`retain`](Log::retain). Returns the log start offset.
    ///
    /// # Errors
    /// [`ReadError::OffsetOutOfRange`] beyond the high watermark.
    pub fn delete_records_before(&self, offset: i64) -> Result<i64, ReadError> {
        let mut inner = self.open_inner()?;
        let high_watermark = self.high_watermark();
        if offset > high_watermark || offset < 0 {
            let log_start_offset = inner.log_start_offset;
            return Err(ReadError::OffsetOutOfRange {
                offset,
                log_start_offset,
                log_end_offset: high_watermark,
            });
        }
        let result = self.advance_start(&mut inner, offset);
        self.data_dir.note(result)?;
        Ok(inner.log_start_offset)
    }

    fn advance_start(&self, inner: &mut Inner, offset: i64) -> Result<(), StorageError> {
        if offset <= inner.log_start_offset {
            return Ok(());
        }
        inner.log_start_offset = offset;
        inner.changed = true;
        let mut epochs = LeaderEpochs::clone(&inner.epochs);
        if epochs.truncate_from_start(offset) {
            write_epochs(self.disk(), &inner.dir, &epochs)?;
            inner.epochs = Arc::new(epochs);
        }
        Ok(())
    }

    /// Marks the files of `segments` as deleted.
    pub(super) fn doom(&self, inner: &mut Inner, segments: Vec<Segment>, now_ms: i64) -> Result<(), StorageError> {
        if segments.is_empty() {
            return Ok(());
        }
        inner.generation += 1;
        inner.departures += 1;
        inner.names_unsynced = true;
        let due_ms = now_ms.saturating_add(inner.config.file_delete_delay_ms);
        for segment in segments {
            let marked = segment.mark_deleted(self.disk())?;
            inner.doomed.extend(marked.into_iter().map(|path| (due_ms, path)));
        }
        Ok(())
    }

    /// Work for the manager's timer: removes files whose time has come, forgets idle producers, lets the tail go.
    pub(crate) fn tick(&self, now_ms: i64) -> Result<(), StorageError> {
        let mut inner = self.open_inner()?;
        inner.tail.expire(now_ms);
        let expiration_ms = inner.config.producer_id_expiration_ms;
        inner.producers.remove_expired(now_ms, expiration_ms);
        if inner.doomed.is_empty() {
            return Ok(());
        }
        let all = std::mem::take(&mut inner.doomed);
        let (due, waiting): (Vec<_>, Vec<_>) = all.into_iter().partition(|(due_ms, _)| *due_ms <= now_ms);
        inner.doomed = waiting;
        drop(inner);
        for (_, path) in due {
            self.data_dir
                .note(remove_if_exists(self.disk(), &path).attempt("remove", &path))?;
        }
        Ok(())
    }

    /// Takes no more calls and renames the directory to `name`; the caller removes it later. Returns its new path.
    pub(crate) fn close_and_rename(&self, name: &str) -> Result<PathBuf, StorageError> {
        // A flush under way fsyncs the directory by its old name: to find it gone would look like a failing disk.
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.open_inner()?;
        inner.closed = true;
        inner.generation += 1;
        inner.tail.clear();
        inner.segments.truncate(0);
        let target = self.data_dir.path().join(name);
        self.data_dir
            .note(self.disk().rename(&inner.dir, &target).attempt("rename", &inner.dir))?;
        self.data_dir.note(
            self.disk()
                .sync_dir(self.data_dir.path())
                .attempt("fsync", self.data_dir.path()),
        )?;
        Ok(target)
    }

    /// Writes the producer states as they are at `offset`, unless that was done already. Durable with the next flush:
    /// a torn snapshot has a wrong checksum and is ignored.
    pub(super) fn take_snapshot(&self, inner: &mut Inner, offset: i64) -> Result<(), StorageError> {
        if inner.snapshots.last().is_some_and(|last| *last >= offset) {
            return Ok(());
        }
        let path = inner.dir.join(file_name(offset, SNAPSHOT));
        let bytes = inner.producers.encode_snapshot();
        let write = || {
            let file = self.disk().open(&path, true)?;
            file.set_len(0)?;
            file.write_at(&bytes, 0)
        };
        write().attempt("write", &path)?;
        inner.names_unsynced = true;
        inner.snapshots.push(offset);
        let surplus = inner.snapshots.len().saturating_sub(SNAPSHOTS_KEPT + 1);
        let oldest_kept = inner.snapshots.get(surplus).copied().unwrap_or(0);
        self.remove_snapshots(inner, |offset| offset < oldest_kept)
    }

    /// Removes the snapshots for which `gone` is true, but never the newest of what stays to be read: producers must
    /// be remembered longer than their records.
    pub(super) fn remove_snapshots(&self, inner: &mut Inner, gone: impl Fn(i64) -> bool) -> Result<(), StorageError> {
        let newest = inner.snapshots.last().copied();
        let keep_newest = !inner.producers.is_empty();
        let all = std::mem::take(&mut inner.snapshots);
        for offset in all {
            if gone(offset) && !(keep_newest && newest == Some(offset)) {
                let path = inner.dir.join(file_name(offset, SNAPSHOT));
                remove_if_exists(self.disk(), &path).attempt("remove", &path)?;
            } else {
                inner.snapshots.push(offset);
            }
        }
        Ok(())
    }
}
