//! A classic group by the requests that its members send, on a clock of the test's own.

use super::super::record::GroupRecord;
use super::super::{Client, Group, GroupConfig, GroupReply, GroupShard, JoinReply, Moment, Outcome, SyncReply, Ticket};
use super::*;
use crate::Effect;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest,
    OffsetCommitRequest, SyncGroupRequest, consumer_protocol_assignment, consumer_protocol_subscription,
};
use ottla_protocol::{Message, Reader, Uuid, Writer};

mod statics;

const SESSION_MS: i32 = 10_000;
const REBALANCE_MS: i32 = 60_000;
const DELAY_MS: u64 = 3_000;

/// A shard, its clock, the answers that have come, and the log that a reload would read.
struct Room {
    shard: GroupShard,
    config: Arc<GroupConfig>,
    now: u64,
    answers: HashMap<Ticket, GroupReply>,
    log: Vec<GroupRecord>,
    ids: u128,
}

/// A member as its client knows it.
#[derive(Debug, Clone)]
struct Peer {
    id: String,
    instance: Option<&'static str>,
    version: i16,
    protocols: Vec<(&'static str, Vec<u8>)>,
}

fn subscription(topics: &[&str]) -> Vec<u8> {
    subscription_of_owner(topics, &[])
}

/// The subscription of a member that owns these partitions of the topic `t`.
fn subscription_of_owner(topics: &[&str], owned: &[i32]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i16(1);
    let subscription = ConsumerProtocolSubscription {
        topics: topics.to_vec(),
        owned_partitions: vec![consumer_protocol_subscription::TopicPartition {
            topic: "t",
            partitions: owned.to_vec(),
        }],
        ..Default::default()
    };
    subscription.encode(&mut writer, 1);
    writer.into_vec().unwrap()
}

fn peer(version: i16) -> Peer {
    Peer {
        id: String::new(),
        instance: None,
        version,
        protocols: vec![("range", subscription(&["t"]))],
    }
}

fn static_peer(instance: &'static str) -> Peer {
    Peer {
        instance: Some(instance),
        ..peer(9)
    }
}

impl Room {
    fn new() -> Room {
        Room::with(GroupConfig::default())
    }

    fn with(config: GroupConfig) -> Room {
        let config = Arc::new(config);
        let mut room = Room {
            shard: GroupShard::new(config.clone()),
            config,
            now: 1,
            answers: HashMap::new(),
            log: Vec::new(),
            ids: 0,
        };
        room.shard.loaded(room.moment());
        room
    }

