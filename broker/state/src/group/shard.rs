//! One partition of `__consumer_offsets`: its groups, their offsets, and what is due.
//!
//! See the head of [`super`] for how a driver uses it.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest, OffsetDeleteRequest, SyncGroupRequest,
};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fmt;
use std::sync::Arc;

use super::classic::{ClassicGroup, ClassicState};
use super::consumer::ConsumerGroup;
use super::describe::{ClassicDescription, ListedGroup};
use super::offsets::{self, CommitLimits, OffsetFetch, Offsets, TopicOffsets};
use super::record::{ClassicValue, CommittedOffset, GroupRecord};
use super::timers::{TimerKey, TimerKind, Timers};
use super::topics::TopicsImage;
use super::{Client, GroupConfig, GroupReply, JoinReply, LeftMember, Moment, Outcome, SyncReply, Ticket};
use crate::{Effect, Time};

mod consumer;

/// How many tombstones of old offsets are written in one step.
const TOMBSTONES_PER_STEP: usize = 1_000;

/// A group of either kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Group {
    /// Its members share among themselves.
    Classic(ClassicGroup),
    /// The coordinator shares among them (KIP-848).
    Consumer(ConsumerGroup),
}

impl Group {
    fn weight(&self) -> usize {
        match self {
            Group::Classic(group) => group.weight(),
            Group::Consumer(group) => group.weight(),
        }
    }
}

/// What an operation on one group works with.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    pub(super) moment: Moment,
    pub(super) config: &'a GroupConfig,
    pub(super) timers: &'a mut Timers,
    pub(super) records: Vec<GroupRecord>,
    replies: &'a mut Replies,
}

impl Turn<'_> {
    /// Promises an answer.
    pub(super) fn ticket(&mut self) -> Ticket {
        self.replies.next += 1;
        Ticket(self.replies.next)
    }

    /// Keeps a promise.
    pub(super) fn reply(&mut self, ticket: Ticket, reply: GroupReply) {
        self.replies.queue.push_back((ticket, reply));
    }

    /// A member of a classic group may be silent for this long from now on.
    pub(super) fn await_session(&mut self, group: &Arc<str>, member: &Arc<str>, timeout_ms: u64) {
        let key = TimerKey {
            group: Arc::clone(group),
            kind: TimerKind::Session(Arc::clone(member)),
        };
        self.timers.set(key, self.moment.now + timeout_ms);
    }
}

#[derive(Debug, Default)]
struct Replies {
    queue: VecDeque<(Ticket, GroupReply)>,
    next: u64,
}

/// See the head of this file.
pub struct GroupShard {
    config: Arc<GroupConfig>,
    topics: Arc<dyn TopicsImage + Send + Sync>,
    groups: HashMap<Arc<str>, Group>,
    offsets: Offsets,
    timers: Timers,
    replies: Replies,
    /// Weight of the groups, without offsets.
    groups_weight: usize,
    /// The log is being replayed: records say what the groups are.
    loading: bool,
    /// When offsets are looked through for old ones.
    expiry_at: Time,
    /// The groups whose offsets are still to be looked through.
    expiring: VecDeque<Arc<str>>,
}

impl fmt::Debug for GroupShard {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("GroupShard")
            .field("groups", &self.groups.len())
            .field("loading", &self.loading)
            .finish_non_exhaustive()
    }
}

impl GroupShard {
    /// A shard that is to be loaded.
    pub fn new(config: Arc<GroupConfig>) -> GroupShard {
        GroupShard {
            config,
            topics: Arc::new(consumer::NoTopics),
            groups: HashMap::new(),
            offsets: Offsets::default(),
            timers: Timers::default(),
            replies: Replies::default(),
            groups_weight: 0,
            loading: true,
            expiry_at: Time(u64::MAX),
            expiring: VecDeque::new(),
        }
    }

    /// Takes in a record: of the log, or of an effect that was appended to it.
    pub fn replay(&mut self, record: &GroupRecord, moment: Moment) {
        match record {
            GroupRecord::Offset {
                group,
                topic,
                partition,
                value,
            } => self.replay_offset(group, topic, *partition, value.clone(), moment),
            GroupRecord::Classic { group, value } => self.replay_classic(group, value.as_ref()),
            GroupRecord::Consumer { group, part } => self.replay_consumer(group, part, moment),
        }
    }

