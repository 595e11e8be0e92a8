//! From a frame to a handler and back: the table of what is served, and the only big match.
//!
//! In: one request frame. Out: a [`Reply`].
//! It checks the version before it decodes the body. What is refused:
//! - an ApiVersions request in an unknown version: answered in version 0, with UNSUPPORTED_VERSION *and* the list, so
//!   that a newer client can choose again;
//! - a Produce request in version 0, 1 or 2: answered with UNSUPPORTED_VERSION in its own shape (these are advertised,
//!   see [`served_apis`], but never carried out);
//! - any other API or version that is not in the table, and bytes that do not decode: the connection is closed with a
//!   line in the log, as Kafka does, because no answer could be read by that client;
//! - on a listener with SASL, before authentication: everything but ApiVersions and the two that authenticate.

use crate::handlers::{self, CloseReason, Context, Reply, ReplyTo};
use crate::security::sasl::{Admission, Session};
use ottla_protocol::ApiKey;
use ottla_protocol::Message;
use ottla_protocol::frame::{self, RequestHeader};
use ottla_protocol::messages;
use ottla_protocol::wire::{DecodeError, Reader};
use tokio::time::Instant;

/// One row of the table of served APIs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServedApi {
    /// The API.
    pub key: ApiKey,
    /// The lowest version that is carried out.
    pub min_version: i16,
    /// The highest version that is carried out.
    pub max_version: i16,
    /// The lowest version that ApiVersions announces. Differs from `min_version` for Produce only.
    pub advertised_min_version: i16,
}

const fn served(key: ApiKey, min_version: i16, max_version: i16) -> ServedApi {
    ServedApi {
        key,
        min_version,
        max_version,
        advertised_min_version: min_version,
    }
}

/// Ordered by key. The versions are those of Apache Kafka 4.4; a test compares them with the message definitions.
const SERVED: &[ServedApi] = &[
    // librdkafka takes a lowest version above 0 to mean a broker too old for compression (KAFKA-18659), so 0 to 2 are
    // announced, and refused when they come.
    ServedApi {
        advertised_min_version: 0,
        ..served(ApiKey::Produce, 3, 13)
    },
    served(ApiKey::Fetch, 4, 18),
    served(ApiKey::ListOffsets, 1, 11),
    served(ApiKey::Metadata, 0, 13),
    served(ApiKey::OffsetCommit, 2, 10),
    served(ApiKey::OffsetFetch, 1, 10),
    served(ApiKey::FindCoordinator, 0, 6),
    served(ApiKey::JoinGroup, 0, 9),
    served(ApiKey::Heartbeat, 0, 4),
    served(ApiKey::LeaveGroup, 0, 5),
    served(ApiKey::SyncGroup, 0, 5),
    served(ApiKey::DescribeGroups, 0, 6),
    served(ApiKey::ListGroups, 0, 5),
    served(ApiKey::SaslHandshake, 0, 1),
    served(ApiKey::ApiVersions, 0, 5),
    served(ApiKey::CreateTopics, 2, 7),
    served(ApiKey::DeleteTopics, 1, 6),
    // Version 6 is unstable in Kafka 4.4.
    served(ApiKey::InitProducerId, 0, 5),
    served(ApiKey::OffsetForLeaderEpoch, 2, 4),
    served(ApiKey::DescribeConfigs, 1, 4),
    served(ApiKey::SaslAuthenticate, 0, 2),
    served(ApiKey::CreatePartitions, 0, 3),
    served(ApiKey::DeleteGroups, 0, 3),
    served(ApiKey::IncrementalAlterConfigs, 0, 1),
    served(ApiKey::OffsetDelete, 0, 0),
    served(ApiKey::DescribeCluster, 0, 2),
    served(ApiKey::ConsumerGroupHeartbeat, 0, 1),
    served(ApiKey::ConsumerGroupDescribe, 0, 1),
    served(ApiKey::DescribeTopicPartitions, 0, 0),
];

/// Which APIs this broker carries out, and in which versions, ordered by key.
///
/// ApiVersions answers with this table, and the README prints it.
pub fn served_apis() -> &'static [ServedApi] {
    SERVED
}

