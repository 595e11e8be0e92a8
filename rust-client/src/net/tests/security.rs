//! TLS and SASL against brokers that do everything right, and against others.

use std::sync::Arc;
use std::time::Duration;

use ottla_protocol::ApiKey;
use ottla_protocol::sasl::Mechanism;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::client::Client;
use crate::config::{ClientKind, Settings};
use crate::error::{Error, ErrorKind, Result};
use crate::tests::FakeBroker;
use crate::tests::certificates::{Authority, Identity, self_signed, self_signed_with};
use crate::tests::sasl::{PASSWORD, SaslServer, Spoil, USER};

async fn connect(server: &str, pairs: &[(&str, &str)]) -> Result<Arc<Client>> {
    let mut settings = Settings::new(ClientKind::Admin);
    settings.set("bootstrap.servers", server);
    for (key, value) in pairs {
        settings.set(key, value);
    }
    Client::connect(settings.admin()?.client).await
}

async fn refused(server: &str, pairs: &[(&str, &str)]) -> Error {
    connect(server, pairs).await.expect_err("refused")
}

/// It is about authentication, is not tried again, and names the broker and all of `words`.
#[track_caller]
fn assert_tells(error: &Error, broker: &str, words: &[&str]) {
    let text = error.to_string();
    assert_eq!(
        (error.kind(), error.retriable()),
        (ErrorKind::Authentication, false),
        "{text}"
    );
    for word in words.iter().chain(&[broker]) {
        assert!(text.contains(word), "no {word:?} in: {text}");
    }
}

struct Tls {
    authority: Authority,
    broker: FakeBroker,
}

impl Tls {
    async fn start(hosts: &[&str]) -> Tls {
        let authority = Authority::new("test authority");
        let broker = FakeBroker::start_tls(authority.issue("broker", hosts).server(None), |asked| asked.usual()).await;
        Tls { authority, broker }
    }

    fn trusting<'t>(&'t self, more: &[(&'t str, &'t str)]) -> Vec<(&'t str, &'t str)> {
        let mut pairs = vec![
            ("security.protocol", "SSL"),
            ("ssl.truststore.certificates", self.authority.pem.as_str()),
        ];
        pairs.extend_from_slice(more);
        pairs
    }
}

#[tokio::test]
async fn a_trusted_broker_is_talked_to() {
    let tls = Tls::start(&["localhost", "127.0.0.1"]).await;
    connect(&tls.broker.address(), &tls.trusting(&[])).await.unwrap();
    let by_name = format!("localhost:{}", tls.broker.port);
    for version in ["TLSv1.2", "TLSv1.3"] {
        let pairs = tls.trusting(&[("ssl.enabled.protocols", version)]);
        connect(&by_name, &pairs).await.unwrap();
    }
}

#[tokio::test]
async fn a_broker_of_another_authority_is_refused_and_named() {
    let tls = Tls::start(&["127.0.0.1"]).await;
    let other = Authority::new("another authority");
    let pairs = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.certificates", &other.pem),
    ];
    let error = refused(&tls.broker.address(), &pairs).await;
    assert_tells(
        &error,
        &tls.broker.address(),
        &["not trusted", "CN=broker", "CN=test authority"],
    );
    // The system's authorities do not know it either.
    let error = refused(&tls.broker.address(), &[("security.protocol", "SSL")]).await;
    if error.kind() != ErrorKind::Config {
        assert_tells(&error, &tls.broker.address(), &["not trusted"]);
    }
    assert_eq!(tls.broker.count(ApiKey::ApiVersions), 0, "nothing was said to it");
}

#[tokio::test]
async fn a_certificate_of_another_host_is_refused_with_the_names_it_has() {
    let tls = Tls::start(&["kafka-1.example", "10.1.2.3"]).await;
    let error = refused(&tls.broker.address(), &tls.trusting(&[])).await;
    assert_tells(
        &error,
        &tls.broker.address(),
        &["does not name 127.0.0.1", "kafka-1.example, 10.1.2.3"],
    );
    let off = tls.trusting(&[("ssl.endpoint.identification.algorithm", "")]);
    connect(&tls.broker.address(), &off).await.unwrap();
}

#[tokio::test]
async fn a_certificate_without_names_is_told_apart() {
    let tls = Tls::start(&[]).await;
    let error = refused(&tls.broker.address(), &tls.trusting(&[])).await;
    assert_tells(&error, &tls.broker.address(), &["no host", "CN=broker"]);
}