    fn replay_offset(
        &mut self,
        group: &Arc<str>,
        topic: &Arc<str>,
        partition: i32,
        value: Option<CommittedOffset>,
        moment: Moment,
    ) {
        let gone = value.is_none();
        let group = match self.groups.get_key_value(group) {
            Some((known, _)) => Arc::clone(known),
            None => Arc::clone(group),
        };
        self.offsets.replay(&group, topic, partition, value);
        if gone {
            self.forget_if_void(&group);
        } else if !self.groups.contains_key(&group) {
            self.insert(Group::Classic(ClassicGroup::new(Arc::clone(&group), moment)), group);
        }
    }

    fn replay_classic(&mut self, group: &Arc<str>, value: Option<&ClassicValue>) {
        let known = self.groups.get(group);
        match value {
            Some(_) if known.is_some() && !self.loading => {
                // The group took this step before the record was written.
            }
            Some(value) => self.insert(
                Group::Classic(ClassicGroup::of(Arc::clone(group), value)),
                Arc::clone(group),
            ),
            None if matches!(known, Some(Group::Consumer(_))) => {
                // It has become a consumer group, and the record says that the classic one is no more.
            }
            None => self.remove(group),
        }
    }

    /// The whole log has been replayed: sessions begin, and answers may be given.
    pub fn loaded(&mut self, moment: Moment) -> Effect<GroupRecord, ()> {
        self.loading = false;
        self.expiry_at = moment.now + self.config.offsets_retention_check_interval_ms;
        let ids: Vec<Arc<str>> = self.groups.keys().cloned().collect();
        let mut records = Vec::new();
        for id in ids {
            self.watch_consumer(&id, moment);
            let watched = self.with_classic(&id, moment, |group, turn| group.handle_loaded(turn));
            if let Some(effect) = watched {
                records.extend(effect.records);
            }
        }
        Effect { records, reply: () }
    }

    /// The next answer that was promised, in the order in which they became known.
    pub fn next_reply(&mut self) -> Option<(Ticket, GroupReply)> {
        self.replies.queue.pop_front()
    }

    /// When [`GroupShard::handle_timeout`] has something to do; `None` while the shard is being loaded.
    pub fn wake_at(&self) -> Option<Time> {
        if self.loading {
            return None;
        }
        if !self.expiring.is_empty() {
            return Some(Time::default());
        }
        let expiry = (self.expiry_at != Time(u64::MAX)).then_some(self.expiry_at);
        self.timers.wake_at().into_iter().chain(expiry).min()
    }

    /// One step of what is due; `None` when nothing is. To be called until then, each effect treated like any other.
    pub fn handle_timeout(&mut self, moment: Moment) -> Option<Effect<GroupRecord, ()>> {
        if self.loading {
            return None;
        }
        if let Some(TimerKey { group, kind }) = self.timers.next_due(moment.now) {
            if kind == TimerKind::Consumer {
                return Some(self.consumer_timeout(&group, moment));
            }
            let effect = self.with_classic(&group, moment, |group, turn| group.handle_timeout(&kind, turn));
            return Some(effect.unwrap_or_else(|| Effect::reply(())));
        }
        if self.expiring.is_empty() {
            if moment.now < self.expiry_at {
                return None;
            }
            self.expiry_at = moment.now + self.config.offsets_retention_check_interval_ms.max(1);
            self.expiring = self.groups.keys().cloned().collect();
        }
        let mut records = Vec::new();
        while records.len() < TOMBSTONES_PER_STEP
            && let Some(group) = self.expiring.pop_front()
        {
            records.append(&mut self.expired(&group, moment));
        }
        Some(Effect { records, reply: () })
    }

    /// Bytes that the shard takes in memory, roughly.
    pub fn weight(&self) -> usize {
        self.groups_weight + self.offsets.weight()
    }

    /// How many groups there are.
    pub fn group_count(&self) -> usize {
        self.groups.len()
    }

    /// The group with this id.
    pub fn group(&self, id: &str) -> Option<&Group> {
        self.groups.get(id)
    }

    /// JoinGroup, in any version.
    pub fn join(
        &mut self,
        request: &JoinGroupRequest<'_>,
        version: i16,
        client: Client<'_>,
        moment: Moment,
    ) -> Effect<GroupRecord, Outcome<JoinReply>> {
        let refuse = |error| Effect::reply(Outcome::Now(JoinReply::error(error, request.member_id)));
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let sessions = self.config.min_session_timeout_ms..=self.config.max_session_timeout_ms;
        if !sessions.contains(&request.session_timeout_ms) {
            return refuse(ErrorCode::InvalidSessionTimeout);
        }
        let mut records = match request.member_id {
            "" => self.clear_empty_consumer(request.group_id),
            _ => Vec::new(),
        };
        let Effect {
            records: mut more,
            reply,
        } = match self.join_consumer(request, version, client, moment) {
            Some(effect) => effect,
            None => self.join_classic(request, version, client, moment),
        };
        records.append(&mut more);
        Effect { records, reply }
    }

