//! The metadata quorum: one ordered, durable log of metadata records, and the image they add up to.
//!
//! In: metadata records that the controller has decided upon. Out: their offset once they are committed, a new
//! [`ClusterImage`], and the list of changes for each [`MetadataSubscriber`], in the order of the log.
//!
//! There is one voter, so a record is committed when it is on the disk. The log is `__cluster_metadata-0` in the data
//! directory, in Kafka's own format: one record batch for each proposal, its values framed as KIP-595 and KIP-631 say,
//! and a leader change record at the head of each epoch. Every start is a new epoch. The log is never cut: it is replayed
//! whole at the start.
//!
//! What a quorum of three would change stays behind [`Quorum::turn`] and [`Turn::commit`].

use crate::broker::now_ms;
use crate::log::{AppendError, Log, ReadError};
use arc_swap::ArcSwap;
use ottla_broker_state::controller::{Change, ClusterImage, ImageError};
use ottla_protocol::internal::leader_change_message::{LeaderChangeMessage, Voter};
use ottla_protocol::internal::metadata::{self, MetadataRecord};
use ottla_protocol::records::{
    Compression, Decompressor, NO_PRODUCER_EPOCH, NO_PRODUCER_ID, NO_SEQUENCE, RecordBatch, RecordBatchBuilder,
    RecordBatches, RecordError,
};
use ottla_protocol::{DecodeError, EncodeError, ErrorCode, Message, Writer};
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::OwnedMutexGuard;

/// Bytes read at a time while the log is replayed.
const REPLAY_BYTES: usize = 1 << 20;
/// The most a batch of metadata may unfold to. We write none compressed.
const BATCH_BYTES_MAX: usize = 64 << 20;
/// The type of the control record that begins an epoch, and its version.
const LEADER_CHANGE: i16 = 2;
const LEADER_CHANGE_VERSION: i16 = 0;

/// What one commit did.
#[derive(Debug, Clone)]
pub struct MetadataUpdate {
    /// The cluster afterwards.
    pub image: Arc<ClusterImage>,
    /// What each record changed, in their order.
    pub changes: Vec<Change>,
}

/// Somebody who acts upon changes of the metadata.
///
/// Called in the order of the log, on a thread that may block, *before* the new image is published: whoever finds a topic
/// in the image finds its partitions at work.
pub trait MetadataSubscriber: Send + Sync {
    /// Acts upon one commit. What fails is the subscriber's to report: the metadata stand.
    fn metadata_changed(&self, update: &MetadataUpdate);
}

