//! Consumer groups of this client on Apache Kafka and on our broker, by both protocols.
//!
//! Each test starts a broker of its own. What is proved: members share partitions, a partition that moves is read on from
//! where it was committed, whatever became of its reader, and the admin client tells what is so.

// A test may stop at what it did not expect.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ottla::{
    Admin, Consumer, ConsumerBuilder, ConsumerEvent, ErrorCode, ErrorKind, MemberToRemove, NewTopic, OffsetAndMetadata,
    OffsetSpec, Producer, Rebalance, RebalanceListener, Record, TopicPartition,
};
use ottla_tests::peer::broker_process::{BrokerProcess, Kind};

const PATIENCE: Duration = Duration::from_secs(60);
const PARTITIONS: i32 = 4;

/// A broker, its admin client and a topic `orders` of four partitions.
struct Stage {
    broker: BrokerProcess,
    admin: Admin,
    protocol: &'static str,
}

impl Stage {
    async fn start(kind: Kind, protocol: &'static str, name: &str) -> Stage {
        let name = format!("groups-{name}-{kind:?}-{protocol}").to_lowercase();
        let properties = [
            "group.initial.rebalance.delay.ms=0",
            "group.consumer.min.heartbeat.interval.ms=100",
            "group.consumer.heartbeat.interval.ms=500",
        ];
        let broker = tokio::task::block_in_place(|| BrokerProcess::start(kind, &name, &properties)).unwrap();
        let admin = Admin::builder()
            .bootstrap_servers(broker.bootstrap())
            .build()
            .await
            .unwrap();
        let stage = Stage {
            broker,
            admin,
            protocol,
        };
        stage.create("orders", PARTITIONS).await;
        stage
    }

    async fn create(&self, topic: &str, partitions: i32) {
        let answers = self
            .admin
            .create_topics(&[NewTopic::new(topic).partitions(partitions)])
            .await
            .unwrap();
        assert!(answers[topic].is_ok(), "{answers:?}");
    }

    /// Writes `count` records to each partition of `topic`; the values are `from..`.
    async fn write(&self, topic: &str, partitions: i32, from: i64, count: i64) {
        let producer = Producer::builder()
            .bootstrap_servers(self.broker.bootstrap())
            .build()
            .await
            .unwrap();
        for partition in 0..partitions {
            for number in from..from + count {
                let value = format!("{partition}-{number}");
                let record = Record::to(topic).partition(partition).value(&value);
                drop(producer.send(record).await.unwrap());
            }
        }
        assert_eq!(producer.close(PATIENCE).await.unwrap().failed, 0);
    }

    fn member(&self, group: &str) -> ConsumerBuilder {
        let builder = Consumer::builder()
            .bootstrap_servers(self.broker.bootstrap())
            .group_id(group)
            .group_protocol(self.protocol)
            .auto_offset_reset("earliest");
        match self.protocol {
            "classic" => builder
                .set("heartbeat.interval.ms", 500)
                .set("session.timeout.ms", 10_000),
            _ => builder,
        }
    }

    async fn committed(&self, group: &str) -> BTreeMap<i32, i64> {
        let offsets = self.admin.list_consumer_group_offsets(group, false).await.unwrap();
        offsets
            .into_iter()
            .map(|(partition, offset)| (partition.partition, offset.offset))
            .collect()
    }
}

fn tp(partition: i32) -> TopicPartition {
    TopicPartition::new("orders", partition)
}

/// Polls all members in turn until `enough` says so; what they read is added to `seen`.
async fn poll_until(
    members: &mut [&mut Consumer],
    seen: &mut Vec<String>,
    enough: impl Fn(&[&mut Consumer], &Vec<String>) -> bool,
) {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while !enough(members, seen) {
        assert!(
            tokio::time::Instant::now() < deadline,
            "in time; seen {}, health: {:#?}",
            seen.len(),
            members.iter().map(|member| member.health()).collect::<Vec<_>>()
        );
        for member in members.iter_mut() {
            let records = member.poll_timeout(Duration::from_millis(20)).await.unwrap().unwrap();
            seen.extend(
                records
                    .iter()
                    .map(|record| String::from_utf8(record.value().unwrap().to_vec()).unwrap()),
            );
        }
    }
}

