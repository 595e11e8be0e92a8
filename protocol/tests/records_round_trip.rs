//! Record batches: what is written is what is read, for every codec and every shape of record.

#![cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use ottla_protocol::records::{
    BATCH_HEADER_LEN, Compression, Compressor, ControlRecord, Decompressor, EndTransactionMarker, Header, Record,
    RecordBatch, RecordBatchBuilder, RecordBatches, RecordError, TimestampType, batch,
};

const NO_LIMIT: usize = usize::MAX;

#[test]
fn a_record_of_every_shape_comes_back_from_every_codec() {
    let many = [
        Header {
            key: "a",
            value: Some(b"1"),
        },
        Header { key: "a", value: None },
        Header {
            key: "",
            value: Some(b""),
        },
    ];
    for compression in Compression::ALL {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        assert_eq!(builder.append(1_000, Some(b"key"), Some(b"value"), &[]), Ok(0));
        assert_eq!(builder.append(900, None, None, &many), Ok(1));
        assert_eq!(builder.append(5_000_000_000, Some(b""), Some(b""), &[]), Ok(2));
        let mut sealed = builder.seal(compression, None).unwrap();
        sealed.stamp(77, 3, 12, true);

        let bytes = sealed.to_vec();
        let (batch, rest) = RecordBatch::parse(&bytes).unwrap();
        assert!(rest.is_empty());
        assert_eq!(batch.verify_crc(), Ok(()));
        assert_eq!(batch.compression(), Ok(compression));
        assert_eq!(
            (batch.producer_id(), batch.producer_epoch(), batch.base_sequence()),
            (77, 3, 12)
        );
        assert_eq!((batch.base_timestamp(), batch.max_timestamp()), (1_000, 5_000_000_000));
        assert_eq!(
            (batch.last_sequence(), batch.record_count(), batch.next_offset()),
            (14, 3, 3)
        );
        assert!(batch.is_transactional() && !batch.is_control());

        let mut scratch = Decompressor::new();
        let records: Vec<_> = batch
            .records(&mut scratch, NO_LIMIT)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(records.len(), 3);
        assert_eq!(
            (records[0].key(), records[0].value()),
            (Some(&b"key"[..]), Some(&b"value"[..]))
        );
        assert_eq!(
            (records[1].key(), records[1].value(), records[1].timestamp),
            (None, None, 900)
        );
        assert_eq!(records[1].headers().map(Result::unwrap).collect::<Vec<_>>(), many);
        assert_eq!((records[2].key(), records[2].value()), (Some(&b""[..]), Some(&b""[..])));
        assert_eq!((records[2].offset, records[2].timestamp), (2, 5_000_000_000));
    }
}

#[test]
fn a_truncated_last_batch_ends_a_run_quietly() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append(1, None, Some(b"x"), &[]).unwrap();
    let one = builder.seal(Compression::None, None).unwrap().to_vec();
    let two = [&one[..], &one[..one.len() - 1]].concat();
    let mut batches = RecordBatches::new(&two);
    assert!(batches.next().unwrap().is_ok());
    assert!(batches.next().is_none());
    assert!(batches.truncated());
}

#[test]
fn appending_within_the_buffer_allocates_nothing() {
    let header = [Header {
        key: "h",
        value: Some(b"v"),
    }];
    let mut buffer = Vec::with_capacity(16 << 10);
    let room = (buffer.as_ptr(), buffer.capacity());
    for _ in 0..3 {
        let mut builder = RecordBatchBuilder::new(buffer);
        let limit = room.1 + BATCH_HEADER_LEN;
        while builder
            .append_within(limit, 5, Some(b"key"), Some(&[7; 93]), &header)
            .unwrap()
            .is_some()
        {}
        // Fill it to the last byte: the end of the buffer is where fields are written one byte at a time.
        let left = limit - builder.size();
        let one = builder.record_size(5, None, Some(b""), &[]);
        builder
            .append_within(limit, 5, None, Some(&vec![1; left - one]), &[])
            .unwrap()
            .unwrap();
        assert_eq!(builder.size(), limit);
        buffer = builder.into_buffer();
        assert_eq!((buffer.as_ptr(), buffer.capacity()), room);
    }
}

