//! How the sticky assignors divide.
//!
//! In: members, what each claims to have had, and the topics. Out: an assignment that is valid (every partition goes to one
//! subscriber), balanced (no chain of moves would make the loads of two members more alike) and sticky.
//!
//! 1. Whoever had a partition keeps it, unless another claims it with a later generation, or with the same one (then
//!    nobody is believed).
//! 2. What has no owner goes to the subscriber with the least, near ones first while that does no harm to the balance.
//! 3. While there is a chain of moves from a member to one with at least two partitions less, the shortest such chain is
//!    made. Each makes the sum of the squares of the loads smaller, so it ends; and when there is none left, no assignment
//!    is more balanced.
//! 4. What is far and could be near, at no cost to the balance, is exchanged; and what has been moved though it need not
//!    have been goes back.
//!
//! Members are dealt with in the order of [`GroupMember::order`], so that the same input gives the same result.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use super::{Assignment, GroupMember, GroupTopic, TopicImage, racks};
use crate::TopicPartition;

/// What a member says it had.
#[derive(Debug, Clone, Default)]
pub(super) struct Claim {
    pub(super) partitions: Vec<TopicPartition>,
    pub(super) generation: i32,
}

struct Topic<'a> {
    name: &'a Arc<str>,
    topic: &'a GroupTopic,
    /// Places of the members that subscribe to it, in order.
    subscribers: Vec<usize>,
}

struct Partition {
    topic: usize,
    number: i32,
    /// Who had it, if that member still subscribes to it.
    before: Option<usize>,
    holder: Option<usize>,
}

struct Division<'a> {
    members: Vec<&'a GroupMember>,
    topics: Vec<Topic<'a>>,
    partitions: Vec<Partition>,
    /// Of each member, its partitions by topic.
    held: Vec<BTreeMap<usize, BTreeSet<usize>>>,
    loads: Vec<usize>,
    racks_matter: bool,
}

/// Divides the partitions among `members`; `claims` has one entry for each of them.
pub(super) fn divide(members: &[GroupMember], claims: &[Claim], topics: &TopicImage) -> BTreeMap<Arc<str>, Assignment> {
    let mut ordered: Vec<(&GroupMember, &Claim)> = members.iter().zip(claims).collect();
    ordered.sort_by(|(a, _), (b, _)| a.order().cmp(&b.order()));
    let (members, claims): (Vec<_>, Vec<_>) = ordered.into_iter().unzip();
    let mut division = Division::new(members, topics);
    division.believe(&claims);
    division.keep();
    division.deal();
    division.balance();
    division.draw_near();
    division.give_back();
    // Last, so that the result is one that it leaves alone when nothing changes.
    division.draw_near();
    division.into_assignments()
}

