//! What a poll hands over: records as views of the bytes that came from the broker.
//!
//! [`ConsumerRecords`] owns shares of the answer's buffer, so it may live as long as the application likes; its
//! records borrow from it. Iterating allocates nothing and copies nothing. Keeping one record keeps the buffer that it
//! came in (a fetch answer, or one decompressed batch); [`ConsumerRecord::to_owned`] copies it out.
//!
//! Everything in here has been read once already, checksum and all, so iterating cannot fail.

use std::sync::Arc;

use bytes::Bytes;
use ottla_client_state::TopicPartition;
use ottla_client_state::commit::OffsetAndMetadata;
use ottla_protocol::records::{Headers, RawHeaders, Record, RecordIter, RecordOrigin, TimestampType};

/// Records of one batch that follow each other.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    pub partition: TopicPartition,
    /// The assignment of the partition under which it was handed over.
    pub assignment: u64,
    pub origin: RecordOrigin,
    pub leader_epoch: i32,
    /// Uncompressed; begins with record number `first` of the batch.
    pub records: Bytes,
    pub first: u32,
    pub count: usize,
    /// The offset after the last record.
    pub next_offset: i64,
}

impl Chunk {
    pub fn iter(&self) -> std::iter::Take<RecordIter<'_>> {
        self.origin.iter_from(&self.records, self.first).take(self.count)
    }
}

/// The records of one poll, in the order of their offsets within each partition.
#[derive(Debug, Clone, Default)]
pub struct ConsumerRecords {
    pub(super) chunks: Vec<Chunk>,
    pub(super) count: usize,
}

impl ConsumerRecords {
    /// How many records there are.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Whether there are none, as after [`crate::Consumer::poll_timeout`] ran out of time.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// All records.
    pub fn iter(&self) -> Iter<'_> {
        Iter {
            chunks: self.chunks.iter(),
            current: None,
            left: self.count,
        }
    }

    /// The records of one partition.
    pub fn of_partition<'a>(&'a self, partition: &'a TopicPartition) -> impl Iterator<Item = ConsumerRecord<'a>> {
        self.chunks
            .iter()
            .filter(move |chunk| chunk.partition == *partition)
            .flat_map(chunk_records)
    }

    /// The records by the buffers they lie in, for who builds an index of them: one run is a part of one batch.
    pub fn runs(&self) -> impl ExactSizeIterator<Item = RecordRun<'_>> {
        self.chunks.iter().map(|chunk| RecordRun { chunk })
    }

    /// The partitions that have records here, each once, in the order of appearance.
    pub fn partitions(&self) -> Vec<TopicPartition> {
        let mut partitions: Vec<TopicPartition> = Vec::new();
        for chunk in &self.chunks {
            if !partitions.contains(&chunk.partition) {
                partitions.push(chunk.partition.clone());
            }
        }
        partitions
    }

    /// For every partition here the offset after its last record: what to commit once these are processed.
    pub fn next_offsets(&self) -> Vec<(TopicPartition, i64)> {
        let mut offsets: Vec<(TopicPartition, i64)> = Vec::new();
        for chunk in &self.chunks {
            match offsets.iter_mut().find(|(partition, _)| *partition == chunk.partition) {
                Some((_, next)) => *next = (*next).max(chunk.next_offset),
                None => offsets.push((chunk.partition.clone(), chunk.next_offset)),
            }
        }
        offsets
    }

    pub(super) fn push(&mut self, chunk: Chunk) {
        self.count += chunk.count;
        self.chunks.push(chunk);
    }
}

impl<'a> IntoIterator for &'a ConsumerRecords {
    type Item = ConsumerRecord<'a>;
    type IntoIter = Iter<'a>;

    fn into_iter(self) -> Iter<'a> {
        self.iter()
    }
}

/// Records of one partition that follow each other and share one buffer.
#[derive(Debug, Clone, Copy)]
pub struct RecordRun<'a> {
    chunk: &'a Chunk,
}

impl<'a> RecordRun<'a> {
    /// Topic and partition of all of them.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.chunk.partition
    }

    /// The uncompressed bytes that keys, values and headers of these records borrow from.
    pub fn bytes(&self) -> &'a Bytes {
        &self.chunk.records
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.chunk.count
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.chunk.count == 0
    }

    /// The records.
    pub fn iter(&self) -> impl Iterator<Item = ConsumerRecord<'a>> + use<'a> {
        chunk_records(self.chunk)
    }

    /// The leader epoch in which they were appended; -1 if the broker did not say.
    pub fn leader_epoch(&self) -> i32 {
        self.chunk.leader_epoch
    }

    /// How far its partition is once all of these records are processed.
    pub fn handed(&self) -> HandedOffset {
        HandedOffset {
            partition: self.chunk.partition.clone(),
            offset: self.chunk.next_offset,
            leader_epoch: self.chunk.leader_epoch,
            assignment: self.chunk.assignment,
        }
    }

    /// Whose clock the timestamps are.
    pub fn timestamp_type(&self) -> TimestampType {
        self.chunk.origin.timestamp_type()
    }
}

/// How far a partition is, and under which assignment of it: what to store or commit once the records before are
/// processed. Worth nothing after the partition was given up, even if it has come back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOffset {
    pub(super) partition: TopicPartition,
    pub(super) offset: i64,
    pub(super) leader_epoch: i32,
    pub(super) assignment: u64,
}

