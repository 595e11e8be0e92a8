//! Consumer groups: list, describe, their committed offsets, delete, remove members.
//!
//! In: ids of groups. Out: what their coordinators say. Groups of both protocols (`classic` and `consumer`) are described in
//! one form. Names are those of Kafka's Java `Admin`. Offsets can be changed only while nobody reads under them: the
//! coordinator refuses it for a group with members, and the error says what to do.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ottla_client_state::TopicPartition;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use ottla_protocol::messages::offset_delete_request::{OffsetDeleteRequestPartition, OffsetDeleteRequestTopic};
use ottla_protocol::messages::{
    ConsumerGroupDescribeRequest, ConsumerProtocolAssignment, ConsumerProtocolSubscription, DeleteGroupsRequest,
    DescribeGroupsRequest, LeaveGroupRequest, ListGroupsRequest, OffsetDeleteRequest,
    consumer_group_describe_response as modern, describe_groups_response as classic,
};
use ottla_protocol::wire::Reader;
use ottla_protocol::{ErrorCode, Message};

use super::{Admin, Answers, OffsetSpec, item_error};
use crate::consumer::{Committer, OffsetAndMetadata, commit, fetch_all_committed, moves_coordinator};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Lane;
use crate::net::request::{ClientRequest, ResponseFrame};

/// ListGroups can filter by state from this version on, and by type from the next.
const STATES_FROM: i16 = 4;
const TYPES_FROM: i16 = 5;

/// LeaveGroup names several members from this version on.
const MEMBERS_FROM: i16 = 3;
/// And says why from this one on.
const REASON_FROM: i16 = 5;

/// A group in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupListing {
    /// Its id.
    pub group_id: String,
    /// Its type as the broker names it: `classic`, `consumer`, `share`, `streams`; empty from brokers before Kafka 3.8.
    pub group_type: String,
    /// What its members are: `consumer` for consumers; empty for a group that only keeps offsets.
    pub protocol_type: String,
    /// Its state as the broker names it, such as `Stable` or `Empty`; empty from brokers before Kafka 2.6.
    pub state: String,
}

/// What a group consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupDescription {
    /// Its id.
    pub group_id: String,
    /// Its type: `classic` or `consumer`.
    pub group_type: &'static str,
    /// Its state as the broker names it: `Empty`, `Stable`, `PreparingRebalance`, `Assigning`, ...
    pub state: String,
    /// What its members are: `consumer` for consumers; empty for a group that only keeps offsets.
    pub protocol_type: String,
    /// The assignor in use; empty while there is none.
    pub assignor: String,
    /// The broker id of its coordinator.
    pub coordinator: Option<i32>,
    /// The epoch of the group, which grows with each change; `None` for a classic group.
    pub group_epoch: Option<i32>,
    /// The epoch of the assignment that members are moving to; `None` for a classic group.
    pub assignment_epoch: Option<i32>,
    /// Its members, by their ids.
    pub members: Vec<MemberDescription>,
}

/// A member of a group.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemberDescription {
    /// The id that the coordinator knows it by.
    pub member_id: String,
    /// Its `group.instance.id`, if it is static.
    pub instance_id: Option<String>,
    /// Its `client.id`.
    pub client_id: String,
    /// Where it connects from.
    pub host: String,
    /// Its `client.rack`.
    pub rack_id: Option<String>,
    /// Its epoch; `None` in a classic group.
    pub member_epoch: Option<i32>,
    /// The topics that it subscribed to by name.
    pub subscription: Vec<String>,
    /// The pattern that it subscribed to, if the broker evaluates one.
    pub subscription_pattern: Option<String>,
    /// The partitions that it has.
    pub assignment: Vec<TopicPartition>,
    /// The partitions that it is to have; `None` in a classic group.
    pub target_assignment: Option<Vec<TopicPartition>>,
}

/// How far a group is on a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupPartitionLag {
    /// What is committed; `None` for nothing.
    pub committed: Option<OffsetAndMetadata>,
    /// The offset after the last record.
    pub end_offset: i64,
    /// How many offsets lie between; `None` when nothing is committed.
    pub lag: Option<i64>,
}

/// A member to be removed from a group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberToRemove {
    /// By its member id.
    MemberId(String),
    /// By its `group.instance.id`.
    InstanceId(String),
}

