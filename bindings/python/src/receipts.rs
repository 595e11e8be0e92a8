//! Receipts: what became of records, for threads that want to know.
//!
//! In: reports of runs of records. Out: for each receipt its record's fate. Receipts share blocks of a thousand and some, so
//! that one costs its owner a small object and nothing else: a report of a run is put into a block as it is, and a receipt
//! finds its own part of it when it is asked. A block goes when its records are settled and its receipts forgotten.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_bindings_core::{Error, Gathered, Kind, Reported, TopicPartition, generation};
use pyo3::prelude::*;
use pyo3::types::{PyList, PyString};
use tokio::sync::Notify;

use crate::batch::leaf;
use crate::errors::raise;
use crate::{input, operation};

/// Records of a block.
const BLOCK: u64 = 1_024;

/// A callback that is due, and the receipt it is to be called with.
pub(crate) type Due = (Py<PyAny>, Py<PyAny>);

/// What all receipts of one producer share.
pub(crate) struct Hub {
    settled: Notify,
    due: Mutex<Vec<Due>>,
    generation: u32,
}

impl Hub {
    fn check(&self, py: Python<'_>) -> PyResult<()> {
        if self.generation == generation() {
            return Ok(());
        }
        let text = "this receipt is of a record that was sent before a fork, by the parent process: only the parent can \
                    tell what became of it";
        Err(raise(py, &Error::new(Kind::Forked, text), 1))
    }

