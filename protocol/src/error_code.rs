//! The error codes of the protocol: number, name, what a client may do about it, and a sentence for people.
//!
//! The table is Kafka's, the sentences are ours. A number that is not in the table is not an error of this module:
//! [`ErrorCode::from_code`] gives `None` and the caller decides.

use std::fmt;

/// What a client may do after an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remedy {
    /// Nothing: the same request fails again.
    Stop,
    /// Try again later.
    Retry,
    /// Try again later with fresh metadata.
    Refresh,
}

macro_rules! error_codes {
    ($($(#[$attribute:meta])? $variant:ident = $code:literal $name:literal $remedy:ident $text:literal;)*) => {
        /// An error code of the protocol, or its absence (`None`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        #[repr(i16)]
        #[non_exhaustive]
        pub enum ErrorCode {
            $(
                #[doc = concat!("`", $name, "`: ", $text, ".")]
                $(#[$attribute])?
                $variant = $code,
            )*
        }

        impl ErrorCode {
            /// All codes, by rising number.
            pub const ALL: &'static [ErrorCode] = &[$(ErrorCode::$variant),*];

            /// The code with this number; `None` when Kafka has none.
            #[must_use]
            pub const fn from_code(code: i16) -> Option<ErrorCode> {
                match code {
                    $($code => Some(ErrorCode::$variant),)*
                    _ => None,
                }
            }

            /// The name in Kafka's own table, such as `OFFSET_OUT_OF_RANGE`.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $name,)*
                }
            }

            /// What it means, as a clause without a full stop.
            #[must_use]
            pub const fn text(self) -> &'static str {
                match self {
                    $(ErrorCode::$variant => $text,)*
                }
            }

            const fn remedy(self) -> Remedy {
                match self {
                    $(ErrorCode::$variant => Remedy::$remedy,)*
                }
            }
        }
    };
}

