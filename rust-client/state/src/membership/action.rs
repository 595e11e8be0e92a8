//! What a member decides, and how it stands: the outputs that both group protocols share.

use std::fmt;
use std::sync::Arc;

use ottla_protocol::{ErrorCode, Uuid};

use super::message::{GroupRequest, RequestKind};
use crate::{Time, TopicPartition};

/// What the driver must do next. It executes actions in the order given, and invents none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Send this to the group's coordinator, looking the coordinator up if none is known; feed what comes of it to
    /// `handle_response` or `handle_failure`. Go on without waiting for the answer.
    Send(GroupRequest),
    /// Forget the coordinator that is cached: it is not there, or no longer the coordinator.
    FindCoordinator,
    /// Ask for the metadata of these topics, by name or by id, and feed all that is known to `handle_metadata` then, even
    /// if nothing came of it.
    RefreshMetadata {
        /// Topics by name.
        topics: Vec<Arc<str>>,
        /// Topics by id.
        ids: Vec<Uuid>,
    },
    /// Stop handing over these, commit what was processed of them, tell the application, then call `handle_revoked`.
    ///
    /// Until then nothing follows but heartbeats: another member may receive these partitions the moment they are let
    /// go. Only [`Action::Lost`] may come instead of waiting, and it ends the wait: `handle_revoked` is not called any
    /// more.
    Revoke {
        /// Never empty.
        partitions: Vec<TopicPartition>,
        /// Why.
        reason: RebalanceReason,
    },
    /// The assignment of a new generation: start the added ones from their committed offsets, tell the application, then
    /// call `handle_assigned` with its number. Ends every completed rebalance, even if nothing is added.
    ///
    /// Revoke and Lost end the wait. So does the application that unsubscribes or closes while it has nothing: then the
    /// next one may come with nothing between. Whoever is still busy with an earlier one does no harm by saying so late.
    Assign {
        /// Counts the assignments of this member, from 1.
        number: u64,
        /// What the member did not have before.
        added: Vec<TopicPartition>,
        /// All it has now.
        all: Vec<TopicPartition>,
        /// What commits are to be stamped with.
        generation: Generation,
    },
    /// The membership is gone without our consent, and with it these partitions. Commit nothing of them; tell the
    /// application. Not acknowledged. Revoke and Assign that are being executed end with it.
    Lost {
        /// What was held; may be empty.
        partitions: Vec<TopicPartition>,
        /// Why.
        reason: LostReason,
    },
    /// A rebalance begins, as the member sees it. To be told, not executed.
    Rebalance {
        /// Why.
        reason: RebalanceReason,
    },
    /// The application must be told. Unless the error [is final](GroupError::is_final) the member tries again with the
    /// next poll.
    Fail(GroupError),
}

/// Who the coordinator takes the member for: what a commit of offsets is stamped with.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Generation {
    /// The member's id.
    pub member_id: Arc<str>,
    /// The generation id (classic) or the member epoch (consumer).
    pub epoch: i32,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "generation {} of member {}", self.epoch, self.member_id)
    }
}

/// Why a rebalance begins or partitions are taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum RebalanceReason {
    /// The first join.
    Joining,
    /// The application changed its subscription.
    SubscriptionChanged,
    /// A subscribed topic has other partitions than when the leader divided them.
    MetadataChanged,
    /// The coordinator said that the group rebalances.
    GroupRebalancing,
    /// Partitions were given up for other members, who get them in the next generation.
    PartitionsGivenUp,
    /// The coordinator gives a new assignment (`consumer` protocol).
    NewAssignment,
    /// The membership was lost and is taken up again.
    Rejoining(LostReason),
    /// A request got an answer that asks for a new attempt.
    Retry {
        /// The request.
        request: RequestKind,
        /// The answer; `None` if there was none.
        code: Option<i16>,
    },
    /// The application asked for it.
    Enforced(Arc<str>),
    /// The application unsubscribed.
    Unsubscribed,
    /// The consumer closes.
    Closing,
}

