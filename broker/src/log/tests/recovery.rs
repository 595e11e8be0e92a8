//! What a start makes of files that a crash, a bad disk or a careless hand has changed.

use super::*;
use crate::log::checkpoint::LEADER_EPOCHS;

/// Appends `counts` as batches and leaves without closing, as a killed process does.
fn crashed(bench: &Bench, counts: &[usize]) -> Vec<(i64, i64)> {
    let log = bench.open();
    for count in counts {
        append(&log, &batch(*count)).unwrap();
    }
    read_all(&log)
}

fn segment_path(bench: &Bench, base_offset: i64, suffix: &str) -> std::path::PathBuf {
    bench.dir().join(format!("{base_offset:020}{suffix}"))
}

/// The same files on a disk of their own.
fn copy_of(bench: &Bench) -> Bench {
    let copy = Bench::in_memory(bench.config.clone());
    copy.disk.create_dir_all(&copy.dir()).unwrap();
    for name in bench.names() {
        copy.put(&copy.dir().join(&name), &bench.get(&bench.dir().join(&name)));
    }
    copy
}

#[test]
fn a_torn_tail_is_cut_to_the_last_whole_batch_at_every_length() {
    for clean in [false, true] {
        let bench = Bench::in_memory(LogConfig {
            index_interval_bytes: 100,
            ..LogConfig::default()
        });
        let all = crashed(&bench, &[2, 3, 1, 4, 2]);
        if clean {
            bench.open().close().unwrap();
        }
        let path = segment_path(&bench, 0, ".log");
        let bytes = bench.get(&path);
        let mut ends = Vec::new();
        for batch in RecordBatches::new(&bytes) {
            ends.push(ends.last().copied().unwrap_or(0) + batch.unwrap().size());
        }
        for length in ends[1]..bytes.len() {
            let copy = copy_of(&bench);
            copy.put(&segment_path(&copy, 0, ".log"), &bytes[..length]);
            let start = LogStart {
                clean,
                recovery_point: if clean { 12 } else { 0 },
                ..LogStart::default()
            };
            let log = copy.open_with(start);
            let whole = ends.iter().filter(|end| **end <= length).count();
            assert_eq!(read_all(&log), all[..whole], "cut at {length}, clean {clean}");
            let info = append(&log, &batch(1)).unwrap();
            assert_eq!(info.first_offset, all[whole - 1].1 + 1);
            assert_eq!(read_all(&log).len(), whole + 1);
        }
    }
}

#[test]
fn no_flipped_bit_of_a_stored_batch_is_ever_served() {
    let bench = Bench::in_memory(LogConfig {
        index_interval_bytes: 100,
        ..LogConfig::default()
    });
    let log = bench.open();
    for (epoch, count) in [(0, 2), (3, 2), (3, 2), (6, 1), (6, 2)] {
        log.append_as_leader(&batch(count), epoch, AppendOrigin::Client, NOW)
            .unwrap();
    }
    log.close().unwrap();
    let path = segment_path(&bench, 0, ".log");
    let good = bench.get(&path);
    let sizes: Vec<usize> = RecordBatches::new(&good).map(|batch| batch.unwrap().size()).collect();
    let (start, end) = (sizes[0] + sizes[1], sizes[0] + sizes[1] + sizes[2]);
    let damaged_offsets = 4..6;
    for bit in start * 8..end * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bench.put(&path, &bytes);
        let log = bench.open_with(LogStart {
            clean: true,
            recovery_point: 9,
            ..LogStart::default()
        });
        assert_eq!(log.log_end_offset(), 9, "bit {bit}: what follows damage is not cut");
        for offset in 0..9 {
            match log.read(offset, 1 << 20, i64::MAX, true) {
                Ok(slice) => {
                    assert!(
                        !damaged_offsets.contains(&offset),
                        "bit {bit}: offset {offset} was served"
                    );
                    let given = slice.batches.concat();
                    assert!(!given.is_empty());
                    assert!(
                        good.windows(given.len()).any(|window| window == given),
                        "bit {bit}, offset {offset}"
                    );
                }
                Err(error) => {
                    assert!(
                        damaged_offsets.contains(&offset),
                        "bit {bit}: offset {offset} was refused: {error}"
                    );
                    assert_eq!(error.code(), ottla_protocol::ErrorCode::CorruptMessage);
                }
            }
        }
    }
    bench.put(&path, &good);
}

#[test]
fn no_flipped_bit_of_the_last_batch_survives_an_unclean_start() {
    let bench = Bench::in_memory(LogConfig::default());
    let log = bench.open();
    for epoch in [0, 0, 5] {
        log.append_as_leader(&batch(2), epoch, AppendOrigin::Client, NOW)
            .unwrap();
    }
    drop(log);
    let path = segment_path(&bench, 0, ".log");
    let good = bench.get(&path);
    let last = good.len() - first(&batch(2)).size();
    for bit in last * 8..good.len() * 8 {
        let mut bytes = good.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        bench.put(&path, &bytes);
        bench.put(&bench.dir().join(LEADER_EPOCHS), b"0\n2\n0 0\n5 4\n");
        let log = bench.open();
        assert_eq!(log.log_end_offset(), 4, "bit {bit}");
        assert_eq!(read_all(&log), [(0, 1), (2, 3)]);
        assert_eq!(log.latest_epoch(), Some(0), "an epoch without a batch is forgotten");
    }
}

