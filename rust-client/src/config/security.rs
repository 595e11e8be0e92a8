//! How connections are protected: `security.protocol`, `ssl.*` and `sasl.*` taken together.
//!
//! In: the settings. Out: certificates and keys read from files or values, a mechanism with name and password. What
//! contradicts itself is refused here, before anything connects: keys of a protection that `security.protocol` does not
//! ask for, the same thing said twice under two names, half of a key pair, a missing name or password.

use std::fmt;
use std::sync::Arc;

use ottla_protocol::sasl::Mechanism;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use super::pem::{self, Source, Store};
use super::{KEYS, Secret, Settings, jaas, mistake};
use crate::error::Result;

/// A value of `security.protocol`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SecurityProtocol {
    /// Neither encrypted nor authenticated.
    #[default]
    Plaintext,
    /// TLS; the client has a certificate or is anonymous.
    Ssl,
    /// SASL over a connection that is not encrypted.
    SaslPlaintext,
    /// SASL over TLS.
    SaslSsl,
}

impl SecurityProtocol {
    /// Every value.
    pub const ALL: [SecurityProtocol; 4] = [
        SecurityProtocol::Plaintext,
        SecurityProtocol::Ssl,
        SecurityProtocol::SaslPlaintext,
        SecurityProtocol::SaslSsl,
    ];

    /// Kafka's name of it.
    pub fn name(self) -> &'static str {
        match self {
            SecurityProtocol::Plaintext => "PLAINTEXT",
            SecurityProtocol::Ssl => "SSL",
            SecurityProtocol::SaslPlaintext => "SASL_PLAINTEXT",
            SecurityProtocol::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether connections are encrypted.
    pub fn has_tls(self) -> bool {
        matches!(self, SecurityProtocol::Ssl | SecurityProtocol::SaslSsl)
    }

    /// Whether the client says who it is by SASL.
    pub fn has_sasl(self) -> bool {
        matches!(self, SecurityProtocol::SaslPlaintext | SecurityProtocol::SaslSsl)
    }
}

/// A value of `security.protocol`, in any case of letters.
pub(super) fn protocol(value: &str) -> Result<SecurityProtocol> {
    let found = SecurityProtocol::ALL
        .into_iter()
        .find(|protocol| protocol.name().eq_ignore_ascii_case(value));
    found.ok_or_else(|| {
        mistake(format!(
            "security.protocol is {value:?}; Kafka has PLAINTEXT, SSL, SASL_PLAINTEXT and SASL_SSL"
        ))
    })
}

/// How connections are protected, checked.
#[derive(Debug, Clone, Default)]
pub struct SecurityConfig {
    /// `security.protocol`.
    pub protocol: SecurityProtocol,
    /// `ssl.*`; there exactly if the protocol has TLS.
    pub tls: Option<Arc<TlsConfig>>,
    /// `sasl.*`; there exactly if the protocol has SASL.
    pub sasl: Option<Arc<SaslConfig>>,
}

/// A certificate with those between it and the trusted one, and its key.
pub(crate) type Identity = (Vec<CertificateDer<'static>>, Zeroizing<PrivateKeyDer<'static>>);

/// Whom to trust and who we are.
pub struct TlsConfig {
    /// The certificates that are trusted; `None` for those of the system.
    pub(crate) trusted: Option<Vec<CertificateDer<'static>>>,
    /// This client's certificates, its own first, and the key.
    pub(crate) identity: Option<Identity>,
    pub(crate) checks: ServerChecks,
    pub(crate) tls12: bool,
    pub(crate) tls13: bool,
}

impl fmt::Debug for TlsConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TlsConfig")
            .field("trusted", &self.trusted.as_ref().map(Vec::len))
            .field("has_identity", &self.identity.is_some())
            .field("checks", &self.checks)
            .finish_non_exhaustive()
    }
}

/// What must be true of the broker's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ServerChecks {
    /// It is trusted and names the host.
    Full,
    /// It is trusted (`ssl.endpoint.identification.algorithm` is empty).
    WithoutHostName,
    /// Nothing (`enable.ssl.certificate.verification=false`).
    Nothing,
}

