//! Ottla's client and command on secured listeners, of Apache Kafka and of Ottla's broker: they come in by every way there
//! is, stay out where they must and say why, and lose nothing when the broker limits their sessions.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use ottla::{Admin, Consumer, Error, ErrorKind, NewTopic, Producer, Record};
use ottla_tests::peer::broker_process::Kind;
use ottla_tests::peer::ours;
use ottla_tests::place;
use ottla_tests::secured::{Access, PASSWORD, SecuredBroker, USER};

static OTTLA: LazyLock<SecuredBroker> =
    LazyLock::new(|| SecuredBroker::start(Kind::Ottla, "security-ours", &[]).unwrap());
static APACHE: LazyLock<SecuredBroker> =
    LazyLock::new(|| SecuredBroker::start(Kind::Apache, "security-ours", &[]).unwrap());

const RECORDS: usize = 200;

fn pairs(bootstrap: &str, access: &Access) -> Vec<(String, String)> {
    let own = access
        .properties()
        .into_iter()
        .map(|(key, value)| (key.to_owned(), value));
    own.chain([("bootstrap.servers".to_owned(), bootstrap.to_owned())])
        .collect()
}

/// The same, in librdkafka's keys.
fn librdkafka_pairs(bootstrap: &str, access: &Access) -> Vec<(String, String)> {
    let config = access.librdkafka();
    let own = config.as_object().unwrap().iter();
    let own = own.map(|(key, value)| (key.clone(), value.as_str().unwrap().to_owned()));
    own.chain([("bootstrap.servers".to_owned(), bootstrap.to_owned())])
        .collect()
}

/// Creates a topic, writes and reads back, on one listener.
async fn come_in(broker: &SecuredBroker, listener: &str, mechanism: Option<&'static str>) -> Result<(), Error> {
    let (access, bootstrap) = (broker.access(listener, mechanism), broker.bootstrap_of(listener));
    let topic = format!("ours-{listener}-{}", mechanism.unwrap_or("none"));
    let admin = Admin::from_properties(pairs(&bootstrap, &access))?.build().await?;
    admin.create_topics(&[NewTopic::new(&topic).partitions(1)]).await?;
    // Some are larger than a record of TLS, and all together than what it buffers.
    let value = |number: usize| format!("value {number} ").repeat(1 + number % 4 * 1000);
    let producer = Producer::from_properties(librdkafka_pairs(&bootstrap, &access))?
        .build()
        .await?;
    let mut deliveries = Vec::new();
    for number in 0..RECORDS {
        let value = value(number);
        deliveries.push(producer.send(Record::to(&topic).key(b"key").value(&value)).await?);
    }
    for delivery in deliveries {
        delivery.await?;
    }
    producer.close(Duration::from_secs(30)).await?;
    let mut consumer = Consumer::from_properties(pairs(&bootstrap, &access))?
        .set("auto.offset.reset", "earliest")
        .assign([(topic.as_str(), 0)])
        .build()
        .await?;
    let mut seen = 0;
    while seen < RECORDS {
        for record in &consumer.poll().await?.expect("the consumer is open") {
            assert!(
                record.value() == Some(value(seen).as_bytes()),
                "{topic}: record {seen} is another"
            );
            seen += 1;
        }
    }
    consumer.close(Duration::from_secs(10)).await;
    Ok(())
}

#[test]
fn every_way_in_is_open_on_both_brokers() {
    ours::runtime().unwrap().block_on(async {
        for (name, broker) in [("Ottla", &*OTTLA), ("Apache Kafka", &*APACHE)] {
            for listener in ["PLAINTEXT", "SSL", "MTLS"] {
                come_in(broker, listener, None)
                    .await
                    .unwrap_or_else(|error| panic!("{name}, {listener}: {error}"));
            }
            for listener in ["SASL", "SASL_SSL", "SASL_MTLS"] {
                for mechanism in ottla_tests::secured::MECHANISMS {
                    come_in(broker, listener, Some(mechanism))
                        .await
                        .unwrap_or_else(|error| panic!("{name}, {listener}, {mechanism}: {error}"));
                }
            }
        }
    });
}

