//! One shard at work: a partition of `__consumer_offsets` that this broker leads.
//!
//! In: operations, alarms. Out: records in the partition's log, and answers in order.
//! The lock is held from a decision until its records are in the log and replayed, so that the next decision is made
//! upon them. It is never held across an await, and the log's own lock is taken inside of it.

use super::{Commit, Common, Promise, Released, Waiting};
use crate::replica_manager::{Partition, PartitionError};
use ottla_broker_state::Effect;
use ottla_broker_state::group::{GroupRecord, GroupShard, Moment, Outcome, Ticket};
use ottla_protocol::ErrorCode;
use ottla_protocol::records::{
    Decompressor, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, RecordBatch, RecordBatchBuilder, RecordBatches,
};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::oneshot;
use tracing::{error, info, warn};

/// The most a batch of the log may unfold to while it is loaded.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// How many alarms are handled before other operations get their turn.
const ALARMS_AT_ONCE: usize = 100;

/// See the head of this file.
#[derive(Debug)]
pub(super) struct Slot {
    common: Arc<Common>,
    partition: Arc<Partition>,
    epoch: i32,
    state: Mutex<State>,
}

#[derive(Debug)]
enum State {
    /// The log is being read.
    Loading,
    /// At work.
    Active(Box<Active>),
    /// Records could not be written, so the shard was thrown away. To be loaded again.
    Failed,
    /// Another broker leads, or the log cannot be read.
    Gone,
}

#[derive(Debug)]
struct Active {
    shard: GroupShard,
    /// Requests that wait for other members.
    waiting: HashMap<Ticket, Waiting>,
    /// One past the last record that was written.
    end: i64,
    /// What is counted of the shard in the weight of all.
    weight: usize,
}

impl Slot {
    pub(super) fn new(common: Arc<Common>, partition: Arc<Partition>, epoch: i32) -> Slot {
        Slot {
            common,
            partition,
            epoch,
            state: Mutex::new(State::Loading),
        }
    }

