//! Heartbeats: joining, following, leaving, and what is refused.

use super::*;

#[test]
fn the_first_member_gets_everything_at_once() {
    let mut world = World::new(&[("maps", 3)]);
    let reply = world.join("a", &["maps"]);
    assert_eq!(reply.member_epoch, 1);
    assert_eq!(reply.heartbeat_interval_ms, 5_000);
    assert_eq!(reply.assignment, Some(world.of("maps", &[0, 1, 2])));
    assert_eq!(world.group.state(), GroupState::Stable);
}

#[test]
fn a_partition_moves_only_after_it_was_given_up() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);

    let joined = world.join("b", &["maps"]);
    assert_eq!(joined.member_epoch, 2);
    assert_eq!(joined.assignment, Some(Partitions::new()));
    assert_eq!(world.group.state(), GroupState::Reconciling);

    let told = world.stay("a", 1);
    assert_eq!(told.member_epoch, 1, "it stays in its epoch until it has given up");
    let keeps = told.assignment.unwrap();
    assert_eq!(keeps, world.of("maps", &[0, 1]));
    assert_eq!(world.stay("b", 2).assignment, None, "they are still with a");

    let given_up = world.own("a", 1, &keeps);
    assert_eq!(given_up.member_epoch, 2);
    let gained = world.stay("b", 2);
    assert_eq!(gained.assignment, Some(world.of("maps", &[2, 3])));
    assert_eq!(world.group.state(), GroupState::Stable);
}

#[test]
fn a_heartbeat_with_nothing_new_writes_nothing() {
    let mut world = World::new(&[("maps", 2)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    let written = world.log.len();
    assert_eq!(world.stay("a", 1).assignment, None);
    assert_eq!(world.log.len(), written);
}

#[test]
fn a_full_request_is_answered_with_the_partitions() {
    let mut world = World::new(&[("maps", 2)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    let full = HeartbeatRequest {
        member_epoch: 1,
        owned: Some(all.clone()),
        ..join("a", &["maps"])
    };
    assert_eq!(world.heartbeat(&full).assignment, Some(all));
}

#[test]
fn joining_twice_is_joining_once() {
    let mut world = World::new(&[("maps", 2)]);
    let first = world.join("a", &["maps"]);
    assert_eq!(world.join("a", &["maps"]), first);
    assert_eq!(world.group.epoch(), 1);
}

#[test]
fn a_late_request_to_join_frees_nothing_that_the_member_still_has() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    assert!(world.join("b", &["maps"]).assignment.unwrap().is_empty());
    // "a" is to give up two of them and does not know it yet; what it sent long ago over another connection comes now.
    let keeps = world.of("maps", &[0, 1]);
    let late = world.join("a", &["maps"]);
    assert_eq!((late.member_epoch, late.assignment), (1, Some(keeps.clone())));
    assert_eq!(world.stay("b", 2).assignment.unwrap_or_default(), Partitions::new());
    assert_eq!(world.stay("a", 1).assignment, Some(keeps.clone()));
    assert_eq!(world.stay("b", 2).assignment.unwrap_or_default(), Partitions::new());
    assert_eq!(world.own("a", 1, &keeps).member_epoch, 2);
    assert_eq!(world.stay("b", 2).assignment, Some(world.of("maps", &[2, 3])));
}

#[test]
fn the_same_bytes_again_after_a_lost_answer_are_no_reason_to_fence() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.join("b", &["maps"]);
    let keeps = world.stay("a", 1).assignment.unwrap();
    let lost = HeartbeatRequest {
        owned: Some(keeps.clone()),
        ..stay("a", 1)
    };
    assert_eq!(world.heartbeat(&lost).member_epoch, 2);
    // Its answer never came; meanwhile the group goes on.
    world.join("c", &["maps"]);
    for _ in 0..3 {
        let again = world.heartbeat(&lost);
        assert_eq!((again.member_epoch, again.assignment), (2, Some(keeps.clone())));
    }
    // Nor are they when they say nothing of partitions.
    assert_eq!(world.stay("a", 1).member_epoch, 2);
    // Now that it knows its epoch, it is taken further.
    assert_eq!(world.own("a", 2, &keeps).member_epoch, 3);
}

#[test]
fn an_answer_that_took_partitions_away_is_repeated_until_it_was_heard() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.join("b", &["maps"]);
    let keeps = world.of("maps", &[0, 1]);
    assert_eq!(world.stay("a", 1).assignment, Some(keeps.clone()));
    assert_eq!(
        world.stay("a", 1).assignment,
        Some(keeps.clone()),
        "the first answer may be lost"
    );
    world.own("a", 1, &keeps);
    assert_eq!(world.stay("a", 2).assignment, None);
}

#[test]
fn an_epoch_that_cannot_be_its_own_is_fenced() {
    let mut world = World::new(&[("maps", 2)]);
    world.join("a", &["maps"]);
    world.join("b", &["maps"]);
    assert_eq!(world.refused(&stay("b", 7)), ErrorCode::FencedMemberEpoch);
    assert_eq!(world.refused(&stay("b", 1)), ErrorCode::FencedMemberEpoch);
    assert_eq!(world.refused(&stay("nobody", 1)), ErrorCode::UnknownMemberId);
}

#[test]
fn the_epoch_before_is_fenced_if_the_member_owns_what_it_was_not_given() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.join("b", &["maps"]);
    let keeps = world.stay("a", 1).assignment.unwrap();
    assert_eq!(world.own("a", 1, &keeps).member_epoch, 2);
    let owns_more = HeartbeatRequest {
        owned: Some(all),
        ..stay("a", 1)
    };
    assert_eq!(world.refused(&owns_more), ErrorCode::FencedMemberEpoch);
}

