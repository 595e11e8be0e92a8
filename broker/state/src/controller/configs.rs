//! Changing the configuration of a topic (IncrementalAlterConfigs).

use super::{ApiError, ClusterImage};
use ottla_protocol::ErrorCode;
use ottla_protocol::internal::ConfigRecord;
use ottla_protocol::internal::metadata::MetadataRecord;
use std::collections::{BTreeMap, BTreeSet};

/// What to do with a configuration; the numbers are those of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// 0: give it this value.
    Set,
    /// 1: go back to the default.
    Delete,
    /// 2: add these members to a list.
    Append,
    /// 3: take these members from a list.
    Subtract,
}

impl Operation {
    /// The operation with this number.
    pub fn from_code(code: i8) -> Option<Operation> {
        match code {
            0 => Some(Operation::Set),
            1 => Some(Operation::Delete),
            2 => Some(Operation::Append),
            3 => Some(Operation::Subtract),
            _ => None,
        }
    }
}

/// One change of one configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alteration<'a> {
    /// The configuration's name.
    pub name: &'a str,
    /// What to do.
    pub operation: Operation,
    /// With this.
    pub value: Option<&'a str>,
}

/// The changes wanted for one topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicAlterations<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// What to change.
    pub alterations: Vec<Alteration<'a>>,
}

/// What the broker knows about topic configurations.
pub struct ConfigRules<'r> {
    /// Says that there is no such configuration, if there is none.
    pub known: &'r dyn Fn(&str) -> Result<(), String>,
    /// Says what is wrong with a configuration's value, if anything is.
    pub check: &'r dyn Fn(&str, &str) -> Result<(), String>,
    /// The value in force where a topic says nothing; `None` for what is no list.
    pub default_list: &'r dyn Fn(&str) -> Option<String>,
}

/// A value to be written down: `None` removes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigChange<'a> {
    /// The topic.
    pub topic: &'a str,
    /// The configuration's name.
    pub name: &'a str,
    /// Its new value.
    pub value: Option<String>,
}

impl ConfigChange<'_> {
    /// The record that carries the change.
    pub fn record(&self) -> MetadataRecord<'_> {
        MetadataRecord::Config(ConfigRecord {
            resource_type: 2,
            resource_name: self.topic,
            name: self.name,
            value: self.value.as_deref(),
        })
    }
}

/// Decides what `wish` makes of the configuration of its topic. Nothing that stays as it is becomes a change.
///
/// # Errors
/// All or nothing: UNKNOWN_TOPIC_OR_PARTITION, INVALID_REQUEST (a name twice, a value missing), INVALID_CONFIG.
pub fn alter_topic<'a>(
    image: &ClusterImage,
    wish: &TopicAlterations<'a>,
    rules: &ConfigRules<'_>,
) -> Result<Vec<ConfigChange<'a>>, ApiError> {
    let TopicAlterations { topic, alterations } = wish;
    if image.topic(topic).is_none() {
        let message = format!("there is no topic \"{topic}\"");
        return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message));
    }
    let present = image.topic_config(topic);
    let mut seen = BTreeSet::new();
    let mut changes = Vec::with_capacity(alterations.len());
    for alteration in alterations {
        if !seen.insert(alteration.name) {
            let message = format!("{} occurs twice", alteration.name);
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        let value = new_value(&present, alteration, rules)?;
        if present.get(alteration.name) != value.as_ref() {
            changes.push(ConfigChange {
                topic,
                name: alteration.name,
                value,
            });
        }
    }
    Ok(changes)
}

fn new_value(
    present: &BTreeMap<String, String>,
    alteration: &Alteration<'_>,
    rules: &ConfigRules<'_>,
) -> Result<Option<String>, ApiError> {
    let name = alteration.name;
    let invalid = |problem| ApiError::new(ErrorCode::InvalidConfig, problem);
    if alteration.operation == Operation::Delete {
        // What stands there can be removed, even if it is not known any more.
        if !present.contains_key(name) {
            (rules.known)(name).map_err(invalid)?;
        }
        return Ok(None);
    }
    let Some(given) = alteration.value else {
        return Err(ApiError::new(ErrorCode::InvalidRequest, format!("{name} has no value")));
    };
    let value = match alteration.operation {
        Operation::Set | Operation::Delete => given.to_owned(),
        Operation::Append | Operation::Subtract => {
            let default = (rules.default_list)(name)
                .ok_or_else(|| invalid(format!("{name} is not a list, so nothing can be added or taken away")))?;
            change_list(present.get(name).unwrap_or(&default), given, alteration.operation)
        }
    };
    (rules.check)(name, &value).map_err(invalid)?;
    Ok(Some(value))
}

