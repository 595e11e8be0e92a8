//! What can go wrong in a log, each with the error code that a client sees.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use ottla_broker_state::producers::ProducerError;
use ottla_protocol::ErrorCode;
use ottla_protocol::records::RecordError;

/// A failed disk operation. The data directory it happened in is offline from then on (KAFKA_STORAGE_ERROR).
#[derive(Debug, Clone)]
pub struct StorageError {
    action: &'static str,
    path: PathBuf,
    cause: Arc<io::Error>,
}

impl StorageError {
    /// Says that `action` ("write", "fsync", ...) failed on `path`.
    pub fn new(action: &'static str, path: &Path, cause: io::Error) -> StorageError {
        StorageError {
            action,
            path: path.to_owned(),
            cause: Arc::new(cause),
        }
    }

    /// The error of an operation on a directory that went offline before.
    pub(super) fn offline(path: &Path) -> StorageError {
        StorageError::new("use", path, io::Error::other("the data directory is offline"))
    }

    /// The kind of the operating system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.cause.kind()
    }
}

impl fmt::Display for StorageError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "cannot {} {}: {}",
            self.action,
            self.path.display(),
            self.cause
        )
    }
}

impl std::error::Error for StorageError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}

/// Attaches what was attempted to an error of the disk.
pub(super) trait Attempt<T> {
    /// Names the action and the path.
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, StorageError>;
}

impl<T> Attempt<T> for io::Result<T> {
    fn attempt(self, action: &'static str, path: &Path) -> Result<T, StorageError> {
        self.map_err(|cause| StorageError::new(action, path, cause))
    }
}

/// One record that made its batch be refused, as Produce v8+ reports it (KIP-467).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RefusedRecord {
    /// Position of the record in its batch, from 0.
    pub batch_index: u32,
    /// Why, for people.
    pub message: String,
}

/// Why an append was refused. Nothing of it is in the log, except after [`AppendError::Storage`], where it is unknown.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// INVALID_RECORD: the batch breaks a rule of the format or of the topic.
    #[error("{0}")]
    InvalidRecord(String),
    /// INVALID_RECORD for the records listed.
    #[error("{} of the batch's records are invalid", .0.len())]
    InvalidRecords(Vec<RefusedRecord>),
    /// INVALID_TIMESTAMP for the records listed.
    #[error("{} of the batch's records have an invalid timestamp", .0.len())]
    InvalidTimestamp(Vec<RefusedRecord>),
    /// CORRUPT_MESSAGE: checksum, length or compressed data are damaged.
    #[error("the batch is damaged: {0}")]
    Corrupt(RecordError),
    /// UNSUPPORTED_COMPRESSION_TYPE: this build was made without the codec.
    #[error("{0}")]
    UnsupportedCompression(RecordError),
    /// MESSAGE_TOO_LARGE: the batch exceeds `max.message.bytes`.
    #[error("the batch has {size} bytes, but max.message.bytes is {limit}")]
    TooLarge {
        /// Bytes of the batch.
        size: usize,
        /// The limit in force.
        limit: usize,
    },
    /// RECORD_LIST_TOO_LARGE: the batch exceeds a whole segment.
    #[error("the batch has {size} bytes, but segment.bytes is {limit}")]
    LargerThanSegment {
        /// Bytes of the batch.
        size: usize,
        /// The limit in force.
        limit: usize,
    },
    /// INVALID_PRODUCER_EPOCH, OUT_OF_ORDER_SEQUENCE_NUMBER or INVALID_TXN_STATE.
    #[error("{0}")]
    Producer(#[from] ProducerError),
    /// INVALID_TXN_STATE: a transactional batch, while the broker has no transactions.
    #[error("the batch belongs to a transaction, which this broker does not know")]
    Transactional,
    /// FENCED_LEADER_EPOCH: the appender's leader epoch is older than one already in the log.
    #[error("leader epoch {given} is older than {latest}, which is in the log")]
    FencedLeaderEpoch {
        /// The epoch given.
        given: i32,
        /// The latest in the log.
        latest: i32,
    },
    /// A replicated batch does not continue the log. The follower truncates and fetches again.
    #[error("the batch starts at offset {found}, but the log ends at {log_end_offset}")]
    UnexpectedOffset {
        /// Base offset of the first batch that does not fit.
        found: i64,
        /// The log end offset.
        log_end_offset: i64,
    },
    /// KAFKA_STORAGE_ERROR.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl AppendError {
    /// The code for the response.
    pub fn code(&self) -> ErrorCode {
        match self {
            AppendError::InvalidRecord(_) | AppendError::InvalidRecords(_) => ErrorCode::InvalidRecord,
            AppendError::InvalidTimestamp(_) => ErrorCode::InvalidTimestamp,
            AppendError::Corrupt(_) => ErrorCode::CorruptMessage,
            AppendError::UnsupportedCompression(_) => ErrorCode::UnsupportedCompressionType,
            AppendError::TooLarge { .. } => ErrorCode::MessageTooLarge,
            AppendError::LargerThanSegment { .. } => ErrorCode::RecordListTooLarge,
            AppendError::Producer(ProducerError::InvalidProducerEpoch { .. }) => ErrorCode::InvalidProducerEpoch,
            AppendError::Producer(ProducerError::OutOfOrderSequence { .. }) => ErrorCode::OutOfOrderSequenceNumber,
            AppendError::Producer(ProducerError::InvalidTxnState { .. }) | AppendError::Transactional => {
                ErrorCode::InvalidTxnState
            }
            AppendError::FencedLeaderEpoch { .. } => ErrorCode::FencedLeaderEpoch,
            AppendError::UnexpectedOffset { .. } => ErrorCode::UnknownServerError,
            AppendError::Storage(_) => ErrorCode::KafkaStorageError,
        }
    }

    /// The records to blame, where the rule is one of records.
    pub fn refused_records(&self) -> &[RefusedRecord] {
        match self {
            AppendError::InvalidRecords(records) | AppendError::InvalidTimestamp(records) => records,
            _ => &[],
        }
    }
}

/// Why nothing could be read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// OFFSET_OUT_OF_RANGE: the log has no such offset (any more, or yet).
    #[error("offset {offset} is not within {log_start_offset}..={log_end_offset}")]
    OffsetOutOfRange {
        /// The offset asked for.
        offset: i64,
        /// First offset of the log.
        log_start_offset: i64,
        /// First offset after the log.
        log_end_offset: i64,
    },
    /// CORRUPT_MESSAGE: the bytes on disk at this place are not the batch that was written there.
    #[error("damaged bytes at position {position} of {}, expected offset {offset}", path.display())]
    Corrupt {
        /// The offset wanted.
        offset: i64,
        /// Position in the file.
        position: u64,
        /// The segment's file.
        path: PathBuf,
    },
    /// KAFKA_STORAGE_ERROR.
    #[error(transparent)]
    Storage(#[from] StorageError),
}

impl ReadError {
    /// The code for the response.
    pub fn code(&self) -> ErrorCode {
        match self {
            ReadError::OffsetOutOfRange { .. } => ErrorCode::OffsetOutOfRange,
            ReadError::Corrupt { .. } => ErrorCode::CorruptMessage,
            ReadError::Storage(_) => ErrorCode::KafkaStorageError,
        }
    }
}
