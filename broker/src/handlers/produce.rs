//! Produce (key 0), versions 3 to 13.
//!
//! - Checked in this order: acks, topic and partition, that the topic is not the broker's own
//!   (INVALID_TOPIC_EXCEPTION), the shape of the records (one batch of format 2; zstd only from
//!   version 7), leadership, `min.insync.replicas` (acks=all), then what the log checks: size, CRC, records, producer
//!   sequence.
//! - Records are copied once, from the frame to the log's tail, where they get their offsets.
//! - A duplicate is answered with the offset of the first copy and no error.
//! - acks=all waits for the high watermark; with `flush.messages` reached, acks=1 and acks=all wait for fsync. After `timeout.ms` it answers
//!   REQUEST_TIMED_OUT, and the records stay.
//! - acks=0 is never answered; if it fails, the connection is closed, which is the only way to tell.
//! - From version 8, the records to blame are listed; from 10, the leader to ask instead; from 13, topics are named by
//!   id only.
//!
//! Not supported: versions 0 to 2 (announced for the sake of old clients, answered with UNSUPPORTED_VERSION), and
//! transactional batches (INVALID_TXN_STATE, with a text that says why).

use crate::broker::now_ms;
use crate::handlers::{CloseReason, Context, Reply, ReplyTo};
use crate::log::RefusedRecord;
use crate::purgatory::Waiter;
use crate::replica_manager::{HostedTopic, Leadership, Partition, PartitionError};
use bytes::Bytes;
use ottla_broker_state::controller::names;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::produce_response::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceResponse, TopicProduceResponse,
};
use ottla_protocol::messages::{ProduceRequest, ProduceResponse};
use ottla_protocol::records::{Compression, RecordBatch};
use ottla_protocol::wire::{Pieces, Reader, Uuid, WireError};
use ottla_protocol::{ApiKey, ErrorCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// What a partition is answered with.
#[derive(Debug)]
struct Outcome {
    index: i32,
    result: Result<Done, Failure>,
}

/// Where the records are.
#[derive(Debug)]
struct Done {
    base_offset: i64,
    log_append_time_ms: i64,
    log_start_offset: i64,
    /// What the answer waits for; `None` when there is nothing to wait for.
    awaits: Option<Awaits>,
}

/// What must happen to a partition before the answer may leave.
#[derive(Debug)]
struct Awaits {
    partition: Arc<Partition>,
    /// One past the last record of the request.
    end: i64,
    /// acks=all: the high watermark must reach `end`.
    committed: bool,
    /// `flush.messages`: everything below `end` must be fsynced.
    flushed: bool,
}

/// Why they are not there.
#[derive(Debug)]
struct Failure {
    code: ErrorCode,
    message: Option<String>,
    records: Vec<RefusedRecord>,
    leader: Option<Leadership>,
}

impl Failure {
    fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Failure {
            code,
            message: Some(message.into()),
            records: Vec::new(),
            leader: None,
        }
    }
}

impl Failure {
    fn describe(&self) -> String {
        self.message.clone().unwrap_or_else(|| self.code.name().to_owned())
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        Failure {
            code,
            message: None,
            records: Vec::new(),
            leader: None,
        }
    }
}

impl From<PartitionError> for Failure {
    fn from(error: PartitionError) -> Self {
        let records = match &error {
            PartitionError::Append(error) => error.refused_records().to_vec(),
            _ => Vec::new(),
        };
        Failure {
            code: error.code(),
            message: Some(error.to_string()),
            records,
            leader: error.leader_hint(),
        }
    }
}

/// A topic's part of the answer; owns what it needs of the request.
#[derive(Debug)]
struct TopicOutcome {
    name: TopicName,
    id: Uuid,
    partitions: Vec<Outcome>,
}

/// The name of a topic that is here is shared, that of one that is not is copied.
#[derive(Debug)]
enum TopicName {
    Hosted(Arc<str>),
    Other(String),
}

impl TopicName {
    fn as_str(&self) -> &str {
        match self {
            TopicName::Hosted(name) => name,
            TopicName::Other(name) => name,
        }
    }
}

