//! What is known as cells of text, for the screen and for plain text alike.
//!
//! In: what was seen, and a name. Out: rows in the order of the headings. What is not known is empty.

use ottla::TopicPartition;

use super::rates::{Seen, lag_of};
use super::view::{Tab, View};
use crate::groups::lag;
use crate::summary::grouped;
use crate::table::cell;

/// The headings of a tab.
pub fn heading(tab: Tab) -> &'static [&'static str] {
    match tab {
        Tab::Brokers => &["BROKER", "ADDRESS", "RACK", "CONTROLLER", "LEADS", "REPLICAS"],
        Tab::Topics => &["TOPIC", "PARTITIONS", "OUT-OF-SYNC", "END-OFFSETS", "RECORDS/S-IN"],
        Tab::Groups => &["GROUP", "STATE", "PROTOCOL", "MEMBERS", "LAG", "RECORDS/S-OUT"],
    }
}

/// The rows of a tab.
pub fn rows(tab: Tab, seen: &Seen, view: &View) -> Vec<Vec<String>> {
    let names = view.names(tab, seen).into_iter();
    names.filter_map(|name| row(tab, seen, name)).collect()
}

fn row(tab: Tab, seen: &Seen, name: String) -> Option<Vec<String>> {
    Some(match tab {
        Tab::Brokers => {
            let broker = seen.now.brokers.iter().find(|broker| broker.id.to_string() == name)?;
            vec![
                name,
                broker.address.clone(),
                broker.rack.clone().unwrap_or_default(),
                if broker.controller { "yes" } else { "" }.to_owned(),
                broker.leads.to_string(),
                broker.replicas.to_string(),
            ]
        }
        Tab::Topics => {
            let topic = seen.now.topics.get(&name)?;
            let ends: i64 = topic.partitions.values().filter_map(|partition| partition.end).sum();
            let rate = seen.written_to(&name);
            vec![
                name,
                topic.partitions.len().to_string(),
                topic.out_of_sync.to_string(),
                number(Some(ends)),
                rated(rate),
            ]
        }
        Tab::Groups => {
            let group = seen.now.groups.get(&name)?;
            let rate = seen.read_by(&name);
            vec![
                name,
                group.state.clone(),
                group.protocol.clone(),
                group.members.to_string(),
                number(lag_of(group)),
                rated(rate),
            ]
        }
    })
}

/// The headings of the partitions below a tab; brokers have none.
pub fn parts_heading(tab: Tab) -> &'static [&'static str] {
    match tab {
        Tab::Brokers => &[],
        Tab::Topics => &["PARTITION", "LEADER", "END-OFFSET", "RECORDS/S-IN"],
        Tab::Groups => &[
            "PARTITION",
            "CURRENT-OFFSET",
            "END-OFFSET",
            "LAG",
            "RECORDS/S-OUT",
            "MEMBER",
        ],
    }
}

/// The partitions of a topic or group.
pub fn parts(tab: Tab, seen: &Seen, name: &str) -> Vec<Vec<String>> {
    match tab {
        Tab::Brokers => Vec::new(),
        Tab::Topics => {
            let partitions = seen
                .now
                .topics
                .get(name)
                .into_iter()
                .flat_map(|topic| &topic.partitions);
            let cells = partitions.map(|(id, partition)| {
                let full = TopicPartition::new(name, *id);
                let rate = seen.written(name, *id);
                vec![
                    full.to_string(),
                    cell(partition.leader),
                    number(partition.end),
                    rated(rate),
                ]
            });
            cells.collect()
        }
        Tab::Groups => {
            let partitions = seen
                .now
                .groups
                .get(name)
                .into_iter()
                .flat_map(|group| &group.partitions);
            let cells = partitions.map(|(id, partition)| {
                vec![
                    id.to_string(),
                    number(partition.committed),
                    number(partition.end),
                    number(lag(partition.committed, partition.end)),
                    rated(seen.read(name, id)),
                    partition.owner.clone().unwrap_or_default(),
                ]
            });
            cells.collect()
        }
    }
}

/// One line of the whole.
pub fn cluster(seen: &Seen) -> String {
    let sample = &seen.now;
    let counted = |number: usize, noun| crate::summary::counted(number as u64, noun);
    format!(
        "cluster {}: {}, {}, {}",
        sample.cluster_id,
        counted(sample.brokers.len(), "broker"),
        counted(sample.topics.len(), "topic"),
        counted(sample.groups.len(), "group")
    )
}

fn number(number: Option<i64>) -> String {
    let text = |number: i64| match u64::try_from(number) {
        Ok(number) => grouped(number),
        Err(_) => number.to_string(),
    };
    number.map(text).unwrap_or_default()
}

/// A rate: whole numbers from 10 on.
fn rated(rate: Option<f64>) -> String {
    let text = |rate: f64| match rate {
        small if small > 0.0 && small < 10.0 => format!("{small:.1}"),
        rate => grouped(rate.round() as u64),
    };
    rate.map(text).unwrap_or_default()
}