/// The client is refused on both brokers; the error names the broker and all of `words`, but not the password.
#[track_caller]
fn stay_out(listener: &str, change: impl Fn(&SecuredBroker) -> Access, words: &[&str]) {
    for broker in [&*OTTLA, &*APACHE] {
        let (access, bootstrap) = (change(broker), broker.bootstrap_of(listener));
        let build = async { Admin::from_properties(pairs(&bootstrap, &access))?.build().await };
        let error = ours::runtime().unwrap().block_on(build).unwrap_err();
        let text = error.to_string();
        assert_eq!(
            (error.kind(), error.retriable()),
            (ErrorKind::Authentication, false),
            "{text}"
        );
        for word in words.iter().chain(&[&*bootstrap]) {
            assert!(text.contains(word), "no {word:?} in: {text}");
        }
        assert!(!text.contains(PASSWORD), "{text}");
    }
}

#[test]
fn a_broker_that_is_not_trusted_is_told_with_its_authority() {
    let change = |broker: &SecuredBroker| {
        let mut access = broker.access("SSL", None);
        access.ca = broker.certificates().other_ca();
        access
    };
    stay_out("SSL", change, &["not trusted", "CN=localhost", "CN=Ottla tests"]);
}

#[test]
fn a_broker_with_another_hosts_certificate_is_told_with_the_names_in_it() {
    let change = |broker: &SecuredBroker| broker.access("ELSEWHERE", None);
    stay_out("ELSEWHERE", change, &["does not name localhost", "elsewhere.example"]);
}

#[test]
fn an_expired_certificate_is_told_with_its_end() {
    let change = |broker: &SecuredBroker| broker.access("EXPIRED", None);
    stay_out("EXPIRED", change, &["expired at 2020-01-01", "CN=localhost"]);
}

#[test]
fn a_client_certificate_that_is_missing_or_a_strangers_is_told() {
    let without = |broker: &SecuredBroker| Access {
        own: None,
        ..broker.access("MTLS", None)
    };
    stay_out(
        "MTLS",
        without,
        &["requires a client certificate", "ssl.keystore.location"],
    );
    let stranger = |broker: &SecuredBroker| Access {
        own: Some(broker.certificates().stranger()),
        ..broker.access("MTLS", None)
    };
    stay_out("MTLS", stranger, &["rejected this client's certificate"]);
}

#[test]
fn a_wrong_password_and_an_unknown_user_are_told_in_the_brokers_words() {
    for mechanism in ottla_tests::secured::MECHANISMS {
        let wrong = |user: &'static str, password: String| {
            move |broker: &SecuredBroker| {
                let mut access = broker.access("SASL_SSL", Some(mechanism));
                let login = access.login.as_mut().unwrap();
                (login.user, login.password) = (user.to_owned(), password.clone());
                access
            }
        };
        stay_out(
            "SASL_SSL",
            wrong(USER, format!("{PASSWORD}x")),
            &[mechanism, "the broker says: Authentication failed"],
        );
        stay_out(
            "SASL_SSL",
            wrong("nobody", PASSWORD.to_owned()),
            &[mechanism, "the broker says: Authentication failed"],
        );
    }
}

#[test]
fn a_mechanism_that_is_not_enabled_is_told_with_those_that_are() {
    let change = |broker: &SecuredBroker| broker.access("NARROW", Some("PLAIN"));
    stay_out("NARROW", change, &["sasl.mechanism=PLAIN", "it offers SCRAM-SHA-512"]);
}

/// What comes back from a port that expects something else differs, and may be no more than an end: the words matter.
#[track_caller]
fn fail(listener: &str, of: &str, words: &[&str]) {
    for broker in [&*OTTLA, &*APACHE] {
        let mechanism = of.starts_with("SASL").then_some("SCRAM-SHA-256");
        let (access, bootstrap) = (broker.access(of, mechanism), broker.bootstrap_of(listener));
        let build = async { Admin::from_properties(pairs(&bootstrap, &access))?.build().await };
        let error = ours::runtime().unwrap().block_on(build).unwrap_err().to_string();
        for word in words.iter().chain(&[&*bootstrap]) {
            assert!(error.contains(word), "no {word:?} in: {error}");
        }
    }
}

