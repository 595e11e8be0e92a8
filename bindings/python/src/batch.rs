//! Records as they arrived.
//!
//! In: a batch of the core. Out: Python objects that read from it when they are asked. A record keeps its batch in memory;
//! what its attributes give are copies of their own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use ottla_bindings_core::{HandedOffset, RecordView, TimestampType, TopicPartition};
use pyo3::exceptions::{PyBufferError, PyIndexError, PyTypeError};
use pyo3::ffi;
use pyo3::prelude::*;
use pyo3::types::{PyBytes, PyCapsule, PyDict, PyList, PyMemoryView, PySlice, PyString, PyTuple};
use pyo3::{PyClass, PyClassInitializer};

use crate::arrow;

/// A batch with the names of its runs' topics as Python has them.
pub(crate) struct Shared {
    pub core: Arc<ottla_bindings_core::Batch>,
    topics: Vec<Py<PyString>>,
}

impl Shared {
    pub fn new(py: Python<'_>, core: Arc<ottla_bindings_core::Batch>) -> Arc<Shared> {
        let topic = |of: &TopicPartition| PyString::intern(py, &of.topic).unbind();
        let topics = core.runs().map(|(partition, _)| topic(partition)).collect();
        Arc::new(Shared { core, topics })
    }

    /// Only for numbers that were checked.
    fn view(&self, at: usize) -> Option<RecordView<'_>> {
        self.core.get(at)
    }
}

/// A received record. Its attributes are read when they are asked for.
#[pyclass(frozen, module = "ottla", weakref)]
pub(crate) struct ConsumerRecord {
    pub shared: Arc<Shared>,
    pub at: usize,
}

impl ConsumerRecord {
    /// How far its partition is once it is processed.
    pub fn handed(&self) -> Vec<HandedOffset> {
        self.shared.core.handed(self.at..self.at + 1)
    }

    #[inline]
    fn view(&self) -> PyResult<RecordView<'_>> {
        self.shared
            .view(self.at)
            .ok_or_else(|| PyIndexError::new_err("no such record"))
    }
}

/// A Python object of a class whose instances refer to no other Python object: the garbage collector need not look at it.
/// There may be millions.
#[inline]
pub(crate) fn leaf<T>(py: Python<'_>, value: T) -> PyResult<Py<T>>
where
    T: PyClass + Into<PyClassInitializer<T>>,
{
    let object = Py::new(py, value)?;
    // SAFETY: it is an object of a class with the collector's flag (all of pyo3's have it), fully made, and ours.
    #[allow(unsafe_code)]
    unsafe {
        ffi::PyObject_GC_UnTrack(object.as_ptr().cast());
    }
    Ok(object)
}

#[inline]
fn python_bytes<'py>(py: Python<'py>, bytes: Option<&[u8]>) -> Option<Bound<'py, PyBytes>> {
    bytes.map(|bytes| PyBytes::new(py, bytes))
}

#[pymethods]
impl ConsumerRecord {
    /// The topic.
    #[getter]
    fn topic(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        Ok(self.shared.topics[self.view()?.run()].clone_ref(py))
    }

    /// The partition.
    #[getter]
    fn partition(&self) -> PyResult<i32> {
        Ok(self.view()?.topic_partition().partition)
    }

    /// The offset in the partition.
    #[getter]
    fn offset(&self) -> PyResult<i64> {
        Ok(self.view()?.offset())
    }

    /// The timestamp in milliseconds since 1970, or -1 for none.
    #[getter]
    fn timestamp(&self) -> PyResult<i64> {
        Ok(self.view()?.timestamp())
    }

