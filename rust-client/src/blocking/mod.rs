//! The same clients without `async`, for programs that have no runtime.
//!
//! ```
//! # fn run(servers: String) -> Result<(), Box<dyn std::error::Error>> {
//! use std::time::Duration;
//! use ottla::blocking::{Admin, Consumer, Producer};
//! use ottla::{NewTopic, Record};
//!
//! let admin = Admin::builder().bootstrap_servers(&servers).build()?;
//! admin.create_topics(&[NewTopic::new("gpsraw").partitions(1)])?;
//!
//! let producer = Producer::builder().bootstrap_servers(&servers).build()?;
//! let delivery = producer.send(Record::to("gpsraw").key(b"truck-7").value("48.1,11.6"))?;
//! assert_eq!(delivery.wait()?.offset, Some(0));
//! let closed = producer.close(Duration::from_secs(10))?;
//! assert_eq!((closed.delivered, closed.failed, closed.unknown), (1, 0, 0));
//!
//! let mut consumer = Consumer::builder()
//!     .bootstrap_servers(&servers)
//!     .auto_offset_reset("earliest")
//!     .assign([("gpsraw", 0)])
//!     .build()?;
//! let records = consumer.poll()?.expect("the consumer is open");
//! assert_eq!(records.iter().next().and_then(|record| record.value()), Some(&b"48.1,11.6"[..]));
//! # Ok(())
//! # }
//! # let runtime = tokio::runtime::Runtime::new().unwrap();
//! # let cluster = runtime.block_on(ottla_broker::Cluster::start()).unwrap();
//! # run(cluster.bootstrap_servers()).unwrap();
//! ```
//!
//! In: calls from any thread. Out: what the asynchronous client says, after waiting for it. All blocking clients of a
//! process share one runtime with two threads, started by the first that is built.
//!
//! A call that would have to wait inside of a task of an async runtime is refused with
//! [`ErrorKind::Runtime`]: it would hold up every other task of that thread. Use the
//! asynchronous client there, or `tokio::task::spawn_blocking`. (Tokio's tasks are recognised; those of other runtimes
//! are not, and wait.)

mod admin;
mod consumer;
mod producer;
#[cfg(test)]
mod tests;

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::task::coop;

pub use admin::{Admin, AdminBuilder};
pub use consumer::{Committing, Consumer, ConsumerBuilder};
pub use producer::{Delivery, Producer, ProducerBuilder, Topic};

use crate::error::{Error, ErrorKind, Result};

/// Threads of the shared runtime: one may compress a batch while the other reads answers.
const THREADS: usize = 2;

/// A task's budget in tokio is 128 steps, kept in one byte.
const MOST_BUDGET: usize = 256;

/// Methods of a builder that only hand on to the asynchronous one's.
macro_rules! setters {
    ($($of:ident :: $name:ident($argument:ident: $kind:ty);)*) => {
        $(
            #[doc = concat!("As [`", stringify!($of), "::", stringify!($name), "`](crate::", stringify!($of), "::", stringify!($name), ").")]
            #[must_use]
            pub fn $name(self, $argument: $kind) -> Self {
                Self { inner: self.inner.$name($argument) }
            }
        )*
    };
}
use setters;

/// The runtime that all blocking clients of the process share. It is never ended: it has no thread that keeps a
/// process alive.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<std::io::Result<Runtime>> = OnceLock::new();
    let start = || {
        Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("ottla-blocking")
            .enable_all()
            .build()
    };
    RUNTIME.get_or_init(start).as_ref().map_err(|error| {
        let text = format!("the runtime of the blocking clients cannot be started: {error}");
        Error::new(ErrorKind::Runtime, text)
    })
}

/// Waits for `future` on this thread.
///
/// # Errors
/// This thread must not wait, or there is no runtime.
fn block_on<F: Future>(future: F) -> Result<F::Output> {
    may_wait()?;
    let runtime = runtime()?;
    let mut future = pin!(future);
    let polled = |context: &mut Context<'_>| {
        // Timers and sockets find their runtime through this. Unlike tokio's own `block_on` it works everywhere.
        let _entered = runtime.enter();
        future.as_mut().poll(context)
    };
    match wait(polled, None) {
        Some(output) => Ok(output),
        None => Err(Error::new(ErrorKind::Runtime, "the wait was given up")), // only with a limit
    }
}

/// An error inside of a task of an async runtime.
fn may_wait() -> Result<()> {
    match Handle::try_current() {
        Ok(_) if in_task() => Err(Error::new(
            ErrorKind::Runtime,
            "a blocking call inside of an async task would hold up the task's runtime: use the asynchronous client \
             there, or tokio::task::spawn_blocking",
        )),
        Err(gone) if gone.is_thread_local_destroyed() => {
            Err(Error::new(ErrorKind::Runtime, "this thread is ending and cannot wait"))
        }
        _ => Ok(()),
    }
}

/// Whether this thread runs a task of tokio. A task has a budget of steps; where blocking is allowed (a thread that
/// only entered a runtime, `spawn_blocking`, `block_in_place`) there is none. The budget is used up to see whether it
/// has an end, and put back.
fn in_task() -> bool {
    let mut held = Vec::new();
    let mut context = Context::from_waker(Waker::noop());
    while coop::has_budget_remaining() && held.len() < MOST_BUDGET {
        match coop::poll_proceed(&mut context) {
            Poll::Ready(step) => held.push(step),
            Poll::Pending => break,
        }
    }
    let ended = !coop::has_budget_remaining();
    // Each step puts back what it found, so the first one must come last.
    while held.pop().is_some() {}
    ended
}

/// What a waiting thread is woken by.
#[derive(Debug, Default)]
struct Bell {
    rung: Mutex<bool>,
    condition: Condvar,
}

impl Bell {
    fn lock(&self) -> MutexGuard<'_, bool> {
        self.rung.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it rings, or until `deadline`. False if that came first.
    fn wait(&self, deadline: Option<Instant>) -> bool {
        let mut rung = self.lock();
        while !*rung {
            let Some(deadline) = deadline else {
                rung = self.condition.wait(rung).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            let (guard, _) = self
                .condition
                .wait_timeout(rung, left)
                .unwrap_or_else(PoisonError::into_inner);
            rung = guard;
        }
        *rung = false;
        true
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        *self.lock() = true;
        self.condition.notify_one();
    }
}

/// Polls until there is a result; `None` if `limit` is over before.
fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>, limit: Option<Duration>) -> Option<T> {
    // A limit beyond what the clock can say is none.
    let deadline = limit.and_then(|limit| Instant::now().checked_add(limit));
    let bell = Arc::new(Bell::default());
    let waker = Waker::from(bell.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(result) = poll(&mut context) {
            return Some(result);
        }
        if !bell.wait(deadline) {
            return None;
        }
    }
}
