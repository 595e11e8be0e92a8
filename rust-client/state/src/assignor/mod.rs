//! Which member of a classic group reads which partition.
//!
//! In: what each member subscribes to, owns and remembers ([`GroupMember`]), and the partitions there are
//! ([`TopicImage`]). Out: an [`Assignment`] for each member. Only the leader of a group runs an assignor. All of it comes
//! from other programs by way of the coordinator, so nothing of it is believed: see [`codec`] for what is put right
//! before an assignor sees it.
//!
//! A new assignor is a type with the trait [`Assignor`]; the names that Kafka's own have are known to [`by_name`].

mod balance;
pub mod codec;
mod racks;
mod range;
mod roundrobin;
mod sticky;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::Uuid;

use crate::TopicPartition;
use crate::metadata::ClusterSnapshot;

pub use range::RangeAssignor;
pub use roundrobin::RoundRobinAssignor;
pub use sticky::{CooperativeStickyAssignor, StickyAssignor, hold_back};

/// How the members of a group let go of partitions when it rebalances (KIP-429).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RebalanceProtocol {
    /// All of them, before they join again.
    Eager,
    /// Only those that move, after they have been told which; then they join once more.
    Cooperative,
}

/// What a topic is to a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupTopic {
    /// The topic's id; [`Uuid::ZERO`] when the brokers do not tell.
    pub id: Uuid,
    /// The number of partitions, numbered from 0.
    pub partitions: u32,
    /// The racks with a replica of each partition, by its number. Shorter than `partitions` where no rack is known.
    pub racks: Vec<BTreeSet<Arc<str>>>,
}

impl GroupTopic {
    /// A topic of so many partitions whose id and racks are not known.
    pub fn of(partitions: u32) -> GroupTopic {
        GroupTopic {
            partitions,
            ..GroupTopic::default()
        }
    }

    /// The numbers of the partitions.
    pub fn numbers(&self) -> std::ops::Range<i32> {
        0..i32::try_from(self.partitions).unwrap_or(i32::MAX)
    }

    /// The racks with a replica of `partition`; `None` where nothing is known.
    pub fn racks_of(&self, partition: i32) -> Option<&BTreeSet<Arc<str>>> {
        let place = usize::try_from(partition).ok()?;
        self.racks.get(place).filter(|racks| !racks.is_empty())
    }
}

/// The topics of the cluster, as far as a group is concerned.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TopicImage {
    topics: BTreeMap<Arc<str>, GroupTopic>,
    absent: BTreeSet<Arc<str>>,
    names: BTreeMap<Uuid, Arc<str>>,
}

impl TopicImage {
    /// No topic known.
    pub fn new() -> TopicImage {
        TopicImage::default()
    }

    /// Adds or replaces a topic.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, topic: GroupTopic) {
        let name = name.into();
        self.absent.remove(&name);
        if topic.id != Uuid::ZERO {
            self.names.insert(topic.id, name.clone());
        }
        self.topics.insert(name, topic);
    }

    /// Notes that the brokers were asked for this topic and do not have it, or do not show it.
    pub fn insert_absent(&mut self, name: impl Into<Arc<str>>) {
        let name = name.into();
        if let Some(topic) = self.topics.remove(&name) {
            self.names.remove(&topic.id);
        }
        self.absent.insert(name);
    }

    /// The topic with this name.
    pub fn get(&self, name: &str) -> Option<&GroupTopic> {
        self.topics.get(name)
    }

    /// The name of the topic with this id.
    pub fn name_of(&self, id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// Whether the brokers have said of this topic what there is to say: its partitions, or that it is not there.
    pub fn is_answered(&self, name: &str) -> bool {
        self.topics.contains_key(name) || self.absent.contains(name)
    }

    /// All topics, in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &GroupTopic)> {
        self.topics.iter()
    }
}

