//! Topics and groups, described as JSON.

use std::collections::BTreeMap;

use napi::bindgen_prelude::Result;
use napi_derive::napi;
use ottla::{NewTopic, PartitionDescription, TopicDescription};
use ottla_bindings_core::{Admin as Core, Error, TopicPartition};
use serde_json::{Map, Value, json};

use crate::border::{Post, Wake, call, pairs, parsed, partitions, told, waking};
use crate::group;

/// An admin client.
#[napi]
pub struct Admin {
    core: Core,
    post: Post,
}

#[napi]
impl Admin {
    /// Checks the options. It connects with the first call.
    #[napi(constructor)]
    pub fn new(options: Vec<Vec<String>>, wake: Wake) -> Result<Self> {
        let core = call(|| Core::start(pairs(options)?))?;
        let post = Post::new(waking(wake));
        Ok(Admin { core, post })
    }

    /// Answers that have come.
    #[napi]
    pub fn take_mail(&self) -> Vec<String> {
        self.post.take()
    }

    /// Posts when it is connected.
    #[napi]
    pub fn connected(&self, id: u32) -> Result<()> {
        let connected = self.core.connected();
        self.post.answer(id, async { connected.await.map(|()| Value::Null) })
    }

    /// Creates topics: JSON, a list of name, partitions, replicationFactor, assignments, configs.
    #[napi]
    pub fn create_topics(&self, id: u32, topics: String, validate_only: bool) -> Result<()> {
        let topics = call(|| parsed::<Vec<Value>>(&topics)?.iter().map(new_topic).collect())?;
        let created = self.core.create_topics(topics, validate_only);
        self.post.answer(id, async {
            Ok::<_, Error>(each(created.await?, |topic| {
                json!({
                    "id": topic.id.to_string(), "partitions": topic.partitions,
                    "replicationFactor": topic.replication_factor,
                })
            }))
        })
    }

    /// Deletes topics (JSON).
    #[napi]
    pub fn delete_topics(&self, id: u32, names: String) -> Result<()> {
        let deleted = self.core.delete_topics(call(|| parsed(&names))?);
        self.post
            .answer(id, async { Ok::<_, Error>(each(deleted.await?, |()| json!({}))) })
    }

    /// Gives topics more partitions: JSON, `[[topic, total], ...]`.
    #[napi]
    pub fn create_partitions(&self, id: u32, totals: String) -> Result<()> {
        let created = self.core.create_partitions(call(|| parsed(&totals))?);
        self.post
            .answer(id, async { Ok::<_, Error>(each(created.await?, |()| json!({}))) })
    }

    /// Posts all topics.
    #[napi]
    pub fn list_topics(&self, id: u32) -> Result<()> {
        let listed = self.core.list_topics();
        self.post.answer(id, async {
            let topics = listed.await?;
            let told = topics.iter().map(
                |topic| json!({ "name": topic.name.as_ref(), "id": topic.id.to_string(), "internal": topic.internal }),
            );
            Ok::<_, Error>(told.collect::<Value>())
        })
    }

    /// Posts partitions, leaders and replicas of topics (JSON).
    #[napi]
    pub fn describe_topics(&self, id: u32, names: String) -> Result<()> {
        let described = self.core.describe_topics(call(|| parsed(&names))?);
        self.post
            .answer(id, async { Ok::<_, Error>(each(described.await?, description)) })
    }

    /// Posts the cluster's id and brokers.
    #[napi]
    pub fn describe_cluster(&self, id: u32) -> Result<()> {
        let described = self.core.describe_cluster();
        self.post.answer(id, async {
            let cluster = described.await?;
            let brokers = cluster.brokers.iter().map(
                |broker| json!({ "id": broker.id, "host": broker.host, "port": broker.port, "rack": broker.rack }),
            );
            let brokers: Value = brokers.collect();
            Ok::<_, Error>(
                json!({ "clusterId": cluster.cluster_id, "controller": cluster.controller, "brokers": brokers }),
            )
        })
    }

    /// Posts all groups, narrowed down by states and types (JSON).
    #[napi]
    pub fn list_groups(&self, id: u32, states: String, types: String) -> Result<()> {
        let listed = self
            .core
            .list_groups(call(|| parsed(&states))?, call(|| parsed(&types))?);
        self.post.answer(id, async { listed.await.map(Value::String) })
    }

    /// Posts groups (JSON) with their members.
    #[napi]
    pub fn describe_consumer_groups(&self, id: u32, groups: String) -> Result<()> {
        let described = self.core.describe_consumer_groups(call(|| parsed(&groups))?);
        self.post.answer(id, async {
            Ok::<_, Error>(each(described.await?, |group| json!({ "json": group })))
        })
    }

