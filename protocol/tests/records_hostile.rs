//! Record batches from hostile or broken senders: every flaw is a typed error, none is a panic, a loop or a large
//! allocation.

#![cfg(all(feature = "gzip", feature = "snappy", feature = "lz4", feature = "zstd"))]
#![allow(clippy::unwrap_used, clippy::expect_used)] // a test fails by panicking

use ottla_protocol::records::{
    Compression, Compressor, ControlRecord, Decompressor, Header, RecordBatch, RecordBatchBuilder, RecordBatches,
    RecordError, RecordFlaw, crc32c,
};

const CAP: usize = 1 << 20;
const HEADER_LEN: usize = 61;

fn small(compression: Compression) -> Vec<u8> {
    let headers = [
        Header {
            key: "h",
            value: Some(b"1"),
        },
        Header { key: "h", value: None },
    ];
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append(1_000, Some(b"key"), Some(b"value"), &headers).unwrap();
    builder.append(900, None, Some(b"value value value"), &[]).unwrap();
    builder.append(2_000, Some(b"k"), None, &headers[1..]).unwrap();
    let mut sealed = builder.seal(compression, None).unwrap();
    sealed.stamp(4711, 2, 100, false);
    sealed.to_vec()
}

/// A batch around `records`, with a header that agrees with `count` and a right CRC.
fn batch_of(records: &[u8], count: i32) -> Vec<u8> {
    let mut bytes = small(Compression::None);
    bytes.truncate(HEADER_LEN);
    bytes.extend_from_slice(records);
    set(&mut bytes, 23, &(count - 1).max(0).to_be_bytes());
    set(&mut bytes, 57, &count.to_be_bytes());
    heal(&mut bytes);
    bytes
}

fn set(bytes: &mut [u8], at: usize, value: &[u8]) {
    bytes[at..at + value.len()].copy_from_slice(value);
}

/// Makes length and CRC agree with the bytes.
fn heal(bytes: &mut [u8]) {
    let length = (bytes.len() - 12) as i32;
    set(bytes, 8, &length.to_be_bytes());
    let crc = crc32c(&bytes[21..]);
    set(bytes, 17, &crc.to_be_bytes());
}

/// Reads everything there is to read; the first error ends it.
fn read_all(bytes: &[u8]) -> Result<usize, RecordError> {
    let mut scratch = Decompressor::new();
    let mut read = 0;
    for batch in RecordBatches::new(bytes) {
        let batch = batch?;
        for record in batch.records(&mut scratch, CAP)? {
            let record = record?;
            for header in record.headers() {
                header?;
            }
            if batch.is_control() {
                ControlRecord::read(&record)?;
            }
            read += 1;
        }
        batch.records(&mut scratch, CAP)?.summarize()?;
    }
    Ok(read)
}

#[test]
fn a_batch_cut_anywhere_is_truncated_and_nothing_else() {
    for compression in Compression::ALL {
        let whole = small(compression);
        for end in 0..whole.len() {
            let cut = &whole[..end];
            assert!(matches!(RecordBatch::parse(cut), Err(RecordError::Truncated { left, .. }) if left == end));
            let mut batches = RecordBatches::new(cut);
            assert!(batches.next().is_none());
            assert_eq!(batches.truncated(), end > 0);
            assert_eq!(batches.remaining(), cut);
        }
    }
}

#[test]
fn records_cut_anywhere_inside_a_whole_batch_are_an_error() {
    for compression in Compression::ALL {
        let whole = small(compression);
        for end in HEADER_LEN..whole.len() {
            let mut cut = whole[..end].to_vec();
            heal(&mut cut);
            let (batch, _) = RecordBatch::parse(&cut).unwrap();
            assert_eq!(batch.verify_crc(), Ok(()));
            assert!(read_all(&cut).is_err(), "{compression} cut at {end}");
        }
    }
}

#[test]
fn every_flipped_bit_that_the_crc_covers_is_found() {
    for compression in Compression::ALL {
        let whole = small(compression);
        for bit in 0..whole.len() * 8 {
            let mut flipped = whole.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            let outside = (0..8).contains(&(bit / 8)) || (12..16).contains(&(bit / 8));
            let found = match RecordBatch::parse(&flipped) {
                Err(_) => true,
                Ok((batch, _)) => batch.verify_crc().is_err(),
            };
            // A base offset may be anything that leaves room for the batch; a leader epoch may be anything.
            assert!(found || outside, "{compression}: bit {bit} was flipped unseen");
        }
    }
}

