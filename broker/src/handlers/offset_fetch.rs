//! OffsetFetch (key 9), versions 1 to 10.
//!
//! - A partition without a committed offset is answered with -1 and no error; so is a group that does not exist.
//! - No list of topics (null, from version 2 on) asks for all of them. From version 8 on many groups may be asked for, and
//!   each has an error of its own; from version 10 on topics are named by id, and one that does not exist is
//!   UNKNOWN_TOPIC_ID.
//! - An offset that was committed to a topic of the same name that was deleted since is not given out.
//! - The answer waits until everything is committed that it tells of, so `require_stable` changes nothing while there are
//!   no transactions.

use super::groups::Several;
use super::{Context, Reply, ReplyTo};
use ottla_broker_state::controller::ClusterImage;
use ottla_broker_state::group::record::CommittedOffset;
use ottla_broker_state::group::{GroupShard, OffsetFetch};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::offset_fetch_request::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic,
    OffsetFetchResponseTopics,
};
use ottla_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};
use ottla_protocol::{ApiKey, ErrorCode, Uuid};
use std::sync::Arc;

/// From this version on many groups may be asked for.
const FIRST_VERSION_WITH_MANY: i16 = 8;
/// From this version on topics are named by id.
const FIRST_VERSION_WITH_IDS: i16 = 10;

/// What one group is answered.
#[derive(Debug)]
struct GroupAnswer {
    group: String,
    error: ErrorCode,
    topics: Vec<TopicAnswer>,
}

#[derive(Debug)]
struct TopicAnswer {
    name: Arc<str>,
    id: Uuid,
    error: ErrorCode,
    partitions: Vec<(i32, Option<CommittedOffset>)>,
}

impl GroupAnswer {
    fn fail(&mut self, error: ErrorCode) {
        self.error = error;
        for topic in &mut self.topics {
            topic.error = error;
            topic.partitions.iter_mut().for_each(|(_, value)| *value = None);
        }
    }
}

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, mut request: OffsetFetchRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::OffsetFetch, header);
    if to.version < FIRST_VERSION_WITH_MANY {
        let topics = request.topics.take();
        request.groups = vec![OffsetFetchRequestGroup {
            group_id: request.group_id,
            member_id: None,
            member_epoch: -1,
            topics: topics.map(|topics| topics.into_iter().map(by_name).collect()),
        }];
    }
    let image = context.broker.image();
    let by_id = to.version >= FIRST_VERSION_WITH_IDS;
    let mut answers = Several::with_capacity(request.groups.len());
    for group in &request.groups {
        let looked = context
            .broker
            .coordinator
            .look(group.group_id, |shard| look(shard, &image, group, by_id));
        match looked {
            Ok((answer, commit)) => answers.push(answer, Some(commit)),
            Err(error) => answers.push(failed(group, error), None),
        }
    }
    answers.when_committed(GroupAnswer::fail, move |answers| respond(to, answers))
}

fn by_name(topic: OffsetFetchRequestTopic<'_>) -> OffsetFetchRequestTopics<'_> {
    OffsetFetchRequestTopics {
        name: topic.name,
        topic_id: Uuid::ZERO,
        partition_indexes: topic.partition_indexes,
    }
}

/// Version 1 has no place for an error but in the partitions.
fn failed(group: &OffsetFetchRequestGroup<'_>, error: ErrorCode) -> GroupAnswer {
    let topic = |topic: &OffsetFetchRequestTopics<'_>| TopicAnswer {
        name: topic.name.into(),
        id: topic.topic_id,
        error,
        partitions: topic.partition_indexes.iter().map(|index| (*index, None)).collect(),
    };
    GroupAnswer {
        group: group.group_id.to_owned(),
        error,
        topics: group.topics.iter().flatten().map(topic).collect(),
    }
}

