//! A classic group: members join, one of them assigns, all are told.
//!
//! In: JoinGroup, SyncGroup, Heartbeat and LeaveGroup of members, and alarms. Out: answers, many of which wait for other
//! members, and a record each time that a generation is complete.
//!
//! # States
//! ```text
//! Empty --join--> PreparingRebalance --all have joined, or time is up--> CompletingRebalance --leader syncs--> Stable
//!   ^                 ^    |                                                   |                                 |
//!   |                 |    '--nobody is left--> Empty                          |                                 |
//!   '-----------------+--------- somebody joins, leaves or falls silent <------+---------------------------------'
//! ```
//!
//! The behaviour is that of Apache Kafka 4.4. Eight things differ, all for the member's good:
//! - JoinGroup that is repeated while the first still waits gets the answer; the first is told REBALANCE_IN_PROGRESS,
//!   where Kafka leaves it without one.
//! - A member of protocol type `consumer` to whom the leader gave nothing gets an assignment without partitions, where
//!   Kafka gives it no bytes at all, which clients cannot read.
//! - A static member that starts anew in a stable group makes it rebalance if it subscribes to other topics than before, or
//!   was about to give up partitions (KIP-429) and to join again for those who shall get them. Kafka looks at the chosen
//!   protocol's name alone, and such a partition stays with nobody until something else makes the group rebalance.
//! - The first generation after the log was loaded has a number of its own. A generation is written when its leader has
//!   assigned, so a coordinator that died before may have counted some that nobody remembers but their members, who must
//!   not be taken for members of a later one. Kafka counts on from what was written.
//! - A group that was one of the consumer protocol until its last such member went is written without a leader until the
//!   rebalance that follows has come to its end, and whoever loads it begins that rebalance again. In Kafka a coordinator
//!   that dies in between leaves what the others had not got with nobody.
//! - A static member keeps its place when a generation begins without it. If it comes back and says that it still owns
//!   partitions, it is told UNKNOWN_MEMBER_ID, which makes most clients let go of them and join again under a new id. Kafka takes
//!   it in, and until its SyncGroup is answered two members have a partition.
//! - A member whose SyncGroup was not answered yet may not commit, as nobody may before the leader has assigned.
//! - A group that has only members without an answer to MEMBER_ID_REQUIRED yet is kept, and not written.
//!
//! Refused: a member whose metadata are larger than [`METADATA_BYTES_MAX`], and members beyond
//! [`PENDING_MEMBERS_MAX`] who have an id and do not come back with it.

use bytes::Bytes;
use ottla_protocol::ErrorCode;
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use super::record::{ClassicValue, GroupRecord};
use super::shard::Turn;
use super::timers::{TimerKey, TimerKind};
use super::{CONSUMER_PROTOCOL_TYPE, GroupReply, JoinReply, JoinedMember, Moment, SyncReply, Ticket};

mod join;
mod leave;
mod member;
mod metadata;
mod sync;
#[cfg(test)]
mod tests;

pub use member::Member;

/// What all protocols of one member may say together. A group is written as one record, and Kafka takes no larger one.
pub const METADATA_BYTES_MAX: usize = 1 << 20;
/// The most members of one group that were given an id and have not come back with it. They go after their session
/// timeout; until then a crowd that never comes back must not fill the memory.
pub const PENDING_MEMBERS_MAX: usize = 10_000;
/// What a group may be written as.
pub const RECORD_BYTES_MAX: usize = 8 << 20;

/// More generations than a group can count between two that are written. A coordinator that starts leaves out as many, and
/// some more by the clock: another one that starts before the next is written must not come upon the same number.
const LOST_GENERATIONS_MAX: i32 = 1_000;
/// How long a new member is kept that does not wait for its answer to JoinGroup any more; as in Kafka.
const NEW_MEMBER_JOIN_TIMEOUT_MS: u64 = 300_000;
/// What a group costs apart from its members.
const WEIGHT: usize = 1_024;
/// And a member who was given an id.
const PENDING_WEIGHT: usize = 512;
/// An assignment without partitions in version 0: the version, no topics, no user data.
const EMPTY_ASSIGNMENT: &[u8] = &[0, 0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff];

