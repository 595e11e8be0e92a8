//! A small client for the tests: one connection, whole frames, no cleverness.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub mod log_lines;

use bytes::Bytes;
use ottla_broker::Cluster;
use ottla_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use ottla_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use ottla_protocol::messages::*;
use ottla_protocol::records::{Compression, RecordBatchBuilder, SealedBatch};
use ottla_protocol::{ApiKey, ErrorCode, Message, Records, Request, Uuid, frame};
use std::marker::PhantomData;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Nothing that these tests wait for takes longer, unless it never comes.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// One connection to a broker.
pub struct Client {
    pub stream: TcpStream,
    next_id: i32,
}

/// A response, still encoded.
pub struct Answer<R> {
    frame: Vec<u8>,
    version: i16,
    correlation_id: i32,
    body_at: usize,
    request: PhantomData<R>,
}

impl<R: Request> Answer<R> {
    pub fn decode(&self) -> R::Response<'_> {
        frame::decode_body(&self.frame, self.body_at, self.version).unwrap()
    }

    pub fn correlation_id(&self) -> i32 {
        self.correlation_id
    }

    /// The body as it came.
    pub fn body(&self) -> &[u8] {
        &self.frame[self.body_at..]
    }
}

impl Client {
    pub async fn connect(cluster: &Cluster) -> Client {
        Client::connect_to(&cluster.bootstrap_servers()).await
    }

    pub async fn connect_to(addr: &str) -> Client {
        let stream = TcpStream::connect(addr).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Client { stream, next_id: 0 }
    }

    /// Sends bytes as they are.
    pub async fn send_raw(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).await.unwrap();
    }

    /// Sends a frame around `body`, with a header of version 1.
    pub async fn send_frame(&mut self, key: i16, version: i16, correlation_id: i32, body: &[u8]) {
        self.send_raw(&raw_request(key, version, correlation_id, body)).await;
    }

    /// Sends a request and returns its correlation id.
    pub async fn send<'m, M: Message<'m> + Request>(&mut self, version: i16, body: &M) -> i32 {
        self.next_id += 1;
        let pieces = frame::encode_request(version, self.next_id, Some("test"), body).unwrap();
        self.send_raw(&pieces.into_vec()).await;
        self.next_id
    }

    /// The next frame, without its length; `None` when the broker has closed the connection.
    pub async fn frame(&mut self) -> Option<Vec<u8>> {
        timeout(PATIENCE, self.read_frame())
            .await
            .expect("the broker neither answers nor closes")
    }

    async fn read_frame(&mut self) -> Option<Vec<u8>> {
        let length = self.stream.read_i32().await.ok()?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        self.stream.read_exact(&mut frame).await.ok()?;
        Some(frame)
    }

    pub async fn receive<R: Request>(&mut self, version: i16) -> Answer<R> {
        let frame = self.frame().await.expect("the broker closed the connection");
        let (correlation_id, body_at) = frame::decode_response_header(R::API_KEY, version, &frame).unwrap();
        Answer {
            frame,
            version,
            correlation_id,
            body_at,
            request: PhantomData,
        }
    }

    pub async fn call<'m, M: Message<'m> + Request>(&mut self, version: i16, body: &M) -> Answer<M> {
        let id = self.send(version, body).await;
        let answer = self.receive::<M>(version).await;
        assert_eq!(answer.correlation_id, id);
        answer
    }

    /// True when the broker closes the connection without another byte.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0; 1];
        let read = timeout(PATIENCE, self.stream.read(&mut byte))
            .await
            .expect("the broker keeps the connection open");
        matches!(read, Ok(0) | Err(_))
    }
}

/// A frame with its length, and a header of version 1 without a client id.
pub fn raw_request(key: i16, version: i16, correlation_id: i32, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    frame.extend_from_slice(&(10 + body.len() as i32).to_be_bytes());
    frame.extend_from_slice(&key.to_be_bytes());
    frame.extend_from_slice(&version.to_be_bytes());
    frame.extend_from_slice(&correlation_id.to_be_bytes());
    frame.extend_from_slice(&(-1_i16).to_be_bytes());
    frame.extend_from_slice(body);
    frame
}

/// A batch with these values, each with key `k`.
pub fn batch(values: &[&[u8]]) -> SealedBatch {
    batch_at(1_700_000_000_000, values)
}

/// The same, with record timestamps from `timestamp` on, one millisecond apart.
pub fn batch_at(timestamp: i64, values: &[&[u8]]) -> SealedBatch {
    compressed(Compression::None, timestamp, values)
}

pub fn compressed(compression: Compression, timestamp: i64, values: &[&[u8]]) -> SealedBatch {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for (time, value) in (timestamp..).zip(values) {
        builder.append(time, Some(b"k"), Some(value), &[]).unwrap();
    }
    builder.seal(compression, None).unwrap()
}