    /// Posts all committed offsets of a group.
    #[napi]
    pub fn list_consumer_group_offsets(&self, id: u32, group: String, require_stable: bool) -> Result<()> {
        let asked = self.core.list_consumer_group_offsets(group, require_stable);
        self.post.answer(id, async {
            let known = asked.await?;
            let rows = known.iter().map(|(of, offset)| group::committed(of, Some(offset)));
            Ok::<_, Error>(rows.collect::<Value>())
        })
    }

    /// Posts what became of offsets (JSON) committed for a group without members.
    #[napi]
    pub fn alter_consumer_group_offsets(&self, id: u32, group: String, list: String) -> Result<()> {
        let offsets = call(|| group::offsets(&list))?.into_iter().collect();
        let altered = self.core.alter_consumer_group_offsets(group, offsets);
        self.post
            .answer(id, async { Ok::<_, Error>(each_partition(altered.await?)) })
    }

    /// Posts what became of offsets to forget.
    #[napi]
    pub fn delete_consumer_group_offsets(&self, id: u32, group: String, list: String) -> Result<()> {
        let deleted = self
            .core
            .delete_consumer_group_offsets(group, call(|| partitions(&list))?);
        self.post
            .answer(id, async { Ok::<_, Error>(each_partition(deleted.await?)) })
    }

    /// Posts what became of groups (JSON) to delete.
    #[napi]
    pub fn delete_consumer_groups(&self, id: u32, groups: String) -> Result<()> {
        let deleted = self.core.delete_consumer_groups(call(|| parsed(&groups))?);
        self.post
            .answer(id, async { Ok::<_, Error>(each(deleted.await?, |()| json!({}))) })
    }

    /// Ends it.
    #[napi]
    pub fn close(&self) -> Result<()> {
        call(|| self.core.close())
    }
}

/// `{name: {answer} | {error}}`.
fn each<T>(answers: BTreeMap<String, std::result::Result<T, Error>>, shown: impl Fn(T) -> Value) -> Value {
    let mut all = Map::new();
    for (name, answer) in answers {
        let shown = match answer {
            Ok(answer) => json!({ "answer": shown(answer) }),
            Err(error) => json!({ "error": told(&error) }),
        };
        all.insert(name, shown);
    }
    Value::Object(all)
}

/// `[[topic, partition, error or null], ...]`.
fn each_partition(answers: BTreeMap<TopicPartition, std::result::Result<(), Error>>) -> Value {
    let row = |(of, answer): (TopicPartition, std::result::Result<(), Error>)| {
        let error = answer.err().map(|error| told(&error));
        json!([of.topic.as_ref(), of.partition, error])
    };
    answers.into_iter().map(row).collect()
}

fn new_topic(topic: &Value) -> std::result::Result<NewTopic, Error> {
    let name = topic["name"]
        .as_str()
        .ok_or_else(|| Error::argument("a topic needs a name"))?;
    let mut new = NewTopic::new(name);
    if let Some(partitions) = number(topic, "partitions")? {
        new = new.partitions(partitions);
    }
    if let Some(replicas) = number(topic, "replicationFactor")? {
        let replicas = i16::try_from(replicas)
            .map_err(|_| Error::argument(format!("replicationFactor of {name}: {replicas} is too many")))?;
        new = new.replication_factor(replicas);
    }
    if let Some(assignments) = topic.get("assignments").filter(|value| !value.is_null()) {
        new = new.assignments(parsed(&assignments.to_string())?);
    }
    for (key, value) in topic["configs"].as_object().into_iter().flatten() {
        new = new.config(key, value.as_str().map_or_else(|| value.to_string(), str::to_owned));
    }
    Ok(new)
}

fn number(topic: &Value, field: &str) -> std::result::Result<Option<i32>, Error> {
    let Some(value) = topic.get(field).filter(|value| !value.is_null()) else {
        return Ok(None);
    };
    let number = value.as_i64().and_then(|number| i32::try_from(number).ok());
    let wrong = || {
        Error::argument(format!(
            "{field} of topic {} must be a whole number, not {value}",
            topic["name"]
        ))
    };
    number.map(Some).ok_or_else(wrong)
}

fn description(topic: TopicDescription) -> Value {
    let partition = |at: &PartitionDescription| {
        json!({
            "partition": at.partition, "leader": at.leader, "leaderEpoch": at.leader_epoch,
            "replicas": at.replicas, "inSyncReplicas": at.in_sync, "offlineReplicas": at.offline,
        })
    };
    let partitions: Value = topic.partitions.iter().map(partition).collect();
    json!({
        "name": topic.name.as_ref(), "id": topic.id.to_string(), "internal": topic.internal, "partitions": partitions,
    })
}
