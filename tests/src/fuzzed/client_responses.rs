//! Any bytes as the answer to each request that the client sends, and on into what the client makes of it: the picture of
//! the cluster, the batches of a producer, the records of a consumer.

use std::sync::Arc;

use bytes::Bytes;
use ottla::fuzzing::read_fetched;
use ottla_client_state::metadata::{ClusterSnapshot, Leader, Node, Scope};
use ottla_client_state::sequence::{Answer, Attempted, Outcome, Persisted, judge};
use ottla_protocol::messages::*;
use ottla_protocol::wire::Reader;
use ottla_protocol::{ApiKey, Message, frame};

use super::{byte, sized};

/// What the client asks.
const ASKED: [ApiKey; 13] = [
    ApiKey::Metadata,
    ApiKey::Fetch,
    ApiKey::Produce,
    ApiKey::ListOffsets,
    ApiKey::ApiVersions,
    ApiKey::InitProducerId,
    ApiKey::CreateTopics,
    ApiKey::DeleteTopics,
    ApiKey::CreatePartitions,
    ApiKey::DescribeConfigs,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::DescribeCluster,
    ApiKey::DescribeTopicPartitions,
];

/// Runs the target on `bytes`: answers one after the other, each behind its API, version and length.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    let mut snapshot = ClusterSnapshot::default();
    while !rest.is_empty() {
        let choice = usize::from(byte(&mut rest));
        let version = i16::from(byte(&mut rest));
        let answer = sized(&mut rest);
        if choice == 255 {
            // Batches without an answer around them: they are reached sooner.
            fetched(answer, i64::from(version));
            continue;
        }
        let key = ASKED[choice % ASKED.len()];
        let version = version % (key.last_version() + 1);
        let Ok((_, body_at)) = frame::decode_response_header(key, version, answer) else {
            continue;
        };
        take_in(&mut snapshot, key, version, answer.get(body_at..).unwrap_or_default());
    }
}

fn read<'a, M: Message<'a>>(body: &'a [u8], version: i16) -> Option<M> {
    M::decode(&mut Reader::new(body), version).ok()
}

fn take_in(snapshot: &mut ClusterSnapshot, key: ApiKey, version: i16, body: &[u8]) {
    match key {
        ApiKey::Metadata => {
            if let Some(response) = read::<MetadataResponse<'_>>(body, version) {
                let scope = if response.topics.len() % 2 == 0 {
                    Scope::All
                } else {
                    Scope::Some
                };
                *snapshot = snapshot.merged(&response, scope);
                is_sane(snapshot);
            }
        }
        ApiKey::Produce => {
            if let Some(response) = read::<ProduceResponse<'_>>(body, version) {
                produced(snapshot, &response);
            }
        }
        ApiKey::Fetch => {
            let Some(response) = read::<FetchResponse<'_>>(body, version) else {
                return;
            };
            for data in response.responses.iter().flat_map(|topic| &topic.partitions) {
                fetched(data.records.as_slice().unwrap_or_default(), data.log_start_offset);
            }
        }
        ApiKey::ListOffsets => drop(read::<ListOffsetsResponse<'_>>(body, version)),
        ApiKey::ApiVersions => drop(read::<ApiVersionsResponse<'_>>(body, version)),
        ApiKey::InitProducerId => drop(read::<InitProducerIdResponse>(body, version)),
        ApiKey::CreateTopics => drop(read::<CreateTopicsResponse<'_>>(body, version)),
        ApiKey::DeleteTopics => drop(read::<DeleteTopicsResponse<'_>>(body, version)),
        ApiKey::CreatePartitions => drop(read::<CreatePartitionsResponse<'_>>(body, version)),
        ApiKey::DescribeConfigs => drop(read::<DescribeConfigsResponse<'_>>(body, version)),
        ApiKey::IncrementalAlterConfigs => drop(read::<IncrementalAlterConfigsResponse<'_>>(body, version)),
        ApiKey::DescribeCluster => drop(read::<DescribeClusterResponse<'_>>(body, version)),
        _ => drop(read::<DescribeTopicPartitionsResponse<'_>>(body, version)),
    }
}

/// What the rest of the client relies on.
fn is_sane(snapshot: &ClusterSnapshot) {
    assert!(
        snapshot
            .nodes()
            .all(|node| node.port > 0 && !node.host.is_empty() && node.id >= 0)
    );
    for topic in snapshot.topics() {
        assert!(!topic.name.is_empty());
        let mut last = -1;
        for partition in &topic.partitions {
            assert!(partition.partition > last, "sorted, each once");
            last = partition.partition;
            assert_eq!(topic.partition(last), Some(partition));
            if let Some(leader) = snapshot.leader_of(&topic.name, last) {
                assert!(snapshot.node(leader.node_id).is_some());
            }
        }
        assert!(topic.partition_count() <= 1_000_001);
    }
}

fn produced(snapshot: &mut ClusterSnapshot, response: &ProduceResponse<'_>) {
    for part in response.responses.iter().flat_map(|topic| &topic.partition_responses) {
        let hint = &part.current_leader;
        let endpoint = response
            .node_endpoints
            .iter()
            .find(|node| node.node_id == hint.leader_id);
        let node = endpoint.and_then(|node| Node::told(node.node_id, node.host, node.port, node.rack));
        let leader = Leader {
            node_id: hint.leader_id,
            epoch: hint.leader_epoch,
        };
        let names: Vec<Arc<str>> = snapshot.topics().map(|topic| topic.name.clone()).collect();
        for name in names {
            if let Some(next) = snapshot.with_leader(&name, part.index, leader, node.clone()) {
                *snapshot = next;
            }
        }
        is_sane(snapshot);
        let record_errors = part.record_errors.iter();
        let answer = Answer {
            code: part.error_code,
            base_offset: part.base_offset,
            log_append_time: part.log_append_time_ms,
            message: part.error_message.map(Arc::from),
            record_errors: record_errors
                .map(|error| (u32::try_from(error.batch_index).unwrap_or(u32::MAX), None))
                .collect(),
        };
        let attempted = Attempted {
            idempotent: part.index % 2 == 0,
            first: part.index % 3 == 0,
            overtaken: part.index % 5 == 0,
            records: 3,
            attempts: 1,
            retries: 1,
            persisted: Persisted::Possibly,
        };
        let judgement = judge(&attempted, &Outcome::Answered(answer));
        assert_ne!(judgement.persisted, Persisted::No, "certainty may not grow");
    }
}

fn fetched(records: &[u8], offset: i64) {
    let aborted = (offset % 2 == 0).then(|| vec![(offset, offset), (7, 0)]);
    let outcome = read_fetched(Bytes::copy_from_slice(records), offset.max(0), aborted);
    assert!(outcome.position >= offset.max(0), "a position never goes back");
    assert!(outcome.records <= records.len().saturating_mul(2_000));
}
