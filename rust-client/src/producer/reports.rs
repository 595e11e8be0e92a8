//! Reports: the fates of many records, told together.
//!
//! In: deliveries that hand their fate over ([`Delivery::report`](crate::Delivery::report)). Out: one [`Report`] for each
//! run of records that were sent one after the other into the same batch, so that a million records cost some thousands of
//! reports. For programs that keep their own books, such as a binding of another language: no ticket is kept, no task
//! waits, and whoever reads is woken once for everything that has gathered.

use std::fmt;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
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
    gathered: Mutex<Gathered>,
    /// How many there are, to be read without the lock.
    count: AtomicUsize,
    waker: Waker,
}

impl fmt::Debug for Reports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Reports({})", self.lock().count)
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

    /// How many reports have gathered. Costs one atomic read: for callers that want to bound what nobody takes.
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
        let run = Run {
            index: 0,
            count: report.count,
            tag: report.first,
            timestamp,
        };
        let lot = Lot {
            partition: report.partition,
            first: 0,
            runs: vec![run],
            result: report.result.map(|_| Written {
                base_offset: written,
                log_append_time: -1,
            }),
        };
        if self.push([lot]) {
            self.waker.wake_by_ref();
        }
    }

    /// Adds what one batch has to tell; true if somebody is to be woken.
    fn push(&self, lots: impl IntoIterator<Item = Lot>) -> bool {
        let mut gathered = self.lock();
        let was_empty = gathered.count == 0;
        for lot in lots.into_iter().filter(|lot| !lot.runs.is_empty()) {
            gathered.count += lot.runs.len();
            gathered.lots.push(lot);
        }
        self.count.store(gathered.count, Ordering::Relaxed);
        was_empty && gathered.count > 0
    }

    fn lock(&self) -> MutexGuard<'_, Gathered> {
        // Every change is a few steps that cannot panic.
        self.gathered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reports that were taken together: iterate to have them one by one.
///
/// What the reports of one batch have in common is kept once, and the iterator is where it is handed out: a batch
/// that completes costs the sending task the same however many reports it makes.
#[derive(Debug, Default)]
pub struct Gathered {
    lots: Vec<Lot>,
    count: usize,
}

impl Gathered {
    /// How many reports these are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl IntoIterator for Gathered {
    type Item = Report;
    type IntoIter = IntoReports;

    fn into_iter(self) -> IntoReports {
        IntoReports {
            lots: self.lots.into_iter(),
            current: None,
            left: self.count,
        }
    }
}

/// The iterator over [`Gathered`].
#[derive(Debug)]
pub struct IntoReports {
    lots: std::vec::IntoIter<Lot>,
    /// A lot, and how many of its runs were handed out.
    current: Option<(Lot, usize)>,
    left: usize,
}

impl Iterator for IntoReports {
    type Item = Report;

