//! A batch of records that can be read by number.
//!
//! In: what one poll handed over. Out: record `i`, as views of the bytes that came from the broker. Nothing is copied; an
//! index of some forty bytes a record is built once, so that a language can ask for any field of any record at any time.

use std::ops::Range;

use bytes::Bytes;
use ottla::{
    ConsumerRecord, ConsumerRecords, HandedOffset, Header, Headers, RawHeaders, TimestampType, TopicPartition,
};

/// Records of one poll, in the order of their offsets within each partition.
#[derive(Debug, Default)]
pub struct Batch {
    runs: Vec<Run>,
    index: Vec<Entry>,
}

/// Records that share one buffer.
#[derive(Debug)]
struct Run {
    partition: TopicPartition,
    bytes: Bytes,
    timestamp_type: TimestampType,
    leader_epoch: i32,
    /// The numbers of its records.
    numbers: Range<usize>,
    /// How far the partition is after all of them.
    handed: HandedOffset,
}

/// A part of a run's bytes; nothing, if the length is negative.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Where it begins.
    pub at: u32,
    /// How long it is; -1 for null.
    pub len: i32,
}

impl Span {
    const NULL: Span = Span { at: 0, len: -1 };

    /// `part` must be a part of `whole`.
    fn of(part: Option<&[u8]>, whole: &[u8]) -> Span {
        let Some(part) = part else { return Span::NULL };
        let at = (part.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        match (u32::try_from(at), i32::try_from(part.len())) {
            (Ok(at), Ok(len)) => Span { at, len },
            // A frame is smaller than 2 GiB, so this cannot be.
            _ => Span::NULL,
        }
    }

    fn get(self, whole: &[u8]) -> Option<&[u8]> {
        let (at, len) = (self.at as usize, usize::try_from(self.len).ok()?);
        whole.get(at..at.checked_add(len)?)
    }
}

#[derive(Debug)]
struct Entry {
    run: u32,
    key: Span,
    value: Span,
    headers: Span,
    header_count: u32,
    offset: i64,
    timestamp: i64,
}

/// One record of a [`Batch`].
#[derive(Debug, Clone, Copy)]
pub struct RecordView<'a> {
    run: &'a Run,
    entry: &'a Entry,
}

impl Batch {
    /// Indexes what a poll handed over.
    pub fn new(records: &ConsumerRecords) -> Self {
        let mut batch = Batch {
            runs: Vec::with_capacity(records.runs().len()),
            index: Vec::with_capacity(records.len()),
        };
        for (number, run) in (0_u32..).zip(records.runs()) {
            let bytes = run.bytes();
            let first = batch.index.len();
            batch
                .index
                .extend(run.iter().map(|record| entry(number, bytes, &record)));
            batch.runs.push(Run {
                partition: run.topic_partition().clone(),
                bytes: bytes.clone(),
                timestamp_type: run.timestamp_type(),
                leader_epoch: run.leader_epoch(),
                numbers: first..batch.index.len(),
                handed: run.handed(),
            });
        }
        batch
    }