    /// Whose clock the timestamp is: `create_time` or `log_append_time`.
    #[getter]
    fn timestamp_type(&self) -> PyResult<&'static str> {
        Ok(match self.view()?.timestamp_type() {
            TimestampType::LogAppendTime => "log_append_time",
            TimestampType::CreateTime => "create_time",
        })
    }

    /// The leader epoch in which it was appended; -1 if the broker did not say.
    #[getter]
    fn leader_epoch(&self) -> PyResult<i32> {
        Ok(self.view()?.leader_epoch())
    }

    /// The key, or None.
    #[getter]
    #[inline]
    fn key<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(python_bytes(py, self.view()?.key()))
    }

    /// The value; None is a tombstone on a compacted topic.
    #[getter]
    #[inline]
    fn value<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyBytes>>> {
        Ok(python_bytes(py, self.view()?.value()))
    }

    /// The headers in order, as (key, value) pairs; a key may occur more than once.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let headers = self.view()?.headers();
        PyList::new(
            py,
            headers
                .map(|header| (header.key, python_bytes(py, header.value)))
                .collect::<Vec<_>>(),
        )
    }

    fn __repr__(&self) -> PyResult<String> {
        let view = self.view()?;
        let of = view.topic_partition();
        let length = |part: Option<&[u8]>| part.map_or("None".to_owned(), |part| format!("{} bytes", part.len()));
        Ok(format!(
            "<ConsumerRecord {}[{}]@{} key: {}, value: {}>",
            of.topic,
            of.partition,
            view.offset(),
            length(view.key()),
            length(view.value())
        ))
    }
}

/// Records that arrived together: those of each partition in the order of their offsets.
#[pyclass(frozen, sequence, module = "ottla", weakref)]
pub(crate) struct Batch {
    shared: Arc<Shared>,
    start: usize,
    end: usize,
}

impl Batch {
    pub fn new(shared: Arc<Shared>, start: usize, end: usize) -> Self {
        Batch { shared, start, end }
    }

    /// How far the partitions are once its records are processed.
    pub fn handed(&self) -> Vec<HandedOffset> {
        self.shared.core.handed(self.start..self.end)
    }

    pub fn empty(py: Python<'_>) -> Self {
        Batch::new(Shared::new(py, Arc::default()), 0, 0)
    }

    fn views(&self) -> impl Iterator<Item = RecordView<'_>> + Clone {
        (self.start..self.end).filter_map(|at| self.shared.view(at))
    }

    /// The record with this number, which may count from the end.
    fn at(&self, number: isize) -> PyResult<usize> {
        let length = (self.end - self.start) as isize;
        let at = if number < 0 { number + length } else { number };
        if (0..length).contains(&at) {
            return Ok(self.start + at as usize);
        }
        Err(PyIndexError::new_err(format!("record {number} of a batch of {length}")))
    }
}

#[pymethods]
impl Batch {
    /// An empty batch.
    #[new]
    fn none(py: Python<'_>) -> Self {
        Batch::empty(py)
    }

    fn __len__(&self) -> usize {
        self.end - self.start
    }

