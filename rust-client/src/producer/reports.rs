//! Reports: the fates of many records, told together.
//!
//! In: deliveries that hand their fate over ([`Delivery::report`](crate::Delivery::report)). Out: one [`Report`] for each
//! run of records that were sent one after the other into the same batch, so that a million records cost some thousands of
//! reports. For programs that keep their own books, such as a binding of another language: no ticket is kept, no task
//! waits, and whoever reads is woken once for everything that has gathered.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::Waker;

use ottla_client_state::batch::Written;

use super::delivery::Failed;
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
/// - Every record that was handed over is in exactly one report, at the latest after `delivery.timeout.ms`.
/// - Reports of one partition come in the order of sending.
/// - The waker is woken when the first report arrives after a [`take`](Reports::take), and then not before the next one.
pub struct Reports {
    gathered: Mutex<Vec<Report>>,
    waker: Waker,
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reports({})", self.lock().len())
    }
}

impl Reports {
    /// An empty place; `waker` is woken when there is something to take, from a thread of the producer's runtime.
    pub fn new(waker: Waker) -> Arc<Reports> {
        Arc::new(Reports {
            gathered: Mutex::default(),
            waker,
        })
    }

    /// Takes what has gathered.
    pub fn take(&self) -> Vec<Report> {
        std::mem::take(&mut *self.lock())
    }

    /// Adds a report of one's own, for records that never reached a batch.
    pub fn add(&self, report: Report) {
        let was_empty = self.push([report]);
        if was_empty {
            self.waker.wake_by_ref();
        }
    }

    /// Adds reports; true if somebody is to be woken.
    fn push(&self, reports: impl IntoIterator<Item = Report>) -> bool {
        let mut gathered = self.lock();
        let was_empty = gathered.is_empty();
        gathered.extend(reports);
        was_empty && !gathered.is_empty()
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Report>> {
        // A list is whole after every step.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Records of one batch whose fate one place is waiting for.
#[derive(Debug)]
pub(super) struct Awaited {
    reports: Arc<Reports>,
    runs: Vec<Run>,
}

/// Records that follow each other, with tags that follow each other.
#[derive(Debug, Clone, Copy)]
struct Run {
    index: u32,
    count: u32,
    tag: u64,
    timestamp: i64,
}

impl Run {
    fn end(&self) -> u32 {
        self.index.saturating_add(self.count)
    }

    /// What of it lies within `part`.
    fn within(&self, part: &Range<u32>) -> Option<Run> {
        let index = self.index.max(part.start);
        let end = self.end().min(part.end);
        (index < end).then(|| Run {
            index,
            count: end - index,
            tag: self.tag.saturating_add(u64::from(index - self.index)),
            timestamp: self.timestamp,
        })
    }
}

impl Awaited {
    pub fn new(reports: &Arc<Reports>) -> Self {
        Awaited {
            reports: reports.clone(),
            runs: Vec::new(),
        }
    }

    pub fn is_for(&self, reports: &Arc<Reports>) -> bool {
        Arc::ptr_eq(&self.reports, reports)
    }

    /// One more record.
    pub fn add(&mut self, index: u32, tag: u64, timestamp: i64) {
        if let Some(last) = self.runs.last_mut() {
            let follows = last.end() == index && last.tag.checked_add(u64::from(last.count)) == Some(tag);
            if follows && last.timestamp == timestamp {
                last.count += 1;
                return;
            }
        }
        self.runs.push(Run {
            index,
            count: 1,
            tag,
            timestamp,
        });
    }

    /// Reports what lies within `part`, and forgets it. Gives the waker if it is to be woken, and how many records of
    /// `part` had a tag.
    pub fn settle(
        &mut self,
        partition: &Arc<TopicPartition>,
        part: &Range<u32>,
        result: &Result<Written, Failed>,
    ) -> (Option<Waker>, u32) {
        // Nearly always in order already; two senders at once may have got here in another order.
        self.runs.sort_unstable_by_key(|run| run.index);
        let settled: Vec<Run> = self.runs.iter().filter_map(|run| run.within(part)).collect();
        self.runs.retain(|run| run.end() > part.end);
        let records = settled.iter().map(|run| run.count).sum();
        let mut told = Vec::with_capacity(settled.len());
        for run in settled {
            report(partition, part.start, run, result, &mut told);
        }
        let wake = self.reports.push(told).then(|| self.reports.waker.clone());
        (wake, records)
    }
}

fn report(
    partition: &Arc<TopicPartition>,
    first: u32,
    run: Run,
    result: &Result<Written, Failed>,
    told: &mut Vec<Report>,
) {
    let mut tell = |tag, count, result| {
        told.push(Report {
            first: tag,
            count,
            partition: partition.clone(),
            result,
        });
    };
    match result {
        Ok(written) => {
            let place = i64::from(run.index.saturating_sub(first));
            let reported = Reported {
                base_offset: (written.base_offset >= 0).then(|| written.base_offset.saturating_add(place)),
                timestamp: if written.log_append_time >= 0 {
                    written.log_append_time
                } else {
                    run.timestamp
                },
            };
            tell(run.tag, run.count, Ok(reported));
        }
        Err(failed) if failed.of_records.is_empty() => tell(run.tag, run.count, Err(failed.error.clone())),
        Err(failed) => {
            for nth in 0..run.count {
                let place = run.index.saturating_add(nth).saturating_sub(first);
                tell(run.tag.saturating_add(u64::from(nth)), 1, Err(failed.of_record(place)));
            }
        }
    }
}

/// Reports records of which nobody wants to hear unless they fail.
pub(super) fn settle_untagged(
    reports: &Arc<Reports>,
    partition: &Arc<TopicPartition>,
    count: u32,
    error: &Error,
) -> Option<Waker> {
    if count == 0 {
        return None;
    }
    let report = Report {
        first: Report::UNTAGGED,
        count,
        partition: partition.clone(),
        result: Err(error.clone()),
    };
    reports.push([report]).then(|| reports.waker.clone())
}
