//! ReplicaManager: the partitions whose records live on this broker.
//!
//! In: assignments (from the controller's image), appends and reads (from the handlers). Out: offsets, batches, and
//! wake-ups of what is parked in the purgatory.
//! A [`Partition`] ties together a `Log` (bytes), a `PartitionState` (decisions) and a `WaitList` (who waits).
//!
//! Locks: the state of a partition is locked during an append, so that leadership cannot change under it, and never
//! across an await. Readers do not take that lock: they see the high watermark and the leader epoch as atomics.

use crate::log::{AppendError, AppendInfo, AppendOrigin, Log, LogSlice, ReadError};
use crate::purgatory::WaitList;
use ottla_broker_state::Time;
use ottla_broker_state::partition::{Assignment, PartitionState, RoleChange};
use ottla_protocol::ErrorCode;
use ottla_protocol::wire::Uuid;
use std::collections::HashMap;
use std::sync::atomic::{AtomicI32, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};

/// No leader epoch, no leader.
const NONE: i32 = -1;

/// Who leads a partition, as a client is told that asked the wrong broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Leadership {
    /// The leader's node id; -1 while there is none.
    pub leader_id: i32,
    /// Its epoch; -1 before the first assignment.
    pub leader_epoch: i32,
}

/// Why a partition did nothing.
#[derive(Debug, thiserror::Error)]
pub enum PartitionError {
    /// NOT_LEADER_OR_FOLLOWER.
    #[error("this broker does not lead the partition")]
    NotLeader(Leadership),
    /// FENCED_LEADER_EPOCH: the client's knowledge is older than ours.
    #[error("the leader epoch given is older than the partition's")]
    FencedEpoch(Leadership),
    /// UNKNOWN_LEADER_EPOCH: the client's knowledge is newer than ours.
    #[error("the leader epoch given is newer than the partition's")]
    UnknownEpoch(Leadership),
    /// NOT_ENOUGH_REPLICAS: `acks=all` and fewer in-sync replicas than `min.insync.replicas`.
    #[error("fewer in-sync replicas than min.insync.replicas")]
    NotEnoughReplicas,
    /// What the log says of an append.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// What the log says of a read.
    #[error(transparent)]
    Read(#[from] ReadError),
}

impl PartitionError {
    /// The code for the response.
    pub fn code(&self) -> ErrorCode {
        match self {
            PartitionError::NotLeader(_) => ErrorCode::NotLeaderOrFollower,
            PartitionError::FencedEpoch(_) => ErrorCode::FencedLeaderEpoch,
            PartitionError::UnknownEpoch(_) => ErrorCode::UnknownLeaderEpoch,
            PartitionError::NotEnoughReplicas => ErrorCode::NotEnoughReplicas,
            PartitionError::Append(error) => error.code(),
            PartitionError::Read(error) => error.code(),
        }
    }

    /// The leader to ask instead, where the code lets the client learn it from the answer.
    pub fn leader_hint(&self) -> Option<Leadership> {
        match self {
            PartitionError::NotLeader(leadership) | PartitionError::FencedEpoch(leadership) => Some(*leadership),
            _ => None,
        }
    }
}

/// One replica on this broker.
#[derive(Debug)]
pub struct Partition {
    index: i32,
    log: Arc<Log>,
    state: Mutex<PartitionState>,
    waiting: WaitList,
    high_watermark: AtomicI64,
    leader_id: AtomicI32,
    /// The leader epoch while we lead; -1 otherwise.
    leading_epoch: AtomicI32,
    leader_epoch: AtomicI32,
}

impl Partition {
    fn new(index: i32, broker_id: i32, log: Arc<Log>) -> Self {
        let state = PartitionState::new(broker_id, log.log_end_offset(), log.high_watermark());
        Partition {
            index,
            log,
            high_watermark: AtomicI64::new(state.high_watermark()),
            state: Mutex::new(state),
            waiting: WaitList::default(),
            leader_id: AtomicI32::new(NONE),
            leading_epoch: AtomicI32::new(NONE),
            leader_epoch: AtomicI32::new(NONE),
        }
    }

    /// The number of the partition in its topic.
    pub fn index(&self) -> i32 {
        self.index
    }

    /// The records.
    pub fn log(&self) -> &Arc<Log> {
        &self.log
    }

    /// Who waits for this partition.
    pub fn waiting(&self) -> &WaitList {
        &self.waiting
    }

    /// Consumers read below this offset.
    pub fn high_watermark(&self) -> i64 {
        self.high_watermark.load(Ordering::SeqCst)
    }

    /// Consumers with `isolation.level=read_committed` read below this offset. Without transactions, that is the high
    /// watermark.
    pub fn last_stable_offset(&self) -> i64 {
        self.high_watermark()
    }

    /// Who leads, as far as this broker knows.
    pub fn leadership(&self) -> Leadership {
        Leadership {
            leader_id: self.leader_id.load(Ordering::SeqCst),
            leader_epoch: self.leader_epoch.load(Ordering::SeqCst),
        }
    }