fn is_served(key: ApiKey, version: i16) -> bool {
    SERVED
        .iter()
        .any(|api| api.key == key && (api.min_version..=api.max_version).contains(&version))
}

/// In tests, requests of the client with this id panic.
#[cfg(test)]
pub(crate) const PANICKING_CLIENT: &str = "panic";

/// Carries out one request. Effects have happened, in the order of the calls, when this returns.
pub async fn dispatch(context: &Context, frame: &[u8]) -> Reply {
    if context
        .sasl
        .as_ref()
        .is_some_and(|session| session.takes_bare_messages())
    {
        return handlers::sasl_authenticate::bare(context, frame);
    }
    let (header, body_at) = match frame::decode_request_header(frame) {
        Ok(decoded) => decoded,
        Err(error) => return Reply::Close(CloseReason::Malformed(error)),
    };
    let Some(key) = ApiKey::from_code(header.api_key) else {
        return Reply::Close(CloseReason::UnknownApi { key: header.api_key });
    };
    #[cfg(test)]
    assert_ne!(header.client_id, Some(PANICKING_CLIENT), "as the test wants it");
    let to = ReplyTo::new(key, &header);
    if let Some(session) = &context.sasl
        && let Some(reply) = turn_away(session, to)
    {
        return reply;
    }
    if !is_served(key, header.api_version) {
        return refuse(to, frame.get(body_at..).unwrap_or_default());
    }
    route(context, key, &header, frame.get(body_at..).unwrap_or_default()).await
}

/// What a request gets that comes at the wrong time of an authentication; `None` if it does not.
fn turn_away(session: &Session, to: ReplyTo) -> Option<Reply> {
    let key = to.key;
    let reason = CloseReason::NotAuthenticated { key };
    Some(match session.admit(key, Instant::now()) {
        Admission::CarryOut => return None,
        Admission::Ignore => Reply::Nothing,
        Admission::TooEarly => Reply::Close(reason),
        Admission::Expired => Reply::Close(CloseReason::SessionExpired),
        Admission::IllegalState if !is_served(key, to.version) => Reply::Close(reason),
        Admission::IllegalState if key == ApiKey::SaslHandshake => {
            to.with(&handlers::sasl_handshake::illegal_state()).and_close(reason)
        }
        Admission::IllegalState => to.with(&handlers::api_versions::illegal_sasl_state()).and_close(reason),
    })
}

fn refuse(to: ReplyTo, body: &[u8]) -> Reply {
    match (to.key, to.version) {
        (ApiKey::ApiVersions, _) => handlers::api_versions::unsupported_version(to),
        (ApiKey::Produce, 0..=2) => handlers::produce::unsupported_version(to, body),
        (key, version) => Reply::Close(CloseReason::NotServed { key, version }),
    }
}

/// What the elements of one request may take in memory: 100,000 partitions in a Fetch, 250,000 names in a Metadata
/// request. `socket.request.max.bytes` is for records, which stay where they are; of smaller things it would hold
/// millions, each of which costs more in memory, and again in the answer.
const ELEMENTS_BYTES: usize = 8 << 20;

fn decode<'a, M: Message<'a>>(header: &RequestHeader<'_>, body: &'a [u8]) -> Result<M, DecodeError> {
    M::decode(&mut Reader::new(body).with_budget(ELEMENTS_BYTES), header.api_version)
}

/// Decodes the body as `$request` and calls the handler of `$room`; a body that does not decode closes the connection.
macro_rules! call {
    ($context:ident, $header:ident, $body:ident, $request:ident, $room:ident) => {
        match decode::<messages::$request>($header, $body) {
            // Boxed: one slow API must not make the task of every connection as large as its own state.
            Ok(request) => Box::pin(handlers::$room::handle($context, $header, request)).await,
            Err(error) => Reply::Close(CloseReason::Malformed(error)),
        }
    };
}

