//! Consumer groups (KIP-848) in a shard: their requests, and classic members' requests that meet such a group.
//!
//! What a consumer group decides is applied to it at once and handed out as records; the replay that follows applies them
//! again, which changes nothing. Between the two protocols a group is replaced as a whole, and the records that take the
//! old one out of the log come first.

use bytes::Bytes;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{JoinGroupRequest, LeaveGroupRequest, OffsetCommitRequest};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::classic::{ClassicGroup, Member};
use super::super::consumer::{
    ClassicMigrant, ConsumerGroup, Context, DescribedGroup, GroupError, HeartbeatReply, HeartbeatRequest, JOIN_EPOCH,
    Leave,
};
use super::super::offsets;
use super::super::record::{ConsumerPart, GroupRecord};
use super::super::timers::{TimerKey, TimerKind};
use super::super::topics::{TopicView, TopicsImage};
use super::super::{Client, JoinReply, LeftMember, Moment, Outcome};
use super::{Group, GroupShard};
use crate::Effect;
use ottla_protocol::Uuid;

#[cfg(test)]
mod tests;

/// What an operation on a consumer group writes, and what it says.
type Step<T> = (Vec<ConsumerPart>, T);

/// A cluster without topics: what a shard knows before it is told anything.
#[derive(Debug)]
pub(super) struct NoTopics;

impl TopicsImage for NoTopics {
    fn version(&self) -> i64 {
        -1
    }

    fn by_name(&self, _name: &str) -> Option<TopicView> {
        None
    }

    fn by_id(&self, _id: Uuid) -> Option<TopicView> {
        None
    }

    fn for_each_name(&self, _each: &mut dyn FnMut(&Arc<str>)) {}

    fn racks(&self, _name: &str) -> Vec<Vec<Arc<str>>> {
        Vec::new()
    }
}

impl GroupShard {
    /// The topics as they are now. To be told before the operation that is to know of them.
    pub fn handle_topics(&mut self, topics: Arc<dyn TopicsImage + Send + Sync>) {
        self.topics = topics;
    }

