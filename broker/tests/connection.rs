//! Connections: order under pipelining, hostile bytes, every key and version.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::{Cluster, served_apis};
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode, Uuid};
use support::*;
use tokio::io::AsyncWriteExt;

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    // A fetch that waits, then what it waits for, then more: its answer must still be the first.
    let waiting = FetchRequest {
        max_wait_ms: 3_600_000,
        ..fetch_request("t", Uuid::ZERO, 0, 0)
    };
    let fetch = client.send(12, &waiting).await;
    let request = produce_request("t", Uuid::ZERO, 0, -1, batch(&[b"a"]).to_vec().into());
    let produce = client.send(9, &request).await;
    let mut others = Vec::new();
    for _ in 0..300 {
        others.push(client.send(0, &ApiVersionsRequest::default()).await);
    }
    let answer = client.receive::<FetchRequest<'_>>(12).await;
    assert_eq!(answer.correlation_id(), fetch);
    assert_eq!(fetched(&answer).records.len(), batch(&[b"a"]).len());
    assert_eq!(client.receive::<ProduceRequest<'_>>(9).await.correlation_id(), produce);
    for id in others {
        assert_eq!(client.receive::<ApiVersionsRequest<'_>>(0).await.correlation_id(), id);
    }
}

#[tokio::test]
async fn pipelined_produce_requests_append_in_their_order() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    let mut burst = Vec::new();
    for sequence in 0..500 {
        let mut sealed = batch(&[b"a"]);
        sealed.stamp(7, 0, sequence, false);
        let request = produce_request("t", Uuid::ZERO, 0, -1, sealed.to_vec().into());
        let pieces = ottla_protocol::frame::encode_request(9, sequence, None, &request).unwrap();
        burst.extend_from_slice(&pieces.into_vec());
    }
    let (_, mut writer) = client.stream.split();
    writer.write_all(&burst).await.unwrap();
    for sequence in 0..500 {
        let answer = client.receive::<ProduceRequest<'_>>(9).await;
        let part = &answer.decode().responses[0].partition_responses[0];
        assert_eq!(
            (answer.correlation_id(), part.error_code, part.base_offset),
            (sequence, 0, i64::from(sequence))
        );
    }
}

#[tokio::test]
async fn a_peer_that_does_not_read_is_not_read_from() {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    create_topic(&mut client, "t", 1, &[]).await;
    produce(&mut client, "t", 0, &batch(&[&vec![1; 900_000]])).await;
    // Answers of 200 MB are asked for; the requests are small. Nothing is read until all are sent or stuck.
    let request = ottla_protocol::frame::encode_request(12, 1, None, &fetch_request("t", Uuid::ZERO, 0, 0)).unwrap();
    let requests = request.into_vec().repeat(220);
    let (mut reader, mut writer) = client.stream.into_split();
    let writing = tokio::spawn(async move { writer.write_all(&requests).await.map(|()| writer) });
    let mut bytes = 0_usize;
    let mut buffer = vec![0; 1 << 20];
    while bytes < 220 * 900_000 {
        bytes += tokio::io::AsyncReadExt::read(&mut reader, &mut buffer).await.unwrap();
    }
    writing.await.unwrap().unwrap();
    assert!(resident_bytes() < 400 << 20);
}

