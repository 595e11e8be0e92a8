//! What went wrong, told so that a tired person can act on it.
//!
//! One [`Error`] for everything the client reports. It says what kind of trouble it is ([`Error::kind`]), which code
//! the broker gave ([`Error::code`]), whether the same call may succeed later ([`Error::retriable`]), and for a send
//! whether the record may be in the log all the same ([`Error::persisted`]).

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use ottla_client_state::TopicPartition;
use ottla_protocol::{ApiKey, DecodeError, ErrorCode};

/// The result of everything in this crate that can fail.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The kind of trouble, for programs that branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A key of the configuration is unknown, has a value that does not fit, or contradicts another.
    Config,
    /// An argument of a call does not fit, for example a partition that the topic does not have.
    Argument,
    /// No connection to a broker could be made: unknown host, refused, no answer.
    Connect,
    /// A connection was lost before the answer came.
    Disconnected,
    /// The time for it ran out.
    Timeout,
    /// The other side does not speak Kafka's protocol, or broke it.
    Protocol,
    /// The broker does not support a version of the request that this client can speak.
    Unsupported,
    /// The topic or partition does not exist.
    UnknownTopic,
    /// The principal may not do this.
    Authorization,
    /// The broker did not accept who we say we are, could not prove who it is, or expects another protection of the
    /// connection (TLS or not). No retry follows.
    Authentication,
    /// This instance no longer is who it was: a newer producer or member has its identity, or the group went on without
    /// it. What it held belongs to others now.
    Fenced,
    /// A record or request is larger than it may be.
    TooLarge,
    /// The buffer is full and the call was not to wait.
    QueueFull,
    /// A position lies outside the log, or there is no position and no policy to find one.
    Offset,
    /// The log was cut below what was read of it: records that were handed over are lost, others may stand in their place
    /// (KIP-320). The error's offset is the position; its text says where the log parts from it.
    LogTruncated,
    /// Records failed their checksum or cannot be read.
    Corrupt,
    /// The client was closed, or is closing.
    Closed,
    /// A blocking call was made where it must not wait, or the runtime for blocking calls cannot be started.
    Runtime,
    /// Any other error code of a broker.
    Broker,
}

/// Whether a record whose send failed may be in the log.
///
/// Certainty can only weaken: once a request went out without an answer, no later attempt makes it `No` again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Persisted {
    /// It was certainly not written: sending again cannot duplicate it.
    #[default]
    No,
    /// Nobody knows: sending again may duplicate it.
    Possibly,
    /// It was written, although something after that failed.
    Yes,
}

/// One attempt to write a record that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Attempt {
    /// When its failure was known.
    pub time: SystemTime,
    /// The node id of the broker that was asked.
    pub broker_id: i32,
    /// How it ended: the broker's error code and words, or what became of the connection.
    pub reason: Arc<str>,
}

/// The attempts behind an error; shared by all records of a batch.
#[derive(Debug)]
pub(crate) struct Attempts {
    pub made: u32,
    pub told: Vec<Attempt>,
}

/// An error of the client. Cheap to clone; one cause may answer many callers.
#[derive(Clone)]
pub struct Error {
    inner: Box<Inner>,
}

#[derive(Clone)]
struct Inner {
    kind: ErrorKind,
    code: Option<i16>,
    retriable: bool,
    persisted: Persisted,
    message: Cow<'static, str>,
    broker: Option<Arc<str>>,
    api: Option<(ApiKey, i16)>,
    source: Option<Arc<dyn std::error::Error + Send + Sync>>,
    partition: Option<(TopicPartition, Option<i64>)>,
    attempts: Option<Arc<Attempts>>,
}

impl Error {
    /// What kind of trouble it is.
    pub fn kind(&self) -> ErrorKind {
        self.inner.kind
    }

    /// The broker's error code, if a broker reported the error and the code is known to this client.
    pub fn code(&self) -> Option<ErrorCode> {
        self.inner.code.and_then(ErrorCode::from_code)
    }

