pub(crate) mod fixtures;

use super::*;
use crate::log::ManagerConfig;
use crate::log::disk::RealDisk;
use ottla_broker_state::controller::configs::{Alteration, Operation};
use std::path::Path;

struct Opened {
    controller: Controller,
    _logs: LogManager,
}

fn open(dir: &Path) -> Opened {
    let logs = LogManager::open(Arc::new(RealDisk), ManagerConfig::new(vec![dir.to_owned()], 1)).unwrap();
    let config = BrokerConfig::from_pairs([("num.partitions", "3")]).unwrap();
    let controller = Controller::open(Arc::new(config), &logs, 0).unwrap();
    Opened {
        controller,
        _logs: logs,
    }
}

async fn registered(dir: &Path) -> Opened {
    let opened = open(dir);
    let advertised = [Listener {
        name: "PLAINTEXT".into(),
        host: "localhost".into(),
        port: 4711,
    }];
    opened
        .controller
        .register(&advertised, vec![Uuid([5; 16])])
        .await
        .unwrap();
    opened
}

fn wish(name: &str) -> NewTopic<'_> {
    NewTopic {
        name,
        partitions: -1,
        replication_factor: -1,
        ..NewTopic::default()
    }
}

#[tokio::test]
async fn a_new_cluster_registers_its_broker_under_the_offset_of_the_record() {
    let dir = tempfile::tempdir().unwrap();
    let opened = registered(dir.path()).await;
    let image = opened.controller.image();
    let broker = image.broker(1).unwrap();
    // 0 leader change, 1 and 2 feature levels, 3 registration.
    assert_eq!((broker.epoch, image.offset()), (3, 3));
    assert_eq!(broker.listener("PLAINTEXT").unwrap().port, 4711);
    assert_eq!(image.features().len(), 2);
}

#[tokio::test]
async fn every_start_gives_partitions_a_new_leader_epoch() {
    let dir = tempfile::tempdir().unwrap();
    {
        let opened = registered(dir.path()).await;
        let created = opened.controller.create_topics(&[wish("t")], false, 60_000).await;
        assert_eq!(created[0].as_ref().unwrap().partitions, 3);
    }
    let opened = registered(dir.path()).await;
    let image = opened.controller.image();
    let topic = image.topic("t").unwrap();
    assert!(
        topic
            .partitions
            .iter()
            .all(|partition| (partition.leader, partition.leader_epoch) == (Some(1), 1))
    );
    assert!(image.broker(1).unwrap().epoch > 2);
}

#[tokio::test]
async fn validate_only_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let opened = registered(dir.path()).await;
    let controller = &opened.controller;
    let before = controller.image().offset();
    assert!(controller.create_topics(&[wish("t")], true, 60_000).await[0].is_ok());
    assert_eq!(controller.image().offset(), before);
    controller.create_topics(&[wish("t")], false, 60_000).await;
    let before = controller.image().offset();
    let more = MorePartitions {
        topic: "t",
        count: 5,
        assignments: None,
    };
    assert!(
        controller
            .create_partitions(std::slice::from_ref(&more), true, 60_000)
            .await[0]
            .is_ok()
    );
    let set = Alteration {
        name: "retention.ms",
        operation: Operation::Set,
        value: Some("5"),
    };
    let wish = TopicAlterations {
        topic: "t",
        alterations: vec![set],
    };
    assert!(controller.alter_topic_configs(std::slice::from_ref(&wish), true).await[0].is_ok());
    assert_eq!(controller.image().offset(), before);
    assert!(controller.create_partitions(&[more], false, 0).await[0].is_ok());
    assert!(controller.alter_topic_configs(&[wish], false).await[0].is_ok());
    let image = controller.image();
    assert_eq!(image.topic("t").unwrap().partitions.len(), 5);
    assert_eq!(
        controller
            .topic_config(&image, "t")
            .log_config(&controller.config)
            .retention_ms,
        5
    );
}

#[tokio::test]
async fn a_topic_that_is_deleted_and_created_again_has_another_id() {
    let dir = tempfile::tempdir().unwrap();
    let opened = registered(dir.path()).await;
    let controller = &opened.controller;
    let first = controller.create_topics(&[wish("t")], false, 60_000).await[0]
        .clone()
        .unwrap()
        .id;
    assert_eq!(
        controller
            .delete_topics(&[first, Uuid([9; 16])], 60_000)
            .await
            .iter()
            .filter(|result| result.is_ok())
            .count(),
        1
    );
    assert_eq!(controller.image().topic_count(), 0);
    let second = controller.create_topics(&[wish("t")], false, 60_000).await[0]
        .clone()
        .unwrap()
        .id;
    assert_ne!(first, second);
}

#[tokio::test]
async fn concurrent_creations_of_one_topic_succeed_once() {
    let dir = tempfile::tempdir().unwrap();
    let opened = Arc::new(registered(dir.path()).await);
    let create = || {
        let opened = opened.clone();
        tokio::spawn(async move {
            opened
                .controller
                .create_topics(&[wish("t")], false, 60_000)
                .await
                .remove(0)
        })
    };
    let tasks: Vec<_> = (0..8).map(|_| create()).collect();
    let mut created = 0;
    for task in tasks {
        match task.await.unwrap() {
            Ok(_) => created += 1,
            Err(error) => assert_eq!(error.code, ErrorCode::TopicAlreadyExists),
        }
    }
    assert_eq!(created, 1);
}

#[tokio::test]
async fn producer_ids_are_never_given_twice_not_even_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..3 {
        let opened = registered(dir.path()).await;
        for _ in 0..1001 {
            assert!(seen.insert(opened.controller.next_producer_id().await.unwrap()));
        }
    }
}

#[tokio::test]
async fn a_configuration_that_is_not_allowed_any_more_is_left_out() {
    let dir = tempfile::tempdir().unwrap();
    let opened = registered(dir.path()).await;
    let mut overrides = BTreeMap::new();
    overrides.insert("cleanup.policy".to_owned(), "shred".to_owned());
    overrides.insert("retention.ms".to_owned(), "7".to_owned());
    let kept = TopicConfig::lenient(&opened.controller.config, &overrides, "t").log_config(&opened.controller.config);
    assert_eq!((kept.compact, kept.delete, kept.retention_ms), (false, true, 7));
}