impl MemberToRemove {
    fn name(&self) -> &str {
        match self {
            MemberToRemove::MemberId(name) | MemberToRemove::InstanceId(name) => name,
        }
    }
}

impl Admin {
    /// All groups of the cluster. `states` and `types` narrow it down, by the names that brokers use; empty for all.
    ///
    /// # Errors
    /// A broker did not answer in time: the list would be incomplete.
    pub async fn list_groups(&self, states: &[&str], types: &[&str]) -> Result<Vec<GroupListing>> {
        let nodes: Vec<i32> = self.client.metadata().nodes().map(|node| node.id).collect();
        let mut found = BTreeMap::new();
        for id in nodes {
            let listed = self
                .retrying("list the groups", || self.list_groups_of(id, states, types))
                .await?;
            found.extend(listed.into_iter().map(|group| (group.group_id.clone(), group)));
        }
        Ok(found.into_values().collect())
    }

    async fn list_groups_of(&self, id: i32, states: &[&str], types: &[&str]) -> Result<Vec<GroupListing>> {
        let connection = self.client.connection(id, Lane::Other).await?;
        let version = connection.version_of::<ListGroupsRequest<'_>>(i16::MAX)?;
        let request = ListGroupsRequest {
            states_filter: if version >= STATES_FROM {
                states.to_vec()
            } else {
                Vec::new()
            },
            types_filter: if version >= TYPES_FROM {
                types.to_vec()
            } else {
                Vec::new()
            },
        };
        let timeout = self.config.client.request_timeout;
        let frame = connection.send(version, &request, timeout)?.await?;
        let response = frame.decode()?;
        if response.error_code != 0 {
            return Err(Error::from_code(response.error_code, "the list of groups").with_broker(frame.broker()));
        }
        let fits =
            |wanted: &[&str], is: &str| wanted.is_empty() || wanted.iter().any(|name| name.eq_ignore_ascii_case(is));
        let groups = response.groups.iter().map(|group| GroupListing {
            group_id: group.group_id.to_owned(),
            group_type: group.group_type.to_ascii_lowercase(),
            protocol_type: group.protocol_type.to_owned(),
            state: group.group_state.to_owned(),
        });
        // An old broker does not filter.
        Ok(groups
            .filter(|group| fits(states, &group.state) && fits(types, &group.group_type))
            .collect())
    }

    /// Members, assignments and states of groups, of either protocol.
    ///
    /// # Errors
    /// No answer at all came in time. A group that does not exist is an error of its own
    /// ([`ErrorCode::GroupIdNotFound`]).
    pub async fn describe_consumer_groups(
        &self,
        groups: &[impl AsRef<str> + Sync],
    ) -> Result<Answers<String, ConsumerGroupDescription>> {
        let mut answers = Answers::new();
        for group in groups.iter().map(AsRef::as_ref) {
            let answer = self
                .retrying("describe the groups", || self.describe_group(group))
                .await;
            answers.insert(group.to_owned(), answer);
        }
        spoken(answers)
    }

    async fn describe_group(&self, group: &str) -> Result<ConsumerGroupDescription> {
        match self.describe_modern(group).await {
            // The coordinator has no such group of the consumer protocol, or does not know the protocol.
            Err(error)
                if error.kind() == ErrorKind::Unsupported || error.code() == Some(ErrorCode::GroupIdNotFound) =>
            {
                self.describe_classic(group).await
            }
            described => described,
        }
    }

    async fn describe_modern(&self, group: &str) -> Result<ConsumerGroupDescription> {
        let build = |_| ConsumerGroupDescribeRequest {
            group_ids: vec![group],
            ..Default::default()
        };
        let frame = self.ask_coordinator(group, build).await?;
        let response = frame.decode()?;
        let found = response.groups.iter().find(|found| found.group_id == group);
        let found = found.ok_or_else(|| left_out(group))?;
        self.check_group(group, found.error_code, found.error_message)?;
        Ok(ConsumerGroupDescription {
            group_id: group.to_owned(),
            group_type: "consumer",
            state: found.group_state.to_owned(),
            protocol_type: "consumer".to_owned(),
            assignor: found.assignor_name.to_owned(),
            coordinator: self.client.known_coordinator(group),
            group_epoch: Some(found.group_epoch),
            assignment_epoch: Some(found.assignment_epoch),
            members: found.members.iter().map(modern_member).collect(),
        })
    }