    /// The broker's error code as a number, known or not.
    pub fn raw_code(&self) -> Option<i16> {
        self.inner.code
    }

    /// Whether the same call may succeed if it is made again.
    pub fn retriable(&self) -> bool {
        self.inner.retriable
    }

    /// For a failed send: whether the record may be in the log. For everything else [`Persisted::No`] says that the
    /// request did not leave this client, and [`Persisted::Possibly`] that the broker may have acted on it.
    pub fn persisted(&self) -> Persisted {
        self.inner.persisted
    }

    /// The broker that the error is about, as `broker 1 at kafka-1:9092`.
    pub fn broker(&self) -> Option<&str> {
        self.inner.broker.as_deref()
    }

    /// The request that failed and its version, if it was one.
    pub fn api(&self) -> Option<(ApiKey, i16)> {
        self.inner.api
    }

    /// The partition that the error is about, if it is about one.
    pub fn partition(&self) -> Option<&TopicPartition> {
        self.inner.partition.as_ref().map(|(partition, _)| partition)
    }

    /// The offset that the error is about. A consumer that wants to go on behind a batch that cannot be read seeks
    /// to a higher one.
    pub fn offset(&self) -> Option<i64> {
        self.inner.partition.as_ref().and_then(|(_, offset)| *offset)
    }

    /// For a failed send: how its attempts ended, in their order. Of more than eight attempts, the first seven and the
    /// last. Empty if the record never left.
    pub fn attempts(&self) -> &[Attempt] {
        self.inner.attempts.as_ref().map_or(&[], |attempts| &attempts.told)
    }

    /// For a failed send: how many attempts were made. More than [`attempts`](Error::attempts) tells if one was still
    /// under way when the record was given up.
    pub fn attempt_count(&self) -> u32 {
        self.inner.attempts.as_ref().map_or(0, |attempts| attempts.made)
    }

    /// The text without the context that [`fmt::Display`] adds.
    pub fn message(&self) -> &str {
        &self.inner.message
    }

