//! Questions about partitions that change nothing: first and last offsets, offsets by time, the partitions of a topic.
//!
//! In: partitions. Out: what their leaders say, asked again while the trouble may pass, up to `default.api.timeout.ms`.

use std::collections::BTreeMap;

use ottla_client_state::TopicPartition;
use tokio::time::Instant;

use super::{Consumer, EARLIEST, LATEST, ListedOffset, Queries, list_offsets_until};
use crate::error::{Error, ErrorKind, Result};

impl Consumer {
    /// The first offset of each partition that is still there.
    ///
    /// # Errors
    /// A partition that does not exist, or no answer within `default.api.timeout.ms`.
    pub async fn beginning_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        self.bounds(partitions, EARLIEST).await
    }

    /// The offset after the last record of each partition: the high watermark, or with `read_committed` the last
    /// stable offset.
    ///
    /// # Errors
    /// As [`Consumer::beginning_offsets`].
    pub async fn end_offsets(&self, partitions: &[TopicPartition]) -> Result<BTreeMap<TopicPartition, i64>> {
        self.bounds(partitions, LATEST).await
    }

    async fn bounds(&self, partitions: &[TopicPartition], which: i64) -> Result<BTreeMap<TopicPartition, i64>> {
        let queries = partitions.iter().map(|partition| (partition.clone(), which)).collect();
        let found = self.look_up(queries).await?;
        Ok(found
            .into_iter()
            .filter_map(|(partition, listed)| Some((partition, listed.offset?)))
            .collect())
    }

    /// For each partition the first record whose timestamp (milliseconds since 1970) is at least the given one. Its
    /// offset is `None` when there is no such record.
    ///
    /// # Errors
    /// A negative timestamp; otherwise as [`Consumer::beginning_offsets`].
    pub async fn offsets_for_times(
        &self,
        timestamps: &[(TopicPartition, i64)],
    ) -> Result<BTreeMap<TopicPartition, ListedOffset>> {
        if let Some((partition, timestamp)) = timestamps.iter().find(|(_, timestamp)| *timestamp < 0) {
            let text = format!("{partition}: cannot look for the timestamp {timestamp}");
            return Err(Error::new(ErrorKind::Argument, text));
        }
        self.look_up(timestamps.iter().cloned().collect()).await
    }

    async fn look_up(&self, queries: Queries) -> Result<BTreeMap<TopicPartition, ListedOffset>> {
        self.check_open()?;
        let deadline = Instant::now() + self.shared.config.default_api_timeout;
        list_offsets_until(&self.shared.client, self.shared.isolation(), queries, deadline).await
    }

    /// The partitions of a topic.
    ///
    /// # Errors
    /// The topic does not exist, or no answer came within `default.api.timeout.ms`.
    pub async fn partitions_for(&self, topic: &str) -> Result<Vec<TopicPartition>> {
        self.check_open()?;
        let deadline = Instant::now() + self.shared.config.default_api_timeout;
        let snapshot = self.shared.client.topic_metadata(topic, deadline).await?;
        let info = snapshot.topic(topic);
        let partitions = info.iter().flat_map(|info| &info.partitions);
        Ok(partitions
            .map(|partition| TopicPartition::new(topic, partition.partition))
            .collect())
    }
}