/// Makes a test of each kind of broker and protocol.
macro_rules! everywhere {
    ($($scenario:ident)*) => {
        $(mod $scenario {
            use super::Kind;
            #[tokio::test(flavor = "multi_thread")]
            async fn by_the_classic_protocol_on_apache_kafka() {
                super::scenarios::$scenario(Kind::Apache, "classic").await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn by_the_classic_protocol_on_ottla() {
                super::scenarios::$scenario(Kind::Ottla, "classic").await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn by_the_consumer_protocol_on_ottla() {
                super::scenarios::$scenario(Kind::Ottla, "consumer").await;
            }
            #[tokio::test(flavor = "multi_thread")]
            async fn by_the_consumer_protocol_on_apache_kafka() {
                super::scenarios::$scenario(Kind::Apache, "consumer").await;
            }
        })*
    };
}

everywhere! {
    members_share_partitions_and_go_on_where_others_left
    nothing_that_was_not_processed_is_committed
    a_member_that_is_silent_for_too_long_is_told_and_comes_back
    the_admin_client_tells_what_is_so_and_changes_what_nobody_reads
    topics_are_found_by_a_pattern_also_later_ones
    a_listener_is_told_of_partitions_that_come_and_go
    an_application_that_takes_events_lets_go_when_it_is_done
    a_static_member_that_restarts_in_its_session_moves_nothing
}

mod scenarios {
    use super::*;

    pub async fn members_share_partitions_and_go_on_where_others_left(kind: Kind, protocol: &'static str) {
        let stage = Stage::start(kind, protocol, "share").await;
        stage.write("orders", PARTITIONS, 0, 50).await;
        let mut seen = Vec::new();
        let mut first = stage.member("maps").topics(["orders"]).build().await.unwrap();
        poll_until(&mut [&mut first], &mut seen, |_, seen| seen.len() == 200).await;
        assert_eq!(first.assignment(), (0..PARTITIONS).map(tp).collect::<Vec<_>>());

        let mut second = stage.member("maps").topics(["orders"]).build().await.unwrap();
        poll_until(&mut [&mut first, &mut second], &mut seen, |members, _| {
            members.iter().all(|member| member.assignment().len() == 2)
        })
        .await;
        let both: BTreeSet<_> = first.assignment().into_iter().chain(second.assignment()).collect();
        assert_eq!(both.len(), 4, "no partition is read twice");
        stage.write("orders", PARTITIONS, 50, 50).await;
        poll_until(&mut [&mut first, &mut second], &mut seen, |_, seen| seen.len() >= 400).await;
        assert_eq!(
            seen.len(),
            400,
            "nothing is read twice, as all was committed before it moved"
        );

        first.commit().await.unwrap();
        let closed = first.close(PATIENCE).await;
        assert!(closed.finished && closed.error.is_none(), "{closed:?}");
        stage.write("orders", PARTITIONS, 100, 50).await;
        poll_until(&mut [&mut second], &mut seen, |_, seen| seen.len() >= 600).await;
        assert_eq!(seen.iter().collect::<BTreeSet<_>>().len(), 600);
        assert_eq!(seen.len(), 600, "the other goes on where the first one left");
        second.commit().await.unwrap();
        assert_eq!(
            stage.committed("maps").await,
            (0..PARTITIONS).map(|partition| (partition, 150)).collect()
        );
        assert!(second.close(PATIENCE).await.finished);
    }

    pub async fn nothing_that_was_not_processed_is_committed(kind: Kind, protocol: &'static str) {
        let stage = Stage::start(kind, protocol, "processed").await;
        stage.write("orders", 1, 0, 10).await;
        let member = || {
            stage
                .member("maps")
                .topics(["orders"])
                .max_poll_records(4)
                .set("auto.commit.interval.ms", 20)
        };
        let mut reader = member().build().await.unwrap();
        let records = tokio::time::timeout(PATIENCE, reader.poll())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(records.len(), 4);
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(
            stage.committed("maps").await,
            BTreeMap::new(),
            "handed over is not processed"
        );
        let records = tokio::time::timeout(PATIENCE, reader.poll())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(records.iter().next().unwrap().offset(), 4);
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while stage.committed("maps").await != BTreeMap::from([(0, 4)]) {
            assert!(
                tokio::time::Instant::now() < deadline,
                "the next poll says that the first four are processed"
            );
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let closed = reader.close(PATIENCE).await;
        assert!(closed.finished, "{closed:?}");
        assert_eq!(closed.unprocessed, BTreeMap::from([(tp(0), 8)]));
        let mut next = member().build().await.unwrap();
        let records = tokio::time::timeout(PATIENCE, next.poll())
            .await
            .unwrap()
            .unwrap()
            .unwrap();
        assert_eq!(
            records.iter().next().unwrap().offset(),
            4,
            "what was only handed over is read again"
        );
        next.commit_records(&records).await.unwrap();
        let offset = OffsetAndMetadata::new(9).metadata("by hand");
        next.commit_offsets([(tp(0), offset.clone())]).await.unwrap();
        assert_eq!(
            next.committed(&[tp(0)]).await.unwrap(),
            BTreeMap::from([(tp(0), Some(offset))])
        );
    }

    pub async fn a_member_that_is_silent_for_too_long_is_told_and_comes_back(kind: Kind, protocol: &'static str) {
        let stage = Stage::start(kind, protocol, "silent").await;
        stage.write("orders", PARTITIONS, 0, 1).await;
        let silent = stage
            .member("maps")
            .topics(["orders"])
            .set("max.poll.interval.ms", 6000);
        let mut silent = silent.build().await.unwrap();
        let mut seen = Vec::new();
        poll_until(&mut [&mut silent], &mut seen, |_, seen| seen.len() == 4).await;
        let held = silent.poll_timeout(Duration::from_millis(10)).await.unwrap().unwrap();
        assert!(held.is_empty());
        stage.write("orders", PARTITIONS, 1, 1).await;
        let held = tokio::time::timeout(PATIENCE, silent.poll())
            .await
            .unwrap()
            .unwrap()
            .unwrap();

        let mut other = stage.member("maps").topics(["orders"]).build().await.unwrap();
        let mut others = Vec::new();
        poll_until(&mut [&mut other], &mut others, |members, _| {
            members[0].assignment().len() == 4
        })
        .await;

        let late = silent.commit_records(&held).await.unwrap_err();
        assert_eq!(late.kind(), ErrorKind::Fenced, "{late}");
        let error = silent.poll_timeout(Duration::from_secs(1)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Fenced, "{error}");
        assert!(error.to_string().contains("max.poll.interval.ms"), "{error}");
        poll_until(&mut [&mut silent, &mut other], &mut others, |members, _| {
            members.iter().all(|member| member.assignment().len() == 2)
        })
        .await;
    }

    pub async fn the_admin_client_tells_what_is_so_and_changes_what_nobody_reads(kind: Kind, protocol: &'static str) {
        let stage = Stage::start(kind, protocol, "admin").await;
        let admin = &stage.admin;
        stage.write("orders", PARTITIONS, 0, 10).await;
        let mut reader = stage
            .member("maps")
            .client_id("reader")
            .topics(["orders"])
            .build()
            .await
            .unwrap();
        let mut seen = Vec::new();
        poll_until(&mut [&mut reader], &mut seen, |_, seen| seen.len() == 40).await;
        reader.commit().await.unwrap();
        stage.write("orders", 1, 10, 5).await;

        let listed = admin.list_groups(&[], &[]).await.unwrap();
        let maps = listed.iter().find(|group| group.group_id == "maps").unwrap();
        assert_eq!((maps.group_type.as_str(), maps.state.as_str()), (protocol, "Stable"));
        assert!(admin.list_groups(&["Empty"], &[]).await.unwrap().is_empty());

        let described = admin.describe_consumer_groups(&["maps", "nobody"]).await.unwrap();
        let nobody = described["nobody"].as_ref().unwrap_err();
        assert_eq!(nobody.code(), Some(ErrorCode::GroupIdNotFound), "{nobody}");
        let maps = described["maps"].as_ref().unwrap();
        assert_eq!((maps.group_type, maps.members.len()), (protocol, 1));
        assert_eq!(maps.members[0].client_id, "reader");
        assert_eq!(maps.members[0].subscription, ["orders"]);
        assert_eq!(maps.members[0].assignment, (0..PARTITIONS).map(tp).collect::<Vec<_>>());
        assert_eq!(*maps.members[0].member_id, *reader.group_metadata().unwrap().member_id);

        let lag = admin.consumer_group_lag("maps").await.unwrap();
        assert_eq!(
            (lag[&tp(0)].end_offset, lag[&tp(0)].lag, lag[&tp(1)].lag),
            (15, Some(5), Some(0))
        );

        let to_start = [(tp(0), OffsetSpec::Earliest), (tp(1), OffsetSpec::Latest)];
        let refused = admin.reset_consumer_group_offsets("maps", &to_start).await.unwrap();
        let error = refused[&tp(0)].as_ref().unwrap_err();
        assert!(error.to_string().contains("has members"), "{error}");
        let refused = admin.delete_consumer_groups(&["maps"]).await.unwrap();
        assert_eq!(
            refused["maps"].as_ref().unwrap_err().code(),
            Some(ErrorCode::NonEmptyGroup)
        );

        let removed = admin
            .remove_members_from_consumer_group("maps", &[], "tidying up")
            .await;
        match protocol {
            "classic" => assert!(removed.unwrap().values().all(Result::is_ok)),
            // The broker removes only static members by this request.
            _ => drop(removed),
        }
        reader.close(PATIENCE).await;
        offsets_without_members(&stage, &to_start).await;
    }

    /// Once nobody is in the group, its offsets may be changed, and it may be deleted.
    async fn offsets_without_members(stage: &Stage, to_start: &[(TopicPartition, OffsetSpec)]) {
        let admin = &stage.admin;
        let reset = admin.reset_consumer_group_offsets("maps", to_start).await.unwrap();
        assert_eq!(
            (reset[&tp(0)].as_ref().unwrap(), reset[&tp(1)].as_ref().unwrap()),
            (&0, &10)
        );
        let altered = BTreeMap::from([(tp(2), OffsetAndMetadata::new(3).metadata("three"))]);
        let answers = admin.alter_consumer_group_offsets("maps", &altered).await.unwrap();
        assert!(answers[&tp(2)].is_ok());
        let offsets = admin.list_consumer_group_offsets("maps", true).await.unwrap();
        assert_eq!((offsets[&tp(0)].offset, &*offsets[&tp(2)].metadata), (0, "three"));
        let deleted = admin.delete_consumer_group_offsets("maps", &[tp(0)]).await.unwrap();
        assert!(deleted[&tp(0)].is_ok(), "{deleted:?}");
        assert!(!stage.committed("maps").await.contains_key(&0));
        assert!(admin.delete_consumer_groups(&["maps"]).await.unwrap()["maps"].is_ok());
        let described = admin.describe_consumer_groups(&["maps"]).await.unwrap();
        assert!(described["maps"].is_err());
        let nobody = [MemberToRemove::MemberId("nobody".to_owned())];
        let removed = admin.remove_members_from_consumer_group("maps", &nobody, "").await;
        assert!(removed.is_err() || removed.unwrap()["nobody"].is_err());
    }

    pub async fn a_static_member_that_restarts_in_its_session_moves_nothing(kind: Kind, protocol: &'static str) {
        let stage = Stage::start(kind, protocol, "static").await;
        let member = |name| stage.member("maps").group_instance_id(name).topics(["orders"]);
        let generation = |member: &Consumer| member.group_metadata().unwrap().generation_id;
        let mut stays = member("one").build().await.unwrap();
        let mut goes = member("two").build().await.unwrap();
        let mut seen = Vec::new();
        poll_until(&mut [&mut stays, &mut goes], &mut seen, |members, _| {
            members.iter().all(|member| member.assignment().len() == 2)
                && generation(members[0]) == generation(members[1])
        })
        .await;
        let before = (generation(&stays), stays.assignment());
        let left_behind = goes.assignment();
        let closed = goes.close(PATIENCE).await;
        assert!(closed.finished && closed.error.is_none(), "{closed:?}");

        stage.write("orders", PARTITIONS, 0, 1).await;
        let mut back = member("two").build().await.unwrap();
        poll_until(&mut [&mut stays, &mut back], &mut seen, |_, seen| seen.len() == 4).await;
        assert_eq!(back.assignment(), left_behind, "it finds what it had");
        assert_eq!(
            (generation(&stays), stays.assignment()),
            before,
            "nobody else was disturbed"
        );
    }

    pub async fn topics_are_found_by_a_pattern_also_later_ones(kind: Kind, protocol: &'static str) {
        let stage = Stage::start(kind, protocol, "pattern").await;
        stage.create("gps-raw", 1).await;
        stage.write("gps-raw", 1, 0, 3).await;
        stage.write("orders", 1, 0, 3).await;
        let reader = stage
            .member("maps")
            .topic_pattern("gps-.*")
            .set("metadata.max.age.ms", 300);
        let mut reader = reader.build().await.unwrap();
        let mut seen = Vec::new();
        poll_until(&mut [&mut reader], &mut seen, |_, seen| seen.len() == 3).await;
        assert_eq!(reader.assignment(), [TopicPartition::new("gps-raw", 0)]);
        stage.create("gps-clean", 2).await;
        stage.write("gps-clean", 2, 0, 2).await;
        poll_until(&mut [&mut reader], &mut seen, |_, seen| seen.len() == 7).await;
        assert_eq!(reader.assignment().len(), 3);
        reader.unsubscribe().await.unwrap();
        assert!(reader.assignment().is_empty());
        reader.subscribe(["orders"]).unwrap();
        poll_until(&mut [&mut reader], &mut seen, |_, seen| seen.len() == 10).await;
    }

    /// What a listener was told.
    type Told = Arc<Mutex<Vec<(&'static str, Vec<i32>)>>>;

    struct Listener {
        told: Told,
    }

    impl RebalanceListener for Listener {
        fn on_partitions_assigned(&self, rebalance: &Rebalance<'_>) {
            for partition in rebalance.partitions() {
                rebalance.seek(partition, 7).unwrap();
            }
            note(&self.told, "assigned", rebalance.partitions());
        }

        fn on_partitions_revoked(&self, rebalance: &Rebalance<'_>) {
            for partition in rebalance.partitions() {
                rebalance.commit(partition, 5).unwrap();
            }
            note(&self.told, "revoked", rebalance.partitions());
        }
    }

    fn note(told: &Told, what: &'static str, partitions: &[TopicPartition]) {
        let indexes = partitions.iter().map(|partition| partition.partition).collect();
        told.lock().unwrap().push((what, indexes));
    }

    pub async fn a_listener_is_told_of_partitions_that_come_and_go(kind: Kind, protocol: &'static str) {
        let stage = Stage::start(kind, protocol, "listener").await;
        stage.write("orders", PARTITIONS, 0, 10).await;
        let told = Told::default();
        let listener = Listener { told: told.clone() };
        let reader = stage.member("maps").topics(["orders"]).enable_auto_commit(false);
        let mut reader = reader.rebalance_listener(listener).build().await.unwrap();
        let mut seen = Vec::new();
        poll_until(&mut [&mut reader], &mut seen, |_, seen| seen.len() == 12).await;
        assert!(
            seen.iter().all(|value| value[2..].parse::<i64>().unwrap() >= 7),
            "{seen:?}"
        );
        assert!(reader.close(PATIENCE).await.finished);
        let all = vec![0, 1, 2, 3];
        let filled: Vec<_> = told
            .lock()
            .unwrap()
            .iter()
            .filter(|(_, indexes)| !indexes.is_empty())
            .cloned()
            .collect();
        assert_eq!(filled, [("assigned", all.clone()), ("revoked", all)]);
        let five: BTreeMap<i32, i64> = (0..PARTITIONS).map(|partition| (partition, 5)).collect();
        assert_eq!(
            stage.committed("maps").await,
            five,
            "what the listener named is committed before it is let go"
        );
    }

    pub async fn an_application_that_takes_events_lets_go_when_it_is_done(kind: Kind, protocol: &'static str) {
        let stage = Stage::start(kind, protocol, "events").await;
        stage.write("orders", PARTITIONS, 0, 10).await;
        let slow = stage.member("maps").topics(["orders"]).rebalance_events(true);
        let mut slow = slow.set("enable.auto.offset.store", false).build().await.unwrap();
        let mut handed = 0;
        let mut assigned = false;
        while handed < 40 {
            let records = tokio::time::timeout(PATIENCE, slow.poll())
                .await
                .unwrap()
                .unwrap()
                .unwrap();
            assert!(
                assigned || records.is_empty(),
                "no record before the application knows of the partition"
            );
            handed += records.len();
            while let Some(event) = slow.try_event() {
                assigned |= matches!(event, ConsumerEvent::Assigned(_));
            }
        }
        let mut other = stage.member("maps").topics(["orders"]).build().await.unwrap();
        let mut seen = Vec::new();
        let mut revoked = Vec::new();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while revoked.is_empty() {
            assert!(tokio::time::Instant::now() < deadline, "{:#?}", slow.health());
            slow.poll_timeout(Duration::from_millis(20)).await.unwrap();
            if let Some(ConsumerEvent::Revoked(partitions)) = slow.try_event() {
                revoked = partitions;
            }
            poll_until(&mut [&mut other], &mut seen, |_, _| true).await;
        }
        for _ in 0..20 {
            let records = other.poll_timeout(Duration::from_millis(20)).await.unwrap().unwrap();
            assert!(
                records.is_empty(),
                "the partitions are not given away before the application is done"
            );
        }
        slow.store_offsets(revoked.iter().map(|partition| (partition.clone(), 6)))
            .unwrap();
        slow.acknowledge_revocation().unwrap();
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while other.assignment().len() != 2 || seen.len() < 8 {
            assert!(
                tokio::time::Instant::now() < deadline,
                "seen {seen:?}, {:#?}",
                other.health()
            );
            slow.poll_timeout(Duration::from_millis(20)).await.unwrap();
            while let Some(event) = slow.try_event() {
                if let ConsumerEvent::Revoked(_) = event {
                    slow.acknowledge_revocation().unwrap();
                }
            }
            let records = other.poll_timeout(Duration::from_millis(20)).await.unwrap().unwrap();
            seen.extend(records.iter().map(|record| record.offset().to_string()));
        }
        seen.sort();
        assert_eq!(
            seen,
            ["6", "6", "7", "7", "8", "8", "9", "9"],
            "it goes on where the first one was done"
        );
    }
}