#[test]
fn flipped_bytes_under_a_right_crc_never_panic() {
    for compression in Compression::ALL {
        let whole = small(compression);
        for at in 16..whole.len() {
            for value in 0..=255 {
                let mut flipped = whole.clone();
                flipped[at] = value;
                let crc = crc32c(&flipped[21..]);
                set(&mut flipped, 17, &crc.to_be_bytes());
                // Some are still valid: another key, another timestamp. The point is that all of them return.
                let _ = read_all(&flipped);
            }
        }
    }
}

#[test]
fn old_message_formats_are_named() {
    for magic in [0, 1, 3, -1] {
        let mut bytes = small(Compression::None);
        bytes[16] = magic as u8;
        assert_eq!(
            RecordBatch::parse(&bytes).unwrap_err(),
            RecordError::UnsupportedMagic { magic }
        );
        // Format 0 has 26 bytes at least: less than our header, and yet its name is known.
        assert_eq!(
            RecordBatch::parse(&bytes[..26]).unwrap_err(),
            RecordError::UnsupportedMagic { magic }
        );
        let mut batches = RecordBatches::new(&bytes);
        assert_eq!(batches.next(), Some(Err(RecordError::UnsupportedMagic { magic })));
        assert!(batches.next().is_none());
    }
}

#[test]
fn lengths_that_cannot_be_are_refused() {
    for length in [i32::MIN, -1, 0, 48] {
        let mut bytes = small(Compression::None);
        set(&mut bytes, 8, &length.to_be_bytes());
        assert_eq!(
            RecordBatch::parse(&bytes).unwrap_err(),
            RecordError::InvalidBatchLength { length }
        );
    }
    let mut bytes = small(Compression::None);
    set(&mut bytes, 8, &i32::MAX.to_be_bytes());
    assert!(matches!(
        RecordBatch::parse(&bytes),
        Err(RecordError::Truncated {
            needed: 2_147_483_659,
            ..
        })
    ));
}

#[test]
fn counts_and_offsets_that_cannot_be_are_refused() {
    let with = |at: usize, value: &[u8]| {
        let mut bytes = small(Compression::None);
        set(&mut bytes, at, value);
        RecordBatch::parse(&bytes).map(|_| ()).unwrap_err()
    };
    for count in [-1, i32::MIN, 4, i32::MAX] {
        assert_eq!(
            with(57, &count.to_be_bytes()),
            RecordError::InvalidRecordCount { count }
        );
    }
    assert_eq!(
        with(23, &i32::MIN.to_be_bytes()),
        RecordError::InvalidRecordCount { count: 3 }
    );
    let offsets = |base_offset| RecordError::InvalidOffsets {
        base_offset,
        last_offset_delta: 2,
    };
    assert_eq!(with(0, &i64::MAX.to_be_bytes()), offsets(i64::MAX));
    assert_eq!(with(0, &(i64::MAX - 2).to_be_bytes()), offsets(i64::MAX - 2));
    for code in 5..=7u8 {
        assert_eq!(with(21, &[0, code]), RecordError::UnknownCompression { code });
    }
}

#[test]
fn a_record_count_that_lies_is_found_by_reading() {
    for compression in Compression::ALL {
        let mut fewer = small(compression);
        set(&mut fewer, 57, &2i32.to_be_bytes());
        assert!(matches!(read_all(&fewer), Err(RecordError::TrailingBytes { .. })));
        let mut none = small(compression);
        set(&mut none, 57, &0i32.to_be_bytes());
        assert!(matches!(read_all(&none), Err(RecordError::TrailingBytes { .. })));
        let mut more = small(compression);
        set(&mut more, 23, &(i32::MAX - 1).to_be_bytes());
        set(&mut more, 57, &i32::MAX.to_be_bytes());
        let short = RecordError::InvalidRecord {
            index: 3,
            flaw: RecordFlaw::Short,
        };
        assert_eq!(read_all(&more), Err(short));
        let (batch, _) = RecordBatch::parse(&more).unwrap();
        let mut scratch = Decompressor::new();
        let hint = batch.records(&mut scratch, CAP).unwrap().size_hint();
        assert!(hint.1.unwrap() < 100, "a count must not become an allocation");
    }
}

