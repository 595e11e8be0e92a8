//! One step of a group on behalf of one member: its subscription, the group epoch, the target, its current assignment.
//!
//! In: the member as it was and as it wants to be. Out: the records of everything that follows from it, each applied as
//! soon as it is decided. Heartbeats of both protocols and JoinGroup come through here.

use super::alarms::AlarmKind;
use super::group::{ConsumerGroup, milliseconds};
use super::member::{Member, MemberState};
use super::reconcile::{MustRejoin, Reconciliation};
use super::{ConsumerConfig, GroupError, Partitions, regex};
use crate::group::Moment;
use crate::group::record::{ConsumerGroupValue, ConsumerPart, RegularExpressionValue};
use crate::group::topics::TopicsImage;
use ottla_protocol::{ErrorCode, Uuid};
use std::collections::BTreeSet;
use std::sync::Arc;

/// So long at least the topics that expressions were found to mean are believed, however often metadata changes. In
/// milliseconds, as in Apache Kafka.
const REGEX_REFRESH_MIN_MS: i64 = 10_000;

/// What an operation is judged by.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// What the coordinator was configured to do.
    pub config: &'a ConsumerConfig,
    /// The topics there are.
    pub topics: &'a dyn TopicsImage,
    /// When.
    pub moment: Moment,
}

/// An operation under way: what it has written so far is part of the group already.
pub(super) struct Operation<'a> {
    pub(super) group: &'a mut ConsumerGroup,
    pub(super) context: Context<'a>,
    pub(super) records: Vec<ConsumerPart>,
}