#[test]
fn damage_below_the_recovery_point_is_stepped_over() {
    let bench = Bench::in_memory(small());
    let all = crashed(&bench, &[2; 30]);
    let bytes = bench.get(&segment_path(&bench, 0, ".log"));
    let size = first(&bytes).size();
    // A payload bit, a length bit and a magic bit, each in a batch of the first segment.
    for (position, bit) in [(size + 70, 3), (size + 11, 6), (size + 16, 0), (size * 3 + 8, 1)] {
        let copy = copy_of(&bench);
        copy.flip(&segment_path(&copy, 0, ".log"), position, bit);
        let log = copy.open_with(LogStart {
            recovery_point: 60,
            ..LogStart::default()
        });
        assert_eq!(log.log_end_offset(), 60);
        let bad = position / size;
        for (number, range) in all.iter().enumerate() {
            let read = log.read(range.0, 1, i64::MAX, true);
            match number == bad {
                true => assert!(read.is_err(), "{range:?} was served"),
                false => assert_eq!(ranges(&read.unwrap().batches)[0], *range),
            }
        }
    }
}

#[test]
fn damage_above_the_recovery_point_cuts_the_rest_off() {
    let bench = Bench::in_memory(small());
    let all = crashed(&bench, &[2; 30]);
    let bytes = bench.get(&segment_path(&bench, 0, ".log"));
    let size = first(&bytes).size();
    bench.flip(&segment_path(&bench, 0, ".log"), size * 2 + 70, 3);
    let log = bench.open_with(LogStart {
        recovery_point: 2,
        ..LogStart::default()
    });
    assert_eq!(log.log_end_offset(), 4);
    assert_eq!(read_all(&log), all[..2]);
    assert_eq!(log.segment_count(), 1, "later segments continue nothing");
    assert_eq!(append(&log, &batch(1)).unwrap().first_offset, 4);
}

#[test]
fn indexes_are_built_again_when_they_are_missing_or_garbled() {
    let bench = Bench::in_memory(LogConfig {
        segment_bytes: 2000,
        index_interval_bytes: 150,
        ..LogConfig::default()
    });
    let log = bench.open();
    for number in 0..60 {
        append(
            &log,
            &batch_of(&[NOW + number * 10, NOW + number * 10 + 1], 10, Compression::None),
        )
        .unwrap();
    }
    let all = read_all(&log);
    log.close().unwrap();
    type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;
    let damages: [(&str, Damage); 6] = [
        ("deleted", |_| None),
        ("emptied", |_| Some(Vec::new())),
        ("a length that is no multiple", |_| Some(b"abc".to_vec())),
        ("zeros", |bytes| Some(vec![0; bytes.len()])),
        ("ones", |bytes| Some(vec![0xff; bytes.len()])),
        ("shifted values", |mut bytes| {
            bytes
                .iter_mut()
                .skip(3)
                .step_by(4)
                .for_each(|byte| *byte = byte.wrapping_add(1));
            Some(bytes)
        }),
    ];
    for clean in [true, false] {
        for suffix in [".index", ".timeindex"] {
            for (name, damage) in damages {
                let copy = copy_of(&bench);
                for file in copy.names().iter().filter(|file| file.ends_with(suffix)) {
                    let path = copy.dir().join(file);
                    match damage(copy.get(&path)) {
                        Some(bytes) => copy.put(&path, &bytes),
                        None => copy.disk.remove_file(&path).unwrap(),
                    }
                }
                let log = copy.open_with(LogStart {
                    clean,
                    recovery_point: 120,
                    ..LogStart::default()
                });
                for range in &all {
                    let slice = log.read(range.1, 1, i64::MAX, true).unwrap();
                    assert_eq!(ranges(&slice.batches), [*range], "{suffix} {name}");
                }
                for number in 0..60 {
                    let found = log.offset_for_timestamp(NOW + number * 10 + 1).unwrap();
                    assert_eq!(
                        found.map(|found| found.offset),
                        Some(number * 2 + 1),
                        "{suffix} {name} clean {clean}"
                    );
                }
                assert_eq!(log.log_end_offset(), 120);
            }
        }
    }
}

