//! DescribeConfigs (key 32), versions 1 to 4.
//!
//! - A topic (type 2): every configuration there is, with its value in force and where that comes from: the topic itself
//!   (1), `server.properties` (4) or the default (5). Those that cannot be set here are read-only.
//! - This broker (type 4, by its node id): every key of its configuration. Read-only: it is read at the start. An empty
//!   name asks for what is set for all brokers while they run: nothing. The values of passwords and keys are kept back
//!   (sensitive).
//! - Synonyms (all values that would apply, the one in force first) and documentation if asked for; only the keys named,
//!   if any are.
//! - Errors of a resource: UNKNOWN_TOPIC_OR_PARTITION, INVALID_TOPIC_EXCEPTION, INVALID_REQUEST (another broker's id).
//!
//! Not supported: other types (loggers, client metrics, groups): INVALID_REQUEST.

use super::{Context, Reply};
use crate::config::topic::{self, Entry, Source, Synonym};
use crate::config::{BrokerConfig, describe_broker};
use ottla_broker_state::controller::{ApiError, ClusterImage, names};
use ottla_protocol::ErrorCode;
use ottla_protocol::frame::RequestHeader;
use ottla_protocol::messages::describe_configs_request::DescribeConfigsResource;
use ottla_protocol::messages::describe_configs_response::{
    DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym,
};
use ottla_protocol::messages::{DescribeConfigsRequest, DescribeConfigsResponse};

/// The type of a topic.
pub(super) const TOPIC: i8 = 2;
/// The type of a broker.
pub(super) const BROKER: i8 = 4;

/// Carries out one request.
pub async fn handle(context: &Context, header: &RequestHeader<'_>, request: DescribeConfigsRequest<'_>) -> Reply {
    let broker = &*context.broker;
    let image = broker.image();
    let described: Vec<_> = request
        .resources
        .iter()
        .map(|resource| describe(&image, &broker.config, resource))
        .collect();
    context.reply(header, &respond(&request, &described))
}

fn describe(
    image: &ClusterImage,
    config: &BrokerConfig,
    resource: &DescribeConfigsResource<'_>,
) -> Result<Vec<Entry>, ApiError> {
    let name = resource.resource_name;
    let mut entries = match resource.resource_type {
        TOPIC => {
            names::check(name)?;
            if image.topic(name).is_none() {
                let message = format!("there is no topic \"{name}\"");
                return Err(ApiError::new(ErrorCode::UnknownTopicOrPartition, message));
            }
            topic::describe(config, &image.topic_config(name))
        }
        BROKER if name.is_empty() => Vec::new(),
        BROKER if name.parse() == Ok(config.node_id) => describe_broker(config),
        BROKER => {
            let message = format!("this is broker {}, not \"{name}\"; ask that one", config.node_id);
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
        other => {
            let message = format!("configurations of type {other} are not available");
            return Err(ApiError::new(ErrorCode::InvalidRequest, message));
        }
    };
    if let Some(wanted) = resource.configuration_keys.as_ref().filter(|wanted| !wanted.is_empty()) {
        entries.retain(|entry| wanted.contains(&entry.name));
    }
    Ok(entries)
}

fn respond<'a>(
    request: &DescribeConfigsRequest<'a>,
    described: &'a [Result<Vec<Entry>, ApiError>],
) -> DescribeConfigsResponse<'a> {
    let result = |(resource, described): (&DescribeConfigsResource<'a>, &'a Result<Vec<Entry>, ApiError>)| {
        let entries = described.as_deref().unwrap_or_default();
        DescribeConfigsResult {
            error_code: described
                .as_ref()
                .err()
                .map_or(ErrorCode::None, |error| error.code)
                .code(),
            error_message: described.as_ref().err().map(|error| &*error.message),
            resource_type: resource.resource_type,
            resource_name: resource.resource_name,
            configs: entries.iter().map(|entry| config(entry, request)).collect(),
        }
    };
    let results = request.resources.iter().zip(described).map(result).collect();
    DescribeConfigsResponse {
        results,
        ..DescribeConfigsResponse::default()
    }
}

