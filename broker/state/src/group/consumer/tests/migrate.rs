//! From one protocol to the other.

use super::classic::{assigned, subscription};
use super::*;
use crate::group::record::ClassicValue;
use bytes::Bytes;
use ottla_protocol::Message;
use ottla_protocol::messages::{ConsumerProtocolAssignment, consumer_protocol_assignment};
use ottla_protocol::wire::Writer;

fn assignment(topic: &str, partitions: &[i32], user_data: Option<&[u8]>) -> Bytes {
    let message = ConsumerProtocolAssignment {
        assigned_partitions: vec![consumer_protocol_assignment::TopicPartition {
            topic,
            partitions: partitions.to_vec(),
        }],
        user_data,
    };
    let mut writer = Writer::new();
    writer.i16(0);
    message.encode(&mut writer, 0);
    writer.into_vec().unwrap().into()
}

fn migrant(id: &str, assignment: Bytes) -> ClassicMigrant {
    let subscription = Bytes::from(subscription(&["maps"], &[]));
    ClassicMigrant {
        id: id.into(),
        instance_id: None,
        client_id: "old".into(),
        client_host: "/127.0.0.1".into(),
        rebalance_timeout_ms: 5_000,
        session_timeout_ms: 30_000,
        protocols: vec![("cooperative-sticky".into(), subscription.clone())],
        subscription,
        assignment,
    }
}

fn upgrade(world: &mut World, migrants: &[ClassicMigrant]) -> Result<(), GroupError> {
    world.with(
        |group, context| match ConsumerGroup::from_classic(7, migrants, context) {
            Ok((upgraded, records)) => {
                *group = upgraded;
                (records, Ok(()))
            }
            Err(error) => (Vec::new(), Err(error)),
        },
    )
}

fn downgrade_up_to(most: usize, world: &World, leaving: &[&str]) -> Option<ClassicValue> {
    let leaving: BTreeSet<Arc<str>> = leaving.iter().map(|id| Arc::from(*id)).collect();
    let context = Context {
        config: &world.config,
        topics: &world.topics,
        moment: world.moment(),
    };
    let may = world.group.may_become_classic(&leaving, &world.config, most);
    may.then(|| world.group.to_classic(&leaving, context).unwrap())
}

fn downgrade(world: &World, leaving: &[&str]) -> Option<ClassicValue> {
    downgrade_up_to(10, world, leaving)
}

#[test]
fn classic_members_keep_what_they_had_until_they_join_again() {
    let mut world = World::new(&[("maps", 4)]);
    let (a, b) = (assignment("maps", &[0, 1], None), assignment("maps", &[2, 3], None));
    upgrade(&mut world, &[migrant("a", a), migrant("b", b)]).unwrap();
    assert_eq!((world.group.epoch(), world.group.state()), (7, GroupState::Stable));
    assert_eq!(world.beat("a", 7), ErrorCode::None);

    world.join("new", &["maps"]);
    assert_eq!(world.beat("a", 7), ErrorCode::RebalanceInProgress);
    let owned: &[i32] = &[0, 1];
    let joined = world
        .join_classic("a", None, &subscription(&["maps"], &[("maps", owned)]))
        .unwrap();
    let keeps = assigned(&world.sync("a", joined.generation).assignment);
    assert!(!keeps["maps"].is_empty() && keeps["maps"].iter().all(|partition| owned.contains(partition)));
}

#[test]
fn what_nobody_has_is_given_away_even_if_nobody_new_comes() {
    // Partition 1 was another member's, who has left while the classic group waited for its members to join again.
    let mut world = World::new(&[("maps", 2)]);
    let left = ClassicMigrant {
        instance_id: Some("i".into()),
        ..migrant("a", assignment("maps", &[0], None))
    };
    upgrade(&mut world, &[left]).unwrap();
    world.heartbeat(&join_static("b", "i", &["maps"]));
    assert_eq!(world.group.target("b"), world.of("maps", &[0, 1]));
}

