//! Commits: one at a time, in the order in which they were asked for.
//!
//! In: offsets to commit, from the application, from the clock of automatic commits, from a revocation or on closing. Out:
//! word to whoever asked. A commit is tried again as long as its trouble may pass and its time is not over. Between two
//! attempts everything is looked at anew: who we are in the group, and whether each partition is still ours under the
//! same assignment. What is not is never sent.

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use ottla_client_state::TopicPartition;
use ottla_client_state::backoff::Backoff;
use ottla_client_state::commit::{Choice, Chosen, OffsetAndMetadata};
use ottla_client_state::membership::Generation;
use ottla_protocol::{ErrorCode, Uuid};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::committed::commit;
use super::fetcher::{Shared, State};
use super::group::{Group, GroupState, Revocation, be_alive_and, chosen, gone, store_handed_of};
use super::rebalance::ConsumerEvent;
use super::records::{ConsumerRecords, HandedOffset};
use super::{Consumer, no_group};
use crate::error::{Error, ErrorKind, Result};

/// The longest that a commit nobody waits for is tried.
const BACKGROUND: Duration = Duration::from_secs(5);

/// How often a commit nobody waits for is tried for a topic that the coordinator does not know.
const MAX_UNKNOWN: u32 = 3;

/// Offsets to be committed together.
#[derive(Debug)]
pub(super) struct CommitJob {
    pub offsets: Choice,
    pub deadline: Instant,
    pub purpose: Purpose,
}

/// Who wants a commit.
#[derive(Debug)]
pub(super) enum Purpose {
    /// The clock.
    Auto,
    /// These partitions are let go afterwards, whatever comes of it.
    Revoke(Vec<TopicPartition>),
    /// The consumer closes.
    Close,
    /// The application, which may have stopped waiting.
    Application(oneshot::Sender<Result<()>>),
}

/// A commit on its way; see [`Consumer::commit_async`]. Dropping it does not cancel the commit.
#[derive(Debug)]
#[must_use = "the error of a commit is only told here; drop it explicitly if it does not matter"]
pub struct Committing {
    outcome: Outcome,
}

#[derive(Debug)]
enum Outcome {
    Known(Option<Result<()>>),
    Awaited(oneshot::Receiver<Result<()>>),
}

impl Future for Committing {
    type Output = Result<()>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Result<()>> {
        match &mut self.outcome {
            Outcome::Known(outcome) => Poll::Ready(outcome.take().unwrap_or(Ok(()))),
            Outcome::Awaited(awaited) => Pin::new(awaited)
                .poll(context)
                .map(|told| told.unwrap_or_else(|_| Err(Error::closed("consumer")))),
        }
    }
}

impl Consumer {
    /// Commits the positions of all assigned partitions: all records that were handed over count as processed. With
    /// `enable.auto.offset.store=false`, the offsets given to [`store_offsets`](Consumer::store_offsets).
    ///
    /// Waits for the coordinator, up to `default.api.timeout.ms`. Cancel-safe: dropping it does not take the commit back.
    ///
    /// # Errors
    /// [`ErrorKind::Fenced`]: the group went on without this consumer and nothing was overwritten; the records will be read
    /// again. The coordinator could not be reached in time, or refused. Without `group.id`: [`ErrorKind::Config`].
    pub async fn commit(&self) -> Result<()> {
        self.commit_async().await
    }

    /// Begins to commit the positions of all assigned partitions, as [`Consumer::commit`], and returns at once. Later
    /// commits are sent after this one.
    pub fn commit_async(&self) -> Committing {
        self.enqueue(|group, state| {
            if !group.config.enable_auto_offset_store {
                return Ok(state.stored.uncommitted(|_| true));
            }
            let mut fetching = self.shared.lock();
            store_handed_of(&self.shared, &mut fetching, group, state, |_| true);
            Ok(positions(&fetching, state, |_| true))
        })
    }

    /// As [`Consumer::commit_async`], for a program between this consumer and the application that hands records on
    /// later than it gets them, with `enable.auto.offset.store=false`: of the partitions in `held`, of which it still has
    /// records, only what was stored is committed; of all others the position.
    pub fn commit_positions_async(&self, held: &BTreeSet<TopicPartition>) -> Committing {
        self.enqueue(|_, state| Ok(positions(&self.shared.lock(), state, |of| !held.contains(of))))
    }

