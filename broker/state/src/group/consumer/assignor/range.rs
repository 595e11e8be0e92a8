//! The range assignor: of each topic a contiguous range for each subscriber.
//!
//! Members stand in one order: those with a static instance id first, by that id, then the others by member id. So a
//! static member that comes back under another member id gets the ranges it had. When all subscribe to the same topics
//! and the topics have equally many partitions, a member has the same numbers of every topic: keys that two topics
//! partition alike are consumed by one member.
//!
//! It does not look at what members had before.

use super::{MemberSpec, Partitions};
use ottla_protocol::Uuid;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What remains of a topic while the members are walked through in order.
struct Ranges {
    next: i32,
    quota: i32,
    /// So many of the first subscribers get one more.
    extra: i32,
}

pub(super) fn assign(
    members: &BTreeMap<Arc<str>, MemberSpec>,
    partition_counts: &BTreeMap<Uuid, i32>,
) -> BTreeMap<Arc<str>, Partitions> {
    let mut subscribers: BTreeMap<Uuid, i32> = BTreeMap::new();
    for topic in members.values().flat_map(|spec| &spec.topics) {
        *subscribers.entry(*topic).or_default() += 1;
    }
    let mut topics: BTreeMap<Uuid, Ranges> = subscribers
        .into_iter()
        .filter_map(|(topic, subscribers)| {
            let count = *partition_counts.get(&topic)?;
            let ranges = Ranges {
                next: 0,
                quota: count / subscribers,
                extra: count % subscribers,
            };
            Some((topic, ranges))
        })
        .collect();

    let mut order: Vec<(&Arc<str>, &MemberSpec)> = members.iter().collect();
    order.sort_by_key(|(id, spec)| (spec.instance_id.is_none(), spec.instance_id.clone(), (*id).clone()));

    let mut result = BTreeMap::new();
    for (id, spec) in order {
        let mut assigned = Partitions::new();
        for topic in &spec.topics {
            let Some(ranges) = topics.get_mut(topic) else { continue };
            let mut end = ranges.next + ranges.quota;
            if ranges.extra > 0 {
                ranges.extra -= 1;
                end += 1;
            }
            if end > ranges.next {
                assigned.insert(*topic, (ranges.next..end).collect());
            }
            ranges.next = end;
        }
        result.insert(id.clone(), assigned);
    }
    result
}
