//! Groups as they are shown: ListGroups and DescribeGroups.

use bytes::Bytes;
use std::sync::Arc;

use super::classic::{ClassicGroup, ClassicState, Member};
use super::{CONSUMER_PROTOCOL_TYPE, Group};

/// One line of ListGroups.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListedGroup {
    /// The group.
    pub group: Arc<str>,
    /// What its members call what they do; empty if it has only offsets.
    pub protocol_type: Arc<str>,
    /// Kafka's name of its state.
    pub state: &'static str,
    /// Kafka's name of its type.
    pub kind: &'static str,
}

/// A classic group as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClassicDescription {
    /// Kafka's name of its state.
    pub state: &'static str,
    /// What its members call what they do.
    pub protocol_type: Arc<str>,
    /// The protocol that was chosen, while the group is stable.
    pub protocol: Arc<str>,
    /// The members.
    pub members: Vec<MemberDescription>,
}

/// A member as DescribeGroups shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberDescription {
    /// Its id.
    pub member_id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's `client.id`.
    pub client_id: Arc<str>,
    /// The client's address.
    pub client_host: Arc<str>,
    /// What it said of itself under the chosen protocol, while the group is stable.
    pub metadata: Bytes,
    /// What it was given, while the group is stable.
    pub assignment: Bytes,
}

impl Group {
    pub(super) fn listed(&self, id: &Arc<str>) -> ListedGroup {
        match self {
            Group::Classic(group) => ListedGroup {
                group: Arc::clone(group.id()),
                protocol_type: group.protocol_type().cloned().unwrap_or_else(|| "".into()),
                state: group.state().name(),
                kind: "Classic",
            },
            Group::Consumer(group) => ListedGroup {
                group: Arc::clone(id),
                protocol_type: CONSUMER_PROTOCOL_TYPE.into(),
                state: group.state().name(),
                kind: "Consumer",
            },
        }
    }
}

impl ClassicGroup {
    pub(super) fn described(&self) -> ClassicDescription {
        let protocol = self.protocol().filter(|_| self.state() == ClassicState::Stable);
        let member = |member: &Member| MemberDescription {
            member_id: Arc::clone(&member.id),
            instance_id: member.instance_id.clone(),
            client_id: Arc::clone(&member.client_id),
            client_host: Arc::clone(&member.client_host),
            metadata: member.metadata(protocol.map(|name| &**name)),
            assignment: if protocol.is_some() {
                member.assignment.clone()
            } else {
                Bytes::new()
            },
        };
        ClassicDescription {
            state: self.state().name(),
            protocol_type: self.protocol_type().cloned().unwrap_or_else(|| "".into()),
            protocol: protocol.cloned().unwrap_or_else(|| "".into()),
            members: self.members().map(member).collect(),
        }
    }
}
