//! Reports: the fates of many records, told together.
//!
//! In: records sent by [`Producer::try_send_reported`](crate::Producer::try_send_reported). Out: what became of them, a
//! [`BatchReport`] for each batch, or one [`Report`] for each run of records whose tags follow each other. For programs
//! that keep their own books, such as a binding of another language: no ticket is kept, no task waits, and whoever reads is
//! woken once for everything that has gathered.

use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ottla_client_state::batch::Written;

use super::awaited::{Stretches, TagsOf};
use crate::error::{Error, Result};
use crate::record::TopicPartition;

/// The fate of `count` records with the tags `first`, `first + 1`, and so on.
#[derive(Debug, Clone)]
pub struct Report {
    /// The tag of the first record; [`Report::UNTAGGED`] for records that were only to be told of if they failed.
    pub first: u64,
    /// How many records this is about.
    pub count: u32,
    /// Where they went.
    pub partition: Arc<TopicPartition>,
    /// Where the first of them was written (the others follow it), or why all of them failed.
    pub result: Result<Reported>,
}

/// Where reported records were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reported {
    /// The offset of the first record; `None` when the broker does not tell (acks=0).
    pub base_offset: Option<i64>,
    /// The timestamp of all of them, in milliseconds since 1970.
    pub timestamp: i64,
}

impl Report {
    /// The tag of records without one.
    pub const UNTAGGED: u64 = u64::MAX;
}

/// Where reports gather until they are taken. Shared by any number of producers; usually each has its own.
///
/// # Promises
/// - Every record that was sent with a tag is in exactly one report, at the latest after `delivery.timeout.ms`; one that was
///   sent without a tag is in exactly one if it failed, and in none if not.
/// - Reports of one partition come in the order of sending.
/// - The waker is woken when the first report arrives after a [`take`](Reports::take), and then not before the next one.
pub struct Reports {
    gathered: Mutex<Gathered>,
    /// How many there are, to be read without the lock.
    count: AtomicUsize,
    waker: Waker,
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reports({})", self.lock().most)
    }
}

impl Reports {
    /// An empty place; `waker` is woken when there is something to take, from a thread of the producer's runtime.
    pub fn new(waker: Waker) -> Arc<Reports> {
        Arc::new(Reports {
            gathered: Mutex::default(),
            count: AtomicUsize::new(0),
            waker,
        })
    }

    /// Takes what has gathered.
    pub fn take(&self) -> Gathered {
        let mut gathered = self.lock();
        self.count.store(0, Ordering::Relaxed);
        std::mem::take(&mut *gathered)
    }

    /// How many reports have gathered, at most. Costs one atomic read: for callers that want to bound what nobody takes.
    #[inline]
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// Adds a report of one's own, for records that never reached a batch.
    pub fn add(&self, report: Report) {
        let (written, timestamp) = match &report.result {
            Ok(reported) => (reported.base_offset.unwrap_or(-1), reported.timestamp),
            Err(_) => (-1, -1),
        };
        let records = Stretches::sequence(0, report.count, report.first, timestamp);
        let result = report.result.map(|_| Written {
            base_offset: written,
            log_append_time: -1,
        });
        if self.push([BatchReport::new(report.partition, 0, records, result)]) {
            self.waker.wake_by_ref();
        }
    }

    /// Adds what one batch has to tell; true if somebody is to be woken.
    pub(super) fn push(&self, reports: impl IntoIterator<Item = BatchReport>) -> bool {
        let mut gathered = self.lock();
        let was_empty = gathered.most == 0;
        for report in reports {
            let most = report.most();
            if most > 0 {
                gathered.most += most;
                gathered.batches.push(report);
            }
        }
        self.count.store(gathered.most, Ordering::Relaxed);
        was_empty && gathered.most > 0
    }

