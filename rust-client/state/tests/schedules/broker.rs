//! A model of the broker's side of one partition: its log, and what it knows of producers.
//!
//! Takes batches; gives answers as a broker does that follows the rules. What it knows of a producer is derived from the
//! log each time, so a log that was truncated forgets with it. Faults are not made here but in `world`.

use std::collections::BTreeSet;

use ottla_client_state::sequence::{Answer, Stamp};
use ottla_protocol::{ErrorCode, Uuid};

/// A broker recognises duplicates among this many batches of a producer.
const REMEMBERED: usize = 5;

/// A batch in the log.
#[derive(Debug, Clone, Copy)]
struct Logged {
    stamp: Option<Stamp>,
    records: u32,
    offset: usize,
}

impl Logged {
    fn end(&self) -> usize {
        self.offset + self.records as usize
    }
}

/// The sequence after a batch. The broker's own arithmetic, not that of the producer under test.
fn sequence_after(base: i32, records: u32) -> i32 {
    ((i64::from(base) + i64::from(records)) % (1 << 31)) as i32
}

/// One partition of one topic, wherever it is led at the moment.
#[derive(Debug, Default)]
pub struct PartitionLog {
    /// The values in the order of the log.
    pub log: Vec<u64>,
    /// The logs of topics of this name that were deleted.
    pub deleted: Vec<Vec<u64>>,
    /// Values that a new leader did not have.
    pub truncated: BTreeSet<u64>,
    /// Changes when the topic is deleted and created again.
    pub topic_id: Uuid,
    /// The broker that leads.
    pub leader: i32,
    /// The leader epoch.
    pub epoch: i32,
    /// Records that a batch may have.
    pub largest: u32,
    /// Records that were acknowledged by all replicas and so outlive a leader.
    pub acknowledged: usize,
    /// It refuses the first sequence of a producer that it does not know, unless it is 0 (brokers before 2.5).
    pub strict: bool,
    /// It knows the offset of a producer's last batch only, and says DUPLICATE_SEQUENCE_NUMBER to the others.
    pub remembers_one_offset: bool,
    /// The producer ids that ever wrote here.
    pub producers: BTreeSet<i64>,
    batches: Vec<Logged>,
    /// Batches whose producers have been forgotten.
    forgotten: usize,
}

impl PartitionLog {
    /// An empty log, led by broker 0.
    pub fn new(strict: bool, remembers_one_offset: bool) -> PartitionLog {
        PartitionLog {
            largest: u32::MAX,
            strict,
            remembers_one_offset,
            ..PartitionLog::default()
        }
    }

    /// Takes a batch, or says why not.
    pub fn append(&mut self, topic_id: Uuid, stamp: Option<Stamp>, values: &[u64]) -> Answer {
        let records = values.len() as u32;
        if topic_id != self.topic_id {
            return Answer::error(ErrorCode::UnknownTopicId);
        }
        if records > self.largest {
            return Answer::error(ErrorCode::MessageTooLarge);
        }
        if let Some(answer) = stamp.and_then(|stamp| self.refuse(stamp, records)) {
            return answer;
        }
        let offset = self.log.len();
        self.producers.extend(stamp.map(|stamp| stamp.identity.id));
        self.log.extend(values);
        self.batches.push(Logged { stamp, records, offset });
        Answer::written(offset as i64)
    }

    /// What is said to a batch that does not follow the last one of its producer.
    fn refuse(&self, stamp: Stamp, records: u32) -> Option<Answer> {
        let (id, epoch) = (stamp.identity.id, stamp.identity.epoch);
        let known = self.batches.get(self.forgotten..).unwrap_or_default();
        let own = || {
            let stamped = known
                .iter()
                .rev()
                .filter_map(|batch| batch.stamp.map(|stamp| (stamp, batch)));
            stamped.filter(|(stamp, _)| stamp.identity.id == id)
        };
        let Some((last, batch)) = own().next() else {
            let refused = self.strict && stamp.base_sequence != 0;
            return refused.then(|| Answer::error(ErrorCode::UnknownProducerId));
        };
        let same = |(other, batch): &(Stamp, &Logged)| *other == stamp && batch.records == records;
        if let Some(place) = own().take(REMEMBERED).position(|one| same(&one)) {
            let forgotten = self.remembers_one_offset && place > 0;
            return Some(match own().nth(place) {
                Some((_, batch)) if !forgotten => Answer::written(batch.offset as i64),
                _ => Answer::error(ErrorCode::DuplicateSequenceNumber),
            });
        }
        if epoch < last.identity.epoch {
            return Some(Answer::error(ErrorCode::InvalidProducerEpoch));
        }
        let expected = if epoch > last.identity.epoch {
            0
        } else {
            sequence_after(last.base_sequence, batch.records)
        };
        (stamp.base_sequence != expected).then(|| Answer::error(ErrorCode::OutOfOrderSequenceNumber))
    }

    /// Whether these values are in the log.
    pub fn has(&self, values: &[u64]) -> bool {
        values.first().is_some_and(|first| self.log.contains(first))
    }

    /// Another broker leads. It has what all replicas acknowledged, and perhaps more, up to `keep`.
    pub fn move_leader(&mut self, keep: usize) {
        let keep = keep.max(self.acknowledged);
        self.batches.retain(|batch| batch.end() <= keep);
        let end = self.batches.last().map_or(0, Logged::end);
        self.truncated.extend(self.log.drain(end..));
        self.forgotten = self.forgotten.min(self.batches.len());
        self.leader = 1 - self.leader;
        self.epoch += 1;
    }

    /// The topic is deleted and created again, by chance with the same leader.
    pub fn recreate(&mut self, leader: i32) {
        self.deleted.push(std::mem::take(&mut self.log));
        self.batches.clear();
        self.forgotten = 0;
        self.acknowledged = 0;
        self.topic_id = Uuid([self.deleted.len() as u8; 16]);
        self.leader = leader;
        self.epoch = 0;
    }

    /// Forgets all producers, as a broker does after a time. `unsettled` is the first value whose fate the producer
    /// does not know. No broker forgets while a batch may still be sent again that it could not tell from a new one;
    /// then nothing happens.
    pub fn forget_producers(&mut self, unsettled: u64) -> bool {
        let in_doubt = |batch: &&Logged| {
            let last = self.log.get(batch.end() - 1);
            last.is_some_and(|value| *value >= unsettled)
        };
        let mut doubtful = self.batches.iter().filter(in_doubt);
        let dangerous = doubtful.any(|batch| !self.strict || batch.stamp.is_some_and(|stamp| stamp.base_sequence == 0));
        if !dangerous {
            self.forgotten = self.batches.len();
        }
        !dangerous
    }

    /// All logs that this partition ever had.
    pub fn logs(&self) -> impl Iterator<Item = &Vec<u64>> {
        self.deleted.iter().chain(std::iter::once(&self.log))
    }
}
