//! The cluster's topics, as groups want to see them.

use ottla_broker_state::controller::{ClusterImage, TopicImage};
use ottla_broker_state::group::topics::{TopicView, TopicsImage};
use ottla_protocol::Uuid;
use std::sync::Arc;

/// A snapshot of the metadata.
#[derive(Debug, Default)]
pub(super) struct Topics(pub(super) Arc<ClusterImage>);

impl TopicsImage for Topics {
    fn version(&self) -> i64 {
        self.0.offset()
    }

    fn by_name(&self, name: &str) -> Option<TopicView> {
        self.0.topic(name).map(|topic| view(topic))
    }

    fn by_id(&self, id: Uuid) -> Option<TopicView> {
        self.0.topic_by_id(id).map(|topic| view(topic))
    }

    fn for_each_name(&self, each: &mut dyn FnMut(&Arc<str>)) {
        self.0.topics().for_each(|topic| each(&topic.name));
    }

    fn racks(&self, name: &str) -> Vec<Vec<Arc<str>>> {
        let rack = |id: &i32| self.0.broker(*id)?.rack.as_deref().map(Arc::from);
        let partitions = self.0.topic(name).into_iter().flat_map(|topic| &topic.partitions);
        partitions
            .map(|partition| partition.replicas.iter().filter_map(rack).collect())
            .collect()
    }
}

fn view(topic: &TopicImage) -> TopicView {
    TopicView {
        name: Arc::clone(&topic.name),
        id: topic.id,
        partitions: topic.partitions.len(),
    }
}
