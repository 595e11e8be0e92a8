//! Record batches: what is written is what is read, for every codec and every shape of record.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use ottla_protocol::records::{Compression, Decompressor, Header, RecordBatch, RecordBatchBuilder, RecordBatches};

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
