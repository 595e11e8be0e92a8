//! Records whose fate is told by reports: each exactly once, whoever sends them and whatever becomes of their batches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::Waker;

use crate::{NotQueued, Report, Reports};

use super::*;

fn reports() -> Arc<Reports> {
    Reports::new(Waker::noop().clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn threads_that_mix_records_with_and_without_a_tag_lose_and_double_none_of_a_batch_that_is_cut() {
    const THREADS: u64 = 4;
    const EACH: u64 = 1_500;
    let (log, asked) = (Arc::new(Log::default()), AtomicU64::new(0));
    // Batches of more than three records are to be cut; of the parts every third is refused for good.
    let script = move |batch: &Written| match batch.values.len() {
        4.. => ErrorCode::MessageTooLarge.code(),
        _ if asked.fetch_add(1, Ordering::Relaxed).is_multiple_of(3) => ErrorCode::TopicAuthorizationFailed.code(),
        _ => 0,
    };
    let broker = broker(&log, script).await;
    // The broker keeps no sequences, so none are sent.
    let producer = producer(&broker, &[("linger.ms", "0"), ("enable.idempotence", "false")]).await;
    let (told, failures) = (reports(), reports());
    // The topic is known from here on, so that nobody has to wait for it.
    producer
        .send_reported(order(0).value("t"), &told, Some(0))
        .await
        .unwrap();
    let senders = (0..THREADS).map(|thread| {
        let (producer, told, failures) = (producer.clone(), told.clone(), failures.clone());
        tokio::task::spawn_blocking(move || {
            for nth in 0..EACH {
                // Tags without an order, each once.
                let tag = 1 + (nth * THREADS + thread) * 7_919 % (THREADS * EACH);
                let tagged = (nth + thread) % 2 == 0;
                let mut record = order((nth % 2) as i32).value(if tagged { "t" } else { "u" });
                let (place, tag) = if tagged { (&told, Some(tag)) } else { (&failures, None) };
                while let Err(refused) = producer.try_send_reported(&mut record, place, tag) {
                    assert!(matches!(refused, NotQueued::QueueFull), "{refused:?}");
                    std::thread::yield_now();
                }
            }
        })
    });
    for sender in senders.collect::<Vec<_>>() {
        sender.await.unwrap();
    }
    let flushed = producer.flush().await;
    assert_eq!(flushed.pending, 0);

    let written: Vec<String> = log.written().into_iter().flat_map(|batch| batch.values).collect();
    let written = |what: &str| written.iter().filter(|value| *value == what).count() as u64;
    let half = THREADS * EACH / 2;
    let mut seen = HashMap::new();
    let mut delivered = 0;
    for report in told.take() {
        for nth in 0..u64::from(report.count) {
            *seen.entry(report.first + nth).or_insert(0) += 1;
            delivered += u64::from(report.result.is_ok());
        }
    }
    assert!(seen.values().all(|times| *times == 1), "told twice");
    assert_eq!((seen.len() as u64, delivered), (half + 1, written("t")));
    let failed: u64 = failures
        .take()
        .into_iter()
        .inspect(|report| assert!(report.result.is_err() && report.first == Report::UNTAGGED))
        .map(|report| u64::from(report.count))
        .sum();
    assert_eq!(
        failed,
        half - written("u"),
        "each failure without a tag is counted once"
    );
    assert!(
        failed > 0 && written("u") > 0 && log.written().len() > 1_000,
        "some of each"
    );
}

#[tokio::test]
async fn a_record_that_is_not_queued_is_told_nowhere_and_can_be_tried_again() {
    let log = Arc::new(Log::default());
    let broker = broker(&log, |_| 0).await;
    let producer = producer(&broker, &[("buffer.memory", "20000"), ("linger.ms", "100000")]).await;
    let (told, value) = (reports(), "v".repeat(15_000));
    let mut record = order(0).value(&value);
    let unknown = producer
        .try_send_reported(&mut Record::to("nowhere"), &told, Some(0))
        .unwrap_err();
    assert!(matches!(unknown, NotQueued::UnknownTopic), "{unknown:?}");
    assert!(unknown.into_error("nowhere").retriable());
    producer.send_reported(record.clone(), &told, Some(1)).await.unwrap();
    let full = producer.try_send_reported(&mut record, &told, Some(2)).unwrap_err();
    assert!(matches!(full, NotQueued::QueueFull), "{full:?}");
    assert_eq!(full.into_error("orders").kind(), crate::ErrorKind::QueueFull);
    let wrong = producer
        .try_send_reported(&mut order(9).value("x"), &told, Some(3))
        .unwrap_err();
    let error = wrong.into_error("orders");
    assert!(error.to_string().contains("\"orders\" has no partition 9"), "{error}");
    assert!(producer.flush().await.all_delivered());
    producer.try_send_reported(&mut record, &told, Some(2)).unwrap();
    assert!(producer.flush().await.all_delivered());
    let tags: Vec<u64> = told.take().into_iter().map(|report| report.first).collect();
    assert_eq!(tags, [1, 2]);
}
