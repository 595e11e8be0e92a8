//! Faults on request: every kind, by raw frames, and what of the request is in the log afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::faults::Rule;
use ottla_broker::{Cluster, Faults};
use ottla_protocol::messages::produce_request::PartitionProduceData;
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode, Records, Uuid};
use std::time::Duration;
use support::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longer than any test: a fault that lasts this long is over only when the test says so.
const FOREVER: Duration = Duration::from_secs(100_000);

/// A cluster with the topic `t` of three partitions, and a connection to it.
async fn start() -> (Cluster, Client, Uuid) {
    let cluster = Cluster::start().await.unwrap();
    let mut client = Client::connect(&cluster).await;
    let id = create_topic(&mut client, "t", 3, &[]).await;
    (cluster, client, id)
}

/// The high watermark, asked on a connection of its own.
async fn end_of(cluster: &Cluster, partition: i32) -> i64 {
    let mut other = Client::connect(cluster).await;
    fetch(&mut other, "t", partition, 0).await.high_watermark
}

fn one_batch(partition: i32) -> ProduceRequest<'static> {
    produce_request("t", Uuid::ZERO, partition, -1, batch(&[b"a"]).to_vec().into())
}

/// One batch for each of the three partitions.
fn three_batches(id: Uuid) -> ProduceRequest<'static> {
    let mut request = produce_request("t", id, 0, -1, batch(&[b"a"]).to_vec().into());
    for index in [1, 2] {
        request.topic_data[0].partition_data.push(PartitionProduceData {
            index,
            records: Records::Bytes(batch(&[b"a"]).to_vec().into()),
        });
    }
    request
}

/// Error codes by partition.
fn codes(response: &ProduceResponse<'_>) -> Vec<(i32, i16)> {
    let mut codes: Vec<_> = response
        .responses
        .iter()
        .flat_map(|topic| &topic.partition_responses)
        .map(|part| (part.index, part.error_code))
        .collect();
    codes.sort_unstable();
    codes
}

#[tokio::test]
async fn an_error_before_leaves_no_trace_and_the_rest_of_the_request_is_carried_out() {
    let (cluster, mut client, id) = start().await;
    for (round, version) in (1..).zip([3, 9, 13]) {
        let fault = cluster.faults().add(
            Rule::on(ApiKey::Produce)
                .topic("t")
                .partition(1)
                .error_before(ErrorCode::NotLeaderOrFollower),
        );
        let answer = client
            .call(version, &three_batches(if version == 13 { id } else { Uuid::ZERO }))
            .await;
        assert_eq!(codes(&answer.decode()), [(0, 0), (1, 6), (2, 0)], "version {version}");
        assert_eq!(fault.hits(), 1);
        fault.remove();
        assert_eq!(end_of(&cluster, 0).await, round);
        assert_eq!(end_of(&cluster, 1).await, 0);
        assert_eq!(end_of(&cluster, 2).await, round);
    }
}

#[tokio::test]
async fn an_error_after_replaces_the_answer_of_what_is_in_the_log() {
    let (cluster, mut client, id) = start().await;
    for (round, version) in (1..).zip([3, 9, 13]) {
        let rule = Rule::on(ApiKey::Produce)
            .topic("t")
            .partition(1)
            .error_after(ErrorCode::RequestTimedOut);
        let fault = cluster.faults().add(rule.times(1));
        let answer = client
            .call(version, &three_batches(if version == 13 { id } else { Uuid::ZERO }))
            .await;
        let response = answer.decode();
        assert_eq!(codes(&response), [(0, 0), (1, 7), (2, 0)], "version {version}");
        let parts = &response.responses[0].partition_responses;
        let blamed = parts.iter().find(|part| part.index == 1).unwrap();
        assert_eq!(blamed.base_offset, -1);
        assert_eq!(blamed.error_message.is_some(), version >= 8);
        assert_eq!(fault.hits(), 1);
        assert_eq!(end_of(&cluster, 1).await, round);
    }
}

#[tokio::test]
async fn a_refused_produce_without_acks_closes_the_connection() {
    let (cluster, mut client, _) = start().await;
    for rule in [
        Rule::on(ApiKey::Produce).error_before(ErrorCode::NotLeaderOrFollower),
        Rule::on(ApiKey::Produce).error_after(ErrorCode::NotLeaderOrFollower),
    ] {
        let fault = cluster.faults().add(rule.times(1));
        client
            .send(
                9,
                &ProduceRequest {
                    acks: 0,
                    ..one_batch(0)
                },
            )
            .await;
        assert!(client.is_closed().await);
        assert!(fault.fired(1).await);
        client = Client::connect(&cluster).await;
    }
    assert_eq!(end_of(&cluster, 0).await, 1, "the second one was carried out");
}

