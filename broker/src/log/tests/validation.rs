//! What is refused, and with which code.

use super::*;
use ottla_protocol::ErrorCode;
use ottla_protocol::records::{TimestampType, batch as patch, crc32c};

fn refused(config: LogConfig, records: &[u8]) -> AppendError {
    let bench = Bench::in_memory(config);
    let log = bench.open();
    let error = append(&log, records).unwrap_err();
    assert_eq!(log.log_end_offset(), 0);
    assert_eq!(log.size(), 0);
    error
}

fn code(records: &[u8]) -> ErrorCode {
    refused(LogConfig::default(), records).code()
}

/// Changes a field and makes the checksum fit again.
fn with(mut records: Vec<u8>, at: usize, value: &[u8]) -> Vec<u8> {
    records[at..at + value.len()].copy_from_slice(value);
    let crc = crc32c(&records[21..]);
    records[17..21].copy_from_slice(&crc.to_be_bytes());
    records
}

#[test]
fn a_request_holds_exactly_one_whole_batch() {
    assert_eq!(code(&[]), ErrorCode::InvalidRecord);
    let one = batch(2);
    assert_eq!(code(&one[..one.len() - 1]), ErrorCode::InvalidRecord);
    assert_eq!(code(&[batch(1), batch(1)].concat()), ErrorCode::InvalidRecord);
    let bench = Bench::in_memory(LogConfig::default());
    let log = bench.open();
    append(&log, &[&one[..], &one[..30]].concat()).unwrap();
    assert_eq!(log.size(), one.len() as u64, "the part of a second one is dropped");
}

#[test]
fn old_formats_are_refused() {
    for magic in [0, 1, 3] {
        let mut records = batch(2);
        records[16] = magic;
        assert_eq!(code(&records), ErrorCode::InvalidRecord);
    }
}

#[test]
fn damaged_bytes_are_corrupt() {
    let good = batch(3);
    for at in [17, 21, 30, 57, 61, good.len() - 1] {
        let mut records = good.clone();
        records[at] ^= 0x10;
        assert_eq!(code(&records), ErrorCode::CorruptMessage, "byte {at}");
    }
    let mut short = good.clone();
    short[8..12].copy_from_slice(&10i32.to_be_bytes());
    assert_eq!(code(&short), ErrorCode::CorruptMessage);
}

#[test]
fn headers_must_agree_with_the_records() {
    let at_count = 57;
    let at_last_delta = 23;
    assert_eq!(
        code(&with(batch(3), at_count, &4i32.to_be_bytes())),
        ErrorCode::InvalidRecord
    );
    assert_eq!(
        code(&with(batch(3), at_count, &2i32.to_be_bytes())),
        ErrorCode::InvalidRecord
    );
    assert_eq!(
        code(&with(batch(3), at_count, &(-1i32).to_be_bytes())),
        ErrorCode::InvalidRecord
    );
    assert_eq!(
        code(&with(batch(3), at_last_delta, &5i32.to_be_bytes())),
        ErrorCode::InvalidRecord
    );
    assert_eq!(
        code(&with(batch(3), at_last_delta, &(-1i32).to_be_bytes())),
        ErrorCode::InvalidRecord
    );
    let both = with(
        with(batch(3), at_last_delta, &3i32.to_be_bytes()),
        at_count,
        &4i32.to_be_bytes(),
    );
    assert_eq!(code(&both), ErrorCode::InvalidRecord, "a record is missing");
    let both = with(
        with(batch(3), at_last_delta, &1i32.to_be_bytes()),
        at_count,
        &2i32.to_be_bytes(),
    );
    assert_eq!(code(&both), ErrorCode::InvalidRecord, "a record is left over");
}

