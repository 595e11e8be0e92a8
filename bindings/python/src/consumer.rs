//! Receiving, from threads and from an event loop.
//!
//! In: batches of the core. Out: records one by one, or batches. A batch that is handed out record by record waits here; the
//! consumer's positions are those of the records handed out, so whoever seeks or pauses gets what waited once more.

use std::sync::{Arc, Mutex, OnceLock};
use std::task::Waker;

use ottla::ListedOffset;
use ottla_bindings_core::{Event, Polled, RecordView, TopicPartition, guard};
use pyo3::exceptions::{PyRuntimeError, PyStopAsyncIteration, PyStopIteration};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};

use crate::batch::{Batch, ConsumerRecord, Shared, leaf, pair};
use crate::bridge::{Bridge, lock};
use crate::errors::{call, raise};
use crate::group;
use crate::input;
use crate::operation::{Operation, block};

/// A consumer; the package's consumers are subclasses.
#[pyclass(frozen, subclass, weakref, module = "ottla._native")]
pub(crate) struct Consumer {
    inner: OnceLock<Inner>,
}

pub(crate) struct Inner {
    pub core: ottla_bindings_core::Consumer,
    /// Whether it has a `group.id`.
    pub in_group: bool,
    bridge: Option<Py<Bridge>>,
    waiting: Mutex<Waiting>,
}

/// Records that were taken out of the core and not handed out yet.
#[derive(Default)]
struct Waiting {
    batch: Option<Arc<Shared>>,
    next: usize,
}

impl Waiting {
    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord> {
        let batch = self.batch.as_ref()?;
        if self.next >= batch.core.len() {
            self.batch = None;
            return None;
        }
        let record = ConsumerRecord {
            shared: batch.clone(),
            at: self.next,
        };
        self.next += 1;
        Some(record)
    }

    fn fill(&mut self, batch: Arc<Shared>) {
        self.batch = Some(batch);
        self.next = 0;
    }

    fn views(&self) -> impl Iterator<Item = RecordView<'_>> {
        let batch = self.batch.as_ref();
        batch
            .into_iter()
            .flat_map(|batch| (self.next..batch.core.len()).filter_map(|at| batch.core.get(at)))
    }

    /// How many records of a partition there are, and the offset of the first.
    fn of(&self, partition: &TopicPartition) -> Option<i64> {
        self.views()
            .find(|view| view.topic_partition() == partition)
            .map(|view| view.offset())
    }

    /// Forgets all records; the partitions that had some, with the offset of the first.
    fn give_back(&mut self) -> Vec<(TopicPartition, i64)> {
        let mut firsts: Vec<(TopicPartition, i64)> = Vec::new();
        for view in self.views() {
            if !firsts.iter().any(|(known, _)| known == view.topic_partition()) {
                firsts.push((view.topic_partition().clone(), view.offset()));
            }
        }
        self.batch = None;
        firsts
    }

    /// How many records of the batch were handed out, and how many of those are processed: all but the last one.
    fn counts(&self) -> Option<(usize, usize)> {
        self.batch.as_ref()?;
        Some((self.next, self.next.saturating_sub(1)))
    }

    fn rest(&mut self, most: Option<usize>) -> Option<Batch> {
        let batch = self.batch.take()?;
        let (start, end) = (self.next, batch.core.len());
        if start >= end {
            return None;
        }
        let stop = most.map_or(end, |most| end.min(start.saturating_add(most)));
        if stop < end {
            self.batch = Some(batch.clone());
            self.next = stop;
        }
        Some(Batch::new(batch, start, stop))
    }
}

enum Found {
    Records(Arc<Shared>),
    Event(Event),
    Nothing,
    Closed,
}

impl Consumer {
    #[inline]
    pub(crate) fn inner(&self) -> PyResult<&Inner> {
        self.inner
            .get()
            .ok_or_else(|| PyRuntimeError::new_err("this consumer was not initialised: call super().__init__()"))
    }
}

impl Inner {
    /// What the core has. Unpacking a batch takes a while, so other threads may run meanwhile.
    fn poll(&self, py: Python<'_>, most: Option<usize>) -> PyResult<Found> {
        let polled = py.detach(|| guard(|| self.core.try_poll(most)));
        Ok(match polled.map_err(|error| raise(py, &error, 1))? {
            Polled::Records(batch) => Found::Records(Shared::new(py, batch)),
            Polled::Event(event) => Found::Event(event),
            Polled::Nothing => Found::Nothing,
            Polled::Closed => Found::Closed,
        })
    }

    /// The next record of those that wait. The lock is given back before an object is made of it: the interpreter may run any
    /// code then.
    #[inline]
    fn next_waiting(&self) -> Option<ConsumerRecord> {
        let record = lock(&self.waiting).next();
        if self.in_group
            && let Some(record) = &record
        {
            // Who asks for this one is done with those before it.
            self.core.processed(record.at);
        }
        record
    }

