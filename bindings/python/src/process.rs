//! What concerns the whole process: the log, the end, the command.
//!
//! In: the wish for lines of the log from a level on, a last chance for records that are under way, a command line. Out: lines,
//! counts, an exit code. Also the bell for the package's own thread, which calls back and logs.

use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use ottla_bindings_core::log::{self, Level};
use ottla_bindings_core::{Error, Kind, Producer, generation, runtime, waker};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use tokio::task::JoinHandle;

use crate::errors::call;
use crate::operation::block;

/// Forks in a line; see the runtime of the bindings' core.
const FORKS: usize = 256;

/// A child must not ring its parent's bell, nor wait for its locks: each process of a line has its own.
static BELL: ottla_bindings_core::ProcessBell = ottla_bindings_core::ProcessBell::new();
static PRODUCERS: [Mutex<Vec<Weak<Producer>>>; FORKS] = [const { Mutex::new(Vec::new()) }; FORKS];

/// Producers that nobody has any more, on their way to their end: it tells how many records were lost.
static FORGOTTEN: [Mutex<Vec<Ending>>; FORKS] = [const { Mutex::new(Vec::new()) }; FORKS];

type Ending = (Arc<Producer>, JoinHandle<u64>);

/// How long the records of a producer that is forgotten without having been closed may still take.
const FORGOTTEN_TIMEOUT: Duration = Duration::from_secs(30);

/// Wakes the package's own thread.
pub(crate) fn ring() {
    BELL.ring();
}

/// Remembers a producer for the end of the process.
pub(crate) fn register(producer: &Arc<Producer>) {
    if let Some(producers) = PRODUCERS.get(generation() as usize) {
        let mut producers = producers.lock().unwrap_or_else(PoisonError::into_inner);
        producers.retain(|known| known.strong_count() > 0);
        producers.push(Arc::downgrade(producer));
    }
}

/// Ends a producer that its owner has dropped without closing it. Its records still go; at the end of the process they are
/// waited for. `told` is called then, and keeps alive until then what it holds.
pub(crate) fn forget(producer: Arc<Producer>, told: impl FnOnce() + Send + 'static) {
    // A producer that came through a fork is the parent's: it says that it is closed.
    if producer.is_closed() {
        return;
    }
    // Without threads there is nothing that could be sent.
    let (Ok(runtime), Some(forgotten)) = (runtime(), FORGOTTEN.get(generation() as usize)) else {
        return;
    };
    let ended = end(producer.clone(), FORGOTTEN_TIMEOUT);
    let ending = runtime.spawn(async move {
        let lost = ended.await;
        told();
        lost
    });
    let mut forgotten = forgotten.lock().unwrap_or_else(PoisonError::into_inner);
    forgotten.retain(|(_, ending)| !ending.is_finished());
    forgotten.push((producer, ending));
}

/// Waits for the records of a producer, and closes it; how many were lost.
async fn end(producer: Arc<Producer>, timeout: Duration) -> u64 {
    let flushed = producer.flush(Some(timeout)).await;
    let _ = producer.close(Duration::ZERO).await;
    match flushed {
        Ok(left) => left.pending + left.failed + left.unknown,
        // It never connected: what was sent is told as failed.
        Err(_) => {
            let failures = producer.take_unclaimed().ok().flatten();
            failures.map_or(0, |failures| failures.count)
        }
    }
}

/// The same for one that is on its way already, but not for longer than `timeout`.
async fn await_end((producer, ending): Ending, timeout: Duration) -> u64 {
    match tokio::time::timeout(timeout, ending).await {
        Ok(lost) => lost.unwrap_or_default(),
        Err(_) => end(producer, Duration::ZERO).await,
    }
}

/// The bell of this process for the package's own thread.
#[pyclass(frozen, module = "ottla._native")]
pub(crate) struct Bell {
    inner: ottla_bindings_core::Bell,
}

