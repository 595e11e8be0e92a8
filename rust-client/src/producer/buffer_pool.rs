//! The buffer pool: `buffer.memory` as one hard budget.
//!
//! In: a wish for room. Out: an empty buffer, at once or after waiting in line. A buffer's room is free again when the
//! last reference to its bytes is gone, not when its batch is given up: a socket may still hold the bytes of a batch
//! that has timed out, and a buffer that were used again then would send one topic's records to another
//! (KAFKA-19012). Sealed bytes are therefore an owner whose `Drop` brings the buffer back; nobody else can.
//!
//! Buffers of `batch.size` are kept and used again, the last one first, because its pages are still in the cache.
//! Larger ones, for a record that exceeds `batch.size`, are let go.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use tokio::sync::Semaphore;

/// Buffers and the budget they come from.
#[derive(Debug)]
pub(super) struct BufferPool {
    /// One permit a byte. Fair: who came first gets room first.
    budget: Semaphore,
    total: usize,
    batch_size: usize,
    free: Mutex<Vec<Vec<u8>>>,
    waiting: AtomicUsize,
}

impl BufferPool {
    /// `total` bytes in all, in buffers of `batch_size` bytes. A budget below one batch makes smaller batches.
    pub fn new(total: usize, batch_size: usize) -> Self {
        let total = total.clamp(1, u32::MAX as usize).min(Semaphore::MAX_PERMITS);
        BufferPool {
            budget: Semaphore::new(total),
            total,
            batch_size: batch_size.min(total),
            free: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// The whole budget in bytes.
    pub fn total(&self) -> usize {
        self.total
    }

    /// Bytes of the budget that nobody has.
    pub fn available(&self) -> usize {
        self.budget.available_permits()
    }

    /// How many wait for room.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Whether somebody waits for room.
    pub fn is_short(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) > 0
    }

    /// The room that a batch takes whose first record needs `bytes`.
    pub fn room_for(&self, bytes: usize) -> usize {
        bytes.max(self.batch_size)
    }

    /// A buffer with room for `room` bytes and a content of no meaning, if there is room now and nobody waits for it.
    pub fn try_take(&self, room: usize) -> Option<Vec<u8>> {
        let permits = self.budget.try_acquire_many(u32::try_from(room).ok()?).ok()?;
        permits.forget();
        Some(self.buffer(room))
    }

    /// A buffer with room for `room` bytes, after waiting for it in line. `None` once the pool is closed, or if the
    /// whole budget is smaller. Cancel-safe. `hurry` is for waking those whose work gives room: it is called when
    /// [`is_short`](BufferPool::is_short) tells them so, and not before, or they would go back to sleep.
    pub async fn take(&self, room: usize, hurry: impl FnOnce()) -> Option<Vec<u8>> {
        let room = u32::try_from(room).ok().filter(|room| *room as usize <= self.total)?;
        let _waiting = Waiting::new(&self.waiting);
        hurry();
        let permits = self.budget.acquire_many(room).await.ok()?;
        permits.forget();
        Some(self.buffer(room as usize))
    }

    /// Whoever waits for room learns that none will come.
    pub fn close(&self) {
        self.budget.close();
    }

    fn buffer(&self, room: usize) -> Vec<u8> {
        if room == self.batch_size {
            let kept = self.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            if let Some(buffer) = kept {
                return buffer;
            }
        }
        Vec::with_capacity(room)
    }

    /// Takes a buffer back that was given with `room`.
    pub fn give_back(&self, buffer: Vec<u8>, room: usize) {
        // One that grew while it was compressed would keep its pages for ever. Its old content stays in it, as bytes of
        // no meaning: a builder writes over them, and would have to zero them if they were gone.
        if room == self.batch_size && buffer.capacity() >= room && buffer.capacity() < 2 * room {
            self.free.lock().unwrap_or_else(PoisonError::into_inner).push(buffer);
        }
        self.budget.add_permits(room);
    }

    /// Makes a buffer's content immutable and shared. It comes back when the last reference is gone.
    pub fn freeze(self: &Arc<Self>, buffer: Vec<u8>, room: usize) -> Bytes {
        Bytes::from_owner(Frozen {
            buffer,
            room,
            pool: self.clone(),
        })
    }
}

/// Counts somebody as waiting for as long as it lives.
struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Waiting(count)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The owner of a sealed batch's bytes.
struct Frozen {
    buffer: Vec<u8>,
    room: usize,
    pool: Arc<BufferPool>,
}

impl AsRef<[u8]> for Frozen {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        self.pool.give_back(std::mem::take(&mut self.buffer), self.room);
    }
}