impl<'a> Division<'a> {
    fn new(members: Vec<&'a GroupMember>, image: &'a TopicImage) -> Division<'a> {
        let mut subscribers: BTreeMap<&'a Arc<str>, Vec<usize>> = BTreeMap::new();
        for (place, member) in members.iter().enumerate() {
            for topic in &member.topics {
                let places = subscribers.entry(topic).or_default();
                if places.last() != Some(&place) {
                    places.push(place);
                }
            }
        }
        let known = |(name, subscribers): (&'a Arc<str>, Vec<usize>)| {
            let topic = image.get(name)?;
            Some(Topic {
                name,
                topic,
                subscribers,
            })
        };
        let topics: Vec<Topic<'a>> = subscribers.into_iter().filter_map(known).collect();
        let numbered = topics.iter().enumerate().flat_map(|(place, topic)| {
            topic.topic.numbers().map(move |number| Partition {
                topic: place,
                number,
                before: None,
                holder: None,
            })
        });
        Division {
            partitions: numbered.collect(),
            racks_matter: racks::matter(topics.iter().map(|topic| topic.topic), members.iter().copied()),
            held: vec![BTreeMap::new(); members.len()],
            loads: vec![0; members.len()],
            members,
            topics,
        }
    }

    /// Sets who had what.
    fn believe(&mut self, claims: &[&Claim]) {
        let places: HashMap<(&str, i32), usize> = self
            .partitions
            .iter()
            .enumerate()
            .map(|(place, partition)| ((&**self.topics[partition.topic].name, partition.number), place))
            .collect();
        let mut best: Vec<Option<(i32, Option<usize>)>> = (0..self.partitions.len()).map(|_| None).collect();
        for (member, claim) in claims.iter().enumerate() {
            for claimed in &claim.partitions {
                let Some(place) = places.get(&(&*claimed.topic, claimed.partition)) else {
                    continue;
                };
                let found = &mut best[*place];
                *found = match *found {
                    Some((generation, _)) if generation > claim.generation => *found,
                    // Two of one generation contradict each other; a second mention by one member does not.
                    Some((generation, other)) if generation == claim.generation => {
                        Some((generation, other.filter(|other| *other == member)))
                    }
                    _ => Some((claim.generation, Some(member))),
                };
            }
        }
        for (place, found) in best.into_iter().enumerate() {
            let subscribers = &self.topics[self.partitions[place].topic].subscribers;
            let owner = found.and_then(|(_, owner)| owner);
            self.partitions[place].before = owner.filter(|owner| subscribers.binary_search(owner).is_ok());
        }
    }

    fn near(&self, member: usize, place: usize) -> bool {
        let partition = &self.partitions[place];
        racks::near(
            self.members[member],
            self.topics[partition.topic].topic,
            partition.number,
        )
    }

    /// Whether it would read the partition from another rack than its own. Without a rack nothing is far.
    fn is_far(&self, member: usize, place: usize) -> bool {
        self.racks_matter && self.members[member].rack.is_some() && !self.near(member, place)
    }

    /// How many subscribers are near the partition.
    fn neighbours(&self, place: usize) -> usize {
        let subscribers = self.topics[self.partitions[place].topic].subscribers.iter();
        subscribers.filter(|member| self.near(**member, place)).count()
    }

    fn hold(&mut self, member: usize, place: usize) {
        let topic = self.partitions[place].topic;
        self.partitions[place].holder = Some(member);
        self.held[member].entry(topic).or_default().insert(place);
        self.loads[member] += 1;
    }

    fn move_to(&mut self, member: usize, place: usize) {
        let topic = self.partitions[place].topic;
        if let Some(holder) = self.partitions[place].holder.take() {
            self.loads[holder] -= 1;
            if let Some(places) = self.held[holder].get_mut(&topic) {
                places.remove(&place);
                if places.is_empty() {
                    self.held[holder].remove(&topic);
                }
            }
        }
        self.hold(member, place);
    }

    fn keep(&mut self) {
        for place in 0..self.partitions.len() {
            if let Some(member) = self.partitions[place].before {
                self.hold(member, place);
            }
        }
    }

    /// Gives away what nobody holds: first what the fewest can have.
    fn deal(&mut self) {
        let mut free: Vec<usize> = (0..self.partitions.len())
            .filter(|place| self.partitions[*place].holder.is_none())
            .collect();
        free.sort_by_key(|place| self.topics[self.partitions[*place].topic].subscribers.len());
        if self.racks_matter {
            free = self.deal_near(free);
        }
        for place in free {
            let before = self.partitions[place].before;
            let subscribers = self.topics[self.partitions[place].topic].subscribers.iter();
            let least = subscribers.min_by_key(|member| (self.loads[**member], before != Some(**member)));
            if let Some(member) = least.copied() {
                self.hold(member, place);
            }
        }
    }

    /// Gives to members that are near, as far as each one's share goes; gives back the rest.
    fn deal_near(&mut self, mut free: Vec<usize>) -> Vec<usize> {
        let (share, extra) = (
            self.partitions.len() / self.members.len(),
            self.partitions.len() % self.members.len(),
        );
        let mut longer = self.loads.iter().filter(|load| **load > share).count();
        let wanted: HashMap<usize, usize> = free.iter().map(|place| (*place, self.neighbours(*place))).collect();
        free.sort_by_key(|place| wanted[place]);
        free.retain(|place| {
            let most = share + usize::from(longer < extra);
            let subscribers = &self.topics[self.partitions[*place].topic].subscribers;
            let takes = |member: &&usize| self.loads[**member] < most && self.near(**member, *place);
            let least = subscribers
                .iter()
                .filter(takes)
                .min_by_key(|member| self.loads[**member]);
            let Some(member) = least.copied() else { return true };
            self.hold(member, *place);
            longer += usize::from(self.loads[member] == share + 1);
            false
        });
        free
    }

    fn balance(&mut self) {
        loop {
            let mut sources: Vec<usize> = (0..self.members.len()).collect();
            sources.sort_by_key(|member| std::cmp::Reverse(self.loads[*member]));
            let least = self.loads.iter().min().copied().unwrap_or(0);
            let mut moved = false;
            for source in sources {
                while self.loads[source] > least + 1
                    && let Some(chain) = self.chain_from(source)
                {
                    self.pass_on(source, &chain);
                    moved = true;
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The shortest chain of moves, as topic and receiver, from `source` to a member with at least two partitions less.
    fn chain_from(&self, source: usize) -> Option<Vec<(usize, usize)>> {
        let mut reached: Vec<Option<(usize, usize)>> = vec![None; self.members.len()];
        let mut seen_topics = vec![false; self.topics.len()];
        let mut waiting = VecDeque::from([source]);
        while let Some(giver) = waiting.pop_front() {
            let mut best: Option<usize> = None;
            for topic in self.held[giver].keys() {
                if std::mem::replace(&mut seen_topics[*topic], true) {
                    continue;
                }
                for receiver in self.topics[*topic].subscribers.iter().copied() {
                    if receiver == source || reached[receiver].is_some() {
                        continue;
                    }
                    reached[receiver] = Some((giver, *topic));
                    waiting.push_back(receiver);
                    let less = self.loads[receiver] + 1 < self.loads[source];
                    if less && best.is_none_or(|best| self.loads[receiver] < self.loads[best]) {
                        best = Some(receiver);
                    }
                }
            }
            if let Some(receiver) = best {
                return Some(chain_to(receiver, source, &reached));
            }
        }
        None
    }

    fn pass_on(&mut self, source: usize, chain: &[(usize, usize)]) {
        // From the far end, so that nobody passes on what it has just been given.
        let givers = std::iter::once(source).chain(chain.iter().map(|(_, receiver)| *receiver));
        let steps: Vec<(usize, usize, usize)> = givers
            .zip(chain)
            .map(|(giver, (topic, receiver))| (giver, *topic, *receiver))
            .collect();
        for (giver, topic, receiver) in steps.into_iter().rev() {
            let cheapest = self.held[giver].get(&topic).into_iter().flatten().rev().copied();
            if let Some(place) = cheapest.min_by_key(|place| self.price(*place, giver, receiver)) {
                self.move_to(receiver, place);
            }
        }
    }

    /// What a move costs: stickiness first, then nearness.
    fn price(&self, place: usize, giver: usize, receiver: usize) -> (i32, i32) {
        let before = self.partitions[place].before;
        let stays = i32::from(before == Some(giver)) - i32::from(before == Some(receiver));
        if !self.racks_matter {
            return (stays, 0);
        }
        let nearer = i32::from(self.near(giver, place)) - i32::from(self.near(receiver, place));
        (nearer, stays)
    }

    /// Gives partitions back to who had them, alone or in exchange, where the balance does not suffer.
    /// Lets members that are near a partition have it from one that is far, in exchange or because they have less. Each step
    /// brings something near, so it ends.
    fn draw_near(&mut self) {
        let mut drawn = self.racks_matter;
        while std::mem::take(&mut drawn) {
            for place in 0..self.partitions.len() {
                let Some(holder) = self.partitions[place]
                    .holder
                    .filter(|holder| self.is_far(*holder, place))
                else {
                    continue;
                };
                let subscribers = self.topics[self.partitions[place].topic].subscribers.clone();
                for member in subscribers.into_iter().filter(|member| *member != holder) {
                    if !self.is_far(member, place) && self.hand_over(place, holder, member, -1) {
                        drawn = true;
                        break;
                    }
                }
            }
        }
    }

    /// Gives partitions back to who had them, alone or in exchange, where neither balance nor nearness suffers.
    fn give_back(&mut self) {
        for place in 0..self.partitions.len() {
            let (Some(before), Some(holder)) = (self.partitions[place].before, self.partitions[place].holder) else {
                continue;
            };
            if before != holder {
                self.hand_over(place, holder, before, 0);
            }
        }
    }

    /// Moves a partition to `to`, in exchange unless that one has less, if the number of far partitions changes by no more
    /// than `harm`.
    fn hand_over(&mut self, place: usize, from: usize, to: usize, harm: i32) -> bool {
        let gain = i32::from(self.is_far(to, place)) - i32::from(self.is_far(from, place));
        if self.loads[to] < self.loads[from] && gain <= harm {
            self.move_to(to, place);
            return true;
        }
        let Some(exchange) = self.exchange(to, from, harm - gain, harm < 0) else {
            return false;
        };
        self.move_to(from, exchange);
        self.move_to(to, place);
        true
    }

    /// Something that `from` holds and `to` may have, doing no more harm than this; best what `to` had, and what `from` had only
    /// if that is allowed.
    fn exchange(&self, from: usize, to: usize, harm: i32, may_move: bool) -> Option<usize> {
        let may_have = |topic: &usize| self.topics[*topic].subscribers.binary_search(&to).is_ok();
        let places = self.held[from].iter().filter(|(topic, _)| may_have(topic));
        let places = places.flat_map(|(_, places)| places.iter().copied());
        let movable = places.filter(|place| {
            let gain = i32::from(self.is_far(to, *place)) - i32::from(self.is_far(from, *place));
            (may_move || self.partitions[*place].before != Some(from)) && gain <= harm
        });
        movable.min_by_key(|place| {
            let before = self.partitions[*place].before;
            (before == Some(from), before != Some(to))
        })
    }

    fn into_assignments(self) -> BTreeMap<Arc<str>, Assignment> {
        let mut result: BTreeMap<Arc<str>, Assignment> = BTreeMap::new();
        for partition in &self.partitions {
            if let Some(holder) = partition.holder {
                let assignment = result.entry(self.members[holder].member_id.clone()).or_default();
                let topic = self.topics[partition.topic].name.clone();
                assignment.partitions.push(TopicPartition::new(topic, partition.number));
            }
        }
        result
    }
}

fn chain_to(end: usize, source: usize, reached: &[Option<(usize, usize)>]) -> Vec<(usize, usize)> {
    let mut chain = Vec::new();
    let mut receiver = end;
    while let Some((giver, topic)) = reached[receiver] {
        chain.push((topic, receiver));
        if giver == source {
            break;
        }
        receiver = giver;
    }
    chain.reverse();
    chain
}
