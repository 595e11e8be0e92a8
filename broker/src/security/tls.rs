//! TLS: the handshake of a listener, and the bytes behind it.
//!
//! In: the [`TlsSettings`] of a listener, once; then sockets. Out: a [`TlsStream`], which is read and written as a socket
//! without waiting. A peer that speaks something else is refused by name.
//!
//! It is rustls with ring: TLS 1.2 and 1.3, no renegotiation, no compression, no early data. Handshakes have no deadline
//! here: whoever waits for one sets it.

use super::pem;
use crate::config::security::{ClientAuth, KeyStore, Pem, SecurityProtocol, TlsSettings};
use crate::frame_buffer::is_http;
use bytes::BytesMut;
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::CertificateDer;
use rustls::server::{NoClientAuth, WebPkiClientVerifier, danger::ClientCertVerifier};
use rustls::{
    AlertDescription, CertificateError, RootCertStore, ServerConfig, ServerConnection, SupportedCipherSuite,
    SupportedProtocolVersion, version,
};
use std::io::{self, BufRead, IoSlice, Read, Write};
use std::path::Path;
use std::sync::Arc;
use tokio::net::TcpStream;

/// The first byte of a TLS connection: a record of type handshake.
const HANDSHAKE: u8 = 0x16;

/// Reads key and certificates, checks that they belong together, and gives what handshakes need.
///
/// # Errors
/// A sentence that names the file or key, and says what is wrong with it.
pub fn server_config(settings: &TlsSettings) -> Result<ServerConfig, String> {
    let provider = Arc::new(provider(&settings.cipher_suites)?);
    let ((chain_from, chain), (key_from, key)) = match &settings.key_store {
        KeyStore::File(path) => {
            let text = read(path)?;
            let named = path.display().to_string();
            ((named.clone(), text.clone()), (named, text))
        }
        KeyStore::Given { chain, key } => (
            ("ssl.keystore.certificate.chain".to_owned(), chain.expose().to_owned()),
            ("ssl.keystore.key".to_owned(), key.expose().to_owned()),
        ),
    };
    let chain = pem::certificates(&chain).map_err(|problem| format!("{chain_from} {problem}"))?;
    let key = pem::private_key(&key).map_err(|problem| format!("{key_from} {problem}"))?;
    let verifier = client_verifier(settings, &provider)?;
    let versions = versions(&settings.protocols);
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let builder = builder.map_err(|_| {
        "ssl.cipher.suites has none for one of ssl.enabled.protocols; name some for each, or fewer protocols".to_owned()
    })?;
    let built = builder.with_client_cert_verifier(verifier).with_single_cert(chain, key);
    built.map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("{key_from} has a private key that does not belong to the first certificate of {chain_from}")
        }
        error => format!("{chain_from} cannot be used: {error}"),
    })
}

fn read(path: &Path) -> Result<String, String> {
    match std::fs::read(path) {
        // A store in another format is not text: what it lacks will say so.
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) => Err(format!("{} cannot be read: {error}", path.display())),
    }
}

fn versions(names: &[String]) -> Vec<&'static SupportedProtocolVersion> {
    let all = [("TLSv1.3", &version::TLS13), ("TLSv1.2", &version::TLS12)];
    let wanted = all.iter().filter(|(name, _)| names.iter().any(|other| other == name));
    wanted.map(|(_, version)| *version).collect()
}

/// The name in TLS: rustls puts the version into those of TLS 1.3.
fn suite_name(suite: &SupportedCipherSuite) -> String {
    format!("{:?}", suite.suite()).replace("TLS13_", "TLS_")
}

fn provider(names: &[String]) -> Result<CryptoProvider, String> {
    let mut provider = ring::default_provider();
    if names.is_empty() {
        return Ok(provider);
    }
    let known: Vec<String> = provider.cipher_suites.iter().map(suite_name).collect();
    if let Some(name) = names.iter().find(|name| !known.contains(name)) {
        return Err(format!(
            "ssl.cipher.suites has {name}, which is not available; these are: {}",
            known.join(", ")
        ));
    }
    provider
        .cipher_suites
        .retain(|suite| names.contains(&suite_name(suite)));
    Ok(provider)
}

