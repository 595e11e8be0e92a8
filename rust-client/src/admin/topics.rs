//! Topics: create, delete, list, describe, add partitions.

use std::collections::BTreeMap;
use std::sync::Arc;

use ottla_client_state::metadata::{ClusterSnapshot, Scope, TopicInfo};
use ottla_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use ottla_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use ottla_protocol::messages::metadata_request::MetadataRequestTopic;
use ottla_protocol::messages::{CreatePartitionsRequest, CreateTopicsRequest, DeleteTopicsRequest, MetadataRequest};
use ottla_protocol::{ErrorCode, Uuid};

use super::{Admin, Answers, item_error};
use crate::error::{Error, ErrorKind, Result, nearest};

/// The last version of DeleteTopics that names topics in one plain list.
const DELETE_TOPICS_CAP: i16 = 5;

/// A topic to be created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NewTopic {
    name: String,
    partitions: Option<i32>,
    replication_factor: Option<i16>,
    assignments: Vec<Vec<i32>>,
    configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic with the broker's default number of partitions and replication factor.
    pub fn new(name: impl Into<String>) -> Self {
        NewTopic {
            name: name.into(),
            ..NewTopic::default()
        }
    }

    /// How many partitions it gets.
    #[must_use]
    pub fn partitions(mut self, partitions: i32) -> Self {
        self.partitions = Some(partitions);
        self
    }

    /// How many replicas each partition gets.
    #[must_use]
    pub fn replication_factor(mut self, replicas: i16) -> Self {
        self.replication_factor = Some(replicas);
        self
    }

    /// The brokers of each partition's replicas, the preferred leader first, instead of a number of partitions and
    /// replicas.
    #[must_use]
    pub fn assignments(mut self, brokers_by_partition: Vec<Vec<i32>>) -> Self {
        self.assignments = brokers_by_partition;
        self
    }

    /// Sets a key of the topic's configuration, such as `retention.ms`.
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(key.into(), value.into());
        self
    }

    /// The topic's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn to_wire(&self) -> CreatableTopic<'_> {
        let manual = !self.assignments.is_empty();
        let configs = self.configs.iter();
        CreatableTopic {
            name: &self.name,
            // -1 means the broker's default; with assignments it is the only value allowed.
            num_partitions: self.partitions.filter(|_| !manual).unwrap_or(-1),
            replication_factor: self.replication_factor.filter(|_| !manual).unwrap_or(-1),
            assignments: (0..)
                .zip(&self.assignments)
                .map(|(partition_index, brokers)| CreatableReplicaAssignment {
                    partition_index,
                    broker_ids: brokers.clone(),
                })
                .collect(),
            configs: configs
                .map(|(name, value)| CreatableTopicConfig {
                    name,
                    value: Some(value),
                })
                .collect(),
        }
    }
}

/// A topic that was created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id; [`Uuid::ZERO`] from brokers before Kafka 2.8.
    pub id: Uuid,
    /// Its partitions, if the broker said so.
    pub partitions: Option<i32>,
    /// The replicas of each partition, if the broker said so.
    pub replication_factor: Option<i16>,
}

/// A topic in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicListing {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; [`Uuid::ZERO`] from brokers before Kafka 2.8.
    pub id: Uuid,
    /// Whether it is one of Kafka's own.
    pub internal: bool,
}

/// What a topic consists of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicDescription {
    /// Its name.
    pub name: Arc<str>,
    /// Its id; [`Uuid::ZERO`] from brokers before Kafka 2.8.
    pub id: Uuid,
    /// Whether it is one of Kafka's own.
    pub internal: bool,
    /// Its partitions in order.
    pub partitions: Vec<PartitionDescription>,
}

/// Who has a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionDescription {
    /// The partition's index.
    pub partition: i32,
    /// The leader's broker id; `None` while there is none.
    pub leader: Option<i32>,
    /// The leader epoch; -1 when the broker did not say.
    pub leader_epoch: i32,
    /// The broker ids of all replicas, the preferred leader first.
    pub replicas: Vec<i32>,
    /// The broker ids of the in-sync replicas.
    pub in_sync: Vec<i32>,
    /// The broker ids of the replicas that are offline.
    pub offline: Vec<i32>,
}

