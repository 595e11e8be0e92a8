//! Rolling, retention, deletion.

use super::*;

fn bases(bench: &Bench) -> Vec<i64> {
    bench
        .names()
        .iter()
        .filter_map(|name| name.strip_suffix(".log")?.parse().ok())
        .collect()
}

#[test]
fn a_segment_is_rolled_before_it_would_exceed_its_size() {
    let bench = Bench::new(small());
    let log = bench.open();
    let size = batch(2).len();
    for _ in 0..30 {
        append(&log, &batch(2)).unwrap();
    }
    let per_segment = 1000 / size;
    let expected: Vec<i64> = (0..30).step_by(per_segment).map(|number| number as i64 * 2).collect();
    assert_eq!(bases(&bench), expected);
    let error = append(&log, &batch(100)).unwrap_err();
    assert!(
        matches!(error, AppendError::LargerThanSegment { limit: 1000, .. }),
        "{error}"
    );
}

#[test]
fn a_segment_is_rolled_when_its_records_span_too_long() {
    let bench = Bench::new(LogConfig {
        segment_ms: 1000,
        ..LogConfig::default()
    });
    let log = bench.open();
    for time in [0, 1000, 1001, 500, 2002] {
        append(&log, &batch_of(&[NOW - 5000 + time], 10, Compression::None)).unwrap();
    }
    assert_eq!(bases(&bench), [0, 2, 4]);
}

#[test]
fn a_segment_is_rolled_when_an_index_is_full() {
    let bench = Bench::new(LogConfig {
        segment_index_bytes: 36,
        index_interval_bytes: 0,
        ..LogConfig::default()
    });
    let log = bench.open();
    for _ in 0..10 {
        append(&log, &batch(1)).unwrap();
    }
    assert_eq!(
        bases(&bench),
        [0, 5],
        "four index entries, and the first batch has none"
    );
}

#[test]
fn retention_by_size_keeps_at_least_that_much() {
    let bench = Bench::new(LogConfig {
        retention_bytes: 2500,
        ..small()
    });
    let log = bench.open();
    for _ in 0..60 {
        append(&log, &batch(2)).unwrap();
    }
    let before = bases(&bench);
    assert!(log.retain(NOW).unwrap() > 0);
    assert!(log.size() >= 2500 && log.size() < 3500, "{}", log.size());
    assert_eq!(log.log_start_offset(), bases(&bench)[0]);
    assert_eq!(log.log_end_offset(), 120);
    assert!(log.read(0, 1, i64::MAX, true).is_err());
    assert_eq!(read_all(&log)[0].0, log.log_start_offset());
    assert!(before.len() > bases(&bench).len());
    assert_eq!(log.retain(NOW).unwrap(), 0);
}

#[test]
fn retention_by_time_goes_by_the_newest_record_of_a_segment() {
    let bench = Bench::new(LogConfig {
        retention_ms: 1000,
        ..small()
    });
    let log = bench.open();
    for number in 0..40 {
        append(&log, &batch_of(&[NOW + number * 100], 100, Compression::None)).unwrap();
    }
    let segments = bases(&bench);
    assert_eq!(log.retain(NOW).unwrap(), 0);
    let newest_of_first = NOW + (segments[1] - 1) * 100;
    assert_eq!(log.retain(newest_of_first + 1000).unwrap(), 0);
    assert_eq!(log.retain(newest_of_first + 1001).unwrap(), 1);
    assert_eq!(log.log_start_offset(), segments[1]);
    assert!(log.retain(NOW + 1_000_000).unwrap() > 0);
    assert_eq!((log.log_start_offset(), log.log_end_offset(), log.size()), (40, 40, 0));
    assert_eq!(append(&log, &batch(1)).unwrap().first_offset, 40);
}

#[test]
fn nothing_above_the_high_watermark_is_deleted() {
    let bench = Bench::new(LogConfig {
        retention_ms: 1000,
        ..small()
    });
    let log = bench.open();
    for _ in 0..40 {
        append(&log, &batch(2)).unwrap();
    }
    let segments = bases(&bench);
    log.set_high_watermark(segments[2] + 1);
    log.retain(NOW + 1_000_000).unwrap();
    assert_eq!(log.log_start_offset(), segments[2]);
}

