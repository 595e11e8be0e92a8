//! What a seed decides before its schedule begins: the group, its settings, the weather.

use rand::RngExt;
use rand::rngs::StdRng;

use ottla_client_state::assignor;

/// How the members of a group agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// The classic protocol, all partitions given up in every rebalance.
    Eager,
    /// The classic protocol, only what moves given up (KIP-429).
    Cooperative,
    /// The classic protocol, from an eager assignor to a cooperative one by restarting each member twice.
    Upgrade,
    /// The consumer protocol (KIP-848).
    Consumer,
    /// From the classic protocol to the consumer protocol and perhaps back, by restarting each member.
    Migration,
}

pub const KINDS: [Kind; 5] = [
    Kind::Eager,
    Kind::Cooperative,
    Kind::Upgrade,
    Kind::Consumer,
    Kind::Migration,
];
/// In place of an assignor: the member speaks the consumer protocol.
pub const CONSUMER: &str = "consumer";

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Eager => "classic, eager",
            Kind::Cooperative => "classic, cooperative",
            Kind::Upgrade => "classic, from eager to cooperative",
            Kind::Consumer => "consumer",
            Kind::Migration => "from classic to consumer",
        }
    }

    /// Whether all members speak the classic protocol all the time.
    pub fn is_classic(self) -> bool {
        matches!(self, Kind::Eager | Kind::Cooperative | Kind::Upgrade)
    }

    /// The assignors of members that start now, by preference, one list for each step of an upgrade.
    fn strategies(self, eager: &'static str, cooperative: bool, back: bool) -> Vec<Vec<&'static str>> {
        match self {
            Kind::Eager => vec![vec![eager]],
            Kind::Cooperative => vec![vec!["cooperative-sticky"]],
            Kind::Upgrade => vec![
                vec![eager],
                vec!["cooperative-sticky", eager],
                vec!["cooperative-sticky"],
            ],
            Kind::Consumer => vec![vec![CONSUMER]],
            Kind::Migration => {
                let classic = if cooperative { "cooperative-sticky" } else { eager };
                let mut steps = vec![vec![classic], vec![CONSUMER]];
                steps.extend(back.then(|| vec![classic]));
                steps
            }
        }
    }
}

/// What one schedule is about.
#[derive(Debug, Clone)]
pub struct Plan {
    pub kind: Kind,
    pub strategies: Vec<Vec<&'static str>>,
    pub session_ms: u64,
    pub heartbeat_ms: u64,
    pub max_poll_ms: u64,
    pub request_timeout_ms: u64,
    pub auto_commit_ms: u64,
    pub initial_delay_ms: i32,
    /// The least time between two assignments of a consumer group.
    pub assignment_interval_ms: i64,
    pub join_version: i16,
    /// Partitions of each topic.
    pub topics: Vec<u32>,
    /// Records of each partition at first.
    pub records: i64,
    pub members: usize,
    /// Some members have a `group.instance.id`.
    pub statics: bool,
    /// The application is told of assignments in its polls, and they are taken over then.
    pub told: bool,
    /// How long a record of the coordinator takes to be committed at most; 0 for at once.
    pub replication_ms: u64,
    /// Whether the coordinator may come to requests of dead connections.
    pub strays: bool,
    /// Answers of one connection keep the order of its requests.
    pub ordered_answers: bool,
    /// The application also commits by itself what it has processed of a batch so far.
    pub commits_by_name: bool,
    pub faults: u32,
    pub fault_every_ms: u64,
}

impl Plan {
    /// The plan of a schedule: what `random` draws, and from the seed itself what came later, so that the stories of the
    /// other seeds stay what they were.
    pub fn of(seed: u64, random: &mut StdRng) -> Plan {
        Plan {
            commits_by_name: seed % 4 == 2,
            ..Plan::draw(random)
        }
    }

    fn draw(random: &mut StdRng) -> Plan {
        let sticky = assignor::by_name("cooperative-sticky").is_some();
        let kinds: Vec<Kind> = KINDS
            .into_iter()
            .filter(|kind| sticky || !matches!(kind, Kind::Cooperative | Kind::Upgrade))
            .collect();
        let kind = kinds[random.random_range(0..kinds.len())];
        let (cooperative, back) = (random.random_bool(0.5) && sticky, random.random_bool(0.3));
        let eager: Vec<&str> = ["range", "roundrobin", "sticky"]
            .into_iter()
            .filter(|name| assignor::by_name(name).is_some())
            .collect();
        let eager = eager[random.random_range(0..eager.len())];
        let topics = if random.random_bool(0.6) { 1 } else { 2 };
        let statics = random.random_bool(0.4);
        let session_ms = [6_000, 10_000][random.random_range(0..2)];
        Plan {
            kind,
            strategies: kind.strategies(eager, cooperative, back),
            session_ms,
            heartbeat_ms: session_ms / [3, 5][random.random_range(0..2)],
            max_poll_ms: [8_000, 15_000, 30_000][random.random_range(0..3)],
            request_timeout_ms: [1_500, 4_000][random.random_range(0..2)],
            auto_commit_ms: [200, 1_000, 5_000][random.random_range(0..3)],
            initial_delay_ms: [0, 0, 500, 3_000][random.random_range(0..4)],
            assignment_interval_ms: [0, 1_000][random.random_range(0..2)],
            // Before version 9 nobody watches the topics once a static leader has started anew (KIP-814).
            join_version: if statics {
                9
            } else {
                [9, 9, 9, 8, 5][random.random_range(0..5)]
            },
            topics: (0..topics).map(|_| random.random_range(1..5)).collect(),
            records: random.random_range(5..60),
            members: random.random_range(1..5),
            statics,
            told: random.random_bool(0.5),
            replication_ms: [0, 0, 20, 400][random.random_range(0..4)],
            strays: random.random_bool(0.4),
            ordered_answers: random.random_bool(0.5),
            commits_by_name: false,
            faults: random.random_range(2..16),
            fault_every_ms: [300, 2_000, 6_000][random.random_range(0..3)],
        }
    }
}
