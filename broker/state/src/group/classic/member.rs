//! One member of a classic group.

use bytes::Bytes;
use ottla_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use std::sync::Arc;

use super::super::Ticket;
use super::super::record::ClassicMemberValue;

/// What a member costs apart from its strings and metadata, its alarms included.
const WEIGHT: usize = 512;

/// See the head of this file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub id: Arc<str>,
    /// `group.instance.id` of a static member.
    pub instance_id: Option<Arc<str>>,
    /// The client's `client.id`.
    pub client_id: Arc<str>,
    /// The client's address.
    pub client_host: Arc<str>,
    /// How long a rebalance waits for it.
    pub rebalance_timeout_ms: i32,
    /// How long it may be silent.
    pub session_timeout_ms: i32,
    /// Name and metadata of what it can do, best first. No name occurs twice.
    pub protocols: Vec<(Arc<str>, Bytes)>,
    /// What the leader gave it.
    pub assignment: Bytes,
    /// Where its JoinGroup waits.
    pub(super) awaiting_join: Option<Ticket>,
    /// Where its SyncGroup waits.
    pub(super) awaiting_sync: Option<Ticket>,
    /// It has not been through a rebalance yet, and may be removed even while it waits for one.
    pub(super) is_new: bool,
    /// A generation began without it, and it kept its place because it is static.
    pub(super) missed: bool,
}

impl Member {
    /// What it said of itself under `protocol`; empty if it does not know that.
    pub fn metadata(&self, protocol: Option<&str>) -> Bytes {
        let found = self.protocols.iter().find(|(name, _)| Some(&**name) == protocol);
        found.map(|(_, metadata)| metadata.clone()).unwrap_or_default()
    }

    /// Whether it would say the same again: names and metadata, in order.
    pub fn says(&self, protocols: &[(Arc<str>, Bytes)]) -> bool {
        self.protocols == protocols
    }

    /// Bytes that it takes in memory, roughly.
    pub fn weight(&self) -> usize {
        let protocols = self
            .protocols
            .iter()
            .map(|(name, metadata)| 64 + name.len() + metadata.len());
        let instance_id = self.instance_id.as_ref().map_or(0, |id| 2 * id.len());
        WEIGHT
            + 3 * self.id.len()
            + instance_id
            + self.client_id.len()
            + self.client_host.len()
            + self.assignment.len()
            + protocols.sum::<usize>()
    }

    /// The member as it is stored, under `protocol`.
    pub fn value(&self, protocol: Option<&str>) -> ClassicMemberValue {
        ClassicMemberValue {
            member_id: Arc::clone(&self.id),
            instance_id: self.instance_id.clone(),
            client_id: Arc::clone(&self.client_id),
            client_host: Arc::clone(&self.client_host),
            rebalance_timeout_ms: self.rebalance_timeout_ms,
            session_timeout_ms: self.session_timeout_ms,
            subscription: self.metadata(protocol),
            assignment: self.assignment.clone(),
        }
    }

    /// The member that was stored, which knows no protocol but that of its group.
    pub fn of(value: &ClassicMemberValue, protocol: Option<&Arc<str>>) -> Member {
        let protocols = protocol.map(|name| (Arc::clone(name), value.subscription.clone()));
        Member {
            id: Arc::clone(&value.member_id),
            instance_id: value.instance_id.clone(),
            client_id: Arc::clone(&value.client_id),
            client_host: Arc::clone(&value.client_host),
            rebalance_timeout_ms: value.rebalance_timeout_ms,
            session_timeout_ms: value.session_timeout_ms,
            protocols: protocols.into_iter().collect(),
            assignment: value.assignment.clone(),
            awaiting_join: None,
            awaiting_sync: None,
            is_new: false,
            missed: false,
        }
    }
}

/// The protocols of a request; of two with the same name the first.
pub fn protocols(requested: &[JoinGroupRequestProtocol<'_>]) -> Vec<(Arc<str>, Bytes)> {
    let mut protocols: Vec<(Arc<str>, Bytes)> = Vec::with_capacity(requested.len());
    for protocol in requested {
        if !protocols.iter().any(|(name, _)| **name == *protocol.name) {
            protocols.push((protocol.name.into(), Bytes::copy_from_slice(protocol.metadata)));
        }
    }
    protocols
}
