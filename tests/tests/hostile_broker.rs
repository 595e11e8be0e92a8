//! A hostile broker against the client: whatever it answers, the client does not panic, does not take memory without
//! bound, does not ask without pause, and works again as soon as the broker is honest. No record is called written that
//! is not, and none is called "not written" that is.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once};
use std::time::{Duration, Instant};

use ottla::{
    Admin, ConfigChange, ConfigResource, Consumer, Error, NewTopic, OffsetSpec, Persisted, Producer, Record,
    TopicPartition,
};
use ottla_protocol::catalog::MessageInfo;
use ottla_protocol::messages::metadata_response::MetadataResponseBroker;
use ottla_protocol::messages::produce_response::BatchIndexAndErrorMessage;
use ottla_protocol::messages::*;
use ottla_protocol::records::{Compression, RecordBatch, RecordBatchBuilder};
use ottla_protocol::wire::Reader;
use ottla_protocol::{ApiKey, ErrorCode, Message, Records, frame};
use ottla_tests::hostile::{BOMBS, framed};
use ottla_tests::hostile_broker::{Asked, HostileBroker, Plan};
use ottla_tests::rng::Rng;

const PATIENCE: Duration = Duration::from_secs(120);
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Every panic of the process is counted: one in a task of the client would else end that task in silence.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            PANICS.fetch_add(1, Ordering::SeqCst);
            before(panic);
        }));
    });
}

/// Memory of the process can be laid at the door of one test only while no other runs.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Forgets the largest resident size so far, and gives the present one.
fn begin_to_measure() -> u64 {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
    peak_mib()
}

/// The largest resident size that this process has had since.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() / 1024
}

/// A hostile broker, and what honest clients were told about their records.
struct Arena {
    _alone: tokio::sync::MutexGuard<'static, ()>,
    broker: HostileBroker,
    told: Mutex<Vec<(String, Result<(), Persisted>)>>,
    topics: AtomicUsize,
    /// Whether the broker is honest: then clients have all the time they need, and none of them has to give up.
    is_honest: AtomicBool,
    /// Offsets that were told in place of the true ones: of the beginning of the log, and of a batch, whose CRC does not cover
    /// it. A log may begin anywhere and have gaps, so that a client believes them.
    moved: Arc<Mutex<BTreeSet<i64>>>,
}

impl Arena {
    async fn open() -> Arena {
        count_panics();
        let alone = ALONE.lock().await;
        let broker = HostileBroker::start().await;
        let arena = Arena {
            _alone: alone,
            broker,
            told: Mutex::default(),
            topics: AtomicUsize::new(0),
            is_honest: AtomicBool::new(true),
            moved: Arc::default(),
        };
        let admin = arena.admin().await.unwrap();
        let made = admin.create_topics(&[NewTopic::new("t").partitions(1)]).await.unwrap();
        assert!(made.values().all(Result::is_ok));
        arena.produce().await.unwrap();
        arena.is_honest.store(false, Ordering::SeqCst);
        arena
    }

    /// A deadline: `milliseconds` while lies are told.
    fn deadline(&self, milliseconds: i32) -> i32 {
        let is_honest = self.is_honest.load(Ordering::SeqCst);
        if is_honest { 20 * milliseconds } else { milliseconds }
    }

    async fn admin(&self) -> Result<Admin, Error> {
        Admin::builder()
            .bootstrap_servers(self.broker.address())
            .set("retry.backoff.ms", 5)
            .set("reconnect.backoff.ms", 5)
            .set("default.api.timeout.ms", self.deadline(3_000))
            .set("request.timeout.ms", self.deadline(2_000))
            .build()
            .await
    }

