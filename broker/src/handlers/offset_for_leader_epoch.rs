//! OffsetForLeaderEpoch (key 23), versions 2 to 4.
//!
//! For each partition: where the leader epoch asked for ends in this log, so that a consumer can tell whether what it has
//! read is still there (KIP-320). The answer names the largest epoch known that is not above the one asked for, and the
//! first offset that does not belong to it; -1 for both where the epoch is newer than anything known.
//!
//! Checks in order: UNKNOWN_TOPIC_OR_PARTITION, then the client's own leader epoch (FENCED_LEADER_EPOCH,
//! UNKNOWN_LEADER_EPOCH), then NOT_LEADER_OR_FOLLOWER. Not supported: followers (no partition has any).

use crate::handlers::{Context, Reply};
use crate::replica_manager::HostedTopic;
use ottla_broker_state::leader_epochs::EpochEndOffset as EpochEnd;
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::offset_for_leader_epoch_request::OffsetForLeaderPartition;
use ottla_protocol::messages::offset_for_leader_epoch_response::{EpochEndOffset, OffsetForLeaderTopicResult};
use ottla_protocol::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderEpochResponse};

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: OffsetForLeaderEpochRequest<'_>) -> Reply {
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let hosted = context.broker.replica_manager.topic(topic.topic);
        let partitions = topic
            .partitions
            .iter()
            .map(|wanted| match find(hosted.as_deref(), wanted) {
                Ok(end) => EpochEndOffset {
                    error_code: 0,
                    partition: wanted.partition,
                    leader_epoch: end.map_or(-1, |end| end.epoch),
                    end_offset: end.map_or(-1, |end| end.end_offset),
                },
                Err(code) => EpochEndOffset {
                    error_code: code.code(),
                    partition: wanted.partition,
                    leader_epoch: -1,
                    end_offset: -1,
                },
            });
        topics.push(OffsetForLeaderTopicResult {
            topic: topic.topic,
            partitions: partitions.collect(),
        });
    }
    let response = OffsetForLeaderEpochResponse {
        topics,
        ..Default::default()
    };
    context.reply(header, &response)
}

fn find(topic: Option<&HostedTopic>, wanted: &OffsetForLeaderPartition) -> Result<Option<EpochEnd>, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partition(wanted.partition)?;
    partition
        .check_leader(wanted.current_leader_epoch)
        .map_err(|error| error.code())?;
    Ok(partition.log().end_offset_for_epoch(wanted.leader_epoch))
}
