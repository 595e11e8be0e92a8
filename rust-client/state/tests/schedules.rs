//! The queue and the sequences against a model of a broker, under random schedules in virtual time.
//!
//! One partition, two brokers that lead it in turn, one connection each. Requests of one connection keep their order;
//! everything else is up to the seed: requests and answers are lost, a dead connection's requests are carried out
//! later or never, leaders move and take only what was acknowledged with them, answers are errors before or after the
//! append, time jumps over timeouts. The invariants are checked on the log of the model and on every ticket:
//!
//! - every ticket completes exactly once, in the order of appending, and at the latest at its batch's deadline;
//! - the log holds no record twice and all records in the order of appending;
//! - an acknowledged record stands at its offset; a record that failed with `No` stands nowhere.
//!
//! `SCHEDULES=100000 SEED=7 cargo test -p ottla-client-state --release --test schedules` runs more of them.

#![allow(clippy::unwrap_used, clippy::expect_used)] // a broken model must stop the test

use std::collections::{BTreeMap, VecDeque};

use ottla_client_state::Time;
use ottla_client_state::batch::{BatchId, Body};
use ottla_client_state::partition_queue::{LeaderAt, Next, PartitionQueue, QueueConfig, Settled};
use ottla_client_state::sequence::{Answer, Outcome, Persisted, ProducerIdentity, Stamp, sequence_after};
use ottla_protocol::ErrorCode;
use ottla_protocol::records::{Compression, Decompressor, RecordBatch, SealedBatch};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

const LINGER: u64 = 5;
const DELIVERY_TIMEOUT: u64 = 2_000;
const REQUEST_TIMEOUT: u64 = 300;
const MAX_IN_FLIGHT: usize = 5;
const BATCH_SIZE: usize = 61 + 16 * 4;

fn config(idempotent: bool) -> QueueConfig {
    QueueConfig {
        batch_size: BATCH_SIZE,
        linger_ms: LINGER,
        delivery_timeout_ms: DELIVERY_TIMEOUT,
        retries: u32::MAX,
        idempotent,
        max_in_flight: MAX_IN_FLIGHT,
        compression_level: None,
    }
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    value: u64,
    /// Only for the words of a failed assertion.
    #[allow(dead_code)]
    stamp: (ProducerIdentity, i32),
}

/// The log of the partition, with a producer's state derived from it as a broker would after a restart.
#[derive(Default)]
struct Broker {
    log: Vec<Entry>,
    /// (identity, base sequence, records, base offset) of every batch in the log.
    batches: Vec<(ProducerIdentity, i32, u32, i64)>,
    acknowledged: usize,
    leader: i32,
    epoch: i32,
    largest: u32,
}

impl Broker {
    fn append(&mut self, stamp: Stamp, values: &[u64]) -> Answer {
        let records = values.len() as u32;
        if records > self.largest {
            return Answer::error(ErrorCode::MessageTooLarge);
        }
        let mut recent = self.batches.iter().rev().take(5);
        let known = recent.find(|seen| seen.0 == stamp.identity && seen.1 == stamp.base_sequence && seen.2 == records);
        if let Some(known) = known {
            return Answer::written(known.3);
        }
        // Producer ids are never shared, so the newest one in the log is the only one whose state matters.
        if let Some((identity, base, count, _)) = self.batches.iter().rev().find(|seen| seen.0.id == stamp.identity.id)
        {
            if stamp.identity.epoch < identity.epoch {
                return Answer::error(ErrorCode::InvalidProducerEpoch);
            }
            let expected = if stamp.identity.epoch > identity.epoch {
                0
            } else {
                sequence_after(*base, *count)
            };
            if stamp.base_sequence != expected {
                return Answer::error(ErrorCode::OutOfOrderSequenceNumber);
            }
        }
        let offset = self.log.len() as i64;
        for (place, value) in values.iter().enumerate() {
            let sequence = sequence_after(stamp.base_sequence, place as u32);
            self.log.push(Entry {
                value: *value,
                stamp: (stamp.identity, sequence),
            });
        }
        self.batches
            .push((stamp.identity, stamp.base_sequence, records, offset));
        Answer::written(offset)
    }

    /// Another broker leads. It has what was acknowledged, and perhaps more.
    fn move_leader(&mut self, keep: usize) {
        let keep = keep.max(self.acknowledged).min(self.log.len());
        self.batches
            .retain(|seen| (seen.3 + i64::from(seen.2)) as usize <= keep);
        self.log.truncate(
            self.batches
                .last()
                .map_or(0, |last| (last.3 + i64::from(last.2)) as usize),
        );
        self.leader = 1 - self.leader;
        self.epoch += 1;
    }
}

struct Request {
    id: BatchId,
    node: i32,
    stamp: Stamp,
    values: Vec<u64>,
    sealed: SealedBatch,
    sent: Time,
    answer: Option<Answer>,
}

