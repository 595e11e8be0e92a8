//! The keys of consumer groups.
//!
//! In: the settings. Out: a [`GroupConfig`], or nothing without `group.id`. It refuses keys that contradict each other or
//! have no effect beside each other, as the Java client does: a member that believes in a session timeout that nobody
//! heeds is found out too late.

use super::{Settings, mistake};
use crate::error::{Result, nearest};

/// How a group shares its partitions (`group.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum GroupProtocol {
    /// One member computes the assignment (JoinGroup, SyncGroup).
    #[default]
    Classic,
    /// The broker does (KIP-848).
    Consumer,
}

/// What a member of a group needs to know, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupConfig {
    /// `group.id`.
    pub id: String,
    /// `group.instance.id`.
    pub instance_id: Option<String>,
    /// `group.protocol`.
    pub protocol: GroupProtocol,
    /// `group.remote.assignor`; `None` for the broker's choice.
    pub remote_assignor: Option<String>,
    /// `partition.assignment.strategy`: the assignors' names, in order of preference.
    pub assignors: Vec<&'static str>,
    /// `session.timeout.ms`.
    pub session_timeout_ms: u64,
    /// `heartbeat.interval.ms`.
    pub heartbeat_interval_ms: u64,
    /// `max.poll.interval.ms`.
    pub max_poll_interval_ms: u64,
    /// `enable.auto.commit`.
    pub enable_auto_commit: bool,
    /// `auto.commit.interval.ms`.
    pub auto_commit_interval_ms: u64,
    /// `enable.auto.offset.store`.
    pub enable_auto_offset_store: bool,
    /// `exclude.internal.topics`.
    pub exclude_internal_topics: bool,
}

/// Assignors by their names, and Java's names of them.
const ASSIGNORS: [(&str, &str); 4] = [
    ("range", "RangeAssignor"),
    ("roundrobin", "RoundRobinAssignor"),
    ("sticky", "StickyAssignor"),
    ("cooperative-sticky", "CooperativeStickyAssignor"),
];

/// The package of Java's assignors.
const PACKAGE: &str = "org.apache.kafka.clients.consumer.";

/// The names of the assignors there are.
pub(crate) fn assignor_names() -> [&'static str; 4] {
    ASSIGNORS.map(|(name, _)| name)
}

/// The assignors that a value of `partition.assignment.strategy` names, each once.
///
/// # Errors
/// An unknown one, or none.
pub(super) fn assignors(value: &str) -> Result<Vec<&'static str>> {
    let mut found = Vec::new();
    for entry in value.split(',').map(str::trim).filter(|entry| !entry.is_empty()) {
        let class = entry.strip_prefix(PACKAGE);
        let known = ASSIGNORS.iter().find(|(name, class_name)| match class {
            Some(class) => class == *class_name,
            None => name.eq_ignore_ascii_case(entry) || *class_name == entry,
        });
        let Some((name, _)) = known else {
            let names = assignor_names();
            let hint = nearest(entry, names).map_or_else(String::new, |name| format!("; did you mean {name}?"));
            return Err(mistake(format!(
                "partition.assignment.strategy names {entry:?}; known are {}{hint}",
                names.join(", ")
            )));
        };
        if !found.contains(name) {
            found.push(*name);
        }
    }
    if found.is_empty() {
        return Err(mistake(
            "partition.assignment.strategy is empty; name at least one assignor",
        ));
    }
    Ok(found)
}

impl GroupConfig {
    /// # Errors
    /// Keys that contradict each other.
    pub(super) fn new(settings: &Settings) -> Result<Option<GroupConfig>> {
        let given = |key: &str| Some(settings.text(key).to_owned()).filter(|text| !text.is_empty());
        let Some(id) = given("group.id") else {
            return without_group(settings).map(|()| None);
        };
        let protocol = match settings.choice("group.protocol").as_str() {
            "consumer" => GroupProtocol::Consumer,
            _ => GroupProtocol::Classic,
        };
        check_protocol(settings, protocol)?;
        let config = GroupConfig {
            id,
            instance_id: given("group.instance.id"),
            protocol,
            remote_assignor: given("group.remote.assignor"),
            assignors: assignors(settings.text("partition.assignment.strategy"))?,
            session_timeout_ms: settings.millis("session.timeout.ms"),
            heartbeat_interval_ms: settings.millis("heartbeat.interval.ms"),
            max_poll_interval_ms: settings.millis("max.poll.interval.ms"),
            enable_auto_commit: settings.yes("enable.auto.commit"),
            auto_commit_interval_ms: settings.millis("auto.commit.interval.ms"),
            enable_auto_offset_store: settings.yes("enable.auto.offset.store"),
            exclude_internal_topics: settings.yes("exclude.internal.topics"),
        };
        if protocol == GroupProtocol::Classic && config.heartbeat_interval_ms >= config.session_timeout_ms {
            return Err(mistake(format!(
                "heartbeat.interval.ms ({}) must be below session.timeout.ms ({}), at best a third of it",
                config.heartbeat_interval_ms, config.session_timeout_ms
            )));
        }
        Ok(Some(config))
    }
}

