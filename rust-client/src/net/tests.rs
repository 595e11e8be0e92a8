//! Connections, brokers and the cluster against a broker that follows a script.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode, frame};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::connection::{Connection, Options, Versions};
use crate::client::Client;
use crate::config::{ClientConfig, ClientKind, Settings};
use crate::error::{ErrorKind, Persisted};
use crate::tests::{Asked, FakeBroker, Reply, metadata, versions};

mod security;

const SECOND: Duration = Duration::from_secs(1);
const VERSION: i16 = 12;

fn config(pairs: &[(&str, &str)]) -> ClientConfig {
    let mut settings = Settings::new(ClientKind::Admin);
    for (key, value) in pairs {
        settings.set(key, value);
    }
    settings.admin().unwrap().client
}

/// A connection whose other end the test holds.
fn connected() -> (Connection, DuplexStream) {
    connected_with(None)
}

fn connected_with(max_idle: Option<Duration>) -> (Connection, DuplexStream) {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let options = Options {
        client_id: "test".into(),
        receive_max_bytes: 1 << 20,
        max_idle,
        protection: Default::default(),
    };
    let connection = Connection::start(near, "broker 1 at test".into(), &options);
    connection.set_versions(Versions {
        ranges: vec![(ApiKey::Metadata.code(), 0, VERSION)],
    });
    (connection, far)
}

fn question() -> MetadataRequest<'static> {
    MetadataRequest {
        topics: Some(Vec::new()),
        ..Default::default()
    }
}

fn answer(correlation_id: i32) -> Vec<u8> {
    let response = MetadataResponse {
        controller_id: correlation_id,
        ..Default::default()
    };
    frame::encode_response(ApiKey::Metadata, VERSION, correlation_id, &response)
        .unwrap()
        .into_vec()
}

/// Reads one request off the wire; gives its correlation id.
async fn read_request(far: &mut DuplexStream) -> i32 {
    let length = far.read_u32().await.unwrap();
    let mut request = vec![0; length as usize];
    far.read_exact(&mut request).await.unwrap();
    frame::decode_request_header(&request).unwrap().0.correlation_id
}

#[tokio::test]
async fn answers_reach_their_requests_in_order() {
    let (connection, mut far) = connected();
    let first = connection.send(VERSION, &question(), SECOND).unwrap();
    let second = connection.send(VERSION, &question(), SECOND).unwrap();
    let (one, two) = (read_request(&mut far).await, read_request(&mut far).await);
    far.write_all(&[answer(one), answer(two)].concat()).await.unwrap();
    assert_eq!(second.await.unwrap().decode().unwrap().controller_id, two);
    assert_eq!(first.await.unwrap().decode().unwrap().controller_id, one);
}

#[tokio::test]
async fn a_caller_that_gives_up_disturbs_nobody() {
    let (connection, mut far) = connected();
    drop(connection.send(VERSION, &question(), SECOND).unwrap());
    let second = connection.send(VERSION, &question(), SECOND).unwrap();
    let (one, two) = (read_request(&mut far).await, read_request(&mut far).await);
    far.write_all(&[answer(one), answer(two)].concat()).await.unwrap();
    assert_eq!(second.await.unwrap().decode().unwrap().controller_id, two);
}

#[tokio::test]
async fn a_wrong_correlation_id_kills_the_connection_and_answers_everybody() {
    let (connection, mut far) = connected();
    let first = connection.send(VERSION, &question(), SECOND).unwrap();
    let second = connection.send(VERSION, &question(), SECOND).unwrap();
    read_request(&mut far).await;
    let two = read_request(&mut far).await;
    far.write_all(&answer(two)).await.unwrap();
    for pending in [first, second] {
        let error = pending.await.unwrap_err();
        assert_eq!(
            (error.kind(), error.persisted()),
            (ErrorKind::Protocol, Persisted::Possibly),
            "{error}"
        );
    }
    assert!(!connection.is_alive());
    let refused = connection.send(VERSION, &question(), SECOND).unwrap_err();
    assert_eq!(
        (refused.kind(), refused.persisted()),
        (ErrorKind::Protocol, Persisted::No)
    );
}

