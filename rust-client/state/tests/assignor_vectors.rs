//! The assignors against Kafka's own, by the groups in `vectors/assignors.txt`.
//!
//! `range` and `roundrobin` give the very same. Of the sticky ones Java's answer depends on the order of its hash tables, so
//! there it is a measure: ours are no less balanced, and no less sticky where they are as balanced. What the file's members
//! and leaders send must be read, and written to the same bytes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)] // what the test did not expect must stop it

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_client_state::TopicPartition;
use ottla_client_state::assignor::{Assignment, GroupMember, GroupTopic, Previous, TopicImage, by_name, codec};

#[derive(Default)]
struct Group {
    assignor: String,
    topics: TopicImage,
    members: Vec<GroupMember>,
    java: BTreeMap<Arc<str>, Assignment>,
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits = (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap());
    digits.collect()
}

fn groups() -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for line in include_str!("vectors/assignors.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
    {
        let words: Vec<&str> = line.split(' ').collect();
        if words[0] == "group" {
            groups.push(Group {
                assignor: words[1].to_owned(),
                ..Group::default()
            });
            continue;
        }
        let group = groups.last_mut().expect("a group begins with `group`");
        match words[0] {
            "topic" => {
                let racks = words[2].split(';').map(|racks| match racks {
                    "-" => Default::default(),
                    racks => racks.split(',').map(Arc::from).collect(),
                });
                let mut topic = GroupTopic::of(0);
                topic.racks = racks.collect();
                topic.partitions = u32::try_from(topic.racks.len()).unwrap();
                group.topics.insert(words[1], topic);
            }
            "member" => {
                let sent = bytes(words[4]);
                let instance = (words[2] != "-").then(|| words[2].into());
                let member = codec::decode_subscription(words[1].into(), instance, &sent).unwrap();
                assert_eq!(member.rack.as_deref().unwrap_or("-"), words[3]);
                assert_eq!(*codec::encode_subscription(&member, 3).unwrap(), *sent, "{line}");
                group.members.push(member);
            }
            "gets" => {
                let sent = bytes(words[2]);
                let assignment = codec::decode_assignment(&sent).unwrap();
                // Java groups by topic in the order of a hash table; the content is what counts.
                let again = codec::encode_assignment(&assignment, codec::ASSIGNMENT_VERSION).unwrap();
                assert_eq!(
                    codec::decode_assignment(&again).unwrap().partitions.len(),
                    assignment.partitions.len()
                );
                group.java.insert(words[1].into(), assignment);
            }
            other => panic!("unknown word {other}"),
        }
    }
    groups
}

fn sorted(assignment: Option<&Assignment>) -> Vec<TopicPartition> {
    let mut partitions = assignment.map_or(Vec::new(), |assignment| assignment.partitions.clone());
    partitions.sort();
    partitions
}

fn of(assignor: &str) -> Vec<Group> {
    let groups: Vec<Group> = groups()
        .into_iter()
        .filter(|group| group.assignor == assignor)
        .collect();
    assert!(groups.len() >= 50, "{} groups of {assignor}", groups.len());
    groups
}

#[test]
fn range_and_roundrobin_divide_as_java_does() {
    for name in ["range", "roundrobin"] {
        for (number, group) in of(name).iter().enumerate() {
            let ours = by_name(name).unwrap().assign(&group.members, &group.topics).unwrap();
            for member in &group.members {
                let (ours, java) = (ours.get(&member.member_id), group.java.get(&member.member_id));
                assert_eq!(
                    sorted(ours),
                    sorted(java),
                    "{name}, group {number}, {}",
                    member.member_id
                );
            }
        }
    }
}

/// What each member had, as its assignor said it to the leader.
fn had(group: &Group, member: &GroupMember) -> Vec<TopicPartition> {
    if group.assignor == "cooperative-sticky" {
        return member.owned.clone();
    }
    // The member's side of the assignor writes what Java's wrote, so its words can be found by trying.
    let data = member.user_data.as_deref().unwrap_or_default();
    let all = group.topics.iter().flat_map(|(name, topic)| {
        topic
            .numbers()
            .map(move |number| TopicPartition::new(name.clone(), number))
    });
    let told = |partition: &TopicPartition| told_in(data, partition);
    all.filter(told).collect()
}

