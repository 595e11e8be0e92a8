//! Errors of the library as Python's exceptions.
//!
//! In: the shared core's errors. Out: an instance of the class of their kind, made by the package's Python half, with the
//! facts of the error as attributes.

use ottla_bindings_core::{Error, guard, persisted_name};
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;

/// Why a wait ended without its answer.
pub(crate) enum Halt {
    /// The library's error.
    Library(Error),
    /// An exception, such as `KeyboardInterrupt`.
    Python(PyErr),
}

impl From<Error> for Halt {
    fn from(error: Error) -> Self {
        Halt::Library(error)
    }
}

impl Halt {
    pub fn raise(self, py: Python<'_>) -> PyErr {
        match self {
            Halt::Library(error) => raise(py, &error, 1),
            Halt::Python(error) => error,
        }
    }
}

/// The exception for an error that befell `count` records (or one call).
#[cold]
pub(crate) fn raise(py: Python<'_>, error: &Error, count: u64) -> PyErr {
    match exception(py, error, count) {
        Ok(exception) => PyErr::from_value(exception),
        // The package is broken, or the interpreter is ending.
        Err(other) => other,
    }
}

/// The same as an object.
pub(crate) fn exception<'py>(py: Python<'py>, error: &Error, count: u64) -> PyResult<Bound<'py, PyAny>> {
    static MAKE: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
    let make = MAKE.get_or_try_init(py, || {
        PyResult::Ok(PyModule::import(py, "ottla.errors")?.getattr("_make")?.unbind())
    })?;
    let partition = error.partition().map(|of| (&*of.topic, of.partition));
    make.bind(py).call1((
        error.kind().name(),
        error.to_string(),
        error.number(),
        error.code_name(),
        error.retriable(),
        persisted_name(error.persisted()),
        partition,
        error.offset(),
        error.attempt_count(),
        count,
    ))
}

/// Runs a call of the library; its error or panic becomes an exception.
#[inline]
pub(crate) fn call<T>(py: Python<'_>, call: impl FnOnce() -> Result<T, Error>) -> PyResult<T> {
    guard(call).map_err(|error| raise(py, &error, 1))
}
