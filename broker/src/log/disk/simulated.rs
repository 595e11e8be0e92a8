//! A file system in memory that can lose its power and fail on request.
//!
//! In: the calls of [`Disk`], and faults to come. Out: what a real disk would answer. It keeps for each file the
//! content that was fsynced beside the current one, and for each directory the names that were; a power loss leaves
//! the former and, by chance, parts of the latter.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::{DirEntry, Disk, DiskFile, LockGuard};

/// What goes wrong at the next write or fsync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The next write writes nothing and fails.
    Write,
    /// The next write writes half of its bytes and fails, as a full disk does.
    ShortWrite,
    /// The next fsync of a file or directory fails; what was unsynced stays so.
    Sync,
}

/// A disk in memory. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct SimulatedDisk {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    files: BTreeMap<PathBuf, Content>,
    durable_files: BTreeMap<PathBuf, Content>,
    directories: BTreeSet<PathBuf>,
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
    fault: Option<Fault>,
    syncs: u64,
    /// Writes, fsyncs and changes of names so far.
    changes: u64,
    /// How many of them are still carried out.
    changes_left: Option<u64>,
}

type Content = Arc<Mutex<FileContent>>;

#[derive(Debug, Default)]
struct FileContent {
    current: Vec<u8>,
    durable: Vec<u8>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, path.display().to_string())
}

impl SimulatedDisk {
    /// An empty disk.
    pub fn new() -> SimulatedDisk {
        SimulatedDisk::default()
    }

    /// Lets the next operation of its kind fail.
    pub fn fail_next(&self, fault: Fault) {
        lock(&self.state).fault = Some(fault);
    }

    /// Lets `changes` more writes, fsyncs and changes of names happen, and fails all after them, until the power is cut.
    pub fn stop_after(&self, changes: u64) {
        lock(&self.state).changes_left = Some(changes);
    }

    /// How many writes, fsyncs and changes of names there were.
    pub fn changes(&self) -> u64 {
        lock(&self.state).changes
    }

    fn change(&self) -> io::Result<()> {
        let mut state = lock(&self.state);
        match &mut state.changes_left {
            Some(0) => return Err(io::Error::other("the simulated disk has stopped")),
            Some(left) => *left -= 1,
            None => {}
        }
        state.changes += 1;
        Ok(())
    }

    /// How many fsyncs of files and directories there were.
    pub fn syncs(&self) -> u64 {
        lock(&self.state).syncs
    }

    /// Cuts the power. What was fsynced is there afterwards; of the rest, `chance` (a source of random numbers)
    /// decides. Files that are open now must not be used any more.
    pub fn lose_power(&self, chance: &mut dyn FnMut() -> u64) {
        let mut state = lock(&self.state);
        let mut names: BTreeMap<PathBuf, Content> = state.durable_files.clone();
        // A new name may have reached the disk by itself. A removed one stays removed only if that was synced.
        for (path, content) in &state.files {
            if chance().is_multiple_of(2) {
                names.insert(path.clone(), content.clone());
            }
        }
        let survive = |content: &Content, chance: &mut dyn FnMut() -> u64| {
            let content = lock(content);
            let kept = survivor(&content, chance);
            Arc::new(Mutex::new(FileContent {
                current: kept.clone(),
                durable: kept,
            }))
        };
        let files: BTreeMap<_, _> = names
            .into_iter()
            .map(|(path, content)| (path, survive(&content, chance)))
            .collect();
        state.durable_files = files.clone();
        state.files = files;
        (state.fault, state.changes_left) = (None, None);
        lock(&state.locked).clear();
    }

    fn take_fault(&self, wanted: &[Fault]) -> Option<Fault> {
        let mut state = lock(&self.state);
        if state.fault.is_some_and(|fault| wanted.contains(&fault)) {
            state.fault.take()
        } else {
            None
        }
    }

    fn sync_fault(&self) -> io::Result<()> {
        self.change()?;
        lock(&self.state).syncs += 1;
        match self.take_fault(&[Fault::Sync]) {
            Some(_) => Err(io::Error::other("simulated failure of fsync")),
            None => Ok(()),
        }
    }
}

/// What a power loss leaves of a file: the synced content, and of what was appended since a part, perhaps with a page
/// of zeros in it.
fn survivor(content: &FileContent, chance: &mut dyn FnMut() -> u64) -> Vec<u8> {
    const PAGE: usize = 512;
    if !content.current.starts_with(&content.durable) {
        return if chance().is_multiple_of(2) {
            content.current.clone()
        } else {
            content.durable.clone()
        };
    }
    let unsynced = content.current.len() - content.durable.len();
    let cut = content.durable.len() + (chance() % (unsynced as u64 + 1)) as usize;
    let mut kept = content.current.get(..cut).unwrap_or_default().to_vec();
    if chance().is_multiple_of(4) {
        let pages = unsynced / PAGE + 1;
        let from = content.durable.len() + (chance() % pages as u64) as usize * PAGE;
        let until = (from + PAGE).min(kept.len());
        if let Some(page) = kept.get_mut(from..until) {
            page.fill(0);
        }
    }
    kept
}

#[derive(Debug)]
struct SimulatedFile {
    disk: SimulatedDisk,
    content: Content,
}

