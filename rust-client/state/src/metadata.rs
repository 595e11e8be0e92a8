//! What the client knows about the cluster: nodes, topics, leaders.
//!
//! In: metadata answers, in whatever order they arrive. Out: an immutable [`ClusterSnapshot`], and from
//! [`RefreshTimer`] the moment to ask again. It sends nothing and resolves no names.
//!
//! An answer may come from a broker that has not heard the latest yet. So a leader with an older epoch never replaces
//! one with a newer epoch, as long as it is the same topic (same topic id): going back would send produce and fetch
//! requests to a deposed leader and back again. A topic that was deleted and created again has a new id and starts over.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use ottla_protocol::messages::MetadataResponse;
use ottla_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};
use ottla_protocol::{ErrorCode, Uuid};

use crate::Time;
use crate::backoff::Backoff;

/// A broker as metadata names it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Node {
    /// The broker's id.
    pub id: i32,
    /// The host name or address that the broker advertises.
    pub host: Arc<str>,
    /// The port that the broker advertises.
    pub port: u16,
    /// The rack, if the broker has one.
    pub rack: Option<Arc<str>>,
}

impl Node {
    /// A node as a broker's answer tells of it. `None` if nobody can be reached there: a negative id, an empty host, a
    /// port that is none.
    pub fn told(id: i32, host: &str, port: i32, rack: Option<&str>) -> Option<Node> {
        let port = u16::try_from(port).ok().filter(|port| *port > 0)?;
        (id >= 0 && !host.is_empty()).then(|| Node {
            id,
            host: host.into(),
            port,
            rack: rack.map(Arc::from),
        })
    }
}

impl std::fmt::Display for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // An IPv6 address needs brackets, or its last group reads as the port.
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// Who leads a partition, and since which election.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Leader {
    /// The leader's broker id.
    pub node_id: i32,
    /// The leader epoch; -1 when the broker did not say (versions before Kafka 2.1).
    pub epoch: i32,
}

/// What is known about one partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionInfo {
    /// The partition's index.
    pub partition: i32,
    /// The leader's broker id; `None` while there is none.
    pub leader: Option<i32>,
    /// The leader epoch; -1 when the broker did not say.
    pub leader_epoch: i32,
    /// The broker ids of all replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The broker ids of the in-sync replicas.
    pub in_sync: Vec<i32>,
    /// The broker ids of the replicas that are offline.
    pub offline: Vec<i32>,
}

/// What is known about one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicInfo {
    /// The topic's name.
    pub name: Arc<str>,
    /// The topic's id; [`Uuid::ZERO`] when the broker did not say (versions before Kafka 2.8).
    pub id: Uuid,
    /// Whether the topic is one of Kafka's own, such as `__consumer_offsets`.
    pub internal: bool,
    /// The partitions in ascending order of their index, each at most once.
    pub partitions: Vec<PartitionInfo>,
}

impl TopicInfo {
    /// The partition with this index, if it is known.
    pub fn partition(&self, index: i32) -> Option<&PartitionInfo> {
        let guess = usize::try_from(index).ok().and_then(|at| self.partitions.get(at));
        match guess {
            Some(found) if found.partition == index => Some(found),
            // A broker that leaves partitions out moves the others; the list stays sorted.
            _ => self
                .partitions
                .binary_search_by_key(&index, |p| p.partition)
                .ok()
                .map(|at| &self.partitions[at]),
        }
    }

    /// The number of partitions that a partitioner may choose from.
    ///
    /// One more than the highest known index, so that leaving one out of an answer does not move keys to other
    /// partitions.
    pub fn partition_count(&self) -> usize {
        // An absurd index must not become an absurd count: indexes are dense, or the answer was wrong.
        let highest = self.partitions.last().map_or(-1, |last| last.partition);
        usize::try_from(highest + 1).unwrap_or(0)
    }
}

/// One picture of the cluster. Immutable: an answer gives a new one.
#[derive(Debug, Clone, Default)]
pub struct ClusterSnapshot {
    /// Grows by one with every answer taken in.
    pub generation: u64,
    /// The cluster's id, when a broker has told it.
    pub cluster_id: Option<Arc<str>>,
    /// The broker that answers for the controller.
    pub controller: Option<i32>,
    nodes: BTreeMap<i32, Node>,
    topics: HashMap<Arc<str>, Arc<TopicInfo>>,
    names: HashMap<Uuid, Arc<str>>,
    errors: HashMap<Arc<str>, ErrorCode>,
}

