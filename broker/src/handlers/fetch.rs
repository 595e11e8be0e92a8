//! Fetch (key 1), versions 4 to 18.
//!
//! - Answers at once when `min.bytes` are there, when a partition has an error, or when nothing is asked for; else it
//!   is parked until enough bytes become readable, and answers within `max.wait.ms` in any case.
//! - Gives whole batches as they lie in the log; the first may begin before the offset asked for. `max.bytes` (also
//!   bounded by the broker's `fetch.max.bytes`) and the partition's own limit are obeyed, except that the first batch
//!   of the response always comes, so that a large one cannot block a consumer.
//! - Consumers read below the high watermark, or below the last stable offset with read_committed.
//! - Epochs: FENCED_LEADER_EPOCH and UNKNOWN_LEADER_EPOCH from version 9; a diverging epoch from version 12, when the
//!   client's last fetched epoch does not lead to its offset in this log.
//! - Errors are per partition, and a partition in error has empty records, not null.
//!
//! - Sessions (KIP-227) from version 7: see `fetch_sessions` of the broker's mind. A client that gets none (session id
//!   0) goes on without. FETCH_SESSION_ID_NOT_FOUND, INVALID_FETCH_SESSION_EPOCH and FETCH_SESSION_TOPIC_ID_ERROR are
//!   errors of the whole response. Within a session only partitions with news are answered, and those that gave
//!   records stand at the end of the next answer.
//!
//! Not supported: followers (no partition has any; NOT_LEADER_OR_FOLLOWER).

use crate::handlers::{Context, Reply, ReplyTo};
use crate::purgatory::Waiter;
use crate::replica_manager::{Leadership, Partition, PartitionError};
use bytes::Bytes;
use ottla_broker_state::fetch_sessions::{Fetching, NO_SESSION, SessionError, SessionKey, Told, Wanted};
use ottla_broker_state::leader_epochs::EpochEndOffset as EpochEnd;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::fetch_response::{
    EpochEndOffset, FetchableTopicResponse, LeaderIdAndEpoch, NodeEndpoint, PartitionData,
};
use ottla_protocol::messages::{FetchRequest, FetchResponse};
use ottla_protocol::records::Compression;
use ottla_protocol::wire::{Records, Uuid};
use ottla_protocol::{ApiKey, ErrorCode};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// From this version on topics have ids, and no names.
const TOPIC_IDS_FROM: i16 = 13;

/// The request, as far as a parked one needs it.
struct Plan {
    version: i16,
    max_wait: Duration,
    min_bytes: usize,
    max_bytes: usize,
    read_committed: bool,
    /// It claims to be a follower.
    from_replica: bool,
    session: Session,
    topics: Vec<TopicPlan>,
}

/// What the answer has to do with a session.
enum Session {
    None,
    /// It may begin one of these partitions.
    Begins(Vec<Wanted>),
    Continues(i32),
}

/// Neighbours of one topic. Within a session a topic may come several times.
struct TopicPlan {
    name: Arc<str>,
    id: Uuid,
    partitions: Vec<PartitionPlan>,
}

struct PartitionPlan {
    index: i32,
    partition: Result<Arc<Partition>, ErrorCode>,
    leader_epoch: i32,
    last_fetched_epoch: i32,
    offset: i64,
    max_bytes: usize,
}

/// What is answered for one partition.
struct Outcome {
    index: i32,
    code: ErrorCode,
    leader: Option<Leadership>,
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
    diverging: Option<(i32, i64)>,
    batches: Vec<Bytes>,
}

impl Outcome {
    fn error(index: i32, code: ErrorCode, leader: Option<Leadership>) -> Self {
        Outcome {
            index,
            code,
            leader,
            high_watermark: -1,
            last_stable_offset: -1,
            log_start_offset: -1,
            diverging: None,
            batches: Vec::new(),
        }
    }
}

/// Why a partition gives nothing.
struct Refused {
    code: ErrorCode,
    leader: Option<Leadership>,
}

impl From<ErrorCode> for Refused {
    fn from(code: ErrorCode) -> Self {
        Refused { code, leader: None }
    }
}

impl From<PartitionError> for Refused {
    fn from(error: PartitionError) -> Self {
        Refused {
            code: error.code(),
            leader: error.leader_hint(),
        }
    }
}