struct World {
    random: StdRng,
    now: Time,
    queue: PartitionQueue<u64>,
    broker: Broker,
    /// In the order of sending; the broker has carried out a prefix of them.
    connection: VecDeque<Request>,
    /// Left behind by dead connections, in order. May still be carried out.
    zombies: VecDeque<Request>,
    believed: LeaderAt,
    identity: ProducerIdentity,
    /// First value and opening time of every batch, by ticket.
    appended: u64,
    deadlines: Vec<Time>,
    next_batch_ticket: u64,
    completed: u64,
    results: Vec<Result<i64, Persisted>>,
    seen: BTreeMap<&'static str, u64>,
    faults: bool,
    story: Vec<String>,
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let identity = ProducerIdentity {
            id: 7,
            epoch: if random.random_bool(0.05) { i16::MAX - 1 } else { 0 },
        };
        let mut queue = PartitionQueue::new(config(true));
        if random.random_bool(0.3) {
            queue
                .sequences_mut()
                .start_at(identity, i32::MAX - random.random_range(0..40));
        }
        World {
            random,
            now: Time(10),
            queue,
            broker: Broker {
                largest: u32::MAX,
                ..Broker::default()
            },
            connection: VecDeque::new(),
            zombies: VecDeque::new(),
            believed: LeaderAt { node_id: 0, epoch: 0 },
            identity,
            appended: 0,
            deadlines: Vec::new(),
            next_batch_ticket: 0,
            completed: 0,
            results: Vec::new(),
            seen: BTreeMap::new(),
            faults: true,
            story: Vec::new(),
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if std::env::var_os("STORY").is_some() {
            let line = format!(
                "{}: {} | {:?} gap {:?}",
                self.now,
                line(),
                self.queue.describe(),
                self.queue.sequences().gap()
            );
            println!("{line}");
            self.story.push(line);
        }
    }

    fn append(&mut self) {
        let value = self.appended.to_be_bytes();
        let appended = match self.queue.append(0, None, Some(&value), &[]).unwrap() {
            Some(appended) => *appended.tickets + u64::from(appended.index),
            None => {
                let ticket = self.appended;
                let now = self.now;
                let appended = self
                    .queue
                    .append_new(Vec::new(), ticket, now, 0, None, Some(&value), &[])
                    .unwrap();
                let place = *appended.tickets + u64::from(appended.index);
                self.next_batch_ticket = ticket;
                self.deadlines.resize(ticket as usize, Time::MAX);
                self.deadlines.push(now.plus_ms(DELIVERY_TIMEOUT));
                place
            }
        };
        assert_eq!(appended, self.appended, "a ticket's place is the record's place");
        if self.deadlines.len() as u64 == self.appended {
            let last = *self.deadlines.last().unwrap();
            self.deadlines.push(last);
        }
        self.appended += 1;
    }

    fn drain(&mut self) {
        if self.connection.len() >= MAX_IN_FLIGHT {
            return;
        }
        if self.queue.sequences().spent_id() == Some(self.identity.id) {
            self.identity = ProducerIdentity {
                id: self.identity.id + 1,
                epoch: 0,
            };
            self.note("new producer id");
        }
        let epoch = self.queue.sequences().identity();
        let hurry = self.random.random_bool(0.2);
        let next = self
            .queue
            .next_batch(self.believed, Some(self.identity), None, hurry, self.now);
        if epoch.is_some() && self.queue.sequences().identity() != epoch {
            self.note("next epoch");
        }
        let Next::Batch(drained) = next else { return };
        let stamp = drained.stamp.expect("idempotent");
        let mut sealed = match drained.body {
            Body::Records(builder) => builder.seal(Compression::None, None).unwrap(),
            Body::Sealed(sealed) => sealed,
        };
        sealed.stamp(stamp.identity.id, stamp.identity.epoch, stamp.base_sequence, false);
        let values = values_of(&sealed);
        if drained.attempts > 1 {
            self.note("sent again");
        }
        self.tell(|| format!("send {:?} {stamp:?} {values:?}", drained.id));
        let node = self.believed.node_id;
        self.connection.push_back(Request {
            id: drained.id,
            node,
            stamp,
            values,
            sealed,
            sent: self.now,
            answer: None,
        });
    }

