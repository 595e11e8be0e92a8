//! The admin client without `async`.
//!
//! In: wishes about topics, configurations, consumer groups and the cluster, from any thread. Out: an answer for each, after waiting at
//! most `default.api.timeout.ms`.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{block_on, setters};
use crate::admin::{
    Answers, ClusterDescription, ConfigChange, ConfigEntry, ConfigResource, ConsumerGroupDescription, CreatedTopic,
    GroupListing, GroupPartitionLag, MemberToRemove, NewTopic, OffsetSpec, TopicDescription, TopicListing,
};
use crate::config::Properties;
use crate::consumer::{ListedOffset, OffsetAndMetadata};
use crate::error::Result;
use crate::record::TopicPartition;

/// Manages topics, configurations, consumer groups and the cluster. As [`crate::Admin`], without `async`.
#[derive(Debug)]
pub struct Admin {
    inner: crate::Admin,
}

/// Methods that wait, by the name of the asynchronous one.
macro_rules! waiting {
    ($($name:ident($($argument:ident: $kind:ty),*) -> $output:ty;)*) => {
        $(
            #[doc = concat!("As [`Admin::", stringify!($name), "`](crate::Admin::", stringify!($name), ").")]
            ///
            /// # Errors
            /// As there; [`ErrorKind::Runtime`](crate::ErrorKind::Runtime) inside of an async task.
            pub fn $name(&self, $($argument: $kind),*) -> Result<$output> {
                block_on(self.inner.$name($($argument),*))?
            }
        )*
    };
}

impl Admin {
    /// Collects a configuration.
    pub fn builder() -> AdminBuilder {
        crate::Admin::builder().into()
    }

    /// As [`crate::Admin::from_properties`].
    ///
    /// # Errors
    /// As [`crate::Admin::from_properties`].
    pub fn from_properties(properties: impl Into<Properties>) -> Result<AdminBuilder> {
        crate::Admin::from_properties(properties).map(Into::into)
    }

    waiting! {
        create_topics(topics: &[NewTopic]) -> Answers<String, CreatedTopic>;
        validate_topics(topics: &[NewTopic]) -> Answers<String, CreatedTopic>;
        delete_topics(names: &[impl AsRef<str> + Sync]) -> Answers<String, ()>;
        create_partitions(totals: &[(impl AsRef<str> + Sync, i32)]) -> Answers<String, ()>;
        list_topics() -> Vec<TopicListing>;
        describe_topics(names: &[impl AsRef<str> + Sync]) -> Answers<String, TopicDescription>;
        describe_configs(resources: &[ConfigResource]) -> Answers<ConfigResource, Vec<ConfigEntry>>;
        incremental_alter_configs(changes: &[(ConfigResource, Vec<ConfigChange>)]) -> Answers<ConfigResource, ()>;
        describe_cluster() -> ClusterDescription;
        list_offsets(partitions: &[(TopicPartition, OffsetSpec)]) -> BTreeMap<TopicPartition, ListedOffset>;
        list_groups(states: &[&str], types: &[&str]) -> Vec<GroupListing>;
        describe_consumer_groups(groups: &[impl AsRef<str> + Sync]) -> Answers<String, ConsumerGroupDescription>;
        list_consumer_group_offsets(group: &str, require_stable: bool) -> BTreeMap<TopicPartition, OffsetAndMetadata>;
        consumer_group_lag(group: &str) -> BTreeMap<TopicPartition, GroupPartitionLag>;
        alter_consumer_group_offsets(
            group: &str,
            offsets: &BTreeMap<TopicPartition, OffsetAndMetadata>
        ) -> Answers<TopicPartition, ()>;
        reset_consumer_group_offsets(
            group: &str,
            to: &[(TopicPartition, OffsetSpec)]
        ) -> Answers<TopicPartition, i64>;
        delete_consumer_group_offsets(group: &str, partitions: &[TopicPartition]) -> Answers<TopicPartition, ()>;
        delete_consumer_groups(groups: &[impl AsRef<str> + Sync]) -> Answers<String, ()>;
        remove_members_from_consumer_group(
            group: &str,
            members: &[MemberToRemove],
            reason: &str
        ) -> Answers<String, ()>;
    }

    /// Closes the connections. Does not wait.
    pub fn close(self) {
        // The last reference closes them.
        drop(self);
    }
}

/// Configures an [`Admin`]. Whatever the asynchronous builder can do can be done there and converted by `into()`.
#[derive(Debug, Clone)]
pub struct AdminBuilder {
    inner: crate::AdminBuilder,
}

impl AdminBuilder {
    setters! {
        AdminBuilder::bootstrap_servers(servers: impl ToString);
        AdminBuilder::client_id(id: impl ToString);
        AdminBuilder::request_timeout(timeout: Duration);
        AdminBuilder::default_api_timeout(timeout: Duration);
    }

    /// Sets any key by Kafka's name. A mistake in key or value is reported by `build`.
    #[must_use]
    pub fn set(self, key: &str, value: impl ToString) -> Self {
        self.inner.set(key, value).into()
    }

    /// As [`crate::AdminBuilder::build`].
    ///
    /// # Errors
    /// As there; [`ErrorKind::Runtime`](crate::ErrorKind::Runtime) inside of an async task.
    pub fn build(self) -> Result<Admin> {
        let inner = block_on(self.inner.build())??;
        Ok(Admin { inner })
    }
}

impl From<crate::AdminBuilder> for AdminBuilder {
    fn from(inner: crate::AdminBuilder) -> Self {
        AdminBuilder { inner }
    }
}