    /// How many records there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.index.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.index.is_empty()
    }

    /// Record number `i`, from 0.
    #[inline]
    pub fn get(&self, i: usize) -> Option<RecordView<'_>> {
        let entry = self.index.get(i)?;
        let run = self.runs.get(entry.run as usize)?;
        Some(RecordView { run, entry })
    }

    /// All records.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = RecordView<'_>> {
        self.views(&self.index)
    }

    /// Those of the records with these numbers that there are; `None` if even the first one is beyond the end.
    #[inline]
    pub fn range(&self, range: Range<usize>) -> Option<impl ExactSizeIterator<Item = RecordView<'_>>> {
        let end = range.end.min(self.index.len());
        Some(self.views(self.index.get(range.start..end.max(range.start))?))
    }

    #[inline]
    fn views<'a>(&'a self, entries: &'a [Entry]) -> impl ExactSizeIterator<Item = RecordView<'a>> {
        entries.iter().map(|entry| RecordView {
            // Every entry was made with its run.
            run: &self.runs[entry.run as usize],
            entry,
        })
    }

    /// The buffers of its records: partition and bytes of each run, by number.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = (&TopicPartition, &Bytes)> {
        self.runs.iter().map(|run| (&run.partition, &run.bytes))
    }

    /// How far each partition is once the records with these numbers are processed, and those before them.
    pub fn handed(&self, range: Range<usize>) -> Vec<HandedOffset> {
        let mut handed: Vec<HandedOffset> = Vec::new();
        for run in self.runs.iter().rev() {
            let (first, end) = (run.numbers.start.max(range.start), run.numbers.end.min(range.end));
            if first >= end || handed.iter().any(|known| *known.topic_partition() == run.partition) {
                continue;
            }
            // A run is done with its last record, and what lies behind that in its batch is done with it.
            let last = self.index.get(end - 1).filter(|_| end < run.numbers.end);
            handed.push(match last {
                Some(last) => run.handed.clone().before(last.offset + 1),
                None => run.handed.clone(),
            });
        }
        handed
    }

    /// The assignment under which run number `run` was handed over; see [`HandedOffset::assignment`].
    pub fn assignment_of(&self, run: usize) -> u64 {
        self.runs.get(run).map_or(0, |run| run.handed.assignment())
    }

    /// For every partition here the offset after its last record.
    pub fn next_offsets(&self) -> Vec<(TopicPartition, i64)> {
        let mut next: Vec<(TopicPartition, i64)> = Vec::new();
        for run in &self.runs {
            let Some(last) = self.index.get(run.numbers.clone()).and_then(<[Entry]>::last) else {
                continue;
            };
            let after = last.offset + 1;
            match next.iter_mut().rev().find(|(partition, _)| *partition == run.partition) {
                Some((_, known)) => *known = after.max(*known),
                None => next.push((run.partition.clone(), after)),
            }
        }
        next
    }
}

fn entry(run: u32, bytes: &Bytes, record: &ConsumerRecord<'_>) -> Entry {
    let (header_count, headers) = record.raw_headers().remaining();
    Entry {
        run,
        key: Span::of(record.key(), bytes),
        value: Span::of(record.value(), bytes),
        headers: Span::of((header_count > 0).then_some(headers), bytes),
        header_count,
        offset: record.offset(),
        timestamp: record.timestamp(),
    }
}

impl<'a> RecordView<'a> {
    /// Topic and partition.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.run.partition
    }

    /// The number of its run, for [`Batch::runs`].
    pub fn run(&self) -> usize {
        self.entry.run as usize
    }

    /// The offset in the partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.entry.offset
    }

    /// The timestamp in milliseconds since 1970, or -1 for none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.entry.timestamp
    }

    /// Whose clock the timestamp is.
    pub fn timestamp_type(&self) -> TimestampType {
        self.run.timestamp_type
    }

    /// The leader epoch in which it was appended; -1 if the broker did not say.
    pub fn leader_epoch(&self) -> i32 {
        self.run.leader_epoch
    }

    /// The key, if there is one.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.entry.key.get(&self.run.bytes)
    }

    /// The value; `None` is a tombstone on a compacted topic.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.entry.value.get(&self.run.bytes)
    }

    /// Where the key is in the bytes of its run.
    #[inline]
    pub fn key_span(&self) -> Span {
        self.entry.key
    }

    /// Where the value is in the bytes of its run.
    #[inline]
    pub fn value_span(&self) -> Span {
        self.entry.value
    }

    /// Where the headers are in the bytes of its run, in the encoding of record format v2 without their count.
    #[inline]
    pub fn header_span(&self) -> Span {
        self.entry.headers
    }

    /// How many headers it has.
    #[inline]
    pub fn header_count(&self) -> usize {
        self.entry.header_count as usize
    }

    /// The headers in order. Those after one with a key that is not UTF-8 are left out.
    pub fn headers(&self) -> impl Iterator<Item = Header<'a>> + use<'a> {
        let bytes = self.entry.headers.get(&self.run.bytes).unwrap_or_default();
        let raw = RawHeaders::resume(self.entry.header_count, bytes);
        Headers::from(raw).map_while(Result::ok)
    }
}