    /// The broker takes the next request of the connection.
    fn carry_out(&mut self) {
        let Some(place) = self.connection.iter().position(|request| request.answer.is_none()) else {
            return;
        };
        let (node, stamp) = (self.connection[place].node, self.connection[place].stamp);
        let values = self.connection[place].values.clone();
        let fault = if self.faults {
            self.random.random_range(0..40)
        } else {
            99
        };
        let answer = match fault {
            _ if node != self.broker.leader => Answer::error(ErrorCode::NotLeaderOrFollower),
            0 => Answer::error(ErrorCode::NotEnoughReplicas),
            1 => Answer::error(ErrorCode::LeaderNotAvailable),
            2 => Answer::error(ErrorCode::InvalidRecord),
            3 => Answer::error(ErrorCode::UnknownProducerId),
            4 => Answer::error(ErrorCode::InvalidProducerEpoch),
            5 => Answer::error(ErrorCode::CorruptMessage),
            6..=8 => {
                let answer = self.broker.append(stamp, &values);
                let late = [
                    ErrorCode::RequestTimedOut,
                    ErrorCode::NotEnoughReplicasAfterAppend,
                    ErrorCode::NotLeaderOrFollower,
                ];
                if answer.code == 0 {
                    Answer::error(late[fault - 6])
                } else {
                    answer
                }
            }
            _ => {
                let answer = self.broker.append(stamp, &values);
                if answer.code == 0 {
                    // acks=all: what was acknowledged survives, and with it everything before it.
                    let end = answer.base_offset as usize + values.len();
                    self.broker.acknowledged = self.broker.acknowledged.max(end);
                }
                answer
            }
        };
        let code = ErrorCode::from_code(answer.code);
        self.note(code.map_or("unknown code", ErrorCode::name));
        self.tell(|| format!("broker {node} answers {code:?} to {stamp:?} {values:?}"));
        self.connection[place].answer = Some(answer);
    }

    fn deliver_answer(&mut self) {
        if self.connection.front().is_none_or(|request| request.answer.is_none()) {
            return;
        }
        let request = self.connection.pop_front().unwrap();
        let answer = request.answer.unwrap();
        if answer.code == ErrorCode::NotLeaderOrFollower.code() {
            self.learn_leader();
        }
        let backoff = self.random.random_range(0..50);
        let settled = self
            .queue
            .settle(request.id, Outcome::Answered(answer), request.sealed, backoff, self.now);
        self.tell(|| format!("settle {:?}: {settled:?}", request.id));
        match settled {
            Settled::TooLate => self.note("answered too late"),
            Settled::Split => self.note("cut in two"),
            _ => {}
        }
    }

    fn cut_connection(&mut self) {
        if self.connection.is_empty() {
            return;
        }
        self.note("connection lost");
        for request in std::mem::take(&mut self.connection) {
            let backoff = self.random.random_range(0..50);
            self.queue.settle(
                request.id,
                Outcome::Lost("cut".into()),
                request.sealed.clone(),
                backoff,
                self.now,
            );
            if request.answer.is_none() {
                self.zombies.push_back(request);
            }
        }
        self.tell(|| "connection lost".to_string());
    }

    fn carry_out_zombie(&mut self) {
        if let Some(zombie) = self.zombies.pop_front()
            && zombie.node == self.broker.leader
            // A new epoch fences the requests of dead connections, a new id cannot. It is taken only after 32,767
            // epochs, or when the cluster itself refuses the old id, which fences them too.
            && zombie.stamp.identity.id == self.identity.id
        {
            let answer = self.broker.append(zombie.stamp, &zombie.values);
            self.note(if answer.code == 0 {
                "zombie written"
            } else {
                "zombie refused"
            });
            self.tell(|| format!("zombie {:?} {:?}: {answer:?}", zombie.stamp, zombie.values));
        }
    }

    fn learn_leader(&mut self) {
        let leader = LeaderAt {
            node_id: self.broker.leader,
            epoch: self.broker.epoch,
        };
        if leader.node_id != self.believed.node_id && self.random.random_bool(0.5) {
            // The connection to the old leader stays open: its answers still come.
            self.note("leader learnt with requests in flight");
        }
        self.believed = leader;
    }

    fn advance(&mut self, ms: u64) {
        let target = self.now.plus_ms(ms);
        while self.now < target {
            let request_timeout = self
                .connection
                .front()
                .map(|request| request.sent.plus_ms(REQUEST_TIMEOUT));
            let alarm = self
                .queue
                .wake_at()
                .into_iter()
                .chain(request_timeout)
                .min()
                .unwrap_or(target);
            self.now = alarm.clamp(self.now, target);
            self.queue.handle_timeout(self.now);
            if request_timeout.is_some_and(|moment| moment <= self.now) {
                self.cut_connection();
            }
            self.collect();
            if alarm > target {
                break;
            }
        }
        self.now = target;
    }

