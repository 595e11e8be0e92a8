//! Topics by a pattern that this client evaluates, for groups whose coordinator does not.
//!
//! In: the pattern and the names of all topics. Out: those that match. As in Java the whole name must match, and Kafka's
//! own topics are left out with `exclude.internal.topics`.

use std::collections::BTreeSet;
use std::sync::Arc;

use ottla_client_state::Time;
use ottla_client_state::metadata::ClusterSnapshot;
use regex::Regex;

use crate::error::{Error, ErrorKind, Result};

/// A pattern, and the topics that match it as of the last look.
#[derive(Debug)]
pub(super) struct TopicPattern {
    text: Arc<str>,
    regex: Regex,
    exclude_internal: bool,
    matched: BTreeSet<Arc<str>>,
    looked_for: bool,
    /// When to look for topics next.
    pub look_at: Time,
}

impl TopicPattern {
    /// # Errors
    /// The pattern is no regular expression of the crate `regex`, or would need too much memory.
    pub fn new(text: &str, exclude_internal: bool) -> Result<Self> {
        let bad = |error: regex::Error| {
            let text = format!("the pattern {text:?} cannot be used: {error}");
            Error::new(ErrorKind::Argument, text).with_source(error)
        };
        // By itself first, so that it cannot reach out of the group around it.
        Regex::new(text).map_err(bad)?;
        let regex = Regex::new(&format!("^(?:{text})$")).map_err(bad)?;
        Ok(TopicPattern {
            text: text.into(),
            regex,
            exclude_internal,
            matched: BTreeSet::new(),
            looked_for: false,
            look_at: Time::ZERO,
        })
    }

    pub fn text(&self) -> &Arc<str> {
        &self.text
    }

    /// The topics that matched.
    pub fn matched(&self) -> &BTreeSet<Arc<str>> {
        &self.matched
    }

    /// Whether the cluster's topics have been looked at.
    pub fn is_looked_for(&self) -> bool {
        self.looked_for
    }

    /// The topics that match now.
    pub fn matches(&self, all: &ClusterSnapshot) -> BTreeSet<Arc<str>> {
        all.topics()
            .filter(|topic| !(self.exclude_internal && topic.internal) && self.regex.is_match(&topic.name))
            .map(|topic| topic.name.clone())
            .collect()
    }

    pub fn set_matched(&mut self, matched: BTreeSet<Arc<str>>) {
        self.matched = matched;
        self.looked_for = true;
    }
}

#[cfg(test)]
mod tests {
    use ottla_client_state::metadata::Scope;
    use ottla_protocol::messages::MetadataResponse;
    use ottla_protocol::messages::metadata_response::{MetadataResponsePartition, MetadataResponseTopic};

    use super::*;

    fn cluster(names: &'static [&'static str]) -> ClusterSnapshot {
        let topic = |name: &&'static str| MetadataResponseTopic {
            name: Some(name),
            is_internal: name.starts_with("__"),
            partitions: vec![MetadataResponsePartition::default()],
            ..Default::default()
        };
        let response = MetadataResponse {
            topics: names.iter().map(topic).collect(),
            ..Default::default()
        };
        ClusterSnapshot::default().merged(&response, Scope::All)
    }

    fn matches(pattern: &str, exclude: bool) -> Vec<String> {
        let all = cluster(&["gps", "gps-raw", "my-gps", "orders", "__consumer_offsets"]);
        let pattern = TopicPattern::new(pattern, exclude).unwrap();
        pattern.matches(&all).iter().map(|name| name.to_string()).collect()
    }

    #[test]
    fn the_whole_name_must_match() {
        assert_eq!(matches("gps", true), ["gps"]);
        assert_eq!(matches("gps.*", true), ["gps", "gps-raw"]);
        assert_eq!(
            matches("gps|orders", true),
            ["gps", "orders"],
            "both ends hold for each side"
        );
    }

    #[test]
    fn internal_topics_are_left_out_unless_they_are_asked_for() {
        assert!(!matches(".*", true).contains(&"__consumer_offsets".to_owned()));
        assert!(matches(".*", false).contains(&"__consumer_offsets".to_owned()));
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_reason() {
        for bad in ["gps(", "a)|(b", "[z-a]"] {
            let error = TopicPattern::new(bad, true).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Argument);
            assert!(error.to_string().contains(bad), "{error}");
        }
    }
}
