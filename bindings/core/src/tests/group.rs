//! A member of a group as a skin uses it: what counts as processed, and when.

use std::time::Instant;

use super::*;

fn member(servers: &str, group: &str, more: &[(&str, &str)]) -> Consumer {
    let mut keys = vec![
        ("group.id", group),
        ("auto.offset.reset", "earliest"),
        ("heartbeat.interval.ms", "50"),
    ];
    keys.extend_from_slice(more);
    let consumer = Consumer::start(pairs(servers, &keys), Vec::new(), waker(|| {})).unwrap();
    done(consumer.connected()).unwrap();
    consumer
}

fn fill(servers: &str, topic: &str, partitions: i32) {
    create(servers, topic, partitions);
    let producer = Producer::start(pairs(servers, &[]), waker(|| {})).unwrap();
    for number in 0..20 {
        let record = Record::to(topic).partition(number % partitions).value(b"v");
        producer.send(record, Receipt::None).unwrap();
    }
    assert!(done(producer.flush(None)).unwrap().all_delivered());
}

/// The next records or event, as a skin waits for it.
fn next(consumer: &Consumer, most: usize) -> Polled {
    loop {
        match consumer.try_poll(Some(most)).unwrap() {
            Polled::Nothing => done(consumer.arrived()).unwrap(),
            found => return found,
        }
    }
}

fn records(consumer: &Consumer, most: usize) -> Arc<Batch> {
    loop {
        match next(consumer, most) {
            Polled::Records(batch) => return batch,
            Polled::Event(Event::Revoked(_)) => consumer.acknowledge().unwrap(),
            Polled::Event(_) => {}
            other => panic!("{other:?}"),
        }
    }
}

/// The next event that is about partitions.
fn partitions_event(consumer: &Consumer) -> Event {
    loop {
        match next(consumer, 1) {
            Polled::Event(Event::Rebalancing(_)) => {}
            Polled::Event(event) => return event,
            other => panic!("{other:?}"),
        }
    }
}

fn committed(consumer: &Consumer, topic: &str) -> Option<i64> {
    committed_of(consumer, &TopicPartition::new(topic, 0))
}

fn committed_of(consumer: &Consumer, of: &TopicPartition) -> Option<i64> {
    let known = done(consumer.committed(vec![of.clone()])).unwrap();
    known[of].as_ref().map(|known| known.offset)
}

#[test]
fn only_what_the_skin_reports_is_committed() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "told", 1);
    let consumer = member(&servers, "g", &[("enable.auto.commit", "false")]);
    consumer.subscribe(vec!["told".into()]).unwrap();
    assert_eq!(records(&consumer, 6).len(), 6);
    // Six wait in the skin, of which two were handed out.
    done(consumer.commit(Some(2))).unwrap();
    assert_eq!(committed(&consumer, "told"), Some(2));
    // Who polls is done with all six.
    let batch = records(&consumer, 6);
    done(consumer.commit(Some(0))).unwrap();
    assert_eq!(committed(&consumer, "told"), Some(6));
    // A part of a batch, by its numbers.
    done(consumer.commit_handed(batch.handed(1..4))).unwrap();
    assert_eq!(committed(&consumer, "told"), Some(10));
    // What the skin gives back is neither committed nor lost.
    let firsts = [(TopicPartition::new("told", 0), 8)];
    consumer.give_back(1, 2, &firsts).unwrap();
    let again = records(&consumer, 1);
    assert_eq!(again.get(0).unwrap().offset(), 8);
    let closed = done(consumer.finish(Duration::from_secs(10), Some(0), Some(1))).unwrap();
    assert!(closed.finished && closed.committed.is_empty());
    assert_eq!(closed.unprocessed[&TopicPartition::new("told", 0)], 9);
}

#[test]
fn closing_commits_what_is_processed_and_tells_the_rest() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "closed", 1);
    let consumer = member(&servers, "g", &[]);
    consumer.subscribe(vec!["closed".into()]).unwrap();
    records(&consumer, 10);
    let closed = done(consumer.finish(Duration::from_secs(10), Some(3), Some(4))).unwrap();
    let of = TopicPartition::new("closed", 0);
    assert_eq!((closed.committed[&of], closed.unprocessed[&of]), (3, 4));
    let next = member(&servers, "g", &[]);
    next.subscribe(vec!["closed".into()]).unwrap();
    assert_eq!(records(&next, 1).get(0).unwrap().offset(), 3);
}