/// Who we say we are.
#[derive(Debug, Clone)]
pub struct SaslConfig {
    /// `sasl.mechanism`.
    pub mechanism: Mechanism,
    /// `sasl.username`, or the one in `sasl.jaas.config`.
    pub username: String,
    /// `sasl.password`, or the one in `sasl.jaas.config`.
    pub password: Secret,
}

/// Kafka's keys, and the names that librdkafka has for the same.
const SAME: [(&str, &str); 5] = [
    ("ssl.truststore.location", "ssl.ca.location"),
    ("ssl.truststore.certificates", "ssl.ca.pem"),
    ("ssl.keystore.certificate.chain", "ssl.certificate.pem"),
    ("ssl.keystore.key", "ssl.key.pem"),
    ("sasl.mechanism", "sasl.mechanisms"),
];

impl SecurityConfig {
    pub(super) fn new(settings: &Settings) -> Result<Self> {
        let protocol = protocol(settings.text("security.protocol"))?;
        refuse_unused(settings, protocol)?;
        for (ours, theirs) in SAME {
            if is_given(settings, ours) && is_given(settings, theirs) {
                return Err(mistake(format!("{ours} and {theirs} mean the same; set one of them")));
            }
        }
        Ok(SecurityConfig {
            protocol,
            tls: if protocol.has_tls() {
                Some(Arc::new(tls(settings)?))
            } else {
                None
            },
            sasl: if protocol.has_sasl() {
                Some(Arc::new(sasl(settings)?))
            } else {
                None
            },
        })
    }
}

/// A password for a connection that does not use it is a mistake that should not wait for a refused request to be found.
fn refuse_unused(settings: &Settings, protocol: SecurityProtocol) -> Result<()> {
    let unused = |start: &str| {
        let rows = KEYS.iter().filter(|row| row.name.starts_with(start));
        rows.map(|row| row.name).find(|name| is_given(settings, name))
    };
    let name = protocol.name();
    if !protocol.has_sasl()
        && let Some(key) = unused("sasl.")
    {
        return Err(mistake(format!(
            "{key} is set, but security.protocol={name} does not use SASL; set security.protocol=SASL_SSL (or \
             SASL_PLAINTEXT), or leave {key} out"
        )));
    }
    if !protocol.has_tls()
        && let Some(key) = unused("ssl.").or_else(|| unused("enable.ssl."))
    {
        return Err(mistake(format!(
            "{key} is set, but security.protocol={name} does not use TLS; set security.protocol=SSL or SASL_SSL, or \
             leave {key} out"
        )));
    }
    Ok(())
}

/// Whether a key was set to something.
fn is_given(settings: &Settings, key: &str) -> bool {
    settings.secret(key).is_some() || (settings.is_set(key) && !settings.text(key).is_empty())
}

/// The value of a key or of librdkafka's name for it, and the name that was used.
fn either<'s>(settings: &'s Settings, key: &'static str) -> Option<(&'static str, &'s str)> {
    let other = SAME.iter().find(|(ours, _)| *ours == key).map(|(_, theirs)| *theirs);
    [Some(key), other].into_iter().flatten().find_map(|name| {
        let secret = settings.secret(name).map(Secret::expose);
        let value = secret.or_else(|| Some(settings.text(name)).filter(|text| !text.is_empty()));
        value.map(|value| (name, value))
    })
}

fn tls(settings: &Settings) -> Result<TlsConfig> {
    check_store_type(settings, "ssl.truststore.type", "ssl.truststore.location", Store::Trust)?;
    check_store_type(settings, "ssl.keystore.type", "ssl.keystore.location", Store::Key)?;
    let (tls12, tls13) = protocols(settings.text("ssl.enabled.protocols"))?;
    Ok(TlsConfig {
        trusted: trusted(settings)?,
        identity: identity(settings)?,
        checks: checks(settings)?,
        tls12,
        tls13,
    })
}