#[test]
fn flaws_inside_a_record_are_named() {
    let flaw_of = |record: &[u8]| match read_all(&batch_of(record, 1)) {
        Err(RecordError::InvalidRecord { index: 0, flaw }) => flaw,
        other => panic!("{record:?} gives {other:?}"),
    };
    // length, attributes, timestamp delta, offset delta, key length, value length, header count
    assert_eq!(read_all(&batch_of(&[12, 0, 0, 0, 1, 1, 0], 1)), Ok(1));
    assert_eq!(flaw_of(&[1, 0, 0, 0, 1, 1, 0]), RecordFlaw::NegativeLength);
    assert_eq!(flaw_of(&[0]), RecordFlaw::Short);
    assert_eq!(flaw_of(&[14, 0, 0, 0, 1, 1, 0]), RecordFlaw::Short);
    assert_eq!(flaw_of(&[10, 0, 0, 0, 1, 1, 0]), RecordFlaw::Short);
    assert_eq!(flaw_of(&[14, 0, 0, 0, 1, 1, 0, 0]), RecordFlaw::LengthMismatch);
    assert_eq!(flaw_of(&[12, 0, 0, 0, 3, 1, 0]), RecordFlaw::NegativeLength);
    assert_eq!(flaw_of(&[12, 0, 0, 0, 1, 3, 0]), RecordFlaw::NegativeLength);
    assert_eq!(flaw_of(&[12, 0, 0, 0, 1, 1, 1]), RecordFlaw::NegativeLength);
    assert_eq!(flaw_of(&[12, 0, 0, 0, 200, 1, 0]), RecordFlaw::Short);
    assert_eq!(
        flaw_of(&[20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x0f, 1, 0]),
        RecordFlaw::NegativeLength
    );
    assert_eq!(
        flaw_of(&[20, 0, 0, 0, 0xfe, 0xff, 0xff, 0xff, 0x0f, 1, 0]),
        RecordFlaw::Short
    );
    assert_eq!(
        flaw_of(&[20, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0x1f, 1, 0]),
        RecordFlaw::VarintTooLong
    );
    assert_eq!(
        flaw_of(&[22, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 1, 0]),
        RecordFlaw::VarintTooLong
    );
    // A timestamp delta has ten bytes at most, and the tenth carries one bit.
    let long = |last| [&[30u8, 0][..], &[0xff; 9], &[last, 0, 1, 1, 0]].concat();
    assert_eq!(read_all(&batch_of(&long(1), 1)), Ok(1));
    assert_eq!(flaw_of(&long(2)), RecordFlaw::VarintTooLong);
    assert_eq!(flaw_of(&long(0x81)), RecordFlaw::VarintTooLong);
    // Headers: a count without bytes, a null key, bytes left over, a key that is no text.
    assert_eq!(flaw_of(&[12, 0, 0, 0, 1, 1, 2]), RecordFlaw::Short);
    assert_eq!(
        flaw_of(&[20, 0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f]),
        RecordFlaw::Short
    );
    assert_eq!(flaw_of(&[16, 0, 0, 0, 1, 1, 2, 1, 1]), RecordFlaw::NegativeLength);
    assert_eq!(flaw_of(&[18, 0, 0, 0, 1, 1, 2, 0, 1, 9]), RecordFlaw::LengthMismatch);
    assert_eq!(
        flaw_of(&[18, 0, 0, 0, 1, 1, 2, 2, 0xff, 1]),
        RecordFlaw::HeaderKeyNotUtf8
    );
    assert_eq!(flaw_of(&[18, 0, 0, 0, 1, 1, 2, 2, b'k', 4]), RecordFlaw::Short);
}

#[test]
fn a_header_key_that_is_no_text_can_still_be_read_as_bytes() {
    let bytes = batch_of(&[18, 0, 0, 0, 1, 1, 2, 2, 0xff, 1], 1);
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    let record = batch.iter_over(batch.records_raw()).next().unwrap().unwrap();
    assert_eq!(record.raw_headers().collect::<Vec<_>>(), [Ok((&[0xff][..], None))]);
}

