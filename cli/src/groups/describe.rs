//! `ottla groups --describe`: offsets and lag, members, or the state of groups.
//!
//! In: groups. Out: a table for each, in the columns of Kafka's tool, `-` for what is not known. Where nobody reads, a line on
//! standard error says so.

use std::collections::BTreeMap;

use ottla::{Admin, ConsumerGroupDescription, ErrorCode, MemberDescription, OffsetSpec, TopicPartition};

use super::standing::{Standing, offsets_of};
use super::{GroupsArguments, all_done, print, unknown};
use crate::Outcome;
use crate::output::say;
use crate::table::{Table, cell};

/// Describes each group in turn.
pub async fn run(admin: &Admin, arguments: &GroupsArguments) -> Outcome {
    let mut failures = Vec::new();
    for (number, group) in arguments.groups(admin).await?.iter().enumerate() {
        let standing = match Standing::of(admin, group).await {
            Ok(standing) => standing,
            Err(error) if error.code() == Some(ErrorCode::GroupIdNotFound) => {
                failures.push(unknown(group));
                continue;
            }
            Err(error) => {
                failures.push(error.to_string());
                continue;
            }
        };
        if number > 0 {
            say!("");
        }
        if arguments.state.is_some() {
            print(&state(&standing.description, arguments.verbose));
            continue;
        }
        if standing.description.members.is_empty() {
            eprintln!("ottla: group {group:?} has no members.");
        }
        if arguments.members {
            print(&members(&standing.description, arguments.verbose));
        } else {
            let ends = offsets_of(admin, standing.partitions(), OffsetSpec::Latest).await?;
            print(&offsets(&standing, &ends));
        }
    }
    all_done(&failures)
}

/// A row for each partition, and one for each member that has none.
fn offsets(standing: &Standing, ends: &BTreeMap<TopicPartition, Option<i64>>) -> Table {
    let group = &standing.description.group_id;
    let mut table = Table::new(&[
        "GROUP",
        "TOPIC",
        "PARTITION",
        "CURRENT-OFFSET",
        "LOG-END-OFFSET",
        "LAG",
        "CONSUMER-ID",
        "HOST",
        "CLIENT-ID",
    ]);
    let owners = standing.owners();
    for partition in standing.partitions() {
        let committed = standing.committed.get(&partition).copied();
        let end = ends.get(&partition).copied().flatten();
        let mut row = vec![
            group.clone(),
            partition.topic.to_string(),
            partition.partition.to_string(),
            cell(committed),
            cell(end),
            cell(lag(committed, end)),
        ];
        row.extend(who(owners.get(&partition).copied()));
        table.row(row);
    }
    for member in standing
        .description
        .members
        .iter()
        .filter(|member| member.assignment.is_empty())
    {
        let mut row = vec![group.clone()];
        row.resize(6, String::new());
        row.extend(who(Some(member)));
        table.row(row);
    }
    table
}

/// How many offsets lie between what is committed and the end.
pub(crate) fn lag(committed: Option<i64>, end: Option<i64>) -> Option<i64> {
    Some(end?.saturating_sub(committed?).max(0))
}

fn who(member: Option<&MemberDescription>) -> [String; 3] {
    member.map_or_else(Default::default, |member| {
        [member.member_id.clone(), member.host.clone(), member.client_id.clone()]
    })
}

fn members(group: &ConsumerGroupDescription, verbose: bool) -> Table {
    let mut heading = vec![
        "GROUP",
        "CONSUMER-ID",
        "GROUP-INSTANCE-ID",
        "HOST",
        "CLIENT-ID",
        "#PARTITIONS",
    ];
    if verbose {
        heading.extend([
            "CURRENT-EPOCH",
            "CURRENT-ASSIGNMENT",
            "TARGET-EPOCH",
            "TARGET-ASSIGNMENT",
        ]);
    }
    let mut table = Table::new(&heading);
    for member in &group.members {
        let mut row = vec![
            group.group_id.clone(),
            member.member_id.clone(),
            member.instance_id.clone().unwrap_or_default(),
            member.host.clone(),
            member.client_id.clone(),
            member.assignment.len().to_string(),
        ];
        if verbose {
            row.extend([
                cell(member.member_epoch),
                named(&member.assignment),
                cell(group.assignment_epoch),
                member.target_assignment.as_deref().map(named).unwrap_or_default(),
            ]);
        }
        table.row(row);
    }
    table
}

