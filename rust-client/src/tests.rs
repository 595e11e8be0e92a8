//! What the tests of several rooms share: batches made by hand, and a broker that says exactly what a test wants it
//! to say, right or wrong.
//!
//! The broker speaks TCP on loopback, reads whole requests and gives each to a script. What the script does not care about
//! can be answered as a well-behaved broker would ([`Asked::usual`]): one node, itself; one topic, `orders`, with two
//! partitions, empty.

pub(crate) mod certificates;
pub(crate) mod sasl;

use std::sync::{Arc, Mutex};

use ottla_protocol::messages::api_versions_response::ApiVersion;
use ottla_protocol::messages::list_offsets_response::{ListOffsetsPartitionResponse, ListOffsetsTopicResponse};
use ottla_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use ottla_protocol::messages::*;
use ottla_protocol::records::batch::patch_base_offset;
use ottla_protocol::records::{Compression, EndTransactionMarker, RecordBatchBuilder};
use ottla_protocol::wire::Reader;
use ottla_protocol::{ApiKey, Message, Uuid, frame};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// The id of topic `orders`.
pub(crate) const TOPIC_ID: Uuid = Uuid([7; 16]);

/// What the script makes of a request.
pub(crate) enum Reply {
    /// These bytes go back, whatever they are.
    Bytes(Vec<u8>),
    /// Nothing goes back.
    Silence,
    /// These bytes go back and the connection is closed.
    Close(Vec<u8>),
}

/// A request as the script sees it.
pub(crate) struct Asked<'a> {
    pub api: ApiKey,
    pub version: i16,
    pub correlation_id: i32,
    pub body: &'a [u8],
    /// The port of this broker.
    pub port: u16,
    /// How many requests of this API came before, on any connection.
    pub before: usize,
}

impl Asked<'_> {
    /// The answer, well framed.
    pub fn answer<'m, M: Message<'m>>(&self, body: &M) -> Reply {
        let pieces = frame::encode_response(self.api, self.version, self.correlation_id, body).unwrap();
        Reply::Bytes(pieces.into_vec())
    }

    /// The request, decoded.
    pub fn request<'m, M: Message<'m>>(&'m self) -> M {
        M::decode(&mut Reader::new(self.body), self.version).unwrap()
    }

    /// What a well-behaved broker without records answers.
    pub fn usual(&self) -> Reply {
        match self.api {
            ApiKey::ApiVersions => self.answer(&versions()),
            ApiKey::Metadata => self.answer(&metadata(self.port)),
            ApiKey::ListOffsets => {
                let request: ListOffsetsRequest<'_> = self.request();
                let topics = request.topics.iter().map(|topic| ListOffsetsTopicResponse {
                    name: topic.name,
                    partitions: topic
                        .partitions
                        .iter()
                        .map(|partition| ListOffsetsPartitionResponse {
                            partition_index: partition.partition_index,
                            offset: 0,
                            ..Default::default()
                        })
                        .collect(),
                });
                self.answer(&ListOffsetsResponse {
                    topics: topics.collect(),
                    ..Default::default()
                })
            }
            _ => Reply::Silence,
        }
    }
}

/// All APIs in all versions.
pub(crate) fn versions() -> ApiVersionsResponse<'static> {
    let all = ApiKey::ALL.iter().filter(|api| api.is_served_by_brokers());
    let api_keys = all.map(|api| ApiVersion {
        api_key: api.code(),
        min_version: api.min_version(),
        max_version: api.max_version(),
    });
    ApiVersionsResponse {
        api_keys: api_keys.collect(),
        ..Default::default()
    }
}

