//! Sending from threads.
//!
//! In: records as Python objects. Out: nothing, or receipts. A call waits only for room, and gives the interpreter's lock
//! away only then. Failures of records without a receipt gather here until `flush`, `close` or the error callback takes them.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};

use ottla::{Histogram, ProducerMetrics};
use ottla_bindings_core::{Closed, Flushed, Kind, Sent, Unclaimed, guard, spawn, waker};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyString};
use tokio::sync::Notify;

use crate::batch::leaf;
use crate::errors::{call, exception, raise};
use crate::input::{Parts, elements, seconds};
use crate::operation::{Operation, block};
use crate::process;
use crate::receipts::Receipts;

/// A producer for threads; the package's `Producer` is a subclass.
#[pyclass(frozen, subclass, weakref, module = "ottla._native")]
pub(crate) struct Producer {
    shared: OnceLock<Arc<Shared>>,
}

struct Shared {
    core: Arc<ottla_bindings_core::Producer>,
    receipts: Receipts,
    unclaimed: Mutex<Option<Unclaimed>>,
    /// Somebody wants to hear of failures as they happen.
    on_error: bool,
}

impl Shared {
    /// Takes what the core has gathered to where it belongs.
    fn gather(&self) {
        let mut due = self.receipts.settle(|| self.core.take_reports().unwrap_or_default());
        // Locked before the core has let go of them: who looks in between would find them nowhere.
        let mut unclaimed = self.lock_unclaimed();
        if let Ok(Some(new)) = self.core.take_unclaimed() {
            due |= self.on_error;
            merge(&mut unclaimed, new);
        }
        drop(unclaimed);
        if due {
            process::ring();
        }
    }

    fn lock_unclaimed(&self) -> std::sync::MutexGuard<'_, Option<Unclaimed>> {
        self.unclaimed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What `flush` and `close` are to raise.
    fn failures(&self) -> Option<Unclaimed> {
        match self.on_error {
            true => None,
            false => self.lock_unclaimed().take(),
        }
    }
}

pub(crate) fn merge(known: &mut Option<Unclaimed>, new: Unclaimed) {
    match known {
        Some(known) => known.count += new.count,
        None => *known = Some(new),
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take() {
            // Its receipts may live longer than it does.
            process::forget(shared.core.clone(), move || shared.gather());
        }
    }
}

impl Producer {
    #[inline]
    fn shared(&self) -> PyResult<&Arc<Shared>> {
        self.shared
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("this producer was not initialised: call super().__init__()"))
    }
}