#[test]
fn records_are_views_and_own_nothing() {
    // What owns memory is not Copy, so a record that is Copy cannot have allocated.
    fn is_view<T: Copy>() {}
    is_view::<Record<'_>>();
    is_view::<Header<'_>>();
    is_view::<RecordBatch<'_>>();
}

/// Gives its buffer back when the last reference to it is gone.
struct Pooled(Vec<u8>, Arc<Mutex<Vec<Vec<u8>>>>);

impl AsRef<[u8]> for Pooled {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Pooled {
    fn drop(&mut self) {
        self.1.lock().unwrap().push(std::mem::take(&mut self.0));
    }
}

#[test]
fn a_pooled_buffer_comes_back_whatever_the_codec() {
    for compression in Compression::ALL {
        let pool = Arc::new(Mutex::new(Vec::new()));
        let buffer = Vec::with_capacity(16 << 10);
        let room = (buffer.as_ptr(), buffer.capacity());
        let mut builder = RecordBatchBuilder::new(buffer);
        for _ in 0..100 {
            builder.append(5, None, Some(&[7; 100]), &[]).unwrap();
        }
        let wrap = |buffer| Bytes::from_owner(Pooled(buffer, Arc::clone(&pool)));
        let sealed = builder.seal_with(compression, None, wrap).unwrap();
        let pieces = sealed.pieces();
        drop(sealed);
        assert!(
            pool.lock().unwrap().is_empty(),
            "a piece still in flight keeps the buffer"
        );
        drop(pieces);
        let back = pool.lock().unwrap().pop().unwrap();
        assert_eq!((back.as_ptr(), back.capacity()), room, "{compression}");
    }
}

#[test]
fn a_retry_rewrites_the_header_and_shares_the_body() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append(5, None, Some(b"value"), &[]).unwrap();
    let mut sealed = builder.seal(Compression::None, None).unwrap();
    sealed.stamp(1, 0, 10, true);
    let [first_header, first_body] = sealed.pieces();
    sealed.stamp(2, 1, 0, false);
    let [second_header, second_body] = sealed.pieces();
    assert_eq!(first_body.as_ptr(), second_body.as_ptr());

    let first = [first_header, first_body].concat();
    let (first, _) = RecordBatch::parse(&first).unwrap();
    let second = [second_header, second_body].concat();
    let (second, _) = RecordBatch::parse(&second).unwrap();
    assert_eq!((first.verify_crc(), second.verify_crc()), (Ok(()), Ok(())));
    assert_eq!(
        (first.producer_id(), first.base_sequence(), first.is_transactional()),
        (1, 10, true)
    );
    assert_eq!(
        (second.producer_id(), second.base_sequence(), second.is_transactional()),
        (2, 0, false)
    );
}

#[test]
fn a_batch_that_was_never_stamped_has_no_producer_and_a_right_crc() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append(5, None, Some(b"value"), &[]).unwrap();
    let bytes = builder.seal(Compression::None, None).unwrap().to_vec();
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(batch.verify_crc(), Ok(()));
    assert_eq!(
        (batch.producer_id(), batch.producer_epoch(), batch.base_sequence()),
        (-1, -1, -1)
    );
    assert_eq!(
        (
            batch.partition_leader_epoch(),
            batch.base_offset(),
            batch.last_sequence()
        ),
        (-1, 0, -1)
    );
}

