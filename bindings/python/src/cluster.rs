//! The embedded broker, for the tests of users.

use std::path::PathBuf;
use std::sync::OnceLock;

use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;

use crate::errors::call;
use crate::operation::{Operation, block};

/// A broker in this process; `ottla.testing.Cluster` is a subclass.
#[pyclass(frozen, subclass, weakref, module = "ottla._native")]
pub(crate) struct Cluster {
    core: OnceLock<ottla_bindings_core::Cluster>,
}

impl Cluster {
    fn core(&self) -> PyResult<&ottla_bindings_core::Cluster> {
        self.core
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("this cluster was not initialised: call super().__init__()"))
    }
}

#[pymethods]
impl Cluster {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Cluster { core: OnceLock::new() }
    }

    /// Starts it, and waits until it answers.
    fn _start(&self, py: Python<'_>, properties: Vec<(String, String)>, data_dir: Option<PathBuf>) -> PyResult<()> {
        let core = block(py, ottla_bindings_core::Cluster::start(properties, data_dir))?;
        self.core
            .set(core)
            .map_err(|_| PyRuntimeError::new_err("this cluster was started already"))
    }

    /// What a client takes as `bootstrap.servers`.
    #[getter]
    fn bootstrap_servers(&self, py: Python<'_>) -> PyResult<String> {
        let core = self.core()?;
        call(py, || core.bootstrap_servers())
    }

    /// Adds a fault, as `api=Produce topic=gps error_after=6 times=2`.
    fn fault(&self, py: Python<'_>, rule: &str) -> PyResult<()> {
        let core = self.core()?;
        call(py, || core.fault(rule))
    }

    /// Takes all faults away.
    fn clear_faults(&self, py: Python<'_>) -> PyResult<()> {
        let core = self.core()?;
        call(py, || core.clear_faults())
    }

    /// Ends all connections.
    fn disconnect_all(&self, py: Python<'_>) -> PyResult<()> {
        let core = self.core()?;
        call(py, || core.disconnect_all())
    }

    /// Ends it, with everything on disk.
    fn _stop(&self) -> PyResult<Operation> {
        Ok(Operation::silent(self.core()?.stop()))
    }
}
