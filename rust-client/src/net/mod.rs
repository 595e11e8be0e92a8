//! The only folder that may name a socket.
//!
//! | room | knows |
//! |---|---|
//! | [`transport`] | how bytes get to a broker: TCP, or TLS over it |
//! | [`tls`] | whom to trust, who we are, and what a failed handshake means |
//! | [`sasl`] | how the client says who it is |
//! | [`connection`] | one stream: requests in order, answers in order, one cause when it dies |
//! | [`broker`] | one broker: a connection for each lane, versions, reconnecting |
//! | [`cluster`] | all brokers: who is where, who leads what, when to ask again |
//! | [`coordinators`] | which broker coordinates a group |

pub(crate) mod broker;
pub(crate) mod cluster;
pub(crate) mod connection;
pub(crate) mod coordinators;
mod frame_reader;
mod frame_shelf;
pub(crate) mod request;
mod sasl;
#[cfg(test)]
mod tests;
pub(crate) mod tls;
mod transport;

/// What a connection is used for. Each has its own, so that a long poll delays nothing else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Lane {
    /// Produce requests.
    Produce,
    /// Fetch requests, which a broker may park.
    Fetch,
    /// What keeps a member of a group alive and its offsets safe: heartbeats, commits, leaving. Nothing here is parked.
    Group,
    /// Joining a group, which a coordinator parks until the whole group has joined.
    Join,
    /// Everything else.
    Other,
}

impl Lane {
    const COUNT: usize = 5;

    fn index(self) -> usize {
        match self {
            Lane::Produce => 0,
            Lane::Fetch => 1,
            Lane::Group => 2,
            Lane::Join => 3,
            Lane::Other => 4,
        }
    }
}
