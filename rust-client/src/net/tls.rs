//! TLS, by rustls: what is needed to start it, whom to trust, and what to tell when it fails.
//!
//! In: certificates, a key, what to check. Out: a handshake on a connected socket. It never goes on without TLS, and
//! checks nothing less than it was told to. Failures are told with what the certificate says: who it is, who issued it,
//! which hosts it names, until when it was valid.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::server::ParsedCertificate;
use rustls::{
    AlertDescription, CertificateError, ClientConfig, DigitallySignedStruct, OtherError, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use x509_cert::der::Decode;
use x509_cert::ext::pkix::SubjectAltName;
use x509_cert::ext::pkix::name::GeneralName;

use crate::config::{ServerChecks, TlsConfig};
use crate::error::{Error, ErrorKind, Result};

/// The most names of a certificate that an error repeats.
const NAMES_TOLD: usize = 20;

/// The longest name of a certificate that an error repeats, in characters.
const NAME_CHARS: usize = 200;

/// All that connections of one client share.
#[derive(Clone)]
pub(crate) struct Tls {
    connector: TlsConnector,
    /// Whether the client has a certificate to show.
    pub has_identity: bool,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("has_identity", &self.has_identity)
            .finish_non_exhaustive()
    }
}

impl Tls {
    /// Loads certificates and key.
    ///
    /// # Errors
    /// [`ErrorKind::Config`]: one of them cannot be used, or the system has no certificates.
    pub fn new(config: &TlsConfig) -> Result<Tls> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut versions = Vec::new();
        if config.tls13 {
            versions.push(&rustls::version::TLS13);
        }
        if config.tls12 {
            versions.push(&rustls::version::TLS12);
        }
        let verifier = Verifier {
            roots: roots(config)?,
            pinned: config.trusted.clone().unwrap_or_default(),
            algorithms: provider.signature_verification_algorithms,
            checks: config.checks,
        };
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&versions)
            .map_err(|error| unusable("the TLS versions of ssl.enabled.protocols", error))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(verifier));
        let client = match &config.identity {
            None => builder.with_no_client_auth(),
            Some((chain, key)) => builder
                .with_client_auth_cert(chain.clone(), key.clone_key())
                .map_err(|error| unusable("the client's certificate and private key", error))?,
        };
        Ok(Tls {
            connector: TlsConnector::from(Arc::new(client)),
            has_identity: config.identity.is_some(),
        })
    }

    /// Shakes hands with the server behind `stream`, which must prove to be `host`.
    ///
    /// # Errors
    /// As the operating system or rustls give them; see [`explain`].
    pub async fn handshake(&self, host: &str, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        let name = host.strip_suffix('.').unwrap_or(host).to_owned();
        let name = ServerName::try_from(name).map_err(|_| {
            let text = format!("{host:?} is not a name that a certificate can have");
            io::Error::other(rustls::Error::InvalidCertificate(rejected(text)))
        })?;
        self.connector.connect(name, stream).await
    }
}

fn unusable(what: &str, error: rustls::Error) -> Error {
    Error::new(ErrorKind::Config, format!("{what} cannot be used: {error}")).with_source(error)
}

fn roots(config: &TlsConfig) -> Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    if config.checks == ServerChecks::Nothing {
        return Ok(store);
    }
    match &config.trusted {
        Some(trusted) => {
            for (at, certificate) in trusted.iter().enumerate() {
                store
                    .add(certificate.clone())
                    .map_err(|error| unusable(&format!("certificate {} of the trust store", at + 1), error))?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            if store.is_empty() {
                let causes: Vec<String> = found.errors.iter().map(ToString::to_string).collect();
                let text = format!(
                    "this system has no trusted certificates; set ssl.truststore.location to a PEM file ({})",
                    causes.join("; ")
                );
                return Err(Error::new(ErrorKind::Config, text));
            }
        }
    }
    Ok(store)
}

/// Judges the broker's certificate.
struct Verifier {
    roots: RootCertStore,
    /// The trust store's certificates themselves: a broker may show one of them, as self-signed ones do.
    pinned: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
    checks: ServerChecks,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verifier")
            .field("checks", &self.checks)
            .finish_non_exhaustive()
    }
}

