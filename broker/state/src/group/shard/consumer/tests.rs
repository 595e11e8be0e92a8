//! Consumer groups behind the shard: founding, both protocols meeting, offsets, and what a reader of the log finds.

use super::*;
use crate::Time;
use crate::group::consumer::tests::classic::{assigned, subscription};
use crate::group::consumer::tests::{Topics, join, join_static, stay};
use crate::group::consumer::{GroupState, LEAVE_EPOCH, MigrationPolicy, Partitions};
use crate::group::{GroupConfig, GroupReply, OffsetFetch, SyncReply, Ticket};
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{HeartbeatRequest as ClassicHeartbeat, OffsetDeleteRequest, SyncGroupRequest};
use ottla_protocol::{Message, Writer};
use std::collections::HashMap;

/// A shard, its clock, the answers that have come, and its log.
struct Room {
    shard: GroupShard,
    config: Arc<GroupConfig>,
    topics: Topics,
    now: u64,
    answers: HashMap<Ticket, GroupReply>,
    log: Vec<GroupRecord>,
    ids: u128,
}

impl Room {
    fn new() -> Room {
        Room::with_policy(MigrationPolicy::Bidirectional)
    }

    fn with_policy(policy: MigrationPolicy) -> Room {
        let mut config = GroupConfig {
            initial_rebalance_delay_ms: 0,
            ..GroupConfig::default()
        };
        config.consumer.assignment_interval_ms = 0;
        config.consumer.migration_policy = policy;
        let config = Arc::new(config);
        let mut room = Room {
            shard: GroupShard::new(config.clone()),
            config,
            topics: Topics::default(),
            now: 1,
            answers: HashMap::new(),
            log: Vec::new(),
            ids: 0,
        };
        room.topics.set("maps", 4);
        room.shard.handle_topics(Arc::new(room.topics.clone()));
        room.shard.loaded(room.moment());
        room
    }

    fn moment(&self) -> Moment {
        Moment {
            now: Time(self.now),
            wall_ms: 1_000_000 + self.now.cast_signed(),
            crowded: false,
        }
    }

    fn take<T>(&mut self, effect: Effect<GroupRecord, T>) -> T {
        let moment = self.moment();
        for record in effect.records {
            self.shard.replay(&record, moment);
            self.log.push(record);
        }
        while let Some((ticket, reply)) = self.shard.next_reply() {
            assert!(self.answers.insert(ticket, reply).is_none(), "answered twice");
        }
        self.check();
        effect.reply
    }

    /// A reader of the log finds what lasts of the group.
    fn check(&self) {
        let read = self.read();
        match (self.shard.group("g"), read.group("g")) {
            (Some(Group::Consumer(here)), Some(Group::Consumer(there))) => {
                assert_eq!(
                    (here.epoch(), here.assignment_epoch()),
                    (there.epoch(), there.assignment_epoch())
                );
                assert!(here.members().eq(there.members()));
                for member in here.members() {
                    assert_eq!(here.target(&member.id), there.target(&member.id));
                }
            }
            (Some(Group::Consumer(_)), other) => panic!("the log knows {other:?}"),
            (_, Some(Group::Consumer(group))) => panic!("the log still knows {group:?}"),
            (_, _) => {}
        }
    }

    fn read(&self) -> GroupShard {
        let mut shard = GroupShard::new(self.config.clone());
        for record in &self.log {
            shard.replay(record, self.moment());
        }
        shard
    }

    /// A group of "new", by the consumer protocol, and then "old", by the classic one, with the generation of the latter.
    fn of_both_protocols(&mut self) -> i32 {
        let all = self.beat(&join("new", &["maps"])).unwrap().assignment.unwrap();
        self.own("new", 1, &all);
        let joined = self.join_classic("old", None, &[]);
        let generation = self.joined(joined).generation;
        self.sync("old", generation, None);
        generation
    }

    /// Another coordinator takes over.
    fn reload(&mut self) {
        self.shard = self.read();
        self.shard.handle_topics(Arc::new(self.topics.clone()));
        let effect = self.shard.loaded(self.moment());
        self.take(effect);
    }

    fn pass(&mut self, milliseconds: u64) {
        let until = self.now + milliseconds;
        while let Some(at) = self.shard.wake_at().filter(|at| at.0 <= until) {
            self.now = self.now.max(at.0);
            while let Some(effect) = self.shard.handle_timeout(self.moment()) {
                self.take(effect);
            }
        }
        self.now = until;
    }