#[test]
fn a_listener_of_another_kind_is_guessed() {
    fail("PLAINTEXT", "SSL", &["is this a PLAINTEXT or SASL_PLAINTEXT listener?"]);
    fail("SASL", "SASL_SSL", &["is this a PLAINTEXT or SASL_PLAINTEXT listener?"]);
    fail("SSL", "PLAINTEXT", &["security.protocol=SSL"]);
    fail("SASL_SSL", "SASL", &["security.protocol=SSL"]);
    fail("SASL", "PLAINTEXT", &["SASL listener", "security.protocol"]);
    fail("SASL_SSL", "SSL", &["SASL listener", "security.protocol"]);
}

/// A session of Apache Kafka that is not renewed in time ends with the next request.
#[test]
fn no_record_is_lost_or_doubled_when_sessions_end() {
    const LIFETIME: Duration = Duration::from_secs(20);
    let lines = ["connections.max.reauth.ms=20000"];
    let apache = SecuredBroker::start(Kind::Apache, "security-sessions", &lines).unwrap();
    ours::runtime().unwrap().block_on(async {
        let access = apache.access("SASL_SSL", Some("SCRAM-SHA-512"));
        let pairs = pairs(&apache.bootstrap_of("SASL_SSL"), &access);
        let admin = Admin::from_properties(pairs.clone()).unwrap().build().await.unwrap();
        admin
            .create_topics(&[NewTopic::new("sessions").partitions(1)])
            .await
            .unwrap();
        let producer = Producer::from_properties(pairs.clone()).unwrap().build().await.unwrap();
        let mut consumer = Consumer::from_properties(pairs)
            .unwrap()
            .set("auto.offset.reset", "earliest")
            .assign([("sessions", 0)])
            .build()
            .await
            .unwrap();
        let begin = Instant::now();
        let (mut sent, mut deliveries, mut read) = (0_u64, Vec::new(), 0_u64);
        while begin.elapsed() < 5 * LIFETIME / 2 {
            for _ in 0..20 {
                deliveries.push(
                    producer
                        .send(Record::to("sessions").value(&sent.to_be_bytes()))
                        .await
                        .unwrap(),
                );
                sent += 1;
            }
            for record in &consumer.poll().await.unwrap().unwrap() {
                assert_eq!(record.value(), Some(&read.to_be_bytes()[..]));
                read += 1;
            }
        }
        for delivery in deliveries {
            let written = delivery.await.unwrap();
            assert!(
                written
                    .offset
                    .is_some_and(|offset| offset < i64::try_from(sent).unwrap())
            );
        }
        // A connection is replaced before its session ends; no request has to be lost to find that out.
        assert_eq!(producer.metrics().requests_failed, 0);
        while read < sent {
            for record in &consumer.poll().await.unwrap().unwrap() {
                assert_eq!(record.value(), Some(&read.to_be_bytes()[..]));
                read += 1;
            }
        }
    });
}

fn ottla(arguments: &[&str], input: &str) -> String {
    let mut command = Command::new(place::ottla_command());
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{arguments:?}: {out}{err}");
    out.into_owned()
}

#[test]
fn the_command_comes_in_with_a_file_of_properties() {
    for (name, broker) in [("ottla", &*OTTLA), ("apache", &*APACHE)] {
        let access = broker.access("SASL_MTLS", Some("SCRAM-SHA-256"));
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(access.properties_text().as_bytes()).unwrap();
        let (file, topic) = (file.path().to_str().unwrap(), format!("command-{name}"));
        let bootstrap = broker.bootstrap_of("SASL_MTLS");
        let run = |arguments: &[&str], input: &str| {
            let to = [
                "--bootstrap-server",
                &bootstrap,
                "--topic",
                &topic,
                "--command-config",
                file,
            ];
            ottla(&[arguments, &to].concat(), input)
        };
        run(&["topics", "--create", "--partitions", "1"], "");
        run(&["produce", "--quiet"], "one\ntwo\n");
        assert_eq!(
            run(&["consume", "--from-beginning", "--max-messages", "2", "--quiet"], ""),
            "one\ntwo\n"
        );
        run(
            &["perf", "produce", "--num-records", "1000", "--record-size", "100"],
            "",
        );
        run(&["perf", "consume", "--num-records", "1000"], "");
    }
}