impl Verifier {
    fn check_trust(
        &self,
        certificate: &ParsedCertificate<'_>,
        der: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<(), rustls::Error> {
        // Path building refuses authorities as servers; one that is trusted by itself needs no path.
        if self.pinned.iter().any(|pinned| pinned == der)
            // One whose dates cannot be read needs a path as any other.
            && let Some(seen) = Seen::read(der)
        {
            return match seen.out_of_date(now) {
                None => Ok(()),
                Some(text) => Err(rustls::Error::InvalidCertificate(rejected(text))),
            };
        }
        verify_server_cert_signed_by_trust_anchor(certificate, &self.roots, between, now, self.algorithms.all)
            .map_err(|error| self.told(error, der, None, now))
    }

    /// The same refusal in words that help.
    fn told(
        &self,
        error: rustls::Error,
        der: &CertificateDer<'_>,
        host: Option<&ServerName<'_>>,
        now: UnixTime,
    ) -> rustls::Error {
        use CertificateError as C;
        let rustls::Error::InvalidCertificate(cause) = error else {
            return error;
        };
        let Some(seen) = Seen::read(der) else {
            return rustls::Error::InvalidCertificate(cause);
        };
        let text = match (&cause, host) {
            (C::UnknownIssuer, _) => seen.not_trusted(self.roots.len()),
            (C::NotValidForName | C::NotValidForNameContext { .. }, Some(host)) => seen.other_host(host),
            (C::Expired | C::ExpiredContext { .. } | C::NotValidYet | C::NotValidYetContext { .. }, _) => {
                seen.out_of_date(now).unwrap_or_else(|| {
                    format!(
                        "a certificate between {} and the trusted one is out of date: {cause}",
                        seen.who()
                    )
                })
            }
            _ => format!("the broker's certificate {} is not valid: {cause}", seen.who()),
        };
        rustls::Error::InvalidCertificate(rejected(text))
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.checks != ServerChecks::Nothing {
            let certificate = ParsedCertificate::try_from(end_entity)?;
            self.check_trust(&certificate, end_entity, intermediates, now)?;
            if self.checks == ServerChecks::Full {
                verify_server_name(&certificate, server_name)
                    .map_err(|error| self.told(error, end_entity, Some(server_name), now))?;
            }
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// What errors tell of a certificate.
struct Seen {
    subject: String,
    issuer: String,
    hosts: Vec<String>,
    not_before: SystemTime,
    not_after: SystemTime,
    until: String,
    from: String,
}

impl Seen {
    /// `None` if it cannot be read; then it could not be verified either.
    fn read(der: &CertificateDer<'_>) -> Option<Seen> {
        let certificate = x509_cert::Certificate::from_der(der).ok()?;
        let body = certificate.tbs_certificate();
        let validity = body.validity();
        let names = body.get_extension::<SubjectAltName>().ok().flatten();
        let hosts = names.iter().flat_map(|(_, names)| &names.0).filter_map(host_of);
        Some(Seen {
            subject: shown(&body.subject().to_string()),
            issuer: shown(&body.issuer().to_string()),
            hosts: hosts.collect(),
            not_before: validity.not_before.to_system_time(),
            not_after: validity.not_after.to_system_time(),
            from: validity.not_before.to_date_time().to_string(),
            until: validity.not_after.to_date_time().to_string(),
        })
    }

    fn who(&self) -> &str {
        if self.subject.is_empty() {
            "without a subject"
        } else {
            &self.subject
        }
    }

    fn not_trusted(&self, trusted: usize) -> String {
        let by = if self.subject == self.issuer {
            "by itself (self-signed)".to_owned()
        } else {
            format!("by {}", self.issuer)
        };
        format!(
            "the broker's certificate {} is not trusted: it was issued {by}, and none of the {trusted} trusted \
             certificates vouches for that; if this is the right broker, set ssl.truststore.location to the PEM file of \
             its certificate authority",
            self.who()
        )
    }

    fn other_host(&self, host: &ServerName<'_>) -> String {
        let mut names = self
            .hosts
            .iter()
            .take(NAMES_TOLD)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        if self.hosts.len() > NAMES_TOLD {
            names.push_str(", ...");
        }
        if names.is_empty() {
            names = format!(
                "no host (its subject {} does not count, only subject alternative names do)",
                self.who()
            );
        }
        format!(
            "the broker's certificate does not name {}: it names {names}; connect by one of its names, or have the \
             broker's certificate name the address that clients use",
            host.to_str()
        )
    }

    fn out_of_date(&self, now: UnixTime) -> Option<String> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        if now > self.not_after {
            return Some(format!(
                "the broker's certificate {} expired at {}",
                self.who(),
                self.until
            ));
        }
        (now < self.not_before).then(|| {
            format!(
                "the broker's certificate {} is only valid from {} on: is this machine's clock right?",
                self.who(),
                self.from
            )
        })
    }
}

fn host_of(name: &GeneralName) -> Option<String> {
    match name {
        GeneralName::DnsName(name) => Some(shown(name.as_str())),
        GeneralName::IpAddress(bytes) => match bytes.as_bytes() {
            bytes if bytes.len() == 4 => <[u8; 4]>::try_from(bytes)
                .ok()
                .map(|ip| std::net::Ipv4Addr::from(ip).to_string()),
            bytes => <[u8; 16]>::try_from(bytes)
                .ok()
                .map(|ip| std::net::Ipv6Addr::from(ip).to_string()),
        },
        _ => None,
    }
}

/// A name out of a certificate, which a stranger may have made: short, and without control characters.
fn shown(name: &str) -> String {
    let short: String = name.chars().take(NAME_CHARS).collect();
    short
        .escape_debug()
        .to_string()
        .replace("\\\"", "\"")
        .replace("\\'", "'")
}

#[derive(Debug)]
struct Rejected(String);

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Rejected {}

fn rejected(text: String) -> CertificateError {
    CertificateError::Other(OtherError(Arc::new(Rejected(text))))
}

/// What a failed handshake means, or a failure right behind it: with TLS 1.3 a client learns only then what the broker
/// thinks of its certificate. `None` if TLS had no part in it.
pub(super) fn explain(error: &io::Error, has_identity: bool) -> Option<Error> {
    let cause = error.get_ref()?.downcast_ref::<rustls::Error>()?;
    let refused = |text: String| Error::new(ErrorKind::Authentication, text).with_source(cause.clone());
    Some(match cause {
        rustls::Error::InvalidCertificate(CertificateError::Other(OtherError(told))) => refused(told.to_string()),
        rustls::Error::InvalidCertificate(why) => refused(format!("the broker's certificate is not valid: {why}")),
        rustls::Error::AlertReceived(alert) => explain_alert(*alert, has_identity, refused),
        rustls::Error::InvalidMessage(_) => {
            refused("the broker answered without TLS: is this a PLAINTEXT or SASL_PLAINTEXT listener?".to_owned())
        }
        rustls::Error::PeerIncompatible(why) => refused(format!(
            "client and broker have no version or algorithm of TLS in common ({why:?}); see ssl.enabled.protocols"
        )),
        other => {
            let text = format!("TLS failed: {other}");
            Error::new(ErrorKind::Protocol, text)
                .with_retriable(true)
                .with_source(other.clone())
        }
    })
}

fn explain_alert(alert: AlertDescription, has_identity: bool, refused: impl Fn(String) -> Error) -> Error {
    use AlertDescription as A;
    match alert {
        A::CertificateRequired
        | A::NoCertificate
        | A::BadCertificate
        | A::UnsupportedCertificate
        | A::CertificateRevoked
        | A::CertificateExpired
        | A::CertificateUnknown
        | A::UnknownCA
        | A::AccessDenied
        | A::DecryptError => refused(if has_identity {
            format!("the broker rejected this client's certificate ({alert:?}); see ssl.keystore.location")
        } else {
            format!(
                "the broker requires a client certificate ({alert:?}), and none is set: set ssl.keystore.location, or \
                 ssl.certificate.location and ssl.key.location"
            )
        }),
        A::HandshakeFailure | A::ProtocolVersion | A::InsufficientSecurity => refused(format!(
            "the broker refused the TLS handshake ({alert:?}): it wants another version or algorithm of TLS{}",
            if has_identity {
                ""
            } else {
                ", or a client certificate (ssl.keystore.location)"
            }
        )),
        other => Error::new(ErrorKind::Protocol, format!("the broker ended TLS ({other:?})")).with_retriable(true),
    }
}
