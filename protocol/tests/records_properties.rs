//! Record batches under generated input: what goes in comes out, sizes are exact, and bytes of any kind never panic.

#![cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use ottla_protocol::records::{
    BATCH_HEADER_LEN, Compression, Compressor, Decompressor, Header, Record, RecordBatch, RecordBatchBuilder,
    RecordBatches, RecordError, crc32c,
};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

#[derive(Debug, Clone)]
struct Content {
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Content {
    fn headers(&self) -> Vec<Header<'_>> {
        self.headers
            .iter()
            .map(|(key, value)| Header {
                key,
                value: value.as_deref(),
            })
            .collect()
    }

    fn is(&self, record: &Record<'_>) -> bool {
        let headers: Vec<_> = record.headers().map(Result::unwrap).collect();
        record.key() == self.key.as_deref()
            && record.value() == self.value.as_deref()
            && record.timestamp == self.timestamp
            && headers == self.headers()
            && record.header_count() == headers.len()
    }
}

fn timestamp() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(-1),
        Just(0),
        Just(i64::MAX),
        1_700_000_000_000i64..1_700_000_100_000,
        0..i64::MAX
    ]
}

fn bytes() -> impl Strategy<Value = Option<Vec<u8>>> {
    option::of(prop_oneof![4 => vec(any::<u8>(), 0..80), 1 => vec(any::<u8>(), 8_000..9_000)])
}

fn content() -> impl Strategy<Value = Content> {
    let header = (any::<String>(), option::of(vec(any::<u8>(), 0..20)));
    (timestamp(), bytes(), bytes(), vec(header, 0..4)).prop_map(|(timestamp, key, value, headers)| Content {
        timestamp,
        key,
        value,
        headers,
    })
}