/// Why metadata cannot be read or written.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum QuorumError {
    /// The log cannot be written. The broker cannot change metadata until it is started again.
    #[error("the metadata log cannot be written: {0}")]
    Append(#[from] AppendError),
    /// The log cannot be read.
    #[error("the metadata log cannot be read: {0}")]
    Read(#[from] ReadError),
    /// A batch of the log is damaged.
    #[error("the metadata log is damaged at offset {offset}: {error}")]
    Batch {
        /// Where.
        offset: i64,
        /// How.
        error: RecordError,
    },
    /// A record of the log is not a metadata record that this version knows.
    #[error("the metadata log has an unknown record at offset {offset}: {error}")]
    Decode {
        /// Where.
        offset: i64,
        /// What.
        error: DecodeError,
    },
    /// A record contradicts those before it.
    #[error("the metadata record at offset {offset} cannot be applied: {error}")]
    Apply {
        /// Where, or where it would have been.
        offset: i64,
        /// Why.
        error: ImageError,
    },
    /// A record cannot be written in the version of this cluster.
    #[error("a metadata record cannot be encoded: {0}")]
    Encode(#[from] EncodeError),
    /// A batch cannot be made of the records.
    #[error("a metadata batch cannot be made: {0}")]
    Build(#[from] RecordError),
    /// The process is about to end.
    #[error("the broker is shutting down")]
    Stopping,
}

impl QuorumError {
    /// The code for a response.
    pub fn code(&self) -> ErrorCode {
        match self {
            QuorumError::Append(_) | QuorumError::Read(_) => ErrorCode::KafkaStorageError,
            QuorumError::Stopping => ErrorCode::NotController,
            _ => ErrorCode::UnknownServerError,
        }
    }
}

/// The metadata log and what it says. See the head of this file.
pub struct Quorum {
    log: Arc<Log>,
    epoch: i32,
    image: ArcSwap<ClusterImage>,
    subscribers: Mutex<Vec<Arc<dyn MetadataSubscriber>>>,
    /// Held from a decision to its commit, so that each is made upon the one before.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl fmt::Debug for Quorum {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Quorum")
            .field("epoch", &self.epoch)
            .field("offset", &self.image.load().offset())
            .finish_non_exhaustive()
    }
}

impl Quorum {
    /// Replays `log` and begins a new epoch with this node as its leader. Blocks on the disk.
    ///
    /// # Errors
    /// The log cannot be read or written, or holds what this version does not understand.
    pub fn open(log: Arc<Log>, cluster_id: &str, node_id: i32) -> Result<Arc<Quorum>, QuorumError> {
        let mut image = replay(&log, cluster_id)?;
        let epoch = log.latest_epoch().unwrap_or(0).saturating_add(1);
        let now_ms = now_ms();
        log.append_durably(&leader_change_batch(node_id, now_ms)?, epoch, now_ms)?;
        image.advance_to(log.log_end_offset());
        Ok(Arc::new(Quorum {
            log,
            epoch,
            image: ArcSwap::from_pointee(image),
            subscribers: Mutex::default(),
            turn: Arc::default(),
        }))
    }

    /// The cluster as it is committed now.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.image.load_full()
    }

    /// The epoch of this leader; that of the controller in Kafka's words.
    pub fn epoch(&self) -> i32 {
        self.epoch
    }

    /// Adds a subscriber. It hears of commits from now on; what is there already it finds in [`Quorum::image`].
    pub fn subscribe(&self, subscriber: Arc<dyn MetadataSubscriber>) {
        self.subscribers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(subscriber);
    }

    /// Waits until nobody else decides. The image does not change while the turn is held.
    pub async fn turn(self: &Arc<Self>) -> Turn {
        let guard = self.turn.clone().lock_owned().await;
        Turn {
            quorum: self.clone(),
            guard,
        }
    }

    fn commit(
        &self,
        mut image: ClusterImage,
        changes: Vec<Change>,
        batch: &[u8],
        now_ms: i64,
    ) -> Result<i64, QuorumError> {
        let info = self.log.append_durably(batch, self.epoch, now_ms)?;
        image.advance_to(info.last_offset + 1);
        let update = MetadataUpdate {
            image: Arc::new(image),
            changes,
        };
        let subscribers = self.subscribers.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for subscriber in subscribers {
            subscriber.metadata_changed(&update);
        }
        self.image.store(update.image);
        Ok(info.last_offset)
    }
}

/// The right to decide next. Given back when it is dropped or its commit is done.
#[derive(Debug)]
pub struct Turn {
    quorum: Arc<Quorum>,
    guard: OwnedMutexGuard<()>,
}

impl Turn {
    /// The cluster to decide upon.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.quorum.image()
    }

    /// The offset that the first record of the next commit gets.
    pub fn next_offset(&self) -> i64 {
        self.quorum.log.log_end_offset()
    }

    /// Commits `records` as one batch, all or nothing, and returns the offset of the last.
    ///
    /// When this returns they are on the disk, applied, and acted upon by all subscribers.
    ///
    /// # Dangers
    /// - Dropping the future does not take the records back, nor does the turn pass on before they are committed.
    ///
    /// # Errors
    /// Nothing was committed; except after [`QuorumError::Append`], where it is unknown until the next start.
    pub async fn commit(self, records: &[MetadataRecord<'_>]) -> Result<i64, QuorumError> {
        if records.is_empty() {
            return Ok(self.image().offset());
        }
        // Applied to a copy first: what would not apply must never reach the log.
        let mut image = ClusterImage::clone(&self.image());
        let mut changes = Vec::with_capacity(records.len());
        for (offset, record) in (self.next_offset()..).zip(records) {
            image
                .apply(record, &mut changes)
                .map_err(|error| QuorumError::Apply { offset, error })?;
        }
        let now_ms = now_ms();
        let batch = batch_of(records, now_ms)?;
        let Turn { quorum, guard } = self;
        let commit = tokio::task::spawn_blocking(move || {
            let result = quorum.commit(image, changes, &batch, now_ms);
            drop(guard);
            result
        });
        commit.await.unwrap_or(Err(QuorumError::Stopping))
    }
}

fn batch_of(records: &[MetadataRecord<'_>], now_ms: i64) -> Result<Vec<u8>, QuorumError> {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for record in records {
        let value = metadata::encode(record, record.max_version())?;
        builder.append(now_ms, None, Some(&value), &[])?;
    }
    let mut batch = builder.seal(Compression::None, None)?;
    batch.stamp(NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE, false);
    Ok(batch.to_vec())
}

fn leader_change_batch(node_id: i32, now_ms: i64) -> Result<Vec<u8>, QuorumError> {
    let voter = || {
        vec![Voter {
            voter_id: node_id,
            ..Voter::default()
        }]
    };
    let message = LeaderChangeMessage {
        version: LEADER_CHANGE_VERSION,
        leader_id: node_id,
        voters: voter(),
        granting_voters: voter(),
    };
    let mut key = Writer::new();
    // The version of the key, then the type.
    key.i16(0).i16(LEADER_CHANGE);
    let mut value = Writer::new();
    message.encode(&mut value, LEADER_CHANGE_VERSION);
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append(now_ms, Some(&key.into_vec()?), Some(&value.into_vec()?), &[])?;
    let mut batch = builder.seal(Compression::None, None)?;
    batch.mark_control();
    batch.stamp(NO_PRODUCER_ID, NO_PRODUCER_EPOCH, NO_SEQUENCE, false);
    Ok(batch.to_vec())
}

fn replay(log: &Log, cluster_id: &str) -> Result<ClusterImage, QuorumError> {
    let mut image = ClusterImage::new(cluster_id);
    let mut scratch = Decompressor::new();
    let end = log.log_end_offset();
    let mut offset = log.log_start_offset();
    while offset < end {
        let slice = log.read(offset, REPLAY_BYTES, end, true)?;
        for run in &slice.batches {
            for batch in RecordBatches::new(run) {
                let batch = batch.map_err(|error| QuorumError::Batch { offset, error })?;
                replay_batch(&batch, &mut image, &mut scratch)?;
                offset = batch.next_offset();
            }
        }
        if slice.batches.is_empty() {
            break;
        }
    }
    image.advance_to(end);
    Ok(image)
}

fn replay_batch(
    batch: &RecordBatch<'_>,
    image: &mut ClusterImage,
    scratch: &mut Decompressor,
) -> Result<(), QuorumError> {
    // Control records concern the quorum itself: who led, from where on.
    if batch.is_control() {
        return Ok(());
    }
    let damaged = |error| QuorumError::Batch {
        offset: batch.base_offset(),
        error,
    };
    let mut changes = Vec::new();
    for record in batch.records(scratch, BATCH_BYTES_MAX).map_err(damaged)? {
        let record = record.map_err(damaged)?;
        let offset = record.offset;
        let value = record.value().unwrap_or_default();
        let (record, _) = metadata::decode(value).map_err(|error| QuorumError::Decode { offset, error })?;
        image
            .apply(&record, &mut changes)
            .map_err(|error| QuorumError::Apply { offset, error })?;
        changes.clear();
    }
    Ok(())
}

#[cfg(test)]
mod tests;