/// Where a group stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ClassicState {
    /// Nobody is in it.
    Empty,
    /// It waits for members to join.
    PreparingRebalance,
    /// It waits for the leader's assignment.
    CompletingRebalance,
    /// Every member knows what it has.
    Stable,
}

impl ClassicState {
    /// Kafka's name, as ListGroups and DescribeGroups tell it.
    pub fn name(self) -> &'static str {
        match self {
            ClassicState::Empty => "Empty",
            ClassicState::PreparingRebalance => "PreparingRebalance",
            ClassicState::CompletingRebalance => "CompletingRebalance",
            ClassicState::Stable => "Stable",
        }
    }
}

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicGroup {
    id: Arc<str>,
    state: ClassicState,
    /// When it came into its state, milliseconds since 1970; -1 if that is not known.
    state_timestamp: i64,
    generation: i32,
    /// How many numbers the next generation leaves out.
    unknown_generations: i32,
    /// `None`: it never had a member, only offsets.
    protocol_type: Option<Arc<str>>,
    protocol: Option<Arc<str>>,
    leader: Option<Arc<str>>,
    members: BTreeMap<Arc<str>, Member>,
    /// Member id by `group.instance.id`.
    static_members: HashMap<Arc<str>, Arc<str>>,
    /// Were given an id and have not come back with it.
    pending_join: HashSet<Arc<str>>,
    /// Have joined the generation and not synced.
    pending_sync: BTreeSet<Arc<str>>,
    /// How many members know each protocol.
    supported: HashMap<Arc<str>, usize>,
    /// How many members wait for their answer to JoinGroup.
    awaiting_join: usize,
    /// The group was empty before this rebalance, which is therefore a delayed one.
    is_initial: bool,
    /// Somebody has joined since the delay was last looked at.
    new_member_added: bool,
    /// What is left of the time that an initial rebalance may be delayed by more members.
    initial_remaining_ms: u64,
    /// What all members together subscribe to; `None` if they are no consumers or cannot be understood.
    subscribed_topics: Option<HashSet<Arc<str>>>,
    weight: usize,
}

impl ClassicGroup {
    /// A group without members.
    pub fn new(id: Arc<str>, moment: Moment) -> ClassicGroup {
        ClassicGroup {
            weight: WEIGHT + 2 * id.len(),
            id,
            state: ClassicState::Empty,
            state_timestamp: moment.wall_ms,
            generation: 0,
            unknown_generations: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            static_members: HashMap::new(),
            pending_join: HashSet::new(),
            pending_sync: BTreeSet::new(),
            supported: HashMap::new(),
            awaiting_join: 0,
            is_initial: false,
            new_member_added: false,
            initial_remaining_ms: 0,
            subscribed_topics: None,
        }
    }

    /// The group that was stored.
    pub fn of(id: Arc<str>, value: &ClassicValue) -> ClassicGroup {
        let moment = Moment {
            now: crate::Time::default(),
            wall_ms: value.state_timestamp,
            crowded: false,
        };
        let mut group = ClassicGroup::new(id, moment);
        group.generation = value.generation;
        group.protocol_type = Some(&value.protocol_type).filter(|name| !name.is_empty()).cloned();
        group.protocol = value.protocol.clone();
        for stored in &value.members {
            group.insert(Member::of(stored, value.protocol.as_ref()));
        }
        group.leader = value.leader.clone().filter(|leader| group.members.contains_key(leader));
        if !group.members.is_empty() {
            group.state = ClassicState::Stable;
        }
        group.subscribed_topics = group.compute_subscribed_topics();
        group
    }

    /// The group's id.
    pub fn id(&self) -> &Arc<str> {
        &self.id
    }

    /// Where it stands.
    pub fn state(&self) -> ClassicState {
        self.state
    }

    /// Its generation; 0 before the first.
    pub fn generation(&self) -> i32 {
        self.generation
    }

    /// What the members call what they do; `None` if there never was a member.
    pub fn protocol_type(&self) -> Option<&Arc<str>> {
        self.protocol_type.as_ref()
    }

