//! The controller: decides what changes in the cluster, and has it committed.
//!
//! In: requests that were decoded, and wishes of this broker itself (to be registered, to have producer ids). Out: one
//! result for each thing asked, once the metadata quorum has committed it. The decisions are those of
//! `ottla_broker_state::controller`; here they meet the configuration, the clock and the log.
//!
//! One decision is made at a time, each upon the image that the one before has left.

use crate::config::BrokerConfig;
use crate::config::listeners::Listener;
use crate::config::topic::{self, TopicConfig};
use crate::config::value::Kind;
use crate::log::{LogConfig, LogManager};
use crate::quorum::{MetadataSubscriber, Quorum, QuorumError, Turn};
use ottla_broker_state::controller::configs::{self, ConfigChange, ConfigRules, TopicAlterations};
use ottla_broker_state::controller::partitions::{self, MorePartitions};
use ottla_broker_state::controller::registration::{self, Registration};
use ottla_broker_state::controller::topics::{self, CreatedTopic, NewTopic, TopicRules};
use ottla_broker_state::controller::{ApiError, ClusterImage, producer_ids};
use ottla_protocol::internal::metadata::MetadataRecord;
use ottla_protocol::{ErrorCode, Uuid};
use rand::RngExt;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

/// Leaderships taken in one record batch at the start.
const LEADERSHIPS_PER_BATCH: usize = 10_000;

/// See the head of this file.
#[derive(Debug)]
pub struct Controller {
    config: Arc<BrokerConfig>,
    quorum: Arc<Quorum>,
    /// The rest of the block that this broker hands out.
    producer_ids: tokio::sync::Mutex<Range<i64>>,
}

impl Controller {
    /// Opens the metadata log in the data directory of `logs` and replays it. Blocks on the disk.
    ///
    /// # Errors
    /// See [`Quorum::open`].
    pub fn open(config: Arc<BrokerConfig>, logs: &LogManager, now_ms: i64) -> Result<Controller, QuorumError> {
        let log_config = LogConfig {
            segment_bytes: config.metadata_log_segment_bytes,
            segment_ms: config.metadata_log_segment_ms,
            retention_ms: -1,
            retention_bytes: -1,
            ..LogConfig::default()
        };
        let log = logs
            .open_metadata_log(log_config, now_ms)
            .map_err(|error| QuorumError::Append(error.into()))?;
        let quorum = Quorum::open(log, logs.cluster_id(), config.node_id)?;
        Ok(Controller {
            config,
            quorum,
            producer_ids: tokio::sync::Mutex::new(0..0),
        })
    }

    /// The cluster as it is committed now.
    pub fn image(&self) -> Arc<ClusterImage> {
        self.quorum.image()
    }

    /// The log behind it all.
    pub fn quorum(&self) -> &Arc<Quorum> {
        &self.quorum
    }

    /// Adds somebody who acts upon changes; see [`MetadataSubscriber`].
    pub fn subscribe(&self, subscriber: Arc<dyn MetadataSubscriber>) {
        self.quorum.subscribe(subscriber);
    }

    /// The configuration in force for the topic called `name`.
    ///
    /// An override that an earlier configuration of the broker allowed and this one does not is left out, with a line in
    /// the log.
    pub fn topic_config(&self, image: &ClusterImage, name: &str) -> TopicConfig {
        TopicConfig::lenient(&self.config, &image.topic_config(name), name)
    }

    /// Registers this broker under the addresses that clients are told, and takes the leadership of its partitions with
    /// new leader epochs. Gives the broker's epoch. To be called once, when subscribers are there and sockets are open.
    ///
    /// # Errors
    /// The metadata cannot be written.
    pub async fn register(&self, advertised: &[Listener], log_dirs: Vec<Uuid>) -> Result<i64, QuorumError> {
        let turn = self.quorum.turn().await;
        let mut records = registration::bootstrap(&turn.image());
        let epoch = turn.next_offset() + i64::try_from(records.len()).unwrap_or(0);
        let registration = Registration {
            id: self.config.node_id,
            incarnation_id: Uuid::from_random_bytes(rand::rng().random()),
            listeners: advertised
                .iter()
                .map(|entry| (&*entry.name, &*entry.host, entry.port))
                .collect(),
            rack: self.config.rack.as_deref(),
            log_dirs,
        };
        records.push(registration::register(&registration, epoch));
        turn.commit(&records).await?;
        let leaderships = registration::take_leadership(&self.image(), self.config.node_id);
        for records in leaderships.chunks(LEADERSHIPS_PER_BATCH) {
            self.quorum.turn().await.commit(records).await?;
        }
        Ok(epoch)
    }