#[test]
fn patches_change_their_field_and_keep_the_rest_valid() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append(100, None, Some(b"a"), &[]).unwrap();
    builder.append(50, None, Some(b"b"), &[]).unwrap();
    let mut bytes = builder.seal(Compression::None, None).unwrap().to_vec();
    batch::patch_base_offset(&mut bytes, 1 << 33);
    batch::patch_leader_epoch(&mut bytes, 8);
    let (patched, _) = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(patched.verify_crc(), Ok(()));
    assert_eq!((patched.base_offset(), patched.partition_leader_epoch()), (1 << 33, 8));
    assert_eq!(patched.timestamp_type(), TimestampType::CreateTime);

    batch::patch_log_append_time(&mut bytes, 777);
    let (patched, _) = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(patched.verify_crc(), Ok(()));
    assert_eq!(patched.timestamp_type(), TimestampType::LogAppendTime);
    let times: Vec<_> = patched
        .iter_over(patched.records_raw())
        .map(|record| record.unwrap().timestamp)
        .collect();
    assert_eq!(times, [777, 777]);

    let mut short = [0; 10];
    batch::patch_leader_epoch(&mut short, 1);
    batch::patch_log_append_time(&mut short, 1);
    assert_eq!(short, [0; 10], "what is not there is not written");
}

#[test]
fn recompression_keeps_every_record_and_field() {
    let mut scratch = Decompressor::new();
    for from in Compression::ALL {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        for number in 0..50u32 {
            builder
                .append(
                    i64::from(number),
                    Some(&number.to_be_bytes()),
                    Some(b"value value"),
                    &[],
                )
                .unwrap();
        }
        let records = builder.records().to_vec();
        let mut sealed = builder.seal(from, None).unwrap();
        sealed.stamp(9, 1, 100, true);
        let bytes = sealed.to_vec();
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        for to in Compression::ALL {
            let plain = batch.records_bytes(&mut scratch, 10_000).unwrap();
            let again = batch
                .recompress(plain, &mut Compressor::new(to, None).unwrap())
                .unwrap();
            let (again, rest) = RecordBatch::parse(&again).unwrap();
            assert!(rest.is_empty());
            assert_eq!((again.verify_crc(), again.compression()), (Ok(()), Ok(to)));
            assert_eq!(again.records_bytes(&mut scratch, 10_000).unwrap(), records);
            assert_eq!(
                (again.producer_id(), again.base_sequence(), again.is_transactional()),
                (9, 100, true)
            );
            assert_eq!(
                (again.max_timestamp(), again.record_count(), again.last_offset()),
                (49, 50, 49)
            );
        }
    }
}

#[test]
fn gaps_that_compaction_leaves_keep_their_offsets() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append_at(3, 0, Some(b"a"), None, &[]).unwrap();
    builder.append_at(9, 0, Some(b"b"), None, &[]).unwrap();
    let refused = builder.append_at(9, 0, Some(b"c"), None, &[]);
    assert_eq!(
        refused,
        Err(RecordError::OffsetDeltaOutOfRange {
            offset_delta: 9,
            least: 10
        })
    );
    let mut sealed = builder.seal(Compression::None, None).unwrap();
    sealed.set_base_offset(1000);
    let bytes = sealed.to_vec();
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(
        (batch.record_count(), batch.last_offset(), batch.next_offset()),
        (2, 1009, 1010)
    );
    let offsets: Vec<_> = batch
        .iter_over(batch.records_raw())
        .map(|record| record.unwrap().offset)
        .collect();
    assert_eq!(offsets, [1003, 1009]);
    let gap = RecordError::InvalidOffsetDelta {
        index: 0,
        offset_delta: 3,
    };
    assert_eq!(batch.iter_over(batch.records_raw()).summarize(), Err(gap));
}