    /// Checks that we lead, in the epoch the client believes in (-1: it does not say). Returns the leader epoch.
    pub fn check_leader(&self, client_epoch: i32) -> Result<i32, PartitionError> {
        let leadership = self.leadership();
        if client_epoch >= 0 && client_epoch < leadership.leader_epoch {
            return Err(PartitionError::FencedEpoch(leadership));
        }
        if client_epoch > leadership.leader_epoch {
            return Err(PartitionError::UnknownEpoch(leadership));
        }
        match self.leading_epoch.load(Ordering::SeqCst) {
            NONE => Err(PartitionError::NotLeader(leadership)),
            epoch => Ok(epoch),
        }
    }

    /// Appends what a producer sent, and wakes whoever waits for it.
    ///
    /// With `all` (`acks=all`) nothing is written unless enough replicas are in sync.
    pub fn append(&self, records: &[u8], all: bool, now_ms: i64) -> Result<AppendInfo, PartitionError> {
        self.append_locked(&mut lock(&self.state), records, all, AppendOrigin::Client, now_ms)
    }

    /// Appends what a coordinator of this broker has decided in `leader_epoch`, if we still lead in it.
    pub fn append_as_coordinator(
        &self,
        records: &[u8],
        leader_epoch: i32,
        now_ms: i64,
    ) -> Result<AppendInfo, PartitionError> {
        let mut state = lock(&self.state);
        if state.leader_epoch() != leader_epoch {
            return Err(PartitionError::NotLeader(self.leadership()));
        }
        self.append_locked(&mut state, records, true, AppendOrigin::Coordinator, now_ms)
    }

    fn append_locked(
        &self,
        state: &mut PartitionState,
        records: &[u8],
        all: bool,
        origin: AppendOrigin,
        now_ms: i64,
    ) -> Result<AppendInfo, PartitionError> {
        let bytes = records.len();
        if !state.is_leader() {
            return Err(PartitionError::NotLeader(self.leadership()));
        }
        if all && !state.enough_in_sync() {
            return Err(PartitionError::NotEnoughReplicas);
        }
        let appended = self
            .log
            .append_as_leader(records, state.leader_epoch(), origin, now_ms)?;
        let moved = state.appended(appended.last_offset + 1);
        self.publish(moved, bytes as i64);
        Ok(appended)
    }

    /// Makes a new high watermark visible, then wakes: readers look after they have registered, so none is missed.
    fn publish(&self, high_watermark: Option<i64>, bytes: i64) {
        let Some(high_watermark) = high_watermark else { return };
        self.high_watermark.store(high_watermark, Ordering::SeqCst);
        self.log.set_high_watermark(high_watermark);
        self.waiting.committed(high_watermark);
        self.waiting.readable(bytes);
    }

    /// Reads whole batches from `offset` on, below `upper`, up to `max_bytes`.
    ///
    /// With `at_least_one` the first batch comes even if it is larger. `upper` is the high watermark or last stable
    /// offset that the answer tells: read once, so that the answer agrees with itself.
    pub fn read(
        &self,
        offset: i64,
        max_bytes: usize,
        upper: i64,
        at_least_one: bool,
    ) -> Result<LogSlice, PartitionError> {
        let read = self.log.read(offset, max_bytes, upper, at_least_one);
        read.map_err(|error| self.explain(error))
    }

    /// A log that is closed because the partition has left this broker is not a failing disk.
    pub fn explain(&self, error: ReadError) -> PartitionError {
        match (self.check_leader(-1), error) {
            (Err(gone), ReadError::Storage(_)) => gone,
            (_, error) => PartitionError::Read(error),
        }
    }

    /// Takes in an assignment, and wakes everybody if we no longer lead.
    pub fn assign(&self, assignment: Assignment, min_insync_replicas: usize, now: Time) -> RoleChange {
        let mut state = lock(&self.state);
        let change = state.assign(assignment, now);
        state.set_min_insync_replicas(min_insync_replicas);
        self.leader_id.store(state.leader().unwrap_or(NONE), Ordering::SeqCst);
        self.leader_epoch.store(state.leader_epoch(), Ordering::SeqCst);
        let leading = if state.is_leader() { state.leader_epoch() } else { NONE };
        self.leading_epoch.store(leading, Ordering::SeqCst);
        self.high_watermark.store(state.high_watermark(), Ordering::SeqCst);
        self.log.set_high_watermark(state.high_watermark());
        self.waiting.committed(state.high_watermark());
        if change == RoleChange::BecameFollower {
            self.waiting.wake_all();
        }
        change
    }

    /// The partition leaves this broker: nobody leads it here from now on.
    fn retire(&self) {
        let mut state = lock(&self.state);
        let nobody = Assignment {
            leader_epoch: state.leader_epoch(),
            partition_epoch: i32::MAX,
            ..Assignment::default()
        };
        state.assign(nobody, Time::default());
        self.leading_epoch.store(NONE, Ordering::SeqCst);
        self.leader_id.store(NONE, Ordering::SeqCst);
        self.waiting.wake_all();
    }