#[test]
fn who_leaves_leaves_its_partitions_to_the_others() {
    let mut world = World::new(&[("maps", 2)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.join("b", &["maps"]);
    let keeps = world.stay("a", 1).assignment.unwrap();
    world.own("a", 1, &keeps);
    world.stay("b", 2);
    let left = world.leave(&stay("a", LEAVE_EPOCH)).unwrap();
    assert_eq!((left.member_epoch, left.assignment), (LEAVE_EPOCH, None));
    let reply = world.stay("b", 2);
    assert_eq!((reply.member_epoch, reply.assignment), (3, Some(all)));
    assert_eq!(world.leave(&stay("a", LEAVE_EPOCH)), Err(ErrorCode::UnknownMemberId));
    world.leave(&stay("b", LEAVE_EPOCH)).unwrap();
    assert_eq!(world.group.state(), GroupState::Empty);
}

#[test]
fn silence_ends_a_session_and_a_heartbeat_prolongs_it() {
    let mut world = World::new(&[("maps", 2)]);
    world.join("a", &["maps"]);
    world.join("b", &["maps"]);
    assert!(world.pass(44_999).is_empty());
    world.stay("b", 2);
    assert_eq!(world.group.wake_at(), Some(Time(45_000)));
    assert_eq!(world.pass(1), [Arc::from("a")]);
    assert_eq!(world.refused(&stay("a", 1)), ErrorCode::UnknownMemberId);
    assert_eq!(world.group.members().len(), 1);
}

#[test]
fn who_does_not_give_up_within_its_rebalance_timeout_is_taken_out() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.join("b", &["maps"]);
    world.stay("a", 1);
    assert!(world.pass(4_999).is_empty());
    // It lives, and still owns everything.
    world.own("a", 1, &all);
    assert_eq!(world.pass(1), [Arc::from("a")]);
    assert_eq!(world.stay("b", 2).assignment, Some(all));
}

#[test]
fn who_gave_up_in_time_is_left_alone() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.join("b", &["maps"]);
    let keeps = world.stay("a", 1).assignment.unwrap();
    world.own("a", 1, &keeps);
    assert!(world.pass(6_000).is_empty());
}

