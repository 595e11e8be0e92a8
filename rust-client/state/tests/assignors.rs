//! What the assignors promise, for thousands of groups: valid, balanced, sticky, and no panic whatever members say.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what the test did not expect must stop it

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use bytes::Bytes;
use ottla_client_state::TopicPartition;
use ottla_client_state::assignor::{Assignment, Assignor, GroupMember, GroupTopic, Previous, TopicImage, by_name};
use proptest::collection::{btree_map, btree_set, vec};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["range", "roundrobin", "sticky", "cooperative-sticky"];

type Divided = BTreeMap<Arc<str>, Assignment>;

fn assignor(name: &str) -> Arc<dyn Assignor> {
    by_name(name).unwrap()
}

fn topics(counts: &[(&str, u32)]) -> TopicImage {
    let mut image = TopicImage::new();
    for (name, count) in counts {
        image.insert(*name, GroupTopic::of(*count));
    }
    image
}

fn member(id: &str, topics: &[&str]) -> GroupMember {
    GroupMember {
        member_id: id.into(),
        topics: topics.iter().map(|topic| Arc::from(*topic)).collect(),
        ..GroupMember::default()
    }
}

fn of<'a>(divided: &'a Divided, id: &str) -> &'a [TopicPartition] {
    divided.get(id).map_or(&[], |assignment| &assignment.partitions)
}

/// The members when they join again after `divided`, as their own assignors would have them say it.
fn rejoin(name: &str, members: &mut [GroupMember], divided: &Divided, generation: i32) {
    for member in members {
        let had: Vec<TopicPartition> = of(divided, &member.member_id).to_vec();
        let previous = Previous {
            partitions: &had,
            generation,
        };
        member.user_data = assignor(name).user_data(&member.topics, previous);
        if name == "cooperative-sticky" {
            member.owned = had.into_iter().filter(|at| member.topics.contains(&at.topic)).collect();
            member.generation = Some(generation);
        }
    }
}

/// The assignment after as many rebalances as a cooperative group needs to settle: two as a rule, and at most four, where
/// what one member gave up is dealt otherwise than it was meant.
fn settle(name: &str, members: &mut [GroupMember], topics: &TopicImage, generation: &mut i32) -> Divided {
    for _ in 0..4 {
        let divided = assignor(name).assign(members, topics).unwrap();
        *generation += 1;
        let gave_up = members.iter().any(|member| {
            let now = of(&divided, &member.member_id);
            member.owned.iter().any(|owned| !now.contains(owned))
        });
        rejoin(name, members, &divided, *generation);
        if !gave_up {
            return divided;
        }
    }
    panic!("the group does not come to rest");
}

/// Every partition of a topic that somebody subscribes to goes to one subscriber.
fn assert_valid(members: &[GroupMember], topics: &TopicImage, divided: &Divided) {
    let mut owners: BTreeMap<&TopicPartition, &Arc<str>> = BTreeMap::new();
    for (id, assignment) in divided {
        let member = members
            .iter()
            .find(|member| member.member_id == *id)
            .expect("a member of the group");
        for partition in &assignment.partitions {
            assert!(
                member.topics.contains(&partition.topic),
                "{id} does not subscribe to {partition}"
            );
            assert_eq!(owners.insert(partition, id), None, "{partition} has two owners");
        }
    }
    let subscribed: BTreeSet<&Arc<str>> = members.iter().flat_map(|member| &member.topics).collect();
    let wanted: usize = topics
        .iter()
        .filter(|(name, _)| subscribed.contains(name))
        .map(|(_, topic)| topic.partitions as usize)
        .sum();
    assert_eq!(owners.len(), wanted, "partitions are left out or made up");
}

/// No single partition could be moved to a member with at least two fewer: Java's own measure.
fn assert_balanced(members: &[GroupMember], divided: &Divided) {
    for giver in members {
        for partition in of(divided, &giver.member_id) {
            for receiver in members.iter().filter(|member| member.topics.contains(&partition.topic)) {
                let (has, gets) = (
                    of(divided, &giver.member_id).len(),
                    of(divided, &receiver.member_id).len(),
                );
                assert!(
                    has <= gets + 1,
                    "{partition} of {} should go to {}",
                    giver.member_id,
                    receiver.member_id
                );
            }
        }
    }
}