/// Carries out one request. The records are in the logs when this returns; the answer may have to wait.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: ProduceRequest<'_>) -> Reply {
    let to = ReplyTo::new(ApiKey::Produce, header);
    let call = Call {
        context,
        version: to.version,
        acks: request.acks,
        now_ms: now_ms(),
    };
    let outcomes = request.topic_data.iter().map(|data| call.append_topic(data)).collect();
    let timeout = Duration::from_millis(u64::try_from(request.timeout_ms).unwrap_or(0));
    answer(context, to, request.acks, timeout, outcomes)
}

/// What all partitions of one request have in common.
struct Call<'a> {
    context: &'a Context,
    version: i16,
    acks: i16,
    now_ms: i64,
}

impl Call<'_> {
    fn append_topic(&self, data: &TopicProduceData<'_>) -> TopicOutcome {
        let replicas = &self.context.broker.replica_manager;
        let by_id = self.version >= 13;
        let topic = if by_id {
            replicas.topic_by_id(data.topic_id)
        } else {
            replicas.topic(data.name)
        };
        let unknown = if by_id {
            ErrorCode::UnknownTopicId
        } else {
            ErrorCode::UnknownTopicOrPartition
        };
        let append = |part: &PartitionProduceData<'_>| Outcome {
            index: part.index,
            result: match (&topic, self.acks) {
                (_, ..-1 | 2..) => Err(Failure::new(ErrorCode::InvalidRequiredAcks, "acks must be -1, 0 or 1")),
                (None, _) => Err(unknown.into()),
                (Some(topic), _) if names::is_internal(topic.name()) => Err(Failure::new(
                    ErrorCode::InvalidTopicException,
                    "the topic belongs to the broker, and nobody else writes to it",
                )),
                (Some(topic), _) => self.append(topic, part),
            },
        };
        TopicOutcome {
            partitions: data.partition_data.iter().map(append).collect(),
            name: match &topic {
                Some(topic) => TopicName::Hosted(Arc::clone(topic.name())),
                None => TopicName::Other(data.name.to_owned()),
            },
            id: data.topic_id,
        }
    }

    fn append(&self, topic: &HostedTopic, part: &PartitionProduceData<'_>) -> Result<Done, Failure> {
        let partition = topic.partition(part.index)?;
        let records = part.records.as_slice().filter(|records| !records.is_empty());
        let records = records.ok_or_else(|| Failure::new(ErrorCode::InvalidRecord, "there is no record batch"))?;
        check_shape(records, self.version)?;
        let all = self.acks == -1;
        let appended = partition.append(records, all, self.now_ms)?;
        let end = appended.last_offset + 1;
        let (committed, flushed) = (all && partition.high_watermark() < end, appended.flush_due);
        let awaits = || Awaits {
            partition: Arc::clone(partition),
            end,
            committed,
            flushed,
        };
        Ok(Done {
            base_offset: appended.first_offset,
            log_append_time_ms: appended.log_append_time,
            log_start_offset: appended.log_start_offset,
            awaits: (committed || flushed).then(awaits),
        })
    }
}

/// Produce requests carry one batch of format 2 a partition. What the batch holds is checked by the log.
fn check_shape(records: &[u8], version: i16) -> Result<(), Failure> {
    const MAGIC_AT: usize = 16;
    match records.get(MAGIC_AT) {
        Some(2) | None => {}
        Some(magic) => {
            let text = format!("record format {magic} is not supported, only format 2");
            return Err(Failure::new(ErrorCode::UnsupportedForMessageFormat, text));
        }
    }
    let (batch, rest) =
        RecordBatch::parse(records).map_err(|error| Failure::new(ErrorCode::CorruptMessage, error.to_string()))?;
    if !rest.is_empty() {
        return Err(Failure::new(
            ErrorCode::InvalidRecord,
            "a partition may carry one record batch per request",
        ));
    }
    if version < 7 && matches!(batch.compression(), Ok(Compression::Zstd)) {
        return Err(Failure::new(
            ErrorCode::UnsupportedCompressionType,
            "zstd needs Produce version 7 or higher",
        ));
    }
    Ok(())
}