    fn moment(&self) -> Moment {
        Moment {
            now: crate::Time(self.now),
            wall_ms: 1_000_000 + self.now as i64,
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
        effect.reply
    }

    /// Lets time pass, and what is due happen in its time.
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

    fn join(&mut self, peer: &Peer) -> Outcome<JoinReply> {
        self.join_as(peer, "consumer")
    }

    fn join_as(&mut self, peer: &Peer, protocol_type: &str) -> Outcome<JoinReply> {
        self.ids += 1;
        let protocol = |(name, metadata): &(&'static str, Vec<u8>)| (*name, metadata.clone());
        let protocols: Vec<_> = peer.protocols.iter().map(protocol).collect();
        let request = JoinGroupRequest {
            group_id: "g",
            session_timeout_ms: SESSION_MS,
            rebalance_timeout_ms: REBALANCE_MS,
            member_id: &peer.id,
            group_instance_id: peer.instance,
            protocol_type,
            protocols: protocols
                .iter()
                .map(|(name, metadata)| JoinGroupRequestProtocol { name, metadata })
                .collect(),
            reason: None,
        };
        let client = Client {
            id: "client",
            host: "/127.0.0.1",
            fresh_id: Uuid::from_u128(self.ids),
        };
        let moment = self.moment();
        let effect = self.shard.join(&request, peer.version, client, moment);
        self.take(effect)
    }

    /// Joins and gives the ticket, after MEMBER_ID_REQUIRED if it comes to that.
    fn enter(&mut self, peer: &mut Peer) -> Ticket {
        match self.join(peer) {
            Outcome::Parked(ticket) => ticket,
            Outcome::Now(reply) => {
                assert_eq!(reply.error, ErrorCode::MemberIdRequired);
                peer.id = reply.member_id.to_string();
                match self.join(peer) {
                    Outcome::Parked(ticket) => ticket,
                    Outcome::Now(reply) => panic!("{reply:?}"),
                }
            }
        }
    }

    fn joined(&mut self, ticket: Ticket) -> JoinReply {
        match self.answers.remove(&ticket) {
            Some(GroupReply::Join(reply)) => reply,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn synced(&mut self, ticket: Ticket) -> SyncReply {
        match self.answers.remove(&ticket) {
            Some(GroupReply::Sync(reply)) => reply,
            other => panic!("{ticket:?}: {other:?}"),
        }
    }

    fn sync(&mut self, peer: &Peer, generation: i32, assignments: &[(&str, &[u8])]) -> Outcome<SyncReply> {
        let request = SyncGroupRequest {
            group_id: "g",
            generation_id: generation,
            member_id: &peer.id,
            group_instance_id: peer.instance,
            protocol_type: Some("consumer"),
            protocol_name: None,
            assignments: assignments
                .iter()
                .map(|&(member_id, assignment)| SyncGroupRequestAssignment { member_id, assignment })
                .collect(),
        };
        let moment = self.moment();
        let effect = self.shard.sync(&request, moment);
        self.take(effect)
    }

    fn heartbeat(&mut self, peer: &Peer, generation: i32) -> ErrorCode {
        let request = HeartbeatRequest {
            group_id: "g",
            generation_id: generation,
            member_id: &peer.id,
            group_instance_id: peer.instance,
        };
        let moment = self.moment();
        let effect = self.shard.heartbeat(&request, moment);
        self.take(effect)
    }

    /// How a commit of nothing is answered.
    fn commit(&mut self, peer: &Peer, generation: i32) -> Result<(), ErrorCode> {
        let request = OffsetCommitRequest {
            group_id: "g",
            generation_id_or_member_epoch: generation,
            member_id: &peer.id,
            group_instance_id: peer.instance,
            ..OffsetCommitRequest::default()
        };
        let moment = self.moment();
        let effect = self.shard.commit_offsets(&request, 9, moment);
        self.take(effect).map(|_| ())
    }

    fn leave(&mut self, member_id: &str, instance: Option<&str>) -> ErrorCode {
        let request = LeaveGroupRequest {
            group_id: "g",
            member_id: "",
            members: vec![MemberIdentity {
                member_id,
                group_instance_id: instance,
                reason: None,
            }],
        };
        let moment = self.moment();
        let effect = self.shard.leave(&request, moment);
        self.take(effect).unwrap()[0].error
    }

    fn group(&self) -> &ClassicGroup {
        match self.shard.group("g") {
            Some(Group::Classic(group)) => group,
            other => panic!("{other:?}"),
        }
    }

    /// What a broker would know that starts now from the log.
    fn reloaded(&self) -> Room {
        let mut room = Room {
            shard: GroupShard::new(self.config.clone()),
            config: self.config.clone(),
            now: self.now,
            answers: HashMap::new(),
            log: self.log.clone(),
            ids: self.ids,
        };
        let moment = room.moment();
        for record in &self.log {
            // What was written is read again from its bytes.
            let (key, value) = record.encode().unwrap();
            let record = GroupRecord::decode(&key, value.as_deref()).unwrap().unwrap();
            room.shard.replay(&record, moment);
        }
        let effect = room.shard.loaded(moment);
        room.take(effect);
        room
    }

    /// A group of two peers who have joined its first generation: its leader, and the other.
    fn joined_by_two(&mut self) -> (Peer, Peer) {
        let (mut one, mut two) = (peer(9), peer(9));
        let tickets = [self.enter(&mut one), self.enter(&mut two)];
        self.pass(DELAY_MS * 2);
        let leads = self.joined(tickets[0]).leader;
        self.joined(tickets[1]);
        if *leads == *one.id { (one, two) } else { (two, one) }
    }

    /// A group of these peers in its first generation, the first of them its leader, each with its own name assigned.
    fn stable(&mut self, peers: &mut [&mut Peer]) {
        self.stable_with(peers, |peer| peer.id.clone().into_bytes());
    }

    /// The same with other assignments.
    fn stable_with(&mut self, peers: &mut [&mut Peer], assigned: impl Fn(&Peer) -> Vec<u8>) {
        let tickets: Vec<_> = peers.iter_mut().map(|peer| self.enter(peer)).collect();
        self.pass(DELAY_MS * 3);
        let replies: Vec<_> = tickets.into_iter().map(|ticket| self.joined(ticket)).collect();
        for (peer, reply) in peers.iter_mut().zip(&replies) {
            assert_eq!(reply.error, ErrorCode::None);
            peer.id = reply.member_id.to_string();
        }
        let leader = replies[0].leader.to_string();
        let assigned: Vec<(String, Vec<u8>)> = peers.iter().map(|peer| (peer.id.clone(), assigned(peer))).collect();
        let assignments: Vec<(&str, &[u8])> = assigned.iter().map(|(id, bytes)| (id.as_str(), &bytes[..])).collect();
        let mut waiting = Vec::new();
        for peer in peers.iter() {
            let assignments = if peer.id == leader { &assignments[..] } else { &[] };
            match self.sync(peer, replies[0].generation, assignments) {
                Outcome::Parked(ticket) => waiting.push((ticket, peer.id.clone())),
                Outcome::Now(reply) => assert_eq!(reply.error, ErrorCode::None),
            }
        }
        for (ticket, id) in waiting {
            let bytes = assigned.iter().find(|(one, _)| *one == id).map(|(_, bytes)| &bytes[..]);
            assert_eq!(Some(&self.synced(ticket).assignment[..]), bytes);
        }
        assert_eq!(self.group().state(), ClassicState::Stable);
    }
}

#[test]
fn the_first_member_waits_for_the_delay_and_then_assigns_to_itself() {
    let (mut room, mut one) = (Room::new(), peer(9));
    let ticket = room.enter(&mut one);
    room.pass(DELAY_MS - 1);
    assert!(room.answers.is_empty());
    room.pass(1);
    let reply = room.joined(ticket);
    assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
    assert_eq!((&*reply.leader, &*reply.member_id), (&*one.id, &*one.id));
    assert_eq!(reply.members.len(), 1);
    assert_eq!(reply.members[0].metadata, subscription(&["t"]));
    let id = one.id.clone();
    let Outcome::Parked(ticket) = room.sync(&one, 1, &[(&id, b"mine")]) else {
        panic!("a sync waits for its record");
    };
    assert_eq!(room.synced(ticket).assignment.as_ref(), b"mine");
    assert_eq!(room.heartbeat(&one, 1), ErrorCode::None);
    assert_eq!(room.log.len(), 1);
}

#[test]
fn members_that_come_during_the_delay_share_one_generation() {
    let mut room = Room::new();
    let (mut one, mut two, mut three) = (peer(9), peer(4), peer(9));
    room.stable(&mut [&mut one, &mut two, &mut three]);
    assert_eq!(room.group().generation(), 1);
    assert_eq!(room.group().members().count(), 3);
}

#[test]
fn what_a_reload_finds_is_what_the_group_was() {
    let mut room = Room::new();
    let (mut one, mut two) = (peer(9), static_peer("i"));
    room.stable(&mut [&mut one, &mut two]);
    let mut again = room.reloaded();
    assert_eq!(again.group().state(), ClassicState::Stable);
    assert_eq!(again.group().generation(), 1);
    for peer in [&one, &two] {
        assert_eq!(again.heartbeat(peer, 1), ErrorCode::None);
        let Outcome::Now(reply) = again.sync(peer, 1, &[]) else {
            panic!("a stable group answers at once");
        };
        assert_eq!(reply.assignment, peer.id.as_bytes());
    }
    again.pass(SESSION_MS as u64 + 1);
    assert_eq!(
        again.heartbeat(&one, 1),
        ErrorCode::UnknownMemberId,
        "its session began with the load"
    );
}

#[test]
fn a_member_that_is_given_an_id_is_never_unknown_while_its_session_lasts() {
    let mut room = Room::new();
    let Outcome::Now(reply) = room.join(&peer(4)) else {
        panic!("an id comes first");
    };
    assert_eq!(reply.error, ErrorCode::MemberIdRequired);
    assert!(room.log.is_empty(), "nothing of it is worth writing");
    room.pass(SESSION_MS as u64 - 1);
    let mut known = Peer {
        id: reply.member_id.to_string(),
        ..peer(4)
    };
    let ticket = room.enter(&mut known);
    room.pass(DELAY_MS);
    assert_eq!(room.joined(ticket).error, ErrorCode::None);
}

#[test]
fn a_crowd_that_never_comes_back_is_forgotten() {
    let mut room = Room::new();
    for _ in 0..3 {
        room.join(&peer(4));
    }
    let weight = room.shard.weight();
    assert!(weight > 3 * PENDING_WEIGHT, "{weight}");
    room.pass(SESSION_MS as u64);
    assert_eq!((room.shard.group_count(), room.shard.weight()), (0, 0));
}

#[test]
fn a_newcomer_makes_the_others_join_again_and_the_old_leader_stays() {
    let mut room = Room::new();
    let (mut one, mut two) = (peer(9), peer(9));
    room.stable(&mut [&mut one]);
    let newcomer = room.enter(&mut two);
    assert_eq!(room.heartbeat(&one, 1), ErrorCode::RebalanceInProgress);
    let old = room.enter(&mut one);
    let (old, new) = (room.joined(old), room.joined(newcomer));
    assert_eq!((old.generation, new.generation), (2, 2));
    assert_eq!((&*old.leader, &*new.leader), (&*one.id, &*one.id));
    assert_eq!((old.members.len(), new.members.len()), (2, 0));
}

#[test]
fn whoever_does_not_join_in_time_is_out() {
    let mut room = Room::new();
    let (mut one, mut two) = (peer(9), peer(9));
    room.stable(&mut [&mut one]);
    let newcomer = room.enter(&mut two);
    // The old member goes on saying that it is alive, but does not join.
    for _ in 0..REBALANCE_MS / 5_000 {
        assert_eq!(room.heartbeat(&one, 1), ErrorCode::RebalanceInProgress);
        room.pass(5_000);
    }
    let reply = room.joined(newcomer);
    assert_eq!(
        (reply.error, reply.generation, reply.members.len()),
        (ErrorCode::None, 2, 1)
    );
    assert_eq!(&*reply.leader, two.id);
    assert_eq!(room.heartbeat(&one, 1), ErrorCode::UnknownMemberId);
}

#[test]
fn a_silent_member_is_removed_after_its_session_and_the_others_rebalance() {
    let mut room = Room::new();
    let (mut one, mut two) = (peer(9), peer(9));
    room.stable(&mut [&mut one, &mut two]);
    room.pass(SESSION_MS as u64 - 1);
    assert_eq!(room.heartbeat(&one, 1), ErrorCode::None);
    room.pass(1);
    assert_eq!(room.heartbeat(&two, 1), ErrorCode::UnknownMemberId);
    assert_eq!(room.heartbeat(&one, 1), ErrorCode::RebalanceInProgress);
    let again = room.enter(&mut one);
    assert_eq!(room.joined(again).members.len(), 1);
}

#[test]
fn an_open_rebalance_keeps_no_member_from_waiting_longer_than_its_session() {
    let mut room = Room::new();
    let (mut one, mut two, mut three) = (peer(9), peer(9), peer(9));
    room.stable(&mut [&mut one, &mut two]);
    room.enter(&mut three);
    let waiting = room.enter(&mut one);
    for _ in 0..4 {
        room.pass(SESSION_MS as u64 - 1_000);
        assert_eq!(room.heartbeat(&two, 1), ErrorCode::RebalanceInProgress);
    }
    assert!(!room.answers.contains_key(&waiting));
    let last = room.enter(&mut two);
    assert_eq!(room.joined(last).error, ErrorCode::None);
    assert_eq!(room.joined(waiting).members.len(), 3);
}

#[test]
fn a_member_that_leaves_is_gone_and_an_empty_group_keeps_its_generation() {
    let mut room = Room::new();
    let (mut one, mut two) = (peer(9), peer(9));
    room.stable(&mut [&mut one, &mut two]);
    assert_eq!(room.leave(&one.id, None), ErrorCode::None);
    assert_eq!(room.leave(&one.id, None), ErrorCode::UnknownMemberId);
    assert_eq!(room.group().state(), ClassicState::PreparingRebalance);
    assert_eq!(room.leave(&two.id, None), ErrorCode::None);
    assert_eq!(room.group().state(), ClassicState::Empty);
    assert_eq!(room.group().generation(), 2);
    let reloaded = room.reloaded();
    assert_eq!(
        (reloaded.group().state(), reloaded.group().generation()),
        (ClassicState::Empty, 2)
    );
    assert_eq!(room.leave("nobody", None), ErrorCode::UnknownMemberId);
}

#[test]
fn nobody_commits_before_it_has_heard_what_the_generation_gives_it() {
    let mut room = Room::new();
    let (leader, other) = &room.joined_by_two();
    assert_eq!(room.commit(leader, 1), Err(ErrorCode::RebalanceInProgress));
    assert!(matches!(room.sync(leader, 1, &[]), Outcome::Parked(_)));
    assert_eq!(room.commit(leader, 1), Ok(()));
    assert_eq!(room.commit(other, 1), Err(ErrorCode::RebalanceInProgress));
    assert!(matches!(room.sync(other, 1, &[]), Outcome::Now(_)));
    assert_eq!(room.commit(other, 1), Ok(()));
    assert_eq!(room.commit(other, 0), Err(ErrorCode::IllegalGeneration));
    // One that starts anew is answered at once, and has yet to ask for what it is given.
    let mut room = Room::new();
    let mut one = static_peer("a");
    room.stable(&mut [&mut one]);
    one.id = String::new();
    let Outcome::Parked(ticket) = room.join(&one) else {
        panic!("it is a member under a new id");
    };
    one.id = room.joined(ticket).member_id.to_string();
    assert_eq!(room.commit(&one, 1), Err(ErrorCode::RebalanceInProgress));
    room.sync(&one, 1, &[]);
    assert_eq!(room.commit(&one, 1), Ok(()));
}

#[test]
fn a_member_that_does_not_sync_is_out_when_the_rebalance_timeout_is_over() {
    let mut room = Room::new();
    let (leader, other) = &room.joined_by_two();
    let Outcome::Parked(ticket) = room.sync(other, 1, &[]) else {
        panic!("it waits for the leader");
    };
    for _ in 0..REBALANCE_MS / 5_000 {
        assert_eq!(room.heartbeat(leader, 1), ErrorCode::None);
        room.pass(5_000);
    }
    assert_eq!(room.synced(ticket).error, ErrorCode::RebalanceInProgress);
    assert_eq!(room.heartbeat(leader, 1), ErrorCode::UnknownMemberId);
    assert_eq!(room.heartbeat(other, 1), ErrorCode::RebalanceInProgress);
}

#[test]
fn a_generation_that_died_with_its_coordinator_is_never_counted_again() {
    let mut room = Room::new();
    let (mut one, mut two) = (peer(9), peer(9));
    room.stable(&mut [&mut one, &mut two]);
    // Each coordinator counts a generation, whose leader never assigns, and dies.
    let mut seen = vec![room.group().generation()];
    for _ in 0..3 {
        let joins = [room.enter(&mut one), room.enter(&mut two)];
        for ticket in joins {
            let reply = room.joined(ticket);
            assert_eq!(reply.error, ErrorCode::None);
            seen.push(reply.generation);
        }
        room.pass(7);
        room = room.reloaded();
        assert_eq!(room.group().generation(), 1, "what was written is still what it is");
        assert_eq!(room.heartbeat(&one, 1), ErrorCode::None);
    }
    seen.dedup();
    assert_eq!(seen.len(), 4, "{seen:?}");
}

#[test]
fn a_repeated_join_gets_the_answer_and_the_first_is_not_left_without_one() {
    let (mut room, mut one) = (Room::new(), peer(9));
    let first = room.enter(&mut one);
    let second = room.enter(&mut one);
    assert_eq!(room.joined(first).error, ErrorCode::RebalanceInProgress);
    room.pass(DELAY_MS);
    assert_eq!(room.joined(second).error, ErrorCode::None);
    // The answer was lost on the way: here it is again, members and all.
    let Outcome::Now(again) = room.join(&one) else {
        panic!("nothing has changed");
    };
    assert_eq!((again.generation, again.members.len()), (1, 1));
}

#[test]
fn the_protocol_that_most_prefer_of_those_that_all_know_is_chosen() {
    let mut room = Room::new();
    let knows = |names: &[&'static str]| Peer {
        protocols: names.iter().map(|name| (*name, subscription(&["t"]))).collect(),
        ..peer(9)
    };
    let mut peers = [
        knows(&["sticky", "range", "only-mine"]),
        knows(&["range", "sticky"]),
        knows(&["range", "sticky"]),
    ];
    let [one, two, three] = &mut peers;
    room.stable(&mut [one, two, three]);
    assert_eq!(room.group().protocol().map(|name| &**name), Some("range"));
    let Outcome::Now(reply) = room.join(&knows(&["cooperative-sticky"])) else {
        panic!("it does not fit");
    };
    assert_eq!(reply.error, ErrorCode::InconsistentGroupProtocol);
    let Outcome::Now(reply) = room.join_as(&knows(&["range"]), "connect") else {
        panic!("it does not fit");
    };
    assert_eq!(reply.error, ErrorCode::InconsistentGroupProtocol);
}

#[test]
fn a_consumer_to_whom_the_leader_gave_nothing_gets_an_assignment_that_it_can_read() {
    let (mut room, mut one) = (Room::new(), peer(9));
    let ticket = room.enter(&mut one);
    room.pass(DELAY_MS);
    room.joined(ticket);
    let Outcome::Parked(ticket) = room.sync(&one, 1, &[]) else {
        panic!("a sync waits for its record");
    };
    let assignment = room.synced(ticket).assignment;
    let mut reader = Reader::new(&assignment);
    assert_eq!(reader.i16().unwrap(), 0);
    let decoded = ConsumerProtocolAssignment::decode(&mut reader, 0).unwrap();
    assert!(decoded.assigned_partitions.is_empty());
}

#[test]
fn a_full_group_takes_nobody_in_but_those_who_are_there() {
    let mut room = Room::with(GroupConfig {
        max_size: 2,
        ..GroupConfig::default()
    });
    let (mut one, mut two) = (peer(9), peer(9));
    room.stable(&mut [&mut one, &mut two]);
    let Outcome::Now(reply) = room.join(&peer(9)) else {
        panic!("there is no room");
    };
    assert_eq!(reply.error, ErrorCode::GroupMaxSizeReached);
    assert_eq!(room.heartbeat(&one, 1), ErrorCode::None);
    room.enter(&mut one);
}

#[test]
fn what_does_not_fit_is_refused() {
    let mut room = Room::new();
    let mut one = peer(9);
    room.stable(&mut [&mut one]);
    assert_eq!(room.heartbeat(&one, 2), ErrorCode::IllegalGeneration);
    let error = |outcome| match outcome {
        Outcome::Now(SyncReply { error, .. }) => error,
        Outcome::Parked(_) => ErrorCode::None,
    };
    assert_eq!(error(room.sync(&one, 0, &[])), ErrorCode::IllegalGeneration);
    assert_eq!(error(room.sync(&peer(9), 1, &[])), ErrorCode::UnknownMemberId);
    let stranger = Peer {
        id: "stranger".into(),
        ..peer(9)
    };
    let Outcome::Now(reply) = room.join(&stranger) else {
        panic!("nobody knows it");
    };
    assert_eq!(reply.error, ErrorCode::UnknownMemberId);
    let talkative = Peer {
        protocols: vec![("range", vec![0; METADATA_BYTES_MAX])],
        ..peer(9)
    };
    let Outcome::Now(reply) = room.join(&talkative) else {
        panic!("it says too much");
    };
    assert_eq!(reply.error, ErrorCode::InvalidRequest);
}

#[test]
fn metadata_that_cannot_be_read_make_a_group_that_might_read_anything() {
    let mut room = Room::new();
    for bytes in [
        vec![],
        vec![0],
        vec![0, 1, 0xff, 0xff, 0xff],
        vec![0xff; 40],
        vec![0, 9, 0x7f, 0xff, 0xff, 0xff],
    ] {
        let mut odd = Peer {
            protocols: vec![("range", bytes)],
            ..peer(9)
        };
        room.stable(&mut [&mut odd]);
        assert!(!room.group().knows_subscriptions());
        assert!(room.group().is_subscribed_to("anything"));
        assert_eq!(room.leave(&odd.id, None), ErrorCode::None);
    }
    let mut sound = peer(9);
    room.stable(&mut [&mut sound]);
    assert!(room.group().is_subscribed_to("t"));
    assert!(!room.group().is_subscribed_to("other"));
}

#[test]
fn the_weight_of_a_group_is_that_of_its_members_whatever_has_happened() {
    let mut room = Room::new();
    let (mut one, mut two) = (static_peer("a"), peer(9));
    room.stable(&mut [&mut one, &mut two]);
    room.join(&static_peer("a"));
    two.protocols[0].1 = subscription(&["t", "another"]);
    room.enter(&mut two);
    let members: usize = room.group().members().map(Member::weight).sum();
    assert_eq!(room.group().weight(), WEIGHT + 2 + members);
    assert_eq!(room.shard.weight(), room.group().weight());
}
