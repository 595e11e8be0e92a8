//! Sending without waiting.
//!
//! In: records, borrowed, each with a [`Receipt`]. Out: reports, in runs, and one wake-up for all that have gathered. Before
//! the producer is connected, before a topic's metadata is here, and while `buffer.memory` is full, records are parked and
//! go on by themselves in their order; [`Sent`] says so, for a skin that wants its caller to wait.

use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::Duration;

use ottla::{Closed, Flushed, Gathered, NotQueued, ProducerMetrics, Record, Report, Reports, TopicPartition};
use tokio::sync::watch;
use tokio::time::Instant;

use crate::Pairs;
use crate::error::{Error, Kind};
use crate::parked::{Lanes, Parked, Place};
use crate::runtime::{Owned, spawn};

const WHAT: &str = "producer";

/// Kafka's defaults.
const MAX_BLOCK_MS: u64 = 60_000;
const BUFFER_MEMORY: usize = 32 << 20;

/// Reports that may wait for whoever waits by himself, some 25 MB of them.
const MOST_REPORTS: usize = 250_000;

/// Failures of records without a receipt that may wait one by one; more are added up.
const MOST_FAILURES: usize = 1_000;

/// The most records that may be parked, as a share of `buffer.memory`.
const PARKED_SHARE: usize = 4;

/// What a caller wants to hear of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Receipt {
    /// Its fate, under this tag. Tags that grow by one in the order of sending are told together.
    Tag(u64),
    /// Nothing, unless it fails; then it is [`Unclaimed`].
    None,
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// Into a batch.
    Queued,
    /// It is accepted and goes on by itself, but should keep its caller from sending more: wait for
    /// [`Producer::ready`].
    Parked,
}

/// Records that failed and that nobody wanted a receipt for, since the last time they were taken.
#[derive(Debug, Clone)]
pub struct Unclaimed {
    /// How many.
    pub count: u64,
    /// Where the first of them was going.
    pub partition: TopicPartition,
    /// Why the first of them failed.
    pub first: Error,
}

/// A producer. Calls never wait, unless they return a future. May be used from any number of threads.
pub struct Producer {
    inner: Owned<Arc<Inner>>,
}

struct Inner {
    client: OnceLock<Result<ottla::Producer, Error>>,
    connected: watch::Sender<bool>,
    closed: AtomicBool,
    /// A record is parked because `buffer.memory` was full; only meaningful while there are lanes.
    full: AtomicBool,
    lanes: Lanes,
    reports: Arc<Reports>,
    failures: Arc<Reports>,
    unclaimed: Mutex<Option<Unclaimed>>,
    /// Records that were parked and never got into a batch, since the start.
    refused: AtomicU64,
    max_block: Duration,
}

impl fmt::Debug for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Producer")
    }
}

impl Inner {
    /// The client, once it is there.
    async fn client(&self) -> Result<ottla::Producer, Error> {
        let mut connected = self.connected.subscribe();
        // The sender lives as long as we do.
        let _ = connected.wait_for(|connected| *connected).await;
        match self.client.get() {
            Some(client) => client.clone(),
            None => Err(Error::closed(WHAT)),
        }
    }

    /// Where a record's fate is told, and under which tag.
    #[inline]
    fn told(&self, receipt: Receipt) -> (&Arc<Reports>, Option<u64>) {
        match receipt {
            Receipt::Tag(tag) => (&self.reports, Some(tag)),
            Receipt::None => (&self.failures, None),
        }
    }

    /// Puts a record into its batch, if that is possible now.
    #[inline]
    fn try_send(&self, client: &ottla::Producer, record: &mut Record<'_>, receipt: Receipt) -> Result<Sent, NotQueued> {
        let (reports, tag) = self.told(receipt);
        client.try_send_reported(record, reports, tag)?;
        self.bound_failures();
        Ok(Sent::Queued)
    }

    /// Keeps what nobody takes small. Costs one atomic read.
    #[inline]
    fn bound_failures(&self) {
        if self.failures.count() > MOST_FAILURES {
            drop(self.add_up_failures());
        }
    }

