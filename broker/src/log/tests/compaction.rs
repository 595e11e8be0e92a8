//! What compaction leaves: the last record of each key, at its offset, whatever happens in between.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};

use ottla_protocol::records::with_decompressor;
use proptest::prelude::*;

use super::*;
use crate::log::checkpoint::CLEANER_OFFSET;
use crate::log::disk::simulated::SimulatedDisk;
use crate::log::{CleanError, Cleanable, Cleaned, CleanerConfig, LogManager, ManagerConfig};

type Key = Vec<u8>;
/// Offset, key, value.
type Entry = (i64, Key, Option<Vec<u8>>);

const DELETE_RETENTION_MS: i64 = 10_000;

fn compacted() -> LogConfig {
    LogConfig {
        compact: true,
        delete: false,
        delete_retention_ms: DELETE_RETENTION_MS,
        ..small()
    }
}

/// A batch of records with these keys and values.
fn batch_with(records: &[(&str, Option<&str>)], compression: Compression) -> Vec<u8> {
    let mut builder = RecordBatchBuilder::new(Vec::new());
    for (key, value) in records {
        builder
            .append(NOW, Some(key.as_bytes()), value.map(str::as_bytes), &[])
            .unwrap();
    }
    let mut sealed = builder.seal(compression, None).unwrap();
    sealed.stamp(-1, -1, -1, false);
    sealed.to_vec()
}

fn one(key: &str, value: Option<&str>) -> Vec<u8> {
    batch_with(&[(key, value)], Compression::None)
}

/// Begins a new segment: what was appended before is not active any more.
fn roll(log: &Log) {
    let config = LogConfig::clone(&log.config());
    log.update_config(LogConfig {
        segment_bytes: 1 << 20,
        // Whatever the times of the records.
        segment_ms: i64::MIN / 2,
        ..config.clone()
    });
    append(log, &one("~roll", Some(""))).unwrap();
    log.update_config(config);
}

fn clean_with(log: &Log, cleaner: &CleanerConfig, now_ms: i64) -> Result<Option<Cleaned>, CleanError> {
    match log.cleanable(now_ms)? {
        Some(cleanable) => log
            .clean(&cleanable, cleaner, now_ms, &AtomicBool::new(false))
            .map(Some),
        None => Ok(None),
    }
}

fn clean(log: &Log, now_ms: i64) -> Option<Cleaned> {
    clean_with(log, &CleanerConfig::default(), now_ms).unwrap()
}

/// All records, with every check that a reader makes.
fn entries(log: &Log) -> Vec<Entry> {
    let (mut found, mut from): (Vec<Entry>, i64) = (Vec::new(), log.log_start_offset());
    while from < log.log_end_offset() {
        let slice = read(log, from);
        assert!(slice.next_offset > from, "no progress at {from}");
        for batch in slice.batches.iter().flat_map(|bytes| RecordBatches::new(bytes)) {
            let batch = batch.unwrap();
            batch.verify_crc().unwrap();
            with_decompressor(|scratch| {
                for record in batch.records(scratch, 1 << 20).unwrap() {
                    let record = record.unwrap();
                    let key = record.key().unwrap().to_vec();
                    found.push((record.offset, key, record.value().map(<[u8]>::to_vec)));
                }
            });
        }
        from = slice.next_offset;
    }
    assert!(found.windows(2).all(|pair| pair[0].0 < pair[1].0), "offsets grow");
    found
}

fn keys_of(entries: &[Entry]) -> Vec<(i64, String)> {
    let text = |entry: &Entry| (entry.0, String::from_utf8(entry.1.clone()).unwrap());
    entries.iter().map(text).filter(|(_, key)| key != "~roll").collect()
}

fn last_values(entries: &[Entry]) -> BTreeMap<Key, Vec<u8>> {
    let mut last = BTreeMap::new();
    for (_, key, value) in entries {
        match value {
            Some(value) => last.insert(key.clone(), value.clone()),
            None => last.remove(key),
        };
    }
    last
}