#[test]
fn offset_deltas_count_from_zero_without_a_gap() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append_at(1, NOW, None, Some(b"a"), &[]).unwrap();
    builder.append_at(2, NOW, None, Some(b"b"), &[]).unwrap();
    let records = builder.seal(Compression::None, None).unwrap().to_vec();
    let mut sealed = with(records, 57, &3i32.to_be_bytes());
    assert_eq!(code(&sealed), ErrorCode::InvalidRecord);
    sealed = with(sealed, 57, &2i32.to_be_bytes());
    sealed = with(sealed, 23, &1i32.to_be_bytes());
    assert_eq!(code(&sealed), ErrorCode::InvalidRecord);
}

#[test]
fn clients_may_not_set_offsets_control_bits_or_transactions() {
    let mut records = batch(1);
    patch::patch_base_offset(&mut records, 5);
    assert_eq!(code(&records), ErrorCode::InvalidRecord);
    assert_eq!(code(&with(batch(1), 21, &[0, 0x20])), ErrorCode::InvalidRecord);
    assert_eq!(
        code(&with(batch_from(1, 0, 0, 1), 21, &[0, 0x10])),
        ErrorCode::InvalidTxnState
    );
    assert_eq!(
        code(&with(batch_from(1, 0, 0, 1), 53, &(-1i32).to_be_bytes())),
        ErrorCode::InvalidRecord
    );
    assert_eq!(
        code(&with(batch(1), 21, &[0, 0x05])),
        ErrorCode::UnsupportedCompressionType
    );
}

#[test]
fn a_batch_may_be_as_large_as_the_topic_says_and_no_larger() {
    let records = batch(10);
    let size = records.len();
    let limit = |max_message_bytes| LogConfig {
        max_message_bytes,
        ..LogConfig::default()
    };
    let error = refused(limit(size - 1), &records);
    assert!(matches!(error, AppendError::TooLarge { size: found, limit } if (found, limit) == (size, size - 1)));
    assert_eq!(error.code(), ErrorCode::MessageTooLarge);
    append(&Bench::in_memory(limit(size)).open(), &records).unwrap();
}

#[test]
fn compacted_topics_demand_keys_and_name_the_records_without() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for key in [Some(b"k".as_slice()), None, Some(b"k"), None] {
        builder.append(NOW, key, Some(b"v"), &[]).unwrap();
    }
    let records = builder.seal(Compression::Lz4, None).unwrap().to_vec();
    let error = refused(
        LogConfig {
            compact: true,
            ..LogConfig::default()
        },
        &records,
    );
    assert_eq!(error.code(), ErrorCode::InvalidRecord);
    let named: Vec<u32> = error
        .refused_records()
        .iter()
        .map(|record| record.batch_index)
        .collect();
    assert_eq!(named, [1, 3]);
    append(&Bench::in_memory(LogConfig::default()).open(), &records).unwrap();
}

#[test]
fn times_too_far_away_are_refused_record_by_record() {
    let config = LogConfig {
        message_timestamp_before_max_ms: 1000,
        message_timestamp_after_max_ms: 100,
        ..LogConfig::default()
    };
    let times = [NOW, NOW - 1001, NOW - 1000, -1, NOW + 100, NOW + 101];
    let error = refused(config.clone(), &batch_of(&times, 5, Compression::None));
    assert_eq!(error.code(), ErrorCode::InvalidTimestamp);
    let named: Vec<u32> = error
        .refused_records()
        .iter()
        .map(|record| record.batch_index)
        .collect();
    assert_eq!(named, [1, 5]);
    let fine = [NOW, -1, NOW - 1000, NOW + 100];
    append(
        &Bench::in_memory(config.clone()).open(),
        &batch_of(&fine, 5, Compression::None),
    )
    .unwrap();
    let hidden = [-1, NOW - 5000, NOW];
    assert_eq!(
        refused(config.clone(), &batch_of(&hidden, 5, Compression::None))
            .refused_records()
            .len(),
        1
    );
    let by_broker = LogConfig {
        message_timestamp_type: TimestampType::LogAppendTime,
        ..config
    };
    append(
        &Bench::in_memory(by_broker).open(),
        &batch_of(&times, 5, Compression::None),
    )
    .unwrap();
}