#[pymethods]
impl Bell {
    #[new]
    fn new() -> PyResult<Self> {
        BELL.get()
            .map(|inner| Bell { inner: inner.clone() })
            .map_err(|_| PyRuntimeError::new_err("no file descriptor is left for waking the thread of ottla"))
    }

    /// The descriptor that is readable while it rings.
    fn fileno(&self) -> i32 {
        self.inner.fd()
    }

    /// Rings it.
    fn ring(&self) {
        self.inner.ring();
    }

    /// Silences it.
    fn silence(&self) {
        self.inner.silence();
    }
}

/// Begins to gather lines of this level (0 off, 1 error, ... 5 trace) and graver, for this process's bell.
#[pyfunction]
pub(crate) fn log_start(level: u8) {
    log::start(Level::from_number(level), waker(ring));
}

/// Lines of this level and graver are gathered from now on.
#[pyfunction]
pub(crate) fn log_level(level: u8) {
    log::set_level(Level::from_number(level));
}

/// The lines that have gathered (level, target, text, seconds since 1970), and how many were dropped so far.
#[pyfunction]
pub(crate) fn log_take() -> (Vec<(u8, &'static str, String, f64)>, u64) {
    let lines = log::take().into_iter().map(|line| {
        let time = line.time.duration_since(UNIX_EPOCH).unwrap_or_default();
        (line.level as u8, line.target, line.text, time.as_secs_f64())
    });
    (lines.collect(), log::dropped())
}

/// Gives the records of all open producers `timeout` seconds to be delivered, and closes these producers. How many records
/// were lost: failed meanwhile, or still under way.
#[pyfunction]
pub(crate) fn settle_all(py: Python<'_>, timeout: f64) -> PyResult<u64> {
    let timeout = crate::input::seconds(timeout)?;
    let process = generation() as usize;
    let (Some(producers), Some(forgotten)) = (PRODUCERS.get(process), FORGOTTEN.get(process)) else {
        return Ok(0);
    };
    // Only Python's threads have these locks, for moments.
    let forgotten = std::mem::take(&mut *forgotten.lock().unwrap_or_else(PoisonError::into_inner));
    let open: Vec<Arc<Producer>> = producers
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .iter()
        .filter_map(Weak::upgrade)
        .filter(|producer| !producer.is_closed() && !forgotten.iter().any(|(known, _)| Arc::ptr_eq(known, producer)))
        .collect();
    if open.is_empty() && forgotten.is_empty() {
        return Ok(0);
    }
    block(py, async move {
        let mut all: Vec<JoinHandle<u64>> = open
            .into_iter()
            .map(|producer| tokio::spawn(end(producer, timeout)))
            .collect();
        all.extend(
            forgotten
                .into_iter()
                .map(|ending| tokio::spawn(await_end(ending, timeout))),
        );
        let mut lost = 0;
        for one in all {
            lost += one.await.unwrap_or_default();
        }
        Ok(lost)
    })
}

/// The kinds of errors: name, number, meaning.
#[pyfunction]
pub(crate) fn error_kinds() -> Vec<(&'static str, i32, &'static str)> {
    let all = Kind::ALL.iter();
    all.map(|kind| (kind.name(), kind.number(), kind.doc())).collect()
}

/// The partition that a built-in partitioner chooses for a key; None if the key does not decide.
#[pyfunction]
#[pyo3(signature = (key, partitions, partitioner="default"))]
pub(crate) fn partition_for_key(
    py: Python<'_>,
    key: Option<&Bound<'_, PyAny>>,
    partitions: i32,
    partitioner: &str,
) -> PyResult<Option<i32>> {
    let key = key.map(|key| crate::input::bytes(key, "key")).transpose()?;
    call(py, || {
        ottla_bindings_core::partition_for_key(partitioner, key.as_deref(), partitions)
    })
}

/// Runs the `ottla` command with these arguments, the first of which is its own name; gives its exit code.
#[pyfunction]
pub(crate) fn run(py: Python<'_>, arguments: Vec<String>) -> PyResult<u8> {
    call(py, || Ok::<u8, Error>(py.detach(|| ottla_cli::run(arguments))))
}