    /// Moves what has failed without a receipt into one sum.
    #[cold]
    fn add_up_failures(&self) -> MutexGuard<'_, Option<Unclaimed>> {
        // A sum is whole after every step.
        let mut unclaimed = self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner);
        for report in self.failures.take() {
            let Err(error) = report.result else { continue };
            let known = unclaimed.get_or_insert_with(|| Unclaimed {
                count: 0,
                partition: TopicPartition::clone(&report.partition),
                first: error.into(),
            });
            known.count += u64::from(report.count);
        }
        unclaimed
    }

    /// What became of all records so far, of those as well that never got into a batch.
    fn totals(&self) -> Closed {
        let mut totals = Closed::default();
        if let Some(Ok(client)) = self.client.get() {
            let metrics = client.metrics();
            totals.delivered = metrics.records_delivered;
            totals.failed = metrics.records_failed;
            totals.unknown = metrics.records_unknown;
        }
        totals.failed += self.refused.load(Ordering::Relaxed);
        totals
    }

    /// A record that never got into a batch.
    fn refuse(&self, topic: &str, receipt: Receipt, error: &Error) {
        let error = match error {
            Error::Client(error) => error.clone(),
            // Reports carry the client's errors; what the border says of a parked record is said there as well.
            Error::Border(_) => ottla::Error::new(ottla::ErrorKind::Closed, error.to_string()),
        };
        let (reports, tag) = self.told(receipt);
        reports.add(Report {
            first: tag.unwrap_or(Report::UNTAGGED),
            count: 1,
            partition: Arc::new(TopicPartition::new(topic, -1)),
            result: Err(error),
        });
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.bound_failures();
    }

    /// Sends what is in the lane of a topic, until it is empty.
    async fn serve(self: Arc<Self>, topic: String) {
        let client = self.client().await;
        let mut last: Option<Error> = None;
        while let Some(parked) = self.lanes.next(&topic) {
            let sent = match &client {
                Ok(client) => tokio::select! {
                    biased;
                    sent = self.send_parked(client, &topic, &parked, last.as_ref()) => sent,
                    // Metadata of a topic that does not exist may be waited for much longer than a close may last.
                    () = self.lanes.closed() => Err(Error::from(closed_too_early())),
                },
                Err(error) => Err(error.clone()),
            };
            match sent {
                Ok(()) => {
                    last = None;
                    // There was room for this one.
                    self.full.store(false, Ordering::Release);
                    self.bound_failures();
                }
                Err(error) => {
                    self.refuse(&topic, parked.receipt, &error);
                    last = Some(error);
                }
            }
            self.lanes.went(&topic, &parked);
        }
    }

    /// Sends a parked record. Those behind one that waited in vain do not each wait that long again.
    async fn send_parked(
        &self,
        client: &ottla::Producer,
        topic: &str,
        parked: &Parked,
        last: Option<&Error>,
    ) -> Result<(), Error> {
        let (reports, tag) = self.told(parked.receipt);
        let sending = client.send_reported(parked.record(topic), reports, tag);
        let Some(last) = last else {
            return Ok(sending.await?);
        };
        match tokio::time::timeout_at(parked.deadline, sending).await {
            Ok(sent) => Ok(sent?),
            Err(_) => Err(waited_in_vain(last)),
        }
    }

    fn refuse_parked(&self) {
        let left = self.lanes.close();
        let error = Error::from(closed_too_early());
        for (topic, parked) in &left {
            self.refuse(topic, parked.receipt, &error);
        }
    }
}

fn closed_too_early() -> ottla::Error {
    let text = "the producer was closed before the record could be put into a batch";
    ottla::Error::new(ottla::ErrorKind::Closed, text)
}

/// What is told to a record whose time ran out behind one that failed.
fn waited_in_vain(last: &Error) -> Error {
    if matches!(last.kind(), Kind::UnknownTopic | Kind::Timeout) {
        return last.clone();
    }
    // What was wrong with that record itself is not said of another one.
    let text = format!("the record could not be put into a batch within max.block.ms; one before it failed: {last}");
    ottla::Error::new(ottla::ErrorKind::Timeout, text).into()
}

