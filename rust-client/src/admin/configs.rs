//! Configurations of topics and brokers: describe, alter.

use std::fmt;

use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::DescribeConfigsResourceResult;
use ottla_protocol::messages::incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
use ottla_protocol::messages::{DescribeConfigsRequest, IncrementalAlterConfigsRequest};

use super::{Admin, Answers, item_error};
use crate::error::Result;

/// What has a configuration.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum ConfigResource {
    /// A topic, by name.
    Topic(String),
    /// A broker, by id; `None` for the defaults of all brokers.
    Broker(Option<i32>),
}

impl ConfigResource {
    fn code(&self) -> i8 {
        match self {
            ConfigResource::Topic(_) => 2,
            ConfigResource::Broker(_) => 4,
        }
    }

    fn name(&self) -> String {
        match self {
            ConfigResource::Topic(name) => name.clone(),
            ConfigResource::Broker(id) => id.map_or_else(String::new, |id| id.to_string()),
        }
    }

    fn from_wire(code: i8, name: &str) -> Option<Self> {
        match code {
            2 => Some(ConfigResource::Topic(name.to_owned())),
            4 if name.is_empty() => Some(ConfigResource::Broker(None)),
            4 => name.parse().ok().map(|id| ConfigResource::Broker(Some(id))),
            _ => None,
        }
    }
}

impl fmt::Display for ConfigResource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigResource::Topic(name) => write!(f, "topic {name:?}"),
            ConfigResource::Broker(Some(id)) => write!(f, "broker {id}"),
            ConfigResource::Broker(None) => f.write_str("all brokers"),
        }
    }
}

/// Where a value comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConfigSource {
    /// Set on the topic.
    Topic,
    /// Set on this broker while it runs.
    DynamicBroker,
    /// Set on all brokers while they run.
    DynamicDefaultBroker,
    /// The broker's configuration file.
    StaticBroker,
    /// Nobody set it.
    Default,
    /// A source that this client does not know, with its number.
    Other(i8),
}

impl From<i8> for ConfigSource {
    fn from(code: i8) -> Self {
        match code {
            1 => ConfigSource::Topic,
            2 => ConfigSource::DynamicBroker,
            3 => ConfigSource::DynamicDefaultBroker,
            4 => ConfigSource::StaticBroker,
            5 => ConfigSource::Default,
            other => ConfigSource::Other(other),
        }
    }
}

/// One key of a configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigEntry {
    /// The key.
    pub name: String,
    /// Its value; `None` when it has none or the broker keeps it secret.
    pub value: Option<String>,
    /// Where the value comes from.
    pub source: ConfigSource,
    /// Whether it can be changed.
    pub read_only: bool,
    /// Whether the broker keeps its value secret.
    pub sensitive: bool,
    /// What the key does, in the broker's words, if it was asked.
    pub documentation: Option<String>,
}

impl From<&DescribeConfigsResourceResult<'_>> for ConfigEntry {
    fn from(config: &DescribeConfigsResourceResult<'_>) -> Self {
        ConfigEntry {
            name: config.name.to_owned(),
            value: config.value.map(str::to_owned),
            source: config.config_source.into(),
            read_only: config.read_only,
            sensitive: config.is_sensitive,
            documentation: config.documentation.map(str::to_owned),
        }
    }
}

/// A change of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigChange {
    /// Sets the key to the value.
    Set(String, String),
    /// Takes the key's own value away, so that the default counts again.
    Delete(String),
    /// Adds to a key that is a list.
    Append(String, String),
    /// Takes away from a key that is a list.
    Subtract(String, String),
}

impl ConfigChange {
    fn to_wire(&self) -> AlterableConfig<'_> {
        let (name, config_operation, value) = match self {
            ConfigChange::Set(name, value) => (name, 0, Some(value.as_str())),
            ConfigChange::Delete(name) => (name, 1, None),
            ConfigChange::Append(name, value) => (name, 2, Some(value.as_str())),
            ConfigChange::Subtract(name, value) => (name, 3, Some(value.as_str())),
        };
        AlterableConfig {
            name,
            config_operation,
            value,
        }
    }
}

