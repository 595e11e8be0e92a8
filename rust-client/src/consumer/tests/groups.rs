//! A member of a group against a coordinator that follows a script.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla_client_state::membership::Phase;
use ottla_protocol::messages::consumer_protocol_assignment::TopicPartition as Assigned;
use ottla_protocol::messages::find_coordinator_response::Coordinator;
use ottla_protocol::messages::offset_commit_response::{OffsetCommitResponsePartition, OffsetCommitResponseTopic};
use ottla_protocol::messages::offset_fetch_response::{
    OffsetFetchResponseGroup, OffsetFetchResponsePartitions, OffsetFetchResponseTopics,
};
use ottla_protocol::messages::*;
use ottla_protocol::wire::Writer;
use ottla_protocol::{ApiKey, ErrorCode, Message};

use super::{Data, PATIENCE, fetch_answer, log_from, poll, tp};
use crate::consumer::*;
use crate::tests::{Asked, FakeBroker, Reply, TOPIC_ID};

/// What the coordinator does next. A code of 0 is no error.
#[derive(Default)]
struct Script {
    /// Partitions that the member is given.
    assigned: Vec<i32>,
    generation: i32,
    heartbeat: i16,
    join: i16,
    /// The codes of the next commits; 0 when there is none left.
    commits: Vec<i16>,
    /// The codes of the next questions for committed offsets.
    fetches: Vec<i16>,
    committed: BTreeMap<i32, i64>,
    /// Nothing of a group is answered any more.
    silent: bool,
    /// The log: requests by name, in order.
    heard: Vec<&'static str>,
}

type Shared = Arc<Mutex<Script>>;

/// The bytes of the assignment of these partitions.
fn assignment(partitions: &[i32]) -> Vec<u8> {
    let topic = Assigned {
        topic: "orders",
        partitions: partitions.to_vec(),
    };
    let mut writer = Writer::new();
    writer.i16(0);
    ConsumerProtocolAssignment {
        assigned_partitions: vec![topic],
        user_data: None,
    }
    .encode(&mut writer, 0);
    writer.into_vec().unwrap()
}

fn answer(script: &Shared, asked: &Asked<'_>) -> Reply {
    let mut script = script.lock().unwrap();
    if matches!(
        asked.api,
        ApiKey::Fetch | ApiKey::Metadata | ApiKey::ApiVersions | ApiKey::ListOffsets
    ) {
        drop(script);
        return match asked.api {
            ApiKey::Fetch => fetch_answer(asked, |_, offset| {
                if offset < 10 {
                    log_from(offset, 1)
                } else {
                    Data {
                        high_watermark: 10,
                        ..Data::default()
                    }
                }
            }),
            _ => asked.usual(),
        };
    }
    script.heard.push(asked.api.name());
    if script.silent {
        return Reply::Silence;
    }
    match asked.api {
        ApiKey::FindCoordinator => asked.answer(&FindCoordinatorResponse {
            coordinators: vec![Coordinator {
                key: "maps",
                node_id: 1,
                host: "127.0.0.1",
                port: asked.port.into(),
                ..Default::default()
            }],
            ..Default::default()
        }),
        ApiKey::JoinGroup => {
            if script.join == 0 {
                script.generation += 1;
            }
            asked.answer(&JoinGroupResponse {
                error_code: script.join,
                generation_id: script.generation,
                protocol_type: Some("consumer"),
                protocol_name: Some("range"),
                leader: "another",
                member_id: "member",
                ..Default::default()
            })
        }
        ApiKey::SyncGroup => {
            script.heartbeat = 0;
            asked.answer(&SyncGroupResponse {
                protocol_type: Some("consumer"),
                protocol_name: Some("range"),
                assignment: &assignment(&script.assigned),
                ..Default::default()
            })
        }
        ApiKey::Heartbeat => asked.answer(&HeartbeatResponse {
            error_code: script.heartbeat,
            ..Default::default()
        }),
        ApiKey::LeaveGroup => asked.answer(&LeaveGroupResponse::default()),
        ApiKey::OffsetFetch => offset_fetch(&mut script, asked),
        ApiKey::OffsetCommit => offset_commit(&mut script, asked),
        _ => asked.usual(),
    }
}

