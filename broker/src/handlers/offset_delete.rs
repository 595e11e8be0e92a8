//! OffsetDelete (key 47), version 0 (KIP-496).
//!
//! - For the whole group: INVALID_GROUP_ID, the coordinator, GROUP_ID_NOT_FOUND, and NON_EMPTY_GROUP where it cannot be
//!   known what the members read. For a topic: UNKNOWN_TOPIC_OR_PARTITION, and GROUP_SUBSCRIBED_TO_TOPIC while a member
//!   reads it.
//! - A partition without a committed offset is answered without an error.

use super::groups::when_committed;
use super::{Context, Reply, ReplyTo};
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::offset_delete_response::{OffsetDeleteResponsePartition, OffsetDeleteResponseTopic};
use ottla_protocol::messages::{OffsetDeleteRequest, OffsetDeleteResponse};
use ottla_protocol::{ApiKey, ErrorCode};

/// A topic's name, and its partitions with what is known of them already.
type Topic = (String, Vec<(i32, Option<ErrorCode>)>);

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, mut request: OffsetDeleteRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::OffsetDelete, header);
    let image = context.broker.image();
    let mut outcomes: Vec<Topic> = Vec::with_capacity(request.topics.len());
    for topic in &mut request.topics {
        let known = image.topic(topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        topic.partitions.retain(|partition| {
            let exists = known.is_some_and(|known| known.partition(partition.partition_index).is_some());
            let code = (!exists).then_some(ErrorCode::UnknownTopicOrPartition);
            partitions.push((partition.partition_index, code));
            exists
        });
        outcomes.push((topic.name.to_owned(), partitions));
    }
    let coordinator = &context.broker.coordinator;
    match coordinator.operate(request.group_id, |shard, _| shard.delete_offsets(&request)) {
        Ok((deleted, commit)) => when_committed(commit, move |done| respond(to, outcomes, done.and(deleted))),
        Err(code) => respond(to, Vec::new(), Err(code)),
    }
}

fn respond(to: ReplyTo, mut outcomes: Vec<Topic>, deleted: Result<Vec<Vec<ErrorCode>>, ErrorCode>) -> Reply {
    let codes = match deleted {
        Ok(codes) => codes,
        Err(code) => {
            return to.with(&OffsetDeleteResponse {
                error_code: code.code(),
                ..OffsetDeleteResponse::default()
            });
        }
    };
    for ((_, partitions), codes) in outcomes.iter_mut().zip(codes) {
        let open = partitions.iter_mut().filter(|(_, outcome)| outcome.is_none());
        for ((_, outcome), code) in open.zip(codes) {
            *outcome = Some(code);
        }
    }
    let partition = |(index, outcome): &(i32, Option<ErrorCode>)| OffsetDeleteResponsePartition {
        partition_index: *index,
        error_code: outcome.unwrap_or(ErrorCode::UnknownServerError).code(),
    };
    let topics = outcomes.iter().map(|(name, partitions)| OffsetDeleteResponseTopic {
        name,
        partitions: partitions.iter().map(partition).collect(),
    });
    to.with(&OffsetDeleteResponse {
        topics: topics.collect(),
        ..OffsetDeleteResponse::default()
    })
}
