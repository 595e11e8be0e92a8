//! Putting a compacted segment in the place of those it was made of, so that a crash at any moment leaves one or the
//! other.
//!
//! The order, as in Kafka: written under `.cleaned` names and fsynced; renamed to `.swap`, the records last, and the
//! directory fsynced; from here on the new segment counts. Then the old files become `.deleted` and the new ones get
//! their names. A start that finds a `.swap` removes what it replaces and finishes the renaming; a `.cleaned` is removed.
//!
//! All of it happens under the flush lock, which whoever removes or cuts segments takes as well.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::PoisonError;

use super::super::Log;
use super::super::disk::{Disk, remove_if_exists};
use super::super::error::{Attempt, StorageError};
use super::super::recovery::parse_name;
use super::super::scan::{HEADER_WINDOW, Window};
use super::super::segment::{CLEANED, INDEX, LOG, SWAP, Segment, TIME_INDEX, TXN_INDEX, file_name};
use super::{CleanError, Source};

/// The files of a segment besides its records.
const INDEXES: [&str; 3] = [TXN_INDEX, TIME_INDEX, INDEX];

impl Log {
    /// Creates the files that take what stays of `group`.
    pub(super) fn begin_cleaned(&self, group: &[Source], departures: u64) -> Result<Segment, CleanError> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = self.open_or_closed()?;
        if inner.departures != departures {
            return Err(CleanError::Overtaken);
        }
        let base_offset = group.first().map_or(0, |first| first.base_offset);
        let touched_ms = group.last().map_or(0, |last| last.touched_ms);
        let created = Segment::create_cleaned(self.disk(), &inner.dir, base_offset, touched_ms);
        Ok(self.data_dir.note(created)?)
    }

    /// Removes what [`begin_cleaned`](Log::begin_cleaned) has created.
    pub(super) fn remove_cleaned(&self, group: &[Source]) -> Result<(), CleanError> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = self.open_or_closed()?;
        for suffix in [LOG, INDEX, TIME_INDEX, TXN_INDEX] {
            let base_offset = group.first().map_or(0, |first| first.base_offset);
            let path = inner.dir.join(file_name(base_offset, suffix) + CLEANED);
            self.data_dir
                .note(remove_if_exists(self.disk(), &path).attempt("remove", &path))?;
        }
        Ok(())
    }

    /// Writes the rest, the indexes and, if there is one, the index of aborted transactions, and fsyncs all.
    pub(super) fn complete_cleaned(
        &self,
        cleaned: &mut Segment,
        pending: &[u8],
        txn_index: &[u8],
    ) -> Result<(), StorageError> {
        let disk = self.disk();
        cleaned.append_noted(disk, pending)?;
        cleaned.seal(disk)?;
        for file in cleaned.files_to_sync(disk, true)? {
            file.sync().attempt("fsync", &cleaned.path(LOG))?;
        }
        if !txn_index.is_empty() {
            let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
            if self.lock().closed {
                // The directory may have another name by now, and the swap will say so.
                return Ok(());
            }
            let path = cleaned.path(TXN_INDEX);
            let file = disk.open(&path, true).attempt("create", &path)?;
            file.write_at(txn_index, 0).attempt("write", &path)?;
            file.sync().attempt("fsync", &path)?;
        }
        Ok(())
    }

    /// Replaces the segments of `group` by `cleaned`. Says how often segments have gone away by now.
    pub(super) fn swap_in(
        &self,
        group: &[Source],
        mut cleaned: Segment,
        departures: u64,
        now_ms: i64,
    ) -> Result<u64, CleanError> {
        let _turn = self.flushing.lock().unwrap_or_else(PoisonError::into_inner);
        let (dir, disk) = {
            let inner = self.open_or_closed()?;
            (inner.dir.clone(), self.disk())
        };
        if self.lock().departures != departures {
            self.data_dir.note(cleaned.remove_files(disk))?;
            return Err(CleanError::Overtaken);
        }
        let sync_dir = || disk.sync_dir(&dir).attempt("fsync", &dir);
        let publish = || {
            cleaned.rename_to(disk, &INDEXES, SWAP)?;
            sync_dir()?;
            cleaned.rename_to(disk, &[LOG], SWAP)?;
            sync_dir()
        };
        self.data_dir.note(publish())?;
        cleaned.renamed(SWAP);
        let mut inner = self.open_or_closed()?;
        let first = group.first().map_or(0, |first| first.base_offset);
        let number = inner.segments.partition_point(|segment| segment.base_offset() < first);
        let end = (number + group.len()).min(inner.segments.len());
        let replaced: Vec<Segment> = inner.segments.drain(number..end).collect();
        self.data_dir.note(self.doom(&mut inner, replaced, now_ms))?;
        let renamed = cleaned
            .rename_to(disk, &INDEXES, "")
            .and_then(|()| cleaned.rename_to(disk, &[LOG], ""));
        self.data_dir.note(renamed)?;
        cleaned.renamed("");
        inner.segments.insert(number, cleaned);
        inner.changed = true;
        Ok(inner.departures)
    }

    /// Notes that everything below `offset` is clean.
    pub(super) fn cleaned_to(&self, offset: i64, departures: u64) -> Result<(), CleanError> {
        let mut inner = self.open_or_closed()?;
        if inner.departures != departures {
            return Err(CleanError::Overtaken);
        }
        inner.clean_to = offset;
        Ok(())
    }
}

