//! The protocol by hand: one blocking connection, one request at a time, answers as they are on the wire.
//!
//! For judges that want to see what a broker really sends, not what a client makes of it.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use ottla_protocol::messages::{
    CreateTopicsRequest, FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse, MetadataRequest,
    MetadataResponse, ProduceRequest, ProduceResponse, create_topics_request::CreatableTopic,
    fetch_request::FetchPartition, fetch_request::FetchTopic, list_offsets_request::ListOffsetsPartition,
    list_offsets_request::ListOffsetsTopic, metadata_request::MetadataRequestTopic,
    produce_request::PartitionProduceData, produce_request::TopicProduceData,
};
use ottla_protocol::records::{Compression, Header, RecordBatchBuilder};
use ottla_protocol::{Message, Records, Request, frame};

use crate::peer::Failure;

/// A connection.
pub struct Wire {
    stream: TcpStream,
    correlation: i32,
}

/// A partition's part of a Fetch answer.
#[derive(Debug)]
pub struct Fetched {
    /// The error code; 0 is none.
    pub error: i16,
    /// The high watermark.
    pub high_watermark: i64,
    /// The batches, as they came.
    pub records: Vec<u8>,
}

impl Wire {
    /// Connects.
    ///
    /// # Errors
    /// When nobody listens.
    pub fn connect(address: &str) -> Result<Wire, Failure> {
        let stream = TcpStream::connect(address).map_err(|error| format!("{address}: {error}"))?;
        let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
        let _ = stream.set_nodelay(true);
        Ok(Wire { stream, correlation: 0 })
    }

