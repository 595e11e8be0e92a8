//! What a member of a group has beside its records: what is processed, events, commits, a way to leave.
//!
//! In: word from the skin of how many records of the last batch the application is done with. Out: offsets stored in the
//! client, which commits them; events of the group, one by one, through polls. The client itself stores nothing: what it
//! has handed to a skin may still wait there, so only what the skin reports counts. Nothing here runs code of the
//! application.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ottla::{
    Committing, ConsumerEvent, ConsumerGroupMetadata, HandedOffset, LeaveMode, OffsetAndMetadata, TopicPartition,
};

use crate::Pairs;
use crate::batch::Batch;
use crate::consumer::{Consumer, Inner, Taken};
use crate::error::Error;
use crate::health;
use crate::runtime::spawn;

/// How often, at most, records that are handed out one by one are stored and count as a sign of life.
const STORE_EVERY: Duration = Duration::from_millis(100);

/// What the application is told of its group.
#[derive(Debug, Clone)]
pub enum Event {
    /// These partitions are assigned now, and nothing of them was handed over yet; may be empty.
    Assigned(Vec<TopicPartition>),
    /// These partitions are being given up: nothing of them is handed over any more. They go to other members after
    /// [`Consumer::acknowledge`].
    Revoked(Vec<TopicPartition>),
    /// These partitions belong to others already. The error says why; a following poll gives it, too.
    Lost(Vec<TopicPartition>, Error),
    /// A rebalance begins; why, in words.
    Rebalancing(String),
    /// Offsets could not be committed, and nobody waits to be told.
    CommitFailed(Error),
    /// A partition has records and does not move: its progress, as one object of [`Consumer::progress`].
    Stalled(TopicPartition, String),
}

impl Event {
    /// Its name, the same in every language.
    pub fn name(&self) -> &'static str {
        match self {
            Event::Assigned(_) => "assigned",
            Event::Revoked(_) => "revoked",
            Event::Lost(..) => "lost",
            Event::Rebalancing(_) => "rebalancing",
            Event::CommitFailed(_) => "commit_failed",
            Event::Stalled(..) => "stalled",
        }
    }

    /// The partitions that it is about.
    pub fn partitions(&self) -> &[TopicPartition] {
        match self {
            Event::Assigned(all) | Event::Revoked(all) | Event::Lost(all, _) => all,
            Event::Stalled(one, _) => std::slice::from_ref(one),
            Event::Rebalancing(_) | Event::CommitFailed(_) => &[],
        }
    }

    /// What went wrong.
    pub fn error(&self) -> Option<&Error> {
        match self {
            Event::Lost(_, error) | Event::CommitFailed(error) => Some(error),
            _ => None,
        }
    }

    /// Why a rebalance begins, or the progress of a partition that does not move.
    pub fn detail(&self) -> Option<&str> {
        match self {
            Event::Rebalancing(text) | Event::Stalled(_, text) => Some(text),
            _ => None,
        }
    }

    fn of(event: ConsumerEvent) -> Option<Event> {
        Some(match event {
            ConsumerEvent::Rebalancing(why) => Event::Rebalancing(why),
            ConsumerEvent::Assigned(partitions) => Event::Assigned(partitions),
            ConsumerEvent::Revoked(partitions) => Event::Revoked(partitions),
            ConsumerEvent::Lost(partitions, error) => Event::Lost(partitions, error.into()),
            ConsumerEvent::CommitFailed(error) => Event::CommitFailed(error.into()),
            ConsumerEvent::Stalled(progress) => {
                Event::Stalled(progress.partition.clone(), health::progress_of(&progress).to_string())
            }
            // The client may get events before the bindings do.
            _ => return None,
        })
    }
}

/// What closing did.
#[derive(Debug, Clone, Default)]
pub struct Closed {
    /// The offsets that it committed.
    pub committed: BTreeMap<TopicPartition, i64>,
    /// Partitions of which records were handed out that are not known to be processed, with the offset after the last one.
    pub unprocessed: BTreeMap<TopicPartition, i64>,
    /// Whether all was done by the deadline.
    pub finished: bool,
    /// Why offsets could not be committed, if they could not.
    pub error: Option<Error>,
}

/// Records that were handed over last.
#[derive(Debug)]
struct Hand {
    batch: Arc<Batch>,
    /// So many of them are processed.
    done: usize,
    /// So many of them are out; those behind were given back.
    out: usize,
    /// What is in hand of these was left by a seek.
    left: Vec<TopicPartition>,
    stored: usize,
    stored_at: Instant,
}

