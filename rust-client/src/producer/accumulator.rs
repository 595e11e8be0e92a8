//! The accumulator: where records wait for company.
//!
//! In: a record and what its sender wants to hear of it. Out: that (a ticket, say), and word to whoever sends that there is work.
//! It does not know sequences and does not send. It chooses a partition only in so far as it asks the partitioner.
//!
//! One queue for each partition under a lock of its own; appending a record takes that lock once and writes the bytes
//! straight into the batch. A record that begins a batch also needs a buffer from the pool; if there is none the
//! caller is told to wait, outside of all locks.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use arc_swap::ArcSwap;
use ottla_client_state::partition_queue::{PartitionQueue, QueueConfig};
use ottla_client_state::partitioner::{StickyPartition, choose, choose_by_load, partition_for_key};
use ottla_protocol::records::{BATCH_HEADER_LEN, RecordBatchBuilder, RecordError};

use super::claim::{Claim, Claims};
use super::delivery::Cell;
use super::placing::{Placing, Turns};
use super::sender::Handle;
use super::shared::Shared;
use super::watch::{Seen, TopicMeters};
use crate::error::{Error, ErrorKind};
use crate::record::{Record, TopicPartition, Value};

/// Batches that may wait in a partition before a caller who does nothing but send lets others run for a moment.
const BATCHES_BEFORE_YIELD: usize = 8;

/// The partitions of a topic, by number.
type Partitions = boxcar::Vec<Arc<Partition>>;

/// A topic that records are sent to.
#[derive(Debug)]
pub(super) struct TopicQueues {
    pub name: Arc<str>,
    pub meters: Arc<TopicMeters>,
    /// Grows and never shrinks, so finding a partition takes no lock and no reference count.
    partitions: Partitions,
    growing: Mutex<()>,
    sticky: StickyPartition,
    pub turns: Turns,
    random: AtomicU64,
}

/// A partition that records are sent to.
#[derive(Debug)]
pub(super) struct Partition {
    pub id: Arc<TopicPartition>,
    pub seen: Seen,
    slot: Mutex<Slot>,
    /// Batches that wait, and since when in milliseconds (0: none waits), as of the last change that mattered. Read
    /// without the lock, by the partitioner.
    backlog: AtomicU32,
    waiting_since: AtomicU64,
}

/// What the lock of a partition guards.
#[derive(Debug)]
pub(super) struct Slot {
    pub queue: PartitionQueue<Arc<Cell>>,
    /// Who sends for this partition at present. Exactly one at a time, and none while there is nothing to send.
    pub server: Option<Arc<Handle>>,
    /// The producer is closed: nothing may be appended any more.
    pub closed: bool,
    /// What is to be told of the records in the open batch.
    pub claims: Claims,
    /// Why the client itself gave up on a batch, for its tickets.
    pub refusal: Option<Error>,
    /// The broker that refused or lost the last attempt, and the version of the request, for the errors.
    pub asked: Option<(Arc<str>, i16)>,
}

impl Partition {
    pub fn new(id: TopicPartition, config: QueueConfig, meters: Arc<TopicMeters>) -> Self {
        let queue = PartitionQueue::new(config);
        Partition {
            seen: Seen::new(meters),
            backlog: AtomicU32::new(0),
            waiting_since: AtomicU64::new(0),
            id: Arc::new(id),
            slot: Mutex::new(Slot {
                queue,
                claims: Claims::default(),
                server: None,
                closed: false,
                refusal: None,
                asked: None,
            }),
        }
    }

    /// Shows the partitioner how loaded this partition is.
    pub fn show_load(&self, slot: &Slot) {
        self.backlog.store(
            u32::try_from(slot.queue.backlog()).unwrap_or(u32::MAX),
            Ordering::Relaxed,
        );
        let since = slot.queue.waiting_since().map_or(0, |time| time.0.max(1));
        self.waiting_since.store(since, Ordering::Relaxed);
    }

