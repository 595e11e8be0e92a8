//! Bugs that other clients had, each as a test of this one. The broker here keeps a log and checks sequences as a real
//! one does, so that a record taken for a duplicate is not in the log.

use std::sync::atomic::AtomicBool;

use tokio::time::Instant;

use super::*;

/// What goes wrong with a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Refused.
    Before(ErrorCode),
    /// Written, and then not acknowledged.
    After(ErrorCode),
}

/// One partition's log, with the batches that tell a duplicate.
#[derive(Debug, Default)]
struct Sequenced {
    values: Vec<String>,
    /// Producer epoch, first sequence, records, offset.
    batches: Vec<(i16, i32, usize, usize)>,
}

impl Sequenced {
    fn append(&mut self, batch: &Written) -> Result<usize, ErrorCode> {
        let (epoch, base, count) = (batch.producer_epoch, batch.base_sequence, batch.values.len());
        let recent = self.batches.iter().rev().take(5);
        let known = recent
            .into_iter()
            .find(|one| (one.0, one.1, one.2) == (epoch, base, count));
        if let Some(known) = known {
            return Ok(known.3);
        }
        if let Some((last_epoch, last_base, last_count, _)) = self.batches.last() {
            let expected = if epoch > *last_epoch {
                0
            } else {
                last_base + *last_count as i32
            };
            if epoch < *last_epoch {
                return Err(ErrorCode::InvalidProducerEpoch);
            }
            if base != expected {
                return Err(ErrorCode::OutOfOrderSequenceNumber);
            }
        }
        let offset = self.values.len();
        self.values.extend(batch.values.iter().cloned());
        self.batches.push((epoch, base, count, offset));
        Ok(offset)
    }
}

/// The logs of a broker that checks sequences.
#[derive(Debug, Default)]
struct Ledger {
    logs: Mutex<BTreeMap<i32, Sequenced>>,
}

impl Ledger {
    fn produce(&self, asked: &Asked<'_>, fault: impl Fn(&Written) -> Fault) -> Reply {
        Log::default().produce_with_offsets(asked, |batch| {
            let fault = fault(batch);
            if let Fault::Before(code) = fault {
                return (code, -1);
            }
            let mut logs = self.logs.lock().unwrap();
            match (logs.entry(batch.partition).or_default().append(batch), fault) {
                (Err(code), _) | (Ok(_), Fault::After(code)) => (code, -1),
                (Ok(offset), _) => (ErrorCode::None, offset as i64),
            }
        })
    }

    fn values(&self, partition: i32) -> Vec<String> {
        let logs = self.logs.lock().unwrap();
        logs.get(&partition).map_or_else(Vec::new, |log| log.values.clone())
    }

    /// Every record that was acknowledged is where its ticket says, and one that failed for certain is nowhere.
    fn agrees(&self, partition: i32, tickets: &[(String, Delivery)]) {
        let values = self.values(partition);
        for (value, ticket) in tickets {
            match ticket.try_result().expect("complete") {
                Ok(metadata) => {
                    let offset = metadata.offset.expect("acknowledged with an offset") as usize;
                    assert_eq!(values.get(offset), Some(value), "{value} at {offset} of {values:?}");
                }
                Err(error) if error.persisted() == Persisted::No => assert!(!values.contains(value), "{value}"),
                Err(_) => {}
            }
        }
    }
}

async fn ledger_broker(ledger: &Arc<Ledger>, fault: impl Fn(&Written) -> Fault + Send + Sync + 'static) -> FakeBroker {
    let ledger = ledger.clone();
    FakeBroker::start(move |asked| match asked.api {
        ApiKey::Produce => ledger.produce(asked, &fault),
        _ => healthy(asked),
    })
    .await
}

/// One batch for each record, so that a fault meets one record.
const ONE_BY_ONE: [(&str, &str); 2] = [("batch.size", "0"), ("linger.ms", "0")];

async fn send_numbers(producer: &Producer, partition: i32, numbers: std::ops::Range<u32>) -> Vec<(String, Delivery)> {
    let mut tickets = Vec::new();
    for i in numbers {
        let value = i.to_string();
        let ticket = producer.send(order(partition).value(&value)).await.unwrap();
        tickets.push((value, ticket));
    }
    tickets
}