fn client_verifier(
    settings: &TlsSettings,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let Some(store) = &settings.trust_store else {
        return Ok(Arc::new(NoClientAuth));
    };
    let (from, text) = match store {
        Pem::File(path) => (path.display().to_string(), read(path)?),
        Pem::Text(text) => ("ssl.truststore.certificates".to_owned(), text.expose().to_owned()),
    };
    let trusted: Vec<CertificateDer<'static>> =
        pem::certificates(&text).map_err(|problem| format!("{from} {problem}"))?;
    let mut roots = RootCertStore::empty();
    for certificate in trusted {
        roots
            .add(certificate)
            .map_err(|error| format!("{from} has a certificate that cannot be trusted: {error}"))?;
    }
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = match settings.client_auth {
        ClientAuth::None => return Ok(Arc::new(NoClientAuth)),
        ClientAuth::Requested => builder.allow_unauthenticated(),
        ClientAuth::Required => builder,
    };
    builder
        .build()
        .map(|verifier| verifier as Arc<_>)
        .map_err(|error| format!("{from} cannot be used: {error}"))
}

/// Why a handshake did not come about.
#[derive(Debug, thiserror::Error)]
pub enum TlsRefusal {
    /// The first byte belongs to no TLS record.
    #[error("the peer does not speak TLS, but this listener is {0} (set security.protocol={0} in the client)")]
    NotTls(SecurityProtocol),
    /// The first bytes are an HTTP request line.
    #[error("the peer speaks HTTP without TLS; this port speaks Kafka's protocol over TLS")]
    Http,
    /// The two do not agree, or one does not trust the other.
    #[error("the TLS handshake failed: {}", in_words(.0))]
    Failed(rustls::Error),
    /// The peer is gone.
    #[error("the peer closed it during the TLS handshake")]
    Closed,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// What is wrong, from the broker's point of view.
fn in_words(error: &rustls::Error) -> String {
    use AlertDescription as Alert;
    match error {
        rustls::Error::AlertReceived(Alert::UnknownCA | Alert::BadCertificate | Alert::CertificateUnknown) => {
            "the client does not trust the certificate of this listener, or its name".to_owned()
        }
        rustls::Error::AlertReceived(Alert::CertificateExpired) => {
            "the client found the certificate of this listener expired".to_owned()
        }
        rustls::Error::AlertReceived(alert) => format!("the client ended it with {alert:?}"),
        rustls::Error::NoCertificatesPresented => {
            "the client shows no certificate, and ssl.client.auth=required".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the certificate of the client is signed by nobody in the trust store".to_owned()
        }
        rustls::Error::InvalidCertificate(CertificateError::Expired | CertificateError::ExpiredContext { .. }) => {
            "the certificate of the client has expired".to_owned()
        }
        error => error.to_string(),
    }
}

/// A connection over TLS, read and written without waiting, as `tokio`'s sockets are by their `try_` functions.
pub struct TlsStream {
    stream: TcpStream,
    session: ServerConnection,
    /// Bytes that are decrypted and not yet taken.
    decrypted: usize,
}

impl TlsStream {
    /// Shakes hands.
    ///
    /// # Errors
    /// Why there is no connection. The peer has been told, as far as its socket took it.
    pub async fn accept(
        stream: TcpStream,
        config: Arc<ServerConfig>,
        protocol: SecurityProtocol,
    ) -> Result<TlsStream, TlsRefusal> {
        // Nothing is made for a peer that says nothing.
        let mut first = [0; 4];
        let seen = stream.peek(&mut first).await?;
        match first.first() {
            _ if seen == 0 => return Err(TlsRefusal::Closed),
            Some(&HANDSHAKE) => {}
            _ if is_http(first) => return Err(TlsRefusal::Http),
            _ => return Err(TlsRefusal::NotTls(protocol)),
        }
        let mut tls = TlsStream {
            stream,
            session: ServerConnection::new(config).map_err(TlsRefusal::Failed)?,
            decrypted: 0,
        };
        tls.shake_hands().await?;
        Ok(tls)
    }

