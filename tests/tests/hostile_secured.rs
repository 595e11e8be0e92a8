//! Crowds before the secured listeners of the running process `ottla broker`: handshakes that are not finished, and clients
//! that never say who they are.
//!
//! Nobody else notices, the memory of a stranger has a bound, and after the deadline all of them are gone.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use ottla_tests::hostile::frame;
use ottla_tests::peer::broker_process::Kind;
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::{Client, Content, Outgoing};
use ottla_tests::secured::SecuredBroker;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore};

/// Strangers in a crowd.
const CROWD: usize = 2_000;
/// What one stranger may take: its task, and a handshake that has begun.
const STRANGER_KIB: u64 = 24;

/// A broker, and a client that it knows.
struct Scene {
    broker: SecuredBroker,
    honest: Librdkafka,
    before_kib: u64,
}

impl Scene {
    fn open(name: &str) -> Scene {
        let broker = SecuredBroker::start(Kind::Ottla, name, &[]).unwrap();
        let honest = Librdkafka::start().unwrap();
        honest
            .create_topic(&broker.bootstrap_of("PLAINTEXT"), "honest", 1)
            .unwrap();
        let honest = honest.secured(&broker.access("SASL_SSL", Some("SCRAM-SHA-256")));
        let mut scene = Scene {
            broker,
            honest,
            before_kib: 0,
        };
        (0..3).for_each(|_| scene.serve_honestly());
        scene.before_kib = scene.peak_kib();
        scene
    }

    fn peak_kib(&mut self) -> u64 {
        self.broker.process().memory_kib("VmHWM").unwrap()
    }

    /// Shakes hands, authenticates, writes and reads.
    fn serve_honestly(&self) {
        let content = Content {
            key: None,
            value: Some(b"honest".to_vec()),
            headers: vec![],
        };
        let record = Outgoing {
            content,
            timestamp: None,
        };
        let bootstrap = self.broker.bootstrap_of("SASL_SSL");
        let receipts = self.honest.produce(&bootstrap, "honest", "none", &[record]).unwrap();
        let count = receipts.unwrap()[0].offset as usize + 1;
        assert_eq!(
            self.honest.consume(&bootstrap, "honest", 0, count).unwrap().len(),
            count
        );
    }

    fn connect(&self, listener: &str) -> TcpStream {
        let address = self.broker.bootstrap_of(listener).replace("localhost", "127.0.0.1");
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// While the crowd stands there, and after it was sent away.
    fn endure(mut self, crowd: Vec<TcpStream>) {
        (0..3).for_each(|_| self.serve_honestly());
        let grown = self.peak_kib().saturating_sub(self.before_kib);
        println!(
            "{CROWD} strangers: {grown} KiB, {} bytes each",
            grown * 1024 / CROWD as u64
        );
        assert!(grown < CROWD as u64 * STRANGER_KIB, "grew by {grown} KiB");
        for mut stream in crowd {
            // The broker closes: that is waited for, and far longer than its deadline.
            stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            let mut rest = vec![];
            match stream.read_to_end(&mut rest) {
                Ok(_) => {}
                Err(error) => assert_eq!(
                    error.kind(),
                    std::io::ErrorKind::ConnectionReset,
                    "it was not sent away"
                ),
            }
        }
        self.serve_honestly();
        assert_eq!(self.broker.process().exited(), None);
        assert!(!self.broker.log().contains("panicked"), "{}", self.broker.log());
    }
}

/// The first bytes of an honest handshake.
fn client_hello() -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let mut session = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut bytes = vec![];
    session.write_tls(&mut bytes).unwrap();
    bytes
}

#[test]
fn two_thousand_half_open_handshakes_hinder_nobody() {
    let scene = Scene::open("hostile-handshakes");
    let hello = client_hello();
    let crowd = (0..CROWD)
        .map(|number| {
            let mut stream = scene.connect(if number % 2 == 0 { "SSL" } else { "SASL_MTLS" });
            // Not a word; a record's head; half a ClientHello; a whole one, whose answer nobody reads.
            let said = match number % 4 {
                0 => 0,
                1 => 5,
                2 => hello.len() / 2,
                _ => hello.len(),
            };
            stream.write_all(&hello[..said]).unwrap();
            stream
        })
        .collect();
    scene.endure(crowd);
}

#[test]
fn two_thousand_clients_that_do_not_authenticate_hinder_nobody() {
    let scene = Scene::open("hostile-strangers");
    let handshake = frame(17, 1, b"\x00\x0dSCRAM-SHA-256");
    let first = b"n,,n=alice,r=nonce";
    let mut message = (first.len() as u32).to_be_bytes().to_vec();
    message.extend_from_slice(first);
    let authenticate = frame(36, 0, &message);
    let crowd = (0..CROWD)
        .map(|number| {
            let mut stream = scene.connect("SASL");
            match number % 3 {
                0 => {}
                1 => stream.write_all(&handshake).unwrap(),
                _ => stream.write_all(&[&handshake[..], &authenticate[..]].concat()).unwrap(),
            }
            stream
        })
        .collect();
    scene.endure(crowd);
}
