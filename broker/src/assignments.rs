//! Assignments: from the image of the cluster to the replicas on this broker.
//!
//! In: an image and what changed in it. Out: logs opened, configured or deleted, and partitions that lead, follow or
//! are gone. It decides nothing: the controller has, and the records are committed.
//!
//! It touches the disk; the caller runs it where blocking is allowed, one change after the other.

use crate::broker::now_ms;
use crate::config::BrokerConfig;
use crate::config::topic::TopicConfig;
use crate::log::{Log, LogConfig, LogManager};
use crate::quorum::{MetadataSubscriber, MetadataUpdate};
use crate::replica_manager::{AssignedPartition, ReplicaManager};
use ottla_broker_state::Time;
use ottla_broker_state::controller::{Change, ClusterImage, ConfigResource, PartitionImage, TopicImage};
use ottla_broker_state::partition::Assignment;
use ottla_protocol::ErrorCode;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;
use tracing::{error, info, warn};

/// Keeps the logs and the replica manager in step with the image.
#[derive(Debug)]
pub struct Assignments {
    config: Arc<BrokerConfig>,
    logs: Arc<LogManager>,
    replicas: Arc<ReplicaManager>,
    started: Instant,
}

impl Assignments {
    /// For the broker with this configuration, whose logs and partitions these are.
    pub fn new(config: Arc<BrokerConfig>, logs: Arc<LogManager>, replicas: Arc<ReplicaManager>) -> Self {
        Assignments {
            config,
            logs,
            replicas,
            started: Instant::now(),
        }
    }

    /// The settings of a topic's logs, by its name. For recovery, before there are partitions.
    pub fn log_config(&self, image: &ClusterImage, topic: &str) -> LogConfig {
        self.topic_config(image, topic).log_config(&self.config)
    }

    /// The first image after the start: every topic, and logs of topics that were deleted while we were down.
    pub fn load(&self, image: &ClusterImage) {
        for log in self.logs.logs() {
            let known = image.topic(log.topic()).filter(|topic| topic.id == log.topic_id());
            if known.and_then(|topic| topic.partition(log.partition())).is_none() {
                warn!(
                    topic = log.topic(),
                    partition = log.partition(),
                    "the topic was deleted, so its log goes too"
                );
                self.delete_log(log.topic(), log.partition());
            }
        }
        for topic in image.topics() {
            self.assign(image, topic);
        }
    }

    /// Takes in what changed up to `image`.
    pub fn apply(&self, image: &ClusterImage, changes: &[Change]) {
        let mut changed = BTreeSet::new();
        for change in changes {
            match change {
                Change::TopicDeleted { topic } => self.delete(topic),
                Change::TopicCreated { topic, .. }
                | Change::PartitionCreated { topic, .. }
                | Change::PartitionChanged { topic, .. }
                | Change::ConfigChanged {
                    resource: ConfigResource::Topic(topic),
                } => {
                    changed.insert(Arc::clone(topic));
                }
                Change::ConfigChanged {
                    resource: ConfigResource::Broker(_),
                } => {
                    changed.extend(image.topics().map(|topic| Arc::clone(&topic.name)));
                }
                _ => {}
            }
        }
        for topic in changed.iter().filter_map(|name| image.topic(name)) {
            self.assign(image, topic);
        }
    }

    fn assign(&self, image: &ClusterImage, topic: &TopicImage) {
        let config = self.topic_config(image, &topic.name);
        let log_config = config.log_config(&self.config);
        let now = Time(u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX));
        let assigned = |(index, partition): (i32, &PartitionImage)| AssignedPartition {
            assignment: assignment(partition),
            log: self.log(topic, index, partition, &log_config),
        };
        let partitions = (0..).zip(&topic.partitions).map(assigned).collect();
        let min_insync_replicas = usize::try_from(config.min_insync_replicas()).unwrap_or(1);
        self.replicas
            .assign_topic(&topic.name, topic.id, partitions, min_insync_replicas, now);
    }

    /// Our log of a partition, created if need be. NOT_LEADER_OR_FOLLOWER when all replicas are elsewhere.
    fn log(
        &self,
        topic: &TopicImage,
        index: i32,
        partition: &PartitionImage,
        config: &LogConfig,
    ) -> Result<Arc<Log>, ErrorCode> {
        if !partition.replicas.contains(&self.config.node_id) {
            return Err(ErrorCode::NotLeaderOrFollower);
        }
        let log = self
            .logs
            .create_log(&topic.name, topic.id, index, config.clone(), now_ms())
            .map_err(|failure| {
                error!(topic = %topic.name, partition = index, "cannot open the log: {failure}");
                failure.code()
            })?;
        if *log.config() != *config {
            log.update_config(config.clone());
        }
        Ok(log)
    }

    fn delete(&self, topic: &TopicImage) {
        info!(topic = %topic.name, id = %topic.id, "deleting the topic");
        self.replicas.remove_topic(topic.id);
        for (index, partition) in (0..).zip(&topic.partitions) {
            if partition.replicas.contains(&self.config.node_id) {
                self.delete_log(&topic.name, index);
            }
        }
    }

    fn delete_log(&self, topic: &str, partition: i32) {
        if let Err(failure) = self.logs.delete_log(topic, partition, now_ms()) {
            error!(topic, partition, "cannot delete the log: {failure}");
        }
    }

    fn topic_config(&self, image: &ClusterImage, topic: &str) -> TopicConfig {
        TopicConfig::lenient(&self.config, &image.topic_config(topic), topic)
    }
}

impl MetadataSubscriber for Assignments {
    fn metadata_changed(&self, update: &MetadataUpdate) {
        self.apply(&update.image, &update.changes);
    }
}

fn assignment(partition: &PartitionImage) -> Assignment {
    Assignment {
        leader: partition.leader,
        leader_epoch: partition.leader_epoch,
        partition_epoch: partition.partition_epoch,
        replicas: partition.replicas.clone(),
        isr: partition.isr.clone(),
    }
}
