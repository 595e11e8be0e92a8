//! Calls that wait.
//!
//! In: a future of the core, and how its answer becomes a Python object. Out: the answer, after blocking with room for
//! Ctrl-C, or later on an event loop (see `bridge`).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use ottla_bindings_core::{Error, Kind, wait};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::Halt;
use crate::input;

/// How soon Ctrl-C is heard.
const SLICE: Duration = Duration::from_millis(100);

/// Makes the Python object of an answer.
pub(crate) type Answer = Box<dyn for<'py> FnOnce(Python<'py>) -> PyResult<Py<PyAny>> + Send>;

pub(crate) type Work = Pin<Box<dyn Future<Output = Result<Answer, Error>> + Send>>;

/// A call that has not been made yet: `wait` makes it.
#[pyclass(frozen, module = "ottla._native")]
pub(crate) struct Operation {
    work: Mutex<Option<Work>>,
}

impl Operation {
    pub fn new<T: Send + 'static>(
        future: impl Future<Output = Result<T, Error>> + Send + 'static,
        tell: impl for<'py> FnOnce(Python<'py>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> Self {
        let work = async move {
            let told = future.await?;
            Ok(Box::new(move |py: Python<'_>| tell(py, told)) as Answer)
        };
        Operation {
            work: Mutex::new(Some(Box::pin(work))),
        }
    }

    /// One whose answer is `None`.
    pub fn silent(future: impl Future<Output = Result<(), Error>> + Send + 'static) -> Self {
        Operation::new(future, |py, ()| Ok(py.None()))
    }

    pub fn take(&self) -> PyResult<Work> {
        self.work
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| PyRuntimeError::new_err("this call was made already"))
    }
}

#[pymethods]
impl Operation {
    /// Makes the call and waits for its answer, at most `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn wait(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<PyAny>> {
        let work = self.take()?;
        let limit = timeout.map(input::seconds).transpose()?;
        block(py, within(limit, work))?(py)
    }
}

async fn within(limit: Option<Duration>, work: Work) -> Result<Answer, Error> {
    match limit {
        None => work.await,
        Some(limit) => tokio::time::timeout(limit, work)
            .await
            .unwrap_or_else(|_| Err(late(limit))),
    }
}

pub(crate) fn late(limit: Duration) -> Error {
    Error::new(Kind::Timeout, format!("no answer within {} s", limit.as_secs_f64()))
}

/// Waits for a future of the core without the interpreter's lock; signals are looked after every 100 ms.
pub(crate) fn block<T: Send>(py: Python<'_>, future: impl Future<Output = Result<T, Error>> + Send) -> PyResult<T> {
    py.detach(|| {
        wait(future, SLICE, || {
            Python::attach(|py| py.check_signals()).map_err(Halt::Python)
        })
    })
    .map_err(|halt| halt.raise(py))?
    .map_err(|error| Halt::Library(error).raise(py))
}
