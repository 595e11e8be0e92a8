//! One file per API: what a request means and what it answers.
//!
//! In: a decoded request and the [`Context`] of its connection. Out: a [`Reply`].
//! A handler knows nothing of sockets and frames; `dispatch` decodes for it and the connection writes for it.
//!
//! The header comment of each file says which versions it serves, in which order it checks, and what it refuses.

use crate::broker::BrokerShared;
use crate::security::sasl::Session;
use ottla_protocol::frame::{self, RequestHeader};
use ottla_protocol::wire::{EncodeError, Pieces};
use ottla_protocol::{ApiKey, Message};
use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

pub mod api_versions;
pub mod consumer_group_describe;
pub mod consumer_group_heartbeat;
pub mod create_partitions;
pub mod create_topics;
pub mod delete_groups;
pub mod delete_topics;
pub mod describe_cluster;
pub mod describe_configs;
pub mod describe_groups;
pub mod describe_topic_partitions;
pub mod fetch;
pub mod find_coordinator;
pub mod groups;
pub mod heartbeat;
pub mod incremental_alter_configs;
pub mod init_producer_id;
pub mod join_group;
pub mod leave_group;
pub mod list_groups;
pub mod list_offsets;
pub mod metadata;
pub mod offset_commit;
pub mod offset_delete;
pub mod offset_fetch;
pub mod offset_for_leader_epoch;
pub mod produce;
pub mod sasl_authenticate;
pub mod sasl_handshake;
pub mod sync_group;

/// What a handler may use: the broker, and who is asking.
#[derive(Debug, Clone)]
pub struct Context {
    /// The broker this connection belongs to.
    pub broker: Arc<BrokerShared>,
    /// The other end of the connection.
    pub peer: SocketAddr,
    /// The name of the listener that accepted it (`listeners`, e.g. `PLAINTEXT`): decides which address is advertised.
    pub listener: Arc<str>,
    /// The connection's number: 1 for the first that the broker accepted.
    pub connection: u64,
    /// Who is asking; `None` on a listener that does not ask who it is.
    pub sasl: Option<Arc<Session>>,
}

impl Context {
    /// Encodes `response` as the answer to the request with `header`.
    ///
    /// A response that cannot be encoded in the version asked for (a string too long for it, say) closes the
    /// connection: half an answer would poison it anyway.
    pub fn reply<'a, M: Message<'a>>(&self, header: &RequestHeader<'_>, response: &M) -> Reply {
        let Some(key) = ApiKey::from_code(header.api_key) else {
            return Reply::Close(CloseReason::UnknownApi { key: header.api_key });
        };
        ReplyTo::new(key, header).with(response)
    }
}

/// What is left of a request once it is parked: enough to answer it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplyTo {
    /// The API that was called.
    pub key: ApiKey,
    /// In this version.
    pub version: i16,
    /// The client's number for the request.
    pub correlation_id: i32,
}

impl ReplyTo {
    /// Where to answer the request to `key` with this header.
    pub fn new(key: ApiKey, header: &RequestHeader<'_>) -> Self {
        ReplyTo {
            key,
            version: header.api_version,
            correlation_id: header.correlation_id,
        }
    }

    /// Encodes `response` as the answer.
    pub fn with<'a, M: Message<'a>>(self, response: &M) -> Reply {
        match frame::encode_response(self.key, self.version, self.correlation_id, response) {
            Ok(pieces) => Reply::Now(pieces),
            Err(error) => Reply::Close(CloseReason::Encode { key: self.key, error }),
        }
    }
}

/// What becomes of a request.
pub enum Reply {
    /// The answer, ready to be written.
    Now(Pieces),
    /// The effects are done and in order; the answer comes when the future does. It is polled on the task of its
    /// connection, when all earlier answers have left, and dropped with the connection.
    Parked(Pin<Box<dyn Future<Output = Reply> + Send>>),
    /// No answer is wanted (`acks=0`).
    Nothing,
    /// These bytes, when all earlier answers have left, and nothing after them: a fault closes the connection.
    Last(Pieces),
    /// The answer, when all earlier ones have left, and nothing after it: the connection cannot go on.
    Farewell(Pieces, CloseReason),
    /// The connection cannot go on.
    Close(CloseReason),
}

impl Reply {
    /// The same answer, after which the connection is closed.
    pub fn and_close(self, reason: CloseReason) -> Reply {
        match self {
            Reply::Now(pieces) => Reply::Farewell(pieces, reason),
            other => other,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Now(pieces) => write!(f, "Now({} bytes)", pieces.len()),
            Reply::Parked(_) => f.write_str("Parked"),
            Reply::Nothing => f.write_str("Nothing"),
            Reply::Last(pieces) => write!(f, "Last({} bytes)", pieces.len()),
            Reply::Farewell(pieces, reason) => write!(f, "Farewell({} bytes, {reason})", pieces.len()),
            Reply::Close(reason) => write!(f, "Close({reason})"),
        }
    }
}

/// Why a handler wants its connection closed; written to the log.
#[derive(Debug, thiserror::Error)]
pub enum CloseReason {
    /// The frame is not a request, or not in the version it claims.
    #[error("malformed request: {0}")]
    Malformed(#[from] ottla_protocol::wire::DecodeError),
    /// Kafka has no API with this key.
    #[error("unknown API key {key}")]
    UnknownApi {
        /// The key in the request header.
        key: i16,
    },
    /// Kafka has this API, but this broker serves another range of versions, or none.
    #[error("{} version {version} is not served", .key.name())]
    NotServed {
        /// The API.
        key: ApiKey,
        /// The version asked for.
        version: i16,
    },
    /// Nobody has said who they are.
    #[error("{} before authentication (ILLEGAL_SASL_STATE); set security.protocol and sasl.mechanism in the client", .key.name())]
    NotAuthenticated {
        /// The API that was called.
        key: ApiKey,
    },
    /// `connections.max.reauth.ms` is over.
    #[error("the client did not authenticate again within connections.max.reauth.ms")]
    SessionExpired,
    /// The client wants a mechanism that the listener does not have.
    #[error("the client asks for a SASL mechanism that is not enabled; these are: {}", .enabled.join(", "))]
    UnsupportedMechanism {
        /// `sasl.enabled.mechanisms`.
        enabled: Vec<&'static str>,
    },
    /// It is not who it says. In the words of the answer.
    #[error("{0}")]
    AuthenticationFailed(String),
    /// A produce request that wanted no answer failed; closing is the only way to tell.
    #[error("produce with acks=0 failed: {0}")]
    SilentProduce(String),
    /// The answer cannot be expressed in the version asked for.
    #[error("cannot encode the {} response: {error}", .key.name())]
    Encode {
        /// The API.
        key: ApiKey,
        /// What does not fit.
        error: EncodeError,
    },
}