#[test]
fn the_last_record_of_each_key_stays_at_its_offset() {
    for compression in Compression::ALL {
        let bench = Bench::in_memory(compacted());
        let log = bench.open();
        for round in 0..40 {
            let value = format!("value {round}");
            let records = [
                ("a", Some(value.as_str())),
                ("b", Some("same")),
                ("c", Some(value.as_str())),
            ];
            append(&log, &batch_with(&records[round % 3..], compression)).unwrap();
        }
        roll(&log);
        let before = entries(&log);
        let done = clean(&log, NOW).unwrap();
        assert!(done.bytes_after < done.bytes_before / 4, "{done:?}");
        let after = entries(&log);
        let count = before.len() as i64;
        // Of the last three batches the first has all keys, the second b and c, the third a, b and c again.
        assert_eq!(
            keys_of(&after),
            [
                (count - 4, "a".into()),
                (count - 3, "b".into()),
                (count - 2, "c".into())
            ],
            "{compression}"
        );
        assert!(after.iter().all(|entry| before.contains(entry)));
        assert_eq!(log.clean_to(), log.log_end_offset() - 1);
        let segments = log.segment_count();
        roll(&log);
        clean(&log, NOW).unwrap();
        assert!(log.segment_count() < segments, "what has become small is put together");
    }
}

#[test]
fn nothing_is_touched_in_the_active_segment_nor_beyond_the_high_watermark() {
    let bench = Bench::in_memory(LogConfig {
        segment_bytes: 1 << 20,
        ..compacted()
    });
    let log = bench.open();
    for _ in 0..5 {
        append(&log, &one("a", Some("1"))).unwrap();
    }
    assert_eq!(clean(&log, NOW), None, "all is active");
    roll(&log);
    for _ in 0..3 {
        append(&log, &one("b", Some("2"))).unwrap();
    }
    clean(&log, NOW).unwrap();
    let b = |offset: i64| (offset, "b".to_owned());
    assert_eq!(keys_of(&entries(&log)), [(4, "a".to_owned()), b(6), b(7), b(8)]);

    let bench = Bench::in_memory(compacted());
    let log = bench.open();
    for _ in 0..60 {
        append(&log, &one("a", Some("1"))).unwrap();
    }
    // A high watermark never falls, so it is told to a log opened anew.
    log.flush().unwrap();
    drop(log);
    let data = DataDir::new(bench.disk.clone(), bench.root.clone());
    let start = LogStart {
        high_watermark: 20,
        ..LogStart::default()
    };
    let log = Log::open(&data, "t", 0, Uuid::ZERO, compacted(), start, TailBudget::new(0), NOW).unwrap();
    assert_eq!(log.high_watermark(), 20);
    clean(&log, NOW).unwrap();
    let expected: Vec<i64> = (19..60).collect();
    let found: Vec<i64> = entries(&log).iter().map(|entry| entry.0).collect();
    assert_eq!(found, expected);
}

#[test]
fn a_tombstone_goes_when_its_delete_horizon_has_passed_and_not_before() {
    let bench = Bench::in_memory(compacted());
    let log = bench.open();
    append(&log, &one("a", Some("old"))).unwrap();
    append(&log, &one("b", Some("stays"))).unwrap();
    append(
        &log,
        &batch_with(&[("a", None), ("c", Some("stays"))], Compression::Lz4),
    )
    .unwrap();
    roll(&log);
    clean(&log, NOW).unwrap();
    let all = [(1, "b".to_owned()), (2, "a".to_owned()), (3, "c".to_owned())];
    assert_eq!(
        keys_of(&entries(&log)),
        all,
        "the value goes at once, the tombstone stays"
    );
    let slice = read(&log, 2);
    let horizon = slice
        .batches
        .iter()
        .flat_map(|bytes| RecordBatches::new(bytes))
        .find_map(|batch| batch.unwrap().delete_horizon());
    assert_eq!(horizon, Some(NOW + DELETE_RETENTION_MS));

    roll(&log);
    clean(&log, NOW + DELETE_RETENTION_MS - 1).unwrap();
    assert_eq!(keys_of(&entries(&log)), all);
    roll(&log);
    clean(&log, NOW + DELETE_RETENTION_MS).unwrap();
    assert_eq!(keys_of(&entries(&log)), [(1, "b".to_owned()), (3, "c".to_owned())]);
}