    #[inline]
    pub fn lock(&self) -> MutexGuard<'_, Slot> {
        // The queue's operations do not panic; if one did, the batches in it still have to be completed.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a record was not appended at once.
#[derive(Debug)]
pub(super) enum Stop {
    /// The partition needs a buffer with this much room, and there is none.
    NeedsRoom {
        /// Bytes.
        room: usize,
    },
    /// Many batches wait already: let others run, then come again.
    Yield,
    /// The topic has no partition with this number, as far as is known.
    UnknownPartition(i32),
    /// The record cannot be sent.
    Refused(Error),
}

impl TopicQueues {
    pub fn new(name: Arc<str>, seed: u64) -> Self {
        TopicQueues {
            name,
            meters: Arc::default(),
            partitions: Partitions::new(),
            growing: Mutex::default(),
            sticky: StickyPartition::new(),
            turns: Turns::default(),
            random: AtomicU64::new(seed | 1),
        }
    }

    /// All partitions known so far.
    pub fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.partitions.iter().map(|(_, partition)| partition)
    }

    /// How many there are.
    #[inline]
    pub fn partition_count(&self) -> u32 {
        u32::try_from(self.partitions.count()).unwrap_or(u32::MAX)
    }

    /// Makes sure that there are queues for `count` partitions. Partitions are added and never taken away: what is
    /// queued for them has its sequences, and a topic that is missing from the metadata for a moment comes back.
    pub fn grow(&self, count: usize, config: QueueConfig) {
        if self.partitions.count() >= count {
            return;
        }
        // Two that grow it at once would both add the same numbers.
        let _growing = self.growing.lock().unwrap_or_else(PoisonError::into_inner);
        for index in self.partitions.count()..count {
            let id = TopicPartition::new(self.name.clone(), i32::try_from(index).unwrap_or(i32::MAX));
            self.partitions
                .push(Arc::new(Partition::new(id, config, self.meters.clone())));
        }
    }

    /// A number from a small generator of this topic's own (splitmix64): it spreads load, it keeps no secrets.
    pub fn random(&self) -> u32 {
        let mut word = self.random.fetch_add(0x9e37_79b9_7f4a_7c15, Ordering::Relaxed);
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (word >> 32) as u32
    }

    /// The partition for the next records without a key.
    fn choose(&self, shared: &Shared) -> u32 {
        let snapshot = shared.client.metadata();
        let count = self.partition_count();
        let led = |partition: u32| snapshot.leader_of(&self.name, partition as i32).is_some();
        if !shared.config.partitioner_adaptive {
            return choose(self.random(), count, led);
        }
        let patience = shared.config.partitioner_availability_timeout_ms;
        let now = shared.client.now().0;
        let stuck = |partition: &Partition| {
            let since = partition.waiting_since.load(Ordering::Relaxed);
            patience > 0 && since > 0 && now.saturating_sub(since) > patience.saturating_add(shared.queue.linger_ms)
        };
        let waiting: Vec<Option<u32>> = (0..count)
            .zip(self.partitions())
            .map(|(index, partition)| {
                (led(index) && !stuck(partition)).then(|| partition.backlog.load(Ordering::Relaxed))
            })
            .collect();
        let random = self.random();
        choose_by_load(random, &waiting).unwrap_or_else(|| choose(random, count, led))
    }

    /// Appends a record, if that is possible without waiting.
    ///
    /// `buffer`: room that the caller has waited for, to be given back if it is not needed. `yielded`: the caller has
    /// let others run already. A record that is to be tried again keeps the partition it was given, in `record`.
    #[inline]
    pub fn append<C: Claim>(
        &self,
        shared: &Arc<Shared>,
        record: &mut Record<'_>,
        claim: C,
        buffer: &mut Option<(Vec<u8>, usize)>,
        yielded: bool,
    ) -> Result<C::Of, Stop> {
        let mut switched = false;
        loop {
            let (index, sticky) = self.partition_of(shared, record)?;
            let Some(partition) = self.partitions.get(index as usize) else {
                return Err(Stop::UnknownPartition(index as i32));
            };
            let mut slot = partition.lock();
            if sticky && self.sticky.current() != Some(index) {
                continue; // somebody moved on between our look and our lock
            }
            let timestamp = record.timestamp.unwrap_or_else(|| shared.client.wall_ms());
            let value = record.value.as_ref().map(Value::as_slice);
            let Slot { queue, claims, .. } = &mut *slot;
            match queue.append(timestamp, record.key, value, &record.headers) {
                Ok(Some(appended)) => {
                    let claimed = claimed(shared, claim, claims, appended.tickets, appended.index, timestamp);
                    if sticky {
                        let produced = self.sticky.add(index, appended.bytes);
                        if StickyPartition::is_overdue(produced, shared.queue.batch_size) {
                            self.sticky.switch(Some(index), self.choose(shared));
                        }
                    }
                    return Ok(claimed);
                }
                Ok(None) => {}
                Err(error) => return Err(Stop::Refused(unwritable(&error))),
            }
            let size = batch_size_of(record);
            if sticky && !switched && self.sticky.is_due(size, shared.queue.batch_size) {
                switched = true;
                self.sticky.switch(Some(index), self.choose(shared));
                continue;
            }
            return self
                .begin(shared, partition, slot, record, claim, timestamp, size, buffer, yielded)
                .inspect(|_| {
                    if sticky {
                        self.sticky.add(index, size);
                    }
                });
        }
    }

