//! SASL: who is at the other end of a connection.
//!
//! In: SaslHandshake and SaslAuthenticate requests, and the time. Out: what to answer, and whether a request of another kind
//! may be carried out yet. One [`Session`] a connection; the [`Policy`] is the listener's.
//!
//! Refused before authentication: everything but ApiVersions and SaslHandshake, as Apache Kafka does. Of a failure no more is
//! said than that the two do not fit: not whether there is such a user.

use super::credentials::{PlainUsers, ScramUsers, random_bytes};
use crate::config::security::{MechanismSettings, SaslSettings};
use ottla_protocol::ApiKey;
use ottla_protocol::sasl::Mechanism;
use ottla_protocol::sasl::plain;
use ottla_protocol::sasl::scram::{self, ClientFinal, ClientFirst, Credential, Hash, ServerFinal, ServerFirst};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// A client may not authenticate again more often than this; Apache Kafka's limit.
const REAUTHENTICATION_INTERVAL: Duration = Duration::from_secs(1);
/// Random bytes of the broker's part of a nonce.
const NONCE_BYTES: usize = 24;

/// Whom a listener lets in.
#[derive(Debug)]
pub struct Policy {
    doors: Vec<Door>,
    /// `sasl.server.max.receive.size`.
    pub max_receive_size: usize,
    /// `connection.failed.authentication.delay.ms`.
    pub failure_delay: Duration,
}

/// One mechanism and its users.
#[derive(Debug)]
struct Door {
    mechanism: Mechanism,
    users: Users,
    max_reauth: Option<Duration>,
}

#[derive(Debug)]
enum Users {
    Plain(PlainUsers),
    Scram(ScramUsers),
}

impl Policy {
    /// Takes mechanisms and users in. Stretches the passwords of SCRAM: some milliseconds each.
    pub fn new(settings: &SaslSettings, failure_delay: Duration) -> Self {
        let door = |settings: &MechanismSettings| Door {
            mechanism: settings.mechanism,
            users: match settings.mechanism.scram_hash() {
                Some(hash) => Users::Scram(ScramUsers::new(hash, &settings.users)),
                None => Users::Plain(PlainUsers::new(&settings.users)),
            },
            max_reauth: settings.max_reauth,
        };
        Policy {
            doors: settings.mechanisms.iter().map(door).collect(),
            max_receive_size: settings.max_receive_size,
            failure_delay,
        }
    }

    /// `sasl.enabled.mechanisms`.
    pub fn mechanisms(&self) -> impl Iterator<Item = Mechanism> {
        self.doors.iter().map(|door| door.mechanism)
    }

    fn door(&self, mechanism: Mechanism) -> Option<&Door> {
        self.doors.iter().find(|door| door.mechanism == mechanism)
    }
}

/// How far one connection has come.
#[derive(Debug)]
pub struct Session {
    policy: Arc<Policy>,
    state: Mutex<State>,
    /// Authenticated for as long as the connection lives: nothing is left to ask.
    settled: AtomicBool,
}

#[derive(Debug)]
enum State {
    /// Nobody has said who they are. ApiVersions is answered, a mechanism may be chosen.
    Unknown,
    /// A mechanism was chosen, and its messages come.
    Talking(Talk),
    /// We know who it is; requests are carried out.
    Known(Identity),
    /// It was not who it said. What still comes is thrown away until the answer has left.
    Failed,
}

#[derive(Debug)]
struct Talk {
    mechanism: Mechanism,
    /// SaslHandshake version 0: messages come in frames of their own, without a request around them.
    bare: bool,
    scram: Option<Box<ScramTalk>>,
    /// Who it was before, if it authenticates again.
    before: Option<Identity>,
}

/// SCRAM after its first message.
#[derive(Debug)]
struct ScramTalk {
    username: String,
    credential: Credential,
    is_there: bool,
    gs2_header: String,
    client_first_bare: String,
    server_first: String,
    nonce: String,
}

#[derive(Debug, Clone)]
struct Identity {
    mechanism: Mechanism,
    username: String,
    /// When it must have authenticated again.
    expires_at: Option<Instant>,
    began_at: Instant,
}

/// What a request meets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// It is carried out.
    CarryOut,
    /// ILLEGAL_SASL_STATE, and the end.
    IllegalState,
    /// The end, without an answer: it comes before authentication.
    TooEarly,
    /// The end, without an answer: the authentication holds no longer.
    Expired,
    /// Nothing: the connection has failed, and its answer is under way.
    Ignore,
}

