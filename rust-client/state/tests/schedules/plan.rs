//! What a seed decides before its schedule begins: the producer's settings, the broker's habits, the weather.

use ottla_client_state::partition_queue::QueueConfig;
use ottla_client_state::sequence::ProducerIdentity;
use rand::RngExt;
use rand::rngs::StdRng;

pub const LINGER: u64 = 5;
pub const DELIVERY_TIMEOUT: u64 = 2_000;
pub const REQUEST_TIMEOUT: u64 = 300;
/// Room for four records.
pub const BATCH_SIZE: usize = 61 + 16 * 4;

/// The promise that a producer's settings make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// Idempotence, several requests under way.
    Idempotent,
    /// Idempotence, one request at a time.
    IdempotentOneAtATime,
    /// acks=all with retries, without idempotence.
    AtLeastOnce,
    /// acks=all with retries, without idempotence, one request at a time: the order is kept.
    AtLeastOnceOneAtATime,
    /// acks=1 with retries, without idempotence.
    LeaderOnly,
    /// acks=0 without retries.
    AtMostOnce,
}

pub const MODES: [Mode; 6] = [
    Mode::Idempotent,
    Mode::IdempotentOneAtATime,
    Mode::AtLeastOnce,
    Mode::AtLeastOnceOneAtATime,
    Mode::LeaderOnly,
    Mode::AtMostOnce,
];

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Idempotent => "idempotent",
            Mode::IdempotentOneAtATime => "idempotent, 1 in flight",
            Mode::AtLeastOnce => "at least once",
            Mode::AtLeastOnceOneAtATime => "at least once, 1 in flight",
            Mode::LeaderOnly => "acks=1",
            Mode::AtMostOnce => "at most once",
        }
    }

    pub fn is_idempotent(self) -> bool {
        matches!(self, Mode::Idempotent | Mode::IdempotentOneAtATime)
    }

    /// Whether an acknowledged record outlives every change of leader.
    pub fn is_replicated(self) -> bool {
        !matches!(self, Mode::LeaderOnly | Mode::AtMostOnce)
    }
}

/// What one schedule is about.
#[derive(Debug, Clone)]
pub struct Plan {
    pub mode: Mode,
    pub max_in_flight: usize,
    pub retries: u32,
    pub partitions: usize,
    pub identity: ProducerIdentity,
    /// Where the sequences of the first partition begin, if not at 0.
    pub first_sequence: Option<i32>,
    pub strict_broker: bool,
    pub remembers_one_offset: bool,
    /// Whether the broker may come to requests of dead connections.
    pub strays: bool,
    /// One in this many steps of the broker is a fault.
    pub one_fault_in: u32,
}

impl Plan {
    pub fn draw(random: &mut StdRng) -> Plan {
        let mode = match random.random_range(0..20) {
            0..10 => Mode::Idempotent,
            10..12 => Mode::IdempotentOneAtATime,
            12..14 => Mode::AtLeastOnce,
            14..16 => Mode::AtLeastOnceOneAtATime,
            16..18 => Mode::LeaderOnly,
            _ => Mode::AtMostOnce,
        };
        let max_in_flight = match mode {
            Mode::IdempotentOneAtATime | Mode::AtLeastOnceOneAtATime => 1,
            _ if random.random_bool(0.7) => 5,
            _ => random.random_range(2..5),
        };
        let retries = match mode {
            Mode::AtMostOnce => 0,
            _ if random.random_bool(0.75) => u32::MAX,
            _ => random.random_range(0..4),
        };
        let few_epochs = random.random_bool(0.05);
        let near_the_end = random.random_bool(0.3);
        Plan {
            mode,
            max_in_flight,
            retries,
            partitions: if random.random_bool(0.5) {
                1
            } else {
                random.random_range(2..4)
            },
            identity: ProducerIdentity {
                id: 7,
                epoch: if few_epochs { i16::MAX - 1 } else { 0 },
            },
            first_sequence: (near_the_end && mode.is_idempotent()).then(|| i32::MAX - random.random_range(0..40)),
            strict_broker: random.random_bool(0.3),
            remembers_one_offset: random.random_bool(0.3),
            // Nothing but a sequence keeps a stray copy from being written out of turn.
            strays: mode != Mode::AtLeastOnceOneAtATime,
            one_fault_in: [6, 10, 30][random.random_range(0..3)],
        }
    }

    pub fn queue(&self) -> QueueConfig {
        QueueConfig {
            batch_size: BATCH_SIZE,
            linger_ms: LINGER,
            delivery_timeout_ms: DELIVERY_TIMEOUT,
            retries: self.retries,
            idempotent: self.mode.is_idempotent(),
            max_in_flight: self.max_in_flight,
            compression_level: None,
            checksum_early: true,
        }
    }
}