    fn client(&mut self) -> Client<'static> {
        self.ids += 1;
        Client {
            id: "client",
            host: "/127.0.0.1",
            fresh_id: Uuid::from_u128(self.ids),
        }
    }

    fn beat(&mut self, request: &HeartbeatRequest) -> Result<HeartbeatReply, ErrorCode> {
        let (client, moment) = (self.client(), self.moment());
        let effect = self.shard.consumer_heartbeat("g", request, client, moment);
        self.take(effect).map_err(|error| error.code)
    }

    fn own(&mut self, id: &str, epoch: i32, owned: &Partitions) -> HeartbeatReply {
        let request = HeartbeatRequest {
            owned: Some(owned.clone()),
            ..stay(id, epoch)
        };
        self.beat(&request).unwrap()
    }

    fn join_classic(&mut self, id: &str, instance: Option<&str>, owned: &[i32]) -> Outcome<JoinReply> {
        let owned: &[(&str, &[i32])] = &[("maps", owned)];
        let metadata = subscription(&["maps"], owned);
        let request = JoinGroupRequest {
            group_id: "g",
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 5_000,
            member_id: id,
            group_instance_id: instance,
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol {
                name: "cooperative-sticky",
                metadata: &metadata,
            }],
            reason: None,
        };
        let (client, moment) = (self.client(), self.moment());
        let effect = self.shard.join(&request, 9, client, moment);
        self.take(effect)
    }

    fn joined(&mut self, outcome: Outcome<JoinReply>) -> JoinReply {
        match outcome {
            Outcome::Now(reply) => reply,
            Outcome::Parked(ticket) => match self.answers.remove(&ticket) {
                Some(GroupReply::Join(reply)) => reply,
                other => panic!("{other:?}"),
            },
        }
    }

    /// A classic member goes all the way in, and is given `partitions` if it leads.
    fn enter(&mut self, partitions: &[i32]) -> (Arc<str>, i32) {
        let first = self.join_classic("", None, &[]);
        let id = self.joined(first).member_id;
        let second = self.join_classic(&id, None, &[]);
        let reply = self.joined(second);
        assert_eq!((reply.error, &reply.leader), (ErrorCode::None, &id));
        let synced = self.sync(&id, reply.generation, Some(partitions));
        assert_eq!(synced.error, ErrorCode::None);
        (id, reply.generation)
    }

    fn sync(&mut self, id: &str, generation: i32, give: Option<&[i32]>) -> SyncReply {
        let message = ottla_protocol::messages::ConsumerProtocolAssignment {
            assigned_partitions: vec![ottla_protocol::messages::consumer_protocol_assignment::TopicPartition {
                topic: "maps",
                partitions: give.unwrap_or_default().to_vec(),
            }],
            user_data: None,
        };
        let mut writer = Writer::new();
        writer.i16(0);
        message.encode(&mut writer, 0);
        let assignment = writer.into_vec().unwrap();
        let given = SyncGroupRequestAssignment {
            member_id: id,
            assignment: &assignment,
        };
        let request = SyncGroupRequest {
            group_id: "g",
            generation_id: generation,
            member_id: id,
            assignments: give.map(|_| given).into_iter().collect(),
            ..SyncGroupRequest::default()
        };
        let moment = self.moment();
        let effect = self.shard.sync(&request, moment);
        match self.take(effect) {
            Outcome::Now(reply) => reply,
            Outcome::Parked(ticket) => match self.answers.remove(&ticket) {
                Some(GroupReply::Sync(reply)) => reply,
                other => panic!("{other:?}"),
            },
        }
    }

    fn beat_classic(&mut self, id: &str, generation: i32) -> ErrorCode {
        let request = ClassicHeartbeat {
            group_id: "g",
            generation_id: generation,
            member_id: id,
            group_instance_id: None,
        };
        let moment = self.moment();
        let effect = self.shard.heartbeat(&request, moment);
        self.take(effect)
    }

    fn commit(&mut self, id: &str, epoch: i32, partitions: &[i32]) -> Result<Vec<Vec<ErrorCode>>, ErrorCode> {
        let request = OffsetCommitRequest {
            group_id: "g",
            generation_id_or_member_epoch: epoch,
            member_id: id,
            topics: vec![OffsetCommitRequestTopic {
                name: "maps",
                partitions: partitions
                    .iter()
                    .map(|partition| OffsetCommitRequestPartition {
                        partition_index: *partition,
                        committed_offset: 7,
                        ..OffsetCommitRequestPartition::default()
                    })
                    .collect(),
                ..OffsetCommitRequestTopic::default()
            }],
            ..OffsetCommitRequest::default()
        };
        let moment = self.moment();
        let effect = self.shard.commit_offsets(&request, 9, moment);
        self.take(effect)
    }

    fn consumer(&self) -> &ConsumerGroup {
        match self.shard.group("g") {
            Some(Group::Consumer(group)) => group,
            other => panic!("{other:?}"),
        }
    }

    fn is_classic(&self) -> bool {
        matches!(self.shard.group("g"), Some(Group::Classic(_)))
    }
}