impl From<&TopicInfo> for TopicDescription {
    fn from(topic: &TopicInfo) -> Self {
        let partitions = topic.partitions.iter().map(|partition| PartitionDescription {
            partition: partition.partition,
            leader: partition.leader,
            leader_epoch: partition.leader_epoch,
            replicas: partition.replicas.clone(),
            in_sync: partition.in_sync.clone(),
            offline: partition.offline.clone(),
        });
        TopicDescription {
            name: topic.name.clone(),
            id: topic.id,
            internal: topic.internal,
            partitions: partitions.collect(),
        }
    }
}

impl Admin {
    /// Creates topics. The answer for each topic stands beside its name.
    ///
    /// # Errors
    /// No answer at all came in time. If the connection was lost on the way, a topic may have been created and the
    /// next attempt then reports that it exists.
    pub async fn create_topics(&self, topics: &[NewTopic]) -> Result<Answers<String, CreatedTopic>> {
        self.make_topics(topics, false).await
    }

    /// Checks whether topics could be created, without creating them.
    ///
    /// # Errors
    /// As [`Admin::create_topics`].
    pub async fn validate_topics(&self, topics: &[NewTopic]) -> Result<Answers<String, CreatedTopic>> {
        self.make_topics(topics, true).await
    }

    async fn make_topics(&self, topics: &[NewTopic], validate_only: bool) -> Result<Answers<String, CreatedTopic>> {
        let names = topics.iter().map(|topic| topic.name.clone());
        self.for_each("create the topics", names, |open| async move {
            let wanted = topics.iter().filter(|topic| open.contains(&topic.name));
            let request = CreateTopicsRequest {
                topics: wanted.map(NewTopic::to_wire).collect(),
                timeout_ms: self.timeout_ms(),
                validate_only,
            };
            let frame = self.ask_controller(i16::MAX, &request).await?;
            let response = frame.decode()?;
            let answers = response.topics.iter().map(|topic| {
                let answer = match topic.error_code {
                    0 => Ok(CreatedTopic {
                        id: topic.topic_id,
                        partitions: Some(topic.num_partitions).filter(|count| *count > 0),
                        replication_factor: Some(topic.replication_factor).filter(|count| *count > 0),
                    }),
                    code => Err(item_error(
                        code,
                        topic.error_message,
                        format_args!("topic {:?}", topic.name),
                    )),
                };
                (topic.name.to_owned(), answer)
            });
            Ok(answers.collect())
        })
        .await
    }

    /// Deletes topics and everything in them. The answer for each topic stands beside its name.
    ///
    /// # Errors
    /// No answer at all came in time.
    pub async fn delete_topics(&self, names: &[impl AsRef<str> + Sync]) -> Result<Answers<String, ()>> {
        let names = names.iter().map(|name| name.as_ref().to_owned());
        self.for_each("delete the topics", names, |open| async move {
            let request = DeleteTopicsRequest {
                topic_names: open.iter().map(String::as_str).collect(),
                timeout_ms: self.timeout_ms(),
                ..Default::default()
            };
            let frame = self.ask_controller(DELETE_TOPICS_CAP, &request).await?;
            let response = frame.decode()?;
            let named = response.responses.iter().filter_map(|topic| Some((topic.name?, topic)));
            let answers = named.map(|(name, topic)| {
                let answer = match topic.error_code {
                    0 => Ok(()),
                    code => Err(item_error(code, topic.error_message, format_args!("topic {name:?}"))),
                };
                (name.to_owned(), answer)
            });
            Ok(answers.collect())
        })
        .await
    }

