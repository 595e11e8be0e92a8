//! Certificates made for one test, and TLS servers with them.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SerialNumber, date_time_ymd};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, SupportedProtocolVersion};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio_rustls::TlsAcceptor;

/// A certificate authority.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    der: CertificateDer<'static>,
    pub pem: String,
}

/// A certificate and its key.
pub(crate) struct Identity {
    der: CertificateDer<'static>,
    key: KeyPair,
    pub certificate_pem: String,
    pub key_pem: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        Authority {
            der: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    pub fn issue(&self, name: &str, hosts: &[&str]) -> Identity {
        self.issue_until(name, hosts, 2100)
    }

    /// Valid from 1975 to the first day of `year`.
    pub fn issue_until(&self, name: &str, hosts: &[&str], year: i32) -> Identity {
        let params = params(name, hosts, year);
        let key = KeyPair::generate().unwrap();
        Identity::new(params.signed_by(&key, &self.issuer).unwrap(), key)
    }
}

fn params(name: &str, hosts: &[&str], year: i32) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_after = date_time_ymd(year, 1, 1);
    params
}

/// As `openssl req -x509` makes it: signed by itself, and an authority.
pub(crate) fn self_signed(name: &str, hosts: &[&str]) -> Identity {
    self_signed_with(name, hosts, 2100, &[7; 16])
}

/// The same, valid until the first day of `year`, with a serial number.
pub(crate) fn self_signed_with(name: &str, hosts: &[&str], year: i32, serial: &[u8]) -> Identity {
    let mut params = params(name, hosts, year);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.serial_number = Some(SerialNumber::from_slice(serial));
    let key = KeyPair::generate().unwrap();
    Identity::new(params.self_signed(&key).unwrap(), key)
}

impl Identity {
    fn new(certificate: rcgen::Certificate, key: KeyPair) -> Identity {
        Identity {
            der: certificate.der().clone(),
            certificate_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            key,
        }
    }

    /// A server with this certificate; clients need one of `clients`, if there is such an authority.
    pub fn server(&self, clients: Option<&Authority>) -> TlsAcceptor {
        self.server_with(clients, rustls::ALL_VERSIONS)
    }

    pub fn server_with(
        &self,
        clients: Option<&Authority>,
        versions: &[&'static SupportedProtocolVersion],
    ) -> TlsAcceptor {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_protocol_versions(versions)
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.der.clone()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(self.key.serialize_der()));
        let config = builder.with_single_cert(vec![self.der.clone()], key).unwrap();
        TlsAcceptor::from(Arc::new(config))
    }
}