    /// Commits these offsets: for each partition that of the next record to read.
    ///
    /// Of a subscribed consumer the partitions must be assigned; one that assigns its partitions itself may commit any.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; a negative offset.
    pub async fn commit_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, impl Into<OffsetAndMetadata>)>,
    ) -> Result<()> {
        let offsets: Vec<_> = offsets
            .into_iter()
            .map(|(partition, offset)| (partition, offset.into()))
            .collect();
        let begun = self.enqueue(|_, state| {
            let named = offsets.into_iter().map(|(partition, offset)| {
                let chosen = chosen(&self.shared, state, &partition, offset, None)?;
                Ok((partition, chosen))
            });
            named.collect()
        });
        begun.await
    }

    /// Commits the offsets after these records: they are processed, and all before them of the same partitions.
    ///
    /// # Errors
    /// As [`Consumer::commit`]; [`ErrorKind::Fenced`] for records of a partition that was given up since they were handed
    /// over, even if it has come back.
    pub async fn commit_records(&self, records: &ConsumerRecords) -> Result<()> {
        self.commit_handed(records.runs().map(|run| run.handed())).await
    }

    /// As [`Consumer::commit_records`], for a part of what a poll handed over; see
    /// [`RecordRun::handed`](super::RecordRun::handed).
    ///
    /// # Errors
    /// As there.
    pub async fn commit_handed(&self, handed: impl IntoIterator<Item = HandedOffset>) -> Result<()> {
        let begun = self.enqueue(|_, state| {
            let mut choice = Choice::new();
            for handed in handed {
                let offset = handed.processed();
                let chosen = chosen(&self.shared, state, &handed.partition, offset, Some(handed.assignment))?;
                choice.insert(handed.partition, chosen);
            }
            Ok(choice)
        });
        begun.await
    }

    /// Says that all records before these offsets are processed, so that the next commit takes them: an automatic one, one
    /// before a rebalance or on closing, or [`Consumer::commit`]. For `enable.auto.offset.store=false`. A sign of life.
    ///
    /// # Errors
    /// A partition is not assigned any more ([`ErrorKind::Fenced`]), or an offset is negative; the others are stored.
    pub fn store_offsets(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, impl Into<OffsetAndMetadata>)>,
    ) -> Result<()> {
        self.store(offsets, |state, (partition, offset)| {
            let chosen = chosen(&self.shared, state, &partition, offset.into(), None)?;
            match chosen.assignment {
                Some(assignment) => Ok((partition, assignment, chosen.offset)),
                None => Err(super::not_assigned(&partition)),
            }
        })
    }

    /// Says that these records are processed, and all before them of the same partitions; as
    /// [`Consumer::store_offsets`].
    ///
    /// # Errors
    /// As there, also for records of a partition that was given up since they were handed over.
    pub fn store_records(&self, records: &ConsumerRecords) -> Result<()> {
        self.store_handed(records.runs().map(|run| run.handed()))
    }

    /// As [`Consumer::store_records`], for a part of what a poll handed over; see
    /// [`RecordRun::handed`](super::RecordRun::handed).
    ///
    /// # Errors
    /// As there.
    pub fn store_handed(&self, handed: impl IntoIterator<Item = HandedOffset>) -> Result<()> {
        self.store(handed, |_, handed| {
            let current = self.shared.lock().subscription.assignment_of(&handed.partition);
            if current == Some(handed.assignment) {
                let offset = handed.processed();
                Ok((handed.partition, handed.assignment, offset))
            } else {
                Err(gone(&handed.partition, handed.offset))
            }
        })
    }

    /// Stores what `choose` makes of each item; gives the first error.
    fn store<T>(
        &self,
        items: impl IntoIterator<Item = T>,
        choose: impl Fn(&GroupState, T) -> Result<(TopicPartition, u64, OffsetAndMetadata)>,
    ) -> Result<()> {
        let group = self.group()?;
        let now = self.shared.client.now();
        let mut state = group.lock();
        let (woken, outcome) = be_alive_and(&self.shared, &mut state, |state| {
            let mut outcome = Ok(());
            for item in items {
                match choose(state, item) {
                    Ok((partition, assignment, offset)) => state.stored.note(&partition, assignment, offset, now),
                    Err(error) => outcome = outcome.and(Err(error)),
                }
            }
            outcome
        });
        drop(state);
        if woken {
            group.stir();
        }
        outcome
    }

    fn enqueue(&self, choose: impl FnOnce(&Group, &mut GroupState) -> Result<Choice>) -> Committing {
        let begun = (|| {
            self.check_open()?;
            let group = self.group()?;
            let mut state = group.lock();
            let offsets = choose(group, &mut state)?;
            if offsets.is_empty() {
                return Ok(Outcome::Known(Some(Ok(()))));
            }
            for (partition, chosen) in &offsets {
                state.stored.handle_committing(partition, chosen);
            }
            let (tell, told) = oneshot::channel();
            state.jobs.push_back(CommitJob {
                offsets,
                deadline: Instant::now() + self.shared.config.default_api_timeout,
                purpose: Purpose::Application(tell),
            });
            drop(state);
            group.stir();
            Ok(Outcome::Awaited(told))
        })();
        Committing {
            outcome: begun.unwrap_or_else(|error| Outcome::Known(Some(Err(error)))),
        }
    }

    pub(super) fn group(&self) -> Result<&Group> {
        self.shared.group.as_ref().ok_or_else(no_group)
    }
}