impl Producer {
    /// Checks the configuration and begins to connect. `waker` is woken when there are reports, or unclaimed failures.
    ///
    /// # Errors
    /// A mistake in the configuration, or no threads.
    pub fn start(pairs: Pairs, waker: Waker) -> Result<Producer, Error> {
        let max_block = number(&pairs, "max.block.ms").unwrap_or(MAX_BLOCK_MS);
        let memory = number(&pairs, "buffer.memory").map_or(BUFFER_MEMORY, |bytes| bytes as usize);
        let builder = ottla::Producer::from_properties(pairs)?;
        builder.validate()?;
        let inner = Arc::new(Inner {
            client: OnceLock::new(),
            connected: watch::channel(false).0,
            closed: AtomicBool::new(false),
            full: AtomicBool::new(false),
            lanes: Lanes::new(memory / PARKED_SHARE),
            reports: Reports::new(waker.clone()),
            failures: Reports::new(waker),
            unclaimed: Mutex::default(),
            refused: AtomicU64::new(0),
            max_block: Duration::from_millis(max_block),
        });
        let connecting = inner.clone();
        spawn(async move {
            let client = builder.build().await.map_err(Error::from);
            // Nobody else sets it.
            let _ = connecting.client.set(client);
            if connecting.lanes.are_closed()
                && let Some(Ok(client)) = connecting.client.get()
            {
                // Whoever closed us did not wait for this: nothing may be sent by it any more.
                let _ = client.close(Duration::ZERO).await;
            }
            connecting.connected.send_replace(true);
        })?;
        Ok(Producer {
            inner: Owned::new(WHAT, inner),
        })
    }

    /// Waits until the producer has connected.
    ///
    /// # Errors
    /// No bootstrap server answered, or the broker did not accept us.
    pub fn connected(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move { inner?.client().await.map(|_| ()) }
    }

    /// Sends a record. Its bytes are copied; it is accepted unless there is an error.
    ///
    /// # Errors
    /// The record itself cannot be sent; the producer is closed, could not connect, or came through a fork; too much is
    /// parked ([`Kind::QueueFull`](crate::Kind::QueueFull): wait for [`ready`](Producer::ready) and send again).
    #[inline]
    pub fn send(&self, mut record: Record<'_>, receipt: Receipt) -> Result<Sent, Error> {
        let inner = self.inner.get()?;
        if inner.lanes.are_empty()
            && let Some(Ok(client)) = inner.client.get()
        {
            return match inner.try_send(client, &mut record, receipt) {
                Ok(sent) => Ok(sent),
                Err(refused) => park_refused(inner, &record, receipt, refused, true),
            };
        }
        send_slowly(inner, record, receipt, true)
    }

    /// As [`send`](Producer::send), for callers who wait by themselves: a record that finds `buffer.memory` full is not
    /// parked but refused. Only before the connection, before its topic's metadata, and behind others that are parked for
    /// these reasons is it parked.
    ///
    /// # Errors
    /// As [`send`](Producer::send); with [`Kind::QueueFull`](crate::Kind::QueueFull), take reports, wait for
    /// [`room`](Producer::room) or for more of them, and send again. It also means that nobody takes the reports.
    #[inline]
    pub fn try_send(&self, mut record: Record<'_>, receipt: Receipt) -> Result<Sent, Error> {
        let inner = self.inner.get()?;
        if receipt != Receipt::None && inner.reports.count() > MOST_REPORTS {
            return Err(unread());
        }
        if inner.lanes.are_empty()
            && let Some(Ok(client)) = inner.client.get()
        {
            return match inner.try_send(client, &mut record, receipt) {
                Ok(sent) => Ok(sent),
                Err(refused) => park_refused(inner, &record, receipt, refused, false),
            };
        }
        if inner.lanes.is_draining(record.topic()) {
            return Err(Error::new(
                Kind::QueueFull,
                "records that waited for their topic's metadata are on their way: wait until there is room again",
            ));
        }
        send_slowly(inner, record, receipt, false)
    }

