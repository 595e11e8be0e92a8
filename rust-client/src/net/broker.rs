//! One broker: a connection for each lane, made when needed, and what it understands.
//!
//! In: where the broker is, and who says so. Out: living connections that know the broker's versions.
//! It waits between failed attempts (`reconnect.backoff.*`), and tells a failure so that the reader knows which
//! address was tried and who named it. It does not choose brokers and sends nothing but ApiVersions and SASL.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use ottla_client_state::backoff::Backoff;
use ottla_protocol::messages::{ApiVersionsRequest, ApiVersionsResponse};
use ottla_protocol::sasl::Mechanism;
use ottla_protocol::wire::Reader;
use ottla_protocol::{ApiKey, ErrorCode, Message};
use tokio::time::Instant;

use super::Lane;
use super::connection::{Connection, HANDSHAKE_MAX_BYTES, Options, Protection, Versions};
use super::sasl;
use super::tls::{self, Tls};
use super::transport::{ConnectFailure, Transport};
use crate::config::ClientConfig;
use crate::error::{Error, ErrorKind, Persisted, Result};

/// The version of ApiVersions that is tried first. Version 5 adds a check of the cluster that is not used yet.
const API_VERSIONS: i16 = 4;

/// Where a broker is and who says so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    /// Host name or address.
    pub host: Arc<str>,
    /// The port.
    pub port: u16,
    /// The broker that named this address; `None` for an address of `bootstrap.servers`.
    pub told_by: Option<Arc<str>>,
}

impl Endpoint {
    fn address(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    fn same_place(&self, other: &Endpoint) -> bool {
        self.host == other.host && self.port == other.port
    }
}

/// One broker, by id or as a bootstrap server.
#[derive(Debug)]
pub(crate) struct Broker {
    /// The broker's id; `None` while all that is known is an address of `bootstrap.servers`.
    id: Option<i32>,
    endpoint: ArcSwap<Endpoint>,
    lanes: [LaneSlot; Lane::COUNT],
    attempts: Mutex<Attempts>,
    config: Arc<ClientConfig>,
    /// There if connections are to be encrypted.
    tls: Option<Tls>,
}

#[derive(Debug, Default)]
struct LaneSlot {
    current: ArcSwapOption<Connection>,
    /// Held by the one who connects; the others wait for the outcome.
    connecting: tokio::sync::Mutex<()>,
}

/// The story of failed attempts, shared by all lanes.
#[derive(Debug)]
struct Attempts {
    failures: u32,
    not_before: Option<Instant>,
    last: Option<(Instant, Error)>,
    backoff: Backoff,
    patience: Backoff,
}

impl Broker {
    /// A broker at `endpoint`; nothing is connected yet.
    pub fn new(id: Option<i32>, endpoint: Endpoint, config: Arc<ClientConfig>, tls: Option<Tls>) -> Self {
        let backoff = Backoff::new(
            config.reconnect_backoff_ms,
            config.reconnect_backoff_max_ms,
            rand::random(),
        );
        let patience = Backoff::new(
            config.connection_setup_timeout_ms,
            config
                .connection_setup_timeout_max_ms
                .max(config.connection_setup_timeout_ms),
            rand::random(),
        );
        Broker {
            id,
            endpoint: ArcSwap::from_pointee(endpoint),
            lanes: Default::default(),
            attempts: Mutex::new(Attempts {
                failures: 0,
                not_before: None,
                last: None,
                backoff,
                patience,
            }),
            config,
            tls,
        }
    }

    /// The broker's id, if it is known.
    pub fn id(&self) -> Option<i32> {
        self.id
    }

    /// How errors name it.
    pub fn label(&self) -> Arc<str> {
        let address = self.endpoint.load().address();
        match self.id {
            Some(id) => format!("broker {id} at {address}").into(),
            None => format!("bootstrap server {address}").into(),
        }
    }

    /// Takes in where the broker is now. Connections to another place are not used any more.
    pub fn move_to(&self, endpoint: Endpoint) {
        let before = self.endpoint.swap(Arc::new(endpoint.clone()));
        if before.same_place(&endpoint) {
            return;
        }
        for lane in &self.lanes {
            lane.current.store(None);
        }
        let mut attempts = self.attempts();
        attempts.failures = 0;
        attempts.not_before = None;
    }

    /// Whether there is a living connection on some lane.
    pub fn is_connected(&self) -> bool {
        self.lanes.iter().any(|lane| {
            lane.current
                .load()
                .as_ref()
                .is_some_and(|connection| connection.is_alive())
        })
    }

    /// How many attempts to connect have failed in a row.
    pub fn failures(&self) -> u32 {
        self.attempts().failures
    }

