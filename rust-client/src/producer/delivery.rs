//! Tickets: how a caller learns what became of a record.
//!
//! One [`Cell`] for each batch holds the result; a [`Delivery`] is a reference to it and the record's place in the
//! batch. So a record costs no allocation and no channel, and a whole batch completes with one step.
//!
//! Records of a batch complete in order: usually all at once, in parts if the batch had to be cut.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use ottla_client_state::batch::Written;

use super::awaited::Awaited;
use super::flush::Flushed;
use crate::error::{Error, Persisted, Result};
use crate::record::{RecordMetadata, TopicPartition};

/// The fate of one record that was accepted by [`Producer::send`](crate::Producer::send).
///
/// Await it to learn the record's offset, or why it failed and whether it may be in the log all the same
/// ([`Error::persisted`]).
///
/// # Promises
/// - It completes, at the latest after `delivery.timeout.ms`, or when the producer is closed.
/// - Deliveries of one partition complete in the order of sending.
/// - Dropping it cancels nothing: the record goes all the same.
///
/// Cancel-safe: it can be polled again, and cloned; every clone gives the same result.
#[derive(Debug, Clone)]
pub struct Delivery {
    cell: Arc<Cell>,
    index: u32,
    timestamp: i64,
}

impl Delivery {
    #[inline]
    pub(super) fn new(cell: Arc<Cell>, index: u32, timestamp: i64) -> Self {
        Delivery { cell, index, timestamp }
    }

    /// Where the record is going to.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.cell.partition
    }

    /// Whether the result is known. Costs one atomic read.
    pub fn is_complete(&self) -> bool {
        self.cell.is_done(self.index)
    }

    /// The result, if it is known already.
    pub fn try_result(&self) -> Option<Result<RecordMetadata>> {
        self.cell.is_done(self.index).then(|| self.result())
    }

    #[inline]
    fn result(&self) -> Result<RecordMetadata> {
        match self.cell.whole.get() {
            Some(written) => Ok(self.metadata(written, self.index)),
            None => self.result_of_part(),
        }
    }

    #[cold]
    fn result_of_part(&self) -> Result<RecordMetadata> {
        let inner = self.cell.lock();
        let part = inner.parts.iter().find(|part| self.index < part.end);
        let Some(part) = part else {
            return Err(Error::closed("producer"));
        };
        let place = self.index.saturating_sub(part.first);
        match &part.result {
            Ok(written) => Ok(self.metadata(written, place)),
            Err(failed) => Err(failed.of_record(place)),
        }
    }

    #[inline]
    fn metadata(&self, written: &Written, place: u32) -> RecordMetadata {
        RecordMetadata {
            topic: self.cell.partition.topic.clone(),
            partition: self.cell.partition.partition,
            offset: (written.base_offset >= 0).then(|| written.base_offset.saturating_add(i64::from(place))),
            timestamp: if written.log_append_time >= 0 {
                written.log_append_time
            } else {
                self.timestamp
            },
        }
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata>;

    #[inline]
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        if !self.cell.is_done(self.index) {
            let mut inner = self.cell.lock();
            // Looked at again under the lock: a completion between would not see the waker.
            if !self.cell.is_done(self.index) {
                inner.register(context.waker());
                return Poll::Pending;
            }
        }
        Poll::Ready(self.result())
    }
}

/// Why the records of a batch failed.
#[derive(Debug)]
pub(super) struct Failed {
    /// What is said to all of them.
    pub error: Error,
    /// What is said to those that caused it, by place.
    pub of_records: Vec<(u32, Error)>,
}

impl Failed {
    pub fn of_record(&self, place: u32) -> Error {
        let own = self.of_records.iter().find(|(index, _)| *index == place);
        own.map_or_else(|| self.error.clone(), |(_, error)| error.clone())
    }
}

