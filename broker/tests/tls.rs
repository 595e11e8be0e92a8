//! Listeners with TLS: requests, faults and the end of connections, as on any other.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod support;

use ottla_broker::Cluster;
use ottla_broker::faults::Rule;
use ottla_protocol::messages::*;
use ottla_protocol::{ApiKey, Message, Request, Uuid, frame};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use support::{PATIENCE, batch, fetch_request, produce_request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// A cluster with a listener of SSL, and what its clients need.
struct Scene {
    cluster: Cluster,
    connector: TlsConnector,
}

impl Scene {
    async fn start() -> Scene {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &authority).unwrap();
        let cluster = Cluster::builder()
            .property("listeners", "SSL://127.0.0.1:0,PLAINTEXT://127.0.0.1:0")
            .property("ssl.keystore.type", "PEM")
            .property("ssl.keystore.certificate.chain", certificate.pem())
            .property("ssl.keystore.key", key.serialize_pem())
            .start()
            .await
            .unwrap();
        let mut roots = RootCertStore::empty();
        roots.add(authority.der().clone()).unwrap();
        let config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        let connector = TlsConnector::from(Arc::new(config));
        Scene { cluster, connector }
    }

    fn address(&self) -> String {
        self.cluster.bootstrap_servers_of("SSL").unwrap()
    }

    async fn tcp(&self) -> TcpStream {
        TcpStream::connect(self.address()).await.unwrap()
    }

    async fn connect(&self) -> TlsStream<TcpStream> {
        let name = ServerName::try_from("localhost").unwrap();
        self.connector.connect(name, self.tcp().await).await.unwrap()
    }

    async fn create_topic(&self) {
        let plain = self.cluster.bootstrap_servers_of("PLAINTEXT").unwrap();
        support::create_topic(&mut support::Client::connect_to(&plain).await, "t", 1, &[]).await;
    }
}

fn encode<'m, M: Message<'m> + Request>(version: i16, correlation_id: i32, body: &M) -> Vec<u8> {
    frame::encode_request(version, correlation_id, Some("test"), body)
        .unwrap()
        .into_vec()
}

fn hello(correlation_id: i32) -> Vec<u8> {
    encode(0, correlation_id, &ApiVersionsRequest::default())
}

/// The next answer, without its length.
async fn answer(tls: &mut TlsStream<TcpStream>) -> io::Result<Vec<u8>> {
    let read = async {
        let length = tls.read_i32().await?;
        let mut frame = vec![0; usize::try_from(length).unwrap()];
        tls.read_exact(&mut frame).await?;
        Ok(frame)
    };
    timeout(PATIENCE, read)
        .await
        .expect("the broker neither answers nor closes")
}

fn correlation_id(answer: &[u8]) -> i32 {
    i32::from_be_bytes(*answer.first_chunk().unwrap())
}

#[tokio::test]
async fn a_burst_of_requests_is_answered_in_its_order() {
    let scene = Scene::start().await;
    let mut tls = scene.connect().await;
    let burst: Vec<u8> = (0..500).flat_map(hello).collect();
    tls.write_all(&burst).await.unwrap();
    tls.flush().await.unwrap();
    for number in 0..500 {
        assert_eq!(correlation_id(&answer(&mut tls).await.unwrap()), number);
    }
    scene.cluster.stop().await.unwrap();
    // The broker says that it ends: whoever reads knows that nothing is missing.
    let mut rest = Vec::new();
    assert_eq!(tls.read_to_end(&mut rest).await.unwrap(), 0);
}

