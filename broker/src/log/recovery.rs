//! Opening a partition's directory: what is there, what of it can be trusted, what must be built again.
//!
//! In: a directory, the checkpoints of its data directory, and whether the last stop was clean. Out: an open log that
//! ends after its last sound batch.
//!
//! - After a clean stop the files are trusted, but for a look at the tail of the active segment.
//! - Else every batch from the recovery point on is read and its checksum verified. At the first bad one the log is
//!   cut: it was never fsynced. Below the recovery point a bad batch is damage, not a torn write: it is stepped over,
//!   stays where it is, and readers who ask for it get an error.
//! - Indexes, leader epochs and producer states that are missing or garbled are built from the batches.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::AtomicI64;
use std::sync::{Arc, Mutex};

use ottla_broker_state::leader_epochs::LeaderEpochs;
use ottla_broker_state::producers::{ProducerBatch, ProducerStates};
use ottla_protocol::Uuid;
use ottla_protocol::records::{ControlRecord, Decompressor, RecordBatch};

use super::checkpoint::{self, LEADER_EPOCHS, PARTITION_METADATA};
use super::cleaner::swap;
use super::data_dir::DataDir;
use super::disk::{Disk, remove_if_exists};
use super::error::{Attempt, StorageError};
use super::index::{IndexEntry, OffsetEntry, TimeEntry};
use super::scan::{BATCH_WINDOW, HEADER_WINDOW, Window, epoch_fits, find_batch, fits};
use super::segment::{DELETED, INDEX, LOG, Segment, TIME_INDEX, file_name};
use super::tail::{Tail, TailBudget};
use super::{Inner, Log, LogConfig, log_path, write_epochs};

/// The suffix of producer snapshots.
pub(super) const SNAPSHOT: &str = ".snapshot";

/// What is known of a log before it is opened. The default knows nothing: everything is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LogStart {
    /// The last stop was clean.
    pub clean: bool,
    /// Everything below was fsynced.
    pub recovery_point: i64,
    /// First offset that may be read.
    pub log_start_offset: i64,
    /// The high watermark as it was checkpointed.
    pub high_watermark: i64,
    /// Everything below was compacted.
    pub clean_to: i64,
}

/// The part of a batch that concerns its producer; `None` for control batches and batches without a producer.
pub(super) fn producer_batch(batch: &RecordBatch<'_>) -> Option<ProducerBatch> {
    if batch.producer_id() < 0 || batch.is_control() {
        return None;
    }
    Some(ProducerBatch {
        producer_id: batch.producer_id(),
        producer_epoch: batch.producer_epoch(),
        base_sequence: batch.base_sequence(),
        base_offset: batch.base_offset(),
        last_offset_delta: batch.last_offset_delta(),
        max_timestamp: batch.max_timestamp(),
        transactional: batch.is_transactional(),
    })
}

/// Remembers what a batch that is in the log says of its producer. `seen_ms`: wall time, if it came just now.
pub(super) fn observe(producers: &mut ProducerStates, batch: &RecordBatch<'_>, seen_ms: Option<i64>) {
    if let Some(producer) = producer_batch(batch) {
        producers.appended(&producer, seen_ms);
    } else if batch.producer_id() >= 0 {
        // Markers are a few bytes; a batch of control records is never large.
        let mut scratch = Decompressor::new();
        let Ok(mut records) = batch.records(&mut scratch, 1 << 16) else {
            return;
        };
        let Some(Ok(record)) = records.next() else { return };
        if let Ok(ControlRecord::EndTransaction(marker)) = ControlRecord::read(&record) {
            let (id, epoch) = (batch.producer_id(), batch.producer_epoch());
            producers.marker_appended(id, epoch, marker.coordinator_epoch, record.timestamp, seen_ms);
        }
    }
}

