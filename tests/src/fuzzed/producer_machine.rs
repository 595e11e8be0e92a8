//! Bytes as the story of one partition of a producer: what is appended and sent, what is answered or lost, when time
//! passes. Whatever a broker says, the promises of the queue hold:
//!
//! - every ticket completes exactly once and in order, and all of them do once the queue is aborted;
//! - "written" is said only of records whose batch was acknowledged;
//! - "not in the log" is never said of records that may be there.

use std::collections::{BTreeSet, VecDeque};

use ottla_client_state::Time;
use ottla_client_state::batch::{BatchId, Body};
use ottla_client_state::partition_queue::{LeaderAt, Next, PartitionQueue, QueueConfig};
use ottla_client_state::sequence::{Answer, Outcome, Persisted, ProducerIdentity, Reason};
use ottla_protocol::records::{Compression, Decompressor, RecordBatch, SealedBatch};
use ottla_protocol::{ErrorCode, Uuid};

use super::byte;

/// Codes that say "it is in the log": none, and DUPLICATE_SEQUENCE_NUMBER.
const WRITTEN: [i16; 2] = [0, 46];

struct Flight {
    id: BatchId,
    sealed: SealedBatch,
    values: Vec<u64>,
}

struct Machine {
    queue: PartitionQueue<u64>,
    idempotent: bool,
    now: Time,
    leader: LeaderAt,
    identity: ProducerIdentity,
    flights: VecDeque<Flight>,
    appended: u64,
    completed: u64,
    acknowledged: BTreeSet<u64>,
    may_be_written: BTreeSet<u64>,
}

/// Runs the target on `bytes`.
pub fn run(bytes: &[u8]) {
    let mut rest = bytes;
    let mut machine = Machine::new(byte(&mut rest));
    while !rest.is_empty() {
        machine.step(&mut rest);
        machine.collect();
    }
    machine.queue.abort(&Reason::Closed);
    machine.collect();
    assert_eq!(machine.completed, machine.appended, "a ticket never completes");
    while let Some(flight) = machine.flights.pop_front() {
        let late = Outcome::Lost("late".into());
        machine.queue.settle(flight.id, late, flight.sealed, 0, machine.now);
        machine.collect();
    }
    assert_eq!(machine.queue.in_flight(), 0);
}

impl Machine {
    fn new(choice: u8) -> Machine {
        let idempotent = choice & 1 == 0;
        let mut queue = PartitionQueue::new(QueueConfig {
            batch_size: 61 + 16 * (1 + usize::from(choice >> 5)),
            linger_ms: u64::from(choice >> 1 & 3),
            delivery_timeout_ms: 100,
            retries: if choice & 8 == 0 { u32::MAX } else { 2 },
            idempotent,
            max_in_flight: if choice & 16 == 0 { 5 } else { 1 },
            compression_level: None,
            checksum_early: choice & 128 != 0,
        });
        let identity = ProducerIdentity { id: 7, epoch: 0 };
        if choice & 6 == 6 {
            queue.sequences_mut().start_at(identity, i32::MAX - 3);
        }
        Machine {
            queue,
            idempotent,
            now: Time(1),
            leader: LeaderAt {
                node_id: 0,
                epoch: 0,
                topic_id: Uuid::ZERO,
            },
            identity,
            flights: VecDeque::new(),
            appended: 0,
            completed: 0,
            acknowledged: BTreeSet::new(),
            may_be_written: BTreeSet::new(),
        }
    }

    fn step(&mut self, rest: &mut &[u8]) {
        match byte(rest) % 12 {
            0..=2 => self.append(),
            3..=5 => self.send(byte(rest)),
            6 | 7 => self.answer(rest),
            8 => self.lose(byte(rest)),
            9 => {
                self.now = self.now.plus_ms(u64::from(byte(rest)));
                self.queue.handle_timeout(self.now);
            }
            10 => {
                let choice = byte(rest);
                self.leader = LeaderAt {
                    node_id: i32::from(choice & 1),
                    epoch: self.leader.epoch + i32::from(choice >> 7),
                    topic_id: Uuid::ZERO,
                };
            }
            _ => match byte(rest) % 3 {
                0 => self.queue.close_open(),
                1 => self.queue.abort_waiting(&Reason::Closed),
                _ => {
                    self.identity.id += 1;
                    self.identity.epoch = 0;
                }
            },
        }
    }

