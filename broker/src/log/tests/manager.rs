//! Data directories and all that is in them.

use std::path::PathBuf;

use super::*;
use crate::log::checkpoint::{CLEAN_SHUTDOWN, HIGH_WATERMARK, LOG_START_OFFSET, META_PROPERTIES, RECOVERY_POINT};
use crate::log::{LogManager, ManagerConfig, ManagerError};

fn id(number: u8) -> Uuid {
    Uuid([number; 16])
}

fn open(dirs: &[PathBuf]) -> Result<LogManager, ManagerError> {
    LogManager::open(Arc::new(RealDisk), ManagerConfig::new(dirs.to_vec(), 1))
}

fn loaded(dirs: &[PathBuf]) -> LogManager {
    let manager = open(dirs).unwrap();
    manager.load_logs(&|_| small(), NOW).unwrap();
    manager
}

#[test]
fn a_data_directory_keeps_its_identity() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [temp.path().join("a"), temp.path().join("b")];
    let manager = open(&dirs).unwrap();
    let cluster = manager.cluster_id().to_owned();
    assert_eq!(cluster.len(), 22);
    let ids: Vec<Uuid> = manager.directories().map(|(_, id)| id).collect();
    assert_ne!(ids[0], ids[1]);
    drop(manager);
    let manager = open(&dirs).unwrap();
    assert_eq!(manager.cluster_id(), cluster);
    assert_eq!(manager.directories().map(|(_, id)| id).collect::<Vec<_>>(), ids);
    let text = std::fs::read_to_string(dirs[0].join(META_PROPERTIES)).unwrap();
    assert!(text.contains("version=1\n") && text.contains("node.id=1\n"), "{text}");
}

#[test]
fn the_directory_of_another_cluster_or_node_is_refused() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = vec![temp.path().to_owned()];
    drop(open(&dirs).unwrap());
    let other = ManagerConfig {
        cluster_id: Some("other".into()),
        ..ManagerConfig::new(dirs.clone(), 1)
    };
    assert!(matches!(
        LogManager::open(Arc::new(RealDisk), other),
        Err(ManagerError::OtherCluster { .. })
    ));
    let other = ManagerConfig::new(dirs.clone(), 2);
    assert!(matches!(
        LogManager::open(Arc::new(RealDisk), other),
        Err(ManagerError::OtherNode { found: 1, .. })
    ));
    std::fs::write(dirs[0].join(META_PROPERTIES), "nonsense").unwrap();
    assert!(matches!(open(&dirs), Err(ManagerError::GarbledMetaProperties(_))));
}

#[test]
fn a_directory_serves_one_broker_at_a_time() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [temp.path().to_owned()];
    let first = open(&dirs).unwrap();
    assert!(matches!(open(&dirs), Err(ManagerError::Locked(_))));
    first.close(-1);
    open(&dirs).unwrap();
}

#[test]
fn partitions_are_found_again_after_a_clean_stop() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [temp.path().join("a"), temp.path().join("b")];
    let manager = loaded(&dirs);
    assert_eq!(manager.previous_broker_epoch(), None);
    for partition in 0..40 {
        let log = manager.create_log("orders-eu", id(1), partition, small(), NOW).unwrap();
        for _ in 0..partition {
            append(&log, &batch(2)).unwrap();
        }
        log.set_high_watermark(log.log_end_offset());
    }
    manager.get("orders-eu", 9).unwrap().delete_records_before(7).unwrap();
    manager.close(77);
    assert!(dirs[0].join(CLEAN_SHUTDOWN).exists());
    let lists = dirs.each_ref().map(|dir| {
        std::fs::read_dir(dir)
            .unwrap()
            .filter(|entry| entry.as_ref().unwrap().path().is_dir())
            .count()
    });
    assert_eq!(lists, [20, 20], "partitions spread over the directories");

    let manager = open(&dirs).unwrap();
    assert_eq!(manager.previous_broker_epoch(), Some(77));
    manager.load_logs(&|_| small(), NOW).unwrap();
    assert!(
        !dirs[0].join(CLEAN_SHUTDOWN).exists(),
        "the marker is taken before anything is written"
    );
    assert_eq!(manager.logs().len(), 40);
    for partition in 0..40 {
        let log = manager.get("orders-eu", partition).unwrap();
        let end = i64::from(partition) * 2;
        assert_eq!(
            (log.log_end_offset(), log.high_watermark(), log.recovery_point()),
            (end, end, end)
        );
        assert_eq!(log.log_start_offset(), if partition == 9 { 7 } else { 0 });
        assert_eq!(log.topic_id(), id(1));
    }
    drop(manager);
    assert_eq!(
        open(&dirs).unwrap().previous_broker_epoch(),
        None,
        "this stop was not clean"
    );
}

