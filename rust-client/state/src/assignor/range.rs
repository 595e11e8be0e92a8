//! `range`: each topic for itself, in runs.
//!
//! The partitions of a topic in order, cut into runs as equal as can be; the first members get the longer ones. Topics
//! with the same subscribers and as many partitions are cut alike, so that their partitions of one number meet at one
//! member.
//!
//! Where racks matter (KIP-881) each member first gets, within its share, partitions that are near it; topics that are cut
//! alike stay so. What is left is dealt in runs.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Assignment, Assignor, AssignorError, GroupMember, GroupTopic, TopicImage, racks};
use crate::TopicPartition;

/// Kafka's `range` assignor.
#[derive(Debug, Clone, Copy, Default)]
pub struct RangeAssignor;

/// One topic and what of it is still to be dealt.
struct Share<'a> {
    name: &'a Arc<str>,
    topic: &'a GroupTopic,
    /// The subscribers, in order, and what each has got.
    members: Vec<(&'a GroupMember, Vec<i32>)>,
    left: Vec<i32>,
    each: usize,
    /// How many members may still get one more than each.
    longer: usize,
    racks_matter: bool,
}

impl<'a> Share<'a> {
    fn new(name: &'a Arc<str>, topic: &'a GroupTopic, members: Vec<&'a GroupMember>) -> Share<'a> {
        let left: Vec<i32> = topic.numbers().collect();
        Share {
            racks_matter: racks::matter(std::iter::once(topic), members.iter().copied()),
            name,
            topic,
            each: left.len() / members.len(),
            longer: left.len() % members.len(),
            left,
            members: members.into_iter().map(|member| (member, Vec::new())).collect(),
        }
    }

    /// How many more this member may get.
    fn room(&self, place: usize) -> usize {
        let most = self.each + usize::from(self.longer > 0);
        most.saturating_sub(self.members[place].1.len())
    }

    fn give(&mut self, place: usize, numbers: &[i32]) {
        let got = &mut self.members[place].1;
        got.extend(numbers);
        if got.len() > self.each && !numbers.is_empty() {
            self.longer = self.longer.saturating_sub(1);
        }
        // Both are in order.
        self.left.retain(|number| numbers.binary_search(number).is_err());
    }

    /// Runs of what the members may have, in the order of members and of partitions.
    fn deal(&mut self, may_have: impl Fn(&GroupMember, &GroupTopic, i32) -> bool) {
        for place in 0..self.members.len() {
            let (member, topic) = (self.members[place].0, self.topic);
            let wanted = self
                .left
                .iter()
                .copied()
                .filter(|number| may_have(member, topic, *number));
            let numbers: Vec<i32> = wanted.take(self.room(place)).collect();
            self.give(place, &numbers);
        }
    }
}

/// A member without a rack is near everything.
fn fits(member: &GroupMember, topic: &GroupTopic, number: i32) -> bool {
    member.rack.is_none() || racks::near(member, topic, number)
}

/// Topics that are cut alike: each number goes to the first member that it fits in all of them.
fn deal_together(shares: &mut [&mut Share<'_>]) {
    let Some(first) = shares.first() else { return };
    let (members, numbers) = (first.members.len(), first.topic.numbers());
    for number in numbers {
        let takes = |place: &usize| {
            let mut all = shares.iter();
            all.all(|share| fits(share.members[*place].0, share.topic, number) && share.room(*place) > 0)
        };
        if let Some(place) = (0..members).find(takes) {
            for share in shares.iter_mut() {
                share.give(place, &[number]);
            }
        }
    }
}

fn deal_by_racks(shares: &mut [Share<'_>]) {
    let mut alike: BTreeMap<(Vec<&str>, usize), Vec<&mut Share<'_>>> = BTreeMap::new();
    for share in shares {
        let members = share.members.iter().map(|(member, _)| &*member.member_id).collect();
        // Topics for which nobody has a rack are not cut with others by their racks.
        let partitions = if share.members.iter().any(|(member, _)| member.rack.is_some()) {
            share.left.len()
        } else {
            0
        };
        alike.entry((members, partitions)).or_default().push(share);
    }
    for shares in alike.values_mut() {
        match &mut shares[..] {
            [alone] if alone.racks_matter => alone.deal(fits),
            [_] => {}
            together => deal_together(together),
        }
    }
}

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
        let known = |(name, members): (_, Vec<_>)| Some(Share::new(name, topics.get(name)?, members));
        let mut shares: Vec<Share<'_>> = subscribers.into_iter().filter_map(known).collect();
        if shares.iter().any(|share| share.racks_matter) {
            deal_by_racks(&mut shares);
        }
        let mut result: BTreeMap<Arc<str>, Assignment> = BTreeMap::new();
        for mut share in shares {
            share.deal(|_, _, _| true);
            for (member, mut numbers) in share.members {
                numbers.sort_unstable();
                let partitions = numbers
                    .into_iter()
                    .map(|number| TopicPartition::new(share.name.clone(), number));
                let assignment = result.entry(member.member_id.clone()).or_default();
                assignment.partitions.extend(partitions);
            }
        }
        Ok(result)
    }
}
