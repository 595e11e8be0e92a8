//! What the parts of one producer share: queues, buffers, the senders, the producer's identity, the watch.
//!
//! It connects the rooms: a partition with work goes to the sender of its leader, a completion goes to its tickets
//! and to the watch. It decides nothing about batches and does no I/O of its own.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;
use std::time::{Duration, SystemTime};

use ottla_client_state::batch::{Completion, Failure};
use ottla_client_state::partition_queue::QueueConfig;
use ottla_client_state::sequence::{Persisted as StatePersisted, Reason};
use ottla_protocol::ApiKey;
use ottla_protocol::records::Compression;
use tokio::sync::watch;

use super::accumulator::{Partition, Slot, Topics};
use super::buffer_pool::BufferPool;
use super::delivery::{Cell, Failed};
use super::flush::Flushing;
use super::identity::Identity;
use super::placing::Placing;
use super::sender::{Handle, Sender};
use super::watch::{Observers, Watch};
use crate::client::Client;
use crate::config::ProducerConfig;
use crate::error::{Attempt, Error, ErrorKind, Persisted};
use crate::record::TopicPartition;

/// The node id of the sender that looks after partitions without a leader. It sends nothing; it waits for metadata
/// and for delivery timeouts.
pub(super) const NOWHERE: i32 = -1;

/// A broker remembers this many batches of an idempotent producer for each partition.
const BATCHES_REMEMBERED: usize = 5;

/// One producer.
#[derive(Debug)]
pub(super) struct Shared {
    pub client: Arc<Client>,
    pub config: ProducerConfig,
    pub queue: QueueConfig,
    pub placing: Placing,
    pub compression: Compression,
    pub pool: Arc<BufferPool>,
    pub topics: Topics,
    pub identity: Identity,
    pub watch: Watch,
    runtime: tokio::runtime::Handle,
    senders: Mutex<HashMap<i32, Arc<Handle>>>,
    closed: AtomicBool,
    ended: watch::Sender<bool>,
    /// What keeps records from being sent at present, by sender, to explain a timeout.
    trouble: Mutex<HashMap<i32, Error>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is replaced whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub fn new(
        client: Arc<Client>,
        config: ProducerConfig,
        placing: Placing,
        observers: Observers,
        runtime: tokio::runtime::Handle,
    ) -> Arc<Shared> {
        let queue = queue_config(&config);
        let pool = Arc::new(BufferPool::new(config.buffer_memory, queue.batch_size));
        let shared = Arc::new(Shared {
            client,
            queue,
            placing,
            compression: config.compression_type.parse().unwrap_or(Compression::None),
            pool,
            topics: Topics::default(),
            identity: Identity::default(),
            watch: Watch::new(observers),
            runtime,
            senders: Mutex::default(),
            closed: AtomicBool::new(false),
            ended: watch::channel(false).0,
            trouble: Mutex::default(),
            config,
        });
        shared.sender(NOWHERE);
        if shared.config.enable_idempotence {
            shared.runtime.spawn(super::identity::run(shared.clone()));
        }
        shared
    }

    pub fn runtime(&self) -> &tokio::runtime::Handle {
        &self.runtime
    }

    /// Whether the producer takes no more records.
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes no more records. What is queued is still sent.
    pub fn refuse_records(&self) {
        self.closed.store(true, Ordering::Release);
        self.pool.close();
    }

    /// True once all tasks of the producer are to end.
    pub fn ended(&self) -> watch::Receiver<bool> {
        self.ended.subscribe()
    }

    /// Hands a partition that has work to the sender of its leader. Does nothing if somebody has it already.
    pub fn route(self: &Arc<Self>, partition: &Arc<Partition>) {
        let TopicPartition {
            topic,
            partition: index,
        } = &*partition.id;
        let leader = self.client.metadata().leader_of(topic, *index);
        if leader.is_none() {
            self.client.touch_topic(topic);
            self.client.request_refresh();
        }
        let handle = self.sender(leader.map_or(NOWHERE, |leader| leader.node_id));
        let mut slot = partition.lock();
        if slot.server.is_none() {
            slot.server = Some(handle.clone());
            drop(slot);
            handle.hand_over(partition.clone());
        }
    }

    fn sender(self: &Arc<Self>, node_id: i32) -> Arc<Handle> {
        let mut senders = lock(&self.senders);
        if let Some(known) = senders.get(&node_id) {
            return known.clone();
        }
        let handle = Arc::new(Handle::new(node_id));
        senders.insert(node_id, handle.clone());
        drop(senders);
        self.runtime.spawn(Sender::new(self.clone(), handle.clone()).run());
        handle
    }