/// All partitions of a request, looked at once.
struct Look {
    /// By topic, in the order of the request.
    outcomes: Vec<Vec<Outcome>>,
    bytes: usize,
    /// A partition has something to tell that must not wait: an error, or a diverging epoch.
    urgent: bool,
}

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: FetchRequest<'_>) -> Reply {
    let fetching = match begin(context, header.api_version, &request) {
        Ok(fetching) => fetching,
        Err(error) => {
            let error_code = match error {
                SessionError::IdNotFound => ErrorCode::FetchSessionIdNotFound,
                SessionError::InvalidEpoch => ErrorCode::InvalidFetchSessionEpoch,
                SessionError::TopicIds => ErrorCode::FetchSessionTopicIdError,
            };
            let response = FetchResponse {
                error_code: error_code.code(),
                ..Default::default()
            };
            return context.reply(header, &response);
        }
    };
    let to = ReplyTo::new(ApiKey::Fetch, header);
    let plan = Plan::new(context, header.api_version, &request, fetching);
    if plan.is_hot() {
        let look = plan.look();
        if look.urgent || look.bytes >= plan.min_bytes || plan.max_wait.is_zero() || plan.is_empty() {
            return plan.answer(context, to, look);
        }
    }
    let deadline = Instant::now() + plan.max_wait;
    let parked = Parked {
        waiter: Waiter::new(1),
        plan: Arc::new(plan),
    };
    Reply::Parked(Box::pin(parked.answered(context.clone(), to, deadline)))
}

/// Finds out what to fetch: what the request says, and what its session knows.
fn begin(context: &Context, version: i16, request: &FetchRequest<'_>) -> Result<Fetching, SessionError> {
    let by_id = version >= TOPIC_IDS_FROM;
    let mut wanted = Vec::new();
    for topic in &request.topics {
        let name: Arc<str> = if by_id { "".into() } else { topic.topic.into() };
        wanted.extend(topic.partitions.iter().map(|partition| Wanted {
            key: SessionKey {
                topic: Arc::clone(&name),
                topic_id: topic.topic_id,
                partition: partition.partition,
            },
            fetch_offset: partition.fetch_offset,
            max_bytes: partition.partition_max_bytes,
            current_leader_epoch: partition.current_leader_epoch,
            last_fetched_epoch: partition.last_fetched_epoch,
        }));
    }
    let mut forgotten = Vec::new();
    for topic in &request.forgotten_topics_data {
        let name: Arc<str> = if by_id { "".into() } else { topic.topic.into() };
        forgotten.extend(topic.partitions.iter().map(|partition| SessionKey {
            topic: Arc::clone(&name),
            topic_id: topic.topic_id,
            partition: *partition,
        }));
    }
    let session = (request.session_id, request.session_epoch);
    context.broker.fetch_sessions.begin(session, by_id, wanted, &forgotten)
}

/// A fetch that waits for bytes, or for the disk. Holds places in the wait lists of its partitions and gives them back when dropped.
struct Parked {
    waiter: Arc<Waiter>,
    plan: Arc<Plan>,
}

impl Parked {
    async fn answered(self, context: Context, to: ReplyTo, deadline: Instant) -> Reply {
        for partition in self.plan.partitions() {
            partition.waiting().await_bytes(&self.waiter);
        }
        loop {
            // Register, arm, then look: what arrives later wakes us, what arrived before is seen. What arrives
            // between the two counts twice, so we may look once too often, and never too late.
            self.waiter.rearm(amount(self.plan.min_bytes));
            let look = look(&self.plan).await;
            if look.urgent || look.bytes >= self.plan.min_bytes || Instant::now() >= deadline {
                return self.plan.answer(&context, to, look);
            }
            self.waiter.credit(amount(look.bytes));
            let _ = tokio::time::timeout_at(deadline, self.waiter.woken()).await;
        }
    }
}

/// Reads where blocking is allowed: here when all is in memory, else on a thread for it.
async fn look(plan: &Arc<Plan>) -> Look {
    if plan.is_hot() {
        return plan.look();
    }
    let cold = Arc::clone(plan);
    match tokio::task::spawn_blocking(move || cold.look()).await {
        Ok(look) => look,
        Err(_) => plan.failed(ErrorCode::UnknownServerError),
    }
}

impl Drop for Parked {
    fn drop(&mut self) {
        for partition in self.plan.partitions() {
            partition.waiting().forget(&self.waiter);
        }
    }
}

impl Plan {
    fn new(context: &Context, version: i16, request: &FetchRequest<'_>, fetching: Fetching) -> Self {
        let (session, wanted) = match fetching {
            Fetching::Alone(wanted) => (Session::None, wanted),
            Fetching::Begins(wanted) => (Session::Begins(wanted.clone()), wanted),
            Fetching::Continues { id, wanted } => (Session::Continues(id), wanted),
        };
        let limit = context.broker.config.fetch_max_bytes;
        Plan {
            version,
            max_wait: Duration::from_millis(u64::try_from(request.max_wait_ms).unwrap_or(0)),
            min_bytes: positive(request.min_bytes),
            max_bytes: positive(request.max_bytes).min(limit),
            read_committed: request.isolation_level == 1,
            from_replica: request.replica_id >= 0 || request.replica_state.replica_id >= 0,
            session,
            topics: wanted
                .chunk_by(|one, next| (&one.key.topic, one.key.topic_id) == (&next.key.topic, next.key.topic_id))
                .filter_map(|neighbours| TopicPlan::new(context, version, neighbours))
                .collect(),
        }
    }