#[test]
fn compacted_topics_are_not_cut_by_time() {
    let bench = Bench::new(LogConfig {
        retention_ms: 1000,
        delete: false,
        compact: true,
        ..small()
    });
    let log = bench.open();
    for _ in 0..40 {
        append(&log, &batch(2)).unwrap();
    }
    log.set_high_watermark(i64::MAX);
    assert_eq!(log.retain(NOW + 1_000_000).unwrap(), 0);
    log.delete_records_before(30).unwrap();
    assert!(log.retain(NOW).unwrap() > 0, "but what lies below the log start goes");
}

#[test]
fn deleted_files_stay_for_a_while_under_another_name() {
    let bench = Bench::new(LogConfig {
        retention_bytes: 0,
        file_delete_delay_ms: 500,
        ..small()
    });
    let log = bench.open();
    for _ in 0..20 {
        append(&log, &batch(2)).unwrap();
    }
    log.set_high_watermark(i64::MAX);
    log.retain(NOW).unwrap();
    let marked = |bench: &Bench| bench.names().iter().filter(|name| name.ends_with(".deleted")).count();
    assert!(marked(&bench) > 2);
    log.tick(NOW + 499).unwrap();
    assert!(marked(&bench) > 2);
    log.tick(NOW + 500).unwrap();
    assert_eq!(marked(&bench), 0);
}

#[test]
fn deleted_records_cannot_be_read_but_their_batch_may_come_along() {
    let bench = Bench::new(LogConfig::default());
    let log = bench.open();
    for _ in 0..4 {
        append(&log, &batch(5)).unwrap();
    }
    log.set_high_watermark(15);
    assert_eq!(log.delete_records_before(7).unwrap(), 7);
    assert_eq!(log.delete_records_before(3).unwrap(), 7, "it never goes back");
    assert!(log.delete_records_before(16).is_err());
    assert!(log.read(6, 1, i64::MAX, true).is_err());
    assert_eq!(ranges(&read(&log, 7).batches)[0], (5, 9));
    assert_eq!(log.leader_epochs().earliest().unwrap().start_offset, 7);
}

#[test]
fn a_reader_keeps_what_it_has_while_segments_go() {
    let bench = Bench::new(LogConfig {
        retention_bytes: 0,
        ..small()
    });
    let log = bench.open();
    for _ in 0..20 {
        append(&log, &batch(2)).unwrap();
    }
    let slice = read(&log, 0);
    log.set_high_watermark(i64::MAX);
    log.retain(NOW).unwrap();
    log.tick(NOW + 100_000).unwrap();
    assert_eq!(ranges(&slice.batches)[0], (0, 1));
}

#[test]
fn truncation_cuts_segments_epochs_and_high_watermark() {
    let bench = Bench {
        tail_bytes: 1 << 20,
        ..Bench::new(small())
    };
    let log = bench.open();
    for epoch in 0..40 {
        log.append_as_leader(&batch(2), epoch / 10, AppendOrigin::Client, NOW)
            .unwrap();
    }
    log.set_high_watermark(80);
    assert!(!log.truncate_to(80, NOW).unwrap());
    assert!(log.truncate_to(30, NOW).unwrap());
    assert_eq!(
        (log.log_end_offset(), log.high_watermark(), log.latest_epoch()),
        (30, 30, Some(1))
    );
    assert_eq!(read_all(&log).last(), Some(&(28, 29)));
    log.append_as_leader(&batch(3), 5, AppendOrigin::Client, NOW).unwrap();
    assert_eq!(read_all(&log).last(), Some(&(30, 32)));
    drop(log);
    let log = bench.open();
    assert_eq!((log.log_end_offset(), log.latest_epoch()), (33, Some(5)));
    log.truncate_fully_and_start_at(1000, NOW).unwrap();
    assert_eq!(
        (log.log_start_offset(), log.log_end_offset(), log.latest_epoch()),
        (1000, 1000, None)
    );
    assert_eq!(
        log.append_as_leader(&batch(3), 5, AppendOrigin::Client, NOW)
            .unwrap()
            .first_offset,
        1000
    );
}
