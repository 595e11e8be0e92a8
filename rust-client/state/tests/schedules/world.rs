//! A producer's queues, two brokers and the wire between them, in virtual time.
//!
//! Takes a seed. The driver here does what the client's sender does: one request carries at most one batch of each
//! partition, requests of one connection keep their order, what a dead connection carried is settled at once. Everything
//! else is up to the seed: when what happens, and what goes wrong. What is promised is checked on the way
//! (`collect`) and at the end (`promises`).

use std::collections::{BTreeMap, VecDeque};

use ottla_client_state::Time;
use ottla_client_state::batch::{BatchId, Body};
use ottla_client_state::partition_queue::{Drained, LeaderAt, Next, PartitionQueue, Settled};
use ottla_client_state::sequence::{Answer, Gap, Outcome, Persisted, ProducerIdentity, Reason, Stamp};
use ottla_protocol::records::{Compression, Decompressor, RecordBatch, SealedBatch};
use ottla_protocol::{ErrorCode, Uuid};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::broker::PartitionLog;
use crate::plan::{DELIVERY_TIMEOUT, Mode, Plan, REQUEST_TIMEOUT};

/// The errors that a broker may answer with after it has appended the batch: the wait for its followers ended badly.
const AFTER_APPEND: [ErrorCode; 6] = [
    ErrorCode::RequestTimedOut,
    ErrorCode::NotEnoughReplicasAfterAppend,
    ErrorCode::NotLeaderOrFollower,
    ErrorCode::KafkaStorageError,
    ErrorCode::UnknownTopicOrPartition,
    ErrorCode::UnknownServerError,
];

/// A number that Kafka has no error for.
const NEVER_HEARD_OF: i16 = 4242;

/// A batch in a request.
pub struct Part {
    partition: usize,
    id: BatchId,
    stamp: Option<Stamp>,
    topic_id: Uuid,
    values: Vec<u64>,
    sealed: SealedBatch,
    answer: Option<Answer>,
}

struct Request {
    parts: Vec<Part>,
    sent: Time,
}

/// What the producer and the judge know of one partition.
pub struct Partition {
    pub queue: PartitionQueue<u64>,
    pub broker: PartitionLog,
    /// What the producer's metadata says; `None` while the metadata misses the topic.
    believed: Option<LeaderAt>,
    pub appended: u64,
    deadlines: Vec<Time>,
    pub completed: u64,
    /// Of every record, in order: its offset, or how certain it is that it is in the log.
    pub results: Vec<Result<i64, Persisted>>,
}