fn check_store_type(settings: &Settings, key: &str, location: &'static str, store: Store) -> Result<()> {
    let format = settings.text(key).to_ascii_uppercase();
    match format.as_str() {
        "PEM" => Ok(()),
        "JKS" | "PKCS12" => {
            let path = either(settings, location).map_or("STORE", |(_, path)| path);
            Err(pem::convert(&format, key, path, store))
        }
        _ => Err(mistake(format!("{key} is {format:?}; it must be PEM"))),
    }
}

fn trusted(settings: &Settings) -> Result<Option<Vec<CertificateDer<'static>>>> {
    let file = either(settings, "ssl.truststore.location");
    let value = either(settings, "ssl.truststore.certificates");
    let source = match (file, value) {
        (Some((one, _)), Some((other, _))) => {
            return Err(mistake(format!(
                "{one} and {other} are both set; one of them says whom to trust"
            )));
        }
        (Some((key, path)), None) => Source::file(key, path, Store::Trust)?,
        (None, Some((key, text))) => Source::value(key, text),
        (None, None) => return Ok(None),
    };
    source.certificates().map(Some)
}

/// The client's certificate and key: both in one file, in a file each, or as values.
fn identity(settings: &Settings) -> Result<Option<Identity>> {
    let password = settings.secret("ssl.key.password");
    let store = either(settings, "ssl.keystore.location");
    let chain = certificate_source(settings)?;
    let key = key_source(settings)?;
    match (store, chain, key) {
        (None, None, None) => match password {
            None => Ok(None),
            Some(_) => Err(mistake(
                "ssl.key.password is set, but no private key (ssl.keystore.location or ssl.keystore.key)",
            )),
        },
        (Some((name, path)), None, None) => {
            let source = Source::file(name, path, Store::Key)?;
            together(&source, &source, password)
        }
        (Some((name, _)), _, _) => Err(mistake(format!(
            "{name} is set, and a certificate or key besides; a PEM keystore has both in one file"
        ))),
        (None, Some(chain), Some(key)) => together(&chain, &key, password),
        (None, Some(_), None) => Err(mistake(
            "a client certificate is set, but no private key: set ssl.keystore.key, ssl.key.location or ssl.key.pem",
        )),
        (None, None, Some(_)) => Err(mistake(
            "a private key is set, but no client certificate: set ssl.keystore.certificate.chain, \
             ssl.certificate.location or ssl.certificate.pem",
        )),
    }
}

fn together(chain: &Source, key: &Source, password: Option<&Secret>) -> Result<Option<Identity>> {
    let (chain, key) = (chain.certificates()?, key.key(password)?);
    let key = match chain.first() {
        Some(own) => pem::completed(key, own),
        None => key,
    };
    Ok(Some((chain, Zeroizing::new(key))))
}

fn certificate_source(settings: &Settings) -> Result<Option<Source>> {
    one_of(settings, "ssl.certificate.location", "ssl.keystore.certificate.chain")
}

fn key_source(settings: &Settings) -> Result<Option<Source>> {
    one_of(settings, "ssl.key.location", "ssl.keystore.key")
}

fn one_of(settings: &Settings, file: &'static str, value: &'static str) -> Result<Option<Source>> {
    match (either(settings, file), either(settings, value)) {
        (Some((one, _)), Some((other, _))) => Err(mistake(format!("{one} and {other} are both set; set one of them"))),
        (Some((key, path)), None) => Source::file(key, path, Store::Key).map(Some),
        (None, Some((key, text))) => Ok(Some(Source::value(key, text))),
        (None, None) => Ok(None),
    }
}

fn checks(settings: &Settings) -> Result<ServerChecks> {
    const ALGORITHM: &str = "ssl.endpoint.identification.algorithm";
    let algorithm = settings.text(ALGORITHM).to_ascii_lowercase();
    let host = match algorithm.as_str() {
        "https" => true,
        "" | "none" => false,
        other => {
            return Err(mistake(format!(
                "{ALGORITHM} is {other:?}; it must be https, or empty for no check"
            )));
        }
    };
    if !settings.yes("enable.ssl.certificate.verification") {
        tracing::warn!(
            "enable.ssl.certificate.verification=false: any server can pass itself off as the broker and read everything"
        );
        return Ok(ServerChecks::Nothing);
    }
    if !host {
        tracing::warn!("{ALGORITHM} is empty: a broker may show any trusted certificate, another host's too");
        return Ok(ServerChecks::WithoutHostName);
    }
    Ok(ServerChecks::Full)
}

