//! `roundrobin`: all partitions of all topics in order, dealt to the members in order, each in turn.
//!
//! A member that does not subscribe to a topic is passed over for its partitions.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Assignment, Assignor, AssignorError, GroupMember, TopicImage};
use crate::TopicPartition;

/// Kafka's `roundrobin` assignor.
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobinAssignor;

impl Assignor for RoundRobinAssignor {
    fn name(&self) -> &str {
        "roundrobin"
    }

    fn assign(
        &self,
        members: &[GroupMember],
        topics: &TopicImage,
    ) -> Result<BTreeMap<Arc<str>, Assignment>, AssignorError> {
        let mut ordered: Vec<&GroupMember> = members.iter().collect();
        ordered.sort_by(|a, b| a.order().cmp(&b.order()));
        let subscribed: BTreeSet<&Arc<str>> = members.iter().flat_map(|member| &member.topics).collect();
        let mut result: BTreeMap<Arc<str>, Assignment> = BTreeMap::new();
        let mut turn = 0;
        for topic in subscribed {
            for number in topics.get(topic).map_or(0..0, super::GroupTopic::numbers) {
                let reads = |place: &usize| ordered[place % ordered.len()].topics.contains(topic);
                let Some(place) = (turn..turn + ordered.len()).find(reads) else {
                    break;
                };
                turn = (place + 1) % ordered.len();
                let member = ordered[place % ordered.len()];
                let assignment = result.entry(member.member_id.clone()).or_default();
                assignment.partitions.push(TopicPartition::new(topic.clone(), number));
            }
        }
        Ok(result)
    }
}
