//! Drives a consumer's membership: executes what the machine decides, feeds what comes of it, sleeps until the next alarm.
//!
//! In: answers of the coordinator, metadata, word from the application (through [`Group`]). Out: requests, and changes of
//! what is assigned. It decides nothing: see [`ottla_client_state::membership`]. Nothing here waits for the application or
//! for a commit, so heartbeats go out whatever they do.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_client_state::assignor::TopicImage;
use ottla_client_state::membership::{Action, GroupError, GroupResponse, Phase, RequestFailure, RequestKind};
use ottla_client_state::metadata::ClusterSnapshot;
use ottla_client_state::{Time, TopicPartition};
use ottla_protocol::{ErrorCode, Uuid};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::committed::fetch_committed;
use super::fetcher::{Shared, sleep_until};
use super::group::{self, Group, GroupState, Interest, Revocation};
use super::member;
use super::rebalance::ConsumerEvent;
use crate::config::IsolationLevel;
use crate::error::{Error, ErrorKind, Result};

/// How long after a failed look for the topics of a pattern the next one follows.
const PATTERN_RETRY_MS: u64 = 1000;

/// What a task of the driver brings home.
enum Told {
    /// To a request of the machine.
    Answer(RequestKind, Result<GroupResponse, RequestFailure>),
    /// Metadata that the machine asked for is there, or could not be had.
    Metadata,
    /// All topics of the cluster, for a pattern.
    Topics(Result<Arc<ClusterSnapshot>>),
}

/// Runs until the consumer has left its group, or its time to close is over.
pub(super) async fn coordinate(shared: Arc<Shared>) {
    let Some(group) = &shared.group else { return };
    let mut driver = Driver {
        tasks: JoinSet::new(),
        phase: group.lock().membership.phase(),
        wanted: BTreeSet::new(),
        looking: false,
    };
    let mut stirred = group.stirred.subscribe();
    let mut metadata = shared.client.metadata_changed();
    metadata.mark_changed();
    loop {
        stirred.mark_unchanged();
        if metadata.has_changed().unwrap_or(false) {
            metadata.mark_unchanged();
            feed_metadata(&shared, group);
        }
        let wake_at = driver.turn(&shared, group);
        if driver.is_done(group) {
            return;
        }
        tokio::select! {
            _ = stirred.changed() => {}
            _ = metadata.changed() => metadata.mark_changed(),
            () = sleep_until(&shared.client, wake_at) => {}
            Some(told) = driver.tasks.join_next() => {
                if let Ok(told) = told {
                    driver.take_in(&shared, group, told);
                }
            }
        }
    }
}

struct Driver {
    tasks: JoinSet<Told>,
    /// What the member did when those who wait for it last heard of it.
    phase: Phase,
    /// The topics whose metadata is kept fresh for the group.
    wanted: BTreeSet<Arc<str>>,
    /// A look for the topics of a pattern is under way.
    looking: bool,
}

impl Driver {
    /// Executes what there is to execute; says when to come again at the latest.
    fn turn(&mut self, shared: &Arc<Shared>, group: &Group) -> Option<Time> {
        let mut state = group.lock();
        let now = shared.client.now();
        state.membership.handle_timeout(now);
        loop {
            while let Some(action) = state.membership.next_action(shared.client.now()) {
                self.execute(shared, group, &mut state, action);
            }
            // Not before: what the commit was told may have ended the membership, and then all is lost, not given up.
            match state.revocation.take() {
                Some(Revocation::Committed(partitions)) => {
                    group::let_go(shared, &mut state, &partitions);
                    state.membership.handle_revoked(shared.client.now());
                }
                other => {
                    state.revocation = other;
                    break;
                }
            }
        }
        // Somebody may wait until the group is left, by whatever that comes about.
        let phase = state.membership.phase();
        if std::mem::replace(&mut self.phase, phase) != phase {
            group.stir();
        }
        let look_at = self.look_for_topics(shared, &mut state, now);
        self.keep_interest(shared, &state);
        [state.membership.wake_at(), look_at].into_iter().flatten().min()
    }

