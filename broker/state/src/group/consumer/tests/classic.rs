//! Members of the classic protocol in a consumer group.

use super::*;
use crate::group::{JoinReply, SyncReply};
use ottla_protocol::Message;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::{
    ConsumerProtocolAssignment, ConsumerProtocolSubscription, HeartbeatRequest as ClassicHeartbeat, JoinGroupRequest,
    SyncGroupRequest, consumer_protocol_subscription,
};
use ottla_protocol::wire::{Reader, Writer};

/// What a cooperative consumer says when it joins.
pub(in crate::group) fn subscription(topics: &[&str], owned: &[(&str, &[i32])]) -> Vec<u8> {
    subscription_of(topics, owned, -1)
}

fn subscription_of(topics: &[&str], owned: &[(&str, &[i32])], generation_id: i32) -> Vec<u8> {
    let message = ConsumerProtocolSubscription {
        topics: topics.to_vec(),
        owned_partitions: owned
            .iter()
            .map(|(topic, partitions)| consumer_protocol_subscription::TopicPartition {
                topic,
                partitions: partitions.to_vec(),
            })
            .collect(),
        generation_id,
        ..ConsumerProtocolSubscription::default()
    };
    let mut writer = Writer::new();
    let version = if generation_id < 0 { 1 } else { 2 };
    writer.i16(version);
    message.encode(&mut writer, version);
    writer.into_vec().unwrap()
}

pub(in crate::group) fn assigned(bytes: &[u8]) -> BTreeMap<String, Vec<i32>> {
    let mut reader = Reader::new(bytes);
    let version = reader.i16().unwrap();
    let message = ConsumerProtocolAssignment::decode(&mut reader, version).unwrap();
    let topics = message.assigned_partitions.into_iter();
    topics.map(|topic| (topic.topic.to_owned(), topic.partitions)).collect()
}

impl World {
    pub(super) fn join_classic(
        &mut self,
        id: &str,
        instance: Option<&str>,
        metadata: &[u8],
    ) -> Result<JoinReply, (ErrorCode, Arc<str>)> {
        let request = JoinGroupRequest {
            group_id: "g",
            session_timeout_ms: 30_000,
            rebalance_timeout_ms: 5_000,
            member_id: id,
            group_instance_id: instance,
            protocol_type: "consumer",
            protocols: vec![JoinGroupRequestProtocol {
                name: "cooperative-sticky",
                metadata,
            }],
            reason: None,
        };
        let client = Client {
            id: "old",
            host: "/127.0.0.1",
            fresh_id: Uuid::ZERO,
        };
        self.with(
            |group, context| match group.join_classic(&request, 9, client, "fresh".into(), context) {
                Ok((records, reply)) => (records, Ok(reply)),
                Err(error) => (Vec::new(), Err(error)),
            },
        )
    }

    pub(super) fn sync(&mut self, id: &str, generation: i32) -> SyncReply {
        let request = SyncGroupRequest {
            group_id: "g",
            generation_id: generation,
            member_id: id,
            protocol_type: Some("consumer"),
            protocol_name: Some("cooperative-sticky"),
            ..SyncGroupRequest::default()
        };
        self.with(|group, context| (Vec::new(), group.sync_classic(&request, context)))
    }

    pub(super) fn beat(&mut self, id: &str, generation: i32) -> ErrorCode {
        let request = ClassicHeartbeat {
            group_id: "g",
            generation_id: generation,
            member_id: id,
            group_instance_id: None,
        };
        self.with(|group, context| (Vec::new(), group.heartbeat_classic(&request, context)))
    }
}

#[test]
fn a_classic_member_gives_up_and_gets_through_joining_again() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("new", &["maps"]).assignment.unwrap();
    world.own("new", 1, &all);

    let joined = world.join_classic("old", None, &subscription(&["maps"], &[])).unwrap();
    assert_eq!((joined.error, joined.generation), (ErrorCode::None, 2));
    assert_eq!(joined.protocol.as_deref(), Some("cooperative-sticky"));
    assert_eq!((&*joined.leader, joined.members.len()), ("", 0));
    let synced = world.sync("old", 2);
    assert_eq!((synced.error, assigned(&synced.assignment).len()), (ErrorCode::None, 0));

    assert_eq!(
        world.beat("old", 2),
        ErrorCode::None,
        "what it waits for is not free yet"
    );
    let keeps = world.stay("new", 1).assignment.unwrap();
    world.own("new", 1, &keeps);
    assert_eq!(world.beat("old", 2), ErrorCode::RebalanceInProgress);
    let joined = world.join_classic("old", None, &subscription(&["maps"], &[])).unwrap();
    assert_eq!(joined.generation, 2);
    let synced = world.sync("old", 2);
    assert_eq!(assigned(&synced.assignment)["maps"].len(), 2);
    assert_eq!(world.beat("old", 2), ErrorCode::None);
    assert_eq!(world.group.state(), GroupState::Stable);
}

#[test]
fn a_classic_member_is_told_what_to_give_up_by_its_assignment() {
    let mut world = World::new(&[("maps", 4)]);
    world.join_classic("old", None, &subscription(&["maps"], &[])).unwrap();
    let all = assigned(&world.sync("old", 1).assignment)["maps"].clone();
    assert_eq!(all, [0, 1, 2, 3]);
    world.join("new", &["maps"]);

    assert_eq!(world.beat("old", 1), ErrorCode::RebalanceInProgress);
    let joined = world
        .join_classic("old", None, &subscription(&["maps"], &[("maps", &all)]))
        .unwrap();
    assert_eq!(joined.generation, 1, "it has not given anything up yet");
    let keeps = assigned(&world.sync("old", 1).assignment)["maps"].clone();
    assert_eq!(keeps.len(), 2);
    assert_eq!(world.beat("old", 1), ErrorCode::RebalanceInProgress);
    let joined = world
        .join_classic("old", None, &subscription(&["maps"], &[("maps", &keeps)]))
        .unwrap();
    assert_eq!(joined.generation, 2);
    assert_eq!(assigned(&world.sync("old", 2).assignment)["maps"], keeps);
    assert_eq!(world.stay("new", 2).assignment.map(|gained| gained.len()), Some(1));
}