#[test]
fn a_producer_goes_on_after_all_its_records_were_superseded_and_its_snapshot_was_lost() {
    let bench = Bench::in_memory(compacted());
    let log = bench.open();
    append(&log, &batch_from(9, 2, 0, 3)).unwrap();
    append(&log, &batch_from(9, 2, 3, 2)).unwrap();
    append(&log, &one("key", Some("newer"))).unwrap();
    roll(&log);
    clean(&log, NOW).unwrap();
    assert_eq!(keys_of(&entries(&log)), [(5, "key".to_owned())]);
    assert_eq!(
        ranges(&read(&log, 0).batches),
        [(3, 4), (5, 5)],
        "the last batch stays without records"
    );
    drop(log);
    for name in bench.names().iter().filter(|name| name.ends_with(".snapshot")) {
        bench.disk.remove_file(&bench.dir().join(name)).unwrap();
    }
    let log = bench.open();
    assert!(append(&log, &batch_from(9, 2, 3, 2)).unwrap().duplicate);
    assert!(matches!(
        append(&log, &batch_from(9, 2, 6, 1)),
        Err(AppendError::Producer(_))
    ));
    append(&log, &batch_from(9, 2, 5, 1)).unwrap();
}

#[test]
fn the_ratio_and_the_lags_say_when() {
    let bench = Bench::in_memory(LogConfig {
        min_cleanable_dirty_ratio: 0.5,
        ..compacted()
    });
    let log = bench.open();
    let distinct = |from: usize, to: usize| {
        for number in from..to {
            append(&log, &one(&format!("key {number}"), Some("value"))).unwrap();
        }
        roll(&log);
    };
    distinct(0, 40);
    assert!(log.cleanable(NOW).unwrap().unwrap().due, "all is dirty");
    clean(&log, NOW).unwrap();
    assert_eq!(log.cleanable(NOW).unwrap(), None);
    distinct(100, 110);
    let Cleanable { due, dirty_ratio, .. } = log.cleanable(NOW).unwrap().unwrap();
    assert!(!due && dirty_ratio < 0.5, "{dirty_ratio}");

    let lag = |min_compaction_lag_ms, max_compaction_lag_ms| {
        log.update_config(LogConfig {
            min_compaction_lag_ms,
            max_compaction_lag_ms,
            ..bench.config.clone()
        });
    };
    lag(0, 1_000);
    assert!(!log.cleanable(NOW + 1_000).unwrap().unwrap().due);
    assert!(log.cleanable(NOW + 1_001).unwrap().unwrap().due);
    lag(1_000, i64::MAX);
    assert_eq!(log.cleanable(NOW + 999).unwrap(), None);
    assert!(log.cleanable(NOW + 1_000).unwrap().is_some());
}

#[test]
fn a_small_table_takes_several_passes_and_comes_to_the_same_end() {
    let cleaner = CleanerConfig {
        // Sixteen slots.
        dedupe_buffer_bytes: 0,
        ..CleanerConfig::default()
    };
    let bench = Bench::in_memory(compacted());
    let log = bench.open();
    for round in 0..300 {
        let (key, value) = (format!("key {}", round * 7 % 100), format!("{round}"));
        append(&log, &one(&key, Some(&value))).unwrap();
    }
    roll(&log);
    let before = entries(&log);
    let (mut passes, mut reached) = (0, 0);
    while let Some(done) = clean_with(&log, &cleaner, NOW).unwrap() {
        assert!(done.clean_to > reached, "each pass gets on");
        (passes, reached) = (passes + 1, done.clean_to);
        assert_eq!(last_values(&entries(&log)), last_values(&before));
    }
    assert!(passes > 10);
    assert_eq!(keys_of(&entries(&log)).len(), 100);
}