#[test]
fn what_a_member_has_to_give_up_is_its_own_until_it_joins_again() {
    // It owned both partitions when it joined, was given the first, and is still letting go of the second.
    let mut world = World::new(&[("maps", 2)]);
    let subscription = Bytes::from(subscription(&["maps"], &[("maps", &[0, 1])]));
    let letting_go = ClassicMigrant {
        protocols: vec![("cooperative-sticky".into(), subscription.clone())],
        subscription,
        ..migrant("a", assignment("maps", &[0], None))
    };
    upgrade(&mut world, &[letting_go]).unwrap();
    assert_eq!(world.join("new", &["maps"]).assignment, Some(Partitions::new()));
    assert_eq!(world.beat("a", 7), ErrorCode::RebalanceInProgress);

    let again = super::classic::subscription(&["maps"], &[("maps", &[0])]);
    world.join_classic("a", None, &again).unwrap();
    let epoch = world.group.member("new").unwrap().epoch;
    assert_eq!(world.stay("new", epoch).assignment, Some(world.of("maps", &[1])));
}

#[test]
fn a_partition_that_two_were_given_stays_with_one() {
    let mut world = World::new(&[("maps", 4)]);
    let both = assignment("maps", &[0, 1], None);
    upgrade(&mut world, &[migrant("a", both.clone()), migrant("b", both)]).unwrap();
    assert_eq!(
        world.group.member("b").unwrap().assigned_partitions(),
        Partitions::new()
    );
}

#[test]
fn a_member_that_was_never_given_anything_comes_along() {
    let mut world = World::new(&[("maps", 4)]);
    upgrade(&mut world, &[migrant("a", Bytes::new())]).unwrap();
    assert_eq!(world.group.members().len(), 1);
}

#[test]
fn groups_that_cannot_come_along_stay_as_they_are() {
    let mut world = World::new(&[("maps", 4)]);
    let good = || assignment("maps", &[0], None);
    let custom = [migrant("a", assignment("maps", &[0], Some(b"mine")))];
    let broken = [migrant("a", Bytes::from_static(b"\0\0\0\0\0\x09"))];
    for migrants in [custom, broken] {
        assert_eq!(
            upgrade(&mut world, &migrants).unwrap_err().code,
            ErrorCode::GroupIdNotFound
        );
    }
    world.config.max_size = 1;
    let two = [migrant("a", good()), migrant("b", Bytes::new())];
    assert!(upgrade(&mut world, &two).unwrap_err().message.contains("size"));
    for (policy, allowed) in [
        (MigrationPolicy::Disabled, false),
        (MigrationPolicy::Downgrade, false),
        (MigrationPolicy::Upgrade, true),
        (MigrationPolicy::Bidirectional, true),
    ] {
        world.config.migration_policy = policy;
        assert_eq!(
            upgrade(&mut world, &[migrant("a", good())]).is_ok(),
            allowed,
            "{policy:?}"
        );
    }
}

#[test]
fn when_the_last_new_member_goes_the_group_may_be_classic_again() {
    let mut world = World::new(&[("maps", 4)]);
    world.join("new", &["maps"]);
    world.join("newer", &["maps"]);
    assert_eq!(
        downgrade(&world, &["new"]),
        None,
        "a member of the consumer protocol stays"
    );
    let owned = world.join_classic("old", None, &subscription(&["maps"], &[])).unwrap();
    assert_eq!(downgrade(&world, &["new"]), None);
    assert_eq!(downgrade(&world, &["new", "newer", "old"]), None, "nobody stays");

    let value = downgrade(&world, &["new", "newer"]).unwrap();
    assert_eq!(&*value.protocol_type, "consumer");
    assert_eq!(value.protocol.as_deref(), Some("cooperative-sticky"));
    assert_eq!(value.generation, owned.generation);
    assert_eq!(value.leader, None, "nobody has assigned anything for those who stay");
    assert_eq!(value.members.len(), 1);
    assert_eq!(value.members[0].session_timeout_ms, 30_000);
    assigned(&value.members[0].assignment);

    world.config.migration_policy = MigrationPolicy::Upgrade;
    assert_eq!(downgrade(&world, &["new", "newer"]), None);
    world.config.migration_policy = MigrationPolicy::Downgrade;
    assert_eq!(downgrade_up_to(0, &world, &["new", "newer"]), None);
}

#[test]
fn policies_are_known_by_name() {
    assert_eq!(
        MigrationPolicy::by_name("Bidirectional"),
        Some(MigrationPolicy::Bidirectional)
    );
    assert_eq!(MigrationPolicy::by_name("DISABLED"), Some(MigrationPolicy::Disabled));
    assert_eq!(MigrationPolicy::by_name("sideways"), None);
}
