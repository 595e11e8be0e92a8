//! One client on one event loop.
//!
//! In: calls, records and arrivals that somebody on the loop awaits. Out: futures of the loop, resolved by one callback after
//! one wake-up for all that has gathered. The runtime's threads only ring the bell, a file descriptor that the loop
//! watches; nothing but the loop's own thread touches a Python object. What one wake-up resolves is bounded, so that the
//! loop has its turn in between.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use ottla_bindings_core::{Error, Kind, Mailbox, Report, generation, guard, spawn};
use pyo3::exceptions::PyRuntimeError;
use pyo3::intern;
use pyo3::prelude::*;
use pyo3::sync::PyOnceLock;
use pyo3::types::{PyDict, PyList, PyTuple};

use crate::async_producer::{self, Pending};
use crate::batch::leaf;
use crate::errors::{exception, raise};
use crate::operation::{Answer, Operation};
use crate::receipts::RecordMetadata;

/// Futures that one wake-up resolves at most: less than a millisecond.
const MOST: usize = 1_024;

/// What connects a client to its event loop.
#[pyclass(frozen, module = "ottla._native")]
pub(crate) struct Bridge {
    pub bell: ottla_bindings_core::Bell,
    generation: u32,
    event_loop: OnceLock<EventLoop>,
    mail: Mailbox<(u64, Result<Answer, Error>)>,
    calls: Mutex<Calls>,
    arrivals: Mutex<Vec<Py<PyAny>>>,
    pub sends: Mutex<Sends>,
    pub producer: OnceLock<Arc<ottla_bindings_core::Producer>>,
    /// There is room again.
    pub roomy: Arc<AtomicBool>,
    pub on_error: OnceLock<Py<PyAny>>,
    ended: AtomicBool,
}

struct EventLoop {
    itself: Py<PyAny>,
    futures: Futures,
}

/// How the loop's futures are made and resolved.
enum Futures {
    /// They are `asyncio.Future`s: made without a frame of Python's, and without arguments being put together for each.
    Plain {
        class: Py<PyAny>,
        arguments: Py<PyTuple>,
        keywords: Py<PyDict>,
        set_result: Py<PyAny>,
    },
    /// The loop has its own.
    Own { create_future: Py<PyAny> },
}

impl EventLoop {
    fn new(itself: &Bound<'_, PyAny>) -> PyResult<Self> {
        let py = itself.py();
        let create_future = itself.getattr("create_future")?;
        let class = PyModule::import(py, "asyncio")?.getattr("Future")?;
        let futures = if create_future.call0()?.get_type().is(&class) {
            let keywords = PyDict::new(py);
            keywords.set_item("loop", itself)?;
            Futures::Plain {
                set_result: class.getattr("set_result")?.unbind(),
                class: class.unbind(),
                arguments: PyTuple::empty(py).unbind(),
                keywords: keywords.unbind(),
            }
        } else {
            Futures::Own {
                create_future: create_future.unbind(),
            }
        };
        Ok(EventLoop {
            itself: itself.clone().unbind(),
            futures,
        })
    }

    #[inline]
    fn create_future(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match &self.futures {
            Futures::Plain {
                class,
                arguments,
                keywords,
                ..
            } => class.call(py, arguments.bind(py), Some(keywords.bind(py))),
            Futures::Own { create_future } => create_future.call0(py),
        }
    }

    /// Resolves many futures with their results: one loop within the interpreter, not one call for each.
    fn resolve(&self, py: Python<'_>, futures: Bound<'_, PyList>, results: Bound<'_, PyList>) -> PyResult<()> {
        static TOOLS: PyOnceLock<(Py<PyAny>, Py<PyAny>)> = PyOnceLock::new();
        let Futures::Plain { set_result, .. } = &self.futures else {
            for (future, result) in futures.iter().zip(results.iter()) {
                self::set_result(py, &future.unbind(), result);
            }
            return Ok(());
        };
        let (map, deque) = TOOLS.get_or_try_init(py, || {
            let map = PyModule::import(py, "builtins")?.getattr("map")?;
            let deque = PyModule::import(py, "collections")?.getattr("deque")?;
            PyResult::Ok((map.unbind(), deque.unbind()))
        })?;
        let (length, mut rounds) = (futures.len(), 0);
        let (futures, results) = (futures.try_iter()?, results.try_iter()?);
        // It stops at a future that somebody cancelled, and goes on behind it.
        while rounds <= length {
            let each = map.bind(py).call1((set_result, &futures, &results))?;
            if deque.bind(py).call1((each, 0)).is_ok() {
                break;
            }
            rounds += 1;
        }
        Ok(())
    }
}

