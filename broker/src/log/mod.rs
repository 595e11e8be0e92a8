//! The log: partitions on disk, in Kafka's own files. The only room that may name a file.
//!
//! In: batches from clients, leaders and coordinators. Out: the same bytes, with offset and leader epoch set, to
//! whoever reads. It knows no connection, no request and no high watermark but the one it is told.
//!
//! - Bytes are never re-encoded, except where the topic asks for another codec or the broker's time. An append is one
//!   write; the bytes stay for a while in the [tail](TailBudget), which answers live readers without the disk.
//! - fsync is not part of an append. [`Log::flush`] is called by the manager's timer, when a clean stop closes the
//!   log, and before the answer where `flush.messages` asks for it; concurrent callers share one fsync.
//! - What was not fsynced may be torn by a power loss. Recovery cuts it off at the first bad batch; damage
//!   in what was fsynced is never cut off and never served.
//! - A failed write or fsync takes the data directory offline. It is not tried again.
//!
//! Lock order: the flush lock, then the log's own. Neither is held across an `.await`: there is none here.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use ottla_broker_state::leader_epochs::{EpochEndOffset, LeaderEpochs};
use ottla_broker_state::producers::{ProducerStates, Verdict};
use ottla_protocol::Uuid;
use ottla_protocol::records::{RecordBatch, RecordBatches, RecordError, batch};

pub mod checkpoint;
mod cleaner;
mod config;
mod contents;
mod data_dir;
pub mod disk;
mod error;
mod index;
mod lookup;
mod manager;
mod read;
mod recovery;
mod retention;
mod scan;
mod segment;
mod tail;
#[cfg(test)]
mod tests;
mod validate;

pub use cleaner::{CleanError, Cleanable, Cleaned, CleanerConfig};
pub use config::LogConfig;
pub use data_dir::DataDir;
pub use error::{AppendError, ReadError, RefusedRecord, StorageError};
pub use lookup::{LogSlice, TimestampOffset};
pub use manager::{LogManager, METADATA_TOPIC, ManagerConfig, ManagerError};
pub use recovery::LogStart;
pub use tail::TailBudget;
pub use validate::AppendOrigin;

use disk::{Disk, replace_file};
use error::Attempt;
use read::SegmentReader;
use recovery::{observe, producer_batch};
use scan::BatchHeader;
use segment::{LOG, Segment};
use tail::Tail;

/// What an append has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AppendInfo {
    /// Offset of the first record; of the first copy if this was a repeat.
    pub first_offset: i64,
    /// Offset of the last record.
    pub last_offset: i64,
    /// The broker's time in the records, or -1 where they keep their own.
    pub log_append_time: i64,
    /// Where the log starts.
    pub log_start_offset: i64,
    /// True when the batch had been appended before and nothing was written.
    pub duplicate: bool,
    /// True when `flush.messages` wants [`Log::flush_to`] past `last_offset` before the answer.
    pub flush_due: bool,
}

/// One partition's log.
#[derive(Debug)]
pub struct Log {
    topic: String,
    partition: i32,
    data_dir: Arc<DataDir>,
    inner: Mutex<Inner>,
    /// Held while one caller fsyncs; the others wait and find their work done.
    flushing: Mutex<()>,
    log_end_offset: AtomicI64,
    high_watermark: AtomicI64,
}

#[derive(Debug)]
struct Inner {
    config: Arc<LogConfig>,
    dir: Arc<Path>,
    topic_id: Uuid,
    /// Ascending by base offset, never empty. The last one is the active one.
    segments: Vec<Segment>,
    log_start_offset: i64,
    log_end_offset: i64,
    /// Everything below is fsynced.
    recovery_point: i64,
    /// Shared with readers; replaced, not changed, when an epoch begins.
    epochs: Arc<LeaderEpochs>,
    producers: ProducerStates,
    /// Offsets of the `.snapshot` files, ascending.
    snapshots: Vec<i64>,
    tail: Tail,
    /// Grows when offsets or files go away, so that a reader without the lock notices.
    generation: u64,
    /// Grows when segments go away, whoever removes them.
    departures: u64,
    /// Everything below is compacted.
    clean_to: i64,
    /// Compaction has met a batch that it cannot read.
    uncleanable: bool,
    /// Names were created or removed since the directory was last fsynced.
    names_unsynced: bool,
    /// The directory is new: neither its own name nor `partition.metadata` was fsynced yet. Nothing in it was promised
    /// to anybody before the first flush, so that flush is early enough.
    created_unsynced: bool,
    /// Something was written since the last clean stop.
    changed: bool,
    /// When the oldest record that is not fsynced was appended, milliseconds since 1970.
    unflushed_since_ms: Option<i64>,
    /// Files marked as deleted, with the time when they go.
    doomed: Vec<(i64, PathBuf)>,
    closed: bool,
}

