//! Records that a consumer handed over, by number.

use std::ffi::{CString, c_char};
use std::ptr;
use std::sync::Arc;

use ottla_bindings_core::{Batch, Error, HandedOffset, RecordView, TimestampType};

use crate::border::{c_string, ffi, view};
use crate::error::ottla_error;
use crate::{ottla_bytes, ottla_header, ottla_topic_partition};

/// Records of one poll, in the order of their offsets within each partition. A plain pointer: whoever got it frees it once
/// with ottla_batch_free(), and it may be read from any number of threads until then, also after the consumer is gone.
pub struct ottla_batch {
    records: Arc<Batch>,
    topics: Vec<CString>,
    /// For each run of records the number of its topic.
    topic_of_run: Vec<usize>,
}

/// Whose clock a record's timestamp is.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ottla_timestamp_type {
    /// The producer's.
    OTTLA_TIMESTAMP_CREATE_TIME = 0,
    /// The broker's.
    OTTLA_TIMESTAMP_LOG_APPEND_TIME = 1,
}

/// A record that was received. Everything it points to lives as long as its batch. Begin with OTTLA_MESSAGE_INIT.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
pub struct ottla_message {
    /// sizeof(ottla_message), set by the caller.
    pub struct_size: usize,
    /// The topic.
    pub topic: *const c_char,
    /// The key, or null.
    pub key: ottla_bytes,
    /// The value, or null: a tombstone on a compacted topic.
    pub value: ottla_bytes,
    /// The offset in the partition.
    pub offset: i64,
    /// Milliseconds since 1970, or -1 for none.
    pub timestamp_ms: i64,
    /// How many headers; see ottla_batch_headers().
    pub header_count: usize,
    /// The partition.
    pub partition: i32,
    /// Whose clock the timestamp is.
    pub timestamp_type: ottla_timestamp_type,
    /// The leader epoch in which it was appended, or -1 if the broker did not say.
    pub leader_epoch: i32,
}

impl From<Arc<Batch>> for ottla_batch {
    fn from(records: Arc<Batch>) -> Self {
        let mut topics: Vec<CString> = Vec::new();
        let topic_of_run = records
            .runs()
            .map(|(partition, _)| {
                let name = partition.topic.as_bytes();
                let known = topics.iter().rposition(|topic| topic.as_bytes() == name);
                known.unwrap_or_else(|| {
                    topics.push(c_string(&partition.topic));
                    topics.len() - 1
                })
            })
            .collect();
        ottla_batch {
            records,
            topics,
            topic_of_run,
        }
    }
}

impl ottla_batch {
    /// How far the partitions are once the first `count` records are processed.
    pub(crate) fn handed(&self, count: usize) -> Vec<HandedOffset> {
        self.records.handed(0..count.min(self.records.len()))
    }

    #[inline]
    fn record(&self, index: usize) -> Result<RecordView<'_>, Error> {
        self.records.get(index).ok_or_else(|| self.no_record(index))
    }

    #[cold]
    fn no_record(&self, index: usize) -> Error {
        Error::argument(format!(
            "there is no record {index}: the batch has {}",
            self.records.len()
        ))
    }

    #[inline]
    fn message(&self, record: &RecordView<'_>, struct_size: usize) -> ottla_message {
        ottla_message {
            struct_size,
            topic: self.topic(record),
            key: view(record.key()),
            value: view(record.value()),
            offset: record.offset(),
            timestamp_ms: record.timestamp(),
            header_count: record.header_count(),
            partition: record.topic_partition().partition,
            timestamp_type: match record.timestamp_type() {
                TimestampType::LogAppendTime => ottla_timestamp_type::OTTLA_TIMESTAMP_LOG_APPEND_TIME,
                _ => ottla_timestamp_type::OTTLA_TIMESTAMP_CREATE_TIME,
            },
            leader_epoch: record.leader_epoch(),
        }
    }

    #[inline]
    fn topic(&self, record: &RecordView<'_>) -> *const c_char {
        let topic = self
            .topic_of_run
            .get(record.run())
            .and_then(|number| self.topics.get(*number));
        topic.map_or(ptr::null(), |topic| topic.as_ptr())
    }
}

/// How many records a batch has. 0 for NULL.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_batch_len(batch: *const ottla_batch) -> usize {
    // SAFETY: the header's first rule: NULL, or a batch that was not freed.
    unsafe { batch.as_ref() }.map_or(0, |batch| batch.records.len())
}