    /// The partition of a record, and whether it is the sticky one.
    #[inline]
    fn partition_of(&self, shared: &Shared, record: &mut Record<'_>) -> Result<(u32, bool), Stop> {
        if let Some(partition) = record.partition {
            return Ok((partition as u32, false));
        }
        let chosen = match &shared.placing {
            Placing::ByKey => record.key.map(|key| partition_for_key(key, self.partition_count())),
            Placing::Sticky => None,
            Placing::Other(way) => self.place(shared, record, self.partitions.count(), way)?,
        };
        if let Some(partition) = chosen {
            return Ok((partition, false));
        }
        Ok(match self.sticky.current() {
            Some(partition) => (partition, true),
            None => {
                self.sticky.switch(None, self.choose(shared));
                (self.sticky.current().unwrap_or(0), true)
            }
        })
    }

    /// Begins a batch with this record.
    #[allow(clippy::too_many_arguments)] // the parts of one decision, handed on once
    fn begin<C: Claim>(
        &self,
        shared: &Arc<Shared>,
        partition: &Arc<Partition>,
        mut slot: MutexGuard<'_, Slot>,
        record: &Record<'_>,
        claim: C,
        timestamp: i64,
        size: usize,
        buffer: &mut Option<(Vec<u8>, usize)>,
        yielded: bool,
    ) -> Result<C::Of, Stop> {
        if slot.closed || shared.is_closed() {
            return Err(Stop::Refused(Error::closed("producer")));
        }
        check_size(shared, partition, size)?;
        if !yielded && slot.queue.waiting_more_than(BATCHES_BEFORE_YIELD) {
            return Err(Stop::Yield);
        }
        let needed = shared.pool.room_for(size);
        let (vec, room) = match buffer.take_if(|(_, room)| *room >= needed) {
            Some(brought) => brought,
            None => match shared.pool.try_take(needed) {
                Some(vec) => (vec, needed),
                None => return Err(Stop::NeedsRoom { room: needed }),
            },
        };
        let cell = Arc::new(Cell::new(partition.id.clone(), room));
        let now = shared.client.now();
        let value = record.value.as_ref().map(Value::as_slice);
        let Slot { queue, claims, .. } = &mut *slot;
        let begun = queue.append_new(vec, cell, now, timestamp, record.key, value, &record.headers);
        let (claimed, wake) = match begun {
            Ok(appended) => {
                let claimed = claimed(shared, claim, claims, appended.tickets, appended.index, timestamp);
                (claimed, appended.wake)
            }
            Err((error, vec)) => {
                shared.pool.give_back(vec, room);
                return Err(Stop::Refused(unwritable(&error)));
            }
        };
        partition.show_load(&slot);
        let server = slot.server.clone();
        drop(slot);
        shared.client.touch_topic(&self.name);
        match server {
            Some(server) if wake => server.wake(),
            Some(_) => {}
            None => shared.route(partition),
        }
        Ok(claimed)
    }
}

/// What the sender of a record gets, now that it has its place. Observers of records hear of this one when it completes.
#[inline]
fn claimed<C: Claim>(
    shared: &Shared,
    claim: C,
    claims: &mut Claims,
    cell: &Arc<Cell>,
    index: u32,
    timestamp: i64,
) -> C::Of {
    if shared.watch.observers().want_records() {
        cell.watch(index, timestamp);
    }
    claim.on(claims, cell, index, timestamp)
}