/// Whether TLS 1.2 and 1.3 may be used.
fn protocols(list: &str) -> Result<(bool, bool)> {
    let (mut tls12, mut tls13) = (false, false);
    for version in list.split(',').map(str::trim).filter(|version| !version.is_empty()) {
        match version {
            "TLSv1.2" => tls12 = true,
            "TLSv1.3" => tls13 = true,
            "TLSv1" | "TLSv1.1" | "SSLv3" | "SSLv2Hello" => {
                return Err(mistake(format!(
                    "ssl.enabled.protocols: {version} is not secure and not supported; use TLSv1.2,TLSv1.3"
                )));
            }
            other => {
                return Err(mistake(format!(
                    "ssl.enabled.protocols: {other:?} is not known; use TLSv1.2,TLSv1.3"
                )));
            }
        }
    }
    if !tls12 && !tls13 {
        return Err(mistake("ssl.enabled.protocols is empty; use TLSv1.2,TLSv1.3"));
    }
    Ok((tls12, tls13))
}

fn sasl(settings: &Settings) -> Result<SaslConfig> {
    let Some((key, name)) = either(settings, "sasl.mechanism") else {
        return Err(mistake(format!(
            "security.protocol={} needs sasl.mechanism: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512",
            settings.text("security.protocol").to_ascii_uppercase()
        )));
    };
    let mechanism = mechanism(key, name)?;
    let given = (settings.text("sasl.username"), settings.secret("sasl.password"));
    let (username, password) = match settings.secret("sasl.jaas.config") {
        Some(jaas) => {
            if is_given(settings, "sasl.username") || given.1.is_some() {
                return Err(mistake(
                    "sasl.jaas.config and sasl.username or sasl.password are both set; one of them says who we are",
                ));
            }
            of_jaas(jaas, mechanism)?
        }
        None => (given.0.to_owned(), given.1.cloned()),
    };
    let missing = |what: &str| {
        mistake(format!(
            "{mechanism} needs a {what}: set sasl.username and sasl.password, or sasl.jaas.config"
        ))
    };
    if username.is_empty() {
        return Err(missing("user name"));
    }
    let password = password
        .filter(|password| !password.is_empty())
        .ok_or_else(|| missing("password"))?;
    if username.contains('\0') || password.expose().contains('\0') {
        return Err(mistake("a SASL user name or password must not contain a NUL"));
    }
    Ok(SaslConfig {
        mechanism,
        username,
        password,
    })
}

fn mechanism(key: &str, name: &str) -> Result<Mechanism> {
    let upper = name.to_ascii_uppercase();
    if let Some(mechanism) = Mechanism::from_name(&upper) {
        return Ok(mechanism);
    }
    let known = ["GSSAPI", "OAUTHBEARER", "AWS_MSK_IAM"].contains(&upper.as_str());
    let why = if known { "is not available yet" } else { "is not known" };
    Err(mistake(format!(
        "{key}: {name:?} {why}; it must be PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )))
}

/// Name and password of a JAAS entry, whose module must be the mechanism's.
fn of_jaas(jaas: &Secret, mechanism: Mechanism) -> Result<(String, Option<Secret>)> {
    let entry = jaas::Entry::parse(jaas.expose())?;
    let expected = match mechanism {
        Mechanism::Plain => "PlainLoginModule",
        Mechanism::ScramSha256 | Mechanism::ScramSha512 => "ScramLoginModule",
    };
    if entry.module != expected {
        return Err(mistake(format!(
            "sasl.jaas.config names another login module than sasl.mechanism={mechanism} needs ({expected})"
        )));
    }
    if entry
        .option("tokenauth")
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
    {
        return Err(mistake(
            "sasl.jaas.config: delegation tokens (tokenauth) are not available yet",
        ));
    }
    let username = entry.option("username").unwrap_or_default().to_owned();
    Ok((username, entry.option("password").map(Secret::new)))
}

#[cfg(test)]
mod tests;