    /// Creates topics: one result for each, in their order. `validate_only` stops before anything is written.
    ///
    /// Errors of single topics are those of [`topics::create_topics`]; all accepted ones fail with KAFKA_STORAGE_ERROR or
    /// REQUEST_TIMED_OUT if the commit does.
    pub async fn create_topics(
        &self,
        wishes: &[NewTopic<'_>],
        validate_only: bool,
        timeout_ms: i32,
    ) -> Vec<Result<CreatedTopic, ApiError>> {
        let turn = self.quorum.turn().await;
        let (records, mut results) = self.decide_topics(&turn.image(), wishes);
        if !validate_only {
            let committed = commit_within(turn, &records, timeout_ms).await;
            fail_all(&mut results, committed);
        }
        results
    }

    fn decide_topics<'a>(
        &self,
        image: &ClusterImage,
        wishes: &[NewTopic<'a>],
    ) -> (Vec<MetadataRecord<'a>>, Vec<Result<CreatedTopic, ApiError>>) {
        let rules = TopicRules {
            num_partitions: self.config.num_partitions,
            replication_factor: self.config.default_replication_factor,
            check_config: &topic::check,
        };
        topics::create_topics(image, wishes, &rules, &mut rand::rng())
    }

    /// Deletes the topics with these ids: one result for each, in their order. Errors as above, and UNKNOWN_TOPIC_ID.
    pub async fn delete_topics(&self, ids: &[Uuid], timeout_ms: i32) -> Vec<Result<(), ApiError>> {
        let turn = self.quorum.turn().await;
        let (records, mut results) = topics::delete_topics(&turn.image(), ids);
        let committed = commit_within(turn, &records, timeout_ms).await;
        fail_all(&mut results, committed);
        results
    }

    /// Adds partitions to topics, none of which occurs twice: one result for each, in their order.
    pub async fn create_partitions(
        &self,
        wishes: &[MorePartitions<'_>],
        validate_only: bool,
        timeout_ms: i32,
    ) -> Vec<Result<(), ApiError>> {
        let turn = self.quorum.turn().await;
        let (records, mut results) = decide_partitions(&turn.image(), wishes);
        if !validate_only {
            let committed = commit_within(turn, &records, timeout_ms).await;
            fail_all(&mut results, committed);
        }
        results
    }

    /// Changes the configuration of topics, none of which occurs twice: one result for each, in their order.
    pub async fn alter_topic_configs(
        &self,
        wishes: &[TopicAlterations<'_>],
        validate_only: bool,
    ) -> Vec<Result<(), ApiError>> {
        let turn = self.quorum.turn().await;
        let (changes, mut results) = self.decide_configs(&turn.image(), wishes);
        if !validate_only {
            let records: Vec<_> = changes.iter().map(ConfigChange::record).collect();
            let committed = commit_within(turn, &records, 0).await;
            fail_all(&mut results, committed);
        }
        results
    }

    fn decide_configs<'a>(
        &self,
        image: &ClusterImage,
        wishes: &[TopicAlterations<'a>],
    ) -> (Vec<ConfigChange<'a>>, Vec<Result<(), ApiError>>) {
        let default_list = |name: &str| {
            let key = topic::find(name).ok().filter(|key| key.kind == Kind::List)?;
            key.entry(&self.config, &BTreeMap::new()).value
        };
        let rules = ConfigRules {
            known: &|name| topic::find(name).map(|_| ()),
            check: &topic::check,
            default_list: &default_list,
        };
        let mut changes = Vec::new();
        let decide = |wish: &TopicAlterations<'a>| {
            changes.append(&mut configs::alter_topic(image, wish, &rules)?);
            Ok(())
        };
        let results = wishes.iter().map(decide).collect();
        (changes, results)
    }

    /// A producer id that nobody was given before, now or by an earlier process.
    ///
    /// # Errors
    /// The next block cannot be written down, or no ids are left.
    pub async fn next_producer_id(&self) -> Result<i64, ApiError> {
        let mut block = self.producer_ids.lock().await;
        if block.is_empty() {
            let turn = self.quorum.turn().await;
            let (record, next) = producer_ids::allocate(&turn.image(), self.config.node_id)?;
            commit_within(turn, &[record], 0).await?;
            *block = next;
        }
        block
            .next()
            .ok_or_else(|| ApiError::new(ErrorCode::UnknownServerError, "no producer ids are left"))
    }
}

fn decide_partitions(
    image: &ClusterImage,
    wishes: &[MorePartitions<'_>],
) -> (Vec<MetadataRecord<'static>>, Vec<Result<(), ApiError>>) {
    let mut records = Vec::new();
    let decide = |wish: &MorePartitions<'_>| {
        let mut decided = partitions::create_partitions(image, wish, &mut rand::rng())?;
        partitions::check_count(records.len() + decided.len())?;
        records.append(&mut decided);
        Ok(())
    };
    let results = wishes.iter().map(decide).collect();
    (records, results)
}

/// Commits, or gives up waiting after `timeout_ms` if that is above 0. What was given up may still be committed.
async fn commit_within(turn: Turn, records: &[MetadataRecord<'_>], timeout_ms: i32) -> Result<(), ApiError> {
    let commit = turn.commit(records);
    let committed = match u64::try_from(timeout_ms) {
        Ok(timeout_ms) if timeout_ms > 0 => {
            let waited = tokio::time::timeout(Duration::from_millis(timeout_ms), commit).await;
            waited.map_err(|_| {
                let message = format!("not committed within {timeout_ms} ms; it may still happen");
                ApiError::new(ErrorCode::RequestTimedOut, message)
            })?
        }
        _ => commit.await,
    };
    committed.map(|_| ()).map_err(|error| {
        tracing::error!(%error, "metadata could not be committed");
        ApiError::new(error.code(), error.to_string())
    })
}

fn fail_all<T>(results: &mut [Result<T, ApiError>], committed: Result<(), ApiError>) {
    let Err(error) = committed else { return };
    for result in results.iter_mut().filter(|result| result.is_ok()) {
        *result = Err(error.clone());
    }
}

#[cfg(test)]
pub(crate) mod tests;