#[test]
fn what_the_format_cannot_say_is_refused_and_leaves_the_batch_as_it_was() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    assert_eq!(
        builder.append(-2, None, None, &[]),
        Err(RecordError::NegativeTimestamp { timestamp: -2 })
    );
    let last = i32::MAX as u32;
    let least = RecordError::OffsetDeltaOutOfRange {
        offset_delta: last + 1,
        least: 0,
    };
    assert_eq!(builder.append_at(last + 1, 0, None, None, &[]), Err(least));
    assert!(builder.is_empty());
    assert!(matches!(
        RecordBatchBuilder::new(Vec::new()).seal(Compression::None, None),
        Err(RecordError::EmptyBatch)
    ));

    // One megabyte, named 2,200 times: more than 2^31 bytes without having them.
    let value = vec![0; 1 << 20];
    let headers = vec![
        Header {
            key: "h",
            value: Some(&value)
        };
        2200
    ];
    let refused = builder.append(0, None, None, &headers);
    assert!(matches!(refused, Err(RecordError::BatchTooLarge { size }) if size > i32::MAX as usize));
    assert!(builder.is_empty());
    assert_eq!(builder.append_at(last, 7, None, None, &[]), Ok(last));
    assert!(matches!(
        builder.append(7, None, None, &[]),
        Err(RecordError::OffsetDeltaOutOfRange { .. })
    ));
    assert_eq!(
        (builder.count(), builder.base_timestamp(), builder.max_timestamp()),
        (1, 7, 7)
    );
}

#[test]
fn an_empty_batch_takes_a_record_of_any_size_and_the_next_must_fit() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    assert_eq!(builder.append_within(100, 0, None, Some(&[0; 500]), &[]), Ok(Some(0)));
    assert_eq!(builder.append_within(100, 0, None, Some(b"x"), &[]), Ok(None));
    assert_eq!(builder.count(), 1);
}

#[test]
fn a_marker_reads_back_and_unknown_control_types_are_named() {
    for committed in [true, false] {
        let marker = EndTransactionMarker {
            committed,
            coordinator_epoch: 12,
        };
        let bytes = marker.batch(4711, 3, 1_000).unwrap().to_vec();
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        assert_eq!(batch.verify_crc(), Ok(()));
        assert!(batch.is_control() && batch.is_transactional());
        assert_eq!(
            (batch.producer_id(), batch.producer_epoch(), batch.base_sequence()),
            (4711, 3, -1)
        );
        let record = batch.iter_over(batch.records_raw()).next().unwrap().unwrap();
        assert_eq!(ControlRecord::read(&record), Ok(ControlRecord::EndTransaction(marker)));
    }
    let read = |key: Option<&[u8]>, value: Option<&[u8]>| {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        builder.append(0, key, value, &[]).unwrap();
        let bytes = builder.seal(Compression::None, None).unwrap().to_vec();
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let record = batch.iter_over(batch.records_raw()).next().unwrap().unwrap();
        ControlRecord::read(&record)
    };
    assert_eq!(
        read(Some(&[0, 0, 0, 2]), None),
        Ok(ControlRecord::Other { control_type: 2 })
    );
    // A later version may add fields at the end.
    let newer = EndTransactionMarker {
        committed: true,
        coordinator_epoch: 7,
    };
    let newer = Ok(ControlRecord::EndTransaction(newer));
    assert_eq!(read(Some(&[0, 1, 0, 1, 9]), Some(&[0, 1, 0, 0, 0, 7, 9, 9])), newer);
    for (key, value) in [
        (None, Some(&[0, 0, 0, 0, 0, 7][..])),
        (Some(&[0, 0, 0][..]), Some(&[0, 0, 0, 0, 0, 7][..])),
        (Some(&[255, 255, 0, 1][..]), Some(&[0, 0, 0, 0, 0, 7][..])),
        (Some(&[0, 0, 0, 1][..]), Some(&[0, 0, 0, 0, 0][..])),
        (Some(&[0, 0, 0, 1][..]), Some(&[255, 255, 0, 0, 0, 7][..])),
        (Some(&[0, 0, 0, 1][..]), None),
    ] {
        assert_eq!(read(key, value), Err(RecordError::InvalidControlRecord));
    }
}