fn offset_fetch(script: &mut Script, asked: &Asked<'_>) -> Reply {
    let request: OffsetFetchRequest<'_> = asked.request();
    let code = if script.fetches.is_empty() {
        0
    } else {
        script.fetches.remove(0)
    };
    let indexes = request.groups[0]
        .topics
        .iter()
        .flatten()
        .flat_map(|topic| &topic.partition_indexes);
    let partitions = indexes.map(|index| OffsetFetchResponsePartitions {
        partition_index: *index,
        committed_offset: script.committed.get(index).copied().unwrap_or(-1),
        error_code: code,
        ..Default::default()
    });
    let topic = OffsetFetchResponseTopics {
        topic_id: TOPIC_ID,
        partitions: partitions.collect(),
        ..Default::default()
    };
    asked.answer(&OffsetFetchResponse {
        groups: vec![OffsetFetchResponseGroup {
            group_id: "maps",
            topics: vec![topic],
            error_code: 0,
        }],
        ..Default::default()
    })
}

fn offset_commit(script: &mut Script, asked: &Asked<'_>) -> Reply {
    let request: OffsetCommitRequest<'_> = asked.request();
    let code = if script.commits.is_empty() {
        0
    } else {
        script.commits.remove(0)
    };
    let mut partitions = Vec::new();
    for partition in request.topics.iter().flat_map(|topic| &topic.partitions) {
        if code == 0 {
            script
                .committed
                .insert(partition.partition_index, partition.committed_offset);
        }
        partitions.push(OffsetCommitResponsePartition {
            partition_index: partition.partition_index,
            error_code: code,
        });
    }
    asked.answer(&OffsetCommitResponse {
        topics: vec![OffsetCommitResponseTopic {
            topic_id: TOPIC_ID,
            partitions,
            ..Default::default()
        }],
        ..Default::default()
    })
}

/// A broker that is the coordinator of group `maps`, and its script: partition 0 is given to the member.
async fn coordinator() -> (FakeBroker, Shared) {
    let script = Shared::default();
    script.lock().unwrap().assigned = vec![0];
    let told = script.clone();
    let broker = FakeBroker::start(move |asked: &Asked<'_>| answer(&told, asked)).await;
    (broker, script)
}

fn member(broker: &FakeBroker) -> ConsumerBuilder {
    Consumer::builder()
        .bootstrap_servers(broker.address())
        .auto_offset_reset("earliest")
        .group_id("maps")
        .topics(["orders"])
        .max_poll_records(1)
        .set("heartbeat.interval.ms", 20)
        .set("retry.backoff.ms", 10)
        .set("reconnect.backoff.ms", 10)
}

/// Waits until something is so.
async fn until(what: &str, so: impl Fn() -> bool) {
    let waited = async {
        while !so() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waited).await.expect(what);
}

#[tokio::test]
async fn a_member_starts_where_its_group_has_committed() {
    let (broker, script) = coordinator().await;
    script.lock().unwrap().committed.insert(0, 4);
    // An open transaction commits offsets: the answer is not final yet.
    script.lock().unwrap().fetches = vec![ErrorCode::UnstableOffsetCommit.code(); 2];
    let mut consumer = member(&broker).read_committed(true).build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [4]);
    assert_eq!(consumer.assignment(), [tp(0)]);
    let metadata = consumer.group_metadata().unwrap();
    assert_eq!((&*metadata.member_id, metadata.generation_id), ("member", 1));
}

