//! Security of listeners: their protocols, certificates and users, as `server.properties` says them.
//!
//! In: the keys `ssl.*`, `sasl.*` and those beside them, for all listeners or, with `listener.name.<name>.` before them,
//! for one. Out: a [`ListenerSecurity`] for each listener. A listener whose protocol needs something that is not given is
//! refused. No file is opened here: that is `security::tls`, at the start of the broker.

use super::jaas::{self, HIDDEN, Module, Secret, Users};
use super::keys::{self, KEYS};
use super::value::{self, Kind, Value};
use super::{ConfigError, Notes, Values, invalid};
use ottla_protocol::sasl::Mechanism;
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// How a listener and its clients talk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// As it is.
    Plaintext,
    /// Through TLS.
    Ssl,
    /// As it is, after an authentication.
    SaslPlaintext,
    /// Through TLS, after an authentication.
    SaslSsl,
}

impl SecurityProtocol {
    /// Kafka's name, as in `security.protocol`.
    pub const fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// The protocol with this name, in upper case.
    pub fn from_name(name: &str) -> Option<SecurityProtocol> {
        use SecurityProtocol::{Plaintext, SaslPlaintext, SaslSsl, Ssl};
        let all = [Plaintext, Ssl, SaslPlaintext, SaslSsl];
        all.into_iter().find(|protocol| protocol.name() == name)
    }

    const fn has_tls(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    const fn has_sasl(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }
}

impl fmt::Display for SecurityProtocol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

/// How one listener is secured.
#[derive(Debug, Clone)]
pub struct ListenerSecurity {
    /// What its clients set as `security.protocol`.
    pub protocol: SecurityProtocol,
    /// For SSL and SASL_SSL.
    pub tls: Option<TlsSettings>,
    /// For SASL_PLAINTEXT and SASL_SSL.
    pub sasl: Option<SaslSettings>,
}

/// Keys and certificates in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pem {
    /// In this file.
    File(PathBuf),
    /// In the value of a key.
    Text(Secret),
}

/// The certificate of a listener and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyStore {
    /// `ssl.keystore.location`: both in one file.
    File(PathBuf),
    /// `ssl.keystore.certificate.chain` and `ssl.keystore.key`.
    Given {
        /// The listener's own certificate first, then those that signed it.
        chain: Secret,
        /// Its private key.
        key: Secret,
    },
}

/// `ssl.client.auth`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// Clients are not asked for a certificate.
    None,
    /// A client may show one; one that is not trusted is refused.
    Requested,
    /// A client must show one.
    Required,
}

/// TLS of one listener.
#[derive(Debug, Clone)]
pub struct TlsSettings {
    /// What the listener shows.
    pub key_store: KeyStore,
    /// The authorities whose clients are trusted.
    pub trust_store: Option<Pem>,
    /// Whether clients show certificates.
    pub client_auth: ClientAuth,
    /// `ssl.enabled.protocols`: `TLSv1.2`, `TLSv1.3` or both.
    pub protocols: Vec<String>,
    /// `ssl.cipher.suites`, by their names in TLS; empty stands for all.
    pub cipher_suites: Vec<String>,
}

/// SASL of one listener.
#[derive(Debug, Clone)]
pub struct SaslSettings {
    /// `sasl.enabled.mechanisms` with their users, in the order of the key.
    pub mechanisms: Vec<MechanismSettings>,
    /// `sasl.server.max.receive.size`: the largest request before authentication, in bytes.
    pub max_receive_size: usize,
}

/// One mechanism of a listener.
#[derive(Debug, Clone)]
pub struct MechanismSettings {
    /// Which one.
    pub mechanism: Mechanism,
    /// Who may come in.
    pub users: Users,
    /// `connections.max.reauth.ms`: how long an authentication holds; `None` for as long as the connection.
    pub max_reauth: Option<Duration>,
}

/// The beginning of a key for one listener.
const LISTENER_PREFIX: &str = "listener.name.";