impl From<&ClusterSnapshot> for TopicImage {
    fn from(snapshot: &ClusterSnapshot) -> TopicImage {
        let rack = |node: &i32| snapshot.node(*node).and_then(|node| node.rack.clone());
        let mut image = TopicImage::new();
        for topic in snapshot.topics() {
            let count = topic.partition_count();
            let mut racks = vec![BTreeSet::new(); count];
            for partition in &topic.partitions {
                if let Some(place) = usize::try_from(partition.partition)
                    .ok()
                    .and_then(|at| racks.get_mut(at))
                {
                    *place = partition.replicas.iter().filter_map(rack).collect();
                }
            }
            if racks.iter().all(BTreeSet::is_empty) {
                racks.clear();
            }
            let topic_of_group = GroupTopic {
                id: topic.id,
                partitions: u32::try_from(count).unwrap_or(u32::MAX),
                racks,
            };
            image.insert(topic.name.clone(), topic_of_group);
        }
        for name in snapshot.topics_in_error() {
            if image.get(name).is_none() {
                image.insert_absent(name.clone());
            }
        }
        image
    }
}

/// A member of the group, as its leader sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupMember {
    /// The id that the coordinator gave.
    pub member_id: Arc<str>,
    /// The member's `group.instance.id`, if it is a static member (KIP-345).
    pub group_instance_id: Option<Arc<str>>,
    /// The topics that it subscribes to: in order, each once.
    pub topics: Vec<Arc<str>>,
    /// What the same assignor added on the member's side.
    pub user_data: Option<Bytes>,
    /// The partitions that it says it owns (versions 1 and above of its subscription): each once, no number below zero.
    pub owned: Vec<TopicPartition>,
    /// The generation in which it got them (versions 2 and above); `None` when it does not say.
    pub generation: Option<i32>,
    /// Its `client.rack` (version 3), if it has one.
    pub rack: Option<Arc<str>>,
}

impl GroupMember {
    /// What members are ordered by where the order counts: static members by instance id and before the others, as in
    /// the Java client, so that a restart, which brings a new member id, moves nothing.
    pub fn order(&self) -> (bool, &str) {
        match &self.group_instance_id {
            Some(instance) => (false, instance),
            None => (true, &self.member_id),
        }
    }
}

/// What one member is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Assignment {
    /// The partitions.
    pub partitions: Vec<TopicPartition>,
    /// Bytes for the assignor on the member's side.
    pub user_data: Option<Bytes>,
}

/// What the member held before it joins again.
#[derive(Debug, Clone, Copy)]
pub struct Previous<'a> {
    /// The partitions of its last assignment, even if it has let go of them since.
    pub partitions: &'a [TopicPartition],
    /// The generation of that assignment; -1 if there has been none.
    pub generation: i32,
}

/// Why an assignor gave up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AssignorError(pub Arc<str>);

/// A way to divide the partitions of a classic group.
///
/// Assignors are shared and need no state: the same members and topics give the same assignment.
pub trait Assignor: fmt::Debug + Send + Sync {
    /// The name by which the members of a group agree on it, such as `range`.
    fn name(&self) -> &str;

    /// What it can do; a group whose assignors share several takes the most cooperative one.
    fn protocols(&self) -> &[RebalanceProtocol] {
        &[RebalanceProtocol::Eager]
    }

    /// Bytes that go with the member's subscription to the leader's assignor. Nothing by default.
    fn user_data(&self, _topics: &[Arc<str>], _previous: Previous<'_>) -> Option<Bytes> {
        None
    }

    /// The member's side: what the leader's assignor gave this member in `generation`. Does nothing by default.
    fn assigned(&self, _assignment: &Assignment, _generation: i32) {}

    /// Divides the partitions: for every member of `members`, by its member id.
    ///
    /// A member that is not in the answer gets nothing. Topics that `topics` does not have do not exist.
    ///
    /// # Errors
    /// When no assignment can be made; the group cannot work then, and the application is told.
    fn assign(
        &self,
        members: &[GroupMember],
        topics: &TopicImage,
    ) -> Result<BTreeMap<Arc<str>, Assignment>, AssignorError>;
}

/// Kafka's own assignor with this name (`partition.assignment.strategy` takes it, or the Java class that has it).
pub fn by_name(name: &str) -> Option<Arc<dyn Assignor>> {
    match name.rsplit('.').next().unwrap_or(name) {
        "range" | "RangeAssignor" => Some(Arc::new(RangeAssignor)),
        "roundrobin" | "RoundRobinAssignor" => Some(Arc::new(RoundRobinAssignor)),
        "sticky" | "StickyAssignor" => Some(Arc::new(StickyAssignor)),
        "cooperative-sticky" | "CooperativeStickyAssignor" => Some(Arc::new(CooperativeStickyAssignor)),
        _ => None,
    }
}