/// How many partitions have another owner than before, though the old one is still there and reads the topic.
fn moves(before: &Divided, after: &Divided, members: &[GroupMember]) -> usize {
    let kept = |member: &GroupMember| {
        let had = of(before, &member.member_id).iter();
        let now = of(after, &member.member_id);
        had.filter(|at| member.topics.contains(&at.topic) && !now.contains(at))
            .count()
    };
    members.iter().map(kept).sum()
}

fn uneven_group() -> impl Strategy<Value = (Vec<BTreeSet<u8>>, BTreeMap<u8, u32>)> {
    (vec(btree_set(0u8..6, 0..5), 1..12), btree_map(0u8..6, 0u32..12, 0..6))
}

fn build(subscriptions: &[BTreeSet<u8>], counts: &BTreeMap<u8, u32>) -> (Vec<GroupMember>, TopicImage) {
    let mut image = TopicImage::new();
    for (topic, count) in counts {
        image.insert(format!("t{topic}"), GroupTopic::of(*count));
    }
    let members = subscriptions.iter().enumerate().map(|(place, topics)| {
        let topics: Vec<String> = topics.iter().map(|topic| format!("t{topic}")).collect();
        member(
            &format!("m{place:02}"),
            &topics.iter().map(String::as_str).collect::<Vec<_>>(),
        )
    });
    (members.collect(), image)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn every_assignor_gives_each_partition_to_one_subscriber((subscriptions, counts) in uneven_group()) {
        let (members, topics) = build(&subscriptions, &counts);
        for name in NAMES {
            let divided = assignor(name).assign(&members, &topics).unwrap();
            assert_valid(&members, &topics, &divided);
            if name.ends_with("sticky") {
                assert_balanced(&members, &divided);
            }
        }
    }

    #[test]
    fn the_sticky_assignors_stay_valid_and_balanced_while_the_group_changes(
        (subscriptions, counts) in uneven_group(),
        changes in vec((any::<prop::sample::Index>(), btree_set(0u8..6, 0..5), 0u8..6, 0u32..14), 1..5),
    ) {
        for name in ["sticky", "cooperative-sticky"] {
            let (mut members, mut topics) = build(&subscriptions, &counts);
            let mut generation = 0;
            settle(name, &mut members, &topics, &mut generation);
            for (who, topics_now, topic, count) in &changes {
                let place = who.index(members.len());
                let (newcomers, _) = build(std::slice::from_ref(topics_now), &counts);
                match count % 3 {
                    0 if members.len() > 1 => { members.remove(place); }
                    1 => {
                        let mut newcomer = newcomers.into_iter().next().unwrap();
                        newcomer.member_id = format!("n{generation}-{place}").into();
                        members.push(newcomer);
                    }
                    _ => topics.insert(format!("t{topic}"), GroupTopic::of(*count)),
                }
                let divided = settle(name, &mut members, &topics, &mut generation);
                assert_valid(&members, &topics, &divided);
                assert_balanced(&members, &divided);
            }
        }
    }

    #[test]
    fn nothing_moves_when_nothing_changes(
        (subscriptions, counts) in uneven_group(),
        racks in vec((0u8..4, vec(btree_set(1u8..4, 1..3), 12)), 12),
        with_racks: bool,
    ) {
        for name in ["sticky", "cooperative-sticky"] {
            let (mut members, mut topics) = build(&subscriptions, &counts);
            if with_racks {
                let rack = |number: u8| Arc::from(format!("r{number}"));
                for (member, (number, _)) in members.iter_mut().zip(&racks) {
                    member.rack = (*number > 0).then(|| rack(*number));
                }
                for ((topic, count), (_, of_partitions)) in counts.iter().zip(&racks) {
                    let mut with = GroupTopic::of(*count);
                    let of_partitions = of_partitions.iter().take(*count as usize);
                    with.racks = of_partitions.map(|racks| racks.iter().map(|number| rack(*number)).collect()).collect();
                    topics.insert(format!("t{topic}"), with);
                }
            }
            let mut generation = 0;
            let first = settle(name, &mut members, &topics, &mut generation);
            let second = assignor(name).assign(&members, &topics).unwrap();
            prop_assert_eq!(&first, &second, "{}", name);
        }
    }

    #[test]
    fn where_all_subscribe_alike_no_more_moves_than_must(
        count in 1usize..10,
        partitions in vec(0u32..20, 1..5),
        joins in 0usize..4,
        leaves in 0usize..4,
    ) {
        let names: Vec<String> = (0..partitions.len()).map(|topic| format!("t{topic}")).collect();
        let all: Vec<&str> = names.iter().map(String::as_str).collect();
        let image = topics(&all.iter().copied().zip(partitions.iter().copied()).collect::<Vec<_>>());
        let mut members: Vec<_> = (0..count).map(|place| member(&format!("m{place}"), &all)).collect();
        let mut generation = 0;
        let before = settle("cooperative-sticky", &mut members, &image, &mut generation);
        members.truncate(count.saturating_sub(leaves).max(1));
        members.extend((0..joins).map(|place| member(&format!("n{place}"), &all)));
        let after = settle("cooperative-sticky", &mut members, &image, &mut generation);
        // Each member may keep its share; only what is above it has to go.
        let total: usize = partitions.iter().map(|count| *count as usize).sum();
        let (share, mut longer) = (total / members.len(), total % members.len());
        let mut loads: Vec<usize> = members.iter().map(|member| of(&before, &member.member_id).len()).collect();
        loads.sort_unstable_by(|a, b| b.cmp(a));
        let mut must = 0;
        for load in loads {
            let keeps = if load > share && longer > 0 { longer -= 1; share + 1 } else { share };
            must += load.saturating_sub(keeps);
        }
        prop_assert_eq!(moves(&before, &after, &members), must);
    }

    #[test]
    fn whatever_members_say_no_assignor_panics(
        (subscriptions, counts) in uneven_group(),
        said in vec((vec((0u8..8, any::<i32>()), 0..6), any::<Option<i32>>(), prop::option::of(vec(any::<u8>(), 0..30)), 0u8..4), 12),
        same_id: bool,
    ) {
        let (mut members, topics) = build(&subscriptions, &counts);
        for (member, (owned, generation, user_data, rack)) in members.iter_mut().zip(said) {
            member.owned = owned.into_iter().map(|(topic, number)| (format!("t{topic}"), number % 12).into()).collect();
            member.generation = generation;
            member.user_data = user_data.map(Bytes::from);
            member.rack = (rack > 0).then(|| format!("r{rack}").into());
            if same_id {
                member.member_id = "m".into();
            }
        }
        for name in NAMES {
            let _ = assignor(name).assign(&members, &topics).unwrap();
        }
    }
}

