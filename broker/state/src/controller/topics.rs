//! Topics come and go: CreateTopics and DeleteTopics.

use super::partitions::{check_assignment, check_count, partition_record};
use super::{ApiError, ClusterImage, names, placement};
use ottla_protocol::internal::metadata::MetadataRecord;
use ottla_protocol::internal::{ConfigRecord, RemoveTopicRecord, TopicRecord};
use ottla_protocol::{ErrorCode, Uuid};
use rand::{Rng, RngExt};
use std::collections::BTreeMap;

/// A topic to be created.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NewTopic<'a> {
    /// Its name.
    pub name: &'a str,
    /// How many partitions; -1 asks for the broker's default.
    pub partitions: i32,
    /// How many replicas; -1 asks for the broker's default.
    pub replication_factor: i16,
    /// Partition numbers and their replicas; empty leaves them to the broker. Then both numbers above must be -1.
    pub assignments: Vec<(i32, Vec<i32>)>,
    /// Its configuration.
    pub configs: Vec<(&'a str, Option<&'a str>)>,
}

/// What the broker adds to the wishes of its clients.
pub struct TopicRules<'r> {
    /// `num.partitions`.
    pub num_partitions: i32,
    /// `default.replication.factor`.
    pub replication_factor: i16,
    /// Says what is wrong with a configuration's value, if anything is.
    pub check_config: &'r dyn Fn(&str, &str) -> Result<(), String>,
}

/// A topic that will exist once its records are committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CreatedTopic {
    /// Its id.
    pub id: Uuid,
    /// How many partitions it has.
    pub partitions: i32,
    /// How many replicas each of them has.
    pub replication_factor: i16,
}

/// Decides about `topics`, each by itself: one result for each, in their order, and the records of those that are
/// accepted.
///
/// A name that occurs twice is refused each time (INVALID_REQUEST). Errors of a single topic: TOPIC_ALREADY_EXISTS,
/// INVALID_TOPIC_EXCEPTION, INVALID_PARTITIONS, INVALID_REPLICATION_FACTOR, INVALID_REPLICA_ASSIGNMENT, INVALID_CONFIG,
/// INVALID_REQUEST (an assignment and a number at once), POLICY_VIOLATION (too many partitions in one request).
pub fn create_topics<'a>(
    image: &ClusterImage,
    topics: &[NewTopic<'a>],
    rules: &TopicRules<'_>,
    random: &mut dyn Rng,
) -> (Vec<MetadataRecord<'a>>, Vec<Result<CreatedTopic, ApiError>>) {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for topic in topics {
        *counts.entry(topic.name).or_default() += 1;
    }
    let mut creation = Creation {
        image,
        rules,
        names: Vec::new(),
        partitions: 0,
        records: Vec::new(),
    };
    let decide = |topic: &NewTopic<'a>| {
        if counts.get(topic.name).is_some_and(|count| *count > 1) {
            let message = format!("topic \"{}\" occurs twice in the request", topic.name);
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        creation.add(topic, random)
    };
    let results = topics.iter().map(decide).collect();
    (creation.records, results)
}

struct Creation<'a, 'i> {
    image: &'i ClusterImage,
    rules: &'i TopicRules<'i>,
    /// Names accepted so far: the next may not collide with them either.
    names: Vec<&'a str>,
    /// Partitions accepted so far.
    partitions: usize,
    records: Vec<MetadataRecord<'a>>,
}