#[test]
fn a_topic_of_the_same_name_and_another_id_is_not_mistaken() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [temp.path().to_owned()];
    let manager = loaded(&dirs);
    let log = manager.create_log("t", id(1), 0, small(), NOW).unwrap();
    append(&log, &batch(1)).unwrap();
    assert!(Arc::ptr_eq(
        &log,
        &manager.create_log("t", id(1), 0, small(), NOW).unwrap()
    ));
    let error = manager.create_log("t", id(2), 0, small(), NOW).unwrap_err();
    assert_eq!(error.code(), ottla_protocol::ErrorCode::InconsistentTopicId);
    assert!(manager.delete_log("t", 0, NOW).unwrap());
    assert!(!manager.delete_log("t", 0, NOW).unwrap());
    let fresh = manager.create_log("t", id(2), 0, small(), NOW).unwrap();
    assert_eq!((fresh.log_end_offset(), fresh.topic_id()), (0, id(2)));
    assert!(append(&log, &batch(1)).is_err(), "the deleted log takes nothing more");
    assert!(log.read(0, 1, i64::MAX, true).is_err());
}

#[test]
fn a_deleted_partition_stays_under_another_name_for_a_while() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [temp.path().to_owned()];
    let manager = loaded(&dirs);
    let long = "n".repeat(249);
    for topic in ["t", long.as_str()] {
        manager.create_log(topic, id(1), 12, small(), NOW).unwrap();
        manager.delete_log(topic, 12, NOW).unwrap();
    }
    let doomed = || {
        let names = std::fs::read_dir(&dirs[0])
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.ends_with("-delete")).collect::<Vec<_>>()
    };
    let names = doomed();
    assert_eq!(names.len(), 2);
    assert!(names.iter().all(|name| name.len() <= 255));
    let short = names.iter().find(|name| name.starts_with("t-12.")).unwrap();
    assert_eq!(short.len(), "t-12.".len() + 32 + "-delete".len());
    manager.tick(NOW + 59_999);
    assert_eq!(doomed().len(), 2);
    manager.tick(NOW + 60_000);
    assert_eq!(doomed().len(), 0);
    manager.create_log("t", id(1), 0, small(), NOW).unwrap();
    manager.delete_log("t", 0, NOW).unwrap();
    drop(manager);
    let manager = loaded(&dirs);
    assert!(manager.logs().is_empty());
    manager.tick(NOW);
    assert_eq!(doomed().len(), 0, "a start removes what an earlier run left");
}

#[test]
fn checkpoints_that_are_garbled_or_missing_cost_time_and_nothing_else() {
    for clean in [true, false] {
        for damage in [None, Some("0\n7\ngarbled")] {
            let temp = tempfile::tempdir().unwrap();
            let dirs = [temp.path().to_owned()];
            let manager = loaded(&dirs);
            let log = manager.create_log("t", id(1), 0, small(), NOW).unwrap();
            for _ in 0..40 {
                append(&log, &batch(2)).unwrap();
            }
            manager.flush_all();
            manager.checkpoint();
            let all = read_all(&log);
            if clean {
                manager.close(1);
            }
            drop((log, manager));
            for name in [RECOVERY_POINT, LOG_START_OFFSET, HIGH_WATERMARK] {
                match damage {
                    Some(text) => std::fs::write(dirs[0].join(name), text).unwrap(),
                    None => std::fs::remove_file(dirs[0].join(name)).unwrap(),
                }
            }
            let manager = loaded(&dirs);
            assert_eq!(read_all(&manager.get("t", 0).unwrap()), all);
        }
    }
}

