//! Brings records from the leaders into the buffer.
//!
//! One director task looks up offsets that are missing and sees to it that every leader of an assigned partition has
//! its fetcher. A fetcher has one request in flight on its own lane: build, send, absorb, again. It fetches as long
//! as there is room in the buffer, and sleeps otherwise; taking records out is what wakes it, so back-pressure needs
//! no timer. Nobody here hands anything to the application; see [`super::Consumer::poll`].

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_client_state::metadata::ClusterSnapshot;
use ottla_client_state::subscription::{FetchTarget, OutOfRange, Reset, SubscriptionState, Target, Truncated};
use ottla_client_state::{Time, TopicPartition};
use ottla_protocol::{ErrorCode, Uuid};
use tokio::sync::watch;

use super::absorb;
use super::coordinator::look_up_committed;
use super::fetch_buffer::FetchBuffer;
use super::fetch_line::{FetchLine, Fetched};
use super::group::{Group, Interest};
use super::handover::Handed;
use super::offsets::{self, EARLIEST, LATEST, Queries};
use super::progress::Watch;
use crate::client::Client;
use crate::config::{ConsumerConfig, IsolationLevel};
use crate::error::{Error, ErrorKind, Result};

/// What consumer, director and fetchers share.
#[derive(Debug)]
pub(super) struct Shared {
    pub client: Arc<Client>,
    pub config: ConsumerConfig,
    /// There if the consumer has a `group.id`.
    pub group: Option<Group>,
    state: Mutex<State>,
    /// Something was put into the buffer or the errors; who polls looks again.
    pub arrived: watch::Sender<u64>,
    /// Something changed that may permit a fetch or need a look-up.
    stirred: watch::Sender<u64>,
    /// Counts what may have made room for those who found none.
    roomy: watch::Sender<u64>,
    pub closed: watch::Sender<bool>,
}

#[derive(Debug)]
pub(super) struct State {
    pub subscription: SubscriptionState,
    pub buffer: FetchBuffer,
    /// For the application, in order.
    pub errors: VecDeque<Error>,
    /// What a group's consumer has handed over and nobody has said to be processed.
    pub handed: HashMap<TopicPartition, Handed>,
    /// What was last reported of a partition, for those who ask why it does not move.
    pub troubles: HashMap<TopicPartition, Error>,
    pub watch: Watch,
    /// Leaders that have a fetcher.
    fetchers: HashSet<i32>,
    /// Replicas nearby that a leader has pointed to (KIP-392), and until when that holds.
    pub preferred: HashMap<TopicPartition, (i32, Time)>,
    /// The ids under which topics were last seen: those of the records that were handed over.
    pub topic_ids: HashMap<Arc<str>, Uuid>,
    /// Topics and partitions of which the application was told that they do not exist.
    reported: HashSet<TopicPartition>,
    /// Partitions without a place of which the application was told.
    pub told_unplaced: HashSet<TopicPartition>,
    /// Topics of the subscription that the brokers have refused to show, as the application or the log was told.
    refused_topics: BTreeSet<Arc<str>>,
    /// The metadata answer that first did not know a topic.
    unknown_since: HashMap<Arc<str>, u64>,
}

impl State {
    /// Tells the application, unless it has not yet heard the same about the same partition.
    pub fn report(&mut self, error: Error) {
        if let Some(partition) = error.partition() {
            self.troubles.insert(partition.clone(), error.clone());
        }
        let same = |known: &Error| known.partition() == error.partition() && known.kind() == error.kind();
        if !self.errors.iter().any(same) {
            self.errors.push_back(error);
        }
    }

    /// The node to fetch a partition from: a replica nearby if the leader named one, else the leader.
    pub fn source_of(&self, partition: &TopicPartition, snapshot: &ClusterSnapshot, now: Time) -> Option<i32> {
        let leader = snapshot.leader_of(&partition.topic, partition.partition)?;
        let nearby = self
            .preferred
            .get(partition)
            .filter(|(node, until)| *until > now && snapshot.node(*node).is_some());
        Some(nearby.map_or(leader.node_id, |(node, _)| *node))
    }

