//! `ottla topics`: create, list, describe, alter and delete, with the option names of Kafka's `kafka-topics`.
//!
//! In: one action and its options. Out: a line a topic on standard output; a failure names every topic that was not done.

use clap::Args;
use ottla::{
    Admin, Answers, ConfigChange, ConfigEntry, ConfigResource, ConfigSource, ErrorCode, NewTopic, TopicDescription,
};
use ottla_broker::coordinator::OFFSETS_TOPIC;

use crate::connection::{ConnectionArguments, split_property};
use crate::output::say;
use crate::{Failure, Outcome};

/// Create, list, describe, alter or delete topics.
#[derive(Args, Debug)]
#[command(group = clap::ArgGroup::new("action").required(true).args(["create", "list", "describe", "alter", "delete"]))]
pub struct TopicsArguments {
    #[command(flatten)]
    connection: ConnectionArguments,

    /// Create a topic.
    #[arg(long)]
    create: bool,
    /// List the topics' names.
    #[arg(long)]
    list: bool,
    /// Show partitions, leaders, replicas and configurations.
    #[arg(long)]
    describe: bool,
    /// Add partitions, or change configurations.
    #[arg(long)]
    alter: bool,
    /// Delete a topic with all its records.
    #[arg(long)]
    delete: bool,

    /// The topic; for --delete and --describe several, separated by commas.
    #[arg(long, value_name = "NAME")]
    topic: Option<String>,
    /// How many partitions (create: default the broker's num.partitions; alter: the new total).
    #[arg(long, value_name = "N")]
    partitions: Option<i32>,
    /// How many replicas of each partition (default: the broker's default.replication.factor).
    #[arg(long, value_name = "N")]
    replication_factor: Option<i16>,
    /// A topic configuration; may be repeated.
    #[arg(long, value_name = "KEY=VALUE")]
    config: Vec<String>,
    /// With --alter: back to the broker's default; may be repeated.
    #[arg(long, value_name = "KEY")]
    delete_config: Vec<String>,
    /// Create: no error if the topic is there already.
    #[arg(long)]
    if_not_exists: bool,
    /// Alter, describe, delete: no error if the topic is not there.
    #[arg(long)]
    if_exists: bool,
    /// A setting of the admin client by Kafka's key; may be repeated.
    #[arg(long = "property", visible_alias = "command-property", value_name = "KEY=VALUE")]
    properties: Vec<String>,
    /// List and describe: leave out the topics that the cluster keeps for itself.
    #[arg(long)]
    exclude_internal: bool,
}

/// Does the one action asked for.
pub async fn run(arguments: TopicsArguments) -> Outcome {
    let admin = Admin::from_properties(arguments.connection.pairs(&arguments.properties)?)?
        .build()
        .await?;
    let outcome = if arguments.create {
        create(&admin, &arguments).await
    } else if arguments.list {
        list(&admin, &arguments).await
    } else if arguments.describe {
        describe(&admin, &arguments).await
    } else if arguments.alter {
        alter(&admin, &arguments).await
    } else {
        delete(&admin, &arguments).await
    };
    admin.close().await;
    outcome
}

impl TopicsArguments {
    fn topic(&self) -> Result<&str, Failure> {
        self.topic
            .as_deref()
            .ok_or_else(|| Failure::new("which topic? Name it with --topic"))
    }

    fn topic_list(&self) -> Vec<String> {
        self.topic
            .iter()
            .flat_map(|names| names.split(','))
            .map(|name| name.trim().to_owned())
            .collect()
    }

    /// `--if-exists` makes a topic that is not there no error.
    fn passes_over(&self, error: &ottla::Error) -> bool {
        self.if_exists && error.code() == Some(ErrorCode::UnknownTopicOrPartition)
    }

    fn configs(&self) -> Result<Vec<(String, String)>, Failure> {
        self.config
            .iter()
            .map(|pair| {
                split_property(pair)
                    .ok_or_else(|| Failure::new(format!("--config '{pair}' is not of the form key=value")))
            })
            .collect()
    }
}