#[tokio::test]
async fn the_same_answer_twice_and_an_answer_to_nothing_kill_the_connection() {
    let (connection, mut far) = connected();
    let pending = connection.send(VERSION, &question(), SECOND).unwrap();
    let id = read_request(&mut far).await;
    far.write_all(&[answer(id), answer(id)].concat()).await.unwrap();
    assert!(pending.await.is_ok(), "the first one was good");
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "closed");
    let (connection, mut far) = connected();
    far.write_all(&answer(0)).await.unwrap();
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "closed");
    assert!(!connection.is_alive());
}

#[tokio::test]
async fn half_an_answer_is_a_lost_connection() {
    let (connection, mut far) = connected();
    let pending = connection.send(VERSION, &question(), SECOND).unwrap();
    let id = read_request(&mut far).await;
    let whole = answer(id);
    far.write_all(&whole[..whole.len() / 2]).await.unwrap();
    drop(far);
    let error = pending.await.unwrap_err();
    assert_eq!((error.kind(), error.retriable()), (ErrorKind::Disconnected, true));
    assert!(error.to_string().contains("in the middle of an answer"), "{error}");
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_refused() {
    let (connection, mut far) = connected();
    let pending = connection.send(VERSION, &question(), SECOND).unwrap();
    far.write_all(&(2i32 << 20).to_be_bytes()).await.unwrap();
    let error = pending.await.unwrap_err();
    assert!(error.to_string().contains("receive.message.max.bytes"), "{error}");
}

#[tokio::test]
async fn a_request_that_was_not_written_is_certainly_not_persisted() {
    let (connection, far) = connected();
    drop(far);
    let pending = connection.send(VERSION, &question(), SECOND);
    let error = match pending {
        Ok(pending) => pending.await.unwrap_err(),
        Err(error) => error,
    };
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Disconnected, Persisted::No)
    );
}

