//! Sending for callers who wait by themselves: what `try_send` takes, parks and refuses, and what `room` waits for.

use super::*;

/// Whether a future is still waiting after a few slices.
fn waits<F: Future>(future: F) -> bool {
    let mut slices = 0;
    let ended = wait(future, Duration::from_millis(20), || {
        slices += 1;
        match slices {
            3 => Err(Error::new(Kind::Interrupted, "long enough")),
            _ => Ok(()),
        }
    });
    ended.is_err()
}

/// Tag and offset of each delivered record.
fn delivered(reports: Vec<Report>) -> Vec<(u64, i64)> {
    let single = |report: Report| {
        let offset = report.result.unwrap().base_offset.unwrap();
        (0..report.count).map(move |nth| (report.first + u64::from(nth), offset + i64::from(nth)))
    };
    reports.into_iter().flat_map(single).collect()
}

#[test]
fn a_record_that_finds_the_buffer_full_is_refused_and_not_parked_until_there_is_room() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "full", 1);
    let bell = Bell::new().unwrap();
    let keys = [("buffer.memory", "65536"), ("linger.ms", "0")];
    let producer = Producer::start(pairs(&servers, &keys), bell.waker()).unwrap();
    done(producer.connected()).unwrap();
    // From here on the topic is known.
    producer.try_send(Record::to("full"), Receipt::Tag(0)).unwrap();
    assert!(done(producer.flush(None)).unwrap().all_delivered());
    soon(producer.room()).unwrap();
    cluster.faults().freeze();
    let value = [b'v'; 1_000];
    let send = |tag| producer.try_send(Record::to("full").value(&value), Receipt::Tag(tag));
    let mut tag = 1;
    let refused = loop {
        match send(tag) {
            Ok(sent) => assert_eq!(sent, Sent::Queued),
            Err(error) => break error,
        }
        tag += 1;
        assert!(tag < 100, "64 KiB hold more than 100 KB");
    };
    assert_eq!(refused.kind(), Kind::QueueFull, "{refused}");
    assert!(!producer.is_full(), "nothing is parked");
    assert!(waits(producer.room()), "nothing was acknowledged, so there is no room");
    assert_eq!(send(tag).unwrap_err().kind(), Kind::QueueFull);
    cluster.faults().thaw();
    soon(producer.room()).unwrap();
    assert_eq!(send(tag).unwrap(), Sent::Queued);
    let reports = reports_of(&producer, &bell, tag + 1);
    let expected: Vec<(u64, i64)> = (0..=tag).map(|tag| (tag, tag as i64)).collect();
    assert_eq!(
        delivered(reports),
        expected,
        "each once, and what was refused is nowhere"
    );
}

#[test]
fn before_the_connection_records_are_parked_and_room_waits_until_they_have_gone() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "early", 1);
    cluster.faults().freeze();
    let bell = Bell::new().unwrap();
    let producer = Producer::start(pairs(&servers, &[]), bell.waker()).unwrap();
    for tag in 0..3 {
        let sent = producer.try_send(Record::to("early"), Receipt::Tag(tag));
        assert_eq!(sent.unwrap(), Sent::Parked);
    }
    assert!(waits(producer.room()), "they cannot have gone");
    cluster.faults().thaw();
    soon(producer.room()).unwrap();
    assert_eq!(
        producer.try_send(Record::to("early"), Receipt::Tag(3)).unwrap(),
        Sent::Queued,
        "nothing is parked any more"
    );
    let reports = reports_of(&producer, &bell, 4);
    assert_eq!(delivered(reports), [(0, 0), (1, 1), (2, 2), (3, 3)]);
}

#[test]
fn what_is_parked_is_bounded_and_a_record_too_many_is_refused() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let servers = listener.local_addr().unwrap().to_string();
    let keys = [("buffer.memory", "65536")];
    let producer = Producer::start(pairs(&servers, &keys), waker(|| {})).unwrap();
    let value = [b'v'; 1_000];
    let send = || producer.try_send(Record::to("nowhere").value(&value), Receipt::None);
    let taken = (0..100).take_while(|_| send().is_ok()).count();
    assert!((1..=16).contains(&taken), "{taken} KB in a quarter of 64 KiB");
    assert_eq!(send().unwrap_err().kind(), Kind::QueueFull);
    let closed = done(producer.close(Duration::ZERO)).unwrap();
    assert_eq!(closed.failed, taken as u64, "those that were taken, and no others");
}

#[test]
fn reports_that_nobody_takes_stop_records_that_want_one_and_no_others() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "unread", 1);
    let producer = Producer::start(pairs(&servers, &[]), waker(|| {})).unwrap();
    done(producer.connected()).unwrap();
    // Tags without an order: a report each.
    let mut tag = 0;
    let refused = loop {
        match producer.try_send(Record::to("unread"), Receipt::Tag(2 * tag)) {
            Ok(_) => tag += 1,
            Err(error) if error.to_string().contains("delivery reports wait") => break error,
            Err(error) => {
                assert_eq!(error.kind(), Kind::QueueFull, "{error}");
                soon(producer.room()).unwrap();
            }
        }
        // Sooner or later all of these are told of.
        if tag > 250_000 {
            done(producer.flush(None)).unwrap();
        }
        assert!(tag < 300_000, "nobody has taken a report, and more are still promised");
    };
    assert_eq!(refused.kind(), Kind::QueueFull);
    assert_eq!(
        producer.try_send(Record::to("unread"), Receipt::None).unwrap(),
        Sent::Queued
    );
    assert!(done(producer.flush(None)).unwrap().all_delivered());
    let told: u64 = producer
        .take_reports()
        .unwrap()
        .into_iter()
        .map(|report| u64::from(report.count))
        .sum();
    assert_eq!(told, tag);
    assert_eq!(
        producer.try_send(Record::to("unread"), Receipt::Tag(1)).unwrap(),
        Sent::Queued
    );
}

#[test]
fn after_close_nothing_is_taken_and_nobody_waits_for_room() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    create(&servers, "over", 1);
    let producer = Producer::start(pairs(&servers, &[]), waker(|| {})).unwrap();
    producer.try_send(Record::to("over"), Receipt::None).unwrap();
    let closed = done(producer.close(Duration::from_secs(30))).unwrap();
    assert_eq!((closed.delivered, closed.failed), (1, 0));
    let refused = producer.try_send(Record::to("over"), Receipt::None);
    assert_eq!(refused.unwrap_err().kind(), Kind::Closed);
    assert_eq!(soon(producer.room()).unwrap_err().kind(), Kind::Closed);
}