    /// Adds partitions: each topic gets as many as stand beside its name, all told. Records with a key go to other
    /// partitions afterwards.
    ///
    /// # Errors
    /// No answer at all came in time.
    pub async fn create_partitions(&self, totals: &[(impl AsRef<str> + Sync, i32)]) -> Result<Answers<String, ()>> {
        let names = totals.iter().map(|(name, _)| name.as_ref().to_owned());
        self.for_each("add the partitions", names, |open| async move {
            let wanted = totals
                .iter()
                .filter(|(name, _)| open.iter().any(|open| open == name.as_ref()));
            let request = CreatePartitionsRequest {
                topics: wanted
                    .map(|(name, count)| CreatePartitionsTopic {
                        name: name.as_ref(),
                        count: *count,
                        assignments: None,
                    })
                    .collect(),
                timeout_ms: self.timeout_ms(),
                validate_only: false,
            };
            let frame = self.ask_controller(i16::MAX, &request).await?;
            let response = frame.decode()?;
            let answers = response.results.iter().map(|topic| {
                let answer = match topic.error_code {
                    0 => Ok(()),
                    code => Err(item_error(
                        code,
                        topic.error_message,
                        format_args!("topic {:?}", topic.name),
                    )),
                };
                (topic.name.to_owned(), answer)
            });
            Ok(answers.collect())
        })
        .await
    }

    /// All topics, in the order of their names; Kafka's own are marked.
    ///
    /// # Errors
    /// No answer came in time.
    pub async fn list_topics(&self) -> Result<Vec<TopicListing>> {
        let snapshot = self.retrying("list the topics", || self.client.all_topics()).await?;
        let mut topics: Vec<TopicListing> = snapshot
            .topics()
            .map(|topic| TopicListing {
                name: topic.name.clone(),
                id: topic.id,
                internal: topic.internal,
            })
            .collect();
        topics.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(topics)
    }

    /// Partitions, leaders and replicas of topics. Never creates one.
    ///
    /// # Errors
    /// No answer at all came in time. That a topic does not exist stands beside its name, with the nearest name that
    /// does.
    pub async fn describe_topics(&self, names: &[impl AsRef<str> + Sync]) -> Result<Answers<String, TopicDescription>> {
        let names = names.iter().map(|name| name.as_ref().to_owned());
        let mut answers = self
            .for_each("describe the topics", names, |open| async move {
                self.ask_about_topics(open).await
            })
            .await?;
        let unknown = |answer: &Result<TopicDescription>| {
            answer
                .as_ref()
                .is_err_and(|error| error.code() == Some(ErrorCode::UnknownTopicOrPartition))
        };
        if answers.values().any(unknown) {
            let all = self.list_topics().await.unwrap_or_default();
            for (name, answer) in answers.iter_mut().filter(|(_, answer)| unknown(answer)) {
                *answer = Err(unknown_topic(name, &all));
            }
        }
        Ok(answers)
    }

    async fn ask_about_topics(&self, open: Vec<String>) -> Result<Vec<(String, Result<TopicDescription>)>> {
        let request = MetadataRequest {
            topics: Some(
                open.iter()
                    .map(|name| MetadataRequestTopic {
                        name: Some(name),
                        ..Default::default()
                    })
                    .collect(),
            ),
            allow_auto_topic_creation: false,
            ..Default::default()
        };
        let frame = self.client.request_any(i16::MAX, &request).await?;
        let response = frame.decode()?;
        if response.error_code != 0 {
            return Err(Error::from_code(response.error_code, "metadata").with_broker(frame.broker()));
        }
        let snapshot = ClusterSnapshot::default().merged(&response, Scope::All);
        let answer = |name: &String| match (snapshot.topic(name), snapshot.topic_error(name)) {
            (Some(topic), None) => Some(Ok(TopicDescription::from(&**topic))),
            (_, Some(code)) => Some(Err(Error::from_code(code.code(), format_args!("topic {name:?}")))),
            (None, None) => None,
        };
        Ok(open
            .iter()
            .filter_map(|name| Some((name.clone(), answer(name)?)))
            .collect())
    }
}

fn unknown_topic(name: &str, all: &[TopicListing]) -> Error {
    let near = nearest(name, all.iter().map(|topic| &*topic.name));
    let hint = near.map_or_else(String::new, |near| format!("; did you mean {near:?}?"));
    Error::new(ErrorKind::UnknownTopic, format!("topic {name:?} does not exist{hint}"))
        .with_code(ErrorCode::UnknownTopicOrPartition)
}
