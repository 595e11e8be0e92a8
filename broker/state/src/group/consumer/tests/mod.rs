//! A world around one group: topics, a clock, and a second group that only ever sees the records.

use super::*;
use crate::Time;
use crate::group::record::{ConsumerPart, GroupRecord};
use crate::group::topics::{TopicView, TopicsImage};
use crate::group::{Client, Moment};
use std::collections::BTreeMap;
use std::sync::Arc;

mod churn;
pub(in crate::group) mod classic;
mod heartbeat;
mod migrate;
mod reconcile;
mod replay;

/// The topics of a test.
#[derive(Debug, Clone, Default)]
pub(in crate::group) struct Topics {
    topics: BTreeMap<Arc<str>, (Uuid, usize)>,
    version: i64,
}

impl Topics {
    pub(in crate::group) fn set(&mut self, name: &str, partitions: usize) -> Uuid {
        let id = Uuid::from_u128(0x1000 + name.bytes().fold(0, |sum, byte| sum * 256 + u128::from(byte)) % 0xffff_ffff);
        self.topics.insert(name.into(), (id, partitions));
        self.version += 1;
        id
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.topics.remove(name);
        self.version += 1;
    }

    fn view(name: &Arc<str>, (id, partitions): &(Uuid, usize)) -> TopicView {
        TopicView {
            name: name.clone(),
            id: *id,
            partitions: *partitions,
        }
    }
}

impl TopicsImage for Topics {
    fn version(&self) -> i64 {
        self.version
    }

    fn by_name(&self, name: &str) -> Option<TopicView> {
        self.topics
            .get_key_value(name)
            .map(|(name, topic)| Topics::view(name, topic))
    }

    fn by_id(&self, id: Uuid) -> Option<TopicView> {
        let mut all = self.topics.iter();
        all.find(|(_, topic)| topic.0 == id)
            .map(|(name, topic)| Topics::view(name, topic))
    }

    fn for_each_name(&self, each: &mut dyn FnMut(&Arc<str>)) {
        self.topics.keys().for_each(each);
    }

    fn racks(&self, _name: &str) -> Vec<Vec<Arc<str>>> {
        Vec::new()
    }
}

/// One group and everything around it.
pub(super) struct World {
    pub(super) group: ConsumerGroup,
    /// What a reader of the log believes.
    pub(super) replayed: ConsumerGroup,
    pub(super) log: Vec<ConsumerPart>,
    pub(super) topics: Topics,
    pub(super) config: ConsumerConfig,
    pub(super) now: u64,
    pub(super) crowded: bool,
}

impl World {
    /// A world with these topics, in which every change of the group is assigned at once.
    pub(super) fn new(topics: &[(&str, usize)]) -> World {
        let mut world = World {
            group: ConsumerGroup::default(),
            replayed: ConsumerGroup::default(),
            log: Vec::new(),
            topics: Topics::default(),
            config: ConsumerConfig {
                assignment_interval_ms: 0,
                ..ConsumerConfig::default()
            },
            now: 0,
            crowded: false,
        };
        for (name, partitions) in topics {
            world.topics.set(name, *partitions);
        }
        world
    }

    pub(super) fn moment(&self) -> Moment {
        Moment {
            now: Time(self.now),
            wall_ms: 1_000_000 + self.now.cast_signed(),
            crowded: self.crowded,
        }
    }