/// Which topics a metadata answer speaks about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// All topics of the cluster: what is missing in the answer does not exist.
    All,
    /// Some topics: what is missing in the answer was not asked for and stays as it was.
    Some,
}

/// The largest partition index taken from an answer: far above what a broker can hold, and it bounds what an index
/// may make a partitioner or a queue allocate.
const MAX_PARTITION_INDEX: i32 = 1_000_000;

/// The most nodes taken from one answer, for the same reason.
const MAX_NODES: usize = 10_000;

impl ClusterSnapshot {
    /// All known brokers, ordered by id.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = &Node> {
        self.nodes.values()
    }

    /// The broker with this id.
    pub fn node(&self, id: i32) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// The topic with this name.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicInfo>> {
        self.topics.get(name)
    }

    /// All known topics, in no order.
    pub fn topics(&self) -> impl ExactSizeIterator<Item = &Arc<TopicInfo>> {
        self.topics.values()
    }

    /// The name of the topic with this id.
    pub fn topic_name(&self, id: Uuid) -> Option<&Arc<str>> {
        self.names.get(&id)
    }

    /// Why the last answer about this topic was no good.
    pub fn topic_error(&self, name: &str) -> Option<ErrorCode> {
        self.errors.get(name).copied()
    }

    /// Why the brokers do not show this topic, if asking again cannot mend it.
    pub fn topic_refusal(&self, name: &str) -> Option<ErrorCode> {
        let stays = |code: &ErrorCode| {
            matches!(
                code,
                ErrorCode::InvalidTopicException | ErrorCode::TopicAuthorizationFailed
            )
        };
        self.topic_error(name).filter(stays)
    }

    /// The topics whose last answer was no good, in no order.
    pub fn topics_in_error(&self) -> impl ExactSizeIterator<Item = &Arc<str>> {
        self.errors.keys()
    }

    /// The leader of a partition, if there is one and its address is known.
    pub fn leader_of(&self, topic: &str, partition: i32) -> Option<Leader> {
        let info = self.topics.get(topic)?.partition(partition)?;
        let node_id = info.leader?;
        self.nodes.contains_key(&node_id).then_some(Leader {
            node_id,
            epoch: info.leader_epoch,
        })
    }

    /// The picture after `response`: nodes replaced, topics merged by the rule of leader epochs.
    ///
    /// What an answer gets wrong is left out rather than believed: nodes with an empty host or an impossible port,
    /// partitions with a negative or absurd index, second mentions of the same thing.
    #[must_use]
    pub fn merged(&self, response: &MetadataResponse<'_>, scope: Scope) -> ClusterSnapshot {
        let mut next = ClusterSnapshot {
            generation: self.generation + 1,
            cluster_id: response.cluster_id.map(Arc::from).or_else(|| self.cluster_id.clone()),
            controller: Some(response.controller_id).filter(|id| *id >= 0),
            nodes: nodes_of(response),
            topics: HashMap::new(),
            names: HashMap::new(),
            errors: HashMap::new(),
        };
        if scope == Scope::Some {
            next.topics.clone_from(&self.topics);
            next.errors.clone_from(&self.errors);
        }
        let mut seen = BTreeSet::new();
        for topic in &response.topics {
            let name = topic
                .name
                .or_else(|| self.topic_name(topic.topic_id).map(|known| &**known));
            if let Some(name) = name.filter(|name| !name.is_empty())
                && seen.insert(name)
            {
                next.absorb(name, topic, self.topics.get(name));
            }
        }
        let named = next.topics.values().filter(|topic| topic.id != Uuid::ZERO);
        next.names = named.map(|topic| (topic.id, topic.name.clone())).collect();
        next
    }

    /// The same picture without the topics that `keep` refuses.
    #[must_use]
    pub fn retained(&self, keep: impl Fn(&str) -> bool) -> ClusterSnapshot {
        let mut next = self.clone();
        next.topics.retain(|name, _| keep(name));
        next.errors.retain(|name, _| keep(name));
        next.names.retain(|_, name| keep(name));
        next
    }

    /// The same picture after a fetch or produce answer named a newer leader (KIP-951).
    ///
    /// `None` when the answer is not newer than what is known. `address` may bring the address of a node that is not
    /// known yet.
    #[must_use]
    pub fn with_leader(
        &self,
        topic: &str,
        partition: i32,
        leader: Leader,
        address: Option<Node>,
    ) -> Option<ClusterSnapshot> {
        let info = self.topics.get(topic)?;
        let known = info.partition(partition)?;
        if leader.epoch <= known.leader_epoch || leader.node_id < 0 {
            return None;
        }
        let mut next = self.clone();
        if let Some(node) = address.filter(|node| !next.nodes.contains_key(&node.id)) {
            next.nodes.insert(node.id, node);
        }
        let mut info = TopicInfo::clone(info);
        let at = info.partitions.binary_search_by_key(&partition, |p| p.partition).ok()?;
        let entry = info.partitions.get_mut(at)?;
        entry.leader = Some(leader.node_id);
        entry.leader_epoch = leader.epoch;
        next.topics.insert(info.name.clone(), Arc::new(info));
        next.generation += 1;
        Some(next)
    }

    fn absorb(&mut self, name: &str, topic: &MetadataResponseTopic<'_>, known: Option<&Arc<TopicInfo>>) {
        let name: Arc<str> = known.map_or_else(|| Arc::from(name), |known| known.name.clone());
        let error = ErrorCode::from_code(topic.error_code).unwrap_or(ErrorCode::UnknownServerError);
        if error == ErrorCode::None {
            self.errors.remove(&name);
        } else {
            self.errors.insert(name.clone(), error);
            match error {
                // Only these say that the topic is not there. Everything else may pass, and what was known still
                // helps more than nothing.
                ErrorCode::UnknownTopicOrPartition
                | ErrorCode::UnknownTopicId
                | ErrorCode::InvalidTopicException
                | ErrorCode::TopicAuthorizationFailed => {
                    self.topics.remove(&name);
                    return;
                }
                _ if topic.partitions.is_empty() => {
                    if let Some(known) = known {
                        self.topics.insert(name, known.clone());
                    }
                    return;
                }
                _ => {}
            }
        }
        let info = TopicInfo {
            id: topic.topic_id,
            internal: topic.is_internal,
            partitions: partitions_of(topic, known.map(|known| &**known)),
            name: name.clone(),
        };
        self.topics.insert(name, Arc::new(info));
    }
}