    /// A new error, for code that stands between a client and its user; whether it is retriable follows from its kind.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        let retriable = matches!(
            kind,
            ErrorKind::Connect | ErrorKind::Disconnected | ErrorKind::Timeout | ErrorKind::QueueFull
        );
        Error {
            inner: Box::new(Inner {
                kind,
                code: None,
                retriable,
                persisted: Persisted::No,
                message: message.into(),
                broker: None,
                api: None,
                source: None,
                partition: None,
                attempts: None,
            }),
        }
    }

    /// The error that a broker's code stands for. `subject` says what it is about ("topic orders").
    pub(crate) fn from_code(code: i16, subject: impl fmt::Display) -> Self {
        let (kind, retriable, text) = match ErrorCode::from_code(code) {
            Some(known) => (
                kind_of(known),
                known.retriable(),
                format!("{subject}: {} ({})", known.text(), known.name()),
            ),
            None => (
                ErrorKind::Broker,
                false,
                format!("{subject}: the broker answered with the unknown error code {code}"),
            ),
        };
        let mut error = Error::new(kind, text);
        error.inner.code = Some(code);
        error.inner.retriable = retriable;
        error
    }

    /// The same error with the code `code` and no change of text.
    #[must_use]
    pub(crate) fn with_code(mut self, code: ErrorCode) -> Self {
        self.inner.code = Some(code.code());
        self
    }

    /// The same error, said to be worth another attempt or not.
    #[must_use]
    pub(crate) fn with_retriable(mut self, retriable: bool) -> Self {
        self.inner.retriable = retriable;
        self
    }

    /// The same error with this certainty about the log.
    #[must_use]
    pub(crate) fn with_persisted(mut self, persisted: Persisted) -> Self {
        self.inner.persisted = persisted;
        self
    }

    /// The same error, told to be about this broker; the first teller wins.
    #[must_use]
    pub(crate) fn with_broker(mut self, broker: &Arc<str>) -> Self {
        self.inner.broker.get_or_insert_with(|| broker.clone());
        self
    }

    /// The same error, told to be about this request; the first teller wins.
    #[must_use]
    pub(crate) fn with_api(mut self, api: ApiKey, version: i16) -> Self {
        self.inner.api.get_or_insert((api, version));
        self
    }

    /// The same error with the story of its attempts.
    #[must_use]
    pub(crate) fn with_attempts(mut self, made: u32, told: Vec<Attempt>) -> Self {
        self.inner.attempts = (made > 0).then(|| Arc::new(Attempts { made, told }));
        self
    }

    /// Who the error is about, to be said of another error as well.
    pub(crate) fn asked(&self) -> Option<(Arc<str>, i16)> {
        let (_, version) = self.inner.api?;
        Some((self.inner.broker.clone()?, version))
    }

    /// The same error with what caused it, for [`std::error::Error::source`].
    #[must_use]
    pub(crate) fn with_source(self, source: impl std::error::Error + Send + Sync + 'static) -> Self {
        self.with_shared_source(Arc::new(source))
    }

    /// As `with_source`, for a cause that is not one type.
    #[must_use]
    pub(crate) fn with_shared_source(mut self, source: Arc<dyn std::error::Error + Send + Sync>) -> Self {
        self.inner.source = Some(source);
        self
    }

    /// The same error, told to be about this place in the log.
    #[must_use]
    pub(crate) fn with_partition(mut self, partition: &TopicPartition, offset: Option<i64>) -> Self {
        self.inner.partition = Some((partition.clone(), offset));
        self
    }

    /// The same error with words put before its text.
    #[must_use]
    pub(crate) fn with_prefix(mut self, prefix: impl fmt::Display) -> Self {
        self.inner.message = format!("{prefix}: {}", self.inner.message).into();
        self
    }

    /// The same error with the broker's own words after its text.
    #[must_use]
    pub(crate) fn with_suffix(mut self, words: &str) -> Self {
        self.inner.message = format!("{}: {words}", self.inner.message).into();
        self
    }

    /// The same error with our own words after its text.
    #[must_use]
    pub(crate) fn with_note(mut self, words: impl fmt::Display) -> Self {
        self.inner.message = format!("{}; {words}", self.inner.message).into();
        self
    }

    /// `what` took longer than it may; `last` is what went wrong on the way, if anything did.
    pub(crate) fn timeout(what: impl fmt::Display, last: Option<&Error>) -> Self {
        match last {
            Some(last) => Error::new(ErrorKind::Timeout, format!("{what}; the last attempt failed: {last}"))
                .with_source(last.clone()),
            None => Error::new(ErrorKind::Timeout, what.to_string()),
        }
    }

    /// The client is closed.
    pub(crate) fn closed(what: &'static str) -> Self {
        Error::new(ErrorKind::Closed, format!("this {what} is closed"))
    }
}

