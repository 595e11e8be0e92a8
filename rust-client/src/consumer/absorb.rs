//! Takes a fetch answer apart.
//!
//! In: the answer to one fetch and what was asked. Out: data in the buffer, places that moved, errors for the
//! application. Believes nothing it did not ask for: unknown or repeated partitions are passed over, and data that
//! does not move the fetch offset is an error, because asking again would bring the same for ever. Within a fetch session
//! an answer leaves out the partitions of which there is nothing new; they are asked for again at once.

use std::collections::HashMap;
use std::sync::Arc;

use ottla_client_state::Time;
use ottla_client_state::metadata::{Leader, Node};
use ottla_client_state::subscription::{Brought, FetchTarget};
use ottla_protocol::messages::FetchResponse;
use ottla_protocol::messages::fetch_response::{NodeEndpoint, PartitionData};
use ottla_protocol::records::{RecordBatch, RecordBatches, RecordError};
use ottla_protocol::{ErrorCode, Uuid};

use super::decode::CompletedFetch;
use super::fetch_line::{Fetched, TOPIC_IDS_FROM};
use super::fetcher::{Shared, State, diverging, out_of_range};
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};

/// What an answer was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Absorbed {
    /// Good as a whole.
    Taken {
        news: News,
        /// The session that it was given in, 0 for none.
        session_id: i32,
        /// It told of nothing that was not asked for and, unless the request was partial, of everything that was.
        fits: bool,
    },
    /// Refused as a whole.
    Refused(Refusal),
}

/// What an answer leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct News {
    /// It calls for newer metadata.
    pub refresh: bool,
    /// It brought records, or nothing: no place was lost, no partition failed, and none is to be fetched from elsewhere.
    pub plain: bool,
}

impl News {
    pub(super) const NOTHING: News = News {
        refresh: false,
        plain: true,
    };
    pub(super) const TROUBLE: News = News {
        refresh: false,
        plain: false,
    };

    fn and(self, other: News) -> News {
        News {
            refresh: self.refresh || other.refresh,
            plain: self.plain && other.plain,
        }
    }
}

/// The error of an answer as a whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub code: i16,
    pub broker: Arc<str>,
}

/// Takes in the answer.
///
/// # Errors
/// The answer cannot be read.
pub(super) fn absorb(shared: &Shared, targets: &[FetchTarget], fetched: &Fetched, now: Time) -> Result<Absorbed> {
    let response = fetched.frame.decode()?;
    if response.error_code != 0 {
        return Ok(Absorbed::Refused(Refusal {
            code: response.error_code,
            broker: fetched.frame.broker().clone(),
        }));
    }
    let mut missing: HashMap<(&str, i32), &FetchTarget> = targets
        .iter()
        .map(|target| ((&*target.partition.topic, target.partition.partition), target))
        .collect();
    let (mut news, mut fits) = (News::NOTHING, true);
    for topic in &response.responses {
        let name = topic_name(fetched, topic.topic, topic.topic_id);
        for data in &topic.partitions {
            let Some(target) = name.and_then(|name| missing.remove(&(name, data.partition_index))) else {
                fits = false;
                continue;
            };
            news = news.and(absorb_partition(shared, target, data, &response, fetched, now));
        }
    }
    if !fetched.is_partial && !missing.is_empty() {
        fits = false;
        news.plain = false;
        let mut state = shared.lock();
        for target in missing.into_values() {
            // Left out of the answer: asked for again, but not at once.
            state
                .subscription
                .handle_fetch_failed(&target.partition, target.fence, now);
        }
    }
    Ok(Absorbed::Taken {
        news,
        session_id: response.session_id,
        fits,
    })
}

fn topic_name<'a>(fetched: &'a Fetched, name: &'a str, id: Uuid) -> Option<&'a str> {
    if fetched.frame.version() >= TOPIC_IDS_FROM {
        fetched.names.get(&id).map(|name| &**name)
    } else {
        Some(name)
    }
}

