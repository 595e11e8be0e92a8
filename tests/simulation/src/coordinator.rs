//! The group coordinator: a shard, the log that it lives in, and the answers that wait for the log.
//!
//! In: requests, alarms, the end of a replication, a crash. Out: answers that may leave. What a shard writes is judged here:
//! offsets never go back, an acknowledged commit outlives every crash, and a shard that is replayed from the log knows what
//! the living one does.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use ottla_broker_state::Time;
use ottla_broker_state::group::classic::ClassicState;
use ottla_broker_state::group::consumer::{ConsumerGroup, GroupState, Member};
use ottla_broker_state::group::{Group, GroupConfig, GroupRecord, GroupShard, Moment, OffsetFetch, Outcome, Ticket};
use ottla_client_state::TopicPartition;
use ottla_protocol::ErrorCode;

use crate::records::Topics;
use crate::wire::{self, Answer, CallId, GROUP, Request, Sender};

/// Whether anybody is at home.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    Down,
    Loading,
    Up,
}

impl Standing {
    pub fn name(self) -> &'static str {
        match self {
            Standing::Down => "Down",
            Standing::Loading => "Loading",
            Standing::Up => "Up",
        }
    }
}

/// An answer that waits for the log.
struct Waiting {
    /// So much of the log must be committed.
    until: usize,
    call: CallId,
    answer: Answer,
    /// What an acknowledged commit has stored.
    offsets: Vec<(TopicPartition, i64)>,
}

/// See the head of this file.
pub struct Coordinator {
    config: Arc<GroupConfig>,
    shard: GroupShard,
    pub standing: Standing,
    /// The broker that leads the partition; another one after each move.
    pub place: u32,
    log: Vec<GroupRecord>,
    committed: usize,
    /// Where each operation ends that has written more than that. Its records are one batch, of which nothing or all is kept.
    ends: Vec<usize>,
    waiting: VecDeque<Waiting>,
    tickets: HashMap<Ticket, CallId>,
    /// The offsets by the log.
    offsets: BTreeMap<TopicPartition, i64>,
    /// The offsets that somebody was told of.
    acknowledged: BTreeMap<TopicPartition, i64>,
    /// Offsets that were turned back because of a request of a dead connection, as they were before.
    pub turned_back: Vec<(TopicPartition, i64)>,
    /// Whose offset such a request has written last, with the least that it was before or came to be by that.
    strayed: BTreeMap<TopicPartition, i64>,
    /// The partitions whose offset is still what such requests made of it: nobody has committed since.
    pub left_behind: BTreeSet<TopicPartition>,
    steps: u64,
}

impl Coordinator {
    pub fn new(config: GroupConfig, moment: Moment) -> Coordinator {
        let config = Arc::new(config);
        let mut shard = GroupShard::new(Arc::clone(&config));
        shard.loaded(moment);
        Coordinator {
            config,
            shard,
            standing: Standing::Up,
            place: 0,
            log: Vec::new(),
            committed: 0,
            ends: Vec::new(),
            waiting: VecDeque::new(),
            tickets: HashMap::new(),
            offsets: BTreeMap::new(),
            acknowledged: BTreeMap::new(),
            turned_back: Vec::new(),
            strayed: BTreeMap::new(),
            left_behind: BTreeSet::new(),
            steps: 0,
        }
    }

    /// The group, while somebody is at home who knows it.
    pub fn group(&self) -> Option<&Group> {
        (self.standing == Standing::Up)
            .then(|| self.shard.group(GROUP))
            .flatten()
    }

