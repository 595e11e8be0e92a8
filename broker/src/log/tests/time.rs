//! Offsets by time.

use super::*;
use crate::log::TimestampOffset;

fn found(offset: i64, timestamp: i64) -> Option<TimestampOffset> {
    Some(TimestampOffset {
        timestamp,
        offset,
        leader_epoch: 0,
    })
}

#[test]
fn the_first_record_at_or_after_a_time_is_found_within_its_batch() {
    for compression in [
        Compression::None,
        Compression::Lz4,
        Compression::Zstd,
        Compression::Gzip,
        Compression::Snappy,
    ] {
        let bench = Bench::in_memory(small());
        let log = bench.open();
        for number in 0..20 {
            let time = number * 100;
            append(&log, &batch_of(&[time, time + 30, time + 60], 20, compression)).unwrap();
        }
        assert!(log.segment_count() > 1);
        assert_eq!(log.offset_for_timestamp(0).unwrap(), found(0, 0));
        assert_eq!(log.offset_for_timestamp(1).unwrap(), found(1, 30));
        assert_eq!(log.offset_for_timestamp(731).unwrap(), found(23, 760));
        assert_eq!(log.offset_for_timestamp(761).unwrap(), found(24, 800));
        assert_eq!(log.offset_for_timestamp(1960).unwrap(), found(59, 1960));
        assert_eq!(log.offset_for_timestamp(1961).unwrap(), None);
        assert_eq!(log.max_timestamp_offset().unwrap(), found(59, 1960));
    }
}

#[test]
fn times_need_not_grow() {
    let bench = Bench::in_memory(small());
    let log = bench.open();
    for times in [[500, 100], [300, 900], [200, 900], [100, 50]] {
        append(&log, &batch_of(&times, 300, Compression::None)).unwrap();
    }
    assert_eq!(log.offset_for_timestamp(400).unwrap(), found(0, 500));
    assert_eq!(log.offset_for_timestamp(501).unwrap(), found(3, 900));
    assert_eq!(
        log.max_timestamp_offset().unwrap(),
        found(3, 900),
        "the earliest of several"
    );
    log.delete_records_before(4).unwrap();
    assert_eq!(
        log.offset_for_timestamp(400).unwrap(),
        found(5, 900),
        "not below the log start"
    );
    assert_eq!(log.offset_for_timestamp(0).unwrap(), found(4, 200));
}

#[test]
fn an_empty_log_has_no_times() {
    let bench = Bench::in_memory(small());
    let log = bench.open();
    assert_eq!(log.offset_for_timestamp(0).unwrap(), None);
    assert_eq!(log.max_timestamp_offset().unwrap(), None);
}

#[test]
fn the_brokers_time_replaces_the_producers() {
    let config = LogConfig {
        message_timestamp_type: ottla_protocol::records::TimestampType::LogAppendTime,
        ..small()
    };
    let bench = Bench::in_memory(config);
    let log = bench.open();
    for number in 0..10 {
        let sent = batch_of(&[5, 6, 7], 20, Compression::None);
        let info = log
            .append_as_leader(&sent, 0, AppendOrigin::Client, NOW + number)
            .unwrap();
        assert_eq!(info.log_append_time, NOW + number);
    }
    let slice = read(&log, 0);
    let stored = first(&slice.batches[0]);
    stored.verify_crc().unwrap();
    assert_eq!(stored.max_timestamp(), NOW);
    assert_eq!(
        stored.timestamp_type(),
        ottla_protocol::records::TimestampType::LogAppendTime
    );
    assert_eq!(log.offset_for_timestamp(NOW + 4).unwrap(), found(12, NOW + 4));
    assert_eq!(log.max_timestamp_offset().unwrap(), found(27, NOW + 9));
}

#[test]
fn a_repeat_is_answered_with_the_first_copys_time() {
    let config = LogConfig {
        message_timestamp_type: ottla_protocol::records::TimestampType::LogAppendTime,
        ..small()
    };
    let bench = Bench::in_memory(config);
    let log = bench.open();
    let sent = batch_from(1, 0, 0, 2);
    log.append_as_leader(&sent, 0, AppendOrigin::Client, NOW).unwrap();
    let again = log.append_as_leader(&sent, 0, AppendOrigin::Client, NOW + 50).unwrap();
    assert_eq!((again.duplicate, again.log_append_time), (true, NOW));
}
