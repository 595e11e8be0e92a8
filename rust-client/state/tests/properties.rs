//! Facts about sequences, verdicts and cut batches that hold for every input, not only for those of a schedule.

#![allow(clippy::unwrap_used, clippy::panic)] // what the test did not expect must stop it

use ottla_client_state::Time;
use ottla_client_state::batch::{BatchId, Body};
use ottla_client_state::partition_queue::{LeaderAt, Next, PartitionQueue, QueueConfig, Settled};
use ottla_client_state::sequence::{
    Answer, Attempted, Outcome, Persisted, ProducerIdentity, Recovery, Stamp, Verdict, judge, sequence_after,
};
use ottla_protocol::records::{Compression, Decompressor, Header, RecordBatch, SealedBatch};
use ottla_protocol::{ErrorCode, Uuid};
use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;

const LEADER: LeaderAt = LeaderAt {
    node_id: 1,
    epoch: 0,
    topic_id: Uuid([1; 16]),
};
const IDENTITY: ProducerIdentity = ProducerIdentity { id: 7, epoch: 0 };

fn persisted() -> impl Strategy<Value = Persisted> {
    prop_oneof![Just(Persisted::No), Just(Persisted::Possibly)]
}

prop_compose! {
    fn attempted()(
        idempotent: bool,
        first: bool,
        overtaken: bool,
        records in 1u32..10,
        attempts in 1u32..6,
        retries in prop_oneof![0u32..4, Just(u32::MAX)],
        persisted in persisted(),
    ) -> Attempted {
        Attempted { idempotent, first, overtaken: overtaken && idempotent, records, attempts, retries, persisted }
    }
}

fn outcome() -> impl Strategy<Value = Outcome> {
    let codes: Vec<i16> = ErrorCode::ALL.iter().map(|code| code.code()).collect();
    prop_oneof![
        8 => proptest::sample::select(codes).prop_map(|code| Outcome::Answered(Answer { code, ..Answer::written(5) })),
        2 => any::<i16>().prop_map(|code| Outcome::Answered(Answer { code, ..Answer::written(5) })),
        1 => Just(Outcome::Unacknowledged),
        1 => Just(Outcome::NotSent("no connection".into())),
        1 => Just(Outcome::Lost("cut".into())),
        1 => Just(Outcome::Refused("wrong password".into())),
    ]
}

type Fields = (i64, Option<Vec<u8>>, Option<Vec<u8>>, Vec<(String, Option<Vec<u8>>)>);

fn record() -> impl Strategy<Value = Fields> {
    (
        0i64..1 << 40,
        option::of(vec(any::<u8>(), 0..20)),
        option::of(vec(any::<u8>(), 0..200)),
        vec(("[a-z]{0,5}", option::of(vec(any::<u8>(), 0..10))), 0..3),
    )
}

fn fields_of(sealed: &SealedBatch) -> Vec<Fields> {
    let bytes = sealed.to_vec();
    let (batch, rest) = RecordBatch::parse(&bytes).unwrap();
    assert!(rest.is_empty());
    batch.verify_crc().unwrap();
    let mut scratch = Decompressor::new();
    let records = batch.records(&mut scratch, 1 << 20).unwrap();
    let own = |bytes: Option<&[u8]>| bytes.map(<[u8]>::to_vec);
    records
        .map(|record| {
            let record = record.unwrap();
            let headers = record.headers().map(|header| {
                let header = header.unwrap();
                (header.key.to_owned(), own(header.value))
            });
            (
                record.timestamp,
                own(record.key()),
                own(record.value()),
                headers.collect(),
            )
        })
        .collect()
}