fn absorb_partition(
    shared: &Shared,
    target: &FetchTarget,
    data: &PartitionData<'_>,
    response: &FetchResponse<'_>,
    fetched: &Fetched,
    now: Time,
) -> News {
    let code = ErrorCode::from_code(data.error_code).unwrap_or(ErrorCode::UnknownServerError);
    if code == ErrorCode::None {
        let mut state = shared.lock();
        let end = (data.diverging_epoch.epoch, data.diverging_epoch.end_offset);
        // Nobody was asked where they part unless the fetch told an epoch.
        if end != (-1, -1) && target.last_epoch.is_some() {
            diverging(&mut state, target, end, now);
            return News::TROUBLE;
        }
        let mut news = News::NOTHING;
        if data.preferred_read_replica >= 0 {
            news.plain = false;
            let until = now.plus_ms(shared.config.client.metadata_max_age_ms);
            state
                .preferred
                .insert(target.partition.clone(), (data.preferred_read_replica, until));
        }
        if let Err(error) = absorb_data(&mut state, shared, target, data, fetched) {
            news.plain = false;
            state
                .subscription
                .handle_fetch_failed(&target.partition, target.fence, now);
            state.report(error.with_broker(fetched.frame.broker()));
        }
        return news;
    }
    tracing::debug!(partition = %target.partition, error = code.name(), "a partition could not be fetched");
    let leader = Leader {
        node_id: data.current_leader.leader_id,
        epoch: data.current_leader.leader_epoch,
    };
    let told_by = fetched.frame.broker();
    let TopicPartitionName { topic, partition } = TopicPartitionName::of(target);
    let newer = shared.client.update_leader(
        topic,
        partition,
        leader,
        node_of(leader, &response.node_endpoints),
        told_by,
    );
    take_in_refusal(shared, target, code, data.log_start_offset, fetched, now);
    // A leader that does not know its high watermark yet was elected just now: there may be more news.
    News {
        refresh: (code.refreshes_metadata() || code == ErrorCode::OffsetNotAvailable) && !newer,
        plain: false,
    }
}

/// What the error of a partition leads to.
fn take_in_refusal(
    shared: &Shared,
    target: &FetchTarget,
    code: ErrorCode,
    log_start: i64,
    fetched: &Fetched,
    now: Time,
) {
    let leader = shared
        .client
        .metadata()
        .leader_of(&target.partition.topic, target.partition.partition);
    let from_leader = leader.is_none_or(|leader| leader.node_id == fetched.node_id);
    let mut state = shared.lock();
    state.preferred.remove(&target.partition);
    match code {
        ErrorCode::OffsetOutOfRange if from_leader => out_of_range(&mut state, target, log_start, now),
        ErrorCode::OffsetOutOfRange => {
            // A follower may have less of the log than its leader, who is asked before anything is decided.
            tracing::debug!(
                partition = %target.partition, offset = target.offset, node = fetched.node_id,
                "a follower does not have this offset; asking the leader"
            );
            state
                .subscription
                .handle_fetch_failed(&target.partition, target.fence, now);
        }
        code if code.retriable() || code == ErrorCode::UnknownServerError => {
            state
                .subscription
                .handle_fetch_failed(&target.partition, target.fence, now);
        }
        code => {
            state
                .subscription
                .handle_fetch_failed(&target.partition, target.fence, now);
            let error = Error::from_code(code.code(), &target.partition).with_broker(fetched.frame.broker());
            state.report(error.with_partition(&target.partition, Some(target.offset)));
        }
    }
}

struct TopicPartitionName<'a> {
    topic: &'a str,
    partition: i32,
}

impl<'a> TopicPartitionName<'a> {
    fn of(target: &'a FetchTarget) -> Self {
        TopicPartitionName {
            topic: &target.partition.topic,
            partition: target.partition.partition,
        }
    }
}

