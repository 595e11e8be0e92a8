use std::sync::mpsc;

use super::*;
use crate::{Admin as AsyncAdmin, NewTopic, Record};

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(30);

/// A broker, and the runtime it lives in, which is not the blocking clients' own.
struct Broker {
    servers: String,
    _cluster: ottla_broker::Cluster,
    runtime: Runtime,
}

impl Broker {
    fn start() -> Broker {
        let runtime = Runtime::new().unwrap();
        let cluster = runtime.block_on(ottla_broker::Cluster::start()).unwrap();
        Broker {
            servers: cluster.bootstrap_servers(),
            _cluster: cluster,
            runtime,
        }
    }

    fn producer(&self, pairs: &[(&str, &str)]) -> Producer {
        let mut builder = Producer::builder().bootstrap_servers(&self.servers);
        for (key, value) in pairs {
            builder = builder.set(key, value);
        }
        builder.build().unwrap()
    }

    fn end_of(&self, topic: &str) -> i64 {
        let consumer = Consumer::builder().bootstrap_servers(&self.servers).build().unwrap();
        let partitions = consumer.partitions_for(topic).unwrap();
        consumer.end_offsets(&partitions).unwrap().values().sum()
    }
}

#[test]
fn plain_threads_share_a_producer_and_get_their_own_offsets() {
    let broker = Broker::start();
    let producer = broker.producer(&[]);
    let threads: Vec<_> = (0..4)
        .map(|_| {
            let producer = producer.clone();
            std::thread::spawn(move || {
                let deliveries: Vec<Delivery> = (0..250)
                    .map(|_| producer.send(Record::to("threads").partition(0).value("1")).unwrap())
                    .collect();
                let offsets = deliveries
                    .iter()
                    .map(|delivery| delivery.wait().unwrap().offset.unwrap());
                offsets.collect::<Vec<i64>>()
            })
        })
        .collect();
    let mut offsets: Vec<i64> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
    offsets.sort_unstable();
    assert_eq!(offsets, (0..1000).collect::<Vec<i64>>());
    assert_eq!(producer.flush().unwrap(), crate::Flushed::default());
    assert_eq!(producer.close(PATIENCE).unwrap().delivered, 1000);
}

#[test]
fn a_full_buffer_makes_the_thread_wait_and_not_fail() {
    let broker = Broker::start();
    let producer = broker.producer(&[("buffer.memory", "20000"), ("batch.size", "1000"), ("linger.ms", "0")]);
    let topic = producer.topic("full").unwrap();
    let value = "x".repeat(400);
    for _ in 0..500 {
        topic.send(topic.record().value(&value)).unwrap();
    }
    assert!(producer.flush().unwrap().all_delivered());
    assert!(producer.metrics().buffer_waits > 0, "otherwise this asks nothing");
    assert_eq!(producer.metrics().records_delivered, 500);
}

#[test]
fn a_producer_that_is_dropped_has_sent_what_it_held() {
    let broker = Broker::start();
    let producer = broker.producer(&[("linger.ms", "100000")]);
    let topic = producer.topic("dropped").unwrap();
    drop(topic.send(topic.record().value("1")).unwrap());
    drop(producer);
    assert_eq!(broker.end_of("dropped"), 0, "the topic still holds the producer");
    drop(topic);
    assert_eq!(broker.end_of("dropped"), 1);
}

#[test]
fn a_wait_with_a_limit_ends_and_can_be_repeated() {
    let broker = Broker::start();
    let producer = broker.producer(&[("linger.ms", "100000")]);
    let delivery = producer.send(Record::to("later").value("1")).unwrap();
    assert!(delivery.wait_timeout(Duration::from_millis(10)).is_none());
    assert!(!delivery.is_complete());
    assert_eq!(producer.flush_timeout(PATIENCE).unwrap().delivered, 1);
    assert_eq!(delivery.wait_timeout(Duration::ZERO).unwrap().unwrap().offset, Some(0));
}

#[test]
fn a_blocking_call_in_an_async_task_is_an_error_and_no_panic() {
    let broker = Broker::start();
    let producer = broker.producer(&[("linger.ms", "100000")]);
    let held = producer.send(Record::to("tasks").value("1")).unwrap();
    let servers = broker.servers.clone();
    let attempt = move |new: &str| {
        let kinds = [
            Producer::builder().bootstrap_servers(&servers).build().map(drop),
            Consumer::builder().bootstrap_servers(&servers).build().map(drop),
            Admin::builder().bootstrap_servers(&servers).build().map(drop),
            producer.send(Record::to(new).value("1")).map(drop),
            producer.flush().map(drop),
            held.wait().map(drop),
            held.wait_timeout(PATIENCE).unwrap().map(drop),
        ];
        // The fast path does not wait, so it may be taken.
        producer.send(Record::to("tasks").value("2")).unwrap();
        kinds.map(|result| result.unwrap_err().kind())
    };
    let of_root = broker.runtime.block_on(async { attempt("a-new-topic") });
    assert_eq!(of_root, [ErrorKind::Runtime; 7]);
    let of_worker = broker.runtime.spawn(async move { attempt("another-new-topic") });
    assert_eq!(broker.runtime.block_on(of_worker).unwrap(), [ErrorKind::Runtime; 7]);
}