    fn execute(&mut self, shared: &Arc<Shared>, group: &Group, state: &mut GroupState, action: Action) {
        match action {
            Action::Send(request) => {
                let shared = shared.clone();
                self.tasks.spawn(async move {
                    let kind = request.kind();
                    let outcome = member::send(&shared.client, request).await;
                    let answer = outcome.map_err(|(failure, error)| {
                        tracing::debug!(request = kind.name(), %error, "no answer from the coordinator");
                        failure
                    });
                    Told::Answer(kind, answer)
                });
            }
            Action::FindCoordinator => shared.client.forget_coordinator(&group.id),
            Action::RefreshMetadata { topics, ids } => {
                let shared = shared.clone();
                self.tasks.spawn(async move {
                    refresh(&shared, &topics, &ids).await;
                    Told::Metadata
                });
            }
            Action::Revoke { partitions, reason } => {
                tracing::info!(group = %group.id, %reason, revoked = ?group::Listed(&partitions), "partitions are being given up");
                group::revoke(shared, group, state, partitions);
                group.stir();
            }
            Action::Assign { number, added, all, .. } => {
                group::assign(shared, group, state, number, added, &all);
                group.stir();
            }
            Action::Lost { partitions, reason } => group::lose(shared, group, state, partitions, reason),
            Action::Rebalance { reason } => {
                tracing::info!(group = %group.id, %reason, "the group rebalances");
                if group.by_events {
                    state.push_event(ConsumerEvent::Rebalancing(reason.to_string()));
                }
            }
            Action::Fail(failure) => {
                tracing::error!(group = %group.id, error = %failure, "the consumer cannot be a member");
                shared.lock().report(group_error(&group.id, &failure));
                shared.arrived();
            }
        }
    }

    fn take_in(&mut self, shared: &Arc<Shared>, group: &Group, told: Told) {
        match told {
            Told::Answer(kind, answer) => {
                let (mut state, now) = (group.lock(), shared.client.now());
                match answer {
                    Ok(response) => state.membership.handle_response(response, now),
                    Err(failure) => state.membership.handle_failure(kind, failure, now),
                }
            }
            Told::Metadata => feed_metadata(shared, group),
            Told::Topics(found) => {
                self.looking = false;
                self.match_topics(shared, group, found);
            }
        }
    }

    /// Looks for the topics of a pattern: at once when it is new, then as often as metadata is renewed. Says when the next
    /// look is due.
    fn look_for_topics(&mut self, shared: &Arc<Shared>, state: &mut GroupState, now: Time) -> Option<Time> {
        let closing = state.closing.is_some();
        let Interest::Pattern(pattern) = &mut state.interest else {
            return None;
        };
        if self.looking || closing {
            return None;
        }
        if pattern.look_at > now {
            return Some(pattern.look_at);
        }
        self.looking = true;
        pattern.look_at = now.plus_ms(shared.config.client.metadata_max_age_ms);
        let shared = shared.clone();
        self.tasks
            .spawn(async move { Told::Topics(shared.client.all_topics().await) });
        None
    }

    fn match_topics(&mut self, shared: &Arc<Shared>, group: &Group, found: Result<Arc<ClusterSnapshot>>) {
        let mut state = group.lock();
        let now = shared.client.now();
        let Interest::Pattern(pattern) = &mut state.interest else {
            return;
        };
        let all = match found {
            Ok(all) => all,
            Err(error) => {
                tracing::warn!(%error, pattern = %pattern.text(), "the topics of a pattern could not be looked for; trying again");
                pattern.look_at = now.plus_ms(PATTERN_RETRY_MS);
                return;
            }
        };
        let matched = pattern.matches(&all);
        if pattern.is_looked_for() && *pattern.matched() == matched {
            return;
        }
        tracing::info!(pattern = %pattern.text(), topics = matched.len(), "the topics of a pattern have changed");
        pattern.set_matched(matched);
        if let Some(subscription) = group::subscription_of(&state.interest) {
            state.membership.handle_subscribed(subscription, now);
        }
        drop(state);
        group.stir();
    }

    /// Keeps the metadata of what the group reads, and of what the leader of a group must know.
    fn keep_interest(&mut self, shared: &Shared, state: &GroupState) {
        if !state.is_member() {
            self.wanted.clear();
            return;
        }
        let mut wanted: BTreeSet<Arc<str>> = state.membership.wanted_topics().into_iter().collect();
        let fetching = shared.lock();
        wanted.extend(
            fetching
                .subscription
                .assigned()
                .map(|partition| partition.topic.clone()),
        );
        drop(fetching);
        if wanted != self.wanted {
            shared.client.set_topics(wanted.iter().map(|topic| &**topic));
            self.wanted = wanted;
        }
    }

    /// Whether the consumer closes and has nothing more to do with its group.
    fn is_done(&self, group: &Group) -> bool {
        let state = group.lock();
        let Some(closing) = state.closing else { return false };
        (group::has_left(&state) && state.revocation.is_none()) || closing.deadline <= Instant::now()
    }
}

fn feed_metadata(shared: &Shared, group: &Group) {
    let snapshot = shared.client.metadata();
    let image = Arc::new(TopicImage::from(&*snapshot));
    let mut state = group.lock();
    let now = shared.client.now();
    state.membership.handle_metadata(image, now);
}