#[test]
fn the_default_refuses_what_is_an_hour_ahead() {
    let hour = 3_600_000;
    append(
        &Bench::in_memory(LogConfig::default()).open(),
        &batch_of(&[NOW + hour, 0], 5, Compression::None),
    )
    .unwrap();
    assert_eq!(
        code(&batch_of(&[NOW + hour + 1], 5, Compression::None)),
        ErrorCode::InvalidTimestamp
    );
}

#[test]
fn producers_may_not_claim_the_brokers_time() {
    let mut records = batch(2);
    patch::patch_log_append_time(&mut records, NOW);
    assert_eq!(code(&records), ErrorCode::InvalidTimestamp);
}

#[test]
fn a_wrong_max_timestamp_is_put_right() {
    let mut records = batch_of(&[NOW, NOW + 7, NOW + 3], 5, Compression::None);
    patch::patch_max_timestamp(&mut records, NOW + 99);
    let bench = Bench::in_memory(LogConfig::default());
    let log = bench.open();
    append(&log, &records).unwrap();
    let slice = read(&log, 0);
    first(&slice.batches[0]).verify_crc().unwrap();
    assert_eq!(first(&slice.batches[0]).max_timestamp(), NOW + 7);
}

#[test]
fn compressed_records_are_read_before_they_are_accepted() {
    for compression in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let good = batch_of(&[NOW; 20], 100, compression);
        let bench = Bench::in_memory(LogConfig::default());
        let log = bench.open();
        append(&log, &good).unwrap();
        assert_eq!(log.size(), good.len() as u64, "the bytes stay as they came");
        let mut bad = good.clone();
        let middle = 61 + (good.len() - 61) / 2;
        bad.truncate(middle);
        bad[8..12].copy_from_slice(&(middle as i32 - 12).to_be_bytes());
        let bad = with(bad, 57, &20i32.to_be_bytes());
        let error = refused(LogConfig::default(), &bad);
        assert!(
            [ErrorCode::CorruptMessage, ErrorCode::InvalidRecord].contains(&error.code()),
            "{compression:?} {error}"
        );
    }
}

#[test]
fn a_bomb_is_refused_without_unfolding_it() {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    builder.append(NOW, None, Some(&vec![0; 80 << 20]), &[]).unwrap();
    let records = builder.seal(Compression::Zstd, None).unwrap().to_vec();
    assert!(records.len() < 100_000);
    assert_eq!(code(&records), ErrorCode::InvalidRecord);
}

#[test]
fn a_topic_may_want_another_codec() {
    for target in [
        Compression::None,
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        for source in [Compression::None, Compression::Lz4, Compression::Zstd] {
            let bench = Bench::in_memory(LogConfig {
                compression: Some(target),
                ..LogConfig::default()
            });
            let log = bench.open();
            let sent = batch_of(&[NOW, NOW + 1, NOW + 2], 200, source);
            append(&log, &sent).unwrap();
            let slice = read(&log, 0);
            let stored = first(&slice.batches[0]);
            stored.verify_crc().unwrap();
            assert_eq!(stored.compression().unwrap(), target);
            let mut scratch = ottla_protocol::records::Decompressor::new();
            let plain = stored.records_bytes(&mut scratch, 1 << 20).unwrap().to_vec();
            let mut scratch = ottla_protocol::records::Decompressor::new();
            assert_eq!(plain, first(&sent).records_bytes(&mut scratch, 1 << 20).unwrap());
        }
    }
}

#[test]
fn coordinators_may_write_what_clients_may_not() {
    let bench = Bench::in_memory(LogConfig::default());
    let log = bench.open();
    let control = with(batch_from(1, 0, -1, 1), 21, &[0, 0x20]);
    log.append_as_leader(&control, 0, AppendOrigin::Coordinator, NOW)
        .unwrap();
    assert_eq!(log.log_end_offset(), 1);
}
