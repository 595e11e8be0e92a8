//! Batches that Kafka 4.4.0 built read here as they read there. How the data was made: testdata/records/README.md.

#![cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

mod describe;

use describe::{describe, samples, to_hex};
use ottla_protocol::records::{
    BATCH_HEADER_LEN, Compression, Decompressor, EndTransactionMarker, Header, RecordBatch, RecordBatchBuilder, batch,
};

const GOLDEN: &str = include_str!("../testdata/records/kafka-4.4.0.txt");
const NOW: i64 = 1_700_000_000_000;

fn golden(name: &str) -> Vec<u8> {
    samples(GOLDEN)
        .into_iter()
        .find(|sample| sample.name == name)
        .map(|sample| sample.bytes)
        .unwrap()
}

#[test]
fn batches_of_kafka_read_as_kafka_reads_them() {
    let samples = samples(GOLDEN);
    assert!(samples.len() >= 15);
    for sample in samples {
        assert_eq!(describe(&sample.bytes), sample.description, "{}", sample.name);
    }
}

/// The same records as `mixed` in RecordsPeer.java.
fn mixed() -> RecordBatchBuilder {
    let headers = [
        Header {
            key: "a",
            value: Some(b"1"),
        },
        Header { key: "b", value: None },
        Header {
            key: "a",
            value: Some(b"2"),
        },
        Header {
            key: "",
            value: Some(b""),
        },
        Header {
            key: "schlüssel",
            value: Some(&[0, 255, 127, 128]),
        },
    ];
    let mut builder = RecordBatchBuilder::new(Vec::new());
    let mut append = |timestamp, key: Option<&[u8]>, value: Option<&[u8]>, headers: &[Header<'_>]| {
        builder.append(timestamp, key, value, headers).unwrap();
    };
    append(NOW, Some(b"key"), Some(b"value"), &[]);
    append(NOW + 1, None, Some(b"without key"), &[]);
    append(NOW - 100_000, Some(b"older tombstone"), None, &[]);
    append(NOW + 3_000_000_000, None, None, &[]);
    append(NOW, Some(b""), Some(b""), &headers);
    append(NOW, Some(&[b'x'; 63]), Some(&[b'y'; 64]), &[]);
    append(NOW, Some(&[b'x'; 300]), Some(&[0; 200]), &[]);
    builder
}

#[test]
fn a_batch_equals_kafkas_byte_for_byte() {
    let mut sealed = mixed().seal(Compression::None, None).unwrap();
    sealed.set_base_offset(1000);
    sealed.set_partition_leader_epoch(12);
    assert_eq!(to_hex(&sealed.to_vec()), to_hex(&golden("mixed-create-none")));
}

#[test]
fn a_batch_patched_to_log_append_time_equals_kafkas() {
    let mut bytes = mixed().seal(Compression::None, None).unwrap().to_vec();
    batch::patch_base_offset(&mut bytes, 7);
    batch::patch_leader_epoch(&mut bytes, 12);
    batch::patch_log_append_time(&mut bytes, NOW + 5);
    assert_eq!(to_hex(&bytes), to_hex(&golden("mixed-append-none")));
}

#[test]
fn a_stamped_batch_equals_kafkas_once_decompressed() {
    let ours = mixed().records().to_vec();
    let mut scratch = Decompressor::new();
    for compression in Compression::ALL {
        let bytes = golden(&format!("mixed-create-{compression}"));
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        assert_eq!(batch.compression(), Ok(compression));
        assert_eq!(
            batch.records_bytes(&mut scratch, 1 << 20).unwrap(),
            ours,
            "{compression}"
        );
    }
    let kafka = golden("transactional-none");
    let mut sealed = mixed().seal(Compression::None, None).unwrap();
    sealed.set_partition_leader_epoch(12);
    sealed.stamp(4711, 3, 100, true);
    assert_eq!(to_hex(&sealed.header()), to_hex(&kafka[..BATCH_HEADER_LEN]));
}

#[test]
fn transaction_markers_equal_kafkas() {
    for (name, offset, committed, coordinator_epoch) in [("commit", 42, true, 17), ("abort", 43, false, 18)] {
        let mut marker = EndTransactionMarker {
            committed,
            coordinator_epoch,
        }
        .batch(4711, 3, NOW)
        .unwrap();
        marker.set_base_offset(offset);
        marker.set_partition_leader_epoch(9);
        assert_eq!(to_hex(&marker.to_vec()), to_hex(&golden(name)));
    }
}

#[test]
fn a_cleaned_batch_is_rebuilt_as_kafka_cleans_it() {
    let bytes = golden("cleaned-none");
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    assert_eq!(batch.delete_horizon(), Some(NOW + 86_400_000));
    assert_eq!(
        (batch.record_count(), batch.last_offset_delta(), batch.next_offset()),
        (4, 6, 1007)
    );

    let emptied = golden("emptied");
    let (batch, rest) = RecordBatch::parse(&emptied).unwrap();
    assert!(rest.is_empty());
    assert_eq!(
        (batch.record_count(), batch.next_offset(), batch.last_sequence()),
        (0, 1007, 106)
    );
    assert_eq!(batch.records(&mut Decompressor::new(), 0).unwrap().count(), 0);
}