fn change_list(present: &str, given: &str, operation: Operation) -> String {
    let split = |text: &str| -> Vec<String> {
        text.split(',')
            .map(str::trim)
            .filter(|member| !member.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let mut members = split(present);
    for member in split(given) {
        match operation {
            Operation::Subtract => members.retain(|known| *known != member),
            _ if members.contains(&member) => {}
            _ => members.push(member),
        }
    }
    members.join(",")
}

#[cfg(test)]
mod tests {
    use super::super::tests::{apply, cluster, topic};
    use super::*;

    fn check(name: &str, value: &str) -> Result<(), String> {
        if value == "wrong" {
            Err(format!("{name} must not be \"{value}\""))
        } else {
            known(name)
        }
    }

    fn known(name: &str) -> Result<(), String> {
        if name == "unknown" {
            Err("unknown is not a configuration".to_owned())
        } else {
            Ok(())
        }
    }

    fn default_list(name: &str) -> Option<String> {
        (name == "list").then(|| "a,b".to_owned())
    }

    const RULES: ConfigRules<'static> = ConfigRules {
        known: &known,
        check: &check,
        default_list: &default_list,
    };

    fn alter(
        image: &mut ClusterImage,
        topic: &str,
        alterations: &[(&str, i8, Option<&str>)],
    ) -> Result<usize, ErrorCode> {
        let alterations: Vec<_> = alterations
            .iter()
            .map(|&(name, operation, value)| Alteration {
                name,
                operation: Operation::from_code(operation).unwrap(),
                value,
            })
            .collect();
        let changes =
            alter_topic(image, &TopicAlterations { topic, alterations }, &RULES).map_err(|error| error.code)?;
        let records: Vec<_> = changes.iter().map(ConfigChange::record).collect();
        apply(image, &records);
        Ok(records.len())
    }

    fn configs(image: &ClusterImage) -> Vec<(String, String)> {
        image
            .topic_config("t")
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    #[test]
    fn values_are_set_and_deleted_and_nothing_is_written_twice() {
        let mut image = cluster(1);
        topic(&mut image, "t", 1, 1);
        assert_eq!(
            alter(&mut image, "t", &[("a", 0, Some("1")), ("b", 0, Some("2"))]),
            Ok(2)
        );
        assert_eq!(alter(&mut image, "t", &[("a", 0, Some("1"))]), Ok(0));
        assert_eq!(
            alter(&mut image, "t", &[("a", 1, None), ("b", 0, Some("3")), ("c", 1, None)]),
            Ok(2)
        );
        assert_eq!(configs(&image), [("b".to_owned(), "3".to_owned())]);
    }

    #[test]
    fn members_are_added_to_the_default_and_taken_away() {
        let mut image = cluster(1);
        topic(&mut image, "t", 1, 1);
        assert_eq!(alter(&mut image, "t", &[("list", 2, Some("b, c"))]), Ok(1));
        assert_eq!(configs(&image), [("list".to_owned(), "a,b,c".to_owned())]);
        assert_eq!(alter(&mut image, "t", &[("list", 3, Some("a,x"))]), Ok(1));
        assert_eq!(configs(&image), [("list".to_owned(), "b,c".to_owned())]);
        assert_eq!(
            alter(&mut image, "t", &[("a", 2, Some("x"))]),
            Err(ErrorCode::InvalidConfig)
        );
    }

    #[test]
    fn one_mistake_leaves_the_topic_as_it_was() {
        let mut image = cluster(1);
        topic(&mut image, "t", 1, 1);
        for (alterations, expected) in [
            (
                vec![("a", 0, Some("1")), ("b", 0, Some("wrong"))],
                ErrorCode::InvalidConfig,
            ),
            (vec![("a", 0, Some("1")), ("a", 1, None)], ErrorCode::InvalidRequest),
            (vec![("a", 0, None)], ErrorCode::InvalidRequest),
            (vec![("unknown", 0, Some("1"))], ErrorCode::InvalidConfig),
            (vec![("unknown", 1, None)], ErrorCode::InvalidConfig),
        ] {
            assert_eq!(alter(&mut image, "t", &alterations), Err(expected));
        }
        assert_eq!(alter(&mut image, "u", &[]), Err(ErrorCode::UnknownTopicOrPartition));
        assert!(configs(&image).is_empty());
    }
}