#[test]
fn a_static_member_that_goes_for_a_while_finds_its_partitions_again() {
    let mut world = World::new(&[("maps", 4)]);
    let own = world.heartbeat(&join_static("a", "i", &["maps"])).assignment.unwrap();
    let away = HeartbeatRequest {
        instance_id: Some("i".into()),
        ..stay("a", STATIC_LEAVE_EPOCH)
    };
    assert_eq!(world.leave(&away).unwrap().member_epoch, STATIC_LEAVE_EPOCH);
    let back = world.heartbeat(&join_static("a2", "i", &["maps"]));
    assert_eq!((back.member_epoch, back.assignment), (1, Some(own)));
    assert_eq!(world.group.epoch(), 1, "nobody else has to know");
    let old = HeartbeatRequest {
        instance_id: Some("i".into()),
        ..stay("a", 1)
    };
    assert_eq!(world.refused(&old), ErrorCode::FencedInstanceId);
}

#[test]
fn a_static_member_that_stays_away_is_taken_out() {
    let mut world = World::new(&[("maps", 4)]);
    world.heartbeat(&join_static("a", "i", &["maps"]));
    let away = HeartbeatRequest {
        instance_id: Some("i".into()),
        ..stay("a", STATIC_LEAVE_EPOCH)
    };
    world.leave(&away).unwrap();
    assert_eq!(world.pass(45_000), [Arc::from("a")]);
}

#[test]
fn an_instance_that_is_there_cannot_be_taken_over() {
    let mut world = World::new(&[("maps", 4)]);
    let first = world.heartbeat(&join_static("a", "i", &["maps"]));
    assert_eq!(
        world.refused(&join_static("b", "i", &["maps"])),
        ErrorCode::UnreleasedInstanceId
    );
    let unknown = HeartbeatRequest {
        instance_id: Some("j".into()),
        ..stay("a", 1)
    };
    assert_eq!(world.refused(&unknown), ErrorCode::UnknownMemberId);
    // Its own join that comes twice is something else.
    assert_eq!(world.heartbeat(&join_static("a", "i", &["maps"])), first);
}

#[test]
fn what_is_not_subscribed_to_any_more_goes_at_once() {
    let mut world = World::new(&[("maps", 2), ("roads", 2)]);
    let all = world.join("a", &["maps", "roads"]).assignment.unwrap();
    world.own("a", 1, &all);
    let changed = HeartbeatRequest {
        topics: Some(BTreeSet::from([Arc::from("maps")])),
        ..stay("a", 1)
    };
    let reply = world.heartbeat(&changed);
    assert_eq!(reply.assignment, Some(world.of("maps", &[0, 1])));
    let keeps = world.of("maps", &[0, 1]);
    assert_eq!(world.own("a", 1, &keeps).member_epoch, 2);
    assert_eq!(world.group.state(), GroupState::Stable);
}