#[tokio::test]
async fn megabytes_of_records_go_both_ways() {
    let scene = Scene::start().await;
    scene.create_topic().await;
    let mut tls = scene.connect().await;
    let value = vec![7; 900_000];
    for number in 0..4 {
        let request = produce_request("t", Uuid::ZERO, 0, -1, batch(&[&value]).to_vec().into());
        tls.write_all(&encode(9, number, &request)).await.unwrap();
        tls.flush().await.unwrap();
        assert_eq!(correlation_id(&answer(&mut tls).await.unwrap()), number);
    }
    // Far more is asked for than the socket or TLS takes; the answers come whole, one after the other.
    let fetches: Vec<u8> = (0..40)
        .flat_map(|number| encode(12, number, &fetch_request("t", Uuid::ZERO, 0, 0)))
        .collect();
    tls.write_all(&fetches).await.unwrap();
    tls.flush().await.unwrap();
    for number in 0..40 {
        let frame = answer(&mut tls).await.unwrap();
        let (id, body_at) = frame::decode_response_header(ApiKey::Fetch, 12, &frame).unwrap();
        assert_eq!(id, number);
        let fetched: FetchResponse<'_> = frame::decode_body(&frame, body_at, 12).unwrap();
        let records = &fetched.responses[0].partitions[0].records;
        assert!(records.len() > 900_000, "{} bytes", records.len());
    }
}

#[tokio::test]
async fn a_fault_cuts_an_answer_in_the_middle_and_says_no_word_of_it() {
    let scene = Scene::start().await;
    let mut tls = scene.connect().await;
    let cut = Rule::on(ApiKey::ApiVersions).listener("SSL").cut_response(7).times(1);
    let cut = scene.cluster.faults().add(cut);
    tls.write_all(&hello(1)).await.unwrap();
    tls.flush().await.unwrap();
    let mut seen = Vec::new();
    let error = tls.read_to_end(&mut seen).await.unwrap_err();
    assert_eq!((seen.len(), error.kind()), (7, io::ErrorKind::UnexpectedEof));
    assert_eq!(cut.hits(), 1);
    let delay = Rule::on(ApiKey::ApiVersions).delay_response(Duration::from_millis(20));
    let delay = scene.cluster.faults().add(delay);
    let mut tls = scene.connect().await;
    tls.write_all(&hello(2)).await.unwrap();
    tls.flush().await.unwrap();
    assert_eq!(correlation_id(&answer(&mut tls).await.unwrap()), 2);
    assert_eq!(delay.hits(), 1);
    scene.cluster.faults().disconnect_all();
    assert!(matches!(tls.read(&mut [0]).await, Ok(0) | Err(_)));
}

#[tokio::test]
async fn a_frozen_broker_shakes_no_hands_until_it_thaws() {
    let scene = Scene::start().await;
    let mut tcp = scene.tcp().await;
    // The head of a record, so that the broker has begun; the rest comes while it is frozen.
    tcp.write_all(&[0x16, 3]).await.unwrap();
    let begun = scene.cluster.faults().clone();
    timeout(PATIENCE, async {
        while begun.connections() == 0 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();
    scene.cluster.faults().freeze();
    tcp.write_all(&[1, 0, 4, 9, 9, 9, 9]).await.unwrap();
    let mut bytes = Vec::new();
    let early = timeout(Duration::from_millis(50), tcp.read_to_end(&mut bytes)).await;
    assert!(early.is_err(), "it answered while frozen");
    scene.cluster.faults().thaw();
    // What it says to nonsense is an alert, and the end.
    let _ = timeout(PATIENCE, tcp.read_to_end(&mut bytes)).await.unwrap();
    let mut tls = scene.connect().await;
    tls.write_all(&hello(1)).await.unwrap();
    tls.flush().await.unwrap();
    answer(&mut tls).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_ten_seconds() {
    let scene = Scene::start().await;
    let mut silent = scene.tcp().await;
    let mut halfway = scene.tcp().await;
    halfway.write_all(&[0x16, 3, 1]).await.unwrap();
    let start = tokio::time::Instant::now();
    for stream in [&mut silent, &mut halfway] {
        assert!(matches!(stream.read(&mut [0]).await, Ok(0) | Err(_)));
    }
    assert!(start.elapsed() <= Duration::from_secs(11), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_key_that_does_not_fit_keeps_the_broker_from_starting() {
    let key = || KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.self_signed(&key()).unwrap();
    let starting = Cluster::builder()
        .property("listeners", "SSL://127.0.0.1:0")
        .property("ssl.keystore.type", "PEM")
        .property("ssl.keystore.certificate.chain", certificate.pem())
        .property("ssl.keystore.key", key().serialize_pem());
    let error = starting.start().await.unwrap_err().to_string();
    assert!(
        error.starts_with("listener SSL: ssl.keystore.key has a private key that does not belong"),
        "{error}"
    );
}
