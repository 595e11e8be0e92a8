//! Records come back as they were written, and damaged ones are told.

use super::*;

fn back(record: &GroupRecord) -> GroupRecord {
    let (key, value) = record.encode().unwrap();
    GroupRecord::decode(&key, value.as_deref()).unwrap().unwrap()
}

fn consumer(part: ConsumerPart) -> GroupRecord {
    GroupRecord::Consumer {
        group: "g".into(),
        part,
    }
}

fn offset(expire_timestamp: Option<i64>) -> CommittedOffset {
    CommittedOffset {
        offset: 42,
        leader_epoch: if expire_timestamp.is_some() { -1 } else { 7 },
        metadata: "words".into(),
        commit_timestamp: 1_000,
        expire_timestamp,
        topic_id: Uuid::from_u128(if expire_timestamp.is_some() { 0 } else { 9 }),
    }
}

fn partitions(epochs: bool) -> Vec<TopicPartitions> {
    vec![TopicPartitions {
        topic_id: Uuid::from_u128(5),
        partitions: vec![0, 3],
        assignment_epochs: epochs.then(|| vec![1, 2]),
    }]
}

fn classic() -> ClassicValue {
    ClassicValue {
        protocol_type: "consumer".into(),
        generation: 3,
        protocol: Some("range".into()),
        leader: Some("m".into()),
        state_timestamp: 99,
        members: vec![ClassicMemberValue {
            member_id: "m".into(),
            instance_id: Some("i".into()),
            client_id: "c".into(),
            client_host: "/127.0.0.1".into(),
            rebalance_timeout_ms: 300_000,
            session_timeout_ms: 45_000,
            subscription: Bytes::from_static(b"topics"),
            assignment: Bytes::from_static(b"partitions"),
        }],
    }
}

fn member() -> ConsumerMemberValue {
    ConsumerMemberValue {
        instance_id: None,
        rack_id: Some("r".into()),
        client_id: "c".into(),
        client_host: "/127.0.0.1".into(),
        subscribed_topic_names: vec!["t".into()],
        subscribed_topic_regex: Some("t.*".into()),
        rebalance_timeout_ms: 5,
        server_assignor: Some("uniform".into()),
        classic: Some(ClassicMemberMetadata {
            session_timeout_ms: 6,
            protocols: vec![("range".into(), Bytes::from_static(b"topics"))],
        }),
    }
}

fn of_every_kind() -> Vec<GroupRecord> {
    let member_id: Arc<str> = "m".into();
    let offset_record = |value| GroupRecord::Offset {
        group: "g".into(),
        topic: "t".into(),
        partition: 3,
        value,
    };
    vec![
        offset_record(Some(offset(None))),
        offset_record(Some(offset(Some(5_000)))),
        offset_record(None),
        GroupRecord::Classic {
            group: "g".into(),
            value: Some(classic()),
        },
        GroupRecord::Classic {
            group: "g".into(),
            value: None,
        },
        consumer(ConsumerPart::Group(Some(ConsumerGroupValue {
            epoch: 4,
            metadata_hash: 77,
        }))),
        consumer(ConsumerPart::Group(None)),
        consumer(ConsumerPart::PartitionMetadata { tombstone: true }),
        consumer(ConsumerPart::Member {
            member_id: member_id.clone(),
            value: Some(member()),
        }),
        consumer(ConsumerPart::TargetEpoch(Some(TargetEpochValue {
            assignment_epoch: 4,
            assignment_timestamp: 88,
        }))),
        consumer(ConsumerPart::TargetMember {
            member_id: member_id.clone(),
            value: Some(partitions(false)),
        }),
        consumer(ConsumerPart::CurrentAssignment {
            member_id,
            value: Some(CurrentAssignmentValue {
                member_epoch: 4,
                previous_member_epoch: 3,
                state: 1,
                assigned: partitions(true),
                pending_revocation: partitions(false),
            }),
        }),
        consumer(ConsumerPart::RegularExpression {
            regex: "t.*".into(),
            value: Some(RegularExpressionValue {
                topics: vec!["t1".into(), "t2".into()],
                version: 12,
                timestamp: 13,
            }),
        }),
    ]
}

#[test]
fn every_kind_of_record_comes_back_as_it_was_written() {
    for record in of_every_kind() {
        assert_eq!(back(&record), record);
        assert_eq!(&**record.group(), "g");
    }
}

#[test]
fn an_offset_with_its_own_retention_is_written_in_the_version_that_knows_it() {
    let version = |expires| {
        let record = GroupRecord::Offset {
            group: "g".into(),
            topic: "t".into(),
            partition: 0,
            value: Some(offset(expires)),
        };
        let (_, value) = record.encode().unwrap();
        value.unwrap()[..2].to_vec()
    };
    assert_eq!(version(None), [0, 4]);
    assert_eq!(version(Some(1)), [0, 1]);
}

#[test]
fn unknown_kinds_are_skipped_and_damaged_ones_are_told() {
    for kind in [10_i16, 11, 17, 99, -1] {
        assert_eq!(GroupRecord::decode(&kind.to_be_bytes(), Some(b"?")).unwrap(), None);
    }
    assert!(GroupRecord::decode(&[], None).is_err());
    for record in of_every_kind() {
        let (key, value) = record.encode().unwrap();
        for cut in 2..key.len() {
            assert!(
                GroupRecord::decode(&key[..cut], value.as_deref()).is_err(),
                "{record:?}"
            );
        }
        let Some(value) = value else { continue };
        for cut in 0..value.len() {
            // A tagged field may be cut to none; nothing may panic.
            let _ = GroupRecord::decode(&key, Some(&value[..cut]));
        }
        assert!(GroupRecord::decode(&key, Some(&value[..2])).is_err(), "{record:?}");
    }
}
