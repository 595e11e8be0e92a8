//! The core as a skin uses it, against the embedded broker.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use super::*;

mod group;
mod try_send;

const SLICE: Duration = Duration::from_millis(100);

fn done<F: Future<Output = Result<T, Error>>, T>(future: F) -> Result<T, Error> {
    wait(future, SLICE, || Ok::<(), Error>(()))?
}

fn pairs(servers: &str, more: &[(&str, &str)]) -> Pairs {
    let own = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    std::iter::once(("bootstrap.servers".to_owned(), servers.to_owned()))
        .chain(more.iter().map(own))
        .collect()
}

fn cluster(properties: &[(&str, &str)]) -> ottla_broker::Cluster {
    let builder = properties
        .iter()
        .fold(ottla_broker::Cluster::builder(), |builder, (key, value)| {
            builder.property(*key, *value)
        });
    wait(builder.start(), SLICE, || Ok::<(), Error>(())).unwrap().unwrap()
}

fn create(servers: &str, topic: &str, partitions: i32) {
    let admin = Admin::start(pairs(servers, &[])).unwrap();
    let topics = vec![ottla::NewTopic::new(topic).partitions(partitions)];
    let created = done(admin.create_topics(topics, false)).unwrap();
    assert!(created[topic].is_ok(), "{created:?}");
}

/// Reports until `records` records are told of.
fn reports_of(producer: &Producer, bell: &Bell, records: u64) -> Vec<Report> {
    let mut all = Vec::new();
    let mut told = 0;
    while told < records {
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(
            bell.as_fd(),
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut fds, None).unwrap();
        bell.silence();
        let reports: Vec<Report> = producer.take_reports().unwrap().into_iter().collect();
        told += reports.iter().map(|report| u64::from(report.count)).sum::<u64>();
        all.extend(reports);
    }
    all
}

#[test]
fn records_sent_before_the_connection_stands_arrive_in_their_order_and_are_told_in_runs() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "early", 1);
    let bell = Bell::new().unwrap();
    let producer = Producer::start(pairs(&servers, &[]), bell.waker()).unwrap();
    let mut parked = 0;
    for tag in 0..10_000_u64 {
        let value = tag.to_string();
        let record = Record::to("early").key(b"k").value(&value);
        if producer.send(record, Receipt::Tag(tag)).unwrap() == Sent::Parked {
            parked += 1;
        }
    }
    assert!(parked > 0, "the first record cannot have found a connection");
    let flushed = done(producer.flush(None)).unwrap();
    assert!(flushed.all_delivered(), "{flushed:?}");
    let reports = reports_of(&producer, &bell, 10_000);
    assert!(reports.len() < 2_000, "{} reports for 10,000 records", reports.len());
    let mut next = 0;
    for report in &reports {
        assert_eq!(report.first, next, "tags are told in the order of sending");
        let offset = report.result.as_ref().unwrap().base_offset;
        assert_eq!(offset, i64::try_from(next).ok(), "and that is the order of the log");
        next += u64::from(report.count);
    }
    assert_eq!(next, 10_000);
    let closed = done(producer.close(Duration::from_secs(10))).unwrap();
    assert_eq!((closed.delivered, closed.failed, closed.unknown), (10_000, 0, 0));
    assert_eq!(
        producer.send(Record::to("early"), Receipt::None).unwrap_err().kind(),
        Kind::Closed
    );
}

#[test]
fn a_topic_that_does_not_exist_holds_up_no_other_and_fails_once_for_all() {
    let cluster = cluster(&[("auto.create.topics.enable", "false")]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "there", 1);
    let bell = Bell::new().unwrap();
    let producer = Producer::start(pairs(&servers, &[("max.block.ms", "1500")]), bell.waker()).unwrap();
    for tag in 0..1_000 {
        let topic = if tag % 2 == 0 { "not-there" } else { "there" };
        producer.send(Record::to(topic).value("x"), Receipt::Tag(tag)).unwrap();
    }
    let reports = reports_of(&producer, &bell, 1_000);
    let failed: Vec<&Report> = reports.iter().filter(|report| report.result.is_err()).collect();
    assert_eq!(failed.iter().map(|report| report.count).sum::<u32>(), 500);
    for report in failed {
        assert_eq!(report.first % 2, 0);
        let error = report.result.as_ref().unwrap_err();
        assert_eq!(
            (error.kind(), error.persisted()),
            (ottla::ErrorKind::UnknownTopic, Persisted::No),
            "{error}"
        );
    }
}