/// Reads record number `index`, from 0.
///
/// Ownership: what `*message` points to lives as long as the batch; nothing is copied.
/// Errors: OTTLA_ERROR_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_batch_get(
    batch: *const ottla_batch,
    index: usize,
    message: *mut ottla_message,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let batch = given.read(batch, "batch")?;
        let size = given.size_of(message, "message")?;
        let record = batch.record(index)?;
        given.write_sized(message, size, || batch.message(&record, size));
        Ok(())
    })
}

/// Reads records in a row, the first of them number `first`, from 0: at most `capacity` of them into `messages`. What a call
/// costs is paid once for all of them, which counts where calls are dear (from Go, PHP, Lua) or records are small.
///
/// `messages[0].struct_size` is the size of each; OTTLA_MESSAGE_INIT sets it. `*count` is how many were read: fewer than
/// `capacity` only at the end of the batch, 0 when `first` is its length.
///
/// Ownership: as ottla_batch_get(). Errors: OTTLA_ERROR_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_batch_messages(
    batch: *const ottla_batch,
    first: usize,
    messages: *mut ottla_message,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let batch = given.read(batch, "batch")?;
        let count = given.out(count, "count")?;
        let size = match capacity {
            0 => 0,
            _ => given.size_of(messages, "messages")?,
        };
        let records = batch.records.range(first..first.saturating_add(capacity));
        let records = records.ok_or_else(|| batch.no_record(first))?;
        let mut at = messages;
        *count = records.len();
        for record in records {
            given.write_sized(at, size, || batch.message(&record, size));
            at = at.wrapping_byte_add(size);
        }
        Ok(())
    })
}

/// Reads the headers of record number `index` in their order: at most `capacity` of them into `headers`.
///
/// `*count` is how many were written: fewer than the message's `header_count` if the capacity is less, or if one has a key
/// that is not UTF-8, which ends the list.
/// Ownership: as ottla_batch_get(). Errors: OTTLA_ERROR_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_batch_headers(
    batch: *const ottla_batch,
    index: usize,
    headers: *mut ottla_header,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let batch = given.read(batch, "batch")?;
        let count = given.out(count, "count")?;
        let record = batch.record(index)?;
        let places = given.array_out(headers, capacity, "headers")?;
        let mut written = 0;
        for (place, header) in places.iter_mut().zip(record.headers()) {
            *place = ottla_header {
                key: view(Some(header.key.as_bytes())),
                value: view(header.value),
            };
            written += 1;
        }
        *count = written;
        Ok(())
    })
}

/// For each partition in the batch the offset after its last record: where to go on, and what to store where a program keeps
/// its offsets itself. At most `capacity` of them into `partitions` and `offsets`.
///
/// `*count` is how many partitions the batch has, which may be more than `capacity`.
/// Ownership: the names in `partitions` live as long as the batch. Errors: OTTLA_ERROR_ARGUMENT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_batch_next_offsets(
    batch: *const ottla_batch,
    partitions: *mut ottla_topic_partition,
    offsets: *mut i64,
    capacity: usize,
    count: *mut usize,
    error: *mut *mut ottla_error,
) -> i32 {
    ffi!(error, |given| {
        let batch = given.read(batch, "batch")?;
        let count = given.out(count, "count")?;
        let partitions = given.array_out(partitions, capacity, "partitions")?;
        let offsets = given.array_out(offsets, capacity, "offsets")?;
        let next = batch.records.next_offsets();
        for ((partition, offset), (known, after)) in partitions.iter_mut().zip(offsets).zip(&next) {
            let topic = batch
                .topics
                .iter()
                .find(|topic| topic.as_bytes() == known.topic.as_bytes());
            *partition = ottla_topic_partition {
                topic: topic.map_or(ptr::null(), |topic| topic.as_ptr()),
                partition: known.partition,
            };
            *offset = *after;
        }
        *count = next.len();
        Ok(())
    })
}

/// Frees a batch. NULL is allowed.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn ottla_batch_free(batch: *mut ottla_batch) {
    if !batch.is_null() {
        // SAFETY: `ottla_consumer_poll` made it with `Box::into_raw`, and the caller frees it once.
        drop(unsafe { Box::from_raw(batch) });
    }
}
