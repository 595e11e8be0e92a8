//! Sending from an event loop.
//!
//! In: records as Python objects. Out: futures of the loop, one for each record or for a lot of them. No call waits: what the
//! producer has no room for is held here, as the objects that the caller handed in, with the future that he awaits.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};

use ottla_bindings_core::{Error, Kind, Receipt, guard, spawn};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};

use crate::bridge::{Bridge, lock};
use crate::errors::{call, exception, raise};
use crate::input::{Parts, elements, seconds};
use crate::operation::Operation;
use crate::process;
use crate::producer::{closed_counts, flushed_counts, metrics_dict, told};

/// A producer for one event loop; `ottla.aio.Producer` is a subclass.
#[pyclass(frozen, subclass, weakref, module = "ottla._native")]
pub(crate) struct AsyncProducer {
    started: OnceLock<Started>,
}

struct Started {
    core: Arc<ottla_bindings_core::Producer>,
    bridge: Py<Bridge>,
}

/// A record that waits for room, as its caller handed it in.
pub(crate) struct Pending {
    future: Py<PyAny>,
    topic: Py<PyString>,
    value: Option<Py<PyAny>>,
    key: Option<Py<PyAny>>,
    headers: Option<Py<PyAny>>,
    partition: Option<i32>,
    timestamp: Option<i64>,
}

impl Pending {
    fn new(parts: &Parts<'_, '_>, future: Py<PyAny>) -> Self {
        let keep = |object: Option<&Bound<'_, PyAny>>| object.map(|object| object.clone().unbind());
        Pending {
            future,
            topic: parts.topic.clone().unbind(),
            value: keep(parts.value),
            key: keep(parts.key),
            headers: keep(parts.headers),
            partition: parts.partition,
            timestamp: parts.timestamp,
        }
    }

    fn send(&self, py: Python<'_>, core: &ottla_bindings_core::Producer, tag: u64) -> PyResult<Result<(), Error>> {
        let parts = Parts {
            topic: self.topic.bind(py),
            value: self.value.as_ref().map(|object| object.bind(py)),
            key: self.key.as_ref().map(|object| object.bind(py)),
            headers: self.headers.as_ref().map(|object| object.bind(py)),
            partition: self.partition,
            timestamp: self.timestamp,
        };
        parts.with(|record| guard(|| core.send(record, Receipt::Tag(tag)).map(drop)))
    }
}

/// Sends what waited for room, as far as there is room now.
pub(crate) fn pump(bridge: &Bridge, py: Python<'_>, core: &Arc<ottla_bindings_core::Producer>) -> PyResult<()> {
    lock(&bridge.sends).waits_for_room = false;
    loop {
        let Some(pending) = lock(&bridge.sends).overflow.pop_front() else {
            let pumped = std::mem::take(&mut lock(&bridge.sends).pumped);
            for future in pumped {
                // It only fails for a future that was cancelled.
                let _ = future.call_method1(py, "set_result", (py.None(),));
            }
            return Ok(());
        };
        // Somebody who has cancelled his wait for room does not want it sent: it never was accepted.
        if pending.future.call_method0(py, "done")?.is_truthy(py)? {
            continue;
        }
        let tag = lock(&bridge.sends).reserve(pending.future.clone_ref(py));
        let error = match pending.send(py, core, tag) {
            Ok(Ok(())) => continue,
            Ok(Err(error)) if error.kind() == Kind::QueueFull => {
                let mut sends = lock(&bridge.sends);
                sends.cancel(tag);
                sends.overflow.push_front(pending);
                drop(sends);
                return await_room(bridge, py, core);
            }
            Ok(Err(error)) => exception(py, &error, 1)?,
            Err(error) => error.into_value(py).into_bound(py).into_any(),
        };
        lock(&bridge.sends).cancel(tag);
        let _ = pending.future.call_method1(py, "set_exception", (error,));
    }
}

/// Has the bell ring as soon as there is room.
fn await_room(bridge: &Bridge, py: Python<'_>, core: &Arc<ottla_bindings_core::Producer>) -> PyResult<()> {
    if std::mem::replace(&mut lock(&bridge.sends).waits_for_room, true) {
        return Ok(());
    }
    let (ready, roomy, bell) = (core.ready(), bridge.roomy.clone(), bridge.bell.clone());
    let wait = async move {
        // An error is found by the next record.
        let _ = ready.await;
        roomy.store(true, Ordering::Release);
        bell.ring();
    };
    guard(|| spawn(wait)).map_err(|error| raise(py, &error, 1))
}