/// Which kind a broker's code belongs to.
pub(crate) fn kind_of(code: ErrorCode) -> ErrorKind {
    use ErrorCode::*;
    match code {
        UnknownTopicOrPartition | UnknownTopicId => ErrorKind::UnknownTopic,
        InvalidTopicException | InvalidPartitions | InvalidReplicationFactor | InvalidConfig => ErrorKind::Argument,
        TopicAuthorizationFailed
        | GroupAuthorizationFailed
        | ClusterAuthorizationFailed
        | TransactionalIdAuthorizationFailed
        | DelegationTokenAuthorizationFailed => ErrorKind::Authorization,
        SaslAuthenticationFailed | IllegalSaslState | UnsupportedSaslMechanism => ErrorKind::Authentication,
        ProducerFenced | InvalidProducerEpoch | FencedInstanceId | FencedMemberEpoch | IllegalGeneration
        | UnknownMemberId | StaleMemberEpoch => ErrorKind::Fenced,
        MessageTooLarge | RecordListTooLarge => ErrorKind::TooLarge,
        OffsetOutOfRange => ErrorKind::Offset,
        CorruptMessage => ErrorKind::Corrupt,
        RequestTimedOut => ErrorKind::Timeout,
        UnsupportedVersion | UnsupportedForMessageFormat => ErrorKind::Unsupported,
        _ => ErrorKind::Broker,
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Self {
        Error::new(ErrorKind::Protocol, format!("the answer cannot be read: {error}"))
            .with_persisted(Persisted::Possibly)
            .with_source(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.inner.message)?;
        // The text about a connection that could not be made names the address already, and so does one about attempts.
        let named = |broker: &Arc<str>| self.inner.message.contains(&**broker);
        if self.inner.kind == ErrorKind::Connect || self.inner.broker.as_ref().is_some_and(named) {
            return Ok(());
        }
        match (&self.inner.broker, &self.inner.api) {
            (Some(broker), Some((api, version))) => write!(f, " [{broker}, {} version {version}]", api.name()),
            (Some(broker), None) => write!(f, " [{broker}]"),
            (None, Some((api, version))) => write!(f, " [{} version {version}]", api.name()),
            (None, None) => Ok(()),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("kind", &self.inner.kind)
            .field("code", &self.inner.code)
            .field("retriable", &self.inner.retriable)
            .field("persisted", &self.inner.persisted)
            .field("text", &self.to_string())
            .finish()
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.inner
            .source
            .as_ref()
            .map(|source| &**source as &(dyn std::error::Error + 'static))
    }
}

/// The candidate that a mistyped `name` most likely meant, if any is close enough to be worth saying.
pub(crate) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (name.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (edit_distance(name, candidate, limit), candidate))
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, candidate)| candidate)
}

/// The number of insertions, deletions, replacements and swaps of neighbours between two names, without regard to
/// case; more than `limit` is reported as `limit + 1`.
fn edit_distance(a: &str, b: &str, limit: usize) -> usize {
    let a: Vec<char> = a.to_lowercase().chars().collect();
    let b: Vec<char> = b.to_lowercase().chars().collect();
    if a.len().abs_diff(b.len()) > limit {
        return limit + 1;
    }
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, y) in b.iter().enumerate() {
            let mut cost = (above[j] + usize::from(x != y)).min(above[j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && a[i - 1] == *y && *x == b[j - 1] {
                cost = cost.min(before[j - 1] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_broker_code_keeps_its_number_and_decides_whether_to_try_again() {
        let error = Error::from_code(6, "partition orders-0");
        assert_eq!(error.code(), Some(ErrorCode::NotLeaderOrFollower));
        assert!(error.retriable());
        assert!(error.to_string().contains("NOT_LEADER_OR_FOLLOWER"), "{error}");
        let unknown = Error::from_code(32_000, "topic orders");
        assert_eq!(
            (unknown.code(), unknown.raw_code(), unknown.retriable()),
            (None, Some(32_000), false)
        );
    }

    #[test]
    fn an_error_names_broker_and_request() {
        let broker: Arc<str> = "broker 1 at kafka-1:9092".into();
        let error = Error::new(ErrorKind::Timeout, "no answer in 30 s")
            .with_broker(&broker)
            .with_api(ApiKey::Fetch, 13);
        assert_eq!(
            error.to_string(),
            "no answer in 30 s [broker 1 at kafka-1:9092, Fetch version 13]"
        );
    }

    #[test]
    fn certainty_is_ordered_from_no_to_yes() {
        assert!(Persisted::No < Persisted::Possibly && Persisted::Possibly < Persisted::Yes);
    }

    #[test]
    fn the_nearest_name_is_found_and_a_far_one_is_not_offered() {
        let topics = ["gpsraw", "gpsclean", "orders"];
        assert_eq!(nearest("gpsrwa", topics), Some("gpsraw"));
        assert_eq!(nearest("GPSRAW", topics), Some("gpsraw"));
        assert_eq!(nearest("invoices", topics), None);
        assert_eq!(nearest("", topics), None);
    }
}
