//! One segment: the records from one base offset on, as `.log`, `.index` and `.timeindex`.
//!
//! In: whole batches whose offsets are set. Out: views for readers, and whether it is time to roll. It does not judge
//! batches and takes no lock: the log that owns it does both. Files of a segment are opened when first needed, so a
//! start costs a directory listing, not three descriptors for each segment.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::config::LogConfig;
use super::disk::{Disk, DiskFile, remove_if_exists};
use super::error::{Attempt, StorageError};
use super::index::{Index, IndexEntry, IndexView, OffsetEntry, TimeEntry};
use super::scan::{BatchHeader, HEADER_WINDOW, Window};

/// The suffix of a `.log` file.
pub(super) const LOG: &str = ".log";
/// The suffix of an offset index.
pub(super) const INDEX: &str = ".index";
/// The suffix of a time index.
pub(super) const TIME_INDEX: &str = ".timeindex";
/// The suffix of an index of aborted transactions, which only other brokers write so far.
pub(super) const TXN_INDEX: &str = ".txnindex";
/// Appended to the names of files that compaction is still writing.
pub(super) const CLEANED: &str = ".cleaned";
/// Appended to the names of files that compaction has written and fsynced, and that take the place of others.
pub(super) const SWAP: &str = ".swap";
/// Appended to the names of files that wait for their removal.
pub(super) const DELETED: &str = ".deleted";

/// The name of a segment's file: the base offset in twenty digits and the suffix.
pub(super) fn file_name(base_offset: i64, suffix: &str) -> String {
    format!("{base_offset:020}{suffix}")
}

/// The largest timestamp of a segment and the last offset of the first batch that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MaxTimestamp {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Last offset of the batch.
    pub offset: i64,
}

/// A segment as its log holds it.
#[derive(Debug)]
pub(super) struct Segment {
    base_offset: i64,
    dir: Arc<Path>,
    /// What the names of the files end in; empty but while compaction makes the segment.
    extension: &'static str,
    size: u32,
    /// When the file was created or, for one found at the start, last changed. Milliseconds since 1970.
    touched_ms: i64,
    /// The largest timestamp of the first batch, from which `segment.ms` counts.
    first_timestamp: Option<i64>,
    bytes_since_index_entry: u32,
    jitter_ms: i64,
    /// The indexes were written by this process, or compared with the records.
    checked: bool,
    opened: Option<Opened>,
}

#[derive(Debug)]
struct Opened {
    log: Arc<dyn DiskFile>,
    offsets: Index<OffsetEntry>,
    times: Index<TimeEntry>,
    max_timestamp: Option<MaxTimestamp>,
}

/// What a reader takes out of the log's lock: enough to read the segment as it was at that moment.
#[derive(Debug, Clone)]
pub(super) struct SegmentView {
    /// Base offset of the segment.
    pub base_offset: i64,
    /// First offset after the segment.
    pub end_offset: i64,
    /// The `.log` file.
    pub file: Arc<dyn DiskFile>,
    /// Its length.
    pub size: u64,
    /// Its path, for messages.
    pub path: PathBuf,
    /// The index entry to begin with, if the entries in memory decided it.
    floor: Option<OffsetEntry>,
    index: IndexView,
}

impl SegmentView {
    /// The last index entry whose batch ends at `offset` or before it.
    pub fn floor(&self, offset: i64) -> Result<Option<OffsetEntry>, StorageError> {
        if self.floor.is_some() {
            return Ok(self.floor);
        }
        let relative = offset - self.base_offset;
        self.index
            .floor(|entry: &OffsetEntry| entry.key() <= relative)
            .attempt("read the index of", &self.path)
    }
}

impl Segment {
    /// Creates the files of an empty segment. The names are durable once the directory is fsynced.
    pub fn create(
        disk: &dyn Disk,
        dir: &Arc<Path>,
        base_offset: i64,
        config: &LogConfig,
        now_ms: i64,
    ) -> Result<Segment, StorageError> {
        for suffix in [LOG, INDEX, TIME_INDEX, TXN_INDEX] {
            let path = dir.join(file_name(base_offset, suffix));
            remove_if_exists(disk, &path).attempt("remove", &path)?;
        }
        let mut segment = Segment::found(dir, base_offset, 0, now_ms);
        segment.jitter_ms = jitter(base_offset, now_ms, config.segment_jitter_ms);
        segment.checked = true;
        segment.opened(disk)?;
        Ok(segment)
    }