impl<'a> Operation<'a> {
    pub(super) fn new(group: &'a mut ConsumerGroup, context: Context<'a>) -> Operation<'a> {
        Operation {
            group,
            context,
            records: Vec::new(),
        }
    }

    pub(super) fn write(&mut self, part: ConsumerPart) {
        self.group.apply(&part);
        self.records.push(part);
    }

    /// Refuses what a step would only find out after its first record.
    ///
    /// # Errors
    /// INVALID_REGULAR_EXPRESSION, or FENCED_MEMBER_EPOCH for a member in a state that this broker does not know.
    pub(super) fn check(&self, updated: &Member, owned: Option<&Partitions>) -> Result<(), GroupError> {
        if updated.state == MemberState::Unknown && !owned.is_some_and(Partitions::is_empty) {
            return Err(GroupError::new(
                ErrorCode::FencedMemberEpoch,
                "The consumer group member is in a unknown state. The member must abandon all its partitions and rejoin.",
            ));
        }
        if let Some(expression) = &updated.regex
            && !self.group.regexes.contains_key(expression)
        {
            regex::compile(expression).map_err(|problem| {
                let message =
                    format!("SubscribedTopicRegex `{expression}` is not a valid regular expression: {problem}.");
                GroupError::new(ErrorCode::InvalidRegularExpression, message)
            })?;
        }
        Ok(())
    }

    /// Makes `updated` of the member `old`, and takes it one step further. `check` has been passed.
    ///
    /// With `stay`, the member keeps its epoch and its partitions: it does not know yet which it has.
    pub(super) fn step(&mut self, old: &Member, updated: &Member, owned: Option<&Partitions>, stay: bool) {
        let is_new = !self.group.members.contains_key(&updated.id);
        if is_new || !old.same_metadata(updated) {
            self.write(updated.metadata_record());
        }
        let subscription_changed = self.subscribe(old, updated);
        self.note_topics(subscription_changed);
        self.assign_if_due();
        if !stay {
            self.reconcile(&updated.id, subscription_changed, owned);
        }
    }

    /// Resolves what has to be resolved. True if the member subscribes to something else than before.
    fn subscribe(&mut self, old: &Member, updated: &Member) -> bool {
        if old.regex != updated.regex {
            if let Some(regex) = &old.regex {
                self.drop_regex_if_unused(regex);
            }
            if let Some(regex) = &updated.regex
                && !self.group.regexes.contains_key(regex)
            {
                self.resolve(regex);
            }
        }
        self.refresh_regexes();
        old.topics != updated.topics || old.regex != updated.regex
    }

    /// Forgets what an expression means once nobody subscribes to it.
    pub(super) fn drop_regex_if_unused(&mut self, regex: &Arc<str>) {
        let used = self
            .group
            .members
            .values()
            .any(|member| member.regex.as_ref() == Some(regex));
        if !used && self.group.regexes.contains_key(regex) {
            self.write(ConsumerPart::RegularExpression {
                regex: regex.clone(),
                value: None,
            });
        }
    }

    /// Finds out what an expression means, and writes it down.
    fn resolve(&mut self, expression: &Arc<str>) {
        let topics = self.meaning_of(expression);
        self.write(ConsumerPart::RegularExpression {
            regex: expression.clone(),
            value: Some(RegularExpressionValue {
                topics: topics.into_iter().collect(),
                version: self.context.topics.version(),
                timestamp: self.context.moment.wall_ms,
            }),
        });
    }

    /// One that does not compile (of a log that somebody else wrote) means nothing.
    fn meaning_of(&self, expression: &str) -> BTreeSet<Arc<str>> {
        match regex::compile(expression) {
            Ok(compiled) => regex::matching(&compiled, self.context.topics),
            Err(_) => BTreeSet::new(),
        }
    }

    /// Resolves all expressions anew if there may be other topics than before. What has not changed is written again only
    /// when it has become old.
    fn refresh_regexes(&mut self) {
        let (version, now) = (self.context.topics.version(), self.context.moment.wall_ms);
        let resolved = self.group.regexes.values();
        let Some(written) = resolved.map(|resolved| (resolved.version, resolved.resolved_at)).min() else {
            return;
        };
        let (checked_version, checked_at) = self.group.regexes_checked.unwrap_or(written).max(written);
        let is_due = checked_version < version && now.saturating_sub(checked_at) > REGEX_REFRESH_MIN_MS;
        let is_old = now.saturating_sub(written.1) > self.context.config.regex_refresh_interval_ms;
        if !is_due && !is_old {
            return;
        }
        let expressions: Vec<Arc<str>> = self.group.regexes.keys().cloned().collect();
        for expression in &expressions {
            let known = self.group.regexes.get(expression).map(|resolved| &resolved.topics);
            if is_old || known != Some(&self.meaning_of(expression)) {
                self.resolve(expression);
            }
        }
        self.group.regexes_checked = Some((version, now));
    }

    /// Raises the group epoch if the subscription, or what is known of the subscribed topics, is not what it was.
    fn note_topics(&mut self, subscription_changed: bool) {
        let version = self.context.topics.version();
        let first = self.group.epoch == 0;
        if !first && !subscription_changed && self.group.topics_checked == Some(version) && self.records.is_empty() {
            return;
        }
        let hash = self.metadata_hash();
        self.group.topics_checked = Some(version);
        if first || subscription_changed || hash != self.group.metadata_hash {
            self.raise_epoch(hash);
        }
    }

    /// The next group epoch: the target assignment is out of date.
    pub(super) fn raise_epoch(&mut self, metadata_hash: i64) {
        self.write(ConsumerPart::Group(Some(ConsumerGroupValue {
            epoch: self.group.epoch + 1,
            metadata_hash,
        })));
        if self.group.has_partition_metadata_record {
            self.write(ConsumerPart::PartitionMetadata { tombstone: true });
        }
    }

    /// A number that stands for the ids and partition counts of all subscribed topics; 0 if there are none.
    ///
    /// FNV-1a, because it is written down and must be the same after an update of the broker.
    pub(super) fn metadata_hash(&self) -> i64 {
        let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
        let mut any = false;
        let mut add = |bytes: &[u8]| {
            for byte in bytes {
                hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
            }
        };
        for name in self.group.subscribed_topics() {
            if let Some(topic) = self.context.topics.by_name(&name) {
                any = true;
                add(&topic.id.0);
                add(&(topic.partitions as u64).to_be_bytes());
            }
        }
        if any { hash.cast_signed() } else { 0 }
    }

    /// Takes the member one step towards its target.
    fn reconcile(&mut self, id: &Arc<str>, subscription_changed: bool, owned: Option<&Partitions>) {
        let Some(member) = self.group.members.get(id) else {
            return;
        };
        if !subscription_changed && member.is_reconciled_to(self.group.assignment_epoch) {
            return;
        }
        let subscribed: BTreeSet<Uuid> = self.topic_ids(member);
        let target = self.group.target(id);
        let owners = &self.group.owners;
        let step = Reconciliation {
            target_epoch: self.group.assignment_epoch,
            target: &target,
            subscribed: &subscribed,
            subscription_changed,
            owned,
            is_free: &|topic, partition| !owners.contains_key(&(topic, partition)),
        };
        // `check` has refused a member that must rejoin.
        let next = match step.step(member) {
            Ok(next) => next,
            Err(MustRejoin) => return,
        };
        if next.same_assignment(member) {
            return;
        }
        self.write(next.assignment_record());
        // Members of the classic protocol are watched by other alarms.
        if next.classic.is_none() {
            let kind = AlarmKind::Revocation { epoch: next.epoch };
            if next.state == MemberState::UnrevokedPartitions {
                let at = self.context.moment.now + milliseconds(next.rebalance_timeout_ms);
                self.group.alarms.set(id, kind, at);
            } else {
                self.group.alarms.cancel(id, kind);
            }
        }
    }

    /// The ids of the topics that a member subscribes to and that exist.
    pub(super) fn topic_ids(&self, member: &Member) -> BTreeSet<Uuid> {
        let by_regex = member.regex.as_ref().and_then(|regex| self.group.regexes.get(regex));
        let names = member
            .topics
            .iter()
            .chain(by_regex.into_iter().flat_map(|resolved| &resolved.topics));
        names
            .filter_map(|name| Some(self.context.topics.by_name(name)?.id))
            .collect()
    }
}