/// Keys that may be given for one listener.
const LISTENER_KEYS: &[&str] = &[
    "connections.max.reauth.ms",
    "sasl.enabled.mechanisms",
    "sasl.jaas.config",
    "sasl.server.max.receive.size",
    "ssl.cipher.suites",
    "ssl.client.auth",
    "ssl.enabled.protocols",
    "ssl.key.password",
    "ssl.keystore.certificate.chain",
    "ssl.keystore.key",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.keystore.type",
    "ssl.truststore.certificates",
    "ssl.truststore.location",
    "ssl.truststore.password",
    "ssl.truststore.type",
];

/// Keys of those that may also be given for one mechanism: `plain.sasl.jaas.config`.
const MECHANISM_KEYS: &[&str] = &["connections.max.reauth.ms", "sasl.jaas.config"];

/// The row of a key that begins with `listener.name.`, or with a mechanism; `None` if it is no such key.
pub(super) fn find_scoped(name: &str) -> Option<&'static keys::Key> {
    let found = match name.strip_prefix(LISTENER_PREFIX) {
        // The name of a listener may have dots in it.
        Some(rest) => rest
            .match_indices('.')
            .find_map(|(dot, _)| rest.get(dot + 1..).and_then(for_listener)),
        None => for_mechanism(name),
    };
    found.and_then(keys::find)
}

/// The key behind `plain.` and the like.
fn for_mechanism(rest: &str) -> Option<&'static str> {
    let (mechanism, key) = rest.split_once('.')?;
    let known = Mechanism::ALL.iter().any(|known| prefix_of(*known) == mechanism);
    MECHANISM_KEYS.iter().find(|name| known && **name == key).copied()
}

/// The key behind the name of a listener.
fn for_listener(rest: &str) -> Option<&'static str> {
    let known = LISTENER_KEYS.iter().find(|name| **name == rest).copied();
    known.or_else(|| for_mechanism(rest))
}

/// Whether the value of a key must not be shown.
pub(super) fn is_secret(name: &str) -> bool {
    let row = keys::find(name).or_else(|| find_scoped(name));
    row.is_some_and(|key| key.kind == Kind::Password)
}

/// Takes the secrets out of what was given: nobody who prints it prints them.
pub(super) fn hide(given: &mut BTreeMap<String, String>) {
    for (name, value) in given.iter_mut() {
        if is_secret(name) && !value.is_empty() {
            *value = HIDDEN.to_owned();
        }
    }
}

/// `plain`, `scram-sha-256`: what stands before a key for one mechanism.
fn prefix_of(mechanism: Mechanism) -> String {
    mechanism.name().to_ascii_lowercase()
}

/// The security of each listener, by name. `unopened` are listeners that are known and not served.
pub(super) fn read(
    protocols: &BTreeMap<String, SecurityProtocol>,
    unopened: &[String],
    values: &Values<'_>,
    notes: &mut Notes,
) -> Result<BTreeMap<String, ListenerSecurity>, ConfigError> {
    check_listener_keys(protocols, unopened, values, notes)?;
    let mut all = BTreeMap::new();
    for (name, protocol) in protocols {
        let scope = Scope {
            values,
            listener: name.to_ascii_lowercase(),
        };
        let security = ListenerSecurity {
            protocol: *protocol,
            tls: protocol.has_tls().then(|| read_tls(&scope, name)).transpose()?,
            sasl: protocol
                .has_sasl()
                .then(|| read_sasl(&scope, name, notes))
                .transpose()?,
        };
        all.insert(name.clone(), security);
    }
    note_idle(&all, values, notes);
    Ok(all)
}

