//! Leaving records out of a batch, as compaction does.
//!
//! Takes a batch, its records without compression, and which of them stay. Gives the batch that a compacted log keeps
//! in its place: same offsets, sequences, producer and leader epoch, fewer records. Refuses a choice that does not
//! cover all records. It does not know why a record stays or goes.
//!
//! Records are copied byte for byte, as their deltas count from what does not change. Only a delete horizon (KIP-534)
//! takes the place of the base timestamp, and then the timestamp deltas are written anew.

use super::batch::{RecordBatch, TimestampType, patch_crc};
use super::compression::{Compression, Compressor};
use super::{BATCH_HEADER_LEN, BATCH_LENGTH_END, NO_TIMESTAMP, RecordError, RecordFlaw, at, bit, set_field};
use crate::wire::{Reader, Writer};

impl RecordBatch<'_> {
    /// The batch with only those records for which `keep` holds `true`, in order of the records, under the codec of
    /// `compressor`. `records` must be this batch's records without compression.
    ///
    /// `delete_horizon`: the time in milliseconds after which compaction may drop the tombstones or the marker in it;
    /// `None` leaves what the batch says of that. With no record left the batch is [`emptied`](Self::emptied).
    ///
    /// # Errors
    /// Any flaw of a record, what the codec reports, [`RecordError::BatchTooLarge`], and
    /// [`RecordError::InvalidRecordCount`] if `keep` is not as long as the records are many.
    pub fn filtered(
        &self,
        records: &[u8],
        keep: &[bool],
        delete_horizon: Option<i64>,
        compressor: &mut Compressor,
    ) -> Result<Vec<u8>, RecordError> {
        if keep.len() != self.record_count() as usize {
            let count = i32::try_from(keep.len()).unwrap_or(i32::MAX);
            return Err(RecordError::InvalidRecordCount { count });
        }
        let count = keep.iter().filter(|kept| **kept).count();
        if count == 0 {
            return Ok(self.emptied());
        }
        let rebased = delete_horizon.filter(|_| self.timestamp_type() == TimestampType::CreateTime);
        let mut kept = Vec::with_capacity(records.len());
        let mut max_timestamp = NO_TIMESTAMP;
        let mut records = self.iter_over(records);
        for (index, stays) in keep.iter().enumerate() {
            let before = records.remaining_bytes();
            let Some(record) = records.next() else { break };
            let record = record?;
            let raw = before
                .get(..before.len() - records.remaining_bytes().len())
                .unwrap_or_default();
            if !stays {
                continue;
            }
            max_timestamp = max_timestamp.max(record.timestamp);
            match rebased {
                None => kept.extend_from_slice(raw),
                Some(base) => {
                    let rebased = with_timestamp_delta(raw, record.timestamp.wrapping_sub(base));
                    let index = u32::try_from(index).unwrap_or(u32::MAX);
                    kept.extend_from_slice(&rebased.ok_or(RecordError::InvalidRecord {
                        index,
                        flaw: RecordFlaw::Short,
                    })?);
                }
            }
        }
        let mut batch = Vec::with_capacity(BATCH_HEADER_LEN + kept.len());
        batch.extend_from_slice(self.raw().get(..BATCH_HEADER_LEN).unwrap_or_default());
        compressor.compress_into(&kept, &mut batch)?;
        let length = i32::try_from(batch.len() - BATCH_LENGTH_END);
        let length = length.map_err(|_| RecordError::BatchTooLarge { size: batch.len() })?;
        let mut attributes = (self.attributes() & !bit::COMPRESSION) | i16::from(compressor.compression().code());
        if let Some(horizon) = delete_horizon {
            attributes |= bit::DELETE_HORIZON;
            set_field(&mut batch, at::BASE_TIMESTAMP, horizon.to_be_bytes());
        }
        if self.timestamp_type() == TimestampType::CreateTime {
            set_field(&mut batch, at::MAX_TIMESTAMP, max_timestamp.to_be_bytes());
        }
        // The count of `keep` is that of the header, so it fits.
        set_field(&mut batch, at::RECORD_COUNT, (count as i32).to_be_bytes());
        set_field(&mut batch, at::BATCH_LENGTH, length.to_be_bytes());
        set_field(&mut batch, at::ATTRIBUTES, attributes.to_be_bytes());
        patch_crc(&mut batch);
        Ok(batch)
    }

    /// The batch without any record: a header that keeps the offsets, and the sequence and epoch of the producer.
    pub fn emptied(&self) -> Vec<u8> {
        let mut batch = self.raw().get(..BATCH_HEADER_LEN).unwrap_or_default().to_vec();
        let attributes = self.attributes() & !(bit::COMPRESSION | bit::DELETE_HORIZON);
        let attributes = attributes | i16::from(Compression::None.code());
        let length = (BATCH_HEADER_LEN - BATCH_LENGTH_END) as i32;
        set_field(&mut batch, at::BATCH_LENGTH, length.to_be_bytes());
        set_field(&mut batch, at::ATTRIBUTES, attributes.to_be_bytes());
        // No delta counts from it any more.
        set_field(&mut batch, at::BASE_TIMESTAMP, self.max_timestamp().to_be_bytes());
        set_field(&mut batch, at::RECORD_COUNT, 0_i32.to_be_bytes());
        patch_crc(&mut batch);
        batch
    }
}