    async fn describe_classic(&self, group: &str) -> Result<ConsumerGroupDescription> {
        let build = |_| DescribeGroupsRequest {
            groups: vec![group],
            ..Default::default()
        };
        let frame = self.ask_coordinator(group, build).await?;
        let response = frame.decode()?;
        let found = response.groups.iter().find(|found| found.group_id == group);
        let found = found.ok_or_else(|| left_out(group))?;
        self.check_group(group, found.error_code, found.error_message)?;
        // Before version 6 a group that does not exist was described as dead.
        if found.group_state == "Dead" {
            return Err(Error::from_code(ErrorCode::GroupIdNotFound.code(), subject(group)));
        }
        Ok(ConsumerGroupDescription {
            group_id: group.to_owned(),
            group_type: "classic",
            state: found.group_state.to_owned(),
            protocol_type: found.protocol_type.to_owned(),
            assignor: found.protocol_data.to_owned(),
            coordinator: self.client.known_coordinator(group),
            group_epoch: None,
            assignment_epoch: None,
            members: found.members.iter().map(classic_member).collect(),
        })
    }

    async fn ask_coordinator<'m, M: Message<'m> + ClientRequest>(
        &self,
        group: &str,
        build: impl Fn(i16) -> M,
    ) -> Result<ResponseFrame<M>> {
        let timeout = self.config.client.request_timeout;
        self.client
            .request_coordinator(group, Lane::Other, 0..=i16::MAX, timeout, build)
            .await
    }

    /// The error of a group, if there is one. A coordinator that has moved is looked up again.
    fn check_group(&self, group: &str, code: i16, words: Option<&str>) -> Result<()> {
        if code == 0 {
            return Ok(());
        }
        if moves_coordinator(code) {
            self.client.forget_coordinator(group);
        }
        Err(item_error(code, words, subject(group)))
    }

    /// All committed offsets of a group. `require_stable` waits until no transaction is open that commits some.
    ///
    /// # Errors
    /// The group may not be read, or no answer came in time. A group that does not exist has no offsets.
    pub async fn list_consumer_group_offsets(
        &self,
        group: &str,
        require_stable: bool,
    ) -> Result<BTreeMap<TopicPartition, OffsetAndMetadata>> {
        let ask = async || {
            let mut found = BTreeMap::new();
            for (partition, answer) in fetch_all_committed(&self.client, group, require_stable).await? {
                if let Some(committed) = answer? {
                    found.insert(partition, committed);
                }
            }
            Ok(found)
        };
        self.retrying("list the offsets of the group", ask).await
    }

    /// How far a group is on every partition for which it has committed an offset.
    ///
    /// # Errors
    /// As [`Admin::list_consumer_group_offsets`] and [`Admin::list_offsets`]. Partitions whose topic is gone are left out.
    pub async fn consumer_group_lag(&self, group: &str) -> Result<BTreeMap<TopicPartition, GroupPartitionLag>> {
        let committed = self.list_consumer_group_offsets(group, false).await?;
        let mut by_topic: BTreeMap<Arc<str>, Vec<(TopicPartition, OffsetSpec)>> = BTreeMap::new();
        for partition in committed.keys() {
            let asked = by_topic.entry(partition.topic.clone()).or_default();
            asked.push((partition.clone(), OffsetSpec::Latest));
        }
        let mut lags = BTreeMap::new();
        for asked in by_topic.into_values() {
            let ends = match self.list_offsets(&asked).await {
                Err(error) if error.kind() == ErrorKind::UnknownTopic => continue,
                ends => ends?,
            };
            for (partition, end) in ends {
                let end_offset = end.offset.unwrap_or(0);
                let committed = committed.get(&partition).cloned();
                let lag = committed
                    .as_ref()
                    .map(|known| end_offset.saturating_sub(known.offset).max(0));
                lags.insert(
                    partition,
                    GroupPartitionLag {
                        committed,
                        end_offset,
                        lag,
                    },
                );
            }
        }
        Ok(lags)
    }