/// Every `listener.name.` key names a listener, and one that its protocol heeds.
fn check_listener_keys(
    protocols: &BTreeMap<String, SecurityProtocol>,
    unopened: &[String],
    values: &Values<'_>,
    notes: &mut Notes,
) -> Result<(), ConfigError> {
    for key in values.given.keys() {
        let Some(rest) = key.strip_prefix(LISTENER_PREFIX) else {
            continue;
        };
        let own = |name: &str| rest.strip_prefix(name.to_ascii_lowercase().as_str())?.strip_prefix('.');
        let is_of = |name: &&String| own(name).and_then(for_listener).is_some();
        if unopened.iter().any(|name| is_of(&name)) {
            let idle = notes.idle.entry("their listener is not opened").or_default();
            idle.insert(key.clone());
            continue;
        }
        let Some((_, protocol)) = protocols.iter().find(|(name, _)| is_of(name)) else {
            let problem = if protocols.keys().any(|name| own(name).is_some()) {
                "cannot be set for a single listener, or names a mechanism that is not available".to_owned()
            } else {
                format!("names none of listeners; the name stands in lower case behind {LISTENER_PREFIX}")
            };
            return Err(invalid(format!("{key} {problem}")));
        };
        let heeded = if rest.contains(".ssl.") {
            protocol.has_tls()
        } else {
            protocol.has_sasl()
        };
        if !heeded {
            let idle = notes
                .idle
                .entry("the protocol of their listener does not ask for them")
                .or_default();
            idle.insert(key.clone());
        }
    }
    Ok(())
}

/// Says which keys for all listeners have nobody who heeds them.
fn note_idle(all: &BTreeMap<String, ListenerSecurity>, values: &Values<'_>, notes: &mut Notes) {
    let families = [
        (
            "ssl.",
            "no listener has the protocol SSL or SASL_SSL",
            all.values().any(|one| one.tls.is_some()),
        ),
        (
            "sasl.",
            "no listener has the protocol SASL_PLAINTEXT or SASL_SSL",
            all.values().any(|one| one.sasl.is_some()),
        ),
    ];
    for (family, reason, heeded) in families {
        let names = values.given.keys().filter(|name| name.starts_with(family) && !heeded);
        let obeyed = names.filter(|name| keys::treatment(name) == Some(keys::Treatment::Obeyed));
        for name in obeyed {
            notes.idle.entry(reason).or_default().insert(name.clone());
        }
    }
}

/// The values for one listener: its own before those for all.
struct Scope<'a> {
    values: &'a Values<'a>,
    listener: String,
}

impl Scope<'_> {
    /// The first of these that is given: for this listener and mechanism, this listener, this mechanism, everybody; else the
    /// default. With the key that it was given as.
    fn get(&self, mechanism: Option<Mechanism>, name: &'static str) -> Result<(String, Option<Value>), ConfigError> {
        let row = keys::find(name).ok_or_else(|| invalid(format!("{name} has no row in the table")))?;
        let listener = format!("{LISTENER_PREFIX}{}.", self.listener);
        let mechanism = mechanism.map(|mechanism| format!("{}.", prefix_of(mechanism)));
        let mut candidates = Vec::with_capacity(4);
        for listener in [listener.as_str(), ""] {
            if let Some(mechanism) = &mechanism {
                candidates.push(format!("{listener}{mechanism}{name}"));
            }
            candidates.push(format!("{listener}{name}"));
        }
        for key in candidates {
            let Some(text) = self.values.given.get(&key).filter(|text| !text.is_empty()) else {
                continue;
            };
            let value = value::parse(row.kind, row.rule, text);
            return match value {
                Ok(value) => Ok((key, Some(value))),
                Err(problem) => Err(invalid(format!("{key} {problem}"))),
            };
        }
        self.values.get(name).map(|value| (name.to_owned(), value))
    }

    fn text(&self, name: &'static str) -> Result<Option<(String, String)>, ConfigError> {
        let (key, value) = self.get(None, name)?;
        Ok(value.map(|value| (key, value.text())))
    }

    fn list(&self, name: &'static str) -> Result<Vec<String>, ConfigError> {
        Ok(match self.get(None, name)? {
            (_, Some(Value::List(members))) => members,
            _ => Vec::new(),
        })
    }

    fn number(&self, mechanism: Option<Mechanism>, name: &'static str) -> Result<i64, ConfigError> {
        match self.get(mechanism, name)? {
            (_, Some(Value::Number(number))) => Ok(number),
            (key, _) => Err(invalid(format!("{key} is missing"))),
        }
    }
}

