//! Looking up offsets: by timestamp, the first, the last (ListOffsets).
//!
//! In: partitions and what to look for. Out: an answer for each, from its leader. [`list_offsets`] asks once;
//! [`list_offsets_until`] asks again what failed, until a deadline.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_client_state::TopicPartition;
use ottla_client_state::backoff::Backoff;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::ListOffsetsRequest;
use ottla_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use tokio::time::Instant;

use crate::client::Client;
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};
use crate::net::Lane;

/// Asks for the end of a partition: the high watermark, or the last stable offset under `read_committed`.
pub(crate) const LATEST: i64 = -1;
/// Asks for the first offset that is still there.
pub(crate) const EARLIEST: i64 = -2;

/// The newest version of ListOffsets that is used.
const CAP: i16 = i16::MAX;

/// An offset that was looked up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; `None` when no record is that young.
    pub offset: Option<i64>,
    /// The timestamp of the record there, in milliseconds since 1970; `None` when the broker did not say.
    pub timestamp: Option<i64>,
    /// The leader epoch of the record there; `None` when the broker did not say.
    pub leader_epoch: Option<i32>,
}

/// Partitions and the timestamp (or [`LATEST`], [`EARLIEST`]) to look for.
pub(crate) type Queries = BTreeMap<TopicPartition, i64>;

/// An answer, or why there is none, for every partition asked for.
pub(crate) type Answers = BTreeMap<TopicPartition, Result<ListedOffset>>;

/// Asks the leaders once.
pub(crate) async fn list_offsets(client: &Arc<Client>, isolation: IsolationLevel, queries: &Queries) -> Answers {
    let snapshot = client.metadata();
    let mut answers = Answers::new();
    let mut by_leader: BTreeMap<i32, Vec<Query>> = BTreeMap::new();
    for (partition, timestamp) in queries {
        match snapshot.leader_of(&partition.topic, partition.partition) {
            Some(leader) => by_leader.entry(leader.node_id).or_default().push(Query {
                partition: partition.clone(),
                timestamp: *timestamp,
                leader_epoch: leader.epoch,
            }),
            None => {
                answers.insert(partition.clone(), Err(no_leader(partition)));
            }
        }
    }
    let mut tasks = tokio::task::JoinSet::new();
    for (node_id, queries) in by_leader {
        let client = client.clone();
        tasks.spawn(async move {
            let outcome = ask_leader(&client, node_id, isolation, &queries).await;
            (queries, outcome)
        });
    }
    while let Some(done) = tasks.join_next().await {
        let Ok((asked, outcome)) = done else { continue };
        match outcome {
            Ok(found) => answers.extend(found),
            Err(error) => answers.extend(asked.into_iter().map(|query| (query.partition, Err(error.clone())))),
        }
    }
    for partition in queries
        .keys()
        .filter(|partition| !answers.contains_key(partition))
        .cloned()
        .collect::<Vec<_>>()
    {
        let text = format!("{partition}: the broker left the partition out of its answer");
        answers.insert(
            partition,
            Err(Error::new(ErrorKind::Protocol, text).with_retriable(true)),
        );
    }
    if answers
        .values()
        .any(|answer| answer.as_ref().is_err_and(Error::retriable))
    {
        client.request_refresh();
    }
    answers
}

