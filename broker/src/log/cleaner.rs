//! Compaction: a log with `cleanup.policy=compact` keeps the last record of each key (KIP-58, KIP-534).
//!
//! In: a log, the wall clock, how much memory and disk it may use. Out: fewer and smaller segments with the same
//! offsets. It never touches the active segment, nor what lies at or above the high watermark or the first open
//! transaction, and never reorders.
//!
//! One pass: the keys of the dirty part go into a table of fixed size ([`key_map`]); then all segments from the log's
//! start to where the table ends are copied, without what was superseded ([`retained`]), into new ones that take their
//! place ([`swap`]). What did not fit into the table is the next pass's. Appends and reads go on meanwhile; the log's
//! lock is held for the renaming only.
//!
//! What supersedes a record is fsynced before that record goes: a power loss can take neither both nor the newer alone.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use ottla_protocol::records::{RecordBatch, RecordError};

use super::contents::{self, Contents};
use super::disk::DiskFile;
use super::error::{Attempt, StorageError};
use super::scan::{BATCH_WINDOW, BatchHeader, Window};
use super::segment::{LOG, Segment, TXN_INDEX};
use super::{Inner, Log, LogConfig};
use key_map::KeyMap;
use retained::{Fate, Rules};
use transactions::Transactions;

mod key_map;
mod retained;
pub(super) mod swap;
mod transactions;

/// What compaction may use. The default is Kafka's.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CleanerConfig {
    /// `log.cleaner.dedupe.buffer.size`: bytes of the table of keys. Default 128 MiB.
    pub dedupe_buffer_bytes: usize,
    /// `log.cleaner.io.buffer.load.factor`: how full the table may be. Default 0.9.
    pub load_factor: f64,
    /// `log.cleaner.io.buffer.size`: bytes that are written at once. Default 512 KiB.
    pub io_buffer_bytes: usize,
    /// `log.cleaner.io.max.bytes.per.second`: bytes read and written together. Default unbounded.
    pub io_bytes_per_second: f64,
}

impl Default for CleanerConfig {
    fn default() -> CleanerConfig {
        CleanerConfig {
            dedupe_buffer_bytes: 128 << 20,
            load_factor: 0.9,
            io_buffer_bytes: 512 << 10,
            io_bytes_per_second: f64::MAX,
        }
    }
}

/// What could be compacted in a log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Cleanable {
    /// Everything below is clean, up to the log's start.
    pub first_dirty_offset: i64,
    /// Nothing at or above may be touched.
    pub first_uncleanable_offset: i64,
    /// The dirty part of the bytes, from 0 to 1.
    pub dirty_ratio: f64,
    /// `min.cleanable.dirty.ratio` or `max.compaction.lag.ms` asks for a pass.
    pub due: bool,
}

/// What one pass did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Cleaned {
    /// Everything below is clean now.
    pub clean_to: i64,
    /// Bytes of the segments before.
    pub bytes_before: u64,
    /// Bytes of those in their place.
    pub bytes_after: u64,
}

/// Why a pass ended early. The log is whole in any case: each group of segments was replaced or was not.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CleanError {
    /// The broker stops, or the log was deleted.
    #[error("the log is closed")]
    Closed,
    /// Segments were deleted or cut off meanwhile. The next pass finds another log.
    #[error("the log has changed meanwhile")]
    Overtaken,
    /// A batch cannot be read. The log is left alone until the next start.
    #[error("cannot read the batch at position {position} of {}{}", path.display(), because(.cause))]
    Unreadable {
        /// The segment's file.
        path: PathBuf,
        /// Where in it.
        position: u64,
        /// What is wrong with the records; `None` if the batch itself is damaged.
        cause: Option<RecordError>,
    },
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

fn because(cause: &Option<RecordError>) -> String {
    cause.map(|cause| format!(": {cause}")).unwrap_or_default()
}

/// An inactive segment, as it was when the pass began.
#[derive(Debug, Clone)]
struct Source {
    base_offset: i64,
    end_offset: i64,
    size: u32,
    touched_ms: i64,
    file: Arc<dyn DiskFile>,
    path: PathBuf,
    txn_index: PathBuf,
}

/// One pass over one log.
struct Pass<'a> {
    log: &'a Log,
    cleaner: &'a CleanerConfig,
    config: Arc<LogConfig>,
    now_ms: i64,
    stop: &'a AtomicBool,
    began: Instant,
    moved_bytes: f64,
}

impl Log {
    /// Up to which offset the log is compacted, for the checkpoint; 0 where it never was.
    pub fn clean_to(&self) -> i64 {
        self.lock().clean_to
    }