    fn __getitem__<'py>(&self, number: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let py = number.py();
        if let Ok(slice) = number.cast::<PySlice>() {
            let indices = slice.indices((self.end - self.start) as isize)?;
            if indices.step != 1 {
                return Err(PyTypeError::new_err("a batch is cut in steps of 1 only"));
            }
            let start = self.start + indices.start as usize;
            let batch = Batch::new(self.shared.clone(), start, start + indices.slicelength);
            return Ok(Bound::new(py, batch)?.into_any());
        }
        let record = ConsumerRecord {
            shared: self.shared.clone(),
            at: self.at(number.extract()?)?,
        };
        Ok(Bound::new(py, record)?.into_any())
    }

    fn __iter__(&self) -> BatchIterator {
        BatchIterator {
            shared: self.shared.clone(),
            next: AtomicUsize::new(self.start),
            end: self.end,
        }
    }

    /// All values, in order.
    fn values<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let values: Vec<_> = self.views().map(|view| python_bytes(py, view.value())).collect();
        PyList::new(py, values)
    }

    /// All keys, in order.
    fn keys<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let keys: Vec<_> = self.views().map(|view| python_bytes(py, view.key())).collect();
        PyList::new(py, keys)
    }

    /// The value of record `number` without a copy, as a memoryview that keeps the batch in memory; None if it has none.
    fn value_view<'py>(&self, py: Python<'py>, number: isize) -> PyResult<Option<Bound<'py, PyMemoryView>>> {
        let at = self.at(number)?;
        let Some(view) = self.shared.view(at) else {
            return Ok(None);
        };
        let Some(value) = view.value() else { return Ok(None) };
        let whole = self.shared.core.runs().nth(view.run()).map(|(_, bytes)| bytes);
        let bytes = match whole {
            Some(whole) if !value.is_empty() => whole.slice_ref(value),
            _ => Bytes::new(),
        };
        let owner = Bound::new(py, ValueView { bytes })?;
        PyMemoryView::from(&owner).map(Some)
    }

    /// For each partition, as (topic, partition), the offset after its last record here.
    fn next_offsets<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyDict>> {
        let dict = PyDict::new(py);
        for view in self.views() {
            let of = view.topic_partition();
            dict.set_item((&*of.topic, of.partition), view.offset() + 1)?;
        }
        Ok(dict)
    }

    /// The batch as a `pyarrow.RecordBatch`, without a Python object for each record. Needs pyarrow.
    fn to_arrow<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        PyModule::import(slf.py(), "pyarrow")?.call_method1("record_batch", (slf,))
    }

    /// Arrow's C data interface, for any library that reads it (pyarrow, polars, duckdb, ...).
    #[pyo3(signature = (requested_schema=None))]
    fn __arrow_c_array__<'py>(
        &self,
        py: Python<'py>,
        requested_schema: Option<Bound<'py, PyAny>>,
    ) -> PyResult<(Bound<'py, PyCapsule>, Bound<'py, PyCapsule>)> {
        // A producer may give its own schema when it cannot give the requested one.
        drop(requested_schema);
        arrow::export(py, self.views())
    }

    /// The schema of `__arrow_c_array__`.
    fn __arrow_c_schema__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyCapsule>> {
        arrow::export_schema(py)
    }

    fn __repr__(&self) -> String {
        format!("<Batch of {} records>", self.end - self.start)
    }
}

/// Goes through a batch.
#[pyclass(frozen, module = "ottla._native")]
pub(crate) struct BatchIterator {
    shared: Arc<Shared>,
    next: AtomicUsize,
    end: usize,
}

#[pymethods]
impl BatchIterator {
    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[inline]
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<ConsumerRecord>>> {
        // Past the end it is not counted on, so that it cannot come round.
        let step = |at: usize| (at < self.end).then_some(at + 1);
        let Ok(at) = self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step) else {
            return Ok(None);
        };
        let shared = self.shared.clone();
        leaf(py, ConsumerRecord { shared, at }).map(Some)
    }

    fn __length_hint__(&self) -> usize {
        self.end - self.next.load(Ordering::Relaxed)
    }
}

/// The owner of a memoryview's bytes.
#[pyclass(frozen, module = "ottla._native")]
pub(crate) struct ValueView {
    bytes: Bytes,
}

#[pymethods]
impl ValueView {
    // SAFETY: Python calls it with a `view` to be filled in. The bytes live as long as `slf`, which `PyBuffer_FillInfo`
    // ties to the view, and nobody writes to them.
    #[allow(unsafe_code)]
    unsafe fn __getbuffer__(slf: Bound<'_, Self>, view: *mut ffi::Py_buffer, flags: std::ffi::c_int) -> PyResult<()> {
        let bytes = &slf.get().bytes;
        let Ok(length) = ffi::Py_ssize_t::try_from(bytes.len()) else {
            return Err(PyBufferError::new_err("too long"));
        };
        let data = bytes.as_ptr().cast_mut().cast();
        // SAFETY: as above; the last argument but one says that it is read-only.
        let filled = unsafe { ffi::PyBuffer_FillInfo(view, slf.as_ptr(), data, length, 1, flags) };
        match filled {
            -1 => Err(PyErr::fetch(slf.py())),
            _ => Ok(()),
        }
    }
}

/// Topic and partition as a tuple.
pub(crate) fn pair<'py>(py: Python<'py>, of: &TopicPartition) -> PyResult<Bound<'py, PyTuple>> {
    (&*of.topic, of.partition).into_pyobject(py)
}