    /// Everybody who sends looks again at what there is to do.
    pub fn wake_senders(&self) {
        let handles: Vec<Arc<Handle>> = lock(&self.senders).values().cloned().collect();
        for handle in handles {
            handle.wake();
        }
    }

    /// Remembers what keeps the records of a sender from being sent; `None` when nothing does any more.
    pub fn set_trouble(&self, node_id: i32, error: Option<Error>) {
        let mut trouble = lock(&self.trouble);
        match error {
            Some(error) => trouble.insert(node_id, error),
            None => trouble.remove(&node_id),
        };
    }

    /// The best explanation for records of a partition that were never sent.
    fn trouble(&self, partition: &TopicPartition, server: Option<i32>) -> Option<Error> {
        let trouble = lock(&self.trouble);
        let known = server
            .and_then(|node_id| trouble.get(&node_id))
            .or_else(|| trouble.get(&NOWHERE))
            .cloned();
        let of_topic = || {
            let code = self.client.metadata().topic_error(&partition.topic)?;
            Some(Error::from_code(
                code.code(),
                format_args!("topic {:?}", &*partition.topic),
            ))
        };
        known.or_else(|| self.client.metadata_error()).or_else(of_topic)
    }

    /// A sender has ended. The next one that is needed for its node is a new one.
    pub fn forget_sender(&self, handle: &Arc<Handle>) {
        let mut senders = lock(&self.senders);
        if senders
            .get(&handle.node_id())
            .is_some_and(|known| Arc::ptr_eq(known, handle))
        {
            senders.remove(&handle.node_id());
        }
    }

    /// Completes the tickets of every batch that is resolved and whose turn it is. Called under the partition's lock,
    /// so that nobody else can complete a later batch first; the wakers are woken outside of it.
    pub fn complete(&self, partition: &Partition, slot: &mut Slot, wakers: &mut Vec<Waker>) {
        while let Some(completion) = slot.queue.next_completion() {
            wakers.extend(self.complete_one(partition, slot, completion));
        }
        partition.show_load(slot);
    }

    fn complete_one(&self, partition: &Partition, slot: &mut Slot, done: Completion<Arc<Cell>>) -> Vec<Waker> {
        let Completion {
            tickets,
            first,
            records,
            last,
            result,
            unsent,
        } = done;
        if let Some(builder) = unsent {
            self.pool.give_back(builder.into_buffer(), tickets.room);
        }
        let result = match result {
            Ok(written) => {
                self.watch
                    .completed(&partition.id, &partition.seen, records, Ok(&written));
                Ok(written)
            }
            Err(failure) => {
                let error = self.error_of(partition, slot, &failure);
                self.watch
                    .completed(&partition.id, &partition.seen, records, Err(&error));
                let of_records = failure.record_errors.iter().map(|(place, words)| {
                    let words = words.as_deref().unwrap_or("the broker refused this record");
                    (
                        *place,
                        error
                            .clone()
                            .with_prefix(format_args!("record {place} of the batch: {words}")),
                    )
                });
                let of_records = of_records.collect();
                Err(Failed { error, of_records })
            }
        };
        slot.claims.hand_over(&tickets);
        let mut wakers = tickets.complete(first, records, last, result);
        if let Some(witness) = self.watch.witness(&tickets, first, records) {
            wakers.insert(0, witness);
        }
        wakers
    }

