//! The uniform assignor: balance first, then stickiness.
//!
//! A member keeps what it had while that fits under its share; what is left over goes to those below theirs. When all
//! members subscribe to the same topics, shares are known beforehand: the partitions divided by the members, the
//! remainder one each to the members that already hold most. When subscriptions differ there is no such share, and
//! the assignment is improved until nothing improves it any more.
//!
//! # The improvement
//! Members are nodes; there is an arc from `a` to `b` for a partition of `a` whose topic `b` subscribes to. Moving one
//! partition along each arc of a path takes one from its first member, gives one to its last, and leaves those between
//! as they were. While some path leads from a member to one with at least two fewer, the assignment can be made more
//! even; when none does, it is as even as these subscriptions allow. Paths are found by breadth-first search, so the
//! shortest one is used and few partitions move. One step (a direct move) is not enough: with members a{1,2}, b{2,3},
//! c{3} an overload of `a` may have to travel through `b` to `c`.

use super::{MemberSpec, Partitions};
use ottla_protocol::Uuid;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

pub(super) fn assign(
    members: &BTreeMap<Arc<str>, MemberSpec>,
    partition_counts: &BTreeMap<Uuid, i32>,
) -> BTreeMap<Arc<str>, Partitions> {
    let mut state = Balance::new(members, partition_counts);
    if state.members.is_empty() {
        return BTreeMap::new();
    }
    let first = &state.members[0].topics;
    if state.members.iter().all(|member| member.topics == *first) {
        state.trim_to_shares();
        state.place_rest();
    } else {
        state.place_rest();
        state.even_out();
    }
    state.result()
}

/// A member while it is being assigned to.
struct Node {
    id: Arc<str>,
    topics: BTreeSet<Uuid>,
    kept: Partitions,
    /// Given in this round. Taken away before what is kept.
    gained: Partitions,
    size: usize,
}

impl Node {
    fn give(&mut self, topic: Uuid, partition: i32) {
        self.gained.entry(topic).or_default().insert(partition);
        self.size += 1;
    }

    /// Takes one partition of `topic` away, and rather one it has just been given: moving that costs nothing.
    fn take(&mut self, topic: Uuid) -> Option<i32> {
        let taken = take_last(&mut self.gained, topic).or_else(|| take_last(&mut self.kept, topic));
        self.size -= usize::from(taken.is_some());
        taken
    }

    fn has(&self, topic: Uuid) -> bool {
        self.gained.contains_key(&topic) || self.kept.contains_key(&topic)
    }
}

/// Keys never stay behind with an empty set.
fn take_last(partitions: &mut Partitions, topic: Uuid) -> Option<i32> {
    let set = partitions.get_mut(&topic)?;
    let taken = set.pop_last();
    if set.is_empty() {
        partitions.remove(&topic);
    }
    taken
}

struct Balance {
    members: Vec<Node>,
    /// For each topic its subscribers, as indexes into `members`.
    subscribers: BTreeMap<Uuid, Vec<usize>>,
    /// Nobody's, in the order of topics and partitions.
    unassigned: BTreeMap<Uuid, BTreeSet<i32>>,
}

impl Balance {
    /// Everybody keeps what exists, is still subscribed to, and is not somebody else's already.
    fn new(members: &BTreeMap<Arc<str>, MemberSpec>, partition_counts: &BTreeMap<Uuid, i32>) -> Balance {
        let mut subscribers: BTreeMap<Uuid, Vec<usize>> = BTreeMap::new();
        for (index, spec) in members.values().enumerate() {
            for topic in spec.topics.iter().filter(|topic| partition_counts.contains_key(topic)) {
                subscribers.entry(*topic).or_default().push(index);
            }
        }
        let mut unassigned: BTreeMap<Uuid, BTreeSet<i32>> = subscribers
            .keys()
            .map(|topic| (*topic, (0..partition_counts[topic]).collect()))
            .collect();
        let members = members
            .iter()
            .map(|(id, spec)| {
                let mut kept = Partitions::new();
                for (topic, partitions) in &spec.assigned {
                    if !spec.topics.contains(topic) {
                        continue;
                    }
                    let Some(free) = unassigned.get_mut(topic) else {
                        continue;
                    };
                    let mine: BTreeSet<i32> = partitions.iter().copied().filter(|p| free.remove(p)).collect();
                    if !mine.is_empty() {
                        kept.insert(*topic, mine);
                    }
                }
                Node {
                    id: id.clone(),
                    topics: spec.topics.clone(),
                    size: kept.values().map(BTreeSet::len).sum(),
                    kept,
                    gained: Partitions::new(),
                }
            })
            .collect();
        Balance {
            members,
            subscribers,
            unassigned,
        }
    }

