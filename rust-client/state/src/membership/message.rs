//! What a member and the coordinator of its group say to each other, with the fields that matter.
//!
//! Owned and small; the body turns them into the messages of the version that the coordinator speaks, and back. A field
//! that a version lacks is left out.

use std::sync::Arc;

use bytes::Bytes;
use ottla_protocol::Uuid;

/// The requests of a member, without their contents.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RequestKind {
    /// JoinGroup.
    JoinGroup,
    /// SyncGroup.
    SyncGroup,
    /// Heartbeat.
    Heartbeat,
    /// LeaveGroup.
    LeaveGroup,
    /// ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeat,
}

impl RequestKind {
    /// The name of the API, as Kafka has it.
    pub const fn name(self) -> &'static str {
        match self {
            RequestKind::JoinGroup => "JoinGroup",
            RequestKind::SyncGroup => "SyncGroup",
            RequestKind::Heartbeat => "Heartbeat",
            RequestKind::LeaveGroup => "LeaveGroup",
            RequestKind::ConsumerGroupHeartbeat => "ConsumerGroupHeartbeat",
        }
    }
}

/// A request to the coordinator of the group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupRequest {
    /// Joins the group; answered when all members have joined.
    JoinGroup(JoinGroup),
    /// Fetches the assignment; brings it, if from the leader.
    SyncGroup(SyncGroup),
    /// A sign of life.
    Heartbeat(Heartbeat),
    /// Leaves the group.
    LeaveGroup(LeaveGroup),
    /// The only request of the `consumer` protocol (KIP-848).
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeat),
}

impl GroupRequest {
    /// Which request it is.
    pub const fn kind(&self) -> RequestKind {
        match self {
            GroupRequest::JoinGroup(_) => RequestKind::JoinGroup,
            GroupRequest::SyncGroup(_) => RequestKind::SyncGroup,
            GroupRequest::Heartbeat(_) => RequestKind::Heartbeat,
            GroupRequest::LeaveGroup(_) => RequestKind::LeaveGroup,
            GroupRequest::ConsumerGroupHeartbeat(_) => RequestKind::ConsumerGroupHeartbeat,
        }
    }

    /// How long the coordinator may rightly take to answer, in milliseconds, where that is longer than for other
    /// requests: a JoinGroup waits for the slowest member, and some seconds more for the answer to travel.
    pub fn patience_ms(&self) -> Option<u64> {
        match self {
            GroupRequest::JoinGroup(join) => {
                Some(u64::try_from(join.rebalance_timeout_ms).unwrap_or(0) + JOIN_GRACE_MS)
            }
            _ => None,
        }
    }
}

/// What the Java client adds to the rebalance timeout before it gives up on a JoinGroup.
const JOIN_GRACE_MS: u64 = 5_000;

/// JoinGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinGroup {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// `session.timeout.ms`.
    pub session_timeout_ms: i32,
    /// `max.poll.interval.ms`: how long the coordinator waits for this member in a rebalance.
    pub rebalance_timeout_ms: i32,
    /// Empty before the coordinator has given one.
    pub member_id: Arc<str>,
    /// `group.instance.id` (versions 5 and above).
    pub group_instance_id: Option<Arc<str>>,
    /// Name of the assignor and encoded subscription, by preference.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// Why it joins (versions 8 and above, KIP-800).
    pub reason: Arc<str>,
}

/// SyncGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SyncGroup {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// The generation that JoinGroup was answered with.
    pub generation_id: i32,
    /// The member.
    pub member_id: Arc<str>,
    /// `group.instance.id` (versions 3 and above).
    pub group_instance_id: Option<Arc<str>>,
    /// The assignor that the group agreed on (versions 5 and above).
    pub protocol_name: Arc<str>,
    /// Member id and encoded assignment, if the member leads.
    pub assignments: Vec<(Arc<str>, Bytes)>,
}

/// Heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// The generation.
    pub generation_id: i32,
    /// The member.
    pub member_id: Arc<str>,
    /// `group.instance.id` (versions 3 and above).
    pub group_instance_id: Option<Arc<str>>,
}

/// LeaveGroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaveGroup {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// The member.
    pub member_id: Arc<str>,
    /// `group.instance.id` (versions 3 and above).
    pub group_instance_id: Option<Arc<str>>,
    /// Why it leaves (versions 5 and above, KIP-800).
    pub reason: Arc<str>,
}

/// ConsumerGroupHeartbeat. `None` means "as said before".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeat {
    /// `group.id`.
    pub group_id: Arc<str>,
    /// The member, which chooses its id itself.
    pub member_id: Arc<str>,
    /// 0 to join, -1 to leave, -2 to leave as a static member that will be back.
    pub member_epoch: i32,
    /// `group.instance.id`.
    pub instance_id: Option<Arc<str>>,
    /// `client.rack`.
    pub rack_id: Option<Arc<str>>,
    /// `max.poll.interval.ms`; `None` goes out as -1.
    pub rebalance_timeout_ms: Option<i32>,
    /// The topics subscribed to by name.
    pub subscribed_topic_names: Option<Vec<Arc<str>>>,
    /// The pattern subscribed to, evaluated by the coordinator (version 1); empty to withdraw one.
    pub subscribed_topic_regex: Option<Arc<str>>,
    /// `group.remote.assignor`.
    pub server_assignor: Option<Arc<str>>,
    /// The partitions that the member owns, by topic id.
    pub topic_partitions: Option<Vec<(Uuid, Vec<i32>)>>,
}

/// An answer of the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GroupResponse {
    /// To JoinGroup.
    JoinGroup(JoinGroupAnswer),
    /// To SyncGroup.
    SyncGroup(SyncGroupAnswer),
    /// To Heartbeat: the error code.
    Heartbeat(i16),
    /// To LeaveGroup: the error code of the request or, failing that, of its member.
    LeaveGroup(i16),
    /// To ConsumerGroupHeartbeat.
    ConsumerGroupHeartbeat(ConsumerGroupHeartbeatAnswer),
}

impl GroupResponse {
    /// The request that it answers.
    pub const fn kind(&self) -> RequestKind {
        match self {
            GroupResponse::JoinGroup(_) => RequestKind::JoinGroup,
            GroupResponse::SyncGroup(_) => RequestKind::SyncGroup,
            GroupResponse::Heartbeat(_) => RequestKind::Heartbeat,
            GroupResponse::LeaveGroup(_) => RequestKind::LeaveGroup,
            GroupResponse::ConsumerGroupHeartbeat(_) => RequestKind::ConsumerGroupHeartbeat,
        }
    }
}

/// The answer to JoinGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinGroupAnswer {
    /// 0, or why not.
    pub error_code: i16,
    /// The new generation.
    pub generation_id: i32,
    /// The assignor that the group agreed on.
    pub protocol_name: Option<Arc<str>>,
    /// The member id of the leader.
    pub leader: Arc<str>,
    /// The leader is to leave the assignment as it is (KIP-814).
    pub skip_assignment: bool,
    /// The member's own id.
    pub member_id: Arc<str>,
    /// All members, if this one leads.
    pub members: Vec<JoinedMember>,
}

/// A member in the answer that the leader gets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JoinedMember {
    /// Its id.
    pub member_id: Arc<str>,
    /// Its `group.instance.id`.
    pub group_instance_id: Option<Arc<str>>,
    /// Its encoded subscription.
    pub metadata: Bytes,
}

/// The answer to SyncGroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SyncGroupAnswer {
    /// 0, or why not.
    pub error_code: i16,
    /// The assignor that the group agreed on (versions 5 and above).
    pub protocol_name: Option<Arc<str>>,
    /// The member's encoded assignment.
    pub assignment: Bytes,
}

/// The answer to ConsumerGroupHeartbeat.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ConsumerGroupHeartbeatAnswer {
    /// 0, or why not.
    pub error_code: i16,
    /// The coordinator's words for the error.
    pub error_message: Option<Arc<str>>,
    /// The member's id, where the coordinator chose it (version 0).
    pub member_id: Option<Arc<str>>,
    /// The member's epoch.
    pub member_epoch: i32,
    /// The interval of heartbeats from now on.
    pub heartbeat_interval_ms: i32,
    /// All that the member is to have, by topic id; `None` when nothing has changed.
    pub assignment: Option<Vec<(Uuid, Vec<i32>)>>,
}
