//! `range`: each topic for itself, in runs.
//!
//! The partitions of a topic in order, cut into runs as equal as can be; the first members get the longer ones. Topics
//! with the same subscribers and as many partitions are cut alike, so that their partitions of one number meet at one
//! member.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Assignment, Assignor, AssignorError, GroupMember, TopicImage};
use crate::TopicPartition;

/// Kafka's `range` assignor.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeAssignor;

impl Assignor for RangeAssignor {
    fn name(&self) -> &str {
        "range"
    }

    fn assign(
        &self,
        members: &[GroupMember],
        topics: &TopicImage,
    ) -> Result<BTreeMap<Arc<str>, Assignment>, AssignorError> {
        let mut ordered: Vec<&GroupMember> = members.iter().collect();
        ordered.sort_by(|a, b| a.order().cmp(&b.order()));
        let mut subscribers: BTreeMap<&Arc<str>, Vec<&GroupMember>> = BTreeMap::new();
        for member in ordered {
            for topic in &member.topics {
                subscribers.entry(topic).or_default().push(member);
            }
        }
        let mut result: BTreeMap<Arc<str>, Assignment> = BTreeMap::new();
        for (topic, members) in subscribers {
            let Some(known) = topics.get(topic) else { continue };
            let mut numbers = 0..i32::try_from(known.partitions).unwrap_or(i32::MAX);
            let (each, longer) = (numbers.len() / members.len(), numbers.len() % members.len());
            for (place, member) in members.into_iter().enumerate() {
                let run = each + usize::from(place < longer);
                let partitions = numbers.by_ref().take(run);
                let assignment = result.entry(member.member_id.clone()).or_default();
                let partitions = partitions.map(|number| TopicPartition::new(topic.clone(), number));
                assignment.partitions.extend(partitions);
            }
        }
        Ok(result)
    }
}
