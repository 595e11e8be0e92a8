//! What a connection does when the code behind it, or the peer before it, breaks.
#![allow(clippy::unwrap_used)]

use super::unless_it_panics;
use crate::Cluster;
use crate::dispatch::PANICKING_CLIENT;
use ottla_protocol::frame;
use ottla_protocol::messages::ApiVersionsRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

fn request(client_id: &str, correlation_id: i32) -> Vec<u8> {
    let request = ApiVersionsRequest::default();
    let pieces = frame::encode_request(0, correlation_id, Some(client_id), &request).unwrap();
    pieces.into_vec()
}

async fn connect(cluster: &Cluster) -> TcpStream {
    TcpStream::connect(cluster.bootstrap_servers()).await.unwrap()
}

/// The correlation ids of the answers that come until the broker closes.
async fn answers_until_the_end(stream: &mut TcpStream) -> Vec<i32> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).await.unwrap();
    let (mut rest, mut ids) = (&bytes[..], Vec::new());
    while let Some((length, frame)) = rest.split_first_chunk::<4>() {
        let (frame, after) = frame.split_at(u32::from_be_bytes(*length) as usize);
        ids.push(i32::from_be_bytes(*frame.first_chunk().unwrap()));
        rest = after;
    }
    ids
}

#[tokio::test]
async fn a_panic_in_a_handler_ends_its_connection_and_no_other() {
    let cluster = Cluster::builder()
        .property("max.connections", "2")
        .start()
        .await
        .unwrap();
    let mut other = connect(&cluster).await;
    // More often than there are places for connections: each place comes back.
    for _ in 0..5 {
        let mut stream = connect(&cluster).await;
        stream.write_all(&request(PANICKING_CLIENT, 1)).await.unwrap();
        assert_eq!(answers_until_the_end(&mut stream).await, []);
    }
    other.write_all(&request("other", 2)).await.unwrap();
    other.shutdown().await.unwrap();
    assert_eq!(answers_until_the_end(&mut other).await, [2]);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn the_words_of_a_panic_reach_the_log() {
    assert_eq!(unless_it_panics(async { 1 }).await, Ok(1));
    let panicked = unless_it_panics(async { panic!("number {}", 7) }).await;
    assert_eq!(panicked, Err::<(), _>("number 7".to_owned()));
}

#[tokio::test]
async fn what_was_answered_before_a_malformed_request_arrives_although_more_was_sent() {
    let cluster = Cluster::start().await.unwrap();
    for _ in 0..20 {
        let mut stream = connect(&cluster).await;
        let mut burst: Vec<u8> = (0..100).flat_map(|id| request("good", id)).collect();
        // A frame that ends in the middle of its header, and bytes that nobody will read.
        burst.extend_from_slice(&[0, 0, 0, 3, 0, 18, 0]);
        burst.extend_from_slice(&[7; 200_000]);
        stream.write_all(&burst).await.unwrap();
        assert_eq!(answers_until_the_end(&mut stream).await, (0..100).collect::<Vec<_>>());
    }
    cluster.stop().await.unwrap();
}