#[test]
fn librdkafka_4783_two_halves_of_a_group_with_more_members_than_partitions_come_to_rest() {
    let image = topics(&[("one", 3), ("two", 5)]);
    let (mut members, mut generation) = (Vec::new(), 0);
    for place in 0..25 {
        let topic = if place < 10 { "one" } else { "two" };
        members.push(member(&format!("rdkafka-{}-{place}", place % 3), &[topic]));
        let divided = settle("cooperative-sticky", &mut members, &image, &mut generation);
        assert_valid(&members, &image, &divided);
        assert_balanced(&members, &divided);
    }
}

#[test]
fn a_cooperative_newcomer_gets_a_moving_partition_only_when_it_has_been_let_go() {
    let image = topics(&[("t", 4)]);
    let mut old = member("old", &["t"]);
    old.owned = (0..4).map(|number| ("t", number).into()).collect();
    old.generation = Some(3);
    let mut members = [old, member("new", &["t"])];
    let first = assignor("cooperative-sticky").assign(&members, &image).unwrap();
    assert_eq!((of(&first, "old").len(), of(&first, "new").len()), (2, 0));
    rejoin("cooperative-sticky", &mut members, &first, 4);
    let second = assignor("cooperative-sticky").assign(&members, &image).unwrap();
    assert_eq!(of(&second, "old"), of(&first, "old"));
    assert_eq!(of(&second, "new").len(), 2);
}