#[test]
fn failures_that_nobody_asked_about_are_kept_with_their_count() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "refused", 1);
    let bell = Bell::new().unwrap();
    // None is sent before flush is called, which counts what has not failed yet.
    let producer = Producer::start(pairs(&servers, &[("linger.ms", "60000")]), bell.waker()).unwrap();
    cluster
        .faults()
        .add("api=Produce topic=refused error_before=29".parse().unwrap());
    for _ in 0..50 {
        producer.send(Record::to("refused").value("x"), Receipt::None).unwrap();
    }
    let flushed = done(producer.flush(None)).unwrap();
    assert_eq!((flushed.delivered, flushed.failed), (0, 50));
    let unclaimed = producer.take_unclaimed().unwrap().expect("fifty failed");
    assert_eq!((unclaimed.count, unclaimed.first.kind()), (50, Kind::Authorization));
    assert!(producer.take_unclaimed().unwrap().is_none());
    assert!(producer.take_reports().unwrap().is_empty());
}

#[test]
fn more_than_the_buffer_holds_is_refused_until_there_is_room_and_nothing_is_lost() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "full", 1);
    let bell = Bell::new().unwrap();
    let producer = Producer::start(pairs(&servers, &[("buffer.memory", "65536")]), bell.waker()).unwrap();
    done(producer.connected()).unwrap();
    let value = vec![b'v'; 1_000];
    let mut refused = 0;
    for tag in 0..2_000 {
        loop {
            match producer.send(Record::to("full").value(&value), Receipt::Tag(tag)) {
                Ok(_) => break,
                Err(error) => {
                    assert_eq!(error.kind(), Kind::QueueFull, "{error}");
                    refused += 1;
                    done(producer.ready()).unwrap();
                }
            }
        }
    }
    assert!(refused > 0, "2 MB never found 64 KiB full");
    let reports = reports_of(&producer, &bell, 2_000);
    assert!(reports.iter().all(|report| report.result.is_ok()));
}

#[test]
fn close_without_a_broker_returns_in_time_and_counts_what_was_parked() {
    // A port on which nobody answers, and nobody refuses: the connection stays half made.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = listener.local_addr().unwrap().to_string();
    let bell = Bell::new().unwrap();
    let producer = Producer::start(pairs(&servers, &[]), bell.waker()).unwrap();
    for tag in 0..5 {
        producer
            .send(Record::to("nowhere").value("x"), Receipt::Tag(tag))
            .unwrap();
    }
    let closed = done(producer.close(Duration::from_millis(50))).unwrap();
    assert_eq!((closed.delivered, closed.failed, closed.unknown), (0, 5, 0));
    let reports = reports_of(&producer, &bell, 5);
    assert!(reports.iter().all(|report| {
        report
            .result
            .as_ref()
            .is_err_and(|error| error.persisted() == Persisted::No)
    }));
}

#[test]
fn a_consumer_wakes_once_armed_and_gives_records_by_number() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "read", 2);
    let bell = Bell::new().unwrap();
    let consumer = Consumer::start(
        pairs(&servers, &[("auto.offset.reset", "earliest")]),
        vec![TopicPartition::new("read", 0), TopicPartition::new("read", 1)],
        bell.waker(),
    )
    .unwrap();
    done(consumer.connected()).unwrap();

    let producer = Producer::start(pairs(&servers, &[]), waker(|| {})).unwrap();
    for number in 0..1_000 {
        let value = vec![b'v'; number];
        let record = Record::to("read")
            .partition((number % 2) as i32)
            .key(b"k")
            .value(&value);
        let record = if number % 3 == 0 {
            record.header("h", b"1").null_header("n")
        } else {
            record
        };
        producer.send(record, Receipt::None).unwrap();
    }
    assert!(done(producer.flush(None)).unwrap().all_delivered());

    let mut next = [0_i64; 2];
    let mut lengths = [0_usize, 1];
    while next.iter().sum::<i64>() < 1_000 {
        consumer.arm().unwrap();
        let mut fds = [rustix::event::PollFd::from_borrowed_fd(
            bell.as_fd(),
            rustix::event::PollFlags::IN,
        )];
        rustix::event::poll(&mut fds, None).unwrap();
        bell.silence();
        while let Polled::Records(batch) = consumer.try_poll(Some(100)).unwrap() {
            assert!(batch.len() <= 100);
            for number in 0..batch.len() {
                let record = batch.get(number).unwrap();
                let partition = record.topic_partition().partition as usize;
                assert_eq!(record.offset(), next[partition]);
                assert_eq!(record.value().map(<[u8]>::len), Some(lengths[partition]));
                assert_eq!(record.key(), Some(&b"k"[..]));
                let headers: Vec<_> = record.headers().map(|header| (header.key, header.value)).collect();
                match lengths[partition] % 3 {
                    0 => assert_eq!(headers, [("h", Some(&b"1"[..])), ("n", None)]),
                    _ => assert!(headers.is_empty()),
                }
                next[partition] += 1;
                lengths[partition] += 2;
            }
            assert!(batch.get(batch.len()).is_none());
        }
    }
    consumer.close().unwrap();
    assert!(matches!(consumer.try_poll(None).unwrap(), Polled::Closed));
    assert_eq!(consumer.assignment().unwrap_err().kind(), Kind::Closed);
}