    fn join_classic(
        &mut self,
        request: &JoinGroupRequest<'_>,
        version: i16,
        client: Client<'_>,
        moment: Moment,
    ) -> Effect<GroupRecord, Outcome<JoinReply>> {
        let refuse = |error| Effect::reply(Outcome::Now(JoinReply::error(error, request.member_id)));
        if !self.groups.contains_key(request.group_id) {
            if !request.member_id.is_empty() {
                return refuse(ErrorCode::UnknownMemberId);
            }
            if moment.crowded {
                return refuse(ErrorCode::CoordinatorNotAvailable);
            }
            let id: Arc<str> = request.group_id.into();
            self.insert(Group::Classic(ClassicGroup::new(Arc::clone(&id), moment)), id);
        }
        let joined = self.with_classic(request.group_id, moment, |group, turn| {
            group.join(request, version, client, turn)
        });
        joined.unwrap_or_else(|| refuse(ErrorCode::InconsistentGroupProtocol))
    }

    /// SyncGroup, in any version. From version 5 on the handler makes sure that the protocol is named.
    pub fn sync(&mut self, request: &SyncGroupRequest<'_>, moment: Moment) -> Effect<GroupRecord, Outcome<SyncReply>> {
        let refuse = |error| Effect::reply(Outcome::Now(SyncReply::error(error)));
        if request.group_id.is_empty() {
            return refuse(ErrorCode::InvalidGroupId);
        }
        let synced = self.with_consumer(request.group_id, moment, |group, context| {
            (Vec::new(), Outcome::Now(group.sync_classic(request, context)))
        });
        if let Some(effect) = synced {
            return effect;
        }
        let synced = self.with_classic(request.group_id, moment, |group, turn| group.sync(request, turn));
        synced.unwrap_or_else(|| refuse(ErrorCode::UnknownMemberId))
    }

    /// Heartbeat, in any version.
    pub fn heartbeat(&mut self, request: &HeartbeatRequest<'_>, moment: Moment) -> Effect<GroupRecord, ErrorCode> {
        if request.group_id.is_empty() {
            return Effect::reply(ErrorCode::InvalidGroupId);
        }
        let heard = self.with_consumer(request.group_id, moment, |group, context| {
            (Vec::new(), group.heartbeat_classic(request, context))
        });
        if let Some(effect) = heard {
            return effect;
        }
        let heard = self.with_classic(request.group_id, moment, |group, turn| group.heartbeat(request, turn));
        heard.unwrap_or_else(|| Effect::reply(ErrorCode::UnknownMemberId))
    }

    /// LeaveGroup, from version 3 on; the handler turns older ones into such.
    ///
    /// # Errors
    /// INVALID_GROUP_ID. What single members are told is in the reply.
    pub fn leave(
        &mut self,
        request: &LeaveGroupRequest<'_>,
        moment: Moment,
    ) -> Effect<GroupRecord, Result<Vec<LeftMember>, ErrorCode>> {
        if request.group_id.is_empty() {
            return Effect::reply(Err(ErrorCode::InvalidGroupId));
        }
        if let Some(Effect { records, reply }) = self.leave_consumer(request, moment) {
            return Effect {
                records,
                reply: Ok(reply),
            };
        }
        let left = self.with_classic(request.group_id, moment, |group, turn| {
            Ok(group.leave(&request.members, turn))
        });
        left.unwrap_or_else(|| {
            let unknown = request.members.iter().map(|member| LeftMember {
                member_id: member.member_id.into(),
                instance_id: member.group_instance_id.map(Arc::from),
                error: ErrorCode::UnknownMemberId,
            });
            Effect::reply(Ok(unknown.collect()))
        })
    }