/// One broker, number 1, at `port`; topic `orders` with two partitions.
pub(crate) fn metadata(port: u16) -> MetadataResponse<'static> {
    let partition = |index| MetadataResponsePartition {
        partition_index: index,
        leader_id: 1,
        leader_epoch: 3,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    MetadataResponse {
        brokers: vec![MetadataResponseBroker {
            node_id: 1,
            host: "127.0.0.1",
            port: port.into(),
            ..Default::default()
        }],
        cluster_id: Some("fake"),
        controller_id: 1,
        topics: vec![MetadataResponseTopic {
            name: Some("orders"),
            topic_id: TOPIC_ID,
            partitions: vec![partition(0), partition(1)],
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// A broker that follows a script. Ends when dropped.
pub(crate) struct FakeBroker {
    pub port: u16,
    asked: Arc<Mutex<Vec<ApiKey>>>,
    task: JoinHandle<()>,
}

impl FakeBroker {
    /// Starts on a free port.
    pub async fn start(script: impl Fn(&Asked<'_>) -> Reply + Send + Sync + 'static) -> FakeBroker {
        FakeBroker::listen(None, script).await
    }

    /// Starts on a free port with TLS.
    pub async fn start_tls(
        tls: TlsAcceptor,
        script: impl Fn(&Asked<'_>) -> Reply + Send + Sync + 'static,
    ) -> FakeBroker {
        FakeBroker::listen(Some(tls), script).await
    }

    async fn listen(
        tls: Option<TlsAcceptor>,
        script: impl Fn(&Asked<'_>) -> Reply + Send + Sync + 'static,
    ) -> FakeBroker {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (script, log) = (Arc::new(script), asked.clone());
        let task = tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let (script, log, tls) = (script.clone(), log.clone(), tls.clone());
                connections.spawn(async move {
                    match tls {
                        None => serve(stream, port, script, log).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, port, script, log).await;
                            }
                        }
                    }
                });
            }
        });
        FakeBroker { port, asked, task }
    }

    /// Where it listens.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// How often an API was asked for.
    pub fn count(&self, api: ApiKey) -> usize {
        self.asked.lock().unwrap().iter().filter(|asked| **asked == api).count()
    }
}

impl Drop for FakeBroker {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve<S, T>(mut stream: T, port: u16, script: Arc<S>, log: Arc<Mutex<Vec<ApiKey>>>)
where
    S: Fn(&Asked<'_>) -> Reply,
    T: AsyncRead + AsyncWrite + Unpin,
{
    while let Ok(length) = stream.read_u32().await {
        let mut request = vec![0; length as usize];
        if stream.read_exact(&mut request).await.is_err() {
            return;
        }
        let (header, body) = frame::decode_request_header(&request).unwrap();
        let api = ApiKey::from_code(header.api_key).unwrap();
        let before = {
            let mut log = log.lock().unwrap();
            log.push(api);
            log.iter().filter(|asked| **asked == api).count() - 1
        };
        let asked = Asked {
            api,
            version: header.api_version,
            correlation_id: header.correlation_id,
            body: &request[body..],
            port,
            before,
        };
        let (bytes, close) = match script(&asked) {
            Reply::Bytes(bytes) => (bytes, false),
            Reply::Silence => (Vec::new(), false),
            Reply::Close(bytes) => (bytes, true),
        };
        if stream.write_all(&bytes).await.is_err() || stream.flush().await.is_err() {
            return;
        }
        if close {
            let _ = stream.shutdown().await;
            return;
        }
    }
}

/// A batch whose values are the offsets of its records.
pub(crate) struct Batch {
    base: i64,
    pub offsets: Vec<i64>,
    compression: Compression,
    producer: Option<i64>,
}

impl Batch {
    pub fn new(base: i64, count: i64) -> Self {
        Batch {
            base,
            offsets: (base..base + count).collect(),
            compression: Compression::None,
            producer: None,
        }
    }

    pub fn transactional(mut self, producer_id: i64) -> Self {
        self.producer = Some(producer_id);
        self
    }

    pub fn compressed(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        for offset in &self.offsets {
            let delta = u32::try_from(offset - self.base).unwrap();
            builder
                .append_at(delta, 1000 + offset, None, Some(offset.to_string().as_bytes()), &[])
                .unwrap();
        }
        let mut batch = builder.seal(self.compression, None).unwrap();
        if let Some(producer_id) = self.producer {
            batch.stamp(producer_id, 0, 0, true);
        }
        batch.set_base_offset(self.base);
        batch.set_partition_leader_epoch(3);
        batch.to_vec()
    }
}

/// The marker that ends a transaction.
pub(crate) fn marker(offset: i64, producer_id: i64, committed: bool) -> Vec<u8> {
    let marker = EndTransactionMarker {
        committed,
        coordinator_epoch: 0,
    };
    let mut bytes = marker.batch(producer_id, 0, 1000).unwrap().to_vec();
    patch_base_offset(&mut bytes, offset);
    bytes
}

/// Two producers: 5 aborts its first transaction and commits its second; 6 commits one in between.
pub(crate) fn transactions() -> Vec<Vec<u8>> {
    vec![
        Batch::new(0, 2).transactional(5).bytes(),
        Batch::new(2, 2).transactional(6).bytes(),
        Batch::new(4, 1).transactional(5).bytes(),
        marker(5, 5, false),
        Batch::new(6, 1).bytes(),
        marker(7, 6, true),
        Batch::new(8, 2).transactional(5).bytes(),
        marker(10, 5, true),
        Batch::new(11, 1).transactional(6).bytes(),
        marker(12, 6, false),
    ]
}
