//! SASL: the client proves who it is, right after the broker has told its versions.
//!
//! In: a connection, mechanism, name, password. Out: how long the broker lets the session live, or an error in the
//! broker's words. Exactly the configured mechanism is used, whatever the broker offers. With SCRAM the broker has to
//! prove that it knows the password too; one that cannot is not talked to.

use std::time::Duration;

use ottla_protocol::ErrorCode;
use ottla_protocol::messages::{SaslAuthenticateRequest, SaslHandshakeRequest};
use ottla_protocol::sasl::scram::{
    ClientFinal, ClientFirst, Hash, MIN_ITERATIONS, ServerFinal, ServerFirst, auth_message, random_text,
};
use ottla_protocol::sasl::{Mechanism, SaslError, plain};
use tokio::time::Instant;

use super::connection::Connection;
use crate::config::SaslConfig;
use crate::error::{Error, ErrorKind, Result};

/// Stretching a password takes time in proportion to its iterations, and it is the broker who says how many. Kafka stores
/// 16384 at most.
const MAX_ITERATIONS: u32 = 1_000_000;

/// Bytes of randomness in a nonce.
const NONCE_BYTES: usize = 24;

/// SaslHandshake 0 is followed by bytes without Kafka's frames; brokers know 1 since Kafka 1.0.
const FRAMED_SINCE: i16 = 1;

/// The broker's words in an error are cut here.
const WORDS_CHARS: usize = 500;

/// Proves who we are on a connection that knows the broker's versions. Gives the session's lifetime, if it has one.
///
/// # Errors
/// [`ErrorKind::Authentication`]: the broker does not enable the mechanism, or does not accept us, or failed to prove
/// itself. Others: it did not answer until `deadline`, or broke the protocol.
pub(super) async fn authenticate(
    connection: &Connection,
    config: &SaslConfig,
    deadline: Instant,
) -> Result<Option<Duration>> {
    let exchange = Exchange { connection, deadline };
    exchange.choose(config.mechanism).await?;
    let answer = match config.mechanism.scram_hash() {
        None => exchange.plain(config).await?,
        Some(hash) => exchange.scram(config, hash).await?,
    };
    let lifetime = u64::try_from(answer.lifetime_ms).unwrap_or(0);
    Ok((lifetime > 0).then(|| Duration::from_millis(lifetime)))
}

struct Exchange<'c> {
    connection: &'c Connection,
    deadline: Instant,
}

struct Answer {
    bytes: Vec<u8>,
    lifetime_ms: i64,
}