async fn create(admin: &Admin, arguments: &TopicsArguments) -> Outcome {
    let name = arguments.topic()?;
    let mut topic = NewTopic::new(name);
    if let Some(partitions) = arguments.partitions {
        topic = topic.partitions(partitions);
    }
    if let Some(factor) = arguments.replication_factor {
        topic = topic.replication_factor(factor);
    }
    for (key, value) in arguments.configs()? {
        topic = topic.config(key, value);
    }
    match the_answer(admin.create_topics(&[topic]).await?)? {
        Ok(_) => say!("Created topic {name}."),
        Err(error) if arguments.if_not_exists && error.code() == Some(ErrorCode::TopicAlreadyExists) => {
            say!("Topic {name} exists already.");
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

async fn list(admin: &Admin, arguments: &TopicsArguments) -> Outcome {
    for topic in admin.list_topics().await? {
        if !(topic.internal && arguments.exclude_internal) {
            say!("{}", topic.name);
        }
    }
    Ok(())
}

async fn describe(admin: &Admin, arguments: &TopicsArguments) -> Outcome {
    let mut names = arguments.topic_list();
    if names.is_empty() {
        let topics = admin.list_topics().await?;
        let wanted = topics
            .iter()
            .filter(|topic| !(topic.internal && arguments.exclude_internal));
        names = wanted.map(|topic| topic.name.to_string()).collect();
    }
    if names.is_empty() {
        return Ok(());
    }
    let resources: Vec<_> = names.iter().map(|name| ConfigResource::Topic(name.clone())).collect();
    let descriptions = admin.describe_topics(&names).await?;
    let configs = admin.describe_configs(&resources).await?;
    let mut failures = Vec::new();
    for name in &names {
        match descriptions.get(name) {
            Some(Ok(topic)) => print_topic(topic, configs.get(&ConfigResource::Topic(name.clone()))),
            Some(Err(error)) if arguments.passes_over(error) => {}
            Some(Err(error)) => failures.push(error.to_string()),
            None => failures.push(format!("no answer about {name}")),
        }
    }
    all_done(&failures)
}

/// One line of the topic, one of each partition, in the words of Kafka's tool.
fn print_topic(topic: &TopicDescription, configs: Option<&Result<Vec<ConfigEntry>, ottla::Error>>) {
    let own: Vec<String> = configs
        .and_then(|configs| configs.as_ref().ok())
        .into_iter()
        .flatten()
        .filter(|entry| entry.source == ConfigSource::Topic)
        .map(|entry| format!("{}={}", entry.name, entry.value.as_deref().unwrap_or("")))
        .collect();
    let replication_factor = topic
        .partitions
        .iter()
        .map(|partition| partition.replicas.len())
        .max()
        .unwrap_or(0);
    say!(
        "Topic: {}\tTopicId: {}\tPartitionCount: {}\tReplicationFactor: {replication_factor}\tConfigs: {}",
        topic.name,
        topic.id,
        topic.partitions.len(),
        own.join(",")
    );
    for partition in &topic.partitions {
        say!(
            "\tTopic: {}\tPartition: {}\tLeader: {}\tReplicas: {}\tIsr: {}",
            topic.name,
            partition.partition,
            partition.leader.map_or("none".to_owned(), |leader| leader.to_string()),
            joined(&partition.replicas),
            joined(&partition.in_sync)
        );
    }
}

fn joined(brokers: &[i32]) -> String {
    brokers.iter().map(i32::to_string).collect::<Vec<_>>().join(",")
}

async fn alter(admin: &Admin, arguments: &TopicsArguments) -> Outcome {
    let name = arguments.topic()?;
    let mut changes: Vec<ConfigChange> = arguments
        .configs()?
        .into_iter()
        .map(|(key, value)| ConfigChange::Set(key, value))
        .collect();
    changes.extend(arguments.delete_config.iter().cloned().map(ConfigChange::Delete));
    if arguments.partitions.is_none() && changes.is_empty() {
        return Err(Failure::new(
            "nothing to alter: give --partitions, --config or --delete-config",
        ));
    }
    if let Some(partitions) = arguments.partitions {
        if name == OFFSETS_TOPIC {
            // As kafka-topics does: brokers may well take it, and would look for every group in another partition.
            return Err(Failure::new(
                "the number of partitions of __consumer_offsets cannot be changed: groups are found by it, and would lose their offsets",
            ));
        }
        match the_answer(admin.create_partitions(&[(name, partitions)]).await?)? {
            Ok(()) => say!("Topic {name} has {partitions} partitions."),
            Err(error) if arguments.passes_over(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    if !changes.is_empty() {
        let resource = ConfigResource::Topic(name.to_owned());
        match the_answer(admin.incremental_alter_configs(&[(resource, changes)]).await?)? {
            Ok(()) => say!("Altered the configuration of topic {name}."),
            Err(error) if arguments.passes_over(&error) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

async fn delete(admin: &Admin, arguments: &TopicsArguments) -> Outcome {
    arguments.topic()?;
    let mut failures = Vec::new();
    for (name, answer) in admin.delete_topics(&arguments.topic_list()).await? {
        match answer {
            Ok(()) => say!("Deleted topic {name}."),
            Err(error) if arguments.passes_over(&error) => {}
            Err(error) => failures.push(error.to_string()),
        }
    }
    all_done(&failures)
}

/// The answer of a call about one thing.
///
/// # Errors
/// The broker left it out.
pub fn the_answer<K, T>(answers: Answers<K, T>) -> Result<Result<T, ottla::Error>, Failure> {
    let answer = answers.into_values().next();
    answer.ok_or_else(|| Failure::new("the broker did not answer about what it was asked"))
}

fn all_done(failures: &[String]) -> Outcome {
    if failures.is_empty() {
        Ok(())
    } else {
        Err(Failure::new(failures.join("\n")))
    }
}
