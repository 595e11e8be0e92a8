//! The records of one batch whose fate goes into reports.
//!
//! In: places and tags, in the order of sending, under the lock of the partition. Out: a [`BatchReport`] for each part of the
//! batch that completes. Tags that follow each other cost nothing, others (a C program's pointers, or numbers that were
//! dealt out over several partitions) eight bytes each.

use std::ops::Range;
use std::sync::Arc;
use std::task::Waker;

use ottla_client_state::batch::Written;

use super::delivery::Failed;
use super::reports::{BatchReport, Report, Reports};
use crate::error::Result;
use crate::record::TopicPartition;

/// A sequence that breaks off before it has this many records becomes a list.
const SHORT: u32 = 4;

/// Records that follow each other and have the same timestamp, and where their tags are.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub index: u32,
    pub count: u32,
    pub timestamp: i64,
    pub tags: TagsOf,
}

/// The tags of a span.
#[derive(Debug, Clone, Copy)]
pub(super) enum TagsOf {
    /// From this one on, each one more than the one before.
    From(u64),
    /// In the list, from this place on.
    At(usize),
}

impl Span {
    fn end(&self) -> u32 {
        self.index.saturating_add(self.count)
    }
}

/// Spans of records and the list of their tags.
#[derive(Debug, Default)]
pub(super) struct Stretches {
    pub spans: Vec<Span>,
    pub tags: Vec<u64>,
}

impl Stretches {
    /// Records with one tag each, from this one on.
    pub fn sequence(index: u32, count: u32, first: u64, timestamp: i64) -> Self {
        let span = Span {
            index,
            count,
            timestamp,
            tags: TagsOf::From(first),
        };
        Stretches {
            spans: vec![span],
            tags: Vec::new(),
        }
    }

    #[inline]
    fn add(&mut self, index: u32, tag: u64, timestamp: i64) {
        if let Some(last) = self.spans.last_mut()
            && last.end() == index
            && last.timestamp == timestamp
        {
            match last.tags {
                TagsOf::From(first) if first.checked_add(u64::from(last.count)) == Some(tag) => {
                    last.count += 1;
                    return;
                }
                TagsOf::From(first) if last.count < SHORT => {
                    let at = self.tags.len();
                    self.tags
                        .extend((0..u64::from(last.count)).map(|nth| first.saturating_add(nth)));
                    self.tags.push(tag);
                    last.tags = TagsOf::At(at);
                    last.count += 1;
                    return;
                }
                TagsOf::At(_) => {
                    // The list's end is this span's: only the last one grows.
                    self.tags.push(tag);
                    last.count += 1;
                    return;
                }
                TagsOf::From(_) => {}
            }
        }
        self.spans.push(Span {
            index,
            count: 1,
            timestamp,
            tags: TagsOf::From(tag),
        });
    }

    /// One more record that has no tag.
    #[inline]
    fn count(&mut self, index: u32) {
        match self.spans.last_mut() {
            Some(last) if last.end() == index => last.count += 1,
            _ => self.spans.push(Span {
                index,
                count: 1,
                timestamp: -1,
                tags: TagsOf::From(Report::UNTAGGED),
            }),
        }
    }

    fn records(&self) -> u32 {
        self.spans.iter().map(|span| span.count).sum()
    }

    /// Takes out what lies within `part`.
    fn take_within(&mut self, part: &Range<u32>) -> Stretches {
        let (Some(first), Some(last)) = (self.spans.first(), self.spans.last()) else {
            return Stretches::default();
        };
        if part.start <= first.index && last.end() <= part.end {
            return std::mem::take(self);
        }
        let mut taken = Stretches::default();
        for span in &self.spans {
            let (index, end) = (span.index.max(part.start), span.end().min(part.end));
            if index >= end {
                continue;
            }
            let skipped = index - span.index;
            let tags = match span.tags {
                TagsOf::From(first) => TagsOf::From(first.saturating_add(u64::from(skipped))),
                TagsOf::At(at) => {
                    let from = at + skipped as usize;
                    let here = taken.tags.len();
                    let tags = self.tags.get(from..from + (end - index) as usize);
                    taken.tags.extend_from_slice(tags.unwrap_or_default());
                    TagsOf::At(here)
                }
            };
            taken.spans.push(Span {
                index,
                count: end - index,
                timestamp: span.timestamp,
                tags,
            });
        }
        self.spans.retain(|span| span.end() > part.end);
        taken
    }