impl<'a> Creation<'a, '_> {
    fn add(&mut self, topic: &NewTopic<'a>, random: &mut dyn Rng) -> Result<CreatedTopic, ApiError> {
        if self.image.topic(topic.name).is_some() {
            let message = format!("topic \"{}\" exists already", topic.name);
            return Err(ApiError::new(ErrorCode::TopicAlreadyExists, message));
        }
        names::check(topic.name)?;
        if topic.name == names::METADATA_TOPIC {
            let message = format!("{} is the metadata log, not a topic", names::METADATA_TOPIC);
            return Err(ApiError::new(ErrorCode::TopicAuthorizationFailed, message));
        }
        names::check_collision(topic.name, self.image, &self.names)?;
        let configs = self.check_configs(topic)?;
        let placed = self.place(topic, random)?;
        let id = new_topic_id(self.image, random);

        let mut records = vec![MetadataRecord::Topic(TopicRecord {
            name: topic.name,
            topic_id: id,
        })];
        // A reader that meets the partitions already knows how they are configured.
        records.extend(configs);
        let replication_factor = placed.first().map_or(0, Vec::len);
        let partitions = placed.len();
        for (index, replicas) in placed.into_iter().enumerate() {
            records.push(partition_record(self.image, id, index, replicas)?);
        }
        self.records.append(&mut records);
        self.names.push(topic.name);
        self.partitions += partitions;
        Ok(CreatedTopic {
            id,
            partitions: i32::try_from(partitions).unwrap_or(i32::MAX),
            replication_factor: i16::try_from(replication_factor).unwrap_or(i16::MAX),
        })
    }

    fn check_configs(&self, topic: &NewTopic<'a>) -> Result<Vec<MetadataRecord<'a>>, ApiError> {
        // A name given twice counts once, with its last value.
        let mut configs = BTreeMap::new();
        for &(name, value) in &topic.configs {
            let checked = match value {
                None => Err(format!("{name} has no value")),
                Some(value) => (self.rules.check_config)(name, value),
            };
            checked.map_err(|problem| ApiError::new(ErrorCode::InvalidConfig, problem))?;
            configs.insert(name, value);
        }
        let record = |(name, value)| {
            MetadataRecord::Config(ConfigRecord {
                resource_type: 2,
                resource_name: topic.name,
                name,
                value,
            })
        };
        Ok(configs.into_iter().map(record).collect())
    }

    fn place(&self, topic: &NewTopic<'a>, random: &mut dyn Rng) -> Result<Vec<Vec<i32>>, ApiError> {
        if !topic.assignments.is_empty() {
            return self.check_assignments(topic);
        }
        let replicas = or_default(
            i32::from(topic.replication_factor),
            i32::from(self.rules.replication_factor),
        )
        .ok_or_else(|| {
            let message = "the replication factor must be above 0, or -1 for the default".to_owned();
            ApiError::new(ErrorCode::InvalidReplicationFactor, message)
        })?;
        let partitions = or_default(topic.partitions, self.rules.num_partitions).ok_or_else(|| {
            let message = "the number of partitions must be above 0, or -1 for the default".to_owned();
            ApiError::new(ErrorCode::InvalidPartitions, message)
        })?;
        check_count(self.partitions.saturating_add(partitions))?;
        placement::place(&placement::candidates(self.image), partitions, replicas, random)
    }

    fn check_assignments(&self, topic: &NewTopic<'a>) -> Result<Vec<Vec<i32>>, ApiError> {
        if topic.partitions != -1 || topic.replication_factor != -1 {
            let message = "with an assignment, the number of partitions and the replication factor must be -1";
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        check_count(self.partitions.saturating_add(topic.assignments.len()))?;
        let replication_factor = topic.assignments.first().map(|(_, replicas)| replicas.len());
        let mut placed = BTreeMap::new();
        for (partition, replicas) in &topic.assignments {
            check_assignment(self.image, replicas, replication_factor)?;
            if placed.insert(*partition, replicas.clone()).is_some() {
                let message = format!("partition {partition} is assigned twice");
                return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
            }
        }
        if !placed.keys().copied().eq((0..).take(placed.len())) {
            let message = "the partitions of an assignment must be numbered from 0 without a gap";
            return Err(ApiError::new(ErrorCode::InvalidReplicaAssignment, message));
        }
        Ok(placed.into_values().collect())
    }
}

/// `wish`, or `default` for -1; `None` if neither is a positive number.
fn or_default(wish: i32, default: i32) -> Option<usize> {
    usize::try_from(if wish == -1 { default } else { wish })
        .ok()
        .filter(|number| *number > 0)
}

fn new_topic_id(image: &ClusterImage, random: &mut dyn Rng) -> Uuid {
    loop {
        let id = Uuid::from_random_bytes(random.random());
        // A text that begins with '-' is taken for an option on command lines.
        if image.topic_by_id(id).is_none() && !id.to_string().starts_with('-') {
            return id;
        }
    }
}

/// Decides which of the topics with these ids go: one result for each, and the records of those that do.
///
/// Errors of a single id: UNKNOWN_TOPIC_ID; an id that occurs twice is refused the second time.
pub fn delete_topics(image: &ClusterImage, ids: &[Uuid]) -> (Vec<MetadataRecord<'static>>, Vec<Result<(), ApiError>>) {
    let mut records: Vec<MetadataRecord<'static>> = Vec::with_capacity(ids.len());
    let mut seen = std::collections::BTreeSet::new();
    let decide = |&topic_id: &Uuid| {
        if image.topic_by_id(topic_id).is_none() || !seen.insert(topic_id) {
            return Err(ApiError::new(
                ErrorCode::UnknownTopicId,
                format!("there is no topic with the id {topic_id}"),
            ));
        }
        records.push(MetadataRecord::RemoveTopic(RemoveTopicRecord { topic_id }));
        Ok(())
    };
    let results = ids.iter().map(decide).collect();
    (records, results)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{apply, cluster, topic};
    use super::*;
    use rand::SeedableRng;
    use rand::rngs::StdRng;

    fn no_check(_: &str, _: &str) -> Result<(), String> {
        Ok(())
    }

    fn create(image: &mut ClusterImage, topics: &[NewTopic<'_>]) -> Vec<Result<CreatedTopic, ApiError>> {
        let check_config = |name: &str, value: &str| {
            if value == "wrong" {
                Err(format!("{name} must not be \"{value}\""))
            } else {
                Ok(())
            }
        };
        let rules = TopicRules {
            num_partitions: 4,
            replication_factor: 2,
            check_config: &check_config,
        };
        let (records, results) = create_topics(image, topics, &rules, &mut StdRng::seed_from_u64(7));
        apply(image, &records);
        results
    }

    fn wish(name: &str, partitions: i32, replication_factor: i16) -> NewTopic<'_> {
        NewTopic {
            name,
            partitions,
            replication_factor,
            ..NewTopic::default()
        }
    }

    fn code(image: &mut ClusterImage, topic: NewTopic<'_>) -> ErrorCode {
        create(image, &[topic])[0].clone().unwrap_err().code
    }

    #[test]
    fn a_topic_gets_what_it_asks_for_or_the_brokers_defaults() {
        let mut image = cluster(3);
        let results = create(&mut image, &[wish("a", 3, 1), wish("b", -1, -1)]);
        let b = results[1].clone().unwrap();
        assert_eq!((b.partitions, b.replication_factor), (4, 2));
        assert_eq!(image.topic("a").unwrap().partitions.len(), 3);
        let topic = image.topic("b").unwrap();
        assert_eq!(topic.id, b.id);
        assert!(
            topic
                .partitions
                .iter()
                .all(|partition| partition.replicas.len() == 2 && partition.leader_epoch == 0)
        );
        assert_eq!(image.topic_by_id(b.id).unwrap().name, topic.name);
    }

    #[test]
    fn one_bad_topic_does_not_stop_the_others() {
        let mut image = cluster(1);
        let results = create(&mut image, &[wish("a b", 1, 1), wish("good", 1, 1), wish("bad", 1, 2)]);
        let codes: Vec<_> = results
            .iter()
            .map(|result| result.as_ref().err().map(|error| error.code))
            .collect();
        assert_eq!(
            codes,
            [
                Some(ErrorCode::InvalidTopicException),
                None,
                Some(ErrorCode::InvalidReplicationFactor)
            ]
        );
        assert_eq!(image.topic_count(), 1);
    }

    #[test]
    fn each_wrong_wish_has_kafkas_code() {
        let mut image = cluster(2);
        topic(&mut image, "there.is", 1, 1);
        assert_eq!(code(&mut image, wish("there.is", 1, 1)), ErrorCode::TopicAlreadyExists);
        assert_eq!(
            code(&mut image, wish("there_is", 1, 1)),
            ErrorCode::InvalidTopicException
        );
        assert_eq!(
            code(&mut image, wish("__cluster_metadata", 1, 1)),
            ErrorCode::TopicAuthorizationFailed
        );
        assert_eq!(code(&mut image, wish("t", 0, 1)), ErrorCode::InvalidPartitions);
        assert_eq!(code(&mut image, wish("t", -2, 1)), ErrorCode::InvalidPartitions);
        assert_eq!(code(&mut image, wish("t", i32::MAX, 1)), ErrorCode::PolicyViolation);
        assert_eq!(code(&mut image, wish("t", 1, 0)), ErrorCode::InvalidReplicationFactor);
        assert_eq!(code(&mut image, wish("t", 1, 3)), ErrorCode::InvalidReplicationFactor);
        for (value, expected) in [
            (Some("wrong"), ErrorCode::InvalidConfig),
            (None, ErrorCode::InvalidConfig),
        ] {
            let topic = NewTopic {
                configs: vec![("k", value)],
                ..wish("t", 1, 1)
            };
            assert_eq!(code(&mut image, topic), expected);
        }
        assert_eq!(image.topic_count(), 1);
    }

    #[test]
    fn an_assignment_is_taken_as_it_is_or_refused() {
        let mut image = cluster(3);
        let assigned = |assignments: &[(i32, &[i32])]| NewTopic {
            assignments: assignments
                .iter()
                .map(|&(partition, replicas)| (partition, replicas.to_vec()))
                .collect(),
            ..wish("t", -1, -1)
        };
        for wrong in [
            assigned(&[(0, &[1]), (0, &[2])]),
            assigned(&[(1, &[1])]),
            assigned(&[(0, &[1]), (2, &[1])]),
            assigned(&[(0, &[])]),
            assigned(&[(0, &[1, 1])]),
            assigned(&[(0, &[9])]),
            assigned(&[(0, &[1]), (1, &[1, 2])]),
        ] {
            assert_eq!(code(&mut image, wrong), ErrorCode::InvalidReplicaAssignment);
        }
        let both = NewTopic {
            partitions: 1,
            ..assigned(&[(0, &[1])])
        };
        assert_eq!(code(&mut image, both), ErrorCode::InvalidRequest);
        let result = create(&mut image, &[assigned(&[(1, &[3, 1]), (0, &[2, 3])])]);
        assert_eq!(result[0].clone().unwrap().partitions, 2);
        let topic = image.topic("t").unwrap();
        assert_eq!(topic.partitions[0].replicas, [2, 3]);
        assert_eq!(topic.partitions[1].leader, Some(3));
    }

    #[test]
    fn a_name_that_occurs_twice_is_refused_each_time() {
        let mut image = cluster(1);
        let results = create(&mut image, &[wish("a", 1, 1), wish("b", 1, 1), wish("a", 2, 1)]);
        for index in [0, 2] {
            assert_eq!(results[index].clone().unwrap_err().code, ErrorCode::InvalidRequest);
        }
        assert_eq!(image.topic_count(), 1);
        let results = create(&mut image, &[wish("x.y", 1, 1), wish("x_y", 1, 1)]);
        assert_eq!(results[1].clone().unwrap_err().code, ErrorCode::InvalidTopicException);
    }

    #[test]
    fn the_configuration_comes_before_the_partitions_and_goes_with_the_topic() {
        let mut image = cluster(1);
        let rules = TopicRules {
            num_partitions: 1,
            replication_factor: 1,
            check_config: &no_check,
        };
        let topic = NewTopic {
            configs: vec![("retention.ms", Some("1"))],
            ..wish("t", 1, 1)
        };
        let (records, _) = create_topics(&image, &[topic], &rules, &mut StdRng::seed_from_u64(7));
        let order: Vec<i16> = records.iter().map(MetadataRecord::api_key).collect();
        assert_eq!(order, [2, 4, 3]);
        apply(&mut image, &records);
        assert_eq!(
            image.topic_config("t").get("retention.ms").map(String::as_str),
            Some("1")
        );
        let id = image.topic("t").unwrap().id;
        let (records, results) = delete_topics(&image, &[id, id, Uuid::ZERO]);
        assert_eq!(results.iter().filter(|result| result.is_ok()).count(), 1);
        assert_eq!(results[2].clone().unwrap_err().code, ErrorCode::UnknownTopicId);
        apply(&mut image, &records);
        assert!(image.topic("t").is_none() && image.topic_by_id(id).is_none() && image.topic_config("t").is_empty());
    }
}
