//! The sender: one task for each leader, and one for partitions that have none.
//!
//! In: partitions with work, answers. Out: Produce requests, outcomes for the queues. It only moves things: the queue
//! says what may leave and what an outcome means, the connection writes and reads. It looks up the leader when a batch
//! leaves; a partition whose leader has changed goes to another sender as soon as nothing of it is in flight here.
//!
//! A request carries at most one batch of each partition, taken in turn, up to `max.request.size`. Up to
//! `max.in.flight.requests.per.connection` requests are under way. When a connection is lost, everything that it
//! carried is settled before anything else leaves.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker};

use ottla_client_state::Time;
use ottla_client_state::backoff::Backoff;
use ottla_client_state::metadata::ClusterSnapshot;
use ottla_client_state::partition_queue::{Drained, LeaderAt, Next};
use ottla_client_state::sequence::Reason;
use ottla_protocol::messages::ProduceRequest;
use tokio::sync::{Notify, watch};

use super::accumulator::Partition;
use super::delivery::Cell;
use super::produce::{self, Sent};
use super::shared::{NOWHERE, Shared};
use super::watch::{BrokerMeters, Flight};
use crate::error::{Error, ErrorKind, Result};
use crate::net::Lane;
use crate::net::connection::{Connection, Pending, Written};
use crate::net::request::ResponseFrame;

/// How others reach a sender.
#[derive(Debug)]
pub(super) struct Handle {
    node_id: i32,
    inbox: Mutex<Vec<Arc<Partition>>>,
    notify: Notify,
}

impl Handle {
    pub fn new(node_id: i32) -> Self {
        Handle {
            node_id,
            inbox: Mutex::default(),
            notify: Notify::new(),
        }
    }

    /// The broker that it sends to, or [`NOWHERE`].
    pub fn node_id(&self) -> i32 {
        self.node_id
    }

    /// Look again: something may have become due.
    #[inline]
    pub fn wake(&self) {
        self.notify.notify_one();
    }

    /// From now on this sender serves the partition.
    pub fn hand_over(&self, partition: Arc<Partition>) {
        self.inbox
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(partition);
        self.wake();
    }