#[pymethods]
impl Producer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Producer {
            shared: OnceLock::new(),
        }
    }

    /// Checks the configuration and begins to connect.
    fn _start(&self, py: Python<'_>, pairs: Vec<(String, String)>, on_error: bool) -> PyResult<()> {
        let notify = Arc::new(Notify::new());
        let notified = notify.clone();
        let waker = waker(move || notified.notify_one());
        let core = Arc::new(call(py, || ottla_bindings_core::Producer::start(pairs, waker))?);
        process::register(&core);
        let shared = Arc::new(Shared {
            core,
            receipts: Receipts::new(),
            unclaimed: Mutex::default(),
            on_error,
        });
        let weak = Arc::downgrade(&shared);
        call(py, || {
            spawn(async move {
                loop {
                    notify.notified().await;
                    // It ends with the producer: its last reports wake us once more.
                    let Some(shared) = weak.upgrade() else { return };
                    shared.gather();
                }
            })
        })?;
        self.shared
            .set(shared)
            .map_err(|_| PyRuntimeError::new_err("this producer was initialised already"))
    }

    /// Sends a record. Returns as soon as it is in a batch; waits only for room.
    #[pyo3(signature = (topic, value=None, *, key=None, headers=None, partition=None, timestamp=None, receipt=false, block=true))]
    #[allow(clippy::too_many_arguments, reason = "keyword arguments of Python")]
    #[inline]
    fn send(
        &self,
        topic: &Bound<'_, PyString>,
        value: Option<&Bound<'_, PyAny>>,
        key: Option<&Bound<'_, PyAny>>,
        headers: Option<&Bound<'_, PyAny>>,
        partition: Option<i32>,
        timestamp: Option<i64>,
        receipt: bool,
        block: bool,
    ) -> PyResult<Option<Py<crate::receipts::Receipt>>> {
        let shared = self.shared()?;
        let parts = Parts {
            topic,
            value,
            key,
            headers,
            partition,
            timestamp,
        };
        if !receipt {
            send(shared, topic.py(), &parts, ottla_bindings_core::Receipt::None, block)?;
            return Ok(None);
        }
        let (tag, receipt) = shared.receipts.open();
        match send(
            shared,
            topic.py(),
            &parts,
            ottla_bindings_core::Receipt::Tag(tag),
            block,
        ) {
            Ok(()) => leaf(topic.py(), receipt).map(Some),
            Err(error) => {
                shared.receipts.void(tag, 1);
                Err(error)
            }
        }
    }

    /// Sends many records: values, (key, value) pairs or `ottla.Record`s.
    #[pyo3(signature = (topic, records, *, receipt=false, block=true))]
    fn send_many(
        &self,
        topic: &Bound<'_, PyString>,
        records: &Bound<'_, PyAny>,
        receipt: bool,
        block: bool,
    ) -> PyResult<Option<crate::receipts::ManyReceipt>> {
        let shared = self.shared()?;
        let py = topic.py();
        let elements = elements(records)?;
        let count = elements.len() as u64;
        let many = receipt.then(|| shared.receipts.open_many(count));
        for (number, element) in (0_u64..).zip(&elements) {
            let wanted = match &many {
                None => ottla_bindings_core::Receipt::None,
                Some(many) => ottla_bindings_core::Receipt::Tag(many.first() + number),
            };
            if let Err(error) = send(shared, py, &element.parts(topic), wanted, block) {
                if let Some(many) = &many {
                    shared.receipts.void(many.first() + number, count - number);
                }
                let note = format!("record {number} of {count}; those before it were sent, none after it was");
                error.value(py).call_method1("add_note", (note,))?;
                return Err(error);
            }
        }
        Ok(many)
    }

    /// Waits until there is room for more records.
    fn _ready(&self) -> PyResult<Operation> {
        Ok(Operation::silent(self.shared()?.core.ready()))
    }

    /// Waits for the connection.
    fn _connected(&self) -> PyResult<Operation> {
        Ok(Operation::silent(self.shared()?.core.connected()))
    }

    /// Sends everything at once and waits; gives the counts, and the exception to be raised, if any.
    fn _flush(&self, timeout: Option<f64>) -> PyResult<Operation> {
        let shared = self.shared()?.clone();
        let timeout = timeout.map(seconds).transpose()?;
        let flush = async move {
            let flushed = shared.core.flush(timeout).await?;
            shared.gather();
            Ok((flushed, shared.failures()))
        };
        Ok(Operation::new(flush, |py, (flushed, failures)| {
            told(py, flushed_counts(&flushed), failures)
        }))
    }

    /// Ends the producer; gives the counts, and the exception to be raised, if any.
    fn _close(&self, timeout: f64) -> PyResult<Operation> {
        let shared = self.shared()?.clone();
        let timeout = seconds(timeout)?;
        let close = async move {
            let closed = shared.core.close(timeout).await?;
            shared.gather();
            Ok((closed, shared.failures()))
        };
        Ok(Operation::new(close, |py, (closed, failures)| {
            told(py, closed_counts(&closed), failures)
        }))
    }

    /// Whether it was closed, or came through a fork.
    #[getter]
    fn closed(&self) -> bool {
        self.shared.get().is_none_or(|shared| shared.core.is_closed())
    }

    /// Totals and distributions since the start.
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let shared = self.shared()?;
        let metrics = call(py, || shared.core.metrics())?;
        metrics_dict(py, metrics)
    }

    /// For the thread of the library that calls back: callbacks that are due, and the exception for the error callback.
    fn _due(&self, py: Python<'_>) -> PyResult<(Vec<crate::receipts::Due>, Option<Py<PyAny>>)> {
        let shared = self.shared()?;
        let failures = match shared.on_error {
            true => shared.lock_unclaimed().take(),
            false => None,
        };
        Ok((shared.receipts.hub.take_due(), failure(py, failures)?))
    }
}

/// Sends a record, waiting for room if `waits`.
#[inline]
fn send(
    shared: &Arc<Shared>,
    py: Python<'_>,
    parts: &Parts<'_, '_>,
    receipt: ottla_bindings_core::Receipt,
    waits: bool,
) -> PyResult<()> {
    loop {
        match parts.with(|record| guard(|| shared.core.send(record, receipt)))? {
            Ok(Sent::Queued) => return Ok(()),
            Ok(Sent::Parked) if waits => return wait_for_room(shared, py),
            Ok(Sent::Parked) => return Ok(()),
            Err(error) if waits && error.kind() == Kind::QueueFull => wait_for_room(shared, py)?,
            Err(error) => return Err(raise(py, &error, 1)),
        }
    }
}