fn nodes_of(response: &MetadataResponse<'_>) -> BTreeMap<i32, Node> {
    let mut nodes = BTreeMap::new();
    for broker in response.brokers.iter().take(MAX_NODES) {
        if let Some(node) = Node::told(broker.node_id, broker.host, broker.port, broker.rack) {
            nodes.entry(node.id).or_insert(node);
        }
    }
    nodes
}

fn partitions_of(topic: &MetadataResponseTopic<'_>, known: Option<&TopicInfo>) -> Vec<PartitionInfo> {
    // Without an id on either side nothing says that the topic is a new one, so the epochs decide.
    let same_topic =
        known.filter(|known| known.id == topic.topic_id || known.id == Uuid::ZERO || topic.topic_id == Uuid::ZERO);
    let mut partitions: Vec<PartitionInfo> = topic
        .partitions
        .iter()
        .filter(|partition| (0..=MAX_PARTITION_INDEX).contains(&partition.partition_index))
        .map(|partition| newer(partition, same_topic))
        .collect();
    partitions.sort_by_key(|partition| partition.partition);
    partitions.dedup_by_key(|partition| partition.partition);
    partitions
}

/// The answer's view of a partition, or the known one if that is from a later election.
fn newer(answer: &MetadataResponsePartition, known: Option<&TopicInfo>) -> PartitionInfo {
    let known = known.and_then(|topic| topic.partition(answer.partition_index));
    if let Some(known) = known
        && answer.leader_epoch >= 0
        && known.leader_epoch > answer.leader_epoch
    {
        return known.clone();
    }
    PartitionInfo {
        partition: answer.partition_index,
        leader: Some(answer.leader_id).filter(|id| *id >= 0),
        leader_epoch: answer.leader_epoch.max(-1),
        replicas: answer.replica_nodes.clone(),
        in_sync: answer.isr_nodes.clone(),
        offline: answer.offline_replicas.clone(),
    }
}