impl Exchange<'_> {
    fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Says which mechanism follows.
    async fn choose(&self, mechanism: Mechanism) -> Result<()> {
        let version = self.connection.version_of::<SaslHandshakeRequest>(FRAMED_SINCE)?;
        if version < FRAMED_SINCE {
            let text = "the broker is too old for SASL with this client: it must be Kafka 1.0 or newer";
            return Err(self.error(ErrorKind::Unsupported, text));
        }
        let request = SaslHandshakeRequest {
            mechanism: mechanism.name(),
        };
        let frame = self.connection.send(version, &request, self.time_left())?.await?;
        let response = frame.decode()?;
        if response.error_code == 0 {
            return Ok(());
        }
        let offered = response.mechanisms.join(", ");
        if response.error_code == ErrorCode::UnsupportedSaslMechanism.code() {
            let offered = if offered.is_empty() { "none" } else { &offered };
            let text = format!(
                "the broker does not enable sasl.mechanism={mechanism} on this listener; it offers {}",
                shown(offered)
            );
            return Err(self
                .error(ErrorKind::Authentication, text)
                .with_code(ErrorCode::UnsupportedSaslMechanism));
        }
        Err(Error::from_code(response.error_code, format_args!("SASL with {mechanism}")).with_broker(frame.broker()))
    }

    async fn plain(&self, config: &SaslConfig) -> Result<Answer> {
        let credentials = plain::Credentials {
            authorization_id: "",
            username: &config.username,
            password: config.password.expose(),
        };
        let message = credentials.encode().map_err(|error| self.broken(error))?;
        self.say(config.mechanism, &message).await
    }

    async fn scram(&self, config: &SaslConfig, hash: Hash) -> Result<Answer> {
        let nonce = random_text(&rand::random::<[u8; NONCE_BYTES]>());
        let bare = ClientFirst::format_bare(&config.username, &nonce).map_err(|error| self.broken(error))?;
        let answer = self
            .say(config.mechanism, format!("{GS2_HEADER}{bare}").as_bytes())
            .await?;
        let first = ServerFirst::parse(&answer.bytes).map_err(|error| self.broken(error))?;
        self.check_first(&first, &nonce)?;
        let without_proof = ClientFinal::format_without_proof(GS2_HEADER, first.nonce);
        let said = auth_message(&bare, first.text, &without_proof);
        let salted = {
            let (password, salt, iterations) = (config.password.clone(), first.salt.clone(), first.iterations);
            // It takes milliseconds, which other tasks should not have to wait for.
            let work = move || hash.salted_password(password.expose().as_bytes(), &salt, iterations);
            tokio::task::spawn_blocking(work)
                .await
                .map_err(|error| self.error(ErrorKind::Runtime, format!("the password could not be hashed: {error}")))?
        };
        let proof = hash.client_proof(&salted, &said);
        let message = ClientFinal::with_proof(&without_proof, proof.as_bytes());
        let answer = self.say(config.mechanism, message.as_bytes()).await?;
        match ServerFinal::parse(&answer.bytes).map_err(|error| self.broken(error))? {
            ServerFinal::Error(words) => {
                let text = format!("the broker refused {}: {}", config.mechanism, shown(words));
                Err(self.error(ErrorKind::Authentication, text))
            }
            ServerFinal::Signature(signature) => {
                if hash.signature_is_right(&hash.server_key(&salted), &said, &signature) {
                    return Ok(answer);
                }
                let text = "the broker accepted the password but could not prove that it knows it: it is not the broker \
                            that it seems to be";
                Err(self.error(ErrorKind::Authentication, text))
            }
        }
    }

    fn check_first(&self, first: &ServerFirst<'_>, nonce: &str) -> Result<()> {
        let text = if !first.nonce.starts_with(nonce) || first.nonce.len() == nonce.len() {
            "the broker did not add its own nonce to the client's: its answer belongs to another exchange".to_owned()
        } else if first.iterations < MIN_ITERATIONS {
            format!(
                "the broker asks for {} SCRAM iterations; fewer than {MIN_ITERATIONS} would make the password easy to guess",
                first.iterations
            )
        } else if first.iterations > MAX_ITERATIONS {
            format!(
                "the broker asks for {} SCRAM iterations; more than {MAX_ITERATIONS} are not computed",
                first.iterations
            )
        } else {
            return Ok(());
        };
        Err(self.error(ErrorKind::Authentication, text))
    }

    /// Sends one message of the mechanism and takes its answer.
    async fn say(&self, mechanism: Mechanism, message: &[u8]) -> Result<Answer> {
        let version = self.connection.version_of::<SaslAuthenticateRequest>(i16::MAX)?;
        let request = SaslAuthenticateRequest { auth_bytes: message };
        let frame = self.connection.send(version, &request, self.time_left())?.await?;
        let response = frame.decode()?;
        if response.error_code == 0 {
            return Ok(Answer {
                bytes: response.auth_bytes.to_vec(),
                lifetime_ms: response.session_lifetime_ms,
            });
        }
        let error = Error::from_code(response.error_code, format_args!("SASL with {mechanism}"));
        let error = match response.error_message.filter(|words| !words.is_empty()) {
            Some(words) => error.with_suffix(&format!("the broker says: {}", shown(words))),
            None => error,
        };
        Err(error.with_broker(frame.broker()))
    }

    fn broken(&self, error: SaslError) -> Error {
        self.error(ErrorKind::Protocol, format!("SASL failed: {error}"))
            .with_retriable(true)
            .with_source(error)
    }

    fn error(&self, kind: ErrorKind, text: impl Into<std::borrow::Cow<'static, str>>) -> Error {
        Error::new(kind, text).with_broker(self.connection.broker())
    }
}

/// No channel binding, and nobody to act for.
const GS2_HEADER: &str = "n,,";

/// A broker's words: not longer than fits, and without control characters.
fn shown(words: &str) -> String {
    let short = words.chars().take(WORDS_CHARS);
    short.map(|c| if c.is_control() { ' ' } else { c }).collect()
}