/// The result of one batch, for all its records.
#[derive(Debug)]
pub(super) struct Cell {
    partition: Arc<TopicPartition>,
    /// The room that the batch's buffer was given.
    pub room: usize,
    /// Records that are complete, from the first on; `u32::MAX` when all are.
    done: AtomicU32,
    /// The result of a batch that was acknowledged whole, as nearly all are; read without the lock.
    whole: OnceLock<Written>,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    parts: Vec<Part>,
    wakers: Vec<Waker>,
    /// Records whose acknowledgement is to be told to observers: place and timestamp.
    watched: Vec<(u32, i64)>,
    /// Records whose fate goes into reports; almost always of one place.
    awaited: Vec<Awaited>,
}

#[derive(Debug)]
struct Part {
    first: u32,
    end: u32,
    result: Result<Written, Failed>,
}

impl Inner {
    /// One task often awaits many records of a batch, one after the other or together; once is enough for it.
    fn register(&mut self, waker: &Waker) {
        if !self.wakers.iter().rev().take(4).any(|known| known.will_wake(waker)) {
            self.wakers.push(waker.clone());
        }
    }
}

impl Cell {
    pub fn new(partition: Arc<TopicPartition>, room: usize) -> Self {
        Cell {
            partition,
            room,
            done: AtomicU32::new(0),
            whole: OnceLock::new(),
            inner: Mutex::default(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Every change is one push; a panic elsewhere leaves nothing half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    #[inline]
    fn is_done(&self, index: u32) -> bool {
        index < self.done.load(Ordering::Acquire)
    }

    /// Takes over records of this batch whose fate goes into reports. None of them may be complete.
    pub fn take_over(&self, mut awaited: Vec<Awaited>) {
        self.lock().awaited.append(&mut awaited);
    }

    /// Has the acknowledgement of this record told to observers.
    #[cold]
    pub fn watch(&self, index: u32, timestamp: i64) {
        self.lock().watched.push((index, timestamp));
    }

    /// Completes `records` records from `first` on. Gives the wakers of everybody who waits, to be woken outside of
    /// all locks.
    pub fn complete(&self, first: u32, records: u32, last: bool, result: Result<Written, Failed>) -> Vec<Waker> {
        let end = first.saturating_add(records);
        let mut inner = self.lock();
        if let (Ok(written), true) = (&result, first == 0 && last) {
            // It is set once: nothing completes a batch after its last part.
            let _ = self.whole.set(*written);
        }
        // Told under the lock, so that the reports of a partition keep the order of its batches.
        let settled = inner.awaited.iter_mut();
        let told: Vec<Waker> = settled
            .filter_map(|awaited| awaited.settle(&self.partition, &(first..end), &result))
            .collect();
        inner.parts.push(Part { first, end, result });
        self.done.store(if last { u32::MAX } else { end }, Ordering::Release);
        let mut wakers = std::mem::take(&mut inner.wakers);
        wakers.extend(told);
        wakers
    }

    /// Waits until the records before `end` are complete. Cancel-safe.
    pub async fn finished(&self, end: u32) {
        std::future::poll_fn(|context| {
            let mut inner = self.lock();
            if self.done.load(Ordering::Acquire) >= end {
                return Poll::Ready(());
            }
            inner.register(context.waker());
            Poll::Pending
        })
        .await;
    }
}

impl Cell {
    /// The partition of all its records.
    pub fn partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The records before `end` that observers wait for; each is given once, in order.
    pub fn take_watched(self: &Arc<Self>, end: u32) -> Vec<Delivery> {
        let mut inner = self.lock();
        let (mut due, later): (Vec<_>, Vec<_>) = inner.watched.drain(..).partition(|(index, _)| *index < end);
        inner.watched = later;
        drop(inner);
        due.sort_unstable();
        due.into_iter()
            .map(|(index, timestamp)| Delivery::new(self.clone(), index, timestamp))
            .collect()
    }

    /// Counts what became of `records` records from `first` on.
    pub fn tally(&self, first: u32, records: u32, into: &mut Flushed) {
        let end = first.saturating_add(records);
        let mut settled = 0;
        for part in &self.lock().parts {
            let count = part.end.min(end).saturating_sub(part.first.max(first));
            settled += count;
            *match &part.result {
                Ok(_) => &mut into.delivered,
                Err(failed) if failed.error.persisted() == Persisted::No => &mut into.failed,
                Err(_) => &mut into.unknown,
            } += u64::from(count);
        }
        into.pending += u64::from(records.saturating_sub(settled));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell() -> Arc<Cell> {
        Arc::new(Cell::new(Arc::new(TopicPartition::new("orders", 3)), 100))
    }

    fn written(base_offset: i64) -> Result<Written, Failed> {
        Ok(Written {
            base_offset,
            log_append_time: -1,
        })
    }

    fn wake(wakers: Vec<Waker>) {
        wakers.into_iter().for_each(Waker::wake);
    }

    #[tokio::test]
    async fn every_record_of_a_batch_gets_its_own_offset() {
        let cell = cell();
        let tickets: Vec<Delivery> = (0..3).map(|index| Delivery::new(cell.clone(), index, 1000)).collect();
        assert!(tickets[2].try_result().is_none());
        wake(cell.complete(0, 3, true, written(40)));
        for (place, ticket) in tickets.into_iter().enumerate() {
            let metadata = ticket.await.unwrap();
            assert_eq!(metadata.offset, Some(40 + place as i64));
            assert_eq!(
                (&*metadata.topic, metadata.partition, metadata.timestamp),
                ("orders", 3, 1000)
            );
        }
    }

    #[tokio::test]
    async fn the_parts_of_a_cut_batch_complete_one_after_the_other() {
        let cell = cell();
        let first = Delivery::new(cell.clone(), 1, 0);
        let second = Delivery::new(cell.clone(), 2, 0);
        wake(cell.complete(0, 2, false, written(10)));
        assert_eq!(first.try_result().unwrap().unwrap().offset, Some(11));
        assert!(second.try_result().is_none());
        wake(cell.complete(2, 1, true, written(70)));
        assert_eq!(second.await.unwrap().offset, Some(70));
        cell.finished(3).await;
    }

    #[tokio::test]
    async fn a_task_that_waits_is_woken() {
        let cell = cell();
        let waiting = tokio::spawn(Delivery::new(cell.clone(), 0, 0));
        while cell.lock().wakers.is_empty() {
            tokio::task::yield_now().await;
        }
        wake(cell.complete(0, 1, true, written(5)));
        assert_eq!(waiting.await.unwrap().unwrap().offset, Some(5));
    }

    #[test]
    fn a_waiting_task_is_remembered_once_for_many_records() {
        struct Nobody;
        impl std::task::Wake for Nobody {
            fn wake(self: Arc<Self>) {}
        }
        let cell = cell();
        let waker = Waker::from(Arc::new(Nobody));
        let mut context = Context::from_waker(&waker);
        for index in 0..100 {
            let mut ticket = Delivery::new(cell.clone(), index, 0);
            assert!(Pin::new(&mut ticket).poll(&mut context).is_pending());
        }
        assert_eq!(cell.lock().wakers.len(), 1);
    }

    #[test]
    fn the_record_that_caused_a_refusal_is_told_so() {
        let cell = cell();
        let error = Error::closed("producer");
        let own = Error::new(crate::ErrorKind::Broker, "no key");
        let _ = cell.complete(
            0,
            2,
            true,
            Err(Failed {
                error,
                of_records: vec![(1, own)],
            }),
        );
        let text = |index| {
            Delivery::new(cell.clone(), index, 0)
                .try_result()
                .unwrap()
                .unwrap_err()
                .to_string()
        };
        assert_eq!(text(1), "no key");
        assert_ne!(text(0), "no key");
    }
}