    /// Commits offsets on behalf of a group that has no members.
    ///
    /// # Errors
    /// No answer at all came in time. A group with members refuses each partition ([`ErrorKind::Fenced`]).
    pub async fn alter_consumer_group_offsets(
        &self,
        group: &str,
        offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ) -> Result<Answers<TopicPartition, ()>> {
        check_offsets(offsets)?;
        let committer = Committer::outside(group);
        let ask = async |open: Vec<TopicPartition>| {
            let chosen = open.into_iter().filter_map(|partition| {
                let offset = offsets.get(&partition)?.clone();
                Some((partition, offset))
            });
            let answers = commit(&self.client, &committer, &chosen.collect(), &BTreeMap::new()).await?;
            let told = answers.into_iter().map(|(partition, answer)| {
                let answer = answer.map_err(|error| with_members(error, group));
                (partition, answer)
            });
            Ok(told.collect())
        };
        self.for_each("change the offsets of the group", offsets.keys().cloned(), ask)
            .await
    }

    /// Has a group that has no members begin at the first or last record, or at a time, and says at which offsets.
    ///
    /// # Errors
    /// As [`Admin::list_offsets`] and [`Admin::alter_consumer_group_offsets`].
    pub async fn reset_consumer_group_offsets(
        &self,
        group: &str,
        to: &[(TopicPartition, OffsetSpec)],
    ) -> Result<Answers<TopicPartition, i64>> {
        let mut found = self.list_offsets(to).await?;
        // No record is that young: the end is where the next one will be.
        let none = found.iter().filter(|(_, listed)| listed.offset.is_none());
        let at_end: Vec<_> = none
            .map(|(partition, _)| (partition.clone(), OffsetSpec::Latest))
            .collect();
        if !at_end.is_empty() {
            found.extend(self.list_offsets(&at_end).await?);
        }
        let offsets: BTreeMap<TopicPartition, OffsetAndMetadata> = found
            .into_iter()
            .filter_map(|(partition, listed)| Some((partition, OffsetAndMetadata::new(listed.offset?))))
            .collect();
        let answers = self.alter_consumer_group_offsets(group, &offsets).await?;
        Ok(answers
            .into_iter()
            .map(|(partition, answer)| {
                let offset = offsets.get(&partition).map_or(-1, |offset| offset.offset);
                (partition, answer.map(|()| offset))
            })
            .collect())
    }

