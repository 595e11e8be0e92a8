//! What concerns the whole process: the log, the end, the command.
//!
//! In: the wish for lines of the log from a level on, a last chance for records that are under way, a command line. Out: lines,
//! counts, an exit code. Also the bell for the package's own thread, which calls back and logs.

use std::sync::{Arc, Mutex, OnceLock, PoisonError, TryLockError, Weak};
use std::time::{Duration, UNIX_EPOCH};

use ottla_bindings_core::log::{self, Level};
use ottla_bindings_core::{Error, Kind, Producer, generation, waker};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::call;
use crate::operation::block;

/// Forks in a line; see the runtime of the bindings' core.
const FORKS: usize = 256;

/// A child must not ring its parent's bell, nor wait for its locks: each process of a line has its own.
static BELLS: [OnceLock<Option<ottla_bindings_core::Bell>>; FORKS] = [const { OnceLock::new() }; FORKS];
static PRODUCERS: [Mutex<Vec<Weak<Producer>>>; FORKS] = [const { Mutex::new(Vec::new()) }; FORKS];

fn bell() -> Option<&'static ottla_bindings_core::Bell> {
    BELLS
        .get(generation() as usize)?
        .get_or_init(|| ottla_bindings_core::Bell::new().ok())
        .as_ref()
}

/// Wakes the package's own thread.
pub(crate) fn ring() {
    if let Some(bell) = bell() {
        bell.ring();
    }
}

/// Remembers a producer for the end of the process.
pub(crate) fn register(producer: &Arc<Producer>) {
    if let Some(producers) = PRODUCERS.get(generation() as usize) {
        let mut producers = producers.lock().unwrap_or_else(PoisonError::into_inner);
        producers.retain(|known| known.strong_count() > 0);
        producers.push(Arc::downgrade(producer));
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
        bell()
            .map(|inner| Bell { inner: inner.clone() })
            .ok_or_else(|| PyRuntimeError::new_err("no file descriptor is left for waking the thread of ottla"))
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
    let Some(producers) = PRODUCERS.get(generation() as usize) else {
        return Ok(0);
    };
    let open: Vec<Arc<Producer>> = match producers.try_lock() {
        Ok(producers) => producers.iter().filter_map(Weak::upgrade).collect(),
        Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner().iter().filter_map(Weak::upgrade).collect(),
        Err(TryLockError::WouldBlock) => return Ok(0),
    };
    let open: Vec<_> = open.into_iter().filter(|producer| !producer.is_closed()).collect();
    if open.is_empty() {
        return Ok(0);
    }
    block(py, async move {
        let all: Vec<_> = open
            .iter()
            .map(|producer| {
                let (flush, close) = (producer.flush(Some(timeout)), producer.close(Duration::ZERO));
                tokio::spawn(async move {
                    let lost = flush.await.map_or(0, |left| left.pending + left.failed + left.unknown);
                    let _ = close.await;
                    lost
                })
            })
            .collect();
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
