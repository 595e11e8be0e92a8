//! Certificates of every kind that a test of TLS needs, made anew for each run.
//!
//! Takes nothing. Gives PEM files in a folder of their own, which goes with the [`Certificates`]. Keys are ECDSA P-256 in
//! PKCS#8: rustls, Java and OpenSSL all read them.

use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};

use crate::peer::Failure;

/// The folder and its files.
pub struct Certificates {
    folder: tempfile::TempDir,
}

/// What can be wrong with a certificate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flaw {
    None,
    Elsewhere,
    Expired,
}

impl Certificates {
    /// Makes all of them: some milliseconds.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn make() -> Result<Certificates, Failure> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let certificates = Certificates { folder };
        certificates.write().map_err(|error| error.to_string())?;
        Ok(certificates)
    }

    fn write(&self) -> Result<(), Box<dyn std::error::Error>> {
        let (ours, strangers) = (authority("Ottla tests")?, authority("Strangers")?);
        let server = ExtendedKeyUsagePurpose::ServerAuth;
        let client = ExtendedKeyUsagePurpose::ClientAuth;
        for (name, text) in [
            ("ca", ours.pem()),
            ("other-ca", strangers.pem()),
            ("server", issue(&ours, "localhost", server.clone(), Flaw::None)?),
            (
                "elsewhere",
                issue(&ours, "elsewhere.example", server.clone(), Flaw::Elsewhere)?,
            ),
            ("expired", issue(&ours, "localhost", server, Flaw::Expired)?),
            ("client", issue(&ours, "client", client.clone(), Flaw::None)?),
            ("stranger", issue(&strangers, "stranger", client, Flaw::None)?),
        ] {
            std::fs::write(self.file(name), text)?;
        }
        Ok(())
    }

    /// Where they are.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(format!("{name}.pem"))
    }

    /// The authority that signed all but the stranger.
    pub fn ca(&self) -> PathBuf {
        self.file("ca")
    }

    /// An authority that signed nothing of the broker's.
    pub fn other_ca(&self) -> PathBuf {
        self.file("other-ca")
    }

    /// A broker's certificate and key, for `localhost`, 127.0.0.1 and ::1.
    pub fn server(&self) -> PathBuf {
        self.file("server")
    }

    /// The same for another host.
    pub fn elsewhere(&self) -> PathBuf {
        self.file("elsewhere")
    }

    /// The same for the right host, but it ended years ago.
    pub fn expired(&self) -> PathBuf {
        self.file("expired")
    }

    /// A client's certificate and key.
    pub fn client(&self) -> PathBuf {
        self.file("client")
    }

    /// A client's certificate and key, signed by the other authority.
    pub fn stranger(&self) -> PathBuf {
        self.file("stranger")
    }
}

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Result<Authority, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    CertifiedIssuer::self_signed(params, KeyPair::generate()?)
}

/// Certificate and key, one behind the other.
fn issue(
    authority: &Authority,
    name: &str,
    purpose: ExtendedKeyUsagePurpose,
    flaw: Flaw,
) -> Result<String, rcgen::Error> {
    let mut names = vec![name.to_owned()];
    if name == "localhost" {
        names.extend(["127.0.0.1".to_owned(), "::1".to_owned()]);
    }
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name.push(DnType::CommonName, name);
    params.extended_key_usages = vec![purpose];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    (params.not_before, params.not_after) = match flaw {
        Flaw::Expired => (date_time_ymd(2019, 1, 1), date_time_ymd(2020, 1, 1)),
        Flaw::None | Flaw::Elsewhere => (date_time_ymd(2020, 1, 1), date_time_ymd(2096, 1, 1)),
    };
    let key = KeyPair::generate()?;
    let certificate = params.signed_by(&key, authority)?;
    Ok(certificate.pem() + &key.serialize_pem())
}
