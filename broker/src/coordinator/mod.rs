//! The group coordinator: runs the shards of `__consumer_offsets`.
//!
//! In: operations on groups, and changes of the metadata. Out: what the shard of the group decided, and the
//! [`Commit`] that its answer waits for.
//! It decides nothing about groups: that is `ottla_broker_state::group`.
//!
//! Each partition of `__consumer_offsets` that this broker leads has a [`Slot`]. A slot is loaded from its log when
//! leadership arrives (COORDINATOR_LOAD_IN_PROGRESS until then), serves operations in order, and is dropped when
//! leadership goes (NOT_COORDINATOR). A failed append drops the shard as well, and loads it again.
//!
//! The topic is created when somebody first asks for the coordinator of a group.
//!
//! Timers: one task waits for the earliest alarm of all shards. It stands still while the broker is frozen.
//!
//! Memory: all groups and offsets together may weigh [`WEIGHT_MAX`]; above that the shards take in nothing new.

use crate::config::groups::GroupKeys;
use crate::controller::Controller;
use crate::faults::Signals;
use crate::quorum::{MetadataSubscriber, MetadataUpdate};
use crate::replica_manager::{Partition, ReplicaManager};
use arc_swap::ArcSwap;
use ottla_broker_state::Effect;
use ottla_broker_state::controller::topics::NewTopic;
use ottla_broker_state::controller::{ApiError, Change, ClusterImage};
use ottla_broker_state::group::{GroupConfig, GroupRecord, GroupReply, GroupShard, Moment, Outcome, partition_of};
use ottla_protocol::ErrorCode;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;
use tokio::sync::{Notify, oneshot, watch};
use tokio::time::Instant;

mod commit;
mod slot;
mod topics;

pub use commit::{Commit, Promise, Released};
use slot::Slot;
use topics::Topics;

/// Where groups and offsets are kept.
pub const OFFSETS_TOPIC: &str = "__consumer_offsets";

/// What all groups and offsets of a broker may weigh: 256 MiB. A group of ten members weighs 10 KiB, a committed offset
/// 200 bytes, so this is room for tens of thousands of groups, and a bound to what strangers can make the broker keep.
pub const WEIGHT_MAX: usize = 256 << 20;

/// What all slots of a broker share.
#[derive(Debug)]
struct Common {
    keys: GroupKeys,
    started: Instant,
    /// The topics that there are, for the decisions of groups.
    topics: ArcSwap<Topics>,
    /// What all shards weigh.
    weight: AtomicUsize,
    /// When the task of the timers wakes up by itself, in milliseconds since the start.
    wakes_at: AtomicU64,
    /// There is an earlier alarm.
    earlier: Notify,
}

impl Common {
    fn moment(&self) -> Moment {
        let elapsed = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX);
        Moment {
            now: ottla_broker_state::Time(elapsed),
            wall_ms: crate::broker::now_ms(),
            crowded: self.weight.load(Ordering::Relaxed) > WEIGHT_MAX,
        }
    }
}

/// See the head of this file.
#[derive(Debug)]
pub struct Coordinator {
    common: Arc<Common>,
    replicas: Arc<ReplicaManager>,
    /// By partition.
    slots: RwLock<BTreeMap<i32, Arc<Slot>>>,
    /// Loading happens on its blocking threads.
    runtime: tokio::runtime::Handle,
}

impl Coordinator {
    /// A coordinator of no groups yet. To be called within a runtime.
    pub fn new(keys: GroupKeys, replicas: Arc<ReplicaManager>) -> Coordinator {
        Coordinator {
            common: Arc::new(Common {
                keys,
                started: Instant::now(),
                topics: ArcSwap::default(),
                weight: AtomicUsize::new(0),
                wakes_at: AtomicU64::new(u64::MAX),
                earlier: Notify::new(),
            }),
            replicas,
            slots: RwLock::default(),
            runtime: tokio::runtime::Handle::current(),
        }
    }