    #[inline]
    fn next(&mut self) -> Option<Report> {
        loop {
            if let Some((lot, nth)) = &mut self.current
                && let Some(run) = lot.runs.get(*nth)
            {
                *nth += 1;
                self.left = self.left.saturating_sub(1);
                return Some(lot.report(run));
            }
            self.current = Some((self.lots.next()?, 0));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for IntoReports {}

/// What one batch has to tell.
#[derive(Debug)]
struct Lot {
    partition: Arc<TopicPartition>,
    /// The place in the batch that `result` begins with.
    first: u32,
    runs: Vec<Run>,
    result: Result<Written>,
}

impl Lot {
    #[inline]
    fn report(&self, run: &Run) -> Report {
        let place = i64::from(run.index.saturating_sub(self.first));
        let reported = |written: &Written| Reported {
            base_offset: (written.base_offset >= 0).then(|| written.base_offset.saturating_add(place)),
            timestamp: if written.log_append_time >= 0 {
                written.log_append_time
            } else {
                run.timestamp
            },
        };
        Report {
            first: run.tag,
            count: run.count,
            partition: self.partition.clone(),
            result: self.result.as_ref().map(reported).map_err(Error::clone),
        }
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

    /// Its records, each as a run of its own.
    fn single(&self) -> impl Iterator<Item = Run> + use<> {
        let run = *self;
        (0..run.count).map(move |nth| Run {
            index: run.index.saturating_add(nth),
            count: 1,
            tag: run.tag.saturating_add(u64::from(nth)),
            timestamp: run.timestamp,
        })
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
        let settled = self.take_within(part);
        let records = settled.iter().map(|run| run.count).sum();
        let lot = |runs, result| Lot {
            partition: partition.clone(),
            first: part.start,
            runs,
            result,
        };
        let wakes = match result {
            Ok(written) => self.reports.push([lot(settled, Ok(*written))]),
            Err(failed) if failed.of_records.is_empty() => self.reports.push([lot(settled, Err(failed.error.clone()))]),
            Err(failed) => {
                let single = settled.iter().flat_map(Run::single);
                let told = single.map(|run| {
                    let place = run.index.saturating_sub(part.start);
                    lot(vec![run], Err(failed.of_record(place)))
                });
                self.reports.push(told)
            }
        };
        (wakes.then(|| self.reports.waker.clone()), records)
    }

    /// The runs within `part`, in order.
    fn take_within(&mut self, part: &Range<u32>) -> Vec<Run> {
        // Nearly always in order already; two senders at once may have got here in another order.
        self.runs.sort_unstable_by_key(|run| run.index);
        let inside = |run: &Run| part.start <= run.index && run.end() <= part.end;
        if self.runs.first().is_none_or(inside) && self.runs.last().is_none_or(inside) {
            return std::mem::take(&mut self.runs);
        }
        let settled = self.runs.iter().filter_map(|run| run.within(part)).collect();
        self.runs.retain(|run| run.end() > part.end);
        settled
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
    let run = Run {
        index: 0,
        count,
        tag: Report::UNTAGGED,
        timestamp: -1,
    };
    let lot = Lot {
        partition: partition.clone(),
        first: 0,
        runs: vec![run],
        result: Err(error.clone()),
    };
    reports.push([lot]).then(|| reports.waker.clone())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::super::delivery::{Cell, Delivery};
    use super::*;
    use crate::error::ErrorKind;

    #[derive(Default)]
    struct Wakes(AtomicU32);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn place() -> (Arc<Reports>, Arc<Wakes>) {
        let wakes = Arc::new(Wakes::default());
        (Reports::new(Waker::from(wakes.clone())), wakes)
    }

    fn cell() -> Arc<Cell> {
        Arc::new(Cell::new(Arc::new(TopicPartition::new("orders", 3)), 100))
    }

    fn written(base_offset: i64) -> Result<Written, Failed> {
        Ok(Written {
            base_offset,
            log_append_time: -1,
        })
    }

    fn failed(of_records: Vec<(u32, Error)>) -> Result<Written, Failed> {
        let error = Error::closed("producer");
        Err(Failed { error, of_records })
    }

    fn complete(cell: &Cell, first: u32, records: u32, last: bool, result: Result<Written, Failed>) {
        cell.complete(first, records, last, result)
            .into_iter()
            .for_each(Waker::wake);
    }

    fn told(reports: &Reports) -> Vec<(u64, u32, Option<i64>)> {
        let offset = |report: &Report| report.result.as_ref().ok().and_then(|reported| reported.base_offset);
        let reports: Vec<Report> = reports.take().into_iter().collect();
        reports
            .iter()
            .map(|report| (report.first, report.count, offset(report)))
            .collect()
    }

    #[test]
    fn records_sent_one_after_the_other_are_one_report_and_one_wake_up() {
        let ((reports, wakes), cell) = (place(), cell());
        for index in 0..100 {
            Delivery::new(cell.clone(), index, 1000).report(&reports, 7 + u64::from(index));
        }
        assert_eq!(told(&reports), []);
        complete(&cell, 0, 100, true, written(40));
        assert_eq!(told(&reports), [(7, 100, Some(40))]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_gap_in_tags_places_or_times_begins_a_new_report() {
        let ((reports, _), cell) = (place(), cell());
        let sent = [(0, 10, 5), (1, 11, 5), (2, 13, 5), (4, 14, 5), (5, 15, 6)];
        for (index, tag, timestamp) in sent {
            Delivery::new(cell.clone(), index, timestamp).report(&reports, tag);
        }
        complete(&cell, 0, 6, true, written(40));
        let expected = [
            (10, 2, Some(40)),
            (13, 1, Some(42)),
            (14, 1, Some(44)),
            (15, 1, Some(45)),
        ];
        assert_eq!(told(&reports), expected);
    }

    #[test]
    fn a_batch_that_is_cut_is_told_part_by_part_with_the_offsets_of_each() {
        let ((reports, _), cell) = (place(), cell());
        for index in 0..4 {
            Delivery::new(cell.clone(), index, 0).report(&reports, u64::from(index));
        }
        complete(&cell, 0, 3, false, written(10));
        assert_eq!(told(&reports), [(0, 3, Some(10))]);
        complete(&cell, 3, 1, true, written(70));
        assert_eq!(told(&reports), [(3, 1, Some(70))]);
    }

    #[test]
    fn a_record_that_is_complete_already_is_told_at_once() {
        let ((reports, wakes), cell) = (place(), cell());
        complete(&cell, 0, 2, true, written(10));
        Delivery::new(cell.clone(), 1, 0).report(&reports, 9);
        assert_eq!(told(&reports), [(9, 1, Some(11))]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn the_record_that_caused_a_refusal_is_told_so() {
        let ((reports, _), cell) = (place(), cell());
        for index in 0..3 {
            Delivery::new(cell.clone(), index, 0).report(&reports, u64::from(index));
        }
        let own = Error::new(ErrorKind::Broker, "no key");
        complete(&cell, 0, 3, true, failed(vec![(1, own)]));
        let texts: Vec<String> = reports
            .take()
            .into_iter()
            .map(|report| report.result.unwrap_err().to_string())
            .collect();
        assert_eq!(texts.len(), 3);
        assert!(
            texts[1] == "no key" && texts[0] != "no key" && texts[2] != "no key",
            "{texts:?}"
        );
    }

    #[test]
    fn records_without_a_tag_are_told_only_if_they_fail_and_are_counted_right() {
        let ((reports, _), (failures, wakes)) = (place(), place());
        for fails in [false, true] {
            let cell = cell();
            for index in 0..5 {
                let delivery = Delivery::new(cell.clone(), index, 0);
                match index {
                    2 => delivery.report(&reports, 1),
                    _ => delivery.report_failure(&failures),
                }
            }
            complete(&cell, 0, 5, true, if fails { failed(Vec::new()) } else { written(3) });
        }
        assert_eq!(told(&failures), [(Report::UNTAGGED, 4, None)]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(told(&reports), [(1, 1, Some(5)), (1, 1, None)]);
    }
}