#[test]
fn nothing_of_revoked_partitions_goes_on_before_the_skin_acknowledges() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "shared", 2);
    let one = member(&servers, "g", &[]);
    one.subscribe(vec!["shared".into()]).unwrap();
    records(&one, 20);
    let two = member(&servers, "g", &[]);
    two.subscribe(vec!["shared".into()]).unwrap();
    let revoked = loop {
        match next(&one, 20) {
            Polled::Event(Event::Revoked(partitions)) => break partitions,
            Polled::Event(_) | Polled::Records(_) => {}
            other => panic!("{other:?}"),
        }
    };
    assert!(!revoked.is_empty());
    assert!(two.assignment().unwrap().is_empty());
    // The application may still commit them.
    let offsets = revoked
        .iter()
        .map(|of| (of.clone(), OffsetAndMetadata::new(5)))
        .collect();
    done(one.commit_offsets(offsets)).unwrap();
    one.acknowledge().unwrap();
    while one.assignment().unwrap().len() != 1 || two.assignment().unwrap().len() != 1 {
        for consumer in [&one, &two] {
            match consumer.try_poll(Some(1)).unwrap() {
                Polled::Event(Event::Revoked(_)) => consumer.acknowledge().unwrap(),
                Polled::Nothing => std::thread::yield_now(),
                _ => {}
            }
        }
    }
}

#[test]
fn closing_in_the_middle_of_a_rebalance_waits_for_no_acknowledgement() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "left", 2);
    // Nothing is committed before it closes.
    let one = member(&servers, "g", &[("auto.commit.interval.ms", "60000")]);
    one.subscribe(vec!["left".into()]).unwrap();
    let (mut read, mut last) = (0, 0);
    while read < 20 {
        last = records(&one, 20).len();
        read += last;
    }
    let two = member(&servers, "g", &[]);
    two.subscribe(vec!["left".into()]).unwrap();
    // Two of two, since range is eager. Nobody acknowledges: the skin has called its callback by itself.
    while !matches!(next(&one, 1), Polled::Event(Event::Revoked(_))) {}
    let closed = done(one.finish(Duration::from_secs(20), Some(last), Some(last))).unwrap();
    assert!(closed.finished, "{closed:?}");
    let offsets: Vec<i64> = closed.committed.values().copied().collect();
    assert_eq!(offsets, [10, 10]);
}

#[test]
fn the_key_for_storing_is_the_skins_and_what_the_program_said_counts() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "stored", 1);
    let consumer = member(&servers, "g", &[("enable.auto.offset.store", "false")]);
    consumer.subscribe(vec!["stored".into()]).unwrap();
    let batch = records(&consumer, 4);
    records(&consumer, 4);
    done(consumer.commit(None)).unwrap();
    assert_eq!(committed(&consumer, "stored"), None);
    consumer.store_handed(batch.handed(0..3)).unwrap();
    done(consumer.commit(None)).unwrap();
    assert_eq!(committed(&consumer, "stored"), Some(3));
    let wrong = pairs(&servers, &[("group.id", "g"), ("enable.auto.offset.store", "perhaps")]);
    assert_eq!(
        Consumer::start(wrong, Vec::new(), waker(|| {})).unwrap_err().kind(),
        Kind::Config
    );
}

#[test]
fn a_commit_takes_the_position_where_nothing_waits_in_the_skin() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "positions", 2);
    let of = |partition| TopicPartition::new("positions", partition);
    let consumer = member(&servers, "g", &[("enable.auto.commit", "false")]);
    consumer.subscribe(vec!["positions".into()]).unwrap();
    assert!(matches!(partitions_event(&consumer), Event::Assigned(_)));
    consumer.pause(&[of(0)]).unwrap();
    assert_eq!(records(&consumer, 20).len(), 10);
    consumer.seek(&of(0), 7).unwrap();
    done(consumer.commit(Some(1))).unwrap();
    let places = [of(0), of(1)].map(|of| committed_of(&consumer, &of));
    assert_eq!(
        places[0],
        Some(7),
        "where the application went, though nothing was read there"
    );
    assert_eq!(places[1], Some(1), "not further than what was handed out");
    done(consumer.commit(None)).unwrap();
    assert_eq!(committed_of(&consumer, &of(1)), Some(10));
}