    /// Whether an attempt to connect would have to wait.
    pub fn is_backing_off(&self) -> bool {
        self.attempts().not_before.is_some_and(|at| at > Instant::now())
    }

    /// Whether the broker has asked to be left alone on `lane` for now.
    pub fn is_throttled(&self, lane: Lane) -> bool {
        self.living(lane)
            .is_some_and(|connection| connection.throttle().holds())
    }

    /// Closes everything. Who waits for an answer still gets it or learns why not.
    pub fn close(&self) {
        for lane in &self.lanes {
            lane.current.store(None);
        }
    }

    /// A living connection for `lane` that the broker has not asked to be left alone on.
    ///
    /// Connects if there is none; callers that come meanwhile wait for the same attempt. Cancel-safe.
    ///
    /// # Errors
    /// One attempt has failed: [`ErrorKind::Connect`], or what the other side said instead of its versions.
    pub async fn connection(&self, lane: Lane) -> Result<Arc<Connection>> {
        let connection = match self.living(lane) {
            Some(connection) => connection,
            None => self.connect_once(lane).await?,
        };
        connection.throttle().passed().await;
        Ok(connection)
    }

    fn living(&self, lane: Lane) -> Option<Arc<Connection>> {
        self.lanes[lane.index()]
            .current
            .load_full()
            .filter(|connection| connection.is_alive())
    }

    async fn connect_once(&self, lane: Lane) -> Result<Arc<Connection>> {
        let asked = Instant::now();
        let slot = &self.lanes[lane.index()];
        let _turn = slot.connecting.lock().await;
        if let Some(connection) = self.living(lane) {
            return Ok(connection);
        }
        // Somebody tried while we waited for our turn; their failure is ours.
        if let Some((at, error)) = &self.attempts().last
            && *at > asked
        {
            return Err(error.clone());
        }
        let wait_until = self.attempts().not_before;
        if let Some(at) = wait_until {
            tokio::time::sleep_until(at).await;
        }
        let endpoint = self.endpoint.load_full();
        match self.connect(&endpoint).await {
            Ok(connection) => {
                let connection = Arc::new(connection);
                self.attempts().succeeded();
                // If the broker moved meanwhile, this connection serves its caller and is not kept.
                if self.endpoint.load().same_place(&endpoint) {
                    slot.current.store(Some(connection.clone()));
                }
                Ok(connection)
            }
            Err(error) => {
                self.attempts().failed(&error);
                Err(error)
            }
        }
    }

    async fn connect(&self, endpoint: &Endpoint) -> Result<Connection> {
        let label = self.label();
        let patience = self.attempts().next_patience();
        let tls = self.tls.as_ref();
        let connected = Transport::connect(&endpoint.host, endpoint.port, &self.config, tls, patience).await;
        let stream = connected.map_err(|failure| self.explain(endpoint, failure, patience).with_broker(&label))?;
        let options = Options {
            client_id: self.config.client_id.as_str().into(),
            receive_max_bytes: self.config.receive_max_bytes,
            max_idle: self.config.connections_max_idle,
            protection: Protection {
                tls: tls.is_some(),
                has_identity: tls.is_some_and(|tls| tls.has_identity),
                sasl: self.config.security.sasl.is_some(),
            },
        };
        let connection = Connection::start(stream, label, &options);
        connection.limit_answers(HANDSHAKE_MAX_BYTES.min(self.config.receive_max_bytes));
        let deadline = Instant::now() + self.config.request_timeout;
        let versions = negotiate(&connection, self.config.request_timeout).await;
        connection.set_versions(versions.map_err(|error| explain_handshake(error, tls.is_some()))?);
        if let Some(config) = &self.config.security.sasl {
            let lifetime = sasl::authenticate(&connection, config, deadline)
                .await
                .map_err(|error| explain_sasl(error, config.mechanism))?;
            if let Some(lifetime) = lifetime {
                // Kafka's own clients choose a moment in this range too, so that not all come back at once (KIP-368).
                connection.retire_at(Instant::now() + lifetime.mul_f64(rand::random_range(0.85..0.95)));
            }
        }
        connection.limit_answers(self.config.receive_max_bytes);
        Ok(connection)
    }

