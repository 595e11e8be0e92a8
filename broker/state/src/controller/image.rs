//! The cluster as the committed metadata records describe it.
//!
//! In: metadata records in the order of the log. Out: topics, partitions, brokers, configurations, features and the next
//! producer id, and a list of what each record changed. An image is immutable once it is shared; its large parts are
//! shared between one image and the next.
//! It refuses a record that contradicts what it knows, and records of features that this broker does not have: a log that
//! holds them was written by somebody else, and obeying half of it would be worse than stopping.

use ottla_protocol::Uuid;
use ottla_protocol::internal::metadata::MetadataRecord;
use ottla_protocol::internal::{
    BrokerRegistrationChangeRecord, ConfigRecord, PartitionChangeRecord, PartitionRecord, RegisterBrokerRecord,
};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What is configured: the number is the one of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigResource {
    /// A topic (2), by name.
    Topic(Arc<str>),
    /// A broker (4), by number; an empty name stands for all of them.
    Broker(Arc<str>),
    /// Another kind, by number and name. Kept, not obeyed.
    Other(i8, Arc<str>),
}

impl ConfigResource {
    /// The resource with this number and name.
    pub fn new(kind: i8, name: &str) -> ConfigResource {
        match kind {
            2 => ConfigResource::Topic(name.into()),
            4 => ConfigResource::Broker(name.into()),
            other => ConfigResource::Other(other, name.into()),
        }
    }
}

/// A registered broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BrokerImage {
    /// Its node id.
    pub id: i32,
    /// Grows with every registration: the offset of its record.
    pub epoch: i64,
    /// Drawn anew by every process.
    pub incarnation_id: Uuid,
    /// Its addresses by listener name, in the order of registration.
    pub listeners: Vec<ListenerImage>,
    /// The rack it stands in.
    pub rack: Option<String>,
    /// A fenced broker leads nothing.
    pub fenced: bool,
    /// It is about to stop, and gives its leaderships away.
    pub in_controlled_shutdown: bool,
    /// The ids of its data directories.
    pub log_dirs: Vec<Uuid>,
}

impl BrokerImage {
    /// True for a broker that may lead and gets new replicas.
    pub fn is_active(&self) -> bool {
        !self.fenced && !self.in_controlled_shutdown
    }

    /// The address of the listener called `name`.
    pub fn listener(&self, name: &str) -> Option<&ListenerImage> {
        self.listeners.iter().find(|listener| listener.name == name)
    }
}

/// One address of a broker.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ListenerImage {
    /// The listener's name.
    pub name: String,
    /// The host that clients are told.
    pub host: String,
    /// The port that clients are told.
    pub port: u16,
}

/// A topic and its partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicImage {
    /// Its name.
    pub name: Arc<str>,
    /// Its id: a topic that is deleted and created again has another.
    pub id: Uuid,
    /// The partitions, by number.
    pub partitions: Vec<PartitionImage>,
}

impl TopicImage {
    /// The partition with this number.
    pub fn partition(&self, index: i32) -> Option<&PartitionImage> {
        self.partitions.get(usize::try_from(index).ok()?)
    }
}

/// What the controller has decided about a partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartitionImage {
    /// All brokers that hold a replica, preferred leader first.
    pub replicas: Vec<i32>,
    /// The data directory of each replica.
    pub directories: Vec<Uuid>,
    /// The in-sync replicas.
    pub isr: Vec<i32>,
    /// Replicas on their way out.
    pub removing_replicas: Vec<i32>,
    /// Replicas on their way in.
    pub adding_replicas: Vec<i32>,
    /// The broker that leads; `None` while no replica can.
    pub leader: Option<i32>,
    /// Grows with every election.
    pub leader_epoch: i32,
    /// Grows with every change.
    pub partition_epoch: i32,
    /// True after an unclean election, until the leader has recovered.
    pub recovering: bool,
    /// Replicas outside the ISR that are known to hold everything committed (KIP-966).
    pub eligible_leader_replicas: Vec<i32>,
    /// The last members of ISR and ELR, when both are empty (KIP-966).
    pub last_known_elr: Vec<i32>,
}