/// When to ask for metadata again.
///
/// By age (`metadata.max.age.ms`) and on demand, but never sooner after the last attempt than the backoff allows: a
/// cluster in trouble is not helped by a thousand questions.
#[derive(Debug)]
pub struct RefreshTimer {
    max_age_ms: u64,
    refreshed: Option<Time>,
    not_before: Time,
    wanted: bool,
    asking: bool,
    failures: u32,
    backoff: Backoff,
}

impl RefreshTimer {
    /// A timer that wants its first refresh at once.
    pub fn new(max_age_ms: u64, backoff: Backoff) -> Self {
        RefreshTimer {
            max_age_ms,
            refreshed: None,
            not_before: Time::ZERO,
            wanted: true,
            asking: false,
            failures: 0,
            backoff,
        }
    }

    /// Somebody needs newer metadata than there is.
    pub fn handle_wanted(&mut self) {
        self.wanted = true;
    }

    /// Somebody needs a topic that was never asked for: nothing is known to be wrong, so there is no reason to wait.
    pub fn handle_news(&mut self) {
        self.wanted = true;
        if self.failures == 0 {
            self.not_before = Time::ZERO;
        }
    }

    /// An answer was taken in.
    ///
    /// `satisfied` says whether it gave what was wanted; if not (a leader is still missing), the next question waits
    /// longer each time.
    pub fn handle_refreshed(&mut self, satisfied: bool, now: Time) {
        self.asking = false;
        self.refreshed = Some(now);
        self.failures = if satisfied { 0 } else { self.failures.saturating_add(1) };
        // Even a good answer is not followed by the next question at once: the first step of the backoff is the
        // least distance between two.
        self.not_before = now.plus_ms(self.backoff.next_ms(self.failures.max(1)));
        self.wanted |= !satisfied;
    }

    /// No answer came.
    pub fn handle_failed(&mut self, now: Time) {
        self.asking = false;
        self.wanted = true;
        self.failures = self.failures.saturating_add(1);
        self.not_before = now.plus_ms(self.backoff.next_ms(self.failures));
    }

    /// How often in a row the question has failed or was not satisfied.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether to ask now. Says yes once; the next yes comes after `handle_refreshed` or `handle_failed`.
    pub fn next_refresh(&mut self, now: Time) -> bool {
        let due = !self.asking && self.wake_at().is_some_and(|at| at <= now);
        if due {
            self.asking = true;
            self.wanted = false;
        }
        due
    }