impl fmt::Display for RebalanceReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RebalanceReason::Joining => write!(f, "the member joins"),
            RebalanceReason::SubscriptionChanged => write!(f, "the subscription has changed"),
            RebalanceReason::MetadataChanged => write!(f, "the partitions of a subscribed topic have changed"),
            RebalanceReason::GroupRebalancing => write!(f, "the group is already rebalancing"),
            RebalanceReason::PartitionsGivenUp => write!(f, "partitions were given up for other members"),
            RebalanceReason::NewAssignment => write!(f, "the coordinator has a new assignment"),
            RebalanceReason::Rejoining(reason) => write!(f, "the membership was lost: {reason}"),
            RebalanceReason::Retry { request, code } => {
                write!(f, "{} ", request.name())?;
                match code {
                    Some(code) => write!(f, "was answered with {}", CodeName(*code)),
                    None => write!(f, "got no answer"),
                }
            }
            RebalanceReason::Enforced(reason) => f.write_str(reason),
            RebalanceReason::Unsubscribed => write!(f, "the consumer unsubscribed from all topics"),
            RebalanceReason::Closing => write!(f, "the consumer is being closed"),
        }
    }
}

/// Why the membership was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LostReason {
    /// The coordinator answered that the member is not, or no longer, what it says.
    Fenced {
        /// The error code.
        code: i16,
    },
    /// No heartbeat was answered for as long as the session lasts, so the coordinator has given the member up.
    SessionExpired,
    /// No sign of life from the application for `max.poll.interval.ms`.
    PollIntervalExceeded,
    /// An error ended the membership; [`Action::Fail`] follows.
    Failed,
}

impl fmt::Display for LostReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LostReason::Fenced { code } => write!(f, "the coordinator answered {}", CodeName(*code)),
            LostReason::SessionExpired => write!(f, "no heartbeat was answered while the session lasted"),
            LostReason::PollIntervalExceeded => write!(f, "the application did not poll within max.poll.interval.ms"),
            LostReason::Failed => write!(f, "the member failed"),
        }
    }
}

/// An error code by name, or by number if it has none.
struct CodeName(i16);

impl fmt::Display for CodeName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match ErrorCode::from_code(self.0) {
            Some(code) => f.write_str(code.name()),
            None => write!(f, "error {}", self.0),
        }
    }
}

/// Why a member cannot be one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// The coordinator refused a request for good.
    #[error("{} was refused with {}{}", .request.name(), CodeName(*.code), told(.message.as_deref()))]
    Refused {
        /// The request.
        request: RequestKind,
        /// The error code.
        code: i16,
        /// The coordinator's words, if it had any.
        message: Option<Arc<str>>,
    },
    /// Another member has taken over the `group.instance.id`.
    #[error("another member uses the group.instance.id {instance_id}; every consumer of a group needs one of its own")]
    FencedInstanceId {
        /// The instance id.
        instance_id: Arc<str>,
    },
    /// The coordinator does not serve a request that the group protocol needs.
    #[error("the broker does not serve {}; it may be too old for the group.protocol or for group.instance.id", .request.name())]
    Unsupported {
        /// The request.
        request: RequestKind,
    },
    /// The request could not be sent, and repeating would not mend it.
    #[error("{} could not be sent: {reason}", .request.name())]
    Unsendable {
        /// The request.
        request: RequestKind,
        /// Why.
        reason: Arc<str>,
    },
    /// The group agreed on an assignor that this member does not have.
    #[error("the group agreed on the assignor {name:?}, which this member does not have")]
    UnknownAssignor {
        /// Its name.
        name: Arc<str>,
    },
    /// The assignor gave up, or its result cannot be used.
    #[error("the assignor {name} failed: {reason}")]
    Assignor {
        /// Its name.
        name: Arc<str>,
        /// Why.
        reason: Arc<str>,
    },
    /// The assignment from the group's leader cannot be read.
    #[error("the assignment from the group's leader is malformed: {reason}")]
    MalformedAssignment {
        /// What is wrong with it.
        reason: Arc<str>,
    },
    /// The assignors have no common way to rebalance.
    #[error("the assignors {names} have no rebalance protocol in common, or there are none")]
    NoCommonProtocol {
        /// Their names.
        names: Arc<str>,
    },
    /// A pattern was subscribed to under the classic protocol, whose coordinator does not know patterns.
    #[error("the classic protocol has no patterns: resolve them to topics first")]
    PatternNotResolved,
}