    /// Takes from each member what it has above its share, when all subscribe alike.
    fn trim_to_shares(&mut self) {
        let total: usize = self.members.iter().map(|member| member.size).sum::<usize>()
            + self.unassigned.values().map(BTreeSet::len).sum::<usize>();
        let (share, extra) = (total / self.members.len(), total % self.members.len());
        // The larger shares go to those that have most: it is less to take away from them.
        let mut order: Vec<usize> = (0..self.members.len()).collect();
        order.sort_by_key(|index| std::cmp::Reverse(self.members[*index].size));
        for (place, index) in order.into_iter().enumerate() {
            let share = share + usize::from(place < extra);
            let member = &mut self.members[index];
            while member.size > share {
                let Some(topic) = member.kept.last_key_value().map(|(topic, _)| *topic) else {
                    break;
                };
                let Some(partition) = member.take(topic) else { break };
                self.unassigned.entry(topic).or_default().insert(partition);
            }
        }
    }

    /// Gives what nobody has to the subscriber that has least; of equals to the first.
    ///
    /// Topics with few subscribers go first: whoever may take many kinds can make up for it later.
    fn place_rest(&mut self) {
        let mut topics: Vec<(usize, Uuid)> = self
            .unassigned
            .keys()
            .map(|topic| (self.subscribers[topic].len(), *topic))
            .collect();
        topics.sort_unstable();
        for (_, topic) in topics {
            let subscribers = &self.subscribers[&topic];
            let mut by_size: BTreeSet<(usize, usize)> = subscribers
                .iter()
                .map(|index| (self.members[*index].size, *index))
                .collect();
            for partition in self.unassigned.remove(&topic).unwrap_or_default() {
                let Some((size, index)) = by_size.pop_first() else {
                    break;
                };
                self.members[index].give(topic, partition);
                by_size.insert((size + 1, index));
            }
        }
    }

    /// Moves partitions along shortest paths until no path makes the assignment more even.
    fn even_out(&mut self) {
        let mut order: BTreeSet<(usize, usize)> = self
            .members
            .iter()
            .enumerate()
            .map(|(index, member)| (member.size, index))
            .collect();
        // A member from which no path leads to one with two fewer will never have one again: moves elsewhere only
        // raise the sizes of those it can reach or lower those it cannot profit from. So each is given up once.
        while let Some((size, from)) = order.pop_last() {
            if let Some(path) = self.path_to_smaller(from, size) {
                let to = self.move_along(from, &path);
                order.remove(&(self.members[to].size - 1, to));
                order.insert((self.members[to].size, to));
                order.insert((self.members[from].size, from));
            }
        }
    }

    /// The steps from `from` to a member with at most `size - 2` partitions: of which topic one goes to whom.
    fn path_to_smaller(&self, from: usize, size: usize) -> Option<Vec<(Uuid, usize)>> {
        let goal = size.checked_sub(2)?;
        let mut came_from: Vec<Option<(Uuid, usize)>> = vec![None; self.members.len()];
        let mut topics_seen: BTreeSet<Uuid> = BTreeSet::new();
        let mut queue = VecDeque::from([from]);
        while let Some(current) = queue.pop_front() {
            let member = &self.members[current];
            for topic in member.topics.iter().filter(|topic| member.has(**topic)) {
                // Whoever subscribes to this topic was reached already, by a path not longer than this.
                if !topics_seen.insert(*topic) {
                    continue;
                }
                let mut reached: Vec<usize> = Vec::new();
                for next in self.subscribers.get(topic).into_iter().flatten() {
                    if *next != from && came_from[*next].is_none() {
                        came_from[*next] = Some((*topic, current));
                        reached.push(*next);
                    }
                }
                let smallest = reached.iter().min_by_key(|index| self.members[**index].size);
                if let Some(to) = smallest.filter(|index| self.members[**index].size <= goal) {
                    return Some(unwind(&came_from, from, *to));
                }
                queue.extend(reached);
            }
        }
        None
    }

    /// Moves one partition along each step, and says who has one more in the end.
    fn move_along(&mut self, from: usize, path: &[(Uuid, usize)]) -> usize {
        let mut current = from;
        for (topic, next) in path {
            if let Some(partition) = self.members[current].take(*topic) {
                self.members[*next].give(*topic, partition);
            }
            current = *next;
        }
        current
    }

    fn result(self) -> BTreeMap<Arc<str>, Partitions> {
        self.members
            .into_iter()
            .map(|member| {
                let mut all = member.kept;
                for (topic, partitions) in member.gained {
                    all.entry(topic).or_default().extend(partitions);
                }
                (member.id, all)
            })
            .collect()
    }
}

fn unwind(came_from: &[Option<(Uuid, usize)>], from: usize, to: usize) -> Vec<(Uuid, usize)> {
    let mut path = Vec::new();
    let mut current = to;
    while current != from {
        let Some((topic, previous)) = came_from[current] else {
            break;
        };
        path.push((topic, current));
        current = previous;
    }
    path.reverse();
    path
}