#[test]
fn where_tokio_allows_blocking_the_calls_work() {
    let broker = Broker::start();
    let produce = |topic: &'static str, servers: String| {
        let producer = Producer::builder().bootstrap_servers(servers).build().unwrap();
        producer
            .send(Record::to(topic).value("1"))
            .unwrap()
            .wait()
            .unwrap()
            .offset
    };
    let servers = broker.servers.clone();
    let blocking = broker
        .runtime
        .spawn_blocking(move || produce("spawn-blocking", servers));
    assert_eq!(broker.runtime.block_on(blocking).unwrap(), Some(0));
    let servers = broker.servers.clone();
    let in_place = async { tokio::task::block_in_place(|| produce("block-in-place", servers)) };
    assert_eq!(broker.runtime.block_on(in_place), Some(0));
    let _entered = broker.runtime.enter();
    assert_eq!(produce("entered", broker.servers.clone()), Some(0));
}

#[test]
fn asking_whether_this_is_a_task_costs_it_no_budget() {
    let runtime = Builder::new_current_thread().build().unwrap();
    let steps = |asked: bool| {
        runtime.block_on(async move {
            assert!(!asked || in_task());
            let mut context = Context::from_waker(Waker::noop());
            let mut steps = 0;
            while let Poll::Ready(step) = coop::poll_proceed(&mut context) {
                step.made_progress();
                steps += 1;
            }
            steps
        })
    };
    assert_eq!(steps(true), steps(false));
    assert!(!in_task(), "this thread runs no task");
}

#[test]
fn a_consumer_waits_in_one_thread_and_is_closed_from_another() {
    let broker = Broker::start();
    let admin = Admin::builder().bootstrap_servers(&broker.servers).build().unwrap();
    admin.create_topics(&[NewTopic::new("quiet").partitions(1)]).unwrap();
    assert_eq!(admin.list_topics().unwrap().len(), 1);
    let builder = Consumer::builder().bootstrap_servers(&broker.servers);
    let mut consumer = builder
        .auto_offset_reset("earliest")
        .assign([("quiet", 0)])
        .build()
        .unwrap();
    assert!(
        consumer
            .poll_timeout(Duration::from_millis(20))
            .unwrap()
            .unwrap()
            .is_empty()
    );
    let closer = consumer.closer();
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let records = consumer.poll().unwrap().unwrap();
        tell.send(records.len()).unwrap();
        tell.send(consumer.poll().unwrap().map_or(0, |records| records.len()))
            .unwrap();
    });
    let producer = broker.producer(&[]);
    producer.send(Record::to("quiet").value("1")).unwrap();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 1);
    closer.close();
    assert_eq!(told.recv_timeout(PATIENCE).unwrap(), 0, "closed");
}

#[test]
fn an_observer_of_records_sees_each_once() {
    #[derive(Default)]
    struct Count(std::sync::atomic::AtomicUsize);
    impl crate::ProducerObserver for Count {
        fn wants_records(&self) -> bool {
            true
        }
        fn on_send(&self, _: &mut crate::OutgoingRecord<'_>) {
            self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let broker = Broker::start();
    let count = Arc::new(Count::default());
    let builder = Producer::builder()
        .bootstrap_servers(&broker.servers)
        .observer(count.clone());
    let producer = builder.build().unwrap();
    for _ in 0..10 {
        producer.send(Record::to("counted").value("1")).unwrap();
    }
    producer.flush().unwrap();
    assert_eq!(count.0.load(std::sync::atomic::Ordering::Relaxed), 10);
}

#[test]
fn a_partitioner_of_the_applications_own_is_asked() {
    let broker = Broker::start();
    let builder = Producer::builder().bootstrap_servers(&broker.servers);
    let producer = builder.partitioner(|_| Err("nowhere".into())).build().unwrap();
    let error = producer.send(Record::to("placed").value("1")).unwrap_err();
    assert!(error.to_string().contains("nowhere"), "{error}");
}

#[test]
fn builders_of_both_kinds_are_one() {
    let builder: ProducerBuilder = crate::Producer::builder().set("linger.sm", 5).into();
    assert!(builder.build().unwrap_err().to_string().contains("linger.ms"));
    let builder: AdminBuilder = AsyncAdmin::builder().into();
    assert_eq!(builder.build().unwrap_err().kind(), ErrorKind::Config);
}