    /// Sends a request and gives the answer's frame (without length prefix) and where its body starts.
    ///
    /// # Errors
    /// When the broker closes the connection or its answer is not one.
    pub fn call<'m, M: Message<'m> + Request>(&mut self, version: i16, body: &M) -> Result<(Vec<u8>, usize), Failure> {
        self.correlation += 1;
        let wrong = |what: &dyn std::fmt::Display| format!("{} version {version}: {what}", M::NAME);
        let request = frame::encode_request(version, self.correlation, Some("wire"), body).map_err(|e| wrong(&e))?;
        self.stream.write_all(&request.into_vec()).map_err(|e| wrong(&e))?;
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).map_err(|e| wrong(&e))?;
        let mut answer = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut answer).map_err(|e| wrong(&e))?;
        let (correlation, at) = frame::decode_response_header(M::API_KEY, version, &answer).map_err(|e| wrong(&e))?;
        if correlation != self.correlation {
            return Err(wrong(&format!("answers {correlation}, not {}", self.correlation)));
        }
        Ok((answer, at))
    }

    /// Creates a topic.
    ///
    /// # Errors
    /// The transport's only.
    pub fn create_topic(&mut self, name: &str, partitions: i32) -> Result<(), Failure> {
        let topic = CreatableTopic {
            name,
            num_partitions: partitions,
            replication_factor: 1,
            ..CreatableTopic::default()
        };
        let request = CreateTopicsRequest {
            topics: vec![topic],
            timeout_ms: 10_000,
            ..CreateTopicsRequest::default()
        };
        self.call(7, &request).map(drop)
    }

    /// Produces one batch with acks=all. Gives the error code and the base offset.
    ///
    /// # Errors
    /// The transport's.
    pub fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> Result<(i16, i64), Failure> {
        let partition = PartitionProduceData {
            index: partition,
            records: Records::Slice(batch),
        };
        let topic = TopicProduceData {
            name: topic,
            partition_data: vec![partition],
            ..TopicProduceData::default()
        };
        let request = ProduceRequest {
            acks: -1,
            timeout_ms: 10_000,
            topic_data: vec![topic],
            ..ProduceRequest::default()
        };
        let (answer, at) = self.call(9, &request)?;
        let response: ProduceResponse<'_> = frame::decode_body(&answer, at, 9).map_err(|e| e.to_string())?;
        let answers = response.responses.first().map(|topic| &topic.partition_responses);
        let partition = answers
            .and_then(|partitions| partitions.first())
            .ok_or("Produce: no partition answered")?;
        Ok((partition.error_code, partition.base_offset))
    }

    /// Fetches from `offset`, waiting for nothing.
    ///
    /// # Errors
    /// The transport's.
    pub fn fetch(&mut self, topic: &str, partition: i32, offset: i64) -> Result<Fetched, Failure> {
        let partition = FetchPartition {
            partition,
            current_leader_epoch: -1,
            fetch_offset: offset,
            partition_max_bytes: 16 << 20,
            ..FetchPartition::default()
        };
        let topic = FetchTopic {
            topic,
            partitions: vec![partition],
            ..FetchTopic::default()
        };
        let request = FetchRequest {
            replica_id: -1,
            max_bytes: 64 << 20,
            session_epoch: -1,
            topics: vec![topic],
            ..FetchRequest::default()
        };
        let (answer, at) = self.call(12, &request)?;
        let response: FetchResponse<'_> = frame::decode_body(&answer, at, 12).map_err(|e| e.to_string())?;
        let partitions = response.responses.first().map(|topic| &topic.partitions);
        let partition = partitions
            .and_then(|partitions| partitions.first())
            .ok_or("Fetch: no partition answered")?;
        Ok(Fetched {
            error: partition.error_code,
            high_watermark: partition.high_watermark,
            records: partition.records.to_bytes().to_vec(),
        })
    }

    /// Leader and in-sync replicas of a partition, as this broker knows them.
    ///
    /// # Errors
    /// The transport's, or that it does not know the partition.
    pub fn leader(&mut self, topic: &str, partition: i32) -> Result<(i32, Vec<i32>), Failure> {
        let topic = MetadataRequestTopic {
            name: Some(topic),
            ..MetadataRequestTopic::default()
        };
        let request = MetadataRequest {
            topics: Some(vec![topic]),
            ..MetadataRequest::default()
        };
        let (answer, at) = self.call(9, &request)?;
        let response: MetadataResponse<'_> = frame::decode_body(&answer, at, 9).map_err(|e| e.to_string())?;
        let partitions = response.topics.first().map(|topic| &topic.partitions);
        let partition = partitions
            .and_then(|partitions| partitions.iter().find(|known| known.partition_index == partition))
            .ok_or("Metadata: no such partition")?;
        Ok((partition.leader_id, partition.isr_nodes.to_vec()))
    }

    /// The high watermark (ListOffsets with timestamp -1).
    ///
    /// # Errors
    /// The transport's, or an error code.
    pub fn end_offset(&mut self, topic: &str, partition: i32) -> Result<i64, Failure> {
        let partition = ListOffsetsPartition {
            partition_index: partition,
            current_leader_epoch: -1,
            timestamp: -1,
        };
        let topic = ListOffsetsTopic {
            name: topic,
            partitions: vec![partition],
        };
        let request = ListOffsetsRequest {
            replica_id: -1,
            topics: vec![topic],
            ..ListOffsetsRequest::default()
        };
        let (answer, at) = self.call(5, &request)?;
        let response: ListOffsetsResponse<'_> = frame::decode_body(&answer, at, 5).map_err(|e| e.to_string())?;
        let partitions = response.topics.first().map(|topic| &topic.partitions);
        let partition = partitions
            .and_then(|partitions| partitions.first())
            .ok_or("ListOffsets: no partition")?;
        if partition.error_code == 0 {
            Ok(partition.offset)
        } else {
            Err(format!("code {}", partition.error_code))
        }
    }
}

/// A batch of `values`, each with a key and a header.
///
/// # Errors
/// When it cannot be built.
pub fn batch(values: &[&[u8]], compression: Compression) -> Result<Vec<u8>, Failure> {
    let mut builder = RecordBatchBuilder::new(vec![]);
    for value in values {
        let headers = [Header {
            key: "h",
            value: Some(b"1"),
        }];
        builder
            .append(1_700_000_000_000, Some(b"key"), Some(value), &headers)
            .map_err(|e| e.to_string())?;
    }
    Ok(builder.seal(compression, None).map_err(|e| e.to_string())?.to_vec())
}