impl Hand {
    fn new(batch: Arc<Batch>) -> Self {
        Hand {
            out: batch.len(),
            batch,
            done: 0,
            left: Vec::new(),
            stored: 0,
            stored_at: Instant::now(),
        }
    }

    /// What is to be stored, and was not yet.
    fn take_done(&mut self) -> Vec<HandedOffset> {
        if self.stored == self.done {
            return Vec::new();
        }
        let mut handed = self.batch.handed(self.stored..self.done);
        handed.retain(|handed| !self.left.contains(handed.topic_partition()));
        self.stored = self.done;
        handed
    }

    fn open(&self) -> BTreeMap<TopicPartition, i64> {
        let open = self.batch.handed(self.done..self.out).into_iter();
        open.filter(|handed| !self.left.contains(handed.topic_partition()))
            .map(|handed| (handed.topic_partition().clone(), handed.offset()))
            .collect()
    }
}

/// The group part of a consumer.
#[derive(Debug)]
pub(crate) struct Group {
    /// `enable.auto.offset.store` as the application set it.
    stores: bool,
    hand: Mutex<Option<Hand>>,
    /// Events of the bindings' own.
    events: Mutex<VecDeque<Event>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is whole after every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What was given up meanwhile is not stored: whoever has it now may be further, and the event or error of that tells.
fn store(client: &ottla::Consumer, handed: Vec<HandedOffset>) {
    if !handed.is_empty()
        && let Err(error) = client.store_handed(handed)
    {
        tracing::debug!(%error, "processed records of partitions that were given up are not stored");
    }
}

impl Group {
    /// The group part if these keys name a group, and the keys for the client.
    pub fn of(mut pairs: Pairs) -> (Pairs, Option<Group>) {
        let last = |key: &str| pairs.iter().rev().find(|(known, _)| known == key);
        if last("group.id").is_none_or(|(_, id)| id.trim().is_empty()) {
            return (pairs, None);
        }
        let said = last("enable.auto.offset.store").map(|(_, value)| value.trim().to_ascii_lowercase());
        let stores = said.as_deref() != Some("false");
        // A value that is no boolean goes through, to be refused.
        if said.is_none_or(|said| said == "true") {
            pairs.push(("enable.auto.offset.store".into(), "false".into()));
        }
        let group = Group {
            stores,
            hand: Mutex::default(),
            events: Mutex::default(),
        };
        (pairs, Some(group))
    }

    /// Polls the client. What comes is in hand before anybody can see that the position has moved over it.
    pub fn poll(&self, client: &ottla::Consumer, most: Option<usize>) -> Result<Taken, ottla::Error> {
        let mut hand = lock(&self.hand);
        let taken = Taken::of(client.try_poll(most)?);
        if let Taken::Records(batch) = &taken {
            *hand = Some(Hand::new(batch.clone()));
        }
        Ok(taken)
    }

    /// The application asks for more: it is done with all that it has.
    pub fn all_processed(&self, client: &ottla::Consumer) {
        let hand = lock(&self.hand).take();
        if let Some(mut hand) = hand
            && self.stores
        {
            hand.done = hand.out;
            store(client, hand.take_done());
        }
    }

    /// Of partitions of which records wait in the skin, what is handed out; of all others the position.
    fn commit(&self, client: &ottla::Consumer, out: Option<usize>) -> Committing {
        let mut hand = lock(&self.hand);
        let held = hand.as_mut().map_or_else(BTreeSet::new, |hand| {
            hand.done = hand.done.max(out.unwrap_or(hand.out).min(hand.out));
            store(client, hand.take_done());
            hand.open().into_keys().collect()
        });
        client.commit_positions_async(&held)
    }

    fn processed(&self, client: &ottla::Consumer, done: usize) {
        let handed = {
            let mut hand = lock(&self.hand);
            let Some(hand) = hand.as_mut() else { return };
            hand.done = hand.done.max(done.min(hand.out));
            if hand.stored_at.elapsed() < STORE_EVERY {
                return;
            }
            hand.stored_at = Instant::now();
            match self.stores {
                true => hand.take_done(),
                false => Vec::new(),
            }
        };
        match handed.is_empty() {
            true => drop(client.keep_alive()),
            false => store(client, handed),
        }
    }

    /// Stores what is known to be processed, now.
    fn settle(&self, client: &ottla::Consumer) {
        if !self.stores {
            return;
        }
        let handed = lock(&self.hand).as_mut().map(Hand::take_done);
        store(client, handed.unwrap_or_default());
    }

    /// The application went elsewhere in this partition.
    pub fn moved(&self, partition: &TopicPartition) {
        if let Some(hand) = lock(&self.hand).as_mut() {
            hand.left.push(partition.clone());
        }
    }

