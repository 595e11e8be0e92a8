//! Purgatory: where requests wait for a partition to move.
//!
//! In: a waiter that says how much it waits for (bytes that become readable, or partitions whose high watermark
//! reaches an offset). Out: a wake-up, once.
//! It reads nothing, answers nothing and owns no timer: the parked request has one deadline of its own and looks again
//! when it is woken.
//!
//! No wake-up is lost, because of an order: a request registers first and looks at the partition *afterwards*; a
//! partition moves first and wakes *afterwards*.

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::Notify;

/// One parked request, as seen by the partitions it waits for.
#[derive(Debug, Default)]
pub struct Waiter {
    /// What is still missing: bytes for a fetch, partitions for a produce.
    missing: AtomicI64,
    notify: Notify,
}

impl Waiter {
    /// A waiter that is woken when `missing` has been credited.
    pub fn new(missing: i64) -> Arc<Self> {
        Arc::new(Waiter {
            missing: AtomicI64::new(missing),
            notify: Notify::new(),
        })
    }

    /// Starts to wait for another `missing`. Call it before looking at the partitions again.
    pub fn rearm(&self, missing: i64) {
        self.missing.store(missing, Ordering::SeqCst);
    }

    /// Counts `amount` towards what is missing; wakes when nothing is.
    pub fn credit(&self, amount: i64) {
        if self.missing.fetch_sub(amount, Ordering::SeqCst) <= amount {
            self.notify.notify_one();
        }
    }

    /// Wakes whatever is missing: the partition is gone or has another leader.
    pub fn wake(&self) {
        self.missing.store(0, Ordering::SeqCst);
        self.notify.notify_one();
    }

    /// True once everything has been credited.
    pub fn satisfied(&self) -> bool {
        self.missing.load(Ordering::SeqCst) <= 0
    }

    /// Waits for the wake-up. One that came earlier counts. Safe to drop and call again.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }
}

/// The waiters of one partition.
#[derive(Debug, Default)]
pub struct WaitList {
    readers: Mutex<Vec<Arc<Waiter>>>,
    writers: Mutex<Vec<(i64, Arc<Waiter>)>>,
}

impl WaitList {
    /// `waiter` wants to know of bytes that become readable.
    pub fn await_bytes(&self, waiter: &Arc<Waiter>) {
        lock(&self.readers).push(Arc::clone(waiter));
    }

    /// `waiter` wants to know when the high watermark has reached `offset`.
    pub fn await_high_watermark(&self, offset: i64, waiter: &Arc<Waiter>) {
        lock(&self.writers).push((offset, Arc::clone(waiter)));
    }

    /// Forgets `waiter`: it was answered or gave up.
    pub fn forget(&self, waiter: &Arc<Waiter>) {
        lock(&self.readers).retain(|known| !Arc::ptr_eq(known, waiter));
        lock(&self.writers).retain(|(_, known)| !Arc::ptr_eq(known, waiter));
    }

    /// About `bytes` more can be read.
    pub fn readable(&self, bytes: i64) {
        for waiter in lock(&self.readers).iter() {
            waiter.credit(bytes);
        }
    }

    /// The high watermark is `high_watermark` now. Each waiter is credited once.
    pub fn committed(&self, high_watermark: i64) {
        lock(&self.writers).retain(|(offset, waiter)| {
            let reached = *offset <= high_watermark;
            if reached {
                waiter.credit(1);
            }
            !reached
        });
    }

    /// Wakes everybody, so that they look again and find another leader, or no partition.
    pub fn wake_all(&self) {
        for waiter in lock(&self.readers).iter() {
            waiter.wake();
        }
        for (_, waiter) in lock(&self.writers).drain(..) {
            waiter.wake();
        }
    }

    /// How many requests wait here.
    pub fn len(&self) -> usize {
        lock(&self.readers).len() + lock(&self.writers).len()
    }

    /// True when nobody waits here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// The lists stay usable after a panic elsewhere: each change to them is a single call.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;
    use tokio::time::timeout;

    async fn is_woken(waiter: &Waiter) -> bool {
        timeout(Duration::ZERO, waiter.woken()).await.is_ok()
    }

    #[tokio::test(start_paused = true)]
    async fn a_fetch_wakes_when_enough_bytes_have_come() {
        let (list, waiter) = (WaitList::default(), Waiter::new(100));
        list.await_bytes(&waiter);
        list.readable(60);
        assert!(!is_woken(&waiter).await);
        list.readable(40);
        assert!(is_woken(&waiter).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wake_up_before_the_wait_is_not_lost() {
        let (list, waiter) = (WaitList::default(), Waiter::new(1));
        list.await_bytes(&waiter);
        list.readable(1);
        assert!(is_woken(&waiter).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_produce_wakes_when_all_its_partitions_are_committed() {
        let (one, two, waiter) = (WaitList::default(), WaitList::default(), Waiter::new(2));
        one.await_high_watermark(5, &waiter);
        two.await_high_watermark(9, &waiter);
        one.committed(4);
        two.committed(9);
        assert!(!is_woken(&waiter).await);
        one.committed(5);
        assert!(is_woken(&waiter).await);
        assert!(one.is_empty() && two.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_leader_wakes_everybody() {
        let (list, fetch, produce) = (WaitList::default(), Waiter::new(1), Waiter::new(1));
        list.await_bytes(&fetch);
        list.await_high_watermark(1, &produce);
        list.wake_all();
        assert!(is_woken(&fetch).await && is_woken(&produce).await);
    }

    #[tokio::test(start_paused = true)]
    async fn a_forgotten_waiter_leaves_nothing_behind() {
        let (list, waiter) = (WaitList::default(), Waiter::new(1));
        list.await_bytes(&waiter);
        list.await_high_watermark(1, &waiter);
        list.forget(&waiter);
        assert!(list.is_empty());
    }
}