/// Creates a topic and waits until it can be used.
pub async fn create_topic(client: &mut Client, name: &str, partitions: i32, configs: &[(&str, &str)]) -> Uuid {
    let configs = configs.iter().map(|(name, value)| CreatableTopicConfig {
        name,
        value: Some(value),
    });
    let topic = CreatableTopic {
        name,
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest {
        topics: vec![topic],
        timeout_ms: 10_000,
        validate_only: false,
    };
    let answer = client.call(7, &request).await;
    let response = answer.decode();
    let created = &response.topics[0];
    assert_eq!(
        ErrorCode::from_code(created.error_code),
        Some(ErrorCode::None),
        "{:?}",
        created.error_message
    );
    created.topic_id
}

/// A request that writes `records` to one partition.
pub fn produce_request<'a>(topic: &'a str, id: Uuid, partition: i32, acks: i16, records: Bytes) -> ProduceRequest<'a> {
    let part = PartitionProduceData {
        index: partition,
        records: Records::Bytes(records),
    };
    ProduceRequest {
        acks,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic,
            topic_id: id,
            partition_data: vec![part],
        }],
        ..Default::default()
    }
}

/// Writes one batch with acks=all in version 9; returns error code and base offset.
pub async fn produce(client: &mut Client, topic: &str, partition: i32, batch: &SealedBatch) -> (ErrorCode, i64) {
    produce_bytes(client, 9, topic, partition, batch.to_vec()).await
}

pub async fn produce_bytes(
    client: &mut Client,
    version: i16,
    topic: &str,
    partition: i32,
    records: Vec<u8>,
) -> (ErrorCode, i64) {
    let request = produce_request(topic, Uuid::ZERO, partition, -1, records.into());
    let answer = client.call(version, &request).await;
    let response = answer.decode();
    let part = &response.responses[0].partition_responses[0];
    (ErrorCode::from_code(part.error_code).unwrap(), part.base_offset)
}

/// A fetch of one partition that answers at once.
pub fn fetch_request(topic: &str, id: Uuid, partition: i32, offset: i64) -> FetchRequest<'_> {
    let part = FetchPartition {
        partition,
        fetch_offset: offset,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    };
    FetchRequest {
        max_wait_ms: 0,
        min_bytes: 1,
        max_bytes: 1 << 20,
        topics: vec![FetchTopic {
            topic,
            topic_id: id,
            partitions: vec![part],
        }],
        ..Default::default()
    }
}

/// What one partition of a fetch gave.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    pub error: ErrorCode,
    pub high_watermark: i64,
    pub log_start_offset: i64,
    pub records: Vec<u8>,
}

pub async fn fetch(client: &mut Client, topic: &str, partition: i32, offset: i64) -> Fetched {
    fetch_with(client, 12, &fetch_request(topic, Uuid::ZERO, partition, offset)).await
}

pub async fn fetch_with(client: &mut Client, version: i16, request: &FetchRequest<'_>) -> Fetched {
    let answer = client.call(version, request).await;
    fetched(&answer)
}

pub fn fetched(answer: &Answer<FetchRequest<'_>>) -> Fetched {
    let response = answer.decode();
    assert_eq!(response.error_code, 0);
    let part = &response.responses[0].partitions[0];
    assert!(!part.records.is_null(), "records are never null");
    Fetched {
        error: ErrorCode::from_code(part.error_code).unwrap(),
        high_watermark: part.high_watermark,
        log_start_offset: part.log_start_offset,
        records: part.records.to_bytes().to_vec(),
    }
}

/// Offset, timestamp and leader epoch for `timestamp`, or the error.
pub async fn list_offsets(
    client: &mut Client,
    version: i16,
    topic: &str,
    timestamp: i64,
) -> Result<(i64, i64, i32), ErrorCode> {
    let part = ListOffsetsPartition {
        partition_index: 0,
        timestamp,
        ..Default::default()
    };
    let request = ListOffsetsRequest {
        replica_id: -1,
        topics: vec![ListOffsetsTopic {
            name: topic,
            partitions: vec![part],
        }],
        ..Default::default()
    };
    let answer = client.call(version, &request).await;
    let response = answer.decode();
    let part = &response.topics[0].partitions[0];
    match ErrorCode::from_code(part.error_code).unwrap() {
        ErrorCode::None => Ok((part.offset, part.timestamp, part.leader_epoch)),
        error => Err(error),
    }
}

pub fn metadata_request(topic: &str) -> MetadataRequest<'_> {
    MetadataRequest {
        topics: Some(vec![MetadataRequestTopic {
            name: Some(topic),
            ..Default::default()
        }]),
        allow_auto_topic_creation: true,
        ..Default::default()
    }
}

/// Every version in which `key` is served.
pub fn versions(key: ApiKey) -> std::ops::RangeInclusive<i16> {
    let row = ottla_broker::served_apis().iter().find(|api| api.key == key).unwrap();
    row.min_version..=row.max_version
}