#[tokio::test]
async fn a_poll_says_that_what_earlier_polls_gave_is_processed_and_no_more() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker).set("auto.commit.interval.ms", 5).build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    assert_eq!(poll(&mut consumer).await.unwrap(), [1]);
    until("the first record is committed", || {
        script.lock().unwrap().committed.get(&0) == Some(&1)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(
        script.lock().unwrap().committed.get(&0),
        Some(&1),
        "the second one is in hand"
    );
    let closed = consumer.close(PATIENCE).await;
    assert!(closed.finished, "{closed:?}");
    assert_eq!(closed.unprocessed, BTreeMap::from([(tp(0), 2)]));
    assert_eq!(script.lock().unwrap().committed.get(&0), Some(&1));
    assert_eq!(script.lock().unwrap().heard.last(), Some(&"LeaveGroup"));
}

#[tokio::test]
async fn with_offsets_stored_by_hand_nothing_else_is_committed() {
    let (broker, script) = coordinator().await;
    let by_hand = member(&broker)
        .set("auto.commit.interval.ms", 5)
        .set("enable.auto.offset.store", false);
    let mut consumer = by_hand.build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    assert_eq!(poll(&mut consumer).await.unwrap(), [1]);
    consumer.commit().await.unwrap();
    assert!(script.lock().unwrap().committed.is_empty());
    consumer.store_offsets([(tp(0), 1)]).unwrap();
    assert_eq!(
        consumer.store_offsets([(tp(1), 1)]).unwrap_err().kind(),
        ErrorKind::Fenced
    );
    until("what was stored is committed", || {
        script.lock().unwrap().committed.get(&0) == Some(&1)
    })
    .await;
}

#[tokio::test]
async fn a_late_commit_is_refused_and_told_and_the_membership_is_lost_once() {
    for code in [ErrorCode::IllegalGeneration, ErrorCode::UnknownMemberId] {
        let (broker, script) = coordinator().await;
        let mut consumer = member(&broker).enable_auto_commit(false).build().await.unwrap();
        let records = tokio::time::timeout(PATIENCE, consumer.poll())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        script.lock().unwrap().commits = vec![code.code()];
        let error = consumer.commit_records(&records).await.unwrap_err();
        assert_eq!((error.kind(), error.code()), (ErrorKind::Fenced, Some(code)), "{error}");
        assert!(error.to_string().contains("max.poll.interval.ms"), "{error}");
        let lost = poll(&mut consumer).await.unwrap_err();
        assert_eq!(lost.kind(), ErrorKind::Fenced, "{lost}");
        assert_eq!(
            poll(&mut consumer).await.unwrap(),
            [0],
            "told once; then it is a member again"
        );
        let stale = consumer.commit_records(&records).await.unwrap_err();
        assert_eq!(
            stale.kind(),
            ErrorKind::Fenced,
            "the partition came back, but somebody had it in between: {stale}"
        );
        assert!(script.lock().unwrap().committed.is_empty());
    }
}

#[tokio::test]
async fn partitions_are_committed_before_they_are_given_up_and_the_application_need_only_poll() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker)
        .set("partition.assignment.strategy", "range")
        .build()
        .await
        .unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    {
        let mut script = script.lock().unwrap();
        script.assigned = vec![1];
        script.heartbeat = ErrorCode::RebalanceInProgress.code();
        script.heard.clear();
    }
    // Until the application polls, the partition is kept: its record may be worked on.
    until("the rebalance begins", || {
        consumer.health().group.unwrap().phase == Phase::Revoking
    })
    .await;
    until("it goes on to say that it lives", || {
        let heard = &script.lock().unwrap().heard;
        heard.iter().filter(|heard| **heard == "Heartbeat").count() >= 4
    })
    .await;
    assert!(!script.lock().unwrap().heard.contains(&"JoinGroup"));
    assert_eq!(consumer.progress()[0].partition, tp(0));
    let records = tokio::time::timeout(PATIENCE, consumer.poll())
        .await
        .unwrap()
        .unwrap()
        .unwrap();
    assert_eq!(records.partitions(), [tp(1)]);
    let heard = script.lock().unwrap().heard.clone();
    let place = |name: &str| heard.iter().position(|heard| *heard == name).unwrap();
    assert!(place("OffsetCommit") < place("JoinGroup"), "{heard:?}");
    assert_eq!(script.lock().unwrap().committed.get(&0), Some(&1));
}