    /// Gives back what waits, so that the core's positions are those of the application.
    fn give_back(&self) -> Result<(), ottla_bindings_core::Error> {
        let (counts, firsts) = {
            let mut waiting = lock(&self.waiting);
            (waiting.counts(), waiting.give_back())
        };
        match counts {
            Some((out, done)) => self.core.give_back(done, out, &firsts),
            None => Ok(()),
        }
    }

    /// How many records of the last batch were handed out, and how many of those are processed, if not all were.
    pub(crate) fn counts(&self) -> Option<(usize, usize)> {
        lock(&self.waiting).counts()
    }

    /// Hands out nothing more.
    pub(crate) fn drop_waiting(&self) {
        lock(&self.waiting).batch = None;
    }

    fn operation(
        &self,
        py: Python<'_>,
        change: impl FnOnce(&Self) -> Result<(), ottla_bindings_core::Error>,
    ) -> PyResult<()> {
        call(py, || {
            self.give_back()?;
            change(self)
        })
    }
}

#[pymethods]
impl Consumer {
    #[new]
    #[pyo3(signature = (*_args, **_kwargs))]
    fn new(_args: &Bound<'_, PyAny>, _kwargs: Option<&Bound<'_, PyAny>>) -> Self {
        Consumer { inner: OnceLock::new() }
    }

    /// Checks the configuration and begins to connect.
    #[pyo3(signature = (pairs, assign, bridge=None))]
    fn _start(
        &self,
        py: Python<'_>,
        pairs: Vec<(String, String)>,
        assign: &Bound<'_, PyAny>,
        bridge: Option<Py<Bridge>>,
    ) -> PyResult<()> {
        let waker = match &bridge {
            Some(bridge) => bridge.get().bell.waker(),
            None => Waker::noop().clone(),
        };
        let assign = input::partitions(assign)?;
        let core = call(py, || ottla_bindings_core::Consumer::start(pairs, assign, waker))?;
        let inner = Inner {
            in_group: core.has_group(),
            core,
            bridge,
            waiting: Mutex::default(),
        };
        self.inner
            .set(inner)
            .map_err(|_| PyRuntimeError::new_err("this consumer was initialised already"))
    }

    /// The next record; waits for it. Raises StopIteration once the consumer is closed.
    #[inline]
    fn _next(slf: &Bound<'_, Self>) -> PyResult<Py<ConsumerRecord>> {
        let inner = slf.get().inner()?;
        if let Some(record) = inner.next_waiting()
            && !inner.core.is_closed()
        {
            return leaf(slf.py(), record);
        }
        leaf(slf.py(), next_slowly(slf, inner)?)
    }

    /// An awaitable of the next record. Raises StopAsyncIteration once the consumer is closed.
    #[inline]
    fn _anext(slf: &Bound<'_, Self>) -> PyResult<Py<PyAny>> {
        let (py, inner) = (slf.py(), slf.get().inner()?);
        if let Some(record) = inner.next_waiting()
            && !inner.core.is_closed()
        {
            return Ok(leaf(py, Ready { record })?.into_any());
        }
        slf.call_method0("_anext_slowly").map(Bound::unbind)
    }