    /// Its records, each by itself: place, tag and timestamp.
    fn single(&self) -> impl Iterator<Item = (u32, u64, i64)> + '_ {
        self.spans.iter().flat_map(move |span| {
            (0..span.count).map(move |nth| {
                let tag = match span.tags {
                    TagsOf::From(first) => first.saturating_add(u64::from(nth)),
                    TagsOf::At(at) => self.tags.get(at + nth as usize).copied().unwrap_or(Report::UNTAGGED),
                };
                (span.index.saturating_add(nth), tag, span.timestamp)
            })
        })
    }
}

/// Records of one batch whose fate one place is waiting for.
#[derive(Debug)]
pub(super) struct Awaited {
    reports: Arc<Reports>,
    /// Only failures are wanted, without tags.
    only_failures: bool,
    records: Stretches,
}

impl Awaited {
    pub fn new(reports: &Arc<Reports>, only_failures: bool) -> Self {
        Awaited {
            reports: reports.clone(),
            only_failures,
            records: Stretches::default(),
        }
    }

    #[inline]
    pub fn is_for(&self, reports: &Arc<Reports>, only_failures: bool) -> bool {
        Arc::ptr_eq(&self.reports, reports) && self.only_failures == only_failures
    }

    /// One more record.
    #[inline]
    pub fn add(&mut self, index: u32, tag: Option<u64>, timestamp: i64) {
        match tag {
            Some(tag) => self.records.add(index, tag, timestamp),
            None => self.records.count(index),
        }
    }