fn config<'a>(entry: &'a Entry, request: &DescribeConfigsRequest<'_>) -> DescribeConfigsResourceResult<'a> {
    let synonym = |synonym: &'a Synonym| DescribeConfigsSynonym {
        name: synonym.name,
        value: Some(&synonym.value),
        source: source_code(synonym.source),
    };
    let synonyms: &[Synonym] = if request.include_synonyms { &entry.synonyms } else { &[] };
    DescribeConfigsResourceResult {
        name: entry.name,
        value: entry.value.as_deref(),
        read_only: entry.read_only,
        config_source: source_code(entry.source),
        is_sensitive: entry.sensitive,
        synonyms: synonyms.iter().map(synonym).collect(),
        config_type: entry.kind.code(),
        documentation: request.include_documentation.then_some(entry.doc),
    }
}

fn source_code(source: Source) -> i8 {
    source as i8
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{keys, topic};
    use crate::controller::tests::fixtures::{controller, create};

    fn resource<'a>(resource_type: i8, resource_name: &'a str, keys: &[&'a str]) -> DescribeConfigsResource<'a> {
        let configuration_keys = (!keys.is_empty()).then(|| keys.to_vec());
        DescribeConfigsResource {
            resource_type,
            resource_name,
            configuration_keys,
        }
    }

    #[tokio::test]
    async fn a_topic_lists_every_configuration_with_default_and_source() {
        let broker = controller(&[("log.retention.hours", "1")]).await;
        create(&broker, "t").await;
        let image = broker.controller.image();
        let described = vec![describe(&image, &broker.config, &resource(TOPIC, "t", &[]))];
        let request = DescribeConfigsRequest {
            resources: vec![resource(TOPIC, "t", &[])],
            include_synonyms: true,
            include_documentation: true,
        };
        let response = respond(&request, &described);
        let configs = &response.results[0].configs;
        assert_eq!(configs.len(), topic::keys().count());
        assert!(
            configs
                .iter()
                .all(|config| config.value.is_some() && config.documentation.is_some())
        );
        assert!(
            configs
                .iter()
                .all(|config| config.config_type > 0 && [1, 4, 5].contains(&config.config_source))
        );
        let retention = configs.iter().find(|config| config.name == "retention.ms").unwrap();
        assert_eq!(
            (retention.value, retention.config_source, retention.read_only),
            (Some("3600000"), 4, false)
        );
        let synonyms: Vec<_> = retention
            .synonyms
            .iter()
            .map(|entry| (entry.name, entry.value, entry.source))
            .collect();
        assert_eq!(
            synonyms,
            [
                ("log.retention.hours", Some("1"), 4),
                ("log.retention.hours", Some("168"), 5)
            ]
        );
    }

    #[tokio::test]
    async fn a_broker_lists_its_keys_read_only() {
        let broker = controller(&[("num.partitions", "4")]).await;
        let image = broker.controller.image();
        let entries = describe(&image, &broker.config, &resource(BROKER, "1", &[])).unwrap();
        assert!(entries.len() > 100 && entries.len() <= keys::KEYS.len());
        assert!(entries.iter().all(|entry| entry.read_only));
        let find = |name| entries.iter().find(|entry| entry.name == name).unwrap();
        assert_eq!(
            (find("num.partitions").value.as_deref(), find("num.partitions").source),
            (Some("4"), Source::StaticBroker)
        );
        assert_eq!(
            (
                find("log.retention.ms").value.as_deref(),
                find("log.retention.ms").source
            ),
            (None, Source::Default)
        );
        assert_eq!(describe(&image, &broker.config, &resource(BROKER, "", &[])), Ok(vec![]));
    }

    #[tokio::test]
    async fn only_the_keys_named_are_answered_and_what_is_not_there_is_an_error() {
        let broker = controller(&[]).await;
        create(&broker, "t").await;
        let image = broker.controller.image();
        let entries = describe(
            &image,
            &broker.config,
            &resource(TOPIC, "t", &["segment.ms", "nonsense"]),
        )
        .unwrap();
        assert_eq!(entries.len(), 1);
        let code = |resource| describe(&image, &broker.config, &resource).unwrap_err().code;
        assert_eq!(code(resource(TOPIC, "u", &[])), ErrorCode::UnknownTopicOrPartition);
        assert_eq!(code(resource(TOPIC, "a b", &[])), ErrorCode::InvalidTopicException);
        assert_eq!(code(resource(BROKER, "2", &[])), ErrorCode::InvalidRequest);
        assert_eq!(code(resource(8, "1", &[])), ErrorCode::InvalidRequest);
    }
}