#[test]
fn a_group_is_founded_by_its_first_member_and_by_nobody_else() {
    let mut room = Room::new();
    assert_eq!(room.beat(&stay("a", 1)), Err(ErrorCode::GroupIdNotFound));
    assert_eq!(room.beat(&stay("a", LEAVE_EPOCH)), Err(ErrorCode::GroupIdNotFound));
    let wrong = HeartbeatRequest {
        regex: Some("(".into()),
        ..join("a", &[])
    };
    assert_eq!(room.beat(&wrong), Err(ErrorCode::InvalidRegularExpression));
    assert!(room.shard.group("g").is_none());
    assert_eq!(room.beat(&join("a", &["maps"])).unwrap().member_epoch, 1);
    let listed: Vec<_> = room.shard.list().collect();
    assert_eq!(
        (listed[0].kind, listed[0].state, &*listed[0].protocol_type),
        ("Consumer", "Stable", "consumer")
    );
    assert_eq!(room.shard.describe_consumer("g").unwrap().members.len(), 1);
    assert!(room.shard.describe_classic("g").is_none());
}

#[test]
fn a_member_that_falls_silent_is_taken_out_by_the_shards_alarm() {
    let mut room = Room::new();
    room.beat(&join("a", &["maps"])).unwrap();
    room.pass(44_999);
    assert_eq!(room.consumer().members().len(), 1);
    room.pass(1);
    assert_eq!(room.consumer().state(), GroupState::Empty);
}

#[test]
fn a_loaded_group_goes_on() {
    let mut room = Room::new();
    let all = room.beat(&join("a", &["maps"])).unwrap().assignment.unwrap();
    let mut read = room.read();
    read.handle_topics(Arc::new(room.topics.clone()));
    room.now += 100_000;
    read.loaded(room.moment());
    room.shard = read;
    assert_eq!(room.shard.wake_at(), Some(Time(room.now + 45_000)));
    assert_eq!(room.own("a", 1, &all).member_epoch, 1);
}

#[test]
fn a_classic_group_becomes_a_consumer_group_and_goes_on_meanwhile() {
    let mut room = Room::new();
    let (old, generation) = room.enter(&[0, 1, 2, 3]);
    let new = room.beat(&join("new", &["maps"])).unwrap();
    assert_eq!(
        (new.member_epoch, new.assignment),
        (generation + 1, Some(Partitions::new()))
    );
    assert_eq!(room.consumer().members().len(), 2);

    assert_eq!(room.beat_classic(&old, generation), ErrorCode::RebalanceInProgress);
    let joined = room.join_classic(&old, None, &[0, 1, 2, 3]);
    let joined = room.joined(joined);
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, generation));
    let keeps = assigned(&room.sync(&old, generation, None).assignment)["maps"].clone();
    assert_eq!(keeps.len(), 2);
    let joined = room.join_classic(&old, None, &keeps);
    assert_eq!(room.joined(joined).generation, generation + 1);
    assert_eq!(
        assigned(&room.sync(&old, generation + 1, None).assignment)["maps"],
        keeps
    );
    let gained = room.beat(&stay("new", generation + 1)).unwrap().assignment.unwrap();
    assert_eq!(gained.values().next().unwrap().len(), 2);
    assert_eq!(room.beat_classic(&old, generation + 1), ErrorCode::None);
    assert_eq!(room.consumer().state(), GroupState::Stable);
}