    /// OffsetCommit, in any version: how each partition fared, topic by topic in the order of the request. Topics are
    /// named, and known to exist.
    ///
    /// # Errors
    /// What all partitions are to be told.
    pub fn commit_offsets(
        &mut self,
        request: &OffsetCommitRequest<'_>,
        version: i16,
        moment: Moment,
    ) -> Effect<GroupRecord, Result<Vec<Vec<ErrorCode>>, ErrorCode>> {
        let (member_id, instance_id) = (request.member_id, request.group_instance_id);
        let generation = request.generation_id_or_member_epoch;
        let classic = self.with_classic(request.group_id, moment, |group, turn| {
            group.check_commit(member_id, instance_id, generation, turn)
        });
        let checked = match (classic.map(|effect| effect.reply), self.groups.get(request.group_id)) {
            (Some(verdict), _) => verdict,
            (None, Some(Group::Consumer(group))) => group
                .check_commit(member_id, generation, false, version)
                .map(|_| ())
                .map_err(|error| error.code),
            (None, _) if generation < 0 => Ok(()),
            (None, _) if version >= 9 => Err(ErrorCode::GroupIdNotFound),
            (None, _) => Err(ErrorCode::IllegalGeneration),
        };
        if let Err(error) = checked {
            return Effect::reply(Err(error));
        }
        let limits = CommitLimits {
            metadata_max: self.config.offset_metadata_max_bytes,
            crowded: moment.crowded,
        };
        let known = self.groups.get_key_value(request.group_id);
        let group = known.map_or_else(|| Arc::from(request.group_id), |(id, _)| Arc::clone(id));
        let judge = |topic: &str, partition| self.judge_commit(request, topic, partition);
        let (records, results) = self.offsets.commit(&group, request, moment.wall_ms, limits, judge);
        Effect {
            records,
            reply: Ok(results),
        }
    }

    /// OffsetFetch of one group: its offsets by topic, `None` if it has none.
    ///
    /// # Errors
    /// What the group is to be told.
    pub fn fetch_offsets(
        &self,
        fetch: OffsetFetch<'_>,
    ) -> Result<Option<&BTreeMap<Arc<str>, TopicOffsets>>, ErrorCode> {
        if let Some(Group::Consumer(group)) = self.groups.get(fetch.group) {
            let checked = group.check_fetch(fetch.member_id, fetch.member_epoch);
            checked.map_err(|error| error.code)?;
        }
        Ok(self.offsets.of_group(fetch.group))
    }

    /// OffsetDelete: how each partition fared, topic by topic in the order of the request.
    ///
    /// # Errors
    /// INVALID_GROUP_ID, GROUP_ID_NOT_FOUND, or NON_EMPTY_GROUP where it cannot be known what members read.
    pub fn delete_offsets(
        &self,
        request: &OffsetDeleteRequest<'_>,
    ) -> Effect<GroupRecord, Result<Vec<Vec<ErrorCode>>, ErrorCode>> {
        let group = match self.groups.get(request.group_id) {
            _ if request.group_id.is_empty() => return Effect::reply(Err(ErrorCode::InvalidGroupId)),
            None => return Effect::reply(Err(ErrorCode::GroupIdNotFound)),
            Some(Group::Classic(group)) if !group.is_empty() && !group.is_of_consumers() => {
                return Effect::reply(Err(ErrorCode::NonEmptyGroup));
            }
            Some(group) => group,
        };
        let mut records = Vec::new();
        let mut results = Vec::with_capacity(request.topics.len());
        for topic in &request.topics {
            let subscribed = match group {
                Group::Classic(group) => group.is_subscribed_to(topic.name),
                Group::Consumer(group) => group.is_subscribed_to(topic.name),
            };
            if subscribed {
                results.push(vec![ErrorCode::GroupSubscribedToTopic; topic.partitions.len()]);
                continue;
            }
            for partition in &topic.partitions {
                let index = partition.partition_index;
                records.append(&mut self.offsets.tombstones(request.group_id, |name, number, _| {
                    name == topic.name && number == index
                }));
            }
            results.push(vec![ErrorCode::None; topic.partitions.len()]);
        }
        Effect {
            records,
            reply: Ok(results),
        }
    }

    /// A topic was deleted: nobody needs to know any more where they were in it.
    pub fn delete_offsets_of_topic(&self, topic: &str) -> Effect<GroupRecord, ()> {
        let tombstones = |group: &Arc<str>| self.offsets.tombstones(group, |name, _, _| name == topic);
        Effect {
            records: self.offsets.groups().flat_map(tombstones).collect(),
            reply: (),
        }
    }