#[test]
fn closing_wakes_whoever_waits_for_records() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "silent", 1);
    let consumer = Arc::new(
        Consumer::start(
            pairs(&servers, &[]),
            vec![TopicPartition::new("silent", 0)],
            waker(|| {}),
        )
        .unwrap(),
    );
    done(consumer.connected()).unwrap();
    done(consumer.arrived()).unwrap();
    let waiting = std::thread::spawn({
        let consumer = consumer.clone();
        move || {
            while matches!(consumer.try_poll(None).unwrap(), Polled::Nothing) {
                done(consumer.arrived()).unwrap();
            }
        }
    });
    consumer.close().unwrap();
    waiting.join().unwrap();
}

#[test]
fn mail_wakes_once_for_all_that_gathers() {
    let wakes = Arc::new(AtomicU32::new(0));
    let counted = wakes.clone();
    let mail = Mailbox::new(waker(move || {
        counted.fetch_add(1, Ordering::Relaxed);
    }));
    (0..100).for_each(|number| mail.put(number));
    assert_eq!(wakes.load(Ordering::Relaxed), 1);
    assert_eq!(mail.take().len(), 100);
    mail.put(100);
    assert_eq!(wakes.load(Ordering::Relaxed), 2);
}

#[test]
fn a_waiting_call_can_be_ended_from_elsewhere() {
    let mut slices = 0;
    let ended = wait(std::future::pending::<()>(), Duration::from_millis(1), || {
        slices += 1;
        if slices == 3 {
            Err(Error::new(Kind::Interrupted, "ctrl-c"))
        } else {
            Ok(())
        }
    });
    assert_eq!(ended.unwrap_err().kind(), Kind::Interrupted);
}

#[test]
fn a_mistake_in_the_configuration_is_told_before_anything_is_connected() {
    let error = Producer::start(pairs("127.0.0.1:1", &[("linger.mss", "5")]), waker(|| {})).unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
    assert!(error.to_string().contains("linger.ms"), "{error}");
    let error = Consumer::start(
        pairs("127.0.0.1:1", &[("fetch.max.wait.ms", "soon")]),
        Vec::new(),
        waker(|| {}),
    )
    .unwrap_err();
    assert_eq!(error.kind(), Kind::Config);
}

#[test]
fn who_cannot_connect_is_told_by_every_call() {
    let producer = Producer::start(pairs("127.0.0.1:1", &[]), waker(|| {})).unwrap();
    assert_eq!(done(producer.connected()).unwrap_err().kind(), Kind::Connect);
    assert_eq!(
        producer.send(Record::to("t"), Receipt::None).unwrap_err().kind(),
        Kind::Connect
    );
    assert_eq!(done(producer.flush(None)).unwrap_err().kind(), Kind::Connect);
    let closed = done(producer.close(Duration::from_secs(1))).unwrap();
    assert_eq!(closed, Closed::default());
}

/// `done`, but a panic where it does not come within half a minute.
fn soon<F: Future<Output = Result<T, Error>>, T>(future: F) -> Result<T, Error> {
    let mut slices = 0;
    wait(future, SLICE, || {
        slices += 1;
        assert!(slices < 300, "nothing came within thirty seconds");
        Ok::<(), Error>(())
    })?
}

#[test]
fn records_that_fail_before_they_reach_a_batch_are_counted_by_flush_and_close_and_kept_as_one_sum() {
    let cluster = cluster(&[("auto.create.topics.enable", "false")]);
    let servers = cluster.bootstrap_servers();
    // Nobody hears yet that there is no such topic: flush counts what has not failed when it is called.
    cluster.faults().freeze();
    let producer = Producer::start(pairs(&servers, &[("max.block.ms", "200")]), waker(|| {})).unwrap();
    for _ in 0..3_000 {
        producer.send(Record::to("not-there"), Receipt::None).unwrap();
    }
    cluster.faults().thaw();
    let flushed = done(producer.flush(None)).unwrap();
    assert_eq!((flushed.delivered, flushed.failed, flushed.pending), (0, 3_000, 0));
    let unclaimed = producer.take_unclaimed().unwrap().expect("all failed");
    assert_eq!((unclaimed.count, unclaimed.first.kind()), (3_000, Kind::UnknownTopic));
    let closed = done(producer.close(Duration::from_secs(10))).unwrap();
    assert_eq!((closed.delivered, closed.failed, closed.unknown), (0, 3_000, 0));
}