    fn is_empty(&self) -> bool {
        self.topics.iter().all(|topic| topic.partitions.is_empty())
    }

    fn partitions(&self) -> impl Iterator<Item = &Arc<Partition>> {
        self.topics
            .iter()
            .flat_map(|topic| &topic.partitions)
            .filter_map(|wanted| wanted.partition.as_ref().ok())
    }

    /// True when reading needs no disk.
    fn is_hot(&self) -> bool {
        let wanted = self.topics.iter().flat_map(|topic| &topic.partitions);
        let hot = |wanted: &PartitionPlan| match &wanted.partition {
            Ok(partition) => partition.log().reads_from_memory(wanted.offset),
            Err(_) => true,
        };
        wanted.into_iter().all(hot)
    }

    /// The same error for all partitions.
    fn failed(&self, code: ErrorCode) -> Look {
        let failed = |topic: &TopicPlan| {
            topic
                .partitions
                .iter()
                .map(|wanted| Outcome::error(wanted.index, code, None))
                .collect()
        };
        Look {
            outcomes: self.topics.iter().map(failed).collect(),
            bytes: 0,
            urgent: true,
        }
    }

    /// Reads what is there now.
    fn look(&self) -> Look {
        let mut look = Look {
            outcomes: Vec::with_capacity(self.topics.len()),
            bytes: 0,
            urgent: false,
        };
        for topic in &self.topics {
            let mut outcomes = Vec::with_capacity(topic.partitions.len());
            for wanted in &topic.partitions {
                let outcome = self.read(wanted, look.bytes);
                look.bytes += outcome.batches.iter().map(Bytes::len).sum::<usize>();
                look.urgent |= outcome.code != ErrorCode::None || outcome.diverging.is_some();
                outcomes.push(outcome);
            }
            look.outcomes.push(outcomes);
        }
        look
    }

    fn read(&self, wanted: &PartitionPlan, taken: usize) -> Outcome {
        self.read_partition(wanted, taken)
            .unwrap_or_else(|refused| Outcome::error(wanted.index, refused.code, refused.leader))
    }

    fn read_partition(&self, wanted: &PartitionPlan, taken: usize) -> Result<Outcome, Refused> {
        let partition = wanted.partition.as_ref().map_err(|code| Refused::from(*code))?;
        if self.from_replica {
            return Err(ErrorCode::NotLeaderOrFollower.into());
        }
        partition.check_leader(wanted.leader_epoch)?;
        let log = partition.log();
        let mut outcome = Outcome {
            high_watermark: partition.high_watermark(),
            last_stable_offset: partition.last_stable_offset(),
            log_start_offset: log.log_start_offset(),
            ..Outcome::error(wanted.index, ErrorCode::None, None)
        };
        if wanted.last_fetched_epoch >= 0 {
            outcome.diverging = diverges(partition, wanted)?;
            if outcome.diverging.is_some() {
                return Ok(outcome);
            }
        }
        if self.version < 10 && log.config().compression == Some(Compression::Zstd) {
            return Err(ErrorCode::UnsupportedCompressionType.into());
        }
        let max_bytes = wanted.max_bytes.min(self.max_bytes.saturating_sub(taken));
        let upper = match self.read_committed {
            true => outcome.last_stable_offset,
            false => outcome.high_watermark,
        };
        // Only the first batch of the whole response may exceed the limits.
        outcome.batches = partition.read(wanted.offset, max_bytes, upper, taken == 0)?.batches;
        Ok(outcome)
    }

    fn answer(&self, context: &Context, to: ReplyTo, mut look: Look) -> Reply {
        let moved = look.outcomes.iter().flatten().filter_map(|outcome| outcome.leader);
        let nodes = if self.version >= 16 {
            context.broker.nodes_of(&context.listener, moved)
        } else {
            Vec::new()
        };
        let session_id = self.settle_session(context, &mut look);
        let mut responses = Vec::with_capacity(self.topics.len());
        for (topic, outcomes) in self.topics.iter().zip(look.outcomes) {
            if outcomes.is_empty() {
                continue;
            }
            responses.push(FetchableTopicResponse {
                topic: &topic.name,
                topic_id: topic.id,
                partitions: outcomes
                    .into_iter()
                    .map(|outcome| self.partition_data(outcome))
                    .collect(),
            });
        }
        let node_endpoints = nodes.iter().map(|node| NodeEndpoint {
            node_id: node.id,
            host: &node.host,
            port: node.port.into(),
            rack: node.rack.as_deref(),
        });
        to.with(&FetchResponse {
            session_id,
            responses,
            node_endpoints: node_endpoints.collect(),
            ..Default::default()
        })
    }