    /// DeleteGroups of one group.
    ///
    /// # Errors
    /// GROUP_ID_NOT_FOUND, or NON_EMPTY_GROUP.
    pub fn delete_group(&self, id: &str) -> Effect<GroupRecord, Result<(), ErrorCode>> {
        let group = match self.groups.get_key_value(id) {
            None => return Effect::reply(Err(ErrorCode::GroupIdNotFound)),
            Some((_, Group::Classic(group))) if !group.is_empty() => {
                return Effect::reply(Err(ErrorCode::NonEmptyGroup));
            }
            Some((_, Group::Consumer(group))) if !group.is_empty() => {
                return Effect::reply(Err(ErrorCode::NonEmptyGroup));
            }
            Some((id, _)) => id,
        };
        let mut records = self.offsets.tombstones(group, |_, _, _| true);
        records.extend(self.group_tombstones(group));
        Effect { records, reply: Ok(()) }
    }

    /// Every group, in no order.
    pub fn list(&self) -> impl Iterator<Item = ListedGroup> + '_ {
        self.groups.iter().map(|(id, group)| group.listed(id))
    }

    /// A classic group; `None` if there is none with this id.
    pub fn describe_classic(&self, id: &str) -> Option<ClassicDescription> {
        match self.groups.get(id)? {
            Group::Classic(group) => Some(group.described()),
            Group::Consumer(_) => None,
        }
    }

    /// Does something to a classic group; `None` if there is none with this id.
    fn with_classic<T>(
        &mut self,
        id: &str,
        moment: Moment,
        work: impl FnOnce(&mut ClassicGroup, &mut Turn<'_>) -> T,
    ) -> Option<Effect<GroupRecord, T>> {
        let GroupShard {
            config,
            groups,
            timers,
            replies,
            ..
        } = self;
        let Group::Classic(group) = groups.get_mut(id)? else {
            return None;
        };
        let before = group.weight();
        let mut turn = Turn {
            moment,
            config,
            timers,
            records: Vec::new(),
            replies,
        };
        let reply = work(group, &mut turn);
        let records = turn.records;
        self.groups_weight = (self.groups_weight + group.weight()).saturating_sub(before);
        if group.is_void() && records.is_empty() {
            self.forget_if_void(id);
        }
        Some(Effect { records, reply })
    }

    /// Tombstones of what is too old in a group, and of the group itself if nothing is left of it.
    fn expired(&self, id: &Arc<str>, moment: Moment) -> Vec<GroupRecord> {
        let group = match self.groups.get(id) {
            Some(Group::Classic(group)) => group,
            Some(Group::Consumer(group)) => return self.expired_of_consumer(id, group, moment),
            None => return Vec::new(),
        };
        let retention_ms = self.config.offsets_retention_ms;
        let is_old = |value: &CommittedOffset| {
            let since_ms = match group.protocol_type() {
                Some(_) if group.is_empty() && group.state_timestamp() >= 0 => group.state_timestamp(),
                _ => value.commit_timestamp,
            };
            offsets::is_expired(value, since_ms, moment.wall_ms, retention_ms)
        };
        let is_watched = group.protocol_type().is_some() && !group.is_empty();
        let may_expire = !is_watched
            || (group.is_of_consumers() && group.knows_subscriptions() && group.state() == ClassicState::Stable);
        let mut records = match may_expire {
            true => self
                .offsets
                .tombstones(id, |topic, _, value| !group.is_subscribed_to(topic) && is_old(value)),
            false => Vec::new(),
        };
        let count = |topics: &BTreeMap<Arc<str>, TopicOffsets>| topics.values().map(TopicOffsets::len).sum::<usize>();
        let all = self.offsets.of_group(id).map_or(0, count);
        if records.len() == all && group.is_abandoned() && !group.is_void() {
            records.push(GroupRecord::Classic {
                group: Arc::clone(id),
                value: None,
            });
        }
        records
    }

    fn insert(&mut self, group: Group, id: Arc<str>) {
        self.groups_weight += group.weight();
        if let Some(earlier) = self.groups.insert(id, group) {
            self.groups_weight = self.groups_weight.saturating_sub(earlier.weight());
        }
    }

    fn remove(&mut self, id: &str) {
        if let Some(group) = self.groups.remove(id) {
            self.groups_weight = self.groups_weight.saturating_sub(group.weight());
        }
    }

    /// A group of which nothing was written and that has no offsets is as good as none.
    fn forget_if_void(&mut self, id: &str) {
        let is_void = matches!(self.groups.get(id), Some(Group::Classic(group)) if group.is_void());
        if is_void && !self.offsets.has(id) {
            self.remove(id);
        }
    }
}
