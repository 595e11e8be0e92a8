//! Which members are near which partitions (KIP-881).
//!
//! A member is near a partition that has a replica in its rack. Where nothing can be gained nothing is near anything: when
//! no member's rack has a replica, or when every partition has one in all the racks there are.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{GroupMember, GroupTopic};

/// Whether it is worth looking at racks for these topics and these members.
pub(super) fn matter<'a>(
    topics: impl Iterator<Item = &'a GroupTopic> + Clone,
    members: impl Iterator<Item = &'a GroupMember>,
) -> bool {
    let of_members: BTreeSet<&Arc<str>> = members.filter_map(|member| member.rack.as_ref()).collect();
    if of_members.is_empty() {
        return false;
    }
    let each = || {
        topics.clone().flat_map(|topic| {
            let racks = topic.numbers().map(|number| topic.racks_of(number));
            racks.map(|racks| racks.into_iter().flatten().collect::<BTreeSet<_>>())
        })
    };
    let all: BTreeSet<&Arc<str>> = each().flatten().collect();
    !of_members.is_disjoint(&all) && each().any(|racks| racks != all)
}

/// Whether the partition has a replica in the member's rack.
pub(super) fn near(member: &GroupMember, topic: &GroupTopic, number: i32) -> bool {
    let racks = topic.racks_of(number);
    member
        .rack
        .as_ref()
        .is_some_and(|rack| racks.is_some_and(|racks| racks.contains(rack)))
}