#[derive(Default)]
struct Calls {
    next: u64,
    waiting: HashMap<u64, Py<PyAny>>,
    /// Answers that came while reports from before them were still to be told.
    held: Vec<(u64, Result<Answer, Error>)>,
}

/// The records of a producer whose fate somebody awaits.
#[derive(Default)]
pub(crate) struct Sends {
    /// The tag of the first slot.
    base: u64,
    slots: VecDeque<Slot>,
    lots: HashMap<u64, Lot>,
    backlog: VecDeque<Report>,
    /// Records that the producer has no room for.
    pub overflow: VecDeque<Pending>,
    pub waits_for_room: bool,
    pub pumped: Vec<Py<PyAny>>,
}

enum Slot {
    Free,
    One(Py<PyAny>),
    /// Part of the lot with this first tag.
    Lot(u64),
}

/// Records that were sent together, with one future.
struct Lot {
    future: Py<PyAny>,
    count: u64,
    open: u64,
    runs: Vec<Report>,
}

/// A future that has its result.
enum Told {
    One(Py<PyAny>, Result<RecordMetadata, Error>),
    Lot(Lot),
}

impl Sends {
    fn next_tag(&self) -> u64 {
        self.base + self.slots.len() as u64
    }

    /// The tag of the next record, whose fate this future is to tell. Reserved before the record is sent, because what it
    /// takes to send it may run code of the application.
    #[inline]
    pub fn reserve(&mut self, future: Py<PyAny>) -> u64 {
        let tag = self.next_tag();
        self.slots.push_back(Slot::One(future));
        tag
    }

    /// The record of this tag was not accepted.
    pub fn cancel(&mut self, tag: u64) {
        if let Some(slot) = tag
            .checked_sub(self.base)
            .and_then(|at| self.slots.get_mut(at as usize))
        {
            *slot = Slot::Free;
        }
    }

    /// The first tag of the next `count` records, which share a future.
    pub fn reserve_lot(&mut self, future: Py<PyAny>, count: u64) -> u64 {
        let first = self.next_tag();
        self.slots.extend((0..count).map(|_| Slot::Lot(first)));
        let lot = Lot {
            future,
            count,
            open: count,
            runs: Vec::new(),
        };
        self.lots.insert(first, lot);
        first
    }

    /// Only the first `sent` records of a lot were accepted; or nobody awaits them.
    pub fn shrink_lot(&mut self, first: u64, sent: u64, forget: bool) {
        let Some(lot) = self.lots.get_mut(&first) else { return };
        let tags = first + sent..first + lot.count;
        lot.open -= lot.count - sent;
        lot.count = sent;
        if sent == 0 || forget {
            self.lots.remove(&first);
        }
        tags.for_each(|tag| self.cancel(tag));
    }

    fn tell(&mut self, told: &mut Vec<Told>) {
        while told.len() < MOST
            && let Some(mut report) = self.backlog.pop_front()
        {
            self.tell_run(&mut report, told);
            if report.count > 0 {
                self.backlog.push_front(report);
            }
        }
        let free = self.slots.iter().take_while(|slot| matches!(slot, Slot::Free)).count();
        self.slots.drain(..free);
        self.base += free as u64;
    }

    /// Tells the records of a run, as many as may be told now, and takes them off it.
    fn tell_run(&mut self, report: &mut Report, told: &mut Vec<Told>) {
        let result = report.result.clone().map_err(Error::from);
        let mut number = 0;
        while number < report.count && told.len() < MOST {
            let tag = report.first + u64::from(number);
            let slot = tag
                .checked_sub(self.base)
                .and_then(|at| self.slots.get_mut(at as usize));
            match slot.map(|slot| std::mem::replace(slot, Slot::Free)) {
                Some(Slot::One(future)) => {
                    let result = match &result {
                        Ok(reported) => Ok(RecordMetadata::new(&report.partition, reported, u64::from(number))),
                        Err(error) => Err(error.clone()),
                    };
                    told.push(Told::One(future, result));
                    number += 1;
                }
                Some(Slot::Lot(first)) => number += self.tell_lot(first, tag, number, report, told),
                // Of a record that was refused.
                Some(Slot::Free) | None => number += 1,
            }
        }
        report.first += u64::from(number);
        report.count -= number;
        if let Ok(reported) = &mut report.result {
            reported.base_offset = reported.base_offset.map(|offset| offset + i64::from(number));
        }
    }