    fn explain(&self, endpoint: &Endpoint, failure: ConnectFailure, patience: Duration) -> Error {
        let address = endpoint.address();
        let failure = match failure {
            ConnectFailure::Tls(at, error) => {
                match tls::explain(&error, self.tls.as_ref().is_some_and(|tls| tls.has_identity)) {
                    Some(told) => return told,
                    None => ConnectFailure::Tls(at, error),
                }
            }
            other => other,
        };
        let (reason, source) = match failure {
            ConnectFailure::Unresolved(error) => (
                format!("the host name {:?} has no address ({error})", &*endpoint.host),
                Some(error),
            ),
            ConnectFailure::Io(at, error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                (format!("connection refused: nothing listens at {at}"), Some(error))
            }
            ConnectFailure::Io(at, error) => (format!("{error} ({at})"), Some(error)),
            ConnectFailure::TimedOut => (format!("no answer within {} ms", patience.as_millis()), None),
            ConnectFailure::Tls(at, error) => (
                format!(
                    "{at} answered and then ended the TLS handshake ({error}): is this a PLAINTEXT or SASL_PLAINTEXT listener?"
                ),
                Some(error),
            ),
            ConnectFailure::TlsTimedOut(at) => (
                format!(
                    "{at} answered but did not complete the TLS handshake within {} ms: is this a PLAINTEXT or \
                     SASL_PLAINTEXT listener?",
                    patience.as_millis()
                ),
                None,
            ),
        };
        let text = match (&endpoint.told_by, self.id) {
            (Some(told_by), Some(id)) => format!(
                "cannot reach broker {id} at {address}, the address that it advertises (so says {told_by}): {reason}. \
                 Its advertised.listeners must name an address that this machine can reach"
            ),
            _ => format!("cannot connect to {address} (from bootstrap.servers): {reason}"),
        };
        let error = Error::new(ErrorKind::Connect, text);
        match source {
            Some(source) => error.with_source(source),
            None => error,
        }
    }

    fn attempts(&self) -> std::sync::MutexGuard<'_, Attempts> {
        // The fields are plain numbers: whoever panicked left nothing half done.
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Attempts {
    fn next_patience(&mut self) -> Duration {
        Duration::from_millis(self.patience.next_ms(self.failures + 1))
    }

    fn succeeded(&mut self) {
        self.failures = 0;
        self.not_before = None;
        self.last = None;
    }

    fn failed(&mut self, error: &Error) {
        self.failures = self.failures.saturating_add(1);
        let now = Instant::now();
        self.not_before = Some(now + Duration::from_millis(self.backoff.next_ms(self.failures)));
        self.last = Some((now, error.clone()));
    }
}

/// Before the broker has told its versions, a connection that dies without a word is often a listener that expects
/// something else.
fn explain_handshake(error: Error, tls: bool) -> Error {
    let error = error.with_persisted(Persisted::No);
    match error.kind() {
        ErrorKind::Disconnected if !tls => error
            .with_prefix("no Kafka broker answered (if this is a TLS listener, set security.protocol=SSL or SASL_SSL)"),
        ErrorKind::Timeout => error.with_prefix("connected, but no Kafka broker answered"),
        _ => error,
    }
}

/// What went wrong between the broker's versions and the first request.
fn explain_sasl(error: Error, mechanism: Mechanism) -> Error {
    let error = error.with_persisted(Persisted::No);
    match error.kind() {
        ErrorKind::Disconnected | ErrorKind::Timeout => error.with_prefix(format_args!(
            "the broker did not complete SASL authentication with {mechanism}"
        )),
        _ => error,
    }
}

/// Asks for the broker's versions: first as a client of today, then as the broker says it understands.
async fn negotiate(connection: &Connection, timeout: Duration) -> Result<Versions> {
    let mut version = API_VERSIONS;
    loop {
        let request = ApiVersionsRequest {
            client_software_name: "ottla",
            client_software_version: env!("CARGO_PKG_VERSION"),
            ..Default::default()
        };
        let frame = connection.send(version, &request, timeout)?.await?;
        let body = frame.body();
        // An older broker answers in version 0 whatever was asked (KIP-511).
        let code = body.first_chunk::<2>().map_or(0, |code| i16::from_be_bytes(*code));
        let too_new = code == ErrorCode::UnsupportedVersion.code();
        let response = if too_new {
            ApiVersionsResponse::decode(&mut Reader::new(body), 0).map_err(Error::from)?
        } else {
            frame.decode()?
        };
        let mut versions = Versions::default();
        for api in &response.api_keys {
            versions.ranges.push((api.api_key, api.min_version, api.max_version));
        }
        versions.ranges.sort_unstable();
        versions.ranges.dedup_by_key(|range| range.0);
        if !too_new {
            if code != 0 {
                return Err(Error::from_code(code, "the broker's versions").with_broker(connection.broker()));
            }
            return Ok(versions);
        }
        if version == 0 {
            let text = "the broker does not even understand version 0 of ApiVersions";
            return Err(Error::new(ErrorKind::Unsupported, text).with_broker(connection.broker()));
        }
        version = versions.pick(ApiKey::ApiVersions, 0, version - 1).unwrap_or(0);
    }
}