    /// True when `acks=all` can be promised.
    pub fn enough_in_sync(&self) -> bool {
        lock(&self.state).enough_in_sync()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A topic of which this broker holds at least one replica.
#[derive(Debug)]
pub struct HostedTopic {
    name: Arc<str>,
    id: Uuid,
    /// By partition number. NOT_LEADER_OR_FOLLOWER where all replicas are elsewhere, KAFKA_STORAGE_ERROR where ours
    /// cannot be opened.
    partitions: Vec<Result<Arc<Partition>, ErrorCode>>,
}

impl HostedTopic {
    /// The name.
    pub fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// The topic id.
    pub fn id(&self) -> Uuid {
        self.id
    }

    /// How many partitions the topic has, here or elsewhere.
    pub fn partition_count(&self) -> usize {
        self.partitions.len()
    }

    /// The replica with this partition number.
    ///
    /// UNKNOWN_TOPIC_OR_PARTITION when the topic has no such partition, NOT_LEADER_OR_FOLLOWER when it lives elsewhere,
    /// KAFKA_STORAGE_ERROR when its log cannot be opened.
    pub fn partition(&self, index: i32) -> Result<&Arc<Partition>, ErrorCode> {
        let slot = usize::try_from(index).ok().and_then(|index| self.partitions.get(index));
        slot.map_or(Err(ErrorCode::UnknownTopicOrPartition), |slot| {
            slot.as_ref().map_err(|code| *code)
        })
    }
}

/// One partition of an assignment: its number, who holds it, and the log if we do.
#[derive(Debug)]
pub struct AssignedPartition {
    /// What the controller decided.
    pub assignment: Assignment,
    /// Our replica, or why there is none.
    pub log: Result<Arc<Log>, ErrorCode>,
}

#[derive(Debug, Default)]
struct Topics {
    by_name: HashMap<Arc<str>, Arc<HostedTopic>>,
    by_id: HashMap<Uuid, Arc<HostedTopic>>,
}

/// The partitions on this broker, by topic.
#[derive(Debug)]
pub struct ReplicaManager {
    broker_id: i32,
    topics: RwLock<Topics>,
}

impl ReplicaManager {
    /// An empty broker.
    pub fn new(broker_id: i32) -> Self {
        ReplicaManager {
            broker_id,
            topics: RwLock::default(),
        }
    }

    /// The topic with this name, if a replica of it is here.
    pub fn topic(&self, name: &str) -> Option<Arc<HostedTopic>> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_name
            .get(name)
            .cloned()
    }

    /// The topic with this id, if a replica of it is here.
    pub fn topic_by_id(&self, id: Uuid) -> Option<Arc<HostedTopic>> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .get(&id)
            .cloned()
    }

    /// Takes in all partitions of a topic, in order of their numbers: new ones appear, known ones change.
    pub fn assign_topic(
        &self,
        name: &str,
        id: Uuid,
        partitions: Vec<AssignedPartition>,
        min_insync_replicas: usize,
        now: Time,
    ) {
        let known = self.topic_by_id(id);
        let replica = |(index, assigned): (i32, AssignedPartition)| {
            let known = known.as_ref().and_then(|topic| topic.partition(index).ok());
            let partition = match known {
                Some(partition) => Arc::clone(partition),
                None => Arc::new(Partition::new(index, self.broker_id, assigned.log?)),
            };
            partition.assign(assigned.assignment, min_insync_replicas, now);
            Ok(partition)
        };
        let partitions: Vec<_> = (0..).zip(partitions).map(replica).collect();
        let name: Arc<str> = known
            .as_ref()
            .map_or_else(|| name.into(), |topic| Arc::clone(&topic.name));
        let topic = Arc::new(HostedTopic {
            name: Arc::clone(&name),
            id,
            partitions,
        });
        let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
        topics.by_name.insert(name, Arc::clone(&topic));
        topics.by_id.insert(id, topic);
    }

    /// Forgets a deleted topic. Parked requests are answered with NOT_LEADER_OR_FOLLOWER.
    pub fn remove_topic(&self, id: Uuid) {
        let removed = {
            let mut topics = self.topics.write().unwrap_or_else(PoisonError::into_inner);
            let removed = topics.by_id.remove(&id);
            // The name may already belong to a topic created since.
            if let Some(topic) = &removed
                && topics.by_name.get(&topic.name).is_some_and(|current| current.id == id)
            {
                topics.by_name.remove(&topic.name);
            }
            removed
        };
        for partition in removed.iter().flat_map(|topic| topic.partitions.iter().flatten()) {
            partition.retire();
        }
    }

    /// Every topic that is here.
    pub fn topics(&self) -> Vec<Arc<HostedTopic>> {
        self.topics
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .by_id
            .values()
            .cloned()
            .collect()
    }
}