#[tokio::test]
async fn krafka_0_27_a_record_after_a_failed_batch_is_not_acknowledged_without_being_written() {
    let refusals = [
        ErrorCode::InvalidRecord,
        ErrorCode::MessageTooLarge,
        ErrorCode::TopicAuthorizationFailed,
        ErrorCode::UnknownServerError,
    ];
    let mut faults: Vec<Fault> = refusals.map(Fault::Before).to_vec();
    faults.push(Fault::After(ErrorCode::UnknownServerError));
    for fault in faults {
        let ledger = Arc::new(Ledger::default());
        let broker = ledger_broker(&ledger, move |batch| match batch.values.first().map(String::as_str) {
            Some("7" | "13") => fault,
            _ => Fault::None,
        })
        .await;
        let producer = producer(&broker, &ONE_BY_ONE).await;
        let tickets = send_numbers(&producer, 0, 0..20).await;
        producer.flush().await;
        assert_eq!(producer.metrics().records_delivered, 18, "{fault:?}");
        ledger.agrees(0, &tickets);
        let written = matches!(fault, Fault::After(_));
        let expected = (0..20)
            .filter(|i| written || ![7, 13].contains(i))
            .map(|i| i.to_string());
        assert_eq!(ledger.values(0), expected.collect::<Vec<_>>(), "{fault:?}");
    }
}