    /// Kafka's name of the group's state, or how the coordinator stands.
    pub fn state_name(&self) -> &'static str {
        match (self.standing, self.shard.group(GROUP)) {
            (Standing::Up, Some(Group::Classic(group))) => group.state().name(),
            (Standing::Up, Some(Group::Consumer(group))) => match group.state() {
                GroupState::Empty => "Empty (consumer)",
                GroupState::Assigning => "Assigning",
                GroupState::Reconciling => "Reconciling",
                GroupState::Stable => "Stable (consumer)",
            },
            (Standing::Up, None) => "Dead",
            (standing, _) => standing.name(),
        }
    }

    /// The members and their generations or epochs, for the story.
    pub fn members(&self) -> String {
        let words: Vec<String> = match self.group() {
            Some(Group::Classic(group)) => group.members().map(|member| member.id.to_string()).collect(),
            Some(Group::Consumer(group)) => {
                let member = |member: &Member| format!("{}@{}", member.id, member.epoch);
                group.members().map(member).collect()
            }
            None => Vec::new(),
        };
        words.join(", ")
    }

    pub fn config(&self) -> Arc<GroupConfig> {
        Arc::clone(&self.config)
    }

    /// The topics are what they are now.
    pub fn see(&mut self, topics: &Topics) {
        self.shard.handle_topics(topics.seen());
    }

    /// What is committed by the log, as far as it cannot be lost any more or not.
    pub fn offset(&self, partition: &TopicPartition) -> Option<i64> {
        self.offsets.get(partition).copied()
    }

    pub fn has_uncommitted(&self) -> bool {
        self.committed < self.log.len()
    }

    /// Requests that wait for other members.
    pub fn parked(&self) -> usize {
        self.tickets.len()
    }

    pub fn wake_at(&self) -> Option<u64> {
        let at = self.shard.wake_at().filter(|_| self.standing == Standing::Up)?;
        Some(at.0)
    }

    /// Carries out a request. `stray`: it comes over a connection that is dead at its other end.
    pub fn handle(
        &mut self,
        call: CallId,
        request: &Request,
        sender: &Sender<'_>,
        stray: bool,
        topics: &Topics,
        moment: Moment,
    ) {
        let offsets = match request {
            Request::Commit(commit) => commit.offsets.clone(),
            _ => Vec::new(),
        };
        let handled = wire::carry_out(&mut self.shard, request, sender, moment);
        self.write(handled.records, stray, topics, moment);
        match handled.outcome {
            Outcome::Now(answer) => self.answer(call, answer, offsets),
            Outcome::Parked(ticket) => {
                assert!(
                    self.tickets.insert(ticket, call).is_none(),
                    "{ticket:?} was given twice"
                );
            }
        }
        self.keep_promises();
        self.steps += 1;
        if self.steps.is_multiple_of(64) {
            self.check_replay(moment);
        }
    }

    /// One step of what is due; false if nothing is.
    pub fn handle_timeout(&mut self, topics: &Topics, moment: Moment) -> bool {
        let Some(effect) = self.shard.handle_timeout(moment) else {
            return false;
        };
        self.write(effect.records, false, topics, moment);
        self.keep_promises();
        true
    }

    /// All that is written is committed. Gives the answers that may leave.
    pub fn commit(&mut self) -> Vec<(CallId, Answer)> {
        self.committed = self.log.len();
        self.ends.clear();
        self.release()
    }

    /// The answers that wait for nothing.
    pub fn release(&mut self) -> Vec<(CallId, Answer)> {
        let mut released = Vec::new();
        while self.waiting.front().is_some_and(|first| first.until <= self.committed)
            && let Some(first) = self.waiting.pop_front()
        {
            if let Answer::Commit(results) = &first.answer {
                for ((partition, offset), (_, error)) in first.offsets.into_iter().zip(results) {
                    if *error == ErrorCode::None {
                        self.acknowledged.insert(partition, offset);
                    }
                }
            }
            released.push((first.call, first.answer));
        }
        released
    }

    /// The process is gone, and with it the last of the operations that were written and not committed; of so many `lost`
    /// says how many.
    pub fn crash(&mut self, lost: impl FnOnce(usize) -> usize) {
        self.standing = Standing::Down;
        let kept = self.ends.len().saturating_sub(lost(self.ends.len()));
        self.ends.truncate(kept);
        self.log.truncate(self.ends.last().copied().unwrap_or(self.committed));
        self.committed = self.log.len();
        self.ends.clear();
        self.waiting.clear();
        self.tickets.clear();
        self.place += 1;
    }

    /// Another broker starts to read the log.
    pub fn load(&mut self) {
        self.standing = Standing::Loading;
    }

    /// It has read the log.
    pub fn loaded(&mut self, topics: &Topics, moment: Moment) {
        self.shard = self.replayed(moment);
        self.see(topics);
        self.standing = Standing::Up;
        self.offsets.clear();
        for record in &self.log {
            note(&mut self.offsets, record);
        }
        for (partition, acknowledged) in &self.acknowledged {
            let kept = self.offsets.get(partition).copied();
            assert!(
                kept >= Some(*acknowledged),
                "{acknowledged} of {partition} was acknowledged, and {kept:?} has come back from the log"
            );
        }
        let effect = self.shard.loaded(moment);
        self.write(effect.records, false, topics, moment);
        self.keep_promises();
        self.check_offsets(&self.shard);
    }

    fn replayed(&self, moment: Moment) -> GroupShard {
        let mut shard = GroupShard::new(Arc::clone(&self.config));
        for record in &self.log {
            shard.replay(&through_bytes(record), moment);
        }
        shard
    }

    fn write(&mut self, records: Vec<GroupRecord>, stray: bool, topics: &Topics, moment: Moment) {
        for record in records {
            if let GroupRecord::Offset {
                topic,
                partition,
                value: Some(value),
                ..
            } = &record
            {
                let partition = TopicPartition::new(Arc::clone(topic), *partition);
                topics.check_committed(&partition, value.offset);
                let before = self.offsets.get(&partition).copied();
                // As far back as whoever reads there may be: it does not know of what came late.
                let floor = match stray {
                    true => {
                        let floor = self.strayed.get(&partition).copied().or(before).unwrap_or(0);
                        self.strayed.insert(partition.clone(), floor.min(value.offset));
                        i64::MIN
                    }
                    false => {
                        self.left_behind.remove(&partition);
                        self.strayed.remove(&partition).or(before).unwrap_or(0)
                    }
                };
                if before > Some(value.offset) {
                    // Whoever sent it has sent a later one over another connection since, or it comes after one that was late.
                    // Kafka takes it, too.
                    assert!(
                        value.offset >= floor,
                        "the offset of {partition} went back from {before:?} to {}",
                        value.offset
                    );
                    self.acknowledged.remove(&partition);
                    if stray {
                        self.left_behind.insert(partition.clone());
                    }
                    self.turned_back
                        .extend(before.map(|before| (partition.clone(), before)));
                }
            }
            note(&mut self.offsets, &record);
            self.shard.replay(&record, moment);
            self.log.push(record);
        }
        if self.ends.last().copied().unwrap_or(self.committed) < self.log.len() {
            self.ends.push(self.log.len());
        }
    }

    fn answer(&mut self, call: CallId, answer: Answer, offsets: Vec<(TopicPartition, i64)>) {
        self.waiting.push_back(Waiting {
            until: self.log.len(),
            call,
            answer,
            offsets,
        });
    }

    fn keep_promises(&mut self) {
        while let Some((ticket, reply)) = self.shard.next_reply() {
            let (ticket, answer) = wire::kept(ticket, reply);
            let call = self.tickets.remove(&ticket);
            assert!(call.is_some(), "{ticket:?} was answered twice or never given");
            if let Some(call) = call {
                self.answer(call, answer, Vec::new());
            }
        }
    }

    /// A shard that reads the log must come to what the living one knows and has written.
    pub fn check_replay(&self, moment: Moment) {
        let replayed = self.replayed(moment);
        self.check_offsets(&replayed);
        self.check_offsets(&self.shard);
        match (self.shard.group(GROUP), replayed.group(GROUP)) {
            (Some(Group::Classic(live)), Some(Group::Classic(read)))
                if matches!(live.state(), ClassicState::Stable | ClassicState::Empty) && live.generation() > 0 =>
            {
                assert_eq!(live.record(), read.record(), "the log does not hold the living group");
            }
            (Some(Group::Classic(live)), None) => {
                let nothing_written = live.generation() == 0 || live.state() != ClassicState::Stable;
                assert!(nothing_written, "the log does not know the group");
            }
            (Some(Group::Consumer(live)), Some(Group::Consumer(read))) => {
                let parts = |group: &ConsumerGroup| {
                    let members: Vec<Member> = group.members().cloned().collect();
                    let targets: Vec<_> = members.iter().map(|member| group.target(&member.id)).collect();
                    (group.epoch(), group.assignment_epoch(), members, targets)
                };
                assert_eq!(parts(live), parts(read), "the log does not hold the living group");
            }
            (Some(Group::Consumer(_)), _) | (_, Some(Group::Consumer(_))) => {
                panic!("the living group is of another kind than that in the log")
            }
            _ => {}
        }
    }

    fn check_offsets(&self, shard: &GroupShard) {
        let fetch = OffsetFetch {
            group: GROUP,
            member_id: None,
            member_epoch: -1,
        };
        let known = shard.fetch_offsets(fetch).ok().flatten();
        let known: BTreeMap<TopicPartition, i64> = known
            .into_iter()
            .flatten()
            .flat_map(|(topic, offsets)| {
                let named = |number: &i32| TopicPartition::new(Arc::clone(topic), *number);
                offsets.iter().map(move |(number, value)| (named(number), value.offset))
            })
            .collect();
        assert_eq!(known, self.offsets, "the shard's offsets are not those of its log");
    }
}