/// Whether Java's user data has the partition: topic name, count, numbers.
fn told_in(data: &[u8], partition: &TopicPartition) -> bool {
    let name = partition.topic.as_bytes();
    let Some(at) = data.windows(name.len()).position(|window| window == name) else {
        return false;
    };
    let numbers = &data[at + name.len()..];
    let number = |at: usize| i32::from_be_bytes(numbers[at..at + 4].try_into().unwrap());
    let count = usize::try_from(number(0)).unwrap();
    (0..count).any(|place| number(4 + 4 * place) == partition.partition)
}

fn squares(divided: &BTreeMap<Arc<str>, Assignment>) -> usize {
    divided
        .values()
        .map(|assignment| assignment.partitions.len().pow(2))
        .sum()
}

fn kept(group: &Group, divided: &BTreeMap<Arc<str>, Assignment>) -> usize {
    let of_member = |member: &GroupMember| {
        let now = sorted(divided.get(&member.member_id));
        had(group, member)
            .iter()
            .filter(|partition| now.contains(partition))
            .count()
    };
    group.members.iter().map(of_member).sum()
}

/// How many partitions a member holds that have no replica in its rack.
fn far(group: &Group, divided: &BTreeMap<Arc<str>, Assignment>) -> usize {
    let of_member = |member: &GroupMember| {
        let partitions = sorted(divided.get(&member.member_id));
        let is_far = |partition: &&TopicPartition| {
            let racks = group
                .topics
                .get(&partition.topic)
                .and_then(|topic| topic.racks_of(partition.partition));
            member
                .rack
                .as_ref()
                .is_some_and(|rack| racks.is_some_and(|racks| !racks.contains(rack)))
        };
        partitions.iter().filter(is_far).count()
    };
    group.members.iter().map(of_member).sum()
}

#[test]
fn the_sticky_ones_are_as_balanced_and_as_sticky_as_javas() {
    for name in ["sticky", "cooperative-sticky"] {
        let (mut ours_far, mut javas_far) = (0, 0);
        for (number, group) in of(name).iter().enumerate() {
            let ours = by_name(name).unwrap().assign(&group.members, &group.topics).unwrap();
            let java = &group.java;
            if name == "sticky" {
                // What is held back in a cooperative group is in nobody's load.
                assert!(
                    squares(&ours) <= squares(java),
                    "{name}, group {number}: less balanced than {java:?}"
                );
            }
            let has_racks = group.topics.iter().any(|(_, topic)| topic.racks_of(0).is_some());
            if !has_racks && squares(&ours) == squares(java) {
                let (ours, javas) = (kept(group, &ours), kept(group, java));
                assert!(ours >= javas, "{name}, group {number}: keeps {ours}, Java {javas}");
            }
            ours_far += far(group, &ours);
            javas_far += far(group, java);
        }
        // In a cooperative group Java gives up more at a time, and what is held back is far from nobody.
        assert!(
            name != "sticky" || ours_far <= javas_far,
            "{name}: {ours_far} partitions are far, {javas_far} with Java"
        );
    }
}

#[test]
fn the_members_side_of_the_sticky_assignors_writes_what_javas_does() {
    for name in ["sticky", "cooperative-sticky"] {
        let mut compared = 0;
        for group in of(name) {
            for member in &group.members {
                let mut partitions = had(&group, member);
                partitions.sort();
                let previous = Previous {
                    partitions: &partitions,
                    generation: member.generation.unwrap_or(-1),
                };
                let ours = by_name(name).unwrap().user_data(&member.topics, previous);
                // With one topic there is one order of topics; that of numbers is the assignment's.
                let topics = partitions.chunk_by(|a, b| a.topic == b.topic).count();
                if topics <= 1 {
                    let words = |data: &[u8]| {
                        let mut words: Vec<Vec<u8>> = data.rchunks(4).map(<[u8]>::to_vec).collect();
                        words.sort();
                        words
                    };
                    assert_eq!(
                        ours.as_deref().map(words),
                        member.user_data.as_deref().map(words),
                        "{name}"
                    );
                    compared += 1;
                }
            }
        }
        assert!(compared > 20, "{name}: {compared}");
    }
}