fn look(shard: &GroupShard, image: &ClusterImage, group: &OffsetFetchRequestGroup<'_>, by_id: bool) -> GroupAnswer {
    let offsets = match shard.fetch_offsets(OffsetFetch {
        group: group.group_id,
        member_id: group.member_id,
        member_epoch: group.member_epoch,
    }) {
        Ok(offsets) => offsets,
        Err(error) => return failed(group, error),
    };
    let Some(topics) = &group.topics else {
        let all = offsets.into_iter().flatten().filter_map(|(name, offsets)| {
            let id = image.topic(name).map_or(Uuid::ZERO, |topic| topic.id);
            let current = offsets.iter().filter(|(_, value)| is_of(value, id));
            let partitions: Vec<_> = current.map(|(index, value)| (*index, Some(value.clone()))).collect();
            // A topic that is gone has no id to be named by.
            let nameless = by_id && id.is_zero();
            (!nameless && !partitions.is_empty()).then(|| TopicAnswer {
                name: Arc::clone(name),
                id,
                error: ErrorCode::None,
                partitions,
            })
        });
        return GroupAnswer {
            group: group.group_id.to_owned(),
            error: ErrorCode::None,
            topics: all.collect(),
        };
    };
    let topic = |asked: &OffsetFetchRequestTopics<'_>| {
        let known = if by_id {
            image.topic_by_id(asked.topic_id)
        } else {
            image.topic(asked.name)
        };
        let name = known.map_or_else(|| Arc::from(asked.name), |topic| Arc::clone(&topic.name));
        let id = known.map_or(Uuid::ZERO, |topic| topic.id);
        let committed = offsets.and_then(|offsets| offsets.get(&name));
        let find = |index: &i32| {
            let found = committed
                .and_then(|offsets| offsets.get(index))
                .filter(|value| is_of(value, id));
            (*index, found.cloned())
        };
        TopicAnswer {
            name,
            id: if by_id { asked.topic_id } else { id },
            error: if by_id && known.is_none() {
                ErrorCode::UnknownTopicId
            } else {
                ErrorCode::None
            },
            partitions: asked.partition_indexes.iter().map(find).collect(),
        }
    };
    GroupAnswer {
        group: group.group_id.to_owned(),
        error: ErrorCode::None,
        topics: topics.iter().map(topic).collect(),
    }
}

/// Whether the offset belongs to the topic with this id, as far as both are known.
fn is_of(value: &CommittedOffset, id: Uuid) -> bool {
    id.is_zero() || value.topic_id.is_zero() || value.topic_id == id
}

fn respond(to: ReplyTo, answers: &[GroupAnswer]) -> Reply {
    if to.version < FIRST_VERSION_WITH_MANY {
        return match answers.first() {
            Some(answer) => to.with(&single(answer)),
            None => to.with(&OffsetFetchResponse::default()),
        };
    }
    let groups = answers.iter().map(|answer| OffsetFetchResponseGroup {
        group_id: &answer.group,
        topics: answer.topics.iter().map(topics_of).collect(),
        error_code: answer.error.code(),
    });
    to.with(&OffsetFetchResponse {
        groups: groups.collect(),
        ..OffsetFetchResponse::default()
    })
}

fn topics_of(topic: &TopicAnswer) -> OffsetFetchResponseTopics<'_> {
    OffsetFetchResponseTopics {
        name: &topic.name,
        topic_id: topic.id,
        partitions: topic
            .partitions
            .iter()
            .map(|(index, value)| OffsetFetchResponsePartitions {
                partition_index: *index,
                committed_offset: value.as_ref().map_or(-1, |value| value.offset),
                committed_leader_epoch: value.as_ref().map_or(-1, |value| value.leader_epoch),
                metadata: Some(value.as_ref().map_or("", |value| &value.metadata)),
                error_code: topic.error.code(),
            })
            .collect(),
    }
}

/// The answer to a request for one group.
fn single(answer: &GroupAnswer) -> OffsetFetchResponse<'_> {
    let topics = answer.topics.iter().map(|topic| OffsetFetchResponseTopic {
        name: &topic.name,
        partitions: topic
            .partitions
            .iter()
            .map(|(index, value)| OffsetFetchResponsePartition {
                partition_index: *index,
                committed_offset: value.as_ref().map_or(-1, |value| value.offset),
                committed_leader_epoch: value.as_ref().map_or(-1, |value| value.leader_epoch),
                metadata: Some(value.as_ref().map_or("", |value| &value.metadata)),
                error_code: topic.error.code(),
            })
            .collect(),
    });
    OffsetFetchResponse {
        topics: topics.collect(),
        error_code: answer.error.code(),
        ..OffsetFetchResponse::default()
    }
}
