//! Members that go: by their own wish, for a while, or because they were not heard of.

use super::alarms::AlarmKind;
use super::group::ConsumerGroup;
use super::heartbeat::{HeartbeatReply, HeartbeatRequest, fenced_instance, unknown_member};
use super::member::STATIC_LEAVE_EPOCH;
use super::subscribe::{Context, Operation};
use super::{EpochPartitions, GroupError};
use crate::group::record::ConsumerPart;
use ottla_protocol::ErrorCode;
use std::collections::BTreeSet;
use std::sync::Arc;

/// What becomes of a heartbeat that leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Leave {
    /// A static member will be back: these records say so.
    ForAWhile(Vec<ConsumerPart>),
    /// This member is to be taken out of the group.
    ForGood(Arc<str>),
}

impl ConsumerGroup {
    /// A heartbeat with epoch -1 or -2.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID or FENCED_INSTANCE_ID. The group is then as it was.
    pub(crate) fn leave(
        &mut self,
        request: &HeartbeatRequest,
        context: Context<'_>,
    ) -> Result<(Leave, HeartbeatReply), GroupError> {
        let id = &request.member_id;
        let member = match &request.instance_id {
            None => self.members.get(id).ok_or_else(|| unknown_member(id))?,
            Some(instance) => {
                let holder = self.static_member(instance).ok_or_else(|| {
                    GroupError::new(
                        ErrorCode::UnknownMemberId,
                        format!("Instance id {instance} is unknown."),
                    )
                })?;
                if holder.id != *id {
                    return Err(fenced_instance(id, instance, &holder.id));
                }
                holder
            }
        };
        let reply = HeartbeatReply {
            member_id: id.clone(),
            member_epoch: request.member_epoch,
            heartbeat_interval_ms: 0,
            assignment: None,
        };
        if request.member_epoch != STATIC_LEAVE_EPOCH {
            return Ok((Leave::ForGood(member.id.clone()), reply));
        }
        let mut away = member.clone();
        away.epoch = STATIC_LEAVE_EPOCH;
        away.pending_revocation = EpochPartitions::new();
        let mut operation = Operation::new(self, context);
        operation.write(away.assignment_record());
        let records = operation.records;
        // Its session goes on: that long it may be away. It owns nothing meanwhile, so it has nothing to give up.
        self.alarms.cancel(id, AlarmKind::Revocation { epoch: 0 });
        self.forget_reported(id);
        Ok((Leave::ForAWhile(records), reply))
    }

    /// Takes members out of the group; those who stay share what was theirs.
    pub(crate) fn remove_members(&mut self, ids: &BTreeSet<Arc<str>>, context: Context<'_>) -> Vec<ConsumerPart> {
        let mut operation = Operation::new(self, context);
        let mut regexes: BTreeSet<Arc<str>> = BTreeSet::new();
        let mut any = false;
        for id in ids {
            if let Some(member) = operation.group.members.get(id) {
                any = true;
                regexes.extend(member.regex.clone());
                operation.remove(id);
            }
        }
        if any {
            for regex in &regexes {
                operation.drop_regex_if_unused(regex);
            }
            let hash = operation.metadata_hash();
            operation.raise_epoch(hash);
        }
        operation.records
    }

    /// The next member whose time is up. `None` if there is none; call again after it was taken out.
    pub(crate) fn next_overdue(&mut self, context: Context<'_>) -> Option<Arc<str>> {
        while let Some((id, kind)) = self.alarms.take_due(context.moment.now) {
            let Some(member) = self.members.get(&id) else { continue };
            // It has given up what it was to give up, and may be giving up something else by now.
            let is_over = matches!(kind, AlarmKind::Revocation { epoch } if member.epoch != epoch);
            if !is_over {
                return Some(id);
            }
        }
        None
    }
}

impl Operation<'_> {
    /// The tombstones of a member, in the order that a replay bears.
    pub(super) fn remove(&mut self, id: &Arc<str>) {
        let member_id = || id.clone();
        self.write(ConsumerPart::CurrentAssignment {
            member_id: member_id(),
            value: None,
        });
        self.write(ConsumerPart::TargetMember {
            member_id: member_id(),
            value: None,
        });
        self.write(ConsumerPart::Member {
            member_id: member_id(),
            value: None,
        });
    }
}