#[tokio::test]
async fn an_expired_certificate_is_refused_with_its_date() {
    let authority = Authority::new("test authority");
    let server = authority.issue_until("broker", &["127.0.0.1"], 2020).server(None);
    let broker = FakeBroker::start_tls(server, |asked| asked.usual()).await;
    let pairs = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.certificates", &authority.pem),
    ];
    let error = refused(&broker.address(), &pairs).await;
    assert_tells(&error, &broker.address(), &["expired at 2020-01-01", "CN=broker"]);
}

#[tokio::test]
async fn a_self_signed_certificate_is_trusted_when_it_is_in_the_trust_store() {
    let identity = self_signed("alone", &["127.0.0.1"]);
    let broker = FakeBroker::start_tls(identity.server(None), |asked| asked.usual()).await;
    let pairs = [("security.protocol", "SSL"), ("ssl.ca.pem", &identity.certificate_pem)];
    connect(&broker.address(), &pairs).await.unwrap();
    let other = Authority::new("another");
    let error = refused(&broker.address(), &[pairs[0], ("ssl.ca.pem", &other.pem)]).await;
    assert_tells(&error, &broker.address(), &["not"]);
    let unchecked = [pairs[0], ("enable.ssl.certificate.verification", "false")];
    connect(&broker.address(), &unchecked).await.unwrap();
}

#[tokio::test]
async fn a_certificate_in_the_trust_store_that_cannot_be_read_is_not_trusted_for_being_there() {
    // Its serial number is longer than a certificate's may be, so its dates are not read.
    let identity = self_signed_with("alone", &["127.0.0.1"], 2020, &[7; 40]);
    let broker = FakeBroker::start_tls(identity.server(None), |asked| asked.usual()).await;
    let pairs = [("security.protocol", "SSL"), ("ssl.ca.pem", &identity.certificate_pem)];
    refused(&broker.address(), &pairs).await;
}

#[tokio::test]
async fn a_client_certificate_is_shown_and_its_absence_explained() {
    let (authority, clients) = (Authority::new("test authority"), Authority::new("clients"));
    let (ours, strange) = (clients.issue("me", &[]), Authority::new("strangers").issue("me", &[]));
    for versions in [&[&rustls::version::TLS12][..], &[&rustls::version::TLS13]] {
        let server = authority
            .issue("broker", &["127.0.0.1"])
            .server_with(Some(&clients), versions);
        let broker = FakeBroker::start_tls(server, |asked| asked.usual()).await;
        let with = |identity: Option<&Identity>| {
            let mut pairs = vec![
                ("security.protocol", "SSL".to_owned()),
                ("ssl.truststore.certificates", authority.pem.clone()),
            ];
            if let Some(identity) = identity {
                pairs.push(("ssl.keystore.certificate.chain", identity.certificate_pem.clone()));
                pairs.push(("ssl.keystore.key", identity.key_pem.clone()));
            }
            pairs
        };
        let pairs = with(Some(&ours));
        connect(&broker.address(), &as_str(&pairs)).await.unwrap();
        let error = refused(&broker.address(), &as_str(&with(None))).await;
        assert_tells(
            &error,
            &broker.address(),
            &["requires a client certificate", "ssl.keystore.location"],
        );
        let error = refused(&broker.address(), &as_str(&with(Some(&strange)))).await;
        assert_tells(&error, &broker.address(), &["rejected this client's certificate"]);
    }
}

fn as_str<'p>(pairs: &'p [(&'p str, String)]) -> Vec<(&'p str, &'p str)> {
    pairs.iter().map(|(key, value)| (*key, value.as_str())).collect()
}

#[tokio::test]
async fn tls_to_a_plain_port_says_so() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        for answer in [&b"\0\0\0\x0a\0\0\0\0\0\x23\0\0\0\0"[..], b""] {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 1000]).await;
            stream.write_all(answer).await.unwrap();
        }
    });
    let tls = [
        ("security.protocol", "SSL"),
        ("enable.ssl.certificate.verification", "false"),
    ];
    let error = refused(&address, &tls).await;
    assert_tells(&error, &address, &["without TLS", "PLAINTEXT listener?"]);
    // One that closes without a word may as well be a broker that is going down.
    let error = refused(&address, &tls).await;
    assert!(error.retriable() && error.to_string().contains("PLAINTEXT"), "{error}");
}

#[tokio::test]
async fn plain_text_to_a_tls_port_says_so() {
    let tls = Tls::start(&["127.0.0.1"]).await;
    let error = refused(&tls.broker.address(), &[]).await;
    assert_tells(&error, &tls.broker.address(), &["speaks TLS", "security.protocol=SSL"]);
}

