//! Committed offsets: stored with the coordinator of a group, and fetched from it (OffsetCommit, OffsetFetch).
//!
//! In: who asks ([`Committer`]), partitions and offsets. Out: an answer for each partition. Each call asks once; a
//! coordinator that has moved is forgotten, so that the next call finds the new one. It does not decide what is to be
//! committed, and does not know what is processed.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_client_state::TopicPartition;
use ottla_client_state::commit::OffsetAndMetadata;
use ottla_client_state::metadata::ClusterSnapshot;
use ottla_protocol::messages::offset_commit_request::{OffsetCommitRequestPartition, OffsetCommitRequestTopic};
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::{OffsetCommitRequest, OffsetFetchRequest, OffsetFetchResponse};
use ottla_protocol::{ErrorCode, Uuid};

use crate::client::Client;
use crate::error::{Error, ErrorKind, Result};
use crate::net::Lane;

/// The newest version of OffsetCommit and of OffsetFetch that is used; from it on topics have ids and no names.
const CAP: i16 = 10;

/// OffsetFetch asks about several groups from this version on.
const GROUPS_FROM: i16 = 8;

/// OffsetFetch says from this version on who asks, so that a member that is no more gets no answer.
const MEMBERS_FROM: i16 = 9;

/// OffsetFetch can leave out offsets of open transactions from this version on.
const STABLE_FROM: i16 = 7;

/// Who commits or asks: a member of the group, or somebody outside of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Committer {
    pub group_id: Arc<str>,
    /// Empty for somebody outside of the group.
    pub member_id: Arc<str>,
    /// The generation or member epoch; -1 for somebody outside of the group.
    pub generation: i32,
    pub instance_id: Option<Arc<str>>,
    /// Whether the generation is a member epoch (`group.protocol=consumer`).
    pub has_epoch: bool,
}

impl Committer {
    /// Somebody outside of the group: the coordinator accepts it while the group has no members.
    pub fn outside(group_id: impl Into<Arc<str>>) -> Self {
        Committer {
            group_id: group_id.into(),
            member_id: "".into(),
            generation: -1,
            instance_id: None,
            has_epoch: false,
        }
    }
}

/// An answer, or why there is none, for every partition.
pub(crate) type CommitAnswers = BTreeMap<TopicPartition, Result<()>>;

/// The committed offset, `None` for none, or why it is not known, for every partition.
pub(crate) type CommittedAnswers = BTreeMap<TopicPartition, Result<Option<OffsetAndMetadata>>>;

/// Whether a code says that the coordinator is elsewhere or in trouble, so that it must be looked up again.
pub(crate) fn moves_coordinator(code: i16) -> bool {
    matches!(
        ErrorCode::from_code(code),
        Some(ErrorCode::NotCoordinator | ErrorCode::CoordinatorNotAvailable)
    )
}