#[test]
fn a_classic_member_without_id_is_given_one_first() {
    let mut world = World::new(&[("maps", 4)]);
    world.join("new", &["maps"]);
    let refused = world.join_classic("", None, &subscription(&["maps"], &[])).unwrap_err();
    assert_eq!(refused, (ErrorCode::MemberIdRequired, "fresh".into()));
    assert_eq!(world.group.members().len(), 1);
}

#[test]
fn a_classic_member_that_was_given_up_is_told_before_it_goes_on_with_what_it_had() {
    let mut world = World::new(&[("maps", 4)]);
    world.join_classic("old", None, &subscription(&["maps"], &[])).unwrap();
    world.sync("old", 1);
    world.join("new", &["maps"]);
    world.pass(30_000);
    assert!(world.group.member("old").is_none());

    let owns: &[(&str, &[i32])] = &[("maps", &[0, 1, 2, 3])];
    let claims = subscription_of(&["maps"], owns, 1);
    let refused = world.join_classic("old", None, &claims).unwrap_err();
    assert_eq!(refused, (ErrorCode::UnknownMemberId, "old".into()));
    assert!(world.group.member("old").is_none());

    let claims_nothing = subscription_of(&["maps"], &[], 1);
    assert!(world.join_classic("old", None, &claims_nothing).is_ok());
    let forgot_its_generation = subscription(&["maps"], owns);
    assert!(world.join_classic("older", None, &forgot_its_generation).is_ok());
    assert!(world.join_classic("old", None, &claims).is_ok(), "it is a member");
}

#[test]
fn generations_and_protocols_have_to_match() {
    let mut world = World::new(&[("maps", 4)]);
    world.join("new", &["maps"]);
    world.join_classic("old", None, &subscription(&["maps"], &[])).unwrap();
    assert_eq!(world.sync("old", 7).error, ErrorCode::IllegalGeneration);
    assert_eq!(world.beat("old", 7), ErrorCode::IllegalGeneration);
    assert_eq!(
        world.beat("new", 1),
        ErrorCode::UnknownMemberId,
        "it does not speak this protocol"
    );
    assert_eq!(world.sync("nobody", 1).error, ErrorCode::UnknownMemberId);
    let garbage = world.join_classic("old", None, &[0]).unwrap_err();
    assert_eq!(garbage.0, ErrorCode::InvalidRequest);
}

#[test]
fn who_joins_and_does_not_sync_or_is_called_and_does_not_join_is_taken_out() {
    let mut world = World::new(&[("maps", 4)]);
    world.join("new", &["maps"]);
    world.join_classic("old", None, &subscription(&["maps"], &[])).unwrap();
    assert!(world.pass(4_999).is_empty());
    assert_eq!(world.pass(1), [Arc::from("old")]);

    let epoch = world
        .join_classic("old", None, &subscription(&["maps"], &[]))
        .unwrap()
        .generation;
    world.sync("old", epoch);
    world.join("third", &["maps"]);
    assert_eq!(world.beat("old", epoch), ErrorCode::RebalanceInProgress);
    world.pass(4_000);
    assert_eq!(
        world.beat("old", epoch),
        ErrorCode::RebalanceInProgress,
        "which does not prolong it"
    );
    assert_eq!(world.pass(1_000), [Arc::from("old")]);
}

#[test]
fn a_member_comes_over_from_the_classic_protocol_under_its_instance() {
    let mut world = World::new(&[("maps", 4)]);
    let joined = world
        .join_classic("", Some("i"), &subscription(&["maps"], &[]))
        .unwrap();
    assert_eq!(&*joined.member_id, "fresh");
    let reply = world.heartbeat(&join_static("b", "i", &["maps"]));
    assert_eq!(reply.member_epoch, 1);
    assert_eq!(reply.assignment, Some(world.of("maps", &[0, 1, 2, 3])));
    assert!(world.group.member("fresh").is_none());
    assert!(world.group.member("b").unwrap().classic.is_none());
}

#[test]
fn members_of_both_protocols_may_be_removed_by_instance_and_classic_ones_leave_by_id() {
    let mut world = World::new(&[("maps", 4)]);
    world.heartbeat(&join_static("a", "i", &["maps"]));
    world.join_classic("old", None, &subscription(&["maps"], &[])).unwrap();
    let identity = |member_id, group_instance_id| MemberIdentity {
        member_id,
        group_instance_id,
        ..MemberIdentity::default()
    };
    let asked = [
        identity("", Some("i")),
        identity("old", None),
        identity("a", None),
        identity("x", None),
    ];
    let (gone, told) = world.group.leave_classic(&asked);
    assert_eq!(gone, BTreeSet::from([Arc::from("a"), Arc::from("old")]));
    let codes: Vec<ErrorCode> = told.iter().map(|left| left.error).collect();
    let unknown = ErrorCode::UnknownMemberId;
    assert_eq!(codes, [ErrorCode::None, ErrorCode::None, unknown, unknown]);
}
