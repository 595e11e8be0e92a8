//! Leaving: by itself, or made to by an administrator.

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::leave_group_request::MemberIdentity;
use std::sync::Arc;

use super::super::LeftMember;
use super::super::shard::Turn;
use super::ClassicGroup;

impl ClassicGroup {
    /// Members leave: one result for each, in their order. The others rebalance if one has left.
    pub(in super::super) fn leave(&mut self, members: &[MemberIdentity<'_>], turn: &mut Turn<'_>) -> Vec<LeftMember> {
        let mut somebody_left = false;
        let mut left = |identity: &MemberIdentity<'_>| {
            let error = match self.leave_one(identity, turn) {
                Ok(()) => ErrorCode::None,
                Err(error) => error,
            };
            somebody_left |= error == ErrorCode::None;
            LeftMember {
                member_id: identity.member_id.into(),
                instance_id: identity.group_instance_id.map(Arc::from),
                error,
            }
        };
        let results = members.iter().map(&mut left).collect();
        if somebody_left {
            self.after_removal(turn);
        }
        results
    }

    fn leave_one(&mut self, identity: &MemberIdentity<'_>, turn: &mut Turn<'_>) -> Result<(), ErrorCode> {
        if identity.member_id.is_empty() {
            // An administrator removes a static member by its instance, whatever its id is now.
            let id = identity
                .group_instance_id
                .and_then(|instance| self.static_members.get(instance));
            let id = id.cloned().ok_or(ErrorCode::UnknownMemberId)?;
            self.remove(&id, ErrorCode::UnknownMemberId, turn);
            return Ok(());
        }
        if self.forget_pending(identity.member_id, turn) {
            return Ok(());
        }
        let member = self.check_member(identity.member_id, identity.group_instance_id)?;
        let id = Arc::clone(&member.id);
        self.remove(&id, ErrorCode::UnknownMemberId, turn);
        Ok(())
    }
}