#[tokio::test]
async fn a_broker_that_stops_within_the_handshake_holds_nobody_up() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let pairs = [
        ("security.protocol", "SSL"),
        ("enable.ssl.certificate.verification", "false"),
        ("socket.connection.setup.timeout.ms", "200"),
    ];
    let error = refused(&address, &pairs).await;
    assert!(
        error.retriable() && error.to_string().contains("TLS handshake within"),
        "{error}"
    );
}

#[tokio::test]
async fn large_frames_pass_through_tls_in_both_directions() {
    use super::{SECOND, question};
    use crate::net::Lane;
    use ottla_protocol::messages::*;
    let authority = Authority::new("test authority");
    let server = authority.issue("broker", &["127.0.0.1"]).server(None);
    let broker = FakeBroker::start_tls(server, |asked| {
        if asked.body.len() < 100_000 {
            return asked.usual();
        }
        let request: MetadataRequest<'_> = asked.request();
        let names = request
            .topics
            .iter()
            .flatten()
            .map(|topic| metadata_response::MetadataResponseTopic {
                name: topic.name,
                ..Default::default()
            });
        asked.answer(&MetadataResponse {
            topics: names.collect(),
            ..Default::default()
        })
    })
    .await;
    let pairs = [
        ("security.protocol", "SSL"),
        ("ssl.truststore.certificates", &authority.pem),
    ];
    let client = connect(&broker.address(), &pairs).await.unwrap();
    let connection = client.connection(1, Lane::Other).await.unwrap();
    let names: Vec<String> = (0..200).map(|i| format!("{i}{}", "x".repeat(15_000))).collect();
    let topics = names.iter().map(|name| metadata_request::MetadataRequestTopic {
        name: Some(name),
        ..Default::default()
    });
    let request = MetadataRequest {
        topics: Some(topics.collect()),
        ..question()
    };
    let pending: Vec<_> = (0..3)
        .map(|_| connection.send(12, &request, 60 * SECOND).unwrap())
        .collect();
    for answer in pending {
        let frame = answer.await.unwrap();
        let response = frame.decode().unwrap();
        assert!(
            response
                .topics
                .iter()
                .map(|topic| topic.name)
                .eq(names.iter().map(|name| Some(name.as_str())))
        );
    }
}

const ALL: [Mechanism; 3] = Mechanism::ALL;

fn login(mechanism: Mechanism) -> Vec<(&'static str, &'static str)> {
    vec![
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", mechanism.name()),
        ("sasl.username", USER),
        ("sasl.password", PASSWORD),
    ]
}

async fn sasl_broker(server: SaslServer) -> (FakeBroker, Arc<SaslServer>) {
    let server = Arc::new(server);
    let script = server.clone();
    (FakeBroker::start(move |asked| script.answer(asked)).await, server)
}

#[tokio::test]
async fn each_mechanism_logs_in_with_the_right_password_only() {
    let (broker, _) = sasl_broker(SaslServer::new(&ALL)).await;
    for mechanism in ALL {
        connect(&broker.address(), &login(mechanism)).await.unwrap();
        let mut wrong = login(mechanism);
        wrong.push(("sasl.password", "looking glass"));
        let error = refused(&broker.address(), &wrong).await;
        assert_tells(
            &error,
            &broker.address(),
            &["Invalid username or password", mechanism.name()],
        );
        assert!(!error.to_string().contains("glass"), "{error}");
    }
}

#[tokio::test]
async fn sasl_works_over_tls() {
    let authority = Authority::new("test authority");
    let server = SaslServer::new(&ALL);
    let tls = authority.issue("broker", &["127.0.0.1"]).server(None);
    let broker = FakeBroker::start_tls(tls, move |asked| server.answer(asked)).await;
    let mut pairs = login(Mechanism::ScramSha512);
    pairs.push(("security.protocol", "SASL_SSL"));
    pairs.push(("ssl.truststore.certificates", &authority.pem));
    connect(&broker.address(), &pairs).await.unwrap();
}

#[tokio::test]
async fn a_mechanism_that_is_not_enabled_is_told_with_those_that_are() {
    let (broker, _) = sasl_broker(SaslServer::new(&[Mechanism::Plain, Mechanism::ScramSha512])).await;
    let error = refused(&broker.address(), &login(Mechanism::ScramSha256)).await;
    assert_tells(
        &error,
        &broker.address(),
        &["SCRAM-SHA-256", "offers PLAIN, SCRAM-SHA-512"],
    );
    assert_eq!(broker.count(ApiKey::SaslAuthenticate), 0, "no password was sent");
}

