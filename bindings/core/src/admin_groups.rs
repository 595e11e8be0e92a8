//! Groups, for whoever looks after them.
//!
//! In: names of groups, offsets. Out: futures; listings and descriptions as JSON, with the same names in every language,
//! and an answer for each thing that was asked about.

use std::collections::BTreeMap;
use std::future::Future;

use ottla::{ConsumerGroupDescription, OffsetAndMetadata, TopicPartition};
use serde_json::{Value, json};

use crate::admin::Admin;
use crate::error::Error;

fn partitions(partitions: &[TopicPartition]) -> Value {
    let pair = |of: &TopicPartition| json!([&*of.topic, of.partition]);
    partitions.iter().map(pair).collect()
}

fn described(group: &ConsumerGroupDescription) -> Value {
    let members = group.members.iter().map(|member| {
        json!({
            "member_id": member.member_id,
            "instance_id": member.instance_id,
            "client_id": member.client_id,
            "host": member.host,
            "rack_id": member.rack_id,
            "member_epoch": member.member_epoch,
            "subscription": member.subscription,
            "subscription_pattern": member.subscription_pattern,
            "assignment": partitions(&member.assignment),
            "target_assignment": member.target_assignment.as_deref().map(partitions),
        })
    });
    json!({
        "group_id": group.group_id,
        "group_type": group.group_type,
        "state": group.state,
        "protocol_type": group.protocol_type,
        "assignor": group.assignor,
        "coordinator": group.coordinator,
        "group_epoch": group.group_epoch,
        "assignment_epoch": group.assignment_epoch,
        "members": members.collect::<Value>(),
    })
}

fn told<K: Ord, T>(answers: impl IntoIterator<Item = (K, Result<T, ottla::Error>)>) -> BTreeMap<K, Result<T, Error>> {
    let own = |(name, answer): (K, Result<T, ottla::Error>)| (name, answer.map_err(Error::from));
    answers.into_iter().map(own).collect()
}

impl Admin {
    /// All groups, narrowed down by states and types if there are any: a JSON array of objects with `group_id`,
    /// `group_type`, `protocol_type` and `state`.
    pub fn list_groups(
        &self,
        states: Vec<String>,
        types: Vec<String>,
    ) -> impl Future<Output = Result<String, Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let states: Vec<&str> = states.iter().map(String::as_str).collect();
            let types: Vec<&str> = types.iter().map(String::as_str).collect();
            let groups = inner?.client().await?.list_groups(&states, &types).await?;
            let row = |group: &ottla::GroupListing| {
                json!({
                    "group_id": group.group_id,
                    "group_type": group.group_type,
                    "protocol_type": group.protocol_type,
                    "state": group.state,
                })
            };
            Ok(groups.iter().map(row).collect::<Value>().to_string())
        }
    }

    /// Members, assignments and states of groups: a JSON object for each.
    pub fn describe_consumer_groups(
        &self,
        groups: Vec<String>,
    ) -> impl Future<Output = Result<BTreeMap<String, Result<String, Error>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let answers = inner?.client().await?.describe_consumer_groups(&groups).await?;
            let text = |(name, answer): (String, Result<ConsumerGroupDescription, ottla::Error>)| {
                (name, answer.map(|group| described(&group).to_string()))
            };
            Ok(told(answers.into_iter().map(text)))
        }
    }

    /// All committed offsets of a group.
    pub fn list_consumer_group_offsets(
        &self,
        group: String,
        require_stable: bool,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, OffsetAndMetadata>, Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let client = inner?.client().await?;
            Ok(client.list_consumer_group_offsets(&group, require_stable).await?)
        }
    }

    /// The same as a JSON array.
    pub fn list_consumer_group_offsets_json(
        &self,
        group: String,
    ) -> impl Future<Output = Result<String, Error>> + Send + use<> {
        let known = self.list_consumer_group_offsets(group, false);
        async move {
            let row = |(of, known): (TopicPartition, OffsetAndMetadata)| {
                json!({
                    "topic": &*of.topic,
                    "partition": of.partition,
                    "offset": known.offset,
                    "leader_epoch": known.leader_epoch,
                    "metadata": known.metadata,
                })
            };
            Ok(known.await?.into_iter().map(row).collect::<Value>().to_string())
        }
    }

    /// Commits offsets on behalf of a group that has no members.
    pub fn alter_consumer_group_offsets(
        &self,
        group: String,
        offsets: BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, Result<(), Error>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let client = inner?.client().await?;
            Ok(told(client.alter_consumer_group_offsets(&group, &offsets).await?))
        }
    }

    /// Forgets committed offsets of a group, of topics that none of its members is subscribed to.
    pub fn delete_consumer_group_offsets(
        &self,
        group: String,
        partitions: Vec<TopicPartition>,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, Result<(), Error>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let client = inner?.client().await?;
            Ok(told(client.delete_consumer_group_offsets(&group, &partitions).await?))
        }
    }

    /// Deletes groups with all their committed offsets.
    pub fn delete_consumer_groups(
        &self,
        groups: Vec<String>,
    ) -> impl Future<Output = Result<BTreeMap<String, Result<(), Error>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(told(inner?.client().await?.delete_consumer_groups(&groups).await?)) }
    }
}