#[tokio::test]
async fn a_topic_or_partition_limits_an_error_to_its_place() {
    let (cluster, mut client, _) = start().await;
    create_topic(&mut client, "u", 1, &[]).await;
    let both = MetadataRequest {
        topics: None,
        ..Default::default()
    };
    let topic = cluster.faults().add(
        Rule::on(ApiKey::Metadata)
            .topic("u")
            .error_after(ErrorCode::UnknownTopicOrPartition)
            .times(1),
    );
    let answer = client.call(12, &both).await;
    let told = |answer: &Answer<MetadataRequest<'_>>| -> Vec<(String, i16, usize)> {
        let response = answer.decode();
        let topics = response.topics.iter();
        topics
            .map(|topic| (topic.name.unwrap().to_owned(), topic.error_code, topic.partitions.len()))
            .collect()
    };
    assert_eq!(told(&answer), [("t".to_owned(), 0, 3), ("u".to_owned(), 3, 0)]);
    assert!(topic.fired(1).await);
    let rule = Rule::on(ApiKey::Metadata)
        .topic("t")
        .partition(2)
        .error_after(ErrorCode::LeaderNotAvailable);
    cluster.faults().add(rule.times(1));
    let answer = client.call(12, &metadata_request("t")).await;
    let response = answer.decode();
    let parts: Vec<_> = response.topics[0]
        .partitions
        .iter()
        .map(|part| (part.error_code, part.leader_id))
        .collect();
    let leader = parts[0].1;
    assert_eq!(parts, [(0, leader), (0, leader), (5, -1)]);
    // A request that does not name the topic is not meant.
    let other = cluster.faults().add(
        Rule::on(ApiKey::Produce)
            .topic("u")
            .error_before(ErrorCode::CorruptMessage),
    );
    assert_eq!(
        produce(&mut client, "t", 0, &batch(&[b"a"])).await,
        (ErrorCode::None, 0)
    );
    assert_eq!(other.matches(), 0);
    // The top of the answer, where there is one.
    cluster.faults().add(
        Rule::on(ApiKey::Fetch)
            .top_level()
            .error_after(ErrorCode::FetchSessionIdNotFound)
            .times(1),
    );
    let answer = client.call(12, &fetch_request("t", Uuid::ZERO, 0, 0)).await;
    assert_eq!(answer.decode().error_code, ErrorCode::FetchSessionIdNotFound.code());
}

#[tokio::test]
async fn a_fetch_within_a_session_meets_the_rules_for_all_that_the_session_holds() {
    let (cluster, mut client, id) = start().await;
    let mut first = FetchRequest {
        session_epoch: 0,
        ..fetch_request("t", id, 0, 0)
    };
    first.topics[0].partitions.push(fetch_request::FetchPartition {
        partition: 1,
        partition_max_bytes: 1 << 20,
        ..Default::default()
    });
    let session_id = client.call(13, &first).await.decode().session_id;
    assert!(session_id > 0);
    let next = |session_epoch| FetchRequest {
        session_id,
        session_epoch,
        topics: Vec::new(),
        ..fetch_request("t", id, 0, 0)
    };
    let told = |response: &FetchResponse<'_>| -> Vec<(i32, i16)> {
        let parts = response.responses.iter().flat_map(|topic| &topic.partitions);
        parts.map(|part| (part.partition_index, part.error_code)).collect()
    };
    let fenced = ErrorCode::FencedLeaderEpoch;
    let rules = [
        Rule::on(ApiKey::Fetch).topic("t").partition(1).error_before(fenced),
        Rule::on(ApiKey::Fetch).topic("t").partition(1).error_after(fenced),
        Rule::on(ApiKey::Fetch).error_before(fenced),
        Rule::on(ApiKey::Fetch).topic("u").error_before(fenced),
    ];
    let expected: [&[(i32, i16)]; 4] = [
        &[(1, fenced.code())],
        &[(1, fenced.code())],
        &[(0, fenced.code()), (1, fenced.code())],
        &[],
    ];
    for (epoch, (rule, expected)) in (1..).zip(rules.into_iter().zip(expected)) {
        let fault = cluster.faults().add(rule);
        let answer = client.call(13, &next(epoch)).await;
        let mut parts = told(&answer.decode());
        parts.sort_unstable();
        assert_eq!(parts, expected, "{}", fault.rule());
        assert_eq!(answer.decode().session_id, session_id, "the session goes on");
        fault.remove();
    }
    // What is taken back with the request itself is not meant any more.
    let fault = cluster
        .faults()
        .add(Rule::on(ApiKey::Fetch).partition(1).error_before(fenced));
    let mut forgetting = next(5);
    forgetting.forgotten_topics_data.push(fetch_request::ForgottenTopic {
        topic_id: id,
        partitions: vec![1],
        ..Default::default()
    });
    assert_eq!(told(&client.call(13, &forgetting).await.decode()), []);
    assert_eq!(fault.matches(), 0);
}