fn read_tls(scope: &Scope<'_>, listener: &str) -> Result<TlsSettings, ConfigError> {
    let location = scope.text("ssl.keystore.location")?;
    let chain = scope.text("ssl.keystore.certificate.chain")?;
    let key = scope.text("ssl.keystore.key")?;
    if location.is_none() && chain.is_none() && key.is_none() {
        return Err(invalid(format!(
            "{listener} has no certificate: set ssl.keystore.type=PEM and ssl.keystore.location to a PEM file with its certificate \
             chain and private key, or ssl.keystore.certificate.chain and ssl.keystore.key to their texts"
        )));
    }
    check_store(scope, "ssl.keystore.type", location.as_ref(), |file| {
        format!(
            "keytool -importkeystore -srckeystore {file} -destkeystore keystore.p12 -deststoretype PKCS12 && \
             openssl pkcs12 -in keystore.p12 -nodes -out keystore.pem"
        )
    })?;
    check_no_password(scope, "ssl.keystore.password", "a key store of type PEM has none")?;
    check_no_password(
        scope,
        "ssl.key.password",
        "the private key must not be encrypted; \"openssl pkey -in key.pem -out plain.pem\" writes it plain",
    )?;
    let key_store = match (location, chain, key) {
        (Some((_, file)), None, None) => KeyStore::File(PathBuf::from(file)),
        (None, Some((_, chain)), Some((_, key))) => KeyStore::Given {
            chain: Secret::new(chain),
            key: Secret::new(key),
        },
        (Some(_), _, _) => {
            return Err(invalid(format!(
                "{listener} has both ssl.keystore.location and ssl.keystore.certificate.chain or ssl.keystore.key; one is enough"
            )));
        }
        (None, _, _) => {
            return Err(invalid(format!(
                "{listener} needs both ssl.keystore.certificate.chain and ssl.keystore.key"
            )));
        }
    };
    let trust_store = read_trust_store(scope, listener)?;
    let client_auth = match scope.text("ssl.client.auth")?.unwrap_or_default() {
        (_, wanted) if wanted == "required" => ClientAuth::Required,
        (_, wanted) if wanted == "requested" => ClientAuth::Requested,
        _ => ClientAuth::None,
    };
    if client_auth != ClientAuth::None && trust_store.is_none() {
        return Err(invalid(format!(
            "{listener} asks clients for certificates (ssl.client.auth) but trusts nobody: set ssl.truststore.type=PEM and \
             ssl.truststore.location or ssl.truststore.certificates"
        )));
    }
    Ok(TlsSettings {
        key_store,
        trust_store,
        client_auth,
        protocols: scope.list("ssl.enabled.protocols")?,
        cipher_suites: scope.list("ssl.cipher.suites")?,
    })
}

fn read_trust_store(scope: &Scope<'_>, listener: &str) -> Result<Option<Pem>, ConfigError> {
    let location = scope.text("ssl.truststore.location")?;
    let certificates = scope.text("ssl.truststore.certificates")?;
    if location.is_none() && certificates.is_none() {
        return Ok(None);
    }
    check_store(scope, "ssl.truststore.type", location.as_ref(), |file| {
        format!("keytool -list -rfc -keystore {file} > truststore.pem")
    })?;
    check_no_password(scope, "ssl.truststore.password", "a trust store of type PEM has none")?;
    match (location, certificates) {
        (Some((_, file)), None) => Ok(Some(Pem::File(PathBuf::from(file)))),
        (None, Some((_, text))) => Ok(Some(Pem::Text(Secret::new(text)))),
        _ => Err(invalid(format!(
            "{listener} has both ssl.truststore.location and ssl.truststore.certificates; one is enough"
        ))),
    }
}

