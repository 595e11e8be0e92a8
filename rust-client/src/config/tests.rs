//! Every key's row, every default, and what contradicts itself.

use super::*;

fn settings(kind: ClientKind, pairs: &[(&str, &str)]) -> Settings {
    let mut settings = Settings::new(kind);
    settings.set("bootstrap.servers", "localhost:9092");
    for (key, value) in pairs {
        settings.set(key, value);
    }
    settings
}

fn producer(pairs: &[(&str, &str)]) -> Result<ProducerConfig> {
    settings(ClientKind::Producer, pairs).producer()
}

#[test]
fn every_default_fits_its_own_row_and_every_row_has_a_text() {
    for row in KEYS {
        assert!(
            row.default.is_empty() || values::check(row, row.default).is_ok(),
            "{}",
            row.name
        );
        assert!(row.doc.ends_with('.') || row.doc.ends_with(')'), "{}", row.name);
        assert!(
            row.users
                != Users {
                    producer: false,
                    consumer: false,
                    admin: false
                },
            "{}",
            row.name
        );
    }
}

#[test]
fn no_client_has_a_key_twice() {
    for kind in [ClientKind::Producer, ClientKind::Consumer, ClientKind::Admin] {
        let mut names: Vec<_> = KEYS.iter().filter(|row| kind.has(row)).map(|row| row.name).collect();
        names.sort_unstable();
        let all = names.len();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}

#[test]
fn defaults_are_the_java_clients() {
    let config = producer(&[]).unwrap();
    assert_eq!(
        (config.acks, config.linger_ms, config.batch_size),
        (Acks::All, 5, 16_384)
    );
    assert!(config.enable_idempotence);
    assert_eq!(config.client.receive_buffer_bytes, Some(32_768));
    let config = settings(ClientKind::Consumer, &[]).consumer().unwrap();
    assert_eq!(config.auto_offset_reset, ResetPolicy::Latest);
    assert_eq!((config.fetch_max_wait_ms, config.max_poll_records), (500, 500));
}

#[test]
fn the_buffer_that_records_arrive_in_is_left_to_the_operating_system() {
    let config = settings(ClientKind::Consumer, &[]).consumer().unwrap();
    assert_eq!(config.client.receive_buffer_bytes, None);
}

#[test]
fn an_unknown_key_is_refused_with_the_nearest_known_one() {
    let error = producer(&[("linger.sm", "5")]).unwrap_err();
    assert!(error.to_string().contains("did you mean linger.ms"), "{error}");
    let error = producer(&[("frobnicate", "5")]).unwrap_err();
    assert_eq!(error.to_string(), "frobnicate is not a key of a producer");
    let error = producer(&[("fetch.min.bytes", "5")]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Config);
}

#[test]
fn a_key_that_only_java_has_is_refused_with_the_reason() {
    let error = producer(&[("key.serializer", "org.example.Thing")]).unwrap_err();
    assert!(error.to_string().contains("bytes"), "{error}");
    let error = producer(&[("ssl.engine.factory.class", "org.example.Thing")]).unwrap_err();
    assert!(error.to_string().contains("Java class"), "{error}");
}

#[test]
fn a_delivery_timeout_too_short_for_one_request_is_refused_if_asked_for_and_stretched_if_not() {
    assert!(producer(&[("delivery.timeout.ms", "1000")]).is_err());
    let config = producer(&[("linger.ms", "100000")]).unwrap();
    assert_eq!(config.delivery_timeout_ms, 130_000);
}

#[test]
fn idempotence_by_default_gives_way_and_by_name_does_not() {
    assert!(!producer(&[("acks", "1")]).unwrap().enable_idempotence);
    assert!(!producer(&[("retries", "0")]).unwrap().enable_idempotence);
    for obstacle in [
        ("acks", "1"),
        ("retries", "0"),
        ("max.in.flight.requests.per.connection", "6"),
    ] {
        assert!(
            producer(&[("enable.idempotence", "true"), obstacle]).is_err(),
            "{obstacle:?}"
        );
    }
}

#[test]
fn more_requests_in_flight_than_idempotence_bears_need_a_word() {
    let many = ("max.in.flight.requests.per.connection", "6");
    assert!(producer(&[many]).is_err());
    assert!(producer(&[many, ("acks", "1")]).is_err());
    let config = producer(&[many, ("enable.idempotence", "false")]).unwrap();
    assert_eq!((config.max_in_flight, config.enable_idempotence), (6, false));
}

#[test]
fn the_first_mistake_is_the_one_reported() {
    let error = producer(&[("linger.ms", "soon"), ("batch.size", "-1")]).unwrap_err();
    assert!(error.to_string().starts_with("linger.ms"), "{error}");
}

#[test]
fn without_bootstrap_servers_nothing_starts() {
    assert!(Settings::new(ClientKind::Admin).admin().is_err());
}