    /// The next record if one is here, or an event to be told first. Raises StopAsyncIteration once the consumer is closed.
    fn _next_nowait<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let inner = self.inner()?;
        if let Some(record) = inner.next_waiting()
            && !inner.core.is_closed()
        {
            return Ok(Some(Bound::new(py, record)?.into_any()));
        }
        match inner.poll(py, None)? {
            Found::Records(batch) => {
                let record = {
                    let mut waiting = lock(&inner.waiting);
                    waiting.fill(batch);
                    waiting.next()
                };
                record.map(|record| Ok(Bound::new(py, record)?.into_any())).transpose()
            }
            Found::Event(event) => group::event(py, &event).map(Some),
            Found::Nothing => Ok(None),
            Found::Closed => Err(PyStopAsyncIteration::new_err(())),
        }
    }

    /// What is here, at most `most` records, or an event to be told first; None if the consumer is closed.
    #[pyo3(signature = (most=None))]
    fn _poll_nowait<'py>(&self, py: Python<'py>, most: Option<usize>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let inner = self.inner()?;
        if inner.core.is_closed() {
            call(py, || inner.core.arm())?; // a fork is an error, an end is none
            return Ok(None);
        }
        let (rest, out) = {
            let mut waiting = lock(&inner.waiting);
            let out = waiting.next;
            (waiting.rest(most), out)
        };
        if let Some(rest) = rest {
            // Who polls is done with what came before.
            inner.core.processed(out);
            return Ok(Some(Bound::new(py, rest)?.into_any()));
        }
        let batch = match inner.poll(py, most)? {
            Found::Records(batch) => {
                let end = batch.core.len();
                Batch::new(batch, 0, end)
            }
            Found::Event(event) => return group::event(py, &event).map(Some),
            Found::Nothing => Batch::empty(py),
            Found::Closed => return Ok(None),
        };
        Ok(Some(Bound::new(py, batch)?.into_any()))
    }

    /// Waits until there may be something.
    fn _arrived(&self) -> PyResult<Operation> {
        Ok(Operation::silent(self.inner()?.core.arrived()))
    }

    /// A future that is resolved when there may be something.
    fn _arrival(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let inner = self.inner()?;
        let bridge = inner
            .bridge
            .as_ref()
            .ok_or_else(|| PyRuntimeError::new_err("this consumer has no event loop"))?
            .get();
        bridge.check(py)?;
        let future = bridge.arrival(py)?;
        call(py, || inner.core.arm())?;
        Ok(future)
    }

    /// Whoever awaited this future has given up.
    fn _forsake(&self, py: Python<'_>, arrival: &Bound<'_, PyAny>) -> PyResult<()> {
        let inner = self.inner()?;
        let nobody_waits = inner
            .bridge
            .as_ref()
            .is_some_and(|bridge| bridge.get().forsake(arrival));
        if nobody_waits {
            call(py, || inner.core.disarm())?;
        }
        Ok(())
    }

    /// Waits for the connection.
    fn _connected(&self) -> PyResult<Operation> {
        Ok(Operation::silent(self.inner()?.core.connected()))
    }

    /// Reads exactly these partitions from now on.
    fn _assign(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let partitions = input::partitions(partitions)?;
        self.inner()?.operation(py, |inner| inner.core.assign(&partitions))
    }

    /// Reads all partitions of these topics.
    fn _assign_topics(&self, py: Python<'_>, topics: Vec<String>) -> PyResult<Operation> {
        let inner = self.inner()?;
        call(py, || inner.give_back())?;
        Ok(Operation::silent(inner.core.assign_topics(topics)))
    }

    /// The assigned partitions.
    fn _assignment<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let partitions = call(py, || self.inner_or_closed()?.core.assignment())?;
        list(py, &partitions)
    }

    /// The paused partitions.
    fn _paused<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyList>> {
        let partitions = call(py, || self.inner_or_closed()?.core.paused())?;
        list(py, &partitions)
    }

    /// Goes on at this offset.
    fn _seek(&self, py: Python<'_>, partition: &Bound<'_, PyAny>, offset: i64) -> PyResult<()> {
        let partition = input::partition(partition)?;
        self.inner()?.operation(py, |inner| inner.core.seek(&partition, offset))
    }

    /// Goes on at the first record that is still there.
    fn _seek_to_beginning(&self, py: Python<'_>, partition: &Bound<'_, PyAny>) -> PyResult<()> {
        let partition = input::partition(partition)?;
        self.inner()?
            .operation(py, |inner| inner.core.seek_to_beginning(&partition))
    }

    /// Goes on after the last record.
    fn _seek_to_end(&self, py: Python<'_>, partition: &Bound<'_, PyAny>) -> PyResult<()> {
        let partition = input::partition(partition)?;
        self.inner()?.operation(py, |inner| inner.core.seek_to_end(&partition))
    }

    /// Goes on at the first record of this time or later.
    fn _seek_to_timestamp(&self, py: Python<'_>, partition: &Bound<'_, PyAny>, timestamp: i64) -> PyResult<()> {
        let partition = input::partition(partition)?;
        self.inner()?
            .operation(py, |inner| inner.core.seek_to_timestamp(&partition, timestamp))
    }

    /// Hands out nothing of these partitions.
    fn _pause(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let partitions = input::partitions(partitions)?;
        self.inner()?.operation(py, |inner| inner.core.pause(&partitions))
    }

    /// Goes on with these partitions.
    fn _resume(&self, py: Python<'_>, partitions: &Bound<'_, PyAny>) -> PyResult<()> {
        let partitions = input::partitions(partitions)?;
        let inner = self.inner()?;
        call(py, || inner.core.resume(&partitions))
    }

    /// How many records are ahead of the position.
    fn _lag(&self, py: Python<'_>, partition: &Bound<'_, PyAny>) -> PyResult<Option<i64>> {
        let partition = input::partition(partition)?;
        let inner = self.inner()?;
        let lag = call(py, || inner.core.lag(&partition))?;
        let here = lock(&inner.waiting);
        let waits = here.views().filter(|view| *view.topic_partition() == partition).count();
        Ok(lag.map(|lag| lag + waits as i64))
    }

    /// The offset of the next record that is handed out.
    fn _position(&self, partition: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let partition = input::partition(partition)?;
        let inner = self.inner()?;
        let here = lock(&inner.waiting).of(&partition);
        let ahead = inner.core.position(partition);
        let position = async move {
            match here {
                Some(offset) => Ok(offset),
                None => ahead.await,
            }
        };
        Ok(Operation::new(position, |py, offset| object(offset.into_pyobject(py)?)))
    }

    /// The first offset of each partition that is still there.
    fn _beginning_offsets(&self, partitions: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let partitions = input::partitions(partitions)?;
        let offsets = self.inner()?.core.beginning_offsets(partitions);
        Ok(Operation::new(offsets, |py, offsets| {
            let dict = PyDict::new(py);
            for (partition, offset) in offsets {
                dict.set_item(pair(py, &partition)?, offset)?;
            }
            object(dict)
        }))
    }

    /// The offset after the last record of each partition.
    fn _end_offsets(&self, partitions: &Bound<'_, PyAny>) -> PyResult<Operation> {
        let partitions = input::partitions(partitions)?;
        let offsets = self.inner()?.core.end_offsets(partitions);
        Ok(Operation::new(offsets, |py, offsets| {
            let dict = PyDict::new(py);
            for (partition, offset) in offsets {
                dict.set_item(pair(py, &partition)?, offset)?;
            }
            object(dict)
        }))
    }

    /// For each partition offset, timestamp and leader epoch of the first record of the given time or later, or None.
    fn _offsets_for_times(&self, times: Vec<((String, i32), i64)>) -> PyResult<Operation> {
        let times = times
            .into_iter()
            .map(|((topic, partition), time)| (TopicPartition::new(topic, partition), time))
            .collect();
        let found = self.inner()?.core.offsets_for_times(times);
        Ok(Operation::new(found, |py, found| {
            let dict = PyDict::new(py);
            for (partition, listed) in found {
                dict.set_item(pair(py, &partition)?, listed_offset(&listed))?;
            }
            object(dict)
        }))
    }

    /// The partitions of a topic.
    fn _partitions_for(&self, topic: String) -> PyResult<Operation> {
        let partitions = self.inner()?.core.partitions_for(topic);
        Ok(Operation::new(partitions, |py, partitions| {
            object(list(py, &partitions)?)
        }))
    }

    /// Ends it. Whoever waits in it is woken.
    fn _close(&self, py: Python<'_>) -> PyResult<()> {
        let inner = self.inner()?;
        inner.drop_waiting();
        call(py, || inner.core.close())
    }

    /// Whether it was closed, or came through a fork.
    #[getter]
    fn closed(&self) -> bool {
        self.inner.get().is_none_or(|inner| inner.core.is_closed())
    }
}