    /// What could be compacted now; `None` if the topic is not compacted or nothing is dirty.
    pub fn cleanable(&self, now_ms: i64) -> Result<Option<Cleanable>, StorageError> {
        let mut inner = self.open_inner()?;
        let result = self.cleanable_inner(&mut inner, now_ms);
        self.data_dir.note(result)
    }

    fn cleanable_inner(&self, inner: &mut Inner, now_ms: i64) -> Result<Option<Cleanable>, StorageError> {
        let (config, disk) = (inner.config.clone(), self.disk());
        let Some(active) = inner.segments.last().map(Segment::base_offset) else {
            return Ok(None);
        };
        if !config.compact || inner.uncleanable {
            return Ok(None);
        }
        // A checkpoint from beyond is of another log, or this one was cut since.
        let known = Some(inner.clean_to).filter(|offset| *offset <= active);
        let first_dirty_offset = known.unwrap_or(0).max(inner.log_start_offset);
        let open = inner.producers.first_open_transaction_offset().unwrap_or(i64::MAX);
        let mut first_uncleanable_offset = active.min(open).min(self.high_watermark());
        if config.min_compaction_lag_ms > 0 {
            for segment in inner.segments.iter_mut() {
                if segment.base_offset() >= first_uncleanable_offset {
                    break;
                }
                if segment.newest_ms(disk)? > now_ms.saturating_sub(config.min_compaction_lag_ms) {
                    first_uncleanable_offset = segment.base_offset();
                }
            }
        }
        let (mut clean, mut dirty, mut earliest) = (0_u64, 0_u64, i64::MAX);
        for (segment, end_offset) in inactive(&mut inner.segments) {
            if end_offset <= first_dirty_offset {
                clean += u64::from(segment.size());
            } else if segment.base_offset() < first_uncleanable_offset {
                dirty += u64::from(segment.size());
                earliest = segment
                    .first_timestamp(disk)?
                    .map_or(earliest, |first| first.min(earliest));
            }
        }
        if dirty == 0 || first_uncleanable_offset <= first_dirty_offset {
            return Ok(None);
        }
        let dirty_ratio = dirty as f64 / (clean + dirty) as f64;
        let overdue = earliest < now_ms.saturating_sub(config.max_compaction_lag_ms);
        Ok(Some(Cleanable {
            first_dirty_offset,
            first_uncleanable_offset,
            dirty_ratio,
            due: overdue || dirty_ratio > config.min_cleanable_dirty_ratio,
        }))
    }

    /// Compacts what [`cleanable`](Log::cleanable) has found, as far as the table of keys reaches. Blocks, for as long
    /// as it takes to read and write the log; `stop` ends it early. One pass at a time.
    pub fn clean(
        &self,
        cleanable: &Cleanable,
        cleaner: &CleanerConfig,
        now_ms: i64,
        stop: &AtomicBool,
    ) -> Result<Cleaned, CleanError> {
        let mut pass = Pass {
            log: self,
            cleaner,
            config: self.config(),
            now_ms,
            stop,
            began: Instant::now(),
            moved_bytes: 0.0,
        };
        let done = pass.run(cleanable);
        if let Err(CleanError::Unreadable { .. }) = &done {
            self.lock().uncleanable = true;
        }
        done
    }

    /// The segments below `upto` that are not active, and how often segments have gone away so far.
    fn sources(&self, upto: i64) -> Result<(Vec<Source>, u64), CleanError> {
        let mut inner = self.open_or_closed()?;
        let mut sources = Vec::new();
        for (segment, end_offset) in inactive(&mut inner.segments) {
            if segment.base_offset() >= upto {
                break;
            }
            sources.push(Source {
                base_offset: segment.base_offset(),
                end_offset,
                size: segment.size(),
                touched_ms: segment.touched_ms(),
                file: self.data_dir.note(segment.file(self.disk()))?,
                path: segment.path(LOG),
                txn_index: segment.path(TXN_INDEX),
            });
        }
        Ok((sources, inner.departures))
    }

    /// The lock, unless the log was closed: then nothing is wrong with the disk.
    fn open_or_closed(&self) -> Result<std::sync::MutexGuard<'_, Inner>, CleanError> {
        self.data_dir.check()?;
        let inner = self.lock();
        if inner.closed {
            Err(CleanError::Closed)
        } else {
            Ok(inner)
        }
    }
}

/// The segments that are not active, and where each ends.
fn inactive(segments: &mut [Segment]) -> impl Iterator<Item = (&mut Segment, i64)> {
    let ends: Vec<i64> = segments.iter().skip(1).map(Segment::base_offset).collect();
    segments.iter_mut().zip(ends)
}