#[tokio::test]
async fn a_topic_of_the_subscription_that_may_not_be_read_is_told_once_and_the_others_are_read() {
    let script = Shared::default();
    script.lock().unwrap().assigned = vec![0];
    let broker = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata => {
            let mut told = crate::tests::metadata(asked.port);
            told.topics.push(metadata_response::MetadataResponseTopic {
                name: Some("secret"),
                error_code: ErrorCode::TopicAuthorizationFailed.code(),
                ..Default::default()
            });
            asked.answer(&told)
        }
        _ => answer(&script, asked),
    })
    .await;
    let mut consumer = member(&broker)
        .topics(["orders", "secret"])
        .set("metadata.max.age.ms", 20)
        .build()
        .await
        .unwrap();
    let (mut records, mut errors) = (0, Vec::new());
    while records < 3 || errors.is_empty() {
        match poll(&mut consumer).await {
            Ok(_) => records += 1,
            Err(error) => errors.push(error),
        }
    }
    let asked = broker.count(ApiKey::Metadata);
    until("more metadata come", || broker.count(ApiKey::Metadata) > asked + 3).await;
    assert_eq!(poll(&mut consumer).await.unwrap().len(), 1);
    let [error] = &errors[..] else { panic!("{errors:?}") };
    assert_eq!(error.code(), Some(ErrorCode::TopicAuthorizationFailed));
    assert!(error.to_string().contains("\"secret\""), "{error}");
}

#[tokio::test]
async fn what_was_processed_of_a_topic_is_committed_for_it_alone_whatever_has_its_name_now() {
    const GONE: u8 = 1;
    const ANEW: u8 = 2;
    let (state, script) = (Arc::new(AtomicU8::new(0)), Shared::default());
    script.lock().unwrap().assigned = vec![0];
    let (now, told) = (state.clone(), script.clone());
    let named = Arc::new(Mutex::new(Vec::new()));
    let names = named.clone();
    let broker = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata => {
            let mut answer = crate::tests::metadata(asked.port);
            match now.load(Ordering::SeqCst) {
                GONE => {
                    answer.topics[0].error_code = ErrorCode::UnknownTopicOrPartition.code();
                    answer.topics[0].partitions.clear();
                }
                ANEW => answer.topics[0].topic_id.0[0] ^= 1,
                _ => {}
            }
            asked.answer(&answer)
        }
        ApiKey::OffsetCommit => {
            let request: OffsetCommitRequest<'_> = asked.request();
            let told_as = request
                .topics
                .iter()
                .map(|topic| (topic.name.to_owned(), topic.topic_id));
            names.lock().unwrap().extend(told_as);
            answer(&told, asked)
        }
        _ => answer(&told, asked),
    })
    .await;
    let builder = member(&broker).set("metadata.max.age.ms", 20);
    let mut consumer = builder.set("enable.auto.commit", false).build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    assert_eq!(poll(&mut consumer).await.unwrap(), [1]);
    state.store(GONE, Ordering::SeqCst);
    until("the topic is gone", || {
        consumer.shared.client.metadata().topic("orders").is_none()
    })
    .await;
    consumer.commit().await.unwrap();
    // The coordinator does not know it any more, and another one is there before it is asked again.
    script.lock().unwrap().commits = vec![ErrorCode::UnknownTopicId.code(); 10_000];
    let (refused, ()) = tokio::join!(consumer.commit(), async {
        let asked = broker.count(ApiKey::OffsetCommit);
        until("it is asked", || broker.count(ApiKey::OffsetCommit) > asked).await;
        state.store(ANEW, Ordering::SeqCst);
    });
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::UnknownTopic, "{refused}");
    assert!(refused.to_string().contains("created anew"), "{refused}");
    let named = named.lock().unwrap();
    assert!(named.iter().all(|told| *told == (String::new(), TOPIC_ID)), "{named:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_static_member_that_unsubscribes_is_told_at_once_that_it_has_left() {
    let (broker, _) = coordinator().await;
    let mut consumer = member(&broker).group_instance_id("me").build().await.unwrap();
    // It sends no LeaveGroup, so no answer wakes who waits.
    for _ in 0..30 {
        assert_eq!(poll(&mut consumer).await.unwrap().len(), 1);
        tokio::time::timeout(PATIENCE, consumer.unsubscribe())
            .await
            .expect("it has left")
            .unwrap();
        consumer.subscribe(["orders"]).unwrap();
        consumer.seek_to_beginning(&tp(0)).unwrap_or_default();
    }
}