/// What a batch must satisfy beyond its own checksum.
pub(super) struct Rules<'a> {
    /// Bad batches below this offset are stepped over, not cut off.
    pub trusted_below: i64,
    /// Whether offsets may be missing above `trusted_below`, as compaction leaves them.
    pub gaps: bool,
    /// The leader epochs, if they are known.
    pub epochs: Option<&'a LeaderEpochs>,
    /// First offset after the segment; `i64::MAX` while that is being found out.
    pub end_offset: i64,
}

impl Rules<'_> {
    fn allow(&self, window: &mut Window, position: u64, expected: i64) -> Result<bool, std::io::Error> {
        let Some(header) = window.header(position)? else {
            return Ok(false);
        };
        let after = position + u64::from(header.size);
        let known_epoch = self.epochs.is_none_or(|epochs| epoch_fits(&header, epochs));
        let may_gap = self.gaps || header.base_offset < self.trusted_below;
        let following = || Ok(window.header(after)?.map_or(self.end_offset, |next| next.base_offset));
        Ok(known_epoch && (may_gap || header.base_offset == expected) && fits(&header, expected, following)?)
    }
}

/// Enters the segment's batches into its indexes, from the first one on.
///
/// Below `rules.trusted_below` headers are enough; above it, checksums are verified. Returns where the sound part ends,
/// and the offset that comes next there.
fn index_batches(
    disk: &dyn Disk,
    segment: &mut Segment,
    config: &LogConfig,
    rules: &Rules<'_>,
) -> Result<(u64, i64), StorageError> {
    let path = segment.path(LOG);
    let mut headers = segment.window(disk, HEADER_WINDOW)?;
    let mut batches = segment.window(disk, BATCH_WINDOW)?;
    let (mut position, mut expected) = (0, segment.base_offset());
    while position < batches.end() {
        let trusted = expected < rules.trusted_below;
        let window = if trusted { &mut headers } else { &mut batches };
        let allowed = rules.allow(window, position, expected).attempt("read", &path)?;
        let header = window.header(position).attempt("read", &path)?.filter(|_| allowed);
        // Where the last batch ends, the next begins: that must not rest on a header alone.
        let is_last = header.is_some_and(|header| position + u64::from(header.size) == batches.end());
        let to_verify = allowed && (!trusted || is_last);
        let whole = !to_verify || batches.batch(position).attempt("read", &path)?.is_some();
        if let Some(header) = header.filter(|_| whole) {
            segment.note(disk, config, &header, u32::try_from(position).unwrap_or(u32::MAX))?;
            position += u64::from(header.size);
            expected = header.next_offset();
            continue;
        }
        // Only what was fsynced can be damaged; the rest was never whole.
        let offsets = expected..rules.end_offset;
        let found = match trusted {
            true => find_batch(&mut batches, position + 1, offsets).attempt("read", &path)?,
            false => None,
        };
        let Some(found) = found else { break };
        tracing::error!(path = %path.display(), position, bytes = found - position, "damaged bytes in a segment");
        position = found;
        expected = batches
            .header(found)
            .attempt("read", &path)?
            .map_or(expected, |header| header.base_offset);
    }
    Ok((position, expected))
}

/// Builds the indexes of a complete or active segment again, without cutting anything.
pub(super) fn rebuild_indexes(
    disk: &dyn Disk,
    segment: &mut Segment,
    config: &LogConfig,
    epochs: &LeaderEpochs,
    end_offset: i64,
) -> Result<(), StorageError> {
    tracing::warn!(path = %segment.path(INDEX).display(), "building the indexes of a segment again");
    segment.clear_indexes(disk)?;
    let rules = Rules {
        trusted_below: i64::MAX,
        gaps: true,
        epochs: Some(epochs),
        end_offset,
    };
    index_batches(disk, segment, config, &rules)?;
    segment.seal(disk)
}