#[tokio::test(start_paused = true)]
async fn silence_ends_in_a_timeout_for_all_who_wait() {
    let (connection, _far) = connected();
    let first = connection.send(VERSION, &question(), 30 * SECOND).unwrap();
    let second = connection.send(VERSION, &question(), 60 * SECOND).unwrap();
    let start = tokio::time::Instant::now();
    for pending in [first, second] {
        let error = pending.await.unwrap_err();
        assert_eq!(
            (error.kind(), error.persisted()),
            (ErrorKind::Timeout, Persisted::Possibly)
        );
        assert!(
            error.to_string().contains("no answer to Metadata within 30000 ms"),
            "{error}"
        );
    }
    assert!(start.elapsed() < 31 * SECOND);
    assert!(!connection.is_alive());
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_nobody_uses_is_closed_and_one_in_use_is_not() {
    let (connection, mut far) = connected_with(Some(10 * SECOND));
    tokio::time::sleep(9 * SECOND).await;
    let pending = connection.send(VERSION, &question(), 60 * SECOND).unwrap();
    let id = read_request(&mut far).await;
    tokio::time::sleep(20 * SECOND).await;
    far.write_all(&answer(id)).await.unwrap();
    assert!(pending.await.is_ok(), "an open request keeps it alive");
    tokio::time::sleep(9 * SECOND).await;
    assert!(connection.is_alive());
    tokio::time::sleep(2 * SECOND).await;
    assert!(!connection.is_alive());
}

#[tokio::test]
async fn a_connection_without_handles_ends_after_the_last_answer() {
    let (connection, mut far) = connected();
    let pending = connection.send(VERSION, &question(), SECOND).unwrap();
    drop(connection);
    let id = read_request(&mut far).await;
    far.write_all(&answer(id)).await.unwrap();
    assert!(pending.await.is_ok());
    assert_eq!(far.read(&mut [0]).await.unwrap(), 0, "closed");
}

#[tokio::test]
async fn large_requests_arrive_whole_through_a_small_pipe() {
    let (near, mut far) = tokio::io::duplex(1000);
    let options = Options {
        client_id: "test".into(),
        receive_max_bytes: 1 << 20,
        max_idle: None,
        protection: Default::default(),
    };
    let connection = Connection::start(near, "broker 1 at test".into(), &options);
    let name = "x".repeat(30_000);
    let topic = metadata_request::MetadataRequestTopic {
        name: Some(&name),
        ..Default::default()
    };
    let request = MetadataRequest {
        topics: Some(vec![topic; 50]),
        ..Default::default()
    };
    let pending: Vec<_> = (0..20)
        .map(|_| connection.send(VERSION, &request, 60 * SECOND).unwrap())
        .collect();
    let peer = tokio::spawn(async move {
        for _ in 0..20 {
            let id = read_request(&mut far).await;
            far.write_all(&answer(id)).await.unwrap();
        }
    });
    for (at, pending) in (0..).zip(pending) {
        assert_eq!(pending.await.unwrap().decode().unwrap().controller_id, at);
    }
    peer.await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_absurd_throttle_time_is_brought_into_range() {
    let throttle = super::connection::Throttle::new();
    let start = tokio::time::Instant::now();
    throttle.obey(-5);
    throttle.passed().await;
    assert_eq!(start.elapsed(), Duration::ZERO);
    throttle.obey(i32::MAX);
    throttle.passed().await;
    assert!(start.elapsed() >= 59 * SECOND && start.elapsed() <= 61 * SECOND);
}

async fn connect(bootstrap: &str) -> crate::Result<Arc<Client>> {
    let pairs = [
        ("bootstrap.servers", bootstrap),
        ("retry.backoff.ms", "10"),
        ("reconnect.backoff.ms", "10"),
    ];
    Client::connect(config(&pairs)).await
}

#[tokio::test]
async fn a_client_learns_the_cluster_from_the_first_server_that_answers() {
    let broker = FakeBroker::start(|asked| asked.usual()).await;
    let dead = FakeBroker::start(|_| Reply::Close(Vec::new())).await;
    let client = connect(&format!("{},{}", dead.address(), broker.address()))
        .await
        .unwrap();
    assert_eq!(client.metadata().cluster_id.as_deref(), Some("fake"));
    let deadline = tokio::time::Instant::now() + 10 * SECOND;
    let snapshot = client.topic_metadata("orders", deadline).await.unwrap();
    assert_eq!(
        snapshot
            .leader_of("orders", 1)
            .map(|leader| (leader.node_id, leader.epoch)),
        Some((1, 3))
    );
}

#[tokio::test]
async fn an_older_broker_is_asked_again_in_the_version_it_knows() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::ApiVersions if asked.version > 2 => {
            let mut response = versions();
            response.error_code = ErrorCode::UnsupportedVersion.code();
            response
                .api_keys
                .retain(|api| api.api_key == ApiKey::ApiVersions.code());
            response.api_keys[0].max_version = 2;
            // The answer to a version it does not know is in version 0, whatever was asked.
            let pieces = frame::encode_response(ApiKey::ApiVersions, 0, asked.correlation_id, &response).unwrap();
            Reply::Bytes(pieces.into_vec())
        }
        _ => asked.usual(),
    })
    .await;
    let client = connect(&broker.address()).await.unwrap();
    assert_eq!(client.metadata().nodes().len(), 1);
    assert_eq!(broker.count(ApiKey::ApiVersions), 2);
}

#[tokio::test]
async fn another_kind_of_server_is_named() {
    for (words, hint) in [
        (&b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n"[..], "HTTP"),
        (&[0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 0x50], "TLS"),
        (b"", "security.protocol=SSL"),
    ] {
        let server = FakeBroker::start(move |_| Reply::Close(words.to_vec())).await;
        let error = connect(&server.address()).await.unwrap_err();
        assert!(error.to_string().contains(hint), "{error}");
    }
}

#[tokio::test]
async fn an_advertised_address_that_cannot_be_reached_is_named_with_who_told_it() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata => {
            let mut response = metadata(asked.port);
            response.brokers[0].host = "kafka.invalid";
            asked.answer(&response)
        }
        _ => asked.usual(),
    })
    .await;
    let client = connect(&broker.address()).await.unwrap();
    let error = client.connection(1, super::Lane::Produce).await.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), ErrorKind::Connect);
    for part in ["broker 1", "kafka.invalid", &broker.address(), "advertised.listeners"] {
        assert!(text.contains(part), "{text}");
    }
}