/// Stores offsets, asking once. `ids` are those of the topics whose records the offsets are of, where the caller knows them: a
/// topic that took the name of a deleted one must not get them.
///
/// # Errors
/// The coordinator did not answer. [`Error::persisted`] says whether it may have acted all the same.
pub(crate) async fn commit(
    client: &Client,
    committer: &Committer,
    offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>,
    ids: &BTreeMap<Arc<str>, Uuid>,
) -> Result<CommitAnswers> {
    let snapshot = client.metadata();
    let id_of = |topic: &str| ids.get(topic).copied().or_else(|| known_id(&snapshot, topic));
    let mut topics: BTreeMap<&Arc<str>, Vec<(&TopicPartition, &OffsetAndMetadata)>> = BTreeMap::new();
    for (partition, offset) in offsets {
        topics.entry(&partition.topic).or_default().push((partition, offset));
    }
    let cap = cap_for(topics.keys().copied(), id_of);
    let build = |version: i16| OffsetCommitRequest {
        group_id: &committer.group_id,
        generation_id_or_member_epoch: committer.generation,
        member_id: &committer.member_id,
        group_instance_id: committer.instance_id.as_deref().filter(|_| version >= 7),
        topics: topics
            .iter()
            .map(|(topic, offsets)| OffsetCommitRequestTopic {
                name: if version < CAP { topic } else { "" },
                topic_id: id_from(CAP, version, topic, id_of),
                partitions: offsets
                    .iter()
                    .map(|(partition, offset)| committed(partition, offset))
                    .collect(),
            })
            .collect(),
        ..Default::default()
    };
    let timeout = client.config().request_timeout;
    let group = &*committer.group_id;
    let frame = client
        .request_coordinator(group, Lane::Group, 0..=cap, timeout, build)
        .await?;
    let response = frame.decode()?;
    let mut answers = CommitAnswers::new();
    for topic in &response.topics {
        let name = name_from(frame.version(), topic.name, topic.topic_id, &topics, id_of);
        for answer in &topic.partitions {
            let Some(partition) = name
                .clone()
                .map(|name| TopicPartition::new(name, answer.partition_index))
            else {
                continue;
            };
            if !offsets.contains_key(&partition) {
                continue;
            }
            if moves_coordinator(answer.error_code) {
                client.forget_coordinator(group);
            }
            let outcome = match answer.error_code {
                0 => Ok(()),
                code => Err(refused(code, group, &partition, offsets.get(&partition)).with_broker(frame.broker())),
            };
            answers.entry(partition).or_insert(outcome);
        }
    }
    for partition in offsets.keys() {
        answers
            .entry(partition.clone())
            .or_insert_with(|| Err(left_out(group, partition)));
    }
    Ok(answers)
}

fn committed<'a>(partition: &TopicPartition, offset: &'a OffsetAndMetadata) -> OffsetCommitRequestPartition<'a> {
    OffsetCommitRequestPartition {
        partition_index: partition.partition,
        committed_offset: offset.offset,
        committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
        committed_metadata: Some(&offset.metadata),
    }
}

/// The error of an offset that was not stored, with what to do.
fn refused(code: i16, group: &str, partition: &TopicPartition, offset: Option<&OffsetAndMetadata>) -> Error {
    let offset = offset.map_or(-1, |offset| offset.offset);
    let error = Error::from_code(
        code,
        format_args!("group {group:?}: offset {offset} of {partition} was not committed"),
    );
    let error = match ErrorCode::from_code(code) {
        Some(ErrorCode::IllegalGeneration | ErrorCode::UnknownMemberId | ErrorCode::StaleMemberEpoch) => error.with_note(
            "the group went on without this member, and whoever has the partition now goes on from what was committed \
             before: expect its records to be read again. If processing takes longer than max.poll.interval.ms, raise it \
             or poll fewer records (max.poll.records)",
        ),
        Some(ErrorCode::FencedInstanceId) => {
            error.with_note("another consumer runs with the same group.instance.id: give each its own")
        }
        Some(ErrorCode::RebalanceInProgress) => error
            .with_retriable(true)
            .with_note("the group is rebalancing: poll on, and commit after it"),
        // A partition's metadata may not have reached the coordinator yet.
        Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => error.with_retriable(true),
        Some(ErrorCode::OffsetMetadataTooLarge) => {
            error.with_note("shorten the metadata, or raise offset.metadata.max.bytes of the brokers")
        }
        _ => error,
    };
    error.with_partition(partition, Some(offset))
}

fn left_out(group: &str, partition: &TopicPartition) -> Error {
    let text = format!("group {group:?}: the coordinator left {partition} out of its answer");
    Error::new(ErrorKind::Protocol, text)
        .with_retriable(true)
        .with_partition(partition, None)
}