impl Inner {
    fn active(&mut self) -> Result<&mut Segment, StorageError> {
        let dir = self.dir.clone();
        self.segments.last_mut().ok_or_else(|| StorageError::offline(&dir))
    }
}

impl Log {
    /// Name of the topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Number of the partition.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// Id of the topic, as `partition.metadata` says; [`Uuid::ZERO`] where it is not known.
    pub fn topic_id(&self) -> Uuid {
        self.lock().topic_id
    }

    /// The data directory that holds the log.
    pub fn data_dir(&self) -> &Arc<DataDir> {
        &self.data_dir
    }

    /// The settings in force.
    pub fn config(&self) -> Arc<LogConfig> {
        self.lock().config.clone()
    }

    /// Puts other settings in force, from the next append on.
    pub fn update_config(&self, config: LogConfig) {
        self.lock().config = Arc::new(config);
    }

    /// First offset that can be read.
    pub fn log_start_offset(&self) -> i64 {
        self.lock().log_start_offset
    }

    /// First offset after the last record. Takes no lock.
    pub fn log_end_offset(&self) -> i64 {
        self.log_end_offset.load(Ordering::Acquire)
    }

    /// The high watermark last told by [`set_high_watermark`](Log::set_high_watermark), or checkpointed before the
    /// start. Takes no lock.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::Acquire)
    }

    /// Tells the high watermark, which bounds retention and goes into the checkpoint. Never beyond the log's end.
    pub fn set_high_watermark(&self, offset: i64) {
        self.high_watermark
            .store(offset.min(self.log_end_offset()), Ordering::Release);
    }

    /// Everything below this offset is fsynced.
    pub fn recovery_point(&self) -> i64 {
        self.lock().recovery_point
    }

    /// Bytes of records on disk.
    pub fn size(&self) -> u64 {
        self.lock()
            .segments
            .iter()
            .map(|segment| u64::from(segment.size()))
            .sum()
    }

    /// Number of segments.
    pub fn segment_count(&self) -> usize {
        self.lock().segments.len()
    }

    /// The latest leader epoch in the log.
    pub fn latest_epoch(&self) -> Option<i32> {
        self.lock().epochs.latest_epoch()
    }

    /// All leader epochs in the log.
    pub fn leader_epochs(&self) -> Arc<LeaderEpochs> {
        self.lock().epochs.clone()
    }

    /// Where `epoch` ends, as OffsetForLeaderEpoch answers it; `None` stands for "undefined".
    pub fn end_offset_for_epoch(&self, epoch: i32) -> Option<EpochEndOffset> {
        let inner = self.lock();
        inner.epochs.end_offset_for(epoch, inner.log_end_offset)
    }

    /// Number of producer ids remembered.
    pub fn producer_count(&self) -> usize {
        self.lock().producers.len()
    }

    /// Gives the topic's id to a log whose `partition.metadata` was lost before its first flush.
    pub(super) fn adopt_topic_id(&self, topic_id: Uuid) -> Result<(), StorageError> {
        let mut inner = self.open_inner()?;
        let written = recovery::write_topic_id(self.disk(), &inner.dir, topic_id);
        self.data_dir.note(written)?;
        inner.topic_id = topic_id;
        inner.created_unsynced = true;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic inside leaves at worst bytes after the end, which the next append overwrites.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn disk(&self) -> &dyn Disk {
        self.data_dir.disk().as_ref()
    }

    /// The lock, if the log is open and its directory online.
    fn open_inner(&self) -> Result<MutexGuard<'_, Inner>, StorageError> {
        self.data_dir.check()?;
        let inner = self.lock();
        if inner.closed {
            Err(StorageError::offline(&inner.dir))
        } else {
            Ok(inner)
        }
    }

    /// Appends the one batch of a partition in a Produce request, or of a coordinator.
    ///
    /// `records` is copied once; offset and leader epoch are set in the copy. `now_ms` is wall time.
    ///
    /// # Promises
    /// - A repeat of one of the producer's last five batches is answered with the first copy's offsets.
    /// - After an error other than [`AppendError::Storage`] the log is as it was.
    ///
    /// # Dangers
    /// - The batch may be lost with the machine's power until [`flush`](Log::flush) has run.
    pub fn append_as_leader(
        &self,
        records: &[u8],
        leader_epoch: i32,
        origin: AppendOrigin,
        now_ms: i64,
    ) -> Result<AppendInfo, AppendError> {
        let config = self.open_inner()?.config.clone();
        // Outside the lock: this reads every record.
        let checked = validate::check(records, &config, origin, now_ms)?;
        let mut bytes = checked.bytes;
        let mut inner = self.open_inner()?;
        let base_offset = inner.log_end_offset;
        batch::patch_base_offset(&mut bytes, base_offset);
        batch::patch_leader_epoch(&mut bytes, leader_epoch);
        let log_append_time = checked.log_append_time.unwrap_or(-1);
        let (view, _) = RecordBatch::parse(&bytes).map_err(AppendError::Corrupt)?;
        if let Some(producer) = producer_batch(&view).filter(|_| origin == AppendOrigin::Client) {
            let verdict = inner.producers.check(&producer)?;
            if let Verdict::Duplicate {
                first_offset,
                last_offset,
                timestamp,
            } = verdict
            {
                let log_append_time = if log_append_time == -1 { -1 } else { timestamp };
                let log_start_offset = inner.log_start_offset;
                let flush_due = self.is_flush_due(&inner, last_offset);
                let duplicate = true;
                let info = AppendInfo {
                    first_offset,
                    last_offset,
                    log_append_time,
                    log_start_offset,
                    duplicate,
                    flush_due,
                };
                return Ok(info);
            }
        }
        let header = self.append_batch(&mut inner, Bytes::from(bytes), now_ms)?;
        Ok(self.appended(&inner, header.base_offset, header.last_offset, log_append_time))
    }

    /// Appends whole batches as they are: from a leader, or for the metadata quorum.
    ///
    /// Checksums are verified. Offsets must not lie below the log's end, leader epochs not below the latest one.
    /// Batches before a refused one stay appended.
    pub fn append_as_follower(&self, records: &[u8], now_ms: i64) -> Result<AppendInfo, AppendError> {
        let mut inner = self.open_inner()?;
        let mut first = None;
        for found in RecordBatches::new(records) {
            let found = found.map_err(AppendError::Corrupt)?;
            found.verify_crc().map_err(AppendError::Corrupt)?;
            if found.base_offset() < inner.log_end_offset {
                let log_end_offset = inner.log_end_offset;
                return Err(AppendError::UnexpectedOffset {
                    found: found.base_offset(),
                    log_end_offset,
                });
            }
            let header = self.append_batch(&mut inner, Bytes::copy_from_slice(found.raw()), now_ms)?;
            first.get_or_insert(header.base_offset);
        }
        let first = first.unwrap_or(inner.log_end_offset);
        let last = inner.log_end_offset - 1;
        Ok(self.appended(&inner, first, last, -1))
    }

    /// Appends ready batches at the log's end under `leader_epoch` and fsyncs them before it returns.
    ///
    /// For the metadata quorum: nothing of a Produce request's rules applies, offsets are assigned.
    pub fn append_durably(&self, records: &[u8], leader_epoch: i32, now_ms: i64) -> Result<AppendInfo, AppendError> {
        let mut batches = Vec::new();
        for found in RecordBatches::new(records) {
            let found = found.map_err(AppendError::Corrupt)?;
            found.verify_crc().map_err(AppendError::Corrupt)?;
            batches.push(found.raw().to_vec());
        }
        let mut inner = self.open_inner()?;
        let first = inner.log_end_offset;
        for mut bytes in batches {
            batch::patch_base_offset(&mut bytes, inner.log_end_offset);
            batch::patch_leader_epoch(&mut bytes, leader_epoch);
            self.append_batch(&mut inner, Bytes::from(bytes), now_ms)?;
        }
        let info = self.appended(&inner, first, inner.log_end_offset - 1, -1);
        drop(inner);
        self.flush()?;
        Ok(info)
    }

    fn appended(&self, inner: &Inner, first_offset: i64, last_offset: i64, log_append_time: i64) -> AppendInfo {
        AppendInfo {
            first_offset,
            last_offset,
            log_append_time,
            log_start_offset: inner.log_start_offset,
            duplicate: false,
            flush_due: self.is_flush_due(inner, last_offset),
        }
    }

    fn is_flush_due(&self, inner: &Inner, last_offset: i64) -> bool {
        let unflushed = last_offset.saturating_add(1).saturating_sub(inner.recovery_point);
        u64::try_from(unflushed).is_ok_and(|unflushed| unflushed >= inner.config.flush_messages)
    }

    /// Writes one batch whose offset and epoch are set.
    fn append_batch(&self, inner: &mut Inner, bytes: Bytes, now_ms: i64) -> Result<BatchHeader, AppendError> {
        let (view, _) = RecordBatch::parse(&bytes).map_err(AppendError::Corrupt)?;
        let malformed = || {
            AppendError::Corrupt(RecordError::InvalidBatchLength {
                length: view.batch_length(),
            })
        };
        let header = BatchHeader::parse(&bytes).ok_or_else(malformed)?;
        let config = inner.config.clone();
        if header.size > config.segment_bytes {
            let (size, limit) = (header.size as usize, config.segment_bytes as usize);
            return Err(AppendError::LargerThanSegment { size, limit });
        }
        let latest = inner.epochs.latest_epoch().unwrap_or(-1);
        if header.leader_epoch < latest {
            return Err(AppendError::FencedLeaderEpoch {
                given: header.leader_epoch,
                latest,
            });
        }
        assert!(header.base_offset >= inner.log_end_offset, "offsets only grow");
        if header.leader_epoch > latest {
            // Before the first batch of the epoch: a log never holds an epoch that its checkpoint does not know.
            let mut epochs = LeaderEpochs::clone(&inner.epochs);
            epochs.assign(header.leader_epoch, header.base_offset);
            self.data_dir.note(write_epochs(self.disk(), &inner.dir, &epochs))?;
            inner.epochs = Arc::new(epochs);
        }
        if inner.active()?.should_roll(&config, &header, now_ms) {
            self.data_dir.note(self.roll(inner, header.base_offset, now_ms))?;
        }
        let disk = self.disk();
        let written = inner.active()?.append(disk, &config, &header, &bytes);
        self.data_dir.note(written)?;
        observe(&mut inner.producers, &view, Some(now_ms));
        inner.unflushed_since_ms.get_or_insert(now_ms);
        inner.tail.push(&header, bytes.clone(), now_ms);
        self.set_end(inner, header.next_offset());
        Ok(header)
    }

    fn set_end(&self, inner: &mut Inner, log_end_offset: i64) {
        inner.log_end_offset = log_end_offset;
        inner.changed = true;
        self.log_end_offset.store(log_end_offset, Ordering::Release);
    }

    /// Starts a new segment at `base_offset`. The old one is fsynced by the next flush.
    fn roll(&self, inner: &mut Inner, base_offset: i64, now_ms: i64) -> Result<(), StorageError> {
        let disk = self.disk();
        let active = inner.active()?;
        if active.size() == 0 && active.base_offset() == base_offset {
            return Ok(());
        }
        active.seal(disk)?;
        let segment = Segment::create(disk, &inner.dir, base_offset, &inner.config, now_ms)?;
        inner.segments.push(segment);
        inner.names_unsynced = true;
        self.take_snapshot(inner, base_offset)?;
        tracing::debug!(topic = %self.topic, partition = self.partition, base_offset, "rolled a new segment");
        Ok(())
    }

    /// fsyncs everything appended before the call. Blocks: call it where blocking is allowed.
    ///
    /// # Errors
    /// The data directory is then offline, and records since the last success may be lost.
    pub fn flush(&self) -> Result<(), StorageError> {
        self.flush_to(self.log_end_offset())
    }

    /// fsyncs at least everything below `offset`. Callers that wait for one another share an fsync.
    pub fn flush_to(&self, offset: i64) -> Result<(), StorageError> {
        let turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.open_inner()?;
        let names = inner.names_unsynced || inner.created_unsynced;
        if inner.recovery_point >= offset.min(inner.log_end_offset) && !names {
            return Ok(());
        }
        let (end, generation, created) = (inner.log_end_offset, inner.generation, inner.created_unsynced);
        let (dir, recovery_point, count) = (inner.dir.clone(), inner.recovery_point, inner.segments.len());
        // The one before as well: it may have been completed since, and its indexes with it.
        let before = inner
            .segments
            .partition_point(|segment| segment.base_offset() < recovery_point);
        let mut files = Vec::new();
        for (number, segment) in inner.segments.iter_mut().enumerate().skip(before.max(1) - 1) {
            let found = segment.files_to_sync(self.disk(), number + 1 < count);
            files.extend(self.data_dir.note(found)?);
        }
        inner.names_unsynced = false;
        inner.created_unsynced = false;
        inner.unflushed_since_ms = None;
        drop(inner);

        for file in files {
            self.data_dir.note(file.sync().attempt("fsync a segment in", &dir))?;
        }
        if created {
            self.data_dir.note(self.sync_creation(&dir))?;
        }
        if names {
            self.data_dir.note(self.disk().sync_dir(&dir).attempt("fsync", &dir))?;
        }
        let mut inner = self.lock();
        if inner.generation == generation {
            inner.recovery_point = inner.recovery_point.max(end);
        }
        drop(turn);
        Ok(())
    }

    /// fsyncs everything, whatever is believed to be fsynced already.
    pub(super) fn flush_again(&self) -> Result<(), StorageError> {
        self.open_inner()?.recovery_point = 0;
        self.flush()
    }

    fn sync_creation(&self, dir: &Path) -> Result<(), StorageError> {
        let path = dir.join(checkpoint::PARTITION_METADATA);
        match self.disk().open(&path, false) {
            Ok(file) => file.sync().attempt("fsync", &path)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(StorageError::new("open", &path, error)),
        }
        let root = self.data_dir.path();
        self.disk().sync_dir(root).attempt("fsync", root)
    }

    /// Whether `flush.ms` wants a flush by now.
    pub(crate) fn is_flush_overdue(&self, now_ms: i64) -> bool {
        let inner = self.lock();
        inner
            .unflushed_since_ms
            .is_some_and(|since| now_ms.saturating_sub(since) >= inner.config.flush_ms)
    }

    /// Drops every batch that reaches `offset` or beyond, so that a follower can continue as its leader did.
    ///
    /// The log then ends at `offset`, or before it if `offset` lay inside a batch. True when something was dropped.
    pub fn truncate_to(&self, offset: i64, now_ms: i64) -> Result<bool, StorageError> {
        // Not between the two halves of a compaction's swap.
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.open_inner()?;
        if offset >= inner.log_end_offset {
            // An epoch may have begun at the end without a batch.
            let end = inner.log_end_offset;
            self.data_dir.note(self.truncate_epochs(&mut inner, end))?;
            return Ok(false);
        }
        let result = self.truncate_inner(&mut inner, offset.max(0), now_ms);
        self.data_dir.note(result)?;
        tracing::info!(topic = %self.topic, partition = self.partition, offset, "truncated");
        Ok(true)
    }

    fn truncate_inner(&self, inner: &mut Inner, offset: i64, now_ms: i64) -> Result<(), StorageError> {
        if inner
            .segments
            .first()
            .is_none_or(|segment| segment.base_offset() > offset)
        {
            return self.start_anew(inner, offset, now_ms);
        }
        let keep = inner
            .segments
            .partition_point(|segment| segment.base_offset() <= offset);
        let doomed = inner.segments.split_off(keep);
        self.doom(inner, doomed, now_ms)?;
        let (disk, epochs) = (self.disk(), inner.epochs.clone());
        let end = inner.log_end_offset;
        let active = inner.active()?;
        let view = active.view(disk, offset, end)?;
        let (position, next_offset) = SegmentReader::new(&view, &epochs).cut_point(offset)?;
        active.cut(disk, position, next_offset, now_ms)?;
        self.set_end(inner, next_offset);
        inner.generation += 1;
        inner.tail.clear();
        inner.recovery_point = inner.recovery_point.min(next_offset);
        inner.clean_to = inner.clean_to.min(next_offset);
        inner.log_start_offset = inner.log_start_offset.min(next_offset);
        self.high_watermark.fetch_min(next_offset, Ordering::AcqRel);
        self.truncate_epochs(inner, next_offset)?;
        recovery::reload_producers(disk, inner, next_offset)
    }

    /// Drops all records; the next one gets `offset`. For a follower whose leader no longer has what it would need.
    pub fn truncate_fully_and_start_at(&self, offset: i64, now_ms: i64) -> Result<(), StorageError> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut inner = self.open_inner()?;
        let result = self.start_anew(&mut inner, offset, now_ms);
        self.data_dir.note(result)
    }

    fn start_anew(&self, inner: &mut Inner, offset: i64, now_ms: i64) -> Result<(), StorageError> {
        let doomed = std::mem::take(&mut inner.segments);
        self.doom(inner, doomed, now_ms)?;
        let segment = Segment::create(self.disk(), &inner.dir, offset, &inner.config, now_ms)?;
        inner.segments.push(segment);
        self.set_end(inner, offset);
        inner.generation += 1;
        inner.tail.clear();
        inner.names_unsynced = true;
        (inner.recovery_point, inner.log_start_offset) = (offset, offset);
        inner.clean_to = inner.clean_to.min(offset);
        self.high_watermark.store(offset, Ordering::Release);
        inner.epochs = Arc::default();
        write_epochs(self.disk(), &inner.dir, &inner.epochs)?;
        inner.producers.clear();
        self.remove_snapshots(inner, |_| true)
    }

    fn truncate_epochs(&self, inner: &mut Inner, end_offset: i64) -> Result<(), StorageError> {
        let mut epochs = LeaderEpochs::clone(&inner.epochs);
        if !epochs.truncate_from_end(end_offset) {
            return Ok(());
        }
        write_epochs(self.disk(), &inner.dir, &epochs)?;
        inner.epochs = Arc::new(epochs);
        Ok(())
    }

    /// Writes everything out, fsyncs it and takes no more calls. The manager then writes the clean shutdown marker.
    pub fn close(&self) -> Result<(), StorageError> {
        self.flush()?;
        let mut inner = self.open_inner()?;
        if inner.changed {
            let written = self.write_out(&mut inner);
            self.data_dir.note(written)?;
        }
        inner.closed = true;
        inner.tail.clear();
        Ok(())
    }

    /// Writes and fsyncs what a clean start trusts: the end of the records, their indexes, the producers.
    fn write_out(&self, inner: &mut Inner) -> Result<(), StorageError> {
        let (disk, end, dir) = (self.disk(), inner.log_end_offset, inner.dir.clone());
        inner.active()?.seal(disk)?;
        self.take_snapshot(inner, end)?;
        let mut files = inner.active()?.files_to_sync(disk, true)?;
        let path = dir.join(segment::file_name(end, recovery::SNAPSHOT));
        files.push(disk.open(&path, true).attempt("open", &path)?);
        for file in files {
            file.sync().attempt("fsync a file in", &dir)?;
        }
        disk.sync_dir(&dir).attempt("fsync", &dir)?;
        inner.recovery_point = end;
        inner.names_unsynced = false;
        Ok(())
    }
}

/// Writes `leader-epoch-checkpoint`.
fn write_epochs(disk: &dyn Disk, dir: &Path, epochs: &LeaderEpochs) -> Result<(), StorageError> {
    let path = dir.join(checkpoint::LEADER_EPOCHS);
    replace_file(disk, &path, checkpoint::encode_epochs(epochs).as_bytes()).attempt("write", &path)
}

/// The path of a segment's records, for messages.
fn log_path(dir: &Path, base_offset: i64) -> PathBuf {
    dir.join(segment::file_name(base_offset, LOG))
}