    pub(super) fn waker(&self) -> Waker {
        self.waker.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // Every change is a few steps that cannot panic.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports that were taken together: iterate to have them one by one, or [batch by batch](Gathered::into_batches).
///
/// What the reports of one batch have in common is kept once, and the iterator is where it is handed out: a batch
/// that completes costs the sending task the same however many reports it makes.
#[derive(Debug, Default)]
pub struct Gathered {
    batches: Vec<BatchReport>,
    most: usize,
}

impl Gathered {
    /// How many reports these are at most.
    pub fn most(&self) -> usize {
        self.most
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.most == 0
    }

    /// What each batch has to tell, for callers to whom even a report for each run is too much.
    pub fn into_batches(self) -> impl ExactSizeIterator<Item = BatchReport> {
        self.batches.into_iter()
    }
}

impl IntoIterator for Gathered {
    type Item = Report;
    type IntoIter = IntoReports;

    fn into_iter(self) -> IntoReports {
        IntoReports {
            batches: self.batches.into_iter(),
            current: None,
            most: self.most,
        }
    }
}

/// The iterator over [`Gathered`].
#[derive(Debug)]
pub struct IntoReports {
    batches: std::vec::IntoIter<BatchReport>,
    current: Option<Place>,
    most: usize,
}

/// A batch report, which of its stretches is next, and how many records of that were handed out.
#[derive(Debug)]
struct Place {
    report: BatchReport,
    stretch: usize,
    told: usize,
}

impl Place {
    #[inline]
    fn next(&mut self) -> Option<Report> {
        let stretch = self.report.stretch(self.stretch)?;
        let told = self.told;
        let (first, count) = match stretch.tags {
            Tags::Sequence { first, count } => (first, count),
            Tags::List(tags) => {
                let rest = tags.get(told..).unwrap_or_default();
                let first = rest.first().copied()?;
                let follow = rest
                    .windows(2)
                    .take_while(|pair| pair[0].checked_add(1) == Some(pair[1]));
                (first, 1 + follow.count() as u32)
            }
        };
        self.told += count as usize;
        if self.told >= stretch.tags.len() {
            (self.stretch, self.told) = (self.stretch + 1, 0);
        }
        let base_offset = stretch
            .base_offset
            .map(|base| base.saturating_add_unsigned(told as u64));
        let timestamp = stretch.timestamp;
        let reported = |()| Reported { base_offset, timestamp };
        Some(Report {
            first,
            count,
            partition: self.report.partition.clone(),
            result: self.report.result().map(reported).map_err(Error::clone),
        })
    }
}

impl Iterator for IntoReports {
    type Item = Report;

    #[inline]
    fn next(&mut self) -> Option<Report> {
        loop {
            if let Some(report) = self.current.as_mut().and_then(Place::next) {
                self.most = self.most.saturating_sub(1);
                return Some(report);
            }
            self.current = Some(Place {
                report: self.batches.next()?,
                stretch: 0,
                told: 0,
            });
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (0, Some(self.most))
    }
}

/// What one batch has to tell: records that went to the same partition and have the same fate.
#[derive(Debug)]
pub struct BatchReport {
    partition: Arc<TopicPartition>,
    /// The place in the batch that `result` begins with.
    first: u32,
    records: Stretches,
    result: Result<Written>,
}

/// Records of a [`BatchReport`] that were written one behind the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch<'a> {
    /// Their tags, in the order of sending.
    pub tags: Tags<'a>,
    /// The offset of the first of them, which the others follow; `None` when they failed, or the broker does not tell (acks=0).
    pub base_offset: Option<i64>,
    /// The timestamp of all of them, in milliseconds since 1970.
    pub timestamp: i64,
}

/// The tags of records that were sent one after the other; never of none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tags<'a> {
    /// Each is one more than the one before.
    Sequence {
        /// The first one.
        first: u64,
        /// How many.
        count: u32,
    },
    /// As they are.
    List(&'a [u64]),
}

impl Tags<'_> {
    /// How many.
    #[inline]
    #[allow(clippy::len_without_is_empty, reason = "there are always some")]
    pub fn len(&self) -> usize {
        match self {
            Tags::Sequence { count, .. } => *count as usize,
            Tags::List(tags) => tags.len(),
        }
    }
}

impl BatchReport {
    pub(super) fn new(
        partition: Arc<TopicPartition>,
        first: u32,
        records: Stretches,
        result: Result<Written>,
    ) -> BatchReport {
        BatchReport {
            partition,
            first,
            records,
            result,
        }
    }

    /// Where the records went.
    pub fn partition(&self) -> &Arc<TopicPartition> {
        &self.partition
    }

    /// Whether they were written, or why all of them failed.
    ///
    /// # Errors
    /// Why they failed.
    #[inline]
    pub fn result(&self) -> Result<(), &Error> {
        self.result.as_ref().map(|_| ())
    }

    /// The records by stretches, from 0 on; `None` after the last one.
    #[inline]
    pub fn stretch(&self, nth: usize) -> Option<Stretch<'_>> {
        let known = self.records.spans.get(nth)?;
        let (mut base_offset, mut timestamp) = (None, known.timestamp);
        if let Ok(written) = &self.result {
            let place = i64::from(known.index.saturating_sub(self.first));
            base_offset = (written.base_offset >= 0).then(|| written.base_offset.saturating_add(place));
            if written.log_append_time >= 0 {
                timestamp = written.log_append_time;
            }
        }
        let count = known.count;
        let tags = match known.tags {
            TagsOf::From(first) => Tags::Sequence { first, count },
            TagsOf::At(at) => Tags::List(self.records.tags.get(at..at + count as usize)?),
        };
        Some(Stretch {
            tags,
            base_offset,
            timestamp,
        })
    }

    /// How many reports it makes at most.
    fn most(&self) -> usize {
        self.records.spans.len() + self.records.tags.len()
    }
}
