//! The assignors' promises: everybody's share, as few moves as possible, nobody twice and nothing left over.

use super::{MemberSpec, ServerAssignor};
use crate::group::consumer::Partitions;
use ottla_protocol::Uuid;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

type Specs = BTreeMap<Arc<str>, MemberSpec>;
type Result = BTreeMap<Arc<str>, Partitions>;

fn topic(number: u8) -> Uuid {
    Uuid([number; 16])
}

fn counts(counts: &[i32]) -> BTreeMap<Uuid, i32> {
    (1..)
        .zip(counts)
        .map(|(number, count)| (topic(number), *count))
        .collect()
}

fn partitions(list: &[(u8, &[i32])]) -> Partitions {
    let set = |numbers: &[i32]| numbers.iter().copied().collect();
    list.iter()
        .map(|(number, numbers)| (topic(*number), set(numbers)))
        .collect()
}

fn member(topics: &[u8], assigned: &[(u8, &[i32])]) -> MemberSpec {
    MemberSpec {
        instance_id: None,
        topics: topics.iter().map(|number| topic(*number)).collect(),
        assigned: partitions(assigned),
    }
}

fn group(members: &[(&str, MemberSpec)]) -> Specs {
    members
        .iter()
        .map(|(id, spec)| (Arc::from(*id), spec.clone()))
        .collect()
}

fn size(partitions: &Partitions) -> usize {
    partitions.values().map(BTreeSet::len).sum()
}

fn sizes(result: &Result) -> Vec<usize> {
    result.values().map(size).collect()
}

/// How many partitions are with another member than before, or were with none.
fn moved(before: &Specs, after: &Result) -> usize {
    let kept = |id: &Arc<str>, now: &Partitions| -> usize {
        let had = &before[id].assigned;
        now.iter()
            .map(|(topic, set)| had.get(topic).map_or(0, |had| set.intersection(had).count()))
            .sum()
    };
    after.iter().map(|(id, now)| size(now) - kept(id, now)).sum()
}

#[test]
fn range_gives_contiguous_ranges_and_the_rest_to_the_first() {
    let members = group(&[("a", member(&[1, 2], &[])), ("b", member(&[1, 2], &[]))]);
    let result = ServerAssignor::Range.assign(&members, &counts(&[3, 3]));
    assert_eq!(result["a"], partitions(&[(1, &[0, 1]), (2, &[0, 1])]));
    assert_eq!(result["b"], partitions(&[(1, &[2]), (2, &[2])]));
}

#[test]
fn range_counts_only_the_subscribers_of_a_topic() {
    let members = group(&[
        ("a", member(&[1], &[])),
        ("b", member(&[1, 2], &[])),
        ("c", member(&[2], &[])),
    ]);
    let result = ServerAssignor::Range.assign(&members, &counts(&[2, 3]));
    assert_eq!(result["a"], partitions(&[(1, &[0])]));
    assert_eq!(result["b"], partitions(&[(1, &[1]), (2, &[0, 1])]));
    assert_eq!(result["c"], partitions(&[(2, &[2])]));
}

#[test]
fn range_puts_static_members_first_and_sorts_them_by_instance() {
    let mut members = group(&[
        ("a", member(&[1], &[])),
        ("b", member(&[1], &[])),
        ("c", member(&[1], &[])),
    ]);
    for (id, instance) in [("b", "i2"), ("c", "i1")] {
        members.get_mut(id).unwrap().instance_id = Some(instance.into());
    }
    let result = ServerAssignor::Range.assign(&members, &counts(&[3]));
    assert_eq!(result["c"], partitions(&[(1, &[0])]));
    assert_eq!(result["b"], partitions(&[(1, &[1])]));
    assert_eq!(result["a"], partitions(&[(1, &[2])]));
}