impl Admin {
    /// All keys of the configurations of these resources, with their values and where they come from.
    ///
    /// # Errors
    /// No answer at all came in time.
    pub async fn describe_configs(
        &self,
        resources: &[ConfigResource],
    ) -> Result<Answers<ConfigResource, Vec<ConfigEntry>>> {
        let mut answers = Answers::new();
        for (broker, resources) in by_broker(resources.iter().cloned()) {
            let ask = |open: Vec<ConfigResource>| async move { self.ask_configs(broker, open).await };
            answers.extend(self.for_each("describe the configurations", resources, ask).await?);
        }
        Ok(answers)
    }

    async fn ask_configs(
        &self,
        broker: Option<i32>,
        open: Vec<ConfigResource>,
    ) -> Result<Vec<(ConfigResource, Result<Vec<ConfigEntry>>)>> {
        let names: Vec<String> = open.iter().map(ConfigResource::name).collect();
        let resources = open.iter().zip(&names).map(|(resource, name)| DescribeConfigsResource {
            resource_type: resource.code(),
            resource_name: name,
            configuration_keys: None,
        });
        let request = DescribeConfigsRequest {
            resources: resources.collect(),
            include_synonyms: false,
            include_documentation: false,
        };
        let frame = match broker {
            Some(id) => self.ask_broker(id, &request).await?,
            None => self.client.request_any(i16::MAX, &request).await?,
        };
        let response = frame.decode()?;
        let answers = response.results.iter().filter_map(|result| {
            let resource = ConfigResource::from_wire(result.resource_type, result.resource_name)?;
            let answer = match result.error_code {
                0 => Ok(result.configs.iter().map(ConfigEntry::from).collect()),
                code => Err(item_error(code, result.error_message, &resource)),
            };
            Some((resource, answer))
        });
        Ok(answers.collect())
    }

    /// Changes configurations; keys that are not named stay as they are (KIP-339).
    ///
    /// # Errors
    /// No answer at all came in time.
    pub async fn incremental_alter_configs(
        &self,
        changes: &[(ConfigResource, Vec<ConfigChange>)],
    ) -> Result<Answers<ConfigResource, ()>> {
        let mut answers = Answers::new();
        for (broker, resources) in by_broker(changes.iter().map(|(resource, _)| resource.clone())) {
            let ask = |open: Vec<ConfigResource>| async move { self.ask_to_alter(broker, open, changes).await };
            answers.extend(self.for_each("alter the configurations", resources, ask).await?);
        }
        Ok(answers)
    }

    async fn ask_to_alter(
        &self,
        broker: Option<i32>,
        open: Vec<ConfigResource>,
        changes: &[(ConfigResource, Vec<ConfigChange>)],
    ) -> Result<Vec<(ConfigResource, Result<()>)>> {
        let names: Vec<String> = open.iter().map(ConfigResource::name).collect();
        let resources = open.iter().zip(&names).map(|(resource, name)| AlterConfigsResource {
            resource_type: resource.code(),
            resource_name: name,
            configs: changes
                .iter()
                .filter(|(changed, _)| changed == resource)
                .flat_map(|(_, changes)| changes.iter().map(ConfigChange::to_wire))
                .collect(),
        });
        let request = IncrementalAlterConfigsRequest {
            resources: resources.collect(),
            validate_only: false,
        };
        let frame = match broker {
            Some(id) => self.ask_broker(id, &request).await?,
            None => self.ask_controller(i16::MAX, &request).await?,
        };
        let response = frame.decode()?;
        let answers = response.responses.iter().filter_map(|result| {
            let resource = ConfigResource::from_wire(result.resource_type, result.resource_name)?;
            let answer = match result.error_code {
                0 => Ok(()),
                code => Err(item_error(code, result.error_message, &resource)),
            };
            Some((resource, answer))
        });
        Ok(answers.collect())
    }
}

/// Who must be asked: a broker knows its own configuration, and any broker knows the rest (`None`).
fn by_broker(resources: impl Iterator<Item = ConfigResource>) -> Vec<(Option<i32>, Vec<ConfigResource>)> {
    let mut groups: Vec<(Option<i32>, Vec<ConfigResource>)> = Vec::new();
    for resource in resources {
        let broker = match resource {
            ConfigResource::Broker(id) => id,
            ConfigResource::Topic(_) => None,
        };
        match groups.iter_mut().find(|(known, _)| *known == broker) {
            Some((_, group)) if group.contains(&resource) => {}
            Some((_, group)) => group.push(resource),
            None => groups.push((broker, vec![resource])),
        }
    }
    groups
}