fn answer(context: &Context, to: ReplyTo, acks: i16, timeout: Duration, outcomes: Vec<TopicOutcome>) -> Reply {
    let parked = Parked {
        waiter: Waiter::new(0),
        outcomes,
    };
    if acks == 0 {
        return parked.silent();
    }
    if parked.waiting().next().is_none() {
        return respond(context, to, &parked.outcomes);
    }
    let deadline = Instant::now() + timeout;
    Reply::Parked(Box::pin(parked.answered(context.clone(), to, deadline)))
}

impl Outcome {
    fn awaits(&self) -> Option<&Awaits> {
        self.result.as_ref().ok()?.awaits.as_ref()
    }
}

/// A request whose records are in the log, and not yet on enough replicas or not yet on the disk.
struct Parked {
    waiter: Arc<Waiter>,
    outcomes: Vec<TopicOutcome>,
}

impl Parked {
    fn parts(&self) -> impl Iterator<Item = &Outcome> {
        self.outcomes.iter().flat_map(|topic| &topic.partitions)
    }

    fn waiting(&self) -> impl Iterator<Item = &Awaits> {
        self.parts().filter_map(Outcome::awaits)
    }

    /// acks=0: no answer; a failure closes the connection.
    fn silent(self) -> Reply {
        for log in self
            .waiting()
            .filter(|awaits| awaits.flushed)
            .map(|awaits| Arc::clone(awaits.partition.log()))
        {
            // An error takes the data directory offline, which the next request will meet.
            tokio::task::spawn_blocking(move || log.flush());
        }
        let failed = self.parts().find_map(|outcome| outcome.result.as_ref().err());
        match failed {
            Some(failure) => Reply::Close(CloseReason::SilentProduce(failure.describe())),
            None => Reply::Nothing,
        }
    }

    async fn answered(mut self, context: Context, to: ReplyTo, deadline: Instant) -> Reply {
        let count = self.waiting().filter(|awaits| awaits.committed).count();
        if count > 0 {
            self.waiter.rearm(i64::try_from(count).unwrap_or(i64::MAX));
            for Awaits { partition, end, .. } in self.waiting().filter(|awaits| awaits.committed) {
                partition.waiting().await_high_watermark(*end, &self.waiter);
                // It may have moved between the append and the registration: then nobody else will count it.
                partition.waiting().committed(partition.high_watermark());
            }
            let _ = tokio::time::timeout_at(deadline, self.waiter.woken()).await;
        }
        for outcome in self.outcomes.iter_mut().flat_map(|topic| &mut topic.partitions) {
            let Some(awaits) = outcome.awaits() else { continue };
            if let Err(failure) = awaits.settled().await {
                outcome.result = Err(failure);
            }
        }
        respond(&context, to, &self.outcomes)
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        for awaits in self.waiting().filter(|awaits| awaits.committed) {
            awaits.partition.waiting().forget(&self.waiter);
        }
    }
}

impl Awaits {
    async fn settled(&self) -> Result<(), Failure> {
        if self.flushed {
            let (log, end) = (Arc::clone(self.partition.log()), self.end);
            let flushed = tokio::task::spawn_blocking(move || log.flush_to(end)).await;
            let failed = |text: String| Failure::new(ErrorCode::KafkaStorageError, text);
            flushed
                .map_err(|error| failed(error.to_string()))?
                .map_err(|error| failed(error.to_string()))?;
        }
        if self.committed {
            self.partition.check_leader(-1)?;
            if self.partition.high_watermark() < self.end {
                return Err(ErrorCode::RequestTimedOut.into());
            }
            if !self.partition.enough_in_sync() {
                return Err(ErrorCode::NotEnoughReplicasAfterAppend.into());
            }
        }
        Ok(())
    }
}