fn node_of(leader: Leader, endpoints: &[NodeEndpoint<'_>]) -> Option<Node> {
    let endpoint = endpoints.iter().find(|endpoint| endpoint.node_id == leader.node_id)?;
    Node::told(leader.node_id, endpoint.host, endpoint.port, endpoint.rack)
}

fn absorb_data(
    state: &mut State,
    shared: &Shared,
    target: &FetchTarget,
    data: &PartitionData<'_>,
    fetched: &Fetched,
) -> Result<()> {
    let partition = &target.partition;
    let corrupt = |what: String| {
        Error::new(
            ErrorKind::Corrupt,
            format!("{partition}: at offset {}: {what}", target.offset),
        )
        .with_partition(partition, Some(target.offset))
    };
    let records = data.records.as_slice().unwrap_or_default();
    let run = measure(records).map_err(|error| corrupt(error.to_string()))?;
    if run.bytes == 0 {
        if !records.is_empty() {
            return Err(corrupt("the broker sent only the beginning of a batch".to_owned()));
        }
        let nothing = Brought {
            next_offset: target.offset,
            last_epoch: None,
            bytes: 0,
            high_watermark: data.high_watermark,
        };
        state.subscription.handle_fetched(partition, target.fence, nothing);
        return Ok(());
    }
    if run.next_offset <= target.offset {
        return Err(corrupt(format!(
            "the broker sent records only up to offset {}",
            run.next_offset
        )));
    }
    let brought = Brought {
        next_offset: run.next_offset,
        last_epoch: Some(run.last_epoch).filter(|epoch| *epoch >= 0),
        bytes: run.bytes,
        high_watermark: data.high_watermark,
    };
    let wanted = state.subscription.handle_fetched(partition, target.fence, brought);
    if wanted {
        let whole = records.get(..run.bytes).unwrap_or_default();
        let aborted = (shared.isolation() == IsolationLevel::ReadCommitted).then(|| {
            let list = data.aborted_transactions.as_deref().unwrap_or_default();
            list.iter()
                .map(|aborted| (aborted.producer_id, aborted.first_offset))
                .collect()
        });
        state.buffer.push(CompletedFetch {
            partition: partition.clone(),
            fence: target.fence,
            offset: target.offset,
            batches: fetched.frame.frame().slice_ref(whole),
            aborted,
        });
    }
    Ok(())
}

/// The whole batches at the beginning of a run.
pub(super) struct Run {
    pub bytes: usize,
    next_offset: i64,
    /// Of the last batch.
    last_epoch: i32,
}

/// Refuses a batch before the beginning of every log: taken for read already, it would be passed over in silence.
fn of_a_log(batch: RecordBatch<'_>) -> Result<RecordBatch<'_>, RecordError> {
    if batch.base_offset() < 0 {
        return Err(RecordError::InvalidOffsets {
            base_offset: batch.base_offset(),
            last_offset_delta: batch.last_offset_delta(),
        });
    }
    Ok(batch)
}

/// Reads the headers of all whole batches.
///
/// # Errors
/// The first batch is malformed, or at no offset that a log has. If a later one is, the run ends before it: what is good
/// is handed over first, and the next fetch begins with the bad one.
pub(super) fn measure(records: &[u8]) -> Result<Run, RecordError> {
    let mut run = Run {
        bytes: 0,
        next_offset: -1,
        last_epoch: -1,
    };
    for batch in RecordBatches::new(records) {
        match batch.and_then(of_a_log) {
            Ok(batch) => {
                run.bytes += batch.size();
                run.next_offset = run.next_offset.max(batch.next_offset());
                run.last_epoch = batch.partition_leader_epoch();
            }
            Err(error) if run.bytes == 0 => return Err(error),
            Err(_) => break,
        }
    }
    Ok(run)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tests::Batch;

    #[test]
    fn a_batch_before_the_beginning_of_the_log_is_refused_and_not_passed_over() {
        let (before, after) = (Batch::new(-1, 2).bytes(), Batch::new(5, 2).bytes());
        let refused = RecordError::InvalidOffsets {
            base_offset: -1,
            last_offset_delta: 1,
        };
        assert_eq!(measure(&[&before[..], &after].concat()).err(), Some(refused));
        let run = measure(&[&after[..], &before, &after].concat()).unwrap();
        assert_eq!((run.bytes, run.next_offset), (after.len(), 7));
    }
}