/// What becomes of a SaslHandshake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Choice {
    /// Messages of the mechanism may come.
    Chosen,
    /// There is no such mechanism here. The end.
    Unsupported,
    /// It is not the time to choose.
    IllegalState,
}

/// What becomes of a message.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome {
    /// This is to be answered, and more to come.
    Challenge(Vec<u8>),
    /// It is who it says. For this long, if not for ever.
    Accepted(Vec<u8>, Option<Duration>),
    /// It is not. This is to be answered, after the delay; then the end.
    Refused(String),
    /// It is not the time for messages.
    IllegalState,
}

impl Session {
    /// A connection of which nothing is known.
    pub fn new(policy: Arc<Policy>) -> Self {
        Session {
            policy,
            state: Mutex::new(State::Unknown),
            settled: AtomicBool::new(false),
        }
    }

    /// The listener's policy.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a request of this kind may be carried out now.
    pub fn admit(&self, key: ApiKey, now: Instant) -> Admission {
        if self.settled.load(Ordering::Relaxed) {
            return Admission::CarryOut;
        }
        match (&*self.state(), key) {
            (State::Unknown, ApiKey::ApiVersions | ApiKey::SaslHandshake) => Admission::CarryOut,
            (State::Unknown, _) => Admission::TooEarly,
            (State::Talking(_), ApiKey::SaslAuthenticate) => Admission::CarryOut,
            (State::Talking(_), ApiKey::ApiVersions | ApiKey::SaslHandshake) => Admission::IllegalState,
            (State::Talking(_), _) => Admission::TooEarly,
            // To begin again, it is never too late.
            (State::Known(_), ApiKey::SaslHandshake) => Admission::CarryOut,
            (State::Known(identity), _) if identity.expires_at.is_some_and(|end| now > end) => Admission::Expired,
            (State::Known(_), _) => Admission::CarryOut,
            (State::Failed, _) => Admission::Ignore,
        }
    }

    /// True once somebody has authenticated, also while they do so again.
    pub fn is_authenticated(&self) -> bool {
        match &*self.state() {
            State::Known(_) => true,
            State::Talking(talk) => talk.before.is_some(),
            State::Unknown | State::Failed => false,
        }
    }

    /// True once it was not who it said: nothing more is taken from it.
    pub fn has_failed(&self) -> bool {
        !self.settled.load(Ordering::Relaxed) && matches!(&*self.state(), State::Failed)
    }

    /// True while the next frame is a bare message, not a request.
    pub fn takes_bare_messages(&self) -> bool {
        !self.settled.load(Ordering::Relaxed) && matches!(&*self.state(), State::Talking(talk) if talk.bare)
    }

    /// The user, once known.
    pub fn username(&self) -> Option<String> {
        match &*self.state() {
            State::Known(identity) => Some(identity.username.clone()),
            _ => None,
        }
    }

    /// A mechanism is chosen by a SaslHandshake of `version`.
    pub fn choose(&self, mechanism: &str, version: i16, now: Instant) -> Choice {
        let mut state = self.state();
        let before = match &*state {
            State::Unknown => None,
            State::Known(identity) if identity.may_begin_again(now) => Some(identity.clone()),
            State::Known(_) | State::Talking(_) | State::Failed => return Choice::IllegalState,
        };
        let known = Mechanism::from_name(mechanism).filter(|mechanism| self.policy.door(*mechanism).is_some());
        let Some(mechanism) = known else {
            *state = State::Failed;
            return Choice::Unsupported;
        };
        *state = State::Talking(Talk {
            mechanism,
            bare: version == 0,
            scram: None,
            before,
        });
        Choice::Chosen
    }

    /// A message of the chosen mechanism has come.
    pub fn hear(&self, message: &[u8], now: Instant) -> Outcome {
        let mut state = self.state();
        let State::Talking(talk) = &mut *state else {
            return Outcome::IllegalState;
        };
        let Some(door) = self.policy.door(talk.mechanism) else {
            return Outcome::IllegalState;
        };
        let step = match talk.check_mechanism() {
            Ok(()) => talk.step(&door.users, message),
            Err(refused) => Err(refused),
        };
        let (username, answer) = match step {
            Ok(Step::Challenge(challenge)) => return Outcome::Challenge(challenge),
            Ok(Step::Accepted(username, answer)) => (username, answer),
            Err(text) => {
                *state = State::Failed;
                return Outcome::Refused(text);
            }
        };
        if let Some(text) = talk.other_user(&username) {
            *state = State::Failed;
            return Outcome::Refused(text);
        }
        self.settled.store(door.max_reauth.is_none(), Ordering::Relaxed);
        *state = State::Known(Identity {
            mechanism: door.mechanism,
            username,
            expires_at: door.max_reauth.map(|lifetime| now + lifetime),
            began_at: now,
        });
        Outcome::Accepted(answer, door.max_reauth)
    }
}

