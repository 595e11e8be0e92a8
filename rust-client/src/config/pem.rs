//! Certificates and keys in PEM, from a file or a value; and what to tell who has them in another format.
//!
//! In: text with `-----BEGIN ...-----` blocks. Out: their bytes. What stands between blocks is skipped, so the output of
//! `keytool -list -rfc` and `openssl pkcs12` will do as it is. A value may have its lines joined by spaces or by a literal
//! `\n`, as properties files and environment variables have them.
//!
//! JKS and PKCS#12 are not read: they are answered with the commands that convert the file.

use base64::Engine;
use pkcs8::der::{Decode, Encode};
use pkcs8::{EncryptedPrivateKeyInfoRef, ObjectIdentifier, PrivateKeyInfoRef};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs1KeyDer, PrivatePkcs8KeyDer, PrivateSec1KeyDer};
use sec1::EcPrivateKey;
use zeroize::Zeroizing;

use super::{Secret, mistake};
use crate::error::{Error, Result};

/// The largest file that is read. All certificates of the web have some 200 kB.
const MAX_FILE_BYTES: u64 = 16 * 1024 * 1024;

/// A store, and so which command converts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Store {
    /// Whom to trust.
    Trust,
    /// Who we are.
    Key,
}

/// A text and where it comes from, as errors name it.
pub(super) struct Source {
    origin: String,
    text: Zeroizing<String>,
}

impl Source {
    /// The value of a key.
    pub fn value(key: &str, text: &str) -> Source {
        Source {
            origin: key.to_owned(),
            text: Zeroizing::new(text.replace("\\n", "\n")),
        }
    }

    /// A file.
    ///
    /// # Errors
    /// It cannot be read or is no PEM; a store of Java's is answered with the command that converts it.
    pub fn file(key: &str, path: &str, store: Store) -> Result<Source> {
        let origin = format!("{key} ({path})");
        let cannot = |error: std::io::Error| mistake(format!("{origin} cannot be read: {error}")).with_source(error);
        let about = std::fs::metadata(path).map_err(cannot)?;
        if about.is_dir() {
            return Err(mistake(format!("{origin} is a folder; name a PEM file")));
        }
        if about.len() > MAX_FILE_BYTES {
            return Err(mistake(format!(
                "{origin} has {} bytes; that is no PEM file",
                about.len()
            )));
        }
        let bytes = Zeroizing::new(std::fs::read(path).map_err(cannot)?);
        let format = match bytes.as_slice() {
            [0xfe, 0xed, 0xfe, 0xed, ..] => Some("JKS"),
            [0x30, 0x80..=0x84, ..] if is_pkcs12(&bytes) => Some("PKCS12"),
            [0x30, 0x80..=0x84, ..] => {
                return Err(mistake(format!(
                    "{origin} is DER, not PEM; convert it: openssl x509 -inform der -in {path} -out converted.pem"
                )));
            }
            _ => None,
        };
        if let Some(format) = format {
            return Err(convert(format, &origin, path, store));
        }
        let text = std::str::from_utf8(&bytes).map_err(|_| mistake(format!("{origin} is not PEM: it is not text")))?;
        Ok(Source {
            origin,
            text: Zeroizing::new(text.to_owned()),
        })
    }

    /// All certificates, in their order; at least one.
    ///
    /// # Errors
    /// There is none, or a block is damaged.
    pub fn certificates(&self) -> Result<Vec<CertificateDer<'static>>> {
        let blocks = self.blocks()?;
        let of_certificates = blocks
            .iter()
            .filter(|block| matches!(block.label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE"));
        let all: Vec<_> = of_certificates
            .map(|block| CertificateDer::from(block.der.to_vec()))
            .collect();
        if all.is_empty() {
            return Err(mistake(format!(
                "{} has no -----BEGIN CERTIFICATE----- in it",
                self.origin
            )));
        }
        Ok(all)
    }

    /// The private key; `password` opens one that is encrypted.
    ///
    /// # Errors
    /// There is none, it is damaged, or the password does not open it.
    pub fn key(&self, password: Option<&Secret>) -> Result<PrivateKeyDer<'static>> {
        for block in self.blocks()? {
            if block.headers && block.label.ends_with("PRIVATE KEY") {
                return Err(mistake(format!(
                    "{}: the private key is encrypted in OpenSSL's old format; convert it: openssl pkcs8 -topk8 -v2 \
                     aes-256-cbc -in OLD.pem -out NEW.pem",
                    self.origin
                )));
            }
            return match block.label {
                "PRIVATE KEY" => Ok(PrivatePkcs8KeyDer::from(block.der.to_vec()).into()),
                "RSA PRIVATE KEY" => Ok(PrivatePkcs1KeyDer::from(block.der.to_vec()).into()),
                "EC PRIVATE KEY" => Ok(PrivateSec1KeyDer::from(block.der.to_vec()).into()),
                "ENCRYPTED PRIVATE KEY" => self.decrypt(&block.der, password),
                _ => continue,
            };
        }
        Err(mistake(format!("{} has no private key in it", self.origin)))
    }