/// One thing that a record changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A topic came into being; its partitions follow as [`Change::PartitionCreated`].
    TopicCreated {
        /// Its name.
        topic: Arc<str>,
        /// Its id.
        id: Uuid,
    },
    /// A topic is gone, with its partitions and its configuration.
    TopicDeleted {
        /// What it was.
        topic: Arc<TopicImage>,
    },
    /// A partition came into being.
    PartitionCreated {
        /// Its topic.
        topic: Arc<str>,
        /// Its number.
        partition: i32,
    },
    /// Leader, replicas or ISR of a partition changed.
    PartitionChanged {
        /// Its topic.
        topic: Arc<str>,
        /// Its number.
        partition: i32,
    },
    /// A configuration changed.
    ConfigChanged {
        /// Of this resource.
        resource: ConfigResource,
    },
    /// A broker registered, or its state changed.
    BrokerChanged {
        /// Its node id.
        id: i32,
    },
    /// A broker is gone for good.
    BrokerRemoved {
        /// Its node id.
        id: i32,
    },
    /// The level of a feature changed.
    FeatureChanged {
        /// Its name.
        name: String,
    },
    /// Producer ids were handed out.
    ProducerIds {
        /// The first that is still free.
        next: i64,
    },
}

/// A record that cannot be applied: the log is not ours, or it is damaged.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ImageError {
    /// The record belongs to a feature that this broker does not have.
    #[error("{record} belongs to a feature that is not available")]
    Unsupported {
        /// The record's name.
        record: &'static str,
    },
    /// The record names a topic that does not exist.
    #[error("{record} names the unknown topic {id}")]
    UnknownTopic {
        /// The record's name.
        record: &'static str,
        /// The topic's id.
        id: Uuid,
    },
    /// The record names a partition that does not exist, or leaves a gap before a new one.
    #[error("{record} names partition {partition} of {topic}, which has {count} partitions")]
    UnknownPartition {
        /// The record's name.
        record: &'static str,
        /// The topic's name.
        topic: Arc<str>,
        /// The partition's number.
        partition: i32,
        /// How many partitions there are.
        count: usize,
    },
    /// The record names a broker that is not registered.
    #[error("{record} names broker {id}, which is not registered")]
    UnknownBroker {
        /// The record's name.
        record: &'static str,
        /// The broker's node id.
        id: i32,
    },
    /// A topic with this name exists already.
    #[error("TopicRecord names {name}, which exists already")]
    TopicExists {
        /// The topic's name.
        name: Arc<str>,
    },
}

/// The cluster, at one offset of the metadata log. See the head of this file.
#[derive(Debug, Clone, Default)]
pub struct ClusterImage {
    cluster_id: Arc<str>,
    features: BTreeMap<String, i16>,
    brokers: BTreeMap<i32, Arc<BrokerImage>>,
    topics: BTreeMap<Arc<str>, Arc<TopicImage>>,
    names: HashMap<Uuid, Arc<str>>,
    configs: BTreeMap<ConfigResource, Arc<BTreeMap<String, String>>>,
    next_producer_id: i64,
    next_offset: i64,
}

impl ClusterImage {
    /// A cluster without anything in it.
    pub fn new(cluster_id: &str) -> ClusterImage {
        ClusterImage {
            cluster_id: cluster_id.into(),
            ..ClusterImage::default()
        }
    }

    /// The offset of the last record of the metadata log that this image knows; -1 if it knows none.
    pub fn offset(&self) -> i64 {
        self.next_offset - 1
    }

    /// Notes that the metadata log is applied up to `next_offset`, exclusive.
    pub fn advance_to(&mut self, next_offset: i64) {
        self.next_offset = self.next_offset.max(next_offset);
    }

    /// The id of the cluster.
    pub fn cluster_id(&self) -> &str {
        &self.cluster_id
    }

    /// The finalized level of each feature.
    pub fn features(&self) -> &BTreeMap<String, i16> {
        &self.features
    }

    /// The registered brokers, by node id.
    pub fn brokers(&self) -> impl Iterator<Item = &Arc<BrokerImage>> {
        self.brokers.values()
    }

    /// One broker.
    pub fn broker(&self, id: i32) -> Option<&Arc<BrokerImage>> {
        self.brokers.get(&id)
    }