    fn take(&self) -> Vec<Arc<Partition>> {
        std::mem::take(&mut *self.inbox.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// A partition that this sender serves.
struct Active {
    partition: Arc<Partition>,
    leader: Option<LeaderAt>,
    /// Nothing is left to do here for it.
    left: bool,
}

impl Active {
    fn watch_leader(&self, shared: &Shared) {
        if let Some(leader) = &self.leader {
            shared
                .watch
                .led(&self.partition.id, &self.partition.seen, leader.node_id);
        }
    }
}

/// A request under way.
struct InFlight {
    answer: Answer,
    sent: Vec<Sent>,
    flight: Flight,
}

pub(super) enum Answer {
    /// The broker answers.
    Due(Pending<ProduceRequest<'static>>),
    /// acks=0: being written is all that will be known.
    None(Written),
}

/// What came of a request.
type Answered = Result<Option<ResponseFrame<ProduceRequest<'static>>>>;

impl Answer {
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Answered> {
        match self {
            Answer::Due(pending) => Pin::new(pending).poll(context).map_ok(Some),
            Answer::None(written) => Pin::new(written).poll(context).map_ok(|()| None),
        }
    }
}

type Connecting = Pin<Box<dyn Future<Output = Result<Arc<Connection>>> + Send>>;

/// What one look at all partitions found.
#[derive(Default)]
struct Pass {
    batches: Vec<(Arc<Partition>, Drained<Arc<Cell>>)>,
    wake_at: Option<Time>,
    leaving: Vec<Arc<Partition>>,
    wakers: Vec<Waker>,
}

impl Pass {
    fn wake_by(&mut self, time: Option<Time>) {
        self.wake_at = self.wake_at.into_iter().chain(time).min();
    }
}

/// The task.
pub(super) struct Sender {
    shared: Arc<Shared>,
    handle: Arc<Handle>,
    meters: Arc<BrokerMeters>,
    active: Vec<Active>,
    /// Where the next request begins to look, so that no partition is always last.
    turn: usize,
    in_flight: VecDeque<InFlight>,
    snapshot: Arc<ClusterSnapshot>,
    changed: watch::Receiver<u64>,
    connection: Option<Arc<Connection>>,
    connecting: Option<Connecting>,
    backoff: Backoff,
}

impl Sender {
    pub fn new(shared: Arc<Shared>, handle: Arc<Handle>) -> Self {
        let client = shared.client.config();
        let backoff = Backoff::new(client.retry_backoff_ms, client.retry_backoff_max_ms, rand::random());
        Sender {
            meters: shared.watch.broker(handle.node_id),
            handle,
            active: Vec::new(),
            turn: 0,
            in_flight: VecDeque::new(),
            snapshot: shared.client.metadata(),
            changed: shared.client.metadata_changed(),
            connection: None,
            connecting: None,
            backoff,
            shared,
        }
    }

    /// Serves until the producer ends.
    pub async fn run(mut self) {
        let mut ended = self.shared.ended();
        let handle = self.handle.clone();
        let alarm = tokio::time::sleep(std::time::Duration::ZERO);
        tokio::pin!(alarm);
        while !*ended.borrow() {
            let wake_at = self.pump().map(|time| self.shared.client.instant(time));
            if let Some(at) = wake_at
                && alarm.deadline() != at
            {
                alarm.as_mut().reset(at);
            }
            tokio::select! {
                () = handle.notify.notified() => {}
                answered = next_answer(&mut self.in_flight), if !self.in_flight.is_empty() => self.settle_all(answered),
                connected = next_connection(&mut self.connecting), if self.connecting.is_some() => self.connected(connected),
                () = &mut alarm, if wake_at.is_some() => {}
                _ = self.changed.changed() => {}
                _ = ended.changed() => {}
            }
        }
    }

    /// Sends what may be sent. Gives the moment at which to look again without being woken.
    fn pump(&mut self) -> Option<Time> {
        self.take_in();
        let mut wakers = Vec::new();
        let wake_at = loop {
            let mut pass = self.pass();
            wakers.append(&mut pass.wakers);
            for partition in pass.leaving {
                self.shared.route(&partition);
            }
            if pass.batches.is_empty() {
                break pass.wake_at;
            }
            self.send(pass.batches);
        };
        wakers.into_iter().for_each(Waker::wake);
        wake_at
    }

    /// New partitions and new metadata.
    fn take_in(&mut self) {
        let snapshot = self.shared.client.metadata();
        let news = !Arc::ptr_eq(&snapshot, &self.snapshot);
        self.snapshot = snapshot;
        if news {
            for active in &mut self.active {
                active.leader = leader_of(&self.snapshot, &active.partition);
                active.watch_leader(&self.shared);
            }
            if self.handle.node_id == NOWHERE {
                self.grow_topics();
            }
        }
        for partition in self.handle.take() {
            let leader = leader_of(&self.snapshot, &partition);
            let active = Active {
                partition,
                leader,
                left: false,
            };
            active.watch_leader(&self.shared);
            self.active.push(active);
        }
        if !self.active.is_empty() && self.handle.node_id != NOWHERE {
            self.connect();
        }
    }

    /// Partitions may have been added to topics (KIP-195).
    fn grow_topics(&self) {
        for topic in self.shared.topics.all() {
            if let Some(info) = self.snapshot.topic(&topic.name) {
                topic.grow(info.partition_count(), self.shared.queue);
            }
        }
    }

    /// Makes sure of a connection, without waiting for it here.
    fn connect(&mut self) {
        if self.connection.as_ref().is_some_and(|connection| connection.is_alive()) {
            return;
        }
        self.connection = None;
        // What the dead one carried comes first.
        if self.connecting.is_some() || !self.in_flight.is_empty() {
            return;
        }
        let (client, node_id) = (self.shared.client.clone(), self.handle.node_id);
        let mut connecting: Connecting = Box::pin(async move { client.connection(node_id, Lane::Produce).await });
        match connecting.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(result) => self.connected(result),
            Poll::Pending => self.connecting = Some(connecting),
        }
    }

    fn connected(&mut self, result: Result<Arc<Connection>>) {
        self.connecting = None;
        match result {
            Ok(connection) => {
                self.connection = Some(connection);
                self.shared.set_trouble(self.handle.node_id, None);
            }
            Err(error) => {
                tracing::debug!(node = self.handle.node_id, %error, "no connection for records");
                if error.kind() == ErrorKind::Authentication {
                    self.refuse_waiting(&error);
                }
                self.shared.set_trouble(self.handle.node_id, Some(error));
                self.shared.client.request_refresh();
                if self.active.is_empty() {
                    return;
                }
                // The broker's own backoff paces the attempts: the next one waits for its turn.
                let wait = self.backoff.next_ms(1);
                let (client, node_id) = (self.shared.client.clone(), self.handle.node_id);
                self.connecting = Some(Box::pin(async move {
                    tokio::time::sleep(std::time::Duration::from_millis(wait)).await;
                    client.connection(node_id, Lane::Produce).await
                }));
            }
        }
    }

    /// The broker does not accept who we are, or is not who it seems to be: waiting will not help what waits here.
    fn refuse_waiting(&self, error: &Error) {
        tracing::warn!(node = self.handle.node_id, %error, "records cannot be sent");
        let reason = Reason::Refused(error.message().into());
        let mut wakers = Vec::new();
        for active in &self.active {
            let mut slot = active.partition.lock();
            slot.refusal = Some(error.clone());
            slot.queue.abort_waiting(&reason);
            self.shared.complete(&active.partition, &mut slot, &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    fn may_send(&self) -> bool {
        self.connection.is_some() && self.in_flight.len() < self.shared.config.max_in_flight
    }

    /// Looks at every partition once: times out, hands over, takes batches for one request.
    fn pass(&mut self) -> Pass {
        let now = self.shared.client.now();
        let identity = self.shared.identity.current();
        let hurry = self.shared.pool.is_short();
        let mut may_send = self.may_send();
        let mut room = self.shared.config.max_request_size;
        let mut pass = Pass::default();
        let count = self.active.len();
        let start = self.turn.checked_rem(count).unwrap_or(0);
        let mut gone = false;
        for place in (start..count).chain(0..start) {
            let Some(active) = self.active.get_mut(place) else {
                continue;
            };
            let mut slot = active.partition.lock();
            if slot.queue.wake_at().is_some_and(|at| at <= now) {
                slot.queue.handle_timeout(now);
            }
            let here = active.leader.filter(|leader| leader.node_id == self.handle.node_id);
            if let Some(leader) = here.filter(|_| may_send) {
                let limit = (!pass.batches.is_empty()).then_some(room);
                match slot.queue.next_batch(leader, identity, limit, hurry, now) {
                    Next::Batch(drained) => {
                        room = room.saturating_sub(drained.size);
                        pass.batches.push((active.partition.clone(), drained));
                    }
                    Next::NoRoom => {
                        may_send = false;
                        self.turn = place;
                    }
                    Next::Wait(at) => pass.wake_by(Some(at)),
                    Next::Blocked | Next::Empty => {}
                }
                if let Some(spent) = slot.queue.sequences().spent_id() {
                    self.shared.identity.renew(spent);
                }
            }
            self.shared.complete(&active.partition, &mut slot, &mut pass.wakers);
            pass.wake_by(slot.queue.wake_at());
            let idle = slot.queue.is_idle();
            let elsewhere = here.is_none() && (active.leader.is_some() || self.handle.node_id != NOWHERE);
            if idle || (elsewhere && slot.queue.in_flight() == 0) {
                slot.server = None;
                active.left = true;
                gone = true;
                if !idle {
                    pass.leaving.push(active.partition.clone());
                }
            }
        }
        if gone {
            self.active.retain(|active| !active.left);
        }
        if may_send && count > 0 {
            self.turn = start + 1;
        }
        pass
    }

    /// Sends one request.
    fn send(&mut self, batches: Vec<(Arc<Partition>, Drained<Arc<Cell>>)>) {
        let mut sent = Vec::with_capacity(batches.len());
        for (partition, drained) in batches {
            sent.extend(produce::seal(
                &self.shared,
                &self.snapshot,
                self.handle.node_id,
                partition,
                drained,
            ));
        }
        let Some(connection) = self.connection.clone().filter(|_| !sent.is_empty()) else {
            return;
        };
        match produce::dispatch(&self.shared, &connection, &sent) {
            Ok(answer) => {
                let acks = self.shared.config.acks.code();
                let flight = self.shared.watch.request_sent(&self.meters, acks, &sent);
                self.in_flight.push_back(InFlight { answer, sent, flight });
            }
            Err(error) => {
                self.connection = None;
                produce::settle_error(&self.shared, sent, &error, &mut self.backoff);
            }
        }
    }

    /// Settles an answer and all others that have come meanwhile.
    fn settle_all(&mut self, first: Answered) {
        let mut answered = Some(first);
        while let Some(result) = answered {
            if let Some(InFlight { sent, flight, .. }) = self.in_flight.pop_front() {
                let error = result.as_ref().err();
                self.shared
                    .watch
                    .request_done(&self.meters, self.handle.node_id, &flight, error);
                self.settle(sent, result);
            }
            let mut context = Context::from_waker(Waker::noop());
            answered = match self.in_flight.front_mut().map(|next| next.answer.poll(&mut context)) {
                Some(Poll::Ready(result)) => Some(result),
                _ => None,
            };
        }
    }

    fn settle(&mut self, sent: Vec<Sent>, result: Answered) {
        match result {
            Ok(Some(frame)) => {
                let throttled = produce::settle_answer(&self.shared, sent, &frame, &mut self.backoff);
                if throttled {
                    // Asking for the connection again waits as long as the broker wishes.
                    self.connection = None;
                }
            }
            Ok(None) => produce::settle_unanswered(&self.shared, sent, &mut self.backoff),
            Err(error) => {
                self.shared.set_trouble(self.handle.node_id, Some(error.clone()));
                produce::settle_error(&self.shared, sent, &error, &mut self.backoff);
            }
        }
    }
}

impl Drop for Sender {
    /// A sender ends with its producer, when nothing is left. Should it end in another way (the runtime is going, or a
    /// panic), the tickets in its care must not wait for ever.
    fn drop(&mut self) {
        self.shared.watch.forget_requests(&self.meters, self.in_flight.len());
        if *self.shared.ended().borrow() {
            return;
        }
        self.shared.forget_sender(&self.handle);
        let mut wakers = Vec::new();
        let handed_over = self.handle.take();
        for partition in self.active.iter().map(|active| &active.partition).chain(&handed_over) {
            let mut slot = partition.lock();
            slot.queue.abort(&Reason::Closed);
            self.shared.complete(partition, &mut slot, &mut wakers);
            slot.server = None;
        }
        wakers.into_iter().for_each(Waker::wake);
    }
}

fn leader_of(snapshot: &ClusterSnapshot, partition: &Partition) -> Option<LeaderAt> {
    let leader = snapshot.leader_of(&partition.id.topic, partition.id.partition)?;
    Some(LeaderAt {
        node_id: leader.node_id,
        epoch: leader.epoch,
        topic_id: snapshot.topic(&partition.id.topic)?.id,
    })
}

async fn next_answer(in_flight: &mut VecDeque<InFlight>) -> Answered {
    std::future::poll_fn(|context| match in_flight.front_mut() {
        Some(first) => first.answer.poll(context),
        None => Poll::Pending,
    })
    .await
}

async fn next_connection(connecting: &mut Option<Connecting>) -> Result<Arc<Connection>> {
    match connecting {
        Some(connecting) => connecting.await,
        None => Err(Error::closed("connection")),
    }
}
