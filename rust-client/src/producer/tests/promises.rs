//! What the user is told at the end: by `flush`, and by the error of a record.

use std::time::SystemTime;

use super::*;

#[tokio::test]
async fn flush_counts_what_it_waited_for_and_nothing_else() {
    let log = Arc::new(Log::default());
    let broker = broker(&log, |batch| match batch.values.first().map(String::as_str) {
        Some("refused") => ErrorCode::TopicAuthorizationFailed.code(),
        Some("doubtful") => ErrorCode::UnknownServerError.code(),
        _ => 0,
    })
    .await;
    let producer = producer(&broker, &[("batch.size", "0"), ("linger.ms", "100000")]).await;
    let before = producer.send(order(0).value("before")).await.unwrap();
    assert!(producer.flush().await.all_delivered());
    before.await.unwrap();
    for value in ["good", "refused", "good", "doubtful", "good"] {
        drop(producer.send(order(1).value(value)).await.unwrap());
    }
    let flushed = producer.flush().await;
    let expected = Flushed {
        delivered: 3,
        failed: 1,
        unknown: 1,
        pending: 0,
    };
    assert_eq!(flushed, expected);
    assert!(!flushed.all_delivered());
    assert_eq!(
        producer.flush().await,
        Flushed::default(),
        "nothing is left to wait for"
    );
}

#[tokio::test]
async fn flush_with_a_timeout_returns_and_says_what_is_still_under_way() {
    let broker = FakeBroker::start(|asked| match asked.api {
        ApiKey::Produce => Reply::Silence,
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &SHORT).await;
    for _ in 0..3 {
        drop(producer.send(order(0).value("1")).await.unwrap());
    }
    let flushed = producer.flush_timeout(Duration::from_millis(20)).await;
    assert_eq!(flushed.pending, 3, "{flushed:?}");
    let flushed = producer.flush().await;
    assert_eq!((flushed.failed + flushed.unknown, flushed.pending), (3, 0));
}

#[tokio::test]
async fn the_parts_of_a_batch_that_was_cut_are_counted_once() {
    let log = Arc::new(Log::default());
    let broker = broker(&log, |batch| match batch.values.len() {
        1 | 2 => 0,
        _ => ErrorCode::MessageTooLarge.code(),
    })
    .await;
    let producer = producer(&broker, &[("linger.ms", "100000")]).await;
    for value in ["1", "2", "3", "4", "5", "6", "7"] {
        drop(producer.send(order(0).value(value)).await.unwrap());
    }
    assert_eq!(producer.flush().await.delivered, 7);
    assert!(log.written().len() >= 4, "it was cut");
}

#[tokio::test]
async fn an_error_tells_its_attempts_as_data() {
    let log = Arc::new(Log::default());
    let broker = broker(&log, |_| ErrorCode::NotEnoughReplicas.code()).await;
    let (started, retries) = (SystemTime::now(), [("retries", "2")]);
    let producer = producer(&broker, &retries).await;
    let error = producer.send(order(0).value("1")).await.unwrap().await.unwrap_err();
    assert_eq!((error.persisted(), error.attempt_count()), (Persisted::No, 3));
    assert_eq!(error.attempts().len(), 3);
    for attempt in error.attempts() {
        assert_eq!(attempt.broker_id, 1);
        assert!(attempt.reason.contains("NOT_ENOUGH_REPLICAS"), "{attempt:?}");
        let slack = Duration::from_secs(1); // two clocks of the operating system
        assert!(attempt.time + slack >= started && attempt.time <= SystemTime::now());
    }
    let (api, version) = error.api().expect("the request is named");
    assert_eq!((api, version), (ApiKey::Produce, ApiKey::Produce.max_version()));
    assert!(error.broker().unwrap().contains(&broker.address()), "{error}");
}

#[tokio::test]
async fn an_error_of_a_record_that_never_left_has_no_attempts() {
    let broker = FakeBroker::start(|asked| match asked.api {
        ApiKey::InitProducerId => Reply::Silence,
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &SHORT).await;
    let error = producer.send(order(0).value("1")).await.unwrap().await.unwrap_err();
    assert_eq!((error.persisted(), error.attempt_count()), (Persisted::No, 0));
    assert!(error.attempts().is_empty());
}

#[tokio::test]
async fn a_lost_connection_is_told_with_its_broker_and_request() {
    let broker = FakeBroker::start(|asked| match asked.api {
        ApiKey::Produce => Reply::Close(Vec::new()),
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &[("retries", "1"), ("enable.idempotence", "false")]).await;
    let error = producer.send(order(0).value("1")).await.unwrap().await.unwrap_err();
    assert_eq!((error.persisted(), error.attempt_count()), (Persisted::Possibly, 2));
    assert_eq!(error.api().map(|(api, _)| api), Some(ApiKey::Produce));
    assert!(error.broker().unwrap().contains(&broker.address()), "{error}");
    assert_eq!(error.attempts().len(), 2);
}