#[tokio::test]
async fn librdkafka_metadata_flap_restarts_no_sequence_and_loses_nothing() {
    // A restarting broker says that it does not know the topic, in metadata and in answers to Produce.
    let ledger = Arc::new(Ledger::default());
    let answers_without_topic = Arc::new(AtomicUsize::new(0));
    let (taken, left) = (ledger.clone(), answers_without_topic.clone());
    let broker = FakeBroker::start(move |asked| match asked.api {
        ApiKey::Metadata if left.load(Ordering::Relaxed) > 0 => {
            left.fetch_sub(1, Ordering::Relaxed);
            let mut answer = metadata(asked.port);
            for topic in &mut answer.topics {
                topic.error_code = ErrorCode::UnknownTopicOrPartition.code();
                topic.topic_id = Uuid::ZERO;
                topic.partitions.clear();
            }
            asked.answer(&answer)
        }
        ApiKey::Produce => taken.produce(asked, |_| match left.load(Ordering::Relaxed) {
            0 => Fault::None,
            _ => Fault::Before(ErrorCode::UnknownTopicOrPartition),
        }),
        _ => healthy(asked),
    })
    .await;
    let producer = producer(&broker, &ONE_BY_ONE).await;
    let mut tickets = Vec::new();
    for round in 0..5 {
        tickets.extend(send_numbers(&producer, 0, round * 20..round * 20 + 10).await);
        producer.flush().await;
        answers_without_topic.store(3, Ordering::Relaxed);
        tickets.extend(send_numbers(&producer, 0, round * 20 + 10..round * 20 + 20).await);
        assert!(producer.flush().await.all_delivered());
        assert_eq!(answers_without_topic.load(Ordering::Relaxed), 0, "the topic was away");
    }
    ledger.agrees(0, &tickets);
    assert_eq!(ledger.values(0), (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
    let logs = ledger.logs.lock().unwrap();
    let stamps: Vec<(i16, i32)> = logs[&0].batches.iter().map(|batch| (batch.0, batch.1)).collect();
    assert_eq!(
        stamps,
        (0..100).map(|i| (0, i)).collect::<Vec<_>>(),
        "one epoch, no sequence twice"
    );
}

/// A number that looks random and is the same in every run.
fn dice(seed: u64, throw: usize) -> u64 {
    let mut word = seed.wrapping_add((throw as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

/// Awaits every ticket by itself and asserts that none outlives its delivery timeout, in virtual time.
async fn settle_in_time(tickets: Vec<(Instant, Delivery)>, timeout: Duration) {
    let mut waiting = tokio::task::JoinSet::new();
    for (sent, ticket) in tickets {
        waiting.spawn(async move {
            let _ = ticket.await;
            sent.elapsed()
        });
    }
    while let Some(took) = waiting.join_next().await {
        // The runtime's timers have a resolution of a millisecond, and so has the client's clock.
        let slack = Duration::from_millis(2);
        assert!(
            took.unwrap() <= timeout + slack,
            "a ticket outlived delivery.timeout.ms"
        );
    }
}

#[tokio::test]
async fn kacrab_soak_every_ticket_resolves_by_its_delivery_timeout_whatever_fails_together() {
    const TIMEOUT: Duration = Duration::from_millis(120_000);
    for seed in 0..12 {
        let ledger = Arc::new(Ledger::default());
        let ill = Arc::new(AtomicBool::new(false));
        let (taken, is_ill) = (ledger.clone(), ill.clone());
        let broker = FakeBroker::start(move |asked| {
            let luck = dice(seed, asked.before * 64 + asked.api.code() as usize) % 8;
            let answer = match asked.api {
                ApiKey::Produce => taken.produce(asked, |batch| match dice(seed, batch.base_sequence as usize) % 5 {
                    0 => Fault::Before(ErrorCode::NotLeaderOrFollower),
                    1 => Fault::After(ErrorCode::RequestTimedOut),
                    2 => Fault::Before(ErrorCode::OutOfOrderSequenceNumber),
                    3 => Fault::Before(ErrorCode::UnknownTopicOrPartition),
                    _ => Fault::None,
                }),
                _ => healthy(asked),
            };
            match answer {
                Reply::Bytes(_) if is_ill.load(Ordering::Relaxed) && luck < 3 => Reply::Silence,
                Reply::Bytes(bytes) if is_ill.load(Ordering::Relaxed) && luck < 6 => {
                    Reply::Close(bytes[..bytes.len() / 2].to_vec())
                }
                other => other,
            }
        })
        .await;
        let pairs = [
            ("delivery.timeout.ms", "120000"),
            ("batch.size", "60"),
            ("linger.ms", "0"),
        ];
        let producer = producer(&broker, &pairs).await;
        producer.topic("orders").await.unwrap();
        ill.store(true, Ordering::Relaxed);
        tokio::time::pause();
        let mut tickets = Vec::new();
        for i in 0..200 {
            let value = i.to_string();
            let sent = Instant::now();
            tickets.push((sent, producer.send(order(i % 2).value(&value)).await.unwrap()));
            tokio::time::sleep(Duration::from_millis(dice(seed, i as usize) % 900)).await;
        }
        // In the end the broker dies altogether.
        if seed % 2 == 0 {
            drop(broker);
        }
        settle_in_time(tickets, TIMEOUT).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn flush_returns_after_delivery_timeout_ms_when_the_broker_is_gone() {
    for silent in [true, false] {
        let broker = FakeBroker::start(|asked| match asked.api {
            ApiKey::Produce => Reply::Silence,
            _ => healthy(asked),
        })
        .await;
        let producer = producer(&broker, &[]).await;
        producer.topic("orders").await.unwrap();
        let gone = (!silent).then_some(broker);
        drop(gone);
        tokio::time::pause();
        let sent = Instant::now();
        let mut tickets = Vec::new();
        for i in 0..10 {
            tickets.push((sent, producer.send(order(i % 2).value("1")).await.unwrap()));
        }
        let flushed = producer.flush().await;
        assert_eq!((flushed.failed + flushed.unknown, flushed.pending), (10, 0));
        settle_in_time(tickets, Duration::from_millis(120_000)).await;
        tokio::time::resume();
    }
}

#[tokio::test]
async fn close_returns_by_its_deadline_in_every_state_of_the_network() {
    for (state, deadline) in ["silent", "gone", "no id", "well"]
        .into_iter()
        .flat_map(|state| [0, 1, 5_000].map(|ms| (state, Duration::from_millis(ms))))
    {
        let ledger = Arc::new(Ledger::default());
        let taken = ledger.clone();
        let broker = FakeBroker::start(move |asked| match asked.api {
            ApiKey::Produce if state == "silent" => Reply::Silence,
            ApiKey::InitProducerId if state == "no id" => Reply::Silence,
            ApiKey::Produce => taken.produce(asked, |_| Fault::None),
            _ => healthy(asked),
        })
        .await;
        let producer = producer(&broker, &[("linger.ms", "0")]).await;
        producer.topic("orders").await.unwrap();
        let gone = (state == "gone").then_some(broker);
        drop(gone);
        tokio::time::pause();
        let tickets = send_numbers(&producer, 0, 0..10).await;
        for _ in 0..dice(deadline.as_millis() as u64, 0) % 10 {
            tokio::task::yield_now().await;
        }
        let begun = Instant::now();
        let closed = producer.close(deadline).await.unwrap();
        assert!(
            begun.elapsed() <= deadline + Duration::from_millis(1),
            "{state}, {deadline:?}"
        );
        assert_eq!(
            closed.delivered + closed.failed + closed.unknown,
            10,
            "{state}, {deadline:?}"
        );
        ledger.agrees(0, &tickets);
        tokio::time::resume();
    }
}

#[tokio::test]
async fn one_record_that_is_too_large_for_its_topic_holds_up_nothing_behind_it() {
    let ledger = Arc::new(Ledger::default());
    let broker = ledger_broker(&ledger, |batch| {
        let bytes: usize = batch.values.iter().map(String::len).sum();
        if bytes > 1_000 {
            Fault::Before(ErrorCode::MessageTooLarge)
        } else {
            Fault::None
        }
    })
    .await;
    let producer = producer(&broker, &[("linger.ms", "5")]).await;
    let mut tickets = Vec::new();
    for i in 0..60 {
        let value = format!("{i} {}", "x".repeat(if i % 20 == 10 { 2_000 } else { 10 }));
        let ticket = producer.send(order(0).value(&value)).await.unwrap();
        tickets.push((value, ticket));
    }
    producer.flush().await;
    let metrics = producer.metrics();
    assert_eq!((metrics.records_delivered, metrics.records_failed), (57, 3));
    ledger.agrees(0, &tickets);
    let small = tickets
        .iter()
        .map(|one| one.0.clone())
        .filter(|value| value.len() < 1_000);
    assert_eq!(ledger.values(0), small.collect::<Vec<_>>());
    assert_eq!(metrics.buffer_available_bytes, metrics.buffer_total_bytes);
}

#[tokio::test]
async fn a_record_larger_than_the_room_that_is_left_waits_and_blocks_nobody_for_ever() {
    let ledger = Arc::new(Ledger::default());
    let broker = ledger_broker(&ledger, |_| Fault::None).await;
    let pairs = [("buffer.memory", "10000"), ("batch.size", "1000"), ("linger.ms", "1")];
    let producer = producer(&broker, &pairs).await;
    let mut sending = tokio::task::JoinSet::new();
    for i in 0..40 {
        let producer = producer.clone();
        sending.spawn(async move {
            let value = "x".repeat(if i % 8 == 4 { 8_000 } else { 300 });
            let ticket = producer.send(order(i % 2).value(&value)).await.unwrap();
            ticket.await.unwrap()
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent.unwrap();
    }
    assert_eq!((ledger.values(0).len(), ledger.values(1).len()), (20, 20));
    let metrics = producer.metrics();
    assert_eq!(metrics.buffer_available_bytes, metrics.buffer_total_bytes);
}

/// Polls a future up to `polls` times, letting others run in between, and drops it then.
async fn poll_and_drop<F: Future>(future: F, polls: usize) -> Option<F::Output> {
    let mut future = Box::pin(future);
    for _ in 0..polls {
        let once = std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context)));
        if let std::task::Poll::Ready(output) = once.await {
            return Some(output);
        }
        tokio::task::yield_now().await;
    }
    None
}

#[tokio::test]
async fn a_send_future_that_is_dropped_at_any_point_has_queued_nothing_and_leaks_nothing() {
    // Little room, and a topic that is not known yet: the futures wait for metadata, for room, and for their turn.
    let mut dropped = 0;
    for polls in 0..12 {
        let ledger = Arc::new(Ledger::default());
        let broker = ledger_broker(&ledger, |_| Fault::None).await;
        let pairs = [("buffer.memory", "2000"), ("batch.size", "1000"), ("linger.ms", "0")];
        let producer = producer(&broker, &pairs).await;
        let mut accepted = Vec::new();
        for i in 0..60 {
            let value = format!("{i} {}", "x".repeat(400));
            let send = producer.send(order(0).value(&value));
            match poll_and_drop(send, if i % 3 == 0 { 1_000_000 } else { polls }).await {
                Some(ticket) => accepted.push((value, ticket.unwrap())),
                None => dropped += 1,
            }
        }
        assert!(producer.flush().await.all_delivered());
        ledger.agrees(0, &accepted);
        let values: Vec<String> = accepted.into_iter().map(|one| one.0).collect();
        assert_eq!(ledger.values(0), values, "what was accepted, once, in order");
        let metrics = producer.metrics();
        assert_eq!(metrics.buffer_available_bytes, metrics.buffer_total_bytes);
    }
    assert!(dropped > 40, "only {dropped} futures were dropped");
}