/// What was settled, as a row of the table of transitions: mode, outcome, gap before, what became of the batch.
pub type Transition = (Mode, &'static str, &'static str, &'static str);

pub struct World {
    pub plan: Plan,
    random: StdRng,
    now: Time,
    pub partitions: Vec<Partition>,
    /// One to each broker; the broker has carried out the first requests of each.
    connections: [VecDeque<Request>; 2],
    /// Left behind by dead connections, in order. May still be carried out.
    strays: [VecDeque<Part>; 2],
    identity: Option<ProducerIdentity>,
    last_id: i64,
    pub seen: BTreeMap<&'static str, u64>,
    pub transitions: BTreeMap<Transition, u64>,
    faults: bool,
    tells: bool,
}

impl World {
    pub fn new(seed: u64, tells: bool) -> World {
        let mut random = StdRng::seed_from_u64(seed);
        let plan = Plan::draw(&mut random);
        let leader = LeaderAt {
            node_id: 0,
            epoch: 0,
            topic_id: Uuid::ZERO,
        };
        let partitions = (0..plan.partitions).map(|place| {
            let mut queue = PartitionQueue::new(plan.queue());
            if let Some(first) = plan.first_sequence.filter(|_| place == 0) {
                queue.sequences_mut().start_at(plan.identity, first);
            }
            let strict = plan.strict_broker && plan.first_sequence.is_none();
            Partition {
                queue,
                broker: PartitionLog::new(strict, plan.remembers_one_offset),
                believed: Some(leader),
                appended: 0,
                deadlines: Vec::new(),
                completed: 0,
                results: Vec::new(),
            }
        });
        World {
            partitions: partitions.collect(),
            identity: Some(plan.identity),
            last_id: plan.identity.id,
            plan,
            random,
            now: Time(10),
            connections: Default::default(),
            strays: Default::default(),
            seen: BTreeMap::new(),
            transitions: BTreeMap::new(),
            faults: true,
            tells,
        }
    }

    fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn tell(&self, line: impl FnOnce() -> String) {
        if self.tells {
            println!("{}: {}", self.now, line());
            for partition in &self.partitions {
                println!(
                    "    {:?} gap {:?}, log {:?}",
                    partition.queue.describe(),
                    partition.queue.sequences().gap(),
                    partition.broker.log
                );
            }
        }
    }

    fn chance(&mut self, one_in: u32) -> bool {
        self.faults && self.random.random_ratio(1, one_in)
    }

    fn backoff(&mut self) -> u64 {
        self.random.random_range(0..50)
    }

    fn any_partition(&mut self) -> usize {
        self.random.random_range(0..self.partitions.len())
    }

    fn any_node(&mut self) -> usize {
        self.random.random_range(0..2)
    }

    pub fn append(&mut self, place: usize) {
        let now = self.now;
        let partition = &mut self.partitions[place];
        // The partition's number is in the value, so a record in the wrong log is noticed.
        let value = ((place as u64) << 40 | partition.appended).to_be_bytes();
        let ticket = match partition.queue.append(0, None, Some(&value), &[]).unwrap() {
            Some(appended) => *appended.tickets + u64::from(appended.index),
            None => {
                let first = partition.appended;
                let begun = partition
                    .queue
                    .append_new(Vec::new(), first, now, 0, None, Some(&value), &[]);
                let appended = begun.unwrap();
                partition.deadlines.push(now.plus_ms(DELIVERY_TIMEOUT));
                *appended.tickets + u64::from(appended.index)
            }
        };
        assert_eq!(ticket, partition.appended, "a ticket's place is the record's place");
        if partition.deadlines.len() as u64 == ticket {
            // The time of a batch runs from its first record.
            partition.deadlines.push(partition.deadlines[ticket as usize - 1]);
        }
        partition.appended += 1;
    }

    /// One request to a broker, as the sender makes it.
    fn drain(&mut self, node: usize) {
        if self.connections[node].len() >= self.plan.max_in_flight {
            return;
        }
        self.renew_identity();
        let hurry = self.random.random_ratio(1, 5);
        let start = self.any_partition();
        let mut room = self.random.random_range(100..400);
        let mut parts = Vec::new();
        for turn in 0..self.partitions.len() {
            let place = (start + turn) % self.partitions.len();
            let partition = &mut self.partitions[place];
            let Some(leader) = partition.believed.filter(|leader| leader.node_id == node as i32) else {
                continue;
            };
            let before = partition.queue.sequences().identity();
            let limit = (!parts.is_empty()).then_some(room);
            let next = partition
                .queue
                .next_batch(leader, self.identity, limit, hurry, self.now);
            let after = partition.queue.sequences().identity();
            if before.is_some() && after != before {
                self.note("next epoch");
            }
            match next {
                Next::Batch(drained) => {
                    let under_way = self.partitions[place].queue.in_flight();
                    assert!(under_way <= self.plan.max_in_flight, "{under_way} requests under way");
                    room = room.saturating_sub(drained.size);
                    parts.extend(self.seal(place, leader.topic_id, drained));
                }
                Next::NoRoom => self.note("no room in the request"),
                Next::Blocked => self.note("blocked"),
                Next::Wait(_) | Next::Empty => {}
            }
        }
        if parts.is_empty() {
            return;
        }
        if self.chance(40) {
            let hopeless = self.random.random_ratio(1, 4);
            let outcome = match hopeless {
                true => Outcome::Refused("wrong password".into()),
                false => Outcome::NotSent("no connection".into()),
            };
            parts.into_iter().for_each(|part| self.settle(part, outcome.clone()));
            return;
        }
        self.tell(|| format!("a request with {} batches to broker {node}", parts.len()));
        self.connections[node].push_back(Request { parts, sent: self.now });
    }

    /// The cluster gives a new producer id when a partition cannot use the old one any more, and takes its time.
    fn renew_identity(&mut self) {
        let present = self.identity.map(|identity| identity.id);
        let spent = |partition: &Partition| partition.queue.sequences().spent_id();
        if present.is_some() && self.partitions.iter().any(|one| spent(one) == present) {
            self.identity = None;
        }
        if self.identity.is_none() && (!self.faults || self.random.random_ratio(1, 3)) {
            self.last_id += 1;
            self.identity = Some(ProducerIdentity {
                id: self.last_id,
                epoch: 0,
            });
            self.note("new producer id");
        }
    }

    fn seal(&mut self, place: usize, topic_id: Uuid, drained: Drained<u64>) -> Option<Part> {
        let Drained {
            id,
            body,
            stamp,
            attempts,
            ..
        } = drained;
        let mut sealed = match body {
            Body::Records(_) if self.chance(100) => {
                self.note("refused by the client");
                self.partitions[place]
                    .queue
                    .refuse(id, Reason::Refused("too strange".into()));
                return None;
            }
            Body::Records(builder) => builder.seal(Compression::None, None).unwrap(),
            Body::Sealed(sealed) => sealed,
        };
        assert_eq!(stamp.is_some(), self.plan.mode.is_idempotent(), "who is stamped");
        if let Some(stamp) = stamp {
            sealed.stamp(stamp.identity.id, stamp.identity.epoch, stamp.base_sequence, false);
        }
        let values = values_of(&sealed, place as u64);
        if attempts > 1 {
            self.note("sent again");
        }
        self.tell(|| format!("partition {place}: {id:?} leaves as {stamp:?} with {values:?}"));
        Some(Part {
            partition: place,
            id,
            stamp,
            topic_id,
            values,
            sealed,
            answer: None,
        })
    }

    /// The broker takes the next request of its connection.
    fn carry_out(&mut self, node: usize) {
        if self.plan.mode == Mode::AtMostOnce {
            return; // see `deliver_answer`
        }
        let unanswered = |request: &Request| request.parts.iter().all(|part| part.answer.is_none());
        let Some(place) = self.connections[node].iter().position(unanswered) else {
            return;
        };
        for index in 0..self.connections[node][place].parts.len() {
            let part = &self.connections[node][place].parts[index];
            let (partition, stamp, topic_id, values) = (part.partition, part.stamp, part.topic_id, part.values.clone());
            let answer = self.answer(node, partition, stamp, topic_id, &values);
            let code = ErrorCode::from_code(answer.code);
            self.note(code.map_or("unknown code", ErrorCode::name));
            self.tell(|| format!("broker {node} answers {code:?} to {stamp:?} {values:?}"));
            self.connections[node][place].parts[index].answer = Some(answer);
        }
    }

    fn answer(&mut self, node: usize, place: usize, stamp: Option<Stamp>, topic_id: Uuid, values: &[u64]) -> Answer {
        if self.partitions[place].broker.leader != node as i32 {
            return Answer::error(ErrorCode::NotLeaderOrFollower);
        }
        let fault = self.chance(self.plan.one_fault_in);
        if fault && self.random.random_bool(0.6) {
            let answer = self.error_before_append();
            // A broker that has the batch does not claim to miss what is before it.
            let out_of_order = answer.code == ErrorCode::OutOfOrderSequenceNumber.code();
            if !(out_of_order && self.partitions[place].broker.has(values)) {
                return answer;
            }
        }
        let broker = &mut self.partitions[place].broker;
        let answer = broker.append(topic_id, stamp, values);
        if answer.code == ErrorCode::DuplicateSequenceNumber.code() {
            // Such a broker did not wait for its followers here, and no client can make up for that.
            broker.acknowledged = broker.log.len();
        }
        if answer.code != 0 {
            return answer;
        }
        if fault {
            return Answer::error(AFTER_APPEND[self.random.random_range(0..AFTER_APPEND.len())]);
        }
        if self.plan.mode.is_replicated() {
            // acks=all: what was acknowledged survives, and with it everything before it.
            let end = answer.base_offset as usize + values.len();
            broker.acknowledged = broker.acknowledged.max(end);
        }
        answer
    }

    /// Any error there is, but those that claim what is not so.
    fn error_before_append(&mut self) -> Answer {
        loop {
            let code = match self.random.random_range(0..10) {
                0..4 => [
                    ErrorCode::NotEnoughReplicas,
                    ErrorCode::LeaderNotAvailable,
                    ErrorCode::OutOfOrderSequenceNumber,
                    ErrorCode::UnknownProducerId,
                    ErrorCode::InvalidProducerEpoch,
                    ErrorCode::InvalidRecord,
                ][self.random.random_range(0..6)],
                4 => {
                    return Answer {
                        code: NEVER_HEARD_OF,
                        ..Answer::written(-1)
                    };
                }
                _ => ErrorCode::ALL[self.random.random_range(0..ErrorCode::ALL.len())],
            };
            if !matches!(code, ErrorCode::None | ErrorCode::DuplicateSequenceNumber) {
                return Answer::error(code);
            }
        }
    }

    /// An answer reaches the producer. With acks=0 it is the news that the request was written to the socket.
    fn deliver_answer(&mut self, node: usize) {
        if self.plan.mode == Mode::AtMostOnce {
            let Some(request) = self.connections[node].pop_front() else {
                return;
            };
            for part in request.parts {
                let copy = part.copy();
                self.settle(part, Outcome::Unacknowledged);
                self.strays[node].push_back(copy);
            }
            return;
        }
        let answered = |request: &Request| request.parts.iter().all(|part| part.answer.is_some());
        if !self.connections[node].front().is_some_and(answered) {
            return;
        }
        let Some(request) = self.connections[node].pop_front() else {
            return;
        };
        for mut part in request.parts {
            let Some(answer) = part.answer.take() else { continue };
            if answer.code == ErrorCode::NotLeaderOrFollower.code() && self.random.random_bool(0.7) {
                self.learn(part.partition);
            }
            let outcome = if self.chance(60) {
                Outcome::Lost("the answer leaves this partition out".into())
            } else {
                Outcome::Answered(answer)
            };
            self.settle(part, outcome);
        }
    }

    fn settle(&mut self, part: Part, outcome: Outcome) {
        let wait = self.backoff();
        let partition = &mut self.partitions[part.partition];
        let gap = match partition.queue.sequences().gap() {
            Gap::None => "no gap",
            Gap::Possible => "gap possible",
            Gap::Certain => "gap certain",
            Gap::StateLost => "state lost",
        };
        let told = name_of(&outcome);
        let settled = partition.queue.settle(part.id, outcome, part.sealed, wait, self.now);
        let became = match settled {
            Settled::Done => "done",
            Settled::Retry { .. } => "retry",
            Settled::Split => "cut in two",
            Settled::Failed { .. } => "failed",
            Settled::TooLate => "too late",
        };
        let row = (self.plan.mode, told, gap, became);
        *self.transitions.entry(row).or_default() += 1;
        self.tell(|| format!("partition {}: {:?}: {told}: {became}", part.partition, part.id));
    }

    fn cut_connection(&mut self, node: usize) {
        if self.connections[node].is_empty() {
            return;
        }
        self.note("connection lost");
        self.tell(|| format!("the connection to broker {node} is lost"));
        for part in std::mem::take(&mut self.connections[node])
            .into_iter()
            .flat_map(|request| request.parts)
        {
            if part.answer.is_none() && self.plan.strays {
                self.strays[node].push_back(part.copy());
            }
            self.settle(part, Outcome::Lost("the connection was lost".into()));
        }
    }

    /// The broker comes to what a dead connection had carried to it.
    fn carry_out_stray(&mut self, node: usize) {
        let Some(stray) = self.strays[node].pop_front() else {
            return;
        };
        let broker = &mut self.partitions[stray.partition].broker;
        if broker.leader != node as i32 {
            return;
        }
        let answer = broker.append(stray.topic_id, stray.stamp, &stray.values);
        self.note(match answer.code {
            0 => "stray written",
            _ => "stray refused",
        });
        self.tell(|| format!("a stray request {:?} {:?}: {answer:?}", stray.stamp, stray.values));
    }

    /// The producer's metadata becomes what is so.
    fn learn(&mut self, place: usize) {
        let Partition {
            broker,
            believed,
            queue,
            ..
        } = &mut self.partitions[place];
        let leader = LeaderAt {
            node_id: broker.leader,
            epoch: broker.epoch,
            topic_id: broker.topic_id,
        };
        let news = believed.is_none_or(|before| before.node_id != leader.node_id);
        *believed = Some(leader);
        // The connection to the old leader stays open: its answers still come.
        if news && queue.in_flight() > 0 {
            self.note("leader learnt with requests in flight");
        }
    }

    fn advance(&mut self, ms: u64) {
        let target = self.now.plus_ms(ms);
        while self.now < target {
            let expiry = |connection: &VecDeque<Request>| Some(connection.front()?.sent.plus_ms(REQUEST_TIMEOUT));
            let timeouts = [expiry(&self.connections[0]), expiry(&self.connections[1])];
            let alarms = self.partitions.iter().filter_map(|one| one.queue.wake_at());
            let alarm = alarms.chain(timeouts.into_iter().flatten()).min().unwrap_or(target);
            self.now = alarm.clamp(self.now, target);
            for partition in &mut self.partitions {
                partition.queue.handle_timeout(self.now);
                let next = partition.queue.wake_at();
                assert!(
                    next.is_none_or(|at| at > self.now),
                    "an alarm rang and nothing was done"
                );
            }
            for (node, timeout) in timeouts.into_iter().enumerate() {
                if timeout.is_some_and(|moment| moment <= self.now) {
                    self.cut_connection(node);
                }
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
        let now = self.now;
        let mut notes = Vec::new();
        for partition in &mut self.partitions {
            while let Some(completion) = partition.queue.next_completion() {
                let start = completion.tickets + u64::from(completion.first);
                let done = partition.completed;
                assert_eq!(start, done, "tickets complete in the order of appending, each once");
                for place in 0..u64::from(completion.records) {
                    let deadline = partition.deadlines[partition.completed as usize];
                    assert!(now <= deadline, "a ticket outlived its deadline");
                    partition.completed += 1;
                    partition.results.push(match &completion.result {
                        Ok(written) if written.base_offset >= 0 => Ok(written.base_offset + place as i64),
                        Ok(_) => Ok(-1),
                        Err(failure) => Err(failure.persisted),
                    });
                }
                notes.push(match &completion.result {
                    Ok(_) => "done",
                    Err(failure) => match failure.persisted {
                        Persisted::No => "failed, not written",
                        Persisted::Possibly => "failed, possibly written",
                        Persisted::Yes => panic!("a failed batch that was written"),
                    },
                });
            }
        }
        notes.into_iter().for_each(|what| self.note(what));
    }

    pub fn step(&mut self) {
        let (place, node) = (self.any_partition(), self.any_node());
        match self.random.random_range(0..1000) {
            0..110 => {
                for _ in 0..self.random.random_range(1..10) {
                    self.append(place);
                }
            }
            110..400 => self.drain(node),
            400..620 => self.carry_out(node),
            620..830 => self.deliver_answer(node),
            830..900 => {
                let ms = self.random.random_range(0..40);
                self.advance(ms);
            }
            900..912 => self.cut_connection(node),
            912..935 => self.carry_out_stray(node),
            935..950 => self.learn(place),
            950..960 => self.advance(REQUEST_TIMEOUT / 2),
            960..970 => self.partitions[place].queue.close_open(),
            _ => self.upset(place),
        }
        self.collect();
    }

    /// Something rare.
    fn upset(&mut self, place: usize) {
        let one_at_a_time = self.plan.max_in_flight == 1;
        let partition = &mut self.partitions[place];
        let what = match self.random.random_range(0..60) {
            0..22 => {
                let keep = self.random.random_range(0..=partition.broker.log.len());
                partition.broker.move_leader(keep);
                // Requests that lie in the old leader's socket are refused by it, whenever it comes to them.
                "leader moved"
            }
            22..42 => {
                let small = self.random.random_bool(0.5);
                partition.broker.largest = if small {
                    self.random.random_range(1..4)
                } else {
                    u32::MAX
                };
                "largest batch changed"
            }
            42..49 => {
                partition.believed = None;
                "topic missing from the metadata"
            }
            49..53 => {
                partition.broker.recreate(self.random.random_range(0..2));
                "topic created again"
            }
            // A forgetful broker takes any first sequence unless it is strict, and keeps no order between two of them.
            53..57 if partition.broker.strict || one_at_a_time => {
                let busy = partition.queue.in_flight() > 0;
                if busy || !partition.broker.forget_producers(partition.completed) {
                    return;
                }
                let stays = |part: &Part| part.partition != place;
                self.strays.iter_mut().for_each(|strays| strays.retain(stays));
                "producers forgotten"
            }
            57 => {
                let hopeless = Reason::Refused("no permission".into());
                partition.queue.abort_waiting(&hopeless);
                "waiting batches given up"
            }
            58 => {
                partition.queue.abort(&Reason::Closed);
                "everything given up"
            }
            _ => return,
        };
        self.note(what);
        self.tell(|| format!("partition {place}: {what}"));
    }

    /// The faults end. Everything is settled in time, and a new record gets through to every partition.
    pub fn heal(&mut self) {
        self.faults = false;
        for node in 0..2 {
            if self.random.random_bool(0.5) {
                self.strays[node].clear();
            }
        }
        for place in 0..self.partitions.len() {
            self.partitions[place].broker.largest = u32::MAX;
            self.learn(place);
        }
        self.run_until_idle();
        // Without retries the first record may be the one that learns that the broker has forgotten this producer.
        for _ in 0..2 {
            (0..self.partitions.len()).for_each(|place| self.append(place));
            self.run_until_idle();
        }
        for partition in &self.partitions {
            assert_eq!(partition.completed, partition.appended, "every ticket completes");
            let last = partition.results.last();
            assert!(
                matches!(last, Some(Ok(_))),
                "a record sent after the faults is written: {last:?}"
            );
        }
        // What lies in the pipe with acks=0 arrives now or never.
        while self.strays.iter().any(|strays| !strays.is_empty()) {
            (0..2).for_each(|node| self.carry_out_stray(node));
        }
    }

    fn run_until_idle(&mut self) {
        for _ in 0..2_000 {
            if self.partitions.iter().all(|one| one.queue.is_idle()) {
                return;
            }
            for place in 0..self.partitions.len() {
                self.partitions[place].queue.close_open();
                self.learn(place);
            }
            for node in 0..2 {
                self.drain(node);
                self.carry_out(node);
                self.deliver_answer(node);
                self.carry_out_stray(node);
            }
            self.collect();
            self.advance(3);
        }
        let left: Vec<_> = self.partitions.iter().map(|one| one.queue.describe()).collect();
        panic!("everything is resolved once the faults end: {left:?}");
    }
}

impl Part {
    /// The same bytes, on their way by themselves.
    fn copy(&self) -> Part {
        Part {
            values: self.values.clone(),
            sealed: self.sealed.clone(),
            answer: None,
            ..*self
        }
    }
}

fn name_of(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Answered(answer) => ErrorCode::from_code(answer.code).map_or("unknown code", ErrorCode::name),
        Outcome::Unacknowledged => "unacknowledged",
        Outcome::NotSent(_) => "not sent",
        Outcome::Lost(_) => "lost",
        Outcome::Refused(_) => "refused",
    }
}

/// The numbers in a batch, which must all be of this partition.
fn values_of(sealed: &SealedBatch, partition: u64) -> Vec<u64> {
    let bytes = sealed.to_vec();
    let (batch, _) = RecordBatch::parse(&bytes).unwrap();
    batch.verify_crc().unwrap();
    let mut scratch = Decompressor::new();
    let records = batch.records(&mut scratch, 1 << 20).unwrap();
    let values = records.map(|record| u64::from_be_bytes(record.unwrap().value().unwrap().try_into().unwrap()));
    values
        .inspect(|value| assert_eq!(value >> 40, partition, "misrouted"))
        .map(|value| value & ((1 << 40) - 1))
        .collect()
}
