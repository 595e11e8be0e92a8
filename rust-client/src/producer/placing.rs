//! Placing: the partition of a record, where neither murmur2 of its key nor the sticky partition decides.
//!
//! In: a record without a partition, and the picture of the cluster. Out: a partition, or word that the sticky one is
//! meant. It appends nothing and keeps no records.
//!
//! The default rule never comes here; it is in `accumulator`, in line. A choice that was made here stays with its
//! record, however often that has to wait and be tried again: a round robin that turns twice for one record would leave
//! partitions out (KAFKA-9965).

use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use arc_swap::ArcSwap;
use ottla_client_state::metadata::ClusterSnapshot;
use ottla_client_state::partitioner::Partitioner;

use super::accumulator::{Stop, TopicQueues};
use super::shared::Shared;
use crate::config::ProducerConfig;
use crate::error::{Error, ErrorKind};
use crate::record::{Record, Value};

/// A record that names no partition, as the function of
/// [`ProducerBuilder::partitioner`](crate::ProducerBuilder::partitioner) sees it.
#[derive(Debug, Clone, Copy)]
pub struct Unplaced<'a> {
    topic: &'a str,
    key: Option<&'a [u8]>,
    value: Option<&'a [u8]>,
    partitions: i32,
    available: &'a [i32],
    random: u32,
}

impl<'a> Unplaced<'a> {
    /// The topic.
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The key, if it has one.
    pub fn key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value, if it has one.
    pub fn value(&self) -> Option<&'a [u8]> {
        self.value
    }

    /// How many partitions the topic has, at least 1; they are numbered from 0. May grow while the producer lives.
    pub fn partitions(&self) -> i32 {
        self.partitions
    }

    /// The partitions that have a leader at present, in ascending order; may be empty. A record for another one waits for
    /// a leader until `delivery.timeout.ms`.
    pub fn available(&self) -> &'a [i32] {
        self.available
    }

    /// A new random number for each record, for spreading load.
    pub fn random(&self) -> u32 {
        self.random
    }
}

/// What may go wrong in an application's own partitioner.
pub type PartitionerError = Box<dyn std::error::Error + Send + Sync>;

type Choose = dyn Fn(&Unplaced<'_>) -> Result<Option<i32>, PartitionerError> + Send + Sync;

/// An application's own partitioner.
#[derive(Clone)]
pub(super) struct Custom(Arc<Choose>);

impl fmt::Debug for Custom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Custom")
    }
}