#[test]
fn an_unreadable_batch_leaves_the_log_as_it_is() {
    let bench = Bench::in_memory(compacted());
    let log = bench.open();
    for _ in 0..40 {
        append(&log, &one("a", Some("1"))).unwrap();
    }
    roll(&log);
    bench.flip(&bench.dir().join("00000000000000000000.log"), 200, 3);
    let failed = clean_with(&log, &CleanerConfig::default(), NOW).unwrap_err();
    assert!(matches!(failed, CleanError::Unreadable { .. }), "{failed}");
    assert!(failed.to_string().contains("00000000000000000000.log"), "{failed}");
    assert!(!log.data_dir().is_offline());
    assert_eq!(log.cleanable(NOW).unwrap(), None, "not tried again and again");
    assert!(bench.names().iter().all(|name| !name.ends_with(".cleaned")));
}

#[test]
fn a_pass_that_is_stopped_or_overtaken_changes_nothing() {
    let bench = Bench::in_memory(compacted());
    let log = bench.open();
    for _ in 0..40 {
        append(&log, &one("a", Some("1"))).unwrap();
    }
    roll(&log);
    let (before, cleanable) = (entries(&log), log.cleanable(NOW).unwrap().unwrap());
    let stopped = log.clean(&cleanable, &CleanerConfig::default(), NOW, &AtomicBool::new(true));
    assert!(matches!(stopped, Err(CleanError::Closed)));
    assert_eq!(entries(&log), before);

    log.close_and_rename("t-0.gone-delete").unwrap();
    let gone = log.clean(&cleanable, &CleanerConfig::default(), NOW, &AtomicBool::new(false));
    assert!(gone.is_err());
    let again = bench.open();
    assert!(!again.data_dir().is_offline());
}

#[test]
fn searches_by_time_find_what_is_left() {
    let bench = Bench::in_memory(compacted());
    let log = bench.open();
    for number in 0..30_i64 {
        let mut builder = RecordBatchBuilder::new(Vec::new());
        let key = if number < 29 { "a" } else { "b" };
        builder
            .append(NOW + number, Some(key.as_bytes()), Some(b"v"), &[])
            .unwrap();
        let mut sealed = builder.seal(Compression::None, None).unwrap();
        sealed.stamp(-1, -1, -1, false);
        append(&log, &sealed.to_vec()).unwrap();
    }
    append(&log, &one("b", Some("newer, with an earlier time"))).unwrap();
    roll(&log);
    clean(&log, NOW).unwrap();
    assert_eq!(log.offset_for_timestamp(NOW + 1).unwrap().unwrap().offset, 28);
    assert_eq!(log.offset_for_timestamp(NOW + 29).unwrap(), None, "that record is gone");
    let newest = log.max_timestamp_offset().unwrap().unwrap();
    assert_eq!((newest.offset, newest.timestamp), (28, NOW + 28));
}

#[test]
fn readers_and_writers_go_on_while_segments_are_replaced() {
    for tail_bytes in [0, 3000] {
        let bench = Bench {
            tail_bytes,
            ..Bench::in_memory(compacted())
        };
        let (log, done) = (bench.open(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        let mut from = 0;
                        while from < log.log_end_offset() {
                            let slice = log.read(from, 400, i64::MAX, true).unwrap();
                            let ranges = ranges(&slice.batches);
                            assert!(ranges.windows(2).all(|pair| pair[0].1 < pair[1].0));
                            assert!(slice.next_offset > from, "no progress at {from}");
                            from = slice.next_offset;
                        }
                    }
                });
            }
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    clean(&log, NOW);
                    log.flush().unwrap();
                }
            });
            for round in 0..1_500 {
                append(&log, &one(&format!("key {}", round % 17), Some(&format!("{round}")))).unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        roll(&log);
        clean(&log, NOW).unwrap();
        let values: Vec<String> = last_values(&entries(&log))
            .into_values()
            .map(|value| String::from_utf8(value).unwrap())
            .collect();
        let mut numbers: Vec<i32> = values.iter().filter_map(|value| value.parse().ok()).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (1_483..1_500).collect::<Vec<_>>());
    }
}