#[tokio::test]
async fn a_delayed_answer_holds_back_the_later_ones() {
    let (cluster, mut client, _) = start().await;
    let rule = Rule::on(ApiKey::Produce)
        .delay_response(Duration::from_millis(30))
        .times(1);
    let fault = cluster.faults().add(rule);
    let slow = client.send(9, &one_batch(0)).await;
    let quick = client.send(9, &one_batch(0)).await;
    assert_eq!(client.receive::<ProduceRequest<'_>>(9).await.correlation_id(), slow);
    assert_eq!(client.receive::<ProduceRequest<'_>>(9).await.correlation_id(), quick);
    // It is in the log while its answer is held back.
    let fault_forever = cluster.faults().add(Rule::on(ApiKey::Produce).delay_response(FOREVER));
    client.send(9, &one_batch(0)).await;
    assert!(fault_forever.fired(1).await);
    assert_eq!((fault.hits(), end_of(&cluster, 0).await), (1, 3));
}

#[tokio::test]
async fn a_delayed_request_is_not_carried_out_and_later_ones_wait_but_earlier_answers_leave() {
    let (cluster, mut client, _) = start().await;
    // The earlier one is parked: a fetch that waits for a record.
    let waiting = FetchRequest {
        max_wait_ms: 3_600_000,
        ..fetch_request("t", Uuid::ZERO, 1, 0)
    };
    let earlier = client.send(12, &waiting).await;
    let rule = Rule::on(ApiKey::Produce).partition(0).delay_request(FOREVER);
    let fault = cluster.faults().add(rule);
    client.send(9, &one_batch(0)).await;
    client.send(9, &one_batch(2)).await;
    assert!(fault.fired(1).await);
    let mut other = Client::connect(&cluster).await;
    produce(&mut other, "t", 1, &batch(&[b"a"])).await;
    let answer = client.receive::<FetchRequest<'_>>(12).await;
    assert_eq!(answer.correlation_id(), earlier);
    assert_eq!((end_of(&cluster, 0).await, end_of(&cluster, 2).await), (0, 0));
    // A short one is carried out in the end, in its order.
    cluster.faults().clear_all();
    let mut client = Client::connect(&cluster).await;
    cluster.faults().add(
        Rule::on(ApiKey::Produce)
            .delay_request(Duration::from_millis(20))
            .times(1),
    );
    let first = client.send(9, &one_batch(0)).await;
    let second = client.send(9, &one_batch(0)).await;
    for (id, offset) in [(first, 0), (second, 1)] {
        let answer = client.receive::<ProduceRequest<'_>>(9).await;
        assert_eq!(answer.correlation_id(), id);
        assert_eq!(answer.decode().responses[0].partition_responses[0].base_offset, offset);
    }
}

#[tokio::test]
async fn a_dropped_request_and_a_dropped_response_are_not_answered_and_the_connection_goes_on() {
    let (cluster, mut client, _) = start().await;
    for (rule, end) in [
        (Rule::on(ApiKey::Produce).drop_request(), 0),
        (Rule::on(ApiKey::Produce).drop_response(), 1),
    ] {
        let fault = cluster.faults().add(rule.times(1));
        client.send(9, &one_batch(0)).await;
        let next = client.send(0, &ApiVersionsRequest::default()).await;
        assert!(fault.fired(1).await);
        assert_eq!(client.receive::<ApiVersionsRequest<'_>>(0).await.correlation_id(), next);
        assert_eq!(end_of(&cluster, 0).await, end);
    }
}

#[tokio::test]
async fn a_connection_is_closed_before_or_after_with_the_earlier_answers_sent_and_the_later_requests_lost() {
    let (cluster, _, _) = start().await;
    for (rule, end) in [
        (Rule::on(ApiKey::Produce).partition(0).close_before(), 0),
        (Rule::on(ApiKey::Produce).partition(0).close_after(), 1),
    ] {
        let mut client = Client::connect(&cluster).await;
        let fault = cluster.faults().add(rule.times(1));
        let earlier = client.send(0, &ApiVersionsRequest::default()).await;
        client.send(9, &one_batch(0)).await;
        client.send(9, &one_batch(1)).await;
        assert_eq!(
            client.receive::<ApiVersionsRequest<'_>>(0).await.correlation_id(),
            earlier
        );
        assert!(client.is_closed().await);
        assert!(fault.fired(1).await);
        assert_eq!((end_of(&cluster, 0).await, end_of(&cluster, 1).await), (end, 0));
    }
}

#[tokio::test]
async fn a_response_is_cut_at_any_byte() {
    let (cluster, mut client, _) = start().await;
    client.send(9, &one_batch(1)).await;
    let whole = client.frame().await.unwrap().len() + 4;
    for bytes in 0..whole {
        let fault = cluster
            .faults()
            .add(Rule::on(ApiKey::Produce).cut_response(bytes).times(1));
        let mut client = Client::connect(&cluster).await;
        client.send(9, &one_batch(0)).await;
        let mut received = Vec::new();
        client.stream.read_to_end(&mut received).await.unwrap();
        assert_eq!(received.len(), bytes);
        assert_eq!((fault.hits(), end_of(&cluster, 0).await), (1, bytes as i64 + 1));
    }
}

#[tokio::test]
async fn a_request_is_cut_when_that_many_bytes_have_arrived() {
    let (cluster, _, _) = start().await;
    let request = ottla_protocol::frame::encode_request(9, 1, Some("test"), &one_batch(0))
        .unwrap()
        .into_vec();
    // The header must be there before it is known whether the request is meant: length, key, version, number, name.
    let header = 4 + 2 + 2 + 4 + 6 + 1;
    for bytes in [0, header, header + 1, request.len() - 1, request.len()] {
        let fault = cluster
            .faults()
            .add(Rule::on(ApiKey::Produce).cut_request(bytes).times(1));
        let mut client = Client::connect(&cluster).await;
        for (sent, byte) in (1..).zip(&request) {
            assert_eq!(fault.hits(), 0, "cut at {bytes}, sent {}", sent - 1);
            client.send_raw(&[*byte]).await;
            if sent == bytes.max(header) {
                break;
            }
        }
        assert!(client.is_closed().await);
        assert!(fault.fired(1).await);
    }
    // A rule that names a partition has to see it first.
    let fault = cluster
        .faults()
        .add(Rule::on(ApiKey::Produce).partition(0).cut_request(0).times(1));
    let mut client = Client::connect(&cluster).await;
    client.send_raw(&request).await;
    assert!(client.is_closed().await);
    assert_eq!((fault.hits(), end_of(&cluster, 0).await), (1, 0));
    // A request in many pieces counts once.
    let passing = cluster.faults().add(Rule::on(ApiKey::Produce).cut_request(0).skip(1));
    let mut client = Client::connect(&cluster).await;
    for byte in &request {
        client.send_raw(&[*byte]).await;
    }
    client.receive::<ProduceRequest<'_>>(9).await;
    assert_eq!((passing.matches(), passing.hits()), (1, 0));
}

#[tokio::test]
async fn a_response_is_sent_twice() {
    let (cluster, mut client, _) = start().await;
    cluster.faults().add(Rule::on(ApiKey::Produce).duplicate_response());
    let id = client.send(9, &one_batch(0)).await;
    for _ in 0..2 {
        assert_eq!(client.receive::<ProduceRequest<'_>>(9).await.correlation_id(), id);
    }
    assert_eq!(end_of(&cluster, 0).await, 1);
}

#[tokio::test]
async fn a_response_can_be_anything() {
    let (cluster, mut client, _) = start().await;
    let rule = Rule::on(ApiKey::Produce).edit_response(|body| [body, b"and more"].concat());
    cluster.faults().add(rule);
    let answer = {
        client.send(9, &one_batch(0)).await;
        client.receive::<ProduceRequest<'_>>(9).await
    };
    assert!(answer.body().ends_with(b"and more"));
}

#[tokio::test]
async fn connections_are_refused_until_that_is_lifted() {
    let (cluster, mut client, _) = start().await;
    let fault = cluster.faults().add(Rule::refuse_connections());
    for _ in 0..3 {
        let mut refused = Client::connect(&cluster).await;
        assert!(refused.is_closed().await);
    }
    assert_eq!(fault.hits(), 3);
    assert_eq!(
        produce(&mut client, "t", 0, &batch(&[b"a"])).await.0,
        ErrorCode::None,
        "an old one lives"
    );
    fault.remove();
    assert_eq!(end_of(&cluster, 0).await, 1);
}

#[tokio::test]
async fn a_frozen_broker_keeps_connections_open_and_says_nothing_until_it_is_thawed() {
    let (cluster, mut client, _) = start().await;
    let watch = cluster.faults().add(Rule::on(ApiKey::Produce));
    cluster.faults().freeze();
    let id = client.send(9, &one_batch(0)).await;
    // The system completes the connection; the broker does not see it.
    let mut late = Client::connect(&cluster).await;
    late.send(0, &ApiVersionsRequest::default()).await;
    let mut byte = [0; 1];
    let silence = Duration::from_millis(50);
    assert!(
        tokio::time::timeout(silence, client.stream.read(&mut byte))
            .await
            .is_err()
    );
    assert!(
        tokio::time::timeout(silence, late.stream.read(&mut byte))
            .await
            .is_err()
    );
    assert_eq!((watch.matches(), cluster.faults().connections()), (0, 1));
    cluster.faults().thaw();
    assert_eq!(client.receive::<ProduceRequest<'_>>(9).await.correlation_id(), id);
    late.receive::<ApiVersionsRequest<'_>>(0).await;
    assert_eq!((watch.hits(), cluster.faults().connections()), (1, 2));
    // It can be stopped while it is frozen, and connections can be cut.
    cluster.faults().freeze();
    cluster.faults().disconnect_all();
    assert!(client.is_closed().await);
    cluster.stop().await.unwrap();
}

#[tokio::test]
async fn all_connections_are_cut_at_once_and_new_ones_are_welcome() {
    let (cluster, mut client, _) = start().await;
    let mut others = Vec::new();
    for _ in 0..10 {
        let mut other = Client::connect(&cluster).await;
        other.call(0, &ApiVersionsRequest::default()).await;
        others.push(other);
    }
    // One of them is owed an answer.
    let waiting = FetchRequest {
        max_wait_ms: 3_600_000,
        ..fetch_request("t", Uuid::ZERO, 1, 0)
    };
    others[0].send(12, &waiting).await;
    cluster.faults().disconnect_all();
    for other in others.iter_mut().chain([&mut client]) {
        assert!(other.is_closed().await);
    }
    assert_eq!(end_of(&cluster, 0).await, 0);
}

#[tokio::test]
async fn a_rule_means_what_its_conditions_say() {
    let (cluster, mut client, id) = start().await;
    let faults = cluster.faults();
    let code = ErrorCode::CorruptMessage;
    let listener = "PLAINTEXT";
    let cases = [
        (Rule::any(), true),
        (Rule::on(ApiKey::Fetch), false),
        (Rule::on(ApiKey::Fetch).or(ApiKey::Produce), true),
        (Rule::any().topic("t"), true),
        (Rule::any().topic("u"), false),
        (Rule::any().partition(0), true),
        (Rule::any().partition(1), false),
        (Rule::any().client_id("test"), true),
        (Rule::any().client_id("other"), false),
        (Rule::any().versions(13..=13), true),
        (Rule::any().versions(3..=12), false),
        (Rule::any().listener(listener), true),
        (Rule::any().listener("OTHER"), false),
        (Rule::any().connection(1), true),
        (Rule::any().connection(2), false),
        (
            Rule::any().when(|seen| {
                seen.decode::<ProduceRequest<'_>>()
                    .is_some_and(|request| request.acks == -1)
            }),
            true,
        ),
        (Rule::any().when(|seen| seen.peer.port() == 0), false),
    ];
    for (rule, meant) in cases {
        let fault = faults.add(rule.error_before(code));
        let request = produce_request("", id, 0, -1, batch(&[b"a"]).to_vec().into());
        let answer = client.call(13, &request).await;
        let told = codes(&answer.decode())[0].1;
        assert_eq!(told, if meant { code.code() } else { 0 }, "{}", fault.rule());
        assert_eq!(
            (fault.matches(), fault.hits()),
            (u64::from(meant), u64::from(meant)),
            "{}",
            fault.rule()
        );
        fault.remove();
    }
}

async fn outcomes(client: &mut Client, count: usize) -> Vec<i16> {
    let mut outcomes = Vec::new();
    for _ in 0..count {
        let answer = client.call(9, &one_batch(0)).await;
        outcomes.push(codes(&answer.decode())[0].1);
    }
    outcomes
}

#[tokio::test]
async fn a_rule_fires_as_often_as_it_says() {
    let (cluster, mut client, _) = start().await;
    let faults = cluster.faults();
    let rule = || Rule::on(ApiKey::Produce).error_before(ErrorCode::CorruptMessage);
    let fault = faults.add(rule().skip(2).times(3));
    assert_eq!(outcomes(&mut client, 8).await, [0, 0, 2, 2, 2, 0, 0, 0]);
    assert_eq!((fault.matches(), fault.hits()), (8, 3));
    fault.remove();
    // Chance is the seed's: the same seed does the same, another one does not, and it is about as often as it says.
    let mut seen = Vec::new();
    for seed in [1, 1, 2] {
        let fault = faults.add(rule().probability(0.25, seed));
        seen.push(outcomes(&mut client, 200).await);
        assert!((20..80).contains(&fault.hits()), "{}", fault.hits());
        fault.remove();
    }
    assert_eq!(seen[0], seen[1]);
    assert_ne!(seen[0], seen[2]);
    for (probability, hits) in [(0.0, 0), (1.0, 20)] {
        let fault = faults.add(rule().probability(probability, 3));
        outcomes(&mut client, 20).await;
        assert_eq!(fault.hits(), hits);
        fault.remove();
    }
}

#[tokio::test]
async fn rules_are_a_stack_in_the_order_in_which_they_were_added_and_watchers_do_not_count_as_one() {
    let (cluster, mut client, _) = start().await;
    let faults = cluster.faults();
    let watch = faults.add("api=Produce".parse().unwrap());
    for code in [6, 7, 20] {
        faults.add(format!("api=Produce error_after={code} times=1").parse().unwrap());
    }
    assert_eq!(outcomes(&mut client, 4).await, [6, 7, 20, 0]);
    assert_eq!((watch.matches(), watch.hits(), end_of(&cluster, 0).await), (4, 4, 4));
}

#[tokio::test]
async fn who_waits_for_a_fault_is_told_when_it_happens_or_can_no_longer_happen() {
    let (cluster, mut client, _) = start().await;
    let fault = cluster.faults().add(
        Rule::on(ApiKey::Produce)
            .error_before(ErrorCode::CorruptMessage)
            .skip(1),
    );
    let waiting = tokio::spawn({
        let fault = fault.clone();
        async move { (fault.matched(1).await, fault.fired(2).await) }
    });
    outcomes(&mut client, 3).await;
    assert_eq!(waiting.await.unwrap(), (true, true));
    let waiting = tokio::spawn({
        let fault = fault.clone();
        async move { fault.fired(3).await }
    });
    cluster.faults().clear_all();
    assert!(!waiting.await.unwrap());
    assert!(!cluster.faults().is_armed());
    assert_eq!(outcomes(&mut client, 1).await, [0]);
    assert_eq!(fault.hits(), 2);
}

#[tokio::test]
async fn faults_are_those_of_one_broker() {
    let (one, mut client, _) = start().await;
    let two = Cluster::start().await.unwrap();
    two.faults().add(Rule::any().close_before());
    two.faults().add(Rule::refuse_connections());
    assert_eq!(produce(&mut client, "t", 0, &batch(&[b"a"])).await.0, ErrorCode::None);
    assert!(one.faults().is_quiet());
    assert!(!two.faults().is_quiet());
    let faults: Faults = two.faults().clone();
    faults.clear_all();
    let mut stream = TcpStream::connect(two.bootstrap_servers()).await.unwrap();
    stream.write_all(&raw_request(18, 0, 1, &[])).await.unwrap();
    assert!(stream.read_i32().await.unwrap() > 0);
}