#[test]
fn members_that_wait_in_a_classic_group_are_told_to_come_again_when_it_becomes_another() {
    let mut room = Room::new();
    let (old, generation) = room.enter(&[0, 1]);
    let first = room.join_classic("", None, &[]);
    let second = room.joined(first).member_id;
    let waiting = room.join_classic(&second, None, &[]);
    let Outcome::Parked(ticket) = waiting else {
        panic!("{waiting:?}")
    };
    room.beat(&join("new", &["maps"])).unwrap();
    match &room.answers[&ticket] {
        GroupReply::Join(reply) => assert_eq!(reply.error, ErrorCode::RebalanceInProgress),
        other => panic!("{other:?}"),
    }
    assert_eq!(room.beat_classic(&old, generation), ErrorCode::RebalanceInProgress);
    // Its classic alarms do not ring any more: those of the consumer group do.
    room.pass(29_999);
    assert_eq!(
        room.consumer().members().len(),
        2,
        "who was called and did not come within 5 s is gone"
    );
}

#[test]
fn a_group_stays_classic_where_it_may_not_change() {
    for policy in [MigrationPolicy::Disabled, MigrationPolicy::Downgrade] {
        let mut room = Room::with_policy(policy);
        let (old, generation) = room.enter(&[0]);
        assert_eq!(room.beat(&join("new", &["maps"])), Err(ErrorCode::GroupIdNotFound));
        assert!(room.is_classic());
        assert_eq!(room.beat_classic(&old, generation), ErrorCode::None);
    }
}

#[test]
fn the_last_of_the_new_protocol_leaves_a_classic_group_behind() {
    for silent in [false, true] {
        let mut room = Room::new();
        let generation = room.of_both_protocols();
        if silent {
            for _ in 0..3 {
                room.pass(14_999);
                room.beat_classic("old", generation);
            }
            room.pass(3);
        } else {
            room.beat(&stay("new", LEAVE_EPOCH)).unwrap();
        }
        assert!(room.is_classic());
        assert_eq!(room.beat_classic("old", generation), ErrorCode::RebalanceInProgress);
        let joined = room.join_classic("old", None, &[]);
        let joined = room.joined(joined);
        assert_eq!((joined.error, &*joined.leader), (ErrorCode::None, "old"));
        assert!(joined.generation > generation);
        let synced = room.sync("old", joined.generation, Some(&[0, 1, 2, 3]));
        assert_eq!(assigned(&synced.assignment)["maps"], [0, 1, 2, 3]);
    }
}

#[test]
fn the_rebalance_that_makes_a_group_classic_outlives_its_coordinator() {
    let mut room = Room::new();
    let generation = room.of_both_protocols();
    room.beat(&stay("new", LEAVE_EPOCH)).unwrap();
    assert!(room.is_classic());
    for _ in 0..2 {
        room.reload();
        assert_eq!(room.beat_classic("old", generation), ErrorCode::RebalanceInProgress);
    }
    let joined = room.join_classic("old", None, &[]);
    let joined = room.joined(joined);
    assert_eq!((joined.error, &*joined.leader), (ErrorCode::None, "old"));
    room.sync("old", joined.generation, Some(&[0, 1, 2, 3]));
    room.reload();
    assert_eq!(room.beat_classic("old", joined.generation), ErrorCode::None);
}

#[test]
fn without_downgrade_classic_members_stay_in_the_consumer_group() {
    let mut room = Room::with_policy(MigrationPolicy::Upgrade);
    room.beat(&join("new", &["maps"])).unwrap();
    let joined = room.join_classic("old", None, &[]);
    let generation = room.joined(joined).generation;
    room.sync("old", generation, None);
    room.beat(&stay("new", LEAVE_EPOCH)).unwrap();
    assert_eq!(room.beat_classic("old", generation), ErrorCode::RebalanceInProgress);
    let joined = room.join_classic("old", None, &[]);
    let generation = room.joined(joined).generation;
    assert_eq!(
        assigned(&room.sync("old", generation, None).assignment)["maps"].len(),
        4
    );
}

#[test]
fn a_classic_client_that_takes_the_last_new_members_instance_takes_the_group_along() {
    let mut room = Room::new();
    room.beat(&join_static("new", "i", &["maps"])).unwrap();
    let outcome = room.join_classic("", Some("i"), &[]);
    let joined = room.joined(outcome);
    assert_eq!(joined.error, ErrorCode::None);
    assert!(room.is_classic());
    assert_eq!(joined.leader, joined.member_id, "it leads and is alone");
    let synced = room.sync(&joined.member_id, joined.generation, Some(&[0, 1]));
    assert_eq!(synced.error, ErrorCode::None);
}