#[test]
fn uniform_moves_only_what_a_new_member_is_to_have() {
    let members = group(&[
        ("a", member(&[1], &[(1, &[0, 1, 2])])),
        ("b", member(&[1], &[(1, &[3, 4, 5])])),
        ("c", member(&[1], &[])),
    ]);
    let result = ServerAssignor::Uniform.assign(&members, &counts(&[6]));
    assert_eq!(sizes(&result), [2, 2, 2]);
    assert_eq!(moved(&members, &result), 2);
}

#[test]
fn uniform_leaves_the_odd_partition_with_whoever_has_it() {
    let members = group(&[("a", member(&[1], &[(1, &[0])])), ("b", member(&[1], &[(1, &[1, 2])]))]);
    let result = ServerAssignor::Uniform.assign(&members, &counts(&[3]));
    assert_eq!(moved(&members, &result), 0);
}

#[test]
fn uniform_hands_out_what_a_member_left_behind() {
    let members = group(&[
        ("a", member(&[1], &[(1, &[0, 1])])),
        ("b", member(&[1], &[(1, &[2, 3])])),
    ]);
    let result = ServerAssignor::Uniform.assign(&members, &counts(&[6]));
    assert_eq!(sizes(&result), [3, 3]);
    assert_eq!(moved(&members, &result), 2);
}

#[test]
fn uniform_passes_an_overload_on_through_a_member_between() {
    // What `a` has too much cannot go to `c` directly: they have no topic in common.
    let members = group(&[
        ("a", member(&[1], &[(1, &[0, 1, 2, 3])])),
        ("b", member(&[1, 2], &[(2, &[0, 1, 2])])),
        ("c", member(&[2], &[])),
    ]);
    let result = ServerAssignor::Uniform.assign(&members, &counts(&[4, 3]));
    let mut found = sizes(&result);
    found.sort_unstable();
    assert_eq!(found, [2, 2, 3]);
}

#[test]
fn topics_that_do_not_exist_are_passed_over() {
    let members = group(&[("a", member(&[1, 9], &[(9, &[0])])), ("b", member(&[9], &[]))]);
    for assignor in ServerAssignor::ALL {
        let result = assignor.assign(&members, &counts(&[2]));
        assert_eq!(result["a"], partitions(&[(1, &[0, 1])]), "{}", assignor.name());
        assert_eq!(result["b"], Partitions::new(), "{}", assignor.name());
    }
}

#[test]
fn a_partition_that_two_were_meant_to_have_stays_with_one() {
    let members = group(&[
        ("a", member(&[1], &[(1, &[0, 1])])),
        ("b", member(&[1], &[(1, &[0, 1])])),
    ]);
    let result = ServerAssignor::Uniform.assign(&members, &counts(&[2]));
    assert_eq!(sizes(&result), [1, 1]);
}

#[test]
fn nobody_gets_nothing_of_nothing() {
    for assignor in ServerAssignor::ALL {
        assert!(assignor.assign(&Specs::new(), &counts(&[3])).is_empty());
        let idle = group(&[("a", member(&[], &[]))]);
        assert_eq!(assignor.assign(&idle, &counts(&[3]))["a"], Partitions::new());
    }
}

/// A group of up to eight members with any subscriptions to up to five topics, and any earlier target, even a wrong one.
fn any_group() -> impl Strategy<Value = (Specs, BTreeMap<Uuid, i32>)> {
    let sizes = prop::collection::vec(0_i32..9, 1..5);
    let member = (
        prop::collection::btree_set(1_u8..7, 0..5),
        prop::collection::vec((1_u8..7, 0_i32..9), 0..12),
        any::<bool>(),
    );
    (sizes, prop::collection::vec(member, 1..8)).prop_map(|(topics, members)| {
        let mut specs = Specs::new();
        for (number, (subscribed, had, is_static)) in members.into_iter().enumerate() {
            let mut spec = MemberSpec {
                instance_id: is_static.then(|| format!("i{number}").into()),
                topics: subscribed.into_iter().map(topic).collect(),
                assigned: Partitions::new(),
            };
            for (number, partition) in had {
                spec.assigned.entry(topic(number)).or_default().insert(partition);
            }
            specs.insert(format!("m{number}").into(), spec);
        }
        (specs, counts(&topics))
    })
}