impl DiskFile for SimulatedFile {
    fn write_at(&self, bytes: &[u8], position: u64) -> io::Result<()> {
        self.disk.change()?;
        let fault = self.disk.take_fault(&[Fault::Write, Fault::ShortWrite]);
        let taken = match fault {
            Some(Fault::Write) => 0,
            Some(_) => bytes.len() / 2,
            None => bytes.len(),
        };
        let mut content = lock(&self.content);
        let start = usize::try_from(position).map_err(io::Error::other)?;
        if content.current.len() < start + taken {
            content.current.resize(start + taken, 0);
        }
        if let (Some(target), Some(source)) = (content.current.get_mut(start..start + taken), bytes.get(..taken)) {
            target.copy_from_slice(source);
        }
        match fault {
            Some(_) => Err(io::Error::new(
                io::ErrorKind::StorageFull,
                "simulated failure of a write",
            )),
            None => Ok(()),
        }
    }

    fn read_at(&self, buffer: &mut [u8], position: u64) -> io::Result<usize> {
        let content = lock(&self.content);
        let start = usize::try_from(position).unwrap_or(usize::MAX);
        let rest = content.current.get(start..).unwrap_or_default();
        let length = rest.len().min(buffer.len());
        if let (Some(target), Some(source)) = (buffer.get_mut(..length), rest.get(..length)) {
            target.copy_from_slice(source);
        }
        Ok(length)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(lock(&self.content).current.len() as u64)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk.change()?;
        lock(&self.content)
            .current
            .resize(usize::try_from(len).map_err(io::Error::other)?, 0);
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        self.disk.sync_fault()?;
        let mut content = lock(&self.content);
        content.durable = content.current.clone();
        Ok(())
    }
}

impl Disk for SimulatedDisk {
    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        if create && !lock(&self.state).files.contains_key(path) {
            self.change()?;
        }
        let mut state = lock(&self.state);
        let content = match state.files.get(path) {
            Some(content) => content.clone(),
            None if create && path.parent().is_some_and(|parent| state.directories.contains(parent)) => {
                state.files.entry(path.to_owned()).or_default().clone()
            }
            None => return Err(not_found(path)),
        };
        Ok(Arc::new(SimulatedFile {
            disk: self.clone(),
            content,
        }))
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let state = lock(&self.state);
        let content = state.files.get(path).ok_or_else(|| not_found(path))?;
        let bytes = lock(content).current.clone();
        Ok(bytes)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.change()?;
        let mut state = lock(&self.state);
        if let Some(content) = state.files.remove(from) {
            state.files.insert(to.to_owned(), content);
            return Ok(());
        }
        if !state.directories.remove(from) {
            return Err(not_found(from));
        }
        state.directories.insert(to.to_owned());
        // Directories come through a power loss as they are: nothing here depends on losing one.
        let State {
            files, durable_files, ..
        } = &mut *state;
        for map in [files, durable_files] {
            let inside: Vec<PathBuf> = map.keys().filter(|path| path.starts_with(from)).cloned().collect();
            for path in inside {
                if let (Some(content), Ok(rest)) = (map.remove(&path), path.strip_prefix(from)) {
                    map.insert(to.join(rest), content);
                }
            }
        }
        Ok(())
    }

    fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.change()?;
        lock(&self.state)
            .files
            .remove(path)
            .map(|_| ())
            .ok_or_else(|| not_found(path))
    }

    fn remove_dir_all(&self, path: &Path) -> io::Result<()> {
        let mut state = lock(&self.state);
        state.directories.retain(|directory| !directory.starts_with(path));
        state.files.retain(|file, _| !file.starts_with(path));
        state.durable_files.retain(|file, _| !file.starts_with(path));
        Ok(())
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        lock(&self.state)
            .directories
            .extend(path.ancestors().map(Path::to_owned));
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirEntry>> {
        let state = lock(&self.state);
        if !state.directories.contains(path) {
            return Err(not_found(path));
        }
        let inside = |entry: &&PathBuf| entry.parent() == Some(path);
        let entry = |path: &Path, is_dir: bool, len: usize| {
            let name = path.file_name()?.to_str()?.to_owned();
            Some(DirEntry {
                name,
                is_dir,
                len: len as u64,
                modified_ms: 0,
            })
        };
        let directories = state
            .directories
            .iter()
            .filter(inside)
            .filter_map(|path| entry(path, true, 0));
        let files = state.files.iter().filter(|(path, _)| inside(path));
        let files = files.filter_map(|(path, content)| entry(path, false, lock(content).current.len()));
        Ok(directories.chain(files).collect())
    }

    fn sync_dir(&self, path: &Path) -> io::Result<()> {
        self.sync_fault()?;
        let mut state = lock(&self.state);
        state.durable_files.retain(|file, _| file.parent() != Some(path));
        let inside = state.files.iter().filter(|(file, _)| file.parent() == Some(path));
        let inside: Vec<_> = inside.map(|(file, content)| (file.clone(), content.clone())).collect();
        state.durable_files.extend(inside);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<LockGuard> {
        let locked = lock(&self.state).locked.clone();
        if !lock(&locked).insert(path.to_owned()) {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(Box::new(SimulatedLock {
            locked,
            path: path.to_owned(),
        }))
    }
}

struct SimulatedLock {
    locked: Arc<Mutex<BTreeSet<PathBuf>>>,
    path: PathBuf,
}

impl Drop for SimulatedLock {
    fn drop(&mut self) {
        lock(&self.locked).remove(&self.path);
    }
}