#[test]
fn more_partitions_are_found_with_the_next_heartbeat() {
    let mut world = World::new(&[("maps", 2)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.topics.set("maps", 3);
    let reply = world.stay("a", 1);
    assert_eq!(
        (reply.member_epoch, reply.assignment),
        (2, Some(world.of("maps", &[0, 1, 2])))
    );
}

#[test]
fn a_topic_of_somebody_else_changes_nothing() {
    let mut world = World::new(&[("maps", 2)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.topics.set("roads", 3);
    assert_eq!(world.stay("a", 1).member_epoch, 1);
}

#[test]
fn a_deleted_topic_is_taken_away() {
    let mut world = World::new(&[("maps", 2)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.topics.remove("maps");
    assert_eq!(world.stay("a", 1).assignment, Some(Partitions::new()));
    assert_eq!(world.own("a", 1, &Partitions::new()).member_epoch, 2);
}

#[test]
fn an_expression_finds_topics_now_and_later() {
    let mut world = World::new(&[("maps", 1), ("maps.old", 1), ("roads", 1)]);
    let request = HeartbeatRequest {
        topics: None,
        regex: Some("map.*".into()),
        ..join("a", &[])
    };
    let first = world.heartbeat(&request).assignment.unwrap();
    assert_eq!(first.len(), 2);
    world.own("a", 1, &first);
    world.topics.set("maps.new", 1);
    assert_eq!(
        world.stay("a", 1).assignment,
        None,
        "expressions are not resolved with every change"
    );
    world.pass(10_001);
    let found = world.stay("a", 1).assignment.unwrap();
    assert_eq!(found.len(), 3);
    world.own("a", 2, &found);

    world.topics.set("tracks", 1);
    world.pass(10_001);
    let written = world.log.len();
    world.stay("a", 2);
    assert_eq!(world.log.len(), written, "it means what it meant");
    world.now += 600_000;
    world.stay("a", 2);
    assert_eq!(world.log.len(), written + 1, "what is old is written again");
}

#[test]
fn an_expression_must_match_the_whole_name() {
    let mut world = World::new(&[("maps", 1), ("xmaps", 1), ("mapsx", 1)]);
    let request = HeartbeatRequest {
        topics: None,
        regex: Some("roads|maps".into()),
        ..join("a", &[])
    };
    assert_eq!(world.heartbeat(&request).assignment, Some(world.of("maps", &[0])));
}

#[test]
fn an_expression_that_is_none_is_refused() {
    let mut world = World::new(&[("maps", 1)]);
    for wrong in ["(", "a)|(b", "(?=look)", r"(a)\1"] {
        let request = HeartbeatRequest {
            topics: None,
            regex: Some(wrong.into()),
            ..join("a", &[])
        };
        assert_eq!(world.refused(&request), ErrorCode::InvalidRegularExpression, "{wrong}");
    }
    assert_eq!(world.group.members().len(), 0);
}

#[test]
fn the_last_subscriber_of_an_expression_takes_it_along() {
    let mut world = World::new(&[("maps", 2)]);
    let request = HeartbeatRequest {
        regex: Some("maps".into()),
        ..join("a", &[])
    };
    world.heartbeat(&request);
    assert!(world.group.is_subscribed_to("maps"));
    world.leave(&stay("a", LEAVE_EPOCH)).unwrap();
    assert!(!world.group.is_subscribed_to("maps"));
}

#[test]
fn a_group_has_no_more_members_than_it_may() {
    let mut world = World::new(&[("maps", 2)]);
    world.config.max_size = 1;
    world.join("a", &["maps"]);
    assert_eq!(world.refused(&join("b", &["maps"])), ErrorCode::GroupMaxSizeReached);
    world.stay("a", 1);
    world.config.max_size = 2;
    world.crowded = true;
    assert_eq!(world.refused(&join("b", &["maps"])), ErrorCode::CoordinatorNotAvailable);
    world.stay("a", 1);
}

#[test]
fn most_votes_choose_the_assignor() {
    let mut world = World::new(&[("maps", 2)]);
    world.join("a", &["maps"]);
    assert_eq!(world.group.preferred_assignor(&world.config), ServerAssignor::Uniform);
    let wish = HeartbeatRequest {
        assignor: Some("range".into()),
        ..join("b", &["maps"])
    };
    world.heartbeat(&wish);
    assert_eq!(world.group.preferred_assignor(&world.config), ServerAssignor::Range);
}

#[test]
fn assignments_keep_their_distance() {
    let mut world = World::new(&[("maps", 4)]);
    world.config.assignment_interval_ms = 1_000;
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    let early = world.join("b", &["maps"]);
    assert_eq!((early.member_epoch, early.assignment), (1, Some(Partitions::new())));
    assert_eq!(world.group.state(), GroupState::Assigning);
    world.pass(1_000);
    assert_eq!(world.stay("b", 1).member_epoch, 2);
    assert_eq!(world.group.state(), GroupState::Reconciling);
}

#[test]
fn requests_that_contradict_themselves_are_refused() {
    let config = ConsumerConfig::default();
    let code = |request: &HeartbeatRequest, version| request.check("g", version, &config).map_err(|error| error.code);
    let invalid = Err(ErrorCode::InvalidRequest);
    let good = join("a", &["maps"]);
    assert_eq!(code(&good, 1), Ok(()));
    assert_eq!(good.check("", 1, &config).map_err(|error| error.code), invalid);
    let no_id = HeartbeatRequest {
        member_id: "".into(),
        ..good.clone()
    };
    assert_eq!((code(&no_id, 1), code(&no_id, 0)), (invalid, Ok(())));
    let wrong = [
        HeartbeatRequest {
            rebalance_timeout_ms: -1,
            ..good.clone()
        },
        HeartbeatRequest {
            owned: None,
            ..good.clone()
        },
        HeartbeatRequest {
            owned: Some(Partitions::from([(Uuid::ZERO, BTreeSet::from([1]))])),
            ..good.clone()
        },
        HeartbeatRequest {
            topics: None,
            ..good.clone()
        },
        HeartbeatRequest {
            instance_id: Some("".into()),
            ..good.clone()
        },
        HeartbeatRequest {
            rack_id: Some("".into()),
            ..good.clone()
        },
        stay("a", -3),
        stay("a", STATIC_LEAVE_EPOCH),
    ];
    for request in wrong {
        assert_eq!(code(&request, 1), invalid, "{request:?}");
    }
    let assignor = HeartbeatRequest {
        assignor: Some("sticky".into()),
        ..good
    };
    let error = assignor.check("g", 1, &config).unwrap_err();
    assert_eq!(error.code, ErrorCode::UnsupportedAssignor);
    assert_eq!(
        error.message,
        "ServerAssignor sticky is not supported. Supported assignors: uniform, range."
    );
}

#[test]
fn commits_are_fenced_by_epoch_and_by_partition() {
    let mut world = World::new(&[("maps", 4)]);
    let topic = world.topics.by_name("maps").unwrap().id;
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    let check = |world: &World, epoch| {
        world
            .group
            .check_commit("a", epoch, false, 9)
            .map_err(|error| error.code)
    };
    assert_eq!(check(&world, 1), Ok(()));
    assert_eq!(check(&world, 2), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(check(&world, -1), Ok(()));
    assert_eq!(
        world.group.may_commit_partition("a", -1, topic, 0),
        Err(ErrorCode::StaleMemberEpoch)
    );
    let old_version = world.group.check_commit("a", 1, false, 8).unwrap_err();
    assert_eq!(old_version.code, ErrorCode::UnsupportedVersion);
    let stranger = world.group.check_commit("b", 1, false, 9).unwrap_err();
    assert_eq!(stranger.code, ErrorCode::UnknownMemberId);

    world.join("b", &["maps"]);
    let keeps = world.stay("a", 1).assignment.unwrap();
    assert_eq!(check(&world, 1), Ok(()), "what it gives up it may commit first");
    world.own("a", 1, &keeps);
    assert_eq!(check(&world, 1), Ok(()));
    assert_eq!(world.group.may_commit_partition("a", 1, topic, 0), Ok(()));
    assert_eq!(
        world.group.may_commit_partition("a", 1, topic, 3),
        Err(ErrorCode::StaleMemberEpoch)
    );

    let fetch = |id, epoch| world.group.check_fetch(id, epoch).map_err(|error| error.code);
    assert_eq!(fetch(None, -1), Ok(()));
    assert_eq!(fetch(Some("a"), 2), Ok(()));
    assert_eq!(fetch(Some("a"), 1), Err(ErrorCode::StaleMemberEpoch));
    assert_eq!(fetch(Some("x"), 1), Err(ErrorCode::UnknownMemberId));
}

#[test]
fn anybody_may_commit_to_a_group_without_members() {
    let world = World::new(&[]);
    assert_eq!(world.group.check_commit("", -1, false, 9), Ok(()));
    assert!(world.group.check_commit("", 0, false, 9).is_err());
}

#[test]
fn a_description_shows_what_members_have_and_should_have() {
    let mut world = World::new(&[("maps", 4)]);
    let all = world.join("a", &["maps"]).assignment.unwrap();
    world.own("a", 1, &all);
    world.join("b", &["maps"]);
    let shown = world.group.described(&world.config, &world.topics);
    assert_eq!(
        (shown.state, shown.epoch, shown.assignment_epoch),
        ("Reconciling", 2, 2)
    );
    assert_eq!(shown.assignor, "uniform");
    let a = &shown.members[0];
    assert_eq!((a.epoch, &*a.client_id, &*a.client_host), (1, "client", "/127.0.0.1"));
    assert_eq!(a.assigned[0].partitions, [0, 1, 2, 3]);
    assert_eq!(a.target[0].partitions, [0, 1]);
    assert_eq!(&*a.target[0].topic, "maps");
    assert!(!a.is_classic);
}