    fn append(&mut self) {
        let value = self.appended.to_be_bytes();
        let open = self.queue.append(0, None, Some(&value), &[]).expect("a good record");
        let place = match open {
            Some(appended) => *appended.tickets + u64::from(appended.index),
            None => {
                let appended = self
                    .queue
                    .append_new(Vec::new(), self.appended, self.now, 0, None, Some(&value), &[])
                    .expect("a good record");
                *appended.tickets + u64::from(appended.index)
            }
        };
        assert_eq!(place, self.appended);
        self.appended += 1;
    }

    fn send(&mut self, choice: u8) {
        let identity = (self.idempotent && choice & 1 == 0).then_some(self.identity);
        if self.queue.sequences().spent_id() == Some(self.identity.id) {
            self.identity.id += 1;
            self.identity.epoch = 0;
        }
        let identity = identity.map(|_| self.identity);
        let next = self
            .queue
            .next_batch(self.leader, identity, None, choice & 2 != 0, self.now);
        let Next::Batch(drained) = next else { return };
        assert_eq!(drained.stamp.is_some(), self.idempotent);
        let mut sealed = match drained.body {
            Body::Records(builder) => builder.seal(Compression::None, None).expect("it has records"),
            Body::Sealed(sealed) => sealed,
        };
        if let Some(stamp) = drained.stamp {
            sealed.stamp(stamp.identity.id, stamp.identity.epoch, stamp.base_sequence, false);
        }
        let values = values_of(&sealed);
        self.flights.push_back(Flight {
            id: drained.id,
            sealed,
            values,
        });
    }

    fn answer(&mut self, rest: &mut &[u8]) {
        let Some(flight) = self.flights.pop_front() else { return };
        let choice = byte(rest);
        let code = match choice {
            0..=63 => 0,
            64..=199 => ErrorCode::ALL[usize::from(choice - 64) % ErrorCode::ALL.len()].code(),
            _ => i16::from_be_bytes([choice, byte(rest)]),
        };
        let base_offset = i64::from(byte(rest).cast_signed());
        let record_errors = (0..byte(rest) % 4).map(|_| (u32::from(byte(rest)), None)).collect();
        if WRITTEN.contains(&code) {
            self.acknowledged.extend(&flight.values);
            self.may_be_written.extend(&flight.values);
        }
        let answer = Answer {
            code,
            base_offset,
            log_append_time: -1,
            message: None,
            record_errors,
        };
        let wait = u64::from(choice & 15);
        self.queue
            .settle(flight.id, Outcome::Answered(answer), flight.sealed, wait, self.now);
    }

    /// No answer comes.
    fn lose(&mut self, choice: u8) {
        let Some(flight) = self.flights.pop_front() else { return };
        let outcome = match choice % 4 {
            0 => Outcome::NotSent("not sent".into()),
            1 => Outcome::Refused("refused".into()),
            2 if !self.idempotent => {
                self.acknowledged.extend(&flight.values);
                Outcome::Unacknowledged
            }
            _ => Outcome::Lost("lost".into()),
        };
        if matches!(outcome, Outcome::Lost(_) | Outcome::Unacknowledged) {
            self.may_be_written.extend(&flight.values);
        }
        let wait = u64::from(choice >> 4);
        self.queue.settle(flight.id, outcome, flight.sealed, wait, self.now);
    }

    fn collect(&mut self) {
        while let Some(completion) = self.queue.next_completion() {
            let first = completion.tickets + u64::from(completion.first);
            assert_eq!(first, self.completed, "a ticket out of turn");
            let values = first..first + u64::from(completion.records);
            self.completed = values.end;
            assert!(self.completed <= self.appended);
            match completion.result {
                Ok(_) => {
                    // A broker takes no sequence before its turn: what it acknowledged vouches for what came before.
                    for value in values {
                        let vouched = self.acknowledged.range(value..).next();
                        assert!(vouched.is_some(), "{value} was never acknowledged");
                    }
                }
                Err(failure) => {
                    for value in values.filter(|value| self.may_be_written.contains(value)) {
                        assert_ne!(
                            failure.persisted,
                            Persisted::No,
                            "{value} may be in the log: {failure:?}"
                        );
                    }
                }
            }
        }
    }
}

fn values_of(sealed: &SealedBatch) -> Vec<u64> {
    let bytes = sealed.to_vec();
    let (batch, _) = RecordBatch::parse(&bytes).expect("we wrote it");
    let mut scratch = Decompressor::new();
    let records = batch.records(&mut scratch, 1 << 20).expect("we wrote it");
    let value = |value: Option<&[u8]>| value.and_then(|value| value.first_chunk().copied());
    records
        .map(|record| value(record.expect("we wrote it").value()).map_or(0, u64::from_be_bytes))
        .collect()
}
