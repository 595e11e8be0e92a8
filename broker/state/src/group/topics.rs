//! What the group coordinator wants to know of topics.
//!
//! The mind of groups names no controller: whoever knows the topics shows them through [`TopicsImage`].

use ottla_protocol::Uuid;
use std::sync::Arc;

/// A topic as groups see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicView {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: a topic that is deleted and created again has another.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: usize,
}

/// The topics of the cluster at one moment.
pub trait TopicsImage {
    /// Grows with every change of the metadata.
    fn version(&self) -> i64;

    /// The topic with this name.
    fn by_name(&self, name: &str) -> Option<TopicView>;

    /// The topic with this id.
    fn by_id(&self, id: Uuid) -> Option<TopicView>;

    /// Calls `each` with the name of every topic, in their order.
    fn for_each_name(&self, each: &mut dyn FnMut(&Arc<str>));

    /// The racks of the replicas of each partition of a topic, by partition number; those of brokers without a rack are
    /// left out. Empty if there is no such topic.
    fn racks(&self, name: &str) -> Vec<Vec<Arc<str>>>;
}