    /// When something may be due that nobody tells of: a partition that failed, or one whose leader is to be asked again
    /// whether a replica is nearer.
    fn wake_at(&self, now: Time) -> Option<Time> {
        let expiries = self.preferred.values().map(|(_, until)| *until);
        let next = expiries.filter(|until| *until > now);
        next.chain(self.subscription.wake_at(now)).min()
    }
}

/// A fetch that is about to be sent.
struct Plan {
    targets: Vec<FetchTarget>,
    /// Bytes reserved for it.
    granted: usize,
}

enum Next {
    Fetch(Plan),
    /// Nothing to fetch before something stirs, or this moment comes.
    Wait(Option<Time>),
    /// This node has nothing of ours any more.
    End,
}

impl Shared {
    pub fn new(
        client: Arc<Client>,
        config: ConsumerConfig,
        subscription: SubscriptionState,
        group: Option<Group>,
    ) -> Arc<Shared> {
        let buffer = FetchBuffer::new(config.fetch_buffer_memory);
        Arc::new(Shared {
            client,
            config,
            group,
            state: Mutex::new(State {
                subscription,
                buffer,
                errors: VecDeque::new(),
                handed: HashMap::new(),
                troubles: HashMap::new(),
                watch: Watch::default(),
                fetchers: HashSet::new(),
                preferred: HashMap::new(),
                topic_ids: HashMap::new(),
                reported: HashSet::new(),
                refused_topics: BTreeSet::new(),
                unknown_since: HashMap::new(),
                told_unplaced: HashSet::new(),
            }),
            arrived: watch::channel(0).0,
            stirred: watch::channel(0).0,
            roomy: watch::channel(0).0,
            closed: watch::channel(false).0,
        })
    }