    /// Forgets committed offsets of a group, of topics that none of its members is subscribed to.
    ///
    /// # Errors
    /// The group does not exist, or no answer came in time.
    pub async fn delete_consumer_group_offsets(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Answers<TopicPartition, ()>> {
        let ask = async |open: Vec<TopicPartition>| self.delete_offsets_once(group, &open).await;
        self.for_each("delete offsets of the group", partitions.iter().cloned(), ask)
            .await
    }

    async fn delete_offsets_once(
        &self,
        group: &str,
        partitions: &[TopicPartition],
    ) -> Result<Vec<(TopicPartition, Result<()>)>> {
        let mut topics: BTreeMap<&str, Vec<OffsetDeleteRequestPartition>> = BTreeMap::new();
        for partition in partitions {
            let asked = topics.entry(&partition.topic).or_default();
            asked.push(OffsetDeleteRequestPartition {
                partition_index: partition.partition,
            });
        }
        let build = |_| OffsetDeleteRequest {
            group_id: group,
            topics: topics
                .iter()
                .map(|(name, partitions)| OffsetDeleteRequestTopic {
                    name,
                    partitions: partitions.clone(),
                })
                .collect(),
        };
        let frame = self.ask_coordinator(group, build).await?;
        let response = frame.decode()?;
        self.check_group(group, response.error_code, None)
            .map_err(|error| with_members(error, group))?;
        let mut answers = Vec::new();
        for topic in &response.topics {
            for answer in &topic.partitions {
                let partition = TopicPartition::new(topic.name, answer.partition_index);
                let outcome = match answer.error_code {
                    0 => Ok(()),
                    code => {
                        let error = Error::from_code(code, format_args!("group {group:?}, {partition}"));
                        Err(error.with_partition(&partition, None))
                    }
                };
                answers.push((partition, outcome));
            }
        }
        Ok(answers)
    }

    /// Deletes groups with all their committed offsets. A group with members refuses it.
    ///
    /// # Errors
    /// No answer at all came in time.
    pub async fn delete_consumer_groups(&self, groups: &[impl AsRef<str> + Sync]) -> Result<Answers<String, ()>> {
        let mut answers = Answers::new();
        for group in groups.iter().map(AsRef::as_ref) {
            let answer = self.retrying("delete the groups", || self.delete_group(group)).await;
            answers.insert(group.to_owned(), answer);
        }
        spoken(answers)
    }

    async fn delete_group(&self, group: &str) -> Result<()> {
        let build = |_| DeleteGroupsRequest {
            groups_names: vec![group],
        };
        let frame = self.ask_coordinator(group, build).await?;
        let response = frame.decode()?;
        let found = response.results.iter().find(|found| found.group_id == group);
        let found = found.ok_or_else(|| left_out(group))?;
        self.check_group(group, found.error_code, found.error_message)
            .map_err(|error| with_members(error, group))
    }

    /// Removes members from a group; their partitions go to the others. A member that still runs joins again.
    /// An empty list stands for all members.
    ///
    /// # Errors
    /// The group does not exist, or no answer came in time.
    pub async fn remove_members_from_consumer_group(
        &self,
        group: &str,
        members: &[MemberToRemove],
        reason: &str,
    ) -> Result<Answers<String, ()>> {
        let mut members = members.to_vec();
        if members.is_empty() {
            let ask = || self.describe_group(group);
            let described = self.retrying("describe the group", ask).await?;
            members.extend(described.members.into_iter().map(|member| match member.instance_id {
                Some(id) => MemberToRemove::InstanceId(id),
                None => MemberToRemove::MemberId(member.member_id),
            }));
        }
        let names: BTreeSet<String> = members.iter().map(|member| member.name().to_owned()).collect();
        let ask = async |open: Vec<String>| {
            let chosen: Vec<&MemberToRemove> = members
                .iter()
                .filter(|member| open.iter().any(|name| name == member.name()))
                .collect();
            self.remove_members_once(group, &chosen, reason).await
        };
        self.for_each("remove members of the group", names, ask).await
    }

    async fn remove_members_once(
        &self,
        group: &str,
        members: &[&MemberToRemove],
        reason: &str,
    ) -> Result<Vec<(String, Result<()>)>> {
        let build = |version: i16| LeaveGroupRequest {
            group_id: group,
            member_id: match members {
                [member] if version < MEMBERS_FROM => member.name(),
                _ => "",
            },
            members: match version {
                ..MEMBERS_FROM => Vec::new(),
                _ => members.iter().map(|member| leaving(member, version, reason)).collect(),
            },
        };
        let frame = self.ask_coordinator(group, build).await?;
        let response = frame.decode()?;
        self.check_group(group, response.error_code, None)?;
        if frame.version() < MEMBERS_FROM {
            let text = "the broker cannot remove several members, or static ones, before Kafka 2.4";
            return match members {
                [member] => Ok(vec![(member.name().to_owned(), Ok(()))]),
                _ => Err(Error::new(ErrorKind::Unsupported, text).with_broker(frame.broker())),
            };
        }
        let answers = response.members.iter().map(|answer| {
            let asked = |member: &&&MemberToRemove| match member {
                MemberToRemove::MemberId(id) => id == answer.member_id,
                MemberToRemove::InstanceId(id) => Some(&**id) == answer.group_instance_id,
            };
            let name = members
                .iter()
                .find(asked)
                .map_or(answer.member_id, |member| member.name());
            let outcome = match answer.error_code {
                0 => Ok(()),
                code => Err(Error::from_code(code, format_args!("group {group:?}, member {name}"))),
            };
            (name.to_owned(), outcome)
        });
        Ok(answers.collect())
    }
}

fn leaving<'a>(member: &'a MemberToRemove, version: i16, reason: &'a str) -> MemberIdentity<'a> {
    let (member_id, group_instance_id) = match member {
        MemberToRemove::MemberId(id) => (id.as_str(), None),
        MemberToRemove::InstanceId(id) => ("", Some(id.as_str())),
    };
    MemberIdentity {
        member_id,
        group_instance_id,
        reason: Some(reason).filter(|reason| version >= REASON_FROM && !reason.is_empty()),
    }
}

/// What befalls one group is its own; only when all fail for want of an answer the call does.
fn spoken<T>(answers: Answers<String, T>) -> Result<Answers<String, T>> {
    let silence = |answer: &Result<T>| answer.as_ref().err().filter(|error| error.code().is_none()).cloned();
    let silences: Vec<Error> = answers.values().filter_map(silence).collect();
    match silences.into_iter().next_back() {
        Some(error) if answers.values().all(|answer| silence(answer).is_some()) => Err(error),
        _ => Ok(answers),
    }
}

fn subject(group: &str) -> String {
    format!("group {group:?}")
}

fn left_out(group: &str) -> Error {
    let text = format!("group {group:?}: the coordinator left the group out of its answer");
    Error::new(ErrorKind::Protocol, text).with_retriable(true)
}

/// What a group with members refuses, with what to do.
fn with_members(error: Error, group: &str) -> Error {
    match error.code() {
        Some(
            ErrorCode::UnknownMemberId
            | ErrorCode::NonEmptyGroup
            | ErrorCode::IllegalGeneration
            | ErrorCode::StaleMemberEpoch,
        ) => error.with_note(format_args!(
            "group {group:?} has members: stop its consumers first, or wait until they are taken for dead"
        )),
        _ => error,
    }
}

fn check_offsets(offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>) -> Result<()> {
    match offsets.iter().find(|(_, offset)| offset.offset < 0) {
        Some((partition, offset)) => {
            let text = format!("{partition}: {} is not an offset", offset.offset);
            Err(Error::new(ErrorKind::Argument, text).with_partition(partition, None))
        }
        None => Ok(()),
    }
}

fn owned(text: Option<&str>) -> Option<String> {
    text.map(str::to_owned)
}

fn modern_member(member: &modern::Member<'_>) -> MemberDescription {
    MemberDescription {
        member_id: member.member_id.to_owned(),
        instance_id: owned(member.instance_id),
        client_id: member.client_id.to_owned(),
        host: member.client_host.to_owned(),
        rack_id: owned(member.rack_id),
        member_epoch: Some(member.member_epoch),
        subscription: member
            .subscribed_topic_names
            .iter()
            .map(|&name| name.to_owned())
            .collect(),
        subscription_pattern: owned(member.subscribed_topic_regex).filter(|pattern| !pattern.is_empty()),
        assignment: modern_partitions(&member.assignment),
        target_assignment: Some(modern_partitions(&member.target_assignment)),
    }
}

fn modern_partitions(assignment: &modern::Assignment<'_>) -> Vec<TopicPartition> {
    let topics = assignment.topic_partitions.iter();
    in_order(topics.map(|topic| (topic.topic_name, &topic.partitions[..])))
}

fn in_order<'a>(topics: impl Iterator<Item = (&'a str, &'a [i32])>) -> Vec<TopicPartition> {
    let mut all = Vec::new();
    for (topic, indexes) in topics {
        let name: Arc<str> = topic.into();
        all.extend(indexes.iter().map(|index| TopicPartition::new(name.clone(), *index)));
    }
    all.sort_unstable();
    all
}