    /// All topics, by name.
    pub fn topics(&self) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics.values()
    }

    /// The topics whose names are `first` or come after it.
    pub fn topics_from(&self, first: &str) -> impl Iterator<Item = &Arc<TopicImage>> {
        self.topics
            .range::<str, _>((std::ops::Bound::Included(first), std::ops::Bound::Unbounded))
            .map(|(_, topic)| topic)
    }

    /// How many topics there are.
    pub fn topic_count(&self) -> usize {
        self.topics.len()
    }

    /// The topic called `name`.
    pub fn topic(&self, name: &str) -> Option<&Arc<TopicImage>> {
        self.topics.get(name)
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: Uuid) -> Option<&Arc<TopicImage>> {
        self.topics.get(self.names.get(&id)?)
    }

    /// One partition, by the name of its topic.
    pub fn partition(&self, topic: &str, partition: i32) -> Option<&PartitionImage> {
        self.topic(topic)?.partition(partition)
    }

    /// What is configured for `resource`; empty where nothing is.
    pub fn config(&self, resource: &ConfigResource) -> Arc<BTreeMap<String, String>> {
        self.configs.get(resource).cloned().unwrap_or_default()
    }

    /// What is configured for the topic called `name`.
    pub fn topic_config(&self, name: &str) -> Arc<BTreeMap<String, String>> {
        self.config(&ConfigResource::Topic(name.into()))
    }

    /// The first producer id that was never handed out.
    pub fn next_producer_id(&self) -> i64 {
        self.next_producer_id
    }

    /// Applies one committed record and notes in `changes` what it changed.
    ///
    /// # Errors
    /// The record contradicts the image or is not supported; nothing of it was applied.
    pub fn apply(&mut self, record: &MetadataRecord<'_>, changes: &mut Vec<Change>) -> Result<(), ImageError> {
        match record {
            MetadataRecord::FeatureLevel(record) => {
                self.features.insert(record.name.to_owned(), record.feature_level);
                // Level 0 means that the feature is off.
                self.features.retain(|_, level| *level != 0);
                changes.push(Change::FeatureChanged {
                    name: record.name.to_owned(),
                });
            }
            MetadataRecord::RegisterBroker(record) => self.register_broker(record, changes),
            MetadataRecord::BrokerRegistrationChange(record) => self.change_broker(record, changes)?,
            MetadataRecord::FenceBroker(record) => self.set_fenced("FenceBrokerRecord", record.id, true, changes)?,
            MetadataRecord::UnfenceBroker(record) => {
                self.set_fenced("UnfenceBrokerRecord", record.id, false, changes)?;
            }
            MetadataRecord::UnregisterBroker(record) => {
                let id = record.broker_id;
                self.brokers.remove(&id).ok_or(ImageError::UnknownBroker {
                    record: "UnregisterBrokerRecord",
                    id,
                })?;
                changes.push(Change::BrokerRemoved { id });
            }
            MetadataRecord::Topic(record) => self.create_topic(record.name, record.topic_id, changes)?,
            MetadataRecord::RemoveTopic(record) => self.remove_topic(record.topic_id, changes)?,
            MetadataRecord::Partition(record) => self.create_partition(record, changes)?,
            MetadataRecord::PartitionChange(record) => self.change_partition(record, changes)?,
            MetadataRecord::Config(record) => self.configure(record, changes),
            MetadataRecord::ProducerIds(record) => {
                self.next_producer_id = record.next_producer_id;
                changes.push(Change::ProducerIds {
                    next: record.next_producer_id,
                });
            }
            // They carry nothing that a cluster without ZooKeeper, and with one voter, could act upon.
            MetadataRecord::NoOp(_) | MetadataRecord::ZkMigrationState(_) | MetadataRecord::RegisterController(_) => {}
            other => {
                return Err(ImageError::Unsupported {
                    record: record_name(other),
                });
            }
        }
        Ok(())
    }

    fn register_broker(&mut self, record: &RegisterBrokerRecord<'_>, changes: &mut Vec<Change>) {
        let listener =
            |end_point: &ottla_protocol::internal::register_broker_record::BrokerEndpoint<'_>| ListenerImage {
                name: end_point.name.to_owned(),
                host: end_point.host.to_owned(),
                port: end_point.port,
            };
        let broker = BrokerImage {
            id: record.broker_id,
            epoch: record.broker_epoch,
            incarnation_id: record.incarnation_id,
            listeners: record.end_points.iter().map(listener).collect(),
            rack: record.rack.map(str::to_owned),
            fenced: record.fenced,
            in_controlled_shutdown: record.in_controlled_shutdown,
            log_dirs: record.log_dirs.clone(),
        };
        self.brokers.insert(broker.id, Arc::new(broker));
        changes.push(Change::BrokerChanged { id: record.broker_id });
    }

    fn broker_mut(&mut self, record: &'static str, id: i32) -> Result<&mut BrokerImage, ImageError> {
        self.brokers
            .get_mut(&id)
            .map(Arc::make_mut)
            .ok_or(ImageError::UnknownBroker { record, id })
    }

    fn change_broker(
        &mut self,
        record: &BrokerRegistrationChangeRecord,
        changes: &mut Vec<Change>,
    ) -> Result<(), ImageError> {
        let broker = self.broker_mut("BrokerRegistrationChangeRecord", record.broker_id)?;
        match record.fenced {
            -1 => broker.fenced = false,
            1 => broker.fenced = true,
            _ => {}
        }
        if record.in_controlled_shutdown == 1 {
            broker.in_controlled_shutdown = true;
        }
        if !record.log_dirs.is_empty() {
            broker.log_dirs.clone_from(&record.log_dirs);
        }
        changes.push(Change::BrokerChanged { id: record.broker_id });
        Ok(())
    }

    fn set_fenced(
        &mut self,
        record: &'static str,
        id: i32,
        fenced: bool,
        changes: &mut Vec<Change>,
    ) -> Result<(), ImageError> {
        self.broker_mut(record, id)?.fenced = fenced;
        changes.push(Change::BrokerChanged { id });
        Ok(())
    }

    fn create_topic(&mut self, name: &str, id: Uuid, changes: &mut Vec<Change>) -> Result<(), ImageError> {
        let name: Arc<str> = name.into();
        if self.topics.contains_key(&name) {
            return Err(ImageError::TopicExists { name });
        }
        let topic = TopicImage {
            name: name.clone(),
            id,
            partitions: Vec::new(),
        };
        self.topics.insert(name.clone(), Arc::new(topic));
        self.names.insert(id, name.clone());
        changes.push(Change::TopicCreated { topic: name, id });
        Ok(())
    }

    fn remove_topic(&mut self, id: Uuid, changes: &mut Vec<Change>) -> Result<(), ImageError> {
        let removed = self.names.remove(&id).and_then(|name| self.topics.remove(&name));
        let topic = removed.ok_or(ImageError::UnknownTopic {
            record: "RemoveTopicRecord",
            id,
        })?;
        self.configs.remove(&ConfigResource::Topic(topic.name.clone()));
        changes.push(Change::TopicDeleted { topic });
        Ok(())
    }

    fn topic_mut(&mut self, record: &'static str, id: Uuid) -> Result<&mut TopicImage, ImageError> {
        let topic = self.names.get(&id).and_then(|name| self.topics.get_mut(name));
        topic.map(Arc::make_mut).ok_or(ImageError::UnknownTopic { record, id })
    }

    fn create_partition(&mut self, record: &PartitionRecord, changes: &mut Vec<Change>) -> Result<(), ImageError> {
        let topic = self.topic_mut("PartitionRecord", record.topic_id)?;
        let partition = PartitionImage::from_record(record);
        let index = usize::try_from(record.partition_id).unwrap_or(usize::MAX);
        let count = topic.partitions.len();
        let name = topic.name.clone();
        if let Some(known) = topic.partitions.get_mut(index) {
            *known = partition;
            changes.push(Change::PartitionChanged {
                topic: name,
                partition: record.partition_id,
            });
        } else if index == count {
            topic.partitions.push(partition);
            changes.push(Change::PartitionCreated {
                topic: name,
                partition: record.partition_id,
            });
        } else {
            let partition = record.partition_id;
            return Err(ImageError::UnknownPartition {
                record: "PartitionRecord",
                topic: name,
                partition,
                count,
            });
        }
        Ok(())
    }

    fn change_partition(
        &mut self,
        record: &PartitionChangeRecord,
        changes: &mut Vec<Change>,
    ) -> Result<(), ImageError> {
        let topic = self.topic_mut("PartitionChangeRecord", record.topic_id)?;
        let count = topic.partitions.len();
        let name = topic.name.clone();
        let known = usize::try_from(record.partition_id)
            .ok()
            .and_then(|index| topic.partitions.get_mut(index));
        let Some(known) = known else {
            let partition = record.partition_id;
            return Err(ImageError::UnknownPartition {
                record: "PartitionChangeRecord",
                topic: name,
                partition,
                count,
            });
        };
        known.change(record);
        changes.push(Change::PartitionChanged {
            topic: name,
            partition: record.partition_id,
        });
        Ok(())
    }

    fn configure(&mut self, record: &ConfigRecord<'_>, changes: &mut Vec<Change>) {
        let resource = ConfigResource::new(record.resource_type, record.resource_name);
        let configs = Arc::make_mut(self.configs.entry(resource.clone()).or_default());
        match record.value {
            Some(value) => {
                configs.insert(record.name.to_owned(), value.to_owned());
            }
            None => {
                configs.remove(record.name);
            }
        }
        if configs.is_empty() {
            self.configs.remove(&resource);
        }
        changes.push(Change::ConfigChanged { resource });
    }
}