    /// Whatever is in hand is nobody's affair any more.
    fn let_go(&self) {
        lock(&self.hand).take();
    }

    pub fn next_event(&self, client: &ottla::Consumer) -> Option<Event> {
        if let Some(event) = lock(&self.events).pop_front() {
            return Some(event);
        }
        while let Some(event) = client.try_event() {
            let event = Event::of(event);
            if event.is_some() {
                return event;
            }
        }
        None
    }

    pub fn push_event(&self, event: Event) {
        lock(&self.events).push_back(event);
    }
}

/// Offsets to commit or to store, by name.
pub type Offsets = Vec<(TopicPartition, OffsetAndMetadata)>;

impl Consumer {
    /// Whether it has a `group.id`.
    pub fn has_group(&self) -> bool {
        self.inner().is_ok_and(|inner| inner.group.is_some())
    }

    /// The application is done with so many records of the last batch. A sign of life. Cheap; for skins that hand out
    /// records one by one.
    pub fn processed(&self, done: usize) {
        if let Ok(inner) = self.inner()
            && let Some(group) = &inner.group
            && let Some(client) = inner.connected_client()
        {
            group.processed(client, done);
        }
    }

    /// Records of the last batch from number `out` on were never handed out: the skin goes back to the first of each
    /// partition, and gets them again. `done` as in [`processed`](Consumer::processed).
    ///
    /// # Errors
    /// A partition is not assigned any more, or the consumer is closed.
    pub fn give_back(&self, done: usize, out: usize, firsts: &[(TopicPartition, i64)]) -> Result<(), Error> {
        let client = self.client()?;
        for (partition, offset) in firsts {
            client.seek(partition, *offset)?;
        }
        let inner = self.inner()?;
        if let Some(group) = &inner.group {
            if let Some(hand) = lock(&group.hand).as_mut() {
                hand.out = out.min(hand.out);
                hand.done = hand.done.max(done).min(hand.out);
                // The seek had the client forget it.
                hand.stored = 0;
            }
            group.settle(client);
        }
        Ok(())
    }

    /// Reads these topics as a member of the group, instead of those before.
    ///
    /// # Errors
    /// There is no `group.id`, partitions were assigned by `assign`, an empty name; closed or not connected.
    pub fn subscribe(&self, topics: Vec<String>) -> Result<(), Error> {
        Ok(self.client()?.subscribe(topics)?)
    }

    /// Reads all topics whose whole name matches the pattern.
    ///
    /// # Errors
    /// As [`subscribe`](Consumer::subscribe); it is no regular expression.
    pub fn subscribe_pattern(&self, pattern: &str) -> Result<(), Error> {
        Ok(self.client()?.subscribe_pattern(pattern)?)
    }

    /// Commits what is processed, lets go of all partitions and leaves the group. Whatever is in hand counts as let go.
    pub fn unsubscribe(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let inner = inner?;
            let client = inner.connected().await?;
            if let Some(group) = &inner.group {
                group.settle(client);
                group.let_go();
            }
            Ok(client.unsubscribe().await?)
        }
    }

    /// The topics subscribed to.
    ///
    /// # Errors
    /// Closed or not connected.
    pub fn subscription(&self) -> Result<Vec<String>, Error> {
        let topics = self.client()?.subscription();
        Ok(topics.iter().map(|topic| topic.to_string()).collect())
    }

    /// The application has let go of revoked partitions: what is processed of them is committed, and they go to other
    /// members. What is in hand of the last batch counts as processed: whoever was told has asked for more.
    ///
    /// # Errors
    /// Closed or not connected.
    pub fn acknowledge(&self) -> Result<(), Error> {
        let client = self.client()?;
        Ok(client.acknowledge_revocation()?)
    }