/// Fetches the committed offsets of `partitions`, asking once. `stable` waits for open transactions that commit
/// offsets: the answer is then a retriable error (UNSTABLE_OFFSET_COMMIT).
///
/// # Errors
/// The coordinator did not answer, or refused all of it.
pub(crate) async fn fetch_committed(
    client: &Client,
    committer: &Committer,
    partitions: &[TopicPartition],
    stable: bool,
) -> Result<CommittedAnswers> {
    let mut topics: BTreeMap<&Arc<str>, Vec<i32>> = BTreeMap::new();
    for partition in partitions {
        topics.entry(&partition.topic).or_default().push(partition.partition);
    }
    let mut answers = ask_committed(client, committer, Some(&topics), stable).await?;
    answers.retain(|partition, _| partitions.contains(partition));
    for partition in partitions {
        answers
            .entry(partition.clone())
            .or_insert_with(|| Err(left_out(&committer.group_id, partition)));
    }
    Ok(answers)
}

/// Fetches all committed offsets of a group, asking once.
///
/// # Errors
/// As [`fetch_committed`].
pub(crate) async fn fetch_all_committed(client: &Client, group: &str, stable: bool) -> Result<CommittedAnswers> {
    ask_committed(client, &Committer::outside(group), None, stable).await
}

async fn ask_committed(
    client: &Client,
    committer: &Committer,
    topics: Option<&BTreeMap<&Arc<str>, Vec<i32>>>,
    stable: bool,
) -> Result<CommittedAnswers> {
    let snapshot = client.metadata();
    let none = BTreeMap::new();
    let wanted = topics.unwrap_or(&none);
    // Who asks for all topics may not know the names of their ids.
    let cap = match topics {
        Some(topics) => cap_for(topics.keys().copied(), |topic| known_id(&snapshot, topic)),
        None => CAP - 1,
    };
    let build = |version: i16| {
        let grouped = version >= GROUPS_FROM;
        let plain = wanted.iter().map(|(topic, indexes)| OffsetFetchRequestTopic {
            name: topic,
            partition_indexes: indexes.clone(),
        });
        OffsetFetchRequest {
            group_id: if grouped { "" } else { &committer.group_id },
            topics: match topics {
                _ if grouped => Some(Vec::new()),
                // Version 1 cannot ask for all.
                None if version >= 2 => None,
                _ => Some(plain.collect()),
            },
            groups: match grouped {
                true => vec![fetch_group(version, committer, topics, &snapshot)],
                false => Vec::new(),
            },
            require_stable: stable && version >= STABLE_FROM,
        }
    };
    let group = &*committer.group_id;
    let timeout = client.config().request_timeout;
    let frame = client
        .request_coordinator(group, Lane::Group, 0..=cap, timeout, build)
        .await?;
    let response = frame.decode()?;
    read_committed_offsets(client, group, frame.version(), &response, wanted, &snapshot)
        .map_err(|error| error.with_broker(frame.broker()))
}

/// Reads an answer, in whichever form the version has it.
///
/// # Errors
/// The coordinator refused all of it.
fn read_committed_offsets(
    client: &Client,
    group: &str,
    version: i16,
    response: &OffsetFetchResponse<'_>,
    wanted: &BTreeMap<&Arc<str>, Vec<i32>>,
    snapshot: &ClusterSnapshot,
) -> Result<CommittedAnswers> {
    let grouped = response.groups.iter().find(|answer| answer.group_id == group);
    let code = grouped.map_or(response.error_code, |answer| answer.error_code);
    if code != 0 {
        if moves_coordinator(code) {
            client.forget_coordinator(group);
        }
        let error = Error::from_code(code, format_args!("the committed offsets of group {group:?}"));
        // The member's epoch has just moved on, so the question is asked again.
        let passing = matches!(error.code(), Some(ErrorCode::StaleMemberEpoch));
        let retriable = passing || error.retriable();
        return Err(error.with_retriable(retriable));
    }
    let mut answers = CommittedAnswers::new();
    for topic in &response.topics {
        for answer in &topic.partitions {
            let partition = TopicPartition::new(topic.name, answer.partition_index);
            let found = Found {
                code: answer.error_code,
                offset: answer.committed_offset,
                leader_epoch: answer.committed_leader_epoch,
                metadata: answer.metadata,
            };
            take_in(&mut answers, group, partition, &found);
        }
    }
    for topic in grouped.iter().flat_map(|answer| &answer.topics) {
        let id_of = |topic: &str| known_id(snapshot, topic);
        let Some(name) = name_from(version, topic.name, topic.topic_id, wanted, id_of) else {
            continue;
        };
        for answer in &topic.partitions {
            let partition = TopicPartition::new(name.clone(), answer.partition_index);
            let found = Found {
                code: answer.error_code,
                offset: answer.committed_offset,
                leader_epoch: answer.committed_leader_epoch,
                metadata: answer.metadata,
            };
            take_in(&mut answers, group, partition, &found);
        }
    }
    Ok(answers)
}

