//! Fetch sessions, and replicas nearby, against brokers that follow a script.

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use ottla_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, ErrorCode, Records};

use super::{PATIENCE, consumer, log_from, poll, tp};
use crate::consumer::*;
use crate::tests::{Asked, FakeBroker, Reply, TOPIC_ID, metadata};

/// What was said in a fetch: session, epoch, named partitions with their offsets, partitions taken back.
type Said = (i32, i32, Vec<(i32, i64)>, Vec<i32>);

fn said(request: &FetchRequest<'_>) -> Said {
    let named = request.topics.iter().flat_map(|topic| &topic.partitions);
    let forgotten = request.forgotten_topics_data.iter().flat_map(|topic| &topic.partitions);
    (
        request.session_id,
        request.session_epoch,
        named.map(|part| (part.partition, part.fetch_offset)).collect(),
        forgotten.copied().collect(),
    )
}

/// Partition, error, and the ten records from the offset on.
fn data(partition: i32, error: ErrorCode, records: &[u8], high_watermark: i64) -> PartitionData<'_> {
    PartitionData {
        partition_index: partition,
        error_code: error.code(),
        high_watermark,
        records: Records::Slice(records),
        ..Default::default()
    }
}

fn answer(asked: &Asked<'_>, session_id: i32, partitions: Vec<PartitionData<'_>>) -> Reply {
    let topic = FetchableTopicResponse {
        topic_id: TOPIC_ID,
        partitions,
        ..Default::default()
    };
    asked.answer(&FetchResponse {
        session_id,
        responses: if topic.partitions.is_empty() {
            vec![]
        } else {
            vec![topic]
        },
        ..Default::default()
    })
}

fn refusal(asked: &Asked<'_>, code: ErrorCode) -> Reply {
    asked.answer(&FetchResponse {
        error_code: code.code(),
        ..Default::default()
    })
}

/// A broker that answers its n-th fetch by the n-th of `answers`, and those after the last one never.
async fn scripted(
    answers: impl Fn(usize, &Asked<'_>) -> Option<Reply> + Send + Sync + 'static,
) -> (FakeBroker, Arc<Mutex<Vec<Said>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let heard = log.clone();
    let broker = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Fetch => {
            heard.lock().unwrap().push(said(&asked.request()));
            answers(asked.before, asked).unwrap_or(Reply::Silence)
        }
        _ => asked.usual(),
    })
    .await;
    (broker, log)
}