#[test]
fn leader_epochs_are_built_again_when_the_checkpoint_is_missing_or_garbled() {
    let bench = Bench::in_memory(small());
    let log = bench.open();
    for epoch in [0, 0, 2, 2, 2, 7, 9, 9] {
        log.append_as_leader(&batch(3), epoch, AppendOrigin::Client, NOW)
            .unwrap();
    }
    let epochs = log.leader_epochs();
    log.close().unwrap();
    let path = bench.dir().join(LEADER_EPOCHS);
    let good = bench.get(&path);
    for clean in [true, false] {
        for damage in [
            None,
            Some("".as_bytes()),
            Some(b"0\n5\n1 2\n"),
            Some(&[0xff; 20]),
            Some(&good[..good.len() - 3]),
        ] {
            match damage {
                Some(bytes) => bench.put(&path, bytes),
                None => bench.disk.remove_file(&path).unwrap(),
            }
            let log = bench.open_with(LogStart {
                clean,
                recovery_point: 24,
                ..LogStart::default()
            });
            assert_eq!(log.leader_epochs(), epochs);
            assert_eq!(bench.get(&path), good);
        }
    }
}

#[test]
fn an_epoch_is_in_the_checkpoint_before_its_first_batch() {
    let bench = Bench::in_memory(small());
    let log = bench.open();
    append(&log, &batch(4)).unwrap();
    log.append_as_leader(&batch(1), 3, AppendOrigin::Client, NOW).unwrap();
    assert_eq!(
        String::from_utf8(bench.get(&bench.dir().join(LEADER_EPOCHS))).unwrap(),
        "0\n2\n0 0\n3 4\n"
    );
    let error = log
        .append_as_leader(&batch(1), 2, AppendOrigin::Client, NOW)
        .unwrap_err();
    assert!(matches!(error, AppendError::FencedLeaderEpoch { given: 2, latest: 3 }));
    let end = |epoch| log.end_offset_for_epoch(epoch).map(|end| (end.epoch, end.end_offset));
    assert_eq!(
        (end(0), end(1), end(3), end(4)),
        (Some((0, 4)), Some((0, 4)), Some((3, 5)), None)
    );
}

#[test]
fn leftovers_of_an_earlier_run_are_removed() {
    let bench = Bench::in_memory(small());
    crashed(&bench, &[3, 3]);
    for name in [
        "00000000000000000000.log.deleted",
        "leader-epoch-checkpoint.tmp",
        "00000000000000000009.index",
    ] {
        bench.put(&bench.dir().join(name), b"left");
    }
    bench.open();
    let names = bench.names();
    assert!(
        !names
            .iter()
            .any(|name| name.contains("deleted") || name.contains("tmp") || name.contains("9.index")),
        "{names:?}"
    );
}

#[test]
fn lost_segments_do_not_give_their_offsets_out_again() {
    let bench = Bench::in_memory(small());
    let log = bench.open_with(LogStart {
        log_start_offset: 500,
        ..LogStart::default()
    });
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (500, 500));
    drop(log);
    let behind = Bench::in_memory(small());
    crashed(&behind, &[5, 5]);
    let log = behind.open_with(LogStart {
        log_start_offset: 300,
        ..LogStart::default()
    });
    assert_eq!((log.log_start_offset(), log.log_end_offset()), (300, 300));
    assert_eq!(append(&log, &batch(1)).unwrap().first_offset, 300);
}

#[test]
fn files_are_named_and_laid_out_as_kafka_does() {
    let bench = Bench::in_memory(small());
    let log = bench.open();
    for _ in 0..12 {
        append(&log, &batch_from(4, 0, log.log_end_offset() as i32, 2)).unwrap();
    }
    log.close().unwrap();
    let names = bench.names();
    assert!(names.contains(&"00000000000000000000.log".to_owned()), "{names:?}");
    let bases: Vec<&str> = names.iter().filter_map(|name| name.strip_suffix(".log")).collect();
    assert!(bases.len() > 1);
    for base in &bases {
        let read = |suffix: &str| bench.get(&bench.dir().join(format!("{base}{suffix}")));
        let (records, index, times) = (read(".log"), read(".index"), read(".timeindex"));
        assert_eq!((index.len() % 8, times.len() % 12), (0, 0));
        assert!(!times.is_empty(), "a complete segment ends with its largest timestamp");
        let base: i64 = base.parse().unwrap();
        for entry in index.as_chunks::<8>().0 {
            let offset = i64::from(u32::from_be_bytes(entry[..4].try_into().unwrap()));
            let position = u32::from_be_bytes(entry[4..].try_into().unwrap()) as usize;
            assert_eq!(first(&records[position..]).last_offset(), base + offset);
        }
        for entry in times.as_chunks::<12>().0 {
            let timestamp = i64::from_be_bytes(entry[..8].try_into().unwrap());
            let offset = i64::from(u32::from_be_bytes(entry[8..].try_into().unwrap()));
            let batch = RecordBatches::new(&records)
                .map(Result::unwrap)
                .find(|batch| batch.last_offset() == base + offset);
            assert_eq!(batch.unwrap().max_timestamp(), timestamp);
        }
    }
    assert!(names.contains(&format!("{:020}.snapshot", 24)), "{names:?}");
}