    /// Waits until [`try_send`](Producer::try_send) may succeed again: nothing is parked, and a batch has room.
    pub fn room(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let inner = inner?;
            inner.lanes.passed().await;
            Ok(inner.client().await?.room().await?)
        }
    }

    /// Reports that have gathered.
    ///
    /// # Errors
    /// The producer came through a fork.
    pub fn take_reports(&self) -> Result<Gathered, Error> {
        Ok(self.inner.get()?.reports.take())
    }

    /// Records without a receipt that failed since the last call.
    ///
    /// # Errors
    /// The producer came through a fork.
    pub fn take_unclaimed(&self) -> Result<Option<Unclaimed>, Error> {
        Ok(self.inner.get()?.add_up_failures().take())
    }

    /// Whether records are parked because `buffer.memory` is full, and not only because their topic is not known yet: then
    /// every further record would be parked as well, and [`unparked`](Producer::unparked) is what to wait for.
    pub fn is_full(&self) -> bool {
        let full = |inner: &Arc<Inner>| inner.full.load(Ordering::Acquire) && !inner.lanes.are_empty();
        self.inner.get().is_ok_and(full)
    }

    /// Waits until more records can be taken, after [`Sent::Parked`] or a full queue.
    pub fn ready(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            inner?.lanes.roomy().await;
            Ok(())
        }
    }

    /// Waits until nothing is parked any more of what is parked now: for callers that are to feel every wait, as those of
    /// a blocking `send` are.
    pub fn unparked(&self) -> impl Future<Output = Result<(), Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            inner?.lanes.passed().await;
            Ok(())
        }
    }

    /// Sends everything queued so far without lingering, waits until each record of it is delivered or has failed, at most
    /// for `timeout`, and counts. Reports and unclaimed failures of these records are there when it is done.
    ///
    /// While records are parked, what others send meanwhile may be counted as well.
    pub fn flush(&self, timeout: Option<Duration>) -> impl Future<Output = Result<Flushed, Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let inner = inner?;
            let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
            let parked = !inner.lanes.are_empty();
            let before = inner.totals();
            if parked && let Some(Ok(client)) = inner.client.get() {
                // What is in batches goes now, whatever the parked ones still wait for.
                client.flush_timeout(Duration::ZERO).await;
            }
            let passed = async {
                inner.lanes.passed().await;
                inner.client().await
            };
            let (flushed, waiting) = match (within(deadline, passed).await, inner.client.get()) {
                (Some(client), _) => (flush_client(&client?, deadline).await, 0),
                (None, Some(Ok(client))) => (client.flush_timeout(Duration::ZERO).await, inner.lanes.count()),
                (None, _) => (Flushed::default(), inner.lanes.count()),
            };
            if !parked {
                return Ok(flushed);
            }
            // Some went through their batches while others were parked; no single look at the batches has seen them all.
            let now = inner.totals();
            Ok(Flushed {
                delivered: now.delivered.saturating_sub(before.delivered),
                failed: now.failed.saturating_sub(before.failed),
                unknown: now.unknown.saturating_sub(before.unknown),
                pending: flushed.pending + waiting,
            })
        }
    }

    /// Takes no more records, sends what is queued, and ends the producer, at the latest after `timeout`; every record
    /// is reported then. Counts all records since the start. A second call finds nothing left to do.
    pub fn close(&self, timeout: Duration) -> impl Future<Output = Result<Closed, Error>> + Send + use<> {
        let inner = self.shared();
        async move {
            let inner = inner?;
            inner.closed.store(true, Ordering::Release);
            let deadline = Instant::now().checked_add(timeout);
            let passed = async {
                inner.lanes.passed().await;
                inner.client().await
            };
            let client = within(deadline, passed).await;
            inner.refuse_parked();
            match client {
                Some(Ok(client)) => close_client(&client, deadline, timeout).await?,
                // Not connected, and not to be: there is nothing to end.
                Some(Err(_)) => {}
                None => {
                    if let Some(Ok(client)) = inner.client.get() {
                        client.close(Duration::ZERO).await?;
                    }
                }
            }
            // What was on its way from its lane when the client was closed is refused by it.
            inner.lanes.settled().await;
            Ok(inner.totals())
        }
    }

    /// Whether it was closed, or came through a fork.
    pub fn is_closed(&self) -> bool {
        self.inner
            .get()
            .map_or(true, |inner| inner.closed.load(Ordering::Acquire))
    }

    /// Totals and distributions since the start; `None` before it is connected.
    ///
    /// # Errors
    /// The producer came through a fork.
    pub fn metrics(&self) -> Result<Option<ProducerMetrics>, Error> {
        let inner = self.inner.get()?;
        Ok(match inner.client.get() {
            Some(Ok(client)) => Some(client.metrics()),
            _ => None,
        })
    }

    fn shared(&self) -> Result<Arc<Inner>, Error> {
        self.inner.get().cloned()
    }
}

