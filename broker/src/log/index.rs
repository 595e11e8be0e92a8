//! Sparse indexes of a segment: `.index` (offset to position) and `.timeindex` (timestamp to offset).
//!
//! In: entries that grow strictly. Out: the last entry not above a target. Files grow by appending and are read with
//! positioned reads: no preallocation, no mmap. Kafka's files may be preallocated with zeros; its tools and this
//! reader take both.
//!
//! An index has no checksum. So nobody trusts an entry: whoever looks one up compares it with the batch it points at
//! and, if they disagree, rebuilds the index from the segment. That also covers what a power loss leaves behind,
//! because indexes are only fsynced when their segment is complete.

use std::io;
use std::sync::Arc;

use super::disk::DiskFile;

/// Entries kept in memory before they are written together: one write for about a megabyte of records.
const PENDING_MAX: usize = 256;

/// An entry of fixed size whose key grows strictly from entry to entry.
pub(super) trait IndexEntry: Copy + PartialEq {
    /// Bytes of an entry.
    const SIZE: usize;
    /// Appends the entry's bytes.
    fn encode(&self, out: &mut Vec<u8>);
    /// Reads an entry; `bytes` has [`SIZE`](IndexEntry::SIZE) bytes.
    fn decode(bytes: &[u8]) -> Self;
    /// What grows.
    fn key(&self) -> i64;
    /// Whether `self` may follow `before`.
    fn follows(&self, before: &Self) -> bool;
}

/// "The batch that ends at base + `offset` starts at `position`."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OffsetEntry {
    /// Last offset of the batch, relative to the segment's base offset.
    pub offset: u32,
    /// Position of the batch in the `.log` file.
    pub position: u32,
}

/// "No record up to base + `offset` has a timestamp above `timestamp`, and the batch that ends there has it."
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TimeEntry {
    /// Milliseconds since 1970.
    pub timestamp: i64,
    /// Last offset of the batch, relative to the segment's base offset.
    pub offset: u32,
}

impl IndexEntry for OffsetEntry {
    const SIZE: usize = 8;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.offset.to_be_bytes());
        out.extend_from_slice(&self.position.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> OffsetEntry {
        OffsetEntry {
            offset: u32_at(bytes, 0),
            position: u32_at(bytes, 4),
        }
    }

    fn key(&self) -> i64 {
        i64::from(self.offset)
    }

    fn follows(&self, before: &OffsetEntry) -> bool {
        self.offset > before.offset && self.position > before.position
    }
}

impl IndexEntry for TimeEntry {
    const SIZE: usize = 12;

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.timestamp.to_be_bytes());
        out.extend_from_slice(&self.offset.to_be_bytes());
    }

    fn decode(bytes: &[u8]) -> TimeEntry {
        let high = i64::from(u32_at(bytes, 0));
        TimeEntry {
            timestamp: high << 32 | i64::from(u32_at(bytes, 4)),
            offset: u32_at(bytes, 8),
        }
    }

    fn key(&self) -> i64 {
        self.timestamp
    }

    fn follows(&self, before: &TimeEntry) -> bool {
        self.timestamp > before.timestamp && self.offset >= before.offset
    }
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    bytes
        .get(at..)
        .and_then(|rest| rest.first_chunk::<4>())
        .map_or(0, |chunk| u32::from_be_bytes(*chunk))
}

/// One index file and the entries not yet written to it.
#[derive(Debug)]
pub(super) struct Index<E> {
    file: Arc<dyn DiskFile>,
    /// Entries in the file.
    written: u32,
    /// Entries that follow them.
    pending: Vec<E>,
    last: Option<E>,
}

impl<E: IndexEntry> Index<E> {
    /// Takes over an index file. Trailing entries of zeros (Kafka preallocates) and a partial entry do not count.
    pub fn open(file: Arc<dyn DiskFile>) -> io::Result<Index<E>> {
        let whole = file.len()? / E::SIZE as u64;
        let mut index = Index {
            file,
            written: u32::try_from(whole).unwrap_or(u32::MAX),
            pending: Vec::new(),
            last: None,
        };
        while index.written > 1 && index.entry_is_zero(index.written - 1)? {
            index.written -= 1;
        }
        index.last = match index.written {
            0 => None,
            count => Some(index.view().entry(count - 1)?),
        };
        Ok(index)
    }

    fn entry_is_zero(&self, number: u32) -> io::Result<bool> {
        let mut bytes = [0; 12];
        let (bytes, _) = bytes.split_at_mut(E::SIZE);
        self.file.read_at(bytes, u64::from(number) * E::SIZE as u64)?;
        Ok(bytes.iter().all(|byte| *byte == 0))
    }

    /// Entries, written or not.
    pub fn len(&self) -> u32 {
        self.written + self.pending.len() as u32
    }

    /// The last entry.
    pub fn last(&self) -> Option<E> {
        self.last
    }