#[rustfmt::skip] // One line an API.
async fn route(context: &Context, key: ApiKey, header: &RequestHeader<'_>, body: &[u8]) -> Reply {
    match key {
        ApiKey::Produce => call!(context, header, body, ProduceRequest, produce),
        ApiKey::Fetch => call!(context, header, body, FetchRequest, fetch),
        ApiKey::ListOffsets => call!(context, header, body, ListOffsetsRequest, list_offsets),
        ApiKey::Metadata => call!(context, header, body, MetadataRequest, metadata),
        ApiKey::OffsetCommit => call!(context, header, body, OffsetCommitRequest, offset_commit),
        ApiKey::OffsetFetch => call!(context, header, body, OffsetFetchRequest, offset_fetch),
        ApiKey::JoinGroup => call!(context, header, body, JoinGroupRequest, join_group),
        ApiKey::Heartbeat => call!(context, header, body, HeartbeatRequest, heartbeat),
        ApiKey::LeaveGroup => call!(context, header, body, LeaveGroupRequest, leave_group),
        ApiKey::SyncGroup => call!(context, header, body, SyncGroupRequest, sync_group),
        ApiKey::DescribeGroups => call!(context, header, body, DescribeGroupsRequest, describe_groups),
        ApiKey::ListGroups => call!(context, header, body, ListGroupsRequest, list_groups),
        ApiKey::DeleteGroups => call!(context, header, body, DeleteGroupsRequest, delete_groups),
        ApiKey::OffsetDelete => call!(context, header, body, OffsetDeleteRequest, offset_delete),
        ApiKey::FindCoordinator => call!(context, header, body, FindCoordinatorRequest, find_coordinator),
        ApiKey::SaslHandshake => call!(context, header, body, SaslHandshakeRequest, sasl_handshake),
        ApiKey::ApiVersions => call!(context, header, body, ApiVersionsRequest, api_versions),
        ApiKey::CreateTopics => call!(context, header, body, CreateTopicsRequest, create_topics),
        ApiKey::DeleteTopics => call!(context, header, body, DeleteTopicsRequest, delete_topics),
        ApiKey::InitProducerId => call!(context, header, body, InitProducerIdRequest, init_producer_id),
        ApiKey::OffsetForLeaderEpoch => {
            call!(context, header, body, OffsetForLeaderEpochRequest, offset_for_leader_epoch)
        }
        ApiKey::DescribeConfigs => call!(context, header, body, DescribeConfigsRequest, describe_configs),
        ApiKey::SaslAuthenticate => call!(context, header, body, SaslAuthenticateRequest, sasl_authenticate),
        ApiKey::CreatePartitions => call!(context, header, body, CreatePartitionsRequest, create_partitions),
        ApiKey::IncrementalAlterConfigs => {
            call!(context, header, body, IncrementalAlterConfigsRequest, incremental_alter_configs)
        }
        ApiKey::DescribeCluster => call!(context, header, body, DescribeClusterRequest, describe_cluster),
        ApiKey::ConsumerGroupHeartbeat => {
            call!(context, header, body, ConsumerGroupHeartbeatRequest, consumer_group_heartbeat)
        }
        ApiKey::ConsumerGroupDescribe => {
            call!(context, header, body, ConsumerGroupDescribeRequest, consumer_group_describe)
        }
        ApiKey::DescribeTopicPartitions => {
            call!(context, header, body, DescribeTopicPartitionsRequest, describe_topic_partitions)
        }
        _ => Reply::Close(CloseReason::NotServed { key, version: header.api_version }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ordered_and_within_the_message_definitions() {
        for pair in served_apis().windows(2) {
            assert!(pair[0].key.code() < pair[1].key.code());
        }
        for api in served_apis() {
            assert_eq!(api.min_version, api.key.min_version(), "{}", api.key.name());
            assert_eq!(api.max_version, api.key.max_version(), "{}", api.key.name());
            assert!(api.key.is_served_by_brokers());
        }
    }

    #[test]
    fn only_produce_announces_versions_that_it_refuses() {
        let differs = |api: &&ServedApi| api.advertised_min_version != api.min_version;
        let differing: Vec<_> = served_apis().iter().filter(differs).map(|api| api.key).collect();
        assert_eq!(differing, [ApiKey::Produce]);
    }
}
