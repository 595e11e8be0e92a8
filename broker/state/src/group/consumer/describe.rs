//! A consumer group as ConsumerGroupDescribe shows it.

use super::group::ConsumerGroup;
use super::{ConsumerConfig, Partitions};
use crate::group::topics::TopicsImage;
use ottla_protocol::Uuid;
use std::sync::Arc;

/// A group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedGroup {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// The group epoch.
    pub epoch: i32,
    /// The group epoch of its target assignment.
    pub assignment_epoch: i32,
    /// The assignor that assigns.
    pub assignor: &'static str,
    /// Its members by id.
    pub members: Vec<DescribedMember>,
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its static instance id.
    pub instance_id: Option<Arc<str>>,
    /// Its rack.
    pub rack_id: Option<Arc<str>>,
    /// Its epoch.
    pub epoch: i32,
    /// What its client calls itself.
    pub client_id: Arc<str>,
    /// Its address.
    pub client_host: Arc<str>,
    /// Topics by name.
    pub topics: Vec<Arc<str>>,
    /// Topics by regular expression.
    pub regex: Option<Arc<str>>,
    /// What it has, of topics that exist.
    pub assigned: Vec<DescribedPartitions>,
    /// What it should have, of topics that exist.
    pub target: Vec<DescribedPartitions>,
    /// It speaks the classic protocol.
    pub is_classic: bool,
}

/// Partitions of a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DescribedPartitions {
    /// The topic's id.
    pub topic_id: Uuid,
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partitions, in order.
    pub partitions: Vec<i32>,
}

impl ConsumerGroup {
    /// The group as it is now.
    pub fn described(&self, config: &ConsumerConfig, topics: &dyn TopicsImage) -> DescribedGroup {
        let members = self.members.values().map(|member| DescribedMember {
            member_id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            rack_id: member.rack_id.clone(),
            epoch: member.epoch,
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            topics: member.topics.iter().cloned().collect(),
            regex: member.regex.clone(),
            assigned: named(&member.assigned_partitions(), topics),
            target: named(&self.target(&member.id), topics),
            is_classic: member.classic.is_some(),
        });
        DescribedGroup {
            state: self.state().name(),
            epoch: self.epoch,
            assignment_epoch: self.assignment_epoch,
            assignor: self.preferred_assignor(config).name(),
            members: members.collect(),
        }
    }
}

fn named(partitions: &Partitions, topics: &dyn TopicsImage) -> Vec<DescribedPartitions> {
    let one = |(topic_id, partitions): (&Uuid, &std::collections::BTreeSet<i32>)| {
        Some(DescribedPartitions {
            topic_id: *topic_id,
            topic: topics.by_id(*topic_id)?.name,
            partitions: partitions.iter().copied().collect(),
        })
    };
    partitions.iter().filter_map(one).collect()
}
