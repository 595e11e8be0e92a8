//! Honest clients on a network that loses answers and repeats requests, while everything else changes.
//!
//! Promised: what two clients believe to own never overlaps; nobody is fenced for a loss; and when it has become quiet,
//! everybody has its target and every partition has an owner.

use super::*;
use proptest::prelude::*;

/// A client as it sees itself.
#[derive(Debug, Clone, Default)]
struct Consumer {
    id: Arc<str>,
    epoch: i32,
    topics: BTreeSet<Arc<str>>,
    owned: Partitions,
    /// What it was last told; it follows when it comes to it.
    told: Option<Partitions>,
    /// What the coordinator is known to have heard of `owned`.
    reported: Option<Partitions>,
    /// Its last request went unanswered; if set, it sends these very bytes again.
    unanswered: Option<HeartbeatRequest>,
    /// Its next request says everything.
    full: bool,
}

#[derive(Debug, Clone)]
enum Step {
    Join {
        who: usize,
        topics: u8,
    },
    Leave {
        who: usize,
    },
    /// The answer of the heartbeat is lost or not; after a loss the same bytes go out, or a full request.
    Heartbeat {
        who: usize,
        lost: bool,
        same_bytes: bool,
    },
    /// The client does what it was told.
    Follow {
        who: usize,
    },
    Subscribe {
        who: usize,
        topics: u8,
    },
    Grow {
        topic: usize,
    },
    Wait {
        milliseconds: u64,
    },
}

const TOPICS: [&str; 3] = ["maps", "roads", "tracks"];

fn any_step() -> impl Strategy<Value = Step> {
    let who = 0_usize..4;
    prop_oneof![
        3 => (who.clone(), 1_u8..8).prop_map(|(who, topics)| Step::Join { who, topics }),
        1 => who.clone().prop_map(|who| Step::Leave { who }),
        12 => (who.clone(), any::<bool>(), any::<bool>())
            .prop_map(|(who, lost, same_bytes)| Step::Heartbeat { who, lost, same_bytes }),
        6 => who.clone().prop_map(|who| Step::Follow { who }),
        1 => (who, 1_u8..8).prop_map(|(who, topics)| Step::Subscribe { who, topics }),
        1 => (0_usize..3).prop_map(|topic| Step::Grow { topic }),
        2 => (0_u64..700).prop_map(|milliseconds| Step::Wait { milliseconds }),
    ]
}

fn names(bits: u8) -> BTreeSet<Arc<str>> {
    let chosen = TOPICS.iter().enumerate().filter(|(bit, _)| bits >> bit & 1 == 1);
    chosen.map(|(_, name)| Arc::from(*name)).collect()
}

struct Churn {
    world: World,
    consumers: BTreeMap<usize, Consumer>,
    partitions: [usize; 3],
    joined: usize,
}

impl Churn {
    fn new() -> Churn {
        let mut world = World::new(&[("maps", 3), ("roads", 2), ("tracks", 1)]);
        world.config.assignment_interval_ms = 300;
        // Nobody is taken out for being slow: that is another test's.
        world.config.session_timeout_ms = i32::MAX;
        Churn {
            world,
            consumers: BTreeMap::new(),
            partitions: [3, 2, 1],
            joined: 0,
        }
    }

    fn take(&mut self, step: &Step) {
        match step {
            Step::Join { who, topics } if !self.consumers.contains_key(who) => {
                self.joined += 1;
                let consumer = Consumer {
                    id: format!("c{who}-{}", self.joined).into(),
                    topics: names(*topics),
                    full: true,
                    ..Consumer::default()
                };
                self.consumers.insert(*who, consumer);
                self.heartbeat(*who, false, false);
            }
            Step::Leave { who } => {
                if let Some(consumer) = self.consumers.remove(who) {
                    self.world.leave(&stay(&consumer.id, LEAVE_EPOCH)).unwrap();
                }
            }
            Step::Heartbeat { who, lost, same_bytes } => self.heartbeat(*who, *lost, *same_bytes),
            Step::Follow { who } => self.follow(*who),
            Step::Subscribe { who, topics } => {
                if let Some(consumer) = self.consumers.get_mut(who) {
                    consumer.topics = names(*topics);
                    consumer.full = true;
                }
            }
            Step::Grow { topic } => {
                self.partitions[*topic] += 1;
                self.world.topics.set(TOPICS[*topic], self.partitions[*topic]);
            }
            Step::Wait { milliseconds } => self.world.now += milliseconds,
            Step::Join { .. } => {}
        }
        self.check();
    }