    /// Adds `entry` unless it does not grow: a repeat of the last one is no error, it happens when a segment is sealed.
    pub fn append(&mut self, entry: E) -> io::Result<()> {
        if self.last.is_some_and(|last| !entry.follows(&last)) {
            return Ok(());
        }
        self.pending.push(entry);
        self.last = Some(entry);
        if self.pending.len() >= PENDING_MAX {
            self.write_pending()
        } else {
            Ok(())
        }
    }

    /// Writes what is pending.
    pub fn write_pending(&mut self) -> io::Result<()> {
        if self.pending.is_empty() {
            return Ok(());
        }
        let mut bytes = Vec::with_capacity(self.pending.len() * E::SIZE);
        for entry in &self.pending {
            entry.encode(&mut bytes);
        }
        self.file.write_at(&bytes, u64::from(self.written) * E::SIZE as u64)?;
        self.written += self.pending.len() as u32;
        self.pending.clear();
        Ok(())
    }

    /// Writes what is pending and cuts what lies beyond the last entry, so that the file is exactly its entries.
    pub fn seal(&mut self) -> io::Result<()> {
        self.write_pending()?;
        self.pending.shrink_to_fit();
        let len = u64::from(self.written) * E::SIZE as u64;
        if self.file.len()? != len {
            self.file.set_len(len)
        } else {
            Ok(())
        }
    }

    /// The file, to be fsynced.
    pub fn file(&self) -> &Arc<dyn DiskFile> {
        &self.file
    }

    /// The last entry with a key not above `key`, if the entries in memory decide that.
    pub fn floor_in_memory(&self, key: i64) -> Option<E> {
        if self.last.is_some_and(|last| last.key() <= key) {
            return self.last;
        }
        let after = self.pending.partition_point(|entry| entry.key() <= key);
        after.checked_sub(1).and_then(|index| self.pending.get(index)).copied()
    }

    /// The entries in the file, for a search that needs no lock.
    pub fn view(&self) -> IndexView {
        IndexView {
            file: self.file.clone(),
            entries: self.written,
        }
    }

    /// The last entry with a key not above `key`.
    pub fn floor(&self, key: i64) -> io::Result<Option<E>> {
        match self.floor_in_memory(key) {
            Some(entry) => Ok(Some(entry)),
            None => self.view().floor(|entry: &E| entry.key() <= key),
        }
    }

    /// Keeps the entries for which `keep` is true; they must be the first ones.
    pub fn truncate_while(&mut self, keep: impl Fn(&E) -> bool) -> io::Result<()> {
        self.write_pending()?;
        let view = self.view();
        self.written = view.partition_point(&keep)?;
        self.file.set_len(u64::from(self.written) * E::SIZE as u64)?;
        self.last = match self.written {
            0 => None,
            count => Some(view.entry(count - 1)?),
        };
        Ok(())
    }

    /// True when every entry follows the one before and `within` holds for each. Reads the whole index.
    pub fn is_consistent(&self, within: impl Fn(&E) -> bool) -> io::Result<bool> {
        let mut bytes = vec![0; self.written as usize * E::SIZE];
        let read = self.file.read_at(&mut bytes, 0)?;
        if read != bytes.len() {
            return Ok(false);
        }
        let mut before: Option<E> = None;
        for entry in bytes
            .chunks_exact(E::SIZE)
            .map(E::decode)
            .chain(self.pending.iter().copied())
        {
            if !within(&entry) || before.is_some_and(|before| !entry.follows(&before)) {
                return Ok(false);
            }
            before = Some(entry);
        }
        Ok(true)
    }
}

/// The written part of an index, which only grows while nobody truncates.
#[derive(Debug, Clone)]
pub(super) struct IndexView {
    file: Arc<dyn DiskFile>,
    entries: u32,
}

impl IndexView {
    /// Entry `number`, counted from 0.
    fn entry<E: IndexEntry>(&self, number: u32) -> io::Result<E> {
        let mut bytes = [0; 12];
        let (bytes, _) = bytes.split_at_mut(E::SIZE);
        if self.file.read_at(bytes, u64::from(number) * E::SIZE as u64)? < E::SIZE {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(E::decode(bytes))
    }

    /// How many of the first entries satisfy `keep`.
    fn partition_point<E: IndexEntry>(&self, keep: &impl Fn(&E) -> bool) -> io::Result<u32> {
        let (mut low, mut high) = (0, self.entries);
        while low < high {
            let middle = low + (high - low) / 2;
            if keep(&self.entry(middle)?) {
                low = middle + 1
            } else {
                high = middle
            }
        }
        Ok(low)
    }

    /// The last of the first entries that satisfy `keep`.
    pub fn floor<E: IndexEntry>(&self, keep: impl Fn(&E) -> bool) -> io::Result<Option<E>> {
        match self.partition_point(&keep)? {
            0 => Ok(None),
            count => self.entry(count - 1).map(Some),
        }
    }
}