/// Refuses stores that are not PEM, with the command that makes PEM of them.
fn check_store(
    scope: &Scope<'_>,
    key: &'static str,
    location: Option<&(String, String)>,
    convert: impl Fn(&str) -> String,
) -> Result<(), ConfigError> {
    let Some((key, kind)) = scope.text(key)?.filter(|(_, kind)| kind != "PEM") else {
        return Ok(());
    };
    let file = location.map_or("STORE", |(_, file)| file.as_str());
    Err(invalid(format!(
        "{key} must be PEM, not {kind} (Apache Kafka's default is JKS); if the store is not in PEM yet, convert it: {}",
        convert(file)
    )))
}

fn check_no_password(scope: &Scope<'_>, name: &'static str, reason: &str) -> Result<(), ConfigError> {
    match scope.text(name)? {
        Some((key, _)) => Err(invalid(format!("{key} is refused: {reason}"))),
        None => Ok(()),
    }
}

fn read_sasl(scope: &Scope<'_>, listener: &str, notes: &mut Notes) -> Result<SaslSettings, ConfigError> {
    let names = scope.list("sasl.enabled.mechanisms")?;
    if names.is_empty() {
        return Err(invalid(format!(
            "{listener} has no mechanism: set sasl.enabled.mechanisms to some of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 (Apache Kafka's \
             default, GSSAPI, is not available)"
        )));
    }
    let mut mechanisms: Vec<MechanismSettings> = Vec::with_capacity(names.len());
    for name in &names {
        let mechanism = Mechanism::from_name(name).ok_or_else(|| {
            invalid(format!(
                "sasl.enabled.mechanisms of {listener} has {name}, which is not available"
            ))
        })?;
        if mechanisms.iter().any(|other| other.mechanism == mechanism) {
            continue;
        }
        let users = read_users(scope, listener, mechanism)?;
        if users.is_empty() {
            notes.other.push(format!(
                "nobody can come in by {mechanism} on {listener}: its sasl.jaas.config has no user_NAME=\"PASSWORD\""
            ));
        }
        let max_reauth = scope.number(Some(mechanism), "connections.max.reauth.ms")?;
        let max_reauth = u64::try_from(max_reauth)
            .ok()
            .filter(|ms| *ms > 0)
            .map(Duration::from_millis);
        mechanisms.push(MechanismSettings {
            mechanism,
            users,
            max_reauth,
        });
    }
    let max_receive_size = scope.number(None, "sasl.server.max.receive.size")?;
    Ok(SaslSettings {
        mechanisms,
        max_receive_size: usize::try_from(max_receive_size).unwrap_or(usize::MAX),
    })
}

fn read_users(scope: &Scope<'_>, listener: &str, mechanism: Mechanism) -> Result<Users, ConfigError> {
    let module = match mechanism {
        Mechanism::Plain => Module::Plain,
        Mechanism::ScramSha256 | Mechanism::ScramSha512 => Module::Scram,
    };
    let wish = || {
        format!(
            "{LISTENER_PREFIX}{}.{}.sasl.jaas.config={} required user_NAME=\"PASSWORD\";",
            listener.to_ascii_lowercase(),
            prefix_of(mechanism),
            module.class()
        )
    };
    let (key, value) = scope.get(Some(mechanism), "sasl.jaas.config")?;
    let Some(value) = value else {
        return Err(invalid(format!(
            "{listener} has no users for {mechanism}: set {}",
            wish()
        )));
    };
    let modules = jaas::parse(&value.text()).map_err(|problem| invalid(format!("{key} {problem}")))?;
    let users = modules.into_iter().find(|(other, _)| *other == module);
    users.map(|(_, users)| users).ok_or_else(|| {
        invalid(format!(
            "{key} has no {}, which {mechanism} on {listener} needs: set {}",
            module.class(),
            wish()
        ))
    })
}

/// The rows that may stand behind `listener.name.<name>.`.
pub fn listener_keys() -> impl Iterator<Item = &'static keys::Key> {
    KEYS.iter().filter(|key| LISTENER_KEYS.contains(&key.name))
}

#[cfg(test)]
mod tests;