#[test]
fn the_metadata_log_is_opened_apart_and_kept_apart() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [temp.path().to_owned()];
    let manager = open(&dirs).unwrap();
    let log = manager.open_metadata_log(LogConfig::default(), NOW).unwrap();
    let info = log.append_durably(&[batch(2), batch(3)].concat(), 4, NOW).unwrap();
    assert_eq!((info.first_offset, info.last_offset), (0, 4));
    assert_eq!(log.recovery_point(), 5);
    log.append_durably(&batch(1), 6, NOW).unwrap();
    manager.load_logs(&|_| small(), NOW).unwrap();
    assert!(manager.logs().is_empty());
    drop((log, manager));
    let manager = open(&dirs).unwrap();
    let log = manager.open_metadata_log(LogConfig::default(), NOW).unwrap();
    assert_eq!(read_all(&log), [(0, 1), (2, 4), (5, 5)]);
    assert_eq!(log.latest_epoch(), Some(6));
}

#[test]
fn a_topic_id_lost_before_the_first_flush_is_written_again() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [temp.path().to_owned()];
    drop(loaded(&dirs).create_log("t", id(1), 0, small(), NOW).unwrap());
    let path = dirs[0].join("t-0").join("partition.metadata");
    std::fs::write(&path, b"").unwrap();
    let manager = loaded(&dirs);
    assert_eq!(manager.get("t", 0).unwrap().topic_id(), Uuid::ZERO);
    assert_eq!(
        manager.create_log("t", id(1), 0, small(), NOW).unwrap().topic_id(),
        id(1)
    );
    assert!(std::fs::read_to_string(&path).unwrap().ends_with(&id(1).to_string()));
}

#[test]
fn an_idle_partition_costs_no_fsync_at_all() {
    let disk = crate::log::disk::simulated::SimulatedDisk::new();
    let open = || LogManager::open(Arc::new(disk.clone()), ManagerConfig::new(vec!["/data".into()], 1)).unwrap();
    let manager = open();
    manager.load_logs(&|_| small(), NOW).unwrap();
    let before = disk.syncs();
    for partition in 0..50 {
        manager.create_log("t", id(1), partition, small(), NOW).unwrap();
    }
    assert_eq!(disk.syncs(), before, "creation waits for the first flush");
    manager.close(1);
    let manager = open();
    manager.load_logs(&|_| small(), NOW).unwrap();
    let loaded = disk.syncs();
    manager.flush_all();
    assert_eq!(disk.syncs(), loaded);
    for log in manager.logs() {
        log.close().unwrap();
    }
    assert_eq!(disk.syncs(), loaded);
}

#[test]
fn damage_in_the_metadata_log_is_reported_and_only_its_torn_end_is_cut() {
    let temp = tempfile::tempdir().unwrap();
    let dirs = [temp.path().to_owned()];
    let reopened = || {
        let manager = open(&dirs).unwrap();
        let log = manager.open_metadata_log(LogConfig::default(), NOW).unwrap();
        manager.close(-1);
        log
    };
    let log = reopened();
    for _ in 0..4 {
        log.append_durably(&batch(2), 1, NOW).unwrap();
    }
    drop(log);
    let path = dirs[0].join("__cluster_metadata-0").join("00000000000000000000.log");
    let good = std::fs::read(&path).unwrap();
    let size = good.len() / 4;
    for at in [size + 70, size + 9, size * 2 + 16] {
        let mut bytes = good.clone();
        bytes[at] ^= 0x40;
        std::fs::write(&path, bytes).unwrap();
        let log = reopened();
        assert_eq!(log.log_end_offset(), 8);
        let first_bad = (at / size) as i64 * 2;
        let slice = log.read(0, 1 << 20, 8, true).unwrap();
        assert_eq!(slice.next_offset, first_bad, "what lies before the damage is given");
        assert!(matches!(
            log.read(first_bad, 1 << 20, 8, true),
            Err(crate::log::ReadError::Corrupt { .. })
        ));
    }
    std::fs::write(&path, &good[..good.len() - 5]).unwrap();
    let log = reopened();
    assert_eq!((log.log_end_offset(), log.recovery_point()), (6, 6));
}
