//! Idempotent producers, through restarts, truncation and retention.

use super::*;
use ottla_protocol::ErrorCode;

fn code(result: Result<AppendInfo, AppendError>) -> ErrorCode {
    result.unwrap_err().code()
}

#[test]
fn a_repeat_is_answered_with_the_offset_of_the_first_copy() {
    let bench = Bench::in_memory(small());
    let log = bench.open();
    append(&log, &batch(5)).unwrap();
    let first = append(&log, &batch_from(9, 0, 0, 3)).unwrap();
    assert!(!first.duplicate);
    append(&log, &batch_from(9, 0, 3, 3)).unwrap();
    let again = append(&log, &batch_from(9, 0, 0, 3)).unwrap();
    assert_eq!((again.duplicate, again.first_offset, again.last_offset), (true, 5, 7));
    assert_eq!(log.log_end_offset(), 11);
    assert_eq!(
        code(append(&log, &batch_from(9, 0, 7, 1))),
        ErrorCode::OutOfOrderSequenceNumber
    );
    append(&log, &batch_from(9, 1, 0, 1)).unwrap();
    assert_eq!(
        code(append(&log, &batch_from(9, 0, 6, 1))),
        ErrorCode::InvalidProducerEpoch
    );
    assert_eq!(log.log_end_offset(), 12);
}

#[test]
fn what_producers_wrote_last_survives_a_start_of_any_kind() {
    for (clean, without_snapshots) in [(true, false), (false, false), (false, true), (true, true)] {
        let bench = Bench::in_memory(small());
        let log = bench.open();
        for number in 0..30 {
            append(&log, &batch_from(9, 2, number * 2, 2)).unwrap();
        }
        if clean {
            log.close().unwrap();
        }
        drop(log);
        if without_snapshots {
            for name in bench.names().iter().filter(|name| name.ends_with(".snapshot")) {
                bench.put(&bench.dir().join(name), b"garbled");
            }
        }
        let log = bench.open_with(LogStart {
            clean,
            recovery_point: if clean { 60 } else { 0 },
            ..LogStart::default()
        });
        let again = append(&log, &batch_from(9, 2, 58, 2)).unwrap();
        assert_eq!((again.duplicate, again.first_offset), (true, 58), "clean {clean}");
        assert_eq!(
            code(append(&log, &batch_from(9, 2, 62, 1))),
            ErrorCode::OutOfOrderSequenceNumber
        );
        assert_eq!(append(&log, &batch_from(9, 2, 60, 1)).unwrap().first_offset, 60);
    }
}

#[test]
fn truncation_takes_sequences_back() {
    let bench = Bench::in_memory(small());
    let log = bench.open();
    for number in 0..30 {
        append(&log, &batch_from(9, 2, number * 2, 2)).unwrap();
    }
    assert!(log.truncate_to(31, NOW).unwrap());
    assert_eq!(log.log_end_offset(), 30, "a batch is never cut in two");
    assert_eq!(
        code(append(&log, &batch_from(9, 2, 60, 2))),
        ErrorCode::OutOfOrderSequenceNumber
    );
    let next = append(&log, &batch_from(9, 2, 30, 2)).unwrap();
    assert_eq!((next.first_offset, next.duplicate), (30, false));
    assert!(append(&log, &batch_from(9, 2, 28, 2)).unwrap().duplicate);
}

#[test]
fn producers_outlive_their_records_even_through_a_restart() {
    for clean in [true, false] {
        let bench = Bench::in_memory(LogConfig {
            retention_bytes: 0,
            ..small()
        });
        let log = bench.open();
        for number in 0..30 {
            append(&log, &batch_from(9, 2, number * 2, 2)).unwrap();
        }
        assert!(log.retain(NOW).unwrap() > 1);
        assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size()), (60, 60, 0));
        let log_start_offset = log.log_start_offset();
        if clean {
            log.close().unwrap();
        }
        drop(log);
        let start = LogStart {
            clean,
            recovery_point: 60,
            log_start_offset,
            ..LogStart::default()
        };
        let log = bench.open_with(start);
        assert!(
            append(&log, &batch_from(9, 2, 58, 2)).unwrap().duplicate,
            "clean {clean}"
        );
        assert_eq!(
            code(append(&log, &batch_from(9, 2, 0, 2))),
            ErrorCode::OutOfOrderSequenceNumber
        );
        append(&log, &batch_from(9, 2, 60, 2)).unwrap();
    }
}

#[test]
fn idle_producers_are_forgotten_after_their_time() {
    let bench = Bench::in_memory(LogConfig {
        producer_id_expiration_ms: 1000,
        ..small()
    });
    let log = bench.open();
    append(&log, &batch_from(9, 0, 5, 1)).unwrap();
    log.tick(NOW + 999).unwrap();
    assert_eq!(
        code(append(&log, &batch_from(9, 0, 77, 1))),
        ErrorCode::OutOfOrderSequenceNumber
    );
    log.tick(NOW + 1000).unwrap();
    assert_eq!(log.producer_count(), 0);
    append(&log, &batch_from(9, 0, 77, 1)).unwrap();
}

#[test]
fn records_of_long_ago_do_not_make_their_producer_forgotten() {
    let bench = Bench::in_memory(LogConfig {
        producer_id_expiration_ms: 1000,
        ..small()
    });
    let log = bench.open();
    let years_later = NOW + 100_000_000_000;
    let batch = batch_from(9, 0, 5, 1);
    log.append_as_leader(&batch, 0, AppendOrigin::Client, years_later)
        .unwrap();
    log.tick(years_later + 999).unwrap();
    let again = log
        .append_as_leader(&batch, 0, AppendOrigin::Client, years_later + 999)
        .unwrap();
    assert!(again.duplicate);
}

#[test]
fn a_follower_remembers_what_its_leader_accepted() {
    let bench = Bench::in_memory(small());
    let leader = bench.open();
    for number in 0..5 {
        append(&leader, &batch_from(9, 2, number * 2, 2)).unwrap();
    }
    let follower_bench = Bench::in_memory(small());
    let follower = follower_bench.open();
    let bytes = read(&leader, 0).batches.concat();
    let info = follower.append_as_follower(&bytes, NOW).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (0, 9));
    assert_eq!(read(&follower, 0).batches.concat(), bytes, "the same bytes");
    assert!(append(&follower, &batch_from(9, 2, 8, 2)).unwrap().duplicate);
    let error = follower.append_as_follower(&bytes, NOW).unwrap_err();
    assert!(matches!(
        error,
        AppendError::UnexpectedOffset {
            found: 0,
            log_end_offset: 10
        }
    ));
}
