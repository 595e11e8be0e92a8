//! Small clusters for the tests of this room. Every record passes through its encoding on the way to the image.

use super::partitions::partition_record;
use super::registration::{Registration, register};
use super::topics::{NewTopic, TopicRules, create_topics};
use super::{Change, ClusterImage, placement};
use ottla_protocol::Uuid;
use ottla_protocol::internal::metadata::{self, MetadataRecord};
use rand::SeedableRng;
use rand::rngs::StdRng;

/// Applies `records` as a reader of the log would, and says what changed.
pub fn apply(image: &mut ClusterImage, records: &[MetadataRecord<'_>]) -> Vec<Change> {
    let mut changes = Vec::new();
    for record in records {
        let bytes = metadata::encode(record, record.max_version()).unwrap();
        let (decoded, _) = metadata::decode(&bytes).unwrap();
        assert_eq!(&decoded, record);
        image.apply(&decoded, &mut changes).unwrap();
    }
    changes
}

/// A cluster of the brokers 1 to `brokers`.
pub fn cluster(brokers: i32) -> ClusterImage {
    let mut image = ClusterImage::new("cluster");
    for id in 1..=brokers {
        let registration = Registration {
            id,
            incarnation_id: Uuid([1; 16]),
            listeners: vec![("PLAINTEXT", "localhost", 9092)],
            rack: None,
            log_dirs: vec![Uuid([7; 16])],
        };
        apply(&mut image, &[register(&registration, i64::from(id))]);
    }
    image
}

/// Adds a topic.
pub fn topic(image: &mut ClusterImage, name: &str, partitions: i32, replication_factor: i16) {
    let rules = TopicRules {
        num_partitions: 1,
        replication_factor: 1,
        check_config: &|_, _| Ok(()),
    };
    let wish = NewTopic {
        name,
        partitions,
        replication_factor,
        ..NewTopic::default()
    };
    let (records, results) = create_topics(image, &[wish], &rules, &mut StdRng::seed_from_u64(3));
    results[0].clone().unwrap();
    apply(image, &records);
}

#[test]
fn a_partition_of_fenced_brokers_cannot_be_created() {
    let mut image = cluster(1);
    let fence = ottla_protocol::internal::FenceBrokerRecord { id: 1, epoch: 1 };
    apply(&mut image, &[MetadataRecord::FenceBroker(fence)]);
    assert!(partition_record(&image, Uuid([1; 16]), 0, vec![1]).is_err());
    assert!(!placement::candidates(&image)[0].active);
}