    /// The protocol that was chosen.
    pub fn protocol(&self) -> Option<&Arc<str>> {
        self.protocol.as_ref()
    }

    /// The members, by id.
    pub fn members(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// The member that assigns.
    pub fn leader(&self) -> Option<&Arc<str>> {
        self.leader.as_ref()
    }

    /// When it came into its state, milliseconds since 1970.
    pub fn state_timestamp(&self) -> i64 {
        self.state_timestamp
    }

    /// Bytes that it takes in memory, roughly.
    pub fn weight(&self) -> usize {
        self.weight + self.pending_join.len() * PENDING_WEIGHT
    }

    /// True for a group without members, who might be on their way.
    pub fn is_empty(&self) -> bool {
        self.state == ClassicState::Empty
    }

    /// Nobody is in it, and nobody is on the way into it.
    pub fn is_abandoned(&self) -> bool {
        self.is_empty() && self.pending_join.is_empty()
    }

    /// Nothing of it was ever written, and nothing is lost when it is forgotten. Offsets are not its own.
    pub fn is_void(&self) -> bool {
        self.is_abandoned() && self.generation == 0 && self.protocol_type.is_none()
    }

    /// True if the members are consumers.
    pub fn is_of_consumers(&self) -> bool {
        self.protocol_type.as_deref() == Some(CONSUMER_PROTOCOL_TYPE)
    }

    /// Whether offsets of this topic must stay because a member reads it. Where the subscriptions of consumers cannot be
    /// understood, they might read anything.
    pub fn is_subscribed_to(&self, topic: &str) -> bool {
        match &self.subscribed_topics {
            Some(topics) => topics.contains(topic),
            None => self.is_of_consumers(),
        }
    }

    /// Whether what the members subscribe to is known.
    pub fn knows_subscriptions(&self) -> bool {
        self.subscribed_topics.is_some()
    }

    /// The record that a later load starts from.
    pub fn record(&self) -> GroupRecord {
        let protocol = self.protocol.as_deref();
        GroupRecord::Classic {
            group: Arc::clone(&self.id),
            value: Some(ClassicValue {
                protocol_type: self.protocol_type.clone().unwrap_or_else(|| "".into()),
                generation: self.generation,
                protocol: self.protocol.clone(),
                leader: self.leader.clone(),
                state_timestamp: self.state_timestamp,
                members: self.members.values().map(|member| member.value(protocol)).collect(),
            }),
        }
    }

    /// The group is known from the log alone: some generations may have been lost with a coordinator.
    pub(super) fn handle_loaded(&mut self, turn: &mut Turn<'_>) {
        if self.generation > 0 {
            let drawn = turn.moment.wall_ms.rem_euclid(100_000);
            self.unknown_generations = LOST_GENERATIONS_MAX + i32::try_from(drawn).unwrap_or(0);
        }
        self.watch_sessions(turn);
    }

    /// Listens for every member from now on: the group has just been loaded, or has become a classic one. Nobody has
    /// divided the latter for those who are left, however often it is loaded until they have joined again.
    pub(super) fn watch_sessions(&mut self, turn: &mut Turn<'_>) {
        for member in self.members.values() {
            turn.await_session(&self.id, &member.id, session_ms(member));
        }
        let undivided = self.leader.is_none() && !self.members.is_empty();
        if undivided || self.members.len() > turn.config.max_size {
            self.prepare_rebalance(turn);
        }
    }

    /// The group is about to become a consumer group: whoever waits is told to come again, and no alarm rings.
    pub(super) fn dissolve(&mut self, turn: &mut Turn<'_>) {
        let ids: Vec<Arc<str>> = self.members.keys().cloned().collect();
        for id in &ids {
            self.settle_join(id, JoinReply::error(ErrorCode::RebalanceInProgress, id.clone()), turn);
        }
        self.settle_syncs(ErrorCode::RebalanceInProgress, turn);
        turn.timers.cancel(&join_key(&self.id));
        turn.timers.cancel(&sync_key(&self.id));
        for id in ids.iter().chain(&self.pending_join) {
            turn.timers.cancel(&session_key(&self.id, id));
        }
    }

    /// An alarm.
    pub(super) fn handle_timeout(&mut self, kind: &TimerKind, turn: &mut Turn<'_>) {
        match kind {
            TimerKind::Join => self.join_is_over(turn),
            TimerKind::Sync => self.sync_is_over(turn),
            TimerKind::Session(member) => self.session_is_over(member, turn),
            // Of the consumer group that it was.
            TimerKind::Consumer => {}
        }
    }

    fn session_is_over(&mut self, id: &Arc<str>, turn: &mut Turn<'_>) {
        if self.pending_join.remove(id) {
            self.complete_join_if_all_joined(turn);
            return;
        }
        let Some(member) = self.members.get(id) else { return };
        // Whoever waits for others cannot be expected to speak, unless it has only just come.
        if !member.is_new && (member.awaiting_join.is_some() || member.awaiting_sync.is_some()) {
            return;
        }
        self.remove(id, ErrorCode::UnknownMemberId, turn);
        self.after_removal(turn);
    }

    /// The member under this id, if the request's `group.instance.id` is not fenced.
    fn check_member(&self, id: &str, instance_id: Option<&str>) -> Result<&Member, ErrorCode> {
        if let Some(instance_id) = instance_id {
            match self.static_members.get(instance_id) {
                None => return Err(ErrorCode::UnknownMemberId),
                Some(current) if **current != *id => return Err(ErrorCode::FencedInstanceId),
                Some(_) => {}
            }
        }
        self.members.get(id).ok_or(ErrorCode::UnknownMemberId)
    }

    fn enter(&mut self, state: ClassicState, moment: Moment) {
        self.state = state;
        self.state_timestamp = moment.wall_ms;
    }

    fn insert(&mut self, member: Member) {
        if let Some(instance_id) = &member.instance_id {
            self.static_members
                .insert(Arc::clone(instance_id), Arc::clone(&member.id));
        }
        if self.leader.is_none() {
            self.leader = Some(Arc::clone(&member.id));
        }
        self.count_protocols(&member.protocols, true);
        self.awaiting_join += usize::from(member.awaiting_join.is_some());
        self.weight += member.weight();
        self.pending_join.remove(&member.id);
        self.members.insert(Arc::clone(&member.id), member);
    }

    /// Takes a member out without a word to it.
    fn take(&mut self, id: &str) -> Option<Member> {
        let member = self.members.remove(id)?;
        self.count_protocols(&member.protocols, false);
        self.awaiting_join -= usize::from(member.awaiting_join.is_some());
        self.weight = self.weight.saturating_sub(member.weight());
        if let Some(instance_id) = &member.instance_id {
            self.static_members.remove(instance_id);
        }
        self.pending_sync.remove(id);
        if self.leader.as_deref() == Some(id) {
            self.leader = self.members.keys().next().cloned();
        }
        Some(member)
    }

    /// Takes a member out; whatever it waits for gets `error`.
    fn remove(&mut self, id: &str, error: ErrorCode, turn: &mut Turn<'_>) {
        let Some(member) = self.take(id) else { return };
        turn.timers.cancel(&session_key(&self.id, &member.id));
        if let Some(ticket) = member.awaiting_join {
            turn.reply(ticket, GroupReply::Join(JoinReply::error(error, "")));
        }
        if let Some(ticket) = member.awaiting_sync {
            turn.reply(ticket, GroupReply::Sync(SyncReply::error(error)));
        }
    }

    /// Somebody is gone: the others must share anew.
    fn after_removal(&mut self, turn: &mut Turn<'_>) {
        match self.state {
            ClassicState::Stable | ClassicState::CompletingRebalance => self.prepare_rebalance(turn),
            ClassicState::PreparingRebalance => self.complete_join_if_all_joined(turn),
            ClassicState::Empty => {}
        }
    }

    fn count_protocols(&mut self, protocols: &[(Arc<str>, Bytes)], add: bool) {
        for (name, _) in protocols {
            if add {
                *self.supported.entry(Arc::clone(name)).or_default() += 1;
            } else if let Some(count) = self.supported.get_mut(name) {
                *count -= 1;
                if *count == 0 {
                    self.supported.remove(name);
                }
            }
        }
    }

    /// Whether a member who knows these protocols fits to the others.
    fn supports(&self, protocol_type: &str, protocols: &[(Arc<str>, Bytes)]) -> bool {
        if self.is_empty() {
            return !protocol_type.is_empty() && !protocols.is_empty();
        }
        let by_all = |name: &Arc<str>| self.supported.get(name).copied().unwrap_or(0) == self.members.len();
        self.protocol_type.as_deref() == Some(protocol_type) && protocols.iter().any(|(name, _)| by_all(name))
    }

    /// The protocol that most members prefer, of those that all know. Among equals, the first in the alphabet.
    fn select_protocol(&self) -> Option<Arc<str>> {
        let all = self.members.len();
        let mut votes: BTreeMap<&Arc<str>, usize> = BTreeMap::new();
        for member in self.members.values() {
            let vote = member
                .protocols
                .iter()
                .find(|(name, _)| self.supported.get(name) == Some(&all));
            if let Some((name, _)) = vote {
                *votes.entry(name).or_default() += 1;
            }
        }
        let most = votes.values().copied().max()?;
        votes
            .into_iter()
            .find(|(_, count)| *count == most)
            .map(|(name, _)| Arc::clone(name))
    }

    fn compute_subscribed_topics(&self) -> Option<HashSet<Arc<str>>> {
        if !self.is_of_consumers() {
            return None;
        }
        let mut topics = HashSet::new();
        for member in self.members.values() {
            let metadata = member.metadata(self.protocol.as_deref());
            for topic in metadata::subscribed_topics(&metadata)? {
                if !topics.contains(topic) {
                    topics.insert(Arc::from(topic));
                }
            }
        }
        Some(topics)
    }

    fn rebalance_timeout_ms(&self) -> u64 {
        let longest = self.members.values().map(|member| member.rebalance_timeout_ms).max();
        u64::try_from(longest.unwrap_or(0)).unwrap_or(0)
    }

    /// All members as the leader is told of them.
    fn joined_members(&self) -> Vec<JoinedMember> {
        let joined = |member: &Member| JoinedMember {
            member_id: Arc::clone(&member.id),
            instance_id: member.instance_id.clone(),
            metadata: member.metadata(self.protocol.as_deref()),
        };
        self.members.values().map(joined).collect()
    }

    fn is_leader(&self, id: &str) -> bool {
        self.leader.as_deref() == Some(id)
    }

    /// Answers whatever request to join the member has waiting; false if there is none.
    fn settle_join(&mut self, id: &str, reply: JoinReply, turn: &mut Turn<'_>) -> bool {
        let waiting = self.members.get_mut(id).and_then(|member| member.awaiting_join.take());
        if let Some(ticket) = waiting {
            self.awaiting_join -= 1;
            turn.reply(ticket, GroupReply::Join(reply));
        }
        waiting.is_some()
    }

    fn await_join(&mut self, id: &str, ticket: Ticket, turn: &mut Turn<'_>) {
        let Some(member) = self.members.get_mut(id) else { return };
        match member.awaiting_join.replace(ticket) {
            None => self.awaiting_join += 1,
            Some(earlier) => {
                let reply = JoinReply::error(ErrorCode::RebalanceInProgress, id);
                turn.reply(earlier, GroupReply::Join(reply));
            }
        }
    }
}

fn session_ms(member: &Member) -> u64 {
    u64::try_from(member.session_timeout_ms).unwrap_or(0)
}

fn session_key(group: &Arc<str>, member: &Arc<str>) -> TimerKey {
    TimerKey {
        group: Arc::clone(group),
        kind: TimerKind::Session(Arc::clone(member)),
    }
}

fn join_key(group: &Arc<str>) -> TimerKey {
    TimerKey {
        group: Arc::clone(group),
        kind: TimerKind::Join,
    }
}

fn sync_key(group: &Arc<str>) -> TimerKey {
    TimerKey {
        group: Arc::clone(group),
        kind: TimerKind::Sync,
    }
}