/// librdkafka #2933: a commit that failed in a rebalance left the partition assigned and not fetched.
#[tokio::test]
async fn a_commit_that_fails_in_a_rebalance_stops_no_partition() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker)
        .set("partition.assignment.strategy", "range")
        .build()
        .await
        .unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    {
        let mut script = script.lock().unwrap();
        script.heartbeat = ErrorCode::RebalanceInProgress.code();
        script.commits = vec![
            ErrorCode::CoordinatorLoadInProgress.code(),
            ErrorCode::GroupAuthorizationFailed.code(),
        ];
    }
    until("the rebalance begins", || {
        consumer.health().group.unwrap().phase == Phase::Revoking
    })
    .await;
    assert_eq!(
        poll(&mut consumer).await.unwrap(),
        [0],
        "nothing was committed, so it is read again"
    );
    assert_eq!(poll(&mut consumer).await.unwrap(), [1]);
}

#[tokio::test]
async fn polls_that_are_dropped_lose_no_record_and_no_step_of_a_rebalance() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker).build().await.unwrap();
    let mut seen = Vec::new();
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while seen.last() != Some(&9) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "{seen:?} {:#?}",
            consumer.health()
        );
        // Dropped at once, at whatever stage it is.
        let polled = tokio::time::timeout(Duration::from_micros(50), consumer.poll()).await;
        if let Ok(records) = polled {
            seen.extend(records.unwrap().unwrap().iter().map(|record| record.offset()));
            script.lock().unwrap().heartbeat = ErrorCode::RebalanceInProgress.code();
            until("a rebalance begins", || {
                consumer.health().group.unwrap().phase == Phase::Revoking
            })
            .await;
        }
    }
    assert_eq!(
        seen,
        (0..10).collect::<Vec<_>>(),
        "each once: all was committed before each rebalance"
    );
    assert!(script.lock().unwrap().generation > 3);
}

#[tokio::test]
async fn a_coordinator_that_moves_is_looked_up_again() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker).build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    let before = broker.count(ApiKey::FindCoordinator);
    script.lock().unwrap().heartbeat = ErrorCode::NotCoordinator.code();
    until("it is looked up", || broker.count(ApiKey::FindCoordinator) > before).await;
    script.lock().unwrap().heartbeat = 0;
    script.lock().unwrap().commits = vec![ErrorCode::NotCoordinator.code()];
    consumer.commit().await.unwrap();
    assert_eq!(script.lock().unwrap().committed.get(&0), Some(&1));
    assert_eq!(poll(&mut consumer).await.unwrap(), [1], "the membership goes on");
}

#[tokio::test]
async fn a_group_that_may_not_be_used_is_told_by_poll() {
    let (broker, script) = coordinator().await;
    script.lock().unwrap().join = ErrorCode::GroupAuthorizationFailed.code();
    let mut consumer = member(&broker).build().await.unwrap();
    let error = poll(&mut consumer).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
    assert!(error.to_string().contains("maps"), "{error}");
    script.lock().unwrap().join = 0;
    assert_eq!(poll(&mut consumer).await.unwrap(), [0], "the next poll tries again");
}

#[tokio::test]
async fn close_returns_by_its_deadline_when_the_coordinator_is_silent() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker).build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    assert_eq!(poll(&mut consumer).await.unwrap(), [1]);
    script.lock().unwrap().silent = true;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    let closed = consumer.close(Duration::from_secs(7)).await;
    let took = before.elapsed();
    assert!(
        took >= Duration::from_secs(6) && took <= Duration::from_millis(7_010),
        "{took:?}"
    );
    assert!(!closed.finished, "{closed:?}");
    assert!(closed.committed.is_empty());
}