    /// When `next_refresh` will say yes; `None` while a question is open.
    pub fn wake_at(&self) -> Option<Time> {
        if self.asking {
            return None;
        }
        let by_age = self.refreshed.map_or(Time::ZERO, |at| at.plus_ms(self.max_age_ms));
        let due = if self.wanted { Time::ZERO } else { by_age };
        Some(due.max(self.not_before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ottla_protocol::messages::metadata_response::MetadataResponseBroker;
    use proptest::prelude::*;

    const ID: Uuid = Uuid([7; 16]);
    const OTHER_ID: Uuid = Uuid([8; 16]);

    fn broker(node_id: i32) -> MetadataResponseBroker<'static> {
        MetadataResponseBroker {
            node_id,
            host: "kafka",
            port: 9092,
            ..Default::default()
        }
    }

    fn partition(index: i32, leader: i32, epoch: i32) -> MetadataResponsePartition {
        MetadataResponsePartition {
            partition_index: index,
            leader_id: leader,
            leader_epoch: epoch,
            ..Default::default()
        }
    }

    fn topic(
        name: &'static str,
        id: Uuid,
        partitions: Vec<MetadataResponsePartition>,
    ) -> MetadataResponseTopic<'static> {
        MetadataResponseTopic {
            name: Some(name),
            topic_id: id,
            partitions,
            ..Default::default()
        }
    }

    fn answer(topics: Vec<MetadataResponseTopic<'static>>) -> MetadataResponse<'static> {
        MetadataResponse {
            brokers: vec![broker(1), broker(2)],
            controller_id: 1,
            topics,
            ..Default::default()
        }
    }

    fn leader(snapshot: &ClusterSnapshot) -> Option<(i32, i32)> {
        snapshot
            .leader_of("orders", 0)
            .map(|leader| (leader.node_id, leader.epoch))
    }

    fn with(id: Uuid, leader: i32, epoch: i32) -> MetadataResponse<'static> {
        answer(vec![topic("orders", id, vec![partition(0, leader, epoch)])])
    }

    #[test]
    fn an_older_leader_epoch_never_replaces_a_newer_one() {
        let snapshot = ClusterSnapshot::default().merged(&with(ID, 1, 5), Scope::Some);
        let stale = snapshot.merged(&with(ID, 2, 4), Scope::Some);
        assert_eq!(leader(&stale), Some((1, 5)));
        let newer = stale.merged(&with(ID, 2, 6), Scope::All);
        assert_eq!(leader(&newer), Some((2, 6)));
    }

    #[test]
    fn a_topic_created_anew_starts_over_whatever_its_epochs() {
        let snapshot = ClusterSnapshot::default().merged(&with(ID, 1, 5), Scope::Some);
        let anew = snapshot.merged(&with(OTHER_ID, 2, 0), Scope::Some);
        assert_eq!(leader(&anew), Some((2, 0)));
        assert_eq!(anew.topic_name(ID), None);
        assert_eq!(anew.topic_name(OTHER_ID).map(|name| &**name), Some("orders"));
    }

    #[test]
    fn a_broker_that_tells_no_epoch_is_believed() {
        let snapshot = ClusterSnapshot::default().merged(&with(Uuid::ZERO, 1, 5), Scope::Some);
        let untold = snapshot.merged(&with(Uuid::ZERO, 2, -1), Scope::Some);
        assert_eq!(leader(&untold), Some((2, -1)));
    }

    #[test]
    fn topics_not_asked_for_stay_and_topics_gone_from_a_full_answer_go() {
        let snapshot = ClusterSnapshot::default().merged(&with(ID, 1, 5), Scope::Some);
        assert!(snapshot.merged(&answer(vec![]), Scope::Some).topic("orders").is_some());
        assert!(snapshot.merged(&answer(vec![]), Scope::All).topic("orders").is_none());
    }

    #[test]
    fn a_topic_said_to_be_unknown_is_dropped_and_one_in_trouble_is_kept() {
        let snapshot = ClusterSnapshot::default().merged(&with(ID, 1, 5), Scope::Some);
        let said = |code: ErrorCode| {
            let mut topic = topic("orders", Uuid::ZERO, vec![]);
            topic.error_code = code.code();
            snapshot.merged(&answer(vec![topic]), Scope::Some)
        };
        let gone = said(ErrorCode::UnknownTopicOrPartition);
        assert!(gone.topic("orders").is_none());
        assert_eq!(gone.topic_error("orders"), Some(ErrorCode::UnknownTopicOrPartition));
        assert_eq!(leader(&said(ErrorCode::LeaderNotAvailable)), Some((1, 5)));
    }

    #[test]
    fn a_leader_without_an_address_is_no_leader() {
        let snapshot = ClusterSnapshot::default().merged(&with(ID, 9, 0), Scope::Some);
        assert_eq!(leader(&snapshot), None);
        let leaderless = ClusterSnapshot::default().merged(&with(ID, -1, 3), Scope::Some);
        assert_eq!(leader(&leaderless), None);
    }

    #[test]
    fn what_an_answer_gets_wrong_is_left_out() {
        let mut response = answer(vec![
            topic(
                "orders",
                ID,
                vec![
                    partition(3, 1, 0),
                    partition(-1, 1, 0),
                    partition(i32::MAX, 1, 0),
                    partition(0, 1, 0),
                ],
            ),
            topic("orders", OTHER_ID, vec![]),
            topic("", ID, vec![partition(0, 1, 0)]),
            MetadataResponseTopic {
                name: None,
                topic_id: OTHER_ID,
                ..Default::default()
            },
        ]);
        for (node_id, host, port) in [
            (3, "", 9092),
            (4, "a", 0),
            (5, "a", 70_000),
            (-6, "a", 1),
            (1, "second", 1),
        ] {
            response.brokers.push(MetadataResponseBroker {
                node_id,
                host,
                port,
                ..Default::default()
            });
        }
        let snapshot = ClusterSnapshot::default().merged(&response, Scope::All);
        assert_eq!(snapshot.nodes().map(|node| node.id).collect::<Vec<_>>(), [1, 2]);
        assert_eq!(snapshot.node(1).map(|node| &*node.host), Some("kafka"));
        let orders = snapshot.topic("orders").unwrap();
        assert_eq!(
            orders.partitions.iter().map(|p| p.partition).collect::<Vec<_>>(),
            [0, 3]
        );
        assert_eq!(orders.partition_count(), 4);
        assert!(orders.partition(3).is_some() && orders.partition(1).is_none());
        assert_eq!(snapshot.topics().len(), 1);
    }

    #[test]
    fn a_million_brokers_are_not_believed() {
        let mut response = answer(vec![]);
        response.brokers = (0..1_000_000).map(broker).collect();
        let snapshot = ClusterSnapshot::default().merged(&response, Scope::All);
        assert_eq!(snapshot.nodes().len(), MAX_NODES);
    }

    #[test]
    fn a_newer_leader_named_by_another_answer_is_taken_in_with_its_address() {
        let snapshot = ClusterSnapshot::default().merged(&with(ID, 1, 5), Scope::Some);
        let node = Node {
            id: 9,
            host: "kafka-9".into(),
            port: 9092,
            rack: None,
        };
        let newer = snapshot
            .with_leader("orders", 0, Leader { node_id: 9, epoch: 6 }, Some(node))
            .unwrap();
        assert_eq!(leader(&newer), Some((9, 6)));
        assert!(
            newer
                .with_leader("orders", 0, Leader { node_id: 1, epoch: 6 }, None)
                .is_none()
        );
    }

    proptest! {
        #[test]
        fn the_leader_epoch_of_one_topic_never_falls(steps in proptest::collection::vec((0i32..50, 1i32..3), 1..40)) {
            let mut snapshot = ClusterSnapshot::default();
            let mut highest = -1;
            for (epoch, node) in steps {
                snapshot = snapshot.merged(&with(ID, node, epoch), Scope::Some);
                highest = highest.max(epoch);
                prop_assert_eq!(leader(&snapshot).map(|found| found.1), Some(highest));
            }
        }
    }

    fn timer() -> RefreshTimer {
        RefreshTimer::new(300_000, Backoff::new(100, 1000, 1))
    }

    #[test]
    fn the_first_question_is_due_at_once_and_only_once() {
        let mut timer = timer();
        assert!(timer.next_refresh(Time::ZERO));
        assert!(!timer.next_refresh(Time(1_000_000)));
        assert_eq!(timer.wake_at(), None);
    }

    #[test]
    fn the_picture_is_renewed_by_age_and_on_demand_but_not_in_a_hurry() {
        let mut timer = timer();
        timer.next_refresh(Time::ZERO);
        timer.handle_refreshed(true, Time(10));
        assert_eq!(timer.wake_at(), Some(Time(300_010)));
        timer.handle_wanted();
        let due = timer.wake_at().unwrap();
        assert!(due > Time(10) && due <= Time(10 + 120), "{due}");
        assert!(timer.next_refresh(due));
    }

    #[test]
    fn a_new_topic_need_not_wait_unless_the_cluster_is_in_trouble() {
        let mut timer = timer();
        timer.next_refresh(Time::ZERO);
        timer.handle_refreshed(true, Time(10));
        timer.handle_news();
        assert!(timer.next_refresh(Time(10)));
        timer.handle_failed(Time(20));
        timer.handle_news();
        assert!(!timer.next_refresh(Time(20)));
    }

    #[test]
    fn failures_are_followed_by_growing_waits() {
        let mut timer = timer();
        let (mut now, mut waits) = (Time::ZERO, Vec::new());
        for _ in 0..6 {
            assert!(timer.next_refresh(now));
            timer.handle_failed(now);
            let due = timer.wake_at().unwrap();
            waits.push(due.ms_since(now));
            now = due;
        }
        assert!(waits[0] <= 120 && waits[3] > 500 && waits[5] == 1000, "{waits:?}");
    }

    #[test]
    fn a_wish_during_a_question_is_not_forgotten() {
        let mut timer = timer();
        timer.next_refresh(Time::ZERO);
        timer.handle_wanted();
        timer.handle_refreshed(true, Time(10));
        assert!(timer.wake_at().unwrap() < Time(1000));
    }
}