fn told(message: Option<&str>) -> String {
    message.map_or_else(String::new, |message| format!(": {message}"))
}

impl GroupError {
    /// Whether the member stays as it is until it subscribes anew. Otherwise it tries again with the next poll.
    pub const fn is_final(&self) -> bool {
        !matches!(
            self,
            GroupError::Refused { .. } | GroupError::MalformedAssignment { .. } | GroupError::Assignor { .. }
        )
    }

    /// The error code behind it, if a broker answered with one.
    pub fn code(&self) -> Option<i16> {
        match self {
            GroupError::Refused { code, .. } => Some(*code),
            GroupError::FencedInstanceId { .. } => Some(ErrorCode::FencedInstanceId.code()),
            GroupError::Unsupported { .. } => Some(ErrorCode::UnsupportedVersion.code()),
            _ => None,
        }
    }
}

/// Why a request got no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFailure {
    /// The connection could not be made, or broke before the answer came.
    Disconnected,
    /// No answer came in time.
    TimedOut,
    /// It was not sent, since nobody could say who the coordinator is; the error code of FindCoordinator if that was the
    /// answer.
    NoCoordinator(Option<i16>),
    /// The coordinator's versions of this request do not overlap with ours.
    UnsupportedVersion,
    /// Nothing that repeating would mend: wrong password, certificate refused.
    Refused(Arc<str>),
}

/// What a member is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    /// No subscription, no member.
    Unsubscribed,
    /// Wants to join or is joining; waits for the coordinator or for other members.
    Joining,
    /// Leads the group and waits for metadata to divide the partitions.
    Assigning,
    /// Waits for its assignment.
    Syncing,
    /// Waits for `handle_revoked`.
    Revoking,
    /// Waits for `handle_assigned`.
    TakingOver,
    /// A member with an assignment.
    Stable,
    /// Left the group because the application did not poll; waits for the next poll.
    PollExpired,
    /// Failed; waits for the next poll, or for a new subscription if the error was final.
    Failed,
    /// Leaves the group.
    Leaving,
    /// Left for good.
    Left,
}

/// What is wrong with the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CoordinatorTrouble {
    /// The request that met it last.
    pub request: RequestKind,
    /// The error code it was answered with; `None` when there was no answer.
    pub code: Option<i16>,
    /// Since when nothing has succeeded.
    pub since: Time,
    /// How many attempts failed since then.
    pub failures: u32,
}

/// How a member stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStateView {
    /// What it is doing.
    pub phase: Phase,
    /// Since when.
    pub since: Time,
    /// Its id; empty before it has one.
    pub member_id: Arc<str>,
    /// What commits are stamped with; `None` while it is no member.
    pub generation: Option<Generation>,
    /// Whether it leads the group (classic).
    pub is_leader: bool,
    /// The assignor of the current generation (classic).
    pub assignor: Option<Arc<str>>,
    /// What is wrong with the coordinator, if anything.
    pub trouble: Option<CoordinatorTrouble>,
    /// The last answered heartbeat, or other word from the coordinator that it knows the member.
    pub last_contact: Option<Time>,
    /// When the member gives up its partitions unless the application polls; `None` while there is nothing to give up.
    pub poll_deadline: Option<Time>,
    /// When the session ends unless the coordinator answers; `None` while there is none.
    pub session_deadline: Option<Time>,
}