/// What is stored, and the positions of the assigned partitions that `of` accepts.
fn positions(fetching: &State, state: &GroupState, of: impl Fn(&TopicPartition) -> bool) -> Choice {
    let processed = state.stored.uncommitted(|_| true);
    let mut choice = Choice::new();
    for partition in fetching.subscription.assigned() {
        let known = processed.get(partition);
        if !of(partition) {
            choice.extend(known.map(|known| (partition.clone(), known.clone())));
            continue;
        }
        let (Some(position), Some(assignment)) = (
            fetching.subscription.position(partition),
            fetching.subscription.assignment_of(partition),
        ) else {
            continue;
        };
        let known = known.filter(|known| known.offset.offset == position);
        let offset = known.map_or_else(|| OffsetAndMetadata::new(position), |known| known.offset.clone());
        let epoch = fetching.subscription.position_epoch(partition).unwrap_or(-1);
        let offset = offset.leader_epoch(epoch);
        let assignment = Some(assignment);
        choice.insert(partition.clone(), Chosen { offset, assignment });
    }
    choice
}

/// The committer: runs until the coordinator task has ended and nothing is left to commit.
pub(super) async fn commit_all(shared: Arc<Shared>) {
    let Some(group) = &shared.group else { return };
    let mut stirred = group.stirred.subscribe();
    let mut over = group.over.subscribe();
    loop {
        stirred.mark_unchanged();
        match next_job(&shared, group) {
            Some(job) => {
                let outcome = run(&shared, group, &job).await;
                settle(group, job, outcome);
            }
            None if *over.borrow() => return,
            None => {
                let due = group.lock().stored.wake_at();
                tokio::select! {
                    _ = stirred.changed() => {}
                    _ = over.changed() => {}
                    () = super::fetcher::sleep_until(&shared.client, due) => {}
                }
            }
        }
    }
}

/// What to commit next: what was asked for, then what a revocation waits for, then what is due by the clock.
fn next_job(shared: &Shared, group: &Group) -> Option<CommitJob> {
    let mut state = group.lock();
    if let Some(job) = state.jobs.pop_front() {
        return Some(job);
    }
    if let Some(Revocation::Ready(partitions, named)) = state.revocation.clone() {
        state.revocation = Some(Revocation::Committing(partitions.clone()));
        return Some(revocation_job(shared, group, &state, partitions, named));
    }
    if state.closing.is_some() {
        return None;
    }
    let offsets = state.stored.next_due(shared.client.now())?;
    Some(CommitJob {
        offsets,
        deadline: Instant::now() + BACKGROUND,
        purpose: Purpose::Auto,
    })
}