    fn request(consumer: &Consumer) -> HeartbeatRequest {
        if consumer.full {
            return HeartbeatRequest {
                member_epoch: consumer.epoch,
                topics: Some(consumer.topics.clone()),
                owned: Some(consumer.owned.clone()),
                rebalance_timeout_ms: i32::MAX,
                ..stay(&consumer.id, consumer.epoch)
            };
        }
        let news = consumer.reported.as_ref() != Some(&consumer.owned);
        HeartbeatRequest {
            owned: news.then(|| consumer.owned.clone()),
            ..stay(&consumer.id, consumer.epoch)
        }
    }

    fn heartbeat(&mut self, who: usize, lost: bool, same_bytes: bool) {
        let Some(consumer) = self.consumers.get_mut(&who) else {
            return;
        };
        let request = consumer.unanswered.take().unwrap_or_else(|| Churn::request(consumer));
        if request.owned.is_some() {
            // It has just said what it owns. To take more now because of an older answer would make that a lie.
            consumer.told = None;
        }
        // That it is answered at all says that nobody is fenced.
        let reply = self.world.heartbeat(&request);
        if lost {
            if same_bytes {
                consumer.unanswered = Some(request);
            } else {
                consumer.full = true;
            }
            return;
        }
        consumer.epoch = reply.member_epoch;
        consumer.reported = request.owned.or(consumer.reported.take());
        if request.topics.as_ref() == Some(&consumer.topics) {
            consumer.full = false;
        }
        if let Some(assignment) = reply.assignment {
            consumer.told = Some(assignment);
        }
    }

    /// Gives up first and takes then, as far as it was told.
    fn follow(&mut self, who: usize) {
        if let Some(consumer) = self.consumers.get_mut(&who)
            && let Some(told) = consumer.told.take()
        {
            // A request that is still under way would tell of what it owned then.
            if consumer.unanswered.take().is_some() {
                consumer.full = true;
            }
            consumer.owned = told;
            // It has to say that it has followed, even if that makes no difference: what it was told in between may
            // have been given and taken away again before it looked.
            consumer.reported = None;
        }
    }

    fn check(&self) {
        let mut owned = BTreeSet::new();
        for consumer in self.consumers.values() {
            for (topic, partitions) in &consumer.owned {
                for partition in partitions {
                    assert!(
                        owned.insert((*topic, *partition)),
                        "two believe to own {topic}-{partition}"
                    );
                }
            }
        }
    }

    fn settle(&mut self) {
        for _ in 0..12 {
            self.world.now += 300;
            for who in 0..4 {
                self.heartbeat(who, false, false);
                self.follow(who);
                self.check();
            }
        }
        assert!(matches!(
            self.world.group.state(),
            GroupState::Stable | GroupState::Empty
        ));
        let mut owned = BTreeSet::new();
        for consumer in self.consumers.values() {
            assert_eq!(consumer.owned, self.world.group.target(&consumer.id));
            owned.extend(
                consumer
                    .owned
                    .iter()
                    .flat_map(|(topic, set)| set.iter().map(|p| (*topic, *p))),
            );
        }
        let wanted = self.world.group.subscribed_topics();
        let wanted = wanted.iter().filter_map(|name| self.world.topics.by_name(name));
        let all: usize = wanted.map(|topic| topic.partitions).sum();
        assert_eq!(owned.len(), all, "every partition has an owner");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_partition_has_two_owners_and_all_have_one_in_the_end(steps in prop::collection::vec(any_step(), 1..120)) {
        let mut churn = Churn::new();
        for step in &steps {
            churn.take(step);
        }
        churn.settle();
    }
}