    /// ConsumerGroupHeartbeat. The request has passed its own check.
    ///
    /// # Errors
    /// What the member is to be told.
    pub fn consumer_heartbeat(
        &mut self,
        id: &str,
        request: &HeartbeatRequest,
        client: Client<'_>,
        moment: Moment,
    ) -> Effect<GroupRecord, Result<HeartbeatReply, GroupError>> {
        if request.leaves() {
            return self.consumer_leave(id, request, moment);
        }
        let beat = |group: &mut ConsumerGroup, context: Context<'_>| match group.heartbeat(request, client, context) {
            Ok((records, reply)) => (records, Ok(reply)),
            Err(error) => (Vec::new(), Err(error)),
        };
        if let Some(effect) = self.with_consumer(id, moment, beat) {
            return effect;
        }
        if request.member_epoch != JOIN_EPOCH {
            return Effect::reply(Err(not_found(id)));
        }
        match self.found(id, request, client, moment) {
            Ok((records, reply)) => Effect {
                records,
                reply: Ok(reply),
            },
            Err(error) => Effect::reply(Err(error)),
        }
    }

    /// The first member of a group that is none yet, or is a classic one. Nothing has changed if it is refused.
    fn found(
        &mut self,
        id: &str,
        request: &HeartbeatRequest,
        client: Client<'_>,
        moment: Moment,
    ) -> Result<(Vec<GroupRecord>, HeartbeatReply), GroupError> {
        let context = context_of(&self.config, &*self.topics, moment);
        let (mut records, mut parts) = (Vec::new(), Vec::new());
        let known = self.groups.get_key_value(id);
        let key: Arc<str> = known.map_or_else(|| id.into(), |(key, _)| key.clone());
        let mut group = match known {
            Some((_, Group::Classic(classic))) => {
                if !classic.is_void() {
                    records.push(GroupRecord::Classic {
                        group: key.clone(),
                        value: None,
                    });
                }
                if classic.is_empty() {
                    ConsumerGroup::default()
                } else {
                    let (migrated, group) = upgraded(classic, context)?;
                    parts = migrated;
                    group
                }
            }
            _ => ConsumerGroup::default(),
        };
        let (step, reply) = group.heartbeat(request, client, context)?;
        parts.extend(step);
        // Whoever waits in the classic group is told to come again.
        let _ = self.with_classic(id, moment, ClassicGroup::dissolve);
        self.arm(&key, &group);
        self.insert(Group::Consumer(group), key.clone());
        records.extend(as_records(&key, parts));
        Ok((records, reply))
    }

    fn consumer_leave(
        &mut self,
        id: &str,
        request: &HeartbeatRequest,
        moment: Moment,
    ) -> Effect<GroupRecord, Result<HeartbeatReply, GroupError>> {
        let left = self.with_consumer(id, moment, |group, context| match group.leave(request, context) {
            Ok((Leave::ForAWhile(records), reply)) => (records, Ok((None, reply))),
            Ok((Leave::ForGood(member), reply)) => (Vec::new(), Ok((Some(member), reply))),
            Err(error) => (Vec::new(), Err(error)),
        });
        let Some(Effect { mut records, reply }) = left else {
            return Effect::reply(Err(not_found(id)));
        };
        let reply = reply.map(|(leaving, reply)| {
            if let Some(member) = leaving {
                records.extend(self.remove_from_consumer(id, &BTreeSet::from([member]), moment));
            }
            reply
        });
        Effect { records, reply }
    }

    /// ConsumerGroupDescribe of one group; `None` if there is no consumer group with this id.
    pub fn describe_consumer(&self, id: &str) -> Option<DescribedGroup> {
        match self.groups.get(id)? {
            Group::Consumer(group) => Some(group.described(&self.config.consumer, &*self.topics)),
            Group::Classic(_) => None,
        }
    }

    /// JoinGroup of a classic member; `None` if there is no consumer group with this id. One without members has made
    /// room already for a member that wants to found a classic group.
    pub(super) fn join_consumer(
        &mut self,
        request: &JoinGroupRequest<'_>,
        version: i16,
        client: Client<'_>,
        moment: Moment,
    ) -> Option<Effect<GroupRecord, Outcome<JoinReply>>> {
        let id = request.group_id;
        let new_id: Arc<str> = client.fresh_id.to_string().into();
        if let Some(Group::Consumer(group)) = self.groups.get(id)
            && group.is_empty()
        {
            let reply = JoinReply::error(ErrorCode::UnknownMemberId, request.member_id);
            return Some(Effect::reply(Outcome::Now(reply)));
        }
        let joined = self.with_consumer(id, moment, |group, context| {
            match group.join_classic(request, version, client, new_id, context) {
                Ok((records, reply)) => (records, reply),
                Err((error, member_id)) => (Vec::new(), JoinReply::error(error, member_id)),
            }
        })?;
        let Effect { mut records, reply } = joined;
        if reply.error == ErrorCode::None
            && let Some(mut downgraded) = self.downgrade(id, &BTreeSet::new(), moment)
        {
            // It took the place of the last member of the other protocol. Now it joins its own.
            records.append(&mut downgraded);
            let request = JoinGroupRequest {
                member_id: &reply.member_id,
                ..request.clone()
            };
            let joined = self.with_classic(id, moment, |group, turn| group.join(&request, version, client, turn))?;
            records.extend(joined.records);
            return Some(Effect {
                records,
                reply: joined.reply,
            });
        }
        Some(Effect {
            records,
            reply: Outcome::Now(reply),
        })
    }

    /// LeaveGroup; `None` if there is no consumer group with this id.
    pub(super) fn leave_consumer(
        &mut self,
        request: &LeaveGroupRequest<'_>,
        moment: Moment,
    ) -> Option<Effect<GroupRecord, Vec<LeftMember>>> {
        let id = request.group_id;
        let Group::Consumer(group) = self.groups.get(id)? else {
            return None;
        };
        let (gone, reply) = group.leave_classic(&request.members);
        let records = self.remove_from_consumer(id, &gone, moment);
        Some(Effect { records, reply })
    }

    /// Takes members out of a group, which may become a classic one by that.
    fn remove_from_consumer(&mut self, id: &str, gone: &BTreeSet<Arc<str>>, moment: Moment) -> Vec<GroupRecord> {
        if gone.is_empty() {
            return Vec::new();
        }
        if let Some(records) = self.downgrade(id, gone, moment) {
            return records;
        }
        let removed = self.with_consumer(id, moment, |group, context| (group.remove_members(gone, context), ()));
        removed.map(|effect| effect.records).unwrap_or_default()
    }

    /// Makes a classic group of a consumer group if it may become one once these have left. Its members join again.
    fn downgrade(&mut self, id: &str, leaving: &BTreeSet<Arc<str>>, moment: Moment) -> Option<Vec<GroupRecord>> {
        let (key, group) = self.groups.get_key_value(id)?;
        let Group::Consumer(group) = group else { return None };
        let context = context_of(&self.config, &*self.topics, moment);
        if !group.may_become_classic(leaving, &self.config.consumer, self.config.max_size) {
            return None;
        }
        let value = group.to_classic(leaving, context).ok()?;
        let key = key.clone();
        let mut records: Vec<GroupRecord> = as_records(&key, group.tombstones()).collect();
        self.disarm(&key);
        self.insert(Group::Classic(ClassicGroup::of(key.clone(), &value)), key.clone());
        records.push(GroupRecord::Classic {
            group: key,
            value: Some(value),
        });
        let started = self.with_classic(id, moment, |group, turn| group.watch_sessions(turn));
        records.extend(started.map(|effect| effect.records).unwrap_or_default());
        Some(records)
    }

    /// Takes an empty consumer group out, so that a classic one may take its place: the records that say so.
    pub(super) fn clear_empty_consumer(&mut self, id: &str) -> Vec<GroupRecord> {
        let Some((key, Group::Consumer(group))) = self.groups.get_key_value(id) else {
            return Vec::new();
        };
        if !group.is_empty() {
            return Vec::new();
        }
        let (key, parts) = (key.clone(), group.tombstones());
        self.disarm(&key);
        self.remove(&key);
        as_records(&key, parts).collect()
    }

    /// The alarm of a consumer group: one member whose time is up.
    pub(super) fn consumer_timeout(&mut self, id: &Arc<str>, moment: Moment) -> Effect<GroupRecord, ()> {
        let overdue = self.with_consumer(id, moment, |group, context| (Vec::new(), group.next_overdue(context)));
        let gone = overdue.and_then(|effect| effect.reply);
        let records = match gone {
            Some(member) => self.remove_from_consumer(id, &BTreeSet::from([member]), moment),
            None => Vec::new(),
        };
        Effect { records, reply: () }
    }

    /// Whether a consumer group has anything against a commit for this partition. The commit as a whole has been judged.
    pub(super) fn judge_commit(&self, request: &OffsetCommitRequest<'_>, topic: &str, partition: i32) -> ErrorCode {
        let Some(Group::Consumer(group)) = self.groups.get(request.group_id) else {
            return ErrorCode::None;
        };
        let (member, epoch) = (request.member_id, request.generation_id_or_member_epoch);
        // An administrator's commit, or one in the member's own epoch.
        if group.member(member).is_none_or(|member| member.epoch == epoch) {
            return ErrorCode::None;
        }
        let topic = self.topics.by_name(topic).map_or(Uuid::ZERO, |topic| topic.id);
        let checked = group.may_commit_partition(member, epoch, topic, partition);
        checked.err().unwrap_or(ErrorCode::None)
    }

    /// The records that take a group out of the log, without its offsets.
    pub(super) fn group_tombstones(&self, id: &Arc<str>) -> Vec<GroupRecord> {
        match self.groups.get(id) {
            Some(Group::Consumer(group)) => as_records(id, group.tombstones()).collect(),
            _ => vec![GroupRecord::Classic {
                group: id.clone(),
                value: None,
            }],
        }
    }

    /// Tombstones of offsets that are too old, of topics that no member subscribes to, and of the group if nothing is
    /// left of it.
    pub(super) fn expired_of_consumer(&self, id: &Arc<str>, group: &ConsumerGroup, moment: Moment) -> Vec<GroupRecord> {
        let subscribed = group.subscribed_topics();
        let retention_ms = self.config.offsets_retention_ms;
        let mut records = self.offsets.tombstones(id, |topic, _, value| {
            !subscribed.contains(topic)
                && offsets::is_expired(value, value.commit_timestamp, moment.wall_ms, retention_ms)
        });
        let topics = self.offsets.of_group(id).into_iter().flat_map(BTreeMap::values);
        if group.is_empty() && records.len() == topics.map(BTreeMap::len).sum::<usize>() {
            records.extend(self.group_tombstones(id));
        }
        records
    }

    /// Takes in a record of a consumer group.
    pub(super) fn replay_consumer(&mut self, id: &Arc<str>, part: &ConsumerPart, moment: Moment) {
        let says_something = !part.is_tombstone();
        match self.groups.get_mut(id) {
            Some(Group::Consumer(group)) => {
                let before = group.weight();
                let lives = group.apply(part);
                self.groups_weight = (self.groups_weight + group.weight()).saturating_sub(before);
                if !lives {
                    self.disarm(id);
                    self.remove(id);
                    if self.offsets.has(id) {
                        self.insert(Group::Classic(ClassicGroup::new(id.clone(), moment)), id.clone());
                    }
                }
            }
            // The group has become a classic one since.
            Some(Group::Classic(_)) if !self.loading => {}
            _ if says_something => {
                let mut group = ConsumerGroup::default();
                group.apply(part);
                self.insert(Group::Consumer(group), id.clone());
            }
            _ => {}
        }
    }

    /// Begins to listen for the members of a group that was loaded.
    pub(super) fn watch_consumer(&mut self, id: &Arc<str>, moment: Moment) {
        self.with_consumer(id, moment, |group, context| {
            group.loaded(context.config, moment.now);
            (Vec::new(), ())
        });
    }

    /// Does something to a consumer group; `None` if there is none with this id.
    pub(super) fn with_consumer<T>(
        &mut self,
        id: &str,
        moment: Moment,
        work: impl FnOnce(&mut ConsumerGroup, Context<'_>) -> Step<T>,
    ) -> Option<Effect<GroupRecord, T>> {
        let key = self.groups.get_key_value(id)?.0.clone();
        let Some(Group::Consumer(group)) = self.groups.get_mut(id) else {
            return None;
        };
        let before = group.weight();
        let (parts, reply) = work(group, context_of(&self.config, &*self.topics, moment));
        self.groups_weight = (self.groups_weight + group.weight()).saturating_sub(before);
        let timer = alarm(&key);
        match group.wake_at() {
            Some(at) => self.timers.set(timer, at),
            None => self.timers.cancel(&timer),
        }
        Some(Effect {
            records: as_records(&key, parts).collect(),
            reply,
        })
    }

    fn arm(&mut self, id: &Arc<str>, group: &ConsumerGroup) {
        if let Some(at) = group.wake_at() {
            self.timers.set(alarm(id), at);
        }
    }

    fn disarm(&mut self, id: &Arc<str>) {
        self.timers.cancel(&alarm(id));
    }
}

