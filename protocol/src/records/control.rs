//! Control records: how a transaction's end is written into a partition.
//!
//! Takes or gives the one record of a control batch. Its key says what it is (version and type, both int16), its
//! value which coordinator says so (version int16, coordinator epoch int32). Readers of a newer version take the
//! fields they know and leave the rest.

use bytes::Bytes;

use super::builder::RecordBatchBuilder;
use super::compression::Compression;
use super::iter::Record;
use super::sealed::SealedBatch;
use super::{NO_SEQUENCE, RecordError, field};

/// The version that is written, of key and value.
const VERSION: i16 = 0;
const ABORT: i16 = 0;
const COMMIT: i16 = 1;
const KEY_LEN: usize = 4;
const VALUE_LEN: usize = 6;

/// What a control record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ControlRecord {
    /// A transaction ended in this partition.
    EndTransaction(EndTransactionMarker),
    /// A type that is not about transactions: Kafka's metadata quorum writes such, and readers skip them.
    Other {
        /// The type's number.
        control_type: i16,
    },
}

/// The end of one transaction of the batch's producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndTransactionMarker {
    /// Whether the transaction was committed; else it was aborted.
    pub committed: bool,
    /// The epoch of the transaction coordinator that ended it. A marker of an older epoch is not to be written.
    pub coordinator_epoch: i32,
}

impl ControlRecord {
    /// Reads the record of a control batch.
    ///
    /// # Errors
    /// [`RecordError::InvalidControlRecord`] if key or value is missing, too short or of a negative version.
    pub fn read(record: &Record<'_>) -> Result<ControlRecord, RecordError> {
        let key = record
            .key()
            .filter(|key| key.len() >= KEY_LEN)
            .ok_or(RecordError::InvalidControlRecord)?;
        if i16::from_be_bytes(field(key, 0)) < 0 {
            return Err(RecordError::InvalidControlRecord);
        }
        let control_type = i16::from_be_bytes(field(key, 2));
        if control_type != COMMIT && control_type != ABORT {
            return Ok(ControlRecord::Other { control_type });
        }
        let value = record.value().filter(|value| value.len() >= VALUE_LEN);
        let value = value.ok_or(RecordError::InvalidControlRecord)?;
        if i16::from_be_bytes(field(value, 0)) < 0 {
            return Err(RecordError::InvalidControlRecord);
        }
        let coordinator_epoch = i32::from_be_bytes(field(value, 2));
        Ok(ControlRecord::EndTransaction(EndTransactionMarker {
            committed: control_type == COMMIT,
            coordinator_epoch,
        }))
    }
}

impl EndTransactionMarker {
    /// The record's key.
    pub fn key(&self) -> [u8; KEY_LEN] {
        let [v0, v1] = VERSION.to_be_bytes();
        let [t0, t1] = if self.committed { COMMIT } else { ABORT }.to_be_bytes();
        [v0, v1, t0, t1]
    }

    /// The record's value.
    pub fn value(&self) -> [u8; VALUE_LEN] {
        let [v0, v1] = VERSION.to_be_bytes();
        let [e0, e1, e2, e3] = self.coordinator_epoch.to_be_bytes();
        [v0, v1, e0, e1, e2, e3]
    }

    /// The control batch that a partition leader appends for a producer's transaction.
    ///
    /// It has no sequence: markers are no records of the producer's. Base offset and leader epoch are set by the
    /// append.
    ///
    /// # Errors
    /// [`RecordError::NegativeTimestamp`].
    pub fn batch(&self, producer_id: i64, producer_epoch: i16, timestamp_ms: i64) -> Result<SealedBatch, RecordError> {
        let mut builder = RecordBatchBuilder::new(Vec::with_capacity(32));
        builder.append(timestamp_ms, Some(&self.key()), Some(&self.value()), &[])?;
        let mut batch = builder.seal_with(Compression::None, None, Bytes::from)?;
        batch.mark_control();
        batch.stamp(producer_id, producer_epoch, NO_SEQUENCE, true);
        Ok(batch)
    }
}