    /// Gives a lot all of the rest of a run that is its own; how many records that is.
    fn tell_lot(&mut self, first: u64, tag: u64, number: u32, report: &Report, told: &mut Vec<Told>) -> u32 {
        let Some(lot) = self.lots.get_mut(&first) else { return 1 };
        let left = first + lot.count - tag;
        let here = u64::from(report.count - number).min(left);
        let mut part = report.clone();
        part.first = tag;
        part.count = here as u32;
        if let Ok(reported) = &mut part.result {
            reported.base_offset = reported.base_offset.map(|offset| offset + i64::from(number));
        }
        lot.runs.push(part);
        lot.open = lot.open.saturating_sub(here);
        let from = (tag - self.base) as usize;
        for slot in self.slots.range_mut(from..from + here as usize) {
            *slot = Slot::Free;
        }
        if lot.open == 0 {
            told.extend(self.lots.remove(&first).map(Told::Lot));
        }
        here as u32
    }
}

impl Lot {
    fn resolve(mut self, py: Python<'_>) -> PyResult<()> {
        self.runs.sort_unstable_by_key(|run| run.first);
        let list = PyList::empty(py);
        let mut failed: Option<(Error, u64)> = None;
        for run in &self.runs {
            match &run.result {
                Ok(reported) => {
                    for number in 0..u64::from(run.count) {
                        list.append(leaf(py, RecordMetadata::new(&run.partition, reported, number))?)?;
                    }
                }
                Err(error) => {
                    let known = failed.get_or_insert_with(|| (error.clone().into(), 0));
                    known.1 += u64::from(run.count);
                }
            }
        }
        match failed {
            None => set_result(py, &self.future, list.into_any()),
            Some((error, count)) => set_exception(py, &self.future, &exception(py, &error, count)?),
        }
        Ok(())
    }
}

/// Resolves a future, unless it was cancelled.
fn set_result(py: Python<'_>, future: &Py<PyAny>, result: Bound<'_, PyAny>) {
    // It only fails for a future that is done, because somebody cancelled it.
    let _ = future.bind(py).call_method1(intern!(py, "set_result"), (result,));
}