    async fn shake_hands(&mut self) -> Result<(), TlsRefusal> {
        while self.session.is_handshaking() {
            match self.send() {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stream.writable().await?;
                    continue;
                }
                sent => sent?,
            }
            if !self.session.is_handshaking() {
                break;
            }
            self.stream.readable().await?;
            match self.session.read_tls(&mut Socket(&self.stream)) {
                Ok(0) => return Err(TlsRefusal::Closed),
                Ok(_) => self.process().map_err(TlsRefusal::Failed)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
        // The last word may be ours. What the socket does not take of it leaves with the first answer.
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Makes sense of what has been read. An error has left for the peer as an alert, if the socket took it.
    fn process(&mut self) -> Result<(), rustls::Error> {
        match self.session.process_new_packets() {
            Ok(state) => {
                self.decrypted = state.plaintext_bytes_to_read();
                Ok(())
            }
            Err(error) => {
                let _ = self.send();
                Err(error)
            }
        }
    }

    /// Hands what is encrypted to the socket; WouldBlock if it does not take all.
    fn send(&mut self) -> io::Result<()> {
        while self.session.wants_write() {
            if self.session.write_tls(&mut Socket(&self.stream))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
        }
        Ok(())
    }

    /// The socket below.
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Waits until there is something to read.
    ///
    /// # Errors
    /// The socket's.
    pub async fn readable(&self) -> io::Result<()> {
        if self.decrypted > 0 {
            return Ok(());
        }
        self.stream.readable().await
    }

    /// Reads into the room that `buffer` has; 0 when the peer has closed.
    ///
    /// # Errors
    /// WouldBlock when there is nothing to read; the peer broke TLS; the socket's.
    pub fn try_read_buf(&mut self, buffer: &mut BytesMut) -> io::Result<usize> {
        let before = buffer.len();
        loop {
            let room = buffer.capacity() - buffer.len();
            if room == 0 {
                return Ok(buffer.len() - before);
            }
            let read = buffer.len() - before;
            match self.session.reader().fill_buf() {
                Ok([]) => return Ok(read),
                Ok(chunk) => {
                    let taken = chunk.len().min(room);
                    buffer.extend_from_slice(&chunk[..taken]);
                    self.session.reader().consume(taken);
                    self.decrypted = self.decrypted.saturating_sub(taken);
                    continue;
                }
                // The peer closed the socket without a word, as some clients do: the frames say what was whole.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
            match self.session.read_tls(&mut Socket(&self.stream)) {
                // The end of the socket: the reader knows what that means.
                Ok(_) => self
                    .process()
                    .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && read > 0 => return Ok(read),
                Err(error) => return Err(error),
            }
        }
    }

    /// Encrypts as much of `slices` as there is room for, and sends what the socket takes.
    ///
    /// # Errors
    /// WouldBlock when there is no room; the socket's.
    pub fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        let taken = self.session.writer().write_vectored(slices)?;
        match self.send() {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ if taken == 0 => Err(io::ErrorKind::WouldBlock.into()),
            _ => Ok(taken),
        }
    }

    /// Sends what is encrypted and has not left.
    ///
    /// # Errors
    /// WouldBlock when the socket does not take all; the socket's.
    pub fn try_flush(&mut self) -> io::Result<()> {
        self.send()
    }

    /// True when everything that was written has been handed to the socket.
    pub fn is_flushed(&self) -> bool {
        !self.session.wants_write()
    }

    /// Says that nothing more will be written. [`TlsStream::try_flush`] sends it.
    pub fn close_notify(&mut self) {
        self.session.send_close_notify();
    }
}

/// The socket, for rustls: never waits.
struct Socket<'a>(&'a TcpStream);

impl Read for Socket<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for Socket<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
