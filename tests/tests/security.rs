//! Secured listeners: other people's clients come in by every way there is, and stay out where they must.
//!
//! Java's tools and librdkafka write and read on each listener of [`secured`], by each mechanism; the same on Apache Kafka
//! shows whose fault a failure is. Then each is refused for each reason, with words that name it, in the client and in the
//! broker's log. Nothing that is logged has a password in it.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used)]

use std::collections::HashMap;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ottla_tests::peer::broker_process::Kind;
use ottla_tests::peer::java::JavaTools;
use ottla_tests::peer::librdkafka::Librdkafka;
use ottla_tests::peer::{Client, Content, Outgoing};
use ottla_tests::secured::{Access, PASSWORD, SecuredBroker};
use serde_json::json;

static OTTLA: LazyLock<SecuredBroker> = LazyLock::new(|| SecuredBroker::start(Kind::Ottla, "security", &[]).unwrap());
static APACHE: LazyLock<SecuredBroker> = LazyLock::new(|| SecuredBroker::start(Kind::Apache, "security", &[]).unwrap());
static JAVA: LazyLock<JavaTools> = LazyLock::new(|| JavaTools::start().unwrap());
static LIBRDKAFKA: LazyLock<Librdkafka> = LazyLock::new(|| Librdkafka::start().unwrap());

fn broker(name: &str) -> &'static SecuredBroker {
    match name {
        "ottla" => &OTTLA,
        "apache" => &APACHE,
        other => panic!("no broker {other}"),
    }
}

fn client(name: &str, access: &Access) -> Box<dyn Client> {
    match name {
        "java" => Box::new(JAVA.secured(access).unwrap()),
        "librdkafka" => Box::new(LIBRDKAFKA.secured(access)),
        other => panic!("no client {other}"),
    }
}

/// `ways!` makes one test of each broker, way in and client: `ottla::sasl_ssl_plain::java`.
macro_rules! ways {
    (brokers [$($broker:ident)*] clients $clients:tt ways $ways:tt) => {
        $(mod $broker { ways!(@ways $broker $clients $ways); })*
    };
    (@ways $broker:ident $clients:tt { $($way:ident: $listener:literal, $mechanism:expr;)* }) => {
        $(mod $way { ways!(@clients $broker $clients $listener, $mechanism); })*
    };
    (@clients $broker:ident [$($client:ident)*] $listener:literal, $mechanism:expr) => {
        $(
            #[test]
            fn $client() {
                $crate::come_in(stringify!($broker), stringify!($client), $listener, $mechanism);
            }
        )*
    };
}

ways! {
    brokers [ottla apache]
    clients [java librdkafka]
    ways {
        ssl: "SSL", None;
        mtls: "MTLS", None;
        sasl_plain: "SASL", Some("PLAIN");
        sasl_scram_256: "SASL", Some("SCRAM-SHA-256");
        sasl_scram_512: "SASL", Some("SCRAM-SHA-512");
        sasl_ssl_plain: "SASL_SSL", Some("PLAIN");
        sasl_ssl_scram_256: "SASL_SSL", Some("SCRAM-SHA-256");
        sasl_ssl_scram_512: "SASL_SSL", Some("SCRAM-SHA-512");
        sasl_mtls_plain: "SASL_MTLS", Some("PLAIN");
        sasl_mtls_scram_256: "SASL_MTLS", Some("SCRAM-SHA-256");
        sasl_mtls_scram_512: "SASL_MTLS", Some("SCRAM-SHA-512");
    }
}

/// Writes and reads back, on one listener.
fn come_in(broker_name: &str, client_name: &str, listener: &str, mechanism: Option<&'static str>) {
    let broker = broker(broker_name);
    let topic = format!("{client_name}-{listener}-{}", mechanism.unwrap_or("none"));
    LIBRDKAFKA
        .create_topic(&broker.bootstrap_of("PLAINTEXT"), &topic, 1)
        .unwrap();
    let record = |number: usize| Outgoing {
        content: Content {
            key: Some(format!("key {number}").into_bytes()),
            // Some are larger than a record of TLS, and all together than what it buffers.
            value: Some(format!("value {number} ").repeat(1 + number % 4 * 1000).into_bytes()),
            headers: vec![],
        },
        timestamp: None,
    };
    let records: Vec<Outgoing> = (0..100).map(record).collect();
    let client = client(client_name, &broker.access(listener, mechanism));
    let bootstrap = broker.bootstrap_of(listener);
    client.produce(&bootstrap, &topic, "none", &records).unwrap();
    let seen = client.consume(&bootstrap, &topic, 0, records.len()).unwrap();
    let seen: Vec<_> = seen.into_iter().map(|record| record.content).collect();
    let sent: Vec<_> = records.into_iter().map(|record| record.content).collect();
    assert!(seen == sent, "{topic}: what came is not what was sent");
}