/// The most bytes that a batch of this record alone takes.
fn batch_size_of(record: &Record<'_>) -> usize {
    let value = record.value.as_ref().map(Value::as_slice);
    RecordBatchBuilder::size_upper_bound(record.key, value, &record.headers).saturating_add(BATCH_HEADER_LEN)
}

fn check_size(shared: &Shared, partition: &Partition, size: usize) -> Result<(), Stop> {
    let (key, limit) = if size > shared.config.max_request_size {
        ("max.request.size", shared.config.max_request_size)
    } else if size > shared.pool.total() {
        ("buffer.memory", shared.pool.total())
    } else {
        return Ok(());
    };
    let text = format!(
        "a record of up to {size} bytes for {} exceeds {key} ({limit})",
        partition.id
    );
    Err(Stop::Refused(Error::new(ErrorKind::TooLarge, text)))
}

fn unwritable(error: &RecordError) -> Error {
    Error::new(ErrorKind::Argument, format!("the record cannot be written: {error}"))
}

/// The topics of one producer. They are added and never taken away.
#[derive(Debug, Default)]
pub(super) struct Topics {
    /// The first ones: most producers have no others, and these are found without a hash and without guarding the table.
    early: [OnceLock<Arc<TopicQueues>>; 4],
    table: ArcSwap<HashMap<Arc<str>, Arc<TopicQueues>, Hasher>>,
    adding: Mutex<()>,
}

impl Topics {
    #[inline]
    fn early(&self, name: &str) -> Option<&Arc<TopicQueues>> {
        let mut early = self.early.iter().map_while(OnceLock::get);
        early.find(|topic| *topic.name == *name)
    }

    /// The topic, if records were sent to it before.
    #[inline]
    pub fn get(&self, name: &str) -> Option<Arc<TopicQueues>> {
        self.with(name, Arc::clone)
    }

    /// Does something with the topic, if records were sent to it before; saves a reference count for each record.
    #[inline]
    pub fn with<R>(&self, name: &str, then: impl FnOnce(&Arc<TopicQueues>) -> R) -> Option<R> {
        match self.early(name) {
            Some(topic) => Some(then(topic)),
            None => self.table.load().get(name).map(then),
        }
    }

    /// The topic, new or not, with queues for at least `count` partitions.
    pub fn get_or_add(&self, name: &str, count: usize, config: QueueConfig, seed: u64) -> Arc<TopicQueues> {
        if let Some(known) = self.get(name) {
            known.grow(count, config);
            return known;
        }
        // Whoever finds it finds its queues as well.
        let fresh = Arc::new(TopicQueues::new(Arc::from(name), seed));
        fresh.grow(count, config);
        self.add(fresh)
    }

    fn add(&self, fresh: Arc<TopicQueues>) -> Arc<TopicQueues> {
        // Two that add the same one would each have queues of their own for it.
        let _adding = self.adding.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = self.get(&fresh.name) {
            return known;
        }
        let mut table = HashMap::clone(&self.table.load());
        table.insert(fresh.name.clone(), fresh.clone());
        self.table.store(Arc::new(table));
        if let Some(free) = self.early.iter().find(|slot| slot.get().is_none()) {
            // It is set under the lock only.
            let _ = free.set(fresh.clone());
        }
        fresh
    }

    /// All topics.
    pub fn all(&self) -> Vec<Arc<TopicQueues>> {
        self.table.load().values().cloned().collect()
    }

    /// All partitions of all topics.
    pub fn all_partitions(&self) -> Vec<Arc<Partition>> {
        self.all()
            .iter()
            .flat_map(|topic| topic.partitions().cloned().collect::<Vec<_>>())
            .collect()
    }
}

/// FNV-1a: the application chooses its topics' names itself, so nobody can aim at collisions, and a name is hashed for
/// each record.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fnv(u64);

/// Makes [`Fnv`] hashers.
pub(super) type Hasher = std::hash::BuildHasherDefault<Fnv>;

impl Default for Fnv {
    fn default() -> Self {
        Fnv(0xcbf2_9ce4_8422_2325)
    }
}

impl std::hash::Hasher for Fnv {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = (self.0 ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}
