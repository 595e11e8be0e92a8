//! Records on their way in, and what names and describes them.
//!
//! A [`Record`] borrows what the application has; its bytes are copied once, into the batch. What comes out of a
//! consumer is in [`crate::ConsumerRecords`].

use std::sync::Arc;

use bytes::Bytes;
pub use ottla_client_state::TopicPartition;
pub use ottla_protocol::records::{Header, Headers, RawHeaders, TimestampType};

/// One record to be sent.
///
/// ```
/// use ottla::Record;
/// let record = Record::to("gpsraw").key(b"truck-7").value("{\"lat\":48.1}").header("source", b"demo");
/// assert_eq!(record.topic(), "gpsraw");
/// assert_eq!(record.get_key(), Some(&b"truck-7"[..]));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Record<'a> {
    pub(crate) topic: &'a str,
    pub(crate) partition: Option<i32>,
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<Value<'a>>,
    pub(crate) headers: Vec<Header<'a>>,
}

/// A value, borrowed or given away.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Borrowed(&'a [u8]),
    Owned(Bytes),
}

impl Value<'_> {
    pub(crate) fn as_slice(&self) -> &[u8] {
        match self {
            Value::Borrowed(bytes) => bytes,
            Value::Owned(bytes) => bytes,
        }
    }
}

impl<'a> Record<'a> {
    /// A record for `topic`, without key and value. A record without a value is a tombstone on a compacted topic.
    pub fn to(topic: &'a str) -> Self {
        Record {
            topic,
            partition: None,
            timestamp: None,
            key: None,
            value: None,
            headers: Vec::new(),
        }
    }

    /// The key. Records with equal keys go to the same partition, as the Java client places them.
    #[must_use]
    pub fn key<K: AsRef<[u8]> + ?Sized>(mut self, key: &'a K) -> Self {
        self.key = Some(key.as_ref());
        self
    }

    /// The value; it is copied when the record is sent.
    #[must_use]
    pub fn value<V: AsRef<[u8]> + ?Sized>(mut self, value: &'a V) -> Self {
        self.value = Some(Value::Borrowed(value.as_ref()));
        self
    }

    /// The value, given away, for callers who have it as [`Bytes`] and would rather not borrow it. It is copied into its
    /// batch like a borrowed one.
    #[must_use]
    pub fn value_owned(mut self, value: impl Into<Bytes>) -> Self {
        self.value = Some(Value::Owned(value.into()));
        self
    }

    /// The partition, instead of the partitioner's choice.
    #[must_use]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// The timestamp in milliseconds since 1970, instead of the time of sending, which is read from the system's coarse
    /// clock: up to one tick of the kernel (at most 10 ms) behind.
    #[must_use]
    pub fn timestamp(mut self, ms: i64) -> Self {
        self.timestamp = Some(ms);
        self
    }

    /// Adds a header. Headers are an ordered list; a key may occur more than once.
    #[must_use]
    pub fn header<V: AsRef<[u8]> + ?Sized>(mut self, key: &'a str, value: &'a V) -> Self {
        self.headers.push(Header {
            key,
            value: Some(value.as_ref()),
        });
        self
    }

    /// Adds a header whose value is null.
    #[must_use]
    pub fn null_header(mut self, key: &'a str) -> Self {
        self.headers.push(Header { key, value: None });
        self
    }

    /// The topic that the record goes to.
    pub fn topic(&self) -> &'a str {
        self.topic
    }

    /// The partition, if one was asked for.
    pub fn get_partition(&self) -> Option<i32> {
        self.partition
    }

    /// The timestamp in milliseconds since 1970, if one was given.
    pub fn get_timestamp(&self) -> Option<i64> {
        self.timestamp
    }

    /// The key, if it has one.
    pub fn get_key(&self) -> Option<&'a [u8]> {
        self.key
    }

    /// The value, if it has one.
    pub fn get_value(&self) -> Option<&[u8]> {
        self.value.as_ref().map(Value::as_slice)
    }

    /// The headers in order.
    pub fn get_headers(&self) -> &[Header<'a>] {
        &self.headers
    }
}

/// Where a record was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset; `None` when the broker does not tell (acks=0).
    pub offset: Option<i64>,
    /// The timestamp in milliseconds since 1970: the record's own, or the broker's if the topic has
    /// `message.timestamp.type=LogAppendTime`.
    pub timestamp: i64,
}

impl RecordMetadata {
    /// Topic and partition together.
    pub fn topic_partition(&self) -> TopicPartition {
        TopicPartition {
            topic: self.topic.clone(),
            partition: self.partition,
        }
    }
}