    /// Reports what lies within `part`, and forgets it. Gives the waker if it is to be woken.
    pub fn settle(
        &mut self,
        partition: &Arc<TopicPartition>,
        part: &Range<u32>,
        result: &Result<Written, Failed>,
    ) -> Option<Waker> {
        let settled = self.records.take_within(part);
        let report = |records, result| BatchReport::new(partition.clone(), part.start, records, result);
        let wakes = match result {
            Ok(_) if self.only_failures => return None,
            Ok(written) => self.reports.push([report(settled, Ok(*written))]),
            Err(failed) if self.only_failures => {
                let all = match settled.records() {
                    0 => Stretches::default(),
                    count => Stretches::sequence(part.start, count, Report::UNTAGGED, -1),
                };
                self.reports.push([report(all, Err(failed.error.clone()))])
            }
            Err(failed) if failed.of_records.is_empty() => {
                self.reports.push([report(settled, Err(failed.error.clone()))])
            }
            Err(failed) => {
                let told = settled.single().map(|(index, tag, timestamp)| {
                    let one = Stretches::sequence(index, 1, tag, timestamp);
                    report(one, Err(failed.of_record(index.saturating_sub(part.start))))
                });
                self.reports.push(told)
            }
        };
        wakes.then(|| self.reports.waker())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::task::Wake;

    use super::super::claim::Claims;
    use super::super::delivery::Cell;
    use super::super::reports::Tags;
    use super::*;
    use crate::error::{Error, ErrorKind};

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

    /// A batch with its partition's claims.
    struct Batch {
        cell: Arc<Cell>,
        claims: RefCell<Claims>,
    }

    impl Batch {
        fn await_report(&self, reports: &Arc<Reports>, index: u32, tag: Option<u64>, timestamp: i64) {
            let mut claims = self.claims.borrow_mut();
            claims.add(&self.cell, reports, index, tag, timestamp);
        }
    }

    fn cell() -> Batch {
        Batch {
            cell: Arc::new(Cell::new(Arc::new(TopicPartition::new("orders", 3)), 100)),
            claims: RefCell::default(),
        }
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

    fn complete(batch: &Batch, first: u32, records: u32, last: bool, result: Result<Written, Failed>) {
        batch.claims.borrow_mut().hand_over(&batch.cell);
        let cell = &batch.cell;
        cell.complete(first, records, last, result)
            .into_iter()
            .for_each(Waker::wake);
    }

    /// First tag, count and first offset of each report.
    fn told(reports: &Reports) -> Vec<(u64, u32, Option<i64>)> {
        let gathered = reports.take();
        let most = gathered.most();
        let offset = |report: &Report| report.result.as_ref().ok().and_then(|reported| reported.base_offset);
        let told: Vec<_> = gathered
            .into_iter()
            .map(|report| (report.first, report.count, offset(&report)))
            .collect();
        assert!(
            told.len() <= most,
            "{} reports, and at most {most} were announced",
            told.len()
        );
        told
    }

    #[test]
    fn records_sent_one_after_the_other_are_one_report_and_one_wake_up() {
        let ((reports, wakes), cell) = (place(), cell());
        for index in 0..100 {
            cell.await_report(&reports, index, Some(7 + u64::from(index)), 1000);
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
            cell.await_report(&reports, index, Some(tag), timestamp);
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
    fn tags_of_any_kind_come_back_as_they_were_whatever_the_order_and_however_the_batch_is_cut() {
        // Sequences long and short, pointers, the largest number, and all of it again at another time.
        let mut tags: Vec<u64> = (0..10).collect();
        tags.extend([900, 100, 101, 102, 7, u64::MAX, 0, 1]);
        tags.extend((0..40).map(|nth| 0x7f00_0000_0000 - 24 * nth));
        tags.extend(500..520);
        tags.extend(tags.clone());
        let records = tags.len() as u32;
        for cut in 1..=records {
            let ((reports, _), cell) = (place(), cell());
            for (index, tag) in (0..).zip(&tags) {
                cell.await_report(&reports, index, Some(*tag), i64::from(index / 50));
            }
            for first in (0..records).step_by(cut as usize) {
                let count = cut.min(records - first);
                complete(
                    &cell,
                    first,
                    count,
                    first + count == records,
                    written(1_000 + i64::from(first)),
                );
            }
            let mut single = Vec::new();
            for report in reports.take() {
                let written = report.result.unwrap();
                for nth in 0..u64::from(report.count) {
                    let offset = written.base_offset.unwrap() as u64 + nth;
                    single.push((report.first.wrapping_add(nth), offset, written.timestamp));
                }
            }
            let expected: Vec<_> = (0_u64..)
                .zip(&tags)
                .map(|(nth, tag)| (*tag, 1_000 + nth, nth as i64 / 50))
                .collect();
            assert_eq!(single, expected, "cut after every {cut}");
        }
    }

    #[test]
    fn tags_without_an_order_are_handed_out_as_one_list() {
        let ((reports, _), cell) = (place(), cell());
        let tags: Vec<u64> = (0..1_000).map(|nth| nth * 48).collect();
        for (index, tag) in (0..).zip(&tags) {
            cell.await_report(&reports, index, Some(*tag), 5);
        }
        complete(&cell, 0, 1_000, true, written(40));
        let batches: Vec<BatchReport> = reports.take().into_batches().collect();
        assert_eq!(batches.len(), 1);
        assert_eq!(batches[0].partition().partition, 3);
        assert!(batches[0].result().is_ok());
        let stretch = batches[0].stretch(0).unwrap();
        assert_eq!(stretch.tags, Tags::List(&tags));
        assert_eq!((stretch.base_offset, stretch.timestamp), (Some(40), 5));
        assert_eq!(batches[0].stretch(1), None);
    }

    #[test]
    fn a_batch_that_is_cut_is_told_part_by_part_with_the_offsets_of_each() {
        let ((reports, _), cell) = (place(), cell());
        for index in 0..4 {
            cell.await_report(&reports, index, Some(u64::from(index)), 0);
        }
        complete(&cell, 0, 3, false, written(10));
        assert_eq!(told(&reports), [(0, 3, Some(10))]);
        complete(&cell, 3, 1, true, written(70));
        assert_eq!(told(&reports), [(3, 1, Some(70))]);
    }

    #[test]
    fn the_record_that_caused_a_refusal_is_told_so() {
        let ((reports, _), cell) = (place(), cell());
        for index in 0..3 {
            cell.await_report(&reports, index, Some(u64::from(index) * 16), 0);
        }
        let own = Error::new(ErrorKind::Broker, "no key");
        complete(&cell, 0, 3, true, failed(vec![(1, own)]));
        let texts: Vec<(u64, String)> = reports
            .take()
            .into_iter()
            .map(|report| (report.first, report.result.unwrap_err().to_string()))
            .collect();
        let own: Vec<(u64, bool)> = texts.iter().map(|(tag, text)| (*tag, text == "no key")).collect();
        assert_eq!(own, [(0, false), (16, true), (32, false)]);
    }

    #[test]
    fn records_without_a_tag_are_told_only_if_they_fail_and_are_counted_right() {
        let ((reports, _), (failures, wakes)) = (place(), place());
        for fails in [false, true] {
            let cell = cell();
            for index in 0..5 {
                match index {
                    2 => cell.await_report(&reports, index, Some(1), 0),
                    _ => cell.await_report(&failures, index, None, 0),
                }
            }
            complete(&cell, 0, 5, true, if fails { failed(Vec::new()) } else { written(3) });
        }
        assert_eq!(told(&failures), [(Report::UNTAGGED, 4, None)]);
        assert_eq!(wakes.0.load(Ordering::Relaxed), 1);
        assert_eq!(told(&reports), [(1, 1, Some(5)), (1, 1, None)]);
    }

    #[test]
    fn each_part_of_a_cut_batch_counts_its_own_records_without_a_tag_and_no_ticket_among_them() {
        let ((reports, _), (failures, _)) = (place(), place());
        let cell = cell();
        // Places 0 and 5 have tickets, 1, 2, 6 and 8 no tag.
        for index in [1, 2, 3, 4, 6, 7, 8] {
            match index {
                1 | 2 | 6 | 8 => cell.await_report(&failures, index, None, 0),
                _ => cell.await_report(&reports, index, Some(u64::from(index)), 0),
            }
        }
        complete(&cell, 0, 2, false, failed(Vec::new()));
        assert_eq!(told(&failures), [(Report::UNTAGGED, 1, None)]);
        complete(&cell, 2, 3, false, written(50));
        assert_eq!(told(&failures), []);
        complete(&cell, 5, 4, true, failed(Vec::new()));
        assert_eq!(told(&failures), [(Report::UNTAGGED, 2, None)]);
        assert_eq!(
            told(&reports),
            [(3, 2, Some(51)), (7, 1, None)],
            "those with a tag are told besides"
        );
    }

    #[test]
    fn claims_on_several_batches_of_a_partition_each_go_to_their_own() {
        let ((reports, _), (failures, _)) = (place(), place());
        let (first, second) = (cell(), cell());
        let mut claims = Claims::default();
        for index in 0..3 {
            claims.add(&first.cell, &reports, index, Some(u64::from(index)), 0);
        }
        claims.add(&first.cell, &failures, 3, None, 0);
        for index in 0..2 {
            claims.add(&second.cell, &reports, index, Some(70 + u64::from(index)), 0);
        }
        claims.hand_over(&first.cell);
        complete(&first, 0, 4, true, failed(Vec::new()));
        assert_eq!(told(&reports), [(0, 3, None)]);
        assert_eq!(told(&failures), [(Report::UNTAGGED, 1, None)]);
        claims.hand_over(&second.cell);
        complete(&second, 0, 2, true, written(9));
        assert_eq!(told(&reports), [(70, 2, Some(9))]);
        assert!(claims.are_empty(), "nothing stays behind");
    }
}