/// Every partition of a topic somebody wants has one owner, who wants it.
fn check_complete(specs: &Specs, counts: &BTreeMap<Uuid, i32>, result: &Result) {
    assert!(specs.keys().eq(result.keys()));
    let mut owned: BTreeSet<(Uuid, i32)> = BTreeSet::new();
    for (id, partitions) in result {
        for (topic, set) in partitions {
            assert!(!set.is_empty());
            assert!(specs[id].topics.contains(topic));
            for partition in set {
                assert!(owned.insert((*topic, *partition)), "two owners");
            }
        }
    }
    let wanted = |topic: &Uuid| specs.values().any(|spec| spec.topics.contains(topic));
    let all = counts.iter().filter(|(topic, _)| wanted(topic));
    let all: BTreeSet<_> = all
        .flat_map(|(topic, count)| (0..*count).map(|p| (*topic, p)))
        .collect();
    assert_eq!(owned, all);
}

/// No chain of moves leads from one member to another with at least two fewer.
fn check_even(specs: &Specs, result: &Result) {
    for (from, had) in result {
        let mut reached: BTreeSet<&Arc<str>> = BTreeSet::from([from]);
        let mut queue = vec![from];
        while let Some(current) = queue.pop() {
            for (id, spec) in specs {
                if result[current].keys().any(|topic| spec.topics.contains(topic)) && reached.insert(id) {
                    queue.push(id);
                }
            }
        }
        for to in reached {
            assert!(size(&result[to]) + 1 >= size(had), "{from} could pass one on to {to}");
        }
    }
}

proptest! {
    #[test]
    fn range_gives_everything_to_one_who_wants_it((specs, counts) in any_group()) {
        check_complete(&specs, &counts, &ServerAssignor::Range.assign(&specs, &counts));
    }

    #[test]
    fn uniform_gives_everything_to_one_who_wants_it_as_evenly_as_can_be((specs, counts) in any_group()) {
        let result = ServerAssignor::Uniform.assign(&specs, &counts);
        check_complete(&specs, &counts, &result);
        check_even(&specs, &result);
    }

    #[test]
    fn uniform_is_even_to_one_when_all_want_the_same(members in 1_usize..9, topics in prop::collection::vec(0_i32..9, 1..5)) {
        let all: Vec<u8> = (1..).take(topics.len()).collect();
        let specs: Specs = (0..members).map(|number| (format!("m{number}").into(), member(&all, &[]))).collect();
        let found = sizes(&ServerAssignor::Uniform.assign(&specs, &counts(&topics)));
        prop_assert!(found.iter().max().unwrap() - found.iter().min().unwrap() <= 1);
    }

    #[test]
    fn an_assignment_that_is_right_already_stays((specs, counts) in any_group()) {
        for assignor in ServerAssignor::ALL {
            let first = assignor.assign(&specs, &counts);
            let mut again = specs.clone();
            for (id, spec) in &mut again {
                spec.assigned = first[id].clone();
            }
            prop_assert_eq!(assignor.assign(&again, &counts), first);
        }
    }

    #[test]
    fn what_a_leaving_member_had_is_all_that_moves(members in 2_usize..9, count in 1_i32..40) {
        let mut specs: Specs = (0..members).map(|number| (format!("m{number}").into(), member(&[1], &[]))).collect();
        let first = ServerAssignor::Uniform.assign(&specs, &counts(&[count]));
        for (id, spec) in &mut specs {
            spec.assigned = first[id].clone();
        }
        let gone = specs.pop_first().unwrap();
        let after = ServerAssignor::Uniform.assign(&specs, &counts(&[count]));
        prop_assert_eq!(moved(&specs, &after), size(&gone.1.assigned));
    }
}