impl Custom {
    pub fn new<F>(choose: F) -> Self
    where
        F: Fn(&Unplaced<'_>) -> Result<Option<i32>, PartitionerError> + Send + Sync + 'static,
    {
        Custom(Arc::new(choose))
    }

    /// Asks the application. Whatever it does costs this record at most: no lock is held here, and a panic ends here.
    fn ask(&self, record: &Unplaced<'_>) -> Result<Option<i32>, Error> {
        let Unplaced { topic, partitions, .. } = *record;
        match catch_unwind(AssertUnwindSafe(|| (self.0)(record))) {
            Ok(Ok(Some(partition))) if partition < 0 || partition >= partitions => {
                let text = format!(
                    "the partitioner chose partition {partition} for topic {topic:?}, which has {partitions} partitions"
                );
                Err(Error::new(ErrorKind::Argument, text))
            }
            Ok(Ok(choice)) => Ok(choice),
            Ok(Err(error)) => {
                let text = format!("the partitioner gave no partition of topic {topic:?}: {error}");
                Err(Error::new(ErrorKind::Argument, text).with_shared_source(error.into()))
            }
            Err(panic) => {
                let words = match (panic.downcast_ref::<&str>(), panic.downcast_ref::<String>()) {
                    (Some(words), _) => words,
                    (None, Some(words)) => words.as_str(),
                    (None, None) => "no words",
                };
                let text = format!("the partitioner panicked over a record for topic {topic:?}: {words}");
                Err(Error::new(ErrorKind::Argument, text))
            }
        }
    }
}

/// How one producer places records.
#[derive(Debug)]
pub(super) enum Placing {
    /// By murmur2 of the key; records without a key stick together.
    ByKey,
    /// All records stick together.
    Sticky,
    /// In another way.
    Other(Other),
}

/// A way of placing records that takes a call.
#[derive(Debug)]
pub(super) struct Other {
    /// The application's function. What it leaves open is placed by `rule`.
    custom: Option<Custom>,
    rule: Partitioner,
    ignore_keys: bool,
}

impl Placing {
    pub fn new(config: &ProducerConfig, custom: Option<Custom>) -> Self {
        let ignore_keys = config.partitioner_ignore_keys && config.partitioner == Partitioner::Default;
        match (config.partitioner, custom) {
            (Partitioner::Default, None) if ignore_keys => Placing::Sticky,
            (Partitioner::Default | Partitioner::Murmur2Random, None) => Placing::ByKey,
            (rule, custom) => Placing::Other(Other {
                custom,
                rule,
                ignore_keys,
            }),
        }
    }
}

/// Whose turn it is in one topic, and which partitions take part.
#[derive(Debug, Default)]
pub(super) struct Turns {
    next: AtomicU32,
    available: ArcSwap<Available>,
}

/// The partitions with a leader in one picture of the cluster.
#[derive(Debug, Default)]
struct Available {
    snapshot: Arc<ClusterSnapshot>,
    count: i32,
    partitions: Vec<i32>,
}

impl Turns {
    /// The partitions of `topic` below `count` that have a leader. Found anew only when the picture has changed: this is
    /// asked for each record.
    fn available(&self, shared: &Shared, topic: &str, count: i32) -> Arc<Available> {
        let snapshot = shared.client.metadata();
        let known = self.available.load_full();
        if known.count == count && Arc::ptr_eq(&known.snapshot, &snapshot) {
            return known;
        }
        let led = |partition: &i32| snapshot.leader_of(topic, *partition).is_some();
        let fresh = Arc::new(Available {
            partitions: (0..count).filter(led).collect(),
            snapshot: snapshot.clone(),
            count,
        });
        self.available.store(fresh.clone());
        fresh
    }
}

impl Available {
    /// One of them by a number; if there are none, one of all.
    fn at(&self, number: u32) -> i32 {
        let place = |count: usize| u32::try_from(count).ok().and_then(|count| number.checked_rem(count));
        let all = || place(usize::try_from(self.count).unwrap_or(0)).unwrap_or(0) as i32;
        let chosen = place(self.partitions.len()).and_then(|place| self.partitions.get(place as usize));
        chosen.copied().unwrap_or_else(all)
    }
}

impl TopicQueues {
    /// The partition of a record under [`Placing::Other`], among `count`; `None` for the sticky one. A choice that must
    /// not be made twice is written into the record.
    #[inline(never)] // the way of the default rule stays short
    pub fn place(
        &self,
        shared: &Shared,
        record: &mut Record<'_>,
        count: usize,
        way: &Other,
    ) -> Result<Option<u32>, Stop> {
        let count = i32::try_from(count).unwrap_or(i32::MAX);
        let mut chosen = match &way.custom {
            None => None,
            Some(custom) => self.ask(shared, record, count, custom)?,
        };
        if chosen.is_none() && way.rule == Partitioner::RoundRobin {
            let turn = self.turns.next.fetch_add(1, Ordering::Relaxed);
            chosen = Some(self.turns.available(shared, &self.name, count).at(turn));
        }
        if chosen.is_some() {
            record.partition = chosen;
        } else if way.rule == Partitioner::Random {
            chosen = Some(self.turns.available(shared, &self.name, count).at(self.random()));
        } else if !way.ignore_keys {
            chosen = way.rule.partition_for_key(record.key, count);
        }
        Ok(chosen.and_then(|partition| u32::try_from(partition).ok()))
    }

    fn ask(&self, shared: &Shared, record: &Record<'_>, count: i32, custom: &Custom) -> Result<Option<i32>, Stop> {
        let available = self.turns.available(shared, &self.name, count);
        let unplaced = Unplaced {
            topic: &self.name,
            key: record.key,
            value: record.value.as_ref().map(Value::as_slice),
            partitions: count,
            available: &available.partitions,
            random: self.random(),
        };
        custom.ask(&unplaced).map_err(Stop::Refused)
    }
}