error_codes! {
    UnknownServerError = -1 "UNKNOWN_SERVER_ERROR" Stop "the broker failed in a way that it has no number for";
    #[default] None = 0 "NONE" Stop "no error";
    OffsetOutOfRange = 1 "OFFSET_OUT_OF_RANGE" Stop "the broker does not have that offset";
    CorruptMessage = 2 "CORRUPT_MESSAGE" Retry "the records arrived damaged: their checksum does not match";
    UnknownTopicOrPartition = 3 "UNKNOWN_TOPIC_OR_PARTITION" Refresh "the broker does not know that topic or partition";
    InvalidFetchSize = 4 "INVALID_FETCH_SIZE" Stop "the fetch asks for an impossible number of bytes";
    LeaderNotAvailable = 5 "LEADER_NOT_AVAILABLE" Refresh "the partition has no leader at the moment";
    NotLeaderOrFollower = 6 "NOT_LEADER_OR_FOLLOWER" Refresh "the broker is not the partition's leader or one of its followers";
    RequestTimedOut = 7 "REQUEST_TIMED_OUT" Retry "the broker did not finish in the time it was given";
    BrokerNotAvailable = 8 "BROKER_NOT_AVAILABLE" Stop "the broker is not running";
    ReplicaNotAvailable = 9 "REPLICA_NOT_AVAILABLE" Refresh "the broker has no copy of that partition yet";
    MessageTooLarge = 10 "MESSAGE_TOO_LARGE" Stop "a record batch is larger than the broker or topic allows";
    StaleControllerEpoch = 11 "STALE_CONTROLLER_EPOCH" Stop "the request comes from a controller that has been replaced";
    OffsetMetadataTooLarge = 12 "OFFSET_METADATA_TOO_LARGE" Stop "the metadata string of a committed offset is too long";
    NetworkException = 13 "NETWORK_EXCEPTION" Refresh "the connection broke before an answer came";
    CoordinatorLoadInProgress = 14 "COORDINATOR_LOAD_IN_PROGRESS" Retry "the coordinator is still reading its state";
    CoordinatorNotAvailable = 15 "COORDINATOR_NOT_AVAILABLE" Retry "the coordinator is not there at the moment";
    NotCoordinator = 16 "NOT_COORDINATOR" Retry "another broker is the coordinator now";
    InvalidTopicException = 17 "INVALID_TOPIC_EXCEPTION" Stop "the topic name is not allowed, or the topic is internal";
    RecordListTooLarge = 18 "RECORD_LIST_TOO_LARGE" Stop "the record batch does not fit into one segment of the log";
    NotEnoughReplicas = 19 "NOT_ENOUGH_REPLICAS" Retry "fewer replicas are in sync than the topic requires";
    NotEnoughReplicasAfterAppend = 20 "NOT_ENOUGH_REPLICAS_AFTER_APPEND" Retry "the records were written, but then fewer replicas were in sync than the topic requires";
    InvalidRequiredAcks = 21 "INVALID_REQUIRED_ACKS" Stop "acks must be -1, 0 or 1";
    IllegalGeneration = 22 "ILLEGAL_GENERATION" Stop "the generation of the group is over";
    InconsistentGroupProtocol = 23 "INCONSISTENT_GROUP_PROTOCOL" Stop "no assignor of the member is known to the whole group";
    InvalidGroupId = 24 "INVALID_GROUP_ID" Stop "the group id is empty or not allowed";
    UnknownMemberId = 25 "UNKNOWN_MEMBER_ID" Stop "the coordinator does not know that member, or no longer";
    InvalidSessionTimeout = 26 "INVALID_SESSION_TIMEOUT" Stop "the session timeout is outside what the broker allows";
    RebalanceInProgress = 27 "REBALANCE_IN_PROGRESS" Stop "the group is rebalancing, so the member must join again";
    InvalidCommitOffsetSize = 28 "INVALID_COMMIT_OFFSET_SIZE" Stop "the commit is too large to be stored";
    TopicAuthorizationFailed = 29 "TOPIC_AUTHORIZATION_FAILED" Stop "no permission for the topic";
    GroupAuthorizationFailed = 30 "GROUP_AUTHORIZATION_FAILED" Stop "no permission for the group";
    ClusterAuthorizationFailed = 31 "CLUSTER_AUTHORIZATION_FAILED" Stop "no permission for this action on the cluster";
    InvalidTimestamp = 32 "INVALID_TIMESTAMP" Stop "a timestamp of a record is too far from the broker's clock";
    UnsupportedSaslMechanism = 33 "UNSUPPORTED_SASL_MECHANISM" Stop "the broker does not offer that SASL mechanism";
    IllegalSaslState = 34 "ILLEGAL_SASL_STATE" Stop "the request does not fit the state of the SASL handshake";
    UnsupportedVersion = 35 "UNSUPPORTED_VERSION" Stop "the broker does not serve that version of the request";
    TopicAlreadyExists = 36 "TOPIC_ALREADY_EXISTS" Stop "a topic of that name exists";
    InvalidPartitions = 37 "INVALID_PARTITIONS" Stop "the number of partitions is not possible";
    InvalidReplicationFactor = 38 "INVALID_REPLICATION_FACTOR" Stop "the replication factor is not possible with the brokers there are";
    InvalidReplicaAssignment = 39 "INVALID_REPLICA_ASSIGNMENT" Stop "the assignment of replicas is not possible";
    InvalidConfig = 40 "INVALID_CONFIG" Stop "the configuration is not valid";
    NotController = 41 "NOT_CONTROLLER" Retry "another node is the controller now";
    InvalidRequest = 42 "INVALID_REQUEST" Stop "the request contradicts itself or the protocol";
    UnsupportedForMessageFormat = 43 "UNSUPPORTED_FOR_MESSAGE_FORMAT" Stop "the message format on the broker is too old for that";
    PolicyViolation = 44 "POLICY_VIOLATION" Stop "a policy of the cluster forbids it";
    OutOfOrderSequenceNumber = 45 "OUT_OF_ORDER_SEQUENCE_NUMBER" Stop "the sequence number is not the one that follows";
    DuplicateSequenceNumber = 46 "DUPLICATE_SEQUENCE_NUMBER" Stop "the sequence number was seen already, too long ago to say at which offset";
    InvalidProducerEpoch = 47 "INVALID_PRODUCER_EPOCH" Stop "a producer with a newer epoch has taken over";
    InvalidTxnState = 48 "INVALID_TXN_STATE" Stop "the transaction is not in a state for that";
    InvalidProducerIdMapping = 49 "INVALID_PRODUCER_ID_MAPPING" Stop "the producer id does not belong to the transactional id";
    InvalidTransactionTimeout = 50 "INVALID_TRANSACTION_TIMEOUT" Stop "the transaction timeout is outside what the broker allows";
    ConcurrentTransactions = 51 "CONCURRENT_TRANSACTIONS" Retry "the coordinator is still busy with the previous transaction";
    TransactionCoordinatorFenced = 52 "TRANSACTION_COORDINATOR_FENCED" Stop "the request comes from a transaction coordinator that has been replaced";
    TransactionalIdAuthorizationFailed = 53 "TRANSACTIONAL_ID_AUTHORIZATION_FAILED" Stop "no permission for the transactional id";
    SecurityDisabled = 54 "SECURITY_DISABLED" Stop "the cluster runs without an authorizer";
    OperationNotAttempted = 55 "OPERATION_NOT_ATTEMPTED" Stop "an earlier part of the request failed, so this part was not tried";
    KafkaStorageError = 56 "KAFKA_STORAGE_ERROR" Refresh "the broker's disk failed";
    LogDirNotFound = 57 "LOG_DIR_NOT_FOUND" Stop "the broker has no such log directory";
    SaslAuthenticationFailed = 58 "SASL_AUTHENTICATION_FAILED" Stop "the credentials were not accepted";
    UnknownProducerId = 59 "UNKNOWN_PRODUCER_ID" Stop "the broker no longer remembers that producer id";
    ReassignmentInProgress = 60 "REASSIGNMENT_IN_PROGRESS" Stop "the partition is being reassigned";
    DelegationTokenAuthDisabled = 61 "DELEGATION_TOKEN_AUTH_DISABLED" Stop "delegation tokens are switched off";
    DelegationTokenNotFound = 62 "DELEGATION_TOKEN_NOT_FOUND" Stop "there is no such delegation token";
    DelegationTokenOwnerMismatch = 63 "DELEGATION_TOKEN_OWNER_MISMATCH" Stop "the delegation token belongs to somebody else";
    DelegationTokenRequestNotAllowed = 64 "DELEGATION_TOKEN_REQUEST_NOT_ALLOWED" Stop "delegation tokens cannot be used on this kind of connection";
    DelegationTokenAuthorizationFailed = 65 "DELEGATION_TOKEN_AUTHORIZATION_FAILED" Stop "no permission for delegation tokens";
    DelegationTokenExpired = 66 "DELEGATION_TOKEN_EXPIRED" Stop "the delegation token has expired";
    InvalidPrincipalType = 67 "INVALID_PRINCIPAL_TYPE" Stop "the type of the principal is not supported";
    NonEmptyGroup = 68 "NON_EMPTY_GROUP" Stop "the group still has members";
    GroupIdNotFound = 69 "GROUP_ID_NOT_FOUND" Stop "there is no such group";
    FetchSessionIdNotFound = 70 "FETCH_SESSION_ID_NOT_FOUND" Retry "the broker has dropped the fetch session";
    InvalidFetchSessionEpoch = 71 "INVALID_FETCH_SESSION_EPOCH" Retry "the fetch session is at another epoch";
    ListenerNotFound = 72 "LISTENER_NOT_FOUND" Refresh "the leader does not offer the listener that this connection came through";
    TopicDeletionDisabled = 73 "TOPIC_DELETION_DISABLED" Stop "topics cannot be deleted on this cluster";
    FencedLeaderEpoch = 74 "FENCED_LEADER_EPOCH" Refresh "the leader epoch of the request is older than the broker's";
    UnknownLeaderEpoch = 75 "UNKNOWN_LEADER_EPOCH" Retry "the leader epoch of the request is newer than the broker's";
    UnsupportedCompressionType = 76 "UNSUPPORTED_COMPRESSION_TYPE" Stop "the compression type is not supported";
    StaleBrokerEpoch = 77 "STALE_BROKER_EPOCH" Stop "the broker epoch of the request is old";
    OffsetNotAvailable = 78 "OFFSET_NOT_AVAILABLE" Retry "the new leader does not know its high watermark yet";
    MemberIdRequired = 79 "MEMBER_ID_REQUIRED" Stop "the member must join again with the id that it was given";
    PreferredLeaderNotAvailable = 80 "PREFERRED_LEADER_NOT_AVAILABLE" Refresh "the preferred leader is not available";
    GroupMaxSizeReached = 81 "GROUP_MAX_SIZE_REACHED" Stop "the group has as many members as it may have";
    FencedInstanceId = 82 "FENCED_INSTANCE_ID" Stop "another member has taken over the static instance id";
    EligibleLeadersNotAvailable = 83 "ELIGIBLE_LEADERS_NOT_AVAILABLE" Refresh "no replica that could lead is available";
    ElectionNotNeeded = 84 "ELECTION_NOT_NEEDED" Refresh "the partition has the right leader already";
    NoReassignmentInProgress = 85 "NO_REASSIGNMENT_IN_PROGRESS" Stop "no reassignment of the partition is running";
    GroupSubscribedToTopic = 86 "GROUP_SUBSCRIBED_TO_TOPIC" Stop "the group is subscribed to the topic";
    InvalidRecord = 87 "INVALID_RECORD" Stop "the broker refused a record for what is in it";
    UnstableOffsetCommit = 88 "UNSTABLE_OFFSET_COMMIT" Retry "offsets of an open transaction stand in the way";
    ThrottlingQuotaExceeded = 89 "THROTTLING_QUOTA_EXCEEDED" Retry "a quota is used up for now";
    ProducerFenced = 90 "PRODUCER_FENCED" Stop "another producer with the same transactional id has taken over";
    ResourceNotFound = 91 "RESOURCE_NOT_FOUND" Stop "the request names something that does not exist";
    DuplicateResource = 92 "DUPLICATE_RESOURCE" Stop "the request names something twice";
    UnacceptableCredential = 93 "UNACCEPTABLE_CREDENTIAL" Stop "the credential does not meet the requirements";
    InconsistentVoterSet = 94 "INCONSISTENT_VOTER_SET" Stop "the sender or the receiver of the vote is not among the voters";
    InvalidUpdateVersion = 95 "INVALID_UPDATE_VERSION" Stop "the feature update has an impossible version";
    FeatureUpdateFailed = 96 "FEATURE_UPDATE_FAILED" Stop "the finalized features could not be updated";
    PrincipalDeserializationFailure = 97 "PRINCIPAL_DESERIALIZATION_FAILURE" Stop "the controller could not read the principal that was forwarded";
    SnapshotNotFound = 98 "SNAPSHOT_NOT_FOUND" Stop "there is no such snapshot";
    PositionOutOfRange = 99 "POSITION_OUT_OF_RANGE" Stop "the position lies outside the snapshot";
    UnknownTopicId = 100 "UNKNOWN_TOPIC_ID" Refresh "the broker does not know that topic id";
    DuplicateBrokerRegistration = 101 "DUPLICATE_BROKER_REGISTRATION" Stop "another broker is registered under that id";
    BrokerIdNotRegistered = 102 "BROKER_ID_NOT_REGISTERED" Stop "that broker is not registered";
    InconsistentTopicId = 103 "INCONSISTENT_TOPIC_ID" Refresh "the topic id does not belong to the topic of the log";
    InconsistentClusterId = 104 "INCONSISTENT_CLUSTER_ID" Stop "the cluster id is not that of this cluster";
    TransactionalIdNotFound = 105 "TRANSACTIONAL_ID_NOT_FOUND" Stop "there is no such transactional id";
    FetchSessionTopicIdError = 106 "FETCH_SESSION_TOPIC_ID_ERROR" Retry "the fetch session mixes topics with and without ids";
    IneligibleReplica = 107 "INELIGIBLE_REPLICA" Stop "the replica may not join the in-sync set";
    NewLeaderElected = 108 "NEW_LEADER_ELECTED" Stop "the new leader was elected, but the in-sync set was not changed";
    OffsetMovedToTieredStorage = 109 "OFFSET_MOVED_TO_TIERED_STORAGE" Stop "the offset lies in tiered storage";
    FencedMemberEpoch = 110 "FENCED_MEMBER_EPOCH" Stop "the member's epoch is not the one the coordinator has, so the member must join again";
    UnreleasedInstanceId = 111 "UNRELEASED_INSTANCE_ID" Stop "the static instance id is still held by another member";
    UnsupportedAssignor = 112 "UNSUPPORTED_ASSIGNOR" Stop "the broker does not know that assignor";
    StaleMemberEpoch = 113 "STALE_MEMBER_EPOCH" Stop "the member's epoch is behind the coordinator's";
    MismatchedEndpointType = 114 "MISMATCHED_ENDPOINT_TYPE" Stop "the request was sent to a broker but is for controllers, or the other way round";
    UnsupportedEndpointType = 115 "UNSUPPORTED_ENDPOINT_TYPE" Stop "the broker cannot list that type of endpoint";
    UnknownControllerId = 116 "UNKNOWN_CONTROLLER_ID" Stop "there is no such controller";
    UnknownSubscriptionId = 117 "UNKNOWN_SUBSCRIPTION_ID" Stop "the broker does not know that subscription of metrics";
    TelemetryTooLarge = 118 "TELEMETRY_TOO_LARGE" Stop "the metrics are larger than the broker allows";
    InvalidRegistration = 119 "INVALID_REGISTRATION" Stop "the controller refuses the registration";
    TransactionAbortable = 120 "TRANSACTION_ABORTABLE" Stop "the transaction failed, and its producer must abort it";
    InvalidRecordState = 121 "INVALID_RECORD_STATE" Stop "the delivery state of the record does not allow that";
    ShareSessionNotFound = 122 "SHARE_SESSION_NOT_FOUND" Retry "the broker has no such share session";
    InvalidShareSessionEpoch = 123 "INVALID_SHARE_SESSION_EPOCH" Retry "the share session is at another epoch";
    FencedStateEpoch = 124 "FENCED_STATE_EPOCH" Stop "the state epoch of the request is old";
    InvalidVoterKey = 125 "INVALID_VOTER_KEY" Stop "the key of the voter does not match";
    DuplicateVoter = 126 "DUPLICATE_VOTER" Stop "that voter is among the voters already";
    VoterNotFound = 127 "VOTER_NOT_FOUND" Stop "that voter is not among the voters";
    InvalidRegularExpression = 128 "INVALID_REGULAR_EXPRESSION" Stop "the regular expression is not valid";
    RebootstrapRequired = 129 "REBOOTSTRAP_REQUIRED" Stop "the client must start again from its bootstrap servers";
    StreamsInvalidTopology = 130 "STREAMS_INVALID_TOPOLOGY" Stop "the topology of the streams application is not valid";
    StreamsInvalidTopologyEpoch = 131 "STREAMS_INVALID_TOPOLOGY_EPOCH" Stop "the topology epoch of the streams application is not valid";
    StreamsTopologyFenced = 132 "STREAMS_TOPOLOGY_FENCED" Stop "the topology epoch of the streams application is old";
    ShareSessionLimitReached = 133 "SHARE_SESSION_LIMIT_REACHED" Retry "the broker has as many share sessions as it may have";
    GroupDeletionFailed = 134 "GROUP_DELETION_FAILED" Stop "the group could not be deleted";
    StreamsTopologyDescriptionUpdateFailed = 135 "STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED" Stop "the description of the topology could not be updated";
    ControllerIdNotRegistered = 136 "CONTROLLER_ID_NOT_REGISTERED" Stop "that controller is not registered";
}