fn set_exception(py: Python<'_>, future: &Py<PyAny>, exception: &Bound<'_, PyAny>) {
    let _ = future.bind(py).call_method1(intern!(py, "set_exception"), (exception,));
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is whole after every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Bridge {
    /// Refuses calls from anywhere but the client's own event loop.
    #[inline]
    pub fn check(&self, py: Python<'_>) -> PyResult<()> {
        static RUNNING: PyOnceLock<Py<PyAny>> = PyOnceLock::new();
        let running = RUNNING.get_or_try_init(py, || {
            PyResult::Ok(PyModule::import(py, "asyncio")?.getattr("_get_running_loop")?.unbind())
        })?;
        let running = running.bind(py).call0()?;
        match self.event_loop.get() {
            Some(known) if running.is(&known.itself) && self.generation == generation() => Ok(()),
            known => Err(self.wrong_loop(py, known, &running)),
        }
    }

    #[cold]
    fn wrong_loop(&self, py: Python<'_>, known: Option<&EventLoop>, running: &Bound<'_, PyAny>) -> PyErr {
        if self.generation != generation() {
            let text = "this client was made before a fork, in the parent process: make a new one in the child";
            return raise(py, &Error::new(Kind::Forked, text), 1);
        }
        let text = match known {
            _ if running.is_none() => {
                "no event loop is running here: call it from a coroutine, or use the clients of \
                                       `ottla`, which need none"
            }
            None => "the client has not been started",
            Some(_) => "this client belongs to another event loop: make one client for each loop",
        };
        raise(py, &Error::new(Kind::Runtime, text), 1)
    }

    pub fn is_bound(&self) -> bool {
        self.event_loop.get().is_some()
    }

    /// A future of the loop. Check first.
    #[inline]
    pub fn create_future(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        match self.event_loop.get() {
            Some(known) => known.create_future(py),
            None => Err(PyRuntimeError::new_err("no event loop")),
        }
    }

    fn deliver(&self, py: Python<'_>, mail: Vec<(u64, Result<Answer, Error>)>) -> PyResult<()> {
        for (number, answer) in mail {
            let Some(future) = lock(&self.calls).waiting.remove(&number) else {
                continue;
            };
            match answer {
                Ok(tell) => match tell(py) {
                    Ok(object) => set_result(py, &future, object.into_bound(py)),
                    Err(error) => set_exception(py, &future, error.value(py)),
                },
                Err(error) => set_exception(py, &future, &exception(py, &error, 1)?),
            }
        }
        Ok(())
    }

    fn deliver_reports(&self, py: Python<'_>, producer: &ottla_bindings_core::Producer) -> PyResult<bool> {
        let mut told = Vec::new();
        let more = {
            let mut sends = lock(&self.sends);
            sends.backlog.extend(producer.take_reports().unwrap_or_default());
            sends.tell(&mut told);
            !sends.backlog.is_empty()
        };
        let (futures, results) = (PyList::empty(py), PyList::empty(py));
        for told in told {
            match told {
                Told::One(future, Ok(written)) => {
                    futures.append(future)?;
                    results.append(leaf(py, written)?)?;
                }
                Told::One(future, Err(error)) => set_exception(py, &future, &exception(py, &error, 1)?),
                Told::Lot(lot) => lot.resolve(py)?,
            }
        }
        if let Some(known) = self.event_loop.get() {
            known.resolve(py, futures, results)?;
        }
        Ok(more)
    }

    fn deliver_failures(&self, py: Python<'_>, producer: &ottla_bindings_core::Producer) -> PyResult<()> {
        let Some(on_error) = self.on_error.get() else {
            return Ok(());
        };
        let failures = producer.take_unclaimed().ok().flatten();
        if let Some(exception) = crate::producer::failure(py, failures)?
            && let Err(error) = on_error.call1(py, (exception,))
        {
            error.write_unraisable(py, Some(on_error.bind(py)));
        }
        Ok(())
    }

    /// Nobody awaits this one any more. Whether nobody awaits any.
    pub(crate) fn forsake(&self, arrival: &Bound<'_, PyAny>) -> bool {
        let mut arrivals = lock(&self.arrivals);
        arrivals.retain(|known| !known.is(arrival));
        arrivals.is_empty()
    }
}

#[pymethods]
impl Bridge {
    #[new]
    fn new(py: Python<'_>) -> PyResult<Self> {
        let bell = crate::errors::call(py, ottla_bindings_core::Bell::new)?;
        Ok(Bridge {
            mail: Mailbox::new(bell.waker()),
            bell,
            generation: generation(),
            event_loop: OnceLock::new(),
            calls: Mutex::default(),
            arrivals: Mutex::default(),
            sends: Mutex::default(),
            producer: OnceLock::new(),
            roomy: Arc::default(),
            on_error: OnceLock::new(),
            ended: AtomicBool::new(false),
        })
    }

    /// The descriptor that is readable when `drain` is to be called.
    fn fileno(&self) -> i32 {
        self.bell.fd()
    }

    /// Makes the descriptor readable.
    fn ring(&self) {
        self.bell.ring();
    }

    /// The event loop that the client belongs to from now on.
    fn bind(&self, event_loop: &Bound<'_, PyAny>) -> PyResult<()> {
        let known = EventLoop::new(event_loop)?;
        self.event_loop
            .set(known)
            .map_err(|_| PyRuntimeError::new_err("the client has an event loop already"))
    }

    /// The client is closed: nobody has to watch the descriptor any more.
    fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    /// Whether the client is closed.
    #[getter]
    fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Raises the error of a call from anywhere but the client's own loop.
    #[pyo3(name = "check")]
    fn check_loop(&self, py: Python<'_>) -> PyResult<()> {
        self.check(py)
    }

    /// Makes a call; its answer is the future's result.
    pub(crate) fn future(&self, py: Python<'_>, operation: &Bound<'_, Operation>) -> PyResult<Py<PyAny>> {
        self.check(py)?;
        let work = operation.get().take()?;
        let future = self.create_future(py)?;
        let number = {
            let mut calls = lock(&self.calls);
            calls.next += 1;
            let number = calls.next;
            calls.waiting.insert(number, future.clone_ref(py));
            number
        };
        let mail = self.mail.clone();
        let call = async move { mail.put((number, work.await)) };
        guard(|| spawn(call)).map_err(|error| raise(py, &error, 1))?;
        Ok(future)
    }

    /// A future that is resolved when a consumer may have something, or is closed.
    pub(crate) fn arrival(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let future = self.create_future(py)?;
        lock(&self.arrivals).push(future.clone_ref(py));
        Ok(future)
    }

    /// Resolves what has gathered. The loop calls it when the descriptor is readable.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        if self.generation != generation() {
            return Ok(());
        }
        self.bell.silence();
        // Before the reports: those that were there before an answer are told before it.
        let mut mail = std::mem::take(&mut lock(&self.calls).held);
        mail.extend(self.mail.take());
        if let Some(producer) = self.producer.get() {
            if self.roomy.swap(false, Ordering::AcqRel) {
                async_producer::pump(self, py, producer)?;
            }
            if self.deliver_reports(py, producer)? {
                lock(&self.calls).held = mail;
                self.bell.ring();
                return Ok(());
            }
            self.deliver_failures(py, producer)?;
        }
        let arrived = std::mem::take(&mut *lock(&self.arrivals));
        for future in &arrived {
            set_result(py, future, py.None().into_bound(py));
        }
        self.deliver(py, mail)
    }
}