impl HandedOffset {
    /// Of its parts, for who kept them elsewhere.
    pub fn new(partition: TopicPartition, offset: i64, leader_epoch: i32, assignment: u64) -> Self {
        HandedOffset {
            partition,
            offset,
            leader_epoch,
            assignment,
        }
    }

    /// What to commit once the records before are processed.
    pub(super) fn processed(&self) -> OffsetAndMetadata {
        OffsetAndMetadata::new(self.offset).leader_epoch(self.leader_epoch)
    }

    /// The partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.partition
    }

    /// The offset of the first record that is not processed.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The number of the assignment, which means nothing but that it is another one after each.
    pub fn assignment(&self) -> u64 {
        self.assignment
    }

    /// The same for the case that only what lies before `offset` is processed.
    #[must_use]
    pub fn before(mut self, offset: i64) -> Self {
        self.offset = self.offset.min(offset);
        self
    }
}

/// The iterator over [`ConsumerRecords`].
#[derive(Debug, Clone)]
pub struct Iter<'a> {
    chunks: std::slice::Iter<'a, Chunk>,
    current: Option<(&'a Chunk, std::iter::Take<RecordIter<'a>>)>,
    left: usize,
}

impl<'a> Iterator for Iter<'a> {
    type Item = ConsumerRecord<'a>;

    #[inline]
    fn next(&mut self) -> Option<ConsumerRecord<'a>> {
        loop {
            if let Some((chunk, records)) = &mut self.current
                && let Some(Ok(record)) = records.next()
            {
                self.left = self.left.saturating_sub(1);
                return Some(ConsumerRecord { record, chunk });
            }
            let chunk = self.chunks.next()?;
            self.current = Some((chunk, chunk.iter()));
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Iter<'_> {}

fn chunk_records(chunk: &Chunk) -> impl Iterator<Item = ConsumerRecord<'_>> {
    chunk
        .iter()
        .filter_map(Result::ok)
        .map(move |record| ConsumerRecord { record, chunk })
}

/// One record, as a view.
#[derive(Debug, Clone, Copy)]
pub struct ConsumerRecord<'a> {
    record: Record<'a>,
    chunk: &'a Chunk,
}

impl<'a> ConsumerRecord<'a> {
    /// The topic.
    pub fn topic(&self) -> &'a str {
        &self.chunk.partition.topic
    }

    /// The partition.
    pub fn partition(&self) -> i32 {
        self.chunk.partition.partition
    }

    /// Topic and partition together.
    pub fn topic_partition(&self) -> &'a TopicPartition {
        &self.chunk.partition
    }

    /// The offset in the partition.
    #[inline]
    pub fn offset(&self) -> i64 {
        self.record.offset
    }

    /// The timestamp in milliseconds since 1970, or -1 for none.
    #[inline]
    pub fn timestamp(&self) -> i64 {
        self.record.timestamp
    }

    /// Whose clock the timestamp is.
    pub fn timestamp_type(&self) -> TimestampType {
        self.chunk.origin.timestamp_type()
    }

    /// The key, if there is one.
    #[inline]
    pub fn key(&self) -> Option<&'a [u8]> {
        self.record.key()
    }

    /// The value; `None` is a tombstone on a compacted topic.
    #[inline]
    pub fn value(&self) -> Option<&'a [u8]> {
        self.record.value()
    }

    /// The headers in order, read when asked for. A key that is not UTF-8 ends them with an error.
    pub fn headers(&self) -> Headers<'a> {
        self.record.headers()
    }

    /// The headers as they are in the record, whose keys may not be UTF-8.
    pub fn raw_headers(&self) -> RawHeaders<'a> {
        self.record.raw_headers()
    }

    /// The leader epoch in which the record was appended; -1 if the broker did not say.
    pub fn leader_epoch(&self) -> i32 {
        self.chunk.leader_epoch
    }

    /// A copy that keeps no buffer alive. Headers after one with a key that is not UTF-8 are left out.
    #[allow(clippy::should_implement_trait, clippy::wrong_self_convention)]
    pub fn to_owned(&self) -> OwnedRecord {
        let header = |header: ottla_protocol::records::Header<'_>| OwnedHeader {
            key: header.key.into(),
            value: header.value.map(Bytes::copy_from_slice),
        };
        OwnedRecord {
            topic: self.chunk.partition.topic.clone(),
            partition: self.partition(),
            offset: self.offset(),
            timestamp: self.timestamp(),
            timestamp_type: self.timestamp_type(),
            key: self.key().map(Bytes::copy_from_slice),
            value: self.value().map(Bytes::copy_from_slice),
            headers: self.headers().map_while(Result::ok).map(header).collect(),
        }
    }
}

/// A record of its own.
#[derive(Debug, Clone, PartialEq)]
pub struct OwnedRecord {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset in the partition.
    pub offset: i64,
    /// The timestamp in milliseconds since 1970, or -1 for none.
    pub timestamp: i64,
    /// Whose clock the timestamp is.
    pub timestamp_type: TimestampType,
    /// The key, if there is one.
    pub key: Option<Bytes>,
    /// The value; `None` is a tombstone on a compacted topic.
    pub value: Option<Bytes>,
    /// The headers in order.
    pub headers: Vec<OwnedHeader>,
}

/// A header of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnedHeader {
    /// The key.
    pub key: String,
    /// The value, if it is not null.
    pub value: Option<Bytes>,
}