    /// What the decisions about groups follow.
    pub fn rules(&self) -> &GroupConfig {
        &self.common.keys.rules
    }

    /// Makes sure that `__consumer_offsets` exists.
    ///
    /// # Errors
    /// It cannot be created.
    pub async fn ensure_topic(&self, controller: &Controller) -> Result<(), ApiError> {
        if controller.image().topic(OFFSETS_TOPIC).is_some() {
            return Ok(());
        }
        let keys = &self.common.keys;
        let segment_bytes = keys.topic_segment_bytes.to_string();
        let wish = NewTopic {
            name: OFFSETS_TOPIC,
            partitions: keys.topic_partitions,
            replication_factor: keys.topic_replication_factor,
            assignments: Vec::new(),
            configs: vec![
                ("cleanup.policy", Some("compact")),
                ("compression.type", Some("producer")),
                ("segment.bytes", Some(&segment_bytes)),
            ],
        };
        match controller.create_topics(&[wish], false, 0).await.pop() {
            // Or somebody else was faster.
            Some(Err(error)) if error.code != ErrorCode::TopicAlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// The broker that coordinates `group`, if the topic exists and the group's partition has a leader.
    pub fn leader_of(image: &ClusterImage, group: &str) -> Option<i32> {
        let topic = image.topic(OFFSETS_TOPIC)?;
        topic.partition(partition_of(group, topic.partitions.len())?)?.leader
    }

    /// Does something to the group's shard. The effects have happened, in the order of the calls, when this returns; the
    /// answer may leave when the commit says so.
    ///
    /// # Errors
    /// NOT_COORDINATOR, COORDINATOR_LOAD_IN_PROGRESS, or what kept the records from being written.
    pub fn operate<T>(
        &self,
        group: &str,
        work: impl FnOnce(&mut GroupShard, Moment) -> Effect<GroupRecord, T>,
    ) -> Result<(T, Commit), ErrorCode> {
        let slot = self.slot_of(group)?;
        let done = slot.operate(work);
        self.reload_after_failure(&slot);
        done
    }

    /// The same for what may have to wait for others.
    ///
    /// # Errors
    /// As above.
    pub fn await_outcome<T>(
        &self,
        group: &str,
        work: impl FnOnce(&mut GroupShard, Moment) -> Effect<GroupRecord, Outcome<T>>,
    ) -> Result<Promise<T>, ErrorCode> {
        let slot = self.slot_of(group)?;
        let promised = slot.await_outcome(work);
        self.reload_after_failure(&slot);
        promised
    }

    /// Looks at the group's shard. The answer may leave when everything is committed that it could tell of.
    ///
    /// # Errors
    /// NOT_COORDINATOR or COORDINATOR_LOAD_IN_PROGRESS.
    pub fn look<T>(&self, group: &str, work: impl FnOnce(&GroupShard) -> T) -> Result<(T, Commit), ErrorCode> {
        self.slot_of(group)?.look(work)
    }

    /// Looks at every shard of this broker.
    ///
    /// # Errors
    /// COORDINATOR_LOAD_IN_PROGRESS while any is being loaded.
    pub fn look_at_all<T>(&self, mut work: impl FnMut(&GroupShard) -> T) -> Result<Vec<(T, Commit)>, ErrorCode> {
        let slots: Vec<_> = self.read_slots().values().cloned().collect();
        slots.iter().map(|slot| slot.look(&mut work)).collect()
    }

    fn reload_after_failure(&self, slot: &Arc<Slot>) {
        if slot.begin_reload() {
            let slot = Arc::clone(slot);
            self.runtime.spawn_blocking(move || slot.load());
        }
    }

    fn read_slots(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<i32, Arc<Slot>>> {
        self.slots.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn slot_of(&self, group: &str) -> Result<Arc<Slot>, ErrorCode> {
        let topic = self.replicas.topic(OFFSETS_TOPIC).ok_or(ErrorCode::NotCoordinator)?;
        let partition = partition_of(group, topic.partition_count()).ok_or(ErrorCode::NotCoordinator)?;
        self.read_slots()
            .get(&partition)
            .cloned()
            .ok_or(ErrorCode::NotCoordinator)
    }

    /// Brings the slots in step with what this broker leads of the topic.
    fn follow_leadership(&self) {
        let topic = self.replicas.topic(OFFSETS_TOPIC);
        let partitions = topic.iter().flat_map(|topic| {
            (0..)
                .take(topic.partition_count())
                .filter_map(|index| topic.partition(index).ok())
        });
        let leading: BTreeMap<i32, (i32, Arc<Partition>)> = partitions
            .filter_map(|partition| {
                let epoch = partition.check_leader(-1).ok()?;
                Some((partition.index(), (epoch, Arc::clone(partition))))
            })
            .collect();
        let mut slots = self.slots.write().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|index, slot| {
            let stays = leading
                .get(index)
                .is_some_and(|(epoch, partition)| slot.serves(partition, *epoch));
            if !stays {
                slot.resign();
            }
            stays
        });
        let mut loading = Vec::new();
        for (index, (epoch, partition)) in leading {
            slots.entry(index).or_insert_with(|| {
                let slot = Arc::new(Slot::new(Arc::clone(&self.common), partition, epoch));
                loading.push(Arc::clone(&slot));
                slot
            });
        }
        drop(slots);
        if !loading.is_empty() {
            self.runtime
                .spawn_blocking(move || loading.iter().for_each(|slot| slot.load()));
        }
    }

    fn forget_topic(&self, topic: &str) {
        let slots: Vec<_> = self.read_slots().values().cloned().collect();
        for slot in slots {
            slot.topic_deleted(topic);
            self.reload_after_failure(&slot);
        }
    }

    /// Lets what is due happen, until the broker stops.
    pub async fn keep_time(self: Arc<Self>, mut signals: watch::Receiver<Signals>) {
        loop {
            let thawed = signals.wait_for(|signals| signals.stop || !signals.frozen).await;
            if thawed.map_or(true, |signals| signals.stop) {
                return;
            }
            self.common.wakes_at.store(0, Ordering::SeqCst);
            let slots: Vec<_> = self.read_slots().values().cloned().collect();
            let mut wake_at = u64::MAX;
            for slot in slots {
                wake_at = wake_at.min(slot.handle_timeouts());
                self.reload_after_failure(&slot);
                // A shard may have much to do; the others' requests are served in between.
                tokio::task::yield_now().await;
            }
            self.common.wakes_at.store(wake_at, Ordering::SeqCst);
            // An alarm may have been set while the store had not happened yet.
            let soon = self.read_slots().values().any(|slot| slot.wake_at() < wake_at);
            if soon {
                continue;
            }
            let sleep = async {
                match self.common.started.checked_add(Duration::from_millis(wake_at)) {
                    Some(at) if wake_at != u64::MAX => tokio::time::sleep_until(at).await,
                    _ => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {}
                () = self.common.earlier.notified() => {}
                stopped = signals.wait_for(|signals| signals.stop || signals.frozen) => {
                    if stopped.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

impl MetadataSubscriber for Coordinator {
    fn metadata_changed(&self, update: &MetadataUpdate) {
        self.common.topics.store(Arc::new(Topics(Arc::clone(&update.image))));
        let mut concerns_us = false;
        for change in &update.changes {
            match change {
                Change::TopicDeleted { topic } if &*topic.name == OFFSETS_TOPIC => concerns_us = true,
                Change::TopicDeleted { topic } => self.forget_topic(&topic.name),
                Change::TopicCreated { topic, .. }
                | Change::PartitionCreated { topic, .. }
                | Change::PartitionChanged { topic, .. } => concerns_us |= &**topic == OFFSETS_TOPIC,
                _ => {}
            }
        }
        if concerns_us {
            self.follow_leadership();
        }
    }
}

/// What a ticket's answer is sent through.
type Waiting = oneshot::Sender<Released<GroupReply>>;