impl Identity {
    fn may_begin_again(&self, now: Instant) -> bool {
        self.expires_at.is_some() && now.saturating_duration_since(self.began_at) >= REAUTHENTICATION_INTERVAL
    }
}

enum Step {
    Challenge(Vec<u8>),
    /// The user, and the last message.
    Accepted(String, Vec<u8>),
}

impl Talk {
    /// Whoever authenticates again does it the same way (KIP-368).
    fn check_mechanism(&self) -> Result<(), String> {
        match &self.before {
            Some(before) if before.mechanism != self.mechanism => Err(format!(
                "SASL mechanism '{}' requested by client is not supported for re-authentication of mechanism '{}'",
                self.mechanism, before.mechanism
            )),
            _ => Ok(()),
        }
    }

    /// And is the same user.
    fn other_user(&self, username: &str) -> Option<String> {
        let before = self.before.as_ref().filter(|before| before.username != username)?;
        let was = &before.username;
        Some(format!(
            "Cannot change principals during re-authentication from User.{was}: User.{username}"
        ))
    }

    fn step(&mut self, users: &Users, message: &[u8]) -> Result<Step, String> {
        match users {
            Users::Plain(users) => plain_step(users, message, || self.refusal()),
            Users::Scram(users) => match self.scram.take() {
                None => self.scram_begins(users, message),
                Some(talk) => talk.ends(users.hash(), message).ok_or_else(|| self.refusal()),
            },
        }
    }

    /// The same words whatever is wrong.
    fn refusal(&self) -> String {
        let again = if self.before.is_some() {
            "re-authentication"
        } else {
            "authentication"
        };
        format!(
            "Authentication failed during {again} due to invalid credentials with SASL mechanism {}",
            self.mechanism
        )
    }

    fn scram_begins(&mut self, users: &ScramUsers, message: &[u8]) -> Result<Step, String> {
        let first = ClientFirst::parse(message).map_err(|_| self.refusal())?;
        check_authorization(first.authorization_id.as_deref(), &first.username)?;
        if first.token_auth {
            return Err(self.refusal());
        }
        let (credential, is_there) = users.find(&first.username);
        let nonce = format!("{}{}", first.nonce, scram::random_text(&random_bytes::<NONCE_BYTES>()));
        let server_first = ServerFirst::format(&nonce, &credential.salt, credential.iterations);
        self.scram = Some(Box::new(ScramTalk {
            username: first.username.to_string(),
            credential,
            is_there,
            gs2_header: first.gs2_header.to_owned(),
            client_first_bare: first.bare.to_owned(),
            server_first: server_first.clone(),
            nonce,
        }));
        Ok(Step::Challenge(server_first.into_bytes()))
    }
}

impl ScramTalk {
    /// `None` if the proof is not right, or something in the message is not what was said before.
    fn ends(self, hash: Hash, message: &[u8]) -> Option<Step> {
        let last = ClientFinal::parse(message).ok()?;
        let said = scram::auth_message(&self.client_first_bare, &self.server_first, last.without_proof);
        let proven = hash.proof_is_right(&self.credential.stored_key, &said, &last.proof);
        let same = last.nonce == self.nonce && last.channel_binding == self.gs2_header.as_bytes();
        if !(proven && same && self.is_there) {
            return None;
        }
        let signature = hash.signature(&self.credential.server_key, &said);
        let answer = ServerFinal::format_signature(signature.as_bytes());
        Some(Step::Accepted(self.username, answer.into_bytes()))
    }
}

fn plain_step(users: &PlainUsers, message: &[u8], refusal: impl Fn() -> String) -> Result<Step, String> {
    let said = plain::Credentials::decode(message).map_err(|_| refusal())?;
    if !users.is_right(said.username, said.password) {
        return Err("Authentication failed: Invalid username or password".to_owned());
    }
    let wanted = Some(said.authorization_id).filter(|id| !id.is_empty());
    check_authorization(wanted, said.username)?;
    Ok(Step::Accepted(said.username.to_owned(), Vec::new()))
}

/// Nobody acts for another (CVE-2017-12610).
fn check_authorization(wanted: Option<&str>, username: &str) -> Result<(), String> {
    match wanted {
        Some(id) if id != username => Err(
            "Authentication failed: Client requested an authorization id that is different from username".to_owned(),
        ),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