#[tokio::test]
async fn an_unknown_topic_is_answered_with_the_nearest_name() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata => {
            let request: MetadataRequest<'_> = asked.request();
            let mut response = metadata(asked.port);
            if let Some(topics) = request.topics.filter(|topics| !topics.is_empty()) {
                response.topics[0].name = topics[0].name;
                response.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
                response.topics[0].partitions.clear();
            }
            asked.answer(&response)
        }
        _ => asked.usual(),
    })
    .await;
    let client = connect(&broker.address()).await.unwrap();
    let deadline = tokio::time::Instant::now() + 600 * SECOND;
    let error = client.topic_metadata("oders", deadline).await.unwrap_err();
    assert_eq!(error.code(), Some(ErrorCode::UnknownTopicOrPartition));
    assert_eq!(
        error.to_string(),
        "topic \"oders\" does not exist; did you mean \"orders\"?"
    );
}

#[tokio::test]
async fn brokers_that_moved_are_found_again_through_the_bootstrap_servers() {
    let second = FakeBroker::start(|asked| asked.usual()).await;
    // The bootstrap server stays and names a broker that goes away, then the second one.
    let gone = FakeBroker::start(|asked| asked.usual()).await;
    let (first_port, second_port) = (gone.port, second.port);
    let seed = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata if asked.before == 0 => asked.answer(&metadata(first_port)),
        ApiKey::Metadata => asked.answer(&metadata(second_port)),
        _ => asked.usual(),
    })
    .await;
    let client = connect(&seed.address()).await.unwrap();
    drop(gone);
    client.request_refresh();
    let mut changed = client.metadata_changed();
    let moved = |client: &Client| client.metadata().node(1).is_some_and(|node| node.port == second_port);
    while !moved(&client) {
        tokio::time::timeout(10 * SECOND, changed.changed())
            .await
            .unwrap()
            .unwrap();
    }
    assert!(client.request_any(i16::MAX, &question()).await.is_ok());
}

#[tokio::test]
async fn metadata_full_of_lies_neither_panics_nor_grows() {
    let broker = FakeBroker::start(|asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata => {
            let mut response = metadata(asked.port);
            let broker = &response.brokers[0];
            let mut lies = Vec::new();
            for (node_id, host, port) in [(2, "", 9092), (3, "a", 0), (4, "a", 70_000), (5, "a", -1), (-9, "a", 1)] {
                lies.push(metadata_response::MetadataResponseBroker {
                    node_id,
                    host,
                    port,
                    ..broker.clone()
                });
            }
            response.brokers.extend(lies);
            let partition = response.topics[0].partitions[0].clone();
            for (partition_index, leader_id) in [(0, 99), (i32::MAX, 1), (-1, 1), (7, -5)] {
                let lie = metadata_response::MetadataResponsePartition {
                    partition_index,
                    leader_id,
                    ..partition.clone()
                };
                response.topics[0].partitions.push(lie);
            }
            asked.answer(&response)
        }
        _ => asked.usual(),
    })
    .await;
    let client = connect(&broker.address()).await.unwrap();
    let deadline = tokio::time::Instant::now() + 10 * SECOND;
    let snapshot = client.topic_metadata("orders", deadline).await.unwrap();
    assert_eq!(snapshot.nodes().len(), 1);
    assert_eq!(snapshot.leader_of("orders", 0).map(|leader| leader.node_id), Some(1));
    assert!(snapshot.leader_of("orders", 7).is_none());
    assert!(snapshot.topic("orders").unwrap().partition_count() <= 8);
}