    fn decrypt(&self, der: &[u8], password: Option<&Secret>) -> Result<PrivateKeyDer<'static>> {
        let origin = &self.origin;
        let password =
            password.ok_or_else(|| mistake(format!("{origin}: the private key is encrypted; set ssl.key.password")))?;
        let encrypted = EncryptedPrivateKeyInfoRef::try_from(der)
            .map_err(|error| mistake(format!("{origin}: the encrypted private key is damaged ({error})")))?;
        let opened = encrypted.decrypt(password.expose()).map_err(|error| {
            mistake(format!(
                "{origin}: the private key cannot be decrypted with ssl.key.password ({error}). If the password is \
                 right, its algorithm is not supported; convert it: openssl pkcs8 -topk8 -v2 aes-256-cbc -in OLD.pem \
                 -out NEW.pem"
            ))
        })?;
        Ok(PrivatePkcs8KeyDer::from(opened.as_bytes().to_vec()).into())
    }

    fn blocks(&self) -> Result<Vec<Block<'_>>> {
        const BEGIN: &str = "-----BEGIN ";
        let damaged = |why: &str| mistake(format!("{} is not valid PEM: {why}", self.origin));
        let mut blocks = Vec::new();
        let mut rest = self.text.as_str();
        while let Some(at) = rest.find(BEGIN) {
            let inside = &rest[at + BEGIN.len()..];
            let (label, after) = inside
                .split_once("-----")
                .ok_or_else(|| damaged("a BEGIN line does not end with -----"))?;
            let end = format!("-----END {label}-----");
            let (body, after) = after
                .split_once(end.as_str())
                .ok_or_else(|| damaged("an END line is missing"))?;
            rest = after;
            let mut letters = Zeroizing::new(String::with_capacity(body.len()));
            let mut headers = false;
            for line in body.lines() {
                if line.contains(':') {
                    headers = true;
                } else {
                    letters.extend(line.chars().filter(|c| !c.is_whitespace()));
                }
            }
            let der = base64::engine::general_purpose::STANDARD
                .decode(letters.as_bytes())
                .map(Zeroizing::new);
            let der = match der {
                Ok(der) => der,
                // The body of such a key is not looked at.
                Err(_) if headers => Zeroizing::default(),
                Err(_) => return Err(damaged("a block is not base64")),
            };
            blocks.push(Block { label, der, headers });
        }
        Ok(blocks)
    }
}

struct Block<'t> {
    label: &'t str,
    der: Zeroizing<Vec<u8>>,
    /// It has lines like `Proc-Type: 4,ENCRYPTED`.
    headers: bool,
}

/// The algorithm `id-ecPublicKey`.
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");

/// A key as rustls takes it. Java leaves the public half out of its EC keys, which ring insists on; it is in the
/// certificate. What is not such a key, or cannot be read, is returned as it is: rustls judges it.
pub(super) fn completed(key: PrivateKeyDer<'static>, certificate: &CertificateDer<'_>) -> PrivateKeyDer<'static> {
    complete_ec(&key, certificate).unwrap_or(key)
}

fn complete_ec(key: &PrivateKeyDer<'_>, certificate: &CertificateDer<'_>) -> Option<PrivateKeyDer<'static>> {
    let PrivateKeyDer::Pkcs8(pkcs8) = key else {
        return None;
    };
    let info = PrivateKeyInfoRef::try_from(pkcs8.secret_pkcs8_der()).ok()?;
    if info.algorithm.oid != EC {
        return None;
    }
    let mut ec = EcPrivateKey::from_der(info.private_key.as_bytes()).ok()?;
    if ec.public_key.is_some() {
        return None;
    }
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    let public = certificate.tbs_certificate().subject_public_key_info();
    ec.public_key = Some(public.subject_public_key.as_bytes()?);
    Some(PrivateSec1KeyDer::from(ec.to_der().ok()?).into())
}

/// A PKCS#12 store is a sequence that begins with the version, 3.
fn is_pkcs12(der: &[u8]) -> bool {
    let length_bytes = match der.get(1) {
        Some(long @ 0x81..=0x84) => usize::from(long & 0x7f),
        _ => 0,
    };
    der.get(2 + length_bytes..)
        .is_some_and(|body| body.starts_with(&[2, 1, 3]))
}

/// A store in one of Java's formats.
pub(super) fn convert(format: &str, origin: &str, path: &str, store: Store) -> Error {
    let commands = match store {
        Store::Trust => format!("keytool -list -rfc -keystore {path} > truststore.pem"),
        Store::Key if format.eq_ignore_ascii_case("PKCS12") => {
            format!("openssl pkcs12 -in {path} -nodes -out keystore.pem")
        }
        Store::Key => format!(
            "keytool -importkeystore -srckeystore {path} -destkeystore keystore.p12 -deststoretype PKCS12 && openssl \
             pkcs12 -in keystore.p12 -nodes -out keystore.pem"
        ),
    };
    let name = match store {
        Store::Trust => "truststore",
        Store::Key => "keystore",
    };
    mistake(format!(
        "{origin}: a {format} store cannot be read, only PEM. Convert it: {commands} ; then set ssl.{name}.location={name}.pem \
         and leave out ssl.{name}.type and ssl.{name}.password"
    ))
}

/// The password of a store, which only JKS and PKCS#12 have: an error with the commands for the file that `location` knows.
pub(super) fn store_password<'s>(key: &str, location: impl Fn(&'static str) -> &'s str) -> Option<Error> {
    let (store, at) = match key {
        "ssl.truststore.password" => (Store::Trust, "ssl.truststore.location"),
        "ssl.keystore.password" => (Store::Key, "ssl.keystore.location"),
        _ => return None,
    };
    let path = Some(location(at)).filter(|path| !path.is_empty()).unwrap_or("STORE");
    Some(convert("JKS or PKCS12", key, path, store))
}
