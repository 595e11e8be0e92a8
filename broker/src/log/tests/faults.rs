//! Failing disks and lost power, on the simulated disk.

use proptest::prelude::*;

use super::*;
use crate::log::checkpoint::LEADER_EPOCHS;
use crate::log::disk::simulated::{Fault, SimulatedDisk};

fn simulated(config: LogConfig) -> (SimulatedDisk, Bench) {
    let disk = SimulatedDisk::new();
    let bench = Bench {
        disk: Arc::new(disk.clone()),
        ..Bench::in_memory(config)
    };
    (disk, bench)
}

#[test]
fn a_failed_write_takes_the_directory_offline_and_is_not_tried_again() {
    for fault in [Fault::Write, Fault::ShortWrite] {
        let (disk, bench) = simulated(LogConfig::default());
        let log = bench.open();
        append(&log, &batch(2)).unwrap();
        disk.fail_next(fault);
        let error = append(&log, &batch(2)).unwrap_err();
        assert_eq!(error.code(), ottla_protocol::ErrorCode::KafkaStorageError);
        assert!(log.data_dir().is_offline());
        assert!(append(&log, &batch(2)).is_err());
        assert!(log.read(0, 1, i64::MAX, true).is_err());
        assert!(log.flush().is_err());
        drop(log);
        let log = bench.open();
        assert_eq!(read_all(&log), [(0, 1)], "half a batch is cut off");
    }
}

#[test]
fn a_failed_fsync_takes_the_directory_offline() {
    let (disk, bench) = simulated(LogConfig::default());
    let log = bench.open();
    log.flush().unwrap();
    append(&log, &batch(2)).unwrap();
    disk.fail_next(Fault::Sync);
    assert!(log.flush().is_err());
    assert!(log.data_dir().is_offline());
    assert!(log.flush().is_err(), "never retried into success");
    assert!(log.close().is_err());
}

#[test]
fn flush_messages_asks_for_a_flush_before_the_answer() {
    let (_, bench) = simulated(LogConfig {
        flush_messages: 3,
        ..LogConfig::default()
    });
    let log = bench.open();
    assert!(!append(&log, &batch(2)).unwrap().flush_due);
    let info = append(&log, &batch(1)).unwrap();
    assert!(info.flush_due);
    log.flush_to(info.last_offset + 1).unwrap();
    assert_eq!(log.recovery_point(), 3);
    assert!(!append(&log, &batch(2)).unwrap().flush_due);
}

#[test]
fn waiting_callers_share_an_fsync() {
    let (disk, bench) = simulated(LogConfig::default());
    let log = bench.open();
    log.flush().unwrap();
    let info = append(&log, &batch(2)).unwrap();
    let before = disk.syncs();
    for _ in 0..10 {
        log.flush_to(info.last_offset + 1).unwrap();
    }
    assert_eq!(disk.syncs(), before + 1);
}

/// A small generator; the disk asks it what survives.
fn chances(mut seed: u64) -> impl FnMut() -> u64 {
    move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 33
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever a power loss leaves, what was flushed is there, and all that is there was written, in order.
    #[test]
    fn a_power_loss_keeps_what_was_flushed_and_tears_only_the_rest(
        seed in any::<u64>(),
        steps in proptest::collection::vec((0..20u8, 1..5usize), 1..60),
        segment_bytes in prop_oneof![Just(600u32), Just(2000), Just(100_000)],
    ) {
        let (disk, bench) = simulated(LogConfig { segment_bytes, index_interval_bytes: 150, ..LogConfig::default() });
        let log = bench.open();
        let (mut epoch, mut sequence) = (0, 0);
        for (kind, count) in steps {
            match kind {
                0 | 1 => log.flush().unwrap(),
                2 => epoch += 1,
                _ => {
                    let sent = batch_from(5, 0, sequence, count);
                    log.append_as_leader(&sent, epoch, AppendOrigin::Client, NOW).unwrap();
                    sequence += count as i32;
                }
            }
        }
        let recovery_point = log.recovery_point();
        let written: Vec<u8> = whole(&log);
        let epochs = log.leader_epochs();
        drop(log);

        disk.lose_power(&mut chances(seed));
        let log = bench.open_with(LogStart { recovery_point, ..LogStart::default() });
        prop_assert!(log.log_end_offset() >= recovery_point, "{} < {recovery_point}", log.log_end_offset());
        let left = whole(&log);
        prop_assert!(written.starts_with(&left));
        for entry in epochs.entries().iter().filter(|entry| entry.start_offset < log.log_end_offset()) {
            prop_assert!(log.leader_epochs().entries().contains(entry));
        }
        // The producer goes on exactly where the log ends.
        let next = i32::try_from(log.log_end_offset()).unwrap();
        if next > 0 {
            let early = append_in(&log, epoch, &batch_from(5, 0, next + 1, 1));
            prop_assert!(matches!(early, Err(AppendError::Producer(_))));
        }
        append_in(&log, epoch, &batch_from(5, 0, next, 2)).unwrap();
        log.close().unwrap();
        let log = bench.open_with(LogStart { clean: true, recovery_point: i64::MAX, ..LogStart::default() });
        prop_assert_eq!(log.log_end_offset(), i64::from(next) + 2);
    }
}

fn append_in(log: &Log, epoch: i32, records: &[u8]) -> Result<AppendInfo, AppendError> {
    log.append_as_leader(records, epoch, AppendOrigin::Client, NOW)
}

fn whole(log: &Log) -> Vec<u8> {
    let (mut bytes, mut from) = (Vec::new(), log.log_start_offset());
    while from < log.log_end_offset() {
        let slice = read(log, from);
        assert!(
            slice.next_offset > from,
            "no progress at {from} of {}",
            log.log_end_offset()
        );
        bytes.extend(slice.batches.concat());
        from = slice.next_offset;
    }
    bytes
}

#[test]
fn a_crash_while_a_checkpoint_is_replaced_leaves_the_old_or_the_new() {
    for seed in 0..50 {
        let (disk, bench) = simulated(LogConfig::default());
        let log = bench.open();
        append(&log, &batch(2)).unwrap();
        log.flush().unwrap();
        let path = bench.dir().join(LEADER_EPOCHS);
        disk.fail_next(Fault::Sync);
        assert!(log.append_as_leader(&batch(2), 1, AppendOrigin::Client, NOW).is_err());
        drop(log);
        disk.lose_power(&mut chances(seed));
        assert_eq!(disk.read(&path).unwrap(), b"0\n1\n0 0\n");
        assert_eq!(read_all(&bench.open()), [(0, 1)]);
    }
}