    /// A segment whose `.log` file exists with `size` bytes.
    pub fn found(dir: &Arc<Path>, base_offset: i64, size: u32, touched_ms: i64) -> Segment {
        Segment {
            base_offset,
            dir: dir.clone(),
            extension: "",
            size,
            touched_ms,
            first_timestamp: None,
            bytes_since_index_entry: 0,
            jitter_ms: 0,
            checked: false,
            opened: None,
        }
    }

    /// Offset that names the segment; no record in it is below.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Bytes of the `.log` file.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The path of one of its files.
    pub fn path(&self, suffix: &str) -> PathBuf {
        let mut name = file_name(self.base_offset, suffix);
        name.push_str(self.extension);
        self.dir.join(name)
    }

    /// Creates the files of a segment that compaction fills, beside those that it will replace.
    pub fn create_cleaned(
        disk: &dyn Disk,
        dir: &Arc<Path>,
        base_offset: i64,
        touched_ms: i64,
    ) -> Result<Segment, StorageError> {
        let mut segment = Segment::found(dir, base_offset, 0, touched_ms);
        segment.extension = CLEANED;
        segment.checked = true;
        segment.remove_files(disk)?;
        segment.opened(disk)?;
        Ok(segment)
    }

    /// Removes the files.
    pub fn remove_files(&self, disk: &dyn Disk) -> Result<(), StorageError> {
        for suffix in [LOG, INDEX, TIME_INDEX, TXN_INDEX] {
            let path = self.path(suffix);
            remove_if_exists(disk, &path).attempt("remove", &path)?;
        }
        Ok(())
    }

