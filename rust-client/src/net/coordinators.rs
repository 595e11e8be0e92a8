//! Which broker coordinates a group.
//!
//! In: a group's id. Out: the broker that keeps its members and offsets. What was told is remembered until somebody finds it
//! wrong ([`Cluster::forget_coordinator`]). It asks once: who asks decides whether and when to try again.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ottla_client_state::metadata::Node;
use ottla_protocol::ErrorCode;
use ottla_protocol::messages::FindCoordinatorRequest;

use super::Lane;
use super::broker::Broker;
use super::cluster::Cluster;
use crate::error::{Error, ErrorKind, Result};

/// The newest version of FindCoordinator that is used.
const CAP: i16 = 6;

/// From this version on several keys may be asked for at once, and only so.
const BATCHES_FROM: i16 = 4;

/// The kind of coordinator that groups have.
const GROUP: i8 = 0;

/// The coordinators that are known, by group.
#[derive(Debug, Default)]
pub(super) struct Coordinators {
    known: Mutex<HashMap<Arc<str>, i32>>,
}

impl Coordinators {
    fn lock(&self) -> MutexGuard<'_, HashMap<Arc<str>, i32>> {
        // Entries are put in and taken out whole.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Cluster {
    /// The coordinator of `group`: the one that is remembered, or else the one that any broker names.
    ///
    /// # Errors
    /// No broker answered, the coordinator is not available yet (retriable), or the group may not be used.
    pub async fn coordinator(&self, group: &str) -> Result<Arc<Broker>> {
        let known = self.coordinators().lock().get(group).copied();
        if let Some(broker) = known.and_then(|id| self.broker(id).ok()) {
            return Ok(broker);
        }
        let broker = self.find_coordinator(group).await?;
        if let Some(id) = broker.id() {
            self.coordinators().lock().insert(group.into(), id);
        }
        Ok(broker)
    }

    /// The coordinator that is remembered, by its id.
    pub fn known_coordinator(&self, group: &str) -> Option<i32> {
        self.coordinators().lock().get(group).copied()
    }

    /// What was told about the coordinator of `group` has turned out to be wrong.
    pub fn forget_coordinator(&self, group: &str) {
        self.coordinators().lock().remove(group);
    }

    async fn find_coordinator(&self, group: &str) -> Result<Arc<Broker>> {
        let connection = self.any_broker().connection(Lane::Other).await?;
        let version = connection.version_of::<FindCoordinatorRequest<'_>>(CAP)?;
        let batches = version >= BATCHES_FROM;
        let request = FindCoordinatorRequest {
            key: if batches { "" } else { group },
            key_type: GROUP,
            coordinator_keys: if batches { vec![group] } else { Vec::new() },
        };
        let frame = connection.send(version, &request, self.request_timeout())?.await?;
        let response = frame.decode()?;
        let (code, words, id, host, port) = match response.coordinators.iter().find(|found| found.key == group) {
            Some(found) => (
                found.error_code,
                found.error_message,
                found.node_id,
                found.host,
                found.port,
            ),
            None if batches => {
                let text = format!("group {group:?}: the broker left the group out of its answer about coordinators");
                return Err(Error::new(ErrorKind::Protocol, text)
                    .with_retriable(true)
                    .with_broker(frame.broker()));
            }
            None => (
                response.error_code,
                response.error_message,
                response.node_id,
                response.host,
                response.port,
            ),
        };
        if code != 0 {
            let error = Error::from_code(code, format_args!("the coordinator of group {group:?}"));
            let error = match words.filter(|words| !words.is_empty() && *words != "NONE") {
                Some(words) => error.with_suffix(words),
                None => error,
            };
            return Err(error.with_broker(frame.broker()));
        }
        let Some(node) = Node::told(id, host, port, None) else {
            let text = format!("group {group:?}: {host}:{port} (broker {id}) cannot be the address of a coordinator");
            return Err(Error::new(ErrorKind::Broker, text)
                .with_code(ErrorCode::CoordinatorNotAvailable)
                .with_retriable(true)
                .with_broker(frame.broker()));
        };
        tracing::debug!(group, coordinator = id, "found the coordinator");
        Ok(self.learn(&node, frame.broker()))
    }
}
