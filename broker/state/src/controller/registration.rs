//! Brokers come and come back.
//!
//! A registration gives the broker a new epoch. All partitions it leads get a new leader epoch: what the process before
//! it had not yet written to its disk is lost, and a client that read it must be able to notice (KIP-320).

use super::{ClusterImage, FEATURES};
use ottla_protocol::Uuid;
use ottla_protocol::internal::metadata::MetadataRecord;
use ottla_protocol::internal::register_broker_record::{BrokerEndpoint, BrokerFeature};
use ottla_protocol::internal::{FeatureLevelRecord, PartitionChangeRecord, RegisterBrokerRecord};

/// What a broker says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration<'a> {
    /// Its node id.
    pub id: i32,
    /// Drawn anew by every process.
    pub incarnation_id: Uuid,
    /// Name, host and port of each listener.
    pub listeners: Vec<(&'a str, &'a str, u16)>,
    /// The rack it stands in.
    pub rack: Option<&'a str>,
    /// The ids of its data directories.
    pub log_dirs: Vec<Uuid>,
}

/// The records of the features that this broker has and the cluster has no level of yet.
pub fn bootstrap(image: &ClusterImage) -> Vec<MetadataRecord<'static>> {
    // A cluster that an earlier version of this broker has made learns what was added since.
    let missing = FEATURES
        .iter()
        .filter(|feature| !image.features().contains_key(feature.name));
    missing
        .map(|feature| {
            MetadataRecord::FeatureLevel(FeatureLevelRecord {
                name: feature.name,
                feature_level: feature.max_level,
            })
        })
        .collect()
}

/// The record of a registration that is in force at once, for the only broker of a cluster. `epoch` is the offset the
/// record will have.
pub fn register<'a>(registration: &Registration<'a>, epoch: i64) -> MetadataRecord<'a> {
    let end_point = |&(name, host, port): &(&'a str, &'a str, u16)| BrokerEndpoint {
        name,
        host,
        port,
        // PLAINTEXT
        security_protocol: 0,
    };
    MetadataRecord::RegisterBroker(RegisterBrokerRecord {
        broker_id: registration.id,
        incarnation_id: registration.incarnation_id,
        broker_epoch: epoch,
        end_points: registration.listeners.iter().map(end_point).collect(),
        features: FEATURES
            .iter()
            .map(|feature| BrokerFeature {
                name: feature.name,
                min_supported_version: feature.min_level,
                max_supported_version: feature.max_level,
            })
            .collect(),
        rack: registration.rack,
        fenced: false,
        log_dirs: registration.log_dirs.clone(),
        ..RegisterBrokerRecord::default()
    })
}

/// The records that make `broker` leader again, with a new leader epoch, of every partition that only it can lead.
pub fn take_leadership(image: &ClusterImage, broker: i32) -> Vec<MetadataRecord<'static>> {
    let mut records = Vec::new();
    for topic in image.topics() {
        for (index, partition) in (0..).zip(&topic.partitions) {
            let in_sync = partition.isr.contains(&broker);
            if in_sync && (partition.leader == Some(broker) || partition.leader.is_none()) {
                records.push(MetadataRecord::PartitionChange(PartitionChangeRecord {
                    partition_id: index,
                    topic_id: topic.id,
                    leader: broker,
                    ..PartitionChangeRecord::default()
                }));
            }
        }
    }
    records
}

#[cfg(test)]
mod tests {
    use super::super::METADATA_VERSION;
    use super::super::tests::{apply, cluster, topic};
    use super::*;

    #[test]
    fn a_new_cluster_begins_with_the_features_of_its_broker() {
        let mut image = ClusterImage::new("c");
        let records = bootstrap(&image);
        assert_eq!(records.len(), 2);
        apply(&mut image, &records);
        assert_eq!(image.features().get("metadata.version"), Some(&METADATA_VERSION));
        assert_eq!(image.features().get("group.version"), Some(&1));
        assert!(bootstrap(&image).is_empty());
    }

    #[test]
    fn a_cluster_of_an_earlier_version_learns_what_was_added() {
        let mut image = ClusterImage::new("c");
        let earlier = bootstrap(&image);
        apply(&mut image, &earlier[..1]);
        let names: Vec<_> = bootstrap(&image)
            .into_iter()
            .map(|record| match record {
                MetadataRecord::FeatureLevel(feature) => feature.name,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(names, ["group.version"]);
    }

    #[test]
    fn a_broker_that_comes_back_leads_with_new_epochs() {
        let mut image = cluster(2);
        topic(&mut image, "t", 4, 1);
        let before = image.topic("t").unwrap().clone();
        let records = take_leadership(&image, 1);
        apply(&mut image, &records);
        for (was, is) in before.partitions.iter().zip(&image.topic("t").unwrap().partitions) {
            let mine = was.leader == Some(1);
            assert_eq!(is.leader, was.leader);
            assert_eq!(is.leader_epoch, was.leader_epoch + i32::from(mine));
            assert_eq!(is.partition_epoch, was.partition_epoch + i32::from(mine));
        }
        assert_eq!(records.len(), 2);
    }

    #[test]
    fn a_registration_is_found_again_in_the_image() {
        let mut image = ClusterImage::new("c");
        let registration = Registration {
            id: 4,
            incarnation_id: Uuid([1; 16]),
            listeners: vec![("PLAINTEXT", "example.org", 9092)],
            rack: Some("r"),
            log_dirs: vec![Uuid([2; 16])],
        };
        apply(&mut image, &[register(&registration, 17)]);
        let broker = image.broker(4).unwrap();
        assert_eq!(
            (broker.epoch, broker.rack.as_deref(), broker.is_active()),
            (17, Some("r"), true)
        );
        assert_eq!(broker.listener("PLAINTEXT").unwrap().host, "example.org");
        assert!(broker.listener("OTHER").is_none());
    }
}