fn revocation_job(
    shared: &Shared,
    group: &Group,
    state: &GroupState,
    partitions: Vec<TopicPartition>,
    named: BTreeMap<TopicPartition, OffsetAndMetadata>,
) -> CommitJob {
    let mut offsets = match group.config.enable_auto_commit {
        true => state.stored.uncommitted(|partition| partitions.contains(partition)),
        false => Choice::new(),
    };
    for (partition, offset) in named {
        match chosen(shared, state, &partition, offset, None) {
            Ok(chosen) => drop(offsets.insert(partition, chosen)),
            Err(error) => tracing::warn!(%error, "an offset that the rebalance listener named is not committed"),
        }
    }
    // The group waits for this member no longer than for its polls.
    let patience = Duration::from_millis(group.config.max_poll_interval_ms).min(shared.config.default_api_timeout);
    let deadline = Instant::now() + patience;
    CommitJob {
        offsets,
        deadline: state.closing.map_or(deadline, |closing| closing.deadline.min(deadline)),
        purpose: Purpose::Revoke(partitions),
    }
}

/// Tries until all is committed, refused for good, or the time is over.
async fn run(shared: &Arc<Shared>, group: &Group, job: &CommitJob) -> Result<BTreeMap<TopicPartition, i64>> {
    let config = &shared.config.client;
    let mut backoff = Backoff::new(config.retry_backoff_ms, config.retry_backoff_max_ms, rand::random());
    let mut attempts = Attempts {
        ids: ids_of(shared, &job.offsets),
        open: job.offsets.clone(),
        done: BTreeMap::new(),
        refusal: None,
        failures: 0,
    };
    loop {
        let trouble = tokio::time::timeout_at(limit(group, job), attempts.once(shared, group, job)).await;
        let trouble = match trouble {
            Ok(None) => break,
            Ok(Some(error)) => Some(error),
            Err(_) => None,
        };
        attempts.failures += 1;
        let again = Instant::now() + Duration::from_millis(backoff.next_ms(attempts.failures));
        if again >= limit(group, job) {
            let text = format!(
                "group {:?}: the offsets of {} partitions could not be committed in time",
                group.id,
                attempts.open.len()
            );
            return Err(Error::timeout(text, trouble.as_ref()).with_persisted(crate::error::Persisted::Possibly));
        }
        tokio::time::sleep_until(again).await;
    }
    match attempts.refusal {
        Some(error) => Err(error),
        None => Ok(attempts.done),
    }
}

/// The ids of the topics of these offsets, as far as they are known.
fn ids_of(shared: &Shared, offsets: &Choice) -> BTreeMap<Arc<str>, Uuid> {
    let fetching = shared.lock();
    let id_of = |topic: &Arc<str>| Some((topic.clone(), *fetching.topic_ids.get(topic)?));
    offsets.keys().filter_map(|partition| id_of(&partition.topic)).collect()
}

/// When a commit is given up; closing may end it earlier.
fn limit(group: &Group, job: &CommitJob) -> Instant {
    let closing = group.lock().closing.map(|closing| closing.deadline);
    closing.map_or(job.deadline, |closing| closing.min(job.deadline))
}

/// The story of one commit.
struct Attempts {
    /// Of the topics of all these partitions, when the commit began. One that is deleted and created anew meanwhile does not
    /// get the offsets of the one before.
    ids: BTreeMap<Arc<str>, Uuid>,
    open: Choice,
    done: BTreeMap<TopicPartition, i64>,
    /// The first error that will stay.
    refusal: Option<Error>,
    failures: u32,
}

impl Attempts {
    /// One attempt. Gives the trouble that may pass; `None` when nothing is left to try.
    async fn once(&mut self, shared: &Arc<Shared>, group: &Group, job: &CommitJob) -> Option<Error> {
        let (committer, generation) = {
            let state = group.lock();
            self.drop_gone(shared, &state);
            if self.open.is_empty() {
                return None;
            }
            match group.committer(&state) {
                Ok(who) => who,
                Err(error) => return Some(error),
            }
        };
        let offsets = self
            .open
            .iter()
            .map(|(partition, chosen)| (partition.clone(), chosen.offset.clone()))
            .collect();
        let answers = match commit(&shared.client, &committer, &offsets, &self.ids).await {
            Ok(answers) => answers,
            Err(error) if error.retriable() || error.kind() == ErrorKind::Protocol => return Some(error),
            Err(error) => {
                self.refusal.get_or_insert(error);
                return None;
            }
        };
        let mut trouble = None;
        let mut state = group.lock();
        for (partition, answer) in answers {
            match answer {
                Ok(()) => {
                    if let Some(chosen) = self.open.remove(&partition) {
                        if let Some(assignment) = chosen.assignment {
                            state
                                .stored
                                .handle_committed(&partition, assignment, chosen.offset.offset);
                        }
                        self.done.insert(partition, chosen.offset.offset);
                    }
                }
                Err(error) if self.may_pass(&state, job, &error, generation.as_ref()) => trouble = Some(error),
                Err(error) => {
                    self.open.remove(&partition);
                    tell_machine(shared, &mut state, &error, generation.as_ref());
                    self.refusal.get_or_insert(error);
                }
            }
        }
        drop(state);
        group.stir();
        if trouble.is_some() {
            shared.client.request_refresh();
        }
        trouble
    }