/// The next batch, sealed, with its stamp.
fn take(queue: &mut PartitionQueue<u32>, compression: Compression) -> Option<(BatchId, Stamp, SealedBatch)> {
    match queue.next_batch(LEADER, Some(IDENTITY), None, true, Time(0)) {
        Next::Batch(drained) => {
            let sealed = match drained.body {
                Body::Records(builder) => builder.seal(compression, None).unwrap(),
                Body::Sealed(sealed) => sealed,
            };
            Some((drained.id, drained.stamp.unwrap(), sealed))
        }
        Next::Empty => None,
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn sequences_lie_on_a_circle_of_two_to_the_thirty_one(start in 0i32.., first: u32, second in 0u32..1 << 31) {
        let after = sequence_after(start, first);
        prop_assert!(after >= 0);
        prop_assert_eq!(i64::from(after), (i64::from(start) + i64::from(first)) % (1 << 31));
        let twice = sequence_after(after, second);
        prop_assert_eq!(i64::from(twice), (i64::from(start) + i64::from(first) + i64::from(second)) % (1 << 31));
    }

    #[test]
    fn doubt_ends_with_an_acknowledgement_or_not_at_all(batch in attempted(), outcome in outcome()) {
        let judged = judge(&batch, &outcome);
        prop_assert!(judged.persisted >= batch.persisted, "{judged:?}");
        let acknowledged = matches!(&judged.verdict, Verdict::Done { .. }) && outcome != Outcome::Unacknowledged;
        prop_assert_eq!(judged.persisted == Persisted::Yes, acknowledged, "{:?}", judged);
    }

    #[test]
    fn nothing_is_done_that_was_not_acknowledged(batch in attempted(), outcome in outcome()) {
        if let Verdict::Done { .. } = judge(&batch, &outcome).verdict {
            let honest = match &outcome {
                Outcome::Unacknowledged => true,
                Outcome::Answered(answer) if answer.code == 0 => true,
                Outcome::Answered(answer) => {
                    let duplicate = answer.code == ErrorCode::DuplicateSequenceNumber.code() && batch.idempotent;
                    duplicate || batch.overtaken
                }
                _ => false,
            };
            prop_assert!(honest, "{batch:?} {outcome:?}");
        }
    }

    #[test]
    fn every_outcome_has_a_verdict_within_the_allowed_attempts(batch in attempted(), outcome in outcome()) {
        let judged = judge(&batch, &outcome);
        match judged.verdict {
            Verdict::Retry { .. } => prop_assert!(batch.attempts <= batch.retries),
            Verdict::Split => prop_assert!(batch.records > 1 && batch.persisted == Persisted::No),
            Verdict::Done { .. } | Verdict::Fail { .. } => {}
        }
        if judged.recovery != Recovery::None {
            prop_assert!(batch.idempotent && batch.first, "{batch:?} {outcome:?}");
        }
    }

    #[test]
    fn a_batch_cut_again_and_again_keeps_its_records_and_sequences(
        records in vec(record(), 2..20),
        largest in 1usize..6,
        codec in 0usize..2,
        start in prop_oneof![Just(0), i32::MAX - 20..i32::MAX],
    ) {
        let compression = [Compression::None, Compression::Lz4][codec];
        let mut queue = PartitionQueue::new(QueueConfig {
            batch_size: 1 << 20,
            linger_ms: 0,
            delivery_timeout_ms: 1000,
            retries: u32::MAX,
            idempotent: true,
            max_in_flight: 5,
            compression_level: None,
            checksum_early: true,
        });
        queue.sequences_mut().start_at(IDENTITY, start);
        for (timestamp, key, value, headers) in &records {
            let headers: Vec<Header<'_>> = headers
                .iter()
                .map(|(key, value)| Header { key, value: value.as_deref() })
                .collect();
            let (key, value) = (key.as_deref(), value.as_deref());
            if queue.append(*timestamp, key, value, &headers).unwrap().is_none() {
                queue.append_new(Vec::new(), 0, Time(0), *timestamp, key, value, &headers).unwrap();
            }
        }
        let (mut written, mut expected) = (Vec::new(), start);
        while let Some((id, stamp, sealed)) = take(&mut queue, compression) {
            let count = sealed.record_count();
            let answer = if count as usize > largest {
                Answer::error(ErrorCode::MessageTooLarge)
            } else {
                prop_assert_eq!(stamp.base_sequence, expected, "as if the batch had never been cut");
                expected = sequence_after(expected, count);
                written.extend(fields_of(&sealed));
                Answer::written(0)
            };
            let settled = queue.settle(id, Outcome::Answered(answer), sealed, 0, Time(0));
            prop_assert_eq!(settled == Settled::Split, count as usize > largest);
        }
        prop_assert_eq!(written, records);
        let mut next = 0;
        let mut last = false;
        while let Some(done) = queue.next_completion() {
            prop_assert!(!last && done.result.is_ok());
            prop_assert_eq!(done.first, next, "the parts tell of all tickets, in order");
            next += done.records;
            last = done.last;
        }
        prop_assert!(last, "and the last of them says so");
    }
}

#[test]
fn every_number_has_a_verdict() {
    for code in i16::MIN..=i16::MAX {
        for idempotent in [true, false] {
            let batch = Attempted {
                idempotent,
                first: true,
                overtaken: false,
                records: 2,
                attempts: 1,
                retries: 0,
                persisted: Persisted::No,
            };
            let judged = judge(
                &batch,
                &Outcome::Answered(Answer {
                    code,
                    ..Answer::written(0)
                }),
            );
            let known = ErrorCode::from_code(code).is_some();
            // A number without a meaning promises nothing.
            assert!(known || judged.persisted == Persisted::Possibly, "{code}: {judged:?}");
        }
    }
}