fn compression() -> impl Strategy<Value = Compression> {
    (0u8..5).prop_map(|code| Compression::from_code(code).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(
        contents in vec(content(), 1..30),
        compression in compression(),
        (producer_id, epoch, sequence, transactional) in any::<(i64, i16, i32, bool)>(),
        garbage in vec(any::<u8>(), 0..100),
    ) {
        let mut builder = RecordBatchBuilder::new(garbage);
        for (place, content) in contents.iter().enumerate() {
            let (key, value, headers) = (content.key.as_deref(), content.value.as_deref(), content.headers());
            let before = builder.size();
            let size = builder.record_size(content.timestamp, key, value, &headers);
            prop_assert!(size <= RecordBatchBuilder::size_upper_bound(key, value, &headers));
            prop_assert_eq!(builder.append(content.timestamp, key, value, &headers), Ok(place as u32));
            prop_assert_eq!(builder.size(), before + size);
        }
        let size = builder.size();
        let mut sealed = builder.seal(compression, None).unwrap();
        sealed.stamp(producer_id, epoch, sequence, transactional);
        let bytes = sealed.to_vec();
        prop_assert_eq!(bytes.len(), sealed.len());
        prop_assert_eq!(sealed.pieces().concat(), &bytes[..]);
        if compression == Compression::None {
            prop_assert_eq!(bytes.len(), size);
        }

        let (batch, rest) = RecordBatch::parse(&bytes).unwrap();
        prop_assert!(rest.is_empty());
        prop_assert_eq!(batch.verify_crc(), Ok(()));
        prop_assert_eq!(batch.record_count() as usize, contents.len());
        prop_assert_eq!(batch.base_timestamp(), contents[0].timestamp);
        let latest = contents.iter().map(|content| content.timestamp).max().unwrap();
        prop_assert_eq!(batch.max_timestamp(), latest);
        prop_assert_eq!((batch.producer_id(), batch.producer_epoch()), (producer_id, epoch));
        prop_assert_eq!((batch.base_sequence(), batch.is_transactional()), (sequence, transactional));

        let mut scratch = Decompressor::new();
        let limit = size - BATCH_HEADER_LEN;
        let records: Vec<_> = batch.records(&mut scratch, limit).unwrap().map(Result::unwrap).collect();
        prop_assert_eq!(records.len(), contents.len());
        for (place, (content, record)) in contents.iter().zip(&records).enumerate() {
            prop_assert!(content.is(record));
            prop_assert_eq!(record.offset, place as i64);
        }

        let expected: Vec<_> = records.iter().map(Record::outline).collect();
        let summary = batch.records(&mut scratch, limit).unwrap().summarize().unwrap();
        prop_assert_eq!((summary.count as usize, summary.bytes), (contents.len(), limit));
        prop_assert_eq!(summary.max_timestamp, latest);
        prop_assert_eq!(contents[summary.max_timestamp_delta as usize].timestamp, latest);
        let keyless = contents.iter().position(|content| content.key.is_none());
        prop_assert_eq!(summary.first_without_key.map(|place| place as usize), keyless);

        prop_assert_eq!(batch.summarize_in_steps(limit), Ok(summary));
        let mut outlines = Vec::new();
        let walked = batch.walk_in_steps(limit, &mut |outline| { outlines.push(outline); Ok(()) });
        prop_assert_eq!(walked, Ok(limit));
        prop_assert_eq!(outlines, expected);
        let too_large = batch.summarize_in_steps(limit - 1);
        prop_assert!(matches!(too_large, Err(RecordError::DecompressedTooLarge { .. })), "{:?}", too_large);
    }

    /// What came in one piece and what came in steps are judged the same, whatever is wrong with it.
    #[test]
    fn damaged_records_are_judged_the_same_in_steps(
        contents in vec(content(), 1..6),
        compression in compression(),
        damage in vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        count in -1i32..2,
    ) {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        for content in &contents {
            builder.append(content.timestamp, content.key.as_deref(), content.value.as_deref(), &content.headers()).unwrap();
        }
        let mut plain = builder.records().to_vec();
        for (at, byte) in damage {
            let at = at.index(plain.len());
            plain[at] ^= byte;
        }
        let mut bytes = builder.seal(Compression::None, None).unwrap().to_vec();
        let claimed = (contents.len() as i32 + count).max(0);
        bytes[23..27].copy_from_slice(&10i32.to_be_bytes());
        bytes[57..61].copy_from_slice(&claimed.to_be_bytes());
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let bytes = batch.recompress(&plain, &mut Compressor::new(compression, None).unwrap()).unwrap();
        let (batch, _) = RecordBatch::parse(&bytes).unwrap();
        let whole = batch.records(&mut Decompressor::new(), 1 << 20).unwrap().summarize();
        let stepwise = batch.summarize_in_steps(1 << 20);
        match (whole, stepwise) {
            (Ok(whole), Ok(stepwise)) => prop_assert_eq!(whole, stepwise),
            (Err(_), Err(_)) => {}
            other => prop_assert!(false, "{:?}", other),
        }
    }

    #[test]
    fn a_limit_is_kept_to_the_byte(contents in vec(content(), 1..30), limit in 0usize..30_000) {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        for content in &contents {
            let (key, value, headers) = (content.key.as_deref(), content.value.as_deref(), content.headers());
            let size = builder.size() + builder.record_size(content.timestamp, key, value, &headers);
            let fits = builder.is_empty() || size <= limit;
            let taken = builder.append_within(limit, content.timestamp, key, value, &headers).unwrap();
            prop_assert_eq!(taken.is_some(), fits);
        }
    }

    #[test]
    fn bytes_of_any_kind_never_panic(
        mut bytes in vec(any::<u8>(), 0..300),
        compression in compression(),
        count in 0i32..5,
    ) {
        let _ = RecordBatches::new(&bytes).count();
        if bytes.len() >= BATCH_HEADER_LEN {
            // Far enough into the reader to matter: a plausible header over arbitrary records.
            let length = (bytes.len() - 12) as i32;
            bytes[8..12].copy_from_slice(&length.to_be_bytes());
            bytes[16] = 2;
            bytes[22] = (bytes[22] & !7) | compression.code();
            bytes[23..27].copy_from_slice(&5i32.to_be_bytes());
            bytes[57..61].copy_from_slice(&count.to_be_bytes());
            let mut scratch = Decompressor::new();
            for batch in RecordBatches::new(&bytes) {
                let Ok(batch) = batch else { continue };
                let Ok(records) = batch.records(&mut scratch, 100_000) else { continue };
                for record in records.flatten() {
                    let _ = record.headers().count();
                }
            }
        }
        let mut whole = Vec::new();
        let at_once = Decompressor::new().decompress_into(compression, &bytes, 100_000, &mut whole);
        let mut pieces = Vec::new();
        let stepwise = Decompressor::decompress_in_steps(compression, &bytes, 1 << 20, &mut |step| {
            pieces.extend_from_slice(step);
            Ok(())
        });
        prop_assert!(at_once.is_ok() == stepwise.is_ok() || pieces.len() > 100_000);
        if at_once.is_ok() {
            prop_assert_eq!(whole, pieces);
        }
    }

    #[test]
    fn crc32c_agrees_with_another_implementation(bytes in vec(any::<u8>(), 0..5_000)) {
        prop_assert_eq!(crc32c(&bytes), crc32c::crc32c(&bytes));
    }
}
