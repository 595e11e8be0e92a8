//! One look at a cluster.
//!
//! In: an admin client. Out: a [`Sample`]: brokers, topics with the ends of their logs, groups with what they have committed, and
//! when that was. A topic or group that is gone or may not be seen is left out; a cluster that does not answer is an error.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ottla::{Admin, Error, OffsetSpec, TopicPartition};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::groups::standing::{Standing, offsets_of};

/// Groups that are asked about at the same time.
const AT_ONCE: usize = 16;

/// What a cluster was at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sample {
    /// When, counted from the start of the program.
    pub at: Duration,
    pub cluster_id: String,
    pub brokers: Vec<Broker>,
    pub topics: BTreeMap<String, Topic>,
    pub groups: BTreeMap<String, Group>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Broker {
    pub id: i32,
    pub address: String,
    pub rack: Option<String>,
    pub controller: bool,
    /// Partitions that it leads.
    pub leads: usize,
    /// Replicas that it has.
    pub replicas: usize,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Topic {
    pub internal: bool,
    /// Partitions with fewer replicas in sync than there are.
    pub out_of_sync: usize,
    /// By partition; `None` for the end where nobody could say it.
    pub partitions: BTreeMap<i32, Partition>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Partition {
    pub leader: Option<i32>,
    pub end: Option<i64>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Group {
    pub state: String,
    pub protocol: String,
    pub members: usize,
    /// All that are committed or assigned.
    pub partitions: BTreeMap<TopicPartition, GroupPartition>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GroupPartition {
    pub committed: Option<i64>,
    pub end: Option<i64>,
    /// The client id and host of the member that has it.
    pub owner: Option<String>,
}

/// Looks; the time is counted from `began`.
///
/// # Errors
/// The cluster did not answer.
pub async fn take(admin: &Arc<Admin>, began: Instant) -> Result<Sample, Error> {
    let cluster = admin.describe_cluster().await?;
    let mut topics = topics(admin).await?;
    let groups = groups(admin).await?;
    let brokers = cluster.brokers.into_iter().map(|broker| {
        let leads = topics.values().flat_map(|(topic, _)| topic.partitions.values());
        let replicas = topics.values().flat_map(|(_, replicas)| replicas);
        Broker {
            id: broker.id,
            address: format!("{}:{}", broker.host, broker.port),
            rack: broker.rack,
            controller: cluster.controller == Some(broker.id),
            leads: leads.filter(|partition| partition.leader == Some(broker.id)).count(),
            replicas: replicas.filter(|replica| **replica == broker.id).count(),
        }
    });
    let brokers = brokers.collect();
    // Ends last: nobody is ahead of a log that was looked at after him.
    let all = topics.iter().flat_map(|(name, (topic, _))| {
        let partitions = topic.partitions.keys();
        partitions.map(|partition| TopicPartition::new(name.as_str(), *partition))
    });
    let ends = offsets_of(admin, all.collect::<Vec<_>>(), OffsetSpec::Latest).await?;
    let end_of = |partition: &TopicPartition| ends.get(partition).copied().flatten();
    for (name, (topic, _)) in &mut topics {
        for (number, partition) in &mut topic.partitions {
            partition.end = end_of(&TopicPartition::new(name.as_str(), *number));
        }
    }
    let groups = groups.into_iter().map(|standing| {
        let group = group_of(&standing, end_of);
        (standing.description.group_id, group)
    });
    Ok(Sample {
        at: began.elapsed(),
        cluster_id: cluster.cluster_id,
        brokers,
        groups: groups.collect(),
        topics: topics.into_iter().map(|(name, (topic, _))| (name, topic)).collect(),
    })
}

/// The topics, each with the brokers of all its replicas.
async fn topics(admin: &Admin) -> Result<BTreeMap<String, (Topic, Vec<i32>)>, Error> {
    let listed = admin.list_topics().await?;
    let names: Vec<&str> = listed.iter().map(|topic| &*topic.name).collect();
    if names.is_empty() {
        return Ok(BTreeMap::new());
    }
    let described = admin.describe_topics(&names).await?;
    let described = described
        .into_iter()
        .filter_map(|(name, topic)| Some((name, topic.ok()?)));
    let topics = described.map(|(name, described)| {
        let partitions = described.partitions.iter().map(|partition| {
            let leader = partition.leader;
            (partition.partition, Partition { leader, end: None })
        });
        let short = described.partitions.iter();
        let topic = Topic {
            internal: described.internal,
            out_of_sync: short
                .filter(|partition| partition.in_sync.len() < partition.replicas.len())
                .count(),
            partitions: partitions.collect(),
        };
        let replicas = described.partitions.iter().flat_map(|partition| &partition.replicas);
        (name, (topic, replicas.copied().collect()))
    });
    Ok(topics.collect())
}

async fn groups(admin: &Arc<Admin>) -> Result<Vec<Standing>, Error> {
    let turns = Arc::new(Semaphore::new(AT_ONCE));
    let mut asked = JoinSet::new();
    for group in admin.list_groups(&[], &[]).await? {
        let (admin, turns) = (admin.clone(), turns.clone());
        asked.spawn(async move {
            let _turn = turns.acquire().await;
            Standing::of(&admin, &group.group_id).await
        });
    }
    let answers = asked.join_all().await;
    // One that is gone since it was listed, or may not be described, is not the others' trouble.
    Ok(answers.into_iter().filter_map(Result::ok).collect())
}

fn group_of(standing: &Standing, end_of: impl Fn(&TopicPartition) -> Option<i64>) -> Group {
    let owners = standing.owners();
    let partitions = standing.partitions().into_iter().map(|partition| {
        let owner = owners.get(&partition);
        let known = GroupPartition {
            committed: standing.committed.get(&partition).copied(),
            end: end_of(&partition),
            owner: owner.map(|member| format!("{} {}", member.client_id, member.host)),
        };
        (partition, known)
    });
    Group {
        state: standing.description.state.clone(),
        protocol: standing.description.group_type.to_owned(),
        members: standing.description.members.len(),
        partitions: partitions.collect(),
    }
}