impl Consumer {
    fn inner_or_closed(&self) -> Result<&Inner, ottla_bindings_core::Error> {
        self.inner
            .get()
            .ok_or_else(|| ottla_bindings_core::Error::argument("this consumer was not initialised"))
    }
}

fn listed_offset(listed: &ListedOffset) -> Option<(i64, Option<i64>, Option<i32>)> {
    listed
        .offset
        .map(|offset| (offset, listed.timestamp, listed.leader_epoch))
}

pub(crate) fn list<'py>(py: Python<'py>, partitions: &[TopicPartition]) -> PyResult<Bound<'py, PyList>> {
    let pairs = partitions.iter().map(|of| pair(py, of)).collect::<PyResult<Vec<_>>>()?;
    PyList::new(py, pairs)
}

pub(crate) fn object<T>(bound: Bound<'_, T>) -> PyResult<Py<PyAny>> {
    Ok(bound.into_any().unbind())
}

#[cold]
fn next_slowly(slf: &Bound<'_, Consumer>, inner: &Inner) -> PyResult<ConsumerRecord> {
    let py = slf.py();
    slf.call_method0("_ready")?;
    loop {
        match inner.poll(py, None)? {
            Found::Records(batch) => {
                let mut waiting = lock(&inner.waiting);
                waiting.fill(batch);
                if let Some(record) = waiting.next() {
                    return Ok(record);
                }
            }
            Found::Event(event) => {
                slf.call_method1("_handle", (group::event(py, &event)?,))?;
            }
            Found::Nothing => block(py, inner.core.arrived())?,
            Found::Closed => return Err(PyStopIteration::new_err(())),
        }
    }
}

/// An awaitable that gives its record at once.
#[pyclass(frozen, module = "ottla._native")]
pub(crate) struct Ready {
    record: ConsumerRecord,
}

#[pymethods]
impl Ready {
    fn __await__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    fn __iter__(slf: Py<Self>) -> Py<Self> {
        slf
    }

    #[inline]
    fn __next__(&self, py: Python<'_>) -> PyResult<()> {
        let record = ConsumerRecord {
            shared: self.record.shared.clone(),
            at: self.record.at,
        };
        Err(PyStopIteration::new_err((leaf(py, record)?,)))
    }
}