/// Both clients are refused at `listener`, and say one of `words` each; the broker's log gets `logged`.
fn stay_out(listener: &str, access: &Access, java: &str, librdkafka: &str, logged: &str) {
    let bootstrap = OTTLA.bootstrap_of(listener);
    let before = OTTLA.log().len();
    let (is_in, said) = LIBRDKAFKA.knock(&bootstrap, access).unwrap();
    assert!(!is_in, "librdkafka came in");
    assert!(said.contains(librdkafka), "librdkafka said {said}");
    assert!(!said.contains(PASSWORD), "{said}");
    let said = JAVA
        .secured(access)
        .unwrap()
        .topics(&bootstrap, &["--list"])
        .unwrap_err();
    assert!(said.contains(java), "Java said {said}");
    let log = OTTLA.log();
    let new = &log[before..];
    assert!(new.contains(logged), "the log has no \"{logged}\" in {new}");
}

#[test]
fn a_certificate_that_clients_do_not_trust_keeps_them_out() {
    let mut access = OTTLA.access("SSL", None);
    access.ca = OTTLA.certificates().other_ca();
    let logged = "the TLS handshake failed: the client does not trust the certificate of this listener";
    stay_out("SSL", &access, "PKIX path", "certificate verify failed", logged);
}

#[test]
fn a_certificate_of_another_host_keeps_clients_out() {
    let access = OTTLA.access("ELSEWHERE", None);
    let logged = "the TLS handshake failed: the client does not trust the certificate of this listener, or its name";
    stay_out(
        "ELSEWHERE",
        &access,
        "No subject alternative DNS name",
        "certificate verify failed",
        logged,
    );
}

#[test]
fn an_expired_certificate_keeps_clients_out() {
    let access = OTTLA.access("EXPIRED", None);
    stay_out(
        "EXPIRED",
        &access,
        "validity check failed",
        "certificate verify failed",
        "the TLS handshake failed",
    );
}