    /// Takes the completions and checks what can be checked at once.
    fn collect(&mut self) {
        while let Some(completion) = self.queue.next_completion() {
            let start = completion.tickets + u64::from(completion.first);
            assert_eq!(
                start, self.completed,
                "tickets complete in the order of appending, each once"
            );
            for place in 0..u64::from(completion.records) {
                assert!(
                    self.now <= self.deadlines[self.completed as usize],
                    "a ticket outlived its deadline"
                );
                self.completed += 1;
                self.results.push(match &completion.result {
                    Ok(written) if written.base_offset >= 0 => Ok(written.base_offset + place as i64),
                    Ok(written) => Ok(written.base_offset),
                    Err(failure) => Err(failure.persisted),
                });
            }
            let what = match &completion.result {
                Ok(_) => "done",
                Err(failure) if failure.persisted == Persisted::No => "failed, not written",
                Err(_) => "failed, possibly written",
            };
            self.note(what);
        }
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..25 => {
                for _ in 0..self.random.random_range(1..12) {
                    self.append();
                }
            }
            25..50 => self.drain(),
            50..65 => self.carry_out(),
            65..80 => self.deliver_answer(),
            80..90 => {
                let ms = self.random.random_range(0..40);
                self.advance(ms);
            }
            90..92 => self.cut_connection(),
            92..95 => self.carry_out_zombie(),
            95 => {
                let keep = self.random.random_range(0..=self.broker.log.len());
                self.broker.move_leader(keep);
                // Requests that lie in the old leader's socket are refused by it, whenever it comes to them.
                self.note("leader moved");
                self.tell(|| "leader moved".to_string());
            }
            96 => self.learn_leader(),
            97 => {
                self.broker.largest = if self.random.random_bool(0.5) {
                    self.random.random_range(1..4)
                } else {
                    u32::MAX
                };
            }
            98 => self.advance(REQUEST_TIMEOUT / 2),
            _ => self.queue.close_open(),
        }
        self.collect();
    }

    fn heal(&mut self) {
        self.faults = false;
        self.broker.largest = u32::MAX;
        self.zombies.retain(|_| false);
        self.learn_leader();
        for _ in 0..2_000 {
            if self.queue.is_idle() {
                break;
            }
            self.queue.close_open();
            self.drain();
            self.carry_out();
            self.deliver_answer();
            self.collect();
            self.advance(3);
        }
        assert!(
            self.queue.is_idle(),
            "everything is resolved once the faults end: {:?}",
            self.queue.describe()
        );
    }

    fn check_log(&self) {
        assert_eq!(self.completed, self.appended, "every ticket completes");
        let values: Vec<u64> = self.broker.log.iter().map(|entry| entry.value).collect();
        for pair in self.broker.log.windows(2) {
            assert!(
                pair[0].value < pair[1].value,
                "duplicated or out of order: {pair:?} in {values:?}"
            );
        }
        for (value, result) in self.results.iter().enumerate() {
            let place = values.iter().position(|logged| *logged == value as u64);
            match result {
                Ok(offset) if *offset >= 0 => assert_eq!(
                    place,
                    Some(*offset as usize),
                    "record {value} is where it was acknowledged"
                ),
                Ok(_) => assert!(place.is_some(), "record {value} was acknowledged and is lost"),
                Err(Persisted::No) => assert_eq!(place, None, "record {value} was said not to be in the log"),
                Err(_) => {}
            }
        }
    }
}

fn values_of(sealed: &SealedBatch) -> Vec<u64> {
    let bytes = sealed.to_vec();
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    batch.verify_crc().unwrap();
    let mut scratch = Decompressor::new();
    let records = batch.records(&mut scratch, 1 << 20).unwrap();
    records
        .map(|record| u64::from_be_bytes(record.unwrap().value().unwrap().try_into().unwrap()))
        .collect()
}

fn run(seed: u64, steps: u32) -> World {
    let mut world = World::new(seed);
    for _ in 0..steps {
        world.step();
    }
    world.heal();
    world.check_log();
    world
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(default)
}

#[test]
fn no_schedule_loses_duplicates_or_reorders_records() {
    let (first, schedules) = (number("SEED", 1), number("SCHEDULES", 1_500));
    let mut seen: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut records = 0;
    for seed in first..first + schedules {
        let outcome = std::panic::catch_unwind(|| {
            let world = run(seed, 400);
            (world.seen, world.appended)
        });
        let Ok((transitions, appended)) = outcome else {
            panic!("seed {seed} breaks an invariant")
        };
        records += appended;
        for (what, times) in transitions {
            *seen.entry(what).or_default() += times;
        }
    }
    println!("{schedules} schedules from seed {first}, {records} records: {seen:#?}");
    if schedules >= 1_000 {
        for what in [
            "done",
            "failed, not written",
            "failed, possibly written",
            "sent again",
            "next epoch",
            "new producer id",
            "answered too late",
            "cut in two",
            "connection lost",
            "zombie written",
            "zombie refused",
            "leader moved",
            "OUT_OF_ORDER_SEQUENCE_NUMBER",
            "UNKNOWN_PRODUCER_ID",
            "INVALID_PRODUCER_EPOCH",
        ] {
            assert!(seen.contains_key(what), "no schedule reached \"{what}\"");
        }
    }
}