/// Waits until `log` has `count` entries, and gives them.
async fn heard(log: &Mutex<Vec<Said>>, count: usize) -> Vec<Said> {
    let all = async {
        loop {
            let heard = log.lock().unwrap().clone();
            if heard.len() >= count {
                return heard;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, all).await.expect("so many fetches")
}

#[tokio::test]
async fn within_a_session_what_is_not_told_is_not_new_and_is_no_failure() {
    let (broker, log) = scripted(|before, asked| {
        let nothing = |partition| data(partition, ErrorCode::None, &[], 0);
        match before {
            0 => Some(answer(asked, 9, vec![nothing(0), nothing(1)])),
            1 | 2 => Some(answer(asked, 9, vec![])),
            3 => {
                let records = log_from(0, 10).records;
                Some(answer(asked, 9, vec![data(0, ErrorCode::None, &records, 10)]))
            }
            4 => Some(answer(asked, 9, vec![])),
            _ => None,
        }
    })
    .await;
    // A failure would be seen: the partition would be taken back for a second.
    let mut consumer = Consumer::builder()
        .bootstrap_servers(broker.address())
        .auto_offset_reset("earliest")
        .set("retry.backoff.ms", 1000)
        .assign([tp(0), tp(1)])
        .build()
        .await
        .unwrap();
    assert_eq!(poll(&mut consumer).await.unwrap().len(), 10);
    let expected = [
        (0, 0, vec![(0, 0), (1, 0)], vec![]),
        (9, 1, vec![], vec![]),
        (9, 2, vec![], vec![]),
        (9, 3, vec![], vec![]),
        (9, 4, vec![(0, 10)], vec![]),
        (9, 5, vec![], vec![]),
    ];
    assert_eq!(heard(&log, 6).await, expected);
}

#[tokio::test]
async fn a_session_that_the_broker_lost_is_begun_anew_at_once() {
    for code in [
        ErrorCode::FetchSessionIdNotFound,
        ErrorCode::InvalidFetchSessionEpoch,
        ErrorCode::FetchSessionTopicIdError,
    ] {
        let (broker, log) = scripted(move |before, asked| match before {
            0 => Some(answer(asked, 9, vec![data(0, ErrorCode::None, &[], 0)])),
            1 => Some(refusal(asked, code)),
            2 => {
                let records = log_from(0, 10).records;
                Some(answer(asked, 10, vec![data(0, ErrorCode::None, &records, 10)]))
            }
            _ => None,
        })
        .await;
        // Longer than the test waits.
        let backoff = [("retry.backoff.ms", "60000"), ("retry.backoff.max.ms", "60000")];
        let mut consumer = consumer(&broker, &backoff).await;
        assert_eq!(poll(&mut consumer).await.unwrap().len(), 10);
        let old = if code == ErrorCode::FetchSessionIdNotFound {
            0
        } else {
            9
        };
        let expected = [
            (0, 0, vec![(0, 0)], vec![]),
            (9, 1, vec![], vec![]),
            (old, 0, vec![(0, 0)], vec![]),
            (10, 1, vec![(0, 10)], vec![]),
        ];
        assert_eq!(heard(&log, 4).await, expected, "{code:?}");
    }
}

#[tokio::test]
async fn after_a_lost_connection_the_next_fetch_is_whole_and_ends_the_old_session() {
    let (broker, log) = scripted(|before, asked| match before {
        0 => Some(answer(asked, 9, vec![data(0, ErrorCode::None, &[], 0)])),
        1 => Some(Reply::Close(Vec::new())),
        _ => None,
    })
    .await;
    let _consumer = consumer(&broker, &[]).await;
    assert_eq!(heard(&log, 3).await[2], (9, 0, vec![(0, 0)], vec![]));
}

#[tokio::test]
async fn a_partition_that_is_not_wanted_is_taken_back() {
    let (broker, log) = scripted(|before, asked| match before {
        0..3 => {
            let request: FetchRequest<'_> = asked.request();
            let named = request.topics.iter().flat_map(|topic| &topic.partitions);
            let nothing = named.map(|part| data(part.partition, ErrorCode::None, &[], 0));
            Some(answer(asked, 9, nothing.collect()))
        }
        _ => Some(answer(asked, 9, vec![])),
    })
    .await;
    let consumer = consumer(&broker, &[]).await;
    heard(&log, 2).await;
    consumer.pause(&[tp(0)]).unwrap();
    consumer.assign(&[tp(0), tp(1)]).unwrap();
    let taken_back = async {
        loop {
            let heard = log.lock().unwrap().clone();
            if let Some(found) = heard.iter().find(|(.., forgotten)| !forgotten.is_empty()) {
                return found.clone();
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let (_, _, named, forgotten) = tokio::time::timeout(PATIENCE, taken_back).await.unwrap();
    assert_eq!((named, forgotten), (vec![(1, 0)], vec![0]));
}

#[tokio::test]
async fn a_consumer_that_closes_ends_its_session() {
    let (broker, log) = scripted(|before, asked| match before {
        0 => Some(answer(asked, 9, vec![data(0, ErrorCode::None, &[], 0)])),
        _ => Some(answer(asked, 9, vec![])),
    })
    .await;
    let consumer = consumer(&broker, &[]).await;
    heard(&log, 2).await;
    consumer.close(Duration::from_secs(10)).await;
    let ended = async {
        while log.lock().unwrap().last() != Some(&(9, -1, vec![], vec![])) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended)
        .await
        .expect("the session is ended");
}

/// The leader of everything, and node 2.
fn two_nodes(asked: &Asked<'_>, leader: u16, follower: u16) -> Reply {
    let mut response = metadata(leader);
    let mut other = response.brokers[0].clone();
    (other.node_id, other.port) = (2, follower.into());
    response.brokers.push(other);
    asked.answer(&response)
}

/// A leader that points to the replica on node 2 and tells metadata so many times, and that replica, which answers with an
/// error or with nothing.
async fn leader_and_follower(error: ErrorCode, tells: usize) -> (FakeBroker, FakeBroker, Arc<Mutex<Vec<Said>>>) {
    let log = Arc::new(Mutex::new(Vec::new()));
    let heard = log.clone();
    // Either is asked for metadata, and both must say the same. Nobody asks the follower before the leader has named it.
    let ports = Arc::new(OnceLock::new());
    let known = ports.clone();
    let follower = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata => two_nodes(asked, *known.get().unwrap(), asked.port),
        ApiKey::Fetch => {
            heard.lock().unwrap().push(said(&asked.request()));
            answer(asked, 5, vec![data(0, error, &[], -1)])
        }
        _ => asked.usual(),
    })
    .await;
    let port = follower.port;
    let leader = FakeBroker::start(move |asked: &Asked<'_>| match asked.api {
        ApiKey::Metadata if asked.before >= tells => Reply::Silence,
        ApiKey::Metadata => two_nodes(asked, *ports.get_or_init(|| asked.port), port),
        ApiKey::Fetch if asked.before == 0 => {
            let mut elsewhere = data(0, ErrorCode::None, &[], 10);
            elsewhere.preferred_read_replica = 2;
            answer(asked, 9, vec![elsewhere])
        }
        ApiKey::Fetch => {
            let request: FetchRequest<'_> = asked.request();
            let mut named = request.topics.iter().flat_map(|topic| &topic.partitions);
            match named.next() {
                Some(part) if part.fetch_offset < 10 => {
                    let records = log_from(part.fetch_offset, 10).records;
                    answer(asked, 9, vec![data(0, ErrorCode::None, &records, 10)])
                }
                _ => Reply::Silence,
            }
        }
        _ => asked.usual(),
    })
    .await;
    (leader, follower, log)
}

/// One fetch, and the end of the session when nothing is read from there any more.
fn asked_once(offset: i64) -> [Said; 2] {
    [(0, 0, vec![(0, offset)], vec![]), (5, -1, vec![], vec![])]
}

#[tokio::test]
async fn an_offset_that_a_follower_does_not_have_is_asked_of_the_leader_before_anything_is_reset() {
    let (leader, _follower, asked) = leader_and_follower(ErrorCode::OffsetOutOfRange, usize::MAX).await;
    // Without a policy a reset would be an error.
    let mut consumer = consumer(&leader, &[("auto.offset.reset", "none")]).await;
    consumer.seek(&tp(0), 4).unwrap();
    let offsets = poll(&mut consumer).await.unwrap();
    assert_eq!(offsets, [4, 5, 6, 7, 8, 9]);
    assert_eq!(heard(&asked, 2).await, asked_once(4));
}

#[tokio::test]
async fn a_replica_that_does_not_know_its_end_yet_is_left_for_the_leader_with_new_metadata() {
    let (leader, follower, asked) = leader_and_follower(ErrorCode::OffsetNotAvailable, usize::MAX).await;
    let mut consumer = consumer(&leader, &[]).await;
    // Of the cluster, and of the topic.
    let known = 2;
    assert_eq!(poll(&mut consumer).await.unwrap().len(), 10);
    assert_eq!(heard(&asked, 2).await, asked_once(0));
    let asked_again = async {
        while leader.count(ApiKey::Metadata) + follower.count(ApiKey::Metadata) <= known {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, asked_again)
        .await
        .expect("new metadata is asked for");
}

#[tokio::test]
async fn the_leader_is_asked_again_when_the_time_of_a_replica_nearby_is_over() {
    // Nobody stirs the consumer by newer metadata.
    let (leader, _follower, asked) = leader_and_follower(ErrorCode::None, 2).await;
    let mut consumer = consumer(&leader, &[("metadata.max.age.ms", "300")]).await;
    assert_eq!(poll(&mut consumer).await.unwrap().len(), 10);
    assert!(asked.lock().unwrap().len() > 1, "the replica was asked before");
}