/// Finishes at the start what a crash has interrupted: removes `.cleaned` files, and lets each `.swap` take its place.
pub(in crate::log) fn recover(disk: &dyn Disk, dir: &Path) -> Result<(), StorageError> {
    let names: BTreeSet<String> = disk
        .list(dir)
        .attempt("list", dir)?
        .into_iter()
        .filter(|entry| !entry.is_dir)
        .map(|entry| entry.name)
        .collect();
    let remove = |name: &str| {
        let path = dir.join(name);
        remove_if_exists(disk, &path).attempt("remove", &path)
    };
    let mut touched = false;
    for name in names.iter().filter(|name| name.ends_with(CLEANED)) {
        remove(name)?;
    }
    let swapped =
        |name: &String| parse_name(name.strip_suffix(SWAP)?).map(|(offset, suffix)| (offset, suffix.to_owned()));
    let swaps: Vec<(i64, String)> = names.iter().filter_map(swapped).collect();
    for (base_offset, suffix) in &swaps {
        if suffix != LOG {
            continue;
        }
        touched = true;
        let end_offset = end_of(disk, dir, *base_offset)?;
        tracing::warn!(dir = %dir.display(), base_offset, end_offset, "finishing an interrupted compaction");
        for name in &names {
            let replaced = parse_name(name).is_some_and(|(offset, suffix)| {
                (*base_offset..end_offset).contains(&offset) && (suffix == LOG || INDEXES.contains(&suffix))
            });
            if replaced {
                remove(name)?;
            }
        }
        for suffix in INDEXES.into_iter().chain([LOG]) {
            let name = file_name(*base_offset, suffix);
            if names.contains(&format!("{name}{SWAP}")) {
                let from = dir.join(format!("{name}{SWAP}"));
                disk.rename(&from, &dir.join(&name)).attempt("rename", &from)?;
            }
        }
    }
    // Indexes whose records have their name already, or do not count yet: both are built again where they are missing.
    for (base_offset, suffix) in &swaps {
        if suffix != LOG && !swaps.contains(&(*base_offset, LOG.to_owned())) {
            touched = true;
            remove(&(file_name(*base_offset, suffix) + SWAP))?;
        }
    }
    match touched {
        true => disk.sync_dir(dir).attempt("fsync", dir),
        false => Ok(()),
    }
}

/// The first offset after the segment that is to take its place; at least its own base offset's file is replaced.
fn end_of(disk: &dyn Disk, dir: &Path, base_offset: i64) -> Result<i64, StorageError> {
    let path = dir.join(file_name(base_offset, LOG) + SWAP);
    let file = disk.open(&path, false).attempt("open", &path)?;
    let size = file.len().attempt("read", &path)?;
    let mut window = Window::new(file, size, HEADER_WINDOW);
    let (mut position, mut end_offset) = (0, base_offset + 1);
    while let Some(header) = window.header(position).attempt("read", &path)? {
        position += u64::from(header.size);
        end_offset = end_offset.max(header.next_offset());
    }
    Ok(end_offset)
}