/// What a member of a classic group says of itself is bytes of its own making: what cannot be read is left out.
fn classic_member(member: &classic::DescribedGroupMember<'_>) -> MemberDescription {
    let subscription = versioned::<ConsumerProtocolSubscription<'_>>(member.member_metadata);
    let assignment = versioned::<ConsumerProtocolAssignment<'_>>(member.member_assignment).unwrap_or_default();
    let topics = assignment.assigned_partitions.iter();
    MemberDescription {
        member_id: member.member_id.to_owned(),
        instance_id: owned(member.group_instance_id),
        client_id: member.client_id.to_owned(),
        host: member.client_host.to_owned(),
        rack_id: owned(subscription.as_ref().and_then(|known| known.rack_id)),
        member_epoch: None,
        subscription: subscription
            .iter()
            .flat_map(|known| &known.topics)
            .map(|&name| name.to_owned())
            .collect(),
        subscription_pattern: None,
        assignment: in_order(topics.map(|topic| (topic.topic, &topic.partitions[..]))),
        target_assignment: None,
    }
}

/// A message of the consumers' own protocol: its version, then its fields. Later versions only add fields at the end.
fn versioned<'a, M: Message<'a>>(bytes: &'a [u8]) -> Option<M> {
    let (version, fields) = bytes.split_first_chunk::<2>()?;
    let version = i16::from_be_bytes(*version);
    if version < M::MIN_VERSION {
        return None;
    }
    M::decode(&mut Reader::new(fields), version.min(M::MAX_VERSION)).ok()
}