    /// Gives the files with these suffixes names that end in `extension`. One that does not exist is left out.
    pub fn rename_to(&self, disk: &dyn Disk, suffixes: &[&str], extension: &str) -> Result<(), StorageError> {
        for suffix in suffixes {
            let from = self.path(suffix);
            let to = self.dir.join(file_name(self.base_offset, suffix) + extension);
            match disk.rename(&from, &to) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                other => other.attempt("rename", &from)?,
            }
        }
        Ok(())
    }

    /// From now on the names of the files end in `extension`: they were renamed.
    pub fn renamed(&mut self, extension: &'static str) {
        self.extension = extension;
    }

    /// When the file was created or, for one found at the start, last changed. Milliseconds since 1970.
    pub fn touched_ms(&self) -> i64 {
        self.touched_ms
    }

    /// Writes batches that were [noted](Segment::note) already, one after the other, at the end.
    pub fn append_noted(&mut self, disk: &dyn Disk, bytes: &[u8]) -> Result<(), StorageError> {
        let (position, path) = (self.size, self.path(LOG));
        self.file(disk)?
            .write_at(bytes, u64::from(position))
            .attempt("write", &path)?;
        self.size = position.saturating_add(u32::try_from(bytes.len()).unwrap_or(u32::MAX));
        Ok(())
    }

    /// The timestamp of the first batch, if it has one. Milliseconds since 1970.
    pub fn first_timestamp(&mut self, disk: &dyn Disk) -> Result<Option<i64>, StorageError> {
        if self.first_timestamp.is_none() {
            self.find_first_timestamp(disk)?;
        }
        Ok(self.first_timestamp.filter(|timestamp| *timestamp >= 0))
    }

    fn opened(&mut self, disk: &dyn Disk) -> Result<&mut Opened, StorageError> {
        let opened = match self.opened.take() {
            Some(opened) => opened,
            None => {
                let open = |suffix| {
                    let path = self.path(suffix);
                    disk.open(&path, true).attempt("open", &path)
                };
                let offsets = Index::open(open(INDEX)?).attempt("read", &self.path(INDEX))?;
                let times: Index<TimeEntry> = Index::open(open(TIME_INDEX)?).attempt("read", &self.path(TIME_INDEX))?;
                let max_timestamp = times.last().map(|entry| MaxTimestamp {
                    timestamp: entry.timestamp,
                    offset: self.base_offset + i64::from(entry.offset),
                });
                Opened {
                    log: open(LOG)?,
                    offsets,
                    times,
                    max_timestamp,
                }
            }
        };
        Ok(self.opened.insert(opened))
    }

    /// The `.log` file.
    pub fn file(&mut self, disk: &dyn Disk) -> Result<Arc<dyn DiskFile>, StorageError> {
        Ok(self.opened(disk)?.log.clone())
    }

    /// A walk over the segment's bytes.
    pub fn window(&mut self, disk: &dyn Disk, least: usize) -> Result<Window, StorageError> {
        let end = u64::from(self.size);
        Ok(Window::new(self.file(disk)?, end, least))
    }

    /// What a reader needs to find `offset`. `end_offset` is the first offset after the segment.
    pub fn view(&mut self, disk: &dyn Disk, offset: i64, end_offset: i64) -> Result<SegmentView, StorageError> {
        let (base_offset, size, path) = (self.base_offset, u64::from(self.size), self.path(LOG));
        let opened = self.opened(disk)?;
        Ok(SegmentView {
            base_offset,
            end_offset,
            file: opened.log.clone(),
            size,
            path,
            floor: opened.offsets.floor_in_memory(offset - base_offset),
            index: opened.offsets.view(),
        })
    }

    /// The largest timestamp so far.
    pub fn max_timestamp(&mut self, disk: &dyn Disk) -> Result<Option<MaxTimestamp>, StorageError> {
        Ok(self.opened(disk)?.max_timestamp)
    }

    /// The largest timestamp, or when the file was last touched if no record has a timestamp.
    pub fn newest_ms(&mut self, disk: &dyn Disk) -> Result<i64, StorageError> {
        let max = self
            .max_timestamp(disk)?
            .map(|max| max.timestamp)
            .filter(|timestamp| *timestamp >= 0);
        Ok(max.unwrap_or(self.touched_ms))
    }

    /// The last entry of the time index at or before `timestamp`, as absolute offset.
    pub fn time_floor(&mut self, disk: &dyn Disk, timestamp: i64) -> Result<Option<MaxTimestamp>, StorageError> {
        let (base_offset, path) = (self.base_offset, self.path(TIME_INDEX));
        let floor = self.opened(disk)?.times.floor(timestamp).attempt("read", &path)?;
        Ok(floor.map(|entry| MaxTimestamp {
            timestamp: entry.timestamp,
            offset: base_offset + i64::from(entry.offset),
        }))
    }

    /// Whether a batch that ends at `last_offset` can be told apart from the base offset in 31 bits.
    fn reaches(&self, last_offset: i64) -> bool {
        last_offset - self.base_offset <= i64::from(i32::MAX)
    }

    /// Whether the batch must go to a new segment: the size, the time its records span, or an index says so.
    pub fn should_roll(&self, config: &LogConfig, batch: &BatchHeader, now_ms: i64) -> bool {
        if self.size == 0 {
            return !self.reaches(batch.last_offset);
        }
        let waited_ms = match self.first_timestamp {
            Some(first) if first >= 0 => batch.max_timestamp.saturating_sub(first),
            _ => now_ms.saturating_sub(self.touched_ms),
        };
        let full = |entries: u32, size: usize, spare: u32| {
            entries.saturating_add(spare) >= config.segment_index_bytes / size as u32
        };
        let index_full = self.opened.as_ref().is_some_and(|opened| {
            full(opened.offsets.len(), OffsetEntry::SIZE, 0) || full(opened.times.len(), TimeEntry::SIZE, 1)
        });
        self.size.saturating_add(batch.size) > config.segment_bytes
            || waited_ms > config.roll_ms() - self.jitter_ms
            || index_full
            || !self.reaches(batch.last_offset)
    }

    /// Appends one batch in one write. `bytes` is exactly the batch that `header` describes.
    pub fn append(
        &mut self,
        disk: &dyn Disk,
        config: &LogConfig,
        header: &BatchHeader,
        bytes: &[u8],
    ) -> Result<(), StorageError> {
        let position = self.size;
        let path = || self.path(LOG);
        match &self.opened {
            Some(opened) => opened
                .log
                .write_at(bytes, u64::from(position))
                .attempt("write", &path())?,
            None => {
                self.opened(disk)?;
                return self.append(disk, config, header, bytes);
            }
        }
        self.note(disk, config, header, position)?;
        self.size = position.saturating_add(header.size);
        Ok(())
    }

    /// Enters a batch that stands at `position` into the indexes, if one is due. Batches come in order.
    pub fn note(
        &mut self,
        disk: &dyn Disk,
        config: &LogConfig,
        header: &BatchHeader,
        position: u32,
    ) -> Result<(), StorageError> {
        if position == 0 {
            self.first_timestamp = Some(header.max_timestamp);
        }
        let base_offset = self.base_offset;
        let due = self.bytes_since_index_entry > config.index_interval_bytes;
        let index_path = self.dir.as_ref();
        let opened = match &mut self.opened {
            Some(opened) => opened,
            None => {
                self.opened(disk)?;
                return self.note(disk, config, header, position);
            }
        };
        if header.max_timestamp > opened.max_timestamp.map_or(-1, |max| max.timestamp) {
            opened.max_timestamp = Some(MaxTimestamp {
                timestamp: header.max_timestamp,
                offset: header.last_offset,
            });
        }
        if due {
            let offset = relative(header.last_offset, base_offset);
            opened
                .offsets
                .append(OffsetEntry { offset, position })
                .attempt("write an index in", index_path)?;
            opened
                .enter_max_timestamp(base_offset)
                .attempt("write an index in", index_path)?;
            self.bytes_since_index_entry = 0;
        }
        self.bytes_since_index_entry = self.bytes_since_index_entry.saturating_add(header.size);
        Ok(())
    }

    /// Writes the indexes out, the largest timestamp included: the segment is complete, or the log is closing.
    pub fn seal(&mut self, disk: &dyn Disk) -> Result<(), StorageError> {
        let (base_offset, dir) = (self.base_offset, self.dir.clone());
        let opened = self.opened(disk)?;
        opened
            .enter_max_timestamp(base_offset)
            .attempt("write an index in", &dir)?;
        opened.offsets.seal().attempt("write an index in", &dir)?;
        opened.times.seal().attempt("write an index in", &dir)
    }

    /// The files to fsync: always the records, and the indexes if the segment is complete.
    pub fn files_to_sync(&mut self, disk: &dyn Disk, complete: bool) -> Result<Vec<Arc<dyn DiskFile>>, StorageError> {
        let opened = self.opened(disk)?;
        let mut files = vec![opened.log.clone()];
        if complete {
            files.push(opened.offsets.file().clone());
            files.push(opened.times.file().clone());
        }
        Ok(files)
    }

    /// Cuts the `.log` file at `position`, where a batch with offset `next_offset` would start, and the indexes to fit.
    pub fn cut(&mut self, disk: &dyn Disk, position: u32, next_offset: i64, now_ms: i64) -> Result<(), StorageError> {
        let (base_offset, path) = (self.base_offset, self.path(LOG));
        let opened = self.opened(disk)?;
        opened.log.set_len(u64::from(position)).attempt("truncate", &path)?;
        let relative_end = next_offset - base_offset;
        opened
            .offsets
            .truncate_while(|entry| i64::from(entry.offset) < relative_end)
            .attempt("truncate", &path)?;
        opened
            .times
            .truncate_while(|entry| i64::from(entry.offset) < relative_end)
            .attempt("truncate", &path)?;
        self.size = position;
        self.bytes_since_index_entry = 0;
        if position == 0 {
            self.first_timestamp = None;
            self.touched_ms = now_ms;
        }
        self.find_max_timestamp(disk)
    }

    /// Forgets both indexes, before they are built anew.
    pub fn clear_indexes(&mut self, disk: &dyn Disk) -> Result<(), StorageError> {
        let path = self.path(INDEX);
        let opened = self.opened(disk)?;
        opened.offsets.truncate_while(|_| false).attempt("truncate", &path)?;
        opened.times.truncate_while(|_| false).attempt("truncate", &path)?;
        opened.max_timestamp = None;
        self.bytes_since_index_entry = 0;
        self.checked = true;
        Ok(())
    }

    /// Whether both indexes are in order and end with what the records say. Looks only once: then they are known to
    /// be good, or the caller builds them again.
    pub fn indexes_are_sound(&mut self, disk: &dyn Disk) -> Result<bool, StorageError> {
        if !self.checked {
            self.checked = self.indexes_are_consistent(disk)? && self.indexes_end_well(disk)?;
        }
        Ok(self.checked)
    }

    fn indexes_are_consistent(&mut self, disk: &dyn Disk) -> Result<bool, StorageError> {
        let (path, size) = (self.path(INDEX), self.size);
        let opened = self.opened(disk)?;
        let offsets = opened
            .offsets
            .is_consistent(|entry| entry.position < size)
            .attempt("read", &path)?;
        Ok(offsets && opened.times.is_consistent(|_| true).attempt("read", &path)?)
    }

    /// Compares the last entries with the batches they stand for.
    fn indexes_end_well(&mut self, disk: &dyn Disk) -> Result<bool, StorageError> {
        let (base_offset, path) = (self.base_offset, self.path(LOG));
        let mut window = self.window(disk, HEADER_WINDOW)?;
        let opened = self.opened(disk)?;
        if let Some(last) = opened.offsets.last() {
            let header = window.header(u64::from(last.position)).attempt("read", &path)?;
            if header.is_none_or(|header| header.last_offset != base_offset + i64::from(last.offset)) {
                return Ok(false);
            }
        }
        let Some(last) = opened.times.last() else {
            // Right only if no record has a timestamp.
            let first = window.header(0).attempt("read", &path)?;
            return Ok(first.is_none_or(|header| header.max_timestamp < 0));
        };
        let floor = opened.offsets.floor(i64::from(last.offset)).attempt("read", &path)?;
        let (mut position, wanted) = (
            floor.map_or(0, |entry| entry.position.into()),
            base_offset + i64::from(last.offset),
        );
        while let Some(header) = window.header(position).attempt("read", &path)? {
            if header.last_offset >= wanted {
                return Ok(header.last_offset == wanted && header.max_timestamp == last.timestamp);
            }
            position += u64::from(header.size);
        }
        Ok(false)
    }

    /// The last entry of the offset index with an offset below `offset`.
    pub fn index_floor_below(&mut self, disk: &dyn Disk, offset: i64) -> Result<Option<OffsetEntry>, StorageError> {
        let (path, relative) = (self.path(INDEX), offset - 1 - self.base_offset);
        self.opened(disk)?.offsets.floor(relative).attempt("read", &path)
    }

    /// Reads from the first batch what [`should_roll`](Segment::should_roll) needs of it.
    pub fn find_first_timestamp(&mut self, disk: &dyn Disk) -> Result<(), StorageError> {
        let path = self.path(LOG);
        let header = self.window(disk, HEADER_WINDOW)?.header(0).attempt("read", &path)?;
        self.first_timestamp = header.map(|header| header.max_timestamp);
        Ok(())
    }

    /// Finds the largest timestamp again: the last entry of the time index, or a batch after it.
    fn find_max_timestamp(&mut self, disk: &dyn Disk) -> Result<(), StorageError> {
        let (base_offset, path) = (self.base_offset, self.path(LOG));
        let mut window = self.window(disk, HEADER_WINDOW)?;
        let opened = self.opened(disk)?;
        let mut max = opened.times.last().map(|entry| MaxTimestamp {
            timestamp: entry.timestamp,
            offset: base_offset + i64::from(entry.offset),
        });
        let relative = max.map_or(0, |max| max.offset - base_offset);
        let floor = opened.offsets.floor(relative).attempt("read", &path)?;
        let mut position = floor.map_or(0, |entry| u64::from(entry.position));
        while let Some(header) = window.header(position).attempt("read", &path)? {
            if header.max_timestamp > max.map_or(-1, |max| max.timestamp) {
                max = Some(MaxTimestamp {
                    timestamp: header.max_timestamp,
                    offset: header.last_offset,
                });
            }
            position += u64::from(header.size);
        }
        self.opened(disk)?.max_timestamp = max;
        Ok(())
    }

    /// Renames the segment's files so that they are gone for every later start, and says which to remove.
    pub fn mark_deleted(self, disk: &dyn Disk) -> Result<Vec<PathBuf>, StorageError> {
        let mut marked = Vec::new();
        for suffix in [LOG, INDEX, TIME_INDEX, TXN_INDEX] {
            let path = self.path(suffix);
            let mut target = path.clone().into_os_string();
            target.push(DELETED);
            let target = PathBuf::from(target);
            match disk.rename(&path, &target) {
                Ok(()) => marked.push(target),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::new("rename", &path, error)),
            }
        }
        Ok(marked)
    }
}

impl Opened {
    fn enter_max_timestamp(&mut self, base_offset: i64) -> std::io::Result<()> {
        match self.max_timestamp {
            Some(max) => self.times.append(TimeEntry {
                timestamp: max.timestamp,
                offset: relative(max.offset, base_offset),
            }),
            None => Ok(()),
        }
    }
}

fn relative(offset: i64, base_offset: i64) -> u32 {
    u32::try_from(offset - base_offset).unwrap_or(u32::MAX)
}

/// Something that differs from segment to segment and from broker to broker; no more is asked of it.
fn jitter(base_offset: i64, now_ms: i64, max_ms: i64) -> i64 {
    if max_ms <= 0 {
        return 0;
    }
    let mixed = (base_offset ^ now_ms.rotate_left(32)).wrapping_mul(0x5851_f42d_4c95_7f2d);
    (mixed >> 8).rem_euclid(max_ms)
}