    /// Does something to the group, and passes the records on to its reader.
    pub(super) fn with<T>(
        &mut self,
        work: impl FnOnce(&mut ConsumerGroup, Context<'_>) -> (Vec<ConsumerPart>, T),
    ) -> T {
        let context = Context {
            config: &self.config,
            topics: &self.topics,
            moment: Moment {
                now: Time(self.now),
                wall_ms: 1_000_000 + self.now.cast_signed(),
                crowded: self.crowded,
            },
        };
        let (records, result) = work(&mut self.group, context);
        self.append(records);
        result
    }

    fn append(&mut self, records: Vec<ConsumerPart>) {
        for part in records {
            let record = GroupRecord::Consumer {
                group: "g".into(),
                part: part.clone(),
            };
            let (key, value) = record.encode().unwrap();
            let decoded = GroupRecord::decode(&key, value.as_deref()).unwrap();
            assert_eq!(decoded, Some(record));
            // The driver replays what it has appended.
            self.group.apply(&part);
            self.replayed.apply(&part);
            self.log.push(part);
        }
        self.check();
    }

    pub(super) fn try_heartbeat(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatReply, GroupError> {
        let client = Client {
            id: "client",
            host: "/127.0.0.1",
            fresh_id: Uuid::ZERO,
        };
        let before = self.group.clone();
        let result = self.with(|group, context| match group.heartbeat(request, client, context) {
            Ok((records, reply)) => (records, Ok(reply)),
            Err(error) => (Vec::new(), Err(error)),
        });
        if result.is_err() {
            assert_eq!(self.group, before, "a refused heartbeat changes nothing");
        }
        result
    }

    pub(super) fn heartbeat(&mut self, request: &HeartbeatRequest) -> HeartbeatReply {
        self.try_heartbeat(request).unwrap()
    }

    pub(super) fn refused(&mut self, request: &HeartbeatRequest) -> ErrorCode {
        self.try_heartbeat(request).unwrap_err().code
    }

    /// Joins with these topics.
    pub(super) fn join(&mut self, id: &str, topics: &[&str]) -> HeartbeatReply {
        self.heartbeat(&join(id, topics))
    }

    /// Nothing new to say, in this epoch.
    pub(super) fn stay(&mut self, id: &str, epoch: i32) -> HeartbeatReply {
        self.heartbeat(&stay(id, epoch))
    }

    /// Owns these, in this epoch.
    pub(super) fn own(&mut self, id: &str, epoch: i32, owned: &Partitions) -> HeartbeatReply {
        self.heartbeat(&HeartbeatRequest {
            owned: Some(owned.clone()),
            ..stay(id, epoch)
        })
    }

    pub(super) fn leave(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatReply, ErrorCode> {
        self.with(|group, context| match group.leave(request, context) {
            Ok((Leave::ForAWhile(records), reply)) => (records, Ok(reply)),
            Ok((Leave::ForGood(id), reply)) => (group.remove_members(&BTreeSet::from([id]), context), Ok(reply)),
            Err(error) => (Vec::new(), Err(error.code)),
        })
    }

    /// Lets time pass, and takes out whose time is up: their ids.
    pub(super) fn pass(&mut self, milliseconds: u64) -> Vec<Arc<str>> {
        self.now += milliseconds;
        let mut gone = Vec::new();
        while let Some(id) = self.with(|group, context| match group.next_overdue(context) {
            Some(id) => (group.remove_members(&BTreeSet::from([id.clone()]), context), Some(id)),
            None => (Vec::new(), None),
        }) {
            gone.push(id);
        }
        gone
    }

    /// Partitions of one topic.
    pub(super) fn of(&self, topic: &str, partitions: &[i32]) -> Partitions {
        let id = self.topics.by_name(topic).unwrap().id;
        Partitions::from([(id, partitions.iter().copied().collect())])
    }

    /// What must be true at any time.
    fn check(&self) {
        let mut owners: BTreeMap<(Uuid, i32), Arc<str>> = BTreeMap::new();
        for member in self.group.members.values() {
            for (topic, partitions) in member.assigned.iter().chain(&member.pending_revocation) {
                assert!(!partitions.is_empty());
                for partition in partitions.keys() {
                    let before = owners.insert((*topic, *partition), member.id.clone());
                    assert_eq!(before, None, "{topic}-{partition} has two owners");
                }
            }
        }
        let known: BTreeMap<_, _> = self.group.owners.clone().into_iter().collect();
        assert_eq!(known, owners);
        let mut reader = self.replayed.clone();
        reader.alarms = self.group.alarms.clone();
        reader.reported = self.group.reported.clone();
        reader.reported_weight = self.group.reported_weight;
        reader.topics_checked = self.group.topics_checked;
        reader.regexes_checked = self.group.regexes_checked;
        assert_eq!(reader, self.group, "the log says something else");
    }
}

pub(in crate::group) fn join(id: &str, topics: &[&str]) -> HeartbeatRequest {
    HeartbeatRequest {
        member_id: id.into(),
        member_epoch: JOIN_EPOCH,
        rebalance_timeout_ms: 5_000,
        topics: Some(topics.iter().map(|name| Arc::from(*name)).collect()),
        owned: Some(Partitions::new()),
        ..HeartbeatRequest::default()
    }
}

pub(in crate::group) fn join_static(id: &str, instance: &str, topics: &[&str]) -> HeartbeatRequest {
    HeartbeatRequest {
        instance_id: Some(instance.into()),
        ..join(id, topics)
    }
}

pub(in crate::group) fn stay(id: &str, epoch: i32) -> HeartbeatRequest {
    HeartbeatRequest {
        member_id: id.into(),
        member_epoch: epoch,
        rebalance_timeout_ms: -1,
        ..HeartbeatRequest::default()
    }
}