/// Loads the producer states as they were at `end_offset`: the newest snapshot not above it, then the batches after.
pub(super) fn reload_producers(disk: &dyn Disk, inner: &mut Inner, end_offset: i64) -> Result<(), StorageError> {
    inner.producers.clear();
    let mut from = inner.log_start_offset;
    while let Some(offset) = inner.snapshots.pop() {
        let path = inner.dir.join(file_name(offset, SNAPSHOT));
        let bytes = if offset <= end_offset {
            checkpoint::read(disk, &path)?
        } else {
            None
        };
        match bytes.as_deref().map(ProducerStates::decode_snapshot) {
            Some(Ok(states)) => {
                inner.producers = states;
                inner.snapshots.push(offset);
                from = from.max(offset);
                break;
            }
            Some(Err(error)) => tracing::warn!(path = %path.display(), %error, "ignoring a producer snapshot"),
            None => {}
        }
        remove_if_exists(disk, &path).attempt("remove", &path)?;
    }
    let Inner {
        segments, producers, ..
    } = inner;
    let first = segments.partition_point(|segment| segment.base_offset() <= from).max(1) - 1;
    for segment in segments.iter_mut().skip(first) {
        if from >= end_offset {
            break;
        }
        let path = segment.path(LOG);
        let floor = segment.index_floor_below(disk, from)?;
        let mut window = segment.window(disk, BATCH_WINDOW)?;
        let mut position = floor.map_or(0, |entry| u64::from(entry.position));
        while position < window.end() {
            let Some(header) = window.header(position).attempt("read", &path)? else {
                break;
            };
            if header.last_offset >= from
                && let Some(batch) = window.batch(position).attempt("read", &path)?
            {
                observe(producers, &batch, None);
            }
            position += u64::from(header.size);
        }
    }
    Ok(())
}

impl Log {
    /// Opens (or creates) the directory of a partition and recovers what needs it.
    ///
    /// `topic_id` is written to `partition.metadata` if that file is missing; else the file's id stands.
    ///
    /// # Errors
    /// The disk's. What the disk holds is never an error: it is cut, rebuilt or stepped over.
    #[allow(clippy::too_many_arguments)]
    pub fn open(
        data_dir: &Arc<DataDir>,
        topic: &str,
        partition: i32,
        topic_id: Uuid,
        config: LogConfig,
        start: LogStart,
        tail: Arc<TailBudget>,
        now_ms: i64,
    ) -> Result<Log, StorageError> {
        let dir: Arc<Path> = data_dir.path().join(format!("{topic}-{partition}")).into();
        let loader = Loader {
            disk: data_dir.disk().as_ref(),
            topic,
            partition,
            config: &config,
            start,
            now_ms,
            dir,
        };
        let mut inner = data_dir.note(loader.load(tail))?;
        inner.topic_id = data_dir.note(loader.topic_id(topic_id))?;
        let log_end_offset = inner.log_end_offset;
        let high_watermark = start.high_watermark.clamp(inner.log_start_offset, log_end_offset);
        Ok(Log {
            topic: topic.to_owned(),
            partition,
            data_dir: data_dir.clone(),
            inner: Mutex::new(inner),
            flushing: Mutex::new(()),
            log_end_offset: AtomicI64::new(log_end_offset),
            high_watermark: AtomicI64::new(high_watermark),
        })
    }
}

/// One opening of one directory.
struct Loader<'a> {
    disk: &'a dyn Disk,
    topic: &'a str,
    partition: i32,
    config: &'a LogConfig,
    start: LogStart,
    now_ms: i64,
    dir: Arc<Path>,
}

/// What the listing of the directory has shown.
#[derive(Default)]
struct Found {
    segments: Vec<Segment>,
    /// Base offsets of segments with both indexes in plausible sizes.
    offset_indexes: BTreeSet<i64>,
    time_indexes: BTreeSet<i64>,
    snapshots: Vec<i64>,
}

impl Found {
    fn has_indexes(&self, base_offset: i64) -> bool {
        self.offset_indexes.contains(&base_offset) && self.time_indexes.contains(&base_offset)
    }
}