    /// All that an admin client can ask.
    async fn administer(&self) -> Result<(), Error> {
        let admin = self.admin().await?;
        let name = format!("new-{}", self.topics.fetch_add(1, Ordering::SeqCst));
        let t = TopicPartition::new("t", 0);
        let set = ConfigChange::Set("retention.ms".to_owned(), "1000000000".to_owned());
        let change = (ConfigResource::Topic("t".to_owned()), vec![set]);
        let first = admin.describe_cluster().await.map(drop);
        let results = [
            admin.create_topics(&[NewTopic::new(&name)]).await.map(drop),
            admin.create_partitions(&[(&name, 2)]).await.map(drop),
            admin.describe_topics(&["t"]).await.map(drop),
            admin
                .describe_configs(&[ConfigResource::Topic("t".into())])
                .await
                .map(drop),
            admin.list_offsets(&[(t, OffsetSpec::Latest)]).await.map(drop),
            admin.incremental_alter_configs(&[change]).await.map(drop),
            admin.delete_topics(&[&name]).await.map(drop),
        ];
        admin.close().await;
        first.and(results.into_iter().collect())
    }

    /// Sends three records and remembers what was said about each.
    async fn produce(&self) -> Result<(), Error> {
        let producer = Producer::builder()
            .bootstrap_servers(self.broker.address())
            .set("retry.backoff.ms", 5)
            .set("reconnect.backoff.ms", 5)
            .set("request.timeout.ms", self.deadline(2_000))
            .set("delivery.timeout.ms", self.deadline(4_000))
            .set("max.block.ms", self.deadline(3_000))
            .build()
            .await?;
        let mut result = Ok(());
        for _ in 0..3 {
            let number = self.told.lock().unwrap().len();
            let value = format!("record-{number}");
            let sent = producer.send(Record::to("t").value(&value)).await;
            let told = match sent {
                Ok(delivery) => delivery.await,
                Err(error) => Err(error),
            };
            let told = told.map(drop).inspect_err(|error| result = Err(error.clone()));
            self.told
                .lock()
                .unwrap()
                .push((value, told.map_err(|error| error.persisted())));
        }
        let _ = producer.close(Duration::from_secs(1)).await;
        result
    }

    /// Reads the first records.
    async fn consume(&self) -> Result<(), Error> {
        let mut consumer = self.consumer().await?;
        let mut result = Ok(());
        // What an honest broker has must come; who waits for this ends it.
        let mut tries = 0;
        while tries < 3 || self.is_honest.load(Ordering::SeqCst) {
            tries += 1;
            match consumer.poll_timeout(Duration::from_secs(3)).await {
                Ok(Some(records)) if records.iter().count() > 0 => {
                    let first = records.iter().next().map(|record| record.offset());
                    let was_moved = first.is_some_and(|first| self.moved.lock().unwrap().contains(&first));
                    assert!(first == Some(0) || was_moved, "{first:?}: nothing is skipped");
                    result = Ok(());
                    break;
                }
                Ok(_) => {}
                Err(error) => result = Err(error),
            }
        }
        consumer.close(Duration::from_secs(10)).await;
        result
    }

    async fn consumer(&self) -> Result<Consumer, Error> {
        Consumer::builder()
            .bootstrap_servers(self.broker.address())
            .auto_offset_reset("earliest")
            .set("retry.backoff.ms", 5)
            .set("reconnect.backoff.ms", 5)
            .set("request.timeout.ms", self.deadline(2_000))
            .set("fetch.max.wait.ms", 50)
            .assign([TopicPartition::new("t", 0)])
            .build()
            .await
    }

    /// What a client that uses `api` does.
    async fn work(&self, api: ApiKey) -> Result<(), Error> {
        let work = async {
            match api {
                ApiKey::Produce | ApiKey::InitProducerId | ApiKey::Metadata | ApiKey::ApiVersions => {
                    self.produce().await
                }
                ApiKey::Fetch | ApiKey::ListOffsets => self.consume().await,
                _ => self.administer().await,
            }
        };
        let worked = tokio::time::timeout(PATIENCE, work).await;
        worked.unwrap_or_else(|_| panic!("a client that uses {} hangs", api.name()))
    }