fn context_of<'a>(config: &'a super::super::GroupConfig, topics: &'a dyn TopicsImage, moment: Moment) -> Context<'a> {
    Context {
        config: &config.consumer,
        topics,
        moment,
    }
}

fn alarm(id: &Arc<str>) -> TimerKey {
    TimerKey {
        group: id.clone(),
        kind: TimerKind::Consumer,
    }
}

fn as_records(id: &Arc<str>, parts: Vec<ConsumerPart>) -> impl Iterator<Item = GroupRecord> {
    parts.into_iter().map(|part| GroupRecord::Consumer {
        group: id.clone(),
        part,
    })
}

fn not_found(id: &str) -> GroupError {
    GroupError {
        code: ErrorCode::GroupIdNotFound,
        message: format!("Group {id} is not a consumer group."),
    }
}

/// The consumer group that this classic group becomes.
///
/// # Errors
/// GROUP_ID_NOT_FOUND, with the reason why it cannot.
fn upgraded(classic: &ClassicGroup, context: Context<'_>) -> Result<Step<ConsumerGroup>, GroupError> {
    if !classic.is_of_consumers() {
        return Err(GroupError {
            code: ErrorCode::GroupIdNotFound,
            message:
                "Cannot upgrade the classic group to a consumer group because the group does not use the consumer \
                      embedded protocol."
                    .to_owned(),
        });
    }
    let chosen = classic.protocol();
    let migrant = |member: &Member| ClassicMigrant {
        id: member.id.clone(),
        instance_id: member.instance_id.clone(),
        client_id: member.client_id.clone(),
        client_host: member.client_host.clone(),
        rebalance_timeout_ms: member.rebalance_timeout_ms,
        session_timeout_ms: member.session_timeout_ms,
        protocols: member.protocols.clone(),
        subscription: subscription(member, chosen),
        assignment: member.assignment.clone(),
    };
    let migrants: Vec<ClassicMigrant> = classic.members().map(migrant).collect();
    let (group, records) = ConsumerGroup::from_classic(classic.generation(), &migrants, context)?;
    Ok((records, group))
}

/// What a member said under the protocol that was chosen; before one was chosen, under the one it likes best.
fn subscription(member: &Member, chosen: Option<&Arc<str>>) -> Bytes {
    let under = member.metadata(chosen.map(|name| &**name));
    let first = member.protocols.first().map(|(_, bytes)| bytes.clone());
    if under.is_empty() {
        first.unwrap_or_default()
    } else {
        under
    }
}