    /// Callbacks of receipts that have their fate.
    pub fn take_due(&self) -> Vec<Due> {
        std::mem::take(&mut *lock(&self.due))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What these locks guard is whole after every step.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

struct Block {
    first: u64,
    hub: Arc<Hub>,
    fates: Mutex<Fates>,
}

#[derive(Default)]
struct Fates {
    /// In no order while `sorted` is false.
    runs: Vec<Fate>,
    sorted: bool,
    callbacks: Vec<(u64, Due)>,
}

struct Fate {
    first: u64,
    count: u64,
    partition: Arc<TopicPartition>,
    result: Result<Reported, Error>,
}

impl Fates {
    fn of(&mut self, tag: u64) -> Option<&Fate> {
        if !self.sorted {
            self.runs.sort_unstable_by_key(|run| run.first);
            self.sorted = true;
        }
        let after = self.runs.partition_point(|run| run.first <= tag);
        let run = self.runs.get(after.checked_sub(1)?)?;
        (tag < run.first + run.count).then_some(run)
    }
}

impl Block {
    fn fate(&self, tag: u64) -> Option<Result<RecordMetadata, Error>> {
        lock(&self.fates).of(tag).map(|run| match &run.result {
            Ok(reported) => Ok(RecordMetadata::new(&run.partition, reported, tag - run.first)),
            Err(error) => Err(error.clone()),
        })
    }

    fn is_done(&self, tag: u64) -> bool {
        lock(&self.fates).of(tag).is_some()
    }

    /// Adds what happened to some of its records; callbacks that are due go to the hub.
    fn add(&self, fate: Fate) -> bool {
        let mut fates = lock(&self.fates);
        let range = fate.first..fate.first + fate.count;
        fates.sorted = fates
            .runs
            .last()
            .is_none_or(|last| fates.sorted && last.first < fate.first);
        fates.runs.push(fate);
        if fates.callbacks.is_empty() {
            return false;
        }
        let (due, rest) = std::mem::take(&mut fates.callbacks)
            .into_iter()
            .partition(|(tag, _)| range.contains(tag));
        fates.callbacks = rest;
        let due: Vec<(u64, Due)> = due;
        let any = !due.is_empty();
        lock(&self.hub.due).extend(due.into_iter().map(|(_, due)| due));
        any
    }
}

/// The receipts of one producer.
pub(crate) struct Receipts {
    pub hub: Arc<Hub>,
    books: Mutex<Books>,
}

#[derive(Default)]
struct Books {
    next: u64,
    /// The number of the first block of `blocks`.
    base: u64,
    /// Blocks with the number of their records whose fate is open.
    blocks: VecDeque<(Arc<Block>, u64)>,
}

impl Receipts {
    pub fn new() -> Self {
        let hub = Hub {
            settled: Notify::new(),
            due: Mutex::default(),
            generation: generation(),
        };
        Receipts {
            hub: Arc::new(hub),
            books: Mutex::default(),
        }
    }

    /// A receipt for the next record, and its tag.
    #[inline]
    pub fn open(&self) -> (u64, Receipt) {
        let mut books = lock(&self.books);
        let (tag, block) = books.open(&self.hub);
        (tag, Receipt { block, tag })
    }

    /// One for the next `count` records; the first tag.
    pub fn open_many(&self, count: u64) -> ManyReceipt {
        let mut books = lock(&self.books);
        let first = books.next;
        let mut blocks: Vec<Arc<Block>> = Vec::new();
        for _ in 0..count {
            let (_, block) = books.open(&self.hub);
            if blocks.last().is_none_or(|last| last.first != block.first) {
                blocks.push(block);
            }
        }
        ManyReceipt {
            blocks,
            first,
            count,
            hub: self.hub.clone(),
        }
    }

    /// These records were not accepted: nothing will be reported of them.
    pub fn void(&self, first: u64, count: u64) {
        lock(&self.books).each(first, count, |_, _, _| {});
    }

    /// Takes reports and tells whoever waits. True if callbacks are due. `take` is called under the lock, so that after a
    /// call everything that was there before it is settled, whoever took it.
    pub fn settle(&self, take: impl FnOnce() -> Gathered) -> bool {
        let mut due = false;
        let mut books = lock(&self.books);
        let reports = take();
        if reports.is_empty() {
            return false;
        }
        for report in reports {
            let result = report.result.map_err(Error::from);
            let begin = report.first;
            books.each(report.first, u64::from(report.count), |block, first, count| {
                let part = result.clone().map(|reported| Reported {
                    base_offset: reported.base_offset.map(|offset| offset + (first - begin) as i64),
                    ..reported
                });
                due |= block.add(Fate {
                    first,
                    count,
                    partition: report.partition.clone(),
                    result: part,
                });
            });
        }
        drop(books);
        self.hub.settled.notify_waiters();
        due
    }
}

impl Books {
    fn open(&mut self, hub: &Arc<Hub>) -> (u64, Arc<Block>) {
        let tag = self.next;
        self.next += 1;
        if tag.is_multiple_of(BLOCK) || self.blocks.is_empty() {
            let block = Block {
                first: tag / BLOCK * BLOCK,
                hub: hub.clone(),
                fates: Mutex::default(),
            };
            if self.blocks.is_empty() {
                self.base = tag / BLOCK;
            }
            self.blocks.push_back((Arc::new(block), BLOCK));
        }
        // Just looked at, or pushed.
        let at = (tag / BLOCK - self.base) as usize;
        (tag, self.blocks[at].0.clone())
    }

    /// Calls `with` for the part of these records in each block, and forgets blocks that are done.
    fn each(&mut self, mut first: u64, mut count: u64, mut with: impl FnMut(&Block, u64, u64)) {
        while count > 0 {
            let here = (BLOCK - first % BLOCK).min(count);
            let at = (first / BLOCK).checked_sub(self.base);
            if let Some((block, open)) = at.and_then(|at| self.blocks.get_mut(at as usize)) {
                with(block, first, here);
                *open = open.saturating_sub(here);
            }
            first += here;
            count -= here;
        }
        while self.blocks.front().is_some_and(|(_, open)| *open == 0) {
            self.blocks.pop_front();
            self.base += 1;
        }
    }
}

/// What became of one record: a future for threads, in the manner of `concurrent.futures`.
#[pyclass(frozen, module = "ottla", weakref)]
pub(crate) struct Receipt {
    block: Arc<Block>,
    tag: u64,
}

impl Receipt {
    fn fate(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Result<RecordMetadata, Error>> {
        if let Some(fate) = self.block.fate(self.tag) {
            return Ok(fate);
        }
        let hub = &self.block.hub;
        hub.check(py)?;
        until(py, hub, timeout, || self.block.fate(self.tag))
    }
}

/// Waits for what `look` finds.
fn until<T: Send>(
    py: Python<'_>,
    hub: &Hub,
    timeout: Option<f64>,
    look: impl Fn() -> Option<T> + Send + Sync,
) -> PyResult<T> {
    let limit = timeout.map(input::seconds).transpose()?;
    let found = async {
        loop {
            let mut settled = std::pin::pin!(hub.settled.notified());
            // Registered before looking, so that nothing that happens between is missed.
            settled.as_mut().enable();
            if let Some(found) = look() {
                return found;
            }
            settled.await;
        }
    };
    operation::block(py, async move {
        match limit {
            None => Ok(found.await),
            Some(limit) => tokio::time::timeout(limit, found)
                .await
                .map_err(|_| operation::late(limit)),
        }
    })
}

#[pymethods]
impl Receipt {
    /// Where the record was written; waits for it, at most `timeout` seconds.
    #[pyo3(signature = (timeout=None))]
    fn result(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Py<RecordMetadata>> {
        let written = self.fate(py, timeout)?.map_err(|error| raise(py, &error, 1))?;
        leaf(py, written)
    }

    /// Why the record failed, or None if it was written; waits as `result` does.
    #[pyo3(signature = (timeout=None))]
    fn exception(&self, py: Python<'_>, timeout: Option<f64>) -> PyResult<Option<Py<PyAny>>> {
        Ok(match self.fate(py, timeout)? {
            Ok(_) => None,
            Err(error) => Some(raise(py, &error, 1).into_value(py).into_any()),
        })
    }

    /// Whether the record's fate is known.
    fn done(&self) -> bool {
        self.block.is_done(self.tag)
    }

    /// Always false: nothing takes a record back.
    fn cancelled(&self) -> bool {
        false
    }

    /// Calls `function(receipt)` as soon as the record's fate is known: at once if it is, otherwise later, in a thread of
    /// the library.
    fn add_done_callback(slf: &Bound<'_, Self>, function: Py<PyAny>) -> PyResult<()> {
        let this = slf.get();
        this.block.hub.check(slf.py())?;
        {
            let mut fates = lock(&this.block.fates);
            if fates.of(this.tag).is_none() {
                let due = (function, slf.clone().into_any().unbind());
                fates.callbacks.push((this.tag, due));
                return Ok(());
            }
        }
        function.call1(slf.py(), (slf,)).map(drop)
    }

    fn __repr__(&self) -> &'static str {
        match self.block.fate(self.tag) {
            None => "<Receipt pending>",
            Some(Ok(_)) => "<Receipt delivered>",
            Some(Err(_)) => "<Receipt failed>",
        }
    }
}

/// What became of records that were sent together.
#[pyclass(frozen, module = "ottla", weakref)]
pub(crate) struct ManyReceipt {
    blocks: Vec<Arc<Block>>,
    first: u64,
    count: u64,
    hub: Arc<Hub>,
}

impl ManyReceipt {
    pub fn first(&self) -> u64 {
        self.first
    }

    fn block(&self, tag: u64) -> &Block {
        let first = self.first / BLOCK;
        // Made with all the blocks of its records.
        &self.blocks[(tag / BLOCK - first) as usize]
    }

    fn tags(&self) -> std::ops::Range<u64> {
        self.first..self.first + self.count
    }

    fn is_done(&self) -> bool {
        self.tags().rev().all(|tag| self.block(tag).is_done(tag))
    }
}

#[pymethods]
impl ManyReceipt {
    /// Where the records were written, in order; waits for all of them, at most `timeout` seconds. If some failed, raises
    /// the error of the first of them.
    #[pyo3(signature = (timeout=None))]
    fn result<'py>(&self, py: Python<'py>, timeout: Option<f64>) -> PyResult<Bound<'py, PyList>> {
        if !self.is_done() {
            self.hub.check(py)?;
            until(py, &self.hub, timeout, || self.is_done().then_some(()))?;
        }
        let list = PyList::empty(py);
        let mut failed: Option<(Error, u64)> = None;
        for tag in self.tags() {
            match (self.block(tag).fate(tag), &mut failed) {
                (Some(Ok(written)), None) => list.append(leaf(py, written)?)?,
                (Some(Err(error)), None) => failed = Some((error, 1)),
                (Some(Err(_)), Some((_, count))) => *count += 1,
                _ => {}
            }
        }
        match failed {
            None => Ok(list),
            Some((error, count)) => Err(raise(py, &error, count)),
        }
    }

    /// Whether the fate of all of them is known.
    fn done(&self) -> bool {
        self.is_done()
    }

    fn __len__(&self) -> usize {
        self.count as usize
    }
}

/// Where a record was written.
#[pyclass(frozen, module = "ottla", eq)]
#[derive(PartialEq)]
pub(crate) struct RecordMetadata {
    partition: Arc<TopicPartition>,
    offset: Option<i64>,
    timestamp: i64,
}

impl RecordMetadata {
    /// That of a record of a run.
    pub fn new(partition: &Arc<TopicPartition>, reported: &Reported, number: u64) -> Self {
        RecordMetadata {
            partition: partition.clone(),
            offset: reported.base_offset.map(|offset| offset + number as i64),
            timestamp: reported.timestamp,
        }
    }
}

#[pymethods]
impl RecordMetadata {
    /// The topic.
    #[getter]
    fn topic<'py>(&self, py: Python<'py>) -> Bound<'py, PyString> {
        PyString::new(py, &self.partition.topic)
    }

    /// The partition.
    #[getter]
    fn partition(&self) -> i32 {
        self.partition.partition
    }

    /// The offset; None if the broker does not tell (acks=0).
    #[getter]
    fn offset(&self) -> Option<i64> {
        self.offset
    }

    /// The timestamp in milliseconds since 1970.
    #[getter]
    fn timestamp(&self) -> i64 {
        self.timestamp
    }

    fn __repr__(&self) -> String {
        let offset = self.offset.map_or("None".to_owned(), |offset| offset.to_string());
        format!(
            "RecordMetadata(topic='{}', partition={}, offset={offset}, timestamp={})",
            self.partition.topic, self.partition.partition, self.timestamp
        )
    }
}