#[test]
fn whoever_shows_no_certificate_or_a_strangers_stays_out() {
    let mut access = OTTLA.access("MTLS", None);
    access.own = None;
    stay_out(
        "MTLS",
        &access,
        "SSL",
        "SSL",
        "the client shows no certificate, and ssl.client.auth=required",
    );
    // Both clients keep back a certificate that none of the authorities they are told has signed.
    access.own = Some(OTTLA.certificates().stranger());
    stay_out(
        "MTLS",
        &access,
        "SSL",
        "SSL",
        "the client shows no certificate, and ssl.client.auth=required",
    );
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_the_same() {
    for (mechanism, words) in [
        ("PLAIN", "Authentication failed: Invalid username or password"),
        (
            "SCRAM-SHA-256",
            "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-256",
        ),
        (
            "SCRAM-SHA-512",
            "Authentication failed during authentication due to invalid credentials with SASL mechanism SCRAM-SHA-512",
        ),
    ] {
        let good = OTTLA.access("SASL_SSL", Some(mechanism));
        let mut wrong_password = good.clone();
        wrong_password.login.as_mut().unwrap().password += "x";
        let mut unknown_user = good;
        unknown_user.login.as_mut().unwrap().user = "nobody".to_owned();
        for access in [wrong_password, unknown_user] {
            stay_out("SASL_SSL", &access, words, words, words);
        }
    }
}

#[test]
fn a_mechanism_that_is_not_enabled_is_refused_with_those_that_are() {
    let access = OTTLA.access("NARROW", Some("PLAIN"));
    let logged = "a SASL mechanism that is not enabled; these are: SCRAM-SHA-512";
    stay_out(
        "NARROW",
        &access,
        "enabled mechanisms are [SCRAM-SHA-512]",
        "SCRAM-SHA-512",
        logged,
    );
}

#[test]
fn whoever_does_not_authenticate_stays_out() {
    let access = OTTLA.access("PLAINTEXT", None);
    let logged = "before authentication (ILLEGAL_SASL_STATE)";
    stay_out("SASL", &access, "", "", logged);
}

#[test]
fn tls_to_a_plain_port_and_the_other_way_round_are_called_by_name() {
    let tls = OTTLA.access("SSL", None);
    let logged = "the peer speaks TLS, but this listener is PLAINTEXT";
    stay_out("PLAINTEXT", &tls, "", "SSL", logged);
    let tls = OTTLA.access("SASL_SSL", Some("PLAIN"));
    stay_out(
        "SASL",
        &tls,
        "",
        "SSL",
        "the peer speaks TLS, but this listener is SASL_PLAINTEXT",
    );
    let plain = OTTLA.access("PLAINTEXT", None);
    let logged = "the peer does not speak TLS, but this listener is SSL (set security.protocol=SSL in the client)";
    stay_out("SSL", &plain, "", "", logged);
}

/// How often the most eager connection authenticated, by a log of level debug.
fn most_authentications(log: &str) -> usize {
    let mut of_peer: HashMap<&str, usize> = HashMap::new();
    for line in log.lines().filter(|line| line.contains(": authenticated ")) {
        let peer = line.split("peer=").nth(1).unwrap().split(' ').next().unwrap();
        *of_peer.entry(peer).or_default() += 1;
    }
    of_peer.into_values().max().unwrap_or_default()
}

#[test]
fn clients_authenticate_again_in_time_and_lose_nothing() {
    let mut broker = SecuredBroker::start(Kind::Ottla, "security-again", &["connections.max.reauth.ms=10000"]).unwrap();
    broker.process().kill();
    broker
        .process()
        .set_environment("RUST_LOG", "ottla_broker::handlers=debug");
    broker.process().restart().unwrap();
    let plain = broker.bootstrap_of("PLAINTEXT");
    for topic in ["from-librdkafka", "from-java"] {
        LIBRDKAFKA.create_topic(&plain, topic, 1).unwrap();
    }
    let (access, bootstrap) = (
        broker.access("SASL_SSL", Some("SCRAM-SHA-256")),
        broker.bootstrap_of("SASL_SSL"),
    );
    let writer = Librdkafka::start().unwrap();
    let begin = json!({
        "do": "begin", "bootstrap": bootstrap, "topic": "from-librdkafka", "partitions": 1, "config": access.librdkafka(),
    });
    writer.ask(&begin).unwrap();
    let start = Instant::now();
    while most_authentications(&broker.log()) < 3 {
        assert!(
            start.elapsed() < Duration::from_secs(60),
            "it does not authenticate again: {}",
            broker.log()
        );
        std::thread::sleep(Duration::from_millis(50));
    }
    let told = writer.ask(&json!({"do": "end"})).unwrap();
    assert_eq!(told["failed"], json!([]));
    let before = broker.log().len();
    JAVA.secured(&access)
        .unwrap()
        .produce_slowly(&bootstrap, "from-java", 2500, 100)
        .unwrap();
    let log = broker.log();
    assert!(most_authentications(&log[before..]) >= 3, "{}", &log[before..]);
    assert!(!log.contains("did not authenticate again"), "{log}");
    assert_eq!(LIBRDKAFKA.end_offset(&plain, "from-java", 0).unwrap(), 2500);
}

#[test]
fn nothing_that_is_logged_has_a_password_in_it() {
    let mut broker = SecuredBroker::start(Kind::Ottla, "security-log", &[]).unwrap();
    broker.process().kill();
    broker.process().set_environment("RUST_LOG", "trace");
    broker.process().restart().unwrap();
    for mechanism in ottla_tests::secured::MECHANISMS {
        for password in [PASSWORD.to_owned(), format!("{PASSWORD}x")] {
            let mut access = broker.access("SASL_SSL", Some(mechanism));
            access.login.as_mut().unwrap().password = password;
            LIBRDKAFKA.knock(&broker.bootstrap_of("SASL_SSL"), &access).unwrap();
        }
    }
    let log = broker.log();
    assert!(
        log.contains("authenticated") && log.contains("Invalid username or password"),
        "{log}"
    );
    assert!(!log.contains(PASSWORD), "{log}");
    let in_hex: String = PASSWORD.bytes().map(|byte| format!("{byte:02x}")).collect();
    assert!(!log.contains(&in_hex), "{log}");
    let in_numbers = format!("{:?}", PASSWORD.as_bytes());
    assert!(!log.contains(in_numbers.trim_matches(['[', ']'])), "{log}");
}