fn respond(context: &Context, to: ReplyTo, outcomes: &[TopicOutcome]) -> Reply {
    // The hint where to ask instead exists since version 10 (KIP-951).
    let hints = to.version >= 10;
    let responses = outcomes.iter().map(|topic| TopicProduceResponse {
        name: topic.name.as_str(),
        topic_id: topic.id,
        partition_responses: topic
            .partitions
            .iter()
            .map(|outcome| partition_response(outcome, hints))
            .collect(),
    });
    let failures = outcomes
        .iter()
        .flat_map(|topic| &topic.partitions)
        .filter_map(|outcome| outcome.result.as_ref().err());
    let moved = failures.filter_map(|failure| failure.leader);
    let nodes = if hints {
        context.broker.nodes_of(&context.listener, moved)
    } else {
        Vec::new()
    };
    let node_endpoints = nodes.iter().map(|node| NodeEndpoint {
        node_id: node.id,
        host: &node.host,
        port: node.port.into(),
        rack: node.rack.as_deref(),
    });
    to.with(&ProduceResponse {
        responses: responses.collect(),
        node_endpoints: node_endpoints.collect(),
        ..Default::default()
    })
}

fn partition_response(outcome: &Outcome, hints: bool) -> PartitionProduceResponse<'_> {
    match &outcome.result {
        Ok(done) => PartitionProduceResponse {
            index: outcome.index,
            base_offset: done.base_offset,
            log_append_time_ms: done.log_append_time_ms,
            log_start_offset: done.log_start_offset,
            ..Default::default()
        },
        Err(failure) => PartitionProduceResponse {
            index: outcome.index,
            error_code: failure.code.code(),
            base_offset: -1,
            record_errors: failure.records.iter().map(record_error).collect(),
            error_message: failure.message.as_deref(),
            current_leader: failure.leader.filter(|_| hints).map(leader).unwrap_or_default(),
            ..Default::default()
        },
    }
}

fn record_error(record: &RefusedRecord) -> BatchIndexAndErrorMessage<'_> {
    BatchIndexAndErrorMessage {
        batch_index: i32::try_from(record.batch_index).unwrap_or(i32::MAX),
        batch_index_error_message: Some(&record.message),
    }
}

fn leader(leadership: Leadership) -> LeaderIdAndEpoch {
    LeaderIdAndEpoch {
        leader_id: leadership.leader_id,
        leader_epoch: leadership.leader_epoch,
    }
}

/// Answers a request of version 0, 1 or 2, whose records (formats 0 and 1) are not read: UNSUPPORTED_VERSION for each
/// partition, in the shape of that version. The connection is closed if no answer is wanted or the body is malformed.
pub fn unsupported_version(to: ReplyTo, body: &[u8]) -> Reply {
    match refuse_old(to.version, body) {
        Ok(Some(body)) => {
            let mut frame = Vec::with_capacity(8 + body.len());
            frame.extend_from_slice(&i32::try_from(body.len() + 4).unwrap_or(i32::MAX).to_be_bytes());
            frame.extend_from_slice(&to.correlation_id.to_be_bytes());
            frame.extend_from_slice(&body);
            Reply::Now(Pieces::from(vec![Bytes::from(frame)]))
        }
        Ok(None) | Err(_) => Reply::Close(CloseReason::NotServed {
            key: to.key,
            version: to.version,
        }),
    }
}

fn refuse_old(version: i16, body: &[u8]) -> Result<Option<Vec<u8>>, WireError> {
    let mut reader = Reader::new(body);
    let mut answer = Vec::with_capacity(body.len().min(1024));
    let acks = reader.i16()?;
    let _timeout = reader.i32()?;
    let topics = reader.i32()?;
    answer.extend_from_slice(&topics.to_be_bytes());
    // A count beyond the bytes left ends in an error at the first read that finds none.
    for _ in 0..topics {
        let name = reader.str(false)?;
        answer.extend_from_slice(&u16::try_from(name.len()).unwrap_or_default().to_be_bytes());
        answer.extend_from_slice(name.as_bytes());
        let partitions = reader.i32()?;
        answer.extend_from_slice(&partitions.to_be_bytes());
        for _ in 0..partitions {
            answer.extend_from_slice(&reader.i32()?.to_be_bytes());
            let _records = reader.opt_bytes(false)?;
            answer.extend_from_slice(&ErrorCode::UnsupportedVersion.code().to_be_bytes());
            answer.extend_from_slice(&(-1_i64).to_be_bytes());
            if version >= 2 {
                answer.extend_from_slice(&(-1_i64).to_be_bytes());
            }
        }
    }
    if version >= 1 {
        answer.extend_from_slice(&0_i32.to_be_bytes());
    }
    Ok((acks != 0).then_some(answer))
}
