//! All logs of a broker: its data directories, their locks and checkpoints, and the work that is due from time to time.
//!
//! In: topics and partitions to create and delete, the wall clock. Out: [`Log`]s. It does not know which topics
//! should exist, who leads them, or what their settings are: it is told.
//!
//! Opening has two steps, because the settings of topics stand in the metadata log, and that lies in a data directory
//! too: [`LogManager::open`] locks the directories and says whose they are, [`LogManager::load_logs`] recovers the
//! partitions.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use ottla_protocol::{ErrorCode, Uuid};

use super::checkpoint::{
    self, CLEAN_SHUTDOWN, CLEANER_OFFSET, HIGH_WATERMARK, LOG_START_OFFSET, META_PROPERTIES, MetaProperties,
    RECOVERY_POINT, TopicPartition,
};
use super::data_dir::DataDir;
use super::disk::{Disk, LockGuard, remove_if_exists, replace_file};
use super::error::{Attempt, StorageError};
use super::recovery::LogStart;
use super::tail::TailBudget;
use super::{CleanError, Cleanable, CleanerConfig, Log, LogConfig};

/// The topic of the metadata log, which the controller opens by itself.
pub const METADATA_TOPIC: &str = "__cluster_metadata";
const LOCK: &str = ".lock";
const DELETE_SUFFIX: &str = "-delete";
/// The longest name that common file systems take.
const NAME_MAX: usize = 255;

/// What a manager obeys.
#[derive(Debug, Clone)]
pub struct ManagerConfig {
    /// `log.dirs`. Missing ones are created.
    pub dirs: Vec<PathBuf>,
    /// The cluster that the directories must belong to. `None`: whatever they say, and a new id if they are new.
    pub cluster_id: Option<String>,
    /// `node.id`; directories of another node are refused.
    pub node_id: i32,
    /// Bytes that the tails of all logs together may hold in memory.
    pub tail_bytes: usize,
    /// `log.flush.scheduler.interval.ms`: how often everything is fsynced. `None`: never by timer.
    pub flush_interval: Option<Duration>,
    /// `log.flush.offset.checkpoint.interval.ms`: how often recovery points and start offsets are written.
    pub checkpoint_interval: Duration,
    /// `replica.high.watermark.checkpoint.interval.ms`: how often high watermarks are written.
    pub high_watermark_interval: Duration,
    /// `log.retention.check.interval.ms`.
    pub retention_interval: Duration,
    /// What compaction may use (`log.cleaner.*`); `None`: nothing is compacted (`log.cleaner.enable`).
    pub cleaner: Option<CleanerConfig>,
}

impl ManagerConfig {
    /// Kafka's intervals, but for the flush, which runs each second; 16 MiB of tails.
    pub fn new(dirs: Vec<PathBuf>, node_id: i32) -> ManagerConfig {
        ManagerConfig {
            dirs,
            cluster_id: None,
            node_id,
            tail_bytes: 16 << 20,
            flush_interval: Some(Duration::from_secs(1)),
            checkpoint_interval: Duration::from_secs(60),
            high_watermark_interval: Duration::from_secs(5),
            retention_interval: Duration::from_secs(300),
            cleaner: Some(CleanerConfig::default()),
        }
    }
}