#[tokio::test]
async fn close_returns_by_its_deadline_when_there_never_was_a_coordinator() {
    let (broker, script) = coordinator().await;
    script.lock().unwrap().silent = true;
    let consumer = member(&broker).build().await.unwrap();
    until("the coordinator is looked for", || {
        broker.count(ApiKey::FindCoordinator) > 0
    })
    .await;
    tokio::time::pause();
    let before = tokio::time::Instant::now();
    consumer.close(Duration::from_secs(7)).await;
    assert!(before.elapsed() <= Duration::from_millis(7_010));
}

#[tokio::test]
async fn a_dropped_consumer_commits_what_is_processed_and_leaves() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker).build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    assert_eq!(poll(&mut consumer).await.unwrap(), [1]);
    drop(consumer);
    until("it leaves", || script.lock().unwrap().heard.contains(&"LeaveGroup")).await;
    assert_eq!(
        script.lock().unwrap().committed.get(&0),
        Some(&1),
        "the second record was never said to be processed"
    );
}

#[tokio::test]
async fn without_a_group_there_is_nothing_to_commit_and_no_subscription() {
    let (broker, _) = coordinator().await;
    let consumer = Consumer::builder()
        .bootstrap_servers(broker.address())
        .build()
        .await
        .unwrap();
    for error in [
        consumer.commit().await.unwrap_err(),
        consumer.subscribe(["orders"]).unwrap_err(),
        consumer.committed(&[tp(0)]).await.unwrap_err(),
    ] {
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("group.id"), "{error}");
    }
    let builder = Consumer::builder()
        .bootstrap_servers(broker.address())
        .topics(["orders"]);
    assert!(builder.validate().unwrap_err().to_string().contains("group.id"));
}

#[tokio::test]
async fn partitions_are_assigned_by_the_application_or_by_the_group_and_never_both() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker).build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    assert_eq!(consumer.assign(&[tp(1)]).unwrap_err().kind(), ErrorKind::Argument);
    consumer.unsubscribe().await.unwrap();
    assert!(consumer.assignment().is_empty());
    consumer.assign(&[tp(1)]).unwrap();
    assert_eq!(consumer.subscribe(["orders"]).unwrap_err().kind(), ErrorKind::Argument);
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    consumer.commit().await.unwrap();
    assert_eq!(
        script.lock().unwrap().committed.get(&1),
        Some(&1),
        "commits work without a membership"
    );
}

#[tokio::test]
async fn a_seek_takes_back_what_was_processed_before_it() {
    let (broker, script) = coordinator().await;
    let mut consumer = member(&broker).enable_auto_commit(false).build().await.unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap(), [0]);
    consumer.seek(&tp(0), 5).unwrap();
    consumer.commit().await.unwrap();
    assert_eq!(
        script.lock().unwrap().committed.get(&0),
        Some(&5),
        "as in Java, the position is committed"
    );
    assert_eq!(poll(&mut consumer).await.unwrap(), [5]);
    let begun = consumer.commit_async();
    begun.await.unwrap();
    assert_eq!(script.lock().unwrap().committed.get(&0), Some(&6));
}

#[tokio::test]
async fn everything_a_consumer_waits_for_may_be_awaited_by_a_task() {
    fn sendable<T: Send>(value: T) -> T {
        value
    }
    let (broker, _) = coordinator().await;
    let mut consumer = member(&broker).build().await.unwrap();
    drop(sendable(consumer.poll()));
    drop(sendable(consumer.commit()));
    drop(sendable(consumer.commit_offsets([(tp(0), 1)])));
    drop(sendable(consumer.committed(&[tp(0)])));
    drop(sendable(consumer.unsubscribe()));
    drop(sendable(consumer.close(PATIENCE)));
    let admin = crate::Admin::builder()
        .bootstrap_servers(broker.address())
        .build()
        .await
        .unwrap();
    drop(sendable(admin.describe_consumer_groups(&["maps"])));
    drop(sendable(admin.list_groups(&[], &[])));
    drop(sendable(admin.delete_consumer_groups(&["maps"])));
    drop(sendable(admin.list_consumer_group_offsets("maps", false)));
    drop(sendable(admin.alter_consumer_group_offsets("maps", &BTreeMap::new())));
    drop(sendable(admin.remove_members_from_consumer_group("maps", &[], "")));
}