impl PartitionImage {
    fn from_record(record: &PartitionRecord) -> PartitionImage {
        PartitionImage {
            replicas: record.replicas.clone(),
            directories: record.directories.clone(),
            isr: record.isr.clone(),
            removing_replicas: record.removing_replicas.clone(),
            adding_replicas: record.adding_replicas.clone(),
            leader: (record.leader >= 0).then_some(record.leader),
            leader_epoch: record.leader_epoch,
            partition_epoch: record.partition_epoch,
            recovering: record.leader_recovery_state == 1,
            eligible_leader_replicas: record.eligible_leader_replicas.clone().unwrap_or_default(),
            last_known_elr: record.last_known_elr.clone().unwrap_or_default(),
        }
    }

    fn change(&mut self, record: &PartitionChangeRecord) {
        let replace = |list: &mut Vec<i32>, change: &Option<Vec<i32>>| {
            if let Some(change) = change {
                list.clone_from(change);
            }
        };
        replace(&mut self.isr, &record.isr);
        replace(&mut self.replicas, &record.replicas);
        replace(&mut self.removing_replicas, &record.removing_replicas);
        replace(&mut self.adding_replicas, &record.adding_replicas);
        replace(&mut self.eligible_leader_replicas, &record.eligible_leader_replicas);
        replace(&mut self.last_known_elr, &record.last_known_elr);
        if let Some(directories) = &record.directories {
            self.directories.clone_from(directories);
        }
        // -2 says nothing about the leader. Anything else is an election, even if the same broker wins it.
        if record.leader != -2 {
            self.leader = (record.leader >= 0).then_some(record.leader);
            self.leader_epoch = self.leader_epoch.saturating_add(1);
        }
        if record.leader_recovery_state >= 0 {
            self.recovering = record.leader_recovery_state == 1;
        }
        self.partition_epoch = self.partition_epoch.saturating_add(1);
    }
}

