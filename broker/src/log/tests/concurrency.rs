//! Several threads on one log, and several logs on one budget.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::log::ReadError;

#[test]
fn readers_see_whole_batches_in_order_whatever_others_do() {
    for tail_bytes in [0, 4000] {
        let bench = Bench {
            tail_bytes,
            ..Bench::in_memory(LogConfig {
                retention_bytes: 5000,
                ..small()
            })
        };
        let log = bench.open();
        let done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for reader in 0..3 {
                let (log, done) = (&log, &done);
                scope.spawn(move || {
                    let mut from = 0;
                    while !done.load(Ordering::Relaxed) {
                        match log.read(from, 100 * (reader + 1), i64::MAX, true) {
                            Ok(slice) => {
                                let ranges = ranges(&slice.batches);
                                assert!(
                                    ranges
                                        .first()
                                        .is_none_or(|(base, last)| (*base..=*last).contains(&from))
                                );
                                assert!(ranges.windows(2).all(|pair| pair[0].1 + 1 == pair[1].0));
                                from = slice.next_offset;
                            }
                            Err(ReadError::OffsetOutOfRange { log_start_offset, .. }) => from = log_start_offset,
                            Err(error) => panic!("{error}"),
                        }
                        let _ = log.offset_for_timestamp(NOW).unwrap();
                    }
                });
            }
            for round in 0..400 {
                append(&log, &batch(round % 5 + 1)).unwrap();
                if round % 40 == 39 {
                    log.retain(NOW).unwrap();
                    log.tick(i64::MAX).unwrap();
                }
                if round % 70 == 69 {
                    log.truncate_to(log.log_end_offset() - 12, NOW).unwrap();
                }
                if round % 50 == 49 {
                    log.flush().unwrap();
                }
            }
            done.store(true, Ordering::Relaxed);
        });
        read_all(&log);
    }
}

#[test]
fn producers_on_many_threads_get_offsets_without_gaps() {
    let bench = Bench::in_memory(small());
    let log = bench.open();
    let mut infos: Vec<AppendInfo> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4)
            .map(|producer| {
                let log = &log;
                scope.spawn(move || {
                    (0..50)
                        .map(|number| append(log, &batch_from(producer, 0, number * 2, 2)).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    infos.sort_by_key(|info| info.first_offset);
    let firsts: Vec<i64> = infos.iter().map(|info| info.first_offset).collect();
    assert_eq!(firsts, (0..400).step_by(2).collect::<Vec<i64>>());
    assert_eq!(read_all(&log).len(), 200);
}

#[test]
fn the_tails_of_all_logs_share_one_budget_and_empty_by_themselves() {
    let disk: Arc<dyn Disk> = Arc::new(SimulatedDisk::new());
    let data = DataDir::new(disk, "/data".into());
    let budget = TailBudget::new(1000);
    let open = |partition| {
        let (config, start) = (LogConfig::default(), LogStart::default());
        Log::open(&data, "t", partition, Uuid::ZERO, config, start, budget.clone(), NOW).unwrap()
    };
    let logs = [open(0), open(1)];
    for _ in 0..50 {
        for log in &logs {
            append(log, &batch(3)).unwrap();
            assert!(budget.used() <= 1000);
        }
    }
    assert!(budget.used() > 500);
    assert!(logs.iter().any(|log| log.reads_from_memory(147)));
    assert!(!logs[0].reads_from_memory(0));
    assert!(logs[0].reads_from_memory(150), "there is nothing to read at the end");
    for log in &logs {
        assert_eq!(read_all(log).len(), 50);
        log.tick(NOW + 60_000).unwrap();
    }
    assert_eq!(budget.used(), 0);
    append(&logs[0], &batch(3)).unwrap();
    drop(logs);
    assert_eq!(budget.used(), 0);
}
