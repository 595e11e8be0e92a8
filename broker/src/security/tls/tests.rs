//! Which certificates a listener takes, and how handshakes end.
#![allow(clippy::unwrap_used)]

use super::*;
use crate::config::jaas::Secret;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use std::time::Duration;
use tokio::net::TcpListener;

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate and its key.
fn issue(authority: &Authority) -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn settings(authority: &Authority) -> TlsSettings {
    let (chain, key) = issue(authority);
    TlsSettings {
        key_store: KeyStore::Given {
            chain: Secret::new(chain),
            key: Secret::new(key),
        },
        trust_store: None,
        client_auth: ClientAuth::None,
        protocols: vec!["TLSv1.2".to_owned(), "TLSv1.3".to_owned()],
        cipher_suites: Vec::new(),
    }
}

fn client_config(
    authority: &Authority,
    own: Option<(String, String)>,
    versions: &[&'static SupportedProtocolVersion],
) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(authority.der().clone()).unwrap();
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    match own {
        None => builder.with_no_client_auth(),
        Some((chain, key)) => builder
            .with_client_auth_cert(pem::certificates(&chain).unwrap(), pem::private_key(&key).unwrap())
            .unwrap(),
    }
}

const BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];

/// What comes of a client that does `talk` on a connection to a listener with `settings`.
async fn meet<T: Send + 'static>(
    settings: &TlsSettings,
    talk: impl FnOnce(std::net::TcpStream) -> T + Send + 'static,
) -> (Result<TlsStream, TlsRefusal>, T) {
    let config = Arc::new(server_config(settings).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = tokio::task::spawn_blocking(move || {
        let stream = std::net::TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        talk(stream)
    });
    let (stream, _) = listener.accept().await.unwrap();
    let accepted = TlsStream::accept(stream, config, SecurityProtocol::Ssl).await;
    // A refused connection is closed, which the client waits for.
    (accepted, client.await.unwrap())
}

/// Shakes hands as a client; says and hears a word.
fn handshake(config: ClientConfig) -> impl FnOnce(std::net::TcpStream) -> io::Result<()> + Send {
    move |stream| {
        let name = ServerName::try_from("localhost").unwrap();
        let session = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(session, stream);
        tls.write_all(b"hello")?;
        tls.flush()
    }
}

async fn read(tls: &mut TlsStream, bytes: usize) -> BytesMut {
    let mut buffer = BytesMut::with_capacity(bytes);
    while buffer.len() < bytes {
        tls.readable().await.unwrap();
        match tls.try_read_buf(&mut buffer) {
            Ok(read) => assert!(read > 0, "the client closed"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
    buffer
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_unless_one_is_not_enabled() {
    let authority = authority("ours");
    let settings = settings(&authority);
    for versions in [BOTH, &[&version::TLS12]] {
        let (tls, said) = meet(&settings, handshake(client_config(&authority, None, versions))).await;
        said.unwrap();
        assert_eq!(&read(&mut tls.unwrap(), 5).await[..], b"hello");
    }
    let only = TlsSettings {
        protocols: vec!["TLSv1.3".to_owned()],
        ..settings
    };
    let (tls, said) = meet(&only, handshake(client_config(&authority, None, &[&version::TLS12]))).await;
    assert!(said.is_err() && matches!(tls, Err(TlsRefusal::Failed(_))));
}

#[tokio::test]
async fn a_client_shows_a_certificate_that_is_trusted_where_it_must() {
    let (authority, stranger) = (authority("ours"), authority("strangers"));
    let mut settings = settings(&authority);
    settings.trust_store = Some(Pem::Text(Secret::new(authority.pem())));
    let config = |own: Option<&Authority>| client_config(&authority, own.map(issue), &[&version::TLS12]);
    for (wanted, own, words) in [
        (ClientAuth::Required, Some(&authority), None),
        (ClientAuth::Required, None, Some("shows no certificate")),
        (
            ClientAuth::Required,
            Some(&stranger),
            Some("signed by nobody in the trust store"),
        ),
        (ClientAuth::Requested, None, None),
        (
            ClientAuth::Requested,
            Some(&stranger),
            Some("signed by nobody in the trust store"),
        ),
        (ClientAuth::None, Some(&stranger), None),
    ] {
        settings.client_auth = wanted;
        let (tls, said) = meet(&settings, handshake(config(own))).await;
        let refusal = tls.err().map(|refusal| refusal.to_string());
        assert_eq!(refusal.is_some(), words.is_some(), "{wanted:?}: {refusal:?}");
        assert_eq!(said.is_err(), words.is_some(), "{said:?}");
        assert!(refusal.unwrap_or_default().contains(words.unwrap_or_default()));
    }
}

#[tokio::test]
async fn whoever_does_not_speak_tls_is_called_by_name() {
    let (authority, stranger) = (authority("ours"), authority("strangers"));
    let settings = settings(&authority);
    for (bytes, words) in [
        (&b"GET / HTTP/1.1\r\n\r\n"[..], "speaks HTTP"),
        (&[0, 0, 0, 20, 0, 18, 0, 3], "set security.protocol=SSL in the client"),
        (&[0x16, 0x03, 0x01, 0xff, 0xff, 0], "the TLS handshake failed"),
        (&[0x16, 0x03], "closed it during the TLS handshake"),
        (&[], "closed it during the TLS handshake"),
    ] {
        let talk = move |mut stream: std::net::TcpStream| {
            stream.write_all(bytes).unwrap();
            // The broker may have closed already.
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        };
        let (tls, ()) = meet(&settings, talk).await;
        let refusal = tls.err().unwrap().to_string();
        assert!(refusal.contains(words), "{refusal}");
    }
    let distrustful = handshake(client_config(&stranger, None, BOTH));
    let (tls, said) = meet(&settings, distrustful).await;
    assert!(said.is_err());
    let refusal = tls.err().unwrap().to_string();
    assert!(
        refusal.contains("does not trust the certificate of this listener"),
        "{refusal}"
    );
}

#[tokio::test]
async fn megabytes_go_both_ways_whatever_room_there_is() {
    const BYTES: usize = 3_000_000;
    let authority = authority("ours");
    let config = client_config(&authority, None, BOTH);
    let pattern = |from: usize| (from..from + BYTES).map(|at| (at % 251) as u8).collect::<Vec<_>>();
    let talk = move |stream: std::net::TcpStream| {
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
        let sent = tls.write_all(&pattern(0)).and_then(|()| tls.flush());
        sent.unwrap();
        let mut heard = vec![0; BYTES];
        tls.read_exact(&mut heard).unwrap();
        // The broker says that it has ended: no end is cut off unnoticed.
        assert_eq!(tls.read(&mut [0]).unwrap(), 0);
        heard
    };
    let config = Arc::new(server_config(&settings(&authority)).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = tokio::task::spawn_blocking(move || talk(std::net::TcpStream::connect(address).unwrap()));
    let (stream, _) = listener.accept().await.unwrap();
    let mut tls = TlsStream::accept(stream, config, SecurityProtocol::Ssl).await.unwrap();
    assert_eq!(read(&mut tls, BYTES).await, pattern(0));
    let answer = pattern(7);
    let mut left = &answer[..];
    while !left.is_empty() || !tls.is_flushed() {
        let (first, rest) = left.split_at(left.len() / 2);
        match tls.try_write_vectored(&[IoSlice::new(first), IoSlice::new(rest)]) {
            Ok(taken) => left = &left[taken..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => tls.socket().writable().await.unwrap(),
            Err(error) => panic!("{error}"),
        }
    }
    tls.close_notify();
    tls.try_flush().unwrap();
    assert_eq!(client.await.unwrap(), answer);
}

#[test]
fn stores_that_cannot_be_used_are_refused_with_the_file_and_the_reason() {
    let authority = authority("ours");
    let good = settings(&authority);
    let KeyStore::Given { chain, key } = &good.key_store else {
        panic!()
    };
    let directory = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let both = format!("{}{}", chain.expose(), key.expose());
    let whole = KeyStore::File(file("whole.pem", both.as_bytes()));
    server_config(&TlsSettings {
        key_store: whole,
        ..good.clone()
    })
    .unwrap();
    let (_, foreign) = issue(&authority);
    let mixed = format!("{}{foreign}", chain.expose());
    for (store, words) in [
        (directory.path().join("absent.pem"), "absent.pem cannot be read"),
        (
            file("store.jks", &[0xfe, 0xed, 0xfe, 0xed, 0, 0, 0, 2]),
            "store.jks is not PEM",
        ),
        (
            file("chain.pem", chain.expose().as_bytes()),
            "chain.pem has no private key",
        ),
        (file("key.pem", key.expose().as_bytes()), "key.pem has no certificate"),
        (
            file("mixed.pem", mixed.as_bytes()),
            "does not belong to the first certificate",
        ),
    ] {
        let settings = TlsSettings {
            key_store: KeyStore::File(store),
            ..good.clone()
        };
        let problem = server_config(&settings).unwrap_err();
        assert!(problem.contains(words), "{problem}");
    }
    let distrust = TlsSettings {
        trust_store: Some(Pem::Text(key.clone())),
        ..good.clone()
    };
    let problem = server_config(&distrust).unwrap_err();
    assert!(
        problem.contains("ssl.truststore.certificates has no certificate"),
        "{problem}"
    );
}

#[test]
fn cipher_suites_are_chosen_by_their_names_in_tls() {
    let good = settings(&authority("ours"));
    let with = |names: &[&str], protocols: &[&str]| {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        server_config(&TlsSettings {
            cipher_suites: owned(names),
            protocols: owned(protocols),
            ..good.clone()
        })
    };
    let both = ["TLS_AES_256_GCM_SHA384", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"];
    with(&both, &["TLSv1.2", "TLSv1.3"]).unwrap();
    with(&both[..1], &["TLSv1.3"]).unwrap();
    let problem = with(&both[..1], &["TLSv1.2"]).unwrap_err();
    assert!(problem.contains("ssl.cipher.suites has none for one of"), "{problem}");
    let problem = with(&["TLS_RSA_WITH_NULL_MD5"], &["TLSv1.2"]).unwrap_err();
    assert!(
        problem.contains("TLS_RSA_WITH_NULL_MD5, which is not available; these are: TLS_"),
        "{problem}"
    );
}