impl ErrorCode {
    /// The number on the wire.
    #[must_use]
    pub const fn code(self) -> i16 {
        self as i16
    }

    /// True for everything but [`ErrorCode::None`].
    #[must_use]
    pub const fn is_error(self) -> bool {
        !matches!(self, ErrorCode::None)
    }

    /// True when the same request may succeed later.
    #[must_use]
    pub const fn retriable(self) -> bool {
        !matches!(self.remedy(), Remedy::Stop)
    }

    /// True when the error says that the client's metadata is old, so that it must be asked for again.
    #[must_use]
    pub const fn refreshes_metadata(self) -> bool {
        matches!(self.remedy(), Remedy::Refresh)
    }
}

impl fmt::Display for ErrorCode {
    /// `OFFSET_OUT_OF_RANGE (1): the broker does not have that offset`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}): {}", self.name(), self.code(), self.text())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_from_its_number() {
        for code in ErrorCode::ALL {
            assert_eq!(ErrorCode::from_code(code.code()), Some(*code));
        }
        assert_eq!(ErrorCode::from_code(-2), None);
        assert_eq!(ErrorCode::from_code(i16::MAX), None);
    }

    #[test]
    fn fresh_metadata_is_asked_for_only_to_try_again() {
        for code in ErrorCode::ALL.iter().filter(|code| code.refreshes_metadata()) {
            assert!(code.retriable(), "{code}");
        }
        assert!(ErrorCode::NotLeaderOrFollower.refreshes_metadata());
        assert!(ErrorCode::RequestTimedOut.retriable());
        assert!(!ErrorCode::RequestTimedOut.refreshes_metadata());
        assert!(!ErrorCode::MessageTooLarge.retriable());
    }

    #[test]
    fn an_error_shows_its_name_number_and_meaning() {
        let shown = ErrorCode::OffsetOutOfRange.to_string();
        assert_eq!(shown, "OFFSET_OUT_OF_RANGE (1): the broker does not have that offset");
    }
}
