//! ListOffsets (key 2), versions 1 to 11.
//!
//! For each partition one offset, chosen by the timestamp asked for:
//! - -2 earliest: the log start offset; -4 earliest local: the same, because nothing is tiered;
//! - -1 latest: the high watermark (read_uncommitted) or the last stable offset (read_committed);
//! - -3 maximum: the record with the highest timestamp, -1 in an empty log (version 7);
//! - -5 latest tiered and -6 earliest pending upload: -1, because nothing is tiered (versions 9 and 11);
//! - 0 and above: the first record with that timestamp or a later one, below the limit of -1; offset -1 if none.
//!
//! A special timestamp in a version that does not know it, or an unknown negative one, is UNSUPPORTED_VERSION, as in
//! Kafka. The leader epoch in the answer is that of the record found, so a consumer can detect truncation.
//! Leader epochs are checked from version 4. Not supported: requests of replicas (they are answered as consumers').

use crate::handlers::{Context, Reply};
use crate::replica_manager::{HostedTopic, Partition};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::list_offsets_request::ListOffsetsPartition;
use ottla_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use ottla_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};
use std::sync::Arc;

const LATEST: i64 = -1;
const EARLIEST: i64 = -2;
const MAX_TIMESTAMP: i64 = -3;
const EARLIEST_LOCAL: i64 = -4;
const LATEST_TIERED: i64 = -5;
const EARLIEST_PENDING_UPLOAD: i64 = -6;

/// A record's place, or -1 for what is not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Found {
    timestamp: i64,
    offset: i64,
    leader_epoch: i32,
}

const NOTHING: Found = Found {
    timestamp: -1,
    offset: -1,
    leader_epoch: -1,
};

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: ListOffsetsRequest<'_>) -> Reply {
    let (version, read_committed) = (header.api_version, request.isolation_level == 1);
    let mut topics = Vec::with_capacity(request.topics.len());
    for topic in &request.topics {
        let hosted = context.broker.replica_manager.topic(topic.name);
        let mut partitions = Vec::with_capacity(topic.partitions.len());
        for wanted in &topic.partitions {
            let found = find(hosted.as_deref(), version, wanted, read_committed).await;
            partitions.push(partition_response(version, wanted.partition_index, found));
        }
        topics.push(ListOffsetsTopicResponse {
            name: topic.name,
            partitions,
        });
    }
    let response = ListOffsetsResponse {
        topics,
        ..Default::default()
    };
    context.reply(header, &response)
}

fn partition_response(version: i16, index: i32, found: Result<Found, ErrorCode>) -> ListOffsetsPartitionResponse {
    let (error_code, found) = match found {
        Ok(found) => (ErrorCode::None, found),
        Err(code) => (code, NOTHING),
    };
    ListOffsetsPartitionResponse {
        partition_index: index,
        error_code: error_code.code(),
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: if version >= 4 { found.leader_epoch } else { -1 },
    }
}

async fn find(
    topic: Option<&HostedTopic>,
    version: i16,
    wanted: &ListOffsetsPartition,
    read_committed: bool,
) -> Result<Found, ErrorCode> {
    let topic = topic.ok_or(ErrorCode::UnknownTopicOrPartition)?;
    let partition = topic.partition(wanted.partition_index)?;
    let since = match wanted.timestamp {
        MAX_TIMESTAMP => 7,
        EARLIEST_LOCAL => 8,
        LATEST_TIERED => 9,
        EARLIEST_PENDING_UPLOAD => 11,
        i64::MIN..EARLIEST_PENDING_UPLOAD => i16::MAX,
        _ => 1,
    };
    if version < since {
        return Err(ErrorCode::UnsupportedVersion);
    }
    let leader_epoch = partition
        .check_leader(wanted.current_leader_epoch)
        .map_err(|error| error.code())?;
    let log = partition.log();
    let limit = if read_committed {
        partition.last_stable_offset()
    } else {
        partition.high_watermark()
    };
    match wanted.timestamp {
        LATEST => Ok(Found {
            timestamp: -1,
            offset: limit,
            leader_epoch,
        }),
        EARLIEST | EARLIEST_LOCAL => {
            let offset = log.log_start_offset();
            let leader_epoch = log.leader_epochs().epoch_for_offset(offset).unwrap_or(-1);
            Ok(Found {
                timestamp: -1,
                offset,
                leader_epoch,
            })
        }
        LATEST_TIERED | EARLIEST_PENDING_UPLOAD => Ok(NOTHING),
        timestamp => {
            let found = search(partition, timestamp).await?;
            Ok(found.filter(|found| found.offset < limit).unwrap_or(NOTHING))
        }
    }
}

/// Finds a record by time. This may read the disk, so it goes to a thread where blocking is allowed.
async fn search(partition: &Partition, timestamp: i64) -> Result<Option<Found>, ErrorCode> {
    let log = Arc::clone(partition.log());
    let search = move || match timestamp {
        MAX_TIMESTAMP => log.max_timestamp_offset(),
        _ => log.offset_for_timestamp(timestamp),
    };
    let found = tokio::task::spawn_blocking(search).await;
    let found = found.map_err(|_| ErrorCode::UnknownServerError)?;
    let found = found.map_err(|error| partition.explain(error).code())?;
    Ok(found.map(|found| Found {
        timestamp: found.timestamp,
        offset: found.offset,
        leader_epoch: found.leader_epoch,
    }))
}