/// Why the data directories cannot be used, or a log cannot be created.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ManagerError {
    /// Another process (or another broker of this one) uses the directory.
    #[error("{} is in use: somebody holds the lock on its .lock file", .0.display())]
    Locked(PathBuf),
    /// The directory belongs to another cluster.
    #[error("{} belongs to cluster {found}, not to {expected}", path.display())]
    OtherCluster {
        /// The directory.
        path: PathBuf,
        /// The cluster in its `meta.properties`.
        found: String,
        /// The cluster expected.
        expected: String,
    },
    /// The directory belongs to another node.
    #[error("{} belongs to node {found}, not to {expected}", path.display())]
    OtherNode {
        /// The directory.
        path: PathBuf,
        /// The node in its `meta.properties`.
        found: i32,
        /// The node expected.
        expected: i32,
    },
    /// `meta.properties` is there but cannot be understood. Nothing is guessed.
    #[error("{} cannot be understood", .0.display())]
    GarbledMetaProperties(PathBuf),
    /// INCONSISTENT_TOPIC_ID: the directory holds a topic of the same name with another id.
    #[error("{topic}-{partition} on disk has topic id {found}, not {expected}")]
    OtherTopicId {
        /// Name of the topic.
        topic: String,
        /// Number of the partition.
        partition: i32,
        /// The id on disk.
        found: Uuid,
        /// The id asked for.
        expected: Uuid,
    },
    /// No data directory is configured, or all are offline.
    #[error("no data directory is online")]
    NoDirectory,
    /// The disk failed.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ManagerError {
    /// The code for a response.
    pub fn code(&self) -> ErrorCode {
        match self {
            ManagerError::OtherTopicId { .. } => ErrorCode::InconsistentTopicId,
            ManagerError::OtherCluster { .. } => ErrorCode::InconsistentClusterId,
            _ => ErrorCode::KafkaStorageError,
        }
    }
}

#[derive(Debug)]
struct Directory {
    data: Arc<DataDir>,
    id: Uuid,
    /// The broker epoch in the marker of the last clean stop; `None` without a marker.
    clean_epoch: Option<i64>,
    lock: Mutex<Option<Held>>,
}

/// Keeps a directory's lock.
struct Held(#[allow(dead_code)] LockGuard);

impl std::fmt::Debug for Held {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Held")
    }
}

#[derive(Debug)]
struct Timers {
    flushed: Instant,
    checkpointed: Instant,
    high_watermarks: Instant,
    retained: Instant,
}