#[test]
fn an_empty_group_takes_the_protocol_of_whoever_comes() {
    let mut room = Room::with_policy(MigrationPolicy::Disabled);
    room.beat(&join("new", &["maps"])).unwrap();
    room.commit("new", 1, &[0]).unwrap();
    room.beat(&stay("new", LEAVE_EPOCH)).unwrap();
    let unknown = room.join_classic("somebody", None, &[]);
    assert_eq!(room.joined(unknown).error, ErrorCode::UnknownMemberId);
    let (old, _) = room.enter(&[0]);
    assert!(room.is_classic());
    let leave = LeaveGroupRequest {
        group_id: "g",
        members: vec![MemberIdentity {
            member_id: &old,
            ..MemberIdentity::default()
        }],
        ..LeaveGroupRequest::default()
    };
    let moment = room.moment();
    let effect = room.shard.leave(&leave, moment);
    room.take(effect).unwrap();
    assert_eq!(room.beat(&join("new", &["maps"])).unwrap().member_epoch, 1);
    let fetch = OffsetFetch {
        group: "g",
        member_id: Some("new"),
        member_epoch: 1,
    };
    assert_eq!(
        room.shard
            .fetch_offsets(fetch)
            .unwrap()
            .map(|topics| topics["maps"][&0].offset),
        Some(7)
    );
    let stale = OffsetFetch {
        member_epoch: 0,
        ..fetch
    };
    assert_eq!(room.shard.fetch_offsets(stale), Err(ErrorCode::StaleMemberEpoch));
}

#[test]
fn commits_are_judged_partition_by_partition_when_their_epoch_is_old() {
    let mut room = Room::new();
    let all = room.beat(&join("a", &["maps"])).unwrap().assignment.unwrap();
    room.own("a", 1, &all);
    room.beat(&join("b", &["maps"])).unwrap();
    let keeps = room.beat(&stay("a", 1)).unwrap().assignment.unwrap();
    assert_eq!(room.commit("a", 1, &[0, 3]), Ok(vec![vec![ErrorCode::None; 2]]));
    room.own("a", 1, &keeps);
    assert_eq!(
        room.commit("a", 1, &[0, 3]),
        Ok(vec![vec![ErrorCode::None, ErrorCode::StaleMemberEpoch]])
    );
    assert_eq!(room.commit("a", 9, &[0]), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(room.commit("x", 1, &[0]), Err(ErrorCode::UnknownMemberId));
    assert_eq!(
        room.commit("", -1, &[0]),
        Err(ErrorCode::UnknownMemberId),
        "it has members"
    );
}

#[test]
fn groups_and_offsets_go_when_nobody_needs_them() {
    let mut room = Room::new();
    room.beat(&join("a", &["maps"])).unwrap();
    room.commit("a", 1, &[0]).unwrap();
    let delete = |room: &mut Room| {
        let effect = room.shard.delete_group("g");
        room.take(effect)
    };
    assert_eq!(delete(&mut room), Err(ErrorCode::NonEmptyGroup));
    let request = OffsetDeleteRequest {
        group_id: "g",
        topics: vec![OffsetDeleteRequestTopic {
            name: "maps",
            partitions: vec![OffsetDeleteRequestPartition { partition_index: 0 }],
        }],
    };
    let effect = room.shard.delete_offsets(&request);
    assert_eq!(room.take(effect), Ok(vec![vec![ErrorCode::GroupSubscribedToTopic]]));
    room.beat(&stay("a", LEAVE_EPOCH)).unwrap();
    assert_eq!(delete(&mut room), Ok(()));
    assert!(room.shard.group("g").is_none());
    assert_eq!(room.shard.weight(), GroupShard::new(room.config.clone()).weight());
}

#[test]
fn an_empty_group_expires_with_its_last_offset() {
    let mut room = Room::new();
    room.beat(&join("a", &["maps"])).unwrap();
    room.commit("a", 1, &[0]).unwrap();
    let retention = u64::try_from(room.config.offsets_retention_ms).unwrap();
    // Somebody subscribes: the offset stays, however old.
    for _ in 0..retention / 40_000_000 + 1 {
        room.now += 40_000_000;
        room.beat(&join("a", &["maps"])).unwrap();
        room.pass(0);
    }
    assert!(room.shard.group("g").is_some());
    room.beat(&stay("a", LEAVE_EPOCH)).unwrap();
    room.pass(room.config.offsets_retention_check_interval_ms);
    assert!(room.shard.group("g").is_none());
}
