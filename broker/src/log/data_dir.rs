//! A data directory (`log.dirs`): where the partitions' directories stand, and whether it can still be trusted.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::disk::Disk;
use super::error::StorageError;

/// One entry of `log.dirs`. After the first failed write or fsync it is offline until the broker restarts: what the
/// disk holds is then unknown, and trying again would turn a lost write into a silent one.
#[derive(Debug)]
pub struct DataDir {
    path: PathBuf,
    disk: Arc<dyn Disk>,
    offline: AtomicBool,
}

impl DataDir {
    /// Uses `path` on `disk`. Creates nothing and locks nothing.
    pub fn new(disk: Arc<dyn Disk>, path: PathBuf) -> Arc<DataDir> {
        Arc::new(DataDir {
            path,
            disk,
            offline: AtomicBool::new(false),
        })
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file system it is on.
    pub fn disk(&self) -> &Arc<dyn Disk> {
        &self.disk
    }

    /// Whether an operation has failed here.
    pub fn is_offline(&self) -> bool {
        self.offline.load(Ordering::Acquire)
    }

    /// Fails if the directory is offline.
    pub(super) fn check(&self) -> Result<(), StorageError> {
        if self.is_offline() {
            Err(StorageError::offline(&self.path))
        } else {
            Ok(())
        }
    }

    /// Takes the directory offline because of `error`, and gives it back.
    pub(super) fn fail(&self, error: StorageError) -> StorageError {
        if !self.offline.swap(true, Ordering::AcqRel) {
            tracing::error!(dir = %self.path.display(), %error, "the data directory goes offline");
        }
        error
    }

    /// Passes `result` on; an error takes the directory offline.
    pub(super) fn note<T>(&self, result: Result<T, StorageError>) -> Result<T, StorageError> {
        result.map_err(|error| self.fail(error))
    }
}
