//! Appending and reading back.

use super::*;

#[test]
fn offsets_and_epoch_are_set_in_the_copy_and_nothing_else_changes() {
    let bench = Bench::new(small());
    let log = bench.open();
    let sent = batch(3);
    let info = log.append_as_leader(&sent, 7, AppendOrigin::Client, NOW).unwrap();
    assert_eq!((info.first_offset, info.last_offset, info.log_append_time), (0, 2, -1));
    let info = log.append_as_leader(&sent, 7, AppendOrigin::Client, NOW).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (3, 5));
    let slice = read(&log, 3);
    let stored = first(&slice.batches[0]);
    assert_eq!((stored.base_offset(), stored.partition_leader_epoch()), (3, 7));
    assert_eq!(stored.raw()[16..], sent[16..]);
    assert_eq!(stored.raw()[8..12], sent[8..12]);
}

#[test]
fn an_offset_inside_a_batch_gives_the_whole_batch() {
    for tail_bytes in [0, 1 << 20] {
        let bench = Bench {
            tail_bytes,
            ..Bench::new(small())
        };
        let log = bench.open();
        for _ in 0..4 {
            append(&log, &batch(5)).unwrap();
        }
        let slice = read(&log, 7);
        assert_eq!(ranges(&slice.batches)[0], (5, 9));
        assert_eq!(slice.next_offset, 20);
    }
}

#[test]
fn max_bytes_is_kept_but_for_the_first_batch() {
    for tail_bytes in [0, 1 << 20] {
        let bench = Bench {
            tail_bytes,
            ..Bench::new(LogConfig::default())
        };
        let log = bench.open();
        let sent = batch(5);
        for _ in 0..4 {
            append(&log, &sent).unwrap();
        }
        let take = |max_bytes, at_least_one| {
            let slice = log.read(5, max_bytes, i64::MAX, at_least_one).unwrap();
            assert_eq!(slice.size, slice.batches.iter().map(Bytes::len).sum::<usize>());
            (ranges(&slice.batches), slice.next_offset)
        };
        assert_eq!(take(0, false), (vec![], 5));
        assert_eq!(take(sent.len() - 1, false), (vec![], 5));
        assert_eq!(take(0, true), (vec![(5, 9)], 10));
        assert_eq!(take(sent.len(), false), (vec![(5, 9)], 10));
        assert_eq!(take(sent.len() * 2 - 1, true), (vec![(5, 9)], 10));
        assert_eq!(take(sent.len() * 2, true), (vec![(5, 9), (10, 14)], 15));
    }
}

#[test]
fn nothing_at_or_above_the_upper_bound_is_given() {
    for tail_bytes in [0, 1 << 20] {
        let bench = Bench {
            tail_bytes,
            ..Bench::new(LogConfig::default())
        };
        let log = bench.open();
        for _ in 0..4 {
            append(&log, &batch(5)).unwrap();
        }
        let take = |from, upper| ranges(&log.read(from, 1 << 20, upper, true).unwrap().batches);
        assert_eq!(take(0, 10), [(0, 4), (5, 9)]);
        assert_eq!(take(0, 14), [(0, 4), (5, 9)], "a bound inside a batch excludes it");
        assert_eq!(take(10, 10), []);
        assert_eq!(take(12, 10), []);
        assert_eq!(take(20, i64::MAX), []);
    }
}

#[test]
fn offsets_outside_the_log_are_out_of_range() {
    let log_bench = Bench::new(small());
    let log = log_bench.open();
    append(&log, &batch(5)).unwrap();
    for offset in [-1, 6, i64::MAX] {
        let error = log.read(offset, 100, i64::MAX, true).unwrap_err();
        assert_eq!(error.code(), ottla_protocol::ErrorCode::OffsetOutOfRange, "{error}");
    }
    assert!(read(&log, 5).batches.is_empty());
}

#[test]
fn a_log_reads_the_same_after_it_was_opened_again() {
    let bench = Bench::new(small());
    let log = bench.open();
    for count in 1..40 {
        append(&log, &batch(count % 7 + 1)).unwrap();
    }
    let before = read_all(&log);
    assert!(log.segment_count() > 3);
    let end = log.log_end_offset();
    drop(log);
    let unclean = bench.open();
    assert_eq!(unclean.log_end_offset(), end);
    assert_eq!(read_all(&unclean), before);
    unclean.close().unwrap();
    let clean = bench.open_with(LogStart {
        clean: true,
        recovery_point: end,
        ..LogStart::default()
    });
    assert_eq!(clean.log_end_offset(), end);
    assert_eq!(read_all(&clean), before);
    for (base, last) in before {
        for offset in base..=last {
            assert_eq!(ranges(&read(&clean, offset).batches)[0], (base, last));
        }
    }
}