    /// The lie was told; now the broker is honest.
    async fn recovers(&self, api: ApiKey, what: &str) {
        self.broker.follow(|_| Plan::Honest);
        self.is_honest.store(true, Ordering::SeqCst);
        self.moved.lock().unwrap().clear();
        self.work(api)
            .await
            .unwrap_or_else(|error| panic!("{what}: does not recover: {error}"));
        self.is_honest.store(false, Ordering::SeqCst);
        assert_eq!(PANICS.load(Ordering::SeqCst), 0, "{what}");
    }

    /// Compares what was said with what is in the log.
    async fn close(self) {
        self.broker.follow(|_| Plan::Honest);
        let told = self.told.into_inner().unwrap();
        let mut consumer = Consumer::builder()
            .bootstrap_servers(self.broker.honest_address())
            .auto_offset_reset("earliest")
            .assign([TopicPartition::new("t", 0)])
            .build()
            .await
            .unwrap();
        let t = TopicPartition::new("t", 0);
        let end = consumer.end_offsets(std::slice::from_ref(&t)).await.unwrap()[&t];
        let mut found = std::collections::BTreeMap::<String, usize>::new();
        while consumer.position(&t).await.unwrap() < end {
            for record in &consumer.poll().await.unwrap().unwrap() {
                let value = String::from_utf8(record.value().unwrap().to_vec()).unwrap();
                *found.entry(value).or_default() += 1;
            }
        }
        let mut counts = [0; 3];
        for (value, told) in &told {
            let times = found.get(value).copied().unwrap_or(0);
            match told {
                Ok(()) => assert_eq!(times, 1, "{value} was called written"),
                Err(Persisted::No) => assert_eq!(times, 0, "{value} was called not written"),
                Err(_) => assert!(times <= 1, "{value} is there {times} times"),
            }
            counts[match told {
                Ok(()) => 0,
                Err(Persisted::No) => 1,
                Err(_) => 2,
            }] += 1;
        }
        println!("{} written, {} not, {} perhaps", counts[0], counts[1], counts[2]);
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
    }
}

/// What the client sends, as long as its requests are answered at all.
const APIS: [ApiKey; 12] = [
    ApiKey::ApiVersions,
    ApiKey::Metadata,
    ApiKey::InitProducerId,
    ApiKey::Produce,
    ApiKey::ListOffsets,
    ApiKey::Fetch,
    ApiKey::DescribeCluster,
    ApiKey::CreateTopics,
    ApiKey::CreatePartitions,
    ApiKey::IncrementalAlterConfigs,
    ApiKey::DescribeConfigs,
    ApiKey::DeleteTopics,
];