    /// Begins to commit the positions, as the client does: all of which the application has every record, with the `out`
    /// records that were handed out of the last batch. With `enable.auto.offset.store=false` all that was stored. Later
    /// commits come after it. Dropping the future takes nothing back.
    pub fn commit(&self, out: Option<usize>) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let begun = (|| {
            let inner = self.inner()?;
            let client = inner.client()?;
            Ok::<_, Error>(match &inner.group {
                Some(group) if group.stores => group.commit(client, out),
                _ => client.commit_async(),
            })
        })();
        async move { Ok(begun?.await?) }
    }

    /// As [`commit`](Consumer::commit), for nobody to wait for: a failure becomes an event.
    ///
    /// # Errors
    /// No threads.
    pub fn commit_in_background(&self, out: Option<usize>) -> Result<(), Error> {
        let inner = self.shared()?;
        let committing = self.commit(out);
        spawn(async move {
            if let Err(error) = committing.await
                && let Some(group) = &inner.group
            {
                group.push_event(Event::CommitFailed(error));
                inner.stir();
            }
        })
    }

    /// Commits these offsets.
    pub fn commit_offsets(&self, offsets: Offsets) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.connected().await?.commit_offsets(offsets).await?) }
    }

    /// Commits the offsets after these records; see [`Batch::handed`].
    pub fn commit_handed(&self, handed: Vec<HandedOffset>) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.connected().await?.commit_handed(handed).await?) }
    }

    /// All before these offsets is processed: the next commit takes them.
    ///
    /// # Errors
    /// A partition is not assigned, a negative offset; closed or not connected.
    pub fn store_offsets(&self, offsets: Offsets) -> Result<(), Error> {
        Ok(self.client()?.store_offsets(offsets)?)
    }

    /// These records are processed, and all before them of the same partitions.
    ///
    /// # Errors
    /// A partition was given up since; closed or not connected.
    pub fn store_handed(&self, handed: Vec<HandedOffset>) -> Result<(), Error> {
        Ok(self.client()?.store_handed(handed)?)
    }

    /// The committed offset of each partition.
    pub fn committed(
        &self,
        partitions: Vec<TopicPartition>,
    ) -> impl Future<Output = Result<BTreeMap<TopicPartition, Option<OffsetAndMetadata>>, Error>> + Send + use<> {
        let inner = self.shared();
        async move { Ok(inner?.connected().await?.committed(&partitions).await?) }
    }

    /// Who this consumer is in its group.
    ///
    /// # Errors
    /// There is no `group.id`; closed or not connected.
    pub fn group_metadata(&self) -> Result<ConsumerGroupMetadata, Error> {
        Ok(self.client()?.group_metadata()?)
    }

    /// The same as a JSON object.
    ///
    /// # Errors
    /// As there.
    pub fn group_metadata_json(&self) -> Result<String, Error> {
        let known = self.group_metadata()?;
        let object = serde_json::json!({
            "group_id": &*known.group_id,
            "generation_id": known.generation_id,
            "member_id": &*known.member_id,
            "group_instance_id": known.group_instance_id.as_deref(),
        });
        Ok(object.to_string())
    }

    /// Has the group rebalance.
    ///
    /// # Errors
    /// It is not subscribed; closed or not connected.
    pub fn enforce_rebalance(&self, reason: &str) -> Result<(), Error> {
        Ok(self.client()?.enforce_rebalance(reason)?)
    }

    /// The next poll may take until then.
    ///
    /// # Errors
    /// There is no `group.id`; closed or not connected.
    pub fn extend_poll(&self, within: Duration) -> Result<(), Error> {
        Ok(self.client()?.extend_poll(within)?)
    }

    /// How far each assigned partition is and why it does not move, as a JSON array.
    ///
    /// # Errors
    /// Closed or not connected.
    pub fn progress(&self) -> Result<String, Error> {
        Ok(health::progress(&self.client()?.progress()).to_string())
    }

    /// How this consumer is, as a JSON object.
    ///
    /// # Errors
    /// Closed or not connected.
    pub fn health(&self) -> Result<String, Error> {
        Ok(health::health(&self.client()?.health()).to_string())
    }

    /// Closes it and waits, at most `deadline`, until what is processed is committed and the group is left. `done` records of
    /// the last batch are processed, and `out` were handed out.
    pub fn finish(
        &self,
        deadline: Duration,
        done: Option<usize>,
        out: Option<usize>,
    ) -> impl Future<Output = Result<Closed, Error>> + Send + use<> {
        let inner = self.shared();
        if let Ok(inner) = &inner {
            settle_last(inner, done, out);
            inner.close();
        }
        async move {
            let inner = inner?;
            let Some(client) = inner.connected_client() else {
                return Ok(Closed {
                    finished: true,
                    ..Closed::default()
                });
            };
            let told = client.finish(deadline, LeaveMode::Default).await;
            let hand = inner.group.as_ref().and_then(|group| lock(&group.hand).take());
            Ok(Closed {
                committed: told.committed,
                unprocessed: hand.as_ref().map(Hand::open).unwrap_or_default(),
                finished: told.finished,
                error: told.error.map(Error::from),
            })
        }
    }
}

fn settle_last(inner: &Inner, done: Option<usize>, out: Option<usize>) {
    let (Some(group), Some(client)) = (&inner.group, inner.connected_client()) else {
        return;
    };
    if let Some(hand) = lock(&group.hand).as_mut() {
        hand.out = out.unwrap_or(hand.out).min(hand.out);
        hand.done = hand.done.max(done.unwrap_or(0)).min(hand.out);
    }
    group.settle(client);
}