#[cold]
fn unread() -> Error {
    Error::new(
        Kind::QueueFull,
        format!("more than {MOST_REPORTS} delivery reports wait to be read: poll for them"),
    )
}

async fn flush_client(client: &ottla::Producer, deadline: Option<Instant>) -> Flushed {
    match deadline {
        Some(deadline) => {
            let left = deadline.saturating_duration_since(Instant::now());
            client.flush_timeout(left).await
        }
        None => client.flush().await,
    }
}

async fn close_client(client: &ottla::Producer, deadline: Option<Instant>, timeout: Duration) -> Result<(), Error> {
    let left = deadline.map_or(timeout, |deadline| deadline.saturating_duration_since(Instant::now()));
    client.close(left).await?;
    Ok(())
}

async fn within<F: Future>(deadline: Option<Instant>, future: F) -> Option<F::Output> {
    match deadline {
        Some(deadline) => tokio::time::timeout_at(deadline, future).await.ok(),
        None => Some(future.await),
    }
}

/// The way of a record while others wait, or before there is a connection. `patient`: it may be parked where
/// `buffer.memory` is full.
#[cold]
fn send_slowly(inner: &Arc<Inner>, mut record: Record<'_>, receipt: Receipt, patient: bool) -> Result<Sent, Error> {
    if inner.closed.load(Ordering::Acquire) {
        return Err(Error::closed(WHAT));
    }
    let parked = || Parked::new(&record, receipt, inner.max_block);
    match inner.client.get() {
        Some(Err(error)) => return Err(error.clone()),
        Some(Ok(client)) => {
            if inner.lanes.park(record.topic(), false, parked)? == Place::Queued {
                return Ok(Sent::Parked);
            }
            return match inner.try_send(client, &mut record, receipt) {
                Ok(sent) => Ok(sent),
                Err(refused) => park_refused(inner, &record, receipt, refused, patient),
            };
        }
        None => {}
    }
    park(inner, &record, receipt)
}

/// The way of a record that could not be put into its batch.
#[cold]
fn park_refused(
    inner: &Arc<Inner>,
    record: &Record<'_>,
    receipt: Receipt,
    refused: NotQueued,
    patient: bool,
) -> Result<Sent, Error> {
    match refused {
        NotQueued::QueueFull if patient => {
            inner.full.store(true, Ordering::Release);
            park(inner, record, receipt)
        }
        NotQueued::UnknownTopic => park(inner, record, receipt),
        other => Err(other.into_error(record.topic()).into()),
    }
}

fn park(inner: &Arc<Inner>, record: &Record<'_>, receipt: Receipt) -> Result<Sent, Error> {
    if inner.closed.load(Ordering::Acquire) {
        return Err(Error::closed(WHAT));
    }
    let topic = record.topic();
    let parked = || Parked::new(record, receipt, inner.max_block);
    if inner.lanes.park(topic, true, parked)? == Place::First {
        spawn(inner.clone().serve(topic.to_owned()))?;
    }
    Ok(Sent::Parked)
}

/// The number that a key was set to.
pub(crate) fn number(pairs: &Pairs, key: &str) -> Option<u64> {
    // The last one counts, as in the client; what is no number is told by its own check.
    pairs
        .iter()
        .rev()
        .find(|(known, _)| known == key)
        .and_then(|(_, value)| value.trim().parse().ok())
}
