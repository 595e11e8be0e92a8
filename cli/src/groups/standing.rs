//! How far a group is, and who reads what: its description, its committed offsets and the ends of the logs side by side.
//!
//! In: a group's id. Out: a row for each partition that is committed or assigned. Nothing here prints.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla::{Admin, ConsumerGroupDescription, ErrorKind, MemberDescription, OffsetSpec, TopicPartition};

/// A group with its partitions.
#[derive(Debug, Clone)]
pub struct Standing {
    /// What its coordinator says.
    pub description: ConsumerGroupDescription,
    /// What is committed.
    pub committed: BTreeMap<TopicPartition, i64>,
}

impl Standing {
    /// Asks the coordinator.
    ///
    /// # Errors
    /// The group does not exist ([`ottla::ErrorCode::GroupIdNotFound`]), may not be seen, or nobody answered in time.
    pub async fn of(admin: &Admin, group: &str) -> Result<Standing, ottla::Error> {
        let left_out = || ottla::Error::new(ErrorKind::Protocol, "the broker left the group out of its answer");
        let described = admin.describe_consumer_groups(&[group]).await?;
        let description = described.into_values().next().ok_or_else(left_out)??;
        let committed = admin.list_consumer_group_offsets(group, false).await?;
        let committed = committed.into_iter();
        Ok(Standing {
            description,
            committed: committed.map(|(partition, known)| (partition, known.offset)).collect(),
        })
    }

    /// Who has which partition.
    pub fn owners(&self) -> BTreeMap<TopicPartition, &MemberDescription> {
        let members = self.description.members.iter();
        members
            .flat_map(|member| {
                member
                    .assignment
                    .iter()
                    .map(move |partition| (partition.clone(), member))
            })
            .collect()
    }

    /// All partitions that the group has to do with.
    pub fn partitions(&self) -> BTreeSet<TopicPartition> {
        let assigned = self.description.members.iter().flat_map(|member| &member.assignment);
        self.committed.keys().chain(assigned).cloned().collect()
    }
}

/// Offsets of partitions, without those of topics that are gone.
///
/// # Errors
/// Nobody answered in time.
pub async fn offsets_of(
    admin: &Admin,
    partitions: impl IntoIterator<Item = TopicPartition>,
    spec: OffsetSpec,
) -> Result<BTreeMap<TopicPartition, Option<i64>>, ottla::Error> {
    let mut by_topic: BTreeMap<Arc<str>, Vec<(TopicPartition, OffsetSpec)>> = BTreeMap::new();
    for partition in partitions {
        by_topic
            .entry(partition.topic.clone())
            .or_default()
            .push((partition, spec));
    }
    let mut found = BTreeMap::new();
    for asked in by_topic.into_values() {
        match admin.list_offsets(&asked).await {
            Err(error) if error.kind() == ErrorKind::UnknownTopic => {}
            listed => found.extend(
                listed?
                    .into_iter()
                    .map(|(partition, listed)| (partition, listed.offset)),
            ),
        }
    }
    Ok(found)
}
