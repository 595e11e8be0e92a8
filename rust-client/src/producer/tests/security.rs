//! Records of a producer whose broker does not know it any more, or not for long.

use ottla_protocol::sasl::Mechanism;

use super::*;
use crate::error::ErrorKind;
use crate::tests::sasl::{PASSWORD, SaslServer, USER};

const LOGIN: [(&str, &str); 4] = [
    ("security.protocol", "SASL_PLAINTEXT"),
    ("sasl.mechanism", "SCRAM-SHA-256"),
    ("sasl.username", USER),
    ("sasl.password", PASSWORD),
];

async fn sasl_broker(log: &Arc<Log>, server: Arc<SaslServer>, silent: Arc<AtomicUsize>) -> FakeBroker {
    let log = log.clone();
    FakeBroker::start(move |asked| match asked.api {
        ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => server.answer(asked),
        ApiKey::Produce if silent.load(Ordering::Relaxed) > 0 => {
            silent.fetch_sub(1, Ordering::Relaxed);
            Reply::Close(Vec::new())
        }
        ApiKey::Produce => log.produce(asked, |_| 0),
        _ => healthy(asked),
    })
    .await
}

#[tokio::test]
async fn records_of_who_is_refused_later_fail_at_once_and_say_what_is_known_of_them() {
    let (log, server) = (Arc::new(Log::default()), Arc::new(SaslServer::new(&Mechanism::ALL)));
    let lost = Arc::new(AtomicUsize::new(0));
    let broker = sasl_broker(&log, server.clone(), lost.clone()).await;
    let never = ("delivery.timeout.ms", "2147483647");
    let producer = producer(&broker, &[&LOGIN[..], &[never, ("linger.ms", "0")]].concat()).await;
    producer.send(order(0).value("one")).await.unwrap().await.unwrap();
    // The connection is lost with a record on it, and the password does not count any more.
    lost.store(1, Ordering::Relaxed);
    *server.refuses.lock().unwrap() = true;
    let error = producer.send(order(0).value("two")).await.unwrap().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Authentication, Persisted::Possibly),
        "{error}"
    );
    assert!(error.to_string().contains("Invalid username or password"), "{error}");
    let error = producer.send(order(1).value("three")).await.unwrap().await.unwrap_err();
    assert_eq!(
        (error.kind(), error.persisted()),
        (ErrorKind::Authentication, Persisted::No),
        "{error}"
    );
    assert!(!error.retriable());
    // And it counts again.
    *server.refuses.lock().unwrap() = false;
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while producer.send(order(1).value("four")).await.unwrap().await.is_err() {
        assert!(tokio::time::Instant::now() < deadline, "the producer does not recover");
    }
}

#[tokio::test]
async fn no_record_is_lost_or_doubled_when_sessions_end() {
    let log = Arc::new(Log::default());
    let mut server = SaslServer::new(&Mechanism::ALL);
    server.lifetime_ms = 100;
    let broker = sasl_broker(&log, Arc::new(server), Arc::default()).await;
    let producer = producer(&broker, &[&LOGIN[..], &[("linger.ms", "0")]].concat()).await;
    let logins = broker.count(ApiKey::SaslHandshake);
    let mut sent = Vec::new();
    let mut deliveries = Vec::new();
    let deadline = tokio::time::Instant::now() + Duration::from_secs(60);
    while broker.count(ApiKey::SaslHandshake) < logins + 5 {
        assert!(tokio::time::Instant::now() < deadline, "sessions are not replaced");
        let value = sent.len().to_string();
        deliveries.push(producer.send(order(0).value(&value)).await.unwrap());
        sent.push(value);
        tokio::task::yield_now().await;
    }
    for delivery in deliveries {
        delivery.await.unwrap();
    }
    let written: Vec<String> = log.written().into_iter().flat_map(|batch| batch.values).collect();
    assert!(written == sent, "{} sent, {} written", sent.len(), written.len());
}