impl Drop for AsyncProducer {
    fn drop(&mut self) {
        if let Some(started) = self.started.take() {
            process::forget(started.core, || ());
        }
    }
}

impl AsyncProducer {
    #[inline]
    fn started<'a>(slf: &'a Bound<'_, Self>) -> PyResult<(&'a Started, &'a Bridge)> {
        let started = slf
            .get()
            .started
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("this producer was not initialised: call super().__init__()"))?;
        let bridge = started.bridge.get();
        if !bridge.is_bound() {
            slf.call_method0("_bind")?;
        }
        bridge.check(slf.py())?;
        Ok((started, bridge))
    }

    fn get(&self) -> PyResult<&Started> {
        self.started
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("this producer was not initialised: call super().__init__()"))
    }
}

#[pymethods]
impl AsyncProducer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        AsyncProducer {
            started: OnceLock::new(),
        }
    }

    /// Checks the configuration and begins to connect.
    fn _start(
        &self,
        py: Python<'_>,
        pairs: Vec<(String, String)>,
        bridge: Py<Bridge>,
        on_error: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let inner = bridge.get();
        let waker = inner.bell.waker();
        let core = Arc::new(call(py, || ottla_bindings_core::Producer::start(pairs, waker))?);
        process::register(&core);
        // A bridge is made for one client.
        let _ = inner.producer.set(core.clone());
        if let Some(on_error) = on_error {
            let _ = inner.on_error.set(on_error);
        }
        self.started
            .set(Started { core, bridge })
            .map_err(|_| PyRuntimeError::new_err("this producer was initialised already"))
    }

    /// Sends a record; the future's result is where it was written.
    #[pyo3(signature = (topic, value=None, *, key=None, headers=None, partition=None, timestamp=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn send(
        slf: &Bound<'_, Self>,
        topic: &Bound<'_, PyString>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        partition: Option<i32>,
        timestamp: Option<i64>,
    ) -> PyResult<Py<PyAny>> {
        let (started, bridge) = AsyncProducer::started(slf)?;
        let py = slf.py();
        let parts = Parts {
            topic,
            value,
            key,
            headers,
            partition,
            timestamp,
        };
        let future = bridge.create_future(py)?;
        let tag = {
            let mut sends = lock(&bridge.sends);
            if !sends.overflow.is_empty() {
                // Behind those that wait already.
                sends.overflow.push_back(Pending::new(&parts, future.clone_ref(py)));
                return Ok(future);
            }
            sends.reserve(future.clone_ref(py))
        };
        let error = match parts.with(|record| guard(|| started.core.send(record, Receipt::Tag(tag)))) {
            Ok(Ok(_)) => return Ok(future),
            other => {
                lock(&bridge.sends).cancel(tag);
                match other? {
                    Err(error) => error,
                    Ok(_) => return Ok(future),
                }
            }
        };
        if error.kind() == Kind::QueueFull {
            let pending = Pending::new(&parts, future.clone_ref(py));
            lock(&bridge.sends).overflow.push_back(pending);
            await_room(bridge, py, &started.core)?;
        } else {
            future.call_method1(py, "set_exception", (exception(py, &error, 1)?,))?;
        }
        Ok(future)
    }

    /// Sends a record without a future. Raises QueueFullError when there is no room.
    #[pyo3(signature = (topic, value=None, *, key=None, headers=None, partition=None, timestamp=None))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    fn send_nowait(
        slf: &Bound<'_, Self>,
        topic: &Bound<'_, PyString>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        partition: Option<i32>,
        timestamp: Option<i64>,
    ) -> PyResult<()> {
        let (started, bridge) = AsyncProducer::started(slf)?;
        let parts = Parts {
            topic,
            value,
            key,
            headers,
            partition,
            timestamp,
        };
        if !lock(&bridge.sends).overflow.is_empty() {
            let error = Error::new(Kind::QueueFull, "other records wait for room already: await ready()");
            return Err(raise(slf.py(), &error, 1));
        }
        parts
            .with(|record| guard(|| started.core.send(record, Receipt::None)))?
            .map(drop)
            .map_err(|error| raise(slf.py(), &error, 1))
    }

    /// Sends the first of `records`, as many as there is room for; how many that is, and their future.
    fn _send_lot(
        slf: &Bound<'_, Self>,
        topic: &Bound<'_, PyString>,
        records: &Bound<'_, PyAny>,
    ) -> PyResult<(usize, Option<Py<PyAny>>)> {
        let (started, bridge) = AsyncProducer::started(slf)?;
        let py = slf.py();
        let elements = elements(records)?;
        if elements.is_empty() || !lock(&bridge.sends).overflow.is_empty() {
            return Ok((0, None));
        }
        let future = bridge.create_future(py)?;
        let first = lock(&bridge.sends).reserve_lot(future.clone_ref(py), elements.len() as u64);
        let mut sent = 0;
        let mut refused = None;
        for (tag, element) in (first..).zip(&elements) {
            let parts = element.parts(topic);
            refused = match parts.with(|record| guard(|| started.core.send(record, Receipt::Tag(tag)))) {
                Ok(Ok(_)) => {
                    sent += 1;
                    continue;
                }
                Ok(Err(error)) if error.kind() == Kind::QueueFull => None,
                Ok(Err(error)) => Some(raise(py, &error, 1)),
                Err(error) => Some(error),
            };
            break;
        }
        if sent < elements.len() {
            lock(&bridge.sends).shrink_lot(first, sent as u64, refused.is_some());
        }
        match refused {
            None if sent == 0 => Ok((0, None)),
            None => Ok((sent, Some(future))),
            Some(error) => {
                let note = format!(
                    "record {sent} of {}; those before it were sent, none after it was",
                    elements.len()
                );
                error.value(py).call_method1("add_note", (note,))?;
                Err(error)
            }
        }
    }

    /// A future that is resolved when no record waits for room any more; None if none does.
    fn _pumped(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let (_, bridge) = AsyncProducer::started(slf)?;
        if lock(&bridge.sends).overflow.is_empty() {
            return Ok(None);
        }
        let future = bridge.create_future(slf.py())?;
        lock(&bridge.sends).pumped.push(future.clone_ref(slf.py()));
        Ok(Some(future))
    }

    /// Tries once more what waits for room; a closed producer refuses it.
    fn _pump(&self, py: Python<'_>) -> PyResult<()> {
        let started = self.get()?;
        pump(started.bridge.get(), py, &started.core)
    }

    /// Waits until there is room for more records.
    fn _ready(&self) -> PyResult<Operation> {
        Ok(Operation::silent(self.get()?.core.ready()))
    }

    /// Waits for the connection.
    fn _connected(&self) -> PyResult<Operation> {
        Ok(Operation::silent(self.get()?.core.connected()))
    }

    /// Sends everything at once and waits; gives the counts, and the exception to be raised, if any.
    fn _flush(&self, timeout: Option<f64>) -> PyResult<Operation> {
        let started = self.get()?;
        let timeout = timeout.map(seconds).transpose()?;
        let (core, claims) = (started.core.clone(), started.bridge.get().on_error.get().is_none());
        let flush = async move {
            let flushed = core.flush(timeout).await?;
            let failures = if claims { core.take_unclaimed()? } else { None };
            Ok((flushed, failures))
        };
        Ok(Operation::new(flush, |py, (flushed, failures)| {
            told(py, flushed_counts(&flushed), failures)
        }))
    }

    /// Ends the producer; gives the counts, and the exception to be raised, if any.
    fn _close(&self, timeout: f64) -> PyResult<Operation> {
        let started = self.get()?;
        let timeout = seconds(timeout)?;
        let (core, claims) = (started.core.clone(), started.bridge.get().on_error.get().is_none());
        let close = async move {
            let closed = core.close(timeout).await?;
            let failures = if claims { core.take_unclaimed()? } else { None };
            Ok((closed, failures))
        };
        Ok(Operation::new(close, |py, (closed, failures)| {
            told(py, closed_counts(&closed), failures)
        }))
    }

    /// Whether it was closed, or came through a fork.
    #[getter]
    fn closed(&self) -> bool {
        self.started.get().is_none_or(|started| started.core.is_closed())
    }

    /// Totals and distributions since the start.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let started = self.get()?;
        let metrics = call(py, || started.core.metrics())?;
        metrics_dict(py, metrics)
    }
}
