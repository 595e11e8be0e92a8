//! May this member commit, or read what was committed?
//!
//! A member may commit with its own epoch. With an older one (the newer has not reached it yet) it may commit for
//! partitions that it had in that epoch already and still has: nobody else can have read them since.

use super::GroupError;
use super::group::ConsumerGroup;
use super::heartbeat::unknown_member;
use super::member::Member;
use ottla_protocol::{ErrorCode, Uuid};

/// From this version on OffsetCommit may carry a member epoch.
const COMMIT_WITH_MEMBER_EPOCH: i16 = 9;

impl ConsumerGroup {
    /// Judges an OffsetCommit of version `version`, or a TxnOffsetCommit, as a whole. If its epoch is older than the
    /// member's, each partition has to be judged as well: [`Self::may_commit_partition`].
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, UNSUPPORTED_VERSION, and ILLEGAL_GENERATION for classic members.
    pub fn check_commit(
        &self,
        member_id: &str,
        epoch: i32,
        transactional: bool,
        version: i16,
    ) -> Result<(), GroupError> {
        // An administrator, or a consumer that assigns itself, as long as no member can mind.
        if epoch < 0 && (self.members.is_empty() || (transactional && member_id.is_empty())) {
            return Ok(());
        }
        let member = self.members.get(member_id).ok_or_else(|| unknown_member(member_id))?;
        if !transactional && member.classic.is_none() && version < COMMIT_WITH_MEMBER_EPOCH {
            let message = format!(
                "OffsetCommit version {version} or older is not supported with the consumer protocol; \
                 version {COMMIT_WITH_MEMBER_EPOCH} is the first that is."
            );
            return Err(GroupError::new(ErrorCode::UnsupportedVersion, message));
        }
        if epoch <= member.epoch {
            return Ok(());
        }
        Err(wrong_epoch(member, epoch))
    }

    /// What a member that is at a newer epoch is told when it commits for this partition with `epoch`.
    ///
    /// # Errors
    /// STALE_MEMBER_EPOCH, or ILLEGAL_GENERATION for classic members, unless it has the partition since then.
    pub fn may_commit_partition(&self, id: &str, epoch: i32, topic: Uuid, partition: i32) -> Result<(), ErrorCode> {
        let member = self.members.get(id).ok_or(ErrorCode::UnknownMemberId)?;
        let since = [&member.assigned, &member.pending_revocation]
            .into_iter()
            .find_map(|partitions| partitions.get(&topic)?.get(&partition));
        match since {
            Some(since) if *since <= epoch => Ok(()),
            _ => Err(wrong_epoch(member, epoch).code),
        }
    }

    /// Judges an OffsetFetch. Without a member (from an administrator, or an old client) everything may be read.
    ///
    /// # Errors
    /// UNKNOWN_MEMBER_ID, STALE_MEMBER_EPOCH, and ILLEGAL_GENERATION for classic members.
    pub fn check_fetch(&self, member_id: Option<&str>, epoch: i32) -> Result<(), GroupError> {
        let Some(id) = member_id else {
            return if epoch < 0 { Ok(()) } else { Err(unknown_member("")) };
        };
        let member = self.members.get(id).ok_or_else(|| unknown_member(id))?;
        if epoch == member.epoch {
            return Ok(());
        }
        Err(wrong_epoch(member, epoch))
    }
}

fn wrong_epoch(member: &Member, received: i32) -> GroupError {
    if member.classic.is_some() {
        let message = format!(
            "The received generation id {received} does not match the expected member epoch {}.",
            member.epoch
        );
        return GroupError::new(ErrorCode::IllegalGeneration, message);
    }
    let message = format!(
        "The received member epoch {received} does not match the expected member epoch {}.",
        member.epoch
    );
    GroupError::new(ErrorCode::StaleMemberEpoch, message)
}