    /// Whether this is the slot of that replica in that epoch.
    pub(super) fn serves(&self, partition: &Arc<Partition>, epoch: i32) -> bool {
        Arc::ptr_eq(&self.partition, partition) && self.epoch == epoch
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads the log. Blocks.
    pub(super) fn load(&self) {
        let loaded = self.read_log();
        let mut state = self.lock();
        if !matches!(*state, State::Loading) {
            return;
        }
        match loaded {
            Ok(mut shard) => {
                let moment = self.common.moment();
                shard.handle_topics(self.common.topics.load_full());
                let effect = shard.loaded(moment);
                let groups = shard.group_count();
                let mut active = Active {
                    shard,
                    waiting: HashMap::new(),
                    end: self.partition.log().log_end_offset(),
                    weight: 0,
                };
                if self.take(&mut active, effect, moment).is_ok() {
                    *state = State::Active(Box::new(active));
                    info!(partition = self.partition.index(), groups, "loaded the groups");
                } else {
                    self.drop_weight(&active);
                    *state = State::Gone;
                }
            }
            Err(problem) => {
                error!(
                    partition = self.partition.index(),
                    "the groups cannot be loaded: {problem}"
                );
                *state = State::Gone;
            }
        }
    }

    fn read_log(&self) -> Result<GroupShard, String> {
        let mut shard = GroupShard::new(Arc::new(self.common.keys.rules.clone()));
        let moment = self.common.moment();
        let log = self.partition.log();
        let end = log.log_end_offset();
        let mut offset = log.log_start_offset();
        let mut scratch = Decompressor::new();
        while offset < end {
            let slice = log
                .read(offset, self.common.keys.load_buffer_bytes, end, true)
                .map_err(|error| error.to_string())?;
            let before = offset;
            for run in &slice.batches {
                for batch in RecordBatches::new(run) {
                    let batch = batch.map_err(|error| format!("after offset {offset}: {error}"))?;
                    offset = batch.next_offset();
                    replay_batch(&mut shard, &batch, &mut scratch, moment)?;
                }
            }
            if offset == before {
                break;
            }
        }
        Ok(shard)
    }

    /// No more operations: another broker leads. Whoever waits is told.
    pub(super) fn resign(&self) {
        self.become_gone(&mut self.lock());
    }

    fn become_gone(&self, state: &mut State) {
        if let State::Active(active) = std::mem::replace(state, State::Gone) {
            self.drop_weight(&active);
        }
    }

    fn drop_weight(&self, active: &Active) {
        self.common.weight.fetch_sub(active.weight, Ordering::Relaxed);
    }

    pub(super) fn operate<T>(
        &self,
        work: impl FnOnce(&mut GroupShard, Moment) -> Effect<GroupRecord, T>,
    ) -> Result<(T, Commit), ErrorCode> {
        self.work(work, |_, _| ())
    }

    pub(super) fn await_outcome<T>(
        &self,
        work: impl FnOnce(&mut GroupShard, Moment) -> Effect<GroupRecord, Outcome<T>>,
    ) -> Result<Promise<T>, ErrorCode> {
        let mut later = None;
        let (outcome, commit) = self.work(work, |active, outcome| {
            if let Outcome::Parked(ticket) = outcome {
                let (sender, receiver) = oneshot::channel();
                active.waiting.insert(*ticket, sender);
                later = Some(receiver);
            }
        })?;
        Ok(match (outcome, later) {
            (Outcome::Now(reply), _) => Promise::Now(Released { reply, commit }),
            (Outcome::Parked(_), Some(receiver)) => Promise::Later(receiver),
            // Not reached: a receiver was made for every ticket.
            (Outcome::Parked(_), None) => return Err(ErrorCode::NotCoordinator),
        })
    }

    /// Carries out one operation. `before` sees its reply before answers that have become possible are sent.
    fn work<T>(
        &self,
        work: impl FnOnce(&mut GroupShard, Moment) -> Effect<GroupRecord, T>,
        before: impl FnOnce(&mut Active, &T),
    ) -> Result<(T, Commit), ErrorCode> {
        let mut state = self.lock();
        let State::Active(active) = &mut *state else {
            return Err(unavailable(&state));
        };
        let moment = self.common.moment();
        self.show_topics(active);
        let effect = work(&mut active.shard, moment);
        before(active, &effect.reply);
        let taken = self.take(active, effect, moment);
        self.settle(&mut state, taken)
    }

    fn show_topics(&self, active: &mut Active) {
        active.shard.handle_topics(self.common.topics.load_full());
    }

    pub(super) fn look<T>(&self, work: impl FnOnce(&GroupShard) -> T) -> Result<(T, Commit), ErrorCode> {
        let mut state = self.lock();
        let State::Active(active) = &mut *state else {
            return Err(unavailable(&state));
        };
        self.show_topics(active);
        Ok((work(&active.shard), self.commit(active.end, false)))
    }

    pub(super) fn topic_deleted(&self, topic: &str) {
        let deleted = self.operate(|shard, _| shard.delete_offsets_of_topic(topic));
        if let Err(code) = deleted {
            // Offsets of a topic with another id are not given out, and expire.
            warn!(topic, code = code.name(), "the offsets of a deleted topic stay for now");
        }
    }

    /// Handles what is due. Gives the time of the next alarm, in milliseconds since the start.
    pub(super) fn handle_timeouts(&self) -> u64 {
        let mut state = self.lock();
        for _ in 0..ALARMS_AT_ONCE {
            let State::Active(active) = &mut *state else {
                return u64::MAX;
            };
            let moment = self.common.moment();
            self.show_topics(active);
            let Some(effect) = active.shard.handle_timeout(moment) else {
                break;
            };
            let taken = self.take(active, effect, moment);
            if self.settle(&mut state, taken).is_err() {
                return u64::MAX;
            }
        }
        wake_at(&state)
    }

    /// When the next alarm is due, in milliseconds since the start.
    pub(super) fn wake_at(&self) -> u64 {
        wake_at(&self.lock())
    }

    /// Writes the effect's records, replays them, and sends the answers that have become possible.
    fn take<T>(
        &self,
        active: &mut Active,
        effect: Effect<GroupRecord, T>,
        moment: Moment,
    ) -> Result<(T, Commit), ErrorCode> {
        let mut flush = false;
        if !effect.records.is_empty() {
            let batch = self.encode(&effect.records, moment.wall_ms).map_err(|problem| {
                error!(
                    partition = self.partition.index(),
                    "records of groups cannot be encoded: {problem}"
                );
                ErrorCode::UnknownServerError
            })?;
            let appended = self.partition.append_as_coordinator(&batch, self.epoch, moment.wall_ms);
            let appended = appended.map_err(|error| append_error(&self.partition, &error))?;
            active.end = appended.last_offset + 1;
            flush = appended.flush_due;
            for record in &effect.records {
                active.shard.replay(record, moment);
            }
        }
        let commit = self.commit(active.end, flush);
        while let Some((ticket, reply)) = active.shard.next_reply() {
            if let Some(waiting) = active.waiting.remove(&ticket) {
                let commit = commit.clone();
                // Nobody may be there any more.
                let _ = waiting.send(Released { reply, commit });
            }
        }
        let weight = active.shard.weight();
        self.common.weight.fetch_add(weight, Ordering::Relaxed);
        self.common.weight.fetch_sub(active.weight, Ordering::Relaxed);
        active.weight = weight;
        let wake_at = active.shard.wake_at().map_or(u64::MAX, |at| at.0);
        if wake_at < self.common.wakes_at.load(Ordering::SeqCst) {
            self.common.earlier.notify_one();
        }
        Ok((effect.reply, commit))
    }

    /// After an append that failed, the shard is ahead of its log: it is thrown away, and loaded again if we still lead.
    fn settle<T>(&self, state: &mut State, taken: Result<T, ErrorCode>) -> Result<T, ErrorCode> {
        if taken.is_err() {
            self.become_gone(state);
            if self.partition.check_leader(self.epoch).is_ok() {
                *state = State::Failed;
            }
        }
        taken
    }

    /// True once after a failure: the caller sees to it that the slot is loaded again.
    pub(super) fn begin_reload(&self) -> bool {
        let mut state = self.lock();
        let failed = matches!(*state, State::Failed);
        if failed {
            *state = State::Loading;
        }
        failed
    }

    fn commit(&self, end: i64, flush: bool) -> Commit {
        Commit {
            partition: Arc::clone(&self.partition),
            epoch: self.epoch,
            end,
            flush,
            timeout: Duration::from_millis(self.common.keys.commit_timeout_ms),
        }
    }

    fn encode(&self, records: &[GroupRecord], wall_ms: i64) -> Result<Vec<u8>, String> {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        for record in records {
            let (key, value) = record.encode().map_err(|error| error.to_string())?;
            let appended = builder.append(wall_ms, Some(&key), value.as_deref(), &[]);
            appended.map_err(|error| error.to_string())?;
        }
        let sealed = builder.seal(self.common.keys.topic_compression, None);
        let mut batch = sealed.map_err(|error| error.to_string())?;
        batch.stamp(NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE, false);
        Ok(batch.to_vec())
    }
}

fn wake_at(state: &State) -> u64 {
    match state {
        State::Active(active) => active.shard.wake_at().map_or(u64::MAX, |at| at.0),
        State::Loading | State::Failed | State::Gone => u64::MAX,
    }
}

fn unavailable(state: &State) -> ErrorCode {
    match state {
        State::Loading | State::Failed => ErrorCode::CoordinatorLoadInProgress,
        State::Active(_) | State::Gone => ErrorCode::NotCoordinator,
    }
}

/// What a client is told when records of its group cannot be written; as in Kafka.
fn append_error(partition: &Partition, error: &PartitionError) -> ErrorCode {
    warn!(
        partition = partition.index(),
        "records of groups cannot be written: {error}"
    );
    match error.code() {
        ErrorCode::NotEnoughReplicas | ErrorCode::RequestTimedOut | ErrorCode::UnknownTopicOrPartition => {
            ErrorCode::CoordinatorNotAvailable
        }
        ErrorCode::NotLeaderOrFollower | ErrorCode::KafkaStorageError | ErrorCode::FencedLeaderEpoch => {
            ErrorCode::NotCoordinator
        }
        _ => ErrorCode::UnknownServerError,
    }
}

fn replay_batch(
    shard: &mut GroupShard,
    batch: &RecordBatch<'_>,
    scratch: &mut Decompressor,
    moment: Moment,
) -> Result<(), String> {
    if batch.is_control() {
        return Ok(());
    }
    let at = batch.base_offset();
    let records = batch.records(scratch, BATCH_BYTES_MAX);
    for record in records.map_err(|error| format!("at offset {at}: {error}"))? {
        let record = record.map_err(|error| format!("at offset {at}: {error}"))?;
        let offset = record.offset;
        let Some(key) = record.key() else {
            warn!(offset, "a record of groups without a key is skipped");
            continue;
        };
        match GroupRecord::decode(key, record.value()) {
            Ok(Some(record)) => shard.replay(&record, moment),
            Ok(None) => warn!(offset, "a record of an unknown kind of group is skipped"),
            Err(error) => return Err(format!("at offset {offset}: {error}")),
        }
    }
    Ok(())
}