/// Asks until every partition has its answer, an error that will stay, or `deadline` has passed. Cancel-safe.
///
/// # Errors
/// The first error that will stay, or the last one at the deadline.
pub(crate) async fn list_offsets_until(
    client: &Arc<Client>,
    isolation: IsolationLevel,
    mut queries: Queries,
    deadline: Instant,
) -> Result<BTreeMap<TopicPartition, ListedOffset>> {
    let config = client.config();
    let mut backoff = Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms, rand::random());
    let topics: std::collections::BTreeSet<Arc<str>> =
        queries.keys().map(|partition| partition.topic.clone()).collect();
    for topic in topics {
        client.topic_metadata(&topic, deadline).await?;
    }
    let mut found = BTreeMap::new();
    let mut failures = 0;
    loop {
        let asking = tokio::time::timeout_at(deadline, list_offsets(client, isolation, &queries));
        let answers = asking
            .await
            .map_err(|_| Error::timeout("the offsets could not be looked up in time", None))?;
        let mut last_error = None;
        for (partition, answer) in answers {
            match answer {
                Ok(offset) => {
                    queries.remove(&partition);
                    found.insert(partition, offset);
                }
                Err(error) if error.retriable() => last_error = Some(error),
                Err(error) => return Err(error),
            }
        }
        let Some(error) = last_error else { return Ok(found) };
        failures += 1;
        let again = Instant::now() + std::time::Duration::from_millis(backoff.next_ms(failures));
        if again >= deadline {
            return Err(Error::timeout(
                "the offsets could not be looked up in time",
                Some(&error),
            ));
        }
        tokio::time::sleep_until(again).await;
    }
}

struct Query {
    partition: TopicPartition,
    timestamp: i64,
    leader_epoch: i32,
}

fn no_leader(partition: &TopicPartition) -> Error {
    Error::new(ErrorKind::Broker, format!("{partition} has no leader at the moment"))
        .with_code(ErrorCode::LeaderNotAvailable)
        .with_retriable(true)
}

async fn ask_leader(client: &Client, node_id: i32, isolation: IsolationLevel, queries: &[Query]) -> Result<Answers> {
    let mut topics: Vec<ListOffsetsTopic<'_>> = Vec::new();
    for query in queries {
        let partition = ListOffsetsPartition {
            partition_index: query.partition.partition,
            current_leader_epoch: query.leader_epoch,
            timestamp: query.timestamp,
        };
        match topics.last_mut().filter(|topic| topic.name == &*query.partition.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(ListOffsetsTopic {
                name: &query.partition.topic,
                partitions: vec![partition],
            }),
        }
    }
    let timeout_ms = i32::try_from(client.config().request_timeout.as_millis()).unwrap_or(i32::MAX);
    let request = ListOffsetsRequest {
        replica_id: -1,
        isolation_level: isolation.code(),
        topics,
        timeout_ms,
    };
    let frame = client.request(node_id, Lane::Other, CAP, &request).await?;
    let response = frame.decode()?;
    let mut answers = Answers::new();
    for topic in &response.topics {
        for answer in &topic.partitions {
            let asked = |query: &&Query| {
                &*query.partition.topic == topic.name && query.partition.partition == answer.partition_index
            };
            // What was not asked for is not an answer, and the first answer counts.
            let Some(query) = queries.iter().find(asked) else {
                continue;
            };
            let outcome = if answer.error_code != 0 {
                Err(Error::from_code(answer.error_code, &query.partition).with_broker(frame.broker()))
            } else {
                read_answer(query, answer.offset, answer.timestamp, answer.leader_epoch)
                    .map_err(|error| error.with_broker(frame.broker()))
            };
            answers.entry(query.partition.clone()).or_insert(outcome);
        }
    }
    Ok(answers)
}

/// Only -1, and only for a timestamp, may stand for "no such record".
fn read_answer(query: &Query, offset: i64, timestamp: i64, leader_epoch: i32) -> Result<ListedOffset> {
    if offset < 0 && !(offset == -1 && query.timestamp != LATEST && query.timestamp != EARLIEST) {
        let text = format!(
            "{}: the broker answered with the impossible offset {offset}",
            query.partition
        );
        return Err(Error::new(ErrorKind::Protocol, text).with_retriable(true));
    }
    Ok(ListedOffset {
        offset: Some(offset).filter(|offset| *offset >= 0),
        timestamp: Some(timestamp).filter(|timestamp| *timestamp >= 0),
        leader_epoch: Some(leader_epoch).filter(|epoch| *epoch >= 0),
    })
}