/// Memory of this process, client and all.
fn resident_bytes() -> usize {
    let status = std::fs::read_to_string("/proc/self/statm").unwrap();
    status.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

#[tokio::test]
async fn bytes_of_other_protocols_close_the_connection() {
    let cluster = Cluster::start().await.unwrap();
    for bytes in [
        &b"GET / HTTP/1.1\r\nHost: kafka\r\n\r\n"[..],
        b"POST /topics HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x00, 0xf4, 0x01, 0x00, 0x00, 0xf0, 0x03, 0x03],
        &[0xff; 64],
        &[0x80, 0, 0, 0, 0, 0],
        b"\x7f\xff\xff\xff\x00\x00\x00\x00",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let mut client = Client::connect(&cluster).await;
        client.send_raw(bytes).await;
        assert!(client.is_closed().await, "{bytes:?}");
    }
    let mut client = Client::connect(&cluster).await;
    assert_eq!(
        client.call(0, &ApiVersionsRequest::default()).await.decode().error_code,
        0,
        "the broker lives"
    );
}

#[tokio::test]
async fn empty_and_truncated_frames_close_the_connection() {
    let cluster = Cluster::start().await.unwrap();
    let whole = raw_request(3, 1, 1, &[0, 0, 0, 1, 0, 1, b't']);
    for cut in 0..whole.len() - 4 {
        let mut frame = whole[4..4 + cut].to_vec();
        frame.splice(0..0, i32::try_from(cut).unwrap().to_be_bytes());
        let mut client = Client::connect(&cluster).await;
        client.send_raw(&frame).await;
        assert!(client.is_closed().await, "a frame cut to {cut} bytes");
    }
}

#[tokio::test]
async fn count_and_length_bombs_close_the_connection() {
    let cluster = Cluster::start().await.unwrap();
    for api in served_apis() {
        for version in api.min_version..=api.max_version {
            for bomb in [
                [0x7f, 0xff, 0xff, 0xff],
                [0xff, 0xff, 0xff, 0x0f],
                [0xff, 0xff, 0xff, 0x7f],
            ] {
                let mut client = Client::connect(&cluster).await;
                client.send_frame(api.key.code(), version, 1, &bomb.repeat(6)).await;
                client.stream.shutdown().await.unwrap();
                // Whether it happens to decode or not: an answer or the end, and no allocation of what it claims.
                while client.frame().await.is_some() {}
            }
        }
    }
    assert!(resident_bytes() < 400 << 20);
    let mut client = Client::connect(&cluster).await;
    assert_eq!(
        client.call(0, &ApiVersionsRequest::default()).await.decode().error_code,
        0,
        "the broker lives"
    );
}

#[tokio::test]
async fn every_key_and_version_is_answered_or_closed() {
    let cluster = Cluster::start().await.unwrap();
    for key in 0..=100 {
        let known = ApiKey::from_code(key);
        let row = known.and_then(|known| served_apis().iter().find(|api| api.key == known));
        let highest = known.map_or(0, |known| known.max_version());
        for version in -1..=highest + 3 {
            let served = row.is_some_and(|row| (row.min_version..=row.max_version).contains(&version));
            let mut client = Client::connect(&cluster).await;
            client.send_frame(key, version, 9, &[]).await;
            client.stream.shutdown().await.unwrap();
            let answer = client.frame().await;
            if known == Some(ApiKey::ApiVersions) && !served {
                let answer = answer.expect("ApiVersions always answers");
                assert_eq!(&answer[4..6], &ErrorCode::UnsupportedVersion.code().to_be_bytes());
            } else if !served {
                assert!(answer.is_none(), "key {key} version {version} is not served");
            }
        }
    }
}

#[tokio::test]
async fn garbage_in_every_request_is_answered_or_closed() {
    let cluster = Cluster::start().await.unwrap();
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    for api in served_apis() {
        for version in api.min_version..=api.max_version {
            for length in [1, 7, 64, 300] {
                let body: Vec<u8> = (0..length).map(|_| random()).collect();
                let mut client = Client::connect(&cluster).await;
                client.send_frame(api.key.code(), version, 1, &body).await;
                client.stream.shutdown().await.unwrap();
                while client.frame().await.is_some() {}
            }
        }
    }
    let mut client = Client::connect(&cluster).await;
    assert_eq!(
        client.call(0, &ApiVersionsRequest::default()).await.decode().error_code,
        0,
        "the broker lives"
    );
}

#[tokio::test]
async fn a_frame_above_the_limit_closes_the_connection_at_once() {
    let cluster = Cluster::builder()
        .property("socket.request.max.bytes", "1000")
        .start()
        .await
        .unwrap();
    let mut client = Client::connect(&cluster).await;
    client.send_raw(&1_001_i32.to_be_bytes()).await;
    assert!(client.is_closed().await);
}

#[tokio::test]
async fn an_idle_connection_is_closed_and_a_waiting_one_is_not() {
    let cluster = Cluster::builder()
        .property("connections.max.idle.ms", "200")
        .start()
        .await
        .unwrap();
    let mut idle = Client::connect(&cluster).await;
    let mut waiting = Client::connect(&cluster).await;
    create_topic(&mut idle, "t", 1, &[]).await;
    waiting
        .send(
            12,
            &FetchRequest {
                max_wait_ms: 1_000,
                ..fetch_request("t", Uuid::ZERO, 0, 0)
            },
        )
        .await;
    assert!(idle.is_closed().await);
    assert!(waiting.frame().await.is_some());
}

#[tokio::test]
async fn connections_of_one_address_are_limited() {
    let cluster = Cluster::builder()
        .property("max.connections.per.ip", "2")
        .start()
        .await
        .unwrap();
    let mut first = Client::connect(&cluster).await;
    let mut second = Client::connect(&cluster).await;
    for client in [&mut first, &mut second] {
        client.call(0, &ApiVersionsRequest::default()).await;
    }
    assert!(Client::connect(&cluster).await.is_closed().await);
    drop(first);
    // The place is free once the broker has noticed.
    loop {
        let mut third = Client::connect(&cluster).await;
        third.stream.write_all(&raw_request(18, 0, 1, &[])).await.unwrap();
        if third.frame().await.is_some() {
            break;
        }
    }
}

#[tokio::test]
async fn above_max_connections_a_connection_waits_for_a_place() {
    let cluster = Cluster::builder()
        .property("max.connections", "1")
        .start()
        .await
        .unwrap();
    let mut first = Client::connect(&cluster).await;
    first.call(0, &ApiVersionsRequest::default()).await;
    let mut second = Client::connect(&cluster).await;
    second.send(0, &ApiVersionsRequest::default()).await;
    first.call(0, &ApiVersionsRequest::default()).await;
    let mut byte = [0; 1];
    assert!(second.stream.try_read(&mut byte).is_err(), "nobody has accepted it yet");
    drop(first);
    assert_eq!(second.receive::<ApiVersionsRequest<'_>>(0).await.decode().error_code, 0);
}