#[test]
fn a_flush_sends_what_is_in_batches_while_others_are_parked_and_counts_both() {
    let cluster = cluster(&[("auto.create.topics.enable", "false")]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "there", 1);
    let patient = [
        ("linger.ms", "3600000"),
        ("delivery.timeout.ms", "7200000"),
        ("max.block.ms", "3600000"),
    ];
    let producer = Producer::start(pairs(&servers, &patient), waker(|| {})).unwrap();
    for topic in ["there", "not-there", "there"] {
        producer.send(Record::to(topic).value("x"), Receipt::None).unwrap();
    }
    // Both records for the topic that is there are in a batch, which lingers.
    let mut tries = 0;
    while producer
        .metrics()
        .unwrap()
        .is_none_or(|metrics| metrics.records_delivered < 2)
    {
        let flushed = done(producer.flush(Some(Duration::from_millis(100)))).unwrap();
        assert!(flushed.pending >= 1 && flushed.failed == 0, "{flushed:?}");
        // One that is answered between two looks is in both numbers.
        assert!(flushed.delivered <= 2 && flushed.pending <= 3, "{flushed:?}");
        tries += 1;
        assert!(tries < 300, "a parked record holds up a batch of another topic");
    }
    let closed = done(producer.close(Duration::from_millis(1))).unwrap();
    assert_eq!((closed.delivered, closed.failed, closed.unknown), (2, 1, 0));
}

#[test]
fn a_connection_that_comes_after_close_sends_nothing_any_more() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "late", 1);
    cluster.faults().freeze();
    let producer = Producer::start(pairs(&servers, &[]), waker(|| {})).unwrap();
    let closed = done(producer.close(Duration::from_millis(50))).unwrap();
    assert_eq!(closed, Closed::default());
    cluster.faults().thaw();
    soon(producer.connected()).unwrap();
    assert_eq!(soon(producer.room()).unwrap_err().kind(), Kind::Closed);
    let refused = producer.send(Record::to("late").value("x"), Receipt::None);
    assert_eq!(refused.unwrap_err().kind(), Kind::Closed);
}

#[test]
fn what_one_reader_leaves_wakes_the_next_one() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "shared", 1);
    let producer = Producer::start(pairs(&servers, &[]), waker(|| {})).unwrap();
    for _ in 0..10 {
        producer.send(Record::to("shared").value("x"), Receipt::None).unwrap();
    }
    assert!(done(producer.flush(None)).unwrap().all_delivered());
    // An answer without records is an arrival as well; here none comes.
    let keys = [
        ("auto.offset.reset", "earliest"),
        ("fetch.max.wait.ms", "100000"),
        ("request.timeout.ms", "200000"),
    ];
    let consumer = Consumer::start(
        pairs(&servers, &keys),
        vec![TopicPartition::new("shared", 0)],
        waker(|| {}),
    )
    .unwrap();
    for _ in 0..10 {
        // Each is a reader that takes one and goes. All came with one answer.
        loop {
            soon(consumer.arrived()).unwrap();
            match consumer.try_poll(Some(1)).unwrap() {
                Polled::Records(batch) => break assert_eq!(batch.len(), 1),
                Polled::Nothing => {}
                other => panic!("{other:?}"),
            }
        }
    }
}

#[test]
fn an_assignment_that_has_no_place_to_start_wakes_whoever_waits() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "placeless", 1);
    let keys = [("auto.offset.reset", "none")];
    let consumer = Consumer::start(pairs(&servers, &keys), Vec::new(), waker(|| {})).unwrap();
    soon(consumer.connected()).unwrap();
    soon(consumer.arrived()).unwrap();
    assert!(matches!(consumer.try_poll(None).unwrap(), Polled::Nothing));
    consumer.assign(&[TopicPartition::new("placeless", 0)]).unwrap();
    loop {
        soon(consumer.arrived()).unwrap();
        match consumer.try_poll(None) {
            Ok(found) => assert!(matches!(found, Polled::Nothing)),
            Err(error) => break assert_eq!(error.kind(), Kind::Offset),
        }
    }
}