/// Without a group nothing can be committed.
fn without_group(settings: &Settings) -> Result<()> {
    if settings.is_set("enable.auto.commit") && settings.yes("enable.auto.commit") {
        return Err(mistake(
            "enable.auto.commit=true needs group.id: offsets are committed under the group's name",
        ));
    }
    if settings.is_set("group.instance.id") && !settings.text("group.instance.id").is_empty() {
        return Err(mistake(
            "group.instance.id needs group.id: it names a member of a group",
        ));
    }
    Ok(())
}

/// Each protocol has keys that the other has no use for.
fn check_protocol(settings: &Settings, protocol: GroupProtocol) -> Result<()> {
    let (without_effect, name, why): (&[&str], _, _) = match protocol {
        GroupProtocol::Classic => (
            &["group.remote.assignor"],
            "classic",
            "a member computes the assignment; use partition.assignment.strategy",
        ),
        GroupProtocol::Consumer => (
            &[
                "session.timeout.ms",
                "heartbeat.interval.ms",
                "partition.assignment.strategy",
            ],
            "consumer",
            "the broker decides it: group.consumer.session.timeout.ms and group.consumer.heartbeat.interval.ms are set \
             there, and group.remote.assignor chooses its assignor",
        ),
    };
    match without_effect.iter().find(|key| settings.is_set(key)) {
        Some(key) => Err(mistake(format!(
            "{key} cannot be set with group.protocol={name}: {why}"
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::ClientKind;
    use super::*;

    fn group(pairs: &[(&str, &str)]) -> Result<Option<GroupConfig>> {
        let mut settings = Settings::new(ClientKind::Consumer);
        settings.set("bootstrap.servers", "localhost:9092");
        for (key, value) in pairs {
            settings.set(key, value);
        }
        Ok(settings.consumer()?.group)
    }

    #[test]
    fn the_defaults_are_javas() {
        let config = group(&[("group.id", "maps")]).unwrap().unwrap();
        assert_eq!(config.assignors, ["range", "cooperative-sticky"]);
        assert_eq!(
            (
                config.session_timeout_ms,
                config.heartbeat_interval_ms,
                config.max_poll_interval_ms
            ),
            (45_000, 3_000, 300_000)
        );
        assert_eq!(
            (config.enable_auto_commit, config.auto_commit_interval_ms),
            (true, 5_000)
        );
        assert_eq!(
            (config.protocol, config.exclude_internal_topics),
            (GroupProtocol::Classic, true)
        );
        assert!(group(&[]).unwrap().is_none());
    }

    #[test]
    fn assignors_are_known_by_their_names_and_by_javas() {
        for (text, names) in [
            ("sticky", vec!["sticky"]),
            (" RANGE , roundrobin,range", vec!["range", "roundrobin"]),
            (
                "org.apache.kafka.clients.consumer.CooperativeStickyAssignor",
                vec!["cooperative-sticky"],
            ),
            ("StickyAssignor,RoundRobinAssignor", vec!["sticky", "roundrobin"]),
        ] {
            assert_eq!(assignors(text).unwrap(), names, "{text}");
        }
        let error = assignors("cooperative_sticky").unwrap_err().to_string();
        assert!(error.contains("did you mean cooperative-sticky"), "{error}");
        assert!(assignors(" , ").is_err() && assignors("org.example.MyAssignor").is_err());
    }

    #[test]
    fn keys_that_contradict_each_other_are_refused_by_name() {
        let named = [("group.id", "maps")];
        let modern = [("group.id", "maps"), ("group.protocol", "consumer")];
        for (base, key, value, also) in [
            (&modern[..], "session.timeout.ms", "10000", "group.protocol=consumer"),
            (&modern[..], "heartbeat.interval.ms", "1000", "group.protocol=consumer"),
            (
                &modern[..],
                "partition.assignment.strategy",
                "range",
                "group.remote.assignor",
            ),
            (
                &named[..],
                "group.remote.assignor",
                "uniform",
                "partition.assignment.strategy",
            ),
            (&named[..], "heartbeat.interval.ms", "45000", "session.timeout.ms"),
            (&[][..], "enable.auto.commit", "true", "group.id"),
            (&[][..], "group.instance.id", "one", "group.id"),
        ] {
            let mut pairs = base.to_vec();
            pairs.push((key, value));
            let error = group(&pairs).unwrap_err().to_string();
            assert!(error.contains(key) && error.contains(also), "{error}");
        }
    }
}
