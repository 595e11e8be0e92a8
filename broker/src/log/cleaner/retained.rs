//! What of one batch stays in a compacted log.
//!
//! In: the batch, the last offset of each key, what is known of transactions and producers. Out: the batch stays, goes,
//! or another takes its place. The rules are those of Kafka's cleaner:
//!
//! - A record stays while it is the last of its key, or lies beyond what the key map covers.
//! - A tombstone, or the marker of a transaction without records, gets a delete horizon when it is first met, and goes
//!   when that has passed (KIP-534).
//! - The last batch of each live producer id stays, if need be without records: its sequence and epoch are needed.

use std::collections::HashMap;

use ottla_broker_state::producers::LastRecord;
use ottla_protocol::records::{Compression, RecordBatch, RecordError, with_compressor};

use super::key_map::KeyMap;
use super::transactions::Transactions;
use crate::log::contents::{self, Contents};

/// What becomes of a batch.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Fate {
    /// It stays as it is.
    Stays,
    /// It goes.
    Goes,
    /// This one takes its place.
    Replaced(Vec<u8>),
}

/// What decides.
pub(super) struct Rules<'a> {
    /// The last offset of each key.
    pub keys: &'a KeyMap,
    /// What each producer wrote last.
    pub producers: &'a HashMap<i64, LastRecord>,
    /// Wall time, milliseconds since 1970.
    pub now_ms: i64,
    /// `delete.retention.ms`.
    pub delete_retention_ms: i64,
    /// The most bytes that a batch may unfold to. A larger one stays as it is.
    pub decompressed_bytes_max: usize,
}

impl Rules<'_> {
    /// Judges the next batch. `is_last`: nothing follows it in its group of segments, so that its end must stay.
    ///
    /// # Errors
    /// Its records do not read.
    pub fn judge(
        &self,
        batch: &RecordBatch<'_>,
        transactions: &mut Transactions,
        is_last: bool,
    ) -> Result<Fate, RecordError> {
        let discardable = transactions.may_discard(batch);
        let expired = batch.delete_horizon().is_some_and(|horizon| horizon <= self.now_ms);
        let discarded = discardable && (!batch.is_control() || expired);
        let empty = if is_last || self.is_last_of_producer(batch) {
            Fate::Replaced(batch.emptied())
        } else {
            Fate::Goes
        };
        if batch.record_count() == 0 {
            return Ok(match empty {
                Fate::Goes => Fate::Goes,
                _ => Fate::Stays,
            });
        }
        if discarded {
            return Ok(empty);
        }
        if batch.is_control() {
            return self.with_horizon(batch, discardable);
        }
        let judged = contents::unfold(batch, self.decompressed_bytes_max, |contents| {
            self.judge_records(batch, contents, empty)
        });
        match judged {
            Ok(judged) => judged,
            // Whoever may read it, compaction cannot. Nothing is lost if it stays.
            Err(RecordError::DecompressedTooLarge { .. } | RecordError::CompressionUnavailable { .. }) => {
                Ok(Fate::Stays)
            }
            Err(error) => Err(error),
        }
    }

    fn is_last_of_producer(&self, batch: &RecordBatch<'_>) -> bool {
        self.producers
            .get(&batch.producer_id())
            .is_some_and(|last| match last.data_offset {
                Some(offset) => batch.last_offset() == offset,
                None => batch.is_control() && batch.producer_epoch() == last.epoch,
            })
    }

    fn judge_records(
        &self,
        batch: &RecordBatch<'_>,
        contents: &Contents<'_>,
        empty: Fate,
    ) -> Result<Fate, RecordError> {
        let plain = contents.whole()?;
        let deletes_stay = batch.delete_horizon().is_none_or(|horizon| self.now_ms < horizon);
        let mut keep = Vec::with_capacity((batch.record_count() as usize).min(plain.len()));
        let mut tombstones = false;
        for record in batch.iter_over(&plain) {
            let record = record?;
            let stays = match record.key() {
                _ if record.offset > self.keys.latest_offset() => true,
                // Nobody could ever replace it. Such a record is from before the topic was compacted.
                None => false,
                Some(key) => {
                    let superseded = self.keys.get(key).is_some_and(|last| record.offset < last);
                    !superseded && (record.value().is_some() || deletes_stay)
                }
            };
            tombstones |= stays && record.value().is_none();
            keep.push(stays);
        }
        if !keep.contains(&true) {
            return Ok(empty);
        }
        let horizon = self.new_horizon(batch, tombstones);
        if horizon.is_none() && !keep.contains(&false) {
            return Ok(Fate::Stays);
        }
        replaced(batch, &plain, &keep, horizon)
    }

    /// A control batch, whose records stay. Nobody compresses one.
    fn with_horizon(&self, batch: &RecordBatch<'_>, wanted: bool) -> Result<Fate, RecordError> {
        match self.new_horizon(batch, wanted) {
            Some(horizon) if batch.compression()? == Compression::None => {
                let keep = vec![true; batch.iter_over(batch.records_raw()).count()];
                replaced(batch, batch.records_raw(), &keep, Some(horizon))
            }
            _ => Ok(Fate::Stays),
        }
    }

    fn new_horizon(&self, batch: &RecordBatch<'_>, wanted: bool) -> Option<i64> {
        (wanted && batch.delete_horizon().is_none()).then(|| self.now_ms.saturating_add(self.delete_retention_ms))
    }
}

/// Under the codec that the batch has.
fn replaced(batch: &RecordBatch<'_>, plain: &[u8], keep: &[bool], horizon: Option<i64>) -> Result<Fate, RecordError> {
    with_compressor(batch.compression()?, None, |compressor| {
        batch.filtered(plain, keep, horizon, compressor)
    })
    .map(Fate::Replaced)
}