impl Pass<'_> {
    fn run(&mut self, cleanable: &Cleanable) -> Result<Cleaned, CleanError> {
        let upto = cleanable.first_uncleanable_offset;
        self.log.flush_to(upto)?;
        let (sources, mut departures) = self.log.sources(upto)?;
        let keys = self.map_keys(&sources, cleanable)?;
        let clean_to = keys.latest_offset() + 1;
        let mut done = Cleaned {
            clean_to,
            ..Cleaned::default()
        };
        let producers = self.log.lock().producers.last_records();
        let rules = Rules {
            keys: &keys,
            producers: &producers,
            now_ms: self.now_ms,
            delete_retention_ms: self.config.delete_retention_ms,
            decompressed_bytes_max: self.config.decompressed_bytes_max(),
        };
        let aborted = self.txn_indexes(&sources)?;
        let mut transactions = Transactions::new(&aborted);
        let reached = sources.partition_point(|source| source.base_offset < clean_to);
        for group in groups(sources.get(..reached).unwrap_or_default(), &self.config) {
            let cleaned = self.log.begin_cleaned(group, departures)?;
            let written = self.copy(group, cleaned, &rules, &mut transactions);
            let (cleaned, bytes) = match written {
                Ok(written) => written,
                Err(error) => {
                    self.log.remove_cleaned(group)?;
                    return Err(error);
                }
            };
            departures = self.log.swap_in(group, cleaned, departures, self.now_ms)?;
            done.bytes_before += group.iter().map(|source| u64::from(source.size)).sum::<u64>();
            done.bytes_after += u64::from(bytes);
        }
        self.log.cleaned_to(clean_to, departures)?;
        Ok(done)
    }

    /// Enters the keys from the first dirty offset on, until the table is full.
    fn map_keys(&mut self, sources: &[Source], cleanable: &Cleanable) -> Result<KeyMap, CleanError> {
        let (from, upto) = (cleanable.first_dirty_offset, cleanable.first_uncleanable_offset);
        let mut keys = KeyMap::new(upto - from, self.cleaner.dedupe_buffer_bytes, self.cleaner.load_factor);
        let mut transactions = Transactions::new(&self.txn_indexes(sources)?);
        let limit = self.config.decompressed_bytes_max();
        for source in sources.iter().filter(|source| source.end_offset > from) {
            let mut full = false;
            self.walk(source, &mut |batch, _| {
                if batch.base_offset() >= upto {
                    return Ok(false);
                }
                let discardable = transactions.may_discard(batch);
                if batch.is_control() || discardable || batch.last_offset() < from || batch.record_count() == 0 {
                    keys.pass(batch.last_offset().min(upto - 1));
                    return Ok(true);
                }
                full = match contents::unfold(batch, limit, |contents| {
                    put_keys(&mut keys, batch, contents, from, upto)
                }) {
                    Ok(entered) => !entered?,
                    // It stays as it is, and supersedes nothing.
                    Err(RecordError::DecompressedTooLarge { .. } | RecordError::CompressionUnavailable { .. }) => {
                        keys.pass(batch.last_offset());
                        false
                    }
                    Err(error) => return Err(error),
                };
                Ok(!full)
            })?;
            if full {
                return Ok(keys);
            }
        }
        keys.pass(upto - 1);
        Ok(keys)
    }

    /// The entries of all `.txnindex` files. Few segments have one. All are needed at once: an entry stands in the
    /// index of the segment in which the transaction ended, not of those in which it wrote.
    fn txn_indexes(&self, sources: &[Source]) -> Result<Vec<u8>, CleanError> {
        let mut entries = Vec::new();
        for source in sources {
            let read = super::checkpoint::read(self.log.disk(), &source.txn_index);
            entries.extend(self.log.data_dir.note(read)?.unwrap_or_default());
        }
        Ok(entries)
    }

    /// Copies what stays of `group`. Gives the segment, complete and fsynced, and its size.
    fn copy(
        &mut self,
        group: &[Source],
        mut cleaned: Segment,
        rules: &Rules<'_>,
        transactions: &mut Transactions,
    ) -> Result<(Segment, u32), CleanError> {
        let (disk, log) = (self.log.disk(), self.log);
        let (config, buffer_bytes) = (self.config.clone(), self.cleaner.io_buffer_bytes);
        let mut pending = Vec::new();
        for (number, source) in group.iter().enumerate() {
            let in_last = number + 1 == group.len();
            let mut failure = None;
            let mut written = 0;
            self.walk(source, &mut |batch, is_last| {
                let fate = rules.judge(batch, transactions, in_last && is_last)?;
                let bytes = match &fate {
                    Fate::Goes => return Ok(true),
                    Fate::Stays => batch.raw(),
                    Fate::Replaced(bytes) => bytes,
                };
                let position = cleaned
                    .size()
                    .saturating_add(u32::try_from(pending.len()).unwrap_or(u32::MAX));
                let noted = match BatchHeader::parse(bytes) {
                    Some(header) => cleaned.note(disk, &config, &header, position),
                    None => Ok(()),
                };
                pending.extend_from_slice(bytes);
                written += bytes.len();
                let full = pending.len() >= buffer_bytes;
                let appended = noted.and_then(|()| {
                    if full {
                        cleaned.append_noted(disk, &pending)
                    } else {
                        Ok(())
                    }
                });
                if full {
                    pending.clear();
                }
                failure = appended.err();
                Ok(failure.is_none())
            })?;
            if let Some(error) = failure {
                return Err(log.data_dir.fail(error).into());
            }
            self.moved(written)?;
        }
        let index = transactions.take_index();
        let complete = log.complete_cleaned(&mut cleaned, &pending, &index);
        log.data_dir.note(complete)?;
        let size = cleaned.size();
        Ok((cleaned, size))
    }

    /// Calls `visit` with each batch of a segment, and whether it is the last, for as long as it answers `true`.
    fn walk(
        &mut self,
        source: &Source,
        visit: &mut dyn FnMut(&RecordBatch<'_>, bool) -> Result<bool, RecordError>,
    ) -> Result<(), CleanError> {
        let end = u64::from(source.size);
        let mut window = Window::new(source.file.clone(), end, BATCH_WINDOW);
        let mut position = 0;
        while position < end {
            let unreadable = |cause| CleanError::Unreadable {
                path: source.path.clone(),
                position,
                cause,
            };
            let read = window.batch(position).attempt("read", &source.path);
            let batch = self.log.data_dir.note(read)?.ok_or_else(|| unreadable(None))?;
            let size = batch.size();
            let goes_on = visit(&batch, position + size as u64 == end).map_err(|cause| unreadable(Some(cause)))?;
            self.moved(size)?;
            if !goes_on {
                break;
            }
            position += size as u64;
        }
        Ok(())
    }

    /// Counts bytes that were read or written, and waits if there were too many of late.
    fn moved(&mut self, bytes: usize) -> Result<(), CleanError> {
        const NAP: Duration = Duration::from_millis(50);
        self.moved_bytes += bytes as f64;
        loop {
            if self.stop.load(Ordering::Acquire) {
                return Err(CleanError::Closed);
            }
            let due = self.moved_bytes / self.cleaner.io_bytes_per_second.max(1.0);
            let ahead = due - self.began.elapsed().as_secs_f64();
            // Less than that is not worth a nap.
            if ahead < NAP.as_secs_f64() {
                return Ok(());
            }
            std::thread::sleep(NAP);
        }
    }
}