/// Asks for metadata of topics, by name and by id. Returns when something has come, or nothing did in time.
async fn refresh(shared: &Shared, topics: &[Arc<str>], ids: &[Uuid]) {
    let mut changed = shared.client.metadata_changed();
    changed.mark_unchanged();
    if !ids.is_empty()
        && let Err(error) = shared.client.learn_topics(ids).await
    {
        tracing::debug!(%error, "topics could not be asked for by their ids");
    }
    for topic in topics {
        shared.client.touch_topic(topic);
    }
    if topics.is_empty() {
        return;
    }
    shared.client.request_refresh();
    // Without an answer the machine gets what is known, and decides.
    let _ = tokio::time::timeout(shared.config.client.request_timeout, changed.changed()).await;
}

fn group_error(group: &str, failure: &GroupError) -> Error {
    let code = failure.code().and_then(ErrorCode::from_code);
    let kind = match failure {
        GroupError::Unsupported { .. } => ErrorKind::Unsupported,
        GroupError::FencedInstanceId { .. } => ErrorKind::Fenced,
        GroupError::Refused { .. } => code.map_or(ErrorKind::Broker, crate::error::kind_of),
        GroupError::NoCommonProtocol { .. } | GroupError::PatternNotResolved => ErrorKind::Config,
        _ => ErrorKind::Broker,
    };
    let next = match code {
        Some(ErrorCode::InvalidSessionTimeout) => {
            "session.timeout.ms must lie between group.min.session.timeout.ms and group.max.session.timeout.ms of the broker; \
             the next poll tries again"
        }
        _ if failure.is_final() => "the consumer stays out of the group until it subscribes anew",
        _ => "the next poll tries again",
    };
    // What other members do may end these, which Kafka does not count among the retriable ones. The rest of its codes ask for
    // another setting or for a right.
    let passes = |code: ErrorCode| {
        use ErrorCode::{GroupMaxSizeReached, InconsistentGroupProtocol, UnreleasedInstanceId};
        code.retriable()
            || matches!(
                code,
                GroupMaxSizeReached | InconsistentGroupProtocol | UnreleasedInstanceId
            )
    };
    let retriable = !failure.is_final() && code.is_none_or(passes);
    let error = Error::new(kind, format!("group {group:?}: {failure}; {next}")).with_retriable(retriable);
    match code {
        Some(code) => error.with_code(code),
        None => error,
    }
}

/// Starts to fetch the committed offsets that partitions wait for.
pub(super) fn look_up_committed(shared: &Arc<Shared>) {
    if shared.group.is_none() {
        return;
    }
    let now = shared.client.now();
    let wanted = shared.lock().subscription.next_committed(now);
    if wanted.is_empty() {
        return;
    }
    let shared = shared.clone();
    tokio::spawn(async move {
        let mut closed = shared.closed.subscribe();
        tokio::select! {
            () = start_from_committed(&shared, &wanted) => {}
            _ = closed.wait_for(|closed| *closed) => {}
        }
    });
}

async fn start_from_committed(shared: &Arc<Shared>, wanted: &[(TopicPartition, u64)]) {
    let Some(group) = &shared.group else { return };
    let committer = group.committer(&group.lock());
    let answers = match committer {
        Ok((committer, _)) => {
            let partitions: Vec<TopicPartition> = wanted.iter().map(|(partition, _)| partition.clone()).collect();
            let stable = shared.isolation() == IsolationLevel::ReadCommitted;
            fetch_committed(&shared.client, &committer, &partitions, stable).await
        }
        Err(error) => Err(error),
    };
    let mut state = group.lock();
    let mut fetching = shared.lock();
    let now = shared.client.now();
    for (partition, fence) in wanted {
        let answer = match &answers {
            Ok(answers) => answers.get(partition).cloned().unwrap_or(Ok(None)),
            Err(error) => Err(error.clone()),
        };
        match answer {
            Ok(committed) => {
                let start = committed.map(|committed| (committed.offset, committed.leader_epoch));
                let offset = start.map(|(offset, _)| offset);
                tracing::debug!(%partition, ?offset, "the committed offset is known");
                if let (Some(offset), Some(assignment)) = (offset, fetching.subscription.assignment_of(partition))
                    && fetching.subscription.is_current(partition, *fence)
                {
                    state.stored.handle_committed(partition, assignment, offset);
                }
                fetching.subscription.handle_committed(partition, *fence, start);
            }
            Err(error) => {
                tracing::debug!(%partition, %error, "the committed offset could not be fetched; trying again");
                // That the membership is over is told by the machine.
                if !error.retriable()
                    && error.kind() != ErrorKind::Fenced
                    && fetching.subscription.is_current(partition, *fence)
                {
                    fetching.report(error.with_partition(partition, None));
                }
                fetching.subscription.handle_committed_failed(partition, *fence, now);
            }
        }
    }
    drop(fetching);
    drop(state);
    shared.arrived();
    shared.stir();
}