/// All logs of one broker.
#[derive(Debug)]
pub struct LogManager {
    config: ManagerConfig,
    cluster_id: String,
    directories: Vec<Directory>,
    logs: RwLock<HashMap<TopicPartition, Arc<Log>>>,
    creating: Mutex<()>,
    tail: Arc<TailBudget>,
    /// Directories of deleted partitions, with the time when they go.
    doomed: Mutex<Vec<(i64, usize, PathBuf)>>,
    timers: Mutex<Timers>,
    /// Held during a pass of compaction: whoever closes the logs waits for it.
    compacting: Mutex<()>,
    /// No more compaction.
    stopped: AtomicBool,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl LogManager {
    /// Creates, locks and identifies the data directories. New ones get a `meta.properties`.
    ///
    /// A directory on a failing disk is left out as long as another one works.
    pub fn open(disk: Arc<dyn Disk>, config: ManagerConfig) -> Result<LogManager, ManagerError> {
        let mut found = Vec::new();
        let mut failure = None;
        for path in &config.dirs {
            match prepare(disk.as_ref(), path) {
                Ok(prepared) => found.push((DataDir::new(disk.clone(), path.clone()), prepared)),
                Err(ManagerError::Storage(error)) => {
                    tracing::error!(dir = %path.display(), %error, "the data directory is left out");
                    failure = Some(error);
                }
                Err(error) => return Err(error),
            }
        }
        let known = found.iter().find_map(|(_, (_, properties, _))| properties.as_ref());
        let cluster_id = config
            .cluster_id
            .clone()
            .or_else(|| known.map(|known| known.cluster_id.clone()));
        let cluster_id = cluster_id.unwrap_or_else(|| random_uuid().to_string());
        let mut directories = Vec::new();
        for (data, (guard, properties, clean_epoch)) in found {
            let id = identify(&data, properties, &cluster_id, config.node_id)?;
            directories.push(Directory {
                data,
                id,
                clean_epoch,
                lock: Mutex::new(Some(Held(guard))),
            });
        }
        if directories.is_empty() {
            return Err(failure.map_or(ManagerError::NoDirectory, ManagerError::Storage));
        }
        let now = Instant::now();
        Ok(LogManager {
            tail: TailBudget::new(config.tail_bytes),
            config,
            cluster_id,
            directories,
            logs: RwLock::default(),
            creating: Mutex::default(),
            doomed: Mutex::default(),
            timers: Mutex::new(Timers {
                flushed: now,
                checkpointed: now,
                high_watermarks: now,
                retained: now,
            }),
            compacting: Mutex::default(),
            stopped: AtomicBool::new(false),
        })
    }

    /// The cluster that the directories belong to.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The data directories in use, with their ids.
    pub fn directories(&self) -> impl Iterator<Item = (&Arc<DataDir>, Uuid)> {
        self.directories.iter().map(|directory| (&directory.data, directory.id))
    }

    /// The broker epoch of the last clean stop; `None` unless every directory was stopped cleanly under the same one.
    pub fn previous_broker_epoch(&self) -> Option<i64> {
        let mut epochs = self.directories.iter().map(|directory| directory.clean_epoch);
        let first = epochs.next()??;
        epochs.all(|epoch| epoch == Some(first)).then_some(first)
    }

    /// Opens the metadata log in the first directory. Appends go through [`Log::append_durably`].
    ///
    /// All of it was fsynced, but for the end of an append that was interrupted. So only the end is ever cut; damage
    /// before it stays, and whoever reads it gets [`ReadError::Corrupt`](super::ReadError::Corrupt): a cluster must
    /// not forget its topics silently.
    pub fn open_metadata_log(&self, config: LogConfig, now_ms: i64) -> Result<Arc<Log>, StorageError> {
        let Some(directory) = self.directories.first() else {
            return Err(StorageError::offline(Path::new("")));
        };
        // Only the quorum's leader reads it, from the start: a tail would keep what nobody asks for.
        let tail = TailBudget::new(0);
        let start = LogStart {
            recovery_point: i64::MAX,
            ..LogStart::default()
        };
        let log = Log::open(
            &directory.data,
            METADATA_TOPIC,
            0,
            Uuid::ZERO,
            config,
            start,
            tail,
            now_ms,
        )?;
        // The end may have been written and not fsynced by a process that was killed.
        log.flush_again()?;
        Ok(Arc::new(log))
    }

    /// Recovers every partition found. `config_of` gives the settings of a topic by its name.
    ///
    /// A directory that fails goes offline and its partitions with it; that is no error while another one works.
    pub fn load_logs(&self, config_of: &(dyn Fn(&str) -> LogConfig + Sync), now_ms: i64) -> Result<(), ManagerError> {
        for number in 0..self.directories.len() {
            if let Err(error) = self.load_directory(number, config_of, now_ms) {
                tracing::error!(%error, "a data directory could not be loaded");
            }
        }
        match self.directories.iter().all(|directory| directory.data.is_offline()) {
            true => Err(ManagerError::NoDirectory),
            false => Ok(()),
        }
    }

    fn load_directory(
        &self,
        number: usize,
        config_of: &(dyn Fn(&str) -> LogConfig + Sync),
        now_ms: i64,
    ) -> Result<(), StorageError> {
        let Some(Directory { data, clean_epoch, .. }) = self.directories.get(number) else {
            return Ok(());
        };
        let disk = data.disk().as_ref();
        let clean = data.note(take_marker(disk, data.path()))?;
        let recovery_points = data.note(read_offsets(disk, data.path(), RECOVERY_POINT))?;
        let start_offsets = data.note(read_offsets(disk, data.path(), LOG_START_OFFSET))?;
        let high_watermarks = data.note(read_offsets(disk, data.path(), HIGH_WATERMARK))?;
        let clean_offsets = data.note(read_offsets(disk, data.path(), CLEANER_OFFSET))?;
        let mut partitions = Vec::new();
        for entry in data.note(disk.list(data.path()).attempt("list", data.path()))? {
            if !entry.is_dir {
                continue;
            }
            if entry.name.ends_with(DELETE_SUFFIX) {
                lock(&self.doomed).push((now_ms, number, data.path().join(&entry.name)));
            } else if let Some((topic, partition)) = parse_directory(&entry.name) {
                if topic != METADATA_TOPIC {
                    partitions.push((topic.to_owned(), partition));
                }
            } else {
                tracing::warn!(name = entry.name, "not a partition's directory, left alone");
            }
        }
        tracing::info!(dir = %data.path().display(), partitions = partitions.len(), clean, ?clean_epoch, "loading logs");
        let open = |key: &TopicPartition| {
            let of = |offsets: &BTreeMap<TopicPartition, i64>| offsets.get(key).copied().unwrap_or(0);
            let start = LogStart {
                clean,
                recovery_point: of(&recovery_points),
                log_start_offset: of(&start_offsets),
                high_watermark: of(&high_watermarks),
                clean_to: of(&clean_offsets),
            };
            let tail = self.tail.clone();
            let log = Log::open(data, &key.0, key.1, Uuid::ZERO, config_of(&key.0), start, tail, now_ms)?;
            self.logs_mut().insert(key.clone(), Arc::new(log));
            Ok(())
        };
        in_parallel(&partitions, open)
    }

    fn logs_mut(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<TopicPartition, Arc<Log>>> {
        self.logs.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The log of a partition.
    pub fn get(&self, topic: &str, partition: i32) -> Option<Arc<Log>> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        logs.get(&(topic.to_owned(), partition)).cloned()
    }

    /// All logs, in no order.
    pub fn logs(&self) -> Vec<Arc<Log>> {
        self.logs
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }

    /// The log of a partition, created if need be in the directory with the fewest logs.
    ///
    /// # Errors
    /// [`ManagerError::OtherTopicId`] when the partition on disk is of another topic of the same name.
    pub fn create_log(
        &self,
        topic: &str,
        topic_id: Uuid,
        partition: i32,
        config: LogConfig,
        now_ms: i64,
    ) -> Result<Arc<Log>, ManagerError> {
        // One at a time; the map itself stays free for those who append and read.
        let turn = lock(&self.creating);
        if let Some(log) = self.get(topic, partition) {
            let found = log.topic_id();
            if topic_id == Uuid::ZERO || found == topic_id {
                return Ok(log);
            }
            if found == Uuid::ZERO {
                log.adopt_topic_id(topic_id)?;
                return Ok(log);
            }
            let topic = topic.to_owned();
            return Err(ManagerError::OtherTopicId {
                topic,
                partition,
                found,
                expected: topic_id,
            });
        }
        let data = self.emptiest_directory().ok_or(ManagerError::NoDirectory)?;
        let (start, tail) = (LogStart::default(), self.tail.clone());
        let log = Arc::new(Log::open(
            data, topic, partition, topic_id, config, start, tail, now_ms,
        )?);
        self.logs_mut().insert((topic.to_owned(), partition), log.clone());
        drop(turn);
        Ok(log)
    }

    fn emptiest_directory(&self) -> Option<&Arc<DataDir>> {
        let logs = self.logs.read().unwrap_or_else(PoisonError::into_inner);
        let count = |data: &&Arc<DataDir>| logs.values().filter(|log| Arc::ptr_eq(log.data_dir(), data)).count();
        let mut online = self
            .directories
            .iter()
            .map(|directory| &directory.data)
            .filter(|data| !data.is_offline());
        if self.directories.len() == 1 {
            online.next()
        } else {
            online.min_by_key(count)
        }
    }

    /// Deletes a partition: its directory is renamed at once and removed after `file.delete.delay.ms`. False if there
    /// is none.
    pub fn delete_log(&self, topic: &str, partition: i32, now_ms: i64) -> Result<bool, StorageError> {
        let Some(log) = self.logs_mut().remove(&(topic.to_owned(), partition)) else {
            return Ok(false);
        };
        if log.clean_to() > 0 {
            // Another topic of this name must not be taken for compacted.
            self.checkpoint_offsets(CLEANER_OFFSET, Log::clean_to);
        }
        let suffix = format!(
            "-{partition}.{:032x}{DELETE_SUFFIX}",
            u128::from_be_bytes(random_uuid().0)
        );
        // Topic names are ASCII.
        let kept = topic
            .get(..NAME_MAX.saturating_sub(suffix.len()).min(topic.len()))
            .unwrap_or(topic);
        let path = log.close_and_rename(&format!("{kept}{suffix}"))?;
        let number = self
            .directories
            .iter()
            .position(|directory| Arc::ptr_eq(&directory.data, log.data_dir()));
        let due_ms = now_ms.saturating_add(log.config().file_delete_delay_ms);
        lock(&self.doomed).push((due_ms, number.unwrap_or(0), path));
        Ok(true)
    }

    /// Does whatever is due: fsync, checkpoints, retention, removal of deleted files. Blocks; call it about once a
    /// second from a thread that may. Intervals are measured by a monotonic clock, `now_ms` is wall time.
    pub fn tick(&self, now_ms: i64) {
        let now = Instant::now();
        let due = |last: fn(&mut Timers) -> &mut Instant, interval: Duration| {
            let mut timers = lock(&self.timers);
            let last = last(&mut timers);
            // A tenth of slack: a tick that comes a moment early would else double the interval.
            let due = now.duration_since(*last) >= interval - interval / 10;
            if due {
                *last = now;
            }
            due
        };
        for log in self.logs() {
            // Failures have taken the directory offline and are in the program's log.
            let _ = log.tick(now_ms);
            if log.is_flush_overdue(now_ms) {
                let _ = log.flush();
            }
        }
        self.remove_doomed(now_ms);
        if self
            .config
            .flush_interval
            .is_some_and(|interval| due(|timers| &mut timers.flushed, interval))
        {
            self.flush_all();
        }
        if due(|timers| &mut timers.retained, self.config.retention_interval) {
            self.retain_all(now_ms);
        }
        if due(
            |timers| &mut timers.high_watermarks,
            self.config.high_watermark_interval,
        ) {
            self.checkpoint_offsets(HIGH_WATERMARK, Log::high_watermark);
        }
        if due(|timers| &mut timers.checkpointed, self.config.checkpoint_interval) {
            self.checkpoint();
        }
    }

    /// fsyncs all logs. A failure takes its directory offline.
    pub fn flush_all(&self) {
        for log in self.logs() {
            let _ = log.flush();
        }
    }

    /// Applies retention to all logs; returns how many segments went.
    pub fn retain_all(&self, now_ms: i64) -> usize {
        self.logs().iter().map(|log| log.retain(now_ms).unwrap_or(0)).sum()
    }

    /// Compacts what is due, one log after the other, the dirtiest first. Returns how many passes were made. Blocks for
    /// as long as that takes; call it from a thread of its own. `now_ms` is wall time.
    pub fn compact_all(&self, now_ms: i64) -> usize {
        let Some(cleaner) = self.config.cleaner else { return 0 };
        let mut passes = 0;
        // A log that failed is not tried again in this round, and one that gets dirty as fast as it is cleaned must
        // not keep the others waiting.
        let mut tried = HashSet::new();
        loop {
            let turn = lock(&self.compacting);
            let Some((log, cleanable)) = self.dirtiest(now_ms, &tried) else {
                break;
            };
            tried.insert((log.topic().to_owned(), log.partition()));
            let (topic, partition) = (log.topic(), log.partition());
            match log.clean(&cleanable, &cleaner, now_ms, &self.stopped) {
                Ok(cleaned) => {
                    tracing::info!(
                        topic,
                        partition,
                        ?cleaned,
                        dirty_ratio = cleanable.dirty_ratio,
                        "compacted"
                    );
                    self.checkpoint_offsets(CLEANER_OFFSET, Log::clean_to);
                    passes += 1;
                }
                Err(CleanError::Closed | CleanError::Overtaken) => {}
                Err(error) => tracing::error!(topic, partition, %error, "compaction failed"),
            }
            drop(turn);
        }
        passes
    }

    fn dirtiest(&self, now_ms: i64, tried: &HashSet<TopicPartition>) -> Option<(Arc<Log>, Cleanable)> {
        if self.stopped.load(Ordering::Acquire) {
            return None;
        }
        let due = self.logs().into_iter().filter_map(|log| {
            // A failure has taken the directory offline and is in the program's log.
            let cleanable = log.cleanable(now_ms).ok()??;
            let fresh = !tried.contains(&(log.topic().to_owned(), log.partition()));
            (cleanable.due && fresh).then_some((log, cleanable))
        });
        due.max_by(|(_, one), (_, other)| one.dirty_ratio.total_cmp(&other.dirty_ratio))
    }

    /// Lets a pass of compaction end, and begins no other.
    fn stop_compacting(&self) {
        self.stopped.store(true, Ordering::Release);
        drop(lock(&self.compacting));
    }

    /// Writes all checkpoints: recovery points, log start offsets, high watermarks.
    pub fn checkpoint(&self) {
        self.checkpoint_offsets(RECOVERY_POINT, Log::recovery_point);
        self.checkpoint_offsets(LOG_START_OFFSET, Log::log_start_offset);
        self.checkpoint_offsets(HIGH_WATERMARK, Log::high_watermark);
    }

    fn checkpoint_offsets(&self, name: &str, offset: fn(&Log) -> i64) {
        let logs = self.logs();
        for Directory { data, .. } in &self.directories {
            let here = logs.iter().filter(|log| Arc::ptr_eq(log.data_dir(), data));
            let offsets = here
                .map(|log| ((log.topic().to_owned(), log.partition()), offset(log)))
                .collect();
            if data.is_offline() {
                continue;
            }
            let path = data.path().join(name);
            let text = checkpoint::encode_offsets(&offsets);
            let _ = data.note(replace_file(data.disk().as_ref(), &path, text.as_bytes()).attempt("write", &path));
        }
    }

    fn remove_doomed(&self, now_ms: i64) {
        let due: Vec<_> = lock(&self.doomed)
            .extract_if(.., |(due_ms, _, _)| *due_ms <= now_ms)
            .collect();
        for (_, number, path) in due {
            let Some(Directory { data, .. }) = self.directories.get(number) else {
                continue;
            };
            if !data.is_offline() {
                let _ = data.note(data.disk().remove_dir_all(&path).attempt("remove", &path));
            }
        }
    }

    /// Closes all logs, writes the checkpoints and, in each directory where all that went well, the marker of a clean
    /// stop with `broker_epoch`. Then the locks are released. Nothing may be appended any more.
    pub fn close(&self, broker_epoch: i64) {
        self.stop_compacting();
        self.checkpoint_offsets(HIGH_WATERMARK, Log::high_watermark);
        for log in self.logs() {
            let _ = log.close();
        }
        self.checkpoint_offsets(RECOVERY_POINT, Log::recovery_point);
        self.checkpoint_offsets(LOG_START_OFFSET, Log::log_start_offset);
        for Directory { data, lock: held, .. } in &self.directories {
            if !data.is_offline() {
                let path = data.path().join(CLEAN_SHUTDOWN);
                let text = checkpoint::encode_clean_shutdown(broker_epoch);
                let _ = data.note(replace_file(data.disk().as_ref(), &path, text.as_bytes()).attempt("write", &path));
            }
            lock(held).take();
        }
        self.logs_mut().clear();
    }
}

impl LogManager {
    /// Gives up at once, as a killed process does: nothing is flushed, no marker is written, the locks are released.
    /// Nothing may be appended any more.
    pub fn abandon(&self) {
        // A pass that goes on would meet the next owner of the directory.
        self.stop_compacting();
        for log in self.logs() {
            log.lock().closed = true;
        }
        for Directory { lock: held, .. } in &self.directories {
            lock(held).take();
        }
        self.logs_mut().clear();
    }
}

type Prepared = (LockGuard, Option<MetaProperties>, Option<i64>);

/// Creates and locks a data directory, and reads what says whose it is.
fn prepare(disk: &dyn Disk, path: &Path) -> Result<Prepared, ManagerError> {
    disk.create_dir_all(path).attempt("create", path)?;
    let lock_path = path.join(LOCK);
    let guard = match disk.lock(&lock_path) {
        Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
            return Err(ManagerError::Locked(path.to_owned()));
        }
        other => other.attempt("lock", &lock_path)?,
    };
    let meta_path = path.join(META_PROPERTIES);
    let properties = match checkpoint::read(disk, &meta_path)? {
        Some(bytes) => Some(MetaProperties::decode(&bytes).ok_or(ManagerError::GarbledMetaProperties(meta_path))?),
        None => None,
    };
    let marker = checkpoint::read(disk, &path.join(CLEAN_SHUTDOWN))?;
    let clean_epoch = marker.and_then(|bytes| checkpoint::decode_clean_shutdown(&bytes));
    Ok((guard, properties, clean_epoch))
}

/// Compares the directory's owner with ours, or makes it ours. Returns its id.
fn identify(
    data: &DataDir,
    properties: Option<MetaProperties>,
    cluster_id: &str,
    node_id: i32,
) -> Result<Uuid, ManagerError> {
    let path = data.path().to_owned();
    if let Some(found) = &properties {
        if found.cluster_id != cluster_id {
            let (found, expected) = (found.cluster_id.clone(), cluster_id.to_owned());
            return Err(ManagerError::OtherCluster { path, found, expected });
        }
        if found.node_id != node_id {
            return Err(ManagerError::OtherNode {
                path,
                found: found.node_id,
                expected: node_id,
            });
        }
        if let Some(id) = found.directory_id {
            return Ok(id);
        }
    }
    let id = random_uuid();
    let properties = MetaProperties {
        cluster_id: cluster_id.to_owned(),
        node_id,
        directory_id: Some(id),
    };
    let meta_path = path.join(META_PROPERTIES);
    replace_file(data.disk().as_ref(), &meta_path, properties.encode().as_bytes()).attempt("write", &meta_path)?;
    Ok(id)
}

/// Says whether the marker of a clean stop is there, and removes it before anything is written.
fn take_marker(disk: &dyn Disk, dir: &Path) -> Result<bool, StorageError> {
    let path = dir.join(CLEAN_SHUTDOWN);
    let clean = checkpoint::read(disk, &path)?.is_some();
    if clean {
        remove_if_exists(disk, &path).attempt("remove", &path)?;
        disk.sync_dir(dir).attempt("fsync", dir)?;
    }
    Ok(clean)
}

fn read_offsets(disk: &dyn Disk, dir: &Path, name: &str) -> Result<BTreeMap<TopicPartition, i64>, StorageError> {
    let path = dir.join(name);
    let Some(bytes) = checkpoint::read(disk, &path)? else {
        return Ok(BTreeMap::new());
    };
    Ok(checkpoint::decode_offsets(&bytes).unwrap_or_else(|| {
        tracing::warn!(path = %path.display(), "the checkpoint is garbled and taken as absent");
        BTreeMap::new()
    }))
}

/// Splits `orders-0` into topic and partition.
fn parse_directory(name: &str) -> Option<(&str, i32)> {
    let (topic, partition) = name.rsplit_once('-')?;
    let partition = partition.parse().ok().filter(|partition| *partition >= 0)?;
    (!topic.is_empty()).then_some((topic, partition))
}

/// Runs `work` on all items, on a few threads when there are many. Returns the first error.
fn in_parallel<T: Sync>(items: &[T], work: impl Fn(&T) -> Result<(), StorageError> + Sync) -> Result<(), StorageError> {
    const ITEMS_PER_THREAD: usize = 16;
    let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    let threads = cores.min(items.len().div_ceil(ITEMS_PER_THREAD));
    if threads <= 1 {
        return items.iter().try_for_each(work);
    }
    let next = AtomicUsize::new(0);
    let failure = Mutex::new(None);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                while let Some(item) = items.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if let Err(error) = work(item) {
                        lock(&failure).get_or_insert(error);
                    }
                }
            });
        }
    });
    failure
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .map_or(Ok(()), Err)
}

/// A random id. Kafka never hands out one that begins with a dash: it would look like an option on a command line.
fn random_uuid() -> Uuid {
    loop {
        let id = Uuid(rand::random());
        if id != Uuid::ZERO && !id.to_string().starts_with('-') {
            return id;
        }
    }
}