/// Ways to answer that do not depend on the API.
type Attack = fn(&Asked<'_>) -> Plan;
const ATTACKS: [(&str, Attack); 15] = [
    ("garbage", |_| Plan::Instead(vec![0xa5; 300])),
    ("HTTP", |_| {
        Plan::InsteadAndClose(b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec())
    }),
    ("TLS", |_| Plan::InsteadAndClose(vec![0x15, 3, 3, 0, 2, 2, 80])),
    ("a length of 2 GiB", |_| {
        Plan::Instead(vec![0x7f, 0xff, 0xff, 0xff, 0, 0])
    }),
    ("a negative length", |_| Plan::Instead(vec![0xff; 4])),
    ("a length of zero", |_| Plan::Instead(vec![0; 4])),
    ("almost the longest answer, never sent", |_| {
        Plan::InsteadAndClose(vec![5, 0xf0, 0, 0, 1, 2])
    }),
    ("nothing, closed", |_| Plan::InsteadAndClose(vec![])),
    ("only the header", |asked| {
        Plan::Instead(framed(&asked.correlation_id.to_be_bytes()))
    }),
    ("a wrong number", |asked| {
        let other = asked.correlation_id.wrapping_add(1).to_be_bytes();
        Plan::Change(Box::new(move |answer| framed(&[&other[..], &answer[4..]].concat())))
    }),
    ("the answer twice", |_| {
        Plan::Change(Box::new(|answer| framed(&answer).repeat(2)))
    }),
    ("an answer to nothing, then the answer", |_| {
        Plan::Change(Box::new(|answer| {
            [framed(&[0x7f, 0, 0, 1, 0]), framed(&answer)].concat()
        }))
    }),
    ("half the answer, closed", |_| {
        let half = |answer: Vec<u8>| framed(&answer)[..answer.len() / 2 + 4].to_vec();
        Plan::ChangeAndClose(Box::new(half))
    }),
    ("byte by byte", |_| Plan::Drip(Box::new(|answer| framed(&answer)))),
    ("more than the answer", |_| {
        Plan::Change(Box::new(|answer| framed(&[&answer[..], &[0; 9]].concat())))
    }),
];

#[tokio::test]
async fn no_way_of_answering_breaks_a_client_and_it_recovers() {
    let arena = Arena::open().await;
    let before = begin_to_measure();
    for api in APIS {
        for (name, attack) in ATTACKS {
            let what = format!("{} answered with {name}", api.name());
            // Three answers are hostile; a client that tries again then meets an honest broker.
            arena.broker.follow(move |asked| {
                if asked.api == api && asked.before < 3 {
                    attack(asked)
                } else {
                    Plan::Honest
                }
            });
            let begin = Instant::now();
            // A client that stood still may have given up before.
            while arena.broker.count(api) == 0 {
                assert!(begin.elapsed() < PATIENCE, "{what}: never asked");
                let _ = arena.work(api).await;
            }
            arena.recovers(api, &what).await;
        }
    }
    let grown = peak_mib() - before;
    println!("{} attacks, memory grew by {grown} MiB", APIS.len() * ATTACKS.len());
    assert!(grown < 64, "{grown} MiB");
    arena.close().await;
}

#[tokio::test]
async fn counts_and_lengths_that_lie_anywhere_in_an_answer_are_survived() {
    let arena = Arena::open().await;
    let mut rng = Rng::announced("hostile-broker");
    let before = begin_to_measure();
    let rounds = if std::env::var_os("OTTLA_LONG").is_some() {
        400
    } else {
        12
    };
    let mut lies = 0;
    for api in APIS {
        for _ in 0..rounds {
            let seed = rng.next_u64();
            let moved = arena.moved.clone();
            // Every answer of the first twenty has another place to lie.
            arena.broker.follow(move |asked| {
                if asked.api != api || asked.before >= 20 {
                    return Plan::Honest;
                }
                let mut rng = Rng::new(seed ^ asked.before as u64);
                let (cut, version, moved) = (rng.below(4) == 0, asked.version, moved.clone());
                Plan::Change(Box::new(move |honest| {
                    let mut answer = honest.clone();
                    let at = 4 + rng.index(answer.len() - 4);
                    if cut {
                        answer.truncate(at);
                    } else {
                        let bomb = BOMBS[rng.index(BOMBS.len())];
                        let end = (at + bomb.len()).min(answer.len());
                        answer.splice(at..end, bomb.iter().copied());
                    }
                    let waits = asks_for_silence(api, version, &answer);
                    // Two producers under one id: the log takes the records of one for copies of the other's, says that they
                    // are written, and nobody can see through it.
                    let id = |answer: &[u8]| number_in(api, version, answer, "producer_id");
                    let doubles = id(&answer).is_some_and(|told| Some(told) != id(&honest));
                    let first = |answer: &[u8]| first_offset(api, version, answer);
                    moved
                        .lock()
                        .unwrap()
                        .extend(first(&answer).filter(|told| Some(*told) != first(&honest)));
                    framed(if waits || doubles { &honest } else { &answer })
                }))
            });
            let _ = arena.work(api).await;
            lies += arena.broker.count(api).min(20);
        }
        arena.recovers(api, api.name()).await;
    }
    let grown = peak_mib() - before;
    println!("{lies} lies, memory grew by {grown} MiB");
    assert!(grown < 64, "{grown} MiB");
    arena.close().await;
}

/// Where the log begins by what ListOffsets says, or the first batch by what Fetch says, if it can be read.
fn first_offset(api: ApiKey, version: i16, answer: &[u8]) -> Option<i64> {
    let (_, at) = frame::decode_response_header(api, version, answer).ok()?;
    let mut body = Reader::new(&answer[at..]);
    match api {
        ApiKey::ListOffsets => {
            let told = ListOffsetsResponse::decode(&mut body, version).ok()?;
            let mut partitions = told.topics.iter().flat_map(|topic| &topic.partitions);
            partitions.next().map(|part| part.offset)
        }
        ApiKey::Fetch => {
            let told = FetchResponse::decode(&mut body, version).ok()?;
            let mut partitions = told.responses.iter().flat_map(|topic| &topic.partitions);
            partitions.find_map(|part| Some(RecordBatch::parse(part.records.as_slice()?).ok()?.0.base_offset()))
        }
        _ => None,
    }
}

/// A client obeys a throttle time, if only for a minute; that is asked elsewhere, in virtual time.
fn asks_for_silence(api: ApiKey, version: i16, answer: &[u8]) -> bool {
    number_in(api, version, answer, "throttle_time_ms").is_some_and(|number| number > 100)
}

/// The number in this field of an answer, if it can be read.
fn number_in(api: ApiKey, version: i16, answer: &[u8], field: &str) -> Option<i64> {
    let is_it = |info: &&MessageInfo| info.api_key == Some(api.code()) && info.name.ends_with("Response");
    let info = CATALOG.iter().find(is_it).unwrap();
    let body = frame::decode_response_header(api, version, answer).map(|(_, at)| &answer[at..]);
    // What follows the fields that are known does not keep them from being read.
    let text = body
        .ok()
        .and_then(|body| (0..=8).find_map(|extra| info.debug(&body[..body.len().checked_sub(extra)?], version).ok()));
    let after = text
        .as_deref()
        .and_then(|text| text.split(&format!("{field}: ")).nth(1));
    after.and_then(|after| after.split([',', ' ']).next()?.parse::<i64>().ok())
}

#[tokio::test]
async fn a_picture_of_the_cluster_full_of_lies_is_survived() {
    let arena = Arena::open().await;
    let before = begin_to_measure();
    let brokers = |lies: &[(i32, &'static str, i32)], answer: &mut MetadataResponse<'_>| {
        for (node_id, host, port) in lies {
            answer.brokers.push(MetadataResponseBroker {
                node_id: *node_id,
                host,
                port: *port,
                ..Default::default()
            });
        }
    };
    for lie in 0..8 {
        arena.broker.follow(move |asked| {
            if asked.api != ApiKey::Metadata || asked.before >= 2 {
                return Plan::Honest;
            }
            asked.retell(move |retold, body| {
                let mut answer: MetadataResponse<'_> = retold.read(body);
                match lie {
                    0 => brokers(
                        &[(2, "", 9092), (3, "a", 0), (4, "a", 70_000), (5, "a", -1), (-9, "a", 1)],
                        &mut answer,
                    ),
                    1 => (1..=1_000_000).for_each(|id| brokers(&[(id, "h", 1)], &mut answer)),
                    2 => answer.brokers.clear(),
                    3 => answer.topics.iter_mut().for_each(|topic| topic.partitions.clear()),
                    4 => answer.topics.iter_mut().for_each(|topic| {
                        let twice = topic.partitions.clone();
                        topic.partitions.extend(twice);
                    }),
                    5 => answer
                        .topics
                        .iter_mut()
                        .flat_map(|topic| &mut topic.partitions)
                        .for_each(|partition| {
                            partition.partition_index = i32::MAX;
                            partition.leader_id = -7;
                        }),
                    6 => answer
                        .topics
                        .iter_mut()
                        .for_each(|topic| topic.topic_id = Default::default()),
                    _ => brokers(&[(answer.brokers[0].node_id, "127.0.0.1", 1)], &mut answer),
                }
                retold.write(&answer)
            })
        });
        let _ = arena.work(ApiKey::Metadata).await;
        arena.recovers(ApiKey::Metadata, &format!("lie {lie}")).await;
    }
    let grown = peak_mib() - before;
    println!("memory grew by {grown} MiB, two million brokers included");
    // An answer of 12 MB, twice in this process, and what both ends make of it.
    assert!(grown < 512, "{grown} MiB");
    arena.close().await;
}

#[tokio::test]
async fn no_answer_to_produce_makes_a_record_written_that_is_not() {
    let arena = Arena::open().await;
    let before = begin_to_measure();
    for lie in 0..7 {
        arena.broker.follow(move |asked| {
            if asked.api != ApiKey::Produce || asked.before >= 3 {
                return Plan::Honest;
            }
            // Carried out by nobody, but the answer does not say so.
            let request: ProduceRequest<'_> = asked.request();
            let topic = &request.topic_data[0];
            let mut part = produce_response::PartitionProduceResponse {
                index: topic.partition_data[0].index,
                ..Default::default()
            };
            let mut topic_id = topic.topic_id;
            match lie {
                0 => part.index = 7,
                1 => part.index = -1,
                2 => topic_id.0[0] ^= 1,
                3 => part.error_code = ErrorCode::NotLeaderOrFollower.code(),
                4 => part.error_code = 12_345,
                5 => {
                    part.error_code = ErrorCode::CorruptMessage.code();
                    part.record_errors = vec![
                        BatchIndexAndErrorMessage {
                            batch_index: -5,
                            batch_index_error_message: Some("no"),
                        };
                        1_000_000
                    ];
                }
                _ => {
                    part.error_code = ErrorCode::NotLeaderOrFollower.code();
                    part.current_leader.leader_id = 99;
                    part.current_leader.leader_epoch = i32::MAX - 1;
                }
            }
            let responses = vec![produce_response::TopicProduceResponse {
                name: if asked.version < 13 && lie == 2 {
                    "other"
                } else {
                    topic.name
                },
                topic_id,
                partition_responses: if asked.before == 2 { vec![] } else { vec![part] },
            }];
            Plan::Instead(asked.answer(&ProduceResponse {
                responses,
                ..Default::default()
            }))
        });
        let _ = arena.work(ApiKey::Produce).await;
        arena.recovers(ApiKey::Produce, &format!("lie {lie}")).await;
    }
    let grown = peak_mib() - before;
    println!("memory grew by {grown} MiB, two million refused records included");
    assert!(grown < 256, "{grown} MiB");
    arena.close().await;
}

#[tokio::test]
async fn bombs_in_a_fetch_are_errors_of_their_partition_and_the_position_stays() {
    let arena = Arena::open().await;
    let zeros = vec![0; 200 << 20];
    let t = TopicPartition::new("t", 0);
    for codec in [
        Compression::Gzip,
        Compression::Snappy,
        Compression::Lz4,
        Compression::Zstd,
    ] {
        let mut builder = RecordBatchBuilder::new(vec![]);
        builder.append(1_000, None, Some(&zeros), &[]).unwrap();
        let bomb = builder.seal(codec, None).unwrap().to_vec();
        let before = begin_to_measure();
        arena.broker.follow(move |asked| {
            let bomb = bomb.clone();
            match asked.api {
                ApiKey::Fetch => asked.retell(move |retold, body| {
                    let mut answer: FetchResponse<'_> = retold.read(body);
                    for part in answer.responses.iter_mut().flat_map(|topic| &mut topic.partitions) {
                        part.records = Records::Slice(&bomb);
                    }
                    retold.write(&answer)
                }),
                _ => Plan::Honest,
            }
        });
        let mut consumer = arena.consumer().await.unwrap();
        let error = loop {
            match consumer.poll_timeout(PATIENCE).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let grown = peak_mib() - before;
        println!("{codec}: {error}; memory grew by {grown} MiB");
        assert_eq!(error.partition(), Some(&t), "{error}");
        assert_eq!(consumer.position(&t).await.unwrap(), 0);
        // The batch is 10 MB for snappy, several times in this process; what it unfolds to may be 128 MiB.
        assert!(grown < 192, "{codec}: {grown} MiB");
        consumer.close(Duration::from_secs(10)).await;
        arena.recovers(ApiKey::Fetch, codec.name()).await;
    }
    arena.close().await;
}

#[tokio::test]
async fn a_broker_that_refuses_for_ever_is_asked_with_pauses() {
    let lies: [(ApiKey, Attack); 6] = [
        (ApiKey::Metadata, |asked| match asked.api {
            ApiKey::Metadata => Plan::Instead(framed(&[9; 40])),
            _ => Plan::Honest,
        }),
        (ApiKey::ApiVersions, |_| Plan::InsteadAndClose(vec![])),
        (ApiKey::InitProducerId, |asked| match asked.api {
            ApiKey::InitProducerId => Plan::Instead(asked.answer(&InitProducerIdResponse {
                error_code: ErrorCode::CoordinatorLoadInProgress.code(),
                ..Default::default()
            })),
            _ => Plan::Honest,
        }),
        (ApiKey::Produce, |asked| match asked.api {
            ApiKey::Produce => Plan::InsteadAndClose(vec![]),
            _ => Plan::Honest,
        }),
        (ApiKey::ListOffsets, |asked| match asked.api {
            ApiKey::ListOffsets => Plan::Instead(asked.answer(&ListOffsetsResponse::default())),
            _ => Plan::Honest,
        }),
        (ApiKey::Fetch, |asked| match asked.api {
            ApiKey::Fetch => Plan::Instead(asked.answer(&FetchResponse {
                error_code: ErrorCode::UnknownServerError.code(),
                ..Default::default()
            })),
            _ => Plan::Honest,
        }),
    ];
    for (api, lie) in lies {
        let arena = Arena::open().await;
        let servers = arena.broker.address();
        let builder = Consumer::builder()
            .bootstrap_servers(&servers)
            .auto_offset_reset("earliest");
        let mut consumer = builder.build().await.unwrap();
        let builder = Producer::builder()
            .bootstrap_servers(&servers)
            .set("max.block.ms", 2_000);
        let builder = builder
            .set("request.timeout.ms", 1_000)
            .set("delivery.timeout.ms", 2_000);
        let producer = builder.set("linger.ms", 0).build().await.unwrap();
        arena.broker.follow(lie);
        let start = Instant::now();
        if matches!(api, ApiKey::Fetch | ApiKey::ListOffsets) {
            consumer.assign(&[TopicPartition::new("t", 0)]).unwrap();
            while start.elapsed() < Duration::from_secs(2)
                || (arena.broker.count(api) < 2 && start.elapsed() < PATIENCE)
            {
                let _ = consumer.poll_timeout(Duration::from_millis(500)).await;
            }
        } else {
            while arena.broker.count(api) < 2 && start.elapsed() < PATIENCE {
                if let Ok(delivery) = producer.send(Record::to("t").value("v")).await {
                    let _ = delivery.await;
                }
            }
        }
        // A burst at the start, then fewer than twenty in a second however fast the machine is.
        let (count, elapsed) = (arena.broker.count(api), start.elapsed());
        println!("{}: {count} requests in {} ms", api.name(), elapsed.as_millis());
        let most = 10 + 20 * elapsed.as_millis() as usize / 1_000;
        assert!((2..=most).contains(&count), "{}: {count}, at most {most}", api.name());
        assert_eq!(PANICS.load(Ordering::SeqCst), 0);
        drop((producer, consumer));
    }
}