#[cold]
fn wait_for_room(shared: &Arc<Shared>, py: Python<'_>) -> PyResult<()> {
    let mut ready = pin!(shared.core.ready());
    let mut context = Context::from_waker(Waker::noop());
    match ready.as_mut().poll(&mut context) {
        Poll::Ready(Ok(())) => Ok(()),
        Poll::Ready(Err(error)) => Err(raise(py, &error, 1)),
        Poll::Pending => block(py, ready),
    }
}

/// Delivered, failed, unknown, pending.
pub(crate) fn flushed_counts(flushed: &Flushed) -> (u64, u64, u64, u64) {
    (flushed.delivered, flushed.failed, flushed.unknown, flushed.pending)
}

/// Delivered, failed, unknown, and zero: nothing is pending then.
pub(crate) fn closed_counts(closed: &Closed) -> (u64, u64, u64, u64) {
    (closed.delivered, closed.failed, closed.unknown, 0)
}

pub(crate) fn told(py: Python<'_>, counts: (u64, u64, u64, u64), failures: Option<Unclaimed>) -> PyResult<Py<PyAny>> {
    Ok((counts, failure(py, failures)?).into_pyobject(py)?.into_any().unbind())
}

/// The exception for records that nobody had a receipt of.
pub(crate) fn failure(py: Python<'_>, failures: Option<Unclaimed>) -> PyResult<Option<Py<PyAny>>> {
    let Some(failures) = failures else { return Ok(None) };
    let exception = exception(py, &failures.first, failures.count)?;
    let of = (&*failures.partition.topic, failures.partition.partition);
    exception.setattr("partition", of)?;
    Ok(Some(exception.unbind()))
}

pub(crate) fn metrics_dict(py: Python<'_>, metrics: Option<ProducerMetrics>) -> PyResult<Bound<'_, PyDict>> {
    let dict = PyDict::new(py);
    let Some(metrics) = metrics else { return Ok(dict) };
    dict.set_item("client_id", &metrics.client_id)?;
    let counters = [
        ("records_delivered", metrics.records_delivered),
        ("records_failed", metrics.records_failed),
        ("records_unknown", metrics.records_unknown),
        ("records_sent", metrics.records_sent),
        ("records_retried", metrics.records_retried),
        ("batches_sent", metrics.batches_sent),
        ("batches_retried", metrics.batches_retried),
        ("batches_split", metrics.batches_split),
        ("bytes_sent", metrics.bytes_sent),
        ("requests_sent", metrics.requests_sent),
        ("requests_failed", metrics.requests_failed),
        ("requests_in_flight", metrics.requests_in_flight as u64),
        ("buffer_total_bytes", metrics.buffer_total_bytes as u64),
        ("buffer_available_bytes", metrics.buffer_available_bytes as u64),
        ("buffer_waits", metrics.buffer_waits),
        ("buffer_exhausted", metrics.buffer_exhausted),
    ];
    for (name, value) in counters {
        dict.set_item(name, value)?;
    }
    dict.set_item("throttle_time", metrics.throttle_time.as_secs_f64())?;
    dict.set_item("buffer_wait_time", metrics.buffer_wait_time.as_secs_f64())?;
    let histograms = [
        ("records_per_batch", &metrics.records_per_batch),
        ("batch_bytes", &metrics.batch_bytes),
        ("compression_ratio", &metrics.compression_ratio),
        ("queue_time_ms", &metrics.queue_time_ms),
        ("request_latency_ms", &metrics.request_latency_ms),
        ("attempts", &metrics.attempts),
    ];
    for (name, histogram) in histograms {
        dict.set_item(name, histogram_dict(py, histogram)?)?;
    }
    Ok(dict)
}

fn histogram_dict<'py>(py: Python<'py>, histogram: &Histogram) -> PyResult<Bound<'py, PyDict>> {
    let dict = PyDict::new(py);
    dict.set_item("count", histogram.count())?;
    dict.set_item("mean", histogram.mean())?;
    dict.set_item("p50", histogram.quantile(0.5))?;
    dict.set_item("p99", histogram.quantile(0.99))?;
    dict.set_item("max", histogram.max())?;
    Ok(dict)
}