#[test]
fn a_wake_up_that_nobody_waits_for_any_more_is_no_sign_of_life() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "silent", 2);
    let wakes = Arc::new(AtomicU32::new(0));
    let count = wakes.clone();
    let wake = waker(move || {
        count.fetch_add(1, Ordering::SeqCst);
    });
    let keys = [
        ("group.id", "g"),
        ("auto.offset.reset", "earliest"),
        ("max.poll.interval.ms", "3000"),
        // The answer to a fetch would wake it, too.
        ("fetch.max.wait.ms", "29000"),
    ];
    let silent = Consumer::start(pairs(&servers, &keys), Vec::new(), wake).unwrap();
    done(silent.connected()).unwrap();
    silent.subscribe(vec!["silent".into()]).unwrap();
    let mut left = 20;
    while left > 0 {
        left -= records(&silent, 20).len();
    }
    // Until nothing comes any more that would wake it by itself.
    loop {
        let before = wakes.load(Ordering::SeqCst);
        silent.try_poll(None).unwrap();
        silent.arm().unwrap();
        std::thread::sleep(SLICE);
        if wakes.load(Ordering::SeqCst) == before {
            break;
        }
    }
    silent.disarm().unwrap();
    let admin = Admin::start(pairs(&servers, &[])).unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let described = done(admin.describe_consumer_groups(vec!["g".into()])).unwrap();
        if described["g"].as_ref().unwrap().contains("\"state\":\"Empty\"") {
            break;
        }
        assert!(
            Instant::now() < deadline,
            "the silent member is still there: {described:?}"
        );
        std::thread::yield_now();
    }
    assert!(matches!(partitions_event(&silent), Event::Lost(partitions, _) if partitions.len() == 2));
}

#[test]
fn an_event_that_comes_between_the_steps_of_a_poll_is_told_by_that_poll() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "between", 1);
    let consumer = member(&servers, "g", &[("partition.assignment.strategy", "range")]);
    consumer.subscribe(vec!["between".into()]).unwrap();
    // The rest waits in the client.
    assert_eq!(records(&consumer, 5).len(), 5);
    let mut steps = 0;
    let polled = consumer.try_poll_in_steps(None, || {
        steps += 1;
        if steps == 1 {
            consumer.enforce_rebalance("a test").unwrap();
            while !consumer.progress().unwrap().contains("revoked_awaits_application") {
                std::thread::yield_now();
            }
        }
    });
    assert!(matches!(polled.unwrap(), Polled::Event(Event::Rebalancing(_))));
    assert!(matches!(next(&consumer, 5), Polled::Event(Event::Revoked(_))));
    consumer.acknowledge().unwrap();
    assert_eq!(records(&consumer, 20).get(0).unwrap().offset(), 5, "nothing was lost");
}

#[test]
fn an_event_that_comes_behind_the_records_of_a_poll_waits_for_the_next_one() {
    let cluster = cluster(&[]);
    let servers = cluster.bootstrap_servers();
    fill(&servers, "behind", 1);
    let consumer = member(&servers, "g", &[]);
    consumer.subscribe(vec!["behind".into()]).unwrap();
    // The rest waits in the client.
    assert_eq!(records(&consumer, 5).len(), 5);
    let mut steps = 0;
    let polled = consumer.try_poll_in_steps(Some(5), || {
        steps += 1;
        if steps == 2 {
            let inner = consumer.inner().unwrap();
            let error = Error::argument("a commit failed");
            inner.group.as_ref().unwrap().push_event(Event::CommitFailed(error));
        }
    });
    assert!(matches!(polled.unwrap(), Polled::Records(batch) if batch.len() == 5));
    assert!(matches!(next(&consumer, 5), Polled::Event(Event::CommitFailed(_))));
    assert_eq!(records(&consumer, 20).len(), 10, "nothing was lost");
}