#[test]
fn of_two_claims_the_later_generation_is_believed_and_of_equal_ones_neither() {
    let image = topics(&[("t", 2)]);
    let claim = |id: &str, numbers: &[i32], generation: i32| {
        let mut member = member(id, &["t"]);
        member.owned = numbers.iter().map(|number| ("t", *number).into()).collect();
        member.generation = Some(generation);
        member
    };
    let zombie = [claim("live", &[0], 5), claim("zombie", &[0, 1], 2)];
    let divided = assignor("cooperative-sticky").assign(&zombie, &image).unwrap();
    assert_eq!(of(&divided, "live"), [("t", 0).into()]);
    assert_eq!(of(&divided, "zombie"), [("t", 1).into()]);
    let twins = [claim("a", &[0], 5), claim("b", &[0], 5)];
    let divided = assignor("cooperative-sticky").assign(&twins, &image).unwrap();
    let given: Vec<_> = divided.values().flat_map(|assignment| &assignment.partitions).collect();
    assert_eq!(
        given,
        [&("t", 1).into()],
        "both must let go of t-0 before anybody gets it"
    );
}

#[test]
fn a_static_member_keeps_its_place_in_the_order_under_a_new_member_id() {
    let image = topics(&[("t", 3)]);
    let named = |id: &str, instance: &str| GroupMember {
        group_instance_id: Some(instance.into()),
        ..member(id, &["t"])
    };
    for name in ["range", "roundrobin"] {
        let before = assignor(name)
            .assign(&[named("z", "i1"), named("a", "i2"), member("0", &["t"])], &image)
            .unwrap();
        let after = assignor(name)
            .assign(&[member("0", &["t"]), named("a", "i2"), named("b", "i1")], &image)
            .unwrap();
        assert_eq!(of(&before, "z"), of(&after, "b"), "{name}");
        assert_eq!(of(&before, "z"), [("t", 0).into()], "{name}");
    }
}

fn racked(counts: &[(&str, &[&[&str]])]) -> TopicImage {
    let mut image = TopicImage::new();
    for (name, racks) in counts {
        let mut topic = GroupTopic::of(u32::try_from(racks.len()).unwrap());
        topic.racks = racks
            .iter()
            .map(|racks| racks.iter().map(|rack| Arc::from(*rack)).collect())
            .collect();
        image.insert(*name, topic);
    }
    image
}

fn near(id: &str, rack: &str, topics: &[&str]) -> GroupMember {
    GroupMember {
        rack: Some(rack.into()),
        ..member(id, topics)
    }
}

#[test]
fn members_get_partitions_in_their_rack_without_harm_to_the_balance() {
    let image = racked(&[("t", &[&["b"], &["a"], &["b"], &["a"], &["a"], &["a"]])]);
    let members = [near("x", "a", &["t"]), near("y", "b", &["t"])];
    for name in ["range", "sticky", "cooperative-sticky"] {
        let divided = assignor(name).assign(&members, &image).unwrap();
        assert_eq!(of(&divided, "x").len(), 3, "{name}");
        assert!(
            of(&divided, "x").iter().all(|at| [1, 3, 4, 5].contains(&at.partition)),
            "{name}: {divided:?}"
        );
        assert!(
            of(&divided, "y").contains(&("t", 0).into()) && of(&divided, "y").contains(&("t", 2).into()),
            "{name}"
        );
    }
}

#[test]
fn topics_cut_alike_stay_so_when_racks_matter() {
    let racks: &[&[&str]] = &[&["b"], &["b"], &["a"], &["a"]];
    let image = racked(&[("t", racks), ("u", racks)]);
    let members = [near("x", "a", &["t", "u"]), near("y", "b", &["t", "u"])];
    let divided = assignor("range").assign(&members, &image).unwrap();
    let numbers = |topic: &str| -> Vec<i32> {
        of(&divided, "x")
            .iter()
            .filter(|at| &*at.topic == topic)
            .map(|at| at.partition)
            .collect()
    };
    assert_eq!((numbers("t"), numbers("u")), (vec![2, 3], vec![2, 3]));
}

#[test]
fn a_large_group_is_divided() {
    let names: Vec<String> = (0..20).map(|topic| format!("t{topic:02}")).collect();
    let all: Vec<&str> = names.iter().map(String::as_str).collect();
    let image = topics(&all.iter().map(|name| (*name, 100)).collect::<Vec<_>>());
    // One member that subscribes otherwise makes it the general case.
    let mut members: Vec<_> = (0..200).map(|place| member(&format!("m{place:03}"), &all)).collect();
    members[0].topics.truncate(1);
    let mut generation = 0;
    settle("cooperative-sticky", &mut members, &image, &mut generation);
    members.truncate(150);
    let divided = settle("cooperative-sticky", &mut members, &image, &mut generation);
    assert_valid(&members, &image, &divided);
    assert_balanced(&members, &divided);
}
