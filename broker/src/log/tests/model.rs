//! A log against a list: whatever is done to both, they answer the same.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append { count: usize, size: usize },
    Read { offset: u16, max_bytes: usize },
    Truncate { offset: u16 },
    DeleteBefore { offset: u16 },
    Retain { bytes: i64 },
    Flush,
    Reopen { clean: bool },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (1..6usize, 0..120usize).prop_map(|(count, size)| Step::Append { count, size }),
        6 => (any::<u16>(), 0..3000usize).prop_map(|(offset, max_bytes)| Step::Read { offset, max_bytes }),
        1 => any::<u16>().prop_map(|offset| Step::Truncate { offset }),
        1 => any::<u16>().prop_map(|offset| Step::DeleteBefore { offset }),
        1 => (0..4000i64).prop_map(|bytes| Step::Retain { bytes }),
        1 => Just(Step::Flush),
        2 => any::<bool>().prop_map(|clean| Step::Reopen { clean }),
    ]
}

#[derive(Debug, Default)]
struct Model {
    /// Base offset, last offset, bytes.
    batches: Vec<(i64, i64, Vec<u8>)>,
    start: i64,
    end: i64,
}

impl Model {
    /// What a read gives when one call may stop early, at the end of a segment.
    fn read(&self, offset: i64, max_bytes: usize) -> Vec<u8> {
        let mut taken = Vec::new();
        for (_, last, bytes) in &self.batches {
            if *last < offset {
                continue;
            }
            if !taken.is_empty() && taken.len() + bytes.len() > max_bytes {
                break;
            }
            taken.extend_from_slice(bytes);
        }
        taken
    }

    fn offset_in(&self, choice: u16) -> i64 {
        self.start + i64::from(choice) % (self.end - self.start + 1)
    }
}

fn check_read(log: &Log, model: &Model, offset: i64, max_bytes: usize) -> Result<(), TestCaseError> {
    let slice = log.read(offset, max_bytes, i64::MAX, true).unwrap();
    let (given, expected) = (slice.batches.concat(), model.read(offset, max_bytes));
    prop_assert!(expected.starts_with(&given));
    prop_assert_eq!(given.is_empty(), expected.is_empty());
    Ok(())
}

fn run(mut bench: Bench, steps: &[Step]) -> Result<(), TestCaseError> {
    let (mut log, mut model) = (bench.open(), Model::default());
    for step in steps {
        match *step {
            Step::Append { count, size } => {
                let sent = batch_of(&vec![NOW; count], size, Compression::None);
                let info = append(&log, &sent).unwrap();
                prop_assert_eq!(info.first_offset, model.end);
                let stored = log.read(info.first_offset, 1, i64::MAX, true).unwrap().batches.concat();
                prop_assert_eq!(&stored[16..], &sent[16..]);
                model.batches.push((info.first_offset, info.last_offset, stored));
                model.end = info.last_offset + 1;
            }
            Step::Read { offset, max_bytes } => check_read(&log, &model, model.offset_in(offset), max_bytes)?,
            Step::Truncate { offset } => {
                let offset = model.offset_in(offset);
                log.truncate_to(offset, NOW).unwrap();
                if offset < model.end {
                    model.batches.retain(|(_, last, _)| *last < offset);
                    let emptied = model.batches.last().map(|(_, last, _)| last + 1);
                    model.end = emptied.unwrap_or(log.log_end_offset());
                    model.start = model.start.min(model.end);
                }
            }
            Step::DeleteBefore { offset } => {
                log.set_high_watermark(i64::MAX);
                model.start = model.offset_in(offset);
                log.delete_records_before(model.start).unwrap();
            }
            Step::Retain { bytes } => {
                bench.config.retention_bytes = bytes;
                log.update_config(bench.config.clone());
                log.set_high_watermark(i64::MAX);
                log.retain(NOW).unwrap();
                prop_assert!(log.log_start_offset() >= model.start);
                model.start = log.log_start_offset();
                model.batches.retain(|(_, last, _)| *last >= model.start);
            }
            Step::Flush => log.flush().unwrap(),
            Step::Reopen { clean } => {
                let mut start = LogStart {
                    clean,
                    recovery_point: log.recovery_point(),
                    log_start_offset: model.start,
                    ..LogStart::default()
                };
                if clean {
                    log.close().unwrap();
                    start.recovery_point = model.end;
                }
                drop(log);
                log = bench.open_with(start);
            }
        }
        prop_assert_eq!(
            (log.log_start_offset(), log.log_end_offset()),
            (model.start, model.end),
            "{:?}",
            step
        );
    }
    for offset in model.start..=model.end {
        check_read(&log, &model, offset, 500)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_answers_as_a_list_of_batches_would(steps in proptest::collection::vec(step(), 1..80), tail in any::<bool>()) {
        let tail_bytes = if tail { 3000 } else { 0 };
        run(Bench { tail_bytes, ..Bench::in_memory(small()) }, &steps)?;
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_log_on_the_machines_disk_answers_the_same(steps in proptest::collection::vec(step(), 1..60)) {
        run(Bench::new(small()), &steps)?;
    }
}