    pub fn lock(&self) -> MutexGuard<'_, State> {
        // Every step under this lock leaves the state whole, so a panic elsewhere does not spoil it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something changed that may permit a fetch or need a look-up.
    pub fn stir(&self) {
        self.stirred.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// There is room in the buffer: whoever found none may fetch now. Wakes nobody who waits for an answer, as most do while
    /// all goes well.
    pub fn make_room(&self) {
        self.roomy.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Something was put into the buffer or the errors, or a position became known.
    pub fn arrived(&self) {
        self.arrived.send_modify(|count| *count = count.wrapping_add(1));
    }

    pub fn isolation(&self) -> IsolationLevel {
        self.config.isolation_level
    }
}

/// Runs until the consumer closes.
pub(super) async fn direct(shared: Arc<Shared>) {
    let mut closed = shared.closed.subscribe();
    tokio::select! {
        () = direct_forever(&shared) => {}
        _ = closed.wait_for(|closed| *closed) => {}
    }
}

async fn direct_forever(shared: &Arc<Shared>) {
    let mut stirred = shared.stirred.subscribe();
    let mut metadata = shared.client.metadata_changed();
    loop {
        if metadata.has_changed().unwrap_or(false) {
            metadata.mark_unchanged();
            absorb_metadata(shared);
            // Whoever waits for an answer of a node may have to turn to another one.
            shared.stir();
        }
        stirred.mark_unchanged();
        // Taken before anything is looked at, so that nothing becomes due in between and is missed by both.
        let now = shared.client.now();
        look_up_committed(shared);
        look_up_missing(shared);
        start_fetchers(shared);
        let wake_at = shared.lock().wake_at(now);
        tokio::select! {
            _ = stirred.changed() => {}
            // Taken in at the top.
            _ = metadata.changed() => metadata.mark_changed(),
            () = sleep_until(&shared.client, wake_at) => {}
        }
    }
}

pub(super) async fn sleep_until(client: &Client, at: Option<Time>) {
    match at {
        Some(at) => tokio::time::sleep_until(client.instant(at)).await,
        None => std::future::pending().await,
    }
}

/// Topics that were created anew start over; topics and partitions that do not exist are told to the application.
fn absorb_metadata(shared: &Arc<Shared>) {
    let snapshot = shared.client.metadata();
    let mut missing = Vec::new();
    let mut group = shared.group.as_ref().map(|group| group.lock());
    let mut state = shared.lock();
    let assigned: Vec<TopicPartition> = state.subscription.assigned().cloned().collect();
    // Also of topics of which nothing is assigned yet: a group assigns later than the metadata comes.
    for info in snapshot.topics().filter(|info| info.id != Uuid::ZERO) {
        let before = state.topic_ids.insert(info.name.clone(), info.id);
        if before.is_none_or(|before| before == info.id) {
            continue;
        }
        let mut concerned = assigned
            .iter()
            .filter(|partition| partition.topic == info.name)
            .peekable();
        if concerned.peek().is_some() {
            recreated(&mut state, &info.name, shared);
        }
        // What was processed belongs to the topic that is gone, and is worth nothing for this one.
        for partition in concerned {
            state.handed.remove(partition);
            if let Some(group) = &mut group {
                group.forget_offsets(partition);
            }
        }
    }
    if let Some(group) = &group
        && let Interest::Topics(topics) = &group.interest
        && tell_refused_topics(&mut state, topics, &snapshot)
    {
        shared.arrived();
    }
    drop(group);
    for partition in assigned {
        let known = snapshot.topic(&partition.topic);
        if known.is_some_and(|topic| topic.partition(partition.partition).is_some()) {
            state.reported.remove(&partition);
            state.unknown_since.remove(&partition.topic);
        } else if known.is_some() || snapshot.topic_error(&partition.topic).is_some() {
            // The first answer may come while the broker is still creating the topic; the second one counts.
            let since = *state
                .unknown_since
                .entry(partition.topic.clone())
                .or_insert(snapshot.generation);
            if snapshot.generation > since && state.reported.insert(partition.clone()) {
                missing.push(partition);
            }
        }
    }
    drop(state);
    if !missing.is_empty() {
        tokio::spawn(report_missing(shared.clone(), missing));
    }
}

/// Nothing is ever assigned of a topic that the brokers do not show: who subscribed to it would wait in silence. Whether
/// there is an error to be polled.
fn tell_refused_topics(state: &mut State, topics: &BTreeSet<Arc<str>>, snapshot: &ClusterSnapshot) -> bool {
    let mut told = false;
    for topic in topics {
        let Some(code) = snapshot.topic_error(topic) else {
            if snapshot.topic(topic).is_some() {
                state.refused_topics.remove(topic);
            }
            continue;
        };
        if !state.refused_topics.insert(topic.clone()) {
            tracing::debug!(%topic, error = code.name(), "a topic of the subscription is still not there");
        } else if snapshot.topic_refusal(topic).is_some() {
            let what = format_args!("topic {topic:?} of the subscription");
            state.errors.push_back(Error::from_code(code.code(), what));
            told = true;
        } else {
            // It may be created at any time, and is read then.
            tracing::warn!(%topic, error = code.name(), "a topic of the subscription is not there");
        }
    }
    state.refused_topics.retain(|topic| topics.contains(topic));
    told
}

fn recreated(state: &mut State, topic: &Arc<str>, shared: &Shared) {
    let moved = state.subscription.handle_recreated(topic);
    tracing::warn!(%topic, "the topic was deleted and created anew; its partitions are read from the beginning");
    if state.subscription.without_position().next().is_some() {
        for partition in moved {
            let text = format!("{partition}: the topic was deleted and created anew, and auto.offset.reset is none");
            state.report(Error::new(ErrorKind::Offset, text).with_partition(&partition, None));
            state.told_unplaced.insert(partition);
        }
        shared.arrived();
    }
}

async fn report_missing(shared: Arc<Shared>, missing: Vec<TopicPartition>) {
    let mut told: HashMap<Arc<str>, Error> = HashMap::new();
    for partition in missing {
        let error = match shared.client.metadata().topic(&partition.topic) {
            Some(topic) => {
                let count = topic.partition_count();
                let text = format!(
                    "{partition}: topic {:?} has {count} partitions, from 0 on",
                    &*partition.topic
                );
                Error::new(ErrorKind::UnknownTopic, text).with_retriable(true)
            }
            None => match told.get(&partition.topic) {
                Some(error) => error.clone(),
                None => {
                    let error = shared.client.explain_missing(&partition.topic).await;
                    told.entry(partition.topic.clone()).or_insert(error).clone()
                }
            },
        };
        let mut state = shared.lock();
        if state.subscription.is_assigned(&partition) {
            state.report(error.with_partition(&partition, None));
        }
    }
    shared.arrived();
}

/// Starts a look-up for every partition that waits for its first offset or has lost its place.
fn look_up_missing(shared: &Arc<Shared>) {
    let (client, now) = (&shared.client, shared.client.now());
    let snapshot = client.metadata();
    let led = |partition: &TopicPartition| snapshot.leader_of(&partition.topic, partition.partition).is_some();
    let mut resets = Vec::new();
    let mut state = shared.lock();
    while let Some(reset) = state.subscription.next_reset(led, now) {
        resets.push(reset);
    }
    drop(state);
    if resets.is_empty() {
        return;
    }
    let shared = shared.clone();
    let wall = client.exact_wall_ms();
    tokio::spawn(async move {
        let mut closed = shared.closed.subscribe();
        tokio::select! {
            () = look_up(&shared, resets, wall) => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    });
}

async fn look_up(shared: &Arc<Shared>, resets: Vec<Reset>, wall_ms: i64) {
    let timestamp = |target| match target {
        Target::Earliest => EARLIEST,
        Target::Latest => LATEST,
        Target::Timestamp(ms) => ms.max(0),
        Target::Ago(ms) => wall_ms.saturating_sub(i64::try_from(ms).unwrap_or(i64::MAX)).max(0),
    };
    let queries: Queries = resets
        .iter()
        .map(|reset| (reset.partition.clone(), timestamp(reset.target)))
        .collect();
    let mut answers = offsets::list_offsets(&shared.client, shared.isolation(), &queries).await;
    // No record is that young: the end is where the next one will be.
    let none = |answer: &Result<offsets::ListedOffset>| matches!(answer, Ok(found) if found.offset.is_none());
    let at_end: Queries = answers
        .iter()
        .filter(|(_, answer)| none(answer))
        .map(|(partition, _)| (partition.clone(), LATEST))
        .collect();
    if !at_end.is_empty() {
        answers.extend(offsets::list_offsets(&shared.client, shared.isolation(), &at_end).await);
    }
    let now = shared.client.now();
    let mut state = shared.lock();
    for reset in resets {
        let partition = &reset.partition;
        match answers.remove(partition) {
            Some(Ok(offsets::ListedOffset {
                offset: Some(offset), ..
            })) => {
                tracing::debug!(%partition, offset, target = ?reset.target, "starting here");
                state.subscription.handle_offset(partition, reset.fence, offset);
            }
            Some(Err(error)) => {
                tracing::debug!(%partition, %error, "the offset could not be looked up; trying again");
                if !error.retriable() {
                    state.report(error.with_partition(partition, None));
                }
                state.subscription.handle_reset_failed(partition, reset.fence, now);
            }
            _ => state.subscription.handle_reset_failed(partition, reset.fence, now),
        }
    }
    drop(state);
    shared.arrived();
    shared.stir();
}

/// Every node that has something of ours gets a fetcher.
fn start_fetchers(shared: &Arc<Shared>) {
    let snapshot = shared.client.metadata();
    let now = shared.client.now();
    let mut state = shared.lock();
    let nodes: HashSet<i32> = state
        .subscription
        .assigned()
        .filter_map(|partition| state.source_of(partition, &snapshot, now))
        .filter(|node| !state.fetchers.contains(node))
        .collect();
    state.fetchers.extend(&nodes);
    drop(state);
    for node_id in nodes {
        let shared = shared.clone();
        tokio::spawn(async move {
            let mut closed = shared.closed.subscribe();
            let mut line = FetchLine::to(node_id);
            tokio::select! {
                () = fetch_from(&shared, &mut line) => {}
                _ = closed.wait_for(|closed| *closed) => {}
            }
            line.hang_up(&shared);
        });
    }
}

/// The fetcher of one node.
async fn fetch_from(shared: &Arc<Shared>, line: &mut FetchLine) {
    let node_id = line.node_id();
    let (mut stirred, mut roomy) = (shared.stirred.subscribe(), shared.roomy.subscribe());
    let mut trouble = None;
    let mut turn = 0;
    loop {
        stirred.mark_unchanged();
        roomy.mark_unchanged();
        match next_for(shared, node_id, turn) {
            Next::End => {
                // By what was known when it looked; the director may have passed over this node meanwhile.
                shared.stir();
                return;
            }
            Next::Wait(at) => {
                tokio::select! {
                    _ = stirred.changed() => {}
                    _ = roomy.changed() => {}
                    () = sleep_until(&shared.client, at) => {}
                }
            }
            Next::Fetch(plan) => {
                turn += 1;
                let outcome = tokio::select! {
                    outcome = line.fetch(shared, &plan.targets, plan.granted) => outcome,
                    () = moved_away(shared, node_id, &plan, &mut stirred) => {
                        Err(Error::new(ErrorKind::Disconnected, "the partitions are fetched from elsewhere now"))
                    }
                };
                settle(shared, line, &plan, outcome, &mut trouble);
            }
        }
    }
}

/// Returns when nothing of `plan` is to be fetched from this node any more: a node that does not answer must not hold
/// up partitions that have another leader by now.
async fn moved_away(shared: &Shared, node_id: i32, plan: &Plan, stirred: &mut watch::Receiver<u64>) {
    loop {
        if stirred.changed().await.is_err() {
            return std::future::pending().await;
        }
        let (snapshot, now) = (shared.client.metadata(), shared.client.now());
        let state = shared.lock();
        let here = |target: &FetchTarget| state.source_of(&target.partition, &snapshot, now) == Some(node_id);
        if !plan.targets.iter().any(here) {
            return;
        }
    }
}

fn next_for(shared: &Shared, node_id: i32, turn: usize) -> Next {
    let (config, now) = (&shared.config, shared.client.now());
    let snapshot = shared.client.metadata();
    let mut state = shared.lock();
    let ours = |partition: &TopicPartition| state.source_of(partition, &snapshot, now) == Some(node_id);
    if !state.subscription.assigned().any(ours) {
        state.fetchers.remove(&node_id);
        return Next::End;
    }
    let per_partition = usize::try_from(config.max_partition_fetch_bytes).unwrap_or(0).max(1);
    let mut targets = state.subscription.fetchable(ours, per_partition, now);
    if targets.is_empty() {
        return Next::Wait(state.subscription.wake_at(now));
    }
    // The broker fills its answer in this order; everybody comes first once.
    let first = turn % targets.len();
    targets.rotate_left(first);
    let most = usize::try_from(config.fetch_max_bytes).unwrap_or(0).max(1);
    let wanted = per_partition.saturating_mul(targets.len()).min(most);
    let least = per_partition.min(config.fetch_buffer_memory / 4);
    let granted = match state.buffer.reserve(wanted, least) {
        Some(granted) => granted,
        None => {
            evict_paused(&mut state);
            match state.buffer.reserve(wanted, least) {
                Some(granted) => granted,
                None => return Next::Wait(None),
            }
        }
    };
    state.subscription.handle_fetch_sent(&targets);
    Next::Fetch(Plan { targets, granted })
}

/// Data of paused partitions makes room for the others; it is fetched again when they resume.
fn evict_paused(state: &mut State) {
    let State {
        subscription, buffer, ..
    } = state;
    let gone = buffer.discard(|fetch| {
        subscription.is_paused(&fetch.partition) || !subscription.is_current(&fetch.partition, fetch.fence)
    });
    for fetch in gone {
        subscription.handle_dropped(&fetch.partition, fetch.fence);
    }
}

/// Takes in the answer, or its absence. `trouble` is what went wrong for the whole fetch last time.
fn settle(shared: &Shared, line: &mut FetchLine, plan: &Plan, outcome: Result<Fetched>, trouble: &mut Option<Error>) {
    let now = shared.client.now();
    let absorbed = outcome.and_then(|fetched| absorb::absorb(shared, &plan.targets, &fetched, now));
    let absorbed = line.settle_session(absorbed);
    let mut state = shared.lock();
    state.buffer.release_reservation(plan.granted);
    state.subscription.handle_fetch_ended(&plan.targets);
    let plain = match absorbed {
        Ok(news) => {
            *trouble = None;
            drop(state);
            if news.refresh {
                shared.client.request_refresh();
            }
            news.plain
        }
        Err(error) => {
            // A broker that fails us for ever is told once, not with every attempt.
            let known = |before: &Error| (before.kind(), before.raw_code()) == (error.kind(), error.raw_code());
            if !trouble.as_ref().is_some_and(known) {
                tracing::warn!(%error, "a fetch failed; trying again");
                if !error.retriable() {
                    state.report(error.clone());
                }
            }
            for target in &plan.targets {
                state
                    .subscription
                    .handle_fetch_failed(&target.partition, target.fence, now);
                state.preferred.remove(&target.partition);
            }
            *trouble = Some(error);
            drop(state);
            shared.client.request_refresh();
            false
        }
    };
    shared.arrived();
    match plain {
        // Nothing but records: no place to look up, nobody else to fetch from, nothing to wait for.
        true => shared.make_room(),
        false => shared.stir(),
    }
}

/// What a position outside the log leads to, told and logged.
pub(super) fn out_of_range(state: &mut State, target: &FetchTarget, log_start: i64, now: Time) {
    let FetchTarget {
        partition,
        offset,
        fence,
        ..
    } = target;
    match state.subscription.handle_out_of_range(partition, *fence, *offset, now) {
        OutOfRange::Stale => {}
        OutOfRange::Reset(to) => {
            tracing::warn!(%partition, offset, log_start, to = ?to, "the position lies outside the log; resetting it");
        }
        OutOfRange::Fail => {
            let text = format!(
                "{partition}: offset {offset} lies outside the log (it begins at {log_start}) and auto.offset.reset is \
                 none; seek to where to go on"
            );
            let error = Error::new(ErrorKind::Offset, text).with_code(ErrorCode::OffsetOutOfRange);
            state.report(error.with_partition(partition, Some(*offset)));
            state.told_unplaced.insert(partition.clone());
        }
    }
}

/// What a log that was cut below a place leads to, told and logged. `end`: the leader epoch that the log shares with what
/// was read, and the offset where it ends.
pub(super) fn diverging(state: &mut State, target: &FetchTarget, end: (i32, i64), now: Time) {
    let FetchTarget {
        partition,
        offset,
        fence,
        last_epoch,
    } = target;
    let (epoch, end_offset) = end;
    match state
        .subscription
        .handle_diverging(partition, *fence, *offset, end, now)
    {
        Truncated::Stale => {}
        Truncated::Moved(to) => tracing::warn!(
            %partition, offset, ?last_epoch, epoch, to,
            "the log was truncated: records that were read are lost; going on where the log parts from them"
        ),
        Truncated::Fail => {
            let read = last_epoch.unwrap_or(-1);
            let text = format!(
                "{partition}: the log was truncated: what was read up to offset {offset} (leader epoch {read}) parts from \
                 it at offset {end_offset} (leader epoch {epoch}), and auto.offset.reset is none; seek to where to go on"
            );
            let error = Error::new(ErrorKind::LogTruncated, text);
            state.report(error.with_partition(partition, Some(*offset)));
            state.told_unplaced.insert(partition.clone());
        }
    }
}
