//! The broker: what its parts share, and how they start and stop.

use crate::replica_manager::{Leadership, ReplicaManager};
use std::time::{SystemTime, UNIX_EPOCH};

/// What all connections of a broker share.
#[derive(Debug)]
pub struct BrokerShared {
    /// `node.id`.
    pub node_id: i32,
    /// The cluster this broker belongs to.
    pub cluster_id: String,
    /// The partitions on this broker.
    pub replica_manager: ReplicaManager,
}

/// A node and where to reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeAddress {
    /// Its `node.id`.
    pub id: i32,
    /// The advertised host.
    pub host: String,
    /// The advertised port.
    pub port: u16,
    /// Its `broker.rack`.
    pub rack: Option<String>,
}

/// A feature of the cluster, as ApiVersions tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Feature {
    /// The name, e.g. `metadata.version`.
    pub name: &'static str,
    /// The lowest level this broker can work at.
    pub min_level: i16,
    /// The highest level this broker can work at.
    pub max_level: i16,
    /// The level the cluster works at.
    pub level: i16,
}

impl BrokerShared {
    /// Where to reach the leaders named, on the listener named. Leaders that are not known are left out.
    pub fn nodes_of(&self, _listener: &str, _leaders: impl Iterator<Item = Leadership>) -> Vec<NodeAddress> {
        Vec::new()
    }

    /// The features of the cluster.
    pub fn finalized_features(&self) -> Vec<Feature> {
        Vec::new()
    }

    /// The metadata offset that this broker has applied; the epoch of the features.
    pub fn metadata_offset(&self) -> i64 {
        0
    }

    /// `fetch.max.bytes`.
    pub fn fetch_max_bytes(&self) -> usize {
        55 << 20
    }
}

/// The wall clock in milliseconds since 1970.
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