fn record_name(record: &MetadataRecord<'_>) -> &'static str {
    match record {
        MetadataRecord::AccessControlEntry(_) => "AccessControlEntryRecord",
        MetadataRecord::RemoveAccessControlEntry(_) => "RemoveAccessControlEntryRecord",
        MetadataRecord::ClientQuota(_) => "ClientQuotaRecord",
        MetadataRecord::DelegationToken(_) => "DelegationTokenRecord",
        MetadataRecord::RemoveDelegationToken(_) => "RemoveDelegationTokenRecord",
        MetadataRecord::UserScramCredential(_) => "UserScramCredentialRecord",
        MetadataRecord::RemoveUserScramCredential(_) => "RemoveUserScramCredentialRecord",
        MetadataRecord::ClearElr(_) => "ClearElrRecord",
        MetadataRecord::BeginTransaction(_) => "BeginTransactionRecord",
        MetadataRecord::EndTransaction(_) => "EndTransactionRecord",
        MetadataRecord::AbortTransaction(_) => "AbortTransactionRecord",
        MetadataRecord::UnregisterController(_) => "UnregisterControllerRecord",
        _ => "a metadata record",
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{apply, cluster, topic};
    use super::*;
    use ottla_protocol::internal::{ClientQuotaRecord, FenceBrokerRecord, RemoveTopicRecord, TopicRecord};

    fn refuse(image: &mut ClusterImage, record: MetadataRecord<'_>) -> ImageError {
        let mut changes = Vec::new();
        let error = image.apply(&record, &mut changes).unwrap_err();
        assert!(changes.is_empty());
        error
    }

    #[test]
    fn changes_come_in_the_order_of_the_records() {
        let mut image = cluster(1);
        let id = Uuid([3; 16]);
        let partition = |partition_id| {
            MetadataRecord::Partition(PartitionRecord {
                partition_id,
                topic_id: id,
                replicas: vec![1],
                isr: vec![1],
                directories: vec![Uuid::ZERO],
                leader: 1,
                ..PartitionRecord::default()
            })
        };
        let changes = apply(
            &mut image,
            &[
                MetadataRecord::Topic(TopicRecord {
                    name: "t",
                    topic_id: id,
                }),
                partition(0),
                partition(1),
                partition(0),
                MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: id }),
            ],
        );
        let name: Arc<str> = "t".into();
        assert_eq!(
            changes[0],
            Change::TopicCreated {
                topic: name.clone(),
                id
            }
        );
        assert_eq!(
            changes[1],
            Change::PartitionCreated {
                topic: name.clone(),
                partition: 0
            }
        );
        assert_eq!(
            changes[2],
            Change::PartitionCreated {
                topic: name.clone(),
                partition: 1
            }
        );
        assert_eq!(
            changes[3],
            Change::PartitionChanged {
                topic: name,
                partition: 0
            }
        );
        assert!(matches!(&changes[4], Change::TopicDeleted { topic } if topic.partitions.len() == 2));
    }

    #[test]
    fn an_election_counts_even_if_the_same_broker_wins() {
        let mut image = cluster(1);
        topic(&mut image, "t", 1, 1);
        let id = image.topic("t").unwrap().id;
        let change = |leader| {
            let record = PartitionChangeRecord {
                partition_id: 0,
                topic_id: id,
                leader,
                ..Default::default()
            };
            MetadataRecord::PartitionChange(record)
        };
        let shared = image.clone();
        let leader = |image: &ClusterImage| {
            let partition = image.partition("t", 0).unwrap();
            (partition.leader, partition.leader_epoch, partition.partition_epoch)
        };
        for (to, expected) in [
            (1, (Some(1), 1, 1)),
            (-2, (Some(1), 1, 2)),
            (-1, (None, 2, 3)),
            (1, (Some(1), 3, 4)),
        ] {
            apply(&mut image, &[change(to)]);
            assert_eq!(leader(&image), expected);
        }
        assert_eq!(leader(&shared), (Some(1), 0, 0));
    }

    #[test]
    fn a_record_that_contradicts_the_image_is_refused() {
        let mut image = cluster(1);
        topic(&mut image, "t", 1, 1);
        let id = image.topic("t").unwrap().id;
        let unknown = Uuid([9; 16]);
        let records = [
            MetadataRecord::Topic(TopicRecord {
                name: "t",
                topic_id: unknown,
            }),
            MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id: unknown }),
            MetadataRecord::Partition(PartitionRecord {
                partition_id: 2,
                topic_id: id,
                ..Default::default()
            }),
            MetadataRecord::Partition(PartitionRecord {
                partition_id: -1,
                topic_id: id,
                ..Default::default()
            }),
            MetadataRecord::PartitionChange(PartitionChangeRecord {
                partition_id: 1,
                topic_id: id,
                ..Default::default()
            }),
            MetadataRecord::FenceBroker(FenceBrokerRecord { id: 5, epoch: 0 }),
        ];
        for record in records {
            refuse(&mut image, record);
        }
        let quota = MetadataRecord::ClientQuota(ClientQuotaRecord::default());
        assert_eq!(
            refuse(&mut image, quota),
            ImageError::Unsupported {
                record: "ClientQuotaRecord"
            }
        );
    }

    #[test]
    fn topics_are_listed_by_name_from_any_point() {
        let mut image = cluster(1);
        for name in ["c", "a", "b"] {
            topic(&mut image, name, 1, 1);
        }
        let from = |first: &str| {
            image
                .topics_from(first)
                .map(|topic| topic.name.to_string())
                .collect::<Vec<_>>()
        };
        assert_eq!(from(""), ["a", "b", "c"]);
        assert_eq!(from("b"), ["b", "c"]);
        assert_eq!(from("bb"), ["c"]);
    }
}