impl Loader<'_> {
    fn load(&self, tail: Arc<TailBudget>) -> Result<Inner, StorageError> {
        let mut found = self.list()?;
        let created = found.segments.is_empty();
        if created {
            let base_offset = self.start.log_start_offset;
            found.segments.push(self.create_segment(base_offset)?);
            found.offset_indexes.insert(base_offset);
            found.time_indexes.insert(base_offset);
        }
        let path = self.dir.join(LEADER_EPOCHS);
        let stored = checkpoint::read(self.disk, &path)?.and_then(|bytes| checkpoint::decode_epochs(&bytes));
        let mut epochs = match &stored {
            Some(epochs) => epochs.clone(),
            None => self.epochs_from_batches(&mut found.segments)?,
        };
        let (mut log_end_offset, mut changed) = self.recover_segments(&mut found, stored.as_ref())?;
        if log_end_offset < self.start.log_start_offset {
            // What the log had is deleted or lost; its offsets must not be given out again.
            (log_end_offset, changed) = (self.start.log_start_offset, true);
            self.drop_segments(&mut found, 0)?;
            found.segments.push(self.create_segment(log_end_offset)?);
        }
        let first = found.segments.first().map_or(0, Segment::base_offset);
        let log_start_offset = self.start.log_start_offset.max(first).min(log_end_offset);
        epochs.truncate_from_end(log_end_offset);
        epochs.truncate_from_start(log_start_offset);
        if stored.unwrap_or_default() != epochs {
            write_epochs(self.disk, &self.dir, &epochs)?;
        }
        if let Some(active) = found.segments.last_mut() {
            active.find_first_timestamp(self.disk)?;
        }
        let recovery_point = if self.start.clean {
            log_end_offset
        } else {
            self.start.recovery_point
        };
        let mut inner = Inner {
            config: Arc::new(self.config.clone()),
            dir: self.dir.clone(),
            topic_id: Uuid::ZERO,
            segments: found.segments,
            log_start_offset,
            log_end_offset,
            recovery_point: recovery_point.min(log_end_offset),
            epochs: Arc::new(epochs),
            producers: ProducerStates::default(),
            snapshots: found.snapshots,
            tail: Tail::new(tail),
            generation: 0,
            departures: 0,
            clean_to: self.start.clean_to,
            uncleanable: false,
            names_unsynced: changed,
            created_unsynced: created,
            changed: changed || !self.start.clean,
            unflushed_since_ms: None,
            doomed: Vec::new(),
            closed: false,
        };
        reload_producers(self.disk, &mut inner, log_end_offset)?;
        Ok(inner)
    }

    /// An empty segment in this directory.
    fn create_segment(&self, base_offset: i64) -> Result<Segment, StorageError> {
        Segment::create(self.disk, &self.dir, base_offset, self.config, self.now_ms)
    }

    /// Lists the directory, removes what an earlier run left to be removed, and sorts the rest.
    fn list(&self) -> Result<Found, StorageError> {
        self.disk.create_dir_all(&self.dir).attempt("create", &self.dir)?;
        swap::recover(self.disk, &self.dir)?;
        let mut entries = self.disk.list(&self.dir).attempt("list", &self.dir)?;
        entries.sort_by(|left, right| left.name.cmp(&right.name));
        let mut found = Found::default();
        let mut logs = BTreeSet::new();
        for entry in entries.iter().filter(|entry| !entry.is_dir) {
            let path = self.dir.join(&entry.name);
            if [DELETED, ".tmp"].iter().any(|suffix| entry.name.ends_with(suffix)) {
                remove_if_exists(self.disk, &path).attempt("remove", &path)?;
                continue;
            }
            let Some((offset, suffix)) = parse_name(&entry.name) else {
                continue;
            };
            match suffix {
                LOG => {
                    let size = u32::try_from(entry.len).unwrap_or(u32::MAX);
                    found
                        .segments
                        .push(Segment::found(&self.dir, offset, size, entry.modified_ms));
                    logs.insert(offset);
                }
                INDEX if entry.len % OffsetEntry::SIZE as u64 == 0 => {
                    found.offset_indexes.insert(offset);
                }
                TIME_INDEX if entry.len % TimeEntry::SIZE as u64 == 0 => {
                    found.time_indexes.insert(offset);
                }
                SNAPSHOT => found.snapshots.push(offset),
                _ => {}
            }
        }
        for entry in &entries {
            let orphan = parse_name(&entry.name)
                .is_some_and(|(offset, suffix)| [INDEX, TIME_INDEX].contains(&suffix) && !logs.contains(&offset));
            if orphan {
                let path = self.dir.join(&entry.name);
                remove_if_exists(self.disk, &path).attempt("remove", &path)?;
            }
        }
        Ok(found)
    }

    /// Checks, rebuilds and cuts what needs it. Returns the log end offset, and whether anything was written.
    fn recover_segments(&self, found: &mut Found, epochs: Option<&LeaderEpochs>) -> Result<(i64, bool), StorageError> {
        let bases: Vec<i64> = found.segments.iter().map(Segment::base_offset).collect();
        let (mut log_end_offset, mut changed) = (self.start.log_start_offset, false);
        for (number, base_offset) in bases.iter().copied().enumerate() {
            let following = bases.get(number + 1).copied();
            let has_indexes = found.has_indexes(base_offset);
            let Some(segment) = found.segments.get_mut(number) else {
                break;
            };
            let end = following.unwrap_or(i64::MAX);
            let unflushed = !self.start.clean && end > self.start.recovery_point;
            if following.is_some() && has_indexes && !unflushed {
                continue;
            }
            if self.start.clean
                && has_indexes
                && let Some(end_offset) = self.trusted_end(segment)?
            {
                log_end_offset = end_offset;
                continue;
            }
            let (cut, end_offset) = self.recover_segment(segment, end, epochs)?;
            (log_end_offset, changed) = (end_offset, true);
            // A power loss may also take the end of a segment away between two batches, and leave the next one.
            // Compaction may have taken away the last batches of what it has cleaned.
            let lost = unflushed
                && following.is_some_and(|following| end_offset < following && following > self.start.clean_to);
            if (cut || lost) && following.is_some() {
                self.drop_segments(found, number + 1)?;
                break;
            }
        }
        Ok((log_end_offset.max(bases.first().copied().unwrap_or(0)), changed))
    }

    /// The end of an active segment after a clean stop: walks from the last index entry. `None` if that does not end
    /// exactly at the end of the file.
    fn trusted_end(&self, segment: &mut Segment) -> Result<Option<i64>, StorageError> {
        if !segment.indexes_are_sound(self.disk)? {
            return Ok(None);
        }
        let path = segment.path(LOG);
        let base_offset = segment.base_offset();
        let floor = segment.index_floor_below(self.disk, i64::MAX)?;
        let mut window = segment.window(self.disk, HEADER_WINDOW)?;
        let mut position = floor.map_or(0, |entry| u64::from(entry.position));
        let mut expected = base_offset;
        if let Some(entry) = floor {
            let header = window.header(position).attempt("read", &path)?;
            let last_offset = base_offset + i64::from(entry.offset);
            match header.filter(|header| header.last_offset == last_offset) {
                Some(header) => expected = header.base_offset,
                None => return Ok(None),
            }
        }
        while position < window.end() {
            // The checksum of what lies after the last entry costs little, and a torn tail is found at once.
            let whole = window.batch(position).attempt("read", &path)?.is_some();
            let header = window.header(position).attempt("read", &path)?;
            let Some(header) = header.filter(|header| whole && header.base_offset >= expected) else {
                return Ok(None);
            };
            position += u64::from(header.size);
            expected = header.next_offset();
        }
        Ok(Some(expected))
    }

    /// Goes over the whole segment, verifies checksums from the recovery point on, and cuts what is torn.
    ///
    /// The indexes are always built anew here: those of the active segment are not fsynced until it is complete.
    fn recover_segment(
        &self,
        segment: &mut Segment,
        end_offset: i64,
        epochs: Option<&LeaderEpochs>,
    ) -> Result<(bool, i64), StorageError> {
        let recovery_point = self.start.recovery_point;
        segment.clear_indexes(self.disk)?;
        let rules = Rules {
            trusted_below: recovery_point,
            gaps: self.config.compact || segment.base_offset() < self.start.clean_to,
            epochs,
            end_offset,
        };
        let (position, next_offset) = index_batches(self.disk, segment, self.config, &rules)?;
        let cut_bytes = u64::from(segment.size()).saturating_sub(position);
        // The end of an older segment was fsynced: damage there is no reason to lose what follows.
        let cut = cut_bytes > 0 && (end_offset == i64::MAX || end_offset > recovery_point);
        if cut {
            let position = u32::try_from(position).unwrap_or(u32::MAX);
            segment.cut(self.disk, position, next_offset, self.now_ms)?;
            let (topic, partition) = (self.topic, self.partition);
            tracing::warn!("{topic}-{partition}: truncated {cut_bytes} bytes at offset {next_offset}");
        }
        segment.seal(self.disk)?;
        Ok((cut, next_offset))
    }

    /// Drops segments that follow a cut: their batches continue nothing.
    fn drop_segments(&self, found: &mut Found, from: usize) -> Result<(), StorageError> {
        for segment in found.segments.split_off(from) {
            let path = log_path(&self.dir, segment.base_offset());
            tracing::warn!(path = %path.display(), bytes = segment.size(), "dropped a segment after the cut");
            for path in segment.mark_deleted(self.disk)? {
                remove_if_exists(self.disk, &path).attempt("remove", &path)?;
            }
        }
        Ok(())
    }

    /// Builds the leader epochs from the batches, where the checkpoint is missing or garbled.
    fn epochs_from_batches(&self, segments: &mut [Segment]) -> Result<LeaderEpochs, StorageError> {
        let mut epochs = LeaderEpochs::default();
        for segment in segments.iter_mut().filter(|segment| segment.size() > 0) {
            let path = segment.path(LOG);
            let mut window = segment.window(self.disk, BATCH_WINDOW)?;
            let mut position = 0;
            while position < window.end() {
                let whole = window.batch(position).attempt("read", &path)?.is_some();
                let Some(header) = window.header(position).attempt("read", &path)?.filter(|_| whole) else {
                    match find_batch(&mut window, position + 1, 0..i64::MAX).attempt("read", &path)? {
                        Some(found) => position = found,
                        None => break,
                    }
                    continue;
                };
                if epochs.latest_epoch().is_none_or(|latest| header.leader_epoch > latest) {
                    epochs.assign(header.leader_epoch, header.base_offset);
                }
                position += u64::from(header.size);
            }
        }
        Ok(epochs)
    }

    fn topic_id(&self, given: Uuid) -> Result<Uuid, StorageError> {
        let path = self.dir.join(PARTITION_METADATA);
        let found = checkpoint::read(self.disk, &path)?.and_then(|bytes| checkpoint::decode_topic_id(&bytes));
        match found {
            Some(id) => Ok(id),
            None if given == Uuid::ZERO => Ok(given),
            None => {
                write_topic_id(self.disk, &self.dir, given)?;
                Ok(given)
            }
        }
    }
}

/// Writes `partition.metadata`. The first flush of the log makes it durable.
pub(super) fn write_topic_id(disk: &dyn Disk, dir: &Path, topic_id: Uuid) -> Result<(), StorageError> {
    let path = dir.join(PARTITION_METADATA);
    let write = || {
        let file = disk.open(&path, true)?;
        file.set_len(0)?;
        file.write_at(checkpoint::encode_topic_id(topic_id).as_bytes(), 0)
    };
    write().attempt("write", &path)
}

/// Splits `00000000000000000042.log` into offset and suffix.
pub(super) fn parse_name(name: &str) -> Option<(i64, &str)> {
    let (digits, suffix) = name.split_at_checked(20)?;
    if !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    digits.parse().ok().map(|offset| (offset, suffix))
}