    /// Begins a session, or leaves out of the answer what its client knows. Gives the session's id.
    fn settle_session(&self, context: &Context, look: &mut Look) -> i32 {
        let told = |outcome: &Outcome| Told {
            high_watermark: outcome.high_watermark,
            last_stable_offset: outcome.last_stable_offset,
            log_start_offset: outcome.log_start_offset,
            records: !outcome.batches.is_empty(),
            urgent: outcome.code != ErrorCode::None || outcome.diverging.is_some(),
        };
        let sessions = &context.broker.fetch_sessions;
        match &self.session {
            Session::None => NO_SESSION,
            Session::Begins(wanted) => {
                let told: Vec<Told> = look.outcomes.iter().flatten().map(told).collect();
                sessions.create(self.version >= TOPIC_IDS_FROM, wanted.clone(), &told)
            }
            Session::Continues(id) => {
                let mut all = Vec::new();
                for (topic, outcomes) in self.topics.iter().zip(&look.outcomes) {
                    all.extend(outcomes.iter().map(|outcome| {
                        let key = SessionKey {
                            topic: Arc::clone(&topic.name),
                            topic_id: topic.id,
                            partition: outcome.index,
                        };
                        (key, told(outcome))
                    }));
                }
                let mut changed = sessions.changed(*id, &all).into_iter();
                for outcomes in &mut look.outcomes {
                    outcomes.retain(|_| changed.next().unwrap_or(true));
                }
                *id
            }
        }
    }

    fn partition_data(&self, outcome: Outcome) -> PartitionData<'static> {
        let diverging_epoch = outcome
            .diverging
            .map(|(epoch, end_offset)| EpochEndOffset { epoch, end_offset });
        let current_leader = outcome
            .leader
            .filter(|_| self.version >= 12)
            .map(|leader| LeaderIdAndEpoch {
                leader_id: leader.leader_id,
                leader_epoch: leader.leader_epoch,
            });
        PartitionData {
            partition_index: outcome.index,
            error_code: outcome.code.code(),
            high_watermark: outcome.high_watermark,
            last_stable_offset: outcome.last_stable_offset,
            log_start_offset: outcome.log_start_offset,
            diverging_epoch: diverging_epoch.unwrap_or_default(),
            current_leader: current_leader.unwrap_or_default(),
            aborted_transactions: self.read_committed.then(Vec::new),
            // Empty, never null: clients take null for a broken response.
            records: Records::Chain(outcome.batches),
            ..Default::default()
        }
    }
}

/// Where our log parts from the client's, if it does: the client read `last_fetched_epoch` up to its offset, but here
/// that epoch ended earlier, or never was.
fn diverges(partition: &Partition, wanted: &PartitionPlan) -> Result<Option<(i32, i64)>, ErrorCode> {
    let end = partition.log().end_offset_for_epoch(wanted.last_fetched_epoch);
    // No epoch as old as that is known: what the client has lies before this log.
    let EpochEnd { epoch, end_offset } = end.ok_or(ErrorCode::OffsetOutOfRange)?;
    let diverges = epoch < wanted.last_fetched_epoch || end_offset < wanted.offset;
    Ok(diverges.then_some((epoch, end_offset)))
}

impl TopicPlan {
    /// `neighbours` are of one topic.
    fn new(context: &Context, version: i16, neighbours: &[Wanted]) -> Option<Self> {
        let SessionKey { topic, topic_id, .. } = &neighbours.first()?.key;
        let replicas = &context.broker.replica_manager;
        let (hosted, unknown) = if version >= TOPIC_IDS_FROM {
            (replicas.topic_by_id(*topic_id), ErrorCode::UnknownTopicId)
        } else {
            (replicas.topic(topic), ErrorCode::UnknownTopicOrPartition)
        };
        let plan = |wanted: &Wanted| PartitionPlan {
            index: wanted.key.partition,
            partition: match &hosted {
                Some(topic) => topic.partition(wanted.key.partition).cloned(),
                None => Err(unknown),
            },
            leader_epoch: wanted.current_leader_epoch,
            last_fetched_epoch: wanted.last_fetched_epoch,
            offset: wanted.fetch_offset,
            max_bytes: positive(wanted.max_bytes),
        };
        Some(TopicPlan {
            name: Arc::clone(topic),
            id: *topic_id,
            partitions: neighbours.iter().map(plan).collect(),
        })
    }
}

fn amount(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn positive(value: i32) -> usize {
    usize::try_from(value).unwrap_or(0)
}