    fn error_of(&self, partition: &Partition, slot: &Slot, failure: &Failure) -> Error {
        let subject = format!("partition {}", partition.id);
        let error = match &failure.reason {
            Reason::Broker { code, message } => {
                let error = Error::from_code(*code, &subject);
                match message {
                    Some(words) => error.with_prefix(format_args!("the broker says {words:?}")),
                    None => error,
                }
            }
            Reason::DeliveryTimeout => {
                let limit = self.config.delivery_timeout_ms;
                let what = format!("records for {subject} were not acknowledged within delivery.timeout.ms ({limit})");
                let server = slot.server.as_ref().map(|handle| handle.node_id());
                let trouble = self.trouble(&partition.id, server).filter(|_| failure.story.is_empty());
                Error::timeout(what, trouble.as_ref())
            }
            Reason::RetriesExhausted(last) => {
                let text = format!("{subject}: retries are used up; the last attempt: {last}");
                Error::new(ErrorKind::Disconnected, text)
            }
            Reason::Refused(text) => match &slot.refusal {
                Some(error) if error.message() == &**text => error.clone().with_prefix(&subject),
                _ => Error::new(ErrorKind::Broker, format!("{subject}: {text}")),
            },
            Reason::Closed => {
                let text = format!("{subject}: the producer was closed before the record was acknowledged");
                Error::new(ErrorKind::Closed, text)
            }
        };
        let mut error = error.with_persisted(persisted(failure.persisted));
        // "Closed" and "timed out" are our own words; what the attempts met is told with them.
        if let Some((broker, version)) = slot.asked.as_ref().filter(|_| failure.attempts > 0) {
            error = error.with_broker(broker).with_api(ApiKey::Produce, *version);
        }
        let error = error.with_attempts(failure.attempts, self.attempts_of(failure));
        if failure.attempts < 2 {
            return error;
        }
        let told: Vec<String> = failure
            .story
            .iter()
            .map(|one| format!("broker {}: {}", one.node_id, one.ended))
            .collect();
        error.with_note(format_args!(
            "{} attempts, among them: {}",
            failure.attempts,
            told.join(" | ")
        ))
    }

    /// The story of a failure, by the wall clock.
    fn attempts_of(&self, failure: &Failure) -> Vec<Attempt> {
        let (now, wall) = (self.client.now(), SystemTime::now());
        let told = failure.story.iter().map(|one| {
            let ago = Duration::from_millis(now.0.saturating_sub(one.at.0));
            Attempt {
                time: wall.checked_sub(ago).unwrap_or(wall),
                broker_id: one.node_id,
                reason: one.ended.clone(),
            }
        });
        told.collect()
    }

    /// Gives up everything that is left and lets no more in. Every ticket is complete when this returns.
    pub fn abort(&self, reason: &Reason) {
        let mut wakers = Vec::new();
        for partition in self.topics.all_partitions() {
            let mut slot = partition.lock();
            slot.closed = true;
            slot.queue.abort(reason);
            self.complete(&partition, &mut slot, &mut wakers);
            slot.server = None;
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Gives up what no request carries, because no new attempt could succeed.
    pub fn abort_waiting(&self, error: &Error) {
        let mut wakers = Vec::new();
        let reason = Reason::Refused(error.message().into());
        for partition in self.topics.all_partitions() {
            let mut slot = partition.lock();
            slot.refusal = Some(error.clone());
            slot.queue.abort_waiting(&reason);
            self.complete(&partition, &mut slot, &mut wakers);
        }
        wakers.into_iter().for_each(Waker::wake);
    }

    /// Makes everything due and notes what there is to wait for.
    pub fn begin_flush(&self) -> Flushing {
        let mut flushing = Flushing::default();
        for partition in self.topics.all_partitions() {
            let mut slot = partition.lock();
            slot.queue.close_open();
            flushing.wait_for(slot.queue.tickets());
        }
        self.wake_senders();
        flushing
    }

    /// Ends all tasks. Nothing is sent or completed after this.
    pub fn end(&self) {
        self.refuse_records();
        self.abort(&Reason::Closed);
        self.ended.send_replace(true);
        lock(&self.senders).clear();
        self.client.close();
    }
}

impl Drop for Shared {
    /// The tasks hold references, so this runs early only when the runtime itself has gone. Nobody shall wait for
    /// ever because of that.
    fn drop(&mut self) {
        self.abort(&Reason::Closed);
    }
}

fn queue_config(config: &ProducerConfig) -> QueueConfig {
    let idempotent = config.enable_idempotence;
    QueueConfig {
        batch_size: config
            .batch_size
            .min(config.max_request_size)
            .min(config.buffer_memory)
            .max(1),
        linger_ms: config.linger_ms,
        delivery_timeout_ms: config.delivery_timeout_ms,
        retries: config.retries,
        idempotent,
        max_in_flight: if idempotent {
            config.max_in_flight.min(BATCHES_REMEMBERED)
        } else {
            config.max_in_flight
        }
        .max(1),
        compression_level: config.compression_level,
        checksum_early: config.compression_type == "none",
    }
}

/// The certainty of a machine as the one of the public error.
pub(super) fn persisted(state: StatePersisted) -> Persisted {
    match state {
        StatePersisted::No => Persisted::No,
        StatePersisted::Possibly => Persisted::Possibly,
        StatePersisted::Yes => Persisted::Yes,
    }
}