/// Partitions by topic, as in `gpsraw:0,1;other:3`.
fn named(partitions: &[TopicPartition]) -> String {
    let mut by_topic: BTreeMap<&str, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        by_topic.entry(&partition.topic).or_default().push(partition.partition);
    }
    let topics = by_topic.into_iter().map(|(topic, mut numbers)| {
        numbers.sort_unstable();
        let numbers: Vec<String> = numbers.iter().map(i32::to_string).collect();
        format!("{topic}:{}", numbers.join(","))
    });
    topics.collect::<Vec<_>>().join(";")
}

fn state(group: &ConsumerGroupDescription, verbose: bool) -> Table {
    let mut heading = vec!["GROUP", "COORDINATOR-ID", "ASSIGNMENT-STRATEGY", "STATE", "#MEMBERS"];
    if verbose {
        heading.extend(["TYPE", "GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH"]);
    }
    let mut table = Table::new(&heading);
    let mut row = vec![
        group.group_id.clone(),
        cell(group.coordinator),
        group.assignor.clone(),
        group.state.clone(),
        group.members.len().to_string(),
    ];
    if verbose {
        row.extend([
            group.group_type.to_owned(),
            cell(group.group_epoch),
            cell(group.assignment_epoch),
        ]);
    }
    table.row(row);
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(id: &str, partitions: &[i32]) -> MemberDescription {
        MemberDescription {
            member_id: id.into(),
            client_id: "c".into(),
            host: "/127.0.0.1".into(),
            assignment: partitions.iter().map(|n| TopicPartition::new("gpsraw", *n)).collect(),
            ..MemberDescription::default()
        }
    }

    fn group(members: Vec<MemberDescription>) -> ConsumerGroupDescription {
        ConsumerGroupDescription {
            group_id: "maps".into(),
            group_type: "classic",
            state: "Stable".into(),
            protocol_type: "consumer".into(),
            assignor: "range".into(),
            coordinator: Some(1),
            group_epoch: None,
            assignment_epoch: None,
            members,
        }
    }

    #[test]
    fn each_partition_stands_with_its_lag_and_its_member() {
        let standing = Standing {
            description: group(vec![member("m-1", &[0, 1]), member("m-2", &[])]),
            committed: BTreeMap::from([
                (TopicPartition::new("gpsraw", 0), 7),
                (TopicPartition::new("old", 0), 3),
            ]),
        };
        let ends = BTreeMap::from([
            (TopicPartition::new("gpsraw", 0), Some(10)),
            (TopicPartition::new("gpsraw", 1), Some(4)),
        ]);
        let lines = offsets(&standing, &ends).lines();
        let cells: Vec<Vec<&str>> = lines.iter().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(
            cells[1],
            ["maps", "gpsraw", "0", "7", "10", "3", "m-1", "/127.0.0.1", "c"]
        );
        assert_eq!(
            cells[2],
            ["maps", "gpsraw", "1", "-", "4", "-", "m-1", "/127.0.0.1", "c"]
        );
        assert_eq!(cells[3], ["maps", "old", "0", "3", "-", "-", "-", "-", "-"]);
        assert_eq!(cells[4], ["maps", "-", "-", "-", "-", "-", "m-2", "/127.0.0.1", "c"]);
        assert_eq!(cells.len(), 5);
    }

    #[test]
    fn verbose_members_have_their_partitions_by_topic() {
        let lines = members(&group(vec![member("m-1", &[1, 0])]), true).lines();
        assert!(lines[1].contains("gpsraw:0,1"), "{}", lines[1]);
        assert_eq!(lines[1].split_whitespace().count(), 10, "{}", lines[1]);
    }
}
