//! Static members (KIP-345).

use super::*;

#[test]
fn a_static_member_comes_back_without_a_rebalance_and_fences_its_old_self() {
    for version in [8, 9] {
        let mut room = Room::new();
        let (mut one, mut two) = (static_peer("a"), static_peer("b"));
        room.stable(&mut [&mut one, &mut two]);
        let leader = room.group().leader().unwrap().to_string();
        let (old, instance) = if leader == one.id { (one, "a") } else { (two, "b") };
        let back = Peer {
            version,
            ..static_peer(instance)
        };
        let Outcome::Parked(ticket) = room.join(&back) else {
            panic!("it waits for its record");
        };
        let reply = room.joined(ticket);
        assert_eq!((reply.error, reply.generation), (ErrorCode::None, 1));
        assert_ne!(&*reply.member_id, old.id);
        assert_eq!(reply.skip_assignment, version == 9);
        assert_eq!(reply.members.len(), if version == 9 { 2 } else { 0 });
        // Without a word for it in the answer, the member must not take itself for the leader.
        assert_eq!(*reply.leader == *reply.member_id, version == 9);
        assert_eq!(room.group().state(), ClassicState::Stable);
        assert_eq!(room.heartbeat(&old, 1), ErrorCode::FencedInstanceId);
        assert_eq!(room.leave(&old.id, Some(instance)), ErrorCode::FencedInstanceId);
        let back = Peer {
            id: reply.member_id.to_string(),
            ..back
        };
        let Outcome::Now(synced) = room.sync(&back, 1, &[]) else {
            panic!("a stable group answers at once");
        };
        assert_eq!(synced.assignment, old.id.as_bytes(), "it keeps what it had");
        let mut reloaded = room.reloaded();
        assert_eq!(reloaded.heartbeat(&back, 1), ErrorCode::None);
        assert_eq!(reloaded.heartbeat(&old, 1), ErrorCode::FencedInstanceId);
        assert_eq!(
            room.leave("", Some(instance)),
            ErrorCode::None,
            "an administrator names the instance"
        );
    }
}

fn assignment(partitions: &[i32]) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.i16(0);
    let assignment = ConsumerProtocolAssignment {
        assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
            topic: "t",
            partitions: partitions.to_vec(),
        }],
        user_data: None,
    };
    assignment.encode(&mut writer, 0);
    writer.into_vec().unwrap()
}

/// The group's state after a static member that owned `owned` and was assigned `assigned` comes back with `topics`, in the
/// living shard and in one that has read the log.
fn after_a_restart(owned: &[i32], assigned: &[i32], topics: &[&str]) -> [ClassicState; 2] {
    let mut room = Room::new();
    let mut one = static_peer("a");
    let mut two = Peer {
        protocols: vec![("range", subscription_of_owner(&["t", "u"], owned))],
        ..static_peer("b")
    };
    room.stable_with(&mut [&mut one, &mut two], |_| assignment(assigned));
    let back = Peer {
        protocols: vec![("range", subscription(topics))],
        ..static_peer("b")
    };
    [room.reloaded(), room].map(|mut room| {
        let Outcome::Parked(_) = room.join(&back) else {
            panic!("it waits for its record or for the others");
        };
        room.group().state()
    })
}

#[test]
fn a_static_member_that_comes_back_without_what_it_was_to_give_up_makes_the_others_join_again() {
    let rebalance = [ClassicState::PreparingRebalance; 2];
    assert_eq!(after_a_restart(&[0, 1], &[0], &["t", "u"]), rebalance);
    assert_eq!(after_a_restart(&[0, 1], &[], &["t", "u"]), rebalance);
    let quiet = [ClassicState::Stable; 2];
    assert_eq!(after_a_restart(&[0, 1], &[0, 1, 2], &["t", "u"]), quiet);
    assert_eq!(after_a_restart(&[], &[0, 1], &["u", "t"]), quiet);
}

#[test]
fn a_static_member_that_comes_back_with_other_topics_makes_the_others_join_again() {
    let rebalance = [ClassicState::PreparingRebalance; 2];
    assert_eq!(after_a_restart(&[], &[0], &["t"]), rebalance);
    assert_eq!(after_a_restart(&[], &[0], &["t", "u", "v"]), rebalance);
}

#[test]
fn a_static_member_that_missed_a_generation_lets_go_before_it_is_a_member_again() {
    for owned in [&[0][..], &[]] {
        let mut room = Room::new();
        let (mut one, mut two, mut newcomer) = (static_peer("a"), peer(9), peer(9));
        room.stable(&mut [&mut one, &mut two]);
        room.enter(&mut newcomer);
        let joins = [room.enter(&mut two)];
        // It is busy, and says only that it lives.
        let mut waited = 0;
        while waited < REBALANCE_MS as u64 {
            room.pass(1_000);
            waited += 1_000;
            room.heartbeat(&one, 1);
        }
        assert_eq!(joins.map(|ticket| room.joined(ticket).generation), [2]);
        one.protocols = vec![("range", subscription_of_owner(&["t"], owned))];
        match room.join(&one) {
            Outcome::Now(reply) if !owned.is_empty() => assert_eq!(reply.error, ErrorCode::UnknownMemberId),
            Outcome::Now(reply) if owned.is_empty() => {
                assert_eq!((reply.error, reply.generation), (ErrorCode::None, 2));
                continue;
            }
            other => panic!("{owned:?}: {other:?}"),
        }
        // Without an id, as one that starts anew, it gets in.
        one.id = String::new();
        one.protocols = vec![("range", subscription(&["t"]))];
        assert!(matches!(room.join(&one), Outcome::Parked(_)));
        assert_eq!(room.group().members().count(), 3);
    }
}

#[test]
fn a_static_member_that_is_replaced_while_it_waits_is_told_so() {
    let mut room = Room::new();
    let (mut one, mut newcomer) = (static_peer("a"), peer(9));
    room.stable(&mut [&mut one]);
    room.enter(&mut newcomer);
    // All have joined when the static one does; so let another newcomer keep the rebalance open.
    room.join(&peer(9));
    let old = room.enter(&mut one);
    let Outcome::Parked(new) = room.join(&static_peer("a")) else {
        panic!("it waits for the others");
    };
    assert_eq!(room.joined(old).error, ErrorCode::FencedInstanceId);
    room.pass(REBALANCE_MS as u64);
    assert_eq!(room.joined(new).error, ErrorCode::None);
}