    /// What is not ours under the same assignment is not sent, nor what is of a topic that another one has replaced.
    fn drop_gone(&mut self, shared: &Shared, state: &GroupState) {
        let fetching = shared.lock();
        let is_ours = |partition: &TopicPartition, assignment: Option<u64>| {
            !state.is_member() || (assignment.is_some() && fetching.subscription.assignment_of(partition) == assignment)
        };
        let ids = &self.ids;
        let is_same = |topic: &Arc<str>| {
            ids.get(topic)
                .is_none_or(|id| fetching.topic_ids.get(topic) == Some(id))
        };
        self.open.retain(|partition, chosen| {
            let flaw = match is_same(&partition.topic) {
                false => replaced(partition, chosen.offset.offset),
                true if is_ours(partition, chosen.assignment) => return true,
                true => gone(partition, chosen.offset.offset),
            };
            self.refusal.get_or_insert(flaw);
            false
        });
    }

    fn may_pass(&self, state: &GroupState, job: &CommitJob, error: &Error, sent_as: Option<&Generation>) -> bool {
        match error.code() {
            // The group has gone on and so have we; partitions that stayed ours are committed under the new generation.
            Some(ErrorCode::IllegalGeneration | ErrorCode::StaleMemberEpoch) => {
                let now = state.membership.generation();
                sent_as.is_some() && now.is_some() && now.as_ref() != sent_as
            }
            Some(ErrorCode::UnknownTopicOrPartition | ErrorCode::UnknownTopicId) => {
                matches!(job.purpose, Purpose::Application(_)) || self.failures < MAX_UNKNOWN
            }
            _ => error.retriable(),
        }
    }
}

/// The error of an offset of a topic that is not there any more, though its name is.
fn replaced(partition: &TopicPartition, offset: i64) -> Error {
    let text = format!("offset {offset} of {partition} is not committed: the topic was deleted and created anew");
    Error::new(ErrorKind::UnknownTopic, text).with_partition(partition, Some(offset))
}

/// What a commit was told may say that the membership is over.
fn tell_machine(shared: &Shared, state: &mut GroupState, error: &Error, sent_as: Option<&Generation>) {
    if let (Some(code), Some(sent_as)) = (error.raw_code(), sent_as) {
        let now = shared.client.now();
        state.membership.handle_fenced_commit(code, sent_as, now);
    }
}

/// Tells whoever asked.
fn settle(group: &Group, job: CommitJob, outcome: Result<BTreeMap<TopicPartition, i64>>) {
    let mut state = group.lock();
    if let (Some(_), Ok(done)) = (state.closing, &outcome) {
        state.committed_on_close.extend(done.clone());
    }
    match job.purpose {
        Purpose::Application(tell) => {
            // Nobody may be waiting any more.
            let _ = tell.send(outcome.map(drop));
        }
        Purpose::Auto => note_failure(group, &mut state, outcome.err()),
        Purpose::Close => {
            state.close_error = outcome.err();
        }
        Purpose::Revoke(partitions) => {
            let failure = outcome.err();
            if state.closing.is_some() {
                state.close_error = failure;
            } else {
                note_failure(group, &mut state, failure);
            }
            // If the partitions were lost meanwhile, there is nothing to let go.
            if state.revocation == Some(Revocation::Committing(partitions.clone())) {
                state.revocation = Some(Revocation::Committed(partitions));
            }
        }
    }
    drop(state);
    group.stir();
}

fn note_failure(group: &Group, state: &mut GroupState, failure: Option<Error>) {
    if let Some(error) = failure {
        tracing::warn!(group = %group.id, %error, "processed offsets could not be committed automatically");
        if group.by_events {
            state.push_event(ConsumerEvent::CommitFailed(error));
        }
    }
}