fn fetch_group<'a>(
    version: i16,
    committer: &'a Committer,
    topics: Option<&BTreeMap<&'a Arc<str>, Vec<i32>>>,
    snapshot: &ClusterSnapshot,
) -> OffsetFetchRequestGroup<'a> {
    let says_who = version >= MEMBERS_FROM && committer.has_epoch;
    OffsetFetchRequestGroup {
        group_id: &committer.group_id,
        member_id: says_who.then_some(&*committer.member_id),
        member_epoch: if says_who { committer.generation } else { -1 },
        topics: topics.map(|topics| {
            let topic = |(topic, indexes): (&&'a Arc<str>, &Vec<i32>)| OffsetFetchRequestTopics {
                name: if version < CAP { topic } else { "" },
                topic_id: id_from(CAP, version, topic, |topic| known_id(snapshot, topic)),
                partition_indexes: indexes.clone(),
            };
            topics.iter().map(topic).collect()
        }),
    }
}

/// One partition of an answer, whichever version it came in.
struct Found<'a> {
    code: i16,
    offset: i64,
    leader_epoch: i32,
    metadata: Option<&'a str>,
}

fn take_in(answers: &mut CommittedAnswers, group: &str, partition: TopicPartition, found: &Found<'_>) {
    let outcome = match found.code {
        0 => Ok((found.offset >= 0).then(|| {
            OffsetAndMetadata::new(found.offset)
                .leader_epoch(found.leader_epoch)
                .metadata(found.metadata.unwrap_or_default())
        })),
        code => {
            let error = Error::from_code(
                code,
                format_args!("the committed offset of {partition} in group {group:?}"),
            );
            // A new topic may not have reached the coordinator yet.
            let unknown = matches!(
                error.code(),
                Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId)
            );
            let retriable = unknown || error.retriable();
            Err(error.with_retriable(retriable).with_partition(&partition, None))
        }
    };
    answers.entry(partition).or_insert(outcome);
}

/// The newest version to use: the one with topic ids only if all ids are known.
fn cap_for<'t>(mut topics: impl Iterator<Item = &'t Arc<str>>, id_of: impl Fn(&str) -> Option<Uuid>) -> i16 {
    if topics.all(|topic| id_of(topic).is_some()) {
        CAP
    } else {
        CAP - 1
    }
}

/// The id of a topic, if it has one and is there as of the last look.
fn known_id(snapshot: &ClusterSnapshot, topic: &str) -> Option<Uuid> {
    let known = snapshot.topic(topic).map(|topic| topic.id);
    known.filter(|id| *id != Uuid::ZERO)
}

fn id_from(from: i16, version: i16, topic: &str, id_of: impl Fn(&str) -> Option<Uuid>) -> Uuid {
    match id_of(topic) {
        Some(id) if version >= from => id,
        _ => Uuid::ZERO,
    }
}

/// The name of a topic in an answer: of its id, if the version has ids.
fn name_from<V>(
    version: i16,
    name: &str,
    id: Uuid,
    asked: &BTreeMap<&Arc<str>, V>,
    id_of: impl Fn(&str) -> Option<Uuid>,
) -> Option<Arc<str>> {
    if version < CAP {
        return Some(name.into());
    }
    let topic = |topic: &&&Arc<str>| id_of(topic) == Some(id);
    asked.keys().find(topic).map(|topic| (**topic).clone())
}