/// Appends the same random records to any log.
fn fill(log: &Log, rounds: usize, seed: u64) {
    let mut chance = chances(seed);
    for round in 0..rounds {
        let key = format!("key {}", chance() % 20);
        let value = format!("{round} {}", "x".repeat((chance() % 30) as usize));
        let value = (!chance().is_multiple_of(6)).then_some(value.as_str());
        let codec = Compression::ALL[(chance() % 5) as usize];
        append(
            log,
            &batch_with(&[(&key, value), ("always", Some(&format!("{round}")))], codec),
        )
        .unwrap();
    }
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

#[test]
fn a_power_loss_at_any_step_of_a_pass_costs_no_key_its_last_value() {
    let simulated = || {
        let disk = SimulatedDisk::new();
        let bench = Bench {
            disk: Arc::new(disk.clone()),
            ..Bench::in_memory(compacted())
        };
        (disk, bench)
    };
    let prepared = |bench: &Bench| {
        let log = bench.open();
        fill(&log, 25, 3);
        clean(&log, NOW).unwrap();
        fill(&log, 25, 4);
        roll(&log);
        log.flush().unwrap();
        log
    };
    let (disk, bench) = simulated();
    let log = prepared(&bench);
    let (expected, began) = (last_values(&entries(&log)), disk.changes());
    clean(&log, NOW).unwrap();
    let steps = disk.changes() - began;
    let compact = entries(&log).len();
    assert!(steps > 20, "{steps}");
    for step in 0..=steps {
        for seed in 0..3 {
            let (disk, bench) = simulated();
            let log = prepared(&bench);
            let (recovery_point, end) = (log.recovery_point(), log.log_end_offset());
            let clean_to = log.clean_to();
            disk.stop_after(step);
            let cleaned = clean_with(&log, &CleanerConfig::default(), NOW);
            assert_eq!(cleaned.is_ok(), step == steps, "step {step}");
            drop(log);
            disk.lose_power(&mut chances(seed));
            // The checkpoint of recovery points may be as old as it likes.
            for recovery_point in [recovery_point, 0] {
                let start = LogStart {
                    recovery_point,
                    clean_to,
                    ..LogStart::default()
                };
                let log = bench.open_with(start);
                assert_eq!(log.log_end_offset(), end, "step {step}, seed {seed}");
                assert_eq!(last_values(&entries(&log)), expected, "step {step}, seed {seed}");
                let left = bench.names();
                assert!(
                    left.iter()
                        .all(|name| !name.ends_with(".swap") && !name.ends_with(".cleaned")),
                    "{left:?}"
                );
                if recovery_point == 0 {
                    clean(&log, NOW);
                    assert_eq!(last_values(&entries(&log)), expected);
                    assert!(entries(&log).len() <= compact, "step {step}, seed {seed}");
                }
            }
        }
    }
}

#[test]
fn what_supersedes_a_record_is_on_the_disk_before_that_record_goes() {
    for step in 0.. {
        let disk = SimulatedDisk::new();
        let bench = Bench {
            disk: Arc::new(disk.clone()),
            ..Bench::in_memory(compacted())
        };
        let log = bench.open();
        append(&log, &one("a", Some("old"))).unwrap();
        fill(&log, 10, 1);
        log.flush().unwrap();
        fill(&log, 10, 2);
        append(&log, &one("a", Some("new"))).unwrap();
        roll(&log);
        disk.stop_after(step);
        let done = clean_with(&log, &CleanerConfig::default(), NOW).is_ok();
        drop(log);
        disk.lose_power(&mut chances(step));
        let left = last_values(&entries(&bench.open()));
        assert!(left.contains_key(&b"a"[..]), "step {step}");
        if done {
            assert!(step > 20, "{step}");
            break;
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keys_keep_their_last_values_through_passes_restarts_and_full_tables(
        seed in any::<u64>(),
        steps in proptest::collection::vec((0..8u8, 1..40usize), 1..12),
        dedupe_buffer_bytes in prop_oneof![Just(0_usize), Just(1 << 20)],
    ) {
        let bench = Bench::in_memory(compacted());
        let cleaner = CleanerConfig { dedupe_buffer_bytes, ..CleanerConfig::default() };
        let (mut log, mut now_ms) = (bench.open(), NOW);
        let mut written: BTreeMap<i64, Entry> = BTreeMap::new();
        for (number, (kind, count)) in steps.into_iter().enumerate() {
            match kind {
                0..=3 => {
                    let from = log.log_end_offset();
                    fill(&log, count, seed ^ number as u64);
                    written.extend(entries(&log).into_iter().filter(|entry| entry.0 >= from).map(|entry| (entry.0, entry)));
                }
                4 => {
                    let clean_to = log.clean_to();
                    let clean = count % 2 == 0;
                    if clean {
                        log.close().unwrap();
                    }
                    drop(log);
                    log = bench.open_with(LogStart { clean, clean_to, ..LogStart::default() });
                }
                _ => {
                    now_ms += 1_000 * count as i64;
                    clean_with(&log, &cleaner, now_ms).unwrap();
                }
            }
            let (all, left): (Vec<Entry>, Vec<Entry>) = (written.values().cloned().collect(), entries(&log));
            prop_assert_eq!(last_values(&left), last_values(&all));
            prop_assert!(left.iter().all(|entry| written.get(&entry.0) == Some(entry)), "what is left was written so");
            let mut last_offsets = BTreeMap::new();
            for (offset, key, _) in &all {
                last_offsets.insert(key.clone(), *offset);
            }
            // Below what is clean, no key is there twice.
            let clean_to = log.clean_to();
            let mut clean: Vec<&Key> = left.iter().filter(|entry| entry.0 < clean_to).map(|entry| &entry.1).collect();
            clean.sort();
            prop_assert!(clean.windows(2).all(|pair| pair[0] != pair[1]));
        }
    }
}

#[test]
fn the_manager_compacts_what_is_due_and_remembers_how_far_in_kafkas_file() {
    let temp = tempfile::tempdir().unwrap();
    let open = || {
        let config = ManagerConfig::new(vec![temp.path().to_owned()], 1);
        let manager = LogManager::open(Arc::new(RealDisk), config).unwrap();
        manager.load_logs(&|_| compacted(), NOW).unwrap();
        manager
    };
    let manager = open();
    for partition in 0..3 {
        let log = manager
            .create_log("t", Uuid([7; 16]), partition, compacted(), NOW)
            .unwrap();
        for _ in 0..40 * partition {
            append(&log, &one("a", Some("1"))).unwrap();
        }
    }
    let plain = manager.create_log("plain", Uuid([8; 16]), 0, small(), NOW).unwrap();
    for _ in 0..40 {
        append(&plain, &one("a", Some("1"))).unwrap();
    }
    assert_eq!(manager.compact_all(NOW), 2);
    assert_eq!(manager.compact_all(NOW), 0);
    assert_eq!(entries(&plain).len(), 40);
    let clean: Vec<i64> = (0..3)
        .map(|number| manager.get("t", number).unwrap().clean_to())
        .collect();
    let text = std::fs::read_to_string(temp.path().join(CLEANER_OFFSET)).unwrap();
    assert_eq!(
        text,
        format!("0\n4\nplain 0 0\nt 0 0\nt 1 {}\nt 2 {}\n", clean[1], clean[2])
    );
    manager.close(0);

    let manager = open();
    assert_eq!(manager.get("t", 2).unwrap().clean_to(), clean[2]);
    assert!(manager.delete_log("t", 2, NOW).unwrap());
    let text = std::fs::read_to_string(temp.path().join(CLEANER_OFFSET)).unwrap();
    assert!(!text.contains("t 2 "), "{text}");
}