#[cfg(test)]
mod tests {
    use ottla_protocol::records::{Compression, RecordBatchBuilder};

    use super::*;

    fn pool(total: usize, batch_size: usize) -> Arc<BufferPool> {
        Arc::new(BufferPool::new(total, batch_size))
    }

    #[test]
    fn kafka_19012_a_buffer_is_not_used_again_while_anybody_holds_its_bytes() {
        let pool = pool(100, 100);
        let mut buffer = pool.try_take(100).unwrap();
        buffer.extend_from_slice(b"orders only");
        let in_batch = pool.freeze(buffer, 100);
        let in_socket = in_batch.clone();
        drop(in_batch); // the batch timed out
        assert!(pool.try_take(100).is_none(), "the socket still has the bytes");
        assert_eq!(&in_socket[..], b"orders only");
        drop(in_socket);
        let again = pool.try_take(100).expect("now the buffer is free");
        let mut builder = RecordBatchBuilder::new(again);
        builder.append(0, None, Some(b"x"), &[]).unwrap();
        let sealed = builder.seal(Compression::None, None).unwrap();
        assert_eq!(sealed.body().len(), 8, "and of the bytes it had, none goes out again");
    }

    #[test]
    fn the_budget_is_never_exceeded_and_all_of_it_comes_back() {
        let pool = pool(1000, 100);
        let mut held: Vec<Vec<u8>> = Vec::new();
        while let Some(buffer) = pool.try_take(100) {
            held.push(buffer);
        }
        assert_eq!((held.len(), pool.available()), (10, 0));
        for buffer in held.drain(..) {
            drop(pool.freeze(buffer, 100));
        }
        assert_eq!(pool.available(), 1000);
        let large = pool.try_take(700).unwrap();
        assert_eq!(pool.available(), 300);
        pool.give_back(large, 700);
        assert_eq!(pool.available(), 1000);
    }

    #[tokio::test]
    async fn who_waits_for_room_is_served_before_who_comes_later() {
        let pool = pool(100, 100);
        let first = pool.try_take(100).unwrap();
        let waiting = tokio::spawn({
            let pool = pool.clone();
            async move { pool.take(100, || {}).await }
        });
        while !pool.is_short() {
            tokio::task::yield_now().await;
        }
        pool.give_back(first, 100);
        assert!(pool.try_take(100).is_none(), "the room belongs to the one in line");
        assert!(waiting.await.unwrap().is_some());
    }

    #[tokio::test]
    async fn who_is_to_hurry_is_told_when_it_can_be_seen_why() {
        let pool = pool(100, 100);
        let first = pool.try_take(100).unwrap();
        let mut seen = false;
        let hurry = || {
            seen = pool.is_short();
            pool.give_back(first, 100);
        };
        assert!(pool.take(100, hurry).await.is_some());
        assert!(seen && !pool.is_short());
    }

    #[tokio::test]
    async fn a_wish_beyond_the_whole_budget_is_refused_at_once() {
        assert!(pool(100, 10).take(101, || {}).await.is_none());
    }

    #[tokio::test]
    async fn closing_ends_the_waiting() {
        let pool = pool(100, 100);
        let _all = pool.try_take(100).unwrap();
        let take = pool.take(50, || {});
        tokio::pin!(take);
        tokio::select! {
            biased;
            _ = &mut take => panic!("there is no room"),
            () = std::future::ready(()) => pool.close(),
        }
        assert!(take.await.is_none());
    }
}
