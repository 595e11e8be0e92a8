//! OffsetCommit (key 8), versions 2 to 10.
//!
//! - Answered when the offsets are committed to `__consumer_offsets`. What is answered without an error survives the end
//!   of this process.
//! - A topic or partition that does not exist is answered by itself: UNKNOWN_TOPIC_OR_PARTITION, or from version 10 on,
//!   where topics are named by id, UNKNOWN_TOPIC_ID. The rest is committed.
//! - Then for all others: the coordinator, the member (UNKNOWN_MEMBER_ID, FENCED_INSTANCE_ID), the generation
//!   (ILLEGAL_GENERATION); a group that does not exist takes commits of generation -1 only (GROUP_ID_NOT_FOUND from
//!   version 9 on, ILLEGAL_GENERATION before). REBALANCE_IN_PROGRESS while the leader assigns.
//! - OFFSET_METADATA_TOO_LARGE above `offset.metadata.max.bytes`; INVALID_COMMIT_OFFSET_SIZE above 8 MiB in one request;
//!   COORDINATOR_NOT_AVAILABLE for new partitions while the coordinator holds as much as it may.
//! - `retention_time_ms` (versions 2 to 4) is obeyed.

use super::groups::when_committed;
use super::{Context, Reply, ReplyTo};
use ottla_broker_state::controller::ClusterImage;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::offset_commit_request::OffsetCommitRequestTopic;
use ottla_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use ottla_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};
use ottla_protocol::{ApiKey, ErrorCode, Uuid};

/// From this version on topics are named by id.
const FIRST_VERSION_WITH_IDS: i16 = 10;

/// How the partitions of a topic fared, in the order of the request.
#[derive(Debug)]
struct TopicOutcome {
    name: String,
    id: Uuid,
    partitions: Vec<(i32, Option<ErrorCode>)>,
}

impl TopicOutcome {
    /// Fills in what is still open, in order.
    fn fill(&mut self, mut code: impl FnMut() -> ErrorCode) {
        for (_, outcome) in self.partitions.iter_mut().filter(|(_, outcome)| outcome.is_none()) {
            *outcome = Some(code());
        }
    }
}

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, mut request: OffsetCommitRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::OffsetCommit, header);
    let image = context.broker.image();
    let mut outcomes: Vec<TopicOutcome> = Vec::with_capacity(request.topics.len());
    for topic in &mut request.topics {
        outcomes.push(resolve(&image, to.version, topic));
    }
    if outcomes
        .iter()
        .all(|topic| topic.partitions.iter().all(|(_, outcome)| outcome.is_some()))
    {
        return respond(to, &outcomes);
    }
    // The group's part of the work sees only what exists; in the order of `outcomes`, which says what is open.
    let coordinator = &context.broker.coordinator;
    let done = coordinator.operate(request.group_id, |shard, moment| {
        shard.commit_offsets(&request, to.version, moment)
    });
    let (committed, commit) = match done {
        Ok(done) => done,
        Err(code) => {
            outcomes.iter_mut().for_each(|topic| topic.fill(|| code));
            return respond(to, &outcomes);
        }
    };
    when_committed(commit, move |done| {
        match done.and(committed) {
            Err(code) => outcomes.iter_mut().for_each(|topic| topic.fill(|| code)),
            Ok(codes) => {
                for (topic, codes) in outcomes.iter_mut().zip(codes) {
                    let mut codes = codes.into_iter();
                    topic.fill(|| codes.next().unwrap_or(ErrorCode::UnknownServerError));
                }
            }
        }
        respond(to, &outcomes)
    })
}

/// Gives the topic its name and id, and takes out of the request what does not exist.
fn resolve<'a>(image: &'a ClusterImage, version: i16, topic: &mut OffsetCommitRequestTopic<'a>) -> TopicOutcome {
    let by_id = version >= FIRST_VERSION_WITH_IDS;
    let known = if by_id {
        image.topic_by_id(topic.topic_id)
    } else {
        image.topic(topic.name)
    };
    let unknown = if by_id {
        ErrorCode::UnknownTopicId
    } else {
        ErrorCode::UnknownTopicOrPartition
    };
    let mut outcome = TopicOutcome {
        name: topic.name.to_owned(),
        id: topic.topic_id,
        partitions: Vec::with_capacity(topic.partitions.len()),
    };
    let mut open = |index| {
        let code = match known {
            None => Some(unknown),
            Some(known) if known.partition(index).is_none() => Some(ErrorCode::UnknownTopicOrPartition),
            Some(_) => None,
        };
        outcome.partitions.push((index, code));
        code.is_none()
    };
    topic.partitions.retain(|partition| open(partition.partition_index));
    if let Some(known) = known {
        topic.name = &known.name;
        topic.topic_id = known.id;
    }
    outcome
}

fn respond(to: ReplyTo, outcomes: &[TopicOutcome]) -> Reply {
    let partition = |(index, outcome): &(i32, Option<ErrorCode>)| OffsetCommitResponsePartition {
        partition_index: *index,
        error_code: outcome.unwrap_or(ErrorCode::UnknownServerError).code(),
    };
    let topic = |topic: &TopicOutcome| topic.partitions.iter().map(partition).collect();
    let topics = outcomes.iter().map(|outcome| OffsetCommitResponseTopic {
        name: &outcome.name,
        topic_id: outcome.id,
        partitions: topic(outcome),
    });
    to.with(&OffsetCommitResponse {
        topics: topics.collect(),
        ..OffsetCommitResponse::default()
    })
}