#[tokio::test]
async fn a_broker_that_cannot_prove_itself_is_not_talked_to() {
    for (spoil, words) in [
        (Spoil::Signature, "could not prove"),
        (Spoil::Nonce, "nonce"),
        (Spoil::Iterations(4095), "fewer than 4096"),
        (Spoil::Iterations(1_000_001), "more than 1000000"),
    ] {
        let mut server = SaslServer::new(&ALL);
        server.spoil = spoil;
        let (broker, _) = sasl_broker(server).await;
        let error = refused(&broker.address(), &login(Mechanism::ScramSha256)).await;
        assert_tells(&error, &broker.address(), &[words]);
        assert_eq!(broker.count(ApiKey::Metadata), 0);
    }
}

#[tokio::test]
async fn what_is_not_scram_breaks_the_connection_and_nothing_else() {
    for (bytes, words) in [
        (&b"not scram"[..], "server-first"),
        (b"", "server-first"),
        (b"\xff\xfe", "UTF-8"),
    ] {
        let mut server = SaslServer::new(&ALL);
        server.spoil = Spoil::Garbage(bytes);
        let (broker, _) = sasl_broker(server).await;
        let error = refused(&broker.address(), &login(Mechanism::ScramSha512)).await;
        assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
        assert!(error.to_string().contains(words), "{error}");
    }
}

#[tokio::test]
async fn a_huge_frame_within_sasl_is_refused_before_memory_is_given_to_it() {
    let mut server = SaslServer::new(&ALL);
    server.spoil = Spoil::Announces(100_000_000);
    let (broker, _) = sasl_broker(server).await;
    let error = refused(&broker.address(), &login(Mechanism::Plain)).await;
    assert_eq!(error.kind(), ErrorKind::Protocol, "{error}");
    assert!(error.to_string().contains("at most 524288"), "{error}");
}

#[tokio::test]
async fn a_broker_that_stops_within_sasl_holds_nobody_up() {
    let mut server = SaslServer::new(&ALL);
    server.spoil = Spoil::Silence;
    let (broker, _) = sasl_broker(server).await;
    let mut pairs = login(Mechanism::Plain);
    pairs.push(("request.timeout.ms", "2000"));
    let error = refused(&broker.address(), &pairs).await;
    assert_eq!((error.kind(), error.retriable()), (ErrorKind::Timeout, true), "{error}");
    assert!(error.to_string().contains("SASL authentication with PLAIN"), "{error}");
}

#[tokio::test]
async fn a_broker_that_hangs_up_on_who_does_not_authenticate_is_explained() {
    let broker = FakeBroker::start(|asked| match asked.api {
        ApiKey::ApiVersions => asked.usual(),
        _ => crate::tests::Reply::Close(Vec::new()),
    })
    .await;
    let error = refused(&broker.address(), &[]).await;
    assert!(error.to_string().contains("SASL listener"), "{error}");
}

#[tokio::test]
async fn a_session_that_ends_soon_is_replaced_by_a_new_one() {
    use crate::net::Lane;
    let mut server = SaslServer::new(&ALL);
    server.lifetime_ms = 200;
    let (broker, _) = sasl_broker(server).await;
    let client = connect(&broker.address(), &login(Mechanism::ScramSha256))
        .await
        .unwrap();
    let first = client.connection(1, Lane::Fetch).await.unwrap();
    let pending = first.send(12, &super::question(), super::SECOND).unwrap();
    while first.is_alive() {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let second = client.connection(1, Lane::Fetch).await.unwrap();
    assert!(!Arc::ptr_eq(&first, &second) && second.is_alive());
    assert!(pending.await.is_ok(), "what was under way is answered");
}

#[tokio::test]
async fn who_is_refused_later_hears_it_at_once() {
    let (broker, server) = sasl_broker(SaslServer::new(&ALL)).await;
    let mut pairs = login(Mechanism::Plain);
    pairs.push(("metadata.max.age.ms", "50"));
    pairs.push(("connections.max.idle.ms", "10"));
    let client = connect(&broker.address(), &pairs).await.unwrap();
    *server.refuses.lock().unwrap() = true;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(3600);
    let error = client.topic_metadata("parcels", deadline).await.unwrap_err();
    assert_tells(&error, &broker.address(), &["Invalid username or password"]);
}