#[test]
fn offset_deltas_outside_the_batch_or_with_gaps_are_refused() {
    let record = |delta: u8| [12, 0, 0, delta, 1, 1, 0];
    let one = |delta| read_all(&batch_of(&record(delta), 1));
    assert_eq!(one(0), Ok(1));
    assert_eq!(
        one(1),
        Err(RecordError::InvalidOffsetDelta {
            index: 0,
            offset_delta: -1
        })
    );
    assert_eq!(
        one(2),
        Err(RecordError::InvalidOffsetDelta {
            index: 0,
            offset_delta: 1
        })
    );

    let two = batch_of(&[record(2), record(0)].concat(), 2);
    let (batch, _) = RecordBatch::parse(&two).unwrap();
    let mut scratch = Decompressor::new();
    assert_eq!(
        batch.records(&mut scratch, CAP).unwrap().filter(Result::is_ok).count(),
        2
    );
    let found = batch.records(&mut scratch, CAP).unwrap().summarize();
    assert_eq!(
        found,
        Err(RecordError::InvalidOffsetDelta {
            index: 0,
            offset_delta: 1
        })
    );
}

#[test]
fn timestamps_that_overflow_wrap_and_do_not_panic() {
    let mut bytes = batch_of(&[&[30u8, 0][..], &[0xff; 9], &[1, 0, 1, 1, 0]].concat(), 1);
    set(&mut bytes, 27, &(-5i64).to_be_bytes());
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    let record = batch.iter_over(batch.records_raw()).next().unwrap().unwrap();
    assert_eq!(record.timestamp, (-5i64).wrapping_add(i64::MIN));
}

#[test]
fn decompression_stops_at_the_limit_and_reserves_no_more() {
    let zeros = vec![0; 16 << 20];
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut packed = Vec::new();
        Compressor::new(compression, None)
            .unwrap()
            .compress_into(&zeros, &mut packed)
            .unwrap();
        for limit in [0, 1, 1000, 65_536, 1 << 20, (16 << 20) - 1] {
            let mut output = Vec::new();
            let outcome = Decompressor::new().decompress_into(compression, &packed, limit, &mut output);
            assert_eq!(
                outcome,
                Err(RecordError::DecompressedTooLarge { limit }),
                "{compression}"
            );
            assert!(
                output.capacity() <= 2 * limit + 128,
                "{compression}: {} for {limit}",
                output.capacity()
            );
        }
        let mut output = b"before".to_vec();
        Decompressor::new()
            .decompress_into(compression, &packed, 16 << 20, &mut output)
            .unwrap();
        assert_eq!(output.len(), (16 << 20) + 6);
        assert!(output.starts_with(b"before"));
    }
}

#[test]
fn a_size_that_is_only_claimed_reserves_nothing() {
    let limit = 1 << 30;
    // Snappy's length prefix says 512 MiB. A zstd frame header says the same in four bytes.
    let snappy = [0x80, 0x80, 0x80, 0x80, 0x02, 0xff];
    let zstd = [0x28, 0xb5, 0x2f, 0xfd, 0xa0, 0, 0, 0, 0x20, 0x01, 0, 0];
    for (compression, bytes) in [(Compression::Snappy, &snappy[..]), (Compression::Zstd, &zstd[..])] {
        let mut output = Vec::new();
        let outcome = Decompressor::new().decompress_into(compression, bytes, limit, &mut output);
        assert_eq!(outcome, Err(RecordError::CorruptCompression { compression }));
        assert!(
            output.capacity() <= 1 << 20,
            "{compression} reserved {}",
            output.capacity()
        );
    }
}

#[test]
fn a_context_works_after_it_met_garbage() {
    let plain = b"some bytes, some bytes, some bytes".repeat(100);
    let mut scratch = Decompressor::new();
    for compression in Compression::ALL {
        let mut packed = Vec::new();
        Compressor::new(compression, None)
            .unwrap()
            .compress_into(&plain, &mut packed)
            .unwrap();
        for end in (0..packed.len()).step_by(7) {
            let _ = scratch.decompress(compression, &packed[..end], CAP);
            let _ = scratch.decompress(compression, &packed, plain.len() / 2);
            assert_eq!(
                scratch.decompress(compression, &packed, CAP),
                Ok(&plain[..]),
                "{compression}"
            );
        }
    }
}