/// What the log says of offsets, kept without the shard's help.
fn note(offsets: &mut BTreeMap<TopicPartition, i64>, record: &GroupRecord) {
    if let GroupRecord::Offset {
        topic,
        partition,
        value,
        ..
    } = record
    {
        let partition = TopicPartition::new(Arc::clone(topic), *partition);
        match value {
            Some(value) => offsets.insert(partition, value.offset),
            None => offsets.remove(&partition),
        };
    }
}

fn through_bytes(record: &GroupRecord) -> GroupRecord {
    let (key, value) = record.encode().expect("the shard writes what can be written");
    let read = GroupRecord::decode(&key, value.as_deref()).expect("what was written can be read");
    let read = read.expect("what was written is of a known kind");
    assert_eq!(read, *record, "a record is not what it was");
    read
}

/// A moment of the room, as the coordinator's clocks tell it.
pub fn moment(now: u64) -> Moment {
    Moment {
        now: Time(now),
        wall_ms: 1_700_000_000_000 + i64::try_from(now).unwrap_or(i64::MAX),
        crowded: false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Commit;
    use ottla_protocol::Uuid;

    #[test]
    fn a_crash_leaves_nothing_or_all_of_an_operation() {
        let topics = Topics::default();
        let record = |number| GroupRecord::Offset {
            group: GROUP.into(),
            topic: "orders".into(),
            partition: number,
            value: None,
        };
        for (lost, left) in [(0, 5), (1, 3), (2, 1)] {
            let mut coordinator = Coordinator::new(GroupConfig::default(), moment(1));
            coordinator.write(vec![record(0)], false, &topics, moment(1));
            coordinator.commit();
            coordinator.write(vec![record(1), record(2)], false, &topics, moment(1));
            coordinator.write(Vec::new(), false, &topics, moment(1));
            coordinator.write(vec![record(3), record(4)], false, &topics, moment(1));
            coordinator.crash(|uncommitted| {
                assert_eq!(uncommitted, 2, "operations that have written something");
                lost
            });
            assert_eq!((coordinator.log.len(), coordinator.committed), (left, left));
        }
    }

    #[test]
    fn what_a_dead_connection_turned_back_is_excused_until_somebody_commits() {
        let topic: Arc<str> = "orders".into();
        let partition = TopicPartition::new(Arc::clone(&topic), 0);
        let mut topics = Topics::default();
        topics.create(&topic, 1, 10);
        topics.process(&partition, 0, 10, false);
        let mut coordinator = Coordinator::new(GroupConfig::default(), moment(1));
        let config = coordinator.config();
        let mut commit = |call, offset, stray| {
            let request = Request::Commit(Commit {
                member_id: "".into(),
                epoch: -1,
                instance_id: None,
                offsets: vec![(partition.clone(), offset)],
            });
            let sender = Sender {
                name: "nobody",
                config: &config,
                join_version: 9,
                fresh_id: Uuid::ZERO,
            };
            coordinator.handle(call, &request, &sender, stray, &topics, moment(1));
            let answers = coordinator.commit();
            assert!(matches!(&answers[..], [(_, Answer::Commit(results))] if results[0].1 == ErrorCode::None));
            (
                coordinator.offset(&partition),
                coordinator.left_behind.contains(&partition),
            )
        };
        assert_eq!(commit(1, 10, false), (Some(10), false));
        assert_eq!(commit(2, 8, true), (Some(8), true));
        assert_eq!(commit(3, 9, true), (Some(9), true));
        assert_eq!(commit(4, 9, false), (Some(9), false));
        // Nor does whoever reads know of one that was set forward.
        assert_eq!(commit(5, 10, true), (Some(10), false));
        assert_eq!(commit(6, 9, false), (Some(9), false));
    }
}