/// Enters the keys of a batch. False when the table is full.
fn put_keys(
    keys: &mut KeyMap,
    batch: &RecordBatch<'_>,
    contents: &Contents<'_>,
    from: i64,
    upto: i64,
) -> Result<bool, RecordError> {
    let plain = contents.whole()?;
    for record in batch.iter_over(&plain) {
        let record = record?;
        if record.offset >= upto {
            return Ok(true);
        }
        match record.key() {
            Some(key) if record.offset >= from => {
                if !keys.put(key, record.offset) {
                    return Ok(false);
                }
            }
            _ => keys.pass(record.offset),
        }
    }
    keys.pass(batch.last_offset().min(upto - 1));
    Ok(true)
}

/// Neighbours that fit into one segment together, by the sizes that they have now.
fn groups<'a>(sources: &'a [Source], config: &LogConfig) -> Vec<&'a [Source]> {
    let entry_bytes = 12 * 1000 / u64::from(config.index_interval_bytes).max(100);
    let fits = |group: &[Source]| {
        let bytes: u64 = group.iter().map(|source| u64::from(source.size)).sum();
        let span =
            group.last().map_or(0, |last| last.end_offset - 1) - group.first().map_or(0, |first| first.base_offset);
        bytes <= u64::from(config.segment_bytes)
            && bytes / 1000 * entry_bytes <= u64::from(config.segment_index_bytes)
            && span <= i64::from(i32::MAX)
    };
    let mut groups = Vec::new();
    let (mut first, mut end) = (0, 1);
    while end <= sources.len() {
        let longer = sources.get(first..end + 1).is_some_and(fits);
        if !longer {
            groups.extend(sources.get(first..end));
            first = end;
        }
        end += 1;
    }
    groups
}