/// The record in `raw`, with another timestamp delta and hence another length.
fn with_timestamp_delta(raw: &[u8], delta: i64) -> Option<Vec<u8>> {
    let mut fields = Reader::new(raw);
    fields.varint().ok()?;
    let attributes = fields.i8().ok()?;
    fields.varlong().ok()?;
    let rest = fields.rest();
    let mut head = Writer::new();
    head.i8(attributes).varlong(delta);
    let head = head.into_vec().ok()?;
    let mut record = Writer::with_capacity(raw.len() + 10);
    record.varint(i32::try_from(head.len() + rest.len()).ok()?);
    record.raw(&head).raw(rest);
    record.into_vec().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{RecordBatchBuilder, with_compressor, with_decompressor};
    use super::*;

    const HORIZON: i64 = 1_800_000_000_000;

    fn batch(compression: Compression) -> Vec<u8> {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        for (number, timestamp) in [900_i64, -1, 1_000_000_000_000, 7].into_iter().enumerate() {
            let key = [b'a' + number as u8];
            let value = (number != 2).then_some(&b"value"[..]);
            builder.append(timestamp, Some(&key), value, &[]).unwrap();
        }
        let mut sealed = builder.seal(compression, None).unwrap();
        sealed.stamp(77, 3, 20, false);
        let mut bytes = sealed.to_vec();
        super::super::batch::patch_base_offset(&mut bytes, 100);
        bytes
    }

    fn filter(bytes: &[u8], keep: &[bool], horizon: Option<i64>) -> Vec<u8> {
        let (batch, _) = RecordBatch::parse(bytes).unwrap();
        let codec = batch.compression().unwrap();
        with_decompressor(|scratch| {
            let plain = batch.records_bytes(scratch, 1 << 20).unwrap();
            with_compressor(codec, None, |compressor| {
                batch.filtered(plain, keep, horizon, compressor)
            })
            .unwrap()
        })
    }

    fn contents(bytes: &[u8]) -> Vec<(i64, i64, Vec<u8>, bool)> {
        let (batch, rest) = RecordBatch::parse(bytes).unwrap();
        assert!(rest.is_empty());
        batch.verify_crc().unwrap();
        with_decompressor(|scratch| {
            let records = batch.records(scratch, 1 << 20).unwrap();
            let read = records.map(Result::unwrap).map(|record| {
                let key = record.key().unwrap_or_default().to_vec();
                (record.offset, record.timestamp, key, record.value().is_some())
            });
            read.collect()
        })
    }

    #[test]
    fn what_stays_keeps_offset_time_key_and_value_with_every_codec_and_with_a_delete_horizon() {
        for compression in Compression::ALL {
            let before = batch(compression);
            let all = contents(&before);
            for horizon in [None, Some(HORIZON)] {
                for choice in 1..16_u8 {
                    let keep: Vec<bool> = (0..4).map(|bit| choice >> bit & 1 == 1).collect();
                    let after = filter(&before, &keep, horizon);
                    let expected: Vec<_> = all
                        .iter()
                        .zip(&keep)
                        .filter(|(_, kept)| **kept)
                        .map(|(one, _)| one.clone())
                        .collect();
                    assert_eq!(contents(&after), expected, "{compression} {choice:04b} {horizon:?}");
                    let (old, new) = (
                        RecordBatch::parse(&before).unwrap().0,
                        RecordBatch::parse(&after).unwrap().0,
                    );
                    assert_eq!((new.base_offset(), new.last_offset()), (100, 103));
                    assert_eq!((new.base_sequence(), new.last_sequence()), (20, 23));
                    assert_eq!((new.producer_id(), new.producer_epoch()), (77, 3));
                    assert_eq!(new.compression(), old.compression());
                    assert_eq!(new.delete_horizon(), horizon);
                    assert_eq!(new.max_timestamp(), expected.iter().map(|one| one.1).max().unwrap());
                }
            }
        }
    }

    #[test]
    fn a_batch_that_loses_all_its_records_stays_as_a_header_with_its_offsets_and_sequences() {
        let before = batch(Compression::Lz4);
        for after in [
            filter(&before, &[false; 4], Some(5)),
            RecordBatch::parse(&before).unwrap().0.emptied(),
        ] {
            assert_eq!(after.len(), BATCH_HEADER_LEN);
            assert!(contents(&after).is_empty());
            let (batch, _) = RecordBatch::parse(&after).unwrap();
            assert_eq!(
                (batch.base_offset(), batch.last_offset(), batch.last_sequence()),
                (100, 103, 23)
            );
            assert_eq!((batch.record_count(), batch.delete_horizon()), (0, None));
        }
    }

    #[test]
    fn a_horizon_set_once_stays_where_it_is() {
        let first = filter(&batch(Compression::None), &[true; 4], Some(HORIZON));
        let second = filter(&first, &[true, false, true, true], None);
        let (batch, _) = RecordBatch::parse(&second).unwrap();
        assert_eq!(batch.delete_horizon(), Some(HORIZON));
        let times: Vec<i64> = contents(&second).iter().map(|one| one.1).collect();
        assert_eq!(times, [900, 1_000_000_000_000, 7]);
    }

    #[test]
    fn a_choice_that_does_not_fit_the_records_is_refused() {
        let bytes = batch(Compression::None);
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let refused = with_compressor(Compression::None, None, |compressor| {
            batch.filtered(batch.records_raw(), &[true; 3], None, compressor)
        });
        assert_eq!(refused, Err(RecordError::InvalidRecordCount { count: 3 }));
    }
}
